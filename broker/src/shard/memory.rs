//! The byte budget of requests that a core serves at once.
//!
//! Does: count bytes of requests from their arrival to their answer; say when to stop reading.
//! Does not: refuse anything: back-pressure only (Kafka's `queued.max.request.bytes`, G25).
//! Invariants: never negative; one request is always admitted, however large the budget is.
//! Apart because the readers of sockets and the shard share this one number.

use std::cell::Cell;

/// Bytes of open requests on this core.
pub struct RequestMemory {
    budget: usize,
    used: Cell<usize>,
    /// Whether a reader paused since the pump last looked.
    paused: Cell<bool>,
}

impl RequestMemory {
    /// An empty budget of so many bytes.
    pub fn new(budget: usize) -> Self {
        Self { budget, used: Cell::new(0), paused: Cell::new(false) }
    }

    /// Whether readers may go on.
    pub fn has_room(&self) -> bool {
        self.used.get() < self.budget
    }

    /// Counts an arrived request.
    pub fn charge(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    /// Forgets an answered request.
    ///
    /// # Panics
    /// When more is released than was charged.
    pub fn release(&self, bytes: usize) {
        self.used.set(self.used.get().checked_sub(bytes).expect("released what was charged"));
    }

    /// The limit.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Remembers that a reader waits for room.
    pub fn note_paused(&self) {
        self.paused.set(true);
    }

    /// Whether readers wait and there is room for them now; asked once per turn.
    pub fn take_resumable(&self) -> bool {
        self.has_room() && self.paused.replace(false)
    }
}

//! The byte budget of requests that a core serves at once.
//!
//! Does: count bytes of requests from their first byte to their answer; say when to stop reading.
//! Does not: refuse anything: back-pressure only (Kafka's `queued.max.request.bytes`, G25).
//! Invariants: never negative; either sum exceeds the budget by one large request and small ones
//! of every connection at most; whatever fills the budget, small requests are read.
//! Apart because the readers of sockets and the shard share this one number.

use std::cell::Cell;

use super::input::ConnectionId;

/// Bytes of requests on this core. Two sums, so that requests which never become whole cannot keep
/// whole ones out.
pub struct RequestMemory {
    /// The limit of either sum.
    budget: usize,
    /// Requests being served.
    used: Cell<usize>,
    /// What was received of requests that are not whole yet.
    arriving: Cell<usize>,
    /// Whether a reader paused since the pump last looked.
    paused: Cell<bool>,
    /// The connection whose request may go on arriving although there is no room.
    overdraft: Cell<Option<ConnectionId>>,
}

impl RequestMemory {
    /// An empty budget of so many bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            used: Cell::new(0),
            arriving: Cell::new(0),
            paused: Cell::new(false),
            overdraft: Cell::new(None),
        }
    }

    /// Whether further requests may be served.
    pub fn has_room(&self) -> bool {
        self.used.get() < self.budget
    }

    /// Whether large requests may go on arriving.
    pub fn has_arrival_room(&self) -> bool {
        self.arriving.get() < self.budget
    }

    /// Counts received bytes.
    pub fn receive(&self, bytes: usize) {
        self.arriving.set(self.arriving.get() + bytes);
    }

    /// Forgets received bytes: they became a whole request, or their connection ended.
    ///
    /// # Panics
    /// When more are forgotten than were received.
    pub fn unreceive(&self, bytes: usize) {
        let left = self.arriving.get().checked_sub(bytes).expect("forgets what was received");
        self.arriving.set(left);
    }

    /// Counts a whole request.
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
        self.used.get() + self.arriving.get()
    }

    /// Remembers that a reader waits for room.
    pub fn note_paused(&self) {
        self.paused.set(true);
    }

    /// Whether readers wait and one of them may go on now; asked once per turn.
    pub fn take_resumable(&self) -> bool {
        let may_arrive = self.has_arrival_room() || self.overdraft.get().is_none();
        self.has_room() && may_arrive && self.paused.replace(false)
    }

    /// Whether the request of this connection may go on arriving although there is no room: one
    /// may, since a budget full of half requests would never empty otherwise.
    pub fn may_overdraw(&self, connection: ConnectionId) -> bool {
        if self.overdraft.get().is_none() {
            self.overdraft.set(Some(connection));
        }
        self.overdraft.get() == Some(connection)
    }

    /// The request of this connection is whole, or will never be.
    pub fn give_overdraft_back(&self, connection: ConnectionId) {
        if self.overdraft.get() == Some(connection) {
            self.overdraft.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_requests_do_not_keep_whole_ones_out() {
        let memory = RequestMemory::new(10);
        memory.receive(12);
        assert!(!memory.has_arrival_room() && memory.has_room());
    }

    #[test]
    fn one_half_request_at_a_time_goes_on_without_room() {
        let memory = RequestMemory::new(10);
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        memory.receive(12);
        memory.note_paused();
        assert!(memory.may_overdraw(one) && !memory.may_overdraw(other));
        assert!(!memory.take_resumable(), "it would only find the same");
        memory.give_overdraft_back(other);
        assert!(!memory.may_overdraw(other));
        memory.give_overdraft_back(one);
        assert!(memory.take_resumable() && memory.may_overdraw(other));
    }
}

//! The byte budget of requests that a core serves at once, and of their answers.
//!
//! Does: count bytes of requests from their first byte to their answer, and of answers until they
//! are written; say when to stop reading, which fetch comes next, and how much it may gather.
//! Does not: refuse anything: back-pressure only (Kafka's `queued.max.request.bytes`, G25).
//! Invariants: never negative; either sum of requests exceeds the budget by one large request and
//! small ones of every connection at most, that of answers by what is no fetch and by first batches
//! beyond what is set aside for a fetch; whatever fills the budget, small requests are read.
//! Apart because the readers of sockets and the shard share these numbers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::input::ConnectionId;
use crate::limits::{FETCH_ANSWER_BYTES_MIN, FETCH_ANSWER_SHARE};

/// Bytes of requests and answers on this core. Two sums for requests, so that those which never
/// become whole cannot keep whole ones out; a third for answers, so that clients which never read
/// keep nobody from writing.
pub struct RequestMemory {
    /// The limit of each sum.
    budget: usize,
    /// Requests being served.
    used: Cell<usize>,
    /// What was received of requests that are not whole yet.
    arriving: Cell<usize>,
    /// Whether a reader paused since the pump last looked.
    paused: Cell<bool>,
    /// The connection whose request may go on arriving although there is no room.
    overdraft: Cell<Option<ConnectionId>>,
    /// Answers that are not written yet, and what is set aside for those being gathered.
    answers: Cell<usize>,
    /// Connections with a fetch that waits for room, first come, first served.
    fetches: RefCell<VecDeque<ConnectionId>>,
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
            answers: Cell::new(0),
            fetches: RefCell::default(),
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

    /// Bytes of requests in use.
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

    /// Bytes of answers in use.
    pub fn answers(&self) -> usize {
        self.answers.get()
    }

    /// Whether one more fetch may be served.
    pub fn has_answer_room(&self) -> bool {
        self.answers.get() < self.budget
    }

    /// An answer, or what is set aside for it, has so many bytes now instead of `before`.
    ///
    /// # Panics
    /// When fewer than `before` are counted.
    pub fn recount_answer(&self, before: usize, now: usize) {
        let others = self.answers.get().checked_sub(before).expect("forgets what was counted");
        self.answers.set(others + now);
    }

    /// Sets [`FETCH_ANSWER_BYTES_MIN`] aside for a fetch, if there is room and nobody waits for it
    /// already; otherwise the connection waits, too.
    pub fn admit_fetch(&self, connection: ConnectionId) -> bool {
        let mut waiting = self.fetches.borrow_mut();
        let admitted = waiting.is_empty() && self.has_answer_room();
        if admitted {
            self.recount_answer(0, FETCH_ANSWER_BYTES_MIN);
        } else if !waiting.contains(&connection) {
            waiting.push_back(connection);
        }
        admitted
    }

    /// The connection that has waited longest for room, once there is some, which is set aside for
    /// it.
    pub fn next_fetch(&self) -> Option<ConnectionId> {
        if !self.has_answer_room() {
            return None;
        }
        let next = self.fetches.borrow_mut().pop_front()?;
        self.recount_answer(0, FETCH_ANSWER_BYTES_MIN);
        Some(next)
    }

    /// How many fetches wait for room.
    pub fn fetches_waiting(&self) -> usize {
        self.fetches.borrow().len()
    }

    /// A connection ended and waits for nothing.
    pub fn forget_fetch(&self, connection: ConnectionId) {
        self.fetches.borrow_mut().retain(|waiting| *waiting != connection);
    }

    /// How large the answer to a fetch may be: the fuller the budget, the less, so that a few
    /// clients which do not read leave room for the others.
    pub fn answer_bytes_max(&self) -> usize {
        let free = self.budget.saturating_sub(self.answers.get());
        (free / FETCH_ANSWER_SHARE).max(FETCH_ANSWER_BYTES_MIN)
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

    #[test]
    fn fetches_without_room_come_first_come_first_served() {
        let budget = 2 * FETCH_ANSWER_BYTES_MIN;
        let memory = RequestMemory::new(budget);
        let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(ConnectionId);
        assert!(memory.admit_fetch(a) && memory.admit_fetch(b), "there is room for two");
        assert!(!memory.admit_fetch(c) && !memory.admit_fetch(d) && !memory.admit_fetch(d));
        assert_eq!(memory.next_fetch(), None);
        // The first turns out small, and is written.
        memory.recount_answer(FETCH_ANSWER_BYTES_MIN, 10);
        assert!(!memory.admit_fetch(e), "nobody overtakes");
        memory.recount_answer(10, 0);
        memory.forget_fetch(c);
        assert_eq!(memory.next_fetch(), Some(d));
        assert_eq!(memory.next_fetch(), None, "there was room for one");
        memory.recount_answer(budget, 0);
        assert_eq!((memory.next_fetch(), memory.next_fetch()), (Some(e), None));
        assert_eq!(memory.answers(), FETCH_ANSWER_BYTES_MIN);
    }

    #[test]
    fn answers_shrink_while_the_budget_fills() {
        let memory = RequestMemory::new(64 * FETCH_ANSWER_BYTES_MIN);
        let mut count = 0;
        while memory.has_answer_room() {
            let most = memory.answer_bytes_max();
            assert!((FETCH_ANSWER_BYTES_MIN..=16 * FETCH_ANSWER_BYTES_MIN).contains(&most));
            memory.recount_answer(0, most);
            count += 1;
        }
        assert!(count >= 14, "{count} clients with large answers fill it");
    }
}

//! The byte budget of requests that a core serves at once, and of their answers.
//!
//! Does: count bytes of requests from their first byte to their answer, and of answers until they
//! are written; say when to stop reading, which request for a large answer comes next, and how much a
//! fetch may gather.
//! Does not: refuse anything: back-pressure only (Kafka's `queued.max.request.bytes`, G25).
//! Invariants: never negative; either sum of requests exceeds the budget by one large request and
//! small ones of every connection at most; that of answers by the share of known clients, by first
//! batches and listings beyond what is set aside for them, and by answers no larger than their requests.
//! Whatever fills the budget, small requests are read.
//! Apart because the readers of sockets and the shard share these numbers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::input::ConnectionId;
use crate::limits::{
    ARRIVAL_RESERVE_SHARE, FETCH_ANSWER_BYTES_MIN, FETCH_ANSWER_SHARE, FETCH_RESERVE_SHARE,
    KNOWN_ANSWERS_SHARE, LISTINGS_BESIDE_FETCHES, LISTINGS_SHARE,
};
use crate::net::alone::Appetite;

/// Bytes of requests and answers on this core. Two sums for requests, so that those which never
/// become whole cannot keep whole ones out; a third for answers, so that clients which never read
/// keep nobody from writing.
pub struct RequestMemory {
    /// The limit of each sum.
    budget: usize,
    /// Requests being served.
    used: Cell<usize>,
    /// What is held, or set aside, for requests that are not whole yet or not served yet.
    arriving: Cell<usize>,
    /// Whether a reader paused since the pump last looked: a known one, another one.
    known_paused: Cell<bool>,
    other_paused: Cell<bool>,
    /// The connection whose request may go on arriving although there is no room.
    overdraft: Cell<Option<ConnectionId>>,
    /// Answers that are not written yet, and what is set aside for those being gathered.
    answers: Cell<usize>,
    /// Connections with a fetch that waits for room.
    fetches: Waiting,
    /// The same for listings.
    listings: Waiting,
    /// Listings that are being made.
    listings_in_flight: Cell<usize>,
}

/// Connections that wait for room, by their standing; within it, first come, first served.
#[derive(Default)]
struct Waiting([RefCell<VecDeque<ConnectionId>>; 3]);

/// What is known of a connection that asks for a large answer: who may be one of a crowd, or does not
/// read, waits for others of its kind, and not they for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is known, and what it was given lately is little.
    Known,
    /// It came lately: it may be one of a crowd. What it was given is little.
    New,
    /// It was given much.
    Much,
}

/// Room that is set aside for a large answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRoom {
    /// What the answer is made of.
    pub appetite: Appetite,
    /// How much it is. Invariant: counted with the answers.
    pub bytes: usize,
}

impl RequestMemory {
    /// An empty budget of so many bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            used: Cell::new(0),
            arriving: Cell::new(0),
            known_paused: Cell::new(false),
            other_paused: Cell::new(false),
            overdraft: Cell::new(None),
            answers: Cell::new(0),
            fetches: Waiting::default(),
            listings: Waiting::default(),
            listings_in_flight: Cell::new(0),
        }
    }

    /// Whether further requests may be served.
    pub fn has_room(&self) -> bool {
        self.used.get() < self.budget
    }

    /// Whether large requests may go on arriving, from known clients or from others.
    pub fn has_arrival_room(&self, is_known: bool) -> bool {
        let reserve = if is_known { 0 } else { self.budget / ARRIVAL_RESERVE_SHARE };
        self.arriving.get() < self.budget - reserve
    }

    /// What a connection holds, or has set aside, for requests that are not served yet has so many bytes
    /// now instead of `before`.
    ///
    /// # Panics
    /// When fewer than `before` are counted.
    pub fn recount_arriving(&self, before: usize, now: usize) {
        let others = self.arriving.get().checked_sub(before).expect("forgets what was counted");
        self.arriving.set(others + now);
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
    pub fn note_paused(&self, is_known: bool) {
        self.paused_of(is_known).set(true);
    }

    /// Whether readers wait, known ones or others, and one of them may go on now; asked once per turn.
    pub fn take_resumable(&self, is_known: bool) -> bool {
        let may_arrive = self.has_arrival_room(is_known) || self.overdraft.get().is_none();
        self.has_room() && may_arrive && self.paused_of(is_known).replace(false)
    }

    fn paused_of(&self, is_known: bool) -> &Cell<bool> {
        if is_known { &self.known_paused } else { &self.other_paused }
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

    /// Whether whoever has answers to be written may be served one more request.
    pub fn has_answer_room(&self) -> bool {
        self.has_room_for(Appetite::Fetch, Standing::Much)
    }

    /// Listings have a share beyond the budget: consumers that do not read must not keep everybody
    /// from finding the leaders. Only a few at a time while fetches wait that go first, which a stream
    /// of them would otherwise leave no room. Known clients have a larger share: all others may fill
    /// theirs and never read.
    fn has_room_for(&self, appetite: Appetite, standing: Standing) -> bool {
        let used = self.answers.get();
        let most = match (appetite, standing) {
            (Appetite::Fetch, Standing::Much) => self.budget - self.budget / FETCH_RESERVE_SHARE,
            (Appetite::Fetch, Standing::New) => self.budget,
            (Appetite::Listing, Standing::New | Standing::Much) => {
                self.budget + self.budget / LISTINGS_SHARE
            }
            (_, Standing::Known) => self.budget + self.budget / KNOWN_ANSWERS_SHARE,
        };
        used < most && (appetite == Appetite::Fetch || self.is_calm(standing))
    }

    /// Whether a listing of such a connection is in no fetch's way.
    fn is_calm(&self, standing: Standing) -> bool {
        let waiting = match standing {
            Standing::Known => self.fetches.of(Standing::Known).borrow().len(),
            Standing::New | Standing::Much => self.fetches.count(),
        };
        waiting == 0 || self.listings_in_flight.get() < LISTINGS_BESIDE_FETCHES
    }

    /// An answer, or what is set aside for it, has so many bytes now instead of `before`.
    ///
    /// # Panics
    /// When fewer than `before` are counted.
    pub fn recount_answer(&self, before: usize, now: usize) {
        let others = self.answers.get().checked_sub(before).expect("forgets what was counted");
        self.answers.set(others + now);
    }

    /// Sets room aside for a large answer, if there is some and nobody waits for it already; otherwise
    /// the connection waits, too.
    pub fn admit(
        &self,
        connection: ConnectionId,
        appetite: Appetite,
        standing: Standing,
    ) -> Option<AnswerRoom> {
        if self.waiting(appetite).of(standing).borrow().is_empty()
            && self.has_room_for(appetite, standing)
        {
            return Some(self.set_aside(appetite));
        }
        self.waiting(appetite).join(standing, connection);
        None
    }

    /// The connection that has waited longest for room, once there is some, and what is set aside for
    /// it. Known ones go before all others; fetches before listings, which may take more than they.
    pub fn next_admitted(&self) -> Option<(ConnectionId, AnswerRoom)> {
        const ORDER: [(Appetite, Standing); 6] = [
            (Appetite::Fetch, Standing::Known),
            (Appetite::Listing, Standing::Known),
            (Appetite::Fetch, Standing::New),
            (Appetite::Fetch, Standing::Much),
            (Appetite::Listing, Standing::New),
            (Appetite::Listing, Standing::Much),
        ];
        ORDER.into_iter().find_map(|(appetite, standing)| {
            if !self.has_room_for(appetite, standing) {
                return None;
            }
            let next = self.waiting(appetite).of(standing).borrow_mut().pop_front()?;
            Some((next, self.set_aside(appetite)))
        })
    }

    /// A fetch gathers by what is set aside. How long a listing gets is known when it is made; until
    /// then it may be as large as a fetch, so that only a few of unknown length are made at once.
    fn set_aside(&self, appetite: Appetite) -> AnswerRoom {
        let bytes = match appetite {
            Appetite::Fetch => FETCH_ANSWER_BYTES_MIN,
            Appetite::Listing => {
                self.listings_in_flight.set(self.listings_in_flight.get() + 1);
                self.answer_bytes_max()
            }
        };
        self.recount_answer(0, bytes);
        AnswerRoom { appetite, bytes }
    }

    /// What was set aside is not used: its connection ended.
    pub fn give_room_back(&self, room: AnswerRoom) {
        self.recount_answer(room.bytes, 0);
        if room.appetite == Appetite::Listing {
            self.end_listing();
        }
    }

    fn waiting(&self, appetite: Appetite) -> &Waiting {
        match appetite {
            Appetite::Fetch => &self.fetches,
            Appetite::Listing => &self.listings,
        }
    }

    /// A listing that was admitted is made, or its connection ended.
    ///
    /// # Panics
    /// When none is being made.
    pub fn end_listing(&self) {
        let left = self.listings_in_flight.get().checked_sub(1).expect("ends what was admitted");
        self.listings_in_flight.set(left);
    }

    /// How many requests wait for room for their answers.
    pub fn waiting_count(&self) -> usize {
        self.fetches.count() + self.listings.count()
    }

    /// A connection ended and waits for nothing.
    pub fn forget_waiting(&self, connection: ConnectionId) {
        self.fetches.forget(connection);
        self.listings.forget(connection);
    }

    /// How large the answer to a fetch may be: the fuller the budget, the less, so that a few
    /// clients which do not read leave room for the others.
    pub fn answer_bytes_max(&self) -> usize {
        let free = self.budget.saturating_sub(self.answers.get());
        (free / FETCH_ANSWER_SHARE).max(FETCH_ANSWER_BYTES_MIN)
    }
}

impl Waiting {
    fn of(&self, standing: Standing) -> &RefCell<VecDeque<ConnectionId>> {
        &self.0[standing as usize]
    }

    fn count(&self) -> usize {
        self.0.iter().map(|waiting| waiting.borrow().len()).sum()
    }

    /// Lets a connection wait where it does not wait yet, whatever it is known for by now.
    fn join(&self, standing: Standing, connection: ConnectionId) {
        if !self.0.iter().any(|waiting| waiting.borrow().contains(&connection)) {
            self.of(standing).borrow_mut().push_back(connection);
        }
    }

    fn forget(&self, connection: ConnectionId) {
        for waiting in &self.0 {
            waiting.borrow_mut().retain(|waiting| *waiting != connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_requests_do_not_keep_whole_ones_out() {
        let memory = RequestMemory::new(10);
        memory.recount_arriving(0, 12);
        assert!(!memory.has_arrival_room(true) && memory.has_room());
    }

    #[test]
    fn half_requests_of_others_leave_room_to_known_clients() {
        let memory = RequestMemory::new(4 * ARRIVAL_RESERVE_SHARE);
        while memory.has_arrival_room(false) {
            memory.recount_arriving(0, 1);
        }
        assert!(memory.has_arrival_room(true));
        assert!(memory.may_overdraw(ConnectionId(1)), "one of the others");
        memory.note_paused(false);
        memory.note_paused(true);
        assert!(!memory.take_resumable(false) && memory.take_resumable(true));
        memory.recount_arriving(0, 4);
        assert!(!memory.has_arrival_room(true));
    }

    #[test]
    fn one_half_request_at_a_time_goes_on_without_room() {
        let memory = RequestMemory::new(10);
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        memory.recount_arriving(0, 12);
        memory.note_paused(true);
        assert!(memory.may_overdraw(one) && !memory.may_overdraw(other));
        assert!(!memory.take_resumable(true), "it would only find the same");
        memory.give_overdraft_back(other);
        assert!(!memory.may_overdraw(other));
        memory.give_overdraft_back(one);
        assert!(memory.take_resumable(true) && memory.may_overdraw(other));
    }

    #[test]
    fn fetches_without_room_come_first_come_first_served() {
        let budget = 2 * FETCH_ANSWER_BYTES_MIN;
        let memory = RequestMemory::new(budget);
        let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(ConnectionId);
        let admit = |id| memory.admit(id, Appetite::Fetch, Standing::New).is_some();
        let next = || memory.next_admitted().map(|(id, _)| id);
        assert!(admit(a) && admit(b), "there is room for two");
        assert!(!admit(c) && !admit(d) && !admit(d));
        assert_eq!(next(), None);
        // The first turns out small, and is written.
        memory.recount_answer(FETCH_ANSWER_BYTES_MIN, 10);
        assert!(!admit(e), "nobody overtakes");
        memory.recount_answer(10, 0);
        memory.forget_waiting(c);
        assert_eq!(next(), Some(d));
        assert_eq!(next(), None, "there was room for one");
        memory.recount_answer(budget, 0);
        assert_eq!((next(), next()), (Some(e), None));
        assert_eq!(memory.answers(), FETCH_ANSWER_BYTES_MIN);
    }

    #[test]
    fn who_used_much_waits_for_those_that_do_not_read_and_others_hardly() {
        let memory = RequestMemory::new(8 * FETCH_ANSWER_BYTES_MIN);
        let id = ConnectionId;
        let admit = |n, standing| memory.admit(id(n), Appetite::Fetch, standing).is_some();
        let taken = (0..).take_while(|n| admit(*n, Standing::Much)).count();
        assert_eq!(taken, 6, "a quarter is left");
        assert!(admit(100, Standing::New) && admit(101, Standing::New));
        assert!(!admit(102, Standing::New), "full");
        assert_eq!((memory.waiting_count(), memory.next_admitted()), (2, None));
        memory.recount_answer(FETCH_ANSWER_BYTES_MIN, 0);
        let next = || memory.next_admitted().map(|(id, _)| id);
        assert_eq!((next(), next()), (Some(id(102)), None), "although it came last");
        memory.recount_answer(3 * FETCH_ANSWER_BYTES_MIN, 0);
        assert_eq!((next(), next()), (Some(id(6)), None));
    }

    #[test]
    fn known_clients_have_room_left_and_their_turn_first_whatever_others_fill() {
        let memory = RequestMemory::new(16 * FETCH_ANSWER_BYTES_MIN);
        let ids = Cell::new(0);
        let admit = |appetite, standing| {
            ids.set(ids.get() + 1);
            memory.admit(ConnectionId(ids.get()), appetite, standing).is_some()
        };
        // A crowd that fetches, then one that lists, neither of which reads.
        while admit(Appetite::Fetch, Standing::New) {}
        while memory.has_room_for(Appetite::Listing, Standing::New) {
            assert!(admit(Appetite::Listing, Standing::New));
            memory.end_listing();
        }
        assert!(!admit(Appetite::Listing, Standing::Much));
        for appetite in [Appetite::Fetch, Appetite::Listing] {
            assert!(admit(appetite, Standing::Known), "{appetite:?}");
        }
        while admit(Appetite::Fetch, Standing::Known) {}
        let last = ConnectionId(ids.get());
        memory.recount_answer(16 * FETCH_ANSWER_BYTES_MIN, 0);
        let first = memory.next_admitted().expect("there is room for all");
        assert_eq!((first.0, first.1.appetite), (last, Appetite::Fetch), "although it came last");
    }

    #[test]
    fn listings_have_room_where_fetches_have_none_left() {
        let budget = 64 * FETCH_ANSWER_BYTES_MIN;
        let memory = RequestMemory::new(budget);
        let id = |number: usize| ConnectionId(number as u64);
        memory.recount_answer(0, budget);
        let listings =
            (1..).take_while(|n| memory.admit(id(*n), Appetite::Listing, Standing::New).is_some());
        assert_eq!(listings.count(), 64 / LISTINGS_SHARE, "each has a fetch's least");
        assert_eq!((memory.waiting_count(), memory.next_admitted()), (1, None));
    }

    #[test]
    fn neither_listings_nor_fetches_keep_the_others_waiting_for_ever() {
        let memory = RequestMemory::new(8 * FETCH_ANSWER_BYTES_MIN);
        let id = ConnectionId;
        let admit_listing =
            |n| memory.admit(id(n), Appetite::Listing, Standing::New).map(|room| room.bytes);
        let mut in_flight: VecDeque<usize> = (0..).map_while(admit_listing).collect();
        assert_eq!(memory.admit(id(100), Appetite::Fetch, Standing::New), None);
        // As listings are made and written, more come: until the fetch has room.
        let fetch = loop {
            let made = in_flight.pop_front().expect("some are always being made");
            memory.recount_answer(made, 0);
            memory.end_listing();
            if let Some((next, room)) = memory.next_admitted() {
                break (next, room.appetite);
            }
            in_flight.extend(admit_listing(7));
        };
        assert_eq!(fetch, (id(100), Appetite::Fetch));
        // The same with fetches that are not read: listings go on, a few at a time.
        memory.recount_answer(0, memory.budget().saturating_sub(memory.answers()));
        assert_eq!(memory.admit(id(101), Appetite::Fetch, Standing::New), None);
        (0..100).for_each(|n| memory.forget_waiting(id(n)));
        while in_flight.len() >= LISTINGS_BESIDE_FETCHES {
            in_flight.pop_front();
            memory.end_listing();
        }
        assert!(admit_listing(8).is_some());
    }

    #[test]
    fn few_listings_of_unknown_length_are_made_at_once() {
        let memory = RequestMemory::new(1024 * FETCH_ANSWER_BYTES_MIN);
        let admitted = (0..1_000).take_while(|n| {
            memory.admit(ConnectionId(*n), Appetite::Listing, Standing::New).is_some()
        });
        assert!(admitted.count() < 300);
        assert!(memory.answers() <= 1300 * FETCH_ANSWER_BYTES_MIN);
    }

    #[test]
    fn answers_shrink_while_the_budget_fills() {
        let memory = RequestMemory::new(64 * FETCH_ANSWER_BYTES_MIN);
        let mut count = 0;
        while memory.has_room_for(Appetite::Fetch, Standing::New) {
            let most = memory.answer_bytes_max();
            assert!((FETCH_ANSWER_BYTES_MIN..=16 * FETCH_ANSWER_BYTES_MIN).contains(&most));
            memory.recount_answer(0, most);
            count += 1;
        }
        assert!(count >= 14, "{count} clients with large answers fill it");
    }
}

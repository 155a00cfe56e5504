//! The byte budget of requests that a core serves at once, and of their answers.
//!
//! Does: count bytes of requests from their first byte to their answer, and of answers until they
//! are written; say when to stop reading, which request for a large answer comes next, and how much a
//! fetch may gather.
//! Does not: refuse anything: back-pressure only (Kafka's `queued.max.request.bytes`, G25).
//! Invariants: never negative; the sum of requests being served exceeds the budget by one request and
//! small ones of every connection at most, that of arriving ones by the share of known clients, by a large
//! request of a known and of another client, and by small ones of every connection; that of answers by the share of known clients, by first
//! batches and listings beyond what is set aside for them, and by answers no larger than their requests.
//! Whatever fills the budget, small requests are read.
//! Apart because the readers of sockets and the shard share these numbers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::input::ConnectionId;
use crate::limits::{
    ARRIVAL_SHARE, FETCH_ANSWER_BYTES_MIN, FETCH_ANSWER_SHARE, FETCH_RESERVE_SHARE,
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
    arriving: ForEach<usize>,
    /// The connection whose request may go on arriving although there is no room.
    overdraft: ForEach<Option<ConnectionId>>,
    /// Answers that are not written yet, and what is set aside for those being gathered.
    answers: Cell<usize>,
    /// Connections with a fetch that waits for room.
    fetches: Waiting,
    /// The same for listings.
    listings: Waiting,
    /// Listings that are being made.
    listings_in_flight: Cell<usize>,
}

/// Something of known clients, and of others.
#[derive(Default)]
struct ForEach<T> {
    known: Cell<T>,
    others: Cell<T>,
}

impl<T> ForEach<T> {
    fn of(&self, is_known: bool) -> &Cell<T> {
        if is_known { &self.known } else { &self.others }
    }
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
            arriving: ForEach::default(),
            overdraft: ForEach::default(),
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

    /// Whether large requests may go on arriving, from known clients or from others: as long as there is
    /// room for any, or they have less than their share.
    pub fn has_arrival_room(&self, is_known: bool) -> bool {
        self.arriving_in_all() < self.budget
            || self.arriving.of(is_known).get() < self.budget / ARRIVAL_SHARE
    }

    fn arriving_in_all(&self) -> usize {
        self.arriving.known.get() + self.arriving.others.get()
    }

    /// What a connection holds, or has set aside, for requests that are not served yet has so many bytes
    /// now instead of `before`.
    ///
    /// # Panics
    /// When fewer than `before` are counted for its kind.
    pub fn recount_arriving(&self, is_known: bool, before: usize, now: usize) {
        let arriving = self.arriving.of(is_known);
        let others = arriving.get().checked_sub(before).expect("forgets what was counted");
        arriving.set(others + now);
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
        self.used.get() + self.arriving_in_all()
    }

    /// Whether one of those may go on that have more to send and no room for it, known ones or others.
    pub fn may_resume(&self, is_known: bool) -> bool {
        let may_overdraw = self.overdraft.of(is_known).get().is_none();
        self.has_room() && (self.has_arrival_room(is_known) || may_overdraw)
    }

    /// Whether the request of this connection may go on arriving although there is no room: one of a
    /// known client may and one of the others, since a budget full of half requests would never empty
    /// otherwise.
    pub fn may_overdraw(&self, connection: ConnectionId, is_known: bool) -> bool {
        let overdraft = self.overdraft.of(is_known);
        if overdraft.get().is_none() {
            overdraft.set(Some(connection));
        }
        overdraft.get() == Some(connection)
    }

    /// The request of this connection needs no room for the moment: it is whole, waits for something
    /// else, or will never be.
    pub fn give_overdraft_back(&self, connection: ConnectionId) {
        for overdraft in [&self.overdraft.known, &self.overdraft.others] {
            if overdraft.get() == Some(connection) {
                overdraft.set(None);
            }
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

    /// Listings have a share beyond the budget: new consumers that do not read must not keep everybody
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
        let first = self.waiting(appetite).of(standing).borrow().front().copied();
        if first.is_none_or(|first| first == connection) && self.has_room_for(appetite, standing) {
            self.forget_waiting(connection);
            return Some(self.set_aside(appetite));
        }
        self.waiting(appetite).join(standing, connection);
        None
    }

    /// The connection that has waited longest for room, once there is some, and what is set aside for
    /// it. Known ones go before all others.
    pub fn next_admitted(&self) -> Option<(ConnectionId, AnswerRoom)> {
        let (appetite, standing) = self.next_line()?;
        let next = self.waiting(appetite).of(standing).borrow_mut().pop_front()?;
        Some((next, self.set_aside(appetite)))
    }

    /// Whether one of those that wait may go on.
    pub fn may_admit(&self) -> bool {
        self.next_line().is_some()
    }

    /// Whose turn it is: those of a kind for which there is room, and of which one waits.
    fn next_line(&self) -> Option<(Appetite, Standing)> {
        const ORDER: [(Appetite, Standing); 6] = [
            (Appetite::Fetch, Standing::Known),
            (Appetite::Listing, Standing::Known),
            (Appetite::Fetch, Standing::New),
            (Appetite::Fetch, Standing::Much),
            (Appetite::Listing, Standing::New),
            (Appetite::Listing, Standing::Much),
        ];
        ORDER.into_iter().find(|(appetite, standing)| {
            !self.waiting(*appetite).of(*standing).borrow().is_empty()
                && self.has_room_for(*appetite, *standing)
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

    /// Lets a connection wait where it belongs by now. Who waits there keeps its place.
    fn join(&self, standing: Standing, connection: ConnectionId) {
        if !self.of(standing).borrow().contains(&connection) {
            self.forget(connection);
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
        memory.recount_arriving(false, 0, 12);
        assert!(!memory.has_arrival_room(false) && memory.has_room());
    }

    #[test]
    fn half_requests_of_known_clients_and_of_others_leave_room_to_each_other() {
        for is_known in [true, false] {
            let memory = RequestMemory::new(4 * ARRIVAL_SHARE);
            while memory.has_arrival_room(is_known) {
                memory.recount_arriving(is_known, 0, 1);
            }
            assert!(memory.may_overdraw(ConnectionId(1), is_known));
            memory.recount_arriving(is_known, 0, 1_000);
            assert!(!memory.may_resume(is_known) && memory.may_resume(!is_known));
            memory.recount_arriving(!is_known, 0, 4);
            assert!(!memory.has_arrival_room(!is_known), "that is its share");
            assert!(memory.may_overdraw(ConnectionId(2), !is_known));
        }
    }

    #[test]
    fn one_half_request_at_a_time_goes_on_without_room() {
        let memory = RequestMemory::new(10);
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        memory.recount_arriving(true, 0, 12);
        assert!(memory.may_overdraw(one, true) && !memory.may_overdraw(other, true));
        assert!(!memory.may_resume(true), "it would only find the same");
        memory.give_overdraft_back(other);
        assert!(!memory.may_overdraw(other, true));
        memory.give_overdraft_back(one);
        assert!(memory.may_resume(true) && memory.may_overdraw(other, true));
    }

    #[test]
    fn who_becomes_known_or_is_given_much_while_it_waits_has_one_turn() {
        let memory = RequestMemory::new(2 * FETCH_ANSWER_BYTES_MIN);
        let [a, b, c, late] = [1, 2, 3, 4].map(ConnectionId);
        let admit = |id, standing| memory.admit(id, Appetite::Fetch, standing).is_some();
        assert!(admit(a, Standing::New) && admit(b, Standing::New), "that is all");
        assert!(!admit(c, Standing::Much) && !admit(late, Standing::Much));
        assert!(!admit(c, Standing::New) && memory.waiting_count() == 2);
        memory.recount_answer(FETCH_ANSWER_BYTES_MIN, 0);
        assert!(admit(c, Standing::New), "it is the first in its line");
        assert_eq!(memory.waiting_count(), 1);
        assert!(!admit(late, Standing::New));
        memory.recount_answer(2 * FETCH_ANSWER_BYTES_MIN, 0);
        assert!(memory.may_admit());
        assert!(admit(late, Standing::Known), "whatever line it stood in");
        assert_eq!((memory.waiting_count(), memory.next_admitted()), (0, None));
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

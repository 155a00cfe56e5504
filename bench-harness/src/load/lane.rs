//! One producing connection as a queue of requests.
//!
//! Does: queue what is due, say what may be sent next, take answers, order retries.
//! Does not: touch sockets, clocks or bytes.
//! Invariants: requests of one partition leave in the order of their sequences; at most as many are
//! in flight as allowed; a request leaves the lane by an answer or not at all, and keeps the
//! instant it was due through every retry.
//! Apart because order and retries are easily wrong and easily tested here.
//!
//! ```text
//! due -> queue -> in flight -> acknowledged
//!          ^          |
//!          +-- retry -+-> refused for good
//! ```

use std::collections::VecDeque;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};

use crate::limits::RETRIES_MAX;

/// A request that waits or is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it was due, monotonic nanoseconds.
    pub due_ns: u64,
    /// Which group of partitions it goes to.
    pub group: usize,
    /// Its first sequence; drawn when it is first sent, kept in retries.
    pub sequence: Option<Sequence>,
    /// How often it was sent before.
    pub retries: u32,
    /// Somebody else than the generator held it back.
    pub held: bool,
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// What was sent.
    pub request: Waiting,
    /// What its answer will carry.
    pub correlation_id: i32,
    /// When it was written, monotonic nanoseconds.
    pub written_ns: u64,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done.
    Acknowledged(InFlight),
    /// To be sent again after a pause.
    Retry,
    /// The run cannot go on.
    Refused(i16),
    /// An answer nobody asked for.
    Stray,
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Lane {
    /// Which producer's.
    pub producer: usize,
    /// Who produces, when that matters.
    pub identity: Option<(ProducerId, ProducerEpoch)>,
    in_flight_max: usize,
    records_per_batch: i32,
    queue: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    /// Next sequence per group.
    sequences: Vec<Sequence>,
    next_correlation_id: i32,
    /// Nothing is sent before this instant.
    pub held_until_ns: u64,
}

impl Lane {
    /// An empty lane to `groups` groups of partitions.
    #[must_use]
    pub fn new(
        producer: usize,
        identity: Option<(ProducerId, ProducerEpoch)>,
        in_flight_max: usize,
        records_per_batch: u32,
        groups: usize,
    ) -> Self {
        Self {
            producer,
            identity,
            in_flight_max,
            records_per_batch: records_per_batch as i32,
            queue: VecDeque::new(),
            in_flight: VecDeque::with_capacity(in_flight_max),
            sequences: vec![Sequence(0); if identity.is_some() { groups } else { 0 }],
            next_correlation_id: 1,
            held_until_ns: 0,
        }
    }

    /// Another limit of requests in flight from now on.
    pub fn limit(&mut self, in_flight_max: usize) {
        self.in_flight_max = in_flight_max;
    }

    /// How many more a closed loop may put in.
    #[must_use]
    pub fn vacancies(&self) -> usize {
        self.in_flight_max.saturating_sub(self.in_flight.len() + self.queue.len())
    }

    /// Whether requests wait to be sent.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether nothing waits and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// A request is due. `flushed`: the connection took everything so far.
    pub fn enqueue(&mut self, due_ns: u64, group: usize, flushed: bool) {
        let held = !flushed || self.vacancies() == 0 || self.held_until_ns > 0;
        self.queue.push_back(Waiting { due_ns, group, sequence: None, retries: 0, held });
    }

    /// The next request to be written now; it is in flight from here on.
    pub fn next(&mut self, now_ns: u64) -> Option<InFlight> {
        if now_ns < self.held_until_ns || self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        self.held_until_ns = 0;
        let mut request = self.queue.pop_front()?;
        if request.sequence.is_none() && self.identity.is_some() {
            let next = &mut self.sequences[request.group];
            request.sequence = Some(*next);
            *next = next.after(self.records_per_batch);
        }
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1).max(1);
        let sent = InFlight { request, correlation_id, written_ns: now_ns };
        self.in_flight.push_back(sent);
        Some(sent)
    }

    /// An answer came. Brokers answer one connection in order.
    pub fn answered(&mut self, correlation_id: i32, code: i16) -> Settled {
        match self.in_flight.front() {
            Some(front) if front.correlation_id == correlation_id => {}
            Some(_) | None => return Settled::Stray,
        }
        let sent = self.in_flight.pop_front().expect("looked at above");
        if code == 0 || self.was_taken_before(&sent, code) {
            return Settled::Acknowledged(sent);
        }
        if !self.worth_another_try(&sent, code) {
            return Settled::Refused(code);
        }
        self.put_back(Waiting { retries: sent.request.retries + 1, held: true, ..sent.request });
        Settled::Retry
    }

    /// The oldest request counts as done once written (`acks=0`).
    pub fn written(&mut self) -> Option<InFlight> {
        self.in_flight.pop_front()
    }

    /// Drops what was never sent. A retry stays: its sequence would leave a hole.
    pub fn forget_unsent(&mut self) {
        self.queue.retain(|waiting| waiting.sequence.is_some());
    }

    /// When the requests were due that have no answer.
    pub fn leftovers(&self) -> impl Iterator<Item = u64> {
        let sent = self.in_flight.iter().map(|sent| sent.request.due_ns);
        sent.chain(self.queue.iter().map(|waiting| waiting.due_ns))
    }

    /// A retry whose first sending had been taken after all.
    fn was_taken_before(&self, sent: &InFlight, code: i16) -> bool {
        code == ErrorCode::DuplicateSequenceNumber.code() && sent.request.retries > 0
    }

    fn worth_another_try(&self, sent: &InFlight, code: i16) -> bool {
        if sent.request.retries >= RETRIES_MAX {
            return false;
        }
        // The one before it failed and waits for its own retry: then its successors are out of order.
        let follows_retry = code == ErrorCode::OutOfOrderSequenceNumber.code()
            && self.queue.iter().any(|waiting| waiting.retries > 0);
        follows_retry || ErrorCode::from_code(code).is_some_and(ErrorCode::retriable)
    }

    /// Behind the retries that are older, before everything that was never sent.
    fn put_back(&mut self, request: Waiting) {
        let place = self.queue.iter().take_while(|waiting| waiting.retries > 0).count();
        self.queue.insert(place, request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_LEADER: i16 = 6;
    const OUT_OF_ORDER: i16 = 45;

    fn idempotent(in_flight_max: usize) -> Lane {
        Lane::new(0, Some((ProducerId(1), ProducerEpoch(0))), in_flight_max, 10, 2)
    }

    fn sequence(sent: Option<InFlight>) -> Option<i32> {
        sent.and_then(|sent| sent.request.sequence).map(|sequence| sequence.0)
    }

    #[test]
    fn at_most_so_many_are_in_flight_and_the_rest_is_held() {
        let mut lane = Lane::new(0, None, 2, 1, 1);
        for due in [1, 2, 3] {
            lane.enqueue(due, 0, true);
        }
        let first = lane.next(10).expect("may be sent");
        let second = lane.next(10).expect("may be sent");
        assert!(!first.request.held && !second.request.held && lane.next(10).is_none());
        assert_eq!(lane.answered(first.correlation_id, 0), Settled::Acknowledged(first));
        let third = lane.next(20).expect("there is room again");
        assert!(third.request.held && third.request.due_ns == 3 && third.written_ns == 20);
    }

    #[test]
    fn sequences_run_per_group_and_survive_retries() {
        let mut lane = idempotent(5);
        for group in [0, 0, 1, 0] {
            lane.enqueue(1, group, true);
        }
        let sent: Vec<InFlight> = (0..4).map(|_| lane.next(1).expect("sent")).collect();
        let drawn: Vec<i32> =
            sent.iter().map(|sent| sent.request.sequence.expect("drawn").0).collect();
        assert_eq!(drawn, [0, 10, 0, 20]);
        assert_eq!(lane.answered(sent[0].correlation_id, NOT_LEADER), Settled::Retry);
        assert_eq!(lane.answered(sent[1].correlation_id, OUT_OF_ORDER), Settled::Retry);
        assert!(matches!(lane.answered(sent[2].correlation_id, 0), Settled::Acknowledged(_)));
        lane.enqueue(9, 0, true);
        assert_eq!(sequence(lane.next(2)), Some(0));
        assert_eq!(sequence(lane.next(2)), Some(10));
        assert_eq!(sequence(lane.next(2)), Some(30));
    }

    #[test]
    fn what_cannot_be_retried_ends_the_run() {
        let mut lane = idempotent(1);
        lane.enqueue(1, 0, true);
        let sent = lane.next(1).expect("sent");
        assert_eq!(lane.answered(sent.correlation_id, 87), Settled::Refused(87));
        lane.enqueue(1, 0, true);
        let sent = lane.next(1).expect("sent");
        assert_eq!(lane.answered(sent.correlation_id, OUT_OF_ORDER), Settled::Refused(45));
        assert_eq!(lane.answered(99, 0), Settled::Stray);
    }

    #[test]
    fn a_duplicate_of_a_retry_was_taken_the_first_time() {
        let mut lane = idempotent(1);
        lane.enqueue(1, 0, true);
        let sent = lane.next(1).expect("sent");
        assert_eq!(lane.answered(sent.correlation_id, 7), Settled::Retry);
        lane.held_until_ns = 5;
        assert!(lane.next(4).is_none());
        let again = lane.next(5).expect("sent");
        assert!(matches!(lane.answered(again.correlation_id, 46), Settled::Acknowledged(_)));
        assert!(lane.is_idle());
    }

    #[test]
    fn leftovers_are_what_was_sent_and_what_was_not() {
        let mut lane = Lane::new(0, None, 1, 1, 1);
        lane.enqueue(3, 0, true);
        lane.enqueue(4, 0, true);
        lane.next(5);
        assert_eq!(lane.leftovers().collect::<Vec<_>>(), [3, 4]);
        lane.forget_unsent();
        assert_eq!(lane.leftovers().collect::<Vec<_>>(), [3]);
    }
}

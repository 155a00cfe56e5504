//! Transactional ids on this core, and the ends of their transactions that are being written.
//!
//! Does: hand requests to the coordinator of a transactional id; once an end is decided, have every
//! partition write its marker, again and again until it is written or comes too late, and tell the
//! coordinator.
//! Does not: decide ends or write markers; coordinators and partitions do.
//! Invariants: an end is here from its decision to the moment its coordinator has taken note that it is
//! over on every partition, or until that coordinator is dropped: one that is loaded again begins anew.
//! Markers are asked for when a turn ends, all that a core is asked for in one message.
//! Apart because a decision crosses cores here, and must not be lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LogId, PartitionIndex};
use flumen_protocol::time::Monotonic;
use flumen_replication::coordinator::runtime::{CoordinatorEffect, Phase};
use flumen_replication::coordinator::transaction::requests::{Outcome, Producer};
use flumen_replication::coordinator::transaction::{
    Ending, Owed, State, TransactionRequest, TransactionResponse,
};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Ticket;
use flumen_storage::limits::QUEUE_BYTES_MAX;
use tracing::{debug, warn};

use super::mailbox::{Answer, CoreMessage, EndQuestion, Question, Target};
use super::partitions::{ENDED, ENDING};
use super::room::{Room, transaction_wishes};
use super::routing;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::{END_PATIENCE, END_RETRY, END_RETRY_MAX};
use crate::telemetry::metrics::RefusedReason;

/// The ends that are being written for the coordinators of one core.
#[derive(Default)]
pub struct Ends {
    open: BTreeMap<u64, End>,
    /// Those that are to go on, and when. Invariant: each is open and awaits no answer.
    due: BTreeSet<(Monotonic, u64)>,
    next: u64,
}

/// An end that is being written.
struct End {
    /// Where its coordinator lives.
    coordinator: LogId,
    id: String,
    ending: Ending,
    /// Every partition of the transaction.
    markers: Vec<Marker>,
    /// Answers that are still to come.
    asked: usize,
    /// How long to wait if something is left to be done then.
    retry: Duration,
}

impl End {
    /// How long to wait this time.
    fn next_retry(&mut self) -> Duration {
        let wait = self.retry;
        self.retry = END_RETRY_MAX.min(wait * 2);
        wait
    }
}

/// A partition that is to have a marker.
struct Marker {
    topic: String,
    index: PartitionIndex,
    /// Whether the transaction is over there: the marker is written or comes too late, or the partition is
    /// gone.
    is_over: bool,
}

/// Low bits of an internal ticket's number that say which partition of an end answers.
const PLACE_BITS: u32 = 16;

const _: () = assert!(
    flumen_replication::limits::TRANSACTION_PARTITIONS_MAX < 1 << PLACE_BITS,
    "every partition of a transaction has a number"
);

impl Shard {
    /// Hands a request to the coordinator of transactions of this partition.
    pub(super) fn ask_transaction(
        &mut self,
        ticket: Ticket,
        log: LogId,
        request: TransactionRequest,
    ) {
        if let Some(reason) = self.cannot_decide(&request) {
            self.metrics.refused(reason);
            let response = request.refused(ErrorCode::CoordinatorNotAvailable);
            return self.answer(ticket, Answer::Transaction(Box::new(response)));
        }
        let Some(Room::Transactions(room)) = self.coordinators.room_to_ask(log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let (now, dice) = (self.now, &mut self.dice);
        let wishes = transaction_wishes(|out| room.handle(now, dice, ticket, request, out));
        self.coordinators.touched.insert(log);
        self.grant_coordinator(log, wishes);
        self.look_at_coordinator(log);
    }

    /// Why a coordinator is not asked this now, if it is not. Refused here and not when its batch is
    /// appended: a batch that fails costs the room all that it holds.
    fn cannot_decide(&self, request: &TransactionRequest) -> Option<RefusedReason> {
        match request {
            // On a disk that is nearly full what is under way may end, and nothing may begin.
            TransactionRequest::Init { .. } | TransactionRequest::Add { .. } if !self.writable => {
                Some(RefusedReason::DiskReserve)
            }
            TransactionRequest::Init { .. }
            | TransactionRequest::Add { .. }
            | TransactionRequest::End { .. } => {
                let has_room = self.journal_has_room(QUEUE_BYTES_MAX);
                (!has_room).then_some(RefusedReason::Memory)
            }
            // The broker's own word, without which readers do not go on, and what leaves no records.
            TransactionRequest::MarkersWritten { .. }
            | TransactionRequest::Verify { .. }
            | TransactionRequest::Describe { .. }
            | TransactionRequest::List { .. } => None,
        }
    }

    /// Asks every coordinator of transactions of this core for its list and answers with all of them.
    pub(super) fn list_transactions(&mut self, ticket: Ticket, request: &TransactionRequest) {
        let mut responses: Vec<TransactionResponse> = Vec::new();
        // An idle room holds no ids; a loading one says that it does not know yet.
        let rooms = self.coordinators.rooms.values_mut();
        for room in rooms.filter(|room| room.phase() != Phase::Idle) {
            let Room::Transactions(room) = room else { continue };
            let mut out = Vec::new();
            room.handle(self.now, &mut self.dice, ticket, request.clone(), &mut out);
            for effect in out {
                match effect {
                    CoordinatorEffect::Reply { response, .. } => responses.push(response),
                    CoordinatorEffect::Append { .. } | CoordinatorEffect::Announce(_) => {
                        unreachable!("listing transactions changes nothing")
                    }
                }
            }
        }
        self.answer(ticket, Answer::Transactions(responses));
    }

    /// The end of a transaction is decided and committed: every partition is to write its marker.
    pub(super) fn begin_end(&mut self, coordinator: LogId, owed: Owed) {
        let Owed { id, ending, partitions } = owed;
        let markers = partitions.iter().map(|(topic, index)| Marker {
            topic: topic.to_owned(),
            index,
            is_over: false,
        });
        let (markers, asked, retry) = (markers.collect(), 0, END_RETRY);
        let end = End { coordinator, id, ending, markers, asked, retry };
        let number = self.ends.next;
        self.ends.next += 1;
        self.ends.open.insert(number, end);
        self.go_on_at(number, self.now.monotonic);
    }

    fn go_on_at(&mut self, number: u64, at: Monotonic) {
        self.ends.due.insert((at, number));
        self.timers.arm_earlier(Due::Ends, Some(at));
    }

    /// Goes on with the ends whose time has come.
    pub(super) fn go_on_ending(&mut self) {
        let mut asked = BTreeMap::new();
        while let Some((at, number)) = self.ends.due.first().copied()
            && at <= self.now.monotonic
        {
            self.ends.due.remove(&(at, number));
            self.ask_for_markers(number, &mut asked);
        }
        let own = asked.remove(&self.identity.core);
        for (core, questions) in asked {
            self.send(core, CoreMessage::Ask(questions));
        }
        self.take_questions(own.unwrap_or_default());
        let next = self.ends.due.first().map(|(at, _)| *at);
        self.timers.arm_earlier(Due::Ends, next);
    }

    /// Asks every partition where the transaction is not over; reports when none is left.
    fn ask_for_markers(&mut self, number: u64, asked: &mut Questions) {
        let Some(mut end) = self.ends.open.remove(&number) else { return };
        let question = self.question_of(&end);
        for (place, marker) in (0u64..).zip(&mut end.markers) {
            let topic = self.image.topic_named(&marker.topic);
            let Some(log) = topic.and_then(|topic| topic.log(marker.index)) else {
                // Its records are gone, and with them whatever waited for the end.
                marker.is_over = true;
                continue;
            };
            if !marker.is_over {
                let ticket = self.internal(ENDING, (number << PLACE_BITS) | place);
                let core = routing::core_of(log, self.identity.cores);
                let question = Question::EndTransaction(Box::new(question));
                asked.entry(core).or_default().push((ticket, Target::Log(log), question));
                end.asked += 1;
            }
        }
        let (all_over, coordinator) = (end.asked == 0, end.coordinator);
        let report = TransactionRequest::MarkersWritten {
            id: end.id.clone(),
            producer: end.ending.producer,
        };
        self.ends.open.insert(number, end);
        if all_over {
            self.ask_transaction(self.internal(ENDED, number), coordinator, report);
        }
    }

    fn question_of(&self, end: &End) -> EndQuestion {
        let coordinator = self.partitions.get(&end.coordinator);
        let coordinator_epoch = coordinator.map_or(0, |log| log.leader_epoch().0);
        let Ending { producer, outcome, version } = end.ending;
        EndQuestion {
            producer_id: producer.id,
            epoch: producer.epoch,
            marker: EndMarker { commit: outcome == Outcome::Commit, coordinator_epoch },
            must_be_newer: version.bumps(),
            deadline: self.now.monotonic.after(END_PATIENCE),
        }
    }

    /// A partition has written a marker, or cannot now.
    pub(super) fn marker_answered(&mut self, number: u64, answer: Answer) {
        let (number, place) = (number >> PLACE_BITS, number & ((1 << PLACE_BITS) - 1));
        let Some(end) = self.ends.open.get_mut(&number) else { return };
        let marker = usize::try_from(place).ok().and_then(|place| end.markers.get_mut(place));
        if let Some(marker) = marker {
            marker.is_over = is_over(&end.id, end.ending.producer, &marker.topic, &answer);
        }
        end.asked -= 1;
        if end.asked == 0 {
            let all_over = end.markers.iter().all(|marker| marker.is_over);
            let wait = if all_over { Duration::ZERO } else { end.next_retry() };
            self.go_on_at(number, self.now.monotonic.after(wait));
        }
    }

    /// A coordinator has taken note of the markers, or has to be told again. One that was dropped begins
    /// the end anew when it is loaded.
    pub(super) fn end_reported(&mut self, number: u64, answer: &Answer) {
        let is_done = matches!(answer, Answer::Transaction(response)
            if **response == TransactionResponse::MarkersWritten(ErrorCode::None));
        if is_done {
            self.ends.open.remove(&number);
        } else if let Some(end) = self.ends.open.get_mut(&number) {
            let wait = end.next_retry();
            self.go_on_at(number, self.now.monotonic.after(wait));
        }
    }

    /// The coordinator of this partition was dropped: it announces what is owed when it is loaded.
    pub(super) fn forget_ends(&mut self, coordinator: LogId) {
        let Ends { open, due, .. } = &mut self.ends;
        open.retain(|_, end| end.coordinator != coordinator);
        due.retain(|(_, number)| open.contains_key(number));
    }

    /// Counts the transactions of this core's coordinators, for a scrape.
    pub(super) fn count_transactions(&mut self) {
        let (mut ids, mut open, mut ending, mut oldest_ms) = (0, 0, 0, 0);
        for room in self.coordinators.rooms.values().filter_map(Room::transactions) {
            let Some(machine) = room.machine() else { continue };
            ids += machine.ids() as u64;
            for (state, started) in machine.under_way() {
                match state {
                    State::Prepared(_) => ending += 1,
                    State::Empty | State::Ongoing | State::Complete(_) => open += 1,
                }
                let age_ms = started.map_or(0, |at| self.now.wall.0.saturating_sub(at.0));
                oldest_ms = oldest_ms.max(u64::try_from(age_ms).unwrap_or(0));
            }
        }
        self.metrics.transactional_ids = ids;
        self.metrics.transactions_open = open;
        self.metrics.transactions_ending = ending;
        self.metrics.transaction_oldest_ms = oldest_ms;
    }
}

/// Whether a transaction is over on a partition of this topic, which answers so. One that knows a newer
/// epoch of its producer has nothing open in this one: an operator's marker has ended it. It would refuse
/// ours for ever, and its client could begin nothing any more.
fn is_over(id: &str, producer: Producer, topic: &str, answer: &Answer) -> bool {
    match answer {
        Answer::Appended(Ok(_)) => true,
        Answer::Appended(Err(Refusal::StaleProducerEpoch { current }))
            if *current > producer.epoch =>
        {
            warn!(id, ?producer, topic, %current, "somebody else has ended a transaction here");
            true
        }
        _ => {
            debug!(id, topic, ?answer, "a marker cannot be written now");
            false
        }
    }
}

/// Questions for cores.
type Questions = BTreeMap<CoreId, Vec<(Ticket, Target, Question)>>;

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{ProducerEpoch, ProducerId, TopicId};
    use flumen_replication::coordinator::transaction::ClientVersion;

    use super::*;

    const PRODUCER: Producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(3) };

    #[test]
    fn what_cannot_be_written_is_tried_ever_more_seldom_up_to_a_limit() {
        let (outcome, version) = (Outcome::Abort, ClientVersion::Two);
        let ending = Ending { producer: PRODUCER, outcome, version };
        let topic = TopicId([1; 16]);
        let coordinator = LogId { topic, partition: PartitionIndex(0) };
        let (id, markers, asked, retry) = (String::new(), Vec::new(), 0, END_RETRY);
        let mut end = End { coordinator, id, ending, markers, asked, retry };
        let waits: Vec<u128> = (0..6).map(|_| end.next_retry().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn only_a_newer_epoch_says_that_a_marker_came_too_late() {
        let is_over = |outcome| is_over("id", PRODUCER, "t", &Answer::Appended(outcome));
        let stale = |epoch| Err(Refusal::StaleProducerEpoch { current: ProducerEpoch(epoch) });
        assert!(is_over(stale(4)));
        assert!(!is_over(stale(3)), "a transaction of this epoch is open");
        assert!(!is_over(Err(Refusal::CoordinatorFenced { current: 9 })));
        assert!(!is_over(Err(Refusal::Busy)));
    }
}

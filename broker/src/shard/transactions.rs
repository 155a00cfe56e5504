//! A core's part in transactions: between the partitions that live here and the coordinators of
//! transactional ids, wherever those live.
//!
//! ```text
//!   partition ─Verify─► core of the coordinator ─Verified─► partition: appended, or refused
//!   coordinator ─EndTransaction─► core of the partition: marker ─Appended─► coordinator
//! ```
//!
//! Does: carry a partition's question to the coordinator of its transactional id, and the word back; hand
//! markers to partitions; describe producers.
//! Does not: judge a transaction: the coordinator does, and the partition.
//! Invariants: every question asked is here until it is answered.
//! Apart because this is the seam between the log of a transaction and its coordinator.

use std::collections::BTreeMap;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_replication::coordinator::transaction::requests::{
    ClientVersion, Partitions, Producer, TransactionRequest,
};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::{EndTransaction, Verification};
use flumen_storage::limits::QUEUE_BYTES_MAX;

use super::mailbox::{Answer, EndQuestion, Question};
use super::partitions::VERIFYING;
use super::requests::INTERNAL;
use super::routing;
use super::shard::Shard;
use crate::api::step::{Addressee, Part};

/// What coordinators were asked by partitions of this core.
#[derive(Debug, Default)]
pub struct Verifications {
    next: u64,
    /// Whose word is awaited, by our number.
    open: BTreeMap<u64, Verification>,
}

impl Shard {
    /// Asks the coordinator about a transaction that a partition has not heard of.
    pub(super) fn verify(&mut self, asked: Verification) {
        let Some((coordinator, question)) = self.verify_question(&asked) else {
            return self.give_word(&asked, Err(ErrorCode::CoordinatorNotAvailable));
        };
        let number = self.verifications.next;
        self.verifications.next += 1;
        self.verifications.open.insert(number, asked);
        let to = Addressee::Owner(coordinator);
        let part = Part { number: VERIFYING, to, question };
        // Not now: the coordinator may live here, and its word would overtake what is being carried out.
        self.follow_ups.push_back((number | INTERNAL, vec![part]));
    }

    /// The partition that holds the transactional id, and what to ask there; `None` while there is no
    /// such topic.
    fn verify_question(&self, asked: &Verification) -> Option<(LogId, Question)> {
        let Verification { log, producer: (producer_id, epoch), claim } = asked;
        let topic = &self.image.topic(log.topic)?.name;
        let holds = self.image.topic_named(routing::TRANSACTIONS_TOPIC)?;
        let id = claim.transactional_id.clone();
        let place = routing::coordinator_partition(&id, holds.partitions.len());
        let producer = Producer { id: *producer_id, epoch: *epoch };
        let mut partitions = Partitions::default();
        partitions.insert(topic, log.partition);
        let request = if claim.adds {
            TransactionRequest::Add { id, producer, partitions, version: ClientVersion::Two }
        } else {
            TransactionRequest::Verify { id, producer, partitions }
        };
        Some((holds.log(place)?, Question::Transaction(Box::new(request))))
    }

    /// The coordinator has answered.
    pub(super) fn take_word(&mut self, number: u64, answer: Answer) {
        let asked = self.verifications.open.remove(&number).expect("every question has one answer");
        let word = match answer {
            Answer::Transaction(response) => match response.vouches() {
                ErrorCode::None => Ok(()),
                code => Err(code),
            },
            Answer::NotHere => Err(ErrorCode::NotCoordinator),
            other => unreachable!("an answer to another question: {other:?}"),
        };
        self.give_word(&asked, word);
        self.carry_out();
    }

    fn give_word(&mut self, asked: &Verification, word: Result<(), ErrorCode>) {
        if let Some(partition) = self.partitions.get_mut(&asked.log) {
            let word = word.map_err(Refusal::NotVerified);
            partition.verified(self.now, asked.producer, word, &mut self.outbox);
        }
        self.look_at_deadline(asked.log);
    }

    /// Writes a marker. Also on a disk that is nearly full: without it nothing behind the transaction can
    /// be read, and there are no more of them than transactions under way.
    pub(super) fn end_transaction(&mut self, ticket: Ticket, log: LogId, end: &EndQuestion) {
        if !self.journal_has_room(QUEUE_BYTES_MAX) || !self.may_end(log) {
            return self.answer(ticket, Answer::Appended(Err(Refusal::Busy)));
        }
        let EndQuestion { producer_id, epoch, marker, must_be_newer, deadline } = *end;
        let producer = (producer_id, epoch);
        let ending = EndTransaction { producer, marker, must_be_newer, ticket, deadline };
        self.outdate_claims(log, &ending);
        let Some(partition) = self.partitions.get_mut(&log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        // A refusal comes back as a release, like every other outcome.
        let _released = partition.end_transaction(self.now, ending, &mut self.outbox);
        self.look_at_deadline(log);
        self.carry_out();
    }

    /// Which producers have written to a partition.
    pub(super) fn give_producers(&mut self, ticket: Ticket, log: LogId) {
        let answer = match self.partitions.get(&log) {
            Some(partition) => Answer::Producers(Box::new(partition.active_producers())),
            None => Answer::NotHere,
        };
        self.answer(ticket, answer);
    }
}

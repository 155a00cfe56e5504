//! Commits of offsets within transactions, between two coordinators.
//!
//! Does: ask the coordinator of the transactional id to vouch for the transaction (KIP-890), then the
//! coordinator of the group to take the offsets in.
//! Does not: judge either.
//! Invariants: nothing is taken in on a word that is older than the last marker in this log that may have
//! ended its transaction: such offsets would be pending in one that nobody ever ends.
//! Apart from both coordinators because neither knows the other.

use std::collections::BTreeMap;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_replication::coordinator::group::GroupRequest;
use flumen_replication::coordinator::producer::Producer;
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::EndTransaction;

use super::mailbox::{Answer, CoreMessage, Question, Target, WithinQuestion};
use super::partitions::CLAIM;
use super::routing;
use super::shard::Shard;
use crate::limits::CLAIMS_MAX;

/// The commits of one core that wait for the coordinator of their transaction.
#[derive(Default)]
pub struct Claims {
    open: BTreeMap<u64, Claim>,
    next: u64,
}

/// A commit that waits.
struct Claim {
    ticket: Ticket,
    log: LogId,
    commit: GroupRequest,
    producer: Producer,
    /// A marker that may end its transaction is to be written here since the coordinator was asked.
    is_outdated: bool,
}

impl Shard {
    /// Asks for a commit within a transaction: first the coordinator of that, then that of the group.
    pub(super) fn ask_within(&mut self, ticket: Ticket, log: LogId, asked: WithinQuestion) {
        let WithinQuestion { coordinator, claim, commit } = asked;
        let producer = match &commit {
            GroupRequest::CommitWithin { producer, .. } => *producer,
            other => unreachable!("{other:?} is no commit within a transaction"),
        };
        if self.claims.open.len() >= CLAIMS_MAX {
            return self.refuse_within(ticket, &commit, ErrorCode::CoordinatorNotAvailable);
        }
        let number = self.claims.next;
        self.claims.next += 1;
        let waiting = Claim { ticket, log, commit, producer, is_outdated: false };
        self.claims.open.insert(number, waiting);
        let asked = self.internal(CLAIM, number);
        let owner = routing::core_of(coordinator, self.identity.cores);
        if owner == self.identity.core {
            return self.ask_transaction(asked, coordinator, claim);
        }
        let question = Question::Transaction(Box::new(claim));
        self.send(owner, CoreMessage::Ask(vec![(asked, Target::Log(coordinator), question)]));
    }

    /// The coordinator of a transaction vouches for it, or does not.
    pub(super) fn claim_answered(&mut self, number: u64, answer: Answer) {
        let Some(claim) = self.claims.open.remove(&number) else { return };
        let error = match answer {
            Answer::Transaction(response) => response.vouches(),
            _ => ErrorCode::NotCoordinator,
        };
        let error = match error {
            // It may have vouched for the transaction that the marker ends, or have waited for this very
            // marker to vouch for the next one: the client asks again, and is told.
            ErrorCode::None if claim.is_outdated => ErrorCode::ConcurrentTransactions,
            ErrorCode::None => self.refused_by_log(&claim),
            error => error,
        };
        match error {
            ErrorCode::None => self.ask_coordinator(claim.ticket, claim.log, claim.commit),
            error => self.refuse_within(claim.ticket, &claim.commit, error),
        }
    }

    /// What the log has against records of this transaction. Looked at before the group's coordinator
    /// decides anything: a batch of it that fails costs it all that it holds.
    fn refused_by_log(&self, claim: &Claim) -> ErrorCode {
        let Some(partition) = self.partitions.get(&claim.log) else {
            return ErrorCode::NotCoordinator;
        };
        match partition.may_write_within((claim.producer.id, claim.producer.epoch)) {
            Ok(()) => ErrorCode::None,
            Err(Refusal::StaleProducerEpoch { .. }) => ErrorCode::ProducerFenced,
            Err(_) => ErrorCode::CoordinatorNotAvailable,
        }
    }

    /// A marker is about to be written to this log.
    pub(super) fn outdate_claims(&mut self, log: LogId, ending: &EndTransaction) {
        let open = self.claims.open.values_mut();
        let may_end = |claim: &Claim| ending.may_end((claim.producer.id, claim.producer.epoch));
        open.filter(|claim| claim.log == log && may_end(claim))
            .for_each(|claim| claim.is_outdated = true);
    }

    fn refuse_within(&mut self, ticket: Ticket, commit: &GroupRequest, error: ErrorCode) {
        self.answer(ticket, Answer::Group(Box::new(commit.refused(error))));
    }
}

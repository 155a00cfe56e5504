//! Commits of offsets within transactions: what a consumer that is also a producer does.
//!
//! Does: take such a commit in as pending, and let it count or forget it when its transaction ends.
//! Does not: know transactions; the log's markers tell how they ended, live and when loading.
//! Invariants: a pending offset is never read; the group of one is known as long as it is pending.
//! Apart from the plain commits because two things happen at two times.

use flumen_protocol::ids::ProducerId;
use flumen_protocol::messages::OffsetCommitRequest;
use flumen_protocol::time::Now;

use super::commit::Accepted;
use super::dispatch::GroupCoordinator;
use super::offsets::{Committed, Place};
use super::requests::{GroupEffect, GroupResponse};
use crate::coordinator::Ticket;
use crate::coordinator::producer::{Outcome, Producer};

impl GroupCoordinator {
    pub(super) fn commit_within(
        &mut self,
        now: Now,
        ticket: Ticket,
        (request, producer): (&OffsetCommitRequest, Producer),
        out: &mut Vec<GroupEffect>,
    ) {
        let (accepted, response) = self.decide_commit(now, (request, None), out);
        let mut records = Vec::with_capacity(accepted.len());
        for Accepted { place, committed, record } in accepted {
            self.apply_within(producer.id, place, committed);
            records.push(record);
        }
        let reply = (ticket, GroupResponse::CommitWithin(response));
        out.push(if records.is_empty() {
            GroupEffect::Reply { ticket: reply.0, response: reply.1 }
        } else {
            GroupEffect::AppendWithin { producer, records, replies: vec![reply] }
        });
    }

    pub(super) fn apply_within(&mut self, producer: ProducerId, place: Place, offset: Committed) {
        self.know_group(&place.group);
        self.pending.put(producer, place, offset);
    }

    /// The transaction of a producer has ended in this coordinator's log.
    pub(super) fn transaction_ended(&mut self, producer: ProducerId, outcome: Outcome) {
        for (place, pending) in self.pending.take(producer) {
            if outcome == Outcome::Commit && !pending.is_overtaken {
                self.pending.overtake(&place, Some(pending.order));
                self.know_group(&place.group);
                self.offsets.put(place, pending.committed);
            }
        }
    }

    /// How many transactions have offsets pending here, for metrics.
    #[must_use]
    pub fn pending_transactions(&self) -> usize {
        self.pending.producers()
    }

    /// Those of these places where nothing is committed.
    pub(super) fn pending_only<'a>(
        &'a self,
        places: impl Iterator<Item = &'a Place>,
    ) -> Vec<Place> {
        let is_committed =
            |place: &Place| self.offsets.get(&place.group, &place.topic, place.partition).is_some();
        places.filter(|place| !is_committed(place)).cloned().collect()
    }
}

//! Commits of offsets within transactions: what a consumer that is also a producer does.
//!
//! Does: take such a commit in as pending, and let it count or forget it when its transaction ends.
//! Does not: know transactions; the log's markers tell how they ended, live and when loading.
//! Invariants: a pending offset is never read; the group of one is known as long as it is pending.
//! Apart from the plain commits because two things happen at two times.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::messages::OffsetCommitRequest;
use flumen_protocol::time::Now;

use super::commit::{Accepted, check_commit_within, commit, renews_session};
use super::consumer::check_commit;
use super::dispatch::GroupCoordinator;
use super::offsets::{Committed, Place};
use super::requests::{GroupEffect, GroupResponse, commit_refused};
use super::turn::Turn;
use crate::coordinator::Ticket;
use crate::coordinator::producer::{Outcome, Producer};
use crate::limits::GROUPS_MAX;

impl GroupCoordinator {
    pub(super) fn commit_within(
        &mut self,
        now: Now,
        ticket: Ticket,
        (request, producer): (&OffsetCommitRequest, Producer),
        out: &mut Vec<GroupEffect>,
    ) {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let group = self.groups.get(&request.group_id);
        let consumer = self.consumers.get(&request.group_id);
        let mut checked = match consumer {
            Some(group) => check_commit(group, request, None),
            None => check_commit_within(group, request),
        };
        let count = self.groups.count() + self.consumers.count();
        if group.is_none() && consumer.is_none() && count >= GROUPS_MAX {
            checked = checked.and(Err(ErrorCode::CoordinatorNotAvailable));
        }
        if let Err(error) = checked {
            let refusal = commit_refused(request, error);
            return turn.reply(ticket, GroupResponse::CommitWithin(refusal));
        }
        if let Some(group) = group
            && let Some(session_ms) = renews_session(group, &request.member_id)
        {
            turn.renew_session(&group.id, &request.member_id, session_ms);
        }
        let known = (&self.offsets, &self.pending);
        let (accepted, response) = commit(known, &self.config, request, now.wall);
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
    pub fn ended(&mut self, producer: ProducerId, outcome: Outcome) {
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

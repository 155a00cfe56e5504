//! What every decision about a group is given: configuration, time, timers, and where to put what
//! it wants done.
//!
//! Does: bundle these four, and shorten what is done with them everywhere.
//! Does not: decide anything.
//! Invariants: effects are pushed in the order in which they must happen.
//! Apart because the group itself, which is borrowed at the same time, must not own them.

use std::time::Duration;

use flumen_protocol::messages::JoinGroupResponse;
use flumen_protocol::time::Now;

use super::GroupConfig;
use super::member::Waiting;
use super::requests::{GroupEffect, GroupResponse, join_for_version};
use crate::coordinator::Ticket;
use crate::coordinator::machine::StateRecord;
use crate::coordinator::timers::{Alarm, Timers};

/// The surroundings of one decision.
pub(super) struct Turn<'a> {
    pub(super) config: &'a GroupConfig,
    pub(super) now: Now,
    pub(super) timers: &'a mut Timers,
    pub(super) out: &'a mut Vec<GroupEffect>,
}

impl Turn<'_> {
    /// Answers now, or as soon as what was appended before is committed.
    pub(super) fn reply(&mut self, ticket: Ticket, response: GroupResponse) {
        self.out.push(GroupEffect::Reply { ticket, response });
    }

    /// Answers a JoinGroup, leaving out what its version has no place for.
    pub(super) fn reply_join(&mut self, waiting: Waiting, response: JoinGroupResponse) {
        let response = join_for_version(response, waiting.version);
        self.reply(waiting.ticket, GroupResponse::Join(response));
    }

    /// Appends records and answers when they are committed.
    pub(super) fn append(
        &mut self,
        records: Vec<StateRecord>,
        replies: Vec<(Ticket, GroupResponse)>,
    ) {
        assert!(!records.is_empty(), "nothing to append");
        self.out.push(GroupEffect::Append { records, replies });
    }

    /// Arms `alarm` for `after_ms` from now; a negative time is none.
    pub(super) fn arm(&mut self, alarm: Alarm, after_ms: i32) {
        let after = Duration::from_millis(u64::try_from(after_ms).unwrap_or(0));
        self.timers.arm(alarm, self.now.monotonic.after(after));
    }

    /// A member was heard of: it may now be silent for another `timeout_ms`.
    pub(super) fn renew_session(&mut self, group: &str, member: &str, timeout_ms: i32) {
        self.arm(session(group, member), timeout_ms);
    }

    /// A member is gone: nobody waits to hear of it.
    pub(super) fn end_session(&mut self, group: &str, member: &str) {
        self.timers.cancel(&session(group, member));
    }
}

fn session(group: &str, member: &str) -> Alarm {
    Alarm::Session { group: group.to_owned(), member: member.to_owned() }
}

//! How the coordinator hands requests, alarms and records to groups of the new kind.
//!
//! Does: find, make, convert and drop groups; put records and answers together.
//! Does not: know the rules; the other rooms do.
//! Invariants: an id is that of a classic group or of one of the new kind, never of both.
//! Apart because the coordinator's own dispatch is long enough with the classic ones.

use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, StrBytes, SyncGroupRequest,
};
use flumen_protocol::time::Now;

use super::super::classic::{Group, StateName};
use super::super::dispatch::GroupCoordinator;
use super::super::member::Joiner;
use super::super::rebalance::prepare;
use super::super::requests::{
    GroupEffect, GroupResponse, consumer_heartbeat_refused, join_for_version, join_refused,
    sync_refused,
};
use super::super::stored::{fits_a_batch, group_gone_record};
use super::super::turn::Turn;
use super::converting::is_large;
use super::fact::Fact;
use super::heartbeat::{self, Asker};
use super::losses::{self, Fate};
use super::migration::{self, check_upgrade, part_with, upgraded};
use super::pen::{Denied, Pen};
use super::state::ConsumerGroup;
use super::{classic_members, describe, settings};
use crate::coordinator::Ticket;
use crate::coordinator::machine::StateRecord;
use crate::coordinator::timers::{Alarm, Wait};
use crate::dice::Dice;
use crate::limits::{ALARM_EFFORT_PER_TURN_MAX, GROUP_ANSWERS_PER_STEP};
use crate::metadata::image::Image;

/// A record of a group of the new kind.
#[derive(Debug)]
pub(in crate::coordinator::group) struct ConsumerRecord {
    pub(in crate::coordinator::group) group: String,
    pub(in crate::coordinator::group) fact: Fact,
}

/// What came of working on a group.
pub(super) struct Worked<T> {
    pub(super) result: T,
    pub(super) records: Vec<StateRecord>,
}

/// The cluster's metadata.
impl GroupCoordinator {
    /// The topics there are, and what groups were given of their own, have changed. Groups see it with
    /// their next heartbeat.
    pub fn learn(&mut self, image: Arc<Image>) {
        self.image = image;
    }
}

/// Heartbeats of the new protocol.
impl GroupCoordinator {
    pub(in crate::coordinator::group) fn consumer_heartbeat(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        asker: &Asker<'_>,
        out: &mut Vec<GroupEffect>,
    ) {
        let done = heartbeat::check(asker, &self.config.consumer).and_then(|()| {
            if asker.leaves() {
                self.consumer_leave(now, ticket, asker, out)
            } else {
                self.consumer_stay(now, dice, ticket, asker, out)
            }
        });
        if let Err(denied) = done {
            let response = denied_response(&denied);
            let response = GroupResponse::ConsumerHeartbeat(response);
            out.push(GroupEffect::Reply { ticket, response });
        }
    }

    fn consumer_leave(
        &mut self,
        now: Now,
        ticket: Ticket,
        asker: &Asker<'_>,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), Denied> {
        let id: &str = &asker.request.group_id;
        let left = self.work_on(now, id, out, |pen| heartbeat::leave(pen, asker));
        let Some(left) = left else { return Err(self.no_consumer_group(id)) };
        let (response, fate) = left.result?;
        let reply = (ticket, GroupResponse::ConsumerHeartbeat(response));
        append(left.records, Some(reply), out);
        self.settle(now, id, fate, out);
        Ok(())
    }

    fn consumer_stay(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        asker: &Asker<'_>,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), Denied> {
        let id: &str = &asker.request.group_id;
        if !self.consumers.contains(id) && !asker.joins() {
            let message = if self.groups.contains(id) {
                format!("Group {id} is not a consumer group.")
            } else {
                format!("Consumer group {id} not found.")
            };
            return Err(Denied::new(ErrorCode::GroupIdNotFound, message));
        }
        if asker.joins() {
            self.check_room(id, asker.weight_bytes())?;
        }
        if let Some(classic) = self.running_classic(id) {
            let consumer = &self.config.consumer;
            check_upgrade(classic, (consumer.migration_policy, consumer.max_size))?;
            if is_large(classic) {
                self.begin_upgrade(now, id, (ticket, asker.asked_later(), Dice::new(dice.draw())));
                return Ok(());
            }
        }
        let member_id = member_id(asker, dice);
        let beat = |pen: &mut Pen<'_, '_>| heartbeat::heartbeat(pen, asker, &member_id);
        let (response, records) = if self.consumers.contains(id) {
            let worked = self.work_on(now, id, out, beat).expect("the group is there");
            // What was written until then is true and stays: the member is in, its target is not.
            let response = worked.result.unwrap_or_else(|denied| denied_response(&denied));
            (response, worked.records)
        } else {
            let worked = self.work_on_new(now, id, out, beat)?;
            (worked.result, worked.records)
        };
        append(records, Some((ticket, GroupResponse::ConsumerHeartbeat(response))), out);
        Ok(())
    }

    /// Makes a group for its first member, in place of a classic one if there is one that can be
    /// converted. If the member cannot join nothing has changed.
    fn work_on_new<T>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Pen<'_, '_>) -> Result<T, Denied>,
    ) -> Result<Worked<T>, Denied> {
        let mut group = ConsumerGroup::new(id);
        let mut records = Vec::new();
        if let Some(classic) = self.running_classic(id) {
            for fact in upgraded(classic, &self.image)? {
                records.push(fact.record(id));
                group.apply(fact);
            }
        }
        let (group, worked) = self.try_out(now, (group, records), out, act)?;
        if let Some(old) = self.groups.take(id) {
            let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
            old.members().values().for_each(|member| part_with(&group, member, &mut turn));
        }
        self.consumers.put(group);
        self.timers.cancel(&Alarm::Join { group: id.to_owned() });
        self.timers.cancel(&Alarm::Sync { group: id.to_owned() });
        Ok(worked)
    }

    /// The classic group that would have to be converted to make way.
    fn running_classic(&self, id: &str) -> Option<&Group> {
        self.groups.get(id).filter(|group| group.state_name() != StateName::Empty)
    }

    /// Lets `act` work on a group that is new, or what a classic one is to become; all that is to be
    /// written for it to be true. If `act` fails nothing has changed.
    pub(super) fn try_out<T>(
        &mut self,
        now: Now,
        (mut group, records): (ConsumerGroup, Vec<StateRecord>),
        out: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Pen<'_, '_>) -> Result<T, Denied>,
    ) -> Result<(ConsumerGroup, Worked<T>), Denied> {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let image = &self.image;
        let mut pen = Pen { group: &mut group, turn: &mut turn, image, records };
        let result = act(&mut pen)?;
        let mut records = pen.records;
        if !records.iter().all(fits_a_batch) {
            let message = "What the group's members say of themselves is too large to be stored.";
            return Err(Denied::new(ErrorCode::UnknownServerError, message));
        }
        if self.groups.contains(&group.id) {
            records.insert(0, group_gone_record(&group.id));
        }
        Ok((group, Worked { result, records }))
    }

    /// The sessions of all members begin now; so do the waits for what members must give up.
    fn arm_members(&mut self, now: Now, group: &ConsumerGroup) {
        let default_ms = settings::session_timeout_ms(&self.image, &self.config, &group.id);
        let mut out = Vec::new();
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out: &mut out };
        for (id, member) in group.members() {
            turn.renew_session(&group.id, id, member.session_timeout_ms().unwrap_or(default_ms));
            if let Some(timeout_ms) = member.revocation_timeout_ms() {
                let (group, member) = (group.id.clone(), id.clone());
                turn.arm(Alarm::Member { group, member, wait: Wait::Revocation }, timeout_ms);
            }
        }
        assert!(out.is_empty(), "arming alarms answers nobody");
    }

    fn check_room(&self, id: &str, more_bytes: usize) -> Result<(), Denied> {
        let is_known = self.consumers.contains(id) || self.groups.contains(id);
        let room = self.groups_room();
        if (is_known || room.groups > 0) && more_bytes <= room.bytes {
            return Ok(());
        }
        let message = "This coordinator has no room for more groups or members.";
        Err(Denied::new(ErrorCode::CoordinatorNotAvailable, message))
    }

    fn no_consumer_group(&self, id: &str) -> Denied {
        let message = if self.groups.contains(id) {
            format!("Group {id} is not a consumer group.")
        } else {
            format!("Group {id} not found.")
        };
        Denied::new(ErrorCode::GroupIdNotFound, message)
    }
}

/// Classic members of groups of the new kind. Each answers whether it was for one of them.
impl GroupCoordinator {
    /// An empty group makes way for the classic one that begins here.
    pub(in crate::coordinator::group) fn join_consumer_group(
        &mut self,
        now: Now,
        dice: &mut Dice,
        group_id: &str,
        joiner: &Joiner,
        out: &mut Vec<GroupEffect>,
    ) -> bool {
        let Some(group) = self.consumers.get(group_id) else { return false };
        if group.members().is_empty() {
            let records = self.delete_consumer_group(now, group_id, out);
            append(records, None, out);
            return false;
        }
        let weight_bytes = joiner.weight_bytes();
        let waiting = joiner.waiting;
        if let Err(denied) = self.check_room(group_id, weight_bytes) {
            let response = GroupResponse::Join(join_refused(denied.code, "", waiting.version));
            out.push(GroupEffect::Reply { ticket: waiting.ticket, response });
            return true;
        }
        let prefix = joiner.instance.as_ref().unwrap_or(&joiner.client_id);
        let new_id = format!("{prefix}-{}", dice.uuid());
        let join = |pen: &mut Pen<'_, '_>| classic_members::join(pen, joiner, new_id);
        let worked = self.work_on(now, group_id, out, join).expect("the group is there");
        let (response, fate) = match worked.result {
            Ok((response, fate)) => (response, fate),
            Err((code, id)) => (join_refused(code, &id, waiting.version), Fate::Stays),
        };
        let response = GroupResponse::Join(join_for_version(response, waiting.version));
        append(worked.records, Some((waiting.ticket, response)), out);
        self.settle(now, group_id, fate, out);
        true
    }

    pub(in crate::coordinator::group) fn sync_consumer_group(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &SyncGroupRequest,
        out: &mut Vec<GroupEffect>,
    ) -> bool {
        let worked =
            self.work_on(now, &request.group_id, out, |pen| classic_members::sync(pen, request));
        let Some(worked) = worked else { return false };
        let response = worked.result.unwrap_or_else(sync_refused);
        append(worked.records, Some((ticket, GroupResponse::Sync(response))), out);
        true
    }

    pub(in crate::coordinator::group) fn heartbeat_consumer_group(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
        out: &mut Vec<GroupEffect>,
    ) -> Option<ErrorCode> {
        let worked = self
            .work_on(now, &request.group_id, out, |pen| classic_members::heartbeat(pen, request));
        worked.map(|worked| worked.result)
    }

    pub(in crate::coordinator::group) fn leave_consumer_group(
        &mut self,
        now: Now,
        ticket: Ticket,
        (request, version): (&LeaveGroupRequest, i16),
        out: &mut Vec<GroupEffect>,
    ) -> bool {
        let worked = self.work_on(now, &request.group_id, out, |pen| {
            classic_members::leave(pen, request, version)
        });
        let Some(worked) = worked else { return false };
        let (response, fate): (LeaveGroupResponse, Fate) = worked.result;
        append(worked.records, Some((ticket, GroupResponse::Leave(response))), out);
        self.settle(now, &request.group_id, fate, out);
        true
    }
}

/// Alarms.
impl GroupCoordinator {
    /// A member was silent too long.
    pub(in crate::coordinator::group) fn consumer_session_is_over(
        &mut self,
        now: Now,
        (group, member): (&str, &str),
        out: &mut Vec<GroupEffect>,
    ) {
        self.lose(now, group, out, |pen| losses::session_is_over(pen, member));
    }

    pub(in crate::coordinator::group) fn consumer_wait_is_over(
        &mut self,
        now: Now,
        (group, member, wait): (&str, &str, Wait),
        out: &mut Vec<GroupEffect>,
    ) {
        self.lose(now, group, out, |pen| losses::wait_is_over(pen, member, wait));
    }

    /// A group may lose members without anybody having asked.
    fn lose(
        &mut self,
        now: Now,
        group: &str,
        out: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Pen<'_, '_>) -> Fate,
    ) {
        let Some(worked) = self.work_on(now, group, out, act) else { return };
        append(worked.records, None, out);
        self.settle(now, group, worked.result, out);
    }

    /// A group goes on for a step of what takes more than one turn.
    pub(in crate::coordinator::group) fn go_on(
        &mut self,
        now: Now,
        group: &str,
        out: &mut Vec<GroupEffect>,
        step: impl FnOnce(&mut Pen<'_, '_>),
    ) {
        if let Some(worked) = self.work_on(now, group, out, step) {
            append(worked.records, None, out);
        }
    }

    /// What it takes to act on an alarm, as far as others would notice.
    pub(in crate::coordinator::group) fn effort(&self, alarm: &Alarm) -> usize {
        match alarm {
            // A step of long work: nothing else of the kind in the same turn.
            Alarm::Conversion { .. }
            | Alarm::Telling { .. }
            | Alarm::Patterns { .. }
            | Alarm::Assignment { .. } => ALARM_EFFORT_PER_TURN_MAX,
            // The topics of the group are looked through for its next epoch.
            Alarm::Member { .. } => 1,
            Alarm::Session { group, .. } => usize::from(self.consumers.contains(group)),
            // All members are looked through.
            Alarm::Join { group } | Alarm::Sync { group } => {
                let members = self.groups.get(group).map_or(0, |group| group.members().len());
                if members > GROUP_ANSWERS_PER_STEP { ALARM_EFFORT_PER_TURN_MAX } else { 0 }
            }
            Alarm::Expiry => 0,
        }
    }

    /// The log has been replayed to its end.
    pub(in crate::coordinator::group) fn consumers_loaded(&mut self, now: Now) {
        let ids: Vec<String> = self.consumers.iter().map(|group| group.id.clone()).collect();
        for id in ids {
            let Some(group) = self.consumers.take(&id) else { continue };
            self.arm_members(now, &group);
            self.consumers.put(group);
        }
    }
}

/// Administration and offsets.
impl GroupCoordinator {
    pub(in crate::coordinator::group) fn describe_consumer_group(
        &self,
        id: &str,
        version: i16,
    ) -> GroupResponse {
        let described = match self.consumers.get(id) {
            Some(group) => describe::describe(group, &self.image, &self.config, version),
            None => {
                let denied = self.no_consumer_group(id);
                describe::refused(id, denied.code, &denied.message)
            }
        };
        GroupResponse::DescribeConsumer(described)
    }

    /// The records that take an empty group out of the log; the group is gone.
    pub(in crate::coordinator::group) fn delete_consumer_group(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<GroupEffect>,
    ) -> Vec<StateRecord> {
        let worked = self.work_on(now, id, out, migration::write_tombstones);
        self.consumers.take(id);
        worked.map(|worked| worked.records).unwrap_or_default()
    }

    /// What a record of the log says of a group of the new kind.
    pub(in crate::coordinator::group) fn apply_consumer(&mut self, record: ConsumerRecord) {
        let ConsumerRecord { group: id, fact } = record;
        if matches!(fact, Fact::Gone) {
            self.consumers.take(&id);
            return;
        }
        if !self.consumers.contains(&id) {
            // Tombstones of a group that compaction has forgotten already make no group.
            if fact.is_tombstone() {
                return;
            }
            // A group that is only known by its offsets so far, or was converted.
            self.groups.take(&id);
            self.consumers.put(ConsumerGroup::new(&id));
        }
        self.consumers.change(&id, |group| group.apply(fact));
    }
}

/// Whether offsets may be committed to this group of the new kind (G120). Without a version: within a
/// transaction, where old producers name no member.
///
/// # Errors
/// What to answer for every partition.
pub(in crate::coordinator::group) fn check_commit(
    group: &ConsumerGroup,
    request: &OffsetCommitRequest,
    version: Option<i16>,
) -> Result<(), ErrorCode> {
    const MEMBER_EPOCH_SINCE: i16 = 9;
    let epoch = request.generation_id_or_member_epoch;
    if epoch < 0 && group.members().is_empty() {
        return Ok(());
    }
    let is_nobody = request.member_id.is_empty() && request.group_instance_id.is_none();
    if version.is_none() && epoch == -1 && is_nobody {
        return Ok(());
    }
    let member = group.member(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
    if !member.is_classic() && version.is_some_and(|version| version < MEMBER_EPOCH_SINCE) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    check_epoch(member.is_classic(), member.holding.epoch, epoch)
}

/// Whether a member may ask for its offsets. Who names no member always may.
///
/// # Errors
/// What to answer for the group.
pub(in crate::coordinator::group) fn check_fetch(
    group: &ConsumerGroup,
    member_id: Option<&StrBytes>,
    epoch: i32,
) -> Result<(), ErrorCode> {
    if member_id.is_none() && epoch < 0 {
        return Ok(());
    }
    let member = group.member(member_id.map_or("", StrBytes::as_str));
    let member = member.ok_or(ErrorCode::UnknownMemberId)?;
    check_epoch(member.is_classic(), member.holding.epoch, epoch)
}

fn check_epoch(is_classic: bool, known: i32, said: i32) -> Result<(), ErrorCode> {
    match is_classic {
        _ if said == known => Ok(()),
        true => Err(ErrorCode::IllegalGeneration),
        false => Err(ErrorCode::StaleMemberEpoch),
    }
}

impl GroupCoordinator {
    /// Lets `act` work on a group; `None` if there is none of the new kind with this id.
    fn work_on<T>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Pen<'_, '_>) -> T,
    ) -> Option<Worked<T>> {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let image = &self.image;
        self.consumers.change(id, |group| {
            let mut pen = Pen { group, turn: &mut turn, image, records: Vec::new() };
            let result = act(&mut pen);
            Worked { result, records: pen.records }
        })
    }

    /// Carries out what became of a group.
    fn settle(&mut self, now: Now, id: &str, fate: Fate, out: &mut Vec<GroupEffect>) {
        let (group, rebalances) = match fate {
            Fate::Stays => return,
            Fate::Converts => return self.begin_downgrade(now, id),
            Fate::Classic { group, rebalances } => (*group, rebalances),
        };
        let before = self.consumers.take(id);
        assert!(before.is_some(), "a group is converted once");
        self.groups.put(group);
        if rebalances {
            let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
            self.groups.change(id, |group: &mut Group| prepare(group, &mut turn));
        }
    }
}

pub(super) fn append(
    records: Vec<StateRecord>,
    reply: Option<(Ticket, GroupResponse)>,
    out: &mut Vec<GroupEffect>,
) {
    if !records.is_empty() {
        out.push(GroupEffect::Append { records, replies: reply.into_iter().collect() });
    } else if let Some((ticket, response)) = reply {
        out.push(GroupEffect::Reply { ticket, response });
    }
}

/// The id a member comes with, or one made for it.
pub(super) fn member_id(asker: &Asker<'_>, dice: &mut Dice) -> String {
    match asker.request.member_id.as_str() {
        "" => dice.uuid(),
        given => given.to_owned(),
    }
}

pub(super) fn denied_response(denied: &Denied) -> ConsumerGroupHeartbeatResponse {
    consumer_heartbeat_refused(denied.code, Some(&denied.message))
}

/// A heartbeat with who sent it.
#[must_use]
pub(in crate::coordinator::group) fn asker<'a>(
    request: &'a ConsumerGroupHeartbeatRequest,
    version: i16,
    client_id: &'a str,
    client_host: &'a str,
) -> Asker<'a> {
    Asker { request, version, client_id, client_host }
}

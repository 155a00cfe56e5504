//! Conversions of large groups, some members at a time: a thousand at once would hold up the core for
//! milliseconds.
//!
//! Does: keep what a conversion has come to; go on with it; let what its group is asked meanwhile wait,
//! and answer it afterwards.
//! Does not: say who may be converted and what comes out; `migration` does.
//! Invariants: while a group is in here its members and their shares do not change: what would change
//! them waits, alarms and requests alike; all that is written about a conversion is appended in one
//! turn, so that a log holds all of it or nothing.
//! Apart because a small group is converted at once, in the turn of the request that asks for it.
//!
//! ```text
//! a new member joins   Upgrade ─► Gathering ─► Joining ─► Upgraded ──(written)──► Parting ─┐
//! a classic group         └───────────────────────┴── denied ─────────────────────────────┤
//!                                                                                         ▼
//! the last new member  Downgrade ─► Sealing ─► Closing ─► Closed ──(written)──► Withering ─► Done: who
//! has left                                                                         waits is heard
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{self, Excluded, Unbounded};
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::time::Now;

use super::super::classic::Group;
use super::super::dispatch::GroupCoordinator;
use super::super::rebalance::prepare;
use super::super::requests::{GroupEffect, GroupRequest, GroupResponse};
use super::super::stored::group_record;
use super::super::turn::Turn;
use super::dispatch::{Worked, append, asker, denied_response, member_id};
use super::fact::Fact;
use super::heartbeat::heartbeat;
use super::migration::{
    cancel_waits, classic_shell, downgraded_member, gone, part_with, tombstones, upgraded_member,
};
use super::pen::{Denied, Pen};
use super::state::ConsumerGroup;
use crate::coordinator::Ticket;
use crate::coordinator::machine::{Machine, StateRecord};
use crate::coordinator::packing::Packing;
use crate::coordinator::timers::Alarm;
use crate::dice::Dice;
use crate::limits::{
    CONVERTING_RECORDS_PER_STEP, CONVERTING_REQUESTS_MAX, CONVERTING_REQUESTS_PER_STEP,
    CONVERTING_UNITS_PER_STEP,
};
use crate::metadata::image::Image;

/// Units to convert a member: three records, two alarms, its place in two maps. A partition is one.
const MEMBER_UNITS: usize = 16;
/// Bytes of a partition in an assignment of the classic protocol.
const PARTITION_BYTES: usize = 4;

/// A request that waits until its group is what it is to become.
#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    request: GroupRequest,
    /// Drawn when it came: what it needs of chance.
    dice: Dice,
}

/// Members of a classic group on their way into the new words, in the order of their ids.
#[derive(Clone, Debug)]
struct Upgrade {
    image: Arc<Image>,
    /// The last member that was done.
    last: Option<String>,
    group: ConsumerGroup,
    /// What members say, shall have and have: written in this order.
    records: [Vec<StateRecord>; 3],
}

/// Members of a group of the new kind on their way into the old words, in the order of their ids.
#[derive(Clone, Debug)]
struct Downgrade {
    image: Arc<Image>,
    last: Option<String>,
    group: Group,
    /// What members had, should have and said is taken out of the log, in this order.
    records: [Vec<StateRecord>; 3],
}

/// How far a conversion has come.
#[derive(Clone, Debug)]
enum Course {
    /// A classic group is put into the new words.
    Upgrade(Upgrade),
    /// All members are; what is to be written about them is put together.
    Gathering(Upgrade),
    /// The member it is done for is to join.
    Joining { group: ConsumerGroup, records: Vec<StateRecord> },
    /// It has joined what is to take the group's place; what is to be written is packed.
    Upgraded { group: ConsumerGroup, packing: Packing, reply: (Ticket, GroupResponse) },
    /// It is one of the new kind; members of the old one are told and dropped, and their sessions begin.
    Parting { old: Group },
    /// A group of the new kind is put into the old words.
    Downgrade(Downgrade),
    /// All members are; the group gets its protocol and its record.
    Sealing(Downgrade),
    /// What is to be written is put together, the group's record last.
    Closing(Downgrade, StateRecord),
    /// It is packed, and all becomes true when it is written.
    Closed { group: Group, packing: Packing },
    /// It is classic; the members of what it was are dropped.
    Withering { old: Box<ConsumerGroup> },
    /// All is done but to answer those who wait.
    Done,
}

/// A group that is being converted.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group) struct Converting {
    course: Course,
    /// Oldest first. The first one behind an upgrade is the heartbeat of the member it is for.
    waiting: VecDeque<Waiter>,
}

/// All groups that are being converted, by id.
pub(in crate::coordinator::group) type Conversions = BTreeMap<String, Converting>;

/// Whether a classic group is so large that it is converted in steps.
pub(super) fn is_large(group: &Group) -> bool {
    let units = MEMBER_UNITS * group.members().len() + group.assignments_bytes() / PARTITION_BYTES;
    units > CONVERTING_UNITS_PER_STEP
}

/// The same of a group of the new kind.
pub(super) fn is_large_consumer(group: &ConsumerGroup) -> bool {
    MEMBER_UNITS * group.members().len() + group.owned_count() > CONVERTING_UNITS_PER_STEP
}

impl Converting {
    /// Those who wait, and what refuses them.
    pub(in crate::coordinator::group) fn refusals(
        &self,
        error: ErrorCode,
    ) -> Vec<(Ticket, GroupResponse)> {
        let waiting = self.waiting.iter().map(|one| (one.ticket, one.request.refused(error)));
        let mut refused: Vec<_> = waiting.collect();
        match &self.course {
            Course::Parting { old } => {
                refused.extend(old.members().values().flat_map(|member| member.refusals(error)));
            }
            Course::Upgraded { reply: (ticket, response), .. } => {
                refused.push((*ticket, response.clone().refused(error)));
            }
            Course::Upgrade(_)
            | Course::Gathering(_)
            | Course::Joining { .. }
            | Course::Downgrade(_)
            | Course::Sealing(_)
            | Course::Closing(..)
            | Course::Closed { .. }
            | Course::Withering { .. }
            | Course::Done => {}
        }
        refused
    }
}

/// Requests.
impl GroupCoordinator {
    /// Takes in a request that a conversion under way must not meet; gives back what need not wait.
    pub(in crate::coordinator::group) fn wait_for_conversion(
        &mut self,
        dice: &mut Dice,
        ticket: Ticket,
        request: GroupRequest,
        out: &mut Vec<GroupEffect>,
    ) -> Option<GroupRequest> {
        if self.converting.is_empty() {
            return Some(request);
        }
        let Some(converting) = group_moved_by(&request).and_then(|id| self.converting.get_mut(id))
        else {
            return Some(request);
        };
        if converting.waiting.len() >= CONVERTING_REQUESTS_MAX {
            let response = request.refused(ErrorCode::CoordinatorLoadInProgress);
            out.push(GroupEffect::Reply { ticket, response });
        } else {
            let dice = Dice::new(dice.draw());
            converting.waiting.push_back(Waiter { ticket, request, dice });
        }
        None
    }

    /// Whether what an alarm is about must wait for a conversion.
    pub(in crate::coordinator::group) fn must_wait(&self, alarm: &Alarm) -> bool {
        let group = match alarm {
            Alarm::Session { group, .. }
            | Alarm::Member { group, .. }
            | Alarm::Join { group }
            | Alarm::Sync { group }
            | Alarm::Telling { group }
            | Alarm::Patterns { group }
            | Alarm::Assignment { group } => group,
            Alarm::Conversion { .. } | Alarm::Expiry => return false,
        };
        self.converting.contains_key(group)
    }

    /// The same; it falls due again at once then.
    pub(in crate::coordinator::group) fn put_off(&mut self, now: Now, alarm: &Alarm) -> bool {
        let waits = self.must_wait(alarm);
        // The conversion may have begun the session anew in this very turn: that holds.
        if waits && !self.timers.is_armed(alarm) {
            self.timers.arm(alarm.clone(), now.monotonic);
        }
        waits
    }

    /// Begins to make a classic group one of the new kind, for this heartbeat of a member that joins.
    pub(super) fn begin_upgrade(
        &mut self,
        now: Now,
        id: &str,
        (ticket, request, dice): (Ticket, GroupRequest, Dice),
    ) {
        let upgrade = Upgrade {
            image: self.image.clone(),
            last: None,
            group: ConsumerGroup::new(id),
            records: Default::default(),
        };
        let waiting = VecDeque::from([Waiter { ticket, request, dice }]);
        self.begin_converting(now, id, Converting { course: Course::Upgrade(upgrade), waiting });
    }

    /// Begins to make a group of the new kind a classic one: all its members are.
    pub(super) fn begin_downgrade(&mut self, now: Now, id: &str) {
        let from = self.consumers.get(id).expect("the group is there");
        let downgrade = Downgrade {
            image: self.image.clone(),
            last: None,
            group: classic_shell(from, now.wall),
            records: Default::default(),
        };
        let (course, waiting) = (Course::Downgrade(downgrade), VecDeque::new());
        self.begin_converting(now, id, Converting { course, waiting });
    }

    fn begin_converting(&mut self, now: Now, id: &str, converting: Converting) {
        let before = self.converting.insert(id.to_owned(), converting);
        assert!(before.is_none(), "a group is converted once at a time");
        self.timers.arm(Alarm::Conversion { group: id.to_owned() }, now.monotonic);
    }
}

/// Steps.
impl GroupCoordinator {
    /// Goes on with a conversion; at its end those who wait for it are heard.
    pub(in crate::coordinator::group) fn go_on_converting(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<GroupEffect>,
    ) {
        let Some(Converting { course, mut waiting }) = self.converting.remove(id) else { return };
        let course = match course {
            Course::Upgrade(upgrade) => self.upgrade_some(upgrade, &mut waiting, out),
            Course::Gathering(upgrade) => self.gather(upgrade),
            Course::Joining { group, records } => {
                self.end_upgrade(now, (group, records), &mut waiting, out)
            }
            Course::Upgraded { group, mut packing, reply } => {
                if packing.go_on(now, CONVERTING_RECORDS_PER_STEP) {
                    let (batches, replies) = (packing.finish(), vec![reply]);
                    out.push(GroupEffect::AppendPacked { batches, replies });
                    self.install(group)
                } else {
                    Course::Upgraded { group, packing, reply }
                }
            }
            Course::Parting { old } => self.part_with_some(now, old, out),
            Course::Downgrade(downgrade) => self.downgrade_some(now, downgrade),
            Course::Sealing(downgrade) => seal(downgrade),
            Course::Closing(downgrade, record) => self.put_together(downgrade, record),
            Course::Closed { group, mut packing } => {
                if packing.go_on(now, CONVERTING_RECORDS_PER_STEP) {
                    let (batches, replies) = (packing.finish(), Vec::new());
                    out.push(GroupEffect::AppendPacked { batches, replies });
                    self.close(now, group, out)
                } else {
                    Course::Closed { group, packing }
                }
            }
            Course::Withering { mut old } => {
                match old.wither(CONVERTING_UNITS_PER_STEP / MEMBER_UNITS) {
                    true => Course::Done,
                    false => Course::Withering { old },
                }
            }
            Course::Done => return self.hear(now, id, waiting, out),
        };
        self.converting.insert(id.to_owned(), Converting { course, waiting });
        self.timers.arm(Alarm::Conversion { group: id.to_owned() }, now.monotonic);
    }

    /// Answers some of those who wait, oldest first.
    fn hear(
        &mut self,
        now: Now,
        id: &str,
        mut waiting: VecDeque<Waiter>,
        out: &mut Vec<GroupEffect>,
    ) {
        for _ in 0..CONVERTING_REQUESTS_PER_STEP {
            let Some(Waiter { ticket, request, mut dice }) = waiting.pop_front() else { return };
            self.handle(now, &mut dice, ticket, request, out);
            if let Some(next) = self.converting.get_mut(id) {
                // It began the way back, or another attempt: the others wait for that.
                return next.waiting.extend(waiting);
            }
        }
        self.begin_converting(now, id, Converting { course: Course::Done, waiting });
    }

    fn upgrade_some(
        &mut self,
        mut upgrade: Upgrade,
        waiting: &mut VecDeque<Waiter>,
        out: &mut Vec<GroupEffect>,
    ) -> Course {
        let group = &mut upgrade.group;
        let from = self.groups.get(&group.id).expect("a classic group is being converted");
        let mut units = 0;
        let last = upgrade.last.take();
        for (_, member) in from.members().range::<String, _>((behind(last.as_ref()), Unbounded)) {
            let facts = match upgraded_member(from, member, &upgrade.image) {
                Ok(facts) => facts,
                Err(denied) => return deny(waiting, &denied, out),
            };
            for (records, fact) in upgrade.records.iter_mut().zip(facts) {
                records.push(fact.record(&group.id));
                group.apply(fact);
            }
            units += MEMBER_UNITS + member.assignment.len() / PARTITION_BYTES;
            if units >= CONVERTING_UNITS_PER_STEP {
                upgrade.last = Some(member.id.clone());
                return Course::Upgrade(upgrade);
            }
        }
        Course::Gathering(upgrade)
    }

    fn gather(&self, upgrade: Upgrade) -> Course {
        let Upgrade { mut group, records: [mut records, targets, holdings], .. } = upgrade;
        let from = self.groups.get(&group.id).expect("a classic group is being converted");
        let epoch = from.generation;
        records.reserve(targets.len() + holdings.len() + 2);
        let facts = [Fact::Epoch { epoch, topics_hash: 0 }, Fact::TargetEpoch(epoch)];
        for (fact, behind) in facts.into_iter().zip([targets, holdings]) {
            records.push(fact.record(&group.id));
            records.extend(behind);
            group.apply(fact);
        }
        Course::Joining { group, records }
    }

    /// The member it was all done for joins, and the group is what it has become; or nothing has
    /// happened.
    fn end_upgrade(
        &mut self,
        now: Now,
        upgraded: (ConsumerGroup, Vec<StateRecord>),
        waiting: &mut VecDeque<Waiter>,
        out: &mut Vec<GroupEffect>,
    ) -> Course {
        let Some(Waiter { ticket, request, mut dice }) = waiting.pop_front() else {
            unreachable!("an upgrade is for somebody")
        };
        let GroupRequest::ConsumerHeartbeat { request, version, client_id, client_host } = request
        else {
            unreachable!("what upgrades a group is a heartbeat of the new kind")
        };
        let asker = asker(&request, version, &client_id, &client_host);
        let member_id = member_id(&asker, &mut dice);
        let beat = |pen: &mut Pen<'_, '_>| heartbeat(pen, &asker, &member_id);
        let (response, course) = match self.try_out(now, upgraded, out, beat) {
            Ok((group, Worked { result, records })) => {
                let reply = (ticket, GroupResponse::ConsumerHeartbeat(result));
                return Course::Upgraded { group, packing: Packing::new(records), reply };
            }
            Err(denied) => (denied_response(&denied), Course::Done),
        };
        append(Vec::new(), Some((ticket, GroupResponse::ConsumerHeartbeat(response))), out);
        course
    }

    /// What is written becomes true.
    fn install(&mut self, group: ConsumerGroup) -> Course {
        let old = self.groups.take(&group.id).expect("a classic group is being converted");
        self.consumers.put(group);
        Course::Parting { old }
    }

    fn part_with_some(&mut self, now: Now, mut old: Group, out: &mut Vec<GroupEffect>) -> Course {
        let group = self.consumers.get(&old.id).expect("the group is of the new kind now");
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        for _ in 0..CONVERTING_UNITS_PER_STEP / MEMBER_UNITS {
            let Some(member) = old.pop_member() else {
                turn.timers.cancel(&Alarm::Join { group: old.id.clone() });
                turn.timers.cancel(&Alarm::Sync { group: old.id.clone() });
                return Course::Done;
            };
            part_with(group, &member, &mut turn);
        }
        Course::Parting { old }
    }

    fn downgrade_some(&mut self, now: Now, mut downgrade: Downgrade) -> Course {
        let group = &mut downgrade.group;
        let from = self.consumers.get(&group.id).expect("a group of the new kind is converted");
        let mut out = Vec::new();
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out: &mut out };
        let mut units = 0;
        let last = downgrade.last.take();
        for (id, known) in from.members().range::<String, _>((behind(last.as_ref()), Unbounded)) {
            let member = downgraded_member(from, id, &downgrade.image);
            cancel_waits(&group.id, id, &mut turn);
            turn.renew_session(&group.id, id, member.session_timeout_ms);
            group.restore(member);
            for (records, fact) in downgrade.records.iter_mut().zip(gone(id)) {
                records.push(fact.record(&group.id));
            }
            units += MEMBER_UNITS + known.holding.assigned.count();
            if units >= CONVERTING_UNITS_PER_STEP {
                downgrade.last = Some(id.clone());
                return Course::Downgrade(downgrade);
            }
        }
        Course::Sealing(downgrade)
    }

    fn put_together(&self, downgrade: Downgrade, record: StateRecord) -> Course {
        let Downgrade { group, records, .. } = downgrade;
        let from = self.consumers.get(&group.id).expect("a group of the new kind is converted");
        let mut records = tombstones(from, records);
        records.push(record);
        Course::Closed { group, packing: Packing::new(records) }
    }

    /// The group is classic from now on; its members must join again.
    fn close(&mut self, now: Now, group: Group, out: &mut Vec<GroupEffect>) -> Course {
        let id = group.id.clone();
        self.timers.cancel(&Alarm::Patterns { group: id.clone() });
        self.timers.cancel(&Alarm::Assignment { group: id.clone() });
        let before = self.consumers.take(&id).expect("a group of the new kind is converted");
        self.groups.put(group);
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        self.groups.change(&id, |group| prepare(group, &mut turn));
        Course::Withering { old: Box::new(before) }
    }
}

fn seal(mut downgrade: Downgrade) -> Course {
    let group = &mut downgrade.group;
    group.protocol = group.choose_protocol();
    group.restored(None);
    let record = group_record(group);
    Course::Closing(downgrade, record)
}

/// Where the members behind this one begin, or all of them.
fn behind(last: Option<&String>) -> Bound<&String> {
    last.map_or(Unbounded, Excluded)
}

/// The member that asked is told why; the group stays what it is, and the others go on.
fn deny(waiting: &mut VecDeque<Waiter>, denied: &Denied, out: &mut Vec<GroupEffect>) -> Course {
    let first = waiting.pop_front().expect("an upgrade is for somebody");
    let response = GroupResponse::ConsumerHeartbeat(denied_response(denied));
    out.push(GroupEffect::Reply { ticket: first.ticket, response });
    Course::Done
}

/// The group whose members a request may move, or ask about what moves.
fn group_moved_by(request: &GroupRequest) -> Option<&str> {
    match request {
        GroupRequest::Join { request, .. } => Some(&request.group_id),
        GroupRequest::Sync { request } => Some(&request.group_id),
        GroupRequest::Heartbeat { request } => Some(&request.group_id),
        GroupRequest::Leave { request, .. } => Some(&request.group_id),
        GroupRequest::ConsumerHeartbeat { request, .. } => Some(&request.group_id),
        // They look at the group as it still is, and do not change it.
        GroupRequest::DescribeConsumer { .. }
        | GroupRequest::CommitOffsets { .. }
        | GroupRequest::CommitWithin { .. }
        | GroupRequest::FetchOffsets { .. }
        | GroupRequest::Describe { .. }
        | GroupRequest::List { .. }
        | GroupRequest::Delete { .. }
        | GroupRequest::DeleteOffsets { .. }
        | GroupRequest::TopicsDeleted { .. } => None,
    }
}

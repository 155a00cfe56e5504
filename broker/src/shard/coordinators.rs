//! The coordinators that live on this core: one per partition of `__consumer_offsets` and of
//! `__transaction_state`.
//!
//! Does: load a coordinator when this core leads its partition, hand it its requests, append
//! what it decides, release its answers when that is committed.
//! Does not: know how groups or transactions work; `replication::coordinator` does.
//! Invariants: a coordinator exists for every partition of these topics hosted here; the records of
//! one turn leave in one batch per coordinator (and those of each transaction in one of their own).
//! Apart because it is the only place where groups meet partitions; what transactions want beyond
//! that is in `ends` and `within`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::check;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, ProducerId};
use flumen_protocol::time::WallTrust;
use flumen_replication::coordinator::group::consumer::{Assignor, MigrationPolicy};
use flumen_replication::coordinator::group::{
    ConsumerConfig, GroupConfig, GroupCoordinator, GroupRequest, GroupResponse,
};
use flumen_replication::coordinator::producer::Outcome;
use flumen_replication::coordinator::runtime::{
    AppendFailure, Coordinator, CoordinatorEffect, Phase,
};
use flumen_replication::coordinator::transaction::TransactionConfig;
use flumen_replication::error::Refusal;
use flumen_replication::metadata::image::Image;
use flumen_replication::outbox::{Appended, Ticket};
use flumen_replication::partition::{Acks, Append, Origin};
use flumen_storage::limits::QUEUE_BYTES_MAX;
use tracing::{error, info};

use super::mailbox::Answer;
use super::partitions::{COORDINATOR, FORGETTING};
use super::room::{CoordinatorConfigs, Room, RoomKind, Wish, group_wishes};
use super::routing::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use super::shard::Shard;
use super::timers::Due;
use crate::config::kind::words;
use crate::config::options::Options;
use crate::limits::{COORDINATORS_BYTES_MIN, COORDINATORS_SHARE, TOPICS_TO_FORGET};
use crate::telemetry::metrics::RefusedReason;

/// A batch of a coordinator is never given up by the partition; the coordinator has its own
/// time-out for those who wait.
const APPEND_PATIENCE: Duration = Duration::from_secs(3600);

/// The coordinators of one core.
pub struct Coordinators {
    configs: CoordinatorConfigs,
    /// What all of them may weigh together.
    weight_max: usize,
    /// What each weighed when a turn of it ended last, none where it was nothing, and the sum of that.
    weights: BTreeMap<LogId, usize>,
    weight: usize,
    pub(super) rooms: BTreeMap<LogId, Room>,
    /// Those that may have gathered records in this turn.
    pub(super) touched: BTreeSet<LogId>,
    /// Those whose machine was dropped and must be loaded again when the turn ends.
    dropped: BTreeSet<LogId>,
    /// Batches on their way: our number → whose it is and its number there.
    in_flight: BTreeMap<u64, (LogId, u64)>,
    next_append: u64,
    /// Deleted topics whose offsets a coordinator must forget once it takes requests, before it
    /// takes any other.
    to_forget: BTreeMap<LogId, BTreeSet<String>>,
    /// Those a coordinator was asked to forget: our number → whose it is and which.
    forgetting: BTreeMap<u64, (LogId, BTreeSet<String>)>,
    next_forgetting: u64,
}

impl Coordinators {
    /// None yet, on a core whose requests may hold so many bytes.
    pub fn new(options: &Options, request_bytes: usize) -> Self {
        let configs = CoordinatorConfigs {
            groups: group_config(options),
            transactions: transaction_config(options),
        };
        let share = request_bytes.saturating_mul(COORDINATORS_SHARE);
        Self {
            configs,
            weight_max: share.max(COORDINATORS_BYTES_MIN),
            weights: BTreeMap::new(),
            weight: 0,
            rooms: BTreeMap::new(),
            touched: BTreeSet::new(),
            dropped: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            next_append: 0,
            to_forget: BTreeMap::new(),
            forgetting: BTreeMap::new(),
            next_forgetting: 0,
        }
    }

    /// Keeps in mind which deleted topics a coordinator must forget.
    fn remember(&mut self, log: LogId, names: impl IntoIterator<Item = String>) {
        let known = self.to_forget.entry(log).or_default();
        known.extend(names);
        while known.len() > TOPICS_TO_FORGET {
            known.pop_last();
        }
    }

    /// Weighs one again, after it may have changed.
    fn weigh(&mut self, log: LogId) {
        let now = self.rooms.get(&log).map_or(0, Room::weight_bytes);
        let before = match now {
            0 => self.weights.remove(&log),
            weight => self.weights.insert(log, weight),
        };
        self.weight = self.weight - before.unwrap_or(0) + now;
    }

    /// The one of this partition, which is told what the others leave to it. They may weigh more by what the
    /// requests of one turn bring.
    pub(super) fn room_to_ask(&mut self, log: LogId) -> Option<&mut Room> {
        let room = self.rooms.get_mut(&log)?;
        let others = self.weight - self.weights.get(&log).copied().unwrap_or(0);
        room.set_weight_max(self.weight_max.saturating_sub(others));
        Some(room)
    }

    /// Those of groups and the partitions they live in, from one of these on, for metrics.
    pub fn rooms_from(
        &self,
        first: Option<LogId>,
    ) -> impl Iterator<Item = (LogId, &Coordinator<GroupCoordinator>)> {
        let first = first.map_or(Bound::Unbounded, Bound::Included);
        let rooms = self.rooms.range((first, Bound::Unbounded));
        rooms.filter_map(|(log, room)| Some((*log, room.groups()?)))
    }
}

fn group_config(options: &Options) -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: options.group_min_session_timeout_ms,
        max_session_timeout_ms: options.group_max_session_timeout_ms,
        max_size: usize::try_from(options.group_max_size).unwrap_or(usize::MAX),
        initial_rebalance_delay_ms: options.group_initial_rebalance_delay_ms,
        offset_metadata_max_bytes: usize::try_from(options.offset_metadata_max_bytes).unwrap_or(0),
        offsets_retention_ms: i64::from(options.offsets_retention_minutes) * 60_000,
        offsets_retention_check_interval_ms: positive(options.offsets_retention_check_interval_ms),
        commit_timeout_ms: positive(i64::from(options.offsets_commit_timeout_ms)),
        consumer: consumer_config(options),
    }
}

fn consumer_config(options: &Options) -> ConsumerConfig {
    let policy = options.consumer_groups.migration_policy.as_deref().unwrap_or_default();
    let default = ConsumerConfig::default();
    ConsumerConfig {
        session_timeout_ms: options.consumer_groups.session_timeout_ms,
        heartbeat_interval_ms: options.consumer_groups.heartbeat_interval_ms,
        max_size: usize::try_from(options.consumer_groups.max_size).unwrap_or(usize::MAX),
        assignors: assignors(options).unwrap_or(default.assignors),
        migration_policy: MigrationPolicy::named(policy).unwrap_or(default.migration_policy),
        ..default
    }
}

/// Those of the configuration, each once; `None` if it names none.
fn assignors(options: &Options) -> Option<Vec<Assignor>> {
    let mut known = Vec::new();
    for name in words(options.consumer_groups.assignors.as_deref().unwrap_or_default()) {
        known.extend(Assignor::named(name).filter(|named| !known.contains(named)));
    }
    Some(known).filter(|known| !known.is_empty())
}

fn transaction_config(options: &Options) -> TransactionConfig {
    let interval_ms = options.transactions.remove_expired_interval_ms;
    TransactionConfig {
        max_timeout_ms: options.transactions.max_timeout_ms,
        id_expiration_ms: i64::from(options.transactions.id_expiration_ms),
        id_expiration_check_interval_ms: positive(i64::from(interval_ms)),
        commit_timeout_ms: positive(i64::from(options.request_timeout_ms)),
    }
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Shard {
    /// Leadership of a partition came or went; a coordinator comes or goes with it.
    pub(super) fn leadership_changed(&mut self, log: LogId, leads: bool) {
        let name = self.image.topic(log.topic).map(|topic| topic.name.as_str());
        match name {
            Some(OFFSETS_TOPIC) => self.host_coordinator(log, RoomKind::Groups, leads),
            Some(TRANSACTIONS_TOPIC) => self.host_coordinator(log, RoomKind::Transactions, leads),
            Some(_) | None => {}
        }
    }

    /// Loads the coordinator of a partition this core leads, or lets it go.
    fn host_coordinator(&mut self, log: LogId, kind: RoomKind, leads: bool) {
        let configs = &self.coordinators.configs;
        let room = self.coordinators.rooms.entry(log).or_insert_with(|| Room::new(kind, configs));
        let wishes = room.resign();
        room.learn(&self.image);
        if leads {
            room.begin_load();
        }
        self.coordinators.weigh(log);
        self.forget_ends(log);
        self.grant_coordinator(log, wishes);
        self.loads.forget(log);
        // Without the commits that are lost, groups would begin again where they were long ago, and
        // transactions that were decided might end otherwise: they are told to wait.
        if leads && !self.is_held(log) {
            self.begin_load(log);
        }
    }

    /// The cluster's metadata has changed.
    pub(super) fn coordinators_learn(&mut self, image: &Arc<Image>) {
        self.coordinators.rooms.values_mut().for_each(|room| room.learn(image));
    }

    /// A partition was removed, and the coordinator with it that lived there, if one did.
    pub(super) fn drop_coordinator(&mut self, log: LogId) {
        if let Some(mut room) = self.coordinators.rooms.remove(&log) {
            let wishes = room.resign();
            self.coordinators.weigh(log);
            self.grant_coordinator(log, wishes);
        }
        self.forget_ends(log);
        self.coordinators.to_forget.remove(&log);
        self.timers.arm(Due::Coordinator(log), None);
        self.loads.forget(log);
    }

    /// One step of a load.
    pub(super) fn replay_coordinator(&mut self, log: LogId, batch: &Bytes) {
        let Some(room) = self.coordinators.rooms.get_mut(&log) else { return };
        if room.phase() == Phase::Loading
            && let Err(why) = room.replay_batch(batch)
        {
            error!(%log, ?why, "a coordinator cannot be loaded: what it holds is not served");
            self.loads.forget(log);
        }
    }

    /// A load is complete.
    pub(super) fn coordinator_loaded(&mut self, log: LogId) {
        let Some(room) = self.coordinators.rooms.get_mut(&log) else { return };
        if room.phase() == Phase::Loading {
            let wishes = room.finish_load(self.now);
            self.coordinators.touched.insert(log);
            if let Some(groups) = room.groups() {
                let count = groups.groups().count();
                if count > 0 {
                    info!(%log, groups = count, "groups are loaded");
                }
                // A deletion may be durable while the tombstones behind it are not.
                let topics: BTreeSet<&str> = groups.committed().map(|row| row.topic).collect();
                let is_gone = |name: &&str| self.image.topic_named(name).is_none();
                let gone: Vec<String> =
                    topics.into_iter().filter(is_gone).map(str::to_owned).collect();
                self.coordinators.remember(log, gone);
            } else if !wishes.is_empty() {
                info!(%log, ends = wishes.len(), "ends of transactions are still to be written");
            }
            self.grant_coordinator(log, wishes);
            self.forget_offsets(log);
        }
        self.look_at_coordinator(log);
    }

    /// Hands a request to the coordinator of groups of this partition.
    pub(super) fn ask_coordinator(&mut self, ticket: Ticket, log: LogId, request: GroupRequest) {
        // Refused here and not when its batch is appended: a batch that fails costs the room all
        // that it holds. Groups are small; they get room where producers have none left.
        if !self.journal_has_room(QUEUE_BYTES_MAX) && is_change(&request) {
            self.metrics.refused(RefusedReason::Memory);
            let response = request.refused(ErrorCode::CoordinatorNotAvailable);
            return self.answer(ticket, Answer::Group(Box::new(response)));
        }
        let Some(Room::Groups(room)) = self.coordinators.room_to_ask(log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let (now, dice) = (self.now, &mut self.dice);
        let wishes = group_wishes(|out| room.handle(now, dice, ticket, request, out));
        self.coordinators.touched.insert(log);
        self.grant_coordinator(log, wishes);
        self.look_at_coordinator(log);
    }

    /// Asks every coordinator of groups of this core the same and answers with all they say.
    pub(super) fn ask_coordinators(&mut self, ticket: Ticket, request: &GroupRequest) {
        let mut responses: Vec<GroupResponse> = Vec::new();
        // An idle room holds no groups; a loading one says that it does not know yet.
        let rooms = self.coordinators.rooms.values_mut();
        for room in rooms.filter(|room| room.phase() != Phase::Idle) {
            let Room::Groups(room) = room else { continue };
            let mut out = Vec::new();
            room.handle(self.now, &mut self.dice, ticket, request.clone(), &mut out);
            for effect in out {
                match effect {
                    CoordinatorEffect::Reply { response, .. } => responses.push(response),
                    CoordinatorEffect::Append { .. } => {
                        unreachable!("listing groups changes nothing")
                    }
                    CoordinatorEffect::Announce(never) => match never {},
                }
            }
        }
        self.answer(ticket, Answer::Groups(responses));
    }

    /// Topics were deleted: no coordinator keeps offsets of them (G127). One that cannot be asked now
    /// is asked as soon as it can be, before clients are: a topic of the same name made later must
    /// not be read from where readers of this one were.
    pub(super) fn forget_offsets_of(&mut self, names: &[String]) {
        let rooms = self.coordinators.rooms.iter();
        let groups = rooms.filter(|(_, room)| room.groups().is_some());
        let logs: Vec<LogId> = groups.map(|(log, _)| *log).collect();
        for log in logs {
            self.coordinators.remember(log, names.iter().cloned());
            self.forget_offsets(log);
        }
    }

    fn forget_offsets(&mut self, log: LogId) {
        let room = self.coordinators.rooms.get(&log);
        if !room.is_some_and(Room::takes_requests) {
            return;
        }
        let Some(names) = self.coordinators.to_forget.remove(&log).filter(|it| !it.is_empty())
        else {
            return;
        };
        let number = self.coordinators.next_forgetting;
        self.coordinators.next_forgetting += 1;
        let request = GroupRequest::TopicsDeleted { names: names.iter().cloned().collect() };
        self.coordinators.forgetting.insert(number, (log, names));
        self.ask_coordinator(self.internal(FORGETTING, number), log, request);
    }

    /// A coordinator has forgotten deleted topics, or was dropped on the way and must be asked again
    /// when it is loaded. One that only takes long has it in its log already: asked again, it could
    /// forget what was committed since for a topic of the same name.
    pub(super) fn offsets_forgotten(&mut self, number: u64, answer: &Answer) {
        let Some((log, names)) = self.coordinators.forgetting.remove(&number) else { return };
        let is_done = matches!(answer, Answer::Group(response)
            if matches!(**response, GroupResponse::TopicsDeleted(ErrorCode::None)));
        let room = self.coordinators.rooms.get(&log);
        if !is_done && room.is_some_and(|room| room.phase() != Phase::Active) {
            self.coordinators.remember(log, names);
        }
    }

    /// Something of a coordinator is due.
    pub(super) fn coordinator_due(&mut self, log: LogId) {
        let Some(room) = self.coordinators.rooms.get_mut(&log) else { return };
        let wall = match self.store.is_clock_doubted() {
            false => WallTrust::Trusted,
            true => WallTrust::Doubted,
        };
        let wishes = room.on_time(self.now, wall);
        self.coordinators.touched.insert(log);
        self.grant_coordinator(log, wishes);
        self.look_at_coordinator(log);
    }

    /// Ends the turn of every coordinator that was touched: what it gathered leaves as one batch.
    /// Those that were dropped load again what their log really holds.
    pub(super) fn settle_coordinators(&mut self) {
        if self.coordinators.dropped.is_empty() && self.coordinators.touched.is_empty() {
            return;
        }
        for log in std::mem::take(&mut self.coordinators.dropped) {
            if self.partitions.get(&log).is_some_and(|partition| partition.is_leader()) {
                self.leadership_changed(log, true);
            }
        }
        for log in std::mem::take(&mut self.coordinators.touched) {
            if let Some(room) = self.coordinators.rooms.get_mut(&log) {
                let wishes = room.settle(self.now);
                self.coordinators.weigh(log);
                self.grant_coordinator(log, wishes);
                self.look_at_coordinator(log);
            }
        }
    }

    pub(super) fn look_at_coordinator(&mut self, log: LogId) {
        let next = self.coordinators.rooms.get(&log).and_then(Room::next_deadline);
        self.timers.arm(Due::Coordinator(log), next);
    }

    pub(super) fn grant_coordinator(&mut self, log: LogId, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Answer(ticket, answer) => self.answer(ticket, answer),
                Wish::End(owed) => self.begin_end(log, owed),
                Wish::Append(batch, id) => {
                    // Once a batch has failed, what the dropped machine decided after it must
                    // not reach the log either.
                    let rooms = &self.coordinators.rooms;
                    if rooms.get(&log).is_some_and(|room| room.phase() != Phase::Idle) {
                        self.append_decided(log, batch, id);
                    }
                }
            }
        }
    }

    fn append_decided(&mut self, log: LogId, batch: BytesMut, id: u64) {
        let number = self.coordinators.next_append;
        self.coordinators.next_append += 1;
        self.coordinators.in_flight.insert(number, (log, id));
        let ticket = self.internal(COORDINATOR, number);
        let summary = check::check_coordinated(&batch)
            .unwrap_or_else(|fault| unreachable!("our own batch is sound: {fault:?}"));
        let may_relax = self.store.journal().has_room();
        // Transactions end also on a disk that is nearly full, and none begins (`ask_transaction`): readers
        // wait for ends, and an end that is due would be decided and refused again and again.
        let room = self.coordinators.rooms.get(&log);
        let may = self.writable || room.is_some_and(|room| room.transactions().is_some());
        let Some(partition) = self.partitions.get_mut(&log).filter(|_| may) else {
            return self.coordinator_appended(number, Err(Refusal::NoRoom));
        };
        let append = Append {
            batch,
            summary,
            ticket,
            acks: Acks::All,
            deadline: self.now.monotonic.after(APPEND_PATIENCE),
            may_relax,
            may_begin: true,
            leader_epoch: None,
            origin: Origin::Coordinator,
        };
        // A refusal comes back as a release, like every other outcome.
        let _released = partition.append(self.now, append, &mut self.outbox);
        self.look_at_deadline(log);
        self.carry_out();
    }

    /// A batch of a coordinator is committed, or failed.
    pub(super) fn coordinator_appended(&mut self, number: u64, outcome: Appended) {
        let Some((log, id)) = self.coordinators.in_flight.remove(&number) else { return };
        let Some(room) = self.coordinators.rooms.get_mut(&log) else { return };
        let failure = |refusal: &Refusal| match refusal {
            Refusal::NotLeader { .. }
            | Refusal::FencedLeaderEpoch
            | Refusal::UnknownLeaderEpoch
            | Refusal::Gone => AppendFailure::NotLeader,
            Refusal::OffsetOutOfRange { .. }
            | Refusal::OffsetNotAvailable
            | Refusal::OutOfOrderSequence { .. }
            | Refusal::StaleProducerEpoch { .. }
            | Refusal::NoTransaction
            | Refusal::NotVerified(_)
            | Refusal::CoordinatorFenced { .. }
            | Refusal::TooManyTransactions
            | Refusal::TimedOut
            | Refusal::Busy
            | Refusal::OffsetsUsedUp
            | Refusal::NoRoom
            | Refusal::Storage => AppendFailure::Unavailable,
        };
        let wishes = room.appended(id, outcome.as_ref().map(drop).map_err(failure));
        if room.phase() == Phase::Idle {
            self.coordinators.dropped.insert(log);
            self.forget_ends(log);
        }
        self.grant_coordinator(log, wishes);
        self.forget_offsets(log);
        self.look_at_coordinator(log);
    }
}

/// Ends of transactions in the logs of groups.
impl Shard {
    /// Whether a marker may be written to this log now: the coordinator that lives in it has to hear of
    /// it, and does not while it is being loaded.
    pub(super) fn may_end(&self, log: LogId) -> bool {
        self.coordinators.rooms.get(&log).is_none_or(|room| room.phase() == Phase::Active)
    }

    /// The marker of a transaction is committed in this log.
    pub(super) fn transaction_ended(&mut self, log: LogId, producer: ProducerId, commit: bool) {
        if let Some(room) = self.coordinators.rooms.get_mut(&log) {
            let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
            room.transaction_ended(producer, outcome);
        }
    }
}

/// Whether a client's request may lead to records.
fn is_change(request: &GroupRequest) -> bool {
    match request {
        GroupRequest::Join { .. }
        | GroupRequest::Sync { .. }
        | GroupRequest::Leave { .. }
        | GroupRequest::CommitOffsets { .. }
        | GroupRequest::CommitWithin { .. }
        | GroupRequest::Delete { .. }
        | GroupRequest::DeleteOffsets { .. }
        // Nearly all of them change nothing, but nobody knows before.
        | GroupRequest::ConsumerHeartbeat { .. } => true,
        // A deletion of topics is the broker's own word and must not be lost.
        GroupRequest::TopicsDeleted { .. }
        | GroupRequest::Heartbeat { .. }
        | GroupRequest::FetchOffsets { .. }
        | GroupRequest::Describe { .. }
        | GroupRequest::DescribeConsumer { .. }
        | GroupRequest::List { .. } => false,
    }
}

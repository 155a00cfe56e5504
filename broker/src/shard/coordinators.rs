//! The group coordinators that live on this core: one per partition of `__consumer_offsets`.
//!
//! Does: load a coordinator when this core leads its partition, hand it its requests, append
//! what it decides, release its answers when that is committed.
//! Does not: know how groups work; `replication::coordinator` does.
//! Invariants: a coordinator exists for every partition of the offsets topic hosted here; the
//! records of one turn leave in one batch per coordinator.
//! Apart because it is the only place where groups meet partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::check;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_replication::coordinator::group::{GroupConfig, GroupRequest, GroupResponse};
use flumen_replication::coordinator::runtime::{
    AppendFailure, Coordinator, CoordinatorEffect, Phase,
};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::{Appended, Ticket};
use flumen_replication::partition::{Acks, Append};
use flumen_storage::limits::QUEUE_BYTES_MAX;
use tracing::{error, info};

use super::mailbox::Answer;
use super::partitions::{COORDINATOR, FORGETTING};
use super::routing::OFFSETS_TOPIC;
use super::shard::Shard;
use super::timers::Due;
use crate::config::options::Options;
use crate::limits::TOPICS_TO_FORGET;
use crate::telemetry::metrics::RefusedReason;

/// A batch of a coordinator is never given up by the partition; the coordinator has its own
/// time-out for those who wait.
const APPEND_PATIENCE: Duration = Duration::from_secs(3600);

/// The coordinators of one core.
pub struct Coordinators {
    config: GroupConfig,
    rooms: BTreeMap<LogId, Coordinator>,
    /// Those that may have gathered records in this turn.
    touched: BTreeSet<LogId>,
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
    /// None yet.
    pub fn new(options: &Options) -> Self {
        let positive = |value: i64| u64::try_from(value).unwrap_or(0);
        let config = GroupConfig {
            min_session_timeout_ms: options.group_min_session_timeout_ms,
            max_session_timeout_ms: options.group_max_session_timeout_ms,
            max_size: usize::try_from(options.group_max_size).unwrap_or(usize::MAX),
            initial_rebalance_delay_ms: options.group_initial_rebalance_delay_ms,
            offset_metadata_max_bytes: usize::try_from(options.offset_metadata_max_bytes)
                .unwrap_or(0),
            offsets_retention_ms: i64::from(options.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: positive(
                options.offsets_retention_check_interval_ms,
            ),
            commit_timeout_ms: positive(i64::from(options.offsets_commit_timeout_ms)),
        };
        Self {
            config,
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

    /// All of them, for metrics.
    pub fn rooms(&self) -> impl Iterator<Item = &Coordinator> {
        self.rooms.values()
    }
}

impl Shard {
    /// Leadership of a partition came or went; a coordinator comes or goes with it.
    pub(super) fn leadership_changed(&mut self, log: LogId, leads: bool) {
        let is_offsets =
            self.image.topic(log.topic).is_some_and(|topic| topic.name == OFFSETS_TOPIC);
        if is_offsets {
            self.host_coordinator(log, leads);
        }
    }

    /// Loads the coordinator of a partition this core leads, or lets it go.
    pub(super) fn host_coordinator(&mut self, log: LogId, leads: bool) {
        let config = &self.coordinators.config;
        let room =
            self.coordinators.rooms.entry(log).or_insert_with(|| Coordinator::new(config.clone()));
        let mut out = Vec::new();
        room.resign(&mut out);
        if leads {
            room.begin_load();
        }
        self.grant_coordinator(log, out);
        self.loads.forget(log);
        // Without the commits that are lost, groups would begin again where they were long ago: they
        // are told to wait.
        if leads && !self.is_held(log) {
            self.begin_load(log);
        }
    }

    /// A partition of the offsets topic was removed.
    pub(super) fn drop_coordinator(&mut self, log: LogId) {
        if let Some(mut room) = self.coordinators.rooms.remove(&log) {
            let mut out = Vec::new();
            room.resign(&mut out);
            self.grant_coordinator(log, out);
        }
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
            error!(%log, ?why, "groups of this partition cannot be loaded and are not served");
            self.loads.forget(log);
        }
    }

    /// A load is complete.
    pub(super) fn coordinator_loaded(&mut self, log: LogId) {
        let Some(room) = self.coordinators.rooms.get_mut(&log) else { return };
        if room.phase() == Phase::Loading {
            room.finish_load(self.now);
            let groups = room.groups().count();
            if groups > 0 {
                info!(%log, groups, "groups are loaded");
            }
            // A deletion may be durable while the tombstones behind it are not.
            let topics: BTreeSet<&str> = room.committed().map(|row| row.topic).collect();
            let gone = topics.into_iter().filter(|name| self.image.topic_named(name).is_none());
            let gone: Vec<String> = gone.map(str::to_owned).collect();
            self.coordinators.remember(log, gone);
            self.forget_offsets(log);
        }
        self.look_at_coordinator(log);
    }

    /// Hands a request to the coordinator of this partition.
    pub(super) fn ask_coordinator(&mut self, ticket: Ticket, log: LogId, request: GroupRequest) {
        // Refused here and not when its batch is appended: a batch that fails costs the room all
        // that it holds. Groups are small; they get room where producers have none left.
        if !self.journal_has_room(QUEUE_BYTES_MAX) && is_change(&request) {
            self.metrics.refused(RefusedReason::Memory);
            let response = request.refused(ErrorCode::CoordinatorNotAvailable);
            return self.answer(ticket, Answer::Group(Box::new(response)));
        }
        let Some(room) = self.coordinators.rooms.get_mut(&log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let mut out = Vec::new();
        room.handle(self.now, &mut self.dice, ticket, request, &mut out);
        self.coordinators.touched.insert(log);
        self.grant_coordinator(log, out);
        self.look_at_coordinator(log);
    }

    /// Asks every coordinator of this core the same and answers with all they say.
    pub(super) fn ask_coordinators(&mut self, ticket: Ticket, request: &GroupRequest) {
        let mut responses: Vec<GroupResponse> = Vec::new();
        // An idle room holds no groups; a loading one says that it does not know yet.
        let rooms = self.coordinators.rooms.values_mut();
        for room in rooms.filter(|room| room.phase() != Phase::Idle) {
            let mut out = Vec::new();
            room.handle(self.now, &mut self.dice, ticket, request.clone(), &mut out);
            for effect in out {
                match effect {
                    CoordinatorEffect::Reply { response, .. } => responses.push(response),
                    CoordinatorEffect::Append { .. } => {
                        unreachable!("listing groups changes nothing")
                    }
                }
            }
        }
        self.answer(ticket, Answer::Groups(responses));
    }

    /// Topics were deleted: no coordinator keeps offsets of them (G127). One that cannot be asked now
    /// is asked as soon as it can be, before clients are: a topic of the same name made later must
    /// not be read from where readers of this one were.
    pub(super) fn forget_offsets_of(&mut self, names: &[String]) {
        let logs: Vec<LogId> = self.coordinators.rooms.keys().copied().collect();
        for log in logs {
            self.coordinators.remember(log, names.iter().cloned());
            self.forget_offsets(log);
        }
    }

    fn forget_offsets(&mut self, log: LogId) {
        let room = self.coordinators.rooms.get(&log);
        if !room.is_some_and(Coordinator::takes_requests) {
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
        let mut out = Vec::new();
        room.on_time(self.now, &mut out);
        self.coordinators.touched.insert(log);
        self.grant_coordinator(log, out);
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
                self.host_coordinator(log, true);
            }
        }
        for log in std::mem::take(&mut self.coordinators.touched) {
            if let Some(room) = self.coordinators.rooms.get_mut(&log) {
                let mut out = Vec::new();
                room.settle(self.now, &mut out);
                self.grant_coordinator(log, out);
                self.look_at_coordinator(log);
            }
        }
    }

    fn look_at_coordinator(&mut self, log: LogId) {
        let next = self.coordinators.rooms.get(&log).and_then(Coordinator::next_deadline);
        self.timers.arm(Due::Coordinator(log), next);
    }

    fn grant_coordinator(&mut self, log: LogId, wishes: Vec<CoordinatorEffect>) {
        for wish in wishes {
            match wish {
                CoordinatorEffect::Reply { ticket, response } => {
                    self.answer(ticket, Answer::Group(Box::new(response)));
                }
                CoordinatorEffect::Append { batch, id } => {
                    // Once a batch has failed, what the dropped machine decided after it must
                    // not reach the log either.
                    let rooms = &self.coordinators.rooms;
                    if rooms.get(&log).is_some_and(|room| room.phase() != Phase::Idle) {
                        self.append_groups(log, batch, id);
                    }
                }
            }
        }
    }

    fn append_groups(&mut self, log: LogId, batch: BytesMut, id: u64) {
        let number = self.coordinators.next_append;
        self.coordinators.next_append += 1;
        self.coordinators.in_flight.insert(number, (log, id));
        let ticket = self.internal(COORDINATOR, number);
        let summary = check::check_produced(&batch)
            .unwrap_or_else(|fault| unreachable!("our own batch is sound: {fault:?}"));
        let may_relax = self.store.journal().has_room();
        let Some(partition) = self.partitions.get_mut(&log).filter(|_| self.writable) else {
            return self.coordinator_appended(number, Err(Refusal::NoRoom));
        };
        let append = Append {
            batch,
            summary,
            ticket,
            acks: Acks::All,
            deadline: self.now.monotonic.after(APPEND_PATIENCE),
            may_relax,
            leader_epoch: None,
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
            | Refusal::TimedOut
            | Refusal::Busy
            | Refusal::OffsetsUsedUp
            | Refusal::NoRoom
            | Refusal::Storage => AppendFailure::Unavailable,
        };
        let mut out = Vec::new();
        room.appended(id, outcome.as_ref().map(drop).map_err(failure), &mut out);
        if room.phase() == Phase::Idle {
            self.coordinators.dropped.insert(log);
        }
        self.grant_coordinator(log, out);
        self.forget_offsets(log);
        self.look_at_coordinator(log);
    }
}

/// Whether a client's request may lead to records.
fn is_change(request: &GroupRequest) -> bool {
    match request {
        GroupRequest::Join { .. }
        | GroupRequest::Sync { .. }
        | GroupRequest::Leave { .. }
        | GroupRequest::CommitOffsets { .. }
        | GroupRequest::Delete { .. }
        | GroupRequest::DeleteOffsets { .. } => true,
        // A deletion of topics is the broker's own word and must not be lost.
        GroupRequest::TopicsDeleted { .. }
        | GroupRequest::Heartbeat { .. }
        | GroupRequest::FetchOffsets { .. }
        | GroupRequest::Describe { .. }
        | GroupRequest::List { .. } => false,
    }
}

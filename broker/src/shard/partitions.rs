//! The partitions that live on this core, and what they want done.
//!
//! Does: open, configure and remove partitions; take the questions that concern one of them;
//! carry the replication core's effects out.
//! Does not: decide about offsets, producers or leaders; `replication` does.
//! Invariants: after every call the replication outbox is empty; a partition exists here exactly
//! as long as its log exists in the store.
//! Apart because here, and only here, replication and storage meet.

use bytes::Bytes;
use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::entry::HardState;
use flumen_protocol::ids::{CoreId, LeaderEpoch, LogId, LogIndex, NodeId, Offset, Term};
use flumen_protocol::time::{Monotonic, Now};
use flumen_replication::error::{Refusal, StateError};
use flumen_replication::metadata::image::Image;
use flumen_replication::outbox::{Effect as Wish, Outbox, Ticket};
use flumen_replication::partition::{
    Acks, Append, Deletion, Origin, Partition, PartitionBoot, PartitionSettings,
};
use flumen_storage::answers::{LogSettings, Recovered, RecoveredLog, StoreEvent};
use flumen_storage::limits::QUEUE_BYTES_MAX;
use tracing::{debug, error, info, warn};

use super::mailbox::{Answer, AppendQuestion, CoreMessage, Leader};
use super::metadata::Standing;
use super::requests::INTERNAL;
use super::routing;
use super::settings;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::{ABORTED_TRANSACTIONS_PER_CORE_MAX, JOURNAL_QUEUE_BUDGETS};
use crate::telemetry::metrics::RefusedReason;

impl Shard {
    /// Opens every partition that recovery found.
    pub(super) fn open_recovered(&mut self, recovered: Recovered) -> Result<(), String> {
        report(self.identity.core, &recovered);
        self.accepts_damage = recovered.accepts_damage;
        for mut log in recovered.logs {
            let (name, held) = (log.log, log.held.take());
            if let (LogId::METADATA, Some(hold)) = (name, &held) {
                // Without what is lost this node would serve a cluster that is not the one that was
                // acknowledged, and delete the partitions of topics it forgot.
                let what = "the cluster's metadata log is damaged";
                return Err(format!("{what}: {hold}. {METADATA_REMEDY}"));
            }
            let boot = boot_of(log, self.identity.node, self.partition_settings(name));
            self.open_partition(boot).map_err(|error| unopened(name, &error))?;
            if let (Some(hold), Some(partition)) = (held, self.partitions.get_mut(&name)) {
                partition.hold(hold.until);
                self.held.push((name, hold));
            }
        }
        if self.controller.is_some() && !self.partitions.contains_key(&LogId::METADATA) {
            self.create_partition(LogId::METADATA);
        }
        self.carry_out();
        if self.controller.is_some() {
            self.begin_load(LogId::METADATA);
        }
        Ok(())
    }

    fn partition_settings(&self, log: LogId) -> PartitionSettings {
        settings::of_log(&self.options, self.settings.of(log.topic), log)
    }

    fn log_settings(&self, log: LogId) -> LogSettings {
        if log == LogId::METADATA {
            return LogSettings { compacted: true, ..LogSettings::KEEP_ALL };
        }
        settings::for_storage(self.settings.of(log.topic))
    }

    fn open_partition(&mut self, boot: PartitionBoot) -> Result<(), StateError> {
        let log = boot.log;
        let opened = open(boot, self.now, &mut self.outbox)?;
        self.partitions.insert(log, opened);
        self.look_at_deadline(log);
        Ok(())
    }

    /// Makes a new, empty partition on this core.
    pub(super) fn create_partition(&mut self, log: LogId) {
        self.store.create(log, self.log_settings(log));
        let boot = boot_of(empty(log), self.identity.node, self.partition_settings(log));
        // An empty partition has no state that could be wrong.
        self.open_partition(boot).unwrap_or_else(|error| unreachable!("{log}: {error}"));
        let (early, now) = (self.early.take_all(log), self.now.monotonic);
        let partition = self.partitions.get_mut(&log).expect("it was just opened");
        partition.note_refused(&early, now);
    }

    /// A deleted partition is gone. If the metadata log has lost its deletion, and that was accepted, its
    /// topic is there again, and the partition begins anew.
    fn create_if_wanted(&mut self, log: LogId) {
        let topic = self.image.topic(log.topic);
        let is_ours = routing::core_of(log, self.identity.cores) == self.identity.core;
        if is_ours && topic.is_some_and(|topic| topic.logs().any(|it| it == log)) {
            self.create_partition(log);
        }
    }

    /// Removes a partition whose deletion is committed in the metadata log.
    pub(super) fn delete_partition(&mut self, log: LogId) {
        debug!(%log, "removing a partition of a deleted topic");
        if let Some(mut partition) = self.partitions.remove(&log) {
            partition.stop(Refusal::Gone, &mut self.outbox);
        }
        self.timers.arm(Due::Partition(log), None);
        self.drop_coordinator(log);
        self.unreadable.forget(log);
        self.carry_out();
        self.store.delete(log);
        self.ask_late(log);
    }

    /// Gives partitions of changed topics their new settings.
    pub(super) fn configure_partitions(&mut self, image: &Image, changed: &[LogId]) {
        for log in changed.iter().copied().filter(|log| image.topic(log.topic).is_some()) {
            let (for_partition, for_store) = (self.partition_settings(log), self.log_settings(log));
            if let Some(partition) = self.partitions.get_mut(&log) {
                partition.configure(for_partition);
                self.store.configure(log, for_store);
            }
        }
    }

    /// Appends a batch.
    pub(super) fn append(&mut self, ticket: Ticket, log: LogId, question: AppendQuestion) {
        let AppendQuestion { batch, summary, acks, deadline, claim, behind } = question;
        if let Some((refusal, reason)) = self.cannot_take() {
            self.metrics.refused(reason);
            self.note_put_off(log, &[behind, summary.producer]);
            return self.answer(ticket, Answer::Appended(Err(refusal)));
        }
        let records = u64::try_from(summary.record_count).unwrap_or(0);
        self.count_appended(log, batch.len(), records);
        let may_relax = self.store.journal().has_room();
        let may_begin = self.store.aborted_count() < ABORTED_TRANSACTIONS_PER_CORE_MAX;
        let Some(partition) = self.partitions.get_mut(&log) else {
            self.note_put_off(log, &[behind, summary.producer]);
            return self.answer(ticket, Answer::NotHere);
        };
        partition.note_refused(&behind, self.now.monotonic);
        // A producer that wants no answer waits for the disk like one that wants it, only that
        // nothing is sent then: its open requests are what bounds the memory it can fill.
        let acks = if acks == Acks::None { Acks::Leader } else { acks };
        let (leader_epoch, origin) = (None, Origin::Client(claim));
        let append = Append {
            batch,
            summary,
            ticket,
            acks,
            deadline,
            may_relax,
            may_begin,
            leader_epoch,
            origin,
        };
        // A refusal comes back as a release, like every other outcome.
        let _released = partition.append(self.now, append, &mut self.outbox);
        self.look_at_deadline(log);
        self.carry_out();
    }

    /// Batches, the first one first, will be sent again: what comes behind them must not overtake them.
    fn note_put_off(&mut self, log: LogId, batches: &[Option<BatchProducer>]) {
        let (batches, now) = (batches.iter().flatten(), self.now.monotonic);
        match self.partitions.get_mut(&log) {
            Some(partition) => partition.note_refused(batches, now),
            None => batches.for_each(|batch| self.early.note(log, batch, now)),
        }
    }

    /// Why no partition of this core takes records now, if none does.
    fn cannot_take(&self) -> Option<(Refusal, RefusedReason)> {
        if !self.writable {
            Some((Refusal::NoRoom, RefusedReason::DiskReserve))
        } else if !self.journal_has_room(0) {
            // Requests end before their records are written: at their time-out, or when their
            // client goes. Without this a disk that stands still fills the memory.
            Some((Refusal::Busy, RefusedReason::Memory))
        } else {
            None
        }
    }

    /// Whether more may be queued for the journal of this core, `beyond` the bound of producers.
    pub(super) fn journal_has_room(&self, beyond: usize) -> bool {
        let most = self.memory.budget().saturating_mul(JOURNAL_QUEUE_BUDGETS);
        self.store.journal().queued_bytes() < most.max(QUEUE_BYTES_MAX).saturating_add(beyond)
    }

    /// Moves the start of a log on a client's wish.
    pub(super) fn delete_records(
        &mut self,
        ticket: Ticket,
        log: LogId,
        before: Offset,
        deadline: Monotonic,
    ) {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let deletion = Deletion { before, ticket, deadline };
        // A refusal comes back as a release, like every other outcome.
        let _released = partition.delete_records(self.now, deletion, &mut self.outbox);
        self.look_at_deadline(log);
        self.carry_out();
    }

    /// Where an epoch ends.
    pub(super) fn epoch_end(
        &mut self,
        ticket: Ticket,
        log: LogId,
        current: LeaderEpoch,
        wanted: LeaderEpoch,
    ) {
        let answer = match self.partitions.get(&log) {
            Some(partition) => Answer::EpochEnd(partition.end_offset_for_epoch(current, wanted)),
            None => Answer::NotHere,
        };
        self.answer(ticket, answer);
    }

    /// Says which partitions take no records because some are lost, once their topics have names.
    pub(super) fn report_held(&mut self) {
        for (log, hold) in std::mem::take(&mut self.held) {
            let Some(topic) = self.image.topic(log.topic) else { continue };
            error!(
                topic = topic.name, partition = log.partition.0, core = %self.identity.core, %log,
                "acknowledged records of this partition are lost; it is held: {hold} of folder \
                 core-{}. {HELD_REMEDY}", self.identity.core
            );
        }
    }

    /// Whether a log takes no records because some are lost.
    pub(super) fn is_held(&self, log: LogId) -> bool {
        self.partitions.get(&log).is_some_and(Partition::is_held)
    }

    /// Makes sure that a partition is looked at when its next deadline comes.
    pub(super) fn look_at_deadline(&mut self, log: LogId) {
        if let Some(partition) = self.partitions.get(&log) {
            self.timers.arm_earlier(Due::Partition(log), partition.next_deadline());
        }
    }

    /// Takes what the store said.
    pub(super) fn take_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                StoreEvent::Durable { log, index } => {
                    if let Some(partition) = self.partitions.get_mut(&log) {
                        partition.persisted(self.now, index, &mut self.outbox);
                    }
                    self.carry_out();
                    self.look_at_load(log);
                }
                StoreEvent::Read { token, result } => self.take_read(token, result),
                StoreEvent::TimeFound { token, result } => self.take_time(token, result),
                // A vote leaves this node only in a cluster; alone, the entry that follows the
                // hard state in the journal is what counts.
                StoreEvent::HardStateDurable { .. } => {}
                StoreEvent::NoSpace => self.refuse_for_space(),
                StoreEvent::Settled { .. } => {}
                StoreEvent::StartDurable { log, start } => {
                    if let Some(partition) = self.partitions.get_mut(&log) {
                        partition.advance_start(start, &mut self.outbox);
                    }
                    self.carry_out();
                    self.ask_late(log);
                }
                StoreEvent::Cleaned { log, report } => self.take_cleaned(log, &report),
                StoreEvent::CleaningBroken { log } => {
                    warn!(%log, "cleaning was given up: something could not be read just now");
                }
                StoreEvent::Deleted { log } => {
                    debug!(%log, "a deleted partition's files are gone");
                    self.create_if_wanted(log);
                }
            }
            self.carry_out();
        }
    }

    /// Carries out what partitions want, until they want nothing more.
    pub(super) fn carry_out(&mut self) {
        let mut news = Vec::new();
        while !self.outbox.is_empty() {
            for wish in std::mem::take(&mut self.outbox) {
                self.grant(wish, &mut news);
            }
        }
        if !news.is_empty() {
            for leader in &news {
                self.leaders.learn(*leader);
            }
            // Before its first image a core does not know which of its partitions still exist;
            // it names them all when it does.
            if !matches!(self.standing, Standing::Opening { image: false, .. }) {
                let as_of = self.image.version;
                self.broadcast(|| CoreMessage::Leaders { as_of, leaders: news.clone() });
            }
            self.note_leaders();
        }
    }

    fn grant(&mut self, wish: Wish, news: &mut Vec<Leader>) {
        match wish {
            Wish::Persist { log, entry } => self.store.append(log, entry),
            Wish::PersistHardState { log, state } => self.store.save_hard_state(log, state),
            Wish::Release { ticket, outcome } => self.answer(ticket, Answer::Appended(outcome)),
            Wish::Push { ticket, log, .. } => self.push(ticket, log),
            Wish::Moved { log } => self.tell_followers(log),
            Wish::Leadership { log, leader, epoch } => {
                news.push(Leader { log, node: leader, epoch });
                self.leadership_changed(log, leader == Some(self.identity.node));
            }
            Wish::Committed { log, entry } => self.replay_metadata(log, &entry),
            Wish::StartOffset { log, offset } => self.store.set_start_offset(log, offset),
            Wish::Verify(asked) => self.verify(*asked),
            Wish::TransactionEnded { log, end } => {
                self.transaction_ended(log, end.producer_id, end.commit);
            }
        }
    }

    /// This core's own question was answered: an append of a coordinator or of the controller.
    pub(super) fn take_internal(&mut self, ticket: Ticket, answer: Answer) {
        assert_ne!(ticket.request & INTERNAL, 0, "only internal tickets come here");
        let id = ticket.request & !INTERNAL;
        match (ticket.part, answer) {
            (CONTROLLER, Answer::Appended(outcome)) => self.controller_appended(outcome),
            (COORDINATOR, Answer::Appended(outcome)) => self.coordinator_appended(id, outcome),
            (FORGETTING, answer) => self.offsets_forgotten(id, &answer),
            (ENDING, answer) => self.marker_answered(id, answer),
            (ENDED, answer) => self.end_reported(id, &answer),
            (CLAIM, answer) => self.claim_answered(id, answer),
            (ADMIN, Answer::Metrics(snapshot)) => self.take_counters(id, *snapshot),
            (ADMIN, Answer::Commits(page)) => self.take_commits(id, *page),
            (ADMIN, Answer::Lags(core, found)) => self.take_lags(id, core, found),
            (VERIFYING, answer) => self.take_word(id, answer),
            (NOBODY, _) => {}
            (room, answer) => unreachable!("room {room} never asks for {answer:?}"),
        }
    }

    /// A ticket with which this core asks itself.
    pub(super) fn internal(&self, room: u32, id: u64) -> Ticket {
        assert_eq!(id & INTERNAL, 0, "an id leaves the mark free");
        Ticket { core: self.identity.core, request: id | INTERNAL, part: room }
    }
}

/// Says what recovery of a core found and what was given up.
pub fn report(core: CoreId, recovered: &Recovered) {
    for line in &recovered.report {
        info!(%core, "recovery: {line}");
    }
    for line in &recovered.accepted {
        warn!(%core, "accepted as lost: {line}");
    }
}

/// What a partition of this node is opened with.
pub fn boot_of(log: RecoveredLog, node: NodeId, settings: PartitionSettings) -> PartitionBoot {
    PartitionBoot {
        log: log.log,
        me: node,
        voters: vec![node],
        hard_state: log.hard_state,
        settled: log.settled,
        settled_end: log.settled_end,
        start_offset: log.start_offset,
        state: log.state.1,
        aborted: log.aborted,
        rebuild: Vec::new(),
        entries: log.entries,
        settings,
        election_seed: 0,
    }
}

/// Opens a partition; if its saved state is of no use, without it.
///
/// # Errors
/// Its log contradicts itself.
pub fn open(boot: PartitionBoot, now: Now, outbox: &mut Outbox) -> Result<Partition, StateError> {
    let log = boot.log;
    let again = PartitionBoot { state: Default::default(), ..boot.clone() };
    match Partition::open(boot, now, outbox) {
        Err(why @ StateError::StateRotten) => {
            warn!(%log, %why, "opening without its saved state: producers are forgotten");
            Partition::open(again, now, outbox)
        }
        other => other,
    }
}

/// A log that never held anything.
fn empty(log: LogId) -> RecoveredLog {
    RecoveredLog {
        log,
        hard_state: HardState::INITIAL,
        settled: (LogIndex::ZERO, Term::ZERO),
        state: (LogIndex::ZERO, Bytes::new()),
        aborted: Vec::new(),
        start_offset: Offset::ZERO,
        settled_end: Offset::ZERO,
        entries: Vec::new(),
        held: None,
    }
}

/// Why a log stops the start.
fn unopened(log: LogId, error: &StateError) -> String {
    match error {
        // A journal that broke off where nothing proves that it went on, but for this promise.
        StateError::CommittedLost { .. } => format!("partition {log}: {error}. {LOST_REMEDY}"),
        StateError::StateRotten
        | StateError::AbortedRotten
        | StateError::EntriesBroken { .. }
        | StateError::HardStateBehind { .. }
        | StateError::OffsetsBroken { .. }
        | StateError::SettledBroken { .. }
        | StateError::VotersBroken
        | StateError::ControlRotten { .. } => format!("partition {log}: {error}"),
    }
}

/// What an operator does about committed entries that are gone without a trace.
const LOST_REMEDY: &str = "Restore the data folder from a copy, or start once with `flumen serve \
    --accept-damage`: the log then ends where it ends now";

/// What an operator does about a held partition.
pub const HELD_REMEDY: &str = "Records before are served and no new ones are taken. Restore \
    the data folder from a copy, or accept the loss: start once with `flumen serve \
    --accept-damage`, or delete the topic";

/// What an operator does about a damaged metadata log.
pub(super) const METADATA_REMEDY: &str = "Restore the data folder from a copy, or, after copying it, \
    start once with `flumen serve --accept-damage`: topics made, changed or deleted in what is lost \
    are then as they were before, and partitions of topics that are not known any more are deleted";

/// The controller's room in an internal ticket.
pub(super) const CONTROLLER: u32 = 0;
/// The coordinators' room in an internal ticket.
pub(super) const COORDINATOR: u32 = 1;
/// The room of tickets whose answer interests nobody.
pub(super) const NOBODY: u32 = 2;
/// The admin page's room in an internal ticket.
pub(super) const ADMIN: u32 = 3;
/// The room, in an internal ticket, of coordinators that are to forget deleted topics.
pub(super) const FORGETTING: u32 = 4;
/// The room of partitions that ask a coordinator about a transaction.
pub(super) const VERIFYING: u32 = 5;
/// The room of partitions that are to write markers.
pub(super) const ENDING: u32 = 6;
/// The room of coordinators that are to note that all markers of an end are written.
pub(super) const ENDED: u32 = 7;
/// The room of coordinators that are to vouch for the transaction of a commit of offsets.
pub(super) const CLAIM: u32 = 8;

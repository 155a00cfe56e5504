//! One partition: its role, its group, its offsets, its producers and who waits.
//!
//! ```text
//!   open ──► following ◄──────► leading ──► readable to the latest offset
//!                │                 │        (its own first entry is committed)
//!                └────► stopped ◄──┘        (disk failed, or the partition is gone)
//!
//!   append / delete_records ─► propose ─┐
//!   persisted ──────────────────────────┼─► settle: collect ─► role ─► apply ─► release, push
//!   tick ───────────────────────────────┘
//! ```
//!
//! Does: take every input of a partition, and is the only one to change its state.
//! Does not: know files, sockets or other partitions.
//! Invariants: the high watermark is the end of the last applied batch; producers and epochs
//! follow from the entries alone; after every call everybody whose wait is over has been told.
//! Apart because this is the door: whoever wants to know what a partition does reads this file.

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::entry::{Entry, Payload};
use flumen_protocol::ids::{LeaderEpoch, LogId, LogIndex, Offset, ProducerEpoch, ProducerId};
use flumen_protocol::time::{Monotonic, Now};

use super::aborted::Aborted;
use super::append::append_time_of;
use super::epochs::Epochs;
use super::offsets::Offsets;
use super::open::PartitionSettings;
use super::producers::{ProducerBatch, ProducerWrite, Producers, Wrote};
use super::read::Isolation;
use super::snapshot::{self, Control, StateSnapshot};
use super::transactions::{TransactionEnd, Unverified};
use super::waiting::{Level, Reached, Waiter, Waiting, Watched};
use crate::error::Refusal;
use crate::limits::EXPIRY_SWEEP_INTERVAL;
use crate::outbox::{Effect, Outbox, Ticket};
use crate::raft::group::{Group, Role};

/// A wish to delete records (DeleteRecords, KIP-107).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Everything below goes; [`Offset::UNKNOWN`] stands for the high watermark.
    pub before: Offset,
    /// Who waits.
    pub ticket: Ticket,
    /// How long.
    pub deadline: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    /// For good: every request is refused with this.
    Stopped(Refusal),
}

/// One partition as this node sees it.
pub struct Partition {
    pub(super) group: Group,
    pub(super) offsets: Offsets,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    pub(super) aborted: Aborted,
    pub(super) unverified: Unverified,
    pub(super) waiting: Waiting,
    pub(super) settings: PartitionSettings,
    pub(super) standing: Standing,
    /// While records that were here are lost and nobody accepted that: one after the last offset
    /// there was.
    pub(super) held: Option<Offset>,
    /// Batches below are accounted for in producers and epochs. Invariant: what a replayed entry
    /// brings below it is ignored.
    pub(super) covered: Offset,
    /// The start that storage has for good. Until the high watermark is known again after a restart
    /// the start may have to lie lower.
    ///
    /// Invariant: nobody hears of a later start, but of one that the log itself told when it was opened.
    pub(super) start_kept: Offset,
    /// The start that storage heard of last: never one before that it has.
    pub(super) start_told: Offset,
    /// This leader's first entry: once committed, everything its predecessors committed is known.
    pub(super) first_own: LogIndex,
    /// What the disk has said it has since this start; a relaxed topic does not wait for that.
    pub(super) on_disk: LogIndex,
    /// The last entry that the log had when it was opened.
    pub(super) opened_with: LogIndex,
    pub(super) next_sweep: Monotonic,
    /// Whether [`Effect::Moved`] is wanted.
    pub(super) followed: bool,
}

impl Partition {
    /// Everything up to `up_to` is durable on this node: the answer to [`Effect::Persist`].
    /// Unknown to a stopped partition: late answers are ignored.
    pub fn persisted(&mut self, now: Now, up_to: LogIndex, out: &mut Outbox) {
        if self.standing == Standing::Open {
            self.on_disk = self.on_disk.max(up_to);
            self.count_persisted(now, up_to, out);
        }
    }

    /// Everything up to `up_to` counts as durable, be it only because the topic is relaxed.
    pub(super) fn count_persisted(&mut self, now: Now, up_to: LogIndex, out: &mut Outbox) {
        self.group.persisted(up_to);
        self.settle(now, out);
    }

    /// Lets one tick of Raft's clock pass. Needless while [`Partition::needs_ticks`] says no.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        if self.standing == Standing::Open {
            self.group.tick();
            self.settle(now, out);
        }
    }

    /// Deletes records from the front by agreement of all replicas: the answer comes as
    /// [`Effect::Release`], whose start offset is the low watermark reached, once storage has that start.
    ///
    /// # Errors
    /// The refusal, also released: not leader, too much waiting, or an offset above the high
    /// watermark. One below the start is no error and changes nothing.
    pub fn delete_records(
        &mut self,
        now: Now,
        deletion: Deletion,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let accepted = self.order_deletion(now, deletion, out);
        if let Err(why) = accepted {
            out.push(Effect::Release { ticket: deletion.ticket, outcome: Err(why) });
        }
        accepted
    }

    /// Storage has for good that records below `offset` are gone: it decided so, by retention, or was
    /// told to ([`Effect::StartOffset`]).
    pub fn advance_start(&mut self, offset: Offset, out: &mut Outbox) {
        self.start_kept = self.start_kept.max(offset);
        self.start_told = self.start_told.max(offset);
        self.follow_storage(out);
        self.release(out);
    }

    /// Arms a watcher: one [`Effect::Push`] comes when there is something to read at `from`, or
    /// when reading would answer differently for another reason. It must be armed again then.
    pub fn watch(&mut self, ticket: Ticket, from: Offset, isolation: Isolation) -> Watched {
        let limit = self.read_limit(isolation);
        if from < limit || !self.is_leader() {
            return Watched::Ready { limit };
        }
        self.waiting.watch(ticket, from, isolation)
    }

    /// Disarms whatever this ticket watches.
    pub fn unwatch(&mut self, ticket: Ticket) {
        self.waiting.unwatch(ticket);
    }

    /// From now on [`Effect::Moved`] says whenever reading would answer differently, or no longer.
    /// One switch for whoever follows, because who they are and what they know is not ours.
    pub fn follow(&mut self, wanted: bool) {
        self.followed = wanted;
    }

    /// Time has passed: tells those who waited too long, forgets silent producers. What timed out
    /// stays appended.
    pub fn on_time(&mut self, now: Now, out: &mut Outbox) {
        self.waiting.expire(now.monotonic, out);
        self.expire_parked(now.monotonic, out);
        if now.monotonic >= self.next_sweep {
            self.producers.expire(now.monotonic, self.settings.producer_expiry);
            self.next_sweep = now.monotonic.after(EXPIRY_SWEEP_INTERVAL);
        }
        assert!(self.next_deadline().is_none_or(|next| next > now.monotonic), "time is used up");
    }

    /// When [`Partition::on_time`] wants to be called; may come early, never late. None while
    /// there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let sweep = (!self.producers.is_empty()).then_some(self.next_sweep);
        let parked = self.unverified.next_deadline();
        [self.waiting.next_deadline(), sweep, parked].into_iter().flatten().min()
    }

    /// Replaces the configuration, from the next call on.
    pub fn configure(&mut self, settings: PartitionSettings) {
        assert!(settings.max_producer_ids > 0, "configuration is checked by the broker");
        assert_eq!(self.settings.replay, settings.replay, "a log does not change its nature");
        self.settings = settings;
    }

    /// Stops for good: the disk failed ([`Refusal::Storage`]) or the partition was deleted
    /// ([`Refusal::Gone`]). Everybody waiting is told, every later request is refused the same.
    pub fn stop(&mut self, why: Refusal, out: &mut Outbox) {
        self.standing = Standing::Stopped(why);
        self.producers.drop_speculation();
        self.waiting.fail_all(why, out);
        self.fail_parked(why, out);
        self.waiting.push_all(self.log(), self.offsets.high_watermark(), out);
        self.tell_followers(out);
        assert_eq!((self.waiting.len(), self.waiting.watcher_count()), (0, 0), "nobody is left");
    }

    /// Takes no records from now on: what the log had from its end up to `until` is lost, and other
    /// records must not get those offsets before somebody accepts that. What there is stays
    /// readable. Right after opening; the next opening decides anew.
    pub fn hold(&mut self, until: Offset) {
        self.held = Some(until.max(self.offsets.end()));
    }

    /// Whether it takes no records because some are lost.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The committed state as bytes, and the entry it is complete up to. Once it is saved, records below
    /// `settled_end` are not lost any more, whatever becomes of those behind.
    #[must_use]
    pub fn snapshot(&mut self, settled_end: Offset) -> StateSnapshot {
        let (index, term) = self.group.applied();
        let end = self.offsets.high_watermark().max(self.covered);
        let bytes = snapshot::write((settled_end, end), &self.epochs, &mut self.producers);
        StateSnapshot { index, term, bytes }
    }
}

/// What can be asked at any time.
impl Partition {
    /// Which partition this is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.group.log()
    }

    /// Whether this node leads and serves.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.standing == Standing::Open && self.group.role() == Role::Leader
    }

    /// The current leader epoch, whoever leads.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.group.term().epoch()
    }

    /// Whether [`Partition::tick`] must be called: not for a partition that is alone.
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        !self.group.is_alone()
    }

    /// Start, stable, high watermark and end.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The epochs of the log's records.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The configuration.
    #[must_use]
    pub fn settings(&self) -> &PartitionSettings {
        &self.settings
    }

    /// The last entry that is committed and applied: what storage may settle up to.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        self.group.applied().0
    }

    /// The last entry there is.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.group.last_index()
    }

    /// Records that are ordered and not committed, for metrics.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.offsets.end().0 - self.offsets.high_watermark().0
    }

    /// Producers remembered, for metrics.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.count()
    }

    /// The last that is committed of every producer that may come back: its epoch, and the offset of its
    /// last record. What a cleaning must leave of it.
    pub fn last_of_producers(
        &self,
    ) -> impl Iterator<Item = (ProducerId, ProducerEpoch, Option<Offset>)> {
        self.producers.committed().map(|(id, history)| {
            let last = history.batches().last().map(|batch| batch.last_offset);
            (id, history.epoch(), last)
        })
    }

    /// Clients waiting for an append or a deletion, for metrics.
    #[must_use]
    pub fn waiter_count(&self) -> usize {
        self.waiting.len()
    }

    /// Fetch requests parked here, for metrics.
    #[must_use]
    pub fn watcher_count(&self) -> usize {
        self.waiting.watcher_count()
    }

    /// Whether everything that earlier leaders committed is known to be committed.
    pub(super) fn knows_high_watermark(&self) -> bool {
        self.applied_index() >= self.first_own
    }

    /// Whether a client that believes in `epoch` may be served here.
    pub(super) fn fence(&self, epoch: LeaderEpoch) -> Result<(), Refusal> {
        if let Standing::Stopped(why) = self.standing {
            return Err(why);
        }
        if let Role::Follower { leader } = self.group.role() {
            return Err(Refusal::NotLeader { leader });
        }
        let ours = self.leader_epoch();
        match epoch {
            LeaderEpoch::UNKNOWN => Ok(()),
            older if older < ours => Err(Refusal::FencedLeaderEpoch),
            newer if newer > ours => Err(Refusal::UnknownLeaderEpoch),
            _same => Ok(()),
        }
    }
}

/// How the state moves.
impl Partition {
    /// Draws every consequence of what the group was just told.
    pub(super) fn settle(&mut self, now: Now, out: &mut Outbox) {
        let role = self.group.role();
        self.group.collect(out);
        if self.group.role() != role {
            self.change_role(now, out);
        }
        let readable = (self.offsets.high_watermark(), self.offsets.stable());
        while let Some(entry) = self.group.pop_committed() {
            self.apply(entry, now, out);
        }
        self.release(out);
        if (self.offsets.high_watermark(), self.offsets.stable()) != readable {
            self.waiting.push_data(self.log(), |isolation| self.offsets.limit(isolation), out);
            self.tell_followers(out);
        }
    }

    fn tell_followers(&self, out: &mut Outbox) {
        if self.followed {
            out.push(Effect::Moved { log: self.log() });
        }
    }

    /// Releases everybody whose entry has got as far as they wait for.
    pub(super) fn release(&mut self, out: &mut Outbox) {
        let (durable, committed) = (self.group.durable(), self.applied_index());
        let (kept, start) = (committed.min(self.on_disk), self.start_kept);
        let reached = Reached { durable, committed, kept, start };
        self.waiting.release(reached, self.offsets.start(), out);
    }

    fn change_role(&mut self, now: Now, out: &mut Outbox) {
        self.producers.drop_speculation();
        match self.group.role() {
            Role::Leader => {
                self.first_own = self.group.last_index();
                self.speculate_on_open_end(now.monotonic);
            }
            Role::Follower { leader } => {
                self.waiting.fail_all(Refusal::NotLeader { leader }, out);
                self.fail_parked(Refusal::NotLeader { leader }, out);
                self.waiting.push_all(self.log(), self.offsets.high_watermark(), out);
                self.tell_followers(out);
            }
        }
    }

    /// A new leader counts what its predecessors left uncommitted: it may still commit (G85).
    fn speculate_on_open_end(&mut self, now: Monotonic) {
        for (_, _, payload) in self.group.unapplied() {
            let Payload::Records(records) = payload else { continue };
            if records.base_offset < self.covered {
                continue;
            }
            if let Some(write) = producer_write(&header_of(&records.bytes), &records.bytes) {
                self.producers.speculate(&write, now);
            }
        }
    }

    fn apply(&mut self, entry: Entry, now: Now, out: &mut Outbox) {
        match &entry.payload {
            Payload::Empty => {}
            Payload::Records(records) => {
                assert!(records.base_offset >= self.offsets.high_watermark(), "applied in order");
                if records.base_offset >= self.covered {
                    let write = producer_write(&header_of(&records.bytes), &records.bytes);
                    write.into_iter().for_each(|write| self.commit(&write, now.monotonic, out));
                }
                self.offsets.commit(records.last_offset.after(1), self.producers.first_open());
                if self.offsets.start() < self.start_kept {
                    self.follow_storage(out);
                }
            }
            Payload::Control(bytes) => {
                let command = Control::read(bytes).expect("checked when it was opened or written");
                let Control::DeleteRecords { before } = command;
                self.tell_storage(before, out);
                // Somebody may have heard of it, and storage may have lost that it knew.
                if entry.index <= self.opened_with {
                    self.begin_at(before, out);
                }
            }
        }
        if self.settings.replay {
            out.push(Effect::Committed { log: self.log(), entry });
        }
    }

    /// Records below `before` are deleted by agreement. The start follows once storage has that for
    /// good: a disk that loses an earlier entry takes the agreement with it, and nobody may have
    /// heard then that they are gone.
    fn tell_storage(&mut self, before: Offset, out: &mut Outbox) {
        let start = before.min(self.offsets.high_watermark());
        if start > self.start_told {
            self.start_told = start;
            out.push(Effect::StartOffset { log: self.log(), offset: start });
        }
    }

    /// The start is what storage has, as far as that is known to be committed.
    fn follow_storage(&mut self, out: &mut Outbox) {
        assert!(self.start_told >= self.start_kept, "storage hears of every start");
        self.begin_at(self.start_kept, out);
    }

    /// The log begins here, or later: what lies before is nobody's any more.
    fn begin_at(&mut self, start: Offset, out: &mut Outbox) {
        if self.offsets.advance_start(start) {
            let start = self.offsets.start();
            self.epochs.truncate_prefix(start);
            self.aborted.truncate_prefix(start);
            self.tell_followers(out);
        }
    }

    /// Takes in what a producer's committed batch, or a marker, says.
    pub(super) fn commit(&mut self, write: &ProducerWrite, now: Monotonic, out: &mut Outbox) {
        let ended = self.producers.commit(write, now, self.settings.max_producer_ids);
        if let Wrote::Marker { offset, commit, .. } = write.what {
            self.decide(TransactionEnd { producer_id: write.id, commit, offset }, ended, out);
        }
    }

    fn order_deletion(
        &mut self,
        now: Now,
        deletion: Deletion,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.fence(LeaderEpoch::UNKNOWN)?;
        if self.waiting.is_full() {
            return Err(Refusal::Busy);
        }
        let (start, end) = (self.offsets.start(), self.offsets.high_watermark());
        let before = if deletion.before == Offset::UNKNOWN { end } else { deletion.before };
        if before < Offset::ZERO || before > end {
            return Err(Refusal::OffsetOutOfRange { start, end });
        }
        let control = Payload::Control(Control::DeleteRecords { before }.write());
        let index = match before > start {
            true => self.group.propose(control).ok_or(Refusal::NotLeader { leader: None })?,
            // Deleted already, but perhaps records below it are not on the disk yet.
            false => self.group.durable(),
        };
        let Deletion { ticket, deadline, before: _ } = deletion;
        let (base_offset, append_time) = (Offset::UNKNOWN, None);
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time, before };
        self.waiting.add(Level::Deleted, waiter);
        self.settle_order(now, index, true, out);
        Ok(())
    }
}

fn header_of(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).expect("checked when it was opened or appended")
}

/// What to remember of a batch; `None` without idempotence.
fn producer_write(header: &BatchHeader, bytes: &[u8]) -> Option<ProducerWrite> {
    if !header.has_producer() {
        return None;
    }
    let marker = header.is_control().then(|| EndMarker::read(bytes)).flatten();
    written_by(header, marker)
}

/// What to remember of a batch with this header, which is this marker if it is one.
pub(super) fn written_by(header: &BatchHeader, marker: Option<EndMarker>) -> Option<ProducerWrite> {
    let what = match marker {
        Some(EndMarker { commit, coordinator_epoch }) => {
            Wrote::Marker { offset: header.base_offset, coordinator_epoch, commit }
        }
        // Control records of another kind, or what compaction left of a marker, end nothing.
        None if header.is_control() || header.last_offset_delta < 0 => return None,
        None => {
            let batch = (header.base_sequence.0 >= 0).then(|| ProducerBatch {
                base_sequence: header.base_sequence,
                last_offset_delta: header.last_offset_delta,
                last_offset: header.last_offset(),
                append_time: append_time_of(header),
            });
            Wrote::records(header.base_offset, header.is_transactional(), batch)?
        }
    };
    let BatchHeader { producer_id: id, producer_epoch: epoch, max_timestamp, .. } = *header;
    Some(ProducerWrite { id, epoch, timestamp: max_timestamp, what })
}

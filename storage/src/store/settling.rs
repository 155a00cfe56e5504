//! Which logs are settled when, and what happens once they are.
//!
//! Does: choose the next log, run at most a few jobs, record their outcome in the manifest, hand
//! the batches over from the tail to the cache, and let the journal forget.
//! Does not: choose up to where: only what the caller says is committed is settled.
//! Invariants: one job per log; the tail keeps an entry until the manifest says durably that it is
//! settled; a log that could not be settled is left alone for a while.
//! Apart because it works in the background and must not disturb appends.
//!
//! ```text
//!  begin_settle --> Writing (see segment/settle) --> Recording (manifest ticket) --> settled
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::entry::{AbortedTransaction, Records};
use flumen_protocol::ids::{LogId, LogIndex, Offset};
use flumen_protocol::time::{Monotonic, Now};

use super::Store;
use crate::answers::StoreEvent;
use crate::error::StorageError;
use crate::limits::{
    APPENDING_FOR, LARGEST_LOGS_MAX, SETTLE_AGE, SETTLE_AGE_BUSY, SETTLE_BACKOFF, SETTLE_BYTES_MAX,
    SETTLE_GROUP_BYTES, SETTLE_GROUP_MAX, SETTLES_MAX, WARM_LOGS_MAX,
};
use crate::manifest::manifest::Ticket;
use crate::manifest::record::Record;
use crate::op::{DiskDone, DiskOp, OpIds};
use crate::segment::settle::{Job, Pace, Piece, Plan, Progress, Warm};

/// Settles of one core: wanted, under way, and what is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Settles {
    writing: Vec<Job>,
    recording: Vec<(Ticket, Job)>,
    /// Up to where each log is being settled. Invariant: the logs of `writing` and `recording`.
    under_way: BTreeMap<LogId, LogIndex>,
    /// Jobs of logs that are being deleted, with an operation still under way.
    orphans: Vec<Job>,
    warm: BTreeMap<LogId, Warm>,
    /// Those of which bytes are kept, the oldest first.
    warm_order: VecDeque<LogId>,
    /// Logs with enough unsettled bytes to be worth a flush.
    pub(super) ripe: BTreeSet<LogId>,
    /// Logs with anything unsettled that is not under way, by when that began.
    pub(super) ages: BTreeSet<(Monotonic, LogId)>,
    /// The largest logs as of when that was last looked up, the largest first: looking costs a walk
    /// over all that have anything unsettled.
    largest: VecDeque<LogId>,
    /// Logs that could not be settled, and until when they are left alone.
    refused: BTreeMap<LogId, Monotonic>,
    /// How much of the disk they may take now.
    pace: Pace,
    /// The turn in which old logs were last begun: they go in groups, one after the other.
    group: Option<Monotonic>,
    /// When something was last appended to any log.
    pub(super) appended: Option<Monotonic>,
    /// Everything is to be settled.
    pub(super) stopping: bool,
}

impl Settles {
    /// Up to where the log is being settled, if it is.
    pub(super) fn up_to(&self, log: LogId) -> Option<LogIndex> {
        self.under_way.get(&log).copied()
    }

    pub(super) fn is_busy(&self) -> bool {
        !(self.writing.is_empty() && self.recording.is_empty() && self.orphans.is_empty())
    }

    /// Whether one more job may begin: one of any size, two in haste, or a group of small ones.
    fn has_room(&self) -> bool {
        let most = match self.pace {
            Pace::Calm => 1,
            Pace::Hasty => SETTLES_MAX,
        };
        let count = self.writing.len();
        let small = || self.writing.iter().map(Job::bytes_left).sum::<usize>() < SETTLE_GROUP_BYTES;
        count < most || (count < SETTLE_GROUP_MAX && small())
    }

    /// Whether logs may be begun only because they are old: not while an earlier group is under
    /// way.
    fn may_group(&self, now: Monotonic) -> bool {
        self.stopping || self.group == Some(now) || !self.is_busy()
    }

    /// How old a log may become now.
    fn age_max(&self, now: Monotonic) -> Duration {
        let appending = self.appended.is_some_and(|at| now.since(at) < APPENDING_FOR);
        match (self.stopping, appending) {
            (true, _) => Duration::ZERO,
            (false, true) => SETTLE_AGE_BUSY,
            (false, false) => SETTLE_AGE,
        }
    }

    pub(super) fn has_orphan(&self, log: LogId) -> bool {
        self.orphans.iter().any(|job| job.log == log)
    }

    pub(super) fn next_ops(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        self.writing.iter_mut().for_each(|job| job.next_op(self.pace, ids, out));
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.warm.values().map(|warm| size_of::<Warm>() + warm.tail.len()).sum()
    }

    /// Forgets everything about a log that is deleted.
    pub(super) fn abandon(&mut self, log: LogId) {
        self.ripe.remove(&log);
        self.refused.remove(&log);
        self.under_way.remove(&log);
        self.cool(log);
        self.recording.retain(|(_, job)| job.log != log);
        let (own, others): (Vec<Job>, Vec<Job>) =
            self.writing.drain(..).partition(|job| job.log == log);
        self.writing = others;
        self.orphans.extend(own.into_iter().filter(Job::is_waiting));
    }

    /// Forgets what was kept of the end of the log's active segment.
    pub(super) fn cool(&mut self, log: LogId) {
        self.warm.remove(&log);
    }

    fn keep_warm(&mut self, log: LogId, warm: Option<Warm>) {
        let Some(warm) = warm else { return self.cool(log) };
        self.warm.insert(log, warm);
        if !self.warm_order.contains(&log) {
            self.warm_order.push_back(log);
        }
        while self.warm_order.len() > WARM_LOGS_MAX
            && let Some(oldest) = self.warm_order.pop_front()
        {
            self.warm.entry(oldest).and_modify(Warm::forget_bytes);
        }
    }
}

impl Store {
    /// The log that should be settled next, if any should. The caller answers with
    /// [`begin_settle`](Self::begin_settle).
    ///
    /// First what keeps the journal from being recycled; then the largest log if the core has too
    /// much unsettled; then logs with enough to be worth a flush; last, while nothing else is
    /// being settled, a group of what is older than [`SETTLE_AGE`], or [`SETTLE_AGE_BUSY`] while
    /// the core appends. None while the manifest is short of room: the record of what is settled
    /// would wait for it.
    pub fn next_settle(&mut self, now: Now) -> Option<LogId> {
        (self.turn, self.wall) = (now.monotonic, now.wall);
        self.settles.refused.retain(|_, until| *until > now.monotonic);
        self.settles.pace = self.pace();
        if !self.settles.has_room() || self.manifest.is_short_of_room() {
            return None;
        }
        let pressing = self.journal.pressing().find(|log| self.may_settle(*log));
        if let Some(log) = pressing.or_else(|| self.largest_if_too_much()) {
            return Some(log);
        }
        let ripe = self.settles.ripe.iter().copied().find(|log| self.may_settle(*log));
        ripe.or_else(|| self.aged(now.monotonic))
    }

    /// Calm while journal and memory are less than half of what they may hold, so that there is time
    /// to hurry before anybody has to wait.
    fn pace(&self) -> Pace {
        let is_filling = self.journal.is_half_full()
            || self.unsettled_bytes > self.config.unsettled_bytes / 2
            || self.settles.stopping;
        if is_filling { Pace::Hasty } else { Pace::Calm }
    }

    /// Whether the log has anything that could be settled now. One that only waits for the journal
    /// is not asked about: a refusal would keep it out for a second, and the journal with it.
    fn may_settle(&self, log: LogId) -> bool {
        self.logs.get(&log).is_some_and(|known| known.durable > known.tail.settled())
            && !self.settles.refused.contains_key(&log)
            && self.settles.up_to(log).is_none()
    }

    fn largest_if_too_much(&mut self) -> Option<LogId> {
        if self.unsettled_bytes <= self.config.unsettled_bytes {
            self.settles.largest.clear();
            return None;
        }
        if let Some(known) = self.next_largest() {
            return Some(known);
        }
        let unsettled = self.settles.ages.iter().map(|(_, log)| *log);
        let bytes = |log: LogId| self.logs.get(&log).map_or(0, |known| known.tail.bytes());
        let may = unsettled.filter(|log| self.may_settle(*log));
        let mut by_size: Vec<(usize, LogId)> = may.map(|log| (bytes(log), log)).collect();
        by_size.sort_unstable_by(|a, b| b.cmp(a));
        let largest = by_size.into_iter().take(LARGEST_LOGS_MAX).map(|(_, log)| log);
        self.settles.largest = largest.collect();
        self.next_largest()
    }

    fn next_largest(&mut self) -> Option<LogId> {
        while let Some(log) = self.settles.largest.pop_front() {
            if self.may_settle(log) {
                return Some(log);
            }
        }
        None
    }

    fn aged(&mut self, now: Monotonic) -> Option<LogId> {
        if !self.settles.may_group(now) {
            return None;
        }
        let age_max = self.settles.age_max(now);
        let ages = self.settles.ages.iter();
        let by_age = ages.take_while(|(since, _)| now.since(*since) >= age_max);
        let found = by_age.map(|(_, log)| *log).find(|log| self.may_settle(*log));
        if found.is_some() {
            self.settles.group = Some(now);
        }
        found
    }

    /// One after the last offset that would be in segments after a settle up to `up_to`.
    #[must_use]
    pub fn settling_end(&self, log: LogId, up_to: LogIndex) -> Offset {
        let Some(known) = self.logs.get(&log) else { return Offset::ZERO };
        let chosen = known.tail.settleable(up_to.min(known.durable), SETTLE_BYTES_MAX);
        known.tail.end_after(chosen.map_or(0, |(entry_count, _)| entry_count))
    }

    /// Notes which transactions of a log were aborted: from `since` on exactly these. To be told before
    /// any state that knows of them.
    pub fn note_aborted(&mut self, log: LogId, since: Offset, rows: Vec<AbortedTransaction>) {
        if self.logs.contains_key(&log) {
            self.manifest.enqueue(Record::Aborted { log, since, rows });
        }
    }

    /// How many aborted transactions are noted of all logs of this core.
    #[must_use]
    pub fn aborted_count(&self) -> usize {
        self.manifest.image().aborted_count()
    }

    /// Starts to settle the log's entries up to `up_to`, which must be committed, as far as they
    /// are durable here, or as many of them as are worth one job. `state` is the replication core's snapshot and the index it is
    /// applied to, at least `up_to`.
    ///
    /// [`StoreEvent::Settled`] follows. `false`: nothing to settle, or not now; the log is left
    /// alone for a second.
    ///
    /// # Panics
    /// When `state` is applied to less than `up_to`: recovery would lose what lies between.
    pub fn begin_settle(&mut self, log: LogId, up_to: LogIndex, state: (LogIndex, Bytes)) -> bool {
        assert!(state.0 >= up_to, "the state covers what is settled");
        let chosen = self
            .logs
            .get(&log)
            .filter(|_| self.may_settle(log) && self.settles.has_room())
            .and_then(|known| known.tail.settleable(up_to.min(known.durable), SETTLE_BYTES_MAX));
        let Some((entry_count, last)) = chosen else {
            self.settles.refused.insert(log, self.turn.after(SETTLE_BACKOFF));
            return false;
        };
        let plan = self.plan(log, entry_count, false);
        let warm = self.settles.warm.get(&log);
        let job = Job::new(log, last, entry_count, state, plan, warm);
        // Whoever looks for the oldest log must not walk past all those under way: at a stop that
        // is every partition of the core.
        if let Some(since) = self.logs.get(&log).and_then(|known| known.unsettled_since) {
            self.settles.ages.remove(&(since, log));
        }
        self.settles.under_way.insert(log, job.up_to.0);
        self.settles.writing.push(job);
        self.record_written();
        true
    }

    fn plan(&self, log: LogId, entry_count: usize, fresh: bool) -> Plan {
        let (known, image) = self.known(log).expect("a settle is of a known log");
        let warm = self.settles.warm.get(&log);
        let batches = known.tail.batches(entry_count);
        Plan::new(&image.segments, &known.settings, batches, warm, self.wall.0, fresh)
    }

    /// Takes an answer if it belongs to a settle.
    pub(super) fn settle_on_done(
        &mut self,
        done: DiskDone,
        out: &mut Vec<StoreEvent>,
    ) -> Result<Option<DiskDone>, StorageError> {
        if let Some(place) = self.settles.orphans.iter().position(|job| job.owns(done.id)) {
            let orphan = self.settles.orphans.swap_remove(place);
            self.try_finish_deletion(orphan.log);
            return Ok(None);
        }
        let Some(place) = self.settles.writing.iter().position(|job| job.owns(done.id)) else {
            return Ok(Some(done));
        };
        match self.settles.writing[place].on_done(done)? {
            Progress::Going => self.record_written(),
            Progress::TailUnreadable => {
                let (log, count) =
                    (self.settles.writing[place].log, self.settles.writing[place].entry_count);
                let plan = self.plan(log, count, true);
                self.settles.writing[place].plan_anew(plan, None);
            }
            Progress::NoSpace => {
                let job = self.settles.writing.swap_remove(place);
                self.settles.cool(job.log);
                self.settles.under_way.remove(&job.log);
                self.note_age(job.log);
                self.settles.refused.insert(job.log, self.turn.after(SETTLE_BACKOFF));
                out.push(StoreEvent::NoSpace);
            }
        }
        Ok(None)
    }

    /// Records in the manifest what is completely written.
    fn record_written(&mut self) {
        while let Some(place) = self.settles.writing.iter().position(Job::is_written) {
            let job = self.settles.writing.swap_remove(place);
            let ticket = self.record(&job);
            self.settles.recording.push((ticket, job));
        }
    }

    fn record(&mut self, job: &Job) -> Ticket {
        let log = job.log;
        for piece in &job.written {
            self.reader.learn(log, piece.segment.base, &piece.closed);
            if piece.active.is_none() {
                self.manifest.enqueue(Record::Sealed { log, segment: piece.segment });
            }
        }
        let known = self.logs.get(&log).expect("a deleted log's job is abandoned");
        let image = self.manifest.image().logs.get(&log).expect("a known log is in the manifest");
        let mut record = image.record(log);
        record.hard_state = known.hard_state;
        record.settled = job.up_to;
        (record.applied, record.state) = job.state.clone();
        if let Some(Piece { segment, active: Some(active), .. }) = job.written.last() {
            record.active = Some((*segment, *active));
            record.settled_end = segment.end;
        }
        self.manifest.enqueue(Record::Log(record))
    }

    /// Ends the settles whose records are durable.
    pub(super) fn settles_recorded(&mut self, durable: Ticket, out: &mut Vec<StoreEvent>) {
        let all = self.settles.recording.drain(..);
        let (ended, later): (Vec<_>, Vec<_>) = all.partition(|(ticket, _)| *ticket <= durable);
        self.settles.recording = later;
        for (_, job) in ended {
            self.end_settle(job, out);
        }
    }

    fn end_settle(&mut self, job: Job, out: &mut Vec<StoreEvent>) {
        let log = job.log;
        self.settles.under_way.remove(&log);
        let known = self.logs.get_mut(&log).expect("a deleted log's job is abandoned");
        let before = known.tail.bytes();
        let batches: Vec<Records> = known.tail.settle(job.entry_count);
        self.unsettled_bytes -= before - known.tail.bytes();
        batches.into_iter().for_each(|records| self.cache.push(log, records));
        self.note_age(log);
        self.settles.keep_warm(log, job.warm());
        self.journal.settled(log, job.up_to.0);
        out.push(StoreEvent::Settled { log, up_to: job.up_to.0 });
    }
}

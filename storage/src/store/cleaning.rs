//! Which log is cleaned when, and what its cleaning asks for.
//!
//! Does: choose the dirtiest log, drive one cleaning at a time, record what it begins and what it made.
//! Does not: judge records; know what is stable, aborted or who may come back: it is told.
//! Invariants: a file is made only after the manifest says durably that it is nobody's, so a crash leaves
//! nothing that a start does not remove; one record swaps it in; the old files go after that is durable.
//! While the clock is in doubt nothing is cleaned. Whatever else happens to a log goes before its cleaning.
//! Apart because it works in the background and must give way to everything else.
//!
//! ```text
//!  begin_clean --> Cleaning (see compaction/cleaning) --Name--> Leftover recorded, durable --> written
//!       ^                      |                                                                  |
//!       +-- pause, backoff <---+--Finish-- Clean recorded      Cleaned recorded, old condemned <--+
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::ids::{LogId, Offset};
use flumen_protocol::time::{Monotonic, Now};

use super::Store;
use crate::answers::{CleanerConfig, CleaningFacts, StoreEvent};
use crate::compaction::cleaning::{Broken, Cleaning, Wish};
use crate::compaction::plan::Dirt;
use crate::error::StorageError;
use crate::limits::{
    APPENDING_FOR, CLEANING_BACKOFF, CLEANING_BACKOFF_DAMAGED, CLEANING_BYTES_PER_SECOND_BUSY,
};
use crate::manifest::manifest::Ticket;
use crate::manifest::record::Record;
use crate::op::{DiskDone, DiskOp, Generation};
use crate::reader::jobs::{Answer, Outcome};
use crate::reader::plan::Want;
use crate::segment::segment::{Segment, SegmentName};

/// The cleanings of one core.
#[derive(Debug)]
pub(crate) struct Cleaner {
    config: CleanerConfig,
    job: Option<Cleaning>,
    /// The names of its files must be durable before anything is written under them.
    naming: Option<Ticket>,
    /// A cleaning that was given up while an operation of it was under way.
    orphan: Option<Cleaning>,
    /// Logs that are left alone, until when.
    refused: BTreeMap<LogId, Monotonic>,
    /// No look for a dirty log before this.
    look_after: Monotonic,
    /// Nothing is read or written before this.
    go_on_after: Monotonic,
    /// Bytes of all logs that could be cleaned, as of the last look.
    dirty_bytes: u64,
    /// What the shard has not heard yet.
    events: Vec<StoreEvent>,
    stopping: bool,
}

impl Cleaner {
    pub(crate) fn new() -> Self {
        Self {
            config: CleanerConfig::DEFAULT,
            job: None,
            naming: None,
            orphan: None,
            refused: BTreeMap::new(),
            look_after: Monotonic(0),
            go_on_after: Monotonic(0),
            dirty_bytes: 0,
            events: Vec::new(),
            stopping: false,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some() || self.orphan.is_some()
    }

    pub(super) fn has_orphan(&self, log: LogId) -> bool {
        self.orphan.as_ref().is_some_and(|orphan| orphan.log() == log)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.job.iter().chain(&self.orphan).map(Cleaning::memory_bytes).sum()
    }

    /// Takes so many bytes from what may be read and written.
    fn spend(&mut self, bytes: u64, now: Monotonic, is_busy: bool) {
        let busy = is_busy.then_some(CLEANING_BYTES_PER_SECOND_BUSY);
        let rate = [busy, self.config.bytes_per_second].into_iter().flatten().min();
        if let Some(rate) = rate {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.go_on_after = self.go_on_after.max(now).after(pause);
        }
    }
}

impl Store {
    /// What cleanings may take from now on; the one under way keeps its table.
    pub fn configure_cleaner(&mut self, config: CleanerConfig) {
        self.cleaner.config = config;
    }

    /// Bytes of logs of this core that could be cleaned, as of the last look.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.cleaner.dirty_bytes
    }

    /// The log that should be cleaned next, if any should: of those that are due the one with the largest
    /// dirty part. The caller answers with [`begin_clean`](Self::begin_clean). Looks at every log of the
    /// core, but only after a pause, and not while one is being cleaned.
    pub fn next_clean(&mut self, now: Now) -> Option<LogId> {
        (self.turn, self.wall) = (now.monotonic, now.wall);
        let waits = self.cleaner.is_busy() || now.monotonic < self.cleaner.look_after;
        if waits || self.cleaner.stopping || self.is_clock_doubted() {
            return None;
        }
        if self.manifest.is_short_of_room() {
            return None;
        }
        self.cleaner.refused.retain(|_, until| *until > now.monotonic);
        self.cleaner.look_after = now.monotonic.after(self.cleaner.config.pause);
        self.cleaner.dirty_bytes = 0;
        let logs: Vec<LogId> = self.logs.keys().copied().collect();
        let mut most: Option<(u32, LogId)> = None;
        for log in logs {
            let Some((dirt, is_due)) = self.dirt(log, Offset(i64::MAX)) else { continue };
            self.cleaner.dirty_bytes += dirt.dirty_bytes;
            let may = is_due && !self.cleaner.refused.contains_key(&log);
            if may && most.is_none_or(|(ratio, _)| dirt.ratio_ppm() > ratio) {
                most = Some((dirt.ratio_ppm(), log));
            }
        }
        most.map(|(_, log)| log)
    }

    /// Starts to clean a log, as far as that is due by what its owner says is stable;
    /// [`StoreEvent::Cleaned`] follows. `false`: not now; the log is left alone for a while.
    pub fn begin_clean(&mut self, log: LogId, facts: &CleaningFacts) -> bool {
        let may = !self.cleaner.is_busy() && !self.cleaner.stopping;
        let due = self.dirt(log, facts.stable).filter(|(_, is_due)| may && *is_due);
        let Some(((dirt, _), (known, image))) = due.zip(self.known(log)) else {
            self.refuse(log, CLEANING_BACKOFF);
            return false;
        };
        let Some(rules) = known.settings.compaction else { return false };
        let sealed = image.segments.sealed().iter().copied();
        let segments: Vec<Segment> = sealed.filter(|it| it.end > image.start).collect();
        let table_bytes = self.cleaner.config.table_bytes;
        let settings = (&known.settings, &rules);
        let times = (self.turn, self.wall);
        let job = Cleaning::new(log, settings, (dirt, segments), facts, table_bytes, times);
        self.cleaner.job = Some(job);
        true
    }

    /// When [`next_ops`](Self::next_ops) wants to be called even if nothing happens: a cleaning has more
    /// to work on, or waits for its share of the disk.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        let job = self.cleaner.job.as_ref()?;
        let waits = job.is_waiting() || self.cleaner.naming.is_some();
        (!waits).then_some(self.cleaner.go_on_after)
    }

    /// How cleanings ended since the last call.
    pub fn take_cleaned(&mut self, out: &mut Vec<StoreEvent>) {
        out.append(&mut self.cleaner.events);
    }

    fn dirt(&self, log: LogId, stable: Offset) -> Option<(Dirt, bool)> {
        let (known, image) = self.known(log)?;
        let rules = known.settings.compaction?;
        let dirt = Dirt::of(image, &rules, stable, self.wall);
        Some((dirt, dirt.is_due(&rules)))
    }

    fn refuse(&mut self, log: LogId, pause: Duration) {
        self.cleaner.refused.insert(log, self.turn.after(pause));
    }

    /// Lets the cleaning under way do one step. One step per turn: others wait for it.
    pub(super) fn clean(&mut self, out: &mut Vec<DiskOp>) {
        if self.cleaner.stopping {
            self.give_up_cleaning();
        }
        if self.turn < self.cleaner.go_on_after
            || self.cleaner.naming.is_some_and(|ticket| ticket > self.manifest.durable())
        {
            return;
        }
        self.cleaner.naming = None;
        let Some(job) = &mut self.cleaner.job else { return };
        let log = job.log();
        match job.next_wish() {
            None | Some(Wish::Turn) => {}
            Some(Wish::Read(request)) => {
                job.reading();
                self.spend(u64::from(request.max_bytes));
                let want = Want::Cleaning(request);
                if let Some(answer) = self.reader.start(log, want, self.manifest.image()) {
                    self.take_cleaning_read(answer);
                }
            }
            Some(Wish::Operate(file, action)) => {
                let id = self.ids.next_id();
                job.begun(id);
                self.spend(action.bytes());
                out.push(DiskOp { id, file, action });
            }
            Some(Wish::Name(old)) => self.name_output(log, &old),
            Some(Wish::Swap(made)) => self.swap(log, made),
            Some(Wish::Discard(name)) => {
                self.discard(name);
                self.cleaner.job.iter_mut().for_each(Cleaning::discarded);
            }
            Some(Wish::Finish(until)) => self.finish_cleaning(log, until),
        }
    }

    fn spend(&mut self, bytes: u64) {
        let appended = self.settles.appended;
        let is_busy = appended.is_some_and(|at| self.turn.since(at) < APPENDING_FOR);
        self.cleaner.spend(bytes, self.turn, is_busy);
    }

    /// Gives the files of what is to be written a name that no file has, and records that they are nobody's.
    fn name_output(&mut self, log: LogId, old: &[Segment]) {
        let base = old[0].base;
        let used = old.iter().map(|segment| segment.generation).max().unwrap_or_default();
        let going = self.manifest.image().condemned.iter();
        let going = going.filter(|name| name.log == log && name.base == base);
        let used = going.map(|name| name.generation).max().unwrap_or_default().max(used);
        let generation: Generation = used.next();
        let name = SegmentName { log, base, generation };
        self.cleaner.naming = Some(self.manifest.enqueue(Record::Leftover { name }));
        self.cleaner.job.iter_mut().for_each(|job| job.name(generation));
    }

    /// Puts what was made in its place, unless something of the old went away meanwhile.
    fn swap(&mut self, log: LogId, made: Segment) {
        let segments = self.manifest.image().logs.get(&log).map(|image| &image.segments);
        let old = segments.and_then(|segments| segments.replaceable(&made)).map(<[_]>::to_vec);
        let Some(old) = old else {
            self.discard(made.name(log));
            self.cleaner.job.iter_mut().for_each(|job| job.overtaken(&made));
            return;
        };
        let ticket = self.manifest.enqueue(Record::Cleaned { log, segment: made });
        for segment in &old {
            self.reader.forget_segment(log, segment.base);
            self.removals.condemn(segment.name(log), ticket);
        }
        self.cache.forget_before(log, made.end);
        self.reader.forget_before(log, made.end);
        let before = old.iter().map(|segment| segment.length).sum();
        self.cleaner.job.iter_mut().for_each(|job| job.swapped(before));
    }

    /// The manifest says already that nobody needs these files.
    fn discard(&mut self, name: SegmentName) {
        self.removals.condemn(name, self.manifest.durable());
    }

    fn finish_cleaning(&mut self, log: LogId, until: Offset) {
        let Some(job) = self.cleaner.job.take() else { return };
        let known = self.manifest.image().logs.get(&log);
        if known.is_some_and(|image| image.clean_until != until) {
            self.manifest.enqueue(Record::Clean { log, until });
        }
        let report = job.report(self.turn);
        if !report.left_out.is_empty() {
            self.refuse(log, CLEANING_BACKOFF_DAMAGED);
        }
        self.cleaner.look_after = self.turn;
        self.cleaner.events.push(StoreEvent::Cleaned { log, report: Box::new(report) });
    }

    /// Ends the cleaning under way before its time; what it swapped stays.
    fn give_up_cleaning(&mut self) {
        let Some(job) = self.cleaner.job.take() else { return };
        self.cleaner.naming = None;
        self.cleaner.look_after = self.turn.after(self.cleaner.config.pause);
        if job.has_operation() {
            self.cleaner.orphan = Some(job);
        } else if let Some(name) = job.unfinished() {
            self.discard(name);
        }
    }

    /// The log is being deleted.
    pub(super) fn abandon_cleaning(&mut self, log: LogId) {
        self.cleaner.refused.remove(&log);
        if self.cleaner.job.as_ref().is_some_and(|job| job.log() == log) {
            self.give_up_cleaning();
        }
    }

    /// No cleaning begins or goes on any more.
    pub(super) fn stop_cleaning(&mut self) {
        self.cleaner.stopping = true;
        self.give_up_cleaning();
    }

    /// Takes an answer if it belongs to a cleaning.
    pub(super) fn clean_on_done(
        &mut self,
        done: DiskDone,
    ) -> Result<Option<DiskDone>, StorageError> {
        if self.cleaner.orphan.as_ref().is_some_and(|orphan| orphan.owns(done.id)) {
            if let Some(orphan) = self.cleaner.orphan.take() {
                orphan.unfinished().into_iter().for_each(|name| self.discard(name));
                self.try_finish_deletion(orphan.log());
            }
            return Ok(None);
        }
        let Some(job) = self.cleaner.job.as_mut().filter(|job| job.owns(done.id)) else {
            return Ok(Some(done));
        };
        match done.result {
            Ok(_) => job.on_done(),
            Err(error) if error.kind.is_want_of_room() => {
                job.on_done();
                let log = job.log();
                self.refuse(log, CLEANING_BACKOFF);
                self.give_up_cleaning();
            }
            Err(error) => return Err(StorageError::DeviceFailed(error)),
        }
        Ok(None)
    }

    /// Takes the answer to a read of a cleaning, if that still waits for it.
    pub(super) fn take_cleaning_read(&mut self, answer: Answer) {
        let (Want::Cleaning(request), Outcome::Records(result)) = (answer.want, answer.outcome)
        else {
            unreachable!("a cleaning reads records");
        };
        let job = self.cleaner.job.as_mut();
        let Some(job) = job.filter(|job| job.awaits(answer.log, request.from)) else { return };
        match job.take(result) {
            Ok(()) => {}
            Err(Broken::Gone) => self.give_up_cleaning(),
            Err(Broken::Unavailable) => {
                let log = answer.log;
                self.refuse(log, CLEANING_BACKOFF);
                self.give_up_cleaning();
                self.cleaner.events.push(StoreEvent::CleaningBroken { log });
            }
        }
    }
}

//! The way from files to a running store.
//!
//! Does: read manifest and journal of a core, add up what each log has, set aside what is damaged,
//! and make durable what was found before anything is done with it.
//! Does not: read segments: how long a start takes depends on the journal's window only.
//! Invariants: nothing is written before everything is classified; opening again after a stop at
//! any point gives the same logs; the manifest is rewritten before the store is handed out.
//! Apart because it runs once, before there is a store.
//!
//! ```text
//!  Reading (folder, watermark, manifest) -> Scanning (journal files, one after the other)
//!    -> Reading again, once, if anything is wrong
//!    -> SettingAside (quarantine, flushes) -> Recording (manifest, with what is held) -> Ready
//!    -> finish()
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::ops::Range;

use flumen_protocol::ids::LogId;
use flumen_protocol::time::{Monotonic, Now, Wall};

use super::around::{Around, Step};
use super::basics::{Basics, contents};
use super::damage::SetAside;
use super::losses::{self, Losses, replay_after};
use super::scan::{JournalScan, Scanned, Scanner, Tail as JournalTail};
use super::truncate::Replay;
use crate::answers::{Recovered, RecoveredLog, StoreConfig};
use crate::error::{DiskError, DiskErrorKind, StorageError};
use crate::format::frame::Mark;
use crate::format::node::Identity;
use crate::journal::journal::{Journal, JournalConfig};
use crate::manifest::image::LogImage;
use crate::manifest::manifest::{Manifest, Parsed, parse};
use crate::manifest::record::Record;
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds};
use crate::reader::cache::TailCache;
use crate::reader::jobs::Reader;
use crate::retention::ClockGuard;
use crate::segment::segment::SegmentName;
use crate::segment::tail::Tail;
use crate::store::cleaning::Cleaner;
use crate::store::{Log, Store};

/// The recovery of one core.
#[derive(Debug)]
pub struct Opening {
    config: StoreConfig,
    journal_config: JournalConfig,
    identity: Identity,
    /// An operator gives up what is lost.
    accepts_damage: bool,
    ids: OpIds,
    phase: Phase,
    /// An operator says that the wall clock is right.
    confirms_clock: bool,
    report: Vec<String>,
    /// What was given up, a line each.
    accepted: Vec<String>,
    /// A file that could not be read whole.
    around: Option<Around>,
    /// Everything was read twice, since something was wrong with it the first time.
    has_looked_again: bool,
    /// The clocks as they were last told.
    now: Now,
}

#[derive(Debug)]
enum Phase {
    /// Folder, watermark and manifest are being read.
    Reading(Basics),
    /// Journal files are read one after the other.
    Scanning {
        scanner: Box<Scanner>,
        parsed: Parsed,
        slots: VecDeque<u64>,
        asked: Option<(OpId, u64)>,
    },
    /// What was found is made durable.
    SettingAside { found: Found, waiting: BTreeMap<OpId, FileName>, queued: Vec<DiskOp> },
    /// The manifest is written anew.
    Recording { found: Found, manifest: Manifest },
    /// Everything is there.
    Ready { found: Found, manifest: Manifest },
    /// The store was handed out, or recovery failed.
    Over,
}

/// What the files say, added up.
#[derive(Debug)]
struct Found {
    scan: JournalScan,
    parsed: Option<Parsed>,
    clock: ClockGuard,
    replays: BTreeMap<LogId, Replay>,
    /// The highest mark of each log.
    marks: BTreeMap<LogId, u64>,
    /// What damage took.
    losses: Losses,
    /// Logs deleted according to the journal: the mark's sequence.
    deleted: BTreeMap<LogId, u64>,
    /// Deleted logs the journal still holds something of, although not the mark.
    remains: BTreeSet<LogId>,
}

impl Opening {
    pub(crate) fn new(
        config: StoreConfig,
        journal_config: JournalConfig,
        identity: Identity,
    ) -> Self {
        Self {
            config,
            journal_config,
            identity,
            confirms_clock: false,
            accepts_damage: false,
            ids: OpIds::new(),
            phase: Phase::Reading(Basics::default()),
            report: Vec::new(),
            accepted: Vec::new(),
            around: None,
            has_looked_again: false,
            now: Now { monotonic: Monotonic(0), wall: Wall(0) },
        }
    }

    /// An operator accepts, with this start, the loss of all that is damaged: frames of which nobody
    /// knows whose they were, a tail longer than what can have been under way, and what held logs
    /// lost, so that these take records again. [`Recovered::accepted`] says what that was.
    #[must_use]
    pub fn accept_damage(mut self) -> Self {
        self.accepts_damage = true;
        self
    }

    /// An operator says that the wall clock is right: what is deleted by age goes again.
    #[must_use]
    pub fn confirm_clock(mut self) -> Self {
        self.confirms_clock = true;
        self
    }

    /// The operations to carry out now.
    pub fn next_ops(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        self.now = now;
        if let Some(around) = &mut self.around {
            around.next_op(&mut self.ids, out);
        }
        match &mut self.phase {
            Phase::Reading(basics) if !basics.begun => basics.begin(&mut self.ids, out),
            Phase::Scanning { slots, asked, .. } if asked.is_none() => {
                if let Some(slot) = slots.pop_front() {
                    let id = self.ids.next_id();
                    *asked = Some((id, slot));
                    out.push(DiskOp { id, file: FileName::Journal(slot), action: Action::ReadAll });
                }
            }
            Phase::SettingAside { queued, .. } => out.append(queued),
            Phase::Recording { manifest, .. } => manifest.next_op(now, &mut self.ids, out),
            Phase::Reading(_) | Phase::Scanning { .. } | Phase::Ready { .. } | Phase::Over => {}
        }
    }

    /// When [`next_ops`](Self::next_ops) wants to be called although nothing is under way: the disk
    /// was full when the manifest was to be written.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        match &self.phase {
            Phase::Recording { manifest, .. } => manifest.next_wakeup(),
            Phase::Reading(_)
            | Phase::Scanning { .. }
            | Phase::SettingAside { .. }
            | Phase::Ready { .. }
            | Phase::Over => None,
        }
    }

    /// Takes in one answer of the disk.
    ///
    /// # Errors
    /// Whatever stands in the way of a start; see [`StorageError::remedy`]. Nothing was written
    /// unless the device failed while writing.
    pub fn on_done(&mut self, done: DiskDone, now: Now) -> Result<(), StorageError> {
        let Some((done, lost)) = self.read_around(done) else { return Ok(()) };
        self.phase = match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Reading(mut basics) => {
                basics.take(done)?;
                self.scan_if_read(basics)?
            }
            Phase::Scanning { mut scanner, parsed, slots, asked } => {
                let (id, slot) = asked.expect("an answer to what was asked");
                assert_eq!(id, done.id, "one journal file at a time");
                scanner.feed(slot, contents(done)?.unwrap_or_default())?;
                scanner.note_unreadable(slot, lost);
                self.classify_if_scanned(scanner, parsed, slots)?
            }
            Phase::SettingAside { found, mut waiting, queued } => {
                let file = waiting.remove(&done.id).expect("an answer to what was asked");
                if let Err(error) = done.result {
                    self.go_on_without(file, &found.scan, error)?;
                }
                self.record_if_safe(found, waiting, queued)
            }
            Phase::Recording { found, mut manifest } => {
                let strange = manifest.on_done(done, now)?;
                assert!(strange.is_none(), "an answer nobody asked for");
                if manifest.is_busy() {
                    Phase::Recording { found, manifest }
                } else {
                    Phase::Ready { found, manifest }
                }
            }
            Phase::Ready { .. } | Phase::Over => panic!("an answer after the end of recovery"),
        };
        Ok(())
    }

    /// One block that the device has lost must not cost the start: the file is read around it. Gives back
    /// what is answered now, and what is lost of the file and stands as zeros in the answer.
    fn read_around(&mut self, done: DiskDone) -> Option<(DiskDone, Vec<Range<u64>>)> {
        let Some(around) = self.around.take_if(|around| around.awaits(done.id)) else {
            let is_reading = matches!(self.phase, Phase::Reading(_) | Phase::Scanning { .. });
            let around = Around::begin(&done).filter(|_| is_reading);
            if around.is_none() {
                return Some((done, Vec::new()));
            }
            assert!(self.around.is_none(), "journal files are read after the watermark");
            self.around = around;
            return None;
        };
        let file = around.file();
        match around.take(done) {
            Step::Going(around) => {
                self.around = Some(around);
                None
            }
            Step::Over(done, lost) => {
                self.report.extend(lost.iter().map(|Range { start, end }| {
                    format!("{file}: bytes {start} to {end} cannot be read, and count as zeros")
                }));
                Some((done, lost))
            }
        }
    }

    /// The store and what it found, once recovery is complete; `None` before.
    pub fn finish(&mut self) -> Option<(Store, Recovered)> {
        if !matches!(self.phase, Phase::Ready { .. }) {
            return None;
        }
        let Phase::Ready { found, manifest } = mem::replace(&mut self.phase, Phase::Over) else {
            return None;
        };
        Some(self.assemble(found, manifest))
    }

    fn scan_if_read(&mut self, basics: Basics) -> Result<Phase, StorageError> {
        if !basics.asked.is_empty() {
            return Ok(Phase::Reading(basics));
        }
        let parsed = match &basics.manifest {
            Some(file) => parse(file, &self.identity),
            None => Ok(Parsed::fresh()),
        };
        let is_wrong = match &parsed {
            Ok(parsed) => parsed.torn_bytes > 0,
            Err(error) => matches!(error, StorageError::Corrupt { .. }),
        };
        if is_wrong && self.looks_again() {
            return Ok(Phase::Reading(Basics::default()));
        }
        let parsed = parsed?;
        if parsed.torn_bytes > 0 {
            let bytes = parsed.torn_bytes;
            self.report.push(format!("manifest: {bytes} bytes of an unfinished write were cut"));
        }
        let watermark = basics.watermark.unwrap_or_default();
        let scanner = Scanner::new(self.identity, self.journal_config, &watermark)?;
        let slots = VecDeque::from(basics.slots.unwrap_or_default());
        self.classify_if_scanned(Box::new(scanner), parsed, slots)
    }

    fn classify_if_scanned(
        &mut self,
        scanner: Box<Scanner>,
        parsed: Parsed,
        slots: VecDeque<u64>,
    ) -> Result<Phase, StorageError> {
        if !slots.is_empty() {
            return Ok(Phase::Scanning { scanner, parsed, slots, asked: None });
        }
        let (last, known) = (parsed.sequence, scanner.manifest_chunk());
        if last < known && self.looks_again() {
            return Ok(Phase::Reading(Basics::default()));
        }
        if last < known {
            // Not the trace of a torn write: what was recorded there, others have forgotten since.
            let what = format!("it ends with chunk {last}, and chunk {known} was durable");
            return Err(StorageError::Corrupt { file: FileName::Manifest, what });
        }
        let scan = scanner.finish(self.accepts_damage, &parsed.image.accepted);
        if !scan.as_ref().is_ok_and(JournalScan::is_whole) && self.looks_again() {
            return Ok(Phase::Reading(Basics::default()));
        }
        let mut scan = scan?;
        if parsed.written.is_none() && !scan.frames.is_empty() {
            let what = "it is missing although the journal is in use".to_owned();
            return Err(StorageError::Corrupt { file: FileName::Manifest, what });
        }
        self.describe(&scan);
        let frames = mem::take(&mut scan.frames);
        let mut found = Found::new(scan, parsed);
        for frame in frames {
            found.take(frame.sequence, frame.log, frame.what);
        }
        let mut queued = Vec::new();
        found.scan.quarantine_ops(&mut self.ids, &mut queued);
        losses::ops(found.find_losses(), &mut self.ids, &mut queued);
        for file in &found.scan.to_flush {
            queued.push(DiskOp { id: self.ids.next_id(), file: *file, action: Action::Flush });
        }
        let waiting = queued.iter().map(|op| (op.id, op.file)).collect();
        Ok(self.record_if_safe(found, waiting, queued))
    }

    /// What was read may be wrong, and not what is there (fault row D7). Nothing is given up, cut or refused
    /// before it was read a second time; that counts. Says whether this is the first time.
    fn looks_again(&mut self) -> bool {
        let is_first = !mem::replace(&mut self.has_looked_again, true);
        if is_first {
            self.report.clear();
        }
        is_first
    }

    /// On a full disk a node must start, and a torn tail is of interest to the curious only: nothing
    /// of it was acknowledged. What was acknowledged and is damaged is not let go like that.
    fn go_on_without(
        &mut self,
        file: FileName,
        scan: &JournalScan,
        error: DiskError,
    ) -> Result<(), StorageError> {
        let is_tail = matches!(scan.tail, JournalTail::Cut { sequence, .. }
            if matches!(file, FileName::Quarantine(name) if name.sequence == sequence));
        let is_full = error.kind == DiskErrorKind::NoSpace;
        if is_full && is_tail {
            self.report.push(format!("{error}; what was cut is not kept"));
            return Ok(());
        }
        let is_kept_for_repair = matches!(file, FileName::Quarantine(_));
        Err(if is_full && is_kept_for_repair {
            StorageError::NoSpace(error)
        } else {
            StorageError::DeviceFailed(error)
        })
    }

    /// Bytes found after a crash may not be durable (F14): they are flushed before the manifest,
    /// which is written last, lets anybody act on them.
    fn record_if_safe(
        &mut self,
        mut found: Found,
        waiting: BTreeMap<OpId, FileName>,
        queued: Vec<DiskOp>,
    ) -> Phase {
        if !waiting.is_empty() {
            return Phase::SettingAside { found, waiting, queued };
        }
        let mut parsed = found.parsed.take().expect("the manifest was read");
        let losses = mem::take(&mut found.losses);
        self.accepted =
            losses.note(&found.scan, &mut parsed.image, &mut found.replays, self.accepts_damage);
        let mut manifest = Manifest::new(parsed, self.identity);
        found.record_in(&mut manifest, &mut self.report);
        self.judge_clock(&mut found.clock, &mut manifest);
        Phase::Recording { found, manifest }
    }

    /// Before the manifest is written by this clock: the time of that is what the next start goes by.
    fn judge_clock(&mut self, clock: &mut ClockGuard, manifest: &mut Manifest) {
        if self.confirms_clock {
            clock.confirm();
        }
        clock.observe(self.now);
        manifest.note_clock(clock.doubted());
    }

    fn describe(&mut self, scan: &JournalScan) {
        match scan.tail {
            JournalTail::Clean => {}
            JournalTail::Cut { .. } if scan.is_suspicious => {}
            JournalTail::Cut { sequence, bytes } => self.report.push(format!(
                "journal: {bytes} bytes from sequence {sequence} on were never acknowledged; cut"
            )),
        }
        let ranges = scan.damaged.iter();
        let ranges = ranges.map(|range| (range.describe(), range.set_aside().name));
        self.report.extend(ranges.map(|(what, name)| format!("{what}; they are in {name}")));
    }

    fn assemble(&mut self, mut found: Found, manifest: Manifest) -> (Store, Recovered) {
        found.scan.damaged.clear();
        let mut recovered = Recovered {
            logs: Vec::new(),
            report: mem::take(&mut self.report),
            accepts_damage: self.accepts_damage,
            accepted: mem::take(&mut self.accepted),
        };
        let journal = Journal::new(self.journal_config, found.scan.start);
        let mut store =
            Store::assembled(self.config, mem::take(&mut self.ids), journal, manifest, found.clock);
        (store.turn, store.wall) = (self.now.monotonic, self.now.wall);
        for (log, sequence) in found.marks {
            store.journal.marks_settled(log, sequence);
        }
        for log in found.remains {
            store.journal.append_mark(log, Mark::Deleted);
        }
        for (log, replay) in found.replays {
            recovered.logs.push(store.adopt(log, replay));
        }
        store.resume_removals();
        (store, recovered)
    }
}

impl Found {
    fn new(scan: JournalScan, parsed: Parsed) -> Self {
        let logs = parsed.image.logs.iter();
        Self {
            scan,
            clock: ClockGuard::new(parsed.written, parsed.image.doubted),
            replays: logs.map(|(log, image)| (*log, replay_after(image))).collect(),
            parsed: Some(parsed),
            marks: BTreeMap::new(),
            losses: Losses::default(),
            deleted: BTreeMap::new(),
            remains: BTreeSet::new(),
        }
    }

    /// Takes the journal's frames in their order.
    fn take(&mut self, sequence: u64, log: LogId, what: Scanned) {
        if let Scanned::Mark(_) = what {
            self.marks.insert(log, sequence);
        }
        let known = self.parsed.as_ref().and_then(|parsed| parsed.image.deleted.get(&log));
        if known.is_some_and(|deleted| sequence <= *deleted) {
            self.remains.insert(log);
            return;
        }
        let image = self.parsed.as_ref().and_then(|parsed| parsed.image.logs.get(&log));
        let void = image.and_then(|image| image.void);
        let empty = || replay_after(&LogImage::empty());
        match what {
            Scanned::Entry(entry) if void.is_some_and(|it| it.covers(sequence, entry.index)) => {}
            Scanned::Entry(entry) => {
                self.replays.entry(log).or_insert_with(empty).take_entry(sequence, entry);
            }
            Scanned::HardState(mut state) => {
                let known = void.filter(|void| sequence <= void.sequence);
                state.commit = known.map_or(state.commit, |void| state.commit.min(void.after));
                self.replays.entry(log).or_insert_with(empty).take_hard_state(state);
            }
            Scanned::Mark(Mark::Deleted) => {
                self.replays.remove(&log);
                self.deleted.insert(log, sequence);
            }
            Scanned::Mark(Mark::SuffixCut { from }) => {
                self.replays.entry(log).or_insert_with(empty).cut(from);
            }
        }
    }

    /// Finds what damage took from which log; says what is to be set aside of them.
    fn find_losses(&mut self) -> Vec<SetAside> {
        let parsed = self.parsed.as_ref().expect("the manifest was read");
        let (losses, aside) =
            Losses::find(&self.scan, &parsed.image, &self.deleted, &mut self.replays);
        self.losses = losses;
        aside
    }

    /// Tells the manifest what only the journal knew.
    fn record_in(&mut self, manifest: &mut Manifest, report: &mut Vec<String>) {
        for (log, sequence) in &self.deleted {
            manifest.enqueue(Record::Deleted { log: *log, sequence: *sequence });
            report.push(format!("{log}: deleted before the stop; its files go now"));
        }
        let forgotten: Vec<LogId> = manifest.image().deleted.keys().copied().collect();
        for log in forgotten {
            // Nothing of the old log is in the journal any more, so nothing must be left out.
            if !self.remains.contains(&log) && !self.deleted.contains_key(&log) {
                manifest.enqueue(Record::Forgotten { log });
            }
        }
        for (log, replay) in &self.replays {
            manifest.know(*log);
            manifest.note_hard_state(*log, replay.hard_state);
        }
        // A mark is needed as long as what it ends is in the journal; the ones found are recorded
        // now. Marking again is for logs whose mark is gone while something older is not.
        let marks = &self.marks;
        let replays = &self.replays;
        self.remains.retain(|log| !marks.contains_key(log) && !replays.contains_key(log));
    }
}

impl Store {
    fn assembled(
        config: StoreConfig,
        ids: OpIds,
        journal: Journal,
        manifest: Manifest,
        clock: ClockGuard,
    ) -> Self {
        Self {
            config,
            ids,
            journal,
            manifest,
            reader: Reader::new(config.window_bytes),
            cache: TailCache::new(config.cache_bytes),
            logs: BTreeMap::new(),
            settles: Default::default(),
            removals: Default::default(),
            cleaner: Cleaner::new(),
            clock,
            starts: Vec::new(),
            unsettled_bytes: 0,
            turn: Monotonic(0),
            wall: Wall(0),
        }
    }

    /// Takes over what recovery found of one log.
    fn adopt(&mut self, log: LogId, replay: Replay) -> RecoveredLog {
        let image = self.manifest.image().logs.get(&log).expect("every log is in the manifest");
        let (settled, start_offset) = (image.settled, image.start);
        let settled_end = image.settled_end;
        let state = (image.applied, image.state.clone());
        let aborted = image.aborted().copied().collect();
        let (held, void) = (image.hold.clone(), image.void);
        self.journal.settled(log, settled.0);
        if let Some(void) = void {
            self.journal.forget_void(log, void);
        }
        let mut tail = Tail::after(settled, settled_end);
        replay.entries.iter().cloned().for_each(|entry| tail.push(entry));
        let hard_state = replay.hard_state;
        self.unsettled_bytes += tail.bytes();
        self.logs.insert(log, Log::new(tail, hard_state));
        self.note_age(log);
        let entries = replay.entries;
        RecoveredLog {
            log,
            hard_state,
            settled,
            state,
            aborted,
            start_offset,
            settled_end,
            entries,
            held,
        }
    }

    /// Goes on deleting what was condemned before the stop.
    fn resume_removals(&mut self) {
        let durable = self.manifest.durable();
        let condemned: Vec<SegmentName> = self.manifest.image().condemned.iter().copied().collect();
        let mut gone: BTreeSet<LogId> = self.manifest.image().deleted.keys().copied().collect();
        for name in condemned {
            self.removals.condemn(name, durable);
            gone.insert(name.log);
        }
        for log in gone {
            if !self.logs.contains_key(&log) {
                self.removals.resume_log(log);
            }
        }
    }
}

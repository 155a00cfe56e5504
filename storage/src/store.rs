//! Everything one core holds on disk, behind one door.
//!
//! Does: take what the shard appends, saves, cuts, deletes and reads; drive journal, manifest,
//! settles, removals and readers; report what became true.
//! Does not: carry out operations, read a clock, or know what is committed: it is told.
//! Invariants: an entry is in the journal and in memory until it is in segments, flushed, and
//! recorded in the manifest; only then may the journal forget it. A file is deleted only after the
//! manifest says durably that nobody needs it.
//! Apart because the shard must see one log store and not five rooms.
//!
//! ```text
//!  append --> journal (durable) --> tail in memory --settle--> segments --> manifest --> forgotten
//!                                       |                          |
//!                                     reads <---- tail cache <-----+---- windows <---- cold reads
//! ```

use std::collections::{BTreeMap, VecDeque};

use flumen_protocol::entry::{Entry, HardState};
use flumen_protocol::ids::{LogId, LogIndex, Offset, Term};
use flumen_protocol::time::{Monotonic, Now, Wall};

use crate::answers::{LogSettings, StoreConfig, StoreEvent};
use crate::error::StorageError;
use crate::format::frame::Mark;
use crate::format::node::Identity;
use crate::journal::journal::{Journal, JournalConfig, JournalEvent};
use crate::limits::SETTLE_BYTES_WORTH;
use crate::manifest::handover::Handover;
use crate::manifest::image::LogImage;
use crate::manifest::manifest::{Manifest, Ticket};
use crate::op::{DiskDone, DiskOp, OpIds};
use crate::reader::cache::TailCache;
use crate::reader::jobs::Reader;
use crate::recovery::open::Opening;
use crate::retention::ClockGuard;
use crate::segment::tail::Tail;

pub(crate) mod cleaning;
mod reading;
mod removal;
mod settling;

use cleaning::Cleaner;
use removal::Removals;
use settling::Settles;

/// The log store of one core. Owned by its shard, which is its only caller.
#[derive(Debug)]
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) ids: OpIds,
    pub(crate) journal: Journal,
    pub(crate) manifest: Manifest,
    pub(crate) reader: Reader,
    pub(crate) cache: TailCache,
    /// Invariant: every log here is in the manifest's image. One being deleted is not here; it stays
    /// there until the journal has marked its deletion, and is then among the image's deleted.
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) settles: Settles,
    pub(crate) removals: Removals,
    pub(crate) cleaner: Cleaner,
    pub(crate) clock: ClockGuard,
    /// Start offsets that become durable with these records.
    pub(crate) starts: Vec<(Ticket, LogId, Offset)>,
    /// Bytes of all tails.
    pub(crate) unsettled_bytes: usize,
    /// Both clocks as of the last turn.
    pub(crate) turn: Monotonic,
    pub(crate) wall: Wall,
}

/// One log, as far as it is only in memory.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) settings: LogSettings,
    pub(crate) tail: Tail,
    /// The newest hard state saved, durable or not.
    pub(crate) hard_state: HardState,
    /// The last entry known to be in the journal for good.
    pub(crate) durable: LogIndex,
    /// Cuts the journal has not reported yet, in order. What it reports before the cut may be
    /// about entries that are gone.
    pub(crate) cuts: VecDeque<LogIndex>,
    /// When the oldest unsettled entry came; `None` without any.
    pub(crate) unsettled_since: Option<Monotonic>,
}

impl Log {
    /// A log all of whose entries are durable.
    pub(crate) fn new(tail: Tail, hard_state: HardState) -> Self {
        let (durable, _) = tail.last();
        let (settings, cuts) = (LogSettings::KEEP_ALL, VecDeque::new());
        Self { settings, tail, hard_state, durable, cuts, unsettled_since: None }
    }
}

impl Store {
    /// Begins the recovery of a core; the store comes out of [`Opening::finish`].
    #[must_use]
    pub fn open(config: StoreConfig, journal: JournalConfig, identity: Identity) -> Opening {
        Opening::new(config, journal, identity)
    }

    /// Makes a log known, empty. Does nothing but `configure` if it is known already.
    ///
    /// # Panics
    /// While a log of that name is being deleted: wait for [`StoreEvent::Deleted`].
    pub fn create(&mut self, log: LogId, settings: LogSettings) {
        assert!(!self.is_deleting(log), "{log} is made anew before it is gone");
        if self.manifest.know(log) {
            let tail = Tail::after((LogIndex::ZERO, Term::ZERO), Offset::ZERO);
            self.logs.insert(log, Log::new(tail, HardState::INITIAL));
        }
        self.configure(log, settings);
    }

    /// Changes a log's settings from now on. Ignored for unknown logs.
    pub fn configure(&mut self, log: LogId, settings: LogSettings) {
        if let Some(known) = self.logs.get_mut(&log) {
            known.settings = settings;
        }
    }

    /// All logs there are, in order.
    pub fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.keys().copied()
    }

    /// Queues an entry for the journal and keeps it for readers. [`StoreEvent::Durable`] follows.
    ///
    /// # Panics
    /// When the log is unknown or the entry does not follow its last: our own bugs.
    pub fn append(&mut self, log: LogId, entry: Entry) {
        let known = self.logs.get_mut(&log).expect("an append goes to a known log");
        let before = known.tail.bytes();
        known.tail.push(entry.clone());
        let bytes = known.tail.bytes();
        self.unsettled_bytes += bytes - before;
        self.settles.appended = Some(self.turn);
        if known.unsettled_since.is_none() {
            known.unsettled_since = Some(self.turn);
            self.settles.ages.insert((self.turn, log));
        }
        if bytes >= SETTLE_BYTES_WORTH {
            self.settles.ripe.insert(log);
        }
        self.journal.append(log, entry);
    }

    /// Queues a Raft member's promise. [`StoreEvent::HardStateDurable`] follows.
    ///
    /// # Panics
    /// When the log is unknown.
    pub fn save_hard_state(&mut self, log: LogId, hard_state: HardState) {
        let known = self.logs.get_mut(&log).expect("a hard state is of a known log");
        known.hard_state = hard_state;
        self.manifest.note_hard_state(log, hard_state);
        self.journal.append_hard_state(log, hard_state);
    }

    /// Drops every entry from `from` on: a leader of a later term ordered others there.
    ///
    /// # Panics
    /// When the log is unknown, or what would be cut is settled or being settled: settled entries
    /// are committed, and Raft never cuts those.
    pub fn cut_suffix(&mut self, log: LogId, from: LogIndex) {
        let settling = self.settles.up_to(log);
        assert!(settling.is_none_or(|up_to| up_to < from), "what is being settled is committed");
        let known = self.logs.get_mut(&log).expect("a cut is of a known log");
        let before = known.tail.bytes();
        known.tail.cut(from);
        known.durable = known.durable.min(LogIndex(from.0 - 1));
        known.cuts.push_back(from);
        self.unsettled_bytes -= before - known.tail.bytes();
        self.journal.append_mark(log, Mark::SuffixCut { from });
        self.note_age(log);
    }

    /// The first offset the log has; `None` for unknown logs.
    #[must_use]
    pub fn start_offset(&self, log: LogId) -> Option<Offset> {
        self.known(log).map(|(_, image)| image.start)
    }

    /// One after the log's last offset.
    #[must_use]
    pub fn end_offset(&self, log: LogId) -> Option<Offset> {
        self.known(log).map(|(known, _)| known.tail.end())
    }

    /// The last entry in segments and its term: recovery gives back what follows.
    #[must_use]
    pub fn settled(&self, log: LogId) -> Option<(LogIndex, Term)> {
        self.known(log).map(|(_, image)| image.settled)
    }

    /// Bytes of the log's segments; the journal is not counted.
    #[must_use]
    pub fn bytes_on_disk(&self, log: LogId) -> Option<u64> {
        self.known(log).map(|(_, image)| image.segments.bytes())
    }

    /// Bytes of all batches of the log, wherever they are.
    #[must_use]
    pub fn log_bytes(&self, log: LogId) -> Option<u64> {
        self.known(log).map(|(log, image)| image.segments.bytes() + log.tail.payload_bytes() as u64)
    }

    /// The core's journal, for what the broker measures.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Deletion by age is suspended because the wall clock jumped (fault row K1), now or before an
    /// earlier start: until it shows what it should, or an operator confirms it
    /// ([`Opening::confirm_clock`]).
    #[must_use]
    pub fn is_clock_doubted(&self) -> bool {
        self.clock.doubted().is_some()
    }

    /// Once per turn, and every second or so if there is none: the operations to carry out now. The
    /// journal's watermark, another try after the disk was full, and settles of what is old come
    /// with time alone.
    pub fn next_ops(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        (self.turn, self.wall) = (now.monotonic, now.wall);
        self.watch_clock(now);
        let is_awaited = self.removals.is_any_due(self.manifest.durable());
        self.journal.manifest_durable(self.manifest.last_chunk(), is_awaited);
        self.journal.next_ops(now, &mut self.ids, out);
        self.settles.next_ops(&mut self.ids, out);
        self.clean(out);
        self.manifest.next_op(now, &mut self.ids, out);
        let vouched = self.manifest.vouched(self.journal.manifest_named());
        self.removals.next_ops(vouched, self.turn, &mut self.ids, out);
        self.reader.next_ops(&mut self.ids, out);
    }

    /// Takes in one answer of the disk.
    ///
    /// # Errors
    /// [`StorageError::DeviceFailed`]: nothing pending may be answered as done; the shard stops.
    pub fn on_done(
        &mut self,
        done: DiskDone,
        now: Now,
        out: &mut Vec<StoreEvent>,
    ) -> Result<(), StorageError> {
        (self.turn, self.wall) = (now.monotonic, now.wall);
        let mut events = Vec::new();
        let Some(done) = self.journal.on_done(done, &mut events)? else {
            events.into_iter().for_each(|event| self.on_journal(event, out));
            return Ok(());
        };
        let Some(done) = self.settle_on_done(done, out)? else { return Ok(()) };
        let Some(done) = self.clean_on_done(done)? else { return Ok(()) };
        let Some(done) = self.manifest.on_done(done, now)? else {
            self.on_manifest(out);
            return Ok(());
        };
        let Some(done) = self.removal_on_done(done, out)? else { return Ok(()) };
        let strange = self.read_on_done(done, out);
        assert!(strange.is_none(), "an answer nobody asked for: {strange:?}");
        Ok(())
    }

    /// Whether anything is under way or waits to be.
    #[must_use]
    pub fn outstanding(&self) -> bool {
        self.journal.in_flight() > 0
            || self.journal.queued_bytes() > 0
            || self.manifest.is_busy()
            || self.settles.is_busy()
            || self.cleaner.is_busy()
            || self.removals.is_busy()
            || self.reader.is_busy()
    }

    /// Bytes of memory held for logs and readers, roughly. Costs a walk over all logs.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let of_logs = self.logs.len() * (size_of::<Log>() + size_of::<LogId>());
        let held = self.unsettled_bytes + self.cache.bytes() + self.reader.memory_bytes();
        of_logs
            + held
            + self.manifest.heap_bytes()
            + self.settles.memory_bytes()
            + self.cleaner.memory_bytes()
    }

    /// From now on [`next_settle`](Self::next_settle) names every log with anything unsettled,
    /// until there is none: for a stop after which nothing must be replayed.
    pub fn prepare_stop(&mut self) {
        self.settles.stopping = true;
        self.stop_cleaning();
    }

    /// What the cores of another layout take over from this one: everything, because the journal
    /// holds nothing that is not in segments.
    ///
    /// # Errors
    /// A log with entries that only the journal holds: settle it first.
    ///
    /// # Panics
    /// While anything is [`outstanding`](Self::outstanding).
    pub fn hand_over(&self) -> Result<Handover, LogId> {
        assert!(!self.outstanding(), "a store is handed over at rest");
        match self.logs.iter().find(|(_, known)| !known.tail.is_empty()) {
            Some((log, _)) => Err(*log),
            None => {
                Ok(Handover::new(self.manifest.image(), self.clock.written().max(Some(self.wall))))
            }
        }
    }

    /// A doubt is recorded at once: a restart would otherwise take a jump for time that passed.
    pub(crate) fn watch_clock(&mut self, now: Now) {
        self.clock.observe(now);
        self.manifest.note_clock(self.clock.doubted());
    }

    /// A log that is not being deleted, in memory and in the manifest.
    pub(crate) fn known(&self, log: LogId) -> Option<(&Log, &LogImage)> {
        Some((self.logs.get(&log)?, self.manifest.image().logs.get(&log)?))
    }

    /// Corrects when the log's unsettled entries began to age.
    pub(crate) fn note_age(&mut self, log: LogId) {
        let Some(known) = self.logs.get_mut(&log) else { return };
        if let Some(since) = known.unsettled_since.take() {
            self.settles.ages.remove(&(since, log));
        }
        if known.tail.bytes() < SETTLE_BYTES_WORTH {
            self.settles.ripe.remove(&log);
        }
        if !known.tail.is_empty() {
            known.unsettled_since = Some(self.turn);
            self.settles.ages.insert((self.turn, log));
        }
    }

    fn on_journal(&mut self, event: JournalEvent, out: &mut Vec<StoreEvent>) {
        match event {
            JournalEvent::Durable { log, index } => self.on_durable(log, index, out),
            JournalEvent::HardStateDurable { log, term } => {
                out.push(StoreEvent::HardStateDurable { log, term });
            }
            JournalEvent::Marked { log, mark: Mark::Deleted, sequence } => {
                self.deletion_marked(log, sequence);
            }
            // A cut needs no memory beyond the frames it cut: what came instead of them has a
            // higher term, which recovery recognises.
            JournalEvent::Marked { log, mark: Mark::SuffixCut { from }, sequence } => {
                self.journal.marks_settled(log, sequence);
                if let Some(known) = self.logs.get_mut(&log) {
                    let cut = known.cuts.pop_front();
                    assert_eq!(cut, Some(from), "cuts are reported in order");
                }
            }
            JournalEvent::NoSpace => out.push(StoreEvent::NoSpace),
        }
    }

    /// Passes on what is durable of the log as it is now: a write that was under way when the
    /// suffix was cut speaks about entries others have taken the place of.
    fn on_durable(&mut self, log: LogId, index: LogIndex, out: &mut Vec<StoreEvent>) {
        let Some(known) = self.logs.get_mut(&log) else { return };
        let index = known.cuts.iter().fold(index, |index, from| index.min(LogIndex(from.0 - 1)));
        if index > known.durable {
            assert!(index <= known.tail.last().0, "nothing is durable that was not appended");
            known.durable = index;
            out.push(StoreEvent::Durable { log, index });
        }
    }

    /// Something became durable in the manifest: whoever waited for it goes on.
    fn on_manifest(&mut self, out: &mut Vec<StoreEvent>) {
        let durable = self.manifest.durable();
        self.settles_recorded(durable, out);
        self.deletions_recorded(durable);
        let all = self.starts.drain(..);
        let (now_durable, later): (Vec<_>, Vec<_>) =
            all.partition(|(ticket, ..)| *ticket <= durable);
        self.starts = later;
        let started = now_durable.into_iter().map(|(_, log, start)| (log, start));
        out.extend(started.map(|(log, start)| StoreEvent::StartDurable { log, start }));
    }
}

#[cfg(test)]
mod tests;

//! The journal of one core: what is appended here is durable when it says so.
//!
//! Does: queue what all partitions of the core append, write it in commits, and say in order what
//! became durable; prepare the next file ahead of need, recycle the oldest, keep the watermark.
//! Does not: read back, write segments, or know time beyond the argument of [`Journal::next_ops`].
//! Invariants: a commit is reported durable only after all commits before it; a failed write is
//! never tried again, and after it nothing is written at all; a frame is acknowledged only from a
//! file that was wholly written and flushed before.
//! Apart because this is the promise of the whole broker in one type.
//!
//! ```text
//!   append → Queued ──next_ops──▶ Issued ──on_done──▶ Durable (event)
//!                                    └──on_done(error)──▶ failed: the shard stops
//! ```

use std::collections::VecDeque;

use flumen_protocol::entry::{Entry, HardState};
use flumen_protocol::ids::{LogId, LogIndex, Term};
use flumen_protocol::time::{Monotonic, Now};

use crate::error::{DiskError, StorageError};
use crate::format::frame::{Content, Mark, Opening, UseId};
use crate::format::node::Identity;
use crate::format::watermark::{WATERMARK_FILE_BYTES, Watermark};
pub use crate::journal::config::JournalConfig;
use crate::journal::errand::{Errand, Hold};
use crate::journal::packer::{Commit, Cursor, Landed, LandedContent, front_fits, pack};
use crate::journal::queue::{Queue, Queued};
use crate::journal::recycle::Files;
use crate::limits::{
    BLOCK_BYTES, COMMITS_IN_FLIGHT_MAX, JOURNAL_FILES_MAX, QUEUE_BYTES_MAX, WATERMARK_EVERY,
    WATERMARK_EVERY_BYTES,
};
use crate::manifest::hold::Void;
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds};

/// What the journal begins with: nothing, or what the scan found.
#[derive(Debug)]
pub struct JournalStart {
    pub(crate) identity: Identity,
    pub(crate) next_sequence: u64,
    pub(crate) previous: u32,
    pub(crate) files: Files,
    pub(crate) watermark: Watermark,
    /// Whether the watermark's file is there and was wholly written.
    pub(crate) watermark_ready: bool,
}

impl JournalStart {
    /// A journal that never was.
    #[must_use]
    pub fn fresh(identity: Identity) -> Self {
        Self {
            identity,
            next_sequence: 1,
            previous: 0,
            files: Files::default(),
            watermark: Watermark::default(),
            watermark_ready: false,
        }
    }
}

/// What became durable. Logs in ascending order within a commit, commits in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// Every entry of the log up to this index is durable.
    Durable {
        /// Which log.
        log: LogId,
        /// The highest durable index that a cut in the same commit did not void.
        index: LogIndex,
    },
    /// The log's hard state of this term is durable.
    HardStateDurable {
        /// Which log.
        log: LogId,
        /// The term saved.
        term: Term,
    },
    /// The mark is durable in the journal; see [`Journal::marks_settled`].
    Marked {
        /// Which log.
        log: LogId,
        /// What was marked.
        mark: Mark,
        /// The mark's place in the journal's order.
        sequence: u64,
    },
    /// The disk has no room for a further journal file; tried again by itself.
    NoSpace,
}

/// A commit under way.
#[derive(Debug)]
struct Issued {
    id: OpId,
    last_sequence: u64,
    written: bool,
    landed: Vec<Landed>,
}

/// The journal of one core.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    identity: Identity,
    queue: Queue,
    files: Files,
    cursor: Cursor,
    /// Whether a file is being written; the cursor's place means nothing before.
    has_active: bool,
    /// Invariant: in commit order; at most `config.commits_in_flight` long.
    issued: VecDeque<Issued>,
    /// Invariant: at most one of each kind.
    errands: Vec<Errand>,
    prepare_hold: Hold,
    watermark_hold: Hold,
    durable: u64,
    /// Files of an earlier life end at or before this sequence.
    inherited: u64,
    watermark: Watermark,
    watermark_ready: bool,
    /// When the watermark was last issued.
    watermark_at: Option<Monotonic>,
    /// Bytes committed since.
    watermark_bytes: u64,
    /// The last chunk of the manifest known durable.
    manifest: u64,
    /// Something waits for the watermark to name that chunk.
    is_manifest_awaited: bool,
    counter: u64,
    has_failed: bool,
}

impl Journal {
    /// A journal going on from `start`. It always begins a new use of a file: nothing is ever
    /// written behind a tail that may have been torn.
    ///
    /// # Panics
    /// If the configuration contradicts itself.
    #[must_use]
    pub fn new(config: JournalConfig, start: JournalStart) -> Self {
        config.assert_sound();
        assert!(start.next_sequence > start.watermark.durable, "what was durable stays given out");
        let use_id = UseId { owner: start.identity.digest(), counter: 0, slot: 0 };
        Self {
            config,
            identity: start.identity,
            queue: Queue::default(),
            files: start.files,
            cursor: Cursor {
                use_id,
                position: 0,
                sequence: start.next_sequence,
                previous: start.previous,
            },
            has_active: false,
            issued: VecDeque::with_capacity(COMMITS_IN_FLIGHT_MAX),
            errands: Vec::new(),
            prepare_hold: Hold::No,
            watermark_hold: Hold::No,
            durable: start.next_sequence - 1,
            inherited: start.next_sequence - 1,
            counter: start.watermark.counter,
            watermark: start.watermark,
            watermark_ready: start.watermark_ready,
            watermark_at: None,
            watermark_bytes: 0,
            manifest: start.watermark.manifest,
            is_manifest_awaited: false,
            has_failed: false,
        }
    }

    /// Queues an entry: cheap, the bytes are shared.
    ///
    /// # Panics
    /// If the payload is longer than [`JournalConfig::payload_bytes_max`]: whoever takes batches from
    /// others checks them.
    pub fn append(&mut self, log: LogId, entry: Entry) {
        self.push(log, Content::Entry(entry));
    }

    /// Queues a hard state. The journal itself keeps the latest one of each log alive.
    pub fn append_hard_state(&mut self, log: LogId, state: HardState) {
        self.push(log, Content::HardState(state));
    }

    /// Queues a mark; it stays in the journal until [`Self::marks_settled`].
    ///
    /// A deletion goes first and takes the place of what still waits of the log: with the window
    /// full, the log's entries may be what keeps the oldest file, and nobody settles them any more.
    pub fn append_mark(&mut self, log: LogId, mark: Mark) {
        let content = Content::Mark(mark);
        match mark {
            Mark::Deleted => {
                self.queue.forget(log);
                self.queue.push_front(Queued { log, content, carried: false });
            }
            Mark::SuffixCut { .. } => self.push(log, content),
        }
    }

    fn push(&mut self, log: LogId, content: Content) {
        let len = content.payload_len();
        assert!(len <= self.config.payload_bytes_max(), "an entry fits a journal file");
        self.queue.push(Queued { log, content, carried: false });
    }

    /// Issues what is due; to be called once per turn, after everything was appended. Everything
    /// queued goes into one commit as soon as fewer than `commits_in_flight` are under way.
    pub fn next_ops(&mut self, now: Now, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        if self.has_failed {
            return;
        }
        self.carry_forward();
        while self.issued.len() < self.config.commits_in_flight && !self.queue.is_empty() {
            if !self.issue_commit(ids, out) {
                break;
            }
        }
        self.prepare_ahead(now.monotonic, ids, out);
        self.write_watermark(now.monotonic, ids, out);
    }

    /// Hard states that alone keep the oldest file are written again, so that it can go. They go
    /// in front: a newer state of the same log, or its deletion, may be queued already and must
    /// come after.
    fn carry_forward(&mut self) {
        for (log, state) in self.files.carry_forward() {
            let content = Content::HardState(state);
            self.queue.push_front(Queued { log, content, carried: true });
        }
    }

    fn issue_commit(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) -> bool {
        if !self.front_has_place() && !self.begin_file() {
            return false;
        }
        let opening = (self.cursor.position == 0).then(|| Opening {
            identity: self.identity,
            use_id: self.cursor.use_id,
            floor: self.files.floor(self.durable, self.cursor.sequence),
            manifest: self.manifest,
        });
        let file_bytes = self.config.file_bytes;
        let packed = pack(&mut self.queue, &mut self.cursor, opening, file_bytes, self.durable);
        let commit = packed.expect("an entry fits an empty file");
        self.note(&commit);
        self.issue(commit, ids, out);
        true
    }

    fn front_has_place(&self) -> bool {
        self.has_active && front_fits(&self.queue, self.cursor.position, self.config.file_bytes)
    }

    /// Whether another file may be begun. One is held back for carried hard states and deletions:
    /// with every file full, writing them is what lets the oldest one go.
    fn may_begin(&self) -> bool {
        (self.files.used_count() as u64) < self.files_allowed() || self.must_make_room()
    }

    fn must_make_room(&self) -> bool {
        self.queue.front().is_some_and(Queued::makes_room) && !self.front_has_place()
    }

    /// How many files there may be.
    fn slots_max(&self) -> u64 {
        // Beyond the window only if a crash took the reserve: better a file more than stuck.
        if self.must_make_room() { JOURNAL_FILES_MAX } else { self.files_allowed() }
    }

    /// How many files may be in use. Those an earlier life filled go only after their logs are
    /// settled, for which the logs' members must first write themselves (a promise, an entry of a
    /// new term): with the window full at a crash they get some files beyond it, or a start would
    /// wait for itself for good.
    fn files_allowed(&self) -> u64 {
        let usable = self.config.files_usable();
        let inherited = self.files.used_up_to(self.inherited) as u64;
        let own_fewest = (usable / 2).max(2);
        usable.max(inherited + own_fewest).min(JOURNAL_FILES_MAX)
    }

    fn begin_file(&mut self) -> bool {
        if !self.may_begin() {
            return false;
        }
        let Some(slot) = self.files.take_spare() else { return false };
        self.counter += 1;
        self.cursor.use_id = UseId { counter: self.counter, slot, ..self.cursor.use_id };
        self.cursor.position = 0;
        self.files.begin_use(slot, self.cursor.sequence);
        self.has_active = true;
        true
    }

    fn note(&mut self, commit: &Commit) {
        for landed in &commit.landed {
            self.files.note(landed.log, landed.sequence, landed.what);
        }
        self.files.let_go(commit.last_sequence);
    }

    fn issue(&mut self, commit: Commit, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        let before = self.issued.back().map_or(self.durable, |issued| issued.last_sequence);
        assert!(commit.last_sequence > before, "commits are issued in order");
        let id = ids.next_id();
        self.watermark_bytes += u64::from(commit.padded_len);
        self.issued.push_back(Issued {
            id,
            last_sequence: commit.last_sequence,
            written: false,
            landed: commit.landed,
        });
        let Commit { slot, at, parts, padded_len, .. } = commit;
        let action = Action::WriteDurable { at, parts, padded_len };
        out.push(DiskOp { id, file: FileName::Journal(u64::from(slot)), action });
    }

    fn prepare_ahead(&mut self, now: Monotonic, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        let is_held = self.prepare_hold.holds(now);
        let half_full = self.cursor.position >= self.config.file_bytes / 2;
        let wanted = !self.has_active || half_full;
        let coming = self.files.has_spare() || self.files.has_waiting() || self.is_preparing();
        if is_held || !wanted || coming {
            return;
        }
        let Some(slot) = self.files.take_unprepared(self.slots_max()) else { return };
        let id = ids.next_id();
        self.errands.push(Errand::PrepareJournal { id, slot });
        let action = Action::Prepare { bytes: self.config.file_bytes };
        out.push(DiskOp { id, file: FileName::Journal(u64::from(slot)), action });
    }

    fn is_preparing(&self) -> bool {
        self.errands.iter().any(|errand| matches!(errand, Errand::PrepareJournal { .. }))
    }

    fn write_watermark(&mut self, now: Monotonic, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        let busy = self.errands.iter().any(|errand| match errand {
            Errand::PrepareWatermark { .. } | Errand::WriteWatermark { .. } => true,
            Errand::PrepareJournal { .. } => false,
        });
        if busy || self.watermark_hold.holds(now) || !self.watermark_due(now) {
            return;
        }
        let id = ids.next_id();
        let (errand, action) = if self.watermark_ready {
            let record = Watermark {
                generation: self.watermark.generation + 1,
                durable: self.durable,
                floor: self.files.floor(self.durable, self.cursor.sequence),
                manifest: self.manifest,
                counter: self.counter,
            };
            assert!(record.durable >= self.watermark.durable, "the watermark only grows");
            assert!(record.floor >= self.watermark.floor, "the floor only grows");
            self.watermark_at = Some(now);
            self.watermark_bytes = 0;
            let write = record.encode(&self.identity);
            let (at, padded_len) = (write.at, BLOCK_BYTES as u32);
            let action = Action::WriteDurable { at, parts: vec![write.bytes], padded_len };
            (Errand::WriteWatermark { id, record }, action)
        } else {
            (Errand::PrepareWatermark { id }, Action::Prepare { bytes: WATERMARK_FILE_BYTES })
        };
        self.errands.push(errand);
        out.push(DiskOp { id, file: FileName::Watermark, action });
    }

    fn watermark_due(&mut self, now: Monotonic) -> bool {
        let floor = self.files.floor(self.durable, self.cursor.sequence);
        let is_named = self.manifest <= self.watermark.manifest;
        let is_awaited = self.is_manifest_awaited && !is_named;
        if is_awaited || self.files.has_waiting() && floor > self.watermark.floor {
            return true;
        }
        if self.durable <= self.watermark.durable && is_named {
            return false;
        }
        let at = *self.watermark_at.get_or_insert(now);
        self.watermark_bytes >= WATERMARK_EVERY_BYTES || now >= at.after(WATERMARK_EVERY)
    }

    /// Takes an answer; gives it back if it is somebody else's.
    ///
    /// # Errors
    /// [`StorageError::DeviceFailed`]: what was under way may or may not be on the disk. Stop the
    /// shard; the journal writes nothing any more.
    pub fn on_done(
        &mut self,
        done: DiskDone,
        out: &mut Vec<JournalEvent>,
    ) -> Result<Option<DiskDone>, StorageError> {
        if let Some(place) = self.errands.iter().position(|errand| errand.id() == done.id) {
            let errand = self.errands.swap_remove(place);
            return self.on_errand(errand, done.result.err(), out).map(|()| None);
        }
        let Some(place) = self.issued.iter().position(|issued| issued.id == done.id) else {
            return Ok(Some(done));
        };
        if let Err(error) = done.result {
            return Err(self.fail(error));
        }
        assert!(!self.issued[place].written, "an operation is answered once");
        self.issued[place].written = true;
        self.report(out);
        Ok(None)
    }

    fn report(&mut self, out: &mut Vec<JournalEvent>) {
        while self.issued.front().is_some_and(|issued| issued.written) {
            let Some(commit) = self.issued.pop_front() else { return };
            assert!(commit.last_sequence > self.durable, "durability only grows");
            self.durable = commit.last_sequence;
            report_commit(commit.landed, out);
        }
    }

    fn on_errand(
        &mut self,
        errand: Errand,
        failed: Option<DiskError>,
        out: &mut Vec<JournalEvent>,
    ) -> Result<(), StorageError> {
        match (errand, failed) {
            (Errand::PrepareJournal { slot, .. }, None) => self.files.add_spare(slot),
            (Errand::PrepareWatermark { .. }, None) => self.watermark_ready = true,
            (Errand::WriteWatermark { record, .. }, None) => {
                assert_eq!(record.generation, self.watermark.generation + 1, "one at a time");
                self.watermark = record;
                self.files.floor_durable(record.floor);
            }
            (Errand::PrepareJournal { slot, .. }, Some(error)) if error.kind.is_want_of_room() => {
                self.files.add_unprepared(slot);
                self.prepare_hold = Hold::Noted;
                out.push(JournalEvent::NoSpace);
            }
            // Its two copies lie in different blocks: the other one holds until this is written
            // again, in the same place. Meanwhile no file is recycled, and appends go on in others.
            (Errand::PrepareWatermark { .. } | Errand::WriteWatermark { .. }, Some(error))
                if error.kind.is_want_of_room() =>
            {
                self.watermark_hold = Hold::Noted
            }
            (
                Errand::PrepareJournal { .. }
                | Errand::PrepareWatermark { .. }
                | Errand::WriteWatermark { .. },
                Some(error),
            ) => return Err(self.fail(error)),
        }
        Ok(())
    }

    fn fail(&mut self, error: DiskError) -> StorageError {
        self.has_failed = true;
        StorageError::DeviceFailed(error)
    }

    /// The manifest is durable up to this chunk: what is no longer needed here may be because of it.
    /// `is_awaited`: something waits until the watermark [names](Self::manifest_named) it.
    pub(crate) fn manifest_durable(&mut self, chunk: u64, is_awaited: bool) {
        assert!(chunk >= self.manifest, "the manifest only grows");
        (self.manifest, self.is_manifest_awaited) = (chunk, is_awaited);
    }

    /// The last chunk of the manifest that the watermark names, durably. While there is no room for a
    /// watermark, the last durable one: what waits for it may be what makes room.
    pub(crate) fn manifest_named(&self) -> u64 {
        if self.watermark_hold == Hold::No { self.watermark.manifest } else { self.manifest }
    }

    /// Every entry of `log` up to `up_to` lives in segments, durably. After a cut was appended this
    /// speaks about the log as it is after the cut.
    pub fn settled(&mut self, log: LogId, up_to: LogIndex) {
        self.files.settled(log, up_to);
        self.files.let_go(self.cursor.sequence - 1);
    }

    /// These frames of `log` mean nothing any more: nothing is kept for their sake.
    pub(crate) fn forget_void(&mut self, log: LogId, void: Void) {
        self.files.forget_void(log, void);
        self.files.let_go(self.cursor.sequence - 1);
    }

    /// Every mark of `log` up to `sequence` (see [`JournalEvent::Marked`]) is recorded elsewhere,
    /// so its frame may be forgotten.
    pub fn marks_settled(&mut self, log: LogId, up_to_sequence: u64) {
        assert!(up_to_sequence <= self.durable, "only durable marks are recorded elsewhere");
        self.files.marks_settled(log, up_to_sequence);
        self.files.let_go(self.cursor.sequence - 1);
    }

    /// Logs that hold the oldest files and must settle now, those of the oldest file first, some more
    /// than once: of all files beyond three quarters of the window, or of the oldest one if there is
    /// no next file.
    pub fn pressing(&self) -> impl Iterator<Item = LogId> + '_ {
        let usable = self.config.files_usable() as usize;
        let calm = usable - (usable / 4).max(1);
        let beyond = self.files.used_count().saturating_sub(calm);
        let stuck = usize::from(self.is_blocked());
        self.files.holders(beyond.max(stuck))
    }

    /// Whether half of the window is in use: time to settle faster.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.files.used_count() as u64 * 2 > self.config.files_usable()
    }

    /// Bytes of journal files in use, the one being written counted as whole.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.files.used_count() as u64 * self.config.file_bytes
    }

    /// Everything up to this sequence is durable.
    #[must_use]
    pub fn durable_sequence(&self) -> u64 {
        self.durable
    }

    /// Commits under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.issued.len()
    }

    /// Whether what is queued cannot be written until something settles or room appears on the
    /// disk. Queued appends stay queued, and further ones join them: whoever appends looks at
    /// [`Self::queued_bytes`].
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        // The common cases first: this is asked every turn.
        if self.queue.is_empty() || self.front_has_place() {
            return false;
        }
        let coming = self.files.has_spare() || self.files.has_waiting() || self.is_preparing();
        let can_prepare = self.prepare_hold == Hold::No && self.files.can_grow(self.slots_max());
        let can_begin = self.may_begin() && (coming || can_prepare);
        !can_begin
    }

    /// Bytes waiting for a place. Nothing here bounds them: the broker refuses appends of clients
    /// when they are too many.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Whether less than [`QUEUE_BYTES_MAX`] wait, so that a topic that allows it may be acknowledged
    /// before it is durable.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.bytes() < QUEUE_BYTES_MAX
    }
}

/// The events of one commit: the last of each kind per log, marks all.
fn report_commit(mut landed: Vec<Landed>, out: &mut Vec<JournalEvent>) {
    landed.retain(|frame| !frame.carried);
    landed.sort_unstable_by_key(|frame| (frame.log, frame.sequence));
    for of_log in landed.chunk_by(|a, b| a.log == b.log) {
        let mut index = None;
        let mut term = None;
        for Landed { log, sequence, what, .. } in of_log {
            match what {
                LandedContent::Entry(entry) => index = Some(*entry),
                LandedContent::HardState(state) => term = Some(state.term),
                LandedContent::Mark(mark) => {
                    if let Mark::SuffixCut { from } = mark {
                        let before = LogIndex(from.0.saturating_sub(1));
                        index = index.map(|index: LogIndex| index.min(before));
                    }
                    let (log, mark, sequence) = (*log, *mark, *sequence);
                    out.push(JournalEvent::Marked { log, mark, sequence });
                }
            }
        }
        let log = of_log[0].log;
        out.extend(index.map(|index| JournalEvent::Durable { log, index }));
        out.extend(term.map(|term| JournalEvent::HardStateDurable { log, term }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DiskErrorKind;
    use crate::journal::rig::{Rig, SMALL, entry, hard_state, log};
    use crate::op::Output;
    use crate::recovery::scan::Scanned;
    use crate::sim_disk::Fault;

    fn durable(log: LogId, index: u64) -> JournalEvent {
        JournalEvent::Durable { log, index: LogIndex(index) }
    }

    #[test]
    fn the_first_append_waits_for_one_prepared_file_only() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.journal.append(log(1), entry(1, "a"));
        let first = rig.turn();
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].action, Action::Prepare { bytes: SMALL.file_bytes });
        assert!(rig.turn().is_empty());
        rig.step().unwrap();
        let second = rig.turn();
        assert_eq!(second.len(), 1);
        assert!(matches!(second[0].action, Action::WriteDurable { at: 0, .. }));
        assert!(rig.events.is_empty());
        rig.step().unwrap();
        assert_eq!(rig.events, [durable(log(1), 1)]);
        assert_eq!(rig.journal.durable_sequence(), 2);
    }

    #[test]
    fn everything_queued_in_a_turn_becomes_one_commit() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.run();
        for index in 1..=3 {
            rig.journal.append(log(2), entry(index, "b"));
            rig.journal.append(log(1), entry(index, "a"));
        }
        rig.journal.append_hard_state(log(1), hard_state(7));
        let writes = rig.turn();
        assert_eq!(writes.len(), 1);
        rig.step().unwrap();
        let saved = JournalEvent::HardStateDurable { log: log(1), term: Term(7) };
        assert_eq!(rig.events, [durable(log(1), 3), saved, durable(log(2), 3)]);
    }

    #[test]
    fn a_later_commit_is_not_reported_before_an_earlier_one() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.run();
        rig.journal.append(log(1), entry(1, "a"));
        let first = rig.turn().remove(0);
        rig.journal.append(log(1), entry(2, "b"));
        let second = rig.turn().remove(0);
        rig.journal.append(log(1), entry(3, "c"));
        assert!(rig.turn().is_empty(), "two are under way");
        let done = |id| DiskDone { id, result: Ok(Output::Done) };
        let mut events = Vec::new();
        rig.journal.on_done(done(second.id), &mut events).unwrap();
        assert!(events.is_empty());
        rig.journal.on_done(done(first.id), &mut events).unwrap();
        assert_eq!(events, [durable(log(1), 1), durable(log(1), 2)]);
    }

    #[test]
    fn after_a_failed_write_nothing_is_written_any_more() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.run();
        let file = FileName::Journal(0);
        rig.disk.inject(Fault::Fail(file, DiskErrorKind::NoSpace));
        rig.journal.append(log(1), entry(1, "a"));
        rig.turn();
        let failed = rig.step().expect_err("the device failed");
        let kind = DiskErrorKind::NoSpace;
        let action = "write durably";
        assert_eq!(failed, StorageError::DeviceFailed(DiskError { kind, file, action }));
        rig.journal.append(log(1), entry(2, "b"));
        assert!(rig.turn().is_empty() && rig.events.is_empty());
    }

    #[test]
    fn want_of_room_for_the_next_file_is_tried_again_later() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.disk.set_capacity(1000);
        rig.journal.append(log(1), entry(1, "a"));
        rig.turn();
        rig.step().unwrap();
        assert_eq!(rig.events, [JournalEvent::NoSpace]);
        assert!(rig.turn().is_empty() && rig.journal.is_blocked());
        rig.disk.set_capacity(10 << 20);
        rig.pass(2);
        rig.run();
        assert_eq!(rig.events, [JournalEvent::NoSpace, durable(log(1), 1)]);
    }

    #[test]
    fn want_of_room_for_the_watermark_is_tried_again_later() {
        let mut rig = Rig::fresh(SMALL, 1);
        let kinds = [DiskErrorKind::NoSpace, DiskErrorKind::NoDescriptors];
        // Preparing it fails, then writing it.
        for (index, kind) in (1..).zip(kinds.into_iter().cycle()).take(4) {
            rig.disk.inject(Fault::Fail(FileName::Watermark, kind));
            rig.appended(log(1), std::iter::once(entry(index, "a")));
            rig.pass(2);
            assert_eq!(rig.turn().len(), 1);
            rig.run();
            assert!(rig.turn().is_empty(), "not at once");
            rig.appended(log(1), std::iter::empty());
            if index > 1 {
                rig.pass(2);
                rig.run();
                let file = rig.disk.contents(FileName::Watermark).unwrap();
                let owner = crate::journal::rig::IDENTITY;
                let watermark = Watermark::decode(&owner, &file).unwrap().unwrap();
                assert_eq!(watermark.durable, index + 1);
            }
        }
    }

    #[test]
    fn deleting_the_log_that_holds_a_full_window_frees_it() {
        let mut rig = Rig::fresh(SMALL, 1);
        for index in 1..=40u64 {
            rig.journal.append(log(1), entry(index, vec![1; 10_000]));
        }
        rig.journal.append(log(2), entry(1, "waits behind"));
        rig.run();
        assert!(rig.journal.is_blocked());
        rig.events.clear();
        rig.journal.append_mark(log(1), Mark::Deleted);
        rig.run();
        assert!(!rig.journal.is_blocked());
        assert_eq!(rig.journal.queued_bytes(), 0);
        assert!(rig.events.contains(&durable(log(2), 1)), "{:?}", rig.events);
    }

    #[test]
    fn a_full_window_presses_the_holders_and_goes_on_when_they_settle() {
        let mut rig = Rig::fresh(SMALL, 1);
        for index in 1..=40u64 {
            let owner = if index < 8 { 1 } else { 2 };
            rig.journal.append(log(owner), entry(index, vec![1; 10_000]));
        }
        rig.run();
        assert!(rig.journal.is_blocked());
        assert!(rig.journal.used_bytes() <= SMALL.window_bytes);
        assert_eq!(rig.journal.pressing().collect::<Vec<_>>(), [log(1)]);
        let stuck_at = rig.journal.durable_sequence();
        rig.journal.settled(log(1), LogIndex(7));
        rig.run();
        assert!(rig.journal.durable_sequence() > stuck_at);
        rig.journal.settled(log(2), LogIndex(40));
        rig.run();
        assert!(!rig.journal.is_blocked());
        assert_eq!(rig.journal.queued_bytes(), 0);
        assert_eq!(rig.journal.used_bytes(), SMALL.file_bytes);
        assert_eq!(rig.journal.pressing().count(), 0);
    }

    #[test]
    fn a_hard_state_outlives_every_file_it_was_in() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.journal.append_hard_state(log(9), hard_state(3));
        for index in 1..=200u64 {
            rig.journal.append(log(1), entry(index, vec![2; 9_000]));
            rig.run();
            rig.journal.settled(log(1), LogIndex(index));
        }
        let scan = rig.scan().unwrap();
        let kept = scan.frames.iter().filter(|frame| frame.log == log(9));
        let kept: Vec<_> = kept.map(|frame| frame.what.clone()).collect();
        assert_eq!(kept.last(), Some(&Scanned::HardState(hard_state(3))));
        let saved = JournalEvent::HardStateDurable { log: log(9), term: Term(3) };
        assert_eq!(rig.events.iter().filter(|event| **event == saved).count(), 1);
    }

    #[test]
    fn a_full_window_whose_oldest_file_holds_hard_states_goes_on() {
        let mut rig = Rig::fresh(SMALL, 1);
        for number in 0..100 {
            rig.journal.append_hard_state(log(number), hard_state(3));
        }
        for index in 1..=40u64 {
            rig.journal.append(log(200), entry(index, vec![1; 10_000]));
        }
        rig.run();
        assert!(rig.journal.is_blocked());
        let stuck_at = rig.journal.durable_sequence();
        let scan = rig.scan().unwrap();
        rig.journal.settled(log(200), LogIndex(5));
        rig.run();
        assert!(rig.journal.durable_sequence() > stuck_at + 100);
        // The same after a crash in that state, which leaves no file half empty: it goes on a
        // little further, because settling needs that, and no more.
        rig.restart(scan);
        for index in 41..=80u64 {
            rig.journal.append(log(200), entry(index, vec![1; 10_000]));
        }
        rig.run();
        assert!(rig.journal.is_blocked());
        rig.journal.settled(log(200), LogIndex(60));
        rig.run();
        assert!(!rig.journal.is_blocked());
    }

    /// Settling needs a leader, a leader needs a durable vote: a full window must let that through.
    #[test]
    fn a_crash_with_a_full_window_does_not_stop_the_next_start() {
        let mut rig = Rig::fresh(SMALL, 1);
        for index in 1..=40u64 {
            rig.journal.append(log(1), entry(index, vec![1; 10_000]));
        }
        rig.run();
        assert!(rig.journal.is_blocked());
        let scan = rig.scan().unwrap();
        let last = scan.frames.len() as u64;
        rig.restart(scan);
        rig.journal.append_hard_state(log(1), hard_state(2));
        rig.journal.append(log(1), entry(last + 1, "of the new term"));
        rig.run();
        assert!(rig.events.contains(&durable(log(1), last + 1)), "{:?}", rig.events);
        assert!(rig.journal.pressing().all(|holder| holder == log(1)), "and the window presses");
        assert!(rig.journal.pressing().next().is_some());
        rig.journal.settled(log(1), LogIndex(last + 1));
        rig.pass(2);
        rig.run();
        assert!(rig.journal.used_bytes() <= 2 * SMALL.file_bytes, "what was beyond goes again");
    }

    #[test]
    fn an_idle_journal_writes_its_watermark_once_and_rests() {
        let mut rig = Rig::fresh(SMALL, 1);
        rig.appended(log(1), (1..4).map(|index| entry(index, "a")));
        rig.pass(2);
        rig.run();
        rig.pass(100);
        assert!(rig.turn().is_empty());
        let file = rig.disk.contents(FileName::Watermark).unwrap();
        let owner = crate::journal::rig::IDENTITY;
        let watermark = Watermark::decode(&owner, &file).unwrap().unwrap();
        assert_eq!((watermark.durable, watermark.floor), (4, 1));
    }
}

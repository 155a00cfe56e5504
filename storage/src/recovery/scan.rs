//! Reads the journal of a core after a stop: every frame that counts, in order, and the truth about
//! the rest.
//!
//! Does: take the watermark and whole journal files, order all frames across them, accept, cut or
//! report each place by the verdict table, and hand the journal its start.
//! Does not: read or write; the opener reads the files, writes [`JournalScan::quarantine_ops`],
//! flushes [`JournalScan::to_flush`] (F14), and only then acts on what was found.
//! Invariants: the same bytes give the same result, however often it is tried; what some watermark
//! proves durable is accepted or reported damaged, never cut.
//! Apart because the same code runs in tests, in fuzzing and at every start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use flumen_protocol::ids::{LogId, Offset};

use crate::error::StorageError;
pub use crate::format::frame::Content as Scanned;
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::node::Identity;
use crate::format::watermark::{WATERMARK_FILE_BYTES, Watermark};
use crate::journal::journal::{JournalConfig, JournalStart};
use crate::journal::packer::LandedContent;
use crate::journal::recycle::Files;
use crate::limits::COMMITS_IN_FLIGHT_MAX;
use crate::op::{DiskOp, FileName, OpIds};
use crate::recovery::damage::Tracker;
pub use crate::recovery::damage::{DamagedRange, Reason, SetAside, Victim};
pub use crate::recovery::doubt::Doubt;
use crate::recovery::doubt::{in_doubt, in_order};
use crate::recovery::survey::{Candidate, Survey};
use crate::recovery::verdict::{Belonging, Header, Observation, Verdict, judge};

/// One frame that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedFrame {
    /// Its place in the order of this core's journal.
    pub sequence: u64,
    /// Whose.
    pub log: LogId,
    /// What it says. Payloads are slices of the buffers that were fed and keep them alive.
    pub what: Scanned,
}

/// How the journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing was under way, or nothing of it reached the disk.
    Clean,
    /// Something never acknowledged was cut.
    Cut {
        /// The first sequence that is gone.
        sequence: u64,
        /// Bytes with traces of it.
        bytes: u64,
    },
}

/// All there is to say about a journal after a stop.
#[derive(Debug)]
pub struct JournalScan {
    /// Good frames in sequence order. They begin where the journal was still needed; what segments
    /// hold already is skipped by whoever replays them.
    pub frames: Vec<ScannedFrame>,
    /// How it ends.
    pub tail: Tail,
    /// What is damaged, in sequence order.
    pub damaged: Vec<DamagedRange>,
    /// Whether more was cut than can have been under way: an operator accepted that.
    pub is_suspicious: bool,
    /// Frames that do not count, because it cannot be told of which use they are.
    pub doubts: Vec<Doubt>,
    /// What the journal goes on with.
    pub start: JournalStart,
    /// Files to flush before anything found is acted on (F14): what a process wrote before it was killed
    /// can be read, and is not durable yet.
    pub to_flush: Vec<FileName>,
    cut_bytes: Bytes,
}

impl JournalScan {
    /// Whether nothing is missing, and nothing was under way.
    pub(super) fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.doubts.is_empty() && self.tail == Tail::Clean
    }

    /// Operations that set aside what was cut or is damaged, each under its own name; repeating
    /// them changes nothing.
    pub fn quarantine_ops(&self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        out.extend(self.damaged.iter().map(|range| range.set_aside().into_op(ids)));
        out.extend(self.doubts.iter().map(|doubt| doubt.set_aside().into_op(ids)));
        if let Tail::Cut { sequence, bytes } = self.tail {
            let why =
                if self.is_suspicious { "perhaps acknowledged" } else { "never acknowledged" };
            let text = format!("{bytes} bytes from sequence {sequence} on, {why}");
            let cut = SetAside::new(sequence, &text, vec![self.cut_bytes.clone()]);
            out.push(cut.into_op(ids));
        }
    }
}

/// Takes the files of a core's journal and classifies them.
#[derive(Debug)]
pub struct Scanner {
    identity: Identity,
    config: JournalConfig,
    watermark: Option<Watermark>,
    watermark_ready: bool,
    /// Whether the watermark's file holds anything.
    has_watermark: bool,
    surveys: BTreeMap<u16, Survey>,
}

impl Scanner {
    /// `watermark`: the bytes of the watermark file, empty if it is missing.
    ///
    /// # Errors
    /// The watermark belongs to somebody else or is of a newer format.
    pub fn new(
        identity: Identity,
        config: JournalConfig,
        watermark: &[u8],
    ) -> Result<Self, StorageError> {
        config.assert_sound();
        let record = Watermark::decode(&identity, watermark)?;
        // A file without a record may have been left before it was wholly written.
        let whole = watermark.len() as u64 == WATERMARK_FILE_BYTES;
        let watermark_ready = record.is_some() && whole;
        Ok(Self {
            identity,
            config,
            watermark: record,
            watermark_ready,
            has_watermark: !watermark.is_empty(),
            surveys: BTreeMap::new(),
        })
    }

    /// Takes one file whole. It is kept as long as a frame in it may count.
    ///
    /// # Errors
    /// The file belongs to somebody else, is of a newer format, or has an impossible number.
    pub fn feed(&mut self, slot: u64, file: Bytes) -> Result<(), StorageError> {
        let Ok(slot) = u16::try_from(slot) else {
            let what = "no journal file has this number".to_owned();
            return Err(StorageError::Corrupt { file: FileName::Journal(slot), what });
        };
        let survey = Survey::of(slot, file, &self.identity)?;
        self.surveys.insert(slot, survey);
        // Most of a journal is spare. Held until all of it is read, it would be most of a start's memory.
        let floor = self.floor();
        self.surveys.values_mut().for_each(|survey| survey.let_go_if_spare(floor));
        Ok(())
    }

    /// The lowest sequence that anybody needs, as far as what was fed knows.
    fn floor(&self) -> u64 {
        let known = self.surveys.values().map(|survey| survey.floor);
        known.fold(self.watermark.map_or(0, |watermark| watermark.floor), u64::max)
    }

    /// These places of a file that was fed are lost, and not zero. It is prepared anew before its next use.
    pub(super) fn note_unreadable(&mut self, slot: u64, places: Vec<Range<u64>>) {
        let survey = u16::try_from(slot).ok().and_then(|slot| self.surveys.get_mut(&slot));
        survey.expect("it was fed").lost = places;
    }

    /// The last chunk of the manifest that anything fed knows to have been durable.
    #[must_use]
    pub fn manifest_chunk(&self) -> u64 {
        let known = self.surveys.values().map(|survey| survey.manifest);
        known.fold(self.watermark.map_or(0, |watermark| watermark.manifest), u64::max)
    }

    /// Classifies everything that was fed.
    ///
    /// # Errors
    /// [`StorageError::NeedsOperator`] if acknowledged frames are gone and it cannot be told
    /// whose, or if the tail is longer than what can have been under way; not if an operator
    /// accepts that. `accepted` are ranges of sequences whose loss was accepted before.
    pub fn finish(
        self,
        accepts: bool,
        accepted: &BTreeSet<(u64, u64)>,
    ) -> Result<JournalScan, StorageError> {
        let (manifest, floor) = (self.manifest_chunk(), self.floor());
        let Self { identity, config, watermark, watermark_ready, has_watermark, surveys } = self;
        let doubted = in_doubt(&surveys, watermark.map(|watermark| watermark.counter));
        let watermark = watermark.unwrap_or_default();
        let known = surveys.values().map(|survey| survey.watermark);
        let durable = known.fold(watermark.durable, u64::max);
        let used = surveys.values().map(|survey| survey.counter);
        let counter = used.fold(watermark.counter, u64::max);
        let mut walk = Walk::new(&surveys, &doubted, floor, durable);
        walk.run();
        std::mem::take(&mut walk.tracker).finish(&mut walk.damaged);
        if !accepts {
            walk.refuse_unidentified(accepted)?;
        }
        let mut files = walk.files;
        sort_rest(&mut files, &surveys, config.file_bytes);
        let start = JournalStart {
            identity,
            next_sequence: walk.expected.max(durable + 1),
            previous: walk.previous.unwrap_or(0),
            files,
            watermark: Watermark { counter, manifest, ..watermark },
            watermark_ready,
        };
        // Without it, frames would count again that the watermark says nobody needs, while others have
        // forgotten what these meant, or have been written over.
        let journal = surveys.keys().map(|slot| FileName::Journal(u64::from(*slot)));
        let to_flush = has_watermark.then_some(FileName::Watermark).into_iter().chain(journal);
        Ok(JournalScan {
            frames: walk.frames,
            tail: walk.tail,
            damaged: walk.damaged,
            is_suspicious: walk.is_suspicious,
            doubts: walk.doubts,
            start,
            to_flush: to_flush.collect(),
            cut_bytes: walk.cut_bytes,
        })
    }
}

/// Files that hold nothing needed are spare if they were wholly written once: a frame in them, or
/// in their earlier use, proves that.
fn sort_rest(files: &mut Files, surveys: &BTreeMap<u16, Survey>, file_bytes: u64) {
    for (slot, survey) in surveys {
        let is_whole = survey.len == file_bytes && survey.lost.is_empty();
        match (files.uses(*slot), is_whole && survey.counter > 0) {
            (true, true) => {}
            (true, false) => files.resize_later(*slot),
            (false, true) => files.add_spare(*slot),
            (false, false) => files.add_unprepared(*slot),
        }
    }
}

/// Where the next frame should be.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u16,
    at: u64,
    counter: u64,
}

/// One pass over all frames in order.
struct Walk<'a> {
    surveys: &'a BTreeMap<u16, Survey>,
    /// Frames that may count, by use and position.
    candidates: Vec<Candidate>,
    doubts: Vec<Doubt>,
    /// The sequence that comes next.
    expected: u64,
    /// What is proven to have been durable.
    durable: u64,
    /// Checksum of the frame before, if that is known.
    previous: Option<u32>,
    place: Option<Place>,
    begun: u64,
    frames: Vec<ScannedFrame>,
    damaged: Vec<DamagedRange>,
    tracker: Tracker,
    files: Files,
    tail: Tail,
    cut_bytes: Bytes,
    is_suspicious: bool,
}

impl<'a> Walk<'a> {
    fn new(
        surveys: &'a BTreeMap<u16, Survey>,
        doubted: &BTreeSet<u16>,
        floor: u64,
        durable: u64,
    ) -> Self {
        let (candidates, doubts) = in_order(surveys, doubted, floor, durable);
        // Without any floor no opening ever became durable, or all of them are gone: then the
        // watermarks tell whether what is missing from the first frame on ever existed.
        let expected = floor.max(1);
        Self {
            surveys,
            candidates,
            doubts,
            expected,
            durable,
            previous: (expected == 1).then_some(0),
            place: None,
            begun: 0,
            frames: Vec::new(),
            damaged: Vec::new(),
            tracker: Tracker::default(),
            files: Files::default(),
            tail: Tail::Clean,
            cut_bytes: Bytes::new(),
            is_suspicious: false,
        }
    }

    fn run(&mut self) {
        let candidates = std::mem::take(&mut self.candidates);
        for (number, found) in candidates.iter().enumerate() {
            if found.header.sequence < self.expected {
                continue;
            }
            if !self.step(found, &candidates[number..]) {
                return;
            }
        }
        // Nothing is left; was there more?
        if !self.miss(None, &[]) {
            return;
        }
        assert!(self.expected > self.durable, "what was durable was found or reported");
    }

    /// Judges the place of the expected frame, `found` being the next one there is. Returns false
    /// when the journal ends before it.
    fn step(&mut self, found: &Candidate, rest: &[Candidate]) -> bool {
        if found.header.sequence > self.expected && !self.miss(Some(found), rest) {
            return false;
        }
        assert_eq!(found.header.sequence, self.expected, "what is missing was accounted for");
        let header = &found.header;
        let chained = self.previous.is_none_or(|previous| previous == header.previous);
        let observation = Observation {
            header: Header::Readable,
            belonging: if chained { Belonging::Here } else { Belonging::Older },
            payload_ok: found.payload_ok,
            was_durable: self.expected <= self.durable,
            in_flight: can_be_in_flight(rest) && !self.is_blind(),
        };
        match judge(observation) {
            Verdict::Accept => self.accept(found),
            Verdict::Damaged(reason) => self.damaged_frame(found, reason),
            Verdict::End | Verdict::CutTail => return self.cut(rest),
            Verdict::Suspicious => {
                self.is_suspicious = true;
                return self.cut(rest);
            }
        }
        true
    }

    fn accept(&mut self, found: &Candidate) {
        let header = &found.header;
        self.begin_use(header);
        let payload = self.surveys[&header.use_id.slot].payload(header);
        if let Some(content) = payload.and_then(|payload| header.content(payload)) {
            self.files.note(header.log, header.sequence, LandedContent::of(&content));
            self.track(header);
            let (sequence, log) = (header.sequence, header.log);
            self.frames.push(ScannedFrame { sequence, log, what: content });
        }
        self.pass(found, Some(found.checksum));
    }

    fn damaged_frame(&mut self, found: &Candidate, reason: Reason) {
        let header = &found.header;
        self.begin_use(header);
        // A frame with a readable header of its own place names its victim; an older one does not.
        let is_ours = reason == Reason::PayloadRot;
        let is_entry = is_ours && header.kind.is_entry();
        if is_entry {
            self.track(header);
        }
        let (log, index) = (header.log, header.index);
        let until = (header.kind == FrameKind::Records).then_some(Offset(header.last_offset));
        let until = until.map(|last| last.after(1));
        let end = header.position + header.frame_bytes();
        let slot = header.use_id.slot;
        self.damaged.push(DamagedRange {
            slot: Some(u64::from(slot)),
            at: header.position,
            first_sequence: header.sequence,
            last_sequence: header.sequence,
            bytes: self.surveys[&slot].range(header.position, end),
            reason,
            victims: is_entry
                .then_some(Victim { log, first: index, last: index, until })
                .into_iter()
                .collect(),
            identified: false,
            harmless: u64::from(header.kind == FrameKind::Opening && header.position == 0),
        });
        self.pass(found, is_ours.then_some(found.checksum));
    }

    fn pass(&mut self, found: &Candidate, checksum: Option<u32>) {
        let header = &found.header;
        self.expected = header.sequence + 1;
        self.previous = checksum;
        let use_id = header.use_id;
        self.place =
            Some(Place { slot: use_id.slot, at: header.next_position(), counter: use_id.counter });
    }

    fn begin_use(&mut self, header: &FrameHeader) {
        if header.use_id.counter != self.begun {
            assert!(header.use_id.counter > self.begun, "uses are walked in order");
            self.begun = header.use_id.counter;
            self.files.begin_use(header.use_id.slot, header.sequence);
        }
    }

    fn track(&mut self, header: &FrameHeader) {
        if header.kind.is_entry() {
            let (log, index, sequence) = (header.log, header.index, header.sequence);
            self.tracker.entry(log, index, sequence, &mut self.damaged);
        } else if header.kind == FrameKind::SuffixCut {
            self.tracker.cut(header.log, header.index, header.sequence);
        }
    }

    /// The expected frame is not there; `next` is the first one that is. Returns true if the walk
    /// may go on with `next`, false if the journal ends here.
    fn miss(&mut self, next: Option<&Candidate>, rest: &[Candidate]) -> bool {
        let (header, belonging) = self.observe();
        let observation = Observation {
            header,
            belonging,
            payload_ok: false,
            was_durable: self.expected <= self.durable,
            in_flight: can_be_in_flight(rest) && !self.is_blind(),
        };
        match judge(observation) {
            Verdict::Damaged(reason) => {
                let before = next.map_or(u64::MAX, |next| next.header.sequence);
                self.damaged_gap(next, reason);
                // What was missing beyond the proven part was under way: the journal ends there.
                if self.expected < before && next.is_some() { self.cut(rest) } else { true }
            }
            Verdict::CutTail | Verdict::End if next.is_none() => self.end(header),
            Verdict::CutTail | Verdict::End => self.cut(rest),
            Verdict::Suspicious => {
                self.is_suspicious = true;
                self.cut(rest)
            }
            Verdict::Accept => unreachable!("what is missing has no payload"),
        }
    }

    /// Whether something behind the expected frame cannot be read: then nobody knows that the journal ends here.
    fn is_blind(&self) -> bool {
        self.surveys.iter().any(|(slot, survey)| match self.place {
            Some(place) if place.slot == *slot => survey.lost.iter().any(|it| it.end > place.at),
            Some(_) | None => !survey.lost.is_empty() && !self.files.uses(*slot),
        })
    }

    fn observe(&self) -> (Header, Belonging) {
        let missing = (Header::Missing, Belonging::Here);
        self.place.map_or(missing, |place| self.surveys[&place.slot].observe(place.slot, place.at))
    }

    fn damaged_gap(&mut self, next: Option<&Candidate>, reason: Reason) {
        let before = next.map_or(u64::MAX, |next| next.header.sequence);
        let last_sequence = self.durable.min(before - 1);
        let (slot, at, bytes) = self.gap_bytes(next);
        let begins_other_use = next.is_some_and(|next| {
            let counter = next.header.use_id.counter;
            next.header.kind != FrameKind::Opening
                && self.place.is_none_or(|place| place.counter != counter)
        });
        self.damaged.push(DamagedRange {
            slot: slot.map(u64::from),
            at,
            first_sequence: self.expected,
            last_sequence,
            bytes,
            reason,
            victims: Vec::new(),
            identified: false,
            harmless: u64::from(begins_other_use),
        });
        self.expected = last_sequence + 1;
        self.previous = None;
    }

    /// Where the missing frames most likely were: between the last frame and the next one, or in
    /// front of the next one if that is in another file and not at its beginning.
    fn gap_bytes(&self, next: Option<&Candidate>) -> (Option<u16>, u64, Bytes) {
        let next = next.map(|next| (next.header.use_id.slot, next.header.position));
        match (self.place, next) {
            (Some(place), Some((slot, to))) if place.slot == slot && place.at <= to => {
                (Some(slot), place.at, self.surveys[&slot].range(place.at, to))
            }
            (_, Some((slot, to))) if to > 0 => (Some(slot), 0, self.surveys[&slot].range(0, to)),
            (Some(place), _) => {
                let bytes = self.surveys[&place.slot].range(place.at, u64::MAX);
                (Some(place.slot), place.at, bytes)
            }
            (None, _) => (None, 0, Bytes::new()),
        }
    }

    /// The journal ends; nothing readable follows. Unreadable bytes are the trace of a torn write,
    /// unless the file was used before and they are simply that.
    fn end(&mut self, header: Header) -> bool {
        let Some(place) = self.place.filter(|_| header == Header::Unreadable) else { return true };
        let survey = &self.surveys[&place.slot];
        if survey.was_used_before {
            return true;
        }
        let rest = survey.range(place.at, u64::MAX);
        let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.cut_bytes = rest.slice(..used);
        self.tail = Tail::Cut { sequence: self.expected, bytes: used as u64 };
        false
    }

    /// The journal ends; `rest` are the traces of what was under way.
    fn cut(&mut self, rest: &[Candidate]) -> bool {
        let traces = rest.iter().filter(|found| found.header.sequence >= self.expected);
        let bytes = traces.clone().map(|found| found.header.frame_bytes()).sum();
        if let Some(first) = traces.clone().next() {
            let slot = first.header.use_id.slot;
            let same = traces.filter(|found| found.header.use_id.slot == slot);
            let end = same.map(|found| found.header.position + found.header.frame_bytes()).max();
            let from = self.place.filter(|place| place.slot == slot).map_or(0, |place| place.at);
            self.cut_bytes = self.surveys[&slot].range(from, end.unwrap_or(from));
        }
        self.tail = Tail::Cut { sequence: self.expected, bytes };
        false
    }

    fn refuse_unidentified(&self, accepted: &BTreeSet<(u64, u64)>) -> Result<(), StorageError> {
        let how = "Restore the data folder from a copy, or start once with `flumen serve \
                   --accept-damage`: what is named here is then given up, and what is left of it is \
                   kept in quarantine files"
            .to_owned();
        if self.is_suspicious && self.is_blind() {
            let what = format!(
                "a journal file cannot be read where sequence {} or what follows it may be",
                self.expected
            );
            return Err(StorageError::NeedsOperator { what, how });
        }
        if self.is_suspicious {
            let what = format!(
                "the journal is broken at sequence {} and more follows than can have been under way",
                self.expected
            );
            return Err(StorageError::NeedsOperator { what, how });
        }
        let unknown: Vec<String> = self
            .damaged
            .iter()
            .filter(|range| !range.identified && !range.is_accepted(accepted))
            .map(DamagedRange::describe)
            .collect();
        let doubts = self.doubts.iter().filter(|doubt| !doubt.is_accepted(accepted));
        let unknown: Vec<String> = unknown.into_iter().chain(doubts.map(Doubt::describe)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let what = format!("acknowledged data is gone: {}", unknown.join(". "));
        Err(StorageError::NeedsOperator { what, how })
    }
}

/// Whether all these frames can stem from commits that were under way together: no use of a file
/// can leave more of them than may be in flight.
fn can_be_in_flight(rest: &[Candidate]) -> bool {
    let mut commits: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for found in rest {
        let ends = commits.entry(found.header.use_id.counter).or_default();
        ends.insert(found.header.next_commit());
        if ends.len() > COMMITS_IN_FLIGHT_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flumen_protocol::entry::HardState;
    use flumen_protocol::ids::{LogIndex, NodeId};

    use super::*;
    use crate::error::Remedy;
    use crate::format::frame::{FRAME_HEADER_BYTES, HeaderVerdict, Mark};
    use crate::journal::rig::{IDENTITY, Rig, SMALL, entry, hard_state, log};
    use crate::op::Action;
    use crate::sim_disk::{Dice, Fault};

    const FILE: FileName = FileName::Journal(0);

    /// Five commits of one entry each, with a watermark that covers `known` of them.
    fn five_commits(known: u64) -> Rig {
        let mut rig = Rig::fresh(SMALL, 3);
        for index in 1..=5 {
            if index == known + 1 {
                rig.pass(2);
                rig.run();
            }
            rig.appended(log(1), std::iter::once(entry(index, vec![index as u8; 3000])));
        }
        rig.pass(if known >= 5 { 2 } else { 0 });
        rig.run();
        rig
    }

    fn indices(scan: &JournalScan) -> Vec<u64> {
        let entries = scan.frames.iter().filter_map(|frame| match &frame.what {
            Scanned::Entry(entry) => Some(entry.index.0),
            Scanned::HardState(_) | Scanned::Mark(_) => None,
        });
        entries.collect()
    }

    /// Where the frame of this sequence begins.
    fn place_of(rig: &Rig, sequence: u64) -> u64 {
        let bytes = rig.disk.contents(FILE).unwrap();
        let mut places = (0..bytes.len()).step_by(8);
        let found = places.find(|at| match FrameHeader::decode(&bytes[*at..]) {
            HeaderVerdict::Readable(header, _) => header.sequence == sequence,
            HeaderVerdict::Zeros | HeaderVerdict::Newer(_) | HeaderVerdict::Unreadable => false,
        });
        found.expect("the frame exists") as u64
    }

    fn lost(first: u64, last: u64) -> Vec<Victim> {
        vec![Victim { log: log(1), first: LogIndex(first), last: LogIndex(last), until: None }]
    }

    #[test]
    fn an_untouched_journal_is_found_whole() {
        let scan = five_commits(2).scan().unwrap();
        assert_eq!(indices(&scan), [1, 2, 3, 4, 5]);
        assert_eq!((scan.tail, scan.damaged.len()), (Tail::Clean, 0));
        assert_eq!(scan.start.next_sequence, 7);
    }

    #[test]
    fn nothing_at_all_is_a_fresh_journal() {
        let scan = Rig::fresh(SMALL, 1).scan().unwrap();
        assert_eq!((scan.frames.len(), scan.tail, scan.start.next_sequence), (0, Tail::Clean, 1));
    }

    #[test]
    fn a_torn_last_payload_is_cut() {
        let mut rig = five_commits(2);
        let at = place_of(&rig, 6);
        rig.disk.flip_bit(FILE, at + FRAME_HEADER_BYTES as u64 + 700, 3);
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 2, 3, 4]);
        assert!(matches!(scan.tail, Tail::Cut { sequence: 6, bytes: 3128 }), "{:?}", scan.tail);
        assert_eq!(scan.start.next_sequence, 6);
    }

    #[test]
    fn a_torn_last_header_is_cut() {
        let mut rig = five_commits(2);
        let at = place_of(&rig, 6);
        rig.disk.flip_bit(FILE, at + 20, 3);
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 2, 3, 4]);
        assert!(matches!(scan.tail, Tail::Cut { sequence: 6, .. }), "{:?}", scan.tail);
        let mut ops = Vec::new();
        scan.quarantine_ops(&mut OpIds::new(), &mut ops);
        assert_eq!(ops.len(), 1);
        assert!(matches!(ops[0].file, FileName::Quarantine(name) if name.sequence == 6));
    }

    #[test]
    fn rot_of_a_payload_in_the_middle_names_the_entry() {
        let mut rig = five_commits(0);
        let at = place_of(&rig, 3);
        rig.disk.flip_bit(FILE, at + 1000, 1);
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 3, 4, 5]);
        assert_eq!(scan.damaged.len(), 1);
        let range = &scan.damaged[0];
        assert_eq!((range.reason, range.at, range.bytes.len()), (Reason::PayloadRot, at, 3128));
        assert_eq!((&range.victims, range.identified), (&lost(2, 2), true));
    }

    #[test]
    fn rot_of_a_header_in_the_middle_is_told_by_the_jump_of_the_index() {
        let mut rig = five_commits(0);
        let at = place_of(&rig, 3);
        rig.disk.flip_bit(FILE, at + 90, 1);
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 3, 4, 5]);
        let range = &scan.damaged[0];
        assert_eq!((range.reason, range.at), (Reason::HeaderRot, at));
        assert_eq!((&range.victims, range.identified), (&lost(2, 2), true));
        assert_eq!(scan.start.next_sequence, 7);
    }

    #[test]
    fn rot_in_the_tail_below_the_watermark_is_never_taken_for_torn() {
        let mut rig = five_commits(5);
        let at = place_of(&rig, 6);
        rig.disk.flip_bit(FILE, at + 1000, 1);
        let scan = rig.scan().unwrap();
        assert_eq!((indices(&scan), scan.tail), (vec![1, 2, 3, 4], Tail::Clean));
        assert_eq!(scan.damaged[0].victims, lost(5, 5));
        assert_eq!(scan.start.next_sequence, 7, "its sequence is not given out again");
    }

    #[test]
    fn a_durable_frame_nobody_can_name_stops_the_start() {
        let mut rig = five_commits(5);
        let at = place_of(&rig, 6);
        rig.disk.flip_bit(FILE, at + 20, 1);
        let refused = rig.scan().expect_err("whose entry it was is unknown");
        assert_eq!(refused.remedy(), Remedy::DoNotStart);
        assert!(refused.to_string().contains("sequences 6 to 6 damaged (HeaderRot)"), "{refused}");
        let scan = rig.scan_accepting(true).unwrap();
        assert_eq!((indices(&scan), scan.start.next_sequence), (vec![1, 2, 3, 4], 7));
    }

    #[test]
    fn a_lost_write_is_seen_by_what_follows() {
        let mut rig = five_commits(0);
        let at = place_of(&rig, 3);
        rig.disk.overwrite(FILE, at, &[0; 4096]);
        let scan = rig.scan().unwrap();
        let range = &scan.damaged[0];
        assert_eq!((range.reason, &range.victims), (Reason::LostWrite, &lost(2, 2)));
        assert!(range.identified);
    }

    #[test]
    fn a_misdirected_write_costs_only_its_victim() {
        let mut rig = five_commits(0);
        let (from, to) = (place_of(&rig, 4), place_of(&rig, 3));
        let bytes = rig.disk.contents(FILE).unwrap();
        rig.disk.overwrite(FILE, to, &bytes[from as usize..][..4096]);
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 3, 4, 5]);
        let range = &scan.damaged[0];
        assert_eq!((range.reason, &range.victims), (Reason::Misdirected, &lost(2, 2)));
    }

    #[test]
    fn a_write_that_landed_elsewhere_is_found_missing() {
        let mut rig = five_commits(0);
        rig.disk.inject(Fault::MisdirectWrite(FILE, 40 << 10));
        rig.appended(log(1), std::iter::once(entry(6, "six")));
        rig.appended(log(1), std::iter::once(entry(7, "seven")));
        let scan = rig.scan().unwrap();
        assert_eq!(indices(&scan), [1, 2, 3, 4, 5, 7]);
        assert_eq!(scan.damaged[0].victims, lost(6, 6));
    }

    #[test]
    fn a_file_shorter_than_the_watermark_is_not_an_empty_tail() {
        let mut rig = five_commits(5);
        let at = place_of(&rig, 5);
        rig.disk.shorten(FILE, Some(at));
        let refused = rig.scan().expect_err("two durable entries are gone");
        assert!(refused.to_string().contains("sequences 5 to 6 damaged (Truncated)"), "{refused}");
        rig.disk.shorten(FILE, None);
        let refused = rig.scan().expect_err("the whole file is gone");
        assert!(refused.to_string().contains("sequences 1 to 6 damaged (Truncated)"), "{refused}");
    }

    #[test]
    fn more_unproven_commits_than_can_be_under_way_are_suspicious() {
        let mut rig = Rig::fresh(SMALL, 3);
        let prepared = rig.turn();
        assert_eq!(prepared.len(), 1);
        rig.step().unwrap();
        // Commits that all claim to know nothing durable, as no correct journal writes them.
        let mut queue = crate::journal::queue::Queue::default();
        let mut cursor = crate::journal::packer::Cursor {
            use_id: crate::format::frame::UseId { owner: IDENTITY.digest(), counter: 1, slot: 0 },
            position: 0,
            sequence: 1,
            previous: 0,
        };
        for index in 1..=4 {
            let content = Scanned::Entry(entry(index, "x"));
            queue.push(crate::journal::queue::Queued { log: log(1), content, carried: false });
            let opening = (index == 1).then_some(crate::format::frame::Opening {
                identity: IDENTITY,
                use_id: cursor.use_id,
                floor: 1,
                manifest: 0,
            });
            let commit =
                crate::journal::packer::pack(&mut queue, &mut cursor, opening, 64 << 10, 0);
            let commit = commit.unwrap();
            rig.disk.overwrite(FILE, commit.at, &commit.parts.concat());
        }
        assert_eq!(indices(&rig.scan().unwrap()), [1, 2, 3, 4]);
        let at = place_of(&rig, 2);
        rig.disk.flip_bit(FILE, at + 20, 1);
        let refused = rig.scan().expect_err("three commits follow");
        assert!(refused.to_string().contains("broken at sequence 2"), "{refused}");
    }

    #[test]
    fn a_frame_that_continues_another_past_is_not_taken_for_ours() {
        let mut rig = five_commits(2);
        let at = place_of(&rig, 6);
        let bytes = rig.disk.contents(FILE).unwrap();
        let found = FrameHeader::decode(&bytes[at as usize..]);
        let HeaderVerdict::Readable(header, _) = found else { panic!("a frame") };
        let (stale, _) = FrameHeader { previous: header.previous ^ 1, ..header }.encode();
        rig.disk.overwrite(FILE, at, &stale);
        let scan = rig.scan().unwrap();
        assert_eq!((indices(&scan), scan.start.next_sequence), (vec![1, 2, 3, 4], 6));
        let mut rig = five_commits(5);
        rig.disk.overwrite(FILE, at, &stale);
        let refused = rig.scan().expect_err("it was durable with another past");
        assert!(refused.to_string().contains("sequences 6 to 6 damaged (StaleWrite)"));
    }

    #[test]
    fn what_an_earlier_use_left_is_the_end_and_not_data() {
        let mut rig = Rig::fresh(SMALL, 3);
        for index in 1..=60u64 {
            rig.appended(log(1), std::iter::once(entry(index, vec![7; 9000])));
            rig.journal.settled(log(1), LogIndex(index));
        }
        let scan = rig.scan().unwrap();
        let found = indices(&scan);
        assert!(found.len() < 20 && found.last() == Some(&60), "{found:?}");
        assert_eq!((scan.tail, scan.damaged.len()), (Tail::Clean, 0));
    }

    #[test]
    fn files_that_nobody_needs_are_not_held_until_all_are_read() {
        let mut rig = Rig::fresh(SMALL, 3);
        for index in 1..=60u64 {
            rig.appended(log(1), std::iter::once(entry(index, vec![7; 9000])));
            rig.journal.settled(log(1), LogIndex(index.saturating_sub(4)));
        }
        rig.pass(2);
        rig.run();
        let watermark = rig.disk.contents(FileName::Watermark).unwrap();
        // Whether the watermark is there to tell, or only what later files say.
        for watermark in [&watermark[..], &[]] {
            let mut scanner = Scanner::new(IDENTITY, SMALL, watermark).unwrap();
            let mut files = Vec::new();
            for (name, bytes) in rig.disk.all() {
                let FileName::Journal(slot) = name else { continue };
                let fed = Bytes::from(bytes.to_vec());
                scanner.feed(slot, fed.clone()).unwrap();
                files.push(fed);
            }
            let held = files.iter().filter(|file| !file.is_unique()).count();
            assert!((1..files.len()).contains(&held), "{held} of {}", files.len());
            let mut scan = scanner.finish(false, &BTreeSet::new()).unwrap();
            assert_eq!(indices(&scan).last(), Some(&60));
            let start = &mut scan.start.files;
            let spare = std::iter::from_fn(|| start.take_spare()).count();
            assert_eq!(start.used_count() + spare, files.len(), "none counts as a short one");
        }
    }

    /// The bytes behind the last frame are then the middle of an older one, unreadable, and behind
    /// that the rest of the older use, often megabytes: calling all of it a torn write would set it
    /// aside at every start. Only where nothing whole is left of the older use it cannot be told.
    #[test]
    fn at_most_the_rest_of_one_older_frame_is_taken_for_a_torn_write() {
        let mut rig = Rig::fresh(SMALL, 3);
        for index in 1..=60u64 {
            let bytes = if index < 55 { 9_000 } else { 3_000 };
            rig.appended(log(1), std::iter::once(entry(index, vec![7; bytes])));
            rig.journal.settled(log(1), LogIndex(index));
            let scan = rig.scan().unwrap();
            assert_eq!((indices(&scan).last(), scan.damaged.len()), (Some(&index), 0));
            let cut = match scan.tail {
                Tail::Clean => 0,
                Tail::Cut { bytes, .. } => bytes,
            };
            assert!(cut < 9_000, "{cut} bytes after {index}");
        }
    }

    /// Entries 1 to 5 in one file. A crash left of the next use, in another file, only its second
    /// commit, with entry 7; the one after that took the same file and had 6 and 7 acknowledged.
    fn torn_commit_behind_a_later_use() -> Rig {
        let mut rig = five_commits(5);
        rig.restart(rig.scan().unwrap());
        rig.run();
        for index in 6..=7 {
            rig.journal.append(log(1), entry(index, "never acknowledged"));
            assert_eq!(rig.turn().len(), 1);
        }
        while rig.step().unwrap() {}
        rig.disk.overwrite(FileName::Journal(1), 0, &[0; 4096]);
        let scan = rig.scan().unwrap();
        assert_eq!((indices(&scan), scan.start.next_sequence), (vec![1, 2, 3, 4, 5], 7));
        rig.restart(scan);
        rig.appended(log(1), (6..=7).map(|index| entry(index, "acknowledged")));
        for _ in 0..2 {
            rig.pass(2);
            rig.run();
        }
        assert_eq!(indices(&rig.scan().unwrap()), [1, 2, 3, 4, 5, 6, 7]);
        rig
    }

    #[test]
    fn a_torn_commit_does_not_stand_in_for_what_rotted_before_it() {
        let mut rig = torn_commit_behind_a_later_use();
        rig.disk.overwrite(FileName::Journal(1), 0, &[0xa5; 4096]);
        let refused = rig.scan().expect_err("entries 6 and 7 are gone");
        assert!(refused.to_string().contains("journal file 1"), "{refused}");
        let scan = rig.scan_accepting(true).unwrap();
        assert_eq!((indices(&scan), scan.start.next_sequence), (vec![1, 2, 3, 4, 5], 10));
        let mut ops = Vec::new();
        scan.quarantine_ops(&mut OpIds::new(), &mut ops);
        let kept = ops.iter().filter_map(|op| match &op.action {
            Action::Replace { parts } => Some(parts.concat()),
            _ => None,
        });
        let text = b"never acknowledged";
        assert!(kept.into_iter().any(|it| it.windows(text.len()).any(|at| at == text)));
        let ranges = scan.damaged.iter().map(|range| (range.first_sequence, range.last_sequence));
        let doubts = scan.doubts.iter().map(|doubt| (doubt.first_sequence, doubt.last_sequence));
        let accepted = ranges.chain(doubts).collect();
        assert!(rig.scan_after(false, &accepted).is_ok(), "it is not asked twice");
    }

    /// A use that never arrived leaves a hole in the count of uses; the opening of the next one
    /// says by its chain what came before.
    #[test]
    fn frames_behind_a_rotten_opening_count_if_the_next_use_continues_them() {
        let mut rig = five_commits(5);
        rig.restart(rig.scan().unwrap());
        rig.run();
        rig.journal.append(log(1), entry(6, "never arrives"));
        rig.turn();
        while rig.step().unwrap() {}
        rig.disk.overwrite(FileName::Journal(1), 0, &[0; 4096]);
        let scan = rig.scan().unwrap();
        rig.restart(scan);
        rig.journal.append(log(1), entry(6, "six"));
        rig.run();
        rig.disk.overwrite(FILE, 0, &[0xa5; 4096]);
        let scan = rig.scan_accepting(true).unwrap();
        assert_eq!(indices(&scan), [2, 3, 4, 5, 6], "only what the first block held is gone");
        assert!(scan.doubts.is_empty());
    }

    /// Found by a random life (two commits under way at the very first start).
    #[test]
    fn nothing_counts_behind_a_first_commit_that_never_arrived() {
        let mut rig = Rig::fresh(SMALL, 3);
        rig.run();
        for index in 1..=2 {
            rig.journal.append(log(1), entry(index, "x"));
            assert_eq!(rig.turn().len(), 1);
        }
        while rig.step().unwrap() {}
        assert_eq!(indices(&rig.scan().unwrap()), [1, 2]);
        rig.disk.overwrite(FILE, 0, &[0; 4096]);
        let scan = rig.scan().unwrap();
        assert_eq!((scan.frames.len(), scan.start.next_sequence), (0, 1));
        assert!(matches!(scan.tail, Tail::Cut { sequence: 1, .. }));
    }

    #[test]
    fn a_foreign_or_newer_file_is_refused() {
        let rig = five_commits(0);
        let bytes = rig.disk.contents(FILE).unwrap();
        let other = Identity { node: NodeId(2), ..IDENTITY };
        let mut scanner = Scanner::new(other, SMALL, &[]).unwrap();
        let refused = scanner.feed(0, bytes).expect_err("another node's journal");
        let said = "journal file 0 belongs to somebody else: node id 1, expected 2";
        assert_eq!(refused.to_string(), said);
    }

    #[test]
    fn any_single_damaged_sector_costs_at_most_what_it_held() {
        let mut rig = five_commits(5);
        let whole = rig.disk.clone();
        let noise: Vec<u8> = (0..512u32).map(|byte| (byte * 7 + 13) as u8).collect();
        for sector in (0..24 << 10).step_by(512) {
            rig.disk = whole.clone();
            rig.disk.overwrite(FILE, sector, &noise);
            let scan = rig.scan_accepting(true).unwrap();
            let named = scan.damaged.iter().flat_map(|range| &range.victims);
            let named: u64 = named.map(|victim| victim.last.0 - victim.first.0 + 1).sum();
            let unnamed = scan.damaged.iter().filter(|range| !range.identified).count();
            assert!(scan.frames.len() >= 4, "sector {sector}");
            assert!(scan.frames.len() + named as usize + unnamed >= 5, "sector {sector}");
        }
    }

    /// A random life of a journal with crashes, held against what was promised.
    struct Life {
        rig: Rig,
        dice: Dice,
        /// Everything appended since the beginning that may still exist, in order.
        said: Vec<(LogId, Scanned)>,
        /// How many of `said` were reported durable.
        acked: usize,
        /// The sequence of each thing said that was written.
        sequences: Vec<u64>,
        next: BTreeMap<LogId, u64>,
        settled: BTreeMap<LogId, u64>,
        /// What `settled` was before the cut at this place of `said`.
        cuts: Vec<(usize, LogId, u64)>,
    }

    impl Life {
        fn new(seed: u64) -> Self {
            Self {
                rig: Rig::fresh(SMALL, seed),
                dice: Dice::new(seed + 1),
                said: Vec::new(),
                acked: 0,
                sequences: Vec::new(),
                next: BTreeMap::new(),
                settled: BTreeMap::new(),
                cuts: Vec::new(),
            }
        }

        fn act(&mut self) {
            let log = log(self.dice.below(4) as i32);
            match self.dice.below(20) {
                0..=9 => self.append(log),
                10 => {
                    let state = hard_state(self.said.len() as u64 + 1);
                    self.rig.journal.append_hard_state(log, state);
                    self.said.push((log, Scanned::HardState(state)));
                }
                11 => self.cut(log),
                12 | 13 => self.settle(log),
                14 => self.rig.pass(self.dice.below(2)),
                15..=17 => self.turn(),
                _ => self.step(),
            }
        }

        fn append(&mut self, log: LogId) {
            let index = self.next.entry(log).or_insert(1);
            let len = 16 + self.dice.below(9000) as usize;
            let entry = entry(*index, vec![self.said.len() as u8; len]);
            *index += 1;
            self.rig.journal.append(log, entry.clone());
            self.said.push((log, Scanned::Entry(entry)));
        }

        fn cut(&mut self, log: LogId) {
            let next = self.next.entry(log).or_insert(1);
            if *next < 2 {
                return;
            }
            let from = *next - 1 - self.dice.below((*next - 1).min(4));
            *next = from;
            let settled = self.settled.entry(log).or_insert(0);
            self.cuts.push((self.said.len(), log, *settled));
            *settled = (*settled).min(from - 1);
            let mark = Mark::SuffixCut { from: LogIndex(from) };
            self.rig.journal.append_mark(log, mark);
            self.said.push((log, Scanned::Mark(mark)));
        }

        /// Everything of the log that is durable and not about to be cut goes to segments.
        fn settle(&mut self, log: LogId) {
            let durable = self.said[..self.acked].iter().filter(|(of, _)| *of == log);
            let mut last = 0;
            for (_, what) in durable {
                match what {
                    Scanned::Entry(entry) => last = entry.index.0,
                    Scanned::Mark(Mark::SuffixCut { from }) => last = from.0 - 1,
                    Scanned::Mark(_) | Scanned::HardState(_) => {}
                }
            }
            let is_cutting = self.said[self.acked..]
                .iter()
                .any(|(of, what)| *of == log && matches!(what, Scanned::Mark(_)));
            if !is_cutting && last > self.settled.get(&log).copied().unwrap_or(0) {
                self.settled.insert(log, last);
                self.rig.journal.settled(log, LogIndex(last));
                let up_to = self.rig.journal.durable_sequence();
                self.rig.journal.marks_settled(log, up_to);
            }
        }

        fn step(&mut self) {
            self.rig.step().expect("no fault was asked for");
            let durable = self.rig.journal.durable_sequence();
            self.acked = self.sequences.partition_point(|sequence| *sequence <= durable);
        }

        /// A turn; notes which sequence each thing said was given.
        fn turn(&mut self) {
            for op in self.rig.turn() {
                let Action::WriteDurable { at, parts, .. } = op.action else { continue };
                if op.file == FileName::Watermark {
                    continue;
                }
                let commit = parts.concat();
                let mut place = 0;
                while let HeaderVerdict::Readable(header, _) = FrameHeader::decode(&commit[place..])
                {
                    place = (header.next_position() - at) as usize;
                    let payload = Bytes::new();
                    let what = header.content(payload).filter(|_| !header.kind.is_entry());
                    let said = self.said.get(self.sequences.len());
                    // A hard state that is not the next thing said was carried by the journal.
                    let is_carried = header.kind == FrameKind::HardState
                        && said.is_none_or(|(_, said)| Some(said) != what.as_ref());
                    if header.kind != FrameKind::Opening && !is_carried {
                        self.sequences.push(header.sequence);
                    }
                    if place >= commit.len() {
                        break;
                    }
                }
            }
        }

        fn is_needed(&self, at: usize) -> bool {
            let (log, what) = &self.said[at];
            let Scanned::Entry(entry) = what else { return false };
            let is_void = self.said[at..].iter().any(|(of, later)| match later {
                Scanned::Mark(Mark::SuffixCut { from }) => of == log && *from <= entry.index,
                Scanned::Mark(_) | Scanned::Entry(_) | Scanned::HardState(_) => false,
            });
            entry.index.0 > self.settled.get(log).copied().unwrap_or(0) && !is_void
        }

        fn crash(&mut self) {
            self.rig.disk.crash();
            let scan = self.rig.scan().expect("a crash damages nothing durable");
            assert_eq!(scan.damaged.len(), 0);
            let again = self.rig.scan().expect("again");
            assert!(scan.frames == again.frames && scan.tail == again.tail);
            let kept = self.check_order(&scan);
            self.check_hard_states(&scan);
            assert!(kept <= self.sequences.len(), "only what was written is found");
            self.said.truncate(kept);
            self.sequences.truncate(kept);
            self.acked = kept;
            while self.cuts.last().is_some_and(|(at, ..)| *at >= kept) {
                if let Some((_, log, settled)) = self.cuts.pop() {
                    self.settled.insert(log, settled);
                }
            }
            self.rig.restart(scan);
            self.next.clear();
            for (log, what) in &self.said {
                match what {
                    Scanned::Entry(entry) => drop(self.next.insert(*log, entry.index.0 + 1)),
                    Scanned::Mark(Mark::SuffixCut { from }) => {
                        self.next.insert(*log, from.0);
                    }
                    Scanned::Mark(_) | Scanned::HardState(_) => {}
                }
            }
            for (log, index) in &self.settled {
                self.rig.journal.settled(*log, LogIndex(*index));
            }
        }

        /// Nothing needed is missing, nothing is invented, the order is the one of the appends.
        /// Returns how much of `said` is known to have happened.
        fn check_order(&self, scan: &JournalScan) -> usize {
            let is_state = |what: &Scanned| matches!(what, Scanned::HardState(_));
            let found: Vec<(LogId, &Scanned)> = scan
                .frames
                .iter()
                .filter(|frame| !is_state(&frame.what))
                .map(|frame| (frame.log, &frame.what))
                .collect();
            let said: Vec<usize> =
                (0..self.said.len()).filter(|at| !is_state(&self.said[*at].1)).collect();
            let fits = |start: &usize| {
                let run = said[*start..].iter().map(|at| (self.said[*at].0, &self.said[*at].1));
                said.len() - start >= found.len() && run.zip(&found).all(|(a, b)| a == *b)
            };
            // From the end: an empty journal stands behind all that is acknowledged.
            let acked = said.partition_point(|at| *at < self.acked);
            let start = (0..=acked).rev().find(fits).expect("found what was said, in order");
            for at in &said[..start] {
                assert!(!self.is_needed(*at), "needed and gone: {at}");
            }
            let end = start + found.len();
            for at in &said[end..] {
                assert!(*at >= self.acked, "acknowledged and gone: {at}");
            }
            // A hard state's term is its place in `said`, plus one.
            let states = scan.frames.iter().filter_map(|frame| match &frame.what {
                Scanned::HardState(state) => Some(state.term.0 as usize),
                Scanned::Entry(_) | Scanned::Mark(_) => None,
            });
            let last = end.checked_sub(1).map_or(0, |last| said[last] + 1);
            states.fold(last, usize::max).max(self.acked)
        }

        fn check_hard_states(&self, scan: &JournalScan) {
            let mut found: BTreeMap<LogId, HardState> = BTreeMap::new();
            for frame in &scan.frames {
                if let Scanned::HardState(state) = frame.what {
                    found.insert(frame.log, state);
                }
            }
            for number in 0..4 {
                let log = log(number);
                let of_log = |(of, what): &(LogId, Scanned)| match what {
                    Scanned::HardState(state) if *of == log => Some(*state),
                    Scanned::HardState(_) | Scanned::Entry(_) | Scanned::Mark(_) => None,
                };
                let acked = self.said[..self.acked].iter().filter_map(of_log).next_back();
                let later: Vec<HardState> =
                    self.said[self.acked..].iter().filter_map(of_log).collect();
                let is_right = found.get(&log) == acked.as_ref()
                    || found.get(&log).is_some_and(|state| later.contains(state));
                assert!(is_right, "{log}: found {:?}, acknowledged {acked:?}", found.get(&log));
            }
        }
    }

    #[test]
    fn whatever_the_damage_the_scan_ends_and_the_journal_goes_on() {
        for seed in 0..200 {
            let mut life = Life::new(seed);
            for _ in 0..life.dice.below(400) {
                life.act();
            }
            let hits = life.dice.below(12);
            for _ in 0..hits {
                let file = FileName::Journal(life.dice.below(3));
                let Some(bytes) = life.rig.disk.contents(file) else { continue };
                let sectors = bytes.len() as u64 / 512;
                if sectors == 0 {
                    continue;
                }
                let to = life.dice.below(sectors) * 512;
                let from = (life.dice.below(sectors) * 512) as usize;
                match life.dice.below(5) {
                    0 => life.rig.disk.overwrite(file, to, &[0; 512]),
                    1 => life.rig.disk.overwrite(file, to, &[seed as u8; 512]),
                    2 => life.rig.disk.overwrite(file, to, &bytes[from..from + 512]),
                    3 => life.rig.disk.flip_bit(file, to + 77, 3),
                    _ => life.rig.disk.shorten(file, Some(to)),
                }
            }
            drop(life.rig.scan());
            let scan = life.rig.scan_accepting(true).expect("told to accept");
            life.rig.restart(scan);
            life.rig.journal.append(log(1), entry(1, "on we go"));
            for number in 0..4 {
                life.rig.journal.settled(log(number), LogIndex(1 << 40));
                let up_to = life.rig.journal.durable_sequence();
                life.rig.journal.marks_settled(log(number), up_to);
            }
            life.rig.disk.crash();
            life.rig.run();
            assert_eq!(life.rig.journal.queued_bytes(), 0, "seed {seed}");
            let again = life.rig.scan_accepting(true).expect("told to accept");
            assert!(indices(&again).contains(&1), "seed {seed}");
        }
    }

    #[test]
    fn whatever_the_crash_nothing_durable_is_lost_and_nothing_invented() {
        for seed in 0..150 {
            let mut life = Life::new(seed);
            for _ in 0..6 {
                let acts = life.dice.below(250);
                for _ in 0..acts {
                    life.act();
                }
                life.crash();
            }
        }
    }
}

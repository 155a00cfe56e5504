//! Looks at the files of one core without changing them: the pure half of `flumen inspect`.
//!
//! Does: read manifest, journal and, on request, segments; say in lines of text what is there and
//! what is damaged.
//! Does not: write, repair, or need the store to be in order: what cannot be read is a line too.
//! Invariants: only reading operations leave here; at most one of them is under way, so memory
//! stays within the journal's window.
//! Apart because an operator needs it exactly when the store does not open.
//!
//! ```text
//!  Folder -> Watermark -> Manifest -> JournalFile* -> (Segment extents)* -> Over
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::records::{Records, records};
use flumen_protocol::entry::Payload;
use flumen_protocol::ids::{LogId, Offset};

use crate::format::node::Identity;
use crate::journal::journal::JournalConfig;
use crate::limits::{BLOCK, EXTENT_BYTES_MAX};
use crate::manifest::image::{Image, LogImage};
use crate::manifest::manifest::parse;
use crate::op::{Action, DiskDone, DiskOp, FileName, OpIds, Output};
use crate::reader::assemble::Gaps;
use crate::reader::sieve::Sieve;
use crate::recovery::scan::{Doubt, JournalScan, Scanned, Scanner, Tail};
use crate::segment::segment::Segment;

/// What is wanted to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Journal files and logs, from manifest and journal alone.
    Overview,
    /// Besides, every byte of every segment is checked.
    Check,
    /// Besides, one line per record of one log.
    Records(LogId),
}

/// An inspection under way.
#[derive(Debug)]
pub struct Inspection {
    depth: Depth,
    identity: Identity,
    journal: JournalConfig,
    ids: OpIds,
    step: Step,
    asked: bool,
    /// Journal files still to be read.
    slots: VecDeque<u64>,
    scanner: Option<Scanner>,
    image: Image,
    /// Segments still to be read.
    segments: VecDeque<(LogId, Segment)>,
    place: Place,
    /// Batches of the log wanted that only the journal has.
    unsettled: Vec<Bytes>,
    batches: Vec<Bytes>,
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Folder,
    Watermark,
    Manifest,
    JournalFile,
    SegmentExtent,
    Over,
}

/// How far the segment in front was read.
#[derive(Debug)]
struct Place {
    position: u64,
    sieve: Sieve,
    bytes: u64,
}

impl Place {
    fn beginning(sieve: Sieve) -> Self {
        Self { position: 0, sieve, bytes: EXTENT_BYTES_MAX }
    }
}

impl Inspection {
    /// An inspection of one core's files.
    #[must_use]
    pub fn new(identity: Identity, journal: JournalConfig, depth: Depth) -> Self {
        Self {
            depth,
            identity,
            journal,
            ids: OpIds::new(),
            step: Step::Folder,
            asked: false,
            slots: VecDeque::new(),
            scanner: None,
            image: Image::default(),
            segments: VecDeque::new(),
            place: Place::beginning(Sieve::new(Offset::ZERO, Offset::ZERO, Gaps::None)),
            unsettled: Vec::new(),
            batches: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The operation to carry out now; nothing while one is under way, or at the end.
    pub fn next_ops(&mut self, out: &mut Vec<DiskOp>) {
        if self.asked {
            return;
        }
        let (file, action) = match self.step {
            Step::Folder => (FileName::CoreFolder, Action::List),
            Step::Watermark => (FileName::Watermark, Action::ReadAll),
            Step::Manifest => (FileName::Manifest, Action::ReadAll),
            Step::JournalFile => (FileName::Journal(self.slots[0]), Action::ReadAll),
            Step::SegmentExtent => self.extent(),
            Step::Over => return,
        };
        self.asked = true;
        out.push(DiskOp { id: self.ids.next_id(), file, action });
    }

    /// Whether there is nothing more to read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// The lines found since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The whole batches of the log that [`Depth::Records`] names, found since the last call, in
    /// offset order: those in segments, then those only the journal has.
    pub fn take_batches(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.batches)
    }

    /// Takes in one answer of the disk.
    pub fn on_done(&mut self, done: DiskDone) {
        assert!(self.asked, "an answer nobody asked for");
        self.asked = false;
        match self.step {
            Step::Folder => self.take_folder(done),
            Step::Watermark => self.take_watermark(done),
            Step::Manifest => self.take_manifest(done),
            Step::JournalFile => self.take_journal_file(done),
            Step::SegmentExtent => self.take_extent(done),
            Step::Over => unreachable!("nothing is asked at the end"),
        }
    }

    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The bytes of an answer; says why there are none.
    fn bytes_of(&mut self, done: DiskDone) -> Bytes {
        match done.result {
            Ok(Output::Bytes(bytes)) => bytes,
            Ok(Output::Done | Output::Listing(_) | Output::Size(_)) => Bytes::new(),
            Err(error) => {
                self.say(error.to_string());
                Bytes::new()
            }
        }
    }

    fn take_folder(&mut self, done: DiskDone) {
        self.step = Step::Watermark;
        match done.result {
            Ok(Output::Listing(found)) => {
                for listed in found {
                    self.lines.push(format!("{}: {} bytes", listed.file, listed.bytes));
                    if let FileName::Journal(slot) = listed.file {
                        self.slots.push_back(slot);
                    }
                }
            }
            Ok(Output::Done | Output::Bytes(_) | Output::Size(_)) => {}
            Err(error) => self.say(error.to_string()),
        }
    }

    fn take_watermark(&mut self, done: DiskDone) {
        self.step = Step::Manifest;
        let bytes = self.bytes_of(done);
        match Scanner::new(self.identity, self.journal, &bytes) {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(error) => self.say(error.to_string()),
        }
    }

    fn take_manifest(&mut self, done: DiskDone) {
        self.step = Step::JournalFile;
        let bytes = self.bytes_of(done);
        match parse(&bytes, &self.identity) {
            Ok(parsed) => {
                let (logs, torn) = (parsed.image.logs.len(), parsed.torn_bytes);
                let sequence = parsed.sequence;
                self.say(format!(
                    "manifest: chunk {sequence}, {logs} logs, {torn} bytes unfinished"
                ));
                self.image = parsed.image;
            }
            Err(error) => self.say(error.to_string()),
        }
        self.finish_journal_if_read();
    }

    fn take_journal_file(&mut self, done: DiskDone) {
        let slot = self.slots.pop_front().expect("a journal file was asked for");
        let bytes = self.bytes_of(done);
        if let Some(scanner) = &mut self.scanner
            && let Err(error) = scanner.feed(slot, bytes)
        {
            self.say(error.to_string());
        }
        self.finish_journal_if_read();
    }

    fn finish_journal_if_read(&mut self) {
        if !self.slots.is_empty() {
            return;
        }
        // An operator looks because something may be wrong; nothing is given up by looking.
        match self.scanner.take().map(|scanner| scanner.finish(true, &self.image.accepted)) {
            Some(Ok(scan)) => self.describe(&scan),
            Some(Err(error)) => self.say(error.to_string()),
            None => {}
        }
        self.queue_segments();
    }

    fn describe(&mut self, scan: &JournalScan) {
        let first = scan.frames.first().map_or(0, |frame| frame.sequence);
        let last = scan.frames.last().map_or(0, |frame| frame.sequence);
        let frames = scan.frames.len();
        self.say(format!("journal: {frames} frames, sequences {first} to {last}"));
        match scan.tail {
            Tail::Clean => self.say("journal: ends cleanly".to_owned()),
            Tail::Cut { sequence, bytes } => self.say(format!(
                "journal: {bytes} bytes from sequence {sequence} on were never acknowledged"
            )),
        }
        self.lines.extend(scan.doubts.iter().map(Doubt::describe));
        let ranges = scan.damaged.iter();
        let ranges = ranges.map(|range| (range.describe(), range.set_aside().name));
        self.lines.extend(ranges.map(|(what, name)| format!("{what}: in {name} after a start")));
        let mut unsettled: BTreeMap<LogId, (usize, u64)> = BTreeMap::new();
        for frame in &scan.frames {
            let image = self.image.logs.get(&frame.log);
            let settled = image.map_or(0, |image| image.settled.0.0);
            let void = image.and_then(|image| image.void);
            match &frame.what {
                Scanned::Entry(entry)
                    if void.is_some_and(|it| it.covers(frame.sequence, entry.index)) => {}
                Scanned::Entry(entry) if entry.index.0 > settled => {
                    let (count, last) = unsettled.entry(frame.log).or_default();
                    *count += 1;
                    *last = entry.index.0;
                    if let (true, Payload::Records(records)) =
                        (self.depth == Depth::Records(frame.log), &entry.payload)
                    {
                        self.unsettled.push(records.bytes.clone());
                    }
                }
                Scanned::Entry(_) | Scanned::HardState(_) | Scanned::Mark(_) => {}
            }
        }
        let only_journal = unsettled.keys().filter(|log| !self.image.logs.contains_key(log));
        let logs: Vec<LogId> = self.image.logs.keys().chain(only_journal).copied().collect();
        for log in logs {
            let (count, last) = unsettled.get(&log).copied().unwrap_or_default();
            let tail = format!("{count} unsettled entries in the journal, the last is {last}");
            let line = self.image.logs.get(&log).map(describe_log).unwrap_or_default();
            self.say(format!("{log}: {line}{tail}"));
            let hold = self.image.logs.get(&log).and_then(|image| image.hold.as_ref());
            if let Some(hold) = hold.map(|hold| format!("{log}: held, takes no records: {hold}")) {
                self.say(hold);
            }
        }
        let going: Vec<String> =
            self.image.condemned.iter().map(|name| format!("{} goes", name.data())).collect();
        self.lines.extend(going);
    }

    fn queue_segments(&mut self) {
        let wanted = |log: &LogId| match self.depth {
            Depth::Overview => false,
            Depth::Check => true,
            Depth::Records(only) => *log == only,
        };
        let logs = self.image.logs.iter().filter(|(log, _)| wanted(log));
        self.segments = logs
            .flat_map(|(log, image)| image.segments.all().iter().map(|segment| (*log, *segment)))
            .collect();
        self.begin_segment();
    }

    fn begin_segment(&mut self) {
        let Some((_, segment)) = self.segments.front() else {
            self.step = Step::Over;
            for batch in std::mem::take(&mut self.unsettled) {
                self.take_batch(batch);
            }
            return;
        };
        self.step = Step::SegmentExtent;
        let sieve = Sieve::new(segment.base, segment.end, Gaps::of(segment));
        self.place = Place::beginning(sieve);
    }

    fn extent(&self) -> (FileName, Action) {
        let (log, segment) = self.segments[0];
        let at = self.place.position / BLOCK * BLOCK;
        let until = segment.length.min(self.place.position + self.place.bytes);
        let len = u32::try_from(until.next_multiple_of(BLOCK) - at).expect("extents are bounded");
        (segment.name(log).data(), Action::Read { at, len })
    }

    fn take_extent(&mut self, done: DiskDone) {
        let (log, segment) = self.segments[0];
        let read = self.bytes_of(done);
        let skip = ((self.place.position % BLOCK) as usize).min(read.len());
        let left = segment.length - self.place.position;
        let asked = left.min(self.place.bytes) as usize;
        let have = asked.min(read.len() - skip);
        // Shorter than asked for: there is no more of it.
        let left = if have < asked { have as u64 } else { left };
        let found = self.place.sieve.take(&read.slice(skip..skip + have), left);
        if let Depth::Records(_) = self.depth {
            found.batches.iter().for_each(|batch| self.take_batch(batch.bytes.clone()));
        }
        for (from, until) in &found.damaged {
            self.say(format!("{log}: segment {}: [{from}, {until}) is damaged", segment.base));
        }
        self.place.position += found.used as u64;
        self.place.bytes = EXTENT_BYTES_MAX.max(found.wanted as u64);
        if self.place.sieve.is_over() {
            self.say(format!(
                "{log}: segment {}: offsets to {}, {} bytes, read",
                segment.base, segment.end, segment.length
            ));
            self.segments.pop_front();
            self.begin_segment();
        }
    }

    fn take_batch(&mut self, batch: Bytes) {
        let base = BatchHeader::parse(&batch).map_or(Offset::UNKNOWN, |header| header.base_offset);
        match records(&batch, inflated_bytes_max(batch.len())) {
            Ok(opened) => self.say_records(base, &opened),
            Err(fault) => self.say(format!("{base}: unreadable: {fault:?}")),
        }
        self.batches.push(batch);
    }

    fn say_records(&mut self, base: Offset, opened: &Records) {
        for record in opened {
            let line = match record {
                Ok(record) => format!(
                    "{} {} key={} value={}",
                    record.offset,
                    record.timestamp,
                    printable(record.key),
                    printable(record.value)
                ),
                Err(fault) => format!("{base}: unreadable: {fault:?}"),
            };
            self.say(line);
        }
    }
}

fn describe_log(image: &LogImage) -> String {
    let segments = image.segments.all().len();
    format!(
        "offsets {} to {} in {segments} segments of {} bytes, settled to entry {} of term {}, ",
        image.start,
        image.settled_end,
        image.segments.bytes(),
        image.settled.0,
        image.settled.1
    )
}

/// Text as it is, anything else escaped; null is not empty.
fn printable(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

//! One cleaning of one log.
//!
//! Does: walk the dirty part into a table, then all of it group after group, and say at every point what is to
//! be read, written or recorded next.
//! Does not: read files or touch the manifest: the store does, and answers.
//! Invariants: at most one read or write is under way; batches are worked on in slices, a large one in many; what
//! is being written counts for nothing before the store has recorded it; a segment of which anything cannot be
//! read is left as it is, and from there on nothing is forgotten.
//! Apart because it is the one thing in the store that takes minutes.
//!
//! ```text
//!  Mapping --dirty part read, or the table full--> Choosing --group--> Naming --recorded--> Sweeping
//!                                                     ^ |                                      |
//!                                                     | +--none left--> Over            files durable
//!                                                     +--recorded-- Swapping <-----------------+
//!  damage: in Mapping that segment is skipped; in Sweeping what was written is discarded, and the
//!  segments of the group are grouped anew without it
//! ```

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{LogId, Offset};
use flumen_protocol::time::{Monotonic, Wall};

use super::mapping::{Mapping, Noting};
use super::output::Output;
use super::plan::{Dirt, Piece, pieces};
use super::sweep::{Judging, Sweep, Verdict};
use super::table::KeyTable;
use super::transactions::Transactions;
use crate::answers::{
    AbortedRange, CleaningFacts, CleaningReport, Compaction, LogSettings, ReadError, ReadRequest,
};
use crate::limits::{CLEANING_READ_BYTES, CLEANING_RECORD_BYTES, CLEANING_SLICE_BYTES};
use crate::op::{Action, FileName, Generation, OpId};
use crate::segment::segment::{Segment, SegmentName};

/// What a cleaning wants from its store.
#[derive(Debug)]
pub enum Wish {
    /// Batches from here on.
    Read(ReadRequest),
    /// An operation; [`Cleaning::begun`] says its name, [`Cleaning::on_done`] its end.
    Operate(FileName, Action),
    /// A generation for a segment in the place of these; then [`Cleaning::name`].
    Name(Vec<Segment>),
    /// This segment is durable: it is to take its place; then [`Cleaning::swapped`].
    Swap(Segment),
    /// What was written under this name is of no use; then [`Cleaning::discarded`].
    Discard(SegmentName),
    /// Another turn: there is more to work on.
    Turn,
    /// Nothing more: up to here the log is clean.
    Finish(Offset),
}

/// How a cleaning ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The log is gone.
    Gone,
    /// Something could not be read now; that says nothing about what lies there.
    Unavailable,
}

#[derive(Debug)]
enum Phase {
    /// The dirty part is read into the table.
    Mapping,
    /// The next group is to be chosen.
    Choosing,
    /// A group waits for a name.
    Naming(Vec<Segment>),
    /// A group is read, and written without what goes.
    Sweeping { group: Vec<Segment>, output: Box<Output> },
    /// Its output is durable, or of no use, and the store has not taken note yet.
    Ending { name: SegmentName, made: Option<Segment> },
    /// Everything is done.
    Over,
}

/// A batch that is worked on in several turns.
#[derive(Debug)]
enum Part {
    None,
    Mapping(Mapping),
    Judging(Box<Judging>),
}

/// A cleaning under way.
#[derive(Debug)]
pub struct Cleaning {
    log: LogId,
    bytes_max: u64,
    dirt: Dirt,
    /// Sealed segments up to where may be cleaned, as they were at the beginning.
    segments: Vec<Segment>,
    /// Bases of those that are left as they are.
    left_out: BTreeSet<Offset>,
    table: KeyTable,
    /// Where the first group begins that could not take its place.
    overtaken: Option<Offset>,
    /// The table has no more room.
    is_full: bool,
    /// While mapping: what was aborted is not the last of its key.
    transactions: Transactions,
    phase: Phase,
    /// What is still to be done, the next first.
    pieces: VecDeque<Piece>,
    sweep: Sweep,
    /// As it was before the group under way.
    before: Sweep,
    /// The segments being walked, the next first.
    walk: VecDeque<Segment>,
    /// Where the walk stands.
    cursor: Offset,
    /// A read is under way.
    is_reading: bool,
    /// Batches read and not worked on, or not to their end: then the first one is under way.
    batches: VecDeque<Bytes>,
    part: Part,
    op: Option<OpId>,
    begun: Monotonic,
    report: CleaningReport,
}

impl Cleaning {
    /// A cleaning of `dirt` that has done nothing. `segments`: all sealed ones that the log still has,
    /// oldest first; `table_bytes`: what its table may take.
    #[must_use]
    pub fn new(
        log: LogId,
        (settings, rules): (&LogSettings, &Compaction),
        (dirt, segments): (Dirt, Vec<Segment>),
        facts: &CleaningFacts,
        table_bytes: usize,
        (begun, now): (Monotonic, Wall),
    ) -> Self {
        let segments: Vec<Segment> =
            segments.into_iter().take_while(|segment| segment.end <= dirt.until).collect();
        let sweep = Sweep::new(facts, now.0, rules.delete_retention_ms);
        let offsets = u64::try_from(dirt.until.0 - dirt.from.0).unwrap_or(0);
        let dirty = segments.iter().copied().filter(|segment| segment.end > dirt.from);
        Self {
            log,
            bytes_max: settings.segment_bytes,
            dirt,
            walk: dirty.collect(),
            segments,
            left_out: BTreeSet::new(),
            overtaken: None,
            table: KeyTable::new(table_bytes, offsets, facts.seed),
            is_full: false,
            transactions: Transactions::new(&facts.aborted),
            phase: Phase::Mapping,
            pieces: VecDeque::new(),
            before: sweep.clone(),
            sweep,
            cursor: dirt.from,
            is_reading: false,
            batches: VecDeque::new(),
            part: Part::None,
            op: None,
            begun,
            report: CleaningReport::default(),
        }
    }

    /// Whose.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Whether the store owes it an answer to a read or an operation.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.is_reading || self.op.is_some()
    }

    /// Whether an operation is under way.
    #[must_use]
    pub fn has_operation(&self) -> bool {
        self.op.is_some()
    }

    /// Whether this operation is its own.
    #[must_use]
    pub fn owns(&self, op: OpId) -> bool {
        self.op == Some(op)
    }

    /// Whether it waits for the answer to this read.
    #[must_use]
    pub fn awaits(&self, log: LogId, from: Offset) -> bool {
        self.is_reading && self.log == log && self.cursor == from
    }

    /// The files it is writing, if it is.
    #[must_use]
    pub fn unfinished(&self) -> Option<SegmentName> {
        match &self.phase {
            Phase::Sweeping { output, .. } => Some(output.name()),
            Phase::Ending { name, .. } => Some(*name),
            Phase::Mapping | Phase::Choosing | Phase::Naming(_) | Phase::Over => None,
        }
    }

    /// Bytes of memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let waiting = match &self.phase {
            Phase::Sweeping { output, .. } => output.waiting_bytes(),
            Phase::Mapping
            | Phase::Choosing
            | Phase::Naming(_)
            | Phase::Ending { .. }
            | Phase::Over => 0,
        };
        let read: usize = self.batches.iter().map(Bytes::len).sum();
        let part = match &self.part {
            Part::None => 0,
            Part::Mapping(mapping) => mapping.memory_bytes(),
            Part::Judging(judging) => judging.memory_bytes(),
        };
        self.table.bytes() + read + part + waiting
    }

    /// What it did, at `now`.
    #[must_use]
    pub fn report(&self, now: Monotonic) -> CleaningReport {
        let left_out = self.segments.iter().filter(|it| self.left_out.contains(&it.base));
        CleaningReport {
            took: now.since(self.begun),
            records_dropped: self.sweep.dropped,
            left_out: left_out.map(|segment| (segment.base, segment.end)).collect(),
            emptied: self.emptied(),
            is_partial: self.is_full,
            ..self.report.clone()
        }
    }

    fn emptied(&self) -> Vec<AbortedRange> {
        match self.phase {
            // Only a walk over everything has met all there is of a range.
            Phase::Over if self.left_out.is_empty() => self.sweep.transactions().emptied().to_vec(),
            Phase::Mapping
            | Phase::Choosing
            | Phase::Naming(_)
            | Phase::Sweeping { .. }
            | Phase::Ending { .. }
            | Phase::Over => Vec::new(),
        }
    }

    /// Works on a slice of what was read, then says what it wants. Nothing while it
    /// [waits](Self::is_waiting).
    pub fn next_wish(&mut self) -> Option<Wish> {
        if self.is_waiting() {
            return None;
        }
        match &self.phase {
            Phase::Mapping => self.map(),
            Phase::Choosing => self.choose(),
            Phase::Naming(group) => Some(Wish::Name(group.clone())),
            Phase::Sweeping { .. } => self.sweep(),
            Phase::Ending { made: Some(made), .. } => Some(Wish::Swap(*made)),
            Phase::Ending { name, made: None } => Some(Wish::Discard(*name)),
            Phase::Over => Some(Wish::Finish(self.clean_until())),
        }
    }

    /// Its group is written under this generation.
    ///
    /// # Panics
    /// When it did not ask.
    pub fn name(&mut self, generation: Generation) {
        let Phase::Naming(group) = std::mem::replace(&mut self.phase, Phase::Choosing) else {
            panic!("a name nobody asked for");
        };
        self.before = self.sweep.clone();
        self.begin_walk(group.clone());
        let output = Box::new(Output::new(self.log, &group, generation));
        self.phase = Phase::Sweeping { group, output };
    }

    /// What it made has taken its place, which held this many bytes before.
    pub fn swapped(&mut self, before_bytes: u64) {
        if let Phase::Ending { made: Some(made), .. } = &self.phase {
            self.report.bytes_before += before_bytes;
            self.report.bytes_after += made.length;
        }
        self.phase = Phase::Choosing;
    }

    /// Something of what it was to replace went away meanwhile, and what it made is of no use. What is left of
    /// that is as dirty as before, and may hold what a tombstone behind it deletes.
    pub fn overtaken(&mut self, made: &Segment) {
        self.overtaken = Some(self.overtaken.unwrap_or(made.base));
        self.sweep.pass_over();
        self.phase = Phase::Choosing;
    }

    /// What it made is of no use, and was noted for removal.
    pub fn discarded(&mut self) {
        self.phase = Phase::Choosing;
    }

    /// The read it asked for has begun.
    pub fn reading(&mut self) {
        self.is_reading = true;
    }

    /// The operation it asked for has this name.
    pub fn begun(&mut self, op: OpId) {
        self.op = Some(op);
    }

    /// Its operation is done.
    pub fn on_done(&mut self) {
        self.op = None;
        if let Phase::Sweeping { output, .. } = &mut self.phase {
            output.on_done();
        }
    }

    /// Takes the answer to its read.
    ///
    /// # Errors
    /// [`Broken`]: it cannot go on; what it swapped stays swapped.
    pub fn take(&mut self, result: Result<Vec<Bytes>, ReadError>) -> Result<(), Broken> {
        self.is_reading = false;
        match result {
            Ok(batches) if batches.is_empty() => self.end_segment(),
            Ok(batches) => {
                self.report.bytes_read += batches.iter().map(|it| it.len() as u64).sum::<u64>();
                self.batches.extend(batches);
            }
            Err(ReadError::Damaged { .. }) => self.leave_out(),
            // The log's start has moved: what lies before it is of no use to anybody.
            Err(ReadError::OutOfRange { start, .. }) if start > self.cursor => self.advance(start),
            Err(ReadError::OutOfRange { .. } | ReadError::UnknownLog) => return Err(Broken::Gone),
            Err(ReadError::Unavailable { .. }) => return Err(Broken::Unavailable),
        }
        Ok(())
    }

    /// Up to where the log is clean now: not beyond a segment that was left as it was, or a record in it that
    /// a later one supersedes would stay for ever.
    fn clean_until(&self) -> Offset {
        let left = self.left_out.first().copied().into_iter().chain(self.overtaken);
        left.min().unwrap_or(self.dirt.until).min(self.mapped_until())
    }

    /// One after the last offset the table knows everything up to.
    fn mapped_until(&self) -> Offset {
        let latest = self.table.latest().filter(|_| self.is_full);
        latest.map_or(self.dirt.until, |latest| latest.after(1))
    }

    fn map(&mut self) -> Option<Wish> {
        let mut left = CLEANING_SLICE_BYTES;
        while left > 0
            && !self.is_full
            && let Some(batch) = self.batches.front().cloned()
            && self.map_slice(&batch, &mut left)
        {
            self.pass(&batch);
        }
        if !self.is_full && !self.batches.is_empty() {
            return Some(Wish::Turn);
        }
        if self.is_full || self.walk.is_empty() {
            self.begin_sweep();
            return Some(Wish::Turn);
        }
        Some(Wish::Read(self.request()))
    }

    /// Notes keys of the first batch; `false` if there is more of it. Or of nothing, as there is no more room.
    fn map_slice(&mut self, batch: &Bytes, left: &mut usize) -> bool {
        let Some(header) = BatchHeader::parse(batch) else { return true };
        let mut mapping = match std::mem::replace(&mut self.part, Part::None) {
            Part::Mapping(mapping) => mapping,
            Part::None | Part::Judging(_) => {
                let counts = !header.is_control() && !self.transactions.meet_data(&header);
                Mapping::new(batch, counts)
            }
        };
        match mapping.go_on(left, self.dirt.from, &mut self.table) {
            Noting::More => {
                self.part = Part::Mapping(mapping);
                return false;
            }
            Noting::Done => self.table.know_until(header.last_offset()),
            Noting::Full => self.is_full = true,
        }
        true
    }

    fn begin_sweep(&mut self) {
        self.put_down();
        self.walk.clear();
        if !self.is_full {
            self.table.know_until(Offset(self.dirt.until.0 - 1));
        }
        let until = self.mapped_until();
        self.segments.retain(|segment| segment.base < until);
        self.pieces = pieces(&self.segments, &self.left_out, self.bytes_max).into();
        self.report.keys = self.table.key_count() as u64;
        self.phase = Phase::Choosing;
    }

    fn choose(&mut self) -> Option<Wish> {
        self.phase = match self.pieces.pop_front() {
            Some(Piece::Group(group)) => Phase::Naming(group),
            Some(Piece::LeftOut(_)) => {
                self.sweep.pass_over();
                Phase::Choosing
            }
            None => Phase::Over,
        };
        Some(Wish::Turn)
    }

    fn sweep(&mut self) -> Option<Wish> {
        self.sweep_slice();
        let Phase::Sweeping { group, output } = &mut self.phase else {
            return Some(Wish::Turn);
        };
        if self.walk.is_empty() && self.batches.is_empty() {
            if let Some(made) = output.done() {
                let name = output.name();
                self.phase = Phase::Ending { name, made: Some(made) };
                return Some(Wish::Turn);
            }
            let end = group[group.len() - 1].end;
            if output.is_taking() && !output.finish(end) {
                // The log's start has moved beyond its end: nobody reads what was written.
                let name = output.name();
                self.phase = Phase::Ending { name, made: None };
                return Some(Wish::Turn);
            }
        }
        if let Some((file, action)) = output.next_op() {
            if let Action::Write { padded_len, .. } = &action {
                self.report.bytes_written += u64::from(*padded_len);
            }
            return Some(Wish::Operate(file, action));
        }
        if !self.batches.is_empty() {
            return Some(Wish::Turn);
        }
        Some(Wish::Read(self.request()))
    }

    fn sweep_slice(&mut self) {
        let mut left = CLEANING_SLICE_BYTES;
        while left > 0
            && let Phase::Sweeping { group, output } = &mut self.phase
            && !output.is_full()
            && let Some(batch) = self.batches.front().cloned()
        {
            let end = group[group.len() - 1].end;
            let last = BatchHeader::parse(&batch).map(|header| header.last_offset().after(1));
            let begun = match std::mem::replace(&mut self.part, Part::None) {
                Part::Judging(judging) => Ok(judging),
                Part::None | Part::Mapping(_) => {
                    left = left.saturating_sub(CLEANING_RECORD_BYTES);
                    self.sweep.begin(&batch, last == Some(end)).map(Box::new)
                }
            };
            let verdict = match begun {
                Err(verdict) => verdict,
                Ok(mut judging) => {
                    let verdict = self.sweep.go_on(&mut judging, &mut left, &self.table);
                    let Some(verdict) = verdict else {
                        self.part = Part::Judging(judging);
                        return;
                    };
                    verdict
                }
            };
            match verdict {
                Verdict::Keep => output.add(batch.clone()),
                Verdict::Rewrite(rest) => output.add(rest),
                Verdict::Drop => {}
            }
            self.pass(&batch);
        }
    }

    fn request(&self) -> ReadRequest {
        let limit = self.walk.front().map_or(self.cursor, |segment| segment.end);
        let (from, max_bytes) = (self.cursor, CLEANING_READ_BYTES);
        ReadRequest { from, limit, max_bytes, at_least_one: true, token: 0 }
    }

    fn begin_walk(&mut self, segments: Vec<Segment>) {
        self.put_down();
        self.cursor = segments.first().map_or(self.cursor, |segment| segment.base);
        self.walk = segments.into();
    }

    /// The first batch was worked on.
    fn pass(&mut self, batch: &Bytes) {
        self.batches.pop_front();
        if let Some(header) = BatchHeader::parse(batch) {
            self.advance(header.last_offset().after(1));
        }
    }

    /// Forgets what was read.
    fn put_down(&mut self) {
        self.batches.clear();
        self.part = Part::None;
    }

    fn advance(&mut self, to: Offset) {
        self.cursor = self.cursor.max(to);
        while self.walk.front().is_some_and(|segment| segment.end <= self.cursor) {
            self.walk.pop_front();
        }
    }

    fn end_segment(&mut self) {
        if let Some(segment) = self.walk.front() {
            self.advance(segment.end);
        }
    }

    /// Something in the segment under the cursor cannot be read.
    fn leave_out(&mut self) {
        let Some(damaged) = self.walk.front().copied() else { return };
        self.left_out.insert(damaged.base);
        if let Phase::Sweeping { group, output } = &self.phase {
            let name = output.name();
            let again = pieces(group, &self.left_out, self.bytes_max);
            again.into_iter().rev().for_each(|piece| self.pieces.push_front(piece));
            self.sweep = self.before.clone();
            self.put_down();
            self.walk.clear();
            self.phase = Phase::Ending { name, made: None };
            return;
        }
        self.advance(damaged.end);
    }
}

//! What a start on damaged files came to, held against what was damaged.
//!
//! Does: damage a copy of a filled node's disks, start it, read everything, and name each thing that
//! should not be: a record that is not what it was, one that is missing without having been hit or
//! without being reported, a start refused for nothing, an end or a commit that went back, a record
//! that is accepted where another one was.
//! Does not: know why the storage did what it did.
//! Invariants: what may be missing follows from the layout of the undamaged files alone.
//! Apart because this is the promise (contract.md, C7), and the rest of the flips is how it is asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_storage::format::frame::FrameKind;
use flumen_storage::inspect::{Depth, Inspection};
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::{Dice, SimDisk};

use super::damage::{Damage, Kind};
use super::filled::{Filled, PRODUCE, Place, produce_request};
use super::layout::{Frame, Hit, first_lost};
use super::reading::{self, Piece, Reading};
use crate::world::World;

/// What one flip came to.
pub struct Judged {
    /// In a few words, to be counted.
    pub verdict: String,
    pub wrong: Vec<String>,
}

/// What may be missing of a log.
#[derive(Default)]
struct Loss {
    /// From, and one after the last.
    ranges: Vec<(i64, i64)>,
    /// It may go without a hold: nothing on the disk proves that it was durable (decision 0001).
    is_unproven: bool,
}

impl Loss {
    fn covers(&self, from: i64, until: i64) -> bool {
        let mut at = from;
        while at < until {
            let further = self.ranges.iter().filter(|it| it.0 <= at && at < it.1).map(|it| it.1);
            let Some(next) = further.max() else { return false };
            at = next;
        }
        true
    }
}

/// One damaged node.
struct Case<'a> {
    filled: &'a Filled,
    damage: Damage,
    hit: Hit,
    losses: BTreeMap<LogId, Loss>,
    /// An operator gave up what is damaged.
    is_accepted: bool,
    /// Topics may be missing as well.
    is_blind: bool,
    wrong: Vec<String>,
    has_refused: bool,
    has_held: bool,
    has_cut: bool,
    /// An epoch was served for which nothing vouches: its index was lost in a power cut, or its chunk has other
    /// damage.
    is_unvouched: bool,
}

/// Damages the node as this number says, and judges what it does.
pub fn judge(filled: &Filled, number: u64) -> Judged {
    let mut dice = Dice::new(number ^ 0x6269_7473);
    // Numbers next to each other begin alike.
    for _ in 0..8 {
        dice.below(2);
    }
    let damage = Damage::draw(&filled.files, &mut dice);
    let hit = filled.layouts[damage.core].hit(damage.file, &damage.changed);
    let mut case = Case {
        filled,
        hit,
        losses: BTreeMap::new(),
        is_accepted: false,
        is_blind: false,
        wrong: Vec::new(),
        has_refused: false,
        has_held: false,
        has_cut: false,
        is_unvouched: false,
        damage,
    };
    case.foresee();
    let verdict = case.run();
    let damage = &case.damage;
    let wrong = case.wrong.iter().map(|what| format!("{what} ({damage})")).collect();
    Judged { verdict, wrong }
}

impl Case<'_> {
    /// Adds up what may be missing.
    fn foresee(&mut self) {
        let filled = self.filled;
        let layout = &filled.layouts[self.damage.core];
        for (batch, is_epoch) in &self.hit.batches {
            let loss = self.losses.entry(batch.log).or_default();
            loss.ranges.push((batch.base, batch.last + 1));
            if *is_epoch {
                // Only the checksum of the chunk speaks for it, and there is one for many batches.
                let same = layout.batches.iter();
                let same = same.filter(|it| (it.log, it.segment) == (batch.log, batch.segment));
                loss.ranges.extend(same.map(|it| (it.base, it.last + 1)));
            }
        }
        for batch in &self.hit.alone {
            let loss = self.losses.entry(batch.log).or_default();
            loss.ranges.push((batch.base, batch.last + 1));
        }
        for frame in self.hit.frames.clone() {
            self.may_lose(&frame, false);
            if frame.header.kind == FrameKind::Opening && self.is_accepted {
                layout.use_of(&frame).iter().for_each(|frame| self.may_lose(frame, false));
            }
        }
        let is_watermark = self.damage.file == FileName::Watermark;
        let durable = layout.durable(&self.hit.headers, is_watermark.then_some(&self.damage.after));
        let sequences = self.hit.frames.iter().map(|frame| frame.header.sequence);
        let cut = sequences.filter(|it| *it > durable).min();
        if let Some(cut) = cut {
            let behind = layout.frames.iter().filter(|it| it.header.sequence >= cut);
            behind.for_each(|frame| self.may_lose(frame, true));
        }
    }

    fn may_lose(&mut self, frame: &Frame, is_unproven: bool) {
        if !frame.is_live {
            return;
        }
        let from = first_lost(&self.filled.found[&frame.header.log], frame.header.index);
        let loss = self.losses.entry(frame.header.log).or_default();
        loss.ranges.push((from, i64::MAX));
        loss.is_unproven |= is_unproven;
    }

    /// Whether a start may be refused: it cannot be told whose a frame was, the manifest is damaged,
    /// or the cluster's own log.
    fn may_refuse(&self) -> bool {
        let is_unnamed = |frame: &Frame| {
            !frame.header.kind.is_entry()
                || self.hit.headers.contains(&frame.header.sequence)
                || (frame.is_live && frame.header.log == LogId::METADATA)
        };
        self.hit.manifest
            || self.hit.frames.iter().any(is_unnamed)
            || self.hit.batches.iter().any(|(batch, _)| batch.log == LogId::METADATA)
    }

    fn run(&mut self) -> String {
        let kind = Kind::of(self.damage.file);
        if self.damage.changed.is_empty() {
            return format!("{kind}: nothing changed");
        }
        match self.filled.world.reborn(self.disks(), false) {
            Ok(world) => {
                self.look_at(world);
                format!("{kind}: {}", self.describe())
            }
            Err(why) => {
                let stage = self.refused(&why);
                format!("{kind}: {stage}")
            }
        }
    }

    fn disks(&self) -> Vec<SimDisk> {
        let mut disks = self.filled.disks.clone();
        disks[self.damage.core].overwrite(self.damage.file, 0, &self.damage.after);
        disks
    }

    fn describe(&self) -> &'static str {
        let is_free = self.hit.frames.is_empty() && self.hit.batches.is_empty();
        let is_epoch = self.hit.batches.iter().any(|(_, is_epoch)| *is_epoch);
        if self.is_unvouched {
            "an epoch is served for which nothing vouches"
        } else if self.has_held {
            "the partition is held, and says so"
        } else if self.has_cut {
            "the last commit, which nothing proves, is cut"
        } else if self.has_refused {
            "the range is refused, and named"
        } else if is_epoch {
            "an epoch is put right"
        } else if is_free && !self.hit.manifest {
            "nothing lost, nothing needed was hit"
        } else {
            "nothing lost"
        }
    }

    /// The node does not start: that must be called for, and name what is damaged. If an operator can
    /// accept it, everything else is there then.
    fn refused(&mut self, why: &str) -> &'static str {
        if !self.may_refuse() {
            self.wrong.push(format!("the start is refused for nothing: {why}"));
        }
        let names = ["sequence", "manifest", "metadata log"];
        if !names.iter().any(|name| why.contains(name)) {
            self.wrong.push(format!("a refused start names nothing: {why}"));
        }
        if !why.contains("--accept-damage") {
            return "the start is refused";
        }
        self.is_accepted = true;
        self.is_blind = self.losses.contains_key(&LogId::METADATA) || self.hit.manifest;
        self.foresee();
        match self.filled.world.reborn(self.disks(), true) {
            Ok(world) => self.look_at(world),
            Err(why) => self.wrong.push(format!("it does not start although accepted: {why}")),
        }
        "the start is refused until it is accepted"
    }

    /// Reads everything from a node that started.
    fn look_at(&mut self, mut world: World) {
        if self.is_blind {
            // Which topics there are is what is lost.
            return;
        }
        let readings = reading::read_all(&mut world, &self.filled.logs);
        for (place, reading) in &readings {
            let before = self.wrong.len();
            self.hold_against(&world, *place, reading);
            for what in &mut self.wrong[before..] {
                *what = format!("{} {}: {what}", place.topic_name(), place.partition);
            }
        }
        self.look_at_commits(&mut world);
        self.go_on(&mut world, &readings);
    }

    fn hold_against(&mut self, world: &World, place: Place, reading: &Reading) {
        let filled = self.filled;
        let (log, truth) = (filled.logs[&place], &filled.truth[&place]);
        let empty = Loss::default();
        let mut wrong = reading.wrong.clone();
        let loss = self.losses.get(&log).unwrap_or(&empty);
        let known: BTreeMap<i64, &Piece> =
            truth.pieces.iter().map(|piece| (piece.base, piece)).collect();
        // Only a chunk's checksum speaks for epochs, where it is known and nothing else in the chunk is wrong.
        let may_differ = !filled.has_rested || self.hit.batches.len() > 1;
        for piece in &reading.pieces {
            let was = known.get(&piece.base).copied();
            if was.is_some_and(|was| may_differ && differ_in_epoch(was, piece)) {
                self.is_unvouched = true;
            } else if was != Some(piece) {
                wrong.push(format!("{} to {} are other records", piece.base, piece.last));
            }
        }
        // A log that ends before the place where it began begins at its end.
        let begins = truth.start.min(reading.end);
        if reading.start != begins || reading.end > truth.end {
            let (told, was) = ((reading.start, reading.end), (truth.start, truth.end));
            wrong.push(format!("start and end are told as {told:?}, they were {was:?}"));
        }
        let served = |piece: &&Piece| reading.pieces.iter().any(|it| it.base == piece.base);
        let missing: Vec<&Piece> = truth.pieces.iter().filter(|piece| !served(piece)).collect();
        for piece in missing.iter().filter(|it| !loss.covers(it.base, it.last + 1)) {
            wrong.push(format!("{} to {} are missing, and were not hit", piece.base, piece.last));
        }
        for (from, until) in &reading.refused {
            if !loss.covers(*from, *until) {
                wrong.push(format!("{from} to {until} are called damaged, and were not hit"));
            }
        }
        self.has_refused |= !reading.refused.is_empty();
        let hold = world.found.get(&log).and_then(|found| found.held.as_ref());
        let behind: Vec<&Piece> =
            missing.into_iter().filter(|piece| piece.base >= reading.end).collect();
        if let Some(hold) = hold {
            self.has_held = true;
            let is_true = hold.end.0 == reading.end && hold.until.0 <= truth.end;
            if loss.ranges.is_empty() || !is_true {
                wrong.push(format!("it is held for nothing, or not as it should be: {hold}"));
            }
            wrong.extend(self.not_set_aside(world, log, &behind));
        } else if reading.end != truth.end && !self.is_accepted {
            self.has_cut = true;
            if !loss.is_unproven {
                wrong.push(format!("it ends at {}, not at {}", reading.end, truth.end));
            }
        }
        wrong.extend(self.not_inspected(log, &reading.refused));
        self.wrong.extend(wrong);
    }

    /// What lies intact behind damage in the journal must be in a quarantine file.
    fn not_set_aside(&self, world: &World, log: LogId, behind: &[&Piece]) -> Vec<String> {
        let disk = &world.disks()[self.damage.core];
        let aside: Vec<Bytes> = disk
            .all()
            .filter(|(file, _)| matches!(file, FileName::Quarantine(_)))
            .map(|(_, bytes)| bytes)
            .collect();
        let is_hit = |piece: &Piece| {
            let mut hit = self.hit.frames.iter();
            hit.any(|it| (it.header.log, it.header.base_offset) == (log, piece.base))
        };
        let is_aside = |piece: &Piece| {
            aside.iter().any(|file| file.windows(piece.bytes.len()).any(|it| it == piece.bytes))
        };
        let lost = behind.iter().filter(|piece| !is_hit(piece) && !is_aside(piece));
        lost.map(|piece| format!("{} to {} are not set aside", piece.base, piece.last)).collect()
    }

    /// What is refused must be seen by whoever inspects the files, unless it is an epoch, which only
    /// the node's own checksums cover.
    fn not_inspected(&self, log: LogId, refused: &[(i64, i64)]) -> Vec<String> {
        let is_epoch = self.hit.batches.iter().any(|(_, is_epoch)| *is_epoch);
        if refused.is_empty() || is_epoch {
            return Vec::new();
        }
        let lines = inspect(&self.filled.world, self.damage.core, &mut self.disks());
        let mut seen = Loss::default();
        for line in lines.iter().filter(|line| line.starts_with(&format!("{log}: "))) {
            seen.ranges.extend(range_in(line));
        }
        let unseen = refused.iter().filter(|(from, until)| !seen.covers(*from, *until));
        unseen.map(|range| format!("an inspection does not see {range:?}")).collect()
    }

    fn look_at_commits(&mut self, world: &mut World) {
        let of_topics: Vec<LogId> = self.filled.logs.values().copied().collect();
        let is_offsets = |log: &LogId| *log != LogId::METADATA && !of_topics.contains(log);
        let is_hit = self.losses.keys().any(is_offsets);
        for (whose, committed) in reading::commits(world) {
            let known = self.filled.commits[&whose];
            let may_differ = is_hit && (committed.is_err() || self.is_accepted)
                || self.losses.values().any(|loss| loss.is_unproven);
            if committed != known && !may_differ {
                self.wrong.push(format!("{whose:?} committed {known:?}, told is {committed:?}"));
            }
        }
    }

    /// A batch that was acknowledged is known when it comes again, and a new one comes behind all
    /// others; where something is held, nothing is taken.
    fn go_on(&mut self, world: &mut World, readings: &BTreeMap<Place, Reading>) {
        let filled = self.filled;
        let is_whole = |place: &Place| readings[place].end == filled.truth[place].end;
        let again = filled.last_sent.iter().filter(|(place, _)| is_whole(place));
        let again: BTreeMap<Place, (&Bytes, i64)> =
            again.map(|(place, sent)| (*place, (&sent.batch, sent.offset))).collect();
        let new = new_batch();
        let next: BTreeMap<Place, (&Bytes, i64)> =
            Place::all().map(|place| (place, (&new, readings[&place].end))).collect();
        for batches in [again, next].into_iter().filter(|batches| !batches.is_empty()) {
            let request = produce_request(batches.iter().map(|(place, it)| (*place, it.0)));
            let answer = world.ask(1, ApiKey::Produce, PRODUCE, &request);
            let told = reading::appended(&answer);
            for (place, (_, offset)) in &batches {
                let found = world.found.get(&filled.logs[place]);
                let is_held = found.is_some_and(|found| found.held.is_some());
                let (code, at) = told[place];
                let is_right = if is_held {
                    code == ErrorCode::KafkaStorageError.code()
                } else {
                    (code, at) == (0, *offset)
                };
                if !is_right {
                    let what = format!("a batch for {offset} is answered with {code} and {at}");
                    self.wrong.push(format!("{place:?}: {what}"));
                }
            }
        }
    }
}

/// Whether two batches are the same but for their epoch, which is served as it lies there.
fn differ_in_epoch(one: &Piece, other: &Piece) -> bool {
    let rest = |piece: &Piece| (piece.bytes.slice(..12), piece.bytes.slice(16..));
    one.bytes != other.bytes && one.bytes.len() == other.bytes.len() && rest(one) == rest(other)
}

fn new_batch() -> Bytes {
    let mut batch = BatchBuilder::new();
    let timestamp = 1_700_000_000_000;
    batch.push(&NewRecord { timestamp, key: None, value: Some(b"new"), headers: &[] });
    batch.finish().freeze()
}

/// What an inspection says of all segments of a core.
fn inspect(world: &World, core: usize, disks: &mut [SimDisk]) -> Vec<String> {
    let journal = world.sizes().journal;
    let mut inspection = Inspection::new(world.owner(core), journal, Depth::Check);
    let mut lines = Vec::new();
    while !inspection.is_over() {
        let mut ops = Vec::new();
        inspection.next_ops(&mut ops);
        ops.into_iter().for_each(|op| inspection.on_done(disks[core].carry_out(op)));
        lines.append(&mut inspection.take_lines());
    }
    lines
}

/// The range that a line of an inspection calls damaged.
fn range_in(line: &str) -> Option<(i64, i64)> {
    let text = line.strip_suffix(") is damaged")?;
    let (_, range) = text.rsplit_once('[')?;
    let (from, until) = range.split_once(", ")?;
    Some((from.parse().ok()?, until.parse().ok()?))
}

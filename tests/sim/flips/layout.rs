//! What lies where on the disk of a core: frames the journal still needs, batches of segments.
//!
//! Does: find them in undamaged files by the tables of `storage/FORMAT.md`; say which of them some
//! bytes belong to; say how far damaged files still prove what was durable.
//! Does not: use the scan, the sieve or the manifest's reader of the storage: these are on trial.
//! Invariants: what belongs to nothing that is found here is free, dead, or a cache.
//! Apart because the judge must know what was hit without asking the accused.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::entry::Payload;
use flumen_protocol::ids::{LogId, LogIndex};
use flumen_storage::answers::RecoveredLog;
use flumen_storage::format::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, HeaderVerdict, Opening,
};
use flumen_storage::format::node::Identity;
use flumen_storage::format::watermark::Watermark;
use flumen_storage::limits::{BLOCK_BYTES, FRAME_ALIGN};
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::SimDisk;

/// Where a batch says of which leader's time it is: no checksum of Kafka's covers it.
const EPOCH_AT: Range<u64> = 12..16;
/// Where a batch's offset ends: no checksum of Kafka's covers it either.
const OFFSET_END: u64 = 8;

/// A frame that the journal still needs.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub slot: u64,
    pub at: u64,
    pub header: FrameHeader,
    /// It is an entry that is in no segment yet.
    pub is_live: bool,
}

impl Frame {
    fn end(&self) -> u64 {
        self.at + FRAME_HEADER_BYTES as u64 + u64::from(self.header.payload_len)
    }
}

/// A batch in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub log: LogId,
    /// The segment's base offset, where in it the batch begins, and where it ends.
    pub segment: i64,
    pub at: u64,
    pub end: u64,
    pub base: i64,
    pub last: i64,
}

/// What lies where.
pub struct Layout {
    owner: Identity,
    /// In the order of their sequences.
    pub frames: Vec<Frame>,
    pub batches: Vec<Placed>,
    /// What the watermark's file said.
    watermark: Bytes,
    /// Where the manifest's bytes are chunks, not padding.
    manifest: Vec<Range<u64>>,
}

/// What some changed bytes belong to.
#[derive(Debug, Default)]
pub struct Hit {
    pub frames: Vec<Frame>,
    /// The sequences of those whose header is changed.
    pub headers: Vec<u64>,
    /// Batches, and whether their epoch alone is changed.
    pub batches: Vec<(Placed, bool)>,
    /// Batches that were not hit, between one that was and one whose offset was: nobody may be left who says
    /// that theirs is right.
    pub alone: Vec<Placed>,
    pub manifest: bool,
}

impl Layout {
    /// Reads undamaged files; `found` is what an undamaged start found in them.
    pub fn of(disk: &SimDisk, owner: &Identity, found: &BTreeMap<LogId, RecoveredLog>) -> Self {
        let watermark = disk.contents(FileName::Watermark).unwrap_or_default();
        let manifest = disk.contents(FileName::Manifest).unwrap_or_default();
        let mut frames = needed(disk, owner, &watermark);
        for frame in &mut frames {
            let settled = found.get(&frame.header.log).map(|log| log.settled.0);
            let is_settled = settled.is_some_and(|settled| frame.header.index <= settled);
            let is_known = settled.is_some();
            frame.is_live = frame.header.kind.is_entry() && is_known && !is_settled;
        }
        let batches = disk.all().flat_map(|(file, bytes)| placed(file, &bytes, found));
        let batches = batches.collect();
        Self { owner: *owner, frames, batches, watermark, manifest: chunks(&manifest) }
    }

    /// What these bytes of a file belong to.
    pub fn hit(&self, file: FileName, changed: &[u64]) -> Hit {
        let is_in = |from: u64, to: u64| {
            let first = changed.partition_point(|at| *at < from);
            changed.get(first).is_some_and(|at| *at < to)
        };
        let mut hit = Hit::default();
        if let FileName::Journal(slot) = file {
            let of_file = self.frames.iter().filter(|frame| frame.slot == slot);
            hit.frames = of_file.filter(|it| is_in(it.at, it.end())).copied().collect();
            let headers = hit.frames.iter();
            let headers = headers.filter(|it| is_in(it.at, it.at + FRAME_HEADER_BYTES as u64));
            hit.headers = headers.map(|it| it.header.sequence).collect();
        } else if let FileName::Segment { log, base, .. } = file {
            let of_file = self.batches.iter().filter(|it| (it.log, it.segment) == (log, base.0));
            let of_file: Vec<&Placed> = of_file.collect();
            let is_hit = |it: &Placed| is_in(it.at, it.end);
            let is_alone = |three: &&[&Placed]| {
                let is_between = is_hit(three[0]) && !is_hit(three[1]);
                is_between && is_in(three[2].at, three[2].at + OFFSET_END)
            };
            hit.alone = of_file.windows(3).filter(is_alone).map(|three| *three[1]).collect();
            for batch in of_file.into_iter().filter(|it| is_hit(it)) {
                let rest = is_in(batch.at, batch.at + EPOCH_AT.start)
                    || is_in(batch.at + EPOCH_AT.end, batch.end);
                hit.batches.push((*batch, !rest));
            }
        } else if file == FileName::Manifest {
            hit.manifest = self.manifest.iter().any(|chunk| is_in(chunk.start, chunk.end));
        }
        hit
    }

    /// The highest sequence that is known to have been durable when the headers of these are
    /// unreadable, and the watermark's file is this one.
    pub fn durable(&self, lost: &[u64], watermark: Option<&Bytes>) -> u64 {
        let readable = self.frames.iter().filter(|it| !lost.contains(&it.header.sequence));
        let told = readable.map(|frame| frame.header.watermark).max().unwrap_or(0);
        let file = watermark.unwrap_or(&self.watermark);
        let record = Watermark::decode(&self.owner, file).ok().flatten();
        told.max(record.map_or(0, |record| record.durable))
    }

    /// All needed frames of the use of a file that this opening begins.
    pub fn use_of(&self, opening: &Frame) -> Vec<Frame> {
        let counter = opening.header.use_id.counter;
        let of_use = self.frames.iter().filter(|it| it.header.use_id.counter == counter);
        of_use.copied().collect()
    }
}

/// The first record that a log cannot give any more when this entry and what follows it are gone.
pub fn first_lost(found: &RecoveredLog, index: LogIndex) -> i64 {
    let mut end = found.settled_end;
    for entry in &found.entries {
        let Payload::Records(records) = &entry.payload else { continue };
        if entry.index >= index {
            return records.base_offset.0;
        }
        end = records.last_offset.after(1);
    }
    end.0
}

/// The frames of each file's latest use that the journal needs.
fn needed(disk: &SimDisk, owner: &Identity, watermark: &Bytes) -> Vec<Frame> {
    let record = Watermark::decode(owner, watermark).expect("undamaged").unwrap_or_default();
    let mut floor = record.floor;
    let mut uses: Vec<(u64, Vec<Frame>)> = Vec::new();
    for (file, bytes) in disk.all() {
        let FileName::Journal(slot) = file else { continue };
        let frames = frames_of(slot, &bytes);
        floor = frames.iter().filter_map(|frame| opening_of(frame, &bytes)).fold(floor, u64::max);
        let latest = frames.iter().map(|frame| frame.header.use_id.counter).max();
        let Some(latest) = latest else { continue };
        let frames = frames.into_iter().filter(|it| it.header.use_id.counter == latest);
        uses.push((latest, frames.collect()));
    }
    uses.sort_unstable_by_key(|(counter, _)| *counter);
    let (mut limit, mut needed) = (u64::MAX, Vec::new());
    // A later use that begins at a sequence makes what earlier ones have from there on void.
    for (_, frames) in uses.into_iter().rev() {
        let first = frames.iter().map(|frame| frame.header.sequence).min().unwrap_or(u64::MAX);
        let counting = frames.into_iter();
        needed.extend(counting.filter(|it| (floor..limit).contains(&it.header.sequence)));
        limit = limit.min(first);
    }
    needed.sort_unstable_by_key(|frame| frame.header.sequence);
    needed
}

fn opening_of(frame: &Frame, bytes: &Bytes) -> Option<u64> {
    let payload = bytes.get(frame.at as usize + FRAME_HEADER_BYTES..)?;
    let is_opening = frame.header.kind == FrameKind::Opening;
    Some(Opening::decode(payload).filter(|_| is_opening)?.floor)
}

fn frames_of(slot: u64, bytes: &Bytes) -> Vec<Frame> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        match FrameHeader::decode(&bytes[at..at + FRAME_HEADER_BYTES]) {
            HeaderVerdict::Readable(header, _)
                if header.position == at as u64 && u64::from(header.use_id.slot) == slot =>
            {
                frames.push(Frame { slot, at: at as u64, header, is_live: false });
                at += FRAME_HEADER_BYTES;
            }
            HeaderVerdict::Readable(..)
            | HeaderVerdict::Zeros
            | HeaderVerdict::Newer(_)
            | HeaderVerdict::Unreadable => at += FRAME_ALIGN,
        }
    }
    frames
}

/// The batches of a segment, as far as it counts.
fn placed(file: FileName, bytes: &Bytes, found: &BTreeMap<LogId, RecoveredLog>) -> Vec<Placed> {
    let FileName::Segment { log, base, .. } = file else { return Vec::new() };
    let Some(found) = found.get(&log) else { return Vec::new() };
    let (mut at, mut placed) = (0, Vec::new());
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        let (first, last) = (batch.header.base_offset.0, batch.header.last_offset().0);
        if first >= found.settled_end.0 {
            break;
        }
        let end = at + batch.bytes.len() as u64;
        placed.push(Placed { log, segment: base.0, at, end, base: first, last });
        at = end;
    }
    placed
}

/// The chunks of a manifest, without their padding.
fn chunks(manifest: &[u8]) -> Vec<Range<u64>> {
    const HEADER_BYTES: usize = 72;
    let (mut at, mut chunks) = (0, Vec::new());
    while let Some(header) = manifest.get(at..at + HEADER_BYTES) {
        if header[..4] != *b"FMAN" {
            break;
        }
        let body = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        chunks.push(at as u64..(at + HEADER_BYTES + body) as u64);
        at += (HEADER_BYTES + body).next_multiple_of(BLOCK_BYTES);
    }
    chunks
}

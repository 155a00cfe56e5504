//! What a disk that lied can have taken from the logs of its core, and no more.
//!
//! Does: hold what each file should say against what it says, find the frames and batches that are hit, and
//! follow what must go with them.
//! Does not: judge what a node did about it, or look at anything but disks.
//! Invariants: what was not hit, and does not stand behind something hit in its own log, is in no reach; a
//! loss may go unsaid only where nothing that is left on the disk speaks of it.
//! Apart because this is the truth that oracles excuse losses by; it shares no decision with recovery, only
//! the words of the format.
//!
//! ```text
//!  journal:  1  2  x  4  5     x, 4 and 5 of the same log: lost until somebody accepts it (held)
//!  journal:  1  2  3  x        and no later frame, no watermark: looks torn, may be cut without a word,
//!                              with all that follows it in the journal, of any log
//!  segment:  [..][xx][..]      the batches hit are refused; if what no checksum of Kafka's covers was hit,
//!                              all that may share a chunk with them
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::ids::LogId;
use flumen_storage::format::frame::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind, HeaderVerdict,
};
use flumen_storage::format::node::Identity;
use flumen_storage::format::watermark::Watermark;
use flumen_storage::limits::{CHUNK_BYTES, FRAME_ALIGN};
use flumen_storage::manifest::image::Image;
use flumen_storage::manifest::manifest::parse;
use flumen_storage::op::{FileName, Generation};
use flumen_storage::sim_disk::SimDisk;

use super::history::Value;

/// Bytes at the beginning of a batch that Kafka's checksum does not cover, and that checksum.
const UNCOVERED_BYTES: u64 = 21;
/// Whatever is that near may be in the same chunk: a chunk ends with the first batch beyond its size.
const CHUNK_REACH: u64 = CHUNK_BYTES + (64 << 10);

/// What damage may have taken from a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    pub log: LogId,
    /// The first offset.
    pub from: i64,
    /// One after the last offset; `None`: all there was from the first on.
    pub until: Option<i64>,
    /// Nothing on the disk says that it was ever there.
    pub is_silent: bool,
    /// Deletions go with it that nothing else knows of: the log begins here again, or later.
    pub start: Option<i64>,
    /// It is there, but cannot be trusted if the beginning of its file is gone: lost only if given up.
    pub is_doubtful: bool,
}

/// A frame as it should be.
#[derive(Clone, Copy)]
struct Frame {
    header: FrameHeader,
    is_hit: bool,
    is_doubtful: bool,
}

/// What the journal of a disk has lost that segments do not have.
pub fn of_journal(disk: &SimDisk, identity: &Identity) -> Vec<Reach> {
    let watermark = disk.contents(FileName::Watermark).unwrap_or_default();
    let watermark = Watermark::decode(identity, &watermark).ok().flatten();
    let mut proven = watermark.map_or(0, |watermark| watermark.durable);
    let mut frames = Vec::new();
    for (name, contents) in disk.all() {
        let FileName::Journal(slot) = name else { continue };
        let said = frames_of(&contents, slot).map(|header| header.watermark);
        proven = proven.max(said.max().unwrap_or(0));
        frames.extend(of_last_use(disk, name, slot));
    }
    frames.sort_by_key(|frame| frame.header.sequence);
    let manifest = disk.contents(FileName::Manifest).unwrap_or_default();
    let image = parse(&manifest, identity).map(|parsed| parsed.image).unwrap_or_default();
    let mut reaches = cut_off(&frames, proven, &image);
    let is_lost =
        |frame: &&Frame| (frame.is_hit || frame.is_doubtful) && is_needed(&frame.header, &image);
    let hit = frames.iter().filter(is_lost);
    reaches.extend(hit.map(|frame| behind(&frames, frame, &image)));
    reaches.sort_unstable();
    reaches.dedup();
    reaches
}

/// Every header that stands where it says it stands.
fn frames_of(bytes: &[u8], slot: u64) -> impl Iterator<Item = FrameHeader> {
    let places = (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1)).step_by(FRAME_ALIGN);
    places.filter(move |at| bytes[*at..*at + 4] == FRAME_MAGIC).filter_map(move |at| {
        match FrameHeader::decode(&bytes[at..]) {
            HeaderVerdict::Readable(header, _)
                if header.position == at as u64 && u64::from(header.use_id.slot) == slot =>
            {
                Some(header)
            }
            HeaderVerdict::Readable(..)
            | HeaderVerdict::Zeros
            | HeaderVerdict::Newer(_)
            | HeaderVerdict::Unreadable => None,
        }
    })
}

/// The frames a file should have. Without its opening nobody can tell of which use the others are.
fn of_last_use(disk: &SimDisk, name: FileName, slot: u64) -> Vec<Frame> {
    let truth = disk.truth(name).unwrap_or_default();
    let wrong = disk.wrong_places(name);
    let all: Vec<FrameHeader> = frames_of(&truth, slot).collect();
    let last = all.iter().map(|header| header.use_id.counter).max();
    let is_hit = |header: &FrameHeader| {
        let end = header.position + FRAME_HEADER_BYTES as u64 + u64::from(header.payload_len);
        wrong.iter().any(|wrong| overlap(wrong, &(header.position..end)))
    };
    let of_use = all.into_iter().filter(|header| Some(header.use_id.counter) == last);
    let mut frames: Vec<Frame> = of_use
        .map(|header| Frame { header, is_hit: is_hit(&header), is_doubtful: false })
        .collect();
    let has_opening = frames.first().is_some_and(|first| {
        first.header.kind == FrameKind::Opening && first.header.position == 0 && !first.is_hit
    });
    let in_doubt = !has_opening && !wrong.is_empty();
    frames.iter_mut().for_each(|frame| frame.is_doubtful = in_doubt && !frame.is_hit);
    frames
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Whether the log would miss the entry.
fn is_needed(header: &FrameHeader, image: &Image) -> bool {
    let known = image.logs.get(&header.log);
    let is_settled = known.is_some_and(|log| header.index <= log.settled.0);
    let void = known.and_then(|log| log.void);
    let is_void = void.is_some_and(|void| void.covers(header.sequence, header.index));
    header.kind.is_entry() && !is_settled && !is_void
}

/// Whether it says that records are deleted, which is all that commands say, and the manifest may not know.
fn is_deletion(header: &FrameHeader, image: &Image) -> bool {
    header.kind == FrameKind::Control && is_needed(header, image)
}

/// Where the manifest says that the log begins.
fn start_of(log: LogId, image: &Image) -> i64 {
    image.logs.get(&log).map_or(0, |log| log.start.0)
}

/// From the first frame hit of which nothing is left to speak, the journal may end without a word.
fn cut_off(frames: &[Frame], proven: u64, image: &Image) -> Vec<Reach> {
    let unproven = |frame: &&Frame| frame.header.sequence > proven;
    let Some(first) = frames.iter().filter(unproven).find(|frame| frame.is_hit) else {
        return Vec::new();
    };
    let mut logs: BTreeMap<LogId, (i64, bool)> = BTreeMap::new();
    let says_something = |kind| !matches!(kind, FrameKind::Opening | FrameKind::HardState);
    let cut = frames.iter().filter(|frame| {
        frame.header.sequence >= first.header.sequence && says_something(frame.header.kind)
    });
    for Frame { header, .. } in cut {
        let (from, forgets_start) = logs.entry(header.log).or_insert((i64::MAX, false));
        if header.kind == FrameKind::Records {
            *from = (*from).min(header.base_offset);
        }
        *forgets_start |= is_deletion(header, image);
    }
    let reach = |(log, (from, forgets_start)): (_, (_, bool))| Reach {
        log,
        from,
        until: None,
        is_silent: true,
        start: forgets_start.then(|| start_of(log, image)),
        is_doubtful: false,
    };
    logs.into_iter().map(reach).collect()
}

/// What stands behind an entry that is hit cannot be appended without it, deletions of records among it.
fn behind(
    frames: &[Frame],
    Frame { header: hit, is_doubtful, .. }: &Frame,
    image: &Image,
) -> Reach {
    let (log, is_doubtful) = (hit.log, *is_doubtful);
    let own = frames.iter().map(|frame| &frame.header).filter(|header| header.log == log);
    let mut lost = own.clone().filter(|header| header.sequence >= hit.sequence);
    let forgets_start = lost.any(|header| is_deletion(header, image));
    let own = own.filter(|header| header.kind == FrameKind::Records);
    let (before, after): (Vec<&FrameHeader>, Vec<&FrameHeader>) =
        own.partition(|header| header.sequence < hit.sequence);
    let settled = image.logs.get(&hit.log).map_or(0, |log| log.settled_end.0);
    let end = before.iter().map(|header| header.last_offset + 1).max().unwrap_or(0).max(settled);
    let from = after.iter().map(|header| header.base_offset).min().unwrap_or(end);
    let start = forgets_start.then(|| start_of(log, image));
    Reach { log, from, until: None, is_silent: false, start, is_doubtful }
}

/// What segments have lost: whole batches, which are refused and nothing else.
pub fn of_segments(disk: &SimDisk) -> Vec<Reach> {
    let mut reaches = Vec::new();
    for name in disk.wrong_files() {
        let FileName::Segment { log, base, generation } = name else { continue };
        let truth = disk.truth(name).unwrap_or_default();
        let mut batches = batches_of(&truth);
        let is_cleaned = generation > Generation::APPENDED;
        if is_cleaned {
            answer_for_gaps(base.0, &mut batches);
        }
        let wrong = disk.wrong_places(name).into_iter();
        let wrong = wrong.map(|wrong| widened(wrong, &batches, is_cleaned));
        let wrong: Vec<Range<u64>> = wrong.collect();
        for (place, from, until) in batches {
            if wrong.iter().any(|wrong| overlap(wrong, &place)) {
                let (until, is_silent, is_doubtful) = (Some(until), false, false);
                reaches.push(Reach { log, from, until, is_silent, start: None, is_doubtful });
            }
        }
    }
    reaches
}

/// In a cleaned segment a batch is also what is read for offsets missing before it.
fn answer_for_gaps(base: i64, batches: &mut [(Range<u64>, i64, i64)]) {
    let mut next = base;
    for (_, from, until) in batches {
        *from = next;
        next = *until;
    }
}

/// Where the batches of a segment lie, with their first offset and the one after their last.
fn batches_of(truth: &[u8]) -> Vec<(Range<u64>, i64, i64)> {
    let mut at = 0;
    let all = batches(truth).map_while(Result::ok).map(|batch| {
        let place = at..at + batch.bytes.len() as u64;
        at = place.end;
        (place, batch.header.base_offset.0, batch.header.last_offset().0 + 1)
    });
    all.collect()
}

/// What a wrong place may cost: more than what is hit, if only the sum over a chunk can tell. Of what was
/// cleaned nothing else ever can.
fn widened(wrong: Range<u64>, batches: &[(Range<u64>, i64, i64)], is_cleaned: bool) -> Range<u64> {
    let uncovered = |place: &Range<u64>| place.start..place.start + UNCOVERED_BYTES;
    let hits = batches.iter().any(|(place, ..)| overlap(&wrong, &uncovered(place)));
    if !(hits || is_cleaned) {
        return wrong;
    }
    wrong.start.saturating_sub(CHUNK_REACH)..wrong.end + CHUNK_REACH
}

/// The value of some record of every log on the disk that has any that is whole; of one that deletes a key, its name.
/// Empty where no record has either.
pub fn samples(disk: &SimDisk) -> BTreeMap<LogId, Vec<u8>> {
    let mut samples = BTreeMap::new();
    for (name, _) in disk.all() {
        let truth = disk.truth(name).unwrap_or_default();
        if let FileName::Journal(slot) = name {
            let frames = frames_of(&truth, slot).filter(|it| it.kind == FrameKind::Records);
            for header in frames {
                let from = header.position as usize + FRAME_HEADER_BYTES;
                let batch = truth.get(from..from + header.payload_len as usize);
                note_sample(&mut samples, header.log, batch.unwrap_or_default());
            }
        } else if let FileName::Segment { log, .. } = name {
            note_sample(&mut samples, log, &truth);
        }
    }
    samples
}

fn note_sample(samples: &mut BTreeMap<LogId, Vec<u8>>, log: LogId, bytes: &[u8]) {
    if samples.contains_key(&log) {
        return;
    }
    let mut is_there = false;
    // What a power cut tore may be read, but nobody wrote it like that: the log of its writer was taken for that of
    // groups (seed 11010858).
    let sound = batches(bytes).map_while(Result::ok).filter(|batch| verify_crc(batch.bytes));
    for batch in sound {
        let Ok(all) = records(batch.bytes, 1 << 20) else { return };
        for record in all.iter().map_while(Result::ok) {
            let named = || Value::of(&record).map(Value::bytes);
            if let Some(sample) = record.value.map(<[u8]>::to_vec).or_else(named) {
                samples.insert(log, sample);
                return;
            }
            is_there = true;
        }
    }
    if is_there {
        samples.insert(log, Vec::new());
    }
}

/// Whether anything of the cluster's metadata is hit.
pub fn touches_metadata(disk: &SimDisk, reaches: &[Reach]) -> bool {
    let is_of_metadata =
        |name: &FileName| matches!(name, FileName::Segment { log, .. } if *log == LogId::METADATA);
    reaches.iter().any(|reach| reach.log == LogId::METADATA)
        || disk.wrong_files().iter().any(is_of_metadata)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::ids::{CoreId, NodeId, Offset, PartitionIndex, TopicId};
    use flumen_protocol::time::{Monotonic, Now, Wall};
    use flumen_storage::manifest::image::LogImage;
    use flumen_storage::manifest::manifest::{Manifest, Parsed};
    use flumen_storage::manifest::record::Record;
    use flumen_storage::op::{Action, DiskOp, OpId, OpIds};

    use super::*;

    const LOG: LogId = LogId { topic: TopicId([3; 16]), partition: PartitionIndex(0) };
    const NAME: FileName = FileName::Journal(0);
    const SEGMENT: FileName =
        FileName::Segment { log: LOG, base: Offset(0), generation: Generation::APPENDED };

    const DELETION: i64 = -1;

    /// A journal file of an opening and one frame for each log and base offset, or deletion, each in its own block.
    fn journal(entries: &[(LogId, i64)], watermark: u64) -> SimDisk {
        let mut file = vec![0; 4096 * (entries.len() + 1)];
        let mut opening = FrameHeader::opening();
        (opening.sequence, opening.use_id.counter) = (1, 1);
        file[..FRAME_HEADER_BYTES].copy_from_slice(&opening.encode().0);
        for (number, (log, base)) in (1..).zip(entries) {
            let is_deletion = *base == DELETION;
            let kind = if is_deletion { FrameKind::Control } else { FrameKind::Records };
            let mut header = FrameHeader { kind, log: *log, ..opening };
            header.position = number * 4096;
            (header.sequence, header.index.0) = (number + 1, number);
            (header.base_offset, header.last_offset) = (*base, *base);
            header.watermark = watermark.min(number);
            let at = header.position as usize;
            file[at..at + FRAME_HEADER_BYTES].copy_from_slice(&header.encode().0);
        }
        let mut disk = SimDisk::new(1);
        let action = Action::Replace { parts: vec![file.into()] };
        disk.carry_out(DiskOp { id: OpId(1), file: NAME, action });
        disk
    }

    const OWNER: Identity =
        Identity { cluster: [1; 16], node: NodeId(1), core: CoreId(0), incarnation: 1 };

    fn reaches(disk: &SimDisk) -> Vec<(LogId, i64, bool)> {
        let reaches = of_journal(disk, &OWNER).into_iter();
        reaches.map(|reach| (reach.log, reach.from, reach.is_silent)).collect()
    }

    /// Where logs may begin again of which the frame of this number is hit.
    fn starts(mut disk: SimDisk, hit: u64) -> Vec<(LogId, Option<i64>)> {
        disk.flip_bit(NAME, hit * 4096 + 90, 1);
        let reaches = of_journal(&disk, &OWNER).into_iter();
        reaches.map(|reach| (reach.log, reach.start)).collect()
    }

    /// The manifest says that the log begins there, and has settled so many of its entries.
    fn note_start(disk: &mut SimDisk, start: i64, settled: u64) {
        let mut manifest = Manifest::new(Parsed::fresh(), OWNER);
        let mut record = LogImage::empty().record(LOG);
        (record.start.0, record.settled.0.0) = (start, settled);
        manifest.enqueue(Record::Log(record));
        let now = Now { monotonic: Monotonic(1), wall: Wall(1) };
        let mut ops = Vec::new();
        manifest.next_op(now, &mut OpIds::new(), &mut ops);
        ops.into_iter().for_each(|op| drop(disk.carry_out(op)));
    }

    #[test]
    fn a_deletion_is_lost_with_what_is_hit_before_it_unless_the_manifest_has_it() {
        let other = LogId { partition: PartitionIndex(1), ..LOG };
        let entries = [(LOG, 0), (other, 0), (LOG, DELETION), (LOG, 7)];
        for proven in [9, 0] {
            let disk = || journal(&entries, proven);
            assert!(starts(disk(), 1).contains(&(LOG, Some(0))), "it is behind what is hit");
            assert!(starts(disk(), 3).contains(&(LOG, Some(0))), "it is hit");
            assert_eq!(starts(disk(), 4)[0], (LOG, None), "it is before what is hit");
            let mut known = disk();
            note_start(&mut known, 5, 0);
            assert!(starts(known, 1).contains(&(LOG, Some(5))), "an earlier one is kept");
            let mut settled = disk();
            note_start(&mut settled, 5, 3);
            let starts = starts(settled, 3);
            assert!(starts.iter().all(|(_, start)| start.is_none()), "it is recorded: {starts:?}");
        }
        let of_other = starts(journal(&entries, 9), 2);
        assert_eq!(of_other, [(other, None)], "nobody deleted anything of it");
    }

    #[test]
    fn a_proven_frame_takes_what_is_behind_it_in_its_own_log() {
        let other = LogId { partition: PartitionIndex(1), ..LOG };
        let mut disk = journal(&[(LOG, 0), (LOG, 7), (other, 0), (LOG, 9)], 9);
        assert_eq!(reaches(&disk), []);
        disk.flip_bit(NAME, 2 * 4096 - 1, 1);
        assert_eq!(reaches(&disk), [], "nothing stands there");
        disk.flip_bit(NAME, 2 * 4096 + 90, 1);
        assert_eq!(reaches(&disk), [(LOG, 7, false)]);
        disk.flip_bit(NAME, 2 * 4096 + 90, 1);
        disk.flip_bit(NAME, 5, 1);
        let all = [(LOG, 0, false), (other, 0, false)];
        assert!(all.iter().all(|reach| reaches(&disk).contains(reach)), "it has no opening");
    }

    #[test]
    fn an_unproven_frame_takes_all_that_follows_without_a_word() {
        let other = LogId { partition: PartitionIndex(1), ..LOG };
        let mut disk = journal(&[(LOG, 0), (LOG, 7), (other, 0), (LOG, 9)], 2);
        disk.flip_bit(NAME, 2 * 4096 + 90, 1);
        let silent = [(LOG, 7, true), (other, 0, true)];
        assert!(silent.iter().all(|reach| reaches(&disk).contains(reach)), "{:?}", reaches(&disk));
    }

    /// A batch of one record, the value of this number.
    fn batch(number: u32) -> Bytes {
        let value = Value { writer: 1, number };
        let mut batch = BatchBuilder::new();
        let value = value.bytes();
        batch.push(&NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
        let mut bytes = batch.finish().to_vec();
        bytes[..8].copy_from_slice(&i64::from(number).to_be_bytes());
        bytes.into()
    }

    /// What a power cut left of it: its end was never stored.
    fn torn(batch: &Bytes) -> Bytes {
        let mut torn = batch.to_vec();
        let end = torn.len() - 8..;
        torn[end].fill(0);
        torn.into()
    }

    #[test]
    fn a_segment_loses_the_batches_that_are_hit() {
        let parts: Vec<Bytes> = (0..4).map(batch).collect();
        let second = parts[0].len() as u64;
        let mut disk = SimDisk::new(1);
        disk.carry_out(DiskOp { id: OpId(1), file: SEGMENT, action: Action::Replace { parts } });
        assert_eq!(of_segments(&disk), []);
        assert_eq!(Value::read(&samples(&disk)[&LOG]), Some(Value { writer: 1, number: 0 }));
        disk.flip_bit(SEGMENT, second + 30, 1);
        let ranges = |disk: &SimDisk| -> Vec<(i64, Option<i64>)> {
            of_segments(disk).into_iter().map(|reach| (reach.from, reach.until)).collect()
        };
        assert_eq!(ranges(&disk), [(1, Some(2))]);
        disk.flip_bit(SEGMENT, second + 13, 1);
        assert_eq!(ranges(&disk).len(), 4, "an epoch is covered by the chunk only");
        disk.mend();
        assert_eq!(of_segments(&disk), []);
    }

    /// By a record of which two sectors were missing a log was taken for that of groups. Nobody knew then that it was
    /// held, and who wrote to it waited for ever.
    #[test]
    fn what_a_power_cut_tore_says_nothing_of_whose_a_log_is() {
        let mut disk = journal(&[(LOG, 0), (LOG, 0)], 0);
        let mut put = |number: u64, payload: Bytes| {
            let mut header = FrameHeader::opening();
            (header.kind, header.log, header.position) = (FrameKind::Records, LOG, number * 4096);
            header.payload_len = payload.len() as u32;
            let head = Bytes::copy_from_slice(&header.encode().0);
            let action =
                Action::Write { at: header.position, parts: vec![head, payload], padded_len: 4096 };
            disk.carry_out(DiskOp { id: OpId(1), file: NAME, action });
            samples(&disk).get(&LOG).map(|sample| Value::read(sample))
        };
        assert_eq!(put(1, torn(&batch(3))), None);
        assert_eq!(put(2, batch(4)), Some(Some(Value { writer: 1, number: 4 })));

        let mut disk = SimDisk::new(1);
        let parts = vec![torn(&batch(0)), batch(1)];
        disk.carry_out(DiskOp { id: OpId(1), file: SEGMENT, action: Action::Replace { parts } });
        assert_eq!(Value::read(&samples(&disk)[&LOG]), Some(Value { writer: 1, number: 1 }));
    }
}

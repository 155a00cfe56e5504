//! What a read can be answered with right now, or what must be fetched first.
//!
//! Does: answer from verified windows; name the one index, extent or unknown stretch that is
//! missing.
//! Does not: fetch.
//! Invariants: planning changes nothing but how far a look-up has come and what counts as used
//! lately; trying again after a fetch that brought something gets further.
//! Apart because many jobs may wait for the same missing thing.

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::records::{first_at_or_after, records};
use flumen_protocol::ids::{LogId, Offset};

use super::assemble::Selection;
use super::window::Windows;
use crate::answers::{ReadError, ReadRequest, TimedRecord};
use crate::format::segment::Chunk;
use crate::limits::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN};
use crate::manifest::image::{Image, LogImage};
use crate::segment::index::{Hole, Indexes, Place};
use crate::segment::segment::Segment;

/// What a job wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Batches.
    Records(ReadRequest),
    /// The first record at or after a time.
    Time(TimeWant),
    /// Batches for a cleaning.
    Cleaning(ReadRequest),
}

/// A look-up by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWant {
    /// Milliseconds; the largest known so far, −1 for none, while `is_largest`.
    pub at: i64,
    /// The largest timestamp between the log's start and the limit is wanted and not known yet.
    pub is_largest: bool,
    /// Everything before was looked at already.
    pub cursor: Offset,
    /// The record must lie before this.
    pub limit: Offset,
    /// What the records of one batch may inflate to if they are to be looked at.
    pub inflated_bytes_max: usize,
    /// The caller's.
    pub token: u64,
}

/// Something that must be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A segment's index.
    Index(Segment),
    /// Chunks of a segment that lie back to back.
    Chunks(Segment, Vec<Chunk>),
    /// A stretch of a segment the index knows nothing about.
    Stretch(Segment, Hole),
}

impl Missing {
    /// Of which segment it is.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        match self {
            Self::Index(segment) | Self::Chunks(segment, _) | Self::Stretch(segment, _) => segment,
        }
    }
}

/// An attempt to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Batches, or why not.
    Records(Result<Vec<Bytes>, ReadError>),
    /// A record, or why not.
    Time(Result<Option<TimedRecord>, ReadError>),
    /// Fetch this first.
    Missing(Missing),
}

/// Tries to answer a job of `log`; moves a look-up's cursor forward.
pub fn attempt(
    log: LogId,
    want: &mut Want,
    image: &Image,
    windows: &mut Windows,
    indexes: &mut Indexes,
) -> Attempt {
    let known = image.logs.get(&log);
    match (want, known) {
        (Want::Records(_) | Want::Cleaning(_), None) => {
            Attempt::Records(Err(ReadError::UnknownLog))
        }
        (Want::Time(_), None) => Attempt::Time(Err(ReadError::UnknownLog)),
        (Want::Records(request) | Want::Cleaning(request), Some(known)) => {
            attempt_records(log, request, known, windows, indexes)
        }
        (Want::Time(want), Some(known)) => attempt_time(log, want, known, windows, indexes),
    }
}

fn attempt_records(
    log: LogId,
    request: &ReadRequest,
    known: &LogImage,
    windows: &mut Windows,
    indexes: &mut Indexes,
) -> Attempt {
    if request.from < known.start {
        let (start, end) = (known.start, known.settled_end);
        return Attempt::Records(Err(ReadError::OutOfRange { start, end }));
    }
    let mut selection = Selection::new(*request);
    if windows.offer_from(log, request.from, &mut selection) {
        return Attempt::Records(Ok(selection.into_batches()));
    }
    let Some(segment) = known.segments.find(request.from) else {
        return Attempt::Records(Ok(Vec::new()));
    };
    let bytes = u64::from(request.max_bytes).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
    match missing_at(log, request.from, segment, known, indexes, bytes) {
        Ok(missing) => Attempt::Missing(missing),
        Err((from, until)) => Attempt::Records(Err(ReadError::Damaged { log, from, until })),
    }
}

/// What must be fetched to see `offset`; the damaged range if it cannot be seen.
fn missing_at(
    log: LogId,
    offset: Offset,
    segment: Segment,
    known: &LogImage,
    indexes: &mut Indexes,
    bytes: u64,
) -> Result<Missing, (Offset, Offset)> {
    let active = known.segments.active_at(segment.base).map(|(_, active)| active);
    let Some(index) = indexes.get(log, segment.base) else {
        return Ok(Missing::Index(segment));
    };
    let open = active.and_then(|active| active.open.closed(&segment));
    match index.place(offset, &segment, active.as_ref()) {
        Place::Covered(chunk) => Ok(Missing::Chunks(segment, index.run(chunk, open, bytes))),
        Place::Unknown(hole) => Ok(Missing::Stretch(segment, hole)),
        Place::Damaged(from, until) => Err((from, until)),
    }
}

fn attempt_time(
    log: LogId,
    want: &mut TimeWant,
    known: &LogImage,
    windows: &mut Windows,
    indexes: &mut Indexes,
) -> Attempt {
    if want.is_largest {
        if let Some(attempt) = attempt_largest(log, want, known, windows, indexes) {
            return attempt;
        }
        // Without any timestamp nothing is to be found, not even in memory.
        want.at = if want.at < 0 { i64::MAX } else { want.at };
        (want.is_largest, want.cursor) = (false, known.start);
    }
    loop {
        want.cursor = want.cursor.max(known.start);
        let segment = known.segments.find_time(want.cursor, want.at);
        let Some(segment) = segment.filter(|segment| segment.base < want.limit) else {
            return Attempt::Time(Ok(None));
        };
        want.cursor = want.cursor.max(segment.base);
        let missing = missing_at(log, want.cursor, segment, known, indexes, EXTENT_BYTES_MIN);
        let missing = match missing {
            Ok(missing) => missing,
            Err((from, until)) => {
                return Attempt::Time(Err(ReadError::Damaged { log, from, until }));
            }
        };
        let Missing::Chunks(segment, chunks) = missing else { return Attempt::Missing(missing) };
        // Chunks without a young enough record need not be read at all.
        let Some(chunk) = chunks.iter().find(|chunk| chunk.max_timestamp >= want.at) else {
            want.cursor = chunks[chunks.len() - 1].end;
            continue;
        };
        want.cursor = want.cursor.max(chunk.first);
        match look_through(log, want, chunk.end, windows) {
            Look::Found(record) => {
                return Attempt::Time(Ok(Some(record).filter(|r| r.offset < want.limit)));
            }
            Look::NotThere => {}
            Look::NotRead => return Attempt::Missing(Missing::Chunks(segment, vec![*chunk])),
        }
    }
}

/// Raises `want.at` to the largest timestamp in segments; gives what is in the way of that.
///
/// Looks only into segments that begin before the log's start or end after the limit, and into
/// those only if they may hold a larger one than all others.
fn attempt_largest(
    log: LogId,
    want: &mut TimeWant,
    known: &LogImage,
    windows: &mut Windows,
    indexes: &mut Indexes,
) -> Option<Attempt> {
    let (start, limit) = (known.start, want.limit);
    want.at = want.at.max(largest_inside(known, limit));
    let straddling: Vec<Segment> = straddling(known, limit).collect();
    loop {
        let (cursor, at) = (want.cursor.max(start), want.at);
        let promising = |s: &&Segment| s.end > cursor && s.max_timestamp > at;
        let segment = straddling.iter().copied().find(|s| promising(&s))?;
        want.cursor = cursor.max(segment.base);
        // Batches that are not all below the limit are not given, so none is behind it.
        if want.cursor >= limit {
            return None;
        }
        let chunk = match missing_at(log, want.cursor, segment, known, indexes, 0) {
            Ok(Missing::Chunks(_, chunks)) => chunks[0],
            Ok(missing) => return Some(Attempt::Missing(missing)),
            Err((from, until)) => {
                return Some(Attempt::Time(Err(ReadError::Damaged { log, from, until })));
            }
        };
        if start <= chunk.first && chunk.end <= limit || chunk.max_timestamp <= at {
            want.at = at.max(chunk.max_timestamp);
            want.cursor = chunk.end;
        }
        while want.cursor < chunk.end {
            let Some(batch) = windows.from(log, want.cursor).first() else {
                return Some(Attempt::Missing(Missing::Chunks(segment, vec![chunk])));
            };
            want.cursor = batch.last.after(1);
            if batch.last < limit {
                let says = batch.max_timestamp;
                let largest =
                    largest_from(&batch.bytes, batch.base, says, start, want.inflated_bytes_max);
                want.at = want.at.max(largest);
            }
        }
    }
}

/// The largest timestamp of segments all of whose records are there and below `limit`; −1 if none.
#[must_use]
pub fn largest_inside(known: &LogImage, limit: Offset) -> i64 {
    let inside = known.segments.all().iter().filter(|s| known.start <= s.base && s.end <= limit);
    inside.map(|segment| segment.max_timestamp).max().unwrap_or(-1)
}

/// Segments some but not all of whose records are there and below `limit`: two at most.
pub fn straddling(known: &LogImage, limit: Offset) -> impl Iterator<Item = Segment> {
    let (start, all) = (known.start, known.segments.all());
    let touching = all.iter().copied().filter(move |s| s.base < limit && s.end > start);
    touching.filter(move |s| s.base < start || s.end > limit)
}

/// The largest timestamp of the records of a batch from `start` on, −1 if none has one; the batch
/// begins at `base` and says itself that `max_timestamp` is its largest. Records that would inflate
/// to more than `limit_bytes` have none.
#[must_use]
pub fn largest_from(
    batch: &Bytes,
    base: Offset,
    max_timestamp: i64,
    start: Offset,
    limit_bytes: usize,
) -> i64 {
    // What a cleaning emptied still says what its largest timestamp was.
    if BatchHeader::parse(batch).is_none_or(|header| header.record_count == 0) {
        return -1;
    }
    if base >= start {
        return max_timestamp;
    }
    let limit_bytes = limit_bytes.min(inflated_bytes_max(batch.len()));
    let Ok(opened) = records(batch, limit_bytes) else { return -1 };
    let readable = opened.iter().map_while(Result::ok);
    let there = readable.filter(|record| record.offset >= start);
    there.map(|record| record.timestamp).max().unwrap_or(-1)
}

enum Look {
    Found(TimedRecord),
    NotThere,
    NotRead,
}

/// Looks for the record in windows from the cursor to `end`; leaves the cursor where it got to.
fn look_through(log: LogId, want: &mut TimeWant, end: Offset, windows: &mut Windows) -> Look {
    while want.cursor < end {
        let Some(batch) = windows.from(log, want.cursor).first() else { return Look::NotRead };
        if batch.max_timestamp >= want.at
            && let Some(record) =
                timed_record(&batch.bytes, want.cursor, want.at, want.inflated_bytes_max)
        {
            return Look::Found(record);
        }
        want.cursor = batch.last.after(1);
    }
    Look::NotThere
}

/// The first record of `batch` from `from` on that is not older than `at` milliseconds, looked for
/// in at most `limit_bytes` of inflated records.
///
/// A batch that says it has one is the last that is opened, whatever it turns out to hold: where its
/// records do not bear it out, or cannot be read, its first one stands for the one it speaks of.
/// Headers are taken by the producer's word, and who lies in a thousand of them would have each
/// look-up inflate a thousand batches. Only a batch of which a part lies before `from` may speak of
/// what is no longer there.
#[must_use]
pub fn timed_record(
    batch: &Bytes,
    from: Offset,
    at: i64,
    limit_bytes: usize,
) -> Option<TimedRecord> {
    let header = BatchHeader::parse(batch)?;
    let found = first_at_or_after(batch, from, at, limit_bytes);
    let speaks = header.record_count > 0 && header.base_offset >= from;
    let told =
        || Some((header.base_offset, header.max_timestamp)).filter(|(_, max)| speaks && *max >= at);
    let (offset, timestamp) = found.or_else(told)?;
    Some(TimedRecord { offset, timestamp, epoch: header.leader_epoch })
}

//! Walks the records inside one batch.
//!
//! Does: inflate a batch within a limit, hand out its records one by one, and answer the two
//! questions time lookup has.
//! Does not: check the CRC or the header's counts against each other, that is `check`; does not
//! interpret control records.
//! Invariants: a record is handed out only after all its lengths were found to fit; the first bad
//! record ends the walk; nothing is allocated but the inflated records.
//! Apart because the hot path must never need it.

use std::borrow::Cow;

use bytes::Bytes;

use super::codec::{Codec, CodecFault, decompress_into};
use super::header::{BatchHeader, HEADER_BYTES, TimestampType};
use super::limits::inflated_bytes_max;
use crate::ids::Offset;
use crate::wire::varint;

/// Why a batch's records cannot be walked to their end, and where that was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// The record's place in its batch, from zero; zero for faults of the whole batch.
    pub record_index: i32,
    /// What is wrong with it.
    pub reason: RecordFaultReason,
}

/// What can be wrong with a record, or with the records of a batch as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFaultReason {
    /// There is no batch: fewer bytes than it says, or a codec without meaning.
    Batch,
    /// The records could not be inflated.
    Codec(CodecFault),
    /// The record's length is no varint, negative, or more than there is.
    Length,
    /// A number, key or value runs over the record's end, or has a length below −1.
    Field,
    /// A header has no key, runs over the record's end, or there are not as many as announced.
    Header,
    /// The record goes on after its last header.
    Surplus,
    /// The records go on after the last one announced.
    RecordCount,
    /// The record's offset is not one more than its predecessor's.
    OffsetDelta,
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970, or −1; the batch's on append-time batches.
    pub timestamp: i64,
    /// Its key; `None` is null, which is not empty.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null: a tombstone on compacted topics.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// One header of a record (KIP-82).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, in UTF-8 by convention; never checked. Names may repeat.
    pub key: &'a [u8],
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, in order. Their bytes were checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1).filter(|&left| left >= 0)?;
        read_header(&mut self.rest)
    }
}

/// The records of one batch, inflated if they were compressed.
#[derive(Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    inflated: Cow<'a, [u8]>,
}

/// Opens the records of the batch `batch` begins with, inflating at most `limit_bytes`.
///
/// # Errors
/// [`RecordFaultReason::Batch`] or [`RecordFaultReason::Codec`].
pub fn records(batch: &[u8], limit_bytes: usize) -> Result<Records<'_>, RecordFault> {
    let mut allowance_bytes = limit_bytes;
    records_within(batch, &mut allowance_bytes)
}

/// Opens the records of the batch `batch` begins with, inflating at most `allowance_bytes`, and takes
/// off it what was inflated, also where that came to nothing: what a batch costs is not known before.
///
/// # Errors
/// [`RecordFaultReason::Batch`] or [`RecordFaultReason::Codec`].
pub fn records_within<'batch>(
    batch: &'batch [u8],
    allowance_bytes: &mut usize,
) -> Result<Records<'batch>, RecordFault> {
    let fault = |reason| RecordFault { record_index: 0, reason };
    let no_batch = fault(RecordFaultReason::Batch);
    let header = BatchHeader::parse(batch).ok_or(no_batch)?;
    let payload = batch.get(HEADER_BYTES..header.total_bytes()).ok_or(no_batch)?;
    let codec = header.codec().ok_or(no_batch)?;
    let inflated = match codec {
        Codec::None => Cow::Borrowed(payload),
        // What compaction emptied has nothing to inflate (G57).
        Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd if header.record_count == 0 => {
            Cow::Borrowed(&[][..])
        }
        Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
            let mut output = Vec::new();
            let outcome = decompress_into(codec, payload, &mut output, *allowance_bytes);
            *allowance_bytes = allowance_bytes.saturating_sub(output.len());
            outcome.map_err(|codec_fault| fault(RecordFaultReason::Codec(codec_fault)))?;
            Cow::Owned(output)
        }
    };
    Ok(Records { header, inflated })
}

impl Records<'_> {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What is walked, of the batch that was opened: a part of it, or what it was inflated to.
    pub(super) fn into_payload(self, batch: &Bytes) -> Bytes {
        match self.inflated {
            Cow::Borrowed(part) => batch.slice_ref(part),
            Cow::Owned(inflated) => inflated.into(),
        }
    }

    /// Walks the records from the first.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::at(self.header, &self.inflated, 0)
    }
}

impl<'a> IntoIterator for &'a Records<'_> {
    type Item = Result<Record<'a>, RecordFault>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Hands out the records of one batch; after a fault it hands out nothing more.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    next_index: i32,
    ended: bool,
}

impl<'a> RecordIter<'a> {
    /// Walks on from the record with this place in its batch, whose bytes `rest` begins with.
    pub(super) fn at(header: BatchHeader, rest: &'a [u8], next_index: i32) -> Self {
        Self { header, rest, next_index, ended: false }
    }

    /// How many bytes are left.
    pub(super) fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let outcome = if self.next_index < self.header.record_count {
            read_record(&self.header, &mut self.rest)
        } else if self.rest.is_empty() {
            self.ended = true;
            return None;
        } else {
            Err(RecordFaultReason::RecordCount)
        };
        let record_index = self.next_index;
        self.next_index = record_index.saturating_add(1);
        self.ended = outcome.is_err();
        Some(outcome.map_err(|reason| RecordFault { record_index, reason }))
    }
}

/// The first record of `batch` at `from` or later in the log that is not older than `timestamp`
/// (milliseconds since 1970), as ListOffsets asks for it: its offset and its timestamp.
///
/// Records that cannot be read within `limit_bytes` have none.
#[must_use]
pub fn first_at_or_after(
    batch: &[u8],
    from: Offset,
    timestamp: i64,
    limit_bytes: usize,
) -> Option<(Offset, i64)> {
    let header = BatchHeader::parse(batch)?;
    if header.timestamp_type() == TimestampType::Append {
        if header.max_timestamp < timestamp {
            return None;
        }
        // All have the same timestamp, so it is the first; which is known unless compaction
        // left gaps.
        if header.record_count > 0 && header.last_offset_delta == header.record_count - 1 {
            let first = header.base_offset.max(from);
            return (first <= header.last_offset()).then_some((first, header.max_timestamp));
        }
    }
    let opened = records(batch, limit_bytes.min(inflated_bytes_max(batch.len()))).ok()?;
    let mut readable = opened.iter().map_while(Result::ok);
    let wanted = |record: &Record<'_>| record.timestamp >= timestamp && record.offset >= from;
    readable.find(wanted).map(|record| (record.offset, record.timestamp))
}

/// The first of the records of `batch` with the largest timestamp (KIP-734): its offset and its
/// timestamp.
///
/// The records decide, not the header. `None` for a batch without records, and where the records
/// cannot be read.
#[must_use]
pub fn max_timestamp_record(batch: &[u8]) -> Option<(Offset, i64)> {
    let header = BatchHeader::parse(batch)?;
    if header.timestamp_type() == TimestampType::Append {
        let limit_bytes = inflated_bytes_max(batch.len());
        return first_at_or_after(batch, header.base_offset, header.max_timestamp, limit_bytes);
    }
    let opened = records(batch, inflated_bytes_max(batch.len())).ok()?;
    let mut largest: Option<(Offset, i64)> = None;
    for record in opened.iter().map_while(Result::ok) {
        if largest.is_none_or(|(_, timestamp)| record.timestamp > timestamp) {
            largest = Some((record.offset, record.timestamp));
        }
    }
    largest
}

/// ```text
/// length  attributes  timestamp Δ  offset Δ  key length  key  value length  value  headers
/// varint  1 byte      varlong      varint    varint           varint               varint count, …
/// ```
fn read_record<'a>(
    batch: &BatchHeader,
    rest: &mut &'a [u8],
) -> Result<Record<'a>, RecordFaultReason> {
    let length = read_i32(rest).and_then(|length| usize::try_from(length).ok());
    let (mut body, after) =
        length.and_then(|length| rest.split_at_checked(length)).ok_or(RecordFaultReason::Length)?;
    *rest = after;
    let mut record = read_fields(batch, &mut body).ok_or(RecordFaultReason::Field)?;
    let header_count = read_i32(&mut body).filter(|&count| count >= 0);
    record.headers = Headers { rest: body, left: header_count.ok_or(RecordFaultReason::Header)? };
    for _ in 0..record.headers.left {
        read_header(&mut body).ok_or(RecordFaultReason::Header)?;
    }
    if body.is_empty() { Ok(record) } else { Err(RecordFaultReason::Surplus) }
}

/// Everything before the headers, which are left empty.
fn read_fields<'a>(batch: &BatchHeader, body: &mut &'a [u8]) -> Option<Record<'a>> {
    // The record's own attributes: one byte without meaning so far.
    take(body, 1)?;
    let timestamp_delta = read_i64(body)?;
    let offset_delta = read_i32(body)?;
    Some(Record {
        offset: Offset(batch.base_offset.0.saturating_add(i64::from(offset_delta))),
        timestamp: match batch.timestamp_type() {
            TimestampType::Create => batch.base_timestamp.saturating_add(timestamp_delta),
            TimestampType::Append => batch.max_timestamp,
        },
        key: read_nullable(body)?,
        value: read_nullable(body)?,
        headers: Headers { rest: &[], left: 0 },
    })
}

fn read_header<'a>(rest: &mut &'a [u8]) -> Option<Header<'a>> {
    let key = read_nullable(rest)??;
    Some(Header { key, value: read_nullable(rest)? })
}

/// A varint length and as many bytes; −1 is null. The outer `None` is a fault.
fn read_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match read_i32(rest)? {
        -1 => Some(None),
        length => Some(Some(take(rest, usize::try_from(length).ok()?)?)),
    }
}

fn read_i32(rest: &mut &[u8]) -> Option<i32> {
    let (value, length) = varint::read_zigzag_32(rest)?;
    *rest = &rest[length..];
    Some(value)
}

fn read_i64(rest: &mut &[u8]) -> Option<i64> {
    let (value, length) = varint::read_zigzag_64(rest)?;
    *rest = &rest[length..];
    Some(value)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    const TIME: i64 = 1_700_000_000_000;

    fn no_headers() -> Headers<'static> {
        Headers { rest: &[], left: 0 }
    }

    fn walk(batch: &[u8]) -> Vec<(i64, i64)> {
        let records = records(batch, 1000).expect("opens");
        let records = records.iter().map(|record| record.expect("sound"));
        records.map(|record| (record.offset.0, record.timestamp)).collect()
    }

    #[test]
    fn kafkas_records_are_read_from_every_codec() {
        let goldens = [goldens::PLAIN, goldens::GZIP, goldens::SNAPPY, goldens::LZ4, goldens::ZSTD];
        for golden in goldens.map(goldens::bytes) {
            let opened = records(&golden, 1000).expect("opens");
            let read: Vec<Record<'_>> =
                opened.iter().map(|record| record.expect("sound")).collect();
            let first = read[0];
            assert_eq!((first.offset, first.timestamp), (Offset(0), TIME));
            assert_eq!(first.key, Some(&b"key-0"[..]));
            assert_eq!(first.value, Some(&b"value-0 value-0 value-0 value-0"[..]));
            let headers: Vec<Header<'_>> = first.headers.collect();
            let expected =
                [Header { key: b"h1", value: Some(b"v1") }, Header { key: b"h2", value: None }];
            assert_eq!(headers, expected);
            assert_eq!((read[1].key, read[1].timestamp), (None, TIME + 500));
            let third = Record {
                offset: Offset(2),
                timestamp: TIME - 1000,
                key: Some(b"key-2"),
                value: None,
                headers: read[2].headers,
            };
            assert_eq!(read[2], third);
            assert_eq!(read[2].headers.count(), no_headers().count());
            assert_eq!((read[3].key, read[3].value), (Some(&b""[..]), Some(&b""[..])));
            let headers: Vec<Header<'_>> = read[3].headers.collect();
            assert_eq!(headers, [Header { key: b"", value: Some(b"") }]);
            assert_eq!(read.len(), 4);
        }
    }

    #[test]
    fn compacted_batches_have_gaps_or_nothing() {
        let compacted = goldens::bytes(goldens::COMPACTED);
        assert_eq!(walk(&compacted), [(1001, TIME + 500), (1002, TIME - 1000)]);
        assert_eq!(walk(&goldens::bytes(goldens::EMPTIED)), []);
        let first = |from| first_at_or_after(&compacted, Offset(from), TIME - 1000, 1000);
        assert_eq!(first(0), Some((Offset(1001), TIME + 500)));
        assert_eq!(first(1002), Some((Offset(1002), TIME - 1000)));
        assert_eq!(first(1003), None);
        assert_eq!(max_timestamp_record(&goldens::bytes(goldens::EMPTIED)), None);
    }

    #[test]
    fn an_emptied_batch_is_not_inflated() {
        let mut batch = goldens::bytes(goldens::EMPTIED);
        batch[22] |= Codec::Zstd.code() as u8;
        assert_eq!(walk(&batch), []);
    }

    #[test]
    fn records_have_the_brokers_time_where_the_broker_gave_one() {
        let batch = goldens::bytes(goldens::STAMPED_APPEND_TIME);
        let times = walk(&batch);
        assert_eq!(times, [1000, 1001, 1002, 1003].map(|offset| (offset, TIME + 9999)));
        let first = Some((Offset(1000), TIME + 9999));
        assert_eq!(first_at_or_after(&batch, Offset(0), TIME, 0), first);
        assert_eq!(first_at_or_after(&batch, Offset(0), TIME + 9999, 0), first);
        assert_eq!(first_at_or_after(&batch, Offset(0), TIME + 10_000, 0), None);
        let later = first_at_or_after(&batch, Offset(1002), TIME, 0);
        assert_eq!(later, Some((Offset(1002), TIME + 9999)));
        assert_eq!(first_at_or_after(&batch, Offset(1004), TIME, 0), None);
        assert_eq!(max_timestamp_record(&batch), first);
    }

    #[test]
    fn time_lookup_finds_the_first_record_not_older() {
        for golden in [goldens::PLAIN, goldens::LZ4] {
            let batch = goldens::bytes(golden);
            let first = |from, time| first_at_or_after(&batch, Offset(from), time, 1000);
            assert_eq!(first(0, i64::MIN), Some((Offset(0), TIME)));
            assert_eq!(first(0, TIME + 1), Some((Offset(1), TIME + 500)));
            assert_eq!(first(0, TIME + 501), None);
            // What lies before the log's start is gone, though its batch is still there.
            assert_eq!(first(2, TIME + 1), Some((Offset(3), TIME + 500)));
            assert_eq!(first(4, i64::MIN), None);
            // Two records have the largest timestamp: the first one counts.
            assert_eq!(max_timestamp_record(&batch), Some((Offset(1), TIME + 500)));
        }
    }

    #[test]
    fn the_limit_holds_for_what_is_inflated() {
        let batch = goldens::bytes(goldens::GZIP);
        let fault = records(&batch, 100).expect_err("115 bytes");
        assert_eq!(fault.reason, RecordFaultReason::Codec(CodecFault::OverLimit));
        assert_eq!(fault.record_index, 0);
    }

    #[test]
    fn a_cut_batch_is_no_batch() {
        let batch = goldens::bytes(goldens::PLAIN);
        for length in 0..batch.len() {
            let fault = records(&batch[..length], 1000).expect_err("cut");
            assert_eq!(fault.reason, RecordFaultReason::Batch);
        }
    }

    #[test]
    fn a_walk_ends_with_its_first_fault() {
        let mut batch = goldens::bytes(goldens::PLAIN);
        // A length of a thousand for the second record.
        batch[HEADER_BYTES + 53] = 0xd0;
        let opened = records(&batch, 1000).expect("opens");
        let outcomes: Vec<bool> = opened.iter().map(|record| record.is_ok()).collect();
        assert_eq!(outcomes, [true, false]);
    }
}

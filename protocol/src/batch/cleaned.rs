//! Batches out of which a cleaning took records, byte for byte as Kafka's own cleaner writes them.
//!
//! Does: build a batch of some of another's records, with or without a delete horizon (KIP-534), or
//! its header alone.
//! Does not: decide which records stay; compress otherwise than the batch was.
//! Invariants: base offset, last offset, sequences, producer, epoch and codec are those of the
//! original (G57); the checksum is right.
//! Apart because only a cleaning changes what a producer sent.
//!
//! ```text
//!  horizon set: attribute bit 6, and the base timestamp is the time from which tombstones and markers
//!  may go; the timestamps of its records count from there like from any other
//! ```

use bytes::{BufMut, BytesMut};

use super::builder::{nullable_bytes, write_nullable, write_zigzag, zigzag_bytes};
use super::codec::{Codec, compress};
use super::header::{
    BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, TIMESTAMP_NONE, TimestampType, bit,
};
use super::records::{Header, Record};
use super::stamp::stamp_crc;

/// A batch as another one is, with some of its records only, which come one by one.
#[derive(Debug)]
pub struct Rebuild {
    original: BatchHeader,
    horizon: Option<i64>,
    base_timestamp: i64,
    /// Of the records so far; the smallest number there is before the first.
    max_timestamp: i64,
    count: i32,
    /// Invariant: room for the header, then the records so far.
    batch: BytesMut,
}

impl Rebuild {
    /// One without records. `first_timestamp`: of the first that will come; `horizon`: wall clock, milliseconds,
    /// from which its tombstones or markers may go, `None`: it has none; `payload_bytes`: room to begin with.
    #[must_use]
    pub fn new(
        original: &BatchHeader,
        first_timestamp: i64,
        horizon: Option<i64>,
        payload_bytes: usize,
    ) -> Self {
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + payload_bytes);
        batch.resize(HEADER_BYTES, 0);
        Self {
            original: *original,
            horizon,
            base_timestamp: horizon.unwrap_or(first_timestamp),
            max_timestamp: i64::MIN,
            count: 0,
            batch,
        }
    }

    /// The next record that stays.
    ///
    /// # Panics
    /// When they are more than a batch can have: the caller has what it read as one batch.
    pub fn push(&mut self, record: &Record<'_>) {
        write_record(&self.original, self.base_timestamp, record, &mut self.batch);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count = self.count.checked_add(1).expect("records of one batch");
    }

    /// The batch.
    ///
    /// # Panics
    /// Without a record: such a batch is [`emptied`]. When they are more than 2 GiB.
    #[must_use]
    pub fn finish(mut self) -> BytesMut {
        assert!(self.count > 0, "a batch without records is emptied");
        let original = &self.original;
        let codec = original.codec().unwrap_or(Codec::None);
        let compressed = match codec {
            Codec::None => None,
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                Some(compress(codec, &self.batch[HEADER_BYTES..]))
            }
        };
        let max_timestamp = match original.timestamp_type() {
            TimestampType::Append => original.max_timestamp,
            TimestampType::Create => self.max_timestamp,
        };
        let horizon_bit = if self.horizon.is_some() { bit::DELETE_HORIZON } else { 0 };
        let flags = original.attributes & (bit::APPEND_TIME | bit::TRANSACTIONAL | bit::CONTROL);
        let attributes = flags | codec.code() | horizon_bit;
        let times = (self.base_timestamp, max_timestamp);
        let payload_bytes =
            compressed.as_ref().map_or(self.batch.len() - HEADER_BYTES, |payload| payload.len());
        let mut header = header(original, attributes, times, self.count, payload_bytes);
        let mut batch = match compressed {
            None => {
                self.batch[..HEADER_BYTES].copy_from_slice(&header);
                self.batch
            }
            Some(payload) => {
                header.extend_from_slice(&payload);
                header
            }
        };
        stamp_crc(&mut batch);
        batch
    }
}

/// The header of this batch alone: the last trace of its producer's sequence, or of its offsets.
#[must_use]
pub fn emptied(original: &BatchHeader) -> BytesMut {
    let flags = original.attributes & (bit::APPEND_TIME | bit::TRANSACTIONAL | bit::CONTROL);
    let times = (TIMESTAMP_NONE, original.max_timestamp);
    let mut batch = header(original, flags, times, 0, 0);
    stamp_crc(&mut batch);
    batch
}

/// `times`: base and largest timestamp.
fn header(
    original: &BatchHeader,
    attributes: i16,
    times: (i64, i64),
    count: i32,
    payload_bytes: usize,
) -> BytesMut {
    let length = HEADER_BYTES - LENGTH_OVERHEAD_BYTES + payload_bytes;
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload_bytes);
    out.put_i64(original.base_offset.0);
    out.put_i32(i32::try_from(length).expect("a batch's length is an i32"));
    out.put_i32(original.leader_epoch.0);
    out.put_i8(original.magic);
    // The CRC, computed last.
    out.put_u32(0);
    out.put_i16(attributes);
    out.put_i32(original.last_offset_delta);
    out.put_i64(times.0);
    out.put_i64(times.1);
    out.put_i64(original.producer_id.0);
    out.put_i16(original.producer_epoch.0);
    out.put_i32(original.base_sequence.0);
    out.put_i32(count);
    assert_eq!(out.len(), HEADER_BYTES, "a header has 61 bytes");
    out
}

/// Length first, so that nothing is written twice: a cleaning writes a great many of them.
fn write_record(
    original: &BatchHeader,
    base_timestamp: i64,
    record: &Record<'_>,
    out: &mut BytesMut,
) {
    let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
    let offset_delta = record.offset.0 - original.base_offset.0;
    let of_header =
        |header: Header<'_>| nullable_bytes(Some(header.key)) + nullable_bytes(header.value);
    let header_count = record.headers.count() as i64;
    let body_bytes = 1
        + zigzag_bytes(timestamp_delta)
        + zigzag_bytes(offset_delta)
        + nullable_bytes(record.key)
        + nullable_bytes(record.value)
        + zigzag_bytes(header_count)
        + record.headers.map(of_header).sum::<usize>();
    out.reserve(zigzag_bytes(body_bytes as i64) + body_bytes);
    write_zigzag(body_bytes as i64, out);
    let begun = out.len();
    // The record's own attributes, without meaning so far.
    out.put_u8(0);
    write_zigzag(timestamp_delta, out);
    write_zigzag(offset_delta, out);
    write_nullable(record.key, out);
    write_nullable(record.value, out);
    write_zigzag(header_count, out);
    for header in record.headers {
        write_nullable(Some(header.key), out);
        write_nullable(header.value, out);
    }
    assert_eq!(out.len() - begun, body_bytes, "a record is as long as it says");
}

#[cfg(test)]
mod tests {
    use super::super::check::verify_crc;
    use super::super::goldens;
    use super::super::records::records;
    use super::super::stamp::stamp;
    use super::*;
    use crate::ids::{LeaderEpoch, Offset};

    /// `golden` at offset 1000.
    fn at_1000(golden: &str) -> Vec<u8> {
        let mut batch = goldens::bytes(golden);
        stamp(&mut batch, Offset(1000), LeaderEpoch(-1));
        batch
    }

    fn rebuilt_of(batch: &[u8], keep: &[i64], horizon: Option<i64>) -> BytesMut {
        let opened = records(batch, 1 << 20).expect("sound");
        let all = opened.iter().map(|record| record.expect("sound"));
        let kept: Vec<Record<'_>> = all.filter(|it| keep.contains(&it.offset.0)).collect();
        let mut rebuild = Rebuild::new(opened.header(), kept[0].timestamp, horizon, 0);
        kept.iter().for_each(|record| rebuild.push(record));
        rebuild.finish()
    }

    fn contents(batch: &[u8]) -> Vec<String> {
        let opened = records(batch, 1 << 20).expect("sound");
        let line = |record: Record<'_>| {
            let headers: Vec<Header<'_>> = record.headers.collect();
            let Record { offset, timestamp, key, value, .. } = record;
            format!("{offset} {timestamp} {key:?} {value:?} {headers:?}")
        };
        opened.iter().map(|record| line(record.expect("sound"))).collect()
    }

    #[test]
    fn what_kafka_kept_of_a_batch_is_what_is_kept_here() {
        let (kafka, ours) = (
            goldens::bytes(goldens::COMPACTED),
            rebuilt_of(&at_1000(goldens::GZIP), &[1001, 1002], Some(0)),
        );
        // Two deflaters may differ in how they say the same; the header's rest may not.
        let headers = [&kafka[..], &ours[..]].map(|batch| {
            let header = BatchHeader::parse(batch).expect("a header");
            BatchHeader { length: 0, crc: 0, ..header }
        });
        assert_eq!(headers[0], headers[1]);
        let inflated = [&kafka[..], &ours[..]].map(contents);
        assert_eq!(inflated[0], inflated[1]);
        assert!(verify_crc(&ours));
    }

    #[test]
    fn an_emptied_batch_is_kafkas_to_the_byte() {
        let header = BatchHeader::parse(&at_1000(goldens::GZIP)).expect("a header");
        assert_eq!(emptied(&header)[..], goldens::bytes(goldens::EMPTIED)[..]);
    }

    #[test]
    fn every_codec_keeps_records_headers_and_who_wrote_them() {
        for golden in [
            goldens::PLAIN,
            goldens::GZIP,
            goldens::SNAPPY,
            goldens::LZ4,
            goldens::ZSTD,
            goldens::IDEMPOTENT,
            goldens::STAMPED_APPEND_TIME,
        ] {
            let batch = at_1000(golden);
            let all = contents(&batch);
            for (keep, horizon) in [(vec![1000, 1001, 1002, 1003], None), (vec![1003], Some(77))] {
                let made = rebuilt_of(&batch, &keep, horizon);
                assert!(verify_crc(&made));
                assert_eq!(contents(&made), all[4 - keep.len()..]);
                let headers = [&batch[..], &made[..]].map(BatchHeader::parse).map(Option::unwrap);
                let who = |it: &BatchHeader| {
                    let whose = (it.producer_id, it.producer_epoch, it.base_sequence);
                    (whose, it.codec(), it.timestamp_type(), it.base_offset, it.last_offset())
                };
                assert_eq!(who(&headers[0]), who(&headers[1]));
                assert_eq!(headers[1].delete_horizon(), horizon);
                assert_eq!(headers[1].record_count as usize, keep.len());
            }
        }
    }
}

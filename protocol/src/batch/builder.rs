//! Builds batches the broker itself is the producer of: coordinator state and cluster metadata.
//!
//! Does: lay out one uncompressed batch of format 2, byte for byte as Kafka's own builder does.
//! Does not: compress, except for clients that measure; choose offsets, epochs or clocks, `stamp` and the caller do.
//! Invariants: a finished batch has at least one record and passes what `check` asks of its kind;
//! its size is known before a record is added.
//! Apart because the broker writes batches in few places and reads them in many.

use bytes::{BufMut, BytesMut};

use super::codec::{Codec, compress};
use super::header::{HEADER_BYTES, LENGTH_OVERHEAD_BYTES, MAGIC, TIMESTAMP_NONE, bit};
use super::records::Header;
use super::stamp::stamp_crc;
use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};
use crate::wire::varint;

/// A record to be added to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970, or −1.
    pub timestamp: i64,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null: a tombstone on compacted topics.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [Header<'a>],
}

/// A batch being built. The base offset is zero and the leader epoch −1 until it is stamped.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchBuilder {
    /// Room for the header, then the records so far.
    bytes: BytesMut,
    attributes: i16,
    producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: i32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch of plain data without a producer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: BytesMut::zeroed(HEADER_BYTES),
            attributes: 0,
            producer: None,
            base_timestamp: TIMESTAMP_NONE,
            max_timestamp: TIMESTAMP_NONE,
            record_count: 0,
        }
    }

    /// Makes the records those of an idempotent producer; `base_sequence` is the first one's, −1
    /// for the markers of a transaction.
    #[must_use]
    pub fn with_producer(
        mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> Self {
        self.producer = Some((id, epoch, base_sequence));
        self
    }

    /// Makes the records part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= bit::TRANSACTIONAL;
        self
    }

    /// Makes the batch a control batch, which consumers never see.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes |= bit::CONTROL;
        self
    }

    /// How many records were added.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch's size with the records added so far, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What [`BatchBuilder::size_bytes`] would be after adding `record`: to be compared with the
    /// topic's largest batch before it is added.
    #[must_use]
    pub fn size_bytes_with(&self, record: &NewRecord<'_>) -> usize {
        let body_bytes = self.body_bytes(record);
        self.bytes.len() + zigzag_bytes(body_bytes as i64) + body_bytes
    }

    /// Adds one record. The first one's timestamp becomes the base timestamp.
    ///
    /// # Panics
    /// When the batch grows beyond 2 GiB, which callers prevent by
    /// [`BatchBuilder::size_bytes_with`].
    pub fn push(&mut self, record: &NewRecord<'_>) {
        let size_bytes = self.size_bytes_with(record);
        assert!(i32::try_from(size_bytes).is_ok(), "a batch's length is an i32");
        let body_bytes = self.body_bytes(record);
        self.bytes.reserve(size_bytes - self.bytes.len());
        if self.record_count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let out = &mut self.bytes;
        write_zigzag(body_bytes as i64, out);
        // The record's own attributes, without meaning so far.
        out.put_u8(0);
        write_zigzag(timestamp_delta, out);
        write_zigzag(i64::from(self.record_count), out);
        write_nullable(record.key, out);
        write_nullable(record.value, out);
        write_zigzag(record.headers.len() as i64, out);
        for header in record.headers {
            write_nullable(Some(header.key), out);
            write_nullable(header.value, out);
        }
        self.record_count += 1;
        assert_eq!(self.bytes.len(), size_bytes, "the size was known ahead");
    }

    /// Writes the header and hands the batch out.
    ///
    /// # Panics
    /// When no record was added: such a batch has no offset to take.
    #[must_use]
    pub fn finish(mut self) -> BytesMut {
        assert!(self.record_count > 0, "a batch has a record");
        let none = (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE);
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or(none);
        let length = (self.bytes.len() - LENGTH_OVERHEAD_BYTES) as i32;
        let mut out = &mut self.bytes[..HEADER_BYTES];
        out.put_i64(0);
        out.put_i32(length);
        out.put_i32(LeaderEpoch::UNKNOWN.0);
        out.put_i8(MAGIC);
        // The CRC, computed last.
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.record_count - 1);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(producer_id.0);
        out.put_i16(producer_epoch.0);
        out.put_i32(base_sequence.0);
        out.put_i32(self.record_count);
        assert!(out.is_empty(), "a header has 61 bytes");
        stamp_crc(&mut self.bytes);
        self.bytes
    }

    /// As [`BatchBuilder::finish`], with the records compressed as a producer would. For tests and
    /// load generators: the broker itself writes no compressed batches.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    #[must_use]
    pub fn finish_compressed(mut self, codec: Codec) -> BytesMut {
        let records = compress(codec, &self.bytes[HEADER_BYTES..]);
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.extend_from_slice(&records);
        self.attributes |= codec.code();
        self.finish()
    }

    /// The size of `record` as the next one, without its own length.
    fn body_bytes(&self, record: &NewRecord<'_>) -> usize {
        let base = if self.record_count == 0 { record.timestamp } else { self.base_timestamp };
        let headers = record.headers.iter();
        1 + zigzag_bytes(record.timestamp.wrapping_sub(base))
            + zigzag_bytes(i64::from(self.record_count))
            + nullable_bytes(record.key)
            + nullable_bytes(record.value)
            + zigzag_bytes(record.headers.len() as i64)
            + headers.map(|h| nullable_bytes(Some(h.key)) + nullable_bytes(h.value)).sum::<usize>()
    }
}

pub(super) fn write_zigzag(value: i64, out: &mut BytesMut) {
    out.put_slice(varint::zigzag(value).as_slice());
}

pub(super) fn zigzag_bytes(value: i64) -> usize {
    varint::zigzag(value).as_slice().len()
}

pub(super) fn write_nullable(bytes: Option<&[u8]>, out: &mut BytesMut) {
    match bytes {
        None => write_zigzag(-1, out),
        Some(bytes) => {
            write_zigzag(bytes.len() as i64, out);
            out.put_slice(bytes);
        }
    }
}

pub(super) fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| zigzag_bytes(bytes.len() as i64) + bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::check::{check_produced, check_records, verify_crc};
    use super::super::goldens;
    use super::*;

    const TIME: i64 = 1_700_000_000_000;

    fn record<'a>(
        delta: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &'a [Header<'a>],
    ) -> NewRecord<'a> {
        NewRecord { timestamp: TIME + delta, key, value, headers }
    }

    /// The goldens' four records, each checked for the size it was said to have.
    fn with_golden_records(mut builder: BatchBuilder) -> BatchBuilder {
        let two = [Header { key: b"h1", value: Some(b"v1") }, Header { key: b"h2", value: None }];
        let one = [Header { key: b"", value: Some(b"") }];
        let (zero, first) =
            (b"value-0 value-0 value-0 value-0", b"value-1 value-1 value-1 value-1");
        for record in [
            record(0, Some(b"key-0"), Some(zero), &two),
            record(500, None, Some(first), &[]),
            record(-1000, Some(b"key-2"), None, &[]),
            record(500, Some(b""), Some(b""), &one),
        ] {
            let size_bytes = builder.size_bytes_with(&record);
            builder.push(&record);
            assert_eq!(builder.size_bytes(), size_bytes);
        }
        builder
    }

    #[test]
    fn batches_are_byte_for_byte_kafkas() {
        let plain = with_golden_records(BatchBuilder::new()).finish();
        assert_eq!(plain, goldens::bytes(goldens::PLAIN));
        let builder = BatchBuilder::new().with_producer(
            ProducerId(4711),
            ProducerEpoch(3),
            Sequence(i32::MAX - 1),
        );
        let idempotent = with_golden_records(builder).finish();
        assert_eq!(idempotent, goldens::bytes(goldens::IDEMPOTENT));
    }

    #[test]
    fn compressed_batches_hold_the_same_records() {
        for codec in Codec::ALL {
            let batch = with_golden_records(BatchBuilder::new()).finish_compressed(codec);
            let summary = check_produced(&batch).expect("sound");
            assert_eq!((summary.codec, summary.record_count), (codec, 4));
            assert!(verify_crc(&batch));
            assert_eq!(
                check_records(&batch, &mut (1 << 20)).map(|found| found.max_timestamp),
                Ok(TIME + 500)
            );
        }
    }

    #[test]
    fn a_marker_is_byte_for_byte_kafkas() {
        let mut builder = BatchBuilder::new()
            .with_producer(ProducerId(4711), ProducerEpoch(3), Sequence::NONE)
            .transactional()
            .control();
        builder.push(&record(0, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 9]), &[]));
        let mut marker = builder.finish();
        super::super::stamp::stamp(&mut marker, crate::ids::Offset(42), LeaderEpoch(5));
        assert_eq!(marker, goldens::bytes(goldens::MARKER));
    }

    #[test]
    fn sizes_are_known_ahead_where_varints_grow() {
        let mut builder = BatchBuilder::new();
        for length in [0, 62, 63, 64, 8190, 8191, 8192, 1 << 20] {
            let value = vec![7; length];
            let headers = vec![Header { key: b"k", value: Some(&value) }; length.min(100)];
            let record = record(length as i64 * 1000, None, Some(&value), &headers);
            let size_bytes = builder.size_bytes_with(&record);
            builder.push(&record);
            assert_eq!(builder.size_bytes(), size_bytes, "{length}");
        }
        assert_eq!(builder.record_count(), 8);
        let batch = builder.finish();
        assert!(verify_crc(&batch) && check_records(&batch, &mut (1 << 20)).is_ok());
        assert_eq!(check_produced(&batch).map(|batch| batch.record_count), Ok(8));
    }
}

//! The 61 bytes every record batch begins with, read in place.
//!
//! ```text
//!  0        8      12     16    17    21    23         27
//!  +--------+------+------+-----+-----+-----+----------+
//!  | base   | len- | lead-|magic| crc |attr.| last     |
//!  | offset | gth  | er ep|     | 32c |     | offset Δ |
//!  +--------+------+------+-----+-----+-----+----------+
//!  27              35              43        51    53    57    61
//!  +---------------+---------------+---------+-----+-----+-----+---------
//!  | base timestamp| max timestamp |producer |prod.|base |re-  | records
//!  |               |               |id       |epoch|seq. |cords|
//!  +---------------+---------------+---------+-----+-----+-----+---------
//!  length counts from byte 12; the CRC covers byte 21 to the end.
//! ```
//!
//! Does: name the fields and the bits of the attributes.
//! Does not: judge them. A header read here may hold any nonsense; `check` judges.
//! Invariants: no method panics or overflows, whatever the fields hold.
//! Apart because the log, recovery and the read path look at headers without trusting records.

use super::codec::Codec;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// The size of the fixed header of a batch, in bytes.
pub const HEADER_BYTES: usize = 61;
/// What the length field does not count: the base offset and itself.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// The only record format Kafka 4 knows (KIP-98); 0 and 1 ended with KIP-724.
pub const MAGIC: i8 = 2;
/// What a batch or record without a timestamp carries, in place of milliseconds.
pub const TIMESTAMP_NONE: i64 = -1;

/// Where each field starts; shared with those who write headers.
pub(super) mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
}

/// Where the byte lies that says the format, for those who look for batches in foreign bytes.
pub const MAGIC_AT: usize = at::MAGIC;
/// From where on a batch's checksum covers it: what a broker changes lies before.
pub const CRC_COVERS_FROM: usize = at::ATTRIBUTES;

/// The bits of the attributes field. Bits 7 to 15 are unused and ignored, as in Kafka.
pub(super) mod bit {
    pub const CODEC: i16 = 0b111;
    pub const APPEND_TIME: i16 = 1 << 3;
    pub const TRANSACTIONAL: i16 = 1 << 4;
    pub const CONTROL: i16 = 1 << 5;
    pub const DELETE_HORIZON: i16 = 1 << 6;
}

/// Who decided the timestamps of a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer: each record has its own.
    Create,
    /// The broker: every record has the batch's max timestamp, whatever its own field says.
    Append,
}

/// All fields of a batch's header, as they were on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset, or what was the first record's before compaction.
    pub base_offset: Offset,
    /// Bytes of the batch after this field; see [`BatchHeader::total_bytes`].
    pub length: i32,
    /// The epoch of the leader that appended the batch; −1 from a producer.
    pub leader_epoch: LeaderEpoch,
    /// The record format: [`MAGIC`].
    pub magic: i8,
    /// CRC-32C over everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags; ask the methods.
    pub attributes: i16,
    /// The last record's offset relative to the base offset; survives compaction.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970; records count from here. The first record's timestamp, or −1.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, milliseconds since 1970, or −1.
    pub max_timestamp: i64,
    /// The idempotent producer, or −1.
    pub producer_id: ProducerId,
    /// The idempotent producer's epoch; without meaning if there is none.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence; without meaning if there is no producer.
    pub base_sequence: Sequence,
    /// How many records follow: fewer than offsets after compaction, even zero (G57).
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header `bytes` begin with; `None` if there are fewer than [`HEADER_BYTES`].
    ///
    /// Formats 0 and 1 have other fields from byte 12 on: look at `magic` first.
    #[must_use]
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, at::BASE_OFFSET))),
            length: i32::from_be_bytes(field(bytes, at::LENGTH)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, at::LEADER_EPOCH))),
            magic: i8::from_be_bytes(field(bytes, at::MAGIC)),
            crc: u32::from_be_bytes(field(bytes, at::CRC)),
            attributes: i16::from_be_bytes(field(bytes, at::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(bytes, at::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, at::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, at::MAX_TIMESTAMP)),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, at::PRODUCER_ID))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, at::PRODUCER_EPOCH))),
            base_sequence: Sequence(i32::from_be_bytes(field(bytes, at::BASE_SEQUENCE))),
            record_count: i32::from_be_bytes(field(bytes, at::RECORD_COUNT)),
        })
    }

    /// The whole batch's size in bytes, by its own word.
    ///
    /// A negative length counts as zero; the sum is then below [`HEADER_BYTES`], which no whole
    /// batch is.
    #[must_use]
    #[inline]
    pub fn total_bytes(&self) -> usize {
        LENGTH_OVERHEAD_BYTES + usize::try_from(self.length).unwrap_or(0)
    }

    /// The last record's offset. Saturates where a forged header would overflow.
    #[must_use]
    #[inline]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// How the records are compressed; `None` for the three codes that mean nothing.
    #[must_use]
    #[inline]
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_code(self.attributes & bit::CODEC)
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    #[inline]
    pub fn is_transactional(&self) -> bool {
        self.attributes & bit::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record (a transaction marker) instead of data.
    #[must_use]
    #[inline]
    pub fn is_control(&self) -> bool {
        self.attributes & bit::CONTROL != 0
    }

    /// Whether compaction put a delete horizon where the base timestamp was (KIP-534).
    #[must_use]
    #[inline]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & bit::DELETE_HORIZON != 0
    }

    /// The wall clock, milliseconds, from which compaction may drop the batch's tombstones or markers;
    /// `None` where it has set none.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        self.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Who decided the timestamps.
    #[must_use]
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & bit::APPEND_TIME == 0 {
            TimestampType::Create
        } else {
            TimestampType::Append
        }
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    #[must_use]
    #[inline]
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The last record's sequence, wrapping as sequences do; none without a base sequence.
    #[must_use]
    #[inline]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 || self.last_offset_delta < 0 {
            return Sequence::NONE;
        }
        self.base_sequence.after(self.last_offset_delta)
    }
}

/// `N` bytes from `start`; both are constants of this file, so the bounds check folds away.
#[inline(always)]
fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[start..start + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    #[test]
    fn kafkas_headers_are_read_field_by_field() {
        let marker = goldens::bytes(goldens::MARKER);
        let header = BatchHeader::parse(&marker).expect("a golden");
        let expected = BatchHeader {
            base_offset: Offset(42),
            length: 66,
            leader_epoch: LeaderEpoch(5),
            magic: MAGIC,
            crc: 0xa8da_8731,
            attributes: bit::TRANSACTIONAL | bit::CONTROL,
            last_offset_delta: 0,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_000,
            producer_id: ProducerId(4711),
            producer_epoch: ProducerEpoch(3),
            base_sequence: Sequence::NONE,
            record_count: 1,
        };
        assert_eq!(header, expected);
        assert_eq!(header.total_bytes(), marker.len());
        assert!(header.is_control() && header.is_transactional() && header.has_producer());
        assert_eq!(header.last_sequence(), Sequence::NONE);
    }

    #[test]
    fn the_attributes_say_codec_time_and_flags() {
        let header = |golden| BatchHeader::parse(&goldens::bytes(golden)).expect("a golden");
        let codecs = [goldens::PLAIN, goldens::GZIP, goldens::SNAPPY, goldens::LZ4, goldens::ZSTD];
        assert_eq!(codecs.map(|golden| header(golden).codec()), Codec::ALL.map(Some));
        let append = header(goldens::STAMPED_APPEND_TIME);
        assert_eq!(append.timestamp_type(), TimestampType::Append);
        assert_eq!(append.last_offset(), Offset(1003));
        assert_eq!(header(goldens::PLAIN).timestamp_type(), TimestampType::Create);
        assert!(header(goldens::COMPACTED).has_delete_horizon());
        assert_eq!(header(goldens::IDEMPOTENT).last_sequence(), Sequence(1));
    }

    #[test]
    fn a_header_of_ones_breaks_no_method() {
        let header = BatchHeader::parse(&[0xff; HEADER_BYTES]).expect("61 bytes");
        assert_eq!(header.total_bytes(), LENGTH_OVERHEAD_BYTES);
        assert_eq!(header.last_offset(), Offset(-2));
        assert_eq!(header.codec(), None);
        assert_eq!(header.last_sequence(), Sequence::NONE);
        assert!(!header.has_producer());
    }

    #[test]
    fn the_largest_numbers_saturate_and_wrap() {
        let header = BatchHeader::parse(&[0x7f; HEADER_BYTES]).expect("61 bytes");
        assert_eq!(header.total_bytes(), 0x7f7f_7f7f + 12);
        assert_eq!(header.last_sequence(), Sequence(0x7efe_fefe));
        let mut bytes = [0x7f; HEADER_BYTES];
        bytes[..8].copy_from_slice(&i64::MAX.to_be_bytes());
        assert_eq!(BatchHeader::parse(&bytes).map(|h| h.last_offset()), Some(Offset(i64::MAX)));
    }

    #[test]
    fn sixty_bytes_are_no_header() {
        assert_eq!(BatchHeader::parse(&[0; HEADER_BYTES - 1]), None);
    }
}

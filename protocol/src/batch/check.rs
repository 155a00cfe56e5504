//! Judges what a produce request carries for one partition.
//!
//! Does: decide from the header and the CRC alone whether the bytes are one batch a producer may
//! send, and sum up what the log must know of it; on request, walk the records too.
//! Does not: know topics, sizes allowed by configuration, clocks or producer state; those judge
//! the [`ProducedBatch`] afterwards. Does not change a byte.
//! Invariants: one pass over the bytes (the CRC) and no allocation in [`check_produced`]; faults
//! are tried in a fixed order, what a damaged wire explains before what a wrong client explains.
//! Apart because the broker judges before it routes, and the judgement must be one function.

use std::ops::RangeInclusive;

use super::codec::Codec;
use super::header::{
    BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, MAGIC, TIMESTAMP_NONE, TimestampType, at,
};
use super::limits::{NAMED_RECORDS_MAX, inflated_bytes_max, record_count_max};
use super::records::{Record, RecordFault, RecordFaultReason, Records, records_within};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

/// Why a producer's bytes are refused. Each names the error Kafka 4.1 answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFault {
    /// Fewer bytes than a header, or than the batch says it has. Kafka finds no batch in them:
    /// INVALID_RECORD (87), or CORRUPT_MESSAGE (2) if the length cannot even hold a header.
    Truncated,
    /// The batch says it is shorter than its own header: CORRUPT_MESSAGE (2).
    LengthTooSmall,
    /// More bytes than the one batch a partition may have per request: INVALID_RECORD (87).
    MoreThanOneBatch,
    /// Format 0 or 1, which Kafka 4 dropped (KIP-724). Kafka answers INVALID_RECORD (87);
    /// UNSUPPORTED_FOR_MESSAGE_FORMAT (43) tells old clients more.
    MagicOld,
    /// A format nobody knows: CORRUPT_MESSAGE (2).
    MagicUnknown,
    /// The bytes are not those the producer summed: CORRUPT_MESSAGE (2), which clients retry.
    Crc,
    /// The base offset is not zero: INVALID_RECORD (87).
    BaseOffset,
    /// No record, more than the bytes have room for, or not as many as offsets: INVALID_RECORD (87).
    /// Kafka counts them all; a count that is wrong by less is found by [`check_records`] only.
    RecordCount,
    /// A control batch; only brokers write those: INVALID_RECORD (87).
    Control,
    /// A delete horizon; only compaction sets it. Kafka lets it pass and misreads the timestamps;
    /// we answer INVALID_RECORD (87).
    DeleteHorizon,
    /// A codec number without meaning. Kafka fails the whole request by accident;
    /// UNSUPPORTED_COMPRESSION_TYPE (76) is meant for this.
    CodecUnknown,
    /// The batch says the broker set its timestamps: INVALID_TIMESTAMP (32).
    AppendTime,
    /// A producer id without sequence or epoch, or a transaction without producer id:
    /// INVALID_RECORD (87).
    Producer,
}

/// The idempotent producer of a batch and which of its records these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchProducer {
    /// The producer's id; never negative.
    pub id: ProducerId,
    /// The producer's epoch; never negative.
    pub epoch: ProducerEpoch,
    /// The first record's sequence; never negative, none only in a coordinator's batch.
    pub base_sequence: Sequence,
    /// The last record's sequence; below the first where the numbers wrap, none where that is none.
    pub last_sequence: Sequence,
}

/// What the log must know of a batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// The whole batch's size, to be held against `max.message.bytes`.
    pub bytes: usize,
    /// How many records; at least one.
    pub record_count: i32,
    /// The last record's offset relative to the first's: one less than the count.
    pub last_offset_delta: i32,
    /// The first record's timestamp, milliseconds since 1970; −1: none.
    pub base_timestamp: i64,
    /// The largest timestamp by the producer's word. −1: none, or a client that leaves the field
    /// out; below the first record's: a client that puts the last record's here. In both cases
    /// [`check_records`] knows the true one.
    pub max_timestamp: i64,
    /// How the records are compressed.
    pub codec: Codec,
    /// Whether the records belong to a transaction; there is a producer then.
    pub transactional: bool,
    /// Who wrote it; `None` without idempotence.
    pub producer: Option<BatchProducer>,
}

impl ProducedBatch {
    /// Whether its largest timestamp can be believed: there is one, not below the first record's.
    #[must_use]
    #[inline]
    pub fn says_max_timestamp(&self) -> bool {
        self.max_timestamp != TIMESTAMP_NONE && self.max_timestamp >= self.base_timestamp
    }
}

/// Judges the bytes a produce request (version 3 or later) carries for one partition.
///
/// # Errors
/// The first [`BatchFault`] found.
pub fn check_produced(bytes: &[u8]) -> Result<ProducedBatch, BatchFault> {
    let found = check_coordinated(bytes)?;
    match &found.producer {
        Some(producer) if producer.base_sequence == Sequence::NONE => Err(BatchFault::Producer),
        Some(_) | None => Ok(found),
    }
}

/// As [`check_produced`], for a batch that a coordinator of this broker has built: its producer may have
/// no sequences, as Kafka's own coordinators give none to what they write in a transaction.
///
/// # Errors
/// The first [`BatchFault`] found.
pub fn check_coordinated(bytes: &[u8]) -> Result<ProducedBatch, BatchFault> {
    let header = check_envelope(bytes)?;
    if !crc_matches(bytes, header.crc) {
        return Err(BatchFault::Crc);
    }
    let codec = check_attributes(&header)?;
    if header.base_offset != Offset::ZERO {
        return Err(BatchFault::BaseOffset);
    }
    // Compared as they are: no sum that could overflow. None, or less than none, is a huge claim.
    let last_place = header.record_count.wrapping_sub(1);
    if last_place as u32 as usize >= record_count_max(codec, bytes.len() - HEADER_BYTES)
        || header.last_offset_delta != last_place
    {
        return Err(BatchFault::RecordCount);
    }
    Ok(ProducedBatch {
        bytes: bytes.len(),
        record_count: header.record_count,
        last_offset_delta: header.last_offset_delta,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        codec,
        transactional: header.is_transactional(),
        producer: check_producer(&header)?,
    })
}

/// Whether `batch` is whole, of format 2, and its bytes are those its CRC was computed over.
///
/// For batches that were accepted once: from the disk, from another broker. More bytes than the
/// one batch, or fewer, are a mismatch.
#[must_use]
pub fn verify_crc(batch: &[u8]) -> bool {
    check_envelope(batch).is_ok_and(|header| crc_matches(batch, header.crc))
}

/// What only a walk over the records can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The largest of the records' timestamps, milliseconds since 1970; −1: none has one.
    pub max_timestamp: i64,
    /// The records without a key, by their place in the batch, at most [`NAMED_RECORDS_MAX`]: a
    /// compacted topic refuses the batch with INVALID_RECORD (87) and names them all (KIP-467).
    pub without_key: Vec<i32>,
}

/// Walks every record of a batch that [`check_produced`] accepted, inflating it if need be.
///
/// Judges lengths, varints, headers and that offsets count up from the first by one. Costs a
/// decompression; bounded by [`inflated_bytes_max`] and by `allowance_bytes`, which it is taken off,
/// so that many batches of one request cost no more than one may.
///
/// # Errors
/// The first bad record, by its place in the batch. Kafka answers INVALID_RECORD (87).
pub fn check_records(
    batch: &[u8],
    allowance_bytes: &mut usize,
) -> Result<RecordsSummary, RecordFault> {
    let opened = open(batch, allowance_bytes)?;
    let mut summary = RecordsSummary::of_none();
    for (record_index, record) in (0..).zip(&opened) {
        summary.add(opened.header().base_offset, record_index, &record?)?;
    }
    Ok(summary)
}

impl RecordsSummary {
    /// Of no record so far.
    pub(super) fn of_none() -> Self {
        Self { max_timestamp: TIMESTAMP_NONE, without_key: Vec::new() }
    }

    /// Takes the next record in, whose offset must be its place from the first.
    pub(super) fn add(
        &mut self,
        base_offset: Offset,
        record_index: i32,
        record: &Record<'_>,
    ) -> Result<(), RecordFault> {
        let expected = base_offset.0.saturating_add(i64::from(record_index));
        if record.offset != Offset(expected) {
            return Err(RecordFault { record_index, reason: RecordFaultReason::OffsetDelta });
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        if record.key.is_none() && self.without_key.len() < NAMED_RECORDS_MAX {
            self.without_key.push(record_index);
        }
        Ok(())
    }
}

/// The records of a batch whose timestamps are not among `allowed` (milliseconds since 1970; −1,
/// none, always is), by their place, at most [`NAMED_RECORDS_MAX`].
///
/// For a batch that is refused by its header, so that its producer learns which records to leave out
/// (KIP-467). Costs what [`check_records`] does. Behind a record that cannot be read none is named.
#[must_use]
pub fn misdated_records(
    batch: &[u8],
    allowed: &RangeInclusive<i64>,
    allowance_bytes: &mut usize,
) -> Vec<i32> {
    let Ok(opened) = open(batch, allowance_bytes) else { return Vec::new() };
    let readable = (0..).zip(opened.iter().map_while(Result::ok));
    let misdated = readable.filter(|(_, record)| is_misdated(record, allowed));
    misdated.map(|(place, _)| place).take(NAMED_RECORDS_MAX).collect()
}

/// Whether a record has a time, and one that is not allowed.
pub(super) fn is_misdated(record: &Record<'_>, allowed: &RangeInclusive<i64>) -> bool {
    record.timestamp != TIMESTAMP_NONE && !allowed.contains(&record.timestamp)
}

/// Opens a batch's records, within what any batch may inflate to and what is left to inflate.
fn open<'batch>(
    batch: &'batch [u8],
    allowance_bytes: &mut usize,
) -> Result<Records<'batch>, RecordFault> {
    let limit_bytes = inflated_bytes_max(batch.len()).min(*allowance_bytes);
    let mut left_bytes = limit_bytes;
    let opened = records_within(batch, &mut left_bytes);
    *allowance_bytes -= limit_bytes - left_bytes;
    opened
}

/// Size and format: what must hold before any other field means something.
fn check_envelope(bytes: &[u8]) -> Result<BatchHeader, BatchFault> {
    // Formats 0 and 1 may be shorter than a header, and have their magic in the same place.
    let magic = bytes.get(at::MAGIC).map(|&byte| i8::from_be_bytes([byte]));
    match magic {
        None => return Err(BatchFault::Truncated),
        Some(MAGIC) => {}
        Some(0 | 1) => return Err(BatchFault::MagicOld),
        Some(_) => return Err(BatchFault::MagicUnknown),
    }
    let header = BatchHeader::parse(bytes).ok_or(BatchFault::Truncated)?;
    let total_bytes = header.total_bytes();
    if total_bytes < HEADER_BYTES {
        return Err(BatchFault::LengthTooSmall);
    }
    if total_bytes > bytes.len() {
        return Err(BatchFault::Truncated);
    }
    if total_bytes < bytes.len() {
        return Err(BatchFault::MoreThanOneBatch);
    }
    Ok(header)
}

fn crc_matches(batch: &[u8], crc: u32) -> bool {
    crc32c::crc32c(&batch[CRC_COVERS_FROM..]) == crc
}

fn check_attributes(header: &BatchHeader) -> Result<Codec, BatchFault> {
    if header.is_control() {
        return Err(BatchFault::Control);
    }
    if header.has_delete_horizon() {
        return Err(BatchFault::DeleteHorizon);
    }
    if header.timestamp_type() == TimestampType::Append {
        return Err(BatchFault::AppendTime);
    }
    header.codec().ok_or(BatchFault::CodecUnknown)
}

/// Epoch and sequence mean something only if there is a producer id: clients without idempotence
/// are known to leave zeros there.
fn check_producer(header: &BatchHeader) -> Result<Option<BatchProducer>, BatchFault> {
    if !header.has_producer() {
        return if header.is_transactional() || header.producer_id != ProducerId::NONE {
            Err(BatchFault::Producer)
        } else {
            Ok(None)
        };
    }
    let (base_sequence, epoch) = (header.base_sequence, header.producer_epoch);
    if epoch.0 < 0 || base_sequence.0 < Sequence::NONE.0 {
        return Err(BatchFault::Producer);
    }
    let last_sequence = match base_sequence {
        Sequence::NONE => Sequence::NONE,
        _some => header.last_sequence(),
    };
    Ok(Some(BatchProducer { id: header.producer_id, epoch, base_sequence, last_sequence }))
}

#[cfg(test)]
mod tests {
    use super::super::builder::{BatchBuilder, NewRecord};
    use super::super::codec::{CodecFault, compress};
    use super::super::goldens;
    use super::super::header::bit;
    use super::super::limits::{INFLATED_BYTES_MAX, RECORD_BYTES_MIN};
    use super::super::stamp::stamp_crc;
    use super::*;

    const PRODUCED: [&str; 7] = [
        goldens::PLAIN,
        goldens::GZIP,
        goldens::SNAPPY,
        goldens::LZ4,
        goldens::ZSTD,
        goldens::IDEMPOTENT,
        goldens::TRANSACTIONAL,
    ];

    /// `PLAIN` with `field` written over it at `place`, and a true CRC.
    fn altered(place: usize, field: &[u8]) -> Vec<u8> {
        let mut batch = goldens::bytes(goldens::PLAIN);
        batch[place..place + field.len()].copy_from_slice(field);
        stamp_crc(&mut batch);
        batch
    }

    /// With as much as one batch may inflate to.
    fn check_alone(batch: &[u8]) -> Result<RecordsSummary, RecordFault> {
        check_records(batch, &mut { INFLATED_BYTES_MAX })
    }

    fn fault_of(place: usize, field: &[u8]) -> Option<BatchFault> {
        check_produced(&altered(place, field)).err()
    }

    #[test]
    fn what_kafkas_producers_write_is_accepted() {
        for golden in PRODUCED {
            let bytes = goldens::bytes(golden);
            let batch = check_produced(&bytes).expect("accepted");
            assert_eq!(batch.bytes, bytes.len());
            let summary = check_alone(&bytes).expect("sound");
            assert_eq!(summary.max_timestamp, batch.max_timestamp);
            let transactional = golden == goldens::TRANSACTIONAL;
            assert_eq!(batch.transactional, transactional);
            assert_eq!(summary.without_key, if transactional { &[][..] } else { &[1] });
        }
    }

    #[test]
    fn the_summary_says_who_wrote_it() {
        let batch = check_produced(&goldens::bytes(goldens::IDEMPOTENT)).expect("accepted");
        let producer = BatchProducer {
            id: ProducerId(4711),
            epoch: ProducerEpoch(3),
            base_sequence: Sequence(i32::MAX - 1),
            last_sequence: Sequence(1),
        };
        let expected = ProducedBatch {
            bytes: 176,
            record_count: 4,
            last_offset_delta: 3,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_500,
            codec: Codec::None,
            transactional: false,
            producer: Some(producer),
        };
        assert_eq!(batch, expected);
    }

    #[test]
    fn sizes_are_exact() {
        let whole = goldens::bytes(goldens::PLAIN);
        for length in 0..whole.len() {
            let cut = check_produced(&whole[..length]);
            assert_eq!(cut, Err(BatchFault::Truncated), "{length}");
        }
        let two = whole.repeat(2);
        assert_eq!(check_produced(&two), Err(BatchFault::MoreThanOneBatch));
        let garbage = [&whole[..], &[0]].concat();
        assert_eq!(check_produced(&garbage), Err(BatchFault::MoreThanOneBatch));
        for length in [48, 0, -1, i32::MIN] {
            let fault = fault_of(at::LENGTH, &length.to_be_bytes());
            assert_eq!(fault, Some(BatchFault::LengthTooSmall), "{length}");
        }
        let fault = fault_of(at::LENGTH, &i32::MAX.to_be_bytes());
        assert_eq!(fault, Some(BatchFault::Truncated));
    }

    #[test]
    fn other_formats_are_named() {
        assert_eq!(fault_of(at::MAGIC, &[0]), Some(BatchFault::MagicOld));
        assert_eq!(fault_of(at::MAGIC, &[1]), Some(BatchFault::MagicOld));
        assert_eq!(fault_of(at::MAGIC, &[3]), Some(BatchFault::MagicUnknown));
        assert_eq!(fault_of(at::MAGIC, &[0xff]), Some(BatchFault::MagicUnknown));
        // A message of format 1 is shorter than a header.
        let mut old = vec![0; 34];
        old[at::MAGIC] = 1;
        assert_eq!(check_produced(&old), Err(BatchFault::MagicOld));
    }

    #[test]
    fn each_field_has_its_fault() {
        let cases: [(usize, &[u8], BatchFault); 14] = [
            (at::BASE_OFFSET, &1i64.to_be_bytes(), BatchFault::BaseOffset),
            (at::ATTRIBUTES, &bit::CONTROL.to_be_bytes(), BatchFault::Control),
            (at::ATTRIBUTES, &bit::DELETE_HORIZON.to_be_bytes(), BatchFault::DeleteHorizon),
            (at::ATTRIBUTES, &bit::APPEND_TIME.to_be_bytes(), BatchFault::AppendTime),
            (at::ATTRIBUTES, &5i16.to_be_bytes(), BatchFault::CodecUnknown),
            (at::ATTRIBUTES, &7i16.to_be_bytes(), BatchFault::CodecUnknown),
            (at::ATTRIBUTES, &bit::TRANSACTIONAL.to_be_bytes(), BatchFault::Producer),
            (at::LAST_OFFSET_DELTA, &4i32.to_be_bytes(), BatchFault::RecordCount),
            (at::LAST_OFFSET_DELTA, &i32::MAX.to_be_bytes(), BatchFault::RecordCount),
            (at::RECORD_COUNT, &0i32.to_be_bytes(), BatchFault::RecordCount),
            (at::RECORD_COUNT, &i32::MIN.to_be_bytes(), BatchFault::RecordCount),
            (at::PRODUCER_ID, &(-2i64).to_be_bytes(), BatchFault::Producer),
            // An id, and then neither epoch nor sequence; an id and an epoch.
            (at::PRODUCER_ID, &9i64.to_be_bytes(), BatchFault::Producer),
            (at::PRODUCER_ID, &[0, 0, 0, 0, 0, 0, 0, 9, 0, 1], BatchFault::Producer),
        ];
        for (place, field, fault) in cases {
            assert_eq!(fault_of(place, field), Some(fault), "{place} {field:?}");
        }
        let nothing = [&(-1i32).to_be_bytes()[..], &0i32.to_be_bytes()].concat();
        let mut batch = altered(at::LAST_OFFSET_DELTA, &nothing[..4]);
        batch[at::RECORD_COUNT..HEADER_BYTES].copy_from_slice(&nothing[4..]);
        stamp_crc(&mut batch);
        assert_eq!(check_produced(&batch), Err(BatchFault::RecordCount));
    }

    #[test]
    fn no_more_records_are_claimed_than_there_is_room_for() {
        let claiming = |golden: &str, count: i32| {
            let mut batch = goldens::bytes(golden);
            batch[at::LAST_OFFSET_DELTA..at::BASE_TIMESTAMP]
                .copy_from_slice(&(count - 1).to_be_bytes());
            batch[at::RECORD_COUNT..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
            stamp_crc(&mut batch);
            check_produced(&batch).err()
        };
        // 115 bytes of records.
        assert_eq!(claiming(goldens::PLAIN, 115 / 7), None);
        assert_eq!(claiming(goldens::PLAIN, 115 / 7 + 1), Some(BatchFault::RecordCount));
        // Compressed ones may inflate to a MiB, however few bytes they are.
        assert_eq!(claiming(goldens::ZSTD, (1 << 20) / 7), None);
        assert_eq!(claiming(goldens::ZSTD, (1 << 20) / 7 + 1), Some(BatchFault::RecordCount));
        for golden in PRODUCED {
            assert_eq!(claiming(golden, i32::MAX), Some(BatchFault::RecordCount));
            assert_eq!(claiming(golden, i32::MIN + 1), Some(BatchFault::RecordCount));
        }
        // The smallest record there is.
        let mut builder = BatchBuilder::new();
        let smallest = NewRecord { timestamp: 1, key: None, value: None, headers: &[] };
        (0..9).for_each(|_| builder.push(&smallest));
        let batch = builder.finish();
        assert_eq!(batch.len(), HEADER_BYTES + 9 * RECORD_BYTES_MIN);
        assert!(check_produced(&batch).is_ok());
    }

    #[test]
    fn habits_of_real_clients_are_forgiven() {
        // Old sarama leaves the max timestamp out, and a sequence of zero in.
        assert_eq!(fault_of(at::MAX_TIMESTAMP, &(-1i64).to_be_bytes()), None);
        // A client in Go has the last record's time there, be it before the first one's.
        assert_eq!(fault_of(at::MAX_TIMESTAMP, &5i64.to_be_bytes()), None);
        assert_eq!(fault_of(at::BASE_SEQUENCE, &0i32.to_be_bytes()), None);
        // Attribute bits without meaning.
        assert_eq!(fault_of(at::ATTRIBUTES, &0x7f80i16.to_be_bytes()), None);
        // The leader epoch is the broker's to write, whatever stands there.
        assert_eq!(fault_of(at::LEADER_EPOCH, &77i32.to_be_bytes()), None);
    }

    #[test]
    fn every_flipped_bit_is_found_except_where_the_broker_writes() {
        for golden in PRODUCED {
            let whole = goldens::bytes(golden);
            for place in 0..whole.len() * 8 {
                let mut batch = whole.clone();
                batch[place / 8] ^= 1 << (place % 8);
                let epoch = (at::LEADER_EPOCH..at::MAGIC).contains(&(place / 8));
                assert_eq!(check_produced(&batch).is_ok(), epoch, "bit {place}");
            }
        }
    }

    #[test]
    fn flipped_bits_under_a_true_crc_panic_nowhere() {
        for golden in PRODUCED.into_iter().chain([goldens::COMPACTED, goldens::MARKER]) {
            let whole = goldens::bytes(golden);
            for place in 0..whole.len() * 8 {
                let mut batch = whole.clone();
                batch[place / 8] ^= 1 << (place % 8);
                stamp_crc(&mut batch);
                // Any answer will do, as long as it is one.
                let _ = check_produced(&batch);
                let _ = check_alone(&batch);
                let _ = super::super::records::max_timestamp_record(&batch);
            }
        }
    }

    #[test]
    fn the_crc_of_stored_batches_is_verified() {
        for golden in [goldens::STAMPED, goldens::COMPACTED, goldens::EMPTIED, goldens::MARKER] {
            let mut batch = goldens::bytes(golden);
            assert!(verify_crc(&batch));
            assert!(!verify_crc(&batch[..batch.len() - 1]));
            *batch.last_mut().expect("not empty") ^= 1;
            assert!(!verify_crc(&batch));
        }
    }

    #[test]
    fn a_bad_record_is_named_by_its_place() {
        let reason = |place, byte| check_alone(&altered(place, &[byte])).err();
        let fault = |record_index, reason| Some(RecordFault { record_index, reason });
        // The first record: length (52), attributes, timestamp, offset, key length, …
        let first = HEADER_BYTES;
        assert_eq!(reason(first, 0x7f), fault(0, RecordFaultReason::Length));
        assert_eq!(reason(first, 0x69), fault(0, RecordFaultReason::Length));
        assert_eq!(reason(first + 3, 2), fault(0, RecordFaultReason::OffsetDelta));
        assert_eq!(reason(first + 4, 3), fault(0, RecordFaultReason::Field));
        assert_eq!(reason(first + 42, 6), fault(0, RecordFaultReason::Header));
        assert_eq!(reason(first + 42, 5), fault(0, RecordFaultReason::Header));
        assert_eq!(reason(first + 42, 2), fault(0, RecordFaultReason::Surplus));
        // The second: length (38), attributes, timestamp of two bytes, offset.
        assert_eq!(reason(first + 53 + 4, 0), fault(1, RecordFaultReason::OffsetDelta));
        // One record less than there are, and one more.
        let count = at::RECORD_COUNT + 3;
        assert_eq!(reason(count, 3), fault(3, RecordFaultReason::RecordCount));
        assert_eq!(reason(count, 5), fault(4, RecordFaultReason::Length));
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let value = vec![0; 2 << 20];
        let mut builder = BatchBuilder::new();
        builder.push(&NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
        let plain = builder.finish();
        for codec in Codec::ALL.into_iter().filter(|&codec| codec != Codec::None) {
            let mut bomb = plain[..HEADER_BYTES].to_vec();
            bomb.extend(compress(codec, &plain[HEADER_BYTES..]));
            let length = (bomb.len() - 12) as i32;
            bomb[at::LENGTH..at::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
            bomb[at::ATTRIBUTES..at::LAST_OFFSET_DELTA]
                .copy_from_slice(&codec.code().to_be_bytes());
            stamp_crc(&mut bomb);
            assert!(check_produced(&bomb).is_ok());
            // Two mebibytes of zeros: beyond the ratio in zstd, within it in the others.
            let refused = check_alone(&bomb).err().map(|fault| fault.reason);
            let over_limit = RecordFaultReason::Codec(CodecFault::OverLimit);
            let expected = (codec == Codec::Zstd).then_some(over_limit);
            assert_eq!(refused, expected, "{}", codec.name());
        }
    }

    #[test]
    fn records_out_of_time_are_named() {
        // Four records: TIME, half a second later, a second earlier, half a second later.
        const TIME: i64 = 1_700_000_000_000;
        let named = |batch: &[u8], allowed| misdated_records(batch, &allowed, &mut { 1000 });
        for golden in [goldens::PLAIN, goldens::ZSTD] {
            let batch = goldens::bytes(golden);
            assert_eq!(named(&batch, TIME - 1000..=TIME + 500), [0; 0]);
            assert_eq!(named(&batch, TIME - 1000..=TIME + 499), [1, 3]);
            assert_eq!(named(&batch, TIME..=TIME + 500), [2]);
            assert_eq!(named(&batch, 0..=5), [0, 1, 2, 3]);
        }
        // Records without a time are of no wrong one.
        let mut builder = BatchBuilder::new();
        let record = NewRecord { timestamp: -1, key: None, value: None, headers: &[] };
        builder.push(&record);
        builder.push(&NewRecord { timestamp: 7, ..record });
        let batch = builder.finish();
        assert_eq!(named(&batch, 1..=5), [1]);
        assert_eq!(named(&batch[..HEADER_BYTES], 1..=5), [0; 0]);
    }

    #[test]
    fn what_batches_inflate_to_is_taken_off_one_allowance() {
        let mut allowance_bytes = 400;
        let (plain, gzip) = (goldens::bytes(goldens::PLAIN), goldens::bytes(goldens::GZIP));
        let over_limit = RecordFaultReason::Codec(CodecFault::OverLimit);
        let mut walk = |batch: &[u8]| {
            let outcome = check_records(batch, &mut allowance_bytes);
            (outcome.err().map(|fault| fault.reason), allowance_bytes)
        };
        // What is not compressed costs nothing.
        assert_eq!(walk(&plain), (None, 400));
        assert_eq!(walk(&gzip), (None, 285));
        assert_eq!(walk(&gzip), (None, 170));
        // What cannot be read costs as much as was inflated until that was known.
        let mut broken = gzip.clone();
        let crc_place = broken.len() - 8;
        broken[crc_place] ^= 1;
        let malformed = RecordFaultReason::Codec(CodecFault::Malformed);
        assert_eq!(walk(&broken), (Some(malformed), 55));
        assert_eq!(walk(&gzip), (Some(over_limit), 0));
        assert_eq!(walk(&plain), (None, 0));
    }
}

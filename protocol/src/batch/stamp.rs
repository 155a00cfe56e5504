//! What the broker writes into a producer's batch, and nothing else may.
//!
//! Does: write the offset and leader epoch a batch gets when it is appended, and the timestamp on
//! topics with `message.timestamp.type=LogAppendTime`.
//! Does not: judge the batch; all expect one that `check` accepted.
//! Invariants: `stamp` leaves the CRC true because it writes only what the CRC does not cover;
//! the timestamp setters leave it true because they compute it again.
//! Apart because these are the only writes into bytes that are otherwise kept as they came.

use super::check::{ProducedBatch, check_records};
use super::header::{CRC_COVERS_FROM, HEADER_BYTES, at, bit};
use super::records::RecordFault;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Gives the batch its place: base offset and leader epoch. The CRC covers neither (G48).
///
/// # Panics
/// When `batch` is shorter than a header: nothing was checked, which is our own bug.
#[inline]
pub fn stamp(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_BYTES, "stamping what is not a batch");
    batch[at::BASE_OFFSET..at::LENGTH].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[at::LEADER_EPOCH..at::MAGIC].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Gives all records of the batch the broker's time, milliseconds since 1970 (G49).
///
/// Sets the append-time bit and the max timestamp; the records' own timestamps stay and are
/// ignored by readers. Costs a CRC over the whole batch.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp_append_time(batch: &mut [u8], now_ms: i64) {
    assert!(batch.len() >= HEADER_BYTES, "stamping what is not a batch");
    // The low byte of the attributes: bit 3 lives there.
    batch[at::ATTRIBUTES + 1] |= bit::APPEND_TIME as u8;
    stamp_max_timestamp(batch, now_ms);
}

/// Writes the max timestamp, milliseconds since 1970, and the CRC that follows from it.
///
/// For batches of producers that leave the field at −1 or write another record's time there: Kafka
/// repairs it with the largest of the records' own ([`RecordsSummary::max_timestamp`](super::check::RecordsSummary::max_timestamp)).
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp_max_timestamp(batch: &mut [u8], max_timestamp_ms: i64) {
    assert!(batch.len() >= HEADER_BYTES, "stamping what is not a batch");
    batch[at::MAX_TIMESTAMP..at::PRODUCER_ID].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    stamp_crc(batch);
}

/// Gives a batch whose producer left the max timestamp at −1, or below the first record's, the
/// largest of its records' own, as Kafka does: without it no look-up by time finds them, and
/// retention takes them for undated. Every other batch is left alone, unread. What is inflated for it is taken off `allowance_bytes`.
///
/// # Errors
/// The first bad record: INVALID_RECORD (87).
///
/// # Panics
/// When `summary` is of another batch.
pub fn repair_max_timestamp(
    batch: &mut [u8],
    summary: &mut ProducedBatch,
    allowance_bytes: &mut usize,
) -> Result<(), RecordFault> {
    assert_eq!(batch.len(), summary.bytes, "the summary is of this batch");
    if summary.says_max_timestamp() {
        return Ok(());
    }
    let largest = check_records(batch, allowance_bytes)?.max_timestamp;
    correct_max_timestamp(batch, summary, largest);
    Ok(())
}

/// Writes the largest timestamp of a batch, which its records were asked for, where it says another.
pub fn correct_max_timestamp(batch: &mut [u8], summary: &mut ProducedBatch, largest: i64) {
    if largest != summary.max_timestamp {
        stamp_max_timestamp(batch, largest);
        summary.max_timestamp = largest;
    }
}

/// Writes what a producer decides anew for each batch it sends: the time of all its records,
/// milliseconds since 1970, and whose they are; then the CRC over the batch as it stands.
///
/// For load generators, which send the same records again and again. The records' own timestamps
/// are relative to the base and follow it.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp_as_producer(
    batch: &mut [u8],
    now_ms: i64,
    producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
) {
    assert!(batch.len() >= HEADER_BYTES, "stamping what is not a batch");
    let none = (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE);
    let (id, epoch, base_sequence) = producer.unwrap_or(none);
    batch[at::BASE_TIMESTAMP..at::MAX_TIMESTAMP].copy_from_slice(&now_ms.to_be_bytes());
    batch[at::MAX_TIMESTAMP..at::PRODUCER_ID].copy_from_slice(&now_ms.to_be_bytes());
    batch[at::PRODUCER_ID..at::PRODUCER_EPOCH].copy_from_slice(&id.0.to_be_bytes());
    batch[at::PRODUCER_EPOCH..at::BASE_SEQUENCE].copy_from_slice(&epoch.0.to_be_bytes());
    batch[at::BASE_SEQUENCE..at::RECORD_COUNT].copy_from_slice(&base_sequence.0.to_be_bytes());
    stamp_crc(batch);
}

/// Computes the CRC over the batch as it stands and writes it.
pub(super) fn stamp_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::check::{check_produced, verify_crc};
    use super::super::goldens;
    use super::super::header::TIMESTAMP_NONE;
    use super::*;

    #[test]
    fn a_stamped_batch_is_the_one_kafka_stamps() {
        let mut batch = goldens::bytes(goldens::PLAIN);
        stamp(&mut batch, Offset(1000), LeaderEpoch(7));
        assert_eq!(batch, goldens::bytes(goldens::STAMPED));
        stamp_append_time(&mut batch, 1_700_000_009_999);
        assert_eq!(batch, goldens::bytes(goldens::STAMPED_APPEND_TIME));
    }

    #[test]
    fn a_max_timestamp_left_out_or_too_small_is_found_in_the_records() {
        for golden in [goldens::PLAIN, goldens::GZIP, goldens::SNAPPY, goldens::LZ4, goldens::ZSTD]
        {
            let sound = goldens::bytes(golden);
            let wanted = check_produced(&sound).expect("sound");
            let mut batch = sound.clone();
            // Or the time of a record before the first.
            for wrong in [TIMESTAMP_NONE, wanted.base_timestamp - 1000] {
                stamp_max_timestamp(&mut batch, wrong);
                let mut summary = check_produced(&batch).expect("accepted");
                repair_max_timestamp(&mut batch, &mut summary, &mut (1 << 20)).expect("readable");
                assert_eq!((&batch, summary), (&sound, wanted));
            }
        }
        // A record that cannot be read is refused, not kept without a time.
        let mut broken = goldens::bytes(goldens::PLAIN);
        broken[HEADER_BYTES] = 0xff;
        stamp_max_timestamp(&mut broken, TIMESTAMP_NONE);
        let mut summary = check_produced(&broken).expect("the header is sound");
        assert!(repair_max_timestamp(&mut broken, &mut summary, &mut (1 << 20)).is_err());
    }

    #[test]
    fn a_producer_stamps_time_and_identity() {
        let mut batch = goldens::bytes(goldens::ZSTD);
        let whose = (ProducerId(7), ProducerEpoch(3), Sequence(41));
        stamp_as_producer(&mut batch, 1_700_000_000_123, Some(whose));
        let summary = check_produced(&batch).expect("sound");
        assert_eq!(summary.max_timestamp, 1_700_000_000_123);
        let header = super::super::header::BatchHeader::parse(&batch).expect("a header");
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), whose);
        assert_eq!(header.base_timestamp, 1_700_000_000_123);
        stamp_as_producer(&mut batch, 5, None);
        assert!(verify_crc(&batch) && check_produced(&batch).expect("sound").producer.is_none());
    }

    #[test]
    fn the_crc_stays_true() {
        for golden in [goldens::PLAIN, goldens::ZSTD, goldens::IDEMPOTENT] {
            let mut batch = goldens::bytes(golden);
            stamp(&mut batch, Offset(i64::MAX), LeaderEpoch(i32::MAX));
            assert!(verify_crc(&batch));
            stamp_max_timestamp(&mut batch, -1);
            assert!(verify_crc(&batch));
        }
    }
}

//! Record batches: judging, walking, opening, stamping.
//!
//! Oracle: what passes for a producer's batch has a right checksum and keeps it when it is stamped; its
//! records are as many as it says and lie where it says, looked into at once or in pieces; packed anew with
//! any codec they are the same; a walk over batches hands out whole ones and moves forward; whatever the
//! bytes are, looking into them ends.

use bytes::Bytes;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::{
    ProducedBatch, RecordsSummary, check_produced, check_records, misdated_records, verify_crc,
};
use flumen_protocol::batch::codec::{Codec, compress};
use flumen_protocol::batch::header::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, MAGIC, MAGIC_AT};
use flumen_protocol::batch::inspection::Inspection;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::payload::Payload;
use flumen_protocol::batch::records::{
    RecordFault, first_at_or_after, max_timestamp_record, records, records_within,
};
use flumen_protocol::batch::repacking::Repacking;
use flumen_protocol::batch::stamp::{repair_max_timestamp, stamp, stamp_append_time};
use flumen_protocol::ids::{LeaderEpoch, Offset};

use crate::draw::Draw;

/// Where a batch's length lies.
const LENGTH: std::ops::Range<usize> = 8..12;
/// Where its checksum lies.
const CRC: std::ops::Range<usize> = MAGIC_AT + 1..CRC_COVERS_FROM;
/// Where its attributes lie, codec in the lowest bits of the second byte.
const ATTRIBUTES_LOW: usize = CRC_COVERS_FROM + 1;

/// What is mended before they are looked at, then the bytes.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mode = draw.byte();
    let mut bytes = draw.rest().to_vec();
    if mode & 1 == 1 {
        mend(&mut bytes);
    }
    if mode & 2 == 2 && bytes.len() >= HEADER_BYTES {
        bytes[..8].fill(0);
    }
    is_walked(&bytes);
    is_opened(&bytes);
    if let Ok(summary) = check_produced(&bytes) {
        is_what_the_header_says(&bytes, &summary);
        keeps_its_promises(bytes, summary);
    }
}

/// Gives bytes the length, format and checksum of one batch.
pub fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let length = (bytes.len() - LENGTH.end) as i32;
    bytes[LENGTH].copy_from_slice(&length.to_be_bytes());
    bytes[MAGIC_AT] = MAGIC as u8;
    let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
}

fn is_walked(bytes: &[u8]) {
    let mut walk = batches(bytes);
    let mut at = 0;
    while let Some(found) = walk.next() {
        let Ok(batch) = found else {
            assert!(walk.next().is_none(), "the first fault ends the walk");
            break;
        };
        assert_eq!(batch.bytes, &bytes[at..at + batch.bytes.len()]);
        assert!(batch.bytes.len() >= HEADER_BYTES && batch.header.magic == MAGIC);
        at += batch.bytes.len();
        assert_eq!(walk.position(), at);
    }
}

/// Bytes nobody judged, as the disk may give them.
fn is_opened(bytes: &[u8]) {
    let Ok(opened) = records(bytes, 1 << 16) else { return };
    let mut sound = 0;
    for record in &opened {
        let Ok(record) = record else { break };
        let _headers = record.headers.count();
        sound += 1;
    }
    assert!(sound <= i64::from(opened.header().record_count.max(0)));
    let header = opened.header();
    for from in [Offset(i64::MIN), header.base_offset, header.last_offset()] {
        let found = first_at_or_after(bytes, from, 0, 1 << 16);
        assert!(found.is_none_or(|(offset, timestamp)| offset >= from && timestamp >= 0));
    }
    let _largest = max_timestamp_record(bytes);
}

fn is_what_the_header_says(bytes: &[u8], summary: &ProducedBatch) {
    let header = BatchHeader::parse(bytes).expect("a header");
    assert!(verify_crc(bytes) && summary.bytes == bytes.len());
    assert!(summary.record_count > 0 && summary.last_offset_delta == summary.record_count - 1);
    assert_eq!(header.last_offset(), Offset(i64::from(summary.last_offset_delta)));
    assert!(!summary.transactional || summary.producer.is_some());
    if let Some(producer) = summary.producer {
        assert!(producer.id.0 >= 0 && producer.epoch.0 >= 0);
        assert!(producer.base_sequence.0 >= 0 && producer.last_sequence.0 >= 0);
    }
}

/// As the broker looks into what producers send.
fn is_the_same_in_pieces(
    bytes: &[u8],
    walked: &Result<RecordsSummary, RecordFault>,
    allowance: usize,
) {
    let allowed = 0..=i64::MAX;
    let batch = Bytes::copy_from_slice(bytes);
    for piece in [300, usize::MAX] {
        let mut inspection = Inspection::begin(batch.clone(), allowed.clone(), allowance);
        let found = loop {
            if let Some(found) = inspection.go_on(&mut { piece }) {
                break found;
            }
        };
        assert_eq!((&found.summary, found.inflated_bytes <= allowance), (walked, true));
        if walked.is_ok() {
            assert_eq!(found.misdated, misdated_records(bytes, &allowed, &mut { allowance }));
        }
        let (whole, mut inflated) = inspection.into_parts();
        assert_eq!(whole, batch);
        if walked.is_ok() {
            is_the_same_packed_anew(&whole, inflated.as_ref(), piece);
        }
        while !inflated.give_back(&mut { piece }) {}
    }
}

/// As a topic keeps it that asks for a codec.
fn is_the_same_packed_anew(batch: &Bytes, inflated: &[u8], piece: usize) {
    for codec in Codec::ALL {
        let inflated = Payload::Inflated(inflated.to_vec());
        let mut repacking = Repacking::begin(batch, inflated, codec, 4 << 20);
        let packed = loop {
            if let Some(packed) = repacking.go_on(&mut { piece }) {
                break packed.expect("little became much");
            }
        };
        let mut expected = check_produced(batch).expect("it was accepted");
        (expected.codec, expected.bytes) = (codec, packed.len());
        assert_eq!(check_produced(&packed), Ok(expected));
        assert_eq!(check_records(&packed, &mut (4 << 20)), check_records(batch, &mut (4 << 20)));
    }
}

fn keeps_its_promises(mut bytes: Vec<u8>, mut summary: ProducedBatch) {
    let before = 1 << 20;
    let mut allowance = before;
    let walked = check_records(&bytes, &mut allowance);
    assert!(allowance <= before);
    is_the_same_in_pieces(&bytes, &walked, before);
    if let Ok(found) = &walked {
        let mut room = inflated_bytes_max(bytes.len());
        let opened = records_within(&bytes, &mut room).expect("it was opened before");
        let timestamps =
            || opened.iter().map(|record| record.expect("it was read before").timestamp);
        assert_eq!(timestamps().count(), summary.record_count as usize);
        assert_eq!(found.max_timestamp, timestamps().max().unwrap_or(-1).max(-1));
        let first = first_at_or_after(&bytes, Offset::ZERO, i64::MIN, 1 << 20);
        assert_eq!(first, timestamps().next().map(|timestamp| (Offset::ZERO, timestamp)));
        let misdated = misdated_records(&bytes, &(0..=i64::MAX), &mut (1 << 20));
        assert!(misdated.iter().all(|place| (0..summary.record_count).contains(place)));
    }
    let repaired = repair_max_timestamp(&mut bytes, &mut summary, &mut (1 << 20));
    assert!(repaired.is_ok() || walked.is_err());
    assert!(verify_crc(&bytes), "a repaired batch has a new checksum");
    stamp(&mut bytes, Offset(1000), LeaderEpoch(3));
    assert!(verify_crc(&bytes), "a stamp touches nothing that is summed");
    if summary.record_count > 0 && walked.is_ok() {
        stamp_append_time(&mut bytes, 77);
        assert!(verify_crc(&bytes));
        let first = first_at_or_after(&bytes, Offset::ZERO, 0, 1 << 20);
        assert_eq!(first, Some((Offset(1000), 77)));
    }
}

/// A batch of each codec, two at once, one with headers and nulls.
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = sample(3, 40);
    let mut seeds: Vec<Vec<u8>> =
        Codec::ALL.iter().map(|codec| [vec![1], packed(&plain, *codec)].concat()).collect();
    seeds.push([vec![0], plain.clone(), sample(1, 5)].concat());
    seeds.push([vec![0], plain[..plain.len() - 3].to_vec()].concat());
    let mut foreign = plain;
    foreign[..8].copy_from_slice(&77_i64.to_be_bytes());
    seeds.push([vec![3], foreign].concat());
    seeds
}

/// An uncompressed batch.
pub fn sample(record_count: u8, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for place in 0..record_count {
        let value = vec![place; value_bytes];
        let key = [place];
        builder.push(&NewRecord {
            timestamp: 1_000 + i64::from(place),
            key: (place % 2 == 0).then_some(&key[..]),
            value: Some(&value),
            headers: &[],
        });
    }
    builder.finish().to_vec()
}

/// The same batch, compressed.
pub fn packed(plain: &[u8], codec: Codec) -> Vec<u8> {
    let mut bytes = plain[..HEADER_BYTES].to_vec();
    bytes.extend(compress(codec, &plain[HEADER_BYTES..]));
    bytes[ATTRIBUTES_LOW] |= codec.code() as u8;
    mend(&mut bytes);
    bytes
}

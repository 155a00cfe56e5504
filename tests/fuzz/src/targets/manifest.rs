//! The manifest: what the segments of a core consist of.
//!
//! Oracle: any bytes are refused or add up to an image; the image's own records add up to the same;
//! a record that is read and written again is read back equal.

use flumen_storage::manifest::image::Image;
use flumen_storage::manifest::manifest::parse;
use flumen_storage::manifest::record::Record;
use flumen_storage::op::FileName;

use super::headers::IDENTITY;
use crate::draw::Draw;
use crate::filled;

const HEADER_BYTES: usize = 72;
const BLOCK_BYTES: usize = 4096;

/// Whether the file is as it is, or one or two chunks are made of the bytes; then the bytes.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let file = match draw.below(3) {
        0 => draw.rest().to_vec(),
        1 => chunk(1, 0, draw.rest()),
        _ => {
            let length = usize::from(draw.word());
            let first = chunk(1, 0, draw.slice(length));
            let crc = u32::from_le_bytes([first[64], first[65], first[66], first[67]]);
            let second = chunk(2, crc, draw.rest());
            [first, second].concat()
        }
    };
    if let Some(records) = file.get(HEADER_BYTES..).and_then(Record::decode_all) {
        are_written_back(&records);
    }
    let Ok(parsed) = parse(&file, &IDENTITY) else { return };
    let mut again = Image::default();
    for record in parsed.image.records() {
        are_written_back(std::slice::from_ref(&record));
        assert!(again.apply(record), "an image's own records contradict each other");
    }
    assert_eq!(again, parsed.image);
}

fn are_written_back(records: &[Record]) {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    assert_eq!(Record::decode_all(&bytes).as_deref(), Some(records));
}

/// A chunk of the manifest with a right checksum, padded.
fn chunk(sequence: u64, chain: u32, body: &[u8]) -> Vec<u8> {
    let mut out = b"FMAN\x02\0\0\0".to_vec();
    out.extend(sequence.to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(chain.to_le_bytes());
    out.extend(1_700_000_000_000_i64.to_le_bytes());
    out.extend(IDENTITY.encode());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend(crc.to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    out.extend(body);
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    out
}

/// The manifest of a folder that was lived in, as a file and as bodies of one and two chunks.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut file = filled::folder().disk.contents(FileName::Manifest).expect("a manifest").to_vec();
    let length = u32::from_le_bytes([file[16], file[17], file[18], file[19]]) as usize;
    let body = file[HEADER_BYTES..HEADER_BYTES + length].to_vec();
    let all = Record::decode_all(&body).expect("our own records");
    let some = |records: &[Record]| {
        let mut bytes = vec![1];
        records.iter().for_each(|record| record.encode(&mut bytes));
        bytes
    };
    let mut seeds: Vec<Vec<u8>> = all.chunks(3).take(8).map(some).collect();
    let half = (length as u16 / 2).to_le_bytes();
    seeds.push([&[2][..], &half, &body].concat());
    seeds.push([vec![1], body].concat());
    while file.last() == Some(&0) {
        file.pop();
    }
    seeds.push([vec![0], file].concat());
    seeds
}

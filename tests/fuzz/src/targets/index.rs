//! The index file of a segment.
//!
//! Oracle: whatever the file says, what is believed of it is in order and inside the segment, and every
//! offset of the segment is in a chunk that holds it, in a hole around it, or damaged.

use flumen_protocol::ids::Offset;
use flumen_storage::format::segment::{Chunk, ENTRY_BYTES, decode, encode_block};
use flumen_storage::op::Generation;
use flumen_storage::segment::index::{Place, SegmentIndex};
use flumen_storage::segment::segment::Segment;

use crate::draw::Draw;

/// How many offsets of a segment are looked up.
const LOOKUPS: usize = 8;

/// Whether to mend, base, length and end of the segment, offsets to look for, then the file.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mends = draw.byte() & 1 == 1;
    let base = draw.one_of(&[0, 1, 1_000_000, 1 << 60]);
    let records = 1 + i64::from(draw.word());
    let segment = Segment {
        base: Offset(base),
        generation: Generation::APPENDED,
        end: Offset(base + records),
        length: 1 + u64::from(draw.word()) * 16,
        first_timestamp: 5,
        max_timestamp: 5,
        written: 5,
    };
    let mut wanted = [0; LOOKUPS];
    wanted.iter_mut().for_each(|place| *place = base + i64::from(draw.word()) % records);
    let mut file = draw.rest().to_vec();
    if mends {
        file.chunks_exact_mut(ENTRY_BYTES).for_each(mend);
    }
    let chunks = decode(segment.base, &file);
    are_in_order(&chunks);
    let mut index = SegmentIndex::new(chunks, &segment, None);
    for offset in wanted.map(Offset) {
        let place = index.place(offset, &segment, None);
        is_true_of(place, offset, &segment);
        match place {
            Place::Covered(chunk) => {
                are_in_order(&index.run(chunk, None, 4096));
                index.amend(&chunk, Vec::new());
            }
            Place::Unknown(hole) => index.learn(Chunk {
                first: hole.first,
                end: hole.end,
                max_timestamp: 5,
                position: hole.position,
                length: hole.end_position - hole.position,
                crc: 0,
            }),
            Place::Damaged(from, until) => index.learn_damage(from, until),
        }
        is_true_of(index.place(offset, &segment, None), offset, &segment);
    }
}

fn mend(entry: &mut [u8]) {
    let crc = crc32c::crc32c(&entry[..ENTRY_BYTES - 4]);
    entry[ENTRY_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn are_in_order(chunks: &[Chunk]) {
    assert!(chunks.iter().all(|chunk| chunk.length > 0 && chunk.first < chunk.end));
    let follows =
        |two: &[Chunk]| two[0].end_position() <= two[1].position && two[0].end <= two[1].first;
    assert!(chunks.windows(2).all(follows), "{chunks:?}");
}

fn is_true_of(place: Place, offset: Offset, segment: &Segment) {
    let holds = |from: Offset, until: Offset| from <= offset && offset < until;
    match place {
        Place::Covered(chunk) => {
            assert!(holds(chunk.first, chunk.end), "{offset} in {chunk:?}");
            assert!(chunk.end <= segment.end && chunk.end_position() <= segment.length);
        }
        Place::Unknown(hole) => {
            assert!(holds(hole.first, hole.end), "{offset} in {hole:?}");
            assert!(hole.first >= segment.base && hole.end <= segment.end);
            assert!(hole.position < hole.end_position && hole.end_position <= segment.length);
        }
        Place::Damaged(from, until) => assert!(holds(from, until), "{offset} in {from}..{until}"),
    }
}

/// No entries, some, some with a gap between them, and garbage.
pub fn seeds() -> Vec<Vec<u8>> {
    let chunk = |number: i64, length: u64| Chunk {
        first: Offset(number * 10),
        end: Offset(number * 10 + 10),
        max_timestamp: 77,
        position: number as u64 * 100,
        length,
        crc: 9,
    };
    let before = |mends: u8| {
        let mut bytes = vec![mends, 0, 99, 0, 80, 0];
        (0..LOOKUPS as u8).for_each(|place| bytes.extend([place * 12, 0]));
        bytes
    };
    let file = |chunks: &[Chunk]| {
        let block = encode_block(Offset(0), chunks);
        [before(0), block[..(chunks.len() + 1) * ENTRY_BYTES].to_vec()].concat()
    };
    vec![
        file(&[]),
        file(&[chunk(0, 100), chunk(1, 100), chunk(2, 100)]),
        file(&[chunk(0, 50), chunk(4, 100), chunk(5, 100), chunk(9, 300)]),
        [before(1), vec![1; 4 * ENTRY_BYTES]].concat(),
    ]
}

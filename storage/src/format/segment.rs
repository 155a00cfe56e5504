//! The index file of a segment: what lies where, and checksums over it.
//!
//! Does: draw the bytes of one entry and of one block of entries.
//! Does not: look anything up, decide when an entry is written, or read files.
//! Invariants: an entry never straddles a block; a garbled entry is dropped, never believed; the
//! index is a cache, whatever is missing from it is learnt again from the segment itself (D23).
//! Apart because these bytes outlive the process that wrote them.
//!
//! ```text
//!  entry, 32 bytes, little-endian; 128 of them fill a block of 4 KiB, zeros mean "no more"
//!  0        4        8               16       20       24       28       32
//!  +--------+--------+---------------+--------+--------+--------+--------+
//!  | first  | end    | largest       | posi-  | length | crc32c | crc32c |
//!  | offset | offset | timestamp     | tion   |        | chunk  | 0..28  |
//!  +--------+--------+---------------+--------+--------+--------+--------+
//!  offsets count from the segment's base offset
//! ```

use bytes::Bytes;
use flumen_protocol::ids::Offset;

use crate::limits::BLOCK_BYTES;

/// The fields of an entry: offset, bytes, meaning. FORMAT.md is held against it.
#[cfg(test)]
pub(crate) const LAYOUT: [(usize, usize, &str); 7] = [
    (0, 4, "first offset, counted from the segment's base"),
    (4, 4, "offset after the last, counted from the segment's base"),
    (8, 8, "largest timestamp in milliseconds, -1 if none"),
    (16, 4, "position in the segment"),
    (20, 4, "length"),
    (24, 4, "checksum of the chunk's bytes"),
    (28, 4, "checksum of bytes 0 to 27"),
];

/// The size of one entry.
pub const ENTRY_BYTES: usize = 32;
/// How many entries fill a block.
pub const ENTRIES_PER_BLOCK: usize = BLOCK_BYTES / ENTRY_BYTES;
const _: () = assert!(ENTRIES_PER_BLOCK * ENTRY_BYTES == BLOCK_BYTES);

/// A run of whole batches in a segment, small enough to read at once, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of its first record.
    pub first: Offset,
    /// One after the offset of its last record.
    pub end: Offset,
    /// Largest timestamp in it, −1 if none has one.
    pub max_timestamp: i64,
    /// Where it begins in the segment, in bytes.
    pub position: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// CRC-32C over its bytes, which also covers what Kafka's own checksum leaves out (F7).
    pub crc: u32,
}

impl Chunk {
    /// Where the next chunk begins, in bytes.
    #[must_use]
    pub fn end_position(&self) -> u64 {
        self.position + self.length
    }
}

/// The bytes of one block that holds `chunks`, padded with zeros.
///
/// # Panics
/// With more chunks than fit a block, or with a chunk that lies before `base`: our own bugs.
#[must_use]
pub fn encode_block(base: Offset, chunks: &[Chunk]) -> Bytes {
    assert!(chunks.len() <= ENTRIES_PER_BLOCK, "{} entries in a block", chunks.len());
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    for chunk in chunks {
        let start = out.len();
        out.extend_from_slice(&relative(base, chunk.first).to_le_bytes());
        out.extend_from_slice(&relative(base, chunk.end).to_le_bytes());
        out.extend_from_slice(&chunk.max_timestamp.to_le_bytes());
        out.extend_from_slice(&u32::try_from(chunk.position).expect("position").to_le_bytes());
        out.extend_from_slice(&u32::try_from(chunk.length).expect("length").to_le_bytes());
        out.extend_from_slice(&chunk.crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }
    out.resize(BLOCK_BYTES, 0);
    Bytes::from(out)
}

/// Every believable chunk of an index file, in order of position, without overlaps.
///
/// Within a block reading stops at the first entry that is zero or garbled.
#[must_use]
pub fn decode(base: Offset, file: &[u8]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for block in file.chunks(BLOCK_BYTES) {
        let entries = block.chunks_exact(ENTRY_BYTES).map_while(|bytes| decode_entry(base, bytes));
        for chunk in entries {
            let follows = chunks.last().is_none_or(|last| {
                last.end_position() <= chunk.position && last.end <= chunk.first
            });
            if follows {
                chunks.push(chunk);
            }
        }
    }
    chunks
}

fn decode_entry(base: Offset, bytes: &[u8]) -> Option<Chunk> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let chunk = Chunk {
        first: base.after(i64::from(word(0))),
        end: base.after(i64::from(word(4))),
        max_timestamp: i64::from(word(8)) | (i64::from(word(12)) << 32),
        position: u64::from(word(16)),
        length: u64::from(word(20)),
        crc: word(24),
    };
    let sound = crc32c::crc32c(&bytes[..28]) == word(28);
    (sound && chunk.length > 0 && chunk.first < chunk.end).then_some(chunk)
}

fn relative(base: Offset, offset: Offset) -> u32 {
    u32::try_from(offset.0 - base.0).expect("an offset of a segment lies within u32 of its base")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first: i64, position: u64) -> Chunk {
        Chunk {
            first: Offset(first),
            end: Offset(first + 10),
            max_timestamp: -1,
            position,
            length: 100,
            crc: 7,
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_garbled_is_left_out() {
        let base = Offset(1_000_000_000_000);
        let chunks: Vec<Chunk> = (0..3).map(|n| chunk(base.0 + n * 10, n as u64 * 100)).collect();
        let mut file = encode_block(base, &chunks[..2]).to_vec();
        file.extend_from_slice(&encode_block(base, &chunks[2..]));
        assert_eq!(decode(base, &file), chunks);
        file[ENTRY_BYTES + 3] ^= 1;
        assert_eq!(decode(base, &file), vec![chunks[0], chunks[2]]);
        assert_eq!(decode(base, &file[..20]), vec![]);
    }
}

//! Two alternating copies of one small record: the newer good one counts.
//!
//! Does: lay a record out in one of two blocks, chosen by its generation, with a checksum; find
//! the newer readable one.
//! Does not: know what the record says.
//! Invariants: generation n lies in block n mod 2, so that writing one copy never touches the
//! other: a torn write leaves the record before it.
//! Apart because the node record and the watermark need the same guarantee.

use bytes::Bytes;

use crate::format::frame::{u32_at, u64_at};
use crate::limits::BLOCK_BYTES;

/// Size of a file of two copies.
pub const SLOT_FILE_BYTES: u64 = 2 * BLOCK_BYTES as u64;
/// Bytes before the body of a record.
pub const SLOT_HEADER_BYTES: usize = 24;
/// Where each field of a copy lies: offset, bytes, name. The body follows.
pub const SLOT_LAYOUT: [(usize, usize, &str); 6] = [
    (0, 4, "magic"),
    (4, 2, "format version"),
    (6, 2, "reserved, zero"),
    (8, 8, "generation"),
    (16, 4, "body length"),
    (20, 4, "CRC-32C of all other bytes of header and body"),
];

/// One copy and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotWrite {
    /// Where in the file.
    pub at: u64,
    /// The bytes; to be padded to a block.
    pub bytes: Bytes,
}

/// What a file of two copies holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Only zeros, or no bytes at all.
    Nothing,
    /// Bytes, but no readable copy.
    Unreadable,
    /// The newest copy is of a version not known here.
    Newer(u16),
    /// The newest readable copy.
    Record {
        /// How often it was written.
        generation: u64,
        /// What it says.
        body: &'a [u8],
    },
}

/// Lays out a copy.
///
/// # Panics
/// If the body does not fit into a block.
#[must_use]
pub fn encode(magic: [u8; 4], version: u16, generation: u64, body: &[u8]) -> SlotWrite {
    assert!(body.len() <= BLOCK_BYTES - SLOT_HEADER_BYTES, "record fits its block");
    let mut out = vec![0; SLOT_HEADER_BYTES + body.len()];
    out[..4].copy_from_slice(&magic);
    out[4..6].copy_from_slice(&version.to_le_bytes());
    out[8..16].copy_from_slice(&generation.to_le_bytes());
    out[16..20].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out[SLOT_HEADER_BYTES..].copy_from_slice(body);
    let checksum = checksum(&out);
    out[20..24].copy_from_slice(&checksum.to_le_bytes());
    SlotWrite { at: generation % 2 * BLOCK_BYTES as u64, bytes: out.into() }
}

/// Finds the newest readable copy.
#[must_use]
pub fn decode(magic: [u8; 4], version: u16, file: &[u8]) -> Found<'_> {
    let mut newest: Option<(u64, u16, &[u8])> = None;
    for copy in file.chunks(BLOCK_BYTES).take(2) {
        let Some(found) = decode_copy(magic, copy) else { continue };
        if newest.is_none_or(|(generation, ..)| generation < found.0) {
            newest = Some(found);
        }
    }
    match newest {
        None if file.iter().all(|byte| *byte == 0) => Found::Nothing,
        None => Found::Unreadable,
        Some((_, found, _)) if found > version => Found::Newer(found),
        Some((generation, _, body)) => Found::Record { generation, body },
    }
}

fn decode_copy(magic: [u8; 4], copy: &[u8]) -> Option<(u64, u16, &[u8])> {
    let header = copy.get(..SLOT_HEADER_BYTES)?;
    if header[..4] != magic {
        return None;
    }
    let end = SLOT_HEADER_BYTES.checked_add(u32_at(header, 16) as usize)?;
    let record = copy.get(..end)?;
    if checksum(record) != u32_at(header, 20) {
        return None;
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    Some((u64_at(header, 8), version, &record[SLOT_HEADER_BYTES..]))
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..20]), &record[SLOT_HEADER_BYTES..])
}

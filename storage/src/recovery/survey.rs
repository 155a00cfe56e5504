//! Finds every frame in the bytes of one journal file.
//!
//! Does: walk the file in steps of eight bytes, skip over intact frames, note frames that stand in
//! a wrong place.
//! Does not: decide which frames count; order and durability are judged across files.
//! Invariants: a noted frame has a right header checksum and is ours; bytes inside an intact
//! payload are never taken for a frame.
//! Apart because it is the only code that reads untrusted bytes of a whole file.

use std::ops::Range;

use bytes::Bytes;

use crate::error::StorageError;
use crate::format::frame::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_VERSION, FrameHeader, FrameKind, HeaderVerdict, Opening,
};
use crate::format::node::Identity;
use crate::limits::FRAME_ALIGN;
use crate::op::FileName;
use crate::recovery::verdict::{Belonging, Header};

/// A frame that stands where it says it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) header: FrameHeader,
    pub(crate) checksum: u32,
    pub(crate) payload_ok: bool,
}

/// One journal file and the frames in it.
#[derive(Debug)]
pub(crate) struct Survey {
    /// What it holds; nothing once it is [spare](Self::let_go_if_spare).
    bytes: Bytes,
    /// How long it is.
    pub(crate) len: u64,
    /// Places that the device has lost: they stand as zeros in these bytes.
    pub(crate) lost: Vec<Range<u64>>,
    /// Frames of the latest use of which any is readable, by position.
    pub(crate) current: Vec<Candidate>,
    /// That use; zero if the file holds no frame.
    pub(crate) counter: u64,
    /// Whether the file holds whole frames of an earlier use: then bytes behind the latest use's
    /// last frame are what that one left there.
    pub(crate) was_used_before: bool,
    /// The highest floor any opening in the file declares.
    pub(crate) floor: u64,
    /// The highest watermark any frame in the file declares.
    pub(crate) watermark: u64,
    /// The highest manifest chunk any opening in the file knows durable.
    pub(crate) manifest: u64,
}

impl Survey {
    /// Looks through a file.
    pub(crate) fn of(slot: u16, bytes: Bytes, owner: &Identity) -> Result<Self, StorageError> {
        let mut survey = Self {
            len: bytes.len() as u64,
            bytes,
            lost: Vec::new(),
            current: Vec::new(),
            counter: 0,
            was_used_before: false,
            floor: 0,
            watermark: 0,
            manifest: 0,
        };
        let mut at = 0;
        while at + FRAME_HEADER_BYTES <= survey.bytes.len() {
            at += survey.look_at(slot, at, owner)?;
        }
        Ok(survey)
    }

    /// Notes what stands at `at`; returns how far to go on.
    fn look_at(&mut self, slot: u16, at: usize, owner: &Identity) -> Result<usize, StorageError> {
        if self.bytes[at..at + 4] != FRAME_MAGIC {
            return Ok(FRAME_ALIGN);
        }
        let file = FileName::Journal(u64::from(slot));
        let (header, checksum) = match FrameHeader::decode(&self.bytes[at..]) {
            HeaderVerdict::Readable(header, checksum) => (header, checksum),
            HeaderVerdict::Newer(found) if at == 0 => {
                return Err(StorageError::NewerFormat { file, found, known: FRAME_VERSION });
            }
            HeaderVerdict::Newer(_) | HeaderVerdict::Unreadable | HeaderVerdict::Zeros => {
                return Ok(FRAME_ALIGN);
            }
        };
        let payload = self.payload(&header);
        let payload_ok = payload.is_some();
        let opening = payload.filter(|_| header.kind == FrameKind::Opening);
        let opening = opening.and_then(|payload| Opening::decode(&payload));
        if let Some(opening) = opening.filter(|_| at == 0) {
            owner.check(&opening.identity, file)?;
        }
        let is_ours = header.use_id.owner == owner.digest() && is_sane(&header);
        if !is_ours || !stands_at(&header, slot, at) {
            return Ok(FRAME_ALIGN);
        }
        let opening = opening.as_ref();
        self.floor = self.floor.max(opening.map_or(0, |opening| opening.floor));
        self.manifest = self.manifest.max(opening.map_or(0, |opening| opening.manifest));
        self.watermark = self.watermark.max(header.watermark);
        self.note(Candidate { header, checksum, payload_ok });
        // The payload of a damaged frame is no reason to overlook what stands in its place now.
        Ok(if payload_ok { header.frame_bytes() as usize } else { FRAME_HEADER_BYTES })
    }

    fn note(&mut self, found: Candidate) {
        let counter = found.header.use_id.counter;
        self.was_used_before |= self.counter > 0 && counter != self.counter;
        if counter > self.counter {
            self.counter = counter;
            self.current.clear();
        }
        if counter == self.counter {
            self.current.push(found);
        }
    }

    /// Forgets the bytes, if no frame in them can count any more: all are below `floor`, which whatever
    /// is read later can only raise.
    pub(crate) fn let_go_if_spare(&mut self, floor: u64) {
        let may_count = |found: &Candidate| found.header.sequence >= floor;
        if !self.bytes.is_empty() && !self.current.iter().rev().any(may_count) {
            self.bytes = Bytes::new();
        }
    }

    /// The payload of a frame, if it is what the header says.
    pub(crate) fn payload(&self, header: &FrameHeader) -> Option<Bytes> {
        let from = usize::try_from(header.position).ok()?.checked_add(FRAME_HEADER_BYTES)?;
        let to = from.checked_add(header.payload_len as usize)?;
        if to > self.bytes.len() || crc32c::crc32c(&self.bytes[from..to]) != header.payload_crc {
            return None;
        }
        Some(self.bytes.slice(from..to))
    }

    /// What stands at a place where a frame of the latest use was expected and not found.
    pub(crate) fn observe(&self, slot: u16, at: u64) -> (Header, Belonging) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let Some(bytes) = self.bytes.get(at..).filter(|rest| rest.len() >= FRAME_HEADER_BYTES)
        else {
            return (Header::Missing, Belonging::Here);
        };
        match FrameHeader::decode(bytes) {
            HeaderVerdict::Zeros => (Header::Zeros, Belonging::Here),
            HeaderVerdict::Newer(_) | HeaderVerdict::Unreadable => {
                (Header::Unreadable, Belonging::Here)
            }
            HeaderVerdict::Readable(header, _) if stands_at(&header, slot, at) => {
                (Header::Readable, Belonging::Older)
            }
            HeaderVerdict::Readable(..) => (Header::Readable, Belonging::Elsewhere),
        }
    }

    /// The bytes from `from` to `to`, as far as the file goes.
    pub(crate) fn range(&self, from: u64, to: u64) -> Bytes {
        let end = self.bytes.len() as u64;
        let (from, to) = (from.min(end), to.min(end));
        self.bytes.slice(from as usize..to.max(from) as usize)
    }
}

/// No journal writes anything else; a client's bytes that look like a frame might.
fn is_sane(header: &FrameHeader) -> bool {
    header.watermark < header.sequence && header.sequence < 1 << 63
}

fn stands_at(header: &FrameHeader, slot: u16, at: usize) -> bool {
    header.position == at as u64 && header.use_id.slot == slot
}

//! The journal frame: one entry, hard state or mark, with everything needed to trust it.
//!
//! Does: lay a frame's header out in 128 bytes, read it back, and say what is wrong with it.
//! Does not: know files, commits or the order of frames; the packer writes and the scan judges.
//! Invariants: the header's checksum covers all of it, the payload's checksum stands in it; a
//! header of any later version keeps magic, version and checksum where they are.
//! Apart because these bytes outlive the program; FORMAT.md draws them from [`LAYOUT`].

use bytes::Bytes;
use flumen_protocol::entry::{Entry, HardState, Payload, Records};
use flumen_protocol::ids::{LogId, LogIndex, NodeId, Offset, PartitionIndex, Term, TopicId};

use crate::format::node::Identity;
use crate::limits::{BLOCK_BYTES, FRAME_ALIGN};

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 128;
/// How every frame begins.
pub const FRAME_MAGIC: [u8; 4] = *b"FLMJ";
/// The version written and the newest one read.
pub const FRAME_VERSION: u16 = 1;
/// Bytes of an opening frame's payload.
pub const OPENING_BYTES: usize = 64;

/// Where each field of the header lies: offset, bytes, name. FORMAT.md is drawn from it.
pub const LAYOUT: [(usize, usize, &str); 20] = [
    (0, 4, "magic \"FLMJ\""),
    (4, 2, "format version"),
    (6, 1, "kind"),
    (7, 1, "reserved, zero"),
    (8, 16, "use id"),
    (24, 8, "position in the file"),
    (32, 8, "sequence"),
    (40, 4, "checksum of the previous frame's header"),
    (44, 4, "payload length"),
    (48, 16, "topic id"),
    (64, 4, "partition"),
    (68, 4, "payload CRC-32C"),
    (72, 8, "term"),
    (80, 8, "log index"),
    (88, 8, "base offset"),
    (96, 8, "last offset"),
    (104, 8, "largest timestamp"),
    (112, 8, "durable watermark (sequence)"),
    (120, 4, "bytes to the end of the commit, without padding"),
    (124, 4, "header CRC-32C"),
];

/// Where each field of an opening frame's payload lies: offset, bytes, name.
pub const OPENING_LAYOUT: [(usize, usize, &str); 8] = [
    (0, 16, "cluster id"),
    (16, 4, "node id"),
    (20, 2, "core"),
    (22, 2, "reserved, zero"),
    (24, 8, "incarnation"),
    (32, 16, "use id"),
    (48, 8, "first sequence still needed"),
    (56, 8, "highest manifest chunk known durable, zero if unknown"),
];

/// A fact about a log that is neither an entry nor a hard state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The log was deleted; nothing of it is needed any more.
    Deleted,
    /// Every entry from this index on was cut off; the same indices may follow anew.
    SuffixCut {
        /// The first index that was cut.
        from: LogIndex,
    },
}

/// What a frame says about its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An entry.
    Entry(Entry),
    /// A hard state; the last one of a log counts.
    HardState(HardState),
    /// A mark.
    Mark(Mark),
}

impl Content {
    /// The bytes that follow the header.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        match self {
            Self::Entry(entry) => match &entry.payload {
                Payload::Empty => Bytes::new(),
                Payload::Records(records) => records.bytes.clone(),
                Payload::Control(bytes) => bytes.clone(),
            },
            Self::HardState(_) | Self::Mark(_) => Bytes::new(),
        }
    }

    /// Length of the bytes that follow the header.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Entry(entry) => match &entry.payload {
                Payload::Empty => 0,
                Payload::Records(records) => records.bytes.len(),
                Payload::Control(bytes) => bytes.len(),
            },
            Self::HardState(_) | Self::Mark(_) => 0,
        }
    }
}

/// Bytes a frame with this much payload takes inside a commit.
#[must_use]
pub const fn frame_bytes(payload_len: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_len).next_multiple_of(FRAME_ALIGN)
}

/// Which use of which file a frame belongs to. Unique for ever: the first half names the owner,
/// the second the use, so that what an earlier use left behind is told apart (F6), and a frame in
/// the wrong file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UseId {
    /// Digest of the owner's identity.
    pub owner: u64,
    /// How many uses of files this owner began before, counted from one.
    pub counter: u64,
    /// Which file.
    pub slot: u16,
}

impl UseId {
    fn encode(self) -> [u8; 16] {
        assert!(self.counter < 1 << 48, "2^48 uses of files are centuries of writing");
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.owner.to_le_bytes());
        out[8..].copy_from_slice(&(self.counter << 16 | u64::from(self.slot)).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Self {
        let low = u64_at(bytes, 8);
        Self { owner: u64_at(bytes, 0), counter: low >> 16, slot: (low & 0xffff) as u16 }
    }
}

/// The kinds of frame, as written. Number 8 is reserved: it was to say where a log starts, and no version wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The first frame of every use of a file: whose it is and where the journal begins.
    Opening = 1,
    /// An entry that says nothing.
    Empty = 2,
    /// An entry with a record batch.
    Records = 3,
    /// An entry with a command.
    Control = 4,
    /// A hard state: term, commit (as log index) and vote (as base offset, −1 for none).
    HardState = 5,
    /// The log was deleted.
    Deleted = 6,
    /// Entries from log index on were cut.
    SuffixCut = 7,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Opening,
            2 => Self::Empty,
            3 => Self::Records,
            4 => Self::Control,
            5 => Self::HardState,
            6 => Self::Deleted,
            7 => Self::SuffixCut,
            _ => return None,
        })
    }

    /// Whether a frame of this kind takes an index of its log.
    #[must_use]
    pub fn is_entry(self) -> bool {
        match self {
            Self::Empty | Self::Records | Self::Control => true,
            Self::Opening | Self::HardState | Self::Deleted | Self::SuffixCut => false,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameKind,
    /// Which use of which file.
    pub use_id: UseId,
    /// Where in the file the header begins.
    pub position: u64,
    /// The frame's place in the order of the core, counted from one.
    pub sequence: u64,
    /// The header checksum of the frame before it; zero for the first.
    pub previous: u32,
    /// Length of the payload.
    pub payload_len: u32,
    /// Checksum of the payload.
    pub payload_crc: u32,
    /// Whose frame.
    pub log: LogId,
    /// Term of the entry or of the hard state.
    pub term: Term,
    /// Index of the entry, commit of the hard state, first index cut.
    pub index: LogIndex,
    /// First offset of the records, or vote.
    pub base_offset: i64,
    /// Last offset of the records.
    pub last_offset: i64,
    /// Largest timestamp of the records.
    pub max_timestamp: i64,
    /// The highest sequence known durable when this was written.
    pub watermark: u64,
    /// Bytes from the beginning of this header to the end of its commit's last frame.
    pub commit_left: u32,
}

/// What lies at a place where a header might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVerdict {
    /// A header, and its checksum.
    Readable(FrameHeader, u32),
    /// Nothing but zeros.
    Zeros,
    /// A header of a version that is not known here, with a right checksum.
    Newer(u16),
    /// Anything else.
    Unreadable,
}

impl FrameHeader {
    /// A header for `content`; place and chain are filled in by the packer.
    #[must_use]
    pub fn of(log: LogId, content: &Content) -> Self {
        let mut header = Self::blank(FrameKind::Empty, log);
        match content {
            Content::Entry(entry) => {
                header.term = entry.term;
                header.index = entry.index;
                header.describe(&entry.payload);
            }
            Content::HardState(state) => {
                header.kind = FrameKind::HardState;
                header.term = state.term;
                header.index = state.commit;
                header.base_offset = state.vote.map_or(-1, |node| i64::from(node.0));
            }
            Content::Mark(Mark::Deleted) => header.kind = FrameKind::Deleted,
            Content::Mark(Mark::SuffixCut { from }) => {
                header.kind = FrameKind::SuffixCut;
                header.index = *from;
            }
        }
        header
    }

    fn describe(&mut self, payload: &Payload) {
        match payload {
            Payload::Empty => self.kind = FrameKind::Empty,
            Payload::Control(_) => self.kind = FrameKind::Control,
            Payload::Records(records) => {
                self.kind = FrameKind::Records;
                self.base_offset = records.base_offset.0;
                self.last_offset = records.last_offset.0;
                self.max_timestamp = records.max_timestamp;
            }
        }
    }

    /// A header of an opening frame.
    #[must_use]
    pub fn opening() -> Self {
        let nobody = LogId { topic: TopicId::ZERO, partition: PartitionIndex(0) };
        Self::blank(FrameKind::Opening, nobody)
    }

    fn blank(kind: FrameKind, log: LogId) -> Self {
        Self {
            kind,
            use_id: UseId { owner: 0, counter: 0, slot: 0 },
            position: 0,
            sequence: 0,
            previous: 0,
            payload_len: 0,
            payload_crc: 0,
            log,
            term: Term::ZERO,
            index: LogIndex::ZERO,
            base_offset: -1,
            last_offset: -1,
            max_timestamp: -1,
            watermark: 0,
            commit_left: 0,
        }
    }

    /// Bytes the whole frame takes inside its commit.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_len as usize) as u64
    }

    /// Whether this is the last frame of its commit.
    #[must_use]
    pub fn ends_commit(&self) -> bool {
        self.frame_bytes() >= u64::from(self.commit_left)
    }

    /// Where the commit after this frame's own begins if it is in the same file.
    #[must_use]
    pub fn next_commit(&self) -> u64 {
        (self.position + u64::from(self.commit_left)).next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Where the frame after this one begins if it is in the same file.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        if self.ends_commit() { self.next_commit() } else { self.position + self.frame_bytes() }
    }

    /// The header's bytes, and its checksum.
    #[must_use]
    pub fn encode(&self) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut out = [0u8; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&FRAME_MAGIC);
        out[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
        out[6] = self.kind as u8;
        out[8..24].copy_from_slice(&self.use_id.encode());
        out[24..32].copy_from_slice(&self.position.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.previous.to_le_bytes());
        out[44..48].copy_from_slice(&self.payload_len.to_le_bytes());
        out[48..64].copy_from_slice(&self.log.topic.0);
        out[64..68].copy_from_slice(&self.log.partition.0.to_le_bytes());
        out[68..72].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[72..80].copy_from_slice(&self.term.0.to_le_bytes());
        out[80..88].copy_from_slice(&self.index.0.to_le_bytes());
        out[88..96].copy_from_slice(&self.base_offset.to_le_bytes());
        out[96..104].copy_from_slice(&self.last_offset.to_le_bytes());
        out[104..112].copy_from_slice(&self.max_timestamp.to_le_bytes());
        out[112..120].copy_from_slice(&self.watermark.to_le_bytes());
        out[120..124].copy_from_slice(&self.commit_left.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..124]);
        out[124..128].copy_from_slice(&checksum.to_le_bytes());
        (out, checksum)
    }

    /// Judges what lies at the beginning of `bytes`.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> HeaderVerdict {
        let Some(bytes) = bytes.get(..FRAME_HEADER_BYTES) else {
            return HeaderVerdict::Unreadable;
        };
        if bytes[..4] != FRAME_MAGIC {
            let empty = bytes.iter().all(|byte| *byte == 0);
            return if empty { HeaderVerdict::Zeros } else { HeaderVerdict::Unreadable };
        }
        let checksum = u32_at(bytes, 124);
        if crc32c::crc32c(&bytes[..124]) != checksum {
            return HeaderVerdict::Unreadable;
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version > FRAME_VERSION {
            return HeaderVerdict::Newer(version);
        }
        match FrameKind::from_byte(bytes[6]) {
            Some(kind) if version == FRAME_VERSION => {
                HeaderVerdict::Readable(Self::read_fields(kind, bytes), checksum)
            }
            Some(_) | None => HeaderVerdict::Unreadable,
        }
    }

    fn read_fields(kind: FrameKind, bytes: &[u8]) -> Self {
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[48..64]);
        Self {
            kind,
            use_id: UseId::decode(&bytes[8..24]),
            position: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            previous: u32_at(bytes, 40),
            payload_len: u32_at(bytes, 44),
            payload_crc: u32_at(bytes, 68),
            log: LogId {
                topic: TopicId(topic),
                partition: PartitionIndex(u32_at(bytes, 64) as i32),
            },
            term: Term(u64_at(bytes, 72)),
            index: LogIndex(u64_at(bytes, 80)),
            base_offset: u64_at(bytes, 88) as i64,
            last_offset: u64_at(bytes, 96) as i64,
            max_timestamp: u64_at(bytes, 104) as i64,
            watermark: u64_at(bytes, 112),
            commit_left: u32_at(bytes, 120),
        }
    }

    /// What the frame says; `None` for an opening, which says nothing about a log.
    #[must_use]
    pub fn content(&self, payload: Bytes) -> Option<Content> {
        let said = match self.kind {
            FrameKind::Opening => return None,
            FrameKind::Empty => Payload::Empty,
            FrameKind::Control => Payload::Control(payload),
            FrameKind::Records => Payload::Records(Records {
                base_offset: Offset(self.base_offset),
                last_offset: Offset(self.last_offset),
                max_timestamp: self.max_timestamp,
                bytes: payload,
            }),
            FrameKind::HardState => {
                let vote = i32::try_from(self.base_offset).ok().filter(|node| *node >= 0);
                let vote = vote.map(NodeId);
                return Some(Content::HardState(HardState {
                    term: self.term,
                    vote,
                    commit: self.index,
                }));
            }
            FrameKind::Deleted => return Some(Content::Mark(Mark::Deleted)),
            FrameKind::SuffixCut => {
                return Some(Content::Mark(Mark::SuffixCut { from: self.index }));
            }
        };
        Some(Content::Entry(Entry { index: self.index, term: self.term, payload: said }))
    }
}

/// What an opening frame carries: the owner in full (D19), and where the journal begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whose journal.
    pub identity: Identity,
    /// Which use of which file.
    pub use_id: UseId,
    /// Everything before this sequence was no longer needed when the use began.
    pub floor: u64,
    /// The last chunk of the manifest that was durable then: what is no longer needed may be because
    /// of it.
    pub manifest: u64,
}

impl Opening {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; OPENING_BYTES] {
        let mut out = [0; OPENING_BYTES];
        out[..32].copy_from_slice(&self.identity.encode());
        out[32..48].copy_from_slice(&self.use_id.encode());
        out[48..56].copy_from_slice(&self.floor.to_le_bytes());
        out[56..64].copy_from_slice(&self.manifest.to_le_bytes());
        out
    }

    /// Reads it back; `None` if it is too short to be one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..OPENING_BYTES)?;
        Some(Self {
            identity: Identity::decode(&bytes[..32])?,
            use_id: UseId::decode(&bytes[32..48]),
            floor: u64_at(bytes, 48),
            manifest: u64_at(bytes, 56),
        })
    }
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

const _: () = {
    assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
    let (at, bytes, _) = LAYOUT[LAYOUT.len() - 1];
    assert!(at + bytes == FRAME_HEADER_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogId {
        LogId { topic: TopicId([7; 16]), partition: PartitionIndex(3) }
    }

    fn placed(content: &Content) -> FrameHeader {
        FrameHeader {
            use_id: UseId { owner: 0xfeed, counter: 12, slot: 5 },
            position: 8192,
            sequence: 77,
            previous: 0x1234_5678,
            payload_len: content.payload_len() as u32,
            payload_crc: crc32c::crc32c(&content.payload()),
            watermark: 70,
            commit_left: 4096,
            ..FrameHeader::of(log(), content)
        }
    }

    fn one_of_each() -> Vec<Content> {
        let entry = |payload| Content::Entry(Entry { index: LogIndex(9), term: Term(4), payload });
        vec![
            entry(Payload::Empty),
            entry(Payload::Control(Bytes::from_static(b"command"))),
            entry(Payload::Records(Records {
                base_offset: Offset(100),
                last_offset: Offset(104),
                max_timestamp: 1_700_000_000_000,
                bytes: Bytes::from_static(b"a batch"),
            })),
            Content::HardState(HardState {
                term: Term(4),
                vote: Some(NodeId(2)),
                commit: LogIndex(8),
            }),
            Content::HardState(HardState { term: Term(4), vote: None, commit: LogIndex(8) }),
            Content::Mark(Mark::Deleted),
            Content::Mark(Mark::SuffixCut { from: LogIndex(6) }),
        ]
    }

    #[test]
    fn every_content_comes_back_as_it_was_written() {
        for content in one_of_each() {
            let header = placed(&content);
            let (bytes, checksum) = header.encode();
            assert_eq!(FrameHeader::decode(&bytes), HeaderVerdict::Readable(header, checksum));
            assert_eq!(header.content(content.payload()), Some(content));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let (bytes, _) = placed(&one_of_each()[2]).encode();
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&broken), HeaderVerdict::Unreadable, "bit {bit}");
        }
    }

    #[test]
    fn what_no_version_has_written_is_no_frame() {
        for kind in [0, 8, 9, u8::MAX] {
            let (mut bytes, _) = placed(&one_of_each()[0]).encode();
            bytes[6] = kind;
            let checksum = crc32c::crc32c(&bytes[..124]);
            bytes[124..].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(FrameHeader::decode(&bytes), HeaderVerdict::Unreadable, "kind {kind}");
        }
    }

    #[test]
    fn zeros_short_bytes_and_newer_versions_are_told_apart() {
        assert_eq!(FrameHeader::decode(&[0; 128]), HeaderVerdict::Zeros);
        assert_eq!(FrameHeader::decode(&[0; 127]), HeaderVerdict::Unreadable);
        let (mut bytes, _) = placed(&one_of_each()[0]).encode();
        bytes[4] = 2;
        let checksum = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(FrameHeader::decode(&bytes), HeaderVerdict::Newer(2));
    }

    #[test]
    fn the_layout_has_no_hole_and_no_overlap() {
        let mut expected = 0;
        for (at, bytes, name) in LAYOUT {
            assert_eq!(at, expected, "{name}");
            expected += bytes;
        }
        assert_eq!(expected, FRAME_HEADER_BYTES);
    }
}

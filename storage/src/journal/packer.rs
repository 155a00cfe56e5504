//! Packs what all partitions of the core queued into one commit of fresh aligned blocks.
//!
//! Does: choose how much goes into the commit, give each frame its place, sequence and link in the
//! chain, and lay headers and payloads out as parts to be gathered.
//! Does not: copy payloads, choose files, or write.
//! Invariants: a commit starts on a block and never shares one with another commit; frames keep
//! the order of the queue; one commit holds at most `COMMIT_BYTES_MAX`, or one larger frame.
//! Apart because this is the hot path of every append: its cost is looked at here alone.

use bytes::{BufMut, Bytes, BytesMut};
use flumen_protocol::ids::LogId;

use crate::format::frame::{
    Content, FRAME_HEADER_BYTES, FrameHeader, OPENING_BYTES, Opening, UseId, frame_bytes,
};
use crate::journal::queue::Queue;
use crate::limits::{BLOCK_BYTES, COMMIT_BYTES_MAX, FRAME_ALIGN};

/// Where the next commit goes and what its first frame continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The file being written.
    pub(crate) use_id: UseId,
    /// Where in it; a multiple of the block size.
    pub(crate) position: u64,
    /// The next frame's sequence.
    pub(crate) sequence: u64,
    /// The header checksum of the frame before.
    pub(crate) previous: u32,
}

/// One frame of a commit, as it is remembered until the commit is durable.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    pub(crate) log: LogId,
    pub(crate) sequence: u64,
    pub(crate) carried: bool,
    pub(crate) what: LandedContent,
}

/// What of a content has to be remembered: everything but the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LandedContent {
    Entry(flumen_protocol::ids::LogIndex),
    HardState(flumen_protocol::entry::HardState),
    Mark(crate::format::frame::Mark),
}

impl LandedContent {
    pub(crate) fn of(content: &Content) -> Self {
        match content {
            Content::Entry(entry) => Self::Entry(entry.index),
            Content::HardState(state) => Self::HardState(*state),
            Content::Mark(mark) => Self::Mark(*mark),
        }
    }
}

/// A commit ready to be written.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) slot: u16,
    pub(crate) at: u64,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) padded_len: u32,
    pub(crate) last_sequence: u64,
    pub(crate) landed: Vec<Landed>,
}

/// How much of the queue goes into a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    frames: usize,
    /// Without the padding at the end.
    bytes: usize,
}

/// Bytes of an opening frame inside a commit.
pub(crate) const OPENING_FRAME_BYTES: usize = frame_bytes(OPENING_BYTES);

/// Whether the front of the queue fits behind `position` in a file of `file_bytes`.
pub(crate) fn front_fits(queue: &Queue, position: u64, file_bytes: u64) -> bool {
    let opening = if position == 0 { OPENING_FRAME_BYTES } else { 0 };
    queue.front().is_some_and(|front| {
        let bytes = (opening + front.frame_bytes()).next_multiple_of(BLOCK_BYTES);
        position + bytes as u64 <= file_bytes
    })
}

/// Takes what fits from the front of the queue and makes a commit of it; `None` if nothing fits.
/// `opening` is written first when a file is begun.
pub(crate) fn pack(
    queue: &mut Queue,
    cursor: &mut Cursor,
    opening: Option<Opening>,
    file_bytes: u64,
    watermark: u64,
) -> Option<Commit> {
    assert!(cursor.position.is_multiple_of(BLOCK_BYTES as u64), "commits start on a block");
    assert_eq!(opening.is_some(), cursor.position == 0, "a file begins with its opening");
    let share = share(queue, cursor.position, file_bytes)?;
    let padded = share.bytes.next_multiple_of(BLOCK_BYTES);
    let mut layout = Layout {
        heads: BytesMut::with_capacity(
            (share.frames + 1) * (FRAME_HEADER_BYTES + FRAME_ALIGN) + OPENING_BYTES,
        ),
        parts: Vec::with_capacity(share.frames * 2 + 2),
        at: cursor.position,
        end: cursor.position + share.bytes as u64,
        cursor: *cursor,
        watermark,
    };
    let mut landed = Vec::with_capacity(share.frames);
    if let Some(opening) = opening {
        layout.frame(FrameHeader::opening(), Bytes::copy_from_slice(&opening.encode()));
    }
    for _ in 0..share.frames {
        let item = queue.pop().expect("the share was counted from the queue");
        let sequence = layout.cursor.sequence;
        layout.frame(FrameHeader::of(item.log, &item.content), item.content.payload());
        let what = LandedContent::of(&item.content);
        landed.push(Landed { log: item.log, sequence, carried: item.carried, what });
    }
    assert_eq!(layout.at, layout.end, "a commit is as long as it was counted");
    let commit = Commit {
        slot: cursor.use_id.slot,
        at: cursor.position,
        parts: layout.parts,
        padded_len: padded as u32,
        last_sequence: layout.cursor.sequence - 1,
        landed,
    };
    *cursor = layout.cursor;
    cursor.position = commit.at + padded as u64;
    assert!(cursor.position <= file_bytes, "a commit stays inside its file");
    Some(commit)
}

fn share(queue: &Queue, position: u64, file_bytes: u64) -> Option<Share> {
    let opening = if position == 0 { OPENING_FRAME_BYTES } else { 0 };
    let room = file_bytes.saturating_sub(position);
    let mut share = Share { frames: 0, bytes: opening };
    for item in queue.iter() {
        let bytes = share.bytes + item.frame_bytes();
        let too_long = share.frames > 0 && bytes - opening > COMMIT_BYTES_MAX;
        if too_long || bytes.next_multiple_of(BLOCK_BYTES) as u64 > room {
            break;
        }
        share = Share { frames: share.frames + 1, bytes };
    }
    (share.frames > 0).then_some(share)
}

/// A commit being laid out.
struct Layout {
    /// All headers and paddings of the commit, cut off piece by piece: one allocation.
    heads: BytesMut,
    parts: Vec<Bytes>,
    /// Where the next frame goes; padding up to it is still owed in `heads`.
    at: u64,
    /// Where the last frame ends.
    end: u64,
    cursor: Cursor,
    watermark: u64,
}

impl Layout {
    fn frame(&mut self, mut header: FrameHeader, payload: Bytes) {
        header.use_id = self.cursor.use_id;
        header.position = self.at;
        header.sequence = self.cursor.sequence;
        header.previous = self.cursor.previous;
        header.payload_len = u32::try_from(payload.len()).expect("an entry fits its file");
        header.payload_crc = crc32c::crc32c(&payload);
        header.watermark = self.watermark;
        header.commit_left = u32::try_from(self.end - self.at).expect("a commit fits its file");
        let (bytes, checksum) = header.encode();
        self.heads.put_slice(&bytes);
        self.parts.push(self.heads.split().freeze());
        self.at += header.frame_bytes();
        let owed = header.frame_bytes() as usize - FRAME_HEADER_BYTES - payload.len();
        self.heads.put_bytes(0, owed);
        if !payload.is_empty() {
            self.parts.push(payload);
        }
        self.cursor.sequence += 1;
        self.cursor.previous = checksum;
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::entry::{Entry, Payload};
    use flumen_protocol::ids::{LogIndex, PartitionIndex, Term, TopicId};

    use super::*;
    use crate::format::frame::HeaderVerdict;
    use crate::journal::queue::Queued;

    fn queue_of(payload_lens: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for (index, len) in payload_lens.iter().enumerate() {
            let payload = Payload::Control(vec![index as u8; *len].into());
            let entry = Entry { index: LogIndex(index as u64 + 1), term: Term(1), payload };
            let log = LogId { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
            queue.push(Queued { log, content: Content::Entry(entry), carried: false });
        }
        queue
    }

    fn cursor(position: u64) -> Cursor {
        let use_id = UseId { owner: 1, counter: 1, slot: 0 };
        Cursor { use_id, position, sequence: 10, previous: 5 }
    }

    fn flat(commit: &Commit) -> Vec<u8> {
        let mut out: Vec<u8> = commit.parts.concat();
        assert!(out.len() <= commit.padded_len as usize);
        out.resize(commit.padded_len as usize, 0);
        out
    }

    #[test]
    fn a_commit_reads_back_frame_by_frame() {
        let mut queue = queue_of(&[0, 3, 8, 4090, 1]);
        let mut at = cursor(4096);
        let commit = pack(&mut queue, &mut at, None, 1 << 20, 9).expect("fits");
        let bytes = flat(&commit);
        let (mut place, mut previous) = (0usize, 5);
        for sequence in 10..15 {
            let HeaderVerdict::Readable(header, checksum) = FrameHeader::decode(&bytes[place..])
            else {
                panic!("frame {sequence}")
            };
            assert_eq!((header.sequence, header.previous), (sequence, previous));
            assert_eq!((header.position, header.watermark), (4096 + place as u64, 9));
            let payload = &bytes[place + 128..][..header.payload_len as usize];
            assert_eq!(crc32c::crc32c(payload), header.payload_crc);
            previous = checksum;
            assert_eq!(header.ends_commit(), sequence == 14);
            place = (header.next_position() - 4096) as usize;
        }
        assert_eq!(place, bytes.len());
        assert_eq!((at.position, at.sequence), (4096 + bytes.len() as u64, 15));
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_larger_entry_goes_alone_and_small_ones_wait_behind_it() {
        let mut queue = queue_of(&[100, COMMIT_BYTES_MAX + 1, 100]);
        let mut at = cursor(4096);
        let frames: Vec<usize> = std::iter::from_fn(|| {
            pack(&mut queue, &mut at, None, 16 << 20, 0).map(|commit| commit.landed.len())
        })
        .collect();
        assert_eq!(frames, [1, 1, 1]);
    }

    #[test]
    fn what_does_not_fit_the_file_stays_queued() {
        let mut queue = queue_of(&[5000, 100]);
        let mut at = cursor(4096);
        assert!(pack(&mut queue, &mut at, None, 8192, 0).is_none());
        assert!(!front_fits(&queue, 4096, 8192));
        assert!(front_fits(&queue, 4096, 4096 * 4));
        assert_eq!(at, cursor(4096));
    }
}

//! A read that failed as a whole, made again by halves.
//!
//! Does: say which piece is next, halve those that fail, put together what was read.
//! Does not: read; decide what a block costs that cannot be read: it stands as zeros.
//! Invariants: every halving reads a place once more, down to its block; only what the caller says is lost is
//! given up, block by block until there were too many of them.
//! Apart because readers and starts meet the same broken devices.
//!
//! ```text
//!  halves --failed--> halves of halves ... --a block fails--> zeros
//! ```

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::error::DiskErrorKind;
use crate::limits::BLOCK;

/// By which error numbers a device or a file system says that what lies there is lost.
/// From Linux: EIO, ENODATA (critical medium error), EBADMSG and EUCLEAN (checksum or structure of
/// the file system), EILSEQ (integrity of a block), EREMOTEIO (of a remote target).
const LOST: [i32; 6] = [5, 61, 74, 117, 84, 121];

/// Whether the device says that what lies there is lost, and not only that it cannot be read now.
pub(crate) fn is_lost(kind: DiskErrorKind) -> bool {
    match kind {
        DiskErrorKind::Io(number) => LOST.contains(&number),
        DiskErrorKind::NoSpace
        | DiskErrorKind::NotFound
        | DiskErrorKind::NoDescriptors
        | DiskErrorKind::TooLarge
        | DiskErrorKind::Denied => false,
    }
}

/// A read that failed as a whole and is carried out in pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    at: u64,
    bytes: BytesMut,
    /// What is still to be read, the first piece last.
    left: Vec<(u64, u64)>,
    /// What was given up, in order.
    lost: Vec<Range<u64>>,
}

impl Pieces {
    /// A single block is tried once more as it is.
    pub(crate) fn of(at: u64, len: u64) -> Self {
        let mut left = Vec::new();
        split(at, len, &mut left);
        Self { at, bytes: BytesMut::zeroed(len as usize), left, lost: Vec::new() }
    }

    /// Where the next piece lies, and how long it is.
    pub(crate) fn next(&self) -> Option<(u64, u64)> {
        self.left.last().copied()
    }

    /// Takes what was read of the next piece; nothing if it is lost. `unreadable` counts what was given up, here
    /// and in what the caller read before; once that is `most`, a piece that fails is given up as it is.
    pub(crate) fn take(&mut self, read: Option<Bytes>, unreadable: &mut u32, most: u32) {
        let (at, len) = self.left.pop().expect("a piece was read");
        let from = (at - self.at) as usize;
        match read {
            Some(read) => {
                let until = from + read.len().min(len as usize);
                self.bytes[from..until].copy_from_slice(&read[..until - from]);
                if until - from < len as usize {
                    // The file ends here.
                    self.bytes.truncate(until);
                    self.left.clear();
                }
            }
            None if len > BLOCK && *unreadable < most => split(at, len, &mut self.left),
            None => {
                *unreadable += 1;
                self.lost.push(at..at + len);
            }
        }
    }

    /// What was read, once that is all of it.
    pub(crate) fn finish(self) -> Result<Bytes, Self> {
        if self.left.is_empty() { Ok(self.bytes.freeze()) } else { Err(self) }
    }

    /// What of it stands as zeros because it is lost.
    pub(crate) fn lost(&self) -> &[Range<u64>] {
        &self.lost
    }
}

/// Both halves of a piece, the first one last.
fn split(at: u64, len: u64, out: &mut Vec<(u64, u64)>) {
    let half = (len / 2).next_multiple_of(BLOCK);
    if half < len {
        out.push((at + half, len - half));
    }
    out.push((at, half));
}

//! One thing being fetched from a segment or its index, in as many reads as it takes.
//!
//! Does: say what to read next; put failing reads together again from smaller ones.
//! Does not: look at what was read.
//! Invariants: only what the device calls unreadable is given up, block by block, and stands as
//! zeros in what is given back: the checksums over it decide what that costs. A failure of any
//! other kind says nothing about what lies there.
//! Apart because a failing device must cost a bounded number of reads and nobody else's records.
//!
//! ```text
//!  whole --read--> given back
//!    | failed: several chunks? the first alone, else in pieces
//!    v
//!  pieces (see pieces.rs) --> given back
//! ```

use bytes::Bytes;
use flumen_protocol::ids::LogId;

use super::assemble::Gaps;
use super::jobs::Job;
use super::pieces::{Pieces, is_lost};
use super::plan::Missing;
use super::sieve::Sieve;
use crate::error::{DiskError, DiskErrorKind};
use crate::limits::{BLOCK, EXTENT_BYTES_MIN, UNREADABLE_PIECES_MAX};
use crate::manifest::image::Image;
use crate::op::{Action, FileName, Output};

/// Something being fetched, and who waits for it.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) log: LogId,
    pub(super) missing: Missing,
    /// How far the walk through an unknown stretch has come.
    pub(super) walk: Walk,
    /// It was read once already, and was wrong.
    pub(super) again: bool,
    /// The walk met damage and began anew, once.
    pub(super) is_second: bool,
    /// The log was deleted; another one may have its name by now.
    pub(super) is_void: bool,
    pub(super) waiters: Vec<Job>,
    /// What failed as a whole.
    pieces: Option<Pieces>,
    /// Pieces that could not be read.
    pub(super) unreadable: u32,
}

/// A walk through a hole of an index that has not found anything yet: one batch is longer than what
/// was read of it, or what lies there is damaged and the next sound batch is being looked for.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) position: u64,
    /// How much to read from there.
    pub(super) bytes: u64,
    pub(super) sieve: Sieve,
}

/// What became of a fetch with an answer of the disk.
#[derive(Debug)]
pub(super) enum Step {
    /// Here it is, unreadable blocks as zeros; shorter than asked for if the file is.
    Read(Bytes),
    /// More has to be read.
    Again,
    /// It cannot be read now, which says nothing about what lies there.
    Unavailable(DiskErrorKind),
}

/// What a failed read says about what lies there.
enum Failure {
    /// There is no such file.
    Missing,
    /// The device has lost it.
    Lost,
    /// Nothing.
    Elsewhere,
}

impl Fetch {
    pub(super) fn new(missing: Missing, job: Job) -> Self {
        let walk = Walk::through(&missing);
        Self {
            log: job.log,
            missing,
            walk,
            again: false,
            is_second: false,
            is_void: false,
            waiters: vec![job],
            pieces: None,
            unreadable: 0,
        }
    }

    pub(super) fn file(&self) -> FileName {
        let name = self.missing.segment().name(self.log);
        match &self.missing {
            Missing::Index(_) => name.index(),
            Missing::Chunks(..) | Missing::Stretch(..) => name.data(),
        }
    }

    pub(super) fn action(&self) -> Action {
        if let Missing::Index(_) = &self.missing {
            return Action::ReadAll;
        }
        let next = self.pieces.as_ref().and_then(Pieces::next);
        let (at, len) = next.unwrap_or_else(|| self.whole());
        Action::Read { at, len: u32::try_from(len).expect("extents are bounded") }
    }

    /// Whether what is being fetched is still there, and not something cleaned in its place.
    pub(super) fn is_current(&self, image: &Image) -> bool {
        let name = self.missing.segment().name(self.log);
        let found = image.logs.get(&self.log).and_then(|known| known.segments.find(name.base));
        !self.is_void && found.is_some_and(|segment| segment.name(self.log) == name)
    }

    /// Takes an answer of the disk.
    pub(super) fn step(&mut self, result: Result<Output, DiskError>) -> Step {
        let read = match result {
            Ok(Output::Bytes(bytes)) => Some(bytes),
            Ok(Output::Done | Output::Listing(_) | Output::Size(_)) => {
                unreachable!("a read is answered with bytes")
            }
            Err(error) => match failure(error.kind) {
                Failure::Missing => Some(Bytes::new()),
                Failure::Lost => None,
                Failure::Elsewhere => return Step::Unavailable(error.kind),
            },
        };
        if let Some(mut pieces) = self.pieces.take() {
            pieces.take(read, &mut self.unreadable, UNREADABLE_PIECES_MAX);
            return match pieces.finish() {
                Ok(bytes) => Step::Read(bytes),
                Err(pieces) => {
                    self.pieces = Some(pieces);
                    Step::Again
                }
            };
        }
        match (read, &mut self.missing) {
            (Some(bytes), _) => Step::Read(bytes),
            // Whatever is missing from an index is learnt again from the segment.
            (None, Missing::Index(_)) => Step::Read(Bytes::new()),
            (None, Missing::Chunks(_, chunks)) if chunks.len() > 1 => {
                chunks.truncate(1);
                Step::Again
            }
            (None, Missing::Chunks(..) | Missing::Stretch(..)) => {
                let (at, len) = self.whole();
                self.pieces = Some(Pieces::of(at, len));
                Step::Again
            }
        }
    }

    /// Where what is to be read lies and how long it is, in whole blocks.
    fn whole(&self) -> (u64, u64) {
        let (from, until) = match &self.missing {
            Missing::Index(_) => (0, 0),
            Missing::Chunks(_, chunks) => {
                (chunks[0].position, chunks[chunks.len() - 1].end_position())
            }
            Missing::Stretch(_, hole) => {
                let from = self.walk.position;
                (from, hole.end_position.min(from + self.walk.bytes))
            }
        };
        let at = from / BLOCK * BLOCK;
        (at, until.next_multiple_of(BLOCK) - at)
    }
}

impl Walk {
    pub(super) fn through(missing: &Missing) -> Self {
        let (position, first, end) = match missing {
            Missing::Stretch(_, hole) => (hole.position, hole.first, hole.end),
            Missing::Index(segment) | Missing::Chunks(segment, _) => (0, segment.base, segment.end),
        };
        let sieve = Sieve::new(first, end, Gaps::of(missing.segment()));
        Self { position, bytes: EXTENT_BYTES_MIN, sieve }
    }
}

fn failure(kind: DiskErrorKind) -> Failure {
    match kind {
        DiskErrorKind::NotFound => Failure::Missing,
        // Only an index is read whole, and one that large is none.
        DiskErrorKind::TooLarge => Failure::Lost,
        kind if is_lost(kind) => Failure::Lost,
        DiskErrorKind::NoSpace
        | DiskErrorKind::NoDescriptors
        | DiskErrorKind::Denied
        | DiskErrorKind::Io(_) => Failure::Elsewhere,
    }
}

//! A file of which the device has lost a block, read around that.
//!
//! Does: after a read of a whole file that failed, find out how long it is, and read what can be read.
//! Does not: decide what is lost with a block: it stands as zeros, and the scan knows where.
//! Invariants: a failure that says nothing about what lies there ends it. A manifest is not read like this:
//! without any part of it nobody knows what was deleted since.
//! Apart because one bad block must cost what it held, and not the start.
//!
//! ```text
//!  Sizing --length--> Reading (pieces) --all read, or lost--> over
//! ```

use std::ops::Range;

use bytes::Bytes;

use crate::limits::{BLOCK, JOURNAL_UNREADABLE_PIECES_MAX};
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds, Output};
use crate::reader::pieces::{Pieces, is_lost};

/// A file that is read in pieces.
#[derive(Debug)]
pub(super) struct Around {
    /// The read that failed.
    asked: OpId,
    file: FileName,
    state: State,
    op: Option<OpId>,
    unreadable: u32,
}

#[derive(Debug)]
enum State {
    /// Its length is asked for.
    Sizing,
    /// A piece is read.
    Reading(Pieces),
}

/// What became of it with an answer.
#[derive(Debug)]
pub(super) enum Step {
    /// More is to be read.
    Going(Around),
    /// The answer to the read that failed, and what of it is lost and stands as zeros.
    Over(DiskDone, Vec<Range<u64>>),
}

impl Around {
    /// Another try, if the device says that something of a journal file or a watermark is lost.
    pub(super) fn begin(failed: &DiskDone) -> Option<Self> {
        let error = failed.result.as_ref().err().filter(|error| is_lost(error.kind))?;
        let (asked, file) = (failed.id, error.file);
        let may = matches!(file, FileName::Journal(_) | FileName::Watermark);
        may.then_some(Self { asked, file, state: State::Sizing, op: None, unreadable: 0 })
    }

    /// Which file.
    pub(super) fn file(&self) -> FileName {
        self.file
    }

    /// Whether this is the answer it waits for.
    pub(super) fn awaits(&self, id: OpId) -> bool {
        self.op == Some(id)
    }

    /// The next operation, if none is under way.
    pub(super) fn next_op(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        if self.op.is_some() {
            return;
        }
        let action = match &self.state {
            State::Sizing => Action::Size,
            State::Reading(pieces) => {
                let (at, len) = pieces.next().expect("without any it is over");
                Action::Read { at, len: u32::try_from(len).expect("journal files are bounded") }
            }
        };
        let id = ids.next_id();
        self.op = Some(id);
        out.push(DiskOp { id, file: self.file, action });
    }

    /// Takes an answer that it [`awaits`](Self::awaits).
    pub(super) fn take(self, done: DiskDone) -> Step {
        let Self { asked, file, state, op: _, mut unreadable } = self;
        let over = |result, lost| Step::Over(DiskDone { id: asked, result }, lost);
        let pieces = match (state, done.result) {
            (State::Sizing, Ok(Output::Size(None | Some(0)))) => {
                return over(Ok(Output::Bytes(Bytes::new())), Vec::new());
            }
            (State::Sizing, Ok(Output::Size(Some(len)))) => {
                Pieces::of(0, len.next_multiple_of(BLOCK))
            }
            (State::Reading(mut pieces), Ok(Output::Bytes(bytes))) => {
                pieces.take(Some(bytes), &mut unreadable, JOURNAL_UNREADABLE_PIECES_MAX);
                pieces
            }
            (State::Reading(mut pieces), Err(error)) if is_lost(error.kind) => {
                pieces.take(None, &mut unreadable, JOURNAL_UNREADABLE_PIECES_MAX);
                pieces
            }
            (State::Sizing | State::Reading(_), Err(error)) => return over(Err(error), Vec::new()),
            (State::Sizing | State::Reading(_), Ok(_)) => {
                unreachable!("a file has a length and bytes")
            }
        };
        let lost = pieces.lost().to_vec();
        match pieces.finish() {
            Ok(bytes) => over(Ok(Output::Bytes(bytes)), lost),
            Err(pieces) => Step::Going(Self {
                asked,
                file,
                state: State::Reading(pieces),
                op: None,
                unreadable,
            }),
        }
    }
}

//! Room that is kept for the manifest on a full disk.
//!
//! Does: say when a file of nothing is to be made, and when to be deleted so that the manifest can
//! be written in its place.
//! Does not: know what the manifest writes.
//! Invariants: at most one operation is under way; the file is given up only for a write of the
//! manifest that found no room, and made again when nothing of the manifest waits.
//! Apart because deleting is what helps on a full disk, and a deletion is recorded before it is
//! done: without this the record would wait for the very room that it gives back.
//!
//! ```text
//!  Unknown, Kept --shed--> Doomed --asked--> Shedding --answered--> Lacking
//!  Unknown, Lacking, Kept and too small --make--> Making --answered--> Kept
//!  Making --no room--> Doomed, as a part of it may be there; then as large as it was, or half
//! ```

use std::mem;

use flumen_protocol::time::Monotonic;

use crate::error::{DiskErrorKind, StorageError};
use crate::limits::{BALLAST_GROWTH, BALLAST_RETRY, BLOCK, MANIFEST_GARBAGE_BYTES};
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds};

/// The file that is given up on a full disk.
#[derive(Debug)]
pub(super) struct Ballast {
    state: State,
    /// It is not made, or made larger, before this.
    retry: Monotonic,
    /// More found no room the last time.
    bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An earlier life may have left it.
    Unknown,
    /// Being made this large; so much of it was there before.
    Making { op: OpId, bytes: u64, before: u64 },
    /// There.
    Kept { bytes: u64 },
    /// To be deleted.
    Doomed,
    /// Being deleted.
    Shedding { op: OpId },
    /// Not there.
    Lacking,
}

impl Ballast {
    /// One nobody has looked for yet.
    pub(super) fn new() -> Self {
        Self { state: State::Unknown, retry: Monotonic(0), bytes_max: u64::MAX }
    }

    /// Gives it up, if there is anything to give up.
    pub(super) fn shed(&mut self) {
        match self.state {
            State::Unknown | State::Kept { .. } => self.state = State::Doomed,
            State::Doomed | State::Shedding { .. } | State::Making { .. } | State::Lacking => {}
        }
    }

    /// Whether it was given up and is not there again: what is left of the room is the manifest's.
    pub(super) fn is_missed(&self) -> bool {
        match self.state {
            State::Doomed | State::Shedding { .. } | State::Lacking => true,
            State::Unknown | State::Making { .. } | State::Kept { .. } => false,
        }
    }

    /// Asks for its deletion if it was given up.
    pub(super) fn delete_if_doomed(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        if self.state == State::Doomed {
            let id = ids.next_id();
            self.state = State::Shedding { op: id };
            out.push(DiskOp { id, file: FileName::Ballast, action: Action::Delete });
        }
    }

    /// Asks for as much as rewriting a manifest of `live_bytes` may need, until it is next rewritten
    /// by itself: twice as much and its garbage, see [`MANIFEST_GARBAGE_BYTES`].
    pub(super) fn make_if_due(
        &mut self,
        live_bytes: u64,
        now: Monotonic,
        ids: &mut OpIds,
        out: &mut Vec<DiskOp>,
    ) {
        let bytes = (2 * (live_bytes + MANIFEST_GARBAGE_BYTES)).min(self.bytes_max);
        let before = match self.state {
            State::Unknown | State::Lacking => 0,
            State::Kept { bytes: kept } if kept < bytes => kept,
            State::Kept { .. } | State::Making { .. } | State::Doomed | State::Shedding { .. } => {
                return;
            }
        };
        if now < self.retry {
            return;
        }
        let id = ids.next_id();
        self.state = State::Making { op: id, bytes, before };
        out.push(DiskOp { id, file: FileName::Ballast, action: Action::Prepare { bytes } });
    }

    /// Takes an answer if it is its own: says whether the file was given up by it.
    pub(super) fn on_done(
        &mut self,
        done: &DiskDone,
        now: Monotonic,
    ) -> Result<Option<bool>, StorageError> {
        let failed = done.result.as_ref().err().copied();
        let want = failed.is_some_and(|error| error.kind.is_want_of_room());
        let (next, is_shed) = match self.state {
            State::Making { op, bytes, .. } if op == done.id && failed.is_none() => {
                if mem::replace(&mut self.bytes_max, u64::MAX) != u64::MAX {
                    self.retry = now.after(BALLAST_GROWTH);
                }
                (State::Kept { bytes }, false)
            }
            State::Making { op, bytes, before } if op == done.id => {
                // Making it larger began with giving up what there was: that much there is room for.
                let half = (bytes / 2 / BLOCK * BLOCK).max(BLOCK);
                self.bytes_max = if before > 0 { before } else { half };
                self.retry = if before > 0 { now } else { now.after(BALLAST_RETRY) };
                (State::Doomed, false)
            }
            State::Shedding { op } if op == done.id => (State::Lacking, true),
            State::Unknown
            | State::Making { .. }
            | State::Kept { .. }
            | State::Doomed
            | State::Shedding { .. }
            | State::Lacking => return Ok(None),
        };
        if let Some(error) = failed.filter(|_| !want) {
            return Err(StorageError::DeviceFailed(error));
        }
        self.state = next;
        Ok(Some(is_shed))
    }
}

/// Whether deleting something else helps.
pub(super) fn helps(kind: DiskErrorKind) -> bool {
    match kind {
        DiskErrorKind::NoSpace => true,
        DiskErrorKind::NoDescriptors
        | DiskErrorKind::NotFound
        | DiskErrorKind::TooLarge
        | DiskErrorKind::Denied
        | DiskErrorKind::Io(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DiskError;
    use crate::op::Output;

    /// What it asks for, answered like this.
    fn step(ballast: &mut Ballast, live: u64, now: Monotonic, fits: bool) -> Option<Action> {
        let (mut ids, mut out) = (OpIds::new(), Vec::new());
        ballast.delete_if_doomed(&mut ids, &mut out);
        ballast.make_if_due(live, now, &mut ids, &mut out);
        let op = out.pop()?;
        assert!(out.is_empty(), "one at a time");
        let (file, action) = (op.file, op.action.name());
        let error = DiskError { kind: DiskErrorKind::NoSpace, file, action };
        let result = if fits { Ok(Output::Done) } else { Err(error) };
        let taken = ballast.on_done(&DiskDone { id: op.id, result }, now);
        assert!(matches!(taken, Ok(Some(_))));
        Some(op.action)
    }

    #[test]
    fn it_grows_with_the_manifest_and_stays_as_it_was_where_there_is_no_room_to_grow() {
        let (mut ballast, mut now) = (Ballast::new(), Monotonic(0));
        let prepared = |live: u64| Some(Action::Prepare { bytes: 2 * (live + (1 << 20)) });
        assert_eq!(step(&mut ballast, BLOCK, now, true), prepared(BLOCK));
        assert_eq!(step(&mut ballast, BLOCK, now, true), None);
        assert_eq!(step(&mut ballast, 1 << 22, now, false), prepared(1 << 22));
        assert_eq!(step(&mut ballast, 1 << 22, now, true), Some(Action::Delete));
        assert_eq!(step(&mut ballast, 1 << 22, now, true), prepared(BLOCK), "at once");
        assert!(!ballast.is_missed());
        assert_eq!(step(&mut ballast, 1 << 22, now, true), None, "not before a while");
        now = now.after(BALLAST_GROWTH);
        assert_eq!(step(&mut ballast, 1 << 22, now, true), prepared(1 << 22));
    }

    #[test]
    fn half_of_it_is_better_than_nothing() {
        let (mut ballast, mut now) = (Ballast::new(), Monotonic(0));
        for bytes in [2 << 20, 1 << 20, 1 << 19] {
            assert_eq!(step(&mut ballast, 0, now, false), Some(Action::Prepare { bytes }));
            assert_eq!(step(&mut ballast, 0, now, true), Some(Action::Delete));
            assert_eq!(step(&mut ballast, 0, now, true), None);
            assert!(ballast.is_missed());
            now = now.after(BALLAST_RETRY);
        }
        assert_eq!(step(&mut ballast, 0, now, true), Some(Action::Prepare { bytes: 1 << 18 }));
        assert!(!ballast.is_missed());
    }
}

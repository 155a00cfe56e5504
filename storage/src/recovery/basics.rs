//! What a start reads first: the folder, the watermark, the manifest.
//!
//! Does: ask for all three at once and keep what comes.
//! Does not: understand any of it.
//! Invariants: a file that is missing is none, and one that cannot be read ends the start.
//! Apart because the start itself is long enough.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{DiskErrorKind, StorageError};
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds, Output};

/// The three things that are read first.
#[derive(Debug, Default)]
pub(super) struct Basics {
    pub(super) asked: BTreeMap<OpId, FileName>,
    pub(super) slots: Option<Vec<u64>>,
    pub(super) watermark: Option<Bytes>,
    pub(super) manifest: Option<Bytes>,
    pub(super) begun: bool,
}

impl Basics {
    /// Asks for them.
    pub(super) fn begin(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        self.begun = true;
        let actions = [
            (FileName::CoreFolder, Action::List),
            (FileName::Watermark, Action::ReadAll),
            (FileName::Manifest, Action::ReadAll),
        ];
        for (file, action) in actions {
            let id = ids.next_id();
            self.asked.insert(id, file);
            out.push(DiskOp { id, file, action });
        }
    }

    /// Takes one of them.
    pub(super) fn take(&mut self, done: DiskDone) -> Result<(), StorageError> {
        let file = self.asked.remove(&done.id).expect("an answer to what was asked");
        if file == FileName::Watermark {
            self.watermark = contents(done)?;
        } else if file == FileName::Manifest {
            self.manifest = contents(done)?;
        } else {
            let Output::Listing(listed) = done.result.map_err(StorageError::Unreadable)? else {
                unreachable!("a folder is listed")
            };
            self.slots = Some(listed.iter().filter_map(|found| slot_of(found.file)).collect());
        }
        Ok(())
    }
}

fn slot_of(file: FileName) -> Option<u64> {
    match file {
        FileName::Journal(slot) => Some(slot),
        FileName::Node
        | FileName::Watermark
        | FileName::Manifest
        | FileName::Ballast
        | FileName::Segment { .. }
        | FileName::Index { .. }
        | FileName::Quarantine(_)
        | FileName::CoreFolder
        | FileName::PartitionsFolder
        | FileName::LogFolder(_) => None,
    }
}

/// What was read; `None` if the file does not exist.
pub(super) fn contents(done: DiskDone) -> Result<Option<Bytes>, StorageError> {
    match done.result {
        Ok(Output::Bytes(bytes)) => Ok(Some(bytes)),
        Ok(Output::Done | Output::Listing(_) | Output::Size(_)) => {
            unreachable!("reading gives bytes")
        }
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::Unreadable(error)),
    }
}

//! What the core asks of the disk and what the disk answers: plain data.
//!
//! Does: name every file of a node, every action on one, and every answer.
//! Does not: open, read or write anything; `io/driver.rs` and `sim_disk.rs` carry operations out.
//! Invariants: an [`OpId`] is handed out once per core and comes back exactly once, in a
//! [`DiskDone`]; `at`, `padded_len` and the `len` of a read are multiples of
//! [`crate::limits::BLOCK_BYTES`]; the parts of a write are never longer than `padded_len`.
//! Apart because this vocabulary is the seam between deciding and doing.

use std::fmt;

use bytes::Bytes;
use flumen_protocol::ids::{LogId, Offset};

use crate::error::DiskError;

/// The name of one operation; unique per core and process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Hands out operation names. One per core, so that two owners of operations never clash.
#[derive(Debug, Default)]
pub struct OpIds {
    next: u64,
}

impl OpIds {
    /// A counter that has handed out nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A name nobody had before.
    pub fn next_id(&mut self) -> OpId {
        self.next += 1;
        OpId(self.next)
    }
}

/// A file (or folder) of this node, by meaning. `io/directory.rs` maps it to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// The node record: who this data folder belongs to. One per node.
    Node,
    /// The durable watermark of this core's journal.
    Watermark,
    /// The journal file in this slot of this core.
    Journal(u64),
    /// What the segments of this core consist of.
    Manifest,
    /// Zeros that are given up when the manifest finds no room. One per core.
    Ballast,
    /// A segment: whole record batches back to back.
    Segment {
        /// Whose records.
        log: LogId,
        /// The first offset it answers for.
        base: Offset,
        /// How often what it holds was rewritten.
        generation: Generation,
    },
    /// The rebuildable index beside a segment.
    Index {
        /// Whose records.
        log: LogId,
        /// The first offset the segment answers for.
        base: Offset,
        /// That of the segment.
        generation: Generation,
    },
    /// Bytes set aside by recovery.
    Quarantine(Quarantined),
    /// The folder of this core: listing it finds journal slots and quarantined bytes.
    CoreFolder,
    /// The folder of all partitions of the node: listing it finds every segment and index.
    PartitionsFolder,
    /// The folder of one partition: listing it finds its segments and indexes; deleting it, when
    /// empty, removes the folder itself.
    LogFolder(LogId),
}

/// How often the records of a segment were rewritten by a cleaning: files of one base offset are
/// told apart by it, so that a new one is written beside the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// As records were appended: every offset is there.
    pub const APPENDED: Self = Self(0);

    /// The next one.
    ///
    /// # Panics
    /// After four billion cleanings of one place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("fewer cleanings than numbers"))
    }
}

/// The name of bytes that recovery set aside: it says what is in the file, so that the same bytes
/// set aside again land in the same file, and other ones never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quarantined {
    /// The first journal sequence they concern.
    pub sequence: u64,
    /// CRC-32C of the whole file.
    pub checksum: u32,
}

/// One thing to be done to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOp {
    /// How its answer will be recognised.
    pub id: OpId,
    /// Which file.
    pub file: FileName,
    /// What to do to it.
    pub action: Action,
}

/// What can be done to a file.
///
/// Operations under way at the same time may be carried out in any order, also on the same file:
/// whoever needs an order waits for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the file if it is missing, allocate it, write zeros over all of it, make contents,
    /// size and directory entry durable. For use off the append path.
    Prepare {
        /// Its size afterwards; a multiple of the block size.
        bytes: u64,
    },
    /// Gather the parts into one aligned buffer (the one copy), fill up with zeros, write; durable
    /// when answered. The range must have been written before (see [`Action::Prepare`]).
    WriteDurable {
        /// Where in the file; a multiple of the block size.
        at: u64,
        /// What to write, in order.
        parts: Vec<Bytes>,
        /// Length on disk; a multiple of the block size.
        padded_len: u32,
    },
    /// As [`Action::WriteDurable`], but durable only once a later [`Action::Flush`] is answered.
    /// Creates the file (and its folder) if it is missing; the flush then covers that as well.
    Write {
        /// Where in the file; a multiple of the block size.
        at: u64,
        /// What to write, in order.
        parts: Vec<Bytes>,
        /// Length on disk; a multiple of the block size.
        padded_len: u32,
    },
    /// Make durable whatever was answered on this file before: contents, size, directory entry.
    Flush,
    /// Read a range; what lies beyond the end of the file is missing from the answer.
    Read {
        /// Where in the file; a multiple of the block size.
        at: u64,
        /// How much; a multiple of the block size.
        len: u32,
    },
    /// Read a whole small file (at most [`crate::limits::SMALL_FILE_BYTES_MAX`]).
    ReadAll,
    /// Replace a whole small file at once: write beside it, flush, rename, flush the directory.
    /// The file has exactly the length of the parts afterwards.
    Replace {
        /// What to write, in order.
        parts: Vec<Bytes>,
    },
    /// Cut (or extend with a hole) to exactly this length, durably.
    Truncate {
        /// The length afterwards.
        len: u64,
    },
    /// Remove the file durably; that it is missing already is fine.
    Delete,
    /// List what a folder holds; a missing folder holds nothing.
    List,
    /// The file's length, if it exists.
    Size,
}

impl Action {
    /// How much it writes, or reads by its own word.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::WriteDurable { padded_len, .. } | Self::Write { padded_len, .. } => {
                u64::from(*padded_len)
            }
            Self::Read { len, .. } => u64::from(*len),
            Self::Prepare { bytes } => *bytes,
            Self::Replace { parts } => parts.iter().map(|part| part.len() as u64).sum(),
            Self::Flush
            | Self::ReadAll
            | Self::Truncate { .. }
            | Self::Delete
            | Self::List
            | Self::Size => 0,
        }
    }

    /// The action's name, for errors and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "prepare",
            Self::WriteDurable { .. } => "write durably",
            Self::Write { .. } => "write",
            Self::Flush => "flush",
            Self::Read { .. } => "read",
            Self::ReadAll => "read all",
            Self::Replace { .. } => "replace",
            Self::Truncate { .. } => "truncate",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Size => "size",
        }
    }
}

/// The answer to one [`DiskOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDone {
    /// Which operation.
    pub id: OpId,
    /// How it went.
    pub result: Result<Output, DiskError>,
}

/// What a successful operation gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing but that it is done.
    Done,
    /// What was read.
    Bytes(Bytes),
    /// What a folder holds, in ascending order; strange names are left out.
    Listing(Vec<Listed>),
    /// The length of the file, or that there is none.
    Size(Option<u64>),
}

impl Output {
    /// What was read, if anything was.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Done | Self::Listing(_) | Self::Size(_) => None,
        }
    }
}

/// One file found in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Which file.
    pub file: FileName,
    /// Its length.
    pub bytes: u64,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node record"),
            Self::Watermark => f.write_str("journal watermark"),
            Self::Journal(slot) => write!(f, "journal file {slot}"),
            Self::Manifest => f.write_str("manifest"),
            Self::Ballast => f.write_str("ballast"),
            Self::Segment { log, base, generation } => {
                write!(f, "segment {base}{generation} of {log}")
            }
            Self::Index { log, base, generation } => write!(f, "index {base}{generation} of {log}"),
            Self::Quarantine(name) => name.fmt(f),
            Self::CoreFolder => f.write_str("folder of the core"),
            Self::PartitionsFolder => f.write_str("folder of all partitions"),
            Self::LogFolder(log) => write!(f, "folder of {log}"),
        }
    }
}

impl fmt::Display for Generation {
    /// What follows the base offset in a file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::APPENDED { Ok(()) } else { write!(f, ".{}", self.0) }
    }
}

impl fmt::Display for Quarantined {
    /// The file's name in the folder of its core.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quarantine-{:020}-{:08x}", self.sequence, self.checksum)
    }
}

//! What goes wrong below, and what the caller must do about it.
//!
//! Does: give every failure of the world a type that names the file, the action and the remedy.
//! Does not: describe our own bugs; those abort the process by assertion.
//! Invariants: an error of a write or a flush never has the remedy "retry the same": after it the
//! contents of the place are unknown until the next start (fsync errors are reported once).
//! Apart because every room fails in these words. Inside the crate what can be waited out is told by
//! [`DiskErrorKind::is_want_of_room`]. An error that comes out ends the start or the shard that met
//! it, whatever it is; [`StorageError::remedy`] says what is to be done before the next one.

use std::fmt;

use crate::op::FileName;

/// Why one disk operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What kind of failure.
    pub kind: DiskErrorKind,
    /// On which file.
    pub file: FileName,
    /// What was tried (see [`crate::op::Action::name`]).
    pub action: &'static str,
}

/// Kinds of failure that are handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// The file system (or the quota) is full.
    NoSpace,
    /// The file does not exist.
    NotFound,
    /// The process or the machine has no file descriptor left.
    NoDescriptors,
    /// The file is larger than what may be read at once.
    TooLarge,
    /// This process may not do that there.
    Denied,
    /// Anything else, by operating system error number; 5 (`EIO`) is the device's word for "lost".
    Io(i32),
}

impl DiskErrorKind {
    /// Want of room or of descriptors: nothing was done and nothing is lost, so whoever has promised
    /// nothing yet waits and tries anew, instead of stopping (design D11, D13).
    #[must_use]
    pub fn is_want_of_room(self) -> bool {
        match self {
            Self::NoSpace | Self::NoDescriptors => true,
            Self::NotFound | Self::TooLarge | Self::Denied | Self::Io(_) => false,
        }
    }
}

impl DiskError {
    /// The file does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.kind == DiskErrorKind::NotFound
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action, self.file, self.kind)
    }
}

impl fmt::Display for DiskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space left"),
            Self::NotFound => f.write_str("no such file"),
            Self::NoDescriptors => f.write_str("no file descriptor left"),
            Self::TooLarge => f.write_str("larger than allowed"),
            Self::Denied => f.write_str("permission denied"),
            Self::Io(errno) => write!(f, "operating system error {errno}"),
        }
    }
}

impl std::error::Error for DiskError {}

/// A failure of storage as its callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// A write or flush failed: what lies there is unknown. The shard stops, answers what is
    /// pending as "outcome unknown", and only a restart decides (fault rows D9, D10, D12).
    DeviceFailed(DiskError),
    /// A read failed; the range concerned is unreadable, the rest may be fine (D8).
    Unreadable(DiskError),
    /// No room for what is not yet promised: refuse and come back (D11).
    NoSpace(DiskError),
    /// The data folder belongs to somebody else (D19).
    Foreign {
        /// Which file says so.
        file: FileName,
        /// Which part of the identity differs, with both values.
        what: String,
    },
    /// The data folder was written by a newer version.
    NewerFormat {
        /// Which file.
        file: FileName,
        /// The version found.
        found: u16,
        /// The newest version understood here.
        known: u16,
    },
    /// Both copies of a record are unreadable, or its contents contradict each other.
    Corrupt {
        /// Which file.
        file: FileName,
        /// What is wrong with it.
        what: String,
    },
    /// Acknowledged data is damaged and it cannot be told whose: an operator has to decide.
    NeedsOperator {
        /// What was found.
        what: String,
        /// What the operator can do.
        how: String,
    },
    /// Another process uses this data folder.
    InUse {
        /// The folder.
        path: String,
    },
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Refuse new work with a retriable answer; it can be tried again later.
    Refuse,
    /// The range concerned is lost here; fetch it from a peer or report it exactly.
    Repair,
    /// Stop this shard: nothing pending may be answered as done.
    StopShard,
    /// Do not start; tell the operator.
    DoNotStart,
}

impl StorageError {
    /// What it asks for.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::DeviceFailed(_) => Remedy::StopShard,
            Self::Unreadable(_) => Remedy::Repair,
            Self::NoSpace(_) => Remedy::Refuse,
            Self::Foreign { .. }
            | Self::NewerFormat { .. }
            | Self::Corrupt { .. }
            | Self::NeedsOperator { .. }
            | Self::InUse { .. } => Remedy::DoNotStart,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceFailed(e) => write!(f, "{e}; contents unknown until restart"),
            Self::Unreadable(e) | Self::NoSpace(e) => e.fmt(f),
            Self::Foreign { file, what } => write!(f, "{file} belongs to somebody else: {what}"),
            Self::NewerFormat { file, found, known } => write!(
                f,
                "{file} has format version {found}, this program knows versions up to {known}"
            ),
            Self::Corrupt { file, what } => write!(f, "{file} is corrupt: {what}"),
            Self::NeedsOperator { what, how } => write!(f, "{what}. {how}"),
            Self::InUse { path } => write!(f, "{path} is in use by another process"),
        }
    }
}

impl std::error::Error for StorageError {}

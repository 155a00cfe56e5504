//! What an operator may choose about the journal.
//!
//! Does: hold sizes and counts, and refuse those that contradict each other.
//! Does not: read options; the broker does.
//! Invariants: `JournalConfig::assert_sound` says which, and holds them before a journal opens.
//! Apart because the scan needs the same numbers before there is a journal.

use crate::format::frame::frame_bytes;
use crate::journal::packer::OPENING_FRAME_BYTES;
use crate::limits::{
    BLOCK_BYTES, COMMITS_IN_FLIGHT_MAX, JOURNAL_FILE_BYTES, JOURNAL_FILES_MAX, JOURNAL_FILES_MIN,
    JOURNAL_WINDOW_BYTES,
};

/// What an operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Size of one file; a multiple of the block size. An entry must fit into one.
    pub file_bytes: u64,
    /// What the files of the core may have together; at least three files. One of them is a reserve
    /// that appends do not fill. There are more only as long as it cannot be helped: those an earlier
    /// life with a larger or a full window left, some beside them so that a start can settle them, and
    /// one for what lets the oldest go if a crash took the reserve.
    pub window_bytes: u64,
    /// Durable writes under way at the same time: one or two.
    pub commits_in_flight: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            file_bytes: JOURNAL_FILE_BYTES,
            window_bytes: JOURNAL_WINDOW_BYTES,
            commits_in_flight: 1,
        }
    }
}

impl JournalConfig {
    /// The fewest files a window may have room for.
    pub const FILES_MIN: u64 = JOURNAL_FILES_MIN;

    /// Largest payload of one entry that fits a file.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.file_bytes as usize - OPENING_FRAME_BYTES - frame_bytes(0)
    }

    pub(crate) fn files_max(&self) -> u64 {
        self.window_bytes / self.file_bytes
    }

    /// Files appends may fill; the last one is the reserve for carried hard states and deletions.
    pub(crate) fn files_usable(&self) -> u64 {
        self.files_max() - 1
    }

    /// The journal refuses to run with limits that contradict each other.
    ///
    /// # Panics
    /// If they do: options are checked where they are read, so this is our own bug.
    pub(crate) fn assert_sound(&self) {
        assert!(self.file_bytes.is_multiple_of(BLOCK_BYTES as u64), "files are whole blocks");
        assert!(u32::try_from(self.file_bytes).is_ok(), "lengths inside a file fit 32 bits");
        assert!(self.file_bytes >= 2 * BLOCK_BYTES as u64, "a file holds more than its opening");
        assert!(self.files_max() >= JOURNAL_FILES_MIN, "the window holds enough files");
        assert!(self.files_max() <= JOURNAL_FILES_MAX, "slots fit their field");
        assert!((1..=COMMITS_IN_FLIGHT_MAX).contains(&self.commits_in_flight));
    }
}

//! What the disk holds: one journal per core, segments per partition, and the way back after a
//! crash.
//!
//! Does: make appended entries durable, keep them readable, and give back after any crash exactly
//! what was promised.
//! Does not: know consensus, requests or sockets; it knows logs, entries and files.
//! Invariants: everything outside `io/` is pure: it decides, pushes [`op::DiskOp`]s into a vector
//! the caller owns, and is fed [`op::DiskDone`]s. A write or flush that failed is never tried
//! again. What was reported durable is found again by recovery, whatever the crash.
//! Apart because the log must not know Raft, and Raft must not know files.
#![deny(unsafe_code)]

pub mod answers;
pub mod compaction;
pub mod error;
pub mod format;
pub mod inspect;
pub mod io;
pub mod journal;
pub mod limits;
pub mod manifest;
pub mod op;
pub mod reader;
pub mod recovery;
pub mod retention;
pub mod segment;
#[cfg(any(test, feature = "sim"))]
pub mod sim_disk;
pub mod store;
#[cfg(test)]
mod testing;

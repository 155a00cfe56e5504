//! Kafka's record batches, format 2: the unit that is produced, stored, replicated and fetched.
//!
//! Does: read headers in place, judge what a producer sent, stamp what the broker decides, walk
//! and build records, compress and decompress where the broker must look inside.
//! Does not: know topics, configuration or error codes; formats 0 and 1 are recognised, never read.
//! Invariants: bytes are judged before they are believed, and nothing here allocates what bytes
//! claim; what was accepted is stored as it came, except for the fields `stamp` writes.
//! Apart because producers, consumers, the log and the coordinators all speak it and none owns it.

pub mod builder;
pub mod check;
pub mod cleaned;
pub mod codec;
pub mod control;
pub mod deflation;
#[cfg(test)]
pub(crate) mod goldens;
pub mod header;
pub mod inflation;
pub mod inspection;
pub mod iter;
pub mod limits;
pub mod payload;
pub mod records;
pub mod repacking;
pub mod stamp;
pub mod walk;

//! Segments: where a log's batches rest once the journal may forget them.

pub mod index;
pub mod roll;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
pub mod segment;
pub mod set;
pub mod settle;
pub mod tail;

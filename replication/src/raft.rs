//! One Raft group: who leads, and in which order entries stand.
//!
//! Does: hold the two files that name the `raft` crate's types.
//! Does not: know offsets, producers or clients.
//! Invariants: nothing outside this folder can tell which Raft crate is used.
//! Apart because consensus is bought, not built, and may be bought elsewhere one day.

pub mod group;
pub mod log_view;

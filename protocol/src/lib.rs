//! What bytes mean: Kafka's wire protocol and record format.
//!
//! A leaf: no I/O, no clock, no randomness, no unsafe code, and it knows no other crate of Flumen.
#![forbid(unsafe_code)]

pub mod entry;
pub mod ids;
pub mod time;

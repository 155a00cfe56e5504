//! What a measurement leaves behind.
//!
//! Does: define the JSON of a limit probe, a load run and a comparison; nothing else is handed
//! from one subcommand to another.
//! Does not: measure, compute or print.
//! Invariants: units are part of each name; a number never stands without the durability class it
//! was measured in; [`FORMAT`] changes when a reader of yesterday would misread today's file.
//! Apart because every room reads or writes these and none owns them.

pub mod comparison;
pub mod environment;
pub mod load;
pub mod probes;

use serde::{Deserialize, Serialize};

/// Version of the JSON layout.
pub const FORMAT: u32 = 1;

/// What an acknowledgement meant when a number was measured. Classes are never mixed in a ratio
/// without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Durability {
    /// In the page cache of one machine: a power cut may lose acknowledged records. Stock Kafka.
    D0,
    /// On stable media before the acknowledgement. Stock Flumen; Kafka with
    /// `log.flush.interval.messages=1`.
    D1,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::D0 => "D0 (page cache)",
            Self::D1 => "D1 (durable)",
        })
    }
}

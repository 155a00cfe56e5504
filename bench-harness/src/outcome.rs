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

/// Version of the JSON layout. Files of format 1 have no class [`Durability::D0m`]; what they call
/// D0 is corrected when they are read (see `report::input`).
pub const FORMAT: u32 = 2;

/// What an acknowledgement meant when a number was measured, the weakest promise first. Classes are
/// never mixed in a ratio without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Durability {
    /// At most in the memory of the broker's own process: its crash may lose acknowledged records,
    /// a power cut too. Flumen's relaxed topics, which answer when the journal has been handed the
    /// records; the null responder, which keeps nothing.
    D0m,
    /// In the page cache of one machine: a power cut may lose acknowledged records, a crash of the
    /// process does not. Stock Kafka.
    D0,
    /// On stable media before the acknowledgement. Stock Flumen; Kafka with
    /// `log.flush.interval.messages=1`.
    D1,
}

impl Durability {
    /// Whether acknowledged records are there after the power was cut.
    #[must_use]
    pub fn survives_power_cut(self) -> bool {
        match self {
            Self::D0m | Self::D0 => false,
            Self::D1 => true,
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::D0m => "D0m (memory of the process)",
            Self::D0 => "D0 (page cache)",
            Self::D1 => "D1 (durable)",
        })
    }
}

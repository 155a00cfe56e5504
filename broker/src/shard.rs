//! One core: all of its state and the one way to change it.
//!
//! Does: own partitions, coordinators, open requests, journal and counters of this core; turn
//! inputs into effects.
//! Does not: touch sockets, files, clocks or other cores; the pump does that for it.
//! Invariants: [`shard::Shard::apply`] and [`shard::Shard::settle`] are the only doors.
//! Apart because it is the same code in production and in a simulated world.

pub mod admin;
pub mod chores;
pub mod coordinators;
pub mod courtesy;
pub mod early;
pub mod effect;
pub mod ends;
pub mod follows;
pub mod input;
pub mod inspections;
pub mod lag;
pub mod loads;
pub mod mailbox;
pub mod memory;
pub mod metadata;
pub mod outstanding;
pub mod partitions;
pub mod pending;
pub mod producer_ids;
pub mod pump;
pub mod quotas;
pub mod reads;
pub mod requests;
pub mod room;
pub mod routing;
pub mod settings;
#[expect(clippy::module_inception, reason = "the room is called as the thing it holds")]
pub mod shard;
pub mod stop;
pub mod timers;
pub mod transactions;
pub mod unreadable;
pub mod within;

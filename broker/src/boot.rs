//! From a command line to cores that serve.
//!
//! Does: look at the machine, take the data folder, recover, start one executor per core, stop.
//! Does not: serve.
//! Invariants: nothing listens before everything is recovered; the only entropy is drawn here.
//! Apart because it runs once, and may block while it does.

pub mod core_change;
pub mod cores;
pub mod executor;
pub mod folder;
pub mod inspect;
pub mod mesh;
pub mod open;
pub mod pulse;
pub mod seed;
pub mod serve;

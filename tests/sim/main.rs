//! A whole node as plain values in one thread: the shards of production on simulated disks.
//!
//! Does: tell stories that need several cores, a disk that can lose power, or a clock that can be
//! moved.
//! Does not: open sockets or files, or wait.
//! Invariants: the same story takes the same course every time.
//! Apart because it is the only test that sees shards, mesh and disk together.

mod admin;
mod cluster;
mod fetches;
mod lives;
mod memory;
mod settings;
mod stops;
mod stories;
mod swarm;
mod versions;
mod world;

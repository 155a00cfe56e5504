//! A whole node as plain values in one thread: the shards of production on simulated disks.
//!
//! Does: tell stories that need several cores, a disk that can lose power, or a clock that can be
//! moved.
//! Does not: open sockets or files, or wait.
//! Invariants: the same story takes the same course every time.
//! Apart because it is the only test that sees shards, mesh and disk together.

use tikv_jemallocator::Jemalloc;

mod admin;
mod asked;
mod bombs;
mod cluster;
mod fetches;
mod flips;
mod lives;
mod memory;
mod quotas;
mod sessions;
mod settings;
mod stops;
mod stories;
mod swarm;
mod transactions;
mod versions;
mod world;

/// The broker's own. Simulated lives take and give back memory all the time; with it they are a sixth quicker.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

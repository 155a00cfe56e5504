//! What must be equal on every replica: partitions, metadata and groups as pure state machines.
//!
//! | room | what it decides |
//! |---|---|
//! | [`partition`] | what a partition accepts, what is committed, who may read how far, who waits |
//! | [`coordinator`] | who is in a group, what it committed, and which records say so |
//! | [`metadata`] | which topics, brokers and settings there are |
//! | [`raft`] | the order of a log's entries and who leads, by the `raft` crate |
//! | [`outbox`] | the effects all rooms speak in |
//! | [`dice`] | the only randomness, seeded by the caller |
//! | [`error`], [`limits`] | how they say no, and how much they hold |
//!
//! Does: decide. Every call takes the time as an argument, changes its own state and pushes
//! effects into a vector the caller owns.
//! Does not: touch disk, network, clock, threads or dice; does not know `storage` or `broker`.
//! Invariants: one owner calls, never re-entrantly; the same inputs give the same effects on every
//! machine; whatever is replicated can be had again from its entries.
//! Apart because this is where correctness lives, and it must be testable without a machine.
//!
//! Who may call what: the broker's shard calls [`Partition`](partition::Partition) and the state
//! machines beside it; only `partition` calls [`raft`]; only the snapshot files and the
//! records of metadata import `wire`.

// The generated FlatBuffers code under `wire/generated` holds `unsafe` and is the one place that
// may, see decisions/0003-flatbuffers-need-unsafe.md.
#![deny(unsafe_code)]

pub mod coordinator;
pub mod dice;
pub mod error;
pub mod limits;
pub mod metadata;
pub mod outbox;
pub mod partition;
pub mod raft;
mod wire;

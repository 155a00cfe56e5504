//! How much clients may ask of this broker, and how long they wait for having asked more
//! (KIP-13, 124, 219, 599, 612).
//!
//! Does: find the bound that holds for a client, keep account of what was spent, say how long to
//! wait; tell other cores what was spent here.
//! Does not: read clocks, mute connections or persist quotas; the shard, `net` and the cluster's log
//! do.
//! Invariants: without quotas nothing is counted and nothing costs anything; the number of accounts
//! is bounded.
//! Apart because the rules are the same for records, requests, topics and connections.

pub mod bucket;
pub mod ledger;
pub mod rules;

/// The principal of every client, as long as nobody can say who he is.
pub const ANONYMOUS: &str = "ANONYMOUS";

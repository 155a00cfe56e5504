//! The house itself: cores, sockets, requests, configuration.
//!
//! Does: run a Kafka-protocol broker on this machine.
//! Does not: define bytes (`protocol`), files (`storage`) or what replicas agree on
//! (`replication`).
//! Invariants: `api` never sees sockets, `net` never sees partitions, only `shard` sees both
//! storage and replication; no unsafe code.
//! Apart because nothing may depend on it but the tests.
//!
//! | where | what |
//! |---|---|
//! | [`cli`], [`config`], [`doctor`] | what the operator says, and whether the machine is fit |
//! | [`boot`] | from there to cores that serve |
//! | [`net`] | sockets: bytes to frames, answers to bytes |
//! | [`shard`] | one core: everything it knows and does |
//! | [`api`] | what each request means |
//! | [`quota`] | how much clients may ask |
//! | [`telemetry`] | counters, the admin page, the log |
//! | [`limits`] | every bound, with its reason |
#![forbid(unsafe_code)]

pub mod api;
pub mod boot;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod limits;
pub mod net;
pub mod quota;
pub mod shard;
pub mod telemetry;

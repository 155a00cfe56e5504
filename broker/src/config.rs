//! Configuration: what an operator may set, how it is read, and how topics inherit it.
//!
//! Does: declares every option once, reads Kafka's `server.properties` form, refuses what it does not
//! know or cannot honour, describes every setting for DescribeConfigs, writes `CONFIG.md`.
//! Does not: remember what changes while the broker runs; the cluster's log does, and `dynamic` makes
//! new `Options` of it, which are read-only.
//! Invariants: an option exists exactly if it has one row in `declaration`; a Kafka name is either
//! declared, listed in `kafka_names`, or refused.
//! Apart because every other room receives its settings as plain fields and never looks them up by name.

pub mod declaration;
mod declaration_groups;
pub mod declared;
pub mod describe;
pub mod dynamic;
pub mod group_settings;
pub mod kafka_names;
pub mod kind;
pub mod listener;
pub mod load;
pub mod options;
pub mod properties;
pub mod reference;
mod refused;
mod resolve;
pub mod setting_change;
mod suggest;
pub mod topic;
pub mod topic_names;

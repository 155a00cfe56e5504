//! What the cluster consists of: topics, brokers, settings, levels of features.
//!
//! Does: turn administrative requests into records of the cluster's log and the committed
//! records into an immutable [`image::Image`] that every core shares.
//! Does not: store or order the records; the metadata partition does.
//! Invariants: an image never changes; replay of committed records is the only way to a new one.
//! Apart because the same log will be shared by many nodes.

pub mod command;
pub mod controller;
mod creation;
mod draft;
pub mod features;
pub mod image;
mod placement;
pub mod quota;
pub mod record;

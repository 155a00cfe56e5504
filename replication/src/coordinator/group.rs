//! The coordinator of consumer groups and of everything else that speaks the classic group
//! protocol (Connect workers, schema registries).
//!
//! Does: join, sync, heartbeat, leave; commit, fetch, delete and expire offsets; describe, list and
//! delete groups, as Kafka 4.1 does.
//! Does not: authorise, know topics, or decode and encode requests; the broker does.
//! Invariants: durable state (offsets, groups at the end of a rebalance) changes together with the
//! record that says so; everything else (who is waiting, sessions, rebalances under way) is lost
//! with the leader, and clients rejoin.
//! Apart because its rules are Kafka's, written down in one place.
//!
//! ```text
//!            first member joins             everyone joined, or time is up
//!   Empty ----------------------> Preparing ------------------------------> Completing
//!     ^                           ^ |    ^                                     |    |
//!     |      nobody came          | |    |     a member joins anew, leaves,    |    |
//!     +---------------------------+-+    +-------- or does not sync -----------+    |
//!                                 |                                                 |
//!                                 |   a member joins anew, leaves or is lost        v
//!                                 +--------------------------------------------- Stable
//! ```
//! A deleted or expired group is gone; Kafka's `Dead` is what `describe` says of an unknown one.

mod admin;
mod allowance;
mod any;
mod applied;
mod classic;
mod commit;
pub mod consumer;
mod dispatch;
mod exchange;
mod join;
mod member;
mod offsets;
mod order;
mod pending;
mod presence;
mod rebalance;
pub mod requests;
mod roster;
mod stored;
mod subscription;
mod turn;
mod within;

pub use admin::ListFilter;
pub use any::GroupState;
pub use classic::StateName;
pub use consumer::{ConsumerConfig, ConsumerState};
pub use dispatch::{CommittedRow, GroupCoordinator, GroupRow};
pub use order::listing_place;
pub use requests::{GroupEffect, GroupRequest, GroupResponse};

/// How groups behave. The names are Kafka's; [`GroupConfig::default`] has Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group; never more than
    /// [`crate::limits::GROUP_MEMBERS_MAX`].
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for
    /// more members; 0 lets the first one through with the next timer.
    pub initial_rebalance_delay_ms: i32,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as Kafka does.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// Groups of the new kind.
    pub consumer: ConsumerConfig,
    /// `offsets.commit.timeout.ms`: how long an answer waits for its records to be committed.
    pub commit_timeout_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60 * 1000,
            max_size: usize::MAX,
            initial_rebalance_delay_ms: 3_000,
            offset_metadata_max_bytes: 4096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 10 * 60 * 1000,
            consumer: ConsumerConfig::default(),
            commit_timeout_ms: 5_000,
        }
    }
}

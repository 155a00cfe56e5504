//! Groups of the new kind (KIP-848): the coordinator itself hands out partitions, member by member,
//! without stopping anybody who is not concerned.
//!
//! Does: heartbeats of the new protocol, server-side assignors, regular expressions as subscriptions,
//! static members, classic members among the others, and conversion from and to classic groups.
//! Does not: know requests for offsets; they are the same for both kinds.
//! Invariants: every change of a group is a fact that stands in a record, and loading applies the
//! same facts in the same way; at any time a partition is in the hands of one member at most.
//! Apart because the two kinds of groups share their offsets and nothing else.
//!
//! ```text
//! subscription or topics change  ->  group epoch + 1     (Assigning)
//! an assignor has run            ->  target epoch        (Reconciling)
//! each member moves by itself    ->  member epochs       (Stable when all have arrived)
//! ```

mod assigning;
mod assignor;
mod classic_members;
mod converting;
mod describe;
mod dispatch;
mod fact;
mod hash;
mod heartbeat;
mod losses;
mod member;
mod migration;
mod partitions;
mod patterns;
mod pen;
mod reconcile;
mod roster;
pub mod settings;
mod state;

pub use assignor::Assignor;
pub use migration::MigrationPolicy;
pub use state::ConsumerState;

pub(super) use converting::Conversions;
pub(super) use dispatch::{ConsumerRecord, asker, check_commit, check_fetch};
pub(super) use fact::Fact;
pub(super) use roster::Consumers;
pub(super) use state::ConsumerGroup;

use crate::limits::GROUP_MEMBERS_MAX;

/// How groups of the new kind behave. The names are Kafka's; [`ConsumerConfig::default`] has Kafka's
/// defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.session.timeout.ms`, where the group has no value of its own.
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`, likewise.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of one group; never more than
    /// [`crate::limits::GROUP_MEMBERS_MAX`].
    pub max_size: usize,
    /// `group.consumer.assignors`: those members may ask for. The first is for groups whose members ask
    /// for none.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i32,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: GROUP_MEMBERS_MAX,
            assignors: Assignor::ALL.to_vec(),
            migration_policy: MigrationPolicy::Bidirectional,
            regex_refresh_interval_ms: 600_000,
        }
    }
}

impl ConsumerConfig {
    /// The assignor of this name, if members may ask for it.
    pub(super) fn assignor(&self, name: &str) -> Option<Assignor> {
        Assignor::named(name).filter(|named| self.assignors.contains(named))
    }

    /// The assignor of a group whose members like best the one of this name, if they name any. One that
    /// nobody may ask for any more is as good as none.
    pub(super) fn assignor_or_default(&self, preferred: Option<&str>) -> Assignor {
        let named = preferred.and_then(|name| self.assignor(name));
        named.or_else(|| self.assignors.first().copied()).unwrap_or(Assignor::Uniform)
    }
}

#[cfg(test)]
mod tests;

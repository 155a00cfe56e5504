//! One member of a group of the new kind.
//!
//! Does: hold what it says of itself and what it has.
//! Does not: know the other members, or what it shall have.
//! Invariants: the topics it names ascend and each is there once; nothing in it borrows or pins a
//! request's buffer.
//! Apart because the group's arithmetic over members is easier to follow without their fields.

use std::sync::Arc;

use bytes::Bytes;

use super::super::member::Protocol;
use super::partitions::Partitions;

/// The epoch of a static member that has left for a while (KIP-848).
pub(super) const AWAY_EPOCH: i32 = -2;

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Profile {
    /// KIP-345: set for a static member, whose place outlives its process.
    pub(super) instance: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    /// The topics it names.
    pub(super) topics: Vec<String>,
    /// The pattern of the topics it wants; empty: none.
    pub(super) pattern: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) assignor: Option<String>,
    /// Set if it speaks the classic protocol.
    pub(super) classic: Option<Classic>,
}

/// Names of topics as a [`Profile`] has them, however they were said.
pub(super) fn in_order<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

/// What a member that speaks the classic protocol says beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Classic {
    pub(super) session_timeout_ms: i32,
    /// Never empty.
    pub(super) protocols: Vec<Protocol>,
}

/// How far a member has come with what it shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has what it shall have in its epoch.
    #[default]
    Stable,
    /// It must give up partitions first.
    Unrevoked,
    /// It waits for partitions that others have not given up.
    Unreleased,
    /// A state of a newer Kafka: the member must begin anew.
    Unknown,
}

impl Progress {
    /// Kafka's number for it.
    pub(super) fn code(self) -> i8 {
        match self {
            Self::Unknown => 127,
            Self::Stable => 1,
            Self::Unrevoked => 2,
            Self::Unreleased => 3,
        }
    }

    pub(super) fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Stable,
            2 => Self::Unrevoked,
            3 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Holding {
    /// What its next heartbeat must say.
    pub(super) epoch: i32,
    /// What it may say if the answer with the epoch was lost.
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    /// What it may use.
    pub(super) assigned: Arc<Partitions>,
    /// What it must give up.
    pub(super) revoking: Arc<Partitions>,
}

/// A member.
#[derive(Clone, Debug, Default)]
pub(in crate::coordinator::group) struct ConsumerMember {
    pub(super) profile: Arc<Profile>,
    pub(super) holding: Holding,
}

impl Holding {
    /// Whether there is nothing left to do in `epoch`.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == epoch
    }
}

impl Profile {
    /// What it weighs in memory beyond a member's fixed size.
    pub(super) fn weight_bytes(&self) -> usize {
        const NAME_BYTES: usize = 24;
        let options = [&self.instance, &self.rack, &self.assignor];
        let options: usize = options.into_iter().flatten().map(String::len).sum();
        let topics: usize = self.topics.iter().map(|topic| topic.len() + NAME_BYTES).sum();
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = classic.map(|one| one.name.len() + one.metadata.len()).sum();
        let texts = self.client_id.len() + self.client_host.len() + self.pattern.len();
        options + topics + classic + texts
    }

    /// What it says about the protocol it likes best, if it speaks the classic protocol.
    pub(super) fn subscription(&self) -> Option<&Bytes> {
        self.classic.as_ref().and_then(|classic| classic.protocols.first()).map(|one| &one.metadata)
    }
}

impl ConsumerMember {
    pub(super) fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }

    /// How long it may be silent, if it says so itself.
    pub(super) fn session_timeout_ms(&self) -> Option<i32> {
        self.profile.classic.as_ref().map(|classic| classic.session_timeout_ms)
    }

    /// How long it may take to give up what it must, if that is waited for.
    pub(super) fn revocation_timeout_ms(&self) -> Option<i32> {
        let must_revoke = self.holding.progress == Progress::Unrevoked && !self.is_classic();
        must_revoke.then_some(self.profile.rebalance_timeout_ms)
    }

    /// What it weighs in memory, roughly, with its alarms.
    pub(super) fn weight_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 512;
        let held = self.holding.assigned.weight_bytes() + self.holding.revoking.weight_bytes();
        FIXED_BYTES + self.profile.weight_bytes() + held
    }
}

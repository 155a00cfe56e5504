//! A group of either kind, for what is asked of both.
//!
//! Does: answer what offsets and administration ask of a group.
//! Does not: change it.
//! Invariants: none of its own.
//! Apart because offsets do not care how a group's members find each other.

use super::classic::{Group, StateName};
use super::consumer::{ConsumerGroup, ConsumerState};

/// How a group fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// A classic one.
    Classic(StateName),
    /// One of the new kind.
    Consumer(ConsumerState),
}

impl GroupState {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let classic = StateName::ALL.into_iter().map(Self::Classic);
        classic.chain(ConsumerState::ALL.into_iter().map(Self::Consumer))
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic(state) => state.as_str(),
            Self::Consumer(state) => state.as_str(),
        }
    }

    /// Kafka's name for the kind of group.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }
}

/// A group of either kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnyGroup<'a> {
    Classic(&'a Group),
    Consumer(&'a ConsumerGroup),
}

impl<'a> AnyGroup<'a> {
    pub(super) fn id(self) -> &'a str {
        match self {
            Self::Classic(group) => &group.id,
            Self::Consumer(group) => &group.id,
        }
    }

    pub(super) fn is_empty(self) -> bool {
        match self {
            Self::Classic(group) => group.state_name() == StateName::Empty,
            Self::Consumer(group) => group.members().is_empty(),
        }
    }

    /// Nobody is in it or about to be.
    pub(super) fn is_unused(self) -> bool {
        match self {
            Self::Classic(group) => self.is_empty() && group.pending().is_empty(),
            Self::Consumer(_) => self.is_empty(),
        }
    }

    /// Whether it is known which topics its members want.
    pub(super) fn is_consumer(self) -> bool {
        match self {
            Self::Classic(group) => group.is_consumer(),
            Self::Consumer(_) => true,
        }
    }

    pub(super) fn subscribes_to(self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.subscribes_to(topic),
            Self::Consumer(group) => group.subscribes_to(topic),
        }
    }
}

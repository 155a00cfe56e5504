//! What groups of the new kind leave in the offsets topic, and how it is read back.
//!
//! Does: turn facts about a group into records and records into facts.
//! Does not: know the bytes; `internal_topics::consumer_groups` does. Does not apply them either.
//! Invariants: a fact read back is the fact written.
//! Apart because memory and log are different things that must not drift into each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::internal_topics::consumer_groups::{
    ClassicValue, ConsumerKey, GroupEpochValue, MemberValue, PatternValue, read_current,
    read_group_epoch, read_member, read_pattern, read_target, read_target_epoch,
    write_consumer_key, write_current, write_group_epoch, write_member, write_pattern,
    write_target, write_target_epoch,
};
use flumen_protocol::time::Wall;
use flumen_protocol::wire::read::DecodeError;

use super::super::member::Protocol;
use super::member::{Classic, Holding, Profile, Progress, in_order};
use super::partitions::Partitions;
use crate::coordinator::machine::StateRecord;

/// The topics a regular expression stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Resolved {
    pub(super) topics: Arc<BTreeSet<String>>,
    /// The image they were found in.
    pub(super) version: u64,
    pub(super) at: Wall,
}

/// Something that is true of a group from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::coordinator::group) enum Fact {
    /// The group has this epoch, and its topics this hash.
    Epoch {
        epoch: i32,
        topics_hash: i64,
    },
    /// The group is no more.
    Gone,
    /// A broker before 4.1 has stored the topics, which must be taken out of the log one day.
    OldTopics,
    OldTopicsGone,
    Member {
        member: String,
        profile: Arc<Profile>,
    },
    MemberGone {
        member: String,
    },
    TargetEpoch(i32),
    TargetEpochGone,
    Target {
        member: String,
        partitions: Arc<Partitions>,
    },
    TargetGone {
        member: String,
    },
    Current {
        member: String,
        holding: Holding,
    },
    CurrentGone {
        member: String,
    },
    Pattern {
        pattern: String,
        resolved: Resolved,
    },
    PatternGone {
        pattern: String,
    },
}

impl Fact {
    /// The record that says so.
    pub(super) fn record(&self, group: &str) -> StateRecord {
        let (key, value) = match self {
            Self::Epoch { epoch, topics_hash } => {
                let value = GroupEpochValue { epoch: *epoch, topics_hash: *topics_hash };
                (ConsumerKey::Group, Some(write_group_epoch(&value)))
            }
            Self::Gone => (ConsumerKey::Group, None),
            // The first is only read from old logs; the second takes it out of them.
            Self::OldTopics | Self::OldTopicsGone => (ConsumerKey::OldTopics, None),
            Self::Member { member, profile } => {
                (ConsumerKey::Member(member), Some(write_profile(profile)))
            }
            Self::MemberGone { member } => (ConsumerKey::Member(member), None),
            Self::TargetEpoch(epoch) => {
                (ConsumerKey::TargetEpoch, Some(write_target_epoch(*epoch)))
            }
            Self::TargetEpochGone => (ConsumerKey::TargetEpoch, None),
            Self::Target { member, partitions } => {
                (ConsumerKey::Target(member), Some(write_target(partitions.iter())))
            }
            Self::TargetGone { member } => (ConsumerKey::Target(member), None),
            Self::Current { member, holding } => {
                let epochs = (holding.epoch, holding.previous_epoch, holding.progress.code());
                let value = write_current(epochs, holding.assigned.iter(), holding.revoking.iter());
                (ConsumerKey::Current(member), Some(value))
            }
            Self::CurrentGone { member } => (ConsumerKey::Current(member), None),
            Self::Pattern { pattern, resolved } => {
                let value = PatternValue {
                    topics: resolved.topics.iter().map(String::as_str).collect(),
                    version: i64::try_from(resolved.version).unwrap_or(i64::MAX),
                    timestamp: resolved.at.0,
                };
                (ConsumerKey::Pattern(pattern), Some(write_pattern(&value)))
            }
            Self::PatternGone { pattern } => (ConsumerKey::Pattern(pattern), None),
        };
        StateRecord { key: write_consumer_key(group, &key), value }
    }

    /// Whether it only takes something away.
    pub(super) fn is_tombstone(&self) -> bool {
        match self {
            Self::Epoch { .. }
            | Self::OldTopics
            | Self::Member { .. }
            | Self::TargetEpoch(_)
            | Self::Target { .. }
            | Self::Current { .. }
            | Self::Pattern { .. } => false,
            Self::Gone
            | Self::OldTopicsGone
            | Self::MemberGone { .. }
            | Self::TargetEpochGone
            | Self::TargetGone { .. }
            | Self::CurrentGone { .. }
            | Self::PatternGone { .. } => true,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the value is not what Kafka writes.
    pub(in crate::coordinator::group) fn read(
        key: &ConsumerKey<'_>,
        value: Option<&[u8]>,
    ) -> Result<Self, DecodeError> {
        let fact = match (key, value) {
            (ConsumerKey::Group, None) => Self::Gone,
            (ConsumerKey::Group, Some(value)) => {
                let GroupEpochValue { epoch, topics_hash } = read_group_epoch(value)?;
                Self::Epoch { epoch, topics_hash }
            }
            (ConsumerKey::OldTopics, None) => Self::OldTopicsGone,
            (ConsumerKey::OldTopics, Some(_)) => Self::OldTopics,
            (ConsumerKey::Member(member), None) => {
                Self::MemberGone { member: (*member).to_owned() }
            }
            (ConsumerKey::Member(member), Some(value)) => {
                let profile = Arc::new(restore_profile(&read_member(value)?));
                Self::Member { member: (*member).to_owned(), profile }
            }
            (ConsumerKey::TargetEpoch, None) => Self::TargetEpochGone,
            (ConsumerKey::TargetEpoch, Some(value)) => Self::TargetEpoch(read_target_epoch(value)?),
            (ConsumerKey::Target(member), None) => {
                Self::TargetGone { member: (*member).to_owned() }
            }
            (ConsumerKey::Target(member), Some(value)) => {
                let partitions = Arc::new(Partitions::from_list(read_target(value)?));
                Self::Target { member: (*member).to_owned(), partitions }
            }
            (ConsumerKey::Current(member), None) => {
                Self::CurrentGone { member: (*member).to_owned() }
            }
            (ConsumerKey::Current(member), Some(value)) => {
                Self::Current { member: (*member).to_owned(), holding: restore_holding(value)? }
            }
            (ConsumerKey::Pattern(pattern), None) => {
                Self::PatternGone { pattern: (*pattern).to_owned() }
            }
            (ConsumerKey::Pattern(pattern), Some(value)) => {
                Self::Pattern { pattern: (*pattern).to_owned(), resolved: restore_resolved(value)? }
            }
        };
        Ok(fact)
    }
}

fn write_profile(profile: &Profile) -> Bytes {
    let classic = profile.classic.as_ref().map(|classic| ClassicValue {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .protocols
            .iter()
            .map(|one| (one.name.as_str(), one.metadata.as_ref()))
            .collect(),
    });
    write_member(&MemberValue {
        instance_id: profile.instance.as_deref(),
        rack_id: profile.rack.as_deref(),
        client_id: &profile.client_id,
        client_host: &profile.client_host,
        topic_names: profile.topics.iter().map(String::as_str).collect(),
        topic_pattern: Some(&profile.pattern),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        assignor: profile.assignor.as_deref(),
        classic,
    })
}

fn restore_profile(value: &MemberValue<'_>) -> Profile {
    let topics = in_order(value.topic_names.iter().copied());
    let classic = value.classic.as_ref().filter(|classic| !classic.protocols.is_empty());
    let classic = classic.map(|classic| Classic {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .protocols
            .iter()
            .map(|(name, metadata)| Protocol {
                name: (*name).to_owned(),
                metadata: Bytes::copy_from_slice(metadata),
            })
            .collect(),
    });
    Profile {
        instance: value.instance_id.map(str::to_owned),
        rack: value.rack_id.map(str::to_owned),
        client_id: value.client_id.to_owned(),
        client_host: value.client_host.to_owned(),
        topics,
        pattern: value.topic_pattern.unwrap_or_default().to_owned(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.assignor.map(str::to_owned),
        classic,
    }
}

fn restore_holding(value: &[u8]) -> Result<Holding, DecodeError> {
    let value = read_current(value)?;
    Ok(Holding {
        epoch: value.epoch,
        previous_epoch: value.previous_epoch,
        progress: Progress::from_code(value.state),
        assigned: Arc::new(Partitions::from_list(value.assigned)),
        revoking: Arc::new(Partitions::from_list(value.revoking)),
    })
}

fn restore_resolved(value: &[u8]) -> Result<Resolved, DecodeError> {
    let value = read_pattern(value)?;
    Ok(Resolved {
        topics: Arc::new(value.topics.iter().map(ToString::to_string).collect()),
        version: u64::try_from(value.version).unwrap_or(0),
        at: Wall(value.timestamp),
    })
}

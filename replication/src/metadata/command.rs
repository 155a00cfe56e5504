//! What the controller may be asked, and what it answers: plain data.
//!
//! Does: name commands, outcomes and refusals.
//! Does not: decide; [`super::controller`] does.
//! Invariants: an outcome has one result per item of its command, in the same order.
//! Apart because the API rooms speak these words and must not see the controller.

use std::collections::BTreeMap;

use flumen_protocol::ids::{NodeId, PartitionIndex, ProducerId, TopicId};

use super::image::Broker;
use super::quota::{QuotaBound, QuotaEntity, QuotaKey};

/// A change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make topics. With `validate_only` everything is checked and nothing made.
    CreateTopics {
        /// Which, in the request's order.
        topics: Vec<NewTopic>,
        /// Only check.
        validate_only: bool,
    },
    /// Remove topics and their records.
    DeleteTopics(Vec<TopicId>),
    /// Give topics more partitions. With `validate_only` nothing is made.
    GrowTopics {
        /// Which, in the request's order.
        topics: Vec<Growth>,
        /// Only check.
        validate_only: bool,
    },
    /// Change the settings of topics and nodes.
    Configure(Vec<Configuration>),
    /// Set aside producer ids nobody else will get.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Change the levels of features: all of them, or none.
    UpdateFeatures {
        /// Which, in the request's order.
        updates: Vec<FeatureUpdate>,
        /// Only check.
        validate_only: bool,
    },
    /// Change the quotas of clients. With `validate_only` nothing is changed.
    AlterQuotas {
        /// Which, in the request's order; no entity twice.
        alterations: Vec<QuotaAlteration>,
        /// Only check.
        validate_only: bool,
    },
    /// Announce a node or its new addresses.
    RegisterBroker(Broker),
}

impl Command {
    /// About how much memory it takes, in bytes: names, settings and places are counted.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let below = match self {
            Self::CreateTopics { topics, .. } => topics.iter().map(NewTopic::weight_bytes).sum(),
            Self::DeleteTopics(topics) => size_of_val(topics.as_slice()),
            Self::GrowTopics { topics, .. } => topics.iter().map(Growth::weight_bytes).sum(),
            Self::Configure(wishes) => wishes.iter().map(Configuration::weight_bytes).sum(),
            Self::UpdateFeatures { updates, .. } => {
                updates.iter().map(|update| size_of::<FeatureUpdate>() + update.name.len()).sum()
            }
            Self::AlterQuotas { alterations, .. } => {
                alterations.iter().map(QuotaAlteration::weight_bytes).sum()
            }
            Self::AllocateProducerIds { .. } | Self::RegisterBroker(_) => 0,
        };
        size_of::<Self>() + below
    }
}

fn weight_of(configs: &BTreeMap<String, String>) -> usize {
    let lines = configs.iter().map(|(name, value)| name.len() + value.len());
    lines.map(|line| line + 2 * size_of::<String>()).sum()
}

impl NewTopic {
    fn weight_bytes(&self) -> usize {
        let replicas = self.assignment.iter().map(|(_, nodes)| size_of_val(nodes.as_slice()));
        size_of::<Self>()
            + self.name.len()
            + size_of_val(self.assignment.as_slice())
            + replicas.sum::<usize>()
            + weight_of(&self.configs)
    }
}

impl Growth {
    fn weight_bytes(&self) -> usize {
        let nodes = |nodes: &Vec<NodeId>| size_of::<Vec<NodeId>>() + size_of_val(nodes.as_slice());
        let replicas = self.assignment.iter().flatten().map(nodes);
        size_of::<Self>() + self.name.len() + replicas.sum::<usize>()
    }
}

impl Configuration {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + weight_of(&self.configs) + self.based_on.as_ref().map_or(0, weight_of)
    }
}

impl QuotaAlteration {
    fn weight_bytes(&self) -> usize {
        let names = self.entity.parts().map(|(_, name)| name.map_or(0, str::len));
        size_of::<Self>() + names.sum::<usize>() + 64 * self.changes.len()
    }
}

/// A topic to be made. Names and settings were checked against Kafka's rules before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// The identity it gets.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions; at least one. Ignored with an assignment.
    pub partitions: i32,
    /// How many replicas each; at least one. Ignored with an assignment.
    pub replication_factor: i16,
    /// Explicit replicas by partition, or empty: the controller places them.
    pub assignment: Vec<(PartitionIndex, Vec<NodeId>)>,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Which topic.
    pub name: String,
    /// How many partitions it shall have in all.
    pub count: i32,
    /// Explicit replicas of the new partitions, or `None`: the controller places them.
    pub assignment: Option<Vec<Vec<NodeId>>>,
}

/// New settings for a topic, a group or nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Whose.
    pub owner: ConfigOwner,
    /// The complete own settings it shall have (checked before).
    pub configs: BTreeMap<String, String>,
    /// The own settings that `configs` were made from, if they were: the change is refused when the
    /// owner has others by now, and must be made anew from those.
    pub based_on: Option<BTreeMap<String, String>>,
    /// Only check that the owner exists.
    pub validate_only: bool,
}

/// What settings can belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOwner {
    /// The topic of this name.
    Topic(String),
    /// The group of this id, whether there is one or not.
    Group(String),
    /// A node.
    Broker(NodeId),
    /// Every node that has not set its own.
    AllBrokers,
}

/// Other quotas for an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaAlteration {
    /// Whose.
    pub entity: QuotaEntity,
    /// What is bounded how from now on, or no more; the rest stays.
    pub changes: BTreeMap<QuotaKey, Option<QuotaBound>>,
}

/// Another level for a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// Which feature.
    pub name: String,
    /// The level it shall have.
    pub level: i16,
    /// What the client allows; `None` where it says something nobody knows.
    pub direction: Option<Direction>,
}

/// Where the level of a feature may go (KIP-778).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up only.
    Upgrade,
    /// Down, if no metadata are lost by it.
    SafeDowngrade,
    /// Down in any case.
    UnsafeDowngrade,
}

/// What became of a command, one result per item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To `CreateTopics`: what was made.
    Created(Vec<Result<CreatedTopic, MetadataRefusal>>),
    /// To `DeleteTopics`, `GrowTopics`, `Configure`, `UpdateFeatures`, `AlterQuotas`.
    Changed(Vec<Result<(), MetadataRefusal>>),
    /// To `AllocateProducerIds`: the first of them.
    ProducerIds(ProducerId),
    /// To `RegisterBroker`.
    Registered,
    /// The metadata log could not take the records; nothing or everything of it may have
    /// happened, and asking again is right.
    Unavailable,
}

/// A topic that was made (or would be).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas each.
    pub replication_factor: i16,
}

/// Why the controller refuses one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRefusal {
    /// Which rule.
    pub kind: MetadataRule,
    /// What happened, to what, and what to do, for the user.
    pub message: String,
}

/// The rules a command can break; each is one Kafka error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRule {
    /// The topic exists, or is asked for twice: TOPIC_ALREADY_EXISTS.
    TopicExists,
    /// No such topic: UNKNOWN_TOPIC_OR_PARTITION.
    UnknownTopic,
    /// No topic with this identity: UNKNOWN_TOPIC_ID.
    UnknownTopicId,
    /// The name collides with another one in metrics (`.` and `_`): INVALID_TOPIC_EXCEPTION.
    NameCollision,
    /// Not a possible number of partitions: INVALID_PARTITIONS.
    Partitions,
    /// More replicas than nodes, or none: INVALID_REPLICATION_FACTOR.
    ReplicationFactor,
    /// The explicit replicas make no sense: INVALID_REPLICA_ASSIGNMENT.
    Assignment,
    /// Not a possible level of a feature: INVALID_UPDATE_VERSION.
    FeatureLevel,
    /// The settings are not those any more that the new ones were made from. No client sees this:
    /// who asked asks again.
    Outdated,
    /// More at once, or in all, than [`limits`](crate::limits) allow: POLICY_VIOLATION.
    TooMuch,
}

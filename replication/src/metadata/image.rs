//! The cluster as it is known at one point of its log: immutable, shared by refcount.
//!
//! Does: answer which topics, partitions, brokers and settings there are.
//! Does not: change; [`super::controller`] makes the next one.
//! Invariants: every name leads to a topic of that name; partitions are numbered without gaps.
//! Apart because every core reads it and nobody may write it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use flumen_protocol::ids::{LogId, NodeId, PartitionIndex, TopicId};

use super::quota::{QuotaEntity, Quotas};

/// The cluster's metadata at one point of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// How many records of the cluster's log are in it.
    pub version: u64,
    /// The nodes that registered.
    pub brokers: BTreeMap<NodeId, Broker>,
    /// What nodes were given while running, by Kafka's names; under `None` what holds for every node
    /// without a value of its own. Invariant: no list is empty.
    pub broker_configs: BTreeMap<Option<NodeId>, Arc<BTreeMap<String, String>>>,
    /// What groups were given of their own (KIP-848), by Kafka's names. Invariant: no list is empty.
    pub group_configs: BTreeMap<String, Arc<BTreeMap<String, String>>>,
    /// The levels of features that were ever set; see [`super::features::level`] for the others.
    pub features: BTreeMap<String, i16>,
    /// The quotas of clients. Counted, so that an image of other things shares them. Invariant: no
    /// entity is without any.
    pub client_quotas: Arc<BTreeMap<QuotaEntity, Quotas>>,
    /// The first producer id that was never given out.
    pub next_producer_id: i64,
    /// Invariant: each lies under its own id.
    pub(super) topics: BTreeMap<TopicId, Arc<Topic>>,
    /// Invariant: exactly the names of `topics`. Counted, so that the next image copies no text.
    pub(super) names: BTreeMap<Arc<str>, TopicId>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity; a topic of the same name made later has another.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<Placement>,
    /// Its own settings, by Kafka's names; what is not here the broker's settings decide.
    pub configs: BTreeMap<String, String>,
}

/// Where a partition lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its replicas, the preferred leader first. Never empty.
    pub replicas: Vec<NodeId>,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its identity.
    pub id: NodeId,
    /// Its failure domain (`broker.rack`).
    pub rack: Option<String>,
    /// Where clients reach it, one per listener, in the order of `listeners`.
    pub endpoints: Vec<Endpoint>,
}

/// Where clients of one listener reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// A host name or address that clients can use.
    pub host: String,
    /// A port.
    pub port: u16,
}

impl Image {
    /// The topic with this identity.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic of this name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.names.get(name).and_then(|id| self.topics.get(id))
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// The topics whose names come behind `name`, by name.
    pub fn topics_after(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let behind = (Bound::Excluded(name), Bound::Unbounded);
        self.names.range::<str, _>(behind).filter_map(|(_, id)| self.topics.get(id))
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Every partition of every topic.
    pub fn logs(&self) -> impl Iterator<Item = LogId> {
        self.topics.values().flat_map(|topic| topic.logs())
    }
}

impl Topic {
    /// The log of a partition, if the topic has it.
    pub fn log(&self, partition: PartitionIndex) -> Option<LogId> {
        let place = usize::try_from(partition.0).ok()?;
        (place < self.partitions.len()).then_some(LogId { topic: self.id, partition })
    }

    /// The logs of all partitions, by number.
    pub fn logs(&self) -> impl Iterator<Item = LogId> {
        let topic = self.id;
        (0..self.partitions.len())
            .map(move |place| LogId { topic, partition: PartitionIndex(place as i32) })
    }
}

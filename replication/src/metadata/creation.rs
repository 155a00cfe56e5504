//! How topics and partitions come to be.
//!
//! Does: judge requests for new topics and for more partitions by Kafka's rules, and write the
//! records of those that pass.
//! Does not: change the image, or check the spelling of names and settings (done before).
//! Invariants: an item is judged as if the items before it had happened already; one that is
//! refused leaves no record. Sources: KIP-4 (topics), KIP-195 (partitions).
//! Apart because these are most of the rules, and they read nothing but the image.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::ids::{NodeId, PartitionIndex, TopicId};

use super::command::{CreatedTopic, Growth, MetadataRefusal, MetadataRule, NewTopic};
use super::draft::Draft;
use super::image::{Image, Placement};
use super::placement;
use super::record::MetadataRecord;
use crate::limits::TOPIC_PARTITIONS_MAX;

/// Topics with `.` or `_` in their names, as (name in metrics, name).
pub(super) type MetricNames = BTreeSet<(String, String)>;

/// The name a topic has in metrics, if other names could lead to the same one: Kafka's reporters
/// cannot tell `.` from `_`.
pub(super) fn metric_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// New topics, while their command is being decided.
pub(super) struct Creation<'a> {
    image: &'a Image,
    metric_names: &'a MetricNames,
    nodes: Vec<NodeId>,
    /// Of the items before.
    new_names: BTreeSet<&'a str>,
    /// Of the items before, by their names in metrics.
    new_metric_names: BTreeMap<String, &'a str>,
    /// Of the items before.
    new_ids: BTreeSet<TopicId>,
}

impl<'a> Creation<'a> {
    /// Begins.
    pub fn new(image: &'a Image, metric_names: &'a MetricNames) -> Self {
        Self {
            image,
            metric_names,
            nodes: image.brokers.keys().copied().collect(),
            new_names: BTreeSet::new(),
            new_metric_names: BTreeMap::new(),
            new_ids: BTreeSet::new(),
        }
    }

    /// Decides on one topic.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn create(
        &mut self,
        topic: &'a NewTopic,
        draft: &mut Draft,
    ) -> Result<CreatedTopic, MetadataRefusal> {
        assert!(topic.id != TopicId::ZERO && topic.id != TopicId::METADATA, "a reserved topic id");
        self.check_name(&topic.name)?;
        self.check_id(topic.id)?;
        let partitions = self.partitions(topic, draft)?;
        let created = CreatedTopic {
            id: topic.id,
            partitions: i32::try_from(partitions.len()).expect("limited"),
            replication_factor: replication_factor(&partitions)?,
        };
        draft.admit(MetadataRecord::Topic {
            id: topic.id,
            name: topic.name.clone(),
            partitions,
            configs: topic.configs.clone(),
        })?;
        self.new_ids.insert(topic.id);
        self.new_names.insert(&topic.name);
        if let Some(metric_name) = metric_name(&topic.name) {
            self.new_metric_names.insert(metric_name, &topic.name);
        }
        Ok(created)
    }

    fn check_name(&self, name: &str) -> Result<(), MetadataRefusal> {
        if self.image.topic_named(name).is_some() || self.new_names.contains(name) {
            let message = format!("Topic '{name}' already exists.");
            return Err(MetadataRefusal { kind: MetadataRule::TopicExists, message });
        }
        let Some(metric_name) = metric_name(name) else {
            return Ok(());
        };
        let from = (metric_name.clone(), String::new());
        let standing = self.metric_names.range(from..).next();
        let other = standing
            .filter(|(other, _)| *other == metric_name)
            .map(|(_, name)| name.as_str())
            .or_else(|| self.new_metric_names.get(&metric_name).copied());
        match other {
            Some(other) => Err(MetadataRefusal {
                kind: MetadataRule::NameCollision,
                message: format!(
                    "Topic '{name}' collides with topic '{other}': metrics cannot tell '.' from \
                     '_'. Choose another name."
                ),
            }),
            None => Ok(()),
        }
    }

    /// Ids are drawn, so this is next to impossible; but a topic's id must name its logs only.
    fn check_id(&self, id: TopicId) -> Result<(), MetadataRefusal> {
        if self.image.topic(id).is_some() || self.new_ids.contains(&id) {
            let message = format!("The topic id {id} is in use; ask again to get another.");
            return Err(MetadataRefusal { kind: MetadataRule::TopicExists, message });
        }
        Ok(())
    }

    fn partitions(
        &self,
        topic: &NewTopic,
        draft: &mut Draft,
    ) -> Result<Vec<Placement>, MetadataRefusal> {
        if topic.assignment.is_empty() {
            let count = check_count(&topic.name, topic.partitions)?;
            let replica_count = check_replication(topic.replication_factor.into(), &self.nodes)?;
            draft.ask_partitions(count)?;
            return Ok(placement::place(topic.id, &self.nodes, 0..count, replica_count));
        }
        let count = i32::try_from(topic.assignment.len()).unwrap_or(i32::MAX);
        draft.ask_partitions(check_count(&topic.name, count)?)?;
        let assignment = in_order(&topic.assignment)?;
        chosen(self.image, assignment.values().copied(), None)
    }
}

/// The topics that grow, while their command is being decided.
pub(super) struct Growing<'a> {
    image: &'a Image,
    nodes: Vec<NodeId>,
    /// What topics have after the items before, where those changed anything.
    grown: BTreeMap<TopicId, Vec<Placement>>,
}

impl<'a> Growing<'a> {
    /// Begins.
    pub fn new(image: &'a Image) -> Self {
        let nodes = image.brokers.keys().copied().collect();
        Self { image, nodes, grown: BTreeMap::new() }
    }

    /// Decides on one topic.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn grow(&mut self, growth: &Growth, draft: &mut Draft) -> Result<(), MetadataRefusal> {
        let topic = self.image.topic_named(&growth.name).ok_or_else(|| unknown(&growth.name))?;
        let standing = self.grown.get(&topic.id).unwrap_or(&topic.partitions);
        let count = check_growth(growth, standing.len())?;
        let more = count - standing.len();
        let replica_count = standing[0].replicas.len();
        draft.ask_partitions(more)?;
        let added = match &growth.assignment {
            None => {
                let asked = i64::try_from(replica_count).expect("replicas were counted");
                let replica_count = check_replication(asked, &self.nodes)?;
                placement::place(topic.id, &self.nodes, standing.len()..count, replica_count)
            }
            Some(assignment) if assignment.len() == more => {
                chosen(self.image, assignment.iter(), Some(replica_count))?
            }
            Some(assignment) => {
                return Err(senseless(format!(
                    "Attempted to add {more} additional partition(s), but only {} assignment(s) \
                     were specified.",
                    assignment.len()
                )));
            }
        };
        let mut partitions = standing.clone();
        partitions.extend(added);
        assert_eq!(partitions.len(), count, "all partitions are placed");
        draft.admit(MetadataRecord::Partitions { id: topic.id, partitions: partitions.clone() })?;
        self.grown.insert(topic.id, partitions);
        Ok(())
    }
}

/// The refusal for a topic that is not there.
pub(super) fn unknown(name: &str) -> MetadataRefusal {
    let message = format!("Topic '{name}' does not exist.");
    MetadataRefusal { kind: MetadataRule::UnknownTopic, message }
}

fn check_growth(growth: &Growth, standing: usize) -> Result<usize, MetadataRefusal> {
    let message = match usize::try_from(growth.count) {
        Ok(count) if count > standing => return check_count(&growth.name, growth.count),
        Ok(count) if count == standing => format!("Topic already has {standing} partition(s)."),
        Ok(_) | Err(_) => format!(
            "The topic {} currently has {standing} partition(s); {} would not be an increase.",
            growth.name, growth.count
        ),
    };
    Err(MetadataRefusal { kind: MetadataRule::Partitions, message })
}

fn check_count(name: &str, partitions: i32) -> Result<usize, MetadataRefusal> {
    match usize::try_from(partitions) {
        Ok(count) if (1..=TOPIC_PARTITIONS_MAX).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(MetadataRefusal {
            kind: MetadataRule::Partitions,
            message: format!(
                "Topic '{name}' cannot have {partitions} partitions; it takes 1 to \
                 {TOPIC_PARTITIONS_MAX}."
            ),
        }),
    }
}

fn check_replication(asked: i64, nodes: &[NodeId]) -> Result<usize, MetadataRefusal> {
    match usize::try_from(asked) {
        Ok(count) if (1..=nodes.len()).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(MetadataRefusal {
            kind: MetadataRule::ReplicationFactor,
            message: format!(
                "Unable to replicate the partition {asked} time(s): The target replication factor \
                 of {asked} cannot be reached because only {} broker(s) are registered.",
                nodes.len()
            ),
        }),
    }
}

/// The replicas by partition, if these are numbered from zero without gaps.
fn in_order(
    assignment: &[(PartitionIndex, Vec<NodeId>)],
) -> Result<BTreeMap<PartitionIndex, &Vec<NodeId>>, MetadataRefusal> {
    let mut ordered = BTreeMap::new();
    for (partition, replicas) in assignment {
        if ordered.insert(*partition, replicas).is_some() {
            return Err(senseless(format!(
                "The replica assignment has partition {partition} more than once."
            )));
        }
    }
    match (0..).zip(ordered.keys()).find(|(number, partition)| *number != partition.0) {
        Some((number, _)) => Err(senseless(format!(
            "The manual partition assignment lacks partition {number}: partitions should be a \
             consecutive 0-based integer sequence"
        ))),
        None => Ok(ordered),
    }
}

/// The placements a client chose, if they make sense. `replica_count` is how many replicas each
/// must have; without it the first decides.
fn chosen<'b>(
    image: &Image,
    assignment: impl Iterator<Item = &'b Vec<NodeId>>,
    mut replica_count: Option<usize>,
) -> Result<Vec<Placement>, MetadataRefusal> {
    let mut placements = Vec::new();
    for replicas in assignment {
        placement::check_replicas(replicas, &image.brokers, replica_count).map_err(senseless)?;
        replica_count = Some(replicas.len());
        placements.push(Placement { replicas: replicas.clone() });
    }
    Ok(placements)
}

/// How many replicas each has, as Kafka counts them.
fn replication_factor(placements: &[Placement]) -> Result<i16, MetadataRefusal> {
    let count = placements[0].replicas.len();
    i16::try_from(count)
        .map_err(|_| senseless(format!("{count} replicas are more than {}.", i16::MAX)))
}

fn senseless(message: String) -> MetadataRefusal {
    MetadataRefusal { kind: MetadataRule::Assignment, message }
}

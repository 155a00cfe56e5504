//! Decides what happens to the cluster's metadata.
//!
//! ```text
//! command ─ handle ─▶ records + outcome ─▶ log ─▶ committed ─ replay ─▶ image
//!                                                     └───────────────▶ outcome goes out
//! ```
//!
//! Does: turn commands into records by Kafka's rules (its `ReplicationControlManager`), and
//! committed records into the image.
//! Does not: append, wait or answer; the broker handles one command, has its records committed,
//! replays them, answers, and only then handles the next.
//! Invariants: only [`Controller::replay`] changes anything, so loading the log and living through
//! it lead to the same image; a record that does not fit changes nothing.
//! Apart because whoever leads the metadata partition runs it, and everyone else only replays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_protocol::ids::{NodeId, ProducerId, TopicId};

use super::command::{
    Command, ConfigOwner, Configuration, CreatedTopic, FeatureUpdate, Growth, MetadataRefusal,
    MetadataRule, NewTopic, Outcome, QuotaAlteration,
};
use super::creation::{Creation, Growing, MetricNames, metric_name, unknown};
use super::draft::Draft;
use super::features;
use super::image::{Broker, Image, Placement, Topic};
use super::quota;
use super::record::{MetadataRecord, RecordError};
use crate::limits::GROUP_CONFIGS_MAX;

/// The metadata as it stands at some point of its log, and the rules for its next change.
#[derive(Debug, Default)]
pub struct Controller {
    image: Arc<Image>,
    /// Invariant: exactly the topics of `image` whose names have one for metrics.
    metric_names: MetricNames,
    /// Invariant: the number of partitions of all topics of `image`.
    partition_count: usize,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be appended in this order as one batch, so that all or none of them happen.
    pub records: Vec<MetadataRecord>,
    /// Valid once the records are committed; at once if there are none.
    pub outcome: Outcome,
}

impl Controller {
    /// Of a cluster that has no log yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was replayed so far, for everyone to keep. Costs a reference; the next change then
    /// copies the lists of the image, but no topic.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image)
    }

    /// Decides on a command against what was replayed so far. Changes nothing.
    #[must_use]
    pub fn handle(&self, command: &Command) -> Decision {
        match command {
            Command::CreateTopics { topics, validate_only } => self.create(topics, *validate_only),
            Command::DeleteTopics(topics) => self.delete(topics),
            Command::GrowTopics { topics, validate_only } => self.grow(topics, *validate_only),
            Command::Configure(wishes) => self.configure(wishes),
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Command::UpdateFeatures { updates, validate_only } => {
                self.update_features(updates, *validate_only)
            }
            Command::AlterQuotas { alterations, validate_only } => {
                self.alter_quotas(alterations, *validate_only)
            }
            Command::RegisterBroker(broker) => self.register(broker),
        }
    }

    /// Takes the next committed record: the only way anything changes.
    ///
    /// # Errors
    /// The record does not fit what came before it, see [`RecordError`]; nothing has changed.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), RecordError> {
        match record {
            MetadataRecord::Topic { id, name, partitions, configs } => {
                let (name, partitions) = (name.clone(), partitions.clone());
                self.add_topic(Topic { id: *id, name, partitions, configs: configs.clone() })?;
            }
            MetadataRecord::TopicDeleted { id } => self.remove_topic(*id)?,
            MetadataRecord::Partitions { id, partitions } => {
                self.replace_partitions(*id, partitions)?;
            }
            MetadataRecord::TopicConfigs { id, configs } => self.replace_configs(*id, configs)?,
            MetadataRecord::ProducerIds { next } => self.take_producer_ids(*next)?,
            MetadataRecord::BrokerConfigs { node, configs } => {
                self.replace_broker_configs(*node, configs);
            }
            MetadataRecord::ClientQuotas { entity, quotas } => {
                let all = &mut Arc::make_mut(&mut self.image).client_quotas;
                if quotas.is_empty() {
                    Arc::make_mut(all).remove(entity);
                } else {
                    Arc::make_mut(all).insert(entity.clone(), quotas.clone());
                }
            }
            MetadataRecord::GroupConfigs { group, configs } => {
                let all = &mut Arc::make_mut(&mut self.image).group_configs;
                if configs.is_empty() {
                    all.remove(group);
                } else {
                    all.insert(group.clone(), Arc::new(configs.clone()));
                }
            }
            MetadataRecord::FeatureLevel { name, level } => {
                if !features::is_known(name, *level) {
                    return Err(RecordError::FeatureBeyond { level: *level });
                }
                Arc::make_mut(&mut self.image).features.insert(name.clone(), *level);
            }
            MetadataRecord::Broker(broker) => {
                Arc::make_mut(&mut self.image).brokers.insert(broker.id, broker.clone());
            }
        }
        Arc::make_mut(&mut self.image).version += 1;
        Ok(())
    }

    fn create(&self, topics: &[NewTopic], validate_only: bool) -> Decision {
        let mut draft = Draft::new(self.partition_count, validate_only);
        let mut creation = Creation::new(&self.image, &self.metric_names);
        let created: Vec<Result<CreatedTopic, MetadataRefusal>> =
            topics.iter().map(|topic| creation.create(topic, &mut draft)).collect();
        Decision { records: draft.into_records(), outcome: Outcome::Created(created) }
    }

    fn grow(&self, topics: &[Growth], validate_only: bool) -> Decision {
        let mut draft = Draft::new(self.partition_count, validate_only);
        let mut growing = Growing::new(&self.image);
        let grown = topics.iter().map(|growth| growing.grow(growth, &mut draft)).collect();
        Decision { records: draft.into_records(), outcome: Outcome::Changed(grown) }
    }

    fn delete(&self, topics: &[TopicId]) -> Decision {
        let mut draft = Draft::new(self.partition_count, false);
        let mut gone = BTreeSet::new();
        let mut delete_one = |id: TopicId| {
            if self.image.topic(id).is_none() || gone.contains(&id) {
                let message = format!("There is no topic with the id {id}.");
                return Err(MetadataRefusal { kind: MetadataRule::UnknownTopicId, message });
            }
            draft.admit(MetadataRecord::TopicDeleted { id })?;
            gone.insert(id);
            Ok(())
        };
        let deleted = topics.iter().map(|id| delete_one(*id)).collect();
        Decision { records: draft.into_records(), outcome: Outcome::Changed(deleted) }
    }

    fn configure(&self, wishes: &[Configuration]) -> Decision {
        let mut draft = Draft::new(self.partition_count, false);
        let mut configure_one = |wish: &Configuration| {
            let configs = wish.configs.clone();
            let (node, record) = match &wish.owner {
                ConfigOwner::Topic(name) => {
                    let topic = self.image.topic_named(name).ok_or_else(|| unknown(name))?;
                    let record = MetadataRecord::TopicConfigs { id: topic.id, configs };
                    return decide(wish, &topic.configs, record, &mut draft);
                }
                ConfigOwner::Group(group) => {
                    let known = self.image.group_configs.get(group);
                    if known.is_none() && self.image.group_configs.len() >= GROUP_CONFIGS_MAX {
                        return Err(too_many_groups());
                    }
                    let record = MetadataRecord::GroupConfigs { group: group.clone(), configs };
                    let known = known.map_or(&NO_CONFIGS, |known| known);
                    return decide(wish, known, record, &mut draft);
                }
                ConfigOwner::Broker(node) => {
                    assert!(node.0 >= 0, "a node has a number");
                    (Some(*node), MetadataRecord::BrokerConfigs { node: Some(*node), configs })
                }
                ConfigOwner::AllBrokers => {
                    (None, MetadataRecord::BrokerConfigs { node: None, configs })
                }
            };
            let known = self.image.broker_configs.get(&node).map_or(&NO_CONFIGS, |known| known);
            decide(wish, known, record, &mut draft)
        };
        let configured = wishes.iter().map(&mut configure_one).collect();
        Decision { records: draft.into_records(), outcome: Outcome::Changed(configured) }
    }

    fn allocate_producer_ids(&self, count: u32) -> Decision {
        let first = self.image.next_producer_id;
        let next = first.checked_add(count.into()).expect("2^63 producer ids cannot be used up");
        let records =
            if count == 0 { Vec::new() } else { vec![MetadataRecord::ProducerIds { next }] };
        Decision { records, outcome: Outcome::ProducerIds(ProducerId(first)) }
    }

    /// One refusal refuses all of them.
    fn update_features(&self, updates: &[FeatureUpdate], validate_only: bool) -> Decision {
        let judge = |update| features::judge(&self.image, update);
        let results: Vec<Result<(), MetadataRefusal>> = updates.iter().map(judge).collect();
        let mut records = Vec::new();
        if !validate_only && results.iter().all(Result::is_ok) {
            // Of several levels for one feature the last one counts.
            let wanted: BTreeMap<&str, i16> =
                updates.iter().map(|update| (update.name.as_str(), update.level)).collect();
            let news = wanted.into_iter().filter(|(name, level)| {
                features::find(name).is_some_and(|it| features::level(&self.image, it) != *level)
            });
            records.extend(news.map(|(name, level)| MetadataRecord::FeatureLevel {
                name: name.to_owned(),
                level,
            }));
        }
        Decision { records, outcome: Outcome::Changed(results) }
    }

    fn alter_quotas(&self, alterations: &[QuotaAlteration], validate_only: bool) -> Decision {
        let mut draft = Draft::new(self.partition_count, validate_only);
        let mut fresh = 0;
        let mut alter_one = |wish: &QuotaAlteration| {
            let record = quota::alter(&self.image, wish, &mut fresh)?;
            record.map_or(Ok(()), |record| draft.admit(record))
        };
        let altered = alterations.iter().map(&mut alter_one).collect();
        Decision { records: draft.into_records(), outcome: Outcome::Changed(altered) }
    }

    fn register(&self, broker: &Broker) -> Decision {
        assert!(broker.id.0 >= 0, "a node has a number");
        let known = self.image.brokers.get(&broker.id) == Some(broker);
        let records = if known { Vec::new() } else { vec![MetadataRecord::Broker(broker.clone())] };
        Decision { records, outcome: Outcome::Registered }
    }

    fn add_topic(&mut self, topic: Topic) -> Result<(), RecordError> {
        let id = topic.id;
        if self.image.topic(id).is_some() || self.image.topic_named(&topic.name).is_some() {
            return Err(RecordError::TopicTaken { id });
        }
        assert!(!topic.partitions.is_empty(), "a topic has partitions");
        self.partition_count += topic.partitions.len();
        if let Some(metric_name) = metric_name(&topic.name) {
            self.metric_names.insert((metric_name, topic.name.clone()));
        }
        let image = Arc::make_mut(&mut self.image);
        image.names.insert(topic.name.as_str().into(), id);
        image.topics.insert(id, Arc::new(topic));
        assert_eq!(image.names.len(), image.topics.len(), "every topic has a name of its own");
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), RecordError> {
        let image = Arc::make_mut(&mut self.image);
        let topic = image.topics.remove(&id).ok_or(RecordError::TopicMissing { id })?;
        let named = image.names.remove(topic.name.as_str());
        assert_eq!(named, Some(id), "a topic is known by its name");
        if let Some(metric_name) = metric_name(&topic.name) {
            let known = self.metric_names.remove(&(metric_name, topic.name.clone()));
            assert!(known, "a topic is known by its name in metrics");
        }
        self.partition_count -= topic.partitions.len();
        Ok(())
    }

    fn replace_partitions(
        &mut self,
        id: TopicId,
        partitions: &[Placement],
    ) -> Result<(), RecordError> {
        let standing = self.image.topic(id).ok_or(RecordError::TopicMissing { id })?;
        let added = partitions.len().checked_sub(standing.partitions.len());
        self.partition_count += added.ok_or(RecordError::PartitionsLost { id })?;
        self.topic_mut(id)?.partitions = partitions.to_vec();
        Ok(())
    }

    fn replace_configs(
        &mut self,
        id: TopicId,
        configs: &BTreeMap<String, String>,
    ) -> Result<(), RecordError> {
        self.topic_mut(id)?.configs.clone_from(configs);
        Ok(())
    }

    fn replace_broker_configs(&mut self, node: Option<NodeId>, configs: &BTreeMap<String, String>) {
        let all = &mut Arc::make_mut(&mut self.image).broker_configs;
        if configs.is_empty() {
            all.remove(&node);
        } else {
            all.insert(node, Arc::new(configs.clone()));
        }
    }

    fn take_producer_ids(&mut self, next: i64) -> Result<(), RecordError> {
        let known = self.image.next_producer_id;
        if next <= known {
            return Err(RecordError::ProducerIdsReturn { next, known });
        }
        Arc::make_mut(&mut self.image).next_producer_id = next;
        Ok(())
    }

    /// The topic to be changed: its own copy, if an image given out holds it.
    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, RecordError> {
        let image = Arc::make_mut(&mut self.image);
        image.topics.get_mut(&id).map(Arc::make_mut).ok_or(RecordError::TopicMissing { id })
    }
}

fn too_many_groups() -> MetadataRefusal {
    let message = format!("{GROUP_CONFIGS_MAX} groups have settings of their own already.");
    MetadataRefusal { kind: MetadataRule::TooMuch, message }
}

/// The settings of whoever has none of his own.
static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

/// Admits new settings unless others than those they were made from hold by now: of two changes made
/// from the same settings the second would take back what the first was acknowledged for.
fn decide(
    wish: &Configuration,
    known: &BTreeMap<String, String>,
    record: MetadataRecord,
    draft: &mut Draft,
) -> Result<(), MetadataRefusal> {
    if wish.validate_only {
        return Ok(());
    }
    if wish.based_on.as_ref().is_some_and(|base| base != known) {
        let message = "The settings were changed by somebody else at the same time.".to_owned();
        return Err(MetadataRefusal { kind: MetadataRule::Outdated, message });
    }
    draft.admit(record)
}

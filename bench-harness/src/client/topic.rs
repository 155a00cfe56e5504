//! Topics, their leaders, and the little else a run asks for beforehand.
//!
//! Does: create and delete topics, wait for leaders, get producer ids, find the ends of partitions.
//! Does not: send load.
//! Invariants: a topic handed out has a leader for each partition.
//! Apart because these are many small questions on top of one way of asking.

use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, TopicId};
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, StrBytes,
    TopicName,
};

use super::{Client, ClientFault};
use crate::limits::{CONNECT_TIMEOUT_MS, PARTITIONS_AT_ONCE, TOPIC_TIMEOUT_MS};

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// `HOST:PORT` as it advertises itself.
    pub address: String,
}

/// A topic and who leads its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero where the broker has none.
    pub id: TopicId,
    /// Brokers that lead at least one partition.
    pub brokers: Vec<Broker>,
    /// Per partition, the place of its leader in `brokers`.
    pub leaders: Vec<usize>,
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its partitions.
    pub partitions: u32,
    /// Configuration that differs from the broker's own.
    pub config: &'a [(&'a str, String)],
}

impl Client {
    /// Creates a topic with one replica per partition; a large one grows in steps, since Kafka's
    /// controller refuses to write more than ten thousand records of metadata at once.
    ///
    /// # Errors
    /// As every question, and the broker's refusal.
    pub fn create_topic(&mut self, new: &NewTopic<'_>) -> Result<(), ClientFault> {
        let configs = new.config.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(new.name))
            .with_num_partitions(new.partitions.min(PARTITIONS_AT_ONCE) as i32)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let question = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TOPIC_TIMEOUT_MS as i32);
        self.patience(Duration::from_millis(TOPIC_TIMEOUT_MS));
        let answer = self.ask(7, &question)?;
        self.patience(Duration::from_millis(CONNECT_TIMEOUT_MS));
        for topic in answer.topics {
            let message = topic.error_message.as_deref().unwrap_or_default();
            self.refuse(ApiKey::CreateTopics, topic.error_code, message)?;
        }
        let mut count = new.partitions.min(PARTITIONS_AT_ONCE);
        while count < new.partitions {
            count = new.partitions.min(count + PARTITIONS_AT_ONCE);
            self.grow_topic(new.name, count)?;
        }
        Ok(())
    }

    fn grow_topic(&mut self, name: &str, count: u32) -> Result<(), ClientFault> {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count as i32)
            .with_assignments(None);
        let question = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TOPIC_TIMEOUT_MS as i32);
        self.patience(Duration::from_millis(TOPIC_TIMEOUT_MS));
        let answer = self.ask(2, &question)?;
        self.patience(Duration::from_millis(CONNECT_TIMEOUT_MS));
        for topic in answer.results {
            let message = topic.error_message.as_deref().unwrap_or_default();
            self.refuse(ApiKey::CreatePartitions, topic.error_code, message)?;
        }
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As every question, and the broker's refusal.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), ClientFault> {
        let question = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(TOPIC_TIMEOUT_MS as i32);
        self.patience(Duration::from_millis(TOPIC_TIMEOUT_MS));
        // From version 6 on topics are asked for in another shape.
        let answer = self.ask(5, &question)?;
        for topic in answer.responses {
            self.refuse(ApiKey::DeleteTopics, topic.error_code, "")?;
        }
        Ok(())
    }

    /// Waits until each of `partitions` has a leader.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn topic(&mut self, name: &str, partitions: u32) -> Result<Topic, ClientFault> {
        self.patiently(|client| client.topic_now(name, partitions))
    }

    fn topic_now(&mut self, name: &str, partitions: u32) -> Result<Topic, ClientFault> {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let question = MetadataRequest::default()
            .with_topics(Some(vec![wanted]))
            .with_allow_auto_topic_creation(false);
        let answer = self.ask(12, &question)?;
        self.read_topic(name, partitions, &answer)
    }

    fn read_topic(
        &self,
        name: &str,
        partitions: u32,
        answer: &MetadataResponse,
    ) -> Result<Topic, ClientFault> {
        const LEADER_NOT_AVAILABLE: i16 = 5;
        let key = ApiKey::Metadata;
        let mut brokers: Vec<Broker> = Vec::new();
        let mut leaders = vec![None; partitions as usize];
        let mut id = TopicId::ZERO;
        for topic in &answer.topics {
            self.refuse(key, topic.error_code, name)?;
            id = TopicId::from(topic.topic_id);
            for partition in &topic.partitions {
                self.refuse(key, partition.error_code, name)?;
                let place = place_of(&mut brokers, answer, partition.leader_id);
                let slot = usize::try_from(partition.partition_index);
                if let Some(slot) = slot.ok().and_then(|index| leaders.get_mut(index)) {
                    *slot = place;
                }
            }
        }
        let leaders: Option<Vec<usize>> = leaders.into_iter().collect();
        match leaders {
            Some(leaders) => Ok(Topic { name: name.to_owned(), id, brokers, leaders }),
            None => {
                let refused = self.refuse(key, LEADER_NOT_AVAILABLE, name);
                Err(refused.expect_err("the code is not zero"))
            }
        }
    }

    /// Gets an identity for an idempotent producer.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn producer_id(&mut self) -> Result<(ProducerId, ProducerEpoch), ClientFault> {
        let question = InitProducerIdRequest::default().with_transactional_id(None);
        self.patiently(|client| {
            let answer = client.ask(4, &question)?;
            client.refuse(ApiKey::InitProducerId, answer.error_code, "")?;
            Ok((ProducerId(answer.producer_id.0), ProducerEpoch(answer.producer_epoch)))
        })
    }

    /// Where partitions end: the offset the next record will get. A leader that has just been
    /// named may not know it yet; it is asked again.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn ends(&mut self, name: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>, ClientFault> {
        self.patiently(|client| client.ends_now(name, partitions))
    }

    fn ends_now(&mut self, name: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>, ClientFault> {
        const LATEST: i64 = -1;
        let wanted = partitions.iter().map(|&index| {
            ListOffsetsPartition::default().with_partition_index(index).with_timestamp(LATEST)
        });
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(wanted.collect());
        let question =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let answer = self.ask(7, &question)?;
        let mut ends = Vec::with_capacity(partitions.len());
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            self.refuse(ApiKey::ListOffsets, partition.error_code, name)?;
            ends.push((partition.partition_index, partition.offset));
        }
        Ok(ends)
    }
}

/// The leader's place among `brokers`, where it is put when it is new; nothing without a leader.
fn place_of(
    brokers: &mut Vec<Broker>,
    answer: &MetadataResponse,
    leader: BrokerId,
) -> Option<usize> {
    let known = brokers.iter().position(|broker| broker.id == leader.0);
    if known.is_some() {
        return known;
    }
    let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
    let address = format!("{}:{}", &*broker.host, broker.port);
    brokers.push(Broker { id: leader.0, address });
    Some(brokers.len() - 1)
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

//! A cluster as whoever asks it sees it: who leads, who coordinates, and a connection to each.
//!
//! Does: find brokers from the first ones, bring each question to whoever must answer it, ask again
//! with fresh knowledge where that helps.
//! Does not: know what commands want.
//! Invariants: one connection per broker; asking again is bounded in number and time.
//! Apart because every command needs it, whatever it asks.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::{
    BrokerId, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    Request, StrBytes, TopicName,
};

use super::daily::Common;
use super::fault::{Fault, accept};
use super::world::{Link, pause};
use crate::limits::{CLI_ATTEMPTS_MAX, CLI_BACKOFF};

/// What a coordinator coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinated {
    /// Members and offsets of a group.
    Group,
    /// Transactions of a transactional id.
    Transactions,
}

/// A partition by topic and number.
pub type Place = (String, i32);

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    seed: Link,
    patience: Duration,
    /// Addresses by broker id.
    brokers: BTreeMap<i32, String>,
    controller: i32,
    links: BTreeMap<i32, Link>,
}

impl Cluster {
    /// Connects to the first of the brokers that can be reached.
    ///
    /// # Errors
    /// None can be; the last one's reason.
    pub fn reach(common: &Common) -> Result<Self, Fault> {
        let patience = Duration::from_secs(common.timeout);
        let mut last = Fault::Usage("--bootstrap names no broker".to_owned());
        for address in common.bootstrap.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Link::open(address, patience) {
                Ok(seed) => {
                    let (brokers, links) = (BTreeMap::new(), BTreeMap::new());
                    return Ok(Self { seed, patience, brokers, controller: -1, links });
                }
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// Brokers by id, with their addresses; known after [`Cluster::metadata`].
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<i32, String> {
        &self.brokers
    }

    /// The controller; −1 where none is named.
    #[must_use]
    pub fn controller(&self) -> i32 {
        self.controller
    }

    /// Does something, and does it again while that may help.
    ///
    /// # Errors
    /// The last fault.
    pub fn patiently<R>(
        &mut self,
        mut something: impl FnMut(&mut Self) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let mut attempts = 1;
        loop {
            match something(self) {
                Err(fault) if fault.is_retriable() && attempts < CLI_ATTEMPTS_MAX => {
                    attempts += 1;
                    pause(CLI_BACKOFF);
                }
                done => return done,
            }
        }
    }

    /// Asks whoever was reached first.
    ///
    /// # Errors
    /// Every fault but refusals inside the answer.
    pub fn ask_any<T: Request>(&mut self, body: &T) -> Result<T::Response, Fault> {
        self.seed.ask(body)
    }

    /// Asks the controller.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn ask_controller<T: Request>(&mut self, body: &T) -> Result<T::Response, Fault> {
        self.metadata(Some(&[]))?;
        match self.brokers.contains_key(&self.controller) {
            true => self.ask(self.controller, body),
            // Whoever is asked hands it on.
            false => self.ask_any(body),
        }
    }

    /// Asks this broker.
    ///
    /// # Errors
    /// Every fault but refusals inside the answer; no such broker.
    pub fn ask<T: Request>(&mut self, broker: i32, body: &T) -> Result<T::Response, Fault> {
        let answer = self.link(broker)?.ask(body);
        if matches!(answer, Err(Fault::Lost { .. })) {
            self.links.remove(&broker);
        }
        answer
    }

    /// Asks every broker the same, each until it accepts; `error_code` is where an answer has its own, and
    /// `subject` what was asked for.
    ///
    /// # Errors
    /// As [`Cluster::ask`]; the first refusal that stays one.
    pub fn ask_all<T: Request>(
        &mut self,
        subject: &str,
        body: &T,
        error_code: fn(&T::Response) -> i16,
    ) -> Result<Vec<(i32, T::Response)>, Fault> {
        self.metadata(Some(&[]))?;
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let answers = brokers.into_iter().map(|broker| {
            self.patiently(|cluster| {
                let answer = cluster.ask(broker, body)?;
                accept(|| format!("{subject} of broker {broker}"), error_code(&answer), "")?;
                Ok((broker, answer))
            })
        });
        answers.collect()
    }

    /// Sends this broker a question that is never answered.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn tell<T: Request>(&mut self, broker: i32, body: &T) -> Result<(), Fault> {
        self.link(broker)?.tell(body)
    }

    fn link(&mut self, broker: i32) -> Result<&mut Link, Fault> {
        if !self.links.contains_key(&broker) {
            let address = self.brokers.get(&broker).ok_or_else(|| Fault::Absent {
                subject: format!("broker {broker}"),
                advice: "`flumen cluster describe` shows those that are there",
            })?;
            let link = Link::open(address, self.patience)?;
            self.links.insert(broker, link);
        }
        Ok(self.links.get_mut(&broker).expect("it was just put there"))
    }

    /// Asks about these topics, about all, or (none named) only about brokers.
    ///
    /// # Errors
    /// Every fault but refusals inside the answer.
    pub fn metadata(&mut self, topics: Option<&[String]>) -> Result<MetadataResponse, Fault> {
        let named = topics.map(|names| {
            let named =
                |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            names.iter().map(named).collect()
        });
        let body =
            MetadataRequest::default().with_topics(named).with_allow_auto_topic_creation(false);
        let answer = self.seed.ask(&body)?;
        let known = answer.brokers.iter();
        let known = known.map(|it| (it.node_id.0, format!("{}:{}", &*it.host, it.port)));
        let known: BTreeMap<i32, String> = known.collect();
        self.links.retain(|id, link| known.get(id).is_some_and(|at| at == link.address()));
        self.brokers = known;
        self.controller = answer.controller_id.0;
        Ok(answer)
    }

    /// The leader of each partition of a topic.
    ///
    /// # Errors
    /// As [`Cluster::metadata`]; no such topic, or a partition without a leader.
    pub fn leaders(&mut self, topic: &str) -> Result<BTreeMap<i32, i32>, Fault> {
        let answer = self.metadata(Some(&[topic.to_owned()]))?;
        let mut leaders = BTreeMap::new();
        for found in &answer.topics {
            accept(|| format!("topic {topic}"), found.error_code, "")?;
            for partition in &found.partitions {
                let place = || format!("partition {} of topic {topic}", partition.partition_index);
                let code = match partition.leader_id.0 {
                    -1 => ErrorCode::LeaderNotAvailable.code(),
                    _ => 0,
                };
                accept(place, code, "")?;
                leaders.insert(partition.partition_index, partition.leader_id.0);
            }
        }
        Ok(leaders)
    }

    /// Who coordinates this group or transactional id.
    ///
    /// # Errors
    /// As every question; a refusal.
    pub fn coordinator(&mut self, kind: Coordinated, key: &str) -> Result<i32, Fault> {
        let (key_type, word) = match kind {
            Coordinated::Group => (0, "group"),
            Coordinated::Transactions => (1, "transactional id"),
        };
        let body = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(key.to_owned()))
            .with_key_type(key_type);
        let answer = self.ask_any(&body)?;
        let message = answer.error_message.as_deref().unwrap_or_default();
        accept(|| format!("{word} {key}"), answer.error_code, message)?;
        let address = format!("{}:{}", &*answer.host, answer.port);
        self.brokers.insert(answer.node_id.0, address);
        Ok(answer.node_id.0)
    }

    /// Where partitions have what was asked for: offset and timestamp, −1 where there is none.
    /// `committed` stops at the first open transaction.
    ///
    /// # Errors
    /// As every question; a refusal for any of them.
    pub fn look_up(
        &mut self,
        wanted: &BTreeMap<Place, i64>,
        committed: bool,
    ) -> Result<BTreeMap<Place, (i64, i64)>, Fault> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<ListOffsetsPartition>>> =
            BTreeMap::new();
        let mut leaders: BTreeMap<&str, BTreeMap<i32, i32>> = BTreeMap::new();
        for ((topic, partition), timestamp) in wanted {
            if !leaders.contains_key(topic.as_str()) {
                leaders.insert(topic, self.leaders(topic)?);
            }
            let leader = leader_of(&leaders[topic.as_str()], topic, *partition)?;
            let asked = ListOffsetsPartition::default()
                .with_partition_index(*partition)
                .with_timestamp(*timestamp);
            by_leader.entry(leader).or_default().entry(topic).or_default().push(asked);
        }
        let mut found = BTreeMap::new();
        for (leader, topics) in by_leader {
            let topics = topics.into_iter().map(|(topic, partitions)| {
                ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
            });
            let body = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(committed))
                .with_topics(topics.collect());
            for topic in self.ask(leader, &body)?.topics {
                for it in topic.partitions {
                    let place = (topic.name.to_string(), it.partition_index);
                    accept(|| in_words(&place), it.error_code, "")?;
                    found.insert(place, (it.offset, it.timestamp));
                }
            }
        }
        Ok(found)
    }
}

/// The leader of a partition, from what [`Cluster::leaders`] said.
///
/// # Errors
/// There is no such partition.
pub fn leader_of(leaders: &BTreeMap<i32, i32>, topic: &str, partition: i32) -> Result<i32, Fault> {
    leaders.get(&partition).copied().ok_or_else(|| Fault::Absent {
        subject: format!("partition {partition} of topic {topic}"),
        advice: "`flumen topics describe` shows those that are there",
    })
}

/// A partition as faults call it.
#[must_use]
pub fn in_words((topic, partition): &Place) -> String {
    format!("partition {partition} of topic {topic}")
}

/// A name as the messages hold it.
#[must_use]
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

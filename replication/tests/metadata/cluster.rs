//! A cluster of one controller and its log, and short words for what is asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::ids::{NodeId, PartitionIndex, TopicId};
use flumen_replication::metadata::command::{
    Command, ConfigOwner, Configuration, Growth, MetadataRefusal, MetadataRule, NewTopic, Outcome,
};
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::{Broker, Endpoint, Image};
use flumen_replication::metadata::record::MetadataRecord;

/// A controller and everything that was committed.
#[derive(Default)]
pub struct Cluster {
    pub controller: Controller,
    pub log: Vec<Bytes>,
}

impl Cluster {
    /// With the nodes 1 to `count`.
    pub fn of(count: i32) -> Self {
        let mut cluster = Self::default();
        for id in 1..=count {
            assert_eq!(cluster.ask(Command::RegisterBroker(broker(id, 9092))), Outcome::Registered);
        }
        cluster
    }

    /// Has a command decided, committed and replayed.
    pub fn ask(&mut self, command: Command) -> Outcome {
        let decision = self.controller.handle(&command);
        for record in &decision.records {
            self.controller.replay(record).expect("what was decided fits");
            self.log.push(record.encode());
        }
        decision.outcome
    }

    /// A controller that knows the log only.
    pub fn restarted(&self) -> Controller {
        let mut controller = Controller::new();
        for bytes in &self.log {
            let record = MetadataRecord::decode(bytes).expect("the log is sound");
            controller.replay(&record).expect("what was replayed once fits again");
        }
        controller
    }

    pub fn image(&self) -> Arc<Image> {
        self.controller.image()
    }

    /// Makes a topic that must be possible; its id is that number.
    pub fn make(&mut self, id: u8, name: &str, partitions: i32) {
        let created = created(self.ask(create(vec![topic(id, name, partitions)])));
        created[0].as_ref().expect("the topic is possible");
    }

    /// The replicas of every partition of a topic.
    pub fn replicas(&self, name: &str) -> Vec<Vec<i32>> {
        let image = self.image();
        let partitions = &image.topic_named(name).expect("the topic exists").partitions;
        let numbers = |nodes: &Vec<NodeId>| nodes.iter().map(|node| node.0).collect();
        partitions.iter().map(|placement| numbers(&placement.replicas)).collect()
    }
}

pub fn broker(id: i32, port: u16) -> Broker {
    let host = format!("node-{id}.example");
    let endpoints = vec![Endpoint { listener: "PLAINTEXT".to_owned(), host, port }];
    Broker { id: NodeId(id), rack: None, endpoints }
}

pub fn topic_id(number: u8) -> TopicId {
    TopicId([number; 16])
}

/// A topic with one replica each.
pub fn topic(id: u8, name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        id: topic_id(id),
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        assignment: Vec::new(),
        configs: BTreeMap::new(),
    }
}

/// A topic whose replicas the client chose.
pub fn assigned(id: u8, name: &str, assignment: &[(i32, &[i32])]) -> NewTopic {
    let assignment = assignment.iter().map(|(number, to)| (PartitionIndex(*number), nodes(to)));
    NewTopic { assignment: assignment.collect(), ..topic(id, name, -1) }
}

pub fn nodes(numbers: &[i32]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

pub fn create(topics: Vec<NewTopic>) -> Command {
    Command::CreateTopics { topics, validate_only: false }
}

pub fn grow(name: &str, count: i32, assignment: Option<&[&[i32]]>) -> Command {
    let assignment = assignment.map(|all| all.iter().map(|to| nodes(to)).collect());
    let topics = vec![Growth { name: name.to_owned(), count, assignment }];
    Command::GrowTopics { topics, validate_only: false }
}

pub fn configure(name: &str, configs: &[(&str, &str)]) -> Configuration {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let configs = configs.iter().map(own).collect();
    let owner = ConfigOwner::Topic(name.to_owned());
    Configuration { owner, configs, based_on: None, validate_only: false }
}

/// The ids and refusals of a `CreateTopics`.
pub fn created(outcome: Outcome) -> Vec<Result<(TopicId, i32, i16), MetadataRefusal>> {
    let Outcome::Created(items) = outcome else { panic!("not created: {outcome:?}") };
    let plain = |item: Result<_, _>| {
        item.map(|made: flumen_replication::metadata::command::CreatedTopic| {
            (made.id, made.partitions, made.replication_factor)
        })
    };
    items.into_iter().map(plain).collect()
}

/// The results of a command that makes nothing.
pub fn changed(outcome: Outcome) -> Vec<Result<(), MetadataRefusal>> {
    let Outcome::Changed(items) = outcome else { panic!("not changed: {outcome:?}") };
    items
}

/// Which rule was broken, and whether the message says all of this.
pub fn assert_refused<T: std::fmt::Debug>(
    item: &Result<T, MetadataRefusal>,
    rule: MetadataRule,
    words: &[&str],
) {
    let refusal = item.as_ref().expect_err("must be refused");
    assert_eq!(refusal.kind, rule, "{refusal:?}");
    for word in words {
        assert!(refusal.message.contains(word), "no {word:?} in {:?}", refusal.message);
    }
}

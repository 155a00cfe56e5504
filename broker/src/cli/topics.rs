//! `flumen topics`.
//!
//! Does: list, describe, create, alter, delete and grow topics, and show where their partitions end.
//! Does not: read or write records.
//! Invariants: of several topics each is tried, and the first fault is the command's.
//! Apart because each kind of thing has its commands in one place.

use std::collections::BTreeMap;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::metadata_response::MetadataResponseTopic;
use flumen_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, StrBytes,
};

use super::cluster::{Cluster, Place, topic_name};
use super::configs::{self, Resource};
use super::daily::{Common, TopicsArguments, TopicsCommand};
use super::fault::{Fault, accept};
use super::listing::{Cell, Document, Listing, Outcome};
use super::moment::{EARLIEST, LATEST};

/// Does what was typed.
///
/// # Errors
/// The first thing that failed.
pub fn run(arguments: &TopicsArguments) -> Result<Outcome, Fault> {
    let common = &arguments.common;
    let cluster = &mut Cluster::reach(common)?;
    match &arguments.command {
        TopicsCommand::List { internal } => list(cluster, *internal),
        TopicsCommand::Describe { topics } => describe(cluster, topics),
        TopicsCommand::Create { topics, partitions, replicas, configs, if_not_exists, dry_run } => {
            let new = topics.iter().map(|name| {
                creatable(name, configs)
                    .with_num_partitions(partitions.unwrap_or(-1))
                    .with_replication_factor(replicas.unwrap_or(-1))
            });
            let body = CreateTopicsRequest::default()
                .with_topics(new.collect())
                .with_validate_only(*dry_run)
                .with_timeout_ms(timeout_ms(common));
            cluster.patiently(|cluster| create(cluster, &body, *if_not_exists))
        }
        TopicsCommand::Alter { topic, change } => {
            configs::alter(cluster, &Resource::Topic(topic.clone()), change)
        }
        TopicsCommand::Delete { topics } => delete(cluster, topics, common),
        TopicsCommand::Offsets { topics } => cluster.patiently(|cluster| offsets(cluster, topics)),
        TopicsCommand::Grow { topic, partitions } => grow(cluster, topic, *partitions, common),
    }
}

/// How long the broker may take, as it is told.
fn timeout_ms(common: &Common) -> i32 {
    i32::try_from(common.timeout * 1000).unwrap_or(i32::MAX)
}

fn list(cluster: &mut Cluster, internal: bool) -> Result<Outcome, Fault> {
    let answer = cluster.metadata(None)?;
    let mut listing = Listing::new(&["topic", "partitions", "replicas", "internal"]);
    let mut topics: Vec<_> =
        answer.topics.iter().filter(|it| internal || !it.is_internal).collect();
    topics.sort_by_key(|topic| name_of(topic));
    for topic in topics {
        let replicas = topic.partitions.first().map(|first| first.replica_nodes.len());
        listing.push(vec![
            name_of(topic).into(),
            topic.partitions.len().into(),
            replicas.into(),
            topic.is_internal.into(),
        ]);
    }
    Ok(Outcome::Listing(listing))
}

fn describe(cluster: &mut Cluster, topics: &[String]) -> Result<Outcome, Fault> {
    let answer = cluster.metadata(Some(topics))?;
    let mut documents = Vec::new();
    for topic in &answer.topics {
        let name = name_of(topic);
        accept(|| format!("topic {name}"), topic.error_code, "")?;
        let set = configs::of(cluster, &Resource::Topic(name.clone()), false)?;
        let id = (!topic.topic_id.is_nil()).then(|| topic.topic_id.to_string());
        let document = Document::default()
            .with("topic", name)
            .with("id", id)
            .with("internal", topic.is_internal)
            .table("partitions", partitions(topic))
            .table("settings", set);
        documents.push(document);
    }
    Ok(Outcome::Documents(documents))
}

fn partitions(topic: &MetadataResponseTopic) -> Listing {
    let columns = &["partition", "leader", "leader_epoch", "replicas", "in_sync", "offline"];
    let mut listing = Listing::new(columns);
    let mut partitions: Vec<_> = topic.partitions.iter().collect();
    partitions.sort_by_key(|it| it.partition_index);
    for it in partitions {
        let leader = (it.leader_id.0 >= 0).then_some(it.leader_id.0);
        let epoch = (it.leader_epoch >= 0).then_some(it.leader_epoch);
        listing.push(vec![
            it.partition_index.into(),
            leader.into(),
            epoch.into(),
            ids(&it.replica_nodes),
            ids(&it.isr_nodes),
            ids(&it.offline_replicas),
        ]);
    }
    listing
}

fn ids(brokers: &[BrokerId]) -> Cell {
    Cell::Numbers(brokers.iter().map(|id| id.0).collect())
}

fn name_of(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default()
}

fn creatable(name: &str, configs: &[(String, String)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
    });
    CreatableTopic::default().with_name(topic_name(name)).with_configs(configs.collect())
}

fn create(
    cluster: &mut Cluster,
    body: &CreateTopicsRequest,
    if_not_exists: bool,
) -> Result<Outcome, Fault> {
    let exists = ErrorCode::TopicAlreadyExists.code();
    let answer = cluster.ask_controller(body)?;
    let mut listing = Listing::new(&["topic", "partitions", "replicas", "created"]);
    let mut sentences = Vec::new();
    for topic in answer.topics {
        let name = topic.name.to_string();
        let created = topic.error_code != exists || !if_not_exists;
        if created {
            let message = topic.error_message.as_deref().unwrap_or_default();
            accept(|| format!("topic {name}"), topic.error_code, message)?;
        }
        // Before version 5 the answer does not say.
        let partitions = (topic.num_partitions > 0).then_some(topic.num_partitions);
        let replicas =
            (topic.replication_factor > 0).then_some(i64::from(topic.replication_factor));
        let with = match partitions {
            Some(1) => " with 1 partition".to_owned(),
            Some(count) => format!(" with {count} partitions"),
            None => String::new(),
        };
        sentences.push(match (created, body.validate_only) {
            (true, false) => format!("created {name}{with}"),
            (true, true) => format!("would create {name}{with}"),
            (false, _) => format!("{name} exists already"),
        });
        let done = created && !body.validate_only;
        listing.push(vec![name.into(), partitions.into(), replicas.into(), done.into()]);
    }
    Ok(Outcome::Done(sentences.join("\n"), listing))
}

fn delete(cluster: &mut Cluster, topics: &[String], common: &Common) -> Result<Outcome, Fault> {
    let names = topics.iter().map(|name| topic_name(name));
    let body = DeleteTopicsRequest::default()
        .with_topic_names(names.collect())
        .with_timeout_ms(timeout_ms(common));
    let answer = cluster.patiently(|cluster| cluster.ask_controller(&body))?;
    let mut listing = Listing::new(&["topic", "deleted"]);
    let mut fault = Ok(());
    for topic in answer.responses {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        let message = topic.error_message.as_deref().unwrap_or_default();
        let verdict = accept(|| format!("topic {name}"), topic.error_code, message);
        listing.push(vec![name.into(), verdict.is_ok().into()]);
        fault = fault.and(verdict);
    }
    fault?;
    Ok(Outcome::Done(format!("deleted {}", topics.join(", ")), listing))
}

fn offsets(cluster: &mut Cluster, topics: &[String]) -> Result<Outcome, Fault> {
    let mut wanted: BTreeMap<Place, i64> = BTreeMap::new();
    for topic in topics {
        for partition in cluster.leaders(topic)?.into_keys() {
            wanted.insert((topic.clone(), partition), EARLIEST);
        }
    }
    let starts = cluster.look_up(&wanted, false)?;
    wanted.values_mut().for_each(|timestamp| *timestamp = LATEST);
    let ends = cluster.look_up(&wanted, false)?;
    let stable = cluster.look_up(&wanted, true)?;
    let columns = &["topic", "partition", "start_offset", "stable_offset", "end_offset", "offsets"];
    let mut listing = Listing::new(columns);
    for place in wanted.into_keys() {
        let at = |found: &BTreeMap<Place, (i64, i64)>| found.get(&place).map(|found| found.0);
        let (start, end) = (at(&starts), at(&ends));
        let count = start.zip(end).map(|(start, end)| end.saturating_sub(start));
        let stable = at(&stable);
        let (topic, partition) = place;
        listing.push(vec![
            topic.into(),
            partition.into(),
            start.into(),
            stable.into(),
            end.into(),
            count.into(),
        ]);
    }
    Ok(Outcome::Listing(listing))
}

fn grow(
    cluster: &mut Cluster,
    topic: &str,
    partitions: i32,
    common: &Common,
) -> Result<Outcome, Fault> {
    let wanted = CreatePartitionsTopic::default()
        .with_name(topic_name(topic))
        .with_count(partitions)
        .with_assignments(None);
    let body = CreatePartitionsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(timeout_ms(common));
    cluster.patiently(|cluster| {
        for result in cluster.ask_controller(&body)?.results {
            let message = result.error_message.as_deref().unwrap_or_default();
            accept(|| format!("topic {topic}"), result.error_code, message)?;
        }
        let mut listing = Listing::new(&["topic", "partitions"]);
        listing.push(vec![topic.into(), partitions.into()]);
        Ok(Outcome::Done(format!("{topic} has {partitions} partitions"), listing))
    })
}

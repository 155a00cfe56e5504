//! CreateTopics (key 19, versions 2–7): make topics.
//!
//! - −1 partitions or replicas mean the broker's defaults (KIP-464); explicit replicas exclude
//!   both numbers.
//! - Every topic has its own error and message (G129, G130): names, settings and numbers are
//!   checked here, what depends on the cluster by the controller.
//! - A name given twice in one request is INVALID_REQUEST and made not at all.
//! - From version 5 the answer carries the settings that hold (KIP-525), from 7 the id (KIP-516).
//! - The groups' own topic may be made explicitly, as in Kafka; it gets the settings groups need
//!   unless the request has others. `__cluster_metadata` is refused.
//!
//! Deviations: the limit of partitions per request counts explicit ones too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{NodeId, PartitionIndex};
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use flumen_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use flumen_replication::metadata::command::{Command, CreatedTopic, NewTopic, Outcome};

use super::refusals::{self, Refused};
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::config::describe;
use crate::config::topic::{Overrides, validate_all};
use crate::limits::PARTITIONS_PER_TOPIC;
use crate::shard::mailbox::Answer;

/// The name of Kafka's own metadata log, which is not a topic anybody may make.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// "The broker's default", for both numbers.
const DEFAULT: i32 = -1;

/// The first version whose answer has settings.
const CONFIGS_SINCE: i16 = 5;

/// The first version whose answer has ids.
const IDS_SINCE: i16 = 7;

/// The first version whose clients know that they may have to wait (KIP-599).
const STRICT_SINCE: i16 = 6;

/// A topic of the request.
#[derive(Debug)]
struct Item {
    name: TopicName,
    configs: Overrides,
    /// What became of it; until the controller has answered, a time-out.
    result: Result<CreatedTopic, Refused>,
}

/// Topics being made.
#[derive(Debug)]
pub struct Waiting {
    items: Vec<Item>,
    /// Which items the controller was asked for, in its order.
    places: Vec<usize>,
}

/// Checks every topic and asks the controller for those that are sound.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<CreateTopicsRequest>(envelope, frame, body) else {
        return Step::Close("malformed CreateTopics request");
    };
    let mut waiting = Waiting { items: Vec::new(), places: Vec::new() };
    let mut topics = Vec::new();
    let mut room = i64::from(PARTITIONS_PER_TOPIC);
    let repeated = repeated_names(&request.topics);
    let mut answered = BTreeSet::new();
    for asked in request.topics {
        if !answered.insert(asked.name.clone()) {
            continue;
        }
        let checked = if repeated.contains(&asked.name) {
            Err(Refused::with(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            check(context, &asked, &mut room).and_then(|topic| {
                let partitions = partition_count(&topic);
                context.count_mutations(envelope, partitions, STRICT_SINCE).map(|()| topic)
            })
        };
        let (configs, result) = match checked {
            Ok(topic) => {
                waiting.places.push(waiting.items.len());
                let configs = topic.configs.clone();
                topics.push(topic);
                (configs, Err(ErrorCode::RequestTimedOut.into()))
            }
            Err(refused) => (Overrides::new(), Err(refused)),
        };
        waiting.items.push(Item { name: asked.name, configs, result });
    }
    if topics.is_empty() {
        return waiting.close(context, envelope);
    }
    let command = Command::CreateTopics { topics, validate_only: request.validate_only };
    step::control(
        context,
        command,
        AnyWaiting::CreateTopics(waiting),
        step::patience(request.timeout_ms),
    )
}

fn partition_count(topic: &NewTopic) -> usize {
    match topic.assignment.len() {
        0 => usize::try_from(topic.partitions).unwrap_or(0),
        assigned => assigned,
    }
}

fn repeated_names(topics: &[CreatableTopic]) -> BTreeSet<TopicName> {
    let mut seen = BTreeSet::new();
    topics
        .iter()
        .map(|topic| topic.name.clone())
        .filter(|name| !seen.insert(name.clone()))
        .collect()
}

/// Everything that can be said without the controller, in Kafka's order: name, settings, numbers.
fn check(
    context: &mut Context<'_>,
    asked: &CreatableTopic,
    room: &mut i64,
) -> Result<NewTopic, Refused> {
    if asked.name.as_str() == CLUSTER_METADATA {
        return Err(Refused::with(
            ErrorCode::InvalidRequest,
            format!("Creation of internal topic {CLUSTER_METADATA} is prohibited."),
        ));
    }
    topics::check_name(&asked.name)
        .map_err(|reason| Refused::with(ErrorCode::InvalidTopicException, reason))?;
    if context.image.topic_named(&asked.name).is_some() {
        return Err(Refused::with(
            ErrorCode::TopicAlreadyExists,
            format!("Topic '{}' already exists.", asked.name.as_str()),
        ));
    }
    let configs = check_configs(context, asked)?;
    let (partitions, replication_factor) = check_numbers(context, asked)?;
    let assignment = check_assignment(asked)?;
    let count = if assignment.is_empty() { i64::from(partitions) } else { assignment.len() as i64 };
    if count > *room {
        return Err(Refused::with(
            ErrorCode::PolicyViolation,
            format!(
                "{count} partitions are too many: one request may make {PARTITIONS_PER_TOPIC} in all"
            ),
        ));
    }
    *room -= count;
    Ok(NewTopic {
        id: topics::fresh_id(context.dice),
        name: asked.name.to_string(),
        partitions,
        replication_factor,
        assignment,
        configs,
    })
}

fn check_configs(context: &Context<'_>, asked: &CreatableTopic) -> Result<Overrides, Refused> {
    let invalid = |reason| Refused::with(ErrorCode::InvalidConfig, reason);
    let nulls: Vec<&str> = nameless_values(&asked.configs).collect();
    if !nulls.is_empty() {
        let names = nulls.join(",");
        return Err(invalid(format!("Null value not supported for topic configs: {names}")));
    }
    let mut configs: BTreeMap<String, String> = asked
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
        .collect();
    validate_all(context.options, &configs).map_err(invalid)?;
    for (name, value) in topics::internal_configs(context.options, &asked.name) {
        configs.entry(name).or_insert(value);
    }
    Ok(configs)
}

fn nameless_values(configs: &[CreatableTopicConfig]) -> impl Iterator<Item = &str> {
    configs.iter().filter(|config| config.value.is_none()).map(|config| config.name.as_str())
}

fn check_numbers(context: &Context<'_>, asked: &CreatableTopic) -> Result<(i32, i16), Refused> {
    let (partitions, replicas) = (asked.num_partitions, asked.replication_factor);
    if !asked.assignments.is_empty() {
        for (value, what) in
            [(i32::from(replicas), "replication factor"), (partitions, "numPartitions")]
        {
            if value != DEFAULT {
                return Err(Refused::with(
                    ErrorCode::InvalidRequest,
                    format!(
                        "A manual partition assignment was specified, but {what} was not set to -1."
                    ),
                ));
            }
        }
    }
    if replicas == 0 || i32::from(replicas) < DEFAULT {
        return Err(Refused::with(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if partitions == 0 || partitions < DEFAULT {
        return Err(Refused::with(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    let options = context.options;
    Ok((
        if partitions == DEFAULT { options.num_partitions } else { partitions },
        if replicas == -1 { options.default_replication_factor } else { replicas },
    ))
}

/// Explicit replicas, ordered by partition; that they are numbered without gaps and live on
/// nodes that exist is the controller's to say.
fn check_assignment(asked: &CreatableTopic) -> Result<Vec<(PartitionIndex, Vec<NodeId>)>, Refused> {
    let mut seen = BTreeMap::new();
    for assignment in &asked.assignments {
        let index = PartitionIndex(assignment.partition_index);
        let nodes = assignment.broker_ids.iter().map(|id| NodeId(id.0)).collect();
        if seen.insert(index, nodes).is_some() {
            return Err(Refused::with(
                ErrorCode::InvalidReplicaAssignment,
                format!("Found multiple manual partition assignments for partition {}", index.0),
            ));
        }
    }
    Ok(seen.into_iter().collect())
}

impl Waiting {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        let results = match answer {
            Answer::Control(outcome) => match *outcome {
                Outcome::Created(results) => results,
                Outcome::Unavailable => return Progress::Done,
                other => panic!("an answer to another command: {other:?}"),
            },
            other => {
                let refused = refusals::of_no_controller(&other);
                self.places
                    .iter()
                    .for_each(|place| self.items[*place].result = Err(refused.clone()));
                return Progress::Done;
            }
        };
        assert_eq!(results.len(), self.places.len(), "one result per topic");
        for (place, result) in self.places.iter().zip(results) {
            self.items[*place].result = result.map_err(refusals::of_metadata);
        }
        Progress::Done
    }

    /// Answers for every topic.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let topics = self.items.into_iter().map(|item| match &item.result {
            Ok(created) => made(context, envelope, &item, created),
            Err(refused) => CreatableTopicResult::default()
                .with_name(item.name.clone())
                .with_error_code(refused.code.code())
                .with_error_message(refused.message.clone().map(text)),
        });
        let topics = topics.collect();
        step::answer(envelope, &CreateTopicsResponse::default().with_topics(topics))
    }
}

fn made(
    context: &Context<'_>,
    envelope: &Envelope,
    item: &Item,
    created: &CreatedTopic,
) -> CreatableTopicResult {
    let mut result =
        CreatableTopicResult::default().with_name(item.name.clone()).with_error_message(None);
    if envelope.version >= CONFIGS_SINCE {
        result.num_partitions = created.partitions;
        result.replication_factor = created.replication_factor;
        result.configs = Some(effective_configs(context, &item.configs));
    }
    if envelope.version >= IDS_SINCE {
        result.topic_id = created.id.into();
    }
    result
}

fn effective_configs(context: &Context<'_>, own: &Overrides) -> Vec<CreatableTopicConfigs> {
    let described = describe::describe_topic(context.options, own).into_iter().map(|line| {
        CreatableTopicConfigs::default()
            .with_name(text(line.name))
            .with_value(line.value.map(text))
            .with_read_only(line.is_read_only)
            .with_config_source(line.source.code())
            .with_is_sensitive(line.is_sensitive)
    });
    described.collect()
}

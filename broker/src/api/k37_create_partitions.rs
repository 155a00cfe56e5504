//! CreatePartitions (key 37, versions 0–3): give topics more partitions.
//!
//! - Exactly one result per topic (G129); a topic named twice is INVALID_REQUEST.
//! - The count is the new total; explicit replicas are for the new partitions only.
//! - With `validate_only` everything is checked and nothing made.
//!
//! Deviations: the groups' own topic cannot grow (INVALID_REQUEST), since groups are found by its
//! number of partitions and would lose their offsets; Kafka lets it happen.
//! KIPs: 195, 599.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::NodeId;
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use flumen_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use flumen_replication::metadata::command::{Command, Growth};

use super::refusals::{self, Refused};
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::limits::PARTITIONS_PER_TOPIC;
use crate::shard::mailbox::Answer;

/// The first version whose clients know that they may have to wait (KIP-599).
const STRICT_SINCE: i16 = 3;

/// Topics being grown.
#[derive(Debug)]
pub struct Waiting {
    results: Vec<(TopicName, Result<(), Refused>)>,
    /// Which topics the controller was asked for, in its order.
    places: Vec<usize>,
}

/// Checks every topic and asks the controller.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<CreatePartitionsRequest>(envelope, frame, body) else {
        return Step::Close("malformed CreatePartitions request");
    };
    let mut counts: BTreeMap<TopicName, usize> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *counts.entry(topic.name.clone()).or_insert(0) += 1);
    let mut waiting = Waiting { results: Vec::new(), places: Vec::new() };
    let mut topics = Vec::new();
    let mut answered = BTreeSet::new();
    for asked in request.topics {
        if !answered.insert(asked.name.clone()) {
            continue;
        }
        let checked = if counts[&asked.name] > 1 {
            Err(Refused::with(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            check(context, &asked).and_then(|growth| {
                let added = added_count(context, &growth);
                context.count_mutations(envelope, added, STRICT_SINCE).map(|()| growth)
            })
        };
        let result = match checked {
            Ok(growth) => {
                waiting.places.push(waiting.results.len());
                topics.push(growth);
                Err(ErrorCode::RequestTimedOut.into())
            }
            Err(refused) => Err(refused),
        };
        waiting.results.push((asked.name, result));
    }
    if topics.is_empty() {
        return waiting.close(envelope);
    }
    let command = Command::GrowTopics { topics, validate_only: request.validate_only };
    step::control(
        context,
        command,
        AnyWaiting::CreatePartitions(waiting),
        step::patience(request.timeout_ms),
    )
}

fn added_count(context: &Context<'_>, growth: &Growth) -> usize {
    let standing = context.image.topic_named(&growth.name).map_or(0, |it| it.partitions.len());
    usize::try_from(growth.count).unwrap_or(0).saturating_sub(standing)
}

fn check(context: &Context<'_>, asked: &CreatePartitionsTopic) -> Result<Growth, Refused> {
    if context.image.topic_named(&asked.name).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    }
    if topics::is_internal(&asked.name) {
        return Err(Refused::with(
            ErrorCode::InvalidRequest,
            "the topic of groups cannot grow: groups are found by its number of partitions",
        ));
    }
    if asked.count > PARTITIONS_PER_TOPIC {
        return Err(Refused::with(
            ErrorCode::InvalidPartitions,
            format!("a topic may have {PARTITIONS_PER_TOPIC} partitions at most"),
        ));
    }
    let assignment = asked.assignments.as_ref().map(|assignments| {
        let nodes = assignments.iter();
        nodes.map(|one| one.broker_ids.iter().map(|id| NodeId(id.0)).collect()).collect()
    });
    Ok(Growth { name: asked.name.to_string(), count: asked.count, assignment })
}

impl Waiting {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        let results = refusals::of_changes(answer, self.places.len());
        for (place, result) in self.places.iter().zip(results) {
            self.results[*place].1 = result;
        }
        Progress::Done
    }

    /// Answers for every topic.
    pub fn close(self, envelope: &Envelope) -> Step {
        let results = self.results.into_iter().map(|(name, result)| {
            let answer = CreatePartitionsTopicResult::default().with_name(name);
            match result {
                Ok(()) => answer.with_error_message(None),
                Err(refused) => answer
                    .with_error_code(refused.code.code())
                    .with_error_message(refused.message.map(text)),
            }
        });
        let results = results.collect();
        step::answer(envelope, &CreatePartitionsResponse::default().with_results(results))
    }
}

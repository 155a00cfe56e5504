//! OffsetCommit (key 8, versions 2–9): remember how far a group has read.
//!
//! - Partitions that do not exist answer UNKNOWN_TOPIC_OR_PARTITION and never reach the
//!   coordinator, so that a mistyped topic leaves nothing behind in the offsets topic.
//! - Everything else is one question to the coordinator; the answer comes after the offsets are
//!   on stable media.
//! - An empty group id is allowed here, as in Kafka, for very old consumers.
//!
//! - `retention_time_ms` (versions 2–4) is honoured: such an offset expires by it, not by the
//!   broker's own retention.
//! - Records larger than one batch are INVALID_COMMIT_OFFSET_SIZE for the whole request; offsets for
//!   which the coordinator has no room (`replication/src/limits.rs`) are, one by one.
//!
//! Deviations: of a partition named more than once only the last offset is written to the log.
//! KIPs: 211 (expiry), 320 (leader epoch), 345 (static members), 848 (member epoch in version 9).

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::PartitionIndex;
use flumen_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use flumen_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use flumen_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// A commit on its way to the coordinator.
#[derive(Debug)]
pub struct Waiting {
    /// What the broker refused by itself.
    unknown: Vec<OffsetCommitResponseTopic>,
    /// What the coordinator says, or would say if it cannot be asked.
    known: OffsetCommitResponse,
}

/// Takes out what does not exist and asks the coordinator about the rest.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(mut request) = step::decode::<OffsetCommitRequest>(envelope, frame, body) else {
        return Step::Close("malformed OffsetCommit request");
    };
    let unknown = take_unknown(context, &mut request.topics);
    let log = context.group_log(&request.group_id);
    let nothing_left = request.topics.is_empty();
    let request = GroupRequest::CommitOffsets { request, version: envelope.version };
    let refused = request.refused(ErrorCode::NotCoordinator);
    let mut waiting = Waiting { unknown, known: OffsetCommitResponse::default() };
    waiting.learn(refused);
    match log {
        Some(log) if !nothing_left => Step::Wait(Wait {
            waiting: AnyWaiting::OffsetCommit(waiting),
            parts: vec![Part {
                number: 0,
                to: Addressee::Owner(log),
                question: Question::Group(Box::new(request)),
            }],
            patience: None,
        }),
        Some(_) | None => waiting.close(envelope),
    }
}

impl Waiting {
    /// Takes the coordinator's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            self.learn(*response);
        }
        Progress::Done
    }

    fn learn(&mut self, response: GroupResponse) {
        let GroupResponse::CommitOffsets(response) = response else {
            unreachable!("the coordinator answered another question")
        };
        self.known = response;
    }

    /// Answers with both halves, one entry per topic; as in Kafka what does not exist comes first.
    pub fn close(self, envelope: &Envelope) -> Step {
        let mut topics = self.unknown;
        let places: BTreeMap<TopicName, usize> =
            topics.iter().map(|topic| topic.name.clone()).zip(0..).collect();
        for topic in self.known.topics {
            match places.get(&topic.name) {
                Some(place) => topics[*place].partitions.extend(topic.partitions),
                None => topics.push(topic),
            }
        }
        step::answer(envelope, &OffsetCommitResponse::default().with_topics(topics))
    }
}

/// Moves partitions that do not exist out of the request into answers.
fn take_unknown(
    context: &Context<'_>,
    topics: &mut Vec<OffsetCommitRequestTopic>,
) -> Vec<OffsetCommitResponseTopic> {
    let mut unknown = Vec::new();
    for topic in topics.iter_mut() {
        let known = context.image.topic_named(&topic.name);
        let mut missing = Vec::new();
        topic.partitions.retain(|partition| {
            let index = PartitionIndex(partition.partition_index);
            let exists = known.is_some_and(|known| known.log(index).is_some());
            if !exists {
                let answer = OffsetCommitResponsePartition::default()
                    .with_partition_index(index.0)
                    .with_error_code(ErrorCode::UnknownTopicOrPartition.code());
                missing.push(answer);
            }
            exists
        });
        if !missing.is_empty() {
            let answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
            unknown.push(answer.with_partitions(missing));
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

//! OffsetDelete (key 47, version 0): forget offsets of a group.
//!
//! - Partitions that do not exist answer UNKNOWN_TOPIC_OR_PARTITION; the coordinator judges the
//!   others, and a group that still reads a topic keeps its offsets (GROUP_SUBSCRIBED_TO_TOPIC).
//! - The coordinator is asked even when nothing is left, because the state of the group is the
//!   answer's own error. An empty group id is INVALID_GROUP_ID.
//!
//! Deviations: none known. KIPs: 496.

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::PartitionIndex;
use flumen_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use flumen_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use flumen_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// A deletion on its way to the coordinator.
#[derive(Debug)]
pub struct Waiting {
    /// What the broker refused by itself.
    unknown: Vec<OffsetDeleteResponseTopic>,
    /// What the coordinator says; as long as it has not: why.
    known: OffsetDeleteResponse,
}

/// Takes out what does not exist and asks the coordinator about the rest.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(mut request) = step::decode::<OffsetDeleteRequest>(envelope, frame, body) else {
        return Step::Close("malformed OffsetDelete request");
    };
    let unknown = take_unknown(context, &mut request.topics);
    let code = if request.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        ErrorCode::NotCoordinator
    };
    let log = context.group_log(&request.group_id).filter(|_| !request.group_id.is_empty());
    let known = OffsetDeleteResponse::default().with_error_code(code.code());
    let waiting = Waiting { unknown, known };
    let Some(log) = log else { return waiting.close(envelope) };
    let question = Question::Group(Box::new(GroupRequest::DeleteOffsets { request }));
    Step::Wait(Wait {
        waiting: AnyWaiting::OffsetDelete(waiting),
        parts: vec![Part { number: 0, to: Addressee::Owner(log), question }],
        patience: None,
    })
}

impl Waiting {
    /// Takes the coordinator's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            let GroupResponse::DeleteOffsets(response) = *response else {
                unreachable!("the coordinator answered another question")
            };
            self.known = response;
        }
        Progress::Done
    }

    /// Answers with both halves, as in Kafka what does not exist first; an error of the whole request
    /// stands alone.
    pub fn close(self, envelope: &Envelope) -> Step {
        let mut response = self.known;
        if response.error_code == ErrorCode::None.code() {
            let known = std::mem::replace(&mut response.topics, self.unknown);
            let names = response.topics.iter().map(|topic| topic.name.clone());
            let places: BTreeMap<TopicName, usize> = names.zip(0..).collect();
            for topic in known {
                match places.get(&topic.name) {
                    Some(place) => response.topics[*place].partitions.extend(topic.partitions),
                    None => response.topics.push(topic),
                }
            }
        }
        step::answer(envelope, &response)
    }
}

/// Moves partitions that do not exist out of the request into answers.
fn take_unknown(
    context: &Context<'_>,
    topics: &mut Vec<OffsetDeleteRequestTopic>,
) -> Vec<OffsetDeleteResponseTopic> {
    let mut unknown = Vec::new();
    for topic in topics.iter_mut() {
        let known = context.image.topic_named(&topic.name);
        let mut missing = Vec::new();
        topic.partitions.retain(|partition| {
            let index = PartitionIndex(partition.partition_index);
            let exists = known.is_some_and(|known| known.log(index).is_some());
            if !exists {
                let answer = OffsetDeleteResponsePartition::default()
                    .with_partition_index(index.0)
                    .with_error_code(ErrorCode::UnknownTopicOrPartition.code());
                missing.push(answer);
            }
            exists
        });
        if !missing.is_empty() {
            let answer = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
            unknown.push(answer.with_partitions(missing));
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

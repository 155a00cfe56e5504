//! OffsetFetch (key 9, versions 1–9): how far groups have read.
//!
//! - Up to version 7 one group, from version 8 several, each asked of its own coordinator
//!   (KIP-709).
//! - Null topics mean every committed partition, an empty list none (G16).
//! - A group or partition without offset answers −1 without an error (G111).
//! - An error of the whole group has no place in version 1; there every partition carries it.
//!
//! Deviations: a group named twice is answered once, and so is a partition of a group.
//! KIPs: 320 (leader epoch), 447 (require_stable), 709, 848 (version 9).

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use flumen_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, StrBytes};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// The first version with several groups.
const GROUPS_SINCE: i16 = 8;

/// The first version with an error for the whole group.
const GROUP_ERROR_SINCE: i16 = 2;

/// Groups that are being asked for.
#[derive(Debug)]
pub struct Waiting {
    asked: Vec<OffsetFetchRequestGroup>,
    found: Vec<OffsetFetchResponseGroup>,
    missing: usize,
}

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<OffsetFetchRequest>(envelope, frame, body) else {
        return Step::Close("malformed OffsetFetch request");
    };
    let require_stable = request.require_stable;
    let asked = groups_of(envelope, request);
    let mut parts = Vec::with_capacity(asked.len());
    let mut found = Vec::with_capacity(asked.len());
    for (number, group) in (0..).zip(&asked) {
        found.push(
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_error_code(ErrorCode::NotCoordinator.code()),
        );
        let Some(log) = context.group_log(&group.group_id) else { continue };
        let request = GroupRequest::FetchOffsets { request: group.clone(), require_stable };
        let question = Question::Group(Box::new(request));
        parts.push(Part { number, to: Addressee::Owner(log), question });
    }
    let waiting = Waiting { asked, found, missing: parts.len() };
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::OffsetFetch(waiting), parts, patience: None })
}

/// The groups asked for, in the form of version 8.
fn groups_of(envelope: &Envelope, request: OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if envelope.version >= GROUPS_SINCE {
        let mut seen = BTreeSet::new();
        let groups = request.groups.into_iter();
        return groups.filter(|group| seen.insert(group.group_id.clone())).collect();
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    vec![OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics)]
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            let GroupResponse::FetchOffsets(response) = *response else {
                unreachable!("the coordinator answered another question")
            };
            self.found[part as usize] = response;
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers in the shape of the version.
    pub fn close(self, envelope: &Envelope) -> Step {
        let mut response = OffsetFetchResponse::default();
        if envelope.version >= GROUPS_SINCE {
            response.groups = self.found;
            return step::answer(envelope, &response);
        }
        for (asked, found) in self.asked.into_iter().zip(self.found) {
            if envelope.version >= GROUP_ERROR_SINCE {
                response.error_code = found.error_code;
            }
            let topics = if envelope.version < GROUP_ERROR_SINCE && found.error_code != 0 {
                asked
                    .topics
                    .unwrap_or_default()
                    .into_iter()
                    .map(|topic| refused_topic(topic, found.error_code))
                    .collect()
            } else {
                found.topics
            };
            response.topics.extend(topics.into_iter().map(single));
        }
        step::answer(envelope, &response)
    }
}

/// The same error for every partition of a topic.
fn refused_topic(asked: OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = asked.partition_indexes.into_iter().map(|index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(error_code)
    });
    OffsetFetchResponseTopics::default().with_name(asked.name).with_partitions(partitions.collect())
}

/// A topic in the shape of versions up to 7.
fn single(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}

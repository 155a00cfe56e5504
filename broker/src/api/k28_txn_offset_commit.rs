//! TxnOffsetCommit (key 28, versions 0–5): remember how far a group has read, if a transaction commits.
//!
//! - The coordinator of the transaction is asked first, on the core that holds the group (KIP-890): up
//!   to version 4 whether the group's partition is part of it (AddOffsetsToTxn), from version 5 to make
//!   it so.
//! - From version 3 the group checks member and generation (KIP-447). The answer comes after the offsets
//!   are on stable media; they are readable when the transaction is committed, and until then
//!   OffsetFetch with `require_stable` answers UNSTABLE_OFFSET_COMMIT.
//! - Partitions that do not exist answer UNKNOWN_TOPIC_OR_PARTITION, a group without a name
//!   INVALID_GROUP_ID.
//! - What is over soon (a coordinator loads, markers are being written) is COORDINATOR_LOAD_IN_PROGRESS,
//!   before version 2 COORDINATOR_NOT_AVAILABLE, which every client tries again.
//! - A fenced producer is INVALID_PRODUCER_EPOCH at every version, as where it produces; a member of the
//!   new kind that names another epoch than it has is ILLEGAL_GENERATION, which producers know: they
//!   take STALE_MEMBER_EPOCH for the end of everything.
//!
//! Deviations: of a partition named more than once only the last offset is written to the log.
//! KIPs: 98, 447, 588, 890.

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::PartitionIndex;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use flumen_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use flumen_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, TopicName, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};
use flumen_replication::coordinator::transaction::{ClientVersion, TransactionRequest};

use super::k25_add_offsets_to_txn::group_partition;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use super::transacted::{self, for_version};
use crate::shard::mailbox::{Answer, Question, WithinQuestion};

/// The first version that adds the group's partition to the transaction.
const ADDS_SINCE: i16 = 5;

/// The first version whose clients know that a coordinator may be loading.
const LOADING_SINCE: i16 = 2;

/// A commit on its way to the coordinators.
#[derive(Debug)]
pub struct Waiting {
    /// What the broker refused by itself.
    unknown: Vec<TxnOffsetCommitResponseTopic>,
    /// What the coordinator says, or would say if it cannot be asked.
    known: OffsetCommitResponse,
}

/// Takes out what does not exist and asks the coordinators about the rest.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(mut request) = step::decode::<TxnOffsetCommitRequest>(envelope, frame, body) else {
        return Step::Close("malformed TxnOffsetCommit request");
    };
    let unknown = take_unknown(context, &mut request.topics);
    let nothing_left = request.topics.is_empty();
    let id = request.transactional_id.to_string();
    let group = request.group_id.to_string();
    let producer = transacted::producer(request.producer_id, request.producer_epoch);
    let commit = GroupRequest::CommitWithin { request: plain(request), producer };
    let refused = |error| match commit.refused(error) {
        GroupResponse::CommitWithin(response) => response,
        other => unreachable!("a refusal of another kind: {other:?}"),
    };
    let nameless = match (group.is_empty(), id.is_empty()) {
        (true, _) => Some(ErrorCode::InvalidGroupId),
        (false, true) => Some(ErrorCode::InvalidRequest),
        (false, false) => None,
    };
    let known = refused(nameless.unwrap_or(ErrorCode::NotCoordinator));
    let waiting = Waiting { unknown, known };
    let (log, coordinator) = (context.group_log(&group), context.transaction_log(&id));
    let nothing_to_ask = nothing_left || nameless.is_some();
    let (Some(log), Some(coordinator), false) = (log, coordinator, nothing_to_ask) else {
        return waiting.close(envelope);
    };
    let partitions = group_partition(context, &group);
    let claim = if envelope.version >= ADDS_SINCE {
        TransactionRequest::Add { id, producer, partitions, version: ClientVersion::Two }
    } else {
        TransactionRequest::Verify { id, producer, partitions }
    };
    let question = WithinQuestion { coordinator, claim, commit };
    Step::Wait(Wait {
        waiting: AnyWaiting::TxnOffsetCommit(waiting),
        parts: vec![Part {
            number: 0,
            to: Addressee::Owner(log),
            question: Question::GroupWithin(Box::new(question)),
        }],
        patience: None,
    })
}

impl Waiting {
    /// Takes the coordinator's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            let GroupResponse::CommitWithin(response) = *response else {
                unreachable!("the coordinator answered another question")
            };
            self.known = response;
        }
        Progress::Done
    }

    /// Answers with both halves, one entry per topic; as in Kafka what does not exist comes first.
    pub fn close(self, envelope: &Envelope) -> Step {
        let mut topics = self.unknown;
        let places: BTreeMap<TopicName, usize> =
            topics.iter().map(|topic| topic.name.clone()).zip(0..).collect();
        for topic in self.known.topics {
            let partitions = topic.partitions.into_iter().map(|partition| {
                answered(partition.partition_index, told(envelope, partition.error_code))
            });
            match places.get(&topic.name) {
                Some(place) => topics[*place].partitions.extend(partitions),
                None => topics.push(
                    TxnOffsetCommitResponseTopic::default()
                        .with_name(topic.name)
                        .with_partitions(partitions.collect()),
                ),
            }
        }
        step::answer(envelope, &TxnOffsetCommitResponse::default().with_topics(topics))
    }
}

/// What a client of this API is told: coordinators of transactions are none of its business here, and
/// members of the new kind are nothing that producers have heard of.
fn told(envelope: &Envelope, code: i16) -> i16 {
    let Some(error) = ErrorCode::from_code(code) else { return code };
    let told = match for_version(envelope, error) {
        ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
        ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress => {
            if envelope.version < LOADING_SINCE {
                ErrorCode::CoordinatorNotAvailable
            } else {
                ErrorCode::CoordinatorLoadInProgress
            }
        }
        other => other,
    };
    told.code()
}

fn answered(index: i32, code: i16) -> TxnOffsetCommitResponsePartition {
    TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
}

/// The request as a coordinator of groups takes it.
fn plain(request: TxnOffsetCommitRequest) -> OffsetCommitRequest {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_committed_metadata(partition.committed_metadata)
        });
        OffsetCommitRequestTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetCommitRequest::default()
        .with_group_id(request.group_id)
        .with_generation_id_or_member_epoch(request.generation_id)
        .with_member_id(request.member_id)
        .with_group_instance_id(request.group_instance_id)
        .with_retention_time_ms(-1)
        .with_topics(topics.collect())
}

/// Moves partitions that do not exist out of the request into answers.
fn take_unknown(
    context: &Context<'_>,
    topics: &mut Vec<TxnOffsetCommitRequestTopic>,
) -> Vec<TxnOffsetCommitResponseTopic> {
    let mut unknown = Vec::new();
    for topic in topics.iter_mut() {
        let known = context.image.topic_named(&topic.name);
        let exists = |index| known.is_some_and(|known| known.log(PartitionIndex(index)).is_some());
        let all = std::mem::take(&mut topic.partitions).into_iter();
        let (there, missing): (Vec<_>, Vec<_>) = all.partition(|it| exists(it.partition_index));
        topic.partitions = there;
        if !missing.is_empty() {
            let refused = missing.iter().map(|partition| {
                answered(partition.partition_index, ErrorCode::UnknownTopicOrPartition.code())
            });
            let answer = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
            unknown.push(answer.with_partitions(refused.collect()));
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

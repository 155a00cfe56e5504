//! What a group coordinator is asked and what it answers.
//!
//! Does: name every request and response; build the refusal that fits a request.
//! Does not: decide anything.
//! Invariants: a response is of the same kind as its request, whole, and encodable at the request's
//! version.
//! Apart because the broker's API rooms need these words and nothing else of the coordinator.

use std::convert::Infallible;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::consumer_group_describe_response;
use flumen_protocol::messages::delete_groups_response::DeletableGroupResult;
use flumen_protocol::messages::describe_groups_response::DescribedGroup;
use flumen_protocol::messages::leave_group_response::MemberResponse;
use flumen_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use flumen_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use flumen_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use flumen_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, StrBytes, SyncGroupRequest, SyncGroupResponse,
};

use super::admin::ListFilter;
use crate::coordinator::machine::Decision;
use crate::coordinator::producer::Producer;

/// What a coordinator may be asked. Batched APIs arrive one group at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRequest {
    /// JoinGroup (key 11), versions 0–9.
    Join {
        /// The request as it was decoded.
        request: JoinGroupRequest,
        /// Its version.
        version: i16,
        /// The client id of the request header; empty if null.
        client_id: String,
        /// Where the client is, as Kafka prints it: `/127.0.0.1`.
        client_host: String,
    },
    /// SyncGroup (key 14), versions 0–5.
    Sync {
        /// The request as it was decoded.
        request: SyncGroupRequest,
    },
    /// Heartbeat (key 12), versions 0–4.
    Heartbeat {
        /// The request as it was decoded.
        request: HeartbeatRequest,
    },
    /// LeaveGroup (key 13), versions 0–5.
    Leave {
        /// The request as it was decoded.
        request: LeaveGroupRequest,
        /// Its version.
        version: i16,
    },
    /// ConsumerGroupHeartbeat (key 68), versions 0 and 1.
    ConsumerHeartbeat {
        /// The request as it was decoded.
        request: ConsumerGroupHeartbeatRequest,
        /// Its version.
        version: i16,
        /// The client id of the request header; empty if null.
        client_id: String,
        /// Where the client is, as Kafka prints it: `/127.0.0.1`.
        client_host: String,
    },
    /// One group of ConsumerGroupDescribe (key 69), versions 0 and 1.
    DescribeConsumer {
        /// Which group.
        group_id: String,
        /// The request's version.
        version: i16,
    },
    /// OffsetCommit (key 8), versions 2–9. Topics the client may not see or that do not exist were
    /// taken out by the broker.
    CommitOffsets {
        /// The request as it was decoded.
        request: OffsetCommitRequest,
        /// Its version.
        version: i16,
    },
    /// TxnOffsetCommit (key 28), versions 0–5, in the form of OffsetCommit: offsets that count when the
    /// producer's transaction is committed. The broker has made sure that it is open here.
    CommitWithin {
        /// The request; no retention time.
        request: OffsetCommitRequest,
        /// Whose transaction it is.
        producer: Producer,
    },
    /// One group of OffsetFetch (key 9), versions 1–9; older ones are put into this form.
    FetchOffsets {
        /// The group and the partitions wanted; no topics at all means every committed one.
        request: OffsetFetchRequestGroup,
        /// Whether offsets of open transactions make the answer UNSTABLE_OFFSET_COMMIT.
        require_stable: bool,
    },
    /// One group of DescribeGroups (key 15), versions 0–6.
    Describe {
        /// Which group.
        group_id: String,
        /// The request's version.
        version: i16,
    },
    /// ListGroups (key 16), versions 0–5. Always answered at once, even while answers wait.
    List {
        /// Which groups.
        wanted: ListFilter,
    },
    /// One group of DeleteGroups (key 42), versions 0–2.
    Delete {
        /// Which group.
        group_id: String,
    },
    /// OffsetDelete (key 47), version 0.
    DeleteOffsets {
        /// The request as it was decoded.
        request: OffsetDeleteRequest,
    },
    /// Topics were deleted: their offsets must not survive (G127). Sent by the broker itself.
    TopicsDeleted {
        /// Their names.
        names: Vec<String>,
    },
}

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupResponse {
    /// To [`GroupRequest::Join`].
    Join(JoinGroupResponse),
    /// To [`GroupRequest::Sync`].
    Sync(SyncGroupResponse),
    /// To [`GroupRequest::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`GroupRequest::Leave`].
    Leave(LeaveGroupResponse),
    /// To [`GroupRequest::ConsumerHeartbeat`].
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    /// To [`GroupRequest::DescribeConsumer`].
    DescribeConsumer(consumer_group_describe_response::DescribedGroup),
    /// To [`GroupRequest::CommitOffsets`].
    CommitOffsets(OffsetCommitResponse),
    /// To [`GroupRequest::CommitWithin`].
    CommitWithin(OffsetCommitResponse),
    /// To [`GroupRequest::FetchOffsets`].
    FetchOffsets(OffsetFetchResponseGroup),
    /// To [`GroupRequest::Describe`].
    Describe(DescribedGroup),
    /// To [`GroupRequest::List`]: the groups of this coordinator only.
    List(ListGroupsResponse),
    /// To [`GroupRequest::Delete`].
    Delete(DeletableGroupResult),
    /// To [`GroupRequest::DeleteOffsets`].
    DeleteOffsets(OffsetDeleteResponse),
    /// To [`GroupRequest::TopicsDeleted`].
    TopicsDeleted(ErrorCode),
}

/// What a coordinator of groups wants done.
pub type GroupEffect = Decision<GroupResponse, Infallible>;

impl GroupRequest {
    /// The whole answer that says `error` and nothing else.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> GroupResponse {
        match self {
            Self::Join { request, version, .. } => {
                GroupResponse::Join(join_refused(error, &request.member_id, *version))
            }
            Self::Sync { .. } => GroupResponse::Sync(sync_refused(error)),
            Self::Heartbeat { .. } => {
                let response = HeartbeatResponse::default().with_error_code(error.code());
                GroupResponse::Heartbeat(response)
            }
            Self::Leave { .. } => {
                let response = LeaveGroupResponse::default().with_error_code(error.code());
                GroupResponse::Leave(response)
            }
            Self::ConsumerHeartbeat { .. } => {
                GroupResponse::ConsumerHeartbeat(consumer_heartbeat_refused(error, None))
            }
            Self::DescribeConsumer { group_id, .. } => {
                GroupResponse::DescribeConsumer(describe_consumer_refused(group_id, error))
            }
            Self::CommitOffsets { request, .. } => {
                GroupResponse::CommitOffsets(commit_refused(request, error))
            }
            Self::CommitWithin { request, .. } => {
                GroupResponse::CommitWithin(commit_refused(request, error))
            }
            Self::FetchOffsets { request, .. } => {
                let response = OffsetFetchResponseGroup::default()
                    .with_group_id(request.group_id.clone())
                    .with_error_code(error.code());
                GroupResponse::FetchOffsets(response)
            }
            Self::Describe { group_id, .. } => {
                GroupResponse::Describe(describe_refused(group_id, error))
            }
            Self::List { .. } => {
                let response = ListGroupsResponse::default().with_error_code(error.code());
                GroupResponse::List(response)
            }
            Self::Delete { group_id } => GroupResponse::Delete(delete_result(group_id, error)),
            Self::DeleteOffsets { .. } => {
                let response = OffsetDeleteResponse::default().with_error_code(error.code());
                GroupResponse::DeleteOffsets(response)
            }
            Self::TopicsDeleted { .. } => GroupResponse::TopicsDeleted(error),
        }
    }
}

impl GroupResponse {
    /// The answer this one becomes when what it reports was not committed.
    #[must_use]
    pub fn refused(self, error: ErrorCode) -> Self {
        match self {
            Self::Join(response) => {
                let JoinGroupResponse { member_id, protocol_name, .. } = response;
                // A null name stays null: it says that the version may carry one.
                let name = protocol_name.map(|_| StrBytes::new());
                let refusal = JoinGroupResponse::default()
                    .with_member_id(member_id)
                    .with_protocol_name(name)
                    .with_error_code(error.code());
                Self::Join(refusal)
            }
            Self::Sync(_) => Self::Sync(sync_refused(error)),
            Self::Heartbeat(response) => Self::Heartbeat(response.with_error_code(error.code())),
            Self::Leave(_) => {
                Self::Leave(LeaveGroupResponse::default().with_error_code(error.code()))
            }
            Self::ConsumerHeartbeat(_) => {
                Self::ConsumerHeartbeat(consumer_heartbeat_refused(error, None))
            }
            Self::DescribeConsumer(response) => {
                Self::DescribeConsumer(describe_consumer_refused(&response.group_id, error))
            }
            Self::CommitOffsets(response) => {
                Self::CommitOffsets(commit_taken_back(response, error))
            }
            Self::CommitWithin(response) => Self::CommitWithin(commit_taken_back(response, error)),
            Self::FetchOffsets(response) => {
                let refusal = OffsetFetchResponseGroup::default()
                    .with_group_id(response.group_id)
                    .with_error_code(error.code());
                Self::FetchOffsets(refusal)
            }
            Self::Describe(response) => Self::Describe(describe_refused(&response.group_id, error)),
            Self::List(_) => {
                Self::List(ListGroupsResponse::default().with_error_code(error.code()))
            }
            Self::Delete(response) => Self::Delete(response.with_error_code(error.code())),
            Self::DeleteOffsets(_) => {
                Self::DeleteOffsets(OffsetDeleteResponse::default().with_error_code(error.code()))
            }
            Self::TopicsDeleted(_) => Self::TopicsDeleted(error),
        }
    }
}

fn commit_taken_back(mut response: OffsetCommitResponse, error: ErrorCode) -> OffsetCommitResponse {
    let partitions = response.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut());
    partitions.for_each(|partition| partition.error_code = error.code());
    response
}

/// A JoinGroup answer with an error: no generation, no leader, no members.
pub(super) fn join_refused(error: ErrorCode, member_id: &str, version: i16) -> JoinGroupResponse {
    let response = JoinGroupResponse::default()
        .with_member_id(text(member_id))
        .with_protocol_name(None)
        .with_error_code(error.code());
    join_for_version(response, version)
}

/// Leaves out of a JoinGroup answer what its version has no place for.
pub(super) fn join_for_version(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    if version < 7 {
        response.protocol_type = None;
        // The name may be null from version 7 on.
        response.protocol_name.get_or_insert_default();
    }
    if version < 5 {
        response.members.iter_mut().for_each(|member| member.group_instance_id = None);
    }
    assert!(version >= 9 || !response.skip_assignment, "skipping needs version 9");
    response
}

/// A SyncGroup answer with an error and an empty assignment.
pub(super) fn sync_refused(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}

/// A ConsumerGroupHeartbeat answer with an error and, where it is one of this request, the reason in
/// words. As in Kafka the words of the code itself are no reason: clients know them.
pub(super) fn consumer_heartbeat_refused(
    error: ErrorCode,
    message: Option<&str>,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(None)
        .with_assignment(None)
        .with_error_code(error.code())
        .with_error_message(message.map(text))
}

fn describe_consumer_refused(
    group_id: &str,
    error: ErrorCode,
) -> consumer_group_describe_response::DescribedGroup {
    consumer_group_describe_response::DescribedGroup::default()
        .with_group_id(GroupId(text(group_id)))
        .with_error_code(error.code())
}

/// An OffsetCommit answer with the same error for every partition asked for.
pub(super) fn commit_refused(
    request: &OffsetCommitRequest,
    error: ErrorCode,
) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// The answer of LeaveGroup where every member gets the same error.
pub(super) fn leave_refused(request: &LeaveGroupRequest, error: ErrorCode) -> LeaveGroupResponse {
    let members = request.members.iter().map(|member| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(error.code())
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

/// A DescribeGroups answer with an error and nothing else.
fn describe_refused(group_id: &str, error: ErrorCode) -> DescribedGroup {
    DescribedGroup::default().with_group_id(GroupId(text(group_id))).with_error_code(error.code())
}

/// The DeleteGroups answer for one group.
pub(super) fn delete_result(group_id: &str, error: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult::default()
        .with_group_id(GroupId(text(group_id)))
        .with_error_code(error.code())
}

/// A copy of `text` for a message. Copies on purpose: a slice of a request kept in the coordinator
/// would keep the whole request's buffer alive.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

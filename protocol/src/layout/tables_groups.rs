//! Layouts of the requests about groups and their offsets.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Blob, Bool, I8, I32, I64, Struct, Text, Uuid};
use super::{Layout, field, layout};
use crate::messages::{
    consumer_group_describe_request, consumer_group_heartbeat_request, delete_groups_request,
    describe_groups_request, find_coordinator_request, heartbeat_request, join_group_request,
    leave_group_request, list_groups_request, offset_commit_request, offset_delete_request,
    offset_fetch_request, sync_group_request,
};

pub(super) const CONSUMER_GROUP_HEARTBEAT_REQUEST: Layout = layout(
    size_of::<consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest>(),
    &[
        field("group_id", Text),
        field("member_id", Text),
        field("member_epoch", I32),
        field("instance_id", Text).nullable(0),
        field("rack_id", Text).nullable(0),
        field("rebalance_timeout_ms", I32),
        field("subscribed_topic_names", Array(&Text)).nullable(0),
        field("subscribed_topic_regex", Text).since(1).nullable(1),
        field("server_assignor", Text).nullable(0),
        field("topic_partitions", Array(&Struct(&CONSUMER_GROUP_TOPIC_PARTITIONS))).nullable(0),
    ],
);

const CONSUMER_GROUP_TOPIC_PARTITIONS: Layout = layout(
    size_of::<consumer_group_heartbeat_request::TopicPartitions>(),
    &[field("topic_id", Uuid), field("partitions", Array(&I32))],
);

pub(super) const CONSUMER_GROUP_DESCRIBE_REQUEST: Layout = layout(
    size_of::<consumer_group_describe_request::ConsumerGroupDescribeRequest>(),
    &[field("group_ids", Array(&Text)), field("include_authorized_operations", Bool)],
);

pub(super) const OFFSET_COMMIT_REQUEST: Layout = layout(
    size_of::<offset_commit_request::OffsetCommitRequest>(),
    &[
        field("group_id", Text),
        field("generation_id_or_member_epoch", I32),
        field("member_id", Text),
        field("retention_time_ms", I64).until(4),
        field("group_instance_id", Text).since(7).nullable(7),
        field("topics", Array(&Struct(&OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
);

const OFFSET_COMMIT_REQUEST_TOPIC: Layout = layout(
    size_of::<offset_commit_request::OffsetCommitRequestTopic>(),
    &[field("name", Text), field("partitions", Array(&Struct(&OFFSET_COMMIT_REQUEST_PARTITION)))],
);

const OFFSET_COMMIT_REQUEST_PARTITION: Layout = layout(
    size_of::<offset_commit_request::OffsetCommitRequestPartition>(),
    &[
        field("partition_index", I32),
        field("committed_offset", I64),
        field("committed_leader_epoch", I32).since(6),
        field("committed_metadata", Text).nullable(2),
    ],
);

pub(super) const OFFSET_FETCH_REQUEST: Layout = layout(
    size_of::<offset_fetch_request::OffsetFetchRequest>(),
    &[
        field("group_id", Text).until(7),
        field("topics", Array(&Struct(&OFFSET_FETCH_REQUEST_TOPIC))).until(7).nullable(2),
        field("groups", Array(&Struct(&OFFSET_FETCH_REQUEST_GROUP))).since(8),
        field("require_stable", Bool).since(7),
    ],
);

const OFFSET_FETCH_REQUEST_GROUP: Layout = layout(
    size_of::<offset_fetch_request::OffsetFetchRequestGroup>(),
    &[
        field("group_id", Text),
        field("member_id", Text).since(9).nullable(9),
        field("member_epoch", I32).since(9),
        field("topics", Array(&Struct(&OFFSET_FETCH_REQUEST_TOPICS))).nullable(8),
    ],
);

const OFFSET_FETCH_REQUEST_TOPICS: Layout = layout(
    size_of::<offset_fetch_request::OffsetFetchRequestTopics>(),
    &[field("name", Text), field("partition_indexes", Array(&I32))],
);

const OFFSET_FETCH_REQUEST_TOPIC: Layout = layout(
    size_of::<offset_fetch_request::OffsetFetchRequestTopic>(),
    &[field("name", Text), field("partition_indexes", Array(&I32))],
);

pub(super) const FIND_COORDINATOR_REQUEST: Layout = layout(
    size_of::<find_coordinator_request::FindCoordinatorRequest>(),
    &[
        field("key", Text).until(3),
        field("key_type", I8).since(1),
        field("coordinator_keys", Array(&Text)).since(4),
    ],
);

pub(super) const JOIN_GROUP_REQUEST: Layout = layout(
    size_of::<join_group_request::JoinGroupRequest>(),
    &[
        field("group_id", Text),
        field("session_timeout_ms", I32),
        field("rebalance_timeout_ms", I32).since(1),
        field("member_id", Text),
        field("group_instance_id", Text).since(5).nullable(5),
        field("protocol_type", Text),
        field("protocols", Array(&Struct(&JOIN_GROUP_REQUEST_PROTOCOL))),
        field("reason", Text).since(8).nullable(8),
    ],
);

const JOIN_GROUP_REQUEST_PROTOCOL: Layout = layout(
    size_of::<join_group_request::JoinGroupRequestProtocol>(),
    &[field("name", Text), field("metadata", Blob)],
);

pub(super) const HEARTBEAT_REQUEST: Layout = layout(
    size_of::<heartbeat_request::HeartbeatRequest>(),
    &[
        field("group_id", Text),
        field("generation_id", I32),
        field("member_id", Text),
        field("group_instance_id", Text).since(3).nullable(3),
    ],
);

pub(super) const LEAVE_GROUP_REQUEST: Layout = layout(
    size_of::<leave_group_request::LeaveGroupRequest>(),
    &[
        field("group_id", Text),
        field("member_id", Text).until(2),
        field("members", Array(&Struct(&LEAVE_GROUP_MEMBER_IDENTITY))).since(3),
    ],
);

const LEAVE_GROUP_MEMBER_IDENTITY: Layout = layout(
    size_of::<leave_group_request::MemberIdentity>(),
    &[
        field("member_id", Text),
        field("group_instance_id", Text).nullable(3),
        field("reason", Text).since(5).nullable(5),
    ],
);

pub(super) const SYNC_GROUP_REQUEST: Layout = layout(
    size_of::<sync_group_request::SyncGroupRequest>(),
    &[
        field("group_id", Text),
        field("generation_id", I32),
        field("member_id", Text),
        field("group_instance_id", Text).since(3).nullable(3),
        field("protocol_type", Text).since(5).nullable(5),
        field("protocol_name", Text).since(5).nullable(5),
        field("assignments", Array(&Struct(&SYNC_GROUP_REQUEST_ASSIGNMENT))),
    ],
);

const SYNC_GROUP_REQUEST_ASSIGNMENT: Layout = layout(
    size_of::<sync_group_request::SyncGroupRequestAssignment>(),
    &[field("member_id", Text), field("assignment", Blob)],
);

pub(super) const DESCRIBE_GROUPS_REQUEST: Layout = layout(
    size_of::<describe_groups_request::DescribeGroupsRequest>(),
    &[field("groups", Array(&Text)), field("include_authorized_operations", Bool).since(3)],
);

pub(super) const LIST_GROUPS_REQUEST: Layout = layout(
    size_of::<list_groups_request::ListGroupsRequest>(),
    &[field("states_filter", Array(&Text)).since(4), field("types_filter", Array(&Text)).since(5)],
);

pub(super) const DELETE_GROUPS_REQUEST: Layout = layout(
    size_of::<delete_groups_request::DeleteGroupsRequest>(),
    &[field("groups_names", Array(&Text))],
);

pub(super) const OFFSET_DELETE_REQUEST: Layout = layout(
    size_of::<offset_delete_request::OffsetDeleteRequest>(),
    &[field("group_id", Text), field("topics", Array(&Struct(&OFFSET_DELETE_REQUEST_TOPIC)))],
);

const OFFSET_DELETE_REQUEST_TOPIC: Layout = layout(
    size_of::<offset_delete_request::OffsetDeleteRequestTopic>(),
    &[field("name", Text), field("partitions", Array(&Struct(&OFFSET_DELETE_REQUEST_PARTITION)))],
);

const OFFSET_DELETE_REQUEST_PARTITION: Layout = layout(
    size_of::<offset_delete_request::OffsetDeleteRequestPartition>(),
    &[field("partition_index", I32)],
);

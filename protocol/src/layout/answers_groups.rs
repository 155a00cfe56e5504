//! Layouts of the answers about groups, their offsets, and transactions.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do, for the versions that
//! a client of ours asks at.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Blob, I8, I16, I32, I64, Struct, Text, Uuid};
use super::{Layout, field, layout};
use crate::messages::{
    consumer_group_describe_response, delete_groups_response, describe_groups_response,
    describe_transactions_response, find_coordinator_response, list_groups_response,
    list_transactions_response, offset_commit_response, offset_fetch_response,
};

pub(super) const OFFSET_COMMIT_ANSWER: Layout = layout(
    size_of::<offset_commit_response::OffsetCommitResponse>(),
    &[
        field("throttle_time_ms", I32).since(3),
        field("topics", Array(&Struct(&OFFSET_COMMIT_OFFSET_COMMIT_RESPONSE_TOPIC))),
    ],
);

const OFFSET_COMMIT_OFFSET_COMMIT_RESPONSE_TOPIC: Layout = layout(
    size_of::<offset_commit_response::OffsetCommitResponseTopic>(),
    &[
        field("name", Text),
        field("partitions", Array(&Struct(&OFFSET_COMMIT_OFFSET_COMMIT_RESPONSE_PARTITION))),
    ],
);

const OFFSET_COMMIT_OFFSET_COMMIT_RESPONSE_PARTITION: Layout = layout(
    size_of::<offset_commit_response::OffsetCommitResponsePartition>(),
    &[field("partition_index", I32), field("error_code", I16)],
);

pub(super) const OFFSET_FETCH_ANSWER: Layout = layout(
    size_of::<offset_fetch_response::OffsetFetchResponse>(),
    &[
        field("throttle_time_ms", I32).since(3),
        field("topics", Array(&Struct(&OFFSET_FETCH_OFFSET_FETCH_RESPONSE_TOPIC))),
        field("error_code", I16),
    ],
);

const OFFSET_FETCH_OFFSET_FETCH_RESPONSE_TOPIC: Layout = layout(
    size_of::<offset_fetch_response::OffsetFetchResponseTopic>(),
    &[
        field("name", Text),
        field("partitions", Array(&Struct(&OFFSET_FETCH_OFFSET_FETCH_RESPONSE_PARTITION))),
    ],
);

const OFFSET_FETCH_OFFSET_FETCH_RESPONSE_PARTITION: Layout = layout(
    size_of::<offset_fetch_response::OffsetFetchResponsePartition>(),
    &[
        field("partition_index", I32),
        field("committed_offset", I64),
        field("committed_leader_epoch", I32).since(5),
        field("metadata", Text).nullable(0),
        field("error_code", I16),
    ],
);

pub(super) const FIND_COORDINATOR_ANSWER: Layout = layout(
    size_of::<find_coordinator_response::FindCoordinatorResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("error_code", I16),
        field("error_message", Text).nullable(1),
        field("node_id", I32),
        field("host", Text),
        field("port", I32),
    ],
);

pub(super) const DESCRIBE_GROUPS_ANSWER: Layout = layout(
    size_of::<describe_groups_response::DescribeGroupsResponse>(),
    &[
        field("throttle_time_ms", I32).since(1),
        field("groups", Array(&Struct(&DESCRIBE_GROUPS_DESCRIBED_GROUP))),
    ],
);

const DESCRIBE_GROUPS_DESCRIBED_GROUP: Layout = layout(
    size_of::<describe_groups_response::DescribedGroup>(),
    &[
        field("error_code", I16),
        field("error_message", Text).since(6).nullable(6),
        field("group_id", Text),
        field("group_state", Text),
        field("protocol_type", Text),
        field("protocol_data", Text),
        field("members", Array(&Struct(&DESCRIBE_GROUPS_DESCRIBED_GROUP_MEMBER))),
        field("authorized_operations", I32).since(3),
    ],
);

const DESCRIBE_GROUPS_DESCRIBED_GROUP_MEMBER: Layout = layout(
    size_of::<describe_groups_response::DescribedGroupMember>(),
    &[
        field("member_id", Text),
        field("group_instance_id", Text).since(4).nullable(4),
        field("client_id", Text),
        field("client_host", Text),
        field("member_metadata", Blob),
        field("member_assignment", Blob),
    ],
);

pub(super) const LIST_GROUPS_ANSWER: Layout = layout(
    size_of::<list_groups_response::ListGroupsResponse>(),
    &[
        field("throttle_time_ms", I32).since(1),
        field("error_code", I16),
        field("groups", Array(&Struct(&LIST_GROUPS_LISTED_GROUP))),
    ],
);

const LIST_GROUPS_LISTED_GROUP: Layout = layout(
    size_of::<list_groups_response::ListedGroup>(),
    &[
        field("group_id", Text),
        field("protocol_type", Text),
        field("group_state", Text).since(4),
        field("group_type", Text).since(5),
    ],
);

pub(super) const DELETE_GROUPS_ANSWER: Layout = layout(
    size_of::<delete_groups_response::DeleteGroupsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("results", Array(&Struct(&DELETE_GROUPS_DELETABLE_GROUP_RESULT))),
    ],
);

const DELETE_GROUPS_DELETABLE_GROUP_RESULT: Layout = layout(
    size_of::<delete_groups_response::DeletableGroupResult>(),
    &[field("group_id", Text), field("error_code", I16)],
);

pub(super) const DESCRIBE_TRANSACTIONS_ANSWER: Layout = layout(
    size_of::<describe_transactions_response::DescribeTransactionsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("transaction_states", Array(&Struct(&DESCRIBE_TRANSACTIONS_TRANSACTION_STATE))),
    ],
);

const DESCRIBE_TRANSACTIONS_TRANSACTION_STATE: Layout = layout(
    size_of::<describe_transactions_response::TransactionState>(),
    &[
        field("error_code", I16),
        field("transactional_id", Text),
        field("transaction_state", Text),
        field("transaction_timeout_ms", I32),
        field("transaction_start_time_ms", I64),
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("topics", Array(&Struct(&DESCRIBE_TRANSACTIONS_TOPIC_DATA))),
    ],
);

const DESCRIBE_TRANSACTIONS_TOPIC_DATA: Layout = layout(
    size_of::<describe_transactions_response::TopicData>(),
    &[field("topic", Text), field("partitions", Array(&I32))],
);

pub(super) const LIST_TRANSACTIONS_ANSWER: Layout = layout(
    size_of::<list_transactions_response::ListTransactionsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("error_code", I16),
        field("unknown_state_filters", Array(&Text)),
        field("transaction_states", Array(&Struct(&LIST_TRANSACTIONS_TRANSACTION_STATE))),
    ],
);

const LIST_TRANSACTIONS_TRANSACTION_STATE: Layout = layout(
    size_of::<list_transactions_response::TransactionState>(),
    &[field("transactional_id", Text), field("producer_id", I64), field("transaction_state", Text)],
);

pub(super) const CONSUMER_GROUP_DESCRIBE_ANSWER: Layout = layout(
    size_of::<consumer_group_describe_response::ConsumerGroupDescribeResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("groups", Array(&Struct(&CONSUMER_GROUP_DESCRIBE_DESCRIBED_GROUP))),
    ],
);

const CONSUMER_GROUP_DESCRIBE_DESCRIBED_GROUP: Layout = layout(
    size_of::<consumer_group_describe_response::DescribedGroup>(),
    &[
        field("error_code", I16),
        field("error_message", Text).nullable(0),
        field("group_id", Text),
        field("group_state", Text),
        field("group_epoch", I32),
        field("assignment_epoch", I32),
        field("assignor_name", Text),
        field("members", Array(&Struct(&CONSUMER_GROUP_DESCRIBE_MEMBER))),
        field("authorized_operations", I32),
    ],
);

const CONSUMER_GROUP_DESCRIBE_MEMBER: Layout = layout(
    size_of::<consumer_group_describe_response::Member>(),
    &[
        field("member_id", Text),
        field("instance_id", Text).nullable(0),
        field("rack_id", Text).nullable(0),
        field("member_epoch", I32),
        field("client_id", Text),
        field("client_host", Text),
        field("subscribed_topic_names", Array(&Text)),
        field("subscribed_topic_regex", Text).nullable(0),
        field("assignment", Struct(&CONSUMER_GROUP_DESCRIBE_ASSIGNMENT)),
        field("target_assignment", Struct(&CONSUMER_GROUP_DESCRIBE_ASSIGNMENT)),
        field("member_type", I8).since(1),
    ],
);

const CONSUMER_GROUP_DESCRIBE_ASSIGNMENT: Layout = layout(
    size_of::<consumer_group_describe_response::Assignment>(),
    &[field("topic_partitions", Array(&Struct(&CONSUMER_GROUP_DESCRIBE_TOPIC_PARTITIONS)))],
);

const CONSUMER_GROUP_DESCRIBE_TOPIC_PARTITIONS: Layout = layout(
    size_of::<consumer_group_describe_response::TopicPartitions>(),
    &[field("topic_id", Uuid), field("topic_name", Text), field("partitions", Array(&I32))],
);

//! Layouts of the requests about transactions.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Bool, I16, I32, I64, Struct, Text};
use super::{Layout, field, layout};
use crate::messages::{
    add_offsets_to_txn_request, add_partitions_to_txn_request, describe_transactions_request,
    end_txn_request, list_transactions_request, txn_offset_commit_request,
};

pub(super) const ADD_PARTITIONS_TO_TXN_REQUEST: Layout = layout(
    size_of::<add_partitions_to_txn_request::AddPartitionsToTxnRequest>(),
    &[
        field("transactions", Array(&Struct(&ADD_PARTITIONS_TO_TXN_TRANSACTION))).since(4),
        field("v3_and_below_transactional_id", Text).until(3),
        field("v3_and_below_producer_id", I64).until(3),
        field("v3_and_below_producer_epoch", I16).until(3),
        field("v3_and_below_topics", Array(&Struct(&ADD_PARTITIONS_TO_TXN_TOPIC))).until(3),
    ],
);

const ADD_PARTITIONS_TO_TXN_TRANSACTION: Layout = layout(
    size_of::<add_partitions_to_txn_request::AddPartitionsToTxnTransaction>(),
    &[
        field("transactional_id", Text),
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("verify_only", Bool),
        field("topics", Array(&Struct(&ADD_PARTITIONS_TO_TXN_TOPIC))),
    ],
);

const ADD_PARTITIONS_TO_TXN_TOPIC: Layout = layout(
    size_of::<add_partitions_to_txn_request::AddPartitionsToTxnTopic>(),
    &[field("name", Text), field("partitions", Array(&I32))],
);

pub(super) const ADD_OFFSETS_TO_TXN_REQUEST: Layout = layout(
    size_of::<add_offsets_to_txn_request::AddOffsetsToTxnRequest>(),
    &[
        field("transactional_id", Text),
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("group_id", Text),
    ],
);

pub(super) const END_TXN_REQUEST: Layout = layout(
    size_of::<end_txn_request::EndTxnRequest>(),
    &[
        field("transactional_id", Text),
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("committed", Bool),
    ],
);

pub(super) const TXN_OFFSET_COMMIT_REQUEST: Layout = layout(
    size_of::<txn_offset_commit_request::TxnOffsetCommitRequest>(),
    &[
        field("transactional_id", Text),
        field("group_id", Text),
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("generation_id", I32).since(3),
        field("member_id", Text).since(3),
        field("group_instance_id", Text).since(3).nullable(3),
        field("topics", Array(&Struct(&TXN_OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
);

const TXN_OFFSET_COMMIT_REQUEST_TOPIC: Layout = layout(
    size_of::<txn_offset_commit_request::TxnOffsetCommitRequestTopic>(),
    &[
        field("name", Text),
        field("partitions", Array(&Struct(&TXN_OFFSET_COMMIT_REQUEST_PARTITION))),
    ],
);

const TXN_OFFSET_COMMIT_REQUEST_PARTITION: Layout = layout(
    size_of::<txn_offset_commit_request::TxnOffsetCommitRequestPartition>(),
    &[
        field("partition_index", I32),
        field("committed_offset", I64),
        field("committed_leader_epoch", I32).since(2),
        field("committed_metadata", Text).nullable(0),
    ],
);

pub(super) const DESCRIBE_TRANSACTIONS_REQUEST: Layout = layout(
    size_of::<describe_transactions_request::DescribeTransactionsRequest>(),
    &[field("transactional_ids", Array(&Text))],
);

pub(super) const LIST_TRANSACTIONS_REQUEST: Layout = layout(
    size_of::<list_transactions_request::ListTransactionsRequest>(),
    &[
        field("state_filters", Array(&Text)),
        field("producer_id_filters", Array(&I64)),
        field("duration_filter", I64).since(1),
        field("transactional_id_pattern", Text).since(2).nullable(2),
    ],
);

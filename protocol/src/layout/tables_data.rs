//! Layouts of the requests about records: producing, fetching, positions, metadata.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Blob, Bool, I8, I16, I32, I64, Struct, Text, Uuid};
use super::{Layout, field, layout, tag};
use crate::messages::{
    delete_records_request, describe_producers_request, fetch_request, init_producer_id_request,
    list_offsets_request, metadata_request, offset_for_leader_epoch_request, produce_request,
    write_txn_markers_request,
};

pub(super) const PRODUCE_REQUEST: Layout = layout(
    size_of::<produce_request::ProduceRequest>(),
    &[
        field("transactional_id", Text).nullable(3),
        field("acks", I16),
        field("timeout_ms", I32),
        field("topic_data", Array(&Struct(&PRODUCE_TOPIC_PRODUCE_DATA))),
    ],
);

const PRODUCE_TOPIC_PRODUCE_DATA: Layout = layout(
    size_of::<produce_request::TopicProduceData>(),
    &[
        field("name", Text).until(12),
        field("topic_id", Uuid).since(13),
        field("partition_data", Array(&Struct(&PRODUCE_PARTITION_PRODUCE_DATA))),
    ],
);

const PRODUCE_PARTITION_PRODUCE_DATA: Layout = layout(
    size_of::<produce_request::PartitionProduceData>(),
    &[field("index", I32), field("records", Blob).nullable(3)],
);

pub(super) const FETCH_REQUEST: Layout = layout(
    size_of::<fetch_request::FetchRequest>(),
    &[
        field("replica_id", I32).until(14),
        field("max_wait_ms", I32),
        field("min_bytes", I32),
        field("max_bytes", I32),
        field("isolation_level", I8),
        field("session_id", I32).since(7),
        field("session_epoch", I32).since(7),
        field("topics", Array(&Struct(&FETCH_TOPIC))),
        field("forgotten_topics_data", Array(&Struct(&FETCH_FORGOTTEN_TOPIC))).since(7),
        field("rack_id", Text).since(11),
    ],
)
.tagged(&[
    tag(0, field("cluster_id", Text).since(12).nullable(12)),
    tag(1, field("replica_state", Struct(&FETCH_REPLICA_STATE)).since(15)),
]);

const FETCH_REPLICA_STATE: Layout = layout(
    size_of::<fetch_request::ReplicaState>(),
    &[field("replica_id", I32), field("replica_epoch", I64)],
);

const FETCH_FORGOTTEN_TOPIC: Layout = layout(
    size_of::<fetch_request::ForgottenTopic>(),
    &[
        field("topic", Text).until(12),
        field("topic_id", Uuid).since(13),
        field("partitions", Array(&I32)),
    ],
);

const FETCH_TOPIC: Layout = layout(
    size_of::<fetch_request::FetchTopic>(),
    &[
        field("topic", Text).until(12),
        field("topic_id", Uuid).since(13),
        field("partitions", Array(&Struct(&FETCH_PARTITION))),
    ],
);

const FETCH_PARTITION: Layout = layout(
    size_of::<fetch_request::FetchPartition>(),
    &[
        field("partition", I32),
        field("current_leader_epoch", I32).since(9),
        field("fetch_offset", I64),
        field("last_fetched_epoch", I32).since(12),
        field("log_start_offset", I64).since(5),
        field("partition_max_bytes", I32),
    ],
)
.tagged(&[
    tag(0, field("replica_directory_id", Uuid).since(17)),
    tag(1, field("high_watermark", I64).since(18)),
]);

pub(super) const LIST_OFFSETS_REQUEST: Layout = layout(
    size_of::<list_offsets_request::ListOffsetsRequest>(),
    &[
        field("replica_id", I32),
        field("isolation_level", I8).since(2),
        field("topics", Array(&Struct(&LIST_OFFSETS_TOPIC))),
        field("timeout_ms", I32).since(10),
    ],
);

const LIST_OFFSETS_TOPIC: Layout = layout(
    size_of::<list_offsets_request::ListOffsetsTopic>(),
    &[field("name", Text), field("partitions", Array(&Struct(&LIST_OFFSETS_PARTITION)))],
);

const LIST_OFFSETS_PARTITION: Layout = layout(
    size_of::<list_offsets_request::ListOffsetsPartition>(),
    &[
        field("partition_index", I32),
        field("current_leader_epoch", I32).since(4),
        field("timestamp", I64),
    ],
);

pub(super) const METADATA_REQUEST: Layout = layout(
    size_of::<metadata_request::MetadataRequest>(),
    &[
        field("topics", Array(&Struct(&METADATA_REQUEST_TOPIC))).nullable(1),
        field("allow_auto_topic_creation", Bool).since(4),
        field("include_cluster_authorized_operations", Bool).since(8).until(10),
        field("include_topic_authorized_operations", Bool).since(8),
    ],
);

const METADATA_REQUEST_TOPIC: Layout = layout(
    size_of::<metadata_request::MetadataRequestTopic>(),
    &[field("topic_id", Uuid).since(10), field("name", Text).nullable(10)],
);

pub(super) const DELETE_RECORDS_REQUEST: Layout = layout(
    size_of::<delete_records_request::DeleteRecordsRequest>(),
    &[field("topics", Array(&Struct(&DELETE_RECORDS_TOPIC))), field("timeout_ms", I32)],
);

const DELETE_RECORDS_TOPIC: Layout = layout(
    size_of::<delete_records_request::DeleteRecordsTopic>(),
    &[field("name", Text), field("partitions", Array(&Struct(&DELETE_RECORDS_PARTITION)))],
);

const DELETE_RECORDS_PARTITION: Layout = layout(
    size_of::<delete_records_request::DeleteRecordsPartition>(),
    &[field("partition_index", I32), field("offset", I64)],
);

pub(super) const DESCRIBE_PRODUCERS_REQUEST: Layout = layout(
    size_of::<describe_producers_request::DescribeProducersRequest>(),
    &[field("topics", Array(&Struct(&DESCRIBE_PRODUCERS_TOPIC)))],
);

const DESCRIBE_PRODUCERS_TOPIC: Layout = layout(
    size_of::<describe_producers_request::TopicRequest>(),
    &[field("name", Text), field("partition_indexes", Array(&I32))],
);

pub(super) const WRITE_TXN_MARKERS_REQUEST: Layout = layout(
    size_of::<write_txn_markers_request::WriteTxnMarkersRequest>(),
    &[field("markers", Array(&Struct(&WRITE_TXN_MARKERS_MARKER)))],
);

const WRITE_TXN_MARKERS_MARKER: Layout = layout(
    size_of::<write_txn_markers_request::WritableTxnMarker>(),
    &[
        field("producer_id", I64),
        field("producer_epoch", I16),
        field("transaction_result", Bool),
        field("topics", Array(&Struct(&WRITE_TXN_MARKERS_TOPIC))),
        field("coordinator_epoch", I32),
    ],
);

const WRITE_TXN_MARKERS_TOPIC: Layout = layout(
    size_of::<write_txn_markers_request::WritableTxnMarkerTopic>(),
    &[field("name", Text), field("partition_indexes", Array(&I32))],
);

pub(super) const INIT_PRODUCER_ID_REQUEST: Layout = layout(
    size_of::<init_producer_id_request::InitProducerIdRequest>(),
    &[
        field("transactional_id", Text).nullable(0),
        field("transaction_timeout_ms", I32),
        field("producer_id", I64).since(3),
        field("producer_epoch", I16).since(3),
    ],
);

pub(super) const OFFSET_FOR_LEADER_EPOCH_REQUEST: Layout = layout(
    size_of::<offset_for_leader_epoch_request::OffsetForLeaderEpochRequest>(),
    &[
        field("replica_id", I32).since(3),
        field("topics", Array(&Struct(&OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC))),
    ],
);

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC: Layout = layout(
    size_of::<offset_for_leader_epoch_request::OffsetForLeaderTopic>(),
    &[
        field("topic", Text),
        field("partitions", Array(&Struct(&OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION))),
    ],
);

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION: Layout = layout(
    size_of::<offset_for_leader_epoch_request::OffsetForLeaderPartition>(),
    &[field("partition", I32), field("current_leader_epoch", I32), field("leader_epoch", I32)],
);

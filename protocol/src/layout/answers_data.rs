//! Layouts of the answers about records, offsets, and who leads what.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do, for the versions that
//! a client of ours asks at.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Blob, Bool, I16, I32, I64, Struct, Text, Uuid};
use super::{Layout, field, layout};
use crate::messages::{
    fetch_response, init_producer_id_response, list_offsets_response, metadata_response,
    produce_response,
};

pub(super) const PRODUCE_ANSWER: Layout = layout(
    size_of::<produce_response::ProduceResponse>(),
    &[
        field("responses", Array(&Struct(&PRODUCE_TOPIC_PRODUCE_RESPONSE))),
        field("throttle_time_ms", I32),
    ],
);

const PRODUCE_TOPIC_PRODUCE_RESPONSE: Layout = layout(
    size_of::<produce_response::TopicProduceResponse>(),
    &[
        field("name", Text),
        field("partition_responses", Array(&Struct(&PRODUCE_PARTITION_PRODUCE_RESPONSE))),
    ],
);

const PRODUCE_PARTITION_PRODUCE_RESPONSE: Layout = layout(
    size_of::<produce_response::PartitionProduceResponse>(),
    &[
        field("index", I32),
        field("error_code", I16),
        field("base_offset", I64),
        field("log_append_time_ms", I64),
        field("log_start_offset", I64).since(5),
        field("record_errors", Array(&Struct(&PRODUCE_BATCH_INDEX_AND_ERROR_MESSAGE))).since(8),
        field("error_message", Text).since(8).nullable(8),
    ],
);

const PRODUCE_BATCH_INDEX_AND_ERROR_MESSAGE: Layout = layout(
    size_of::<produce_response::BatchIndexAndErrorMessage>(),
    &[
        field("batch_index", I32).since(8),
        field("batch_index_error_message", Text).since(8).nullable(8),
    ],
);

pub(super) const FETCH_ANSWER: Layout = layout(
    size_of::<fetch_response::FetchResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("error_code", I16).since(7),
        field("session_id", I32).since(7),
        field("responses", Array(&Struct(&FETCH_FETCHABLE_TOPIC_RESPONSE))),
    ],
);

const FETCH_FETCHABLE_TOPIC_RESPONSE: Layout = layout(
    size_of::<fetch_response::FetchableTopicResponse>(),
    &[field("topic", Text), field("partitions", Array(&Struct(&FETCH_PARTITION_DATA)))],
);

const FETCH_PARTITION_DATA: Layout = layout(
    size_of::<fetch_response::PartitionData>(),
    &[
        field("partition_index", I32),
        field("error_code", I16),
        field("high_watermark", I64),
        field("last_stable_offset", I64),
        field("log_start_offset", I64).since(5),
        field("aborted_transactions", Array(&Struct(&FETCH_ABORTED_TRANSACTION))).nullable(4),
        field("preferred_read_replica", I32).since(11),
        field("records", Blob).nullable(0),
    ],
);

const FETCH_ABORTED_TRANSACTION: Layout = layout(
    size_of::<fetch_response::AbortedTransaction>(),
    &[field("producer_id", I64), field("first_offset", I64)],
);

pub(super) const LIST_OFFSETS_ANSWER: Layout = layout(
    size_of::<list_offsets_response::ListOffsetsResponse>(),
    &[
        field("throttle_time_ms", I32).since(2),
        field("topics", Array(&Struct(&LIST_OFFSETS_LIST_OFFSETS_TOPIC_RESPONSE))),
    ],
);

const LIST_OFFSETS_LIST_OFFSETS_TOPIC_RESPONSE: Layout = layout(
    size_of::<list_offsets_response::ListOffsetsTopicResponse>(),
    &[
        field("name", Text),
        field("partitions", Array(&Struct(&LIST_OFFSETS_LIST_OFFSETS_PARTITION_RESPONSE))),
    ],
);

const LIST_OFFSETS_LIST_OFFSETS_PARTITION_RESPONSE: Layout = layout(
    size_of::<list_offsets_response::ListOffsetsPartitionResponse>(),
    &[
        field("partition_index", I32),
        field("error_code", I16),
        field("timestamp", I64),
        field("offset", I64),
        field("leader_epoch", I32).since(4),
    ],
);

pub(super) const METADATA_ANSWER: Layout = layout(
    size_of::<metadata_response::MetadataResponse>(),
    &[
        field("throttle_time_ms", I32).since(3),
        field("brokers", Array(&Struct(&METADATA_METADATA_RESPONSE_BROKER))),
        field("cluster_id", Text).since(2).nullable(2),
        field("controller_id", I32),
        field("topics", Array(&Struct(&METADATA_METADATA_RESPONSE_TOPIC))),
        field("cluster_authorized_operations", I32).since(8).until(10),
    ],
);

const METADATA_METADATA_RESPONSE_BROKER: Layout = layout(
    size_of::<metadata_response::MetadataResponseBroker>(),
    &[
        field("node_id", I32),
        field("host", Text),
        field("port", I32),
        field("rack", Text).nullable(1),
    ],
);

const METADATA_METADATA_RESPONSE_TOPIC: Layout = layout(
    size_of::<metadata_response::MetadataResponseTopic>(),
    &[
        field("error_code", I16),
        field("name", Text).nullable(12),
        field("topic_id", Uuid).since(10),
        field("is_internal", Bool),
        field("partitions", Array(&Struct(&METADATA_METADATA_RESPONSE_PARTITION))),
        field("topic_authorized_operations", I32).since(8),
    ],
);

const METADATA_METADATA_RESPONSE_PARTITION: Layout = layout(
    size_of::<metadata_response::MetadataResponsePartition>(),
    &[
        field("error_code", I16),
        field("partition_index", I32),
        field("leader_id", I32),
        field("leader_epoch", I32).since(7),
        field("replica_nodes", Array(&I32)),
        field("isr_nodes", Array(&I32)),
        field("offline_replicas", Array(&I32)).since(5),
    ],
);

pub(super) const INIT_PRODUCER_ID_ANSWER: Layout = layout(
    size_of::<init_producer_id_response::InitProducerIdResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("error_code", I16),
        field("producer_id", I64),
        field("producer_epoch", I16),
    ],
);

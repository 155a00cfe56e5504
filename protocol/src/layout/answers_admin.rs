//! Layouts of the answers about topics, configuration, the cluster, and what is spoken.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do, for the versions that
//! a client of ours asks at.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Bool, I8, I16, I32, Struct, Text, Uuid};
use super::{Layout, field, layout, tag};
use crate::messages::{
    api_versions_response, create_partitions_response, create_topics_response,
    delete_topics_response, describe_configs_response, incremental_alter_configs_response,
};

pub(super) const API_VERSIONS_ANSWER: Layout = layout(
    size_of::<api_versions_response::ApiVersionsResponse>(),
    &[field("error_code", I16), field("api_keys", Array(&Struct(&API_VERSIONS_API_VERSION)))],
);

const API_VERSIONS_API_VERSION: Layout = layout(
    size_of::<api_versions_response::ApiVersion>(),
    &[field("api_key", I16), field("min_version", I16), field("max_version", I16)],
);

pub(super) const CREATE_TOPICS_ANSWER: Layout = layout(
    size_of::<create_topics_response::CreateTopicsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("topics", Array(&Struct(&CREATE_TOPICS_CREATABLE_TOPIC_RESULT))),
    ],
);

const CREATE_TOPICS_CREATABLE_TOPIC_RESULT: Layout = layout(
    size_of::<create_topics_response::CreatableTopicResult>(),
    &[
        field("name", Text),
        field("topic_id", Uuid).since(7),
        field("error_code", I16),
        field("error_message", Text).nullable(0),
        field("num_partitions", I32).since(5),
        field("replication_factor", I16).since(5),
        field("configs", Array(&Struct(&CREATE_TOPICS_CREATABLE_TOPIC_CONFIGS)))
            .since(5)
            .nullable(5),
    ],
)
.tagged(&[tag(0, field("topic_config_error_code", I16).since(5))]);

const CREATE_TOPICS_CREATABLE_TOPIC_CONFIGS: Layout = layout(
    size_of::<create_topics_response::CreatableTopicConfigs>(),
    &[
        field("name", Text).since(5),
        field("value", Text).since(5).nullable(5),
        field("read_only", Bool).since(5),
        field("config_source", I8).since(5),
        field("is_sensitive", Bool).since(5),
    ],
);

pub(super) const DELETE_TOPICS_ANSWER: Layout = layout(
    size_of::<delete_topics_response::DeleteTopicsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("responses", Array(&Struct(&DELETE_TOPICS_DELETABLE_TOPIC_RESULT))),
    ],
);

const DELETE_TOPICS_DELETABLE_TOPIC_RESULT: Layout = layout(
    size_of::<delete_topics_response::DeletableTopicResult>(),
    &[
        field("name", Text),
        field("error_code", I16),
        field("error_message", Text).since(5).nullable(5),
    ],
);

pub(super) const DESCRIBE_CONFIGS_ANSWER: Layout = layout(
    size_of::<describe_configs_response::DescribeConfigsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("results", Array(&Struct(&DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESULT))),
    ],
);

const DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESULT: Layout = layout(
    size_of::<describe_configs_response::DescribeConfigsResult>(),
    &[
        field("error_code", I16),
        field("error_message", Text).nullable(0),
        field("resource_type", I8),
        field("resource_name", Text),
        field("configs", Array(&Struct(&DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE_RESULT))),
    ],
);

const DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE_RESULT: Layout = layout(
    size_of::<describe_configs_response::DescribeConfigsResourceResult>(),
    &[
        field("name", Text),
        field("value", Text).nullable(0),
        field("read_only", Bool),
        field("config_source", I8),
        field("is_sensitive", Bool),
        field("synonyms", Array(&Struct(&DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_SYNONYM))),
        field("config_type", I8).since(3),
        field("documentation", Text).since(3).nullable(0),
    ],
);

const DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_SYNONYM: Layout = layout(
    size_of::<describe_configs_response::DescribeConfigsSynonym>(),
    &[field("name", Text), field("value", Text).nullable(0), field("source", I8)],
);

pub(super) const CREATE_PARTITIONS_ANSWER: Layout = layout(
    size_of::<create_partitions_response::CreatePartitionsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field("results", Array(&Struct(&CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC_RESULT))),
    ],
);

const CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC_RESULT: Layout = layout(
    size_of::<create_partitions_response::CreatePartitionsTopicResult>(),
    &[field("name", Text), field("error_code", I16), field("error_message", Text).nullable(0)],
);

pub(super) const INCREMENTAL_ALTER_CONFIGS_ANSWER: Layout = layout(
    size_of::<incremental_alter_configs_response::IncrementalAlterConfigsResponse>(),
    &[
        field("throttle_time_ms", I32),
        field(
            "responses",
            Array(&Struct(&INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE_RESPONSE)),
        ),
    ],
);

const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE_RESPONSE: Layout = layout(
    size_of::<incremental_alter_configs_response::AlterConfigsResourceResponse>(),
    &[
        field("error_code", I16),
        field("error_message", Text).nullable(0),
        field("resource_type", I8),
        field("resource_name", Text),
    ],
);

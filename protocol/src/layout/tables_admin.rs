//! Layouts of the requests about topics, configuration, the cluster, and what we speak.
//!
//! Does: say which fields exist at which version, as Kafka 4.1.2's schemas do.
//! Does not: read bytes.
//! Invariants: fields stand in the order of the wire; `memory` is the size of the decoded type.
//! Apart because each table fits on a screen, and all of them together do not.

use super::Kind::{Array, Bool, I8, I16, I32, I64, Struct, Text, Uuid};
use super::{Layout, field, layout};
use crate::messages::{
    alter_client_quotas_request, alter_configs_request, alter_partition_reassignments_request,
    api_versions_request, create_partitions_request, create_topics_request, delete_topics_request,
    describe_client_quotas_request, describe_cluster_request, describe_configs_request,
    describe_log_dirs_request, describe_quorum_request, describe_topic_partitions_request,
    describe_user_scram_credentials_request, elect_leaders_request,
    incremental_alter_configs_request, list_config_resources_request,
    list_partition_reassignments_request, update_features_request,
};

pub(super) const API_VERSIONS_REQUEST: Layout = layout(
    size_of::<api_versions_request::ApiVersionsRequest>(),
    &[
        field("client_software_name", Text).since(3),
        field("client_software_version", Text).since(3),
    ],
);

pub(super) const CREATE_TOPICS_REQUEST: Layout = layout(
    size_of::<create_topics_request::CreateTopicsRequest>(),
    &[
        field("topics", Array(&Struct(&CREATE_TOPICS_CREATABLE_TOPIC))),
        field("timeout_ms", I32),
        field("validate_only", Bool),
    ],
);

const CREATE_TOPICS_CREATABLE_TOPIC: Layout = layout(
    size_of::<create_topics_request::CreatableTopic>(),
    &[
        field("name", Text),
        field("num_partitions", I32),
        field("replication_factor", I16),
        field("assignments", Array(&Struct(&CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT))),
        field("configs", Array(&Struct(&CREATE_TOPICS_CREATABLE_TOPIC_CONFIG))),
    ],
);

const CREATE_TOPICS_CREATABLE_TOPIC_CONFIG: Layout = layout(
    size_of::<create_topics_request::CreatableTopicConfig>(),
    &[field("name", Text), field("value", Text).nullable(2)],
);

const CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT: Layout = layout(
    size_of::<create_topics_request::CreatableReplicaAssignment>(),
    &[field("partition_index", I32), field("broker_ids", Array(&I32))],
);

pub(super) const DELETE_TOPICS_REQUEST: Layout = layout(
    size_of::<delete_topics_request::DeleteTopicsRequest>(),
    &[
        field("topic_names", Array(&Text)).until(5),
        field("topics", Array(&Struct(&DELETE_TOPICS_DELETE_TOPIC_STATE))).since(6),
        field("timeout_ms", I32),
    ],
);

const DELETE_TOPICS_DELETE_TOPIC_STATE: Layout = layout(
    size_of::<delete_topics_request::DeleteTopicState>(),
    &[field("name", Text).nullable(6), field("topic_id", Uuid)],
);

pub(super) const DESCRIBE_CONFIGS_REQUEST: Layout = layout(
    size_of::<describe_configs_request::DescribeConfigsRequest>(),
    &[
        field("resources", Array(&Struct(&DESCRIBE_CONFIGS_RESOURCE))),
        field("include_synonyms", Bool),
        field("include_documentation", Bool).since(3),
    ],
);

const DESCRIBE_CONFIGS_RESOURCE: Layout = layout(
    size_of::<describe_configs_request::DescribeConfigsResource>(),
    &[
        field("resource_type", I8),
        field("resource_name", Text),
        field("configuration_keys", Array(&Text)).nullable(1),
    ],
);

pub(super) const ALTER_CONFIGS_REQUEST: Layout = layout(
    size_of::<alter_configs_request::AlterConfigsRequest>(),
    &[field("resources", Array(&Struct(&ALTER_CONFIGS_RESOURCE))), field("validate_only", Bool)],
);

const ALTER_CONFIGS_RESOURCE: Layout = layout(
    size_of::<alter_configs_request::AlterConfigsResource>(),
    &[
        field("resource_type", I8),
        field("resource_name", Text),
        field("configs", Array(&Struct(&ALTER_CONFIGS_ALTERABLE_CONFIG))),
    ],
);

const ALTER_CONFIGS_ALTERABLE_CONFIG: Layout = layout(
    size_of::<alter_configs_request::AlterableConfig>(),
    &[field("name", Text), field("value", Text).nullable(0)],
);

pub(super) const DESCRIBE_LOG_DIRS_REQUEST: Layout = layout(
    size_of::<describe_log_dirs_request::DescribeLogDirsRequest>(),
    &[field("topics", Array(&Struct(&DESCRIBE_LOG_DIRS_TOPIC))).nullable(0)],
);

const DESCRIBE_LOG_DIRS_TOPIC: Layout = layout(
    size_of::<describe_log_dirs_request::DescribableLogDirTopic>(),
    &[field("topic", Text), field("partitions", Array(&I32))],
);

pub(super) const ELECT_LEADERS_REQUEST: Layout = layout(
    size_of::<elect_leaders_request::ElectLeadersRequest>(),
    &[
        field("election_type", I8).since(1),
        field("topic_partitions", Array(&Struct(&ELECT_LEADERS_TOPIC_PARTITIONS))).nullable(0),
        field("timeout_ms", I32),
    ],
);

const ELECT_LEADERS_TOPIC_PARTITIONS: Layout = layout(
    size_of::<elect_leaders_request::TopicPartitions>(),
    &[field("topic", Text), field("partitions", Array(&I32))],
);

pub(super) const ALTER_PARTITION_REASSIGNMENTS_REQUEST: Layout = layout(
    size_of::<alter_partition_reassignments_request::AlterPartitionReassignmentsRequest>(),
    &[
        field("timeout_ms", I32),
        field("allow_replication_factor_change", Bool).since(1),
        field("topics", Array(&Struct(&ALTER_PARTITION_REASSIGNMENTS_TOPIC))),
    ],
);

const ALTER_PARTITION_REASSIGNMENTS_TOPIC: Layout = layout(
    size_of::<alter_partition_reassignments_request::ReassignableTopic>(),
    &[
        field("name", Text),
        field("partitions", Array(&Struct(&ALTER_PARTITION_REASSIGNMENTS_PARTITION))),
    ],
);

const ALTER_PARTITION_REASSIGNMENTS_PARTITION: Layout = layout(
    size_of::<alter_partition_reassignments_request::ReassignablePartition>(),
    &[field("partition_index", I32), field("replicas", Array(&I32)).nullable(0)],
);

pub(super) const LIST_PARTITION_REASSIGNMENTS_REQUEST: Layout = layout(
    size_of::<list_partition_reassignments_request::ListPartitionReassignmentsRequest>(),
    &[
        field("timeout_ms", I32),
        field("topics", Array(&Struct(&LIST_PARTITION_REASSIGNMENTS_TOPICS))).nullable(0),
    ],
);

const LIST_PARTITION_REASSIGNMENTS_TOPICS: Layout = layout(
    size_of::<list_partition_reassignments_request::ListPartitionReassignmentsTopics>(),
    &[field("name", Text), field("partition_indexes", Array(&I32))],
);

pub(super) const CREATE_PARTITIONS_REQUEST: Layout = layout(
    size_of::<create_partitions_request::CreatePartitionsRequest>(),
    &[
        field("topics", Array(&Struct(&CREATE_PARTITIONS_TOPIC))),
        field("timeout_ms", I32),
        field("validate_only", Bool),
    ],
);

const CREATE_PARTITIONS_TOPIC: Layout = layout(
    size_of::<create_partitions_request::CreatePartitionsTopic>(),
    &[
        field("name", Text),
        field("count", I32),
        field("assignments", Array(&Struct(&CREATE_PARTITIONS_ASSIGNMENT))).nullable(0),
    ],
);

const CREATE_PARTITIONS_ASSIGNMENT: Layout = layout(
    size_of::<create_partitions_request::CreatePartitionsAssignment>(),
    &[field("broker_ids", Array(&I32))],
);

pub(super) const INCREMENTAL_ALTER_CONFIGS_REQUEST: Layout = layout(
    size_of::<incremental_alter_configs_request::IncrementalAlterConfigsRequest>(),
    &[
        field("resources", Array(&Struct(&INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE))),
        field("validate_only", Bool),
    ],
);

const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: Layout = layout(
    size_of::<incremental_alter_configs_request::AlterConfigsResource>(),
    &[
        field("resource_type", I8),
        field("resource_name", Text),
        field("configs", Array(&Struct(&INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG))),
    ],
);

const INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG: Layout = layout(
    size_of::<incremental_alter_configs_request::AlterableConfig>(),
    &[field("name", Text), field("config_operation", I8), field("value", Text).nullable(0)],
);

pub(super) const DESCRIBE_CLIENT_QUOTAS_REQUEST: Layout = layout(
    size_of::<describe_client_quotas_request::DescribeClientQuotasRequest>(),
    &[
        field("components", Array(&Struct(&DESCRIBE_CLIENT_QUOTAS_COMPONENT))),
        field("strict", Bool),
    ],
);

const DESCRIBE_CLIENT_QUOTAS_COMPONENT: Layout = layout(
    size_of::<describe_client_quotas_request::ComponentData>(),
    &[field("entity_type", Text), field("match_type", I8), field("match", Text).nullable(0)],
);

pub(super) const ALTER_CLIENT_QUOTAS_REQUEST: Layout = layout(
    size_of::<alter_client_quotas_request::AlterClientQuotasRequest>(),
    &[field("entries", Array(&Struct(&ALTER_CLIENT_QUOTAS_ENTRY))), field("validate_only", Bool)],
);

const ALTER_CLIENT_QUOTAS_ENTRY: Layout = layout(
    size_of::<alter_client_quotas_request::EntryData>(),
    &[
        field("entity", Array(&Struct(&ALTER_CLIENT_QUOTAS_ENTITY))),
        field("ops", Array(&Struct(&ALTER_CLIENT_QUOTAS_OP))),
    ],
);

const ALTER_CLIENT_QUOTAS_ENTITY: Layout = layout(
    size_of::<alter_client_quotas_request::EntityData>(),
    &[field("entity_type", Text), field("entity_name", Text).nullable(0)],
);

// The value is a double: eight bytes, any of which are one.
const ALTER_CLIENT_QUOTAS_OP: Layout = layout(
    size_of::<alter_client_quotas_request::OpData>(),
    &[field("key", Text), field("value", I64), field("remove", Bool)],
);

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST: Layout = layout(
    size_of::<describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest>(),
    &[field("users", Array(&Struct(&DESCRIBE_USER_SCRAM_CREDENTIALS_USER))).nullable(0)],
);

const DESCRIBE_USER_SCRAM_CREDENTIALS_USER: Layout =
    layout(size_of::<describe_user_scram_credentials_request::UserName>(), &[field("name", Text)]);

pub(super) const DESCRIBE_QUORUM_REQUEST: Layout = layout(
    size_of::<describe_quorum_request::DescribeQuorumRequest>(),
    &[field("topics", Array(&Struct(&DESCRIBE_QUORUM_TOPIC_DATA)))],
);

const DESCRIBE_QUORUM_TOPIC_DATA: Layout = layout(
    size_of::<describe_quorum_request::TopicData>(),
    &[
        field("topic_name", Text),
        field("partitions", Array(&Struct(&DESCRIBE_QUORUM_PARTITION_DATA))),
    ],
);

const DESCRIBE_QUORUM_PARTITION_DATA: Layout =
    layout(size_of::<describe_quorum_request::PartitionData>(), &[field("partition_index", I32)]);

pub(super) const UPDATE_FEATURES_REQUEST: Layout = layout(
    size_of::<update_features_request::UpdateFeaturesRequest>(),
    &[
        field("timeout_ms", I32),
        field("feature_updates", Array(&Struct(&UPDATE_FEATURES_FEATURE_UPDATE_KEY))),
        field("validate_only", Bool).since(1),
    ],
);

const UPDATE_FEATURES_FEATURE_UPDATE_KEY: Layout = layout(
    size_of::<update_features_request::FeatureUpdateKey>(),
    &[
        field("feature", Text),
        field("max_version_level", I16),
        field("allow_downgrade", Bool).until(0),
        field("upgrade_type", I8).since(1),
    ],
);

pub(super) const DESCRIBE_CLUSTER_REQUEST: Layout = layout(
    size_of::<describe_cluster_request::DescribeClusterRequest>(),
    &[
        field("include_cluster_authorized_operations", Bool),
        field("endpoint_type", I8).since(1),
        field("include_fenced_brokers", Bool).since(2),
    ],
);

pub(super) const LIST_CONFIG_RESOURCES_REQUEST: Layout = layout(
    size_of::<list_config_resources_request::ListConfigResourcesRequest>(),
    &[field("resource_types", Array(&I8)).since(1)],
);

pub(super) const DESCRIBE_TOPIC_PARTITIONS_REQUEST: Layout = layout(
    size_of::<describe_topic_partitions_request::DescribeTopicPartitionsRequest>(),
    &[
        field("topics", Array(&Struct(&DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST))),
        field("response_partition_limit", I32),
        field("cursor", Struct(&DESCRIBE_TOPIC_PARTITIONS_CURSOR)).nullable(0),
    ],
);

const DESCRIBE_TOPIC_PARTITIONS_CURSOR: Layout = layout(
    size_of::<describe_topic_partitions_request::Cursor>(),
    &[field("topic_name", Text), field("partition_index", I32)],
);

const DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST: Layout =
    layout(size_of::<describe_topic_partitions_request::TopicRequest>(), &[field("name", Text)]);

//! Which table belongs to which API.
//!
//! Does: look up.
//! Does not: hold a table itself.
//! Invariants: every API of the one table has a layout, by exhaustive match.
//! Apart because the tables are three files and the walk wants one door.

use super::{Layout, tables_admin as admin, tables_data as data, tables_groups as groups};
use crate::api_table::ApiKey;

/// The layout of an API's request.
pub(super) fn request(key: ApiKey) -> &'static Layout {
    match key {
        ApiKey::Produce => &data::PRODUCE_REQUEST,
        ApiKey::Fetch => &data::FETCH_REQUEST,
        ApiKey::ListOffsets => &data::LIST_OFFSETS_REQUEST,
        ApiKey::Metadata => &data::METADATA_REQUEST,
        ApiKey::OffsetCommit => &groups::OFFSET_COMMIT_REQUEST,
        ApiKey::OffsetFetch => &groups::OFFSET_FETCH_REQUEST,
        ApiKey::FindCoordinator => &groups::FIND_COORDINATOR_REQUEST,
        ApiKey::JoinGroup => &groups::JOIN_GROUP_REQUEST,
        ApiKey::Heartbeat => &groups::HEARTBEAT_REQUEST,
        ApiKey::LeaveGroup => &groups::LEAVE_GROUP_REQUEST,
        ApiKey::SyncGroup => &groups::SYNC_GROUP_REQUEST,
        ApiKey::DescribeGroups => &groups::DESCRIBE_GROUPS_REQUEST,
        ApiKey::ListGroups => &groups::LIST_GROUPS_REQUEST,
        ApiKey::ApiVersions => &admin::API_VERSIONS_REQUEST,
        ApiKey::CreateTopics => &admin::CREATE_TOPICS_REQUEST,
        ApiKey::DeleteTopics => &admin::DELETE_TOPICS_REQUEST,
        ApiKey::DeleteRecords => &data::DELETE_RECORDS_REQUEST,
        ApiKey::InitProducerId => &data::INIT_PRODUCER_ID_REQUEST,
        ApiKey::OffsetForLeaderEpoch => &data::OFFSET_FOR_LEADER_EPOCH_REQUEST,
        ApiKey::DescribeConfigs => &admin::DESCRIBE_CONFIGS_REQUEST,
        ApiKey::AlterConfigs => &admin::ALTER_CONFIGS_REQUEST,
        ApiKey::DescribeLogDirs => &admin::DESCRIBE_LOG_DIRS_REQUEST,
        ApiKey::CreatePartitions => &admin::CREATE_PARTITIONS_REQUEST,
        ApiKey::DeleteGroups => &groups::DELETE_GROUPS_REQUEST,
        ApiKey::ElectLeaders => &admin::ELECT_LEADERS_REQUEST,
        ApiKey::ListPartitionReassignments => &admin::LIST_PARTITION_REASSIGNMENTS_REQUEST,
        ApiKey::IncrementalAlterConfigs => &admin::INCREMENTAL_ALTER_CONFIGS_REQUEST,
        ApiKey::OffsetDelete => &groups::OFFSET_DELETE_REQUEST,
        ApiKey::DescribeQuorum => &admin::DESCRIBE_QUORUM_REQUEST,
        ApiKey::UpdateFeatures => &admin::UPDATE_FEATURES_REQUEST,
        ApiKey::DescribeCluster => &admin::DESCRIBE_CLUSTER_REQUEST,
        ApiKey::DescribeTopicPartitions => &admin::DESCRIBE_TOPIC_PARTITIONS_REQUEST,
    }
}

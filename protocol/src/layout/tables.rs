//! Which table belongs to which API.
//!
//! Does: look up.
//! Does not: hold a table itself.
//! Invariants: every API of the one table has a layout, by exhaustive match.
//! Apart because the tables are four files and the walk wants one door.

use super::{
    Layout, tables_admin as admin, tables_data as data, tables_groups as groups,
    tables_transactions as transactions,
};
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
        ApiKey::AddPartitionsToTxn => &transactions::ADD_PARTITIONS_TO_TXN_REQUEST,
        ApiKey::AddOffsetsToTxn => &transactions::ADD_OFFSETS_TO_TXN_REQUEST,
        ApiKey::EndTxn => &transactions::END_TXN_REQUEST,
        ApiKey::TxnOffsetCommit => &transactions::TXN_OFFSET_COMMIT_REQUEST,
        ApiKey::DescribeProducers => &data::DESCRIBE_PRODUCERS_REQUEST,
        ApiKey::WriteTxnMarkers => &data::WRITE_TXN_MARKERS_REQUEST,
        ApiKey::DescribeConfigs => &admin::DESCRIBE_CONFIGS_REQUEST,
        ApiKey::AlterConfigs => &admin::ALTER_CONFIGS_REQUEST,
        ApiKey::DescribeLogDirs => &admin::DESCRIBE_LOG_DIRS_REQUEST,
        ApiKey::CreatePartitions => &admin::CREATE_PARTITIONS_REQUEST,
        ApiKey::DeleteGroups => &groups::DELETE_GROUPS_REQUEST,
        ApiKey::ElectLeaders => &admin::ELECT_LEADERS_REQUEST,
        ApiKey::AlterPartitionReassignments => &admin::ALTER_PARTITION_REASSIGNMENTS_REQUEST,
        ApiKey::ListPartitionReassignments => &admin::LIST_PARTITION_REASSIGNMENTS_REQUEST,
        ApiKey::IncrementalAlterConfigs => &admin::INCREMENTAL_ALTER_CONFIGS_REQUEST,
        ApiKey::OffsetDelete => &groups::OFFSET_DELETE_REQUEST,
        ApiKey::DescribeClientQuotas => &admin::DESCRIBE_CLIENT_QUOTAS_REQUEST,
        ApiKey::AlterClientQuotas => &admin::ALTER_CLIENT_QUOTAS_REQUEST,
        ApiKey::DescribeUserScramCredentials => &admin::DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST,
        ApiKey::DescribeQuorum => &admin::DESCRIBE_QUORUM_REQUEST,
        ApiKey::UpdateFeatures => &admin::UPDATE_FEATURES_REQUEST,
        ApiKey::DescribeCluster => &admin::DESCRIBE_CLUSTER_REQUEST,
        ApiKey::DescribeTransactions => &transactions::DESCRIBE_TRANSACTIONS_REQUEST,
        ApiKey::ListTransactions => &transactions::LIST_TRANSACTIONS_REQUEST,
        ApiKey::ConsumerGroupHeartbeat => &groups::CONSUMER_GROUP_HEARTBEAT_REQUEST,
        ApiKey::ConsumerGroupDescribe => &groups::CONSUMER_GROUP_DESCRIBE_REQUEST,
        ApiKey::ListConfigResources => &admin::LIST_CONFIG_RESOURCES_REQUEST,
        ApiKey::DescribeTopicPartitions => &admin::DESCRIBE_TOPIC_PARTITIONS_REQUEST,
    }
}

//! From an API's key to its message types.
//!
//! Does: call a generic function with the request type of a key.
//! Does not: know what any message says.
//! Invariant: every API is there, by exhaustive match.
//! Apart because Rust has no types as values, and a list of thirty types is written once.

/// Calls `function::<TheRequestOfKey>(arguments)`: `typed!(key, function(arguments))`.
#[macro_export]
macro_rules! typed {
    (@call $function:ident, $request:ident, ($($argument:expr),*)) => {
        $function::<::flumen_protocol::messages::$request>($($argument),*)
    };
    (@of $key:expr, $function:ident $arguments:tt, $($api:ident $request:ident),*) => {
        match $key {
            $(::flumen_protocol::api_table::ApiKey::$api => {
                $crate::typed!(@call $function, $request, $arguments)
            })*
        }
    };
    ($key:expr, $function:ident $arguments:tt) => {
        $crate::typed!(@of $key, $function $arguments,
            Produce ProduceRequest, Fetch FetchRequest, ListOffsets ListOffsetsRequest,
            Metadata MetadataRequest, OffsetCommit OffsetCommitRequest,
            OffsetFetch OffsetFetchRequest, FindCoordinator FindCoordinatorRequest,
            JoinGroup JoinGroupRequest, Heartbeat HeartbeatRequest,
            LeaveGroup LeaveGroupRequest, SyncGroup SyncGroupRequest,
            DescribeGroups DescribeGroupsRequest, ListGroups ListGroupsRequest,
            ApiVersions ApiVersionsRequest, CreateTopics CreateTopicsRequest,
            DeleteTopics DeleteTopicsRequest, DeleteRecords DeleteRecordsRequest,
            DescribeProducers DescribeProducersRequest,
            WriteTxnMarkers WriteTxnMarkersRequest,
            InitProducerId InitProducerIdRequest,
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
            AddPartitionsToTxn AddPartitionsToTxnRequest,
            AddOffsetsToTxn AddOffsetsToTxnRequest, EndTxn EndTxnRequest,
            TxnOffsetCommit TxnOffsetCommitRequest,
            DescribeTransactions DescribeTransactionsRequest,
            ListTransactions ListTransactionsRequest,
            DescribeConfigs DescribeConfigsRequest, AlterConfigs AlterConfigsRequest,
            DescribeLogDirs DescribeLogDirsRequest, CreatePartitions CreatePartitionsRequest,
            DeleteGroups DeleteGroupsRequest, ElectLeaders ElectLeadersRequest,
            IncrementalAlterConfigs IncrementalAlterConfigsRequest,
            AlterPartitionReassignments AlterPartitionReassignmentsRequest,
            ListPartitionReassignments ListPartitionReassignmentsRequest,
            OffsetDelete OffsetDeleteRequest,
            DescribeClientQuotas DescribeClientQuotasRequest,
            AlterClientQuotas AlterClientQuotasRequest,
            DescribeUserScramCredentials DescribeUserScramCredentialsRequest,
            DescribeQuorum DescribeQuorumRequest,
            UpdateFeatures UpdateFeaturesRequest, DescribeCluster DescribeClusterRequest,
            ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest,
            ConsumerGroupDescribe ConsumerGroupDescribeRequest,
            ListConfigResources ListConfigResourcesRequest,
            DescribeTopicPartitions DescribeTopicPartitionsRequest)
    };
}

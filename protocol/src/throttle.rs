//! The field with which nearly every answer tells a client to wait (`throttle_time_ms`, KIP-219).
//!
//! Does: write a wait into an answer that is encoded already.
//! Does not: know waits; nor answers that carry the field elsewhere than at their front (Produce,
//! OffsetDelete, ApiVersions): whoever makes them writes it himself, or does not.
//! Invariants: nothing but the four bytes of the field is changed.
//! Apart because a wait is known when the answer is made, and some forty APIs need not know of it.

use crate::api_table::ApiKey;
use crate::header;

/// The APIs whose answers begin with the field, and the first version that does.
const AT_FRONT_SINCE: [(ApiKey, i16); 42] = [
    (ApiKey::Fetch, 1),
    (ApiKey::ListOffsets, 2),
    (ApiKey::Metadata, 3),
    (ApiKey::OffsetCommit, 3),
    (ApiKey::OffsetFetch, 3),
    (ApiKey::FindCoordinator, 1),
    (ApiKey::JoinGroup, 2),
    (ApiKey::Heartbeat, 1),
    (ApiKey::LeaveGroup, 1),
    (ApiKey::SyncGroup, 1),
    (ApiKey::DescribeGroups, 1),
    (ApiKey::ListGroups, 1),
    (ApiKey::CreateTopics, 2),
    (ApiKey::DeleteTopics, 1),
    (ApiKey::DeleteRecords, 0),
    (ApiKey::InitProducerId, 0),
    (ApiKey::OffsetForLeaderEpoch, 2),
    (ApiKey::AddPartitionsToTxn, 0),
    (ApiKey::AddOffsetsToTxn, 0),
    (ApiKey::EndTxn, 0),
    (ApiKey::TxnOffsetCommit, 0),
    (ApiKey::DescribeConfigs, 0),
    (ApiKey::AlterConfigs, 0),
    (ApiKey::DescribeLogDirs, 0),
    (ApiKey::CreatePartitions, 0),
    (ApiKey::DeleteGroups, 0),
    (ApiKey::ElectLeaders, 0),
    (ApiKey::IncrementalAlterConfigs, 0),
    (ApiKey::AlterPartitionReassignments, 0),
    (ApiKey::ListPartitionReassignments, 0),
    (ApiKey::DescribeClientQuotas, 0),
    (ApiKey::AlterClientQuotas, 0),
    (ApiKey::DescribeUserScramCredentials, 0),
    (ApiKey::UpdateFeatures, 0),
    (ApiKey::DescribeCluster, 0),
    (ApiKey::DescribeProducers, 0),
    (ApiKey::DescribeTransactions, 0),
    (ApiKey::ListTransactions, 0),
    (ApiKey::ConsumerGroupHeartbeat, 0),
    (ApiKey::ConsumerGroupDescribe, 0),
    (ApiKey::ListConfigResources, 0),
    (ApiKey::DescribeTopicPartitions, 0),
];

/// Writes a wait into the frame of an answer, its length included. Says whether it could.
pub fn stamp(key: ApiKey, version: i16, frame: &mut [u8], wait_ms: i32) -> bool {
    let row = AT_FRONT_SINCE.iter().find(|(told, _)| *told == key);
    if row.is_none_or(|(_, since)| version < *since) {
        return false;
    }
    let at = size_of::<i32>() + header::response_header_len(key, version);
    let Some(field) = frame.get_mut(at..at + size_of::<i32>()) else { return false };
    field.copy_from_slice(&wait_ms.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{self, *};

    /// Encodes an empty answer at every version, stamps it, and looks where the wait went.
    macro_rules! told {
        ($($key:ident: $request:ty),+ $(,)?) => {
            $({
                let key = ApiKey::$key;
                let row = key.row();
                for version in row.served.min..=row.served.max {
                    let answer = <$request as Request>::Response::default();
                    let frame = messages::encode_response(key, version, 5, &answer).unwrap();
                    let mut frame = frame.to_vec();
                    let stamped = stamp(key, version, &mut frame, 1234);
                    let payload = frame.split_off(4).into();
                    let (id, told) =
                        messages::decode_response::<$request>(key, version, payload).unwrap();
                    let expected = if stamped { 1234 } else { 0 };
                    assert_eq!((id, told.throttle_time_ms), (5, expected), "{key:?} v{version}");
                    let mut known = answer;
                    known.throttle_time_ms = 7;
                    let has_field = messages::encode_response(key, version, 5, &known)
                        .is_ok_and(|other| other != messages::encode_response(
                            key, version, 5, &<$request as Request>::Response::default(),
                        ).unwrap());
                    assert_eq!(stamped, has_field, "{key:?} v{version}");
                }
            })+
        };
    }

    #[test]
    fn every_answer_with_the_field_at_its_front_tells_the_wait() {
        told!(
            Fetch: FetchRequest, ListOffsets: ListOffsetsRequest, Metadata: MetadataRequest,
            OffsetCommit: OffsetCommitRequest, OffsetFetch: OffsetFetchRequest,
            FindCoordinator: FindCoordinatorRequest, JoinGroup: JoinGroupRequest,
            Heartbeat: HeartbeatRequest, LeaveGroup: LeaveGroupRequest, SyncGroup: SyncGroupRequest,
            DescribeGroups: DescribeGroupsRequest, ListGroups: ListGroupsRequest,
            CreateTopics: CreateTopicsRequest, DeleteTopics: DeleteTopicsRequest,
            DeleteRecords: DeleteRecordsRequest, InitProducerId: InitProducerIdRequest,
            OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
            AddPartitionsToTxn: AddPartitionsToTxnRequest,
            AddOffsetsToTxn: AddOffsetsToTxnRequest, EndTxn: EndTxnRequest,
            TxnOffsetCommit: TxnOffsetCommitRequest,
            DescribeConfigs: DescribeConfigsRequest, AlterConfigs: AlterConfigsRequest,
            DescribeLogDirs: DescribeLogDirsRequest, CreatePartitions: CreatePartitionsRequest,
            DeleteGroups: DeleteGroupsRequest, ElectLeaders: ElectLeadersRequest,
            IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
            AlterPartitionReassignments: AlterPartitionReassignmentsRequest,
            ListPartitionReassignments: ListPartitionReassignmentsRequest,
            DescribeClientQuotas: DescribeClientQuotasRequest,
            AlterClientQuotas: AlterClientQuotasRequest,
            DescribeUserScramCredentials: DescribeUserScramCredentialsRequest,
            UpdateFeatures: UpdateFeaturesRequest,
            DescribeCluster: DescribeClusterRequest, DescribeProducers: DescribeProducersRequest,
            DescribeTransactions: DescribeTransactionsRequest,
            ListTransactions: ListTransactionsRequest,
            ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest,
            ConsumerGroupDescribe: ConsumerGroupDescribeRequest,
            ListConfigResources: ListConfigResourcesRequest,
            DescribeTopicPartitions: DescribeTopicPartitionsRequest,
        );
    }

    #[test]
    fn the_others_are_left_as_they_are() {
        for key in
            [ApiKey::Produce, ApiKey::ApiVersions, ApiKey::OffsetDelete, ApiKey::WriteTxnMarkers]
        {
            let mut frame = [0; 64];
            assert!(!stamp(key, key.row().served.max, &mut frame, 1));
            assert_eq!(frame, [0; 64]);
        }
        assert!(!stamp(ApiKey::Metadata, 9, &mut [0; 10], 1), "too short to have it");
    }
}

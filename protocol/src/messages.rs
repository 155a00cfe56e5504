//! The types of all messages, and the only doors into and out of the generic codec.
//!
//! Does: re-export the message types of the APIs we serve, decode requests behind the layout check,
//! and encode whole response frames; for tests and measuring clients also the other direction.
//! Does not: hand out the generic codec's own decoding functions as the way to read a request.
//! Invariants: nobody else imports the generic codec; no foreign request reaches its decoder
//! unwalked.
//! Apart because the codec is a foreign crate, and a foreign crate gets one door.

use std::fmt;

use bytes::{Bytes, BytesMut};
pub use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, AlterClientQuotasRequest, AlterClientQuotasResponse,
    AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, ApiVersionsRequest, ApiVersionsResponse, BrokerId,
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, DescribeClusterRequest,
    DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeProducersRequest, DescribeProducersResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, ElectLeadersRequest, ElectLeadersResponse, EndTxnRequest,
    EndTxnResponse, FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListConfigResourcesRequest, ListConfigResourcesResponse, ListGroupsRequest, ListGroupsResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, ListTransactionsRequest, ListTransactionsResponse,
    MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    ProducerId as WireProducerId, SyncGroupRequest, SyncGroupResponse, TopicName, TransactionalId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, UpdateFeaturesRequest, UpdateFeaturesResponse,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
/// The structs inside the messages, one module per message.
pub use kafka_protocol::messages::{
    add_offsets_to_txn_request, add_offsets_to_txn_response, add_partitions_to_txn_request,
    add_partitions_to_txn_response, alter_client_quotas_request, alter_client_quotas_response,
    alter_configs_request, alter_configs_response, alter_partition_reassignments_request,
    alter_partition_reassignments_response, api_versions_request, api_versions_response,
    consumer_group_describe_request, consumer_group_describe_response,
    consumer_group_heartbeat_request, consumer_group_heartbeat_response, create_partitions_request,
    create_partitions_response, create_topics_request, create_topics_response,
    delete_groups_request, delete_groups_response, delete_records_request, delete_records_response,
    delete_topics_request, delete_topics_response, describe_client_quotas_request,
    describe_client_quotas_response, describe_cluster_request, describe_cluster_response,
    describe_configs_request, describe_configs_response, describe_groups_request,
    describe_groups_response, describe_log_dirs_request, describe_log_dirs_response,
    describe_producers_request, describe_producers_response, describe_quorum_request,
    describe_quorum_response, describe_topic_partitions_request,
    describe_topic_partitions_response, describe_transactions_request,
    describe_transactions_response, describe_user_scram_credentials_request,
    describe_user_scram_credentials_response, elect_leaders_request, elect_leaders_response,
    end_txn_request, end_txn_response, fetch_request, fetch_response, find_coordinator_request,
    find_coordinator_response, heartbeat_request, heartbeat_response,
    incremental_alter_configs_request, incremental_alter_configs_response,
    init_producer_id_request, init_producer_id_response, join_group_request, join_group_response,
    leave_group_request, leave_group_response, list_config_resources_request,
    list_config_resources_response, list_groups_request, list_groups_response,
    list_offsets_request, list_offsets_response, list_partition_reassignments_request,
    list_partition_reassignments_response, list_transactions_request, list_transactions_response,
    metadata_request, metadata_response, offset_commit_request, offset_commit_response,
    offset_delete_request, offset_delete_response, offset_fetch_request, offset_fetch_response,
    offset_for_leader_epoch_request, offset_for_leader_epoch_response, produce_request,
    produce_response, sync_group_request, sync_group_response, txn_offset_commit_request,
    txn_offset_commit_response, update_features_request, update_features_response,
    write_txn_markers_request, write_txn_markers_response,
};
use kafka_protocol::protocol::Decodable;
pub use kafka_protocol::protocol::{Encodable, HeaderVersion, Message, Request, StrBytes};
pub use uuid::Uuid;

use crate::api_table::ApiKey;
use crate::header;
use crate::ids::TopicId;
use crate::layout;
use crate::wire::Encoding;
use crate::wire::read::{DecodeError, DecodeErrorKind, Reader};
use crate::wire::write::Writer;

/// The codec's own dispatch, for tests that go through every API.
#[cfg(test)]
pub(crate) mod codec {
    pub(crate) use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
}

impl From<TopicId> for Uuid {
    fn from(id: TopicId) -> Self {
        Self::from_bytes(id.0)
    }
}

impl From<Uuid> for TopicId {
    fn from(id: Uuid) -> Self {
        Self(id.into_bytes())
    }
}

/// A response that cannot be written at the version asked for: our own bug, found in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The API.
    pub key: ApiKey,
    /// The version.
    pub version: i16,
    /// What the codec said.
    pub reason: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{} cannot be written: {}", self.key.row().name, self.version, self.reason)
    }
}

impl std::error::Error for EncodeError {}

/// Decodes a request's body, after the layout check. Strings share the body's memory; bytes behind
/// the request, which nobody looks at, are left in `body`.
///
/// # Errors
/// Whatever the check finds.
///
/// # Panics
/// When `T` is not the request of `key`: our own bug.
pub fn decode_request<T: Request>(
    key: ApiKey,
    version: i16,
    body: &mut Bytes,
) -> Result<T, DecodeError> {
    assert_eq!(T::KEY, key.code(), "the type belongs to another API");
    layout::check(key, version, body)?;
    let bytes_before = body.len();
    let refused = |left: usize| DecodeError {
        what: key.row().name,
        at: bytes_before - left,
        kind: DecodeErrorKind::RefusedByDecoder,
    };
    match T::decode(body, version) {
        Ok(request) => Ok(request),
        Err(_) => Err(refused(body.len())),
    }
}

/// Encodes a whole response frame: size, header, body; allocated once, at its exact size.
///
/// # Errors
/// A field is set that the version does not have, or the version does not exist.
pub fn encode_response(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &impl Encodable,
) -> Result<Bytes, EncodeError> {
    let failed =
        |reason: &dyn fmt::Display| EncodeError { key, version, reason: reason.to_string() };
    let body_bytes = body.compute_size(version).map_err(|error| failed(&error))?;
    let payload_bytes = header::response_header_len(key, version) + body_bytes;
    let size = i32::try_from(payload_bytes).map_err(|error| failed(&error))?;
    let mut frame = Vec::with_capacity(size_of::<i32>() + payload_bytes);
    let encoding = Encoding::of(key.row().request_is_flexible(version));
    let mut writer = Writer::new(&mut frame, encoding);
    writer.i32(size);
    header::write_response_header(&mut writer, key, version, correlation_id);
    body.encode(&mut frame, version).map_err(|error| failed(&error))?;
    assert_eq!(frame.len(), size_of::<i32>() + payload_bytes, "the codec miscounted");
    Ok(frame.into())
}

/// Encodes a whole request frame, as a client would, of an API that we serve. For tests and measuring
/// clients; others go through [`crate::client`].
///
/// # Errors
/// As [`encode_response`].
///
/// # Panics
/// When `T` is not the request of `key`, or the client id exceeds 32,767 bytes.
pub fn encode_request<T: Request>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &T,
) -> Result<Bytes, EncodeError> {
    assert_eq!(T::KEY, key.code(), "the type belongs to another API");
    request_frame(version, correlation_id, client_id, body).map_err(|reason| EncodeError {
        key,
        version,
        reason,
    })
}

/// Encodes a whole request frame; otherwise says what the codec said.
pub(crate) fn request_frame<T: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &T,
) -> Result<Bytes, String> {
    let mut payload = BytesMut::new();
    let mut writer = Writer::new(&mut payload, Encoding::Classic);
    writer.i16(T::KEY);
    writer.i16(version);
    writer.i32(correlation_id);
    writer.nullable_string(client_id);
    if is_flexible::<T>(version) {
        writer.raw(&[0]);
    }
    body.encode(&mut payload, version).map_err(|error| error.to_string())?;
    let size = i32::try_from(payload.len()).map_err(|error| error.to_string())?;
    let mut frame = BytesMut::with_capacity(size_of::<i32>() + payload.len());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(&payload);
    Ok(frame.freeze())
}

/// Whether body and request header of this version are compact (header v2).
pub(crate) fn is_flexible<T: Request>(version: i16) -> bool {
    T::header_version(version) >= 2
}

/// Decodes a response's payload (a frame without its size): correlation id and body. For tests and
/// measuring clients, which trust the server: its counts are not checked. Others go through
/// [`crate::client`].
///
/// # Errors
/// Truncated, malformed or trailing bytes.
///
/// # Panics
/// When `T` is not the request of `key`.
pub fn decode_response<T: Request>(
    key: ApiKey,
    version: i16,
    payload: Bytes,
) -> Result<(i32, T::Response), DecodeError> {
    assert_eq!(T::KEY, key.code(), "the type belongs to another API");
    let (correlation_id, body) = split_response::<T>(version, payload)?;
    Ok((correlation_id, response_body::<T>(key.row().name, version, body)?))
}

/// Takes the header off a response's payload: correlation id and body.
pub(crate) fn split_response<T: Request>(
    version: i16,
    mut payload: Bytes,
) -> Result<(i32, Bytes), DecodeError> {
    let mut reader = Reader::new(&payload, Encoding::Compact);
    let correlation_id = reader.i32("correlation_id")?;
    if T::Response::header_version(version) >= 1 {
        reader.end_of_struct("header")?;
    }
    let body_offset = reader.at();
    let _ = payload.split_to(body_offset);
    Ok((correlation_id, payload))
}

/// Decodes a response's body, which must be nothing else.
pub(crate) fn response_body<T: Request>(
    what: &'static str,
    version: i16,
    mut body: Bytes,
) -> Result<T::Response, DecodeError> {
    let bytes_before = body.len();
    match T::Response::decode(&mut body, version) {
        Ok(response) if body.is_empty() => Ok(response),
        Ok(_) | Err(_) => Err(DecodeError {
            what,
            at: bytes_before - body.len(),
            kind: DecodeErrorKind::RefusedByDecoder,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::header::RequestHeader;

    #[test]
    fn a_request_travels_from_client_to_broker() {
        let topic = metadata_request::MetadataRequestTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("orders"))));
        let sent = MetadataRequest::default().with_topics(Some(vec![topic]));
        for version in 0..=13 {
            let wire = encode_request(ApiKey::Metadata, version, 7, Some("me"), &sent).unwrap();
            assert_eq!(frame::measure(&wire, 1000), Ok(Some(wire.len())), "a whole frame");
            let payload = BytesMut::from(&wire[frame::SIZE_BYTES..]);
            let (header, body_offset) = RequestHeader::parse(&payload).unwrap();
            assert_eq!((header.correlation_id, header.client_id), (7, Some("me")));
            let mut body = payload.freeze().slice(body_offset..);
            let received: MetadataRequest =
                decode_request(ApiKey::Metadata, version, &mut body).unwrap();
            assert_eq!(received.topics, sent.topics);
        }
    }

    #[test]
    fn a_response_travels_back_at_its_exact_size() {
        let sent = ApiVersionsResponse::default().with_error_code(35);
        for version in 0..=4 {
            let frame = encode_response(ApiKey::ApiVersions, version, 9, &sent).unwrap();
            assert_eq!(frame[..4], ((frame.len() - 4) as i32).to_be_bytes());
            let (correlation_id, received) = decode_response::<ApiVersionsRequest>(
                ApiKey::ApiVersions,
                version,
                frame.slice(4..),
            )
            .unwrap();
            assert_eq!((correlation_id, received), (9, sent.clone()));
        }
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error() {
        let nonsense = FindCoordinatorResponse::default().with_throttle_time_ms(1);
        let error = encode_response(ApiKey::FindCoordinator, 99, 1, &nonsense).unwrap_err();
        assert_eq!((error.key, error.version), (ApiKey::FindCoordinator, 99));
    }

    #[test]
    fn topic_ids_and_uuids_are_the_same_bytes() {
        let id = TopicId([7; 16]);
        assert_eq!(TopicId::from(Uuid::from(id)), id);
    }
}

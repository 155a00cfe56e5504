//! Kafka's error codes: number, name, whether a client may try again, and a sentence.
//!
//! Does: hold the closed list of Kafka 4.1's codes.
//! Does not: decide which failure becomes which code; that is one table in the broker.
//! Invariants: numbers and names are Kafka's and never change meaning; the sentences are ours and
//! may. Retriable is what Kafka's Java client does with the code, not an opinion.
//! Apart because every response names one and nothing else in the house may invent a number.

use std::fmt;

/// Declares the enum and its tables from one list, so that no code can miss a property.
macro_rules! error_codes {
    ($($variant:ident = $code:literal, $name:literal, $again:ident, $message:literal;)+) => {
        /// A Kafka error code as it crosses the wire (Kafka 4.1: −1 to 133).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $variant = $code,)+
        }

        impl ErrorCode {
            /// Every code there is, by rising number.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Kafka's upper-case name, as its tools print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether Kafka's clients send the request again by themselves.
            #[must_use]
            pub const fn retriable(self) -> bool {
                match self { $(Self::$variant => error_codes!(@ $again),)+ }
            }

            /// A sentence for `error_message`, where nothing better is known.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }
        }
    };
    (@ retriable) => { true };
    (@ fatal) => { false };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", fatal,
        "The broker met an error it did not expect while handling the request.";
    None = 0, "NONE", fatal,
        "No error.";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", fatal,
        "The offset lies outside the range this partition holds.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", retriable,
        "The records are damaged: checksum, length or format is wrong.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", retriable,
        "This broker has no such topic or partition.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", fatal,
        "The fetch size is not valid.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", retriable,
        "The partition has no leader at the moment.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", retriable,
        "This broker is neither leader nor follower of the partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", retriable,
        "The request was not completed in time.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", fatal,
        "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", retriable,
        "The replica is not available on this broker.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", fatal,
        "The record batch is larger than the topic allows.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", fatal,
        "The controller has moved to another broker.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", fatal,
        "The metadata string of the offset is too long.";
    NetworkException = 13, "NETWORK_EXCEPTION", retriable,
        "The connection ended before an answer arrived.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", retriable,
        "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", retriable,
        "The coordinator is not available.";
    NotCoordinator = 16, "NOT_COORDINATOR", retriable,
        "This broker does not coordinate that group or transactional id.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", fatal,
        "The topic name is not allowed for this operation.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", fatal,
        "The record batch is larger than a segment.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", retriable,
        "Fewer replicas are in sync than the topic requires.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable,
        "The records were written, but to fewer in-sync replicas than required.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", fatal,
        "The value of acks must be -1, 0 or 1.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", fatal,
        "The group generation does not match the current one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", fatal,
        "The member's protocol type or protocols do not fit those of the group.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", fatal,
        "The group id is not valid.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", fatal,
        "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", fatal,
        "The session timeout is outside the range the broker allows.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", fatal,
        "The group is rebalancing; the member has to join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", fatal,
        "The committed offset data is too large.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", fatal,
        "The principal may not do this with the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", fatal,
        "The principal may not do this with the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", fatal,
        "The principal may not do this with the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", fatal,
        "The timestamp of a record lies outside the allowed window.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", fatal,
        "The SASL mechanism is not enabled on this broker.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", fatal,
        "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", fatal,
        "The broker does not support this version of the request.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", fatal,
        "A topic of this name exists already.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", fatal,
        "The number of partitions is not valid.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", fatal,
        "The replication factor is not valid or exceeds the number of brokers.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", fatal,
        "The assignment of replicas is not valid.";
    InvalidConfig = 40, "INVALID_CONFIG", fatal,
        "The configuration is not valid.";
    NotController = 41, "NOT_CONTROLLER", retriable,
        "This broker is not the controller.";
    InvalidRequest = 42, "INVALID_REQUEST", fatal,
        "The request contradicts itself or lacks something it needs.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", fatal,
        "The message format of the records is not supported.";
    PolicyViolation = 44, "POLICY_VIOLATION", fatal,
        "The request violates a policy of the cluster.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", fatal,
        "The sequence number of the batch does not follow the last one.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", fatal,
        "The batch was written before.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", fatal,
        "The producer epoch is older than the current one.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", fatal,
        "The operation does not fit the state of the transaction.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", fatal,
        "The producer id does not belong to this transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", fatal,
        "The transaction timeout is longer than the broker allows.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", retriable,
        "Another operation on the same transaction is still under way.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", fatal,
        "The transaction coordinator that sent the marker has been replaced.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", fatal,
        "The principal may not use this transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", fatal,
        "Security features are not enabled.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", fatal,
        "The operation was not attempted because another one of the batch failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", retriable,
        "The broker could not read or write its disk.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", fatal,
        "The log directory does not exist on this broker.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", fatal,
        "Authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", fatal,
        "The broker has no state for this producer id.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", fatal,
        "The partition is being reassigned.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", fatal,
        "Delegation tokens are not enabled.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", fatal,
        "The delegation token does not exist.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", fatal,
        "The principal neither owns the token nor may renew it.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", fatal,
        "Delegation tokens cannot be requested over this connection.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", fatal,
        "The principal may not use delegation tokens.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", fatal,
        "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", fatal,
        "The type of the principal is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", fatal,
        "The group still has members.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", fatal,
        "The group does not exist.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", retriable,
        "The broker has no such fetch session.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", retriable,
        "The epoch of the fetch session is not the expected one.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", retriable,
        "The leader has no listener that matches the one this request came in on.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", fatal,
        "Deletion of topics is disabled.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", retriable,
        "The leader epoch in the request is older than the current one.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", retriable,
        "The leader epoch in the request is newer than this broker knows.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", fatal,
        "The compression type is not supported by this version of the request.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", fatal,
        "The broker epoch has changed.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", retriable,
        "The new leader does not know its high watermark yet.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", fatal,
        "The member has to join again with the id it was given.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable,
        "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", fatal,
        "The group has reached its maximum size.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", fatal,
        "Another member has taken over this group instance id.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable,
        "No eligible leader is available.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", retriable,
        "The partition needs no election.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", fatal,
        "No reassignment is under way for this partition.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", fatal,
        "The group is still subscribed to the topic.";
    InvalidRecord = 87, "INVALID_RECORD", fatal,
        "A record failed validation.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", retriable,
        "Offsets of an open transaction are still pending.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", retriable,
        "The quota is used up.";
    ProducerFenced = 90, "PRODUCER_FENCED", fatal,
        "A newer producer has taken over this transactional id.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", fatal,
        "The resource does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", fatal,
        "The request names the same resource twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", fatal,
        "The credential does not meet the requirements.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", fatal,
        "Sender or receiver is not among the expected voters.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", fatal,
        "The feature version is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", fatal,
        "The features could not be updated.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", fatal,
        "The forwarded principal could not be read.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", fatal,
        "The snapshot does not exist.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", fatal,
        "The position lies outside the snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", retriable,
        "This broker has no topic with this id.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", fatal,
        "The broker id is in use already.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", fatal,
        "The broker id is not registered.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", retriable,
        "The topic id does not match the one of the log.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", fatal,
        "The request is meant for another cluster.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", fatal,
        "The transactional id does not exist.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable,
        "The fetch session mixes topic names and topic ids.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", fatal,
        "A replica of the proposed in-sync set is not eligible.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", fatal,
        "The change was made, but the leader of the partition has changed.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", fatal,
        "The offset has moved to tiered storage.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", fatal,
        "The member epoch is fenced; the member has to give up its partitions and join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", fatal,
        "Another member still uses this group instance id.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", fatal,
        "The assignor or its version is not supported.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", fatal,
        "The member epoch is stale; retry with the new one.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", fatal,
        "The request was sent to the wrong type of endpoint.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", fatal,
        "This type of endpoint is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", fatal,
        "The controller id is not known.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", fatal,
        "The telemetry subscription id is not valid or outdated.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", fatal,
        "The telemetry data is larger than the broker accepts.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", fatal,
        "The registration of the broker is not valid.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", fatal,
        "The transaction met an error; abort it to go on.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", fatal,
        "The record is not in a state that can be acknowledged.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", retriable,
        "The broker has no such share session.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", retriable,
        "The epoch of the share session is not the expected one.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", fatal,
        "The state epoch of the share group is fenced.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", fatal,
        "The voter key does not match the one of the receiving replica.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", fatal,
        "The voter is a member of the voter set already.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", fatal,
        "The voter is not a member of the voter set.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", fatal,
        "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", fatal,
        "The client's metadata is stale; it has to bootstrap again.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", fatal,
        "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", fatal,
        "The epoch of the topology is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", fatal,
        "The epoch of the topology is outdated.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", retriable,
        "The broker holds as many share sessions as it may.";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The code with this number, `None` for a number Kafka 4.1 does not know.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        // The list starts at −1 and has no gaps.
        Self::ALL.get(usize::try_from(code.checked_add(1)?).ok()?).copied()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_no_gaps_and_every_number_finds_its_code() {
        assert_eq!(ErrorCode::ALL.len(), 135);
        for (place, &code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(code.code() + 1), Ok(place));
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
        assert_eq!(ErrorCode::from_code(i16::MIN), None);
    }

    #[test]
    fn names_are_the_variants_in_upper_case() {
        for code in ErrorCode::ALL {
            let joined: String = code.name().split('_').collect();
            assert_eq!(joined, format!("{code:?}").to_uppercase());
        }
    }

    #[test]
    fn retriable_codes_are_those_of_kafka_4_1() {
        // Printed by Kafka 4.1.2 itself: Errors.values() whose exception is a RetriableException.
        let kafka = [
            2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83,
            84, 88, 89, 100, 103, 106, 122, 123, 133,
        ];
        let ours: Vec<i16> =
            ErrorCode::ALL.iter().filter(|code| code.retriable()).map(|code| code.code()).collect();
        assert_eq!(ours, kafka);
    }
}

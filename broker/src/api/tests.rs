//! Every request this broker serves, at every version, through the rooms: each must be answered,
//! and the answer must be one that the version can carry.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::{check_produced, check_records};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::stamp::stamp_max_timestamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LeaderEpoch, LogId, NodeId, Offset, PartitionIndex, TopicId};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::*;
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::coordinator::group::requests::GroupResponse;
use flumen_replication::coordinator::transaction::{Partitions, TransactionResponse};
use flumen_replication::dice::Dice;
use flumen_replication::error::Refusal;
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::{Broker, Image, Placement};
use flumen_replication::metadata::record::MetadataRecord;

use super::fetch_session::FetchSessions;
use super::k03_metadata::TOPIC_OPERATIONS;
use super::step::{Context, Envelope, Progress, Step, text};
use super::table;
use crate::config::load::load_text;
use crate::config::options::Options;
use crate::config::topic::Overrides;
use crate::limits::RECORD_REASONS_MAX;
use crate::quota::ledger::Ledger;
use crate::shard::early::EarlyBatches;
use crate::shard::mailbox::{
    Answer, AppendQuestion, Leader, LogFault, Question, RecordsAnswer, Sizes, Space,
};
use crate::shard::producer_ids::ProducerIds;
use crate::shard::routing::{Leaders, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::shard::settings::Settings;
use crate::telemetry::metrics::{Metrics, RefusedReason};

mod whole_answers;

/// The identity of the first topic, mostly the only one.
const TOPIC: TopicId = TopicId([7; 16]);

/// A core without topics, coordinators or controller.
struct Bare {
    options: Options,
    image: Arc<Image>,
    settings: Settings,
    leaders: Leaders,
    dice: Dice,
    producer_ids: ProducerIds,
    early: EarlyBatches,
    sessions: FetchSessions,
    quotas: Ledger,
    metrics: Metrics,
}

impl Bare {
    fn new() -> Self {
        let options = Options::default();
        Self {
            settings: Settings::new(&options),
            options,
            image: Arc::default(),
            leaders: Leaders::default(),
            dice: Dice::new(1),
            producer_ids: ProducerIds::default(),
            early: EarlyBatches::default(),
            sessions: FetchSessions::new(CoreId(0), 2, 1 << 20),
            quotas: Ledger::new(2),
            metrics: Metrics::new(),
        }
    }

    /// The same with a topic of so many partitions.
    fn with_topic(name: &str, partitions: usize) -> Self {
        Self::with_topics(&[(name, partitions)])
    }

    /// The same with topics of so many partitions; the first is [`TOPIC`].
    fn with_topics(topics: &[(&str, usize)]) -> Self {
        let mut controller = Controller::new();
        for (number, (name, partitions)) in (TOPIC.0[0]..).zip(topics) {
            let placement = Placement { replicas: vec![NodeId(1)] };
            let topic = MetadataRecord::Topic {
                id: TopicId([number; 16]),
                name: (*name).to_owned(),
                partitions: vec![placement; *partitions],
                configs: Overrides::new(),
            };
            controller.replay(&topic).unwrap();
        }
        let me = Broker { id: NodeId(1), rack: None, endpoints: Vec::new() };
        controller.replay(&MetadataRecord::Broker(me)).unwrap();
        Self { image: controller.image(), ..Self::new() }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            now: Now { monotonic: Monotonic(0), wall: Wall(0) },
            options: &self.options,
            image: &self.image,
            settings: &self.settings,
            leaders: &self.leaders,
            me: NodeId(1),
            cluster_id: "cluster",
            cores: 2,
            dice: &mut self.dice,
            answer_bytes_max: 1 << 20,
            producer_ids: &mut self.producer_ids,
            early: &mut self.early,
            sessions: &mut self.sessions,
            quotas: &mut self.quotas,
            metrics: &mut self.metrics,
        }
    }

    /// Sends a request through its room; whoever is asked is not there.
    fn ask<T: Request>(&mut self, key: ApiKey, version: i16, request: &T) -> T::Response {
        self.ask_and(key, version, request, |_| Answer::NotHere)
    }

    /// Sends a request through its room, and answers its questions.
    fn ask_and<T: Request>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &T,
        answer: impl Fn(u32) -> Answer,
    ) -> T::Response {
        let frame = encode_request(key, version, 7, Some("me"), request).unwrap();
        let frame = BytesMut::from(&frame[4..]);
        let (_, body, _) = table::read_header(&frame).unwrap();
        let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let client_id = "me".to_owned();
        let envelope = Envelope { key, version, correlation_id: 7, client_id, peer, listener: 0 };
        let mut step = table::open(&mut self.context(), &envelope, frame, body);
        while let Step::Inspect(opening) = step {
            step = opening.go_on(&mut self.context(), &envelope);
        }
        if let Step::Wait(mut wait) = step {
            for part in &wait.parts {
                match wait.waiting.answer(part.number, answer(part.number)) {
                    Progress::Open | Progress::Done => {}
                    Progress::Ask(parts) | Progress::AskWithin(parts, _) => {
                        panic!("nobody is there to be asked {parts:?}")
                    }
                }
            }
            step = wait.waiting.close(&mut self.context(), &envelope);
        }
        let Step::Answer(pieces) = step else {
            panic!("{key:?} v{version} has no answer: {step:?}")
        };
        let payload = pieces.concat().split_off(4);
        let (id, response) = decode_response::<T>(key, version, payload.into()).unwrap();
        assert_eq!(id, 7);
        response
    }

    fn ask_all<T: Request + Clone>(&mut self, key: ApiKey, request: impl Fn(i16) -> T) {
        for version in key.row().served.min..=key.row().served.max {
            self.ask(key, version, &request(version));
        }
    }
}

#[test]
fn empty_requests_are_answered_at_every_version() {
    let mut bare = Bare::new();
    bare.ask_all(ApiKey::OffsetCommit, |_| OffsetCommitRequest::default());
    bare.ask_all(ApiKey::OffsetFetch, |_| OffsetFetchRequest::default());
    bare.ask_all(ApiKey::JoinGroup, |_| JoinGroupRequest::default());
    bare.ask_all(ApiKey::Heartbeat, |_| HeartbeatRequest::default());
    bare.ask_all(ApiKey::LeaveGroup, |_| LeaveGroupRequest::default());
    bare.ask_all(ApiKey::SyncGroup, |_| SyncGroupRequest::default());
    bare.ask_all(ApiKey::DescribeGroups, |_| DescribeGroupsRequest::default());
    bare.ask_all(ApiKey::ConsumerGroupHeartbeat, |_| ConsumerGroupHeartbeatRequest::default());
    bare.ask_all(ApiKey::ConsumerGroupDescribe, |_| ConsumerGroupDescribeRequest::default());
    bare.ask_all(ApiKey::ListGroups, |_| ListGroupsRequest::default());
    bare.ask_all(ApiKey::CreateTopics, |_| CreateTopicsRequest::default());
    bare.ask_all(ApiKey::DeleteTopics, |_| DeleteTopicsRequest::default());
    bare.ask_all(ApiKey::DeleteRecords, |_| DeleteRecordsRequest::default());
    bare.ask_all(ApiKey::InitProducerId, |_| InitProducerIdRequest::default());
    bare.ask_all(ApiKey::OffsetForLeaderEpoch, |_| OffsetForLeaderEpochRequest::default());
    bare.ask_all(ApiKey::DescribeProducers, |_| DescribeProducersRequest::default());
    bare.ask_all(ApiKey::AddPartitionsToTxn, |_| AddPartitionsToTxnRequest::default());
    bare.ask_all(ApiKey::AddOffsetsToTxn, |_| AddOffsetsToTxnRequest::default());
    bare.ask_all(ApiKey::EndTxn, |_| EndTxnRequest::default());
    bare.ask_all(ApiKey::TxnOffsetCommit, |_| TxnOffsetCommitRequest::default());
    bare.ask_all(ApiKey::DescribeTransactions, |_| DescribeTransactionsRequest::default());
    bare.ask_all(ApiKey::ListTransactions, |_| ListTransactionsRequest::default());
    bare.ask_all(ApiKey::WriteTxnMarkers, |_| WriteTxnMarkersRequest::default());
    bare.ask_all(ApiKey::DescribeConfigs, |_| DescribeConfigsRequest::default());
    bare.ask_all(ApiKey::AlterConfigs, |_| AlterConfigsRequest::default());
    bare.ask_all(ApiKey::DescribeLogDirs, |_| DescribeLogDirsRequest::default());
    bare.ask_all(ApiKey::CreatePartitions, |_| CreatePartitionsRequest::default());
    bare.ask_all(ApiKey::DeleteGroups, |_| DeleteGroupsRequest::default());
    bare.ask_all(ApiKey::IncrementalAlterConfigs, |_| IncrementalAlterConfigsRequest::default());
    bare.ask_all(ApiKey::ElectLeaders, |_| ElectLeadersRequest::default());
    bare.ask_all(ApiKey::AlterPartitionReassignments, |_| {
        AlterPartitionReassignmentsRequest::default()
    });
    bare.ask_all(ApiKey::ListPartitionReassignments, |_| {
        ListPartitionReassignmentsRequest::default()
    });
    bare.ask_all(ApiKey::OffsetDelete, |_| OffsetDeleteRequest::default());
    bare.ask_all(ApiKey::DescribeClientQuotas, |_| DescribeClientQuotasRequest::default());
    bare.ask_all(ApiKey::AlterClientQuotas, |_| AlterClientQuotasRequest::default());
    bare.ask_all(ApiKey::DescribeUserScramCredentials, |_| {
        DescribeUserScramCredentialsRequest::default()
    });
    bare.ask_all(ApiKey::DescribeQuorum, |_| DescribeQuorumRequest::default());
    bare.ask_all(ApiKey::UpdateFeatures, |_| UpdateFeaturesRequest::default());
    bare.ask_all(ApiKey::DescribeCluster, |_| DescribeClusterRequest::default());
    bare.ask_all(ApiKey::ListConfigResources, |_| ListConfigResourcesRequest::default());
    bare.ask_all(ApiKey::DescribeTopicPartitions, |_| DescribeTopicPartitionsRequest::default());
    bare.ask_all(ApiKey::Metadata, |_| MetadataRequest::default());
    bare.ask_all(ApiKey::FindCoordinator, |_| FindCoordinatorRequest::default());
    bare.ask_all(ApiKey::ListOffsets, |_| {
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1))
    });
}

#[test]
fn a_broker_describes_itself_at_every_version() {
    let mut bare = Bare::new();
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text("1"))
        .with_configuration_keys(None);
    for version in 1..=4 {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource.clone()])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let response = bare.ask(ApiKey::DescribeConfigs, version, &request);
        assert_eq!(response.results[0].error_code, 0);
        assert!(!response.results[0].configs.is_empty());
        assert_eq!(response.results[0].configs[0].config_type != 0, version >= 3);
    }
}

#[test]
fn a_broker_has_one_name_and_is_described_once() {
    let mut bare = Bare::new();
    let resources = ["1", "01", "+1", "2", "one"].map(|name| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.to_vec());
    let response = bare.ask(ApiKey::DescribeConfigs, 4, &request);
    let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 42, 42, 42, 42]);
    assert!(response.results[1..].iter().all(|result| result.configs.is_empty()));
}

#[test]
fn no_user_has_credentials_for_scram_and_none_is_asked_for_twice() {
    let mut bare = Bare::new();
    let users = ["alice", "bob", "alice"].map(|name| {
        describe_user_scram_credentials_request::UserName::default().with_name(text(name))
    });
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(users.to_vec()));
    let response = bare.ask(ApiKey::DescribeUserScramCredentials, 0, &request);
    let told: Vec<_> =
        response.results.iter().map(|result| (result.user.as_str(), result.error_code)).collect();
    let (unknown, twice) =
        (ErrorCode::ResourceNotFound.code(), ErrorCode::DuplicateResource.code());
    assert_eq!(told, [("alice", twice), ("bob", unknown)]);
    let said = response.results.into_iter().map(|result| result.error_message);
    let said: Vec<_> = said.map(|message| message.map(|text| text.to_string())).collect();
    let why =
        "Cannot describe SCRAM credentials for the same user twice in a single request: alice";
    assert_eq!(said, [Some(why.to_owned()), None]);

    let everybody = DescribeUserScramCredentialsRequest::default().with_users(None);
    let response = bare.ask(ApiKey::DescribeUserScramCredentials, 0, &everybody);
    assert_eq!((response.error_code, response.results.len()), (0, 0));
}

#[test]
fn an_election_of_many_partitions_gives_its_reason_once_for_each_topic() {
    let mut bare = Bare::new();
    let topic = elect_leaders_request::TopicPartitions::default()
        .with_topic(TopicName(text("none")))
        .with_partitions((0..100).collect());
    let request =
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic]));
    let response = bare.ask(ApiKey::ElectLeaders, 2, &request);
    for topic in &response.replica_election_results {
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert!(topic.partition_result.iter().all(|one| one.error_code == unknown));
        let reasons = topic.partition_result.iter().filter(|one| one.error_message.is_some());
        assert_eq!((topic.partition_result.len(), reasons.count()), (100, 1));
        let said = topic.partition_result[0].error_message.as_ref().map(ToString::to_string);
        assert_eq!(said.as_deref(), Some("No such topic as none"));
    }
}

#[test]
fn an_assignment_is_refused_without_the_protocol_from_version_5_on() {
    let mut bare = Bare::new();
    let unnamed = SyncGroupRequest::default().with_group_id(GroupId(text("g")));
    let named = unnamed.clone().with_protocol_type(Some(text("consumer")));
    let named = named.with_protocol_name(Some(text("range")));
    // NOT_COORDINATOR, since there is none here, and INCONSISTENT_GROUP_PROTOCOL.
    assert_eq!(bare.ask(ApiKey::SyncGroup, 4, &unnamed).error_code, 16);
    assert_eq!(bare.ask(ApiKey::SyncGroup, 5, &unnamed).error_code, 23);
    assert_eq!(bare.ask(ApiKey::SyncGroup, 5, &named).error_code, 16);
}

#[test]
fn times_are_refused_where_the_version_does_not_have_them() {
    let mut bare = Bare::new();
    let asked = |index, timestamp| {
        list_offsets_request::ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp)
    };
    let times = [0, -1, -2, -3, -4, -5, -6, i64::MIN];
    let mut partitions: Vec<_> = (0..).zip(times).map(|(index, time)| asked(index, time)).collect();
    partitions.extend([asked(100, -1), asked(100, -2)]);
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(TopicName(text("nowhere")))
        .with_partitions(partitions);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    // The topic does not exist, which only a time that means something finds out.
    const UNKNOWN: i16 = 3;
    const VERSION: i16 = 35;
    const REPEATED: i16 = 42;
    for version in 1..=10 {
        let response = bare.ask(ApiKey::ListOffsets, version, &request);
        let codes = response.topics[0].partitions.iter().map(|partition| partition.error_code);
        let since = |first| if version >= first { UNKNOWN } else { VERSION };
        let wanted = [UNKNOWN, UNKNOWN, UNKNOWN, since(7), since(8), since(9), VERSION, VERSION];
        let wanted = wanted.into_iter().chain([REPEATED, REPEATED]);
        assert!(codes.eq(wanted), "version {version}: {response:?}");
    }
}

#[test]
fn each_topic_is_refused_for_its_own_reason() {
    let mut bare = Bare::new();
    let topic = |name: &str, partitions, replicas| {
        create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    let asked = vec![
        topic("..", 1, 1),
        topic("none", 0, 1),
        topic("many", 1_000_000, 1),
        topic("twice", 1, 1),
        topic("twice", 1, 1),
        topic("zero", 1, 0),
    ];
    bare.ask_all(ApiKey::CreateTopics, |_| {
        CreateTopicsRequest::default().with_topics(asked.clone())
    });
    let request = CreateTopicsRequest::default().with_topics(asked);
    let response = bare.ask(ApiKey::CreateTopics, 7, &request);
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    // INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, POLICY_VIOLATION, INVALID_REQUEST,
    // INVALID_REPLICATION_FACTOR.
    assert_eq!(codes, [17, 37, 44, 42, 38]);
    assert!(response.topics.iter().all(|topic| topic.error_message.is_some()));
}

#[test]
fn who_gives_an_assignment_gives_no_numbers_beside_it() {
    let mut bare = Bare::new();
    let assignment = create_topics_request::CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(vec![BrokerId(1)]);
    let topic = |name: &str, partitions, replicas| {
        create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_assignments(vec![assignment.clone()])
    };
    let asked = vec![topic("a", -1, 0), topic("b", 0, -1), topic("c", -1, -2), topic("d", 1, 1)];
    let request = CreateTopicsRequest::default().with_topics(asked);
    let response = bare.ask(ApiKey::CreateTopics, 7, &request);
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    // INVALID_REQUEST: what is wrong is that they are there.
    assert_eq!(codes, [42; 4]);
}

#[test]
fn a_refusal_of_something_long_is_answered_at_every_version() {
    let mut bare = Bare::new();
    let config = create_topics_request::CreatableTopicConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("z".repeat(32_767))));
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(TopicName(text("t")))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    bare.ask_all(ApiKey::CreateTopics, |_| {
        CreateTopicsRequest::default().with_topics(vec![topic.clone()])
    });
}

/// Error code and name of each topic that a Metadata request names.
fn described(version: i16, asked: &[(Option<&str>, TopicId)]) -> Vec<(i16, Option<String>)> {
    let mut bare = Bare::with_topic("logs", 1);
    let asked = asked.iter().map(|(name, id)| {
        metadata_request::MetadataRequestTopic::default()
            .with_name(name.map(|name| TopicName(text(name))))
            .with_topic_id((*id).into())
    });
    let request = MetadataRequest::default().with_topics(Some(asked.collect()));
    let response = bare.ask(ApiKey::Metadata, version, &request);
    let topics = response.topics.into_iter();
    topics.map(|topic| (topic.error_code, topic.name.map(|name| name.to_string()))).collect()
}

#[test]
fn an_id_counts_whatever_name_is_beside_it() {
    let (nobody, none) = (TopicId([9; 16]), TopicId::ZERO);
    // LEADER_NOT_AVAILABLE is of its partition: the topic itself is found.
    let found = (0, Some("logs".to_owned()));
    for version in [12, 13] {
        for name in [None, Some(""), Some("logs"), Some("other")] {
            assert_eq!(described(version, &[(name, TOPIC)]), std::slice::from_ref(&found));
            // UNKNOWN_TOPIC_ID.
            assert_eq!(described(version, &[(name, nobody)]), [(100, None)]);
        }
        let beside = [(Some("logs"), none), (Some("other"), none), (None, TOPIC)];
        assert_eq!(described(version, &beside), std::slice::from_ref(&found));
        // INVALID_REQUEST.
        assert_eq!(described(version, &[(None, none)]), [(42, None)]);
    }
    assert_eq!(described(11, &[(Some("logs"), TOPIC)])[0].0, 42);
}

#[test]
fn a_topic_that_is_not_there_is_as_internal_as_it_would_be() {
    let mut bare = Bare::new();
    let asked = ["__consumer_offsets", "__transaction_state", "logs"].map(|name| {
        metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
    });
    let request = MetadataRequest::default()
        .with_topics(Some(asked.to_vec()))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(true);
    let told = bare.ask(ApiKey::Metadata, 8, &request).topics;
    assert!(told.iter().all(|topic| topic.error_code == 3), "{told:?}");
    let internal: Vec<bool> = told.iter().map(|topic| topic.is_internal).collect();
    assert_eq!(internal, [true, true, false]);
    assert!(told.iter().all(|topic| topic.topic_authorized_operations == TOPIC_OPERATIONS));
    let unasked = request.with_include_topic_authorized_operations(false);
    let told = bare.ask(ApiKey::Metadata, 8, &unasked).topics;
    assert!(told.iter().all(|topic| topic.topic_authorized_operations == i32::MIN));
}

#[test]
fn only_who_asked_in_a_newer_version_is_told_which_this_broker_has() {
    let mut bare = Bare::new();
    let request = ApiVersionsRequest::default().with_client_software_name(text("-"));
    let response = bare.ask(ApiKey::ApiVersions, 3, &request);
    assert_eq!((response.error_code, response.api_keys.len()), (42, 0));
}

#[test]
fn a_topic_to_be_deleted_twice_is_answered_once_and_kept() {
    let mut bare = Bare::with_topic("logs", 1);
    let by_name = |name: &str| {
        delete_topics_request::DeleteTopicState::default().with_name(Some(TopicName(text(name))))
    };
    let by_id = |id: TopicId| {
        delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(id.into())
    };
    let nobody = TopicId([9; 16]);
    let asked = vec![
        by_name("logs"),
        by_id(TOPIC),
        by_name("none"),
        by_name("none"),
        by_id(nobody),
        by_id(nobody),
        by_name("other"),
        by_id(TopicId::ZERO),
    ];
    let request = DeleteTopicsRequest::default().with_topics(asked);
    let response = bare.ask(ApiKey::DeleteTopics, 6, &request);
    let codes: Vec<i16> = response.responses.iter().map(|topic| topic.error_code).collect();
    // INVALID_REQUEST for each that is named twice and for the one without name and id.
    assert_eq!(codes, [42, 42, 42, 3, 42]);
    let said = |at: usize| response.responses[at].error_message.as_deref();
    assert_eq!((said(1), said(2)), (Some("Duplicate topic name."), Some("Duplicate topic id.")));
}

#[test]
fn a_topic_asked_for_twice_is_described_once() {
    let mut bare = Bare::with_topic("logs", 3);
    let named = |name: &str| {
        metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
    };
    let asked = vec![named("logs"), named("none"), named("logs"), named("none")];
    let request =
        MetadataRequest::default().with_topics(Some(asked)).with_allow_auto_topic_creation(false);
    let response = bare.ask(ApiKey::Metadata, 12, &request);
    let names: Vec<&str> =
        response.topics.iter().map(|topic| topic.name.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["logs", "none"]);
    assert_eq!(response.topics[0].partitions.len(), 3);
}

#[test]
fn who_looks_for_a_coordinator_waits_for_its_topic_and_only_groups_and_transactions_have_one() {
    let mut bare = Bare::new();
    for (key_type, expected) in [(0, 15), (1, 15), (2, 42)] {
        for version in 1..=6 {
            let key = text("payments");
            let mut request = FindCoordinatorRequest::default().with_key_type(key_type);
            if version < 4 {
                request.key = key;
            } else {
                request.coordinator_keys = vec![key];
            }
            // The controller is not there, so that the topic is not made: COORDINATOR_NOT_AVAILABLE,
            // INVALID_REQUEST.
            let response = bare.ask(ApiKey::FindCoordinator, version, &request);
            let found = response.coordinators.first().map(|found| found.error_code);
            assert_eq!(found.unwrap_or(response.error_code), expected, "{key_type} v{version}");
        }
    }
}

/// What a coordinator of transactions says, as the answer of one part.
fn says(response: TransactionResponse) -> impl Fn(u32) -> Answer {
    move |_| Answer::Transaction(Box::new(response.clone()))
}

#[test]
fn older_clients_do_not_hear_of_producers_that_are_fenced() {
    let (fenced, epoch) = (ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch);
    let mut bare = Bare::with_topic(TRANSACTIONS_TOPIC, 5);
    for version in 0..=5 {
        let end = EndTxnRequest::default().with_transactional_id(TransactionalId(text("id")));
        let response = says(TransactionResponse::End(Err(fenced)));
        let answer = bare.ask_and(ApiKey::EndTxn, version, &end, response);
        let expected = if version < 2 { epoch } else { fenced };
        assert_eq!(answer.error_code, expected.code(), "EndTxn v{version}");
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text("id"))))
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        let response = says(TransactionResponse::Init(Err(fenced)));
        let answer = bare.ask_and(ApiKey::InitProducerId, version, &init, response);
        let expected = if version < 4 { epoch } else { fenced };
        assert_eq!(answer.error_code, expected.code(), "InitProducerId v{version}");
    }
}

#[test]
fn an_id_without_a_coordinator_is_to_be_looked_for_again_and_an_empty_one_is_none() {
    let mut bare = Bare::new();
    for (id, expected) in [("id", ErrorCode::NotCoordinator), ("", ErrorCode::InvalidRequest)] {
        let id = || TransactionalId(text(id));
        let end = EndTxnRequest::default().with_transactional_id(id());
        assert_eq!(bare.ask(ApiKey::EndTxn, 5, &end).error_code, expected.code());
        let add = AddOffsetsToTxnRequest::default().with_transactional_id(id());
        assert_eq!(bare.ask(ApiKey::AddOffsetsToTxn, 4, &add).error_code, expected.code());
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(id()))
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        assert_eq!(bare.ask(ApiKey::InitProducerId, 5, &init).error_code, expected.code());
        let describe = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
        let described = bare.ask(ApiKey::DescribeTransactions, 0, &describe);
        assert_eq!(described.transaction_states[0].error_code, expected.code());
    }
}

#[test]
fn a_partition_that_cannot_be_added_keeps_the_others_out() {
    let mut bare = Bare::with_topic("t", 2);
    let topic = |name: &str, partitions: Vec<i32>| {
        add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions)
    };
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text("id")))
        .with_v3_and_below_topics(vec![
            topic("t", vec![0, 7]),
            topic("__consumer_offsets", vec![0]),
        ]);
    let response = bare.ask(ApiKey::AddPartitionsToTxn, 3, &request);
    let codes: Vec<i16> = response
        .results_by_topic_v3_and_below
        .iter()
        .flat_map(|topic| topic.results_by_partition.iter().map(|it| it.partition_error_code))
        .collect();
    // OPERATION_NOT_ATTEMPTED, UNKNOWN_TOPIC_OR_PARTITION, TOPIC_AUTHORIZATION_FAILED.
    assert_eq!(codes, [55, 3, 29]);
}

#[test]
fn brokers_are_told_which_partitions_are_not_part_of_a_transaction() {
    let mut bare = Bare::with_topics(&[("t", 2), (TRANSACTIONS_TOPIC, 5)]);
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![0, 1]);
    let one = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_verify_only(true)
        .with_topics(vec![topic]);
    let request = AddPartitionsToTxnRequest::default().with_transactions(vec![one]);
    // INVALID_TXN_STATE, and TRANSACTION_ABORTABLE for those who know it.
    for (version, expected) in [(4, 48), (5, 120)] {
        let strangers = says(TransactionResponse::Verify(Ok(Partitions::of([("t", 1)]))));
        let response = bare.ask_and(ApiKey::AddPartitionsToTxn, version, &request, strangers);
        let results = &response.results_by_transaction[0].topic_results[0].results_by_partition;
        let codes: Vec<i16> = results.iter().map(|it| it.partition_error_code).collect();
        assert_eq!(codes, [0, expected], "version {version}");
    }
}

/// An offset of the partition 0 of "t", within a transaction.
fn offset_within(id: &str, group: &str) -> TxnOffsetCommitRequest {
    let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
    let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_group_id(GroupId(text(group)))
        .with_generation_id(-1)
        .with_topics(vec![topic])
}

#[test]
fn a_commit_within_a_transaction_is_refused_with_what_its_client_knows() {
    use ErrorCode::{
        ConcurrentTransactions, CoordinatorLoadInProgress, CoordinatorNotAvailable,
        IllegalGeneration, InvalidGroupId, InvalidProducerEpoch, InvalidRequest, InvalidTxnState,
        ProducerFenced, StaleMemberEpoch, TransactionAbortable, UnknownMemberId,
    };
    let mut bare = Bare::with_topics(&[("t", 1), (OFFSETS_TOPIC, 5), (TRANSACTIONS_TOPIC, 5)]);
    for version in 0..=5 {
        let soon = if version < 2 { CoordinatorNotAvailable } else { CoordinatorLoadInProgress };
        let over = if version < 4 { InvalidTxnState } else { TransactionAbortable };
        for (said, expected) in [
            (ProducerFenced, InvalidProducerEpoch),
            (StaleMemberEpoch, IllegalGeneration),
            (UnknownMemberId, UnknownMemberId),
            (CoordinatorLoadInProgress, soon),
            (ConcurrentTransactions, soon),
            (TransactionAbortable, over),
        ] {
            let partition = offset_commit_response::OffsetCommitResponsePartition::default()
                .with_error_code(said.code());
            let topic = offset_commit_response::OffsetCommitResponseTopic::default()
                .with_name(TopicName(text("t")))
                .with_partitions(vec![partition]);
            let response = OffsetCommitResponse::default().with_topics(vec![topic]);
            let response = GroupResponse::CommitWithin(response);
            let request = offset_within("id", "group");
            let says = |_| Answer::Group(Box::new(response.clone()));
            let answer = bare.ask_and(ApiKey::TxnOffsetCommit, version, &request, says);
            let told = answer.topics[0].partitions[0].error_code;
            assert_eq!(told, expected.code(), "{said:?} in version {version}");
        }
    }
    for (id, group, expected) in [("id", "", InvalidGroupId), ("", "group", InvalidRequest)] {
        let answer = bare.ask(ApiKey::TxnOffsetCommit, 5, &offset_within(id, group));
        assert_eq!(answer.topics[0].partitions[0].error_code, expected.code());
    }
}

#[test]
fn transactional_ids_are_not_kept_within_transactions_whoever_asks() {
    let mut bare = Bare::with_topic(TRANSACTIONS_TOPIC, 5);
    let name = || TopicName(text(TRANSACTIONS_TOPIC));
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(name())
        .with_partitions(vec![0]);
    let one = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_topics(vec![topic]);
    let request = AddPartitionsToTxnRequest::default().with_transactions(vec![one]);
    let response = bare.ask(ApiKey::AddPartitionsToTxn, 5, &request);
    let results = &response.results_by_transaction[0].topic_results[0].results_by_partition;
    // TOPIC_AUTHORIZATION_FAILED.
    assert_eq!(results[0].partition_error_code, 29);
    let topic = write_txn_markers_request::WritableTxnMarkerTopic::default()
        .with_name(name())
        .with_partition_indexes(vec![0]);
    let marker = write_txn_markers_request::WritableTxnMarker::default().with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let response = bare.ask(ApiKey::WriteTxnMarkers, 1, &request);
    // UNKNOWN_TOPIC_OR_PARTITION.
    assert_eq!(response.markers[0].topics[0].partitions[0].error_code, 3);
}

#[test]
fn sizes_of_all_cores_come_together() {
    let mut bare = Bare::with_topic("logs", 3);
    let asked = describe_log_dirs_request::DescribableLogDirTopic::default()
        .with_topic(TopicName(text("logs")))
        .with_partitions(vec![2, 0, 9]);
    for (topics, expected) in [(None, vec![10, 11, 12]), (Some(vec![asked]), vec![10, 12])] {
        let request = DescribeLogDirsRequest::default().with_topics(topics);
        let response = bare.ask_and(ApiKey::DescribeLogDirs, 4, &request, |part| {
            let size = |partition| (LogId { topic: TOPIC, partition }, 10 + partition.0 as u64);
            // The first core has the even partitions.
            let all = (0..3).filter(|number| number % 2 == part as i32);
            let logs = all.map(|number| size(PartitionIndex(number))).collect();
            let space = (part == 0).then_some(Space { free: 40, total: 100 });
            Answer::Sizes(Box::new(Sizes { logs, space }))
        });
        let [folder] = &response.results[..] else { panic!("one folder: {response:?}") };
        assert_eq!((folder.total_bytes, folder.usable_bytes), (100, 40));
        let sizes: Vec<i64> =
            folder.topics[0].partitions.iter().map(|one| one.partition_size).collect();
        assert_eq!(sizes, expected);
    }
}

#[test]
fn an_election_is_answered_for_each_partition() {
    let mut bare = Bare::with_topic("logs", 2);
    let log = LogId { topic: TOPIC, partition: PartitionIndex(0) };
    bare.leaders.learn(Leader { log, node: Some(NodeId(1)), epoch: LeaderEpoch(3) });
    let topic = |name: &str, partitions: Vec<i32>| {
        elect_leaders_request::TopicPartitions::default()
            .with_topic(TopicName(text(name)))
            .with_partitions(partitions)
    };
    let mut codes = |election, topics: Option<Vec<elect_leaders_request::TopicPartitions>>| {
        let request = ElectLeadersRequest::default()
            .with_election_type(election)
            .with_topic_partitions(topics);
        let response = bare.ask(ApiKey::ElectLeaders, 2, &request);
        let results = response.replica_election_results.iter();
        let codes: Vec<i16> =
            results.flat_map(|topic| &topic.partition_result).map(|one| one.error_code).collect();
        (response.error_code, codes)
    };
    let asked = vec![topic("logs", vec![0, 1, 2]), topic("none", vec![0])];
    // ELECTION_NOT_NEEDED, nobody to elect, UNKNOWN_TOPIC_OR_PARTITION.
    assert_eq!(codes(0, Some(asked.clone())), (0, vec![84, 80, 3, 3]));
    assert_eq!(codes(1, Some(asked.clone())), (0, vec![84, 83, 3, 3]));
    // INVALID_REQUEST.
    assert_eq!(codes(5, Some(asked)), (42, vec![42, 42, 42, 42]));
    // Of all partitions only those that would need one.
    assert_eq!(codes(0, None), (0, vec![80]));
}

#[test]
fn a_partition_may_be_told_to_stay_and_nothing_else() {
    let mut bare = Bare::with_topic("logs", 1);
    let to = |index, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
        alter_partition_reassignments_request::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas)
    };
    let topic = |name: &str, partitions| {
        alter_partition_reassignments_request::ReassignableTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions)
    };
    let wishes = [Some(&[1][..]), None, Some(&[]), Some(&[2]), Some(&[1, 1])];
    let mut asked: Vec<_> = wishes.into_iter().map(|replicas| to(0, replicas)).collect();
    asked.extend([to(1, Some(&[1])), to(-1, Some(&[1]))]);
    let topics = vec![topic("logs", asked), topic("none", vec![to(0, Some(&[1]))])];
    let mut codes = |version, allows: bool| {
        let request = AlterPartitionReassignmentsRequest::default()
            .with_allow_replication_factor_change(allows)
            .with_topics(topics.clone());
        let response = bare.ask(ApiKey::AlterPartitionReassignments, version, &request);
        assert_eq!(response.error_code, 0);
        let all = response.responses.iter().flat_map(|topic| &topic.partitions);
        all.map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    // NO_REASSIGNMENT_IN_PROGRESS, INVALID_REPLICA_ASSIGNMENT, UNKNOWN_TOPIC_OR_PARTITION.
    assert_eq!(codes(0, true), [0, 85, 39, 39, 39, 3, 3, 3]);
    // INVALID_REPLICATION_FACTOR where the number would change.
    assert_eq!(codes(1, false), [0, 85, 38, 39, 38, 3, 3, 3]);
    let mut said = |name: &str, partition| {
        let request = AlterPartitionReassignmentsRequest::default()
            .with_allow_replication_factor_change(true)
            .with_topics(vec![topic(name, vec![partition])]);
        let response = bare.ask(ApiKey::AlterPartitionReassignments, 1, &request);
        response.responses[0].partitions[0].error_message.as_ref().map(ToString::to_string)
    };
    for (replicas, what) in [
        (&[][..], "an empty replica list."),
        (&[2], "broker 2, but no such broker is registered."),
        (&[1, 1], "the broker 1 more than once."),
    ] {
        let why = format!("The manual partition assignment includes {what}");
        assert_eq!(said("logs", to(0, Some(replicas))), Some(why));
    }
    let lost = [("logs", 1, "partition logs:1."), ("none", 0, "a topic named none.")];
    for (name, index, what) in lost {
        let why = format!("Unable to find {what}");
        assert_eq!(said(name, to(index, Some(&[1]))), Some(why));
    }
}

#[test]
fn a_setting_changed_twice_is_refused_in_the_words_that_tools_look_for() {
    let mut bare = Bare::with_topic("logs", 1);
    let change = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("5")));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("logs"))
        .with_configs(vec![change.clone(), change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = bare.ask(ApiKey::IncrementalAlterConfigs, 1, &request);
    let told = &response.responses[0];
    assert_eq!(told.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(told.error_message.as_deref(), Some("Error due to duplicate config keys"));
}

#[test]
fn what_has_settings_is_listed_by_type() {
    let mut bare = Bare::with_topic("logs", 1);
    let mut listed = |version, types: Vec<i8>| {
        let request = ListConfigResourcesRequest::default().with_resource_types(types);
        let response = bare.ask(ApiKey::ListConfigResources, version, &request);
        let names = response.config_resources.iter();
        let names: Vec<_> =
            names.map(|one| (one.resource_type, one.resource_name.to_string())).collect();
        (response.error_code, names)
    };
    let (topic, broker) = ((2, "logs".to_owned()), (4, "1".to_owned()));
    assert_eq!(listed(0, vec![]), (0, vec![]), "version 0 knows client metrics only");
    assert_eq!(listed(1, vec![]), (0, vec![topic.clone(), broker.clone()]));
    assert_eq!(listed(1, vec![4, 32]), (0, vec![broker]));
    assert_eq!(listed(1, vec![2, 2, 8, 16]), (0, vec![topic]));
    assert_eq!(listed(1, vec![2, 3]), (35, vec![]), "UNSUPPORTED_VERSION");
}

#[test]
fn batches_at_fault_are_counted() {
    let mut bare = Bare::with_topic("t", 1);
    let partition =
        PartitionProduceData::default().with_records(Some(Bytes::from_static(b"noise")));
    let topic = |name: &'static str| {
        TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_partition_data(vec![partition.clone()])
    };
    let request =
        ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic("t"), topic("nowhere")]);
    bare.ask(ApiKey::Produce, 9, &request);
    let invalid = bare.metrics.refused_total(RefusedReason::InvalidBatch);
    assert_eq!(invalid, 1, "what is nowhere is no batch at fault");
}

/// Sends one batch to each partition of the topic "logs"; the sound ones find nobody there.
fn produce(batches: &[Vec<u8>]) -> Vec<produce_response::PartitionProduceResponse> {
    let mut bare = Bare::with_topic("logs", batches.len());
    let partition = |(index, batch): (i32, &Vec<u8>)| {
        PartitionProduceData::default().with_index(index).with_records(Some(batch.clone().into()))
    };
    let topic = TopicProduceData::default()
        .with_name(TopicName(text("logs")))
        .with_partition_data((0..).zip(batches).map(partition).collect());
    let request =
        ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![topic]);
    let mut response = bare.ask(ApiKey::Produce, 9, &request);
    response.responses.remove(0).partition_responses
}

#[test]
fn the_batches_of_one_request_inflate_to_no_more_than_one_may() {
    let mut builder = BatchBuilder::new();
    let mut dice = Dice::new(2);
    let noise: Vec<u8> = (0..40_000).map(|_| dice.draw() as u8).collect();
    let value = [vec![0; 30 << 20], noise].concat();
    builder.push(&NewRecord { timestamp: 5, key: None, value: Some(&value), headers: &[] });
    let sound = builder.finish_compressed(Codec::Zstd).to_vec();
    let mut undated = sound.clone();
    stamp_max_timestamp(&mut undated, -1);
    let batches = [&undated, &undated, &undated, &sound, &undated].map(Vec::clone);
    let codes: Vec<i16> = produce(&batches).iter().map(|answer| answer.error_code).collect();
    let (sound, bad) = (ErrorCode::NotLeaderOrFollower.code(), ErrorCode::InvalidRecord.code());
    assert_eq!(codes, [sound, sound, bad, sound, bad]);
}

#[test]
fn records_of_a_time_the_topic_does_not_take_are_named() {
    // It is 1970 here, and an hour ahead is allowed.
    let mut builder = BatchBuilder::new();
    for timestamp in [5, 3_600_001, 7] {
        builder.push(&NewRecord { timestamp, key: None, value: None, headers: &[] });
    }
    let refused = &produce(&[builder.finish().to_vec()])[0];
    let named: Vec<i32> = refused.record_errors.iter().map(|record| record.batch_index).collect();
    assert_eq!((refused.error_code, named), (ErrorCode::InvalidTimestamp.code(), vec![1]));
    let all = "One or more records have been rejected due to invalid timestamp";
    assert_eq!(refused.error_message.as_deref(), Some(all));
    assert!(refused.record_errors[0].batch_index_error_message.is_some());
}

#[test]
fn only_the_first_records_at_fault_have_a_sentence_each() {
    let mut builder = BatchBuilder::new();
    for _ in 0..100 {
        let record = NewRecord { timestamp: 3_600_001, key: None, value: None, headers: &[] };
        builder.push(&record);
    }
    let refused = &produce(&[builder.finish().to_vec()])[0];
    let said = refused.record_errors.iter().map(|one| one.batch_index_error_message.is_some());
    let wanted = (0..100).map(|at| at < RECORD_REASONS_MAX);
    assert!(said.eq(wanted), "{refused:?}");
}

/// Reads two partitions of which each gives 800 bytes, the first one a fault instead where asked.
fn fetched(options: &str, version: i16, fault: Option<LogFault>) -> Vec<(i16, usize)> {
    let mut bare = Bare::with_topic("logs", 2);
    bare.options = load_text(options.as_bytes(), &[], "box").expect("sound settings").options;
    let partition = |index| {
        fetch_request::FetchPartition::default().with_partition(index).with_partition_max_bytes(900)
    };
    let topic = fetch_request::FetchTopic::default()
        .with_topic(TopicName(text("logs")))
        .with_partitions((0..2).map(partition).collect());
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic]);
    let response = bare.ask_and(ApiKey::Fetch, version, &request, |part| {
        Answer::Records(Box::new(RecordsAnswer {
            fault: fault.filter(|_| part == 0),
            high_watermark: Offset(8),
            last_stable: Offset(8),
            start: Offset(0),
            batches: vec![Bytes::from(vec![0; 800])],
            aborted: Vec::new(),
            next: Offset(8),
            followed: None,
        }))
    });
    let told = response.responses[0].partitions.iter();
    told.map(|one| (one.error_code, one.records.as_ref().map_or(0, Bytes::len))).collect()
}

#[test]
fn the_broker_may_give_less_than_a_client_asks_for() {
    assert_eq!(fetched("", 12, None), [(0, 800), (0, 800)]);
    assert_eq!(fetched("fetch.max.bytes=1599", 12, None), [(0, 800), (0, 0)]);
    assert_eq!(fetched("fetch.max.bytes=1600", 12, None), [(0, 800), (0, 800)]);
}

#[test]
fn old_readers_are_sent_elsewhere_where_a_disk_fails() {
    let fault = Some(LogFault::Refused(Refusal::Storage));
    let storage = ErrorCode::KafkaStorageError.code();
    assert_eq!(fetched("", 6, fault), [(storage, 0), (0, 800)]);
    let elsewhere = ErrorCode::NotLeaderOrFollower.code();
    for version in [4, 5] {
        assert_eq!(fetched("", version, fault), [(elsewhere, 0), (0, 800)]);
    }
}

/// What becomes of a batch where the broker's file says this: what its partition is asked to append, or
/// the error.
fn appended(settings: &str, batch: &[u8]) -> Result<AppendQuestion, ErrorCode> {
    let mut bare = Bare::with_topic("logs", 1);
    bare.options = load_text(settings.as_bytes(), &[], "box").expect("sound settings").options;
    bare.settings = Settings::new(&bare.options);
    let partition = PartitionProduceData::default().with_records(Some(batch.to_vec().into()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(text("logs")))
        .with_partition_data(vec![partition]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
    let frame = encode_request(ApiKey::Produce, 9, 7, None, &request).unwrap();
    let frame = BytesMut::from(&frame[4..]);
    let (_, body, _) = table::read_header(&frame).unwrap();
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let (key, client_id) = (ApiKey::Produce, "me".to_owned());
    let envelope = Envelope { key, version: 9, correlation_id: 7, client_id, peer, listener: 0 };
    let mut step = table::open(&mut bare.context(), &envelope, frame, body);
    while let Step::Inspect(opening) = step {
        step = opening.go_on(&mut bare.context(), &envelope);
    }
    match step {
        Step::Wait(mut wait) => match wait.parts.remove(0).question {
            Question::Append(question) => Ok(*question),
            other => panic!("{other:?}"),
        },
        Step::Answer(pieces) => {
            let payload = pieces.concat().split_off(4);
            let response = decode_response::<ProduceRequest>(key, 9, payload.into()).unwrap().1;
            let code = response.responses[0].partition_responses[0].error_code;
            Err(ErrorCode::from_code(code).expect("one that Kafka has"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_has_its_batches_in_the_codec_it_asks_for() {
    let record = |value| NewRecord { timestamp: 5, key: None, value: Some(value), headers: &[] };
    let batch = |codec| {
        let mut builder = BatchBuilder::new();
        (0..300).for_each(|_| builder.push(&record(&[7; 2000])));
        builder.finish_compressed(codec)
    };
    for (name, wanted) in [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        for codec in Codec::ALL {
            let sent = batch(codec);
            let asked = appended(&format!("compression.type={name}"), &sent).expect("sound");
            assert_eq!(Ok(asked.summary), check_produced(&asked.batch), "{codec:?} to {name}");
            assert_eq!((asked.summary.codec, asked.summary.record_count), (wanted, 300));
            let records = check_records(&asked.batch, &mut { 1 << 20 });
            assert_eq!(records, check_records(&sent, &mut { 1 << 20 }));
            assert!(codec != wanted || asked.batch == sent, "it is left as it came");
        }
    }
    let asked = appended("", &batch(Codec::Lz4)).expect("sound");
    assert_eq!(asked.summary.codec, Codec::Lz4, "as its producer packed it");
    // Small enough as it was sent, and too large as it would be kept.
    let small = "message.max.bytes=100000\ncompression.type=uncompressed";
    assert_eq!(appended(small, &batch(Codec::Zstd)).err(), Some(ErrorCode::MessageTooLarge));
    // What is to be packed anew has to be sound.
    let mut damaged = batch(Codec::Zstd);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    stamp_max_timestamp(&mut damaged, 5);
    let gzip = "compression.type=gzip";
    assert_eq!(appended(gzip, &damaged).err(), Some(ErrorCode::InvalidRecord));
}

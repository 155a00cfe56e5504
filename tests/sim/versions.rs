//! Every API at every version on a node that has something to say.
//!
//! Does: ask a node with a topic, records and a group each thing that reads, in every version
//! served.
//! Does not: look closely at the answers; that they can be written and read is what counts.
//! Invariants: no answer is empty, so no field stays at its default by luck.
//! Apart because a field that some version has no place for shows only when it is filled.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::messages::elect_leaders_request::TopicPartitions;
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use flumen_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteRecordsRequest, DescribeClusterRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, ElectLeadersRequest, FindCoordinatorRequest,
    GroupId, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, StrBytes, SyncGroupRequest,
};

use crate::stories::{PRODUCE, make_topic, name, produce_request};
use crate::world::World;

/// A node of two cores with one record in each partition of `t`.
fn node() -> World {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    for partition in 0..4 {
        let request = produce_request("t", partition, "x");
        world.ask(0, ApiKey::Produce, PRODUCE, &request);
    }
    let find = FindCoordinatorRequest::default().with_key(text("g"));
    world.ask(0, ApiKey::FindCoordinator, 3, &find);
    world
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let served = key.row().served;
    served.min..=served.max
}

#[test]
fn offsets_are_listed_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::ListOffsets) {
        // Each with the offset it means and the first version that has it.
        let times = [(-1, 1, 1), (-2, 0, 1), (0, 0, 1), (i64::MAX, -1, 1), (-3, 0, 7), (-5, -1, 9)];
        for (timestamp, expected, since) in times {
            let partitions = (0..4).map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_timestamp(timestamp)
                    .with_current_leader_epoch(-1)
            });
            let topic = ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(partitions.collect());
            // As a consumer, as Kafka's tools, and with a replica id that somebody left at zero.
            let answers = [-1, -2, 0].map(|replica| {
                let request = ListOffsetsRequest::default()
                    .with_replica_id(BrokerId(replica))
                    .with_topics(vec![topic.clone()]);
                world.ask(1, ApiKey::ListOffsets, version, &request)
            });
            for partition in answers.iter().flat_map(|answer| &answer.topics[0].partitions) {
                let (code, offset) = if version >= since {
                    (ErrorCode::None, expected)
                } else {
                    (ErrorCode::UnsupportedVersion, -1)
                };
                assert_eq!(partition.error_code, code.code(), "version {version}, {timestamp}");
                assert_eq!(partition.offset, offset, "version {version}, {timestamp}");
            }
        }
    }
}

#[test]
fn the_ends_of_epochs_are_told_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(1)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(1);
        let topic =
            OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
        for replica in if version >= 3 { [-1, 0] } else { [-2, -2] } {
            let request = OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(replica))
                .with_topics(vec![topic.clone()]);
            let answer = world.ask(0, ApiKey::OffsetForLeaderEpoch, version, &request);
            assert_eq!(answer.topics[0].partitions[0].error_code, 0, "version {version}");
        }
    }
}

#[test]
fn metadata_are_told_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::Metadata) {
        let asked = MetadataRequestTopic::default().with_name(Some(name("t")));
        let missing = MetadataRequestTopic::default().with_name(Some(name("no such topic")));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked, missing]))
            .with_include_cluster_authorized_operations((8..=10).contains(&version))
            .with_include_topic_authorized_operations(version >= 8);
        let answer = world.ask(1, ApiKey::Metadata, version, &request);
        assert_eq!(answer.brokers.len(), 1);
        assert_eq!(answer.topics[0].partitions.len(), 4, "version {version}");
        assert_ne!(answer.topics[1].error_code, 0, "version {version}");
    }
}

#[test]
fn the_cluster_is_described_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::DescribeCluster) {
        let request = DescribeClusterRequest::default()
            .with_endpoint_type(1)
            .with_include_cluster_authorized_operations(true);
        let answer = world.ask(1, ApiKey::DescribeCluster, version, &request);
        assert_eq!((answer.error_code, answer.brokers.len()), (0, 1), "version {version}");
    }
}

#[test]
fn sizes_and_elections_are_told_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::DescribeLogDirs) {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer = world.ask(1, ApiKey::DescribeLogDirs, version, &request);
        let of_t = answer.results[0].topics.iter().find(|topic| topic.name == name("t"));
        let partitions = &of_t.expect("a topic is somewhere").partitions;
        assert_eq!(partitions.len(), 4, "version {version}");
        assert!(partitions.iter().any(|one| one.partition_size > 0), "version {version}");
    }
    for version in versions(ApiKey::ElectLeaders) {
        let asked = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0, 4]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![asked]));
        let answer = world.ask(0, ApiKey::ElectLeaders, version, &request);
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<i16> = results.iter().map(|one| one.error_code).collect();
        // ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION.
        assert_eq!(codes, [84, 3], "version {version}");
    }
}

#[test]
fn coordinators_are_found_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::FindCoordinator) {
        // A kind of coordinator that does not exist gives an error, with a message where one fits.
        for key_type in if version == 0 { 0..1 } else { 0..2 } {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let request = if version < 4 {
                request.with_key(text("g"))
            } else {
                request.with_coordinator_keys(vec![text("g"), text("h")])
            };
            let answer = world.ask(1, ApiKey::FindCoordinator, version, &request);
            assert_eq!(answer.coordinators.len(), if version < 4 { 0 } else { 2 });
        }
    }
}

#[test]
fn producer_ids_are_given_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let answer = world.ask(1, ApiKey::InitProducerId, version, &request);
        assert_eq!(answer.error_code, 0, "version {version}");
    }
}

#[test]
fn records_are_deleted_at_every_version() {
    let mut world = node();
    for version in versions(ApiKey::DeleteRecords) {
        let partitions = [(0, -1), (1, 1), (2, 99)].map(|(index, offset)| {
            DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
        });
        let topic =
            DeleteRecordsTopic::default().with_name(name("t")).with_partitions(partitions.to_vec());
        let request =
            DeleteRecordsRequest::default().with_timeout_ms(1000).with_topics(vec![topic]);
        let answer = world.ask(1, ApiKey::DeleteRecords, version, &request);
        let codes: Vec<i16> =
            answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!(codes, [0, 0, 1], "version {version}");
    }
}

/// A member's whole life in a group of its own, each request in the version that its API has for
/// `nth`, or its last.
fn live_in_a_group(world: &mut World, nth: i16) {
    let pick = |key: ApiKey| (key.row().served.min + nth).min(key.row().served.max);
    let name = format!("g{nth}");
    let version = pick(ApiKey::JoinGroup);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group(&name))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(if version >= 1 { 30_000 } else { -1 })
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut joined = world.ask(0, ApiKey::JoinGroup, version, &join);
    if joined.error_code != 0 {
        let again = join.with_member_id(joined.member_id.clone());
        joined = world.ask(1, ApiKey::JoinGroup, version, &again);
    }
    assert_eq!((joined.error_code, joined.members.len()), (0, 1), "join {version}");
    let (member, generation) = (joined.member_id.clone(), joined.generation_id);

    let version = pick(ApiKey::SyncGroup);
    let mine = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment("all of it".into());
    let with_protocol = (version >= 5).then(|| text("consumer"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group(&name))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_protocol_type(with_protocol.clone())
        .with_protocol_name(with_protocol.map(|_| text("range")))
        .with_assignments(vec![mine]);
    let synced = world.ask(0, ApiKey::SyncGroup, version, &sync);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all of it"[..]));

    let beat = HeartbeatRequest::default()
        .with_group_id(group(&name))
        .with_generation_id(generation)
        .with_member_id(member.clone());
    let version = pick(ApiKey::Heartbeat);
    assert_eq!(world.ask(1, ApiKey::Heartbeat, version, &beat).error_code, 0);
    commit_and_fetch(world, pick, &name, &member, generation);
    describe(world, pick, &name);
    leave(world, pick, &name, member);
}

fn commit_and_fetch(
    world: &mut World,
    pick: impl Fn(ApiKey) -> i16,
    group_name: &str,
    member: &StrBytes,
    generation: i32,
) {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(2)
        .with_committed_offset(1)
        .with_committed_metadata(Some(text("note")));
    let topic =
        OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member.clone())
        .with_topics(vec![topic]);
    let committed = world.ask(1, ApiKey::OffsetCommit, pick(ApiKey::OffsetCommit), &commit);
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);

    let version = pick(ApiKey::OffsetFetch);
    let topic =
        OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![2, 3]);
    let topics =
        OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![2, 3]);
    let found = if version < 8 {
        let fetch = OffsetFetchRequest::default()
            .with_group_id(group(group_name))
            .with_topics(Some(vec![topic]));
        let answer = world.ask(0, ApiKey::OffsetFetch, version, &fetch);
        answer.topics[0].partitions.iter().map(|partition| partition.committed_offset).collect()
    } else {
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(group(group_name))
            .with_topics(Some(vec![topics]));
        let fetch = OffsetFetchRequest::default().with_groups(vec![wanted]);
        let answer = world.ask(0, ApiKey::OffsetFetch, version, &fetch);
        let partitions = answer.groups[0].topics[0].partitions.iter();
        partitions.map(|partition| partition.committed_offset).collect::<Vec<i64>>()
    };
    assert_eq!(found, [1, -1], "offset fetch {version}");
}

fn describe(world: &mut World, pick: impl Fn(ApiKey) -> i16, group_name: &str) {
    let version = pick(ApiKey::DescribeGroups);
    let describe = DescribeGroupsRequest::default()
        .with_groups(vec![group(group_name), group("no such group")])
        .with_include_authorized_operations(version >= 3);
    let described = world.ask(0, ApiKey::DescribeGroups, version, &describe);
    assert_eq!(described.groups[0].members.len(), 1, "describe {version}");
    assert_eq!(described.groups[0].group_state, text("Stable"));
    assert_eq!(described.groups[1].group_state, text("Dead"));

    let version = pick(ApiKey::ListGroups);
    let listed = world.ask(0, ApiKey::ListGroups, version, &ListGroupsRequest::default());
    assert!(listed.groups.iter().any(|listed| listed.group_id == group(group_name)));
}

fn leave(world: &mut World, pick: impl Fn(ApiKey) -> i16, group_name: &str, member: StrBytes) {
    let version = pick(ApiKey::DeleteGroups);
    let delete = DeleteGroupsRequest::default()
        .with_groups_names(vec![group(group_name), group("no such group")]);
    let refused = world.ask(1, ApiKey::DeleteGroups, version, &delete);
    assert!(refused.results.iter().all(|result| result.error_code != 0), "it has a member");

    let version = pick(ApiKey::LeaveGroup);
    let leave = LeaveGroupRequest::default().with_group_id(group(group_name));
    let leave = if version < 3 {
        leave.with_member_id(member)
    } else {
        leave.with_members(vec![MemberIdentity::default().with_member_id(member)])
    };
    assert_eq!(world.ask(1, ApiKey::LeaveGroup, version, &leave).error_code, 0);
    let deleted = world.ask(1, ApiKey::DeleteGroups, pick(ApiKey::DeleteGroups), &delete);
    assert_eq!(deleted.results[0].error_code, 0);
}

#[test]
fn a_group_lives_at_every_version() {
    let mut world = node();
    for nth in 0..=9 {
        live_in_a_group(&mut world, nth);
    }
}

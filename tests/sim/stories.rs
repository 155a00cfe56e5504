//! What one node promises, told on simulated disks.
//!
//! Does: speak real requests to real shards.
//! Does not: look inside them.
//! Invariants: each story says in its name what holds.
//! Apart from the world, which knows no story.

use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceRequest, StrBytes, TopicName,
};
use flumen_storage::error::DiskErrorKind;
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::Fault;

use flumen_tests::client::values;

use crate::world::World;

pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 11;
pub const DELETE_RECORDS: i16 = 2;
const COMMIT: i16 = 8;

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Makes a topic as a producer does.
pub fn make_topic(world: &mut World, topic: &str) {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let answer = world.ask(0, ApiKey::Metadata, 9, &request);
    let (code, partitions) = (answer.topics[0].error_code, answer.topics[0].partitions.len());
    assert_eq!((code, partitions), (3, 0), "it is made, and not waited for");
    let answer = world.ask(0, ApiKey::Metadata, 9, &request);
    assert_eq!(answer.topics[0].error_code, 0, "the topic is there when it is asked for again");
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.leader_id.0 == 1));
}

/// Asks for one record to be appended, wherever its partition lives.
pub fn produce_request(topic: &str, partition: i32, value: &str) -> ProduceRequest {
    let mut batch = BatchBuilder::new();
    let timestamp = 1_700_000_000_000;
    batch.push(&NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] });
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.finish().freeze()));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Asks for the records of a partition from an offset on.
pub fn fetch_request(topic: &str, partition: i32, from: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(from)
        .with_partition_max_bytes(16 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(16 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Asks for what is before this offset of a partition to be deleted.
pub fn delete_records_request(topic: &str, partition: i32, before: i64) -> DeleteRecordsRequest {
    let partition =
        DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let topic =
        DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

/// What a reader without patience sees of a partition, reading on until there is no more.
pub fn read_all(world: &mut World, core: usize, topic: &str, partition: i32) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        // Every record here has a batch of its own, so the count is the next offset.
        let request = fetch_request(topic, partition, all.len() as i64, 0);
        let answer = world.ask(core, ApiKey::Fetch, FETCH, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let found = partition.records.as_ref().map(values).unwrap_or_default();
        if found.is_empty() {
            assert_eq!(partition.high_watermark, all.len() as i64, "that is all of it");
            return all;
        }
        all.extend(found);
    }
}

#[test]
fn what_is_acknowledged_survives_a_power_cut_on_every_core() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    for round in 0..3 {
        for partition in 0..4 {
            let value = format!("{partition}-{round}");
            let request = produce_request("t", partition, &value);
            // Over either core: the one that does not own the partition passes it on.
            let core = (round % 2) as usize;
            let answer = world.ask(core, ApiKey::Produce, PRODUCE, &request);
            let answer = &answer.responses[0].partition_responses[0];
            assert_eq!((answer.error_code, answer.base_offset), (0, round));
        }
    }
    for _ in 0..3 {
        world.cut_power();
        for partition in 0..4 {
            let wanted: Vec<String> = (0..3).map(|round| format!("{partition}-{round}")).collect();
            assert_eq!(read_all(&mut world, 0, "t", partition), wanted);
            assert_eq!(read_all(&mut world, 1, "t", partition), wanted);
        }
    }
}

#[test]
fn nothing_is_acknowledged_before_the_disk_has_it() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    let request = produce_request("t", 1, "x");
    let awaited = world.send(0, ApiKey::Produce, PRODUCE, &request);
    world.run_without_disks();
    assert!(world.answer::<ProduceRequest>(awaited, ApiKey::Produce, PRODUCE).is_none());
    assert!(read_nothing(&mut world), "and nobody sees it");
    world.run();
    let answer = world.answer::<ProduceRequest>(awaited, ApiKey::Produce, PRODUCE);
    assert_eq!(answer.expect("now").responses[0].partition_responses[0].error_code, 0);
}

fn read_nothing(world: &mut World) -> bool {
    let request = fetch_request("t", 1, 0, 0);
    let awaited = world.send(1, ApiKey::Fetch, FETCH, &request);
    world.run_without_disks();
    let answer = world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH);
    let answer = answer.expect("a fetch that may not wait is answered");
    answer.responses[0].partitions[0].records.as_ref().is_none_or(Bytes::is_empty)
}

#[test]
fn a_time_out_of_zero_does_not_cut_the_own_disk_short() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    for partition in 0..2 {
        let request = produce_request("t", partition, "x").with_timeout_ms(0);
        let answer = world.ask(0, ApiKey::Produce, PRODUCE, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
}

#[test]
fn no_more_replicas_are_wanted_than_there_are() {
    let mut world = World::new(1);
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("min.insync.replicas"))
        .with_value(Some(StrBytes::from_static_str("2")));
    let topic = CreatableTopic::default()
        .with_name(name("strict"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let create = CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![topic]);
    assert_eq!(world.ask(0, ApiKey::CreateTopics, 5, &create).topics[0].error_code, 0);
    let mut produce = |acks| {
        let request = produce_request("strict", 0, "x").with_acks(acks);
        let answer = world.ask(0, ApiKey::Produce, PRODUCE, &request);
        answer.responses[0].partition_responses[0].error_code
    };
    assert_eq!((produce(-1), produce(1)), (0, 0));
}

#[test]
fn a_waiting_fetch_is_answered_by_the_record_it_waits_for() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    for (reader, partition) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let from = i64::from(reader);
        let request = fetch_request("t", partition, from, 30_000);
        let awaited = world.send(reader as usize, ApiKey::Fetch, FETCH, &request);
        world.wait(Duration::from_secs(5));
        assert!(world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH).is_none());
        world.ask(0, ApiKey::Produce, PRODUCE, &produce_request("t", partition, "news"));
        let answer = world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH).expect("pushed");
        let records = answer.responses[0].partitions[0].records.as_ref().expect("records");
        assert_eq!(values(records), ["news"]);
        assert_eq!((world.open_bytes(0), world.open_bytes(1)), (0, 0), "nothing is left over");
    }
}

#[test]
fn a_waiting_fetch_ends_at_its_time() {
    let mut world = World::new(1);
    make_topic(&mut world, "t");
    let awaited = world.send(0, ApiKey::Fetch, FETCH, &fetch_request("t", 0, 0, 500));
    world.run();
    world.wait(Duration::from_millis(499));
    assert!(world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH).is_none());
    world.wait(Duration::from_millis(2));
    let answer = world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH).expect("in time");
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
}

/// Commits an offset of a topic's partition 2; the error code.
pub fn commit(world: &mut World, group: &str, topic: &str, offset: i64) -> i16 {
    let find = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    assert_eq!(world.ask(0, ApiKey::FindCoordinator, 3, &find).node_id.0, 1);
    let request = commit_request(group, topic, offset);
    let answer = world.ask(1, ApiKey::OffsetCommit, COMMIT, &request);
    answer.topics[0].partitions[0].error_code
}

fn commit_request(group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(2)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let topic =
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// What a group committed for partitions 2 and 3 of a topic.
pub fn committed(
    world: &mut World,
    group: &str,
    topic: &str,
) -> Vec<OffsetFetchResponsePartitions> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(name(topic))
        .with_partition_indexes(vec![2, 3]);
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![topic]));
    let fetch = OffsetFetchRequest::default().with_groups(vec![wanted]);
    let mut answer = world.ask(0, ApiKey::OffsetFetch, 8, &fetch);
    assert_eq!(answer.groups[0].error_code, 0);
    answer.groups.remove(0).topics.remove(0).partitions
}

#[test]
fn committed_offsets_survive_a_power_cut() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    assert_eq!(commit(&mut world, "g", "t", 41), 0);
    world.cut_power();
    let found = committed(&mut world, "g", "t");
    assert_eq!((found[0].committed_offset, found[0].error_code), (41, 0));
    assert_eq!(found[0].metadata.as_deref(), Some("note"));
    assert_eq!((found[1].committed_offset, found[1].error_code), (-1, 0));
}

#[test]
fn a_commit_that_was_given_up_as_too_slow_and_written_after_all_is_true_at_once() {
    // Longer than a coordinator waits for its own records.
    const GIVEN_UP: Duration = Duration::from_secs(3601);
    let mut slow = 0;
    for hanging in 0..2 {
        let mut world = World::new(2);
        make_topic(&mut world, "t");
        assert_eq!(commit(&mut world, "g", "t", 41), 0);
        world.hang(hanging);
        let request = commit_request("g", "t", 42);
        let awaited = world.send(1, ApiKey::OffsetCommit, COMMIT, &request);
        world.run();
        let answer = world.answer::<OffsetCommitRequest>(awaited, ApiKey::OffsetCommit, COMMIT);
        slow += u32::from(answer.is_none());
        world.wait(GIVEN_UP);
        world.unhang();
        let now = committed(&mut world, "g", "t")[0].committed_offset;
        world.cut_power();
        assert_eq!((now, committed(&mut world, "g", "t")[0].committed_offset), (42, 42));
    }
    assert_eq!(slow, 1, "the group lives on one of the cores");
}

#[test]
fn a_coordinator_that_cannot_read_its_log_just_now_tries_again_and_forgets_nothing() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    assert_eq!(commit(&mut world, "g", "t", 41), 0);
    // Until everything lies in segments.
    (0..100).for_each(|_| world.wait(Duration::from_secs(1)));
    let mut spoilt = 0;
    world.cut_power_and_spoil(|disk| {
        let names: Vec<FileName> = disk.all().map(|(name, _)| name).collect();
        for name in names {
            if let FileName::Segment { log, .. } = name
                && log != LogId::METADATA
            {
                disk.inject(Fault::Fail(name, DiskErrorKind::NoDescriptors));
                spoilt += 1;
            }
        }
    });
    assert!(spoilt > 0, "the offsets are in a segment");
    let fetch = || {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_topics(None);
        OffsetFetchRequest::default().with_groups(vec![group])
    };
    let code = world.ask(0, ApiKey::OffsetFetch, 8, &fetch()).groups[0].error_code;
    assert_eq!(code, ErrorCode::CoordinatorLoadInProgress.code());
    world.wait(Duration::from_secs(2));
    assert_eq!(committed(&mut world, "g", "t")[0].committed_offset, 41);
}

/// Else they would go back to where they were long ago, or begin anew.
#[test]
fn groups_whose_commits_are_damaged_wait_until_somebody_accepts_that() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    assert_eq!(commit(&mut world, "g", "t", 41), 0);
    // Until everything lies in segments.
    (0..100).for_each(|_| world.wait(Duration::from_secs(1)));
    let mut disks = world.disks().to_vec();
    for disk in &mut disks {
        disk.crash();
        let names: Vec<FileName> = disk.all().map(|(name, _)| name).collect();
        for name in names {
            if let FileName::Segment { log, .. } = name
                && log != LogId::METADATA
            {
                disk.flip_bit(name, 70, 3);
            }
        }
    }
    let mut waiting = world.reborn(disks.clone(), false).expect("it starts");
    waiting.wait(Duration::from_secs(60));
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_topics(None);
    let fetch = OffsetFetchRequest::default().with_groups(vec![group]);
    let code = waiting.ask(0, ApiKey::OffsetFetch, 8, &fetch).groups[0].error_code;
    assert_eq!(code, ErrorCode::CoordinatorLoadInProgress.code());
    assert_eq!(waiting.unreadable().len(), 1, "an operator is told");
    let mut accepted = world.reborn(disks, true).expect("it starts");
    assert_eq!(committed(&mut accepted, "g", "t")[0].committed_offset, -1);
}

/// Deletes a topic.
pub fn delete(world: &mut World, topic: &str) {
    let delete =
        DeleteTopicsRequest::default().with_timeout_ms(1000).with_topic_names(vec![name(topic)]);
    let answer = world.ask(1, ApiKey::DeleteTopics, 3, &delete);
    assert_eq!(answer.responses[0].error_code, 0);
}

#[test]
fn a_deleted_topic_is_gone_at_once_and_stays_gone() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    world.ask(0, ApiKey::Produce, PRODUCE, &produce_request("t", 0, "x"));
    let waiting = world.send(1, ApiKey::Fetch, FETCH, &fetch_request("t", 0, 1, 60_000));
    world.run();
    delete(&mut world, "t");
    let answer = world.answer::<FetchRequest>(waiting, ApiKey::Fetch, FETCH);
    let answer = answer.expect("a reader that waits is told");
    assert_ne!(answer.responses[0].partitions[0].error_code, 0);
    world.cut_power();
    let answer = world.ask(0, ApiKey::Fetch, FETCH, &fetch_request("t", 0, 0, 0));
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
    make_topic(&mut world, "t");
    assert_eq!(read_all(&mut world, 0, "t", 0), Vec::<String>::new(), "the new one is empty");
}

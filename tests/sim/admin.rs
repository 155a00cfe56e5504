//! Changes to topics that meet other changes, slow wires and slow disks.
//!
//! Does: let changes overlap, then look at what every core and every disk makes of them.
//! Does not: check what a single change does; the other stories do.
//! Invariants: what was acknowledged holds, whatever else happened at the same time.
//! Apart from the other stories because here it is the order of things that matters.

use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    StrBytes,
};
use flumen_storage::op::FileName;

use crate::stories::{
    DELETE_RECORDS, FETCH, commit, committed, delete, delete_records_request, fetch_request,
    make_topic, name, produce_request, read_all,
};
use crate::world::{Awaited, World};

const CREATE: i16 = 5;
const DELETE: i16 = 4;
const PRODUCE: i16 = 9;
const OUT_OF_ORDER: i16 = 45;
/// The first that knows the largest time.
const LIST: i16 = 7;

fn create_request(topic: &str, partitions: i32) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

fn send_create(world: &mut World, core: usize, topic: &str) -> Awaited {
    world.send(core, ApiKey::CreateTopics, CREATE, &create_request(topic, 4))
}

/// Begins to make a topic, which waits for the disk of the controller's core.
fn begin_create(world: &mut World, topic: &str) -> Awaited {
    let awaited = send_create(world, 0, topic);
    world.run_without_disks();
    assert_eq!(created(world, awaited), None, "it is on its way");
    awaited
}

/// Whether there is such a topic.
fn exists(world: &mut World, topic: &str) -> bool {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![asked]))
        .with_allow_auto_topic_creation(false);
    world.ask(1, ApiKey::Metadata, 9, &request).topics[0].error_code == 0
}

/// The error code of a creation, if it is answered.
fn created(world: &mut World, awaited: Awaited) -> Option<i16> {
    let answer = world.answer::<CreateTopicsRequest>(awaited, ApiKey::CreateTopics, CREATE)?;
    Some(answer.topics[0].error_code)
}

#[test]
fn a_core_that_hears_of_leaders_before_their_topic_knows_them_all() {
    let mut world = World::new(3);
    world.slow_down(0, 2);
    let (older, newer) = (send_create(&mut world, 0, "older"), send_create(&mut world, 1, "newer"));
    world.run();
    world.speed_up();
    assert_eq!((created(&mut world, older), created(&mut world, newer)), (Some(0), Some(0)));
    for core in 0..3 {
        let asked = ["older", "newer"];
        let asked = asked.map(|it| MetadataRequestTopic::default().with_name(Some(name(it))));
        let request = MetadataRequest::default().with_topics(Some(asked.to_vec()));
        let answer = world.ask(core, ApiKey::Metadata, 9, &request);
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!((partition.error_code, partition.leader_id.0), (0, 1), "core {core}");
        }
    }
}

#[test]
fn a_change_that_timed_out_before_its_turn_does_not_happen() {
    let mut world = World::new(2);
    let first = begin_create(&mut world, "first");
    let late = [(0, "own", 50), (1, "other", 50), (0, "at-once", 0), (1, "from-there", 0)];
    let late = late.map(|(core, topic, timeout_ms)| {
        let request = create_request(topic, 4).with_timeout_ms(timeout_ms);
        (topic, world.send(core, ApiKey::CreateTopics, CREATE, &request))
    });
    world.run_without_disks();
    world.wait_without_disks(Duration::from_millis(50));
    for (topic, awaited) in late {
        let code = created(&mut world, awaited);
        assert_eq!(code, Some(ErrorCode::RequestTimedOut.code()), "{topic}");
    }
    world.run();
    assert_eq!(created(&mut world, first), Some(0));
    for (topic, _) in late {
        assert!(!exists(&mut world, topic), "{topic}");
    }
    assert!(exists(&mut world, "first"));
}

#[test]
fn more_changes_than_can_wait_are_refused_at_once() {
    const WAITING: usize = 1024;
    let mut world = World::new(2);
    let first = begin_create(&mut world, "first");
    let check = create_request("checked", 4).with_validate_only(true);
    let send = |world: &mut World| world.send(1, ApiKey::CreateTopics, CREATE, &check);
    let many: Vec<Awaited> = (0..WAITING + 100).map(|_| send(&mut world)).collect();
    world.run_without_disks();
    for (place, awaited) in many.iter().enumerate() {
        let refused = (place >= WAITING).then_some(ErrorCode::RequestTimedOut.code());
        assert_eq!(created(&mut world, *awaited), refused, "{place}");
    }
    world.run();
    assert_eq!(created(&mut world, first), Some(0));
    assert!(many[..WAITING].iter().all(|awaited| created(&mut world, *awaited) == Some(0)));

    // What is large fills the room with fewer of them.
    let first = begin_create(&mut world, "second");
    let topics: Vec<CreatableTopic> = (0..10_000)
        .map(|number| create_request(&format!("checked-{number:0>240}"), 4).topics.remove(0))
        .map(|topic| topic.with_num_partitions(1))
        .collect();
    let check = check.with_topics(topics);
    let many = [(); 6].map(|()| world.send(0, ApiKey::CreateTopics, CREATE, &check));
    world.run_without_disks();
    let refused = many.map(|awaited| created(&mut world, awaited).is_some());
    assert_eq!(refused, [false, false, false, false, true, true]);
    world.run();
    assert_eq!(created(&mut world, first), Some(0));
}

/// Groups whose offsets lie in partitions 0 to 3 of their topic, on either core.
const GROUPS: [&str; 4] = ["d", "e", "f", "g"];

#[test]
fn offsets_of_a_topic_deleted_while_groups_are_loaded_are_not_found_in_its_successor() {
    for hanging in 0..2 {
        let mut world = World::new(2);
        make_topic(&mut world, "t");
        make_topic(&mut world, "kept");
        for group in GROUPS {
            assert_eq!(commit(&mut world, group, "t", 41), 0);
            assert_eq!(commit(&mut world, group, "kept", 42), 0);
        }
        if hanging == 1 {
            world.hang(1);
        }
        world.cut_power();
        delete(&mut world, "t");
        let again = send_create(&mut world, 0, "t");
        world.run();
        world.unhang();
        assert_eq!(created(&mut world, again), Some(0));
        for _ in 0..2 {
            for group in GROUPS {
                assert_eq!(committed(&mut world, group, "t")[0].committed_offset, -1, "{group}");
                assert_eq!(committed(&mut world, group, "kept")[0].committed_offset, 42);
            }
            world.cut_power();
        }
        assert_eq!(commit(&mut world, "g", "t", 43), 0);
        world.cut_power();
        assert_eq!(committed(&mut world, "g", "t")[0].committed_offset, 43);
    }
}

#[test]
fn offsets_whose_tombstones_the_power_took_are_forgotten_when_groups_are_loaded() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    for group in GROUPS {
        assert_eq!(commit(&mut world, group, "t", 41), 0);
    }
    world.hang(1);
    delete(&mut world, "t");
    world.unhang_by_power_cut();
    make_topic(&mut world, "t");
    for group in GROUPS {
        assert_eq!(committed(&mut world, group, "t")[0].committed_offset, -1, "{group}");
    }
}

/// Asks where the first partition of a topic has the first record as young as this, or what else the time means.
fn look_up(world: &mut World, topic: &str, time: i64) -> Awaited {
    let partition =
        ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(time);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    world.send(0, ApiKey::ListOffsets, LIST, &request)
}

/// What a look-up was answered, if it was, without any disk.
fn looked_up(world: &mut World, awaited: Awaited) -> Option<i64> {
    world.run_without_disks();
    let answer = world.answer::<ListOffsetsRequest>(awaited, ApiKey::ListOffsets, LIST)?;
    Some(answer.topics[0].partitions[0].offset)
}

/// What clients are told of where the first partition of a topic begins, without any disk.
fn told_start(world: &mut World, topic: &str) -> i64 {
    let awaited = look_up(world, topic, -2);
    looked_up(world, awaited).expect("it needs no disk")
}

/// A node with one record whose retention has let go of it, on a disk that hangs meanwhile.
fn losing_all_of_it() -> World {
    let mut world = World::new(1);
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let keep_nothing = CreatableTopicConfig::default()
        .with_name(text("retention.bytes"))
        .with_value(Some(text("0")));
    let mut request = create_request("t", 4);
    request.topics[0].configs = vec![keep_nothing];
    assert_eq!(world.ask(0, ApiKey::CreateTopics, CREATE, &request).topics[0].error_code, 0);
    world.ask(0, ApiKey::Produce, 9, &produce_request("t", 0, "x"));
    world.wait(Duration::from_secs(100));
    world.hang(0);
    world.wait_without_disks(Duration::from_secs(301));
    world
}

#[test]
fn clients_hear_of_what_retention_deletes_once_it_is_on_the_disk() {
    let mut world = losing_all_of_it();
    assert_eq!(told_start(&mut world, "t"), 0, "a power cut would bring it back");
    world.unhang();
    assert_eq!(told_start(&mut world, "t"), 1);
}

#[test]
fn a_look_up_by_time_passes_over_nothing_that_a_power_cut_brings_back() {
    for time in [0, -3] {
        let mut world = losing_all_of_it();
        let awaited = look_up(&mut world, "t", time);
        assert_eq!(looked_up(&mut world, awaited), None, "{time}: it may still come back");
        world.unhang_by_power_cut();
        let awaited = look_up(&mut world, "t", time);
        world.run();
        assert_eq!(looked_up(&mut world, awaited), Some(0), "{time}: it came back");

        let mut world = losing_all_of_it();
        let awaited = look_up(&mut world, "t", time);
        assert_eq!(looked_up(&mut world, awaited), None);
        world.unhang();
        assert_eq!(looked_up(&mut world, awaited), Some(-1), "{time}: it is gone for good");
    }
}

/// Asks for the records of the first partition of a topic from its beginning.
fn fetch(world: &mut World, topic: &str) -> Awaited {
    world.send(0, ApiKey::Fetch, FETCH, &fetch_request(topic, 0, 0, 0))
}

/// The error code of that, if it was answered, without any disk.
fn fetched(world: &mut World, awaited: Awaited) -> Option<i16> {
    world.run_without_disks();
    let answer = world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH)?;
    Some(answer.responses[0].partitions[0].error_code)
}

#[test]
fn a_read_is_not_told_that_what_a_power_cut_brings_back_is_out_of_range() {
    let mut world = losing_all_of_it();
    let awaited = fetch(&mut world, "t");
    assert_eq!(fetched(&mut world, awaited), None, "clients were told that it is there");
    world.unhang_by_power_cut();
    assert_eq!(read_all(&mut world, 0, "t", 0), ["x"], "it came back");

    let mut world = losing_all_of_it();
    let awaited = fetch(&mut world, "t");
    assert_eq!(fetched(&mut world, awaited), None);
    world.unhang();
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(fetched(&mut world, awaited), Some(out_of_range), "it is gone for good");
}

/// The deletion is an entry of the log. When an earlier one rots, it goes with all that lies behind that.
#[test]
fn a_deletion_that_was_acknowledged_or_told_outlives_the_loss_of_an_entry_before_it() {
    // What a power cut keeps of a write is up to the disk: each time something else.
    for records in 2..8 {
        let done = (0..).find(|steps| lose_before_deletion(records, *steps));
        assert!(done.is_some_and(|steps| steps > 2), "{done:?}");
    }
}

/// So many operations of disks after the first of some records is to be deleted, the power goes and the last
/// one rots. Says whether the deletion was over by then.
fn lose_before_deletion(records: i64, mut steps: usize) -> bool {
    let mut world = World::new(1);
    make_topic(&mut world, "t");
    for number in 1..=records {
        let value = if number == records { "the last record" } else { "another" };
        world.ask(0, ApiKey::Produce, PRODUCE, &produce_request("t", 0, value));
    }
    let request = delete_records_request("t", 0, 1);
    let awaited = world.send(0, ApiKey::DeleteRecords, DELETE_RECORDS, &request);
    let is_over = world.run_steps(&mut steps);
    let told = told_start(&mut world, "t");
    let answer =
        world.answer::<DeleteRecordsRequest>(awaited, ApiKey::DeleteRecords, DELETE_RECORDS);
    let is_done = answer.is_some_and(|it| it.topics[0].partitions[0].error_code == 0);
    assert!(told == 1 || !is_done, "it is done when clients see it");
    assert!(is_done || !is_over);
    world.cut_power_and_spoil(|disk| {
        let files: Vec<(FileName, Bytes)> = disk.all().collect();
        for (file, bytes) in files {
            let place = bytes.windows(15).position(|found| found == b"the last record");
            if let (FileName::Journal(_), Some(at)) = (file, place) {
                disk.flip_bit(file, at as u64, 1);
            }
        }
    });
    assert!(told_start(&mut world, "t") >= told, "{records} records, cut with {told} told");
    let end = look_up(&mut world, "t", -1);
    assert_eq!(looked_up(&mut world, end), Some(records - 1), "the last is lost");
    is_over
}

#[test]
fn a_look_up_by_time_that_waits_for_the_disk_ends_with_its_topic() {
    let mut world = losing_all_of_it();
    let awaited = look_up(&mut world, "t", 0);
    assert_eq!(looked_up(&mut world, awaited), None);
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![name("t")]).with_timeout_ms(10_000);
    world.send(0, ApiKey::DeleteTopics, DELETE, &request);
    world.unhang();
    assert!(looked_up(&mut world, awaited).is_some());
}

/// Asks for the record of this sequence, which is its value, to be appended by an idempotent producer.
fn idempotent(partition: i32, sequence: i32) -> ProduceRequest {
    let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
    let mut batch = BatchBuilder::new().with_producer(id, epoch, Sequence(sequence));
    let (timestamp, value) = (1_700_000_000_000, sequence.to_string());
    batch.push(&NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] });
    let mut request = produce_request("t", partition, "");
    request.topic_data[0].partition_data[0].records = Some(batch.finish().freeze());
    request
}

/// A topic with so many partitions is made, or one with fewer grown.
fn begin_to_have(world: &mut World, count: i32, is_there: bool) {
    if is_there {
        let grown = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(count)
            .with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_timeout_ms(9_000).with_topics(vec![grown]);
        world.send(0, ApiKey::CreatePartitions, 3, &request);
    } else {
        world.send(0, ApiKey::CreateTopics, CREATE, &create_request("t", count));
    }
    world.run();
}

#[test]
fn what_was_sent_behind_a_batch_that_came_before_its_partition_does_not_overtake_it() {
    const PARTITIONS: i32 = 6;
    for (asking, is_there) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut world = World::new(3);
        if is_there {
            begin_to_have(&mut world, 1, false);
        }
        let had = i32::from(is_there);
        // The last core hears of the partitions late: as the one that is asked, or that owns them.
        world.slow_down(0, 2);
        begin_to_have(&mut world, PARTITIONS, is_there);
        let send = |world: &mut World, partition, sequence| {
            let request = idempotent(partition, sequence);
            let answer = world.ask(asking, ApiKey::Produce, PRODUCE, &request);
            answer.responses[0].partition_responses[0].error_code
        };
        let firsts = (had..PARTITIONS).map(|partition| send(&mut world, partition, 0));
        let firsts: Vec<i16> = firsts.collect();
        let early = firsts.iter().filter(|code| **code != 0).count();
        assert_eq!(early, if asking == 2 { firsts.len() } else { 2 }, "{asking}: {firsts:?}");
        world.speed_up();
        for (partition, first) in (had..PARTITIONS).zip(firsts) {
            let expected = if first == 0 { 0 } else { OUT_OF_ORDER };
            for _ in 0..2 {
                let behind = send(&mut world, partition, 1);
                assert_eq!(behind, expected, "{asking}, {is_there}: {partition} after {first}");
            }
            let again = [0, 1, 2].map(|sequence| send(&mut world, partition, sequence));
            assert_eq!(again, [0; 3], "{asking}, {is_there}: {partition} after {first}");
            assert_eq!(read_all(&mut world, 0, "t", partition), ["0", "1", "2"]);
        }
    }
}

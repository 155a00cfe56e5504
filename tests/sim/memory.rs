//! What a node holds in memory while its disks or its clients do not keep up.
//!
//! Does: let disks stand still under producers that give up, and committers that come again.
//! Does not: measure memory; it counts what was taken and what was refused.
//! Invariants: each story says in its name what holds.
//! Apart because these stories need a node with little memory.

use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::create_topics_request::CreatableTopic;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FindCoordinatorRequest, GroupId,
    OffsetCommitRequest, OffsetCommitResponse, ProduceRequest, StrBytes,
};

use crate::stories::{PRODUCE, make_topic, name, produce_request, read_all};
use crate::world::World;

const BUDGET: usize = 12 << 20;
/// Twice the budget.
const QUEUED_MAX: usize = 24 << 20;
const RECORD_BYTES: usize = 512 << 10;
/// Longer than any producer here waits, and than a commit may take.
const TOO_LONG: Duration = Duration::from_secs(11);

fn large() -> ProduceRequest {
    produce_request("t", 0, &"x".repeat(RECORD_BYTES)).with_timeout_ms(0)
}

/// Sends a large record to a standing disk and gives up waiting; the code of the answer.
fn produce_in_vain(world: &mut World) -> i16 {
    let awaited = world.send(0, ApiKey::Produce, PRODUCE, &large());
    world.run_without_disks();
    world.wait_without_disks(TOO_LONG);
    let answer = world.answer::<ProduceRequest>(awaited, ApiKey::Produce, PRODUCE);
    answer.expect("told in time").responses[0].partition_responses[0].error_code
}

#[test]
fn producers_that_give_up_on_a_standing_disk_do_not_fill_the_memory() {
    let mut world = World::with_memory(1, BUDGET);
    make_topic(&mut world, "t");
    let sent = 3 * QUEUED_MAX / RECORD_BYTES;
    for _ in 0..sent {
        // Retriable, whether it was taken and is late or was not taken.
        assert_eq!(produce_in_vain(&mut world), ErrorCode::RequestTimedOut.code());
    }
    assert_eq!(world.open_bytes(0), 0, "nobody waits");
    world.run();
    let taken = read_all(&mut world, 0, "t", 0).len();
    assert!(taken <= QUEUED_MAX / RECORD_BYTES + 4, "{taken} of {sent} were taken");
    assert!(taken >= QUEUED_MAX / RECORD_BYTES, "only {taken} of {sent} were taken");
    assert_eq!(world.refused_for_memory(0), (sent - taken) as u64);
    let answer = world.ask(0, ApiKey::Produce, PRODUCE, &large());
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "there is room again");
}

/// Partitions of a topic whose offsets are committed together.
const WIDE: i32 = 200;

fn make_wide_topic(world: &mut World) {
    let topic = CreatableTopic::default()
        .with_name(name("wide"))
        .with_num_partitions(WIDE)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer: CreateTopicsResponse = world.ask(0, ApiKey::CreateTopics, 5, &request);
    assert_eq!(answer.topics[0].error_code, 0);
}

/// Bytes of a note beside an offset: as many as a client may leave.
const NOTE: usize = 4096;

/// A commit of an offset of each partition, with a long note.
fn notes(group: usize) -> OffsetCommitRequest {
    let partitions = (0..WIDE).map(|partition| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(1)
            .with_committed_metadata(Some(StrBytes::from_string("n".repeat(NOTE))))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("wide"))
        .with_partitions(partitions.collect());
    let group = GroupId(StrBytes::from_string(format!("g{group}")));
    OffsetCommitRequest::default()
        .with_group_id(group)
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// Commits notes to a standing disk; the code of the answer.
fn commit_in_vain(world: &mut World, group: usize) -> i16 {
    let awaited = world.send(0, ApiKey::OffsetCommit, 8, &notes(group));
    world.run_without_disks();
    world.wait_without_disks(TOO_LONG);
    let answer: Option<OffsetCommitResponse> =
        world.answer::<OffsetCommitRequest>(awaited, ApiKey::OffsetCommit, 8);
    answer.expect("told in time").topics[0].partitions[0].error_code
}

#[test]
fn commits_have_room_beside_producers_and_end_too() {
    let mut world = World::with_memory(1, BUDGET);
    make_topic(&mut world, "t");
    make_wide_topic(&mut world);
    let find = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
    assert_eq!(world.ask(0, ApiKey::FindCoordinator, 3, &find).error_code, 0);
    for _ in 0..=QUEUED_MAX / RECORD_BYTES {
        produce_in_vain(&mut world);
    }
    assert!(world.refused_for_memory(0) <= 1, "producers filled the queue");
    let mut codes = (0..60).map(|group| commit_in_vain(&mut world, group));
    let unavailable = ErrorCode::CoordinatorNotAvailable.code();
    assert!(codes.all(|code| code == unavailable), "late or refused, a client comes again");
    assert!((2..50).contains(&world.refused_for_memory(0)), "some were taken, not all");
    world.run();
    assert_eq!(world.open_bytes(0), 0);
}

#[test]
fn coordinators_of_a_core_share_what_memory_there_is_for_them() {
    // Four times what its requests may hold (`COORDINATORS_SHARE`).
    const SHARE: usize = 4 * BUDGET;
    let mut world = World::with_memory(1, BUDGET);
    make_wide_topic(&mut world);
    let find = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
    assert_eq!(world.ask(0, ApiKey::FindCoordinator, 3, &find).error_code, 0);
    let too_large = ErrorCode::InvalidCommitOffsetSize.code();
    let mut taken = 0;
    // The groups' offsets lie in all partitions of their topic; each alone would take twice as much.
    for group in 0..80 {
        let answer = world.ask(0, ApiKey::OffsetCommit, 8, &notes(group));
        let codes: Vec<i16> =
            answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert!(codes.iter().all(|code| [0, too_large].contains(code)), "{codes:?}");
        taken += codes.iter().filter(|code| **code == 0).count();
    }
    assert!(taken * NOTE < SHARE, "{taken} notes");
    assert!(taken * NOTE > SHARE / 10 * 9, "{taken} notes");
    let again = world.ask(0, ApiKey::OffsetCommit, 8, &notes(0));
    assert_eq!(again.topics[0].partitions[0].error_code, 0, "who has committed goes on");
}

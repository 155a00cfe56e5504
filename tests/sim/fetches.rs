//! What a fetch over several partitions and cores gives, and when.
//!
//! Does: read with limits, minimums and waits that differ from partition to partition.
//! Does not: look at single rooms; their own tests do.
//! Invariants: partitions 0 to 3 of a topic lie on different cores by turns.
//! Apart from the other stories because KIP-74 has many corners.

use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::FetchResponse;
use flumen_protocol::messages::{BrokerId, FetchRequest, ProduceRequest};

use crate::stories::{PRODUCE, make_topic, name, produce_request};
use crate::world::{Awaited, World};

pub const FETCH: i16 = 11;
const PLENTY: i32 = 1 << 20;
/// What the value of a record adds to its batch in these stories, a little more than its length.
const BATCH_EXTRA: usize = 80;

/// A fetch from a partition's offset with the partition's own limit.
type Wanted = (i32, i64, i32);

pub fn request(wanted: &[Wanted], bytes: std::ops::RangeInclusive<i32>) -> FetchRequest {
    let partitions = wanted.iter().map(|(partition, from, max)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*from)
            .with_partition_max_bytes(*max)
    });
    let topic = FetchTopic::default().with_topic(name("t")).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(30_000)
        .with_min_bytes(*bytes.start())
        .with_max_bytes(*bytes.end())
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn node() -> World {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    world
}

fn produce(world: &mut World, partition: i32, length: usize) {
    let request = produce_request("t", partition, &"x".repeat(length));
    let answer = world.ask(0, ApiKey::Produce, PRODUCE, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

fn send(world: &mut World, request: &FetchRequest) -> Awaited {
    let awaited = world.send(1, ApiKey::Fetch, FETCH, request);
    world.run();
    awaited
}

/// How many bytes each partition gave, if there is an answer.
fn given(world: &mut World, awaited: Awaited) -> Option<Vec<usize>> {
    let answer: FetchResponse = world.answer::<FetchRequest>(awaited, ApiKey::Fetch, FETCH)?;
    let sizes = answer.responses[0].partitions.iter().map(|partition| {
        assert_eq!(partition.error_code, 0);
        partition.records.as_ref().map_or(0, bytes::Bytes::len)
    });
    let sizes = sizes.collect();
    assert_eq!((world.open_bytes(0), world.open_bytes(1)), (0, 0), "nothing is left over");
    Some(sizes)
}

/// The size of each partition's answer in records of `length`.
fn records(sizes: &[usize], length: usize) -> Vec<usize> {
    let per_record = sizes.iter().map(|size| size / length);
    let counts: Vec<usize> = per_record.collect();
    let exact =
        sizes.iter().zip(&counts).all(|(size, count)| size - count * length <= count * BATCH_EXTRA);
    assert!(exact, "{sizes:?} are whole batches of {length}");
    counts
}

#[test]
fn a_reader_at_the_end_gets_the_batch_that_is_larger_than_its_limit() {
    let mut world = node();
    for partition in 0..4 {
        let awaited = send(&mut world, &request(&[(partition, 0, 100)], 1..=PLENTY));
        produce(&mut world, partition, 5000);
        let sizes = given(&mut world, awaited).expect("the news are given, whatever their size");
        assert_eq!(records(&sizes, 5000), [1]);
    }
}

#[test]
fn a_partition_named_many_times_is_asked_once_and_leaves_others_their_news() {
    let mut world = node();
    let greedy = send(&mut world, &request(&[(2, 0, 100); 20_000], 1..=PLENTY));
    let modest = send(&mut world, &request(&[(2, 0, PLENTY)], 1..=PLENTY));
    produce(&mut world, 2, 500);
    for awaited in [greedy, modest] {
        let sizes = given(&mut world, awaited).expect("the news");
        assert_eq!(records(&sizes, 500), [1], "one answer for one partition");
    }
}

#[test]
fn a_reader_without_any_limit_to_spend_waits_like_the_others() {
    let mut world = node();
    let awaited = send(&mut world, &request(&[(0, 0, 0), (1, 0, 0)], 1..=PLENTY));
    world.wait(Duration::from_secs(1));
    assert_eq!(given(&mut world, awaited), None, "an empty answer would be asked again at once");
    produce(&mut world, 1, 500);
    let sizes = given(&mut world, awaited).expect("the news");
    assert_eq!(records(&sizes, 500), [0, 1]);
}

#[test]
fn a_partition_that_may_give_no_more_is_not_waited_for() {
    let mut world = node();
    for partition in 0..4 {
        produce(&mut world, partition, 1000);
        produce(&mut world, partition, 1000);
        // The first batch fits, the second does not, and both are less than the minimum.
        let awaited = send(&mut world, &request(&[(partition, 0, 1500)], 5000..=PLENTY));
        let sizes = given(&mut world, awaited).expect("what fits is given at once");
        assert_eq!(records(&sizes, 1000), [1]);
    }
}

#[test]
fn what_several_cores_give_counts_together() {
    let mut world = node();
    let wanted = [(0, 0, PLENTY), (1, 0, PLENTY), (2, 0, PLENTY), (3, 0, PLENTY)];
    let awaited = send(&mut world, &request(&wanted, 4000..=PLENTY));
    for partition in [3, 0, 2] {
        produce(&mut world, partition, 1000);
        assert_eq!(given(&mut world, awaited), None);
    }
    produce(&mut world, 3, 1000);
    let sizes = given(&mut world, awaited).expect("enough is there");
    assert_eq!(records(&sizes, 1000), [1, 0, 1, 2]);
}

#[test]
fn the_first_partition_with_data_gives_a_batch_and_the_others_keep_to_the_limits() {
    let mut world = node();
    for partition in [1, 2, 3] {
        produce(&mut world, partition, 1000);
        produce(&mut world, partition, 1000);
    }
    let mut ask = |wanted: &[Wanted], max| {
        let awaited = send(&mut world, &request(wanted, 1..=max));
        records(&given(&mut world, awaited).expect("there is data"), 1000)
    };
    // Over its own limit and the limit of all.
    assert_eq!(ask(&[(0, 0, 10), (1, 0, 10), (2, 0, PLENTY)], 10), [0, 1, 0]);
    // Only the first may go over its own limit.
    assert_eq!(ask(&[(1, 0, 10), (2, 0, 10), (3, 0, PLENTY)], PLENTY), [1, 0, 2]);
    // The limit of all is spent in the order of the request.
    let all = |order: [i32; 3]| order.map(|partition| (partition, 0, PLENTY));
    assert_eq!(ask(&all([3, 1, 2]), 3500), [2, 1, 0]);
    assert_eq!(ask(&all([2, 3, 1]), 3500), [2, 1, 0]);
}

#[test]
fn a_record_ends_the_wait_for_many_idle_partitions() {
    let mut world = node();
    let wanted: Vec<Wanted> = (0..4).cycle().take(2000).map(|p| (p, 0, PLENTY)).collect();
    let awaited = send(&mut world, &request(&wanted, 1..=PLENTY));
    world.wait(Duration::from_secs(20));
    assert_eq!(given(&mut world, awaited), None);
    produce(&mut world, 2, 1000);
    let sizes = given(&mut world, awaited).expect("pushed");
    assert!(sizes.iter().any(|size| *size > 0));
}

#[test]
fn a_failed_produce_leaves_the_reader_waiting() {
    let mut world = node();
    let awaited = send(&mut world, &request(&[(0, 0, PLENTY)], 1..=PLENTY));
    let mut bad: ProduceRequest = produce_request("t", 0, "x");
    bad.topic_data[0].partition_data[0].records = Some("no batch".into());
    let answer = world.ask(0, ApiKey::Produce, PRODUCE, &bad);
    assert_ne!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(given(&mut world, awaited), None);
}

#[test]
fn a_session_of_another_broker_is_unknown_and_may_be_left_for_a_new_one_or_none() {
    let mut world = node();
    produce(&mut world, 1, 1000);
    let asked = request(&[(1, 0, PLENTY)], 1..=PLENTY);
    let next_step = asked.clone().with_session_id(5).with_session_epoch(3).with_topics(Vec::new());
    let answer = world.ask(0, ApiKey::Fetch, FETCH, &next_step);
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound.code());
    // A new one, a new one instead of another, none at all instead of another.
    for (id, epoch) in [(0, 0), (5, 0), (5, -1)] {
        let asked = asked.clone().with_session_id(id).with_session_epoch(epoch);
        let answer = world.ask(0, ApiKey::Fetch, FETCH, &asked);
        assert_eq!((answer.error_code, answer.session_id != 0), (0, epoch == 0));
        assert!(answer.responses[0].partitions[0].records.is_some());
    }
}

#[test]
fn what_is_gathered_for_a_client_that_is_gone_is_counted_until_it_is_there() {
    let mut world = node();
    let wanted = [(0, 0, PLENTY), (1, 0, PLENTY), (2, 0, PLENTY), (3, 0, PLENTY)];
    for partition in 0..4 {
        produce(&mut world, partition, 1000);
    }
    // It would wait for more than there is.
    world.send(1, ApiKey::Fetch, FETCH, &request(&wanted, PLENTY..=PLENTY));
    world.hang_up(1);
    world.turn(1);
    assert!(world.open_bytes(1) >= PLENTY as usize, "the other core still reads");
    world.run();
    assert_eq!((world.open_bytes(0), world.open_bytes(1)), (0, 0), "nobody waits any more");
}

#[test]
fn little_memory_makes_answers_small_and_no_reader_starve() {
    let mut world = World::with_memory(2, 6 << 20);
    make_topic(&mut world, "t");
    for partition in 0..4 {
        produce(&mut world, partition, 900_000);
        produce(&mut world, partition, 900_000);
    }
    let all = [0, 1, 2, 3].map(|partition| (partition, 0, 4 * PLENTY));
    let awaited = send(&mut world, &request(&all, 1..=50 * PLENTY));
    let sizes = given(&mut world, awaited).expect("there is data");
    assert_eq!(records(&sizes, 900_000), [1, 0, 0, 0], "a quarter of the budget");
    let awaited = send(&mut world, &request(&[(2, 1, PLENTY)], 1..=50 * PLENTY));
    assert_eq!(records(&given(&mut world, awaited).expect("the rest"), 900_000), [1]);
}

//! Clients with quotas, on a node of two cores.
//!
//! Does: set quotas as an operator does and let clients spend them; they call themselves "story".
//! Does not: look at accounts and rates themselves; their own tests do.
//! Invariants: partitions 0 to 3 of a topic lie on different cores by turns; what a window of ten
//! seconds lets through may be spent at once.
//! Apart because a quota holds for the node, whichever core is asked.

use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_topics_request::CreatableTopic;
use flumen_protocol::messages::describe_client_quotas_request::ComponentData;
use flumen_protocol::messages::{
    AlterClientQuotasRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClientQuotasRequest, HeartbeatRequest, StrBytes,
};
use flumen_protocol::time::Monotonic;

use crate::fetches::{FETCH, request};
use crate::stories::{PRODUCE, make_topic, name, produce_request};
use crate::world::World;

type Parts<'a> = &'a [(&'static str, Option<&'a str>)];

/// Kind, type of match and name of each part.
type Filter<'a> = &'a [(&'static str, i8, Option<&'a str>)];

const STORY: Parts<'static> = &[("client-id", Some("story"))];
const PLENTY: i32 = 1 << 20;

fn node() -> World {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    world
}

/// Bounds something for an entity, or not any more; the error and its message.
fn alter(
    world: &mut World,
    parts: Parts<'_>,
    ops: &[(&'static str, Option<f64>)],
) -> (i16, Option<String>) {
    let parts = parts.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
            .with_entity_name(name.map(|name| StrBytes::from_string(name.to_owned())))
    });
    let ops = ops.iter().map(|(key, value)| {
        OpData::default()
            .with_key(StrBytes::from_static_str(key))
            .with_value(value.unwrap_or(0.0))
            .with_remove(value.is_none())
    });
    let entry = EntryData::default().with_entity(parts.collect()).with_ops(ops.collect());
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    let answer = world.ask(1, ApiKey::AlterClientQuotas, 1, &request);
    let message = answer.entries[0].error_message.as_ref().map(ToString::to_string);
    (answer.entries[0].error_code, message)
}

fn limit(world: &mut World, parts: Parts<'_>, key: &'static str, bound: f64) {
    assert_eq!(alter(world, parts, &[(key, Some(bound))]), (0, None));
}

/// Keys and bounds of the entities that a filter finds.
fn described(
    world: &mut World,
    filter: Filter<'_>,
    strict: bool,
) -> Result<Vec<(String, f64)>, i16> {
    let components = filter.iter().map(|(kind, match_type, wanted)| {
        ComponentData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
            .with_match_type(*match_type)
            .with_match(wanted.map(|wanted| StrBytes::from_string(wanted.to_owned())))
    });
    let request = DescribeClientQuotasRequest::default()
        .with_components(components.collect())
        .with_strict(strict);
    let answer = world.ask(0, ApiKey::DescribeClientQuotas, 1, &request);
    let Some(entries) = answer.entries else {
        assert!(answer.error_message.is_some());
        return Err(answer.error_code);
    };
    let values = entries.into_iter().flat_map(|entry| entry.values);
    Ok(values.map(|value| (value.key.to_string(), value.value)).collect())
}

/// Produces so many bytes on a core; how long the client is told to wait.
fn produce(world: &mut World, core: usize, length: usize) -> i32 {
    let request = produce_request("t", 0, &"x".repeat(length));
    let answer = world.ask(core, ApiKey::Produce, PRODUCE, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "it is appended anyway");
    answer.throttle_time_ms
}

/// How long a core does not read this client.
fn muted(world: &mut World, core: usize) -> Duration {
    let until = world.muted.iter().find(|(connection, _)| connection.0 == core as u64);
    let until = until.map_or(Monotonic(0), |(_, until)| *until);
    until.since(world.now.monotonic)
}

#[test]
fn quotas_are_set_found_and_kept() {
    let mut world = node();
    let both: Parts<'_> = &[("user", Some("u")), ("client-id", None)];
    limit(&mut world, both, "producer_byte_rate", 5.0);
    limit(&mut world, both, "request_percentage", 0.5);
    limit(&mut world, &[("user", Some("u"))], "consumer_byte_rate", 7.0);
    limit(&mut world, &[("ip", Some("10.0.0.1"))], "connection_creation_rate", 3.0);
    world.cut_power();
    let pair = [("producer_byte_rate".to_owned(), 5.0), ("request_percentage".to_owned(), 0.5)];
    let one = [("consumer_byte_rate".to_owned(), 7.0)];
    let user = ("user", 0, Some("u"));
    assert_eq!(described(&mut world, &[user, ("client-id", 1, None)], true).unwrap(), pair);
    assert_eq!(described(&mut world, &[user], true).unwrap(), one);
    assert_eq!(described(&mut world, &[("user", 2, None)], false).unwrap().len(), 3);
    assert_eq!(described(&mut world, &[("user", 1, None)], false).unwrap(), []);
    assert_eq!(described(&mut world, &[("ip", 2, None)], true).unwrap()[0].1, 3.0);
    assert_eq!(described(&mut world, &[], false).unwrap().len(), 4);
    for core in 0..2 {
        let addresses = &world.limits[&core].arrivals.addresses;
        assert_eq!(addresses.find_address("10.0.0.1"), Some(3.0), "the doors know");
    }
    alter(&mut world, both, &[("producer_byte_rate", None), ("request_percentage", None)]);
    assert_eq!(described(&mut world, &[("client-id", 2, None)], false).unwrap(), []);
}

#[test]
fn what_makes_no_sense_is_refused_in_kafka_s_words() {
    let mut world = node();
    type Ops = &'static [(&'static str, Option<f64>)];
    const BYTES: Ops = &[("producer_byte_rate", Some(1.0))];
    let cases: [(Parts<'_>, Ops, &str); 11] = [
        (&[], BYTES, "Invalid empty client quota entity"),
        (&[("group", None)], BYTES, "Unhandled client quota entity type: group"),
        (&[("user", Some(""))], BYTES, "Empty user not supported"),
        (&[("user", None), ("user", None)], BYTES, "duplicate entity entry user"),
        (&[("user", None), ("ip", None)], BYTES, "IP entity should not be combined"),
        (&[("ip", Some("nowhere."))], BYTES, "nowhere. is not a valid IP"),
        (&[("ip", None)], BYTES, "Invalid configuration key producer_byte_rate"),
        (STORY, &[("producer_byte_rate", Some(0.0))], "must be greater than 0"),
        (STORY, &[("producer_byte_rate", Some(1.5))], "cannot be a fractional value"),
        (&[("ip", None)], &[("connection_creation_rate", Some(3e9))], "too large for an INT"),
        (STORY, &[("request_percentage", Some(1.0)), ("request_percentage", None)], "Duplicate"),
    ];
    for (parts, ops, words) in cases {
        let (code, message) = alter(&mut world, parts, ops);
        assert_eq!(code, ErrorCode::InvalidRequest.code(), "{words}");
        assert!(message.as_ref().is_some_and(|it| it.contains(words)), "{message:?}: {words}");
    }
    let invalid = Err(ErrorCode::InvalidRequest.code());
    let unknown = Err(ErrorCode::UnsupportedVersion.code());
    let filters: [(Filter<'_>, _); 6] = [
        (&[("", 2, None)], invalid.clone()),
        (&[("group", 2, None)], unknown),
        (&[("user", 0, None)], invalid.clone()),
        (&[("user", 2, Some("x"))], invalid.clone()),
        (&[("user", 3, None)], invalid.clone()),
        (&[("user", 2, None), ("ip", 2, None)], invalid),
    ];
    for (filter, expected) in filters {
        assert_eq!(described(&mut world, filter, false), expected, "{filter:?}");
    }
}

#[test]
fn a_producer_beyond_its_quota_is_told_to_wait_and_held_back() {
    let mut world = node();
    limit(&mut world, STORY, "producer_byte_rate", 10_000.0);
    for _ in 0..9 {
        assert_eq!(produce(&mut world, 0, 10_000), 0, "a window's worth is free");
    }
    // 100,000 were free; 9 times 10,100 and 30,100 are 21,000 too many.
    let wait = produce(&mut world, 0, 30_000);
    assert!((2_000..2_400).contains(&wait), "{wait} ms");
    assert_eq!(muted(&mut world, 0), Duration::from_millis(wait as u64));
    world.wait(Duration::from_millis(wait as u64));
    assert!(produce(&mut world, 0, 0) < 30, "the debt is paid");
}

#[test]
fn what_is_spent_on_one_core_is_known_on_the_other() {
    let mut world = node();
    limit(&mut world, STORY, "producer_byte_rate", 10_000.0);
    for _ in 0..15 {
        produce(&mut world, 0, 10_000);
    }
    assert_eq!(produce(&mut world, 1, 100), 0, "not told yet");
    world.wait(Duration::from_millis(100));
    let wait = produce(&mut world, 1, 100);
    assert!((4_500..5_500).contains(&wait), "{wait} ms");
    // Others do not wait for that.
    alter(&mut world, STORY, &[("producer_byte_rate", None)]);
    assert_eq!(produce(&mut world, 0, 10_000), 0);
}

#[test]
fn a_consumer_beyond_its_quota_gets_nothing_until_it_has_waited() {
    let mut world = node();
    for _ in 0..15 {
        produce(&mut world, 0, 10_000);
    }
    limit(&mut world, STORY, "consumer_byte_rate", 10_000.0);
    let fetch = |world: &mut World, from, session: (i32, i32)| {
        let wanted = request(&[(0, from, 60_000)], 1..=PLENTY);
        let wanted = wanted.with_session_id(session.0).with_session_epoch(session.1);
        let answer = world.ask(1, ApiKey::Fetch, FETCH, &wanted);
        assert_eq!(answer.error_code, 0);
        let records = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize = records.filter_map(|it| it.records.as_ref().map(|r| r.len())).sum();
        (answer.throttle_time_ms, bytes / 10_000, answer.session_id)
    };
    let (wait, batches, session) = fetch(&mut world, 0, (0, 0));
    assert_eq!((wait, batches), (0, 5));
    let (wait, batches, same) = fetch(&mut world, 5, (session, 1));
    assert_eq!((batches, same), (0, session), "the session goes on");
    assert!(wait > 0);
    assert_eq!(muted(&mut world, 1), Duration::from_millis(wait as u64));
    world.wait(Duration::from_millis(wait as u64));
    assert_eq!(fetch(&mut world, 5, (session, 2)), (0, 5, session), "nothing was missed");
    // A session that had just begun did not.
    let (wait, batches, session) = fetch(&mut world, 0, (0, 0));
    assert!(wait > 0 && batches == 0 && session == 0);
}

#[test]
fn a_batch_larger_than_the_quota_s_window_still_gets_through() {
    let mut world = node();
    produce(&mut world, 0, 30_000);
    limit(&mut world, STORY, "consumer_byte_rate", 1_000.0);
    let wanted = request(&[(0, 0, PLENTY)], 1..=PLENTY);
    let answer = world.ask(1, ApiKey::Fetch, FETCH, &wanted);
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().unwrap().len() / 30_000, 1);
    let wait = world.ask(1, ApiKey::Fetch, FETCH, &wanted).throttle_time_ms;
    assert!((29_000..32_000).contains(&wait), "{wait} ms");
}

#[test]
fn partitions_are_made_and_deleted_no_faster_than_allowed() {
    let mut world = node();
    limit(&mut world, STORY, "controller_mutation_rate", 1.0);
    let create = |world: &mut World, version, topics: &[(&str, i32)]| {
        let topics = topics.iter().map(|(topic, partitions)| {
            CreatableTopic::default()
                .with_name(name(topic))
                .with_num_partitions(*partitions)
                .with_replication_factor(1)
        });
        let request =
            CreateTopicsRequest::default().with_timeout_ms(9_000).with_topics(topics.collect());
        let answer = world.ask(1, ApiKey::CreateTopics, version, &request);
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        (codes, answer.throttle_time_ms)
    };
    let exceeded = ErrorCode::ThrottlingQuotaExceeded.code();
    // Eleven are free; what begins without a debt is done.
    let made = create(&mut world, 6, &[("a", 8), ("b", 8), ("c", 1)]);
    assert_eq!(made, (vec![0, 0, exceeded], 5_000));
    assert_eq!(muted(&mut world, 1), Duration::from_secs(5));
    // Old clients do not know that error: they are served, and wait.
    assert_eq!(create(&mut world, 5, &[("d", 1)]), (vec![0], 6_000));
    let request =
        DeleteTopicsRequest::default().with_timeout_ms(9_000).with_topic_names(vec![name("a")]);
    let answer = world.ask(1, ApiKey::DeleteTopics, 5, &request);
    assert_eq!((answer.responses[0].error_code, answer.throttle_time_ms), (exceeded, 6_000));
    let grown = CreatePartitionsTopic::default().with_name(name("a")).with_count(9);
    let grown = grown.with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_timeout_ms(9_000).with_topics(vec![grown]);
    let answer = world.ask(1, ApiKey::CreatePartitions, 3, &request);
    assert_eq!((answer.results[0].error_code, answer.throttle_time_ms), (exceeded, 6_000));
    world.wait(Duration::from_secs(6));
    assert_eq!(create(&mut world, 6, &[("c", 1)]).0, [0]);
}

#[test]
fn whoever_takes_too_much_of_a_core_s_time_waits_a_window_at_most() {
    let mut world = node();
    limit(&mut world, STORY, "request_percentage", 1.0);
    world.request_time = Duration::from_millis(60);
    let heartbeat =
        |world: &mut World| world.ask(0, ApiKey::Heartbeat, 4, &HeartbeatRequest::default());
    // Ten seconds' worth are a tenth of a second.
    assert_eq!(heartbeat(&mut world).throttle_time_ms, 0);
    assert_eq!(heartbeat(&mut world).throttle_time_ms, 0);
    assert_eq!(heartbeat(&mut world).throttle_time_ms, 1_000, "two seconds, but for the limit");
    assert_eq!(muted(&mut world, 0), Duration::from_secs(1));
    let old = world.ask(0, ApiKey::Heartbeat, 0, &HeartbeatRequest::default());
    assert_eq!(old.throttle_time_ms, 0, "there is no field for it");
    assert_eq!(muted(&mut world, 0), Duration::from_secs(1));
    // A fetch gets nothing meanwhile, and a producer is told.
    assert_eq!(produce(&mut world, 0, 10), 1_000);
    let wanted = request(&[(0, 0, PLENTY)], 1..=PLENTY);
    let answer = world.ask(0, ApiKey::Fetch, FETCH, &wanted);
    assert_eq!((answer.throttle_time_ms, answer.responses.len()), (1_000, 0));
}

#[test]
fn nobody_waits_without_a_quota() {
    let mut world = node();
    limit(&mut world, &[("client-id", Some("other"))], "producer_byte_rate", 1.0);
    for _ in 0..20 {
        assert_eq!(produce(&mut world, 0, 10_000), 0);
    }
    let wanted = request(&[(0, 0, PLENTY)], 1..=PLENTY).with_max_wait_ms(0);
    assert_eq!(world.ask(1, ApiKey::Fetch, FETCH, &wanted).throttle_time_ms, 0);
    assert!(world.muted.is_empty());
}

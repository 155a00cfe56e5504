//! Settings of brokers that change while they run.
//!
//! Does: change them over one core at every version, look at them and at what they do over another,
//! before and after a power cut.
//! Does not: say which settings there are or which values they take.
//! Invariants: what was acknowledged holds for the next request, on every core, and after a start.
//! Apart because it takes controller, cores and disk together to make a setting hold.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::alter_configs_request;
use flumen_protocol::messages::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use flumen_protocol::messages::incremental_alter_configs_request;
use flumen_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, StrBytes,
};

use crate::stories::{PRODUCE, make_topic, produce_request};
use crate::world::World;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn change_request(
    (kind, name): (i8, &str),
    changes: &[(&str, i8, &str)],
    validate_only: bool,
) -> IncrementalAlterConfigsRequest {
    let configs = changes.iter().map(|(name, operation, value)| {
        incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value((*operation != DELETE).then(|| text(value)))
    });
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only)
}

/// Changes single settings; the error codes.
fn change(
    world: &mut World,
    version: i16,
    owner: (i8, &str),
    changes: &[(&str, i8, &str)],
    validate_only: bool,
) -> i16 {
    let request = change_request(owner, changes, validate_only);
    let answer = world.ask(0, ApiKey::IncrementalAlterConfigs, version, &request);
    answer.responses[0].error_code
}

fn set(world: &mut World, owner: (i8, &str), name: &str, value: &str) {
    assert_eq!(change(world, 1, owner, &[(name, SET, value)], false), 0, "{name}={value}");
}

fn unset(world: &mut World, owner: (i8, &str), name: &str) {
    assert_eq!(change(world, 1, owner, &[(name, DELETE, "")], false), 0, "{name}");
}

/// Replaces all settings; the error code.
fn replace(world: &mut World, version: i16, name: &str, configs: &[(&str, &str)]) -> i16 {
    let configs = configs.iter().map(|(name, value)| {
        alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    world.ask(1, ApiKey::AlterConfigs, version, &request).responses[0].error_code
}

fn describe(
    world: &mut World,
    version: i16,
    (kind, name): (i8, &str),
) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let answer = world.ask(1, ApiKey::DescribeConfigs, version, &request);
    assert_eq!(answer.results[0].error_code, 0, "version {version}");
    answer.results[0].configs.clone()
}

/// A value, and the numbers of the places that set it.
fn look(world: &mut World, owner: (i8, &str), name: &str) -> (String, Vec<i8>) {
    let all = describe(world, 4, owner);
    let found = all.into_iter().find(|config| config.name.as_str() == name).expect("a setting");
    assert_eq!(found.read_only, !CHANGED.contains(&name), "{name}");
    let places: Vec<i8> = found.synonyms.iter().map(|synonym| synonym.source).collect();
    assert_eq!(found.config_source, *places.first().unwrap_or(&5));
    (found.value.map(|value| value.to_string()).unwrap_or_default(), places)
}

/// Those changed here; all others that are looked at are not changeable.
const CHANGED: [&str; 4] =
    ["message.max.bytes", "max.message.bytes", "log.retention.ms", "retention.ms"];

/// The error code of a record of so many bytes.
fn produce(world: &mut World, bytes: usize) -> i16 {
    let request = produce_request("t", 0, &"x".repeat(bytes));
    let answer = world.ask(1, ApiKey::Produce, PRODUCE, &request);
    answer.responses[0].partition_responses[0].error_code
}

const MESSAGE_TOO_LARGE: i16 = 10;

#[test]
fn a_brokers_own_value_goes_before_all_brokers_and_both_outlive_the_node() {
    let mut world = World::new(2);
    let (own, shared) = ((BROKER, "1"), (BROKER, ""));
    assert_eq!(look(&mut world, own, "message.max.bytes"), ("1048588".to_owned(), vec![5]));
    assert!(describe(&mut world, 4, shared).is_empty());
    set(&mut world, shared, "message.max.bytes", "3000");
    assert_eq!(look(&mut world, own, "message.max.bytes"), ("3000".to_owned(), vec![3, 5]));
    set(&mut world, own, "message.max.bytes", "2000");
    for _ in 0..2 {
        assert_eq!(look(&mut world, own, "message.max.bytes"), ("2000".to_owned(), vec![2, 3, 5]));
        assert_eq!(look(&mut world, shared, "message.max.bytes"), ("3000".to_owned(), vec![3]));
        world.cut_power();
    }
    unset(&mut world, own, "message.max.bytes");
    assert_eq!(look(&mut world, own, "message.max.bytes"), ("3000".to_owned(), vec![3, 5]));
    unset(&mut world, shared, "message.max.bytes");
    world.cut_power();
    assert_eq!(look(&mut world, own, "message.max.bytes"), ("1048588".to_owned(), vec![5]));
    assert!(describe(&mut world, 4, shared).is_empty());
    assert_eq!(look(&mut world, own, "num.partitions").1, [5]);
}

#[test]
fn topics_follow_at_once_and_after_a_start() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    assert_eq!(produce(&mut world, 5000), 0);
    set(&mut world, (BROKER, ""), "message.max.bytes", "1000");
    let topic = (TOPIC, "t");
    for _ in 0..2 {
        assert_eq!(produce(&mut world, 5000), MESSAGE_TOO_LARGE);
        assert_eq!(look(&mut world, topic, "max.message.bytes"), ("1000".to_owned(), vec![3, 5]));
        world.cut_power();
    }
    set(&mut world, topic, "max.message.bytes", "9000");
    assert_eq!(produce(&mut world, 5000), 0, "the topic's own value goes before");
    assert_eq!(look(&mut world, topic, "max.message.bytes").1, [1, 3, 5]);
    unset(&mut world, topic, "max.message.bytes");
    assert_eq!(produce(&mut world, 5000), MESSAGE_TOO_LARGE);
    unset(&mut world, (BROKER, ""), "message.max.bytes");
    assert_eq!(produce(&mut world, 5000), 0);
    set(&mut world, (BROKER, "1"), "log.retention.ms", "777");
    assert_eq!(look(&mut world, topic, "retention.ms"), ("777".to_owned(), vec![2, 5]));
}

#[test]
fn acknowledgements_wait_for_the_disk_or_not_as_all_brokers_are_told() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    let request = produce_request("t", 0, "x");
    set(&mut world, (BROKER, "1"), "log.flush.interval.messages", "1234");
    let relaxed = world.send(1, ApiKey::Produce, PRODUCE, &request);
    world.run_without_disks();
    let answered = |world: &mut World, awaited| {
        let answer = world.answer::<flumen_protocol::messages::ProduceRequest>(
            awaited,
            ApiKey::Produce,
            PRODUCE,
        );
        answer.is_some()
    };
    assert!(answered(&mut world, relaxed), "the disk was not asked");
    world.run();
    unset(&mut world, (BROKER, "1"), "log.flush.interval.messages");
    let durable = world.send(1, ApiKey::Produce, PRODUCE, &request);
    world.run_without_disks();
    assert!(!answered(&mut world, durable), "the disk must have it first");
    world.run();
    assert!(answered(&mut world, durable));
}

#[test]
fn every_core_hears_of_other_limits_for_connections() {
    let mut world = World::new(2);
    assert!(world.limits.is_empty(), "nothing was changed yet");
    set(&mut world, (BROKER, ""), "max.connections", "7");
    set(&mut world, (BROKER, "1"), "max.connections.per.ip", "3");
    for core in 0..2 {
        let limits = &world.limits[&core];
        assert_eq!((limits.total, limits.per_address), (4, 3), "a share of seven each");
    }
    world.limits.clear();
    world.cut_power();
    assert_eq!(world.limits[&1].per_address, 3);
    assert_eq!(replace(&mut world, 2, "1", &[]), 0);
    assert!(world.limits.values().all(|limits| limits.per_address > 1 << 30));
}

#[test]
fn settings_are_replaced_changed_and_described_at_every_version() {
    let mut world = World::new(2);
    for version in 0..=2 {
        assert_eq!(replace(&mut world, version, "1", &[("log.retention.ms", "5")]), 0);
        assert_eq!(replace(&mut world, version, "1", &[("message.max.bytes", "2000")]), 0);
        let left = look(&mut world, (BROKER, "1"), "log.retention.ms").1;
        assert_eq!(left, [5], "what is not named falls back");
        assert_eq!(look(&mut world, (BROKER, "1"), "message.max.bytes").1, [2, 5]);
        assert_eq!(replace(&mut world, version, "", &[("num.partitions", "2")]), 42);
    }
    for version in 0..=1 {
        let own = (BROKER, "1");
        let two = [("log.retention.ms", SET, "5"), ("message.max.bytes", DELETE, "")];
        assert_eq!(change(&mut world, version, own, &two, true), 0);
        assert_eq!(look(&mut world, own, "log.retention.ms").1, [5], "only asked");
        assert_eq!(change(&mut world, version, own, &two, false), 0);
        assert_eq!(look(&mut world, own, "log.retention.ms").1, [2, 5]);
        unset(&mut world, own, "log.retention.ms");
    }
    for version in 1..=4 {
        set(&mut world, (BROKER, ""), "message.max.bytes", "3000");
        let shared = describe(&mut world, version, (BROKER, ""));
        assert_eq!(shared.len(), 1, "version {version}");
        assert_eq!((shared[0].config_source, shared[0].read_only), (3, false));
        assert!(describe(&mut world, version, (BROKER, "1")).len() > 300);
    }
}

#[test]
fn what_cannot_change_is_refused_and_nothing_of_it_happens() {
    let mut world = World::new(2);
    const INVALID_CONFIG: i16 = 40;
    const INVALID_REQUEST: i16 = 42;
    let good = ("message.max.bytes", SET, "2000");
    for (name, bad, code) in [
        ("1", ("num.partitions", SET, "3"), INVALID_REQUEST),
        ("1", ("log.retention.ms", SET, "soon"), INVALID_REQUEST),
        ("1", ("log.retention.ms", SET, "0"), INVALID_REQUEST),
        ("1", ("log.retention.ms", 2, "5"), INVALID_CONFIG),
        ("1", ("log.retention.ms", 9, "5"), INVALID_REQUEST),
        ("1", ("no.such.setting", SET, "5"), INVALID_CONFIG),
        ("1", ("ssl.keystore.password", SET, "hunter2"), INVALID_REQUEST),
        ("", ("sasl.kerberos.service.name", SET, "k"), INVALID_REQUEST),
        ("2", ("log.retention.ms", SET, "5"), INVALID_REQUEST),
        ("one", ("log.retention.ms", SET, "5"), INVALID_REQUEST),
    ] {
        let answered = change(&mut world, 1, (BROKER, name), &[good, bad], false);
        assert_eq!(answered, code, "{name}: {bad:?}");
    }
    assert_eq!(look(&mut world, (BROKER, "1"), "message.max.bytes").1, [5]);
    assert!(describe(&mut world, 4, (BROKER, "")).is_empty());
}

#[test]
fn changes_at_the_same_time_all_happen() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    const APPEND: i8 = 2;
    const THROTTLED: &str = "leader.replication.throttled.replicas";
    let topic = (TOPIC, "t");
    let changes = [
        (topic, ("retention.ms", SET, "777")),
        (topic, ("max.message.bytes", SET, "9000")),
        (topic, (THROTTLED, APPEND, "1:1")),
        (topic, (THROTTLED, APPEND, "2:1")),
        ((BROKER, "1"), ("message.max.bytes", SET, "5000")),
        ((BROKER, "1"), ("log.retention.ms", SET, "888")),
        ((BROKER, ""), ("message.max.bytes", SET, "6000")),
        ((BROKER, ""), ("log.retention.ms", SET, "999")),
    ];
    let key = ApiKey::IncrementalAlterConfigs;
    let mut sent = Vec::new();
    for (place, (owner, change)) in changes.into_iter().enumerate() {
        sent.push(world.send(place % 2, key, 1, &change_request(owner, &[change], false)));
    }
    world.run();
    for awaited in sent {
        let answer = world.answer::<IncrementalAlterConfigsRequest>(awaited, key, 1);
        assert_eq!(answer.expect("it is answered").responses[0].error_code, 0);
    }
    for _ in 0..2 {
        assert_eq!(look(&mut world, topic, "retention.ms"), ("777".to_owned(), vec![1, 2, 3, 5]));
        assert_eq!(look(&mut world, topic, "max.message.bytes").0, "9000");
        let throttled = describe(&mut world, 4, topic);
        let throttled = throttled.iter().find(|it| it.name.as_str() == THROTTLED).expect("a list");
        let mut words: Vec<&str> = throttled.value.as_deref().unwrap_or("").split(',').collect();
        words.sort_unstable();
        assert_eq!(words, ["1:1", "2:1"]);
        for (name, own) in [("message.max.bytes", "5000"), ("log.retention.ms", "888")] {
            assert_eq!(look(&mut world, (BROKER, "1"), name), (own.to_owned(), vec![2, 3, 5]));
        }
        assert_eq!(describe(&mut world, 4, (BROKER, "")).len(), 2);
        world.cut_power();
    }
}

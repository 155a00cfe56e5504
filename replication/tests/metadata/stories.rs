//! One story per rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::ids::{NodeId, PartitionIndex, ProducerId};
use flumen_replication::limits::{
    CLUSTER_PARTITIONS_MAX, COMMAND_BYTES_MAX, COMMAND_PARTITIONS_MAX, QUOTA_ENTITIES_MAX,
    QUOTA_NAME_BYTES_MAX, TOPIC_PARTITIONS_MAX,
};
use flumen_replication::metadata::command::{
    Command, ConfigOwner, Configuration, Growth, MetadataRule, NewTopic, Outcome, QuotaAlteration,
};
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::Placement;
use flumen_replication::metadata::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart};
use flumen_replication::metadata::record::{MetadataRecord, RecordError};

use crate::cluster::{
    Cluster, assert_refused, assigned, broker, changed, configure, create, created, grow, nodes,
    topic, topic_id,
};

#[test]
fn a_topic_is_made_and_found_by_name_and_id() {
    let mut cluster = Cluster::of(3);
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let wanted = NewTopic { replication_factor: 2, configs, ..topic(9, "orders", 3) };
    let made = created(cluster.ask(create(vec![wanted.clone()])));
    assert_eq!(made, [Ok((topic_id(9), 3, 2))]);

    let image = cluster.image();
    let topic = image.topic_named("orders").expect("made");
    assert_eq!(image.topic(topic_id(9)), Some(topic));
    assert_eq!((topic.partitions.len(), &topic.configs), (3, &wanted.configs));
    assert_eq!(image.logs().count(), 3);
    assert!(topic.log(PartitionIndex(2)).is_some() && topic.log(PartitionIndex(3)).is_none());
    for replicas in cluster.replicas("orders") {
        assert_eq!(replicas.len(), 2);
        assert_ne!(replicas[0], replicas[1]);
    }
    assert_eq!(image.version, 4);
}

#[test]
fn a_name_is_given_once_even_within_one_request() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "orders", 1);
    let twice = vec![topic(2, "orders", 1), topic(3, "bills", 1), topic(4, "bills", 1)];
    let made = created(cluster.ask(create(twice)));
    assert_refused(&made[0], MetadataRule::TopicExists, &["Topic 'orders' already exists."]);
    assert_eq!(made[1], Ok((topic_id(3), 1, 1)));
    assert_refused(&made[2], MetadataRule::TopicExists, &["Topic 'bills' already exists."]);
    assert_eq!(cluster.image().topic_count(), 2);
}

#[test]
fn names_that_metrics_cannot_tell_apart_collide() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "a.b_c", 1);
    let names = ["a_b.c", "a_b", "a.b", "ab", "a_b_c_d", "a-b-c"];
    let wanted = (2..).zip(names).map(|(id, name)| topic(id, name, 1)).collect();
    let made = created(cluster.ask(create(wanted)));
    assert_refused(&made[0], MetadataRule::NameCollision, &["'a_b.c'", "'a.b_c'"]);
    assert!(made[1].is_ok());
    assert_refused(&made[2], MetadataRule::NameCollision, &["'a.b'", "'a_b'"]);
    assert!(made[3..].iter().all(Result::is_ok), "{made:?}");

    // With the topic gone its name in metrics is free again, also after a restart.
    cluster.ask(Command::DeleteTopics(vec![topic_id(1)]));
    cluster.controller = cluster.restarted();
    cluster.make(20, "a_b.c", 1);
}

#[test]
fn an_id_that_is_in_use_is_not_given_again() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "orders", 1);
    let wanted = vec![topic(1, "a", 1), topic(2, "b", 1), topic(2, "c", 1)];
    let made = created(cluster.ask(create(wanted)));
    assert_refused(&made[0], MetadataRule::TopicExists, &["ask again"]);
    assert!(made[1].is_ok());
    assert_refused(&made[2], MetadataRule::TopicExists, &["ask again"]);
}

#[test]
fn impossible_counts_are_refused() {
    let mut cluster = Cluster::of(2);
    let too_many = i32::try_from(TOPIC_PARTITIONS_MAX).expect("fits") + 1;
    for partitions in [0, -1, i32::MIN, too_many, i32::MAX] {
        let made = created(cluster.ask(create(vec![topic(1, "t", partitions)])));
        assert_refused(&made[0], MetadataRule::Partitions, &[&partitions.to_string()]);
    }
    for replication_factor in [0, -1, 3, i16::MAX] {
        let wanted = NewTopic { replication_factor, ..topic(1, "t", 1) };
        let made = created(cluster.ask(create(vec![wanted])));
        let why = format!(
            "Unable to replicate the partition {replication_factor} time(s): The target \
             replication factor of {replication_factor} cannot be reached because only 2 broker(s) \
             are registered."
        );
        assert_refused(&made[0], MetadataRule::ReplicationFactor, &[&why]);
    }
    assert_eq!(cluster.image().topic_count(), 0);
    cluster.make(1, "t", too_many - 1);
}

#[test]
fn without_a_registered_node_nothing_can_be_made() {
    let made = created(Cluster::default().ask(create(vec![topic(1, "t", 1)])));
    assert_refused(&made[0], MetadataRule::ReplicationFactor, &["0 broker(s)"]);
}

#[test]
fn a_client_may_choose_the_replicas_in_any_order_of_partitions() {
    let mut cluster = Cluster::of(3);
    let wanted = assigned(1, "t", &[(1, &[3, 2]), (0, &[1, 3]), (2, &[2, 1])]);
    let made = created(cluster.ask(create(vec![wanted])));
    assert_eq!(made, [Ok((topic_id(1), 3, 2))]);
    assert_eq!(cluster.replicas("t"), [[1, 3], [3, 2], [2, 1]]);
}

#[test]
fn replicas_that_make_no_sense_are_refused() {
    type Story<'a> = (&'a [(i32, &'a [i32])], &'a str);
    let stories: [Story<'_>; 8] = [
        (
            &[(0, &[1]), (2, &[1])],
            "lacks partition 1: partitions should be a consecutive 0-based integer sequence",
        ),
        (&[(1, &[1])], "lacks partition 0"),
        (&[(-1, &[1]), (0, &[1])], "lacks partition 0"),
        (&[(0, &[1]), (0, &[2])], "partition 0 more than once"),
        (&[(0, &[1, 2, 1])], "the broker 1 more than once."),
        (&[(0, &[1]), (1, &[4])], "broker 4, but no such broker is registered."),
        (&[(0, &[1, 2]), (1, &[1])], "1 replica(s), but this is not consistent"),
        (&[(0, &[])], "an empty replica list."),
    ];
    let mut cluster = Cluster::of(3);
    for (assignment, words) in stories {
        let made = created(cluster.ask(create(vec![assigned(1, "t", assignment)])));
        assert_refused(&made[0], MetadataRule::Assignment, &[words]);
    }
    assert_eq!(cluster.image().topic_count(), 0);
}

#[test]
fn validating_says_the_same_and_leaves_nothing() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "orders", 2);
    let before = cluster.image();
    let topics = vec![topic(2, "a", 3), topic(3, "a", 3), topic(4, "orders", 3)];
    let check = Command::CreateTopics { topics: topics.clone(), validate_only: true };
    let growth = |count| Growth { name: "orders".to_owned(), count, assignment: None };
    let growths = vec![growth(5), growth(4)];
    let check_growth = Command::GrowTopics { topics: growths.clone(), validate_only: true };
    let (checked, checked_growth) = (cluster.ask(check), cluster.ask(check_growth));
    let mut settings = configure("orders", &[("a", "b")]);
    settings.validate_only = true;
    assert_eq!(changed(cluster.ask(Command::Configure(vec![settings]))), [Ok(())]);
    assert_eq!(cluster.image(), before);

    assert_eq!(cluster.ask(create(topics)), checked);
    let really = Command::GrowTopics { topics: growths, validate_only: false };
    assert_eq!(cluster.ask(really), checked_growth);
    assert_eq!(cluster.replicas("orders").len(), 5);
}

#[test]
fn a_request_for_too_many_partitions_gets_what_fits() {
    let mut cluster = Cluster::of(1);
    let half = i32::try_from(COMMAND_PARTITIONS_MAX / 2).expect("fits");
    let wanted = vec![topic(1, "a", half), topic(2, "b", half + 1), topic(3, "c", half)];
    let made = created(cluster.ask(create(wanted)));
    assert!(made[0].is_ok() && made[2].is_ok());
    assert_refused(&made[1], MetadataRule::TooMuch, &["several requests"]);

    // Its successor gets the rest.
    let made = created(cluster.ask(create(vec![topic(2, "b", half + 1)])));
    assert!(made[0].is_ok());
}

#[test]
fn a_full_cluster_takes_no_partition_until_others_are_deleted() {
    let mut cluster = Cluster::of(1);
    let most = i32::try_from(TOPIC_PARTITIONS_MAX).expect("fits");
    let topics = u8::try_from(CLUSTER_PARTITIONS_MAX / TOPIC_PARTITIONS_MAX).expect("fits") + 1;
    // The first two have half of it each; the second gets its other half by growing.
    for id in 1..=topics {
        let partitions = if id <= 2 { most / 2 } else { most };
        cluster.make(id, &format!("t{id}"), partitions);
    }
    let refused = created(cluster.ask(create(vec![topic(200, "one", 1)])));
    assert_refused(&refused[0], MetadataRule::TooMuch, &["1000000 partitions"]);
    cluster.ask(Command::DeleteTopics(vec![topic_id(1)]));
    assert_eq!(changed(cluster.ask(grow("t2", most, None))), [Ok(())]);
    let refused = created(cluster.ask(create(vec![topic(200, "one", 1)])));
    assert_refused(&refused[0], MetadataRule::TooMuch, &["1000000 partitions"]);
    cluster.ask(Command::DeleteTopics(vec![topic_id(2)]));
    cluster.make(200, "one", most);
}

#[test]
fn settings_too_large_for_one_batch_are_refused() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "a", 1);
    let large = "x".repeat(COMMAND_BYTES_MAX / 2);
    let wanted = vec![
        configure("a", &[("small", "1")]),
        configure("a", &[("large", &large)]),
        configure("a", &[("large", &large), ("more", "2")]),
        configure("a", &[("small", "3")]),
    ];
    let done = changed(cluster.ask(Command::Configure(wanted)));
    assert!(done[0].is_ok() && done[1].is_ok());
    assert_refused(&done[2], MetadataRule::TooMuch, &["several requests"]);
    assert_refused(&done[3], MetadataRule::TooMuch, &["several requests"]);
    assert!(cluster.log.iter().map(|bytes| bytes.len()).sum::<usize>() < COMMAND_BYTES_MAX + 1000);
    cluster.restarted();
}

#[test]
fn a_topic_grows_and_keeps_what_it_has() {
    let mut cluster = Cluster::of(3);
    let wanted = NewTopic { replication_factor: 2, ..topic(1, "t", 2) };
    created(cluster.ask(create(vec![wanted])));
    let before = cluster.replicas("t");
    assert_eq!(changed(cluster.ask(grow("t", 4, None))), [Ok(())]);
    assert_eq!(changed(cluster.ask(grow("t", 5, Some(&[&[3, 1]])))), [Ok(())]);
    let after = cluster.replicas("t");
    assert_eq!((after.len(), &after[..2]), (5, &before[..]));
    assert!(after.iter().all(|replicas| replicas.len() == 2));
    assert_eq!(after[4], [3, 1]);
}

#[test]
fn growth_that_is_none_or_makes_no_sense_is_refused() {
    let mut cluster = Cluster::of(2);
    cluster.make(1, "t", 3);
    let refused = changed(cluster.ask(grow("t", 3, None)));
    let why = "Topic already has 3 partition(s).";
    assert_refused(&refused[0], MetadataRule::Partitions, &[why]);
    for count in [2, 0, -1] {
        let refused = changed(cluster.ask(grow("t", count, None)));
        let why =
            format!("The topic t currently has 3 partition(s); {count} would not be an increase.");
        assert_refused(&refused[0], MetadataRule::Partitions, &[&why]);
    }
    let refused = changed(cluster.ask(grow("t", i32::MAX, None)));
    assert_refused(&refused[0], MetadataRule::Partitions, &["2147483647"]);
    let refused = changed(cluster.ask(grow("nope", 4, None)));
    assert_refused(&refused[0], MetadataRule::UnknownTopic, &["'nope'"]);
    let stories: [(&[&[i32]], &str); 5] = [
        (
            &[&[1]],
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (&[&[1], &[1], &[1]], "but only 3 assignment(s) were specified."),
        (
            &[&[1], &[9]],
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (&[&[1], &[]], "The manual partition assignment includes an empty replica list."),
        (
            &[&[1, 2], &[2, 1]],
            "The manual partition assignment includes a partition with 2 replica(s), but this is \
             not consistent with previous partitions, which have 1 replica(s).",
        ),
    ];
    for (assignment, words) in stories {
        let refused = changed(cluster.ask(grow("t", 5, Some(assignment))));
        assert_refused(&refused[0], MetadataRule::Assignment, &[words]);
    }
    assert_eq!(cluster.replicas("t").len(), 3);
}

#[test]
fn a_topic_named_twice_in_one_request_grows_twice() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "t", 1);
    let growth = |count| Growth { name: "t".to_owned(), count, assignment: None };
    let topics = vec![growth(3), growth(2), growth(4)];
    let grown = changed(cluster.ask(Command::GrowTopics { topics, validate_only: false }));
    assert!(grown[0].is_ok() && grown[2].is_ok());
    assert_refused(&grown[1], MetadataRule::Partitions, &["3 partition(s); 2 would not"]);
    assert_eq!(cluster.replicas("t").len(), 4);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_free() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "t", 3);
    let old = cluster.image();
    let ids = vec![topic_id(2), topic_id(1), topic_id(1)];
    let deleted = changed(cluster.ask(Command::DeleteTopics(ids)));
    assert_refused(&deleted[0], MetadataRule::UnknownTopicId, &[&topic_id(2).to_string()]);
    assert_eq!(deleted[1], Ok(()));
    assert_refused(&deleted[2], MetadataRule::UnknownTopicId, &[]);
    assert_eq!((cluster.image().topic_count(), cluster.image().logs().count()), (0, 0));
    assert!(old.topic_named("t").is_some(), "an image never changes");

    cluster.make(3, "t", 1);
    assert_eq!(cluster.image().topic_named("t").expect("made").id, topic_id(3));
}

#[test]
fn settings_are_replaced_as_a_whole() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "t", 1);
    cluster.make(2, "other", 1);
    let other = Arc::clone(cluster.image().topic_named("other").expect("made"));
    let wanted = vec![configure("t", &[("a", "1"), ("b", "2")]), configure("nope", &[("a", "1")])];
    let done = changed(cluster.ask(Command::Configure(wanted)));
    assert_eq!(done[0], Ok(()));
    assert_refused(&done[1], MetadataRule::UnknownTopic, &["'nope'"]);
    let rest = Command::Configure(vec![configure("t", &[("b", "3")])]);
    assert_eq!(changed(cluster.ask(rest)), [Ok(())]);
    let image = cluster.image();
    let configs = &image.topic_named("t").expect("made").configs;
    assert_eq!(configs, &BTreeMap::from([("b".to_owned(), "3".to_owned())]));
    assert!(
        Arc::ptr_eq(&other, image.topic_named("other").expect("made")),
        "topics that did not change are shared"
    );
}

#[test]
fn producer_ids_are_never_given_twice_not_even_after_a_restart() {
    let mut cluster = Cluster::of(1);
    let take = |count| Command::AllocateProducerIds { count };
    assert_eq!(cluster.ask(take(1000)), Outcome::ProducerIds(ProducerId(0)));
    assert_eq!(cluster.ask(take(1)), Outcome::ProducerIds(ProducerId(1000)));
    cluster.controller = cluster.restarted();
    assert_eq!(cluster.ask(take(0)), Outcome::ProducerIds(ProducerId(1001)));
    assert_eq!(cluster.ask(take(u32::MAX)), Outcome::ProducerIds(ProducerId(1001)));
    assert_eq!(cluster.image().next_producer_id, 1001 + i64::from(u32::MAX));
}

#[test]
fn a_node_that_says_the_same_again_leaves_no_record() {
    let mut cluster = Cluster::of(1);
    let decision = cluster.controller.handle(&Command::RegisterBroker(broker(1, 9092)));
    assert_eq!((decision.records, decision.outcome), (Vec::new(), Outcome::Registered));
    cluster.ask(Command::RegisterBroker(broker(1, 9093)));
    let image = cluster.image();
    assert_eq!(image.brokers.values().collect::<Vec<_>>(), [&broker(1, 9093)]);
}

#[test]
fn an_image_costs_nothing_while_nothing_changes() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "t", 1);
    let image = cluster.image();
    assert!(Arc::ptr_eq(&image, &cluster.image()));
    cluster.ask(create(vec![topic(2, "t", 1)]));
    assert!(Arc::ptr_eq(&image, &cluster.image()), "a refusal changes nothing");
    cluster.make(2, "u", 1);
    assert_eq!((image.topic_count(), cluster.image().topic_count()), (1, 2));
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "t", 2);
    cluster.ask(Command::AllocateProducerIds { count: 10 });
    let before = cluster.image();
    let partitions = vec![Placement { replicas: nodes(&[1]) }];
    let configs = BTreeMap::new();
    let made = |id: u8, name: &str| MetadataRecord::Topic {
        id: topic_id(id),
        name: name.to_owned(),
        partitions: partitions.clone(),
        configs: configs.clone(),
    };
    let (known, missing) = (topic_id(1), topic_id(5));
    let shrunk = MetadataRecord::Partitions { id: known, partitions: partitions.clone() };
    let astray = MetadataRecord::Partitions { id: missing, partitions: partitions.clone() };
    let stories = [
        (made(1, "new"), RecordError::TopicTaken { id: known }),
        (made(5, "t"), RecordError::TopicTaken { id: missing }),
        (MetadataRecord::TopicDeleted { id: missing }, RecordError::TopicMissing { id: missing }),
        (shrunk, RecordError::PartitionsLost { id: known }),
        (astray, RecordError::TopicMissing { id: missing }),
        (
            MetadataRecord::TopicConfigs { id: missing, configs: configs.clone() },
            RecordError::TopicMissing { id: missing },
        ),
        (
            MetadataRecord::FeatureLevel { name: "metadata.version".to_owned(), level: 28 },
            RecordError::FeatureBeyond { level: 28 },
        ),
        (
            MetadataRecord::FeatureLevel { name: "of.tomorrow".to_owned(), level: 1 },
            RecordError::FeatureBeyond { level: 1 },
        ),
        (
            MetadataRecord::ProducerIds { next: 10 },
            RecordError::ProducerIdsReturn { next: 10, known: 10 },
        ),
    ];
    for (record, error) in stories {
        assert_eq!(cluster.controller.replay(&record), Err(error), "{record:?}");
        assert_eq!(cluster.image(), before);
    }
    assert_eq!(Controller::new().image().version, 0);
}

#[test]
fn settings_made_from_others_than_those_that_hold_are_refused() {
    let mut cluster = Cluster::of(1);
    cluster.make(1, "orders", 1);
    let from = |base: &[(&str, &str)], mut wish: Configuration| {
        let text = |text: &str| text.to_owned();
        wish.based_on = Some(base.iter().map(|(name, value)| (text(name), text(value))).collect());
        wish
    };
    let first = from(&[], configure("orders", &[("a", "1")]));
    let second = from(&[], configure("orders", &[("b", "2")]));
    assert_eq!(changed(cluster.ask(Command::Configure(vec![first]))), [Ok(())]);
    let late = changed(cluster.ask(Command::Configure(vec![second])));
    assert_refused(&late[0], MetadataRule::Outdated, &["somebody else"]);
    let again = from(&[("a", "1")], configure("orders", &[("a", "1"), ("b", "2")]));
    assert_eq!(changed(cluster.ask(Command::Configure(vec![again]))), [Ok(())]);
    for owner in [ConfigOwner::AllBrokers, ConfigOwner::Broker(NodeId(1))] {
        let one = Configuration { owner, ..from(&[], configure("", &[("c", "3")])) };
        let done = changed(cluster.ask(Command::Configure(vec![one.clone()])));
        assert_eq!(done, [Ok(())]);
        let done = changed(cluster.ask(Command::Configure(vec![one])));
        assert_refused(&done[0], MetadataRule::Outdated, &["somebody else"]);
    }
}

fn client(name: &str) -> QuotaEntity {
    QuotaEntity::new(BTreeMap::from([(QuotaPart::ClientId, Some(name.to_owned()))])).unwrap()
}

fn alteration(entity: QuotaEntity, changes: &[(QuotaKey, Option<f64>)]) -> QuotaAlteration {
    let changes = changes.iter().map(|(key, bound)| (*key, bound.and_then(QuotaBound::new)));
    QuotaAlteration { entity, changes: changes.collect() }
}

fn alter(alterations: Vec<QuotaAlteration>) -> Command {
    Command::AlterQuotas { alterations, validate_only: false }
}

#[test]
fn an_alteration_leaves_what_it_does_not_name_and_the_last_bound_takes_the_entity_along() {
    let mut cluster = Cluster::of(1);
    let bounds = |cluster: &Cluster| {
        let image = cluster.image();
        let quotas = image.client_quotas.get(&client("a")).cloned().unwrap_or_default();
        quotas.into_iter().map(|(key, bound)| (key, bound.get())).collect::<Vec<_>>()
    };
    let (bytes, percent) = (QuotaKey::ProducerByteRate, QuotaKey::RequestPercentage);
    let both = [(bytes, Some(5.0)), (percent, Some(0.5))];
    assert_eq!(changed(cluster.ask(alter(vec![alteration(client("a"), &both)]))), [Ok(())]);
    assert_eq!(bounds(&cluster), [(bytes, 5.0), (percent, 0.5)]);
    let records = cluster.log.len();
    cluster.ask(alter(vec![alteration(client("a"), &[(bytes, Some(5.0))])]));
    cluster.ask(alter(vec![alteration(client("b"), &[(bytes, None)])]));
    assert_eq!(cluster.log.len(), records, "nothing is new");
    cluster.ask(alter(vec![alteration(client("a"), &[(bytes, None)])]));
    assert_eq!(bounds(&cluster), [(percent, 0.5)]);
    cluster.ask(alter(vec![alteration(client("a"), &[(percent, None)])]));
    assert!(cluster.image().client_quotas.is_empty());
    assert_eq!(cluster.restarted().image(), cluster.image());
}

#[test]
fn quotas_are_bounded_in_number_and_in_the_length_of_their_names() {
    let mut cluster = Cluster::of(1);
    let bound = [(QuotaKey::ConsumerByteRate, Some(1.0))];
    let all = (0..QUOTA_ENTITIES_MAX).map(|n| alteration(client(&n.to_string()), &bound));
    assert!(changed(cluster.ask(alter(all.collect()))).iter().all(Result::is_ok));
    let more = alter(vec![
        alteration(client("one more"), &bound),
        alteration(client("7"), &[(QuotaKey::ConsumerByteRate, Some(2.0))]),
        alteration(client(&"x".repeat(QUOTA_NAME_BYTES_MAX + 1)), &bound),
    ]);
    let altered = changed(cluster.ask(more));
    assert_refused(&altered[0], MetadataRule::TooMuch, &["10000 entities"]);
    assert_eq!(altered[1], Ok(()));
    assert_refused(&altered[2], MetadataRule::TooMuch, &["at most 1024 bytes"]);
    // Also within one request.
    let mut cluster = Cluster::of(1);
    let all = (0..=QUOTA_ENTITIES_MAX).map(|n| alteration(client(&n.to_string()), &bound));
    let altered = changed(cluster.ask(alter(all.collect())));
    assert_eq!(altered.iter().filter(|one| one.is_ok()).count(), QUOTA_ENTITIES_MAX);
}

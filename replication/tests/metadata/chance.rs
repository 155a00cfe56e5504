//! Random commands: whatever they are, the log alone leads to the same image.

use std::collections::BTreeMap;

use flumen_protocol::ids::{LogId, NodeId, PartitionIndex, TopicId};
use flumen_replication::dice::Dice;
use flumen_replication::metadata::command::{
    Command, ConfigOwner, Configuration, Direction, FeatureUpdate, Growth, NewTopic, Outcome,
    QuotaAlteration,
};
use flumen_replication::metadata::image::Image;
use flumen_replication::metadata::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart};

use crate::cluster::{Cluster, broker};

const SEEDS: u64 = 40;
const COMMANDS: usize = 250;
const NAMES: [&str; 10] = ["a", "b", "c.d", "c_d", "e.f", "e-f", "g", "h.i.j", "h_i_j", "k"];

#[test]
fn loading_the_log_is_living_through_it() {
    let (mut made, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let mut cluster = Cluster::default();
        for step in 0..COMMANDS {
            let command = any_command(&mut dice, &cluster.image());
            let before = (cluster.image(), (*cluster.image()).clone());
            let items = item_count(&command);
            let outcome = cluster.ask(command.clone());
            let at = format!("seed {seed}, step {step}, {command:?}");
            assert_eq!(*before.0, before.1, "an image changed: {at}");
            let (succeeded, failed) = count(&outcome);
            assert_eq!(items, succeeded + failed, "one result per item: {at}");
            made += succeeded;
            refused += failed;
            check(&cluster.image(), &at);
        }
        let restarted = cluster.restarted();
        assert_eq!(restarted.image(), cluster.image(), "seed {seed}");
        assert_eq!(restarted.image().version, cluster.log.len() as u64);
        let next = any_command(&mut dice, &cluster.image());
        assert_eq!(restarted.handle(&next), cluster.controller.handle(&next), "seed {seed}");
    }
    assert!(made > 1000 && refused > 1000, "both ways are taken: {made} made, {refused} refused");
}

/// What holds of every image.
fn check(image: &Image, at: &str) {
    let topics: Vec<_> = image.topics().collect();
    assert_eq!(topics.len(), image.topic_count(), "{at}");
    let mut metric_names = BTreeMap::new();
    for topic in topics {
        assert_eq!(image.topic_named(&topic.name), Some(topic), "{at}");
        assert_eq!(image.topic(topic.id), Some(topic), "{at}");
        let other = metric_names.insert(topic.name.replace('.', "_"), &topic.name);
        assert_eq!(other, None, "{} collides: {at}", topic.name);
        assert!(!topic.partitions.is_empty(), "{at}");
        let replica_count = topic.partitions[0].replicas.len();
        for placement in &topic.partitions {
            let mut replicas = placement.replicas.clone();
            assert!(replicas.iter().all(|node| image.brokers.contains_key(node)), "{at}");
            replicas.sort();
            replicas.dedup();
            assert_eq!(replicas.len(), replica_count, "{at}");
            assert!(replica_count > 0, "{at}");
        }
        let last = PartitionIndex(topic.partitions.len() as i32 - 1);
        assert_eq!(topic.logs().last(), Some(LogId { topic: topic.id, partition: last }), "{at}");
    }
}

fn item_count(command: &Command) -> usize {
    match command {
        Command::CreateTopics { topics, .. } => topics.len(),
        Command::DeleteTopics(topics) => topics.len(),
        Command::GrowTopics { topics, .. } => topics.len(),
        Command::Configure(wishes) => wishes.len(),
        Command::UpdateFeatures { updates, .. } => updates.len(),
        Command::AlterQuotas { alterations, .. } => alterations.len(),
        Command::AllocateProducerIds { .. } | Command::RegisterBroker(_) => 1,
    }
}

/// How many items succeeded and failed.
fn count(outcome: &Outcome) -> (usize, usize) {
    match outcome {
        Outcome::Created(items) => {
            let succeeded = items.iter().filter(|item| item.is_ok()).count();
            (succeeded, items.len() - succeeded)
        }
        Outcome::Changed(items) => {
            let succeeded = items.iter().filter(|item| item.is_ok()).count();
            (succeeded, items.len() - succeeded)
        }
        Outcome::ProducerIds(_) | Outcome::Registered => (1, 0),
        Outcome::Unavailable => panic!("the controller decides always"),
    }
}

fn any_command(dice: &mut Dice, image: &Image) -> Command {
    let items = 1 + below(dice, 3);
    let validate_only = below(dice, 8) == 0;
    match below(dice, 9) {
        0 | 1 => {
            let topics = (0..items).map(|_| any_topic(dice)).collect();
            Command::CreateTopics { topics, validate_only }
        }
        2 => Command::DeleteTopics((0..items).map(|_| any_id(dice, image)).collect()),
        3 => {
            let topics = (0..items).map(|_| any_growth(dice)).collect();
            Command::GrowTopics { topics, validate_only }
        }
        4 => {
            let one = |dice: &mut Dice| Configuration {
                owner: any_owner(dice),
                configs: any_configs(dice),
                based_on: dice.draw().is_multiple_of(2).then(|| any_configs(dice)),
                validate_only,
            };
            Command::Configure((0..items).map(|_| one(dice)).collect())
        }
        5 => {
            let update = |dice: &mut Dice| FeatureUpdate {
                name: ["metadata.version", "no.such"][below(dice, 5) / 4].to_owned(),
                level: 20 + below(dice, 10) as i16,
                direction: [Some(Direction::Upgrade), Some(Direction::SafeDowngrade), None]
                    [below(dice, 3)],
            };
            let updates = (0..items).map(|_| update(dice)).collect();
            Command::UpdateFeatures { updates, validate_only }
        }
        6 => Command::AllocateProducerIds { count: below(dice, 3) as u32 * 500 },
        7 => {
            let alterations = (0..items).map(|_| any_alteration(dice)).collect();
            Command::AlterQuotas { alterations, validate_only }
        }
        _ => Command::RegisterBroker(broker(below(dice, 4) as i32, 9092 + below(dice, 2) as u16)),
    }
}

fn any_alteration(dice: &mut Dice) -> QuotaAlteration {
    let parts = [QuotaPart::User, QuotaPart::ClientId, QuotaPart::Ip];
    let part = parts[below(dice, 3)];
    let name = (below(dice, 3) > 0).then(|| any_name(dice));
    let changes = (0..below(dice, 3)).map(|_| {
        let key = QuotaKey::ALL[below(dice, QuotaKey::ALL.len())];
        (key, QuotaBound::new(below(dice, 3) as f64))
    });
    let changes = changes.collect();
    let entity = QuotaEntity::new(BTreeMap::from([(part, name)])).expect("it has one part");
    QuotaAlteration { entity, changes }
}

fn any_owner(dice: &mut Dice) -> ConfigOwner {
    match below(dice, 6) {
        0 => ConfigOwner::AllBrokers,
        1 => ConfigOwner::Broker(NodeId(below(dice, 3) as i32)),
        _ => ConfigOwner::Topic(any_name(dice)),
    }
}

fn any_topic(dice: &mut Dice) -> NewTopic {
    let assigned = if below(dice, 4) == 0 { below(dice, 4) } else { 0 };
    NewTopic {
        id: TopicId(dice.uuid_bytes()),
        name: any_name(dice),
        partitions: below(dice, 6) as i32,
        replication_factor: below(dice, 4) as i16,
        assignment: (0..assigned)
            .map(|number| (PartitionIndex(number as i32), any_nodes(dice)))
            .collect(),
        configs: any_configs(dice),
    }
}

fn any_growth(dice: &mut Dice) -> Growth {
    let assigned = below(dice, 3) == 0;
    Growth {
        name: any_name(dice),
        count: below(dice, 12) as i32,
        assignment: assigned.then(|| (0..below(dice, 4)).map(|_| any_nodes(dice)).collect()),
    }
}

/// Mostly of a topic that is there.
fn any_id(dice: &mut Dice, image: &Image) -> TopicId {
    let skipped = below(dice, image.topic_count() + 1);
    image.topics().nth(skipped).map_or_else(|| TopicId(dice.uuid_bytes()), |topic| topic.id)
}

fn any_name(dice: &mut Dice) -> String {
    NAMES[below(dice, NAMES.len())].to_owned()
}

fn any_nodes(dice: &mut Dice) -> Vec<NodeId> {
    (0..=below(dice, 2)).map(|_| NodeId(below(dice, 5) as i32)).collect()
}

fn any_configs(dice: &mut Dice) -> BTreeMap<String, String> {
    let setting = |dice: &mut Dice| {
        let name = format!("setting.{}", below(dice, 5));
        (name, below(dice, 100).to_string())
    };
    (0..below(dice, 3)).map(|_| setting(dice)).collect()
}

fn below(dice: &mut Dice, bound: usize) -> usize {
    (dice.draw() % bound as u64) as usize
}

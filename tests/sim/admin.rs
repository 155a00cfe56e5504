//! Changes to topics that meet other changes, slow wires and slow disks.
//!
//! Does: let changes overlap, then look at what every core and every disk makes of them.
//! Does not: check what a single change does; the other stories do.
//! Invariants: what was acknowledged holds, whatever else happened at the same time.
//! Apart from the other stories because here it is the order of things that matters.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::create_topics_request::CreatableTopic;
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::{CreateTopicsRequest, MetadataRequest};

use crate::stories::name;
use crate::world::{Awaited, World};

const CREATE: i16 = 5;

fn create_request(topic: &str) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(4)
        .with_replication_factor(1);
    CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

fn send_create(world: &mut World, core: usize, topic: &str) -> Awaited {
    world.send(core, ApiKey::CreateTopics, CREATE, &create_request(topic))
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

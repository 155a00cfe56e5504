//! What an operator asks the cluster itself, and what it remembers of his wishes.
//!
//! Does: ask a node about its quorum at every version, before and after power cuts.
//! Does not: look at topics or records.
//! Invariants: what was answered before a power cut holds after it.
//! Apart because these questions go to the controller, whichever core the client is on.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::describe_quorum_request;
use flumen_protocol::messages::describe_quorum_response::PartitionData;
use flumen_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use crate::stories::{make_topic, name};
use crate::world::World;

fn ask_quorum(world: &mut World, version: i16, asked: &[(&str, &[i32])]) -> DescribeQuorumResponse {
    let topics = asked.iter().map(|(topic, partitions)| {
        let partitions = partitions.iter().map(|index| {
            describe_quorum_request::PartitionData::default().with_partition_index(*index)
        });
        describe_quorum_request::TopicData::default()
            .with_topic_name(name(topic))
            .with_partitions(partitions.collect())
    });
    let request = DescribeQuorumRequest::default().with_topics(topics.collect());
    world.ask(1, ApiKey::DescribeQuorum, version, &request)
}

fn quorum(world: &mut World, version: i16) -> PartitionData {
    let answer = ask_quorum(world, version, &[("__cluster_metadata", &[0])]);
    assert_eq!(answer.error_code, 0, "version {version}");
    let nodes: Vec<BrokerId> = answer.nodes.iter().map(|node| node.node_id).collect();
    assert_eq!(nodes, if version < 2 { vec![] } else { vec![BrokerId(1)] });
    assert!(answer.nodes.iter().all(|node| node.listeners.iter().any(|it| it.port == 9092)));
    answer.topics[0].partitions[0].clone()
}

#[test]
fn the_quorum_is_described_at_every_version() {
    let mut world = World::new(2);
    for version in 0..=2 {
        let quorum = quorum(&mut world, version);
        assert_eq!((quorum.error_code, quorum.leader_id), (0, BrokerId(1)));
        let [voter] = &quorum.current_voters[..] else { panic!("one node, one voter: {quorum:?}") };
        assert_eq!(voter.replica_id, BrokerId(1));
        assert_eq!(voter.log_end_offset, quorum.high_watermark, "nothing is on its way");
        let now = world.now.wall.0;
        let times = (voter.last_fetch_timestamp, voter.last_caught_up_timestamp);
        assert_eq!(times, if version < 1 { (-1, -1) } else { (now, now) }, "version {version}");
    }
}

#[test]
fn the_quorum_tells_what_its_log_went_through() {
    let mut world = World::new(2);
    let before = quorum(&mut world, 2);
    assert!(before.high_watermark > 0, "the node is registered");
    make_topic(&mut world, "t");
    let after = quorum(&mut world, 2);
    assert_eq!(after.high_watermark, before.high_watermark + 1, "one topic, one record");
    assert_eq!(after.leader_epoch, before.leader_epoch);
    world.cut_power();
    let restarted = quorum(&mut world, 2);
    assert_eq!(restarted.high_watermark, after.high_watermark, "what is there is not told twice");
    assert_eq!(restarted.leader_epoch, before.leader_epoch + 1, "a new life is a new epoch");
}

#[test]
fn there_is_no_other_quorum() {
    let mut world = World::new(2);
    let asked: [&[(&str, &[i32])]; 4] = [
        &[("__cluster_metadata", &[1])],
        &[("t", &[0])],
        &[("__cluster_metadata", &[0, 1])],
        &[("__cluster_metadata", &[0]), ("__cluster_metadata", &[0])],
    ];
    for version in 0..=2 {
        for asked in asked {
            let answer = ask_quorum(&mut world, version, asked);
            assert_eq!(answer.topics.len(), asked.len());
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                // UNKNOWN_TOPIC_OR_PARTITION.
                assert_eq!(partition.error_code, 3, "version {version}, {asked:?}");
                let message = partition.error_message.as_ref().map_or(0, |message| message.len());
                assert_eq!(message > 0, version >= 2);
            }
        }
        assert!(ask_quorum(&mut world, version, &[]).topics.is_empty());
    }
}

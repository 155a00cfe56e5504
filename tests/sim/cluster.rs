//! What an operator asks the cluster itself, and what it remembers of his wishes.
//!
//! Does: ask a node about its quorum and its features at every version, before and after power
//! cuts.
//! Does not: look at topics or records.
//! Invariants: what was answered before a power cut holds after it.
//! Apart because these questions go to the controller, whichever core the client is on.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::describe_quorum_request;
use flumen_protocol::messages::describe_quorum_response::PartitionData;
use flumen_protocol::messages::update_features_request::FeatureUpdateKey;
use flumen_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeQuorumRequest,
    DescribeQuorumResponse, StrBytes, UpdateFeaturesRequest,
};

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

const METADATA_VERSION: &str = "metadata.version";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn told(world: &mut World, version: i16) -> ApiVersionsResponse {
    let request = if version < 3 {
        ApiVersionsRequest::default()
    } else {
        let request = ApiVersionsRequest::default().with_client_software_name(text("sim"));
        request.with_client_software_version(text("1"))
    };
    world.ask(1, ApiKey::ApiVersions, version, &request)
}

/// The level of the metadata and the epoch in force.
fn level(world: &mut World) -> (i16, i64) {
    let told = told(world, 4);
    let mut features = told.finalized_features.iter();
    let feature = features.find(|feature| feature.name.as_str() == METADATA_VERSION);
    let feature = feature.unwrap_or_else(|| panic!("the metadata has a level: {told:?}"));
    assert_eq!(feature.min_version_level, feature.max_version_level);
    (feature.max_version_level, told.finalized_features_epoch)
}

fn update(name: &str, level: i16, upgrade_type: i8) -> FeatureUpdateKey {
    FeatureUpdateKey::default()
        .with_feature(text(name))
        .with_max_version_level(level)
        .with_upgrade_type(upgrade_type)
}

/// The error code, and how many features have a result.
fn ask_update(
    world: &mut World,
    version: i16,
    updates: Vec<FeatureUpdateKey>,
    validate_only: bool,
) -> (i16, usize) {
    let request = UpdateFeaturesRequest::default()
        .with_timeout_ms(10_000)
        .with_feature_updates(updates)
        .with_validate_only(validate_only);
    let answer = world.ask(1, ApiKey::UpdateFeatures, version, &request);
    assert_eq!(answer.error_code != 0, answer.error_message.is_some());
    (answer.error_code, answer.results.len())
}

#[test]
fn features_are_told_at_every_version_that_has_them() {
    let mut world = World::new(2);
    for version in 0..=4 {
        let told = told(&mut world, version);
        let supported = told.supported_features.iter().map(|it| (it.min_version, it.max_version));
        let supported: Vec<(i16, i16)> = supported.collect();
        // A level of zero cannot be told before version 4.
        let expected = match version {
            ..3 => vec![],
            3 => vec![(7, 27)],
            4.. => vec![(0, 1), (7, 27), (0, 2)],
        };
        assert_eq!(supported, expected);
        assert_eq!(told.finalized_features_epoch >= 0, version >= 3);
    }
    let (before, epoch) = level(&mut world);
    assert_eq!(before, 27);
    make_topic(&mut world, "t");
    assert_eq!(level(&mut world), (27, epoch + 1), "the epoch is that of the metadata");
}

#[test]
fn the_level_of_a_feature_outlives_the_node() {
    let mut world = World::new(2);
    let (_, epoch) = level(&mut world);
    assert_eq!(ask_update(&mut world, 1, vec![update(METADATA_VERSION, 26, 2)], true), (0, 1));
    assert_eq!(level(&mut world), (27, epoch), "only asked");
    assert_eq!(ask_update(&mut world, 1, vec![update(METADATA_VERSION, 26, 2)], false), (0, 1));
    assert_eq!(level(&mut world), (26, epoch + 1));
    world.cut_power();
    assert_eq!(level(&mut world), (26, epoch + 1));
    assert_eq!(ask_update(&mut world, 2, vec![update(METADATA_VERSION, 26, 1)], false), (0, 0));
    assert_eq!(level(&mut world), (26, epoch + 1), "what is so already needs no record");
    let two = vec![update(METADATA_VERSION, 25, 2), update(METADATA_VERSION, 26, 1)];
    assert_eq!(ask_update(&mut world, 1, two, false), (0, 2));
    assert_eq!(level(&mut world).0, 26, "the last of two counts");
}

#[test]
fn one_impossible_level_refuses_them_all() {
    let mut world = World::new(2);
    let before = level(&mut world);
    let possible = || update(METADATA_VERSION, 25, 2);
    for version in 1..=2 {
        for impossible in [
            update("transaction.version", 3, 1),
            update("group.version", 2, 1),
            update(METADATA_VERSION, 28, 1),
            update(METADATA_VERSION, 22, 2),
            update(METADATA_VERSION, 22, 3),
            update(METADATA_VERSION, 25, 1),
            update(METADATA_VERSION, 25, 0),
            update(METADATA_VERSION, -1, 2),
            update("", 1, 1),
        ] {
            // INVALID_UPDATE_VERSION.
            let both = vec![possible(), impossible.clone()];
            assert_eq!(ask_update(&mut world, version, both, false), (95, 0), "{impossible:?}");
        }
    }
    let down = FeatureUpdateKey::default()
        .with_feature(text(METADATA_VERSION))
        .with_max_version_level(25)
        .with_allow_downgrade(true);
    assert_eq!(ask_update(&mut world, 0, vec![down], false), (95, 0), "version 0 goes up only");
    assert_eq!(level(&mut world), before);
    assert_eq!(ask_update(&mut world, 2, Vec::new(), false), (0, 0));
}

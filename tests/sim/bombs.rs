//! Batches that inflate to much more than they are, on topics whose records must be looked into.
//!
//! Does: send them beside requests of others, and behind them requests of the same client.
//! Does not: measure time; it counts turns.
//! Invariants: each story says in its name what holds.
//! Apart because these stories look at single turns.

use flumen_broker::shard::input::ConnectionId;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{CreateTopicsRequest, ProduceRequest, StrBytes};

use crate::stories::{PRODUCE, make_topic, name, produce_request, read_all};
use crate::world::{Awaited, World};

/// What a bomb inflates to: many turns' work.
const BOMB_BYTES: usize = 16 << 20;
const COMPACTED: &str = "compacted";

fn make_compacted_topic(world: &mut World) {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("compact")));
    let topic = CreatableTopic::default()
        .with_name(name(COMPACTED))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    assert_eq!(world.ask(0, ApiKey::CreateTopics, 5, &request).topics[0].error_code, 0);
}

/// One record of so many zeros for the compacted topic, behind a little noise: what inflates to more than
/// a thousand times its size is refused before that.
fn zeros(count: usize, key: Option<&[u8]>, codec: Codec) -> ProduceRequest {
    let mut batch = BatchBuilder::new();
    let mixed = |n: u64| {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 31
    };
    let noise = (0..count as u64 / 200).map(|n| (mixed(mixed(n + 1)) >> 40) as u8);
    let (timestamp, mut value) = (1_700_000_000_000, noise.collect::<Vec<u8>>());
    value.resize(count, 0);
    batch.push(&NewRecord { timestamp, key, value: Some(&value), headers: &[] });
    let records = batch.finish_compressed(codec).freeze();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic =
        TopicProduceData::default().with_name(name(COMPACTED)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// The code and the offset that a producer was told, if it was.
fn told(world: &mut World, awaited: Awaited) -> Option<(i16, i64)> {
    let answer = world.answer::<ProduceRequest>(awaited, ApiKey::Produce, PRODUCE)?;
    let partition = &answer.responses[0].partition_responses[0];
    Some((partition.error_code, partition.base_offset))
}

#[test]
fn a_bomb_keeps_only_its_own_client_waiting_and_its_requests_in_order() {
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let mut world = World::new(1);
        make_topic(&mut world, "t");
        make_compacted_topic(&mut world);
        let send = |world: &mut World, request: &ProduceRequest| {
            world.send(0, ApiKey::Produce, PRODUCE, request)
        };
        let bomb = send(&mut world, &zeros(BOMB_BYTES, Some(b"k"), codec));
        let small = send(&mut world, &zeros(10, Some(b"k"), codec));
        let second = send(&mut world, &zeros(BOMB_BYTES, Some(b"k"), codec));
        let behind = send(&mut world, &produce_request("t", 0, "behind"));
        let other = (0, ConnectionId(7));
        let others =
            world.send_over(other, ApiKey::Produce, PRODUCE, &produce_request("t", 0, "other"));
        world.go_on_for(10);
        assert_eq!(told(&mut world, others), Some((0, 0)), "{codec:?}: at once");
        for mine in [bomb, small, second, behind] {
            assert_eq!(told(&mut world, mine), None, "{codec:?}: not yet");
        }
        world.run();
        for (mine, offset) in [(bomb, 0), (small, 1), (second, 2), (behind, 1)] {
            assert_eq!(told(&mut world, mine), Some((0, offset)), "{codec:?}: in order");
        }
        assert_eq!(read_all(&mut world, 0, "t", 0), ["other", "behind"]);
        assert_eq!(world.open_bytes(0), 0);
    }
}

#[test]
fn a_client_that_is_gone_leaves_nothing_behind_but_its_records() {
    let mut world = World::new(1);
    make_compacted_topic(&mut world);
    let bomb = zeros(BOMB_BYTES, Some(b"k"), Codec::Zstd);
    world.send(0, ApiKey::Produce, PRODUCE, &bomb);
    world.send(0, ApiKey::Produce, PRODUCE, &zeros(10, None, Codec::Zstd));
    world.go_on_for(3);
    world.hang_up(0);
    world.run();
    assert_eq!(world.open_bytes(0), 0);
    let keyless = world.send(0, ApiKey::Produce, PRODUCE, &zeros(BOMB_BYTES, None, Codec::Zstd));
    let keyed = world.send(0, ApiKey::Produce, PRODUCE, &zeros(10, Some(b"k"), Codec::Zstd));
    world.run();
    assert_eq!(told(&mut world, keyless), Some((ErrorCode::InvalidRecord.code(), -1)));
    assert_eq!(told(&mut world, keyed), Some((0, 1)));
}

#[test]
fn a_stop_waits_for_what_is_being_looked_into() {
    let mut world = World::new(1);
    make_compacted_topic(&mut world);
    let bomb = world.send(0, ApiKey::Produce, PRODUCE, &zeros(BOMB_BYTES, Some(b"k"), Codec::Gzip));
    world.go_on_for(3);
    world.ask_to_stop();
    world.run();
    assert_eq!(told(&mut world, bomb), Some((0, 0)));
}

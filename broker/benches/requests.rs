//! What the replayed clients say, as bytes.
//!
//! Does: build batches and requests at the versions today's clients speak.
//! Does not: send them.
//! Invariants: the same bytes every time.
//! Apart so that the units in `main.rs` show only what is counted.

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::messages::create_topics_request::CreatableTopic;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    self, BrokerId, CreateTopicsRequest, FetchRequest, ProduceRequest, Request, StrBytes, TopicName,
};

use crate::replay::{BEGIN_MS, Replay};

/// Produce as most clients send it: flexible, topics by name.
pub const PRODUCE: i16 = 11;
/// Fetch as most clients send it: flexible, topics by name.
pub const FETCH: i16 = 12;
/// The topic that is written to and read.
pub const HOT: &str = "hot";
/// The topic that stays empty.
pub const EMPTY: &str = "empty";

/// A string of the protocol.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The payload of a request's frame, as it is cut from what a socket received.
pub fn frame<T: Request>(key: ApiKey, version: i16, request: &T) -> BytesMut {
    copies(key, version, request, 1).remove(0)
}

/// The same request so many times, cut from one buffer.
pub fn copies<T: Request>(key: ApiKey, version: i16, request: &T, count: usize) -> Vec<BytesMut> {
    let frame = messages::encode_request(key, version, 1, Some("replay"), request)
        .expect("the request can be written");
    let payload = &frame[4..];
    let mut received = BytesMut::from(&payload.repeat(count)[..]);
    (0..count).map(|_| received.split_to(payload.len())).collect()
}

/// A batch of one record with a value of so many bytes.
pub fn batch(value_bytes: usize) -> Bytes {
    let value = vec![b'x'; value_bytes];
    let mut batch = BatchBuilder::new();
    batch.push(&NewRecord { timestamp: BEGIN_MS, key: None, value: Some(&value), headers: &[] });
    batch.finish().freeze()
}

/// One such batch for each of the hot topic's first partitions.
pub fn produce(partitions: i32, value_bytes: usize) -> ProduceRequest {
    let batch = batch(value_bytes);
    let data = (0..partitions).map(|index| {
        PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()))
    });
    let topic = TopicProduceData::default()
        .with_name(TopicName(text(HOT)))
        .with_partition_data(data.collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// A read of the beginning of so many partitions of each topic.
pub fn fetch(topics: &[(&str, i32)], max_wait_ms: i32) -> FetchRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = (0..*partitions).map(|index| {
            FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20)
        });
        FetchTopic::default()
            .with_topic(TopicName(text(name)))
            .with_partitions(partitions.collect())
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

/// A node with these topics, each of so many partitions.
pub fn node(topics: &[(&str, i32)]) -> Replay {
    let mut replay = Replay::new();
    for (name, partitions) in topics {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(*partitions)
            .with_replication_factor(1);
        let request =
            CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]);
        let answer = replay.ask(ApiKey::CreateTopics, 5, &request);
        assert_eq!(answer.topics[0].error_code, 0, "{name} is made");
    }
    replay
}

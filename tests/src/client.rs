//! A client that asks one thing at a time, in messages instead of raw bytes.
//!
//! Does: write requests, read answers, append a record, read a partition as a reader without patience.
//! Does not: try again, but for a topic that it makes, or judge error codes.
//! Apart because several stories of whole brokers need the same client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    BrokerId, FetchRequest, MetadataRequest, ProduceRequest, Request, StrBytes, TopicName,
    decode_response, encode_request,
};

use crate::broker::Broker;
use crate::patience::until;
use crate::wire::Wire;

/// The time of the first record of a partition, milliseconds since 1970; each next one is a
/// millisecond younger.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// A connection to whichever core accepted it.
pub struct Client(Wire);

impl Client {
    /// A client of this broker.
    ///
    /// # Panics
    /// When the broker accepts no connection.
    #[must_use]
    pub fn of(broker: &Broker) -> Self {
        Self::at(broker.address()).expect("a running broker accepts")
    }

    /// A client of whoever listens there; `None` where nobody does.
    #[must_use]
    pub fn at(address: SocketAddr) -> Option<Self> {
        Wire::connect(address).map(Self)
    }

    /// Waits so long for answers.
    #[must_use]
    pub fn waiting(self, time: Duration) -> Self {
        Self(self.0.waiting(time))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Panics
    /// Without an answer, or with one that cannot be read.
    pub fn ask<T: Request>(&mut self, key: ApiKey, version: i16, request: &T) -> T::Response {
        self.try_ask(key, version, request).expect("a readable answer")
    }

    /// Asks, and waits for the answer; `None` without one, or with one that cannot be read.
    pub fn try_ask<T: Request>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &T,
    ) -> Option<T::Response> {
        let frame = encode_request(key, version, 3, Some("test"), request).expect("a request");
        let answer = self.0.ask(&frame)?;
        Some(decode_response::<T>(key, version, Bytes::from(answer)).ok()?.1)
    }

    /// Makes a topic as a producer does; says how many partitions it has.
    pub fn make_topic(&mut self, topic: &TopicName) -> usize {
        let asked = MetadataRequestTopic::default().with_name(Some(topic.clone()));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let mut partitions = || self.ask(ApiKey::Metadata, 9, &request).topics[0].partitions.len();
        // The first answer does not wait for it.
        until("a topic that was asked for", || Some(partitions()).filter(|count| *count > 0))
    }

    /// Appends a record that is meant to come to this offset, as [`value`] says. Answers with error
    /// code and offset.
    ///
    /// # Panics
    /// Without an answer.
    pub fn produce(&mut self, topic: &TopicName, partition: i32, offset: i64) -> (i16, i64) {
        self.try_produce(topic, partition, offset).expect("an answer")
    }

    /// As [`Client::produce`]; `None` without an answer.
    pub fn try_produce(
        &mut self,
        topic: &TopicName,
        partition: i32,
        offset: i64,
    ) -> Option<(i16, i64)> {
        let value = value(partition, offset);
        let mut batch = BatchBuilder::new();
        let (timestamp, value) = (FIRST_TIMESTAMP + offset, Some(value.as_bytes()));
        batch.push(&NewRecord { timestamp, key: None, value, headers: &[] });
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch.finish().freeze()));
        let of_topic =
            TopicProduceData::default().with_name(topic.clone()).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![of_topic]);
        let answer = self.try_ask(ApiKey::Produce, 9, &request)?;
        let answer = answer.responses.first()?.partition_responses.first()?;
        Some((answer.error_code, answer.base_offset))
    }

    /// One fetch: its error code, where the partition ends, and the values found.
    ///
    /// # Panics
    /// Without an answer.
    pub fn fetch(
        &mut self,
        topic: &TopicName,
        partition: i32,
        from: i64,
    ) -> (i16, i64, Vec<String>) {
        self.try_fetch(topic, partition, from).expect("an answer")
    }

    /// As [`Client::fetch`]; `None` without an answer.
    pub fn try_fetch(
        &mut self,
        topic: &TopicName,
        partition: i32,
        from: i64,
    ) -> Option<(i16, i64, Vec<String>)> {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from)
            .with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default().with_topic(topic.clone()).with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        let answer = self.try_ask(ApiKey::Fetch, 11, &request)?;
        let found = answer.responses.first()?.partitions.first()?;
        let values = found.records.as_ref().map(values).unwrap_or_default();
        Some((found.error_code, found.high_watermark, values))
    }

    /// Everything a partition holds, in order. Every record must have a batch of its own.
    ///
    /// # Panics
    /// When a fetch is refused, or finds nothing before the end it tells.
    pub fn read(&mut self, topic: &TopicName, partition: i32) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let (error, end, values) = self.fetch(topic, partition, all.len() as i64);
            assert_eq!(error, 0, "partition {partition}");
            if values.is_empty() {
                assert_eq!(end, all.len() as i64, "partition {partition}");
                return all;
            }
            all.extend(values);
        }
    }
}

/// Text for a message.
#[must_use]
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What the record at this offset says.
#[must_use]
pub fn value(partition: i32, offset: i64) -> String {
    format!("{partition} at {offset}")
}

/// The values of all records of whole batches.
///
/// # Panics
/// When a batch is cut off, or cannot be read.
#[must_use]
pub fn values(bytes: &Bytes) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batches(bytes) {
        for record in &records(batch.expect("whole batches").bytes, 1 << 20).expect("sound batches")
        {
            let value = record.expect("sound records").value.unwrap_or_default();
            values.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    values
}

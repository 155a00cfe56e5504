//! Whether a broker really serves.
//!
//! Does: write one record and have it acknowledged; ask the leaders of all partitions.
//! Does not: load; believe an open port.
//! Invariants: versions are ones that every broker of the last years speaks; each wait has an end.
//! Apart because an answering port proves nothing, and the generator should not wait for one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{
    BrokerId, CreateTopicsRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, Request,
    StrBytes, TopicName,
    create_topics_request::CreatableTopic,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use flumen_protocol::messages::{Encodable, decode_response, encode_request};

/// The topic that the referee itself writes to.
const TOPIC: &str = "flumen-bench-ready";
/// How long one answer may take; a broker that is still starting holds requests back.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries at first, so that quick starts are told apart.
const RETRY_FIRST: Duration = Duration::from_millis(1);
/// Between two tries later, so that a slow start is not disturbed.
const RETRY_LATER: Duration = Duration::from_millis(20);
/// The largest answer taken: metadata of a hundred thousand partitions fits.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Topics and the numbers of their partitions.
pub type Partitions = BTreeMap<String, Vec<i32>>;

/// Tries until `attempt` succeeds.
///
/// # Errors
/// What the last try said, when `deadline` passes or `give_up` says so.
pub fn until<T>(
    deadline: Instant,
    mut give_up: impl FnMut() -> Option<String>,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if let Some(reason) = give_up() {
            return Err(reason);
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "not serving after {:.0} s: {error}",
                began.elapsed().as_secs_f64()
            ));
        }
        let early = began.elapsed() < Duration::from_secs(2);
        std::thread::sleep(if early { RETRY_FIRST } else { RETRY_LATER });
    }
}

/// Writes one record to a topic of the referee's own, made where it is missing.
///
/// # Errors
/// What is in the way.
pub fn first_record(port: u16) -> Result<(), String> {
    let mut wire = Wire::connect(port)?;
    let name = || TopicName(StrBytes::from_static_str(TOPIC));
    let topic = MetadataRequestTopic::default().with_name(Some(name()));
    let ask = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    let known = wire.ask(ApiKey::Metadata, 4, &ask)?;
    let code =
        known.topics.first().map_or(ErrorCode::UnknownTopicOrPartition.code(), |t| t.error_code);
    if code == ErrorCode::UnknownTopicOrPartition.code() {
        let topic = CreatableTopic::default()
            .with_name(name())
            .with_num_partitions(1)
            .with_replication_factor(1);
        let make = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let made = wire.ask(ApiKey::CreateTopics, 4, &make)?;
        let code = made.topics.first().map_or(0, |topic| topic.error_code);
        if code != ErrorCode::TopicAlreadyExists.code() {
            fine(code, "create a topic")?;
        }
    } else {
        fine(code, "know its topic")?;
    }
    let data = PartitionProduceData::default().with_index(0).with_records(Some(one_record()));
    let data = TopicProduceData::default().with_name(name()).with_partition_data(vec![data]);
    let write =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
    let written = wire.ask(ApiKey::Produce, 7, &write)?;
    let code = written
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first())
        .map_or(ErrorCode::UnknownServerError.code(), |partition| partition.error_code);
    fine(code, "take a record")
}

/// Every partition that the broker knows.
///
/// # Errors
/// What is in the way.
pub fn partitions(port: u16) -> Result<Partitions, String> {
    let mut wire = Wire::connect(port)?;
    let known = wire.ask(ApiKey::Metadata, 4, &MetadataRequest::default().with_topics(None))?;
    let mut found = Partitions::new();
    for topic in known.topics {
        fine(topic.error_code, "know its topics")?;
        let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
        let numbers = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        found.insert(name, numbers);
    }
    Ok(found)
}

/// Whether the leaders of all these partitions answer where their logs end.
///
/// # Errors
/// The first that does not.
pub fn leaders(port: u16, partitions: &Partitions) -> Result<(), String> {
    const LATEST: i64 = -1;
    let mut wire = Wire::connect(port)?;
    let topics = partitions.iter().map(|(name, numbers)| {
        let asked = numbers.iter().map(|number| {
            ListOffsetsPartition::default().with_partition_index(*number).with_timestamp(LATEST)
        });
        ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.clone())))
            .with_partitions(asked.collect())
    });
    let ask =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    let told = wire.ask(ApiKey::ListOffsets, 2, &ask)?;
    let mut count = 0;
    for partition in told.topics.iter().flat_map(|topic| &topic.partitions) {
        fine(partition.error_code, "lead all partitions")?;
        count += 1;
    }
    let wanted: usize = partitions.values().map(Vec::len).sum();
    if count == wanted { Ok(()) } else { Err(format!("{count} of {wanted} partitions answered")) }
}

fn fine(code: i16, what: &str) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("the broker does not {what}: error code {code}")) }
}

fn one_record() -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let mut batch = BatchBuilder::new();
    batch.push(&NewRecord { timestamp, key: None, value: Some(b"ready"), headers: &[] });
    batch.finish().freeze()
}

/// One connection, one question at a time.
struct Wire(TcpStream);

impl Wire {
    fn connect(port: u16) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream =
            TcpStream::connect(address).map_err(|error| format!("port {port}: {error}"))?;
        let timeout = Some(ANSWER_WITHIN);
        let set = stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
        set.and_then(|()| stream.set_nodelay(true)).map_err(|error| error.to_string())?;
        Ok(Self(stream))
    }

    fn ask<T: Request + Encodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        body: &T,
    ) -> Result<T::Response, String> {
        let name = key.row().name;
        let lost = |error: std::io::Error| format!("{name}: {error}");
        let frame = encode_request(key, version, 1, Some("flumen-bench"), body)
            .map_err(|error| error.to_string())?;
        self.0.write_all(&frame).map_err(lost)?;
        let mut size = [0; 4];
        self.0.read_exact(&mut size).map_err(lost)?;
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > ANSWER_BYTES_MAX {
            return Err(format!("{name}: an answer of {size} bytes is none"));
        }
        let mut payload = vec![0; size];
        self.0.read_exact(&mut payload).map_err(lost)?;
        decode_response::<T>(key, version, payload.into())
            .map(|(_, answer)| answer)
            .map_err(|error| format!("{name}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_ends_with_success_the_deadline_or_a_reason() {
        let mut tries = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = until(
            deadline,
            || None,
            || {
                tries += 1;
                if tries == 3 { Ok(tries) } else { Err("no".to_owned()) }
            },
        );
        assert_eq!(found, Ok(3));
        let late = until(Instant::now(), || None, || Err::<(), _>("refused".to_owned()));
        assert_eq!(late, Err("not serving after 0 s: refused".to_owned()));
        let dead =
            until(deadline, || Some("it ended".to_owned()), || Err::<(), _>("no".to_owned()));
        assert_eq!(dead, Err("it ended".to_owned()));
    }
}

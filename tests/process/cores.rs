//! A data folder gets another number of cores, and keeps every record and every committed offset, whenever it is killed.

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    BrokerId, FetchRequest, FindCoordinatorRequest, GroupId, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, Request, StrBytes, TopicName, decode_response,
    encode_request,
};
use flumen_tests::broker::{Broker, Folder, free_port, inspect};
use flumen_tests::wire::Wire;
use std::thread;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;
const GROUPS: i64 = 5;
const PARTITIONED: &str = "num.partitions=8";
const COORDINATED: &str = "offsets.topic.num.partitions=4";
const COORDINATED_WITHIN: Duration = Duration::from_secs(20);

fn start(folder: &Folder, cores: u16) -> Broker {
    let cores = format!("flumen.cores={cores}");
    Broker::start_with(folder, free_port(), &[PARTITIONED, COORDINATED, &cores])
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

fn group(number: i64) -> GroupId {
    GroupId(StrBytes::from_string(format!("group {number}")))
}

/// A client that asks one thing at a time, of whichever core accepted it.
struct Client(Wire);

impl Client {
    fn of(broker: &Broker) -> Self {
        Self(Wire::connect(broker.address()).expect("a running broker accepts"))
    }

    fn ask<T: Request>(&mut self, key: ApiKey, version: i16, request: &T) -> T::Response {
        let frame = encode_request(key, version, 3, Some("test"), request).expect("a request");
        let answer = self.0.ask(&frame).expect("an answer");
        decode_response::<T>(key, version, Bytes::from(answer)).expect("a readable answer").1
    }

    fn make_topic(&mut self) {
        let asked = MetadataRequestTopic::default().with_name(Some(topic()));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let answer = self.ask(ApiKey::Metadata, 9, &request);
        assert_eq!(answer.topics[0].partitions.len(), PARTITIONS as usize);
    }

    /// Appends the next record of a partition; its value says where it must be found.
    fn produce(&mut self, partition: i32, offset: i64) {
        let value = value(partition, offset);
        let mut batch = BatchBuilder::new();
        let timestamp = 1_700_000_000_000 + offset;
        let record =
            NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] };
        batch.push(&record);
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch.finish().freeze()));
        let of_topic =
            TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![of_topic]);
        let answer = self.ask(ApiKey::Produce, 9, &request);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "partition {partition}");
    }

    /// Everything a partition holds, in order, as a reader without patience sees it: also right
    /// after a start nobody may see a shorter log than before.
    fn read(&mut self, partition: i32) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let wanted = FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(all.len() as i64)
                .with_partition_max_bytes(1 << 20);
            let wanted = FetchTopic::default().with_topic(topic()).with_partitions(vec![wanted]);
            let request = FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_min_bytes(1)
                .with_max_bytes(1 << 20)
                .with_session_epoch(-1)
                .with_topics(vec![wanted]);
            let answer = self.ask(ApiKey::Fetch, 11, &request);
            let found = &answer.responses[0].partitions[0];
            assert_eq!(found.error_code, 0, "partition {partition}");
            let values = found.records.as_ref().map(values).unwrap_or_default();
            if values.is_empty() {
                assert_eq!(found.high_watermark, all.len() as i64, "partition {partition}");
                return all;
            }
            all.extend(values);
        }
    }

    /// The group's coordinator may be loading, or its topic in the making.
    fn find_coordinator(&mut self, number: i64) {
        let request = FindCoordinatorRequest::default().with_key(group(number).0);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        while self.ask(ApiKey::FindCoordinator, 3, &request).error_code != 0 {
            assert!(Instant::now() < deadline, "group {number} has no coordinator");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn commit(&mut self, number: i64, round: i64) {
        self.find_coordinator(number);
        let partitions = (0..PARTITIONS)
            .map(|partition| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(committed(number, round, partition))
            })
            .collect();
        let of_topic =
            OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(number))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![of_topic]);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        loop {
            let answer = self.ask(ApiKey::OffsetCommit, 8, &request);
            let found = &answer.topics[0].partitions;
            if found.iter().all(|partition| partition.error_code == 0) {
                return;
            }
            // The coordinator was found and is still loading.
            let retriable = [14, 15, 16].contains(&found[0].error_code);
            assert!(retriable && Instant::now() < deadline, "group {number}: {found:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn committed(&mut self, number: i64) -> Vec<i64> {
        self.find_coordinator(number);
        let of_topic = OffsetFetchRequestTopics::default()
            .with_name(topic())
            .with_partition_indexes((0..PARTITIONS).collect());
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(group(number))
            .with_topics(Some(vec![of_topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        loop {
            let answer = self.ask(ApiKey::OffsetFetch, 8, &request);
            if answer.groups[0].error_code == 0 {
                let found = &answer.groups[0].topics[0].partitions;
                return found.iter().map(|partition| partition.committed_offset).collect();
            }
            assert!(Instant::now() < deadline, "group {number} is not loaded");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn values(bytes: &Bytes) -> Vec<String> {
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

fn value(partition: i32, offset: i64) -> String {
    format!("{partition} at {offset}")
}

fn committed(number: i64, round: i64, partition: i32) -> i64 {
    number * 1000 + round * 100 + i64::from(partition)
}

/// What was acknowledged so far.
struct Told {
    records: i64,
    round: i64,
}

impl Told {
    /// A few more records for every partition, and a commit of every group.
    fn say_more(&mut self, broker: &Broker) {
        let mut client = Client::of(broker);
        for offset in self.records..self.records + 5 {
            (0..PARTITIONS).for_each(|partition| client.produce(partition, offset));
        }
        self.records += 5;
        self.round += 1;
        (0..GROUPS).for_each(|number| client.commit(number, self.round));
    }

    fn verify(&self, broker: &Broker) {
        let mut client = Client::of(broker);
        for partition in 0..PARTITIONS {
            let wanted: Vec<String> = (0..self.records).map(|at| value(partition, at)).collect();
            assert_eq!(client.read(partition), wanted, "partition {partition}");
        }
        for number in 0..GROUPS {
            let wanted: Vec<i64> =
                (0..PARTITIONS).map(|p| committed(number, self.round, p)).collect();
            assert_eq!(client.committed(number), wanted, "group {number}");
        }
    }
}

/// A folder of so many cores with records and commits, killed.
fn spoken_to(folder: &Folder, cores: u16) -> Told {
    let broker = start(folder, cores);
    Client::of(&broker).make_topic();
    let mut told = Told { records: 0, round: 0 };
    told.say_more(&broker);
    broker.kill();
    told
}

#[test]
fn records_and_offsets_move_to_fewer_and_to_more_cores_than_processors() {
    let folder = Folder::fresh();
    let mut told = spoken_to(&folder, 2);
    for cores in [1, 3, 5, 2] {
        let broker = start(&folder, cores);
        told.verify(&broker);
        told.say_more(&broker);
        assert!(broker.said().contains("a partition moves"), "the log names the moves");
        broker.kill();
        let seen = inspect(&folder);
        assert!(seen.contains(&format!("node 1, {cores} cores")), "{seen}");
        assert_eq!(seen.matches("orders-").count(), seen.matches("[").count() - internal(&seen));
    }
    let broker = start(&folder, 2);
    told.verify(&broker);
    assert!(!broker.said().contains("a partition moves"), "nothing moves without a reason");
    assert_eq!(broker.stop().code(), Some(0));
}

fn internal(seen: &str) -> usize {
    seen.matches("(cluster metadata) [").count() + seen.matches("__consumer_offsets-").count()
}

#[test]
fn a_machine_with_another_number_of_processors_moves_nothing() {
    let folder = Folder::fresh();
    let told = spoken_to(&folder, 7);
    let broker = start(&folder, 0);
    told.verify(&broker);
    assert!(broker.said().contains("keeps it"), "it says so: {}", broker.said());
    assert_eq!(broker.stop().code(), Some(0));
    assert!(inspect(&folder).contains("7 cores"));
}

#[test]
fn killed_at_any_moment_of_a_change_it_has_the_old_cores_or_the_new() {
    let folder = Folder::fresh();
    let mut told = spoken_to(&folder, 2);
    let mut was_cut_short = 0;
    for round in 0..24_u16 {
        let cores = [3, 1, 2][usize::from(round) % 3];
        let named = format!("flumen.cores={cores}");
        let broker = Broker::launch(&folder, free_port(), &[PARTITIONED, COORDINATED, &named]);
        // Spread over the time a change takes; the exact moment is left to chance.
        thread::sleep(Duration::from_millis(u64::from(round * 47 % 400)));
        let said = broker.said();
        broker.kill();
        was_cut_short += usize::from(
            said.contains("moving partitions") && !said.contains("the data folder has its new"),
        );
        if round % 8 == 7 {
            let broker = start(&folder, cores);
            told.verify(&broker);
            told.say_more(&broker);
            broker.kill();
        }
    }
    let broker = start(&folder, 2);
    told.verify(&broker);
    assert!(was_cut_short > 0, "at least one change was cut short");
}

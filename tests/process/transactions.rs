//! Transactions over the real wire, under kills of the broker: what was acknowledged is carried out, what
//! was not never happened, and readers of committed records are never held up for good.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, BrokerId, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, OffsetFetchRequest, ProduceRequest,
    TopicName, TransactionalId, TxnOffsetCommitRequest, WireProducerId,
};
use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::client::{self, Client, text};
use flumen_tests::patience::until;

const TOPIC: &str = "ledger";
const GROUP: &str = "readers";

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

/// Whether a client asks again that is told this.
fn is_over_soon(code: i16) -> bool {
    let soon = [
        ErrorCode::ConcurrentTransactions,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::UnstableOffsetCommit,
        ErrorCode::NotLeaderOrFollower,
    ];
    soon.iter().any(|error| error.code() == code)
}

/// The code, unless it is to be asked again.
fn settled(code: i16) -> Option<i16> {
    Some(code).filter(|code| !is_over_soon(*code))
}

/// A transactional producer; `is_new`: it speaks `transaction.version` 2.
struct Producer {
    client: Client,
    id: &'static str,
    is_new: bool,
    producer: WireProducerId,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    fn begin(broker: &Broker, id: &'static str, is_new: bool, timeout_ms: i32) -> Self {
        let mut client = Client::of(broker);
        for (key_type, key) in [(1, id), (0, GROUP)] {
            let find =
                FindCoordinatorRequest::default().with_key(text(key)).with_key_type(key_type);
            until("a coordinator", || {
                let found = client.ask(ApiKey::FindCoordinator, 3, &find);
                settled(found.error_code).filter(|code| *code == 0)
            });
        }
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        let given = until("a producer id", || {
            let given = client.ask(ApiKey::InitProducerId, 4, &init);
            settled(given.error_code).map(|_| given)
        });
        assert_eq!(given.error_code, 0);
        let (producer, epoch) = (given.producer_id, given.producer_epoch);
        Self { client, id, is_new, producer, epoch, sequence: 0 }
    }

    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(self.id))
    }

    /// Writes a record to each partition, and says so first if it is an older client.
    fn produce(&mut self, value: &str) -> i16 {
        if !self.is_new {
            let partitions =
                AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(vec![0, 1]);
            let add = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(self.transactional_id())
                .with_v3_and_below_producer_id(self.producer)
                .with_v3_and_below_producer_epoch(self.epoch)
                .with_v3_and_below_topics(vec![partitions]);
            let added = until("partitions added", || {
                let answer = self.client.ask(ApiKey::AddPartitionsToTxn, 3, &add);
                let of_topic = &answer.results_by_topic_v3_and_below[0];
                settled(of_topic.results_by_partition[0].partition_error_code)
            });
            if added != 0 {
                return added;
            }
        }
        let data = [0, 1].map(|index| {
            PartitionProduceData::default().with_index(index).with_records(Some(self.batch(value)))
        });
        let of_topic =
            TopicProduceData::default().with_name(topic()).with_partition_data(data.to_vec());
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![of_topic]);
        let version = if self.is_new { 12 } else { 9 };
        let code = until("records produced", || {
            let answer = self.client.ask(ApiKey::Produce, version, &request);
            let mut codes = answer.responses[0].partition_responses.iter().map(|it| it.error_code);
            codes.find(|code| *code != 0).map_or(Some(0), settled)
        });
        self.sequence += 1;
        code
    }

    fn batch(&self, value: &str) -> Bytes {
        let mut batch = BatchBuilder::new()
            .with_producer(
                ProducerId(self.producer.0),
                ProducerEpoch(self.epoch),
                Sequence(self.sequence),
            )
            .transactional();
        let value = Some(value.as_bytes());
        batch.push(&NewRecord { timestamp: 1_700_000_000_000, key: None, value, headers: &[] });
        batch.finish().freeze()
    }

    fn commit_offset(&mut self, offset: i64) -> i16 {
        if !self.is_new {
            let add = AddOffsetsToTxnRequest::default()
                .with_transactional_id(self.transactional_id())
                .with_producer_id(self.producer)
                .with_producer_epoch(self.epoch)
                .with_group_id(GroupId(text(GROUP)));
            let added = until("offsets added", || {
                settled(self.client.ask(ApiKey::AddOffsetsToTxn, 3, &add).error_code)
            });
            assert_eq!(added, 0);
        }
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset);
        let of_topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(GroupId(text(GROUP)))
            .with_producer_id(self.producer)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![of_topic]);
        let version = if self.is_new { 5 } else { 3 };
        until("an offset committed", || {
            let answer = self.client.ask(ApiKey::TxnOffsetCommit, version, &request);
            settled(answer.topics[0].partitions[0].error_code)
        })
    }

    fn end(&mut self, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(self.producer)
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let version = if self.is_new { 5 } else { 3 };
        let answer = until("an end", || {
            let answer = self.client.ask(ApiKey::EndTxn, version, &request);
            settled(answer.error_code).map(|_| answer)
        });
        if self.is_new && answer.error_code == 0 {
            assert_eq!(answer.producer_epoch, self.epoch + 1, "every end gives an epoch");
            (self.producer, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequence = 0;
        }
        answer.error_code
    }
}

/// What a reader of committed records sees of a partition, once everything before its end is decided.
fn committed(broker: &Broker, partition: i32) -> Vec<String> {
    until("a decided log", || {
        let mut client = Client::of(broker);
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(0)
            .with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default().with_topic(topic()).with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        let answer = client.ask(ApiKey::Fetch, 11, &request);
        let found = &answer.responses[0].partitions[0];
        if found.error_code != 0 || found.last_stable_offset < found.high_watermark {
            return None;
        }
        let aborted = found.aborted_transactions.clone().unwrap_or_default();
        let aborted: Vec<(i64, i64)> =
            aborted.iter().map(|it| (it.producer_id.0, it.first_offset)).collect();
        Some(found.records.as_ref().map(|bytes| visible(bytes, aborted)).unwrap_or_default())
    })
}

/// Leaves out what was aborted, as clients do.
fn visible(bytes: &Bytes, mut aborted: Vec<(i64, i64)>) -> Vec<String> {
    let mut values = Vec::new();
    let mut inside: Vec<i64> = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.expect("whole batches");
        let header: BatchHeader = batch.header;
        let producer = header.producer_id.0;
        let begun = |it: &(i64, i64)| it.0 == producer && it.1 <= header.base_offset.0;
        if let Some(place) = aborted.iter().position(begun) {
            inside.push(aborted.remove(place).0);
        }
        if header.is_control() {
            inside.retain(|id| *id != producer);
        } else if !(header.is_transactional() && inside.contains(&producer)) {
            values.extend(client::values(&Bytes::copy_from_slice(batch.bytes)));
        }
    }
    values
}

/// The committed offset of the group; `None` while it is not stable.
fn offset_now(broker: &Broker) -> Option<i64> {
    let topics =
        OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let answer = Client::of(broker).ask(ApiKey::OffsetFetch, 8, &request);
    let group = &answer.groups[0];
    settled(group.error_code)?;
    let found = &group.topics[0].partitions[0];
    settled(found.error_code).map(|_| found.committed_offset)
}

fn offset(broker: &Broker) -> i64 {
    until("a stable offset", || offset_now(broker))
}

fn start(folder: &Folder, cores: &str) -> Broker {
    Broker::start_with(folder, free_port(), &[cores, "num.partitions=2"])
}

#[test]
fn what_was_committed_survives_a_kill_and_what_was_aborted_does_not_come_back() {
    for (cores, is_new) in [("flumen.cores=1", false), ("flumen.cores=2", true)] {
        let folder = Folder::fresh();
        let broker = start(&folder, cores);
        assert_eq!(Client::of(&broker).make_topic(&topic()), 2);
        let mut producer = Producer::begin(&broker, "t", is_new, 60_000);
        for (value, commit) in [("one", true), ("two", false), ("three", true)] {
            assert_eq!(producer.produce(value), 0);
            assert_eq!(producer.end(commit), 0);
        }
        // The decision is on the disk; its markers may not be.
        broker.kill();
        let broker = start(&folder, cores);
        for partition in [0, 1] {
            assert_eq!(committed(&broker, partition), ["one", "three"], "{cores}");
        }
    }
}

#[test]
fn a_producer_that_died_is_fenced_and_its_transaction_aborted_by_the_next() {
    for is_new in [false, true] {
        let folder = Folder::fresh();
        let broker = start(&folder, "flumen.cores=2");
        Client::of(&broker).make_topic(&topic());
        let mut zombie = Producer::begin(&broker, "t", is_new, 60_000);
        assert_eq!(zombie.produce("left behind"), 0);
        assert_eq!(zombie.commit_offset(7), 0);
        assert_eq!(offset_now(&broker), None, "it may still be committed");
        let mut next = Producer::begin(&broker, "t", is_new, 60_000);
        assert_eq!(offset(&broker), -1);
        assert_eq!(next.produce("mine"), 0);
        assert_eq!(next.end(true), 0);
        let fenced = ErrorCode::ProducerFenced.code();
        assert_eq!(zombie.end(true), fenced);
        let refused = zombie.produce("too late");
        let epoch = ErrorCode::InvalidProducerEpoch.code();
        assert!([fenced, epoch].contains(&refused), "{refused}");
        assert_eq!(committed(&broker, 0), ["mine"]);
    }
}

#[test]
fn offsets_of_a_transaction_are_those_of_its_end_also_after_a_kill() {
    for is_new in [false, true] {
        let folder = Folder::fresh();
        let broker = start(&folder, "flumen.cores=2");
        Client::of(&broker).make_topic(&topic());
        let mut producer = Producer::begin(&broker, "t", is_new, 60_000);
        assert_eq!(producer.commit_offset(5), 0);
        assert_eq!(producer.end(true), 0);
        assert_eq!(offset(&broker), 5);
        assert_eq!(producer.commit_offset(6), 0);
        assert_eq!(producer.end(false), 0);
        assert_eq!(offset(&broker), 5);
        assert_eq!(producer.commit_offset(7), 0);
        assert_eq!(producer.end(true), 0);
        broker.kill();
        let broker = start(&folder, "flumen.cores=2");
        assert_eq!(offset(&broker), 7);
    }
}

#[test]
fn readers_wait_no_longer_than_the_timeout_of_a_producer_that_is_gone() {
    let folder = Folder::fresh();
    let broker = start(&folder, "flumen.cores=2");
    Client::of(&broker).make_topic(&topic());
    let mut gone = Producer::begin(&broker, "gone", true, 3_000);
    assert_eq!(gone.produce("never"), 0);
    let begun = Instant::now();
    drop(gone);
    broker.kill();
    let broker = start(&folder, "flumen.cores=2");
    assert_eq!(committed(&broker, 0), Vec::<String>::new());
    assert!(begun.elapsed() >= Duration::from_secs(2), "its time was not over");
}

#[test]
fn a_producer_of_kafka_4_that_was_too_slow_aborts_and_goes_on() {
    let folder = Folder::fresh();
    let broker = start(&folder, "flumen.cores=2");
    Client::of(&broker).make_topic(&topic());
    let mut slow = Producer::begin(&broker, "slow", true, 1_000);
    assert_eq!(slow.produce("too slow"), 0);
    assert_eq!(committed(&broker, 0), Vec::<String>::new(), "its time is over");
    assert_eq!(slow.produce("later still"), ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(slow.end(false), 0);
    assert_eq!(slow.produce("in time"), 0);
    assert_eq!(slow.end(true), 0);
    for partition in [0, 1] {
        assert_eq!(committed(&broker, partition), ["in time"]);
    }
}

#[test]
fn readers_are_let_go_also_when_the_disk_is_nearly_full() {
    let folder = Folder::fresh();
    let broker = start(&folder, "flumen.cores=2");
    Client::of(&broker).make_topic(&topic());
    let mut gone = Producer::begin(&broker, "gone", true, 5_000);
    assert_eq!(gone.produce("never"), 0);
    broker.kill();
    // More than any disk has.
    let reserve = "flumen.disk.reserve.bytes=1000000000000000";
    let broker = Broker::start_with(&folder, free_port(), &["flumen.cores=2", reserve]);
    assert_eq!(committed(&broker, 0), Vec::<String>::new());
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("gone"))))
        .with_transaction_timeout_ms(5_000)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let refused = Client::of(&broker).ask(ApiKey::InitProducerId, 4, &init).error_code;
    assert_eq!(refused, ErrorCode::CoordinatorNotAvailable.code(), "nothing begins");
}

//! Fetch sessions over partitions of both cores (KIP-227).
//!
//! Does: step through sessions as consumers do, and as they should not.
//! Does not: look at the cache of sessions itself; its own tests do.
//! Invariants: partitions 0 to 3 of a topic lie on different cores by turns; the client is on core 1.
//! Apart from the other fetches because here an answer depends on the ones before it.

use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::create_topics_request::CreatableTopic;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use flumen_protocol::messages::fetch_response::FetchResponse;
use flumen_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, MetadataRequest, Uuid,
    metadata_request::MetadataRequestTopic,
};

use crate::stories::{
    DELETE_RECORDS, PRODUCE, delete, delete_records_request, make_topic, name, produce_request,
};
use crate::world::{Awaited, World};

/// By name and by id.
const VERSIONS: [i16; 2] = [12, 18];
const PLENTY: i32 = 1 << 20;
/// How long the steps of these stories wait.
const WAIT_MS: i32 = 30_000;

/// A consumer with a session.
struct Consumer {
    world: World,
    version: i16,
    id: Uuid,
    session: i32,
    epoch: i32,
    bytes_max: i32,
    partition_bytes_max: i32,
}

/// What a partition was answered with: number, error, high watermark, records' bytes.
type Told = (i32, i16, i64, bool);

impl Consumer {
    /// A node with a topic of so many partitions, and a session over all of them at offset 0.
    fn new(version: i16, partitions: i32) -> Self {
        let mut world = World::new(2);
        make_topic(&mut world, "other");
        let topic = CreatableTopic::default()
            .with_name(name("t"))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request =
            CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
        assert_eq!(world.ask(0, ApiKey::CreateTopics, 5, &request).topics[0].error_code, 0);
        let asked = MetadataRequestTopic::default().with_name(Some(name("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let id = world.ask(0, ApiKey::Metadata, 12, &request).topics[0].topic_id;
        let (session, epoch, bytes_max) = (0, 0, PLENTY);
        let partition_bytes_max = PLENTY;
        Self { world, version, id, session, epoch, bytes_max, partition_bytes_max }
    }

    fn request(&self, wanted: &[(i32, i64)], forgotten: &[i32], wait_ms: i32) -> FetchRequest {
        let partitions = wanted.iter().map(|(partition, from)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*from)
                .with_partition_max_bytes(self.partition_bytes_max)
        });
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        let gone = ForgottenTopic::default().with_partitions(forgotten.to_vec());
        let (topic, gone) = if self.version >= 13 {
            (topic.with_topic_id(self.id), gone.with_topic_id(self.id))
        } else {
            (topic.with_topic(name("t")), gone.with_topic(name("t")))
        };
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(self.bytes_max)
            .with_session_id(self.session)
            .with_session_epoch(self.epoch)
            .with_topics(if wanted.is_empty() { Vec::new() } else { vec![topic] })
            .with_forgotten_topics_data(if forgotten.is_empty() { Vec::new() } else { vec![gone] })
    }

    fn send(&mut self, wanted: &[(i32, i64)], forgotten: &[i32], wait_ms: i32) -> Awaited {
        let request = self.request(wanted, forgotten, wait_ms);
        let awaited = self.world.send(1, ApiKey::Fetch, self.version, &request);
        self.world.run();
        awaited
    }

    fn answer(&mut self, awaited: Awaited) -> Option<FetchResponse> {
        self.world.answer::<FetchRequest>(awaited, ApiKey::Fetch, self.version)
    }

    /// What a step that does not wait is told.
    fn step(&mut self, wanted: &[(i32, i64)], forgotten: &[i32]) -> Vec<Told> {
        let awaited = self.send(wanted, forgotten, 0);
        let answer = self.answer(awaited).expect("it does not wait");
        self.take(&answer)
    }

    fn take(&mut self, answer: &FetchResponse) -> Vec<Told> {
        assert_eq!(answer.error_code, 0);
        assert!(self.session == 0 || answer.session_id == self.session);
        (self.session, self.epoch) = (answer.session_id, self.epoch + 1);
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|it| {
                let has_records = !it.records.as_ref().is_none_or(Bytes::is_empty);
                (it.partition_index, it.error_code, it.high_watermark, has_records)
            })
            .collect()
    }

    fn begin(&mut self, partitions: i32) {
        let all: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, 0)).collect();
        let told = self.step(&all, &[]);
        assert_eq!(told.len(), all.len(), "the first answer names all");
        assert_ne!(self.session, 0);
    }

    fn produce(&mut self, partition: i32, value: &str) {
        let request = produce_request("t", partition, value);
        let answer = self.world.ask(0, ApiKey::Produce, PRODUCE, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
}

#[test]
fn a_step_tells_what_is_new_and_nothing_else() {
    for version in VERSIONS {
        let mut consumer = Consumer::new(version, 100);
        consumer.begin(100);
        assert_eq!(consumer.step(&[], &[]), []);
        consumer.produce(70, "x");
        consumer.produce(7, "x");
        assert_eq!(consumer.step(&[], &[]), [(7, 0, 1, true), (70, 0, 1, true)]);
        // Who does not go on gets the same again; who does, nothing.
        assert_eq!(consumer.step(&[(7, 1)], &[]), [(70, 0, 1, true)]);
        assert_eq!(consumer.step(&[(70, 1)], &[]), []);
        consumer.produce(7, "x");
        consumer.produce(70, "x");
        assert_eq!(consumer.step(&[], &[7]), [(70, 0, 2, true)]);
        // Named again it is new again.
        assert_eq!(consumer.step(&[(7, 2), (70, 2)], &[]), [(7, 0, 2, false)]);
    }
}

#[test]
fn a_step_that_waits_is_answered_by_the_record_it_waits_for() {
    for version in VERSIONS {
        let mut consumer = Consumer::new(version, 4);
        consumer.begin(4);
        for partition in 0..4 {
            let awaited = consumer.send(&[], &[], WAIT_MS);
            consumer.produce(partition, "x");
            let answer = consumer.answer(awaited).expect("there is a record");
            assert_eq!(consumer.take(&answer), [(partition, 0, 1, true)]);
            assert_eq!(consumer.step(&[(partition, 1)], &[]), []);
        }
        let awaited = consumer.send(&[], &[], WAIT_MS);
        consumer.world.wait(Duration::from_millis(WAIT_MS as u64 - 1));
        assert!(consumer.answer(awaited).is_none());
        consumer.world.wait(Duration::from_millis(2));
        let answer = consumer.answer(awaited).expect("its time is up");
        assert_eq!(consumer.take(&answer), []);
    }
}

#[test]
fn a_step_waits_for_as_many_bytes_as_it_wants_from_all_cores_together() {
    let mut consumer = Consumer::new(18, 4);
    consumer.begin(4);
    let request = consumer.request(&[], &[], WAIT_MS).with_min_bytes(2_200);
    let awaited = consumer.world.send(1, ApiKey::Fetch, 18, &request);
    consumer.world.run();
    for partition in 0..3 {
        assert!(consumer.answer(awaited).is_none());
        consumer.produce(partition, &"x".repeat(600));
    }
    assert!(consumer.answer(awaited).is_none(), "1,800 and their batches");
    consumer.produce(0, &"x".repeat(600));
    let answer = consumer.answer(awaited).expect("enough is there");
    let mut told = consumer.take(&answer);
    told.sort_unstable();
    assert_eq!(told, [(0, 0, 2, true), (1, 0, 1, true), (2, 0, 1, true)]);
}

#[test]
fn a_moved_start_is_told_and_wakes_nobody() {
    let mut consumer = Consumer::new(18, 2);
    consumer.produce(1, "x");
    consumer.begin(2);
    assert_eq!(consumer.step(&[(1, 1)], &[]), []);
    let awaited = consumer.send(&[], &[], WAIT_MS);
    let request = delete_records_request("t", 1, 1);
    consumer.world.ask(0, ApiKey::DeleteRecords, DELETE_RECORDS, &request);
    assert!(consumer.answer(awaited).is_none());
    consumer.world.wait(Duration::from_millis(WAIT_MS as u64 + 1));
    let answer = consumer.answer(awaited).expect("its time is up");
    consumer.take(&answer);
    assert_eq!(consumer.step(&[], &[]), [(1, 0, 1, false)]);
}

#[test]
fn a_limit_lets_every_partition_have_its_turn() {
    let mut consumer = Consumer::new(18, 6);
    consumer.begin(6);
    for partition in 0..6 {
        consumer.produce(partition, &"x".repeat(1_000));
    }
    // One record fits; nobody goes on.
    consumer.bytes_max = 1_200;
    let mut gave = Vec::new();
    for _ in 0..12 {
        let told = consumer.step(&[], &[]);
        gave.extend(told.iter().filter(|told| told.3).map(|told| told.0));
    }
    assert_eq!(gave, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_deleted_topic_ends_the_wait_and_is_told_until_it_is_forgotten() {
    for version in VERSIONS {
        let mut consumer = Consumer::new(version, 2);
        consumer.begin(2);
        let awaited = consumer.send(&[], &[], WAIT_MS);
        delete(&mut consumer.world, "t");
        let answer = consumer.answer(awaited).expect("a reader that waits is told");
        assert!(consumer.take(&answer).iter().all(|told| told.1 != 0));
        let unknown = match version {
            18 => ErrorCode::UnknownTopicId.code(),
            _ => ErrorCode::UnknownTopicOrPartition.code(),
        };
        for _ in 0..2 {
            let mut told = consumer.step(&[], &[]);
            told.sort_unstable();
            assert_eq!(told, [(0, unknown, -1, false), (1, unknown, -1, false)]);
        }
        assert_eq!(consumer.step(&[], &[0]), [(1, unknown, -1, false)]);
    }
}

#[test]
fn a_topic_that_is_made_later_joins_the_session() {
    let mut consumer = Consumer::new(12, 1);
    consumer.begin(1);
    let wanted = FetchPartition::default().with_partition_max_bytes(PLENTY);
    let topic = FetchTopic::default().with_topic(name("late")).with_partitions(vec![wanted]);
    let request = consumer.request(&[], &[], WAIT_MS).with_topics(vec![topic]);
    let answer = consumer.world.ask(1, ApiKey::Fetch, 12, &request);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(consumer.take(&answer), [(0, unknown, -1, false)]);
    make_topic(&mut consumer.world, "late");
    assert_eq!(consumer.step(&[], &[]), [(0, 0, 0, false)]);
    consumer.world.ask(0, ApiKey::Produce, PRODUCE, &produce_request("late", 0, "x"));
    assert_eq!(consumer.step(&[], &[]), [(0, 0, 1, true)]);
}

#[test]
fn steps_out_of_order_and_of_strangers_are_refused() {
    let mut consumer = Consumer::new(18, 2);
    consumer.begin(2);
    consumer.step(&[], &[]);
    let (session, epoch) = (consumer.session, consumer.epoch);
    let refused = |consumer: &mut Consumer, session, epoch, version| {
        let (known, own) = ((consumer.session, consumer.epoch), consumer.version);
        (consumer.session, consumer.epoch, consumer.version) = (session, epoch, version);
        let awaited = consumer.send(&[], &[], 0);
        let answer = consumer.answer(awaited).expect("a refusal does not wait");
        (consumer.session, consumer.epoch) = known;
        consumer.version = own;
        assert!(answer.responses.is_empty());
        (answer.session_id, answer.error_code)
    };
    let unknown = (0, ErrorCode::FetchSessionIdNotFound.code());
    let out_of_order = (0, ErrorCode::InvalidFetchSessionEpoch.code());
    let other_names = (0, ErrorCode::FetchSessionTopicIdError.code());
    assert_eq!(refused(&mut consumer, session, epoch + 1, 18), out_of_order);
    assert_eq!(refused(&mut consumer, session, epoch - 1, 18), out_of_order);
    assert_eq!(refused(&mut consumer, session ^ 2, epoch, 18), unknown);
    assert_eq!(refused(&mut consumer, session, epoch, 12), other_names);
    // None of that did any harm.
    assert_eq!(consumer.step(&[], &[]), []);
    // On the other core nobody knows it.
    let request = consumer.request(&[], &[], 0);
    let answer = consumer.world.ask(0, ApiKey::Fetch, 18, &request);
    assert_eq!((answer.session_id, answer.error_code), unknown);
}

#[test]
fn a_step_that_is_overtaken_tells_nothing() {
    let mut consumer = Consumer::new(18, 2);
    consumer.begin(2);
    let waits = consumer.send(&[], &[], WAIT_MS);
    consumer.epoch += 1;
    let overtakes = consumer.send(&[], &[], WAIT_MS);
    consumer.produce(0, "x");
    let answer = consumer.answer(overtakes).expect("there is a record");
    assert_eq!(consumer.take(&answer), [(0, 0, 1, true)]);
    consumer.world.wait(Duration::from_millis(WAIT_MS as u64 + 1));
    let answer = consumer.answer(waits).expect("its time is up");
    let invalid = ErrorCode::InvalidFetchSessionEpoch.code();
    assert_eq!((answer.error_code, answer.responses.len()), (invalid, 0));
}

#[test]
fn sessions_end_as_clients_wish() {
    let mut consumer = Consumer::new(18, 2);
    consumer.begin(2);
    let first = consumer.session;
    // Another one instead of it.
    consumer.epoch = 0;
    let request = consumer.request(&[(0, 0), (1, 0)], &[], 0);
    let answer = consumer.world.ask(1, ApiKey::Fetch, 18, &request);
    assert!(answer.session_id != 0 && answer.session_id != first);
    // None instead of that.
    (consumer.session, consumer.epoch) = (answer.session_id, -1);
    let answer = consumer.world.ask(1, ApiKey::Fetch, 18, &consumer.request(&[(0, 0)], &[], 0));
    assert_eq!((answer.session_id, answer.error_code), (0, 0));
    consumer.epoch = 1;
    for session in [first, consumer.session] {
        consumer.session = session;
        let answer = consumer.world.ask(1, ApiKey::Fetch, 18, &consumer.request(&[], &[], 0));
        assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound.code());
    }
}

#[test]
fn a_session_outlives_its_connection_and_misses_nothing() {
    let mut consumer = Consumer::new(18, 2);
    consumer.begin(2);
    consumer.send(&[], &[], WAIT_MS);
    consumer.world.hang_up(1);
    consumer.epoch += 1;
    for partition in 0..2 {
        consumer.produce(partition, "x");
    }
    assert_eq!(consumer.step(&[], &[]), [(0, 0, 1, true), (1, 0, 1, true)]);
}

#[test]
fn a_client_behind_a_leader_change_is_told_who_leads() {
    for version in [15, 18] {
        let mut consumer = Consumer::new(version, 1);
        // A second start is a second epoch.
        consumer.world.cut_power();
        let mut request = consumer.request(&[(0, 0)], &[], WAIT_MS);
        request.topics[0].partitions[0].current_leader_epoch = 1;
        let answer = consumer.world.ask(1, ApiKey::Fetch, version, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::FencedLeaderEpoch.code());
        let leader = &partition.current_leader;
        let endpoints: Vec<_> = answer.node_endpoints.iter().map(|it| it.node_id.0).collect();
        let expected = if version >= 16 { ((1, 2), vec![1]) } else { ((-1, -1), vec![]) };
        assert_eq!(((leader.leader_id.0, leader.leader_epoch), endpoints), expected);
    }
}

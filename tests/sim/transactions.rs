//! Transactions on a partition, told by their readers: nothing that is undecided or aborted is read, nothing
//! that is committed is missed, whenever the power goes.
//!
//! Does: write as a producer and as its coordinator, over the questions cores ask each other; read over
//! the wire as a consumer of committed records does.
//! Does not: know a coordinator; the world gives its word.
//! Invariants: what is not answered is asked again, as a client and a coordinator do.
//! Apart because these stories need a reader that understands markers.

use std::collections::BTreeSet;
use std::time::Duration;

use flumen_broker::shard::mailbox::{Answer, AppendQuestion, EndQuestion, Question, Target};
use flumen_broker::shard::routing;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::check_produced;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId};
use flumen_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::describe_producers_request::TopicRequest;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::PartitionData;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use flumen_protocol::messages::{
    AddPartitionsToTxnRequest, BrokerId, CreateTopicsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, StrBytes, TransactionalId, WireProducerId,
    WriteTxnMarkersRequest,
};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::{Acks, Claim};

use crate::stories::name;
use crate::world::World;

const FETCH: i16 = 11;
const CORES: u16 = 2;

/// A partition, and an id whose coordinator lives on the other core.
struct Scene {
    world: World,
    log: LogId,
    id: String,
    /// Operations of disks before the power goes once.
    steps: usize,
}

/// What producer and coordinator do.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A record of a producer's transaction: producer, epoch, sequence.
    Write(i64, i16, i32),
    /// A record of nobody.
    Plain,
    Commit(i64, i16),
    Abort(i64, i16),
    /// Long enough for everything to be settled.
    Rest,
}

impl Scene {
    fn new() -> Self {
        Self::on(&[])
    }

    /// On a topic with these settings.
    fn on(settings: &[(&'static str, &'static str)]) -> Self {
        let mut world = World::new(CORES);
        let settings = settings.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(Some(StrBytes::from_static_str(value)))
        });
        let topic = |topic: &str, partitions: i32, settings: Vec<CreatableTopicConfig>| {
            CreatableTopic::default()
                .with_name(name(topic))
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(settings)
        };
        let topics = vec![
            topic("t", 2, settings.collect()),
            topic(routing::TRANSACTIONS_TOPIC, 4, Vec::new()),
        ];
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(9_000);
        let answer = world.ask(0, ApiKey::CreateTopics, 5, &request);
        assert!(answer.topics.iter().all(|topic| topic.error_code == 0));
        let log = log_of(&mut world, "t");
        let holder = log_of(&mut world, routing::TRANSACTIONS_TOPIC).topic;
        let is_elsewhere = |id: &String| {
            let partition = routing::coordinator_partition(id, 4);
            routing::core_of(LogId { topic: holder, partition }, CORES)
                != routing::core_of(log, CORES)
        };
        let id = (0..).map(|n| format!("id-{n}")).find(is_elsewhere).expect("one of many");
        world.word = Some(ErrorCode::None);
        Self { world, log, id, steps: usize::MAX }
    }

    fn core(&self) -> usize {
        usize::from(routing::core_of(self.log, CORES).0)
    }

    fn ask(&mut self, question: Question) -> Ticket {
        let core = self.core();
        self.world.question(core, Target::Log(self.log), question)
    }

    fn answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let place = self.world.answered.iter().position(|(whose, _)| *whose == ticket)?;
        Some(self.world.answered.remove(place).1)
    }

    fn append(&self, act: Act, number: usize) -> Question {
        let value = format!("{number}");
        let mut builder = BatchBuilder::new();
        if let Act::Write(id, epoch, sequence) = act {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
            builder = builder.with_producer(id, epoch, Sequence(sequence)).transactional();
        }
        let (timestamp, key, value) =
            (self.world.now.wall.0, Some(&b"k"[..]), Some(value.as_bytes()));
        builder.push(&NewRecord { timestamp, key, value, headers: &[] });
        let batch = builder.finish();
        let summary = check_produced(&batch).expect("a producer's batch");
        let claim = Claim { transactional_id: self.id.clone(), adds: false };
        Question::Append(Box::new(AppendQuestion {
            batch,
            summary,
            acks: Acks::All,
            deadline: self.world.now.monotonic.after(Duration::from_secs(3_600)),
            claim: summary.transactional.then(|| Box::new(claim)),
            behind: None,
        }))
    }

    fn end(&self, id: i64, epoch: i16, commit: bool) -> Question {
        Question::EndTransaction(Box::new(EndQuestion {
            producer_id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            marker: EndMarker { commit, coordinator_epoch: 0 },
            must_be_newer: true,
            deadline: self.world.now.monotonic.after(Duration::from_secs(3_600)),
        }))
    }

    /// Does it, and once more if the power goes before it is answered. `number` is its record's value.
    fn act(&mut self, act: Act, number: usize) {
        loop {
            let ticket = match act {
                Act::Write(..) | Act::Plain => self.ask(self.append(act, number)),
                Act::Commit(id, epoch) => self.ask(self.end(id, epoch, true)),
                Act::Abort(id, epoch) => self.ask(self.end(id, epoch, false)),
                Act::Rest => {
                    self.world.wait_without_disks(Duration::from_secs(60));
                    self.world.question(0, Target::Core, Question::Metrics)
                }
            };
            let is_done = self.world.run_steps(&mut self.steps);
            match self.answer(ticket) {
                Some(Answer::Appended(outcome)) => {
                    assert!(outcome.is_ok(), "{act:?}: {outcome:?}");
                }
                Some(Answer::Metrics(_)) => {}
                Some(other) => panic!("{act:?} is answered {other:?}"),
                None => assert!(!is_done, "{act:?} is answered"),
            }
            if is_done {
                return;
            }
            self.steps = usize::MAX;
            self.world.cut_power();
        }
    }

    /// A fetch of everything committed; the answer, and what such a reader makes of it.
    fn read(&mut self, from: i64) -> (PartitionData, Vec<String>) {
        let request = fetch(from, 0);
        let answer = self.world.ask(0, ApiKey::Fetch, FETCH, &request);
        let data = answer.responses[0].partitions[0].clone();
        assert_eq!(data.error_code, 0);
        let values = committed_values(&data);
        (data, values)
    }
}

fn log_of(world: &mut World, topic: &str) -> LogId {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let answer = world.ask(0, ApiKey::Metadata, 12, &request);
    let topic = TopicId(*answer.topics[0].topic_id.as_bytes());
    LogId { topic, partition: PartitionIndex(1) }
}

/// Of everything that is committed.
fn fetch(from: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(1)
        .with_fetch_offset(from)
        .with_partition_max_bytes(16 << 20);
    let topic = FetchTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(16 << 20)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// What a consumer makes of an answer: it leaves out the records of a producer from the first offset of
/// a transaction of it that was aborted to the marker that says so.
fn committed_values(data: &PartitionData) -> Vec<String> {
    let mut aborted = data.aborted_transactions.clone().expect("a list, be it empty");
    assert!(aborted.is_sorted_by_key(|it| it.first_offset), "by first offset");
    aborted.reverse();
    let mut leaving_out = BTreeSet::new();
    // Of a transaction that a cleaning has emptied only the marker may be left.
    let mut has_records = BTreeSet::new();
    let mut values = Vec::new();
    for batch in batches(data.records.as_ref().map_or(&[][..], |records| &records[..])) {
        let batch = batch.expect("whole batches");
        let header = batch.header;
        while let Some(next) = aborted.pop_if(|it| it.first_offset <= header.last_offset().0) {
            leaving_out.insert(ProducerId(next.producer_id.0));
        }
        if let Some(marker) = EndMarker::read(batch.bytes) {
            let left_out = leaving_out.remove(&header.producer_id);
            let is_emptied = !has_records.remove(&header.producer_id);
            assert!(
                left_out != marker.commit || (is_emptied && !left_out),
                "what is left out was aborted, and the other way round"
            );
            continue;
        }
        if header.is_transactional() && !header.is_control() {
            has_records.insert(header.producer_id);
        }
        if leaving_out.contains(&header.producer_id) {
            continue;
        }
        for record in &records(batch.bytes, 1 << 20).expect("sound batches") {
            let value = record.expect("sound records").value.unwrap_or_default();
            values.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    values
}

/// Two transactions in one another, plain records between them, a rest, and one more of each kind.
const SCRIPT: [Act; 17] = [
    Act::Plain,
    Act::Write(1, 0, 0),
    Act::Write(2, 0, 0),
    Act::Plain,
    Act::Write(1, 0, 1),
    Act::Abort(2, 1),
    Act::Rest,
    Act::Write(2, 1, 0),
    Act::Plain,
    Act::Commit(1, 1),
    Act::Write(1, 1, 0),
    Act::Write(1, 1, 1),
    Act::Rest,
    Act::Abort(1, 2),
    Act::Plain,
    Act::Commit(2, 2),
    Act::Rest,
];

/// The positions of the acts above whose records are committed.
const COMMITTED: [&str; 7] = ["0", "1", "3", "4", "7", "8", "14"];

fn play(scene: &mut Scene) {
    for (number, act) in SCRIPT.into_iter().enumerate() {
        scene.act(act, number);
    }
}

fn check(scene: &mut Scene, at: usize) {
    // A record of nobody is written again if the power went before its answer.
    let (data, mut values) = scene.read(0);
    values.dedup();
    assert_eq!(values, COMMITTED, "the power went after {at} operations");
    assert_eq!(data.last_stable_offset, data.high_watermark, "nothing is under way");
}

#[test]
fn whenever_the_power_goes_readers_see_what_is_committed_and_nothing_else() {
    let whole = {
        let mut scene = Scene::new();
        scene.steps = usize::MAX;
        play(&mut scene);
        check(&mut scene, usize::MAX);
        usize::MAX - scene.steps
    };
    assert!(whole > 40, "there is something to interrupt: {whole} operations");
    for steps in 0..whole {
        let mut scene = Scene::new();
        scene.steps = steps;
        play(&mut scene);
        check(&mut scene, steps);
        scene.world.cut_power();
        check(&mut scene, steps);
    }
}

#[test]
fn a_reader_of_committed_records_waits_for_the_end_of_a_transaction() {
    let mut scene = Scene::new();
    scene.act(Act::Write(1, 0, 0), 0);
    scene.act(Act::Plain, 1);
    let (data, values) = scene.read(0);
    assert_eq!((values.len(), data.high_watermark, data.last_stable_offset), (0, 2, 0));
    let waiting = scene.world.send(0, ApiKey::Fetch, FETCH, &fetch(0, 30_000));
    scene.world.run();
    scene.act(Act::Plain, 2);
    let answer = scene.world.answer::<FetchRequest>(waiting, ApiKey::Fetch, FETCH);
    assert_eq!(answer, None, "what comes behind does not wake it");
    scene.act(Act::Commit(1, 1), 3);
    let answer = scene.world.answer::<FetchRequest>(waiting, ApiKey::Fetch, FETCH).expect("woken");
    let data = &answer.responses[0].partitions[0];
    assert_eq!(committed_values(data), ["0", "1", "2"]);
    assert_eq!((data.high_watermark, data.last_stable_offset), (4, 4));
}

#[test]
fn the_latest_offset_of_what_is_committed_is_where_a_transaction_began() {
    let mut scene = Scene::new();
    scene.act(Act::Plain, 0);
    scene.act(Act::Write(1, 0, 0), 1);
    scene.act(Act::Plain, 2);
    let mut latest = |isolation: i8| {
        let asked = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let answer = scene.world.ask(0, ApiKey::ListOffsets, 5, &request);
        answer.topics[0].partitions[0].offset
    };
    assert_eq!((latest(0), latest(1)), (3, 1));
}

#[test]
fn an_operator_sees_who_writes_and_since_where_a_transaction_is_under_way() {
    let mut scene = Scene::new();
    scene.act(Act::Plain, 0);
    scene.act(Act::Write(1, 0, 0), 1);
    scene.act(Act::Write(2, 4, 0), 2);
    scene.act(Act::Abort(2, 5), 3);
    scene.world.cut_power();
    let topic = |topic: &str, partition: i32| {
        TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![partition])
    };
    let topics = vec![topic("t", 1), topic("t", 9), topic("../t", 0)];
    let request = DescribeProducersRequest::default().with_topics(topics);
    let answer = scene.world.ask(0, ApiKey::DescribeProducers, 0, &request);
    let partitions = answer.topics.iter().map(|topic| &topic.partitions[0]);
    let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
    let (unknown, invalid) =
        (ErrorCode::UnknownTopicOrPartition.code(), ErrorCode::InvalidTopicException.code());
    assert_eq!(codes, [0, unknown, invalid]);
    let producers = answer.topics[0].partitions[0].active_producers.iter();
    let told: Vec<_> = producers
        .map(|it| {
            let (id, epoch, sequence) = (it.producer_id.0, it.producer_epoch, it.last_sequence);
            (id, epoch, sequence, it.coordinator_epoch, it.current_txn_start_offset)
        })
        .collect();
    assert_eq!(told, [(1, 0, 0, -1, 1), (2, 5, -1, 0, -1)]);
}

#[test]
fn an_operator_ends_a_transaction_that_nobody_knows_of_any_more() {
    let mut scene = Scene::new();
    scene.act(Act::Write(1, 3, 0), 0);
    scene.act(Act::Plain, 1);
    assert_eq!(scene.read(0).0.last_stable_offset, 0, "it hangs");
    let topic = WritableTxnMarkerTopic::default().with_name(name("t"));
    let topic = topic.with_partition_indexes(vec![1, 9]);
    let mut abort = |producer_epoch: i16, coordinator_epoch: i32| {
        let marker = WritableTxnMarker::default()
            .with_producer_id(WireProducerId(1))
            .with_producer_epoch(producer_epoch)
            .with_transaction_result(false)
            .with_coordinator_epoch(coordinator_epoch)
            .with_topics(vec![topic.clone()]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let answer = scene.world.ask(0, ApiKey::WriteTxnMarkers, 1, &request);
        let partitions = answer.markers[0].topics[0].partitions.iter();
        let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
        assert_eq!(codes[1], ErrorCode::UnknownTopicOrPartition.code());
        codes[0]
    };
    assert_eq!(abort(2, 0), ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(abort(3, 7), 0);
    assert_eq!(abort(3, 7), 0, "said twice");
    assert_eq!(abort(3, 6), ErrorCode::TransactionCoordinatorFenced.code());
    let (data, values) = scene.read(0);
    assert_eq!((values, data.last_stable_offset), (vec!["1".to_owned()], 3));
}

/// What its client knows of a transaction under way that has this partition, of the real coordinator.
fn begin(scene: &mut Scene) -> EndTxnRequest {
    scene.world.word = None;
    let id = TransactionalId(StrBytes::from_string(scene.id.clone()));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let given = scene.world.ask(0, ApiKey::InitProducerId, 4, &init);
    assert_eq!(given.error_code, 0);
    let topic = AddPartitionsToTxnTopic::default().with_name(name("t")).with_partitions(vec![1]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(given.producer_id)
        .with_v3_and_below_producer_epoch(given.producer_epoch)
        .with_v3_and_below_topics(vec![topic]);
    let added = scene.world.ask(0, ApiKey::AddPartitionsToTxn, 3, &add);
    let added = &added.results_by_topic_v3_and_below[0].results_by_partition[0];
    assert_eq!(added.partition_error_code, 0);
    EndTxnRequest::default()
        .with_transactional_id(id)
        .with_producer_id(given.producer_id)
        .with_producer_epoch(given.producer_epoch)
        .with_committed(true)
}

#[test]
fn what_an_operator_has_ended_with_a_newer_epoch_holds_its_client_up_no_longer() {
    let mut scene = Scene::new();
    let end = begin(&mut scene);
    let topic = WritableTxnMarkerTopic::default().with_name(name("t"));
    let marker = WritableTxnMarker::default()
        .with_producer_id(end.producer_id)
        .with_producer_epoch(end.producer_epoch + 1)
        .with_topics(vec![topic.with_partition_indexes(vec![1])]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let written = scene.world.ask(0, ApiKey::WriteTxnMarkers, 1, &request);
    assert_eq!(written.markers[0].topics[0].partitions[0].error_code, 0);
    assert_eq!(scene.world.ask(0, ApiKey::EndTxn, 3, &end).error_code, 0);
    let ids = vec![end.transactional_id];
    let describe = DescribeTransactionsRequest::default().with_transactional_ids(ids);
    let described = scene.world.ask(0, ApiKey::DescribeTransactions, 0, &describe);
    assert_eq!(described.transaction_states[0].transaction_state.as_str(), "CompleteCommit");
}

#[test]
fn without_the_coordinators_word_nothing_is_appended() {
    let mut scene = Scene::new();
    let refused = |scene: &mut Scene| {
        let ticket = scene.ask(scene.append(Act::Write(1, 0, 0), 0));
        scene.world.run();
        scene.answer(ticket)
    };
    scene.world.word = Some(ErrorCode::TransactionAbortable);
    assert!(matches!(
        refused(&mut scene),
        Some(Answer::Appended(Err(Refusal::NotVerified(ErrorCode::TransactionAbortable))))
    ));
    // The real one has never heard of this id.
    scene.world.word = None;
    assert!(matches!(
        refused(&mut scene),
        Some(Answer::Appended(Err(Refusal::NotVerified(ErrorCode::InvalidProducerIdMapping))))
    ));
    let (data, _) = scene.read(0);
    assert_eq!(data.high_watermark, 0);
}

/// On a compacted topic that is cleaned whenever there is anything to clean.
#[test]
fn what_was_aborted_is_forgotten_when_cleanings_have_taken_it_away() {
    let mut scene = Scene::on(&[
        ("cleanup.policy", "compact"),
        ("segment.ms", "1000"),
        ("delete.retention.ms", "0"),
        ("min.cleanable.dirty.ratio", "0"),
    ]);
    scene.act(Act::Plain, 0);
    scene.act(Act::Write(1, 0, 0), 1);
    scene.act(Act::Plain, 2);
    scene.act(Act::Abort(1, 1), 3);
    scene.act(Act::Write(1, 1, 0), 4);
    scene.act(Act::Commit(1, 2), 5);
    let told = |scene: &mut Scene| {
        let (mut from, mut aborted, mut markers, mut last) = (0, BTreeSet::new(), 0, None);
        // An answer ends where a segment does.
        loop {
            let (data, values) = scene.read(from);
            let told = data.aborted_transactions.unwrap_or_default();
            aborted.extend(told.iter().map(|it| it.first_offset));
            last = values.last().cloned().or(last);
            for batch in batches(data.records.as_ref().map_or(&[][..], |records| &records[..])) {
                let batch = batch.expect("whole batches");
                from = batch.header.last_offset().0 + 1;
                markers += usize::from(EndMarker::read(batch.bytes).is_some_and(|it| !it.commit));
            }
            if from >= data.high_watermark {
                return (aborted.len(), markers, last);
            }
        }
    };
    assert_eq!(told(&mut scene), (1, 1, Some("4".to_owned())));
    let mut seen = Vec::new();
    for number in 6..16 {
        scene.act(Act::Plain, number);
        (0..40).for_each(|_| scene.world.wait(Duration::from_secs(2)));
        let (aborted, markers, last) = told(&mut scene);
        assert_eq!(last, Some(number.to_string()), "what is committed stays");
        seen.push((aborted, markers));
        if number % 3 == 0 {
            scene.world.cut_power();
            assert_eq!(told(&mut scene), (aborted, markers, last), "also after a start");
        }
    }
    assert!(seen.contains(&(0, 1)), "first the list forgets it, then its marker goes: {seen:?}");
    assert_eq!(seen.last(), Some(&(0, 0)), "{seen:?}");
    assert!(!seen.contains(&(1, 0)), "never the marker alone: {seen:?}");
}

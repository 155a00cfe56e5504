//! A producer: idempotent with five requests in flight and retries, or plain with one and none.
//!
//! Does: write values, send again what may be lost, note what it is told.
//! Does not: read.
//! Invariants: in a partition the batches of an idempotent writer are sent in the order of their sequences,
//! and none is sent again while a later one is under way (as Kafka's own producer does it).
//! Apart because most of what can go wrong between client and broker goes wrong here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::BatchBuilder;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{InitProducerIdRequest, ProduceRequest, WireProducerId};

use super::client::{Answer, Context, Line, PARTITIONS, TABLE, code, topic_name};
use super::heap::{MILLIS, Nanos};
use super::history::{Happening, KEYED_WRITER, Place, Since, Value};
use super::plan::Range;

const PRODUCE: (ApiKey, i16) = (ApiKey::Produce, 9);
const IDENTITY: (ApiKey, i16) = (ApiKey::InitProducerId, 4);
/// Requests an idempotent producer has under way: Kafka's own limit.
const IN_FLIGHT_MAX: usize = 5;
/// Batches that wait for an acknowledgement.
const QUEUED_MAX: usize = 12;
/// How long to wait before something is tried again.
const RETRY: Nanos = 100 * MILLIS;
/// How long nothing is written to a log that refuses because something of it is lost.
const HELD: Nanos = 3_000 * MILLIS;
/// How long a plain writer waits when its last batch may still be on its way: longer than a core has no turn.
const ADRIFT: Nanos = 1_000 * MILLIS;

/// What a writer asks.
pub enum Question {
    Identity,
    /// Batches of different places, each by its first value.
    Produce(Vec<(Place, Value)>, Since),
}

struct Batch {
    sequence: i32,
    values: Vec<Value>,
    /// Under way.
    is_sent: bool,
    /// It was under way at least once.
    was_sent: bool,
}

#[derive(Default)]
struct Lane {
    next_sequence: i32,
    queue: VecDeque<Batch>,
    /// Nothing is written there before.
    rests_until: Nanos,
}

/// A producer.
pub struct Writer {
    name: u16,
    is_idempotent: bool,
    every: Range,
    line: Line<Question>,
    next_number: u32,
    identity: Option<(i64, i16)>,
    /// The identity needs a new epoch before anything else is sent.
    must_bump: bool,
    /// Nothing is sent before: something was refused.
    rests_until: Nanos,
    lanes: BTreeMap<Place, Lane>,
}

impl Writer {
    /// A writer that has written nothing.
    pub fn new(name: u16, is_idempotent: bool, every: Range) -> Self {
        Self {
            name,
            is_idempotent,
            every,
            line: Line::new(),
            next_number: 0,
            identity: None,
            must_bump: false,
            rests_until: 0,
            lanes: BTreeMap::new(),
        }
    }

    /// Whether there is nothing it waits for.
    pub fn is_done(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty())
    }

    /// What it waits for, for a report.
    pub fn describe(&self) -> String {
        let queued: usize = self.lanes.values().map(|lane| lane.queue.len()).sum();
        let kind = if self.is_idempotent { "idempotent" } else { "plain" };
        format!("{kind} writer {} has {queued} batches, {} under way", self.name, self.line.open())
    }

    /// Time has come to do something.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.line.mind_patience(context);
        if !context.is_over {
            self.write(context);
        }
        self.send(context);
        let rest = self.every.draw(context.dice);
        context.wake_in(rest);
    }

    fn write(&mut self, context: &mut Context<'_>) {
        let queued: usize = self.lanes.values().map(|lane| lane.queue.len()).sum();
        if queued >= if self.is_idempotent { QUEUED_MAX } else { 1 } {
            return;
        }
        let is_keyed = self.name >= KEYED_WRITER;
        let topic = if is_keyed { TABLE } else { context.dice.below(2) as u8 };
        let partitions = if topic == 0 { *context.partitions } else { PARTITIONS };
        let place = Place { topic, partition: context.dice.below(partitions as u64) as i32 };
        if self.lanes.get(&place).is_some_and(|lane| context.now < lane.rests_until) {
            return;
        }
        let count = 1 + context.dice.below(8);
        let (name, first) = (self.name, self.next_number);
        self.next_number += count as u32;
        let values = (first..self.next_number).map(|number| Value { writer: name, number });
        let lane = self.lanes.entry(place).or_default();
        lane.queue.push_back(Batch {
            sequence: lane.next_sequence,
            values: values.collect(),
            is_sent: false,
            was_sent: false,
        });
        lane.next_sequence += count as i32;
    }

    fn send(&mut self, context: &mut Context<'_>) {
        if context.now < self.rests_until {
            return;
        }
        if self.is_idempotent && (self.identity.is_none() || self.must_bump) {
            return self.renew_identity(context);
        }
        let most = if self.is_idempotent { IN_FLIGHT_MAX } else { 1 };
        while self.line.open() < most {
            let places = self.lanes.keys();
            let ready = places.filter_map(|place| Some((*place, self.sendable(*place)?)));
            let mut ready: Vec<(Place, usize)> = ready.collect();
            if ready.is_empty() {
                return;
            }
            // Kafka's producer puts into one request what it has for a broker.
            if context.dice.below(2) == 0 {
                ready.truncate(1);
            }
            self.send_batches(context, &ready);
        }
    }

    /// The next batch of the place to be sent, unless a later one is still under way.
    fn sendable(&self, place: Place) -> Option<usize> {
        let queue = &self.lanes.get(&place)?.queue;
        let next = queue.iter().position(|batch| !batch.is_sent)?;
        queue.iter().skip(next).all(|batch| !batch.is_sent).then_some(next)
    }

    fn send_batches(&mut self, context: &mut Context<'_>, ready: &[(Place, usize)]) {
        let identity = self.identity.filter(|_| self.is_idempotent);
        let mut topics: BTreeMap<u8, Vec<PartitionProduceData>> = BTreeMap::new();
        let mut asked = Vec::with_capacity(ready.len());
        for (place, at) in ready {
            let lane = self.lanes.get_mut(place).expect("the lane is known");
            let batch = &mut lane.queue[*at];
            if !batch.was_sent {
                for value in &batch.values {
                    context.history.note(Happening::Sent(*place, *value));
                }
            }
            (batch.is_sent, batch.was_sent) = (true, true);
            let data = PartitionProduceData::default()
                .with_index(place.partition)
                .with_records(Some(records(batch, identity)));
            topics.entry(place.topic).or_default().push(data);
            asked.push((*place, batch.values[0]));
        }
        let since = context.history.note(Happening::Asked);
        let topics = topics.into_iter().map(|(topic, data)| {
            let name = topic_name(Place { topic, partition: 0 });
            TopicProduceData::default().with_name(name).with_partition_data(data)
        });
        // A time-out beyond every hang, or a short one that is met.
        let timeout = if context.dice.below(4) == 0 { 500 } else { 30_000 };
        let is_even = asked[0].1.number.is_multiple_of(2);
        let request = ProduceRequest::default()
            .with_acks(if self.is_idempotent || is_even { -1 } else { 1 })
            .with_timeout_ms(timeout)
            .with_topic_data(topics.collect());
        self.line.send(context, PRODUCE, &request, Question::Produce(asked, since));
    }

    /// Another identity, or the next epoch of the one there is, which Kafka's producer takes by itself
    /// (KIP-360): once nothing of the old one is under way.
    fn renew_identity(&mut self, context: &mut Context<'_>) {
        if self.line.open() > 0 {
            return;
        }
        if let Some((id, epoch)) = self.identity
            && context.dice.below(2) == 0
        {
            self.identity = Some((id, epoch + 1));
            self.must_bump = false;
            return self.send(context);
        }
        self.ask_identity(context);
    }

    fn ask_identity(&mut self, context: &mut Context<'_>) {
        if self.line.open() > 0 {
            return;
        }
        let (id, epoch) = self.identity.unwrap_or((-1, -1));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(1000)
            .with_producer_id(WireProducerId(id))
            .with_producer_epoch(epoch);
        self.line.send(context, IDENTITY, &request, Question::Identity);
    }

    /// A frame came.
    pub fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (question, answer) = self.line.answered(context.now, frame);
        match question {
            Question::Identity => self.take_identity(context, answer),
            Question::Produce(asked, since) => {
                let response = answer.read::<ProduceRequest>(PRODUCE);
                let told = response.responses.iter().flat_map(|topic| &topic.partition_responses);
                let told: Vec<_> = told.collect();
                assert_eq!(told.len(), asked.len(), "every batch is answered");
                for ((place, first), told) in asked.into_iter().zip(told) {
                    assert_eq!(told.index, place.partition);
                    let outcome = (code(told.error_code), told.base_offset);
                    self.take_outcome(context, place, first, outcome, since);
                }
            }
        }
        self.send(context);
    }

    fn take_identity(&mut self, context: &mut Context<'_>, answer: Answer) {
        let response = answer.read::<InitProducerIdRequest>(IDENTITY);
        match code(response.error_code) {
            ErrorCode::None => {
                let (id, epoch) = (response.producer_id.0, response.producer_epoch);
                assert!(id >= 0 && epoch >= 0);
                self.identity = Some((id, epoch));
                self.must_bump = false;
            }
            refused => {
                assert!(is_retriable(refused), "no producer id: {refused:?}");
                self.rest(context);
            }
        }
    }

    fn take_outcome(
        &mut self,
        context: &mut Context<'_>,
        place: Place,
        first: Value,
        (code, base): (ErrorCode, i64),
        since: Since,
    ) {
        let lane = self.lanes.get_mut(&place).expect("the lane is known");
        let Some(at) = lane.queue.iter().position(|batch| batch.values[0] == first) else { return };
        match code {
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                let batch = lane.queue.remove(at).expect("it was just found");
                for (offset, value) in (base..).zip(batch.values) {
                    let offset = (base >= 0).then_some(offset);
                    context.history.note(Happening::Acked { place, value, offset, since });
                }
            }
            ErrorCode::KafkaStorageError if context.history.may_miss_its_end(place) => {
                // It may be held for good. Nobody knows what became of what was sent.
                lane.queue.clear();
                lane.rests_until = context.now + HELD;
            }
            _ if !self.is_idempotent => {
                let batch = lane.queue.remove(at).expect("it was just found");
                if is_definite(code) {
                    for value in batch.values {
                        context.history.note(Happening::Refused(place, value));
                    }
                }
            }
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => {
                lane.queue[at].is_sent = false;
                if at == 0 {
                    let history = &context.history;
                    let may_forget = !history.binds(place) || history.may_miss_its_end(place);
                    assert!(
                        may_forget,
                        "{first} is refused with {code:?} and nothing is before it"
                    );
                    self.begin_anew();
                }
            }
            code => {
                assert!(is_retriable(code), "{first} is refused for good: {code:?}");
                lane.queue[at].is_sent = false;
                self.rest(context);
            }
        }
    }

    fn rest(&mut self, context: &mut Context<'_>) {
        self.rests_until = context.now + RETRY;
        context.wake_in(RETRY);
    }

    /// What was sent under the old epoch may be there, so it is not sent under the new one.
    fn begin_anew(&mut self) {
        self.must_bump = true;
        for lane in self.lanes.values_mut() {
            lane.queue.retain(|batch| !batch.was_sent);
            lane.next_sequence = 0;
            for batch in &mut lane.queue {
                batch.sequence = lane.next_sequence;
                lane.next_sequence += batch.values.len() as i32;
            }
        }
    }

    /// Nobody will say what became of this batch; whether it is given up.
    fn lose(&mut self, place: Place, first: Value) -> bool {
        let lane = self.lanes.get_mut(&place).expect("the lane is known");
        let at = lane.queue.iter().position(|batch| batch.values[0] == first);
        match at {
            Some(at) if self.is_idempotent => lane.queue[at].is_sent = false,
            Some(at) => return lane.queue.remove(at).is_some(),
            None => {}
        }
        false
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        let mut adrift = false;
        for question in self.line.closed() {
            let Question::Produce(asked, _) = question else { continue };
            for (place, first) in asked {
                adrift |= self.lose(place, first);
            }
        }
        self.rest(context);
        if adrift {
            self.rests_until = context.now + ADRIFT;
        }
    }
}

fn records(batch: &Batch, identity: Option<(i64, i16)>) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some((id, epoch)) = identity {
        let sequence = Sequence(batch.sequence);
        builder = builder.with_producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    batch.values.iter().for_each(|value| value.write(&mut builder));
    builder.finish().freeze()
}

/// Errors that say: try again, and whether it is there already is left open.
pub fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NotController
            | ErrorCode::KafkaStorageError
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::ThrottlingQuotaExceeded
    )
}

/// Errors that say: it is not there, and will not be.
fn is_definite(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas)
}

//! Whoever makes topics, lets them grow, changes their settings, deletes records, and makes and deletes a topic
//! of his own again and again.
//!
//! Does: found the life's topics first of all; then one thing after the other.
//! Does not: read what others wrote.
//! Invariants: what is not answered is asked again until it is, before anything else is.
//! Apart because changes of metadata meet everything else that goes on.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::messages::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ProduceRequest, TopicName,
};
use flumen_replication::partition::Isolation;

use super::client::{
    Answer, Context, Line, PARTITIONS, PARTITIONS_MAX, TABLE, TOPICS, code, text, topic_name,
};
use super::fetching::{self, LATEST, LIST_OFFSETS};
use super::heap::{MILLIS, Nanos};
use super::history::{Happening, Place, Since};
use super::plan::Plan;
use super::writer::is_retriable;

const CREATE: (ApiKey, i16) = (ApiKey::CreateTopics, 5);
const DELETE: (ApiKey, i16) = (ApiKey::DeleteTopics, 3);
const GROW: (ApiKey, i16) = (ApiKey::CreatePartitions, 2);
const CONFIGURE: (ApiKey, i16) = (ApiKey::IncrementalAlterConfigs, 1);
const DESCRIBE: (ApiKey, i16) = (ApiKey::DescribeConfigs, 1);
const DELETE_RECORDS: (ApiKey, i16) = (ApiKey::DeleteRecords, 2);
const PRODUCE: (ApiKey, i16) = (ApiKey::Produce, 9);

const ISOLATION: Isolation = Isolation::ReadUncommitted;
const RETRY: Nanos = 100 * MILLIS;
/// The topic that comes and goes.
const PASSING: &str = "passing";
/// What is written there.
pub const PASSING_VALUE: &[u8] = b"passing";
/// Batches that each of its lives gets.
const PASSING_BATCHES: i64 = 3;
const TIMEOUT_MS: i32 = 5_000;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Make this topic of the life.
    Found(u8),
    Grow,
    Configure(u8, u64),
    /// Look whether a topic has the setting it was given last.
    LookAtSetting(u8),
    DeleteRecords(Place, i64),
    LookAtEnd(Place),
    /// Make the passing topic, write to it, and delete it.
    Make,
    Fill,
    Unmake,
}

/// Whoever changes things.
pub struct Operator {
    line: Line<Since>,
    plan: Plan,
    task: Task,
    /// The task was tried and nobody said how it ended.
    is_uncertain: bool,
    /// How many batches the passing topic has been given, and at least how many of them it has.
    filled: i64,
    /// `segment.bytes` of each topic, in KiB, and since when, where nobody doubts what was set last.
    settings: BTreeMap<u8, Option<(u64, Nanos)>>,
}

impl Operator {
    /// An operator before he begins.
    pub fn new(plan: &Plan) -> Self {
        let (line, plan) = (Line::new(), plan.clone());
        let (task, settings) = (Task::Found(0), BTreeMap::new());
        Self { line, plan, task, is_uncertain: false, filled: 0, settings }
    }

    /// Whether the topics are there.
    pub fn has_founded(&self) -> bool {
        !matches!(self.task, Task::Found(_))
    }

    /// What he waits for, for a report.
    pub fn describe(&self) -> String {
        format!("the operator does {:?}, {} under way", self.task, self.line.open())
    }

    /// Time has come to do something.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.line.mind_patience(context);
        if self.line.open() == 0 && (!self.has_founded() || self.plan.has_admin) && !context.is_over
        {
            self.act(context);
        }
        let rest = (100 + context.dice.below(900)) * MILLIS;
        context.wake_in(rest);
    }

    fn act(&mut self, context: &mut Context<'_>) {
        let since = context.ask();
        let line = &mut self.line;
        match self.task {
            Task::Found(topic) => {
                let request = found_request(&self.plan, topic);
                line.send(context, CREATE, &request, since);
            }
            Task::Grow => {
                let topic = CreatePartitionsTopic::default()
                    .with_name(TopicName(text(TOPICS[0])))
                    .with_count(*context.partitions + 1)
                    .with_assignments(None);
                let request = CreatePartitionsRequest::default()
                    .with_timeout_ms(TIMEOUT_MS)
                    .with_topics(vec![topic]);
                line.send(context, GROW, &request, since);
            }
            Task::Configure(topic, kib) => {
                let config = AlterableConfig::default()
                    .with_name(text("segment.bytes"))
                    .with_value(Some(text(&(kib << 10).to_string())));
                let resource = AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(TOPICS[usize::from(topic)]))
                    .with_configs(vec![config]);
                let request =
                    IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
                line.send(context, CONFIGURE, &request, since);
            }
            Task::LookAtSetting(topic) => {
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(TOPICS[usize::from(topic)]))
                    .with_configuration_keys(Some(vec![text("segment.bytes")]));
                let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
                line.send(context, DESCRIBE, &request, since);
            }
            Task::DeleteRecords(place, offset) => {
                context.history.note(Happening::DeleteAsked(place, offset));
                let partition = DeleteRecordsPartition::default()
                    .with_partition_index(place.partition)
                    .with_offset(offset);
                let topic = DeleteRecordsTopic::default()
                    .with_name(topic_name(place))
                    .with_partitions(vec![partition]);
                let request = DeleteRecordsRequest::default()
                    .with_timeout_ms(TIMEOUT_MS)
                    .with_topics(vec![topic]);
                line.send(context, DELETE_RECORDS, &request, since);
            }
            Task::LookAtEnd(place) => {
                let request = fetching::offset_request(ISOLATION, place, LATEST);
                line.send(context, LIST_OFFSETS, &request, since);
            }
            Task::Make => {
                line.send(context, CREATE, &create_request(PASSING, 1, Vec::new()), since)
            }
            Task::Fill => line.send(context, PRODUCE, &fill_request(), since),
            Task::Unmake => {
                let request = DeleteTopicsRequest::default()
                    .with_timeout_ms(TIMEOUT_MS)
                    .with_topic_names(vec![TopicName(text(PASSING))]);
                line.send(context, DELETE, &request, since);
            }
        }
    }

    /// A frame came.
    pub fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (since, answer) = self.line.answered(context.now, frame);
        let code = self.take(context, answer, since);
        if code == ErrorCode::None {
            self.is_uncertain = false;
            self.task = self.next(context);
        } else {
            assert!(is_retriable(code), "{:?} is refused: {code:?}", self.task);
            self.is_uncertain = true;
        }
    }

    fn take(&mut self, context: &mut Context<'_>, answer: Answer, since: Since) -> ErrorCode {
        let uncertain = self.is_uncertain;
        // What may have been done before is done now.
        let done_if =
            |is: bool, code: ErrorCode| if is && uncertain { ErrorCode::None } else { code };
        match self.task {
            Task::Found(_) | Task::Make => {
                let told = code(answer.read::<CreateTopicsRequest>(CREATE).topics[0].error_code);
                done_if(told == ErrorCode::TopicAlreadyExists, told)
            }
            Task::Unmake => {
                let told = code(answer.read::<DeleteTopicsRequest>(DELETE).responses[0].error_code);
                done_if(told == ErrorCode::UnknownTopicOrPartition, told)
            }
            Task::Grow => {
                let told = code(answer.read::<CreatePartitionsRequest>(GROW).results[0].error_code);
                let told = done_if(told == ErrorCode::InvalidPartitions, told);
                *context.partitions += i32::from(told == ErrorCode::None);
                told
            }
            Task::Configure(topic, kib) => {
                let response = answer.read::<IncrementalAlterConfigsRequest>(CONFIGURE);
                let code = code(response.responses[0].error_code);
                if code == ErrorCode::None {
                    self.note_setting(topic, (kib, context.now));
                }
                code
            }
            Task::LookAtSetting(topic) => self.take_setting(context.now, topic, answer),
            Task::DeleteRecords(place, before) => {
                let response = answer.read::<DeleteRecordsRequest>(DELETE_RECORDS);
                let told = &response.topics[0].partitions[0];
                match code(told.error_code) {
                    ErrorCode::None => {
                        // It is done, whatever start the answer tells.
                        let start = told.low_watermark.max(before);
                        context.history.note(Happening::Deleted(place, start));
                        ErrorCode::None
                    }
                    // So far there are not that many records.
                    ErrorCode::OffsetOutOfRange => ErrorCode::None,
                    refused => refused,
                }
            }
            Task::LookAtEnd(place) => {
                let asked = (place, LATEST);
                let told = fetching::take_offset(context, answer, ISOLATION, asked, since);
                told.map_or_else(|code| code, |_| ErrorCode::None)
            }
            Task::Fill => self.take_fill(answer, context.history.is_passing_damaged()),
        }
    }

    /// A change that was asked for twice may be carried out twice, the second time after a later one.
    fn note_setting(&mut self, topic: u8, set: (u64, Nanos)) {
        let before = self.settings.get(&topic).copied().unwrap_or(Some(set));
        let is_sure = !self.is_uncertain && before.is_some();
        self.settings.insert(topic, is_sure.then_some(set));
    }

    fn take_setting(&self, now: Nanos, topic: u8, answer: Answer) -> ErrorCode {
        let response = answer.read::<DescribeConfigsRequest>(DESCRIBE);
        let told = &response.results[0];
        let code = code(told.error_code);
        if code == ErrorCode::None
            && let Some(Some((kib, since))) = self.settings.get(&topic)
            // Another core hears of it a little later.
            && now > since + 1000 * MILLIS
        {
            let value = told.configs[0].value.as_deref();
            assert_eq!(value, Some(&*(kib << 10).to_string()), "a setting of {topic} is lost");
        }
        code
    }

    /// A topic of which a disk has spoilt something may have lost its end, and take nothing more.
    fn take_fill(&mut self, answer: Answer, is_damaged: bool) -> ErrorCode {
        let response = answer.read::<ProduceRequest>(PRODUCE);
        let told = &response.responses[0].partition_responses[0];
        let code = code(told.error_code);
        if is_damaged && code == ErrorCode::KafkaStorageError {
            self.filled = PASSING_BATCHES;
            return ErrorCode::None;
        }
        if code == ErrorCode::None {
            let (base, filled) = (told.base_offset, self.filled);
            if filled == 0 && !self.is_uncertain {
                assert_eq!(base, 0, "a topic that was made anew begins anew");
            }
            assert!(is_damaged || base >= filled, "the passing topic lost what it was given");
            self.filled = base + 1;
        }
        code
    }

    fn next(&mut self, context: &mut Context<'_>) -> Task {
        let dice = &mut *context.dice;
        match self.task {
            Task::Found(topic) if usize::from(topic) + 1 < TOPICS.len() => {
                return Task::Found(topic + 1);
            }
            Task::Make => self.filled = 0,
            Task::Fill | Task::Unmake | Task::Found(_) | Task::Grow => {}
            Task::Configure(..) | Task::LookAtSetting(_) => {}
            Task::DeleteRecords(..) | Task::LookAtEnd(_) => {}
        }
        match self.task {
            Task::Make => return Task::Fill,
            Task::Fill if self.filled < PASSING_BATCHES => return Task::Fill,
            Task::Fill => return Task::Unmake,
            Task::Unmake | Task::Found(_) | Task::Grow => {}
            Task::Configure(..) | Task::LookAtSetting(_) => {}
            Task::DeleteRecords(..) | Task::LookAtEnd(_) => {}
        }
        let topic = dice.below(u64::from(TABLE)) as u8;
        let place = Place { topic, partition: dice.below(PARTITIONS as u64) as i32 };
        match dice.below(8) {
            0 if *context.partitions < PARTITIONS_MAX => Task::Grow,
            1 => Task::Configure(topic, 1024 + dice.below(1024)),
            6 => Task::LookAtSetting(topic),
            2 => Task::DeleteRecords(place, dice.below(60) as i64),
            3 if dice.below(4) == 0 => Task::DeleteRecords(place, -1),
            4 | 5 => Task::Make,
            _ => Task::LookAtEnd(place),
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        self.is_uncertain |= !self.line.closed().is_empty();
        context.wake_in(RETRY);
    }
}

fn found_request(plan: &Plan, topic: u8) -> CreateTopicsRequest {
    let mut configs = vec![("segment.bytes", (1 << 20).to_string())];
    if topic == TABLE {
        // Segments are closed early, and cleaned as soon as anything in them is dirty.
        let segment_ms = plan.segment_ms.unwrap_or(100).min(100);
        configs.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("segment.ms", segment_ms.to_string()),
            ("min.cleanable.dirty.ratio", "0.01".to_owned()),
        ]);
        let last = plan.tombstones_last_ms;
        configs.extend(last.map(|time| ("delete.retention.ms", time.to_string())));
        return create_request(TOPICS[usize::from(topic)], PARTITIONS, configs);
    }
    configs.extend(plan.segment_ms.map(|time| ("segment.ms", time.to_string())));
    if topic == 1 {
        configs.extend(plan.relaxed_every.map(|every| ("flush.messages", every.to_string())));
        configs.extend(plan.retention_bytes.map(|bytes| ("retention.bytes", bytes.to_string())));
    }
    create_request(TOPICS[usize::from(topic)], PARTITIONS, configs)
}

fn create_request(
    topic: &str,
    partitions: i32,
    mut configs: Vec<(&str, String)>,
) -> CreateTopicsRequest {
    // The node's clock jumps; that of writers does not.
    configs.push(("message.timestamp.after.max.ms", i64::MAX.to_string()));
    let configs = configs.into_iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(&value)))
    });
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(topic)))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    CreateTopicsRequest::default().with_timeout_ms(TIMEOUT_MS).with_topics(vec![topic])
}

fn fill_request() -> ProduceRequest {
    let mut batch = BatchBuilder::new();
    let timestamp = 1_700_000_000_000;
    batch.push(&NewRecord { timestamp, key: None, value: Some(PASSING_VALUE), headers: &[] });
    let data =
        PartitionProduceData::default().with_index(0).with_records(Some(batch.finish().freeze()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(text(PASSING)))
        .with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic])
}

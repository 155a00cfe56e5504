//! DescribeProducers (key 61, version 0): who writes to a partition, and what is under way of them.
//!
//! - Every producer that the partition remembers, idempotent ones included, by id. Of a transaction that
//!   is under way the first offset is told: `kafka-transactions find-hanging` begins with this.
//! - A topic name that is none is INVALID_TOPIC_EXCEPTION, a partition there is not
//!   UNKNOWN_TOPIC_OR_PARTITION.
//!
//! Deviations: a producer that is in no transaction is remembered for `producer.id.expiration.ms` from
//! when it wrote last while this process ran, and not from its records' times.
//! KIPs: 664.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, PartitionIndex};
use flumen_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use flumen_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, WireProducerId,
};
use flumen_replication::partition::ActiveProducer;

use super::refusals::{self, Refused};
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait, text};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::shard::mailbox::{Answer, Question};

/// Partitions being looked at.
#[derive(Debug)]
pub struct Waiting {
    topics: Vec<TopicResponse>,
    /// Where the part of each number belongs: topic and partition by position.
    places: Vec<(usize, usize)>,
    missing: usize,
}

/// Asks the owner of every partition.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeProducersRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeProducers request");
    };
    let mut waiting = Waiting { topics: Vec::new(), places: Vec::new(), missing: 0 };
    let mut parts = Vec::new();
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partition_indexes.len());
        for partition in topic.partition_indexes {
            let answer = PartitionResponse::default().with_partition_index(partition);
            match find(context, &topic.name, PartitionIndex(partition)) {
                Ok(log) => {
                    let number = waiting.places.len() as u32;
                    waiting.places.push((waiting.topics.len(), answers.len()));
                    let (to, question) = (Addressee::Owner(log), Question::Producers);
                    parts.push(Part { number, to, question });
                    answers.push(refused(answer, ErrorCode::RequestTimedOut.into()));
                }
                Err(why) => answers.push(refused(answer, why)),
            }
        }
        let answer = TopicResponse::default().with_name(topic.name);
        waiting.topics.push(answer.with_partitions(answers));
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    let patience = Some(context.patience());
    Step::Wait(Wait { waiting: AnyWaiting::DescribeProducers(waiting), parts, patience })
}

fn find(context: &Context<'_>, topic: &str, partition: PartitionIndex) -> Result<LogId, Refused> {
    topics::check_name(topic)
        .map_err(|why| Refused::with(ErrorCode::InvalidTopicException, why))?;
    let known = context.image.topic_named(topic);
    let log = known.and_then(|known| known.log(partition));
    log.ok_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
}

fn refused(answer: PartitionResponse, why: Refused) -> PartitionResponse {
    answer.with_error_code(why.code.code()).with_error_message(why.message.map(text))
}

fn described(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(WireProducerId(producer.id.0))
        .with_producer_epoch(i32::from(producer.epoch.0))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.open_since.0)
}

impl Waiting {
    /// Takes one partition's producers in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (topic, partition) = self.places[part as usize];
        let place = &mut self.topics[topic].partitions[partition];
        let empty = PartitionResponse::default().with_partition_index(place.partition_index);
        *place = match answer {
            Answer::Producers(found) => match *found {
                Ok(all) => empty.with_active_producers(all.iter().map(described).collect()),
                Err(refusal) => refused(empty, refusals::of_partition(refusal)),
            },
            other => refused(empty, refusals::of_misplaced(&other)),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known.
    pub fn close(self, envelope: &Envelope) -> Step {
        step::answer(envelope, &DescribeProducersResponse::default().with_topics(self.topics))
    }
}

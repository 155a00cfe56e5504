//! DeleteRecords (key 21, versions 0–2): move the start of logs.
//!
//! - −1 means the high watermark; an offset above it is OFFSET_OUT_OF_RANGE (G126).
//! - Records of the broker's own topics are never deleted (INVALID_TOPIC_EXCEPTION), nor those of
//!   topics that are only compacted (POLICY_VIOLATION), as in Kafka.
//! - The answer carries the new start, which survives a restart.
//! - `timeout_ms` bounds the wait for other replicas, not for this broker's disk: 0 succeeds here.
//!
//! Deviations: none known. KIPs: 107.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, Offset, PartitionIndex};
use flumen_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use flumen_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::refusals;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::limits::APPEND_PATIENCE_MIN;
use crate::shard::mailbox::{Answer, Question};

/// "The high watermark".
const HIGH_WATERMARK: i64 = -1;

/// No new start is known.
const NO_LOW_WATERMARK: i64 = -1;

/// Starts being moved.
#[derive(Debug)]
pub struct Waiting {
    topics: Vec<DeleteRecordsTopicResult>,
    /// Where the part of each number belongs: topic and partition by position.
    places: Vec<(usize, usize)>,
    missing: usize,
}

/// Checks every partition and asks the owners.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DeleteRecordsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DeleteRecords request");
    };
    let patience = step::patience(request.timeout_ms).max(APPEND_PATIENCE_MIN);
    let deadline = context.now.monotonic.after(patience);
    let mut waiting = Waiting { topics: Vec::new(), places: Vec::new(), missing: 0 };
    let mut parts = Vec::new();
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let found = find(context, &topic.name, partition.partition_index, partition.offset);
            let code = found.err().unwrap_or(ErrorCode::RequestTimedOut);
            answers.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(partition.partition_index)
                    .with_low_watermark(NO_LOW_WATERMARK)
                    .with_error_code(code.code()),
            );
            let Ok(log) = found else { continue };
            let number = waiting.places.len() as u32;
            waiting.places.push((waiting.topics.len(), answers.len() - 1));
            let before = Offset(partition.offset);
            let question = Question::DeleteRecords { before, deadline };
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
        let answer = DeleteRecordsTopicResult::default().with_name(topic.name);
        waiting.topics.push(answer.with_partitions(answers));
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    let patience = Some(patience);
    Step::Wait(Wait { waiting: AnyWaiting::DeleteRecords(waiting), parts, patience })
}

/// The log meant, if its records may be deleted up to there.
fn find(
    context: &Context<'_>,
    topic: &str,
    partition: i32,
    before: i64,
) -> Result<LogId, ErrorCode> {
    let known = context.image.topic_named(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let log = known.log(PartitionIndex(partition)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topics::is_internal(topic) {
        Err(ErrorCode::InvalidTopicException)
    } else if !context.settings(known.id).cleanup_policy.delete {
        Err(ErrorCode::PolicyViolation)
    } else if before < HIGH_WATERMARK {
        Err(ErrorCode::OffsetOutOfRange)
    } else {
        Ok(log)
    }
}

impl Waiting {
    /// Takes one partition's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (topic, partition) = self.places[part as usize];
        let place = &mut self.topics[topic].partitions[partition];
        place.error_code = match answer {
            Answer::Appended(Ok(receipt)) => {
                place.low_watermark = receipt.start_offset.0;
                ErrorCode::None.code()
            }
            Answer::Appended(Err(refusal)) => refusals::of_partition(refusal).code.code(),
            other => refusals::of_misplaced(&other).code.code(),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known.
    pub fn close(self, envelope: &Envelope) -> Step {
        step::answer(envelope, &DeleteRecordsResponse::default().with_topics(self.topics))
    }
}

//! OffsetForLeaderEpoch (key 23, versions 2–4): where an epoch ends, for consumers that look
//! whether the log was cut behind them.
//!
//! - The answer is the largest known epoch not above the one asked for, with its end; −1 and −1
//!   when there is none (G80).
//! - The client's own epoch is checked: FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
//! - Whoever asks in the name of a replica is answered as a consumer.
//!
//! Deviations: none known. KIPs: 101, 320.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LeaderEpoch, PartitionIndex};
use flumen_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use flumen_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::refusals;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// "Unknown", for epochs and offsets.
const UNKNOWN: i32 = -1;

/// Ends that are being looked up.
#[derive(Debug)]
pub struct Waiting {
    topics: Vec<OffsetForLeaderTopicResult>,
    /// Where the part of each number belongs: topic and partition by position.
    places: Vec<(usize, usize)>,
    missing: usize,
}

/// Asks the owners.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<OffsetForLeaderEpochRequest>(envelope, frame, body) else {
        return Step::Close("malformed OffsetForLeaderEpoch request");
    };
    let mut waiting = Waiting { topics: Vec::new(), places: Vec::new(), missing: 0 };
    let mut parts = Vec::new();
    for topic in request.topics {
        let known = context.image.topic_named(&topic.topic);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let log = known.and_then(|known| known.log(PartitionIndex(partition.partition)));
            let code = match log {
                Some(_) => ErrorCode::RequestTimedOut,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            answers.push(
                EpochEndOffset::default()
                    .with_error_code(code.code())
                    .with_partition(partition.partition)
                    .with_leader_epoch(UNKNOWN)
                    .with_end_offset(i64::from(UNKNOWN)),
            );
            let Some(log) = log else { continue };
            let number = waiting.places.len() as u32;
            waiting.places.push((waiting.topics.len(), answers.len() - 1));
            let current = LeaderEpoch(partition.current_leader_epoch);
            let wanted = LeaderEpoch(partition.leader_epoch);
            let question = Question::EpochEnd { current, wanted };
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
        let answer = OffsetForLeaderTopicResult::default().with_topic(topic.topic);
        waiting.topics.push(answer.with_partitions(answers));
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    let patience = Some(context.patience());
    Step::Wait(Wait { waiting: AnyWaiting::OffsetForLeaderEpoch(waiting), parts, patience })
}

impl Waiting {
    /// Takes one partition's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (topic, partition) = self.places[part as usize];
        let place = &mut self.topics[topic].partitions[partition];
        place.error_code = match answer {
            Answer::EpochEnd(Ok((epoch, end))) => {
                place.leader_epoch = epoch.0;
                place.end_offset = end.0;
                ErrorCode::None.code()
            }
            Answer::EpochEnd(Err(refusal)) => refusals::of_partition(refusal).code.code(),
            other => refusals::of_misplaced(&other).code.code(),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known.
    pub fn close(self, envelope: &Envelope) -> Step {
        step::answer(envelope, &OffsetForLeaderEpochResponse::default().with_topics(self.topics))
    }
}

//! ListOffsets (key 2, versions 1–10): which offset a time or a special value means.
//!
//! - −2 earliest, −1 latest (high watermark; last stable offset for `read_committed`), −3 largest
//!   timestamp (version 7), −4 earliest local = earliest and −5 latest tiered = none, since nothing is
//!   tiered (G77).
//! - A time gives the first record at or after it, in offset order, with its own timestamp and
//!   epoch; none gives −1 (G78). A batch whose records do not bear out its header, or inflate to more
//!   than is looked at, is given by its first offset and its header's largest timestamp.
//! - A special value that the version does not have, or nobody knows, is UNSUPPORTED_VERSION; a
//!   partition named twice is INVALID_REQUEST.
//! - The client's leader epoch is checked from version 4 (G79).
//!
//! Deviations: a request in the name of a replica is answered as a consumer's; Kafka tells it of what is
//! not committed.
//! KIPs: 79, 207 (OFFSET_NOT_AVAILABLE), 320, 734 (largest timestamp), 405 (−4, −5).

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LeaderEpoch, LogId, PartitionIndex};
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use flumen_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::refusals::{self, Refused};
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::limits::{LOOK_UP_INFLATED_BYTES_MIN, LOOK_UPS_INFLATED_BYTES_MAX};
use crate::shard::mailbox::{Answer, OffsetQuestion, Question};

/// A look-up that waits for the owners.
#[derive(Debug)]
pub struct Waiting {
    topics: Vec<ListOffsetsTopicResponse>,
    places: Vec<(usize, usize)>,
    missing: usize,
}

/// Checks the request and asks the owners.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ListOffsetsRequest>(envelope, frame, body) else {
        return Step::Close("malformed ListOffsets request");
    };
    let mut waiting = Waiting { topics: Vec::new(), places: Vec::new(), missing: 0 };
    let mut parts = Vec::new();
    let counts = counts(&request.topics);
    let inflated_bytes_max =
        (LOOK_UPS_INFLATED_BYTES_MAX / counts.len().max(1)).max(LOOK_UP_INFLATED_BYTES_MIN);
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let repeated = counts[&(topic.name.clone(), partition.partition_index)] > 1;
            let found = find(context, envelope, &topic.name, &partition, repeated);
            answers.push(unanswered(&partition, found.err().unwrap_or(ErrorCode::RequestTimedOut)));
            let Ok(log) = found else { continue };
            let number = waiting.places.len() as u32;
            waiting.places.push((waiting.topics.len(), answers.len() - 1));
            let question = Question::ListOffset(OffsetQuestion {
                epoch: LeaderEpoch(partition.current_leader_epoch),
                timestamp: partition.timestamp,
                committed_only: request.isolation_level != 0,
                inflated_bytes_max,
            });
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
        let answer = ListOffsetsTopicResponse::default().with_name(topic.name);
        waiting.topics.push(answer.with_partitions(answers));
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    let patience = Some(context.patience());
    Step::Wait(Wait { waiting: AnyWaiting::ListOffsets(waiting), parts, patience })
}

/// The first version whose answer carries an epoch (KIP-320).
const EPOCHS_SINCE: i16 = 4;

/// How often each partition is named.
fn counts(topics: &[ListOffsetsTopic]) -> BTreeMap<(TopicName, i32), usize> {
    let mut counts = BTreeMap::new();
    for topic in topics {
        for partition in &topic.partitions {
            *counts.entry((topic.name.clone(), partition.partition_index)).or_insert(0) += 1;
        }
    }
    counts
}

/// The log to ask, if what is asked means something, in Kafka's order.
fn find(
    context: &Context<'_>,
    envelope: &Envelope,
    topic: &str,
    asked: &ListOffsetsPartition,
    repeated: bool,
) -> Result<LogId, ErrorCode> {
    if repeated {
        return Err(ErrorCode::InvalidRequest);
    }
    if !is_known_time(asked.timestamp, envelope.version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let known = context.image.topic_named(topic);
    let log = known.and_then(|known| known.log(PartitionIndex(asked.partition_index)));
    log.ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Whether this version of the request has such a time or special value.
fn is_known_time(timestamp: i64, version: i16) -> bool {
    match timestamp {
        -2.. => true,
        -3 => version >= 7,
        -4 => version >= 8,
        -5 => version >= 9,
        ..-5 => false,
    }
}

impl Waiting {
    /// Takes one partition's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (topic, partition) = self.places[part as usize];
        let place = &mut self.topics[topic].partitions[partition];
        match answer {
            Answer::Offset(Ok(found)) => {
                place.error_code = ErrorCode::None.code();
                place.offset = found.offset.0;
                place.timestamp = found.timestamp;
                place.leader_epoch = found.epoch.0;
            }
            Answer::Offset(Err(fault)) => refuse(place, &refusals::of_log(fault)),
            other => refuse(place, &refusals::of_misplaced(&other)),
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known, as far as the version can carry it.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        if envelope.version < EPOCHS_SINCE {
            for place in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                place.leader_epoch = -1;
            }
        }
        step::answer(envelope, &ListOffsetsResponse::default().with_topics(self.topics))
    }
}

fn refuse(place: &mut ListOffsetsPartitionResponse, refused: &Refused) {
    place.error_code = refused.code.code();
}

fn unanswered(asked: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_error_code(error.code())
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use flumen_protocol::api_table::{self, ApiKey};
    use flumen_protocol::ids::Offset;

    use super::*;
    use crate::shard::mailbox::FoundOffset;

    #[test]
    fn a_found_offset_can_be_told_at_every_version() {
        let row = api_table::row(ApiKey::ListOffsets.code()).unwrap();
        for version in (0..=i16::MAX).filter(|version| row.supports(*version)) {
            let asked = ListOffsetsPartition::default();
            let topic = ListOffsetsTopicResponse::default()
                .with_partitions(vec![unanswered(&asked, ErrorCode::RequestTimedOut)]);
            let mut waiting = Waiting { topics: vec![topic], places: vec![(0, 0)], missing: 1 };
            let found = FoundOffset { offset: Offset(3), timestamp: -1, epoch: LeaderEpoch(1) };
            assert!(matches!(waiting.answer(0, Answer::Offset(Ok(found))), Progress::Done));
            let envelope = Envelope {
                key: ApiKey::ListOffsets,
                version,
                correlation_id: 7,
                client_id: String::new(),
                peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                listener: 0,
            };
            assert!(matches!(waiting.close(&envelope), Step::Answer(_)), "version {version}");
        }
    }
}

//! WriteTxnMarkers (key 27, version 1): how transactions ended, for some of their partitions.
//!
//! - A marker is answered when it is on this broker's disk, whatever the topic waits for.
//! - One of an older epoch of the producer is INVALID_PRODUCER_EPOCH, one of an older coordinator
//!   TRANSACTION_COORDINATOR_FENCED (G88, G93).
//! - Coordinators of this cluster do not come this way. An operator does: `kafka-transactions abort` ends
//!   a hanging transaction with it, which nobody else knows of any more.
//!
//! Deviations: `__transaction_state` is answered as if it were not there; a marker that is written already,
//! and has nothing left to end, is answered without another one; Kafka writes it again.
//! KIPs: 98, 664.

use bytes::BytesMut;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use flumen_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use flumen_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use flumen_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use flumen_protocol::time::Monotonic;

use super::refusals;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, EndQuestion, Question};
use crate::shard::routing::TRANSACTIONS_TOPIC;

/// Markers on their way to the disk.
#[derive(Debug)]
pub struct Waiting {
    markers: Vec<WritableTxnMarkerResult>,
    /// Where the part of each number belongs: marker, topic and partition by position.
    places: Vec<(usize, usize, usize)>,
    missing: usize,
}

/// Asks the owner of every partition named.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<WriteTxnMarkersRequest>(envelope, frame, body) else {
        return Step::Close("malformed WriteTxnMarkers request");
    };
    let deadline = context.now.monotonic.after(context.patience());
    let mut waiting = Waiting { markers: Vec::new(), places: Vec::new(), missing: 0 };
    let mut parts = Vec::new();
    for marker in request.markers {
        waiting.add(context, marker, deadline, &mut parts);
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    let patience = Some(context.patience());
    Step::Wait(Wait { waiting: AnyWaiting::WriteTxnMarkers(waiting), parts, patience })
}

impl Waiting {
    fn add(
        &mut self,
        context: &Context<'_>,
        marker: WritableTxnMarker,
        deadline: Monotonic,
        parts: &mut Vec<Part>,
    ) {
        let (commit, coordinator_epoch) = (marker.transaction_result, marker.coordinator_epoch);
        let question = EndQuestion {
            producer_id: ProducerId(marker.producer_id.0),
            epoch: ProducerEpoch(marker.producer_epoch),
            marker: EndMarker { commit, coordinator_epoch },
            must_be_newer: false,
            deadline,
        };
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            let name: &str = &topic.name;
            let known = match name {
                // Transactional ids are not kept within transactions: there is nothing to end.
                TRANSACTIONS_TOPIC => None,
                name => context.image.topic_named(name),
            };
            let mut answers = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let log = known.and_then(|known| known.log(PartitionIndex(index)));
                let code = match log {
                    Some(log) => {
                        let number = self.places.len() as u32;
                        self.places.push((self.markers.len(), topics.len(), answers.len()));
                        let question = Question::EndTransaction(Box::new(question));
                        parts.push(Part { number, to: Addressee::Owner(log), question });
                        ErrorCode::RequestTimedOut
                    }
                    None => ErrorCode::UnknownTopicOrPartition,
                };
                let answer = WritableTxnMarkerPartitionResult::default();
                answers.push(answer.with_partition_index(index).with_error_code(code.code()));
            }
            let answer = WritableTxnMarkerTopicResult::default().with_name(topic.name);
            topics.push(answer.with_partitions(answers));
        }
        let answer = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
        self.markers.push(answer.with_topics(topics));
    }

    /// Takes one partition's outcome in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (marker, topic, partition) = self.places[part as usize];
        let place = &mut self.markers[marker].topics[topic].partitions[partition];
        place.error_code = match answer {
            Answer::Appended(Ok(_)) => ErrorCode::None.code(),
            Answer::Appended(Err(refusal)) => refusals::of_partition(refusal).code.code(),
            other => refusals::of_misplaced(&other).code.code(),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known.
    pub fn close(self, envelope: &Envelope) -> Step {
        step::answer(envelope, &WriteTxnMarkersResponse::default().with_markers(self.markers))
    }
}

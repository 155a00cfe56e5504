//! The answer to a produce request, while its batches are on their way to the disk.
//!
//! Does: take in what became of each batch; tell the client, or one that wants no answer by closing.
//! Does not: look at batches; whoever opened the request did.
//! Invariants: partitions stand in the answer as in the request; one that has not answered has timed out.
//! Apart from opening a request because it knows nothing of what is in a batch.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::produce::{
    ProducePartitionResponse, ProduceResponse, ProduceTopicResponse,
};
use flumen_protocol::ids::{Offset, PartitionIndex};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::AppendReceipt;
use flumen_replication::partition::Acks;

use crate::api::refusals::{self, Refused};
use crate::api::step::{Context, Envelope, Progress, Step};
use crate::shard::mailbox::Answer;

/// A produce request on its way to the disk.
#[derive(Debug)]
pub struct Waiting {
    pub(super) acks: Acks,
    /// Of the request.
    pub(super) version: i16,
    pub(super) topics: Vec<ProduceTopicResponse>,
    /// Where the part of each number belongs: topic and partition by position.
    pub(super) places: Vec<(usize, usize)>,
    pub(super) missing: usize,
    /// Some batch was refused. A batch that only takes long was not: it is in the log.
    pub(super) refused: bool,
    /// Bytes of the request, which its client may have a quota of.
    pub(super) request_bytes: usize,
}

impl Waiting {
    /// Takes one partition's outcome in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        let (topic, partition) = self.places[part as usize];
        let place = &mut self.topics[topic].partitions[partition];
        // Who is too busy says the same code as who takes long, but has not taken the batch.
        self.refused |= !matches!(answer, Answer::Appended(Ok(_) | Err(Refusal::TimedOut)));
        *place = match answer {
            Answer::Appended(Ok(receipt)) => acknowledged(place.index, &receipt),
            Answer::Appended(Err(refused)) => {
                refusal(place.index, refusals::of_append(refused, self.version))
            }
            other => refusal(place.index, refusals::of_misplaced(&other)),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known; open partitions timed out.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let throttle_ms = context.throttle_produce(envelope, self.request_bytes);
        self.told(envelope, throttle_ms)
    }

    fn told(mut self, envelope: &Envelope, throttle_ms: i32) -> Step {
        if self.missing > 0 {
            self.explain_time_outs();
        }
        if self.acks == Acks::None {
            return if self.refused { Step::CloseUnacknowledged } else { Step::Answer(Vec::new()) };
        }
        let response =
            ProduceResponse { topics: self.topics, throttle_ms, node_endpoints: Vec::new() };
        Step::Answer(vec![response.encode(envelope.version, envelope.correlation_id)])
    }

    fn explain_time_outs(&mut self) {
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error == ErrorCode::RequestTimedOut && partition.error_message.is_none() {
                partition.error_message = refusals::of_partition(Refusal::TimedOut).message;
            }
        }
    }
}

/// A partition that has not answered: what the client sees if it never does, but for the sentence,
/// which is not written before it is needed.
pub(super) fn unanswered(index: PartitionIndex) -> ProducePartitionResponse {
    let code = ErrorCode::RequestTimedOut;
    refusal(index, Refused { code, message: None, records: Vec::new() })
}

fn acknowledged(index: PartitionIndex, receipt: &AppendReceipt) -> ProducePartitionResponse {
    // What was repeated too late for its place to be remembered (KIP-98): clients take it as written.
    let is_placed = receipt.base_offset != Offset::UNKNOWN;
    ProducePartitionResponse {
        index,
        error: if is_placed { ErrorCode::None } else { ErrorCode::DuplicateSequenceNumber },
        base_offset: receipt.base_offset,
        log_append_time_ms: receipt.append_time.map_or(-1, |wall| wall.0),
        log_start_offset: receipt.start_offset,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    }
}

/// A partition whose batch was refused.
pub(super) fn refusal(index: PartitionIndex, refused: Refused) -> ProducePartitionResponse {
    ProducePartitionResponse {
        index,
        error: refused.code,
        base_offset: Offset::UNKNOWN,
        log_append_time_ms: -1,
        log_start_offset: Offset::UNKNOWN,
        record_errors: refused.records,
        error_message: refused.message,
        current_leader: None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::Bytes;
    use flumen_protocol::api_table::ApiKey;
    use flumen_protocol::ids::TopicId;
    use flumen_protocol::messages::{ProduceRequest as Produced, StrBytes, decode_response};

    use super::*;

    const VERSION: i16 = 9;

    /// Two topics of two partitions, all four on their way.
    fn waiting(acks: Acks) -> Waiting {
        let topic = |name: &'static str| ProduceTopicResponse {
            name: Some(StrBytes::from_static_str(name)),
            id: TopicId([0; 16]),
            partitions: [0, 1].map(|index| unanswered(PartitionIndex(index))).to_vec(),
        };
        Waiting {
            version: VERSION,
            acks,
            topics: vec![topic("a"), topic("b")],
            places: vec![(0, 0), (0, 1), (1, 0), (1, 1)],
            missing: 4,
            refused: false,
            request_bytes: 100,
        }
    }

    fn appended(base_offset: i64) -> Answer {
        let base_offset = Offset(base_offset);
        let receipt = AppendReceipt { base_offset, append_time: None, start_offset: Offset(0) };
        Answer::Appended(Ok(receipt))
    }

    fn close(waiting: Waiting) -> Step {
        let envelope = Envelope {
            key: ApiKey::Produce,
            version: VERSION,
            correlation_id: 7,
            client_id: String::new(),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            listener: 0,
        };
        waiting.told(&envelope, 0)
    }

    /// Error and base offset of each partition, as a client reads them.
    fn told(waiting: Waiting) -> Vec<(i16, i64)> {
        let Step::Answer(pieces) = close(waiting) else { panic!("it is answered") };
        let payload: Bytes = pieces.concat().split_off(4).into();
        let (_, response) = decode_response::<Produced>(ApiKey::Produce, VERSION, payload).unwrap();
        let topics: Vec<StrBytes> = response.responses.iter().map(|t| t.name.0.clone()).collect();
        assert_eq!(topics, ["a", "b"].map(StrBytes::from_static_str), "in request order");
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        partitions.map(|partition| (partition.error_code, partition.base_offset)).collect()
    }

    #[test]
    fn owners_may_answer_in_any_order() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut waiting = waiting(Acks::All);
            for (answered, part) in order.into_iter().enumerate() {
                let progress = waiting.answer(part, appended(i64::from(part) * 10));
                assert_eq!(matches!(progress, Progress::Done), answered == 3, "{order:?}");
            }
            assert_eq!(told(waiting), [(0, 0), (0, 10), (0, 20), (0, 30)], "{order:?}");
        }
    }

    #[test]
    fn a_refused_batch_leaves_its_neighbours_alone() {
        let mut waiting = waiting(Acks::Leader);
        waiting.answer(2, Answer::NotHere);
        waiting.answer(0, appended(5));
        waiting.answer(1, Answer::Appended(Err(Refusal::Storage)));
        assert!(matches!(waiting.answer(3, appended(6)), Progress::Done));
        let (moved, storage) = (ErrorCode::NotLeaderOrFollower, ErrorCode::KafkaStorageError);
        assert_eq!(told(waiting), [(0, 5), (storage.code(), -1), (moved.code(), -1), (0, 6)]);
    }

    #[test]
    fn what_was_written_too_long_ago_to_know_its_place_is_a_duplicate() {
        let mut waiting = waiting(Acks::All);
        waiting.answer(0, appended(Offset::UNKNOWN.0));
        (1..4).for_each(|part| drop(waiting.answer(part, appended(5))));
        let duplicate = (ErrorCode::DuplicateSequenceNumber.code(), -1);
        assert_eq!(told(waiting), [duplicate, (0, 5), (0, 5), (0, 5)]);
    }

    #[test]
    fn who_has_not_answered_when_time_is_up_has_timed_out() {
        let mut waiting = waiting(Acks::All);
        waiting.answer(1, appended(5));
        let late = (ErrorCode::RequestTimedOut.code(), -1);
        assert_eq!(told(waiting), [late, (0, 5), late, late]);
    }

    #[test]
    fn without_acks_only_a_refusal_is_told_and_only_by_closing() {
        let mut sound = waiting(Acks::None);
        sound.answer(0, appended(0));
        assert!(matches!(close(sound), Step::Answer(pieces) if pieces.is_empty()));
        let mut late = waiting(Acks::None);
        late.answer(0, Answer::Appended(Err(Refusal::TimedOut)));
        assert!(matches!(close(late), Step::Answer(_)), "what is late is in the log all the same");
        for refusal in [
            Answer::Appended(Err(Refusal::Storage)),
            Answer::Appended(Err(Refusal::Busy)),
            Answer::NotHere,
        ] {
            let mut refused = waiting(Acks::None);
            refused.answer(0, appended(0));
            refused.answer(1, refusal);
            assert!(matches!(close(refused), Step::CloseUnacknowledged));
        }
    }
}

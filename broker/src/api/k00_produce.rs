//! Produce (key 0, versions 3–13): append batches.
//!
//! - One batch of format 2 per partition; everything is checked before anything is appended, so
//!   a bad partition never spoils a good one (G50, G51).
//! - acks 1 and −1 both answer after the batch is on stable media (decision D6); acks 0 has no
//!   answer, and a batch that is not appended, whatever the reason, closes the connection, which is
//!   the only sign there is (G21).
//! - The topic's own settings decide `max.message.bytes` and timestamp bounds (G53).
//!   `min.insync.replicas` asks for no more replicas than there are, as in Kafka 4 (G27): the one
//!   that a topic has here is enough.
//! - Past `timeout_ms` the open partitions answer REQUEST_TIMED_OUT, though their records stay
//!   (G26).
//!
//! Deviations: records inside a batch are not walked unless the topic is compacted, the producer left
//! their largest timestamp out or gives one before the first (G52), or the batch is refused for its
//! times, so that those at fault are named; and then no further than to 64 MiB for the whole request:
//! what is beyond is INVALID_RECORD, or not named. A partition named twice gets both batches, where
//! Kafka keeps the last and drops the others in silence. Transactional batches are refused until
//! transactions are served. Beside an error there is no `log_start_offset`, which clients read with
//! UNKNOWN_PRODUCER_ID only, an error that is never answered here, and no `current_leader`, which
//! could only name this node: who is refused because a partition is not here (yet) must pause and ask
//! for metadata, not come back at once (KIP-951).
//! KIPs: 98 (idempotence), 467 (record errors), 516 (topic ids in version 13).

use std::time::Duration;

use bytes::BytesMut;
use flumen_protocol::batch::check::{self, ProducedBatch};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::limits::INFLATED_BYTES_MAX;
use flumen_protocol::batch::stamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse,
};
use flumen_protocol::ids::{LogId, Offset, PartitionIndex};
use flumen_protocol::time::Monotonic;
use flumen_replication::error::Refusal;
use flumen_replication::metadata::image::Topic;
use flumen_replication::outbox::AppendReceipt;
use flumen_replication::partition::Acks;

use super::refusals::{self, Refused};
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::config::topic::TopicSettings;
use crate::limits::{APPEND_PATIENCE_MIN, COPY_BATCH_BYTES};
use crate::shard::mailbox::{Answer, AppendQuestion, Question};
use crate::shard::routing;
use crate::telemetry::metrics::RefusedReason;

/// The first version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// A produce request on its way to the disk.
#[derive(Debug)]
pub struct Waiting {
    acks: Acks,
    topics: Vec<ProduceTopicResponse>,
    /// Where the part of each number belongs: topic and partition by position.
    places: Vec<(usize, usize)>,
    missing: usize,
    /// Some batch was refused. A batch that only takes long was not: it is in the log.
    refused: bool,
}

/// What was asked of one partition, once it is known to exist and its batch to be sound.
struct Checked {
    log: LogId,
    batch: BytesMut,
    summary: ProducedBatch,
}

/// Checks everything and asks the owners to append what is sound.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Ok(request) = ProduceRequest::parse(frame, body, envelope.version) else {
        return Step::Close("malformed produce request");
    };
    let acks = acks_of(request.acks);
    // Kafka's time-out never cuts its own append short, only the wait for other replicas.
    let patience = step::patience(request.timeout_ms).max(APPEND_PATIENCE_MIN);
    let asked = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut opening = Opening {
        acks,
        transactional: request.transactional_id.is_some(),
        deadline: context.now.monotonic.after(patience),
        inflatable_bytes: INFLATED_BYTES_MAX,
        parts: Vec::with_capacity(asked),
        waiting: Waiting {
            acks: acks.unwrap_or(Acks::All),
            topics: Vec::with_capacity(request.topics.len()),
            places: Vec::with_capacity(asked),
            missing: 0,
            refused: false,
        },
    };
    for topic in request.topics {
        opening.add_topic(context, envelope, topic);
    }
    opening.finish(envelope, patience)
}

/// What a client means by its number, if it means anything.
fn acks_of(number: i16) -> Option<Acks> {
    match number {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    }
}

/// The state of [`open`] while it walks the request.
struct Opening {
    /// `None`: the client asked for an acks value that does not exist.
    acks: Option<Acks>,
    transactional: bool,
    deadline: Monotonic,
    /// What the records of further batches may inflate to, all together. A bomb takes a tenth of a
    /// second, and a request has room for many.
    inflatable_bytes: usize,
    parts: Vec<Part>,
    waiting: Waiting,
}

impl Opening {
    fn add_topic(&mut self, context: &mut Context<'_>, envelope: &Envelope, asked: ProduceTopic) {
        let image = context.image;
        let topic = match &asked.name {
            Some(name) => image.topic_named(name),
            None => image.topic(asked.id),
        };
        let unknown = if asked.name.is_some() {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::UnknownTopicId
        };
        let topic_place = self.waiting.topics.len();
        let mut answers = Vec::with_capacity(asked.partitions.len());
        for (place, partition) in asked.partitions.into_iter().enumerate() {
            let index = partition.index;
            let checked = match (self.acks, topic) {
                (None, _) => Err(ErrorCode::InvalidRequiredAcks.into()),
                (Some(_), None) => Err(unknown.into()),
                (Some(_), Some(topic)) => self.check(context, envelope, topic, partition),
            };
            answers.push(match checked {
                Ok(checked) => {
                    self.ask(topic_place, place, checked);
                    unanswered(index)
                }
                Err(refused) => {
                    self.waiting.refused = true;
                    counted(refused.code).into_iter().for_each(|it| context.metrics.refused(it));
                    refusal(index, refused)
                }
            });
        }
        self.waiting.topics.push(ProduceTopicResponse {
            name: asked.name,
            id: asked.id,
            partitions: answers,
        });
    }

    fn check(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
        topic: &Topic,
        asked: ProducePartition,
    ) -> Result<Checked, Refused> {
        let log = topic.log(asked.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if topic.name == routing::OFFSETS_TOPIC || topic.name == routing::TRANSACTIONS_TOPIC {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let settings = context.settings(topic.id);
        let mut batch = asked.records.ok_or(ErrorCode::InvalidRecord)?;
        Self::check_size(context, settings, batch.len())?;
        let mut summary = check::check_produced(&batch).map_err(refusals::of_batch)?;
        stamp::repair_max_timestamp(&mut batch, &mut summary, &mut self.inflatable_bytes)
            .map_err(refusals::of_records)?;
        self.check_policy(context, envelope, settings, &batch, &summary)?;
        // A large batch stays where the socket put it; a small one must not pin its neighbours.
        let batch =
            if batch.len() <= COPY_BATCH_BYTES { BytesMut::from(&batch[..]) } else { batch };
        Ok(Checked { log, batch, summary })
    }

    fn check_size(
        context: &Context<'_>,
        settings: &TopicSettings,
        bytes: usize,
    ) -> Result<(), Refused> {
        let limit = usize::try_from(settings.max_message_bytes).unwrap_or(0);
        let holds = context.options.batch_bytes_max();
        let why = if bytes > limit {
            format!("a batch of {bytes} bytes is over max.message.bytes={limit}")
        } else if bytes > holds {
            format!(
                "a batch of {bytes} bytes does not fit a journal file, which holds {holds}: the \
                 broker's operator may raise flumen.journal.file.bytes"
            )
        } else {
            return Ok(());
        };
        Err(Refused::with(ErrorCode::MessageTooLarge, why))
    }

    /// What depends on the topic's settings and the request's version.
    fn check_policy(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
        settings: &TopicSettings,
        batch: &[u8],
        summary: &ProducedBatch,
    ) -> Result<(), Refused> {
        if summary.codec == Codec::Zstd && envelope.version < ZSTD_SINCE {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        if self.transactional || summary.transactional {
            return Err(Refused::with(
                ErrorCode::InvalidTxnState,
                "transactions are not served by this broker yet",
            ));
        }
        let allowed = settings.timestamps_allowed(context.now.wall);
        let is_allowed = |timestamp| timestamp == -1 || allowed.contains(&timestamp);
        if !is_allowed(summary.base_timestamp) || !is_allowed(summary.max_timestamp) {
            let misdated = check::misdated_records(batch, &allowed, &mut self.inflatable_bytes);
            return Err(refusals::of_misdated(&misdated));
        }
        if settings.is_compacted() {
            let records = check::check_records(batch, &mut self.inflatable_bytes)
                .map_err(refusals::of_records)?;
            if !records.without_key.is_empty() {
                return Err(refusals::of_keyless(&records.without_key));
            }
        }
        Ok(())
    }

    fn ask(&mut self, topic: usize, partition: usize, checked: Checked) {
        let number = self.waiting.places.len() as u32;
        self.waiting.places.push((topic, partition));
        self.waiting.missing += 1;
        let acks = self.waiting.acks;
        let question = Question::Append(Box::new(AppendQuestion {
            batch: checked.batch,
            summary: checked.summary,
            acks,
            deadline: self.deadline,
        }));
        self.parts.push(Part { number, to: Addressee::Owner(checked.log), question });
    }

    fn finish(self, envelope: &Envelope, patience: Duration) -> Step {
        if self.waiting.missing == 0 {
            return self.waiting.close(envelope);
        }
        // Even with acks=0 the owners answer, so that an error can close the connection, and so
        // that the client is read no faster than the disk writes.
        Step::Wait(Wait {
            waiting: AnyWaiting::Produce(self.waiting),
            parts: self.parts,
            patience: Some(patience),
        })
    }
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
            Answer::Appended(Err(refused)) => refusal(place.index, refusals::of_partition(refused)),
            other => refusal(place.index, refusals::of_misplaced(&other)),
        };
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with what is known; open partitions timed out.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        if self.missing > 0 {
            self.explain_time_outs();
        }
        if self.acks == Acks::None {
            return if self.refused { Step::CloseUnacknowledged } else { Step::Answer(Vec::new()) };
        }
        let response =
            ProduceResponse { topics: self.topics, throttle_ms: 0, node_endpoints: Vec::new() };
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
fn unanswered(index: PartitionIndex) -> ProducePartitionResponse {
    let code = ErrorCode::RequestTimedOut;
    refusal(index, Refused { code, message: None, records: Vec::new() })
}

fn acknowledged(index: PartitionIndex, receipt: &AppendReceipt) -> ProducePartitionResponse {
    ProducePartitionResponse {
        index,
        error: ErrorCode::None,
        base_offset: receipt.base_offset,
        log_append_time_ms: receipt.append_time.map_or(-1, |wall| wall.0),
        log_start_offset: receipt.start_offset,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    }
}

/// What a batch that was refused before anybody was asked is counted as. A client that names what is
/// not there is no matter for an operator.
fn counted(code: ErrorCode) -> Option<RefusedReason> {
    const INVALID: [ErrorCode; 6] = [
        ErrorCode::CorruptMessage,
        ErrorCode::InvalidRecord,
        ErrorCode::InvalidTimestamp,
        ErrorCode::MessageTooLarge,
        ErrorCode::UnsupportedCompressionType,
        ErrorCode::UnsupportedForMessageFormat,
    ];
    INVALID.contains(&code).then_some(RefusedReason::InvalidBatch)
}

fn refusal(index: PartitionIndex, refused: Refused) -> ProducePartitionResponse {
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
            acks,
            topics: vec![topic("a"), topic("b")],
            places: vec![(0, 0), (0, 1), (1, 0), (1, 1)],
            missing: 4,
            refused: false,
        }
    }

    fn appended(base_offset: i64) -> Answer {
        let base_offset = Offset(base_offset);
        let receipt = AppendReceipt { base_offset, append_time: None, start_offset: Offset(0) };
        Answer::Appended(Ok(receipt))
    }

    fn close(waiting: Waiting) -> Step {
        waiting.close(&Envelope {
            key: ApiKey::Produce,
            version: VERSION,
            correlation_id: 7,
            client_id: String::new(),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            listener: 0,
        })
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

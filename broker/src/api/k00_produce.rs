//! Produce (key 0, versions 3–13): append batches.
//!
//! - One batch of format 2 per partition; everything is checked before anything is appended, so
//!   a bad partition never spoils a good one (G50, G51).
//! - acks 1 and −1 both answer after the batch is on stable media (decision D6); acks 0 has no
//!   answer, and a batch that is not appended, whatever the reason, closes the connection, which is
//!   the only sign there is (G21).
//! - The topic's own settings decide `max.message.bytes` and timestamp bounds (G53), and with
//!   `compression.type` how records are packed: where the producer packed them otherwise they are
//!   packed anew, and the batch may be no larger than `max.message.bytes` before and after.
//!   `min.insync.replicas` asks for no more replicas than there are, as in Kafka 4 (G27): the one
//!   that a topic has here is enough.
//! - A batch that begins a transaction on its partition waits for the word of the transaction's
//!   coordinator, which since version 12 adds the partition (KIP-890).
//! - Past `timeout_ms` the open partitions answer REQUEST_TIMED_OUT, though their records stay
//!   (G26).
//!
//! Deviations: records inside a batch are not walked unless the topic is compacted, or asks for another
//! codec than the batch has, the producer left
//! their largest timestamp out or gives one before the first (G52), or the batch is refused for its
//! times, so that those at fault are named; and then no further than to 64 MiB for the whole request:
//! what is beyond is INVALID_RECORD, or not named. A partition named twice gets both batches, where
//! Kafka keeps the last and drops the others in silence. Beside an error there is no
//! `log_start_offset`, which clients read with UNKNOWN_PRODUCER_ID only, an error that is never answered
//! here, and no `current_leader`, which could only name this node: who is refused because a partition is
//! not here (yet) must pause and ask for metadata, not come back at once (KIP-951).
//! A batch that its producer repeats after five others were appended is DUPLICATE_SEQUENCE_NUMBER, not
//! OUT_OF_ORDER_SEQUENCE_NUMBER, where it is known to stand there (replication's decision 0011).
//! KIPs: 98 (idempotence, transactions), 890, 467 (record errors), 516 (topic ids in version 13).

mod waiting;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use bytes::BytesMut;
use flumen_protocol::batch::check::{self, ProducedBatch};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::inspection::{Inspected, Inspection};
use flumen_protocol::batch::limits::INFLATED_BYTES_MAX;
use flumen_protocol::batch::payload::Payload;
use flumen_protocol::batch::repacking::{Repacking, TooLarge};
use flumen_protocol::batch::stamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::produce::{
    ProducePartition, ProduceRequest, ProduceTopic, ProduceTopicResponse,
};
use flumen_protocol::ids::{LogId, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use flumen_protocol::messages::StrBytes;
use flumen_protocol::time::Monotonic;
use flumen_replication::metadata::image::Topic;
use flumen_replication::partition::{Acks, Claim};

pub use self::waiting::Waiting;
use self::waiting::{refusal, unanswered};
use super::refusals::{self, Refused};
use super::step::{self, Addressee, Context, Envelope, Part, Step, Wait};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::config::topic::TopicSettings;
use crate::limits::{APPEND_PATIENCE_MIN, COPY_BATCH_BYTES, INSPECTED_BYTES_PER_PIECE};
use crate::shard::mailbox::{AppendQuestion, Question};
use crate::shard::routing;
use crate::telemetry::metrics::RefusedReason;

/// The first version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// What was asked of one partition, once it is known to exist and its batch to be sound.
struct Checked {
    log: LogId,
    batch: BytesMut,
    summary: ProducedBatch,
    claim: Option<Box<Claim>>,
}

/// Checks everything and asks the owners to append what is sound.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let request_bytes = frame.len();
    let Ok(request) = ProduceRequest::parse(frame, body, envelope.version) else {
        return Step::Close("malformed produce request");
    };
    let acks = acks_of(request.acks);
    // Kafka's time-out never cuts its own append short, only the wait for other replicas.
    let patience = step::patience(request.timeout_ms).max(APPEND_PATIENCE_MIN);
    let asked = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let topics = request.topics.len();
    let opening = Opening {
        acks,
        transactional_id: request.transactional_id,
        transactional_producer: None,
        deadline: context.now.monotonic.after(patience),
        patience,
        inflatable_bytes: INFLATED_BYTES_MAX,
        topics: request.topics.into_iter(),
        partitions: Vec::new().into_iter(),
        doubtful: None,
        remains: Payload::none(),
        parts: Vec::with_capacity(asked),
        waiting: Waiting {
            acks: acks.unwrap_or(Acks::All),
            version: envelope.version,
            topics: Vec::with_capacity(topics),
            places: Vec::with_capacity(asked),
            missing: 0,
            refused: false,
            request_bytes,
        },
    };
    opening.go_on(context, envelope)
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

/// What was asked of one partition, while its records are being looked into.
#[derive(Debug)]
struct Doubtful {
    topic: TopicId,
    index: PartitionIndex,
    log: LogId,
    summary: ProducedBatch,
    /// The times that the topic takes.
    allowed: RangeInclusive<i64>,
    stage: Stage,
}

/// What is being done with the records of a batch.
#[derive(Debug)]
enum Stage {
    /// They are inflated and looked at.
    Looking(Box<Inspection>),
    /// They are sound, and get the codec that the topic asks for.
    Packing(Box<Repacking>, Codec),
}

/// What a batch's header and its topic's settings say of it.
enum Verdict {
    Sound(Checked),
    /// Its records decide.
    Doubtful(Box<Doubtful>),
}

/// A request that is being walked. It stops after a piece of work where batches must be looked into.
#[derive(Debug)]
pub struct Opening {
    /// `None`: the client asked for an acks value that does not exist.
    acks: Option<Acks>,
    transactional_id: Option<StrBytes>,
    /// Whose transaction the first batch of one belongs to. One request has one.
    transactional_producer: Option<(ProducerId, ProducerEpoch)>,
    deadline: Monotonic,
    patience: Duration,
    /// What the records of further batches may inflate to, all together. A bomb takes a tenth of a
    /// second, and a request has room for many.
    inflatable_bytes: usize,
    /// The topics behind the last one among the answers.
    topics: IntoIter<ProduceTopic>,
    /// The partitions of that one that were not looked at.
    partitions: IntoIter<ProducePartition>,
    /// The partition before them, if it is not decided.
    doubtful: Option<Box<Doubtful>>,
    /// What the records of the last one were inflated to, until its memory was given back.
    remains: Payload,
    parts: Vec<Part>,
    waiting: Waiting,
}

impl Opening {
    /// Walks on, for a piece of work.
    pub fn go_on(mut self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let mut work_bytes = INSPECTED_BYTES_PER_PIECE;
        loop {
            if !self.walk_topic(context, envelope, &mut work_bytes) {
                return Step::Inspect(Box::new(self));
            }
            let Some(ProduceTopic { name, id, partitions }) = self.topics.next() else {
                return self.finish(context, envelope);
            };
            let answers = Vec::with_capacity(partitions.len());
            self.waiting.topics.push(ProduceTopicResponse { name, id, partitions: answers });
            self.partitions = partitions.into_iter();
        }
    }

    /// Walks on in the topic that was begun last, if there is one. Says whether it came to its end.
    fn walk_topic(
        &mut self,
        context: &mut Context<'_>,
        envelope: &Envelope,
        work_bytes: &mut usize,
    ) -> bool {
        let Some(asked) = self.waiting.topics.last() else { return true };
        let topic = match &asked.name {
            Some(name) => context.image.topic_named(name),
            None => context.image.topic(asked.id),
        };
        if !self.look_inside(context, envelope, work_bytes) {
            return false;
        }
        while let Some(partition) = self.partitions.next() {
            let index = partition.index;
            let place = topic.and_then(|topic| Some((topic, topic.log(index)?)));
            let checked = match (self.acks, place) {
                (None, _) => Err(ErrorCode::InvalidRequiredAcks.into()),
                (Some(_), Some(place)) => self.check(context, envelope, place, partition),
                (Some(_), None) => {
                    Err(self.put_off(context, topic.map(|it| it.id), &partition).into())
                }
            };
            match checked {
                Ok(Verdict::Sound(checked)) => self.decide(context, index, Ok(checked)),
                Err(refused) => self.decide(context, index, Err(refused)),
                Ok(Verdict::Doubtful(doubtful)) => {
                    self.doubtful = Some(doubtful);
                    if !self.look_inside(context, envelope, work_bytes) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Looks into the batch that is doubtful, if there is one. Says whether it is decided, and the memory
    /// that this took given back.
    fn look_inside(
        &mut self,
        context: &mut Context<'_>,
        envelope: &Envelope,
        work_bytes: &mut usize,
    ) -> bool {
        loop {
            if !self.remains.give_back(work_bytes) {
                return false;
            }
            let Some(mut doubtful) = self.doubtful.take() else { return true };
            let index = doubtful.index;
            let judged = match &mut doubtful.stage {
                Stage::Looking(inspection) => inspection.go_on(work_bytes).map(Ok),
                Stage::Packing(packing, _) => packing.go_on(work_bytes).map(Err),
            };
            let judged = match judged {
                None => {
                    self.doubtful = Some(doubtful);
                    return false;
                }
                Some(Ok(found)) => {
                    self.inflatable_bytes -= found.inflated_bytes;
                    self.judge(context, envelope, *doubtful, found)
                }
                Some(Err(packed)) => self.packed(context, envelope, *doubtful, packed),
            };
            match judged {
                Ok(Verdict::Sound(checked)) => self.decide(context, index, Ok(checked)),
                Ok(Verdict::Doubtful(doubtful)) => self.doubtful = Some(doubtful),
                Err(refused) => self.decide(context, index, Err(refused)),
            }
        }
    }

    /// Refuses a batch whose partition this core does not know: not yet, perhaps. What its producer has
    /// sent behind it must not be taken before it.
    fn put_off(
        &self,
        context: &mut Context<'_>,
        known: Option<TopicId>,
        asked: &ProducePartition,
    ) -> ErrorCode {
        let ProduceTopicResponse { name, id, .. } =
            self.waiting.topics.last().expect("a topic was begun");
        let batch = asked.records.as_deref().and_then(|batch| check::check_produced(batch).ok());
        if let Some(batch) = batch.and_then(|batch| batch.producer) {
            let (partition, now) = (asked.index, context.now.monotonic);
            match name.as_deref().filter(|_| known.is_none()) {
                Some(name) if topics::check_name(name).is_ok() => {
                    context.early.note_named(name, partition, &batch, now);
                }
                Some(_) => {}
                None => {
                    let log = LogId { topic: known.unwrap_or(*id), partition };
                    context.early.note(log, &batch, now);
                }
            }
        }
        if known.is_none() && name.is_none() {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        }
    }

    fn decide(
        &mut self,
        context: &mut Context<'_>,
        index: PartitionIndex,
        checked: Result<Checked, Refused>,
    ) {
        let topic = self.waiting.topics.len() - 1;
        let answers = &mut self.waiting.topics[topic].partitions;
        let place = answers.len();
        match checked {
            Ok(checked) => {
                answers.push(unanswered(index));
                self.ask(context, topic, place, checked);
            }
            Err(refused) => {
                counted(refused.code).into_iter().for_each(|it| context.metrics.refused(it));
                answers.push(refusal(index, refused));
                self.waiting.refused = true;
            }
        }
    }

    fn check(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
        (topic, log): (&Arc<Topic>, LogId),
        asked: ProducePartition,
    ) -> Result<Verdict, Refused> {
        if topic.name == routing::OFFSETS_TOPIC || topic.name == routing::TRANSACTIONS_TOPIC {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let settings = context.settings(topic.id);
        let batch = asked.records.ok_or(ErrorCode::InvalidRecord)?;
        Self::check_size(context, settings, batch.len())?;
        let summary = check::check_produced(&batch).map_err(refusals::of_batch)?;
        let allowed = settings.timestamps_allowed(context.now.wall);
        let is_sound = summary.says_max_timestamp()
            && {
                self.check_request(envelope, &summary)?;
                !is_misdated(&summary, &allowed) && !settings.is_compacted()
            }
            && settings.codec_instead_of(summary.codec).is_none();
        if is_sound {
            let claim = self.claim(&summary, envelope.version);
            return Ok(Verdict::Sound(Checked { log, batch: apart(batch), summary, claim }));
        }
        let (topic, index) = (topic.id, asked.index);
        let inspection = Inspection::begin(batch.freeze(), allowed.clone(), self.inflatable_bytes);
        let stage = Stage::Looking(Box::new(inspection));
        let doubtful = Doubtful { topic, index, log, summary, allowed, stage };
        Ok(Verdict::Doubtful(Box::new(doubtful)))
    }

    /// Decides on a batch whose records were looked at.
    fn judge(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
        doubtful: Doubtful,
        found: Inspected,
    ) -> Result<Verdict, Refused> {
        let Doubtful { topic, index, log, mut summary, allowed, stage } = doubtful;
        let Stage::Looking(inspection) = stage else { unreachable!("only these are judged") };
        let (batch, records) = inspection.into_parts();
        self.remains = records;
        let mut batch = BytesMut::from(batch);
        if !summary.says_max_timestamp() {
            let largest = found.summary.as_ref().map_err(|fault| refusals::of_records(*fault))?;
            stamp::correct_max_timestamp(&mut batch, &mut summary, largest.max_timestamp);
            self.check_request(envelope, &summary)?;
        }
        if is_misdated(&summary, &allowed) {
            return Err(refusals::of_misdated(&found.misdated));
        }
        let settings = context.settings(topic);
        let codec = settings.codec_instead_of(summary.codec);
        if settings.is_compacted() || codec.is_some() {
            let found = found.summary.map_err(refusals::of_records)?;
            if settings.is_compacted() && !found.without_key.is_empty() {
                return Err(refusals::of_keyless(&found.without_key));
            }
        }
        if let Some(codec) = codec {
            let limit_bytes = settings.batch_bytes_max().min(context.options.batch_bytes_max());
            let records = std::mem::replace(&mut self.remains, Payload::none());
            let packing = Repacking::begin(&batch, records, codec, limit_bytes);
            let stage = Stage::Packing(Box::new(packing), codec);
            let doubtful = Doubtful { topic, index, log, summary, allowed, stage };
            return Ok(Verdict::Doubtful(Box::new(doubtful)));
        }
        let claim = self.claim(&summary, envelope.version);
        Ok(Verdict::Sound(Checked { log, batch: apart(batch), summary, claim }))
    }

    /// Takes a batch whose records have got the codec that the topic asks for.
    fn packed(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
        doubtful: Doubtful,
        packed: Result<BytesMut, TooLarge>,
    ) -> Result<Verdict, Refused> {
        let Doubtful { topic, log, mut summary, stage, .. } = doubtful;
        let Stage::Packing(packing, codec) = stage else { unreachable!("only these are packed") };
        self.remains = packing.into_records();
        let batch = packed.map_err(|TooLarge| {
            let limit = context.settings(topic).batch_bytes_max();
            let name = codec.name();
            let why = format!("packed anew ({name}) the batch is over max.message.bytes={limit}");
            Refused::with(ErrorCode::MessageTooLarge, why)
        })?;
        (summary.bytes, summary.codec) = (batch.len(), codec);
        let claim = self.claim(&summary, envelope.version);
        Ok(Verdict::Sound(Checked { log, batch: apart(batch), summary, claim }))
    }

    fn check_size(
        context: &Context<'_>,
        settings: &TopicSettings,
        bytes: usize,
    ) -> Result<(), Refused> {
        let limit = settings.batch_bytes_max();
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

    /// What depends on the request.
    fn check_request(
        &mut self,
        envelope: &Envelope,
        summary: &ProducedBatch,
    ) -> Result<(), Refused> {
        if summary.codec == Codec::Zstd && envelope.version < ZSTD_SINCE {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        self.check_transaction(summary)
    }

    /// A batch of a transaction belongs to the one transactional id, and the one producer, of its request.
    fn check_transaction(&mut self, summary: &ProducedBatch) -> Result<(), Refused> {
        let Some(producer) = summary.producer.filter(|_| summary.transactional) else {
            return Ok(());
        };
        if self.transactional_id.is_none() {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
        }
        let producer = (producer.id, producer.epoch);
        if *self.transactional_producer.get_or_insert(producer) != producer {
            let why = "the batches of a request are of more than one transactional producer";
            return Err(Refused::with(ErrorCode::InvalidProducerIdMapping, why));
        }
        Ok(())
    }

    fn claim(&self, summary: &ProducedBatch, version: i16) -> Option<Box<Claim>> {
        let transactional_id = self.transactional_id.as_ref().filter(|_| summary.transactional)?;
        let adds = version >= refusals::IMPLICIT_SINCE;
        Some(Box::new(Claim { transactional_id: transactional_id.to_string(), adds }))
    }

    fn ask(&mut self, context: &mut Context<'_>, topic: usize, partition: usize, checked: Checked) {
        let number = self.waiting.places.len() as u32;
        self.waiting.places.push((topic, partition));
        self.waiting.missing += 1;
        let acks = self.waiting.acks;
        let name = self.waiting.topics[topic].name.as_deref();
        let producer = checked.summary.producer.as_ref();
        let behind = producer.and_then(|it| context.early.take(name, checked.log, it));
        let question = Question::Append(Box::new(AppendQuestion {
            batch: checked.batch,
            summary: checked.summary,
            acks,
            deadline: self.deadline,
            claim: checked.claim,
            behind,
        }));
        self.parts.push(Part { number, to: Addressee::Owner(checked.log), question });
    }

    fn finish(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        if self.waiting.missing == 0 {
            return self.waiting.close(context, envelope);
        }
        // Even with acks=0 the owners answer, so that an error can close the connection, and so
        // that the client is read no faster than the disk writes.
        Step::Wait(Wait {
            waiting: AnyWaiting::Produce(self.waiting),
            parts: self.parts,
            patience: Some(self.patience),
        })
    }
}

/// Whether a batch says that some record of it has a time its topic does not take.
fn is_misdated(summary: &ProducedBatch, allowed: &RangeInclusive<i64>) -> bool {
    let is_allowed = |timestamp| timestamp == -1 || allowed.contains(&timestamp);
    !is_allowed(summary.base_timestamp) || !is_allowed(summary.max_timestamp)
}

/// A large batch stays where the socket put it; a small one must not pin its neighbours.
fn apart(batch: BytesMut) -> BytesMut {
    if batch.len() <= COPY_BATCH_BYTES { BytesMut::from(&batch[..]) } else { batch }
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

//! One transactional producer as a row of requests.
//!
//! Does: queue what is due, take each transaction through its requests, keep the producer's identity
//! and sequences, order retries.
//! Does not: touch sockets or clocks, abort, or look for another coordinator.
//! Invariants: one request is under way at a time; a transaction keeps the instant it was due through
//! every retry and is done when its end is answered; the next one begins after that.
//! Apart because a transaction is several requests of which each needs the answer to the one before,
//! while those of a [`super::lane::Lane`] have nothing to do with each other.
//!
//! ```text
//! due -> queue -> name -> write -> end -> committed
//!                 ^  |    ^  |    ^  |
//!                 +--+    +--+    +--+   again after a pause
//! ```

use std::collections::VecDeque;

use bytes::BytesMut;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::wire::read::DecodeError;

use super::answers::{self, Ended};
use super::measure::Errors;
use super::request;
use super::template::{Patch, Templates};
use crate::limits::{CONCURRENT_BACKOFF_MS, RETRIES_MAX, RETRY_BACKOFF_MS};

/// How a transaction learns of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The producer names them beforehand (KIP-98).
    Named,
    /// They are written to; each transaction has an epoch of its own (KIP-890).
    Implied,
}

impl Flow {
    /// What clients do at a finalised level of `transaction.version`.
    #[must_use]
    pub fn at_level(transaction_version: i16) -> Self {
        if transaction_version >= 2 { Self::Implied } else { Self::Named }
    }

    /// The highest version of Produce that leaves partitions to be named beforehand, or any.
    #[must_use]
    pub fn produce_max(self) -> i16 {
        match self {
            Self::Named => 11,
            Self::Implied => i16::MAX,
        }
    }

    /// The highest version of EndTxn that leaves the epoch alone, or any.
    #[must_use]
    pub fn end_max(self) -> i16 {
        match self {
            Self::Named => 4,
            Self::Implied => i16::MAX,
        }
    }
}

/// The highest version of AddPartitionsToTxn that is meant for clients: later ones are for brokers.
pub const NAME_VERSION_MAX: i16 = 3;

/// How producers of one run speak of their transactions.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How partitions become known.
    pub flow: Flow,
    /// The topic that is written to.
    pub topic: String,
    /// Version of AddPartitionsToTxn.
    pub name_version: i16,
    /// Version of Produce.
    pub write_version: i16,
    /// Version of EndTxn.
    pub end_version: i16,
}

/// Who produces.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its transactional id.
    pub transactional_id: String,
    /// Its producer id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// What is asked for in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// That its partitions become part of it.
    Name,
    /// That records are appended, the first with this sequence.
    Write(Sequence),
    /// That it is committed.
    End,
}

impl Stage {
    fn key(self) -> ApiKey {
        match self {
            Self::Name => ApiKey::AddPartitionsToTxn,
            Self::Write(_) => ApiKey::Produce,
            Self::End => ApiKey::EndTxn,
        }
    }
}

/// A transaction that waits.
#[derive(Clone, Copy, Debug)]
struct Due {
    due_ns: u64,
    group: usize,
    /// Somebody else than the generator held it back.
    held: bool,
}

/// A transaction that has begun.
#[derive(Clone, Copy, Debug)]
struct Open {
    due: Due,
    began_ns: u64,
    stage: Stage,
    /// How often the request of this stage was sent before.
    retries: u32,
}

/// The request to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it asks for.
    pub stage: Stage,
    /// The group of partitions its transaction goes to.
    pub group: usize,
    /// When its transaction was due, monotonic nanoseconds.
    pub due_ns: u64,
    /// A transaction begins with it that nobody but the generator could have held back.
    pub is_prompt: bool,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The transaction has another request to send.
    GoesOn,
    /// It is done.
    Committed {
        /// When it was due.
        due_ns: u64,
        /// When its first request was written.
        began_ns: u64,
    },
    /// The same request is to be sent again after a pause.
    Waits,
    /// The run cannot go on.
    Refused {
        /// What was asked.
        asked: &'static str,
        /// The answer's code.
        code: i16,
    },
    /// An answer nobody asked for.
    Stray,
}

/// One producer whose requests are transactions, and its connection to coordinator and leader.
#[derive(Debug)]
pub struct Transactor {
    /// Which producer.
    pub producer: usize,
    /// Nothing is sent before this instant.
    pub held_until_ns: u64,
    identity: Identity,
    terms: Terms,
    records_per_batch: i32,
    queue: VecDeque<Due>,
    open: Option<Open>,
    /// An answer is outstanding.
    asked: bool,
    correlation_id: i32,
    /// Next sequence per group.
    sequences: Vec<Sequence>,
    frame: BytesMut,
}

impl Transactor {
    /// A producer without a transaction that writes to some of `groups` groups of partitions.
    #[must_use]
    pub fn new(
        producer: usize,
        identity: Identity,
        terms: Terms,
        records_per_batch: u32,
        groups: usize,
    ) -> Self {
        Self {
            producer,
            held_until_ns: 0,
            identity,
            terms,
            records_per_batch: records_per_batch as i32,
            queue: VecDeque::new(),
            open: None,
            asked: false,
            correlation_id: 0,
            sequences: vec![Sequence(0); groups],
            frame: BytesMut::new(),
        }
    }

    /// A transaction is due. `flushed`: the connection took everything so far.
    pub fn enqueue(&mut self, due_ns: u64, group: usize, flushed: bool) {
        let held = !flushed || !self.is_idle() || self.held_until_ns > 0;
        self.queue.push_back(Due { due_ns, group, held });
    }

    /// How many more a closed loop may put in: one, when the last is done.
    #[must_use]
    pub fn vacancies(&self) -> usize {
        usize::from(self.is_idle())
    }

    /// Whether no transaction waits and none is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.open.is_none()
    }

    /// Whether transactions wait to begin.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When the transactions were due that are not committed.
    pub fn leftovers(&self) -> impl Iterator<Item = u64> {
        let open = self.open.iter().map(|open| open.due.due_ns);
        open.chain(self.queue.iter().map(|due| due.due_ns))
    }

    /// Drops those that never began.
    pub fn forget_unsent(&mut self) {
        self.queue.clear();
    }

    /// The next request to be written now; its answer is outstanding from here on.
    pub fn next(&mut self, now_ns: u64) -> Option<Step> {
        if self.asked || now_ns < self.held_until_ns {
            return None;
        }
        let begins = self.open.is_none();
        let open = match self.open {
            Some(open) => open,
            None => self.begin(now_ns)?,
        };
        self.held_until_ns = 0;
        self.asked = true;
        self.correlation_id = self.correlation_id.wrapping_add(1).max(1);
        let Due { due_ns, group, held } = open.due;
        Some(Step { stage: open.stage, group, due_ns, is_prompt: begins && !held })
    }

    fn begin(&mut self, now_ns: u64) -> Option<Open> {
        let due = self.queue.pop_front()?;
        let stage = match self.terms.flow {
            Flow::Named => Stage::Name,
            Flow::Implied => self.write_to(due.group),
        };
        self.open = Some(Open { due, began_ns: now_ns, stage, retries: 0 });
        self.open
    }

    /// Draws the sequences of a batch.
    fn write_to(&mut self, group: usize) -> Stage {
        let next = &mut self.sequences[group];
        let first = *next;
        *next = first.after(self.records_per_batch);
        Stage::Write(first)
    }

    /// The whole request of a step that was just handed out.
    pub fn frame<'a>(
        &'a mut self,
        step: &Step,
        partitions: &[i32],
        templates: &'a mut Templates,
        now_ms: u64,
    ) -> &'a [u8] {
        match step.stage {
            Stage::Name => self.lay_out_name(partitions),
            Stage::Write(first) => {
                let Identity { transactional_id, id, epoch } = &self.identity;
                return templates.patched(&Patch {
                    correlation_id: self.correlation_id,
                    partitions,
                    due_ns: step.due_ns,
                    now_ms,
                    producer: Some((*id, *epoch, first)),
                    transactional_id: Some(transactional_id),
                });
            }
            Stage::End => self.lay_out_end(),
        }
        &self.frame
    }

    fn lay_out_name(&mut self, partitions: &[i32]) {
        let version = self.terms.name_version;
        let key = ApiKey::AddPartitionsToTxn;
        let mut writer = request::begin(&mut self.frame, key, version, self.correlation_id);
        writer.string(&self.identity.transactional_id);
        writer.i64(self.identity.id.0);
        writer.i16(self.identity.epoch.0);
        writer.count(1);
        writer.string(&self.terms.topic);
        writer.count(partitions.len());
        partitions.iter().for_each(|&partition| writer.i32(partition));
        writer.end_of_struct();
        writer.end_of_struct();
        request::finish(&mut self.frame);
    }

    fn lay_out_end(&mut self) {
        let version = self.terms.end_version;
        let mut writer =
            request::begin(&mut self.frame, ApiKey::EndTxn, version, self.correlation_id);
        writer.string(&self.identity.transactional_id);
        writer.i64(self.identity.id.0);
        writer.i16(self.identity.epoch.0);
        writer.boolean(true);
        writer.end_of_struct();
        request::finish(&mut self.frame);
    }

    /// Takes the answer to what was asked last, and counts its code where it is one.
    ///
    /// # Errors
    /// It is malformed.
    pub fn answered(
        &mut self,
        payload: &[u8],
        now_ns: u64,
        errors: &mut Errors,
    ) -> Result<Course, DecodeError> {
        let Some(open) = self.open.filter(|_| self.asked) else { return Ok(Course::Stray) };
        let said = match open.stage {
            Stage::Name => answers::named(payload, self.terms.name_version)?,
            Stage::Write(_) => {
                let said = answers::produced(payload, self.terms.write_version)?;
                Ended { correlation_id: said.correlation_id, error: said.error, producer: None }
            }
            Stage::End => answers::ended(payload, self.terms.end_version)?,
        };
        if said.correlation_id != self.correlation_id {
            return Ok(Course::Stray);
        }
        if said.error != 0 {
            errors.count(said.error);
        }
        self.asked = false;
        if said.error == 0 || was_taken_before(&open, said.error) {
            return Ok(self.advance(open, said.producer));
        }
        Ok(self.again(open, said.error, now_ns))
    }

    fn advance(&mut self, open: Open, producer: Option<(ProducerId, ProducerEpoch)>) -> Course {
        let stage = match open.stage {
            Stage::Name => self.write_to(open.due.group),
            Stage::Write(_) => Stage::End,
            Stage::End => {
                if let Some((id, epoch)) = producer {
                    // The next transaction is another producer's, as far as leaders are concerned.
                    (self.identity.id, self.identity.epoch) = (id, epoch);
                    self.sequences.fill(Sequence(0));
                }
                self.open = None;
                let Due { due_ns, .. } = open.due;
                return Course::Committed { due_ns, began_ns: open.began_ns };
            }
        };
        self.open = Some(Open { stage, retries: 0, ..open });
        Course::GoesOn
    }

    fn again(&mut self, open: Open, code: i16, now_ns: u64) -> Course {
        // That the transaction before this one is still being ended is no failure of this request,
        // and is over when it is over.
        let concurrent = code == ErrorCode::ConcurrentTransactions.code();
        let retries = if concurrent { open.retries } else { open.retries + 1 };
        if retries > RETRIES_MAX || !ErrorCode::from_code(code).is_some_and(ErrorCode::retriable) {
            return Course::Refused { asked: open.stage.key().row().name, code };
        }
        self.open = Some(Open { retries, ..open });
        let pause_ms = match open.stage {
            Stage::Name if concurrent => CONCURRENT_BACKOFF_MS,
            Stage::Name | Stage::Write(_) | Stage::End => RETRY_BACKOFF_MS,
        };
        self.held_until_ns = now_ns + pause_ms * 1_000_000;
        Course::Waits
    }
}

/// A retry whose first sending had been taken after all.
fn was_taken_before(open: &Open, code: i16) -> bool {
    let writes = matches!(open.stage, Stage::Write(_));
    writes && open.retries > 0 && code == ErrorCode::DuplicateSequenceNumber.code()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::plain_producers;
    use crate::load::payload::Dice;
    use crate::load::template::{Address, transactional_id};
    use crate::scenario::Producers;
    use bytes::Bytes;
    use flumen_protocol::batch::header::BatchHeader;
    use flumen_protocol::frame::SIZE_BYTES;
    use flumen_protocol::header::RequestHeader;
    use flumen_protocol::hot::produce::{
        ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
    };
    use flumen_protocol::ids::{Offset, PartitionIndex, TopicId};
    use flumen_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    use flumen_protocol::messages::{
        AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse,
        StrBytes, WireProducerId, decode_request, encode_response,
    };

    const CONCURRENT: i16 = 51;
    const MS: u64 = 1_000_000;

    /// A producer of two records a time with what it needs to speak.
    struct Story {
        transactor: Transactor,
        templates: Templates,
        errors: Errors,
    }

    impl Story {
        fn new(flow: Flow) -> Self {
            let (write_version, end_version) = match flow {
                Flow::Named => (11, 4),
                Flow::Implied => (13, 5),
            };
            let producers =
                Producers { transactional: true, records_per_batch: 2, ..plain_producers() };
            let address =
                Address { name: "t".to_owned(), id: TopicId([3; 16]), version: write_version };
            let terms = Terms {
                flow,
                topic: "t".to_owned(),
                name_version: NAME_VERSION_MAX,
                write_version,
                end_version,
            };
            let identity = Identity {
                transactional_id: transactional_id("t", 7),
                id: ProducerId(40),
                epoch: ProducerEpoch(3),
            };
            Self {
                transactor: Transactor::new(7, identity, terms, 2, 2),
                templates: Templates::new(&producers, &address, &mut Dice::new(1)),
                errors: Errors::default(),
            }
        }

        /// What is sent now: of which API, and its body.
        fn sends(&mut self, now_ns: u64) -> Option<(i16, i16, Bytes)> {
            let step = self.transactor.next(now_ns)?;
            let frame = self.transactor.frame(&step, &[5], &mut self.templates, 1);
            let payload = Bytes::copy_from_slice(&frame[SIZE_BYTES..]);
            let (header, offset) = RequestHeader::parse(&payload).expect("a header");
            Some((header.api_key, header.version, payload.slice(offset..)))
        }

        fn names(&mut self, now_ns: u64) -> AddPartitionsToTxnRequest {
            let (key, version, mut body) = self.sends(now_ns).expect("something to send");
            assert_eq!(key, ApiKey::AddPartitionsToTxn.code());
            decode_request(ApiKey::AddPartitionsToTxn, version, &mut body).expect("well-formed")
        }

        /// Sends records; their epoch and first sequence.
        fn writes(&mut self, now_ns: u64) -> (ProducerEpoch, Sequence) {
            let (key, version, body) = self.sends(now_ns).expect("something to send");
            assert_eq!(key, ApiKey::Produce.code());
            let request =
                ProduceRequest::parse(body.as_ref().into(), 0, version).expect("well-formed");
            assert_eq!(request.transactional_id.as_deref(), Some("t-00007"));
            let batch = request.topics[0].partitions[0].records.as_ref().expect("records");
            let header = BatchHeader::parse(batch).expect("a batch");
            assert!(header.is_transactional());
            (header.producer_epoch, header.base_sequence)
        }

        fn ends(&mut self, now_ns: u64) -> EndTxnRequest {
            let (key, version, mut body) = self.sends(now_ns).expect("something to send");
            assert_eq!(key, ApiKey::EndTxn.code());
            decode_request(ApiKey::EndTxn, version, &mut body).expect("well-formed")
        }

        /// The answer to the last request comes, with this code.
        fn hears(&mut self, code: i16, now_ns: u64) -> Course {
            let frame = self.answer(code, self.transactor.correlation_id);
            let settled = self.transactor.answered(&frame[SIZE_BYTES..], now_ns, &mut self.errors);
            settled.expect("well-formed")
        }

        fn answer(&self, code: i16, correlation_id: i32) -> Bytes {
            let terms = &self.transactor.terms;
            match self.transactor.open.expect("a transaction").stage {
                Stage::Name => {
                    let part = AddPartitionsToTxnPartitionResult::default()
                        .with_partition_index(5)
                        .with_partition_error_code(code);
                    let topic = AddPartitionsToTxnTopicResult::default()
                        .with_results_by_partition(vec![part]);
                    let said = AddPartitionsToTxnResponse::default()
                        .with_results_by_topic_v3_and_below(vec![topic]);
                    let key = ApiKey::AddPartitionsToTxn;
                    encode_response(key, terms.name_version, correlation_id, &said).expect("said")
                }
                Stage::Write(_) => produced(code).encode(terms.write_version, correlation_id),
                Stage::End => {
                    let mut said = EndTxnResponse::default().with_error_code(code);
                    if terms.end_version >= 5 {
                        let id = WireProducerId(if code == 0 { 40 } else { -1 });
                        said = said.with_producer_id(id).with_producer_epoch(4);
                    }
                    let version = terms.end_version;
                    encode_response(ApiKey::EndTxn, version, correlation_id, &said).expect("said")
                }
            }
        }
    }

    fn produced(code: i16) -> ProduceResponse {
        let part = ProducePartitionResponse {
            index: PartitionIndex(5),
            error: ErrorCode::from_code(code).expect("a code"),
            base_offset: Offset(0),
            log_append_time_ms: -1,
            log_start_offset: Offset(0),
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        };
        let name = Some(StrBytes::from_static_str("t"));
        let topic = ProduceTopicResponse { name, id: TopicId([3; 16]), partitions: vec![part] };
        ProduceResponse { topics: vec![topic], throttle_ms: 0, node_endpoints: Vec::new() }
    }

    #[test]
    fn an_old_transaction_names_writes_and_ends_and_goes_on_with_its_sequences() {
        let mut story = Story::new(Flow::Named);
        for (due_ns, sequence) in [(10, 0), (20, 2)] {
            story.transactor.enqueue(due_ns, 1, true);
            let named = story.names(due_ns + 1);
            assert_eq!(named.v3_and_below_topics[0].partitions, [5]);
            assert_eq!(
                (named.v3_and_below_producer_id.0, named.v3_and_below_producer_epoch),
                (40, 3)
            );
            assert!(story.sends(due_ns + 1).is_none(), "one request at a time");
            assert_eq!(story.hears(0, due_ns + 2), Course::GoesOn);
            assert_eq!(story.writes(due_ns + 3), (ProducerEpoch(3), Sequence(sequence)));
            assert_eq!(story.hears(0, due_ns + 4), Course::GoesOn);
            assert!(story.ends(due_ns + 5).committed);
            let committed = Course::Committed { due_ns, began_ns: due_ns + 1 };
            assert_eq!(story.hears(0, due_ns + 6), committed);
        }
        assert!(story.transactor.is_idle() && story.errors.0.is_empty());
    }

    #[test]
    fn a_new_transaction_only_writes_and_ends_and_has_an_epoch_of_its_own() {
        let mut story = Story::new(Flow::Implied);
        for epoch in [3, 4] {
            story.transactor.enqueue(10, 0, true);
            assert_eq!(story.writes(10), (ProducerEpoch(epoch), Sequence(0)));
            story.hears(0, 11);
            let ended = story.ends(12);
            assert_eq!((ended.producer_id.0, ended.producer_epoch), (40, epoch));
            assert_eq!(story.hears(0, 13), Course::Committed { due_ns: 10, began_ns: 10 });
        }
    }

    #[test]
    fn one_that_meets_the_end_of_the_one_before_waits_and_is_counted() {
        let mut story = Story::new(Flow::Named);
        story.transactor.enqueue(0, 0, true);
        for round in 0..u64::from(RETRIES_MAX) + 10 {
            story.names(round * CONCURRENT_BACKOFF_MS * MS);
            assert_eq!(story.hears(CONCURRENT, round * CONCURRENT_BACKOFF_MS * MS), Course::Waits);
        }
        assert_eq!(story.errors.0["CONCURRENT_TRANSACTIONS (51)"], u64::from(RETRIES_MAX) + 10);
        let until_ns = story.transactor.held_until_ns;
        assert!(story.sends(until_ns - 1).is_none());
        story.names(until_ns);
        story.hears(0, until_ns);
        assert_eq!(story.writes(until_ns).1, Sequence(0));
    }

    #[test]
    fn records_that_are_written_again_keep_their_sequence() {
        let mut story = Story::new(Flow::Implied);
        story.transactor.enqueue(0, 0, true);
        let first = story.writes(0);
        assert_eq!(story.hears(7, 0), Course::Waits);
        let until_ns = story.transactor.held_until_ns;
        assert_eq!(until_ns, RETRY_BACKOFF_MS * MS);
        assert_eq!(story.writes(until_ns), first);
        assert_eq!(story.hears(46, until_ns), Course::GoesOn, "it was taken the first time");
        assert!(story.ends(until_ns).committed);
    }

    #[test]
    fn what_cannot_be_retried_ends_the_run() {
        let mut story = Story::new(Flow::Implied);
        story.transactor.enqueue(0, 0, true);
        story.writes(0);
        assert_eq!(story.hears(90, 0), Course::Refused { asked: "Produce", code: 90 });
        let mut story = Story::new(Flow::Named);
        story.transactor.enqueue(0, 0, true);
        for round in 0..=u64::from(RETRIES_MAX) {
            story.names(round * RETRY_BACKOFF_MS * MS);
            let settled = story.hears(14, round * RETRY_BACKOFF_MS * MS);
            let last = round == u64::from(RETRIES_MAX);
            assert_eq!(settled != Course::Waits, last, "round {round}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_found() {
        let mut story = Story::new(Flow::Implied);
        assert_eq!(story.transactor.answered(&[], 0, &mut Errors::default()), Ok(Course::Stray));
        story.transactor.enqueue(0, 0, true);
        story.writes(0);
        let frame = story.answer(0, 99);
        let settled = story.transactor.answered(&frame[SIZE_BYTES..], 0, &mut story.errors);
        assert_eq!(settled, Ok(Course::Stray));
    }

    #[test]
    fn those_that_wait_are_held_and_counted_in_the_end() {
        let mut story = Story::new(Flow::Implied);
        for due_ns in [5, 6, 7] {
            story.transactor.enqueue(due_ns, 0, true);
        }
        assert!(story.transactor.next(8).expect("begins").is_prompt);
        assert_eq!(story.transactor.leftovers().collect::<Vec<_>>(), [5, 6, 7]);
        story.hears(0, 9);
        story.ends(9);
        story.hears(0, 9);
        assert!(!story.transactor.next(9).expect("begins").is_prompt, "it waited for the first");
        story.transactor.forget_unsent();
        assert_eq!(story.transactor.leftovers().collect::<Vec<_>>(), [6]);
    }
}

//! Requests that are one question to one coordinator of transactions: InitProducerId, AddOffsetsToTxn,
//! EndTxn.
//!
//! Does: find the partition that holds the transactional id, ask its coordinator, give it a producer id
//! if it wants one, encode what it answers; say which codes which version may be told, and who a
//! request's producer is.
//! Does not: know what the question means.
//! Invariants: an id whose coordinator cannot be asked answers NOT_COORDINATOR, which makes every client
//! look for it again (G100).
//! Apart because three APIs differ in nothing else.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, ProducerEpoch, ProducerId};
use flumen_protocol::messages::{
    AddOffsetsToTxnResponse, EndTxnResponse, InitProducerIdResponse, WireProducerId,
};
use flumen_replication::coordinator::transaction::requests::Producer;
use flumen_replication::coordinator::transaction::{TransactionRequest, TransactionResponse};
use flumen_replication::metadata::command::{Command, Outcome};

use super::refusals;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};
use crate::shard::producer_ids::BLOCK_COUNT;

/// A question on its way.
#[derive(Debug)]
pub struct Waiting {
    request: TransactionRequest,
    /// Where its coordinator lives.
    log: LogId,
    known: Known,
}

/// What has come of it.
#[derive(Debug)]
enum Known {
    /// The coordinator's answer, or what it is as long as there is none.
    Answer(TransactionResponse),
    /// A block of producer ids was asked for; the first of it, once it is there.
    Block(Option<ProducerId>),
}

/// Asks the coordinator of a transactional id; without a letter it is none (INVALID_REQUEST).
pub fn ask(
    context: &Context<'_>,
    envelope: &Envelope,
    id: &str,
    request: TransactionRequest,
) -> Step {
    let refuse = |error| encode(envelope, &request.refused(error));
    match context.transaction_log(id) {
        _ if id.is_empty() => refuse(ErrorCode::InvalidRequest),
        Some(log) => ask_at(log, request),
        None => refuse(ErrorCode::NotCoordinator),
    }
}

fn ask_at(log: LogId, request: TransactionRequest) -> Step {
    let known = Known::Answer(request.refused(ErrorCode::NotCoordinator));
    let question = Question::Transaction(Box::new(request.clone()));
    let waiting = Waiting { request, log, known };
    Step::Wait(Wait {
        waiting: AnyWaiting::Transacted(Box::new(waiting)),
        parts: vec![Part { number: 0, to: Addressee::Owner(log), question }],
        // The coordinator has the timer.
        patience: None,
    })
}

/// Who a request says that its producer is.
pub fn producer(id: WireProducerId, epoch: i16) -> Producer {
    Producer { id: ProducerId(id.0), epoch: ProducerEpoch(epoch) }
}

impl Waiting {
    /// Takes the coordinator's answer in, or the controller's.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        match (&mut self.known, answer) {
            (Known::Answer(known), Answer::Transaction(response)) => *known = *response,
            (Known::Block(first), Answer::Control(outcome)) => match *outcome {
                Outcome::ProducerIds(id) => *first = Some(id),
                Outcome::Unavailable => {}
                other => panic!("an answer to another command: {other:?}"),
            },
            (Known::Block(_), other) => drop(refusals::of_no_controller(&other)),
            // Nobody there: what is known stays.
            (Known::Answer(_), _) => {}
        }
        Progress::Done
    }

    /// Encodes it, or asks again with the producer id that is wanted.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let Self { request, log, known } = self;
        let may_allocate = match known {
            Known::Answer(TransactionResponse::WantsProducerId) => true,
            Known::Answer(response) => return encode(envelope, &response),
            Known::Block(first) => {
                if let Some(first) = first {
                    context.producer_ids.refill(first, BLOCK_COUNT);
                }
                false
            }
        };
        if let Some(fresh) = context.producer_ids.take() {
            return ask_at(log, request.with_fresh(fresh));
        }
        if !may_allocate {
            return encode(envelope, &request.refused(ErrorCode::CoordinatorLoadInProgress));
        }
        let waiting = Self { request, log, known: Known::Block(None) };
        let command = Command::AllocateProducerIds { count: BLOCK_COUNT };
        let waiting = AnyWaiting::Transacted(Box::new(waiting));
        step::control(context, command, waiting, context.patience())
    }
}

fn encode(envelope: &Envelope, response: &TransactionResponse) -> Step {
    match response {
        TransactionResponse::Init(result) => {
            let (error, producer) = told(envelope, *result);
            let response = InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id(WireProducerId(producer.id.0))
                .with_producer_epoch(producer.epoch.0);
            step::answer(envelope, &response)
        }
        TransactionResponse::End(result) => {
            let (error, producer) = told(envelope, *result);
            let mut response = EndTxnResponse::default().with_error_code(error.code());
            if envelope.version >= PRODUCER_SINCE {
                response.producer_id = WireProducerId(producer.id.0);
                response.producer_epoch = producer.epoch.0;
            }
            step::answer(envelope, &response)
        }
        TransactionResponse::Add(error) => {
            let error = for_version(envelope, *error);
            let response = AddOffsetsToTxnResponse::default().with_error_code(error.code());
            step::answer(envelope, &response)
        }
        TransactionResponse::Verify(_)
        | TransactionResponse::WantsProducerId
        | TransactionResponse::MarkersWritten(_)
        | TransactionResponse::Describe(_)
        | TransactionResponse::List(_) => {
            unreachable!("these are put together elsewhere: {response:?}")
        }
    }
}

fn told(envelope: &Envelope, result: Result<Producer, ErrorCode>) -> (ErrorCode, Producer) {
    match result {
        Ok(producer) => (ErrorCode::None, producer),
        Err(error) => (for_version(envelope, error), Producer::NONE),
    }
}

/// The first version of EndTxn that tells the producer of the next transaction.
const PRODUCER_SINCE: i16 = 5;
/// No version.
const NEVER: i16 = i16::MAX;

/// What a request of this version is told: older ones do not know that a producer can be fenced by
/// another one (KIP-588), or that a transaction alone can be over (G94). A coordinator of groups never
/// says the first: it hears of it as a partition does.
pub fn for_version(envelope: &Envelope, error: ErrorCode) -> ErrorCode {
    let (fenced_since, abortable_since) = match envelope.key {
        ApiKey::InitProducerId => (4, 5),
        ApiKey::AddPartitionsToTxn => (2, 5),
        ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => (2, 4),
        ApiKey::TxnOffsetCommit => (NEVER, 4),
        _ => (0, 0),
    };
    match error {
        ErrorCode::ProducerFenced if envelope.version < fenced_since => {
            ErrorCode::InvalidProducerEpoch
        }
        ErrorCode::TransactionAbortable if envelope.version < abortable_since => {
            ErrorCode::InvalidTxnState
        }
        error => error,
    }
}

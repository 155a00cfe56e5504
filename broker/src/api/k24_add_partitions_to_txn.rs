//! AddPartitionsToTxn (key 24, versions 0–5): a producer tells where its transaction will write.
//!
//! - Up to version 3 one transaction of a client. If one partition does not exist or is the broker's
//!   own, none is added, and the others answer OPERATION_NOT_ATTEMPTED.
//! - From version 4 several transactions, of brokers: each is added, or only verified (KIP-890). Here
//!   whoever asks is answered, as there is no authorisation yet.
//! - While markers of the transaction before are being written the answer waits, up to a second, before
//!   it is CONCURRENT_TRANSACTIONS.
//! - PRODUCER_FENCED is INVALID_PRODUCER_EPOCH before version 2 (KIP-588).
//!
//! Deviations: Kafka answers CONCURRENT_TRANSACTIONS at once; a transaction has 10,000 partitions at
//! most, beyond which INVALID_TXN_STATE. KIPs: 98, 588, 890.

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogId, PartitionIndex};
use flumen_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use flumen_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use flumen_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use flumen_replication::coordinator::transaction::{
    ClientVersion, Partitions, TransactionRequest, TransactionResponse,
};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use super::topics;
use super::transacted::{self, for_version};
use crate::shard::mailbox::{Answer, Question};
use crate::shard::routing::TRANSACTIONS_TOPIC;

/// The first version with several transactions, for brokers.
const BROKERS_SINCE: i16 = 4;

/// Transactions that are being asked about.
#[derive(Debug)]
pub struct Waiting {
    asked: Vec<AddPartitionsToTxnTransaction>,
    /// What is known of each.
    verdicts: Vec<Verdict>,
    missing: usize,
}

/// What is answered for the partitions of a transaction.
#[derive(Clone, Debug)]
enum Verdict {
    /// The same for each.
    All(ErrorCode),
    /// Not part of the transaction; the others are.
    Strangers(Partitions),
    /// Nothing was added, since these cannot be.
    Refused(BTreeMap<String, BTreeMap<i32, ErrorCode>>),
}

/// Asks the coordinator of each transaction.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<AddPartitionsToTxnRequest>(envelope, frame, body) else {
        return Step::Close("malformed AddPartitionsToTxn request");
    };
    let asked = transactions_of(envelope, request);
    let mut parts = Vec::new();
    let mut verdicts = Vec::with_capacity(asked.len());
    for (number, transaction) in (0..).zip(&asked) {
        let verdict = match question(context, envelope, transaction) {
            Ok((log, request)) => {
                let question = Question::Transaction(Box::new(request));
                parts.push(Part { number, to: Addressee::Owner(log), question });
                Verdict::All(ErrorCode::NotCoordinator)
            }
            Err(verdict) => verdict,
        };
        verdicts.push(verdict);
    }
    let waiting = Waiting { asked, verdicts, missing: parts.len() };
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::AddPartitionsToTxn(waiting), parts, patience: None })
}

/// The transactions of a request, in the form of version 4.
fn transactions_of(
    envelope: &Envelope,
    request: AddPartitionsToTxnRequest,
) -> Vec<AddPartitionsToTxnTransaction> {
    if envelope.version >= BROKERS_SINCE {
        return request.transactions;
    }
    let one = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(request.v3_and_below_transactional_id)
        .with_producer_id(request.v3_and_below_producer_id)
        .with_producer_epoch(request.v3_and_below_producer_epoch)
        .with_topics(request.v3_and_below_topics);
    vec![one]
}

fn question(
    context: &Context<'_>,
    envelope: &Envelope,
    transaction: &AddPartitionsToTxnTransaction,
) -> Result<(LogId, TransactionRequest), Verdict> {
    let id = transaction.transactional_id.to_string();
    if id.is_empty() {
        return Err(Verdict::All(ErrorCode::InvalidRequest));
    }
    let by_client = envelope.version < BROKERS_SINCE;
    let partitions = partitions_of(context, &transaction.topics, by_client)?;
    let log = context.transaction_log(&id).ok_or(Verdict::All(ErrorCode::NotCoordinator))?;
    let producer = transacted::producer(transaction.producer_id, transaction.producer_epoch);
    let request = if transaction.verify_only {
        TransactionRequest::Verify { id, producer, partitions }
    } else {
        let version = if by_client { ClientVersion::Zero } else { ClientVersion::Two };
        TransactionRequest::Add { id, producer, partitions, version }
    };
    Ok((log, request))
}

fn partitions_of(
    context: &Context<'_>,
    topics: &[AddPartitionsToTxnTopic],
    by_client: bool,
) -> Result<Partitions, Verdict> {
    let mut partitions = Partitions::default();
    let mut refused: BTreeMap<String, BTreeMap<i32, ErrorCode>> = BTreeMap::new();
    for topic in topics {
        let name: &str = &topic.name;
        let known = context.image.topic_named(name);
        // Transactional ids are not kept within transactions, whoever asks.
        let may = !topics::is_internal(name) || (!by_client && name != TRANSACTIONS_TOPIC);
        for index in &topic.partitions {
            let code = if !may {
                ErrorCode::TopicAuthorizationFailed
            } else if known.is_none_or(|known| known.log(PartitionIndex(*index)).is_none()) {
                ErrorCode::UnknownTopicOrPartition
            } else {
                partitions.insert(name, PartitionIndex(*index));
                continue;
            };
            refused.entry(name.to_owned()).or_default().insert(*index, code);
        }
    }
    if refused.is_empty() { Ok(partitions) } else { Err(Verdict::Refused(refused)) }
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Transaction(response) = answer {
            self.verdicts[part as usize] = match *response {
                TransactionResponse::Add(error) | TransactionResponse::Verify(Err(error)) => {
                    Verdict::All(error)
                }
                TransactionResponse::Verify(Ok(strangers)) => Verdict::Strangers(strangers),
                other => unreachable!("the coordinator answered another question: {other:?}"),
            };
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers for all of them.
    pub fn close(self, envelope: &Envelope) -> Step {
        let mut response = AddPartitionsToTxnResponse::default();
        for (transaction, verdict) in self.asked.into_iter().zip(self.verdicts) {
            let topics = transaction.topics.iter().map(|topic| result(envelope, topic, &verdict));
            let topics = topics.collect();
            if envelope.version < BROKERS_SINCE {
                response.results_by_topic_v3_and_below = topics;
            } else {
                let result = AddPartitionsToTxnResult::default()
                    .with_transactional_id(transaction.transactional_id)
                    .with_topic_results(topics);
                response.results_by_transaction.push(result);
            }
        }
        step::answer(envelope, &response)
    }
}

fn result(
    envelope: &Envelope,
    topic: &AddPartitionsToTxnTopic,
    verdict: &Verdict,
) -> AddPartitionsToTxnTopicResult {
    let partitions = topic.partitions.iter().map(|index| {
        let error = for_version(envelope, verdict.of(&topic.name, *index));
        AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(*index)
            .with_partition_error_code(error.code())
    });
    AddPartitionsToTxnTopicResult::default()
        .with_name(topic.name.clone())
        .with_results_by_partition(partitions.collect())
}

impl Verdict {
    fn of(&self, topic: &str, index: i32) -> ErrorCode {
        match self {
            Self::All(error) => *error,
            Self::Strangers(strangers) if strangers.contains(topic, PartitionIndex(index)) => {
                ErrorCode::TransactionAbortable
            }
            Self::Strangers(_) => ErrorCode::None,
            Self::Refused(refused) => {
                let code = refused.get(topic).and_then(|codes| codes.get(&index));
                code.copied().unwrap_or(ErrorCode::OperationNotAttempted)
            }
        }
    }
}

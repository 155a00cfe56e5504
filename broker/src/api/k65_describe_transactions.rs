//! DescribeTransactions (key 65, version 0): where the transactions of some ids stand (KIP-664).
//!
//! - Each id is asked of its own coordinator; one that cannot be asked answers NOT_COORDINATOR, one that
//!   is unknown TRANSACTIONAL_ID_NOT_FOUND.
//!
//! Deviations: an id named twice is described once. KIPs: 664.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use flumen_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicName, TransactionalId,
    WireProducerId,
};
use flumen_replication::coordinator::transaction::{
    TransactionRequest, TransactionResponse, TransactionRow,
};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// Ids that are being asked about.
#[derive(Debug)]
pub struct Waiting {
    states: Vec<TransactionState>,
    missing: usize,
}

/// Asks the coordinator of each id.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeTransactionsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeTransactions request");
    };
    let mut parts = Vec::with_capacity(request.transactional_ids.len());
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    let mut seen = BTreeSet::new();
    let asked = request.transactional_ids.into_iter().filter(|id| seen.insert(id.clone()));
    for (number, id) in (0..).zip(asked) {
        let log = context.transaction_log(&id).filter(|_| !id.is_empty());
        let error =
            if id.is_empty() { ErrorCode::InvalidRequest } else { ErrorCode::NotCoordinator };
        if let Some(log) = log {
            let question = TransactionRequest::Describe { id: id.to_string() };
            let question = Question::Transaction(Box::new(question));
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
        states.push(refused(id, error));
    }
    let waiting = Waiting { states, missing: parts.len() };
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::DescribeTransactions(waiting), parts, patience: None })
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Transaction(response) = answer {
            let TransactionResponse::Describe(result) = *response else {
                unreachable!("the coordinator answered another question")
            };
            let place = &mut self.states[part as usize];
            *place = match result {
                Ok(row) => described(&row),
                Err(error) => refused(std::mem::take(&mut place.transactional_id), error),
            };
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers for all ids.
    pub fn close(self, envelope: &Envelope) -> Step {
        let response = DescribeTransactionsResponse::default();
        step::answer(envelope, &response.with_transaction_states(self.states))
    }
}

fn refused(id: TransactionalId, error: ErrorCode) -> TransactionState {
    TransactionState::default().with_transactional_id(id).with_error_code(error.code())
}

fn described(row: &TransactionRow) -> TransactionState {
    let topics = row.partitions.topics().map(|(topic, indexes)| {
        TopicData::default()
            .with_topic(TopicName(text(topic)))
            .with_partitions(indexes.iter().map(|index| index.0).collect())
    });
    TransactionState::default()
        .with_transactional_id(TransactionalId(text(&*row.id)))
        .with_transaction_state(text(row.state.name()))
        .with_transaction_timeout_ms(row.timeout_ms)
        .with_transaction_start_time_ms(row.started.map_or(-1, |started| started.0))
        .with_producer_id(WireProducerId(row.producer.id.0))
        .with_producer_epoch(row.producer.epoch.0)
        .with_topics(topics.collect())
}

//! ListTransactions (key 66, versions 0–2): the transactional ids this broker coordinates (KIP-664).
//!
//! - Every core is asked for the ids of its coordinators; the answers are put together in order.
//! - Filters for states, producer ids and, from version 1, how long a transaction has been under way
//!   (KIP-994). A state nobody knows is named in the answer, and matches nothing.
//! - From version 2 on a filter for ids: an expression of RE2's that stands for the whole id (KIP-1152).
//!   What is no such expression is INVALID_REGULAR_EXPRESSION.
//! - A coordinator that still loads makes the whole answer COORDINATOR_LOAD_IN_PROGRESS, so that a list
//!   is never silently short.
//!
//! KIPs: 664, 994, 1152.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, ProducerId};
use flumen_protocol::messages::list_transactions_response::TransactionState;
use flumen_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, StrBytes, TransactionalId, WireProducerId,
};
use flumen_replication::coordinator::pattern::Pattern;
use flumen_replication::coordinator::transaction::{
    State, TransactionFilter, TransactionRequest, TransactionResponse,
};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// A list that is being gathered.
#[derive(Debug)]
pub struct Waiting {
    response: ListTransactionsResponse,
    /// Which ids are listed; `None`: all.
    pattern: Option<Pattern>,
    missing: usize,
}

/// The first version that filters by how long a transaction has been under way.
const DURATION_SINCE: i16 = 1;

/// States of Kafka's that an id never is in here when it is looked at: a decision and its record are one
/// step.
const PASSING_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// Asks every core.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ListTransactionsRequest>(envelope, frame, body) else {
        return Step::Close("malformed ListTransactions request");
    };
    let wished = request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty());
    let Ok(pattern) = wished.map(Pattern::new).transpose() else {
        let code = ErrorCode::InvalidRegularExpression.code();
        let refusal = ListTransactionsResponse::default().with_error_code(code);
        return step::answer(envelope, &refusal);
    };
    let (states, unknown) = states_of(&request.state_filters);
    let has_duration = envelope.version >= DURATION_SINCE;
    let wanted = TransactionFilter {
        states: (!request.state_filters.is_empty()).then_some(states),
        producers: request.producer_id_filters.iter().map(|id| ProducerId(id.0)).collect(),
        longer_than_ms: Some(request.duration_filter).filter(|it| has_duration && *it >= 0),
    };
    let parts = (0..context.cores).map(|core| Part {
        number: u32::from(core),
        to: Addressee::Core(CoreId(core)),
        question: Question::Transactions(Box::new(TransactionRequest::List {
            wanted: wanted.clone(),
        })),
    });
    let parts: Vec<Part> = parts.collect();
    let response = ListTransactionsResponse::default().with_unknown_state_filters(unknown);
    let waiting = Waiting { response, pattern, missing: parts.len() };
    Step::Wait(Wait { waiting: AnyWaiting::ListTransactions(waiting), parts, patience: None })
}

/// The states that are asked for, and the words that are none.
fn states_of(words: &[StrBytes]) -> (BTreeSet<State>, Vec<StrBytes>) {
    let mut states = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for word in words {
        match State::ALL.into_iter().find(|state| state.name() == &**word) {
            Some(state) => {
                states.insert(state);
            }
            None if PASSING_STATES.contains(&&**word) => {}
            None => {
                unknown.insert(word.clone());
            }
        }
    }
    (states, unknown.into_iter().collect())
}

impl Waiting {
    /// Takes one core's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Transactions(responses) = answer {
            responses.into_iter().for_each(|response| self.learn(response));
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    fn learn(&mut self, response: TransactionResponse) {
        match response {
            TransactionResponse::List(Ok(rows)) => {
                let is_wished = |id: &str| self.pattern.as_ref().is_none_or(|it| it.matches(id));
                let rows = rows.into_iter().filter(|row| is_wished(&row.id));
                self.response.transaction_states.extend(rows.map(|row| {
                    TransactionState::default()
                        .with_transactional_id(TransactionalId(text(row.id)))
                        .with_producer_id(WireProducerId(row.producer.id.0))
                        .with_transaction_state(text(row.state.name()))
                }));
            }
            // One that has just moved away is left out.
            TransactionResponse::List(Err(ErrorCode::NotCoordinator)) => {}
            TransactionResponse::List(Err(error)) => self.response.error_code = error.code(),
            other => unreachable!("the coordinator answered another question: {other:?}"),
        }
    }

    /// Answers with all of them.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        if self.response.error_code != 0 {
            self.response.transaction_states.clear();
        }
        let states = &mut self.response.transaction_states;
        states.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
        step::answer(envelope, &self.response)
    }
}

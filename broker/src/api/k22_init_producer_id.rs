//! InitProducerId (key 22, versions 0–5): an identity for an idempotent or transactional producer.
//!
//! - With a transactional id: its producer with another epoch, which fences whoever had it before; a
//!   transaction that is under way is aborted first, and the client told CONCURRENT_TRANSACTIONS (G89).
//!   A client that names the id and epoch it has gets the next one, however often it asks (KIP-360), also
//!   if its transaction was aborted meanwhile, until another client has got one.
//!   PRODUCER_FENCED is INVALID_PRODUCER_EPOCH before version 4 (KIP-588).
//! - Without a transactional id: an id nobody ever had, epoch 0 (G86). Ids come in blocks from
//!   the controller, so that most answers need no round to it.
//! - An id and epoch given back (version 3, KIP-360) change nothing: without a transactional id a
//!   producer starts over with a new id, as in Kafka. Only one of the two is INVALID_REQUEST.
//! - While the controller cannot give a block: COORDINATOR_LOAD_IN_PROGRESS, which clients retry.
//!
//! Deviations: none known. KIPs: 98, 360, 588, 890.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, WireProducerId};
use flumen_replication::coordinator::transaction::TransactionRequest;
use flumen_replication::coordinator::transaction::requests::producer_of;
use flumen_replication::metadata::command::{Command, Outcome};

use super::step::{self, Context, Envelope, Progress, Step};
use super::table::Waiting as AnyWaiting;
use super::{refusals, transacted};
use crate::shard::mailbox::Answer;
use crate::shard::producer_ids::BLOCK_COUNT;

/// "No producer id", and "no epoch".
const NONE: i64 = -1;

/// A block of ids on its way.
#[derive(Debug)]
pub struct Waiting {
    /// The block's first id, once there is one.
    first: Option<flumen_protocol::ids::ProducerId>,
}

/// Gives an id out, or first asks for a block of them.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<InitProducerIdRequest>(envelope, frame, body) else {
        return Step::Close("malformed InitProducerId request");
    };
    let asked = match producer_of(request.producer_id.0, request.producer_epoch) {
        Ok(asked) => asked,
        Err(error) => return refuse(envelope, error),
    };
    if let Some(id) = request.transactional_id {
        let id = id.to_string();
        let timeout_ms = request.transaction_timeout_ms;
        let init = TransactionRequest::Init { id: id.clone(), timeout_ms, asked, fresh: None };
        return transacted::ask(context, envelope, &id, init);
    }
    if let Some(step) = give(context, envelope) {
        return step;
    }
    let command = Command::AllocateProducerIds { count: BLOCK_COUNT };
    step::control(
        context,
        command,
        AnyWaiting::InitProducerId(Waiting { first: None }),
        context.patience(),
    )
}

impl Waiting {
    /// Takes the block in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        match answer {
            Answer::Control(outcome) => match *outcome {
                Outcome::ProducerIds(first) => self.first = Some(first),
                Outcome::Unavailable => {}
                other => panic!("an answer to another command: {other:?}"),
            },
            other => drop(refusals::of_no_controller(&other)),
        }
        Progress::Done
    }

    /// Gives an id out of the block, which the core keeps.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        if let Some(first) = self.first {
            context.producer_ids.refill(first, BLOCK_COUNT);
        }
        give(context, envelope)
            .unwrap_or_else(|| refuse(envelope, ErrorCode::CoordinatorLoadInProgress))
    }
}

fn give(context: &mut Context<'_>, envelope: &Envelope) -> Option<Step> {
    let id = context.producer_ids.take()?;
    let response = InitProducerIdResponse::default()
        .with_producer_id(WireProducerId(id.0))
        .with_producer_epoch(0);
    Some(step::answer(envelope, &response))
}

fn refuse(envelope: &Envelope, code: ErrorCode) -> Step {
    let response = InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id(WireProducerId(NONE))
        .with_producer_epoch(NONE as i16);
    step::answer(envelope, &response)
}

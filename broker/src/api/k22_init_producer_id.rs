//! InitProducerId (key 22, versions 0–5): an identity for an idempotent producer.
//!
//! - Without a transactional id: an id nobody ever had, epoch 0 (G86). Ids come in blocks from
//!   the controller, so that most answers need no round to it.
//! - An id and epoch given back (version 3, KIP-360) change nothing: without a transactional id a
//!   producer starts over with a new id, as in Kafka. Only one of the two is INVALID_REQUEST.
//! - While the controller cannot give a block: COORDINATOR_LOAD_IN_PROGRESS, which clients retry.
//!
//! Deviations: transactional ids are refused with INVALID_REQUEST until transactions are served.
//! KIPs: 98, 360.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, WireProducerId};
use flumen_replication::metadata::command::{Command, Outcome};

use super::refusals;
use super::step::{self, Context, Envelope, Progress, Step};
use super::table::Waiting as AnyWaiting;
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
    let half_given = (request.producer_id.0 == NONE) != (i64::from(request.producer_epoch) == NONE);
    if request.transactional_id.is_some() || half_given {
        return refuse(envelope, ErrorCode::InvalidRequest);
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

//! EndTxn (key 26, versions 0–5): commit or abort.
//!
//! - The answer comes when the decision is on stable media; markers are written after it (G97).
//! - From version 5 on every end gives the producer another epoch, or another id when its epochs are
//!   used up, and tells it (KIP-890, G92). A client that asks again with the epoch before is told the
//!   same; aborting nothing is allowed, and gives an epoch too. What took too long the coordinator has
//!   aborted: a client that asks for just that is told the epoch which follows and goes on with it, one
//!   that asks to commit is told PRODUCER_FENCED.
//! - While markers are being written, CONCURRENT_TRANSACTIONS whoever asks from version 5 on, as in Kafka,
//!   where the next state is pending then: a client whose epochs are used up comes as the next producer,
//!   which is not in force yet.
//! - PRODUCER_FENCED is INVALID_PRODUCER_EPOCH before version 2 (KIP-588).
//!
//! Deviations: Kafka 4.1 answers the commit of what took too long INVALID_TXN_STATE, at which applications
//! give up; later versions as here. KIPs: 98, 588, 890.

use bytes::BytesMut;
use flumen_protocol::messages::EndTxnRequest;
use flumen_replication::coordinator::transaction::requests::Outcome;
use flumen_replication::coordinator::transaction::{ClientVersion, TransactionRequest};

use super::step::{self, Context, Envelope, Step};
use super::transacted;

/// The first version whose clients get another epoch at each end.
const BUMPS_SINCE: i16 = 5;

/// Asks the coordinator of the transaction.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<EndTxnRequest>(envelope, frame, body) else {
        return Step::Close("malformed EndTxn request");
    };
    let id = request.transactional_id.to_string();
    let is_bumping = envelope.version >= BUMPS_SINCE;
    let end = TransactionRequest::End {
        id: id.clone(),
        producer: transacted::producer(request.producer_id, request.producer_epoch),
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        version: if is_bumping { ClientVersion::Two } else { ClientVersion::Zero },
        fresh: None,
    };
    transacted::ask(context, envelope, &id, end)
}

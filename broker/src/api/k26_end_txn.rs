//! EndTxn (key 26, versions 0–5): commit or abort.
//!
//! - The answer comes when the decision is on stable media; markers are written after it (G97).
//! - From version 5 on every end gives the producer another epoch, or another id when its epochs are
//!   used up, and tells it (KIP-890, G92). A client that asks again with the epoch before is told the
//!   same; aborting nothing is allowed, and gives an epoch too.
//! - PRODUCER_FENCED is INVALID_PRODUCER_EPOCH before version 2 (KIP-588).
//!
//! Deviations: none known. KIPs: 98, 588, 890.

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

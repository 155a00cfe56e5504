//! AddOffsetsToTxn (key 25, versions 0–4): a producer tells which group's offsets its transaction will
//! hold.
//!
//! - The partition of `__consumer_offsets` that holds the group is added to the transaction, as
//!   AddPartitionsToTxn does; the topic need not exist yet, since clients look for the group's
//!   coordinator only afterwards.
//! - PRODUCER_FENCED is INVALID_PRODUCER_EPOCH before version 2 (KIP-588).
//!
//! Deviations: as for AddPartitionsToTxn. KIPs: 98, 588.

use bytes::BytesMut;
use flumen_protocol::messages::AddOffsetsToTxnRequest;
use flumen_replication::coordinator::transaction::{ClientVersion, Partitions, TransactionRequest};

use super::step::{self, Context, Envelope, Step};
use super::transacted;
use crate::shard::routing::{self, OFFSETS_TOPIC};

/// Asks the coordinator of the transaction.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<AddOffsetsToTxnRequest>(envelope, frame, body) else {
        return Step::Close("malformed AddOffsetsToTxn request");
    };
    let id = request.transactional_id.to_string();
    let add = TransactionRequest::Add {
        id: id.clone(),
        producer: transacted::producer(request.producer_id, request.producer_epoch),
        partitions: group_partition(context, &request.group_id),
        version: ClientVersion::Zero,
    };
    transacted::ask(context, envelope, &id, add)
}

/// The partition that holds a group, or will.
pub fn group_partition(context: &Context<'_>, group: &str) -> Partitions {
    let topic = context.image.topic_named(OFFSETS_TOPIC);
    let given = usize::try_from(context.options.offsets_topic_num_partitions).unwrap_or(1);
    let count = topic.map_or(given, |topic| topic.partitions.len());
    Partitions::of([(OFFSETS_TOPIC, routing::coordinator_partition(group, count).0)])
}

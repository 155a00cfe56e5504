//! ListPartitionReassignments (key 46, version 0): partitions on their way to other brokers.
//!
//! - There are none: a partition stays on the broker it was placed on. Tools ask all the same
//!   when they describe topics.
//!
//! Deviations: none known while there is one broker.
//! KIPs: 455.

use bytes::BytesMut;
use flumen_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::step::{self, Context, Envelope, Step};

/// Answers that nothing moves.
pub fn open(_context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let request = step::decode::<ListPartitionReassignmentsRequest>(envelope, frame, body);
    if request.is_none() {
        return Step::Close("malformed ListPartitionReassignments request");
    }
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    step::answer(envelope, &response)
}

//! ConsumerGroupDescribe (key 69, versions 0–1): groups of the new kind with their members, what these
//! have and what they shall have (KIP-848).
//!
//! - Each group is asked of its own coordinator; one that cannot be asked answers NOT_COORDINATOR.
//! - A group that is not there, or is classic, is GROUP_ID_NOT_FOUND; an empty id is INVALID_GROUP_ID.
//! - Version 1 tells of each member whether it speaks the classic protocol.
//!
//! Deviations: a group named twice is described once, since its members weigh far more than its
//! name; there is no authorisation yet, so everybody may do everything.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::ConsumerGroupDescribeRequest;

use super::each_group::{self, Asked};
use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ConsumerGroupDescribeRequest>(envelope, frame, body) else {
        return Step::Close("malformed ConsumerGroupDescribe request");
    };
    let asked = Asked::DescribeConsumer { with_operations: request.include_authorized_operations };
    if !grouped::has_consumer_groups(context) {
        let error = ErrorCode::UnsupportedVersion;
        return each_group::refuse(envelope, request.group_ids, asked, error);
    }
    each_group::ask(context, envelope, request.group_ids, asked)
}

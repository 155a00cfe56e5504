//! Heartbeat (key 12, versions 0–4): stay a member of a group.
//!
//! - During a rebalance answers REBALANCE_IN_PROGRESS and renews the session all the same (G107).
//! - An empty group id is INVALID_GROUP_ID.
//!
//! Deviations: none known. KIPs: 345 (static members, version 3).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::HeartbeatRequest;
use flumen_replication::coordinator::group::requests::GroupRequest;

use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// Hands the request to the group's coordinator.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<HeartbeatRequest>(envelope, frame, body) else {
        return Step::Close("malformed Heartbeat request");
    };
    let group = request.group_id.to_string();
    let request = GroupRequest::Heartbeat { request };
    if group.is_empty() {
        return grouped::refuse(envelope, &request, ErrorCode::InvalidGroupId);
    }
    grouped::ask(context, envelope, &group, request)
}

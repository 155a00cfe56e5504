//! JoinGroup (key 11, versions 0–9): become a member of a group, or say so again.
//!
//! - Answered when the coordinator has gathered the members, at the latest after the longest
//!   rebalance time-out of any member, so the answer has no time-out of its own (G103).
//! - From version 4 a first join is answered MEMBER_ID_REQUIRED with an id (G101); versions 0 and
//!   1 are still served because clients in the field send them unasked (G10).
//! - An empty group id is INVALID_GROUP_ID.
//!
//! Deviations: none known. KIPs: 62, 345 (static members), 394, 559, 800 (reason), 814.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::JoinGroupRequest;
use flumen_replication::coordinator::group::requests::GroupRequest;

use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// Hands the request to the group's coordinator.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<JoinGroupRequest>(envelope, frame, body) else {
        return Step::Close("malformed JoinGroup request");
    };
    let group = request.group_id.to_string();
    let request = GroupRequest::Join {
        request,
        version: envelope.version,
        client_id: envelope.client_id.clone(),
        client_host: format!("/{}", envelope.peer.ip()),
    };
    if group.is_empty() {
        return grouped::refuse(envelope, &request, ErrorCode::InvalidGroupId);
    }
    grouped::ask(context, envelope, &group, request)
}

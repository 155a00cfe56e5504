//! LeaveGroup (key 13, versions 0–5): leave a group, or make members leave it.
//!
//! - One member up to version 2, several with an error each from version 3 (KIP-345).
//! - An empty group id is INVALID_GROUP_ID.
//!
//! Deviations: none known. KIPs: 345, 800 (reason).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::LeaveGroupRequest;
use flumen_replication::coordinator::group::requests::GroupRequest;

use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// Hands the request to the group's coordinator.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<LeaveGroupRequest>(envelope, frame, body) else {
        return Step::Close("malformed LeaveGroup request");
    };
    let group = request.group_id.to_string();
    let request = GroupRequest::Leave { request, version: envelope.version };
    if group.is_empty() {
        return grouped::refuse(envelope, &request, ErrorCode::InvalidGroupId);
    }
    grouped::ask(context, envelope, &group, request)
}

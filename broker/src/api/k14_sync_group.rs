//! SyncGroup (key 14, versions 0–5): fetch, and as the leader give, the assignment.
//!
//! - Followers wait for the leader; the assignment is durable before anybody hears of it (G106).
//! - From version 5 on type and name of the protocol must be there: INCONSISTENT_GROUP_PROTOCOL.
//! - An empty group id is INVALID_GROUP_ID.
//!
//! Deviations: none known. KIPs: 345 (static members, version 3), 559 (protocol, version 5).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::SyncGroupRequest;
use flumen_replication::coordinator::group::requests::GroupRequest;

use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// The first version that names the protocol (KIP-559).
const PROTOCOL_SINCE: i16 = 5;

/// Hands the request to the group's coordinator.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<SyncGroupRequest>(envelope, frame, body) else {
        return Step::Close("malformed SyncGroup request");
    };
    let group = request.group_id.to_string();
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let request = GroupRequest::Sync { request };
    if envelope.version >= PROTOCOL_SINCE && !names_protocol {
        return grouped::refuse(envelope, &request, ErrorCode::InconsistentGroupProtocol);
    }
    if group.is_empty() {
        return grouped::refuse(envelope, &request, ErrorCode::InvalidGroupId);
    }
    grouped::ask(context, envelope, &group, request)
}

//! ConsumerGroupHeartbeat (key 68, versions 0–1): join, stay in and leave a group whose partitions the
//! coordinator hands out (KIP-848).
//!
//! - One question to the group's coordinator; the answer comes when what was decided is committed.
//! - Below level 1 of the feature `group.version`, or without `consumer` among the broker's protocols,
//!   there are no such groups: UNSUPPORTED_VERSION.
//! - A regular expression (version 1) is Kafka's RE2 but for a few forms more; what it stands for is
//!   looked for at most every ten seconds, as in Kafka.
//!
//! Deviations: a group may have 64 different regular expressions, each compiled to at most 256 KiB; a
//! member's share of partitions must fit half a record (some 100,000). A member that joins under its own
//! id is let in though it is known, as in Kafka 4.3, and a static one likewise; one that repeats what an
//! answer that was lost has made its past is not fenced while it has nothing that is somebody else's.
//! KIPs: 848, 1082 (member ids made by clients, version 1).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::ConsumerGroupHeartbeatRequest;
use flumen_replication::coordinator::group::requests::GroupRequest;

use super::grouped;
use super::step::{self, Context, Envelope, Step};

/// Hands the request to the group's coordinator.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ConsumerGroupHeartbeatRequest>(envelope, frame, body) else {
        return Step::Close("malformed ConsumerGroupHeartbeat request");
    };
    let group = request.group_id.to_string();
    let request = GroupRequest::ConsumerHeartbeat {
        request,
        version: envelope.version,
        client_id: envelope.client_id.clone(),
        client_host: format!("/{}", envelope.peer.ip()),
    };
    if !grouped::has_consumer_groups(context) {
        return grouped::refuse(envelope, &request, ErrorCode::UnsupportedVersion);
    }
    grouped::ask(context, envelope, &group, request)
}

//! DescribeGroups (key 15, versions 0–6): state and members of groups.
//!
//! - Each group is asked of its own coordinator; one that cannot be asked answers
//!   NOT_COORDINATOR (G100).
//! - An unknown group is "Dead" without an error up to version 5, GROUP_ID_NOT_FOUND from
//!   version 6 (G113, KIP-1043).
//! - What the client may do with a group is told on request from version 3 (KIP-430).
//!
//! Deviations: a group named twice is described once, since its members weigh far more than its
//! name; there is no authorisation yet, so everybody may do everything.

use bytes::BytesMut;
use flumen_protocol::messages::DescribeGroupsRequest;

use super::each_group::{self, Asked};
use super::step::{self, Context, Envelope, Step};

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeGroupsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeGroups request");
    };
    let asked = Asked::Describe { with_operations: request.include_authorized_operations };
    each_group::ask(context, envelope, request.groups, asked)
}

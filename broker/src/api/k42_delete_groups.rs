//! DeleteGroups (key 42, versions 0–2): remove groups with their offsets.
//!
//! - Each group is asked of its own coordinator; only an empty group can go (NON_EMPTY_GROUP,
//!   GROUP_ID_NOT_FOUND) (G113).
//! - A group named twice is deleted and answered once, as in Kafka; answers are in the order of names.
//!
//! Deviations: none known. KIPs: 229.

use bytes::BytesMut;
use flumen_protocol::messages::DeleteGroupsRequest;

use super::each_group::{self, Asked};
use super::step::{self, Context, Envelope, Step};

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(mut request) = step::decode::<DeleteGroupsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DeleteGroups request");
    };
    request.groups_names.sort();
    each_group::ask(context, envelope, request.groups_names, Asked::Delete)
}

//! One member of a group.
//!
//! Does: hold what it said when it joined, what it was assigned, and whether it waits for an answer.
//! Does not: know the other members or the group's state.
//! Invariants: it names at least one protocol and none twice; nothing in it borrows or pins a
//! request's buffer.
//! Apart because the group's arithmetic over members is easier to follow without their fields.

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::JoinGroupRequest;
use flumen_protocol::messages::describe_groups_response::DescribedGroupMember;
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::join_group_response::JoinGroupResponseMember;

use super::requests::{GroupResponse, join_refused, sync_refused, text};
use crate::coordinator::Ticket;
use crate::limits::GROUP_MEMBER_PROTOCOLS_MAX;

/// A request that is parked until the group has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Whom to answer.
    pub(super) ticket: Ticket,
    /// The request's version.
    pub(super) version: i16,
}

/// A protocol a member can take part in, and what it says to the leader about it. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: String,
    pub(super) metadata: Bytes,
}

/// A JoinGroup request, checked and copied out of its buffer.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    pub(super) waiting: Waiting,
    /// Empty: not known to the group yet.
    pub(super) member_id: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocol_type: String,
    pub(super) protocols: Vec<Protocol>,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    /// KIP-345: set for a static member, whose place outlives its process.
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>,
    /// What the leader assigned to it; empty until the group is stable.
    pub(super) assignment: Bytes,
    /// The order of joining; the eldest leads when the leader is gone.
    pub(super) order: u64,
    /// It has not completed a join yet, so it cannot send heartbeats.
    pub(super) is_new: bool,
    /// Changed by the group only, which counts them.
    pub(super) joining: Option<Waiting>,
    pub(super) syncing: Option<Waiting>,
}

impl Joiner {
    /// Copies `request` out of its buffer. Version 0 has no rebalance timeout: its session timeout
    /// is used. Of more protocols than a member may name only so many are copied: who looks at the
    /// request next refuses it.
    pub(super) fn new(
        request: &JoinGroupRequest,
        waiting: Waiting,
        client_id: String,
        client_host: String,
    ) -> Self {
        let rebalance_timeout_ms = match waiting.version {
            ..=0 => request.session_timeout_ms,
            1.. => request.rebalance_timeout_ms,
        };
        Self {
            waiting,
            member_id: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            client_id,
            client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms,
            protocol_type: request.protocol_type.to_string(),
            protocols: copy_protocols(&request.protocols),
        }
    }

    /// The member this joiner becomes under `id`, waiting for the join to complete.
    pub(super) fn into_member(self, id: String, order: u64) -> Member {
        Member {
            id,
            instance: self.instance,
            client_id: self.client_id,
            client_host: self.client_host,
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols,
            assignment: Bytes::new(),
            order,
            is_new: true,
            joining: Some(self.waiting),
            syncing: None,
        }
    }
}

/// What names and protocols weigh in memory.
fn weight_bytes<'n>(names: impl Iterator<Item = &'n String>, protocols: &[Protocol]) -> usize {
    let names: usize = names.map(String::len).sum();
    let protocols = protocols.iter().map(|one| one.name.len() + one.metadata.len());
    names + protocols.sum::<usize>()
}

impl Joiner {
    /// What it weighs beyond a member's fixed size; compare [`Member::weight_bytes`].
    pub(super) fn weight_bytes(&self) -> usize {
        let names = [&self.member_id, &self.client_id, &self.client_host];
        weight_bytes(names.into_iter().chain(&self.instance), &self.protocols)
    }
}

impl Member {
    /// What it weighs beyond a member's fixed size: all that clients say and we keep, except the
    /// assignment, which a leader cannot make larger than a record for all members together.
    pub(super) fn weight_bytes(&self) -> usize {
        let names = [&self.id, &self.client_id, &self.client_host];
        weight_bytes(names.into_iter().chain(&self.instance), &self.protocols)
    }

    /// What it says about `protocol`; nothing if it does not take part in it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|candidate| candidate.name == protocol);
        found.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// The protocol it likes best among those everybody can take part in.
    pub(super) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|protocol| protocol.name.as_str()).find(|name| is_candidate(name))
    }

    /// Whether silence is no sign of death now: it waits for us, not we for it. A member that has
    /// not joined once is no such case, since a lost client's requests would stay forever.
    pub(super) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// What refuses the requests that are parked with it.
    pub(super) fn refusals(&self, error: ErrorCode) -> Vec<(Ticket, GroupResponse)> {
        let mut refused = Vec::new();
        if let Some(Waiting { ticket, version }) = self.joining {
            let refusal = join_refused(error, &self.id, version);
            refused.push((ticket, GroupResponse::Join(refusal)));
        }
        if let Some(Waiting { ticket, .. }) = self.syncing {
            refused.push((ticket, GroupResponse::Sync(sync_refused(error))));
        }
        refused
    }

    /// The member as the leader sees it.
    pub(super) fn for_leader(&self, protocol: &str) -> JoinGroupResponseMember {
        JoinGroupResponseMember::default()
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_metadata(self.metadata(protocol))
    }

    /// The member as an administrator sees it; with its metadata if a protocol is chosen.
    pub(super) fn described(&self, protocol: Option<&str>, version: i16) -> DescribedGroupMember {
        let instance = self.instance.as_deref().filter(|_| version >= 4).map(text);
        DescribedGroupMember::default()
            .with_member_id(text(&self.id))
            .with_group_instance_id(instance)
            .with_client_id(text(&self.client_id))
            .with_client_host(text(&self.client_host))
            .with_member_metadata(protocol.map(|name| self.metadata(name)).unwrap_or_default())
            .with_member_assignment(self.assignment.clone())
    }
}

/// Copies protocols out of a request; of two with the same name the first counts. Each is compared
/// with all before it, so none is copied beyond [`GROUP_MEMBER_PROTOCOLS_MAX`].
fn copy_protocols(asked: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
    let asked = &asked[..asked.len().min(GROUP_MEMBER_PROTOCOLS_MAX)];
    let mut protocols: Vec<Protocol> = Vec::with_capacity(asked.len());
    for protocol in asked {
        if protocols.iter().all(|known| known.name != *protocol.name) {
            protocols.push(Protocol {
                name: protocol.name.to_string(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            });
        }
    }
    protocols
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::CoreId;
    use flumen_protocol::messages::GroupId;

    use super::*;

    #[test]
    fn no_more_protocols_are_compared_than_one_member_may_name() {
        let named = |number: usize| {
            JoinGroupRequestProtocol::default().with_name(text(&format!("p{number}")))
        };
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_protocols((0..50_000).map(named).collect());
        let waiting =
            Waiting { ticket: Ticket { core: CoreId(0), request: 1, part: 0 }, version: 2 };
        let joiner = Joiner::new(&request, waiting, "c".to_owned(), "/::1".to_owned());
        assert_eq!(joiner.protocols.len(), GROUP_MEMBER_PROTOCOLS_MAX);
    }
}

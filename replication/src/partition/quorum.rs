//! Who decides on a partition, and how far each of them has come.
//!
//! Does: describe the quorum as its leader knows it (KIP-595, KIP-836).
//! Does not: change anything, or guess about members it has not heard of.
//! Invariants: only a leader describes; every voter is in the list once, the leader among them.
//! Apart because it looks at a partition only to tell an operator.

use flumen_protocol::ids::{LeaderEpoch, NodeId, Offset};
use flumen_protocol::time::Wall;

use super::partition::Partition;
use crate::error::Refusal;

/// A partition's quorum at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Who leads.
    pub leader: NodeId,
    /// Since which epoch.
    pub epoch: LeaderEpoch,
    /// The end of what is committed.
    pub high_watermark: Offset,
    /// Everybody who votes, in the order of their numbers.
    pub voters: Vec<Voter>,
}

/// One member of a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Which node.
    pub node: NodeId,
    /// The end of its log; [`Offset::UNKNOWN`] while the leader has not heard of it.
    pub end: Offset,
    /// When it last asked for records; the leader itself always has just done so. `None` while the
    /// leader has not heard of it.
    pub last_fetch: Option<Wall>,
    /// When its log last had the same end as the leader's; `None` as before.
    pub last_caught_up: Option<Wall>,
}

impl Partition {
    /// The quorum as this node, its leader, knows it now.
    ///
    /// # Errors
    /// This node does not lead, or the partition is stopped.
    pub fn quorum(&self, now: Wall) -> Result<Quorum, Refusal> {
        self.fence(LeaderEpoch::UNKNOWN)?;
        let leader = self.group.me();
        // Peers are not connected yet (see `raft/group.rs`): a leader has heard of nobody else.
        let voter = |node: NodeId| {
            let heard = (node == leader).then_some(now);
            let end = if node == leader { self.offsets.end() } else { Offset::UNKNOWN };
            Voter { node, end, last_fetch: heard, last_caught_up: heard }
        };
        let voters: Vec<Voter> = self.group.voters().into_iter().map(voter).collect();
        assert!(voters.iter().any(|voter| voter.node == leader), "a leader votes");
        Ok(Quorum {
            leader,
            epoch: self.leader_epoch(),
            high_watermark: self.offsets.high_watermark(),
            voters,
        })
    }
}

//! One entry of a partition's replicated log, as consensus, journal and peers pass it on.
//!
//! Does: carry an entry from the replication core, which orders it, to the journal, which makes
//! it durable, and back at recovery.
//! Does not: encode itself; the journal's frame and the peer envelope do that, each its own way.
//! Invariants: `index` grows by one from entry to entry of one log; `term` never falls; the
//! offsets of [`Records`] are those stamped into its bytes.
//! Apart because `storage` and `replication` must not know each other and still agree on this.

use bytes::Bytes;

use crate::ids::{LogIndex, NodeId, Offset, ProducerId, Term};

/// An entry of a log: its place in the order and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, counted from one without gaps.
    pub index: LogIndex,
    /// The term of the leader that ordered it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of a new leader, which commits what its predecessors left.
    Empty,
    /// One Kafka v2 record batch with base offset and leader epoch stamped in.
    Records(Records),
    /// A command to the partition's own state machine; takes an index and no offset.
    Control(Bytes),
}

/// One whole record batch and what the log needs to know of it without looking inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Largest record timestamp, in milliseconds; −1 when the producer gave none.
    pub max_timestamp: i64,
    /// The batch as it is stored and served.
    pub bytes: Bytes,
}

/// What a Raft member must remember across a restart before it votes or leads (Raft, figure 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this member's vote in that term.
    pub vote: Option<NodeId>,
    /// The highest index known to be committed; a hint, restored from the quorum if it lags.
    pub commit: LogIndex,
}

impl HardState {
    /// A member that has seen nothing.
    pub const INITIAL: Self = Self { term: Term::ZERO, vote: None, commit: LogIndex::ZERO };
}

/// A transaction whose records nobody is to read: what a log keeps of it for consumers that read only
/// what is committed (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Offset of its marker. Rows of a log ascend by it.
    pub last_offset: Offset,
    /// Offset of its first record; may lie below the log's start by now.
    pub first_offset: Offset,
    /// Whose it was.
    pub producer_id: ProducerId,
    /// No transaction that ended later on this log begins below this offset. Ascends, too.
    pub stable_offset: Offset,
}

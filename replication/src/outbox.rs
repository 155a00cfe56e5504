//! What a partition wants done: the words in which it speaks to the shard that owns it.
//!
//! Does: name every consequence as plain data.
//! Does not: carry anything out. The shard does, in the order the effects were pushed.
//! Invariants: `Persist` and `PersistHardState` of one log are pushed in the order in which they
//! must become durable; a ticket of an append is released exactly once.
//! Apart because the shard, the simulator and the test scripts all read this and nothing else.

use flumen_protocol::entry::{Entry, HardState};
use flumen_protocol::ids::{CoreId, LeaderEpoch, LogId, NodeId, Offset};
use flumen_protocol::time::Wall;

use crate::error::Refusal;
use crate::partition::{TransactionEnd, Verification};

/// Where effects are pushed: a vector the caller owns and reuses.
pub type Outbox = Vec<Effect>;

/// How an append, a marker or a deletion ended.
pub type Appended = Result<AppendReceipt, Refusal>;

/// Who waits: opaque to this crate, handed back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The core that asked.
    pub core: CoreId,
    /// Its open request.
    pub request: u64,
    /// The part of that request this partition is to answer.
    pub part: u32,
}

/// What a producer is told about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReceipt {
    /// The first record's offset; of a repeated batch, the one it got the first time.
    /// [`Offset::UNKNOWN`] if that was too long ago (DUPLICATE_SEQUENCE_NUMBER, 46: the records are
    /// there, and that is all that is known), and when a marker was written, or records were deleted, instead.
    pub base_offset: Offset,
    /// The time the broker stamped, on topics that stamp; otherwise none.
    pub append_time: Option<Wall>,
    /// The log's start. After a deletion, the low watermark asked for.
    pub start_offset: Offset,
}

/// One consequence of something a partition was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this entry durably, after all earlier ones of this log, then say so with
    /// [`Partition::persisted`](crate::partition::Partition::persisted).
    Persist {
        /// Which log.
        log: LogId,
        /// What to write.
        entry: Entry,
    },
    /// Write this hard state durably, before any later entry of this log. Needs no answer.
    PersistHardState {
        /// Which log.
        log: LogId,
        /// What to write.
        state: HardState,
    },
    /// Answer whoever waits for an append, a marker or a deletion.
    Release {
        /// Who waits.
        ticket: Ticket,
        /// What to answer.
        outcome: Appended,
    },
    /// A watcher's time has come; it is no longer watching. Read again from `from`.
    ///
    /// `limit` above `from`: records up to `limit` (exclusive) may now be read. Otherwise
    /// something else changed (leadership, deletion) and reading again tells what.
    Push {
        /// Who watches.
        ticket: Ticket,
        /// Which log.
        log: LogId,
        /// The offset it waited at.
        from: Offset,
        /// The new bound of reading.
        limit: Offset,
    },
    /// Reading would answer differently now: the high watermark, the last stable offset, the start,
    /// or whether this node serves the log at all. Only while somebody follows
    /// ([`Partition::follow`](crate::partition::Partition::follow)).
    Moved {
        /// Which log.
        log: LogId,
    },
    /// Leadership of this log changed.
    Leadership {
        /// Which log.
        log: LogId,
        /// Who leads now, where known.
        leader: Option<NodeId>,
        /// In which epoch.
        epoch: LeaderEpoch,
    },
    /// A newly committed entry, in log order, for a state machine to apply. Only of logs opened
    /// with [`replay`](crate::partition::PartitionSettings::replay).
    Committed {
        /// Which log.
        log: LogId,
        /// What was committed.
        entry: Entry,
    },
    /// Ask the coordinator of its transactional id, and give the word to
    /// [`Partition::verified`](crate::partition::Partition::verified).
    Verify(Box<Verification>),
    /// The marker of a transaction was committed, in log order: for a coordinator whose records may
    /// have been part of it. Also of entries that a start finds in the journal.
    TransactionEnded {
        /// Which log.
        log: LogId,
        /// Whose, and how.
        end: TransactionEnd,
    },
    /// The log's start is to move: storage forgets what lies before, and says when that holds for good
    /// ([`Partition::advance_start`](crate::partition::Partition::advance_start)). Until then nobody
    /// hears of it, and a start that finds the old one asks again.
    StartOffset {
        /// Which log.
        log: LogId,
        /// Its new start.
        offset: Offset,
    },
}

//! How this crate says no.
//!
//! Does: name why a client's request is refused ([`Refusal`]) and why a partition cannot be opened
//! from what the disk gave back ([`StateError`]).
//! Does not: know Kafka's error numbers; the broker's `api/refusals.rs` maps them, in one place.
//! Invariants: closed enums; a refusal never means "maybe done", except [`Refusal::TimedOut`].
//! Apart because the broker matches on these without looking into any other room.

use std::fmt;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LogIndex, NodeId, Offset, ProducerEpoch, Sequence, Term};

/// Why a request to a partition is refused. Each names the Kafka error it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// NOT_LEADER_OR_FOLLOWER (6): another node leads, or none that we know.
    NotLeader {
        /// Who leads, where known.
        leader: Option<NodeId>,
    },
    /// FENCED_LEADER_EPOCH (74): the client knows an older leader epoch than ours.
    FencedLeaderEpoch,
    /// UNKNOWN_LEADER_EPOCH (75): the client knows a newer leader epoch than ours.
    UnknownLeaderEpoch,
    /// OFFSET_OUT_OF_RANGE (1): below the start, above the end, or above what may be deleted.
    OffsetOutOfRange {
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// OFFSET_NOT_AVAILABLE (78): a new leader does not yet know the high watermark; retriable.
    OffsetNotAvailable,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER (45): records of this producer are missing before these.
    OutOfOrderSequence {
        /// The sequence that would have been taken.
        expected: Sequence,
    },
    /// INVALID_PRODUCER_EPOCH (47): a newer incarnation of the producer has written here.
    StaleProducerEpoch {
        /// The newer epoch.
        current: ProducerEpoch,
    },
    /// INVALID_TXN_STATE (48): the batch claims a transaction that has ended here since it was asked
    /// for, or claims none while its producer is in one. Not retriable, so that a client stops instead
    /// of trying forever.
    NoTransaction,
    /// The transaction coordinator does not vouch for the transaction that the batch claims, and says
    /// this; which code a client gets depends on its version. Nothing was appended.
    NotVerified(ErrorCode),
    /// TRANSACTION_COORDINATOR_FENCED (52): the marker is of an older coordinator than the last one.
    CoordinatorFenced {
        /// The newer coordinator's epoch.
        current: i32,
    },
    /// POLICY_VIOLATION (44): more transactions are under way, or kept as aborted, than this partition
    /// or its core may hold (see [`limits`](crate::limits)). Nothing was appended; it ends with
    /// transactions that end, or with records that are deleted.
    TooManyTransactions,
    /// REQUEST_TIMED_OUT (7): durable or committed too late. The records stay appended and may
    /// still commit, as in Kafka; the client retries and idempotence sorts it out.
    TimedOut,
    /// REQUEST_TIMED_OUT (7): too much is waiting already (see [`limits`](crate::limits)).
    /// Nothing was appended; retriable.
    Busy,
    /// KAFKA_STORAGE_ERROR (56): the disk has no room beyond its reserve. Nothing was appended;
    /// retriable.
    NoRoom,
    /// POLICY_VIOLATION (44): the log has used up its offsets
    /// ([`LOG_END_MAX`](crate::limits::LOG_END_MAX)). Not retriable.
    OffsetsUsedUp,
    /// KAFKA_STORAGE_ERROR (56): this node's disk failed under the partition, or lost records of it
    /// and nobody accepted that yet.
    Storage,
    /// UNKNOWN_TOPIC_OR_PARTITION (3): the partition was deleted or has moved away.
    Gone,
}

/// Why a partition cannot be opened. Nothing was changed; the caller decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The state's bytes are damaged or of a format we do not know. Open again without them,
    /// giving all settled batches for rebuilding.
    StateRotten,
    /// The saved aborted transactions contradict themselves. Without them readers of committed records
    /// would see what never happened; stop.
    AbortedRotten,
    /// An entry does not follow the one before it in index, term or offset. The log is damaged;
    /// stop and keep it as it is.
    EntriesBroken {
        /// The entry at fault.
        index: LogIndex,
    },
    /// The log holds a term that the hard state has not seen. The journal lost the hard state or
    /// belongs to someone else; stop.
    HardStateBehind {
        /// The hard state's term.
        hard: Term,
        /// The log's last term.
        log: Term,
    },
    /// Entries once known as committed are missing at the end. Data was lost; stop, unless the
    /// topic is relaxed, for which this is no error.
    CommittedLost {
        /// Known as committed.
        commit: LogIndex,
        /// The last entry there is.
        last: LogIndex,
    },
    /// The start lies above the settled end, or below zero. The boot's numbers are inconsistent.
    OffsetsBroken {
        /// The start given.
        start: Offset,
        /// The settled end given.
        settled_end: Offset,
    },
    /// A settled batch given for rebuilding does not follow the one before it in epoch or offset.
    /// The segment's header is damaged; open again without rebuilding from it.
    SettledBroken {
        /// The batch at fault.
        offset: Offset,
    },
    /// This node is no voter of the group, or the list of voters is no list (empty, repeated).
    VotersBroken,
    /// A committed control entry does not decode. The log is damaged, or written by a newer
    /// version; stop.
    ControlRotten {
        /// The entry at fault.
        index: LogIndex,
    },
}

impl Refusal {
    /// Whether the same batch may be taken when it comes again, and was not appended: what its producer
    /// has sent after it must wait for it.
    #[must_use]
    pub fn is_for_now(self) -> bool {
        match self {
            Self::Busy => true,
            Self::NotVerified(code) => code.retriable(),
            Self::NotLeader { .. }
            | Self::FencedLeaderEpoch
            | Self::UnknownLeaderEpoch
            | Self::OffsetOutOfRange { .. }
            | Self::OffsetNotAvailable
            | Self::OutOfOrderSequence { .. }
            | Self::StaleProducerEpoch { .. }
            | Self::NoTransaction
            | Self::CoordinatorFenced { .. }
            | Self::TooManyTransactions
            | Self::TimedOut
            | Self::NoRoom
            | Self::OffsetsUsedUp
            | Self::Storage
            | Self::Gone => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not leader, node {leader} is"),
            Self::NotLeader { leader: None } => write!(f, "not leader, none known"),
            Self::FencedLeaderEpoch => write!(f, "leader epoch is older than ours"),
            Self::UnknownLeaderEpoch => write!(f, "leader epoch is newer than ours"),
            Self::OffsetOutOfRange { start, end } => write!(f, "offset outside {start}..={end}"),
            Self::OffsetNotAvailable => write!(f, "high watermark not yet known"),
            Self::OutOfOrderSequence { expected } => write!(f, "sequence {expected} expected"),
            Self::StaleProducerEpoch { current } => write!(f, "producer epoch is {current} now"),
            Self::NoTransaction => write!(f, "the batch is not part of its producer's transaction"),
            Self::NotVerified(code) => {
                write!(f, "the transaction coordinator does not vouch for it: {}", code.message())
            }
            Self::CoordinatorFenced { current } => {
                write!(f, "the transaction coordinator's epoch is {current} now")
            }
            Self::TooManyTransactions => {
                write!(f, "too many transactions are under way here, or kept because they aborted")
            }
            Self::TimedOut => write!(f, "timed out"),
            Self::Busy => write!(f, "too much waiting"),
            Self::NoRoom => {
                write!(f, "the disk is nearly full: no records are taken until space is freed")
            }
            Self::OffsetsUsedUp => write!(f, "the log has used up its offsets"),
            Self::Storage => write!(f, "disk failed or lost records of it"),
            Self::Gone => write!(f, "partition is gone"),
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateRotten => write!(f, "the partition's state is damaged"),
            Self::AbortedRotten => write!(f, "the list of aborted transactions is damaged"),
            Self::EntriesBroken { index } => write!(f, "entry {index} does not follow its log"),
            Self::HardStateBehind { hard, log } => {
                write!(f, "the log is in term {log}, the hard state only in {hard}")
            }
            Self::CommittedLost { commit, last } => {
                write!(f, "{commit} was committed, the log ends at {last}")
            }
            Self::OffsetsBroken { start, settled_end } => {
                write!(f, "start {start} does not fit settled end {settled_end}")
            }
            Self::SettledBroken { offset } => write!(f, "settled batch {offset} does not follow"),
            Self::VotersBroken => write!(f, "this node is not one of the voters"),
            Self::ControlRotten { index } => write!(f, "control entry {index} does not decode"),
        }
    }
}

impl std::error::Error for Refusal {}
impl std::error::Error for StateError {}

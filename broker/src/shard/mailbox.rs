//! Every message that crosses from one core to another.
//!
//! Does: list them, with sender, receiver and drop rule.
//! Does not: send them; the pump does.
//! Invariants: first in, first out per pair of cores; a core never sends to itself, but its own
//! questions take the same path through [`super::shard::Shard`].
//! Apart because a closed list of small messages is what keeps cores independent.
//!
//! | message | from → to | may be dropped |
//! |---|---|---|
//! | `Ask` | core of the client → owner | no: a client waits |
//! | `Answer` | owner → core of the client | no: a client waits |
//! | `Unwatch` | core of the client → owner | no: a stale watcher wakes nobody but costs memory |
//! | `Unfollow` | core of the client → owner | no: as `Unwatch` |
//! | `Spent` | all → all | no: a client would get more than its quota |
//! | `Image` | core of the controller → all | no: it is the only way to learn of topics |
//! | `Leaders` | owner → all | no: clients would be sent to nobody |
//! | `Stop` | core 0 → all | no |
//! | `Drained` | all → all | no: a stop would wait for its time to be over |

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::check::{BatchProducer, ProducedBatch};
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::ids::{
    CoreId, LeaderEpoch, LogId, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
};
use flumen_protocol::time::Monotonic;
use flumen_replication::coordinator::group::{GroupRequest, GroupResponse};
use flumen_replication::coordinator::transaction::{TransactionRequest, TransactionResponse};
use flumen_replication::error::Refusal;
use flumen_replication::metadata::command::{Command, Outcome};
use flumen_replication::metadata::image::Image;
use flumen_replication::outbox::{AppendReceipt, Ticket};
use flumen_replication::partition::{Acks, ActiveProducer, Claim, Quorum};
use flumen_storage::answers::ReadError;

use crate::quota::ledger::Spending;
use crate::telemetry::metrics::Snapshot;

/// A message between two cores of this node.
#[derive(Debug)]
pub enum CoreMessage {
    /// Questions of one request for this core, in the order in which they must be taken.
    Ask(Vec<(Ticket, Target, Question)>),
    /// Answers to questions of the receiver, in the order in which they were given.
    Answer(Vec<(Ticket, Answer)>),
    /// A request no longer waits for news of these logs.
    Unwatch(Vec<(Ticket, LogId)>),
    /// These followers want to hear of these logs no more.
    Unfollow(Vec<(Follower, LogId)>),
    /// What clients with quotas have spent on the sender since it last said so.
    Spent(Vec<Spending>),
    /// What topics there are now.
    Image(Arc<Image>),
    /// Who leads which partitions of the sender now.
    Leaders {
        /// The version of the image in which the sender has them. The receiver's may be older or
        /// newer: images come from another core.
        as_of: u64,
        /// One for each.
        leaders: Vec<Leader>,
    },
    /// Finish what is open, settle the journal, end.
    Stop,
    /// The sender stops, and none of its requests is open: it asks for nothing more.
    Drained,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Which partition.
    pub log: LogId,
    /// Its leader, if it has one.
    pub node: Option<NodeId>,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
}

/// Where on the answering core a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a partition, or to the coordinator that lives in it.
    Log(LogId),
    /// To the core as such.
    Core,
}

/// What one core asks another (or itself).
#[derive(Debug)]
pub enum Question {
    /// Append a checked batch.
    Append(Box<AppendQuestion>),
    /// Read from a partition.
    Read(ReadQuestion),
    /// Say when records at or after this offset become visible, with the records.
    Watch(ReadQuestion),
    /// Read from a partition; if there is nothing, follow it for a fetch session.
    Look(ReadQuestion, Follower),
    /// Which offset a timestamp or special value means.
    ListOffset(OffsetQuestion),
    /// Where an epoch ends.
    EpochEnd {
        /// The epoch the client believes to be current.
        current: LeaderEpoch,
        /// The epoch asked for.
        wanted: LeaderEpoch,
    },
    /// Move the start of the log.
    DeleteRecords {
        /// The first offset to keep; −1: the high watermark.
        before: Offset,
        /// When to give up.
        deadline: Monotonic,
    },
    /// Write down how a producer's transaction ended; asked by its coordinator, or an operator.
    EndTransaction(Box<EndQuestion>),
    /// Which producers have written, and what is under way of them.
    Producers,
    /// Ask the group coordinator that lives in this partition.
    Group(Box<GroupRequest>),
    /// Which groups live on this core; asks every coordinator of it.
    Groups(Box<GroupRequest>),
    /// Ask the group coordinator that lives in this partition for a commit within a transaction.
    GroupWithin(Box<WithinQuestion>),
    /// Ask the coordinator of transactions that lives in this partition: a client, or a partition which
    /// wants to know whether a producer has a transaction under way that it is part of.
    Transaction(Box<TransactionRequest>),
    /// Which transactions live on this core; asks every coordinator of it.
    Transactions(Box<TransactionRequest>),
    /// Change the cluster's metadata; only the controller's core understands it.
    Control {
        /// How.
        command: Box<Command>,
        /// When nobody waits for it any more, and it must not happen if it has not begun.
        deadline: Monotonic,
    },
    /// Who decides on the cluster's metadata; only the controller's core understands it.
    Quorum,
    /// How large the partitions of this core are.
    Sizes,
    /// Copy the counters.
    Metrics,
    /// The next committed offsets of the groups that live on this core, behind those of the last page.
    Commits(Option<Box<CommitCursor>>),
    /// Where these partitions of this core end, and when the records at these offsets were written.
    Lags(Vec<(LogId, Offset)>),
}

/// A batch and how it is to be acknowledged.
#[derive(Debug)]
pub struct AppendQuestion {
    /// The batch, unique, so that offsets can be stamped in place.
    pub batch: BytesMut,
    /// What was found in it.
    pub summary: ProducedBatch,
    /// When to answer.
    pub acks: Acks,
    /// When to give up waiting.
    pub deadline: Monotonic,
    /// What its client says of the transaction that it belongs to, if it does.
    pub claim: Option<Box<Claim>>,
    /// What its producer sent before it and has to send again, since the partition was not known then.
    pub behind: Option<BatchProducer>,
}

/// How a transaction ended, for one of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndQuestion {
    /// Whose.
    pub producer_id: ProducerId,
    /// The producer's epoch, as the marker is to have it.
    pub epoch: ProducerEpoch,
    /// Commit or abort, and the epoch of the coordinator that says so.
    pub marker: EndMarker,
    /// Whether the marker must be of a newer epoch than the records (KIP-1228).
    pub must_be_newer: bool,
    /// When to give up waiting; the marker may be written all the same.
    pub deadline: Monotonic,
}

/// A commit of offsets within a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct WithinQuestion {
    /// Where the coordinator of the transactional id lives.
    pub coordinator: LogId,
    /// What to ask it first: that the partition is part of the transaction.
    pub claim: TransactionRequest,
    /// The commit.
    pub commit: GroupRequest,
}

/// A read of one partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadQuestion {
    /// The first offset wanted.
    pub from: Offset,
    /// The epoch the client believes to be current.
    pub epoch: LeaderEpoch,
    /// Whether only decided transactions may be seen.
    pub committed_only: bool,
    /// How many bytes this partition may give.
    pub max_bytes: u32,
    /// Whether a first batch beyond `max_bytes` is given all the same (KIP-74).
    pub at_least_one: bool,
    /// How many bytes the whole answer may carry that this read is for.
    pub answer_bytes_max: u32,
}

/// A partition of a fetch session, as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Where the session is.
    pub core: CoreId,
    /// Which.
    pub session: i32,
    /// The partition's number in it.
    pub slot: u32,
    /// The epoch of the session when it asked.
    pub epoch: i32,
}

/// A look-up of an offset.
#[derive(Clone, Copy, Debug)]
pub struct OffsetQuestion {
    /// The epoch the client believes to be current.
    pub epoch: LeaderEpoch,
    /// Milliseconds, or a special value below zero (G77).
    pub timestamp: i64,
    /// Whether only decided transactions count.
    pub committed_only: bool,
    /// What the records of one batch may inflate to if a time is looked for in them.
    pub inflated_bytes_max: usize,
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// To `Append`, `EndTransaction` and `DeleteRecords`.
    Appended(Result<AppendReceipt, Refusal>),
    /// To `Read`, `Watch` and `Look`.
    Records(Box<RecordsAnswer>),
    /// To a `Look` that found nothing, later and once: there is something now.
    News(Box<News>),
    /// To `ListOffset`.
    Offset(Result<FoundOffset, LogFault>),
    /// To `EpochEnd`.
    EpochEnd(Result<(LeaderEpoch, Offset), Refusal>),
    /// To `Producers`.
    Producers(Box<Result<Vec<ActiveProducer>, Refusal>>),
    /// To `Group` and `GroupWithin`.
    Group(Box<GroupResponse>),
    /// To `Groups`.
    Groups(Vec<GroupResponse>),
    /// To `Transaction`.
    Transaction(Box<TransactionResponse>),
    /// To `Transactions`.
    Transactions(Vec<TransactionResponse>),
    /// To `Control`.
    Control(Box<Outcome>),
    /// To `Quorum`.
    Quorum(Box<Result<Quorum, Refusal>>),
    /// To `Sizes`.
    Sizes(Box<Sizes>),
    /// To `Metrics`.
    Metrics(Box<Snapshot>),
    /// To `Commits`.
    Commits(Box<CommitsPage>),
    /// To `Lags`, from this core: for the first ones of those asked for, as many as a step took.
    Lags(CoreId, Vec<LagFound>),
    /// This core has no such partition, coordinator or controller (any more).
    NotHere,
}

/// How large the partitions of one core are, and the disk below them.
#[derive(Debug)]
pub struct Sizes {
    /// Bytes of all batches, of each partition.
    pub logs: Vec<(LogId, u64)>,
    /// The data folder's file system, if it was looked at already.
    pub space: Option<Space>,
}

/// A file system's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Some of the offsets that groups of one core committed, in the order of coordinators, groups, topics
/// and partitions.
#[derive(Debug)]
pub struct CommitsPage {
    /// The offsets.
    pub rows: Vec<Committed>,
    /// Where the next page begins; none after the last.
    pub next: Option<CommitCursor>,
}

/// The last offset of a page.
#[derive(Clone, Debug)]
pub struct CommitCursor {
    /// Whose coordinator lives in this partition.
    pub room: LogId,
    /// Of which group.
    pub group: String,
    /// Of which topic.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
}

/// What is known of a place where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagFound {
    /// The partition's committed end; none if it is not here (any more).
    pub end: Option<Offset>,
    /// When the next record to be read was written, milliseconds since 1970; none when there is no
    /// such record, or nobody can say.
    pub written: Option<i64>,
}

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Which group.
    pub group: String,
    /// Of which topic.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// The next record it wants.
    pub offset: Offset,
}

/// What a read gave.
#[derive(Clone, Debug)]
pub struct RecordsAnswer {
    /// What is wrong, if anything.
    pub fault: Option<LogFault>,
    /// The committed end; −1 when unknown.
    pub high_watermark: Offset,
    /// The decided end; −1 when unknown.
    pub last_stable: Offset,
    /// The first offset; −1 when unknown.
    pub start: Offset,
    /// Whole batches.
    pub batches: Vec<Bytes>,
    /// Aborted transactions that reach into them, by producer and first record; none where all records
    /// are wanted.
    pub aborted: Vec<(ProducerId, Offset)>,
    /// The offset after the last batch; the one asked for when there is none.
    pub next: Offset,
    /// Who follows the partition since: there was nothing to read.
    pub followed: Option<Follower>,
}

/// What has changed for a follower.
#[derive(Debug)]
pub struct News {
    /// Whose partition.
    pub follower: Follower,
    /// Where it follows from.
    pub from: Offset,
    /// What.
    pub what: Change,
}

/// What has changed in a partition that is followed.
#[derive(Debug)]
pub enum Change {
    /// Its ends, but there is nothing to read: worth telling, not worth an answer. It is still followed.
    Ends,
    /// There are records, and here they are. It is followed no more.
    Records(RecordsAnswer),
    /// Reading tells what. It is followed no more.
    Any,
}

/// Why a partition cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// The partition refused.
    Refused(Refusal),
    /// The store could not read.
    Unreadable(ReadError),
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; −1: none.
    pub offset: Offset,
    /// Its timestamp; −1 for special values and when there is none.
    pub timestamp: i64,
    /// The epoch it was written in; −1 when unknown.
    pub epoch: LeaderEpoch,
}

// A message is moved several times on its way; beyond two cache lines it goes into a box.
const _: () = assert!(size_of::<CoreMessage>() <= 128);
const _: () = assert!(size_of::<Question>() <= 64);
const _: () = assert!(size_of::<Answer>() <= 96);

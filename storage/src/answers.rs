//! What a shard asks of its store and what it hears back: plain data.
//!
//! Does: name settings, requests, answers and events of [`Store`](crate::store::Store).
//! Does not: hold state or decide anything.
//! Invariants: everything here is owned; nothing borrows from the store.
//! Apart because the shard speaks these words and must not see the rooms behind them.

use std::fmt;

use bytes::Bytes;
use flumen_protocol::entry::{AbortedTransaction, Entry, HardState};
use flumen_protocol::ids::{LeaderEpoch, LogId, LogIndex, Offset, ProducerEpoch, ProducerId, Term};

pub use crate::manifest::hold::Hold;

/// How one core's store uses memory and disk. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of settled batches kept in memory for readers near the end, over all logs.
    pub cache_bytes: usize,
    /// Bytes of cold data kept after they were read and verified, over all logs.
    pub window_bytes: usize,
    /// Unsettled bytes of the core above which the largest log is settled.
    pub unsettled_bytes: usize,
}

impl StoreConfig {
    /// What suits a core that serves a few thousand logs.
    pub const DEFAULT: Self = Self {
        cache_bytes: crate::limits::CACHE_BYTES_DEFAULT,
        window_bytes: crate::limits::WINDOW_BYTES_DEFAULT,
        unsettled_bytes: crate::limits::UNSETTLED_BYTES_DEFAULT,
    };
}

/// What a topic's configuration means to its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `segment.bytes`: a segment is closed before a batch would make it larger than this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is closed when its timestamps span more; `None`: never for that.
    pub segment_ms: Option<i64>,
    /// `retention.bytes`: what a log may hold before its oldest segments go; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: how old a segment's youngest record may become; `None`: no limit.
    pub retention_ms: Option<i64>,
    /// `cleanup.policy=compact` without `delete`: neither age nor size deletes anything.
    pub compacted: bool,
    /// How records that a later one of their key supersedes go; `None`: they stay.
    pub compaction: Option<Compaction>,
}

/// How a log is cleaned by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// `min.cleanable.dirty.ratio`, in millionths: a log is due when more of it is dirty.
    pub min_dirty_ppm: u32,
    /// `min.compaction.lag.ms`: what is younger is not cleaned.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: a log with something older and dirty is due.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay after they are alone.
    pub delete_retention_ms: i64,
}

/// What the cleanings of one core may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanerConfig {
    /// Bytes of the table of keys: one cleaning runs at a time.
    pub table_bytes: usize,
    /// Bytes read and written per second; `None`: as much as the device gives.
    pub bytes_per_second: Option<u64>,
    /// How long to wait after a look that found nothing to clean.
    pub pause: std::time::Duration,
}

impl CleanerConfig {
    /// What suits a core that has the node for itself.
    pub const DEFAULT: Self = Self {
        table_bytes: crate::limits::CLEANING_TABLE_BYTES_DEFAULT,
        bytes_per_second: None,
        pause: std::time::Duration::from_secs(15),
    };
}

/// What only the log's owner knows and a cleaning goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleaningFacts {
    /// Nothing from here on is cleaned: the last stable offset.
    pub stable: Offset,
    /// Transactions that were aborted, as far as the owner lists them. Invariant: all of those with records
    /// below `stable`, or an aborted record would supersede one that counts.
    pub aborted: Vec<AbortedRange>,
    /// Producers that may come back: the batch with the last sequence of each stays.
    pub producers: std::collections::BTreeMap<ProducerId, LastOfProducer>,
    /// Keys the hash of keys: chance, so that nobody can choose keys that collide.
    pub seed: u64,
}

/// A transaction whose records do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// Whose.
    pub producer: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its marker.
    pub last: Offset,
}

/// The last that a producer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOfProducer {
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The offset of its last record; `None`: only a marker is left of it.
    pub data: Option<Offset>,
}

/// What a cleaning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleaningReport {
    /// How long it took, pauses included.
    pub took: std::time::Duration,
    /// Bytes of batches read, those read twice counted twice.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes of the segments it replaced.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
    /// Keys it knew the last record of.
    pub keys: u64,
    /// Records that went.
    pub records_dropped: u64,
    /// Segments it left as they are because something in them cannot be read: offsets from, until.
    pub left_out: Vec<(Offset, Offset)>,
    /// Aborted transactions nothing but the marker of which is left: their owner may forget them, and then
    /// the marker goes as well.
    pub emptied: Vec<AbortedRange>,
    /// Not all keys fitted the table: the rest is for the next one.
    pub is_partial: bool,
}

impl LogSettings {
    /// What holds between recovery and the first [`configure`](crate::store::Store::configure):
    /// nothing is deleted before the topic's own settings are known.
    pub const KEEP_ALL: Self = Self {
        segment_bytes: crate::limits::SEGMENT_BYTES_DEFAULT,
        segment_ms: None,
        retention_bytes: None,
        retention_ms: None,
        compacted: false,
        compaction: None,
    };
}

/// A range of records wanted from one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The first record wanted; the batch that contains it comes first.
    pub from: Offset,
    /// Only batches that end below this are given: the high watermark or the last stable offset.
    pub limit: Offset,
    /// How many bytes the batches may have together.
    pub max_bytes: u32,
    /// Whether a first batch larger than `max_bytes` is given all the same (KIP-74).
    pub at_least_one: bool,
    /// Comes back in [`StoreEvent::Read`] if the answer must wait for the disk.
    pub token: u64,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// Whole batches in offset order, each as stored; empty when there is nothing below the limit.
    Ready(Vec<Bytes>),
    /// The disk is asked; [`StoreEvent::Read`] follows.
    Pending,
    /// Refused at once.
    Failed(ReadError),
}

/// Why records cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The store has no such log; the caller answers as for an unknown partition.
    UnknownLog,
    /// The offset lies before the log's start or after its end: `OFFSET_OUT_OF_RANGE`.
    OutOfRange {
        /// The log's first offset.
        start: Offset,
        /// One after the log's last offset.
        end: Offset,
    },
    /// The disk holds something else than what was written, or says that it cannot read it:
    /// `KAFKA_STORAGE_ERROR` for this range only; the caller may fetch it from a peer. What lies before and after stays readable.
    Damaged {
        /// Which log.
        log: LogId,
        /// First offset that cannot be given.
        from: Offset,
        /// One after the last offset that cannot be given.
        until: Offset,
    },
    /// It cannot be read now, by want of file descriptors or memory, say, which tells nothing about
    /// what lies there: `KAFKA_STORAGE_ERROR`, which clients try again.
    Unavailable {
        /// Which log.
        log: LogId,
        /// How far the caller got: the record wanted, or where a look-up stands.
        from: Offset,
        /// What the disk said; `None`: finding the place took too many steps, another try goes on.
        kind: Option<crate::error::DiskErrorKind>,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLog => write!(f, "no such log"),
            Self::OutOfRange { start, end } => write!(f, "offset outside [{start}, {end})"),
            Self::Damaged { log, from, until } => write!(f, "{log}: [{from}, {until}) is damaged"),
            Self::Unavailable { log, from, kind: Some(kind) } => {
                write!(f, "{log}: cannot read {from} now: {kind}")
            }
            Self::Unavailable { log, from, kind: None } => {
                write!(f, "{log}: {from} is not found yet")
            }
        }
    }
}

/// Which record a look-up by time wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuery {
    /// The first record, in offset order, with this timestamp (milliseconds) or a later one.
    AtOrAfter(i64),
    /// The first of the records with the largest timestamp (KIP-734), among those the log still has
    /// and that lie below the limit.
    Largest,
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedRecord {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// The epoch of the leader that appended it.
    pub epoch: LeaderEpoch,
}

/// The answer to a look-up by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeAnswer {
    /// Known from memory; `None`: no record fits.
    Ready(Option<TimedRecord>),
    /// The disk is asked; [`StoreEvent::TimeFound`] follows.
    Pending,
    /// Refused at once.
    Failed(ReadError),
}

/// What the store tells the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Every entry of the log up to `index` is on stable media.
    Durable {
        /// Which log.
        log: LogId,
        /// The last durable entry.
        index: LogIndex,
    },
    /// A hard state saved with [`save_hard_state`](crate::store::Store::save_hard_state) is
    /// durable; the vote it holds may leave this node.
    HardStateDurable {
        /// Which log.
        log: LogId,
        /// The term of the newest state that is durable.
        term: Term,
    },
    /// The disk is full; what waits for room is tried again by itself. Refuse new work.
    NoSpace,
    /// A pending read has its answer.
    Read {
        /// As in the request.
        token: u64,
        /// Whole batches, or why not.
        result: Result<Vec<Bytes>, ReadError>,
    },
    /// A pending look-up by time has its answer.
    TimeFound {
        /// As in the request.
        token: u64,
        /// The record, if any fits, or why that cannot be said.
        result: Result<Option<TimedRecord>, ReadError>,
    },
    /// A settle ended: the journal may forget the log up to `up_to`.
    Settled {
        /// Which log.
        log: LogId,
        /// The last settled entry; may be less than was asked for.
        up_to: LogIndex,
    },
    /// The log's start offset is durable; files before it are going.
    StartDurable {
        /// Which log.
        log: LogId,
        /// The first offset that remains.
        start: Offset,
    },
    /// A cleaning of the log ended.
    Cleaned {
        /// Which log.
        log: LogId,
        /// What it did.
        report: Box<CleaningReport>,
    },
    /// A cleaning of the log was given up: something could not be read now. It is tried again later.
    CleaningBroken {
        /// Which log.
        log: LogId,
    },
    /// The log and all its files are gone; its name may be used anew.
    Deleted {
        /// Which log.
        log: LogId,
    },
}

/// What recovery found on one core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every log, in order of its name.
    pub logs: Vec<RecoveredLog>,
    /// What was found, cut and quarantined, one line each, for the log and the side file.
    pub report: Vec<String>,
    /// Whether an operator accepts, with this start, that what is damaged is lost.
    pub accepts_damage: bool,
    /// What was given up because of that, one line each.
    pub accepted: Vec<String>,
}

/// One log as the disk remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Which log.
    pub log: LogId,
    /// What its Raft member promised last.
    pub hard_state: HardState,
    /// The last entry that is in segments; its term. Entries up to it are not given back.
    pub settled: (LogIndex, Term),
    /// The replication core's own state and the index up to which it is applied, which may lie
    /// after `settled` but never before. Empty and zero if nothing was settled yet. The state may speak
    /// of records that a crash or damage took: its owner knows how to forget them.
    pub state: (LogIndex, Bytes),
    /// The log's aborted transactions as last noted, by marker; the journal may know more.
    pub aborted: Vec<AbortedTransaction>,
    /// The first offset the log still has.
    pub start_offset: Offset,
    /// One after the last offset in segments.
    pub settled_end: Offset,
    /// Every entry after `settled`, in order, without gaps.
    pub entries: Vec<Entry>,
    /// Why the log must not take records: acknowledged ones that followed are lost, and an operator
    /// has not accepted that. Entries without offsets may be appended: what is lost, and what lies
    /// behind it, is set aside, and the journal's frames of it are void.
    pub held: Option<Hold>,
}

//! How far a client may read, and what it is told about the ends of the log.
//!
//! Does: bound a Fetch, answer ListOffsets' special positions and OffsetForLeaderEpoch.
//! Does not: read; the caller takes the bounds to storage. Changes nothing.
//! Invariants: no bound lies above the high watermark; out of range is said only of offsets below
//! the start or above the end (G64), because clients answer it by jumping elsewhere.
//! Apart because these answers decide what consumers see, and change no state.

use flumen_protocol::ids::{LeaderEpoch, Offset};

use super::partition::Partition;
use crate::error::Refusal;

/// What a consumer wants to see (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything committed to the log.
    ReadUncommitted,
    /// Only what is below the oldest open transaction.
    ReadCommitted,
}

/// What a Fetch asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadQuery {
    /// The first offset wanted.
    pub offset: Offset,
    /// The leader epoch the client knows; unknown is not checked (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// What it wants to see.
    pub isolation: Isolation,
}

/// What a Fetch may read, and what its answer tells beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBounds {
    /// Read from the batch holding this offset.
    pub from: Offset,
    /// Read no batch that starts here or beyond. At or below `from`: nothing to read now.
    pub limit: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// The log's start.
    pub start_offset: Offset,
}

/// The positions ListOffsets can ask for without a timestamp (G77).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// −2 (and −4 without tiered storage): the log's start.
    Earliest,
    /// −1: where reading ends for this isolation.
    Latest(Isolation),
}

/// A position and the epoch of the leader that wrote there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The position.
    pub offset: Offset,
    /// The epoch, or unknown where no record tells.
    pub leader_epoch: LeaderEpoch,
}

impl Partition {
    /// Bounds a Fetch.
    ///
    /// # Errors
    /// Not leader, a fenced or unknown epoch, or an offset below the start or above the end; above
    /// the end of a held log [`Refusal::Storage`].
    pub fn read_bounds(&self, query: ReadQuery) -> Result<ReadBounds, Refusal> {
        self.fence(query.leader_epoch)?;
        let offsets = self.offsets();
        if self.held.is_some() && query.offset > offsets.end() {
            // Out of range would make the client jump to where it was long ago, or to the end.
            return Err(Refusal::Storage);
        }
        if query.offset < offsets.start() || query.offset > offsets.end() {
            let (start, end) = (offsets.start(), offsets.end());
            return Err(Refusal::OffsetOutOfRange { start, end });
        }
        Ok(ReadBounds {
            from: query.offset,
            limit: self.read_limit(query.isolation),
            high_watermark: offsets.high_watermark(),
            last_stable: offsets.stable(),
            start_offset: offsets.start(),
        })
    }

    /// Answers a special position of ListOffsets.
    ///
    /// # Errors
    /// Not leader, a fenced or unknown epoch; for the latest offset also
    /// [`Refusal::OffsetNotAvailable`] until this leader's first entry is committed, if there are
    /// records beyond the high watermark known before: a client may have seen a higher one (G63).
    pub fn list_offset(
        &self,
        leader_epoch: LeaderEpoch,
        spec: OffsetSpec,
    ) -> Result<ListedOffset, Refusal> {
        self.fence(leader_epoch)?;
        let offsets = self.offsets();
        let offset = match spec {
            OffsetSpec::Earliest => offsets.start(),
            OffsetSpec::Latest(isolation) => {
                // Nothing can be committed beyond the end, so one that is there is exact.
                let is_exact = offsets.high_watermark() == offsets.end();
                if !self.knows_high_watermark() && !is_exact {
                    return Err(Refusal::OffsetNotAvailable);
                }
                self.read_limit(isolation)
            }
        };
        let is_latest = matches!(spec, OffsetSpec::Latest(_));
        // Whatever is written at the end, this leader writes it.
        let leader_epoch = if is_latest || offset == offsets.end() {
            self.leader_epoch()
        } else {
            self.epochs().epoch_at(offset).unwrap_or(LeaderEpoch::UNKNOWN)
        };
        Ok(ListedOffset { offset, leader_epoch })
    }

    /// The largest epoch ≤ `epoch` that has records, and the offset behind its last one (G80); the
    /// leader's own ends at the end, whether it has records or not.
    /// Unknown and unknown when `epoch` is unknown or lies ahead of ours.
    ///
    /// # Errors
    /// Not leader, or `current` (the epoch the client believes in) is fenced or unknown.
    pub fn end_offset_for_epoch(
        &self,
        current: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), Refusal> {
        self.fence(current)?;
        const NOTHING: (LeaderEpoch, Offset) = (LeaderEpoch::UNKNOWN, Offset::UNKNOWN);
        let ours = self.leader_epoch();
        if epoch == LeaderEpoch::UNKNOWN || epoch > ours {
            return Ok(NOTHING);
        }
        // What a held log lost counts, or clients that have read it would call it truncated.
        let end = self.held.unwrap_or(self.offsets().end());
        let known = if epoch == ours { None } else { self.epochs().end_of(epoch, end) };
        Ok(known.unwrap_or((epoch, end)))
    }

    /// Behind the last record a consumer of this isolation may see.
    pub(super) fn read_limit(&self, isolation: Isolation) -> Offset {
        self.offsets().limit(isolation)
    }
}

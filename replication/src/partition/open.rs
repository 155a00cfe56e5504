//! From what the disk remembers to a partition that serves.
//!
//! ```text
//!   saved state ──► settled batches it does not know ──► entries behind the settled ones ──► open
//!   (producers, epochs)      (rebuild)                        (take_open_end)
//! ```
//!
//! Does: check that state, settled records and entries make one log, and take each of them into
//! the tables exactly once.
//! Does not: read any of them; recovery has.
//! Invariants: damage is an error that says what to do, never a panic; without a state the same
//! partition comes back, as long as the settled batches' headers are given.
//! Apart because opening happens once, and serving need not know how.

use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::entry::{AbortedTransaction, Entry, HardState, Payload};
use flumen_protocol::ids::{LeaderEpoch, LogId, LogIndex, NodeId, Offset, Term};
use flumen_protocol::time::Now;

use super::aborted::Aborted;
use super::offsets::Offsets;
use super::partition::{Partition, Standing, written_by};
use super::snapshot::{self, Control, Restored};
use super::transactions::Unverified;
use super::waiting::Waiting;
use crate::error::StateError;
use crate::limits::EXPIRY_SWEEP_INTERVAL;
use crate::outbox::Outbox;
use crate::raft::group::{Group, GroupBoot};

/// What a topic's configuration and the broker's decide about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSettings {
    /// How many producers are remembered; at least one. Beyond it the ones silent for longest are
    /// forgotten, and any sequence is taken from them.
    pub max_producer_ids: usize,
    /// How long a silent producer is remembered (`producer.id.expiration.ms`), not counting the time
    /// before this process ran.
    pub producer_expiry: Duration,
    /// Whether the broker stamps its own time (`message.timestamp.type=LogAppendTime`).
    pub append_time: bool,
    /// Whether an entry counts as durable at once, because the topic's owner set
    /// `flush.messages` or `flush.ms`. A crash may then lose what was acknowledged. Switching it
    /// on also releases what waits at that moment, with the next append.
    pub relaxed: bool,
    /// Whether committed entries are handed out as
    /// [`Effect::Committed`](crate::outbox::Effect::Committed).
    pub replay: bool,
}

/// A settled batch as far as a partition must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledBatch {
    /// Its header.
    pub header: BatchHeader,
    /// What it says if it is a marker.
    pub marker: Option<EndMarker>,
}

impl SettledBatch {
    /// What a batch as it is stored says; `None` if it is none.
    #[must_use]
    pub fn of(batch: &[u8]) -> Option<Self> {
        let header = BatchHeader::parse(batch)?;
        Some(Self { header, marker: EndMarker::read(batch) })
    }
}

/// What a partition is opened from: what the disk remembers, and who its replicas are.
#[derive(Clone, Debug)]
pub struct PartitionBoot {
    /// Which partition.
    pub log: LogId,
    /// This node.
    pub me: NodeId,
    /// All replicas, this node among them. Alone, the partition opens as leader.
    pub voters: Vec<NodeId>,
    /// As last persisted.
    pub hard_state: HardState,
    /// The last settled entry: committed, and no longer among `entries`.
    pub settled: (LogIndex, Term),
    /// Where the settled records end.
    pub settled_end: Offset,
    /// The log's start, as storage has it: see
    /// [`Effect::StartOffset`](crate::outbox::Effect::StartOffset).
    pub start_offset: Offset,
    /// [`StateSnapshot::bytes`](super::StateSnapshot::bytes) as saved at any time; empty if there is none.
    pub state: Bytes,
    /// Its aborted transactions as last saved ([`UnsavedAborted`](super::UnsavedAborted)), by marker.
    pub aborted: Vec<AbortedTransaction>,
    /// The settled batches the state does not know, that is from
    /// [`covered_end`](super::covered_end) on (from the start without a state), in log order.
    /// May be left out: producers and their transactions are then unknown and epochs begin later.
    pub rebuild: Vec<SettledBatch>,
    /// Every durable entry behind `settled`, in log order.
    pub entries: Vec<Entry>,
    /// The configuration.
    pub settings: PartitionSettings,
    /// Spreads election timeouts; differs from replica to replica.
    pub election_seed: u64,
}

impl Partition {
    /// Opens a partition. Alone it leads at once, in a new term, and its effects say so; what the
    /// journal held is committed, so that nobody sees a shorter log after a start than before.
    ///
    /// # Errors
    /// What the disk gave back is not a partition, see [`StateError`].
    pub fn open(boot: PartitionBoot, now: Now, out: &mut Outbox) -> Result<Self, StateError> {
        assert!(boot.settings.max_producer_ids > 0, "configuration is checked by the broker");
        let mut restored = match boot.state.is_empty() {
            true => Restored::nothing(),
            false => snapshot::read(&boot.state, now.monotonic)?,
        };
        let log_end = check_entries(&boot)?;
        restored.forget_from(agreed_end(&restored, &boot.entries, log_end));
        let known_end = restored.end.max(boot.settled_end);
        let aborted =
            Aborted::from_saved(&boot.aborted, known_end).ok_or(StateError::AbortedRotten)?;
        let bounds = (boot.start_offset, boot.settled_end, log_end);
        let offsets = opening_offsets(bounds, restored.producers.first_open())?;
        let log_term = boot.entries.last().map_or(boot.settled.1, |entry| entry.term);
        let term = boot.hard_state.term.max(log_term);
        if restored.epochs.rows().last().is_some_and(|last| last.epoch > term.epoch()) {
            // Of a log this member was never in: the next append would go back to an earlier epoch.
            return Err(StateError::StateRotten);
        }
        let group = Group::open(
            GroupBoot {
                log: boot.log,
                me: boot.me,
                voters: boot.voters,
                hard_state: boot.hard_state,
                settled: boot.settled,
                entries: boot.entries,
                loss_allowed: boot.settings.relaxed,
            },
            boot.election_seed,
        )?;
        let on_disk = group.durable();
        let mut partition = Self {
            group,
            offsets,
            epochs: restored.epochs,
            producers: restored.producers,
            aborted,
            unverified: Unverified::default(),
            waiting: Waiting::default(),
            settings: boot.settings,
            standing: Standing::Open,
            held: None,
            covered: restored.end,
            start_kept: boot.start_offset,
            start_told: boot.start_offset,
            first_own: LogIndex::ZERO,
            on_disk,
            opened_with: on_disk,
            next_sweep: now.monotonic.after(EXPIRY_SWEEP_INTERVAL),
            followed: false,
        };
        partition.rebuild(&boot.rebuild, now, out)?;
        partition.offsets = opening_offsets(bounds, partition.producers.first_open())?;
        partition.take_open_end()?;
        partition.epochs.truncate_prefix(partition.offsets.start());
        partition.aborted.truncate_prefix(partition.offsets.start());
        partition.settle(now, out);
        if partition.group.is_alone() {
            partition.group.campaign();
            partition.settle(now, out);
            assert!(partition.is_leader(), "an election of one is won");
        }
        Ok(partition)
    }

    /// Accounts for settled batches that the saved state does not know.
    fn rebuild(
        &mut self,
        settled: &[SettledBatch],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), StateError> {
        let covered = self.covered;
        for SettledBatch { header, marker } in settled {
            let offset = header.base_offset;
            if offset < covered {
                continue;
            }
            let last = self.epochs.rows().last();
            let follows = last.is_none_or(|row| {
                row.epoch == header.leader_epoch
                    || (row.epoch < header.leader_epoch && row.first_offset < offset)
            });
            if !follows || header.last_offset() >= self.offsets.end() {
                return Err(StateError::SettledBroken { offset });
            }
            self.epochs.record(header.leader_epoch, offset);
            let write = header.has_producer().then(|| written_by(header, *marker)).flatten();
            write.into_iter().for_each(|write| self.commit(&write, now.monotonic, out));
        }
        self.covered = covered.max(self.offsets.high_watermark());
        Ok(())
    }

    /// Takes the entries behind the settled ones into offsets and epochs. Producers follow when
    /// they commit, or when this node leads.
    fn take_open_end(&mut self) -> Result<(), StateError> {
        for (_, term, payload) in self.group.unapplied() {
            let Payload::Records(records) = payload else { continue };
            self.offsets.extend(records.last_offset.after(1));
            if records.base_offset < self.covered {
                continue;
            }
            if self.epochs.rows().last().is_some_and(|last| last.epoch > term.epoch()) {
                // The state is of a log that was lost and written anew.
                return Err(StateError::StateRotten);
            }
            self.epochs.record(term.epoch(), records.base_offset);
        }
        Ok(())
    }
}

/// Up to where a saved state speaks of this log. On a topic that does not wait for the disk it may know
/// records that a crash took, and others may stand there since: in a later term.
fn agreed_end(state: &Restored, entries: &[Entry], log_end: Offset) -> Offset {
    let mut records = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Records(records) => Some((records.base_offset, entry.term.epoch())),
        Payload::Empty | Payload::Control(_) => None,
    });
    let is_other = |(offset, epoch): &(Offset, LeaderEpoch)| {
        *offset < state.end && state.epochs.epoch_at(*offset) != Some(*epoch)
    };
    let other = records.find(is_other).map(|(offset, _)| offset);
    other.unwrap_or(log_end).min(log_end)
}

/// Checks that the entries' payloads make a log; says where it ends.
fn check_entries(boot: &PartitionBoot) -> Result<Offset, StateError> {
    let mut end = boot.settled_end;
    for entry in &boot.entries {
        let sound = match &entry.payload {
            Payload::Empty => true,
            Payload::Control(bytes) => match Control::read(bytes) {
                Some(Control::DeleteRecords { before: _ }) => true,
                None => return Err(StateError::ControlRotten { index: entry.index }),
            },
            Payload::Records(records) => {
                let (base, last) = (records.base_offset, records.last_offset);
                let follows = base == end && last >= base && last.0 < i64::MAX;
                end = if follows { last.after(1) } else { end };
                follows && BatchHeader::parse(&records.bytes).is_some()
            }
        };
        if !sound {
            return Err(StateError::EntriesBroken { index: entry.index });
        }
    }
    Ok(end)
}

/// The start may already lie among the entries: the deletion that moved it is one of them, and
/// moves it again when it is applied.
fn opening_offsets(
    (start, settled_end, end): (Offset, Offset, Offset),
    open: Option<Offset>,
) -> Result<Offsets, StateError> {
    let broken = StateError::OffsetsBroken { start, settled_end };
    if start > end {
        return Err(broken);
    }
    Offsets::settled(start.min(settled_end), settled_end, open).ok_or(broken)
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LeaderEpoch, PartitionIndex, TopicId};
    use flumen_protocol::time::{Monotonic, Wall};

    use super::super::epochs::{EpochStart, Epochs};
    use super::super::producers::Producers;
    use super::*;

    #[test]
    fn a_state_of_a_later_epoch_than_its_log_is_refused() {
        let now = Now { monotonic: Monotonic(1), wall: Wall(1) };
        let opened = |epoch: i32| {
            let first = EpochStart { epoch: LeaderEpoch(epoch), first_offset: Offset::ZERO };
            let epochs = Epochs::from_rows(vec![first]).expect("one row ascends");
            let (index, term) = (LogIndex(5), Term(3));
            let boot = PartitionBoot {
                log: LogId { topic: TopicId([9; 16]), partition: PartitionIndex(0) },
                me: NodeId(1),
                voters: vec![NodeId(1)],
                hard_state: HardState { term, vote: None, commit: index },
                settled: (index, term),
                settled_end: Offset(1),
                start_offset: Offset::ZERO,
                state: snapshot::write((Offset(1), Offset(1)), &epochs, &mut Producers::default()),
                aborted: Vec::new(),
                rebuild: Vec::new(),
                entries: Vec::new(),
                settings: PartitionSettings {
                    max_producer_ids: 1,
                    producer_expiry: Duration::from_secs(1),
                    append_time: false,
                    relaxed: false,
                    replay: false,
                },
                election_seed: 1,
            };
            Partition::open(boot, now, &mut Outbox::new()).map(|_| ())
        };
        assert_eq!(opened(3), Ok(()));
        assert_eq!(opened(4), Err(StateError::StateRotten));
    }
}

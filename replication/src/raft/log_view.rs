//! What the `raft` crate may read of our log, and the payloads that travel beside it.
//!
//! Does: keep, from the first unapplied entry on, each entry's term, its compact reference and its
//! payload; answer the `raft` crate's questions about indices and terms.
//! Does not: hold what is applied, or anything durable; the journal does.
//! Invariants: slots follow each other without gap from `floor` on; terms never fall; a reference
//! always matches its payload.
//! Apart because the crate's storage trait and our payloads must meet in one place and no other.

use std::collections::VecDeque;

use ::raft::eraftpb::{ConfState, Entry as RaftEntry, HardState as RaftHardState, Snapshot};
use ::raft::{GetEntriesContext, RaftState, Storage, StorageError};
use bytes::Bytes;
use flumen_protocol::entry::{Entry, Payload};
use flumen_protocol::ids::{LogIndex, Offset, Term};

use crate::limits::VIEW_SLOTS_IDLE;

/// What Raft orders in place of an entry's bytes: 25 bytes, whatever the payload weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference(Bytes);

impl Reference {
    /// Kind, base offset, last offset, length and checksum of `payload`. An empty payload has an
    /// empty reference, because the `raft` crate itself proposes such entries.
    pub fn to(payload: &Payload) -> Self {
        let (kind, base, last, bytes) = match payload {
            Payload::Empty => return Self(Bytes::new()),
            Payload::Records(records) => {
                (1, records.base_offset, records.last_offset, &records.bytes)
            }
            Payload::Control(bytes) => (2, Offset::UNKNOWN, Offset::UNKNOWN, bytes),
        };
        let length = u32::try_from(bytes.len()).expect("an entry is far below 4 GiB");
        let mut reference = [0; 25];
        reference[0] = kind;
        reference[1..9].copy_from_slice(&base.0.to_be_bytes());
        reference[9..17].copy_from_slice(&last.0.to_be_bytes());
        reference[17..21].copy_from_slice(&length.to_be_bytes());
        reference[21..25].copy_from_slice(&checksum(payload).to_be_bytes());
        Self(Bytes::copy_from_slice(&reference))
    }

    /// As the `raft` crate carries it.
    pub fn into_data(self) -> Bytes {
        self.0
    }
}

/// A batch already carries a CRC over all its records, four bytes from byte 17 on; taking that
/// costs nothing. Control payloads are small and summed here (FNV-1a).
fn checksum(payload: &Payload) -> u32 {
    const BATCH_CRC: std::ops::Range<usize> = 17..21;
    match payload {
        Payload::Empty => 0,
        Payload::Records(records) => records
            .bytes
            .get(BATCH_CRC)
            .map_or(0, |crc| crc.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))),
        Payload::Control(bytes) => bytes
            .iter()
            .fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)),
    }
}

#[derive(Debug)]
struct Slot {
    term: Term,
    reference: Bytes,
    payload: Payload,
}

/// The unapplied end of a log.
#[derive(Debug)]
pub struct LogView {
    /// The last applied entry: slots begin behind it.
    floor: (LogIndex, Term),
    slots: VecDeque<Slot>,
    /// What the `raft` crate is told at its start, and never again.
    initial: RaftState,
}

impl LogView {
    pub(super) fn new(
        floor: (LogIndex, Term),
        entries: Vec<Entry>,
        hard_state: RaftHardState,
        voters: Vec<u64>,
    ) -> Self {
        let conf_state = ConfState { voters, ..ConfState::default() };
        let initial = RaftState::new(hard_state, conf_state);
        let mut view = Self { floor, slots: VecDeque::new(), initial };
        for entry in entries {
            assert_eq!(entry.index, view.last_index().next(), "entries follow each other");
            let reference = Reference::to(&entry.payload).into_data();
            view.push(entry.term, reference, entry.payload);
        }
        view
    }

    /// The last entry there is.
    pub(super) fn last_index(&self) -> LogIndex {
        LogIndex(self.floor.0.0 + self.slots.len() as u64)
    }

    /// The last applied entry and its term.
    pub(super) fn floor(&self) -> (LogIndex, Term) {
        self.floor
    }

    /// How many entries are not yet applied.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds an entry at the end. `data` is the reference the `raft` crate ordered.
    pub(super) fn push(&mut self, term: Term, data: Bytes, payload: Payload) {
        assert!(term >= self.last_term(), "terms never fall");
        debug_assert_eq!(data, Reference::to(&payload).into_data(), "the reference matches");
        self.slots.push_back(Slot { term, reference: data, payload });
    }

    /// Takes the first unapplied entry out: it is applied from now on.
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let slot = self.slots.pop_front()?;
        self.floor = (self.floor.0.next(), slot.term);
        if self.slots.is_empty() && self.slots.capacity() > VIEW_SLOTS_IDLE {
            self.slots.shrink_to(VIEW_SLOTS_IDLE);
        }
        Some(Entry { index: self.floor.0, term: slot.term, payload: slot.payload })
    }

    /// The unapplied entries' indices, terms and payloads, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LogIndex, Term, &Payload)> {
        let first = self.floor.0.0 + 1;
        self.slots
            .iter()
            .enumerate()
            .map(move |(n, slot)| (LogIndex(first + n as u64), slot.term, &slot.payload))
    }

    /// The unapplied entry holding the record at `offset`, if it is among them.
    pub(super) fn index_of(&self, offset: Offset) -> Option<LogIndex> {
        // From the end: who asks repeats one of a producer's last five batches.
        let holds = |slot: &&Slot| match &slot.payload {
            Payload::Records(records) => {
                records.base_offset <= offset && offset <= records.last_offset
            }
            Payload::Empty | Payload::Control(_) => false,
        };
        let back = self.slots.iter().rev().position(|slot| holds(&slot))?;
        Some(LogIndex(self.last_index().0 - back as u64))
    }

    fn last_term(&self) -> Term {
        self.slots.back().map_or(self.floor.1, |slot| slot.term)
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        let place = index.checked_sub(self.floor.0.0 + 1)?;
        self.slots.get(usize::try_from(place).ok()?)
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft_result::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft_result::Result<Vec<RaftEntry>> {
        if low <= self.floor.0.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last_index().0 + 1, "reading behind the end of the log");
        let mut budget = bytes_max.into().unwrap_or(u64::MAX);
        let mut entries = Vec::with_capacity((high - low) as usize);
        for index in low..high {
            let Some(slot) = self.slot(index) else { break };
            let bytes = slot.reference.len() as u64;
            if bytes > budget && !entries.is_empty() {
                break;
            }
            budget = budget.saturating_sub(bytes);
            entries.push(RaftEntry {
                index,
                term: slot.term.0,
                data: slot.reference.clone(),
                ..RaftEntry::default()
            });
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft_result::Result<u64> {
        if index == self.floor.0.0 {
            return Ok(self.floor.1.0);
        }
        match self.slot(index) {
            Some(slot) => Ok(slot.term.0),
            None if index < self.floor.0.0 => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft_result::Result<u64> {
        Ok(self.floor.0.0 + 1)
    }

    fn last_index(&self) -> raft_result::Result<u64> {
        Ok(LogView::last_index(self).0)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft_result::Result<Snapshot> {
        // Asked only for a follower that is behind the floor. It has to wait.
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

/// The `raft` crate's result under a name that does not hide our own.
mod raft_result {
    pub type Result<T> = ::raft::Result<T>;
}

#[cfg(test)]
mod tests {
    use flumen_protocol::entry::Records;

    use super::*;

    fn records(base: i64, last: i64) -> Payload {
        Payload::Records(Records {
            base_offset: Offset(base),
            last_offset: Offset(last),
            max_timestamp: -1,
            bytes: Bytes::from_static(&[7; 61]),
        })
    }

    fn view() -> LogView {
        let payloads = [Payload::Empty, records(10, 14), records(15, 15)];
        let entry = |(n, payload): (u64, Payload)| Entry {
            index: LogIndex(5 + n),
            term: Term(2 + n / 2),
            payload,
        };
        let entries = (0u64..).zip(payloads).map(entry).collect();
        LogView::new((LogIndex(4), Term(2)), entries, RaftHardState::default(), vec![1])
    }

    #[test]
    fn terms_are_known_from_the_floor_to_the_end() {
        let view = view();
        assert_eq!((view.term(4), view.term(6), view.term(7)), (Ok(2), Ok(2), Ok(3)));
        assert_eq!(view.term(3), Err(StorageError::Compacted.into()));
        assert_eq!(view.term(8), Err(StorageError::Unavailable.into()));
    }

    #[test]
    fn an_offset_is_found_in_the_entry_that_holds_it() {
        let view = view();
        assert_eq!(view.index_of(Offset(12)), Some(LogIndex(6)));
        assert_eq!(view.index_of(Offset(15)), Some(LogIndex(7)));
        assert_eq!(view.index_of(Offset(9)), None);
    }

    #[test]
    fn applied_entries_leave_at_the_front() {
        let mut view = view();
        assert_eq!(view.pop_front().map(|entry| entry.payload), Some(Payload::Empty));
        assert_eq!(view.floor(), (LogIndex(5), Term(2)));
        assert_eq!(view.first_index(), Ok(6));
        assert_eq!((view.len(), LogView::last_index(&view)), (2, LogIndex(7)));
    }

    #[test]
    fn reading_stops_at_the_byte_budget_but_gives_at_least_one() {
        let view = view();
        let read = |bytes| {
            let found = view.entries(6, 8, bytes, GetEntriesContext::empty(false));
            found.expect("they are there").len()
        };
        assert_eq!((read(0), read(49), read(50)), (1, 1, 2));
    }

    #[test]
    fn references_differ_when_payloads_do() {
        assert_ne!(Reference::to(&records(1, 2)), Reference::to(&records(1, 3)));
        let control = |text: &'static [u8]| Payload::Control(Bytes::from_static(text));
        assert_ne!(Reference::to(&control(b"ab")), Reference::to(&control(b"ba")));
        assert_eq!(Reference::to(&Payload::Empty).into_data().len(), 0);
    }
}

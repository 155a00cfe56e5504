//! The entries of one log that are not in segments yet.
//!
//! Does: keep them in memory, in order, for readers and for the next settle.
//! Does not: know whether they are durable or committed; the journal and the replication core do.
//! Invariants: indices are contiguous, terms never fall, offsets are contiguous.
//! Apart because it is the only copy in memory of what the journal holds.

use std::collections::VecDeque;

use flumen_protocol::entry::{Entry, Payload, Records};
use flumen_protocol::ids::{LogIndex, Offset, Term};

use crate::reader::assemble::Selection;

/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = size_of::<Unsettled>();

#[derive(Clone, Debug)]
struct Unsettled {
    entry: Entry,
    /// One after the log's last offset once this entry is in it.
    end: Offset,
}

/// Unsettled entries, oldest first.
#[derive(Debug)]
pub struct Tail {
    /// What lies before the first entry.
    before: (LogIndex, Term, Offset),
    entries: VecDeque<Unsettled>,
    bytes: usize,
}

impl Tail {
    /// Nothing after the settled entry of this index and term, which ends before offset `end`.
    #[must_use]
    pub fn after(settled: (LogIndex, Term), end: Offset) -> Self {
        Self { before: (settled.0, settled.1, end), entries: VecDeque::new(), bytes: 0 }
    }

    /// Index and term of the last entry, settled or not.
    #[must_use]
    pub fn last(&self) -> (LogIndex, Term) {
        match self.entries.back() {
            Some(last) => (last.entry.index, last.entry.term),
            None => (self.before.0, self.before.1),
        }
    }

    /// One after the last offset.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.entries.back().map_or(self.before.2, |last| last.end)
    }

    /// Index of the last settled entry: what follows it is here.
    #[must_use]
    pub fn settled(&self) -> LogIndex {
        self.before.0
    }

    /// The offset after the last settled one: where memory begins.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.before.2
    }

    /// Bytes in memory, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of what the entries carry, without the overhead.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes - self.entries.len() * ENTRY_BYTES
    }

    /// Whether everything is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the next entry.
    ///
    /// # Panics
    /// When it does not follow the last: our own bug.
    pub fn push(&mut self, entry: Entry) {
        let (index, term) = self.last();
        assert_eq!(entry.index, index.next(), "entries follow each other");
        assert!(entry.term >= term, "terms never fall");
        let mut end = self.end();
        if let Payload::Records(records) = &entry.payload {
            assert_eq!(records.base_offset, end, "offsets follow each other");
            assert!(records.last_offset >= records.base_offset, "a batch has an offset");
            end = records.last_offset.after(1);
        }
        self.bytes += cost(&entry);
        self.entries.push_back(Unsettled { entry, end });
    }

    /// Drops every entry from `from` on.
    ///
    /// # Panics
    /// When that would cut what is settled: our own bug.
    pub fn cut(&mut self, from: LogIndex) {
        assert!(from > self.before.0, "what is settled is committed and never cut");
        while self.entries.back().is_some_and(|last| last.entry.index >= from) {
            self.bytes -= self.entries.pop_back().map_or(0, |last| cost(&last.entry));
        }
    }

    /// How many entries from the first on, at most up to `up_to`, have about `bytes_max`; and
    /// index and term of the last of them. `None`: nothing to settle.
    #[must_use]
    pub fn settleable(
        &self,
        up_to: LogIndex,
        bytes_max: usize,
    ) -> Option<(usize, (LogIndex, Term))> {
        let mut bytes = 0;
        let mut chosen = None;
        for (place, Unsettled { entry, .. }) in self.entries.iter().enumerate() {
            bytes += cost(entry);
            if entry.index > up_to || (bytes > bytes_max && chosen.is_some()) {
                break;
            }
            chosen = Some((place + 1, (entry.index, entry.term)));
        }
        chosen
    }

    /// One after the last offset of the first `count` entries, and of what is settled.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn end_after(&self, count: usize) -> Offset {
        count.checked_sub(1).map_or(self.before.2, |last| self.entries[last].end)
    }

    /// The batches among the first `count` entries.
    pub fn batches(&self, count: usize) -> impl Iterator<Item = &Records> {
        self.entries.iter().take(count).filter_map(|unsettled| match &unsettled.entry.payload {
            Payload::Records(records) => Some(records),
            Payload::Empty | Payload::Control(_) => None,
        })
    }

    /// Drops the first `count` entries, which are settled now; gives back their batches.
    pub fn settle(&mut self, count: usize) -> Vec<Records> {
        assert!(count <= self.entries.len(), "settled more than there is");
        let mut batches = Vec::new();
        for Unsettled { entry, end } in self.entries.drain(..count) {
            self.bytes -= cost(&entry);
            self.before = (entry.index, entry.term, end);
            match entry.payload {
                Payload::Records(records) => batches.push(records),
                Payload::Empty | Payload::Control(_) => {}
            }
        }
        if self.entries.is_empty() {
            // An idle log keeps no room for entries.
            self.entries = VecDeque::new();
        }
        batches
    }

    /// The batches from the one with `offset` on, which must not be settled.
    pub fn from(&self, offset: Offset) -> impl Iterator<Item = &Records> {
        assert!(offset >= self.before.2, "the tail begins after what is settled");
        let skip = self.entries.partition_point(|unsettled| unsettled.end <= offset);
        self.entries.range(skip..).filter_map(|unsettled| match &unsettled.entry.payload {
            Payload::Records(records) => Some(records),
            Payload::Empty | Payload::Control(_) => None,
        })
    }

    /// Offers the batches from the one with `offset` on.
    pub fn offer_from(&self, offset: Offset, selection: &mut Selection) {
        let _ =
            self.from(offset).all(|records| selection.offer(records.last_offset, &records.bytes));
    }
}

fn cost(entry: &Entry) -> usize {
    ENTRY_BYTES
        + match &entry.payload {
            Payload::Empty => 0,
            Payload::Records(records) => records.bytes.len(),
            Payload::Control(bytes) => bytes.len(),
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn records(index: u64, base: i64) -> Entry {
        let (base_offset, last_offset) = (Offset(base), Offset(base + 4));
        let bytes = Bytes::from(vec![0; 100]);
        let records = Records { base_offset, last_offset, max_timestamp: 0, bytes };
        Entry { index: LogIndex(index), term: Term(1), payload: Payload::Records(records) }
    }

    #[test]
    fn control_entries_take_an_index_and_no_offset() {
        let mut tail = Tail::after((LogIndex(0), Term(0)), Offset(0));
        tail.push(Entry { index: LogIndex(1), term: Term(1), payload: Payload::Empty });
        tail.push(records(2, 0));
        let control = Payload::Control(Bytes::from_static(b"c"));
        tail.push(Entry { index: LogIndex(3), term: Term(1), payload: control });
        tail.push(records(4, 5));
        assert_eq!(tail.end(), Offset(10));
        assert_eq!(tail.from(Offset(5)).map(|r| r.base_offset.0).collect::<Vec<_>>(), [5]);
        assert_eq!(tail.from(Offset(4)).map(|r| r.base_offset.0).collect::<Vec<_>>(), [0, 5]);
        assert_eq!(tail.settleable(LogIndex(3), 1), Some((1, (LogIndex(1), Term(1)))));
        assert_eq!(tail.settleable(LogIndex(3), 9999), Some((3, (LogIndex(3), Term(1)))));
        assert_eq!(tail.settle(3).len(), 1);
        assert_eq!((tail.first_offset(), tail.last().0), (Offset(5), LogIndex(4)));
        tail.cut(LogIndex(4));
        assert_eq!((tail.end(), tail.bytes()), (Offset(5), 0));
        assert_eq!(tail.settleable(LogIndex(9), 9999), None);
    }
}

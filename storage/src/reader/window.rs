//! Cold data that was read and verified a moment ago.
//!
//! Does: keep runs of batches for the reader that goes on where they end, and for others at the
//! same place.
//! Does not: mix with the tail cache; cold readers only displace each other.
//! Invariants: the batches of a window are contiguous; windows of one log do not overlap: one that
//! begins in the middle of another would hide what that one has behind it.
//! Apart because it has its own budget.

use std::collections::BTreeMap;

use flumen_protocol::ids::{LogId, Offset};

use super::assemble::{Batch, Selection};

#[derive(Debug)]
struct Window {
    used: u64,
    end: Offset,
    bytes: usize,
    batches: Vec<Batch>,
}

/// The windows of one core.
#[derive(Debug)]
pub struct Windows {
    /// By log and first offset.
    windows: BTreeMap<(LogId, Offset), Window>,
    uses: u64,
    bytes: usize,
    budget: usize,
}

impl Windows {
    /// None yet; at most `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self { windows: BTreeMap::new(), uses: 0, bytes: 0, budget }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps batches, cut into contiguous runs, instead of what was known of these offsets. Nothing
    /// else is evicted before [`Windows::trim`].
    pub fn put(&mut self, log: LogId, batches: Vec<Batch>) {
        let mut run: Vec<Batch> = Vec::new();
        for batch in batches {
            if run.last().is_some_and(|last| last.last.after(1) != batch.base) {
                self.put_run(log, std::mem::take(&mut run));
            }
            run.push(batch);
        }
        self.put_run(log, run);
    }

    fn put_run(&mut self, log: LogId, batches: Vec<Batch>) {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return };
        let key = (log, first.base);
        let end = last.last.after(1);
        let bytes = batches.iter().map(|batch| batch.bytes.len() + size_of::<Batch>()).sum();
        self.forget_overlapping(log, first.base, end);
        self.uses += 1;
        self.bytes += bytes;
        self.windows.insert(key, Window { used: self.uses, end, bytes, batches });
    }

    /// Two reads of the same place need not begin or end alike: where a batch looked damaged the
    /// first time and was not, say.
    fn forget_overlapping(&mut self, log: LogId, from: Offset, until: Offset) {
        let before = self.windows.range((log, Offset(i64::MIN))..(log, from)).next_back();
        let across = before.filter(|(_, window)| from < window.end).map(|(key, _)| *key);
        let inside = self.windows.range((log, from)..(log, until)).map(|(key, _)| *key);
        let keys: Vec<_> = across.into_iter().chain(inside).collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// The batches from the one with `offset` on, as far as they lie in one window.
    pub fn from(&mut self, log: LogId, offset: Offset) -> &[Batch] {
        self.uses += 1;
        let found = self.windows.range_mut((log, Offset(i64::MIN))..=(log, offset)).next_back();
        let Some((_, window)) = found.filter(|(_, window)| offset < window.end) else {
            return &[];
        };
        window.used = self.uses;
        let skip = window.batches.partition_point(|batch| batch.last < offset);
        &window.batches[skip..]
    }

    /// Offers batches from the one with `offset` on, over as many windows as follow each other;
    /// says whether that one is here at all.
    pub fn offer_from(&mut self, log: LogId, offset: Offset, selection: &mut Selection) -> bool {
        let mut next = offset;
        loop {
            let batches = self.from(log, next);
            let Some(last) = batches.last() else { return next > offset };
            next = last.last.after(1);
            if !batches.iter().all(|batch| selection.offer(batch.last, &batch.bytes)) {
                return true;
            }
        }
    }

    /// Drops what begins before `start`, all of the log for `None`.
    pub fn forget(&mut self, log: LogId, start: Option<Offset>) {
        let until = start.unwrap_or(Offset(i64::MAX));
        let range = (log, Offset(i64::MIN))..(log, until);
        let keys: Vec<_> = self.windows.range(range).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// Drops what was read between two offsets, one that lies across the second excepted.
    pub fn let_go(&mut self, log: LogId, from: Offset, until: Offset) {
        let across = self.windows.range((log, Offset(i64::MIN))..=(log, from)).next_back();
        let first = across.map_or(from, |((_, base), _)| *base);
        let read = self.windows.range((log, first)..(log, until));
        let read = read.filter(|(_, window)| from < window.end && window.end <= until);
        let keys: Vec<_> = read.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// Drops the least recently used until the budget holds.
    pub fn trim(&mut self) {
        while self.bytes > self.budget
            && let Some((key, _)) = self.windows.iter().min_by_key(|(_, window)| window.used)
        {
            self.remove(*key);
        }
    }

    fn remove(&mut self, key: (LogId, Offset)) {
        if let Some(window) = self.windows.remove(&key) {
            self.bytes -= window.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use bytes::Bytes;
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    const LOG: LogId = LogId { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
    const OTHER: LogId = LogId { topic: TopicId([1; 16]), partition: PartitionIndex(1) };

    /// Windows of five offsets each.
    fn windows(log: LogId) -> Windows {
        let mut windows = Windows::new(1 << 20);
        for first in [0, 5, 10, 15] {
            put(&mut windows, log, first..first + 5);
        }
        windows
    }

    /// One window over these offsets, ten bytes a batch.
    fn put(windows: &mut Windows, log: LogId, offsets: Range<i64>) {
        let batch = |offset| Batch {
            base: Offset(offset),
            last: Offset(offset),
            max_timestamp: -1,
            at: 0,
            bytes: Bytes::from_static(&[0; 10]),
        };
        windows.put(log, offsets.map(batch).collect());
    }

    /// A reader whose batch was hidden read the whole stretch again and again (seed 5200570).
    #[test]
    fn what_was_read_last_is_there_whatever_was_known_of_its_offsets() {
        let all = [0..20, 5..10, 0..7, 9..20, 3..4, 0..20];
        let mut windows = Windows::new(1 << 20);
        for offsets in all {
            put(&mut windows, LOG, offsets.clone());
            for offset in offsets.clone() {
                let found = windows.from(LOG, Offset(offset)).first().map(|batch| batch.base);
                assert_eq!(found, Some(Offset(offset)), "of {offsets:?}");
            }
        }
        let mut once = Windows::new(1 << 20);
        put(&mut once, LOG, 0..20);
        assert_eq!(windows.bytes(), once.bytes(), "what was taken over is not counted");
    }

    fn are_there(windows: &mut Windows) -> [bool; 4] {
        [0, 5, 10, 15].map(|offset| !windows.from(LOG, Offset(offset)).is_empty())
    }

    #[test]
    fn what_was_read_to_its_end_is_let_go() {
        let mut all = windows(LOG);
        let whole = all.bytes();
        all.let_go(LOG, Offset(7), Offset(15));
        assert_eq!(are_there(&mut all), [true, false, false, true]);
        assert_eq!(all.bytes(), whole / 2);
        let mut all = windows(LOG);
        all.let_go(LOG, Offset(5), Offset(14));
        assert_eq!(are_there(&mut all), [true, false, true, true], "the rest is read next");
        all.let_go(LOG, Offset(14), Offset(20));
        assert_eq!(are_there(&mut all), [true, false, false, false]);
        all.let_go(LOG, Offset(20), Offset(30));
        assert_eq!(all.bytes(), whole / 4);
        let mut foreign = windows(OTHER);
        foreign.let_go(LOG, Offset(0), Offset(20));
        assert_eq!(foreign.bytes(), whole);
    }
}

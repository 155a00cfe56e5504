//! The tail cache: settled batches that readers near the end still want.
//!
//! Does: keep refcounted batches under one byte budget for the core, oldest first to go.
//! Does not: hold unsettled batches (those stay in memory anyway) or anything read from disk, so
//! that a cold reader cannot displace the tail.
//! Invariants: the batches of one log are contiguous and end where its settled data ends.
//! Apart because its budget is the difference between serving from memory and from disk.

use std::collections::{BTreeMap, VecDeque};

use flumen_protocol::entry::Records;
use flumen_protocol::ids::{LogId, Offset};

use super::assemble::Selection;

/// What a batch costs besides its bytes: its place in both queues.
const OVERHEAD_BYTES: usize = size_of::<Cached>() + size_of::<(u64, LogId)>();

#[derive(Debug)]
struct Cached {
    stamp: u64,
    records: Records,
}

/// The cache of one core.
#[derive(Debug)]
pub struct TailCache {
    logs: BTreeMap<LogId, VecDeque<Cached>>,
    /// Stamps in the order of arrival; some name batches that are gone already.
    order: VecDeque<(u64, LogId)>,
    stamp: u64,
    bytes: usize,
    budget: usize,
}

impl TailCache {
    /// An empty cache that keeps at most `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        let (logs, order) = (BTreeMap::new(), VecDeque::new());
        Self { logs, order, stamp: 0, bytes: 0, budget }
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a batch in that was just settled.
    pub fn push(&mut self, log: LogId, records: Records) {
        let queue = self.logs.entry(log).or_default();
        if queue.back().is_some_and(|b| b.records.last_offset.after(1) != records.base_offset) {
            self.forget(log);
        }
        self.stamp += 1;
        self.bytes += records.bytes.len() + OVERHEAD_BYTES;
        let queue = self.logs.entry(log).or_default();
        queue.push_back(Cached { stamp: self.stamp, records });
        self.order.push_back((self.stamp, log));
        self.trim();
    }

    /// Drops everything of a log.
    pub fn forget(&mut self, log: LogId) {
        for cached in self.logs.remove(&log).unwrap_or_default() {
            self.bytes -= cached.records.bytes.len() + OVERHEAD_BYTES;
        }
    }

    /// Drops what ends before `start`.
    pub fn forget_before(&mut self, log: LogId, start: Offset) {
        while let Some(queue) = self.logs.get(&log)
            && queue.front().is_some_and(|front| front.records.last_offset < start)
        {
            self.drop_front(log);
        }
    }

    /// Whether the batch with `offset` is here.
    #[must_use]
    pub fn holds(&self, log: LogId, offset: Offset) -> bool {
        self.from(log, offset).next().is_some()
    }

    /// The batches from the one with `offset` on; nothing if that one is not here.
    pub fn from(&self, log: LogId, offset: Offset) -> impl Iterator<Item = &Records> {
        let queue = self
            .logs
            .get(&log)
            .filter(|queue| queue.front().is_some_and(|front| front.records.base_offset <= offset));
        let skip = queue.map_or(0, |q| q.partition_point(|c| c.records.last_offset < offset));
        queue.into_iter().flat_map(move |q| q.range(skip..)).map(|cached| &cached.records)
    }

    /// Offers the batches from the one with `offset` on; says whether more may follow.
    pub fn offer_from(&self, log: LogId, offset: Offset, selection: &mut Selection) -> bool {
        self.from(log, offset).all(|records| selection.offer(records.last_offset, &records.bytes))
    }

    fn trim(&mut self) {
        while self.bytes > self.budget
            && let Some((stamp, log)) = self.order.pop_front()
        {
            let front = self.logs.get(&log).and_then(VecDeque::front);
            if front.is_some_and(|front| front.stamp == stamp) {
                self.drop_front(log);
            }
        }
        // Stamps of forgotten batches must not pile up while the cache is below its budget.
        while let Some((stamp, log)) = self.order.front()
            && self.logs.get(log).and_then(VecDeque::front).is_none_or(|f| f.stamp > *stamp)
        {
            self.order.pop_front();
        }
    }

    fn drop_front(&mut self, log: LogId) {
        let Some(queue) = self.logs.get_mut(&log) else { return };
        if let Some(cached) = queue.pop_front() {
            self.bytes -= cached.records.bytes.len() + OVERHEAD_BYTES;
        }
        if queue.is_empty() {
            self.logs.remove(&log);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    fn log(partition: i32) -> LogId {
        LogId { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
    }

    fn records(base: i64) -> Records {
        let bytes = Bytes::from(vec![0; 1000]);
        Records {
            base_offset: Offset(base),
            last_offset: Offset(base + 4),
            max_timestamp: 0,
            bytes,
        }
    }

    #[test]
    fn the_oldest_goes_first_and_the_budget_holds() {
        let mut cache = TailCache::new(3 * (1000 + OVERHEAD_BYTES));
        cache.push(log(0), records(0));
        cache.push(log(1), records(0));
        cache.push(log(0), records(5));
        cache.push(log(0), records(10));
        assert!(!cache.holds(log(0), Offset(4)));
        assert!(cache.holds(log(0), Offset(5)) && cache.holds(log(1), Offset(0)));
        assert!(!cache.holds(log(0), Offset(15)));
        cache.forget_before(log(0), Offset(12));
        assert!(!cache.holds(log(0), Offset(9)) && cache.holds(log(0), Offset(10)));
        cache.push(log(0), records(20));
        assert!(!cache.holds(log(0), Offset(10)), "a gap makes what came before useless");
        cache.forget(log(0));
        cache.forget(log(1));
        assert_eq!(cache.bytes(), 0);
    }
}

//! The producer ids this core may hand out.
//!
//! Does: give them out one by one from blocks that the controller set aside.
//! Does not: ask for a block; the request that finds none does, and so do all that come until it is there.
//! Invariants: no id is given twice; a block is used up before the next one is begun, and what a
//! stop leaves over is lost on purpose.
//! Apart because a producer id per round to the controller would make every start of a producer
//! wait for the metadata log (G86).

use std::collections::VecDeque;
use std::ops::Range;

use flumen_protocol::ids::ProducerId;

use crate::limits::PRODUCER_ID_BLOCKS;

/// How many ids one block has; Kafka's size. A core that starts a thousand producers asks once.
pub const BLOCK_COUNT: u32 = 1000;

/// What is left of the blocks.
#[derive(Debug, Default)]
pub struct ProducerIds {
    /// Oldest first; none is empty.
    blocks: VecDeque<Range<i64>>,
    /// The end of the youngest block there was.
    end: i64,
}

impl ProducerIds {
    /// An id nobody else has or will get; `None` when every block is used up.
    pub fn take(&mut self) -> Option<ProducerId> {
        let block = self.blocks.front_mut()?;
        let id = block.next();
        if block.is_empty() {
            self.blocks.pop_front();
        }
        id.map(ProducerId)
    }

    /// Takes a new block in. Several come where several requests found none at the same time, and
    /// all are kept: each has cost a durable write, and a client that asks again and again has the
    /// next thousand requests answered for it. Beyond the limit they are dropped; ids are plenty.
    ///
    /// # Panics
    /// When the controller gives ids it gave before.
    pub fn refill(&mut self, first: ProducerId, count: u32) {
        assert!(first.0 >= self.end, "producer ids are never given twice");
        self.end = first.0 + i64::from(count);
        if self.blocks.len() < PRODUCER_ID_BLOCKS && count > 0 {
            self.blocks.push_back(first.0..self.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_up_before_the_next() {
        let mut ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.refill(ProducerId(1000), 2);
        assert_eq!(ids.take(), Some(ProducerId(1000)));
        ids.refill(ProducerId(5000), 1);
        assert_eq!(ids.take(), Some(ProducerId(1001)));
        assert_eq!(ids.take(), Some(ProducerId(5000)), "what was paid for is not thrown away");
        assert_eq!(ids.take(), None);
        ids.refill(ProducerId(7000), 1);
        assert_eq!((ids.take(), ids.take()), (Some(ProducerId(7000)), None));
    }

    #[test]
    fn blocks_beyond_the_limit_are_dropped() {
        let mut ids = ProducerIds::default();
        for block in 0..PRODUCER_ID_BLOCKS as i64 + 5 {
            ids.refill(ProducerId(block * 10), 10);
        }
        let given = std::iter::from_fn(|| ids.take()).count();
        assert_eq!(given, PRODUCER_ID_BLOCKS * 10);
    }
}

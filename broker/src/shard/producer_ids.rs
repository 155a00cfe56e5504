//! The producer ids this core may hand out.
//!
//! Does: give them out one by one from a block that the controller set aside.
//! Does not: ask for a block; the request that finds none does.
//! Invariants: no id is given twice; a block is used up before the next one is begun, and what a
//! stop leaves over is lost on purpose.
//! Apart because a producer id per round to the controller would make every start of a producer
//! wait for the metadata log (G86).

use flumen_protocol::ids::ProducerId;

/// How many ids one block has; Kafka's size. A core that starts a thousand producers asks once.
pub const BLOCK_COUNT: u32 = 1000;

/// What is left of the block.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// An id nobody else has or will get; `None` when the block is used up.
    pub fn take(&mut self) -> Option<ProducerId> {
        (self.next < self.end).then(|| {
            let id = ProducerId(self.next);
            self.next += 1;
            id
        })
    }

    /// Takes a new block in. While the old one lasts the new one is dropped: two requests found
    /// the block used up at the same time, and ids are plenty.
    ///
    /// # Panics
    /// When the controller gives ids it gave before.
    pub fn refill(&mut self, first: ProducerId, count: u32) {
        if self.next < self.end {
            return;
        }
        assert!(first.0 >= self.end, "producer ids are never given twice");
        self.next = first.0;
        self.end = first.0 + i64::from(count);
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
        ids.refill(ProducerId(5000), 2);
        assert_eq!(ids.take(), Some(ProducerId(1001)));
        assert_eq!(ids.take(), None);
        ids.refill(ProducerId(7000), 1);
        assert_eq!((ids.take(), ids.take()), (Some(ProducerId(7000)), None));
    }
}

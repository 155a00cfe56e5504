//! Answers in request order.
//!
//! Does: hand out one slot per request of a connection and give answers out in that order.
//! Does not: write sockets or know what an answer says.
//! Invariants: slots are numbered from zero without gaps; an answer is given out once, and only
//! after every earlier slot was.
//! Apart because it is pure and a Kafka client hangs for good when it is wrong (G18).

use std::collections::VecDeque;

use bytes::Bytes;

/// What became of a slot.
enum Slot {
    /// Its request is still being served.
    Open,
    /// Its answer, possibly no bytes at all (a produce request with acks=0).
    Filled(Vec<Bytes>),
    /// It has no answer; the connection ends here.
    Last,
}

/// What comes next in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This answer.
    Answer(Vec<Bytes>),
    /// The end of the connection.
    Close,
}

/// The open requests of one connection.
#[derive(Default)]
pub struct Slots {
    /// The number of the slot at the front.
    first: u64,
    queue: VecDeque<Slot>,
}

impl Slots {
    /// Reserves the slot of the next request.
    pub fn reserve(&mut self) -> u64 {
        self.queue.push_back(Slot::Open);
        self.first + self.queue.len() as u64 - 1
    }

    /// How many requests are not answered yet.
    pub fn open_count(&self) -> usize {
        self.queue.len()
    }

    /// Fills a slot.
    ///
    /// # Panics
    /// When the slot was never reserved or is filled already: two answers to one request.
    pub fn fill(&mut self, slot: u64, answer: Vec<Bytes>) {
        self.settle(slot, Slot::Filled(answer));
    }

    /// Ends the connection at this slot.
    ///
    /// # Panics
    /// As [`Slots::fill`].
    pub fn fill_last(&mut self, slot: u64) {
        self.settle(slot, Slot::Last);
    }

    fn settle(&mut self, slot: u64, outcome: Slot) {
        let place = usize::try_from(slot.checked_sub(self.first).expect("slot is not given out"))
            .expect("slot distance fits");
        let place = self.queue.get_mut(place).expect("slot was reserved");
        assert!(matches!(place, Slot::Open), "slot is filled once");
        *place = outcome;
    }

    /// Takes what is next in order, if it is there.
    pub fn next_filled(&mut self) -> Option<Next> {
        if matches!(self.queue.front(), Some(Slot::Open) | None) {
            return None;
        }
        self.first += 1;
        match self.queue.pop_front() {
            Some(Slot::Filled(answer)) => Some(Next::Answer(answer)),
            Some(Slot::Last) => Some(Next::Close),
            Some(Slot::Open) | None => unreachable!("the front was just seen filled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_request_order() {
        let mut slots = Slots::default();
        let (a, b, c) = (slots.reserve(), slots.reserve(), slots.reserve());
        slots.fill(b, vec![Bytes::from_static(b"b")]);
        assert!(slots.next_filled().is_none(), "a is still open");
        slots.fill(a, vec![]);
        assert_eq!(slots.next_filled(), Some(Next::Answer(vec![])));
        assert_eq!(slots.next_filled(), Some(Next::Answer(vec![Bytes::from_static(b"b")])));
        assert!(slots.next_filled().is_none());
        assert_eq!(slots.open_count(), 1);
        slots.fill(c, vec![Bytes::from_static(b"c")]);
        assert_eq!(slots.next_filled(), Some(Next::Answer(vec![Bytes::from_static(b"c")])));
    }

    #[test]
    fn the_end_waits_for_the_answers_before_it() {
        let mut slots = Slots::default();
        let (a, b) = (slots.reserve(), slots.reserve());
        slots.fill_last(b);
        assert_eq!(slots.next_filled(), None);
        slots.fill(a, vec![]);
        assert_eq!(slots.next_filled(), Some(Next::Answer(vec![])));
        assert_eq!(slots.next_filled(), Some(Next::Close));
    }

    #[test]
    #[should_panic(expected = "slot is filled once")]
    fn two_answers_to_one_request_abort() {
        let mut slots = Slots::default();
        let slot = slots.reserve();
        slots.fill(slot, vec![]);
        slots.fill(slot, vec![]);
    }
}

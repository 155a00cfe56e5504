//! What will happen, in the order of time.
//!
//! Does: keep events until they are due; events of one instant come in an order drawn for them.
//! Does not: know what an event is.
//! Invariants: time never goes back; the same draws give the same order.
//! Apart because this order is what a seed decides first of all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds of the world's own time since it began.
pub type Nanos = u64;

/// Nanoseconds of a microsecond.
pub const MICROS: Nanos = 1_000;
/// Nanoseconds of a millisecond.
pub const MILLIS: Nanos = 1_000_000;
/// Nanoseconds of a second.
pub const SECONDS: Nanos = 1_000_000_000;

/// Events by the time they are due.
pub struct Heap<E> {
    /// When, the draw, the number of the event, and where it is kept.
    order: BinaryHeap<Reverse<(Nanos, u64, u64, usize)>>,
    events: Vec<Option<E>>,
    /// Places that are free.
    free: Vec<usize>,
    next: u64,
    now: Nanos,
}

impl<E> Heap<E> {
    /// Nothing is going to happen.
    pub fn new() -> Self {
        let (order, events, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { order, events, free, next: 0, now: 0 }
    }

    /// The time of the event taken last.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// At `at`, or now if that has passed, `event` happens; `draw` decides among others of the same time.
    pub fn push(&mut self, at: Nanos, draw: u64, event: E) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(Some(event));
        } else {
            self.events[place] = Some(event);
        }
        self.order.push(Reverse((at.max(self.now), draw, self.next, place)));
        self.next += 1;
    }

    /// What happens next.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, _, place)) = self.order.pop()?;
        self.now = at;
        self.free.push(place);
        self.events[place].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_draw() {
        let mut heap = Heap::new();
        for (at, draw, event) in [(5, 0, 'c'), (1, 9, 'b'), (1, 2, 'a'), (5, 0, 'd')] {
            heap.push(at, draw, event);
        }
        assert_eq!((heap.pop(), heap.pop(), heap.now()), (Some('a'), Some('b'), 1));
        heap.push(0, 0, 'x');
        let rest: Vec<char> = std::iter::from_fn(|| heap.pop()).collect();
        assert_eq!(rest, ['x', 'c', 'd'], "what comes too late comes now");
    }
}

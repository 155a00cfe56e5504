//! What will happen, in the order of time.
//!
//! Does: keep events until they are due; events of one instant come in an order drawn for them.
//! Does not: know what an event is.
//! Invariants: time never goes back; the same draws give the same order.
//! Apart because this order is what a seed decides first of all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

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
    order: BinaryHeap<Reverse<(Nanos, u64, u64)>>,
    events: BTreeMap<u64, E>,
    next: u64,
    now: Nanos,
}

impl<E> Heap<E> {
    /// Nothing is going to happen.
    pub fn new() -> Self {
        Self { order: BinaryHeap::new(), events: BTreeMap::new(), next: 0, now: 0 }
    }

    /// The time of the event taken last.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// At `at`, or now if that has passed, `event` happens; `draw` decides among others of the same time.
    pub fn push(&mut self, at: Nanos, draw: u64, event: E) {
        self.order.push(Reverse((at.max(self.now), draw, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// What happens next.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, name)) = self.order.pop()?;
        self.now = at;
        self.events.remove(&name)
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

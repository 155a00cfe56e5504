//! The door of a core: everything that happens to it lies here until its next turn.
//!
//! Does: collect inputs from connections, disk and other cores, in two queues.
//! Does not: look into them, choose their queue or bound them; each source has its own limit (slots per
//! connection, operations in flight, mailbox depth).
//! Invariants: each queue is first in, first out; used by one thread only.
//! Apart because tasks, connections and pump must share it and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::shard::input::Input;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What others wait for, and little at a time: of the disk, of other cores, of clients that are
    /// known and ask for little.
    First,
    /// What a crowd may bring.
    Behind,
}

/// The inputs of one core that wait for its next turn.
#[derive(Default)]
pub struct Inbox {
    first: RefCell<VecDeque<Input>>,
    behind: RefCell<VecDeque<Input>>,
}

impl Inbox {
    /// Puts an input at the end of those that go first.
    pub fn push(&self, input: Input) {
        self.push_to(Queue::First, input);
    }

    /// Puts an input at the end of a queue.
    pub fn push_to(&self, queue: Queue, input: Input) {
        self.of(queue).borrow_mut().push_back(input);
    }

    /// Takes the oldest input of a queue.
    pub fn pop(&self, queue: Queue) -> Option<Input> {
        self.of(queue).borrow_mut().pop_front()
    }

    /// How many wait in a queue.
    pub fn waiting(&self, queue: Queue) -> usize {
        self.of(queue).borrow().len()
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting(Queue::First) + self.waiting(Queue::Behind)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn of(&self, queue: Queue) -> &RefCell<VecDeque<Input>> {
        match queue {
            Queue::First => &self.first,
            Queue::Behind => &self.behind,
        }
    }
}

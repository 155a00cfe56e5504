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

/// The inputs of one core that wait for its next turn.
#[derive(Default)]
pub struct Inbox {
    /// What others wait for, and little at a time: of the disk, of other cores, of clients that are
    /// known and ask for little.
    first: RefCell<VecDeque<Input>>,
    /// What a crowd may bring.
    behind: RefCell<VecDeque<Input>>,
}

impl Inbox {
    /// Puts an input at the end of those that go first.
    pub fn push(&self, input: Input) {
        self.first.borrow_mut().push_back(input);
    }

    /// Puts an input at the end of those that go behind.
    pub fn push_behind(&self, input: Input) {
        self.behind.borrow_mut().push_back(input);
    }

    /// Takes the oldest of those that go first.
    pub fn pop(&self) -> Option<Input> {
        self.first.borrow_mut().pop_front()
    }

    /// Takes the oldest of those that go behind.
    pub fn pop_behind(&self) -> Option<Input> {
        self.behind.borrow_mut().pop_front()
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.first.borrow().len() + self.behind.borrow().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

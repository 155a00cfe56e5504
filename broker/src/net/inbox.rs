//! The door of a core: everything that happens to it lies here until its next turn.
//!
//! Does: collect inputs from connections, disk and other cores.
//! Does not: look into them or bound them; each source has its own limit (slots per connection,
//! operations in flight, mailbox depth).
//! Invariants: first in, first out; used by one thread only.
//! Apart because tasks, connections and pump must share it and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::shard::input::Input;

/// The inputs of one core that wait for its next turn.
#[derive(Default)]
pub struct Inbox {
    inputs: RefCell<VecDeque<Input>>,
}

impl Inbox {
    /// Puts an input at the end.
    pub fn push(&self, input: Input) {
        self.inputs.borrow_mut().push_back(input);
    }

    /// Takes the oldest input.
    pub fn pop(&self) -> Option<Input> {
        self.inputs.borrow_mut().pop_front()
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.inputs.borrow().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inputs.borrow().is_empty()
    }
}

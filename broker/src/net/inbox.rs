//! The door of a core: everything that happens to it lies here until its next turn.
//!
//! Does: collect inputs from the tasks of this core and wake the pump.
//! Does not: look into them or bound them; each source has its own limit (slots per connection,
//! operations in flight, mailbox depth).
//! Invariants: first in, first out; used by one thread only.
//! Apart because tasks and pump must share it and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::shard::input::Input;

/// The inputs of one core that wait for its next turn.
#[derive(Default)]
pub struct Inbox {
    inputs: RefCell<VecDeque<Input>>,
    /// The pump, when it sleeps.
    sleeper: Cell<Option<Waker>>,
}

impl Inbox {
    /// Puts an input at the end and wakes the pump.
    pub fn push(&self, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        if let Some(waker) = self.sleeper.take() {
            waker.wake();
        }
    }

    /// Takes the oldest input.
    pub fn pop(&self) -> Option<Input> {
        self.inputs.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inputs.borrow().is_empty()
    }

    /// Ready as soon as something waits.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_empty() {
            self.sleeper.set(Some(cx.waker().clone()));
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

//! What waits for a place in the journal.
//!
//! Does: keep contents in the order they were appended, and count their bytes.
//! Does not: refuse; the broker does when [`Queue::bytes`] says that too much waits.
//! Invariants: `bytes` is the sum of the frames of all items.
//! Apart because a queue that is not bounded and counted in one place is not bounded.

use std::collections::VecDeque;

use flumen_protocol::ids::LogId;

use crate::format::frame::{Content, Mark, frame_bytes};

/// One content on its way into the journal.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) log: LogId,
    pub(crate) content: Content,
    /// The journal itself appended it, to keep a hard state alive: nobody waits for it.
    pub(crate) carried: bool,
}

impl Queued {
    /// Bytes its frame will take.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.content.payload_len())
    }

    /// Whether it may take the file that appends must leave: it is what lets an older file go.
    pub(crate) fn makes_room(&self) -> bool {
        match self.content {
            Content::Mark(Mark::Deleted) => true,
            Content::Entry(_) | Content::HardState(_) | Content::Mark(_) => self.carried,
        }
    }
}

/// The contents waiting, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, item: Queued) {
        self.bytes += item.frame_bytes();
        self.items.push_back(item);
    }

    /// Before everything that waits.
    pub(crate) fn push_front(&mut self, item: Queued) {
        self.bytes += item.frame_bytes();
        self.items.push_front(item);
    }

    /// Drops all that waits of a log.
    pub(crate) fn forget(&mut self, log: LogId) {
        self.items.retain(|item| item.log != log);
        self.bytes = self.items.iter().map(Queued::frame_bytes).sum();
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front()?;
        assert!(self.bytes >= item.frame_bytes(), "queue counts its bytes");
        self.bytes -= item.frame_bytes();
        Some(item)
    }

    pub(crate) fn front(&self) -> Option<&Queued> {
        self.items.front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.items.iter()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

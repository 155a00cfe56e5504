//! Produce requests whose batches are being looked into, a piece between two turns.
//!
//! Does: keep them in order, let the first go on by a piece at a time, hold back what their clients
//! asked after them.
//! Does not: look into anything itself; `api/k00_produce.rs` does.
//! Invariants: requests of one connection are opened in the order in which they came; of what is being
//! inflated only the first has more than a piece, so that they hold no more than one batch may inflate
//! to; what is held back is in the budget of requests, and no more than one connection may have open.
//! Apart because a batch that takes a tenth of a second must not have the core for that long.

use std::collections::{BTreeMap, VecDeque};

use flumen_protocol::time::Now;

use super::input::{ConnectionId, Input};
use super::requests::Origin;
use super::shard::Shard;
use crate::api::k00_produce::Opening;
use crate::api::step::Envelope;

/// A request that is not open yet.
struct Inspected {
    origin: Origin,
    envelope: Envelope,
    opening: Box<Opening>,
}

/// The requests of one core that are being looked into.
#[derive(Default)]
pub struct Inspections {
    queue: VecDeque<Inspected>,
    /// What the clients of those asked afterwards. Invariant: has a connection exactly as long as the
    /// queue has a request of it.
    held: BTreeMap<ConnectionId, VecDeque<Input>>,
}

impl Inspections {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a request of this connection is being looked into.
    #[inline]
    pub fn is_of(&self, connection: ConnectionId) -> bool {
        !self.queue.is_empty() && self.held.contains_key(&connection)
    }

    /// Keeps a request back that came after one that is being looked into.
    ///
    /// # Panics
    /// When there is none of its connection.
    pub fn hold(&mut self, connection: ConnectionId, request: Input) {
        self.held.get_mut(&connection).expect("it has one").push_back(request);
    }
}

impl Shard {
    /// A request gives way before it is open.
    pub(super) fn begin_inspection(
        &mut self,
        origin: Origin,
        envelope: Envelope,
        opening: Box<Opening>,
    ) {
        let before = self.inspections.held.insert(origin.connection, VecDeque::new());
        assert!(before.is_none(), "what its client asks next is held back");
        self.inspections.queue.push_back(Inspected { origin, envelope, opening });
    }

    /// Whether a request is being looked into.
    pub fn is_inspecting(&self) -> bool {
        !self.inspections.is_empty()
    }

    /// Lets the first request go on by a piece, between two turns; when it is open, what its client
    /// asked next. The next [`settle`](Self::settle) carries out what comes of it.
    pub fn go_on_inspecting(&mut self, now: Now) {
        self.now = now;
        let Some(Inspected { origin, envelope, opening }) = self.inspections.queue.pop_front()
        else {
            return;
        };
        let step = opening.go_on(&mut self.context(), &envelope);
        let held = self.inspections.held.remove(&origin.connection).expect("it was held back");
        self.take_step(origin, envelope, step);
        // A request that is not done yet is the last of the queue now, and first it shall be.
        if self.inspections.held.contains_key(&origin.connection) {
            let unfinished = self.inspections.queue.pop_back().expect("it gave way again");
            self.inspections.queue.push_front(unfinished);
            self.inspections.held.insert(origin.connection, held);
            return;
        }
        held.into_iter().for_each(|request| self.take_request(request));
    }

    /// Opens a request, or keeps it back behind one of its connection.
    fn take_request(&mut self, request: Input) {
        match request {
            Input::Request { connection, .. } if self.inspections.is_of(connection) => {
                self.inspections.hold(connection, request);
            }
            Input::Request { connection, slot, listener, peer, frame, answer_bytes } => {
                self.open_request((connection, slot), listener, peer, frame, answer_bytes);
            }
            other => unreachable!("{other:?} is not held back"),
        }
    }
}

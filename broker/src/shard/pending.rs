//! Requests that wait.
//!
//! Does: keep every open request of this core with the number of parts still missing and its
//! deadline.
//! Does not: know what a request is about.
//! Invariants: a request is here from its first open part to its answer, and nowhere else; its
//! number is never used twice.
//! Apart because "fan out, wait with a deadline, assemble" is done once for all APIs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flumen_protocol::time::Monotonic;

use super::input::ConnectionId;
use crate::api::step::Envelope;
use crate::api::table::Waiting;

/// A request that waits for parts.
#[derive(Debug)]
pub struct Request {
    /// Whose.
    pub connection: ConnectionId,
    /// Where its answer goes.
    pub slot: u64,
    /// What its header said.
    pub envelope: Envelope,
    /// What is known so far.
    pub waiting: Waiting,
    /// When to answer with what is there.
    pub deadline: Option<Monotonic>,
    /// When it arrived, for the latency histogram.
    pub arrived: Monotonic,
    /// Bytes charged to the memory budget.
    pub bytes: usize,
    /// Bytes counted there for its answer.
    pub answer_bytes: usize,
    /// Its client is gone, and what is being gathered for it is not yet.
    pub is_gone: bool,
}

impl Request {
    /// Whether records or a list are being gathered for it that nobody can call back.
    pub fn is_gathering(&self) -> bool {
        self.answer_bytes > 0 && !self.waiting.waits_for_news()
    }
}

/// The open requests of one core.
#[derive(Default)]
pub struct Pending {
    next: u64,
    open: BTreeMap<u64, Request>,
    deadlines: BTreeSet<(Monotonic, u64)>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
}

impl Pending {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Enters a request and numbers it.
    pub fn insert(&mut self, request: Request) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, number));
        }
        self.by_connection.insert((request.connection, number));
        self.open.insert(number, request);
        number
    }

    /// An open request, if it is still open.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Request> {
        self.open.get_mut(&number)
    }

    /// From now on the request waits only so long, counted from its arrival.
    pub fn limit(&mut self, number: u64, patience: Duration) {
        let Some(request) = self.open.get_mut(&number) else { return };
        if let Some(known) = request.deadline {
            self.deadlines.remove(&(known, number));
        }
        let deadline = request.arrived.after(patience);
        request.deadline = Some(deadline);
        self.deadlines.insert((deadline, number));
    }

    /// Takes a request out, because it will be answered or its client is gone.
    pub fn remove(&mut self, number: u64) -> Option<Request> {
        let request = self.open.remove(&number)?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        self.by_connection.remove(&(request.connection, number));
        Some(request)
    }

    /// The requests of a connection.
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<u64> {
        self.by_connection
            .range((connection, 0)..=(connection, u64::MAX))
            .map(|(_, number)| *number)
            .collect()
    }

    /// The requests that wait for news only.
    pub fn watching(&self) -> Vec<u64> {
        let watching = |request: &Request| request.waiting.waits_for_news();
        self.open.iter().filter(|(_, request)| watching(request)).map(|(n, _)| *n).collect()
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A request whose deadline has passed.
    pub fn expired(&self, now: Monotonic) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, number)| *number)
    }
}

//! The open connections of one core.
//!
//! Does: number connections, count them against the limits, find one by its number, close the
//! idle ones.
//! Does not: read or write them.
//! Invariants: a number is never used twice in a process.
//! Apart because listener, pump and connection tasks all need it and none owns it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::time::Monotonic;
use tracing::warn;

use super::connection::Connection;
use crate::shard::input::ConnectionId;
use crate::shard::memory::RequestMemory;

/// Why a connection was refused before it sent a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `max.connections` of this core is reached.
    TooMany,
    /// `max.connections.per.ip` is reached for this address.
    TooManyOfAddress,
}

/// The limits that a listener checks; each core has its share.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections on this core at once.
    pub total: usize,
    /// Connections from one address on this core at once.
    pub per_address: usize,
    /// Idle time after which a connection is closed.
    pub idle: Duration,
    /// Largest request.
    pub request_bytes: usize,
}

/// The connections of one core.
pub struct Connections {
    limits: ConnectionLimits,
    next: Cell<u64>,
    open: RefCell<BTreeMap<ConnectionId, Rc<Connection>>>,
    addresses: RefCell<BTreeMap<IpAddr, usize>>,
    /// The pump's clock of this turn, so that tasks need none of their own.
    now: Cell<Monotonic>,
}

impl Connections {
    /// None open yet.
    pub fn new(limits: ConnectionLimits, now: Monotonic) -> Self {
        Self {
            limits,
            next: Cell::new(0),
            open: RefCell::default(),
            addresses: RefCell::default(),
            now: Cell::new(now),
        }
    }

    /// The limits of this core.
    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// The clock of the current turn.
    pub fn now(&self) -> Monotonic {
        self.now.get()
    }

    /// Sets the clock; once per turn.
    pub fn set_now(&self, now: Monotonic) {
        self.now.set(now);
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether one more connection of this address may be opened.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn admit(&self, address: IpAddr) -> Result<ConnectionId, Refused> {
        if self.count() >= self.limits.total {
            return Err(Refused::TooMany);
        }
        let mut addresses = self.addresses.borrow_mut();
        let count = addresses.entry(address).or_insert(0);
        if *count >= self.limits.per_address {
            return Err(Refused::TooManyOfAddress);
        }
        *count += 1;
        let id = ConnectionId(self.next.get());
        self.next.set(id.0 + 1);
        Ok(id)
    }

    /// Enters an admitted connection.
    pub fn insert(&self, connection: Rc<Connection>) {
        self.open.borrow_mut().insert(connection.id, connection);
    }

    /// Forgets a connection whose tasks have ended.
    pub fn remove(&self, id: ConnectionId) {
        let Some(connection) = self.open.borrow_mut().remove(&id) else { return };
        let mut addresses = self.addresses.borrow_mut();
        let address = connection.peer.ip();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    /// Gives an answer to its connection; a connection that is gone needs none.
    pub fn respond(&self, id: ConnectionId, slot: u64, answer: Vec<Bytes>) {
        if let Some(connection) = self.open.borrow().get(&id) {
            connection.answer(slot, answer, self.now());
        }
    }

    /// Closes a connection after the answers to everything before this slot.
    pub fn close_at(&self, id: ConnectionId, slot: u64) {
        if let Some(connection) = self.open.borrow().get(&id) {
            connection.close_at(slot);
        }
    }

    /// Closes a connection after the answers that are ready.
    pub fn close(&self, id: ConnectionId) {
        if let Some(connection) = self.open.borrow().get(&id) {
            connection.close();
        }
    }

    /// Lets readers that paused for memory look again.
    pub fn resume_readers(&self) {
        for connection in self.open.borrow().values() {
            connection.wake_reader();
        }
    }

    /// Ends what was idle for too long, and what sends a request too slowly. Nothing was read or
    /// written there, so there is nothing to wait for either.
    pub fn close_idle(&self, memory: &RequestMemory) {
        let now = self.now();
        for connection in self.open.borrow().values() {
            if connection.is_stalled(now, memory) {
                warn!(peer = %connection.peer, "closing a connection: a request does not arrive");
                connection.abort();
            } else if now.since(connection.last_used()) > self.limits.idle {
                connection.abort();
            }
        }
    }

    /// Closes all of them after the answers that are ready; for a stop.
    pub fn close_all(&self) {
        for connection in self.open.borrow().values() {
            connection.close();
        }
    }
}

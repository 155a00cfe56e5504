//! What clients hang on: connections as the broker's side sees them.
//!
//! Does: bring bytes both ways, in order and late; break, lose and clog a connection.
//! Does not: know what is said.
//! Invariants: bytes of a connection are first in, first out in each direction; what was on its way to a client
//! of an ended connection may still arrive, what it had not read does not.
//! Apart because a network has its own ways to fail.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use flumen_broker::net::slots::{Next, Slots};
use flumen_broker::shard::input::{CloseReason, ConnectionId, Input};
use flumen_storage::sim_disk::Dice;

use super::heap::Nanos;
use super::life::Event;
use super::node::{Events, Inside, Node, State, is_of};

/// One connection, as the broker's side sees it.
pub(super) struct Connection {
    client: usize,
    core: usize,
    pub(super) slots: Slots,
    /// When the bytes sent last arrive, in each direction.
    to_core: Nanos,
    to_client: Nanos,
    /// Its client reads nothing before.
    reads_at: Nanos,
    unread: Vec<Bytes>,
    /// Bytes of answers that the core counts because nobody reads them.
    unread_bytes: usize,
}

/// What a client is told.
#[derive(Debug)]
pub enum News {
    Answer(Bytes),
    Closed,
}

impl Node {
    /// Gives the client what is next in order.
    pub(super) fn flush(&mut self, connection: ConnectionId, events: &mut Events, dice: &mut Dice) {
        loop {
            let Some(it) = self.connections.get_mut(&connection) else { return };
            match it.slots.next_filled() {
                None => return,
                Some(Next::Answer(parts)) => {
                    let answer: Bytes = parts.concat().into();
                    if answer.is_empty() {
                        continue;
                    }
                    if events.now() < it.reads_at {
                        it.unread.push(answer);
                    } else {
                        self.tell(connection, News::Answer(answer), events, dice);
                    }
                }
                Some(Next::Close) => return self.close(connection, events, dice),
            }
        }
    }

    fn tell(&mut self, name: ConnectionId, news: News, events: &mut Events, dice: &mut Dice) {
        let Some(it) = self.connections.get_mut(&name) else { return };
        let at = it.to_client.max(events.now() + self.plan.pace.net.draw(dice));
        it.to_client = at + 1;
        let event = Event::News { client: it.client, connection: name, news };
        events.push(at, dice.below(u64::MAX), event);
    }

    /// An answer was made; it counts until it is read.
    pub(super) fn forget_answer(
        &mut self,
        core: usize,
        connection: ConnectionId,
        length: usize,
        now: Nanos,
    ) {
        match self.connections.get_mut(&connection).filter(|it| now < it.reads_at) {
            Some(it) => it.unread_bytes += length,
            None => self.cores[core].memory.recount_answer(length, 0),
        }
    }

    /// The client of a connection reads nothing until then.
    pub fn clog(&mut self, name: ConnectionId, until: Nanos, events: &mut Events, dice: &mut Dice) {
        let Some(it) = self.connections.get_mut(&name) else { return };
        it.reads_at = it.reads_at.max(until);
        events.push(until, dice.below(u64::MAX), Event::ReadsOn { connection: name });
    }

    /// It reads what has gathered.
    pub fn read_on(&mut self, name: ConnectionId, events: &mut Events, dice: &mut Dice) {
        let clogged = |it: &&mut Connection| it.reads_at <= events.now();
        let Some(it) = self.connections.get_mut(&name).filter(clogged) else { return };
        let unread = std::mem::take(&mut it.unread);
        let bytes = std::mem::take(&mut it.unread_bytes);
        self.cores[it.core].memory.recount_answer(bytes, 0);
        for answer in unread {
            self.tell(name, News::Answer(answer), events, dice);
        }
    }

    /// What its client sends arrives no sooner than then.
    pub fn slow_down(&mut self, name: ConnectionId, until: Nanos) {
        if let Some(it) = self.connections.get_mut(&name) {
            it.to_core = it.to_core.max(until);
        }
    }

    /// Ends a connection; both sides are told.
    pub fn close(&mut self, connection: ConnectionId, events: &mut Events, dice: &mut Dice) {
        self.tell(connection, News::Closed, events, dice);
        self.lose(connection, events, dice);
    }

    /// Ends a connection for the broker's side; its client is not told.
    pub fn lose(&mut self, connection: ConnectionId, events: &mut Events, dice: &mut Dice) {
        self.abandon(connection, events.now());
        let Some(it) = self.connections.remove(&connection) else { return };
        self.cores[it.core].memory.recount_answer(it.unread_bytes, 0);
        if let State::Up(_) = self.cores[it.core].state {
            let reason = CloseReason::ByPeer;
            let input = Input::Closed { connection, peer: peer(), reason };
            let at = it.to_core.max(events.now());
            let what = Inside::Input(Box::new(input));
            let event = Event::Inside { life: self.life, core: it.core, what };
            events.push(at, dice.below(u64::MAX), event);
        }
    }

    /// The client of a connection is gone, which the broker is not told: what it was still about to send
    /// never comes.
    pub fn abandon(&mut self, name: ConnectionId, now: Nanos) {
        let Some(it) = self.connections.get(&name) else { return };
        if it.to_core > now + self.plan.pace.net.1 {
            self.cut.insert(name);
        }
        self.cores[it.core].pressed.retain(|waiting| !is_of(waiting, name));
    }

    /// Whether the broker knows the connection.
    pub fn knows(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Opens a connection to any core, if the node serves.
    pub fn connect(
        &mut self,
        client: usize,
        events: &mut Events,
        dice: &mut Dice,
    ) -> Option<ConnectionId> {
        if !self.is_serving() || self.is_stopping {
            return None;
        }
        let core = dice.below(self.cores.len() as u64) as usize;
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let at = events.now() + self.plan.pace.net.draw(dice);
        let it = Connection {
            client,
            core,
            slots: Slots::default(),
            to_core: at + 1,
            to_client: at + 1,
            reads_at: 0,
            unread: Vec::new(),
            unread_bytes: 0,
        };
        self.connections.insert(connection, it);
        let what = Inside::Input(Box::new(Input::Opened { connection }));
        events.push(at, dice.below(u64::MAX), Event::Inside { life: self.life, core, what });
        Some(connection)
    }

    /// Takes a request (a whole frame, length included) from a client.
    pub fn receive(
        &mut self,
        connection: ConnectionId,
        frame: &Bytes,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        let Some(it) = self.connections.get_mut(&connection) else { return };
        let slot = it.slots.reserve();
        let at = it.to_core.max(events.now() + self.plan.pace.net.draw(dice));
        it.to_core = at + 1;
        let frame = BytesMut::from(&frame[4..]);
        let core = it.core;
        let input =
            Input::Request { connection, slot, listener: 0, peer: peer(), frame, answer_bytes: 0 };
        let what = Inside::Input(Box::new(input));
        events.push(at, dice.below(u64::MAX), Event::Inside { life: self.life, core, what });
    }

    /// Any connection.
    pub fn any_connection(&self, dice: &mut Dice) -> Option<ConnectionId> {
        let count = self.connections.len() as u64;
        let nth = (count > 0).then(|| dice.below(count) as usize)?;
        self.connections.keys().nth(nth).copied()
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000))
}

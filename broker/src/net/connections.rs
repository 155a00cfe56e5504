//! The open connections of one core, and its doors.
//!
//! Does: listen, accept within the limits, number connections, let those work that have news,
//! close the idle ones.
//! Does not: read or write them itself; sleep.
//! Invariants: a number is never used twice in a process; a refused connection is closed before a
//! byte of it was read; a connection that can go on is in the line until it did.
//! Apart because the pump needs one thing to talk to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::time::Monotonic;
use flumen_storage::io::ring::{Readiness, Ring, WatchId};

use super::connection::{Around, Connection, Speech, Worked};
use super::inbox::Inbox;
use super::listener;
use crate::config::options::Options;
use crate::limits::{
    ACCEPT_RETRY_PAUSE, ACCEPTS_PER_TURN, FETCH_ANSWER_BYTES_MIN, PARTING_TIME, PARTINGS_MAX,
    READ_SCRATCH_BYTES,
};
use crate::shard::input::{CloseReason, ConnectionId, Input};
use crate::shard::memory::RequestMemory;

/// Why a connection was refused before it sent a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `max.connections` of this core is reached.
    TooMany,
    /// `max.connections.per.ip` is reached for this address.
    TooManyOfAddress,
}

/// The limits that a door checks; each core has its share.
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

impl ConnectionLimits {
    /// The share that one of so many cores has.
    pub fn of(options: &Options, cores: u16) -> Self {
        let positive = |value: i32| usize::try_from(value).unwrap_or(usize::MAX);
        let share = |value: i32| positive(value).div_ceil(usize::from(cores));
        Self {
            total: share(options.max_connections),
            // The kernel spreads one client's connections by chance: its share is no share.
            per_address: positive(options.max_connections_per_ip),
            idle: u64::try_from(options.connections_max_idle_ms)
                .map_or(Duration::MAX, Duration::from_millis),
            request_bytes: positive(options.socket_request_max_bytes),
        }
    }
}

/// An address that connections come in by.
struct Door {
    watch: WatchId,
    socket: TcpListener,
    speech: Speech,
    /// Somebody may wait there.
    may_accept: bool,
    /// Not before this: the system had no descriptor left.
    paused_until: Option<Monotonic>,
}

/// An open connection, whether it is in the line, and until when it may take to part.
struct Member {
    connection: Connection,
    is_in_line: bool,
    parts_until: Option<Monotonic>,
}

/// The connections of one core.
pub struct Connections {
    limits: ConnectionLimits,
    /// Connections at once, whatever the limits say: what the system's limit of open files leaves
    /// beside the store's files. Without it a client that connects often enough would take the
    /// descriptor that a commit needs, and the disk's refusal would stop the node.
    most: usize,
    next: u64,
    open: BTreeMap<ConnectionId, Member>,
    addresses: BTreeMap<IpAddr, usize>,
    doors: Vec<Door>,
    /// Those that can go on, first come, first served.
    line: VecDeque<ConnectionId>,
    /// Those that part, by the time that they have. Invariant: exactly the members with such a time.
    partings: BTreeSet<(Monotonic, ConnectionId)>,
    /// Sockets are not read for now: what reading leads to has nowhere to go.
    held_back: bool,
    scratch: Vec<u8>,
    /// The pump's clock of this turn.
    now: Monotonic,
}

// Doors and connections share the ring's numbers: doors have the highest.
const FIRST_DOOR: u64 = 1 << 61;

impl Connections {
    /// None open yet, and never more than `most`.
    pub fn new(limits: ConnectionLimits, most: usize, now: Monotonic) -> Self {
        Self {
            limits,
            most,
            next: 0,
            open: BTreeMap::new(),
            addresses: BTreeMap::new(),
            doors: Vec::new(),
            line: VecDeque::new(),
            partings: BTreeSet::new(),
            held_back: false,
            scratch: vec![0; READ_SCRATCH_BYTES],
            now,
        }
    }

    /// Starts to accept on an address.
    ///
    /// # Errors
    /// The operating system's reason for refusing the address.
    pub fn listen(
        &mut self,
        address: SocketAddr,
        speech: Speech,
        ring: &mut Ring,
    ) -> io::Result<()> {
        let socket = listener::listen(address)?;
        let watch = WatchId(FIRST_DOOR + self.doors.len() as u64);
        ring.watch(socket.as_fd(), watch);
        self.doors.push(Door { watch, socket, speech, may_accept: true, paused_until: None });
        Ok(())
    }

    /// Changes the limits. What is open stays open.
    pub fn set_limits(&mut self, limits: ConnectionLimits) {
        self.limits = limits;
    }

    /// Sets the clock; once per turn.
    pub fn set_now(&mut self, now: Monotonic) {
        self.now = now;
    }

    /// Whether sockets are left unread for now, so that nothing new is asked for.
    pub fn hold_back(&mut self, held_back: bool) {
        self.held_back = held_back;
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether some connection or door can go on without further news.
    pub fn has_work(&self) -> bool {
        !self.line.is_empty()
            || self.doors.iter().any(|door| door.may_accept && door.paused_until.is_none())
    }

    /// When a paused door is to be tried again, or a connection that parts has had its time.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let doors = self.doors.iter().filter_map(|door| door.paused_until);
        doors.chain(self.partings.first().map(|(until, _)| *until)).min()
    }

    /// Takes news of the ring about a door or a connection.
    pub fn note(&mut self, watch: WatchId, readiness: Readiness, goes_on: bool, ring: &mut Ring) {
        if watch.0 >= FIRST_DOOR {
            let Some(door) = self.doors.iter_mut().find(|door| door.watch == watch) else { return };
            door.may_accept = true;
            if !goes_on {
                ring.watch(door.socket.as_fd(), watch);
            }
            return;
        }
        let id = ConnectionId(watch.0);
        let Some(member) = self.open.get_mut(&id) else { return };
        member.connection.note(readiness);
        if !goes_on {
            ring.watch(member.connection.stream().as_fd(), watch);
        }
        enter_line(&mut self.line, id, member);
    }

    /// Accepts, writes and reads whatever can be without blocking, each connection its share.
    pub fn work(&mut self, inbox: &Inbox, memory: &RequestMemory, ring: &mut Ring) {
        self.accept(inbox, ring);
        if !self.held_back && memory.take_resumable() {
            self.resume_readers();
        }
        self.resume_admitted(memory);
        let mut around = Around {
            inbox,
            memory,
            scratch: &mut self.scratch,
            may_read: !self.held_back,
            now: self.now,
            request_bytes: self.limits.request_bytes,
        };
        let mut ended = Vec::new();
        for _ in 0..self.line.len() {
            let Some(id) = self.line.pop_front() else { break };
            let Some(member) = self.open.get_mut(&id) else { continue };
            member.is_in_line = false;
            match member.connection.work(&mut around) {
                Worked::Waits => {}
                Worked::HasMore => enter_line(&mut self.line, id, member),
                Worked::Parts => {
                    let until = self.now.after(PARTING_TIME);
                    member.parts_until = Some(until);
                    self.partings.insert((until, id));
                    enter_line(&mut self.line, id, member);
                }
                Worked::Ended => ended.push(id),
            }
        }
        for id in ended {
            self.bury(id, inbox, memory, ring);
        }
        while let Some((until, id)) = self.partings.first().copied()
            && (until <= self.now || self.partings.len() > PARTINGS_MAX)
        {
            self.bury(id, inbox, memory, ring);
        }
        // What was written or ended made room: whoever waited for it has work now.
        self.resume_admitted(memory);
    }

    fn bury(&mut self, id: ConnectionId, inbox: &Inbox, memory: &RequestMemory, ring: &mut Ring) {
        let Some(member) = self.open.remove(&id) else { return };
        if let Some(until) = member.parts_until {
            self.partings.remove(&(until, id));
        }
        let peer = member.connection.peer();
        ring.unwatch(WatchId(id.0));
        self.leave(peer.ip());
        let reason: CloseReason = member.connection.bury(memory);
        inbox.push(Input::Closed { connection: id, peer, reason });
    }

    fn accept(&mut self, inbox: &Inbox, ring: &mut Ring) {
        for place in 0..self.doors.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let now = self.now;
                let door = &mut self.doors[place];
                door.paused_until = door.paused_until.filter(|until| now < *until);
                if !door.may_accept || door.paused_until.is_some() {
                    break;
                }
                let speech = door.speech;
                match door.socket.accept() {
                    Ok((stream, peer)) => self.open(stream, peer, speech, inbox, ring),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => door.may_accept = false,
                        // A connection that is reset before we look: nothing to serve.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        _ => {
                            // Out of descriptors, mostly: who waits stays in the backlog.
                            door.paused_until = Some(now.after(ACCEPT_RETRY_PAUSE));
                            inbox.push(Input::AcceptFailed { reason: error.to_string() });
                        }
                    },
                }
            }
        }
    }

    fn open(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        speech: Speech,
        inbox: &Inbox,
        ring: &mut Ring,
    ) {
        let id = match self.admit(peer.ip()) {
            Ok(id) => id,
            Err(refused) => return inbox.push(Input::Refused { peer, refused }),
        };
        // Failing to switch Nagle off costs latency, not correctness.
        let _best_effort = stream.set_nodelay(true);
        if let Err(error) = stream.set_nonblocking(true) {
            self.leave(peer.ip());
            return inbox.push(Input::AcceptFailed { reason: error.to_string() });
        }
        ring.watch(stream.as_fd(), WatchId(id.0));
        let connection = Connection::new(id, peer, speech, stream, self.now);
        self.open.insert(id, Member { connection, is_in_line: false, parts_until: None });
        inbox.push(Input::Opened { connection: id });
    }

    fn admit(&mut self, address: IpAddr) -> Result<ConnectionId, Refused> {
        if self.count() >= self.limits.total.min(self.most) {
            return Err(Refused::TooMany);
        }
        let count = self.addresses.entry(address).or_insert(0);
        if *count >= self.limits.per_address {
            return Err(Refused::TooManyOfAddress);
        }
        *count += 1;
        let id = ConnectionId(self.next);
        self.next += 1;
        Ok(id)
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Gives an answer that `memory` counts to its connection; a connection that is gone needs none.
    pub fn respond(
        &mut self,
        id: ConnectionId,
        slot: u64,
        answer: Vec<Bytes>,
        memory: &RequestMemory,
    ) {
        let Some(member) = self.open.get_mut(&id) else {
            return memory.recount_answer(answer.iter().map(Bytes::len).sum(), 0);
        };
        member.connection.answer(slot, answer, self.now, memory);
        enter_line(&mut self.line, id, member);
    }

    /// Closes a connection after the answers to everything before this slot.
    pub fn close_at(&mut self, id: ConnectionId, slot: u64) {
        self.change(id, |connection| connection.close_at(slot));
    }

    /// Closes a connection after the answers that are ready.
    pub fn close(&mut self, id: ConnectionId) {
        self.change(id, Connection::close);
    }

    fn change(&mut self, id: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(member) = self.open.get_mut(&id) {
            change(&mut member.connection);
            enter_line(&mut self.line, id, member);
        }
    }

    /// Lets those look again whose bytes were not read for want of room.
    fn resume_readers(&mut self) {
        for (id, member) in &mut self.open {
            if member.connection.is_waiting_for_room() {
                enter_line(&mut self.line, *id, member);
            }
        }
    }

    /// Lets the requests go on for whose large answers there is room now, in the order in which they
    /// came.
    fn resume_admitted(&mut self, memory: &RequestMemory) {
        while let Some((id, room)) = memory.next_admitted() {
            let member = self.open.get_mut(&id).expect("only open connections wait");
            member.connection.give_answer_room(room);
            enter_line(&mut self.line, id, member);
        }
    }

    /// Ends connections whose clients do not read, as many as hold what others wait for.
    fn close_unread(&mut self, memory: &RequestMemory) {
        let mut wanted = memory.waiting_count() * FETCH_ANSWER_BYTES_MIN;
        for (id, member) in &mut self.open {
            let connection = &mut member.connection;
            if connection.is_unread(self.now) && wanted > 0 {
                wanted = wanted.saturating_sub(connection.abort(CloseReason::Unread));
                enter_line(&mut self.line, *id, member);
            }
        }
    }

    /// Ends what was idle for too long, what sends a request too slowly, and what only has answers to
    /// come that its client does not seem to wait for. Nothing was read or written there, so there is
    /// nothing to wait for either.
    pub fn close_idle(&mut self, memory: &RequestMemory) {
        self.close_unread(memory);
        let now = self.now;
        for (id, member) in &mut self.open {
            let connection = &mut member.connection;
            let reason = if connection.is_stalled(now, memory, self.limits.request_bytes) {
                CloseReason::Stalled
            } else if connection.is_deserted(now) {
                CloseReason::ByPeer
            } else if now.since(connection.last_used()) > self.limits.idle {
                CloseReason::Idle
            } else {
                continue;
            };
            connection.abort(reason);
            enter_line(&mut self.line, *id, member);
        }
    }

    /// Takes nothing more from Kafka clients, neither a connection nor a request; for a stop. Each
    /// connection ends once its open requests are answered. The admin page goes on, so that one can
    /// see what the stop waits for.
    pub fn stop_listening(&mut self, ring: &mut Ring) {
        self.close_doors(ring, |speech| speech != Speech::Admin);
        for (id, member) in &mut self.open {
            if member.connection.speech() != Speech::Admin {
                member.connection.retire();
                enter_line(&mut self.line, *id, member);
            }
        }
    }

    /// Closes all of them after the answers that are ready, and every door; the end of a stop.
    pub fn close_all(&mut self, ring: &mut Ring) {
        self.close_doors(ring, |_| true);
        for (id, member) in &mut self.open {
            member.connection.close();
            enter_line(&mut self.line, *id, member);
        }
    }

    /// Whoever knocks is refused from the ring's next turn on: until then it keeps them open.
    fn close_doors(&mut self, ring: &mut Ring, which: impl Fn(Speech) -> bool) {
        for door in self.doors.extract_if(.., |door| which(door.speech)) {
            ring.unwatch(door.watch);
        }
    }
}

fn enter_line(line: &mut VecDeque<ConnectionId>, id: ConnectionId, member: &mut Member) {
    if !member.is_in_line {
        member.is_in_line = true;
        line.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flumen_storage::io::ring::Event;

    use super::*;

    /// The connections of a core with one door, and what they need.
    struct Core {
        connections: Connections,
        ring: Ring,
        inbox: Inbox,
        memory: RequestMemory,
        address: SocketAddr,
    }

    impl Core {
        fn new() -> Self {
            let limits = ConnectionLimits {
                total: 10,
                per_address: 10,
                idle: Duration::from_secs(600),
                request_bytes: 1 << 20,
            };
            let mut connections = Connections::new(limits, 10, Monotonic(0));
            let mut ring = Ring::new().unwrap();
            let any = "127.0.0.1:0".parse().unwrap();
            connections.listen(any, Speech::Kafka { listener: 0 }, &mut ring).unwrap();
            let address = connections.doors[0].socket.local_addr().unwrap();
            let (inbox, memory) = (Inbox::default(), RequestMemory::new(1 << 20));
            Self { connections, ring, inbox, memory, address }
        }

        fn turn(&mut self) {
            let mut news = Vec::new();
            self.ring.turn(Some(Duration::from_millis(1)), &mut news).unwrap();
            for event in news {
                let Event::Ready { watch, readiness, goes_on } = event else { continue };
                self.connections.note(watch, readiness, goes_on, &mut self.ring);
            }
            self.connections.work(&self.inbox, &self.memory, &mut self.ring);
        }

        /// A client whose connection is open here.
        fn client(&mut self) -> TcpStream {
            let client = TcpStream::connect(self.address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let before = self.connections.count();
            while self.connections.count() == before {
                self.turn();
            }
            client
        }

        fn has_request(&self) -> bool {
            std::iter::from_fn(|| self.inbox.pop())
                .any(|input| matches!(input, Input::Request { .. }))
        }
    }

    /// A request of three bytes.
    const REQUEST: [u8; 7] = [0, 0, 0, 3, 0, 3, 0];

    #[test]
    fn a_core_that_stops_listening_tells_its_clients_and_waits_a_moment_for_them() {
        let mut core = Core::new();
        let (mut polite, mut stubborn) = (core.client(), core.client());
        core.connections.stop_listening(&mut core.ring);
        core.turn();
        assert_eq!(polite.read(&mut [0]).unwrap(), 0);
        assert_eq!(stubborn.read(&mut [0]).unwrap(), 0);
        drop(polite);
        while core.connections.count() == 2 {
            core.turn();
        }
        let until = core.connections.next_deadline().expect("somebody parts");
        assert_eq!(until, Monotonic(0).after(PARTING_TIME));
        assert!(stubborn.write_all(&REQUEST).is_ok());
        core.connections.set_now(until);
        core.turn();
        assert_eq!((core.connections.count(), core.connections.next_deadline()), (0, None));
        assert!(!core.has_request(), "nobody listened");
        core.turn();
        TcpStream::connect(core.address).expect_err("the door is shut");
    }

    #[test]
    fn an_open_request_is_answered_after_the_core_stopped_listening() {
        let mut core = Core::new();
        let mut client = core.client();
        client.write_all(&REQUEST).unwrap();
        while !core.has_request() {
            core.turn();
        }
        core.connections.stop_listening(&mut core.ring);
        core.turn();
        let last = Bytes::from_static(b"last");
        core.memory.recount_answer(0, last.len());
        core.connections.respond(ConnectionId(0), 0, vec![last], &core.memory);
        core.turn();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"last");
    }

    #[test]
    fn no_socket_is_read_while_the_core_is_held_back() {
        let mut core = Core::new();
        let mut client = core.client();
        core.connections.hold_back(true);
        client.write_all(&REQUEST).unwrap();
        (0..20).for_each(|_| core.turn());
        assert!(!core.has_request());
        core.connections.hold_back(false);
        while !core.has_request() {
            core.turn();
        }
    }
}

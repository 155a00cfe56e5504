//! The open connections of one core, and its doors.
//!
//! Does: listen, accept within the limits, number connections, let those work that have news,
//! close the idle ones.
//! Does not: read or write them itself; sleep.
//! Invariants: a number is never used twice in a process; a refused connection is closed before a
//! byte of it was read; a connection that can go on is in a lane until it did; no call does more than
//! the limits say, however many connections there are.
//! Apart because the pump needs one thing to talk to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::time::Monotonic;
use flumen_storage::io::ring::{Readiness, Ring, WatchId};

use super::arrivals::Arrivals;
use super::connection::{Around, Connection, Speech, Worked};
use super::connection_limits::ConnectionLimits;
use super::inbox::{Inbox, Queue};
use super::lanes::{Allowance, Lane, Lanes};
use super::listener;
use super::paused::{Pause, Paused};
use crate::limits::{
    ACCEPT_RETRY_PAUSE, ACCEPTS_PER_TURN, ALONE_AFTER, BURIALS_PER_TURN, FETCH_ANSWER_BYTES_MIN,
    INPUTS_BEFORE_OTHERS, OTHERS_TIME, OTHERS_TIME_ALONE, PARTING_TIME, PARTINGS_MAX,
    READ_SCRATCH_BYTES, RESUMED_PER_TURN, SWEEP_PER_TURN,
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
    /// This address comes more often than its quota allows.
    TooOften,
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

/// An open connection, whether it is in a lane, whether it waits for room to be read, and until when it
/// may take to part.
struct Member {
    connection: Connection,
    is_in_lane: bool,
    paused: Option<Pause>,
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
    arrivals: Arrivals,
    doors: Vec<Door>,
    /// Those that can go on.
    lanes: Lanes,
    /// What those that go first have left of the turn.
    allowance: Allowance,
    /// When one of them was last visited, if ever.
    visited_first: Option<Monotonic>,
    /// Those that have something to be read for which there was no room. Invariant: exactly the members
    /// with a pause.
    paused: Paused,
    /// Where the look for idle ones goes on, while there is one, and how many bytes of unread answers
    /// are wanted by others.
    sweep: Option<(ConnectionId, usize)>,
    /// Those that part, by the time that they have. Invariant: exactly the members with such a time.
    partings: BTreeSet<(Monotonic, ConnectionId)>,
    /// Those that are muted, by the time that they are. May hold some that ended meanwhile.
    muted: BTreeSet<(Monotonic, ConnectionId)>,
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
            arrivals: Arrivals::new(now),
            doors: Vec::new(),
            lanes: Lanes::default(),
            allowance: Allowance::of_a_turn(),
            visited_first: None,
            paused: Paused::default(),
            sweep: None,
            partings: BTreeSet::new(),
            muted: BTreeSet::new(),
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
    pub fn has_work(&self, memory: &RequestMemory) -> bool {
        self.lanes.count(Lane::Quick) > 0
            || self.has_work_for_others()
            || [true, false].into_iter().any(|is_known| self.may_resume(is_known, memory))
            || memory.may_admit()
    }

    fn may_accept(&self) -> bool {
        let is_over = |until| until <= self.now;
        self.doors.iter().any(|door| door.may_accept && door.paused_until.is_none_or(is_over))
    }

    /// The connection that has parted long enough, or gives way to those that part after it.
    fn overdue_parting(&self) -> Option<ConnectionId> {
        let (until, id) = self.partings.first()?;
        (*until <= self.now || self.partings.len() > PARTINGS_MAX).then_some(*id)
    }

    /// When a paused door is to be tried again, or a connection that parts has had its time.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let doors = self.doors.iter().filter_map(|door| door.paused_until);
        let partings = self.partings.first().map(|(until, _)| *until);
        doors.chain(partings).chain(self.muted.first().map(|(until, _)| *until)).min()
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
        enter_lane(&mut self.lanes, id, member, self.now);
    }

    /// Writes and reads what can be without blocking of those that go first: they are known, and used
    /// little lately. As much as a turn may take of it, each connection its share.
    pub fn work(&mut self, inbox: &Inbox, memory: &RequestMemory) {
        for is_known in [true, false] {
            if self.may_resume(is_known, memory) {
                self.resume_readers(is_known);
            }
        }
        self.resume_muted();
        self.resume_admitted(memory);
        self.allowance = Allowance::of_a_turn();
        self.visit(Lane::Quick, inbox, memory, &|| true);
    }

    /// Whether there is work for the others.
    pub fn has_work_for_others(&self) -> bool {
        let has_waiting = |lane| self.lanes.count(lane) > 0;
        [Lane::Passing, Lane::Slow, Lane::Over].into_iter().any(has_waiting)
            || self.sweep.is_some()
            || self.may_accept()
            || self.overdue_parting().is_some()
    }

    /// How long one may work for the others after a turn, on their sockets or on their inputs.
    pub fn others_time(&self) -> Duration {
        let is_recent = |visited| self.now.since(visited) < ALONE_AFTER;
        if self.visited_first.is_some_and(is_recent) { OTHERS_TIME } else { OTHERS_TIME_ALONE }
    }

    /// Writes and reads for the others, accepts and closes: of what those that go first left of the
    /// turn, and a share in any case. When `has_time` says no, only one more of each kind has its turn.
    pub fn work_for_others(
        &mut self,
        inbox: &Inbox,
        memory: &RequestMemory,
        ring: &mut Ring,
        has_time: &dyn Fn() -> bool,
    ) {
        self.accept(inbox, ring, has_time);
        self.visit(Lane::Passing, inbox, memory, has_time);
        self.visit(Lane::Slow, inbox, memory, has_time);
        for buried in 0..BURIALS_PER_TURN {
            if buried > 0 && !has_time() {
                break;
            }
            let Some(id) = self.lanes.take(Lane::Over) else { break };
            self.bury(id, inbox, memory, ring);
        }
        while let Some(id) = self.overdue_parting() {
            self.bury(id, inbox, memory, ring);
        }
        self.go_on_sweeping(memory);
        // What was written or ended made room: whoever waited for it has work now.
        self.resume_admitted(memory);
    }

    /// Lets those of a lane work that are in it now, while anything is left for them and, from the second
    /// on, there is time.
    fn visit(
        &mut self,
        lane: Lane,
        inbox: &Inbox,
        memory: &RequestMemory,
        has_time: &dyn Fn() -> bool,
    ) {
        let mut around = Around {
            inbox,
            memory,
            scratch: &mut self.scratch,
            may_read: !self.held_back,
            now: self.now,
            request_bytes: self.limits.request_bytes,
        };
        for visited in 0..self.lanes.count(lane) {
            if !self.allowance.is_left(lane)
                || (visited > 0 && !has_time())
                || (lane != Lane::Quick && inbox.count() > INPUTS_BEFORE_OTHERS)
            {
                break;
            }
            let Some(id) = self.lanes.take(lane) else { break };
            let Some(member) = self.open.get_mut(&id) else { continue };
            member.is_in_lane = false;
            if lane == Lane::Quick {
                self.visited_first = Some(self.now);
            }
            let worked = member.connection.work(&mut around);
            self.allowance.spend(lane, member.connection.take_moved());
            match worked {
                Worked::Waits => {
                    let is_known = member.connection.is_known();
                    if !member.connection.is_waiting_for_room() {
                        self.paused.leave(id, &mut member.paused);
                    } else if member.paused.is_none_or(|pause| pause.is_known() != is_known) {
                        self.paused.leave(id, &mut member.paused);
                        member.paused = Some(self.paused.join(id, is_known, self.now));
                    }
                }
                Worked::HasMore => enter_lane(&mut self.lanes, id, member, self.now),
                Worked::Parts => {
                    let until = self.now.after(PARTING_TIME);
                    member.parts_until = Some(until);
                    self.partings.insert((until, id));
                    enter_lane(&mut self.lanes, id, member, self.now);
                }
                Worked::Ended => {
                    member.is_in_lane = true;
                    self.lanes.enter(Lane::Over, id);
                }
            }
        }
    }

    /// A request of this connection took so long.
    pub fn note_time(&mut self, id: ConnectionId, time: Duration) {
        if let Some(member) = self.open.get_mut(&id) {
            member.connection.note_time(time);
        }
    }

    fn bury(&mut self, id: ConnectionId, inbox: &Inbox, memory: &RequestMemory, ring: &mut Ring) {
        let Some(mut member) = self.open.remove(&id) else { return };
        if let Some(until) = member.parts_until {
            self.partings.remove(&(until, id));
        }
        self.paused.leave(id, &mut member.paused);
        let (peer, queue) = (member.connection.peer(), member.connection.queue());
        ring.unwatch(WatchId(id.0));
        self.leave(peer.ip());
        let reason: CloseReason = member.connection.bury(memory);
        inbox.push_to(queue, Input::Closed { connection: id, peer, reason });
    }

    fn accept(&mut self, inbox: &Inbox, ring: &mut Ring, has_time: &dyn Fn() -> bool) {
        for place in 0..self.doors.len() {
            for accepted in 0..ACCEPTS_PER_TURN {
                if accepted > 0 && !has_time() {
                    break;
                }
                let now = self.now;
                let door = &mut self.doors[place];
                door.paused_until = door.paused_until.filter(|until| now < *until);
                if !door.may_accept || door.paused_until.is_some() {
                    break;
                }
                let speech = door.speech;
                let wait = self.arrivals.wait(&self.limits.arrivals, now);
                if speech != Speech::Admin && !wait.is_zero() {
                    door.paused_until = Some(now.after(wait));
                    break;
                }
                match door.socket.accept() {
                    Ok((stream, peer)) => self.open(stream, peer, speech, inbox, ring),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => door.may_accept = false,
                        // A connection that is reset before we look: nothing to serve.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        _ => {
                            // Out of descriptors, mostly: who waits stays in the backlog.
                            door.paused_until = Some(now.after(ACCEPT_RETRY_PAUSE));
                            inbox.push_to(
                                Queue::Behind,
                                Input::AcceptFailed { reason: error.to_string() },
                            );
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
        let is_client = speech != Speech::Admin;
        if is_client {
            self.arrivals.count(&self.limits.arrivals, self.now);
        }
        if is_client && !self.arrivals.admit(peer.ip(), &self.limits.arrivals, self.now) {
            return inbox
                .push_to(Queue::Behind, Input::Refused { peer, refused: Refused::TooOften });
        }
        let id = match self.admit(peer.ip()) {
            Ok(id) => id,
            Err(refused) => return inbox.push_to(Queue::Behind, Input::Refused { peer, refused }),
        };
        // Failing to switch Nagle off costs latency, not correctness.
        let _best_effort = stream.set_nodelay(true);
        if let Err(error) = stream.set_nonblocking(true) {
            self.leave(peer.ip());
            return inbox.push_to(Queue::Behind, Input::AcceptFailed { reason: error.to_string() });
        }
        ring.watch(stream.as_fd(), WatchId(id.0));
        let connection = Connection::new(id, peer, speech, stream, self.now);
        self.open
            .insert(id, Member { connection, is_in_lane: false, paused: None, parts_until: None });
        inbox.push_to(Queue::Behind, Input::Opened { connection: id });
    }

    fn admit(&mut self, address: IpAddr) -> Result<ConnectionId, Refused> {
        if self.count() >= self.limits.total.min(self.most) {
            return Err(Refused::TooMany);
        }
        let of_address = self.limits.overrides.get(&address.to_canonical());
        let most = of_address.copied().unwrap_or(self.limits.per_address);
        let count = self.addresses.entry(address).or_insert(0);
        if *count >= most {
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
        enter_lane(&mut self.lanes, id, member, self.now);
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
            enter_lane(&mut self.lanes, id, member, self.now);
        }
    }

    /// Reads nothing more from a connection until then: its client has spent its quota.
    pub fn mute(&mut self, id: ConnectionId, until: Monotonic) {
        if let Some(member) = self.open.get_mut(&id) {
            member.connection.mute(until);
            self.muted.insert((until, id));
        }
    }

    fn resume_muted(&mut self) {
        while let Some((until, id)) = self.muted.first().copied()
            && until <= self.now
        {
            self.muted.pop_first();
            if let Some(member) = self.open.get_mut(&id) {
                member.connection.unmute(self.now);
                enter_lane(&mut self.lanes, id, member, self.now);
            }
        }
    }

    /// Whether somebody waits for room to read, of the known ones or of the others, and there is some.
    fn may_resume(&self, is_known: bool, memory: &RequestMemory) -> bool {
        !self.held_back && !self.paused.is_empty(is_known) && memory.may_resume(is_known)
    }

    /// Lets some of those look again whose bytes were not read for want of room.
    fn resume_readers(&mut self, is_known: bool) {
        for _ in 0..RESUMED_PER_TURN {
            let Some(id) = self.paused.take(is_known) else { return };
            let member = self.open.get_mut(&id).expect("only open connections wait");
            member.paused = None;
            if member.connection.is_waiting_for_room() {
                enter_lane(&mut self.lanes, id, member, self.now);
            }
        }
    }

    /// Lets the requests go on for whose large answers there is room now.
    fn resume_admitted(&mut self, memory: &RequestMemory) {
        while let Some((id, room)) = memory.next_admitted() {
            let member = self.open.get_mut(&id).expect("only open connections wait");
            member.connection.give_answer_room(room);
            enter_lane(&mut self.lanes, id, member, self.now);
        }
    }

    /// Begins to end what was idle for too long, what sends a request too slowly, and what only has
    /// answers to come that its client does not seem to wait for; and of those whose clients do not read
    /// as many as hold what others wait for. All are looked at in the next turns.
    pub fn close_idle(&mut self, memory: &RequestMemory) {
        let wanted = memory.waiting_count() * FETCH_ANSWER_BYTES_MIN;
        self.sweep.get_or_insert((ConnectionId(0), wanted));
    }

    /// Looks at some more. Nothing was read or written at those that are ended, so there is nothing to
    /// wait for either.
    fn go_on_sweeping(&mut self, memory: &RequestMemory) {
        let Some((from, mut wanted)) = self.sweep.take() else { return };
        let now = self.now;
        let mut next = from;
        for (id, member) in self.open.range_mut(from..).take(SWEEP_PER_TURN) {
            next = ConnectionId(id.0 + 1);
            let connection = &mut member.connection;
            let reason = if connection.is_unread(now) && wanted > 0 {
                CloseReason::Unread
            } else if connection.is_stalled(now, memory, self.limits.request_bytes) {
                CloseReason::Stalled
            } else if connection.is_deserted(now) {
                CloseReason::ByPeer
            } else if !connection.is_muted() && now.since(connection.last_used()) > self.limits.idle
            {
                CloseReason::Idle
            } else {
                continue;
            };
            let freed = connection.abort(reason);
            wanted = wanted.saturating_sub(freed);
            enter_lane(&mut self.lanes, *id, member, now);
        }
        if self.open.range(next..).next().is_some() {
            self.sweep = Some((next, wanted));
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
                enter_lane(&mut self.lanes, *id, member, self.now);
            }
        }
    }

    /// Closes all of them after the answers that are ready, and every door; the end of a stop.
    pub fn close_all(&mut self, ring: &mut Ring) {
        self.close_doors(ring, |_| true);
        for (id, member) in &mut self.open {
            member.connection.close();
            enter_lane(&mut self.lanes, *id, member, self.now);
        }
    }

    /// Whoever knocks is refused from the ring's next turn on: until then it keeps them open.
    fn close_doors(&mut self, ring: &mut Ring, which: impl Fn(Speech) -> bool) {
        for door in self.doors.extract_if(.., |door| which(door.speech)) {
            ring.unwatch(door.watch);
        }
    }
}

fn enter_lane(lanes: &mut Lanes, id: ConnectionId, member: &mut Member, now: Monotonic) {
    if !member.is_in_lane {
        member.is_in_lane = true;
        lanes.enter(member.connection.lane(now), id);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use flumen_storage::io::ring::Event;

    use super::*;
    use crate::config::options::Options;
    use crate::limits::KNOWN_AFTER_ANSWERS;
    use crate::net::arrivals::ArrivalLimits;

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
                overrides: Arc::default(),
                arrivals: ArrivalLimits::default(),
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
            let Self { connections, inbox, memory, ring, .. } = self;
            connections.work(inbox, memory);
            if connections.has_work_for_others() {
                connections.work_for_others(inbox, memory, ring, &|| true);
            }
        }

        /// A client whose connection is open here.
        fn client(&mut self) -> TcpStream {
            let client = TcpStream::connect(self.address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let before = self.connections.count();
            while self.connections.count() == before {
                self.turn();
            }
            // A shard would have taken note of it.
            while self.inbox.pop(Queue::Behind).is_some() {}
            client
        }

        /// Lets a client ask, until that is among the inputs.
        fn ask(&mut self, client: &mut TcpStream, request: &[u8]) {
            client.write_all(request).unwrap();
            while self.inbox.is_empty() {
                self.turn();
            }
        }

        fn has_request(&self) -> bool {
            std::iter::from_fn(|| self.inbox.pop(Queue::Behind))
                .any(|input| matches!(input, Input::Request { .. }))
        }
    }

    /// A request of three bytes.
    const REQUEST: [u8; 7] = [0, 0, 0, 3, 0, 3, 0];
    /// One that needs no room for its answer, and of which several may be open.
    const QUESTION: [u8; 7] = [0, 0, 0, 3, 0, 18, 0];

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

    /// A core with so many clients, all of which have just gone.
    fn deserted(count: usize) -> Core {
        let mut core = Core::new();
        core.connections.most = count;
        let limits = &mut core.connections.limits;
        (limits.total, limits.per_address) = (count, count);
        let crowd: Vec<TcpStream> = (0..count).map(|_| core.client()).collect();
        drop(crowd);
        core
    }

    #[test]
    fn a_crowd_that_goes_is_closed_a_few_at_a_time() {
        let mut core = deserted(5 * BURIALS_PER_TURN);
        let mut before = core.connections.count();
        while before > 0 {
            core.turn();
            let now = core.connections.count();
            assert!(before - now <= BURIALS_PER_TURN, "{before} before, {now} now");
            before = now;
        }
        core.turn();
        assert!(!core.connections.has_work(&core.memory));
    }

    #[test]
    fn idle_connections_are_looked_for_some_in_a_turn_and_all_in_the_end() {
        let count = SWEEP_PER_TURN + 10;
        let mut core = Core::new();
        core.connections.most = count;
        let limits = &mut core.connections.limits;
        (limits.total, limits.per_address) = (count, count);
        let crowd: Vec<TcpStream> = (0..count).map(|_| core.client()).collect();
        let late = Monotonic(0).after(core.connections.limits.idle * 2);
        core.connections.set_now(late);
        core.connections.close_idle(&core.memory);
        core.connections.go_on_sweeping(&core.memory);
        assert_eq!(core.connections.lanes.count(Lane::Over), SWEEP_PER_TURN);
        assert!(core.connections.has_work(&core.memory));
        while core.connections.count() > 0 {
            core.turn();
        }
        assert!(core.connections.sweep.is_none());
        drop(crowd);
    }

    #[test]
    fn who_used_much_goes_behind_who_used_little() {
        let mut core = Core::new();
        let [mut greedy, mut modest] = [core.client(), core.client()];
        core.connections.note_time(ConnectionId(0), Duration::from_secs(1));
        for client in [&mut greedy, &mut modest] {
            client.write_all(&REQUEST).unwrap();
        }
        let mut news = Vec::new();
        while news.len() < 2 {
            core.ring.turn(Some(Duration::from_millis(1)), &mut news).unwrap();
        }
        for event in news {
            let Event::Ready { watch, readiness, goes_on } = event else { continue };
            core.connections.note(watch, readiness, goes_on, &mut core.ring);
        }
        let mut asked = Vec::new();
        while asked.len() < 2 {
            core.turn();
            asked.extend(
                std::iter::from_fn(|| core.inbox.pop(Queue::Behind)).filter_map(|it| it.asked_by()),
            );
        }
        assert_eq!(asked, [ConnectionId(1), ConnectionId(0)]);
    }

    /// Answers to the first requests of a client, after which it is known.
    fn make_known(core: &mut Core, id: ConnectionId, client: &mut TcpStream) {
        for slot in 0..u64::from(KNOWN_AFTER_ANSWERS) {
            client.write_all(&QUESTION).unwrap();
            while !core.has_request() {
                core.turn();
            }
            core.memory.recount_answer(0, 1);
            core.connections.respond(id, slot, vec![Bytes::from_static(b"a")], &core.memory);
            core.turn();
            client.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn what_a_known_client_asks_goes_before_what_a_new_one_does() {
        let mut core = Core::new();
        let [mut new, mut known] = [core.client(), core.client()];
        make_known(&mut core, ConnectionId(1), &mut known);
        for client in [&mut new, &mut known] {
            client.write_all(&QUESTION).unwrap();
            (0..20).for_each(|_| core.turn());
        }
        assert_eq!(core.inbox.count(), 2);
        let whose = |queue| core.inbox.pop(queue).and_then(|it| it.asked_by());
        assert_eq!(whose(Queue::First), Some(ConnectionId(1)));
        assert_eq!(whose(Queue::Behind), Some(ConnectionId(0)));
    }

    #[test]
    fn a_list_goes_behind_whoever_asks_for_it() {
        let mut core = Core::new();
        let mut client = core.client();
        make_known(&mut core, ConnectionId(0), &mut client);
        core.ask(&mut client, &REQUEST);
        assert!(core.inbox.pop(Queue::First).is_none());
        assert!(core.has_request());
    }

    #[test]
    fn others_have_less_time_while_somebody_goes_first() {
        let mut core = Core::new();
        let mut client = core.client();
        assert_eq!(core.connections.others_time(), OTHERS_TIME_ALONE);
        make_known(&mut core, ConnectionId(0), &mut client);
        core.ask(&mut client, &QUESTION);
        assert_eq!(core.connections.others_time(), OTHERS_TIME);
        core.connections.set_now(Monotonic(0).after(ALONE_AFTER));
        assert_eq!(core.connections.others_time(), OTHERS_TIME_ALONE);
    }

    #[test]
    fn all_that_comes_of_a_connection_stays_in_order() {
        let mut core = Core::new();
        let mut client = core.client();
        make_known(&mut core, ConnectionId(0), &mut client);
        core.ask(&mut client, &QUESTION);
        // It used much since, and would go behind; its first request is still open.
        core.connections.note_time(ConnectionId(0), Duration::from_secs(1));
        client.write_all(&QUESTION).unwrap();
        while core.inbox.count() < 2 {
            core.turn();
        }
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        while core.connections.count() > 0 {
            core.turn();
        }
        let came: Vec<Input> = std::iter::from_fn(|| core.inbox.pop(Queue::First)).collect();
        assert!(matches!(
            came[..],
            [Input::Request { .. }, Input::Request { .. }, Input::Closed { .. }]
        ));
        assert!(core.inbox.is_empty());
    }

    #[test]
    fn a_crowd_has_a_visit_each_time_although_there_is_no_time() {
        let mut core = Core::new();
        let crowd: Vec<TcpStream> = (0..4).map(|_| core.client()).collect();
        for mut client in &crowd {
            client.write_all(&QUESTION).unwrap();
        }
        let mut news = Vec::new();
        while news.len() < crowd.len() {
            core.ring.turn(Some(Duration::from_millis(1)), &mut news).unwrap();
        }
        for event in news {
            let Event::Ready { watch, readiness, goes_on } = event else { continue };
            core.connections.note(watch, readiness, goes_on, &mut core.ring);
        }
        for asked in 1..=crowd.len() {
            let Core { connections, inbox, memory, ring, .. } = &mut core;
            connections.work_for_others(inbox, memory, ring, &|| false);
            assert_eq!(core.inbox.count(), asked);
        }
    }

    /// Where there is no room for large requests of clients that are not known: the beginning of one, and
    /// a client that has sent it behind so many questions.
    const HALF: usize = 50_000;

    fn client_without_room(core: &mut Core, questions: usize) -> TcpStream {
        let full = core.memory.budget();
        core.memory.recount_arriving(false, 0, full);
        assert!(core.memory.may_overdraw(ConnectionId(99), false), "another one goes on");
        let mut client = core.client();
        let mut half = vec![0; HALF];
        half[..4].copy_from_slice(&(2 * HALF as u32).to_be_bytes());
        client.write_all(&[QUESTION.repeat(questions), half].concat()).unwrap();
        while core.connections.paused.is_empty(false) {
            core.turn();
        }
        client
    }

    #[test]
    fn who_ends_while_it_waits_for_room_waits_no_longer() {
        let mut core = Core::new();
        let _client = client_without_room(&mut core, 0);
        core.connections.set_now(Monotonic(0).after(Duration::from_secs(601)));
        core.connections.close_idle(&core.memory);
        while core.connections.count() > 0 {
            core.turn();
        }
        assert!(core.connections.paused.is_empty(false));
        core.memory.give_overdraft_back(ConnectionId(99));
        assert!(!core.connections.has_work(&core.memory));
        core.turn();
    }

    #[test]
    fn who_becomes_known_while_it_waits_for_room_has_that_of_known_clients() {
        let mut core = Core::new();
        let _client = client_without_room(&mut core, KNOWN_AFTER_ANSWERS as usize);
        (0..10).for_each(|_| core.turn());
        assert!(core.memory.used() < core.memory.budget() + HALF, "there is none for the others");
        for slot in 0..u64::from(KNOWN_AFTER_ANSWERS) {
            core.memory.recount_answer(0, 1);
            let answer = vec![Bytes::from_static(b"!")];
            core.connections.respond(ConnectionId(0), slot, answer, &core.memory);
        }
        while core.memory.used() < core.memory.budget() + HALF {
            core.turn();
        }
        assert!(core.connections.paused.is_empty(true) && core.connections.paused.is_empty(false));
    }

    #[test]
    fn who_waits_for_room_goes_on_once_there_is_some_without_further_news() {
        let mut core = Core::new();
        let _client = client_without_room(&mut core, 0);
        assert!(!core.connections.has_work(&core.memory));
        core.memory.give_overdraft_back(ConnectionId(99));
        assert!(core.connections.has_work(&core.memory), "or the core would sleep");
        while core.memory.used() < core.memory.budget() + HALF {
            core.turn();
        }
    }

    #[test]
    fn a_muted_connection_goes_on_by_itself() {
        let mut core = Core::new();
        let mut client = core.client();
        let until = Monotonic(0).after(Duration::from_secs(5));
        core.connections.mute(ConnectionId(0), until);
        client.write_all(&REQUEST).unwrap();
        (0..20).for_each(|_| core.turn());
        assert!(!core.has_request());
        assert_eq!(core.connections.next_deadline(), Some(until));
        core.connections.set_now(until);
        while !core.has_request() {
            core.turn();
        }
        assert_eq!(core.connections.next_deadline(), None);
    }

    #[test]
    fn a_door_lets_in_no_more_a_second_than_it_may() {
        let mut core = Core::new();
        core.connections.limits.arrivals.per_second = Some(2.0);
        let _two = (core.client(), core.client());
        let _third = TcpStream::connect(core.address).unwrap();
        (0..20).for_each(|_| core.turn());
        assert_eq!(core.connections.count(), 2);
        let soon = core.connections.next_deadline().expect("the door opens again");
        assert_eq!(soon, Monotonic(0).after(Duration::from_millis(500)));
        core.connections.set_now(soon);
        while core.connections.count() == 2 {
            core.turn();
        }
    }

    #[test]
    fn single_addresses_may_have_other_numbers() {
        let mut options = Options::default();
        let written = "127.0.0.1:1, [::2]:3, host:4";
        options.max_connections_per_ip_overrides = Some(written.to_owned());
        let mut core = Core::new();
        let limits = ConnectionLimits::of(&options, None, 1);
        assert_eq!(limits.overrides.values().copied().collect::<Vec<_>>(), [1, 3]);
        core.connections.set_limits(limits);
        let _one = core.client();
        let _refused = TcpStream::connect(core.address).unwrap();
        let refused = loop {
            core.turn();
            if let Some(Input::Refused { refused, .. }) = core.inbox.pop(Queue::Behind) {
                break refused;
            }
        };
        assert_eq!((refused, core.connections.count()), (Refused::TooManyOfAddress, 1));
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

//! One connection: bytes to frames to inputs, answers to bytes.
//!
//! Does: read a socket that never blocks and cut its bytes into requests; reserve a slot per
//! request; write answers in order; stop reading while too much is open; end with a reason when
//! the bytes are no Kafka.
//! Does not: decode requests, sleep, or know other connections.
//! Invariants: an idle connection holds no buffer of bytes (reads go through one scratch buffer per
//! core); memory grows with bytes received; every byte held or set aside for a request, whole or not,
//! or of an answer is charged to the core's budget.
//! Apart from the others' list because it is the hot half.

mod ending;
mod room;

use std::io::{self, ErrorKind, Read};
use std::mem::take;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flumen_protocol::frame::{self, SIZE_BYTES};
use flumen_protocol::time::Monotonic;
use flumen_storage::io::ring::Readiness;

use super::alone::{self, Appetite};
use super::flow::Flow;
use super::inbox::{Inbox, Queue};
use super::incoming::Incoming;
use super::lanes::Lane;
use super::outgoing::Outgoing;
use super::slots::{Next, Slots};
use super::spent::Spent;
use crate::limits::{READ_SCRATCH_BYTES, READS_PER_TURN};
use crate::shard::input::{CloseReason, ConnectionId, Input};
use crate::shard::memory::{AnswerRoom, RequestMemory};
use crate::telemetry::admin::{self, Reading};
use ending::Ending;
use room::Readable;

/// What its bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The Kafka protocol, on the listener with this position in `listeners`.
    Kafka {
        /// Position in the list of listeners.
        listener: usize,
    },
    /// HTTP for `/metrics` and `/health`.
    Admin,
}

/// What a connection needs of its core to move on.
pub struct Around<'a> {
    /// Where requests go.
    pub inbox: &'a Inbox,
    /// Bytes of requests that are being served.
    pub memory: &'a RequestMemory,
    /// Every read of this core lands here first, so that waiting connections own no buffer.
    pub scratch: &'a mut [u8],
    /// Whether sockets are read at all in this turn.
    pub may_read: bool,
    /// The clock of this turn.
    pub now: Monotonic,
    /// Largest request, bytes.
    pub request_bytes: usize,
}

/// One open connection.
pub struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    speech: Speech,
    stream: TcpStream,
    slots: Slots,
    out: Outgoing,
    /// Set aside for the large answer to the request at the front, which has waited for it.
    answer_room: Option<AnswerRoom>,
    /// The slot of a listing that is being made. Invariant: counted by the budget of answers.
    listing: Option<u64>,
    /// Bytes received that are no served request yet. Invariant: the budget knows of all of them
    /// whenever `work` returns.
    incoming: Incoming,
    last_used: Monotonic,
    spent: Spent,
    /// How many requests were answered, as far as that is of interest.
    answered: u32,
    /// Where its requests go. Changes only while none is open, so that they stay in order.
    queue: Queue,
    /// Bytes moved since somebody asked.
    moved: usize,
    /// How fast the request at the front comes, as far as we read it.
    arriving: Flow,
    /// Nothing was read although there may be something; `arriving` starts anew when reading goes on.
    paused: bool,
    /// That was for want of room, and not because its client has enough under way.
    wants_room: bool,
    /// The socket may have bytes for us; learned from its news and from reading it dry.
    may_read: bool,
    /// The client sends nothing more: reading goes on to the end without further news.
    peer_done: bool,
    /// The last request handed over goes alone ([`alone`]): the next one waits for its answer.
    goes_alone: bool,
    /// No further request is served, and nothing read: one before it ends the connection.
    deaf: bool,
    /// Nothing is read or served until then: its client has spent its quota.
    muted_until: Option<Monotonic>,
    /// When the client ended its side while it had answers to come.
    heard_out: Option<Monotonic>,
    /// How far its end has come.
    ending: Ending,
    /// Why it ends, where that is known before it does.
    reason: Option<CloseReason>,
}

impl Connection {
    /// A connection that was just accepted; its socket does not block.
    pub fn new(
        id: ConnectionId,
        peer: SocketAddr,
        speech: Speech,
        stream: TcpStream,
        now: Monotonic,
    ) -> Self {
        Self {
            id,
            peer,
            speech,
            stream,
            slots: Slots::default(),
            out: Outgoing::new(now),
            answer_room: None,
            listing: None,
            incoming: Incoming::default(),
            last_used: now,
            spent: Spent::new(now),
            answered: 0,
            queue: Queue::Behind,
            moved: 0,
            arriving: Flow::begin(now),
            paused: false,
            wants_room: false,
            may_read: false,
            peer_done: false,
            goes_alone: false,
            deaf: false,
            muted_until: None,
            heard_out: None,
            ending: Ending::NotYet,
            reason: None,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What its bytes mean.
    pub fn speech(&self) -> Speech {
        self.speech
    }

    /// Its socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When bytes last moved.
    pub fn last_used(&self) -> Monotonic {
        self.last_used
    }

    /// Takes news of its socket.
    pub fn note(&mut self, readiness: Readiness) {
        self.may_read |= readiness.readable || readiness.peer_done || readiness.hung_up;
        if readiness.writable || readiness.hung_up {
            self.out.note_writable();
        }
        self.peer_done |= readiness.peer_done || readiness.hung_up;
        // Both directions end in every parting; there the socket is still read to its end.
        if readiness.hung_up && !matches!(self.ending, Ending::Parting(_)) {
            self.end(CloseReason::Socket);
        }
    }

    /// Fills a slot with an answer that is counted by the budget, and queues what is now in order.
    pub fn answer(
        &mut self,
        slot: u64,
        answer: Vec<Bytes>,
        now: Monotonic,
        memory: &RequestMemory,
    ) {
        if self.listing.take_if(|listing| *listing == slot).is_some() {
            memory.end_listing();
        }
        let bytes = answer.iter().map(Bytes::len).sum();
        // Held against it from now on: who does not read has had it all the same.
        self.spent.add_bytes(bytes);
        self.answered = self.answered.saturating_add(1);
        self.out.give(bytes, now);
        self.slots.fill(slot, answer);
        self.last_used = now;
        self.queue_answers();
    }

    /// Reads and serves nothing until then. What it has to be sent is written.
    pub fn mute(&mut self, until: Monotonic) {
        self.muted_until = self.muted_until.max(Some(until));
    }

    /// Goes on where it was muted, if its time is over.
    pub fn unmute(&mut self, now: Monotonic) {
        self.muted_until = self.muted_until.filter(|until| now < *until);
    }

    /// Whether nothing is read for now because its client has spent its quota.
    pub fn is_muted(&self) -> bool {
        self.muted_until.is_some()
    }

    /// This was set aside for the answer to the request at the front.
    ///
    /// # Panics
    /// When something is already: it would never be given back.
    pub fn give_answer_room(&mut self, room: AnswerRoom) {
        assert!(self.answer_room.replace(room).is_none(), "waits for room once at a time");
    }

    /// The lane in which it waits for its turn.
    pub fn lane(&mut self, now: Monotonic) -> Lane {
        if matches!(self.ending, Ending::Now) {
            Lane::Over
        } else if self.spent.is_much(now) {
            Lane::Slow
        } else if self.is_known() {
            Lane::Quick
        } else {
            Lane::Passing
        }
    }

    /// Where what comes of it goes: behind, if no request of its own that went first is before it.
    pub fn queue(&self) -> Queue {
        if self.slots.open_count() == 0 { Queue::Behind } else { self.queue }
    }

    /// How many bytes it moved since this was last asked.
    pub fn take_moved(&mut self) -> usize {
        take(&mut self.moved)
    }

    /// One of its requests took so long.
    pub fn note_time(&mut self, time: Duration) {
        self.spent.add_time(time);
    }

    /// Whether its socket may have bytes that were not read for want of room.
    pub fn is_waiting_for_room(&self) -> bool {
        self.wants_room && self.may_read && !self.deaf && self.goes_on()
    }

    /// Writes what is to be written and reads what may be read, as far as the socket goes without
    /// blocking and a turn allows. Says whether there is more to do at once.
    pub fn work(&mut self, around: &mut Around<'_>) -> Worked {
        match self.out.flush(&mut self.stream, around.memory) {
            Ok(0) => {}
            Ok(written) => {
                self.moved += written;
                self.last_used = around.now;
            }
            Err(_) => self.end(CloseReason::Socket),
        }
        if self.goes_on() {
            self.serve_held(around);
            self.recount(around.memory);
            let mut rounds = READS_PER_TURN;
            while self.may_read && self.goes_on() && rounds > 0 && self.read(around) {
                self.recount(around.memory);
                rounds -= 1;
            }
            self.recount(around.memory);
            if rounds == 0 && self.may_read && self.goes_on() {
                return Worked::HasMore;
            }
        }
        if self.out.can_go_on() {
            return Worked::HasMore;
        }
        match &mut self.ending {
            Ending::AfterAnswers if self.out.is_empty() => self.part(around.memory),
            Ending::NotYet | Ending::AfterAnswers => Worked::Waits,
            Ending::Parting(parting) => parting.discard(&mut self.stream, around.scratch),
            Ending::Now => Worked::Ended,
        }
    }

    fn queue_answers(&mut self) {
        while self.goes_on() {
            match self.slots.next_filled() {
                None => break,
                Some(Next::Close) => self.close(),
                Some(Next::Answer(answer)) => self.out.queue(answer),
            }
        }
    }

    /// Reads once and serves what became whole. Says whether to go on.
    fn read(&mut self, around: &mut Around<'_>) -> bool {
        self.wants_room = false;
        if !self.incoming.is_empty() && self.incoming.missing(around.request_bytes) == Some(0) {
            around.memory.give_overdraft_back(self.id);
            return false; // a whole request waits for its turn
        }
        let readable =
            if around.may_read { self.readable(around.memory) } else { Readable::NoRoom };
        let Readable::Bytes(most) = readable else {
            self.paused = true;
            self.wants_room = readable == Readable::NoRoom;
            around.memory.give_overdraft_back(self.id);
            return false;
        };
        if take(&mut self.paused) {
            self.arriving = Flow::begin(around.now);
        }
        match self.incoming.missing(around.request_bytes) {
            Some(missing) if missing.min(self.incoming.len()) > READ_SCRATCH_BYTES / 2 => {
                self.read_large(missing, around)
            }
            Some(_) | None => self.read_small(most, around),
        }
    }

    /// Reads through the scratch buffer: small requests, several at once.
    fn read_small(&mut self, most: usize, around: &mut Around<'_>) -> bool {
        let most = most.min(around.scratch.len());
        let count = match self.stream.read(&mut around.scratch[..most]) {
            Ok(count) => count,
            Err(error) => return self.failed_to_read(&error),
        };
        if !self.received(count, most, around) {
            return false;
        }
        let scratch = take(&mut around.scratch);
        // What completes the request at the front goes behind it, so that it is served where it is.
        let missing = self.incoming.missing(around.request_bytes).unwrap_or(count).min(count);
        let (front, behind) =
            scratch[..count].split_at(if self.incoming.is_empty() { 0 } else { missing });
        self.incoming.keep_more(front, around.request_bytes);
        self.serve_held(around);
        if self.incoming.is_empty() {
            self.serve(behind, around);
        } else {
            self.incoming.keep_more(behind, around.request_bytes);
        }
        around.scratch = scratch;
        true
    }

    /// Reads more of a large request, no more than one buffer, to where it stays: no byte is copied again.
    fn read_large(&mut self, missing: usize, around: &mut Around<'_>) -> bool {
        let room = self.incoming.room(missing);
        let before = room.len();
        let asked = READ_SCRATCH_BYTES.min(room.capacity() - before);
        room.resize(before + asked, 0);
        let outcome = self.stream.read(&mut room[before..]);
        room.truncate(before + outcome.as_ref().map_or(0, |count| *count));
        let count = match outcome {
            Ok(count) => count,
            Err(error) => return self.failed_to_read(&error),
        };
        if !self.received(count, asked, around) {
            return false;
        }
        self.serve_held(around);
        true
    }

    fn failed_to_read(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            ErrorKind::Interrupted => return true,
            ErrorKind::WouldBlock => self.may_read = false,
            _ => self.end(CloseReason::Socket),
        }
        false
    }

    /// Counts what was read. Says whether there was anything but the end.
    fn received(&mut self, count: usize, asked: usize, around: &Around<'_>) -> bool {
        if count == 0 {
            self.hear_the_end(around.now);
            return false;
        }
        self.last_used = around.now;
        self.moved += count;
        self.spent.add_bytes(count);
        if self.incoming.is_empty() {
            self.arriving = Flow::begin(around.now);
        }
        self.arriving.add(count);
        // A short read emptied the socket: what comes later is announced, but for an end that was
        // announced already.
        self.may_read = count == asked || self.peer_done;
        true
    }

    /// Gives the whole requests among the held bytes to the shard, as many as may be served.
    fn serve_held(&mut self, around: &mut Around<'_>) {
        if self.incoming.is_empty() || !self.may_serve(around.memory) {
            return;
        }
        let held = self.incoming.take();
        let is_one_whole = matches!(self.speech, Speech::Kafka { .. })
            && matches!(frame::measure(&held, around.request_bytes), Ok(Some(n)) if n == held.len());
        if !is_one_whole {
            self.serve(&held, around);
        } else if let Ok(room) = self.room_for(&held[SIZE_BYTES..], around) {
            // Large requests arrive to the byte: what was received is what is served.
            let mut frame = BytesMut::from(Bytes::from(held));
            frame.advance(SIZE_BYTES);
            self.hand_over(frame, room, around);
        } else {
            self.incoming.put_back(held);
        }
    }

    /// Gives the whole requests among received bytes to the shard, and keeps what is left.
    fn serve(&mut self, received: &[u8], around: &mut Around<'_>) {
        if received.is_empty() {
            return;
        }
        if self.speech == Speech::Admin {
            if admin::read_request(received) == Reading::Incomplete {
                return self.incoming.keep(received, around.request_bytes);
            }
            let slot = self.slots.reserve();
            let head = BytesMut::from(received);
            around.inbox.push_to(Queue::Behind, Input::Admin { connection: self.id, slot, head });
            return;
        }
        let mut rest = received;
        while self.may_serve(around.memory) {
            match frame::measure(rest, around.request_bytes) {
                Ok(Some(whole)) if whole <= rest.len() => {
                    let (front, behind) = rest.split_at(whole);
                    let frame = &front[SIZE_BYTES..];
                    let Ok(room) = self.room_for(frame, around) else { break };
                    rest = behind;
                    self.hand_over(BytesMut::from(frame), room, around);
                }
                Ok(_) => break,
                Err(error) => {
                    // What was asked before the garbage is still answered.
                    self.reason.get_or_insert(CloseReason::Frame(error));
                    let slot = self.slots.reserve();
                    self.close_at(slot);
                    return;
                }
            }
        }
        self.incoming.keep(rest, around.request_bytes);
    }

    fn hand_over(&mut self, frame: BytesMut, room: Option<AnswerRoom>, around: &Around<'_>) {
        let Speech::Kafka { listener } = self.speech else { unreachable!("HTTP has no frames") };
        around.memory.charge(frame.len());
        around.memory.give_overdraft_back(self.id);
        self.arriving = Flow::begin(around.now);
        let appetite = room.map(|room| room.appetite);
        self.goes_alone = alone::goes_alone(&frame, appetite);
        let answer_bytes = room.map_or(0, |room| room.bytes);
        if self.slots.open_count() == 0 {
            // A change, a list or a look-up may take a turn by itself, whoever asks for it.
            let is_little = !self.goes_alone || appetite == Some(Appetite::Fetch);
            let goes_first = is_little && self.lane(around.now) == Lane::Quick;
            self.queue = if goes_first { Queue::First } else { Queue::Behind };
        }
        let (connection, peer, slot) = (self.id, self.peer, self.slots.reserve());
        if appetite == Some(Appetite::Listing) {
            assert!(self.listing.replace(slot).is_none(), "listings go alone");
        }
        let input = Input::Request { connection, slot, listener, peer, frame, answer_bytes };
        around.inbox.push_to(self.queue, input);
    }
}

/// How a connection stands after its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    /// It needs news of its socket, an answer, or room.
    Waits,
    /// It has had its share of this turn and has more.
    HasMore,
    /// Everything is said: from now on it is to be ended if its client takes long to hear of it.
    Parts,
    /// It is over.
    Ended,
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use flumen_protocol::api_table::ApiKey;

    use super::*;
    use crate::limits::{
        ANSWER_GRACE, FETCH_ANSWER_BYTES_MIN, HEARD_OUT_TIME, PARTING_BYTES_MAX,
        REQUEST_ARRIVAL_GRACE, REQUEST_ARRIVAL_GRACE_WHEN_FULL, WRITE_BYTES_PER_TURN,
    };

    /// Both ends of a connection and what the broker's end needs.
    struct Line {
        connection: Connection,
        client: TcpStream,
        inbox: Inbox,
        memory: RequestMemory,
        scratch: Vec<u8>,
        now: Monotonic,
    }

    const LIMIT: usize = 1 << 20;
    const READY: Readiness =
        Readiness { readable: true, writable: true, peer_done: false, hung_up: false };

    impl Line {
        fn new(budget: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let speech = Speech::Kafka { listener: 0 };
            Self {
                connection: Connection::new(ConnectionId(1), peer, speech, stream, Monotonic(0)),
                client,
                inbox: Inbox::default(),
                memory: RequestMemory::new(budget),
                scratch: vec![0; READ_SCRATCH_BYTES],
                now: Monotonic(0),
            }
        }

        /// Sends bytes, lets them arrive, and works once.
        fn send(&mut self, bytes: &[u8]) -> Worked {
            self.client.write_all(bytes).unwrap();
            self.connection.note(READY);
            self.work()
        }

        fn work(&mut self) -> Worked {
            let mut around = Around {
                inbox: &self.inbox,
                memory: &self.memory,
                scratch: &mut self.scratch,
                may_read: true,
                now: self.now,
                request_bytes: LIMIT,
            };
            self.connection.work(&mut around)
        }

        /// Works until it has no more to do at once.
        fn work_on(&mut self) -> Worked {
            loop {
                let worked = self.work();
                if worked != Worked::HasMore {
                    return worked;
                }
            }
        }

        /// Works until a request has come.
        fn request(&mut self) -> Vec<u8> {
            loop {
                if let Some(Input::Request { frame, .. }) = self.inbox.pop(Queue::Behind) {
                    return frame.to_vec();
                }
                self.connection.note(READY);
                self.work();
            }
        }

        fn answer(&mut self, slot: u64, bytes: &'static [u8]) {
            self.fill(slot, vec![Bytes::from_static(bytes)]);
            self.work();
        }

        /// Works until so many bytes of requests are held.
        fn hold(&mut self, bytes: usize) {
            while self.connection.incoming.len() < bytes {
                self.connection.note(READY);
                self.work();
            }
        }

        /// Gives an answer as the shard does: counted.
        fn fill(&mut self, slot: u64, answer: Vec<Bytes>) {
            self.memory.recount_answer(0, answer.iter().map(Bytes::len).sum());
            self.connection.answer(slot, answer, Monotonic(0), &self.memory);
        }

        /// Reads so many bytes of an answer.
        fn drain(&mut self, bytes: usize) {
            for _ in 0..bytes / 8192 {
                self.client.read_exact(&mut [0; 8192]).unwrap();
                self.connection.note(READY);
                self.work();
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now = self.now.after(time);
        }

        fn is_stalled(&mut self) -> bool {
            self.connection.is_stalled(self.now, &self.memory, LIMIT)
        }

        fn hears(&mut self, expected: &[u8]) {
            let mut heard = vec![0; expected.len()];
            self.client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, expected);
        }
    }

    /// A request of an API that goes with others, with so many further bytes.
    fn frame(fill: u8, bytes: usize) -> Vec<u8> {
        let mut wire = (bytes as u32 + 2).to_be_bytes().to_vec();
        wire.extend_from_slice(&ApiKey::Heartbeat.code().to_be_bytes());
        wire.resize(wire.len() + bytes, fill);
        wire
    }

    #[test]
    fn a_muted_client_is_answered_and_not_read_until_its_time_is_over() {
        let mut line = Line::new(LIMIT);
        line.send(&[frame(1, 10), frame(2, 10)].concat());
        line.request();
        line.request();
        line.connection.mute(Monotonic(0).after(Duration::from_secs(60)));
        line.answer(0, b"one");
        line.answer(1, b"two");
        line.hears(b"onetwo");
        line.send(&frame(3, 10));
        line.pass(Duration::from_secs(59));
        line.connection.unmute(line.now);
        line.work();
        assert!(line.inbox.pop(Queue::Behind).is_none(), "not yet");
        assert!(!line.is_stalled(), "that is not its fault");
        line.pass(Duration::from_secs(1));
        line.connection.unmute(line.now);
        assert_eq!(line.request(), frame(3, 10)[4..]);
    }

    #[test]
    fn a_muted_client_that_goes_is_not_kept_until_its_time_is_over() {
        let mut line = Line::new(LIMIT);
        line.connection.mute(Monotonic(0).after(Duration::from_secs(100_000)));
        assert!(!line.connection.is_deserted(line.now));
        line.connection.note(Readiness { peer_done: true, ..READY });
        line.work();
        assert!(line.connection.is_deserted(line.now));
    }

    #[test]
    fn a_head_for_the_admin_page_may_come_in_pieces() {
        let mut line = Line::new(LIMIT);
        line.connection.speech = Speech::Admin;
        for piece in ["G", "ET /metrics HTTP/1.1\r\n", "Host: a\r\n", "\r"] {
            line.send(piece.as_bytes());
            assert!(line.inbox.pop(Queue::Behind).is_none(), "after {piece:?}");
        }
        line.send(b"\n");
        let Some(Input::Admin { head, .. }) = line.inbox.pop(Queue::Behind) else {
            panic!("it is whole")
        };
        assert_eq!(head[..], b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"[..]);
        assert_eq!(line.memory.used(), 0, "nothing stays counted");
    }

    #[test]
    fn requests_that_arrive_together_are_served_in_order_and_answered_in_order() {
        let mut line = Line::new(LIMIT);
        let wire = [frame(1, 10), frame(2, 0), frame(3, 20)].concat();
        line.send(&wire);
        for (fill, bytes) in [(1, 10), (2, 0), (3, 20)] {
            assert_eq!(line.request(), frame(fill, bytes)[SIZE_BYTES..]);
        }
        line.answer(1, b"two");
        line.answer(0, b"one");
        line.hears(b"onetwo");
        assert_eq!(line.memory.used(), 10 + 20 + 3 * 2, "until the shard releases them");
    }

    #[test]
    fn a_large_request_in_small_pieces_arrives_to_the_byte() {
        let mut line = Line::new(4 * LIMIT);
        let wire = [frame(7, 700_000), frame(8, 5)].concat();
        for piece in wire.chunks(33_333) {
            line.send(piece);
        }
        assert_eq!(line.request(), wire[SIZE_BYTES..700_006]);
        assert_eq!(line.request(), frame(8, 5)[SIZE_BYTES..]);
        assert!(line.connection.incoming.is_empty());
        assert_eq!(line.memory.used(), 700_000 + 5 + 2 * 2);
    }

    #[test]
    fn garbage_ends_the_connection_after_the_answers_before_it() {
        let mut line = Line::new(LIMIT);
        assert_eq!(line.send(&[frame(1, 1), vec![0xff; 12]].concat()), Worked::Waits);
        line.request();
        line.fill(0, vec![Bytes::from_static(b"last")]);
        assert_eq!(line.work(), Worked::Parts);
        line.hears(b"last");
        let reason = line.connection.bury(&line.memory);
        assert!(matches!(reason, CloseReason::Frame(_)), "{reason:?}");
    }

    #[test]
    fn what_follows_a_fetch_or_a_change_waits_for_its_answer() {
        let frame = |key: ApiKey| [&[0, 0, 0, 2][..], &key.code().to_be_bytes()].concat();
        for key in [ApiKey::Fetch, ApiKey::Metadata, ApiKey::DeleteTopics] {
            let mut line = Line::new(4 * LIMIT);
            line.send(&[frame(key), frame(key)].concat());
            line.request();
            line.connection.note(READY);
            line.work();
            assert!(line.inbox.is_empty(), "{key:?}");
            line.answer(0, b"data");
            assert_eq!(line.request(), key.code().to_be_bytes());
        }
        let mut line = Line::new(4 * LIMIT);
        line.send(&[frame(ApiKey::Heartbeat), frame(ApiKey::Fetch)].concat());
        line.request();
        line.connection.note(READY);
        line.work();
        assert!(!line.inbox.is_empty(), "a question keeps nobody waiting");
    }

    #[test]
    fn a_request_that_does_not_come_forward_is_a_stall() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 100)[..50]);
        line.hold(50);
        line.pass(REQUEST_ARRIVAL_GRACE);
        assert!(!line.is_stalled());
        line.pass(Duration::from_secs(1));
        assert!(line.is_stalled());
    }

    #[test]
    fn a_request_that_others_wait_for_comes_forward_soon_or_is_a_stall() {
        let mut line = Line::new(LIMIT);
        let wire = frame(1, 500_000);
        line.send(&wire[..100_000]);
        line.hold(100_000);
        line.work(); // the socket is empty now
        line.pass(REQUEST_ARRIVAL_GRACE_WHEN_FULL);
        line.pass(Duration::from_secs(1));
        assert!(!line.is_stalled(), "nobody waits");
        line.memory.recount_arriving(false, 0, LIMIT);
        assert!(line.is_stalled());
        line.memory.recount_arriving(false, LIMIT, 0);
        line.send(&wire[100_000..400_000]);
        line.hold(400_000);
        line.memory.recount_arriving(false, 0, LIMIT);
        assert!(!line.is_stalled(), "it comes at a sensible rate");
        line.pass(REQUEST_ARRIVAL_GRACE_WHEN_FULL + Duration::from_secs(1));
        assert!(line.is_stalled(), "what came before does not excuse it");
    }

    #[test]
    fn a_whole_request_that_waits_for_a_long_fetch_is_no_stall() {
        let mut line = Line::new(LIMIT);
        let fetch = [&[0, 0, 0, 2][..], &ApiKey::Fetch.code().to_be_bytes()].concat();
        let commit = frame(1, 100);
        line.send(&[&fetch[..], &commit[..]].concat());
        line.request();
        line.hold(commit.len());
        line.pass(REQUEST_ARRIVAL_GRACE * 10);
        assert!(!line.is_stalled());
        line.answer(0, b"data");
        assert_eq!(line.request(), commit[SIZE_BYTES..]);
    }

    #[test]
    fn a_request_that_we_do_not_read_for_want_of_room_is_no_stall() {
        let mut line = Line::new(LIMIT);
        let wire = frame(1, 500_000);
        line.send(&wire[..100_000]);
        line.hold(100_000);
        line.memory.recount_arriving(false, 0, LIMIT);
        assert!(line.memory.may_overdraw(ConnectionId(2), false), "another one goes on");
        line.send(&wire[100_000..200_000]);
        assert_eq!(line.connection.incoming.len(), 100_000);
        line.pass(REQUEST_ARRIVAL_GRACE * 2);
        assert!(!line.is_stalled());

        line.memory.recount_arriving(false, LIMIT, 0);
        line.memory.give_overdraft_back(ConnectionId(2));
        line.hold(200_000);
        line.work(); // the socket is empty now
        line.pass(REQUEST_ARRIVAL_GRACE);
        assert!(!line.is_stalled(), "its time starts when reading goes on");
        line.pass(REQUEST_ARRIVAL_GRACE * 10);
        assert!(line.is_stalled());
        line.send(&wire[200_000..]);
        assert_eq!(line.request(), wire[SIZE_BYTES..]);
    }

    #[test]
    fn a_client_that_is_gone_ends_its_connection_and_holds_nothing() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 100)[..50]);
        while line.connection.incoming.is_empty() {
            line.connection.note(READY);
            line.work();
        }
        assert!(line.memory.used() >= 50);
        line.client.shutdown(std::net::Shutdown::Both).unwrap();
        while line.work() != Worked::Ended {
            line.connection.note(READY);
        }
        let reason = line.connection.bury(&line.memory);
        assert!(matches!(reason, CloseReason::ByPeer | CloseReason::Socket), "{reason:?}");
        assert_eq!(line.memory.used(), 0);
    }

    #[test]
    fn a_client_that_has_ended_its_side_gets_its_answers() {
        let mut line = Line::new(LIMIT);
        line.send(&[frame(1, 1), frame(2, 2), frame(3, 100)[..50].to_vec()].concat());
        line.client.shutdown(std::net::Shutdown::Write).unwrap();
        line.request();
        line.request();
        while line.connection.heard_out.is_none() {
            line.connection.note(READY);
            assert_eq!(line.work(), Worked::Waits);
        }
        line.answer(1, b"two");
        line.fill(0, vec![Bytes::from_static(b"one")]);
        while line.work() != Worked::Ended {}
        line.hears(b"onetwo");
        assert_eq!(line.client.read(&mut [0]).unwrap(), 0);
        let reason = line.connection.bury(&line.memory);
        assert!(matches!(reason, CloseReason::ByPeer), "{reason:?}");
        assert_eq!(line.memory.used(), 3 + 4, "what the shard releases; no half request");
    }

    #[test]
    fn a_client_that_seems_gone_is_not_answered_for_ever() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 1));
        line.request();
        line.client.shutdown(std::net::Shutdown::Write).unwrap();
        while line.connection.heard_out.is_none() {
            line.connection.note(READY);
            line.work();
        }
        line.pass(HEARD_OUT_TIME);
        assert!(!line.connection.is_deserted(line.now));
        line.pass(Duration::from_secs(1));
        assert!(line.connection.is_deserted(line.now));
    }

    #[test]
    fn the_last_answer_arrives_in_full_although_the_client_sent_more_than_was_read() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 1));
        line.request();
        line.connection.retire();
        line.send(&[7; 100_000]);
        let last = vec![Bytes::from(vec![9; 1_500_000])];
        line.fill(0, last);
        line.client.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        loop {
            line.connection.note(READY);
            match line.work() {
                Worked::Ended => break,
                Worked::Parts | Worked::HasMore => {}
                // As late as it may, the client listens.
                Worked::Waits => match line.client.read(&mut [0; 10_000]) {
                    Ok(0) => line.client.shutdown(std::net::Shutdown::Write).unwrap(),
                    Ok(count) => heard.push(count),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                },
            }
        }
        let Line { connection, mut client, memory, .. } = line;
        connection.bury(&memory);
        client.set_nonblocking(false).unwrap();
        let rest = client.read_to_end(&mut Vec::new()).expect("an end, not a reset");
        assert_eq!(heard.iter().sum::<usize>() + rest, 1_500_000);
    }

    #[test]
    fn a_client_that_does_not_stop_sending_is_let_go() {
        let mut line = Line::new(LIMIT);
        line.connection.retire();
        assert_eq!(line.work(), Worked::Parts);
        line.client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while line.work() != Worked::Ended {
            sent += line.client.write(&[7; 100_000]).unwrap_or(0);
        }
        assert!(sent >= PARTING_BYTES_MAX, "{sent}");
        assert_eq!(line.memory.used(), 0);
    }

    #[test]
    fn answers_that_the_socket_does_not_take_at_once_leave_in_full() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 1));
        line.request();
        let large: Vec<u8> = (0..8 << 20).map(|at: usize| at as u8).collect();
        let answer = large.chunks(100_000).map(Bytes::copy_from_slice).collect();
        line.fill(0, answer);
        assert_eq!(line.work(), Worked::HasMore, "others have their turn");
        assert_eq!(line.connection.out.queued_bytes(), large.len() - WRITE_BYTES_PER_TURN);
        assert_eq!(line.work_on(), Worked::Waits, "the client has read nothing yet");
        assert!(!line.connection.out.is_empty());
        let mut heard = Vec::new();
        while heard.len() < large.len() {
            let mut piece = [0; 10_000];
            let count = line.client.read(&mut piece).unwrap();
            heard.extend_from_slice(&piece[..count]);
            line.connection.note(READY);
            line.work();
        }
        assert!(line.connection.out.is_empty());
        assert_eq!((line.connection.out.queued_bytes(), line.memory.answers()), (0, 0));
        assert!(heard == large, "every byte in its place");
    }

    /// A request of Fetch without a body.
    fn fetch() -> Vec<u8> {
        [&[0, 0, 0, 2][..], &ApiKey::Fetch.code().to_be_bytes()].concat()
    }

    #[test]
    fn a_fetch_waits_for_room_for_its_answer() {
        let mut line = Line::new(LIMIT);
        line.memory.recount_answer(0, LIMIT);
        line.send(&[frame(1, 1), fetch(), frame(2, 2)].concat());
        assert_eq!(line.request(), frame(1, 1)[SIZE_BYTES..], "others do not wait");
        line.answer(0, b"one");
        line.hears(b"one");
        line.connection.note(READY);
        line.work();
        assert!(line.inbox.is_empty());
        assert_eq!(line.memory.next_admitted(), None, "there is no room");

        line.memory.recount_answer(LIMIT, 0);
        let (next, aside) = line.memory.next_admitted().expect("there is room");
        assert_eq!(next, ConnectionId(1));
        line.connection.give_answer_room(aside);
        assert_eq!(line.request(), fetch()[SIZE_BYTES..]);
        assert_eq!(line.memory.answers(), FETCH_ANSWER_BYTES_MIN, "set aside once");
        line.answer(1, b"data");
        assert_eq!(line.request(), frame(2, 2)[SIZE_BYTES..], "in its turn");
    }

    #[test]
    fn a_connection_that_ends_gives_the_memory_of_its_answers_back() {
        let mut line = Line::new(LIMIT);
        line.send(&[frame(1, 1), frame(2, 2)].concat());
        line.request();
        line.request();
        line.fill(0, vec![Bytes::from(vec![0; 8 << 20])]);
        line.fill(1, vec![Bytes::from(vec![0; 1 << 20])]);
        assert_eq!(line.work_on(), Worked::Waits);
        assert_eq!(line.memory.answers(), line.connection.out.given_bytes());
        let room = AnswerRoom { appetite: Appetite::Fetch, bytes: 1_000 };
        line.connection.give_answer_room(room);
        line.memory.recount_answer(0, room.bytes);
        assert!(line.connection.abort(CloseReason::Unread) > 1 << 20);
        assert_eq!(line.work(), Worked::Ended);
        assert!(matches!(line.connection.bury(&line.memory), CloseReason::Unread));
        assert_eq!(line.memory.answers(), 0);
    }

    #[test]
    fn a_client_that_reads_slowly_is_told_from_one_that_reads() {
        let mut line = Line::new(LIMIT);
        line.send(&frame(1, 1));
        line.request();
        let later =
            |times: u32| Monotonic(0).after((ANSWER_GRACE + Duration::from_secs(1)) * times);
        assert!(!line.connection.is_unread(later(1)), "there is nothing to read");
        line.fill(0, vec![Bytes::from(vec![0; 32 << 20])]);
        line.work();
        assert!(!line.connection.is_unread(Monotonic(0).after(ANSWER_GRACE)), "it has time");
        line.drain(2 << 20);
        assert!(!line.connection.is_unread(later(1)), "fast enough");
        assert!(line.connection.is_unread(later(2)), "not a byte since then");
        line.drain(2 << 20);
        assert!(!line.connection.is_unread(later(2)), "it has caught up");
    }
}

//! One connection: bytes to frames to inputs, answers to bytes.
//!
//! Does: run a reader and a writer task over one socket; reserve a slot per request; stop
//! reading while too much is open; close with a reason when the bytes are no Kafka.
//! Does not: decode requests.
//! Invariants: an idle connection holds no buffer (reads go through one scratch buffer per
//! core); memory grows with bytes received, never with bytes announced; every byte held for a
//! request, whole or not, is charged to the core's budget.
//! Apart from the listener because it is the hot half.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::frame::{self, Progress};
use flumen_protocol::time::Monotonic;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::connections::Connections;
use super::inbox::Inbox;
use super::slots::{Next, Slots};
use crate::limits::{
    COALESCE_BYTES, READ_SCRATCH_BYTES, REQUEST_ARRIVAL_GRACE, REQUEST_BYTES_PER_SECOND,
    REQUEST_BYTES_PER_SECOND_WHEN_FULL, REQUESTS_IN_FLIGHT_PER_CONNECTION,
    RESPONSE_BYTES_QUEUED_PER_CONNECTION, SMALL_REQUEST_BYTES,
};
use crate::shard::input::{CloseReason, ConnectionId, Input};
use crate::shard::memory::RequestMemory;

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

/// What all connections of a core share.
pub struct Shared {
    /// Where requests go.
    pub inbox: Rc<Inbox>,
    /// The core's connections.
    pub connections: Rc<Connections>,
    /// Bytes of requests that are being served.
    pub memory: Rc<RequestMemory>,
    /// Every read of this core lands here first, so that waiting connections own no buffer.
    pub scratch: RefCell<Vec<u8>>,
}

impl Shared {
    /// One scratch buffer, nothing open.
    pub fn new(
        inbox: Rc<Inbox>,
        connections: Rc<Connections>,
        memory: Rc<RequestMemory>,
    ) -> Rc<Self> {
        let scratch = RefCell::new(vec![0; READ_SCRATCH_BYTES]);
        Rc::new(Self { inbox, connections, memory, scratch })
    }
}

/// One open connection.
pub struct Connection {
    /// Its number on this core.
    pub id: ConnectionId,
    /// Who is at the other end.
    pub peer: SocketAddr,
    speech: Speech,
    stream: RefCell<TcpStream>,
    slots: RefCell<Slots>,
    /// Answers in order, not written yet.
    out: RefCell<VecDeque<Bytes>>,
    out_bytes: Cell<usize>,
    writer: Cell<Option<Waker>>,
    reader: Cell<Option<Waker>>,
    last_used: Cell<Monotonic>,
    /// Bytes received that are no whole request yet. Invariant: counted by the budget.
    held: Cell<usize>,
    /// Since when the request at the front arrives without our doing, and how much of it since.
    arriving: Cell<(Monotonic, usize)>,
    /// The last request handed over is a fetch: the next one waits for its answer.
    fetching: Cell<bool>,
    /// No further request is served: one before it ends the connection.
    deaf: Cell<bool>,
    /// It ends once the queued answers are written.
    closing: Cell<bool>,
    /// It ends now.
    aborted: Cell<bool>,
}

/// Runs a connection until either side closes it.
pub async fn serve(
    shared: Rc<Shared>,
    id: ConnectionId,
    peer: SocketAddr,
    speech: Speech,
    stream: TcpStream,
) {
    let connection = Rc::new(Connection {
        id,
        peer,
        speech,
        stream: RefCell::new(stream),
        slots: RefCell::default(),
        out: RefCell::default(),
        out_bytes: Cell::new(0),
        writer: Cell::new(None),
        reader: Cell::new(None),
        last_used: Cell::new(shared.connections.now()),
        held: Cell::new(0),
        arriving: Cell::new((shared.connections.now(), 0)),
        fetching: Cell::new(false),
        deaf: Cell::new(false),
        closing: Cell::new(false),
        aborted: Cell::new(false),
    });
    shared.connections.insert(connection.clone());
    shared.inbox.push(Input::Opened { connection: id });
    let writer = glommio::spawn_local({
        let (connection, shared) = (connection.clone(), shared.clone());
        async move { connection.write_all(&shared).await }
    })
    .detach();
    let reason = connection.read_all(&shared).await;
    shared.memory.unreceive(connection.held.take());
    shared.memory.give_overdraft_back(id);
    match reason {
        CloseReason::ByPeer | CloseReason::Socket => {
            // Nobody reads the answers any more.
            connection.out.borrow_mut().clear();
            connection.close();
        }
        CloseReason::ByBroker => connection.close(),
        CloseReason::Frame(_) => {
            // What was asked before the garbage is still answered.
            let slot = connection.slots.borrow_mut().reserve();
            connection.close_at(slot);
        }
    }
    let _ended = writer.await;
    shared.connections.remove(id);
    shared.inbox.push(Input::Closed { connection: id, peer, reason });
}

/// How much of the buffer was given to the shard.
enum Handed {
    /// Every whole request; what is left needs more bytes.
    All,
    /// What may be served at once; at least one whole request may be left.
    Some,
}

/// Bytes of a request's size on the wire.
const SIZE_BYTES: usize = 4;

impl Connection {
    /// When bytes last moved.
    pub fn last_used(&self) -> Monotonic {
        self.last_used.get()
    }

    /// Fills a slot and queues what is now in order.
    pub fn answer(&self, slot: u64, answer: Vec<Bytes>, now: Monotonic) {
        self.slots.borrow_mut().fill(slot, answer);
        self.last_used.set(now);
        self.queue_answers();
    }

    /// Ends the connection once everything before this slot is answered and written; what came
    /// after it is not answered any more.
    pub fn close_at(&self, slot: u64) {
        self.deaf.set(true);
        self.slots.borrow_mut().fill_last(slot);
        self.queue_answers();
    }

    /// Ends the connection once the queued answers are written.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake_writer();
        self.wake_reader();
    }

    /// Ends the connection now, whatever is still to be written: its client does not read.
    pub fn abort(&self) {
        self.aborted.set(true);
        self.close();
    }

    /// Whether a request began to arrive and does not come forward. A few such clients could
    /// otherwise hold the whole budget of requests with what they sent of them.
    pub fn is_stalled(&self, now: Monotonic, memory: &RequestMemory) -> bool {
        let (since, bytes) = self.arriving.get();
        let took: Duration = now.since(since);
        let rate = if memory.has_arrival_room() {
            REQUEST_BYTES_PER_SECOND
        } else {
            REQUEST_BYTES_PER_SECOND_WHEN_FULL
        };
        self.held.get() > 0
            && took > REQUEST_ARRIVAL_GRACE
            && (bytes as u64) < rate.saturating_mul(took.as_secs())
    }

    fn queue_answers(&self) {
        while !self.closing.get() {
            match self.slots.borrow_mut().next_filled() {
                None => break,
                Some(Next::Close) => self.closing.set(true),
                Some(Next::Answer(buffers)) => {
                    for bytes in buffers {
                        self.out_bytes.set(self.out_bytes.get() + bytes.len());
                        self.out.borrow_mut().push_back(bytes);
                    }
                }
            }
        }
        self.wake_writer();
        self.wake_reader();
    }

    /// Lets a reader that paused look again whether it may go on.
    pub fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Whether one more request may be served.
    fn may_serve(&self) -> bool {
        let open = self.slots.borrow().open_count();
        !self.deaf.get()
            && open < REQUESTS_IN_FLIGHT_PER_CONNECTION
            && self.out_bytes.get() < RESPONSE_BYTES_QUEUED_PER_CONNECTION
            // Clients wait for one fetch before they send the next. Serving many at once would
            // gather as many large answers for a client that may never read them.
            && !(self.fetching.get() && open > 0)
    }

    /// How many bytes may be read now. Without room a small request may still come, one per
    /// connection, so that whoever fills the budget does not silence everybody else.
    fn readable(&self, memory: &RequestMemory) -> usize {
        let (open, held) = (self.slots.borrow().open_count(), self.held.get());
        if self.deaf.get()
            || open >= REQUESTS_IN_FLIGHT_PER_CONNECTION
            || self.out_bytes.get() >= RESPONSE_BYTES_QUEUED_PER_CONNECTION
            || (open > 0 && !memory.has_room())
        {
            0
        } else if held < SMALL_REQUEST_BYTES {
            let has_room = memory.has_room() && memory.has_arrival_room();
            if has_room { READ_SCRATCH_BYTES } else { SMALL_REQUEST_BYTES - held }
        } else if memory.has_room() && (memory.has_arrival_room() || memory.may_overdraw(self.id)) {
            READ_SCRATCH_BYTES
        } else {
            0
        }
    }

    async fn read_all(&self, shared: &Shared) -> CloseReason {
        let mut buffer = BytesMut::new();
        loop {
            match poll_fn(|cx| self.poll_read(cx, shared, &mut buffer)).await {
                Ok(0) => return CloseReason::ByPeer,
                Ok(_) => {}
                Err(_) if self.closing.get() => return CloseReason::ByBroker,
                Err(_) => return CloseReason::Socket,
            }
            self.last_used.set(shared.connections.now());
            loop {
                match self.hand_over(shared, &mut buffer) {
                    Ok(Handed::All) => break,
                    Ok(Handed::Some) => poll_fn(|cx| self.poll_served(cx)).await,
                    Err(reason) => return reason,
                }
                if self.closing.get() {
                    return CloseReason::ByBroker;
                }
            }
            if buffer.is_empty() {
                // Give the allocation back: requests that still use it hold it by refcount.
                buffer = BytesMut::new();
            }
        }
    }

    /// Ready when a request that is held back may be served, or nothing matters any more.
    fn poll_served(&self, cx: &Context<'_>) -> Poll<()> {
        if self.closing.get() || self.may_serve() {
            return Poll::Ready(());
        }
        self.reader.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        shared: &Shared,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if self.closing.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.reader.set(Some(cx.waker().clone()));
        let most = self.readable(&shared.memory);
        if most == 0 {
            let memory = &shared.memory;
            if !(memory.has_room() && memory.has_arrival_room()) {
                memory.note_paused();
            }
            // It is we who do not read: that is no stalling client.
            self.arriving.set((shared.connections.now(), 0));
            return Poll::Pending;
        }
        let mut scratch = shared.scratch.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        match Pin::new(&mut *stream).poll_read(cx, &mut scratch[..most]) {
            Poll::Ready(Ok(count)) => {
                buffer.extend_from_slice(&scratch[..count]);
                shared.memory.receive(count);
                if self.held.get() == 0 {
                    self.arriving.set((shared.connections.now(), 0));
                }
                self.held.set(self.held.get() + count);
                let (since, bytes) = self.arriving.get();
                self.arriving.set((since, bytes + count));
                Poll::Ready(Ok(count))
            }
            other => other,
        }
    }

    /// Gives the whole requests of the buffer to the shard, as many as may be served at once.
    fn hand_over(&self, shared: &Shared, buffer: &mut BytesMut) -> Result<Handed, CloseReason> {
        let Speech::Kafka { listener } = self.speech else {
            shared.memory.unreceive(self.held.take());
            let head = buffer.split();
            let slot = self.slots.borrow_mut().reserve();
            shared.inbox.push(Input::Admin { connection: self.id, slot, head });
            return Ok(Handed::All);
        };
        let limit = shared.connections.limits().request_bytes;
        loop {
            if !self.may_serve() {
                return Ok(Handed::Some);
            }
            match frame::next(buffer, limit) {
                Ok(Progress::Complete(frame)) => {
                    let arrived = frame.len() + SIZE_BYTES;
                    self.held.set(self.held.get() - arrived);
                    shared.memory.unreceive(arrived);
                    shared.memory.charge(frame.len());
                    shared.memory.give_overdraft_back(self.id);
                    self.arriving.set((shared.connections.now(), 0));
                    self.fetching.set(frame.starts_with(&ApiKey::Fetch.code().to_be_bytes()));
                    let slot = self.slots.borrow_mut().reserve();
                    let (connection, peer) = (self.id, self.peer);
                    shared.inbox.push(Input::Request { connection, slot, listener, peer, frame });
                }
                Ok(Progress::Incomplete { .. }) => return Ok(Handed::All),
                Err(error) => return Err(CloseReason::Frame(error)),
            }
        }
    }

    async fn write_all(&self, shared: &Shared) {
        loop {
            let more = poll_fn(|cx| {
                if self.aborted.get() {
                    return Poll::Ready(false);
                }
                if !self.out.borrow().is_empty() {
                    return Poll::Ready(true);
                }
                if self.closing.get() {
                    return Poll::Ready(false);
                }
                self.writer.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            if !more || self.write_next(shared).await.is_err() {
                break;
            }
        }
        self.out.borrow_mut().clear();
        self.closing.set(true);
        self.wake_reader();
        let _closed = poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_close(cx)).await;
    }

    /// Writes the next piece: one large buffer as it is, or small ones together.
    async fn write_next(&self, shared: &Shared) -> io::Result<()> {
        let mut piece = self.next_piece();
        let length = piece.len();
        while !piece.is_empty() {
            let count = poll_fn(|cx| {
                if self.aborted.get() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                self.writer.set(Some(cx.waker().clone()));
                Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, &piece)
            })
            .await?;
            piece.advance(count);
            self.last_used.set(shared.connections.now());
        }
        self.out_bytes.set(self.out_bytes.get() - length);
        self.wake_reader();
        Ok(())
    }

    fn next_piece(&self) -> Bytes {
        let mut out = self.out.borrow_mut();
        let first = out.pop_front().expect("caller saw an answer");
        let mut sum = first.len();
        let together = out
            .iter()
            .take_while(|next| {
                sum += next.len();
                sum <= COALESCE_BYTES
            })
            .count();
        if together == 0 {
            return first;
        }
        let rest: Vec<Bytes> = out.drain(..together).collect();
        let length = first.len() + rest.iter().map(Bytes::len).sum::<usize>();
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&first);
        for piece in rest {
            joined.extend_from_slice(&piece);
        }
        joined.freeze()
    }
}

//! One connection: bytes to frames to inputs, answers to bytes.
//!
//! Does: run a reader and a writer task over one socket; reserve a slot per request; stop
//! reading while too much is open; close with a reason when the bytes are no Kafka.
//! Does not: decode requests.
//! Invariants: an idle connection holds no buffer (reads go through one scratch buffer per
//! core); memory grows with bytes received, never with bytes announced.
//! Apart from the listener because it is the hot half.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use flumen_protocol::frame::{self, Progress};
use flumen_protocol::time::Monotonic;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::connections::Connections;
use super::inbox::Inbox;
use super::slots::Slots;
use crate::limits::{
    COALESCE_BYTES, READ_SCRATCH_BYTES, REQUESTS_IN_FLIGHT_PER_CONNECTION,
    RESPONSE_BYTES_QUEUED_PER_CONNECTION,
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
    closing: Cell<bool>,
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
        closing: Cell::new(false),
    });
    shared.connections.insert(connection.clone());
    shared.inbox.push(Input::Opened { connection: id });
    let writer = glommio::spawn_local({
        let connection = connection.clone();
        async move { connection.write_all().await }
    })
    .detach();
    let reason = connection.read_all(&shared).await;
    if matches!(reason, CloseReason::ByPeer | CloseReason::Socket) {
        // Nobody reads the answers any more.
        connection.out.borrow_mut().clear();
    }
    connection.close();
    let _ended = writer.await;
    shared.connections.remove(id);
    shared.inbox.push(Input::Closed { connection: id, peer, reason });
}

impl Connection {
    /// When bytes last moved.
    pub fn last_used(&self) -> Monotonic {
        self.last_used.get()
    }

    /// Fills a slot and queues what is now in order.
    pub fn answer(&self, slot: u64, answer: Vec<Bytes>, now: Monotonic) {
        let mut slots = self.slots.borrow_mut();
        slots.fill(slot, answer);
        while let Some(buffers) = slots.next_filled() {
            for bytes in buffers {
                self.out_bytes.set(self.out_bytes.get() + bytes.len());
                self.out.borrow_mut().push_back(bytes);
            }
        }
        self.last_used.set(now);
        self.wake_writer();
        self.wake_reader();
    }

    /// Ends the connection once the queued answers are written.
    pub fn close(&self) {
        self.closing.set(true);
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

    fn may_read(&self, shared: &Shared) -> bool {
        self.slots.borrow().open_count() < REQUESTS_IN_FLIGHT_PER_CONNECTION
            && self.out_bytes.get() < RESPONSE_BYTES_QUEUED_PER_CONNECTION
            && shared.memory.has_room()
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
            if let Err(reason) = self.hand_over(shared, &mut buffer) {
                return reason;
            }
            if buffer.is_empty() {
                // Give the allocation back: requests that still use it hold it by refcount.
                buffer = BytesMut::new();
            }
        }
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
        if !self.may_read(shared) {
            shared.memory.note_paused();
            return Poll::Pending;
        }
        let mut scratch = shared.scratch.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        match Pin::new(&mut *stream).poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(count)) => {
                buffer.extend_from_slice(&scratch[..count]);
                Poll::Ready(Ok(count))
            }
            other => other,
        }
    }

    /// Gives every whole request of the buffer to the shard.
    fn hand_over(&self, shared: &Shared, buffer: &mut BytesMut) -> Result<(), CloseReason> {
        match self.speech {
            Speech::Kafka { listener } => loop {
                match frame::next(buffer, shared.connections.limits().request_bytes) {
                    Ok(Progress::Complete(frame)) => {
                        shared.memory.charge(frame.len());
                        let slot = self.slots.borrow_mut().reserve();
                        let (connection, peer) = (self.id, self.peer);
                        shared.inbox.push(Input::Request {
                            connection,
                            slot,
                            listener,
                            peer,
                            frame,
                        });
                    }
                    Ok(Progress::Incomplete { .. }) => return Ok(()),
                    Err(error) => return Err(CloseReason::Frame(error)),
                }
            },
            Speech::Admin => {
                let head = buffer.split();
                let slot = self.slots.borrow_mut().reserve();
                shared.inbox.push(Input::Admin { connection: self.id, slot, head });
                Ok(())
            }
        }
    }

    async fn write_all(&self) {
        loop {
            let more = poll_fn(|cx| {
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
            if !more || self.write_next().await.is_err() {
                break;
            }
        }
        self.closing.set(true);
        self.wake_reader();
        let _closed = poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_close(cx)).await;
    }

    /// Writes the next piece: one large buffer as it is, or small ones together.
    async fn write_next(&self) -> io::Result<()> {
        let mut piece = self.next_piece();
        let length = piece.len();
        while !piece.is_empty() {
            let count =
                poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, &piece))
                    .await?;
            piece.advance(count);
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

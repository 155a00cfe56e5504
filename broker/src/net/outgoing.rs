//! The answers of one connection that are not written yet.
//!
//! Does: keep them in order, write many at once, remember how fast the client takes them.
//! Does not: put answers in order (`slots.rs` does) or decide what a slow client costs.
//! Invariants: what was given and not written is counted by the budget of answers, also while it
//! waits for the answers before it; an empty queue holds no buffer.
//! Apart because what comes in and what goes out of a connection share nothing but its socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::TcpStream;

use bytes::{Buf, Bytes};
use flumen_protocol::time::Monotonic;

use super::flow::Flow;
use crate::limits::{
    ANSWER_BYTES_PER_SECOND_WHEN_FULL, ANSWER_GRACE, WRITE_BYTES_PER_TURN, WRITE_PIECES_MAX,
};
use crate::shard::memory::RequestMemory;

/// What a client is still to be sent.
pub struct Outgoing {
    /// In order, ready to be written.
    queue: VecDeque<Bytes>,
    /// Bytes in the queue.
    queued_bytes: usize,
    /// Bytes given and not written, in the queue or not. Invariant: counted by the budget.
    given_bytes: usize,
    uptake: Flow,
    /// The socket may take bytes.
    may_write: bool,
}

impl Outgoing {
    /// Nothing yet.
    pub fn new(now: Monotonic) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            given_bytes: 0,
            uptake: Flow::begin(now),
            may_write: true,
        }
    }

    /// Takes note of an answer that the budget counts; it is queued when its turn comes.
    pub fn give(&mut self, bytes: usize, now: Monotonic) {
        self.given_bytes += bytes;
        if self.queue.is_empty() {
            self.uptake = Flow::begin(now);
        }
    }

    /// Puts the next answer in order at the end.
    pub fn queue(&mut self, answer: Vec<Bytes>) {
        for bytes in answer {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Throws away what is queued. What was given stays counted until the connection is buried.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Bytes that the budget counts for it.
    pub fn given_bytes(&self) -> usize {
        self.given_bytes
    }

    /// Whether the socket may take more of what is queued.
    pub fn can_go_on(&self) -> bool {
        self.may_write && !self.queue.is_empty()
    }

    /// The socket may take bytes again.
    pub fn note_writable(&mut self) {
        self.may_write = true;
    }

    /// Whether the client takes what is queued too slowly. To be asked now and then.
    pub fn is_slow(&mut self, now: Monotonic) -> bool {
        !self.queue.is_empty()
            && self.uptake.is_slow(now, ANSWER_GRACE, ANSWER_BYTES_PER_SECOND_WHEN_FULL)
    }

    /// Writes, many pieces at once, until the socket takes no more. Says whether it took any.
    ///
    /// # Errors
    /// What is wrong with the socket; it takes nothing any more.
    pub fn flush(&mut self, stream: &mut TcpStream, memory: &RequestMemory) -> io::Result<usize> {
        let mut took = 0;
        while self.can_go_on() && took < WRITE_BYTES_PER_TURN {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES_MAX];
            let count = self.queue.len().min(WRITE_PIECES_MAX);
            let mut asked = 0;
            for (piece, bytes) in pieces.iter_mut().zip(&self.queue) {
                let most = WRITE_BYTES_PER_TURN - took - asked;
                *piece = IoSlice::new(&bytes[..bytes.len().min(most)]);
                asked += piece.len();
            }
            match stream.write_vectored(&pieces[..count]) {
                Ok(written) => {
                    self.wrote(written);
                    memory.recount_answer(written, 0);
                    self.may_write = written == asked;
                    took += written;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_write = false,
                Err(error) => return Err(error),
            }
        }
        Ok(took)
    }

    fn wrote(&mut self, mut written: usize) {
        self.queued_bytes -= written;
        self.given_bytes -= written;
        self.uptake.add(written);
        while let Some(first) = self.queue.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
    }
}

//! What a connection may do, as far as it takes memory of its core: read on, have a request served, hold
//! what it holds.
//!
//! Does: ask the budget for it, by what is known of the client; say whose bytes move too slowly while
//! others wait.
//! Does not: read, serve or end anything.
//! Invariants: none of its own.
//! Apart because these are the rules of back-pressure (G25), and `connection.rs` the work that they bound.

use flumen_protocol::time::Monotonic;

use super::super::alone;
use super::{Around, Connection};
use crate::limits::{
    KNOWN_AFTER_ANSWERS, READ_SCRATCH_BYTES, REQUEST_ARRIVAL_GRACE,
    REQUEST_ARRIVAL_GRACE_WHEN_FULL, REQUEST_BYTES_PER_SECOND, REQUEST_BYTES_PER_SECOND_WHEN_FULL,
    REQUESTS_IN_FLIGHT_PER_CONNECTION, RESPONSE_BYTES_QUEUED_PER_CONNECTION, SMALL_REQUEST_BYTES,
};
use crate::shard::memory::{AnswerRoom, RequestMemory, Standing};

/// How much a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// So many bytes.
    Bytes(usize),
    /// Nothing before there is room.
    NoRoom,
    /// Nothing before something else happens to the connection.
    NotYet,
}

/// There is no room for the answer; the connection waits for it.
pub(super) struct NoRoomYet;

impl Connection {
    /// Whether one more request may be served.
    pub(super) fn may_serve(&self, memory: &RequestMemory) -> bool {
        let open = self.slots.open_count();
        !self.deaf
            && !self.is_muted()
            && self.goes_on()
            && open < REQUESTS_IN_FLIGHT_PER_CONNECTION
            && self.out.queued_bytes() < RESPONSE_BYTES_QUEUED_PER_CONNECTION
            // Who does not read gets nothing more while that takes the memory of others.
            && (self.out.is_empty() || memory.has_answer_room())
            && !(self.goes_alone && open > 0)
    }

    /// What is set aside for the answer to this request, where it may be large; the request may have
    /// to wait for it.
    pub(super) fn room_for(
        &mut self,
        frame: &[u8],
        around: &Around<'_>,
    ) -> Result<Option<AnswerRoom>, NoRoomYet> {
        let Some(appetite) = alone::appetite(frame) else { return Ok(None) };
        let standing = self.standing(around.now);
        let admit = || around.memory.admit(self.id, appetite, standing);
        let room = self.answer_room.take().or_else(admit);
        room.map(Some).ok_or(NoRoomYet)
    }

    /// What it is known for when it asks for a large answer.
    fn standing(&mut self, now: Monotonic) -> Standing {
        if self.spent.has_moved_much(now) {
            Standing::Much
        } else if self.is_known() {
            Standing::Known
        } else {
            Standing::New
        }
    }

    /// Whether it was here for a while and stays.
    pub fn is_known(&self) -> bool {
        self.answered >= KNOWN_AFTER_ANSWERS && !self.peer_done
    }

    /// How much may be read now. Without room a small request may still come, one per connection, so
    /// that whoever fills the budget does not silence everybody else.
    pub(super) fn readable(&self, memory: &RequestMemory) -> Readable {
        let (open, held) = (self.slots.open_count(), self.incoming.len());
        let is_known = self.is_known();
        if self.deaf
            || self.is_muted()
            || open >= REQUESTS_IN_FLIGHT_PER_CONNECTION
            || self.out.queued_bytes() >= RESPONSE_BYTES_QUEUED_PER_CONNECTION
        {
            Readable::NotYet
        } else if open > 0 && !memory.has_room() {
            Readable::NoRoom
        } else if held < SMALL_REQUEST_BYTES {
            let has_room = memory.has_room() && memory.has_arrival_room(is_known);
            Readable::Bytes(if has_room { READ_SCRATCH_BYTES } else { SMALL_REQUEST_BYTES - held })
        } else if memory.has_room()
            && (memory.has_arrival_room(is_known) || memory.may_overdraw(self.id, is_known))
        {
            Readable::Bytes(READ_SCRATCH_BYTES)
        } else {
            Readable::NoRoom
        }
    }

    /// Lets the budget know what is held of requests.
    pub(super) fn recount(&mut self, memory: &RequestMemory) {
        let is_known = self.is_known();
        self.incoming.recount(memory, is_known);
    }

    /// Whether a request began to arrive and its client does not send the rest. A few such clients
    /// could otherwise hold the whole budget of requests with what they sent of them. A request that
    /// is whole, or of which more may lie in the socket, waits for us: that is nobody's fault there.
    pub fn is_stalled(&mut self, now: Monotonic, memory: &RequestMemory, limit: usize) -> bool {
        if self.incoming.is_empty()
            || self.deaf
            || self.is_muted()
            || self.may_read
            || self.incoming.missing(limit) == Some(0)
        {
            return false;
        }
        let (grace, bytes_per_second) = if memory.has_arrival_room(self.is_known()) {
            (REQUEST_ARRIVAL_GRACE, REQUEST_BYTES_PER_SECOND)
        } else {
            (REQUEST_ARRIVAL_GRACE_WHEN_FULL, REQUEST_BYTES_PER_SECOND_WHEN_FULL)
        };
        self.arriving.is_slow(now, grace, bytes_per_second)
    }

    /// Whether its client takes its answers too slowly for times when others need their memory.
    pub fn is_unread(&mut self, now: Monotonic) -> bool {
        self.out.is_slow(now)
    }
}

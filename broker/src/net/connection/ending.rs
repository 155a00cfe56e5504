//! How a connection comes to its end.
//!
//! Does: end it at once, after what is queued, or after what was asked; give back what it held.
//! Does not: decide that it should end.
//! Invariants: the first reason stays; a connection that has ended takes nothing in any more, and the
//! budget counts nothing for it.
//! Apart because every way to end must end the same: what is queued, held and set aside goes.

use flumen_protocol::time::Monotonic;

use super::super::parting::Parting;
use super::{Connection, Worked};
use crate::limits::HEARD_OUT_TIME;
use crate::shard::input::CloseReason;
use crate::shard::memory::RequestMemory;

/// How far the end of a connection has come: from the first to the third one after the other, or
/// from any of them to the last.
pub(super) enum Ending {
    /// It goes on.
    NotYet,
    /// It ends once the queued answers are written.
    AfterAnswers,
    /// They are; its client has a moment to hear of the end.
    Parting(Parting),
    /// Nothing more is read or written.
    Now,
}

impl Connection {
    /// Ends the connection once everything before this slot is answered and written; what came
    /// after it is not answered any more.
    pub fn close_at(&mut self, slot: u64) {
        self.deaf = true;
        self.slots.fill_last(slot);
        self.queue_answers();
    }

    /// Ends the connection once every request that was handed over is answered; reads no further.
    pub fn retire(&mut self) {
        if !self.deaf {
            let slot = self.slots.reserve();
            self.close_at(slot);
        }
    }

    /// Ends the connection once the queued answers are written.
    pub fn close(&mut self) {
        if self.goes_on() {
            self.ending = Ending::AfterAnswers;
        }
    }

    /// Ends the connection now, whatever is to be written. Says how many bytes of answers it held.
    pub fn abort(&mut self, reason: CloseReason) -> usize {
        self.end(reason);
        self.out.given_bytes()
    }

    /// Nothing more is read or written.
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
        self.out.clear();
        self.deaf = true;
        self.ending = Ending::Now;
    }

    pub(super) fn goes_on(&self) -> bool {
        matches!(self.ending, Ending::NotYet)
    }

    /// Gives back what it held and says why it ended.
    pub fn bury(mut self, memory: &RequestMemory) -> CloseReason {
        self.incoming.take();
        self.incoming.recount(memory, false);
        memory.give_overdraft_back(self.id);
        memory.forget_waiting(self.id);
        if let Some(room) = self.answer_room {
            memory.give_room_back(room);
        }
        memory.recount_answer(self.out.given_bytes(), 0);
        if self.listing.is_some() {
            memory.end_listing();
        }
        self.reason.take().unwrap_or(CloseReason::ByBroker)
    }

    /// Whether its client ended its side so long ago that it is rather gone than listening.
    pub fn is_deserted(&self, now: Monotonic) -> bool {
        // While it is muted nobody reads to the end of what it sent: it may be muted for hours.
        let is_done = self.peer_done && self.slots.open_count() == 0 && self.out.is_empty();
        (self.is_muted() && is_done)
            || self.heard_out.is_some_and(|since| now.since(since) > HEARD_OUT_TIME)
    }

    /// Everything is said: what came of further requests is forgotten, and the client told.
    pub(super) fn part(&mut self, memory: &RequestMemory) -> Worked {
        let Some(parting) = Parting::begin(&self.stream) else { return Worked::Ended };
        self.ending = Ending::Parting(parting);
        self.incoming.take();
        self.incoming.recount(memory, false);
        memory.give_overdraft_back(self.id);
        Worked::Parts
    }

    /// The client sends nothing more. It may read on (`printf … | nc` does): what it asked for is
    /// answered, for a while, since nothing tells it from a client that is gone before it is written
    /// to. What of a request has come is no request. Kafka, which reads nothing while it serves a
    /// request, answers all of them, too.
    pub(super) fn hear_the_end(&mut self, now: Monotonic) {
        if self.slots.open_count() == 0 && self.out.is_empty() {
            return self.end(CloseReason::ByPeer);
        }
        self.reason.get_or_insert(CloseReason::ByPeer);
        self.heard_out = Some(now);
        self.retire();
    }
}

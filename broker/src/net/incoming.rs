//! What came of one connection and is no served request yet.
//!
//! Does: keep it, with room for what is to come of a request whose size is announced; let the budget
//! know how much that is.
//! Does not: read sockets, or decide what is served.
//! Invariants: room runs ahead of what came by twice as much at most, whatever size is announced: room
//! that was never touched may be what others have used and given back, and then it is resident. The
//! budget counts all of it, as of the last [`Incoming::recount`]. Nothing is set aside for nothing.
//! Apart because what comes in and what goes out of a connection share nothing but its socket.

use std::mem::take;

use flumen_protocol::frame;

use crate::shard::memory::RequestMemory;

/// Bytes of requests that are not served yet.
#[derive(Default)]
pub struct Incoming {
    held: Vec<u8>,
    /// How many bytes the budget counts for it, and whether as those of a known client.
    counted: usize,
    counted_as_known: bool,
}

impl Incoming {
    /// What came.
    pub fn bytes(&self) -> &[u8] {
        &self.held
    }

    /// How much came.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes all of it out.
    pub fn take(&mut self) -> Vec<u8> {
        take(&mut self.held)
    }

    /// Puts back what was taken out.
    pub fn put_back(&mut self, held: Vec<u8>) {
        self.held = held;
    }

    /// Bytes that the request at the front still lacks; nothing if none began to arrive.
    pub fn missing(&self, limit: usize) -> Option<usize> {
        let whole = frame::measure(&self.held, limit).ok()??;
        Some(whole.saturating_sub(self.held.len()))
    }

    /// Keeps the beginning of a request, with room for as much again if that much is to come, or whole
    /// requests that wait for their turn. Nothing is held before.
    pub fn keep(&mut self, rest: &[u8], limit: usize) {
        if rest.is_empty() {
            return;
        }
        let whole = frame::measure(rest, limit).ok().flatten().unwrap_or(rest.len());
        self.held = Vec::with_capacity(rest.len().max(whole.min(2 * rest.len())));
        self.held.extend_from_slice(rest);
    }

    /// Keeps more of the request at the front, with room for as much again if that much is to come, or
    /// whole requests behind it.
    pub fn keep_more(&mut self, more: &[u8], limit: usize) {
        if self.held.capacity() - self.held.len() < more.len() {
            let missing = self.missing(limit).unwrap_or(more.len());
            self.held.reserve_exact(missing.min(self.held.len()).max(more.len()));
        }
        self.held.extend_from_slice(more);
    }

    /// Where to read more of a request that lacks so much; there is room. The larger the steps, the
    /// less is copied: most clients' largest request, a MiB, moves three times at most.
    pub fn room(&mut self, missing: usize) -> &mut Vec<u8> {
        if self.held.len() == self.held.capacity() {
            self.held.reserve_exact(missing.min(2 * self.held.len()));
        }
        &mut self.held
    }

    /// Lets the budget know how much is kept and set aside now, and for whom.
    pub fn recount(&mut self, memory: &RequestMemory, is_known: bool) {
        let now = self.held.capacity();
        if (now, is_known) != (self.counted, self.counted_as_known) {
            memory.recount_arriving(self.counted_as_known, self.counted, 0);
            memory.recount_arriving(is_known, 0, now);
            (self.counted, self.counted_as_known) = (now, is_known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn what_is_announced_takes_memory_only_as_it_comes() {
        let memory = RequestMemory::new(LIMIT);
        let wire = [&900_000_u32.to_be_bytes()[..], &vec![7; 900_000]].concat();
        let mut incoming = Incoming::default();
        incoming.keep(&wire[..14], LIMIT);
        for piece in [1, 1_000, 20_000, 50_000] {
            let from = incoming.len();
            incoming.keep_more(&wire[from..from + piece], LIMIT);
            incoming.recount(&memory, true);
            assert_eq!(memory.used(), incoming.held.capacity(), "all of it is counted");
            assert!(memory.used() <= 2 * incoming.len().max(piece));
        }
        while let Some(missing) = incoming.missing(LIMIT).filter(|missing| *missing > 0) {
            let (from, before) = (incoming.len(), incoming.len());
            let room = incoming.room(missing);
            let most = room.capacity() - room.len();
            assert!(most > 0 && room.capacity() <= 3 * before);
            room.extend_from_slice(&wire[from..from + most]);
        }
        incoming.recount(&memory, true);
        assert_eq!(incoming.bytes(), wire);
        assert_eq!(memory.used(), wire.len(), "to the byte");
        incoming.take();
        incoming.recount(&memory, true);
        assert_eq!(memory.used(), 0);
    }
}

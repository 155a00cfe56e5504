//! Who waits at a partition: producers for their entry, consumers for data.
//!
//! ```text
//!   append ──► waiting ──► released: durable here (acks 1), committed (acks all), kept (an end of a
//!                     │              transaction), or deleted (a deletion)
//!                     ├──► timed out: the entry stays, its client is told
//!                     └──► failed: leadership lost, disk failed, partition gone
//!   watch  ──► armed ────► pushed once: data, or something else changed
//!                     └──► unwatched
//! ```
//!
//! Does: keep all lists, release in log order, find deadlines.
//! Does not: decide what is durable or committed; `Partition` says so.
//! Invariants: a waiter leaves exactly once; each list is ordered by index; both are bounded.
//! Apart because a forgotten waiter is a client that hangs, and that must be easy to disprove.

use std::collections::VecDeque;

use flumen_protocol::ids::{LogId, LogIndex, Offset};
use flumen_protocol::time::{Monotonic, Wall};

use super::read::Isolation;
use crate::error::Refusal;
use crate::limits::{WAITING_MAX, WATCHERS_MAX};
use crate::outbox::{AppendReceipt, Effect, Outbox, Ticket};

/// What became of a wish to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Armed: one [`Effect::Push`] will come.
    Armed,
    /// There is data already, up to `limit`: read now. Nothing was armed.
    Ready {
        /// The bound of reading.
        limit: Offset,
    },
    /// Too many watch ([`WATCHERS_MAX`]). Nothing was armed; the client's own wait must end it.
    Full,
}

/// When a waiter has what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The entry is durable on this node.
    Durable,
    /// The entry is committed.
    Committed,
    /// The entry is committed and on this node's disk, also where a relaxed topic waits for neither.
    Kept,
    /// As [`Level::Kept`], and storage has the start as well, whatever becomes of the entry: what was
    /// deleted must not come back.
    Deleted,
}

/// How far the log has got at each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub durable: LogIndex,
    pub committed: LogIndex,
    pub kept: LogIndex,
    /// The start that storage has for good.
    pub start: Offset,
}

/// One client and the entry it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub ticket: Ticket,
    pub index: LogIndex,
    pub deadline: Monotonic,
    /// What the receipt will say; unknown for a deletion.
    pub base_offset: Offset,
    pub append_time: Option<Wall>,
    /// Everything below is to be deleted; unknown for all but a deletion.
    pub before: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watcher {
    ticket: Ticket,
    from: Offset,
    isolation: Isolation,
}

/// Everyone who waits at one partition.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Invariant: ascending by index.
    durable: VecDeque<Waiter>,
    /// Invariant: ascending by index.
    committed: VecDeque<Waiter>,
    /// Invariant: ascending by index.
    kept: VecDeque<Waiter>,
    /// Invariant: ascending by index.
    deleted: VecDeque<Waiter>,
    watchers: Vec<Watcher>,
    /// Invariant: no waiter's deadline lies before it. May lie before all of them.
    earliest: Option<Monotonic>,
}

impl Waiting {
    pub fn is_full(&self) -> bool {
        self.len() >= WAITING_MAX
    }

    pub fn len(&self) -> usize {
        self.durable.len() + self.committed.len() + self.kept.len() + self.deleted.len()
    }

    pub fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    /// The caller has asked [`Waiting::is_full`] before it changed anything.
    pub fn add(&mut self, level: Level, waiter: Waiter) {
        assert!(!self.is_full(), "room for a waiter is checked before the append");
        let queue = match level {
            Level::Durable => &mut self.durable,
            Level::Committed => &mut self.committed,
            Level::Kept => &mut self.kept,
            Level::Deleted => &mut self.deleted,
        };
        // A repeated batch waits for its first copy's entry, which lies further back.
        match queue.back() {
            Some(last) if last.index > waiter.index => {
                let place = queue.partition_point(|other| other.index <= waiter.index);
                queue.insert(place, waiter);
            }
            Some(_) | None => queue.push_back(waiter),
        }
        self.earliest = Some(self.earliest.map_or(waiter.deadline, |d| d.min(waiter.deadline)));
    }

    /// Releases whoever has what it waits for. `start` goes into the receipts.
    pub fn release(&mut self, reached: Reached, start: Offset, out: &mut Outbox) {
        release_until(&mut self.durable, reached, reached.durable, start, out);
        release_until(&mut self.committed, reached, reached.committed, start, out);
        release_until(&mut self.kept, reached, reached.kept, start, out);
        release_until(&mut self.deleted, reached, reached.kept, start, out);
        if self.len() == 0 {
            self.earliest = None;
        }
    }

    /// Releases everybody with the same refusal.
    pub fn fail_all(&mut self, why: Refusal, out: &mut Outbox) {
        let acknowledged = self.durable.drain(..).chain(self.committed.drain(..));
        for waiter in acknowledged.chain(self.kept.drain(..)).chain(self.deleted.drain(..)) {
            out.push(Effect::Release { ticket: waiter.ticket, outcome: Err(why) });
        }
        self.earliest = None;
    }

    /// Releases whoever has waited too long.
    pub fn expire(&mut self, now: Monotonic, out: &mut Outbox) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut earliest = None;
        let queues = [&mut self.durable, &mut self.committed, &mut self.kept, &mut self.deleted];
        for queue in queues {
            queue.retain(|waiter| {
                let late = waiter.deadline <= now;
                if late {
                    let outcome = Err(Refusal::TimedOut);
                    out.push(Effect::Release { ticket: waiter.ticket, outcome });
                } else {
                    earliest = Some(
                        earliest.map_or(waiter.deadline, |d: Monotonic| d.min(waiter.deadline)),
                    );
                }
                !late
            });
        }
        self.earliest = earliest;
        assert!(self.earliest.is_none_or(|earliest| earliest > now), "nobody late stays");
    }

    /// When to call [`Waiting::expire`]; may come early, never late.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.earliest
    }

    /// Arms a watcher at `from`; one ticket watches once.
    pub fn watch(&mut self, ticket: Ticket, from: Offset, isolation: Isolation) -> Watched {
        if self.watchers.len() >= WATCHERS_MAX {
            return Watched::Full;
        }
        self.watchers.push(Watcher { ticket, from, isolation });
        Watched::Armed
    }

    pub fn unwatch(&mut self, ticket: Ticket) {
        self.watchers.retain(|watcher| watcher.ticket != ticket);
    }

    /// Pushes to whoever watches below the limit of its isolation, in the order they came.
    pub fn push_data(
        &mut self,
        log: LogId,
        limit_of: impl Fn(Isolation) -> Offset,
        out: &mut Outbox,
    ) {
        self.watchers.retain(|watcher| {
            let limit = limit_of(watcher.isolation);
            let due = watcher.from < limit;
            if due {
                out.push(Effect::Push { ticket: watcher.ticket, log, from: watcher.from, limit });
            }
            !due
        });
    }

    /// Pushes to everybody because something other than data changed.
    pub fn push_all(&mut self, log: LogId, limit: Offset, out: &mut Outbox) {
        for watcher in self.watchers.drain(..) {
            out.push(Effect::Push { ticket: watcher.ticket, log, from: watcher.from, limit });
        }
    }
}

/// Releases the waiters of one queue whose entries lie at `until` or before.
fn release_until(
    queue: &mut VecDeque<Waiter>,
    reached: Reached,
    until: LogIndex,
    start: Offset,
    out: &mut Outbox,
) {
    let has_it = |waiter: &mut Waiter| waiter.index <= until && waiter.before <= reached.start;
    while let Some(waiter) = queue.pop_front_if(has_it) {
        let (base_offset, append_time) = (waiter.base_offset, waiter.append_time);
        let receipt = AppendReceipt { base_offset, append_time, start_offset: start };
        out.push(Effect::Release { ticket: waiter.ticket, outcome: Ok(receipt) });
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::CoreId;

    use super::*;

    const ALL: Isolation = Isolation::ReadUncommitted;

    fn ticket(request: u64) -> Ticket {
        Ticket { core: CoreId(0), request, part: 0 }
    }

    fn waiter(request: u64, index: u64, deadline: u64) -> Waiter {
        Waiter {
            ticket: ticket(request),
            index: LogIndex(index),
            deadline: Monotonic(deadline),
            base_offset: Offset(request as i64),
            append_time: None,
            before: Offset::UNKNOWN,
        }
    }

    fn reached(durable: u64, committed: u64) -> Reached {
        let (durable, committed) = (LogIndex(durable), LogIndex(committed));
        Reached { durable, committed, kept: committed, start: Offset::ZERO }
    }

    fn released(out: &mut Outbox) -> Vec<(u64, bool)> {
        out.drain(..)
            .map(|effect| match effect {
                Effect::Release { ticket, outcome } => (ticket.request, outcome.is_ok()),
                other => panic!("only releases expected, not {other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_level_is_released_by_its_own_progress_in_log_order() {
        let (mut waiting, mut out) = (Waiting::default(), Vec::new());
        waiting.add(Level::Committed, waiter(1, 5, 100));
        waiting.add(Level::Durable, waiter(2, 6, 100));
        waiting.add(Level::Committed, waiter(3, 7, 100));
        // A repetition of the batch in entry 5.
        waiting.add(Level::Committed, waiter(4, 5, 100));
        waiting.release(reached(6, 5), Offset(0), &mut out);
        assert_eq!(released(&mut out), [(2, true), (1, true), (4, true)]);
        waiting.release(reached(7, 7), Offset(0), &mut out);
        assert_eq!(released(&mut out), [(3, true)]);
        assert_eq!(waiting.next_deadline(), None);
    }

    #[test]
    fn the_late_are_told_and_the_next_deadline_is_known() {
        let (mut waiting, mut out) = (Waiting::default(), Vec::new());
        for (request, deadline) in [(1, 30), (2, 10), (3, 20)] {
            waiting.add(Level::Committed, waiter(request, request, deadline));
        }
        assert_eq!(waiting.next_deadline(), Some(Monotonic(10)));
        waiting.expire(Monotonic(20), &mut out);
        assert_eq!(released(&mut out), [(2, false), (3, false)]);
        assert_eq!(waiting.next_deadline(), Some(Monotonic(30)));
    }

    #[test]
    fn watchers_are_refused_at_their_limit() {
        let mut waiting = Waiting::default();
        for n in 0..WATCHERS_MAX as u64 {
            assert_eq!(waiting.watch(ticket(n), Offset(0), ALL), Watched::Armed);
        }
        assert_eq!(waiting.watch(ticket(u64::MAX), Offset(0), ALL), Watched::Full);
        waiting.unwatch(ticket(5));
        assert_eq!(waiting.watch(ticket(u64::MAX), Offset(0), ALL), Watched::Armed);
    }

    #[test]
    fn failing_tells_everybody_once() {
        let (mut waiting, mut out) = (Waiting::default(), Vec::new());
        waiting.add(Level::Durable, waiter(1, 1, 30));
        waiting.add(Level::Committed, waiter(2, 2, 30));
        waiting.fail_all(Refusal::Gone, &mut out);
        waiting.fail_all(Refusal::Gone, &mut out);
        assert_eq!(released(&mut out), [(1, false), (2, false)]);
    }
}

//! Connections whose sockets have bytes for which there is no room.
//!
//! Does: say who reads on first once there is some, of those that are known and of the others: whoever
//! came first. Who looked and found none came now.
//! Does not: know how much room there is.
//! Invariants: whoever ends waits no longer, so that these are never more than are open.
//! Apart because a connection waits here beside the lane that news of its socket may bring it into.

use std::collections::BTreeSet;

use flumen_protocol::time::Monotonic;

use crate::shard::input::ConnectionId;

/// A wait for room to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Whether the connection was a known one when it began.
    is_known: bool,
    /// When that was.
    since: Monotonic,
}

impl Pause {
    /// Whether the connection was a known one when it began.
    pub fn is_known(self) -> bool {
        self.is_known
    }
}

/// Those that wait.
#[derive(Default)]
pub struct Paused {
    known: BTreeSet<(Monotonic, ConnectionId)>,
    others: BTreeSet<(Monotonic, ConnectionId)>,
}

impl Paused {
    /// Lets one wait from now on, which does not wait yet.
    pub fn join(&mut self, id: ConnectionId, is_known: bool, now: Monotonic) -> Pause {
        self.line(is_known).insert((now, id));
        Pause { is_known, since: now }
    }

    /// One waits no longer, if it did.
    pub fn leave(&mut self, id: ConnectionId, pause: &mut Option<Pause>) {
        if let Some(Pause { is_known, since }) = pause.take() {
            self.line(is_known).remove(&(since, id));
        }
    }

    /// Takes out whoever has waited longest, of the known ones or of the others.
    pub fn take(&mut self, is_known: bool) -> Option<ConnectionId> {
        self.line(is_known).pop_first().map(|(_, id)| id)
    }

    /// Whether nobody waits, of the known ones or of the others.
    pub fn is_empty(&self, is_known: bool) -> bool {
        if is_known { self.known.is_empty() } else { self.others.is_empty() }
    }

    fn line(&mut self, is_known: bool) -> &mut BTreeSet<(Monotonic, ConnectionId)> {
        if is_known { &mut self.known } else { &mut self.others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_longest_goes_first_and_who_ended_not_at_all() {
        let mut paused = Paused::default();
        let [a, b, c, d] = [4, 3, 2, 1].map(ConnectionId);
        paused.join(a, true, Monotonic(1));
        let mut ended = Some(paused.join(b, true, Monotonic(2)));
        paused.join(c, true, Monotonic(3));
        paused.join(d, false, Monotonic(0));
        paused.leave(b, &mut ended);
        paused.leave(b, &mut ended);
        assert_eq!(
            [paused.take(true), paused.take(true), paused.take(true)],
            [Some(a), Some(c), None]
        );
        assert!(paused.is_empty(true) && !paused.is_empty(false));
        assert_eq!(paused.take(false), Some(d));
    }
}

//! Connections whose sockets have bytes for which there is no room.
//!
//! Does: say who reads on first once there is some: those that are known before others, since there is
//! room for them sooner; among each, first come, first served.
//! Does not: know how much room there is.
//! Invariants: whoever ends waits no longer, so that these are never more than are open.
//! Apart because a connection that waits here is in no lane.

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

    /// One that waits has ended.
    pub fn forget(&mut self, id: ConnectionId, pause: Pause) {
        self.line(pause.is_known).remove(&(pause.since, id));
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
        let ended = paused.join(b, true, Monotonic(2));
        paused.join(c, true, Monotonic(3));
        paused.join(d, false, Monotonic(0));
        paused.forget(b, ended);
        assert_eq!(
            [paused.take(true), paused.take(true), paused.take(true)],
            [Some(a), Some(c), None]
        );
        assert!(paused.is_empty(true) && !paused.is_empty(false));
        assert_eq!(paused.take(false), Some(d));
    }
}

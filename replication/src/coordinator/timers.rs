//! Deadlines as data.
//!
//! Does: remember when which alarm is due, earliest first.
//! Does not: read a clock or run anything; the owner asks what is due and acts.
//! Invariants: an alarm has one deadline at most; every alarm wanted has exactly one place in the
//! queue, never later than its deadline.
//! Apart because a group must not know how its deadlines are kept.
//!
//! Moving a deadline back, which every heartbeat does, only notes the new one: the place in the
//! queue stays and is corrected when it comes up. So a heartbeat costs one look-up, and a member
//! costs one spurious wake per session timeout.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::time::Monotonic;

/// What may fall due in a group coordinator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A group goes on being converted. First, since alarms of that group wait for it.
    Conversion {
        /// Which group.
        group: String,
    },
    /// A group goes on answering members whose requests were parked. Before its other alarms: one of them
    /// waits for the end of that.
    Telling {
        /// Which group.
        group: String,
    },
    /// A member, joined or pending, has not been heard of for its session timeout.
    Session {
        /// Its group.
        group: String,
        /// Its member id.
        member: String,
    },
    /// A group has waited long enough for its members to join.
    Join {
        /// Which group.
        group: String,
    },
    /// A group has waited long enough for its members to ask for their assignment.
    Sync {
        /// Which group.
        group: String,
    },
    /// A member of a group of the new kind has had long enough for what it must do.
    Member {
        /// Its group.
        group: String,
        /// Its member id.
        member: String,
        /// What it must do.
        wait: Wait,
    },
    /// A group goes on looking for the topics its patterns stand for.
    Patterns {
        /// Which group.
        group: String,
    },
    /// A group goes on working out who shall have which partition.
    Assignment {
        /// Which group.
        group: String,
    },
    /// It is time to look for offsets and groups that are too old.
    Expiry,
}

/// What a member of a group of the new kind is waited for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// That it gives up partitions.
    Revocation,
    /// That it joins again, in the classic protocol.
    Rejoin,
    /// That it asks for its assignment, in the classic protocol.
    Sync,
}

impl Wait {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Revocation, Self::Rejoin, Self::Sync];
}

/// When an alarm is due, and where it stands in the queue.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// Invariant: not later than `due`.
    queued: Monotonic,
    due: Monotonic,
}

/// A set of alarms with their deadlines.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(Monotonic, Alarm)>,
    armed: BTreeMap<Alarm, Armed>,
}

impl Timers {
    /// Sets the deadline of `alarm`, whether it had one or not.
    pub fn arm(&mut self, alarm: Alarm, due: Monotonic) {
        if let Some(armed) = self.armed.get_mut(&alarm) {
            armed.due = due;
            if due >= armed.queued {
                return;
            }
            let place = (armed.queued, alarm.clone());
            assert!(self.queue.remove(&place), "an armed alarm is queued");
            armed.queued = due;
        } else {
            self.armed.insert(alarm.clone(), Armed { queued: due, due });
        }
        assert!(self.queue.insert((due, alarm)), "an alarm is queued once");
    }

    /// Forgets `alarm`; nothing happens if it was not armed.
    pub fn cancel(&mut self, alarm: &Alarm) {
        if let Some(armed) = self.armed.remove(alarm) {
            let removed = self.queue.remove(&(armed.queued, alarm.clone()));
            assert!(removed, "an armed alarm is queued");
        }
    }

    /// Whether `alarm` has a deadline.
    #[must_use]
    pub fn is_armed(&self, alarm: &Alarm) -> bool {
        self.armed.contains_key(alarm)
    }

    /// When to look again: never later than the earliest deadline, sometimes earlier.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Whether the deadline of some alarm is not after `now`; the earliest is [`Timers::first`] then.
    pub fn is_due(&mut self, now: Monotonic) -> bool {
        while let Some((queued, alarm)) = self.queue.first()
            && *queued <= now
        {
            let armed = self.armed.get_mut(alarm).expect("a queued alarm is armed");
            if armed.due <= now {
                return true;
            }
            armed.queued = armed.due;
            let due = armed.due;
            let (_, alarm) = self.queue.pop_first().expect("it was looked at");
            self.queue.insert((due, alarm));
        }
        false
    }

    /// The first alarm in the queue, which may have been moved back.
    #[must_use]
    pub fn first(&self) -> Option<&Alarm> {
        self.queue.first().map(|(_, alarm)| alarm)
    }

    /// Takes out one alarm whose deadline is not after `now`, the earliest first.
    pub fn take_due(&mut self, now: Monotonic) -> Option<Alarm> {
        if !self.is_due(now) {
            return None;
        }
        let (_, alarm) = self.queue.pop_first()?;
        self.armed.remove(&alarm);
        Some(alarm)
    }

    /// How many alarms are armed.
    #[must_use]
    pub fn count(&self) -> usize {
        assert_eq!(self.queue.len(), self.armed.len(), "every alarm has one place");
        self.armed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(group: &str) -> Alarm {
        Alarm::Join { group: group.to_owned() }
    }

    #[test]
    fn alarms_come_out_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        timers.arm(join("b"), Monotonic(20));
        timers.arm(join("a"), Monotonic(30));
        timers.arm(Alarm::Expiry, Monotonic(10));
        assert_eq!(timers.next(), Some(Monotonic(10)));
        assert_eq!(timers.take_due(Monotonic(9)), None);
        assert_eq!(timers.take_due(Monotonic(25)), Some(Alarm::Expiry));
        assert_eq!(timers.take_due(Monotonic(25)), Some(join("b")));
        assert_eq!(timers.take_due(Monotonic(25)), None);
        assert_eq!(timers.count(), 1);
    }

    #[test]
    fn a_deadline_that_moved_back_does_not_fire_early() {
        let mut timers = Timers::default();
        timers.arm(join("a"), Monotonic(10));
        timers.arm(join("a"), Monotonic(50));
        assert_eq!(timers.next(), Some(Monotonic(10)), "a spurious wake is allowed");
        assert_eq!(timers.take_due(Monotonic(49)), None);
        assert_eq!(timers.next(), Some(Monotonic(50)));
        assert_eq!(timers.take_due(Monotonic(50)), Some(join("a")));
        assert_eq!(timers.count(), 0);
    }

    #[test]
    fn a_deadline_that_moved_forward_fires_then() {
        let mut timers = Timers::default();
        timers.arm(join("a"), Monotonic(50));
        timers.arm(join("a"), Monotonic(10));
        assert_eq!(timers.take_due(Monotonic(10)), Some(join("a")));
        assert_eq!(timers.take_due(Monotonic(100)), None);
    }

    #[test]
    fn a_cancelled_alarm_is_gone() {
        let mut timers = Timers::default();
        timers.arm(join("a"), Monotonic(10));
        timers.arm(join("a"), Monotonic(20));
        timers.cancel(&join("a"));
        timers.cancel(&join("a"));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.count(), 0);
    }
}

//! Deadlines as data: what is due on this core, and when.
//!
//! Does: remember one deadline per thing and give out what is due.
//! Does not: run anything.
//! Invariants: a thing has at most one deadline; an idle thing has none.
//! Apart because scanning every partition per turn would make ten thousand of them expensive.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::ids::LogId;
use flumen_protocol::time::Monotonic;

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A partition's waiting producers, or its sweep of forgotten ones.
    Partition(LogId),
    /// A coordinator's sessions and rebalances.
    Coordinator(LogId),
    /// Another try to load a log that could not be read.
    Load(LogId),
    /// The other cores are to be told what clients with quotas have spent here.
    QuotaExchange,
    /// Another try to write markers of transactions.
    Ends,
    /// The core's regular small work.
    Chores,
    /// The next step of a scrape of this core.
    Scrape(u64),
    /// A stop has waited long enough for open requests.
    Drained,
}

/// The deadlines of one core.
#[derive(Debug, Default)]
pub struct Timers {
    order: BTreeSet<(Monotonic, Due)>,
    armed: BTreeMap<Due, Monotonic>,
}

impl Timers {
    /// Sets when a thing is due, instead of any earlier word on it.
    pub fn arm(&mut self, due: Due, at: Option<Monotonic>) {
        let known = self.armed.get(&due).copied();
        if known == at {
            return;
        }
        if let Some(known) = known {
            self.order.remove(&(known, due));
            self.armed.remove(&due);
        }
        if let Some(at) = at {
            self.order.insert((at, due));
            self.armed.insert(due, at);
        }
    }

    /// Moves a thing's deadline earlier, never later: a late look is corrected when it comes,
    /// and most deadlines of waiting producers never come.
    pub fn arm_earlier(&mut self, due: Due, at: Option<Monotonic>) {
        let Some(at) = at else { return };
        if self.armed.get(&due).is_none_or(|known| at < *known) {
            self.arm(due, Some(at));
        }
    }

    /// Whether a thing has a deadline.
    pub fn is_armed(&self, due: Due) -> bool {
        self.armed.contains_key(&due)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Monotonic> {
        self.order.first().map(|(at, _)| *at)
    }

    /// What is due now, earliest first: to be taken one by one with [`Timers::take`].
    pub fn due(&self, now: Monotonic) -> Vec<Due> {
        self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, due)| *due).collect()
    }

    /// Takes a thing out if it is due, and not put off meanwhile.
    pub fn take(&mut self, due: Due, now: Monotonic) -> bool {
        let is_due = self.armed.get(&due).is_some_and(|at| *at <= now);
        if is_due {
            self.arm(due, None);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_due_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        timers.arm(Due::Chores, Some(Monotonic(10)));
        timers.arm(Due::Chores, Some(Monotonic(20)));
        assert_eq!(timers.due(Monotonic(15)), []);
        assert_eq!(timers.due(Monotonic(20)), [Due::Chores]);
        assert!(!timers.take(Due::Chores, Monotonic(15)));
        assert!(timers.take(Due::Chores, Monotonic(20)));
        assert!(!timers.take(Due::Chores, Monotonic(99)));
        assert_eq!(timers.due(Monotonic(99)), []);
    }

    #[test]
    fn what_goes_on_at_once_does_so_in_the_next_turn_and_what_is_put_off_in_none() {
        let (mut timers, now) = (Timers::default(), Monotonic(10));
        for due in [Due::Chores, Due::Ends, Due::Drained] {
            timers.arm(due, Some(now));
        }
        let mut done = Vec::new();
        for due in timers.due(now) {
            if timers.take(due, now) {
                // It has more to do; and somebody is not to be disturbed any more.
                timers.arm(due, Some(now));
                timers.arm(Due::Drained, None);
                done.push(due);
            }
        }
        assert_eq!(done, [Due::Ends, Due::Chores]);
        assert_eq!(timers.due(now), [Due::Ends, Due::Chores]);
    }

    #[test]
    fn earlier_never_moves_later() {
        let mut timers = Timers::default();
        timers.arm_earlier(Due::Chores, Some(Monotonic(10)));
        timers.arm_earlier(Due::Chores, Some(Monotonic(20)));
        timers.arm_earlier(Due::Chores, None);
        assert_eq!(timers.next(), Some(Monotonic(10)));
    }
}

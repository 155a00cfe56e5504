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

    /// Takes out one thing that is due.
    pub fn take_due(&mut self, now: Monotonic) -> Option<Due> {
        let (at, due) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.arm(due, None);
        Some(due)
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
        assert_eq!(timers.take_due(Monotonic(15)), None);
        assert_eq!(timers.take_due(Monotonic(20)), Some(Due::Chores));
        assert_eq!(timers.take_due(Monotonic(99)), None);
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

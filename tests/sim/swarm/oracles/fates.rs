//! What became of transactions, as far as their producers know.
//!
//! Does: find the transaction of a value, and how that ended.
//! Does not: ask the broker.
//! Invariants: a transaction whose commit nobody asked for never was committed; of one that was asked for and not
//! answered nobody knows.
//! Apart because nearly every promise about transactions begins with it.

use std::collections::BTreeMap;

use super::super::history::{History, Since, Value};
use super::super::transacted::{Transacted, Transaction};
use super::quick::QuickMap;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    /// Its commit was asked for, and nobody was told.
    Unknown,
    /// It was aborted, or left behind, or its commit was refused.
    Dropped,
}

/// What became of all of them.
#[derive(Default)]
pub struct Fates {
    part_of: QuickMap<Value, Transaction>,
    /// Only of those whose commit was asked for: when, and how they ended.
    ends: BTreeMap<Transaction, (Since, Fate)>,
}

impl Fates {
    /// Adds up what is known.
    pub fn of(history: &History) -> Self {
        let mut known = Self::default();
        for (at, what) in history.transacted() {
            if let Transacted::Part(of, value) = what {
                known.part_of.insert(*value, *of);
            } else if let Transacted::CommitAsked(of) = what {
                known.ends.insert(*of, (at, Fate::Unknown));
            } else if let Transacted::Ended { of, is_committed, .. } = what {
                let fate = if *is_committed { Fate::Committed } else { Fate::Dropped };
                known.ends.entry(*of).or_insert((at, fate)).1 = fate;
            }
        }
        known
    }

    /// The transaction that a value is part of, if it is of any.
    pub fn transaction(&self, value: Value) -> Option<Transaction> {
        self.part_of.get(&value).copied()
    }

    /// How it ended.
    pub fn fate(&self, of: Transaction) -> Fate {
        self.ends.get(&of).map_or(Fate::Dropped, |(_, fate)| *fate)
    }

    /// When its commit was asked for, by the place in the history.
    pub fn asked(&self, of: Transaction) -> Option<Since> {
        self.ends.get(&of).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{history, transacted, transaction};
    use super::*;

    #[test]
    fn only_a_commit_that_was_asked_for_may_count() {
        let asked = |number| transacted(Transacted::CommitAsked(transaction(number)));
        let ended = |number, is_committed| {
            transacted(Transacted::Ended { of: transaction(number), is_committed, since: 0 })
        };
        let all = [asked(1), asked(2), asked(3), ended(2, true), ended(3, false)];
        let fates = Fates::of(&history(&all));
        let told = [0, 1, 2, 3].map(|number| fates.fate(transaction(number)));
        assert_eq!(told, [Fate::Dropped, Fate::Unknown, Fate::Committed, Fate::Dropped]);
        assert_eq!([0, 2].map(|number| fates.asked(transaction(number))), [None, Some(1)]);
    }
}

//! Everything a node promises its clients, as questions to a history. One promise, one file.
//!
//! Does: ask all of them.
//! Does not: know how the history came about.
//! Invariants: an oracle accuses only what no promise allows, whatever faults there were.
//! Apart because promises are read one by one (contract.md, section 3, names them A1 to A25).

mod assignments_are_disjoint;
mod commits_never_go_back;
mod ends_are_true;
mod everything_has_one_place;
mod floors;
mod nothing_is_lost;
mod nothing_is_made_up;
mod nothing_is_skipped;
mod order_is_kept;
mod starts_hold;

use super::history::History;

/// An oracle: what is wrong with a history, in words; nothing if it is sound.
type Oracle = fn(&History) -> Vec<String>;

/// All of them.
const ORACLES: [(&str, Oracle); 9] = [
    ("nothing is lost", nothing_is_lost::ask),
    ("nothing is made up", nothing_is_made_up::ask),
    ("nothing is skipped", nothing_is_skipped::ask),
    ("everything has one place", everything_has_one_place::ask),
    ("order is kept", order_is_kept::ask),
    ("ends are true", ends_are_true::ask),
    ("starts hold", starts_hold::ask),
    ("commits never go back", commits_never_go_back::ask),
    ("assignments are disjoint", assignments_are_disjoint::ask),
];

/// What all oracles find wrong.
pub fn ask_all(history: &History) -> Vec<String> {
    let accuse = |(name, oracle): &(&str, Oracle)| -> Vec<String> {
        oracle(history).into_iter().map(|what| format!("{name}: {what}")).collect()
    };
    ORACLES.iter().flat_map(accuse).collect()
}

#[cfg(test)]
pub mod planted {
    //! Histories made up by hand.

    use super::super::history::{Happening, History, Place, Value};

    pub const HERE: Place = Place { topic: 0, partition: 0 };
    pub const RELAXED: Place = Place { topic: 1, partition: 0 };

    pub fn value(number: u32) -> Value {
        Value { writer: 1, number }
    }

    pub fn seen(offset: i64, number: u32) -> Happening {
        Happening::Seen { place: HERE, offset, value: value(number), since: 0 }
    }

    pub fn acked(place: Place, number: u32, offset: i64) -> Happening {
        Happening::Acked { place, value: value(number), offset: Some(offset), since: 0 }
    }

    pub fn whole(start: i64, records: &[(i64, u32)], end: i64) -> Happening {
        let records = records.iter().map(|(offset, number)| (*offset, value(*number))).collect();
        Happening::ReadWhole { place: HERE, start, end, records }
    }

    pub fn history(happenings: &[Happening]) -> History {
        History { happenings: happenings.to_vec(), relaxed: vec![RELAXED.topic] }
    }

    /// What every oracle finds in it.
    pub fn accusations(happenings: &[Happening]) -> Vec<String> {
        super::ask_all(&history(happenings))
    }
}

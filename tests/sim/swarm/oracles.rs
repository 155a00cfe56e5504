//! Everything a node promises its clients, as questions to a history. One promise, one file.
//!
//! Does: ask all of them.
//! Does not: know how the history came about.
//! Invariants: an oracle accuses only what no promise allows, whatever faults there were.
//! Apart because promises are read one by one (contract.md, section 3, names them A1 to A25).

mod aborted_is_not_read;
mod assignments_are_disjoint;
mod commits_come_first;
mod commits_never_go_back;
mod copies_are_made_once;
mod damage_is_confined;
mod damages;
mod decisions_stay;
mod deleted_stays_deleted;
mod ends_are_true;
mod everything_has_one_place;
mod everything_is_decided;
mod fates;
mod fenced_stay_out;
mod floors;
mod no_two_hands;
mod nothing_is_lost;
mod nothing_is_made_up;
mod nothing_is_skipped;
mod offsets_follow_transactions;
mod order_is_kept;
mod quick;
mod starts_are_asked_for;
mod starts_hold;
mod superseded;
mod times_are_found;
mod transactions_are_whole;
mod what_was_seen_stays;
mod wholes;
mod wholes_have_no_holes;

use super::history::History;

/// An oracle: what is wrong with a history, in words; nothing if it is sound.
type Oracle = fn(&History) -> Vec<String>;

/// All of them.
const ORACLES: [(&str, Oracle); 24] = [
    ("nothing is lost", nothing_is_lost::ask),
    ("nothing is made up", nothing_is_made_up::ask),
    ("nothing is skipped", nothing_is_skipped::ask),
    ("everything has one place", everything_has_one_place::ask),
    ("order is kept", order_is_kept::ask),
    ("ends are true", ends_are_true::ask),
    ("starts hold", starts_hold::ask),
    ("deleted stays deleted", deleted_stays_deleted::ask),
    ("starts are asked for", starts_are_asked_for::ask),
    ("times are found", times_are_found::ask),
    ("commits never go back", commits_never_go_back::ask),
    ("assignments are disjoint", assignments_are_disjoint::ask),
    ("no partition is in two hands", no_two_hands::ask),
    ("what was seen stays", what_was_seen_stays::ask),
    ("wholes have no holes", wholes_have_no_holes::ask),
    ("damage is confined", damage_is_confined::ask),
    ("aborted is not read", aborted_is_not_read::ask),
    ("commits come first", commits_come_first::ask),
    ("transactions are whole", transactions_are_whole::ask),
    ("everything is decided", everything_is_decided::ask),
    ("decisions stay", decisions_stay::ask),
    ("offsets follow transactions", offsets_follow_transactions::ask),
    ("copies are made once", copies_are_made_once::ask),
    ("fenced stay out", fenced_stay_out::ask),
];

/// What all oracles find wrong.
pub fn ask_all(history: &History) -> Vec<String> {
    let accuse = |(name, oracle): &(&str, Oracle)| -> Vec<String> {
        oracle(history).into_iter().map(|what| format!("{name}: {what}")).collect()
    };
    ORACLES.iter().flat_map(accuse).collect()
}

#[cfg(test)]
mod made_up;
#[cfg(test)]
mod made_up_deletions;
#[cfg(test)]
mod made_up_transactions;
#[cfg(test)]
mod self_test;

#[cfg(test)]
pub mod planted {
    //! Histories made up by hand.

    use super::super::history::{Happening, History, KEYED_WRITER, Place, Value};
    use super::super::transacted::{Reign, TRANSACTIONAL_WRITER, Transacted, Transaction};

    pub const HERE: Place = Place { topic: 0, partition: 0 };
    pub const RELAXED: Place = Place { topic: 1, partition: 0 };
    pub const TABLED: Place = Place { topic: 2, partition: 0 };

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
        let topics = vec![RELAXED.topic];
        let mut history = History::new(topics.clone(), topics, vec![TABLED.topic]);
        for happening in happenings {
            history.note(happening.clone());
        }
        history
    }

    pub fn transacted(what: Transacted) -> Happening {
        Happening::Transacted(what)
    }

    /// One of a single reign.
    pub fn transaction(number: u32) -> Transaction {
        Transaction { reign: Reign { writer: TRANSACTIONAL_WRITER, count: 0 }, number }
    }

    /// A value is sent in a transaction.
    pub fn part(of: u32, number: u32) -> Vec<Happening> {
        let part = Transacted::Part(transaction(of), value(number));
        vec![transacted(part), Happening::Sent(HERE, value(number))]
    }

    pub fn asked_to_commit(number: u32) -> Happening {
        transacted(Transacted::CommitAsked(transaction(number)))
    }

    pub fn ended(number: u32, is_committed: bool) -> Happening {
        transacted(Transacted::Ended { of: transaction(number), is_committed, since: 0 })
    }

    pub fn believed(offset: i64, number: u32) -> Happening {
        transacted(Transacted::Believed { place: HERE, offset, value: value(number) })
    }

    pub fn read_committed(start: i64, records: &[(i64, u32)], end: i64) -> Happening {
        let records = records.iter().map(|(offset, number)| (*offset, value(*number))).collect();
        transacted(Transacted::ReadCommitted { place: HERE, start, end, records })
    }

    /// A value with one of few keys.
    pub fn keyed_value(number: u32) -> Value {
        Value { writer: KEYED_WRITER, number }
    }

    /// Numbers of two values of one key, and of one of another.
    pub fn keyed() -> ([u32; 2], u32) {
        let key = |number: u32| keyed_value(number).few_key();
        let same = (1..).find(|number| key(*number) == key(0)).expect("there are few keys");
        let other = (1..).find(|number| key(*number) != key(0)).expect("there are some");
        ([0, same], other)
    }

    /// Numbers of a value and of a later one that deletes its key.
    pub fn deleted() -> (u32, u32) {
        let is_tombstone = |number: &u32| keyed_value(*number).is_tombstone();
        let value = (0..).find(|number| !is_tombstone(number)).expect("most are values");
        let key = |number: u32| keyed_value(number).few_key();
        let deletes = |number: &u32| is_tombstone(number) && key(*number) == key(value);
        (value, (value..).find(deletes).expect("every key is deleted at times"))
    }

    /// Values with keys are sent, acknowledged and read where keys count.
    pub fn keyed_sent(number: u32) -> Happening {
        Happening::Sent(TABLED, keyed_value(number))
    }

    pub fn keyed_acked(number: u32, offset: i64) -> Happening {
        let (value, offset) = (keyed_value(number), Some(offset));
        Happening::Acked { place: TABLED, value, offset, since: 0 }
    }

    pub fn keyed_whole(records: &[(i64, u32)], end: i64) -> Happening {
        let records = records.iter().map(|(at, number)| (*at, keyed_value(*number))).collect();
        Happening::ReadWhole { place: TABLED, start: 0, end, records }
    }

    /// What every oracle finds in it.
    pub fn accusations(happenings: &[Happening]) -> Vec<String> {
        super::ask_all(&history(happenings))
    }
}

//! The oracles on trial: every anomaly that can happen to one node is found, and nobody innocent is accused.
//!
//! Does: plant each anomaly by hand, and again into a thousand made-up histories that are clean, one each;
//! ask for the verdict of the oracle that is meant to find it.
//! Does not: use the world: what it does right would hide what an oracle cannot see.
//! Invariants: a clean history accuses nobody; a planted one is found by the oracle named here.
//! Apart because a checker that was never seen to find anything proves nothing.
//!
//! | Anomaly (contract.md, section 3) | Oracle | Planted as |
//! |---|---|---|
//! | A1 two contents at one offset | everything has one place | `A1`, "another value was seen there" |
//! | A2 one value at two offsets | everything has one place | `A2`, "a value is doubled" |
//! | A3 refused and there | nothing is made up | `A3`, "what is there was refused" |
//! | A3 aborted and read | aborted is not read | `A3 aborted`, "an aborted record is read" |
//! | A4 read before its commit | commits come first | `A4`, "a record is read before its commit" |
//! | A5 seen or acknowledged, and lost | what was seen stays, nothing is lost | `A5`, "what was seen is gone" |
//! | A6 half a transaction | transactions are whole | `A6`, "a transaction is torn" |
//! | A7 acknowledged and never seen | nothing is lost | `A7`, "the end is gone" |
//! | A8 the next poll skips | nothing is skipped | `A8`, "a fetch skips" |
//! | A9 the next poll goes back | nothing is skipped | `A9`, "a fetch goes back" |
//! | A10 a hole inside of a poll | wholes have no holes | `A10`, "a record is missing in the middle" |
//! | A11 not in the order of sending | order is kept | `A11`, "two values change places" |
//! | A15 stuck LSO | everything is decided | `A15`, "a transaction is never decided" |
//! | A16 stuck client | `life::step`: everybody is done within `HEALING` after the last fault | `life` |
//! | A17 a group is told less than it committed | commits never go back | `A17`, "a commit goes back", "a commit is forgotten" |
//! | A18 an end below what was acknowledged | ends are true | `A18`, "an end is too low" |
//! | A19 an end or a start goes back | ends are true, starts hold | `A19`, "an end goes back", "a start goes back" |
//! | A19 the stable offset goes back | decisions stay | `A19 stable`, "a decision is taken back" |
//! | A22 not exactly once, in transactions | copies are made once | `A22`, "a record is copied twice", "a record is passed over" |
//! | A24 a record altered: value, time, key, header, epoch | nothing is made up (`Value::of`, `fetching`) | `A24`, "a record is garbled", "a value is altered" |
//! | A25 a zombie is heard | fenced stay out | `A25`, "a zombie is heard" |
//! | an offset counts whose transaction does not | offsets follow transactions | "an offset is told that nobody committed" |
//! | two owners of a partition | assignments are disjoint | "a place has two owners" |
//! | two members of the new kind have a partition | no partition is in two hands | "a place is in two hands" |
//! | deleted and back | starts hold | "what was deleted is seen" |
//! | a deleted key and an older value | deleted stays deleted | "a deleted key is back" |
//! | a deletion that not everybody heard of | nothing is lost, nothing is skipped | "a deletion goes too soon", "a fetch passes over a deletion" |
//! | there without being sent there | nothing is made up | "a value is where nobody sent it" |
//! | refused or held, and nobody damaged it | damage is confined | "a sound record is refused for good", "a log is held that lost nothing" |
//!
//! Not asked here: A12 and A13 are allowed; A14 (a cycle of reads) needs what A4 and A6 forbid, as transactions here
//! read only what they copy; A20 and A21 are promises of clients; A22 outside transactions and A23 are counted
//! elsewhere (`process` tests), they are no promise.

mod deletions;
mod transactions;

use std::collections::BTreeSet;

use flumen_storage::sim_disk::Dice;

use super::super::history::{Happening, History, Place, Value};
use super::super::transacted::Transacted;
use super::made_up;
use super::planted::{HERE, RELAXED, acked, history, seen, value, whole};

const HISTORIES: u64 = 1_000;

/// Puts an anomaly into a history; `false` if this one has no place for it.
type Mutation = fn(&mut History, &mut Dice) -> bool;

/// What is planted, which oracle must find it, and how it is planted.
const MUTATIONS: [(&str, &str, Mutation); 33] = [
    ("the end is gone", "nothing is lost", lose_end),
    ("a record is missing in the middle", "wholes have no holes", lose_middle),
    ("what was seen is gone", "what was seen stays", lose_seen),
    ("a value is doubled", "everything has one place", double),
    ("two values change places", "order is kept", swap),
    ("a value is altered", "nothing is made up", alter),
    ("a value is where nobody sent it", "nothing is made up", misplace),
    ("another value was seen there", "everything has one place", see_another),
    ("what is there was refused", "nothing is made up", refuse),
    ("an end is too low", "ends are true", lower_end),
    ("an end goes back", "ends are true", end_goes_back),
    ("a start goes back", "starts hold", start_goes_back),
    ("what was deleted is seen", "starts hold", see_deleted),
    ("a commit goes back", "commits never go back", commit_goes_back),
    ("a commit is forgotten", "commits never go back", forget_commit),
    ("a place has two owners", "assignments are disjoint", overlap),
    ("a place is in two hands", "no partition is in two hands", hand_out_twice),
    ("a fetch skips", "nothing is skipped", skip),
    ("a record is garbled", "nothing is made up", garble),
    ("a sound record is refused for good", "damage is confined", deny),
    ("a log is held that lost nothing", "damage is confined", hold),
    ("a deleted key is back", "deleted stays deleted", deletions::bring_back),
    ("a deletion goes too soon", "nothing is lost", deletions::forget),
    ("a fetch passes over a deletion", "nothing is skipped", deletions::pass_over),
    ("an aborted record is read", "aborted is not read", transactions::read_aborted),
    ("a record is read before its commit", "commits come first", transactions::read_early),
    ("a transaction is torn", "transactions are whole", transactions::tear),
    ("a transaction is never decided", "everything is decided", transactions::stay_undecided),
    ("a decision is taken back", "decisions stay", transactions::take_decision_back),
    (
        "an offset is told that nobody committed",
        "offsets follow transactions",
        transactions::tell_offset,
    ),
    ("a record is copied twice", "copies are made once", transactions::copy_twice),
    ("a record is passed over", "copies are made once", transactions::pass_over),
    ("a zombie is heard", "fenced stay out", transactions::hear_zombie),
];

fn accusations(history: &History) -> Vec<String> {
    super::ask_all(history)
}

fn is_found(wrong: &[String], oracle: &str) -> bool {
    wrong.iter().any(|what| what.strip_prefix(oracle).is_some_and(|rest| rest.starts_with(": ")))
}

/// One history for each anomaly, made by hand.
fn by_hand() -> Vec<(&'static str, &'static str, Vec<Happening>)> {
    let sent = |number| Happening::Sent(HERE, value(number));
    let asked = || Happening::Asked;
    let two = || vec![sent(1), sent(2), acked(HERE, 1, 0), acked(HERE, 2, 1)];
    let and = |more: &[Happening]| [two(), more.to_vec()].concat();
    let skipped = |from, to| Happening::Skipped { place: HERE, from, to };
    let end = |end, since| Happening::End { place: HERE, end, since };
    let start = |start, since| Happening::Start { place: HERE, start, since };
    let commit = |offset| Happening::Committed { group: 0, place: HERE, offset };
    let told = |offset, since| Happening::CommitRead { group: 0, place: HERE, offset, since };
    vec![
        ("A1", "everything has one place", and(&[seen(0, 1), seen(0, 2)])),
        ("A2", "everything has one place", and(&[whole(0, &[(0, 1), (1, 2), (2, 2)], 3)])),
        ("A3", "nothing is made up", and(&[seen(0, 1), Happening::Refused(HERE, value(1))])),
        (
            "A5",
            "what was seen stays",
            vec![sent(1), sent(2), seen(0, 1), seen(1, 2), whole(0, &[(0, 1)], 1)],
        ),
        ("A7", "nothing is lost", and(&[whole(0, &[(0, 1)], 1)])),
        ("A8", "nothing is skipped", and(&[skipped(0, 1)])),
        ("A9", "nothing is skipped", and(&[skipped(1, 0)])),
        ("A10", "wholes have no holes", vec![sent(1), sent(2), whole(0, &[(0, 1), (2, 2)], 3)]),
        ("A11", "order is kept", vec![sent(1), sent(2), whole(0, &[(0, 2), (1, 1)], 2)]),
        ("A17", "commits never go back", vec![commit(5), asked(), told(0, 1)]),
        ("A18", "ends are true", and(&[asked(), end(1, 4)])),
        ("A19 end", "ends are true", vec![asked(), end(4, 0), asked(), end(3, 2)]),
        ("A19 start", "starts hold", vec![asked(), start(4, 0), asked(), start(3, 2)]),
        ("A24", "nothing is made up", and(&[Happening::Garbled(HERE, 0)])),
    ]
}

fn all_by_hand() -> impl Iterator<Item = (&'static str, &'static str, Vec<Happening>)> {
    by_hand().into_iter().chain(transactions::by_hand()).chain(deletions::by_hand())
}

#[test]
fn every_anomaly_planted_by_hand_is_found_by_its_oracle() {
    for (anomaly, oracle, happenings) in all_by_hand() {
        let wrong = accusations(&history(&happenings));
        assert!(is_found(&wrong, oracle), "{anomaly} is not found: {wrong:?}");
    }
}

#[test]
fn clean_histories_accuse_nobody() {
    let (mut acked, mut crashes, mut deleted, mut committed) = (0, 0, 0, 0);
    let (mut passed, mut forgotten) = (0, 0);
    for seed in 0..HISTORIES {
        let made_up = made_up::history(seed);
        let wrong = accusations(&made_up);
        assert!(wrong.is_empty(), "history {seed} is clean: {wrong:#?}");
        for happening in &made_up.happenings {
            acked += u64::from(matches!(happening, Happening::Acked { .. }));
            crashes += u64::from(*happening == Happening::Crash);
            deleted += u64::from(matches!(happening, Happening::Deleted(..)));
            committed += u64::from(matches!(
                happening,
                Happening::Transacted(Transacted::Ended { is_committed: true, .. })
            ));
            passed += u64::from(matches!(happening, Happening::Skipped { .. }));
        }
        forgotten += deletions::forgotten(&made_up);
    }
    // Histories in which nothing happens would be clean as well.
    assert!(acked > 20 * HISTORIES && crashes > HISTORIES / 2 && deleted > HISTORIES / 2);
    assert!(committed > HISTORIES, "{committed} transactions");
    assert!(passed > HISTORIES && forgotten > HISTORIES / 4, "{passed}, {forgotten} forgotten");
}

#[test]
fn an_anomaly_in_a_clean_history_is_found_by_its_oracle() {
    let mut planted = BTreeSet::new();
    for seed in 0..HISTORIES {
        let clean = made_up::history(seed);
        let mut dice = Dice::new(seed ^ 0x706c_616e);
        // The next that fits: not every history has a crash, a deletion or a group.
        let first = seed as usize % MUTATIONS.len();
        let mut all = MUTATIONS.iter().cycle().skip(first).take(MUTATIONS.len());
        let spoilt = all.find_map(|(what, oracle, plant)| {
            let mut spoilt = clean.clone();
            plant(&mut spoilt, &mut dice).then_some((*what, *oracle, spoilt))
        });
        let (what, oracle, spoilt) = spoilt.expect("something fits any history");
        let wrong = accusations(&spoilt);
        assert!(is_found(&wrong, oracle), "history {seed}: {what}, and nobody says so: {wrong:#?}");
        planted.insert(what);
    }
    assert_eq!(planted.len(), MUTATIONS.len(), "each fits some history: {planted:?}");
}

/// Where in the history a log was read whole that no crash could shorten, nor a cleaning thin out, with at least so
/// many records.
fn a_whole(history: &History, dice: &mut Dice, records_min: usize) -> Option<usize> {
    let fits = |happening: &Happening| {
        matches!(happening, Happening::ReadWhole { place, records, .. }
            if history.binds(*place) && !history.is_compacted(*place) && records.len() >= records_min)
    };
    any(history, dice, fits)
}

/// Any happening that fits, by its place in the history.
fn any(history: &History, dice: &mut Dice, fits: impl Fn(&Happening) -> bool) -> Option<usize> {
    let all = history.happenings.iter().enumerate();
    let fitting: Vec<usize> = all.filter(|(_, it)| fits(it)).map(|(at, _)| at).collect();
    (!fitting.is_empty()).then(|| fitting[dice.below(fitting.len() as u64) as usize])
}

type Whole<'a> = (Place, &'a mut i64, &'a mut Vec<(i64, Value)>);

fn whole_at(history: &mut History, at: usize) -> Whole<'_> {
    match &mut history.happenings[at] {
        Happening::ReadWhole { place, end, records, .. } => (*place, end, records),
        other => unreachable!("{other:?} is no whole"),
    }
}

/// The last records are gone, one of which was acknowledged.
fn lose_end(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 1) else { return false };
    let (place, _, records) = whole_at(history, at);
    let records = records.clone();
    let acked = |offset: i64| {
        history.happenings.iter().any(|it| {
            matches!(it, Happening::Acked { place: there, offset: Some(known), .. }
                if *there == place && *known == offset)
        })
    };
    let Some(from) = records.iter().position(|(offset, _)| acked(*offset)) else { return false };
    let (_, end, records) = whole_at(history, at);
    *end = records[from].0;
    records.truncate(from);
    true
}

fn lose_middle(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 3) else { return false };
    let records = whole_at(history, at).2;
    let middle = 1 + dice.below(records.len() as u64 - 2) as usize;
    records.remove(middle);
    true
}

/// Somebody saw a value; the log ends before it now.
fn lose_seen(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 1) else { return false };
    let place = whole_at(history, at).0;
    let first = whole_at(history, at).2[0].0;
    let fits = |happening: &Happening| {
        matches!(happening, Happening::Seen { place: there, offset, .. }
            if *there == place && *offset >= first)
    };
    let Some(seen) = any(history, dice, fits) else { return false };
    let Happening::Seen { offset, .. } = history.happenings[seen] else { return false };
    let (_, end, records) = whole_at(history, at);
    *end = offset;
    records.retain(|(known, _)| *known < offset);
    true
}

fn double(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 1) else { return false };
    let (_, end, records) = whole_at(history, at);
    let again = records[dice.below(records.len() as u64) as usize].1;
    records.push((*end, again));
    *end += 1;
    true
}

/// Two values of one writer.
fn swap(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 2) else { return false };
    let records = whole_at(history, at).2;
    let first = dice.below(records.len() as u64) as usize;
    let writer = records[first].1.writer;
    let same = |other: &usize| *other != first && records[*other].1.writer == writer;
    let Some(other) = (0..records.len()).find(same) else { return false };
    let (one, two) = (records[first].1, records[other].1);
    (records[first].1, records[other].1) = (two, one);
    true
}

fn alter(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 1) else { return false };
    let records = whole_at(history, at).2;
    let which = dice.below(records.len() as u64) as usize;
    records[which].1.number += 1_000_000;
    true
}

fn misplace(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 0) else { return false };
    let place = whole_at(history, at).0;
    let fits = |it: &Happening| matches!(it, Happening::Sent(there, _) if *there != place);
    let Some(sent) = any(history, dice, fits) else { return false };
    let Happening::Sent(_, value) = history.happenings[sent] else { return false };
    let (_, end, records) = whole_at(history, at);
    records.push((*end, value));
    *end += 1;
    true
}

/// A reader saw, where another value is, one that was sent to the same place and is elsewhere.
fn see_another(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 2) else { return false };
    let (place, _, records) = whole_at(history, at);
    let (offset, value) = (records[0].0, records[1].1);
    let since = history.note(Happening::Asked);
    history.note(Happening::Seen { place, offset, value, since });
    true
}

fn refuse(history: &mut History, dice: &mut Dice) -> bool {
    let Some(at) = a_whole(history, dice, 1) else { return false };
    let (place, _, records) = whole_at(history, at);
    let value = records[dice.below(records.len() as u64) as usize].1;
    let when = dice.below(history.happenings.len() as u64) as usize;
    insert(history, when, Happening::Refused(place, value));
    true
}

/// Puts a happening in; what refers to later ones is moved with them.
fn insert(history: &mut History, at: usize, happening: Happening) {
    history.insert(at, happening);
    for moved in &mut history.happenings[at + 1..] {
        if let Happening::Acked { since, .. }
        | Happening::Seen { since, .. }
        | Happening::End { since, .. }
        | Happening::Start { since, .. }
        | Happening::CommitRead { since, .. }
        | Happening::Transacted(
            Transacted::Ended { since, .. }
            | Transacted::Stable { since, .. }
            | Transacted::Undecided { since, .. },
        ) = moved
            && *since >= at
        {
            *since += 1;
        }
    }
}

/// An end that is asked for now and told below an acknowledged record.
fn lower_end(history: &mut History, dice: &mut Dice) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::Acked { place, offset: Some(_), .. } if place.topic != RELAXED.topic);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Acked { place, offset: Some(end), .. } = history.happenings[at] else {
        return false;
    };
    let since = history.note(Happening::Asked);
    history.note(Happening::End { place, end, since });
    true
}

fn end_goes_back(history: &mut History, dice: &mut Dice) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::End { place, end, .. } if *end > 0 && place.topic != RELAXED.topic);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::End { place, end, .. } = history.happenings[at] else { return false };
    let since = history.note(Happening::Asked);
    history.note(Happening::End { place, end: end - 1, since });
    true
}

fn start_goes_back(history: &mut History, dice: &mut Dice) -> bool {
    // Where a crash may take a deletion, a start may go back.
    let known = &*history;
    let fits = |it: &Happening| matches!(it, Happening::Start { place, start, .. } if *start > 0 && known.binds(*place));
    let Some(at) = any(known, dice, fits) else { return false };
    let Happening::Start { place, start, .. } = history.happenings[at] else { return false };
    let since = history.note(Happening::Asked);
    let start = dice.below(start as u64) as i64;
    history.note(Happening::Start { place, start, since });
    true
}

fn see_deleted(history: &mut History, dice: &mut Dice) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::Deleted(_, start) if *start > 0);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Deleted(place, start) = history.happenings[at] else { return false };
    let sent = |it: &Happening| matches!(it, Happening::Sent(there, _) if *there == place);
    let Some(sent) = any(history, dice, sent) else { return false };
    let Happening::Sent(_, value) = history.happenings[sent] else { return false };
    let since = history.note(Happening::Asked);
    history.note(Happening::Seen { place, offset: start - 1, value, since });
    true
}

fn commit_goes_back(history: &mut History, dice: &mut Dice) -> bool {
    tell_commit(history, dice, |offset, dice| dice.below(offset as u64) as i64)
}

fn forget_commit(history: &mut History, dice: &mut Dice) -> bool {
    tell_commit(history, dice, |_, _| -1)
}

/// A group that committed something is told something else.
fn tell_commit(history: &mut History, dice: &mut Dice, told: fn(i64, &mut Dice) -> i64) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::Committed { offset, .. } if *offset > 0);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Committed { group, place, offset } = history.happenings[at] else {
        return false;
    };
    let since = history.note(Happening::Asked);
    let offset = told(offset, dice);
    history.note(Happening::CommitRead { group, place, offset, since });
    true
}

fn overlap(history: &mut History, dice: &mut Dice) -> bool {
    let fits =
        |it: &Happening| matches!(it, Happening::Assigned { places, .. } if !places.is_empty());
    let Some(at) = any(history, dice, fits) else { return false };
    let mut other = history.happenings[at].clone();
    if let Happening::Assigned { member, places, .. } = &mut other {
        *member = "somebody else".to_owned();
        places.truncate(1);
    }
    history.note(other);
    true
}

fn hand_out_twice(history: &mut History, dice: &mut Dice) -> bool {
    let fits =
        |it: &Happening| matches!(it, Happening::InHands { places, .. } if !places.is_empty());
    let Some(at) = any(history, dice, fits) else { return false };
    let mut other = history.happenings[at].clone();
    if let Happening::InHands { member, places, .. } = &mut other {
        *member = 99;
        places.truncate(1);
    }
    // At once: later it may be right.
    insert(history, at + 1, other);
    true
}

fn skip(history: &mut History, dice: &mut Dice) -> bool {
    let from = dice.below(50) as i64;
    let to = from + 1 + dice.below(5) as i64;
    history.note(Happening::Skipped { place: HERE, from, to });
    true
}

fn garble(history: &mut History, dice: &mut Dice) -> bool {
    history.note(Happening::Garbled(HERE, dice.below(50) as i64));
    true
}

fn deny(history: &mut History, dice: &mut Dice) -> bool {
    let from = dice.below(50) as i64;
    history.note(Happening::Denied { place: HERE, from, to: from + 1 });
    true
}

fn hold(history: &mut History, _: &mut Dice) -> bool {
    history.note(Happening::Held(HERE));
    true
}

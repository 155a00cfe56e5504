//! The anomalies of transactions, planted.
//!
//! Does: plant each by hand, and into histories that are clean.
//! Does not: ask for a verdict; the self test does.
//! Invariants: what is planted is the only thing that is wrong.
//! Apart from the others because a history without transactions has no place for them.

use flumen_storage::sim_disk::Dice;

use super::super::super::history::{Happening, History, Place, Value};
use super::super::super::transacted::{
    COPYING_GROUP, DECISION_MS, Reign, TIMEOUT_MS, Transacted, Transaction,
};
use super::super::fates::{Fate, Fates};
use super::super::planted::{
    HERE, acked, asked_to_commit, believed, ended, part, read_committed, transacted, transaction,
    value,
};
use super::{any, insert};

/// One history for each anomaly of transactions, made by hand.
pub(super) fn by_hand() -> Vec<(&'static str, &'static str, Vec<Happening>)> {
    let begun = || [part(1, 1), part(1, 2)].concat();
    let and = |more: &[Happening]| [begun(), more.to_vec()].concat();
    let committed = |more: &[Happening]| {
        let acked = [acked(HERE, 1, 0), acked(HERE, 2, 1), asked_to_commit(1), ended(1, true)];
        [begun(), acked.to_vec(), more.to_vec()].concat()
    };
    let stable = |stable, since| transacted(Transacted::Stable { place: HERE, stable, since });
    let waited_ms = TIMEOUT_MS + DECISION_MS + 1;
    let undecided = Transacted::Undecided { place: HERE, waited_ms, since: 0 };
    let copied = |number| {
        let (place, offset) = (Place { topic: 0, partition: 1 }, 0);
        transacted(Transacted::Copied { value: value(number), place, offset })
    };
    let reign = |count| Reign { count, ..transaction(1).reign };
    let renewed = |count, epoch| {
        let reign = reign(count);
        transacted(Transacted::Renewed { id: 0, producer: 7, epoch, reign })
    };
    let (of, group) = (transaction(2), COPYING_GROUP);
    let carried = transacted(Transacted::Carried { of, group, place: HERE, offset: 5 });
    let told = Happening::CommitRead { group, place: HERE, offset: 5, since: 0 };
    let zombie = Transacted::Ended { of: transaction(1), is_committed: true, since: 2 };
    let (asked, zombie) = (Happening::Asked, transacted(zombie));
    vec![
        ("A3 aborted", "aborted is not read", and(&[believed(0, 1)])),
        ("A4", "commits come first", and(&[believed(0, 1), asked_to_commit(1)])),
        ("A6", "transactions are whole", committed(&[read_committed(0, &[(0, 1)], 3)])),
        ("A15", "everything is decided", vec![asked.clone(), transacted(undecided)]),
        (
            "A19 stable",
            "decisions stay",
            vec![asked.clone(), stable(4, 0), asked.clone(), stable(3, 2)],
        ),
        (
            "A22",
            "copies are made once",
            committed(&[copied(1), copied(2), read_committed(0, &[(0, 1), (1, 2)], 3)]),
        ),
        ("A25", "fenced stay out", vec![renewed(0, 1), renewed(1, 2), asked, zombie]),
        ("an offset", "offsets follow transactions", vec![carried, told]),
    ]
}

/// A reader of committed records was given one whose commit nobody asked for.
pub(super) fn read_aborted(history: &mut History, dice: &mut Dice) -> bool {
    let was_asked = |of: Transaction| {
        history.transacted().any(|(_, what)| *what == Transacted::CommitAsked(of))
    };
    let fits = |it: &Happening| matches!(it, Happening::Transacted(Transacted::Part(of, _)) if !was_asked(*of));
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::Part(_, value)) = history.happenings[at] else {
        return false;
    };
    history.note_transacted(Transacted::Believed { place: HERE, offset: 0, value });
    true
}

/// It was given one of a transaction just before the commit was asked for.
pub(super) fn read_early(history: &mut History, dice: &mut Dice) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::Transacted(Transacted::CommitAsked(_)));
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::CommitAsked(asked)) = history.happenings[at] else {
        return false;
    };
    let part = history.transacted().find_map(|(_, what)| {
        let Transacted::Part(of, value) = what else { return None };
        (*of == asked).then_some(*value)
    });
    let Some(value) = part else { return false };
    let early = Transacted::Believed { place: HERE, offset: 0, value };
    insert(history, at, Happening::Transacted(early));
    true
}

/// One record of a transaction is missing whose commit was acknowledged.
pub(super) fn tear(history: &mut History, dice: &mut Dice) -> bool {
    let fates = Fates::of(history);
    let is_part = |(_, value): &(i64, Value)| {
        fates.transaction(*value).is_some_and(|of| fates.fate(of) == Fate::Committed)
    };
    let fits = |it: &Happening| {
        matches!(it, Happening::Transacted(Transacted::ReadCommitted { records, .. })
            if records.iter().any(is_part))
    };
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::ReadCommitted { records, .. }) =
        &mut history.happenings[at]
    else {
        return false;
    };
    let gone = records.iter().position(is_part).expect("it fits");
    records.remove(gone);
    true
}

pub(super) fn stay_undecided(history: &mut History, dice: &mut Dice) -> bool {
    let waited_ms = TIMEOUT_MS + DECISION_MS + 1 + dice.below(1_000);
    let since = history.note(Happening::Asked);
    history.note_transacted(Transacted::Undecided { place: HERE, waited_ms, since });
    true
}

pub(super) fn take_decision_back(history: &mut History, dice: &mut Dice) -> bool {
    let fits = |it: &Happening| matches!(it, Happening::Transacted(Transacted::Stable { stable, .. }) if *stable > 0);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::Stable { place, stable, .. }) = history.happenings[at]
    else {
        return false;
    };
    let since = history.note(Happening::Asked);
    history.note_transacted(Transacted::Stable { place, stable: stable - 1, since });
    true
}

/// A copier is told an offset that only transactions hold which were not committed.
pub(super) fn tell_offset(history: &mut History, dice: &mut Dice) -> bool {
    let fates = Fates::of(history);
    let counts = |wanted: i64| {
        history.transacted().any(|(_, what)| {
            matches!(what, Transacted::Carried { of, offset, .. }
                if *offset == wanted && fates.fate(*of) != Fate::Dropped)
        })
    };
    let fits = |it: &Happening| matches!(it, Happening::Transacted(Transacted::Carried { offset, .. }) if !counts(*offset));
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::Carried { group, place, offset, .. }) =
        history.happenings[at]
    else {
        return false;
    };
    let since = history.note(Happening::Asked);
    history.note(Happening::CommitRead { group, place, offset, since });
    true
}

/// A copy, of a transaction that is committed, and where that was read.
fn a_copy(history: &History, dice: &mut Dice) -> Option<(Transaction, Value, Place, i64)> {
    let fates = Fates::of(history);
    let committed =
        |value: Value| fates.transaction(value).filter(|of| fates.fate(*of) == Fate::Committed);
    let fits = |it: &Happening| {
        matches!(it, Happening::Transacted(Transacted::Copied { value, .. })
            if committed(*value).is_some())
    };
    let at = any(history, dice, fits)?;
    let Happening::Transacted(Transacted::Copied { value, place, offset }) = history.happenings[at]
    else {
        return None;
    };
    Some((committed(value)?, value, place, offset))
}

pub(super) fn copy_twice(history: &mut History, dice: &mut Dice) -> bool {
    let Some((of, copy, place, offset)) = a_copy(history, dice) else { return false };
    let value = Value { number: copy.number + 1_000_000, ..copy };
    history.note_transacted(Transacted::Part(of, value));
    history.note_transacted(Transacted::Copied { value, place, offset });
    for happening in &mut history.happenings {
        if let Happening::Transacted(Transacted::ReadCommitted { records, end, .. }) = happening
            && records.iter().any(|(_, there)| *there == copy)
        {
            records.push((*end, value));
            *end += 1;
        }
    }
    true
}

/// Nobody ever copied it, in a transaction that is committed or in one that was not.
pub(super) fn pass_over(history: &mut History, dice: &mut Dice) -> bool {
    let Some((.., from, at)) = a_copy(history, dice) else { return false };
    for happening in &mut history.happenings {
        let is_copy = matches!(happening, Happening::Transacted(Transacted::Copied { place, offset, .. })
            if (*place, *offset) == (from, at));
        if is_copy {
            *happening = Happening::Asked;
        }
    }
    true
}

/// Somebody whose id another one has since asks for a commit, and gets it.
pub(super) fn hear_zombie(history: &mut History, dice: &mut Dice) -> bool {
    let given = history.transacted().filter_map(|(_, what)| {
        let Transacted::Renewed { epoch, reign, .. } = what else { return None };
        Some((*epoch, *reign))
    });
    let Some((_, last)) = given.max() else { return false };
    let fits = |it: &Happening| matches!(it, Happening::Transacted(Transacted::Part(of, _)) if of.reign != last);
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Transacted(Transacted::Part(of, _)) = history.happenings[at] else {
        return false;
    };
    let since = history.note(Happening::Asked);
    history.note_transacted(Transacted::Ended { of, is_committed: true, since });
    true
}

//! What a transaction wrote is decided soon after the transaction may last no longer (A15: stuck LSO; contract C6).
//!
//! Does: accuse whoever keeps readers of committed records waiting, when nobody begins anything any more.
//! Does not: judge while there is trouble; count what of a wait was before the process last ended unasked, or while a
//! disk owed an answer: a decision and its markers are written, and C6 speaks of disks that answer. One operation is
//! enough: what a segment is not flushed for stays in the journal, which fills, and then its core writes nothing.
//! Invariants: all transactions have the same time; it is the time of the history that is left out, to the millisecond.
//! Apart because nothing else here is about time.

use std::ops::Range;

use super::super::heap::{MILLIS, Nanos};
use super::super::history::{Happening, History};
use super::super::transacted::{DECISION_MS, TIMEOUT_MS, Transacted};

/// Waits that were too long.
pub fn ask(history: &History) -> Vec<String> {
    let silences = silences(history);
    let (mut begun, mut stuck) = (0, Vec::new());
    for (at, happening) in history.happenings.iter().enumerate() {
        if *happening == Happening::Crash {
            begun = history.time(at);
        }
        let Happening::Transacted(Transacted::Undecided { place, waited_ms, since }) = happening
        else {
            continue;
        };
        let asked = history.time(*since);
        let counted = begun.max(asked)..history.time(at);
        let silent: Nanos = silences.iter().map(|silence| shared(silence, &counted)).sum();
        let excused_ms = (counted.start - asked + silent) / MILLIS;
        if waited_ms.saturating_sub(excused_ms) > TIMEOUT_MS + DECISION_MS {
            let excused = format!("{excused_ms} of them excused");
            stuck.push(format!("{place:?} is not decided after {waited_ms} ms, {excused}"));
        }
    }
    stuck
}

/// When some disk owed an answer. One stretch ends before the next begins.
fn silences(history: &History) -> Vec<Range<Nanos>> {
    let (mut silences, mut silent) = (Vec::new(), None);
    for (at, happening) in history.happenings.iter().enumerate() {
        if *happening == Happening::DiskSilent {
            silent.get_or_insert(history.time(at));
        } else if *happening == Happening::SilenceOver
            && let Some(from) = silent.take()
        {
            silences.push(from..history.time(at));
        }
    }
    silences.extend(silent.map(|from| from..Nanos::MAX));
    silences
}

/// How long both last together.
fn shared(one: &Range<Nanos>, other: &Range<Nanos>) -> Nanos {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::super::super::heap::{MILLIS, Nanos};
    use super::super::super::history::{Happening, History};
    use super::super::super::transacted::{DECISION_MS, TIMEOUT_MS, Transacted};
    use super::super::planted::{HERE, accusations, transacted};
    use Happening::{Crash, DiskSilent, SilenceOver};

    const LIMIT: u64 = TIMEOUT_MS + DECISION_MS;

    /// How many waits are accused, of a reader that begins to wait after a second and is told after so many
    /// milliseconds that it waits in vain, where the rest happens after so many.
    fn accused(meanwhile: &[(u64, Happening)], waits_ms: &[u64]) -> usize {
        const BEGUN_MS: Nanos = 1_000;
        let mut all: Vec<(u64, Option<&Happening>)> =
            meanwhile.iter().map(|(after, what)| (*after, Some(what))).collect();
        all.extend(waits_ms.iter().map(|waited_ms| (BEGUN_MS + waited_ms, None)));
        all.sort_by_key(|(after, _)| *after);
        let (mut history, mut since) = (History::default(), None);
        for (after, what) in all {
            let asks = since.is_none() && after >= BEGUN_MS;
            if asks {
                history.set_time(BEGUN_MS * MILLIS);
                since = Some(history.note(Happening::Asked));
            }
            history.set_time(after * MILLIS);
            match what {
                Some(what) => drop(history.note(what.clone())),
                None => {
                    let (waited_ms, since) = (after - BEGUN_MS, since.expect("it has asked"));
                    let undecided = Transacted::Undecided { place: HERE, waited_ms, since };
                    history.note_transacted(undecided);
                }
            }
        }
        super::ask(&history).len()
    }

    #[test]
    fn a_transaction_that_never_ends_is_noticed() {
        let waited =
            |waited_ms| transacted(Transacted::Undecided { place: HERE, waited_ms, since: 0 });
        let asked = Happening::Asked;
        assert_eq!(accusations(&[asked.clone(), waited(LIMIT)]), [""; 0]);
        assert_eq!(accusations(&[asked, waited(LIMIT + 1)]).len(), 1);
        assert_eq!(accused(&[], &[LIMIT, LIMIT + 1, LIMIT + 1_000]), 2);
    }

    #[test]
    fn a_process_that_ended_has_its_time_once_more_and_not_for_ever() {
        let crash = [(5_000, Crash)];
        assert_eq!(accused(&crash, &[LIMIT + 1]), 0, "it was loaded meanwhile");
        assert_eq!(accused(&crash, &[4_000 + LIMIT]), 0);
        assert_eq!(accused(&crash, &[4_000 + LIMIT + 1]), 1);
        assert_eq!(accused(&[(500, Crash)], &[LIMIT + 1]), 1, "nobody waited then");
        let late = [(LIMIT + 3_000, Crash)];
        assert_eq!(accused(&late, &[LIMIT + 1]), 1, "it was too late before it ended");
    }

    #[test]
    fn nothing_can_be_decided_while_a_disk_owes_an_answer_and_only_so_long() {
        let silent = (5_000, DiskSilent);
        let waits_ms = [4_000, LIMIT, LIMIT + 1, LIMIT + 20_000];
        assert_eq!(accused(slice::from_ref(&silent), &waits_ms), 0);
        let before = [(200, DiskSilent), (300, DiskSilent)];
        assert_eq!(accused(&before, &[LIMIT + 1]), 0, "it began to wait in the silence");
        let over = [silent, (6_000, DiskSilent), (11_000, SilenceOver)];
        assert_eq!(accused(&over, &[LIMIT + 6_000]), 0, "two disks, six seconds");
        assert_eq!(accused(&over, &[LIMIT + 6_001]), 1);
        let late = [(LIMIT + 3_000, DiskSilent)];
        assert_eq!(accused(&late, &[LIMIT + 1]), 1, "every disk answered");
        let passed = [(200, DiskSilent), (900, SilenceOver)];
        assert_eq!(accused(&passed, &[LIMIT + 1]), 1, "nobody waited then");
    }

    #[test]
    fn a_silence_that_ends_with_its_process_is_not_excused_twice() {
        let ends = [(5_000, DiskSilent), (11_000, Crash), (11_000, SilenceOver)];
        assert_eq!(accused(&ends, &[10_000 + LIMIT]), 0);
        assert_eq!(accused(&ends, &[10_000 + LIMIT + 1]), 1);
    }
}

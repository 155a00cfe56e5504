//! What a transaction wrote is decided soon after the transaction may last no longer (A15: stuck LSO; contract C6).
//!
//! Does: accuse whoever keeps readers of committed records waiting, when nobody begins anything any more.
//! Does not: judge while there is trouble, or a wait in which the process ended once more.
//! Invariants: all transactions have the same time.
//! Apart because nothing else here is about time.

use super::super::history::{Happening, History, Since};
use super::super::transacted::{DECISION_MS, TIMEOUT_MS, Transacted};

/// Waits that were too long.
pub fn ask(history: &History) -> Vec<String> {
    let ends = history.happenings.iter().enumerate();
    let crashes = ends.filter(|(_, happening)| **happening == Happening::Crash);
    let crashes: Vec<Since> = crashes.map(|(at, _)| at).collect();
    let stuck = history.transacted().filter_map(|(at, what)| {
        let Transacted::Undecided { place, waited_ms, since } = what else { return None };
        let is_stuck = *waited_ms > TIMEOUT_MS + DECISION_MS
            && !crashes.iter().any(|crash| (*since..at).contains(crash));
        is_stuck.then(|| format!("{place:?} is not decided after {waited_ms} ms"))
    });
    stuck.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::super::transacted::{DECISION_MS, TIMEOUT_MS, Transacted};
    use super::super::planted::{HERE, accusations, transacted};

    #[test]
    fn a_transaction_that_never_ends_is_noticed() {
        let waited =
            |waited_ms| transacted(Transacted::Undecided { place: HERE, waited_ms, since: 0 });
        let limit = TIMEOUT_MS + DECISION_MS;
        let asked = Happening::Asked;
        assert_eq!(accusations(&[asked.clone(), waited(limit)]), [""; 0]);
        assert_eq!(accusations(&[asked.clone(), waited(limit + 1)]).len(), 1);
        let again = [asked, Happening::Crash, waited(limit + 1)];
        assert_eq!(accusations(&again), [""; 0], "it was loaded meanwhile");
    }
}

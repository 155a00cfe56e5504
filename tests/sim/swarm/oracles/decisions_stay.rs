//! Below what everything was decided once it stays decided (A19 for the last stable offset).
//!
//! Does: compare every such offset that was told with those told before it was asked for.
//! Does not: judge relaxed topics: a crash may take the end of a log there.
//! Invariants: none of its own.
//! Apart from the ends of logs because it moves by other rules.

use super::super::history::History;
use super::super::transacted::Transacted;
use super::floors::Floors;

/// Stable offsets that went back.
pub fn ask(history: &History) -> Vec<String> {
    let (mut known, mut wrong) = (Floors::new(), Vec::new());
    for (at, what) in history.transacted() {
        let Transacted::Stable { place, stable, since } = what else { continue };
        if history.is_relaxed(*place) {
            continue;
        }
        let least = known.before(place, *since).unwrap_or(0);
        if *stable < least {
            wrong.push(format!("{place:?} was told to be decided up to {stable}, not {least}"));
        }
        known.raise(*place, at, *stable);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::super::transacted::Transacted;
    use super::super::planted::{HERE, accusations, transacted};

    #[test]
    fn a_decision_that_is_taken_back_is_noticed() {
        let told = |stable, since| transacted(Transacted::Stable { place: HERE, stable, since });
        let asked = || Happening::Asked;
        assert_eq!(accusations(&[asked(), told(4, 0), asked(), told(4, 2)]), [""; 0]);
        assert_eq!(accusations(&[asked(), asked(), told(4, 0), told(3, 1)]), [""; 0]);
        assert_eq!(accusations(&[asked(), told(4, 0), asked(), told(3, 2)]).len(), 1);
    }
}

//! What was deleted stays deleted, and where a log begins never goes back.
//!
//! Does: compare starts and records with what was deleted and told before they were asked for.
//! Does not: mind a start beyond what was asked: retention deletes as well.
//! Invariants: none of this depends on power.
//! Apart because deletion is a promise as well, often one by law.

use super::super::history::{Happening, History, Place, Since};
use super::floors::Floors;

/// Records from below a start, and starts that went back.
pub fn ask(history: &History) -> Vec<String> {
    let mut known = Floors::new();
    let mut wrong = Vec::new();
    for (at, happening) in history.happenings.iter().enumerate() {
        if let Happening::Deleted(place, start) = happening {
            known.raise(*place, at, *start);
        } else if let Happening::Start { place, start, since } = happening {
            let least = least(&known, *place, *since);
            if *start < least {
                wrong.push(format!("{place:?} was told to begin at {start}, not at {least}"));
            }
            known.raise(*place, at, *start);
        } else if let Happening::Seen { place, offset, value, since } = happening
            && *offset < least(&known, *place, *since)
        {
            wrong.push(format!("{place:?}@{offset} has {value} although it was deleted"));
        }
    }
    wrong
}

/// A log begins at zero.
fn least(known: &Floors<Place>, place: Place, since: Since) -> i64 {
    known.before(&place, since).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, value};

    #[test]
    fn what_comes_back_is_noticed() {
        let seen = |offset, since| Happening::Seen { place: HERE, offset, value: value(1), since };
        let sent = Happening::Sent(HERE, value(1));
        let (asked, deleted) = (Happening::Asked, Happening::Deleted(HERE, 5));
        assert_eq!(
            accusations(&[sent.clone(), deleted.clone(), asked.clone(), seen(5, 2)]),
            [""; 0]
        );
        assert_eq!(
            accusations(&[sent.clone(), asked.clone(), deleted.clone(), seen(4, 1)]),
            [""; 0]
        );
        assert_eq!(accusations(&[sent, deleted.clone(), asked.clone(), seen(4, 2)]).len(), 1);
        let start = |start, since| Happening::Start { place: HERE, start, since };
        assert_eq!(accusations(&[deleted.clone(), asked.clone(), start(4, 1)]).len(), 1);
        assert_eq!(accusations(&[asked.clone(), start(6, 0), asked, start(5, 2)]).len(), 1);
    }
}

//! What was deleted stays deleted, and where a log begins never goes back.
//!
//! Does: compare starts and records with what was deleted and told before they were asked for.
//! Does not: mind a start beyond what was asked: retention deletes as well.
//! Invariants: a deletion that was acknowledged depends on no power, only on a disk that keeps what it was
//! given; on a relaxed topic a crash may take one that was not.
//! Apart because deletion is a promise as well, often one by law.

use super::super::history::{Happening, History, Place};
use super::floors::Floors;

/// Records from below a start, and starts that went back.
pub fn ask(history: &History) -> Vec<String> {
    let (mut deleted, mut told) = (Floors::new(), Floors::new());
    let mut crashed_at = 0;
    let mut wrong = Vec::new();
    for (at, happening) in history.happenings.iter().enumerate() {
        let least = |deleted: &Floors<Place>, told: &Floors<Place>, place, since| {
            let known = deleted.before(&place, since).max(told.before(&place, since));
            // A log begins at zero.
            known.unwrap_or(0)
        };
        if let Happening::Deleted(place, start) = happening {
            deleted.raise(*place, at, *start);
        } else if *happening == Happening::Crash {
            crashed_at = at;
            told.retain(|place| !history.is_relaxed(*place));
        } else if let Happening::Damaged { place, from, until: None, .. } = happening {
            // A log that ends before the place where it began begins at its end.
            deleted.lower(*place, at, *from);
            told.lower(*place, at, *from);
        } else if let Happening::StartForgotten(place, start) = happening {
            deleted.lower(*place, at, *start);
            told.lower(*place, at, *start);
        } else if let Happening::Start { place, start, since } = happening {
            let least = least(&deleted, &told, *place, *since);
            if *start < least {
                wrong.push(format!("{place:?} was told to begin at {start}, not at {least}"));
            }
            // What was asked before a crash may be told after it.
            if *since >= crashed_at || !history.is_relaxed(*place) {
                told.raise(*place, at, *start);
            }
        } else if let Happening::Seen { place, offset, value, since } = happening
            && *offset < least(&deleted, &told, *place, *since)
        {
            wrong.push(format!("{place:?}@{offset} has {value} although it was deleted"));
        }
    }
    wrong
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
        let wanted = |before| Happening::DeleteAsked(HERE, before);
        let back = [wanted(5), deleted.clone(), asked.clone(), start(4, 2)];
        assert_eq!(accusations(&back).len(), 1);
        assert_eq!(accusations(&[wanted(6), start(6, 0), asked, start(5, 2)]).len(), 1);
    }

    #[test]
    fn a_deletion_that_a_disk_lost_brings_back_what_it_deleted_and_no_more() {
        let start = |start, since| Happening::Start { place: HERE, start, since };
        let seen = |offset| Happening::Seen { place: HERE, offset, value: value(1), since: 4 };
        let before = [
            Happening::Sent(HERE, value(1)),
            Happening::DeleteAsked(HERE, 5),
            Happening::Deleted(HERE, 5),
        ];
        let forgotten = Happening::StartForgotten(HERE, 3);
        let with = |rest: &[Happening]| accusations(&[&before[..], rest].concat());
        assert_eq!(with(&[forgotten.clone(), Happening::Asked, start(3, 4), seen(3)]), [""; 0]);
        assert_eq!(with(&[forgotten.clone(), Happening::Asked, start(2, 4)]).len(), 1);
        assert_eq!(with(&[forgotten, Happening::Asked, seen(2)]).len(), 1);
        let lost_behind =
            Happening::Damaged { place: HERE, from: 9, until: None, is_silent: false };
        let came_back = with(&[lost_behind, Happening::Asked, start(3, 4)]);
        assert_eq!(came_back.len(), 1, "no deletion was lost with it");
    }
}

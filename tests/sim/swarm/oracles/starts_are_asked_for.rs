//! A log begins where somebody wanted it to begin, and nowhere later (contract C1).
//!
//! Does: compare every start that is told with the deletions that were asked for.
//! Does not: judge topics that retention may shorten.
//! Invariants: a deletion of everything counts as any offset until it is answered, and for ever if it was asked
//! twice: the first one may still be on its way.
//! Apart because whatever lies before the start is not missed by any other oracle.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place};

/// Starts that nobody asked for.
pub fn ask(history: &History) -> Vec<String> {
    let mut asked: BTreeMap<Place, Asked> = BTreeMap::new();
    let mut wrong = Vec::new();
    for happening in &history.happenings {
        if let Happening::DeleteAsked(place, before) = happening {
            asked.entry(*place).or_default().ask(*before);
        } else if let Happening::Deleted(place, start) = happening {
            asked.entry(*place).or_default().answer(*start);
        } else if let Happening::Start { place, start, .. } = happening
            && !history.retained.contains(&place.topic)
        {
            let most = asked.get(place).map_or(0, Asked::most);
            if *start > most {
                wrong.push(format!(
                    "{place:?} begins at {start}, although only what is before {most} was to go"
                ));
            }
        }
    }
    wrong
}

/// What is to be deleted of one log.
#[derive(Default)]
struct Asked {
    before: i64,
    /// A deletion of everything is not answered.
    is_open: bool,
    /// One was never answered.
    is_lost: bool,
}

impl Asked {
    fn ask(&mut self, before: i64) {
        if before >= 0 {
            self.before = self.before.max(before);
        } else {
            self.is_lost |= self.is_open;
            self.is_open = true;
        }
    }

    /// How much goes only who deletes everything learns from the answer: all others said it.
    fn answer(&mut self, start: i64) {
        if self.is_open {
            self.before = self.before.max(start);
        }
        self.is_open = false;
    }

    fn most(&self) -> i64 {
        if self.is_open || self.is_lost { i64::MAX } else { self.before }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, RELAXED, accusations};

    #[test]
    fn a_start_beyond_what_was_asked_is_noticed() {
        let start = |start| Happening::Start { place: HERE, start, since: 0 };
        let ask = |before| Happening::DeleteAsked(HERE, before);
        let done = |start| Happening::Deleted(HERE, start);
        assert_eq!(accusations(&[start(0), ask(5), start(5)]), [""; 0]);
        assert_eq!(accusations(&[start(1)]).len(), 1);
        assert_eq!(accusations(&[ask(5), done(5), start(6)]).len(), 1);
        assert_eq!(accusations(&[ask(5), done(6), start(6)]).len(), 1, "and says so");
        assert_eq!(accusations(&[ask(-1), start(9)]), [""; 0], "nobody says yet how much goes");
        assert_eq!(accusations(&[ask(-1), done(7), start(9)]).len(), 1);
        assert_eq!(accusations(&[ask(-1), ask(-1), done(7), start(9)]), [""; 0]);
        let retained = Happening::Start { place: RELAXED, start: 3, since: 0 };
        assert_eq!(accusations(&[retained]), [""; 0]);
    }
}

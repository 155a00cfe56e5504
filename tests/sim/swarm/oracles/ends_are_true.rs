//! Where a log ends is never told too low, and never goes back (A18, A19; contract C5).
//!
//! Does: compare every end with what was acknowledged and told before it was asked for.
//! Does not: ask for the end of records that were only sent.
//! Invariants: on a relaxed topic a crash begins everything anew; what a disk spoilt is not known to be reached.
//! Apart because a client that trusts an end that is too low skips records.

use super::super::history::{Happening, History, Place};
use super::floors::Floors;

/// Ends below what was known when they were asked for.
pub fn ask(history: &History) -> Vec<String> {
    let mut known = Floors::new();
    let mut wrong = Vec::new();
    let mut crashed_at = 0;
    for (at, happening) in history.happenings.iter().enumerate() {
        // What was asked before a crash may be told after it.
        let counts = |place: Place, since| since >= crashed_at || !history.is_relaxed(place);
        match happening {
            Happening::Acked { place, offset: Some(offset), since, .. }
            | Happening::Seen { place, offset, since, .. } => {
                if counts(*place, *since) {
                    known.raise(*place, at, offset + 1);
                }
            }
            Happening::End { place, since, .. } if !counts(*place, *since) => {}
            Happening::End { place, end, since } => {
                let least = known.before(place, *since).unwrap_or(0);
                if *end < least {
                    wrong.push(format!("{place:?} was told to end at {end}, not at {least}"));
                }
                known.raise(*place, at, *end);
            }
            Happening::Damaged { place, from, until: None, .. } => known.lower(*place, at, *from),
            Happening::Crash => {
                crashed_at = at;
                known.retain(|place| !history.is_relaxed(*place));
            }
            Happening::Acked { .. }
            | Happening::Sent(..)
            | Happening::Refused(..)
            | Happening::Asked
            | Happening::Garbled(..)
            | Happening::Skipped { .. }
            | Happening::Start { .. }
            | Happening::DeleteAsked(..)
            | Happening::Deleted(..)
            | Happening::Found { .. }
            | Happening::Committed { .. }
            | Happening::CommitRead { .. }
            | Happening::Assigned { .. }
            | Happening::InHands { .. }
            | Happening::DiskSilent
            | Happening::SilenceOver
            | Happening::Damaged { .. }
            | Happening::StartForgotten(..)
            | Happening::GroupDamaged(_)
            | Happening::PassingDamaged
            | Happening::Accepted(_)
            | Happening::Denied { .. }
            | Happening::Held(_)
            | Happening::ReadWhole { .. }
            | Happening::Transacted(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, acked, value};

    fn end(end: i64, since: usize) -> Happening {
        Happening::End { place: HERE, end, since }
    }

    #[test]
    fn an_end_that_is_too_low_is_noticed() {
        let sent = Happening::Sent(HERE, value(1));
        let acked = acked(HERE, 1, 6);
        let asked = Happening::Asked;
        assert_eq!(accusations(&[sent.clone(), acked.clone(), asked.clone(), end(7, 2)]), [""; 0]);
        assert_eq!(accusations(&[sent.clone(), acked.clone(), asked.clone(), end(6, 2)]).len(), 1);
        let before = [sent, asked.clone(), acked, end(6, 1)];
        assert_eq!(accusations(&before), [""; 0], "it was asked before");
        let back = [asked.clone(), end(9, 0), asked, end(8, 2)];
        assert_eq!(accusations(&back).len(), 1, "an end goes back");
    }
}

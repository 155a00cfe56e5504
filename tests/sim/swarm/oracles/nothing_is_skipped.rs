//! A reader is given the record it asks for, or a later one only if the log begins later (A8, A10).
//!
//! Does: accuse every jump that a client noticed and no start explains.
//! Does not: look for records nobody asked for.
//! Invariants: nothing here is compacted, so offsets have no holes.
//! Apart because a consumer does not notice what it was not given.

use super::super::history::{Happening, History};

/// Jumps over records.
pub fn ask(history: &History) -> Vec<String> {
    let skips = history.happenings.iter().filter_map(|happening| match happening {
        Happening::Skipped { place, from, to } => {
            Some(format!("a fetch of {place:?} from {from} began with {to}"))
        }
        Happening::Sent(..)
        | Happening::Acked { .. }
        | Happening::Refused(..)
        | Happening::Asked
        | Happening::Seen { .. }
        | Happening::Garbled(..)
        | Happening::End { .. }
        | Happening::Start { .. }
        | Happening::Deleted(..)
        | Happening::Committed { .. }
        | Happening::CommitRead { .. }
        | Happening::Assigned { .. }
        | Happening::Crash
        | Happening::ReadWhole { .. } => None,
    });
    skips.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations};

    #[test]
    fn a_jump_is_noticed() {
        assert_eq!(accusations(&[Happening::Skipped { place: HERE, from: 3, to: 5 }]).len(), 1);
    }
}

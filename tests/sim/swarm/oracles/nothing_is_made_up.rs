//! What readers see was sent there, and was not refused (A3; contract C2).
//!
//! Does: look up where each seen value comes from.
//! Does not: ask whether it was acknowledged: what nobody answered for may be there.
//! Invariants: a refusal counts whenever it was given, before or after somebody saw the value.
//! Apart because a record that should not exist is as wrong as one that is missing.

use super::super::history::{Happening, History, Place, Value};
use super::quick::QuickMap;

/// Seen values that nobody sent there, and those that were refused.
pub fn ask(history: &History) -> Vec<String> {
    let mut sent: QuickMap<Value, Place> = QuickMap::default();
    let mut refused: QuickMap<Value, ()> = QuickMap::default();
    for happening in &history.happenings {
        if let Happening::Sent(place, value) = happening {
            sent.insert(*value, *place);
        } else if let Happening::Refused(_, value) = happening {
            refused.insert(*value, ());
        }
    }
    let judge = |place: &Place, offset: i64, value: &Value| {
        if sent.get(value) != Some(place) {
            Some(format!("{place:?}@{offset} has {value}, which nobody sent there"))
        } else if refused.contains_key(value) {
            Some(format!("{place:?}@{offset} has {value}, which was refused"))
        } else {
            None
        }
    };
    let mut wrong = Vec::new();
    for happening in &history.happenings {
        if let Happening::Seen { place, offset, value, .. } = happening {
            wrong.extend(judge(place, *offset, value));
        } else if let Happening::Garbled(place, offset) = happening {
            wrong.push(format!("{place:?}@{offset} is nothing that anybody wrote"));
        } else if let Happening::ReadWhole { place, records, .. } = happening {
            wrong.extend(records.iter().filter_map(|(offset, value)| judge(place, *offset, value)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::{Happening, Place};
    use super::super::planted::{HERE, accusations, seen, value};

    #[test]
    fn strangers_and_what_was_refused_are_noticed() {
        let sent = Happening::Sent(HERE, value(1));
        assert_eq!(accusations(&[sent.clone(), seen(0, 1)]), [""; 0]);
        assert_eq!(accusations(&[sent.clone(), seen(0, 2)]).len(), 1);
        let elsewhere = Happening::Sent(Place { topic: 0, partition: 1 }, value(1));
        assert_eq!(accusations(&[elsewhere, seen(0, 1)]).len(), 1);
        let refused = Happening::Refused(HERE, value(1));
        assert_eq!(accusations(&[sent, seen(0, 1), refused]).len(), 1);
        assert_eq!(accusations(&[Happening::Garbled(HERE, 0)]).len(), 1);
    }
}

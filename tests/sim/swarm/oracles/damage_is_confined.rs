//! What no disk has spoilt is not refused, and a log is held only for what it lost (contract C7).
//!
//! Does: hold every refusal that lasts, and every hold, against what the fault layer knows it did.
//! Does not: mind a refusal that passes.
//! Invariants: the damage is known to the byte, so there is nothing to be generous about.
//! Apart because a broker that refuses too much loses data as well.

use super::super::history::{Happening, History};
use super::damages::Damages;

/// Refusals and holds beyond the damage.
pub fn ask(history: &History) -> Vec<String> {
    let damages = Damages::of(history);
    let mut wrong = Vec::new();
    for (at, happening) in history.happenings.iter().enumerate() {
        if let Happening::Denied { place, from, to } = happening
            && !damages.excuse_denial(*place, *from, *to)
        {
            wrong.push(format!("{place:?} refuses {from} to {to}, which nobody damaged"));
        } else if let Happening::Held(place) = happening
            && !damages.excuse_hold(*place, at)
        {
            wrong.push(format!("{place:?} is held without need"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, acked, value, whole};

    fn damaged(from: i64, until: Option<i64>, is_silent: bool) -> Happening {
        Happening::Damaged { place: HERE, from, until, is_silent }
    }

    #[test]
    fn a_refusal_beyond_the_damage_is_noticed() {
        let denied = |from, to| Happening::Denied { place: HERE, from, to };
        assert_eq!(accusations(&[damaged(3, Some(5), false), denied(3, 5)]), [""; 0]);
        assert_eq!(accusations(&[damaged(3, Some(5), false), denied(4, 6)]).len(), 1);
        assert_eq!(accusations(&[damaged(3, None, false), denied(4, 5)]).len(), 1);
    }

    #[test]
    fn a_hold_without_loss_is_noticed() {
        let (held, accepted) = (Happening::Held(HERE), Happening::Accepted(HERE));
        let lost = damaged(3, None, false);
        assert_eq!(accusations(&[lost.clone(), held.clone()]), [""; 0]);
        assert_eq!(accusations(std::slice::from_ref(&held)).len(), 1);
        let all = [lost.clone(), held.clone(), accepted.clone()];
        assert_eq!(accusations(&all), [""; 0], "it is given up later");
        assert_eq!(accusations(&[lost.clone(), accepted.clone(), held.clone()]).len(), 1);
        let all = [lost.clone(), accepted.clone(), lost.clone(), held.clone(), accepted.clone()];
        assert_eq!(accusations(&all), [""; 0], "it lost something again");
        assert_eq!(accusations(&[&all[..], std::slice::from_ref(&held)].concat()).len(), 1);
        assert_eq!(accusations(&[held, lost]).len(), 1, "nothing was lost yet");
    }

    #[test]
    fn a_loss_is_said_or_it_is_none() {
        let before = [Happening::Sent(HERE, value(1)), acked(HERE, 1, 4)];
        let with = |rest: &[Happening]| accusations(&[&before[..], rest].concat());
        let gone = whole(4, &[], 4);
        let held = Happening::Held(HERE);
        assert_eq!(with(&[damaged(4, None, false), gone.clone(), held.clone()]), [""; 0]);
        assert_eq!(with(&[damaged(4, None, false), gone.clone()]).len(), 1, "nobody said so");
        assert_eq!(
            with(&[damaged(5, None, false), gone.clone(), held]).len(),
            1,
            "it is before it"
        );
        assert_eq!(with(&[damaged(4, None, true), gone.clone()]), [""; 0]);
        let accepted = Happening::Accepted(HERE);
        assert_eq!(with(&[damaged(4, None, false), accepted, gone.clone()]), [""; 0]);
        let segment = damaged(4, Some(5), false);
        let gone = whole(4, &[], 5);
        assert_eq!(with(&[segment.clone(), gone.clone()]).len(), 2, "it was not refused");
        let denied = Happening::Denied { place: HERE, from: 4, to: 5 };
        assert_eq!(with(&[segment, denied, gone]), [""; 0]);
    }
}

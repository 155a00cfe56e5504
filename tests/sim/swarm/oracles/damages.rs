//! What damage excuses, and what it does not.
//!
//! Does: gather from a history what disks spoilt, what was said about it, and what an operator gave up.
//! Does not: excuse a loss that nobody was told of, where anything was left to tell it by.
//! Invariants: only what was asked before the start that met the damage can be lost by it.
//! Apart because several promises hold but for this.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Happening, History, Place, Since};

/// One loss of one log.
struct Loss {
    at: Since,
    from: i64,
    until: Option<i64>,
    is_silent: bool,
}

/// All damage of a history.
#[derive(Default)]
pub struct Damages {
    losses: BTreeMap<Place, Vec<Loss>>,
    denied: BTreeMap<Place, Vec<(i64, i64)>>,
    /// Logs that ever said that they are held.
    held: BTreeSet<Place>,
    /// When an operator gave up what a log had lost.
    accepted: BTreeMap<Place, Vec<Since>>,
    /// Logs that may begin sooner than they did, and where at the soonest.
    forgotten: BTreeMap<Place, i64>,
}

impl Damages {
    /// Reads a history.
    pub fn of(history: &History) -> Self {
        let mut all = Self::default();
        for (at, happening) in history.happenings.iter().enumerate() {
            if let Happening::Damaged { place, from, until, is_silent } = happening {
                let (from, until, is_silent) = (*from, *until, *is_silent);
                all.losses.entry(*place).or_default().push(Loss { at, from, until, is_silent });
            } else if let Happening::Denied { place, from, to } = happening {
                all.denied.entry(*place).or_default().push((*from, *to));
            } else if let Happening::Held(place) = happening {
                all.held.insert(*place);
            } else if let Happening::Accepted(place) = happening {
                all.accepted.entry(*place).or_default().push(at);
            } else if let Happening::StartForgotten(place, start) = happening {
                let soonest = all.forgotten.entry(*place).or_insert(*start);
                *soonest = (*soonest).min(*start);
            }
        }
        all
    }

    fn losses(&self, place: Place) -> impl Iterator<Item = &Loss> {
        self.losses.get(&place).into_iter().flatten()
    }

    /// Whether fetches of this offset were refused for good.
    pub fn is_denied(&self, place: Place, offset: i64) -> bool {
        let mut denied = self.denied.get(&place).into_iter().flatten();
        denied.any(|(from, to)| (*from..*to).contains(&offset))
    }

    /// Up to where a log never lost its end, nor forgot where it begins: there, what is left at last is what
    /// always was there.
    pub fn sure_before(&self, place: Place) -> i64 {
        let open = self.losses(place).filter(|loss| loss.until.is_none());
        let forgotten = self.forgotten.get(&place).copied();
        open.map(|loss| loss.from).chain(forgotten).min().unwrap_or(i64::MAX)
    }

    /// Whether what was acknowledged there to a request of that time may be missing in the end.
    pub fn excuse_loss(&self, place: Place, offset: i64, since: Since) -> bool {
        let is_denied = self.is_denied(place, offset);
        let is_held = self.held.contains(&place);
        self.losses(place).filter(|loss| loss.from <= offset).any(|loss| match loss.until {
            Some(until) => offset < until && is_denied,
            None => {
                let is_let_go = loss.is_silent || self.is_given_up(place, loss, Since::MAX);
                since < loss.at && (is_held || is_let_go)
            }
        })
    }

    /// Whether what was acknowledged there to a request of that time was gone at the later one, as its log lost
    /// its end and went on before it: what stands there since is something else.
    pub fn has_gone(&self, place: Place, offset: i64, since: Since, when: Since) -> bool {
        let mut open = self.losses(place).filter(|loss| loss.until.is_none());
        open.any(|loss| {
            let is_hit = loss.from <= offset && since < loss.at && loss.at < when;
            is_hit && (loss.is_silent || self.is_given_up(place, loss, when))
        })
    }

    /// Whether an operator had given this up at that time.
    fn is_given_up(&self, place: Place, loss: &Loss, when: Since) -> bool {
        let mut accepted = self.accepted.get(&place).into_iter().flatten();
        accepted.any(|at| (loss.at..when).contains(at))
    }

    /// Whether fetches of all these offsets may be refused.
    pub fn excuse_denial(&self, place: Place, from: i64, to: i64) -> bool {
        let around = self.losses(place).filter(|loss| loss.from <= from);
        around.filter_map(|loss| loss.until).any(|until| from < until && to <= until)
    }

    /// Whether the log may be held at that time: it had lost its end and nobody had given that up since.
    pub fn excuse_hold(&self, place: Place, when: Since) -> bool {
        let mut open = self.losses(place).filter(|loss| loss.until.is_none() && loss.at < when);
        open.any(|loss| !self.is_given_up(place, loss, when))
    }
}

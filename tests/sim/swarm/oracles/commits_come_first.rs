//! Nobody reads a record as committed before its commit was asked for (A4: a precommitted read).
//!
//! Does: compare when such a record was taken with when its producer asked.
//! Does not: mind one that is never committed: another promise is broken then.
//! Invariants: what is noted first happened first.
//! Apart because a transaction that is committed in the end hides that it was read too early.

use super::super::history::History;
use super::super::transacted::Transacted;
use super::fates::Fates;

/// Records that were taken for committed too early.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let early = history.transacted().filter_map(|(at, what)| {
        let Transacted::Believed { place, offset, value } = what else { return None };
        let of = fates.transaction(*value)?;
        let is_early = fates.asked(of).is_some_and(|asked| at < asked);
        is_early.then(|| format!("{place:?}@{offset} is read before {of} is to be committed"))
    });
    early.collect()
}

#[cfg(test)]
mod tests {
    use super::super::planted::{accusations, asked_to_commit, believed, ended, part};

    #[test]
    fn what_is_read_before_its_commit_is_noticed() {
        let with = |rest: &[_]| accusations(&[&part(1, 1)[..], rest].concat());
        let (asked, ended) = (asked_to_commit(1), ended(1, true));
        assert_eq!(with(&[asked.clone(), believed(0, 1), ended.clone()]), [""; 0]);
        assert_eq!(with(&[believed(0, 1), asked, ended]).len(), 1);
    }
}

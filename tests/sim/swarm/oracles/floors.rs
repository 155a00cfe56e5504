//! What is known to be reached, and since when: ends, starts and committed offsets only rise.
//!
//! Does: remember each rise with its place in the history, and say what held before a question.
//! Does not: judge an answer.
//! Invariants: of each key the values rise with their places.
//! Apart because three promises are of this kind.

use std::collections::BTreeMap;

use super::super::history::Since;

/// The least that an answer may say, for each key.
pub struct Floors<K> {
    known: BTreeMap<K, Vec<(Since, i64)>>,
}

impl<K: Ord> Floors<K> {
    /// Nothing is known.
    pub fn new() -> Self {
        Self { known: BTreeMap::new() }
    }

    /// From this place of the history on it is known to be at least `value`.
    pub fn raise(&mut self, key: K, at: Since, value: i64) {
        let known = self.known.entry(key).or_default();
        if known.last().is_none_or(|(_, before)| *before < value) {
            known.push((at, value));
        }
    }

    /// From this place of the history on no more than `value` is known.
    pub fn lower(&mut self, key: K, at: Since, value: i64) {
        let known = self.known.remove(&key).and_then(|known| Some(known.last()?.1));
        if let Some(known) = known {
            self.raise(key, at, known.min(value));
        }
    }

    /// What was known before this place; `None` if nothing was.
    pub fn before(&self, key: &K, since: Since) -> Option<i64> {
        let known = self.known.get(key)?;
        let last = known.partition_point(|(at, _)| *at < since).checked_sub(1)?;
        Some(known[last].1)
    }

    /// Keeps only what is known of these keys.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.known.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_known_before_a_question_counts() {
        let mut floors = Floors::new();
        for (at, value) in [(3, 10), (5, 8), (7, 12)] {
            floors.raise('a', at, value);
        }
        let before = |since| floors.before(&'a', since);
        assert_eq!([3, 4, 7, 8].map(before), [None, Some(10), Some(10), Some(12)]);
        assert_eq!(floors.before(&'b', 9), None);
        floors.lower('a', 9, 10);
        let lowered = [8, 9, 10].map(|since| floors.before(&'a', since));
        assert_eq!(lowered, [None, None, Some(10)]);
        floors.retain(|key| *key != 'a');
        assert_eq!(floors.before(&'a', 9), None);
    }
}

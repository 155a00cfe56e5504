//! What of a file's contents is not what was written there, and what it should be.
//!
//! Does: remember the right bytes of every place a fault spoilt, until an honest write replaces them.
//! Does not: spoil anything.
//! Invariants: places do not overlap; the right bytes laid over the contents give what an honest disk
//! would have.
//! Apart because whoever judges a loss must know exactly what was done, whatever the fault was.

use std::collections::BTreeMap;
use std::ops::Range;

/// The wrong places of one file: where each begins, and what should be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong(BTreeMap<u64, Vec<u8>>);

impl Wrong {
    /// Whether everything is as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything in this range is wrong.
    pub(super) fn touches(&self, range: &Range<u64>) -> bool {
        self.places().any(|place| place.start < range.end && range.start < place.end)
    }

    /// What should be at this place from now on, whatever is there.
    pub(super) fn expect(&mut self, at: u64, right: &[u8]) {
        self.forget(at..at + right.len() as u64);
        if !right.is_empty() {
            self.0.insert(at, right.to_vec());
        }
    }

    /// What is in this range is right.
    pub(super) fn forget(&mut self, range: Range<u64>) {
        let before = self.0.range(..range.end);
        let touched = before.filter(|(at, right)| *at + right.len() as u64 > range.start);
        let touched: Vec<u64> = touched.map(|(at, _)| *at).collect();
        for at in touched {
            let right = self.0.remove(&at).expect("it was just seen");
            let end = at + right.len() as u64;
            if at < range.start {
                self.0.insert(at, right[..(range.start - at) as usize].to_vec());
            }
            if end > range.end {
                self.0.insert(range.end, right[(range.end - at) as usize..].to_vec());
            }
        }
    }

    /// The contents as they should be.
    pub(super) fn righted(&self, mut contents: Vec<u8>) -> Vec<u8> {
        for (at, right) in &self.0 {
            super::file::put(&mut contents, *at, right);
        }
        contents
    }

    /// The wrong places.
    pub(super) fn places(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(at, right)| *at..*at + right.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_write_rights_what_it_covers_and_nothing_else() {
        let mut wrong = Wrong::default();
        wrong.expect(2, b"cdef");
        wrong.forget(3..5);
        assert_eq!(wrong.places().collect::<Vec<_>>(), [2..3, 5..6]);
        assert_eq!(
            [0..2, 0..3, 3..5, 5..9].map(|range| wrong.touches(&range)),
            [false, true, false, true]
        );
        assert_eq!(wrong.righted(b"ab.de.gh".to_vec()), b"abcdefgh");
        wrong.expect(2, b"XYZ");
        assert_eq!(wrong.righted(b"ab.de.gh".to_vec()), b"abXYZfgh");
        wrong.forget(0..9);
        assert!(wrong.is_empty());
    }
}

//! One file of the simulated disk.
//!
//! Does: keep what is durable apart from what is not, and what is right apart from what is there.
//! Does not: choose what goes wrong.
//! Invariants: an honest write is right once it is stored; what spoils a place never changes what
//! should be there; nothing is loose where anything is wrong, which it would hide.
//! Apart because a disk is many of these and a list of operations.

use std::mem;

use super::wrong::Wrong;
use super::{Dice, SECTOR_BYTES};

#[derive(Clone, Debug, Default)]
pub(super) struct SimFile {
    /// What survives a power cut. Behind it come zeros, up to `length`: most of what is prepared is
    /// never written, and never asked for.
    stable: Vec<u8>,
    /// Invariant: at least as long as `stable`.
    length: usize,
    /// Writes that were answered but not flushed.
    pub(super) loose: Vec<(u64, Vec<u8>)>,
    /// Whether the directory entry survives a power cut.
    pub(super) is_linked: bool,
    /// What of it is not what was written.
    pub(super) wrong: Wrong,
}

impl SimFile {
    pub(super) fn new(stable: Vec<u8>) -> Self {
        Self { length: stable.len(), stable, is_linked: true, ..Self::default() }
    }

    /// Nothing but zeros.
    pub(super) fn prepared(length: u64, is_linked: bool) -> Self {
        Self { length: length as usize, is_linked, ..Self::default() }
    }

    fn stored(&self) -> Vec<u8> {
        let mut stored = Vec::with_capacity(self.length);
        stored.extend_from_slice(&self.stable);
        stored.resize(self.length, 0);
        stored
    }

    pub(super) fn contents(&self) -> Vec<u8> {
        let mut contents = self.stored();
        for (at, bytes) in &self.loose {
            put(&mut contents, *at, bytes);
        }
        contents
    }

    pub(super) fn truth(&self) -> Vec<u8> {
        self.wrong.righted(self.contents())
    }

    /// What is stored there from now on is right.
    pub(super) fn store(&mut self, at: u64, bytes: &[u8]) {
        put(&mut self.stable, at, bytes);
        self.length = self.length.max(self.stable.len());
        self.wrong.forget(at..at + bytes.len() as u64);
    }

    /// Answered, and not durable before it is flushed.
    pub(super) fn write(&mut self, at: u64, bytes: Vec<u8>) {
        if self.wrong.touches(&(at..at + bytes.len() as u64)) {
            self.settle();
            self.store(at, &bytes);
        } else {
            self.loose.push((at, bytes));
        }
    }

    /// Durable; what is still loose below it never comes up again.
    pub(super) fn write_durable(&mut self, at: u64, bytes: &[u8]) {
        self.loose.iter_mut().for_each(|(from, loose)| overlay(loose, *from, at, bytes));
        self.store(at, bytes);
    }

    /// What should be there from now on is not stored there, unless it happens to be: what was there may be the
    /// same, or a write that went astray may have come to the very place it was for.
    pub(super) fn miss(&mut self, at: u64, right: &[u8]) {
        self.settle();
        if self.read(at, right.len() as u64) == right {
            self.wrong.forget(at..at + right.len() as u64);
        } else {
            self.wrong.expect(at, right);
        }
    }

    /// What is stored there from now on is not what should be, unless it happens to be.
    pub(super) fn spoil(&mut self, at: u64, bytes: &[u8]) {
        self.settle();
        let truth = self.truth();
        let end = (at as usize + bytes.len()).min(truth.len());
        let right = truth.get(at as usize..end).unwrap_or_default();
        self.store(at, bytes);
        if right != bytes {
            self.wrong.expect(at, right);
        }
    }

    /// A bit flips.
    ///
    /// # Panics
    /// If there is no such byte.
    pub(super) fn flip(&mut self, at: u64, bit: u8) {
        self.settle();
        assert!((at as usize) < self.length, "nothing is stored at {at}");
        let byte = self.stable.get(at as usize).copied().unwrap_or(0);
        self.spoil(at, &[byte ^ 1 << bit]);
    }

    /// It is so long from now on, and so it should be.
    pub(super) fn resize(&mut self, length: u64) {
        self.flush();
        self.stable.truncate(length as usize);
        self.length = length as usize;
        self.wrong.forget(length..u64::MAX);
    }

    /// What is behind this place is gone, and should not be.
    pub(super) fn shorten(&mut self, length: u64) {
        self.settle();
        let truth = self.truth();
        self.stable.truncate(length as usize);
        self.length = self.length.min(length as usize);
        self.wrong.expect(length, truth.get(length as usize..).unwrap_or_default());
    }

    /// What is stored is what should be.
    pub(super) fn mend(&mut self) {
        if !self.wrong.is_empty() {
            self.stable = mem::take(&mut self.wrong).righted(self.stored());
            self.length = self.stable.len();
        }
    }

    pub(super) fn len(&self) -> u64 {
        let ends = self.loose.iter().map(|(at, bytes)| at + bytes.len() as u64);
        ends.max().unwrap_or(0).max(self.length as u64)
    }

    /// What was answered is written back.
    pub(super) fn settle(&mut self) {
        for (at, bytes) in mem::take(&mut self.loose) {
            self.store(at, &bytes);
        }
    }

    pub(super) fn flush(&mut self) {
        self.settle();
        self.is_linked = true;
    }

    /// Any part of what was not flushed is kept.
    pub(super) fn tear(&mut self, dice: &mut Dice) {
        for (at, bytes) in mem::take(&mut self.loose) {
            self.store_some(dice, at, &bytes);
        }
    }

    /// Any subset of sectors: all, none, or each by a throw of its own.
    pub(super) fn store_some(&mut self, dice: &mut Dice, at: u64, bytes: &[u8]) {
        let mode = dice.below(4);
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let keep = match mode {
                0 => false,
                1 => true,
                _ => dice.below(2) == 0,
            };
            if keep {
                self.store(at + (number * SECTOR_BYTES) as u64, sector);
            }
        }
    }

    pub(super) fn read(&self, from: u64, len: u64) -> Vec<u8> {
        let (from, to) = (from.min(self.len()), (from + len).min(self.len()));
        let mut bytes = vec![0; (to - from) as usize];
        overlay(&mut bytes, from, 0, &self.stable);
        self.loose.iter().for_each(|(at, loose)| overlay(&mut bytes, from, *at, loose));
        bytes
    }
}

pub(super) fn put(contents: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (from, to) = (at as usize, at as usize + bytes.len());
    if contents.len() < to {
        contents.resize(to, 0);
    }
    contents[from..to].copy_from_slice(bytes);
}

/// Copies what of `source`, which lies at `at`, falls into `target`, which lies at `from`.
fn overlay(target: &mut [u8], from: u64, at: u64, source: &[u8]) {
    let begin = from.max(at);
    let end = (from + target.len() as u64).min(at + source.len() as u64);
    if begin < end {
        let source = &source[(begin - at) as usize..(end - at) as usize];
        target[(begin - from) as usize..(end - from) as usize].copy_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_lands_elsewhere_is_missed_unless_its_own_place_holds_the_same() {
        let mut file = SimFile::new(vec![0; 8]);
        let places = |file: &SimFile| file.wrong.places().collect::<Vec<_>>();
        file.spoil(4, b"abcd");
        file.miss(4, b"abcd");
        assert_eq!((places(&file), file.truth()), (vec![], b"\0\0\0\0abcd".to_vec()));
        file.spoil(2, b"xyz");
        file.miss(4, b"xyz");
        assert_eq!(places(&file), [2..4, 4..7]);
        assert_eq!(
            (&file.contents()[..], &file.truth()[..]),
            (&b"\0\0xyzbcd"[..], &b"\0\0\0\0xyzd"[..])
        );
        file.miss(6, b"new");
        assert_eq!(places(&file), [2..4, 4..6, 6..9], "its end is not there");
        file.write_durable(0, b"everything");
        file.miss(0, b"every");
        assert_eq!(places(&file), [], "what is written anew is what there was");
    }
}

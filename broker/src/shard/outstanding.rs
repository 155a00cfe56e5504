//! The disk operations of a core that the disk has not answered yet.
//!
//! Does: remember what each is and since when it is under way; say which of them the disk leaves
//! without an answer for too long.
//! Does not: begin or end any; log.
//! Invariants: an operation is named as late once; tokens are never used again.
//! Apart because a disk that never answers says nothing by itself: no error comes, the core goes on
//! turning, and whoever waits for the operation waits for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::time::Monotonic;
use flumen_storage::op::{FileName, OpId};

use crate::limits::{DISK_SILENCE_HUNG, DISK_SILENCE_TOLD};

/// Who carries an operation out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The core's own ring: commits of the journal.
    Ring,
    /// glommio: everything else.
    Executor,
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it answers to.
    pub id: OpId,
    /// On which file.
    pub file: FileName,
    /// In one word.
    pub action: &'static str,
    /// How many bytes of the journal it writes; `None` for any other operation.
    pub journal_bytes: Option<u32>,
    /// Who carries it out.
    pub by: By,
    /// Since when.
    pub begun: Monotonic,
}

/// All operations under way on one core. They are as many as the storage core's limits allow.
#[derive(Debug, Default)]
pub struct Outstanding {
    operations: BTreeMap<u64, Operation>,
    next: u64,
    of_executor: usize,
    /// The first token that was not named as late.
    told_before: u64,
}

impl Outstanding {
    /// One more begins; its token.
    pub fn begin(&mut self, operation: Operation) -> u64 {
        let token = self.next;
        self.next += 1;
        self.of_executor += usize::from(operation.by == By::Executor);
        self.operations.insert(token, operation);
        token
    }

    /// One was answered; also whether it was named as late.
    ///
    /// # Panics
    /// When none has this token: an operation is answered once.
    pub fn end(&mut self, token: u64) -> (Operation, bool) {
        let operation = self.operations.remove(&token).expect("an operation is answered once");
        self.of_executor -= usize::from(operation.by == By::Executor);
        (operation, token < self.told_before)
    }

    /// How many the executor carries out.
    #[must_use]
    pub fn of_executor(&self) -> usize {
        self.of_executor
    }

    /// For how long the oldest is under way; zero without any.
    #[must_use]
    pub fn oldest(&self, now: Monotonic) -> Duration {
        let oldest = self.operations.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, operation)| now.since(operation.begun))
    }

    /// Those that have become late, in order: no answer for [`DISK_SILENCE_TOLD`]. Each is named once.
    pub fn take_late(&mut self, now: Monotonic) -> Vec<Operation> {
        let is_late = |operation: &Operation| now.since(operation.begun) >= DISK_SILENCE_TOLD;
        let untold = self.operations.range(self.told_before..);
        let late = untold.take_while(|(_, operation)| is_late(operation));
        let (tokens, late): (Vec<u64>, Vec<Operation>) =
            late.map(|(token, operation)| (*token, operation.clone())).unzip();
        self.told_before = tokens.last().map_or(self.told_before, |last| last + 1);
        late
    }

    /// Whether the disk does not answer at all any more: nothing for [`DISK_SILENCE_HUNG`].
    #[must_use]
    pub fn is_hung(&self, now: Monotonic) -> bool {
        self.oldest(now) >= DISK_SILENCE_HUNG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_secs(seconds))
    }

    fn begun(seconds: u64, by: By) -> Operation {
        let (id, file) = (OpId(seconds), FileName::Manifest);
        Operation { id, file, action: "write", journal_bytes: None, by, begun: at(seconds) }
    }

    #[test]
    fn a_late_operation_is_named_once_and_told_from_others_when_it_ends() {
        let mut all = Outstanding::default();
        let first = all.begin(begun(1, By::Executor));
        let second = all.begin(begun(5, By::Ring));
        assert_eq!(all.take_late(at(10)), []);
        assert_eq!(all.take_late(at(11)), [begun(1, By::Executor)]);
        assert_eq!(all.take_late(at(12)), [], "once");
        assert_eq!(all.end(first), (begun(1, By::Executor), true));
        assert_eq!(all.end(second), (begun(5, By::Ring), false));
        let third = all.begin(begun(13, By::Ring));
        assert_eq!(all.take_late(at(14)), []);
        assert_eq!(all.take_late(at(40)), [begun(13, By::Ring)]);
        assert!(all.end(third).1);
    }

    #[test]
    fn the_oldest_one_decides_whether_the_disk_answers() {
        let mut all = Outstanding::default();
        assert!(!all.is_hung(at(1_000)), "nothing is awaited");
        let first = all.begin(begun(0, By::Ring));
        let _ = all.begin(begun(100, By::Ring));
        assert_eq!(all.oldest(at(110)), Duration::from_secs(110));
        assert!(!all.is_hung(at(119)) && all.is_hung(at(120)));
        let _ = all.end(first);
        assert!(!all.is_hung(at(219)) && all.is_hung(at(220)));
    }

    #[test]
    fn only_what_the_executor_does_keeps_it_running() {
        let mut all = Outstanding::default();
        let (ring, executor) = (all.begin(begun(0, By::Ring)), all.begin(begun(0, By::Executor)));
        assert_eq!(all.of_executor(), 1);
        let _ = all.end(ring);
        assert_eq!(all.of_executor(), 1);
        let _ = all.end(executor);
        assert_eq!(all.of_executor(), 0);
    }
}

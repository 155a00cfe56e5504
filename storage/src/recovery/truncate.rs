//! What the journal's frames of one log add up to.
//!
//! Does: replay entries over what is settled, later frames over earlier ones, cutting the suffix
//! where a leader changed its mind and the prefix that is in segments already.
//! Does not: read frames; `recovery/scan` found them.
//! Invariants: the result follows the settled entry without a gap, terms never fall and offsets
//! are contiguous; what does not fit because an entry before it is gone is kept apart, for
//! whoever sets it aside.
//! Apart because Raft's rule about conflicting suffixes decides what survives a crash.

use bytes::Bytes;
use flumen_protocol::entry::{Entry, HardState, Payload, Records};
use flumen_protocol::ids::{LogIndex, Offset, Term};

/// One log while its frames are replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What lies in segments: last index and term, and one after the last offset.
    settled: (LogIndex, Term, Offset),
    /// What follows.
    pub entries: Vec<Entry>,
    /// One after the log's last offset, for each of `entries`.
    ends: Vec<Offset>,
    /// The newest promise.
    pub hard_state: HardState,
    /// Frames left out because an entry before them is missing, with their sequences.
    ///
    /// Invariant: indices ascend and lie after the last of `entries`.
    behind: Vec<(u64, Entry)>,
}

impl Replay {
    /// A log of which nothing is known but what is settled.
    #[must_use]
    pub fn new(settled: (LogIndex, Term), settled_end: Offset, hard_state: HardState) -> Self {
        let settled = (settled.0, settled.1, settled_end);
        let (entries, ends, behind) = (Vec::new(), Vec::new(), Vec::new());
        Self { settled, entries, ends, hard_state, behind }
    }

    /// Takes the next entry in the order of the journal, which stands at this sequence.
    pub fn take_entry(&mut self, sequence: u64, entry: Entry) {
        if entry.index <= self.settled.0 {
            return;
        }
        self.cut(entry.index);
        let (index, term, end) = self.last();
        let (base, new_end) = match &entry.payload {
            Payload::Records(records) => (records.base_offset, records.last_offset.after(1)),
            Payload::Empty | Payload::Control(_) => (end, end),
        };
        // A lower term after a higher one: written before a cut whose mark is gone by now, and
        // overtaken by what is settled.
        let fits = entry.index == index.next() && entry.term >= term && base == end;
        if fits {
            self.entries.push(owned(entry));
            self.ends.push(new_end);
        } else if entry.term >= term {
            self.behind.push((sequence, entry));
        }
    }

    /// Takes a cut: what follows from `from` on was dropped by the log's owner.
    pub fn cut(&mut self, from: LogIndex) {
        let keep = from.0.saturating_sub(self.settled.0.0 + 1);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        self.ends.truncate(keep);
        self.behind.retain(|(_, entry)| entry.index < from);
    }

    /// Takes a promise; the newest in the journal is newer than the manifest's or equal to it.
    pub fn take_hard_state(&mut self, state: HardState) {
        let commit = self.hard_state.commit.max(state.commit);
        let rank = |state: &HardState| (state.term, state.vote.is_some());
        if rank(&state) >= rank(&self.hard_state) {
            self.hard_state = state;
        }
        self.hard_state.commit = commit;
    }

    /// The last settled entry and its term.
    #[must_use]
    pub fn settled(&self) -> (LogIndex, Term) {
        (self.settled.0, self.settled.1)
    }

    /// Which indices are missing, if entries after them are there.
    #[must_use]
    pub fn missing(&self) -> Option<(LogIndex, LogIndex)> {
        let (last, _, _) = self.last();
        self.behind.last().map(|(_, gap)| (last.next(), gap.index))
    }

    /// The last entry, and one after the last offset.
    #[must_use]
    pub fn end(&self) -> (LogIndex, Offset) {
        let (last, _, end) = self.last();
        (last, end)
    }

    /// Intact entries that cannot be appended because one before them is missing, in order, with
    /// the sequences of their frames.
    #[must_use]
    pub fn behind(&self) -> &[(u64, Entry)] {
        &self.behind
    }

    /// The log is what there is without a gap: whatever was said about more of it is void.
    pub fn end_here(&mut self) {
        let (last, ..) = self.last();
        self.behind.clear();
        self.hard_state.commit = self.hard_state.commit.min(last);
    }

    /// A promise newer than what is left of the promises is proven by the entries: they were made
    /// under it.
    pub fn repair_term(&mut self) {
        let (_, term, _) = self.last();
        if self.hard_state.term < term {
            self.hard_state = HardState { term, vote: None, ..self.hard_state };
        }
    }

    fn last(&self) -> (LogIndex, Term, Offset) {
        let end = self.ends.last().copied().unwrap_or(self.settled.2);
        match self.entries.last() {
            Some(last) => (last.index, last.term, end),
            None => (self.settled.0, self.settled.1, end),
        }
    }
}

/// A copy that does not keep the whole journal file in memory.
fn owned(entry: Entry) -> Entry {
    let payload = match entry.payload {
        Payload::Empty => Payload::Empty,
        Payload::Records(records) => {
            let bytes = Bytes::copy_from_slice(&records.bytes);
            Payload::Records(Records { bytes, ..records })
        }
        Payload::Control(bytes) => Payload::Control(Bytes::copy_from_slice(&bytes)),
    };
    Entry { payload, ..entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(settled: u64, frames: &[(u64, u64)]) -> Replay {
        let settled = (LogIndex(settled), Term(2));
        let mut replay = Replay::new(settled, Offset(0), HardState::INITIAL);
        for (index, term) in frames {
            let (index, term) = (LogIndex(*index), Term(*term));
            replay.take_entry(index.0, Entry { index, term, payload: Payload::Empty });
        }
        replay
    }

    fn indices(replay: &Replay) -> Vec<(u64, u64)> {
        replay.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
    }

    #[test]
    fn later_frames_win_and_settled_ones_are_skipped() {
        assert_eq!(indices(&replay(2, &[(1, 1), (2, 2), (3, 2), (4, 2)])), [(3, 2), (4, 2)]);
        let changed = replay(0, &[(1, 2), (2, 2), (3, 2), (2, 3)]);
        assert_eq!(indices(&changed), [(1, 2), (2, 3)]);
        assert_eq!(changed.missing(), None);
    }

    #[test]
    fn what_a_settled_entry_overtook_does_not_come_back() {
        assert_eq!(indices(&replay(5, &[(6, 1), (7, 1)])), []);
        assert_eq!(replay(5, &[(6, 1), (7, 1)]).missing(), None);
    }

    #[test]
    fn a_gap_is_said_and_nothing_after_it_is_given() {
        let gap = replay(0, &[(1, 2), (4, 2), (5, 2)]);
        assert_eq!(indices(&gap), [(1, 2)]);
        assert_eq!(gap.missing(), Some((LogIndex(2), LogIndex(5))));
        assert_eq!(replay(0, &[(1, 2), (4, 2), (2, 3)]).missing(), None);
    }

    #[test]
    fn the_newest_promise_counts_whatever_the_order() {
        let state =
            |term, vote, commit| HardState { term: Term(term), vote, commit: LogIndex(commit) };
        let node = flumen_protocol::ids::NodeId(1);
        let mut log = replay(0, &[]);
        log.take_hard_state(state(4, Some(node), 3));
        log.take_hard_state(state(4, None, 7));
        assert_eq!(log.hard_state, state(4, Some(node), 7));
    }
}

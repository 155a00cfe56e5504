//! Which journal files are still needed, and which may be written again.
//!
//! Does: remember per file what it alone holds (entries not yet in segments, marks not yet
//! recorded elsewhere, hard states nobody repeated since), and let go of files oldest first.
//! Does not: issue operations; the journal asks for the next file and says what became durable.
//! Invariants: the files in use hold a range of sequences without a gap, in ascending order; a
//! file is written again only after a durable watermark says that nothing in it is needed.
//! Apart because forgetting too early is the one bug here that loses acknowledged data.
//!
//! ```text
//!   (new) → preparing → spare → active → sealed → waiting → spare …
//!                                          │         └ for the watermark that says "not needed"
//!                                          └ until all its logs are settled
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flumen_protocol::entry::HardState;
use flumen_protocol::ids::{LogId, LogIndex};

use crate::format::frame::Mark;
use crate::journal::packer::LandedContent;
use crate::manifest::hold::Void;

/// Entries of one log in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntryHold {
    first: LogIndex,
    last: LogIndex,
}

/// One file in use and what it holds.
#[derive(Debug)]
pub(crate) struct UsedFile {
    pub(crate) slot: u16,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    entries: BTreeMap<LogId, EntryHold>,
    /// The last mark of each log in this file that is not recorded elsewhere.
    marks: BTreeMap<LogId, u64>,
    /// How many logs have their latest hard state here.
    hard_states: usize,
    /// Its hard states are on their way into a newer file.
    carried: bool,
}

/// What is known of one log across all files.
#[derive(Debug, Default)]
struct LogState {
    settled: Option<LogIndex>,
    /// The latest hard state and where it is.
    hard: Option<(HardState, u64)>,
}

/// A file nothing needs any more, as soon as that is durable.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    slot: u16,
    first_sequence: u64,
    last_sequence: u64,
    /// Everything written when it was let go must be durable first: the reason to let go (a cut, a
    /// repeated hard state) may itself still be under way.
    needs_durable: u64,
}

/// All journal files of a core.
#[derive(Debug, Default)]
pub(crate) struct Files {
    used: VecDeque<UsedFile>,
    waiting: VecDeque<Waiting>,
    spare: VecDeque<u16>,
    /// Exist, but were never wholly written.
    unprepared: VecDeque<u16>,
    /// Have another size than files are made today: prepared again before their next use.
    resized: BTreeSet<u16>,
    logs: BTreeMap<LogId, LogState>,
    /// The numbers of all files there are.
    slots: BTreeSet<u16>,
}

impl Files {
    /// Begins a new use; its first frame will have this sequence.
    pub(crate) fn begin_use(&mut self, slot: u16, first_sequence: u64) {
        if let Some(active) = self.used.back() {
            assert!(active.last_sequence < first_sequence, "files are used in order");
        }
        self.slots.insert(slot);
        self.used.push_back(UsedFile {
            slot,
            first_sequence,
            last_sequence: first_sequence,
            entries: BTreeMap::new(),
            marks: BTreeMap::new(),
            hard_states: 0,
            carried: false,
        });
    }

    /// A file that may be begun right away (it was wholly written once).
    pub(crate) fn add_spare(&mut self, slot: u16) {
        self.slots.insert(slot);
        self.spare.push_back(slot);
    }

    /// A file that exists but has to be prepared before it is used.
    pub(crate) fn add_unprepared(&mut self, slot: u16) {
        self.slots.insert(slot);
        self.unprepared.push_back(slot);
    }

    /// A file in use that has to be prepared again once it is let go.
    pub(crate) fn resize_later(&mut self, slot: u16) {
        self.resized.insert(slot);
    }

    /// Whether this file is among those in use.
    pub(crate) fn uses(&self, slot: u16) -> bool {
        self.used.iter().any(|file| file.slot == slot)
    }

    /// The next file to begin, if one is ready.
    pub(crate) fn take_spare(&mut self) -> Option<u16> {
        self.spare.pop_front()
    }

    /// A file to be prepared: one that was left unfinished, or a new one while there are fewer than
    /// `slots_max`. That has the lowest number nobody has, whatever numbers a start has found.
    pub(crate) fn take_unprepared(&mut self, slots_max: u64) -> Option<u16> {
        if let Some(slot) = self.unprepared.pop_front() {
            return Some(slot);
        }
        if self.slots.len() as u64 >= slots_max {
            return None;
        }
        let slot = (0..=u16::MAX).find(|slot| !self.slots.contains(slot))?;
        self.slots.insert(slot);
        Some(slot)
    }

    /// Whether a file could still be prepared.
    pub(crate) fn can_grow(&self, slots_max: u64) -> bool {
        !self.unprepared.is_empty() || (self.slots.len() as u64) < slots_max
    }

    pub(crate) fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Whether a file only waits for the watermark to be free.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Files in use, the one being written included.
    pub(crate) fn used_count(&self) -> usize {
        self.used.len()
    }

    /// Files in use that hold nothing after this sequence.
    pub(crate) fn used_up_to(&self, sequence: u64) -> usize {
        self.used.iter().take_while(|file| file.last_sequence <= sequence).count()
    }

    /// Notes what a frame holds; frames come in sequence order.
    pub(crate) fn note(&mut self, log: LogId, sequence: u64, what: LandedContent) {
        match what {
            LandedContent::Entry(index) => self.note_entry(log, index),
            LandedContent::HardState(state) => self.note_hard_state(log, sequence, state),
            LandedContent::Mark(mark) => self.note_mark(log, sequence, mark),
        }
        let active = self.used.back_mut().expect("a frame lies in a file");
        assert!(active.last_sequence <= sequence, "frames are noted in order");
        active.last_sequence = sequence;
    }

    fn note_entry(&mut self, log: LogId, index: LogIndex) {
        let active = self.used.back_mut().expect("a frame lies in a file");
        let hold = active.entries.entry(log).or_insert(EntryHold { first: index, last: index });
        hold.first = hold.first.min(index);
        hold.last = hold.last.max(index);
    }

    fn note_hard_state(&mut self, log: LogId, sequence: u64, state: HardState) {
        let known = self.logs.entry(log).or_default();
        let before = known.hard.replace((state, sequence));
        if let Some((_, at)) = before {
            self.forget_hard_state(at);
        }
        self.used.back_mut().expect("a frame lies in a file").hard_states += 1;
    }

    fn forget_hard_state(&mut self, sequence: u64) {
        let holder = self.used.iter_mut().find(|file| file.holds(sequence));
        let holder = holder.expect("the latest hard state lies in a file in use");
        assert!(holder.hard_states > 0, "hard states are counted");
        holder.hard_states -= 1;
    }

    fn note_mark(&mut self, log: LogId, sequence: u64, mark: Mark) {
        match mark {
            Mark::Deleted => self.forget_log(log),
            Mark::SuffixCut { from } => self.cut(log, from),
        }
        self.used.back_mut().expect("a frame lies in a file").marks.insert(log, sequence);
    }

    fn forget_log(&mut self, log: LogId) {
        if let Some((_, at)) = self.logs.remove(&log).and_then(|known| known.hard) {
            self.forget_hard_state(at);
        }
        for file in &mut self.used {
            file.entries.remove(&log);
        }
    }

    /// Entries from `from` on are void: no file holds them any more.
    fn cut(&mut self, log: LogId, from: LogIndex) {
        let before = LogIndex(from.0.saturating_sub(1));
        let known = self.logs.entry(log).or_default();
        known.settled = known.settled.map(|settled| settled.min(before));
        let settled = known.settled;
        for file in &mut self.used {
            let Some(hold) = file.entries.get_mut(&log) else { continue };
            hold.last = hold.last.min(before);
            if hold.last < hold.first || settled.is_some_and(|settled| hold.last <= settled) {
                file.entries.remove(&log);
            }
        }
    }

    /// Every entry of `log` up to `up_to` lives elsewhere.
    pub(crate) fn settled(&mut self, log: LogId, up_to: LogIndex) {
        let known = self.logs.entry(log).or_default();
        if known.settled.is_some_and(|settled| settled >= up_to) {
            return;
        }
        known.settled = Some(up_to);
        for file in &mut self.used {
            if file.entries.get(&log).is_some_and(|hold| hold.last <= up_to) {
                file.entries.remove(&log);
            }
        }
    }

    /// These frames of `log` are void: no file holds them any more, and a promise that is written
    /// again must not speak of them. A file lies wholly before or after the start that found them.
    pub(crate) fn forget_void(&mut self, log: LogId, void: Void) {
        let known = self.logs.entry(log).or_default();
        if let Some((state, at)) = &mut known.hard
            && *at <= void.sequence
        {
            state.commit = state.commit.min(void.after);
        }
        let settled = known.settled;
        for file in self.used.iter_mut().filter(|file| file.first_sequence <= void.sequence) {
            let Some(hold) = file.entries.get_mut(&log) else { continue };
            hold.last = hold.last.min(void.after);
            if hold.last < hold.first || settled.is_some_and(|settled| hold.last <= settled) {
                file.entries.remove(&log);
            }
        }
    }

    /// Every mark of `log` up to `sequence` is recorded elsewhere.
    pub(crate) fn marks_settled(&mut self, log: LogId, up_to_sequence: u64) {
        for file in &mut self.used {
            if file.marks.get(&log).is_some_and(|sequence| *sequence <= up_to_sequence) {
                file.marks.remove(&log);
            }
        }
    }

    /// Lets go of the oldest files that hold nothing, while they are not being written. `packed` is
    /// the last sequence given out so far.
    pub(crate) fn let_go(&mut self, packed: u64) {
        while self.used.len() > 1 && self.used[0].is_free() {
            let Some(file) = self.used.pop_front() else { return };
            assert!(self.used[0].first_sequence > file.last_sequence, "no gap between files");
            self.waiting.push_back(Waiting {
                slot: file.slot,
                first_sequence: file.first_sequence,
                last_sequence: file.last_sequence,
                needs_durable: packed,
            });
        }
    }

    /// The hard states that alone keep the oldest file, to be written again; once per file.
    pub(crate) fn carry_forward(&mut self) -> Vec<(LogId, HardState)> {
        if self.used.len() < 2 {
            return Vec::new();
        }
        let oldest = &mut self.used[0];
        if oldest.carried || !oldest.entries.is_empty() || !oldest.marks.is_empty() {
            return Vec::new();
        }
        oldest.carried = true;
        let oldest = &self.used[0];
        let latest = self.logs.iter().filter_map(|(log, known)| Some((*log, known.hard?)));
        let here = latest.filter(|(_, (_, sequence))| oldest.holds(*sequence));
        here.map(|(log, (state, _))| (log, state)).collect()
    }

    /// From which sequence on the journal is needed, given what is durable: a claim that may be
    /// written down now. `next` is the sequence that comes next.
    pub(crate) fn floor(&self, durable: u64, next: u64) -> u64 {
        let not_yet = self.waiting.iter().find(|file| file.needs_durable > durable);
        let oldest = self.used.front().map(|file| file.first_sequence);
        not_yet.map(|file| file.first_sequence).or(oldest).unwrap_or(next)
    }

    /// A watermark with this floor is durable: what lies below may be written again.
    pub(crate) fn floor_durable(&mut self, floor: u64) {
        while self.waiting.front().is_some_and(|file| file.last_sequence < floor) {
            let Some(Waiting { slot, .. }) = self.waiting.pop_front() else { return };
            if self.resized.remove(&slot) {
                self.unprepared.push_back(slot);
            } else {
                self.spare.push_back(slot);
            }
        }
    }

    /// Logs that keep the `files` oldest files from being let go, those of the oldest first; some
    /// more than once. Not collected: who asks wants the first one that will do, every time.
    pub(crate) fn holders(&self, files: usize) -> impl Iterator<Item = LogId> + '_ {
        let sealed = self.used.len().saturating_sub(1);
        let oldest = self.used.iter().take(files.min(sealed));
        oldest.flat_map(|file| file.entries.keys().chain(file.marks.keys()).copied())
    }
}

impl UsedFile {
    fn holds(&self, sequence: u64) -> bool {
        (self.first_sequence..=self.last_sequence).contains(&sequence)
    }

    fn is_free(&self) -> bool {
        self.entries.is_empty() && self.marks.is_empty() && self.hard_states == 0
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, Term, TopicId};

    use super::*;

    fn log(number: i32) -> LogId {
        LogId { topic: TopicId([9; 16]), partition: PartitionIndex(number) }
    }

    fn entry(index: u64) -> LandedContent {
        LandedContent::Entry(LogIndex(index))
    }

    fn hard(term: u64) -> LandedContent {
        LandedContent::HardState(HardState { term: Term(term), ..HardState::INITIAL })
    }

    /// Two files: the first holds entries 1–3 of log 1, the second entry 4.
    fn two_files() -> Files {
        let mut files = Files::default();
        files.begin_use(0, 1);
        for index in 1..=3 {
            files.note(log(1), 1 + index, entry(index));
        }
        files.begin_use(1, 5);
        files.note(log(1), 6, entry(4));
        files
    }

    #[test]
    fn a_settled_file_is_spare_only_after_the_watermark() {
        let mut files = two_files();
        files.settled(log(1), LogIndex(2));
        files.let_go(6);
        assert_eq!(files.used_count(), 2);
        files.settled(log(1), LogIndex(3));
        files.let_go(6);
        assert_eq!(files.used_count(), 1);
        assert!(!files.has_spare() && files.has_waiting());
        assert_eq!(files.floor(5, 7), 1, "what let it go may not be durable yet");
        assert_eq!(files.floor(6, 7), 5);
        files.floor_durable(5);
        assert!(files.has_spare() && !files.has_waiting());
    }

    #[test]
    fn the_number_of_a_file_says_nothing_about_how_many_there_are() {
        let mut files = Files::default();
        files.add_spare(u16::MAX);
        files.begin_use(1, 1);
        assert_eq!(files.take_unprepared(4), Some(0));
        assert_eq!(files.take_unprepared(4), Some(2));
        assert_eq!(files.take_unprepared(4), None);
        assert!(!files.can_grow(4));
        assert_eq!(files.take_spare(), Some(u16::MAX));
    }

    #[test]
    fn a_cut_releases_void_entries_and_those_settled_before() {
        let mut files = two_files();
        files.settled(log(1), LogIndex(1));
        files.note(log(1), 7, LandedContent::Mark(Mark::SuffixCut { from: LogIndex(2) }));
        files.let_go(7);
        assert_eq!(files.used_count(), 1, "1 is settled, 2 and 3 are void");
        files.note(log(1), 8, entry(2));
        files.settled(log(1), LogIndex(2));
        files.begin_use(2, 9);
        files.let_go(9);
        assert_eq!(files.used_count(), 2, "the mark itself is still needed");
        files.marks_settled(log(1), 7);
        files.let_go(9);
        assert_eq!(files.used_count(), 1);
    }

    #[test]
    fn a_hard_state_is_carried_once_and_then_lets_its_file_go() {
        let mut files = Files::default();
        files.begin_use(0, 1);
        files.note(log(1), 2, hard(1));
        files.note(log(2), 3, hard(1));
        files.note(log(1), 4, hard(2));
        files.begin_use(1, 5);
        assert_eq!(files.carry_forward().len(), 2);
        assert!(files.carry_forward().is_empty());
        files.note(log(1), 6, hard(2));
        files.let_go(6);
        assert_eq!(files.used_count(), 2);
        files.note(log(2), 7, hard(1));
        files.let_go(7);
        assert_eq!(files.used_count(), 1);
    }

    #[test]
    fn void_frames_keep_no_file_and_later_ones_of_the_same_index_do() {
        let mut files = two_files();
        let promise = HardState { commit: LogIndex(4), ..HardState::INITIAL };
        files.note(log(1), 7, LandedContent::HardState(promise));
        files.settled(log(1), LogIndex(1));
        files.begin_use(2, 8);
        files.note(log(1), 9, entry(2));
        let void = Void { after: LogIndex(1), sequence: 7 };
        files.forget_void(log(1), void);
        files.let_go(9);
        assert_eq!(files.used_count(), 2, "entry 2 and the promise are needed");
        let carried = files.carry_forward();
        assert_eq!(carried[0].1.commit, LogIndex(1), "nothing is promised of void entries");
        files.note(log(1), 10, LandedContent::HardState(carried[0].1));
        files.begin_use(3, 11);
        files.let_go(11);
        assert!(files.holders(1).eq([log(1)]), "entry 2 is");
    }

    #[test]
    fn a_deleted_log_holds_nothing_but_the_mark() {
        let mut files = two_files();
        files.note(log(1), 7, LandedContent::Mark(Mark::Deleted));
        assert_eq!(files.holders(2).count(), 0);
        files.let_go(7);
        assert_eq!(files.used_count(), 1);
    }
}

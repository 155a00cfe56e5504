//! What goes away: the front of logs, and whole logs.
//!
//! Does: advance start offsets, choose expired segments, delete logs; delete files once the
//! manifest says durably that nobody needs them, and the watermark that it does.
//! Does not: decide that a log is deleted: the caller has the committed proof.
//! Invariants: manifest first, files second, and a manifest that loses that record is not taken for one that
//! never had it: a start would go by files that are gone; a file whose deletion was cut short is deleted by the
//! next start; a name is free again only when nothing of the old log is left. Want of descriptors
//! is waited out.
//! Apart because deleting is the one thing that cannot be undone.
//!
//! ```text
//!  segment: Condemned recorded --durable, named by the watermark--> segment file --> index file --> Gone recorded
//!  log:     Marking (journal) --> Recording (manifest) --> Files (known segments) --> Listing
//!             --found others--> Files again --> Listing --nothing left--> Folder --> done
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flumen_protocol::ids::{LogId, Offset};
use flumen_protocol::time::{Monotonic, Now};

use super::Store;
use crate::answers::StoreEvent;
use crate::error::StorageError;
use crate::format::frame::Mark;
use crate::limits::{REMOVAL_RETRY, REMOVALS_IN_FLIGHT_MAX};
use crate::manifest::manifest::Ticket;
use crate::manifest::record::Record;
use crate::op::{Action, DiskDone, DiskOp, FileName, Generation, OpId, OpIds, Output};
use crate::retention::{Bounds, expired};
use crate::segment::segment::SegmentName;

/// Removals of one core under way. A hundred thousand segments may wait here: what is next and
/// what an answer belongs to is found without a walk over them.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// Condemned segments whose files are not all gone.
    files: BTreeSet<SegmentName>,
    /// Those of which nothing is gone, by the record that must be vouched for before.
    waiting: BTreeSet<(Ticket, SegmentName)>,
    /// Those of which only the index is left.
    indexes: Vec<SegmentName>,
    logs: BTreeMap<LogId, LogRemoval>,
    /// Deleted logs by the record that must be durable before their files go.
    recording: BTreeSet<(Ticket, LogId)>,
    /// Logs whose folder is to be listed or deleted now.
    folders: VecDeque<LogId>,
    /// Invariant: at most [`REMOVALS_IN_FLIGHT_MAX`].
    under_way: BTreeMap<OpId, Task>,
    /// Nothing is begun before this: there was no descriptor left.
    hold: Option<Monotonic>,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Deletes a segment.
    Data(SegmentName),
    /// Deletes its index.
    Index(SegmentName),
    /// Lists or deletes the folder of a log, as its state says.
    Folder(LogId),
}

/// How far the deletion of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogRemoval {
    /// The journal is asked to mark it.
    Marking,
    /// The manifest records it; the mark's place in the journal.
    Recording(u64),
    /// Segments the manifest or the folder knows are being deleted.
    Files,
    /// Those are gone; the folder is listed for what an unfinished settle left.
    Listing,
    /// Nothing is in the folder any more: it is deleted.
    Folder,
}

/// What an answer means to the store.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It belongs to somebody else.
    Strange(DiskDone),
    /// Something else follows.
    Going,
    /// Both files of a segment are gone.
    Gone(SegmentName),
    /// Nothing of a log is left.
    Deleted(LogId),
}

impl Removals {
    pub(crate) fn is_busy(&self) -> bool {
        !(self.files.is_empty() && self.logs.is_empty())
    }

    /// The files of a segment go once `after` is durable, and missed if it gets lost.
    pub(crate) fn condemn(&mut self, name: SegmentName, after: Ticket) {
        if self.files.insert(name) {
            self.waiting.insert((after, name));
        }
    }

    /// Whether a file may go as soon as what is durable is also vouched for.
    pub(super) fn is_any_due(&self, durable: Ticket) -> bool {
        self.waiting.first().is_some_and(|(after, _)| *after <= durable)
    }

    /// The folder of a log goes with the last of its condemned segments: its deletion was
    /// recorded before this process.
    pub(crate) fn resume_log(&mut self, log: LogId) {
        self.logs.insert(log, LogRemoval::Files);
        self.list_if_no_files(log);
    }

    /// If no known file of a deleted log is left, its folder is looked into.
    fn list_if_no_files(&mut self, log: LogId) {
        if self.logs.get(&log) == Some(&LogRemoval::Files) && !self.has_files(log) {
            self.logs.insert(log, LogRemoval::Listing);
            self.folders.push_back(log);
        }
    }

    /// The operations to carry out now. `vouched`: the records that are durable, and are missed if they get
    /// lost.
    pub(super) fn next_ops(
        &mut self,
        vouched: Ticket,
        now: Monotonic,
        ids: &mut OpIds,
        out: &mut Vec<DiskOp>,
    ) {
        if self.hold.is_some_and(|then| now < then) {
            return;
        }
        while self.under_way.len() < REMOVALS_IN_FLIGHT_MAX
            && let Some((task, file, action)) = self.next_task(vouched)
        {
            let id = ids.next_id();
            self.under_way.insert(id, task);
            out.push(DiskOp { id, file, action });
        }
    }

    fn next_task(&mut self, vouched: Ticket) -> Option<(Task, FileName, Action)> {
        if let Some(name) = self.indexes.pop() {
            return Some((Task::Index(name), name.index(), Action::Delete));
        }
        if let Some(&(after, name)) = self.waiting.first()
            && after <= vouched
        {
            self.waiting.pop_first();
            return Some((Task::Data(name), name.data(), Action::Delete));
        }
        let log = self.folders.pop_front()?;
        let is_empty = self.logs.get(&log) == Some(&LogRemoval::Folder);
        let action = if is_empty { Action::Delete } else { Action::List };
        Some((Task::Folder(log), FileName::LogFolder(log), action))
    }

    /// Takes an answer if it is its own.
    fn on_done(
        &mut self,
        done: DiskDone,
        durable: Ticket,
        now: Monotonic,
    ) -> Result<Taken, StorageError> {
        let Some(task) = self.under_way.remove(&done.id) else {
            return Ok(Taken::Strange(done));
        };
        let is_want = done.result.as_ref().is_err_and(|error| error.kind.is_want_of_room());
        if is_want {
            self.hold = Some(now.after(REMOVAL_RETRY));
        }
        match task {
            Task::Data(name) if is_want => drop(self.waiting.insert((durable, name))),
            Task::Index(name) if is_want => self.indexes.push(name),
            Task::Folder(log) if is_want => self.folders.push_back(log),
            Task::Data(name) => {
                done.result.map_err(StorageError::DeviceFailed)?;
                self.indexes.push(name);
            }
            Task::Index(name) => {
                done.result.map_err(StorageError::DeviceFailed)?;
                self.files.remove(&name);
                return Ok(Taken::Gone(name));
            }
            Task::Folder(log) if self.logs.get(&log) == Some(&LogRemoval::Listing) => {
                self.listed(log, done, durable);
            }
            Task::Folder(log) => {
                // A folder that cannot be removed is in nobody's way.
                self.logs.remove(&log);
                return Ok(Taken::Deleted(log));
            }
        }
        Ok(Taken::Going)
    }

    /// Takes what the folder of a deleted log still holds.
    fn listed(&mut self, log: LogId, done: DiskDone, durable: Ticket) {
        let found = match done.result {
            Ok(Output::Listing(found)) => found,
            // What cannot be listed is left to the next start.
            Ok(Output::Done | Output::Bytes(_) | Output::Size(_)) | Err(_) => Vec::new(),
        };
        for listed in &found {
            if let FileName::Segment { base, generation, .. }
            | FileName::Index { base, generation, .. } = listed.file
            {
                self.condemn(SegmentName { log, base, generation }, durable);
            }
        }
        let is_empty = !self.has_files(log);
        self.logs.insert(log, if is_empty { LogRemoval::Folder } else { LogRemoval::Files });
        if is_empty {
            self.folders.push_back(log);
        }
    }

    /// The deletions whose records are durable by now, and the places of their marks.
    fn recorded(&mut self, durable: Ticket) -> Vec<(LogId, u64)> {
        let mut recorded = Vec::new();
        while let Some(&(after, log)) = self.recording.first()
            && after <= durable
        {
            self.recording.pop_first();
            if let Some(LogRemoval::Recording(sequence)) = self.logs.insert(log, LogRemoval::Files)
            {
                recorded.push((log, sequence));
            }
        }
        recorded
    }

    fn has_files(&self, log: LogId) -> bool {
        let first = SegmentName { log, base: Offset(i64::MIN), generation: Generation::APPENDED };
        self.files.range(first..).next().is_some_and(|name| name.log == log)
    }
}

impl Store {
    /// Deletes a log and everything of it. The caller has positive proof that it was deleted for
    /// good (a committed record); unreadable metadata is none. [`StoreEvent::Deleted`] follows.
    pub fn delete(&mut self, log: LogId) {
        let Some(known) = self.logs.remove(&log) else { return };
        self.unsettled_bytes -= known.tail.bytes();
        if let Some(since) = known.unsettled_since {
            self.settles.ages.remove(&(since, log));
        }
        self.settles.abandon(log);
        self.abandon_cleaning(log);
        self.cache.forget(log);
        self.reader.forget_log(log);
        self.starts.retain(|(_, other, _)| *other != log);
        self.removals.logs.insert(log, LogRemoval::Marking);
        self.journal.append_mark(log, Mark::Deleted);
    }

    /// Whether a log of this name is on its way out.
    #[must_use]
    pub fn is_deleting(&self, log: LogId) -> bool {
        self.removals.logs.contains_key(&log)
    }

    /// The journal has the deletion; now the manifest must have it.
    pub(super) fn deletion_marked(&mut self, log: LogId, sequence: u64) {
        if self.removals.logs.get(&log) != Some(&LogRemoval::Marking) {
            // Marked again by recovery; the manifest knows already.
            self.journal.marks_settled(log, sequence);
            return;
        }
        let image = self.manifest.image().logs.get(&log);
        let names: Vec<SegmentName> =
            image.iter().flat_map(|i| i.segments.all()).map(|segment| segment.name(log)).collect();
        let ticket = self.manifest.enqueue(Record::Deleted { log, sequence });
        for name in names {
            self.reader.forget_segment(log, name.base);
            self.removals.condemn(name, ticket);
        }
        self.removals.recording.insert((ticket, log));
        self.removals.logs.insert(log, LogRemoval::Recording(sequence));
    }

    /// Goes on with deletions whose records are durable.
    pub(super) fn deletions_recorded(&mut self, durable: Ticket) {
        for (log, sequence) in self.removals.recorded(durable) {
            self.journal.marks_settled(log, sequence);
            self.try_finish_deletion(log);
        }
    }

    /// If no known file of a deleted log is left, its folder is next.
    pub(super) fn try_finish_deletion(&mut self, log: LogId) {
        if !self.settles.has_orphan(log) && !self.cleaner.has_orphan(log) {
            self.removals.list_if_no_files(log);
        }
    }

    /// Takes an answer of the disk if it belongs to a removal.
    ///
    /// # Errors
    /// [`StorageError::DeviceFailed`]: stop the shard.
    pub(super) fn removal_on_done(
        &mut self,
        done: DiskDone,
        out: &mut Vec<StoreEvent>,
    ) -> Result<Option<DiskDone>, StorageError> {
        let durable = self.manifest.durable();
        match self.removals.on_done(done, durable, self.turn)? {
            Taken::Strange(done) => return Ok(Some(done)),
            Taken::Going => {}
            Taken::Gone(name) => {
                self.manifest.enqueue(Record::Gone { name });
                self.try_finish_deletion(name.log);
            }
            Taken::Deleted(log) => out.push(StoreEvent::Deleted { log }),
        }
        Ok(None)
    }

    /// Whether the log's start is not durable yet: a crash may take the log back to an earlier one.
    #[must_use]
    pub fn is_start_on_its_way(&self, log: LogId) -> bool {
        self.starts.iter().any(|(_, other, _)| *other == log)
    }

    /// Moves the log's start forward (DeleteRecords, a leader's start). Never backward and never
    /// beyond the log's end. [`StoreEvent::StartDurable`] follows unless it does not move.
    pub fn set_start_offset(&mut self, log: LogId, start: Offset) {
        let Some((known, image)) = self.known(log) else { return };
        let start = start.min(known.tail.end());
        if start <= image.start {
            return;
        }
        let mut record = image.record(log);
        record.hard_state = known.hard_state;
        record.start = start;
        let ticket = self.manifest.enqueue(Record::Log(record));
        self.starts.push((ticket, log, start));
        self.cache.forget_before(log, start);
        self.reader.forget_before(log, start);
    }

    /// Lets go of segments that are too old, too many, or before the start offset. Gives the new
    /// start offset if any go; [`StoreEvent::StartDurable`] follows, and the files go after that.
    ///
    /// Nothing at or beyond `high_watermark` goes. While the log is being settled nothing goes:
    /// ask again later.
    pub fn retention(&mut self, log: LogId, now: Now, high_watermark: Offset) -> Option<Offset> {
        self.watch_clock(now);
        let trusted = Some(now.wall).filter(|_| !self.is_clock_doubted());
        if self.settles.up_to(log).is_some() {
            return None;
        }
        let (known, image) = self.known(log)?;
        let bounds = Bounds { start: image.start, high_watermark, now: trusted };
        let all = image.segments.all();
        let count = expired(all, &known.settings, &bounds);
        let going = all[..count].to_vec();
        let start = going.last()?.end.max(image.start);
        if going.len() == all.len() {
            self.settles.cool(log);
        }
        for segment in &going {
            self.manifest.enqueue(Record::Condemned { log, base: segment.base });
            self.reader.forget_segment(log, segment.base);
        }
        let (known, image) = self.known(log)?;
        let mut record = image.record(log);
        record.hard_state = known.hard_state;
        record.start = start;
        let ticket = self.manifest.enqueue(Record::Log(record));
        going.iter().for_each(|segment| self.removals.condemn(segment.name(log), ticket));
        self.starts.push((ticket, log, start));
        self.cache.forget_before(log, start);
        self.reader.forget_before(log, start);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;
    use crate::error::{DiskError, DiskErrorKind};

    fn log(partition: i32) -> LogId {
        LogId { topic: TopicId([9; 16]), partition: PartitionIndex(partition) }
    }

    fn name(base: i64) -> SegmentName {
        SegmentName { log: log(0), base: Offset(base), generation: Generation::APPENDED }
    }

    fn answer(op: &DiskOp) -> DiskDone {
        let output = match op.action {
            Action::List => Output::Listing(Vec::new()),
            _ => Output::Done,
        };
        DiskDone { id: op.id, result: Ok(output) }
    }

    /// With a walk over all that waits for each of them this takes minutes.
    #[test]
    fn a_hundred_thousand_segments_and_ten_thousand_logs_go_four_at_a_time() {
        let (mut removals, mut ids) = (Removals::default(), OpIds::new());
        let (durable, now) = (Ticket::default(), Monotonic(0));
        (0..100_000).for_each(|base| removals.condemn(name(base), durable));
        (0..10_000).for_each(|partition| removals.resume_log(log(partition)));
        let (mut gone, mut deleted) = (0, 0);
        let mut ops = Vec::new();
        loop {
            removals.next_ops(durable, now, &mut ids, &mut ops);
            assert!(removals.under_way.len() <= REMOVALS_IN_FLIGHT_MAX);
            if ops.is_empty() {
                break;
            }
            for op in ops.drain(..) {
                match removals.on_done(answer(&op), durable, now).expect("the disk works") {
                    Taken::Strange(_) => panic!("its own answer"),
                    Taken::Going => {}
                    Taken::Gone(name) => {
                        gone += 1;
                        removals.list_if_no_files(name.log);
                    }
                    Taken::Deleted(_) => deleted += 1,
                }
            }
        }
        assert_eq!((gone, deleted, removals.is_busy()), (100_000, 10_000, false));
    }

    #[test]
    fn without_a_descriptor_every_step_waits_and_is_done_again() {
        let (mut removals, mut ids) = (Removals::default(), OpIds::new());
        let (durable, mut now) = (Ticket::default(), Monotonic(0));
        removals.condemn(name(0), durable);
        removals.resume_log(log(0));
        let mut done = Vec::new();
        loop {
            let mut ops = Vec::new();
            removals.next_ops(durable, now, &mut ids, &mut ops);
            let [op] = &ops[..] else { break };
            let kind = DiskErrorKind::NoDescriptors;
            let error = DiskError { kind, file: op.file, action: op.action.name() };
            let refused = DiskDone { id: op.id, result: Err(error) };
            assert_eq!(removals.on_done(refused, durable, now), Ok(Taken::Going));
            let mut early = Vec::new();
            removals.next_ops(durable, now, &mut ids, &mut early);
            assert_eq!(early, []);
            now = now.after(REMOVAL_RETRY);
            removals.next_ops(durable, now, &mut ids, &mut early);
            assert_eq!((early[0].file, &early[0].action), (op.file, &op.action));
            done.push((op.file, op.action.name()));
            if let Taken::Gone(name) =
                removals.on_done(answer(&early[0]), durable, now).expect("the disk works")
            {
                removals.list_if_no_files(name.log);
            }
        }
        let (segment, index) = (name(0).data(), name(0).index());
        let folder = FileName::LogFolder(log(0));
        let steps = [(segment, "delete"), (index, "delete"), (folder, "list"), (folder, "delete")];
        assert_eq!(done, steps);
        assert!(!removals.is_busy());
    }
}

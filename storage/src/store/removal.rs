//! What goes away: the front of logs, and whole logs.
//!
//! Does: advance start offsets, choose expired segments, delete logs; delete files once the
//! manifest says durably that nobody needs them.
//! Does not: decide that a log is deleted: the caller has the committed proof.
//! Invariants: manifest first, files second; a file whose deletion was cut short is deleted by the
//! next start; a name is free again only when nothing of the old log is left.
//! Apart because deleting is the one thing that cannot be undone.
//!
//! ```text
//!  segment: Condemned recorded --durable--> segment file --> index file --> Gone recorded
//!  log:     Marking (journal) --> Recording (manifest) --> Files (known segments) --> Listing
//!             --found others--> Files again --> Listing --nothing left--> Folder --> done
//! ```

use std::collections::BTreeMap;

use flumen_protocol::ids::{LogId, Offset};
use flumen_protocol::time::Now;

use super::Store;
use crate::answers::StoreEvent;
use crate::error::StorageError;
use crate::format::frame::Mark;
use crate::limits::REMOVALS_IN_FLIGHT_MAX;
use crate::manifest::manifest::Ticket;
use crate::manifest::record::Record;
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds, Output};
use crate::retention::{Bounds, expired};

/// Removals of one core under way.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    segments: BTreeMap<(LogId, Offset), SegmentRemoval>,
    logs: BTreeMap<LogId, LogRemoval>,
}

/// How far the removal of a segment's files is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentRemoval {
    /// Until this record is durable the files stay.
    Waiting(Ticket),
    /// The segment itself is being deleted.
    Data(OpId),
    /// The segment is gone, its index is next.
    DataGone,
    /// The index is being deleted.
    Index(OpId),
}

/// How far the deletion of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogRemoval {
    /// The journal is asked to mark it.
    Marking,
    /// The manifest records it; the mark's place in the journal.
    Recording(Ticket, u64),
    /// Segments the manifest or the folder knows are being deleted.
    Files,
    /// Those are gone; the folder is to be listed for what an unfinished settle left.
    FilesGone,
    /// The folder is being listed.
    Listing(OpId),
    /// Nothing is in the folder any more.
    Empty,
    /// The folder is being deleted.
    Folder(OpId),
}

impl Removals {
    pub(crate) fn is_busy(&self) -> bool {
        !(self.segments.is_empty() && self.logs.is_empty())
    }

    /// The files of a segment go once `after` is durable.
    pub(crate) fn condemn(&mut self, log: LogId, base: Offset, after: Ticket) {
        self.segments.entry((log, base)).or_insert(SegmentRemoval::Waiting(after));
    }

    /// The folder of a log goes with the last of its condemned segments: its deletion was
    /// recorded before this process.
    pub(crate) fn resume_log(&mut self, log: LogId) {
        let removal = if self.has_files(log) { LogRemoval::Files } else { LogRemoval::FilesGone };
        self.logs.insert(log, removal);
    }

    pub(super) fn next_ops(&mut self, durable: Ticket, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        let under_way = |removal: &&SegmentRemoval| {
            matches!(removal, SegmentRemoval::Data(_) | SegmentRemoval::Index(_))
        };
        let mut room =
            REMOVALS_IN_FLIGHT_MAX.saturating_sub(self.segments.values().filter(under_way).count());
        for ((log, base), removal) in &mut self.segments {
            if room == 0 {
                break;
            }
            let (log, base) = (*log, *base);
            let file = match removal {
                SegmentRemoval::Waiting(after) if *after <= durable => {
                    FileName::Segment { log, base }
                }
                SegmentRemoval::DataGone => FileName::Index { log, base },
                SegmentRemoval::Waiting(_) | SegmentRemoval::Data(_) | SegmentRemoval::Index(_) => {
                    continue;
                }
            };
            let id = ids.next_id();
            let is_data = matches!(removal, SegmentRemoval::Waiting(_));
            *removal = if is_data { SegmentRemoval::Data(id) } else { SegmentRemoval::Index(id) };
            out.push(DiskOp { id, file, action: Action::Delete });
            room -= 1;
        }
        for (log, removal) in &mut self.logs {
            let file = FileName::LogFolder(*log);
            match removal {
                LogRemoval::FilesGone => {
                    let id = ids.next_id();
                    *removal = LogRemoval::Listing(id);
                    out.push(DiskOp { id, file, action: Action::List });
                }
                LogRemoval::Empty => {
                    let id = ids.next_id();
                    *removal = LogRemoval::Folder(id);
                    out.push(DiskOp { id, file, action: Action::Delete });
                }
                LogRemoval::Marking
                | LogRemoval::Recording(..)
                | LogRemoval::Files
                | LogRemoval::Listing(_)
                | LogRemoval::Folder(_) => {}
            }
        }
    }

    /// Takes what the folder of a deleted log still holds.
    fn listed(&mut self, log: LogId, done: DiskDone, durable: Ticket) {
        let found = match done.result {
            Ok(Output::Listing(found)) => found,
            // What cannot be listed is left to the next start.
            Ok(Output::Done | Output::Bytes(_) | Output::Size(_)) | Err(_) => Vec::new(),
        };
        for listed in &found {
            if let FileName::Segment { base, .. } | FileName::Index { base, .. } = listed.file {
                self.condemn(log, base, durable);
            }
        }
        let next = if self.has_files(log) { LogRemoval::Files } else { LogRemoval::Empty };
        self.logs.insert(log, next);
    }

    fn has_files(&self, log: LogId) -> bool {
        let range = (log, Offset(i64::MIN))..=(log, Offset(i64::MAX));
        self.segments.range(range).next().is_some()
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
        let bases: Vec<Offset> =
            image.iter().flat_map(|i| i.segments.all()).map(|segment| segment.base).collect();
        let ticket = self.manifest.enqueue(Record::Deleted { log, sequence });
        for base in bases {
            self.reader.forget_segment(log, base);
            self.removals.condemn(log, base, ticket);
        }
        self.removals.logs.insert(log, LogRemoval::Recording(ticket, sequence));
    }

    /// Goes on with deletions whose records are durable.
    pub(super) fn deletions_recorded(&mut self, durable: Ticket) {
        let mut recorded = Vec::new();
        for (log, removal) in &mut self.removals.logs {
            match removal {
                LogRemoval::Recording(ticket, sequence) if *ticket <= durable => {
                    recorded.push((*log, *sequence));
                    *removal = LogRemoval::Files;
                }
                LogRemoval::Marking
                | LogRemoval::Recording(..)
                | LogRemoval::Files
                | LogRemoval::FilesGone
                | LogRemoval::Listing(_)
                | LogRemoval::Empty
                | LogRemoval::Folder(_) => {}
            }
        }
        for (log, sequence) in recorded {
            self.journal.marks_settled(log, sequence);
            self.try_finish_deletion(log);
        }
    }

    /// If no known file of a deleted log is left, its folder is next.
    pub(super) fn try_finish_deletion(&mut self, log: LogId) {
        let left = self.removals.has_files(log) || self.settles.has_orphan(log);
        if let Some(removal @ LogRemoval::Files) = self.removals.logs.get_mut(&log)
            && !left
        {
            *removal = LogRemoval::FilesGone;
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
        let of_segment = self.removals.segments.iter().find(|(_, removal)| {
            matches!(removal, SegmentRemoval::Data(op) | SegmentRemoval::Index(op) if *op == done.id)
        });
        if let Some((&(log, base), &removal)) = of_segment {
            done.result.map_err(StorageError::DeviceFailed)?;
            if matches!(removal, SegmentRemoval::Data(_)) {
                self.removals.segments.insert((log, base), SegmentRemoval::DataGone);
            } else {
                self.removals.segments.remove(&(log, base));
                self.manifest.enqueue(Record::Gone { log, base });
                self.try_finish_deletion(log);
            }
            return Ok(None);
        }
        let of_log = self.removals.logs.iter().find(|(_, removal)| {
            matches!(removal, LogRemoval::Listing(op) | LogRemoval::Folder(op) if *op == done.id)
        });
        let Some((&log, removal)) = of_log else { return Ok(Some(done)) };
        if matches!(removal, LogRemoval::Listing(_)) {
            self.removals.listed(log, done, self.manifest.durable());
        } else {
            // A folder that cannot be removed is in nobody's way.
            self.removals.logs.remove(&log);
            out.push(StoreEvent::Deleted { log });
        }
        Ok(None)
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
        let trusted = self.clock.trusted(now);
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
        going.iter().for_each(|segment| self.removals.condemn(log, segment.base, ticket));
        self.starts.push((ticket, log, start));
        self.cache.forget_before(log, start);
        self.reader.forget_before(log, start);
        Some(start)
    }
}

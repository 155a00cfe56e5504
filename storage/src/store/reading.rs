//! Reads and look-ups by time: memory first, then the cold half.
//!
//! Does: answer from tail and cache at once; hand the rest to the reader; finish its answers.
//! Does not: know which offsets a client may see: the limit is an argument.
//! Invariants: unsettled data is never looked for on disk.
//! Apart because it is the path every consumer takes.

use bytes::Bytes;
use flumen_protocol::entry::Records;
use flumen_protocol::ids::{LogId, Offset};

use super::{Log, Store};
use crate::answers::{
    ReadAnswer, ReadError, ReadRequest, StoreEvent, TimeAnswer, TimeQuery, TimedRecord,
};
use crate::manifest::image::LogImage;
use crate::op::DiskDone;
use crate::reader::assemble::Selection;
use crate::reader::jobs::{Answer, Outcome};
use crate::reader::plan::{TimeWant, Want, largest_from, largest_inside, straddling, timed_record};

/// A job's answer with everything in it, and the caller's token.
enum Finished {
    Read(u64, Result<Vec<Bytes>, ReadError>),
    Time(u64, Result<Option<TimedRecord>, ReadError>),
}

/// What memory knows of the largest timestamp of a log.
enum Largest {
    /// No record has one.
    None,
    /// This is it.
    Known(i64),
    /// A segment has a larger one, but perhaps only before the start or behind the limit.
    AtLeast(i64),
}

impl Store {
    /// Reads whole batches from the one that contains `request.from` on.
    ///
    /// At the log's end, or at or beyond the limit, there is nothing to read, which is no error.
    pub fn read(&mut self, log: LogId, request: ReadRequest) -> ReadAnswer {
        let Some((known, image)) = self.known(log) else {
            return ReadAnswer::Failed(ReadError::UnknownLog);
        };
        let (start, end) = (image.start, known.tail.end());
        if request.from < start || request.from > end {
            return ReadAnswer::Failed(ReadError::OutOfRange { start, end });
        }
        if request.from >= request.limit.min(end) {
            return ReadAnswer::Ready(Vec::new());
        }
        let mut selection = Selection::new(request);
        let memory = known.tail.first_offset();
        if request.from >= memory {
            known.tail.offer_from(request.from, &mut selection);
            return ReadAnswer::Ready(selection.into_batches());
        }
        if self.cache.holds(log, request.from) {
            if self.cache.offer_from(log, request.from, &mut selection) {
                known.tail.offer_from(memory, &mut selection);
            }
            return ReadAnswer::Ready(selection.into_batches());
        }
        match self.reader.start(log, Want::Records(request), self.manifest.image()) {
            Some(answer) => match self.finished(answer) {
                Finished::Read(_, Ok(batches)) => ReadAnswer::Ready(batches),
                Finished::Read(_, Err(error)) => ReadAnswer::Failed(error),
                Finished::Time(..) => unreachable!("a read is answered as a read"),
            },
            None => ReadAnswer::Pending,
        }
    }

    /// Finds a record by time among those before `limit`. Opens two batches at most to find it, and
    /// one more for the largest time; a batch whose records inflate to more than
    /// `inflated_bytes_max` is taken by the word of its header.
    pub fn find_time(
        &mut self,
        log: LogId,
        query: TimeQuery,
        limit: Offset,
        inflated_bytes_max: usize,
        token: u64,
    ) -> TimeAnswer {
        let Some((known, image)) = self.known(log) else {
            return TimeAnswer::Failed(ReadError::UnknownLog);
        };
        let (at, is_largest) = match query {
            TimeQuery::AtOrAfter(at) => (at, false),
            // The first record at or after the largest timestamp is the one that has it.
            TimeQuery::Largest => {
                match self.largest(log, known, image, (limit, inflated_bytes_max)) {
                    Largest::None => return TimeAnswer::Ready(None),
                    Largest::Known(at) => (at, false),
                    Largest::AtLeast(at) => (at, true),
                }
            }
        };
        let cursor = image.start;
        let want = TimeWant { at, is_largest, cursor, limit, inflated_bytes_max, token };
        let cursor = match image.segments.find_time(image.start, at) {
            _ if is_largest => image.start,
            Some(segment) => segment.base.max(image.start),
            None => return TimeAnswer::Ready(self.find_time_unsettled(log, &want)),
        };
        let want = TimeWant { cursor, ..want };
        if !is_largest && self.cache.holds(log, cursor) {
            let found = first_among(self.cache.from(log, cursor), image.start, &want);
            return TimeAnswer::Ready(found.or_else(|| self.find_time_unsettled(log, &want)));
        }
        let want = Want::Time(want);
        match self.reader.start(log, want, self.manifest.image()) {
            Some(answer) => match self.finished(answer) {
                Finished::Time(_, Ok(found)) => TimeAnswer::Ready(found),
                Finished::Time(_, Err(error)) => TimeAnswer::Failed(error),
                Finished::Read(..) => unreachable!("a look-up is answered as a look-up"),
            },
            None => TimeAnswer::Pending,
        }
    }

    /// The largest timestamp from the log's start up to `limit`, as far as memory can tell.
    fn largest(
        &self,
        log: LogId,
        known: &Log,
        image: &LogImage,
        (limit, inflated_bytes_max): (Offset, usize),
    ) -> Largest {
        let start = image.start;
        let among = |batches: &mut dyn Iterator<Item = &Records>| {
            largest_among(batches, start, limit, inflated_bytes_max)
        };
        let mut unsettled = known.tail.from(known.tail.first_offset().max(start));
        let at = among(&mut unsettled).max(largest_inside(image, limit));
        let mut largest = at;
        for segment in straddling(image, limit).filter(|segment| segment.max_timestamp > at) {
            let from = segment.base.max(start);
            if !self.cache.holds(log, from) {
                return Largest::AtLeast(at);
            }
            largest = largest.max(among(&mut self.cache.from(log, from)));
        }
        if largest < 0 { Largest::None } else { Largest::Known(largest) }
    }

    fn find_time_unsettled(&self, log: LogId, want: &TimeWant) -> Option<TimedRecord> {
        let (known, image) = self.known(log)?;
        let from = known.tail.first_offset().max(image.start);
        first_among(known.tail.from(from), image.start, want)
    }

    /// Takes an answer of the disk if it belongs to a reader.
    pub(super) fn read_on_done(
        &mut self,
        done: DiskDone,
        out: &mut Vec<StoreEvent>,
    ) -> Option<DiskDone> {
        let mut answers = Vec::new();
        let done = self.reader.on_done(done, self.manifest.image(), &mut answers);
        for answer in answers {
            if let Want::Cleaning(_) = answer.want {
                self.take_cleaning_read(answer);
                continue;
            }
            out.push(match self.finished(answer) {
                Finished::Read(token, result) => StoreEvent::Read { token, result },
                Finished::Time(token, result) => StoreEvent::TimeFound { token, result },
            });
        }
        done
    }

    /// Adds to an answer of the reader what only memory knows.
    fn finished(&self, answer: Answer) -> Finished {
        let log = answer.log;
        match (answer.want, answer.outcome) {
            (Want::Records(request), Outcome::Records(result)) => {
                Finished::Read(request.token, result.map_err(|error| self.widened(log, error)))
            }
            (Want::Time(want), Outcome::Time(result)) => {
                let unsettled = || self.find_time_unsettled(log, &want);
                let result = result
                    .map(|found| found.or_else(unsettled))
                    .map_err(|error| self.widened(log, error));
                Finished::Time(want.token, result)
            }
            (Want::Records(_), Outcome::Time(_))
            | (Want::Time(_), Outcome::Records(_))
            | (Want::Cleaning(_), _) => unreachable!("a job is answered as it was asked"),
        }
    }

    /// The reader knows only what is settled; the log goes on after that.
    fn widened(&self, log: LogId, error: ReadError) -> ReadError {
        match (error, self.known(log)) {
            (ReadError::OutOfRange { start, .. }, Some((known, _))) => {
                ReadError::OutOfRange { start, end: known.tail.end() }
            }
            (ReadError::OutOfRange { .. } | ReadError::UnknownLog, None) => ReadError::UnknownLog,
            (
                error @ (ReadError::UnknownLog
                | ReadError::Damaged { .. }
                | ReadError::Unavailable { .. }),
                _,
            ) => error,
        }
    }
}

/// The first record from `start` on that is as old as wanted, among batches before the limit.
fn first_among<'a>(
    batches: impl Iterator<Item = &'a Records>,
    start: Offset,
    want: &TimeWant,
) -> Option<TimedRecord> {
    batches
        .take_while(|records| records.last_offset < want.limit)
        .filter(|records| records.max_timestamp >= want.at)
        .find_map(|records| timed_record(&records.bytes, start, want.at, want.inflated_bytes_max))
}

/// The largest timestamp of records from `start` on, among batches before `limit`; −1 if none.
fn largest_among<'a>(
    batches: impl Iterator<Item = &'a Records>,
    start: Offset,
    limit: Offset,
    inflated_bytes_max: usize,
) -> i64 {
    let visible = batches.take_while(|records| records.last_offset < limit);
    let largest = |r: &Records| {
        largest_from(&r.bytes, r.base_offset, r.max_timestamp, start, inflated_bytes_max)
    };
    let times = visible.map(largest);
    times.max().unwrap_or(-1)
}

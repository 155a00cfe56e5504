//! Reads and look-ups by time: memory first, then the cold half.
//!
//! Does: answer from tail and cache at once; hand the rest to the reader; finish its answers.
//! Does not: know which offsets a client may see: the limit is an argument.
//! Invariants: unsettled data is never looked for on disk.
//! Apart because it is the path every consumer takes.

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
use crate::reader::plan::{TimeWant, Want, timed_record};

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
            Some(Outcome::Records(Ok(batches))) => ReadAnswer::Ready(batches),
            Some(Outcome::Records(Err(error))) => ReadAnswer::Failed(self.widened(log, error)),
            Some(Outcome::Time(_)) => unreachable!("a read is answered as a read"),
            None => ReadAnswer::Pending,
        }
    }

    /// Finds a record by time among those before `limit`.
    pub fn find_time(
        &mut self,
        log: LogId,
        query: TimeQuery,
        limit: Offset,
        token: u64,
    ) -> TimeAnswer {
        let Some((known, image)) = self.known(log) else {
            return TimeAnswer::Failed(ReadError::UnknownLog);
        };
        let at = match query {
            TimeQuery::AtOrAfter(at) => at,
            // The first record at or after the largest timestamp is the one that has it.
            TimeQuery::Largest => match largest(known, image, limit) {
                Some(at) => at,
                None => return TimeAnswer::Ready(None),
            },
        };
        if let Some(segment) = image.segments.find_time(image.start, at) {
            let cursor = segment.base.max(image.start);
            if self.cache.holds(log, cursor) {
                let found = first_among(self.cache.from(log, cursor), image.start, at, limit);
                return TimeAnswer::Ready(
                    found.or_else(|| self.find_time_unsettled(log, at, limit)),
                );
            }
            let want = Want::Time(TimeWant { at, cursor, limit, token });
            return match self.reader.start(log, want, self.manifest.image()) {
                Some(Outcome::Time(Ok(None))) => {
                    TimeAnswer::Ready(self.find_time_unsettled(log, at, limit))
                }
                Some(Outcome::Time(Ok(found))) => TimeAnswer::Ready(found),
                Some(Outcome::Time(Err(error))) => TimeAnswer::Failed(self.widened(log, error)),
                Some(Outcome::Records(_)) => unreachable!("a look-up is answered as a look-up"),
                None => TimeAnswer::Pending,
            };
        }
        TimeAnswer::Ready(self.find_time_unsettled(log, at, limit))
    }

    fn find_time_unsettled(&self, log: LogId, at: i64, limit: Offset) -> Option<TimedRecord> {
        let (known, image) = self.known(log)?;
        let from = known.tail.first_offset().max(image.start);
        first_among(known.tail.from(from), image.start, at, limit)
    }

    /// Takes an answer of the disk if it belongs to a reader.
    pub(super) fn read_on_done(
        &mut self,
        done: DiskDone,
        out: &mut Vec<StoreEvent>,
    ) -> Option<DiskDone> {
        let mut answers = Vec::new();
        let done = self.reader.on_done(done, self.manifest.image(), &mut answers);
        out.extend(answers.into_iter().map(|answer| self.finished(answer)));
        done
    }

    fn finished(&self, answer: Answer) -> StoreEvent {
        let log = answer.log;
        match (answer.want, answer.outcome) {
            (Want::Records(request), Outcome::Records(result)) => {
                let result = result.map_err(|error| self.widened(log, error));
                StoreEvent::Read { token: request.token, result }
            }
            (Want::Time(want), Outcome::Time(result)) => {
                let unsettled = || self.find_time_unsettled(log, want.at, want.limit);
                let result = result
                    .map(|found| found.or_else(unsettled))
                    .map_err(|error| self.widened(log, error));
                StoreEvent::TimeFound { token: want.token, result }
            }
            (Want::Records(_), Outcome::Time(_)) | (Want::Time(_), Outcome::Records(_)) => {
                unreachable!("a job is answered as it was asked")
            }
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

/// The first record from `start` on that is not older than `at`, among batches before `limit`.
fn first_among<'a>(
    batches: impl Iterator<Item = &'a Records>,
    start: Offset,
    at: i64,
    limit: Offset,
) -> Option<TimedRecord> {
    batches
        .take_while(|records| records.last_offset < limit)
        .filter(|records| records.max_timestamp >= at)
        .find_map(|records| timed_record(&records.bytes, start, at))
}

/// The largest timestamp of the log before `limit`; `None` if no record has one.
fn largest(known: &Log, image: &LogImage, limit: Offset) -> Option<i64> {
    let settled = image.segments.all().iter().filter(|s| s.base < limit && s.end > image.start);
    let unsettled = known.tail.from(known.tail.first_offset());
    let unsettled = unsettled.take_while(|records| records.last_offset < limit);
    let times = settled.map(|s| s.max_timestamp).chain(unsettled.map(|r| r.max_timestamp));
    times.max().filter(|largest| *largest >= 0)
}

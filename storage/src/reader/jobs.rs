//! Reads that wait for the disk.
//!
//! Does: fetch what jobs miss, each thing once however many wait for it; verify; try the jobs
//! again; remember what turned out damaged.
//! Does not: look into memory that is not cold data; the store asks there first.
//! Invariants: nothing is put into a window that was not verified; every job ends with exactly one
//! answer; a failed read concerns its range only and stops nobody else; nothing is called damaged
//! that was not read, or could not be by the device's own word.
//! Apart because it is the asynchronous half of reading.
//!
//! ```text
//!  job: Attempt --answered--> done
//!               --missing--> waits for a Fetch (queued -> under way -> taken in) --> Attempt ...
//!  fetch of chunks: checksum wrong --> once more --> sifted, rest is damaged
//!  read failed for want of anything --> all who wait are told so, nothing is learnt
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{LeaderEpoch, LogId, Offset};

use super::assemble::{Batch, Gaps, split};
use super::epochs;
use super::fetch::{Fetch, Step, Walk};
use super::plan::{Attempt, Missing, Want, attempt};
use super::sieve::Sieve;
use super::window::Windows;
use crate::answers::{ReadError, TimedRecord};
use crate::error::DiskErrorKind;
use crate::format::segment::{Chunk, decode};
use crate::limits::{BLOCK, CHUNK_BYTES, EXTENT_BYTES_MIN, JOB_TRIES_MAX, READS_IN_FLIGHT_MAX};
use crate::manifest::image::Image;
use crate::op::{DiskDone, DiskOp, OpId, OpIds};
use crate::segment::index::{Hole, Indexes, SegmentIndex};
use crate::segment::segment::Segment;

/// The answer to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose records were read.
    pub log: LogId,
    /// What was asked, and how far it came.
    pub want: Want,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a read.
    Records(Result<Vec<Bytes>, ReadError>),
    /// Of a look-up by time.
    Time(Result<Option<TimedRecord>, ReadError>),
}

/// Somebody who waits for an answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) log: LogId,
    want: Want,
    tries: u32,
}

/// The cold half of reading on one core.
#[derive(Debug)]
pub struct Reader {
    windows: Windows,
    indexes: Indexes,
    queued: VecDeque<Fetch>,
    under_way: BTreeMap<OpId, Fetch>,
}

impl Reader {
    /// A reader that keeps at most `window_bytes` of cold data.
    #[must_use]
    pub fn new(window_bytes: usize) -> Self {
        Self {
            windows: Windows::new(window_bytes),
            indexes: Indexes::default(),
            queued: VecDeque::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// Tries to answer at once; `None`: an [`Answer`] follows.
    pub fn start(&mut self, log: LogId, want: Want, image: &Image) -> Option<Answer> {
        self.advance(Job { log, want, tries: 0 }, image)
    }

    /// The operations to carry out now.
    pub fn next_ops(&mut self, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        while self.under_way.len() < READS_IN_FLIGHT_MAX
            && let Some(fetch) = self.queued.pop_front()
        {
            let id = ids.next_id();
            out.push(DiskOp { id, file: fetch.file(), action: fetch.action() });
            self.under_way.insert(id, fetch);
        }
    }

    /// Takes an answer of the disk; gives it back if it is somebody else's.
    pub fn on_done(
        &mut self,
        done: DiskDone,
        image: &Image,
        out: &mut Vec<Answer>,
    ) -> Option<DiskDone> {
        let Some(mut fetch) = self.under_way.remove(&done.id) else { return Some(done) };
        let waiters = std::mem::take(&mut fetch.waiters);
        if fetch.is_void {
            out.extend(waiters.into_iter().map(|job| job.failed(ReadError::UnknownLog)));
            return None;
        }
        let fetch = match fetch.step(done.result) {
            // Retention was faster. Whether the file was still there does not matter.
            _ if !fetch.is_current(image) => None,
            Step::Again => Some(fetch),
            Step::Read(bytes) => self.take_in(fetch, &bytes, image),
            Step::Unavailable(kind) => {
                out.extend(waiters.into_iter().map(|job| job.unavailable(Some(kind))));
                return None;
            }
        };
        if let Some(mut fetch) = fetch {
            // A long walk must not lose what it is to be noted in.
            self.indexes.get(fetch.log, fetch.missing.segment().base);
            fetch.waiters = waiters;
            self.queued.push_front(fetch);
            return None;
        }
        out.extend(waiters.into_iter().filter_map(|job| self.advance(job, image)));
        self.windows.trim();
        self.indexes.trim();
        None
    }

    /// Whether anything is still to be fetched.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !(self.queued.is_empty() && self.under_way.is_empty())
    }

    /// Bytes of memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.windows.bytes() + self.indexes.memory_bytes()
    }

    /// A segment is gone.
    pub fn forget_segment(&mut self, log: LogId, base: Offset) {
        self.indexes.forget(log, base);
    }

    /// What lies before `start` is gone.
    pub fn forget_before(&mut self, log: LogId, start: Offset) {
        self.windows.forget(log, Some(start));
    }

    /// The log is gone. Another one may get its name while reads of this one are under way: what
    /// they bring is not looked at, and whoever waits for it hears that the log is unknown.
    pub fn forget_log(&mut self, log: LogId) {
        self.windows.forget(log, None);
        self.indexes.forget_log(log);
        let all = self.under_way.values_mut().chain(&mut self.queued);
        all.filter(|fetch| fetch.log == log).for_each(|fetch| fetch.is_void = true);
    }

    /// Chunks were written to a segment.
    pub fn learn(&mut self, log: LogId, base: Offset, chunks: &[Chunk]) {
        if let Some(index) = self.indexes.get(log, base) {
            chunks.iter().for_each(|chunk| index.learn(*chunk));
        }
    }

    fn advance(&mut self, mut job: Job, image: &Image) -> Option<Answer> {
        job.tries += 1;
        let (windows, indexes) = (&mut self.windows, &mut self.indexes);
        let outcome = match attempt(job.log, &mut job.want, image, windows, indexes) {
            Attempt::Records(result) => {
                if let (Want::Cleaning(request), Ok(batches)) = (&job.want, &result) {
                    let_go(windows, (job.log, request.from), batches);
                }
                Outcome::Records(result)
            }
            Attempt::Time(result) => Outcome::Time(result),
            Attempt::Missing(_) if job.tries > JOB_TRIES_MAX => return Some(job.unavailable(None)),
            Attempt::Missing(missing) => {
                self.wait_for(missing, job);
                return None;
            }
        };
        Some(Answer { log: job.log, want: job.want, outcome })
    }

    fn wait_for(&mut self, missing: Missing, job: Job) {
        let same =
            |fetch: &&mut Fetch| !fetch.is_void && fetch.log == job.log && fetch.missing == missing;
        let mut all = self.under_way.values_mut().chain(&mut self.queued);
        if let Some(fetch) = all.find(same) {
            fetch.waiters.push(job);
            return;
        }
        self.queued.push_back(Fetch::new(missing, job));
    }

    /// Takes in what was read; gives back what must be fetched again.
    fn take_in(&mut self, fetch: Fetch, bytes: &Bytes, image: &Image) -> Option<Fetch> {
        let newest = image.logs.get(&fetch.log).map(|known| known.settled.1.epoch());
        let newest = newest.unwrap_or(LeaderEpoch(i32::MAX));
        match fetch.missing.clone() {
            Missing::Index(segment) => {
                let chunks = decode(segment.base, bytes);
                // Fitted to the segment as it was when asked for; later chunks are learnt.
                let index = SegmentIndex::new(chunks, &segment, None);
                self.indexes.put(fetch.log, segment.base, index);
                None
            }
            Missing::Chunks(segment, chunks) => {
                self.take_chunks(fetch, &segment, chunks, bytes, newest)
            }
            Missing::Stretch(segment, hole) => {
                self.take_stretch(fetch, &segment, hole, bytes, newest)
            }
        }
    }

    fn take_chunks(
        &mut self,
        mut fetch: Fetch,
        segment: &Segment,
        chunks: Vec<Chunk>,
        bytes: &Bytes,
        newest: LeaderEpoch,
    ) -> Option<Fetch> {
        let start = chunks[0].position / BLOCK * BLOCK;
        let verified: Vec<Option<Vec<Batch>>> =
            chunks.iter().map(|it| verify(it, &slice_of(it, start, bytes), segment)).collect();
        if verified.iter().any(Option::is_none) && !fetch.again && fetch.unreadable == 0 {
            // A bad transfer or a stale read may be good the second time (fault row D7). What the
            // device could not read was tried often enough.
            fetch.again = true;
            return Some(fetch);
        }
        for (chunk, verified) in chunks.iter().zip(verified) {
            let batches = match verified {
                Some(batches) => batches,
                None => {
                    let bytes = slice_of(chunk, start, bytes);
                    self.salvage((fetch.log, segment), chunk, &bytes, newest)
                }
            };
            self.windows.put(fetch.log, batches);
        }
        None
    }

    /// What is still good of a chunk whose checksum is wrong. `place`: log and segment.
    ///
    /// Of a cleaned segment all of it or nothing: where offsets may be missing nothing but that checksum
    /// says that a batch has the right ones, as Kafka's own covers the first of them not.
    fn salvage(
        &mut self,
        place: (LogId, &Segment),
        chunk: &Chunk,
        bytes: &Bytes,
        newest: LeaderEpoch,
    ) -> Vec<Batch> {
        let (log, segment) = place;
        let mut sieve = Sieve::new(chunk.first, chunk.end, Gaps::of(segment));
        let mut found = sieve.take(bytes, bytes.len() as u64);
        if !sieve.is_over() {
            // Only the last batch of a chunk begins behind its first 64 KiB: there is none there.
            found.damaged.push(sieve.rest());
        }
        // If every batch passes Kafka's checksum, what is wrong lies outside of it: an epoch.
        if found.damaged.is_empty()
            && let Some(repaired) = epochs::repaired(chunk, bytes, &found.batches)
        {
            return repaired;
        }
        if found.damaged.is_empty() || segment.has_gaps() {
            // Which batch has it cannot be told.
            found.batches.clear();
            found.damaged = vec![(chunk.first, chunk.end)];
        } else {
            found.damaged.extend(epochs::leave_out_strange(&mut found.batches, newest));
        }
        if let Some(index) = self.indexes.get(log, segment.base) {
            index.amend(chunk, chunks_of(&found.batches, chunk.position));
            found.damaged.iter().for_each(|(from, until)| index.learn_damage(*from, *until));
        }
        found.batches
    }

    fn take_stretch(
        &mut self,
        mut fetch: Fetch,
        segment: &Segment,
        hole: Hole,
        read: &Bytes,
        newest: LeaderEpoch,
    ) -> Option<Fetch> {
        let walk = &mut fetch.walk;
        let position = walk.position;
        let skip = ((position % BLOCK) as usize).min(read.len());
        let left = hole.end_position - position;
        let asked = walk.bytes.min(left) as usize;
        let have = asked.min(read.len() - skip);
        if have < asked && !fetch.again {
            fetch.again = true;
            return Some(fetch);
        }
        // Shorter than the segment is known to be: there is no more of it.
        let left = if have < asked { have as u64 } else { left };
        let mut found = walk.sieve.take(&read.slice(skip..skip + have), left);
        found.damaged.extend(epochs::leave_out_strange(&mut found.batches, newest));
        if !found.damaged.is_empty() && !fetch.is_second && fetch.unreadable == 0 {
            // As with chunks: what was read may be wrong, and not what is there (fault row D7).
            (fetch.walk, fetch.again) = (Walk::through(&fetch.missing), false);
            fetch.is_second = true;
            return Some(fetch);
        }
        let walk = &mut fetch.walk;
        if found.batches.is_empty() && found.damaged.is_empty() && !walk.sieve.is_over() {
            walk.position += found.used as u64;
            walk.bytes = EXTENT_BYTES_MIN.max(found.wanted as u64);
            fetch.again = false;
            return Some(fetch);
        }
        if let Some(index) = self.indexes.get(fetch.log, segment.base) {
            chunks_of(&found.batches, position).into_iter().for_each(|c| index.learn(c));
            found.damaged.iter().for_each(|(from, until)| index.learn_damage(*from, *until));
        }
        self.windows.put(fetch.log, found.batches);
        None
    }
}

/// Drops what a cleaning was given. It reads all of a log and comes back for nothing soon: keeping that
/// would cost what others read, and as much memory as there is room for.
fn let_go(windows: &mut Windows, (log, from): (LogId, Offset), batches: &[Bytes]) {
    if let Some(last) = batches.last().and_then(|last| BatchHeader::parse(last)) {
        windows.let_go(log, from, last.last_offset().after(1));
    }
}

impl Job {
    /// Ends a job about whose records nothing is known: it could not be read now, or fetching got
    /// nowhere for too long (`None`), and better an answer than a job that never ends.
    fn unavailable(self, kind: Option<DiskErrorKind>) -> Answer {
        let log = self.log;
        let from = match self.want {
            Want::Records(request) | Want::Cleaning(request) => request.from,
            Want::Time(want) => want.cursor,
        };
        self.failed(ReadError::Unavailable { log, from, kind })
    }

    fn failed(self, error: ReadError) -> Answer {
        let Self { log, want, .. } = self;
        let outcome = match want {
            Want::Records(_) | Want::Cleaning(_) => Outcome::Records(Err(error)),
            Want::Time(_) => Outcome::Time(Err(error)),
        };
        Answer { log, want, outcome }
    }
}

/// The chunk's bytes in what was read from `start` on; shorter if the file was.
fn slice_of(chunk: &Chunk, start: u64, bytes: &Bytes) -> Bytes {
    let from = ((chunk.position - start) as usize).min(bytes.len());
    let until = ((chunk.end_position() - start) as usize).min(bytes.len());
    bytes.slice(from..until)
}

fn verify(chunk: &Chunk, bytes: &Bytes, segment: &Segment) -> Option<Vec<Batch>> {
    let sound = bytes.len() as u64 == chunk.length && crc32c::crc32c(bytes) == chunk.crc;
    if sound { split(bytes, chunk.first, chunk.end, Gaps::of(segment)) } else { None }
}

/// Chunks made of batches found at `position`; a gap between batches begins a new one.
fn chunks_of(batches: &[Batch], position: u64) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for batch in batches {
        let at = position + batch.at as u64;
        let goes_on = chunks.last().is_some_and(|chunk| {
            chunk.end_position() == at && chunk.end == batch.base && chunk.length < CHUNK_BYTES
        });
        if !goes_on {
            let (first, end) = (batch.base, batch.base);
            let max_timestamp = batch.max_timestamp;
            chunks.push(Chunk { first, end, max_timestamp, position: at, length: 0, crc: 0 });
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.end = batch.last.after(1);
            chunk.max_timestamp = chunk.max_timestamp.max(batch.max_timestamp);
            chunk.length += batch.bytes.len() as u64;
            chunk.crc = crc32c::crc32c_append(chunk.crc, &batch.bytes);
        }
    }
    chunks
}

//! The manifest file: a chain of checksummed chunks of records, rewritten when mostly garbage.
//!
//! Does: read the file back, queue records, append them in one write for all who wait, rewrite.
//! Does not: decide what is recorded.
//! Invariants: a ticket counts as durable only after the flush of the chunk that holds its record;
//! a chunk begins on a fresh block, so a torn append never touches what was durable; what follows
//! a torn chunk is never appended to, because every start rewrites the file.
//! Apart because every multi-file change of the store becomes true here, at one point.
//!
//! ```text
//!  chunk, little-endian, padded with zeros to whole blocks; the file is chunks back to back
//!  0       4     6     8          16     20      24     32        48     52   54   56       64
//!  +-------+-----+-----+----------+------+-------+------+---------+------+----+----+--------+
//!  | magic | ver | 0   | sequence | body | crc of| wall | cluster | node |core| 0  | incar- |
//!  | FMAN  |     |     |          | bytes| prev. | ms   | 16 bytes|      |    |    | nation |
//!  +-------+-----+-----+----------+------+-------+------+---------+------+----+----+--------+
//!  64: crc32c over bytes 0..64 and the body | 68: zeros | 72: body
//!
//!  Idle --queue--> Writing --answered--> Flushing --answered--> Idle
//!  Idle --queue, mostly garbage or first use--> Replacing --answered--> Idle
//!  Writing, Flushing, Replacing --no room--> Full --a second later, or the ballast gone--> Idle
//! ```

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use flumen_protocol::time::{Monotonic, Now, Wall};

use super::ballast::{self, Ballast};
use super::image::Image;
use super::record::Record;
use crate::error::{DiskErrorKind, StorageError};
use crate::format::node::Identity;
use crate::limits::{BLOCK, BLOCK_BYTES, MANIFEST_GARBAGE_BYTES, MANIFEST_RETRY};
use crate::op::{Action, DiskDone, DiskOp, FileName, OpId, OpIds};

/// The fields of a chunk's header: offset, bytes, meaning. FORMAT.md is held against it.
#[cfg(test)]
pub(crate) const LAYOUT: [(usize, usize, &str); 12] = [
    (0, 4, "magic `FMAN`"),
    (4, 2, "format version"),
    (6, 2, "zero"),
    (8, 8, "sequence of the chunk"),
    (16, 4, "length of the body"),
    (20, 4, "checksum of the chunk before, zero in the first of a file"),
    (24, 8, "wall clock in milliseconds"),
    (32, 16, "cluster id"),
    (48, 8, "node, core, zero (4, 2, 2)"),
    (56, 8, "incarnation"),
    (64, 4, "checksum of bytes 0 to 63 and the body"),
    (68, 4, "zero"),
];

const MAGIC: u32 = u32::from_le_bytes(*b"FMAN");
const VERSION: u16 = 3;
const HEADER_BYTES: usize = 72;
const CRC_AT: usize = 64;

/// What the manifest file said at start.
#[derive(Debug)]
pub struct Parsed {
    /// What its records add up to.
    pub image: Image,
    /// The wall clock when it was last written; `None` for a manifest that never was.
    pub written: Option<Wall>,
    /// The last chunk's sequence.
    pub sequence: u64,
    /// Bytes behind the last whole chunk: an append that was under way and never relied upon.
    pub torn_bytes: u64,
}

impl Parsed {
    /// What a core starts with that has no manifest.
    #[must_use]
    pub fn fresh() -> Self {
        Self { image: Image::default(), written: None, sequence: 0, torn_bytes: 0 }
    }
}

/// Reads a manifest file.
///
/// # Errors
/// [`StorageError::Foreign`] and [`StorageError::NewerFormat`] as they say;
/// [`StorageError::Corrupt`] if anything but the last chunk is unreadable, or the records
/// contradict each other. Nothing may be served or deleted then.
pub fn parse(file: &[u8], identity: &Identity) -> Result<Parsed, StorageError> {
    let mut parsed = Parsed::fresh();
    let mut at = 0;
    let mut before = None;
    while let Some(chunk) = Chunk::read(&file[at..], before) {
        let chunk = chunk?;
        chunk.check_owner(identity)?;
        let records = Record::decode_all(chunk.body).ok_or_else(|| corrupt("an unknown record"))?;
        for record in records {
            if !parsed.image.apply(record) {
                return Err(corrupt("records contradict each other"));
            }
        }
        parsed.sequence = chunk.sequence;
        parsed.written = Some(chunk.written);
        before = Some((chunk.sequence, chunk.crc));
        at = (at + padded(HEADER_BYTES + chunk.body.len())).min(file.len());
    }
    if before.is_none() && !file.is_empty() {
        return Err(corrupt("its first chunk is unreadable"));
    }
    parsed.torn_bytes = (file.len() - at) as u64;
    let mut rest = file[at..].chunks(BLOCK_BYTES).enumerate().skip(1);
    if rest.any(|(block, _)| later_chunk(&file[at + block * BLOCK_BYTES..], parsed.sequence)) {
        return Err(corrupt("a chunk before the last is unreadable"));
    }
    Ok(parsed)
}

/// Whether a whole chunk begins here that was written after chunk `sequence`.
fn later_chunk(bytes: &[u8], sequence: u64) -> bool {
    Chunk::view(bytes).is_some_and(|chunk| chunk.sequence > sequence)
}

fn corrupt(what: &str) -> StorageError {
    StorageError::Corrupt { file: FileName::Manifest, what: what.to_owned() }
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK_BYTES)
}

/// One chunk as it lies in the file, its checksum verified.
struct Chunk<'a> {
    version: u16,
    sequence: u64,
    chain: u32,
    written: Wall,
    owner: [u8; 32],
    crc: u32,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk `bytes` begin with, if its checksum holds.
    fn view(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | (u32::from(u16_at(at + 2)) << 16);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        // First what is cheap: behind a torn chunk every block is looked at, and what stands there
        // may claim any length.
        if u32_at(0) != MAGIC {
            return None;
        }
        let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(u32_at(16) as usize)?)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), body);
        if u32_at(CRC_AT) != crc {
            return None;
        }
        Some(Self {
            version: u16_at(4),
            sequence: u64_at(8),
            chain: u32_at(20),
            written: Wall(i64::from_le_bytes(header[24..32].try_into().ok()?)),
            owner: header[32..64].try_into().ok()?,
            crc,
            body,
        })
    }

    /// The chunk `bytes` begin with, if it follows the one `before`: its sequence and checksum.
    ///
    /// The first chunk of a file carries on the sequence of the file it replaced.
    fn read(bytes: &'a [u8], before: Option<(u64, u32)>) -> Option<Result<Self, StorageError>> {
        let chunk = Self::view(bytes)?;
        if chunk.version > VERSION {
            let (file, found, known) = (FileName::Manifest, chunk.version, VERSION);
            return Some(Err(StorageError::NewerFormat { file, found, known }));
        }
        if chunk.version < VERSION {
            let found = chunk.version;
            return Some(Err(corrupt(&format!(
                "it has format version {found}, from before the first release"
            ))));
        }
        let follows = before
            .is_none_or(|(sequence, crc)| chunk.sequence == sequence + 1 && chunk.chain == crc);
        follows.then_some(Ok(chunk))
    }

    fn check_owner(&self, identity: &Identity) -> Result<(), StorageError> {
        if self.owner == owner_bytes(identity) {
            return Ok(());
        }
        let what = "cluster, node, core or incarnation differ".to_owned();
        Err(StorageError::Foreign { file: FileName::Manifest, what })
    }
}

fn owner_bytes(identity: &Identity) -> [u8; 32] {
    let mut owner = [0; 32];
    owner[..16].copy_from_slice(&identity.cluster);
    owner[16..20].copy_from_slice(&identity.node.0.to_le_bytes());
    owner[20..22].copy_from_slice(&identity.core.0.to_le_bytes());
    owner[24..32].copy_from_slice(&identity.incarnation.to_le_bytes());
    owner
}

/// A whole manifest file that says this image, as it would be after a start of this owner.
///
/// `wall`: when it was last written, against which the next start holds its clock.
#[must_use]
pub(crate) fn whole_file(image: &Image, identity: &Identity, wall: Wall) -> Bytes {
    let mut body = Vec::new();
    image.records().for_each(|record| record.encode(&mut body));
    Bytes::from(chunk((1, 0), wall, identity, &body))
}

/// The bytes of a chunk, padded. `place`: its sequence and the checksum of the one before.
fn chunk(place: (u64, u32), wall: Wall, identity: &Identity, body: &[u8]) -> Vec<u8> {
    let (sequence, chain) = place;
    let mut out = Vec::with_capacity(padded(HEADER_BYTES + body.len()));
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&sequence.to_le_bytes());
    let length = u32::try_from(body.len()).expect("a manifest is below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(&wall.0.to_le_bytes());
    out.extend_from_slice(&owner_bytes(identity));
    assert_eq!(out.len(), CRC_AT, "the drawing above");
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; HEADER_BYTES - CRC_AT - 4]);
    out.extend_from_slice(body);
    out.resize(padded(out.len()), 0);
    out
}

/// Counts records in the order they were queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The running manifest of one core.
#[derive(Debug)]
pub struct Manifest {
    image: Image,
    identity: Identity,
    /// Encoded records that no write holds yet.
    queue: Vec<u8>,
    /// The record queued last.
    queued: Ticket,
    /// Everything up to here is durable.
    durable: Ticket,
    /// Everything up to here is missed if it is cut off.
    vouched: Ticket,
    /// Chunks behind that, the oldest first, and the last record up to each.
    unvouched: VecDeque<(u64, Ticket)>,
    /// Where the next chunk goes; a multiple of the block size.
    at: u64,
    /// The last chunk's sequence and checksum.
    sequence: u64,
    chain: u32,
    /// Size of the file when it was last rewritten.
    live_bytes: u64,
    /// The file must be rewritten before anything is appended.
    must_replace: bool,
    state: State,
    ballast: Ballast,
}

#[derive(Debug)]
enum State {
    Idle,
    Writing(Flight),
    Flushing(Flight),
    Replacing(Flight),
    Full { until: Monotonic },
}

/// A chunk on its way.
#[derive(Debug)]
struct Flight {
    op: OpId,
    /// `None` between the answered write and the flush being asked for.
    asked: bool,
    /// The last record in it.
    up_to: Ticket,
    bytes: u64,
    chain: u32,
    /// The records in it, for another try when the disk was full.
    body: Vec<u8>,
}

impl Manifest {
    /// Goes on from what was found; the file is rewritten by the first operation.
    #[must_use]
    pub fn new(parsed: Parsed, identity: Identity) -> Self {
        Self {
            image: parsed.image,
            identity,
            queue: Vec::new(),
            queued: Ticket(1),
            durable: Ticket(0),
            vouched: Ticket(0),
            unvouched: VecDeque::new(),
            at: 0,
            sequence: parsed.sequence,
            chain: 0,
            live_bytes: 0,
            must_replace: true,
            state: State::Idle,
            ballast: Ballast::new(),
        }
    }

    /// What all records add up to, those not yet durable included.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Everything up to this ticket is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.durable
    }

    /// Everything up to this ticket is missed by the next start if the file loses it, as something else that
    /// is durable names chunk `named`. What is behind it looks like the trace of a torn write when it is cut off.
    pub fn vouched(&mut self, named: u64) -> Ticket {
        while let Some((_, up_to)) = self.unvouched.pop_front_if(|(chunk, _)| *chunk <= named) {
            self.vouched = up_to;
        }
        self.vouched
    }

    /// The sequence of the last chunk that is durable.
    #[must_use]
    pub fn last_chunk(&self) -> u64 {
        self.sequence
    }

    /// Whether a record is not yet durable.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.durable < self.queued
    }

    /// Queues a record and takes it into the image at once.
    ///
    /// # Panics
    /// When it contradicts the image: our own bug.
    pub fn enqueue(&mut self, record: Record) -> Ticket {
        record.encode(&mut self.queue);
        assert!(self.image.apply(record), "a record that contradicts the manifest");
        self.queued = Ticket(self.queued.0 + 1);
        self.queued
    }

    /// Makes a log known without a record: it has nothing worth remembering yet.
    pub fn know(&mut self, log: flumen_protocol::ids::LogId) -> bool {
        let known = self.image.logs.contains_key(&log);
        self.image.logs.entry(log).or_insert_with(super::image::LogImage::empty);
        !known
    }

    /// Notes the newest promise of the log's Raft member; recorded with whatever comes next.
    pub fn note_hard_state(
        &mut self,
        log: flumen_protocol::ids::LogId,
        hard_state: flumen_protocol::entry::HardState,
    ) {
        if let Some(image) = self.image.logs.get_mut(&log) {
            image.hard_state = hard_state;
        }
    }

    /// Records whether the wall clock is in doubt, unless that is what is known.
    pub fn note_clock(&mut self, doubted: Option<Wall>) {
        if self.image.doubted != doubted {
            self.enqueue(Record::Clock { doubted });
        }
    }

    /// The operation to carry out next, if there is one.
    pub fn next_op(&mut self, now: Now, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        match &mut self.state {
            State::Full { until } if *until <= now.monotonic => self.state = State::Idle,
            State::Flushing(flight) if !flight.asked => {
                flight.op = ids.next_id();
                flight.asked = true;
                out.push(DiskOp { id: flight.op, file: FileName::Manifest, action: Action::Flush });
            }
            State::Idle
            | State::Full { .. }
            | State::Writing(_)
            | State::Flushing(_)
            | State::Replacing(_) => {}
        }
        self.ballast.delete_if_doomed(ids, out);
        if !matches!(self.state, State::Idle) {
            return;
        }
        if self.is_busy() {
            self.begin(now, ids, out);
        } else if !self.must_replace {
            self.ballast.make_if_due(self.live_bytes, now.monotonic, ids, out);
        }
    }

    /// Whether a record found no room, or would find none but what is left of the ballast: then
    /// nothing else should be written that a record must follow.
    #[must_use]
    pub fn is_short_of_room(&self) -> bool {
        matches!(self.state, State::Full { .. }) || self.ballast.is_missed()
    }

    fn begin(&mut self, now: Now, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        let mostly_garbage = self.at > 2 * self.live_bytes + MANIFEST_GARBAGE_BYTES;
        let replace = self.must_replace || mostly_garbage;
        let body = if replace {
            let mut whole = Vec::new();
            self.image.records().for_each(|record| record.encode(&mut whole));
            self.queue.clear();
            self.chain = 0;
            whole
        } else {
            mem::take(&mut self.queue)
        };
        let place = (self.sequence + 1, self.chain);
        let chunk = chunk(place, now.wall, &self.identity, &body);
        let bytes = chunk.len() as u64;
        let chain = u32::from_le_bytes([chunk[64], chunk[65], chunk[66], chunk[67]]);
        let flight =
            Flight { op: ids.next_id(), asked: true, up_to: self.queued, bytes, chain, body };
        let parts = vec![Bytes::from(chunk)];
        let action = if replace {
            Action::Replace { parts }
        } else {
            let padded_len = u32::try_from(bytes).expect("a manifest append is below 4 GiB");
            Action::Write { at: self.at, parts, padded_len }
        };
        out.push(DiskOp { id: flight.op, file: FileName::Manifest, action });
        self.state = if replace { State::Replacing(flight) } else { State::Writing(flight) };
    }

    /// Takes an answer; gives it back if it is somebody else's.
    ///
    /// # Errors
    /// [`StorageError::DeviceFailed`]: stop the shard. A full disk is no error: the records wait.
    pub fn on_done(&mut self, done: DiskDone, now: Now) -> Result<Option<DiskDone>, StorageError> {
        if let Some(is_shed) = self.ballast.on_done(&done, now.monotonic)? {
            if is_shed && matches!(self.state, State::Full { .. }) {
                self.state = State::Idle;
            }
            return Ok(None);
        }
        let state = mem::replace(&mut self.state, State::Idle);
        match state {
            State::Writing(flight) if flight.op == done.id => {
                self.landed(flight, done, now, |manifest, flight| {
                    manifest.state = State::Flushing(Flight { asked: false, ..flight });
                })
            }
            State::Flushing(flight) if flight.op == done.id && flight.asked => {
                self.landed(flight, done, now, |manifest, flight| {
                    manifest.at += flight.bytes;
                    manifest.complete(&flight);
                })
            }
            State::Replacing(flight) if flight.op == done.id => {
                self.landed(flight, done, now, |manifest, flight| {
                    manifest.at = flight.bytes;
                    manifest.live_bytes = flight.bytes;
                    manifest.must_replace = false;
                    manifest.complete(&flight);
                    // A file that has lost any of its first chunk is corrupt.
                    (manifest.vouched, manifest.unvouched) = (manifest.durable, VecDeque::new());
                })
            }
            State::Idle
            | State::Writing(_)
            | State::Flushing(_)
            | State::Replacing(_)
            | State::Full { .. } => {
                self.state = state;
                Ok(Some(done))
            }
        }
    }

    fn landed(
        &mut self,
        flight: Flight,
        done: DiskDone,
        now: Now,
        then: fn(&mut Self, Flight),
    ) -> Result<Option<DiskDone>, StorageError> {
        match done.result {
            Ok(_) => then(self, flight),
            Err(error) if error.kind.is_want_of_room() => self.full(flight, error.kind, now),
            Err(error) => return Err(StorageError::DeviceFailed(error)),
        }
        Ok(None)
    }

    /// Nothing landed that anybody relies on: the whole file is written anew, beside the old one,
    /// once there is room: in place of the ballast, or when somebody else made some. The place that
    /// failed is never written again.
    fn full(&mut self, flight: Flight, kind: DiskErrorKind, now: Now) {
        if ballast::helps(kind) {
            self.ballast.shed();
        }
        let mut body = flight.body;
        body.append(&mut self.queue);
        self.queue = body;
        self.must_replace = true;
        self.state = State::Full { until: now.monotonic.after(MANIFEST_RETRY) };
    }

    fn complete(&mut self, flight: &Flight) {
        assert!(self.durable < flight.up_to, "tickets become durable once");
        assert!(self.at.is_multiple_of(BLOCK), "chunks are whole blocks");
        self.durable = flight.up_to;
        self.sequence += 1;
        self.chain = flight.chain;
        self.unvouched.push_back((self.sequence, self.durable));
    }

    /// When [`next_op`](Self::next_op) wants to be called even if nothing happens.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        match &self.state {
            State::Full { until } => Some(*until),
            State::Idle | State::Writing(_) | State::Flushing(_) | State::Replacing(_) => None,
        }
    }

    /// Bytes of memory beyond the struct itself, roughly.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let logs = self.image.logs.values();
        let of_logs: usize = logs
            .map(|log| {
                LOG_BYTES + log.segments.heap_bytes() + log.state.len() + log.aborted_bytes()
            })
            .sum();
        of_logs + self.queue.capacity()
    }
}

/// Memory of one log's entry in the image, the tree's overhead included.
const LOG_BYTES: usize = size_of::<super::image::LogImage>() + 48;

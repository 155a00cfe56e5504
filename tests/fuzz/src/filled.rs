//! A data folder that was lived in, and a second life in a copy of it.
//!
//! Does: write, settle, cut, delete and restart once for all inputs of a process; open copies of the
//! folder, read all of them, go on living in them.
//! Does not: damage them; the targets do.
//! Invariants: the folder is the same in every process; everything that was ever written is known.
//! Apart because a target that wrote a folder for each input would do nothing else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::entry::{Entry, HardState, Payload, Records};
use flumen_protocol::ids::{
    LeaderEpoch, LogId, LogIndex, NodeId, Offset, PartitionIndex, Term, TopicId,
};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::{
    LogSettings, ReadAnswer, ReadError, ReadRequest, Recovered, StoreConfig, StoreEvent,
};
use flumen_storage::error::StorageError;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::{Action, DiskOp, FileName, OpId};
use flumen_storage::recovery::open::Opening;
use flumen_storage::sim_disk::SimDisk;
use flumen_storage::store::Store;

use crate::targets::batch::sample;
use crate::targets::headers::IDENTITY;

/// Small files: a copy of the folder is made for every input.
pub const JOURNAL: JournalConfig =
    JournalConfig { file_bytes: 32 << 10, window_bytes: 512 << 10, commits_in_flight: 1 };
const CONFIG: StoreConfig =
    StoreConfig { cache_bytes: 4 << 10, window_bytes: 16 << 10, unsettled_bytes: 1 << 20 };
const NOW: Now = Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) };
/// More operations than any life here needs.
const OPERATIONS_MAX: usize = 20_000;

/// The folder and what was written into it.
#[derive(Clone)]
pub struct Folder {
    /// Its files.
    pub disk: SimDisk,
    /// Their names and lengths.
    pub files: Vec<(FileName, usize)>,
    /// Every batch that was ever written, also those that were cut off later.
    pub written: BTreeMap<(LogId, Offset), Vec<Bytes>>,
}

/// The folder, made once per process.
pub fn folder() -> &'static Folder {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut life =
            Life::begin(SimDisk::new(1), Opening::confirm_clock).expect("a fresh folder");
        life.fill();
        let Life { mut disk, written, .. } = life;
        settle_down(&mut disk);
        let files = disk.all().map(|(name, bytes)| (name, bytes.len())).collect();
        Folder { disk, files, written }
    })
}

/// Everything that was written is on stable media.
fn settle_down(disk: &mut SimDisk) {
    let files: Vec<_> = disk.all().collect();
    for (file, contents) in files {
        let action = Action::Replace { parts: vec![contents] };
        let done = disk.carry_out(DiskOp { id: OpId(0), file, action });
        assert!(done.result.is_ok(), "a disk without limits");
    }
}

/// A log of the folder.
#[must_use]
pub fn log(partition: i32) -> LogId {
    LogId { topic: TopicId([9; 16]), partition: PartitionIndex(partition) }
}

/// A store that lives in a folder.
pub struct Life {
    /// Where it lives.
    pub disk: SimDisk,
    store: Store,
    /// What it found.
    pub recovered: Recovered,
    events: Vec<StoreEvent>,
    written: BTreeMap<(LogId, Offset), Vec<Bytes>>,
    /// The last entry of each log.
    last: BTreeMap<LogId, (LogIndex, Term)>,
    token: u64,
}

impl Life {
    /// Starts on a disk.
    ///
    /// # Errors
    /// Whatever stands in the way of a start.
    pub fn begin(
        mut disk: SimDisk,
        how: impl FnOnce(Opening) -> Opening,
    ) -> Result<Self, StorageError> {
        let mut opening = how(Store::open(CONFIG, JOURNAL, IDENTITY));
        for _ in 0..OPERATIONS_MAX {
            let mut ops = Vec::new();
            opening.next_ops(NOW, &mut ops);
            ops.into_iter().for_each(|op| disk.submit(op));
            let Some(done) = disk.step() else { break };
            opening.on_done(done, NOW)?;
        }
        let (store, recovered) = opening.finish().expect("recovery comes to its end");
        let last_of = |log: &flumen_storage::answers::RecoveredLog| {
            let last = log.entries.last().map(|entry| (entry.index, entry.term));
            (log.log, last.unwrap_or(log.settled))
        };
        let last = recovered.logs.iter().map(last_of).collect();
        let (events, written) = (Vec::new(), BTreeMap::new());
        Ok(Self { disk, store, recovered, events, written, last, token: 0 })
    }

    /// Everything happens that can happen.
    ///
    /// # Errors
    /// What the device did.
    pub fn run(&mut self) -> Result<(), StorageError> {
        for _ in 0..OPERATIONS_MAX {
            let mut ops = Vec::new();
            self.store.next_ops(NOW, &mut ops);
            ops.into_iter().for_each(|op| self.disk.submit(op));
            let Some(done) = self.disk.step() else { return Ok(()) };
            self.store.on_done(done, NOW, &mut self.events)?;
        }
        panic!("the store does not come to rest");
    }

    /// Appends something of the last term to a log.
    fn append(&mut self, log: LogId, payload: Payload) {
        let (index, term) = self.last.get(&log).copied().unwrap_or((LogIndex::ZERO, Term(1)));
        let (index, term) = (index.next(), Term(term.0.max(1)));
        self.last.insert(log, (index, term));
        self.store.append(log, Entry { index, term, payload });
    }

    /// Appends a batch of so many records; gives it back.
    pub fn append_batch(&mut self, log: LogId, records: u8, value_bytes: usize) -> Bytes {
        let base = self.store.end_offset(log).expect("a known log");
        let mut bytes = sample(records, value_bytes);
        let partition = log.partition.0 as u8;
        // No two logs hold the same bytes.
        let end = bytes.len() - 2;
        bytes[end] ^= partition;
        crate::targets::batch::mend(&mut bytes);
        stamp(&mut bytes, base, LeaderEpoch(1));
        let bytes = Bytes::from(bytes);
        self.written.entry((log, base)).or_default().push(bytes.clone());
        self.append(
            log,
            Payload::Records(Records {
                base_offset: base,
                last_offset: base.after(i64::from(records) - 1),
                max_timestamp: 1_000,
                bytes: bytes.clone(),
            }),
        );
        bytes
    }

    fn settle(&mut self, log: LogId) {
        let (last, _) = self.last[&log];
        let state = (last, Bytes::from_static(b"a state"));
        assert!(self.store.begin_settle(log, last, state), "there is something to settle");
        self.run().expect("the disk works");
    }

    fn live(&mut self, rounds: u8) {
        for round in 0..rounds {
            for partition in 0..3 {
                self.append_batch(log(partition), 1 + round % 3, 40 + 37 * usize::from(round));
            }
            self.run().expect("the disk works");
        }
    }

    /// What the folder remembers: settled segments, an index, frames in use and old ones, a cut, a deleted
    /// log, two uses of the journal.
    fn fill(&mut self) {
        let settings = LogSettings { segment_bytes: 6 << 10, ..LogSettings::KEEP_ALL };
        (0..4).for_each(|partition| self.store.create(log(partition), settings));
        self.live(6);
        (0..2).for_each(|partition| self.settle(log(partition)));
        self.append(log(2), Payload::Control(Bytes::from_static(b"control")));
        self.append(log(3), Payload::Empty);
        self.store.save_hard_state(
            log(1),
            HardState { term: Term(1), vote: Some(NodeId(1)), commit: LogIndex(3) },
        );
        self.live(4);
        self.settle(log(0));
        self.restart();
        (0..3).for_each(|partition| self.store.configure(log(partition), settings));
        let (last, _) = self.last[&log(1)];
        self.store.cut_suffix(log(1), last);
        self.last.insert(log(1), (LogIndex(last.0 - 1), Term(2)));
        self.store.delete(log(3));
        self.live(3);
        self.store.set_start_offset(log(0), Offset(7));
        self.run().expect("the disk works");
    }

    fn restart(&mut self) {
        let written = std::mem::take(&mut self.written);
        let disk = self.disk.clone();
        *self = Self::begin(disk, |opening| opening).expect("a sound folder");
        self.written = written;
    }

    /// Reads every log from its start to its end, and gives each batch to `is_right` with its log; what is
    /// damaged is passed over.
    ///
    /// # Panics
    /// When a batch has a wrong checksum, or is not the one asked for.
    pub fn read_all(&mut self, mut is_right: impl FnMut(LogId, &Bytes)) {
        let logs: Vec<LogId> = self.store.logs().collect();
        for log in logs {
            let end = self.store.end_offset(log).expect("a known log");
            let mut next = self.store.start_offset(log).expect("a known log");
            while next < end {
                match self.read(log, next) {
                    Ok(batches) => {
                        assert!(!batches.is_empty(), "{log}: nothing at {next} before {end}");
                        for bytes in batches {
                            assert!(verify_crc(&bytes), "{log}: a wrong checksum at {next}");
                            let header = BatchHeader::parse(&bytes).expect("a batch");
                            assert!(header.base_offset <= next && next <= header.last_offset());
                            is_right(log, &bytes);
                            next = header.last_offset().after(1);
                        }
                    }
                    Err(ReadError::Damaged { from, until, .. }) => {
                        assert!(from <= next && next < until, "{log}: {from}..{until} at {next}");
                        next = until;
                    }
                    Err(error) => panic!("{log} at {next}: {error}"),
                }
            }
        }
    }

    fn read(&mut self, log: LogId, from: Offset) -> Result<Vec<Bytes>, ReadError> {
        self.token += 1;
        let (token, limit) = (self.token, Offset(i64::MAX));
        let request = ReadRequest { from, limit, max_bytes: 2_000, at_least_one: true, token };
        match self.store.read(log, request) {
            ReadAnswer::Ready(batches) => return Ok(batches),
            ReadAnswer::Failed(error) => return Err(error),
            ReadAnswer::Pending => self.run().expect("the disk works"),
        }
        let answer = self.events.iter().find_map(|event| match event {
            StoreEvent::Read { token: of, result } if *of == token => Some(result.clone()),
            _ => None,
        });
        answer.expect("an answer follows")
    }

    /// Logs that take records.
    pub fn taking(&self) -> Vec<LogId> {
        let held = |log: &LogId| {
            let found = self.recovered.logs.iter().find(|found| found.log == *log);
            found.is_none_or(|found| found.held.is_some())
        };
        self.store.logs().filter(|log| !held(log)).collect()
    }

    /// Whether the last entry of a log was reported durable.
    #[must_use]
    pub fn is_durable(&self, log: LogId) -> bool {
        let last = self.last.get(&log).map(|(index, _)| *index);
        self.events.iter().any(|event| match event {
            StoreEvent::Durable { log: of, index } => *of == log && Some(*index) >= last,
            _ => false,
        })
    }
}

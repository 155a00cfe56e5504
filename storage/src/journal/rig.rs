//! A journal on a simulated disk, for tests: append, let time and the disk pass, crash, look.

use std::collections::BTreeSet;

use bytes::Bytes;
use flumen_protocol::entry::{Entry, HardState, Payload};
use flumen_protocol::ids::{CoreId, LogId, LogIndex, NodeId, PartitionIndex, Term, TopicId};
use flumen_protocol::time::{Monotonic, Now, Wall};

use crate::error::StorageError;
use crate::format::node::Identity;
use crate::journal::journal::{Journal, JournalConfig, JournalEvent, JournalStart};
use crate::op::{Action, DiskOp, FileName, OpIds};
use crate::recovery::scan::{JournalScan, Scanner};
use crate::sim_disk::SimDisk;

pub(crate) const IDENTITY: Identity =
    Identity { cluster: [5; 16], node: NodeId(1), core: CoreId(0), incarnation: 1 };

/// Small files, so that tests roll and recycle.
pub(crate) const SMALL: JournalConfig =
    JournalConfig { file_bytes: 64 << 10, window_bytes: 6 * (64 << 10), commits_in_flight: 2 };

pub(crate) fn log(number: i32) -> LogId {
    LogId { topic: TopicId([8; 16]), partition: PartitionIndex(number) }
}

pub(crate) fn entry(index: u64, bytes: impl Into<Bytes>) -> Entry {
    Entry { index: LogIndex(index), term: Term(1), payload: Payload::Control(bytes.into()) }
}

pub(crate) fn hard_state(term: u64) -> HardState {
    HardState { term: Term(term), vote: Some(NodeId(1)), commit: LogIndex::ZERO }
}

pub(crate) struct Rig {
    pub(crate) config: JournalConfig,
    pub(crate) disk: SimDisk,
    pub(crate) journal: Journal,
    pub(crate) events: Vec<JournalEvent>,
    pub(crate) now: Now,
    ids: OpIds,
}

impl Rig {
    pub(crate) fn fresh(config: JournalConfig, seed: u64) -> Self {
        Self {
            config,
            disk: SimDisk::new(seed),
            journal: Journal::new(config, JournalStart::fresh(IDENTITY)),
            events: Vec::new(),
            now: Now { monotonic: Monotonic(0), wall: Wall(0) },
            ids: OpIds::new(),
        }
    }

    /// One turn: the journal issues what is due.
    pub(crate) fn turn(&mut self) -> Vec<DiskOp> {
        let mut ops = Vec::new();
        self.journal.next_ops(self.now, &mut self.ids, &mut ops);
        for op in &ops {
            self.disk.submit(op.clone());
        }
        ops
    }

    /// The disk finishes one operation.
    pub(crate) fn step(&mut self) -> Result<bool, StorageError> {
        let Some(done) = self.disk.step() else { return Ok(false) };
        let left = self.journal.on_done(done, &mut self.events)?;
        assert_eq!(left, None, "every operation was the journal's");
        Ok(true)
    }

    /// Turns and steps until nothing is left to do.
    pub(crate) fn run(&mut self) {
        loop {
            let issued = !self.turn().is_empty();
            let stepped = self.step().expect("no fault was asked for");
            if !issued && !stepped {
                return;
            }
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now.monotonic = Monotonic(self.now.monotonic.0 + seconds * 1_000_000_000);
    }

    pub(crate) fn appended(&mut self, log: LogId, entries: impl Iterator<Item = Entry>) {
        for entry in entries {
            self.journal.append(log, entry);
        }
        self.run();
    }

    /// What a start would find now.
    pub(crate) fn scan(&self) -> Result<JournalScan, StorageError> {
        self.scan_accepting(false)
    }

    pub(crate) fn scan_accepting(&self, accept: bool) -> Result<JournalScan, StorageError> {
        self.scan_after(accept, &BTreeSet::new())
    }

    /// What a start would find after these sequences were accepted as lost.
    pub(crate) fn scan_after(
        &self,
        accept: bool,
        accepted: &BTreeSet<(u64, u64)>,
    ) -> Result<JournalScan, StorageError> {
        let watermark = self.disk.contents(FileName::Watermark).unwrap_or_default();
        let mut scanner = Scanner::new(IDENTITY, self.config, &watermark)?;
        for (name, bytes) in self.disk.all() {
            if let FileName::Journal(slot) = name {
                scanner.feed(slot, bytes)?;
            }
        }
        scanner.finish(accept, accepted)
    }

    /// Goes on after a crash, as the opener does.
    pub(crate) fn restart(&mut self, scan: JournalScan) {
        for file in &scan.to_flush {
            let id = self.ids.next_id();
            let done = self.disk.carry_out(DiskOp { id, file: *file, action: Action::Flush });
            done.result.expect("flush");
        }
        self.journal = Journal::new(self.config, scan.start);
        self.events.clear();
    }
}

//! Stories of logs that change their core.

use std::collections::BTreeMap;

use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::entry::{Entry, HardState, Payload, Records};
use flumen_protocol::ids::{LogIndex, NodeId, Offset, PartitionIndex, Term, TopicId};
use flumen_protocol::time::{Monotonic, Now};

use super::*;
use crate::answers::{LogSettings, ReadAnswer, ReadRequest, Recovered, StoreConfig, StoreEvent};
use crate::journal::journal::JournalConfig;
use crate::op::{Action, DiskOp, OpId};
use crate::sim_disk::SimDisk;
use crate::store::Store;
use crate::testing::sized_batch;

const RECORD: NodeRecord = NodeRecord {
    cluster: [3; 16],
    node: NodeId(1),
    core_count: 2,
    incarnation: 1,
    taking_over: false,
};
const JOURNAL: JournalConfig =
    JournalConfig { file_bytes: 1 << 20, window_bytes: 8 << 20, commits_in_flight: 1 };
const NOW: Now = Now { monotonic: Monotonic(1), wall: Wall(1_000_000) };

fn log(partition: i32) -> LogId {
    LogId { topic: TopicId([9; 16]), partition: PartitionIndex(partition) }
}

fn by_remainder(log: LogId, cores: u16) -> CoreId {
    CoreId(log.partition.0 as u16 % cores)
}

/// A core: its disk and its store.
struct Core {
    disk: SimDisk,
    store: Store,
    recovered: Recovered,
}

impl Core {
    fn open(mut disk: SimDisk, core: u16) -> Self {
        let mut opening = Store::open(StoreConfig::DEFAULT, JOURNAL, RECORD.identity(CoreId(core)));
        let (store, recovered) = loop {
            let mut ops = Vec::new();
            opening.next_ops(NOW, &mut ops);
            ops.into_iter().for_each(|op| disk.submit(op));
            match disk.step() {
                Some(done) => opening.on_done(done, NOW).expect("the disk works"),
                None => break opening.finish().expect("recovery comes to its end"),
            }
        };
        Self { disk, store, recovered }
    }

    fn run(&mut self) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        loop {
            let mut ops = Vec::new();
            self.store.next_ops(NOW, &mut ops);
            ops.into_iter().for_each(|op| self.disk.submit(op));
            let Some(done) = self.disk.step() else { return events };
            self.store.on_done(done, NOW, &mut events).expect("the disk works");
        }
    }

    fn append(&mut self, log: LogId, index: u64) {
        let end = self.store.end_offset(log).expect("a known log");
        let bytes = Bytes::from(sized_batch(end.0, 5, index as i64, 600));
        let last_offset = end.after(4);
        let max_timestamp = index as i64;
        let records = Records { base_offset: end, last_offset, max_timestamp, bytes };
        let entry =
            Entry { index: LogIndex(index), term: Term(2), payload: Payload::Records(records) };
        self.store.append(log, entry);
    }

    fn settle(&mut self, log: LogId, last: u64) {
        let state = (LogIndex(last), Bytes::from(format!("state of {log}")));
        assert!(self.store.begin_settle(log, LogIndex(last), state));
        self.run();
    }

    /// How many batches the whole log gives, in as many reads as it takes.
    fn read(&mut self, log: LogId) -> usize {
        let mut from = self.store.start_offset(log).expect("a known log");
        let end = self.store.end_offset(log).expect("a known log");
        let mut count = 0;
        while from < end {
            let batches = self.read_from(log, from);
            count += batches.len();
            let last = batches.last().and_then(|batch| BatchHeader::parse(batch));
            from = last.expect("something before the end").last_offset().after(1);
        }
        count
    }

    fn read_from(&mut self, log: LogId, from: Offset) -> Vec<Bytes> {
        let limit = Offset(i64::MAX);
        let request = ReadRequest { from, limit, max_bytes: 1 << 20, at_least_one: true, token: 1 };
        match self.store.read(log, request) {
            ReadAnswer::Ready(batches) => batches,
            ReadAnswer::Failed(why) => panic!("{log}: {why}"),
            ReadAnswer::Pending => self
                .run()
                .into_iter()
                .find_map(|event| match event {
                    StoreEvent::Read { result, .. } => Some(result.expect("sound")),
                    _ => None,
                })
                .expect("an answer follows"),
        }
    }
}

/// Old cores with six logs, everything settled; log `n` has 3 + n batches.
fn old_cores(count: u16) -> Vec<Core> {
    let mut cores: Vec<Core> =
        (0..count).map(|core| Core::open(SimDisk::new(u64::from(core)), core)).collect();
    for n in 0..6 {
        let core = &mut cores[usize::from(by_remainder(log(n), count).0)];
        core.store.create(log(n), LogSettings::KEEP_ALL);
        let hard_state = HardState { term: Term(2), vote: Some(NodeId(1)), commit: LogIndex(0) };
        core.store.save_hard_state(log(n), hard_state);
        let last = 3 + n as u64;
        (1..=last).for_each(|index| core.append(log(n), index));
        core.run();
        core.settle(log(n), last);
        core.store.set_start_offset(log(n), Offset(5));
        core.run();
    }
    cores
}

fn put(disk: &mut SimDisk, file: FileName, bytes: Bytes) {
    let action = Action::Replace { parts: vec![bytes] };
    disk.carry_out(DiskOp { id: OpId(0), file, action }).result.expect("the disk has room");
}

/// The new cores, each with its manifest, no journal, and the common folder of segments.
fn new_cores(old: &[Core], count: u16) -> Vec<Core> {
    let record = NodeRecord { core_count: count, ..RECORD };
    let handovers: Vec<Handover> =
        old.iter().map(|core| core.store.hand_over().expect("all is settled")).collect();
    let files = spread(&handovers, &record, by_remainder).expect("manifests");
    assert_eq!(files.len(), usize::from(count));
    (0..count)
        .zip(files)
        .map(|(core, manifest)| {
            let mut disk = SimDisk::new(7);
            for (name, bytes) in old.iter().flat_map(|core| core.disk.all()) {
                if matches!(name, FileName::Segment { .. } | FileName::Index { .. }) {
                    put(&mut disk, name, bytes);
                }
            }
            put(&mut disk, FileName::Manifest, manifest);
            Core::open(disk, core)
        })
        .collect()
}

#[test]
fn every_log_comes_with_all_that_was_known_of_it() {
    for (before, after) in [(2, 1), (2, 3), (1, 4)] {
        let old = old_cores(before);
        let known: BTreeMap<LogId, _> = old
            .iter()
            .flat_map(|core| core.store.logs().map(|log| (log, core.store.settled(log))))
            .collect();
        let mut new = new_cores(&old, after);
        for n in 0..6 {
            let place = usize::from(by_remainder(log(n), after).0);
            let elsewhere = new.iter().filter(|core| core.store.logs().any(|l| l == log(n)));
            assert_eq!(elsewhere.count(), 1, "one core has it");
            let core = &mut new[place];
            let found = core.recovered.logs.iter().find(|found| found.log == log(n));
            let found = found.expect("recovered by its core").clone();
            assert_eq!(Some(found.settled), known[&log(n)]);
            assert_eq!(found.hard_state.term, Term(2));
            assert_eq!(found.hard_state.vote, Some(NodeId(1)));
            assert_eq!(found.start_offset, Offset(5));
            assert_eq!(found.settled_end, Offset(5 * (3 + i64::from(n))));
            assert_eq!(found.state.1, format!("state of {}", log(n)));
            assert_eq!(found.entries, []);
            assert_eq!(core.read(log(n)), 2 + n as usize, "the batches from offset 5 on");
            // Life goes on where it was.
            core.append(log(n), 4 + n as u64);
            core.run();
            assert_eq!(core.read(log(n)), 3 + n as usize);
            core.settle(log(n), 4 + n as u64);
        }
        for (core, number) in new.into_iter().zip(0..) {
            let logs = core.recovered.logs.len();
            let again = Core::open(core.disk, number);
            assert_eq!(again.recovered.logs.len(), logs, "and is found by the next start");
        }
    }
}

#[test]
fn what_only_the_journal_holds_is_not_handed_over() {
    let mut core = Core::open(SimDisk::new(1), 0);
    core.store.create(log(0), LogSettings::KEEP_ALL);
    core.append(log(0), 1);
    core.run();
    assert_eq!(core.store.hand_over().map(|_| ()), Err(log(0)));
    core.settle(log(0), 1);
    assert!(core.store.hand_over().is_ok());
}

#[test]
fn a_log_of_two_cores_stops_the_change() {
    let old = old_cores(1);
    let twice = [old[0].store.hand_over().unwrap(), old[0].store.hand_over().unwrap()];
    let refused = spread(&twice, &RECORD, by_remainder).expect_err("one log, two owners");
    assert!(refused.to_string().contains("two cores have"), "{refused}");
}

#[test]
fn a_deleted_log_leaves_no_trace_and_its_files_are_gone_before() {
    let mut old = old_cores(1);
    old[0].store.delete(log(2));
    old[0].run();
    let new = new_cores(&old, 2);
    assert!(new.iter().all(|core| core.store.logs().all(|l| l != log(2))));
    let of_it = |name: &FileName| matches!(name, FileName::Segment { log: l, .. } if *l == log(2));
    assert!(!new[0].disk.all().any(|(name, _)| of_it(&name)));
}

#[test]
fn a_doubted_clock_is_doubted_by_the_new_cores() {
    let old = old_cores(1);
    let mut earlier = old[0].store.hand_over().unwrap();
    earlier.written = Some(Wall(NOW.wall.0 + 3_600_000 * 48));
    let files = spread(&[earlier], &NodeRecord { core_count: 1, ..RECORD }, by_remainder);
    let mut disk = SimDisk::new(1);
    put(&mut disk, FileName::Manifest, files.unwrap()[0].clone());
    let mut core = Core::open(disk, 0);
    core.store.retention(log(0), NOW, Offset(0));
    assert!(core.store.is_clock_doubted());
}

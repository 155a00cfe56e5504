//! Stories of a store on a disk that forgets what a real one may forget.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::entry::{Payload, Records};
use flumen_protocol::ids::{CoreId, NodeId, PartitionIndex, TopicId};

use super::*;
use crate::answers::{
    ReadAnswer, ReadError, ReadRequest, RecoveredLog, TimeAnswer, TimeQuery, TimedRecord,
};
use crate::error::DiskErrorKind;
use crate::inspect::{Depth, Inspection};
use crate::io::directory::prepare_root;
use crate::io::driver::Driver;
use crate::op::{Action, FileName, Generation, OpId};
use crate::sim_disk::{Dice, Fault, SimDisk};
use crate::testing::sized_batch;

const IDENTITY: Identity =
    Identity { cluster: [3; 16], node: NodeId(1), core: CoreId(0), incarnation: 1 };
const JOURNAL: JournalConfig =
    JournalConfig { file_bytes: 1 << 20, window_bytes: 8 << 20, commits_in_flight: 1 };
mod cleaning;
mod damage;

const HOUR: Duration = Duration::from_secs(3600);

fn log(partition: i32) -> LogId {
    LogId { topic: TopicId([9; 16]), partition: PartitionIndex(partition) }
}

fn small_segments() -> LogSettings {
    LogSettings { segment_bytes: 300 << 10, ..LogSettings::KEEP_ALL }
}

/// A store, its disk, and what was put into it.
struct World {
    disk: SimDisk,
    store: Store,
    now: Now,
    config: StoreConfig,
    events: Vec<StoreEvent>,
    recovered: Vec<RecoveredLog>,
    report: Vec<String>,
    /// Every entry of every log, in order of index.
    written: BTreeMap<LogId, Vec<Entry>>,
    /// What logs held before their suffix was cut, since the last start.
    earlier: BTreeMap<LogId, Vec<Vec<Entry>>>,
    /// What was reported durable and not cut since.
    durable: BTreeMap<LogId, u64>,
    term: Term,
    next_token: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = StoreConfig { cache_bytes: 256 << 10, ..StoreConfig::DEFAULT };
        Self::with(seed, config)
    }

    fn with(seed: u64, config: StoreConfig) -> Self {
        let now = Now { monotonic: Monotonic(1), wall: Wall(1_000_000) };
        let mut disk = SimDisk::new(seed);
        let (store, recovered) = open(&mut disk, config, now).expect("a fresh disk opens");
        assert_eq!(recovered.logs, []);
        Self {
            disk,
            store,
            now,
            config,
            events: Vec::new(),
            recovered: Vec::new(),
            report: Vec::new(),
            written: BTreeMap::new(),
            earlier: BTreeMap::new(),
            durable: BTreeMap::new(),
            term: Term(1),
            next_token: 0,
        }
    }

    /// Carries out up to `steps` operations; says how many.
    fn turn(&mut self, steps: usize) -> usize {
        for step in 0..steps {
            let mut ops = Vec::new();
            self.store.next_ops(self.now, &mut ops);
            ops.into_iter().for_each(|op| self.disk.submit(op));
            let Some(done) = self.disk.step() else { return step };
            self.store.on_done(done, self.now, &mut self.events).expect("the disk works");
        }
        steps
    }

    fn run(&mut self) {
        assert!(self.turn(100_000) < 100_000, "the store comes to rest");
    }

    fn create(&mut self, log: LogId, settings: LogSettings) {
        self.store.create(log, settings);
        self.written.entry(log).or_default();
    }

    fn append(&mut self, log: LogId, payload: impl FnOnce(Offset) -> Payload) {
        let end = self.store.end_offset(log).expect("a known log");
        let written = self.written.get_mut(&log).expect("a known log");
        let index = LogIndex(written.len() as u64 + 1);
        let entry = Entry { index, term: self.term, payload: payload(end) };
        written.push(entry.clone());
        self.store.append(log, entry);
    }

    /// A batch of five records with this timestamp, about `size` bytes.
    fn append_batch(&mut self, log: LogId, timestamp: i64, size: usize) {
        self.append(log, |end| batch_payload(end, timestamp, size));
    }

    /// A leader of a later term orders something else at `from`.
    fn cut(&mut self, log: LogId, from: u64) {
        self.note_durable();
        let written = self.written.get_mut(&log).expect("a known log");
        self.earlier.entry(log).or_default().push(written.clone());
        written.truncate(from as usize - 1);
        if let Some(durable) = self.durable.get_mut(&log) {
            *durable = (*durable).min(from - 1);
        }
        self.store.cut_suffix(log, LogIndex(from));
        self.term = Term(self.term.0 + 1);
        self.append_batch(log, 5, 700);
    }

    fn note_durable(&mut self) {
        for event in &self.events {
            match event {
                StoreEvent::Durable { log, index } => drop(self.durable.insert(*log, index.0)),
                StoreEvent::Deleted { log } => drop(self.durable.remove(log)),
                _ => {}
            }
        }
        self.events.clear();
    }

    /// Settles everything the log has, as one job or many.
    fn settle(&mut self, log: LogId) {
        self.run();
        let last = LogIndex(self.written[&log].len() as u64);
        while self.store.settled(log).expect("a known log").0 < last {
            let state = (last, Bytes::from(format!("state at {last}")));
            assert!(self.store.begin_settle(log, last, state), "there is something to settle");
            self.run();
        }
    }

    fn read_from(
        &mut self,
        log: LogId,
        from: i64,
        max_bytes: u32,
    ) -> Result<Vec<Bytes>, ReadError> {
        self.next_token += 1;
        let token = self.next_token;
        let (from, limit) = (Offset(from), Offset(i64::MAX));
        let request = ReadRequest { from, limit, max_bytes, at_least_one: true, token };
        match self.store.read(log, request) {
            ReadAnswer::Ready(batches) => Ok(batches),
            ReadAnswer::Failed(error) => Err(error),
            ReadAnswer::Pending => {
                self.run();
                self.events
                    .iter()
                    .find_map(|event| match event {
                        StoreEvent::Read { token: of, result } if *of == token => {
                            Some(result.clone())
                        }
                        _ => None,
                    })
                    .expect("an answer follows")
            }
        }
    }

    fn find_time(&mut self, log: LogId, query: TimeQuery) -> Option<TimedRecord> {
        self.find_time_below(log, query, i64::MAX)
    }

    fn find_time_below(&mut self, log: LogId, query: TimeQuery, limit: i64) -> Option<TimedRecord> {
        self.next_token += 1;
        let token = self.next_token;
        match self.store.find_time(log, query, Offset(limit), 1 << 20, token) {
            TimeAnswer::Ready(found) => found,
            TimeAnswer::Failed(error) => panic!("{error}"),
            TimeAnswer::Pending => {
                self.run();
                let found = self.events.iter().find_map(|event| match event {
                    StoreEvent::TimeFound { token: of, result } if *of == token => Some(*result),
                    _ => None,
                });
                found.expect("an answer follows").expect("a sound disk")
            }
        }
    }

    /// Reads the whole log and gives the ranges that are refused as damaged; everything else must
    /// be what was written.
    fn damage_of(&mut self, log: LogId) -> Vec<(i64, i64)> {
        let end = self.store.end_offset(log).expect("a known log").0;
        let written: BTreeMap<i64, Bytes> = self.written[&log]
            .iter()
            .filter_map(|entry| match &entry.payload {
                Payload::Records(records) => Some((records.base_offset.0, records.bytes.clone())),
                Payload::Empty | Payload::Control(_) => None,
            })
            .collect();
        let mut next = self.store.start_offset(log).expect("a known log").0;
        let mut damaged = Vec::new();
        while next < end {
            match self.read_from(log, next, 1 << 20) {
                Ok(batches) => {
                    assert!(!batches.is_empty(), "nothing at {next} before the end {end}");
                    for bytes in batches {
                        let header = flumen_protocol::batch::header::BatchHeader::parse(&bytes);
                        assert_eq!(written.get(&next), Some(&bytes), "at {next}");
                        next = header.expect("a batch").last_offset().0 + 1;
                    }
                }
                Err(ReadError::Damaged { from, until, .. }) => {
                    assert!(from.0 <= next && next < until.0);
                    match damaged.last_mut() {
                        Some((_, last)) if *last == from.0 => *last = until.0,
                        _ => damaged.push((from.0, until.0)),
                    }
                    next = until.0;
                }
                Err(error) => panic!("{next}: {error}"),
            }
        }
        damaged
    }

    /// Where the batches of a log lie in a segment that has all of them.
    fn places(&self, log: LogId) -> Vec<std::ops::Range<u64>> {
        let mut at = 0;
        let mut places = Vec::new();
        for entry in &self.written[&log] {
            if let Payload::Records(records) = &entry.payload {
                places.push(at..at + records.bytes.len() as u64);
                at += records.bytes.len() as u64;
            }
        }
        places
    }

    /// Reads the whole log in steps and compares it with what was written.
    fn assert_readable(&mut self, log: LogId, max_bytes: u32) {
        let start = self.store.start_offset(log).expect("a known log").0;
        let end = self.store.end_offset(log).expect("a known log").0;
        let mut next = start;
        let mut read = Vec::new();
        while next < end {
            let batches = self.read_from(log, next, max_bytes).expect("a sound disk");
            assert!(!batches.is_empty(), "{log}: nothing at {next} before the end {end}");
            for bytes in batches {
                let header = flumen_protocol::batch::header::BatchHeader::parse(&bytes);
                next = header.expect("a batch").last_offset().0 + 1;
                read.push(bytes);
            }
        }
        let written = self.written[&log].iter().filter_map(|entry| match &entry.payload {
            Payload::Records(records) => Some(records),
            Payload::Empty | Payload::Control(_) => None,
        });
        let expected: Vec<Bytes> =
            written.filter(|r| r.last_offset.0 >= start).map(|r| r.bytes.clone()).collect();
        assert!(read == expected, "{log}: {} batches of {}", read.len(), expected.len());
    }

    fn restart(&mut self) {
        let (store, recovered) =
            open(&mut self.disk, self.config, self.now).expect("the disk opens");
        self.store = store;
        self.recovered = recovered.logs;
        self.report = recovered.report;
        self.events.clear();
    }

    /// Bytes of all files.
    fn used(&self) -> u64 {
        self.disk.all().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn files_of(&self, log: LogId) -> Vec<FileName> {
        let of_log = |name: &FileName| match name {
            FileName::Segment { log: of, .. } | FileName::Index { log: of, .. } => *of == log,
            _ => false,
        };
        self.disk.all().map(|(name, _)| name).filter(of_log).collect()
    }

    /// What an inspection of the disk says.
    fn inspect(&mut self, depth: Depth) -> Vec<String> {
        let mut inspection = Inspection::new(IDENTITY, JOURNAL, depth);
        let mut lines = Vec::new();
        while !inspection.is_over() {
            let mut ops = Vec::new();
            inspection.next_ops(&mut ops);
            ops.into_iter().for_each(|op| inspection.on_done(self.disk.carry_out(op)));
            lines.extend(inspection.take_lines());
        }
        lines
    }
}

fn batch_payload(end: Offset, timestamp: i64, size: usize) -> Payload {
    let bytes = Bytes::from(sized_batch(end.0, 5, timestamp, size / 5));
    let (base_offset, last_offset) = (end, end.after(4));
    Payload::Records(Records { base_offset, last_offset, max_timestamp: timestamp, bytes })
}

fn open(
    disk: &mut SimDisk,
    config: StoreConfig,
    now: Now,
) -> Result<(Store, crate::answers::Recovered), StorageError> {
    finish(disk, Store::open(config, JOURNAL, IDENTITY), now)
}

fn finish(
    disk: &mut SimDisk,
    mut opening: Opening,
    now: Now,
) -> Result<(Store, crate::answers::Recovered), StorageError> {
    loop {
        let mut ops = Vec::new();
        opening.next_ops(now, &mut ops);
        ops.into_iter().for_each(|op| disk.submit(op));
        if let Some(done) = disk.step() {
            opening.on_done(done, now)?;
        } else {
            return Ok(opening.finish().expect("recovery comes to its end"));
        }
    }
}

#[test]
fn appended_settled_restarted_and_all_of_it_readable() {
    let mut world = World::new(1);
    world.create(log(0), small_segments());
    world.append(log(0), |_| Payload::Empty);
    for n in 0..120 {
        world.append_batch(log(0), n, 10_000);
    }
    world.assert_readable(log(0), 50_000);
    world.settle(log(0));
    world.append(log(0), |_| Payload::Control(Bytes::from_static(b"control")));
    world.append_batch(log(0), 500, 10_000);
    world.assert_readable(log(0), 50_000);
    assert!(world.files_of(log(0)).len() >= 8, "several segments with their indexes");
    world.run();

    world.restart();
    let recovered = &world.recovered[0];
    assert_eq!(recovered.settled, (LogIndex(121), Term(1)));
    assert_eq!(recovered.state, (LogIndex(121), Bytes::from_static(b"state at 121")));
    assert_eq!(recovered.entries[..], world.written[&log(0)][121..]);
    assert_eq!(recovered.held, None);
    for max_bytes in [1, 30_000, 1 << 20] {
        world.assert_readable(log(0), max_bytes);
    }
    world.store.configure(log(0), small_segments());
    for n in 0..40 {
        world.append_batch(log(0), n, 3_333);
    }
    world.settle(log(0));
    world.restart();
    world.assert_readable(log(0), 100_000);
}

#[test]
fn a_log_weighs_the_same_before_and_after_it_is_settled() {
    let mut world = World::new(1);
    world.create(log(0), small_segments());
    world.append(log(0), |_| Payload::Empty);
    assert_eq!(world.store.log_bytes(log(0)), Some(0));
    for n in 0..60 {
        world.append_batch(log(0), n, 10_000);
    }
    let written = world.written[&log(0)].iter().map(|entry| match &entry.payload {
        Payload::Records(records) => records.bytes.len() as u64,
        Payload::Empty | Payload::Control(_) => 0,
    });
    let bytes = Some(written.sum());
    assert_eq!(world.store.log_bytes(log(0)), bytes);
    world.settle(log(0));
    assert_eq!(world.store.log_bytes(log(0)), bytes);
    assert_eq!(world.store.log_bytes(log(1)), None);
}

#[test]
fn settling_in_small_steps_rewrites_the_last_block_and_loses_nothing() {
    for reopen in [false, true] {
        let mut world = World::new(2);
        world.create(log(0), small_segments());
        for n in 0..200 {
            world.append_batch(log(0), n, 500 + 37 * n as usize);
            if n % 7 == 0 {
                world.settle(log(0));
            }
            if reopen && n % 20 == 0 {
                world.run();
                world.restart();
                world.store.configure(log(0), small_segments());
            }
        }
        world.settle(log(0));
        world.restart();
        world.assert_readable(log(0), 64 << 10);
    }
}

/// How many operations it takes to settle one more batch.
fn cost_of_a_settle(world: &mut World, log: LogId) -> usize {
    world.append_batch(log, 1, 700);
    world.run();
    let last = LogIndex(world.written[&log].len() as u64);
    assert!(world.store.begin_settle(log, last, (last, Bytes::new())));
    world.turn(100_000)
}

#[test]
fn an_index_is_cut_back_once_in_a_process_however_many_logs_there_are() {
    let mut world = World::new(1);
    let others = crate::limits::WARM_LOGS_MAX as i32;
    for n in 0..=others {
        world.create(log(n), LogSettings::KEEP_ALL);
        world.append_batch(log(n), 1, 700);
        world.settle(log(n));
    }
    let (cold, warm) =
        (cost_of_a_settle(&mut world, log(0)), cost_of_a_settle(&mut world, log(others)));
    assert_eq!(cold, warm + 1, "the end of the segment is read, as it is not kept any more");
    world.restart();
    world.create(log(0), LogSettings::KEEP_ALL);
    assert_eq!(
        cost_of_a_settle(&mut world, log(0)),
        cold + 1,
        "another process may have left something"
    );
}

#[test]
fn at_least_one_batch_and_never_half_of_one() {
    let mut world = World::new(3);
    world.create(log(0), LogSettings::KEEP_ALL);
    for n in 0..3 {
        world.append_batch(log(0), n, 400_000);
    }
    world.settle(log(0));
    world.restart();
    let batches = world.read_from(log(0), 7, 1).expect("sound");
    assert_eq!(batches.len(), 1);
    let limits = |limit, max_bytes, at_least_one| ReadRequest {
        from: Offset(0),
        limit: Offset(limit),
        max_bytes,
        at_least_one,
        token: 0,
    };
    assert_eq!(world.store.read(log(0), limits(0, 99, true)), ReadAnswer::Ready(Vec::new()));
    assert_eq!(world.store.read(log(0), limits(4, 1 << 20, true)), ReadAnswer::Pending);
    assert_eq!(world.store.read(log(0), limits(15, 99, false)), ReadAnswer::Pending);
    world.run();
    let empty = |event: &&StoreEvent| matches!(event, StoreEvent::Read { token: 0, result: Ok(batches) } if batches.is_empty());
    assert_eq!(world.events.iter().filter(empty).count(), 2, "below the limit and the size: none");
    let range = ReadError::OutOfRange { start: Offset(0), end: Offset(15) };
    assert_eq!(world.read_from(log(0), 16, 1), Err(range));
    assert_eq!(world.read_from(log(0), 15, 1), Ok(Vec::new()));
    assert_eq!(world.read_from(log(5), 0, 1), Err(ReadError::UnknownLog));
}

#[test]
fn many_readers_of_one_place_cost_one_read() {
    let mut world = World::new(4);
    world.create(log(0), LogSettings::KEEP_ALL);
    (0..20).for_each(|n| world.append_batch(log(0), n, 20_000));
    world.settle(log(0));
    world.restart();
    world.run();
    for token in 0..10 {
        let (from, limit) = (Offset(0), Offset(100));
        let request = ReadRequest { from, limit, max_bytes: 50_000, at_least_one: true, token };
        assert_eq!(world.store.read(log(0), request), ReadAnswer::Pending);
    }
    assert_eq!(world.turn(100), 2, "the index and one extent");
    let answers = world.events.iter().filter(|e| matches!(e, StoreEvent::Read { .. })).count();
    assert_eq!(answers, 10);
    assert!(world.read_from(log(0), 50, 1).is_ok(), "read ahead");
    assert_eq!(world.turn(100), 0);
}

#[test]
fn a_lost_or_garbled_index_is_learnt_again() {
    let mut world = World::new(5);
    world.create(log(0), small_segments());
    (0..120).for_each(|n| world.append_batch(log(0), n, 10_000));
    world.settle(log(0));
    for way in 0..3 {
        world.restart();
        for name in world.files_of(log(0)) {
            let (id, action) = (OpId(0), Action::Flush);
            world.disk.carry_out(DiskOp { id, file: name, action }).result.expect("flushed");
            if let FileName::Index { .. } = name {
                match way {
                    0 => world.disk.flip_bit(name, 3, 0),
                    1 => world.disk.overwrite(name, 0, &[0xff; 4096]),
                    _ => world.disk.shorten(name, None),
                }
            }
        }
        world.assert_readable(log(0), 40_000);
        let found = world.find_time(log(0), TimeQuery::AtOrAfter(77));
        assert_eq!(found.map(|r| (r.offset, r.timestamp)), Some((Offset(77 * 5), 77)));
    }
}

#[test]
fn a_rotten_batch_is_refused_and_the_rest_is_served() {
    for with_index in [true, false] {
        let mut world = World::new(6);
        world.create(log(0), LogSettings::KEEP_ALL);
        (0..30).for_each(|n| world.append_batch(log(0), n, 10_000));
        world.settle(log(0));
        world.restart();
        let segment =
            FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
        let size = match &world.written[&log(0)][0].payload {
            Payload::Records(records) => records.bytes.len() as u64,
            Payload::Empty | Payload::Control(_) => 0,
        };
        world.disk.flip_bit(segment, size * 3 + 1000, 4);
        if !with_index {
            world.disk.shorten(
                FileName::Index { log: log(0), base: Offset(0), generation: Generation::APPENDED },
                None,
            );
        }
        assert_eq!(world.read_from(log(0), 0, 1 << 20).expect("sound").len(), 3);
        let (from, until) = (Offset(15), Offset(20));
        let damaged = ReadError::Damaged { log: log(0), from, until };
        assert_eq!(world.read_from(log(0), 17, 1 << 20), Err(damaged));
        assert!(world.read_from(log(0), 20, 1 << 20).expect("sound").len() > 1);
    }
}

/// A log of one segment: batches of 10 kB, and one that no first read holds.
fn one_segment(seed: u64) -> World {
    let mut world = World::new(seed);
    world.create(log(0), LogSettings::KEEP_ALL);
    for n in 0..80 {
        world.append_batch(log(0), n, if n == 40 { 600_000 } else { 10_000 });
    }
    world.settle(log(0));
    world.restart();
    world
}

/// The same, but the index is lost.
fn without_index(seed: u64) -> World {
    let mut world = one_segment(seed);
    world.disk.shorten(
        FileName::Index { log: log(0), base: Offset(0), generation: Generation::APPENDED },
        None,
    );
    world
}

#[test]
fn rot_costs_one_batch_wherever_it_lies_in_a_segment_without_index() {
    let world = without_index(6);
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    for (n, place) in world.places(log(0)).into_iter().enumerate().step_by(4) {
        for at in [8, 10, 1000] {
            let (disk, written) = (world.disk.clone(), world.written.clone());
            let mut world = World { disk, written, ..World::new(7) };
            world.restart();
            world.disk.flip_bit(segment, place.start + at, 2);
            let lost = 5 * n as i64..5 * n as i64 + 5;
            assert_eq!(world.damage_of(log(0)), [(lost.start, lost.end)], "byte {at} of {n}");
        }
    }
}

#[test]
fn an_unreadable_block_costs_the_batches_that_touch_it() {
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    for make in [one_segment, without_index] {
        let world = make(6);
        let places = world.places(log(0));
        let blocks = places.last().expect("some").end / 4096;
        for block in (0..blocks).step_by(13) {
            let (disk, written) = (world.disk.clone(), world.written.clone());
            let mut world = World { disk, written, ..World::new(7) };
            world.restart();
            let bad = block * 4096..(block + 1) * 4096;
            world.disk.inject(Fault::Unreadable(segment, bad.start));
            let is_hit =
                |place: &std::ops::Range<u64>| place.start < bad.end && bad.start < place.end;
            let hit: Vec<i64> =
                (0..).zip(&places).filter(|(_, p)| is_hit(p)).map(|(n, _)| n).collect();
            let lost = (hit[0] * 5, hit[hit.len() - 1] * 5 + 5);
            assert_eq!(world.damage_of(log(0)), [lost], "block {block}");
            world.store.reader.forget_before(log(0), Offset(400));
            assert_eq!(world.damage_of(log(0)), [lost], "block {block}, from what is known by now");
        }
    }
}

#[test]
fn a_garbled_read_is_read_again_with_an_index_and_without() {
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    for make in [one_segment, without_index] {
        let mut world = make(6);
        world.disk.inject(Fault::GarbleRead(segment));
        assert_eq!(world.damage_of(log(0)), []);
        assert!(!world.disk.awaits(Fault::GarbleRead(segment)), "it was met");
    }
}

#[test]
fn a_segment_cut_short_is_readable_up_to_there() {
    for make in [one_segment, without_index] {
        let mut world = make(6);
        let places = world.places(log(0));
        let segment =
            FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
        world.disk.carry_out(DiskOp { id: OpId(0), file: segment, action: Action::Flush });
        world.disk.shorten(segment, Some(places[30].end - 1));
        assert_eq!(world.damage_of(log(0)), [(150, 400)]);
    }
}

#[test]
fn a_dead_device_costs_a_bounded_number_of_reads() {
    let mut world = without_index(6);
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    let blocks = world.places(log(0)).last().expect("some").end.div_ceil(4096);
    (0..blocks).for_each(|block| world.disk.inject(Fault::Unreadable(segment, block * 4096)));
    let request = ReadRequest {
        from: Offset(0),
        limit: Offset(400),
        max_bytes: 1,
        at_least_one: true,
        token: 0,
    };
    assert_eq!(world.store.read(log(0), request), ReadAnswer::Pending);
    let steps = world.turn(1000);
    assert!(steps < 60, "{steps} reads");
    assert_eq!(world.damage_of(log(0)), [(0, 400)]);
}

#[test]
fn what_cannot_be_read_now_is_not_called_damaged() {
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    let index = FileName::Index { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    let kinds = [DiskErrorKind::NoDescriptors, DiskErrorKind::Denied, DiskErrorKind::Io(12)];
    for (make, file) in
        [(one_segment as fn(_) -> _, index), (one_segment, segment), (without_index, segment)]
    {
        let mut world = make(6);
        for kind in kinds {
            world.restart();
            world.disk.inject(Fault::Fail(file, kind));
            let (log, from, kind) = (log(0), Offset(100), Some(kind));
            let unavailable = ReadError::Unavailable { log, from, kind };
            assert_eq!(world.read_from(log, 100, 1), Err(unavailable));
            assert_eq!(world.damage_of(log), []);
        }
    }
    let mut world = one_segment(6);
    world.disk.inject(Fault::Fail(index, DiskErrorKind::Io(5)));
    assert_eq!(world.damage_of(log(0)), [], "an unreadable index is learnt again");
}

/// Begins to read the log and stops where the disk has the answer to the `nth` operation for that;
/// the answer is not taken in yet.
fn begin_read(world: &mut World, log: LogId, nth: usize) -> DiskDone {
    let (from, limit) = (Offset(0), Offset(i64::MAX));
    let request = ReadRequest { from, limit, max_bytes: 1 << 20, at_least_one: true, token: 77 };
    assert_eq!(world.store.read(log, request), ReadAnswer::Pending);
    for n in 0.. {
        let mut ops = Vec::new();
        world.store.next_ops(world.now, &mut ops);
        let done = world.disk.carry_out(ops.pop().expect("a read"));
        assert_eq!(ops, []);
        if n == nth {
            return done;
        }
        world.store.on_done(done, world.now, &mut world.events).expect("the disk works");
    }
    unreachable!("it ends at the nth")
}

fn end_read(world: &mut World, done: DiskDone) -> Result<Vec<Bytes>, ReadError> {
    world.events.clear();
    world.store.on_done(done, world.now, &mut world.events).expect("the disk works");
    world.run();
    match world.events.pop() {
        Some(StoreEvent::Read { token: 77, result }) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_under_way_never_brings_anything_of_a_deleted_log_into_a_new_one() {
    let config = StoreConfig { cache_bytes: 0, ..StoreConfig::DEFAULT };
    for nth in [0, 1] {
        for without_index in [false, true] {
            let mut world = World::with(9, config);
            world.create(log(0), small_segments());
            (0..50).for_each(|n| world.append_batch(log(0), n, 10_000));
            world.settle(log(0));
            world.restart();
            world.run();
            if without_index {
                let index = FileName::Index {
                    log: log(0),
                    base: Offset(0),
                    generation: Generation::APPENDED,
                };
                world.disk.shorten(index, None);
            }
            let done = begin_read(&mut world, log(0), nth);
            world.store.delete(log(0));
            world.run();
            assert!(world.events.contains(&StoreEvent::Deleted { log: log(0) }));
            world.written.remove(&log(0));
            world.create(log(0), small_segments());
            (0..50).for_each(|n| world.append_batch(log(0), 1000 + n, 9_000));
            world.settle(log(0));
            assert_eq!(end_read(&mut world, done), Err(ReadError::UnknownLog));
            assert_eq!(world.damage_of(log(0)), []);
        }
    }
}

#[test]
fn a_read_of_what_retention_deletes_meanwhile_is_out_of_range_and_not_damaged() {
    for nth in [0, 1] {
        let mut world = World::with(9, StoreConfig { cache_bytes: 0, ..StoreConfig::DEFAULT });
        world.create(log(0), small_segments());
        (0..90).for_each(|n| world.append_batch(log(0), n, 10_000));
        world.settle(log(0));
        world.restart();
        world.run();
        let settings = LogSettings { retention_bytes: Some(400_000), ..small_segments() };
        // The answer may be what the file held, or that there is none.
        for is_there in [true, false] {
            let mut world = World { disk: world.disk.clone(), ..World::with(9, world.config) };
            world.restart();
            world.run();
            world.store.configure(log(0), settings);
            let mut done = begin_read(&mut world, log(0), nth);
            let start = world.store.retention(log(0), world.now, Offset(450)).expect("too much");
            world.run();
            if !is_there {
                let file = FileName::Segment {
                    log: log(0),
                    base: Offset(0),
                    generation: Generation::APPENDED,
                };
                let (kind, action) = (DiskErrorKind::NotFound, "read");
                done.result = Err(crate::error::DiskError { kind, file, action });
            }
            let range = ReadError::OutOfRange { start, end: Offset(450) };
            assert_eq!(end_read(&mut world, done), Err(range));
        }
    }
}

#[test]
fn records_are_found_by_time() {
    let mut world = World::new(7);
    world.create(log(0), small_segments());
    let times = [50, 40, 70, 60, 90, 80];
    for round in 0..10 {
        times.iter().for_each(|t| world.append_batch(log(0), round * 100 + t, 10_000));
    }
    world.settle(log(0));
    world.append_batch(log(0), 2_000, 1_000);
    world.append_batch(log(0), 1_500, 1_000);
    for restarted in [false, true] {
        let mut at = |t| world.find_time(log(0), TimeQuery::AtOrAfter(t)).map(|r| r.offset.0);
        assert_eq!(at(0), Some(0));
        assert_eq!(at(51), Some(10));
        assert_eq!(at(80), Some(20));
        assert_eq!(at(541), Some((5 * 6) * 5));
        assert_eq!(at(551), Some((5 * 6 + 2) * 5));
        assert_eq!(at(991), Some(60 * 5));
        assert_eq!(at(2_001), None);
        let largest = world.find_time(log(0), TimeQuery::Largest).expect("there is one");
        assert_eq!((largest.offset, largest.timestamp), (Offset(300), 2_000));
        assert_eq!(largest.epoch, flumen_protocol::ids::LeaderEpoch(1));
        if !restarted {
            world.run();
            world.restart();
        }
    }
}

#[test]
fn the_largest_timestamp_is_that_of_the_records_still_there() {
    let config = StoreConfig { cache_bytes: 0, ..StoreConfig::DEFAULT };
    let mut seed = 0;
    for (start, limit) in
        [(0, 500), (7, 500), (12, 500), (255, 500), (390, 500), (7, 255), (12, 14)]
    {
        for in_memory in [true, false] {
            for with_index in [true, false] {
                seed += 1;
                let mut world =
                    if in_memory { World::new(seed) } else { World::with(seed, config) };
                world.create(log(0), small_segments());
                let mut dice = Dice::new(seed);
                // The first batches are the youngest.
                let times: Vec<i64> =
                    (0..100).map(|n| 1000 - n * 5 + dice.below(20) as i64).collect();
                times[..80].iter().for_each(|time| world.append_batch(log(0), *time, 10_000));
                world.settle(log(0));
                times[80..].iter().for_each(|time| world.append_batch(log(0), *time, 10_000));
                world.run();
                world.store.set_start_offset(log(0), Offset(start));
                world.run();
                if !in_memory {
                    world.restart();
                }
                if !with_index {
                    for name in world.files_of(log(0)) {
                        if let FileName::Index { .. } = name {
                            world.disk.shorten(name, None);
                        }
                    }
                }
                let there = times.iter().enumerate().filter(|(n, _)| {
                    let last = *n as i64 * 5 + 4;
                    last >= start && last < limit
                });
                let first = there.rev().max_by_key(|(_, time)| **time);
                let expected = first.map(|(n, time)| (start.max(n as i64 * 5), *time));
                let found = world.find_time_below(log(0), TimeQuery::Largest, limit);
                let found = found.map(|record| (record.offset.0, record.timestamp));
                assert_eq!(found, expected, "{start}..{limit}, in memory: {in_memory}");
            }
        }
    }
}

#[test]
fn inside_a_batch_the_start_decides_which_record_has_the_largest_timestamp() {
    let mut world = World::new(3);
    world.create(log(0), LogSettings::KEEP_ALL);
    let mut builder = flumen_protocol::batch::builder::BatchBuilder::new();
    for timestamp in [900, 100, 300, 200] {
        let value = Some(&b"x"[..]);
        let record = flumen_protocol::batch::builder::NewRecord {
            timestamp,
            key: None,
            value,
            headers: &[],
        };
        builder.push(&record);
    }
    let mut bytes = builder.finish();
    let epoch = flumen_protocol::ids::LeaderEpoch(1);
    flumen_protocol::batch::stamp::stamp(&mut bytes, Offset(0), epoch);
    let (base_offset, last_offset) = (Offset(0), Offset(3));
    let bytes = Bytes::from(bytes);
    let records = Records { base_offset, last_offset, max_timestamp: 900, bytes };
    world.append(log(0), |_| Payload::Records(records));
    // In memory, in the cache, and from the disk:
    for way in 0..3 {
        for (start, offset, timestamp) in [(0, 0, 900), (1, 2, 300), (3, 3, 200)] {
            if way < 2 && start > 0 {
                break;
            }
            world.store.set_start_offset(log(0), Offset(start));
            let found = world.find_time(log(0), TimeQuery::Largest).expect("there is one");
            assert_eq!((found.offset, found.timestamp), (Offset(offset), timestamp), "way {way}");
        }
        world.run();
        match way {
            0 => world.settle(log(0)),
            _ => world.restart(),
        }
    }
}

#[test]
fn a_record_before_the_start_is_not_found_though_its_batch_is_there() {
    let mut world = World::new(9);
    world.create(log(0), LogSettings::KEEP_ALL);
    (0..4).for_each(|n| world.append_batch(log(0), n, 10_000));
    let found = |world: &mut World, time| {
        world.find_time(log(0), TimeQuery::AtOrAfter(time)).map(|r| (r.offset.0, r.timestamp))
    };
    // Batches hold five records. In memory, in the cache, and from the disk:
    for way in 0..3 {
        world.store.set_start_offset(log(0), Offset(7));
        assert_eq!(found(&mut world, 0), Some((7, 1)), "way {way}");
        assert_eq!(found(&mut world, 1), Some((7, 1)), "way {way}");
        assert_eq!(found(&mut world, 2), Some((10, 2)), "way {way}");
        world.run();
        match way {
            0 => world.settle(log(0)),
            _ => world.restart(),
        }
    }
}

#[test]
fn retention_moves_the_start_first_and_deletes_files_second() {
    let mut world = World::new(8);
    world.create(log(0), small_segments());
    (0..120).for_each(|n| world.append_batch(log(0), n * 1000, 10_000));
    world.settle(log(0));
    let before = world.files_of(log(0)).len();
    let settings = LogSettings { retention_ms: Some(10_000), ..small_segments() };
    world.store.configure(log(0), settings);
    world.now.wall = Wall(60_000);
    assert_eq!(world.store.retention(log(0), world.now, Offset(0)), None, "not committed");
    let start = world.store.retention(log(0), world.now, Offset(600)).expect("some are old");
    assert!(start > Offset(0));
    assert_eq!(world.files_of(log(0)).len(), before, "nothing is deleted yet");
    world.run();
    assert!(world.events.contains(&StoreEvent::StartDurable { log: log(0), start }));
    assert!(world.files_of(log(0)).len() < before);
    let range = ReadError::OutOfRange { start, end: Offset(600) };
    assert_eq!(world.read_from(log(0), start.0 - 1, 1), Err(range));
    world.assert_readable(log(0), 1 << 20);

    world.now.wall = Wall(10_000_000);
    let start = world.store.retention(log(0), world.now, Offset(600)).expect("all are old");
    assert_eq!(start, Offset(600), "the growing segment goes too");
    world.run();
    assert_eq!(world.files_of(log(0)), []);
    world.append_batch(log(0), 1, 1_000);
    world.settle(log(0));
    world.restart();
    assert_eq!(world.recovered[0].start_offset, Offset(600));
    world.assert_readable(log(0), 1 << 20);
    world.store.set_start_offset(log(0), Offset(603));
    world.run();
    world.restart();
    assert_eq!(world.recovered[0].start_offset, Offset(603));
}

#[test]
fn a_doubted_clock_deletes_nothing_until_it_is_confirmed_also_after_restarts() {
    let day = 24 * 3600 * 1000;
    for jump in [100 * day, -100 * day] {
        let mut world = World::new(8);
        world.now.wall = Wall(1_000 * day);
        world.create(log(0), small_segments());
        (0..120).for_each(|n| world.append_batch(log(0), n, 10_000));
        world.settle(log(0));
        let settings = LogSettings { retention_ms: Some(1), ..small_segments() };
        world.now.wall.0 += jump;
        for _ in 0..3 {
            world.store.configure(log(0), settings);
            assert_eq!(world.store.retention(log(0), world.now, Offset(600)), None);
            world.run();
            assert!(world.store.is_clock_doubted());
            world.restart();
            world.now.wall.0 += day;
            world.run();
        }
        let opening = Store::open(world.config, JOURNAL, IDENTITY).confirm_clock();
        let (store, _) = finish(&mut world.disk, opening, world.now).expect("the disk opens");
        assert!(!store.is_clock_doubted());
        world.restart();
        world.store.configure(log(0), settings);
        assert!(!world.store.is_clock_doubted(), "for good");
        assert!(world.store.retention(log(0), world.now, Offset(600)).is_some());
    }
}

#[test]
fn a_deleted_log_leaves_nothing_and_its_name_can_be_used_anew() {
    let mut world = World::new(9);
    world.create(log(0), small_segments());
    world.create(log(1), small_segments());
    (0..50).for_each(|n| world.append_batch(log(0), n, 10_000));
    (0..50).for_each(|n| world.append_batch(log(1), n, 10_000));
    world.settle(log(0));
    world.append_batch(log(0), 1, 5_000);
    world.run();
    // One deletion in the middle of a settle, so that files exist that nobody recorded.
    assert!(world.store.begin_settle(log(0), LogIndex(51), (LogIndex(51), Bytes::new())));
    world.turn(1);
    world.store.delete(log(0));
    assert_eq!(world.read_from(log(0), 0, 1), Err(ReadError::UnknownLog));
    world.run();
    assert!(world.events.contains(&StoreEvent::Deleted { log: log(0) }));
    assert_eq!(world.files_of(log(0)), []);
    world.written.remove(&log(0));
    world.create(log(0), small_segments());
    world.append_batch(log(0), 1, 100);
    world.run();
    world.restart();
    assert_eq!(world.recovered.len(), 2);
    assert_eq!(world.recovered[0].entries.len(), 1);
    world.assert_readable(log(0), 1 << 20);
    world.assert_readable(log(1), 1 << 20);
}

#[test]
fn want_of_room_or_descriptors_stops_settling_and_nothing_else() {
    let mut world = World::new(10);
    world.create(log(0), small_segments());
    (0..20).for_each(|n| world.append_batch(log(0), n, 10_000));
    world.run();
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    for kind in [DiskErrorKind::NoSpace, DiskErrorKind::NoDescriptors] {
        world.disk.inject(Fault::Fail(segment, kind));
        let state = (LogIndex(20), Bytes::new());
        assert!(world.store.begin_settle(log(0), LogIndex(20), state.clone()));
        world.events.clear();
        world.run();
        assert!(world.events.contains(&StoreEvent::NoSpace));
        assert!(!world.store.begin_settle(log(0), LogIndex(20), state), "left alone for a while");
        world.assert_readable(log(0), 1 << 20);
        world.now.monotonic = world.now.monotonic.after(Duration::from_secs(11));
        assert_eq!(world.store.next_settle(world.now), Some(log(0)));
    }
    for _ in ["with a ballast", "without it"] {
        world.disk.inject(Fault::Fail(FileName::Manifest, DiskErrorKind::NoSpace));
    }
    assert!(world.store.begin_settle(log(0), LogIndex(20), (LogIndex(20), Bytes::new())));
    world.run();
    assert_eq!(world.store.settled(log(0)).map(|s| s.0), Some(LogIndex(20)));
    assert!(world.store.outstanding(), "but the manifest waits for room");
    world.now.monotonic = world.now.monotonic.after(HOUR);
    world.run();
    assert!(!world.store.outstanding());
    world.restart();
    assert_eq!(world.recovered[0].entries, []);
    world.assert_readable(log(0), 1 << 20);
}

#[test]
fn on_a_full_disk_a_deletion_is_recorded_in_place_of_the_ballast() {
    for is_restarted in [false, true] {
        let mut world = World::new(18);
        world.create(log(0), small_segments());
        world.create(log(1), small_segments());
        (0..120).for_each(|n| world.append_batch(log(0), n, 10_000));
        (0..120).for_each(|n| world.append_batch(log(1), n, 10_000));
        world.settle(log(0));
        world.settle(log(1));
        world.run();
        world.disk.set_capacity(world.used());
        if is_restarted {
            world.restart();
        }
        world.append_batch(log(1), 1, 100);
        world.run();
        let full = world.used();
        world.disk.set_capacity(full);
        world.now.monotonic = world.now.monotonic.after(Duration::from_secs(60));
        world.store.set_start_offset(log(0), Offset(600));
        assert_eq!(world.store.next_settle(world.now), Some(log(1)), "it is old");
        while world.disk.contents(FileName::Ballast).is_some() {
            assert_eq!(world.turn(1), 1, "the ballast goes, before anything else is possible");
        }
        assert_eq!(world.store.next_settle(world.now), None, "no settle takes its place");
        world.run();
        world.store.retention(log(0), world.now, Offset(600)).expect("all before the start goes");
        world.store.delete(log(1));
        world.run();
        assert_eq!(world.files_of(log(0)), [], "without any time passing");
        assert_eq!(world.files_of(log(1)), []);
        assert!(!world.store.outstanding());
        world.now.monotonic = world.now.monotonic.after(HOUR);
        world.run();
        assert!(!world.store.manifest.is_short_of_room(), "there is a ballast again");
        assert!(world.used() < full);
        world.restart();
        assert_eq!(world.recovered.len(), 1);
        assert_eq!(world.recovered[0].start_offset, Offset(600));
    }
}

#[test]
fn a_torn_tail_does_not_keep_a_node_with_a_full_disk_from_starting() {
    let mut world = World::new(16);
    world.create(log(0), small_segments());
    for n in 0..3 {
        world.append_batch(log(0), n, 5_000);
        world.run();
    }
    let journal = FileName::Journal(0);
    let bytes = world.disk.contents(journal).expect("it is there");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("frames") as u64;
    world.disk.flip_bit(journal, end - 100, 1);
    let mut with_room = world.disk.clone();
    open(&mut with_room, world.config, world.now).expect("a torn tail is cut");
    let side = with_room.all().map(|(name, _)| name);
    let side: Vec<_> = side.filter(|name| matches!(name, FileName::Quarantine(_))).collect();
    assert_eq!(side.len(), 1, "what was cut is kept where there is room");
    world.disk.inject(Fault::Fail(side[0], DiskErrorKind::NoSpace));
    world.restart();
    assert_eq!(world.recovered[0].entries.len(), 2);
    assert!(world.report.iter().any(|line| line.contains("not kept")), "{:?}", world.report);
}

#[test]
fn a_start_on_a_full_disk_waits_for_room() {
    let mut world = World::new(17);
    world.create(log(0), small_segments());
    world.append_batch(log(0), 1, 5_000);
    world.run();
    let mut opening = Store::open(world.config, JOURNAL, IDENTITY);
    let mut now = world.now;
    loop {
        let mut ops = Vec::new();
        opening.next_ops(now, &mut ops);
        if ops.iter().any(|op| matches!(op.action, Action::Replace { .. })) {
            world.disk.inject(Fault::Fail(FileName::Manifest, DiskErrorKind::NoSpace));
        }
        ops.into_iter().for_each(|op| world.disk.submit(op));
        let Some(done) = world.disk.step() else { break };
        opening.on_done(done, now).expect("want of room is no failure");
    }
    assert!(opening.finish().is_none(), "nothing is served before the manifest is written");
    now.monotonic = opening.next_wakeup().expect("it is tried again");
    world.now = now;
    world.restart();
    assert_eq!(world.recovered[0].entries.len(), 1);
}

#[test]
fn an_unreadable_end_of_a_segment_is_read_again_and_then_begins_a_new_one() {
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    for fault in [Fault::Fail(segment, DiskErrorKind::Io(5)), Fault::GarbleRead(segment)] {
        for times in [1, 2] {
            let mut world = World::new(11);
            world.create(log(0), LogSettings::KEEP_ALL);
            world.append_batch(log(0), 1, 5_000);
            world.settle(log(0));
            world.restart();
            world.append_batch(log(0), 2, 5_000);
            world.run();
            (0..times).for_each(|_| world.disk.inject(fault));
            world.settle(log(0));
            let next = FileName::Segment {
                log: log(0),
                base: Offset(5),
                generation: Generation::APPENDED,
            };
            assert_eq!(world.files_of(log(0)).contains(&next), times == 2, "{fault:?}");
            world.restart();
            world.assert_readable(log(0), 1 << 20);
        }
    }
}

#[test]
fn a_lost_segment_does_not_keep_its_log_from_being_settled() {
    let mut world = World::new(13);
    world.create(log(0), LogSettings::KEEP_ALL);
    world.append_batch(log(0), 1, 5_000);
    world.settle(log(0));
    world.restart();
    world.disk.shorten(
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED },
        None,
    );
    world.append_batch(log(0), 2, 5_000);
    world.settle(log(0));
    assert!(world.read_from(log(0), 0, 1).is_err());
    assert!(world.read_from(log(0), 5, 1).is_ok());
}

#[test]
fn a_rotten_end_of_a_segment_is_not_written_again_as_if_it_were_right() {
    let mut world = World::new(12);
    world.create(log(0), LogSettings::KEEP_ALL);
    (0..3).for_each(|n| world.append_batch(log(0), n, 5_000));
    world.settle(log(0));
    world.restart();
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    world.disk.flip_bit(segment, 14_000, 3);
    world.append_batch(log(0), 3, 5_000);
    world.settle(log(0));
    world.restart();
    let damaged = ReadError::Damaged { log: log(0), from: Offset(10), until: Offset(15) };
    assert_eq!(world.read_from(log(0), 10, 1), Err(damaged), "the damage is still seen");
    assert!(world.read_from(log(0), 15, 1).is_ok(), "what came after it is not part of it");
    world.disk.flip_bit(segment, 14_000, 3);
    world.restart();
    world.assert_readable(log(0), 1 << 20);
}

#[test]
fn a_cut_suffix_does_not_come_back_and_is_not_called_durable() {
    let mut world = World::new(15);
    world.create(log(0), small_segments());
    (0..3).for_each(|n| world.append_batch(log(0), n, 100));
    world.run();
    (3..6).for_each(|n| world.append_batch(log(0), n, 100));
    let mut ops = Vec::new();
    world.store.next_ops(world.now, &mut ops);
    ops.into_iter().for_each(|op| world.disk.submit(op));
    // The write of entries 4 to 6 is under way when the leader of term 2 orders another fifth.
    world.store.cut_suffix(log(0), LogIndex(5));
    world.written.get_mut(&log(0)).expect("known").truncate(4);
    let end = world.store.end_offset(log(0)).expect("known");
    assert_eq!(end, Offset(20));
    let entry = Entry { index: LogIndex(5), term: Term(2), payload: batch_payload(end, 9, 500) };
    world.written.get_mut(&log(0)).expect("known").push(entry.clone());
    world.store.append(log(0), entry);
    world.events.clear();
    world.run();
    let durable: Vec<u64> = world
        .events
        .iter()
        .filter_map(|event| match event {
            StoreEvent::Durable { index, .. } => Some(index.0),
            _ => None,
        })
        .collect();
    assert_eq!(durable, [4, 5]);
    world.restart();
    assert_eq!(world.recovered[0].entries, world.written[&log(0)]);
    world.assert_readable(log(0), 1 << 20);
}

#[test]
fn the_order_of_settling() {
    let mut world = World::new(12);
    (0..4).for_each(|n| world.create(log(n), small_segments()));
    world.append_batch(log(3), 1, 100);
    world.run();
    assert_eq!(world.store.next_settle(world.now), None, "young and small");
    (0..110).for_each(|n| world.append_batch(log(1), n, 10_000));
    assert_eq!(world.store.next_settle(world.now), None, "nothing of it is durable");
    world.run();
    assert_eq!(world.store.next_settle(world.now), Some(log(1)), "worth a flush");
    assert!(!world.store.begin_settle(log(1), LogIndex(0), (LogIndex(0), Bytes::new())));
    assert_eq!(world.store.next_settle(world.now), None, "nothing of it is committed");
    world.now.monotonic = world.now.monotonic.after(Duration::from_secs(10));
    assert_eq!(world.store.next_settle(world.now), Some(log(1)));
    world.settle(log(1));
    assert_eq!(world.store.next_settle(world.now), Some(log(3)), "old");
    world.settle(log(3));
    assert_eq!(world.store.next_settle(world.now), None);
    world.append_batch(log(2), 1, 100);
    world.run();
    assert_eq!(world.store.next_settle(world.now), None);
    world.store.prepare_stop();
    assert_eq!(world.store.next_settle(world.now), Some(log(2)));
}

/// With a walk over all logs for each of them this takes more than a minute, instead of three seconds.
#[test]
fn ten_thousand_small_logs_are_settled_for_memory_the_largest_first() {
    let config = StoreConfig { unsettled_bytes: 1 << 20, ..StoreConfig::DEFAULT };
    let mut world = World::with(19, config);
    (0..10_000).for_each(|n| world.create(log(n), LogSettings::KEEP_ALL));
    (0..10_000).for_each(|n| world.append_batch(log(n), 1, if n == 7_000 { 900 } else { 300 }));
    world.run();
    let mut settled = Vec::new();
    while world.store.unsettled_bytes > config.unsettled_bytes {
        while let Some(log) = world.store.next_settle(world.now) {
            assert!(world.store.begin_settle(log, LogIndex(1), (LogIndex(1), Bytes::new())));
            settled.push(log);
        }
        world.run();
    }
    assert_eq!(settled[0], log(7_000));
    assert!(settled.len() > 5_000, "{}", settled.len());
}

#[test]
fn small_old_logs_are_settled_together_and_later_while_the_core_appends() {
    let mut world = World::new(31);
    (0..4).for_each(|n| world.create(log(n), small_segments()));
    (0..3).for_each(|n| world.append_batch(log(n), 1, 100));
    world.run();
    let pass = |world: &mut World, seconds| {
        world.now.monotonic = world.now.monotonic.after(Duration::from_secs(seconds));
        let _answers = world.store.next_settle(world.now);
    };
    pass(&mut world, 30);
    world.append_batch(log(3), 1, 100);
    assert_eq!(world.store.next_settle(world.now), None, "the core appends");
    pass(&mut world, 2);
    for n in 0..3 {
        assert_eq!(world.store.next_settle(world.now), Some(log(n)), "one group");
        assert!(world.store.begin_settle(log(n), LogIndex(1), (LogIndex(1), Bytes::new())));
    }
    pass(&mut world, 30);
    assert_eq!(world.store.next_settle(world.now), None, "one group at a time");
    world.run();
    assert_eq!(world.store.next_settle(world.now), Some(log(3)));
}

#[test]
fn a_foreign_a_newer_or_a_rotten_manifest_stops_the_start() {
    let mut world = World::new(13);
    world.create(log(0), small_segments());
    for n in 0..3 {
        world.append_batch(log(0), n, 100);
        world.settle(log(0));
    }
    let manifest = world.disk.contents(FileName::Manifest).expect("it is there");
    let open = |change: &dyn Fn(&mut SimDisk)| {
        let mut disk = world.disk.clone();
        change(&mut disk);
        open(&mut disk, world.config, world.now).map(|(_, recovered)| recovered)
    };
    assert!(open(&|_| ()).is_ok());
    assert!(matches!(
        open(&|disk| disk.flip_bit(FileName::Manifest, 4096 + 80, 1)),
        Err(StorageError::Corrupt { .. })
    ));
    assert!(matches!(
        open(&|disk| disk.flip_bit(FileName::Manifest, 50, 1)),
        Err(StorageError::Corrupt { .. })
    ));
    assert!(matches!(
        open(&|disk| disk.shorten(FileName::Manifest, None)),
        Err(StorageError::Corrupt { .. })
    ));
    // The last chunk may be torn; then the journal still has what it said.
    let last = manifest.len() as u64 - 4096;
    let torn = open(&|disk| disk.flip_bit(FileName::Manifest, last + 80, 1)).expect("torn tail");
    assert_eq!(torn.logs[0].settled.0, LogIndex(2));
}

/// What a random life may do.
fn live(world: &mut World, dice: &mut Dice) {
    let log = log(dice.below(3) as i32);
    if !world.written.contains_key(&log) {
        if world.store.is_deleting(log) {
            return;
        }
        world.create(log, small_segments());
    }
    let last = LogIndex(world.written[&log].len() as u64);
    match dice.below(20) {
        0..=8 => {
            world.append_batch(log, dice.below(1000) as i64, 100 + dice.below(30_000) as usize)
        }
        9 => world.append(log, |_| Payload::Control(Bytes::from_static(b"control"))),
        10 => world.append(log, |_| Payload::Empty),
        11..=14 => {
            let up_to = LogIndex(last.0 - dice.below(3).min(last.0));
            let state = (last, Bytes::from(vec![7; dice.below(300) as usize]));
            let durable = world.store.settled(log).map_or(0, |s| s.0.0);
            if up_to.0 > durable {
                world.run();
                world.store.begin_settle(log, up_to, state);
            }
        }
        17 => {
            let settled = world.store.settled(log).map_or(0, |settled| settled.0.0);
            let settling = world.store.settles.up_to(log).map_or(0, |up_to| up_to.0);
            let kept = settled.max(settling);
            if last.0 > kept {
                let from = kept + 1 + dice.below(last.0 - kept);
                world.cut(log, from);
            }
        }
        15 => {
            let end = world.store.end_offset(log).expect("known");
            let settings = LogSettings { retention_bytes: Some(200_000), ..small_segments() };
            world.store.configure(log, settings);
            world.store.retention(log, world.now, end);
        }
        16 if dice.below(4) == 0 => {
            world.store.delete(log);
            world.note_durable();
            world.durable.remove(&log);
            world.written.remove(&log);
            world.earlier.remove(&log);
        }
        _ => {
            world.turn(dice.below(20) as usize);
        }
    }
    world.now.monotonic = world.now.monotonic.after(Duration::from_millis(200));
}

/// The power goes; what comes back must be a prefix of what was written and hold all that was
/// reported durable.
fn power_cut(world: &mut World) {
    world.note_durable();
    let durable = std::mem::take(&mut world.durable);
    let earlier = std::mem::take(&mut world.earlier);
    world.disk.crash();
    // The power may go again while recovery is under way: the result must be the same.
    for steps in 0..durable.len() as u64 * 4 {
        let mut opening = Store::open(world.config, JOURNAL, IDENTITY);
        for _ in 0..steps {
            let mut ops = Vec::new();
            opening.next_ops(world.now, &mut ops);
            ops.into_iter().for_each(|op| world.disk.submit(op));
            if let Some(done) = world.disk.step() {
                opening.on_done(done, world.now).expect("the disk opens");
            }
        }
        world.disk.crash();
    }
    world.restart();
    for (log, durable) in durable {
        let Some(written) = world.written.get(&log) else { continue };
        let found = world.recovered.iter().find(|found| found.log == log);
        let found = found.expect("a log with durable entries comes back");
        let settled = found.settled.0.0;
        assert!(settled + found.entries.len() as u64 >= durable, "{log}: {durable} was durable");
        let promised = &written[..durable.max(settled) as usize][settled as usize..];
        assert!(found.entries[..promised.len()] == *promised, "{log}: up to {durable}");
    }
    let found: BTreeMap<LogId, RecoveredLog> =
        world.recovered.iter().map(|found| (found.log, found.clone())).collect();
    for log in (0..3).map(log) {
        let Some(written) = world.written.get_mut(&log) else {
            // Deleted before the cut, if the mark got through; otherwise it is deleted again.
            world.store.delete(log);
            continue;
        };
        let Some(found) = found.get(&log) else {
            world.written.remove(&log);
            continue;
        };
        let settled = found.settled.0.0 as usize;
        assert_eq!(found.held, None);
        let entries = settled..settled + found.entries.len();
        let versions = earlier.get(&log).into_iter().flatten().chain([&*written]);
        let version = versions.filter(|v| v.get(entries.clone()) == Some(&found.entries)).last();
        *written = version.expect("what came back was written once").clone();
        written.truncate(entries.end);
        world.store.configure(log, small_segments());
    }
}

#[test]
fn random_lives_with_power_cuts() {
    let first = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    for seed in first..first + 15 {
        let mut world = World::new(seed);
        let mut dice = Dice::new(seed + 1000);
        for _ in 0..6 {
            for _ in 0..40 + dice.below(60) {
                live(&mut world, &mut dice);
            }
            power_cut(&mut world);
            let logs: Vec<LogId> = world.written.keys().copied().collect();
            logs.into_iter().for_each(|log| world.assert_readable(log, 100_000));
        }
        world.run();
        assert!(!world.store.outstanding(), "seed {seed}: everything comes to rest");
    }
}

#[test]
fn a_power_cut_between_any_two_operations_of_a_settle() {
    for steps in 0.. {
        let mut world = World::new(steps as u64);
        world.create(log(0), small_segments());
        (0..60).for_each(|n| world.append_batch(log(0), n, 12_345));
        world.settle(log(0));
        (0..60).for_each(|n| world.append_batch(log(0), n, 12_345));
        world.run();
        world.store.begin_settle(log(0), LogIndex(120), (LogIndex(120), Bytes::new()));
        let done = world.turn(steps);
        power_cut(&mut world);
        assert_eq!(world.written[&log(0)].len(), 120);
        world.assert_readable(log(0), 200_000);
        world.settle(log(0));
        world.assert_readable(log(0), 200_000);
        if done < steps {
            assert!(steps > 8, "a settle takes several operations");
            return;
        }
    }
}

#[test]
fn an_inspection_tells_what_is_there_and_what_is_damaged() {
    let mut world = World::new(16);
    world.create(log(0), small_segments());
    (0..60).for_each(|n| world.append_batch(log(0), n, 10_000));
    world.settle(log(0));
    world.append_batch(log(0), 77, 100);
    world.run();
    let segment =
        FileName::Segment { log: log(0), base: Offset(0), generation: Generation::APPENDED };
    world.disk.flip_bit(segment, 25_000, 3);
    let has = |lines: &[String], what: &str| lines.iter().any(|line| line.contains(what));
    let overview = world.inspect(Depth::Overview);
    assert!(has(&overview, "journal: ends cleanly"), "{overview:#?}");
    assert!(has(&overview, "offsets 0 to 300 in 2 segments"), "{overview:#?}");
    assert!(has(&overview, "1 unsettled entries in the journal, the last is 61"), "{overview:#?}");
    let check = world.inspect(Depth::Check);
    assert!(has(&check, "segment 0: [10, 15) is damaged"), "{check:#?}");
    let records = world.inspect(Depth::Records(log(0)));
    let dumped = records.iter().filter(|line| line.contains("key=null value=")).count();
    assert_eq!(dumped, 60 * 5 - 5 + 5, "all but the damaged batch, and the one in the journal");
}

#[test]
fn an_idle_log_costs_less_than_a_kibibyte() {
    let mut world = World::new(14);
    let empty = world.store.memory_bytes();
    for n in 0..1000 {
        world.create(log(n), small_segments());
    }
    assert!((world.store.memory_bytes() - empty) / 1000 < 1024);
}

/// Carries everything out on real files until there is nothing to do.
async fn rest(store: &mut Store, driver: &Driver, now: Now, events: &mut Vec<StoreEvent>) {
    loop {
        let mut ops = Vec::new();
        store.next_ops(now, &mut ops);
        if ops.is_empty() {
            return;
        }
        for op in ops {
            let done = driver.carry_out(op).await;
            store.on_done(done, now, events).expect("the disk works");
        }
    }
}

async fn reopened(driver: &Driver, now: Now) -> (Store, crate::answers::Recovered) {
    let mut opening = Store::open(StoreConfig::DEFAULT, JOURNAL, IDENTITY);
    loop {
        let mut ops = Vec::new();
        opening.next_ops(now, &mut ops);
        for op in ops {
            opening.on_done(driver.carry_out(op).await, now).expect("it opens");
        }
        if let Some(opened) = opening.finish() {
            return opened;
        }
    }
}

async fn live_on_files(driver: &Driver) {
    let now = Now { monotonic: Monotonic(1), wall: Wall(1_000_000) };
    let mut events = Vec::new();
    let (mut store, _) = reopened(driver, now).await;
    store.create(log(0), small_segments());
    for n in 0..100 {
        let end = store.end_offset(log(0)).expect("known");
        let payload = batch_payload(end, n, 9_999);
        store.append(log(0), Entry { index: LogIndex(n as u64 + 1), term: Term(1), payload });
        if n % 30 == 29 || n == 99 {
            let up_to = LogIndex(n as u64 + 1);
            rest(&mut store, driver, now, &mut events).await;
            assert!(store.begin_settle(log(0), up_to, (up_to, Bytes::from_static(b"s"))));
            rest(&mut store, driver, now, &mut events).await;
            (store, _) = reopened(driver, now).await;
            store.configure(log(0), small_segments());
        }
    }
    let (mut next, limit) = (Offset(0), Offset(500));
    while next < limit {
        let (max_bytes, at_least_one, token) = (100_000, true, 1);
        let request = ReadRequest { from: next, limit, max_bytes, at_least_one, token };
        events.clear();
        let batches = match store.read(log(0), request) {
            ReadAnswer::Ready(batches) => batches,
            ReadAnswer::Failed(error) => panic!("{error}"),
            ReadAnswer::Pending => {
                rest(&mut store, driver, now, &mut events).await;
                match events.pop() {
                    Some(StoreEvent::Read { result: Ok(batches), .. }) => batches,
                    other => panic!("{other:?}"),
                }
            }
        };
        assert!(!batches.is_empty());
        next = next.after(5 * batches.len() as i64);
    }
    store.delete(log(0));
    rest(&mut store, driver, now, &mut events).await;
    assert!(events.contains(&StoreEvent::Deleted { log: log(0) }));
    let (_, recovered) = reopened(driver, now).await;
    assert_eq!(recovered.logs, []);
}

/// The same operations on the file system of the machine: the simulated disk must not be kinder.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test owns its folder")]
fn a_life_on_real_files() {
    let root = std::env::temp_dir().join(format!("flumen-store-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&root));
    prepare_root(&root, 1).expect("a folder");
    let driver = Driver::new(root.clone(), CoreId(0));
    glommio::LocalExecutor::default().run(async {
        live_on_files(&driver).await;
        driver.close().await;
    });
    assert_eq!(std::fs::read_dir(root.join("partitions")).expect("a folder").count(), 0);
    std::fs::remove_dir_all(&root).expect("our own folder");
}

#[test]
fn a_look_up_ends_at_the_first_batch_that_says_it_has_what_is_wanted() {
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::codec::Codec;
    use flumen_protocol::batch::header::BatchHeader;
    use flumen_protocol::batch::stamp::{stamp, stamp_max_timestamp};
    let epoch = flumen_protocol::ids::LeaderEpoch(1);
    let mut world = World::new(5);
    world.create(log(0), LogSettings::KEEP_ALL);
    // Two records of time 100 each: one batch that lies, one that inflates to more than a look-up
    // of these tests may, and a sound one of time 9000.
    let zeros = vec![0; 1 << 20];
    let (lie, bomb, sound) = ((Codec::None, 1, 9_000), (Codec::Gzip, 1 << 20, 8_000), 9_000);
    let mut base = 0;
    for (codec, bytes, says) in [lie, bomb, (Codec::None, 1, sound)] {
        let mut builder = BatchBuilder::new();
        for timestamp in [100, if base == 4 { sound } else { 100 }] {
            let value = Some(&zeros[..bytes]);
            builder.push(&NewRecord { timestamp, key: None, value, headers: &[] });
        }
        let mut batch = builder.finish_compressed(codec);
        stamp_max_timestamp(&mut batch, says);
        stamp(&mut batch, Offset(base), epoch);
        let header = BatchHeader::parse(&batch).expect("a header");
        let (base_offset, last_offset) = (Offset(base), header.last_offset());
        let bytes = Bytes::from(batch);
        let records = Records { base_offset, last_offset, max_timestamp: says, bytes };
        world.append(log(0), |_| Payload::Records(records));
        base += 2;
    }
    let found = |world: &mut World, time| {
        world.find_time(log(0), TimeQuery::AtOrAfter(time)).map(|r| (r.offset.0, r.timestamp))
    };
    // In memory, in the cache, and from the disk:
    for way in 0..3 {
        assert_eq!(found(&mut world, 50), Some((0, 100)), "way {way}");
        assert_eq!(found(&mut world, 101), Some((0, 9_000)), "way {way}");
        if way == 2 {
            // Of a batch cut by the start nothing is believed, of the next one again.
            world.store.set_start_offset(log(0), Offset(1));
            assert_eq!(found(&mut world, 101), Some((2, 8_000)));
            world.store.set_start_offset(log(0), Offset(3));
            assert_eq!(found(&mut world, 101), Some((5, 9_000)));
        }
        world.run();
        match way {
            0 => world.settle(log(0)),
            _ => world.restart(),
        }
    }
}

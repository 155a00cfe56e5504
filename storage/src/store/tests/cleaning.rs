//! Stories of cleaned logs: what stays, what goes, and what a crash, damage or somebody else's hurry in
//! the middle leaves.

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::records::records;
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::answers::{
    AbortedRange, CleanerConfig, CleaningFacts, CleaningReport, Compaction, LastOfProducer,
};

mod lost_records;

const DAY: i64 = 86_400_000;
const RULES: Compaction =
    Compaction { min_dirty_ppm: 0, min_lag_ms: 0, max_lag_ms: i64::MAX, delete_retention_ms: DAY };

fn compacted() -> LogSettings {
    let compaction = Some(RULES);
    LogSettings { segment_bytes: 20_000, compacted: true, compaction, ..LogSettings::KEEP_ALL }
}

fn facts(seed: u64) -> CleaningFacts {
    let (stable, producers) = (Offset(i64::MAX), BTreeMap::new());
    CleaningFacts { stable, aborted: Vec::new(), producers, seed }
}

/// Key, value, timestamp.
type Content = (Vec<u8>, Option<Vec<u8>>, i64);

/// A world in which the records of one log are known by offset.
struct Keyed {
    world: World,
    records: BTreeMap<i64, Content>,
    dice: Dice,
}

impl Keyed {
    fn new(seed: u64) -> Self {
        let config = StoreConfig { cache_bytes: 0, ..StoreConfig::DEFAULT };
        let mut world = World::with(seed, config);
        world.create(log(0), compacted());
        Self { world, records: BTreeMap::new(), dice: Dice::new(seed) }
    }

    /// Appends a batch of records of keys below `keys`, one in eight a tombstone.
    fn append(&mut self, keys: u64, producer: Option<(i64, i32)>) {
        let codec = Codec::ALL[self.dice.below(5) as usize];
        let end = self.world.store.end_offset(log(0)).expect("a known log").0;
        let count = 1 + self.dice.below(8) as i64;
        let contents = (0..count).map(|n| {
            let key = format!("key {}", self.dice.below(keys)).into_bytes();
            let value = (self.dice.below(8) > 0).then(|| format!("{:0300}", end + n).into_bytes());
            (key, value, 1000 + end + n)
        });
        let contents: Vec<Content> = contents.collect();
        let mut builder = BatchBuilder::new();
        if let Some((id, sequence)) = producer {
            let (id, sequence) = (ProducerId(id), Sequence(sequence));
            builder = builder.with_producer(id, ProducerEpoch(0), sequence);
        }
        for (key, value, timestamp) in &contents {
            let (key, value, timestamp) = (Some(&key[..]), value.as_deref(), *timestamp);
            builder.push(&NewRecord { timestamp, key, value, headers: &[] });
        }
        let mut bytes = builder.finish_compressed(codec);
        stamp(&mut bytes, Offset(end), LeaderEpoch(1));
        let max_timestamp = contents[contents.len() - 1].2;
        let bytes = bytes.freeze();
        self.records.extend((end..).zip(contents));
        self.world.append(log(0), |base_offset| {
            let last_offset = base_offset.after(count - 1);
            Payload::Records(Records { base_offset, last_offset, max_timestamp, bytes })
        });
    }

    fn fill(&mut self, batches: usize, keys: u64) {
        (0..batches).for_each(|_| self.append(keys, None));
        self.world.settle(log(0));
    }

    /// Does up to `steps` turns of a cleaning; gives its report if it ended.
    fn clean_some(&mut self, steps: usize) -> Option<CleaningReport> {
        for _ in 0..steps {
            let world = &mut self.world;
            world.now.monotonic = world.now.monotonic.after(Duration::from_millis(20));
            let mut ops = Vec::new();
            world.store.next_ops(world.now, &mut ops);
            ops.into_iter().for_each(|op| world.disk.submit(op));
            if let Some(done) = world.disk.step() {
                world.store.on_done(done, world.now, &mut world.events).expect("the disk works");
            }
            let mut events = Vec::new();
            world.store.take_cleaned(&mut events);
            if let Some(event) = events.pop() {
                let StoreEvent::Cleaned { report, .. } = event else { panic!("{event:?}") };
                return Some(*report);
            }
        }
        None
    }

    fn begin(&mut self) -> bool {
        let now = &mut self.world.now;
        now.monotonic = now.monotonic.after(HOUR * 2);
        now.wall.0 += 7_200_000;
        let next = self.world.store.next_clean(*now);
        next.is_some_and(|log| self.world.store.begin_clean(log, &facts(7)))
    }

    fn clean(&mut self) -> CleaningReport {
        assert!(self.begin(), "it is due");
        let report = self.clean_some(100_000).expect("a cleaning ends");
        self.world.run();
        report
    }

    /// All that is there, by offset; every record is what was appended there.
    fn read(&mut self) -> BTreeMap<i64, Content> {
        let store = &self.world.store;
        let end = store.end_offset(log(0)).expect("a known log").0;
        let mut next = store.start_offset(log(0)).expect("a known log").0;
        let mut found = BTreeMap::new();
        while next < end {
            let batches = match self.world.read_from(log(0), next, 50_000) {
                Ok(batches) => batches,
                Err(ReadError::Damaged { until, .. }) => {
                    next = until.0;
                    continue;
                }
                Err(error) => panic!("{next}: {error}"),
            };
            assert!(!batches.is_empty(), "nothing at {next} before the end {end}");
            for bytes in batches {
                let opened = records(&bytes, 1 << 20).expect("a sound batch");
                for record in &opened {
                    let record = record.expect("a sound record");
                    let key = record.key.expect("a key").to_vec();
                    let content = (key, record.value.map(<[u8]>::to_vec), record.timestamp);
                    assert_eq!(self.records.get(&record.offset.0), Some(&content));
                    assert_eq!(found.insert(record.offset.0, content), None, "each offset once");
                }
                let last = opened.header().last_offset().0;
                assert!(last >= next, "a read goes on");
                next = last + 1;
            }
        }
        found
    }

    /// Of every key the last record is there, or, where it is a tombstone, none. Gives what is there.
    fn assert_last_values(&mut self) -> BTreeMap<i64, Content> {
        let found = self.read();
        let mut last: BTreeMap<&[u8], (i64, bool)> = BTreeMap::new();
        for (offset, (key, value, _)) in &self.records {
            last.insert(key, (*offset, value.is_some()));
        }
        for (key, (offset, has_value)) in last {
            let there = found.iter().filter(|(_, content)| content.0 == key);
            let there: Vec<i64> = there.map(|(offset, _)| *offset).collect();
            let is_right = there.last() == Some(&offset) || (!has_value && there.is_empty());
            assert!(is_right, "{:?}: {offset} of {there:?}", key.escape_ascii().to_string());
        }
        found
    }

    fn sealed_end(&self) -> i64 {
        let image = &self.world.store.manifest.image().logs[&log(0)];
        image.segments.sealed().last().map_or(0, |segment| segment.end.0)
    }

    fn names_of_files(&self) -> Vec<FileName> {
        let image = &self.world.store.manifest.image().logs[&log(0)];
        let names = image.segments.all().iter().map(|segment| segment.name(log(0)));
        let mut names: Vec<FileName> = names.flat_map(|name| [name.data(), name.index()]).collect();
        names.sort_unstable();
        names
    }

    /// On the disk lies what the manifest names; of the growing segment the index may be missing.
    fn assert_no_garbage(&mut self) {
        self.world.run();
        let known = self.names_of_files();
        let files = self.world.files_of(log(0));
        let strange: Vec<&FileName> = files.iter().filter(|file| !known.contains(file)).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert!(self.world.store.manifest.image().condemned.is_empty());
    }
}

fn last_of_each(records: &BTreeMap<i64, Content>, until: i64) -> Vec<i64> {
    let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (offset, (key, ..)) in records.range(..until) {
        last.insert(key, *offset);
    }
    let mut offsets: Vec<i64> = last.into_values().collect();
    offsets.extend(records.range(until..).map(|(offset, _)| *offset));
    offsets.sort_unstable();
    offsets
}

#[test]
fn of_every_key_the_last_record_stays_where_it_was() {
    let mut keyed = Keyed::new(1);
    keyed.fill(300, 40);
    let until = keyed.sealed_end();
    let bytes = keyed.world.store.bytes_on_disk(log(0)).expect("a known log");
    let count = |keyed: &Keyed| {
        let image = &keyed.world.store.manifest.image().logs[&log(0)];
        image.segments.all().iter().filter(|segment| segment.end.0 <= until).count()
    };
    let segments = count(&keyed);
    let report = keyed.clean();
    assert!(report.records_dropped > 1000 && report.left_out.is_empty(), "{report:?}");
    assert!(report.bytes_after * 4 < report.bytes_before, "{report:?}");
    let found = keyed.assert_last_values();
    let offsets: Vec<i64> = found.keys().copied().collect();
    assert_eq!(offsets, last_of_each(&keyed.records, until));
    assert!(keyed.world.store.bytes_on_disk(log(0)).expect("a known log") < bytes / 3);
    assert_eq!(keyed.world.store.start_offset(log(0)), Some(Offset(0)));
    keyed.assert_no_garbage();

    // Every offset can be asked for: the first batch given is the one with the next record that is there.
    for from in 0..until {
        let batches = keyed.world.read_from(log(0), from, 1).expect("a sound disk");
        let header = BatchHeader::parse(&batches[0]).expect("a header");
        assert!(header.last_offset().0 >= from);
        let between = found.range(from..header.base_offset.0.max(from)).next();
        assert_eq!(between, None, "nothing is passed over from {from}");
    }
    assert!(!keyed.begin(), "nothing is dirty");

    keyed.world.restart();
    keyed.world.store.configure(log(0), compacted());
    assert_eq!(keyed.read(), found);
    assert!(!keyed.begin(), "nothing is dirty after a start either");
    keyed.fill(100, 40);
    keyed.clean();
    keyed.assert_last_values();
    keyed.assert_no_garbage();
    assert!(count(&keyed) < segments / 2, "small neighbours became one");
}

#[test]
fn time_leads_to_records_that_are_still_there() {
    let mut keyed = Keyed::new(2);
    keyed.fill(200, 30);
    keyed.clean();
    let found = keyed.read();
    for at in (1000..2200).step_by(7) {
        let expected = found.iter().find(|(_, content)| content.2 >= at);
        let answer = keyed.world.find_time(log(0), TimeQuery::AtOrAfter(at));
        let answer = answer.map(|record| (record.offset.0, record.timestamp));
        assert_eq!(answer, expected.map(|(offset, content)| (*offset, content.2)), "{at}");
    }
    let largest = found.iter().map(|(offset, content)| (content.2, *offset)).max();
    let answer = keyed.world.find_time(log(0), TimeQuery::Largest).expect("there are records");
    assert_eq!(Some((answer.timestamp, answer.offset.0)), largest);
}

#[test]
fn a_tombstone_goes_when_its_time_is_over_and_what_it_deleted_stays_gone() {
    let mut keyed = Keyed::new(3);
    keyed.fill(200, 30);
    // What comes later is of other keys.
    let until = keyed.world.store.end_offset(log(0)).expect("a known log").0;
    keyed.fill(100, 3);
    keyed.clean();
    let tombstones = |found: &BTreeMap<i64, Content>| {
        found.range(..until).filter(|(_, content)| content.1.is_none()).count()
    };
    let before = tombstones(&keyed.assert_last_values());

    assert!(before > 2, "{before} tombstones");
    // Another cleaning too early, then one after the horizon that the first one set.
    keyed.fill(100, 3);
    keyed.clean();
    assert_eq!(tombstones(&keyed.assert_last_values()), before);
    keyed.world.now.wall.0 += DAY;
    keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR * 24);
    keyed.fill(100, 3);
    keyed.clean();
    assert_eq!(tombstones(&keyed.assert_last_values()), 0);
}

#[test]
fn a_table_that_is_too_small_takes_several_cleanings() {
    let mut keyed = Keyed::new(4);
    keyed.fill(300, 400);
    let until = keyed.sealed_end();
    let config = CleanerConfig { table_bytes: 100 * 24, ..CleanerConfig::DEFAULT };
    keyed.world.store.configure_cleaner(config);
    let mut partial = 0;
    while keyed.begin() {
        let report = keyed.clean_some(100_000).expect("a cleaning ends");
        assert!(report.keys <= 90);
        partial += usize::from(report.is_partial);
        keyed.assert_last_values();
        assert!(partial < 50, "it comes forward");
    }
    assert!(partial > 3, "{partial}");
    // A day goes by with it, so that tombstones are gone.
    let found = keyed.read();
    let last = last_of_each(&keyed.records, until);
    let values = last.into_iter().filter(|offset| keyed.records[offset].1.is_some());
    assert_eq!(
        found.into_iter().filter(|(_, it)| it.1.is_some()).map(|it| it.0).collect::<Vec<_>>(),
        values.collect::<Vec<_>>()
    );
}

#[test]
fn a_power_cut_at_any_step_of_a_cleaning_costs_no_last_value_and_leaves_no_garbage() {
    let mut steps = 0;
    let mut cuts = 0;
    loop {
        let mut keyed = Keyed::new(5);
        keyed.fill(120, 25);
        assert!(keyed.begin());
        let ended = keyed.clean_some(steps).is_some();
        if cuts % 2 == 0 {
            keyed.world.disk.crash()
        } else {
            keyed.world.disk.kill()
        }
        keyed.world.restart();
        keyed.world.store.configure(log(0), compacted());
        keyed.assert_no_garbage();
        keyed.assert_last_values();
        if keyed.begin() {
            keyed.clean_some(100_000).expect("a cleaning ends");
        }
        keyed.assert_no_garbage();
        let until = keyed.sealed_end();
        let offsets: Vec<i64> = keyed.assert_last_values().into_keys().collect();
        assert_eq!(offsets, last_of_each(&keyed.records, until), "cut after {steps} steps");
        if ended {
            break;
        }
        (steps, cuts) = (steps + 1, cuts + 1);
    }
    assert!(cuts > 20, "{cuts} cuts");
}

#[test]
fn what_cannot_be_read_is_left_as_it_is_and_no_tombstone_behind_it_goes() {
    for place in [0, 2, 4] {
        let mut keyed = Keyed::new(6);
        keyed.fill(300, 30);
        let image = &keyed.world.store.manifest.image().logs[&log(0)];
        let damaged = image.segments.sealed()[place];
        let file = damaged.name(log(0)).data();
        let before = keyed.world.disk.contents(file).expect("a file");
        keyed.world.disk.flip_bit(file, damaged.length / 2, 3);
        let rotten = keyed.world.disk.contents(file).expect("a file");
        let readable = keyed.read();
        let report = keyed.clean();
        assert_eq!(report.left_out, [(damaged.base, damaged.end)]);
        assert_eq!(keyed.world.disk.contents(file).expect("still there"), rotten);
        let found = keyed.read();
        let inside = damaged.base.0..damaged.end.0;
        assert!(readable.range(inside.clone()).eq(found.range(inside)), "nothing of it went");
        keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR / 2);
        assert_eq!(keyed.world.store.next_clean(keyed.world.now), None, "not again at once");

        // A day later it can be read again: only now what is behind it may be forgotten.
        keyed.world.disk.overwrite(file, 0, &before);
        for _ in 0..3 {
            keyed.world.now.wall.0 += DAY;
            keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR * 24);
            keyed.world.restart();
            keyed.world.store.configure(log(0), compacted());
            keyed.fill(100, 3);
            keyed.clean();
            keyed.assert_last_values();
        }
        keyed.assert_no_garbage();
    }
}

#[test]
fn a_wrong_bit_in_a_cleaned_segment_is_never_served() {
    let mut keyed = Keyed::new(7);
    keyed.fill(300, 150);
    keyed.clean();
    let image = &keyed.world.store.manifest.image().logs[&log(0)];
    let sealed = image.segments.sealed().iter();
    let segment = *sealed.max_by_key(|segment| segment.length).expect("there are some");
    assert!(segment.has_gaps());
    let file = segment.name(log(0)).data();
    let sound = keyed.read();
    for at in (0..segment.length).step_by(97) {
        keyed.world.disk.flip_bit(file, at, (at % 8) as u8);
        keyed.world.restart();
        let found = keyed.read();
        assert!(found.len() < sound.len() || found == sound, "byte {at}: noticed, or put right");
        keyed.world.disk.flip_bit(file, at, (at % 8) as u8);
    }
    // Its index is only a cache: without it nothing else is found.
    keyed.world.disk.shorten(segment.name(log(0)).index(), None);
    keyed.world.restart();
    assert_eq!(keyed.read(), sound);
}

#[test]
fn retention_deletion_and_a_moved_start_go_before_a_cleaning() {
    for steps in (0..140).step_by(3) {
        for what in 0..3 {
            let mut keyed = Keyed::new(8);
            keyed.fill(120, 25);
            assert!(keyed.begin());
            let _ = keyed.clean_some(steps);
            let store = &mut keyed.world.store;
            match what {
                0 => {
                    let retention_bytes = Some(30_000);
                    let delete = LogSettings { compacted: false, retention_bytes, ..compacted() };
                    store.configure(log(0), delete);
                    store.retention(log(0), keyed.world.now, Offset(i64::MAX));
                }
                1 => store.set_start_offset(log(0), Offset(300)),
                _ => store.delete(log(0)),
            }
            let _ = keyed.clean_some(500);
            keyed.world.run();
            if what == 2 {
                assert_eq!(keyed.world.files_of(log(0)), []);
                assert!(keyed.world.store.manifest.image().condemned.is_empty());
                continue;
            }
            keyed.assert_no_garbage();
            keyed.read();
            keyed.world.restart();
            keyed.read();
        }
    }
}

#[test]
fn what_retention_overtook_stays_dirty_and_no_tombstone_behind_it_goes() {
    let mut overtaken = 0;
    for steps in (0..160).step_by(5) {
        let mut keyed = Keyed::new(13);
        let both = LogSettings { segment_bytes: 60_000, compacted: false, ..compacted() };
        keyed.fill(150, 25);
        keyed.world.store.configure(log(0), both);
        assert!(keyed.begin());
        let _ = keyed.clean_some(steps);
        // Retention takes the first of the segments that are to become one.
        let bytes = keyed.world.store.bytes_on_disk(log(0)).expect("a known log");
        let settings = LogSettings { retention_bytes: Some(bytes.saturating_sub(20_000)), ..both };
        keyed.world.store.configure(log(0), settings);
        keyed.world.store.retention(log(0), keyed.world.now, Offset(i64::MAX));
        keyed.world.store.configure(log(0), both);
        let until = keyed.sealed_end();
        let _ = keyed.clean_some(5000);
        let image = &keyed.world.store.manifest.image().logs[&log(0)];
        overtaken += i32::from(image.clean_until < Offset(until));
        for _ in 0..2 {
            keyed.world.now.wall.0 += DAY;
            keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR * 24);
            keyed.fill(60, 3);
            if keyed.begin() {
                keyed.clean_some(100_000).expect("a cleaning ends");
            }
            let start = keyed.world.store.start_offset(log(0)).expect("a known log").0;
            keyed.records = keyed.records.split_off(&start);
            keyed.assert_last_values();
        }
    }
    assert!(overtaken > 1, "{overtaken}");
}

#[test]
fn want_of_room_ends_a_cleaning_and_nothing_else() {
    let mut keyed = Keyed::new(9);
    keyed.fill(200, 30);
    let before = keyed.read();
    assert!(keyed.begin());
    keyed.world.disk.limit(Some(8192));
    assert_eq!(keyed.clean_some(2000), None, "it was given up");
    assert!(!keyed.world.store.cleaner.is_busy());
    keyed.world.disk.limit(None);
    keyed.world.now.monotonic = keyed.world.now.monotonic.after(Duration::from_secs(10));
    keyed.world.run();
    assert_eq!(keyed.read(), before);
    keyed.assert_no_garbage();
    keyed.clean();
    keyed.assert_last_values();
}

#[test]
fn a_stop_waits_for_no_cleaning() {
    let mut keyed = Keyed::new(10);
    keyed.fill(200, 30);
    assert!(keyed.begin());
    let _ = keyed.clean_some(12);
    keyed.world.store.prepare_stop();
    keyed.world.run();
    assert!(!keyed.world.store.outstanding());
    assert!(!keyed.begin());
    keyed.world.restart();
    keyed.assert_no_garbage();
}

#[test]
fn what_is_not_stable_is_not_cleaned_and_the_last_trace_of_a_producer_stays() {
    let mut keyed = Keyed::new(11);
    keyed.append(1, Some((70, 0)));
    keyed.append(1, Some((71, 0)));
    let last = keyed.world.store.end_offset(log(0)).expect("a known log").0 - 1;
    keyed.fill(100, 1);
    let mut facts = facts(3);
    facts.stable = Offset(last);
    assert!(!keyed.world.store.begin_clean(log(0), &facts), "nothing is stable");
    facts.stable = Offset(i64::MAX);
    let of_producer = LastOfProducer { epoch: ProducerEpoch(0), data: Some(Offset(last)) };
    facts.producers.insert(ProducerId(71), of_producer);
    keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR);
    assert!(keyed.world.store.begin_clean(log(0), &facts));
    keyed.clean_some(100_000).expect("a cleaning ends");
    let batches = keyed.world.read_from(log(0), 0, 1).expect("a sound disk");
    let header = BatchHeader::parse(&batches[0]).expect("a header");
    let producer = (header.producer_id, header.last_offset(), header.record_count);
    assert_eq!(producer, (ProducerId(71), Offset(last), 0));
    assert!(flumen_protocol::batch::check::verify_crc(&batches[0]));
}

#[test]
fn aborted_records_supersede_nothing_and_go() {
    let mut keyed = Keyed::new(12);
    keyed.fill(60, 10);
    // A transaction that was aborted, of the same keys, and its marker.
    let end = keyed.world.store.end_offset(log(0)).expect("a known log").0;
    let transactional = |control: bool| {
        let builder = BatchBuilder::new().transactional();
        let builder = builder.with_producer(ProducerId(9), ProducerEpoch(0), Sequence(0));
        if control { builder.control() } else { builder }
    };
    let mut data = transactional(false);
    for n in 0..10 {
        let key = format!("key {n}");
        let (key, value) = (Some(key.as_bytes()), Some(&b"aborted"[..]));
        data.push(&NewRecord { timestamp: 5, key, value, headers: &[] });
    }
    let mut marker = transactional(true);
    let (key, value) = (Some(&[0, 0, 0, 0][..]), Some(&[0; 6][..]));
    marker.push(&NewRecord { timestamp: 5, key, value, headers: &[] });
    for (builder, count) in [(data, 10), (marker, 1)] {
        let base = keyed.world.store.end_offset(log(0)).expect("a known log");
        let mut bytes = builder.finish();
        stamp(&mut bytes, base, LeaderEpoch(1));
        let (bytes, last_offset) = (bytes.freeze(), base.after(count - 1));
        let records = Records { base_offset: base, last_offset, max_timestamp: 5, bytes };
        keyed.world.append(log(0), |_| Payload::Records(records));
    }
    (0..60).for_each(|_| keyed.append(3, None));
    keyed.world.settle(log(0));
    let (first, last) = (Offset(end), Offset(end + 10));
    let aborted = vec![AbortedRange { producer: ProducerId(9), first, last }];
    let facts = CleaningFacts { aborted: aborted.clone(), ..facts(3) };
    for emptied in [Vec::new(), aborted] {
        keyed.fill(100, 3);
        keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR);
        assert!(keyed.world.store.begin_clean(log(0), &facts));
        let report = keyed.clean_some(100_000).expect("a cleaning ends");
        assert_eq!(report.emptied, emptied);
        let batches = keyed.world.read_from(log(0), end, 1).expect("a sound disk");
        let header = BatchHeader::parse(&batches[0]).expect("a header");
        assert!(header.is_control() && header.base_offset == last, "the marker is listed still");
    }
    keyed.records.insert(last.0, (vec![0; 4], Some(vec![0; 6]), 5));
    keyed.assert_last_values();
    assert_eq!(keyed.read().range(..end).map(|(_, it)| &it.0).collect::<Vec<_>>().len(), 10 - 3);
}

#[test]
fn a_cleaning_keeps_nothing_of_what_it_read() {
    let mut keyed = Keyed::new(13);
    keyed.fill(2_000, 10_000);
    let before = keyed.world.store.memory_bytes();
    assert!(keyed.begin(), "it is due");
    let mut kept = 0;
    let report = loop {
        kept = kept.max(keyed.world.store.memory_bytes().saturating_sub(before));
        if let Some(report) = keyed.clean_some(1) {
            break report;
        }
    };
    keyed.world.run();
    assert!(report.bytes_read > 1_000_000, "{} bytes read", report.bytes_read);
    assert!(kept < 512 << 10, "{kept} bytes kept of {}", report.bytes_read);
    // What a reader brings stays for the next one.
    keyed.assert_last_values();
    assert!(keyed.world.store.memory_bytes() > before + 500_000);
}

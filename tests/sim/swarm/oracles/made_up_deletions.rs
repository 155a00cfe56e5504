//! What a broker that makes no mistakes adds to a made-up history if somebody deletes keys of a compacted topic.
//!
//! Does: model logs that are cleaned while they are written and read, a writer of few keys who is not always answered,
//! readers that keep pace and one that is cleaned under.
//! Does not: use the world or the broker: what oracles find in its histories would prove nothing of them.
//! Invariants: the same dice make the same history; its topic is nobody else's; a deletion stays for as long as the
//! history says after the first cleaning that met it.
//! Apart from `made_up.rs` because nothing there goes from the middle of a log.

use std::collections::BTreeMap;

use flumen_storage::sim_disk::Dice;

use super::super::heap::Nanos;
use super::super::history::{Happening, History, KEYED_WRITER, Place, Value};

/// The topic that is cleaned.
pub const TOPIC: u8 = 2;
const PARTITIONS: u64 = 2;
const STEPS: u64 = 60;

/// A record that is there.
#[derive(Clone, Copy)]
struct Kept {
    offset: i64,
    value: Value,
    /// When a deletion may go, once a cleaning has met it.
    horizon: Option<Nanos>,
}

#[derive(Default)]
struct Log {
    records: Vec<Kept>,
    end: i64,
}

struct Model<'a> {
    dice: &'a mut Dice,
    history: &'a mut History,
    logs: BTreeMap<Place, Log>,
    now: Nanos,
    next: u32,
    /// How long deletions stay.
    last: Nanos,
}

/// Adds what happens in a compacted topic.
pub fn add(history: &mut History, dice: &mut Dice) {
    let place = |partition| Place { topic: TOPIC, partition: partition as i32 };
    let last = [0, 50, 300, Nanos::MAX][dice.below(4) as usize];
    history.tombstones_last = last;
    let logs = (0..PARTITIONS).map(|partition| (place(partition), Log::default())).collect();
    let mut model = Model { dice, history, logs, now: 0, next: 0, last };
    for _ in 0..STEPS + model.dice.below(STEPS) {
        model.step();
    }
    model.end();
}

impl Model<'_> {
    fn step(&mut self) {
        let time = self.dice.below(20);
        self.wait(time);
        let place = Place { topic: TOPIC, partition: self.dice.below(PARTITIONS) as i32 };
        match self.dice.below(10) {
            0..6 => self.write(place),
            6 | 7 => self.clean(place),
            _ => {
                let from = self.dice.below(self.logs[&place].end as u64 + 1) as i64;
                drop(self.read(place, from, i64::MAX));
            }
        }
    }

    fn wait(&mut self, time: Nanos) {
        self.now += time;
        self.history.set_time(self.now);
    }

    fn write(&mut self, place: Place) {
        let value = Value { writer: KEYED_WRITER, number: self.next };
        self.next += 1;
        self.history.note(Happening::Sent(place, value));
        let since = self.history.note(Happening::Asked);
        let time = self.dice.below(10);
        self.wait(time);
        let log = self.logs.get_mut(&place).expect("it is there");
        let offset = log.end;
        log.records.push(Kept { offset, value, horizon: None });
        log.end += 1;
        // Of some nobody hears, of others not where they are.
        let offset = Some(offset).filter(|_| self.dice.below(10) > 0);
        if self.dice.below(10) > 0 {
            self.history.note(Happening::Acked { place, value, offset, since });
        }
    }

    fn clean(&mut self, place: Place) {
        let (now, last) = (self.now, self.last);
        let log = self.logs.get_mut(&place).expect("it is there");
        let latest: BTreeMap<Option<u32>, i64> =
            log.records.iter().map(|it| (it.value.few_key(), it.offset)).collect();
        log.records.retain(|it| {
            let is_latest = latest[&it.value.few_key()] == it.offset;
            is_latest && it.horizon.is_none_or(|horizon| horizon > now)
        });
        for kept in log.records.iter_mut().filter(|it| it.value.is_tombstone()) {
            kept.horizon = kept.horizon.or(Some(now.saturating_add(last)));
        }
    }

    /// Reads from one offset up to another, or to the end.
    fn read(&mut self, place: Place, from: i64, to: i64) -> Vec<(i64, Value)> {
        let since = self.history.note(Happening::Asked);
        let log = &self.logs[&place];
        let to = to.min(log.end);
        let (mut next, mut given) = (from, Vec::new());
        for Kept { offset, value, .. } in
            log.records.iter().filter(|it| (from..to).contains(&it.offset))
        {
            let (offset, value) = (*offset, *value);
            if offset > next {
                self.history.note(Happening::Skipped { place, from: next, to: offset });
            }
            self.history.note(Happening::Seen { place, offset, value, since });
            given.push((offset, value));
            next = offset + 1;
        }
        if to > next {
            self.history.note(Happening::Skipped { place, from: next, to });
        }
        given
    }

    /// Everything is read twice; the first time it may be cleaned meanwhile, so often that a deletion goes.
    fn end(&mut self) {
        for place in self.logs.keys().copied().collect::<Vec<_>>() {
            let end = self.logs[&place].end;
            for is_cleaned in [self.dice.below(2) == 0, false] {
                let middle = self.dice.below(end as u64 + 1) as i64;
                let mut records = self.read(place, 0, middle);
                if is_cleaned {
                    self.clean(place);
                    let time = if self.last == Nanos::MAX { 10 } else { self.last };
                    self.wait(time);
                    self.clean(place);
                }
                records.extend(self.read(place, middle, end));
                self.history.note(Happening::ReadWhole { place, start: 0, end, records });
            }
        }
    }
}

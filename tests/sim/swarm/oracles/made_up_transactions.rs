//! What a broker that makes no mistakes adds to a made-up history if somebody writes in transactions.
//!
//! Does: model logs with markers, two producers that take one transactional id from each other, a group that they copy
//! for, a reader of what is committed; ends that are told, and ends that nobody hears of.
//! Does not: use the world or the broker: what oracles find in its histories would prove nothing of them.
//! Invariants: the same dice make the same history; its places are nobody else's.
//! Apart from `made_up.rs` because transactions have a model of their own.

use std::collections::BTreeMap;

use flumen_storage::sim_disk::Dice;

use super::super::history::{Happening, History, Place, Value};
use super::super::transacted::{
    COPYING_GROUP, Reign, TRANSACTIONAL_WRITER, Transacted, Transaction,
};

/// What is copied, and where to.
const SOURCE: Place = Place { topic: 0, partition: 7 };
const TARGETS: [Place; 2] = [Place { topic: 0, partition: 8 }, Place { topic: 0, partition: 9 }];
/// Who writes what is copied: nobody else in these histories has this name.
const ORIGIN: u16 = 400;
const STEPS: u64 = 60;

/// What is at an offset.
#[derive(Clone, Copy)]
enum Slot {
    Record(Value, Option<usize>),
    Marker,
}

/// A transaction as the broker knows it.
struct Known {
    of: Transaction,
    /// Its first offsets by place.
    places: BTreeMap<Place, usize>,
    is_open: bool,
    is_committed: bool,
    /// How far its group has read with it.
    read: usize,
}

struct Model<'a> {
    dice: &'a mut Dice,
    history: &'a mut History,
    logs: BTreeMap<Place, Vec<Slot>>,
    transactions: Vec<Known>,
    /// The last reign and its epoch, and how many reigns each of the two had.
    reign: Option<Reign>,
    epoch: i16,
    counts: [u32; 2],
    numbers: BTreeMap<u16, u32>,
    /// How far the group has read in committed transactions.
    read: usize,
}

/// Adds what happens in transactions.
pub fn add(history: &mut History, dice: &mut Dice) {
    let places = TARGETS.into_iter().chain([SOURCE]);
    let mut model = Model {
        dice,
        history,
        logs: places.map(|place| (place, Vec::new())).collect(),
        transactions: Vec::new(),
        reign: None,
        epoch: -1,
        counts: [0; 2],
        numbers: BTreeMap::new(),
        read: 0,
    };
    model.renew();
    for _ in 0..STEPS + model.dice.below(STEPS) {
        model.step();
    }
    model.end();
}

impl Model<'_> {
    fn step(&mut self) {
        match self.dice.below(20) {
            0..4 => self.write_source(),
            4..9 => self.copy(),
            9..12 => {
                let commits = self.dice.below(3) > 0;
                self.end_transaction(commits);
            }
            12..16 => self.read(),
            16 => self.look(),
            17 | 18 => self.be_a_zombie(),
            _ => self.renew(),
        }
    }

    fn next_value(&mut self, writer: u16) -> Value {
        let next = self.numbers.entry(writer).or_default();
        *next += 1;
        Value { writer, number: *next }
    }

    fn append(&mut self, place: Place, slot: Slot) -> usize {
        let log = self.logs.get_mut(&place).expect("it is there");
        log.push(slot);
        log.len() - 1
    }

    fn write_source(&mut self) {
        let value = self.next_value(ORIGIN);
        self.history.note(Happening::Sent(SOURCE, value));
        let since = self.history.note(Happening::Asked);
        let offset = Some(self.append(SOURCE, Slot::Record(value, None)) as i64);
        self.history.note(Happening::Acked { place: SOURCE, value, offset, since });
    }

    /// The transaction under way; a new one if there is none.
    fn open(&mut self, reign: Reign) -> usize {
        if let Some(at) = self.transactions.iter().position(|it| it.is_open) {
            return at;
        }
        let of = Transaction { reign, number: self.transactions.len() as u32 };
        let (places, read) = (BTreeMap::new(), self.read);
        let known = Known { of, places, is_open: true, is_committed: false, read };
        self.transactions.push(known);
        self.transactions.len() - 1
    }

    fn copy(&mut self) {
        let Some(reign) = self.reign else { return };
        let open = self.transactions.iter().find(|it| it.is_open);
        let from = open.map_or(self.read, |it| it.read);
        let Some(Slot::Record(..)) = self.logs[&SOURCE].get(from) else { return };
        let at = self.open(reign);
        let of = self.transactions[at].of;
        let place = TARGETS[self.dice.below(2) as usize];
        let value = self.next_value(reign.writer);
        let copied = Transacted::Copied { value, place: SOURCE, offset: from as i64 };
        self.history.note_transacted(Transacted::Part(of, value));
        self.history.note_transacted(copied);
        self.history.note(Happening::Sent(place, value));
        let since = self.history.note(Happening::Asked);
        let offset = self.append(place, Slot::Record(value, Some(at)));
        self.transactions[at].places.entry(place).or_insert(offset);
        self.transactions[at].read = from + 1;
        let offset = Some(offset as i64);
        self.history.note(Happening::Acked { place, value, offset, since });
    }

    /// The end of the transaction under way is asked for; perhaps nobody hears of it, and perhaps nobody did.
    fn end_transaction(&mut self, commits: bool) {
        let Some(at) = self.transactions.iter().position(|it| it.is_open) else { return };
        let Known { of, read, .. } = self.transactions[at];
        let (group, place, offset) = (COPYING_GROUP, SOURCE, read as i64);
        self.history.note_transacted(Transacted::Carried { of, group, place, offset });
        if commits {
            self.history.note_transacted(Transacted::CommitAsked(of));
        }
        let since = self.history.note(Happening::Asked);
        if commits && self.dice.below(8) == 0 {
            // It was lost on the way, and its producer with it.
            self.decide(at, false);
            return self.reign = None;
        }
        self.decide(at, commits);
        if self.dice.below(8) == 0 {
            return self.reign = None;
        }
        if commits {
            let is_committed = true;
            self.history.note_transacted(Transacted::Ended { of, is_committed, since });
            self.history.note(Happening::Committed { group, place, offset });
        }
    }

    fn decide(&mut self, at: usize, commits: bool) {
        let it = &mut self.transactions[at];
        (it.is_open, it.is_committed) = (false, commits);
        if commits {
            self.read = it.read;
        }
        let places: Vec<Place> = it.places.keys().copied().collect();
        for place in places {
            self.append(place, Slot::Marker);
        }
    }

    /// One of the two takes the id; what the other had begun is aborted.
    fn renew(&mut self) {
        if let Some(at) = self.transactions.iter().position(|it| it.is_open) {
            self.decide(at, false);
        }
        let which = self.dice.below(2) as usize;
        self.counts[which] += 1;
        self.epoch += 1;
        let writer = TRANSACTIONAL_WRITER + which as u16;
        let reign = Reign { writer, count: self.counts[which] };
        let (id, producer, epoch) = (0, 7, self.epoch);
        self.history.note_transacted(Transacted::Renewed { id, producer, epoch, reign });
        self.reign = Some(reign);
    }

    /// Somebody who lost the id sends once more, and is refused.
    fn be_a_zombie(&mut self) {
        let Some(of) = self.transactions.last().map(|it| it.of) else { return };
        if self.reign.is_some_and(|reign| reign == of.reign) {
            return;
        }
        let value = self.next_value(of.reign.writer);
        let of = Transaction { number: 1_000, ..of };
        self.history.note_transacted(Transacted::Part(of, value));
        self.history.note(Happening::Sent(TARGETS[0], value));
        self.history.note_transacted(Transacted::CommitAsked(of));
        let since = self.history.note(Happening::Asked);
        self.history.note_transacted(Transacted::Ended { of, is_committed: false, since });
    }

    fn stable(&self, place: Place) -> usize {
        let open = self.transactions.iter().filter(|it| it.is_open);
        let first = open.filter_map(|it| it.places.get(&place)).min();
        first.copied().unwrap_or(self.logs[&place].len())
    }

    /// What is committed of a log, from this offset on.
    fn committed(&self, place: Place, from: usize) -> Vec<(i64, Value)> {
        let slots = self.logs[&place].iter().enumerate().take(self.stable(place)).skip(from);
        let committed = slots.filter_map(|(offset, slot)| match slot {
            Slot::Record(value, None) => Some((offset as i64, *value)),
            Slot::Record(value, Some(at)) => {
                self.transactions[*at].is_committed.then_some((offset as i64, *value))
            }
            Slot::Marker => None,
        });
        committed.collect()
    }

    fn read(&mut self) {
        let all: Vec<Place> = self.logs.keys().copied().collect();
        let place = all[self.dice.below(all.len() as u64) as usize];
        let from = self.dice.below(self.logs[&place].len() as u64 + 1) as usize;
        let since = self.history.note(Happening::Asked);
        let stable = self.stable(place) as i64;
        self.history.note_transacted(Transacted::Stable { place, stable, since });
        for (offset, value) in self.committed(place, from) {
            self.history.note(Happening::Seen { place, offset, value, since });
            self.history.note_transacted(Transacted::Believed { place, offset, value });
        }
    }

    /// A copier asks how far its group has read.
    fn look(&mut self) {
        let since = self.history.note(Happening::Asked);
        let offset = if self.read == 0 { -1 } else { self.read as i64 };
        let (group, place) = (COPYING_GROUP, SOURCE);
        self.history.note(Happening::CommitRead { group, place, offset, since });
    }

    /// Whatever is open is aborted; everything is read.
    fn end(mut self) {
        self.renew();
        let since = self.history.note(Happening::Asked);
        let undecided = Transacted::Undecided { place: SOURCE, waited_ms: 10, since };
        self.history.note_transacted(undecided);
        let logs = std::mem::take(&mut self.logs);
        for (place, log) in &logs {
            let end = log.len() as i64;
            let mut records = Vec::new();
            for (offset, slot) in (0i64..).zip(log) {
                match slot {
                    Slot::Record(value, _) => records.push((offset, *value)),
                    Slot::Marker => {
                        self.history.note_transacted(Transacted::Marked(*place, offset));
                    }
                }
            }
            self.history.note(Happening::ReadWhole { place: *place, start: 0, end, records });
        }
        self.logs = logs;
        for place in TARGETS.into_iter().chain([SOURCE]) {
            let (end, records) = (self.logs[&place].len() as i64, self.committed(place, 0));
            let read = Transacted::ReadCommitted { place, start: 0, end, records };
            self.history.note_transacted(read);
        }
    }
}

//! Histories of a broker that makes no mistakes.
//!
//! Does: model a broker in a few lines, and clients that send, send again, give up, read, delete, commit
//! and are rebalanced while their answers come late, never, or over a crash; note what they are told.
//! Does not: use the world or the broker: what oracles find in its histories would prove nothing of them.
//! Invariants: the same seed makes the same history; whatever the order, no promise is broken.
//! Apart because an oracle that accuses the innocent is worth as little as one that sees nothing.

use std::collections::BTreeMap;

use flumen_storage::sim_disk::Dice;

use super::super::history::{Happening, History, Place, Since, Value};
use super::{made_up_deletions, made_up_transactions};

/// What is done at most once for a request, and then told or not.
struct Request {
    since: Since,
    what: What,
    /// What will be told; there once the broker has done it.
    answer: Option<Vec<Happening>>,
}

/// What is asked of the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Produce(usize),
    Fetch(Place, i64),
    Ends(Place),
    Delete(Place, i64),
    Commit(u8, Place),
    CommitRead(u8, Place),
    /// Told to a member; nothing is to be done.
    Rebalance,
}

/// One log: strict ones show what is committed, relaxed ones everything.
#[derive(Default)]
struct Log {
    values: Vec<Value>,
    /// Where batches end.
    ends: Vec<usize>,
    committed: usize,
    start: usize,
}

/// A producer and the batch it has no answer for.
#[derive(Default)]
struct Writer {
    next: u32,
    open: Option<(Place, Vec<Value>)>,
    is_under_way: bool,
    /// It does not send again what it has no answer for.
    is_plain: bool,
}

struct Model {
    dice: Dice,
    history: History,
    logs: BTreeMap<Place, Log>,
    writers: Vec<Writer>,
    requests: Vec<Request>,
    committed: BTreeMap<(u8, Place), i64>,
    generation: i32,
}

/// The topic that may lose its end in a crash.
const RELAXED: u8 = 1;
const STEPS: u64 = 250;

/// The history of this seed.
pub fn history(seed: u64) -> History {
    let mut dice = Dice::new(seed ^ 0x006d_6164_6500);
    let places = (0..2).flat_map(|topic| (0..2).map(move |partition| Place { topic, partition }));
    let writers = (0..3).map(|name| Writer { is_plain: name == 2, ..Writer::default() });
    let crashes = dice.below(3);
    let mut model = Model {
        dice,
        history: History::new(vec![RELAXED], vec![RELAXED], vec![made_up_deletions::TOPIC]),
        logs: places.map(|place| (place, Log::default())).collect(),
        writers: writers.collect(),
        requests: Vec::new(),
        committed: BTreeMap::new(),
        generation: 0,
    };
    for _ in 0..STEPS + model.dice.below(STEPS) {
        model.step(crashes);
    }
    let mut history = model.end();
    made_up_transactions::add(&mut history, &mut Dice::new(seed ^ 0x0074_786e_7300));
    made_up_deletions::add(&mut history, &mut Dice::new(seed ^ 0x0064_656c_6574));
    history
}

impl Model {
    fn step(&mut self, crashes: u64) {
        let place = self.place();
        let group = self.dice.below(2) as u8;
        match self.dice.below(100) {
            0..22 => self.produce(),
            22..50 => self.serve(),
            50..72 => self.tell(),
            72..75 => self.lose(),
            75..83 => {
                let from = self.dice.below(self.logs[&place].values.len() as u64 + 1) as i64;
                self.ask(What::Fetch(place, from));
            }
            83..87 => self.ask(What::Ends(place)),
            87..89 => {
                let to = self.dice.below(self.end_of(place) as u64 + 1) as i64;
                self.history.note(Happening::DeleteAsked(place, to));
                self.ask(What::Delete(place, to));
            }
            89..92 => self.ask(What::Commit(group, place)),
            92..95 => self.ask(What::CommitRead(group, place)),
            95..97 => self.rebalance(group),
            97 => self.commit_log(place),
            98 => self.retain(place),
            _ if self.dice.below(2) < crashes => self.crash(),
            _ => {}
        }
    }

    fn place(&mut self) -> Place {
        let nth = self.dice.below(self.logs.len() as u64) as usize;
        *self.logs.keys().nth(nth).expect("there are logs")
    }

    /// Where readers see the log end.
    fn end_of(&self, place: Place) -> usize {
        let log = &self.logs[&place];
        if place.topic == RELAXED { log.values.len() } else { log.committed }
    }

    fn ask(&mut self, what: What) {
        let since = self.history.note(Happening::Asked);
        self.requests.push(Request { since, what, answer: None });
    }

    fn produce(&mut self) {
        let name = self.dice.below(self.writers.len() as u64) as usize;
        let place = self.place();
        let count = 1 + self.dice.below(3) as u32;
        let writer = &mut self.writers[name];
        if writer.is_under_way {
            return;
        }
        if writer.open.is_none() {
            let numbers = writer.next..writer.next + count;
            let values = numbers.map(|number| Value { writer: name as u16, number });
            writer.open = Some((place, values.collect()));
            writer.next += count;
            for value in &writer.open.as_ref().expect("it was just made").1 {
                self.history.note(Happening::Sent(place, *value));
            }
        }
        writer.is_under_way = true;
        self.ask(What::Produce(name));
    }

    /// One of the requests that are done, or that are not.
    fn any_request(&mut self, is_done: bool) -> Option<usize> {
        let requests = self.requests.iter().enumerate();
        let fitting = requests.filter(|(_, it)| it.answer.is_some() == is_done);
        let fitting: Vec<usize> = fitting.map(|(at, _)| at).collect();
        (!fitting.is_empty()).then(|| fitting[self.dice.below(fitting.len() as u64) as usize])
    }

    /// The broker does one of the things it was asked for.
    fn serve(&mut self) {
        let Some(at) = self.any_request(false) else { return };
        let Request { since, what, .. } = self.requests[at];
        let answer = self.carry_out(since, what);
        self.requests[at].answer = Some(answer);
    }

    fn carry_out(&mut self, since: Since, what: What) -> Vec<Happening> {
        match what {
            What::Produce(name) => self.append(since, name),
            What::Fetch(place, from) => self.fetch(since, place, from),
            What::Ends(place) => {
                let (end, start) = (self.end_of(place) as i64, self.logs[&place].start as i64);
                if self.dice.below(2) == 0 {
                    vec![Happening::End { place, end, since }]
                } else {
                    vec![Happening::Start { place, start, since }]
                }
            }
            What::Delete(place, to) => {
                if to > self.end_of(place) as i64 {
                    return Vec::new();
                }
                let log = self.logs.get_mut(&place).expect("it is there");
                log.start = log.start.max(to as usize);
                vec![Happening::Deleted(place, log.start as i64)]
            }
            What::Commit(group, place) => {
                let offset = self.dice.below(self.end_of(place) as u64 + 1) as i64;
                let known = self.committed.entry((group, place)).or_insert(offset);
                *known = offset.max(*known);
                vec![Happening::Committed { group, place, offset: *known }]
            }
            What::CommitRead(group, place) => {
                let offset = self.committed.get(&(group, place)).copied().unwrap_or(-1);
                vec![Happening::CommitRead { group, place, offset, since }]
            }
            What::Rebalance => Vec::new(),
        }
    }

    fn append(&mut self, since: Since, name: usize) -> Vec<Happening> {
        let Some((place, values)) = self.writers[name].open.clone() else { return Vec::new() };
        let log = self.logs.get_mut(&place).expect("it is there");
        let known = log.values.iter().position(|value| *value == values[0]);
        // Only of one that never sends again: what is refused must not have been seen before.
        if known.is_none() && self.writers[name].is_plain && self.dice.below(6) == 0 {
            let refused = values.into_iter().map(|value| Happening::Refused(place, value));
            return refused.collect();
        }
        let base = known.unwrap_or_else(|| {
            log.values.extend(&values);
            log.ends.push(log.values.len());
            log.values.len() - values.len()
        });
        let is_told = self.dice.below(10) > 0;
        let acked = (base as i64..).zip(values).map(|(offset, value)| {
            let offset = is_told.then_some(offset);
            Happening::Acked { place, value, offset, since }
        });
        acked.collect()
    }

    fn fetch(&mut self, since: Since, place: Place, from: i64) -> Vec<Happening> {
        let (end, start) = (self.end_of(place) as i64, self.logs[&place].start as i64);
        if from < start || from > end {
            return Vec::new();
        }
        let mut told =
            vec![Happening::End { place, end, since }, Happening::Start { place, start, since }];
        let until = (from + self.dice.below(8) as i64).min(end);
        let values = &self.logs[&place].values[from as usize..until as usize];
        told.extend((from..).zip(values).map(|(offset, value)| Happening::Seen {
            place,
            offset,
            value: *value,
            since,
        }));
        told
    }

    /// Somebody is told what the broker did.
    fn tell(&mut self) {
        let Some(at) = self.any_request(true) else { return };
        let Request { what, answer, .. } = self.requests.swap_remove(at);
        let answer = answer.expect("it is done");
        if let What::Produce(name) = what {
            let place = self.writers[name].open.as_ref().map(|(place, _)| *place);
            let is_acked = matches!(answer.first(), Some(Happening::Acked { .. }));
            if let Some(place) = place.filter(|_| is_acked) {
                // Nothing is acknowledged before it is committed.
                self.commit_log(place);
            }
            self.writers[name].open = None;
            self.writers[name].is_under_way = false;
        }
        for happening in answer {
            self.history.note(happening);
        }
    }

    /// A connection breaks: nobody is told, whether it was done or not.
    fn lose(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let at = self.dice.below(self.requests.len() as u64) as usize;
        let Request { since, what, answer } = self.requests.swap_remove(at);
        if answer.is_none() && self.dice.below(2) == 0 {
            drop(self.carry_out(since, what));
        }
        if let What::Produce(name) = what {
            self.give_up(name, answer);
        }
    }

    /// A writer hears nothing of its batch. What was refused it never sends again; whoever told it
    /// so may still come to be heard by others.
    fn give_up(&mut self, name: usize, answer: Option<Vec<Happening>>) {
        let writer = &mut self.writers[name];
        writer.is_under_way = false;
        let is_refused =
            answer.is_some_and(|it| matches!(it.first(), Some(Happening::Refused(..))));
        if writer.is_plain || is_refused {
            writer.open = None;
        }
    }

    fn rebalance(&mut self, group: u8) {
        self.generation += 1;
        let members = 1 + self.dice.below(3);
        let mut shares: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
        for place in self.logs.keys() {
            shares.entry(self.dice.below(members)).or_default().push(*place);
        }
        // In the new protocol everybody gives up first.
        let at = self.generation as u64 * 10;
        let hands = |member, places: &[Place]| {
            let places = places.to_vec();
            Happening::InHands { group, member, places, at, until: at + 100 }
        };
        for member in 0..3 {
            self.history.note(hands(member, &[]));
        }
        for (member, places) in &shares {
            self.history.note(hands(*member as u16, places));
        }
        for (member, places) in shares {
            let (generation, member) = (self.generation, format!("member-{member}"));
            let assigned = Happening::Assigned { group, generation, member, places };
            let since = self.history.note(Happening::Asked);
            let answer = Some(vec![assigned]);
            self.requests.push(Request { since, what: What::Rebalance, answer });
        }
    }

    fn commit_log(&mut self, place: Place) {
        let log = self.logs.get_mut(&place).expect("it is there");
        log.committed = log.values.len();
    }

    /// Retention, as the topic has it.
    fn retain(&mut self, place: Place) {
        if place.topic != RELAXED {
            return;
        }
        let end = self.end_of(place);
        let log = self.logs.get_mut(&place).expect("it is there");
        log.start = log.start.max(end.min(log.start + self.dice.below(4) as usize));
    }

    /// What was not committed may be gone, batch by batch; answers that are on their way may still come,
    /// but those to writers.
    fn crash(&mut self) {
        self.history.note(Happening::Crash);
        for (place, log) in &mut self.logs {
            let least = if place.topic == RELAXED { log.start } else { log.committed };
            let ends = log.ends.iter().copied().filter(|end| *end >= least);
            let kept: Vec<usize> = ends.chain([log.values.len()]).collect();
            let end = kept[self.dice.below(kept.len() as u64) as usize];
            log.values.truncate(end);
            log.ends.retain(|known| *known <= end);
            log.committed = end;
        }
        for request in std::mem::take(&mut self.requests) {
            if let What::Produce(name) = request.what {
                self.give_up(name, request.answer);
            } else if request.answer.is_some() && self.dice.below(2) == 0 {
                self.requests.push(request);
            }
        }
    }

    /// Nobody asks any more; everything is read.
    fn end(mut self) -> History {
        let places: Vec<Place> = self.logs.keys().copied().collect();
        for place in places {
            self.commit_log(place);
            let log = &self.logs[&place];
            let (start, end) = (log.start as i64, log.values.len() as i64);
            let records = (start..).zip(log.values[log.start..].iter().copied()).collect();
            self.history.note(Happening::ReadWhole { place, start, end, records });
        }
        self.history
    }
}

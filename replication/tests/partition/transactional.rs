//! Random histories of transactions with crashes: what is stable, and what was aborted, is always what
//! the log itself says.
//!
//! Does: draw records, ends, completions, settling, saving, deletions and crashes from a seed, on topics
//! that wait for the disk and on topics that do not, and hold the partition against a model that is
//! nothing but a list of what was written.
//! Does not: look inside the partition.
//! Invariants checked: the stable offset is the first one of the oldest transaction whose marker is not
//! committed; every aborted transaction that reaches into a range is told of, and no other; a decision
//! that was answered is on the disk.
//! Apart because idempotence has its own histories, and its own model.

use std::collections::BTreeMap;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::entry::Payload;
use flumen_protocol::ids::{LogIndex, Offset};
use flumen_replication::dice::Dice;
use flumen_replication::outbox::{Effect, Ticket};

use super::world::World;

const STEPS: u32 = 300;
const PRODUCERS: u64 = 5;

/// What stands in the log at some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Plain,
    Data { producer: i64 },
    Marker { producer: i64, commit: bool },
}

/// A producer's own view: what its next batch is.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    epoch: i16,
    sequence: i32,
}

#[derive(Default)]
struct Model {
    /// By offset; nothing is ever taken from the front.
    log: Vec<Written>,
    clients: BTreeMap<i64, Client>,
    /// Decisions nobody has answered yet, by ticket: where their marker is.
    owed: BTreeMap<Ticket, i64>,
    has_crashed: bool,
}

/// A transaction: whose, from where to where, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    producer: i64,
    first: i64,
    end: Option<(i64, bool)>,
}

impl Model {
    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    /// All transactions below `high_watermark`, by their beginning.
    fn transactions(&self, high_watermark: i64) -> Vec<Transaction> {
        let mut all: Vec<Transaction> = Vec::new();
        for (offset, written) in (0..high_watermark).zip(&self.log) {
            let open = |all: &[Transaction], producer| {
                all.iter().position(|it| it.producer == producer && it.end.is_none())
            };
            match *written {
                Written::Plain => {}
                Written::Data { producer } => {
                    if open(&all, producer).is_none() {
                        all.push(Transaction { producer, first: offset, end: None });
                    }
                }
                Written::Marker { producer, commit } => {
                    if let Some(place) = open(&all, producer) {
                        all[place].end = Some((offset, commit));
                    }
                }
            }
        }
        all
    }
}

fn below(dice: &mut Dice, sides: u64) -> u64 {
    dice.draw() % sides
}

#[test]
fn what_is_stable_and_what_was_aborted_follows_from_the_log() {
    for seed in 0..80 {
        let (mut world, mut model, mut dice) = (World::new(), Model::default(), Dice::new(seed));
        world.settings.relaxed = seed % 2 == 1;
        world.open().expect("an empty disk opens");
        for step in 0..STEPS {
            take_step(&mut world, &mut model, &mut dice);
            check(&mut world, &mut model, &mut dice, &format!("seed {seed} step {step}"));
        }
    }
}

fn take_step(world: &mut World, model: &mut Model, dice: &mut Dice) {
    match below(dice, 100) {
        0..8 => {
            world.append(1, None, false);
            model.log.push(Written::Plain);
        }
        8..40 => write(world, model, dice),
        40..60 => end(world, model, dice),
        60..78 => complete(world, dice),
        78..84 => settle(world, dice),
        84..90 => world.save_state(),
        90..92 => lose_state(world, model),
        92..95 => delete(world, dice),
        _ => crash(world, model),
    }
}

fn write(world: &mut World, model: &mut Model, dice: &mut Dice) {
    let producer = below(dice, PRODUCERS) as i64;
    let client = *model.clients.entry(producer).or_default();
    let count = 1 + below(dice, 2) as i32;
    world.append(count, Some((producer, client.epoch, client.sequence)), true);
    world.verified((producer, client.epoch), Ok(()));
    let grew = world.partition().offsets().end().0 - model.end();
    let next = match grew {
        // A crash took records of it, or the end of its past: it begins anew, as a client would.
        0 => Client { epoch: client.epoch + 1, sequence: 0 },
        _ => Client { sequence: client.sequence + count, ..client },
    };
    assert!(grew == 0 || grew == i64::from(count), "all of it or nothing");
    assert!(grew > 0 || model.has_crashed, "nothing is forgotten but by a crash");
    model.clients.insert(producer, next);
    (0..grew).for_each(|_| model.log.push(Written::Data { producer }));
}

/// Half of the decisions are written under a new epoch of the producer, as Kafka 4 has it.
fn end(world: &mut World, model: &mut Model, dice: &mut Dice) {
    let producer = below(dice, PRODUCERS) as i64;
    let client = *model.clients.entry(producer).or_default();
    let (commit, bumps) = (below(dice, 2) == 0, below(dice, 2) == 0);
    let epoch = client.epoch + i16::from(bumps);
    let marker = EndMarker { commit, coordinator_epoch: 1 };
    let ticket = world.end((producer, epoch), marker, bumps);
    let grew = world.partition().offsets().end().0 - model.end();
    assert!(grew <= 1, "one marker");
    if bumps {
        model.clients.insert(producer, Client { epoch, sequence: 0 });
    }
    if grew == 1 {
        model.owed.insert(ticket, model.end());
        model.log.push(Written::Marker { producer, commit });
    }
}

fn complete(world: &mut World, dice: &mut Dice) {
    let pending = world.disk.pending.len() as u64;
    if pending > 0 {
        let place = below(dice, pending) as usize;
        let index = world.disk.pending[place].index;
        world.durable(index);
    }
}

/// Storage saves a state with whatever it settles. An older one will do where nothing is ever lost.
fn settle(world: &mut World, dice: &mut Dice) {
    world.settle(LogIndex(below(dice, 1_000)));
    if world.settings.relaxed || below(dice, 2) == 0 {
        world.save_state();
    }
}

/// Without anything saved all is rebuilt from the settled batches, aborted transactions included.
fn lose_state(world: &mut World, model: &mut Model) {
    if world.disk.start_offset == Offset::ZERO {
        world.disk.state.clear();
        world.disk.aborted.clear();
    }
    crash(world, model);
}

fn delete(world: &mut World, dice: &mut Dice) {
    let (start, stable) = (world.disk.start_offset, world.partition().offsets().stable());
    let settled = world.disk.settled_end.min(stable);
    if settled > start && below(dice, 3) == 0 {
        let to = start.0 + below(dice, (settled.0 - start.0) as u64 + 1) as i64;
        world.keep_start(Offset(to));
    }
}

fn crash(world: &mut World, model: &mut Model) {
    world.crash();
    world.open().expect("what was durable opens");
    let end = world.partition().offsets().end().0;
    assert!(end <= model.end());
    model.log.truncate(end as usize);
    model.owed.clear();
    model.has_crashed = true;
}

fn check(world: &mut World, model: &mut Model, dice: &mut Dice, at: &str) {
    check_answers(world, model, at);
    let offsets = *world.partition().offsets();
    assert_eq!(offsets.end().0, model.end(), "{at}");
    let all = model.transactions(offsets.high_watermark().0);
    let open = all.iter().filter(|it| it.end.is_none()).map(|it| it.first).min();
    let stable = open.unwrap_or(offsets.high_watermark().0).max(offsets.start().0);
    assert_eq!(offsets.stable().0, stable, "{at}: {:?}", model.log);
    let start = offsets.start().0;
    let from = start + below(dice, (stable - start) as u64 + 1) as i64;
    let until = from + below(dice, (stable - from) as u64 + 1) as i64;
    for (from, until) in [(from, until), (start, stable)] {
        let told = world.partition().aborted(Offset(from), Offset(until));
        let mut told: Vec<(i64, i64)> =
            told.map(|row| (row.first_offset.0, row.producer_id.0)).collect();
        told.sort_unstable();
        let reaches = |it: &&Transaction| {
            it.end.is_some_and(|(last, commit)| !commit && last >= from) && it.first < until
        };
        let wanted = all.iter().filter(reaches).map(|it| (it.first, it.producer));
        assert_eq!(told, wanted.collect::<Vec<_>>(), "{at}: {from}..{until}");
    }
}

fn check_answers(world: &mut World, model: &mut Model, at: &str) {
    let durable = world.disk.durable.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Records(records) => Some(records.last_offset.after(1)),
        Payload::Empty | Payload::Control(_) => None,
    });
    let durable = durable.unwrap_or(world.disk.settled_end).0;
    for effect in world.out.drain(..) {
        if let Effect::Release { ticket, outcome: Ok(_) } = effect
            && let Some(marker) = model.owed.remove(&ticket)
        {
            assert!(marker < durable, "{at}: the marker at {marker} is on the disk");
        }
    }
}

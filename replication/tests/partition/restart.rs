//! Random histories with crashes: nothing acknowledged is lost, nothing is written twice, and the
//! state that comes back does not depend on how it was kept.
//!
//! Does: draw appends, repetitions, completions, settling, saving and crashes from a seed, and
//! hold every answer against a model that remembers everything.
//! Does not: look inside the partition.
//! Invariants checked: the verdict on every batch is the model's; a receipt names the batch's
//! first offset; what was released is there after every crash; replay from any mixture of saved
//! state, settled headers and entries gives the same bytes.
//! Apart because scripts show what was thought of, and seeds what was not.

use std::collections::BTreeMap;

use flumen_protocol::entry::Payload;
use flumen_protocol::ids::{LogIndex, Offset, Term};
use flumen_replication::dice::Dice;
use flumen_replication::error::Refusal;
use flumen_replication::limits::LOG_END_MAX;
use flumen_replication::outbox::{Effect, Ticket};
use flumen_replication::partition::Acks;

use super::world::World;

const STEPS: u32 = 400;

/// One batch the model knows.
#[derive(Clone, Copy, Debug)]
struct Known {
    epoch: i16,
    sequence: i32,
    count: i32,
    base: i64,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Next,
    Duplicate(i64),
    /// Written before the five that are remembered. What a start made of it, it may not know.
    Forgotten,
    OutOfOrder,
    Stale,
}

/// Remembers every batch of every producer.
#[derive(Default)]
struct Model {
    batches: BTreeMap<i64, Vec<Known>>,
    end: i64,
    /// What each waiting ticket's receipt must say.
    owed: BTreeMap<Ticket, i64>,
    /// Behind the last record anybody was told is durable.
    acknowledged: i64,
}

impl Model {
    fn expect(&self, id: i64, epoch: i16, sequence: i32, count: i32) -> Expected {
        let all = self.batches.get(&id).map_or(&[][..], Vec::as_slice);
        let Some(last) = all.last() else { return Expected::Next };
        if epoch < last.epoch {
            return Expected::Stale;
        }
        if epoch > last.epoch {
            return if sequence == 0 { Expected::Next } else { Expected::OutOfOrder };
        }
        let of_epoch = all.iter().rev().take_while(|known| known.epoch == epoch);
        let (mut oldest, mut first) = (last, last);
        for (place, known) in of_epoch.enumerate() {
            if place < 5 && (known.sequence, known.count) == (sequence, count) {
                return Expected::Duplicate(known.base);
            }
            (oldest, first) = (if place < 5 { known } else { oldest }, known);
        }
        if first.sequence <= sequence && sequence + count <= oldest.sequence {
            return Expected::Forgotten;
        }
        let next = last.sequence + last.count;
        if sequence == next { Expected::Next } else { Expected::OutOfOrder }
    }

    fn forget_from(&mut self, end: i64) {
        assert!(
            end >= self.acknowledged,
            "acknowledged up to {}, lost to {end}",
            self.acknowledged
        );
        self.batches.values_mut().for_each(|all| all.retain(|known| known.base < end));
        self.end = end;
        self.owed.clear();
    }
}

/// One of so many sides.
fn below(dice: &mut Dice, sides: u64) -> u64 {
    dice.draw() % sides
}

#[test]
fn random_histories_survive_their_crashes() {
    for seed in 0..60 {
        let (mut world, mut model, mut dice) = (World::new(), Model::default(), Dice::new(seed));
        world.open().expect("an empty disk opens");
        for step in 0..STEPS {
            take_step(&mut world, &mut model, &mut dice);
            check(&mut world, &mut model, seed, step);
        }
    }
}

fn take_step(world: &mut World, model: &mut Model, dice: &mut Dice) {
    match below(dice, 100) {
        0..55 => append(world, model, dice),
        55..80 => complete(world, dice),
        80..86 => world.settle(LogIndex(below(dice, 1_000))),
        86..90 => world.save_state(),
        90..93 => world.disk.state.clear(),
        93..97 => crash(world, model),
        _ => reopen_both_ways(world, model),
    }
}

fn append(world: &mut World, model: &mut Model, dice: &mut Dice) {
    let count = 1 + below(dice, 3) as i32;
    world.acks = [Acks::None, Acks::Leader, Acks::All][below(dice, 3) as usize];
    if below(dice, 8) == 0 {
        let ticket = world.append(count, None, false);
        settle_account(world, model, ticket, count);
        return;
    }
    let id = below(dice, 4) as i64;
    let (epoch, sequence, count) = draw_batch(model, dice, id, count);
    let expected = model.expect(id, epoch, sequence, count);
    let end = model.end;
    let ticket = world.append(count, Some((id, epoch, sequence)), false);
    let refused = world.out.iter().find_map(|effect| match effect {
        Effect::Release { ticket: whose, outcome: Err(why) } if *whose == ticket => Some(*why),
        _ => None,
    });
    match expected {
        Expected::Next => {
            let known = Known { epoch, sequence, count, base: end };
            model.batches.entry(id).or_default().push(known);
            settle_account(world, model, ticket, count);
            assert_eq!(refused, None);
        }
        Expected::Duplicate(base) => {
            assert_eq!(refused, None);
            if world.acks != Acks::None {
                model.owed.insert(ticket, base);
            }
        }
        Expected::Forgotten if refused.is_none() => {
            if world.acks != Acks::None {
                model.owed.insert(ticket, -1);
            }
        }
        Expected::Forgotten | Expected::OutOfOrder if world.acks != Acks::None => {
            assert!(matches!(refused, Some(Refusal::OutOfOrderSequence { .. })), "{refused:?}");
        }
        Expected::Stale if world.acks != Acks::None => {
            assert!(matches!(refused, Some(Refusal::StaleProducerEpoch { .. })), "{refused:?}");
        }
        Expected::Forgotten | Expected::OutOfOrder | Expected::Stale => assert_eq!(refused, None),
    }
}

/// Mostly what comes next, often a repetition, sometimes nonsense.
fn draw_batch(model: &Model, dice: &mut Dice, id: i64, count: i32) -> (i16, i32, i32) {
    let all = model.batches.get(&id).map_or(&[][..], Vec::as_slice);
    let Some(last) = all.last() else { return (0, below(dice, 50) as i32, count) };
    match below(dice, 10) {
        0..5 => (last.epoch, last.sequence + last.count, count),
        5..8 => {
            let back = (below(dice, 7) as usize).min(all.len() - 1);
            let known = all[all.len() - 1 - back];
            (known.epoch, known.sequence, known.count)
        }
        8 => (last.epoch + 1, 0, count),
        _ => (last.epoch, below(dice, 30) as i32, count),
    }
}

fn settle_account(world: &World, model: &mut Model, ticket: Ticket, count: i32) {
    if world.acks != Acks::None {
        model.owed.insert(ticket, model.end);
    }
    model.end += i64::from(count);
}

fn complete(world: &mut World, dice: &mut Dice) {
    let pending = world.disk.pending.len() as u64;
    if pending > 0 {
        let place = below(dice, pending) as usize;
        let index = world.disk.pending[place].index;
        world.durable(index);
    }
}

fn complete_all(world: &mut World) {
    if let Some(last) = world.disk.pending.last() {
        let index = last.index;
        world.durable(index);
    }
}

fn crash(world: &mut World, model: &mut Model) {
    world.crash();
    world.open().expect("what was durable opens");
    let end = world.partition().offsets().end().0;
    model.forget_from(end);
}

/// Everything durable: opened with the saved state and without it, the same state comes back.
fn reopen_both_ways(world: &mut World, model: &mut Model) {
    complete_all(world);
    check_receipts(world, model);
    let before = world.state();
    let saved = std::mem::take(&mut world.disk.state);
    let disk = world.disk.clone();
    for state in [saved, before.clone(), bytes::Bytes::new()] {
        world.crash();
        world.disk = disk.clone();
        world.disk.state = state;
        world.open().expect("what was durable opens");
        complete_all(world);
        assert_eq!(world.state(), before, "the same state from any remains");
    }
    let end = world.partition().offsets().end().0;
    assert_eq!(end, model.end, "everything durable is there");
    model.forget_from(end);
}

fn check(world: &mut World, model: &mut Model, seed: u64, step: u32) {
    check_receipts(world, model);
    let offsets = *world.partition().offsets();
    assert_eq!(offsets.end(), Offset(model.end), "seed {seed} step {step}");
    assert!(offsets.high_watermark() <= offsets.end());
}

fn check_receipts(world: &mut World, model: &mut Model) {
    let durable = world.disk.durable.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Records(records) => Some(records.last_offset.after(1)),
        Payload::Empty | Payload::Control(_) => None,
    });
    let durable = durable.unwrap_or(world.disk.settled_end).0;
    for effect in world.out.drain(..) {
        if let Effect::Release { ticket, outcome: Ok(receipt) } = effect {
            let base = model.owed.remove(&ticket).expect("released once, and not for nothing");
            assert_eq!(receipt.base_offset, Offset(base), "the first offset");
            assert!(base < durable, "what is acknowledged is on the disk");
            model.acknowledged = model.acknowledged.max(base + 1);
        }
    }
}

#[test]
fn a_log_that_has_used_up_its_offsets_refuses_and_lives() {
    let mut world = World::new();
    let start = Offset(LOG_END_MAX.0 - 7);
    world.disk.settled = (LogIndex(1), Term(1));
    world.disk.hard_state.term = Term(1);
    (world.disk.settled_end, world.disk.start_offset) = (start, start);
    world.open().expect("a sound log");
    world.durable(LogIndex(2));
    for (count, taken) in [(5, true), (3, false), (2, true), (1, false)] {
        let ticket = world.append(count, None, false);
        let refusal = Effect::Release { ticket, outcome: Err(Refusal::OffsetsUsedUp) };
        assert_eq!(world.out.contains(&refusal), !taken, "{count}");
    }
    assert_eq!(world.partition().offsets().end(), LOG_END_MAX);
}

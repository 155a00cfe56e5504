//! Random lives: records produced over any core, disks that complete in any order, power cuts.
//!
//! Does: hold after every cut that what was acknowledged is where it was acknowledged, and that
//! nothing is there that nobody sent.
//! Does not: know which life it is; the seed does.
//! Invariants: the same seed lives the same life.
//! Apart from the stories, because nobody thought these up.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::ProduceRequest;
use flumen_storage::sim_disk::Dice;

use crate::stories::{PRODUCE, make_topic, produce_request, read_all};
use crate::world::{Awaited, World};

const LIVES: u64 = 25;
const STEPS: u64 = 120;
const PARTITIONS: u64 = 4;

/// What a life has sent and heard.
#[derive(Default)]
struct Memory {
    sent: u64,
    /// Waiting for an answer: to which partition, and what.
    open: Vec<(Awaited, i32, String)>,
    /// Acknowledged, by partition and offset.
    acknowledged: BTreeMap<(i32, i64), String>,
}

#[test]
fn what_is_acknowledged_is_kept_in_any_life() {
    for seed in 0..LIVES {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut dice = Dice::new(seed);
    let cores = 1 + dice.below(3);
    let mut world = World::new(cores as u16);
    make_topic(&mut world, "t");
    let mut memory = Memory::default();
    for _ in 0..STEPS {
        match dice.below(20) {
            0 => {
                memory.open.clear();
                world.cut_power();
                verify(seed, &mut world, &memory);
            }
            1 => world.wait(Duration::from_secs(dice.below(20))),
            2..6 => world.run(),
            6..9 => world.run_without_disks(),
            _ => produce(&mut world, &mut memory, &mut dice, cores),
        }
        hear(&mut world, &mut memory);
    }
    world.run();
    hear(&mut world, &mut memory);
    assert!(memory.open.is_empty(), "life {seed}: everything is answered in the end");
    verify(seed, &mut world, &memory);
}

fn produce(world: &mut World, memory: &mut Memory, dice: &mut Dice, cores: u64) {
    let partition = dice.below(PARTITIONS) as i32;
    let value = format!("{}-{}", memory.sent, "x".repeat(dice.below(5_000) as usize));
    memory.sent += 1;
    let request = produce_request("t", partition, &value);
    let core = dice.below(cores) as usize;
    let awaited = world.send(core, ApiKey::Produce, PRODUCE, &request);
    memory.open.push((awaited, partition, value));
}

fn hear(world: &mut World, memory: &mut Memory) {
    let (open, acknowledged) = (&mut memory.open, &mut memory.acknowledged);
    open.retain(|(awaited, partition, value)| {
        let answer = world.answer::<ProduceRequest>(*awaited, ApiKey::Produce, PRODUCE);
        let Some(answer) = answer else { return true };
        let answer = &answer.responses[0].partition_responses[0];
        if answer.error_code == ErrorCode::RequestTimedOut.code() {
            // The disk was slow: whether the record is there is left open.
            return false;
        }
        assert_eq!(answer.error_code, 0);
        let known = acknowledged.insert((*partition, answer.base_offset), value.clone());
        assert_eq!(known, None, "an offset is given once");
        false
    });
}

fn verify(seed: u64, world: &mut World, memory: &Memory) {
    for partition in 0..PARTITIONS as i32 {
        let there = read_all(world, 0, "t", partition);
        let range = (partition, 0)..=(partition, i64::MAX);
        for ((_, offset), value) in memory.acknowledged.range(range) {
            let found = there.get(*offset as usize);
            assert_eq!(found, Some(value), "life {seed}: {partition}@{offset} is lost");
        }
        let mut numbers: Vec<&str> = there.iter().filter_map(|it| it.split('-').next()).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "life {seed}: a record is there twice");
    }
}

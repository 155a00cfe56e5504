//! Mixed lives: whole nodes, their clients and their faults in one thread, every seed another mixture.
//!
//! Does: live a few lives whenever tests run, two hundred in `scripts/check.sh`, and as many as asked for:
//! `FLUMEN_SEEDS=FROM..TO`, see `scripts/sim.sh`.
//! Does not: replace the stories, which say what holds in words.
//! Invariants: a life that fails names its seed; living it again fails the same way.
//! Apart from the stories because nobody thought these lives up.

mod atlas;
mod client;
mod damage;
mod fetching;
mod heap;
mod history;
mod left_out;
mod life;
mod lines;
mod machine;
mod member;
mod node;
mod operator;
mod oracles;
mod plan;
mod reader;
mod transacted;
mod transacting;
mod transactor;
mod trouble;
mod values;
mod writer;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use life::live;

use crate::asked::range_of;

/// Lives when nobody asks for others; a test that is not optimised takes seconds for each.
const SEEDS: Range<u64> = 0..4;
/// One life in so many is lived twice, to see that it is the same.
const TWICE_EVERY: u64 = 20;

#[test]
fn what_is_promised_holds_in_any_life() {
    let (mut events, mut acknowledged, mut committed, mut processes) = (0, 0, 0, 0);
    let seeds = range_of("FLUMEN_SEEDS", SEEDS);
    for seed in seeds.clone() {
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| live(seed))) else {
            panic!("seed {seed} fails; replay it with scripts/sim.sh {seed}");
        };
        events += outcome.events;
        acknowledged += outcome.acknowledged;
        committed += outcome.committed;
        processes += outcome.processes;
        if seed % TWICE_EVERY == 0 {
            assert_eq!(live(seed).trace, outcome.trace, "seed {seed} lives two lives");
        }
    }
    let lives = seeds.end - seeds.start;
    println!(
        "{lives} lives, {events} events, {acknowledged} acknowledged, {committed} transactions, {processes} processes"
    );
}

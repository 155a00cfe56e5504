//! Attacks by asking and not reading, by reading too much, and by asking too much at once.
//!
//! Does: send sound requests in numbers no client has under way.
//! Does not: read, but where it says so.
//! Invariants: connections of each kind are bounded; the oldest gives way.
//! Apart from the other attacks because these cost the broker answers.

use flumen_tests::wire::{API_VERSIONS, Wire, request};

use crate::pace::{Pace, Until, crowd};
use crate::{OLD, OLD_RECORDS, Target};

/// Consumers that never read, and how many of them come a second.
const DEAF: usize = 1_000;
const DEAF_RATE: u32 = 100;
/// Fetches under way of each.
const FETCHES: usize = 5;
/// Clients that ask for everything there is, and requests under way of each.
const LISTENERS: usize = 50;
const LISTINGS: usize = 1_000;
/// Requests sent in one piece.
const PIPELINED: i32 = 10_000;

/// Consumers that ask for half of what there is, and never read.
pub fn deaf_consumers(target: &Target, until: Until) -> u64 {
    let offsets: Vec<i64> = (0..OLD_RECORDS as i64 / 2).collect();
    crowd(until, DEAF, DEAF_RATE, || {
        let mut wire = Wire::connect(target.address)?;
        (0..FETCHES).all(|_| wire.begin_fetch(OLD, &offsets)).then_some(wire)
    })
}

/// Clients that ask for lists of everything, and never read.
pub fn deaf_listings(target: &Target, until: Until) -> u64 {
    crowd(until, LISTENERS, 5, || {
        let mut wire = Wire::connect(target.address)?;
        wire.begin_listing(LISTINGS).then_some(wire)
    })
}

/// A consumer that reads fifty mebibytes at once, from the disk, again and again.
pub fn huge_fetches(target: &Target, until: Until) -> u64 {
    let offsets: Vec<i64> = (0..OLD_RECORDS as i64).collect();
    let mut pace = Pace::new(1, until);
    let mut count = 0;
    let mut wire = None;
    while pace.turn().is_some() {
        let Some(mut one) = wire.take().or_else(|| Wire::connect(target.address)) else { continue };
        if one.begin_fetch(OLD, &offsets) && one.receive().is_some() {
            count += 1;
            wire = Some(one);
        }
    }
    count
}

/// Ten thousand requests in one piece; the answers are read.
pub fn pipelining(target: &Target, until: Until) -> u64 {
    let all: Vec<u8> = (0..PIPELINED).flat_map(|id| request(API_VERSIONS, 0, id, &[])).collect();
    let mut pace = Pace::new(2, until);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut wire) = Wire::connect(target.address) else { continue };
        wire.send(&all);
        let answered = |wire: &mut Wire| !until.is_over() && wire.receive().is_some();
        count += (0..PIPELINED).take_while(|_| answered(&mut wire)).count() as u64;
    }
    count
}

//! Attacks by leaving something behind: producers, groups, topics, and batches that are larger inside.
//!
//! Does: make the broker keep state, or look into what was compressed, at a rate of its own.
//! Does not: clean up.
//! Invariants: no more than the numbers below in one attack.
//! Apart from the other attacks because what these cost stays.

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_tests::wire::Wire;

use crate::pace::{Pace, Until};
use crate::{BOMBS, CROWDED, OLD, Target, words};

/// Producer ids asked for, and groups made.
const PRODUCER_IDS: u64 = 1_000_000;
const GROUPS: u64 = 100_000;
/// Requests under way: as many as a broker serves of one connection.
const WINDOW: u64 = 100;
/// What a batch of each codec inflates to: as much as still fits into a batch of a MiB on the wire.
const BOMB_BYTES: [(Codec, usize); 4] = [
    (Codec::Gzip, 64 << 20),
    (Codec::Snappy, 16 << 20),
    (Codec::Lz4, 64 << 20),
    (Codec::Zstd, 64 << 20),
];
const BOMB_RATE: u32 = 4;

/// Produce requests whose records are small until somebody looks into them, one of each codec.
pub fn bombs() -> Vec<Vec<u8>> {
    BOMB_BYTES
        .iter()
        .map(|(codec, bytes)| {
            let zeros = vec![0; *bytes];
            let mut batch = BatchBuilder::new();
            let key = Some(&b"key"[..]);
            batch.push(&NewRecord { timestamp: -1, key, value: Some(&zeros), headers: &[] });
            words::produce(BOMBS, &batch.finish_compressed(*codec))
        })
        .collect()
}

/// Bombs for a topic whose records the broker must look at, and look-ups among those it took.
pub fn explode(target: &Target, until: Until) -> u64 {
    let look_up = words::offset_of_time(BOMBS, 1);
    let mut pace = Pace::new(BOMB_RATE, until);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut wire) = Wire::connect(target.address) else { continue };
        let bomb = &target.bombs[count as usize % target.bombs.len()];
        if wire.ask(bomb).is_some() && wire.ask(&look_up).is_some() {
            count += 1;
        }
    }
    count
}

/// Sends windows of requests and reads their answers, until there were so many; how many were answered.
fn windows(
    target: &Target,
    until: Until,
    per_second: u32,
    most: u64,
    frame: impl Fn(u64) -> Vec<u8>,
) -> u64 {
    let mut pace = Pace::new(per_second, until);
    let (mut sent, mut answered) = (0, 0);
    let mut wire = None;
    while pace.turn().is_some() && sent < most {
        let Some(mut one) = wire.take().or_else(|| Wire::connect(target.address)) else { continue };
        let window: Vec<u8> = (sent..sent + WINDOW).flat_map(&frame).collect();
        sent += WINDOW;
        if !one.send(&window) {
            continue;
        }
        let got = (0..WINDOW).take_while(|_| one.receive().is_some()).count() as u64;
        answered += got;
        if got == WINDOW {
            wire = Some(one);
        }
    }
    answered
}

/// A million producer ids in a minute.
pub fn producer_ids(target: &Target, until: Until) -> u64 {
    windows(target, until, 170, PRODUCER_IDS, |_| words::producer_id())
}

/// Producers that write one record and are never heard of again: each is remembered by its partition.
pub fn producers(target: &Target, until: Until) -> u64 {
    // Not those of another time, nor any that the broker has given to somebody.
    let first = (1 << 40) + (i64::from(std::process::id()) << 20);
    windows(target, until, 10, PRODUCER_IDS, |number| {
        let id = ProducerId(first + number as i64);
        let mut batch = BatchBuilder::new().with_producer(id, ProducerEpoch(0), Sequence(0));
        batch.push(&NewRecord { timestamp: -1, key: None, value: Some(b"once"), headers: &[] });
        words::produce(CROWDED, &batch.finish())
    })
}

/// A hundred thousand groups, every second one with a member that is gone, the others with an offset.
pub fn groups(target: &Target, until: Until) -> u64 {
    windows(target, until, 20, GROUPS, |number| {
        let name = format!("group-{number}");
        if number % 2 == 0 { words::join(&name) } else { words::commit(&name, OLD) }
    })
}

/// Topics that come and go.
pub fn churn(target: &Target, until: Until) -> u64 {
    let mut pace = Pace::new(10, until);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut wire) = Wire::connect(target.address) else { continue };
        let name = format!("churned-{count}");
        wire.ask(&words::create(&name, 3, &[], false));
        wire.ask(&words::delete(&name));
        count += 1;
    }
    count
}

/// Questions and wishes about topics that are too many, too large, or not possible.
pub fn metadata(target: &Target, until: Until) -> u64 {
    let settings: Vec<String> = (0..10_000).map(|number| format!("setting-{number}")).collect();
    let settings: Vec<(&str, &str)> = settings.iter().map(|name| (&name[..], "1")).collect();
    let (long, longest) = ("l".repeat(250), "l".repeat(32_767));
    let requests = [
        words::unknown_topics(10_000),
        words::create("million", 1_000_000, &[], false),
        words::create("most", i32::MAX, &[], false),
        words::create("none", 0, &[], false),
        words::create("settings", 1, &settings, false),
        words::create(".", 1, &[], false),
        words::create("..", 1, &[], false),
        words::create("../../up", 1, &[], false),
        words::create(&long, 1, &[], false),
        words::create(&longest, 1, &[("cleanup.policy", &longest)], false),
        words::create("tried", 10_000, &[], true),
        words::offset_of_time(OLD, -100),
    ];
    let mut pace = Pace::new(10, until);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut wire) = Wire::connect(target.address) else { continue };
        wire.ask(&requests[count as usize % requests.len()]);
        count += 1;
    }
    count
}

//! Bits that flip in the files of a filled node: none is served as a record, and none costs a record
//! that it did not hit.
//!
//! Does: fill a node, change a few bits of what it left on its disks, start it on them, read
//! everything over the wire, and hold that against what it had: 500 times whenever tests run, as
//! often as asked for with `FLUMEN_FLIPS=FROM..TO`, see `scripts/sim.sh --flips`.
//! Does not: damage two files at once, or a node that runs.
//! Invariants: a flip that fails names its number; doing it again fails the same way.
//! Apart from the lives because here it is known exactly what is damaged, and so what must be left.

mod damage;
mod filled;
mod layout;
mod reading;
mod verdict;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::time::Duration;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::LogId;
use flumen_storage::format::frame::{FRAME_HEADER_BYTES, FrameKind};
use flumen_storage::op::FileName;

use crate::asked::range_of;
use crate::stories::{PRODUCE, delete, make_topic, produce_request, read_all};
use crate::world::World;
use filled::Filled;
use layout::Layout;
use verdict::judge;

/// Flips when nobody asks for others.
const FLIPS: Range<u64> = 0..500;
/// Flips of one filled node; the next are of another one.
const PER_NODE: u64 = 250;
/// How many failures are told of.
const TOLD_MAX: usize = 20;

#[test]
fn no_flipped_bit_is_served_or_costs_what_it_did_not_hit() {
    let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    let mut node: Option<(u64, Filled)> = None;
    for number in range_of("FLUMEN_FLIPS", FLIPS) {
        let seed = number / PER_NODE;
        let filled = match node.take() {
            Some((known, filled)) if known == seed => filled,
            Some(_) | None => Filled::new(seed),
        };
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&filled, number)));
        node = Some((seed, filled));
        match judged {
            Ok(judged) => {
                *verdicts.entry(judged.verdict).or_default() += 1;
                wrong.extend(judged.wrong.into_iter().map(|what| format!("flip {number}: {what}")));
            }
            Err(_) => wrong.push(format!("flip {number}: the node panics, see above")),
        }
    }
    let count: u64 = verdicts.values().sum();
    println!("{count} flips");
    verdicts.iter().for_each(|(verdict, count)| println!("{count:8} {verdict}"));
    let told = wrong.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        wrong.is_empty(),
        "{} things are wrong; one flip again: scripts/sim.sh --flips NUMBER..NUMBER+1\n{told}",
        wrong.len()
    );
}

/// Such a start once made the partitions anew before what was left of them was gone, and ended there.
#[test]
fn a_topic_whose_deletion_is_lost_begins_anew_once_that_is_accepted() {
    let mut world = World::new(2);
    make_topic(&mut world, "t");
    let request = produce_request("t", 0, "x");
    world.ask(0, ApiKey::Produce, PRODUCE, &request);
    delete(&mut world, "t");
    (0..3).for_each(|_| world.wait(Duration::from_secs(1)));
    let mut disks = world.disks().to_vec();
    disks.iter_mut().for_each(|disk| disk.crash());
    let found = world.reborn(disks.clone(), false).expect("nothing is damaged").found;
    let layout = Layout::of(&disks[0], &world.owner(0), &found);
    let of_metadata = layout.frames.iter().filter(|frame| frame.header.log == LogId::METADATA);
    let mut records = of_metadata.filter(|frame| frame.header.kind == FrameKind::Records);
    let deletion = records.next_back().expect("the deletion is in the journal");
    let at = deletion.at + FRAME_HEADER_BYTES as u64 + 70;
    disks[0].flip_bit(FileName::Journal(deletion.slot), at, 1);
    assert!(world.reborn(disks.clone(), false).is_err(), "the cluster's own log is damaged");
    let mut accepted = world.reborn(disks, true).expect("it starts");
    assert_eq!(read_all(&mut accepted, 0, "t", 0), Vec::<String>::new());
    let answer = accepted.ask(0, ApiKey::Produce, PRODUCE, &request);
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
}

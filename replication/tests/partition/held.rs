//! A partition whose last records are lost, until somebody accepts that.

use flumen_protocol::ids::{LeaderEpoch, LogIndex, Offset};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Effect;
use flumen_replication::partition::{Isolation, ReadQuery};

use super::world::World;

/// Two batches of five; what was behind them, up to offset 30, is lost.
fn held() -> World {
    let mut world = World::new();
    world.open().expect("a new partition");
    for _ in 0..2 {
        world.append(5, None, false);
    }
    let last = world.partition().last_index();
    world.durable(last);
    world.crash();
    world.open().expect("what is left of it");
    let last = world.partition().last_index();
    world.durable(last);
    world.partition().hold(Offset(30));
    world.out.clear();
    world
}

fn at(offset: i64) -> ReadQuery {
    let (offset, isolation) = (Offset(offset), Isolation::ReadUncommitted);
    ReadQuery { offset, leader_epoch: LeaderEpoch::UNKNOWN, isolation }
}

#[test]
fn it_takes_no_records_and_serves_those_it_has() {
    let mut world = held();
    let last = world.partition().last_index();
    let ticket = world.append(5, Some((7, 0, 0)), false);
    let refused = Effect::Release { ticket, outcome: Err(Refusal::Storage) };
    assert_eq!(world.out, [refused], "nothing is persisted");
    assert_eq!(world.partition().last_index(), last);
    assert_eq!(world.partition().read_bounds(at(3)).map(|bounds| bounds.limit), Ok(Offset(10)));
    assert!(world.partition().read_bounds(at(10)).is_ok(), "nothing yet, as at any end");
    world.crash();
    world.open().expect("accepted");
    assert!(!world.partition().is_held());
    world.append(5, None, false);
    let all = LogIndex(world.partition().last_index().0);
    world.durable(all);
    assert_eq!(world.partition().offsets().high_watermark(), Offset(15));
}

#[test]
fn a_consumer_of_what_is_lost_is_told_to_wait_and_not_to_jump() {
    let mut world = held();
    assert_eq!(world.partition().read_bounds(at(11)), Err(Refusal::Storage));
    assert_eq!(world.partition().read_bounds(at(31)), Err(Refusal::Storage));
    let epoch = world.partition().epochs().rows()[0].epoch;
    let end = world.partition().end_offset_for_epoch(LeaderEpoch::UNKNOWN, epoch);
    assert_eq!(end, Ok((epoch, Offset(30))), "the epoch ended there, not at 10");
}

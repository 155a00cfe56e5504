//! Journal files of which the device has lost a block, or gives another one once.

use std::mem;

use super::*;

/// As [`two_logs`], but every frame is in a block of its own.
fn apart(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..2).for_each(|n| world.create(log(n), small_segments()));
    for n in 0..12 {
        world.append_batch(log(n % 2), i64::from(n), 3_000);
        world.run();
    }
    world
}

/// The block with the frame of this entry cannot be read any more.
fn lose(world: &mut World, log: LogId, index: u64) {
    let (file, at) = world.frame_of(log, index);
    world.disk.inject(Fault::Unreadable(file, at / 4096 * 4096));
}

#[test]
fn an_unreadable_block_costs_the_entries_in_it_and_not_the_start() {
    let mut world = apart(1);
    world.vouch();
    lose(&mut world, log(0), 3);
    world.restart();
    let hold = world.held(log(0)).expect("it lost something");
    assert_eq!((hold.first, hold.last), (LogIndex(3), LogIndex(6)));
    world.assert_kept(log(0), 2);
    assert_eq!(world.held(log(1)), None);
    world.assert_kept(log(1), 6);
    world.lead(log(1));
    world.run();
    world.restart();
    assert_eq!(world.held(log(0)), Some(hold));
    world.assert_kept(log(1), 7);
}

/// Nothing else speaks of it, but zeros are what a torn write leaves, and not a block that cannot be read.
#[test]
fn an_end_that_cannot_be_read_is_not_taken_for_a_torn_write() {
    let mut world = apart(2);
    lose(&mut world, log(1), 6);
    let refused = world.try_start(false).expect_err("nobody knows what was there");
    assert!(matches!(refused, StorageError::NeedsOperator { .. }), "{refused}");
    world.try_start(true).expect("it was accepted");
    world.assert_kept(log(0), 6);
    world.assert_kept(log(1), 5);
    world.lead(log(1));
    world.run();
    world.try_start(false).expect("the journal ends elsewhere by now");
    world.assert_kept(log(1), 6);
}

#[test]
fn either_copy_of_the_watermark_will_do() {
    for block in [0, 4096] {
        let mut world = apart(3);
        world.vouch();
        world.disk.inject(Fault::Unreadable(FileName::Watermark, block));
        world.restart();
        (0..2).for_each(|n| world.assert_kept(log(n), 6));
    }
}

#[test]
fn a_manifest_that_cannot_be_read_stops_the_start() {
    let mut world = apart(4);
    world.disk.inject(Fault::Unreadable(FileName::Manifest, 0));
    for accepts in [false, true] {
        let refused = world.try_start(accepts).expect_err("nobody knows what was deleted");
        assert!(matches!(refused, StorageError::Unreadable(_)), "{refused}");
        world.disk.crash();
    }
}

/// Starts the node on its disk, of which `wrong` is given until a file was read that is the last of it.
fn start_with_first_look(
    world: &mut World,
    mut wrong: SimDisk,
    is_last: impl Fn(FileName) -> bool,
) {
    let mut opening = Store::open(world.config, JOURNAL, IDENTITY);
    loop {
        let mut ops = Vec::new();
        opening.next_ops(world.now, &mut ops);
        let has_read = ops.iter().any(|op| is_last(op.file));
        for op in ops {
            opening.on_done(wrong.carry_out(op), world.now).expect("it goes on");
        }
        if has_read {
            break;
        }
    }
    let (store, recovered) = finish(&mut world.disk, opening, world.now).expect("nothing is wrong");
    world.store = store;
    world.recovered = recovered.logs;
    assert_eq!(recovered.report, Vec::<String>::new());
}

/// What is read wrong once is neither given up nor cut: it is there.
#[test]
fn what_was_read_wrong_is_read_again_before_anything_is_given_up() {
    for rot in [World::rot, World::rot_header] {
        for index in [3, 6] {
            let mut world = apart(5);
            let sound = world.disk.clone();
            rot(&mut world, log(1), index);
            let wrong = mem::replace(&mut world.disk, sound);
            let is_last = |file| matches!(file, FileName::Journal(_));
            start_with_first_look(&mut world, wrong, is_last);
            for n in 0..2 {
                assert_eq!(world.held(log(n)), None);
                world.assert_kept(log(n), 6);
            }
        }
    }
}

/// It looks torn, and what it says was told: where a log starts, say.
#[test]
fn an_end_of_the_manifest_that_was_read_wrong_is_read_again_before_it_is_cut() {
    let mut world = apart(6);
    world.store.set_start_offset(log(1), Offset(10));
    world.run();
    let mut wrong = world.disk.clone();
    let last = world.disk.contents(FileName::Manifest).expect("it exists").len() as u64 - 4096;
    wrong.flip_bit(FileName::Manifest, last + 80, 1);
    start_with_first_look(&mut world, wrong, |file| file == FileName::Manifest);
    assert_eq!(world.found(log(1)).start_offset, Offset(10));
}

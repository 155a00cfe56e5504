//! What an operator accepted once, and what was lost since.

use super::*;

/// Without its opening and the watermark's file nobody can tell of which use the frames of a file are. The
/// sequences of those that nothing proves durable are given out again.
#[test]
fn to_accept_a_file_in_doubt_is_not_to_accept_what_is_lost_later() {
    let mut world = two_logs(17);
    (0..20).for_each(|n| world.append_batch(log(0), n, 500));
    world.run();
    let (file, _) = world.frame_of(log(0), 1);
    world.disk.flip_bit(file, 90, 2);
    world.disk.shorten(FileName::Watermark, None);
    world.try_start(false).expect_err("whose they are is unknown");
    world.try_start(true).expect("it was accepted");
    assert!(world.recovered.is_empty(), "nothing of that file counts");
    world.try_start(false).expect("it stays accepted");
    for n in 0..2 {
        world.written.remove(&log(n));
        world.create(log(n), small_segments());
    }
    for n in 0..10 {
        world.append_batch(log(1), n, 300);
        world.run();
    }
    world.try_start(false).expect("it stays accepted");
    world.assert_kept(log(1), 10);
    world.lead(log(1));
    world.run();
    world.vouch();
    world.rot_header(log(1), 11);
    world.try_start(false).expect_err("new damage is another decision");
}

/// Wherever it was, and whether or not it could be told whose: the process writes on, is killed, and the next
/// start finds the same bytes.
#[test]
fn what_was_accepted_is_not_asked_about_again() {
    for rot in [World::rot, World::rot_header] {
        for index in 1..=6 {
            let mut world = two_logs(18 + index);
            world.vouch();
            rot(&mut world, log(0), index);
            world.try_start(true).expect("it was accepted");
            for _ in 0..3 {
                for n in 0..2 {
                    let kept = world.found(log(n)).entries.len();
                    world.written.get_mut(&log(n)).expect("known").truncate(kept);
                    world.lead(log(n));
                    world.append_batch(log(n), 7, 300);
                }
                world.run();
                world.disk.kill();
                let again = world.try_start(false).expect("nothing is lost since");
                assert_eq!(again.accepted, Vec::<String>::new());
                for n in 0..2 {
                    assert_eq!(world.held(log(n)), None);
                    let kept = world.written[&log(n)].len();
                    world.assert_kept(log(n), kept);
                }
            }
        }
    }
}

/// A settle writes what it has not recorded yet, the index too. If just those entries rot and are given up, others
/// take their offsets and their places, and what the index says of the old ones is not held against them.
#[test]
fn what_was_written_of_lost_entries_is_not_held_against_those_in_their_place() {
    for settings in [small_segments(), LogSettings::KEEP_ALL] {
        for (before, is_cold) in [(0, true), (7, true), (7, false)] {
            let mut steps = 0;
            while let Some(mut world) = ended_in_a_settle(settings, (before, is_cold), steps) {
                for n in 0..25 {
                    world.append_batch(log(0), 100 + n, 36_000);
                    if n % 2 == 0 {
                        world.settle(log(0));
                    }
                    if n == 7 {
                        world.run();
                        world.disk.crash();
                        world.restart();
                        world.create(log(0), settings);
                    }
                    let damage = world.damage_of(log(0));
                    assert_eq!(damage, [], "{before} {is_cold}, {steps} steps, {n} batches");
                }
                world.restart();
                assert_eq!(world.damage_of(log(0)), [], "{before} {is_cold}, {steps} steps");
                steps += 1;
            }
            assert!(steps > 3, "a settle takes several operations");
        }
    }
}

/// A log with so many settled batches and thirty more, which a process, the same one unless `is_cold`, settles until
/// it is ended after so many operations; then they rot and are given up. `None`: they were settled.
fn ended_in_a_settle(
    settings: LogSettings,
    (before, is_cold): (i64, bool),
    steps: usize,
) -> Option<World> {
    let mut world = World::new(steps as u64);
    world.create(log(0), settings);
    (0..before).for_each(|n| world.append_batch(log(0), n, 30_000));
    world.settle(log(0));
    if is_cold {
        world.restart();
        world.create(log(0), settings);
    }
    (0..30).for_each(|n| world.append_batch(log(0), n, 30_000));
    world.run();
    world.vouch();
    let (settled, _) = world.store.settled(log(0)).expect("a known log");
    let last = world.last(log(0));
    assert!(world.store.begin_settle(log(0), last, (last, Bytes::new())));
    world.turn(steps);
    world.disk.kill();
    world.rot(log(0), settled.0 + 1);
    world.try_start(true).expect("it was accepted");
    world.create(log(0), settings);
    world.written.get_mut(&log(0)).expect("known").truncate(settled.0 as usize);
    (world.found(log(0)).settled.0 == settled).then_some(world)
}

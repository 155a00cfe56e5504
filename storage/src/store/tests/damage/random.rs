//! Damage by chance: to entries of lives, and to any byte of any file.

use super::*;

/// Power cuts, rot of any acknowledged frame, starts with and without acceptance, in any order:
/// what comes back is always a prefix of what the log had, and a log that lost something says so.
#[test]
fn random_lives_with_rot() {
    let first = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    for seed in first..first + 4 {
        let mut world = two_logs(100 + seed);
        let mut dice = Dice::new(seed);
        let mut is_held = [false; 2];
        for _ in 0..8 {
            for (n, held) in is_held.iter().enumerate() {
                let log = log(n as i32);
                world.lead(log);
                let batches = if *held { 0 } else { dice.below(6) };
                (0..batches).for_each(|n| world.append_batch(log, n as i64, 600));
                world.run();
                if dice.below(4) == 0 {
                    let up_to = LogIndex(1 + dice.below(world.last(log).0));
                    let state = (world.last(log), Bytes::from_static(b"state"));
                    world.store.begin_settle(log, up_to, state);
                    world.run();
                }
            }
            let is_proven = dice.below(2) == 0;
            if is_proven {
                world.vouch();
            }
            let before = [world.last(log(0)).0, world.last(log(1)).0];
            let victim = log(dice.below(2) as i32);
            let (settled, last) = (world.store.settled(victim).unwrap().0.0, world.last(victim).0);
            if dice.below(2) == 0 && last > settled {
                let index = settled + 1 + dice.below(last - settled);
                let rot = if dice.below(2) == 0 { World::rot } else { World::rot_header };
                if matches!(world.written[&victim][index as usize - 1].payload, Payload::Records(_))
                {
                    rot(&mut world, victim, index);
                }
            }
            world.disk.crash();
            let mut accepts = dice.below(4) == 0;
            if world.try_start(accepts).is_err() {
                assert!(!accepts, "seed {seed}: told to accept");
                accepts = true;
                world.try_start(true).expect("told to accept");
            }
            for (n, held) in is_held.iter_mut().enumerate() {
                let found = world.found(log(n as i32)).clone();
                let last = found.settled.0.0 as usize + found.entries.len();
                let is_whole = last as u64 == before[n];
                *held = found.held.is_some();
                assert!(is_whole || *held || accepts || !is_proven, "seed {seed}: lost unseen");
                world.assert_kept(log(n as i32), last);
            }
            let found = world.outcome();
            world.restart();
            assert_eq!(world.outcome(), found, "seed {seed}: a second start finds the same");
        }
    }
}

/// Whatever becomes of the journal's bytes: a start that accepts it gives logs that can be opened
/// and go on, and so does one that does not, if it starts at all.
#[test]
fn whatever_rots_what_comes_back_are_logs() {
    let first = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    for seed in first..first + 25 {
        let mut world = two_logs(300 + seed);
        let mut dice = Dice::new(seed);
        for _ in 0..4 {
            for n in 0..2 {
                world.lead(log(n));
                (0..dice.below(4)).for_each(|at| world.append_batch(log(n), at as i64, 5_000));
                world.run();
            }
            let journals: Vec<(FileName, Bytes)> = world.disk.all().collect();
            let journals = journals.iter().filter(|it| matches!(it.0, FileName::Journal(_)));
            for (file, bytes) in journals {
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 512);
                for _ in 0..dice.below(3) {
                    let at = dice.below(used as u64 / 512) * 512;
                    let other = dice.below(used as u64 / 512) as usize * 512;
                    match dice.below(4) {
                        0 => world.disk.overwrite(*file, at, &[0; 512]),
                        1 => world.disk.overwrite(*file, at, &[0x5a; 512]),
                        2 => world.disk.overwrite(*file, at, &bytes[other..other + 512]),
                        _ => world.disk.flip_bit(*file, at + dice.below(512), 1),
                    }
                }
            }
            world.disk.crash();
            if world.try_start(false).is_err() {
                world.try_start(true).expect("told to accept");
            }
            for found in world.recovered.clone() {
                let last = found.entries.last();
                let last = last.map_or(found.settled, |last| (last.index, last.term));
                assert_eq!(last.0.0, found.settled.0.0 + found.entries.len() as u64);
                assert!(found.hard_state.commit <= last.0, "seed {seed}: {:?}", found.hard_state);
                // The first term of these stories was never promised.
                assert!(
                    found.hard_state.term.max(Term(1)) >= last.1,
                    "seed {seed}: {:?}",
                    found.hard_state
                );
                assert!(found.state.0 <= last.0 && found.state.0 >= found.settled.0);
                assert!(Some(found.start_offset) <= world.store.end_offset(found.log));
                let kept: Vec<Entry> = found.entries.clone();
                world.written.insert(found.log, kept);
            }
            for n in 0..2 {
                if !world.recovered.iter().any(|found| found.log == log(n)) {
                    world.written.remove(&log(n));
                    world.create(log(n), small_segments());
                }
            }
        }
    }
}

//! What was let go, on a disk that loses the end of the manifest: it looks torn where nothing else speaks of
//! what it lost, and then a start goes by files that must still be there.

use super::*;

/// Goes on until a segment is to be deleted, and deletes it. Of what else was asked for then, or was under
/// way, nothing is done for good: the power goes.
fn delete_one(world: &mut World) -> FileName {
    for _ in 0..5_000 {
        world.now.monotonic = world.now.monotonic.after(Duration::from_millis(20));
        let mut ops = Vec::new();
        world.store.next_ops(world.now, &mut ops);
        let is_it = |op: &DiskOp| {
            matches!(op.file, FileName::Segment { .. }) && op.action == Action::Delete
        };
        if let Some(place) = ops.iter().position(is_it) {
            let deletion = ops.swap_remove(place);
            let file = deletion.file;
            world.disk.carry_out(deletion).result.expect("the disk works");
            world.disk.crash();
            return file;
        }
        ops.into_iter().for_each(|op| world.disk.submit(op));
        if let Some(done) = world.disk.step() {
            world.store.on_done(done, world.now, &mut world.events).expect("the disk works");
        }
    }
    panic!("nothing is deleted");
}

/// The disk with ever less of its manifest, and whether the start notices.
fn shortened(world: &World) -> Vec<(SimDisk, Result<Store, StorageError>)> {
    let bytes = world.disk.contents(FileName::Manifest).expect("a manifest").len() as u64;
    let disks = (1..=bytes / 4096).rev().map(|blocks| {
        let mut disk = world.disk.clone();
        disk.shorten(FileName::Manifest, Some(blocks * 4096));
        let opened = open(&mut disk, world.config, world.now).map(|(store, _)| store);
        (disk, opened)
    });
    let all: Vec<_> = disks.collect();
    let corrupt = |it: &&(_, Result<_, _>)| matches!(it.1, Err(StorageError::Corrupt { .. }));
    assert!(all.iter().filter(corrupt).count() > 0, "some of it is missed");
    assert!(all.iter().any(|(_, opened)| opened.is_ok()), "all of it is not");
    all
}

#[test]
fn what_was_cleaned_goes_once_a_manifest_without_the_record_would_be_missed() {
    for seed in 0..4 {
        let mut keyed = Keyed::new(seed);
        // So many keys that the first segment has the last value of nearly all of its own.
        keyed.fill(120, 100_000);
        keyed.world.now.monotonic = keyed.world.now.monotonic.after(HOUR);
        keyed.world.run();
        assert!(keyed.begin(), "it is due");
        let gone = delete_one(&mut keyed.world);
        assert!(keyed.world.disk.contents(gone).is_none());
        for (disk, opened) in shortened(&keyed.world) {
            let Ok(store) = opened else { continue };
            (keyed.world.disk, keyed.world.store) = (disk, store);
            keyed.assert_last_values();
        }
    }
}

#[test]
fn what_is_too_old_goes_once_a_manifest_without_the_record_would_be_missed() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.create(log(0), small_segments());
        (0..120).for_each(|n| world.append_batch(log(0), n * 1000, 10_000));
        world.settle(log(0));
        world.now.monotonic = world.now.monotonic.after(HOUR);
        world.run();
        let settings = LogSettings { retention_ms: Some(10_000), ..small_segments() };
        world.store.configure(log(0), settings);
        world.now.wall = Wall(60_000);
        world.store.retention(log(0), world.now, Offset(600)).expect("some are old");
        let gone = delete_one(&mut world);
        assert!(world.disk.contents(gone).is_none());
        for (disk, opened) in shortened(&world) {
            let Ok(store) = opened else { continue };
            (world.disk, world.store) = (disk, store);
            assert_eq!(world.damage_of(log(0)), [], "seed {seed}");
        }
    }
}

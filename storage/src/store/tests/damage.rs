//! Stories of acknowledged records that rotted in the journal of a node without peers.

use std::collections::BTreeSet;

use crate::answers::{Hold, Recovered};
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader, HeaderVerdict};
use crate::inspect::Depth;
use crate::manifest::hold::Void;

use super::*;

mod accepted;
mod random;
mod unreadable;

impl World {
    /// Where the frame of this entry begins; the first one, if there are several.
    fn frame_of(&self, log: LogId, index: u64) -> (FileName, u64) {
        for (name, bytes) in self.disk.all() {
            let FileName::Journal(_) = name else { continue };
            for at in (0..bytes.len()).step_by(8) {
                if let HeaderVerdict::Readable(header, _) = FrameHeader::decode(&bytes[at..])
                    && (header.log, header.index) == (log, LogIndex(index))
                    && header.kind.is_entry()
                {
                    return (name, at as u64);
                }
            }
        }
        panic!("entry {index} of {log} is in no journal file");
    }

    /// A bit of the records of this entry flips; its header stays.
    fn rot(&mut self, log: LogId, index: u64) {
        let (file, at) = self.frame_of(log, index);
        self.disk.flip_bit(file, at + FRAME_HEADER_BYTES as u64 + 70, 2);
    }

    /// A bit of the header of this entry's frame flips.
    fn rot_header(&mut self, log: LogId, index: u64) {
        let (file, at) = self.frame_of(log, index);
        self.disk.flip_bit(file, at + 90, 2);
    }

    /// Time passes, until the watermark says that all of it was durable.
    fn vouch(&mut self) {
        for _ in 0..2 {
            self.now.monotonic = self.now.monotonic.after(Duration::from_secs(2));
            self.run();
        }
    }

    /// Goes on until the store comes to rest, or a watermark is written of which `begins` makes something else.
    fn run_but_for_watermarks(&mut self, begins: impl Fn(Action) -> Option<Action>) {
        loop {
            let mut ops = Vec::new();
            self.store.next_ops(self.now, &mut ops);
            for op in ops {
                let is_watermark = op.file == FileName::Watermark;
                if !is_watermark {
                    self.disk.submit(op);
                } else if let Some(action) = begins(op.action) {
                    self.disk.carry_out(DiskOp { action, ..op });
                    return;
                }
            }
            let Some(done) = self.disk.step() else { return };
            self.store.on_done(done, self.now, &mut self.events).expect("the disk works");
        }
    }

    fn try_start(&mut self, accepts: bool) -> Result<Recovered, StorageError> {
        let opening = Store::open(self.config, JOURNAL, IDENTITY);
        let opening = if accepts { opening.accept_damage() } else { opening };
        let (store, recovered) = finish(&mut self.disk, opening, self.now)?;
        self.store = store;
        self.recovered = recovered.logs.clone();
        self.report = recovered.report.clone();
        self.events.clear();
        Ok(recovered)
    }

    fn found(&self, log: LogId) -> &RecoveredLog {
        self.recovered.iter().find(|found| found.log == log).expect("the log comes back")
    }

    fn held(&self, log: LogId) -> Option<Hold> {
        self.found(log).held.clone()
    }

    /// What a start leaves to be compared with another: logs and quarantine files.
    fn outcome(&self) -> (Vec<RecoveredLog>, BTreeMap<FileName, Bytes>) {
        let is_aside = |name: &FileName| matches!(name, FileName::Quarantine(_));
        (self.recovered.clone(), self.disk.all().filter(|(name, _)| is_aside(name)).collect())
    }

    /// The log's owner begins a new term, as a member that is alone does at every start.
    fn lead(&mut self, log: LogId) {
        self.term = Term(self.term.0 + 1);
        let state = HardState { term: self.term, vote: None, commit: self.last(log) };
        self.store.save_hard_state(log, state);
        self.append(log, |_| Payload::Empty);
    }

    fn last(&self, log: LogId) -> LogIndex {
        LogIndex(self.written[&log].len() as u64)
    }

    /// What of the log's entries is in the right place: those found must be the ones written.
    fn assert_kept(&mut self, log: LogId, count: usize) {
        self.written.get_mut(&log).expect("known").truncate(count);
        let settled = self.found(log).settled.0.0 as usize;
        assert!(self.found(log).entries[..] == self.written[&log][settled..], "{log}");
        self.assert_readable(log, 1 << 20);
    }
}

/// Two logs that take turns, six batches of five records each, all acknowledged.
fn two_logs(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..2).for_each(|n| world.create(log(n), small_segments()));
    for n in 0..6 {
        (0..2).for_each(|partition| world.append_batch(log(partition), n, 3_000));
        world.run();
    }
    world
}

/// The intact batches a quarantine file holds: what follows its line of text.
fn batches_in(file: &[u8]) -> &[u8] {
    let text = file.windows(2).position(|two| two == b"\n\n").expect("a line of text");
    &file[text + 2..]
}

fn bytes_of(entries: &[Entry]) -> Vec<u8> {
    let bytes = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Records(records) => Some(records.bytes.clone()),
        Payload::Empty | Payload::Control(_) => None,
    });
    bytes.collect::<Vec<Bytes>>().concat()
}

#[test]
fn a_log_with_a_rotten_entry_is_held_and_what_lies_behind_is_kept() {
    for rot in [World::rot, World::rot_header] {
        let mut world = two_logs(1);
        rot(&mut world, log(0), 3);
        world.restart();
        let hold = world.held(log(0)).expect("it lost something");
        assert_eq!((hold.first, hold.last), (LogIndex(3), LogIndex(6)));
        assert_eq!((hold.end, hold.until), (Offset(10), Offset(30)));
        assert_eq!(hold.files.len(), 2, "the rotten bytes, and the batches behind them");
        let behind = bytes_of(&world.written[&log(0)][3..]);
        let kept = hold.files.iter().map(|name| world.disk.contents(FileName::Quarantine(*name)));
        let kept: Vec<Bytes> = kept.map(|bytes| bytes.expect("it exists")).collect();
        assert!(kept.iter().any(|file| batches_in(file) == behind), "batch by batch");
        let said = hold.to_string();
        assert!(said.contains("offsets 10 to 29 are not served"), "{said}");
        assert!(hold.files.iter().all(|name| said.contains(&name.to_string())), "{said}");
        world.assert_kept(log(0), 2);
        assert_eq!(world.held(log(1)), None);
        world.assert_kept(log(1), 6);
    }
}

#[test]
fn a_rotten_last_entry_holds_its_log_and_names_its_offsets() {
    let mut world = two_logs(2);
    world.vouch();
    world.rot(log(1), 6);
    world.restart();
    let hold = world.held(log(1)).expect("it lost something");
    assert_eq!((hold.first, hold.last), (LogIndex(6), LogIndex(6)));
    assert_eq!((hold.end, hold.until), (Offset(25), Offset(30)), "the header still says so");
}

#[test]
fn a_hold_outlives_starts_new_terms_settles_and_the_rotten_frame_itself() {
    let mut world = two_logs(3);
    world.rot(log(0), 3);
    world.restart();
    let hold = world.held(log(0)).expect("it lost something");
    world.written.get_mut(&log(0)).expect("known").truncate(2);
    for round in 3..8 {
        world.lead(log(0));
        world.run();
        world.restart();
        assert_eq!(world.held(log(0)), Some(hold.clone()));
        assert_eq!(world.found(log(0)).hard_state.term, world.term);
        world.assert_kept(log(0), round);
    }
    (0..2).for_each(|n| world.settle(log(n)));
    world.restart();
    assert_eq!(world.held(log(0)), Some(hold.clone()));
    // Twice the journal's window: nothing of what was damaged is on the disk any more.
    for n in 0..16 {
        (0..10).for_each(|_| world.append_batch(log(1), n, 100_000));
        world.settle(log(1));
    }
    world.restart();
    assert!(!world.report.iter().any(|line| line.contains("damaged")), "{:?}", world.report);
    assert_eq!(world.held(log(0)), Some(hold));
    assert_eq!(world.store.manifest.image().logs[&log(0)].void, None, "needed no more");
    world.assert_readable(log(0), 1 << 20);
}

#[test]
fn a_held_log_keeps_no_journal_file() {
    let mut world = two_logs(4);
    world.rot(log(0), 2);
    world.restart();
    world.written.get_mut(&log(0)).expect("known").truncate(1);
    world.lead(log(0));
    (0..2).for_each(|n| world.settle(log(n)));
    for n in 0..12 {
        (0..10).for_each(|_| world.append_batch(log(1), n, 100_000));
        world.settle(log(1));
    }
    assert!(world.store.journal.used_bytes() <= 3 << 20, "{}", world.store.journal.used_bytes());
    // What a start finds before anything is settled lets its files go as well.
    world.restart();
    world.run();
    assert_eq!(world.store.next_settle(world.now), None);
}

#[test]
fn an_accepted_loss_lets_the_log_go_on_from_its_end() {
    let mut world = two_logs(5);
    world.rot(log(0), 3);
    world.restart();
    world.written.get_mut(&log(0)).expect("known").truncate(2);
    world.lead(log(0));
    world.run();
    let aside = world.outcome().1;
    let recovered = world.try_start(true).expect("it starts");
    assert_eq!(recovered.accepted.len(), 1, "{:?}", recovered.accepted);
    assert!(recovered.accepted[0].contains("the log goes on from offset 10"));
    assert_eq!(world.held(log(0)), None);
    assert_eq!(world.store.end_offset(log(0)), Some(Offset(10)));
    world.lead(log(0));
    (0..4).for_each(|n| world.append_batch(log(0), 70 + n, 900));
    world.run();
    // The frames that were given up are still there, of the same indices and offsets.
    world.restart();
    assert_eq!(world.held(log(0)), None);
    world.assert_kept(log(0), 8);
    assert_eq!(world.outcome().1, aside, "what was set aside stays");
    world.settle(log(0));
    world.restart();
    world.assert_kept(log(0), 8);
}

#[test]
fn a_loss_found_and_accepted_by_one_start_is_set_aside_all_the_same() {
    let mut world = two_logs(6);
    world.rot(log(0), 3);
    let recovered = world.try_start(true).expect("it starts");
    assert!(recovered.accepted.iter().any(|line| line.contains("entries 3 to 6")));
    assert_eq!(world.outcome().1.len(), 2);
    world.written.get_mut(&log(0)).expect("known").truncate(2);
    world.append_batch(log(0), 9, 400);
    world.run();
    world.restart();
    assert_eq!(world.held(log(0)), None);
    world.assert_kept(log(0), 3);
}

/// A log whose promise spoke of six entries, of which four are given up; then it and its neighbour lie in
/// segments, their promises in a newer journal file, and nothing of what is void is needed.
fn given_up_and_settled(seed: u64) -> World {
    let mut world = two_logs(seed);
    let promise = HardState { term: Term(1), vote: None, commit: LogIndex(6) };
    world.store.save_hard_state(log(0), promise);
    world.vouch();
    world.rot(log(0), 3);
    world.try_start(true).expect("it starts");
    world.written.get_mut(&log(0)).expect("known").truncate(2);
    (0..2).for_each(|n| world.lead(log(n)));
    world.settle(log(0));
    world
}

fn void_of(world: &World) -> Option<Void> {
    world.store.manifest.image().logs[&log(0)].void
}

/// A process ended while its watermark was under way. The next start goes by it, and must see to it that the
/// device has it (F14): else the power takes it, and frames come back that nothing calls void any more.
#[test]
fn what_was_given_up_does_not_come_back_with_an_older_watermark() {
    let cached = |action| match action {
        Action::WriteDurable { at, parts, padded_len } => {
            Some(Action::Write { at, parts, padded_len })
        }
        other => panic!("{other:?} is no watermark"),
    };
    for seed in 0..8 {
        let mut world = given_up_and_settled(seed);
        let last = world.last(log(1));
        assert!(world.store.begin_settle(log(1), last, (last, Bytes::new())));
        world.run_but_for_watermarks(cached);
        world.restart();
        assert_eq!(void_of(&world), None, "the watermark says that its frames are not needed");
        world.disk.crash();
        world.restart();
        assert_eq!(world.found(log(0)).hard_state.commit, LogIndex(2), "seed {seed}");
        world.assert_kept(log(0), 3);
    }
}

/// The opening of a journal file says the same as a watermark, but the next start may write over it.
#[test]
fn what_is_void_stays_noted_until_a_watermark_says_that_it_is_not_needed() {
    let mut world = given_up_and_settled(1);
    let fill = |world: &mut World| (0..7).for_each(|n| world.append_batch(log(1), n, 100_000));
    // The next file is ready before it is wanted, or it would wait for the watermark as well.
    fill(&mut world);
    world.run();
    let last = world.last(log(1));
    while world.store.settled(log(1)).expect("a known log").0 < last {
        assert!(world.store.begin_settle(log(1), last, (last, Bytes::new())));
        world.run_but_for_watermarks(|_| None);
    }
    fill(&mut world);
    world.run_but_for_watermarks(|_| None);
    world.restart();
    assert_eq!(world.found(log(1)).entries.len(), 7);
    assert!(void_of(&world).is_some(), "no watermark was written since");
    world.vouch();
    world.restart();
    assert_eq!(void_of(&world), None);
}

#[test]
fn deleting_the_log_ends_its_hold() {
    let mut world = two_logs(7);
    world.rot(log(0), 3);
    world.restart();
    world.store.delete(log(0));
    world.run();
    world.restart();
    assert!(world.recovered.iter().all(|found| found.log != log(0)));
    world.written.remove(&log(0));
    world.run();
    world.create(log(0), small_segments());
    world.append_batch(log(0), 1, 500);
    world.run();
    world.restart();
    assert_eq!(world.held(log(0)), None);
    world.assert_kept(log(0), 1);
}

/// A promise written again after the loss must not speak of entries that are gone. The state of the
/// log's owner does: the owner knows how to forget them, and has nothing else to go by.
#[test]
fn a_promise_forgets_lost_entries_and_a_state_is_left_to_its_owner() {
    let mut world = two_logs(8);
    let state = HardState { term: Term(1), vote: None, commit: LogIndex(6) };
    world.store.save_hard_state(log(0), state);
    let applied = (LogIndex(6), Bytes::from_static(b"knows six"));
    assert!(world.store.begin_settle(log(0), LogIndex(1), applied));
    world.run();
    world.rot(log(0), 3);
    world.restart();
    assert_eq!(world.found(log(0)).hard_state.commit, LogIndex(2));
    assert_eq!(world.found(log(0)).state, (LogIndex(2), Bytes::from_static(b"knows six")));
    world.settle(log(1));
    // The journal moves on and carries the promise with it.
    for n in 0..12 {
        (0..10).for_each(|_| world.append_batch(log(1), n, 100_000));
        world.settle(log(1));
        let known = world.recovered.len();
        world.restart();
        assert_eq!(world.recovered.len(), known);
        assert_eq!(world.found(log(0)).hard_state.commit, LogIndex(2));
    }
}

#[test]
fn damage_that_nobody_can_name_stops_the_start_until_it_is_accepted() {
    let mut world = two_logs(9);
    world.vouch();
    world.rot_header(log(1), 6);
    let before: Vec<_> = world.disk.all().collect();
    let refused = world.try_start(false).expect_err("whose it was is unknown");
    assert!(refused.to_string().contains("--accept-damage"), "{refused}");
    assert!(world.disk.all().collect::<Vec<_>>() == before, "nothing was written");
    let recovered = world.try_start(true).expect("it was accepted");
    assert_eq!(recovered.accepted.len(), 1, "{:?}", recovered.accepted);
    world.assert_kept(log(1), 5);
    // It stays accepted, although the bytes are still there and somebody has appended since.
    for round in 6..9 {
        world.append_batch(log(1), 3, 300);
        world.run();
        let recovered = world.try_start(false).expect("accepted before");
        assert_eq!(recovered.accepted, Vec::<String>::new());
        world.assert_kept(log(1), round);
        assert_eq!(world.held(log(1)), None);
    }
    world.vouch();
    world.rot_header(log(1), 8);
    assert!(world.try_start(false).is_err(), "new damage is another decision");
}

#[test]
fn a_log_may_lose_something_twice() {
    let mut world = two_logs(10);
    world.rot(log(0), 5);
    world.restart();
    let first = world.held(log(0)).expect("it lost something");
    world.written.get_mut(&log(0)).expect("known").truncate(4);
    (0..2).for_each(|_| world.lead(log(0)));
    world.run();
    world.rot(log(0), 2);
    world.restart();
    let both = world.held(log(0)).expect("it lost more");
    assert_eq!((both.first, both.end, both.until), (LogIndex(2), Offset(5), Offset(30)));
    assert!(first.files.iter().all(|name| both.files.contains(name)));
    world.assert_kept(log(0), 1);
    world.restart();
    assert_eq!(world.held(log(0)), Some(both));
    world.assert_kept(log(0), 1);
}

/// Whose a lost frame was is told by those around it, and their files may be recycled before its own.
#[test]
fn a_loss_once_told_is_known_when_what_told_it_is_gone() {
    let mut world = World::new(15);
    (0..2).for_each(|n| world.create(log(n), small_segments()));
    (0..2).for_each(|n| world.append_batch(log(n), 1, 500));
    for n in 0..12 {
        world.append_batch(log(1), n, 100_000);
        world.run();
    }
    for n in 0..2 {
        (0..2).for_each(|partition| world.append_batch(log(partition), n, 500));
        world.run();
    }
    assert_ne!(world.frame_of(log(0), 1).0, world.frame_of(log(0), 2).0, "in another file");
    world.rot_header(log(0), 2);
    world.restart();
    let hold = world.held(log(0)).expect("it lost something");
    world.written.get_mut(&log(0)).expect("known").truncate(1);
    // The first file goes; the next is still needed by what is behind the loss.
    for (partition, last) in [(0, 1), (1, 13)] {
        let state = (LogIndex(last), Bytes::from_static(b"state"));
        assert!(world.store.begin_settle(log(partition), LogIndex(last), state));
        world.run();
    }
    for _ in 0..2 {
        world.append_batch(log(1), 1, 500);
        world.vouch();
        world.try_start(false).expect("nothing new is lost");
        assert_eq!(world.held(log(0)), Some(hold.clone()));
        world.assert_kept(log(0), 1);
    }
}

/// The power goes at every step of the start that finds the damage, and again at every step of the
/// next: the third finds what an undisturbed one would have found.
#[test]
fn a_start_that_finds_damage_may_be_cut_short_at_every_step() {
    let rotten = || {
        let mut world = two_logs(11);
        world.rot(log(0), 3);
        world
    };
    let mut undisturbed = rotten();
    undisturbed.restart();
    let expected = undisturbed.outcome();
    let steps = 16;
    for (first, second) in (0..steps * steps).map(|at| (at / steps, at % steps)) {
        let mut world = rotten();
        for stop in [first, second] {
            let mut opening = Store::open(world.config, JOURNAL, IDENTITY);
            for _ in 0..stop {
                let mut ops = Vec::new();
                opening.next_ops(world.now, &mut ops);
                ops.into_iter().for_each(|op| world.disk.submit(op));
                let Some(done) = world.disk.step() else { break };
                opening.on_done(done, world.now).expect("the disk works");
            }
            assert!(stop < steps - 1 || opening.finish().is_some(), "all of its steps");
            world.disk.crash();
        }
        world.restart();
        assert_eq!(world.outcome(), expected, "cut at {first} and {second}");
    }
}

/// From the first write after the hold on: whatever of the new term's entry arrived, the frames
/// behind the gap never come back.
#[test]
fn a_held_log_may_lose_power_at_every_step_of_its_new_term() {
    for steps in 0.. {
        let mut world = two_logs(12 + steps as u64);
        world.rot(log(0), 3);
        world.restart();
        let hold = world.held(log(0));
        world.written.get_mut(&log(0)).expect("known").truncate(2);
        world.lead(log(0));
        world.lead(log(1));
        let done = world.turn(steps);
        world.disk.crash();
        world.restart();
        assert_eq!(world.held(log(0)), hold);
        let count = world.found(log(0)).entries.len();
        assert!(count == 2 || count == 3, "{count} entries after {steps} steps");
        world.assert_kept(log(0), count);
        if done < steps {
            assert_eq!(count, 3);
            return;
        }
    }
}

#[test]
fn a_full_disk_does_not_let_damage_go_unnoticed() {
    let mut world = two_logs(13);
    world.rot(log(0), 3);
    let mut with_room = world.disk.clone();
    open(&mut with_room, world.config, world.now).expect("it opens");
    let aside: BTreeSet<FileName> = with_room
        .all()
        .map(|(name, _)| name)
        .filter(|name| matches!(name, FileName::Quarantine(_)))
        .collect();
    for name in aside {
        let mut disk = world.disk.clone();
        disk.inject(Fault::Fail(name, DiskErrorKind::NoSpace));
        let refused = open(&mut disk, world.config, world.now).expect_err("nowhere to keep it");
        assert!(matches!(refused, StorageError::NoSpace(_)), "{refused}");
        disk.crash();
        let (_, recovered) = open(&mut disk, world.config, world.now).expect("there is room");
        assert!(recovered.logs[0].held.is_some());
    }
}

#[test]
fn an_inspection_names_what_is_held_and_shows_nothing_void() {
    let mut world = two_logs(14);
    world.rot(log(0), 3);
    world.restart();
    let lines = world.inspect(Depth::Records(log(0)));
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    let hold = world.held(log(0)).expect("it lost something");
    assert!(has(&format!("{}: held, takes no records: {hold}", log(0))), "{lines:#?}");
    assert!(hold.files.iter().all(|name| has(&format!("{name}: "))), "listed: {lines:#?}");
    assert!(has("2 unsettled entries in the journal, the last is 2"), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("key=null value=")).count(), 10);
}

/// Its last chunk looks torn when it rots, and journal files were recycled because of it.
#[test]
fn a_manifest_that_lost_its_end_stops_the_start() {
    let mut world = two_logs(15);
    (0..2).for_each(|n| world.settle(log(n)));
    world.append_batch(log(0), 7, 500);
    world.settle(log(0));
    world.vouch();
    let manifest = world.disk.contents(FileName::Manifest).expect("it exists");
    let used = manifest.iter().rposition(|byte| *byte != 0).expect("something") as u64;
    assert!(used > 2 * 4096, "several chunks");
    for at in [used, used / 4096 * 4096 + 20, 4096 + 20, 20] {
        let whole = world.disk.clone();
        world.disk.flip_bit(FileName::Manifest, at, 1);
        let refused = world.try_start(false).expect_err("a chunk is gone");
        assert!(matches!(refused, StorageError::Corrupt { .. }), "{refused}");
        world.disk = whole.clone();
        world.disk.shorten(FileName::Manifest, Some(at / 4096 * 4096));
        world.try_start(false).expect_err("a chunk is gone");
        world.disk = whole;
    }
    world.restart();
    world.assert_readable(log(0), 1 << 20);
}

/// The start is told before what lies below it is durable; then the disk loses that.
#[test]
fn a_start_beyond_the_end_that_is_left_becomes_the_end() {
    let mut world = two_logs(16);
    world.settle(log(0));
    let (FileName::Journal(_), _) = world.frame_of(log(1), 6) else { unreachable!() };
    let file = world.frame_of(log(1), 6).0;
    world.disk.inject(Fault::LoseWrite(file));
    world.append_batch(log(0), 7, 500);
    world.run();
    world.store.set_start_offset(log(0), Offset(33));
    world.disk.inject(Fault::LoseWrite(file));
    world.run();
    world.settle(log(1));
    world.restart();
    let found = world.found(log(0));
    assert!(found.start_offset <= Offset(30), "{found:?}");
}

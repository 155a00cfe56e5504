//! What becomes of a node when something breaks: its machine, its devices, its service manager, its operator.
//!
//! Does: end processes and start them again; let devices fail, lie and spoil what they keep; do what an
//! operator does with a node that refuses to start: restore a copy, or give up what is damaged.
//! Does not: excuse anything; it says what was spoilt, and oracles judge.
//! Invariants: a process ends by itself only where something was spoilt or failed on the core that says so; a
//! copy holds all that was ever acknowledged; the cluster's metadata is never given up.
//! Apart because a node that runs needs nothing of it.
//!
//! ```text
//!  spoilt -> start: examined -> up: what is hit may be held          -> told to the history
//!                            -> refused: restored, nothing may be lost -> start
//!                                        or given up                 -> start --accept-damage -> up
//! ```

use std::collections::BTreeSet;
use std::mem;

use flumen_broker::shard::input::{ConnectionId, Input};
use flumen_protocol::ids::{CoreId, LogId};
use flumen_storage::error::{DiskError, DiskErrorKind, StorageError};
use flumen_storage::limits::BLOCK_BYTES;
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::{Dice, Fault, SimDisk};

use super::damage::{self, Reach};
use super::heap::{MILLIS, Nanos, SECONDS};
use super::life::Event;
use super::node::{Core, Events, Node, State};
use super::plan::Damage;

/// What clients cannot know, and oracles must.
pub enum Finding {
    /// The process ended without being asked.
    Crash,
    /// An operation of a disk is not answered, and will not be as long as the process lives.
    Silent,
    /// The process that waited for such an answer has ended, asked or not.
    SilenceOver,
    /// This may be refused for damage.
    Damaged { core: usize, reaches: Vec<Reach> },
    /// A core has started, whatever there was on its disk; this of it may be lost.
    Met { core: usize, reaches: Vec<Reach> },
    /// An operator gave up what this core had lost.
    Accepted { core: usize },
}

/// What is known of damage to the disk of a core.
#[derive(Default)]
pub(super) struct Spoilt {
    /// The disk as it was when damage was first met by a start, with everything as it should be.
    copy: Option<Box<SimDisk>>,
    /// What no complete start has met.
    pending: Vec<Reach>,
    /// A start that gave it up was begun, and not completed.
    was_accepting: bool,
    /// A start that gave up what was held was begun, and none has completed since.
    lets_go: bool,
    /// Logs that lost something, ever.
    hurt: BTreeSet<LogId>,
    /// Losses in segments that were told since the start.
    told: BTreeSet<Reach>,
    /// The device failed an operation since the start.
    was_struck: bool,
    /// Logs of the core that are held, as the last complete start said.
    held: BTreeSet<LogId>,
}

impl Spoilt {
    /// A start begins, by which an operator gives up what is lost, or does not.
    fn begin(&mut self, accepts: bool) {
        self.was_struck = false;
        self.told.clear();
        self.lets_go |= accepts && !self.held.is_empty();
    }

    /// A start is complete, and holds these logs. Returns whether all that was held had been let go before: by a
    /// start that wrote this down, for all logs at once, and was ended before it served.
    fn complete(&mut self, held: &[LogId]) -> bool {
        let none_is_left = held.iter().all(|log| !self.held.contains(log));
        self.held = held.iter().copied().collect();
        self.forget();
        mem::take(&mut self.lets_go) && none_is_left
    }

    fn forget(&mut self) {
        self.pending.clear();
        (self.copy, self.was_accepting) = (None, false);
    }
}

impl Node {
    /// The process ends at once, with the machine if the power goes, and is started again later.
    pub fn die(&mut self, power: bool, later: Nanos, events: &mut Events, dice: &mut Dice) {
        self.life += 1;
        if self.cores.iter().any(|core| core.is_silent) {
            self.findings.push(Finding::SilenceOver);
        }
        for core in &mut self.cores {
            core.state = State::Down;
            core.inbox.clear();
            core.pressed.clear();
            core.turn_at = None;
            (core.stalled_until, core.hanging_until, core.slow_until) = (0, 0, 0);
            (core.is_serving, core.is_deaf, core.has_stopped) = (false, false, false);
            core.is_silent = false;
            if power { core.disk.crash() } else { core.disk.kill() }
        }
        self.wires.clear();
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        all.into_iter().for_each(|connection| self.close(connection, events, dice));
        // What the old process had said has arrived before a new one finds anything lost.
        let net = if self.plan.rot.is_some() { self.plan.pace.net.1 + 10 * MILLIS } else { 0 };
        let life = self.life;
        events.push(events.now() + later.max(net), dice.below(u64::MAX), Event::Boot { life });
    }

    /// The process is asked to stop; it is started again once it has.
    pub fn ask_to_stop(&mut self, events: &mut Events, dice: &mut Dice) {
        if self.is_serving() && !self.is_stopping {
            self.is_stopping = true;
            self.cores[0].inbox.push_back(Input::Stop);
            self.wake(0, events, dice);
        }
    }

    /// Looks at a core's disk before its start.
    pub(super) fn examine(&mut self, core: usize) {
        let (identity, accepts) = (self.record.identity(CoreId(core as u16)), self.accepts);
        let Core { disk, spoilt, .. } = &mut self.cores[core];
        spoilt.begin(accepts);
        if disk.wrong_files().is_empty() && spoilt.copy.is_none() {
            return;
        }
        spoilt.pending.extend(damage::of_journal(disk, &identity));
        // Without a word the cluster would be another one, and so it would if that were given up.
        let is_silent = |reach: &Reach| reach.log == LogId::METADATA && reach.is_silent;
        // A manifest that lost its end looks torn where nothing else knows better.
        let wrong = disk.wrong_files();
        let is_unknown =
            [FileName::Manifest, FileName::Watermark].iter().all(|name| wrong.contains(name));
        let is_dire = accepts || spoilt.pending.iter().any(is_silent);
        if is_unknown || is_dire && damage::touches_metadata(disk, &spoilt.pending) {
            return self.restore(core);
        }
        spoilt.was_accepting |= accepts;
        spoilt.copy.get_or_insert_with(|| {
            let mut copy = disk.clone();
            copy.mend();
            // A disk that happened to be full now need not be so when this takes its place.
            copy.limit(None);
            Box::new(copy)
        });
    }

    /// Everything of a core's disk is as it should be.
    fn restore(&mut self, core: usize) {
        let Core { disk, spoilt, .. } = &mut self.cores[core];
        match spoilt.copy.take() {
            Some(copy) => *disk = *copy,
            None => disk.mend(),
        }
        spoilt.forget();
    }

    /// A core has started: it has met what there was.
    pub(super) fn take_up(&mut self, core: usize, held: &[LogId]) {
        let accepts = self.accepts;
        let spoilt = &mut self.cores[core].spoilt;
        let mut reaches = mem::take(&mut spoilt.pending);
        let is_given_up = accepts || spoilt.was_accepting;
        reaches.retain(|reach| is_given_up || !reach.is_doubtful);
        reaches.iter_mut().for_each(|reach| reach.is_silent |= is_given_up);
        spoilt.hurt.extend(reaches.iter().map(|reach| reach.log));
        let cluster = reaches.iter().find(|reach| reach.log == LogId::METADATA);
        assert!(cluster.is_none(), "core {core} serves what is left of the cluster: {cluster:?}");
        for log in held {
            assert!(spoilt.hurt.contains(log), "core {core} holds {log}, which nobody damaged");
        }
        assert!(!accepts || held.is_empty(), "core {core} holds {held:?}, which was given up");
        if spoilt.complete(held) && !accepts {
            self.findings.push(Finding::Accepted { core });
        }
        if self.plan.rot.is_some() {
            self.findings.push(Finding::Met { core, reaches });
        }
        if accepts {
            self.findings.push(Finding::Accepted { core });
        }
        self.survey(core);
    }

    /// What is in the journal of a core from now on is what should be there: a start has judged it.
    pub fn trust(&mut self, core: usize) {
        let disk = &mut self.cores[core].disk;
        for name in disk.wrong_files() {
            if !matches!(name, FileName::Segment { .. } | FileName::Index { .. }) {
                disk.trust(name);
            }
        }
    }

    /// Says what segments of a core have lost since it was last said.
    pub fn survey(&mut self, core: usize) {
        let Core { disk, spoilt, .. } = &mut self.cores[core];
        let reaches = damage::of_segments(disk).into_iter();
        let reaches: Vec<Reach> =
            reaches.filter(|reach| spoilt.told.insert(reach.clone())).collect();
        if !reaches.is_empty() {
            self.findings.push(Finding::Damaged { core, reaches });
        }
    }

    /// What was found since somebody asked.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        mem::take(&mut self.findings)
    }

    /// The disk of a core.
    pub fn disk(&self, core: usize) -> &SimDisk {
        &self.cores[core].disk
    }

    /// Notes that the disk of a core took an operation that it never answers.
    pub(super) fn note_silence(&mut self, core: usize) {
        self.cores[core].is_silent = true;
        self.findings.push(Finding::Silent);
    }

    /// Notes what its device did to an operation of a core.
    pub(super) fn note_faults(&mut self, core: usize) {
        for fault in self.cores[core].disk.take_met() {
            match fault {
                Fault::Fail(..) | Fault::FailHalfway(..) => {
                    self.cores[core].spoilt.was_struck = true;
                }
                Fault::LoseWrite(_) | Fault::MisdirectWrite(..) => self.survey(core),
                Fault::Unreadable(..) | Fault::GarbleRead(_) => {}
            }
        }
    }

    /// A start failed. What passes is tried again, as a service manager does; else somebody is called.
    pub(super) fn give_up(
        &mut self,
        core: usize,
        error: &StorageError,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        let full = |error: &DiskError| error.kind == DiskErrorKind::NoSpace;
        let is_full = match error {
            StorageError::NoSpace(error) | StorageError::DeviceFailed(error) => full(error),
            StorageError::Unreadable(_)
            | StorageError::Foreign { .. }
            | StorageError::NewerFormat { .. }
            | StorageError::Corrupt { .. }
            | StorageError::NeedsOperator { .. }
            | StorageError::InUse { .. } => false,
        };
        let was_struck = mem::take(&mut self.cores[core].spoilt.was_struck);
        if is_full || was_struck {
            return self.die(false, SECONDS, events, dice);
        }
        assert!(self.cores[core].spoilt.copy.is_some(), "a start fails: {error}");
        let chance = self.plan.rot.as_ref().map_or(0, |rot| rot.accepts_one_in);
        let may_accept = matches!(error, StorageError::NeedsOperator { .. }) && chance > 0;
        if may_accept && dice.below(chance) == 0 {
            self.accepts_next = true;
        } else {
            self.restore(core);
        }
        self.die(false, SECONDS, events, dice);
    }

    /// A core does not serve what was recovered: its copy of the cluster's metadata is damaged, or of what a
    /// log has lost without a trace a promise still speaks.
    pub(super) fn refuse(&mut self, core: usize, why: &str, events: &mut Events, dice: &mut Dice) {
        let mut lost = self.cores[core].spoilt.pending.iter();
        let is_hit = lost.any(|reach| {
            let is_named = reach.is_silent && why.contains(&reach.log.to_string());
            reach.log == LogId::METADATA || is_named
        });
        assert!(is_hit, "core {core} does not start: {why}");
        self.restore(core);
        self.die(false, SECONDS, events, dice);
    }

    /// A core ends its process. A service manager starts it again.
    pub(super) fn halt(
        &mut self,
        core: usize,
        error: &StorageError,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        let Core { disk, spoilt, .. } = &self.cores[core];
        let is_damaged = matches!(error, StorageError::NeedsOperator { .. });
        if is_damaged && damage::touches_metadata(disk, &[]) {
            self.restore(core);
        } else {
            assert!(spoilt.was_struck, "core {core} halts: {error}");
        }
        self.findings.push(Finding::Crash);
        self.die(false, SECONDS, events, dice);
    }

    /// An operator lets held logs go, with the next start, if there are any and he likes to.
    pub fn consider_accepting(&mut self, dice: &mut Dice) {
        let chance = self.plan.rot.as_ref().map_or(0, |rot| rot.accepts_one_in);
        let is_held = self.cores.iter().any(|core| !core.spoilt.held.is_empty());
        self.accepts_next |= is_held && chance > 0 && dice.below(chance) == 0;
    }

    /// A core's disk does nothing until then.
    pub fn hang_disk(&mut self, core: usize, until: Nanos) {
        self.cores[core].hanging_until = until;
    }

    /// A core's disk is slow until then.
    pub fn slow_disk(&mut self, core: usize, until: Nanos) {
        self.cores[core].slow_until = until;
    }

    /// One operation of a core's disk is never answered.
    pub fn hang_operation(&mut self, core: usize) {
        self.cores[core].disk.hang_one();
    }

    /// A core does nothing until then.
    pub fn stall(&mut self, core: usize, until: Nanos) {
        self.cores[core].stalled_until = until;
    }

    /// A core's disk takes so many bytes more than it holds, or as many as anybody likes.
    pub fn limit_disk(&mut self, core: usize, more: Option<u64>) {
        self.cores[core].disk.limit(more);
    }

    /// The wall clock jumps; after small jumps it is never as far off as what is old.
    pub fn jump_clock(&mut self, milliseconds: i64) {
        const DAY: i64 = 24 * 3_600_000;
        let off = self.clock_jump + milliseconds;
        let is_small = milliseconds.abs() <= DAY;
        self.clock_jump =
            if is_small && off.abs() > 3 * DAY { self.clock_jump - milliseconds } else { off };
    }

    /// Something that a core's disk is to do fails.
    pub fn fail_write(&mut self, core: usize, dice: &mut Dice) {
        let disk = &mut self.cores[core].disk;
        let last = disk.last_written().filter(|_| dice.below(2) == 0);
        let Some(name) = last.or_else(|| any_file(disk, dice, |_| true)) else { return };
        let kind = if dice.below(3) == 0 { DiskErrorKind::NoSpace } else { DiskErrorKind::Io(5) };
        // A read that fails is another matter where it says that something is lost for good.
        let may_read = matches!(name, FileName::Segment { .. } | FileName::Index { .. });
        let halfway = may_read || dice.below(2) == 0;
        let fault = if halfway { Fault::FailHalfway(name, kind) } else { Fault::Fail(name, kind) };
        disk.inject(fault);
    }

    /// A core's disk spoils something. Not in the middle of a start: that may have looked already.
    pub fn spoil(&mut self, core: usize, kind: Damage, dice: &mut Dice) {
        if let State::Opening(_) = self.cores[core].state {
            return;
        }
        let disk = &mut self.cores[core].disk;
        match kind {
            Damage::BitFlips => (0..1 + dice.below(3)).for_each(|_| flip(disk, dice)),
            Damage::Zeros => {
                let length = 512 << dice.below(5);
                with_file(disk, dice, |disk, dice, name, length_there| {
                    let at = dice.below(length_there) / 512 * 512;
                    let length = (length_there - at).min(length);
                    disk.overwrite(name, at, &vec![0; length as usize]);
                });
            }
            Damage::WriteLost => {
                if let Some(name) = written_soon(disk, dice) {
                    disk.inject(Fault::LoseWrite(name));
                }
            }
            // Not in segments: a sound batch in the wrong place, where no index says what belongs there,
            // costs more than it hit.
            Damage::WriteMisdirected => {
                let is_journal = |name| matches!(name, FileName::Journal(_));
                let last = disk.last_written().filter(|name| is_journal(*name));
                if let Some(name) = last.or_else(|| any_file(disk, dice, is_journal)) {
                    let length = disk.names().find(|file| file.0 == name).map_or(0, |file| file.1);
                    let block = dice.below(length / BLOCK + 1) / 2;
                    disk.inject(Fault::MisdirectWrite(name, block * BLOCK));
                }
            }
            Damage::ReadGarbled => {
                let name = any_file(disk, dice, |name| matches!(name, FileName::Segment { .. }));
                let fault = name.map(Fault::GarbleRead).filter(|fault| !disk.awaits(*fault));
                // Two faults at one read are more than reading again can tell apart. On a slow disk the
                // second could be asked for before the second reading.
                let is_sound = name.is_some_and(|name| {
                    disk.wrong_places(name).is_empty() && !disk.is_to_be_read_again(name)
                });
                fault.into_iter().filter(|_| is_sound).for_each(|fault| disk.inject(fault));
            }
            Damage::BlockUnreadable => with_file(disk, dice, |disk, dice, name, length| {
                let block = dice.below(length) / BLOCK * BLOCK;
                disk.inject(Fault::Unreadable(name, block));
            }),
            Damage::FileShortened => with_file(disk, dice, |disk, dice, name, length| {
                disk.shorten(name, Some(dice.below(length)));
            }),
        }
        self.survey(core);
    }
}

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Journals and segments most of the time, now and then what only helps to find things in them.
fn kind_of_file(dice: &mut Dice) -> fn(FileName) -> bool {
    match dice.below(12) {
        0..5 => |name| matches!(name, FileName::Journal(_)),
        5..9 => |name| matches!(name, FileName::Segment { .. }),
        9 => |name| matches!(name, FileName::Index { .. }),
        10 => |name| matches!(name, FileName::Watermark),
        _ => |name| matches!(name, FileName::Manifest),
    }
}

/// Any file of those wanted that holds anything.
fn any_file(
    disk: &SimDisk,
    dice: &mut Dice,
    wanted: impl Fn(FileName) -> bool,
) -> Option<FileName> {
    let names = disk.names().filter(|(name, length)| *length > 0 && wanted(*name));
    let names: Vec<FileName> = names.map(|(name, _)| name).collect();
    let count = names.len() as u64;
    (count > 0).then(|| names[dice.below(count) as usize])
}

/// Does something to any file of any kind, and says how long it is.
fn with_file(
    disk: &mut SimDisk,
    dice: &mut Dice,
    act: impl FnOnce(&mut SimDisk, &mut Dice, FileName, u64),
) {
    let wanted = kind_of_file(dice);
    if let Some(name) = any_file(disk, dice, wanted) {
        let length = disk.names().find(|file| file.0 == name).map_or(0, |file| file.1);
        act(disk, dice, name, length);
    }
}

/// A bit flips, rather where anything stands.
fn flip(disk: &mut SimDisk, dice: &mut Dice) {
    with_file(disk, dice, |disk, dice, name, length| {
        let contents = disk.contents(name).unwrap_or_default();
        let mut places = (0..12).map(|_| dice.below(length) as usize);
        let Some(at) = places.find(|at| contents[*at] != 0) else { return };
        let flipped = contents[at] ^ 1 << dice.below(8);
        disk.overwrite(name, at as u64, &[flipped]);
    });
}

/// A file that is likely to be written to next, and that says more than where others are. What a manifest
/// loses without an error nothing else on the disk can tell.
fn written_soon(disk: &SimDisk, dice: &mut Dice) -> Option<FileName> {
    let last = disk.last_written().filter(|name| *name != FileName::Manifest);
    let is_journal = |name| matches!(name, FileName::Journal(_));
    last.filter(|_| dice.below(4) > 0).or_else(|| any_file(disk, dice, is_journal))
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{Offset, PartitionIndex, TopicId};
    use flumen_storage::op::{Action, DiskOp, Generation, OpId};

    use super::super::heap::Heap;
    use super::super::plan::Plan;
    use super::*;

    const LOG: LogId = LogId { topic: TopicId([3; 16]), partition: PartitionIndex(0) };
    const OTHER: LogId = LogId { partition: PartitionIndex(1), ..LOG };

    fn holding() -> Spoilt {
        let mut spoilt = Spoilt::default();
        spoilt.begin(false);
        assert!(!spoilt.complete(&[LOG, OTHER]), "nobody let go of anything");
        spoilt
    }

    #[test]
    fn a_start_that_let_go_of_what_was_held_and_was_ended_is_remembered_once() {
        let mut spoilt = holding();
        spoilt.begin(true);
        // It is ended before it serves; damage that is met meanwhile, and a copy restored for it, do not matter.
        spoilt.begin(false);
        spoilt.forget();
        assert!(spoilt.complete(&[]));
        spoilt.begin(false);
        assert!(!spoilt.complete(&[]));
    }

    #[test]
    fn a_start_that_was_ended_before_it_wrote_anything_down_let_go_of_nothing() {
        let mut spoilt = holding();
        spoilt.begin(true);
        spoilt.begin(false);
        assert!(!spoilt.complete(&[LOG, OTHER]));
        spoilt.begin(false);
        assert!(!spoilt.complete(&[]), "who began later accepted nothing");
    }

    #[test]
    fn what_is_held_does_not_go_by_itself() {
        let mut spoilt = holding();
        spoilt.begin(false);
        assert!(!spoilt.complete(&[]));
        spoilt.begin(true);
        assert!(!spoilt.complete(&[]), "nothing was held that anybody could give up");
    }

    /// Both readings were spoilt, and sound records refused for good (seed 10501392).
    #[test]
    fn what_is_read_again_after_a_garbled_read_is_not_garbled_again() {
        let plan = Plan { rot: None, ..Plan::draw(1) };
        let (mut node, mut dice) = (Node::new(&plan, 1), Dice::new(1));
        let file = FileName::Segment { log: LOG, base: Offset(0), generation: Generation(0) };
        let block = BLOCK_BYTES as u32;
        let write =
            Action::Write { at: 0, parts: vec![vec![7; BLOCK_BYTES].into()], padded_len: block };
        let read = Action::Read { at: 0, len: block };
        let act = |node: &mut Node, action: &Action| {
            let done =
                node.cores[0].disk.carry_out(DiskOp { id: OpId(1), file, action: action.clone() });
            done.result.expect("the disk works")
        };
        act(&mut node, &write);
        act(&mut node, &Action::Flush);
        let right = act(&mut node, &read);
        for _ in 0..2 {
            node.spoil(0, Damage::ReadGarbled, &mut dice);
            assert_ne!(act(&mut node, &read), right);
            node.spoil(0, Damage::ReadGarbled, &mut dice);
            assert_eq!(act(&mut node, &read), right, "the second reading");
        }
    }

    #[test]
    fn a_disk_that_owes_an_answer_is_told_of_once_and_forgotten_with_its_process() {
        let (mut events, mut dice) = (Heap::new(), Dice::new(1));
        let plan = Plan { rot: None, ..Plan::draw(1) };
        let mut node = Node::new(&plan, 1);
        node.boot(&mut events, &mut dice);
        node.hang_operation(0);
        assert!(node.take_findings().is_empty(), "it is not asked for anything yet");
        while node.findings.is_empty() {
            let Some(Event::Inside { life, core, what }) = events.pop() else {
                unreachable!("nobody else acts")
            };
            node.happen(life, core, what, &mut events, &mut dice);
        }
        assert!(matches!(node.take_findings()[..], [Finding::Silent]));
        node.die(false, SECONDS, &mut events, &mut dice);
        assert!(matches!(node.take_findings()[..], [Finding::SilenceOver]));
        node.die(false, SECONDS, &mut events, &mut dice);
        assert!(node.take_findings().is_empty());
    }
}

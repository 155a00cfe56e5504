//! What one life is made of: every seed turns other things on.
//!
//! Does: draw the size of the node, who its clients are, which faults there are and how often.
//! Does not: let anything happen.
//! Invariants: the plan follows from the seed alone; at least one writer and one reader live.
//! Apart because a random subset of faults finds more than all of them at once (swarm testing, Groce et al. 2012).

use flumen_storage::sim_disk::Dice;

use super::heap::{MICROS, MILLIS, Nanos, SECONDS};

/// From and to, both possible.
#[derive(Clone, Copy, Debug)]
pub struct Range(pub Nanos, pub Nanos);

impl Range {
    /// A time in the range.
    pub fn draw(self, dice: &mut Dice) -> Nanos {
        self.0 + dice.below(self.1 - self.0 + 1)
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From something that happened to the turn of its core.
    pub turn: Range,
    /// A message between two cores.
    pub mesh: Range,
    /// An operation of a disk.
    pub disk: Range,
    /// Bytes between a client and its core.
    pub net: Range,
}

/// What goes wrong from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The machine loses its power (P1, P3).
    PowerCut,
    /// The process is killed; what it wrote stays with the system.
    Kill,
    /// The process is asked to stop, and started again.
    Restart,
    /// A disk does nothing for a while, then everything (D15).
    DiskHangs,
    /// There is no room on a disk for a while (D13).
    DiskFills,
    /// A connection breaks.
    Disconnect,
    /// A client does nothing for a while, in the middle of whatever it does.
    ClientStalls,
    /// The wall clock jumps (K1).
    ClockJumps,
    /// A core has no turn for a while.
    CoreStalls,
    /// A write or a flush fails, and what it did is anybody's guess (D9, D10, D12).
    WriteFails,
    /// A disk takes a hundred times as long for a while (D14).
    DiskSlows,
    /// One operation of a disk is never answered; the process is killed for it after a while (D15).
    OperationHangs,
    /// A client is gone and its connection stays.
    ClientVanishes,
    /// A connection is gone and its client does not know.
    HalfOpen,
    /// A client does not read its answers for a while, and sends on.
    NeverReads,
    /// What a client sends takes long.
    SendsSlowly,
    /// A client connects once more and says nothing there.
    IdleConnection,
}

/// All faults of the first kind: what they hit may be late or gone, never spoilt.
const FAULTS: [Fault; 9] = [
    Fault::PowerCut,
    Fault::Kill,
    Fault::Restart,
    Fault::DiskHangs,
    Fault::DiskFills,
    Fault::Disconnect,
    Fault::ClientStalls,
    Fault::ClockJumps,
    Fault::CoreStalls,
];

/// Those that came later; drawn last, so that a seed keeps what it always had.
const LATER_FAULTS: [Fault; 8] = [
    Fault::WriteFails,
    Fault::DiskSlows,
    Fault::OperationHangs,
    Fault::ClientVanishes,
    Fault::HalfOpen,
    Fault::NeverReads,
    Fault::SendsSlowly,
    Fault::IdleConnection,
];

/// How a disk spoils what it was given to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A bit flips (D3, D4, D22, D23).
    BitFlips,
    /// Blocks turn to zeros (D17).
    Zeros,
    /// A write is answered and dropped (D6).
    WriteLost,
    /// A write lands elsewhere (D5).
    WriteMisdirected,
    /// A read is answered with something else, once (D7).
    ReadGarbled,
    /// A block cannot be read any more (D8).
    BlockUnreadable,
    /// A file is shorter than it was (D18).
    FileShortened,
}

const DAMAGES: [Damage; 7] = [
    Damage::BitFlips,
    Damage::Zeros,
    Damage::WriteLost,
    Damage::WriteMisdirected,
    Damage::ReadGarbled,
    Damage::BlockUnreadable,
    Damage::FileShortened,
];

/// Lives in ten whose disks spoil nothing: there, nothing at all is excused.
const SOUND_LIVES_IN_TEN: u64 = 6;

/// What the disks of a life spoil.
#[derive(Clone, Debug)]
pub struct Rot {
    /// At least one.
    pub kinds: Vec<Damage>,
    /// Whose disk; the others are sound. `None`: any.
    pub core: Option<u16>,
    pub every: Range,
    /// How many times.
    pub times: u64,
    /// The operator gives up what is lost, instead of restoring a copy, one time in so many; 0 is never.
    pub accepts_one_in: u64,
}

impl Rot {
    fn draw(dice: &mut Dice, cores: u16) -> Option<Self> {
        if dice.below(10) < SOUND_LIVES_IN_TEN {
            return None;
        }
        let always = DAMAGES[dice.below(DAMAGES.len() as u64) as usize];
        let mut kinds: Vec<Damage> = DAMAGES.into_iter().filter(|_| dice.below(4) == 0).collect();
        kinds.push(always);
        let core = (dice.below(4) > 0).then(|| dice.below(u64::from(cores)) as u16);
        let often = 1 + dice.below(6);
        Some(Self {
            kinds,
            core,
            every: Range(300 * MILLIS, often * SECONDS),
            times: 1 + dice.below(6),
            accepts_one_in: dice.below(4),
        })
    }
}

/// Producers that share a transactional id.
#[derive(Clone, Copy, Debug)]
pub struct Transactional {
    /// They speak as clients of Kafka 4 do (KIP-890), and not as older ones.
    pub is_new: bool,
    /// They copy what a group reads, and say with each copy how far it has read.
    pub copies: bool,
    /// How many of them there are; each takes the others for dead.
    pub producers: u16,
}

/// A life before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cores: u16,
    /// Size of a journal file, bytes.
    pub journal_file_bytes: u64,
    /// How many of them there may be.
    pub journal_files: u64,
    /// How many writes to them may be under way at once.
    pub commits_in_flight: usize,
    /// Unsettled bytes of a core from which it settles.
    pub unsettled_bytes: usize,
    /// Bytes kept in memory for readers near the end.
    pub cache_bytes: usize,
    /// `flush.messages` of the second topic; it is strict like the first without.
    pub relaxed_every: Option<u32>,
    /// `segment.ms` of both topics. Writers' clocks count batches, so it closes segments early.
    pub segment_ms: Option<u32>,
    /// `retention.bytes` of the second topic. So short a life reaches only what is very little.
    pub retention_bytes: Option<u32>,
    pub pace: Pace,
    /// The faults of this life, and how long it is between two of them.
    pub faults: Vec<Fault>,
    pub fault_every: Range,
    /// After a fault that ended recovery as well, one in so many; 0 is never.
    pub fault_in_recovery: u64,
    /// How long faults go on.
    pub trouble: Nanos,
    pub idempotent_writers: u16,
    pub plain_writers: u16,
    /// Writers of the third topic, of which only the last value of every key stays.
    pub keyed_writers: u16,
    /// `delete.retention.ms` of that topic; so short that deletions are forgotten while the life goes on.
    pub tombstones_last_ms: Option<u32>,
    pub readers: u16,
    /// Members of each group.
    pub groups: Vec<u16>,
    /// Members of one more group, of the new kind; 0: there is none.
    pub modern_members: u16,
    pub has_admin: bool,
    /// How long a writer rests between two batches.
    pub write_every: Range,
    /// Bytes of requests that a core serves at once (M1).
    pub memory_bytes: usize,
    /// `None`: every disk keeps what it was given.
    pub rot: Option<Rot>,
    /// By transactional id. There are none where disks spoil something.
    pub transactional: Vec<Transactional>,
}

impl Transactional {
    fn draw(dice: &mut Dice, copies: bool) -> Self {
        let (is_new, producers) = (dice.below(2) == 0, 1 + dice.below(2) as u16);
        Self { is_new, copies, producers }
    }
}

impl Plan {
    /// Whether the process of this life never ends before the life does.
    pub fn is_never_down(&self) -> bool {
        let ends = [
            Fault::PowerCut,
            Fault::Kill,
            Fault::Restart,
            Fault::WriteFails,
            Fault::OperationHangs,
        ];
        self.rot.is_none() && !self.faults.iter().any(|fault| ends.contains(fault))
    }

    /// How long a deletion stays in the third topic for everybody to hear of it; 0: nobody can say.
    pub fn tombstones_last(&self) -> Nanos {
        if self.faults.contains(&Fault::ClockJumps) {
            return 0;
        }
        self.tombstones_last_ms.map_or(Nanos::MAX, |time| Nanos::from(time) * MILLIS)
    }

    /// The plan of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x006c_6966_6500);
        let dice = &mut dice;
        let one_in = |dice: &mut Dice, of: u64| dice.below(of) == 0;
        let faults = FAULTS.into_iter().filter(|_| dice.below(3) == 0).collect();
        let groups = (0..dice.below(3)).map(|_| 1 + dice.below(3) as u16).collect();
        let slow_disk = one_in(dice, 5);
        let slow_mesh = one_in(dice, 5);
        let pace = Pace {
            turn: Range(0, if one_in(dice, 4) { 500 * MICROS } else { 20 * MICROS }),
            mesh: Range(MICROS, if slow_mesh { 30 * MILLIS } else { 30 * MICROS }),
            disk: Range(20 * MICROS, if slow_disk { 80 * MILLIS } else { 300 * MICROS }),
            net: Range(10 * MICROS, if one_in(dice, 4) { 50 * MILLIS } else { 200 * MICROS }),
        };
        let often = 1 + dice.below(8);
        let mut plan = Self {
            cores: 1 + dice.below(3) as u16,
            journal_file_bytes: 64 << (10 + dice.below(3)),
            journal_files: 4 + dice.below(8),
            unsettled_bytes: 16 << (10 + dice.below(6)),
            cache_bytes: 4 << (10 + dice.below(8)),
            relaxed_every: one_in(dice, 2).then(|| 1 + dice.below(300) as u32 * 20),
            retention_bytes: one_in(dice, 4).then(|| {
                let bytes = dice.below(1 << 20) as u32;
                if bytes.is_multiple_of(2) { 0 } else { bytes }
            }),
            pace,
            faults,
            fault_every: Range(100 * MILLIS, often * SECONDS),
            fault_in_recovery: dice.below(4),
            trouble: (5 + dice.below(25)) * SECONDS,
            idempotent_writers: 1 + dice.below(3) as u16,
            plain_writers: dice.below(3) as u16,
            readers: 1 + dice.below(2) as u16,
            groups,
            has_admin: one_in(dice, 2),
            write_every: Range(MILLIS, (5 << dice.below(7)) * MILLIS),
            segment_ms: one_in(dice, 2).then(|| 100 + dice.below(1000) as u32),
            commits_in_flight: 1 + dice.below(2) as usize,
            memory_bytes: 16 << 20,
            keyed_writers: 0,
            tombstones_last_ms: None,
            modern_members: 0,
            rot: None,
            transactional: Vec::new(),
        };
        plan.draw_what_came_later(dice);
        plan
    }

    fn draw_what_came_later(&mut self, dice: &mut Dice) {
        if dice.below(2) == 0 {
            self.faults.extend(LATER_FAULTS.into_iter().filter(|_| dice.below(4) == 0));
        }
        match dice.below(8) {
            0 => self.memory_bytes = 1 << (10 + dice.below(6)),
            1 => self.cache_bytes = dice.below(2_000) as usize,
            2 => self.unsettled_bytes = 1 + dice.below(2_000) as usize,
            _ => {}
        }
        self.rot = Rot::draw(dice, self.cores);
        self.keyed_writers = if dice.below(2) == 0 { 1 + dice.below(2) as u16 } else { 0 };
        self.modern_members = if dice.below(3) == 0 { 1 + dice.below(4) as u16 } else { 0 };
        if self.rot.is_none() && dice.below(2) == 0 {
            let ids = 1 + dice.below(2);
            // If two copied, each would copy the other's copies.
            let copier = dice.below(3);
            self.transactional =
                (0..ids).map(|id| Transactional::draw(dice, id == copier)).collect();
        }
        self.tombstones_last_ms = (dice.below(3) > 0).then(|| 200 << dice.below(6));
    }
}

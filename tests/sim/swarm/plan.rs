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
}

/// All faults.
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

/// A life before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cores: u16,
    /// Size of a journal file, bytes.
    pub journal_file_bytes: u64,
    /// How many of them there may be.
    pub journal_files: u64,
    /// Unsettled bytes of a core from which it settles.
    pub unsettled_bytes: usize,
    /// Bytes kept in memory for readers near the end.
    pub cache_bytes: usize,
    /// `flush.messages` of the second topic; it is strict like the first without.
    pub relaxed_every: Option<u32>,
    /// `retention.bytes` of the second topic.
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
    pub readers: u16,
    /// Members of each group.
    pub groups: Vec<u16>,
    pub has_admin: bool,
    /// How long a writer rests between two batches.
    pub write_every: Range,
}

impl Plan {
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
        Self {
            cores: 1 + dice.below(3) as u16,
            journal_file_bytes: 64 << (10 + dice.below(3)),
            journal_files: 4 + dice.below(8),
            unsettled_bytes: 16 << (10 + dice.below(6)),
            cache_bytes: 4 << (10 + dice.below(8)),
            relaxed_every: one_in(dice, 2).then(|| 1 + dice.below(300) as u32 * 20),
            retention_bytes: one_in(dice, 4).then(|| (4 << 20) + dice.below(1 << 20) as u32),
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
        }
    }
}

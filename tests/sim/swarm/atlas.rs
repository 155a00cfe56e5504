//! Which log is which: the node numbers them by chance, and a history speaks of places.
//!
//! Does: find out by the records of a log whose they are; say in the history's words what damage to it means.
//! Does not: ask the node.
//! Invariants: a log once known keeps its meaning; one of which no record was ever on a disk has lost none.
//! Apart because disks know numbers, clients names.

use std::collections::BTreeMap;

use flumen_broker::shard::routing::{coordinator_partition, core_of};
use flumen_protocol::ids::LogId;
use flumen_storage::sim_disk::SimDisk;

use super::damage::{Reach, samples};
use super::history::{Happening, History, Place, Value};
use super::node::OFFSETS_PARTITIONS;

/// What a log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Place(Place),
    Groups,
    /// A topic that comes and goes.
    Passing,
}

/// The logs that are known.
pub struct Atlas {
    known: BTreeMap<LogId, Meaning>,
    groups: u8,
}

impl Atlas {
    /// Nothing is known; there are so many groups.
    pub fn new(groups: u8) -> Self {
        Self { known: BTreeMap::new(), groups }
    }

    /// Looks at what is on a disk.
    pub fn learn(&mut self, disk: &SimDisk, history: &History) {
        for (log, sample) in samples(disk) {
            if log != LogId::METADATA && !self.known.contains_key(&log) {
                self.known.extend(meaning(&sample, history).map(|meaning| (log, meaning)));
            }
        }
    }

    /// Notes what may be lost.
    pub fn note(&self, reaches: Vec<Reach>, history: &mut History) {
        for Reach { log, from, until, is_silent, start, is_doubtful: _ } in reaches {
            match self.known.get(&log) {
                Some(Meaning::Place(place)) => {
                    let place = *place;
                    if from < i64::MAX {
                        history.note(Happening::Damaged { place, from, until, is_silent });
                    }
                    if let Some(start) = start {
                        history.note(Happening::StartForgotten(place, start));
                    }
                }
                Some(Meaning::Groups) => {
                    let groups = (0..self.groups).filter(|group| {
                        coordinator_partition(&format!("group-{group}"), OFFSETS_PARTITIONS)
                            == log.partition
                    });
                    for group in groups {
                        history.note(Happening::GroupDamaged(group));
                    }
                }
                Some(Meaning::Passing) => drop(history.note(Happening::PassingDamaged)),
                None => {}
            }
        }
    }

    /// Notes that an operator gave up what logs of this core had lost.
    pub fn note_accepted(&self, core: usize, cores: usize, history: &mut History) {
        for (log, meaning) in &self.known {
            if let Meaning::Place(place) = meaning
                && usize::from(core_of(*log, cores as u16).0) == core
            {
                history.note(Happening::Accepted(*place));
            }
        }
    }
}

fn meaning(sample: &[u8], history: &History) -> Option<Meaning> {
    let Some(value) = Value::read(sample) else {
        let is_passing = sample == super::operator::PASSING_VALUE;
        return Some(if is_passing { Meaning::Passing } else { Meaning::Groups });
    };
    let mut sent = history.happenings.iter().filter_map(|happening| {
        let Happening::Sent(place, sent) = happening else { return None };
        (*sent == value).then_some(*place)
    });
    sent.next().map(Meaning::Place)
}

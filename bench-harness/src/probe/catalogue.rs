//! All probes, in the order in which they run.
//!
//! Does: name each probe, explain it to people, say what it needs and how long it runs.
//! Does not: measure.
//! Invariants: names are unique and stable, since results of different versions are compared by
//! them; all probes with their usual length stay below a minute.
//! Apart because help, table, JSON and the choice by name must not drift apart.

use super::answer::Answer;
use super::site::Site;
use super::{disk, loopback, processor};
use crate::probe::scratch::Access;

/// What must be there before a probe makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Files, wherever they are kept.
    Files,
    /// Files on something that outlives the power.
    Disk,
    /// Two CPUs.
    TwoCpus,
}

/// How much of the asked time a probe takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// Half: one of a row of similar probes.
    Half,
    /// A third: it repeats itself millions of times a second.
    Third,
}

impl Share {
    /// As a factor.
    pub fn factor(self) -> f64 {
        match self {
            Self::Whole => 1.0,
            Self::Half => 0.5,
            Self::Third => 1.0 / 3.0,
        }
    }
}

/// One limit and how it is found.
#[derive(Debug)]
pub struct Probe {
    /// Stable short name.
    pub name: &'static str,
    /// What it does, for people.
    pub what: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// How long it runs.
    pub share: Share,
    /// Does it.
    pub run: fn(&Site) -> Answer,
}

/// Every probe there is. Direct writes come before cached ones, which leave the disk busy.
pub const CATALOGUE: &[Probe] = &[
    Probe {
        name: "durable_write",
        what: "4 KiB O_DIRECT|O_DSYNC overwrite, back to back",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::durable_write,
    },
    Probe {
        name: "durable_write_paced",
        what: "4 KiB O_DIRECT|O_DSYNC overwrite, one each 150 us, like one client",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::durable_write_paced,
    },
    Probe {
        name: "durable_write_loaded",
        what: "16 KiB O_DIRECT|O_DSYNC overwrites, one due each 500 us, late ones together",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::durable_write_loaded,
    },
    Probe {
        name: "durable_write_unwritten",
        what: "4 KiB O_DIRECT|O_DSYNC write into reserved, never written space",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::durable_write_unwritten,
    },
    Probe {
        name: "durable_write_extending",
        what: "4 KiB O_DIRECT|O_DSYNC write behind the end of the file",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::durable_write_extending,
    },
    Probe {
        name: "durable_operations_depth_2",
        what: "4 KiB O_DIRECT|O_DSYNC overwrites, 2 at once",
        needs: Needs::Disk,
        share: Share::Half,
        run: |site| disk::durable_writes_at(site, 2),
    },
    Probe {
        name: "durable_operations_depth_4",
        what: "4 KiB O_DIRECT|O_DSYNC overwrites, 4 at once",
        needs: Needs::Disk,
        share: Share::Half,
        run: |site| disk::durable_writes_at(site, 4),
    },
    Probe {
        name: "durable_operations_depth_8",
        what: "4 KiB O_DIRECT|O_DSYNC overwrites, 8 at once",
        needs: Needs::Disk,
        share: Share::Half,
        run: |site| disk::durable_writes_at(site, 8),
    },
    Probe {
        name: "durable_operations_depth_16",
        what: "4 KiB O_DIRECT|O_DSYNC overwrites, 16 at once",
        needs: Needs::Disk,
        share: Share::Half,
        run: |site| disk::durable_writes_at(site, 16),
    },
    Probe {
        name: "durable_bandwidth",
        what: "1 MiB O_DIRECT|O_DSYNC overwrites in sequence, 4 at once",
        needs: Needs::Disk,
        share: Share::Whole,
        run: |site| disk::write_bandwidth(site, Access::Durable),
    },
    Probe {
        name: "plain_bandwidth",
        what: "1 MiB O_DIRECT overwrites in sequence, 4 at once, no sync",
        needs: Needs::Disk,
        share: Share::Whole,
        run: |site| disk::write_bandwidth(site, Access::Direct),
    },
    Probe {
        name: "cold_read_bandwidth",
        what: "1 MiB O_DIRECT reads in sequence, 4 at once",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::read_bandwidth,
    },
    Probe {
        name: "write_fdatasync",
        what: "4 KiB cached overwrite and fdatasync",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::write_fdatasync,
    },
    Probe {
        name: "write_fdatasync_extending",
        what: "4 KiB cached write behind the end of the file and fdatasync",
        needs: Needs::Disk,
        share: Share::Whole,
        run: disk::write_fdatasync_extending,
    },
    Probe {
        name: "plain_write",
        what: "4 KiB overwrite in the page cache, not durable",
        needs: Needs::Files,
        share: Share::Third,
        run: disk::plain_write,
    },
    Probe {
        name: "loopback_round_trip",
        what: "1 KiB there and back over TCP, two blocking threads",
        needs: Needs::Nothing,
        share: Share::Whole,
        run: loopback::round_trip,
    },
    Probe {
        name: "loopback_round_trip_pinned",
        what: "1 KiB there and back over TCP, the two threads on different CPUs",
        needs: Needs::TwoCpus,
        share: Share::Whole,
        run: loopback::round_trip_pinned,
    },
    Probe {
        name: "loopback_bandwidth",
        what: "one TCP stream between two CPUs, 256 KiB writes",
        needs: Needs::TwoCpus,
        share: Share::Whole,
        run: loopback::stream,
    },
    Probe {
        name: "wake_up",
        what: "a thread wakes one on another CPU by eventfd, one way",
        needs: Needs::TwoCpus,
        share: Share::Whole,
        run: processor::wake_up,
    },
    Probe {
        name: "system_call",
        what: "getppid, mean of each 1000 calls",
        needs: Needs::Nothing,
        share: Share::Third,
        run: processor::system_call,
    },
    Probe {
        name: "crc32c",
        what: "CRC-32C of 64 KiB in the cache, one core",
        needs: Needs::Nothing,
        share: Share::Third,
        run: processor::checksum,
    },
    Probe {
        name: "memcpy",
        what: "copying 16 MiB, one core",
        needs: Needs::Nothing,
        share: Share::Third,
        run: processor::copy,
    },
];

/// What is measured before and after a comparison. The round trip is the pinned one: where the
/// scheduler may choose, it chooses differently from one second to the next. The bandwidth is the
/// durable one: how much of the other a device's own cache takes depends on what it was given before.
pub const QUICK: &[&str] = &[
    "durable_write",
    "durable_write_paced",
    "durable_write_loaded",
    "durable_bandwidth",
    "loopback_round_trip_pinned",
];

/// The probes of these names in the catalogue's order; all of them when there are no names.
pub fn chosen<S: AsRef<str>>(names: &[S]) -> Vec<&'static Probe> {
    let wanted = |probe: &&Probe| names.iter().any(|name| name.as_ref() == probe.name);
    CATALOGUE.iter().filter(|probe| names.is_empty() || wanted(probe)).collect()
}

/// Names and explanations, one a line, for the help text.
pub fn listing() -> String {
    let line = |probe: &Probe| format!("  {:<28} {}\n", probe.name, probe.what);
    format!("Probes:\n{}", CATALOGUE.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use std::collections::BTreeSet;

    #[test]
    fn all_probes_stay_below_a_minute_and_the_quick_ones_below_eight_seconds() {
        let all: f64 = CATALOGUE.iter().map(|probe| probe.share.factor()).sum();
        let whole = all * limits::PROBE_SECONDS + limits::PROBE_FILE_SECONDS;
        assert!(whole <= 58.0, "{whole} s");
        let quick: f64 = chosen(QUICK).iter().map(|probe| probe.share.factor()).sum();
        let quick = quick * limits::QUICK_PROBE_SECONDS + limits::QUICK_FILE_SECONDS;
        assert!(quick <= 8.0, "{quick} s");
    }

    #[test]
    fn names_are_unique_and_the_pace_is_the_one_they_tell() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|probe| probe.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        let paced = &chosen(&["durable_write_paced"])[0].what;
        assert!(paced.contains(&format!("{} us", limits::PROBE_PACE_MICROS)));
        let loaded = &chosen(&["durable_write_loaded"])[0].what;
        assert!(loaded.starts_with(&format!("{} KiB", limits::PROBE_LOADED_BYTES >> 10)));
        assert!(loaded.contains(&format!("{} us", limits::PROBE_LOADED_PACE_MICROS)));
        assert!(listing().lines().count() > CATALOGUE.len());
    }

    #[test]
    fn a_choice_keeps_the_order_and_nothing_means_all() {
        let names = |probes: Vec<&Probe>| probes.iter().map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(names(chosen(&["memcpy", "durable_write"])), ["durable_write", "memcpy"]);
        assert_eq!(chosen::<&str>(&[]).len(), CATALOGUE.len());
        assert_eq!(chosen(QUICK).len(), QUICK.len());
    }
}

//! Which CPUs somebody may use.
//!
//! Does: read lists such as `0,2-3` and pin the calling process to them.
//! Does not: choose.
//! Invariants: a list names at least one CPU.
//! Apart because keeper, referee and command line share the spelling.

use std::fmt;
use std::str::FromStr;

use rustix::thread::CpuSet;

/// A set of CPUs by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// Pins the calling thread, and what it starts from now on, to these CPUs.
    ///
    /// # Errors
    /// None of them exists or may be used.
    pub fn pin(&self) -> std::io::Result<()> {
        let mut set = CpuSet::new();
        for cpu in &self.0 {
            set.set(*cpu);
        }
        rustix::thread::sched_setaffinity(None, &set).map_err(Into::into)
    }

    /// Whether both name a CPU.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|cpu| other.0.contains(cpu))
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no list of CPUs such as 0 or 0,2-3");
        let number = |word: &str| {
            word.parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU).ok_or_else(wrong)
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let list: CpuList = "0,2-4".parse().expect("a list");
        assert_eq!(list, CpuList(vec![0, 2, 3, 4]));
        assert_eq!(list.to_string(), "0,2,3,4");
        assert!(list.overlaps(&"3".parse().expect("one")));
        assert!(!list.overlaps(&"1".parse().expect("one")));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "3-1", "0,", "-1", "99999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }
}

//! Which two CPUs the probes between CPUs use.
//!
//! Does: choose a pair this process may run on, and bind threads to it.
//! Does not: bind the thread that asks; what a probe bound ends with the probe.
//! Invariants: the two CPUs differ, and both were allowed when the pair was made.
//! Apart because loopback and wake-up need the same two threads at the same two places.

use std::io;
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::answer::Refused;

/// Two different CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPair {
    /// Where the side that measures runs.
    near: usize,
    /// Where the side that answers runs.
    far: usize,
}

impl FromStr for CpuPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |word: &str| word.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
        let pair = text.split_once(',').and_then(|(near, far)| Some((number(near)?, number(far)?)));
        match pair {
            Some((near, far)) if near != far => Ok(Self { near, far }),
            Some(_) => Err("two different CPUs are needed".to_owned()),
            None => Err("two CPU numbers are needed, such as 0,1".to_owned()),
        }
    }
}

impl CpuPair {
    /// The first two CPUs this process may use; nothing where there is only one.
    pub fn first_allowed() -> io::Result<Option<Self>> {
        Ok(first_two(&sched_getaffinity(None)?))
    }

    /// The one of the two that this process may not use, if any.
    pub fn forbidden(self) -> io::Result<Option<usize>> {
        let allowed = sched_getaffinity(None)?;
        Ok([self.near, self.far].into_iter().find(|cpu| !allowed.is_set(*cpu)))
    }
}

fn first_two(allowed: &CpuSet) -> Option<CpuPair> {
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Some(CpuPair { near: cpus.next()?, far: cpus.next()? })
}

/// Runs both sides in threads of their own, each on its CPU where there is a pair, and gives back
/// what the near side saw. The far side must end when the near side has ended.
///
/// Each side begins when both are where they belong: one that waited for a thread which could not
/// be bound would wait for ever.
pub fn between<T: Send>(
    pair: Option<CpuPair>,
    near: impl FnOnce() -> Result<T, Refused> + Send,
    far: impl FnOnce() -> Result<(), Refused> + Send,
) -> Result<T, Refused> {
    thread::scope(|scope| {
        let measuring = scope.spawn(move || {
            bind(pair.map(|pair| pair.near))?;
            let (ready, is_ready) = mpsc::channel();
            let answering = scope.spawn(move || {
                bind(pair.map(|pair| pair.far))?;
                // The receiver waits for exactly this.
                ready.send(()).expect("the near side waits");
                far()
            });
            let seen = is_ready.recv().ok().map(|()| near());
            // A panic aborts the process, so that joining cannot fail.
            let answered = answering.join().expect("the far side ended");
            let nothing = || Err(Refused::Failed("the far side did not start".to_owned()));
            match seen {
                Some(seen) => seen.and_then(|seen| answered.map(|()| seen)),
                None => answered.and_then(|()| nothing()),
            }
        });
        measuring.join().expect("the near side ended")
    })
}

fn bind(cpu: Option<usize>) -> Result<(), Refused> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_different_numbers() {
        assert_eq!("0,1".parse(), Ok(CpuPair { near: 0, far: 1 }));
        assert_eq!(" 3, 2".parse(), Ok(CpuPair { near: 3, far: 2 }));
        for wrong in ["", "1", "1,1", "1,x", "0,1,2", "0,999999", "-1,0"] {
            assert!(wrong.parse::<CpuPair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_cpu_is_no_pair() {
        let mut set = CpuSet::new();
        set.set(5);
        assert_eq!(first_two(&set), None);
        set.set(9);
        assert_eq!(first_two(&set), Some(CpuPair { near: 5, far: 9 }));
    }

    #[test]
    fn what_the_far_side_fails_at_is_not_lost() {
        let lost = || Err(Refused::Failed("far".to_owned()));
        assert_eq!(between(None, || Ok(1), lost), Err(Refused::Failed("far".to_owned())));
        assert_eq!(between(None, || Ok(1), || Ok(())), Ok(1));
    }
}

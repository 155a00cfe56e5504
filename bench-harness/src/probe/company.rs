//! Whether somebody else used the machine while it was measured.
//!
//! Does: compare the kernel's count of all CPU time with that of this process.
//! Does not: judge or wait for silence.
//! Invariant: an unreadable counter is no company, so that it never costs a result.
//! Apart because a limit found on a busy machine is none, and its reader must be able to see that.

/// Counters at one moment, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Company {
    /// Time that all CPUs had.
    all: u64,
    /// Time spent in programs, or taken by the hypervisor. Interrupts are left out: on loopback
    /// they work for whoever sends.
    busy: u64,
    /// What this process spent of it.
    own: u64,
}

impl Company {
    /// Now; nothing where the kernel does not tell.
    pub fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        parsed(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// Share of the CPU time that went to others since `earlier`, 0 to 1.
    pub fn share_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let own = self.own.saturating_sub(earlier.own);
        let others = self.busy.saturating_sub(earlier.busy).saturating_sub(own);
        if all == 0 { 0.0 } else { (others as f64 / all as f64).min(1.0) }
    }
}

fn parsed(machine: &str, process: &str) -> Option<Company> {
    let first = machine.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = first.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
    let [user, nice, system, _, _, _, _, steal, ..] = ticks[..] else { return None };
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th behind it.
    let behind = process.rsplit_once(')')?.1;
    let mut fields = behind.split_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    let own = field()? + field()?;
    Some(Company { all: ticks[..8].iter().sum(), busy: user + nice + system + steal, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14 15";

    #[test]
    fn what_is_busy_and_not_ours_is_company() {
        let before = parsed("cpu  100 0 50 850 0 0 0 0 0 0\ncpu0 1\n", PROCESS).expect("it parses");
        assert_eq!(before, Company { all: 1000, busy: 150, own: 42 });
        let later = Company { all: 2000, busy: 550, own: 142 };
        assert!((later.share_since(before) - 0.3).abs() < 1e-9);
        assert_eq!(before.share_since(before), 0.0);
    }

    #[test]
    fn foreign_formats_are_no_company() {
        assert_eq!(parsed("", PROCESS), None);
        assert_eq!(parsed("cpu  1 2 3\n", PROCESS), None);
        assert_eq!(parsed("cpu  1 2 3 4 5 6 7 8\n", "7 (a) S 1"), None);
        assert!(Company::now().is_some(), "this kernel tells");
    }
}

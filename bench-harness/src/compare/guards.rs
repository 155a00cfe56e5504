//! Whether the machine was quiet enough.
//!
//! Does: read what the kernel says about the machine, and judge a measurement by it.
//! Does not: throw a measurement away; it says why it should be.
//! Invariants: every bound that was broken is a line; no line means that all bounds held.
//! Apart because trust is judged by one who has no stake in the result.

use super::metrics::title;
use crate::limits::{
    BUSY_BEFORE_MAX, CONTROL_LATENCY_MAX, CONTROL_RATE_MAX, FOREIGN_SHARE_MAX, LIMITS_DRIFT_MAX,
    LIMITS_RATE_DRIFT_MAX, STEAL_SHARE_MAX,
};
use crate::outcome::comparison::{Guards, Interval, Metric};
use crate::outcome::probes::Limits;

/// CPU time of the whole machine since it started, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All of it.
    pub total: u64,
    /// Neither idle nor waiting for a disk.
    pub busy: u64,
    /// Wanted, but given to other guests by the hypervisor.
    pub stolen: u64,
    /// CPUs.
    pub cpus: u64,
}

impl Ticks {
    /// Reads `/proc/stat`; all zero where it cannot be read.
    #[must_use]
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map_or_else(|_| Self::default(), |t| Self::parse(&t))
    }

    fn parse(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is part of user already.
        let fields: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        let total = fields.iter().sum();
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let cpus = text.lines().filter(is_cpu).count() as u64;
        Self { total, busy: total - field(3) - field(4), stolen: field(7), cpus }
    }

    /// Share of all CPU time since `before` that was stolen, 0 to 1.
    #[must_use]
    pub fn stolen_share(self, before: Self) -> f64 {
        share(self.stolen.saturating_sub(before.stolen), self.total.saturating_sub(before.total))
    }

    /// How many CPUs were busy since `before`, on average.
    #[must_use]
    pub fn busy_cpus(self, before: Self) -> f64 {
        let busy = self.busy.saturating_sub(before.busy);
        share(busy, self.total.saturating_sub(before.total)) * self.cpus as f64
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How far a limit of the machine moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Relative change.
    pub moved: f64,
    /// What it may be.
    pub most: f64,
    /// Which limit, from what to what.
    pub what: String,
}

/// The change, of all limits that both hold, which comes nearest to its bound or is farthest beyond.
#[must_use]
pub fn drift(before: &Limits, after: &Limits) -> Option<Drift> {
    let latencies = before.latencies.iter().filter_map(|old| {
        let new = after.latencies.iter().find(|new| new.name == old.name)?;
        Some((&old.name, old.spread.p50_us, new.spread.p50_us, LIMITS_DRIFT_MAX))
    });
    let rates = before.rates.iter().filter_map(|old| {
        let new = after.rates.iter().find(|new| new.name == old.name)?;
        Some((&old.name, old.per_second, new.per_second, LIMITS_RATE_DRIFT_MAX))
    });
    latencies
        .chain(rates)
        .filter(|(_, old, new, _)| *old > 0.0 && *new > 0.0)
        .map(|(name, old, new, most)| Drift {
            moved: (new / old - 1.0).abs(),
            most,
            what: format!("{name} went from {old:.1} to {new:.1}"),
        })
        .max_by(|a, b| (a.moved / a.most).total_cmp(&(b.moved / b.most)))
}

/// Every bound that was broken, as lines. `drift` is what [`drift`] found.
#[must_use]
pub fn violations(guards: &Guards, drift: Option<&Drift>) -> Vec<String> {
    let mut found = Vec::new();
    let percent = |share: f64| share * 100.0;
    if guards.steal_share > STEAL_SHARE_MAX {
        found.push(format!(
            "the hypervisor took {:.1} % of the CPU time (at most {:.0} %)",
            percent(guards.steal_share),
            percent(STEAL_SHARE_MAX)
        ));
    }
    if let Some(foreign) = guards.foreign_share.filter(|share| *share > FOREIGN_SHARE_MAX) {
        found.push(format!(
            "others used {:.1} % of the CPU time during a run (at most {:.0} %)",
            percent(foreign),
            percent(FOREIGN_SHARE_MAX)
        ));
    }
    if guards.load_before > BUSY_BEFORE_MAX {
        found.push(format!(
            "{:.2} CPUs were busy before the first run (at most {BUSY_BEFORE_MAX})",
            guards.load_before
        ));
    }
    if let Some(drift) = drift.filter(|drift| drift.moved > drift.most) {
        found.push(format!(
            "a limit of the machine moved by {:.0} % (at most {:.0} %): {}",
            percent(drift.moved),
            percent(drift.most),
            drift.what
        ));
    }
    for ratio in &guards.control {
        let bound = match ratio.metric {
            Metric::Throughput
            | Metric::Delivery
            | Metric::Transactions
            | Metric::CpuPerGb
            | Metric::CpuPerRequest => CONTROL_RATE_MAX,
            Metric::ProduceP99 | Metric::EndToEndP99 => CONTROL_LATENCY_MAX,
            // Shown, not judged: medians move less than p99, and the rest is too coarse.
            Metric::ProduceP50
            | Metric::ProduceP999
            | Metric::EndToEndP50
            | Metric::WriteAmplification
            | Metric::Rss
            | Metric::Start
            | Metric::CpuShare
            | Metric::ContextSwitches
            | Metric::RestartFirstAck
            | Metric::RestartAllLeaders => continue,
        };
        let worst = farthest(ratio.interval);
        if worst.ln().abs() > (1.0 + bound).ln() {
            found.push(format!(
                "A/A control: {} of the same system differed by {:+.1} % (at most {:.0} %)",
                title(ratio.metric),
                percent(worst - 1.0),
                percent(bound)
            ));
        }
    }
    found
}

/// The end of an interval that is farther from one; as logarithms, where a half and a double are
/// equally far. Not its middle: errors to both sides would cancel.
fn farthest(interval: Interval) -> f64 {
    if interval.low.ln().abs() > interval.high.ln().abs() { interval.low } else { interval.high }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::comparison::Ratio;
    use crate::outcome::probes::{LatencyLimit, RateLimit, Spread};

    const STAT: &str = "cpu  100 0 100 700 50 0 0 50 0 0\ncpu0 50 0 50 350 25 0 0 25 0 0\n\
                        cpu1 50 0 50 350 25 0 0 25 0 0\nintr 1 2 3\n";

    #[test]
    fn the_kernels_ticks_are_understood() {
        let ticks = Ticks::parse(STAT);
        assert_eq!(ticks, Ticks { total: 1000, busy: 250, stolen: 50, cpus: 2 });
        assert_eq!(ticks.stolen_share(Ticks::default()), 0.05);
        assert_eq!(ticks.busy_cpus(Ticks::default()), 0.5);
        assert_eq!(ticks.busy_cpus(ticks), 0.0, "no time, no load");
        assert_eq!(Ticks::parse(""), Ticks::default());
        assert!(Ticks::now().total > 0 && Ticks::now().cpus > 0);
    }

    fn limits(p50_us: f64, per_second: f64) -> Limits {
        Limits {
            format: 1,
            latencies: vec![LatencyLimit {
                name: "durable_write".to_owned(),
                what: String::new(),
                spread: Spread { p50_us, ..Spread::default() },
            }],
            rates: vec![RateLimit {
                name: "durable_bandwidth".to_owned(),
                what: String::new(),
                per_second,
                unit: "MB".to_owned(),
            }],
            ..Limits::default()
        }
    }

    #[test]
    fn the_limit_that_moved_most_for_its_kind_is_named() {
        let moved = drift(&limits(50.0, 100.0), &limits(55.0, 70.0)).expect("both hold two");
        assert!((moved.moved - 0.1).abs() < 1e-9, "a latency by a tenth is more: {moved:?}");
        let moved = drift(&limits(50.0, 100.0), &limits(51.0, 70.0)).expect("both hold two");
        assert_eq!(moved.what, "durable_bandwidth went from 100.0 to 70.0");
        assert_eq!(drift(&limits(0.0, 0.0), &limits(1.0, 1.0)), None);
    }

    fn guards(metric: Metric, mean: f64) -> Guards {
        let interval = Interval { mean, low: mean, high: mean };
        let control = vec![Ratio { metric, of: 0, to: 0, is_handicap: false, interval }];
        Guards { control, ..Guards::default() }
    }

    #[test]
    fn a_quiet_machine_breaks_no_bound() {
        let mut quiet = guards(Metric::Throughput, 1.029);
        quiet.steal_share = 0.019;
        quiet.foreign_share = Some(0.049);
        quiet.load_before = 0.09;
        let drift = Drift { moved: 0.14, most: 0.15, what: String::new() };
        assert_eq!(violations(&quiet, Some(&drift)), Vec::<String>::new());
        assert!(violations(&guards(Metric::ProduceP99, 0.92), None).is_empty());
        assert!(violations(&guards(Metric::Rss, 2.0), None).is_empty());
    }

    #[test]
    fn errors_to_both_sides_do_not_cancel() {
        let mut wide = guards(Metric::Throughput, 1.0);
        wide.control[0].interval = Interval { mean: 1.0, low: 0.9, high: 1.02 };
        let found = violations(&wide, None);
        assert!(found.len() == 1 && found[0].contains("-10.0 %"), "{found:?}");
    }

    #[test]
    fn every_broken_bound_is_a_line() {
        let mut noisy = guards(Metric::Throughput, 1.04);
        noisy.steal_share = 0.03;
        noisy.foreign_share = Some(0.12);
        noisy.load_before = 0.7;
        let drift = Drift { moved: 0.2, most: 0.15, what: "loopback went from 1 to 2".to_owned() };
        let found = violations(&noisy, Some(&drift));
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found[1].starts_with("others used 12.0 %"), "{found:?}");
        assert!(found[3].ends_with("loopback went from 1 to 2"));
        assert_eq!(violations(&guards(Metric::CpuPerGb, 0.95), None).len(), 1);
        assert_eq!(violations(&guards(Metric::ProduceP99, 0.85), None).len(), 1);
    }
}

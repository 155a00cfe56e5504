//! What an attack has cost, in words.
//!
//! Does: print a line for each phase and a verdict for each promise; the last line is `N passed, N failed`.
//! Does not: measure.
//! Invariants: ratios are against the same client in the same run.
//! Apart because what is promised should be read in one place.

use std::process::ExitStatus;
use std::time::Duration;

use crate::bystander::{Times, quantile};
use crate::cage::Cage;

/// The name of the phases that all others are compared with, together.
pub const BASELINE: &str = "nothing (baseline)";
/// Lines of the broker's log that are shown after a failure.
const TAIL: usize = 40;
/// Of a hundred parts of the limit, how many the broker may have resident.
const RESIDENT_PARTS_MAX: u64 = 90;
/// How many MiB the broker may grow by in attacks whose name begins so: 10 or 20 KiB for each of ten thousand connections,
/// and no more than a cache for what a million producers leave behind.
const GROWTH_MAX: [(&str, u64); 3] = [("slow", 200), ("idle", 100), ("producer ids", 64)];

/// A part of the run.
pub struct Phase {
    pub name: String,
    /// Whether anything was attacked in it.
    pub attacked: bool,
    /// How much the attackers did.
    pub done: u64,
    /// Bytes that the broker had resident when it began.
    pub before: u64,
    /// The most it had.
    pub highest: u64,
    pub times: Times,
}

/// What was seen so far.
#[derive(Default)]
pub struct Report {
    baseline: Times,
    attacked: Times,
    resident_first: u64,
    /// The most in any phase.
    resident_most: u64,
    /// Attacks that cost more memory than they may.
    expensive: Vec<String>,
    verdicts: Vec<(&'static str, Result<String, String>)>,
}

impl Report {
    /// What the broker has resident before anything happens.
    pub fn begins(&mut self, resident: Option<(u64, u64)>) {
        self.resident_first = resident.map_or(0, |(now, _)| now);
        println!(
            "{:<34} {:>9} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>8} {:>8}",
            "attack",
            "done",
            "p50 ms",
            "p99 ms",
            "max ms",
            "x base",
            "read p99",
            "read max",
            "x base",
            "late p99",
            "RSS MiB"
        );
    }

    /// Adds a phase, and prints it beside what nothing has cost so far.
    pub fn add(&mut self, phase: Phase) {
        let times = &phase.times;
        self.resident_most = self.resident_most.max(phase.highest);
        if phase.name == BASELINE {
            self.baseline.add(times);
            return;
        }
        let growth = phase.highest.saturating_sub(phase.before) >> 20;
        if GROWTH_MAX.iter().any(|(name, most)| phase.name.starts_with(name) && growth > *most) {
            self.expensive.push(format!("{}: {growth} MiB", phase.name));
        }
        if phase.attacked {
            self.attacked.add(times);
        }
        self.line(&phase.name, phase.done, times, phase.highest);
    }

    fn line(&self, name: &str, done: u64, times: &Times, highest: u64) {
        let wrote = |thousand| millis(quantile(&times.produced, thousand));
        let read = |thousand| millis(quantile(&times.fetched, thousand));
        println!(
            "{name:<34} {done:>9} {:>8.2} {:>8.2} {:>8.2} {:>7.1} {:>8.2} {:>8.2} {:>7.1} {:>8.2} {:>8}",
            wrote(500),
            wrote(990),
            wrote(1000),
            ratio(&times.produced, &self.baseline.produced),
            read(990),
            read(1000),
            ratio(&times.fetched, &self.baseline.fetched),
            millis(quantile(&times.late, 990)),
            highest >> 20,
        );
    }

    /// Whether the client that behaves well got on.
    pub fn served(&mut self, acked: i64, read: i64, complaint: Option<String>) {
        let verdict = match complaint {
            Some(complaint) => Err(complaint),
            None => Ok(format!("{acked} acknowledged, {read} read at once")),
        };
        self.verdicts.push(("the_client_that_behaves_was_served", verdict));
    }

    /// Whether everything acknowledged can be read.
    pub fn acknowledged(&mut self, acked: i64, read: Result<i64, String>) {
        let verdict = match read {
            Ok(count) if count >= acked => Ok(format!("{acked}, and {count} there")),
            Ok(count) => Err(format!("{acked} acknowledged, {count} there")),
            Err(complaint) => Err(complaint),
        };
        self.verdicts.push(("everything_acknowledged_is_there", verdict));
    }

    /// Whether memory sufficed.
    pub fn memory(&mut self, limit: u64, resident: Option<(u64, u64)>, cage: &Cage) {
        // Nothing more is known of a process that is gone.
        let (now, highest) = resident.unwrap_or((0, self.resident_most));
        let said = format!(
            "{} MiB before, {} at most, {} afterwards, of {}",
            self.resident_first >> 20,
            highest >> 20,
            now >> 20,
            limit >> 20
        );
        let sufficed = highest <= limit / 100 * RESIDENT_PARTS_MAX;
        self.verdicts.push(("memory_suffices", if sufficed { Ok(said) } else { Err(said) }));
        let expensive = self.expensive.join(", ");
        let verdict = if expensive.is_empty() { Ok(expensive) } else { Err(expensive) };
        self.verdicts.push(("crowds_cost_little_memory", verdict));
        if let Some(kills) = cage.kills() {
            let most = cage
                .highest()
                .map_or(String::new(), |most| format!("{} MiB with files", most >> 20));
            let verdict = if kills == 0 { Ok(most) } else { Err(format!("{kills} kills, {most}")) };
            self.verdicts.push(("the_kernel_killed_nobody", verdict));
        }
    }

    /// Whether it is still there.
    pub fn process(&mut self, ended: Option<ExitStatus>) {
        let verdict = ended.map_or(Ok(String::new()), |status| Err(status.to_string()));
        self.verdicts.push(("the_process_lives", verdict));
    }

    /// How much longer the client that behaves well waited under attack; verdicts only where there is a bound.
    pub fn ratio(&mut self, most: Option<f64>) {
        self.line("all attacks", 0, &self.attacked, self.resident_most);
        self.line(BASELINE, 0, &self.baseline, self.resident_most);
        let (attacked, baseline) = (&self.attacked, &self.baseline);
        for (name, attacked, baseline) in [
            ("writes_hardly_wait_longer", &attacked.produced, &baseline.produced),
            ("reads_hardly_wait_longer", &attacked.fetched, &baseline.fetched),
        ] {
            let said = format!(
                "p99 {:.2} ms under attack, {:.2} without: {:.2} times",
                millis(quantile(attacked, 990)),
                millis(quantile(baseline, 990)),
                ratio(attacked, baseline),
            );
            println!("{name}: {said}");
            if let Some(most) = most {
                let is_measured = !attacked.is_empty() && !baseline.is_empty();
                let holds = is_measured && ratio(attacked, baseline) <= most;
                self.verdicts.push((name, if holds { Ok(said) } else { Err(said) }));
            }
        }
    }

    /// Prints the verdicts; whether all are good.
    pub fn say(&self) -> bool {
        for (name, verdict) in &self.verdicts {
            match verdict {
                Ok(said) => println!("PASS {name} {said}"),
                Err(said) => println!("FAIL {name} {said}"),
            }
        }
        let failed = self.verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
        println!("{} passed, {failed} failed", self.verdicts.len() - failed);
        failed == 0
    }
}

/// How many times the p99 without attacks the p99 under them is; zero where nothing was measured without.
fn ratio(attacked: &[Duration], baseline: &[Duration]) -> f64 {
    let base = millis(quantile(baseline, 990));
    if base == 0.0 { 0.0 } else { millis(quantile(attacked, 990)) / base }
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

//! The line that a user sees while a run lasts.
//!
//! Does: show how far the run is, its rate and its p99.
//! Does not: appear where nobody looks: only on a terminal.
//! Invariants: costs the loop a comparison per turn, and a line a few times per second.
//! Apart because a generator's own output must not disturb what it measures.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

use super::measure::Measure;
use crate::limits::PROGRESS_MS;

/// A line on the terminal, or nothing.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    next_ns: u64,
    phase: &'static str,
    begin_ns: u64,
}

impl Progress {
    /// Shown only when someone looks, and does not want quiet.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>9} {wide_bar} {pos}/{len} s  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, next_ns: 0, phase: "", begin_ns: 0 }
    }

    /// Another part of the run begins and will last so long.
    pub fn begin(&mut self, phase: &'static str, begin_ns: u64, end_ns: u64) {
        (self.phase, self.begin_ns) = (phase, begin_ns);
        if let Some(bar) = &self.bar {
            bar.set_prefix(phase);
            bar.set_length(end_ns.saturating_sub(begin_ns).div_ceil(1_000_000_000));
        }
    }

    /// When the line wants to be written anew, at the latest in a second.
    #[must_use]
    pub fn next_ns(&self, now_ns: u64) -> u64 {
        if self.bar.is_some() { self.next_ns } else { now_ns + 100 * PROGRESS_MS * 1_000_000 }
    }

    /// Writes the line anew when it is time.
    pub fn tick(&mut self, now_ns: u64, measure: &Measure) {
        let Some(bar) = &self.bar else { return };
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + PROGRESS_MS * 1_000_000;
        bar.set_position(now_ns.saturating_sub(self.begin_ns) / 1_000_000_000);
        if measure.covers(now_ns) {
            let (rate, p99_us) = measure.glance(now_ns);
            bar.set_message(format!("{rate} requests/s, p99 {p99_us:.0} µs"));
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

//! When a probe has to stop.
//!
//! Does: hold the end of a probe's time and listen for the signals that end the whole run.
//! Does not: end anything itself; each loop asks.
//! Invariant: after a signal every watch of that interrupt has run out.
//! Apart because all probes share it, and signals are heard at one place only.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody wants the run to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// Hears Ctrl-C, a hang-up and the polite kill from now on. Other listeners of this process
    /// still hear them too.
    pub fn listening() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interrupt.raised))?;
        }
        Ok(interrupt)
    }

    /// Whether a signal came.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }
}

/// The time of one probe.
#[derive(Clone, Debug)]
pub struct Watch {
    begun: Instant,
    length: Duration,
    interrupt: Interrupt,
}

impl Watch {
    /// Begins now.
    pub fn start(length: Duration, interrupt: &Interrupt) -> Self {
        Self { begun: Instant::now(), length, interrupt: interrupt.clone() }
    }

    /// Whether there is time left and nobody wants an end.
    pub fn goes_on(&self) -> bool {
        self.begun.elapsed() < self.length && !self.interrupt.is_raised()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_with_its_time_or_with_the_run() {
        let interrupt = Interrupt::default();
        assert!(!Watch::start(Duration::ZERO, &interrupt).goes_on());
        let long = Watch::start(Duration::from_secs(3600), &interrupt);
        assert!(long.goes_on());
        interrupt.raise();
        assert!(!long.goes_on());
    }
}

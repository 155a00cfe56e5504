//! Signs of life for the service manager (systemd's `Type=notify` and `WatchdogSec`).
//!
//! Does: say once that the node serves; say again and again that every core still turns.
//! Does not: do anything where no service manager asked for it.
//! Invariants: one core that hangs silences the pulse of the whole node.
//! Apart because it is shared by all cores, the only thing besides the mesh that is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The turns of every core, counted by the core itself.
pub struct Pulse {
    turns: Vec<AtomicU64>,
    /// How often the service manager wants a sign; none if it does not.
    interval: Option<Duration>,
}

/// What the first core remembers between two signs.
pub struct Watch {
    seen: Vec<u64>,
}

impl Pulse {
    /// A pulse for so many cores.
    pub fn new(cores: u16) -> Self {
        let turns = (0..cores).map(|_| AtomicU64::new(0)).collect();
        // Half of the limit, so that one late sign does not kill the node.
        let interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self { turns, interval }
    }

    /// Counts a turn of a core.
    pub fn beat(&self, core: u16) {
        self.turns[usize::from(core)].fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the service manager that clients are served.
    pub fn ready(&self) {
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            warn!(%error, "cannot tell the service manager that this node serves");
        }
    }

    /// How often [`Pulse::check`] should be called.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// A watch that has seen nothing.
    pub fn watch(&self) -> Watch {
        Watch { seen: vec![u64::MAX; self.turns.len()] }
    }

    /// Gives a sign if every core has turned since the last look.
    pub fn check(&self, watch: &mut Watch) {
        let now: Vec<u64> = self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect();
        let all_turned = now.iter().zip(&watch.seen).all(|(now, seen)| now != seen);
        watch.seen = now;
        if all_turned && let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            warn!(%error, "cannot give the service manager a sign of life");
        }
    }
}

//! Recovery of one core, before it serves.
//!
//! Does: carry out what the store's recovery asks of the disk until it is complete.
//! Does not: decide what recovery means.
//! Invariants: nothing is served before this returns.
//! Apart because it is the pump of a core that has no shard yet.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flumen_storage::answers::{Recovered, StoreConfig};
use flumen_storage::error::StorageError;
use flumen_storage::format::node::Identity;
use flumen_storage::io::driver::Driver;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::DiskDone;
use flumen_storage::recovery::open::Opening;
use flumen_storage::store::Store;
use glommio::timer::Timer;
use tracing::{info, warn};

use crate::shard::pump::Clock;

/// The recovery of a core's store; with `accepts_damage`, of what is left of it.
pub fn opening(
    config: StoreConfig,
    journal: JournalConfig,
    identity: Identity,
    accepts_damage: bool,
) -> Opening {
    let opening = Store::open(config, journal, identity);
    if accepts_damage { opening.accept_damage() } else { opening }
}

/// Recovers a core's store; nothing if the process is to stop meanwhile, which loses nothing.
///
/// # Errors
/// Why it cannot be opened, and what to do, in the error's own words.
pub async fn recover(
    mut opening: Opening,
    driver: &Rc<Driver>,
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<Option<(Store, Recovered)>, StorageError> {
    let mut running = VecDeque::new();
    let mut ops = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        opening.next_ops(clock.now(), &mut ops);
        for op in ops.drain(..) {
            let driver = driver.clone();
            running.push_back(glommio::spawn_local(async move { driver.carry_out(op).await }));
        }
        if let Some(done) = running.pop_front() {
            opening.on_done(done.await, clock.now())?;
        } else if let Some(then) = opening.next_wakeup() {
            warn!("the disk is full: the start waits until a few KiB are free");
            Timer::new(then.since(clock.now().monotonic).min(STOP_LOOK)).await;
        } else {
            let complete = opening.finish();
            let complete = complete.expect("recovery without open operations is complete");
            return Ok(Some(complete));
        }
    }
    // What is under way ends before its files are closed.
    while let Some(done) = running.pop_front() {
        let _unneeded: DiskDone = done.await;
    }
    info!("asked to stop before recovery was complete");
    Ok(None)
}

/// How often a start that waits for room looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(250);

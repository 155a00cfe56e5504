//! A data folder gets another number of cores.
//!
//! Does: empty the journal of every old core into segments, write down which core owns each log
//! from now on, let the folder switch.
//! Does not: decide that this happens (`serve` does, by the operator's word), or which core owns a
//! log (`routing` does); records stay where they are.
//! Invariants: before the folder switches, everything done is what any start and clean stop of the
//! old cores would do; a log that is held or undecided keeps the whole folder as
//! it is.
//! Apart because it runs instead of the cores, before there are any.
//!
//! ```text
//!  for each old core: recover -> open partitions -> commit -> settle -> hand over
//!  spread over the new cores -> Folder::switch_cores -> start as usual
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use flumen_protocol::ids::{CoreId, LogId, NodeId};
use flumen_protocol::time::Now;
use flumen_replication::outbox::{Effect as Wish, Outbox};
use flumen_replication::partition::{Partition, UnsavedAborted};
use flumen_storage::answers::{Recovered, StoreEvent};
use flumen_storage::format::node::NodeRecord;
use flumen_storage::io::driver::Driver;
use flumen_storage::manifest::handover::{self, Handover};
use flumen_storage::op::DiskDone;
use flumen_storage::store::Store;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, Task};
use tracing::{info, warn};

use super::folder::Folder;
use super::{open, serve};
use crate::config::options::Options;
use crate::limits::{CORE_CHANGE_LOOKS, GUARD_BUSY, IO_MEMORY_BYTES, PREEMPT_TIMER, RING_DEPTH};
use crate::shard::pump::Clock;
use crate::shard::settings::{self, Settings};
use crate::shard::{partitions, routing};

/// Moves the folder's partitions to so many cores. `memory`: bytes one old core may use.
///
/// # Errors
/// Why it cannot be done and what to do; the folder then still has its old cores, or is finished
/// by the next start.
pub fn carry_out(
    folder: &mut Folder,
    options: &Options,
    cores: u16,
    memory: usize,
    accepts_damage: bool,
) -> Result<(), String> {
    let old = folder.record.core_count;
    let keep = format!("to start as it is, set flumen.cores={old}");
    info!(from = old, to = cores, "flumen.cores names another number of cores: moving partitions");
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| format!("cannot use io_uring: {error}; see `flumen doctor`"))?;
    let mut emptied = Vec::new();
    for core in (0..old).map(CoreId) {
        let handover = executor.run(empty(folder, options, core, memory, accepts_damage));
        let why = |why| format!("core {core} cannot be moved: {why}; {keep}");
        emptied.push(handover.map_err(why)?);
    }
    let record = NodeRecord { core_count: cores, ..folder.record };
    let moved = announce(&emptied, old, cores);
    let manifests = handover::spread(&emptied, &record, routing::core_of)
        .map_err(|error| format!("{error}; {keep}"))?;
    folder.switch_cores(&manifests)?;
    info!(from = old, to = cores, partitions = moved, "the data folder has its new cores");
    Ok(())
}

/// Says of every log that gets another core where it goes; how many do.
fn announce(emptied: &[Handover], old: u16, cores: u16) -> usize {
    let logs = emptied.iter().flat_map(Handover::logs);
    let places = logs.map(|log| (log, routing::core_of(log, old), routing::core_of(log, cores)));
    let moving = places.filter(|(_, from, to)| from != to);
    moving.inspect(|(log, from, to)| info!(%log, %from, %to, "a partition moves")).count()
}

/// Brings one old core to where its journal holds nothing that is not in segments.
async fn empty(
    folder: &Folder,
    options: &Options,
    core: CoreId,
    memory: usize,
    accepts_damage: bool,
) -> Result<Handover, String> {
    let clock = Clock::start();
    let driver = Rc::new(Driver::new(folder.root.clone(), core));
    let identity = folder.record.identity(core);
    let (config, journal) = (serve::store_config(memory), serve::journal_config(options, folder));
    let opening = open::opening(config, journal, identity, accepts_damage);
    // Signals are not caught yet: one ends the process at once, which a change survives.
    let stop = AtomicBool::new(false);
    let opened = open::recover(opening, &driver, &clock, &stop).await;
    let (store, recovered) =
        opened.map_err(|error| error.to_string())?.expect("nobody asks it to stop");
    let count = recovered.logs.len();
    let mut old = OldCore::open(core, store, recovered, options, clock.now())?;
    old.run(&driver, &clock).await?;
    driver.close().await;
    info!(%core, partitions = count, "everything of this core is in segments");
    old.store.hand_over().map_err(|log| format!("partition {log} has unsettled entries"))
}

/// A core that serves nobody: its partitions take no requests, only their own entries.
struct OldCore {
    store: Store,
    partitions: BTreeMap<LogId, Partition>,
    outbox: Outbox,
    events: Vec<StoreEvent>,
    running: VecDeque<Task<DiskDone>>,
    /// Everything is committed, and all of it is to be settled.
    settling: bool,
}

impl OldCore {
    fn open(
        core: CoreId,
        mut store: Store,
        recovered: Recovered,
        options: &Options,
        now: Now,
    ) -> Result<Self, String> {
        partitions::report(core, &recovered);
        let defaults = Settings::new(options);
        let (mut opened, mut outbox) = (BTreeMap::new(), Outbox::new());
        for log in recovered.logs {
            let name = log.log;
            // What was set aside lies beside the old core's journal, and the hold names it there.
            if let Some(hold) = &log.held {
                let remedy = partitions::HELD_REMEDY;
                return Err(format!(
                    "partition {name} is held: {hold} of folder core-{core}. {remedy}"
                ));
            }
            store.set_start_offset(name, log.start_offset);
            let settings = settings::of_log(options, defaults.of(name.topic), name);
            let boot = partitions::boot_of(log, NodeId(options.node_id), settings);
            let partition = partitions::open(boot, now, &mut outbox);
            opened.insert(name, partition.map_err(|error| format!("partition {name}: {error}"))?);
        }
        let (events, running) = (Vec::new(), VecDeque::new());
        Ok(Self { store, partitions: opened, outbox, events, running, settling: false })
    }

    /// Turns the core until its journal holds nothing that is not in segments.
    async fn run(&mut self, driver: &Rc<Driver>, clock: &Clock) -> Result<(), String> {
        let mut looks = 0;
        loop {
            self.turn(driver, clock.now());
            if let Some(done) = self.running.pop_front() {
                let done = done.await;
                let taken = self.store.on_done(done, clock.now(), &mut self.events);
                taken.map_err(|error| error.to_string())?;
                self.take_events(clock.now())?;
                looks = 0;
            } else if self.is_at_rest() && self.settling {
                return Ok(());
            } else if self.is_at_rest() {
                self.settling = true;
                self.store.prepare_stop();
            } else if looks < CORE_CHANGE_LOOKS {
                // A log that could not be settled at once is left alone for a moment.
                looks += 1;
                Timer::new(GUARD_BUSY).await;
            } else {
                return Err("its journal cannot be emptied".to_owned());
            }
        }
    }

    /// Whether what this phase wants is done: all committed, then all settled.
    fn is_at_rest(&self) -> bool {
        let committed = |p: &Partition| p.applied_index() == p.last_index();
        !self.store.outstanding()
            && self.partitions.values().all(committed)
            && (!self.settling || self.store.hand_over().is_ok())
    }

    fn turn(&mut self, driver: &Rc<Driver>, now: Now) {
        self.carry_out();
        self.settle(now);
        let mut ops = Vec::new();
        self.store.next_ops(now, &mut ops);
        for op in ops {
            let driver = driver.clone();
            let done = glommio::spawn_local(async move { driver.carry_out(op).await });
            self.running.push_back(done);
        }
    }

    fn carry_out(&mut self) {
        for wish in std::mem::take(&mut self.outbox) {
            match wish {
                Wish::Persist { log, entry } => self.store.append(log, entry),
                Wish::PersistHardState { log, state } => self.store.save_hard_state(log, state),
                Wish::StartOffset { log, offset } => self.store.set_start_offset(log, offset),
                // Nobody waits, watches or listens here.
                Wish::Release { .. }
                | Wish::Push { .. }
                | Wish::Leadership { .. }
                | Wish::Moved { .. }
                | Wish::Verify(_)
                | Wish::TransactionEnded { .. }
                | Wish::Committed { .. } => {}
            }
        }
    }

    fn settle(&mut self, now: Now) {
        while let Some(log) = self.store.next_settle(now) {
            let Some(partition) = self.partitions.get_mut(&log) else { return };
            if let Some(UnsavedAborted { since, rows }) = partition.take_unsaved_aborted() {
                self.store.note_aborted(log, since, rows);
            }
            let settled_end = self.store.settling_end(log, partition.applied_index());
            let snapshot = partition.snapshot(settled_end);
            let state = (snapshot.index, snapshot.bytes);
            if !self.store.begin_settle(log, partition.applied_index(), state) {
                return;
            }
        }
    }

    fn take_events(&mut self, now: Now) -> Result<(), String> {
        for event in std::mem::take(&mut self.events) {
            match event {
                StoreEvent::Durable { log, index } => {
                    if let Some(partition) = self.partitions.get_mut(&log) {
                        partition.persisted(now, index, &mut self.outbox);
                    }
                }
                StoreEvent::NoSpace => return Err("the disk is full".to_owned()),
                StoreEvent::Deleted { log } => info!(%log, "a deleted partition's files are gone"),
                StoreEvent::Read { .. } | StoreEvent::TimeFound { .. } => {
                    warn!("the store answered what nobody asked");
                }
                StoreEvent::HardStateDurable { .. }
                | StoreEvent::Settled { .. }
                | StoreEvent::Cleaned { .. }
                | StoreEvent::CleaningBroken { .. }
                | StoreEvent::StartDurable { .. } => {}
            }
        }
        Ok(())
    }
}

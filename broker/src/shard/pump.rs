//! The loop of a core: gather, apply, settle, carry out.
//!
//! Does: read the clock once per turn, take inputs in bounded number and time, end the turn,
//! carry its effects out; sleep until something happens.
//! Does not: decide anything.
//! Invariants: the only reader of the clock; inputs in the order in which they came; at most one
//! turn at a time.
//! Apart because it is the only place where a shard meets the world.
//!
//! Sleeping is bounded by a guard (architecture D11): glommio 0.9 can park a core although tasks
//! are runnable, and an armed timer is what wakes it. The guard is short while somebody waits and
//! long while nobody does; how often it found work that nobody had announced is a metric.
#![expect(clippy::disallowed_methods, reason = "the only reader of the clock")]

use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flumen_protocol::ids::CoreId;
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::error::StorageError;
use flumen_storage::io::driver::Driver;
use flumen_storage::op::{Action, DiskDone, DiskOp, FileName};
use futures_lite::future;
use glommio::timer::Timer;
use tracing::error;

use super::effect::Effect;
use super::input::{Input, JournalWrite};
use super::mailbox::CoreMessage;
use super::routing::CONTROLLER_CORE;
use super::shard::Shard;
use crate::boot::mesh::Mesh;
use crate::boot::pulse::{Pulse, Watch};
use crate::limits::{
    GUARD_BUSY, GUARD_IDLE, GUARD_LINGER, IDLE_SWEEP_INTERVAL, INPUTS_PER_TURN, TURN_TIME,
};
use crate::net::connections::Connections;
use crate::net::inbox::Inbox;
use crate::shard::memory::RequestMemory;

/// The clocks of one core.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // A wall clock before 1970 is reported by `doctor`; here it must not stop the node.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Now { monotonic: Monotonic(nanos), wall: Wall(wall) }
    }
}

/// What the pump needs to carry effects out.
pub struct World {
    /// Where inputs come from.
    pub inbox: Rc<Inbox>,
    /// Where answers go.
    pub connections: Rc<Connections>,
    /// The budget that readers wait for.
    pub memory: Rc<RequestMemory>,
    /// The disk.
    pub driver: Rc<Driver>,
    /// The other cores.
    pub mesh: Mesh,
    /// The clock.
    pub clock: Clock,
    /// The data folder, for looking up its free space.
    pub root: PathBuf,
    /// Set by a signal; the first core looks at it.
    pub stop: Arc<AtomicBool>,
    /// Signs of life for the service manager.
    pub pulse: Arc<Pulse>,
    /// Starts to listen; called once, when the shard serves.
    pub serve: Box<dyn FnOnce()>,
}

/// How a core ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to, and everything is on disk.
    Stopped,
    /// Its disk broke a promise.
    Halted(StorageError),
}

/// Turns a shard until it ends.
pub async fn run(mut shard: Shard, mut world: World) -> Ended {
    let mut serve = Some(std::mem::replace(&mut world.serve, Box::new(|| ())));
    let mut effects = Vec::new();
    let mut rounds = Rounds::new(&world);
    let mut answered = Monotonic(0);
    loop {
        if world.inbox.is_empty() {
            sleep(&mut shard, &world, answered).await;
        }
        let now = turn(&mut shard, &world);
        rounds.go(&world, now.monotonic);
        shard.take_effects(&mut effects);
        if effects.iter().any(|effect| matches!(effect, Effect::Respond { .. })) {
            answered = now.monotonic;
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Serve => serve.take().into_iter().for_each(|serve| serve()),
                Effect::Stopped => return finish(&world).await,
                Effect::Halt(error) => return Ended::Halted(error),
                other => carry_out(&world, other),
            }
        }
        if world.memory.take_resumable() {
            world.connections.resume_readers();
        }
        world.mesh.flush();
        // Lets the tasks run that this turn woke, and those that read more.
        future::yield_now().await;
    }
}

/// What is not the shard's and comes around now and then: the stop signal, idle connections,
/// signs of life.
struct Rounds {
    swept: Monotonic,
    pulsed: Monotonic,
    watch: Watch,
    stopping: bool,
}

impl Rounds {
    fn new(world: &World) -> Self {
        let watch = world.pulse.watch();
        Self { swept: Monotonic(0), pulsed: Monotonic(0), watch, stopping: false }
    }

    fn go(&mut self, world: &World, now: Monotonic) {
        let core = world.mesh.place();
        world.pulse.beat(core.0);
        if now.since(self.swept) > IDLE_SWEEP_INTERVAL {
            self.swept = now;
            world.connections.close_idle(&world.memory);
        }
        if core != CONTROLLER_CORE {
            return;
        }
        if !self.stopping && world.stop.load(Ordering::Relaxed) {
            self.stopping = true;
            world.inbox.push(Input::Stop);
        }
        if world.pulse.interval().is_some_and(|interval| now.since(self.pulsed) >= interval) {
            self.pulsed = now;
            world.pulse.check(&mut self.watch);
        }
    }
}

/// One turn: a bounded number of inputs, then the end of the turn.
fn turn(shard: &mut Shard, world: &World) -> Now {
    let begun = world.clock.now();
    world.connections.set_now(begun.monotonic);
    let mut now = begun;
    for _ in 0..INPUTS_PER_TURN {
        let Some(input) = world.inbox.pop() else { break };
        shard.apply(now, input);
        now = world.clock.now();
        if now.monotonic.since(begun.monotonic) > TURN_TIME {
            break;
        }
    }
    shard.settle(now);
    shard.metrics_mut().turns_total += 1;
    now
}

/// Sleeps until an input comes, a deadline is due, or the guard looks.
async fn sleep(shard: &mut Shard, world: &World, answered: Monotonic) {
    let now = world.clock.now().monotonic;
    // A client that just had its answer sends its next request now: a lost wake-up of its socket
    // is one of a core on which nothing is outstanding.
    let is_busy = shard.has_outstanding() || world.mesh.has_unsent();
    let guard = if is_busy || now.since(answered) < GUARD_LINGER { GUARD_BUSY } else { GUARD_IDLE };
    let due = shard.next_deadline().map_or(Duration::MAX, |due| due.since(now));
    future::or(poll_fn(|cx| world.inbox.poll_ready(cx)), async {
        Timer::new(guard.min(due)).await;
    })
    .await;
    // The guard's timer runs the tasks that nobody woke before it wakes the pump itself: that it
    // was slept out and there is work nevertheless is all that can be seen of it.
    let slept = world.clock.now().monotonic.since(now);
    if guard < due && slept >= guard && !world.inbox.is_empty() {
        shard.metrics_mut().guard_wakes_total += 1;
    }
}

fn carry_out(world: &World, effect: Effect) {
    match effect {
        Effect::Disk(op) => start(world, op),
        Effect::ToCore { to, message } => world.mesh.send(to, message),
        Effect::Respond { connection, slot, answer } => {
            world.connections.respond(connection, slot, answer);
        }
        Effect::CloseAt { connection, slot } => world.connections.close_at(connection, slot),
        Effect::Close { connection } => world.connections.close(connection),
        Effect::LookUpSpace => look_up_space(world),
        Effect::Serve | Effect::Stopped | Effect::Halt(_) => {
            unreachable!("the loop itself takes these")
        }
    }
}

fn start(world: &World, op: DiskOp) {
    let (driver, inbox, clock) = (world.driver.clone(), world.inbox.clone(), world.clock);
    let bytes = journal_bytes(&op);
    glommio::spawn_local(async move {
        let begun = clock.now().monotonic;
        let done: DiskDone = driver.carry_out(op).await;
        let took = clock.now().monotonic.since(begun);
        inbox.push(Input::Disk { done, journal: bytes.map(|bytes| JournalWrite { bytes, took }) });
    })
    .detach();
}

/// How much of the journal an operation writes; nothing if it is another operation.
fn journal_bytes(op: &DiskOp) -> Option<u32> {
    match (op.file, &op.action) {
        (FileName::Journal(_), Action::WriteDurable { padded_len, .. }) => Some(*padded_len),
        _ => None,
    }
}

fn look_up_space(world: &World) {
    match rustix::fs::statvfs(&world.root) {
        Ok(space) => world.inbox.push(Input::FreeSpace {
            free: space.f_bavail * space.f_frsize,
            total: space.f_blocks * space.f_frsize,
        }),
        Err(error) => error!(%error, folder = %world.root.display(), "cannot see the free space"),
    }
}

/// Lets the answers leave, then the handles close.
async fn finish(world: &World) -> Ended {
    world.connections.close_all();
    let mut patience = STOP_LOOKS;
    while world.connections.count() > 0 && patience > 0 {
        patience -= 1;
        Timer::new(GUARD_BUSY).await;
    }
    world.driver.close().await;
    Ended::Stopped
}

/// How often a stop looks whether all answers are written, a guard interval apart.
const STOP_LOOKS: u32 = 200;

/// A message of another core, as an input of this one.
pub fn from_core(from: CoreId, message: CoreMessage) -> Input {
    Input::FromCore { from, message }
}

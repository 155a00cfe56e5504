//! The loop of a core: gather, apply, settle, carry out, and what has time.
//!
//! Does: read the clock once per turn, take inputs in bounded number and time, end the turn,
//! carry its effects out; sleep until something happens.
//! Does not: decide anything.
//! Invariants: the only reader of the clock; inputs in the order in which they came; at most one
//! turn at a time.
//! Apart because it is the only place where a shard meets the world.
//!
//! A core sleeps in its own ring, not in glommio: the executor costs about ten system calls a turn
//! and can park although tasks are runnable (architecture D11, decision 0012). glommio carries out
//! all disk operations but commits to a journal file that is open: seldom what an acknowledgement
//! waits for (the first commit in a file, a file to be prepared), often what a fetch of old records
//! waits for. While one is under way the pump watches glommio's ring and lets it run when that has
//! news, or when the guard looks.
#![expect(clippy::disallowed_methods, reason = "the only reader of the clock")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flumen_protocol::ids::CoreId;
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::error::{DiskError, DiskErrorKind};
use flumen_storage::io::driver::Driver;
use flumen_storage::io::ring::{Event, Ring, WatchId};
use flumen_storage::op::{Action, DiskDone, DiskOp, FileName, Output};
use glommio::timer::Timer;
use tracing::{error, warn};

use super::courtesy::Courtesy;
use super::effect::Effect;
use super::input::{Input, JournalWrite};
use super::mailbox::CoreMessage;
use super::outstanding::{By, Operation, Outstanding};
use super::routing::CONTROLLER_CORE;
use super::shard::Shard;
use crate::boot::executor::ExecutorRing;
use crate::boot::mesh::Mesh;
use crate::boot::pulse::{Pulse, Watch};
use crate::limits::{
    FAREWELL_TIME, GUARD_BUSY, GUARD_IDLE, IDLE_SWEEP_INTERVAL, INPUTS_PER_TURN, SPENT_NOTED,
    TURN_TIME,
};
use crate::net::connections::Connections;
use crate::net::inbox::{Inbox, Queue};
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

    /// The one that never goes back.
    pub fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        // A wall clock before 1970 is reported by `doctor`; here it must not stop the node.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Now { monotonic: self.monotonic(), wall: Wall(wall) }
    }
}

/// What the pump needs to carry effects out.
pub struct World {
    /// Where inputs come from.
    pub inbox: Rc<Inbox>,
    /// Where requests come from and answers go.
    pub connections: Connections,
    /// The budget that readers wait for.
    pub memory: Rc<RequestMemory>,
    /// The core's own ring.
    pub ring: Ring,
    /// The ring on which its executor reads and writes files.
    pub executor: ExecutorRing,
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
    /// Inputs were applied that no turn has settled yet.
    pub is_unsettled: bool,
    /// Starts to listen; called once, when the shard serves.
    pub serve: Serve,
}

/// Opens the doors of a core.
pub type Serve = Box<dyn FnOnce(&mut Connections, &mut Ring)>;

/// How a core ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to, and everything is on disk.
    Stopped,
    /// Its disk broke a promise, or its ring broke.
    Halted(String),
}

/// Turns a shard until it ends.
pub async fn run(mut shard: Shard, mut world: World) -> Ended {
    let mut serve = Some(std::mem::replace(&mut world.serve, Box::new(|_, _| ())));
    let mut effects = Vec::new();
    let mut rounds = Rounds::new(&world);
    let mut disk = Disk::new(world.clock.monotonic());
    let mut courtesy = Courtesy::new(world.clock.monotonic());
    let mut behind = Behind::Sockets;
    world.ring.watch(world.mesh.bell(), BELL);
    loop {
        if let Err(error) = gather(&shard, &mut world, &mut disk) {
            return Ended::Halted(format!("the ring of this core broke: {error}"));
        }
        disk.let_executor_run(&mut world).await;
        give_way(&world, &mut courtesy);
        let now = turn(&mut shard, &mut world);
        disk.look(now.monotonic, &mut shard);
        rounds.go(&mut world, &disk, &mut shard, now.monotonic);
        shard.take_effects(&mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Serve => {
                    let World { connections, ring, .. } = &mut world;
                    serve.take().into_iter().for_each(|serve| serve(connections, ring));
                }
                Effect::Stopped => return finish(&mut world, &mut disk).await,
                Effect::Halt(error) => return Ended::Halted(error.to_string()),
                other => carry_out(&mut world, &mut disk, other),
            }
        }
        world.mesh.flush();
        // Answers first: they are ready, and what glommio begins now takes its time anyway.
        world.connections.hold_back(world.mesh.has_unsent());
        world.connections.work(&world.inbox, &world.memory);
        if let Some(kind) = behind.next(&shard, &world) {
            if let Err(error) = world.ring.submit() {
                return Ended::Halted(format!("the ring of this core broke: {error}"));
            }
            give_way(&world, &mut courtesy);
            kind.go(&mut shard, &mut world);
            behind = kind.following();
        }
        disk.let_executor_run(&mut world).await;
        give_way(&world, &mut courtesy);
    }
}

/// Work for those that go behind: one kind of it after each turn.
#[derive(Clone, Copy)]
enum Behind {
    Sockets,
    Inputs,
    Inspection,
}

impl Behind {
    fn following(self) -> Self {
        match self {
            Self::Sockets => Self::Inputs,
            Self::Inputs => Self::Inspection,
            Self::Inspection => Self::Sockets,
        }
    }

    fn has_work(self, shard: &Shard, world: &World) -> bool {
        match self {
            Self::Sockets => world.connections.has_work_for_others(),
            Self::Inputs => world.inbox.waiting(Queue::Behind) > 0,
            Self::Inspection => shard.is_inspecting(),
        }
    }

    /// The kind whose turn it is, if there is work of any.
    fn next(self, shard: &Shard, world: &World) -> Option<Self> {
        let kinds = [self, self.following(), self.following().following()];
        kinds.into_iter().find(|kind| kind.has_work(shard, world))
    }

    /// Does it, within the time that they have. What was asked for before is on its way to the disk
    /// meanwhile, and the next turn settles what comes of this.
    fn go(self, shard: &mut Shard, world: &mut World) {
        match self {
            Self::Sockets => work_for_others(world),
            Self::Inputs => {
                let (begun, time) = (world.clock.now(), world.connections.others_time());
                take_inputs(shard, world, begun, Queue::Behind, time);
                world.is_unsettled = true;
            }
            Self::Inspection => {
                shard.go_on_inspecting(world.clock.now());
                world.is_unsettled = true;
            }
        }
    }
}

fn work_for_others(world: &mut World) {
    let World { connections, inbox, memory, ring, clock, .. } = world;
    let until = clock.monotonic().after(connections.others_time());
    connections.work_for_others(inbox, memory, ring, &|| clock.monotonic() < until);
}

/// While the disk writes for a commit, kernel threads carry it on, and wait for this very processor
/// (decision 0017). Others wait for nothing here.
fn give_way(world: &World, courtesy: &mut Courtesy) {
    if world.ring.writing() == 0 {
        return;
    }
    let before = world.clock.monotonic();
    if courtesy.is_due(before) {
        thread::yield_now();
        courtesy.gave(before, world.clock.monotonic());
    }
}

// Numbers of the ring besides doors and connections (`net/connections.rs`).
const BELL: WatchId = WatchId((1 << 61) - 1);
const EXECUTOR: WatchId = WatchId((1 << 61) - 2);

/// The disk operations of this core that are under way.
struct Disk {
    /// All of them, by token.
    outstanding: Rc<RefCell<Outstanding>>,
    /// glommio has something to do: a new operation, or news in its ring.
    is_due: bool,
    /// Its ring is watched.
    is_watched: bool,
    /// When it last had a turn.
    ran: Monotonic,
}

impl Disk {
    fn new(now: Monotonic) -> Self {
        Self { outstanding: Rc::default(), is_due: false, is_watched: false, ran: now }
    }

    fn start(&mut self, world: &mut World, op: DiskOp) {
        let append = world.driver.append(&op);
        let operation = Operation {
            id: op.id,
            file: op.file,
            action: op.action.name(),
            journal_bytes: journal_bytes(&op),
            by: if append.is_some() { By::Ring } else { By::Executor },
            begun: world.clock.now().monotonic,
        };
        let token = self.outstanding.borrow_mut().begin(operation);
        if let Some(append) = append {
            world.ring.write(append, token);
            return;
        }
        let (driver, inbox, clock) = (world.driver.clone(), world.inbox.clone(), world.clock);
        let outstanding = self.outstanding.clone();
        self.is_due = true;
        glommio::spawn_local(async move {
            let done: DiskDone = driver.carry_out(op).await;
            let (_, journal) = answered(&outstanding, token, clock);
            inbox.push(Input::Disk { done, journal });
        })
        .detach();
    }

    /// A commit in the ring ended.
    fn committed(&mut self, world: &World, token: u64, result: Result<(), DiskErrorKind>) {
        let (Operation { id, file, action, .. }, journal) =
            answered(&self.outstanding, token, world.clock);
        let result = result.map(|()| Output::Done);
        let result = result.map_err(|kind| DiskError { kind, file, action });
        world.inbox.push(Input::Disk { done: DiskDone { id, result }, journal });
    }

    /// The guard: glommio's thread for blocking calls rings no bell, so while an operation is under
    /// way the executor has a turn every now and then, however busy or quiet the core is.
    fn look(&mut self, now: Monotonic, shard: &mut Shard) {
        if self.is_due || !self.is_executing() {
            self.ran = now;
        } else if now.since(self.ran) >= GUARD_BUSY {
            self.ran = now;
            self.is_due = true;
            shard.metrics_mut().guard_wakes_total += 1;
        }
    }

    /// Lets glommio hand over new operations and take finished ones, if it has any.
    async fn let_executor_run(&mut self, world: &mut World) {
        if std::mem::take(&mut self.is_due) {
            go_around().await;
        }
        if self.is_executing() && !self.is_watched {
            self.is_watched = true;
            world.ring.watch_once(world.executor.0, EXECUTOR);
        }
    }

    /// Whether glommio carries anything out.
    fn is_executing(&self) -> bool {
        self.outstanding.borrow().of_executor() > 0
    }

    /// Tells of operations that the disk leaves without an answer. Whether it does answer.
    fn complain(&self, now: Monotonic, shard: &mut Shard) -> bool {
        let mut outstanding = self.outstanding.borrow_mut();
        shard.metrics_mut().disk_silence_seconds = outstanding.oldest(now).as_secs();
        for Operation { file, action, begun, .. } in outstanding.take_late(now) {
            let seconds = now.since(begun).as_secs();
            warn!(%file, action, seconds, "the disk does not answer; whoever waits for it waits");
        }
        !outstanding.is_hung(now)
    }
}

/// Forgets an operation that ended; for one of the journal also what it wrote and how long that took.
fn answered(
    outstanding: &RefCell<Outstanding>,
    token: u64,
    clock: Clock,
) -> (Operation, Option<JournalWrite>) {
    let (operation, was_late) = outstanding.borrow_mut().end(token);
    let took = clock.now().monotonic.since(operation.begun);
    if was_late {
        let Operation { file, action, .. } = &operation;
        warn!(%file, action, seconds = took.as_secs(), "the disk has answered after all");
    }
    let journal = operation.journal_bytes.map(|bytes| JournalWrite { bytes, took });
    (operation, journal)
}

/// Lets the executor run its tasks and look at its rings once. It only does so when this task
/// waits for something that is not there yet, so this waits for the shortest of timers, and again
/// if that has run out before anybody looked at it.
async fn go_around() {
    let mut timer = Timer::new(SHORTEST_WAIT);
    let mut has_waited = false;
    poll_fn(|cx| {
        while Pin::new(&mut timer).poll(cx).is_ready() {
            if has_waited {
                return Poll::Ready(());
            }
            timer = Timer::new(SHORTEST_WAIT);
        }
        has_waited = true;
        Poll::Pending
    })
    .await;
}

/// Over before the executor could fall asleep for it.
const SHORTEST_WAIT: Duration = Duration::from_nanos(300);

/// Gathers what happened; sleeps until something does, if nothing is to be done.
fn gather(shard: &Shard, world: &mut World, disk: &mut Disk) -> io::Result<()> {
    let mut news = Vec::new();
    world.mesh.receive(&world.inbox);
    let is_idle = |world: &World| {
        world.inbox.is_empty()
            && !world.connections.has_work(&world.memory)
            && !disk.is_due
            && !world.is_unsettled
    };
    if is_idle(world) {
        world.mesh.fall_asleep(&world.inbox);
    }
    if is_idle(world) {
        sleep(shard, world, disk, &mut news)?;
    } else {
        world.ring.turn(None, &mut news)?;
    }
    world.mesh.wake_up();
    world.mesh.receive(&world.inbox);
    for event in news {
        match event {
            Event::Written { token, result } => disk.committed(world, token, result),
            Event::Ready { watch: BELL, goes_on, .. } => {
                if !goes_on {
                    world.ring.watch(world.mesh.bell(), BELL);
                }
            }
            Event::Ready { watch: EXECUTOR, .. } => (disk.is_due, disk.is_watched) = (true, false),
            Event::Ready { watch, readiness, goes_on } => {
                world.connections.note(watch, readiness, goes_on, &mut world.ring);
            }
        }
    }
    world.connections.work(&world.inbox, &world.memory);
    Ok(())
}

/// Sleeps until the ring has news, a deadline is due, or the guard looks.
fn sleep(shard: &Shard, world: &mut World, disk: &Disk, news: &mut Vec<Event>) -> io::Result<()> {
    let now = world.clock.now().monotonic;
    let guard =
        if disk.is_executing() || world.mesh.has_unsent() { GUARD_BUSY } else { GUARD_IDLE };
    let dues = [shard.next_deadline(), world.connections.next_deadline()];
    let due = dues.into_iter().flatten().min().map_or(Duration::MAX, |due| due.since(now));
    world.ring.turn(Some(guard.min(due)), news)
}

/// What is not the shard's and comes around now and then: the stop signal, idle connections, a disk
/// that does not answer, signs of life.
struct Rounds {
    swept: Monotonic,
    pulsed: Monotonic,
    watch: Watch,
    /// Whether the disk has answered everything within a bearable time.
    disk_answers: bool,
    stopping: bool,
}

impl Rounds {
    fn new(world: &World) -> Self {
        let watch = world.pulse.watch();
        let start = Monotonic(0);
        Self { swept: start, pulsed: start, watch, disk_answers: true, stopping: false }
    }

    fn go(&mut self, world: &mut World, disk: &Disk, shard: &mut Shard, now: Monotonic) {
        let core = world.mesh.place();
        if self.disk_answers {
            world.pulse.beat(core.0);
        }
        if now.since(self.swept) > IDLE_SWEEP_INTERVAL {
            self.swept = now;
            self.disk_answers = disk.complain(now, shard);
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

/// One turn: a bounded number of the inputs that go first, then the end of the turn, also of what was
/// taken behind them since the last.
fn turn(shard: &mut Shard, world: &mut World) -> Now {
    let begun = world.clock.now();
    world.connections.set_now(begun.monotonic);
    let now = take_inputs(shard, world, begun, Queue::First, TURN_TIME);
    shard.settle(now);
    world.is_unsettled = false;
    shard.metrics_mut().turns_total += 1;
    now
}

/// Takes inputs of a queue, at least one, until so much time is over. What time it is then.
fn take_inputs(
    shard: &mut Shard,
    world: &mut World,
    begun: Now,
    queue: Queue,
    time: Duration,
) -> Now {
    let mut now = begun;
    for _ in 0..INPUTS_PER_TURN {
        let Some(input) = world.inbox.pop(queue) else { break };
        let whose = input.asked_by();
        let before = now.monotonic;
        shard.apply(now, input);
        now = world.clock.now();
        let took = now.monotonic.since(before);
        shard.count_time(took);
        if let Some(connection) = whose
            && took >= SPENT_NOTED
        {
            world.connections.note_time(connection, took);
        }
        if now.monotonic.since(begun.monotonic) > time {
            break;
        }
    }
    now
}

fn carry_out(world: &mut World, disk: &mut Disk, effect: Effect) {
    match effect {
        Effect::Disk(op) => disk.start(world, op),
        Effect::ToCore { to, message } => world.mesh.send(to, message),
        Effect::Respond { connection, slot, answer } => {
            world.connections.respond(connection, slot, answer, &world.memory);
        }
        Effect::Mute { connection, until } => world.connections.mute(connection, until),
        Effect::CloseAt { connection, slot } => world.connections.close_at(connection, slot),
        Effect::Close { connection } => world.connections.close(connection),
        Effect::LimitConnections(limits) => world.connections.set_limits(limits),
        Effect::StopListening => world.connections.stop_listening(&mut world.ring),
        Effect::LookUpSpace => look_up_space(world),
        Effect::Serve | Effect::Stopped | Effect::Halt(_) => {
            unreachable!("the loop itself takes these")
        }
    }
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

/// Lets answers and messages leave and the disk finish, for a while, then closes the handles.
async fn finish(world: &mut World, disk: &mut Disk) -> Ended {
    world.connections.close_all(&mut world.ring);
    let deadline = world.clock.now().monotonic.after(FAREWELL_TIME);
    let mut news = Vec::new();
    loop {
        let now = world.clock.now().monotonic;
        world.connections.set_now(now);
        world.connections.work(&world.inbox, &world.memory);
        work_for_others(world);
        world.mesh.flush();
        disk.is_due = true;
        disk.let_executor_run(world).await;
        // glommio's thread for blocking calls panics when nobody is left to take its answer: what is
        // under way, a journal file that is being prepared as a rule, ends first.
        let executing = disk.outstanding.borrow().of_executor();
        let open = world.connections.count() + world.ring.writing() + executing;
        if now >= deadline || open == 0 && !world.mesh.has_unsent() {
            break;
        }
        let wait = (!world.connections.has_work(&world.memory)).then_some(GUARD_BUSY);
        if let Err(error) = world.ring.turn(wait, &mut news) {
            return Ended::Halted(format!("the ring of this core broke: {error}"));
        }
        for event in news.drain(..) {
            if let Event::Ready { watch, readiness, goes_on } = event {
                world.connections.note(watch, readiness, goes_on, &mut world.ring);
            }
        }
    }
    world.driver.close().await;
    Ended::Stopped
}

/// A message of another core, as an input of this one.
pub fn from_core(from: CoreId, message: CoreMessage) -> Input {
    Input::FromCore { from, message }
}

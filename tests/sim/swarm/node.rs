//! A node as plain values: shards and their recovery, disks, wires between cores, connections.
//!
//! Does: deliver inputs after delays, carry effects out, die and start again.
//! Does not: decide anything a broker decides, or know what clients say.
//! Invariants: inputs of a core and bytes of a connection are first in, first out; nothing of an earlier
//! process reaches a later one but what is on the disks.
//! Apart because the broker's rim (`pump`, `net`, `io`) is replaced by this, and nothing else of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_broker::config::options::Options;
use flumen_broker::net::slots::{Next, Slots};
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{CloseReason, ConnectionId, Input};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_protocol::ids::{CoreId, NodeId};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::StoreConfig;
use flumen_storage::error::{DiskErrorKind, StorageError};
use flumen_storage::format::node::NodeRecord;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::DiskOp;
use flumen_storage::recovery::open::Opening;
use flumen_storage::sim_disk::{Dice, SimDisk};
use flumen_storage::store::Store;

use super::heap::{Heap, MILLIS, Nanos, SECONDS};
use super::life::Event;
use super::plan::Plan;

/// Bytes of open requests a core may hold.
const MEMORY: usize = 16 << 20;
/// When the world begins, milliseconds since 1970.
const BIRTH: i64 = 1_700_000_000_000;
/// How long it takes to start a process anew.
const BOOT: Nanos = 50 * MILLIS;

/// What happens inside a node, each to a core.
#[derive(Debug)]
pub enum Inside {
    /// Its turn.
    Turn,
    /// Its disk carries one operation out.
    Disk,
    /// Something arrives.
    Input(Box<Input>),
}

/// Where a core is in its life.
enum State {
    Down,
    Opening(Box<Opening>),
    Up(Box<Shard>),
}

struct Core {
    disk: SimDisk,
    state: State,
    inbox: VecDeque<Input>,
    /// When its next turn is; other turns in the heap are overtaken by this one.
    turn_at: Option<Nanos>,
    /// It has no turn, and its disk does nothing, before these.
    stalled_until: Nanos,
    hanging_until: Nanos,
    memory: Rc<RequestMemory>,
    is_serving: bool,
    /// It takes nothing more from clients.
    is_deaf: bool,
    has_stopped: bool,
}

/// One connection, as the broker's side sees it.
struct Connection {
    client: usize,
    core: usize,
    slots: Slots,
    /// When the bytes sent last arrive, in each direction.
    to_core: Nanos,
    to_client: Nanos,
}

/// What a client is told.
#[derive(Debug)]
pub enum News {
    Answer(Bytes),
    Closed,
}

/// A node of several cores.
pub struct Node {
    record: NodeRecord,
    options: Arc<Options>,
    plan: Plan,
    cores: Vec<Core>,
    /// How many processes there were, this one included.
    pub life: u64,
    wires: BTreeMap<(usize, usize), Nanos>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    /// How far the wall clock is off, milliseconds.
    clock_jump: i64,
    /// Somebody asked the process to stop.
    is_stopping: bool,
}

type Events = Heap<Event>;

impl Node {
    /// A node that never ran.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let record = NodeRecord {
            cluster: [7; 16],
            node: NodeId(1),
            core_count: plan.cores,
            incarnation: 9,
            taking_over: false,
        };
        let mut options = Options::default();
        options.num_partitions = 2;
        options.offsets_topic_num_partitions = 2;
        options.group_initial_rebalance_delay_ms = 100;
        options.group_min_session_timeout_ms = 1000;
        options.log_retention_check_interval_ms = 2000;
        let core = |number: u16| Core {
            disk: SimDisk::new(seed ^ u64::from(number) << 32),
            state: State::Down,
            inbox: VecDeque::new(),
            turn_at: None,
            stalled_until: 0,
            hanging_until: 0,
            memory: Rc::new(RequestMemory::new(MEMORY)),
            is_serving: false,
            is_deaf: false,
            has_stopped: false,
        };
        Self {
            record,
            options: Arc::new(options),
            plan: plan.clone(),
            cores: (0..plan.cores).map(core).collect(),
            life: 0,
            wires: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            clock_jump: 0,
            is_stopping: false,
        }
    }

    fn now(&self, events: &Events) -> Now {
        let monotonic = Monotonic(events.now() + 1);
        let wall = Wall(BIRTH + (events.now() / MILLIS) as i64 + self.clock_jump);
        Now { monotonic, wall }
    }

    /// Whether every core serves.
    pub fn is_serving(&self) -> bool {
        self.cores.iter().all(|core| core.is_serving)
    }

    /// How many cores it has.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Starts the process.
    pub fn boot(&mut self, events: &mut Events, dice: &mut Dice) {
        self.life += 1;
        self.is_stopping = false;
        let journal = JournalConfig {
            file_bytes: self.plan.journal_file_bytes,
            window_bytes: self.plan.journal_file_bytes * self.plan.journal_files,
            ..JournalConfig::default()
        };
        let store = StoreConfig {
            cache_bytes: self.plan.cache_bytes,
            unsettled_bytes: self.plan.unsettled_bytes,
            ..StoreConfig::DEFAULT
        };
        for core in 0..self.cores.len() {
            let identity = self.record.identity(CoreId(core as u16));
            self.cores[core].state =
                State::Opening(Box::new(Store::open(store, journal, identity)));
            self.go_on_opening(core, events, dice);
        }
    }

    fn go_on_opening(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let now = self.now(events);
        let it = &mut self.cores[core];
        let State::Opening(opening) = &mut it.state else { return };
        let mut ops = Vec::new();
        opening.next_ops(now, &mut ops);
        if let Some((store, recovered)) = opening.finish() {
            assert!(ops.is_empty(), "recovery that is complete asks for nothing");
            let identity = Identity {
                core: CoreId(core as u16),
                cores: self.record.core_count,
                node: self.record.node,
                cluster_id: "simulated".to_owned(),
                options: self.options.clone(),
            };
            let held = recovered.logs.iter().find(|log| log.held.is_some());
            assert!(held.is_none(), "nobody damaged anything: {held:?}");
            it.memory = Rc::new(RequestMemory::new(MEMORY));
            let seed = self.life ^ dice.below(u64::MAX);
            let shard = Shard::open(identity, store, recovered, it.memory.clone(), seed, now);
            it.state = State::Up(Box::new(shard.expect("it opens")));
            return self.wake(core, events, dice);
        }
        let wakeup = opening.next_wakeup();
        self.submit(core, ops, events, dice);
        if let Some(at) = wakeup {
            self.turn_at(core, at.0, events, dice);
        }
    }

    fn submit(&mut self, core: usize, ops: Vec<DiskOp>, events: &mut Events, dice: &mut Dice) {
        for op in ops {
            self.cores[core].disk.submit(op);
            let at = events.now() + self.plan.pace.disk.draw(dice);
            let what = Event::Inside { life: self.life, core, what: Inside::Disk };
            events.push(at, dice.below(u64::MAX), what);
        }
    }

    /// Something happens inside the process of this number, if that one still runs.
    pub fn happen(
        &mut self,
        life: u64,
        core: usize,
        what: Inside,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        if life != self.life {
            return;
        }
        match what {
            Inside::Turn => self.turn(core, events, dice),
            Inside::Disk => self.work_disk(core, events, dice),
            Inside::Input(input) if self.cores[core].is_deaf && is_of_client(&input) => {}
            Inside::Input(input) => {
                self.cores[core].inbox.push_back(*input);
                self.wake(core, events, dice);
            }
        }
    }

    fn wake(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let at = events.now() + self.plan.pace.turn.draw(dice);
        self.turn_at(core, at, events, dice);
    }

    fn turn_at(&mut self, core: usize, at: Nanos, events: &mut Events, dice: &mut Dice) {
        let it = &mut self.cores[core];
        let at = at.max(it.stalled_until).max(events.now());
        if it.turn_at.is_none_or(|before| at < before) {
            it.turn_at = Some(at);
            let what = Event::Inside { life: self.life, core, what: Inside::Turn };
            events.push(at, dice.below(u64::MAX), what);
        }
    }

    fn work_disk(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let it = &mut self.cores[core];
        if events.now() < it.hanging_until {
            let what = Event::Inside { life: self.life, core, what: Inside::Disk };
            return events.push(it.hanging_until, dice.below(u64::MAX), what);
        }
        let Some(done) = it.disk.step() else { return };
        let now = self.now(events);
        match &mut self.cores[core].state {
            State::Down => {}
            State::Opening(opening) => match opening.on_done(done, now) {
                Ok(()) => self.go_on_opening(core, events, dice),
                Err(error) => self.give_up(&error, events, dice),
            },
            State::Up(_) => {
                self.cores[core].inbox.push_back(Input::Disk { done, journal: None });
                self.wake(core, events, dice);
            }
        }
    }

    /// A start that a full disk prevents is tried again, as a service manager does.
    fn give_up(&mut self, error: &StorageError, events: &mut Events, dice: &mut Dice) {
        let full = |error: &flumen_storage::error::DiskError| error.kind == DiskErrorKind::NoSpace;
        let is_full = match error {
            StorageError::NoSpace(error) | StorageError::DeviceFailed(error) => full(error),
            StorageError::Unreadable(_)
            | StorageError::Foreign { .. }
            | StorageError::NewerFormat { .. }
            | StorageError::Corrupt { .. }
            | StorageError::NeedsOperator { .. }
            | StorageError::InUse { .. } => false,
        };
        assert!(is_full, "a start fails: {error}");
        self.die(false, SECONDS, events, dice);
    }

    fn turn(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let now = self.now(events);
        let it = &mut self.cores[core];
        if it.turn_at != Some(events.now()) {
            return;
        }
        it.turn_at = None;
        if events.now() < it.stalled_until {
            let at = it.stalled_until;
            return self.turn_at(core, at, events, dice);
        }
        let State::Up(shard) = &mut it.state else {
            return self.go_on_opening(core, events, dice);
        };
        while let Some(input) = it.inbox.pop_front() {
            shard.apply(now, input);
        }
        shard.settle(now);
        let mut effects = Vec::new();
        shard.take_effects(&mut effects);
        let soon = now.monotonic.0 + SECONDS;
        let next = shard.next_deadline().map_or(soon, |at| at.0.min(soon));
        let life = self.life;
        for effect in effects {
            self.carry_out(core, effect, events, dice);
            if self.life != life {
                return;
            }
        }
        // Now + 1: the world's clocks are one ahead of its events.
        self.turn_at(core, next, events, dice);
    }

    fn carry_out(&mut self, core: usize, effect: Effect, events: &mut Events, dice: &mut Dice) {
        match effect {
            Effect::Disk(op) => self.submit(core, vec![op], events, dice),
            Effect::ToCore { to, message } => {
                let from = CoreId(core as u16);
                let input = Box::new(Input::FromCore { from, message });
                let free = self.wires.entry((core, usize::from(to.0))).or_default();
                let at = (*free).max(events.now() + self.plan.pace.mesh.draw(dice));
                // One after the other, whatever is drawn: a later message never comes first.
                *free = at + 1;
                let (life, core) = (self.life, usize::from(to.0));
                let what = Inside::Input(input);
                events.push(at, dice.below(u64::MAX), Event::Inside { life, core, what });
            }
            Effect::Respond { connection, slot, answer } => {
                let length = answer.iter().map(Bytes::len).sum();
                self.cores[core].memory.recount_answer(length, 0);
                if let Some(it) = self.connections.get_mut(&connection) {
                    it.slots.fill(slot, answer);
                    self.flush(connection, events, dice);
                }
            }
            Effect::CloseAt { connection, slot } => {
                if let Some(it) = self.connections.get_mut(&connection) {
                    it.slots.fill_last(slot);
                    self.flush(connection, events, dice);
                }
            }
            Effect::Close { connection } => self.close(connection, events, dice),
            Effect::Serve => self.cores[core].is_serving = true,
            Effect::LookUpSpace => {
                let input = Input::FreeSpace { free: 1 << 40, total: 1 << 41 };
                self.cores[core].inbox.push_back(input);
                self.wake(core, events, dice);
            }
            Effect::StopListening => self.cores[core].is_deaf = true,
            Effect::LimitConnections(_) => {}
            Effect::Stopped => {
                self.cores[core].has_stopped = true;
                if self.cores.iter().all(|core| core.has_stopped) {
                    self.die(false, BOOT, events, dice);
                }
            }
            Effect::Halt(error) => panic!("core {core} halts: {error}"),
        }
    }

    /// Gives the client what is next in order.
    fn flush(&mut self, connection: ConnectionId, events: &mut Events, dice: &mut Dice) {
        loop {
            let Some(it) = self.connections.get_mut(&connection) else { return };
            match it.slots.next_filled() {
                None => return,
                Some(Next::Answer(parts)) => {
                    let answer: Bytes = parts.concat().into();
                    if !answer.is_empty() {
                        self.tell(connection, News::Answer(answer), events, dice);
                    }
                }
                Some(Next::Close) => return self.close(connection, events, dice),
            }
        }
    }

    fn tell(&mut self, name: ConnectionId, news: News, events: &mut Events, dice: &mut Dice) {
        let Some(it) = self.connections.get_mut(&name) else { return };
        let at = it.to_client.max(events.now() + self.plan.pace.net.draw(dice));
        it.to_client = at + 1;
        let event = Event::News { client: it.client, connection: name, news };
        events.push(at, dice.below(u64::MAX), event);
    }

    /// Ends a connection; both sides are told.
    pub fn close(&mut self, connection: ConnectionId, events: &mut Events, dice: &mut Dice) {
        self.tell(connection, News::Closed, events, dice);
        let Some(it) = self.connections.remove(&connection) else { return };
        if let State::Up(_) = self.cores[it.core].state {
            let reason = CloseReason::ByPeer;
            let input = Input::Closed { connection, peer: peer(), reason };
            let at = it.to_core.max(events.now());
            let what = Inside::Input(Box::new(input));
            let event = Event::Inside { life: self.life, core: it.core, what };
            events.push(at, dice.below(u64::MAX), event);
        }
    }

    /// Opens a connection to any core, if the node serves.
    pub fn connect(
        &mut self,
        client: usize,
        events: &mut Events,
        dice: &mut Dice,
    ) -> Option<ConnectionId> {
        if !self.is_serving() || self.is_stopping {
            return None;
        }
        let core = dice.below(self.cores.len() as u64) as usize;
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let at = events.now() + self.plan.pace.net.draw(dice);
        let slots = Slots::default();
        let it = Connection { client, core, slots, to_core: at + 1, to_client: at + 1 };
        self.connections.insert(connection, it);
        let what = Inside::Input(Box::new(Input::Opened { connection }));
        events.push(at, dice.below(u64::MAX), Event::Inside { life: self.life, core, what });
        Some(connection)
    }

    /// Takes a request (a whole frame, length included) from a client.
    pub fn receive(
        &mut self,
        connection: ConnectionId,
        frame: &Bytes,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        let Some(it) = self.connections.get_mut(&connection) else { return };
        let slot = it.slots.reserve();
        let at = it.to_core.max(events.now() + self.plan.pace.net.draw(dice));
        it.to_core = at + 1;
        let frame = BytesMut::from(&frame[4..]);
        let core = it.core;
        self.cores[core].memory.charge(frame.len());
        let input =
            Input::Request { connection, slot, listener: 0, peer: peer(), frame, answer_bytes: 0 };
        let what = Inside::Input(Box::new(input));
        events.push(at, dice.below(u64::MAX), Event::Inside { life: self.life, core, what });
    }

    /// The process ends at once, with the machine if the power goes, and is started again later.
    pub fn die(&mut self, power: bool, later: Nanos, events: &mut Events, dice: &mut Dice) {
        self.life += 1;
        for core in &mut self.cores {
            core.state = State::Down;
            core.inbox.clear();
            core.turn_at = None;
            (core.stalled_until, core.hanging_until) = (0, 0);
            (core.is_serving, core.is_deaf, core.has_stopped) = (false, false, false);
            if power { core.disk.crash() } else { core.disk.kill() }
        }
        self.wires.clear();
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        all.into_iter().for_each(|connection| self.close(connection, events, dice));
        let life = self.life;
        events.push(events.now() + later, dice.below(u64::MAX), Event::Boot { life });
    }

    /// The process is asked to stop; it is started again once it has.
    pub fn ask_to_stop(&mut self, events: &mut Events, dice: &mut Dice) {
        if self.is_serving() && !self.is_stopping {
            self.is_stopping = true;
            self.cores[0].inbox.push_back(Input::Stop);
            self.wake(0, events, dice);
        }
    }

    /// Any connection.
    pub fn any_connection(&self, dice: &mut Dice) -> Option<ConnectionId> {
        let count = self.connections.len() as u64;
        let nth = (count > 0).then(|| dice.below(count) as usize)?;
        self.connections.keys().nth(nth).copied()
    }

    /// A core's disk does nothing until then.
    pub fn hang_disk(&mut self, core: usize, until: Nanos) {
        self.cores[core].hanging_until = until;
    }

    /// A core does nothing until then.
    pub fn stall(&mut self, core: usize, until: Nanos) {
        self.cores[core].stalled_until = until;
    }

    /// A core's disk takes so many bytes more than it holds, or as many as anybody likes.
    pub fn limit_disk(&mut self, core: usize, more: Option<u64>) {
        self.cores[core].disk.limit(more);
    }

    /// The wall clock jumps.
    pub fn jump_clock(&mut self, milliseconds: i64) {
        self.clock_jump += milliseconds;
    }
}

/// Whether a core that stops does not take it any more.
fn is_of_client(input: &Input) -> bool {
    matches!(input, Input::Request { .. } | Input::Opened { .. })
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000))
}

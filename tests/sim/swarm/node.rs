//! A node as plain values: shards and their recovery, disks, wires between cores.
//!
//! Does: deliver inputs after delays, carry effects out, start again.
//! Does not: decide anything a broker decides, or know what clients say.
//! Invariants: inputs of a core are first in, first out; nothing of an earlier process reaches a later one but
//! what is on the disks.
//! Apart because the broker's rim (`pump`, `net`, `io`) is replaced by this, and nothing else of it. What its
//! clients hang on is in `lines.rs`, what becomes of it when something breaks in `machine.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use flumen_broker::config::options::Options;
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{ConnectionId, Input};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_protocol::ids::{CoreId, LogId, NodeId};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::{Recovered, StoreConfig};
use flumen_storage::format::node::NodeRecord;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::DiskOp;
use flumen_storage::recovery::open::Opening;
use flumen_storage::sim_disk::{Dice, SimDisk};
use flumen_storage::store::Store;

use super::heap::{Heap, MILLIS, Nanos, SECONDS};
use super::life::Event;
use super::lines::Connection;
use super::machine::{Finding, Spoilt};
use super::member::modern::SESSION;
use super::plan::Plan;

/// Partitions of the topic that holds what groups commit.
pub const OFFSETS_PARTITIONS: usize = 2;
/// Partitions of the topic that holds transactional ids.
const TRANSACTIONS_PARTITIONS: i32 = 2;
/// When the world begins, milliseconds since 1970.
const BIRTH: i64 = 1_700_000_000_000;
/// How long it takes to start a process anew.
const BOOT: Nanos = 50 * MILLIS;
/// Requests up to this many bytes are taken whatever memory there is, as the broker's rim does.
const SMALL_REQUEST_BYTES: usize = 1_000;
/// How much longer everything takes on a disk that is slow, and the most it takes.
const SLOWNESS: Nanos = 100;
const SLOW_MAX: Nanos = 2 * SECONDS;

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
pub(super) enum State {
    Down,
    Opening(Box<Opening>),
    Up(Box<Shard>),
}

pub(super) struct Core {
    pub(super) disk: SimDisk,
    pub(super) state: State,
    pub(super) inbox: VecDeque<Input>,
    /// Requests that wait for memory.
    pub(super) pressed: VecDeque<Input>,
    /// When its next turn is; other turns in the heap are overtaken by this one.
    pub(super) turn_at: Option<Nanos>,
    /// It has no turn, its disk does nothing, or takes its time, before these.
    pub(super) stalled_until: Nanos,
    pub(super) hanging_until: Nanos,
    pub(super) slow_until: Nanos,
    /// An operation of its disk is never answered.
    pub(super) is_silent: bool,
    pub(super) memory: Rc<RequestMemory>,
    pub(super) is_serving: bool,
    /// It takes nothing more from clients.
    pub(super) is_deaf: bool,
    pub(super) has_stopped: bool,
    /// What its disk has spoilt.
    pub(super) spoilt: Spoilt,
}

/// A node of several cores.
pub struct Node {
    pub(super) record: NodeRecord,
    options: Arc<Options>,
    pub(super) plan: Plan,
    pub(super) cores: Vec<Core>,
    /// How many processes there were, this one included.
    pub life: u64,
    pub(super) wires: BTreeMap<(usize, usize), Nanos>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) next_connection: u64,
    /// Connections of which nothing comes any more.
    pub(super) cut: BTreeSet<ConnectionId>,
    /// How far the wall clock is off, milliseconds.
    pub(super) clock_jump: i64,
    /// Somebody asked the process to stop.
    pub(super) is_stopping: bool,
    /// An operator gives up what is damaged: with this start, with the next one.
    pub(super) accepts: bool,
    pub(super) accepts_next: bool,
    /// What clients cannot know, and oracles must.
    pub(super) findings: Vec<Finding>,
}

pub(super) type Events = Heap<Event>;

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
        options.offsets_topic_num_partitions = OFFSETS_PARTITIONS as i32;
        options.group_initial_rebalance_delay_ms = 100;
        options.group_min_session_timeout_ms = 1000;
        options.consumer_groups.session_timeout_ms = (SESSION / MILLIS) as i32;
        options.log_retention_check_interval_ms = 2000;
        options.log_cleaner_backoff_ms = 500;
        options.transactions.state_log_num_partitions = TRANSACTIONS_PARTITIONS;
        let core = |number: u16| Core {
            disk: SimDisk::new(seed ^ u64::from(number) << 32),
            state: State::Down,
            inbox: VecDeque::new(),
            pressed: VecDeque::new(),
            turn_at: None,
            stalled_until: 0,
            hanging_until: 0,
            slow_until: 0,
            is_silent: false,
            memory: Rc::new(RequestMemory::new(plan.memory_bytes)),
            is_serving: false,
            is_deaf: false,
            has_stopped: false,
            spoilt: Spoilt::default(),
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
            cut: BTreeSet::new(),
            clock_jump: 0,
            is_stopping: false,
            accepts: false,
            accepts_next: false,
            findings: Vec::new(),
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

    /// Where each core of the running process is.
    pub fn describe(&self) -> String {
        let of = |core: &Core| match &core.state {
            State::Down => "down",
            State::Opening(_) => "opening",
            State::Up(_) if core.is_serving => "serving",
            State::Up(_) => "up",
        };
        let cores: Vec<&str> = self.cores.iter().map(of).collect();
        format!("process {} has cores {}", self.life, cores.join(", "))
    }

    /// How many cores it has.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Starts the process.
    pub fn boot(&mut self, events: &mut Events, dice: &mut Dice) {
        self.life += 1;
        self.is_stopping = false;
        self.accepts = std::mem::take(&mut self.accepts_next);
        let journal = JournalConfig {
            file_bytes: self.plan.journal_file_bytes,
            window_bytes: self.plan.journal_file_bytes * self.plan.journal_files,
            commits_in_flight: self.plan.commits_in_flight,
        };
        let store = StoreConfig {
            cache_bytes: self.plan.cache_bytes,
            unsettled_bytes: self.plan.unsettled_bytes,
            ..StoreConfig::DEFAULT
        };
        for core in 0..self.cores.len() {
            self.examine(core);
            let identity = self.record.identity(CoreId(core as u16));
            let opening = Store::open(store, journal, identity);
            let opening = if self.accepts { opening.accept_damage() } else { opening };
            self.cores[core].state = State::Opening(Box::new(opening));
            self.go_on_opening(core, events, dice);
        }
    }

    fn go_on_opening(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let now = self.now(events);
        let State::Opening(opening) = &mut self.cores[core].state else { return };
        let mut ops = Vec::new();
        opening.next_ops(now, &mut ops);
        if let Some((store, recovered)) = opening.finish() {
            assert!(ops.is_empty(), "recovery that is complete asks for nothing");
            return self.open_shard(core, store, recovered, events, dice);
        }
        let wakeup = opening.next_wakeup();
        self.submit(core, ops, events, dice);
        if let Some(at) = wakeup {
            self.turn_at(core, at.0, events, dice);
        }
    }

    fn open_shard(
        &mut self,
        core: usize,
        store: Store,
        recovered: Recovered,
        events: &mut Events,
        dice: &mut Dice,
    ) {
        let identity = Identity {
            core: CoreId(core as u16),
            cores: self.record.core_count,
            node: self.record.node,
            cluster_id: "simulated".to_owned(),
            options: self.options.clone(),
        };
        let now = self.now(events);
        let held = recovered.logs.iter().filter(|log| log.held.is_some());
        let held: Vec<LogId> = held.map(|log| log.log).collect();
        let memory = Rc::new(RequestMemory::new(self.plan.memory_bytes));
        let seed = self.life ^ dice.below(u64::MAX);
        match Shard::open(identity, store, recovered, memory.clone(), seed, now) {
            Ok(shard) => {
                self.cores[core].memory = memory;
                self.cores[core].state = State::Up(Box::new(shard));
                self.take_up(core, &held);
                self.wake(core, events, dice);
            }
            Err(why) => self.refuse(core, &why, events, dice),
        }
    }

    fn submit(&mut self, core: usize, ops: Vec<DiskOp>, events: &mut Events, dice: &mut Dice) {
        let is_slow = events.now() < self.cores[core].slow_until;
        for op in ops {
            self.cores[core].disk.submit(op);
            let time = self.plan.pace.disk.draw(dice);
            let time = if is_slow { (time * SLOWNESS).min(SLOW_MAX) } else { time };
            let what = Event::Inside { life: self.life, core, what: Inside::Disk };
            events.push(events.now() + time, dice.below(u64::MAX), what);
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
                self.take_input(core, *input);
                self.wake(core, events, dice);
            }
        }
    }

    /// A large request waits until there is memory, and others of its connection behind it.
    fn take_input(&mut self, core: usize, input: Input) {
        let it = &mut self.cores[core];
        if let Input::Request { connection, frame, .. } = &input {
            if self.cut.contains(connection) {
                return;
            }
            let is_small = frame.len() <= SMALL_REQUEST_BYTES;
            let is_behind = it.pressed.iter().any(|before| is_of(before, *connection));
            if is_behind || !(is_small || it.memory.has_room()) {
                return it.pressed.push_back(input);
            }
            it.memory.charge(frame.len());
        } else if let Input::Closed { connection, .. } = &input {
            it.pressed.retain(|waiting| !is_of(waiting, *connection));
        }
        it.inbox.push_back(input);
    }

    /// Requests that waited for memory come in as long as there is some.
    fn take_pressed(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
        let it = &mut self.cores[core];
        let count = it.inbox.len();
        while it.memory.has_room()
            && let Some(input) = it.pressed.pop_front()
        {
            if let Input::Request { frame, .. } = &input
                && !it.is_deaf
            {
                it.memory.charge(frame.len());
                it.inbox.push_back(input);
            }
        }
        if it.inbox.len() > count {
            self.wake(core, events, dice);
        }
    }

    pub(super) fn wake(&mut self, core: usize, events: &mut Events, dice: &mut Dice) {
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
        let was_asked = it.disk.waiting() > 0;
        let done = it.disk.step();
        self.note_faults(core);
        let Some(done) = done else {
            if was_asked {
                self.note_silence(core);
            }
            return;
        };
        let now = self.now(events);
        match &mut self.cores[core].state {
            State::Down => {}
            State::Opening(opening) => match opening.on_done(done, now) {
                Ok(()) => self.go_on_opening(core, events, dice),
                Err(error) => self.give_up(core, &error, events, dice),
            },
            State::Up(_) => {
                self.cores[core].inbox.push_back(Input::Disk { done, journal: None });
                self.wake(core, events, dice);
            }
        }
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
        shard.go_on_inspecting(now);
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
        self.take_pressed(core, events, dice);
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
                self.forget_answer(core, connection, length, events.now());
                if let Some(it) = self.connections.get_mut(&connection) {
                    it.slots.fill(slot, answer);
                    self.flush(connection, events, dice);
                }
            }
            Effect::Mute { .. } => unreachable!("nobody has a quota here"),
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
            Effect::Halt(error) => self.halt(core, &error, events, dice),
        }
    }
}

/// Whether a core that stops does not take it any more.
fn is_of_client(input: &Input) -> bool {
    matches!(input, Input::Request { .. } | Input::Opened { .. })
}

/// Whether it comes from this connection.
pub(super) fn is_of(input: &Input, of: ConnectionId) -> bool {
    matches!(input, Input::Request { connection, .. } if *connection == of)
}

//! The world of a simulated node: its shards, their disks, the wires between them, the clock.
//!
//! Does: deliver inputs, carry effects out, keep answers until a story asks for them.
//! Does not: decide anything a broker decides.
//! Invariants: a core's inputs are first in, first out; disk operations of one core complete in
//! any order; time moves only when a story says so.
//! Apart so that stories read as stories.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_broker::config::options::Options;
use flumen_broker::net::connection_limits::ConnectionLimits;
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{CloseReason, ConnectionId, Input};
use flumen_broker::shard::mailbox::{Answer, CoreMessage, Question, Target};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_broker::telemetry::metrics::RefusedReason;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LogId, NodeId};
use flumen_protocol::messages::{self, Request};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::coordinator::transaction::{Partitions, TransactionResponse};
use flumen_replication::outbox::Ticket;
use flumen_storage::answers::{RecoveredLog, StoreConfig};
use flumen_storage::format::node::{self, NodeRecord};
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::sim_disk::SimDisk;
use flumen_storage::store::Store;

/// Bytes of open requests a simulated core may hold.
const MEMORY: usize = 64 << 20;

/// A core there is not, in whose name stories ask.
const STRANGER: CoreId = CoreId(99);

/// An answer a story waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    core: usize,
    connection: ConnectionId,
    slot: u64,
}

/// A step of a core towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It takes nothing more from clients.
    Deaf,
    /// It is done.
    Stopped,
}

/// How large the parts of a node's storage are.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub journal: JournalConfig,
    pub store: StoreConfig,
}

impl Default for Sizes {
    fn default() -> Self {
        let journal = JournalConfig { file_bytes: 1 << 20, ..JournalConfig::default() };
        Self { journal, store: StoreConfig::DEFAULT }
    }
}

/// A node of several cores.
pub struct World {
    record: NodeRecord,
    options: Arc<Options>,
    pub now: Now,
    shards: Vec<Shard>,
    sizes: Sizes,
    disks: Vec<SimDisk>,
    /// Bytes of open requests a core may hold.
    memory: usize,
    memories: Vec<Rc<RequestMemory>>,
    inboxes: Vec<VecDeque<Input>>,
    answers: BTreeMap<Awaited, Bytes>,
    next_slot: u64,
    serving: usize,
    /// How often the node was started; its chance is another one every time, as in life.
    starts: u64,
    /// The pair of cores whose wire is slow, and what waits in it.
    slow: Option<(usize, usize)>,
    delayed: Vec<Input>,
    /// The core whose disk does nothing.
    hanging: Option<usize>,
    /// Why a core had to halt, if the story reckons with that.
    halted: Option<String>,
    may_halt: bool,
    /// What the last start found of each log, and said.
    pub found: BTreeMap<LogId, RecoveredLog>,
    pub report: Vec<String>,
    /// The limits for connections that each core was last told.
    pub limits: BTreeMap<usize, ConnectionLimits>,
    /// Connections that are not to be read, and until when.
    pub muted: BTreeMap<ConnectionId, Monotonic>,
    /// How long every request takes its core.
    pub request_time: Duration,
    /// Connections the broker closed.
    pub closed: Vec<ConnectionId>,
    /// What cores said of their end, in order.
    pub ends: Vec<(usize, End)>,
    /// What a coordinator of transactions says to whoever asks; `None`: the cores answer themselves.
    pub word: Option<ErrorCode>,
    /// Answers to questions that a story asked in the name of a core there is not.
    pub answered: Vec<(Ticket, Answer)>,
}

impl World {
    /// A new node of so many cores, serving.
    pub fn new(cores: u16) -> Self {
        Self::with_memory(cores, MEMORY)
    }

    /// The same, each core with this budget of requests.
    pub fn with_memory(cores: u16, memory: usize) -> Self {
        let mut world = Self::unborn(cores, memory, Sizes::default());
        world.start();
        world
    }

    /// The same, with a storage of these sizes.
    pub fn sized(cores: u16, sizes: Sizes) -> Self {
        let mut world = Self::unborn(cores, MEMORY, sizes);
        world.start();
        world
    }

    /// This node on other disks, started anew; why it does not serve, if it does not. With `accepts`
    /// an operator gives up what is damaged.
    pub fn reborn(&self, disks: Vec<SimDisk>, accepts: bool) -> Result<Self, String> {
        let mut world = Self::unborn(self.record.core_count, self.memory, self.sizes);
        (world.now, world.starts) = (self.now, self.starts);
        (world.disks, world.may_halt) = (disks, true);
        world.try_start(accepts)?;
        Ok(world)
    }

    fn unborn(cores: u16, memory: usize, sizes: Sizes) -> Self {
        let record = NodeRecord {
            cluster: [7; 16],
            node: NodeId(1),
            core_count: cores,
            incarnation: 9,
            taking_over: false,
        };
        let mut options = Options::default();
        options.group_initial_rebalance_delay_ms = 0;
        options.num_partitions = 4;
        options.offsets_topic_num_partitions = 4;
        Self {
            record,
            options: Arc::new(options),
            now: Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) },
            shards: Vec::new(),
            sizes,
            disks: (0..cores).map(|core| SimDisk::new(u64::from(core) + 1)).collect(),
            memory,
            memories: (0..cores).map(|_| Rc::new(RequestMemory::new(memory))).collect(),
            inboxes: (0..cores).map(|_| VecDeque::new()).collect(),
            answers: BTreeMap::new(),
            next_slot: 0,
            serving: 0,
            starts: 0,
            slow: None,
            delayed: Vec::new(),
            hanging: None,
            halted: None,
            may_halt: false,
            found: BTreeMap::new(),
            report: Vec::new(),
            limits: BTreeMap::new(),
            muted: BTreeMap::new(),
            request_time: Duration::ZERO,
            closed: Vec::new(),
            ends: Vec::new(),
            word: None,
            answered: Vec::new(),
        }
    }

    fn start(&mut self) {
        self.try_start(false).expect("it starts");
    }

    fn try_start(&mut self, accepts: bool) -> Result<(), String> {
        self.serving = 0;
        self.starts += 1;
        self.found.clear();
        self.report.clear();
        for core in 0..self.disks.len() {
            let shard = self.open(CoreId(core as u16), accepts)?;
            self.shards.push(shard);
        }
        self.run();
        self.halted.clone().map_or(Ok(()), Err)?;
        assert_eq!(self.serving, self.shards.len(), "every core serves");
        Ok(())
    }

    fn open(&mut self, core: CoreId, accepts: bool) -> Result<Shard, String> {
        let disk = &mut self.disks[usize::from(core.0)];
        let identity = self.record.identity(core);
        let mut opening = Store::open(self.sizes.store, self.sizes.journal, identity);
        if accepts {
            opening = opening.accept_damage();
        }
        let mut ops = Vec::new();
        let (store, recovered) = loop {
            opening.next_ops(self.now, &mut ops);
            if ops.is_empty() {
                break opening.finish().expect("recovery without operations is complete");
            }
            for op in ops.drain(..) {
                let done = opening.on_done(disk.carry_out(op), self.now);
                done.map_err(|error| error.to_string())?;
            }
        };
        self.found.extend(recovered.logs.iter().map(|found| (found.log, found.clone())));
        self.report.extend(recovered.report.iter().chain(&recovered.accepted).cloned());
        let identity = Identity {
            core,
            cores: self.record.core_count,
            node: self.record.node,
            cluster_id: "simulated".to_owned(),
            options: self.options.clone(),
        };
        let memory = Rc::new(RequestMemory::new(self.memory));
        self.memories[usize::from(core.0)] = memory.clone();
        Shard::open(identity, store, recovered, memory, self.starts, self.now)
    }

    /// Who the files of a core belong to.
    pub fn owner(&self, core: usize) -> node::Identity {
        self.record.identity(CoreId(core as u16))
    }

    /// How large the parts of the storage are.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// What every disk holds now; what waits for it is not done.
    pub fn disks(&self) -> &[SimDisk] {
        &self.disks
    }

    /// Ranges of records that readers met and could not be given: the log, the first offset, and one
    /// after the last.
    pub fn unreadable(&self) -> Vec<(LogId, i64, i64)> {
        let ranges = self.shards.iter().flat_map(Shard::unreadable);
        ranges.map(|(log, from, until)| (log, from.0, until.0)).collect()
    }

    /// The power goes, and comes back.
    pub fn cut_power(&mut self) {
        self.cut_power_and_spoil(|_| ());
    }

    /// The same, but something is done to every disk before it is used again.
    pub fn cut_power_and_spoil(&mut self, spoil: impl FnMut(&mut SimDisk)) {
        self.shards.clear();
        (self.slow, self.delayed) = (None, Vec::new());
        self.inboxes.iter_mut().for_each(VecDeque::clear);
        self.disks.iter_mut().for_each(SimDisk::crash);
        self.disks.iter_mut().for_each(spoil);
        self.start();
    }

    /// From now on the disk of a core does nothing, once it has started.
    pub fn hang(&mut self, core: usize) {
        self.hanging = Some(core);
    }

    /// The power goes while a disk hangs, and what it was asked to do with it.
    pub fn unhang_by_power_cut(&mut self) {
        self.hanging = None;
        self.cut_power();
    }

    /// The disk that hung does what it was asked.
    pub fn unhang(&mut self) {
        self.hanging = None;
        self.run();
    }

    /// Everything happens that can happen at this time.
    pub fn run(&mut self) {
        loop {
            self.run_without_disks();
            if self.halted.is_some() {
                return;
            }
            let mut moved = false;
            for core in (0..self.disks.len()).filter(|core| self.hanging != Some(*core)) {
                if let Some(done) = self.disks[core].step() {
                    self.inboxes[core].push_back(Input::Disk { done, journal: None });
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Everything happens that needs no disk.
    pub fn run_without_disks(&mut self) {
        loop {
            for core in 0..self.shards.len() {
                self.turn(core);
            }
            if self.halted.is_some() {
                return;
            }
            let goes_on = |shard: &Shard| {
                shard.next_deadline().is_some_and(|deadline| deadline <= self.now.monotonic)
            };
            if self.inboxes.iter().all(VecDeque::is_empty) && !self.shards.iter().any(goes_on) {
                return;
            }
        }
    }

    /// Every core has so many turns, and every disk does as much.
    pub fn go_on_for(&mut self, turns: usize) {
        for _ in 0..turns {
            for core in 0..self.shards.len() {
                self.turn(core);
                if let Some(done) = self.disks[core].step() {
                    self.inboxes[core].push_back(Input::Disk { done, journal: None });
                }
            }
        }
    }

    /// The client of a core's connection hangs up.
    pub fn hang_up(&mut self, core: usize) {
        let connection = ConnectionId(core as u64);
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let reason = CloseReason::ByPeer;
        self.inboxes[core].push_back(Input::Closed { connection, peer, reason });
    }

    /// One core has its turn.
    pub fn turn(&mut self, core: usize) {
        while let Some(input) = self.inboxes[core].pop_front() {
            self.shards[core].apply(self.now, input);
            self.shards[core].count_time(self.request_time);
        }
        self.shards[core].go_on_inspecting(self.now);
        self.shards[core].settle(self.now);
        let mut effects = Vec::new();
        self.shards[core].take_effects(&mut effects);
        for effect in effects {
            self.carry_out(core, effect);
        }
    }

    fn carry_out(&mut self, core: usize, effect: Effect) {
        match effect {
            Effect::Disk(op) => self.disks[core].submit(op),
            Effect::ToCore { to: STRANGER, message: CoreMessage::Answer(answers) } => {
                self.answered.extend(answers);
            }
            Effect::ToCore { to, message } => {
                let Some(message) = self.vouch(core, message) else { return };
                let (from, to) = (CoreId(core as u16), usize::from(to.0));
                let input = Input::FromCore { from, message };
                if self.slow == Some((core, to)) {
                    self.delayed.push(input);
                } else {
                    self.inboxes[to].push_back(input);
                }
            }
            Effect::Respond { connection, slot, answer } => {
                let whole: Vec<u8> = answer.concat();
                self.memories[core].recount_answer(whole.len(), 0);
                self.answers.insert(Awaited { core, connection, slot }, whole.into());
            }
            Effect::Mute { connection, until } => drop(self.muted.insert(connection, until)),
            Effect::CloseAt { connection, .. } | Effect::Close { connection } => {
                self.closed.push(connection);
            }
            Effect::Serve => self.serving += 1,
            Effect::LookUpSpace => {
                self.inboxes[core].push_back(Input::FreeSpace { free: 1 << 40, total: 1 << 41 });
            }
            Effect::LimitConnections(limits) => drop(self.limits.insert(core, limits)),
            Effect::StopListening => self.ends.push((core, End::Deaf)),
            Effect::Stopped => self.ends.push((core, End::Stopped)),
            Effect::Halt(error) => {
                let why = format!("core {core} halts: {error}");
                assert!(self.may_halt, "{why}");
                self.halted = Some(why);
            }
        }
    }

    /// Answers for the coordinators of transactions, if the story does; gives what else is asked.
    fn vouch(&mut self, core: usize, message: CoreMessage) -> Option<CoreMessage> {
        let (Some(word), CoreMessage::Ask(questions)) = (self.word, &message) else {
            return Some(message);
        };
        let [(ticket, _, Question::Transaction(request))] = &questions[..] else {
            return Some(message);
        };
        let response = match word {
            ErrorCode::None => TransactionResponse::Verify(Ok(Partitions::default())),
            refused => request.refused(refused),
        };
        let answers = vec![(*ticket, Answer::Transaction(Box::new(response)))];
        let (from, message) = (STRANGER, CoreMessage::Answer(answers));
        self.inboxes[core].push_back(Input::FromCore { from, message });
        None
    }

    /// Asks a core in the name of one there is not. The answer will be among `answered`.
    pub fn question(&mut self, core: usize, target: Target, question: Question) -> Ticket {
        self.next_slot += 1;
        let ticket = Ticket { core: STRANGER, request: self.next_slot, part: 0 };
        let message = CoreMessage::Ask(vec![(ticket, target, question)]);
        self.inboxes[core].push_back(Input::FromCore { from: STRANGER, message });
        ticket
    }

    /// As [`World::run`], but at most so many operations of disks are carried out. Says `false` if
    /// more were to be.
    pub fn run_steps(&mut self, steps: &mut usize) -> bool {
        loop {
            self.run_without_disks();
            for core in 0..self.disks.len() {
                if self.disks[core].waiting() > 0 && *steps == 0 {
                    return false;
                }
                if let Some(done) = self.disks[core].step() {
                    *steps -= 1;
                    self.inboxes[core].push_back(Input::Disk { done, journal: None });
                }
            }
            if self.inboxes.iter().all(VecDeque::is_empty) {
                return true;
            }
        }
    }

    /// From now on what one core tells another one is kept back.
    pub fn slow_down(&mut self, from: usize, to: usize) {
        assert_eq!(self.slow.replace((from, to)), None, "one slow wire at a time");
    }

    /// What was kept back arrives, in order, and the wire is fast again.
    pub fn speed_up(&mut self) {
        let (_, to) = self.slow.take().expect("a wire was slow");
        self.inboxes[to].extend(self.delayed.drain(..));
        self.run();
    }

    /// Bytes of requests that a core has not answered, and of their answers.
    pub fn open_bytes(&self, core: usize) -> usize {
        self.memories[core].used() + self.memories[core].answers()
    }

    /// The process is asked to stop.
    pub fn ask_to_stop(&mut self) {
        self.inboxes[0].push_back(Input::Stop);
    }

    /// How often a core told a client that it has no memory left.
    pub fn refused_for_memory(&mut self, core: usize) -> u64 {
        self.shards[core].metrics_mut().refused_total(RefusedReason::Memory)
    }

    /// Time passes, and what falls due happens.
    pub fn wait(&mut self, time: Duration) {
        self.pass(time);
        self.run();
    }

    /// Time passes, and the disks stand still.
    pub fn wait_without_disks(&mut self, time: Duration) {
        self.pass(time);
        self.run_without_disks();
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic.after(time);
        self.now.wall = Wall(self.now.wall.0 + time.as_millis() as i64);
    }

    /// Sends a request over the connection of a core.
    pub fn send<T: Request>(
        &mut self,
        core: usize,
        key: ApiKey,
        version: i16,
        request: &T,
    ) -> Awaited {
        self.send_over((core, ConnectionId(core as u64)), key, version, request)
    }

    /// Sends a request over some connection of a core.
    pub fn send_over<T: Request>(
        &mut self,
        (core, connection): (usize, ConnectionId),
        key: ApiKey,
        version: i16,
        request: &T,
    ) -> Awaited {
        let frame = messages::encode_request(key, version, 1, Some("story"), request)
            .expect("the story's request can be written");
        let slot = self.next_slot;
        self.next_slot += 1;
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let frame = BytesMut::from(&frame[4..]);
        self.memories[core].charge(frame.len());
        self.inboxes[core].push_back(Input::Request {
            connection,
            slot,
            listener: 0,
            peer,
            frame,
            answer_bytes: 0,
        });
        Awaited { core, connection, slot }
    }

    /// The answer to a request, if it has come.
    pub fn answer<T: Request>(
        &mut self,
        awaited: Awaited,
        key: ApiKey,
        version: i16,
    ) -> Option<T::Response> {
        let mut frame = self.answers.remove(&awaited)?;
        let payload = frame.split_off(4);
        let (_, response) = messages::decode_response::<T>(key, version, payload)
            .expect("the broker's answer can be read");
        Some(response)
    }

    /// Sends a request and runs until everything is quiet; the answer must be there then.
    pub fn ask<T: Request>(
        &mut self,
        core: usize,
        key: ApiKey,
        version: i16,
        request: &T,
    ) -> T::Response {
        let awaited = self.send(core, key, version, request);
        self.run();
        self.answer::<T>(awaited, key, version).expect("the broker answers")
    }
}

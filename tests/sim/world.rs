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
use flumen_broker::net::connections::ConnectionLimits;
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{CloseReason, ConnectionId, Input};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_broker::telemetry::metrics::RefusedReason;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{CoreId, NodeId};
use flumen_protocol::messages::{self, Request};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::StoreConfig;
use flumen_storage::format::node::NodeRecord;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::sim_disk::SimDisk;
use flumen_storage::store::Store;

/// Bytes of open requests a simulated core may hold.
const MEMORY: usize = 64 << 20;

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

/// A node of several cores.
pub struct World {
    record: NodeRecord,
    options: Arc<Options>,
    pub now: Now,
    shards: Vec<Shard>,
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
    /// The limits for connections that each core was last told.
    pub limits: BTreeMap<usize, ConnectionLimits>,
    /// Connections the broker closed.
    pub closed: Vec<ConnectionId>,
    /// What cores said of their end, in order.
    pub ends: Vec<(usize, End)>,
}

impl World {
    /// A new node of so many cores, serving.
    pub fn new(cores: u16) -> Self {
        Self::with_memory(cores, MEMORY)
    }

    /// The same, each core with this budget of requests.
    pub fn with_memory(cores: u16, memory: usize) -> Self {
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
        let mut world = Self {
            record,
            options: Arc::new(options),
            now: Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) },
            shards: Vec::new(),
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
            limits: BTreeMap::new(),
            closed: Vec::new(),
            ends: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.serving = 0;
        self.starts += 1;
        for core in 0..self.disks.len() {
            let shard = self.open(CoreId(core as u16));
            self.shards.push(shard);
        }
        self.run();
        assert_eq!(self.serving, self.shards.len(), "every core serves");
    }

    fn open(&mut self, core: CoreId) -> Shard {
        let disk = &mut self.disks[usize::from(core.0)];
        let journal = JournalConfig { file_bytes: 1 << 20, ..JournalConfig::default() };
        let identity = self.record.identity(core);
        let mut opening = Store::open(StoreConfig::DEFAULT, journal, identity);
        let mut ops = Vec::new();
        let (store, recovered) = loop {
            opening.next_ops(self.now, &mut ops);
            if ops.is_empty() {
                break opening.finish().expect("recovery without operations is complete");
            }
            for op in ops.drain(..) {
                opening.on_done(disk.carry_out(op), self.now).expect("a sound disk");
            }
        };
        let identity = Identity {
            core,
            cores: self.record.core_count,
            node: self.record.node,
            cluster_id: "simulated".to_owned(),
            options: self.options.clone(),
        };
        let memory = Rc::new(RequestMemory::new(self.memory));
        self.memories[usize::from(core.0)] = memory.clone();
        Shard::open(identity, store, recovered, memory, self.starts, self.now).expect("it opens")
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
            if self.inboxes.iter().all(VecDeque::is_empty) {
                return;
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
        }
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
            Effect::ToCore { to, message } => {
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
            Effect::Halt(error) => panic!("core {core} halts: {error}"),
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

    /// Sends a request over a connection of a core.
    pub fn send<T: Request>(
        &mut self,
        core: usize,
        key: ApiKey,
        version: i16,
        request: &T,
    ) -> Awaited {
        let frame = messages::encode_request(key, version, 1, Some("story"), request)
            .expect("the story's request can be written");
        let connection = ConnectionId(core as u64);
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

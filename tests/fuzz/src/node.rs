//! One core of a broker as plain values: its shard, its disk, its clients' connections.
//!
//! Does: deliver requests as the network would, carry effects out, hold every answer against its
//! request, die and start again.
//! Does not: decide anything a broker decides, or know what clients want.
//! Invariants: every input is delivered in order; a connection that was closed is never used again.
//! Apart because sockets, rings and clocks are replaced by this, and nothing else of the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_broker::config::options::Options;
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{CloseReason, ConnectionId, Input};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{CoreId, NodeId};
use flumen_protocol::messages::{
    self, CreateTopicsResponse, JoinGroupResponse, MetadataResponse, Request,
};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::StoreConfig;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::sim_disk::SimDisk;
use flumen_storage::store::Store;

use crate::targets::headers::IDENTITY;
use crate::typed;

/// Connections at a time.
pub const LANES: usize = 3;
/// Bytes of open requests.
const MEMORY: usize = 4 << 20;
/// A journal that costs little to prepare.
const JOURNAL: JournalConfig =
    JournalConfig { file_bytes: 128 << 10, window_bytes: 2 << 20, commits_in_flight: 1 };
/// More turns than anything here needs.
const TURNS_MAX: usize = 100_000;

/// A request that is not answered yet.
struct Asked {
    /// What it is, if it is whole; garbage is only held against its correlation id.
    api: Option<(ApiKey, i16)>,
    correlation_id: i32,
}

/// What clients learnt from answers and use in their next requests.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// The id of the member that joined last.
    pub member: String,
    /// Its generation.
    pub generation: i32,
    /// Topics' ids.
    pub topics: Vec<[u8; 16]>,
}

/// A core that serves.
pub struct Node {
    options: Arc<Options>,
    now: Now,
    disk: SimDisk,
    shard: Shard,
    memory: Rc<RequestMemory>,
    inbox: VecDeque<Input>,
    is_serving: bool,
    lives: u64,
    open: BTreeMap<(ConnectionId, u64), Asked>,
    lanes: [ConnectionId; LANES],
    next_connection: u64,
    next_slot: u64,
    closing: BTreeSet<ConnectionId>,
    /// What answers said.
    pub learnt: Learnt,
}

impl Node {
    /// Starts on a disk, as it is or new.
    #[must_use]
    pub fn start(mut disk: SimDisk) -> Self {
        let options = options();
        let now = Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) };
        let memory = Rc::new(RequestMemory::new(MEMORY));
        let shard = open(&mut disk, &options, &memory, 1, now);
        let mut node = Self {
            options,
            now,
            disk,
            shard,
            memory,
            inbox: VecDeque::new(),
            is_serving: false,
            lives: 1,
            open: BTreeMap::new(),
            lanes: [ConnectionId(0); LANES],
            next_connection: 0,
            next_slot: 0,
            closing: BTreeSet::new(),
            learnt: Learnt { generation: -1, ..Learnt::default() },
        };
        (0..LANES).for_each(|lane| node.connect(lane));
        node.run();
        assert!(node.is_serving, "it serves");
        node
    }

    /// Its disk, as it is when nothing is under way.
    #[must_use]
    pub fn into_disk(self) -> SimDisk {
        self.disk
    }

    /// The power goes, and comes back.
    pub fn cut_power(&mut self) {
        self.disk.crash();
        self.inbox.clear();
        self.open.clear();
        self.closing.clear();
        self.is_serving = false;
        self.lives += 1;
        self.memory = Rc::new(RequestMemory::new(MEMORY));
        self.shard = open(&mut self.disk, &self.options, &self.memory, self.lives, self.now);
        (0..LANES).for_each(|lane| self.connect(lane));
        self.run();
        assert!(self.is_serving, "it serves again");
    }

    fn connect(&mut self, lane: usize) {
        self.lanes[lane] = ConnectionId(self.next_connection);
        self.next_connection += 1;
    }

    /// Sends a whole request.
    pub fn send(&mut self, lane: usize, key: ApiKey, version: i16, body: &[u8]) {
        let correlation_id = self.next_slot as i32;
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&key.code().to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&correlation_id.to_be_bytes());
        frame.extend_from_slice(b"\0\x04fuzz");
        if key.row().request_is_flexible(version) {
            frame.extend_from_slice(&[0]);
        }
        frame.extend_from_slice(body);
        self.deliver(lane, frame, Asked { api: Some((key, version)), correlation_id });
    }

    /// Sends any bytes.
    pub fn send_garbage(&mut self, lane: usize, bytes: &[u8]) {
        let correlation_id =
            bytes.get(4..8).map_or(0, |id| i32::from_be_bytes([id[0], id[1], id[2], id[3]]));
        self.deliver(lane, BytesMut::from(bytes), Asked { api: None, correlation_id });
    }

    fn deliver(&mut self, lane: usize, frame: BytesMut, asked: Asked) {
        let (connection, slot) = (self.lanes[lane], self.next_slot);
        self.next_slot += 1;
        self.memory.charge(frame.len());
        self.open.insert((connection, slot), asked);
        let peer = "127.0.0.1:1000".parse().expect("an address");
        self.inbox.push_back(Input::Request {
            connection,
            slot,
            listener: 0,
            peer,
            frame,
            answer_bytes: 0,
        });
    }

    /// The client of a lane hangs up, and another one connects.
    pub fn hang_up(&mut self, lane: usize) {
        let connection = self.lanes[lane];
        self.close(connection, CloseReason::ByPeer);
    }

    fn close(&mut self, connection: ConnectionId, reason: CloseReason) {
        let Some(lane) = self.lanes.iter().position(|lane| *lane == connection) else { return };
        let peer = "127.0.0.1:1000".parse().expect("an address");
        self.inbox.push_back(Input::Closed { connection, peer, reason });
        self.open.retain(|(of, _), _| *of != connection);
        self.connect(lane);
    }

    /// Time passes, and what falls due happens.
    pub fn wait(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic.after(time);
        self.now.wall = Wall(self.now.wall.0 + time.as_millis() as i64);
        self.run();
    }

    /// Everything happens that can happen at this time.
    pub fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn();
            for connection in std::mem::take(&mut self.closing) {
                self.close(connection, CloseReason::ByBroker);
            }
            let goes_on = self.shard.next_deadline().is_some_and(|at| at <= self.now.monotonic);
            if goes_on || !self.inbox.is_empty() {
                continue;
            }
            let Some(done) = self.disk.step() else { return };
            self.inbox.push_back(Input::Disk { done, journal: None });
        }
        panic!("the core does not come to rest");
    }

    fn turn(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            self.shard.apply(self.now, input);
        }
        self.shard.go_on_inspecting(self.now);
        self.shard.settle(self.now);
        let mut effects = Vec::new();
        self.shard.take_effects(&mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Disk(op) => self.disk.submit(op),
            Effect::Respond { connection, slot, answer } => {
                let answer = Bytes::from(answer.concat());
                self.memory.recount_answer(answer.len(), 0);
                if let Some(asked) = self.open.remove(&(connection, slot)) {
                    self.take_answer(&asked, answer);
                }
            }
            Effect::CloseAt { connection, .. } | Effect::Close { connection } => {
                self.closing.insert(connection);
            }
            // Nobody waits between the requests of this client.
            Effect::Mute { .. } => {}
            Effect::Serve => self.is_serving = true,
            Effect::LookUpSpace => {
                self.inbox.push_back(Input::FreeSpace { free: 1 << 40, total: 1 << 41 });
            }
            Effect::LimitConnections(_) => {}
            Effect::ToCore { .. } => panic!("a core alone speaks to another"),
            Effect::StopListening | Effect::Stopped => panic!("nobody asked it to stop"),
            Effect::Halt(error) => panic!("it halts on a sound disk: {error}"),
        }
    }

    fn take_answer(&mut self, asked: &Asked, mut answer: Bytes) {
        if answer.is_empty() {
            let api = asked.api.map(|(key, _)| key);
            assert!(api.is_none_or(|key| key == ApiKey::Produce), "{api:?} has no answer");
            return;
        }
        let payload = answer.split_off(4);
        assert_eq!(answer[..], (payload.len() as i32).to_be_bytes(), "the size of the answer");
        assert_eq!(payload[..4], asked.correlation_id.to_be_bytes(), "the answer's request");
        let Some((key, version)) = asked.api else { return };
        typed!(key, is_readable(key, version, payload.clone()));
        self.learn(key, version, payload);
    }

    fn learn(&mut self, key: ApiKey, version: i16, payload: Bytes) {
        if key == ApiKey::JoinGroup {
            let joined: JoinGroupResponse =
                answer::<messages::JoinGroupRequest>(key, version, payload);
            self.learnt.member = joined.member_id.to_string();
            self.learnt.generation = joined.generation_id;
        } else if key == ApiKey::CreateTopics {
            let made: CreateTopicsResponse =
                answer::<messages::CreateTopicsRequest>(key, version, payload);
            let ids = made.topics.iter().map(|topic| topic.topic_id.into_bytes());
            self.learnt.topics.extend(ids);
        } else if key == ApiKey::Metadata {
            let told: MetadataResponse = answer::<messages::MetadataRequest>(key, version, payload);
            let ids = told.topics.iter().map(|topic| topic.topic_id.into_bytes());
            self.learnt.topics.extend(ids.take(8));
        }
        self.learnt.topics.retain(|id| *id != [0; 16]);
        let surplus = self.learnt.topics.len().saturating_sub(8);
        self.learnt.topics.drain(..surplus);
    }

    /// The requests that nobody has answered.
    pub fn unanswered(&self) -> impl Iterator<Item = Option<ApiKey>> {
        self.open.values().map(|asked| asked.api.map(|(key, _)| key))
    }

    /// Bytes of requests that are not answered, and of answers that were not taken.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory.used() + self.memory.answers()
    }
}

/// The broker's settings, made once: reading them takes longer than a request.
fn options() -> Arc<Options> {
    static OPTIONS: OnceLock<Arc<Options>> = OnceLock::new();
    let made = OPTIONS.get_or_init(|| {
        let mut options = Options::default();
        options.group_initial_rebalance_delay_ms = 0;
        options.num_partitions = 2;
        options.offsets_topic_num_partitions = 2;
        options.journal_file_bytes = JOURNAL.file_bytes as i64;
        Arc::new(options)
    });
    made.clone()
}

fn answer<T: Request>(key: ApiKey, version: i16, payload: Bytes) -> T::Response {
    let read = messages::decode_response::<T>(key, version, payload);
    read.expect("the broker's answer can be read").1
}

fn is_readable<T: Request>(key: ApiKey, version: i16, payload: Bytes) {
    let read = messages::decode_response::<T>(key, version, payload);
    assert!(read.is_ok(), "an answer of {key:?} v{version} cannot be read");
}

/// Recovery, then a shard over what it found.
fn open(
    disk: &mut SimDisk,
    options: &Arc<Options>,
    memory: &Rc<RequestMemory>,
    seed: u64,
    now: Now,
) -> Shard {
    let mut opening = Store::open(StoreConfig::DEFAULT, JOURNAL, IDENTITY);
    let mut ops = Vec::new();
    let (store, recovered) = loop {
        opening.next_ops(now, &mut ops);
        if ops.is_empty() {
            break opening.finish().expect("recovery without operations is complete");
        }
        for op in ops.drain(..) {
            opening.on_done(disk.carry_out(op), now).expect("a sound disk");
        }
    };
    let identity = Identity {
        core: CoreId(0),
        cores: 1,
        node: NodeId(1),
        cluster_id: "fuzzed".to_owned(),
        options: options.clone(),
    };
    Shard::open(identity, store, recovered, memory.clone(), seed, now).expect("it opens")
}

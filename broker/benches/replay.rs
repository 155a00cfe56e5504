//! One core, driven by hand: request bytes in, answer bytes out, and a disk that takes everything.
//!
//! Does: turn a [`Shard`] as the pump does (all inputs, one settle, effects out), and answer its
//! disk operations at once.
//! Does not: store what is written, wait, or read any clock: time moves by a step per request.
//! Invariants: nothing here depends on the machine, so the same requests cost the same
//! instructions; what is counted is the core's work and a few dozen instructions per turn of ours.
//! Apart from the simulated world of the tests, whose disk copies what is written.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_broker::config::options::Options;
use flumen_broker::shard::effect::Effect;
use flumen_broker::shard::input::{ConnectionId, Input, JournalWrite};
use flumen_broker::shard::memory::RequestMemory;
use flumen_broker::shard::shard::{Identity, Shard};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{CoreId, NodeId};
use flumen_protocol::messages::{self, Request};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_storage::answers::{Recovered, StoreConfig};
use flumen_storage::error::{DiskError, DiskErrorKind};
use flumen_storage::format::node::NodeRecord;
use flumen_storage::journal::config::JournalConfig;
use flumen_storage::op::{Action, DiskDone, DiskOp, Output};
use flumen_storage::store::Store;

use crate::requests;

/// When the replay begins, in milliseconds since 1970; the records' timestamps as well.
pub const BEGIN_MS: i64 = 1_700_000_000_000;
/// Ten thousand requests a second: chores and settling get their share of what is counted.
const STEP: Duration = Duration::from_micros(100);
/// More than any replay sends.
const MEMORY: usize = 1 << 30;
/// Seed of the core's dice; any will do, as long as it stays.
const SEED: u64 = 42;

/// A core that serves, and what it said last.
pub struct Replay {
    shard: Shard,
    memory: Rc<RequestMemory>,
    now: Now,
    inputs: VecDeque<Input>,
    effects: Vec<Effect>,
    next_slot: u64,
    answered: u64,
    answer: Vec<Bytes>,
}

impl Replay {
    /// A new node of one core, serving.
    pub fn new() -> Self {
        let now = Now { monotonic: Monotonic(1), wall: Wall(BEGIN_MS) };
        let (store, recovered) = empty_store(now);
        let mut options = Options::default();
        options.group_initial_rebalance_delay_ms = 0;
        options.offsets_topic_num_partitions = 1;
        let identity = Identity {
            core: CoreId(0),
            cores: 1,
            node: NodeId(1),
            cluster_id: "replayed".to_owned(),
            options: Arc::new(options),
        };
        let memory = Rc::new(RequestMemory::new(MEMORY));
        let shard = Shard::open(identity, store, recovered, memory.clone(), SEED, now);
        let mut replay = Self {
            shard: shard.expect("an empty folder opens"),
            memory,
            now,
            inputs: VecDeque::new(),
            effects: Vec::new(),
            next_slot: 0,
            answered: 0,
            answer: Vec::new(),
        };
        replay.turn_until_quiet();
        replay
    }

    /// Sends a request and lets everything happen that needs no time.
    pub fn request(&mut self, frame: BytesMut) {
        self.pass(STEP);
        self.memory.charge(frame.len());
        let slot = self.next_slot;
        self.next_slot += 1;
        let peer = ([127, 0, 0, 1], 1000).into();
        self.inputs.push_back(Input::Request {
            connection: ConnectionId(1),
            slot,
            listener: 0,
            peer,
            frame,
            answer_bytes: 0,
        });
        self.turn_until_quiet();
    }

    /// Time passes, and what falls due happens.
    pub fn wait(&mut self, time: Duration) {
        self.pass(time);
        self.turn_until_quiet();
    }

    /// How many requests were answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Sends a request and gives its answer, which must be there at once.
    pub fn ask<T: Request>(&mut self, key: ApiKey, version: i16, request: &T) -> T::Response {
        let before = self.answered;
        self.request(requests::frame(key, version, request));
        assert_eq!(self.answered, before + 1, "{key:?} is answered at once");
        self.last::<T>(key, version)
    }

    /// The last answer, which was one of this API.
    pub fn last<T: Request>(&self, key: ApiKey, version: i16) -> T::Response {
        let payload = Bytes::from(self.answer.concat()).slice(4..);
        let decoded = messages::decode_response::<T>(key, version, payload);
        decoded.expect("the answer can be read").1
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic.after(time);
        self.now.wall = Wall(BEGIN_MS + (self.now.monotonic.0 / 1_000_000) as i64);
    }

    fn turn_until_quiet(&mut self) {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.shard.apply(self.now, input);
            }
            self.shard.settle(self.now);
            let mut effects = std::mem::take(&mut self.effects);
            self.shard.take_effects(&mut effects);
            effects.drain(..).for_each(|effect| self.carry_out(effect));
            self.effects = effects;
            if self.inputs.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Disk(op) => {
                let journal = if let Action::WriteDurable { padded_len, .. } = &op.action {
                    Some(JournalWrite { bytes: *padded_len, took: STEP })
                } else {
                    None
                };
                self.inputs.push_back(Input::Disk { done: accept(op), journal });
            }
            Effect::Respond { answer, .. } => {
                self.memory.recount_answer(answer.iter().map(Bytes::len).sum(), 0);
                self.answered += 1;
                self.answer = answer;
            }
            Effect::LookUpSpace => {
                self.inputs.push_back(Input::FreeSpace { free: 1 << 40, total: 1 << 41 });
            }
            Effect::Serve => {}
            Effect::ToCore { .. }
            | Effect::Mute { .. }
            | Effect::CloseAt { .. }
            | Effect::Close { .. }
            | Effect::LimitConnections(_)
            | Effect::Stopped
            | Effect::StopListening
            | Effect::Halt(_) => panic!("no replay leads to {effect:?}"),
        }
    }
}

/// The store of a new, empty folder.
pub fn empty_store(now: Now) -> (Store, Recovered) {
    let record = NodeRecord {
        cluster: [7; 16],
        node: NodeId(1),
        core_count: 1,
        incarnation: 9,
        taking_over: false,
    };
    let identity = record.identity(CoreId(0));
    let mut opening = Store::open(StoreConfig::DEFAULT, JournalConfig::default(), identity);
    let mut ops = Vec::new();
    loop {
        opening.next_ops(now, &mut ops);
        if ops.is_empty() {
            return opening.finish().expect("an empty folder is sound");
        }
        for op in ops.drain(..) {
            opening.on_done(accept(op), now).expect("the disk takes everything");
        }
    }
}

/// The answer of a disk that takes everything and keeps nothing.
pub fn accept(op: DiskOp) -> DiskDone {
    let result = match op.action {
        Action::Prepare { .. }
        | Action::WriteDurable { .. }
        | Action::Write { .. }
        | Action::Flush
        | Action::Replace { .. }
        | Action::Truncate { .. }
        | Action::Delete => Ok(Output::Done),
        Action::List => Ok(Output::Listing(Vec::new())),
        Action::Size => Ok(Output::Size(None)),
        Action::Read { .. } | Action::ReadAll => {
            let (file, action) = (op.file, op.action.name());
            Err(DiskError { kind: DiskErrorKind::NotFound, file, action })
        }
    };
    DiskDone { id: op.id, result }
}

//! Clients against one core of a broker: whole requests that mean something, damaged ones, garbage,
//! hang-ups, passing time, power cuts.
//!
//! Oracle: the core never panics and never halts; every answer can be read, has its request's number, and
//! comes as soon as nothing is left to do, unless the request is one that waits for others; when all
//! clients are gone, so is the memory their requests took.

use std::sync::OnceLock;
use std::time::Duration;

use flumen_protocol::api_table::{ApiKey, TABLE};
use flumen_protocol::layout::sample::{self, Choices, Filling};
use flumen_storage::sim_disk::SimDisk;

use super::batch;
use crate::draw::Draw;
use crate::node::{LANES, Learnt, Node};

/// How much clients do.
const STEPS_MAX: usize = 40;
/// How much time passes, milliseconds.
const WAITS: [u64; 6] = [1, 10, 500, 7_000, 60_000, 700_000];

/// What clients do, step by step.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (disk, learnt) = lived_in();
    let mut node = Node::start(disk.clone());
    node.learnt = learnt.clone();
    let mut cuts = 0;
    for _ in 0..STEPS_MAX {
        if draw.is_over() {
            break;
        }
        let what = draw.byte();
        let lane = usize::from(what >> 4) % LANES;
        match what & 0xf {
            0..6 => ask(&mut node, lane, &mut draw),
            6 | 7 => ask_for(&mut node, lane, ApiKey::Produce, &mut draw),
            8 => ask_for(&mut node, lane, ApiKey::Fetch, &mut draw),
            9 => ask_for(&mut node, lane, ApiKey::JoinGroup, &mut draw),
            10 => ask_wrongly(&mut node, lane, &mut draw),
            11 => {
                let length = usize::from(draw.byte());
                node.send_garbage(lane, draw.slice(length));
            }
            12 => node.hang_up(lane),
            13 => node.wait(Duration::from_millis(draw.one_of(&WAITS))),
            14 if cuts == 0 => {
                node.cut_power();
                cuts += 1;
            }
            _ => node.run(),
        }
    }
    comes_to_rest(node);
}

fn comes_to_rest(mut node: Node) {
    node.run();
    for key in node.unanswered() {
        let waits = [Some(ApiKey::Fetch), Some(ApiKey::JoinGroup), Some(ApiKey::SyncGroup), None];
        assert!(waits.contains(&key), "{key:?} is not answered");
    }
    (0..LANES).for_each(|lane| node.hang_up(lane));
    node.wait(Duration::from_secs(60));
    assert_eq!(node.memory_bytes(), 0, "nobody is there, and requests take memory");
}

fn ask(node: &mut Node, lane: usize, draw: &mut Draw<'_>) {
    let (key, version) = draw.api();
    let body = sample::body_of(key, version, &mut Words { draw, learnt: &node.learnt.clone() });
    node.send(lane, key, version, &body);
}

fn ask_for(node: &mut Node, lane: usize, key: ApiKey, draw: &mut Draw<'_>) {
    let served = key.row().served;
    let version = served.min + draw.below((served.max - served.min) as usize + 1) as i16;
    let body = sample::body_of(key, version, &mut Words { draw, learnt: &node.learnt.clone() });
    node.send(lane, key, version, &body);
}

/// A request with a byte of it changed, or cut short.
fn ask_wrongly(node: &mut Node, lane: usize, draw: &mut Draw<'_>) {
    let (key, version) = draw.api();
    let mut body = sample::body_of(key, version, &mut Words { draw, learnt: &node.learnt.clone() });
    let place = usize::from(draw.word()) % body.len().max(1);
    let byte = draw.byte();
    if byte < 64 {
        body.truncate(place);
    } else if let Some(target) = body.get_mut(place) {
        *target = byte;
    }
    let mut frame = key.code().to_be_bytes().to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0xff, 0xff]);
    if key.row().request_is_flexible(version) {
        frame.push(0);
    }
    frame.extend(body);
    node.send_garbage(lane, &frame);
}

/// The disk of a broker with a topic, records and committed offsets; and what its clients know.
fn lived_in() -> &'static (SimDisk, Learnt) {
    static LIVED_IN: OnceLock<(SimDisk, Learnt)> = OnceLock::new();
    LIVED_IN.get_or_init(|| {
        let mut node = Node::start(SimDisk::new(1));
        let usual = [
            ApiKey::CreateTopics,
            ApiKey::FindCoordinator,
            ApiKey::Produce,
            ApiKey::OffsetCommit,
            ApiKey::Metadata,
        ];
        for key in usual {
            // Without bytes to draw from every choice is the first.
            let version = key.row().served.max;
            let learnt = node.learnt.clone();
            let mut words = Words { draw: &mut Draw::new(&[]), learnt: &learnt };
            let body = sample::body_of(key, version, &mut words);
            node.send(0, key, version, &body);
            node.run();
        }
        let learnt = node.learnt.clone();
        assert!(!learnt.topics.is_empty(), "there is a topic");
        (node.into_disk(), learnt)
    })
}

/// Fields as a client fills them that knows the broker, and sometimes as one that does not.
struct Words<'w, 'i> {
    draw: &'w mut Draw<'i>,
    learnt: &'w Learnt,
}

const TOPICS: [&str; 10] =
    ["orders", "bills", "new", "a.b", "a_b", "__consumer_offsets", "", "..", "x/y", "späte"];
const GROUPS: [&str; 4] = ["g", "h", "", "connect-g"];
const SETTINGS: [&str; 8] = [
    "retention.ms",
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "flush.ms",
    "log.retention.ms",
    "max.connections",
    "nonsense",
];
const VALUES: [&str; 8] = ["1000", "compact", "delete", "LogAppendTime", "-1", "", "0", "100000"];

impl Words<'_, '_> {
    /// Mostly one of these.
    fn small(&mut self, choices: &[i64]) -> i64 {
        match self.draw.byte() {
            250.. => self.draw.edge(),
            byte => choices[usize::from(byte) % choices.len()],
        }
    }

    fn known(&mut self, words: &[&str]) -> String {
        self.draw.one_of(words).to_owned()
    }
}

impl Choices for Words<'_, '_> {
    fn is_null(&mut self, field: &str) -> bool {
        let is_rare = self.draw.byte() > 200;
        match field {
            "transactional_id" | "group_instance_id" => !is_rare,
            _ => is_rare,
        }
    }

    fn count(&mut self, field: &str) -> usize {
        let usual = usize::from(self.draw.byte());
        match field {
            "assignments" | "broker_ids" | "configs" | "forgotten_topics_data" => usual / 128,
            _ if usual > 250 => usual % 20,
            _ if usual > 220 => 0,
            _ => 1 + usual % 2,
        }
    }

    fn number(&mut self, field: &str) -> i64 {
        match field {
            "partition" | "partitions" | "partition_index" | "partition_indexes" | "index" => {
                self.small(&[0, 1, 2, -1])
            }
            "acks" => self.small(&[-1, 1, 0, 2]),
            "timeout_ms" | "max_wait_ms" => self.small(&[1000, 0, 30_000, -1]),
            "min_bytes" => self.small(&[1, 0, 100, 1 << 20]),
            "max_bytes" | "partition_max_bytes" => self.small(&[1 << 20, 0, 1, 100]),
            "isolation_level" => self.small(&[0, 1]),
            "session_timeout_ms" => self.small(&[10_000, 6_000, 1]),
            "rebalance_timeout_ms" => self.small(&[5_000, 0, -1]),
            "generation_id" | "generation_id_or_member_epoch" => {
                self.small(&[i64::from(self.learnt.generation), -1, 0, 1])
            }
            "num_partitions" | "count" => self.small(&[2, -1, 1, 0, 4]),
            "replication_factor" => self.small(&[1, -1, 3]),
            "replica_id" | "broker_ids" => self.small(&[-1, 1, 2]),
            "resource_type" => self.small(&[2, 4, 1]),
            "session_id" | "session_epoch" => self.small(&[0, -1, 1, 2]),
            "current_leader_epoch" | "leader_epoch" | "last_fetched_epoch" => {
                self.small(&[-1, 0, 1, 2])
            }
            "timestamp" => self.small(&[-1, -2, -3, -4, -5, 1_000]),
            _ => self.small(&[0, 1, 2, 3, -1]),
        }
    }

    fn text(&mut self, field: &str) -> String {
        if self.draw.byte() > 245 {
            return self.draw.text(field);
        }
        match field {
            "topic" | "topics" | "topic_name" | "topic_names" => self.known(&TOPICS),
            "name" if self.draw.byte() > 128 => self.known(&SETTINGS),
            "name" => self.known(&TOPICS),
            "group_id" | "groups" | "groups_names" | "coordinator_keys" | "key" => {
                self.known(&GROUPS)
            }
            "member_id" => self.known(&[&self.learnt.member.clone(), "", "stranger"]),
            "group_instance_id" => self.known(&["one", "two"]),
            "protocol_type" => self.known(&["consumer", "", "connect"]),
            "protocol_name" => self.known(&["range", "", "sticky"]),
            "resource_name" => self.known(&["orders", "1", "", "bills", "2"]),
            "configuration_keys" => self.known(&SETTINGS),
            "value" => self.known(&VALUES),
            _ => self.known(&["", "word", "range"]),
        }
    }

    fn blob(&mut self, field: &str) -> Vec<u8> {
        let what = self.draw.byte();
        match (field, what) {
            (_, 230..) => self.draw.blob(field),
            ("records", _) => records(what, self.draw),
            _ => b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff".to_vec(),
        }
    }

    fn uuid(&mut self, _field: &str) -> [u8; 16] {
        let what = usize::from(self.draw.byte());
        let known = self.learnt.topics.len();
        let id = (known > 0).then(|| self.learnt.topics[what % known.max(1)]);
        id.filter(|_| what < 240).unwrap_or([what as u8; 16])
    }

    fn is_tagged(&mut self, _field: &str) -> bool {
        self.draw.byte() > 220
    }

    fn has_unknown_tag(&mut self) -> bool {
        self.draw.byte() > 250
    }
}

/// What a producer sends: a batch, or nearly one.
fn records(what: u8, draw: &mut Draw<'_>) -> Vec<u8> {
    let mut bytes = batch::sample(1 + what % 3, usize::from(draw.byte()));
    if what & 0x60 == 0x60 {
        let codec = flumen_protocol::batch::codec::Codec::ALL[usize::from(what) % 5];
        bytes = batch::packed(&bytes, codec);
    }
    if what & 0x18 == 0x18 {
        let header = 21..61;
        let place = header.start + draw.below(header.len());
        bytes[place] = draw.byte();
        batch::mend(&mut bytes);
    }
    bytes
}

/// One request of every API, and a small life.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut dice = sample::Dice::new(11);
    let mut chance =
        |count: usize| -> Vec<u8> { (0..count).map(|_| dice.below(200) as u8).collect() };
    let mut seeds: Vec<Vec<u8>> = (0..TABLE.len() as u8)
        .map(|key| [vec![0, key, 0], chance(40), vec![15, 0, key, 3], chance(40)].concat())
        .collect();
    for _ in 0..4 {
        seeds.push(chance(300));
    }
    let body = sample::body(ApiKey::Metadata, 9, Filling::Full, 1);
    seeds.push(
        [&[11, body.len() as u8 + 11, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0][..], &body].concat(),
    );
    seeds
}

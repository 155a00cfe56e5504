//! Requests that are well-formed and meant to hurt: everything here ended the process once, or held
//! it, or could have.
//!
//! Each test sees that the broker answers or hangs up, and that a bystander is still served.

use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::wire::{FETCH, PRODUCE, Wire, framed, request};

/// API keys of this file.
const LIST_OFFSETS: i16 = 2;
const JOIN_GROUP: i16 = 11;
const DESCRIBE_GROUPS: i16 = 15;
const CREATE_TOPICS: i16 = 19;
const OFFSET_DELETE: i16 = 47;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const DESCRIBE_QUORUM: i16 = 55;
const UPDATE_FEATURES: i16 = 57;

struct Scene {
    broker: Broker,
    bystander: Wire,
    _folder: Folder,
}

impl Scene {
    fn set() -> Self {
        let folder = Folder::fresh();
        let broker = Broker::start(&folder);
        let bystander = Wire::connect(broker.address()).expect("a running broker accepts");
        Self { broker, bystander, _folder: folder }
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.broker.address()).expect("the broker still accepts")
    }

    fn still_serves(&mut self, what: &str) {
        assert!(self.bystander.api_versions().is_some(), "after {what}:\n{}", self.broker.said());
    }

    fn create(&mut self, name: &str, configs: &[(&str, &str)]) -> Option<Vec<u8>> {
        let configs = array(configs.iter().map(|(key, value)| [text(key), text(value)].concat()));
        let topic = [text(name), 1_i32.to_be_bytes().to_vec(), vec![0, 1], array([]), configs];
        let body = [array([topic.concat()]), 10_000_i32.to_be_bytes().to_vec(), vec![0]].concat();
        self.wire().ask(&request(CREATE_TOPICS, 2, 1, &body))
    }

    /// Appends records of so many bytes each, one batch after another.
    fn fill(&mut self, topic: &str, batches: usize, bytes: usize) {
        let mut wire = self.wire();
        for _ in 0..batches {
            let answer = wire.ask(&request(PRODUCE, 3, 1, &produced(topic, -1, &batch(bytes))));
            assert_eq!(error_of_partition(&answer.expect("an answer"), topic), 0);
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    let count = i32::try_from(items.len()).expect("a countable array");
    [count.to_be_bytes().to_vec(), items.concat()].concat()
}

/// A batch of one record that is all zeros from its key on, with a right checksum.
fn batch(bytes: usize) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_millis()).expect("a near future");
    let mut summed = vec![0, 0, 0, 0, 0, 0];
    summed.extend(now.to_be_bytes());
    summed.extend(now.to_be_bytes());
    summed.extend([0xff; 14]);
    summed.extend(1_i32.to_be_bytes());
    let mut record = vec![0, 0, 0, 1];
    record.extend(zigzag(bytes));
    record.extend(vec![0; bytes + 1]);
    summed.extend(zigzag(record.len()));
    summed.extend(record);
    let mut rest = vec![0xff, 0xff, 0xff, 0xff, 2];
    rest.extend(crc32c(&summed).to_be_bytes());
    rest.extend(summed);
    let length = i32::try_from(rest.len()).expect("a small batch");
    [vec![0; 8], length.to_be_bytes().to_vec(), rest].concat()
}

fn zigzag(number: usize) -> Vec<u8> {
    let mut left = number << 1;
    let mut bytes = Vec::new();
    while left > 0x7f {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let next = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(u32::MAX, next)
}

/// The body of Produce version 3 for partition 0.
fn produced(topic: &str, acks: i16, batch: &[u8]) -> Vec<u8> {
    let length = i32::try_from(batch.len()).expect("a small batch");
    let records = [&0_i32.to_be_bytes()[..], &length.to_be_bytes(), batch].concat();
    let topic = [text(topic), array([records])].concat();
    [vec![0xff, 0xff], acks.to_be_bytes().to_vec(), 10_000_i32.to_be_bytes().to_vec()]
        .into_iter()
        .chain([array([topic])])
        .collect::<Vec<_>>()
        .concat()
}

/// The body of Fetch version 4 for partition 0 from offset 0.
fn fetched(topic: &str, wait_ms: i32, bytes_min: i32, bytes_max: i32) -> Vec<u8> {
    let partition = [vec![0; 12], bytes_max.to_be_bytes().to_vec()].concat();
    let topic = [text(topic), array([partition])].concat();
    let head = [-1, wait_ms, bytes_min, i32::MAX].map(i32::to_be_bytes).concat();
    [head, vec![0], array([topic])].concat()
}

/// The error of the only partition in an answer of Produce version 3.
fn error_of_partition(answer: &[u8], topic: &str) -> i16 {
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    i16::from_be_bytes([answer[at], answer[at + 1]])
}

#[test]
fn a_fetch_whose_minimum_its_partition_may_not_give_is_answered() {
    let mut scene = Scene::set();
    scene.create("t", &[]).expect("an answer");
    scene.fill("t", 4, 900);
    let body = fetched("t", 2000, 10_000, 1500);
    let answer = scene.wire().ask(&request(FETCH, 4, 1, &body)).expect("an answer");
    assert!(answer.len() > 900, "{} bytes", answer.len());
    scene.still_serves("a fetch that cannot be satisfied");
}

#[test]
fn what_is_refused_may_be_as_long_as_a_string_can_be() {
    let mut scene = Scene::set();
    let long = "z".repeat(32_760);
    assert!(scene.create("a", &[("cleanup.policy", &long)]).is_some());
    assert!(scene.create("b", &[(&long, "1")]).is_some());
    assert!(scene.create(&long, &[]).is_some());
    scene.still_serves("long texts");
}

#[test]
fn every_version_of_list_offsets_can_tell_an_offset() {
    let mut scene = Scene::set();
    scene.create("t", &[]).expect("an answer");
    scene.fill("t", 1, 10);
    for time in [-1_i64, -2, 0, -100, i64::MIN, i64::MAX] {
        let partition = [vec![0; 4], time.to_be_bytes().to_vec()].concat();
        let topic = [text("t"), array([partition])].concat();
        let body = [vec![0xff; 4], array([topic])].concat();
        assert!(scene.wire().ask(&request(LIST_OFFSETS, 1, 1, &body)).is_some(), "time {time}");
    }
    scene.still_serves("times of all kinds");
}

#[test]
fn a_client_that_sends_half_requests_silences_nobody() {
    let mut scene = Scene::set();
    let mut wires = Vec::new();
    let mut half = (90_i32 << 20).to_be_bytes().to_vec();
    half.resize(1 << 20, 0);
    for _ in 0..40 {
        let mut wire = scene.wire();
        wire.send(&half);
        wires.push(wire);
    }
    scene.still_serves("half requests");
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_order() {
    let mut scene = Scene::set();
    let mut sender = scene.wire();
    let all: Vec<u8> = (0..10_000).flat_map(|id| request(3, 1, id, &0_i32.to_be_bytes())).collect();
    assert!(sender.send(&all));
    for id in 0..10_000_i32 {
        let answer = sender.receive().expect("an answer to each");
        assert!(answer.starts_with(&id.to_be_bytes()), "request {id}");
    }
    scene.still_serves("ten thousand requests");
}

#[test]
fn requests_that_name_a_great_many_things_hold_nobody() {
    let mut scene = Scene::set();
    let names = array((0..1_000_000).map(|_| text("z")));
    assert!(scene.wire().ask(&request(DESCRIBE_GROUPS, 0, 1, &names)).is_none());
    scene.still_serves("a million groups");
    let topics = (0..50_000).map(|n| [text(&format!("u{n}")), array([vec![0; 4]])].concat());
    let body = [text("g"), array(topics)].concat();
    assert!(scene.wire().ask(&request(OFFSET_DELETE, 0, 1, &body)).is_some());
    scene.still_serves("fifty thousand unknown topics");
    // Compact from the beginning: no tagged fields, one topic without a name, its partitions.
    let partitions = [vec![0x02, 0x01, 0xc1, 0x9a, 0x0c], vec![0; 5 * 200_000]].concat();
    let body = [vec![0], partitions, vec![0, 0]].concat();
    assert!(scene.wire().ask(&request(DESCRIBE_QUORUM, 2, 1, &body)).is_some());
    scene.still_serves("a quorum of two hundred thousand partitions");
    let settings = (0..100_000).map(|n| [text(&format!("u{n}")), vec![0], text("1")].concat());
    let broker = [vec![4], text(""), array(settings)].concat();
    let body = [array([broker]), vec![0]].concat();
    assert!(scene.wire().ask(&request(INCREMENTAL_ALTER_CONFIGS, 0, 1, &body)).is_some());
    scene.still_serves("a hundred thousand settings of all brokers");
    // No tagged fields, a time-out, and features without a name to level 1 by type 1.
    let features = [[0x01, 0, 1, 1, 0]; 100_000].concat();
    let body = [vec![0, 0, 0, 0x75, 0x30, 0xa1, 0x8d, 0x06], features, vec![0, 0]].concat();
    assert!(scene.wire().ask(&request(UPDATE_FEATURES, 2, 1, &body)).is_some());
    scene.still_serves("a hundred thousand features");
    let protocols = (0..100_000).map(|n| [text(&format!("p{n}")), vec![0; 4]].concat());
    let timeouts = [10_000_i32.to_be_bytes(); 2].concat();
    let names = [text(""), text("consumer"), array(protocols)].concat();
    let body = [text("g"), timeouts, names].concat();
    assert!(scene.wire().ask(&request(JOIN_GROUP, 2, 1, &body)).is_some());
    scene.still_serves("a member of a hundred thousand protocols");
}

#[test]
fn what_was_asked_before_a_refused_request_is_answered() {
    let mut scene = Scene::set();
    scene.create("t", &[]).expect("an answer");
    let mut wire = scene.wire();
    let good = request(PRODUCE, 3, 1, &produced("t", -1, &batch(100)));
    let bad = framed(&[0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 1]);
    assert!(wire.send(&[good, bad].concat()));
    let answer = wire.receive().expect("the answer to the good one");
    assert_eq!(error_of_partition(&answer, "t"), 0);
    assert!(wire.is_hung_up());
    scene.still_serves("a refused request");
}

#[test]
fn batches_no_producer_may_send_are_refused_one_by_one() {
    let mut scene = Scene::set();
    scene.create("t", &[]).expect("an answer");
    let sound = batch(10);
    let changed = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        let crc = crc32c(&bytes[21..]).to_be_bytes();
        bytes[17..21].copy_from_slice(&crc);
        bytes
    };
    let mut crowded = sound[..61].to_vec();
    crowded[8..12].copy_from_slice(&49_i32.to_be_bytes());
    crowded[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    crowded[57..].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c(&crowded[21..]).to_be_bytes();
    crowded[17..21].copy_from_slice(&crc);
    let mut wrong_crc = sound.clone();
    wrong_crc[17] ^= 1;
    let hostile = [
        ("nothing", Vec::new()),
        ("wrong checksum", wrong_crc),
        ("magic 1", changed(16, 1)),
        ("magic 3", changed(16, 3)),
        ("a control batch", changed(22, 0x20)),
        ("a codec nobody knows", changed(22, 7)),
        ("an end before the beginning", changed(23, 0xff)),
        ("no records", changed(60, 0)),
        ("more records than there are", changed(58, 1)),
        ("two billion records in no bytes", crowded),
        ("a producer without epoch", changed(43, 0)),
        ("shorter than its header", changed(11, 1)),
        ("two batches", [&sound[..], &sound].concat()),
        ("a byte too many", [&sound[..], &[0]].concat()),
    ];
    for (what, batch) in hostile {
        let answer = scene.wire().ask(&request(PRODUCE, 3, 1, &produced("t", -1, &batch)));
        assert_ne!(error_of_partition(&answer.expect(what), "t"), 0, "{what}");
        scene.still_serves(what);
    }
    scene.fill("t", 1, 10);
}

#[test]
fn clients_that_take_every_descriptor_do_not_stop_the_disk() {
    let folder = Folder::fresh();
    let broker = Broker::start_with_descriptors(&folder, 300, &["flumen.cores=1"]);
    let mut good = Wire::connect(broker.address()).expect("the first of all");
    let crowd: Vec<Wire> = (0..400).filter_map(|_| Wire::connect(broker.address())).collect();
    assert!(crowd.len() > 200, "connecting is the kernel's affair");
    for number in 0..100 {
        let topic = format!("crowded-{number}");
        assert_eq!(good.create_topic(&topic), Some(0), "{}", broker.said());
        assert_eq!(good.produce(&topic, 1000), Some(0), "{}", broker.said());
    }
    // A stop settles every log: a folder, a segment and an index each.
    assert_eq!(broker.stop().code(), Some(0));
    drop(crowd);
}

#[test]
fn a_batch_that_no_journal_file_holds_is_refused() {
    let mut scene = Scene::set();
    scene.create("large", &[("max.message.bytes", "33554432")]).expect("an answer");
    let ask = |wire: &mut Wire, bytes: usize| {
        let answer = wire.ask(&request(PRODUCE, 3, 1, &produced("large", -1, &batch(bytes))));
        error_of_partition(&answer.expect("an answer"), "large")
    };
    const MESSAGE_TOO_LARGE: i16 = 10;
    assert_eq!(ask(&mut scene.wire(), 17 << 20), MESSAGE_TOO_LARGE);
    scene.still_serves("a batch of 17 MiB");
    assert_eq!(ask(&mut scene.wire(), 15 << 20), 0, "one that fits a file of 16 MiB");
}

#[test]
fn who_comes_again_and_again_does_not_fill_the_log() {
    const TRIES: usize = 500;
    let folder = Folder::fresh();
    let broker = Broker::start_with(&folder, free_port(), &["flumen.cores=1"]);
    for _ in 0..TRIES {
        let mut wire = Wire::connect(broker.address()).expect("a running broker accepts");
        wire.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(wire.is_hung_up());
    }
    let said = broker.said();
    let lines = said.lines().filter(|line| line.contains("closing a connection")).count();
    assert!((1..=TRIES / 10).contains(&lines), "{lines} lines:\n{said}");
}

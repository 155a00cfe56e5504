//! Clients that do not read cost themselves something, and nobody else.
//!
//! Lists of everything are made for each who asks, from requests of a few bytes that are sent a hundred at a time.
//!
//! Old records come from the disk, and each answer has its own copy of them unless another asked for the same a moment
//! ago: what the broker gathers for clients that ask and do not read is what this test measures.

use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::wire::Wire;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "old";
const RECORD_BYTES: usize = 1_000_000;
/// Far more than the broker keeps in memory.
const RECORDS: usize = 96;
const BUDGET: usize = 64 << 20;
/// Each asks for half of what there is, again and again: the kernel takes the first few MiB of the answers.
const SLEEPERS: usize = 40;
const FETCHES: usize = 20;
/// How long after the one before it each begins: who reads the same at the same time shares it.
const APART: Duration = Duration::from_millis(150);
/// What the process needs besides, and what an allocator and the kernel keep of what was freed.
const BESIDES: usize = 128 << 20;

fn broker(folder: &Folder, admin: u16) -> Broker {
    let memory: &str = &format!("flumen.memory.bytes={BUDGET}");
    let admin: &str = &format!("flumen.admin.listener=127.0.0.1:{admin}");
    Broker::start_with(folder, free_port(), &["flumen.cores=1", memory, admin])
}

fn wire(broker: &Broker) -> Wire {
    Wire::connect(broker.address()).expect("a running broker accepts")
}

/// How many clients were disconnected because they did not read.
fn disconnected(admin: u16) -> usize {
    let mut wire = Wire::connect(SocketAddr::from(([127, 0, 0, 1], admin))).expect("an admin port");
    assert!(wire.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let page = String::from_utf8(wire.read_to_end()).expect("text");
    let counted = page.lines().find_map(|line| line.strip_prefix(SLOW_READERS));
    counted.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{page}"))
}

const SLOW_READERS: &str = "flumen_refused_total{reason=\"slow_reader\"}";

#[test]
fn consumers_that_do_not_read_fill_no_memory_and_silence_nobody() {
    let (folder, admin) = (Folder::fresh(), free_port());
    let broker = broker(&folder, admin);
    let mut producer = wire(&broker);
    assert_eq!(producer.create_topic(TOPIC), Some(0));
    for _ in 0..RECORDS {
        assert_eq!(producer.produce(TOPIC, RECORD_BYTES), Some(0));
    }
    let offsets: Vec<i64> = (0..RECORDS as i64 / 2).collect();
    let before = broker.resident_bytes();
    let mut highest = before;
    let mut sleepers: Vec<Wire> = (0..SLEEPERS).map(|_| wire(&broker)).collect();
    for sleeper in &mut sleepers {
        for _ in 0..FETCHES {
            assert!(sleeper.begin_fetch(TOPIC, &offsets));
        }
        thread::sleep(APART);
        highest = highest.max(broker.resident_bytes());
    }
    let begin = Instant::now();
    let reader = {
        let mut reader = wire(&broker);
        thread::spawn(move || {
            // A fetch may wait for those before it to be given up; a wire waits for ten seconds.
            for _ in 0..5 {
                assert!(reader.begin_fetch(TOPIC, &offsets));
                let answer = (0..6).find_map(|_| reader.receive());
                assert!(answer.expect("records").len() > RECORD_BYTES);
            }
        })
    };
    while !reader.is_finished() {
        highest = highest.max(broker.resident_bytes());
        assert!(begin.elapsed() < Duration::from_secs(120), "the reader waits for ever");
        assert_eq!(producer.produce(TOPIC, 100), Some(0), "others go on");
        thread::sleep(Duration::from_millis(20));
    }
    reader.join().expect("a reader that reads gets its records");
    assert!(highest < BUDGET + BESIDES, "{before} bytes before, {highest} at most");
    assert!(disconnected(admin) > 0, "who does not read made room");
}

/// An answer about all of them has a quarter of a MiB.
const PARTITIONS: i32 = 10_000;
/// Far more for each client than is served at once, and than the kernel takes.
const LISTINGS: usize = 1_000;
/// How often who reads asks meanwhile.
const ROUNDS: usize = 50;

#[test]
fn listings_that_nobody_reads_fill_no_memory_and_silence_nobody() {
    let folder = Folder::fresh();
    let broker = broker(&folder, free_port());
    let mut producer = wire(&broker);
    assert_eq!(producer.create_topic_of("wide", PARTITIONS), Some(0));
    assert_eq!(producer.create_topic(TOPIC), Some(0));
    assert_eq!(producer.produce(TOPIC, 100), Some(0));
    let before = broker.resident_bytes();
    let mut highest = before;
    let mut sleepers: Vec<Wire> = (0..SLEEPERS).map(|_| wire(&broker)).collect();
    for sleeper in &mut sleepers {
        assert!(sleeper.begin_listing(LISTINGS));
    }
    let reader = {
        let mut reader = wire(&broker);
        thread::spawn(move || {
            for _ in 0..ROUNDS {
                assert!(reader.begin_listing(1));
                let answer = (0..3).find_map(|_| reader.receive());
                assert!(answer.expect("a list").len() > PARTITIONS as usize * 20);
                assert!(reader.begin_fetch(TOPIC, &[0]));
                assert!((0..3).find_map(|_| reader.receive()).is_some(), "records");
                thread::sleep(APART);
            }
        })
    };
    while !reader.is_finished() {
        highest = highest.max(broker.resident_bytes());
        assert_eq!(producer.produce(TOPIC, 100), Some(0), "others go on");
        thread::sleep(Duration::from_millis(20));
    }
    reader.join().expect("who reads gets lists and records");
    assert!(highest - before < BUDGET, "{before} bytes before, {highest} at most");
}

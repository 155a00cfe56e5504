//! A process that may open few files refuses what is new and keeps what it has.
//!
//! Does: start a broker with hardly any descriptors, ask it for topics and connections until it refuses, kill it, and read
//! everything it acknowledged with no more descriptors than before.
//! Does not: say which number is enough; a broker that will not start with it must say what to do.
//! Invariants: nothing acknowledged is lost; who was served goes on being served.
//! Apart because a limit belongs to a process and is set before it starts.

use flumen_tests::broker::{Broker, Folder, START_WITHIN};
use flumen_tests::wire::Wire;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Topics asked for: more than there are descriptors.
const TOPICS: usize = 300;
const RECORDS_EACH: i64 = 2;
/// Connections asked for besides.
const CROWD: usize = 400;
/// So few that a start may fail; then it must say why.
const HARDLY_ANY: u32 = 64;

fn limited(count: u32) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={count}:{count}"));
    command
}

/// Where a topic ends. Just after a start a leader may not know it yet.
fn end_offset(broker: &Broker, topic: &str) -> i64 {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        let end = Wire::connect(broker.address()).and_then(|mut wire| wire.end_offset(topic));
        if let Some(offset) = end {
            return offset;
        }
        assert!(Instant::now() < deadline, "no end of {topic}:\n{}", broker.said());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_acknowledged_with_few_descriptors_is_read_with_few() {
    let folder = Folder::fresh();
    let broker = Broker::start_under(limited(256), &folder, &["flumen.cores=1"]);
    let mut good = Wire::connect(broker.address()).expect("the first of all");
    let mut kept = Vec::new();
    let mut crowd = Vec::new();
    for number in 0..TOPICS {
        let topic = format!("kept-{number}");
        let created = good.create_topic(&topic).expect("an answer, if only an error");
        if created == 0 {
            let acked = (0..RECORDS_EACH).filter(|_| good.produce(&topic, 500) == Some(0)).count();
            kept.push((topic, acked as i64));
        }
        // Connections press on the same limit meanwhile.
        crowd.extend((0..CROWD / TOPICS + 1).filter_map(|_| Wire::connect(broker.address())));
    }
    let acked: i64 = kept.iter().map(|(_, acked)| acked).sum();
    assert!(acked > 100, "{acked} records of {} topics:\n{}", kept.len(), broker.said());
    assert!(good.api_versions().is_some(), "who was there first is still served");
    drop(crowd);
    broker.kill();
    let broker = Broker::start_under(limited(256), &folder, &["flumen.cores=1"]);
    for (topic, acked) in &kept {
        let end = end_offset(&broker, topic);
        assert!(end >= *acked, "{topic}: {acked} acknowledged, {end} there");
    }
}

#[test]
fn with_hardly_any_descriptors_it_serves_or_says_why_not() {
    let folder = Folder::fresh();
    let mut broker = Broker::launch_under(limited(HARDLY_ANY), &folder, &["flumen.cores=1"]);
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Some(status) = broker.ended() {
            let said = broker.said();
            assert_eq!(status.code(), Some(1), "an error, not a crash: {status}\n{said}");
            assert!(said.contains("ulimit -n"), "{said}");
            return;
        }
        if let Some(mut wire) = Wire::connect(broker.address())
            && wire.api_versions().is_some()
        {
            assert_eq!(wire.create_topic("one"), Some(0), "{}", broker.said());
            assert_eq!(wire.produce("one", 100), Some(0), "{}", broker.said());
            break;
        }
        assert!(Instant::now() < deadline, "neither served nor ended:\n{}", broker.said());
        thread::sleep(Duration::from_millis(20));
    }
    broker.kill();
}

//! Changes that a client sends one after another without waiting for the answers.
//!
//! Does: pipeline changes of one topic, each of which makes sense only after the one before.
//! Does not: look at what a single change does.
//! Invariants: on one connection a request sees what the requests before it have changed.
//! Apart because no client library does it, and scripts do.

use flumen_tests::broker::{Broker, Folder};
use flumen_tests::wire::{Wire, request};

const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const CREATE_PARTITIONS: i16 = 37;

/// The topic of every request here, as a string of the protocol.
const TOPIC: &[u8] = b"\0\x05topic";
/// Ten seconds.
const TIMEOUT: &[u8] = &10_000_i32.to_be_bytes();
/// The length of a list of one, and the count of partitions at first.
const ONE: &[u8] = &1_i32.to_be_bytes();

fn create() -> Vec<u8> {
    let nothing = [0; 4];
    let topic = [TOPIC, ONE, &[0, 1], &nothing, &nothing].concat();
    request(CREATE_TOPICS, 2, 1, &[ONE, &topic, TIMEOUT, &[0]].concat())
}

fn grow(count: i32) -> Vec<u8> {
    let (count, null) = (count.to_be_bytes(), [0xff; 4]);
    request(CREATE_PARTITIONS, 0, 1, &[ONE, TOPIC, &count, &null, TIMEOUT, &[0]].concat())
}

fn delete() -> Vec<u8> {
    request(DELETE_TOPICS, 1, 1, &[ONE, TOPIC, TIMEOUT].concat())
}

#[test]
fn a_change_sees_the_one_before_it_on_its_connection() {
    let folder = Folder::fresh();
    let broker = Broker::start(&folder);
    let mut wire = Wire::connect(broker.address()).expect("a running broker accepts");
    let changes = [create(), grow(3), delete(), create(), delete(), create(), grow(2)];
    assert!(wire.send(&changes.concat()));
    for place in 0..changes.len() {
        let answer = wire.receive().expect("an answer");
        // Correlation, throttle time and the count of topics come before the topic.
        let (_, after) = answer.split_at(4 + 4 + 4 + TOPIC.len());
        assert_eq!(after[..2], [0, 0], "change {place}");
    }
}

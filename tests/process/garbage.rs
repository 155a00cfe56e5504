//! Whatever arrives on the socket, the connection pays for it and nobody else does.
//!
//! `FLUMEN_TEST_ADDR=host:port` runs these against a broker that is already there, such as Apache Kafka: that is how they
//! are known to ask nothing unusual.

use flumen_tests::broker::{Broker, Folder};
use flumen_tests::wire::{
    API_VERSIONS, FETCH, METADATA, PRODUCE, Wire, framed, parse_api_versions, request,
};
use std::net::SocketAddr;

const UNSUPPORTED_VERSION: i16 = 35;

/// A broker to be rude to, and a polite client that was there before.
struct Scene {
    address: SocketAddr,
    bystander: Wire,
    _own: Option<(Broker, Folder)>,
}

impl Scene {
    fn set() -> Self {
        let own = std::env::var("FLUMEN_TEST_ADDR").err().map(|_| {
            let folder = Folder::fresh();
            (Broker::start(&folder), folder)
        });
        let address = own.as_ref().map_or_else(
            || std::env::var("FLUMEN_TEST_ADDR").expect("set").parse().expect("host:port"),
            |(broker, _)| broker.address(),
        );
        let bystander = Wire::connect(address).expect("a running broker accepts");
        Self { address, bystander, _own: own }
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.address).expect("the broker still accepts")
    }

    /// Sends the bytes on a connection of their own, and sees that it is hung up on.
    fn is_refused(&mut self, what: &str, bytes: &[u8]) {
        let mut wire = self.wire();
        wire.send(bytes);
        assert!(wire.is_hung_up(), "{what}: the connection stays open");
        self.still_serves(what);
    }

    fn still_serves(&mut self, what: &str) {
        let newcomer = self.wire().api_versions();
        assert!(newcomer.is_some_and(|served| served.error == 0), "after {what}: a newcomer");
        let known = self.bystander.api_versions();
        assert!(known.is_some_and(|served| served.error == 0), "after {what}: the bystander");
    }
}

#[test]
fn other_protocols_are_hung_up_on() {
    let mut scene = Scene::set();
    scene.is_refused("HTTP", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n");
    scene.is_refused("TLS", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0]);
    scene.is_refused("SSH", b"SSH-2.0-OpenSSH_9.2\r\n");
    scene.is_refused("text", b"\r\n\r\n\r\n\r\n");
}

#[test]
fn impossible_sizes_are_hung_up_on_without_waiting_for_their_bytes() {
    let mut scene = Scene::set();
    scene.is_refused("size -1", &(-1_i32).to_be_bytes());
    scene.is_refused("smallest size", &i32::MIN.to_be_bytes());
    scene.is_refused("largest size", &i32::MAX.to_be_bytes());
    scene.is_refused("1 GiB", &(1_i32 << 30).to_be_bytes());
}

#[test]
fn frames_too_short_for_a_header_are_hung_up_on() {
    let mut scene = Scene::set();
    scene.is_refused("an empty frame", &framed(&[]));
    for length in [1, 2, 4, 7, 9] {
        let whole = request(METADATA, 1, 1, &[]);
        scene.is_refused("part of a header", &framed(&whole[4..4 + length]));
    }
    let mut id_too_long = whole_header(METADATA, 1);
    id_too_long.extend(1000_i16.to_be_bytes());
    scene.is_refused("a client id beyond the frame", &framed(&id_too_long));
}

#[test]
fn a_frame_that_never_ends_hurts_nobody() {
    let mut scene = Scene::set();
    let frame = request(METADATA, 1, 1, &0_i32.to_be_bytes());
    for length in 1..frame.len() {
        let mut wire = scene.wire();
        wire.send(&frame[..length]);
        wire.finish();
        assert!(wire.is_hung_up(), "{length} bytes: there is nothing left to wait for");
    }
    scene.still_serves("half frames");
}

#[test]
fn unknown_apis_and_versions_are_hung_up_on() {
    let mut scene = Scene::set();
    for key in [9999, -1, i16::MAX, i16::MIN] {
        scene.is_refused("an unknown API", &request(key, 0, 1, &[]));
    }
    for key in [PRODUCE, FETCH, METADATA] {
        scene.is_refused("version 99", &request(key, 99, 1, &[]));
        scene.is_refused("version -1", &request(key, -1, 1, &[]));
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let scene = Scene::set();
    let mut wire = scene.wire();
    // Flexible header, as a client of the future would send it: tagged fields after the client id.
    let mut inner = whole_header(API_VERSIONS, 99);
    inner.extend([0, 0, 0]);
    let answer = wire.ask(&framed(&inner)).expect("an answer, since this is how clients find out");
    let served = parse_api_versions(&answer, 1).expect("the layout of version 0");
    assert_eq!(served.error, UNSUPPORTED_VERSION);
    assert!(
        served.ranges.iter().any(|range| range.0 == API_VERSIONS && range.2 >= 3),
        "{served:?}"
    );
    assert!(wire.api_versions().is_some(), "and the connection goes on");
}

#[test]
fn counts_that_claim_more_than_there_is_are_refused_before_memory_is_taken() {
    let mut scene = Scene::set();
    let huge = i32::MAX.to_be_bytes();
    scene.is_refused("topics of Metadata", &request(METADATA, 1, 1, &huge));
    scene.is_refused(
        "compact topics of Metadata",
        &flexible(METADATA, 9, &[0xff, 0xff, 0xff, 0xff, 0x07]),
    );
    // Produce 3: no transactional id, acks -1, timeout, topics
    let produce = [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30][..], &huge].concat();
    scene.is_refused("topics of Produce", &request(PRODUCE, 3, 1, &produce));
    // Fetch 4: replica, max wait, min bytes, max bytes, isolation, topics
    let fetch = [&[0xff; 4][..], &[0, 0, 0, 1], &[0, 0, 0, 1], &[0, 1, 0, 0], &[0], &huge].concat();
    scene.is_refused("topics of Fetch", &request(FETCH, 4, 1, &fetch));
    scene.is_refused("a varint without end", &flexible(METADATA, 9, &[0xff; 12]));
}

#[test]
fn a_negative_count_is_answered_or_refused_but_hurts_nobody() {
    let mut scene = Scene::set();
    for count in [-2_i32, i32::MIN] {
        // Kafka reads it as "all topics"; hanging up is as good
        let answer = scene.wire().ask(&request(METADATA, 1, 1, &count.to_be_bytes()));
        assert!(answer.is_none_or(|frame| frame.starts_with(&1_i32.to_be_bytes())));
        scene.still_serves("a negative count");
    }
}

#[test]
fn what_was_asked_before_the_garbage_is_answered() {
    let mut scene = Scene::set();
    let mut wire = scene.wire();
    let polite = request(API_VERSIONS, 0, 7, &[]);
    assert!(wire.send(&[&polite[..], &polite, &(-1_i32).to_be_bytes()].concat()));
    for _ in 0..2 {
        let answer = wire.receive().expect("the answer to what came first");
        assert!(parse_api_versions(&answer, 7).is_some());
    }
    assert!(wire.is_hung_up());
    scene.still_serves("garbage after requests");
}

#[test]
fn who_has_said_everything_is_answered_all_the_same() {
    let mut scene = Scene::set();
    let mut wire = scene.wire();
    // More than are served at once, and at last the beginning of one more.
    const ASKED: i32 = 300;
    for id in 0..ASKED {
        assert!(wire.send(&request(API_VERSIONS, 0, id, &[])));
    }
    assert!(wire.send(&request(API_VERSIONS, 0, ASKED, &[])[..7]));
    wire.finish();
    for id in 0..ASKED {
        let answer = wire.receive().expect("an answer, as to printf | nc");
        assert!(parse_api_versions(&answer, id).is_some());
    }
    assert!(wire.is_hung_up(), "half a request has no answer");
    scene.still_serves("a client that only listens");
}

#[test]
fn noise_hurts_nobody() {
    let mut scene = Scene::set();
    let mut noise = Noise(0x5eed);
    for round in 0..300_i16 {
        let body: Vec<u8> = (0..noise.below(400)).map(|_| noise.byte()).collect();
        let mut wire = scene.wire();
        match round % 3 {
            0 => wire.send(&body),
            1 => wire.send(&request(round % 80, i16::from(noise.byte() % 14), 1, &body)),
            _ => wire.send(&flexible(round % 80, i16::from(noise.byte() % 14), &body)),
        };
        wire.finish();
        if round % 20 == 0 {
            scene.still_serves("noise");
        }
    }
    scene.still_serves("noise");
}

/// Key, version and correlation id 1; what follows in a header is up to the caller.
fn whole_header(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &1_i32.to_be_bytes()].concat()
}

/// A request with the flexible header: an empty client id and no tagged fields.
fn flexible(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    framed(&[&whole_header(key, version)[..], &[0, 0, 0], body].concat())
}

/// A small generator with a fixed seed: the same noise each time.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        // Knuth's multiplier; the upper bits are the good ones
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0.to_be_bytes()[0]
    }

    fn below(&mut self, limit: u16) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()]) % limit
    }
}

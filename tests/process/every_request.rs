//! Every request that is advertised, in every version, sound and damaged: cut short, with lies for counts and lengths, and
//! followed by what nobody asked for.
//!
//! Does: see that each is answered or hung up on, that others are served meanwhile, and that memory stays where it was.
//! Does not: judge what an answer says.
//! Invariants: a frame says its own length rightly, so that the broker never has a reason to wait.
//! Apart because it is made from the tables of all requests, where `garbage.rs` and `hostile.rs` are written by hand.

use flumen_protocol::api_table::{ApiRow, row};
use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::forged::{bare, damaged, frame, full};
use flumen_tests::wire::{FETCH, Wire};
use std::net::SocketAddr;
use std::thread;

const JOIN_GROUP: i16 = 11;
const SYNC_GROUP: i16 = 14;
/// Requests that may wait for something to happen. Who has said everything is heard out for five seconds.
const PATIENT: [i16; 3] = [FETCH, JOIN_GROUP, SYNC_GROUP];
/// Clients at work at the same time: where one waits, others go on.
const CLIENTS: usize = 4;
/// In versions between, one place in so many is lied about; in the first, the last and the first compact one, all.
const EVERY: usize = 9;
/// More than this above what it had at first would be a leak, or believing a lie.
const GROWTH_MAX: usize = 96 << 20;
const BUDGET: &str = "flumen.memory.bytes=67108864";

/// Who asks, and how many requests it has sent.
struct Attacker {
    address: SocketAddr,
    wire: Option<Wire>,
    sent: i32,
}

impl Attacker {
    /// Sends one request, which must be answered in its turn, or end the connection.
    fn sends(&mut self, row: &ApiRow, version: i16, body: &[u8]) {
        self.sent += 1;
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::connect(self.address).expect("the broker still accepts"),
        };
        let frame = frame(row, version, self.sent, body);
        let sent = wire.send(&frame);
        let patient = PATIENT.contains(&row.key.code());
        if patient {
            wire.finish();
        }
        match wire.receive() {
            Some(answer) => {
                let own = answer.starts_with(&self.sent.to_be_bytes());
                assert!(own, "{} {version}: an answer to another request, to {body:?}", row.name);
                self.wire = (!patient).then_some(wire);
            }
            None => {
                let ended = !sent || wire.is_hung_up();
                assert!(ended, "{} {version}: silence after {body:?}", row.name);
            }
        }
    }

    /// Everything there is to try with one version.
    fn tries(&mut self, row: &ApiRow, version: i16) {
        let turning = [row.served.min, row.served.max, row.flexible_since.unwrap_or(i16::MAX)];
        let every = if turning.contains(&version) { 1 } else { EVERY };
        // Each version begins elsewhere, so that together they touch every place.
        let first = if every == 1 { 0 } else { version.unsigned_abs() as usize % every };
        for body in [full(row, version), bare(row, version)] {
            self.sends(row, version, &body);
        }
        for body in damaged(&full(row, version), first, every) {
            self.sends(row, version, &body);
        }
    }
}

#[test]
fn every_request_that_lies_is_answered_or_hung_up_on() {
    let folder = Folder::fresh();
    let options = [BUDGET, "group.initial.rebalance.delay.ms=0"];
    let broker = Broker::start_with(&folder, free_port(), &options);
    let mut bystander = Wire::connect(broker.address()).expect("a running broker accepts");
    let advertised = bystander.api_versions().expect("an answer").ranges;
    let before = broker.resident_bytes();
    let works: Vec<(&ApiRow, i16)> = advertised
        .iter()
        .flat_map(|(key, min, max)| {
            let row = row(*key).expect("what is advertised has a table");
            (*min..=*max).map(move |version| (row, version))
        })
        .collect();
    assert!(works.len() > 150, "too few versions to be all: {}", works.len());
    for of_one_key in works.chunk_by(|(one, _), (other, _)| one.key == other.key) {
        let name = of_one_key[0].0.name;
        thread::scope(|scope| {
            for part in 0..CLIENTS {
                let mut attacker = Attacker { address: broker.address(), wire: None, sent: 0 };
                scope.spawn(move || {
                    for (row, version) in of_one_key.iter().skip(part).step_by(CLIENTS) {
                        attacker.tries(row, *version);
                    }
                });
            }
        });
        let served = bystander.api_versions();
        assert!(served.is_some_and(|served| served.error == 0), "after {name}:\n{}", broker.said());
        let now = broker.resident_bytes();
        assert!(now < before + GROWTH_MAX, "{name}: {before} bytes before, {now} after");
    }
    assert_eq!(bystander.create_topic("after-all-that"), Some(0));
    assert_eq!(bystander.produce("after-all-that", 100), Some(0));
}

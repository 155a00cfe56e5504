//! Attacks by connecting: crowds, slowness, storms, other protocols, and requests that are not what they say.
//!
//! Does: hold or make connections at a rate of its own.
//! Does not: wait for answers, but where a connection could not be held without.
//! Invariants: at most [`Target::crowd`] connections of each kind at a time; writes never block.
//! Apart from the other attacks because these need no sound request.

use flumen_tests::wire::{API_VERSIONS, request};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Target;
use crate::pace::{Pace, Until, crowd};

/// How fast a crowd gathers, and how many of its members say a byte, a second.
const GATHERING: u32 = 1_500;
/// New connections a second of a storm.
const STORM: u32 = 1_000;
const STRANGERS: u32 = 200;
const FORGERIES: u32 = 1_000;
/// Requests that announce much and send some of it, held at a time.
const HALVES: usize = 40;
const HALF_BYTES: usize = 1 << 20;
/// Enough for an answer to have been there.
const GLANCE: Duration = Duration::from_millis(20);

/// What speaks something else: HTTP, TLS, SSH, a terminal, a length nobody may ask for.
const OTHERS: [&[u8]; 6] = [
    b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0],
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\r\n\r\n\r\n\r\n",
    &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1, 0, 0, 0, 1],
    &[0xff, 0xff, 0xff, 0xff, 0, 3, 0, 1, 0, 0, 0, 1],
];

fn connect(target: &Target) -> Option<TcpStream> {
    TcpStream::connect_timeout(&target.address, Duration::from_secs(2)).ok()
}

/// Ten thousand clients whose request never ends: a byte from each every few seconds.
pub fn slow(target: &Target, until: Until) -> u64 {
    let begun = [&60_000_i32.to_be_bytes()[..], &[0, 3, 0, 1, 0, 0, 0, 1, 0, 0]].concat();
    let join = || {
        let mut stream = connect(target)?;
        stream.set_nonblocking(true).ok()?;
        stream.write_all(&begun).ok()?;
        Some(stream)
    };
    let mut pace = Pace::new(GATHERING, until);
    let (mut crowd, mut place, mut joined) = (Vec::new(), 0, 0);
    while pace.turn().is_some() {
        if crowd.len() < target.crowd {
            crowd.extend(join());
            joined += 1;
        }
        let Some(member) = crowd.get_mut(place) else {
            place = 0;
            continue;
        };
        let said = member.write(&[0]);
        if said.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            drop(crowd.swap_remove(place));
        }
        place += 1;
    }
    joined
}

/// Ten thousand clients that have asked once and now only hold their connection.
pub fn idle(target: &Target, until: Until) -> u64 {
    let mut pace = Pace::new(GATHERING, until);
    let asked = request(API_VERSIONS, 0, 1, &[]);
    let mut crowd = Vec::new();
    while pace.turn().is_some() && crowd.len() < target.crowd {
        let Some(mut stream) = connect(target) else { continue };
        if stream.write_all(&asked).is_ok() {
            crowd.push(stream);
        }
    }
    until.sleep(Duration::MAX);
    crowd.len() as u64
}

/// Clients that come and go, every second one without a word.
pub fn storm(target: &Target, until: Until) -> u64 {
    let mut pace = Pace::new(STORM, until);
    let asked = request(API_VERSIONS, 0, 1, &[]);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut stream) = connect(target) else { continue };
        count += 1;
        if count % 2 == 0 {
            let _ = stream.write_all(&asked);
        }
    }
    count
}

/// Clients of something else.
pub fn strangers(target: &Target, until: Until) -> u64 {
    let mut pace = Pace::new(STRANGERS, until);
    let mut count = 0;
    while pace.turn().is_some() {
        let Some(mut stream) = connect(target) else { continue };
        let _ = stream.write_all(OTHERS[count as usize % OTHERS.len()]);
        count += 1;
    }
    count
}

/// Every request of every version, damaged in every way, again and again.
pub fn forgeries(target: &Target, until: Until) -> u64 {
    let mut pace = Pace::new(FORGERIES, until);
    let mut count = 0;
    let mut scrap = [0; 4096];
    while pace.turn().is_some() {
        let Some(mut stream) = connect(target) else { continue };
        let _ = stream.write_all(&target.forged[count as usize % target.forged.len()]);
        count += 1;
        // Some want to know, the others are gone before there is an answer.
        if count % 16 == 0 && stream.set_read_timeout(Some(GLANCE)).is_ok() {
            let _ = stream.read(&mut scrap);
        }
    }
    count
}

/// Requests of ninety mebibytes of which one comes.
pub fn halves(target: &Target, until: Until) -> u64 {
    let mut half = (90_i32 << 20).to_be_bytes().to_vec();
    half.extend([0, 0, 0, 3]); // Produce
    half.resize(HALF_BYTES, 0);
    crowd(until, HALVES, 20, || {
        let mut stream = connect(target)?;
        // The broker takes as much as it has room for.
        if stream.set_nonblocking(true).is_ok() {
            let _ = stream.write(&half);
        }
        Some(stream)
    })
}

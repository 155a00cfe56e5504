//! No request waits for a wake-up that never comes (architecture D11).
//!
//! The executor can put a core to sleep although it has work to do, the more easily the more often the process is
//! taken off its processor. A guard timer bounds what that costs; these tests take the processor away in both ways
//! there are and look at every single durable write.

use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::wire::Wire;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "echo";
/// How long each test writes.
const LASTS: Duration = Duration::from_secs(4);
/// A lost wake-up costs a millisecond while somebody waits. The rest of the bound is for machines that are busy with
/// other things than this test; a hang without the guard lasts for good.
const STALL_MAX: Duration = Duration::from_millis(1500);

/// A process that does nothing as fast as it can, on one processor.
struct Spinner(Child);

impl Spinner {
    fn on(processor: &str) -> Self {
        let spin = ["-c", processor, "sh", "-c", "while :; do :; done"];
        let child = Command::new("taskset").args(spin).stdin(Stdio::null()).spawn();
        Self(child.expect("taskset can be run"))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processor that a broker with one core runs on: the first one it may use.
fn first_processor() -> String {
    let status =
        fs::read_to_string("/proc/self/status").expect("the kernel's word on this process");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.expect("the processors this process may use").trim();
    list.split(['-', ',']).next().unwrap_or("0").to_owned()
}

fn broker_on_one_core(folder: &Folder) -> Broker {
    let broker =
        Broker::start_with(folder, free_port(), &["flumen.cores=1", "flumen.cores.pinned=true"]);
    let mut wire = Wire::connect(broker.address()).expect("a running broker accepts");
    assert_eq!(wire.create_topic(TOPIC), Some(0));
    assert_eq!(wire.produce(TOPIC, 1024), Some(0), "the first record");
    broker
}

/// Writes durably, one record in flight: how many there were, and how long the slowest took.
fn write_for(address: SocketAddr, lasts: Duration) -> (usize, Duration) {
    let mut wire = Wire::connect(address).expect("a running broker accepts");
    let (begin, mut count, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while begin.elapsed() < lasts {
        let asked = Instant::now();
        assert_eq!(wire.produce(TOPIC, 1024), Some(0), "record {count} was not acknowledged");
        longest = longest.max(asked.elapsed());
        count += 1;
    }
    (count, longest)
}

#[test]
fn a_busy_processor_delays_a_write_by_no_more_than_the_guard() {
    let folder = Folder::fresh();
    let broker = broker_on_one_core(&folder);
    let spinner = Spinner::on(&first_processor());
    let (count, longest) = write_for(broker.address(), LASTS);
    drop(spinner);
    assert!(longest < STALL_MAX, "one of {count} writes took {longest:?}");
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    const STOPPED: Duration = Duration::from_millis(50);
    let folder = Folder::fresh();
    let broker = broker_on_one_core(&folder);
    let address = broker.address();
    let writer = thread::spawn(move || write_for(address, LASTS));
    while !writer.is_finished() {
        thread::sleep(STOPPED);
        broker.freeze();
        thread::sleep(STOPPED);
        broker.thaw();
    }
    let (count, longest) = writer.join().expect("every write is acknowledged");
    assert!(longest < STALL_MAX + STOPPED, "one of {count} writes took {longest:?}");
}

#[test]
fn how_often_the_guard_was_needed_is_a_metric() {
    let folder = Folder::fresh();
    let admin = free_port();
    let listener = format!("flumen.admin.listener=127.0.0.1:{admin}");
    let broker = Broker::start_with(&folder, free_port(), &[&listener]);
    let mut wire = Wire::connect(SocketAddr::from(([127, 0, 0, 1], admin))).expect("an admin port");
    assert!(wire.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let page = String::from_utf8(wire.read_to_end()).expect("text");
    assert!(page.lines().any(|line| line.starts_with("flumen_guard_wakes_total")), "{page}");
    drop(broker);
}

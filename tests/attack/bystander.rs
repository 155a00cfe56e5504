//! The client that behaves well: what it is told must hold, and how long it waits is what an attack costs.
//!
//! Does: append a record every few milliseconds with acks=all, read what there is as often, note how long each took, and
//! what waited behind one that took longer.
//! Does not: try again. It was there before the attack; not to be served at all is a finding.
//! Invariants: it never panics, and it has the processor before whoever shares it, where it may.
//! Apart because it is the measure, and the attackers are what is measured.

use flumen_protocol::messages::TopicName;
use flumen_tests::client::{Client, value};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::pace::{Pace, Until};

/// Appends a second, and reads a second.
const RATE: u32 = 200;
/// How long it is from one append to the next, and from one read to the next.
const INTERVAL: Duration = Duration::from_millis(1000 / RATE as u64);
/// How long it waits for an answer, as Kafka's clients do (`request.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any attack.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// As urgent as a process may be made without leaving the usual scheduler.
const NICENESS: &str = "-19";
/// Before all of the usual scheduler: for a client that has been given the broker's processor.
const PRIORITY: &str = "1";

/// Times, one for each request that was sent or, because the one before it was not answered yet, was not. Such a one counts
/// from when it was due: otherwise a wait of seconds would be one among thousands, since who waits asks less often.
#[derive(Default)]
pub struct Times {
    /// From sending a record to its acknowledgement.
    pub produced: Vec<Duration>,
    /// From asking for records to having them, or to hearing that there are none.
    pub fetched: Vec<Duration>,
    /// How much later than it wanted to the client sent a record: its own machine's fault.
    pub late: Vec<Duration>,
}

impl Times {
    /// Adds those of another time.
    pub fn add(&mut self, other: &Self) {
        self.produced.extend(&other.produced);
        self.fetched.extend(&other.fetched);
        self.late.extend(&other.late);
    }

    fn of(&mut self, request: Request) -> &mut Vec<Duration> {
        match request {
            Request::Append => &mut self.produced,
            Request::Read => &mut self.fetched,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Request {
    Append,
    Read,
}

/// Times, and since when a request of each kind waits for its answer.
#[derive(Default)]
struct Waits {
    times: Times,
    asked: [Option<Instant>; 2],
}

impl Waits {
    fn begin(&mut self, request: Request) {
        self.asked[request as usize] = Some(Instant::now());
    }

    /// Adds what a request took, and what those would have taken that were due meanwhile.
    fn end(&mut self, request: Request) {
        let Some(asked) = self.asked[request as usize].take() else { return };
        let times = self.times.of(request);
        let mut left = Some(asked.elapsed());
        while let Some(took) = left {
            times.push(took);
            left = took.checked_sub(INTERVAL);
        }
    }

    /// The times so far, also what is waited for now has had of them. What it takes beyond that is of the time that follows.
    fn take(&mut self) -> Times {
        for request in [Request::Append, Request::Read] {
            if self.asked[request as usize].is_some_and(|asked| asked.elapsed() > INTERVAL) {
                self.end(request);
                self.begin(request);
            }
        }
        std::mem::take(&mut self.times)
    }
}

/// What so many of a thousand do not exceed; zero of nothing.
pub fn quantile(times: &[Duration], of_thousand: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * of_thousand).div_ceil(1000).max(1) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

/// What one of its threads does until it is told to end.
type Work = fn(&Shared) -> Result<(), String>;

/// What its threads share.
struct Shared {
    address: SocketAddr,
    topic: TopicName,
    waits: Mutex<Waits>,
    acked: AtomicI64,
    read: AtomicI64,
    done: AtomicBool,
    complaint: Mutex<Option<String>>,
}

impl Shared {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().expect("nobody panics")
    }
}

/// The client, in two threads.
pub struct Bystander {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Bystander {
    /// Begins to produce to a topic of one partition, and to read from it, on these processors, or on
    /// those of the attackers.
    pub fn start(address: SocketAddr, topic: &TopicName, processors: Option<&str>) -> Self {
        let shared = Arc::new(Shared {
            address,
            topic: topic.clone(),
            waits: Mutex::default(),
            acked: AtomicI64::new(0),
            read: AtomicI64::new(0),
            done: AtomicBool::new(false),
            complaint: Mutex::default(),
        });
        let works: [Work; 2] = [produce, consume];
        let threads = works.map(|work| {
            let (shared, processors) = (Arc::clone(&shared), processors.map(str::to_owned));
            thread::spawn(move || {
                hurry(processors.as_deref());
                if let Err(complaint) = work(&shared) {
                    shared.complaint.lock().expect("nobody panics").get_or_insert(complaint);
                }
            })
        });
        Self { shared, threads: threads.into() }
    }

    /// The times since they were last taken.
    pub fn take(&self) -> Times {
        self.shared.waits().take()
    }

    /// How many records were acknowledged so far.
    pub fn acked(&self) -> i64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Why it gave up; `None` while it is served.
    pub fn complaint(&self) -> Option<String> {
        self.shared.complaint.lock().expect("nobody panics").clone()
    }

    /// Ends it; how many records were acknowledged, how many its consumer read, and why it gave up, if it did.
    pub fn end(self) -> (i64, i64, Option<String>) {
        self.shared.done.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        let shared = &self.shared;
        let complaint = shared.complaint.lock().expect("nobody panics").clone();
        (shared.acked.load(Ordering::Relaxed), shared.read.load(Ordering::Relaxed), complaint)
    }
}

/// Reads everything from the start; how many records there are.
///
/// # Errors
/// The first record that is not what was sent to its offset, or an error.
pub fn read_all(address: SocketAddr, topic: &TopicName) -> Result<i64, String> {
    let mut client = Client::at(address).ok_or("nobody accepts")?;
    let mut next = 0;
    loop {
        let (error, end, values) = client.try_fetch(topic, 0, next).ok_or("no answer")?;
        if error != 0 {
            return Err(format!("error {error} at {next}"));
        }
        if values.is_empty() {
            return if next == end { Ok(next) } else { Err(format!("nothing at {next} of {end}")) };
        }
        next = judged(&values, next)?;
    }
}

/// The offset after these records, which must be what was sent to theirs.
fn judged(values: &[String], first: i64) -> Result<i64, String> {
    let mut next = first;
    for found in values {
        if *found != value(0, next) {
            return Err(format!("`{found}` is at offset {next}"));
        }
        next += 1;
    }
    Ok(next)
}

/// Why a request has no answer, as far as its connection tells.
fn unanswered() -> String {
    format!("no connection any more, or no answer within {PATIENCE:?}")
}

fn produce(shared: &Shared) -> Result<(), String> {
    let client = Client::at(shared.address).ok_or("the producer is not let in")?;
    let mut client = client.waiting(PATIENCE);
    let mut pace = Pace::without_bursts(RATE, Until::after(FOR_EVER));
    let mut offset = 0;
    while !shared.done.load(Ordering::Relaxed) {
        let late = pace.turn().unwrap_or_default();
        shared.waits().begin(Request::Append);
        let answer = client.try_produce(&shared.topic, 0, offset);
        shared.waits().end(Request::Append);
        match answer {
            Some((0, at)) if at == offset => {}
            Some((error, at)) => {
                return Err(format!("record {offset}: error {error}, offset {at}"));
            }
            None => return Err(format!("record {offset}: {}", unanswered())),
        }
        offset += 1;
        shared.acked.store(offset, Ordering::Relaxed);
        shared.waits().times.late.push(late);
    }
    Ok(())
}

fn consume(shared: &Shared) -> Result<(), String> {
    let client = Client::at(shared.address).ok_or("the consumer is not let in")?;
    let mut client = client.waiting(PATIENCE);
    let mut pace = Pace::without_bursts(RATE, Until::after(FOR_EVER));
    let mut next = 0;
    while !shared.done.load(Ordering::Relaxed) {
        pace.turn();
        shared.waits().begin(Request::Read);
        let answer = client.try_fetch(&shared.topic, 0, next);
        shared.waits().end(Request::Read);
        match answer {
            Some((0, _, values)) => next = judged(&values, next)?,
            Some((error, ..)) => return Err(format!("reading at {next}: error {error}")),
            None => return Err(format!("reading at {next}: {}", unanswered())),
        }
        shared.read.store(next, Ordering::Relaxed);
    }
    Ok(())
}

/// Puts this thread before others on its processor, where that is allowed. What it cannot help is in its lateness.
/// On other processors than the attackers' it stands in for a client with a machine of its own: it goes first at once.
fn hurry(processors: Option<&str>) {
    let Ok(own) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = own.file_name().and_then(|name| name.to_str()) else { return };
    let Some(processors) = processors else {
        return run(&["renice", "-n", NICENESS, "-p", thread]);
    };
    run(&["taskset", "-cp", processors, thread]);
    run(&["chrt", "-f", "-p", PRIORITY, thread]);
}

/// Runs a program of the system, if it is there; what it says does not matter.
fn run(words: &[&str]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

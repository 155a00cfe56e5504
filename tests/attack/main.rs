//! Everything that hostile clients do to a broker, one after another and then all at once, while a client that behaves well
//! is served beside them.
//!
//! Does: start a broker with 512 MiB on one processor, attack it, and say what that cost the others and the broker.
//! Does not: know the broker's insides. Rates are bounded, so that it is the broker that is measured and not who measures it.
//! Invariants: latencies are only compared within one run, and only asserted where `--ratio-max` asks for it.
//! Apart because it takes a machine for itself, where the process tests take a moment.
//!
//! usage: flumen-attack SECONDS [--ratio-max N] [--broker-cpus LIST] [--client-cpus LIST] [--only WORD,…]
#![forbid(unsafe_code)]

mod bystander;
mod cage;
mod connections;
mod pace;
mod readers;
mod report;
mod state;
mod words;

use flumen_protocol::api_table::TABLE;
use flumen_protocol::messages::{StrBytes, TopicName};
use flumen_tests::broker::{Broker, Folder};
use flumen_tests::forged;
use flumen_tests::wire::Wire;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::slice;
use std::thread;
use std::time::Duration;

use bystander::Bystander;
use cage::Cage;
use pace::Until;
use report::{Phase, Report};

/// Memory of the broker, page cache of its files included.
const MEMORY: u64 = 512 << 20;
/// The topic of old records, and how many of a MB it has: more than the broker keeps in memory.
const OLD: &str = "old";
const OLD_RECORDS: usize = 192;
/// A topic whose batches the broker must open, one with many producers, and one with many partitions.
const BOMBS: &str = "bombs";
const CROWDED: &str = "crowded";
const WIDE: &str = "wide";
const WIDE_PARTITIONS: i32 = 2_000;
/// One place in so many of each request is lied about.
const FORGED_EVERY: usize = 4;
/// How long the broker is left alone in the end.
const CALM: Duration = Duration::from_secs(5);
/// How long the broker is left alone before nothing is measured, at most.
const SETTLING_MAX: Duration = Duration::from_secs(2);
/// In how many parts all attacks come at once.
const TOGETHER: usize = 4;
const SECONDS_MIN: u64 = 20;

/// As a machine of this size would be set up, with no pause before groups begin.
const OPTIONS: [&str; 7] = [
    // Records carry old times, so that each can be told from its offset; nothing here is to be forgotten.
    "log.retention.ms=-1",
    "flumen.cores=1",
    // A quarter of the memory, as the broker itself chooses where it sees its group's limit.
    "flumen.memory.bytes=134217728",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=10",
    "flumen.disk.reserve.bytes=67108864",
    "flumen.disk.reserve.percent=1",
];

/// Connections of a crowd.
const CROWD: usize = 10_000;
/// Descriptors that other attacks, the broker's files and its other clients need.
const DESCRIPTORS_BESIDE: usize = 4_000;

/// What is attacked, and with what.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    /// How many connections of one kind are held, if the system lets a process have so many.
    crowd: usize,
    /// Produce requests that inflate.
    bombs: Vec<Vec<u8>>,
    /// Damaged requests of every API and version.
    forged: Vec<Vec<u8>>,
}

/// Goes on until it is over; how much it did.
type Attack = fn(&Target, Until) -> u64;

const ATTACKS: [(&str, Attack); 16] = [
    ("slow requests, a crowd", connections::slow),
    ("idle connections, a crowd", connections::idle),
    ("connection storm", connections::storm),
    ("other protocols", connections::strangers),
    ("forged requests", connections::forgeries),
    ("half of 90 MiB", connections::halves),
    ("consumers that never read", readers::deaf_consumers),
    ("listings that nobody reads", readers::deaf_listings),
    ("huge fetches", readers::huge_fetches),
    ("10,000 requests in one piece", readers::pipelining),
    ("decompression bombs", state::explode),
    ("producer ids, a million a minute", state::producer_ids),
    ("producers of one record", state::producers),
    ("groups", state::groups),
    ("topics that come and go", state::churn),
    ("impossible topics", state::metadata),
];

fn main() -> ExitCode {
    let Some(options) = Options::given() else {
        eprintln!(
            "usage: flumen-attack SECONDS [--ratio-max N] [--broker-cpus LIST] [--client-cpus LIST] \
             [--only WORD,…]"
        );
        return ExitCode::from(2);
    };
    let cage = Cage::build(MEMORY);
    if let Some(why) = &cage.why_not {
        println!("no memory group ({why}): nothing enforces the limit, it is only compared with");
    }
    let folder = Folder::fresh();
    let wrapper = cage.wrapper(&options.broker_cpus);
    let mut broker = Broker::start_under(wrapper, &folder, &OPTIONS);
    let topic = TopicName(StrBytes::from_static_str("well-behaved"));
    prepare(&broker, &topic);
    let target = Target {
        address: broker.address(),
        crowd: crowd(1),
        bombs: state::bombs(),
        forged: forged_requests(),
    };
    let Target { crowd, bombs, forged, .. } = &target;
    println!("crowds of {crowd}, {} forged requests, {} bombs", forged.len(), bombs.len());
    let bystander = Bystander::start(target.address, &topic, options.client_cpus.as_deref());
    let mut report = Report::default();
    attack(&options, &target, &broker, &bystander, &mut report);
    let acked = bystander.acked();
    let (_, read, complaint) = bystander.end();
    report.served(acked, read, complaint);
    report.acknowledged(acked, bystander::read_all(target.address, &topic));
    report.memory(MEMORY, cage::resident(broker.id()), &cage);
    report.process(broker.ended());
    report.ratio(options.ratio_max);
    let passed = report.say();
    if !passed {
        println!("what the broker said:\n{}", report::tail(&broker.said()));
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How large each of so many crowds may be.
fn crowd(count: usize) -> usize {
    CROWD.min(cage::descriptors().saturating_sub(DESCRIPTORS_BESIDE) / count)
}

/// The command line.
struct Options {
    seconds: u64,
    ratio_max: Option<f64>,
    broker_cpus: String,
    /// Those of the client that behaves well; the attackers' where nothing is said.
    client_cpus: Option<String>,
    /// Attacks whose names have one of these words; all where there is none.
    only: Vec<String>,
}

impl Options {
    fn given() -> Option<Self> {
        let mut words = std::env::args().skip(1);
        let seconds = words.next()?.parse().ok().filter(|seconds| *seconds >= SECONDS_MIN)?;
        let mut options = Self {
            seconds,
            ratio_max: None,
            broker_cpus: "0".to_owned(),
            client_cpus: None,
            only: Vec::new(),
        };
        while let Some(name) = words.next() {
            let value = words.next()?;
            match &name[..] {
                "--ratio-max" => options.ratio_max = Some(value.parse().ok()?),
                "--broker-cpus" => options.broker_cpus = value,
                "--client-cpus" => options.client_cpus = Some(value),
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                _ => return None,
            }
        }
        Some(options)
    }

    /// The attacks that are wanted.
    fn attacks(&self) -> Vec<(&'static str, Attack)> {
        let wanted = |name: &str| {
            self.only.is_empty() || self.only.iter().any(|word| name.contains(&word[..]))
        };
        ATTACKS.into_iter().filter(|(name, _)| wanted(name)).collect()
    }

    /// A part of the time.
    fn part(&self, of: f64) -> Duration {
        Duration::from_secs_f64(self.seconds as f64 * of)
    }
}

/// Topics for the attacks and for the client that behaves well.
fn prepare(broker: &Broker, topic: &TopicName) {
    let mut wire = Wire::connect(broker.address()).expect("a running broker accepts");
    for topic in [OLD, CROWDED, &topic.0] {
        assert_eq!(wire.create_topic(topic), Some(0), "{topic}");
    }
    assert_eq!(wire.create_topic_of(WIDE, WIDE_PARTITIONS), Some(0));
    let compacted = words::create(BOMBS, 1, &[("cleanup.policy", "compact")], false);
    assert!(wire.ask(&compacted).is_some(), "{BOMBS}");
    for number in 0..OLD_RECORDS {
        assert_eq!(wire.produce(OLD, 1_000_000), Some(0), "record {number}");
    }
}

/// Every request of every version that is served, damaged.
fn forged_requests() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for row in TABLE {
        for version in row.served.min..=row.served.max {
            let full = forged::full(row, version);
            let first = version.unsigned_abs() as usize % FORGED_EVERY;
            let damaged = forged::damaged(&full, first, FORGED_EVERY);
            all.extend(damaged.map(|body| forged::frame(row, version, 1, &body)));
        }
    }
    all
}

/// Each attack alone, then all of them at once; before each of these nothing, which is what they are compared with: what
/// else a machine does changes within an hour by more than an attack costs.
fn attack(
    options: &Options,
    target: &Target,
    broker: &Broker,
    bystander: &Bystander,
    report: &mut Report,
) {
    let goes_on = || bystander.complaint().is_none() && cage::resident(broker.id()).is_some();
    report.begins(cage::resident(broker.id()));
    let mut phase = |name: &str, time: Duration, crowds: usize, attacks: &[(&str, Attack)]| {
        let target = &Target { crowd: crowd(crowds), ..target.clone() };
        bystander.take();
        let until = Until::after(time);
        let before = cage::resident(broker.id()).map_or(0, |(now, _)| now);
        let (done, highest) = run(target, broker, until, attacks);
        let times = bystander.take();
        let (name, attacked) = (name.to_owned(), !attacks.is_empty());
        report.add(Phase { name, attacked, done, before, highest, times });
    };
    // Not measured: the first requests of a new broker.
    phase("warm-up", options.part(0.05), 1, &[]);
    let attacks = options.attacks();
    let alone =
        attacks.iter().map(|one| (one.0, 0.42 / attacks.len() as f64, 1, slice::from_ref(one)));
    let together = (0..TOGETHER).map(|_| ("all at once", 0.28 / TOGETHER as f64, 2, &attacks[..]));
    let calm = options.part(0.25 / (attacks.len() + TOGETHER) as f64);
    for (name, part, crowds, attacks) in alone.chain(together).filter(|_| goes_on()) {
        // What the last attack left behind is its own cost, not part of what nothing costs.
        let settling = SETTLING_MAX.min(calm / 3);
        run(target, broker, Until::after(settling), &[]);
        phase(report::BASELINE, calm - settling, 1, &[]);
        phase(name, options.part(part), crowds, attacks);
    }
    if goes_on() {
        phase("afterwards", CALM, 1, &[]);
    }
}

/// Attacks at the same time until it is over; how much they did, and the most memory that the broker had.
fn run(target: &Target, broker: &Broker, until: Until, attacks: &[(&str, Attack)]) -> (u64, u64) {
    thread::scope(|scope| {
        let attackers: Vec<_> =
            attacks.iter().map(|(_, attack)| scope.spawn(move || attack(target, until))).collect();
        let mut highest = 0;
        while !until.is_over() || attackers.iter().any(|attacker| !attacker.is_finished()) {
            highest = highest.max(cage::resident(broker.id()).map_or(0, |(now, _)| now));
            thread::sleep(Duration::from_millis(50));
        }
        let done = attackers.into_iter().map(|attacker| attacker.join().unwrap_or(0)).sum();
        (done, highest)
    })
}

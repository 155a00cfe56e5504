//! Whole runs against the null responder, told as stories.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::options::plain_producers;
use super::run::Order;
use crate::histogram;
use crate::null::{Null, Stall};
use crate::outcome::Durability;
use crate::outcome::environment::Environment;
use crate::outcome::load::Load;
use crate::scenario::{Codec, Consumers, Crowd, Pace, Producers, Scenario};

/// A responder in a thread; it dies when it is told to.
struct Partner {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Partner {
    fn new(stall: Option<Stall>) -> Self {
        Self::at_level(2, stall)
    }

    /// One that does transactions at this level of `transaction.version`.
    fn at_level(transaction_version: i16, stall: Option<Stall>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let null = Null::new(listener, stall, transaction_version);
            null.and_then(|mut null| null.serve(&flag)).expect("serves");
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn dies_after(&self, millis: u64) -> JoinHandle<()> {
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(millis));
            stop.store(true, Ordering::Relaxed);
        })
    }

    fn load(&self, scenario: Scenario) -> Load {
        let order = Order {
            bootstrap: self.address.clone(),
            scenario,
            system: "null".to_owned(),
            durability: Durability::D0,
            environment: Environment::default(),
            quiet: true,
        };
        order.run(&Arc::new(AtomicBool::new(false))).expect("a run").load
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn scenario(producers: Producers) -> Scenario {
    Scenario {
        name: "story".to_owned(),
        purpose: "A test.".to_owned(),
        partitions: 4,
        warm_up_seconds: 0,
        seconds: 1,
        seed: 7,
        producers: Some(producers),
        consumers: Consumers::default(),
        crowd: Crowd::default(),
        restart: None,
    }
}

fn open(rate: f64) -> Producers {
    Producers { pace: Pace::PerSecond(rate), connections: 2, ..plain_producers() }
}

#[test]
fn a_stall_is_felt_by_all_that_were_due_in_it() {
    let length = Duration::from_millis(250);
    let stall = Stall { after: Duration::from_millis(300), length };
    let load = Partner::new(Some(stall)).load(scenario(open(400.0)));
    let produce = load.produce.expect("samples");
    assert_eq!((load.broken_off, load.unanswered, produce.samples), (None, 0, 400));
    // A quarter of all were due during the stall and waited, most of them unsent.
    assert!(produce.p99_us > 200_000.0, "p99 {}", produce.p99_us);
    let all = histogram::decode(&produce.histogram).expect("sound");
    let waited = all.count_between(20_000_000, u64::MAX / 2);
    assert!(waited >= 80, "{waited} of 400 waited more than 20 ms");
    // What other tools call latency sees the stall only in those that were in flight when it began.
    let service = histogram::decode(&load.service.expect("samples").histogram).expect("sound");
    let seen = service.count_between(200_000_000, u64::MAX / 2);
    assert!(seen <= 12, "{seen} of 400");
    assert_eq!(load.worst_second, Some(0));
}

#[test]
fn a_partner_that_dies_in_the_middle_leaves_a_partial_result() {
    let partner = Partner::new(None);
    let death = partner.dies_after(700);
    let load = partner.load(Scenario { seconds: 30, ..scenario(open(500.0)) });
    death.join().expect("done");
    let reason = load.broken_off.expect("broken off");
    assert!(reason.contains(&partner.address), "{reason}");
    assert!(load.requests_per_second > 100.0 && load.measured_seconds < 20.0);
    assert!(load.produce.expect("samples").samples > 50);
}

#[test]
fn those_without_an_answer_count_also_where_a_run_breaks() {
    let length = Duration::from_millis(600);
    let partner = Partner::new(Some(Stall { after: Duration::from_millis(300), length }));
    let death = partner.dies_after(500);
    let load = partner.load(Scenario { seconds: 30, ..scenario(open(500.0)) });
    death.join().expect("done");
    assert!(load.broken_off.is_some() && load.unanswered > 0, "{} unanswered", load.unanswered);
    assert!(load.produce.expect("samples").max_us > 100_000.0, "their age is their latency");
}

#[test]
fn what_was_acknowledged_and_did_not_reach_a_tail_consumer_is_counted() {
    let consumers = Consumers { tail: 2, ..Consumers::default() };
    let producers = Producers { records_per_batch: 3, ..open(100.0) };
    let load = Partner::new(None).load(Scenario { consumers, ..scenario(producers) });
    assert!(load.broken_off.is_none());
    assert_eq!(load.undelivered, [300, 300], "the responder keeps nothing");
    let words = load.undelivered_words().expect("something is missing");
    assert!(words.starts_with("2 of 2 tail consumers") && words.contains("300"), "{words}");
}

#[test]
fn every_manner_of_producing_goes_through() {
    let partner = Partner::new(None);
    let base = open(300.0);
    let manners = [
        Producers { acks: 0, ..base.clone() },
        Producers { acks: 1, codec: Codec::Zstd, records_per_batch: 10, ..base.clone() },
        Producers { idempotent: true, partitions_per_request: 2, key_bytes: 8, ..base.clone() },
        Producers { record_bytes: 100_000, hot_share: 0.9, ..base.clone() },
        Producers { record_bytes: 1, ..base },
    ];
    for producers in manners {
        let load = partner.load(scenario(producers.clone()));
        assert_eq!(load.broken_off, None, "{producers:?}");
        assert!(load.errors.is_empty() && load.unanswered == 0, "{producers:?}");
        assert_eq!(load.produce.expect("samples").samples, 300, "{producers:?}");
    }
}

#[test]
fn closed_loops_and_searches_end() {
    let partner = Partner::new(None);
    let closed = Pace::AsFastAsPossible { in_flight: 3 };
    let load = partner.load(scenario(Producers { pace: closed, ..open(1.0) }));
    assert!(load.broken_off.is_none() && load.requests_per_second > 300.0);
    assert!(load.offered_per_second.abs() < f64::EPSILON);
    let search = Pace::Search { from: 20.0, factor: 10.0, step_seconds: 1, p99_limit_ms: 0.001 };
    let load = partner.load(scenario(Producers { pace: search, ..open(1.0) }));
    assert_eq!((load.steps.len(), load.knee_per_second), (2, None));
}

#[test]
fn transactions_go_through_as_the_broker_finalised_them() {
    for level in [0, 2] {
        let partner = Partner::at_level(level, None);
        let ours = Producers { transactional: true, records_per_batch: 3, ..open(200.0) };
        let load = partner.load(scenario(ours.clone()));
        assert_eq!((load.broken_off, load.unanswered), (None, 0), "level {level}");
        assert!(load.errors.is_empty(), "level {level}: {:?}", load.errors);
        assert_eq!(load.produce.expect("samples").samples, 200, "level {level}");
        let pace = Pace::AsFastAsPossible { in_flight: 1 };
        let load = partner.load(scenario(Producers { pace, partitions_per_request: 2, ..ours }));
        assert!(load.broken_off.is_none() && load.requests_per_second > 100.0, "level {level}");
        let six = load.requests_per_second * 6.0;
        assert!((load.records_per_second - six).abs() < 1e-6, "six records in a transaction");
    }
}

#[test]
fn a_transaction_that_is_held_up_counts_from_when_it_was_due() {
    let length = Duration::from_millis(250);
    let stall = Stall { after: Duration::from_millis(300), length };
    let ours = Producers { transactional: true, ..open(200.0) };
    let load = Partner::at_level(2, Some(stall)).load(scenario(ours));
    let produce = load.produce.expect("samples");
    assert_eq!((load.broken_off, load.unanswered, produce.samples), (None, 0, 200));
    let all = histogram::decode(&produce.histogram).expect("sound");
    let waited = all.count_between(20_000_000, u64::MAX / 2);
    assert!(waited >= 40, "{waited} of 200 waited more than 20 ms");
}

#[test]
fn with_a_session_or_without_every_fetch_is_counted() {
    let written = Producers { written_partitions: 1, ..open(50.0) };
    for sessionless in [false, true] {
        let consumers = Consumers { tail: 1, sessionless, ..Consumers::default() };
        let load = Partner::new(None).load(Scenario { consumers, ..scenario(written.clone()) });
        assert!(load.broken_off.is_none());
        let fetches = load.fetches_per_second;
        assert!((1.0..5.0).contains(&fetches), "each waits half a second: {fetches}");
    }
}

#[test]
fn a_crowd_stays_comes_and_goes() {
    let partner = Partner::new(None);
    let crowd = Crowd { idle: 50, churn_per_second: 100 };
    let load = partner.load(Scenario { crowd, ..scenario(open(100.0)) });
    let crowd = load.crowd.expect("a crowd");
    assert_eq!((crowd.idle, crowd.idle_lost, crowd.churn_failed), (50, 0, 0));
    assert!((90..=101).contains(&crowd.churned), "{}", crowd.churned);
}

#[test]
fn nobody_to_reach_is_one_line() {
    let address = {
        let partner = Partner::new(None);
        partner.address.clone()
    };
    let order = Order {
        bootstrap: address.clone(),
        scenario: scenario(open(1.0)),
        system: String::new(),
        durability: Durability::D0,
        environment: Environment::default(),
        quiet: true,
    };
    let fault = order.run(&Arc::new(AtomicBool::new(false))).expect_err("nobody").to_string();
    assert_eq!(fault, format!("cannot reach {address}: connection refused"));
}

//! What it takes to read the lag of many groups, and what a producer beside it feels.
//!
//! Does: commit offsets of many groups, read `/metrics` at an interval while the generator loads the
//! same broker, and the same without reading; list all groups.
//! Does not: judge what stands in the metrics beyond counting lag rows.
//! Invariants: the two loads, with and without, are the same and alternate.
//! Apart because this needs no members at all.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{in_words, millis, pin, write};
use crate::client::{Client, ClientFault, NewTopic, dial, in_words as words_of};
use crate::clock::{SECOND_NS, now_ns};
use crate::load::options::plain_producers;
use crate::load::run::Order;
use crate::outcome::Durability;
use crate::outcome::environment::Environment;
use crate::scenario::{Consumers, Crowd, Pace, Producers, Scenario};

/// Partitions of the topic of all groups, and of those groups that have committed many.
const WIDE: i32 = 10;
/// Every so many groups have committed offsets of all partitions, the others of one.
const WIDE_EVERY: u32 = 10;
/// How many records each partition is said to have been read up to.
const COMMITTED: i64 = 0;

/// Measures reading the lag of many groups.
#[derive(Clone, Debug, Args)]
pub struct LagArgs {
    /// Address of one broker.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// Where it serves `/metrics`; without it only the offsets are committed and the groups listed.
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// Groups; every tenth commits offsets of ten partitions, the others of one.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    groups: u32,
    /// Produce requests per second beside it, one record of 1 KiB each.
    #[arg(long, value_name = "N", default_value_t = 1_000.0)]
    per_second: f64,
    /// Seconds of each load.
    #[arg(long, value_name = "S", default_value_t = 15)]
    seconds: u32,
    /// How often the two loads, alone and beside scrapes, alternate.
    #[arg(long, value_name = "N", default_value_t = 2)]
    rounds: u32,
    /// Milliseconds between two scrapes.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    every_ms: u64,
    /// Run on this CPU only. The broker belongs on others.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Seen {
    groups: u32,
    /// Committed offsets of all groups.
    offsets: u64,
    commit_seconds: f64,
    /// Groups that ListGroups told of.
    listed: usize,
    list_ms: Vec<f64>,
    /// GET to the last byte.
    scrape_ms: Vec<f64>,
    /// GET to the first byte.
    first_byte_ms: Vec<f64>,
    scrape_bytes: usize,
    /// Lines that tell the lag of a partition.
    lag_rows: usize,
    alone: Vec<Felt>,
    beside: Vec<Felt>,
}

/// What a producer felt, microseconds.
#[derive(Clone, Debug, Serialize)]
struct Felt {
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

struct Scraped {
    bytes: usize,
    lag_rows: usize,
    first_byte_ns: u64,
    took_ns: u64,
}

/// Runs the measurement.
///
/// # Errors
/// What went wrong, in one line.
pub fn run(args: &LagArgs) -> Result<(), String> {
    pin(args.cpu)?;
    let said = |fault: ClientFault| fault.to_string();
    let name = format!("flumen-bench-lag-{}", now_ns());
    let mut client = Client::connect(&args.bootstrap).map_err(said)?;
    let new = NewTopic { name: &name, partitions: WIDE as u32, config: &[] };
    client.create_topic(&new).map_err(said)?;
    client.topic(&name, WIDE as u32).map_err(said)?;
    let mut seen = Seen { groups: args.groups, ..Seen::default() };
    commit_all(args, &mut client, &name, &mut seen).map_err(said)?;
    for _ in 0..5 {
        let began_ns = now_ns();
        seen.listed = client.count_groups().map_err(said)?;
        seen.list_ms.push(millis(now_ns() - began_ns));
    }
    if let Some(metrics) = &args.metrics {
        scrape(metrics)?;
        for _ in 0..args.rounds {
            seen.alone.push(finish(load(args))?);
            let beside = load(args);
            while !beside.is_finished() {
                let next_ns = now_ns() + args.every_ms * 1_000_000;
                let scraped = scrape(metrics)?;
                seen.scrape_ms.push(millis(scraped.took_ns));
                seen.first_byte_ms.push(millis(scraped.first_byte_ns));
                (seen.scrape_bytes, seen.lag_rows) = (scraped.bytes, scraped.lag_rows);
                sleep(Duration::from_nanos(next_ns.saturating_sub(now_ns())));
            }
            seen.beside.push(finish(beside)?);
        }
    }
    print(&seen);
    write(args.json.as_deref(), &seen)
}

fn commit_all(
    args: &LagArgs,
    client: &mut Client,
    topic: &str,
    seen: &mut Seen,
) -> Result<(), ClientFault> {
    let coordinator = client.group_coordinator("lag-000000")?;
    let mut coordinator = Client::connect(&coordinator)?;
    let began_ns = now_ns();
    for number in 0..args.groups {
        let partitions = if number % WIDE_EVERY == 0 { WIDE } else { 1 };
        coordinator.commit(&format!("lag-{number:06}"), topic, partitions, COMMITTED)?;
        seen.offsets += u64::from(partitions.unsigned_abs());
    }
    seen.commit_seconds = (now_ns() - began_ns) as f64 / SECOND_NS as f64;
    Ok(())
}

/// The load beside, on a thread of its own.
fn load(args: &LagArgs) -> JoinHandle<Result<Felt, String>> {
    let scenario = Scenario {
        name: "lag-beside".to_owned(),
        purpose: "What a producer feels while lag is read.".to_owned(),
        partitions: 4,
        warm_up_seconds: 2,
        seconds: args.seconds,
        seed: 4,
        producers: Some(Producers {
            connections: 4,
            pace: Pace::PerSecond(args.per_second),
            ..plain_producers()
        }),
        consumers: Consumers::default(),
        crowd: Crowd::default(),
        restart: None,
    };
    let order = Order {
        bootstrap: args.bootstrap.clone(),
        scenario,
        system: "broker".to_owned(),
        durability: Durability::D1,
        environment: Environment::of(None),
        quiet: true,
    };
    let cpu = args.cpu;
    spawn(move || {
        pin(cpu)?;
        let verdict = order.run(&Arc::new(AtomicBool::new(false)));
        let load = verdict.map_err(|fault| fault.to_string())?.load;
        if let Some(reason) = load.broken_off {
            return Err(reason);
        }
        let felt = load.produce.ok_or("nothing was acknowledged")?;
        Ok(Felt {
            p50_us: felt.p50_us,
            p99_us: felt.p99_us,
            p999_us: felt.p999_us,
            max_us: felt.max_us,
        })
    })
}

fn finish(load: JoinHandle<Result<Felt, String>>) -> Result<Felt, String> {
    load.join().map_err(|_| "the load broke down".to_owned())?
}

/// Reads `/metrics` once.
fn scrape(address: &str) -> Result<Scraped, String> {
    const ROW: &[u8] = b"\nkafka_consumergroup_lag{";
    let lost =
        |error: &std::io::Error| format!("{address} did not give its metrics: {}", words_of(error));
    let began_ns = now_ns();
    let mut stream = dial(address).map_err(|fault| fault.to_string())?;
    let ask = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).map_err(|error| lost(&error))?;
    let mut text = vec![0; 1 << 16];
    let first = stream.read(&mut text).map_err(|error| lost(&error))?;
    let first_byte_ns = now_ns() - began_ns;
    text.truncate(first);
    stream.read_to_end(&mut text).map_err(|error| lost(&error))?;
    let took_ns = now_ns() - began_ns;
    if !text.starts_with(b"HTTP/1.1 200") {
        let line = text.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(format!("{address} answered {}", String::from_utf8_lossy(line)));
    }
    let lag_rows = text.windows(ROW.len()).filter(|window| *window == ROW).count();
    Ok(Scraped { bytes: text.len(), lag_rows, first_byte_ns, took_ns })
}

fn print(seen: &Seen) {
    println!(
        "{} groups with {} offsets, committed one group after the other in {:.1} s\n  listing {} \
         groups: {}",
        seen.groups,
        seen.offsets,
        seen.commit_seconds,
        seen.listed,
        in_words(&seen.list_ms)
    );
    if seen.scrape_ms.is_empty() {
        return;
    }
    println!(
        "  GET /metrics: {} to the last byte, {} to the first; {} bytes, {} rows of lag",
        in_words(&seen.scrape_ms),
        in_words(&seen.first_byte_ms),
        seen.scrape_bytes,
        seen.lag_rows
    );
    for (name, felt) in [("alone", &seen.alone), ("beside scrapes", &seen.beside)] {
        for Felt { p50_us, p99_us, p999_us, max_us } in felt {
            println!(
                "  a producer {name}: p50 {p50_us:.0} us, p99 {p99_us:.0} us, p99.9 {p999_us:.0} \
                 us, longest {max_us:.0} us"
            );
        }
    }
}

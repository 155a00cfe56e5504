//! `flumen-bench groups`: how long groups take to rebalance, and what it costs to see how far they are
//! behind.
//!
//! Does: play the members of a group against any broker (`rebalance`); commit the offsets of many groups
//! and read them all through `/metrics` beside a producer (`lag`).
//! Does not: start brokers, compare, or judge.
//! Invariants: one thread plays all members; times count from the instant the change was wanted; a
//! partition with two owners ends the measurement.
//! Apart from `load` because what is measured is no request but what many of them bring about.
//!
//! | room | what |
//! |---|---|
//! | [`member`] | one member without its socket, in both protocols |
//! | [`owners`] | who has which partition |
//! | [`crowd`] | all members and their sockets |
//! | [`lag`] | many groups, one scrape |

pub mod crowd;
pub mod lag;
pub mod member;
pub mod owners;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::client::{Client, NewTopic};
use crate::clock::{SECOND_NS, now_ns};
use crate::limits::{GROUP_MEMBERS_MAX, PARTITIONS_MAX};
use crowd::Crowd;
use member::Terms;

/// Kafka's `heartbeat.interval.ms`.
const HEARTBEAT_MS: u64 = 3_000;

/// Measures groups of consumers.
#[derive(Clone, Debug, Args)]
pub struct GroupsArgs {
    #[command(subcommand)]
    command: GroupsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GroupsCommand {
    /// How long until every member has its share when a group forms, loses a member, gets one.
    Rebalance(RebalanceArgs),
    /// What it takes to read the lag of many groups, and what a producer beside it feels.
    Lag(lag::LagArgs),
}

/// Which protocol members speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// JoinGroup and SyncGroup, range assignor of the leader, eager.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848), the broker's own assignor.
    Consumer,
}

/// Measures rebalances of one group.
#[derive(Clone, Debug, Args)]
struct RebalanceArgs {
    /// Address of one broker.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// Protocol of the members.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Members of the group.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=i64::from(GROUP_MEMBERS_MAX)))]
    members: u32,
    /// Partitions of the one topic they read.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_MAX)))]
    partitions: u32,
    /// How often a member leaves and another one joins.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Milliseconds between heartbeats. Without it 3,000, as Kafka's clients, in the classic protocol and
    /// what the broker says in the new one.
    #[arg(long, value_name = "MS")]
    heartbeat_ms: Option<u64>,
    /// Seconds a rebalance may take.
    #[arg(long, value_name = "S", default_value_t = 120)]
    within_seconds: u64,
    /// Run on this CPU only. The broker belongs on others.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Name of the system in the result.
    #[arg(long, value_name = "NAME", default_value = "broker")]
    system: String,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What came of it. Times count from the instant the change was wanted to the one at which every member
/// had its share of the new generation and each partition one owner.
#[derive(Clone, Debug, Serialize)]
struct Rebalanced {
    system: String,
    kind: Kind,
    members: u32,
    partitions: u32,
    heartbeat_ms: Option<u64>,
    form_ms: f64,
    leave_ms: Vec<f64>,
    join_ms: Vec<f64>,
}

/// Runs the subcommand.
#[must_use]
pub fn main(args: &GroupsArgs) -> ExitCode {
    let done = match &args.command {
        GroupsCommand::Rebalance(args) => rebalance(args),
        GroupsCommand::Lag(args) => lag::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("flumen-bench groups: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn rebalance(args: &RebalanceArgs) -> Result<(), String> {
    pin(args.cpu)?;
    let name = format!("flumen-bench-groups-{}", now_ns());
    let mut client = Client::connect(&args.bootstrap).map_err(|fault| fault.to_string())?;
    let new = NewTopic { name: &name, partitions: args.partitions, config: &[] };
    client.create_topic(&new).map_err(|fault| fault.to_string())?;
    let done = rebalance_on(args, &mut client, &name);
    let deleted = client.delete_topic(&name).map_err(|fault| fault.to_string());
    let outcome = done?;
    deleted?;
    print_rebalanced(&outcome);
    write(args.json.as_deref(), &outcome)
}

fn rebalance_on(
    args: &RebalanceArgs,
    client: &mut Client,
    name: &str,
) -> Result<Rebalanced, String> {
    let topic = client.topic(name, args.partitions).map_err(|fault| fault.to_string())?;
    let coordinator = client.group_coordinator(name).map_err(|fault| fault.to_string())?;
    let default_ms = match args.kind {
        Kind::Classic => HEARTBEAT_MS,
        Kind::Consumer => 0,
    };
    let terms = Terms {
        kind: args.kind,
        group: name.to_owned(),
        topic: name.to_owned(),
        topic_id: topic.id,
        partitions: i32::try_from(args.partitions).map_err(|error| error.to_string())?,
        heartbeat_ms: args.heartbeat_ms.unwrap_or(default_ms),
    };
    let rest_ns = 1_000_000 * terms.heartbeat_ms.clamp(1_000, HEARTBEAT_MS);
    let within_ns = args.within_seconds * SECOND_NS;
    let mut outcome = Rebalanced {
        system: args.system.clone(),
        kind: args.kind,
        members: args.members,
        partitions: args.partitions,
        heartbeat_ms: args.heartbeat_ms,
        form_ms: 0.0,
        leave_ms: Vec::new(),
        join_ms: Vec::new(),
    };
    let act = |outcome: &mut Rebalanced| {
        let mut crowd = Crowd::connect(terms, &coordinator, args.members as usize)?;
        outcome.form_ms = millis(crowd.form(0, within_ns)?);
        // Each time another member, so that neither the first nor a leader is spared.
        for round in 0..args.rounds {
            crowd.rest(rest_ns + u64::from(round) * rest_ns / 7)?;
            let place = (round as usize * 37) % args.members as usize;
            outcome.leave_ms.push(millis(crowd.leave_one(place, within_ns)?));
            crowd.rest(rest_ns)?;
            outcome.join_ms.push(millis(crowd.join_one(within_ns)?));
        }
        Ok(())
    };
    act(&mut outcome).map_err(|fault: crowd::CrowdFault| fault.to_string())?;
    Ok(outcome)
}

fn print_rebalanced(outcome: &Rebalanced) {
    let interval = outcome.heartbeat_ms.map_or("as usual".to_owned(), |ms| format!("{ms} ms"));
    println!(
        "{}: {:?} group of {} members, {} partitions, heartbeats {interval}\n  forming {:.1} ms\n  \
         after a leave {}\n  after a join  {}",
        outcome.system,
        outcome.kind,
        outcome.members,
        outcome.partitions,
        outcome.form_ms,
        in_words(&outcome.leave_ms),
        in_words(&outcome.join_ms),
    );
}

fn in_words(times_ms: &[f64]) -> String {
    let mut sorted = times_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("median {median:.1} ms ({least:.1} to {most:.1}, {} times)", sorted.len())
        }
        _ => "not measured".to_owned(),
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn pin(cpu: Option<usize>) -> Result<(), String> {
    let Some(cpu) = cpu else { return Ok(()) };
    crate::load::pin(cpu).map_err(|error| format!("cannot run on CPU {cpu}: {error}"))
}

fn write(path: Option<&Path>, outcome: &impl Serialize) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_vec_pretty(outcome).map_err(|error| error.to_string())?;
    text.push(b'\n');
    crate::file::write_whole(path, &text)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

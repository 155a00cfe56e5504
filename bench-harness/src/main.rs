//! `flumen-bench`: finds the limits of a machine, loads any Kafka-protocol broker honestly,
//! compares brokers side by side, and reports what it saw.
//!
//! Does: parse the command line and hand over to one room per subcommand.
//! Does not: measure; link the broker. It starts systems from outside and speaks the wire, so
//! that it cannot cheat by sharing state.
//! Invariants: whatever fails ends with one line that says what happened and an exit code that is
//! not 0; a partial result is marked as such.
//! Apart because the tool is a product of its own: it serves people who never run Flumen.
//!
//! | room | what |
//! |---|---|
//! | [`outcome`] | what a measurement leaves behind: the JSON that every other room reads or writes |
//! | [`report`] | outcomes as a page and a summary |
//! | [`scenario`] | a workload as data |
//! | [`environment`], [`clock`] | the machine and the moment |
//! | [`probe`] | `limits`: what the machine can do at best |
//! | [`load`] | the generator |
//! | [`null`] | a responder that keeps nothing, against which the generator proves itself |
//! | [`groups`] | rebalances, and the lag of many groups |
//! | [`client`] | questions that may be waited for: topics, leaders, producer ids |
//! | [`histogram`] | latency histograms and their standard log |
//! | [`compare`] | systems side by side on one machine, fairly |
//! | [`mod@file`] | results that appear whole or not at all |
//! | [`limits`] | every bound of this crate, with its reason |
#![forbid(unsafe_code)]

pub mod client;
pub mod clock;
pub mod compare;
pub mod environment;
pub mod file;
pub mod groups;
pub mod histogram;
pub mod limits;
pub mod load;
pub mod null;
pub mod outcome;
pub mod probe;
pub mod report;
pub mod scenario;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load generator and referee for Kafka-protocol brokers.
#[derive(Debug, Parser)]
#[command(name = "flumen-bench", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures what this machine can do at best: disk, loopback, processor.
    Limits(probe::Arguments),
    /// Loads a broker and reports what it saw.
    Load(Box<load::LoadArgs>),
    /// Answers like a broker and keeps nothing, for measuring load generators.
    Null(null::NullArgs),
    /// Runs systems side by side under the same load and says how they relate.
    Compare(Box<compare::CompareArgs>),
    /// Measures groups of consumers: rebalances, and reading the lag of many groups.
    Groups(Box<groups::GroupsArgs>),
    /// Makes a page and a summary of results.
    Report(report::Report),
    /// Starts a program and ends it with everything it started.
    #[command(hide = true)]
    Keep(compare::keeper::KeepArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Limits(arguments) => ended(probe::command(&arguments)),
        Command::Load(args) => load::main(&args),
        Command::Null(args) => null::main(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Groups(args) => groups::main(&args),
        Command::Report(report) => ended(report::run(&report).map(|()| ExitCode::SUCCESS)),
        Command::Keep(args) => compare::keeper::keep(args),
    }
}

/// One line for whatever went wrong.
fn ended<E: Display>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("flumen-bench: {error}");
        ExitCode::FAILURE
    })
}

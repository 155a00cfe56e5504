//! The command line.
//!
//! Does: defines commands, arguments and their help; writes shell completions; runs the commands of
//! daily work, which ask a broker over the wire as any client would. Does not: run the others.
//! Invariants: every option a command takes is declared here or in [`daily`] and nowhere else; the
//! rooms below know nothing of a running broker but what its answers say, so that they work with any.
//! Apart because the definition is data that both `main` and the completions read, and because a
//! command is a program of its own, without any core.
//!
//! | where | what |
//! |---|---|
//! | [`daily`] | what can be typed |
//! | [`topics`], [`groups`] with [`reset`], [`transactions`], [`nodes`] with [`configs`] | what is asked and shown |
//! | [`produce`], [`consume`] with [`fetching`] | records, in and out |
//! | [`cluster`] | who leads, who coordinates; asking again |
//! | [`world`] | sockets, clock, pause: the only place that waits |
//! | [`fault`], [`listing`], [`moment`] | failures, tables and JSON, places and times |

pub mod cluster;
pub mod configs;
pub mod consume;
pub mod daily;
pub mod fault;
pub mod fetching;
pub mod groups;
pub mod listing;
pub mod moment;
pub mod nodes;
pub mod produce;
pub mod reset;
pub mod topics;
pub mod transactions;
pub mod world;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use daily::{
    CONSUME_EXAMPLES, ClusterArguments, ConsumeArguments, EXIT_CODES, GroupsArguments,
    PRODUCE_EXAMPLES, ProduceArguments, TopicsArguments, TransactionsArguments,
};
use fault::Fault;
use listing::Outcome;

use crate::telemetry::log::LogFormat;

/// A Kafka-protocol broker: one process, one thread per core, durable before it acknowledges.
#[derive(Debug, Parser)]
#[command(name = "flumen", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log: a level (error, warn, info, debug, trace) or target=level pairs; default RUST_LOG,
    /// then info.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or SIGINT.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArguments),
    /// Tell whether this machine and a data folder are fit for the broker, and what to do if not.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArguments),
    /// Look into a data folder without a running broker; never writes.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArguments),
    /// Topics: list, describe, create, alter, delete, offsets, grow.
    #[command(after_help = EXIT_CODES)]
    Topics(TopicsArguments),
    /// Consumer groups: list, describe with lag, reset-offsets, delete.
    #[command(after_help = EXIT_CODES)]
    Groups(GroupsArguments),
    /// Append records to a topic.
    #[command(after_help = PRODUCE_EXAMPLES)]
    Produce(ProduceArguments),
    /// Read records of a topic.
    #[command(after_help = CONSUME_EXAMPLES)]
    Consume(ConsumeArguments),
    /// Transactions: list, describe.
    #[command(after_help = EXIT_CODES)]
    Transactions(TransactionsArguments),
    /// The cluster: describe, configs.
    #[command(after_help = EXIT_CODES)]
    Cluster(ClusterArguments),
    /// Write a completion script for a shell to standard output.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Arguments of `flumen serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArguments {
    /// File in the form of Kafka's server.properties; without it every option has its default.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One option that goes before the file; may be given several times.
    #[arg(long = "override", short = 'o', value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Give up, with this start, what is damaged: partitions held since damage take records again,
    /// from the end of what they have; journal damage that cannot be told whose it was no longer
    /// stops the start.
    ///
    /// Everything given up is logged, and what is left of it stays in quarantine files beside the
    /// journal. If the cluster's metadata log is damaged, what it lost (topics made, changed or
    /// deleted) is forgotten too, and partitions of topics it does not know any more are deleted: copy
    /// the data folder first. Not for a service file: it would accept whatever is damaged next.
    #[arg(long)]
    pub accept_damage: bool,
    /// Say that the wall clock is right: what is deleted by age (retention.ms) goes again.
    ///
    /// A clock that jumps by more than a day suspends that, also beyond restarts, until it shows again
    /// what it should. Not for a service file: it would confirm whatever the clock shows next.
    #[arg(long)]
    pub confirm_clock: bool,
}

/// Arguments of `flumen doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArguments {
    /// The data folder, or where it will be; the file system below it is examined.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Write the findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Leave out the measurements, which take about ten seconds.
    #[arg(long)]
    pub quick: bool,
}

/// Arguments of `flumen inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArguments {
    /// The data folder.
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// Show every record instead of a summary of each batch.
    #[arg(long)]
    pub records: bool,
    /// Only this topic.
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Only this partition of the topic.
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
}

/// What one of the commands of daily work was told.
#[derive(Clone, Debug)]
pub enum Daily {
    /// `flumen topics`.
    Topics(TopicsArguments),
    /// `flumen groups`.
    Groups(GroupsArguments),
    /// `flumen produce`.
    Produce(ProduceArguments),
    /// `flumen consume`.
    Consume(ConsumeArguments),
    /// `flumen transactions`.
    Transactions(TransactionsArguments),
    /// `flumen cluster`.
    Cluster(ClusterArguments),
}

impl Daily {
    fn is_json(&self) -> bool {
        let common = match self {
            Self::Topics(arguments) => &arguments.common,
            Self::Groups(arguments) => &arguments.common,
            Self::Produce(arguments) => &arguments.common,
            Self::Consume(arguments) => &arguments.common,
            Self::Transactions(arguments) => &arguments.common,
            Self::Cluster(arguments) => &arguments.common,
        };
        common.json
    }
}

/// Runs a command of daily work; answers with its exit code.
pub fn run(command: &Daily) -> u8 {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let outcome = match command {
        Daily::Topics(arguments) => topics::run(arguments),
        Daily::Groups(arguments) => groups::run(arguments),
        Daily::Produce(arguments) => produce::run(arguments, &mut io::stdin(), &mut output),
        Daily::Consume(arguments) => consume::run(arguments, &mut output),
        Daily::Transactions(arguments) => transactions::run(arguments),
        Daily::Cluster(arguments) => nodes::run(arguments),
    };
    match outcome.and_then(|outcome| say(&outcome, command.is_json(), &mut output)) {
        Ok(()) => 0,
        Err(fault) if fault.is_closed_output() => 0,
        Err(fault) => {
            // What was shown before it went wrong is shown before the reason.
            let _ = output.flush();
            eprintln!("flumen: {fault}");
            fault.exit_code()
        }
    }
}

fn say(outcome: &Outcome, json: bool, output: &mut dyn Write) -> Result<(), Fault> {
    output.write_all(outcome.render(json).as_bytes())?;
    Ok(output.flush()?)
}

/// Writes the completion script of a shell.
pub fn write_completions(shell: Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "flumen", out);
}

const SERVE_EXAMPLES: &str = "\
Examples:
  flumen serve
      listens on 127.0.0.1:9092 and [::1]:9092, keeps data in ./flumen-data
  flumen serve --config server.properties
      the options of a Kafka file
  flumen serve -o listeners=PLAINTEXT://:9092 -o advertised.listeners=PLAINTEXT://broker.example:9092
      listens on every address and tells clients the name to use
  flumen serve -o log.dirs=/var/lib/flumen -o flumen.cores=4 --log-format json

CONFIG.md lists every option.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  flumen doctor /var/lib/flumen
  flumen doctor /var/lib/flumen --json | jq '.findings[] | select(.verdict != \"ok\")'

The exit code is 1 if anything keeps the broker from running, otherwise 0.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  flumen inspect /var/lib/flumen
  flumen inspect /var/lib/flumen --topic orders --partition 0 --records";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  flumen completions bash > /etc/bash_completion.d/flumen
  flumen completions zsh  > ~/.zfunc/_flumen";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_a_file_and_overrides() {
        let cli =
            parsed("flumen serve --config a.properties -o a=1 --override b=2 --log-format json")
                .unwrap();
        assert_eq!(cli.log_format, LogFormat::Json);
        let Command::Serve(serve) = cli.command else { panic!("not serve") };
        assert_eq!(serve.overrides, ["a=1", "b=2"]);
        assert_eq!(serve.config, Some(PathBuf::from("a.properties")));
        assert!(!serve.accept_damage, "never unless it is said");
        assert!(!serve.confirm_clock, "never unless it is said");
    }

    #[test]
    fn inspect_wants_a_topic_with_a_partition() {
        assert!(parsed("flumen inspect d --partition 1").is_err());
        assert!(parsed("flumen inspect d --topic t --partition -1").is_err());
        assert!(parsed("flumen inspect d --topic t --partition 1 --records").is_ok());
    }

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            write_completions(shell, &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["doctor", "reset-offsets", "key-separator", "bootstrap"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}

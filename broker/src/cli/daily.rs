//! The commands of daily work: what can be typed.
//!
//! Does: define `topics`, `groups`, `produce`, `consume`, `transactions` and `cluster`, with arguments
//! and help.
//! Does not: run any of them.
//! Invariants: every option of these commands is declared here and nowhere else.
//! Apart because they ask a broker over the wire, and the other commands are about this machine.

use clap::{Args, Subcommand, ValueEnum};
use flumen_protocol::batch::codec::Codec;

use super::moment::Position;

/// Whom to ask, and how to answer.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// One or several brokers to ask first; the others of the cluster are found from there.
    #[arg(
        long = "bootstrap",
        short,
        global = true,
        default_value = "localhost:9092",
        value_name = "HOST:PORT[,…]"
    )]
    pub bootstrap: String,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// How long a broker may take for one answer, in seconds.
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Arguments of `flumen topics`.
#[derive(Args, Clone, Debug)]
pub struct TopicsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TopicsCommand,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// What can be done with topics.
#[derive(Clone, Debug, Subcommand)]
pub enum TopicsCommand {
    /// Name all topics.
    List {
        /// Also those that brokers keep their own records in.
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, leaders, replicas, and settings that differ from the broker's.
    Describe {
        /// Which.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Make topics.
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many partitions; without it the broker's `num.partitions`.
        #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Copies of each partition; without it the broker's `default.replication.factor`.
        #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A setting; may be given several times.
        #[arg(long = "config", short = 'c', value_name = "KEY=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// Be content with a topic that exists already.
        #[arg(long)]
        if_not_exists: bool,
        /// Only let the broker judge it.
        #[arg(long)]
        dry_run: bool,
    },
    /// Change settings of a topic.
    #[command(after_help = ALTER_EXAMPLES)]
    Alter {
        /// Which.
        topic: String,
        /// What changes.
        #[command(flatten)]
        change: Change,
    },
    /// Delete topics, with all their records.
    Delete {
        /// Which.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Show where partitions begin and end.
    Offsets {
        /// Which.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Give a topic more partitions. Records with keys may go to other partitions from then on.
    Grow {
        /// Which.
        topic: String,
        /// How many it shall have in all.
        #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
    },
}

/// Settings to be set and to be taken back.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct Change {
    /// Set this; may be given several times.
    #[arg(long = "set", short, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Take this back, so that the default holds again; may be given several times.
    #[arg(long = "delete", short, value_name = "KEY")]
    pub delete: Vec<String>,
}

/// Arguments of `flumen groups`.
#[derive(Args, Clone, Debug)]
pub struct GroupsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: GroupsCommand,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// What can be done with consumer groups.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupsCommand {
    /// Name all groups.
    List,
    /// Show members, what they read, and how far behind they are: in records, and in seconds since
    /// the next record to be read was written.
    Describe {
        /// Which.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Let a group go on elsewhere. Shows what would change; does it only with --execute.
    #[command(after_help = RESET_EXAMPLES)]
    ResetOffsets(ResetArguments),
    /// Delete groups that have no members, with their offsets.
    Delete {
        /// Which.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
}

/// Arguments of `flumen groups reset-offsets`.
#[derive(Args, Clone, Debug)]
pub struct ResetArguments {
    /// Which group; it must have no members.
    pub group: String,
    /// A topic, or some of its partitions; may be given several times. Without it, every partition the
    /// group has an offset for.
    #[arg(long = "topic", short, value_name = "TOPIC[:N,N…]")]
    pub topics: Vec<String>,
    /// Where to: beginning, end, an offset, a time, or how long ago (90s, 15m, 6h, 2d). Beyond the
    /// partition's ends, the nearer end.
    #[arg(long, value_name = "WHERE", value_parser = Position::parse,
          required_unless_present = "shift", conflicts_with = "shift")]
    pub to: Option<Position>,
    /// So many records forward, or back if negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub shift: Option<i64>,
    /// Do it.
    #[arg(long)]
    pub execute: bool,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// On all replicas in sync.
    All,
    /// At the leader.
    #[value(name = "1")]
    Leader,
    /// When it is sent.
    #[value(name = "0")]
    None,
}

/// How records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What it is on the wire.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

/// Arguments of `flumen produce`.
#[derive(Args, Clone, Debug)]
pub struct ProduceArguments {
    /// The topic.
    pub topic: String,
    /// One record each; without any, the lines of standard input.
    #[arg(value_name = "VALUE")]
    pub values: Vec<String>,
    /// The key of every record.
    #[arg(long, short, conflicts_with = "key_separator")]
    pub key: Option<String>,
    /// What stands between key and value in each line.
    #[arg(long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// A header of every record; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = pair)]
    pub headers: Vec<(String, String)>,
    /// To this partition; without it by the key, as Java's clients choose, or in turn.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// When a record counts as written.
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// How records are compressed.
    #[arg(long, value_enum, default_value = "none")]
    pub codec: Compression,
    /// Write empty values as null: tombstones for compacted topics.
    #[arg(long)]
    pub tombstones: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The value and a line's end, byte for byte.
    Value,
    /// Key, tabulator, value and a line's end.
    KeyValue,
    /// Everything, as one object a line; bytes that are no text as {"hex": "…"}.
    Json,
}

/// Arguments of `flumen consume`.
#[derive(Args, Clone, Debug)]
pub struct ConsumeArguments {
    /// The topic.
    pub topic: String,
    /// Only this partition; may be given several times.
    #[arg(long = "partition", short, value_name = "N",
          value_parser = clap::value_parser!(i32).range(0..))]
    pub partitions: Vec<i32>,
    /// Where to begin: beginning, end, an offset, a time, or how long ago (90s, 15m, 6h, 2d).
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = Position::parse)]
    pub from: Position,
    /// No more than so many records.
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// Go on with what is written later, until Ctrl-C; otherwise stop at what was the end.
    #[arg(long, short)]
    pub follow: bool,
    /// Begin where this group stands, and move it forward. It must have no members.
    #[arg(long, short, value_name = "GROUP")]
    pub group: Option<String>,
    /// How records are shown; --json is the same as `--format json`.
    #[arg(long, value_enum, default_value = "value")]
    pub format: Format,
    /// Leave out what transactions did not commit.
    #[arg(long)]
    pub committed: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `flumen transactions`.
#[derive(Args, Clone, Debug)]
pub struct TransactionsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TransactionsCommand,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// What can be asked about transactions.
#[derive(Clone, Debug, Subcommand)]
pub enum TransactionsCommand {
    /// Name all transactional ids.
    List,
    /// Show state, producer, age and partitions.
    Describe {
        /// Which.
        #[arg(required = true, value_name = "TRANSACTIONAL-ID")]
        ids: Vec<String>,
    },
}

/// Arguments of `flumen cluster`.
#[derive(Args, Clone, Debug)]
pub struct ClusterArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ClusterCommand,
    /// Whom to ask.
    #[command(flatten)]
    pub common: Common,
}

/// What can be done with a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show brokers, and how many partitions each leads and holds.
    Describe,
    /// Show or change settings of brokers.
    Configs {
        /// What to do.
        #[command(subcommand)]
        command: ConfigsCommand,
    },
}

/// What can be done with settings of brokers.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigsCommand {
    /// Show settings.
    Describe {
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// Also those that have their default.
        #[arg(long)]
        all: bool,
    },
    /// Change settings.
    Alter {
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// What changes.
        #[command(flatten)]
        change: Change,
    },
}

/// Whose settings.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// Those of this broker.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    pub broker: Option<i32>,
    /// Those that every broker has unless it has its own.
    #[arg(long)]
    pub defaults: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE".to_owned()),
    }
}

const CREATE_EXAMPLES: &str = "\
Examples:
  flumen topics create orders --partitions 12
  flumen topics create prices -p 4 -c cleanup.policy=compact -c retention.ms=-1";

const ALTER_EXAMPLES: &str = "\
Examples:
  flumen topics alter orders --set retention.ms=86400000
  flumen topics alter orders --delete retention.ms";

const RESET_EXAMPLES: &str = "\
Examples:
  flumen groups reset-offsets billing --to beginning
      shows what would change
  flumen groups reset-offsets billing --topic orders:0,1 --to 6h --execute
  flumen groups reset-offsets billing --topic orders --shift -100 --execute";

/// Examples of `flumen produce`.
pub const PRODUCE_EXAMPLES: &str = "\
Examples:
  flumen produce orders 'first' 'second' --key customer-7
  printf 'a:1\\nb:2\\n' | flumen produce orders --key-separator : --codec zstd";

/// Examples of `flumen consume`.
pub const CONSUME_EXAMPLES: &str = "\
Examples:
  flumen consume orders
      everything there is, then stops
  flumen consume orders --from end --follow --format json
  flumen consume orders --from 15m --count 10 --group billing";

/// Exit codes of all these commands.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 a mistake in what was typed, 3 no broker could be talked to.
It works with every broker that speaks Kafka's protocol without TLS and passwords.";

//! The one declaration of every topic config of Kafka 4.1.
//!
//! Does: one row per config with allowed values, default, the broker settings it inherits from (first
//! one given wins) and its meaning here. Does not: compute effective values (`topic` does).
//! Invariants: sorted by name; each default passes its own check; every inherited name is a broker
//! setting that `declaration` or `kafka_names` knows (tests).
//! Apart because it is a table.

use super::kind::Kind;

/// One topic config.
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// Allowed values.
    pub kind: Kind,
    /// Value where neither the topic nor the broker sets one.
    pub default: &'static str,
    /// Broker settings it inherits from, the strongest first.
    pub inherits: &'static [Inherited],
    /// What it does here; says so if it is only kept and shown.
    pub meaning: &'static str,
}

/// A broker setting a topic config inherits from.
#[derive(Clone, Copy)]
pub struct Inherited {
    /// Kafka's broker name.
    pub name: &'static str,
    /// What one unit there is here: 3,600,000 for hours into milliseconds; any negative number is -1
    /// here. `None` takes the text as it is.
    pub factor: Option<i64>,
}

/// The row of one name.
pub fn find(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|config| config.name == name)
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    inherits: &'static [Inherited],
    meaning: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, inherits, meaning }
}

const fn same(name: &'static str) -> Inherited {
    Inherited { name, factor: None }
}

const fn milliseconds(name: &'static str) -> Inherited {
    Inherited { name, factor: Some(1) }
}

const fn minutes(name: &'static str) -> Inherited {
    Inherited { name, factor: Some(60_000) }
}

const fn hours(name: &'static str) -> Inherited {
    Inherited { name, factor: Some(3_600_000) }
}

const FOREVER: &str = "9223372036854775807";

/// Every public topic config of Kafka 4.1, sorted by name.
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    row(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        &[same("log.cleanup.policy")],
        "delete: old segments go by time and size. compact: of every key only the last record stays, and records without a key are refused. Both: either.",
    ),
    row(
        "compression.gzip.level",
        Kind::Int { min: -1, max: 9 },
        "-1",
        &[same("compression.gzip.level")],
        "Kept and shown; what the broker compresses itself has the default level of its format.",
    ),
    row(
        "compression.lz4.level",
        Kind::Int { min: 1, max: 17 },
        "9",
        &[same("compression.lz4.level")],
        "Kept and shown; what the broker compresses itself has the default level of its format.",
    ),
    row(
        "compression.type",
        Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        &[same("compression.type")],
        "producer: batches stay as their producers compressed them. Otherwise one that is compressed another way is compressed anew, which costs time and memory for its records as they are uncompressed.",
    ),
    row(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        "3",
        &[same("compression.zstd.level")],
        "Kept and shown; what the broker compresses itself has the default level of its format.",
    ),
    row(
        "delete.retention.ms",
        Kind::long_from(0),
        "86400000",
        &[same("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps tombstones and markers of transactions that are gone, from the cleaning on that found them alone.",
    ),
    row(
        "file.delete.delay.ms",
        Kind::long_from(0),
        "60000",
        &[same("log.segment.delete.delay.ms")],
        "Kept and shown; deleted segments go at once, since no reader keeps a file open.",
    ),
    row(
        "flush.messages",
        Kind::long_from(1),
        FOREVER,
        &[same("log.flush.interval.messages")],
        "Unset or 1, every acknowledged record is durable. Above 1, acknowledgements of this topic do not wait for the disk: a crash may lose acknowledged records. They are still written at once, and no count is kept.",
    ),
    row(
        "flush.ms",
        Kind::long_from(0),
        FOREVER,
        &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")],
        "Unset or 0, every acknowledged record is durable. Above 0, acknowledgements of this topic do not wait for the disk, as with flush.messages, unless that is 1. No clock runs.",
    ),
    row(
        "follower.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        &[],
        "Kept and shown; there is no throttling of replication yet.",
    ),
    row(
        "index.interval.bytes",
        Kind::int_from(0),
        "4096",
        &[same("log.index.interval.bytes")],
        "Kept and shown; Flumen chooses the distance of its index entries itself.",
    ),
    row(
        "leader.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        &[],
        "Kept and shown; there is no throttling of replication yet.",
    ),
    row(
        "local.retention.bytes",
        Kind::long_from(-2),
        "-2",
        &[same("log.local.retention.bytes")],
        "Belongs to tiered storage, which is not there yet.",
    ),
    row(
        "local.retention.ms",
        Kind::long_from(-2),
        "-2",
        &[same("log.local.retention.ms")],
        "Belongs to tiered storage, which is not there yet.",
    ),
    row(
        "max.compaction.lag.ms",
        Kind::long_from(1),
        FOREVER,
        &[same("log.cleaner.max.compaction.lag.ms")],
        "Longest time a record stays uncleaned: after it a cleaning is due however little is dirty, and segments are closed.",
    ),
    row(
        "max.message.bytes",
        Kind::int_from(0),
        "1048588",
        &[same("message.max.bytes")],
        "Largest record batch accepted, as compressed.",
    ),
    row(
        "message.timestamp.after.max.ms",
        Kind::long_from(0),
        "3600000",
        &[same("log.message.timestamp.after.max.ms")],
        "A record stamped further than this in the future is refused (CreateTime only).",
    ),
    row(
        "message.timestamp.before.max.ms",
        Kind::long_from(0),
        FOREVER,
        &[same("log.message.timestamp.before.max.ms")],
        "A record stamped further than this in the past is refused (CreateTime only).",
    ),
    row(
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        &[same("log.message.timestamp.type")],
        "Whose clock stamps records: the producer's or the broker's.",
    ),
    row(
        "min.cleanable.dirty.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        "0.5",
        &[same("log.cleaner.min.cleanable.ratio")],
        "A partition is cleaned when a larger share of its closed segments is uncleaned.",
    ),
    row(
        "min.compaction.lag.ms",
        Kind::long_from(0),
        "0",
        &[same("log.cleaner.min.compaction.lag.ms")],
        "Shortest time a record stays uncleaned.",
    ),
    row(
        "min.insync.replicas",
        Kind::int_from(1),
        "1",
        &[same("min.insync.replicas")],
        "Replicas in sync that acks=all needs, but no more than the topic has.",
    ),
    row(
        "preallocate",
        Kind::Boolean,
        "false",
        &[same("log.preallocate")],
        "Kept and shown; Flumen decides itself when it reserves space.",
    ),
    row(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        &[],
        "Belongs to tiered storage, which is not there yet.",
    ),
    row(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        &[],
        "Belongs to tiered storage, which is not there yet.",
    ),
    row(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        &[],
        "Only false is accepted: tiered storage is not there yet.",
    ),
    row(
        "retention.bytes",
        Kind::long_from(i64::MIN),
        "-1",
        &[same("log.retention.bytes")],
        "A partition larger than this loses its oldest segments; negative means no bound.",
    ),
    row(
        "retention.ms",
        Kind::long_from(-1),
        "604800000",
        &[
            milliseconds("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ],
        "Records older than this may be deleted; -1 keeps them for ever.",
    ),
    row(
        "segment.bytes",
        Kind::int_from(1_048_576),
        "1073741824",
        &[same("log.segment.bytes")],
        "A segment is closed at this size; deletion takes whole segments.",
    ),
    row(
        "segment.index.bytes",
        Kind::int_from(4),
        "10485760",
        &[same("log.index.size.max.bytes")],
        "Kept and shown; Flumen sizes its index itself.",
    ),
    row(
        "segment.jitter.ms",
        Kind::long_from(0),
        "0",
        &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "Kept and shown; segments of a core are closed in turn anyway.",
    ),
    row(
        "segment.ms",
        Kind::long_from(1),
        "604800000",
        &[same("log.roll.ms"), hours("log.roll.hours")],
        "A segment is closed at this age, so that deletion can take it.",
    ),
    row(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        &[same("unclean.leader.election.enable")],
        "Kept and shown; a replica that lacks acknowledged records never leads.",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{declaration, kafka_names};
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_pass() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        for config in TOPIC_CONFIGS.iter().filter(|config| !config.default.is_empty()) {
            config.kind.check(config.name, config.default).unwrap();
        }
    }

    #[test]
    fn what_is_inherited_exists() {
        for inherited in TOPIC_CONFIGS.iter().flat_map(|config| config.inherits) {
            let known = declaration::find(inherited.name).is_some()
                || kafka_names::find(inherited.name).is_some();
            assert!(known, "{}", inherited.name);
        }
    }
}

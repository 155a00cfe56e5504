//! The one declaration of every option Flumen honours.
//!
//! Does: one row per option with name, allowed values, default, meaning and the field it sets.
//! Does not: read files, nor combine options (`resolve` does).
//! Invariants: names are unique; each default passes the check of its own row (tests).
//! Apart because an operator's page, the loader, DescribeConfigs and the struct must not disagree.

use super::declaration_groups::CONSUMER_GROUPS;
use super::declared::{Declaration, Field, for_topics, row, unset};
use super::kind::Kind;
use crate::limits::PARTITIONS_PER_TOPIC;

/// The row of one name.
pub fn find(name: &str) -> Option<&'static Declaration> {
    all().find(|declaration| declaration.name == name)
}

/// Every option Flumen honours, in the order of `CONFIG.md`.
pub fn all() -> impl Iterator<Item = &'static Declaration> {
    DECLARATIONS.iter().chain(CONSUMER_GROUPS)
}

/// All but those that have a file of their own.
const DECLARATIONS: &[Declaration] = &[
    // Who and where.
    row(
        "node.id",
        Kind::int_from(0),
        "1",
        "Number of this broker; clients see it in Metadata.",
        Field::Combined,
    ),
    unset(
        "broker.id",
        Kind::int_from(-1),
        "Older name of node.id; must agree with it if both are given.",
        Field::Combined,
    ),
    row(
        "process.roles",
        Kind::List(&["broker", "controller"]),
        "broker,controller",
        "Must contain broker. A Flumen node is always both.",
        Field::Combined,
    ),
    unset(
        "broker.rack",
        Kind::Text,
        "Rack or zone of this broker, told to clients in Metadata.",
        Field::OptionalText(|o| &mut o.rack),
    ),
    unset(
        "flumen.cluster.id",
        Kind::Text,
        "Cluster id to write when the data folder is first used; drawn at random if unset. Has to agree with the folder afterwards.",
        Field::OptionalText(|o| &mut o.cluster_id),
    ),
    // Listeners.
    row(
        "listeners",
        Kind::Text,
        "PLAINTEXT://127.0.0.1:9092,PLAINTEXT://[::1]:9092",
        "Addresses to listen on, as NAME://host:port. An empty host listens on every address. The default is loopback only, because there is no authentication. One name may be used for several addresses.",
        Field::Combined,
    ),
    unset(
        "advertised.listeners",
        Kind::Text,
        "Addresses told to clients, by listener name. Unset: the listener's own host, or the machine's name for a listener on every address. A wildcard address is refused.",
        Field::Combined,
    ),
    row(
        "listener.security.protocol.map",
        Kind::Text,
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Security protocol of each listener name. A listener that asks for anything but PLAINTEXT is refused.",
        Field::Combined,
    ),
    row(
        "controller.listener.names",
        Kind::Text,
        "",
        "Listener names of Kafka's controller quorum; they are not opened.",
        Field::Combined,
    ),
    row(
        "max.connections",
        Kind::int_from(1),
        "2147483647",
        "Most client connections of the broker at one time; more are closed at once. 0, which would let nobody in to take it back, is refused.",
        Field::I32(|o| &mut o.max_connections),
    ),
    row(
        "max.connections.per.ip",
        Kind::int_from(1),
        "2147483647",
        "Most client connections from one address at one time, of those that one core accepts. 0, which would let nobody in, is refused.",
        Field::I32(|o| &mut o.max_connections_per_ip),
    ),
    row(
        "max.connections.per.ip.overrides",
        Kind::HostNumbers,
        "",
        "Other numbers for single addresses, as address:number pairs separated by commas. Addresses only: names of hosts are not looked up and have no effect.",
        Field::OptionalText(|o| &mut o.max_connections_per_ip_overrides),
    ),
    row(
        "max.connection.creation.rate",
        Kind::int_from(1),
        "2147483647",
        "Most connections accepted per second, shared evenly by the cores; more wait to be accepted. A second's worth may come at once.",
        Field::I32(|o| &mut o.max_connection_creation_rate),
    ),
    row(
        "quota.window.num",
        Kind::int_from(1),
        "11",
        "With quota.window.size.seconds: a client with a quota may spend at once what it has for all of these windows but one.",
        Field::I32(|o| &mut o.quotas.window_num),
    ),
    row(
        "quota.window.size.seconds",
        Kind::int_from(1),
        "1",
        "Length of a window of quota.window.num; the longest wait for a quota of request_percentage.",
        Field::I32(|o| &mut o.quotas.window_size_seconds),
    ),
    row(
        "controller.quota.window.num",
        Kind::int_from(1),
        "11",
        "With controller.quota.window.size.seconds: a client with a controller_mutation_rate may spend at once what it has for all of these windows.",
        Field::I32(|o| &mut o.quotas.controller_window_num),
    ),
    row(
        "controller.quota.window.size.seconds",
        Kind::int_from(1),
        "1",
        "Length of a window of controller.quota.window.num.",
        Field::I32(|o| &mut o.quotas.controller_window_size_seconds),
    ),
    row(
        "connections.max.idle.ms",
        Kind::long_from(i64::MIN),
        "600000",
        "A connection without traffic for this long is closed; negative never.",
        Field::I64(|o| &mut o.connections_max_idle_ms),
    ),
    row(
        "socket.listen.backlog.size",
        Kind::int_from(1),
        "50",
        "Kept and shown; each core listens with the system's own backlog.",
        Field::I32(|o| &mut o.socket_listen_backlog_size),
    ),
    row(
        "socket.send.buffer.bytes",
        Kind::int_from(-1),
        "102400",
        "Kept and shown; the system sizes the send buffers of sockets.",
        Field::I32(|o| &mut o.socket_send_buffer_bytes),
    ),
    row(
        "socket.receive.buffer.bytes",
        Kind::int_from(-1),
        "102400",
        "Kept and shown; the system sizes the receive buffers of sockets.",
        Field::I32(|o| &mut o.socket_receive_buffer_bytes),
    ),
    row(
        "socket.request.max.bytes",
        Kind::int_from(1),
        "104857600",
        "Largest request; a longer one closes the connection.",
        Field::I32(|o| &mut o.socket_request_max_bytes),
    ),
    row(
        "queued.max.requests",
        Kind::int_from(1),
        "500",
        "Kept and shown; open requests are bounded by bytes (flumen.memory.bytes) and per connection instead.",
        Field::I32(|o| &mut o.queued_max_requests),
    ),
    row(
        "request.timeout.ms",
        Kind::int_from(1),
        "30000",
        "Longest wait of a request that names no time of its own.",
        Field::I32(|o| &mut o.request_timeout_ms),
    ),
    row(
        "fetch.max.bytes",
        Kind::int_from(1024),
        "57671680",
        "Most bytes of one Fetch answer; a client that asks for less gets less, and more than the default changes nothing. One batch larger than this comes all the same, alone.",
        Field::I32(|o| &mut o.fetch_max_bytes),
    ),
    row(
        "max.incremental.fetch.session.cache.slots",
        Kind::int_from(0),
        "1000",
        "Most incremental fetch sessions at one time, shared evenly by the cores. What they take in memory is bounded too, by a quarter of the budget of requests. A client that gets none names every partition in every fetch.",
        Field::I32(|o| &mut o.fetch_session_slots_max),
    ),
    row(
        "max.request.partition.size.limit",
        Kind::int_from(1),
        "2000",
        "Most partitions in one DescribeTopicPartitions answer.",
        Field::I32(|o| &mut o.max_request_partition_size_limit),
    ),
    // Topics.
    row(
        "num.partitions",
        Kind::Int { min: 1, max: PARTITIONS_PER_TOPIC as i64 },
        "1",
        "Partitions of a topic created without a count.",
        Field::I32(|o| &mut o.num_partitions),
    ),
    row(
        "default.replication.factor",
        Kind::Int { min: 1, max: i16::MAX as i64 },
        "1",
        "Replicas of a topic created without a count. A topic asking for more replicas than there are brokers is not created.",
        Field::I16(|o| &mut o.default_replication_factor),
    ),
    row(
        "min.insync.replicas",
        Kind::int_from(1),
        "1",
        "Replicas in sync that acks=all needs, but no more than a topic has. Inherited by topics.",
        Field::I32(|o| &mut o.min_insync_replicas),
    ),
    row(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        "Create a topic when a client asks for the metadata of a missing one and allows it.",
        Field::Bool(|o| &mut o.auto_create_topics_enable),
    ),
    row(
        "delete.topic.enable",
        Kind::Boolean,
        "true",
        "Allow DeleteTopics.",
        Field::Bool(|o| &mut o.delete_topic_enable),
    ),
    row(
        "message.max.bytes",
        Kind::int_from(0),
        "1048588",
        "Largest record batch accepted, as compressed; inherited by topics.",
        Field::I32(|o| &mut o.message_max_bytes),
    ),
    row(
        "compression.type",
        Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
        "What stored batches are compressed with; inherited by topics. producer: batches stay as their producers compressed them. Otherwise a batch that is compressed another way is compressed anew, at the default level of its format.",
        Field::Combined,
    ),
    // The log.
    unset(
        "log.dirs",
        Kind::Text,
        "Data folder. One folder only: several are refused. Overrides log.dir.",
        Field::Combined,
    ),
    row(
        "log.dir",
        Kind::Text,
        "./flumen-data",
        "Data folder where log.dirs is not given.",
        Field::Combined,
    ),
    row(
        "log.cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        "What happens to old records of topics that do not say it themselves: see cleanup.policy. Nothing keeps all records.",
        Field::Combined,
    ),
    unset(
        "log.retention.ms",
        Kind::long_from(i64::MIN),
        "Records older than this may be deleted; negative keeps them. Goes before log.retention.minutes.",
        Field::Combined,
    ),
    unset(
        "log.retention.minutes",
        Kind::int_from(i32::MIN as i64),
        "As log.retention.ms, in minutes. Goes before log.retention.hours.",
        Field::Combined,
    ),
    row(
        "log.retention.hours",
        Kind::int_from(i32::MIN as i64),
        "168",
        "As log.retention.ms, in hours.",
        Field::Combined,
    ),
    row(
        "log.retention.bytes",
        Kind::long_from(i64::MIN),
        "-1",
        "A partition larger than this loses its oldest segments; negative means no bound.",
        Field::I64(|o| &mut o.log_retention_bytes),
    ),
    row(
        "log.retention.check.interval.ms",
        Kind::long_from(1),
        "300000",
        "Time between two looks for segments that may be deleted.",
        Field::I64(|o| &mut o.log_retention_check_interval_ms),
    ),
    row(
        "log.cleaner.enable",
        Kind::Boolean,
        "true",
        "Whether compacted topics are cleaned. Without it they keep every record, and so does __consumer_offsets.",
        Field::Bool(|o| &mut o.log_cleaner_enable),
    ),
    row(
        "log.cleaner.backoff.ms",
        Kind::long_from(0),
        "15000",
        "Time between two looks for a partition that is dirty enough to be cleaned.",
        Field::I64(|o| &mut o.log_cleaner_backoff_ms),
    ),
    row(
        "log.cleaner.dedupe.buffer.size",
        Kind::long_from(1 << 20),
        "67108864",
        "Bytes that the tables of keys of all cores may take together while they clean, in equal parts: 24 for every key of the uncleaned part of a partition. If they do not fit, cleaning takes several walks over it. Kafka's default is twice as much.",
        Field::I64(|o| &mut o.log_cleaner_dedupe_buffer_size),
    ),
    for_topics("log.cleaner.delete.retention.ms", Kind::long_from(0), "86400000"),
    for_topics("log.cleaner.min.cleanable.ratio", Kind::Double { min: 0.0, max: 1.0 }, "0.5"),
    for_topics("log.cleaner.min.compaction.lag.ms", Kind::long_from(0), "0"),
    for_topics("log.cleaner.max.compaction.lag.ms", Kind::long_from(1), "9223372036854775807"),
    row(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Double { min: 1.0, max: f64::MAX },
        "1.7976931348623157E308",
        "Bytes that cleaning may read and write per second on all cores together. A core that takes records gives it 32 MiB per second at most in any case.",
        Field::F64(|o| &mut o.log_cleaner_io_max_bytes_per_second),
    ),
    row(
        "log.segment.bytes",
        Kind::int_from(1_048_576),
        "1073741824",
        "A segment is closed at this size; deletion takes whole segments.",
        Field::I32(|o| &mut o.log_segment_bytes),
    ),
    unset(
        "log.roll.ms",
        Kind::long_from(1),
        "A segment is closed at this age. Goes before log.roll.hours.",
        Field::Combined,
    ),
    row("log.roll.hours", Kind::int_from(1), "168", "As log.roll.ms, in hours.", Field::Combined),
    row(
        "log.flush.interval.messages",
        Kind::long_from(1),
        "9223372036854775807",
        "Unset or 1, every acknowledged record is durable. Above 1, acknowledgements of all topics that set nothing themselves, the groups' offsets among them, do not wait for the disk; records are still written at once, and no count is kept. See flush.messages.",
        Field::I64(|o| &mut o.log_flush_interval_messages),
    ),
    unset(
        "log.flush.interval.ms",
        Kind::long_from(0),
        "Unset or 0, every acknowledged record is durable. Above 0, acknowledgements of all topics that set nothing themselves, the groups' offsets among them, do not wait for the disk; records are still written at once, and no clock runs. log.flush.interval.messages=1 goes before it.",
        Field::Combined,
    ),
    row(
        "log.message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose clock stamps records: the producer's or the broker's.",
        Field::Combined,
    ),
    row(
        "log.message.timestamp.before.max.ms",
        Kind::long_from(0),
        "9223372036854775807",
        "A record stamped further than this in the past is refused (CreateTime only).",
        Field::I64(|o| &mut o.log_message_timestamp_before_max_ms),
    ),
    row(
        "log.message.timestamp.after.max.ms",
        Kind::long_from(0),
        "3600000",
        "A record stamped further than this in the future is refused (CreateTime only).",
        Field::I64(|o| &mut o.log_message_timestamp_after_max_ms),
    ),
    row(
        "producer.id.expiration.ms",
        Kind::int_from(1),
        "86400000",
        "An idempotent producer silent for this long is forgotten.",
        Field::I32(|o| &mut o.producer_id_expiration_ms),
    ),
    // Groups.
    row(
        "group.initial.rebalance.delay.ms",
        Kind::int_from(0),
        "3000",
        "Wait for more members before the first rebalance of an empty group.",
        Field::I32(|o| &mut o.group_initial_rebalance_delay_ms),
    ),
    row(
        "group.min.session.timeout.ms",
        Kind::int_from(0),
        "6000",
        "Shortest session timeout a member may ask for.",
        Field::I32(|o| &mut o.group_min_session_timeout_ms),
    ),
    row(
        "group.max.session.timeout.ms",
        Kind::int_from(0),
        "1800000",
        "Longest session timeout a member may ask for.",
        Field::I32(|o| &mut o.group_max_session_timeout_ms),
    ),
    row(
        "group.max.size",
        Kind::int_from(1),
        "2147483647",
        "Most members of one group.",
        Field::I32(|o| &mut o.group_max_size),
    ),
    row(
        "offset.metadata.max.bytes",
        Kind::int_from(0),
        "4096",
        "Longest text a client may store with a committed offset.",
        Field::I32(|o| &mut o.offset_metadata_max_bytes),
    ),
    row(
        "offsets.commit.timeout.ms",
        Kind::int_from(1),
        "5000",
        "Longest wait for a commit to be durable.",
        Field::I32(|o| &mut o.offsets_commit_timeout_ms),
    ),
    row(
        "offsets.retention.minutes",
        Kind::int_from(1),
        "10080",
        "Offsets of a group without members are kept this long.",
        Field::I32(|o| &mut o.offsets_retention_minutes),
    ),
    row(
        "offsets.retention.check.interval.ms",
        Kind::long_from(1),
        "600000",
        "Time between two looks for expired offsets.",
        Field::I64(|o| &mut o.offsets_retention_check_interval_ms),
    ),
    row(
        "offsets.topic.num.partitions",
        Kind::Int { min: 1, max: PARTITIONS_PER_TOPIC as i64 },
        "50",
        "Partitions of the topic that holds committed offsets; fixed once it exists.",
        Field::I32(|o| &mut o.offsets_topic_num_partitions),
    ),
    row(
        "offsets.topic.replication.factor",
        Kind::Short { min: 1, max: i16::MAX as i64 },
        "1",
        "Replicas of that topic. Kafka's default is 3; a single node can only have 1.",
        Field::I16(|o| &mut o.offsets_topic_replication_factor),
    ),
    row(
        "offsets.topic.segment.bytes",
        Kind::int_from(1_048_576),
        "104857600",
        "Segment size of that topic. Kafka takes smaller values, and then cannot create the topic, whose own segment.bytes must not be smaller.",
        Field::I32(|o| &mut o.offsets_topic_segment_bytes),
    ),
    row(
        "transaction.max.timeout.ms",
        Kind::int_from(1),
        "900000",
        "Longest timeout a transactional producer may ask for; a transaction that takes longer than its own is aborted.",
        Field::I32(|o| &mut o.transactions.max_timeout_ms),
    ),
    row(
        "transactional.id.expiration.ms",
        Kind::int_from(1),
        "604800000",
        "A transactional id that nobody uses is remembered this long.",
        Field::I32(|o| &mut o.transactions.id_expiration_ms),
    ),
    row(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Kind::int_from(1),
        "3600000",
        "Time between two looks for transactional ids that have expired.",
        Field::I32(|o| &mut o.transactions.remove_expired_interval_ms),
    ),
    row(
        "transaction.state.log.num.partitions",
        Kind::Int { min: 1, max: PARTITIONS_PER_TOPIC as i64 },
        "50",
        "Partitions of the topic that holds transactional ids; fixed once it exists.",
        Field::I32(|o| &mut o.transactions.state_log_num_partitions),
    ),
    row(
        "transaction.state.log.replication.factor",
        Kind::Short { min: 1, max: i16::MAX as i64 },
        "1",
        "Replicas of that topic. Kafka's default is 3; a single node can only have 1.",
        Field::I16(|o| &mut o.transactions.state_log_replication_factor),
    ),
    row(
        "transaction.state.log.segment.bytes",
        Kind::int_from(1_048_576),
        "104857600",
        "Segment size of that topic. Kafka takes smaller values, and then cannot create the topic.",
        Field::I32(|o| &mut o.transactions.state_log_segment_bytes),
    ),
    // Flumen's own.
    row(
        "flumen.cores",
        Kind::Int { min: 0, max: 1024 },
        "0",
        "Cores to run on, one thread each; more than there are processors share them. 0: for a new data folder all the process may use, for another as many as it was made for, whatever the machine. A number other than the folder's moves its partitions at the next start, before it serves: the log names each, and a crash during it loses nothing.",
        Field::I32(|o| &mut o.cores),
    ),
    row(
        "flumen.cores.pinned",
        Kind::Boolean,
        "false",
        "Keep each core's thread on a processor of its own. Pays on a machine that runs nothing else; elsewhere the system moves a thread away from a busy processor, and next to the client it answers.",
        Field::Bool(|o| &mut o.cores_pinned),
    ),
    row(
        "flumen.memory.bytes",
        Kind::long_from(0),
        "0",
        "Memory for requests, caches and buffers of all cores together; 0 takes a quarter of what the machine or its cgroup allows, between 64 MiB and 4 GiB. Groups, their offsets and transactional ids may take half as much again, 32 MiB on each core at least.",
        Field::I64(|o| &mut o.memory_bytes),
    ),
    row(
        "flumen.admin.listener",
        Kind::Text,
        "127.0.0.1:9644",
        "host:port of the HTTP port with /metrics and /health; empty opens none. It has no authentication, so keep it on a private address.",
        Field::Combined,
    ),
    row(
        "flumen.lag.partitions",
        Kind::Boolean,
        "true",
        "Whether /metrics says of each partition how far each group is behind, in offsets and seconds (100,000 partitions at the most; further ones are counted in flumen_lag_partitions_left_out). Without it only sums and the largest age per group and topic are there.",
        Field::Bool(|o| &mut o.lag_partitions),
    ),
    row(
        "flumen.disk.reserve.bytes",
        Kind::long_from(0),
        "1073741824",
        "Produce is refused when less than this is free in the data folder; reading goes on.",
        Field::I64(|o| &mut o.disk_reserve_bytes),
    ),
    row(
        "flumen.disk.reserve.percent",
        Kind::Int { min: 0, max: 90 },
        "5",
        "As flumen.disk.reserve.bytes, as a share of the file system; the larger of both counts.",
        Field::I32(|o| &mut o.disk_reserve_percent),
    ),
    row(
        "flumen.journal.file.bytes",
        Kind::Long { min: 5 << 20, max: 64 << 20 },
        "16777216",
        "Size of one journal file of a core; a multiple of 4096. A batch must fit into one, whatever max.message.bytes says.",
        Field::I64(|o| &mut o.journal_file_bytes),
    ),
    row(
        "flumen.journal.window.bytes",
        Kind::Long { min: 15 << 20, max: 1 << 38 },
        "268435456",
        "Journal a core may have waiting to be moved into segments; bounds the time a restart needs. Between 3 and 4096 journal files.",
        Field::I64(|o| &mut o.journal_window_bytes),
    ),
    unset(
        "flumen.seed",
        Kind::long_from(0),
        "Seed of every random choice, to repeat a run; drawn at start if unset.",
        Field::OptionalI64(|o| &mut o.seed),
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::options::Options;
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for declaration in all() {
            if let Some(default) = declaration.default {
                declaration.kind.check(declaration.name, default).unwrap();
            }
        }
    }

    #[test]
    fn every_name_is_declared_once() {
        let names: BTreeSet<_> = all().map(|d| d.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for declaration in all() {
            assert!(declaration.meaning.ends_with('.'), "{}", declaration.name);
        }
    }

    #[test]
    fn a_field_takes_what_its_kind_accepts() {
        let mut options = Options::default();
        find("num.partitions").unwrap().set(&mut options, "12").unwrap();
        assert_eq!(options.num_partitions, 12);
        assert!(find("num.partitions").unwrap().set(&mut options, "0").is_err());
        assert_eq!(options.num_partitions, 12);
    }
}

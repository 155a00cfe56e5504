//! The settings of a running broker, as plain typed fields.
//!
//! Does: holds what `load` decided. Does not: parse, change, or look anything up by name for the
//! rooms that use it.
//! Invariants: read-only once made; every value lies in the range of its declaration; fields that
//! several Kafka names decide together (retention, folder, listeners) hold the outcome.
//! Apart because every room of the broker takes this struct and none should see the loader.
//!
//! Number widths are those of Kafka's wire and files, so nothing is converted on the way to a reply.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use flumen_storage::journal::journal::JournalConfig;

use super::dynamic::Scope;
use super::listener::Listener;
use super::topic::Overrides;

/// Whose clock stamps a record (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when it appends.
    LogAppendTime,
}

/// The settings of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i32,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub remove_expired_interval_ms: i32,
    /// `transaction.state.log.num.partitions`.
    pub state_log_num_partitions: i32,
    /// `transaction.state.log.replication.factor`.
    pub state_log_replication_factor: i16,
    /// `transaction.state.log.segment.bytes`.
    pub state_log_segment_bytes: i32,
}

/// The windows over which quotas count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaOptions {
    /// `quota.window.num`.
    pub window_num: i32,
    /// `quota.window.size.seconds`.
    pub window_size_seconds: i32,
    /// `controller.quota.window.num`.
    pub controller_window_num: i32,
    /// `controller.quota.window.size.seconds`.
    pub controller_window_size_seconds: i32,
}

/// What holds for groups of the new kind (KIP-848).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerGroupOptions {
    /// Whether `group.coordinator.rebalance.protocols` has `consumer`.
    pub are_served: bool,
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.consumer.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.min.heartbeat.interval.ms`.
    pub min_heartbeat_interval_ms: i32,
    /// `group.consumer.max.heartbeat.interval.ms`.
    pub max_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`.
    pub max_size: i32,
    /// `group.consumer.assignors`, comma-separated.
    pub assignors: Option<String>,
    /// `group.consumer.migration.policy`, in either case.
    pub migration_policy: Option<String>,
}

/// Every honoured setting. One row per field in `declaration::DECLARATIONS` says its Kafka name, unit,
/// range and default; `CONFIG.md` is written from the same rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `node.id`, or `broker.id` where only that is given.
    pub node_id: i32,
    /// `flumen.cluster.id`; `None` lets the first start draw one.
    pub cluster_id: Option<String>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `listeners` with what each advertises; at least one.
    pub listeners: Vec<Listener>,
    /// The one folder of `log.dirs` or `log.dir`.
    pub log_dir: PathBuf,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `message.max.bytes`: largest batch as it travels.
    pub message_max_bytes: i32,
    /// `log.retention.ms`, `.minutes` or `.hours`, the finest that is given; -1 keeps for ever.
    pub log_retention_ms: i64,
    /// `log.retention.bytes` per partition; -1 means no bound.
    pub log_retention_bytes: i64,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: i64,
    /// `log.cleaner.enable`.
    pub log_cleaner_enable: bool,
    /// `log.cleaner.backoff.ms`.
    pub log_cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`, of all cores together.
    pub log_cleaner_dedupe_buffer_size: i64,
    /// `log.cleaner.io.max.bytes.per.second`, of all cores together.
    pub log_cleaner_io_max_bytes_per_second: f64,
    /// `log.segment.bytes`.
    pub log_segment_bytes: i32,
    /// `log.roll.ms` or `log.roll.hours`.
    pub log_roll_ms: i64,
    /// `log.flush.interval.messages`.
    pub log_flush_interval_messages: i64,
    /// `log.flush.interval.ms`; `i64::MAX` where it is not given.
    pub log_flush_interval_ms: i64,
    /// `log.message.timestamp.type`.
    pub log_message_timestamp_type: TimestampType,
    /// `log.message.timestamp.before.max.ms`.
    pub log_message_timestamp_before_max_ms: i64,
    /// `log.message.timestamp.after.max.ms`.
    pub log_message_timestamp_after_max_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
    /// Those of transactions.
    pub transactions: TransactionOptions,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: i32,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub group_max_size: i32,
    /// `group.consumer.*`.
    pub consumer_groups: ConsumerGroupOptions,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: i64,
    /// `max.connections` of the whole broker.
    pub max_connections: i32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: i32,
    /// `max.connections.per.ip.overrides`, as written.
    pub max_connections_per_ip_overrides: Option<String>,
    /// `max.connection.creation.rate` of the whole broker.
    pub max_connection_creation_rate: i32,
    /// The windows of quotas.
    pub quotas: QuotaOptions,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: i32,
    /// `socket.listen.backlog.size`.
    pub socket_listen_backlog_size: i32,
    /// `socket.send.buffer.bytes`; -1 leaves it to the system.
    pub socket_send_buffer_bytes: i32,
    /// `socket.receive.buffer.bytes`; -1 leaves it to the system.
    pub socket_receive_buffer_bytes: i32,
    /// `queued.max.requests`.
    pub queued_max_requests: i32,
    /// `fetch.max.bytes`: most bytes of one Fetch answer; never more than `FETCH_ANSWER_BYTES`.
    pub fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots_max: i32,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: i32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i32,
    /// `request.timeout.ms`.
    pub request_timeout_ms: i32,
    /// `flumen.cores`; 0 takes as many as the data folder has, or every core for a new one.
    pub cores: i32,
    /// `flumen.cores.pinned`.
    pub cores_pinned: bool,
    /// `flumen.memory.bytes`; 0 decides by `memory_budget_bytes`.
    pub memory_bytes: i64,
    /// `flumen.admin.listener` as `host:port`; `None` opens no admin port.
    pub admin_listener: Option<String>,
    /// `flumen.lag.partitions`.
    pub lag_partitions: bool,
    /// `flumen.disk.reserve.bytes`.
    pub disk_reserve_bytes: i64,
    /// `flumen.disk.reserve.percent`.
    pub disk_reserve_percent: i32,
    /// `flumen.journal.file.bytes`.
    pub journal_file_bytes: i64,
    /// `flumen.journal.window.bytes`.
    pub journal_window_bytes: i64,
    /// `flumen.seed`; `None` draws one at start.
    pub seed: Option<i64>,
    /// What was given, by place and name. Invariant: only names `declaration` or `kafka_names` know.
    pub(super) given: Given,
}

/// Settings as written. Its own type because some are secrets that must not reach a log through
/// `Debug`.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Given {
    /// In the file or an override.
    pub(super) written: BTreeMap<String, String>,
    /// For all brokers, while running. Invariant: only what `dynamic` lets change.
    pub(super) shared: Overrides,
    /// For this broker, while running. Invariant: as `shared`.
    pub(super) own: Overrides,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.written.keys().chain(self.shared.keys()).chain(self.own.keys());
        f.debug_set().entries(names).finish()
    }
}

impl Options {
    /// What was given for `name`, whether honoured or merely accepted: for this broker while it
    /// runs, else for all of them, else what the operator wrote.
    pub fn given(&self, name: &str) -> Option<&str> {
        let Given { written, shared, own } = &self.given;
        own.get(name).or_else(|| shared.get(name)).or_else(|| written.get(name)).map(String::as_str)
    }

    /// What the operator wrote for `name`, whether or not something else holds.
    pub fn written(&self, name: &str) -> Option<&str> {
        self.given.written.get(name).map(String::as_str)
    }

    /// What was given while running.
    pub fn dynamic(&self, scope: Scope) -> &Overrides {
        match scope {
            Scope::Own => &self.given.own,
            Scope::Shared => &self.given.shared,
        }
    }

    /// Bytes the whole broker may hold, given what the machine or its cgroup allows. Unless
    /// `flumen.memory.bytes` is set: a quarter of that, within 64 MiB and 4 GiB.
    pub fn memory_budget_bytes(&self, available_bytes: u64) -> u64 {
        const LOWEST: u64 = 64 << 20;
        const HIGHEST: u64 = 4 << 30;
        match u64::try_from(self.memory_bytes) {
            Ok(bytes) if bytes > 0 => bytes,
            Ok(_) | Err(_) => (available_bytes / 4).clamp(LOWEST, HIGHEST),
        }
    }

    /// The largest batch that the journal can hold, in bytes.
    pub fn batch_bytes_max(&self) -> usize {
        let file_bytes = u64::try_from(self.journal_file_bytes).unwrap_or(0);
        JournalConfig { file_bytes, ..JournalConfig::default() }.payload_bytes_max()
    }

    /// Bytes of the data folder's file system to keep free: the larger of both reserves.
    pub fn disk_reserve_of(&self, file_system_bytes: u64) -> u64 {
        let percent = u64::try_from(self.disk_reserve_percent).unwrap_or(0);
        let bytes = u64::try_from(self.disk_reserve_bytes).unwrap_or(0);
        bytes.max(file_system_bytes / 100 * percent)
    }
}

impl Default for Options {
    /// What an empty file on a machine called `localhost` gives.
    fn default() -> Self {
        super::resolve::defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_budget_is_a_quarter_within_bounds() {
        let mut options = Options::default();
        assert_eq!(options.memory_budget_bytes(8 << 30), 2 << 30);
        assert_eq!(options.memory_budget_bytes(100 << 20), 64 << 20);
        assert_eq!(options.memory_budget_bytes(1 << 40), 4 << 30);
        options.memory_bytes = 7 << 20;
        assert_eq!(options.memory_budget_bytes(8 << 30), 7 << 20);
    }

    #[test]
    fn secrets_do_not_reach_a_log() {
        let mut options = Options::default();
        options.given.written.insert("ssl.key.password".to_owned(), "hunter2".to_owned());
        let shown = format!("{options:?}");
        assert!(shown.contains("ssl.key.password") && !shown.contains("hunter2"));
    }

    #[test]
    fn the_larger_disk_reserve_wins() {
        let options = Options::default();
        assert_eq!(options.disk_reserve_of(2 << 30), 1 << 30);
        assert_eq!(options.disk_reserve_of(100 << 30), (100_u64 << 30) / 100 * 5);
    }
}

//! The counters of one core.
//!
//! Does: plain fields that a shard increments; adds several cores up. Does not: lock, share, or know
//! how they are written out (`exposition` does).
//! Invariants: counters only grow; the number of topics told apart is bounded.
//! Apart because the shard owns one by value and the admin port only ever sees copies.

use std::collections::BTreeMap;

use super::latency::Latency;

/// Most topics one core tells apart; the traffic of further ones is counted together. A topic costs
/// four time series at whoever scrapes, and the names come from clients.
pub const TOPICS_MAX: usize = 1_000;

/// API keys a counter is kept for; Kafka 4.1 ends below. A key beyond is counted in the last place.
pub const API_KEYS: usize = 96;

/// Why something a client wanted was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum RefusedReason {
    /// A frame longer than `socket.request.max.bytes`.
    FrameTooLarge,
    /// The first bytes were TLS or HTTP, not Kafka.
    NotKafka,
    /// A frame whose layout does not hold together.
    Malformed,
    /// An API or version that is not offered.
    UnsupportedVersion,
    /// More connections than `max.connections`.
    ConnectionLimit,
    /// More connections than `max.connections.per.ip`.
    ConnectionLimitPerIp,
    /// More connections per second than the quota of an address.
    ConnectionRatePerIp,
    /// The memory budget of the core is spent.
    Memory,
    /// Less disk is free than the reserve.
    DiskReserve,
    /// A record batch that its topic does not take: damaged, too large, or against its settings.
    InvalidBatch,
    /// A request that does not arrive, or a connection idle for too long.
    Idle,
    /// A client that left its answers unread while the memory for answers was spent.
    SlowReader,
    /// A batch of a producer without acks that was not appended: closing its connection is the only
    /// way to tell it.
    Unacknowledged,
}

impl RefusedReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 13] = [
        Self::FrameTooLarge,
        Self::NotKafka,
        Self::Malformed,
        Self::UnsupportedVersion,
        Self::ConnectionLimit,
        Self::ConnectionLimitPerIp,
        Self::ConnectionRatePerIp,
        Self::Memory,
        Self::DiskReserve,
        Self::InvalidBatch,
        Self::Idle,
        Self::SlowReader,
        Self::Unacknowledged,
    ];

    /// The label it carries.
    pub fn label(self) -> &'static str {
        match self {
            Self::FrameTooLarge => "frame_too_large",
            Self::NotKafka => "not_kafka",
            Self::Malformed => "malformed",
            Self::UnsupportedVersion => "unsupported_version",
            Self::ConnectionLimit => "connection_limit",
            Self::ConnectionLimitPerIp => "connection_limit_per_ip",
            Self::ConnectionRatePerIp => "connection_rate_per_ip",
            Self::Memory => "memory",
            Self::DiskReserve => "disk_reserve",
            Self::InvalidBatch => "invalid_batch",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Unacknowledged => "unacknowledged",
        }
    }
}

/// Traffic of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicTraffic {
    /// Bytes of record batches appended.
    pub in_bytes: u64,
    /// Bytes of record batches sent to consumers.
    pub out_bytes: u64,
    /// Records appended.
    pub in_records: u64,
    /// Record batches appended.
    pub in_batches: u64,
}

impl TopicTraffic {
    fn merge(&mut self, other: &Self) {
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
        self.in_records += other.in_records;
        self.in_batches += other.in_batches;
    }
}

/// Requests of one API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiTraffic {
    /// From the last byte of the request to the answer handed to the socket; its count is the number of
    /// requests answered.
    pub latency: Latency,
    /// Requests answered with an error.
    pub errors: u64,
}

/// Everything one core counts. Fields named `_total` only grow; the others are the state of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Connections accepted.
    pub connections_accepted_total: u64,
    /// Connections open now.
    pub connections: u64,
    /// Requests open now: read and not yet answered.
    pub requests_pending: u64,
    /// Bytes read from client sockets.
    pub received_bytes_total: u64,
    /// Bytes written to client sockets.
    pub sent_bytes_total: u64,
    /// 1 while nothing is deleted by age because the wall clock jumped.
    pub clock_doubted: u64,
    /// Partitions that live on this core.
    pub partitions: u64,
    /// Those among them that take no records because some are lost.
    pub partitions_held: u64,
    /// Transactional ids that coordinators of this core remember.
    pub transactional_ids: u64,
    /// Transactions of theirs that are under way.
    pub transactions_open: u64,
    /// Those whose end is decided and not yet written everywhere.
    pub transactions_ending: u64,
    /// How long the oldest of both has been under way, milliseconds.
    pub transaction_oldest_ms: u64,
    /// Durable journal writes: from handing one to the disk to its completion.
    pub journal_write: Latency,
    /// Bytes written to the journal, with padding.
    pub journal_bytes_total: u64,
    /// Journal bytes not yet moved into segments.
    pub journal_window_bytes: u64,
    /// Disk operations that failed.
    pub disk_errors_total: u64,
    /// For how long the oldest disk operation of the core is under way, whole seconds.
    pub disk_silence_seconds: u64,
    /// Cleanings of compacted partitions that came to their end.
    pub cleanings_total: u64,
    /// Bytes they read.
    pub cleaner_read_bytes_total: u64,
    /// Bytes they wrote.
    pub cleaner_written_bytes_total: u64,
    /// Bytes that what they replaced was larger than what took its place.
    pub cleaner_freed_bytes_total: u64,
    /// Segments they left as they are because something in them cannot be read, each time counted.
    pub cleaner_damaged_segments_total: u64,
    /// Bytes that could be cleaned, as of the last look.
    pub cleaner_dirty_bytes: u64,
    /// How long the last one took, milliseconds.
    pub cleaner_last_ms: u64,
    /// Bytes of the core's budget in use.
    pub memory_used_bytes: u64,
    /// Bytes the core may use.
    pub memory_budget_bytes: u64,
    /// Incremental fetch sessions of clients of this core.
    pub fetch_sessions: u64,
    /// Partitions in all of them.
    pub fetch_session_partitions: u64,
    /// Sessions that ended because others needed their room.
    pub fetch_session_evictions_total: u64,
    /// Partitions of this core that sessions, of whichever core, wait for news of.
    pub fetch_follows: u64,
    /// Accounts of clients with quotas.
    pub quota_accounts: u64,
    /// Answers that told a client to wait.
    pub throttled_total: u64,
    /// Turns of the core's loop.
    pub turns_total: u64,
    /// Times the guard timer found work that nothing had woken the core for. Should stay 0.
    pub guard_wakes_total: u64,
    /// Messages sent to other cores.
    pub core_messages_total: u64,
    apis: Vec<ApiTraffic>,
    refused: [u64; RefusedReason::ALL.len()],
    topics: BTreeMap<String, TopicTraffic>,
    other_topics: TopicTraffic,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        Self {
            connections_accepted_total: 0,
            connections: 0,
            requests_pending: 0,
            received_bytes_total: 0,
            sent_bytes_total: 0,
            clock_doubted: 0,
            partitions: 0,
            partitions_held: 0,
            transactional_ids: 0,
            transactions_open: 0,
            transactions_ending: 0,
            transaction_oldest_ms: 0,
            journal_write: Latency::default(),
            journal_bytes_total: 0,
            journal_window_bytes: 0,
            disk_errors_total: 0,
            cleanings_total: 0,
            cleaner_read_bytes_total: 0,
            cleaner_written_bytes_total: 0,
            cleaner_freed_bytes_total: 0,
            cleaner_damaged_segments_total: 0,
            cleaner_dirty_bytes: 0,
            cleaner_last_ms: 0,
            memory_used_bytes: 0,
            memory_budget_bytes: 0,
            fetch_sessions: 0,
            fetch_session_partitions: 0,
            fetch_session_evictions_total: 0,
            fetch_follows: 0,
            quota_accounts: 0,
            throttled_total: 0,
            turns_total: 0,
            disk_silence_seconds: 0,
            guard_wakes_total: 0,
            core_messages_total: 0,
            apis: vec![ApiTraffic::default(); API_KEYS],
            refused: [0; RefusedReason::ALL.len()],
            topics: BTreeMap::new(),
            other_topics: TopicTraffic::default(),
        }
    }

    /// Counts an answered request.
    pub fn answered(&mut self, api_key: i16, latency_us: u64, is_error: bool) {
        let api = &mut self.apis[api_index(api_key)];
        api.latency.record(latency_us);
        api.errors += u64::from(is_error);
    }

    /// Counts something that was not done.
    pub fn refused(&mut self, reason: RefusedReason) {
        self.refused[reason as usize] += 1;
    }

    /// How often something was not done for this reason.
    pub fn refused_total(&self, reason: RefusedReason) -> u64 {
        self.refused[reason as usize]
    }

    /// The counters of a topic; those of all further topics once `TOPICS_MAX` are told apart.
    pub fn topic(&mut self, name: &str) -> &mut TopicTraffic {
        // Looked up twice, because the borrow checker cannot see that the first find returns.
        if self.topics.contains_key(name) {
            return self.topics.get_mut(name).unwrap_or(&mut self.other_topics);
        }
        if self.topics.len() >= TOPICS_MAX {
            return &mut self.other_topics;
        }
        self.topics.entry(name.to_owned()).or_default()
    }

    /// Forgets a deleted topic, so that its place and its time series go too.
    pub fn forget_topic(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// Traffic by API key, for those that were called.
    pub fn apis(&self) -> impl Iterator<Item = (i16, &ApiTraffic)> {
        (0_i16..).zip(&self.apis).filter(|(_, api)| api.latency.count() > 0)
    }

    /// Traffic by topic, sorted by name.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &TopicTraffic)> {
        self.topics.iter().map(|(name, traffic)| (name.as_str(), traffic))
    }

    /// Traffic of the topics that are not told apart.
    pub fn other_topics(&self) -> &TopicTraffic {
        &self.other_topics
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        self.connections_accepted_total += other.connections_accepted_total;
        self.connections += other.connections;
        self.requests_pending += other.requests_pending;
        self.received_bytes_total += other.received_bytes_total;
        self.sent_bytes_total += other.sent_bytes_total;
        self.clock_doubted = self.clock_doubted.max(other.clock_doubted);
        self.partitions += other.partitions;
        self.partitions_held += other.partitions_held;
        self.transactional_ids += other.transactional_ids;
        self.transactions_open += other.transactions_open;
        self.transactions_ending += other.transactions_ending;
        self.transaction_oldest_ms = self.transaction_oldest_ms.max(other.transaction_oldest_ms);
        self.journal_write.merge(&other.journal_write);
        self.journal_bytes_total += other.journal_bytes_total;
        self.journal_window_bytes += other.journal_window_bytes;
        self.disk_errors_total += other.disk_errors_total;
        self.disk_silence_seconds = self.disk_silence_seconds.max(other.disk_silence_seconds);
        self.cleanings_total += other.cleanings_total;
        self.cleaner_read_bytes_total += other.cleaner_read_bytes_total;
        self.cleaner_written_bytes_total += other.cleaner_written_bytes_total;
        self.cleaner_freed_bytes_total += other.cleaner_freed_bytes_total;
        self.cleaner_damaged_segments_total += other.cleaner_damaged_segments_total;
        self.cleaner_dirty_bytes += other.cleaner_dirty_bytes;
        self.cleaner_last_ms = self.cleaner_last_ms.max(other.cleaner_last_ms);
        self.memory_used_bytes += other.memory_used_bytes;
        self.memory_budget_bytes += other.memory_budget_bytes;
        self.fetch_sessions += other.fetch_sessions;
        self.fetch_session_partitions += other.fetch_session_partitions;
        self.fetch_session_evictions_total += other.fetch_session_evictions_total;
        self.fetch_follows += other.fetch_follows;
        self.quota_accounts = self.quota_accounts.max(other.quota_accounts);
        self.throttled_total += other.throttled_total;
        self.turns_total += other.turns_total;
        self.guard_wakes_total += other.guard_wakes_total;
        self.core_messages_total += other.core_messages_total;
        for (own, more) in self.apis.iter_mut().zip(&other.apis) {
            own.latency.merge(&more.latency);
            own.errors += more.errors;
        }
        for (own, more) in self.refused.iter_mut().zip(other.refused) {
            *own += more;
        }
        for (name, traffic) in other.topics() {
            self.topic(name).merge(traffic);
        }
        self.other_topics.merge(&other.other_topics);
    }
}

/// How far one group is behind in one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct LagRow {
    /// Group id, as the client wrote it.
    pub group: String,
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The committed offset: the next one the group wants.
    pub offset: i64,
    /// Offsets between that and the high watermark.
    pub records: u64,
    /// Seconds since the record at that offset, or the first behind it, was written; 0 when caught up,
    /// none when nobody can say.
    pub seconds: Option<f64>,
}

/// A copy of what one core counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the core.
    pub core: usize,
    /// Its counters.
    pub metrics: Metrics,
}

fn api_index(api_key: i16) -> usize {
    usize::try_from(api_key).unwrap_or(API_KEYS).min(API_KEYS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_topics_is_bounded() {
        let mut metrics = Metrics::new();
        for index in 0..TOPICS_MAX + 5 {
            metrics.topic(&format!("topic-{index}")).in_bytes += 1;
        }
        assert_eq!(metrics.topics().count(), TOPICS_MAX);
        assert_eq!(metrics.other_topics().in_bytes, 5);
        metrics.forget_topic("topic-0");
        metrics.topic("late").in_bytes += 1;
        assert_eq!(metrics.topics().count(), TOPICS_MAX);
    }

    #[test]
    fn reasons_are_counted_in_their_own_place() {
        for (index, reason) in RefusedReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let mut metrics = Metrics::new();
        metrics.refused(RefusedReason::Memory);
        assert_eq!(metrics.refused_total(RefusedReason::Memory), 1);
        assert_eq!(metrics.refused_total(RefusedReason::Idle), 0);
    }

    #[test]
    fn a_foreign_api_key_is_counted_without_harm() {
        let mut metrics = Metrics::new();
        for key in [-1, i16::MAX, 0] {
            metrics.answered(key, 10, true);
        }
        assert_eq!(metrics.apis().map(|(_, api)| api.errors).sum::<u64>(), 3);
    }

    #[test]
    fn two_cores_add_up_in_every_field() {
        let mut one = Metrics::new();
        one.connections = 1;
        one.answered(0, 10, false);
        one.topic("a").out_bytes = 5;
        one.refused(RefusedReason::Malformed);
        one.journal_write.record(100);
        let two = one.clone();
        one.merge(&two);
        assert_eq!(one.connections, 2);
        assert_eq!(one.apis().next().map(|(_, api)| api.latency.count()), Some(2));
        assert_eq!(one.topic("a").out_bytes, 10);
        assert_eq!(one.refused_total(RefusedReason::Malformed), 2);
        assert_eq!(one.journal_write.count(), 2);
    }
}

//! The one table of what we serve: key, versions, where the compact encoding begins, deviations.
//!
//! Does: feed ApiVersions, dispatch, header parsing and SUPPORTED.md.
//! Does not: dispatch, or know what an API does.
//! Invariants: a key is here exactly when its handler is complete, for clients take presence as
//! consent; the ranges are those of a Kafka 4.1 broker, never a private mixture, because clients
//! infer a broker version from them; rows are in the order of their keys.
//! Apart because four places need the same numbers and two copies would differ.

/// An API we serve, by Kafka's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Append batches.
    Produce = 0,
    /// Read batches.
    Fetch = 1,
    /// Find offsets by time.
    ListOffsets = 2,
    /// Brokers, topics, leaders.
    Metadata = 3,
    /// Store a group's offsets.
    OffsetCommit = 8,
    /// Read a group's offsets.
    OffsetFetch = 9,
    /// Which broker coordinates a group or a transactional id.
    FindCoordinator = 10,
    /// Join a classic group.
    JoinGroup = 11,
    /// A classic member is alive.
    Heartbeat = 12,
    /// Leave a classic group.
    LeaveGroup = 13,
    /// Hand out or receive a classic assignment.
    SyncGroup = 14,
    /// Detail of groups.
    DescribeGroups = 15,
    /// Groups this broker coordinates.
    ListGroups = 16,
    /// What this broker speaks.
    ApiVersions = 18,
    /// Create topics.
    CreateTopics = 19,
    /// Delete topics.
    DeleteTopics = 20,
    /// Raise the log start of partitions.
    DeleteRecords = 21,
    /// Give out a producer id.
    InitProducerId = 22,
    /// Where a leader epoch ended.
    OffsetForLeaderEpoch = 23,
    /// Say where a transaction will write.
    AddPartitionsToTxn = 24,
    /// Say which group's offsets a transaction will hold.
    AddOffsetsToTxn = 25,
    /// Commit or abort a transaction.
    EndTxn = 26,
    /// Write down how transactions ended.
    WriteTxnMarkers = 27,
    /// Store a group's offsets if a transaction commits.
    TxnOffsetCommit = 28,
    /// Read configuration.
    DescribeConfigs = 32,
    /// Replace configuration as a whole.
    AlterConfigs = 33,
    /// Sizes on disk.
    DescribeLogDirs = 35,
    /// Add partitions to topics.
    CreatePartitions = 37,
    /// Drop empty groups.
    DeleteGroups = 42,
    /// Make preferred replicas lead.
    ElectLeaders = 43,
    /// Change single configuration keys.
    IncrementalAlterConfigs = 44,
    /// Move partitions to other brokers.
    AlterPartitionReassignments = 45,
    /// Partitions on their way to other brokers.
    ListPartitionReassignments = 46,
    /// Forget a group's offsets.
    OffsetDelete = 47,
    /// Read the quotas of clients.
    DescribeClientQuotas = 48,
    /// Change the quotas of clients.
    AlterClientQuotas = 49,
    /// Which users have credentials for SCRAM.
    DescribeUserScramCredentials = 50,
    /// Who votes on the cluster's metadata, and how far each has come.
    DescribeQuorum = 55,
    /// Raise or lower the level of features.
    UpdateFeatures = 57,
    /// Brokers of the cluster.
    DescribeCluster = 60,
    /// Who writes to partitions.
    DescribeProducers = 61,
    /// Where transactions stand.
    DescribeTransactions = 65,
    /// Transactional ids this broker coordinates.
    ListTransactions = 66,
    /// Join, stay in and leave a group of the new kind.
    ConsumerGroupHeartbeat = 68,
    /// Detail of groups of the new kind.
    ConsumerGroupDescribe = 69,
    /// What has settings.
    ListConfigResources = 74,
    /// Topics page by page.
    DescribeTopicPartitions = 75,
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The API of this number, `None` when we do not serve it.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        row(code).map(|row| row.key)
    }

    /// The table's row of this API.
    ///
    /// # Panics
    /// Never: a test holds that every key has its row.
    #[must_use]
    pub fn row(self) -> &'static ApiRow {
        row(self.code()).expect("every key has a row")
    }
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl Versions {
    /// Whether `version` lies inside.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// One API of the table.
#[derive(Clone, Copy, Debug)]
pub struct ApiRow {
    /// Which API.
    pub key: ApiKey,
    /// Kafka's name.
    pub name: &'static str,
    /// What ApiVersions says.
    pub advertised: Versions,
    /// What is answered. A request outside closes the connection (except ApiVersions, which is
    /// answered in version 0 with `UNSUPPORTED_VERSION`).
    pub served: Versions,
    /// The first version in the compact encoding, `None` if no served version is.
    pub flexible_since: Option<i16>,
    /// How we differ from Kafka 4.1, empty when we do not.
    pub note: &'static str,
}

impl ApiRow {
    /// Whether a request of this version is answered.
    #[must_use]
    pub const fn supports(&self, version: i16) -> bool {
        self.served.contains(version)
    }

    /// Whether body and request header of this version are compact (header v2).
    #[must_use]
    pub const fn request_is_flexible(&self, version: i16) -> bool {
        match self.flexible_since {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// Whether the response header of this version ends in tagged fields (header v1).
    ///
    /// ApiVersions never does: a client reads the answer before it knows what we speak (KIP-511).
    #[must_use]
    pub fn response_header_is_flexible(&self, version: i16) -> bool {
        self.key != ApiKey::ApiVersions && self.request_is_flexible(version)
    }
}

/// The row of a key as it came over the wire, `None` when we do not serve it.
#[must_use]
pub fn row(key: i16) -> Option<&'static ApiRow> {
    let place = TABLE.binary_search_by_key(&key, |row| row.key.code()).ok()?;
    Some(&TABLE[place])
}

/// Everything we serve, by rising key.
pub const TABLE: &[ApiRow] = &[
    api(ApiKey::Produce, "Produce", (3, 13), Some(9)).advertised_from(0).note(
        "Versions 0 to 2 are advertised, as Kafka does, because librdkafka up to 2.11.0 reads \
         support of compression from them; a request below 3 closes the connection.",
    ),
    api(ApiKey::Fetch, "Fetch", (4, 18), Some(12)).note(
        "For consumers only: replicas speak our own protocol, so the fields of followers \
         (directory id, high watermark, diverging epoch, snapshot id) are read over or left out.",
    ),
    api(ApiKey::ListOffsets, "ListOffsets", (1, 10), Some(6)),
    api(ApiKey::Metadata, "Metadata", (0, 13), Some(9)),
    api(ApiKey::OffsetCommit, "OffsetCommit", (2, 9), Some(8)),
    api(ApiKey::OffsetFetch, "OffsetFetch", (1, 9), Some(6)),
    api(ApiKey::FindCoordinator, "FindCoordinator", (0, 6), Some(3)),
    api(ApiKey::JoinGroup, "JoinGroup", (0, 9), Some(6)),
    api(ApiKey::Heartbeat, "Heartbeat", (0, 4), Some(4)),
    api(ApiKey::LeaveGroup, "LeaveGroup", (0, 5), Some(4)),
    api(ApiKey::SyncGroup, "SyncGroup", (0, 5), Some(4)),
    api(ApiKey::DescribeGroups, "DescribeGroups", (0, 6), Some(5)),
    api(ApiKey::ListGroups, "ListGroups", (0, 5), Some(3)),
    api(ApiKey::ApiVersions, "ApiVersions", (0, 4), Some(3)),
    api(ApiKey::CreateTopics, "CreateTopics", (2, 7), Some(5)),
    api(ApiKey::DeleteTopics, "DeleteTopics", (1, 6), Some(4)),
    api(ApiKey::DeleteRecords, "DeleteRecords", (0, 2), Some(2)),
    api(ApiKey::InitProducerId, "InitProducerId", (0, 5), Some(2)),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", (2, 4), Some(4)),
    api(ApiKey::AddPartitionsToTxn, "AddPartitionsToTxn", (0, 5), Some(3)),
    api(ApiKey::AddOffsetsToTxn, "AddOffsetsToTxn", (0, 4), Some(3)),
    api(ApiKey::EndTxn, "EndTxn", (0, 5), Some(3)),
    api(ApiKey::WriteTxnMarkers, "WriteTxnMarkers", (1, 1), Some(1)).note(
        "A marker that is written already, and has nothing left to end, is not written again.",
    ),
    api(ApiKey::TxnOffsetCommit, "TxnOffsetCommit", (0, 5), Some(3)),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", (1, 4), Some(4)),
    api(ApiKey::AlterConfigs, "AlterConfigs", (0, 2), Some(2)),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", (1, 4), Some(2)),
    api(ApiKey::CreatePartitions, "CreatePartitions", (0, 3), Some(2)),
    api(ApiKey::DeleteGroups, "DeleteGroups", (0, 2), Some(2)),
    api(ApiKey::ElectLeaders, "ElectLeaders", (0, 2), Some(2)),
    api(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", (0, 1), Some(1)),
    api(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", (0, 1), Some(0))
        .note("with one broker there is one answer that moves nothing, and refusals"),
    api(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", (0, 0), Some(0)),
    api(ApiKey::OffsetDelete, "OffsetDelete", (0, 0), None),
    api(ApiKey::DescribeClientQuotas, "DescribeClientQuotas", (0, 1), Some(1)),
    api(ApiKey::AlterClientQuotas, "AlterClientQuotas", (0, 1), Some(1)).note(
        "every client is the user ANONYMOUS; `request_percentage` counts the time of a core, \
         `consumer_byte_rate` bytes of records; names of hosts are no addresses",
    ),
    api(
        ApiKey::DescribeUserScramCredentials,
        "DescribeUserScramCredentials",
        (0, 0),
        Some(0),
    )
    .note("there is no SCRAM: no user has credentials. `kafka-configs` asks this beside quotas of users"),
    api(ApiKey::DescribeQuorum, "DescribeQuorum", (0, 2), Some(0))
        .note("A voter's endpoints are those of its broker listeners: every node is both."),
    api(ApiKey::UpdateFeatures, "UpdateFeatures", (0, 2), Some(0)).note(
        "metadata.version, group.version and transaction.version are the only features; levels are \
         kept and told, and only that of group.version changes what this broker does.",
    ),
    api(ApiKey::DescribeCluster, "DescribeCluster", (0, 2), Some(0)),
    api(ApiKey::DescribeProducers, "DescribeProducers", (0, 0), Some(0)),
    api(ApiKey::DescribeTransactions, "DescribeTransactions", (0, 0), Some(0)),
    api(ApiKey::ListTransactions, "ListTransactions", (0, 2), Some(0)),
    api(ApiKey::ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat", (0, 1), Some(0)),
    api(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", (0, 1), Some(0)),
    api(ApiKey::ListConfigResources, "ListConfigResources", (0, 1), Some(0))
        .note("there are no settings of loggers, and no subscriptions of client metrics"),
    api(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", (0, 0), Some(0)),
];

const fn api(
    key: ApiKey,
    name: &'static str,
    (min, max): (i16, i16),
    flexible_since: Option<i16>,
) -> ApiRow {
    let versions = Versions { min, max };
    ApiRow { key, name, advertised: versions, served: versions, flexible_since, note: "" }
}

impl ApiRow {
    const fn advertised_from(mut self, min: i16) -> Self {
        self.advertised.min = min;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_row_and_no_other_key_does() {
        let ours = [
            0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
            28, 32, 33, 35, 37, 42, 43, 44, 45, 46, 47, 48, 49, 50, 55, 57, 60, 61, 65, 66, 68, 69,
            74, 75,
        ];
        let table: Vec<i16> = TABLE.iter().map(|row| row.key.code()).collect();
        assert_eq!(table, ours);
        for key in i16::MIN..=i16::MAX {
            assert_eq!(row(key).map(|row| row.key.code()), ours.contains(&key).then_some(key));
        }
        for row in TABLE {
            assert_eq!(row.key.row().name, format!("{:?}", row.key));
        }
    }

    #[test]
    fn produce_advertises_more_than_it_serves() {
        let row = ApiKey::Produce.row();
        assert_eq!(row.advertised, Versions { min: 0, max: 13 });
        assert!(!row.supports(2) && row.supports(3) && row.supports(13) && !row.supports(14));
    }

    #[test]
    fn only_api_versions_answers_with_an_old_header() {
        for row in TABLE {
            for version in row.served.min..=row.served.max {
                let expected = row.request_is_flexible(version) && row.key != ApiKey::ApiVersions;
                assert_eq!(row.response_header_is_flexible(version), expected);
            }
        }
        assert!(!ApiKey::OffsetDelete.row().request_is_flexible(i16::MAX));
    }

    /// `FLUMEN_REGENERATE=1 cargo test -p flumen-protocol` writes the page anew.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may write the page it generates")]
    fn supported_md_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/SUPPORTED.md");
        let page = supported_page();
        if std::env::var_os("FLUMEN_REGENERATE").is_some() {
            std::fs::write(path, &page).expect("the page can be written");
        }
        let stored = std::fs::read_to_string(path).expect("the page can be read");
        assert!(stored == page, "SUPPORTED.md is stale: run with FLUMEN_REGENERATE=1");
    }

    #[test]
    fn a_key_is_served_or_among_the_gaps() {
        let keys = GAPS.lines().filter_map(|line| line.split('|').nth(1));
        let keys = keys.flat_map(|cell| cell.split(','));
        let ranges = keys.filter_map(|keys| {
            let (first, last) = keys.split_once('–').unwrap_or((keys, keys));
            Some(first.trim().parse::<i16>().ok()?..=last.trim().parse().ok()?)
        });
        let mut named: Vec<i16> = ranges.flatten().collect();
        named.extend(TABLE.iter().map(|row| row.key.code()));
        named.sort_unstable();
        assert_eq!(named, Vec::from_iter(0..=92));
    }

    fn supported_page() -> String {
        let mut page = String::from(
            "# What Flumen answers\n\n\
             Generated from `src/api_table.rs`; `FLUMEN_REGENERATE=1 cargo test -p flumen-protocol` \
             writes it anew.\nThe ranges are those of an Apache Kafka 4.1 broker. An API that is \
             not listed is not advertised, and a request\nfor it closes the connection, as Kafka \
             does with requests it does not know.\n\n\
             | Key | API | Advertised | Served | Compact from | Differs from Kafka 4.1 |\n\
             |---|---|---|---|---|---|\n",
        );
        for row in TABLE {
            let flexible = row.flexible_since.map_or("never".to_owned(), |since| since.to_string());
            page += &format!(
                "| {} | {} | {} | {} | {flexible} | {} |\n",
                row.key.code(),
                row.name,
                range(row.advertised),
                range(row.served),
                row.note
            );
        }
        page + GAPS
    }

    fn range(versions: Versions) -> String {
        if versions.min == versions.max {
            return versions.min.to_string();
        }
        format!("{}–{}", versions.min, versions.max)
    }

    const GAPS: &str = "\n## Not served\n\n\
        | Keys | What | Why |\n|---|---|---|\n\
        | 17, 36 | SASL | no authentication yet |\n\
        | 29–31, 38–41, 51 | ACLs, delegation tokens, changes of SCRAM users | not yet |\n\
        | 34 | moving partitions between data folders: there is one folder | not yet |\n\
        | 64, 80, 81 | brokers and voters that come and go | not yet |\n\
        | 76–79, 83–92 | share groups, streams groups | not yet |\n\
        | 71, 72 | client telemetry | not yet |\n\
        | 4–7, 52–54, 56, 58, 59, 62, 63, 67, 70, 73, 82 | between Kafka's own brokers and \
        controllers | never: Flumen's brokers speak their own protocol |\n";
}

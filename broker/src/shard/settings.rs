//! The effective settings of every topic, computed once per change.
//!
//! Does: combine the broker's settings with each topic's own.
//! Does not: validate; nothing invalid gets into the image.
//! Invariants: every topic of the image has an entry.
//! Apart because computing them per request would parse strings on the hot path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::ids::{LogId, TopicId};
use flumen_replication::metadata::image::{Image, Topic};
use flumen_replication::partition::PartitionSettings;
use flumen_storage::answers::{CleanerConfig, Compaction, LogSettings};

use crate::config::options::{Options, TimestampType};
use crate::config::topic::{CleaningRules, TopicSettings};
use crate::limits::PRODUCER_IDS_PER_PARTITION;

/// What holds for each topic.
#[derive(Debug)]
pub struct Settings {
    defaults: TopicSettings,
    topics: BTreeMap<TopicId, TopicSettings>,
}

impl Settings {
    /// The broker's settings and no topics.
    pub fn new(options: &Options) -> Self {
        let defaults = TopicSettings::compute(options, &BTreeMap::new());
        Self { defaults, topics: BTreeMap::new() }
    }

    /// What holds for a topic; the broker's settings if it is not known.
    pub fn of(&self, topic: TopicId) -> &TopicSettings {
        self.topics.get(&topic).unwrap_or(&self.defaults)
    }

    /// Takes a new image in; names the topics whose settings are new or other than before.
    pub fn adopt(&mut self, options: &Options, old: &Image, new: &Image) -> Vec<Arc<Topic>> {
        let mut changed = Vec::new();
        for topic in new.topics() {
            let same = old.topic(topic.id).is_some_and(|known| known.configs == topic.configs);
            if !(same && self.topics.contains_key(&topic.id)) {
                let effective = TopicSettings::compute(options, &topic.configs);
                self.topics.insert(topic.id, effective);
                changed.push(topic.clone());
            }
        }
        self.topics.retain(|id, _| new.topic(*id).is_some());
        changed
    }
}

/// What storage must know of a topic's settings.
pub fn for_storage(settings: &TopicSettings) -> LogSettings {
    LogSettings {
        segment_bytes: u64::try_from(settings.segment_bytes).unwrap_or(u64::MAX),
        segment_ms: Some(settings.segment_ms_max()),
        retention_bytes: u64::try_from(settings.retention_bytes).ok(),
        retention_ms: (settings.retention_ms >= 0).then_some(settings.retention_ms),
        compacted: !settings.cleanup_policy.delete,
        compaction: settings.cleanup_policy.compact.then(|| compaction(&settings.cleaning)),
    }
}

fn compaction(rules: &CleaningRules) -> Compaction {
    Compaction {
        // Between zero and one, so a million at most.
        min_dirty_ppm: (rules.min_dirty_ratio * 1e6) as u32,
        min_lag_ms: rules.min_lag_ms,
        max_lag_ms: rules.max_lag_ms,
        delete_retention_ms: rules.delete_retention_ms,
    }
}

/// What the cleanings of one core may take, as one of so many.
pub fn of_cleaner(options: &Options, cores: u16) -> CleanerConfig {
    let cores = u64::from(cores).max(1);
    let table_bytes = u64::try_from(options.log_cleaner_dedupe_buffer_size).unwrap_or(0) / cores;
    let per_second = options.log_cleaner_io_max_bytes_per_second / cores as f64;
    let pause = u64::try_from(options.log_cleaner_backoff_ms).unwrap_or(0);
    CleanerConfig {
        table_bytes: usize::try_from(table_bytes).unwrap_or(usize::MAX),
        // More than any device gives is no bound.
        bytes_per_second: (per_second < 1e15).then_some(per_second as u64),
        pause: Duration::from_millis(pause),
    }
}

/// What the partition of a log must know of its topic's settings.
pub fn of_log(options: &Options, settings: &TopicSettings, log: LogId) -> PartitionSettings {
    let mut settings = for_partition(options, settings);
    settings.replay = log == LogId::METADATA;
    // The cluster's own log is never relaxed, whatever the broker's defaults say.
    settings.relaxed &= log != LogId::METADATA;
    settings
}

/// How long a silent producer is remembered.
pub fn producer_expiry(options: &Options) -> Duration {
    Duration::from_millis(u64::try_from(options.producer_id_expiration_ms).unwrap_or(0))
}

/// What a partition must know of its topic's settings.
fn for_partition(options: &Options, settings: &TopicSettings) -> PartitionSettings {
    PartitionSettings {
        max_producer_ids: PRODUCER_IDS_PER_PARTITION,
        producer_expiry: producer_expiry(options),
        append_time: settings.timestamp_type == TimestampType::LogAppendTime,
        relaxed: settings.is_relaxed(),
        replay: false,
    }
}

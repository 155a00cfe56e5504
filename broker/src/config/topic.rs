//! Configs of one topic: what may be set, and what holds.
//!
//! Does: validates names and values for CreateTopics and AlterConfigs, computes the typed settings of a
//! topic from broker options and the topic's own values. Does not: store anything.
//! Invariants: pure; a value that `validate` lets pass can be computed into `TopicSettings`.
//! Apart because the broker's API files and the shard both need it, and neither should parse texts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use flumen_protocol::batch::codec::Codec;
use flumen_protocol::time::Wall;

use super::kind::{parse_boolean, words};
use super::options::{Options, TimestampType};
use super::topic_names::{TopicConfig, find};

/// A topic's own values by name; what is not in it is inherited.
pub type Overrides = BTreeMap<String, String>;

/// What happens to old records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments may go by time and size. False for a topic that is only compacted: it keeps all.
    pub delete: bool,
    /// Of every key only the last record stays.
    pub compact: bool,
}

/// How a compacted topic is cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleaningRules {
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

/// The settings that hold for one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// `retention.ms`; -1 keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes` per partition; negative means no bound.
    pub retention_bytes: i64,
    /// `segment.bytes`.
    pub segment_bytes: i32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `max.message.bytes`: largest batch.
    pub max_message_bytes: i32,
    /// `flush.messages`; `i64::MAX` where nobody sets it.
    pub flush_messages: i64,
    /// `flush.ms`; `i64::MAX` where nobody sets it.
    pub flush_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// How it is cleaned if it is compacted.
    pub cleaning: CleaningRules,
    /// `compression.type`: what batches are packed with; `None` as their producers did.
    pub codec: Option<Codec>,
}

impl TopicSettings {
    /// The settings of a topic with these values of its own. A value that `validate` would refuse
    /// counts as not set; it cannot have got in through the API.
    pub fn compute(options: &Options, overrides: &Overrides) -> Self {
        let source = Source { options, overrides };
        Self {
            retention_ms: source.number("retention.ms"),
            retention_bytes: source.number("retention.bytes"),
            segment_bytes: source.number_i32("segment.bytes"),
            segment_ms: source.number("segment.ms"),
            max_message_bytes: source.number_i32("max.message.bytes"),
            flush_messages: source.number("flush.messages"),
            flush_ms: source.number("flush.ms"),
            timestamp_type: timestamp_type(&source.text("message.timestamp.type")),
            timestamp_before_max_ms: source.number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: source.number("message.timestamp.after.max.ms"),
            cleanup_policy: cleanup_policy(&source.text("cleanup.policy")),
            cleaning: CleaningRules {
                min_dirty_ratio: source.ratio("min.cleanable.dirty.ratio"),
                min_lag_ms: source.number("min.compaction.lag.ms"),
                max_lag_ms: source.number("max.compaction.lag.ms"),
                delete_retention_ms: source.number("delete.retention.ms"),
            },
            codec: codec(source.text("compression.type").trim()),
        }
    }

    /// Whether the operator asked, in Kafka's words, for acknowledgements that do not wait for the
    /// disk: `flush.messages` above one, or `flush.ms`. One message per flush is what always
    /// holds otherwise (architecture D6).
    pub fn is_relaxed(&self) -> bool {
        let by_count = self.flush_messages != i64::MAX;
        let by_time = self.flush_ms != i64::MAX && self.flush_ms > 0;
        self.flush_messages != 1 && (by_count || by_time)
    }

    /// How long a segment may grow, milliseconds: of a compacted topic no longer than a record may stay
    /// uncleaned, since a segment that grows is never cleaned.
    pub fn segment_ms_max(&self) -> i64 {
        let is_compacted = self.cleanup_policy.compact;
        if is_compacted { self.segment_ms.min(self.cleaning.max_lag_ms) } else { self.segment_ms }
    }

    /// The largest batch, bytes.
    pub fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.max_message_bytes).unwrap_or(0)
    }

    /// What a batch with this codec has to be packed with, if not with it.
    #[inline]
    pub fn codec_instead_of(&self, codec: Codec) -> Option<Codec> {
        self.codec.filter(|&wanted| wanted != codec)
    }

    /// Whether records without a key have no place in the topic.
    pub fn is_compacted(&self) -> bool {
        self.cleanup_policy.compact
    }

    /// The timestamps (milliseconds) that records may be appended with now; -1, none, always is
    /// allowed. The broker's own stamp is always right, whatever it replaces.
    pub fn timestamps_allowed(&self, now: Wall) -> RangeInclusive<i64> {
        if self.timestamp_type == TimestampType::LogAppendTime {
            return i64::MIN..=i64::MAX;
        }
        let oldest = now.0.saturating_sub(self.timestamp_before_max_ms);
        let newest = now.0.saturating_add(self.timestamp_after_max_ms);
        oldest..=newest
    }
}

/// Whether a topic may have this value.
///
/// # Errors
/// The sentence for INVALID_CONFIG: unknown name, value out of range, or a feature that is not there.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some(config) = find(name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    config.kind.check(name, value)?;
    match unsupported(name, value) {
        Some(reason) => Err(format!("Invalid value {value} for configuration {name}: {reason}")),
        None => Ok(()),
    }
}

/// Whether a topic may have these values together.
///
/// # Errors
/// The first sentence of `validate`, or of a contradiction between two values.
pub fn validate_all(options: &Options, overrides: &Overrides) -> Result<(), String> {
    for (name, value) in overrides {
        validate(name, value)?;
    }
    let source = Source { options, overrides };
    at_most(&source, "min.compaction.lag.ms", "max.compaction.lag.ms")
}

/// The value that holds for one config, in the config's own unit.
pub fn effective(options: &Options, overrides: &Overrides, config: &TopicConfig) -> String {
    overrides
        .get(config.name)
        .cloned()
        .or_else(|| inherited(options, config))
        .unwrap_or_else(|| config.default.to_owned())
}

/// The strongest broker setting that the operator gave, converted to the topic's unit.
pub fn inherited(options: &Options, config: &TopicConfig) -> Option<String> {
    config.inherits.iter().find_map(|inherited| {
        let given = options.given(inherited.name)?;
        let Some(factor) = inherited.factor else { return Some(given.to_owned()) };
        let number: i64 = given.parse().ok()?;
        let converted = if number < 0 { -1 } else { number.saturating_mul(factor) };
        Some(converted.to_string())
    })
}

struct Source<'a> {
    options: &'a Options,
    overrides: &'a Overrides,
}

impl Source<'_> {
    fn text(&self, name: &str) -> String {
        let Some(config) = find(name) else { return String::new() };
        let text = effective(self.options, self.overrides, config);
        if config.kind.check(name, &text).is_ok() { text } else { config.default.to_owned() }
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).trim().parse().unwrap_or_default()
    }

    fn ratio(&self, name: &str) -> f64 {
        self.text(name).trim().parse().unwrap_or_default()
    }

    fn number_i32(&self, name: &str) -> i32 {
        i32::try_from(self.number(name)).unwrap_or(i32::MAX)
    }
}

fn unsupported(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "remote.storage.enable" if parse_boolean(value.trim()) == Some(true) => Some(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured \
                 with remote log storage.",
        ),
        // The one hole in a range that Kafka has: -1 is gzip's own default, 0 would be no compression.
        "compression.gzip.level" if value.trim().parse() == Ok(0) => {
            Some("Value must be between 1 and 9 or equal to -1")
        }
        _ => None,
    }
}

fn at_most(source: &Source<'_>, lower: &str, upper: &str) -> Result<(), String> {
    let (low, high) = (source.number(lower), source.number(upper));
    if low > high {
        return Err(format!(
            "Invalid value {low} for configuration {lower}: must not exceed {upper} ({high})"
        ));
    }
    Ok(())
}

/// The codec that a value of `compression.type` names; `None`: the producers' own.
fn codec(text: &str) -> Option<Codec> {
    let is_named = |codec: &Codec| match codec {
        Codec::None => text == "uncompressed",
        Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => text == codec.name(),
    };
    Codec::ALL.into_iter().find(is_named)
}

fn timestamp_type(text: &str) -> TimestampType {
    if text.trim() == "LogAppendTime" {
        TimestampType::LogAppendTime
    } else {
        TimestampType::CreateTime
    }
}

fn cleanup_policy(text: &str) -> CleanupPolicy {
    let has = |policy: &str| words(text).any(|word| word == policy);
    CleanupPolicy { delete: has("delete"), compact: has("compact") }
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    fn options(text: &str) -> Options {
        load_text(text.as_bytes(), &[], "box").unwrap().options
    }

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_set_means_kafkas_defaults() {
        let settings = TopicSettings::compute(&Options::default(), &Overrides::new());
        assert_eq!(settings.retention_ms, 604_800_000);
        assert_eq!(settings.segment_bytes, 1 << 30);
        assert_eq!(settings.max_message_bytes, 1_048_588);
        assert_eq!(settings.flush_ms, i64::MAX);
        assert_eq!(settings.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(settings.timestamp_type, TimestampType::CreateTime);
    }

    #[test]
    fn a_topic_inherits_in_its_own_unit_and_overrides() {
        let options = options("log.retention.hours=2\nlog.roll.hours=1\nmessage.max.bytes=2000");
        let settings = TopicSettings::compute(&options, &overrides(&[("segment.ms", "77")]));
        assert_eq!(settings.retention_ms, 7_200_000);
        assert_eq!(settings.segment_ms, 77);
        assert_eq!(settings.max_message_bytes, 2000);
    }

    #[test]
    fn for_ever_in_hours_is_for_ever_in_milliseconds() {
        for text in ["log.retention.hours=-1", "log.retention.hours=-5", "log.retention.ms=-5"] {
            let options = options(text);
            assert_eq!(options.log_retention_ms, -1, "{text}");
            let settings = TopicSettings::compute(&options, &Overrides::new());
            assert_eq!(settings.retention_ms, -1, "{text}");
        }
    }

    #[test]
    fn a_broker_without_a_cleanup_policy_keeps_everything() {
        let options = options("log.cleanup.policy=\nlog.retention.bytes=-5");
        let settings = TopicSettings::compute(&options, &Overrides::new());
        assert_eq!(settings.cleanup_policy, CleanupPolicy { delete: false, compact: false });
        assert_eq!(settings.retention_bytes, -5, "negative, as Kafka shows it");
    }

    #[test]
    fn topics_agree_with_the_broker_options() {
        let options = options("log.retention.minutes=3\nlog.retention.hours=2\nlog.roll.ms=9");
        let settings = TopicSettings::compute(&options, &Overrides::new());
        assert_eq!(settings.retention_ms, options.log_retention_ms);
        assert_eq!(settings.segment_ms, options.log_roll_ms);
    }

    #[test]
    fn a_compacted_topic_keeps_everything() {
        let settings = TopicSettings::compute(
            &Options::default(),
            &overrides(&[("cleanup.policy", "compact")]),
        );
        assert_eq!(settings.cleanup_policy, CleanupPolicy { delete: false, compact: true });
        assert!(validate("cleanup.policy", "compact,delete").is_ok());
    }

    #[test]
    fn a_compacted_topic_is_cleaned_by_its_own_rules_or_the_brokers() {
        let options =
            options("log.cleaner.min.cleanable.ratio=0.25\nlog.cleaner.delete.retention.ms=7");
        let own = [("cleanup.policy", "compact"), ("max.compaction.lag.ms", "5000")];
        let settings = TopicSettings::compute(&options, &overrides(&own));
        let (min_dirty_ratio, min_lag_ms, max_lag_ms, delete_retention_ms) = (0.25, 0, 5000, 7);
        let rules = CleaningRules { min_dirty_ratio, min_lag_ms, max_lag_ms, delete_retention_ms };
        assert_eq!((settings.cleaning, settings.segment_ms_max()), (rules, 5000));
        let plain = TopicSettings::compute(&options, &overrides(&own[1..]));
        assert_eq!(plain.segment_ms_max(), 604_800_000, "nothing is cleaned");
    }

    #[test]
    fn a_topic_says_what_its_batches_are_packed_with() {
        let none = overrides(&[]);
        let of_broker = |text| TopicSettings::compute(&options(text), &none).codec;
        assert_eq!((of_broker(""), of_broker("compression.type=lz4")), (None, Some(Codec::Lz4)));
        let options = options("compression.type=lz4");
        for (value, expected) in [
            ("producer", None),
            ("uncompressed", Some(Codec::None)),
            ("gzip", Some(Codec::Gzip)),
            ("snappy", Some(Codec::Snappy)),
            ("zstd", Some(Codec::Zstd)),
        ] {
            assert!(validate("compression.type", value).is_ok());
            let own = overrides(&[("compression.type", value)]);
            let settings = TopicSettings::compute(&options, &own);
            assert_eq!(settings.codec, expected, "{value}");
            assert_eq!(
                settings.codec_instead_of(Codec::Snappy),
                expected.filter(|_| value != "snappy")
            );
        }
        assert!(validate("compression.type", "none").is_err());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_a_reason() {
        let tiered = validate("remote.storage.enable", "true").unwrap_err();
        assert!(tiered.contains("Tiered Storage functionality is disabled in the broker"));
        assert!(validate("remote.storage.enable", "false").is_ok());
        assert!(validate("compression.gzip.level", "0").is_err());
        assert!(validate("compression.gzip.level", "-1").is_ok());
        assert_eq!(
            validate("retension.ms", "1").unwrap_err(),
            "Unknown topic config name: retension.ms"
        );
        assert!(validate("retention.ms", "-2").is_err());
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        let all = |pairs| validate_all(&Options::default(), &overrides(pairs));
        assert!(all(&[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")]).is_err());
        // Without tiered storage the local part has no meaning, so Kafka does not compare either.
        assert!(all(&[("local.retention.ms", "9"), ("retention.ms", "8")]).is_ok());
    }
}

//! Settings as DescribeConfigs shows them.
//!
//! Does: for a topic and for the broker, every known name with value, origin, type, synonyms and
//! meaning (KIP-133, KIP-226, KIP-569); for all brokers, what they were given while running.
//! Does not: encode responses.
//! Invariants: sorted by name; a secret has no value; the first synonym is the value that holds.
//! Apart because the loader does not need it and the API does.

use super::declaration;
use super::dynamic::{self, Scope, THROTTLE_KIND, THROTTLES};
use super::kafka_names::{self, ACCEPTED};
use super::kind::ValueType;
use super::options::Options;
use super::topic::{Overrides, effective};
use super::topic_names::{TOPIC_CONFIGS, TopicConfig};

/// Where a value comes from; the discriminant is the wire code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Given to this broker while it runs.
    DynamicBroker = 2,
    /// Given to all brokers while they run.
    DynamicDefaultBroker = 3,
    /// Given in the file or an override.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
    /// Given to the group.
    Group = 8,
}

impl ConfigSource {
    /// The number that goes on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One line of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Kafka's name.
    pub name: &'static str,
    /// The value that holds; `None` if unset or secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while running.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// Its type.
    pub value_type: ValueType,
    /// Every place that sets it, the strongest first.
    pub synonyms: Vec<Synonym>,
    /// What it does here.
    pub documentation: &'static str,
}

/// One place that sets a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Name under which it is set there.
    pub name: &'static str,
    /// Value there, in the unit of that name; `None` if secret.
    pub value: Option<String>,
    /// What kind of place it is.
    pub source: ConfigSource,
}

/// Every topic config for a topic with these values of its own.
pub fn describe_topic(options: &Options, overrides: &Overrides) -> Vec<Described> {
    TOPIC_CONFIGS.iter().map(|config| topic_line(options, overrides, config)).collect()
}

/// Every broker setting: what Flumen honours and what Kafka has besides; throttles where they are set.
pub fn describe_broker(options: &Options) -> Vec<Described> {
    let honoured = declaration::all().map(|row| (row.name, row.kind.value_type(), row.meaning));
    let accepted = ACCEPTED.iter().map(|row| (row.name, row.value_type, WITHOUT_EFFECT));
    let is_set = |name: &&str| options.given(name).is_some();
    let throttle = |name| (name, THROTTLE_KIND.value_type(), WITHOUT_EFFECT);
    let throttles = THROTTLES.iter().copied().filter(is_set).map(throttle);
    let mut lines: Vec<_> = honoured
        .chain(accepted)
        .chain(throttles)
        .map(|(name, value_type, documentation)| {
            broker_line(options, name, value_type, documentation)
        })
        .collect();
    lines.sort_by_key(|line| line.name);
    lines
}

/// What all brokers were given while running.
pub fn describe_shared(options: &Options) -> Vec<Described> {
    let shared = options.dynamic(Scope::Shared);
    let lines = describe_broker(options).into_iter().filter_map(|line| {
        let source = ConfigSource::DynamicDefaultBroker;
        let value = shared.get(line.name).cloned().filter(|_| !line.is_sensitive);
        shared.contains_key(line.name).then(|| {
            let synonyms = vec![Synonym { name: line.name, value: value.clone(), source }];
            Described { value, source, synonyms, ..line }
        })
    });
    lines.collect()
}

const WITHOUT_EFFECT: &str = "A Kafka setting that is accepted and has no effect in Flumen.";

/// Broker names that mean the same thing in different units, the strongest first. As in Kafka, the
/// weaker ones are synonyms of the strongest, and not the other way round.
const FAMILIES: &[&[&str]] = &[
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.dirs", "log.dir"],
];

fn topic_line(options: &Options, overrides: &Overrides, config: &TopicConfig) -> Described {
    let own = overrides.get(config.name).map(|value| Synonym {
        name: config.name,
        value: Some(value.clone()),
        source: ConfigSource::DynamicTopic,
    });
    let inherited =
        config.inherits.iter().flat_map(|inherited| settings_of(options, inherited.name));
    let synonyms: Vec<Synonym> = own.into_iter().chain(by_strength(inherited)).collect();
    Described {
        name: config.name,
        value: Some(effective(options, overrides, config)),
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        is_read_only: false,
        is_sensitive: false,
        value_type: config.kind.value_type(),
        synonyms,
        documentation: config.meaning,
    }
}

fn broker_line(
    options: &Options,
    name: &'static str,
    value_type: ValueType,
    documentation: &'static str,
) -> Described {
    let alone = [name];
    let family = FAMILIES.iter().find(|family| family[0] == name).copied().unwrap_or(&alone);
    let synonyms: Vec<Synonym> =
        by_strength(family.iter().flat_map(|member| settings_of(options, member)));
    let is_sensitive = value_type == ValueType::Password;
    let own = options.given(name).or_else(|| default_of(name)).map(str::to_owned);
    let own = match name {
        // One number by two names; given by either, both have it.
        "broker.id" | "node.id" => Some(options.node_id.to_string()),
        _ => own,
    };
    Described {
        name,
        value: own.filter(|_| !is_sensitive),
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        is_read_only: !dynamic::is_changeable(name),
        is_sensitive,
        value_type,
        synonyms,
        documentation,
    }
}

/// What one broker name is given in each place, and its default.
fn settings_of(options: &Options, name: &'static str) -> Vec<Synonym> {
    let is_secret =
        kafka_names::find(name).is_some_and(|row| row.value_type == ValueType::Password);
    let synonym = |value: &str, source| Synonym {
        name,
        value: Some(value.to_owned()).filter(|_| !is_secret),
        source,
    };
    let dynamic = |scope| options.dynamic(scope).get(name).map(String::as_str);
    let places = [
        (dynamic(Scope::Own), ConfigSource::DynamicBroker),
        (dynamic(Scope::Shared), ConfigSource::DynamicDefaultBroker),
        (options.written(name), ConfigSource::StaticBroker),
        (default_of(name), ConfigSource::Default),
    ];
    places.into_iter().filter_map(|(value, source)| Some(synonym(value?, source))).collect()
}

/// Anything given goes before any default, whatever the order of the names.
fn by_strength(synonyms: impl Iterator<Item = Synonym>) -> Vec<Synonym> {
    let mut synonyms: Vec<Synonym> = synonyms.collect();
    synonyms.sort_by_key(|synonym| synonym.source.code());
    synonyms
}

fn default_of(name: &str) -> Option<&'static str> {
    match declaration::find(name) {
        Some(row) => row.default,
        None => kafka_names::find(name)?.default,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    fn options(text: &str) -> Options {
        load_text(text.as_bytes(), &[], "box").unwrap().options
    }

    fn topic_line_of(options: &Options, overrides: &Overrides, name: &str) -> Described {
        describe_topic(options, overrides).into_iter().find(|line| line.name == name).unwrap()
    }

    fn broker_line_of(options: &Options, name: &str) -> Described {
        describe_broker(options).into_iter().find(|line| line.name == name).unwrap()
    }

    #[test]
    fn a_default_shows_where_it_would_be_set() {
        let line = topic_line_of(&Options::default(), &Overrides::new(), "retention.ms");
        assert_eq!(line.value.as_deref(), Some("604800000"));
        assert_eq!(line.source, ConfigSource::Default);
        assert_eq!(line.synonyms.len(), 1);
        assert_eq!(line.synonyms[0].name, "log.retention.hours");
        assert_eq!(line.value_type.code(), 5);
    }

    #[test]
    fn the_strongest_setting_comes_first() {
        let options = options("log.retention.hours=1");
        let own = Overrides::from([("retention.ms".to_owned(), "5".to_owned())]);
        let line = topic_line_of(&options, &own, "retention.ms");
        let sources: Vec<_> = line.synonyms.iter().map(|s| s.source.code()).collect();
        assert_eq!(sources, [1, 4, 5]);
        assert_eq!(line.value.as_deref(), Some("5"));
        let line = topic_line_of(&options, &Overrides::new(), "retention.ms");
        assert_eq!(line.source, ConfigSource::StaticBroker);
        assert_eq!(line.value.as_deref(), Some("3600000"));
    }

    #[test]
    fn a_topic_has_all_configs_of_kafka_and_a_broker_too() {
        assert_eq!(describe_topic(&Options::default(), &Overrides::new()).len(), 33);
        let lines = describe_broker(&Options::default());
        assert_eq!(lines.len(), declaration::all().count() + ACCEPTED.len());
        assert!(lines.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let options = options("ssl.keystore.password=hunter2");
        let line = broker_line_of(&options, "ssl.keystore.password");
        assert!(line.is_sensitive && line.value.is_none());
        let shown = format!("{:?}", describe_broker(&options));
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn broker_lines_are_read_only_and_say_their_origin() {
        let options = options("num.partitions=4\nnum.io.threads=2");
        assert_eq!(broker_line_of(&options, "num.partitions").source, ConfigSource::StaticBroker);
        assert_eq!(broker_line_of(&options, "num.io.threads").value.as_deref(), Some("2"));
        assert_eq!(broker_line_of(&options, "node.id").source, ConfigSource::Default);
        let read_only = |name| broker_line_of(&options, name).is_read_only;
        assert!(read_only("num.partitions") && read_only("listeners"));
        assert!(!read_only("log.retention.ms") && !read_only("num.io.threads"));
    }

    #[test]
    fn the_number_of_the_node_is_told_by_both_names() {
        for text in ["node.id=3", "broker.id=3"] {
            let options = options(text);
            for name in ["node.id", "broker.id"] {
                let value = broker_line_of(&options, name).value;
                assert_eq!(value.as_deref(), Some("3"), "{text}: {name}");
            }
        }
    }

    #[test]
    fn throttles_are_shown_only_where_they_are_set() {
        let set = Overrides::from([(THROTTLES[1].to_owned(), "5".to_owned())]);
        let started = options("");
        let (options, left_out) = dynamic::overlay(&started, &Overrides::new(), &set);
        assert_eq!(left_out, [""; 0]);
        let line = broker_line_of(&options, THROTTLES[1]);
        assert_eq!((line.value.as_deref(), line.source), (Some("5"), ConfigSource::DynamicBroker));
        assert!(!line.is_read_only);
        let lines = describe_broker(&options);
        assert!(lines.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(lines.len(), describe_broker(&started).len() + 1);
    }

    #[test]
    fn every_place_that_sets_a_value_is_told_in_the_order_that_counts() {
        let started = options("log.retention.hours=1\nmessage.max.bytes=2000");
        let shared = Overrides::from([
            ("log.retention.ms".to_owned(), "7".to_owned()),
            ("message.max.bytes".to_owned(), "3000".to_owned()),
        ]);
        let own = Overrides::from([("log.retention.ms".to_owned(), "5".to_owned())]);
        let (options, _) = dynamic::overlay(&started, &shared, &own);
        let line = broker_line_of(&options, "log.retention.ms");
        let places = |line: &Described| -> Vec<(i8, String)> {
            let value = |synonym: &Synonym| synonym.value.clone().unwrap_or_default();
            line.synonyms.iter().map(|it| (it.source.code(), value(it))).collect()
        };
        let expected = [(2, "5"), (3, "7"), (4, "1"), (5, "168")];
        assert_eq!(places(&line), expected.map(|(code, value)| (code, value.to_owned())));
        assert_eq!((line.value.as_deref(), line.source.code()), (Some("5"), 2));
        let hours = broker_line_of(&options, "log.retention.hours");
        assert_eq!(places(&hours), [(4, "1".to_owned()), (5, "168".to_owned())]);
        // A topic inherits the same, in its own unit.
        let line = topic_line_of(&options, &Overrides::new(), "retention.ms");
        assert_eq!((line.value.as_deref(), line.source.code()), (Some("5"), 2));
        let line = topic_line_of(&options, &Overrides::new(), "max.message.bytes");
        assert_eq!((line.value.as_deref(), line.source.code()), (Some("3000"), 3));
        let lines = describe_shared(&options);
        assert!(lines.iter().all(|line| line.source.code() == 3 && line.synonyms.len() == 1));
        let lines: Vec<_> = lines.iter().map(|line| (line.name, line.value.as_deref())).collect();
        assert_eq!(lines, [("log.retention.ms", Some("7")), ("message.max.bytes", Some("3000"))]);
    }
}

//! The configuration file, its overrides, and settings that change while the broker runs.
//!
//! Oracle: any text is refused with a reason or gives options, the same ones every time, that every
//! description can be made of; changes that pass the check can be laid over, and hold then.

use std::sync::OnceLock;

use flumen_broker::config::declaration;
use flumen_broker::config::describe::{describe_broker, describe_topic};
use flumen_broker::config::dynamic::{self, Scope};
use flumen_broker::config::listener::{authority, parse_endpoint};
use flumen_broker::config::load::load_text;
use flumen_broker::config::options::Options;
use flumen_broker::config::setting_change::{self, SettingChange};
use flumen_broker::config::topic::{Overrides, TopicSettings, validate_all};
use flumen_broker::config::topic_names::TOPIC_CONFIGS;

use crate::draw::Draw;

const HOST: &str = "host.example";
/// For every unknown name the nearest known one is looked for, among hundreds: a long file takes long.
const BYTES_MAX: usize = 1 << 10;

/// The file, then overrides, with a zero byte before each.
pub fn file(input: &[u8]) {
    let mut parts = input[..input.len().min(BYTES_MAX)].split(|byte| *byte == 0);
    let text = parts.next().unwrap_or_default();
    let overrides: Vec<String> =
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    match load_text(text, &overrides, HOST) {
        Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
        Ok(loaded) => {
            let options = &loaded.options;
            assert!(!options.listeners.is_empty() && !describe_broker(options).is_empty());
            let again = load_text(text, &overrides, HOST).map(|loaded| loaded.options);
            assert_eq!(again.as_ref(), Ok(options));
            let _settings = TopicSettings::compute(options, &Overrides::new());
            assert!(!describe_topic(options, &Overrides::new()).is_empty());
            assert!(options.batch_bytes_max() > 0 && options.memory_budget_bytes(1 << 30) > 0);
            let _notes = loaded.notes();
        }
    }
}

/// A scope, then changes, one a line: `name=value` sets, and with `+`, `-`, `!` before the name words
/// are added, taken away, or the value is.
pub fn settings(input: &[u8]) {
    let mut draw = Draw::new(input);
    let scope = draw.one_of(&[Scope::Own, Scope::Shared]);
    let text = String::from_utf8_lossy(draw.rest());
    let changes: Vec<(&str, SettingChange<'_>)> = text.lines().map(change).collect();
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    let options = OPTIONS.get_or_init(Options::default);
    if let Ok(changed) = dynamic::apply(options, scope, &changes) {
        let none = Overrides::new();
        let (shared, own) = match scope {
            Scope::Own => (&none, &changed),
            Scope::Shared => (&changed, &none),
        };
        let (overlaid, left_out) = dynamic::overlay(options, shared, own);
        assert!(left_out.is_empty(), "{left_out:?} passed the check");
        assert_eq!(overlaid.dynamic(scope), &changed);
        assert!(!describe_broker(&overlaid).is_empty());
    }
    if let Ok(changed) = setting_change::apply(options, &Overrides::new(), &changes) {
        assert_eq!(validate_all(options, &changed), Ok(()));
        let _settings = TopicSettings::compute(options, &changed);
        assert!(!describe_topic(options, &changed).is_empty());
    }
    if let Some(endpoint) = parse_endpoint(&text) {
        assert_eq!(parse_endpoint(&authority(&endpoint.host, endpoint.port)), Some(endpoint));
    }
}

fn change(line: &str) -> (&str, SettingChange<'_>) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    match name.split_at_checked(1) {
        Some(("+", name)) => (name, SettingChange::Append(value)),
        Some(("-", name)) => (name, SettingChange::Subtract(value)),
        Some(("!", name)) => (name, SettingChange::Delete),
        Some(_) | None => (name, SettingChange::Set(value)),
    }
}

/// Every declared option with its default, ten to a file, and the forms a file can take.
pub fn file_seeds() -> Vec<Vec<u8>> {
    let line = |row: &flumen_broker::config::declared::Declaration| {
        format!("{}={}\n", row.name, row.default.unwrap_or_default())
    };
    let some = |rows: &[&flumen_broker::config::declared::Declaration]| {
        rows.iter().copied().map(line).collect::<String>().into_bytes()
    };
    let declared: Vec<_> = declaration::all().collect();
    let mut seeds: Vec<Vec<u8>> = declared.chunks(10).take(20).map(some).collect();
    let forms: [&[u8]; 4] = [
        b"",
        b"# a comment\nnode.id : 3\nlisteners=A://:9092,\\\n  B://[::1]:9093\n\
          listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\n",
        b"broker.id=1\ncontroller.listener.names=C\nlisteners=C://:1,PLAINTEXT://h\\u0061:2\r\n\0num.partitions=3",
        b"log.retention.hours=1\nlog.retention.ms=-1\nlog.dirs=/a\0log.dirs=/b",
    ];
    seeds.extend(forms.map(<[u8]>::to_vec));
    seeds
}

/// Every setting of a topic with its default, ten together, and changes of the other kinds.
pub fn settings_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = TOPIC_CONFIGS
        .chunks(10)
        .map(|rows| {
            let line = |row: &flumen_broker::config::topic_names::TopicConfig| {
                format!("{}={}\n", row.name, row.default)
            };
            [vec![0], rows.iter().map(line).collect::<String>().into_bytes()].concat()
        })
        .collect();
    let changes: [&[u8]; 4] = [
        b"\0+cleanup.policy=compact\n-cleanup.policy=delete\n",
        b"\x01message.max.bytes=100000\nlog.retention.ms=1000\nmax.connections=10\n",
        b"\0max.connections.per.ip.overrides=127.0.0.1:5,h:6\n!log.retention.ms\n",
        b"\x01[fe80::1%eth0]:9092",
    ];
    seeds.extend(changes.map(<[u8]>::to_vec));
    seeds
}

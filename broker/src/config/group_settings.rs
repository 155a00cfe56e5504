//! What a group of the new kind can be given of its own (resource GROUP, KIP-848).
//!
//! Does: names the settings; makes a group's new values from changes, checked; describes them.
//! Does not: store them; the cluster's log does.
//! Invariants: pure; what comes out of a change lies within the broker's bounds.
//! Apart because groups have two settings, and topics and brokers hundreds.

use flumen_replication::coordinator::group::consumer::settings::{
    HEARTBEAT_INTERVAL, SESSION_TIMEOUT,
};

use super::describe::{ConfigSource, Described, Synonym};
use super::kind::ValueType;
use super::options::Options;
use super::setting_change::{self, SettingChange};
use super::topic::Overrides;

/// A setting of groups.
struct GroupSetting {
    name: &'static str,
    /// The broker's setting that holds where a group has none.
    inherited_name: &'static str,
    meaning: &'static str,
    bounds: fn(&Options) -> Bounds,
}

/// What a setting may be, and what it is by default.
struct Bounds {
    min: i32,
    max: i32,
    inherited: i32,
}

/// All of them, by name.
const SETTINGS: [GroupSetting; 2] = [
    GroupSetting {
        name: HEARTBEAT_INTERVAL,
        inherited_name: "group.consumer.heartbeat.interval.ms",
        meaning: "How often the group's members are told to send heartbeats.",
        bounds: |options| Bounds {
            min: options.consumer_groups.min_heartbeat_interval_ms,
            max: options.consumer_groups.max_heartbeat_interval_ms,
            inherited: options.consumer_groups.heartbeat_interval_ms,
        },
    },
    GroupSetting {
        name: SESSION_TIMEOUT,
        inherited_name: "group.consumer.session.timeout.ms",
        meaning: "How long a member of the group may be silent.",
        bounds: |options| Bounds {
            min: options.consumer_groups.min_session_timeout_ms,
            max: options.consumer_groups.max_session_timeout_ms,
            inherited: options.consumer_groups.session_timeout_ms,
        },
    },
];

/// The group's own values after these changes, one after another.
///
/// # Errors
/// The sentence for INVALID_CONFIG.
pub fn apply(
    options: &Options,
    overrides: &Overrides,
    changes: &[(&str, SettingChange<'_>)],
) -> Result<Overrides, String> {
    let mut changed = overrides.clone();
    for (name, change) in changes {
        match setting_change::value_after(name, *change, || Ok(None))? {
            Some(value) => changed.insert((*name).to_owned(), value.trim().to_owned()),
            None => changed.remove(*name),
        };
    }
    validate(options, &changed).map(|()| changed)
}

/// Whether these can be a group's own values.
///
/// # Errors
/// The sentence for INVALID_CONFIG.
pub fn validate(options: &Options, settings: &Overrides) -> Result<(), String> {
    for (name, value) in settings {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.ok_or_else(|| format!("Unknown group config name: {name}"))?;
        let number: i32 = value.parse().map_err(|_| {
            format!("Invalid value {value} for configuration {name}: Not a number of type INT")
        })?;
        if number < 1 {
            return Err(format!(
                "Invalid value {value} for configuration {name}: Value must be at least 1"
            ));
        }
        let Bounds { min, max, .. } = (setting.bounds)(options);
        let prefix = setting.inherited_name.trim_end_matches(name.trim_start_matches("consumer."));
        let what = name.trim_start_matches("consumer.");
        if number < min {
            return Err(format!("{name} must be greater than or equal to {prefix}min.{what}"));
        }
        if number > max {
            return Err(format!("{name} must be less than or equal to {prefix}max.{what}"));
        }
    }
    let in_force = |setting: &GroupSetting| {
        let own = settings.get(setting.name).and_then(|value| value.parse().ok());
        own.unwrap_or((setting.bounds)(options).inherited)
    };
    let [heartbeat, session] = &SETTINGS;
    if in_force(session) <= in_force(heartbeat) {
        return Err(format!("{SESSION_TIMEOUT} must be greater than {HEARTBEAT_INTERVAL}"));
    }
    Ok(())
}

/// Every setting of a group with these values of its own.
pub fn describe(options: &Options, overrides: &Overrides) -> Vec<Described> {
    SETTINGS.iter().map(|setting| line(options, overrides, setting)).collect()
}

/// As in Kafka there is one synonym: the group's own value, or what is inherited under the same name.
fn line(options: &Options, overrides: &Overrides, setting: &GroupSetting) -> Described {
    let own = overrides.get(setting.name).cloned();
    let source = if own.is_some() { ConfigSource::Group } else { ConfigSource::Default };
    let value = Some(own.unwrap_or_else(|| (setting.bounds)(options).inherited.to_string()));
    Described {
        name: setting.name,
        synonyms: vec![Synonym { name: setting.name, value: value.clone(), source }],
        value,
        source,
        is_read_only: false,
        is_sensitive: false,
        value_type: ValueType::Int,
        documentation: setting.meaning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(changes: &[(&str, &str)]) -> Result<Overrides, String> {
        let changes: Vec<(&str, SettingChange<'_>)> =
            changes.iter().map(|(name, value)| (*name, SettingChange::Set(value))).collect();
        apply(&Options::default(), &Overrides::new(), &changes)
    }

    #[test]
    fn values_lie_within_the_brokers_bounds() {
        let good = set(&[(SESSION_TIMEOUT, " 50000 "), (HEARTBEAT_INTERVAL, "6000")]).unwrap();
        assert_eq!(good.get(SESSION_TIMEOUT).map(String::as_str), Some("50000"));
        for (name, value, why) in [
            (SESSION_TIMEOUT, "44999", "greater than or equal to group.consumer.min.session"),
            (SESSION_TIMEOUT, "60001", "less than or equal to group.consumer.max.session"),
            (HEARTBEAT_INTERVAL, "4999", "group.consumer.min.heartbeat.interval.ms"),
            (HEARTBEAT_INTERVAL, "soon", "Not a number of type INT"),
            (HEARTBEAT_INTERVAL, "0", "Value must be at least 1"),
            ("retention.ms", "1", "Unknown group config name: retention.ms"),
        ] {
            let refused = set(&[(name, value)]).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let own = good;
        let gone = apply(&Options::default(), &own, &[(SESSION_TIMEOUT, SettingChange::Delete)]);
        assert_eq!(gone.map(|left| left.len()), Ok(1));
        let odd = [(SESSION_TIMEOUT, SettingChange::Append("1"))];
        assert!(apply(&Options::default(), &own, &odd).is_err());
    }

    #[test]
    fn a_description_tells_where_a_value_comes_from() {
        let own = set(&[(SESSION_TIMEOUT, "50000")]).unwrap();
        let lines = describe(&Options::default(), &own);
        let told: Vec<(&str, Option<&str>, ConfigSource)> =
            lines.iter().map(|line| (line.name, line.value.as_deref(), line.source)).collect();
        let expected = [
            (HEARTBEAT_INTERVAL, Some("5000"), ConfigSource::Default),
            (SESSION_TIMEOUT, Some("50000"), ConfigSource::Group),
        ];
        assert_eq!(told, expected);
        assert_eq!(lines[1].synonyms[0].source, ConfigSource::Group);
    }
}

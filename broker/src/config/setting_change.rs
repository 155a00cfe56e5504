//! Changes to single settings, as AlterConfigs and IncrementalAlterConfigs ask for them.
//!
//! Does: says what a value is after a change; turns a topic's own values and changes to them into its
//! new values, checked (KIP-339).
//! Does not: store them or map errors to codes.
//! Invariants: pure; what comes out passes `topic::validate_all`.
//! Apart because creating and reading topics does not need it.

use std::collections::BTreeSet;

use super::kind::{ValueType, words};
use super::options::Options;
use super::topic::{Overrides, effective, validate_all};
use super::topic_names::{TopicConfig, find};

/// What is done to one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingChange<'a> {
    /// Gives the owner this value.
    Set(&'a str),
    /// Takes the owner's value away, so that what it inherits holds again.
    Delete,
    /// Adds words to a list, those it has already left out.
    Append(&'a str),
    /// Takes words out of a list.
    Subtract(&'a str),
}

/// The topic's own values after these changes, one after another. Only what comes out in the end
/// must make sense: two settings that depend on each other may change in any order.
///
/// # Errors
/// The sentence for INVALID_CONFIG: that of `topic::validate_all`, or a list operation on something
/// that is no list.
pub fn apply(
    options: &Options,
    overrides: &Overrides,
    changes: &[(&str, SettingChange<'_>)],
) -> Result<Overrides, String> {
    let mut changed = overrides.clone();
    for (name, change) in changes {
        let list = || {
            let config = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
            Ok(listed(options, &changed, config))
        };
        match value_after(name, *change, list)? {
            Some(value) => changed.insert((*name).to_owned(), value),
            None => changed.remove(*name),
        };
    }
    validate_all(options, &changed).map(|()| changed)
}

/// The owner's value after one change, `None` if it has none any more. `list` gives the list that
/// holds now, `None` of what is no list.
///
/// # Errors
/// That of `list`, a list operation on what is none, or a list that grew too long.
pub(super) fn value_after(
    name: &str,
    change: SettingChange<'_>,
    list: impl FnOnce() -> Result<Option<String>, String>,
) -> Result<Option<String>, String> {
    let list = |operation: &str| list()?.ok_or_else(|| no_list(operation, name));
    let value = match change {
        // Of a name nobody knows as well, as in Kafka: what is not there is gone already.
        SettingChange::Delete => return Ok(None),
        SettingChange::Set(value) => value.to_owned(),
        SettingChange::Append(more) => appended(&list("APPEND")?, more),
        SettingChange::Subtract(less) => subtracted(&list("SUBTRACT")?, less),
    };
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("The list of {name} is too long: {VALUE_BYTES_MAX} bytes at most"));
    }
    Ok(Some(value))
}

/// Bytes of one value. A list grows word by word, but a client reads it as one Kafka string.
const VALUE_BYTES_MAX: usize = i16::MAX as usize;

/// The list that holds now, whether the topic's own or inherited.
fn listed(options: &Options, overrides: &Overrides, config: &TopicConfig) -> Option<String> {
    let is_list = config.kind.value_type() == ValueType::List;
    is_list.then(|| effective(options, overrides, config))
}

/// The sentence for a list operation on something else.
fn no_list(operation: &str, name: &str) -> String {
    format!("Can't {operation} to key {name} because its type is not LIST.")
}

fn appended(list: &str, more: &str) -> String {
    let mut known: BTreeSet<&str> = words(list).collect();
    let mut all: Vec<&str> = words(list).collect();
    all.extend(words(more).filter(|word| known.insert(word)));
    all.join(",")
}

fn subtracted(list: &str, less: &str) -> String {
    let gone: BTreeSet<&str> = words(less).collect();
    let kept: Vec<&str> = words(list).filter(|word| !gone.contains(word)).collect();
    kept.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(
        start: &[(&str, &str)],
        name: &str,
        change: SettingChange<'_>,
    ) -> Result<Overrides, String> {
        let start = start.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        apply(&Options::default(), &start, &[(name, change)])
    }

    #[test]
    fn set_then_delete_brings_the_brokers_value_back() {
        let set = changed(&[], "retention.ms", SettingChange::Set("5")).unwrap();
        assert_eq!(set["retention.ms"], "5");
        assert!(
            changed(&[("retention.ms", "5")], "retention.ms", SettingChange::Delete)
                .unwrap()
                .is_empty()
        );
        assert!(changed(&[], "retention.ms", SettingChange::Delete).unwrap().is_empty());
    }

    #[test]
    fn two_settings_that_depend_on_each_other_change_together() {
        let start = [("max.compaction.lag.ms", "50")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let changes = [
            ("min.compaction.lag.ms", SettingChange::Set("100")),
            ("max.compaction.lag.ms", SettingChange::Set("200")),
        ];
        let changed = apply(&Options::default(), &start.into(), &changes).unwrap();
        assert_eq!(changed["min.compaction.lag.ms"], "100");
        assert_eq!(changed["max.compaction.lag.ms"], "200");
    }

    #[test]
    fn deleting_what_nobody_knows_changes_nothing() {
        let kept = changed(&[("retention.ms", "5")], "no.such", SettingChange::Delete).unwrap();
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn lists_grow_and_shrink_from_what_holds() {
        let grown =
            changed(&[], "cleanup.policy", SettingChange::Append("compact,delete")).unwrap();
        assert_eq!(grown["cleanup.policy"], "delete,compact");
        let start = [("cleanup.policy", "delete,compact")];
        let shrunk = changed(&start, "cleanup.policy", SettingChange::Subtract("delete")).unwrap();
        assert_eq!(shrunk["cleanup.policy"], "compact");
        for (change, operation) in
            [(SettingChange::Append("5"), "APPEND"), (SettingChange::Subtract("5"), "SUBTRACT")]
        {
            let why = changed(&[], "retention.ms", change).unwrap_err();
            let expected =
                format!("Can't {operation} to key retention.ms because its type is not LIST.");
            assert_eq!(why, expected);
        }
    }

    #[test]
    fn a_change_that_contradicts_what_is_there_is_refused() {
        let start = [("min.compaction.lag.ms", "9")];
        assert!(changed(&start, "max.compaction.lag.ms", SettingChange::Set("8")).is_err());
        assert!(changed(&[], "retention.ms", SettingChange::Set("x")).is_err());
        assert!(changed(&[], "compression.type", SettingChange::Set("none")).is_err());
        assert!(changed(&[], "no.such", SettingChange::Set("1")).is_err());
        assert!(changed(&[], "no.such", SettingChange::Append("1")).is_err());
    }

    #[test]
    fn a_list_does_not_outgrow_what_an_answer_can_carry() {
        let name = "leader.replication.throttled.replicas";
        let list = |from: usize| {
            let all: Vec<String> = (from..from + 4000).map(|n| format!("{n}:1")).collect();
            all.join(",")
        };
        let start = [(name, list(0))];
        let start: Vec<(&str, &str)> = start.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert!(changed(&start, name, SettingChange::Append(&list(0))).is_ok());
        let error = changed(&start, name, SettingChange::Append(&list(10_000))).unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }
}

//! Rules about topics that several APIs share: names, and how a missing one is made.
//!
//! Does: check names as Kafka does; turn names into the controller's command with the broker's
//! defaults.
//! Does not: change anything.
//! Invariants: internal topics get the settings that groups need, however they are made.
//! Apart because Metadata, FindCoordinator and CreateTopics must agree.

use std::collections::BTreeMap;

use flumen_protocol::ids::TopicId;
use flumen_replication::dice::Dice;
use flumen_replication::metadata::command::{Command, NewTopic};

use super::step::Context;
use crate::config::options::Options;
use crate::shard::routing::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

/// Kafka's limit; file names carry it.
const NAME_BYTES_MAX: usize = 249;

/// Whether a name is one of the broker's own topics.
pub fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC || name == TRANSACTIONS_TOPIC
}

/// Checks a topic's name by Kafka's rules (G43).
///
/// # Errors
/// What is wrong with it, for the user.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        Err("a topic name must not be empty".to_owned())
    } else if name == "." || name == ".." {
        Err(format!("a topic must not be called \"{name}\""))
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("a topic name of {} bytes is over the limit of {NAME_BYTES_MAX}", name.len()))
    } else if !name.bytes().all(legal) {
        Err(format!("topic name \"{name}\" has other characters than a-z, A-Z, 0-9, '.', '_', '-'"))
    } else {
        Ok(())
    }
}

/// The command that makes these topics with the broker's defaults.
pub fn creation(context: &mut Context<'_>, names: Vec<String>) -> Command {
    let topics = names.into_iter().map(|name| default_topic(context, name)).collect();
    Command::CreateTopics { topics, validate_only: false }
}

/// A new identity, by chance. The first bit is zero, so that the text form never begins with a
/// dash, which tools would take for an option (KIP-516).
pub fn fresh_id(dice: &mut Dice) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&dice.draw().to_be_bytes());
    bytes[8..].copy_from_slice(&dice.draw().to_be_bytes());
    bytes[0] &= 0x7f;
    TopicId(bytes)
}

/// Settings that a topic of the broker's own must have; none for a user's topic.
pub fn internal_configs(options: &Options, name: &str) -> BTreeMap<String, String> {
    let (compression, segment_bytes) = match name {
        OFFSETS_TOPIC => ("producer", options.offsets_topic_segment_bytes),
        TRANSACTIONS_TOPIC => ("uncompressed", options.transactions.state_log_segment_bytes),
        _ => return BTreeMap::new(),
    };
    BTreeMap::from([
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("compression.type".to_owned(), compression.to_owned()),
        ("segment.bytes".to_owned(), segment_bytes.to_string()),
    ])
}

fn default_topic(context: &mut Context<'_>, name: String) -> NewTopic {
    let options = context.options;
    let (partitions, replication_factor) = match name.as_str() {
        OFFSETS_TOPIC => {
            (options.offsets_topic_num_partitions, options.offsets_topic_replication_factor)
        }
        TRANSACTIONS_TOPIC => (
            options.transactions.state_log_num_partitions,
            options.transactions.state_log_replication_factor,
        ),
        _ => (options.num_partitions, options.default_replication_factor),
    };
    NewTopic {
        id: fresh_id(context.dice),
        configs: internal_configs(options, &name),
        name,
        partitions,
        replication_factor,
        assignment: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{declaration, topic};

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "a.b_c-D9", &"x".repeat(249)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whatever_the_broker_may_be_told_its_own_topics_can_be_changed_later() {
        let allowed = |name: &str, value: &str| {
            let declared = declaration::find(name).expect("a setting of the broker");
            declared.kind.check(name, value).is_ok()
        };
        for bytes in [1, 1_048_575, 1_048_576, i32::MAX] {
            let mut options = Options::default();
            options.offsets_topic_segment_bytes = bytes;
            let configs = internal_configs(&options, OFFSETS_TOPIC);
            assert_eq!(
                allowed("offsets.topic.segment.bytes", &bytes.to_string()),
                topic::validate_all(&options, &configs).is_ok(),
                "{bytes}"
            );
        }
        for name in ["offsets.topic.num.partitions", "num.partitions"] {
            assert!(allowed(name, "10000") && !allowed(name, "10001"), "{name}");
        }
    }
}

//! The partitions of a transaction.
//!
//! Does: keep them by topic; count and weigh them.
//! Does not: know which exist, or where they are.
//! Invariants: no topic is without partitions.
//! Apart because a transaction of ten thousand partitions should name a topic once.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::ids::PartitionIndex;

/// Partitions by the name of their topic, as the log of transactions has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<String, BTreeSet<PartitionIndex>>);

/// What a topic takes in memory beside its name, and a partition.
const TOPIC_BYTES: usize = 200;
const PARTITION_BYTES: usize = 16;

/// What a topic takes in a record beside its name at most, and a partition.
const TOPIC_RECORD_BYTES: usize = 12;
const PARTITION_RECORD_BYTES: usize = 4;

impl Partitions {
    /// These.
    pub fn of<'a>(partitions: impl IntoIterator<Item = (&'a str, i32)>) -> Self {
        let mut all = Self::default();
        for (topic, index) in partitions {
            all.insert(topic, PartitionIndex(index));
        }
        all
    }

    /// Adds one.
    pub fn insert(&mut self, topic: &str, index: PartitionIndex) {
        match self.0.get_mut(topic) {
            Some(known) => {
                known.insert(index);
            }
            None => {
                self.0.insert(topic.to_owned(), BTreeSet::from([index]));
            }
        }
    }

    /// Adds all of these.
    pub fn extend(&mut self, others: Self) {
        for (topic, indexes) in others.0 {
            self.0.entry(topic).or_default().extend(indexes);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, topic: &str, index: PartitionIndex) -> bool {
        self.0.get(topic).is_some_and(|known| known.contains(&index))
    }

    /// Those of `others` that are not among these.
    #[must_use]
    pub fn missing(&self, others: &Self) -> Self {
        let mut missing = Self::default();
        for (topic, index) in others.iter().filter(|(topic, index)| !self.contains(topic, *index)) {
            missing.insert(topic, index);
        }
        missing
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PartitionIndex)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.as_str(), *index)))
    }

    /// By topic, in order.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &BTreeSet<PartitionIndex>)> {
        self.0.iter().map(|(topic, indexes)| (topic.as_str(), indexes))
    }

    /// What they take in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let topic = |(name, indexes): (&String, &BTreeSet<PartitionIndex>)| {
            TOPIC_BYTES + name.len() + indexes.len() * PARTITION_BYTES
        };
        self.0.iter().map(topic).sum()
    }

    /// What they take in a record, at most.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        let topic = |(name, indexes): (&String, &BTreeSet<PartitionIndex>)| {
            TOPIC_RECORD_BYTES + name.len() + indexes.len() * PARTITION_RECORD_BYTES
        };
        self.0.iter().map(topic).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_there_once_however_often_it_is_added() {
        let mut all = Partitions::of([("a", 0), ("a", 1), ("a", 0)]);
        all.extend(Partitions::of([("a", 1), ("b", 2)]));
        assert_eq!(all.count(), 3);
        assert!(all.contains("b", PartitionIndex(2)) && !all.contains("b", PartitionIndex(0)));
    }

    #[test]
    fn what_is_missing_is_what_others_have_alone() {
        let known = Partitions::of([("a", 0), ("b", 0)]);
        let asked = Partitions::of([("a", 0), ("a", 1), ("c", 7)]);
        assert_eq!(known.missing(&asked), Partitions::of([("a", 1), ("c", 7)]));
        assert!(known.missing(&known).is_empty());
    }
}

//! Partitions of topics: what a member shall have, has, or must give up.
//!
//! Does: keep them by topic, in order; join, meet and differ.
//! Does not: know whose they are or whether the topics exist.
//! Invariants: no topic without partitions; the partitions of a topic ascend, each is there once, and
//! none is below zero.
//! Apart because everything about an assignment is said in these words.

use std::collections::BTreeMap;

use flumen_protocol::ids::TopicId;

/// Partitions by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Partitions(BTreeMap<TopicId, Vec<i32>>);

impl Partitions {
    /// Those of a list in any order; a topic or partition named twice is there once, a number below
    /// zero not at all.
    pub(super) fn from_list(list: impl IntoIterator<Item = (TopicId, Vec<i32>)>) -> Self {
        let mut all = Self::default();
        for (topic, partitions) in list {
            all.0.entry(topic).or_default().extend(partitions);
        }
        for partitions in all.0.values_mut() {
            partitions.retain(|one| *one >= 0);
            partitions.sort_unstable();
            partitions.dedup();
        }
        all.0.retain(|_, partitions| !partitions.is_empty());
        all
    }

    /// Adds partitions of a topic.
    ///
    /// # Panics
    /// When they do not ascend: our own bug.
    pub(super) fn insert(&mut self, topic: TopicId, partitions: Vec<i32>) {
        assert!(partitions.is_sorted_by(|one, next| one < next), "partitions ascend");
        if partitions.is_empty() {
            return;
        }
        match self.0.get_mut(&topic) {
            Some(known) => {
                known.extend(partitions);
                known.sort_unstable();
                known.dedup();
            }
            None => {
                self.0.insert(topic, partitions);
            }
        }
    }

    /// The partitions of a topic.
    pub(super) fn of(&self, topic: TopicId) -> &[i32] {
        self.0.get(&topic).map_or(&[], Vec::as_slice)
    }

    pub(super) fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.of(topic).binary_search(&partition).is_ok()
    }

    /// All of them, by topic.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, &[i32])> + Clone {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions.as_slice()))
    }

    /// All of them, one by one.
    pub(super) fn each(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |one| (topic, *one)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Those for which `keeps` holds, and the others.
    pub(super) fn split(&self, keeps: impl Fn(TopicId, i32) -> bool) -> (Self, Self) {
        let (mut kept, mut others) = (Self::default(), Self::default());
        for (topic, partitions) in self.iter() {
            let (keep, drop) = partitions.iter().partition(|one| keeps(topic, **one));
            kept.insert(topic, keep);
            others.insert(topic, drop);
        }
        (kept, others)
    }

    /// These and `more`.
    pub(super) fn with(mut self, more: Self) -> Self {
        more.0.into_iter().for_each(|(topic, partitions)| self.insert(topic, partitions));
        self
    }

    /// Whether these are all in `whole`.
    pub(super) fn is_within(&self, whole: &Self) -> bool {
        self.each().all(|(topic, partition)| whole.contains(topic, partition))
    }

    /// Bytes that they take in a record and, roughly, in memory.
    pub(super) fn weight_bytes(&self) -> usize {
        const TOPIC_BYTES: usize = 24;
        self.0.len() * TOPIC_BYTES + self.count() * size_of::<i32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicId = TopicId([1; 16]);
    const B: TopicId = TopicId([2; 16]);

    fn list(all: &[(TopicId, &[i32])]) -> Partitions {
        Partitions::from_list(all.iter().map(|(topic, some)| (*topic, some.to_vec())))
    }

    #[test]
    fn what_is_named_twice_or_in_disorder_is_there_once_and_in_order() {
        let all = list(&[(B, &[3, 1, -1]), (A, &[]), (B, &[1, 2])]);
        assert_eq!(all.iter().collect::<Vec<_>>(), [(B, [1, 2, 3].as_slice())]);
        assert_eq!(all.count(), 3);
    }

    #[test]
    fn a_split_loses_nothing() {
        let all = list(&[(A, &[0, 1, 2]), (B, &[5])]);
        let (even, odd) = all.split(|_, partition| partition % 2 == 0);
        assert_eq!(even, list(&[(A, &[0, 2])]));
        assert_eq!(odd, list(&[(A, &[1]), (B, &[5])]));
        assert!(even.is_within(&all) && !all.is_within(&even));
        assert_eq!(even.with(odd), all);
    }
}

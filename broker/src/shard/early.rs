//! Batches that came before this core knew their partition.
//!
//! ```text
//!   client       asking core                     owning core
//!     ── 0 ──►   topic? UNKNOWN_TOPIC: noted
//!                ◄────────── the topic is made ──────────►
//!     ── 1 ──►   sent on, behind 0   ── 1, 0? ──►  0 is to come: OUT_OF_ORDER
//!     ── 0 ──►   sent on             ───── 0 ───►  taken
//! ```
//!
//! Does: remember of each idempotent producer the first batch that was refused because its partition
//! was not known yet, until the partition can be told.
//! Does not: judge batches; the partition does, which is told what is still to come.
//! Invariants: at most [`EARLY_BATCHES_MAX`] are remembered; whoever makes room are the oldest.
//! Apart because there is no partition yet that could remember: a partition takes any sequence of a
//! producer it does not know (G83), so that what was sent behind a refused batch would be taken in its
//! place, and the batch itself never.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::ids::{LogId, PartitionIndex, ProducerId, TopicId};
use flumen_protocol::time::Monotonic;

use crate::limits::EARLY_BATCHES_MAX;

/// The topic of a batch, as far as it was known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    /// Only its client's word for it.
    Named(Box<str>),
    /// Its id.
    Known(TopicId),
}

type Key = (Topic, PartitionIndex, ProducerId);

/// The first batch of a producer that came too early.
#[derive(Clone, Copy, Debug)]
struct First {
    batch: BatchProducer,
    at: Monotonic,
}

/// What came too early to this core.
#[derive(Debug, Default)]
pub struct EarlyBatches {
    /// Invariant: at most half of the limit.
    young: BTreeMap<Key, First>,
    /// What was young before `young` was full for the last time.
    old: BTreeMap<Key, First>,
}

impl EarlyBatches {
    /// A batch was refused because there is no topic of this name. The name is one that a topic may have.
    pub fn note_named(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        batch: &BatchProducer,
        now: Monotonic,
    ) {
        self.insert((Topic::Named(topic.into()), partition, batch.id), batch, now);
    }

    /// A batch was refused because this partition is not known here.
    pub fn note(&mut self, log: LogId, batch: &BatchProducer, now: Monotonic) {
        self.insert((Topic::Known(log.topic), log.partition, batch.id), batch, now);
    }

    fn insert(&mut self, key: Key, batch: &BatchProducer, at: Monotonic) {
        let known = self.young.get(&key).or_else(|| self.old.get(&key));
        if known.is_some_and(|first| first.batch.epoch >= batch.epoch) {
            return;
        }
        if self.young.len() >= EARLY_BATCHES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, First { batch: *batch, at });
    }

    /// The batch that this one, sent on to its partition now, must not overtake, if there is one. It is
    /// forgotten here: from now on the partition knows. `name` is what the client calls the topic, if
    /// it does not say its id.
    pub fn take(
        &mut self,
        name: Option<&str>,
        log: LogId,
        batch: &BatchProducer,
    ) -> Option<BatchProducer> {
        if self.is_empty() {
            return None;
        }
        // A topic that was not known by its name may have been, later, without this partition.
        let named = name.map(|name| Topic::Named(name.into()));
        let topics = [named, Some(Topic::Known(log.topic))].into_iter().flatten();
        let keys = topics.map(|topic| (topic, log.partition, batch.id));
        let firsts = keys.filter_map(|key| self.remove(&key));
        // All of them are forgotten, and the first counts.
        firsts.filter(|it| it.epoch == batch.epoch).reduce(|first, _| first)
    }

    fn remove(&mut self, key: &Key) -> Option<BatchProducer> {
        let first = self.young.remove(key).or_else(|| self.old.remove(key))?;
        Some(first.batch)
    }

    /// What came too early for a partition that is here now. It is forgotten here.
    pub fn take_all(&mut self, log: LogId) -> Vec<BatchProducer> {
        let key = |producer| (Topic::Known(log.topic), log.partition, ProducerId(producer));
        let all = key(i64::MIN)..=key(i64::MAX);
        let taken = [&mut self.young, &mut self.old].into_iter().flat_map(|generation| {
            generation.extract_if(all.clone(), |_, _| true).map(|(_, first)| first.batch)
        });
        taken.collect()
    }

    /// Forgets what came longer ago than a silent producer is remembered.
    pub fn expire(&mut self, now: Monotonic, expiry: Duration) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|_, first| now.since(first.at) < expiry);
        }
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{ProducerEpoch, Sequence};

    use super::*;

    const NOW: Monotonic = Monotonic(0);
    const LOG: LogId = LogId { topic: TopicId([7; 16]), partition: PartitionIndex(3) };

    fn batch(id: i64, epoch: i16, sequence: i32) -> BatchProducer {
        BatchProducer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            last_sequence: Sequence(sequence),
        }
    }

    #[test]
    fn the_first_of_an_epoch_is_handed_over_once() {
        let mut early = EarlyBatches::default();
        early.note_named("t", LOG.partition, &batch(1, 0, 4), NOW);
        early.note_named("t", LOG.partition, &batch(1, 0, 5), NOW);
        early.note(LOG, &batch(2, 3, 0), NOW);
        early.note(LOG, &batch(2, 4, 1), NOW);
        assert_eq!(early.take(Some("u"), LOG, &batch(1, 0, 6)), None, "of another topic");
        let elsewhere = LogId { partition: PartitionIndex(2), ..LOG };
        assert_eq!(early.take(Some("t"), elsewhere, &batch(1, 0, 6)), None, "of another partition");
        assert_eq!(early.take(Some("t"), LOG, &batch(1, 0, 6)), Some(batch(1, 0, 4)));
        assert_eq!(early.take(Some("t"), LOG, &batch(1, 0, 7)), None, "the partition knows");
        assert_eq!(early.take(None, LOG, &batch(2, 4, 2)), Some(batch(2, 4, 1)));
        assert!(early.is_empty());
    }

    #[test]
    fn nothing_of_another_epoch_is_waited_for() {
        let mut early = EarlyBatches::default();
        early.note(LOG, &batch(1, 0, 0), NOW);
        assert_eq!(early.take(None, LOG, &batch(1, 1, 3)), None, "it began anew");
        assert_eq!(early.take(None, LOG, &batch(1, 0, 3)), None, "and what was before is void");
        early.note(LOG, &batch(1, 2, 5), NOW);
        early.note(LOG, &batch(1, 1, 0), NOW);
        assert_eq!(early.take(None, LOG, &batch(1, 2, 7)), Some(batch(1, 2, 5)), "not a zombie's");
    }

    #[test]
    fn a_topic_that_was_known_by_name_alone_and_later_lacked_the_partition_is_waited_for_once() {
        let mut early = EarlyBatches::default();
        early.note_named("t", LOG.partition, &batch(1, 0, 0), NOW);
        early.note(LOG, &batch(1, 0, 1), NOW);
        assert_eq!(early.take(Some("t"), LOG, &batch(1, 0, 2)), Some(batch(1, 0, 0)));
        assert!(early.is_empty());
    }

    #[test]
    fn a_new_partition_takes_all_that_came_too_early_for_it_and_nothing_else() {
        let mut early = EarlyBatches::default();
        let elsewhere = LogId { partition: PartitionIndex(4), ..LOG };
        for (log, id) in [(LOG, 1), (elsewhere, 2), (LOG, 9)] {
            early.note(log, &batch(id, 0, 0), NOW);
        }
        assert_eq!(early.take_all(LOG), [batch(1, 0, 0), batch(9, 0, 0)]);
        assert_eq!(early.take_all(LOG), []);
        assert_eq!(early.take_all(elsewhere), [batch(2, 0, 0)]);
    }

    #[test]
    fn the_oldest_make_room_and_all_of_them_expire() {
        let mut early = EarlyBatches::default();
        let half = EARLY_BATCHES_MAX as i64 / 2;
        for id in 0..2 * half + 1 {
            early.note(LOG, &batch(id, 0, 0), Monotonic(id as u64));
            assert!(early.young.len() + early.old.len() <= EARLY_BATCHES_MAX);
        }
        assert_eq!(early.take(None, LOG, &batch(0, 0, 1)), None);
        assert_eq!(early.take(None, LOG, &batch(half, 0, 1)), Some(batch(half, 0, 0)));
        let newest = Monotonic(2 * half as u64);
        early.expire(newest, Duration::from_nanos(1));
        assert_eq!(early.take_all(LOG), [batch(2 * half, 0, 0)]);
    }
}

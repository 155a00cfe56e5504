//! What idempotent producers have written here, so that nothing is written twice or out of order.
//!
//! ```text
//!            append (leader)              commit
//!   absent ───────────────────► ahead ───────────────► committed
//!     ▲                           │  lost leadership       │
//!     └───────────────────────────┴── (ahead = committed)  │
//!     └────────────── expired, or evicted at the limit ◄───┘
//! ```
//!
//! Does: judge a batch's sequence (KIP-98, as Kafka's ProducerAppendInfo does), remember the last
//! five batches of each producer in two layers: `committed`, equal on every replica, and `ahead`,
//! which also counts what this leader has ordered and not yet committed.
//! Does not: know transactions.
//! Invariants: `ahead` equals `committed` when nothing of the producer is in flight; a producer
//! with neither is not kept; eviction depends on the log alone, expiry on this broker's clock.
//! Apart because these rules are subtle, and a table can be tested without a log.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::time::Wall;

use crate::error::Refusal;
use crate::limits::{EVICTION_SHARE, PRODUCER_BATCHES_MAX, REFUSED_PRODUCERS_MAX};

/// A producer and which incarnation of it.
pub type ProducerKey = (ProducerId, ProducerEpoch);

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// How many records follow the first.
    pub last_offset_delta: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time the broker stamped, where it stamps.
    pub append_time: Option<Wall>,
}

impl ProducerBatch {
    /// Offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.last_offset_delta))
    }

    /// Sequence of its last record.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.after(self.last_offset_delta)
    }
}

/// What the log's order makes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next.
    Next,
    /// It was appended before, as this one.
    Duplicate(ProducerBatch),
}

/// One producer at one moment: its epoch and last batches, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    epoch: ProducerEpoch,
    /// Invariant: at most [`PRODUCER_BATCHES_MAX`]; zero exactly while the epoch is none.
    count: u8,
    batches: [ProducerBatch; PRODUCER_BATCHES_MAX],
}

impl History {
    const NO_BATCH: ProducerBatch = ProducerBatch {
        base_sequence: Sequence::NONE,
        last_offset_delta: 0,
        last_offset: Offset::UNKNOWN,
        append_time: None,
    };
    const EMPTY: Self = Self {
        epoch: ProducerEpoch::NONE,
        count: 0,
        batches: [Self::NO_BATCH; PRODUCER_BATCHES_MAX],
    };

    /// Takes a history as it was saved; `None` if it is none.
    #[must_use]
    pub fn from_batches(epoch: ProducerEpoch, saved: &[ProducerBatch]) -> Option<Self> {
        let ascending = saved.windows(2).all(|two| two[0].last_offset < two[1].base_offset());
        let sound = saved.iter().all(|batch| {
            batch.base_sequence.0 >= 0 && batch.last_offset_delta >= 0 && batch.base_offset().0 >= 0
        });
        let fits = (1..=PRODUCER_BATCHES_MAX).contains(&saved.len());
        if epoch.0 < 0 || !ascending || !sound || !fits {
            return None;
        }
        let mut history = Self { epoch, ..Self::EMPTY };
        saved.iter().for_each(|batch| history.push(*batch));
        Some(history)
    }

    /// The producer's epoch.
    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The remembered batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..usize::from(self.count)]
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn last(&self) -> Option<&ProducerBatch> {
        self.batches().last()
    }

    fn judge(&self, batch: &BatchProducer) -> Result<Verdict, Refusal> {
        let Some(last) = self.last() else { return Ok(Verdict::Next) };
        if batch.epoch < self.epoch {
            return Err(Refusal::StaleProducerEpoch { current: self.epoch });
        }
        if batch.epoch > self.epoch {
            return in_order(Sequence(0), batch);
        }
        let repeated = self.batches().iter().find(|known| {
            known.base_sequence == batch.base_sequence
                && known.last_sequence() == batch.last_sequence
        });
        match repeated {
            Some(known) => Ok(Verdict::Duplicate(*known)),
            None => in_order(last.last_sequence().after(1), batch),
        }
    }

    fn append(&mut self, epoch: ProducerEpoch, batch: ProducerBatch) {
        if epoch != self.epoch {
            *self = Self { epoch, ..Self::EMPTY };
        }
        self.push(batch);
    }

    fn push(&mut self, batch: ProducerBatch) {
        if usize::from(self.count) == PRODUCER_BATCHES_MAX {
            self.batches.copy_within(1.., 0);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
    }
}

fn in_order(expected: Sequence, batch: &BatchProducer) -> Result<Verdict, Refusal> {
    if batch.base_sequence == expected {
        Ok(Verdict::Next)
    } else {
        Err(Refusal::OutOfOrderSequence { expected })
    }
}

#[derive(Clone, Debug)]
struct Producer {
    committed: History,
    /// Invariant: equals `committed` when `in_flight` is zero.
    ahead: History,
    in_flight: u32,
    /// When it last wrote, by this broker's wall clock.
    touched: Wall,
}

/// All producers known to one partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    /// Boxed: most partitions have one or two, and a tree's node holds room for eleven.
    known: BTreeMap<ProducerId, Box<Producer>>,
    /// Invariant: how many of `known` have something committed.
    committed_count: usize,
    /// Producers not known here whose batch was refused for now, and since when. Invariant: at most
    /// [`REFUSED_PRODUCERS_MAX`].
    refused: BTreeMap<ProducerId, Refused>,
}

/// The first batch of a producer that was refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    sequence: Sequence,
    at: Wall,
}

impl Producers {
    /// Judges a batch about to be appended by the leader. Changes nothing.
    ///
    /// # Errors
    /// Out of order, or from an older epoch of the producer.
    pub fn judge(&self, batch: &BatchProducer) -> Result<Verdict, Refusal> {
        match self.known.get(&batch.id) {
            Some(producer) => producer.ahead.judge(batch),
            // Unknown, expired or evicted: any sequence will do (G83), unless it is known that an
            // earlier one is still to come.
            None => match self.refused.get(&batch.id) {
                Some(first)
                    if first.epoch == batch.epoch && first.sequence.0 < batch.base_sequence.0 =>
                {
                    in_order(first.sequence, batch)
                }
                Some(_) | None => Ok(Verdict::Next),
            },
        }
    }

    /// A batch was refused for now, and its producer will send it again. Kafka takes whatever comes
    /// next of a producer it does not know, so that what was sent behind the first batch is taken
    /// before it, and the first never again: order is lost.
    pub fn note_refused(&mut self, batch: &BatchProducer, now: Wall) {
        let is_known = self.known.contains_key(&batch.id)
            || self.refused.get(&batch.id).is_some_and(|first| first.epoch >= batch.epoch);
        // Beyond the limit the next ones are judged as in Kafka.
        if !is_known && self.refused.len() < REFUSED_PRODUCERS_MAX {
            let (epoch, sequence) = (batch.epoch, batch.base_sequence);
            self.refused.insert(batch.id, Refused { epoch, sequence, at: now });
        }
    }

    /// The leader has ordered a batch that [`Producers::judge`] called next.
    pub fn speculate(&mut self, (id, epoch): ProducerKey, batch: ProducerBatch, now: Wall) {
        self.refused.remove(&id);
        let producer = self.known.entry(id).or_insert_with(|| Producer::unknown(now));
        assert!(epoch >= producer.ahead.epoch, "the batch was judged");
        producer.ahead.append(epoch, batch);
        producer.in_flight += 1;
    }

    /// A batch was committed: on the leader one it speculated on, elsewhere news.
    ///
    /// At more than `count_max` producers the ones that wrote longest ago (by offset) are
    /// forgotten, an eighth at once.
    pub fn commit(
        &mut self,
        (id, epoch): ProducerKey,
        batch: ProducerBatch,
        now: Wall,
        count_max: usize,
    ) {
        let producer = self.known.entry(id).or_insert_with(|| Producer::unknown(now));
        let newcomer = producer.committed.is_empty();
        producer.committed.append(epoch, batch);
        producer.touched = now;
        producer.in_flight = producer.in_flight.saturating_sub(1);
        if producer.in_flight == 0 {
            producer.ahead = producer.committed;
        }
        assert_eq!(producer.committed.last(), Some(&batch), "the newest batch is remembered");
        if newcomer {
            self.committed_count += 1;
            if self.committed_count > count_max {
                self.evict(count_max, id);
            }
        }
    }

    /// Leadership is lost: whatever is not committed may never be.
    pub fn drop_speculation(&mut self) {
        self.known.retain(|_, producer| {
            producer.ahead = producer.committed;
            producer.in_flight = 0;
            !producer.committed.is_empty()
        });
        assert_eq!(self.known.len(), self.committed_count, "only committed producers stay");
    }

    /// Forgets producers that have not written for `expiry`, unless something is in flight.
    pub fn expire(&mut self, now: Wall, expiry: Duration) {
        let expiry_ms = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
        self.known.retain(|_, producer| {
            let silent_ms = now.0.saturating_sub(producer.touched.0);
            producer.in_flight > 0 || silent_ms < expiry_ms
        });
        self.refused.retain(|_, first| now.0.saturating_sub(first.at.0) < expiry_ms);
        self.recount();
    }

    /// Takes a producer as it was saved; `false` if it is there already.
    #[must_use]
    pub fn restore(&mut self, id: ProducerId, history: History, touched: Wall) -> bool {
        assert!(!history.is_empty(), "a saved producer has written something");
        let producer = Producer { committed: history, ahead: history, in_flight: 0, touched };
        let fresh = self.known.insert(id, Box::new(producer)).is_none();
        self.committed_count += usize::from(fresh);
        fresh
    }

    /// Every producer with something committed, ascending by id: id, history, last touched.
    pub fn committed(&self) -> impl Iterator<Item = (ProducerId, &History, Wall)> {
        let committed = self.known.iter().filter(|(_, known)| !known.committed.is_empty());
        committed.map(|(id, known)| (*id, &known.committed, known.touched))
    }

    /// How many producers have something committed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.committed_count
    }

    /// Whether there is nothing to expire.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.refused.is_empty()
    }

    /// Deterministic: looks at offsets and nothing else. Never evicts `newcomer` or what is in
    /// flight.
    fn evict(&mut self, count_max: usize, newcomer: ProducerId) {
        let mut idle: Vec<(Offset, ProducerId)> = self
            .known
            .iter()
            .filter(|(id, producer)| producer.in_flight == 0 && **id != newcomer)
            .filter_map(|(id, producer)| Some((producer.committed.last()?.last_offset, *id)))
            .collect();
        let over = self.committed_count.saturating_sub(count_max);
        let share = over.max(count_max / EVICTION_SHARE).min(idle.len());
        idle.sort_unstable();
        for (_, id) in &idle[..share] {
            self.known.remove(id);
        }
        self.committed_count -= share;
    }

    fn recount(&mut self) {
        let kept = self.known.values().filter(|producer| !producer.committed.is_empty());
        self.committed_count = kept.count();
        assert!(self.committed_count <= self.known.len());
    }
}

impl Producer {
    fn unknown(now: Wall) -> Box<Self> {
        let (committed, ahead) = (History::EMPTY, History::EMPTY);
        Box::new(Self { committed, ahead, in_flight: 0, touched: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000);
    const MANY: usize = 1_000;

    #[test]
    fn what_was_sent_behind_a_refused_batch_waits_for_it() {
        let mut producers = Producers::default();
        producers.note_refused(&asked(1, 0, 0, 2), NOW);
        producers.note_refused(&asked(1, 0, 3, 7), NOW);
        let expected = Sequence(0);
        let early = producers.judge(&asked(1, 0, 3, 7));
        assert_eq!(early, Err(Refusal::OutOfOrderSequence { expected }));
        assert_eq!(producers.judge(&asked(2, 0, 3, 7)), Ok(Verdict::Next), "somebody else");
        assert_eq!(producers.judge(&asked(1, 1, 0, 0)), Ok(Verdict::Next), "it began anew");
        assert_eq!(producers.judge(&asked(1, 0, 0, 2)), Ok(Verdict::Next));
        let batch = ProducerBatch {
            base_sequence: Sequence(0),
            last_offset_delta: 2,
            last_offset: Offset(2),
            append_time: None,
        };
        producers.speculate((ProducerId(1), ProducerEpoch(0)), batch, NOW);
        assert_eq!(producers.judge(&asked(1, 0, 3, 7)), Ok(Verdict::Next));
        producers.note_refused(&asked(3, 0, 5, 5), NOW);
        producers.expire(Wall(NOW.0 + 10_000), Duration::from_secs(10));
        assert_eq!(producers.judge(&asked(3, 0, 9, 9)), Ok(Verdict::Next), "it gave up");
    }

    #[test]
    fn refused_producers_are_remembered_up_to_a_limit() {
        let mut producers = Producers::default();
        let many = REFUSED_PRODUCERS_MAX as i64;
        (0..=many).for_each(|id| producers.note_refused(&asked(id, 0, 0, 0), NOW));
        assert!(producers.judge(&asked(many - 1, 0, 1, 1)).is_err());
        assert_eq!(producers.judge(&asked(many, 0, 1, 1)), Ok(Verdict::Next));
    }

    fn asked(id: i64, epoch: i16, base: i32, last: i32) -> BatchProducer {
        BatchProducer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(base),
            last_sequence: Sequence(last),
        }
    }

    fn one_record(sequence: i32, offset: i64) -> ProducerBatch {
        let (base_sequence, last_offset) = (Sequence(sequence), Offset(offset));
        ProducerBatch { base_sequence, last_offset_delta: 0, last_offset, append_time: None }
    }

    fn key(id: i64) -> ProducerKey {
        (ProducerId(id), ProducerEpoch(0))
    }

    #[test]
    fn what_is_not_committed_counts_until_leadership_is_lost() {
        let mut producers = Producers::default();
        producers.speculate(key(1), one_record(0, 0), NOW);
        producers.commit(key(1), one_record(0, 0), NOW, MANY);
        producers.speculate(key(1), one_record(1, 1), NOW);
        producers.speculate(key(2), one_record(0, 2), NOW);
        let repeated = Verdict::Duplicate(one_record(1, 1));
        assert_eq!(producers.judge(&asked(1, 0, 1, 1)), Ok(repeated));
        assert_eq!((producers.count(), producers.known.len()), (1, 2));
        producers.drop_speculation();
        assert_eq!(producers.judge(&asked(1, 0, 1, 1)), Ok(Verdict::Next));
        assert_eq!((producers.count(), producers.known.len()), (1, 1));
    }

    #[test]
    fn dropping_speculation_brings_back_batches_it_had_pushed_out() {
        let mut producers = Producers::default();
        for n in 0..5 {
            producers.commit(key(1), one_record(n, i64::from(n)), NOW, MANY);
        }
        producers.speculate((ProducerId(1), ProducerEpoch(3)), one_record(0, 5), NOW);
        let newer = ProducerEpoch(3);
        let stale = Err(Refusal::StaleProducerEpoch { current: newer });
        assert_eq!(producers.judge(&asked(1, 0, 0, 0)), stale);
        producers.drop_speculation();
        let first = Verdict::Duplicate(one_record(0, 0));
        assert_eq!(producers.judge(&asked(1, 0, 0, 0)), Ok(first));
    }

    #[test]
    fn eviction_takes_who_wrote_longest_ago_and_nobody_in_flight() {
        let mut producers = Producers::default();
        for n in 0..4 {
            producers.commit(key(n), one_record(0, n), NOW, 4);
        }
        producers.commit(key(0), one_record(1, 4), NOW, 4);
        producers.speculate(key(1), one_record(1, 5), NOW);
        producers.commit(key(9), one_record(0, 6), NOW, 4);
        let left: Vec<i64> = producers.committed().map(|(id, _, _)| id.0).collect();
        assert_eq!(left, [0, 1, 3, 9]);
        assert_eq!(producers.count(), 4);
    }

    #[test]
    fn a_full_table_is_emptied_by_an_eighth_at_once() {
        let mut producers = Producers::default();
        for n in 0..=64 {
            producers.commit(key(n), one_record(0, n), NOW, 64);
        }
        assert_eq!(producers.count(), 65 - 64 / EVICTION_SHARE);
        assert_eq!(producers.committed().next().map(|(id, _, _)| id.0), Some(8));
    }

    #[test]
    fn silent_producers_expire_and_a_clock_set_back_hurts_nobody() {
        let mut producers = Producers::default();
        producers.commit(key(1), one_record(0, 0), Wall(0), MANY);
        producers.commit(key(2), one_record(0, 1), Wall(900), MANY);
        producers.expire(Wall(-5_000), Duration::from_millis(1_000));
        assert_eq!(producers.count(), 2);
        producers.expire(Wall(1_000), Duration::from_millis(1_000));
        let left: Vec<i64> = producers.committed().map(|(id, _, _)| id.0).collect();
        assert_eq!((left, producers.count()), (vec![2], 1));
    }

    #[test]
    fn saved_histories_that_contradict_themselves_are_refused() {
        let good = [one_record(0, 5), one_record(1, 6)];
        assert!(History::from_batches(ProducerEpoch(0), &good).is_some());
        let bad: [(i16, &[ProducerBatch]); 5] = [
            (-1, &good),
            (0, &[]),
            (0, &[one_record(1, 6), one_record(0, 5)]),
            (0, &[one_record(-1, 5)]),
            (0, &[one_record(0, 5); 6]),
        ];
        for (epoch, batches) in bad {
            assert_eq!(History::from_batches(ProducerEpoch(epoch), batches), None, "{batches:?}");
        }
    }
}

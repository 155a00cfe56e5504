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
//! Does: judge a batch's sequence (KIP-98), remember what each producer wrote last in two layers:
//! `committed`, equal on every replica, and `ahead`, which also counts what this leader has ordered and
//! not yet committed; know which transactions are under way as far as the log is committed.
//! Does not: know the rules of one producer; `history` does.
//! Invariants: `ahead` equals `committed` when nothing of the producer is in flight; a producer
//! with neither is not kept, one with a transaction is; eviction depends on the log alone, expiry on the
//! time that passed while this process ran: a wall clock that jumps makes nobody's retry a second
//! record (decision 0007).
//! Apart because these rules are subtle, and a table can be tested without a log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::time::Monotonic;

use super::history::in_order;
pub use super::history::{History, NO_COORDINATOR, ProducerBatch, Transactions};
use crate::error::Refusal;
use crate::limits::{EVICTION_SHARE, REFUSED_PRODUCERS_MAX};

/// A producer and which incarnation of it.
pub type ProducerKey = (ProducerId, ProducerEpoch);

impl Verdict {
    /// It comes next, of a producer of which nothing is known.
    pub const UNKNOWN: Self = Self::Next { open: None, has_batches: false };
}

/// What was written by a producer, as far as it must be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerWrite {
    /// Who.
    pub id: ProducerId,
    /// Which incarnation; a marker may be the first of a new one.
    pub epoch: ProducerEpoch,
    /// The largest time in it, milliseconds since 1970; −1 without any.
    pub timestamp: i64,
    /// What.
    pub what: Wrote,
}

/// What a producer, or a transaction coordinator in its name, has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// Records of no transaction.
    Records(ProducerBatch),
    /// Records of a transaction.
    Transactional {
        /// Offset of the first.
        base_offset: Offset,
        /// What to recognise them by; a coordinator's have no sequences.
        batch: Option<ProducerBatch>,
    },
    /// The end of a transaction.
    Marker {
        /// Where.
        offset: Offset,
        /// By which coordinator.
        coordinator_epoch: i32,
        /// Committed, or aborted.
        commit: bool,
    },
}

impl Wrote {
    /// Records from `base_offset` on; `None` if there is nothing to remember of them.
    #[must_use]
    pub fn records(
        base_offset: Offset,
        transactional: bool,
        batch: Option<ProducerBatch>,
    ) -> Option<Self> {
        match transactional {
            true => Some(Self::Transactional { base_offset, batch }),
            false => batch.map(Self::Records),
        }
    }
}

/// A transaction that has ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose.
    pub id: ProducerId,
    /// The epoch of its records; that of its marker may be higher.
    pub epoch: ProducerEpoch,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
    /// Committed, or aborted.
    pub commit: bool,
}

/// What the log's order makes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next.
    Next {
        /// In which epoch its producer has a transaction under way here, if it has.
        open: Option<ProducerEpoch>,
        /// Whether anything that its producer wrote in its epoch is remembered.
        has_batches: bool,
    },
    /// It was appended before, as this one.
    Duplicate(ProducerBatch),
    /// It was appended before this one, the oldest that is remembered. Where is not known any more.
    Forgotten(ProducerBatch),
}

#[derive(Clone, Debug)]
struct Producer {
    committed: History,
    /// Invariant: equals `committed` when `in_flight` is zero.
    ahead: History,
    in_flight: u32,
    /// When it last wrote while this process ran, or when it was read from the disk.
    heard: Monotonic,
}

/// All producers known to one partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    /// Boxed: most partitions have one or two, and a tree's node holds room for eleven.
    known: BTreeMap<ProducerId, Box<Producer>>,
    /// Invariant: how many of `known` have something committed.
    committed_count: usize,
    /// Transactions under way as far as the log is committed, by their first offsets.
    ///
    /// Invariant: those of `known` whose committed history has one open.
    open: BTreeMap<Offset, ProducerId>,
    /// Transactions that have ended and may have to be under way again, by marker: see
    /// [`Producers::forget_from`]. Those whose marker is in segments are left out by and by.
    ended: VecDeque<Ended>,
    /// Producers not known here whose batch was refused for now, and since when. Invariant: at most
    /// [`REFUSED_PRODUCERS_MAX`].
    refused: BTreeMap<ProducerId, Refused>,
}

/// The first batch of a producer that was refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    sequence: Sequence,
    at: Monotonic,
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
                    in_order(first.sequence, batch).map(|()| Verdict::UNKNOWN)
                }
                Some(_) | None => Ok(Verdict::UNKNOWN),
            },
        }
    }

    /// Judges a marker about to be written: whether there is anything left for it to end.
    ///
    /// # Errors
    /// Of an older epoch of the producer or of its coordinator: the partition refuses the marker.
    pub fn judge_marker(
        &self,
        (id, epoch): ProducerKey,
        marker: EndMarker,
        must_be_newer: bool,
    ) -> Result<bool, Refusal> {
        match self.known.get(&id) {
            Some(producer) => producer.ahead.judge_marker(epoch, marker, must_be_newer),
            // What it leaves behind keeps late records of the producer out.
            None => Ok(true),
        }
    }

    /// Where the transaction of a producer begins that this leader has ordered records of.
    #[must_use]
    pub fn open_since(&self, id: ProducerId) -> Option<(ProducerEpoch, Offset)> {
        let ahead = &self.known.get(&id)?.ahead;
        Some((ahead.epoch(), ahead.open_since()?))
    }

    /// Where the oldest transaction begins that is under way as far as the log is committed.
    #[must_use]
    pub fn first_open(&self) -> Option<Offset> {
        self.open.first_key_value().map(|(first, _)| *first)
    }

    /// How many transactions are under way as far as the log is committed.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// A batch was refused for now, and its producer will send it again. Kafka takes whatever comes
    /// next of a producer it does not know, so that what was sent behind the first batch is taken
    /// before it, and the first never again: order is lost.
    pub fn note_refused(&mut self, batch: &BatchProducer, now: Monotonic) {
        let is_known = self.known.contains_key(&batch.id)
            || self.refused.get(&batch.id).is_some_and(|first| first.epoch >= batch.epoch);
        // Beyond the limit the next ones are judged as in Kafka.
        if !is_known && self.refused.len() < REFUSED_PRODUCERS_MAX {
            let (epoch, sequence) = (batch.epoch, batch.base_sequence);
            self.refused.insert(batch.id, Refused { epoch, sequence, at: now });
        }
    }

    /// The leader has ordered what [`Producers::judge`] or [`Producers::judge_marker`] let through.
    pub fn speculate(&mut self, write: &ProducerWrite, now: Monotonic) {
        self.refused.remove(&write.id);
        let producer = self.known.entry(write.id).or_insert_with(|| Producer::unknown(now));
        assert!(write.epoch >= producer.ahead.epoch(), "it was judged");
        let _ended = producer.ahead.take(write);
        producer.in_flight += 1;
    }

    /// Something was committed: on the leader what it speculated on, elsewhere news. Gives the
    /// transaction that it ends.
    ///
    /// At more than `count_max` producers the ones that wrote longest ago (by offset) are
    /// forgotten, an eighth at once.
    pub fn commit(
        &mut self,
        write: &ProducerWrite,
        now: Monotonic,
        count_max: usize,
    ) -> Option<Ended> {
        let id = write.id;
        let producer = self.known.entry(id).or_insert_with(|| Producer::unknown(now));
        let newcomer = producer.committed.is_empty();
        let epoch_before = producer.committed.epoch();
        let first = producer.committed.take(write);
        producer.heard = now;
        producer.in_flight = producer.in_flight.saturating_sub(1);
        if producer.in_flight == 0 {
            producer.ahead = producer.committed;
        }
        if newcomer {
            self.committed_count += 1;
            if self.committed_count > count_max {
                self.evict(count_max, id);
            }
        }
        match write.what {
            Wrote::Records(_) => None,
            Wrote::Transactional { base_offset, .. } => {
                self.note_open(id, base_offset);
                None
            }
            Wrote::Marker { offset, commit, .. } => {
                let first_offset = first?;
                let opened = self.open.remove(&first_offset);
                assert_eq!(opened, Some(id), "what ends was under way");
                let (epoch, last_offset) = (epoch_before, offset);
                let ended = Ended { id, epoch, first_offset, last_offset, commit };
                self.ended.push_back(ended);
                Some(ended)
            }
        }
    }

    /// Enters the transaction of committed records, if these are its first.
    fn note_open(&mut self, id: ProducerId, base_offset: Offset) {
        let first = self.known.get(&id).and_then(|producer| producer.committed.open_since());
        if first == Some(base_offset) {
            let other = self.open.insert(base_offset, id);
            assert_eq!(other, None, "an offset has one record");
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

    /// Forgets producers that have not written for `expiry` while this process ran, unless something
    /// is in flight or a transaction is under way.
    pub fn expire(&mut self, now: Monotonic, expiry: Duration) {
        self.known.retain(|_, producer| {
            let is_open = producer.committed.open_since().is_some();
            is_open || producer.in_flight > 0 || now.since(producer.heard) < expiry
        });
        self.refused.retain(|_, first| now.since(first.at) < expiry);
        self.recount();
    }

    /// Takes a producer as it was saved, silent from `now` on; `false` if it is there already. No other's
    /// transaction begins at the same offset.
    #[must_use]
    pub fn restore(&mut self, id: ProducerId, history: History, now: Monotonic) -> bool {
        assert!(!history.is_empty(), "a saved producer has written something");
        if let Some(first) = history.open_since() {
            self.open.insert(first, id);
        }
        let producer = Producer { committed: history, ahead: history, in_flight: 0, heard: now };
        let fresh = self.known.insert(id, Box::new(producer)).is_none();
        self.committed_count += usize::from(fresh);
        fresh
    }

    /// Takes a transaction that had ended when it was saved; `false` if it is out of order.
    #[must_use]
    pub fn restore_ended(&mut self, ended: Ended) -> bool {
        let follows = self.ended.back().is_none_or(|last| last.last_offset < ended.last_offset);
        self.ended.push_back(ended);
        follows && ended.first_offset < ended.last_offset
    }

    /// Records from `end` on were lost: nobody has written them. Transactions that were ended there are
    /// under way again.
    pub fn forget_from(&mut self, end: Offset) {
        for producer in self.known.values_mut() {
            producer.committed = producer.committed.before(end);
        }
        while let Some(lost) = self.ended.pop_back_if(|ended| ended.last_offset >= end) {
            if lost.first_offset < end {
                let Ended { id, epoch, first_offset, .. } = lost;
                let unknown = || Producer::unknown(Monotonic(0));
                let producer = self.known.entry(id).or_insert_with(unknown);
                producer.committed.reopen(epoch, first_offset);
            }
        }
        let open = self.known.iter();
        self.open = open.filter_map(|(id, it)| Some((it.committed.open_since()?, *id))).collect();
        self.recount();
        self.drop_speculation();
    }

    /// The transactions that have ended with a marker at or behind `end`, which nothing in segments
    /// repeats; those before are forgotten.
    pub fn ended_from(&mut self, end: Offset) -> impl Iterator<Item = &Ended> {
        while self.ended.pop_front_if(|ended| ended.last_offset < end).is_some() {}
        self.ended.iter()
    }

    /// Every producer with something committed, ascending by id.
    pub fn committed(&self) -> impl Iterator<Item = (ProducerId, &History)> {
        let committed = self.known.iter().filter(|(_, known)| !known.committed.is_empty());
        committed.map(|(id, known)| (*id, &known.committed))
    }

    /// Every producer as this leader has ordered it, ascending by id.
    pub fn ahead(&self) -> impl Iterator<Item = (ProducerId, &History)> {
        self.known.iter().map(|(id, known)| (*id, &known.ahead))
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

    /// Deterministic: looks at offsets and nothing else. Never evicts `newcomer`, what is in flight, or
    /// a transaction under way.
    fn evict(&mut self, count_max: usize, newcomer: ProducerId) {
        let mut idle: Vec<(Offset, ProducerId)> = self
            .known
            .iter()
            .filter(|(id, producer)| producer.in_flight == 0 && **id != newcomer)
            .filter(|(_, producer)| producer.committed.open_since().is_none())
            .map(|(id, producer)| (producer.committed.last_offset(), *id))
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
    fn unknown(now: Monotonic) -> Box<Self> {
        let (committed, ahead) = (History::EMPTY, History::EMPTY);
        Box::new(Self { committed, ahead, in_flight: 0, heard: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(1_000);
    const MANY: usize = 1_000;

    /// Of a producer without a transaction, whatever is remembered of it.
    fn next(judged: Result<Verdict, Refusal>) -> bool {
        matches!(judged, Ok(Verdict::Next { open: None, .. }))
    }

    #[test]
    fn what_was_sent_behind_a_refused_batch_waits_for_it() {
        let mut producers = Producers::default();
        producers.note_refused(&asked(1, 0, 0, 2), NOW);
        producers.note_refused(&asked(1, 0, 3, 7), NOW);
        let expected = Sequence(0);
        let early = producers.judge(&asked(1, 0, 3, 7));
        assert_eq!(early, Err(Refusal::OutOfOrderSequence { expected }));
        assert!(next(producers.judge(&asked(2, 0, 3, 7))), "somebody else");
        assert!(next(producers.judge(&asked(1, 1, 0, 0))), "it began anew");
        assert!(next(producers.judge(&asked(1, 0, 0, 2))));
        let batch = ProducerBatch {
            base_sequence: Sequence(0),
            last_offset_delta: 2,
            last_offset: Offset(2),
            append_time: None,
        };
        producers.speculate(&wrote(1, 0, batch), NOW);
        assert!(next(producers.judge(&asked(1, 0, 3, 7))));
        producers.note_refused(&asked(3, 0, 5, 5), NOW);
        producers.expire(NOW.after(Duration::from_secs(10)), Duration::from_secs(10));
        assert!(next(producers.judge(&asked(3, 0, 9, 9))), "it gave up");
    }

    #[test]
    fn refused_producers_are_remembered_up_to_a_limit() {
        let mut producers = Producers::default();
        let many = REFUSED_PRODUCERS_MAX as i64;
        (0..=many).for_each(|id| producers.note_refused(&asked(id, 0, 0, 0), NOW));
        assert!(producers.judge(&asked(many - 1, 0, 1, 1)).is_err());
        assert!(next(producers.judge(&asked(many, 0, 1, 1))));
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

    fn wrote(id: i64, epoch: i16, batch: ProducerBatch) -> ProducerWrite {
        let (id, epoch, what) = (ProducerId(id), ProducerEpoch(epoch), Wrote::Records(batch));
        ProducerWrite { id, epoch, timestamp: -1, what }
    }

    fn plain(id: i64, sequence: i32, offset: i64) -> ProducerWrite {
        wrote(id, 0, one_record(sequence, offset))
    }

    #[test]
    fn what_is_not_committed_counts_until_leadership_is_lost() {
        let mut producers = Producers::default();
        producers.speculate(&plain(1, 0, 0), NOW);
        producers.commit(&plain(1, 0, 0), NOW, MANY);
        producers.speculate(&plain(1, 1, 1), NOW);
        producers.speculate(&plain(2, 0, 2), NOW);
        let repeated = Verdict::Duplicate(one_record(1, 1));
        assert_eq!(producers.judge(&asked(1, 0, 1, 1)), Ok(repeated));
        assert_eq!((producers.count(), producers.known.len()), (1, 2));
        producers.drop_speculation();
        assert!(next(producers.judge(&asked(1, 0, 1, 1))));
        assert_eq!((producers.count(), producers.known.len()), (1, 1));
    }

    #[test]
    fn what_was_written_before_the_remembered_batches_is_known_to_be_there() {
        for first in [0, 50, i32::MAX - 3] {
            let mut producers = Producers::default();
            let sequence = |count| Sequence(first).after(count).0;
            for n in 0..8 {
                producers.commit(&plain(1, sequence(n), i64::from(n)), NOW, MANY);
            }
            let judge = |producers: &Producers, from, until| {
                producers.judge(&asked(1, 0, sequence(from), sequence(until)))
            };
            let oldest = one_record(sequence(3), 3);
            for (from, until) in [(0, 0), (2, 2), (0, 2)] {
                assert_eq!(judge(&producers, from, until), Ok(Verdict::Forgotten(oldest)));
            }
            let out_of_order = Err(Refusal::OutOfOrderSequence { expected: Sequence(sequence(8)) });
            for (from, until) in [(2, 3), (3, 4), (9, 9), (1 << 30, 1 << 30)] {
                assert_eq!(judge(&producers, from, until), out_of_order, "{first}: {from}");
            }
            let before_first = Sequence(first).after(i32::MAX).0;
            assert_eq!(producers.judge(&asked(1, 0, before_first, before_first)), out_of_order);

            producers.forget_from(Offset(5));
            assert_eq!(judge(&producers, 2, 2), Ok(Verdict::Forgotten(oldest)), "it is below");
            let history = *producers.committed().next().expect("it has written").1;
            let saved = || {
                let (batches, transactions) = (history.batches(), *history.transactions());
                History::from_saved(history.epoch(), batches, transactions, -1)
                    .expect("it was saved")
            };
            let again = |history| {
                let mut again = Producers::default();
                assert!(again.restore(ProducerId(1), history, NOW));
                judge(&again, 2, 2)
            };
            let whole = saved().knowing_of(history.forgotten_records());
            assert_eq!(again(whole), Ok(Verdict::Forgotten(oldest)));
            let unknown = Err(Refusal::OutOfOrderSequence { expected: Sequence(sequence(5)) });
            assert_eq!(again(saved()), unknown, "an older version saved less");
        }
    }

    #[test]
    fn dropping_speculation_brings_back_batches_it_had_pushed_out() {
        let mut producers = Producers::default();
        for n in 0..5 {
            producers.commit(&plain(1, n, i64::from(n)), NOW, MANY);
        }
        producers.speculate(&wrote(1, 3, one_record(0, 5)), NOW);
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
            producers.commit(&plain(n, 0, n), NOW, 4);
        }
        producers.commit(&plain(0, 1, 4), NOW, 4);
        producers.speculate(&plain(1, 1, 5), NOW);
        producers.commit(&plain(9, 0, 6), NOW, 4);
        let left: Vec<i64> = producers.committed().map(|(id, _)| id.0).collect();
        assert_eq!(left, [0, 1, 3, 9]);
        assert_eq!(producers.count(), 4);
    }

    #[test]
    fn a_full_table_is_emptied_by_an_eighth_at_once() {
        let mut producers = Producers::default();
        for n in 0..=64 {
            producers.commit(&plain(n, 0, n), NOW, 64);
        }
        assert_eq!(producers.count(), 65 - 64 / EVICTION_SHARE);
        assert_eq!(producers.committed().next().map(|(id, _)| id.0), Some(8));
    }

    #[test]
    fn silent_producers_expire() {
        let mut producers = Producers::default();
        let expiry = Duration::from_nanos(1_000);
        producers.commit(&plain(1, 0, 0), Monotonic(0), MANY);
        producers.commit(&plain(2, 0, 1), Monotonic(900), MANY);
        producers.expire(Monotonic(999), expiry);
        assert_eq!(producers.count(), 2);
        producers.expire(Monotonic(1_000), expiry);
        let left: Vec<i64> = producers.committed().map(|(id, _)| id.0).collect();
        assert_eq!((left, producers.count()), (vec![2], 1));
    }

    #[test]
    fn saved_histories_that_contradict_themselves_are_refused() {
        let good = [one_record(0, 5), one_record(1, 6)];
        let read = |epoch: i16, batches: &[ProducerBatch], transactions| {
            History::from_saved(ProducerEpoch(epoch), batches, transactions, -1)
        };
        assert!(read(0, &good, Transactions::NONE).is_some());
        let ended = Transactions { coordinator_epoch: 1, ..Transactions::NONE };
        assert!(read(0, &[], ended).is_some(), "a marker fences who has written nothing yet");
        let bad: [(i16, &[ProducerBatch]); 5] = [
            (-1, &good),
            (0, &[]),
            (0, &[one_record(1, 6), one_record(0, 5)]),
            (0, &[one_record(-1, 5)]),
            (0, &[one_record(0, 5); 6]),
        ];
        for (epoch, batches) in bad {
            assert_eq!(read(epoch, batches, Transactions::NONE), None, "{batches:?}");
        }
    }
}

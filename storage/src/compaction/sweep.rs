//! What becomes of one batch in a cleaning.
//!
//! Does: judge batch after batch by Kafka's rules, and build what is left of each, in slices.
//! Does not: read, write, or know segments.
//! Invariants: a record goes only if the table knows a later one of its key, or it is a tombstone whose time
//! is over, or has no key, or was aborted; a batch that cannot be opened stays as it is; the batch with a
//! producer's last sequence stays, if need be without records, and so does one that must end a segment.
//! Apart because it is the rule book, and every line of it is Kafka's (`Cleaner`, `MemoryRecords.filterTo`).
//!
//! ```text
//!  tombstone or marker of nothing:  met first --> its batch gets a horizon, now + delete.retention.ms (KIP-534)
//!                                   met by a later cleaning, horizon over --> it goes
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::batch::cleaned::{Rebuild, emptied};
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::records::Record;
use flumen_protocol::batch::walk::Walk;
use flumen_protocol::ids::ProducerId;

use super::table::KeyTable;
use super::transactions::{Marker, Transactions};
use crate::answers::{CleaningFacts, LastOfProducer};
use crate::limits::CLEANING_RECORD_BYTES;

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// This takes its place.
    Rewrite(Bytes),
    /// Nothing of it stays.
    Drop,
}

/// A walk over the log from its start.
#[derive(Clone, Debug)]
pub struct Sweep {
    transactions: Transactions,
    producers: BTreeMap<ProducerId, LastOfProducer>,
    /// The wall clock at the beginning, milliseconds.
    now_ms: i64,
    delete_retention_ms: i64,
    /// Invariant: false behind a segment that was left out: it may hold what a tombstone deletes, or what a
    /// marker ends.
    may_forget: bool,
    /// Records that went.
    pub dropped: u64,
}

impl Sweep {
    /// A walk that begins now.
    #[must_use]
    pub fn new(facts: &CleaningFacts, now_ms: i64, delete_retention_ms: i64) -> Self {
        Self {
            transactions: Transactions::new(&facts.aborted),
            producers: facts.producers.clone(),
            now_ms,
            delete_retention_ms,
            may_forget: true,
            dropped: 0,
        }
    }

    /// A segment is left out.
    pub fn pass_over(&mut self) {
        self.may_forget = false;
    }

    /// What it met of transactions.
    #[must_use]
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Begins to judge the next batch, and has judged it if none of its records needs to be looked at.
    /// `ends_segment`: something of it must stay, as the segment that is being written ends with it.
    ///
    /// # Errors
    /// What becomes of it: there is nothing more to do.
    ///
    /// # Panics
    /// Without a whole header: the reader gives whole batches.
    pub fn begin(&mut self, batch: &Bytes, ends_segment: bool) -> Result<Judging, Verdict> {
        let header = BatchHeader::parse(batch).expect("a reader gives whole batches");
        let is_over =
            self.may_forget && header.delete_horizon().is_some_and(|it| it <= self.now_ms);
        let (is_dropped, ends_nothing) = if header.is_control() {
            let ends_nothing = self.transactions.meet_marker(&header, Marker::of(batch));
            (ends_nothing && is_over, ends_nothing)
        } else {
            (self.transactions.meet_data(&header), false)
        };
        let keeps_header = ends_segment || self.is_last_of_producer(&header);
        if is_dropped {
            return Err(self.without_records(&header, keeps_header));
        }
        let walk = Walk::open(batch, inflated_bytes_max(batch.len())).map_err(|_| Verdict::Keep)?;
        Ok(Judging {
            walk,
            is_over,
            keeps_header,
            ends_nothing,
            kept: Vec::new(),
            kept_count: 0,
            kept_bytes: 0,
            first_timestamp: 0,
            has_tombstone: false,
            building: None,
        })
    }

    /// Goes on judging a batch for `left` bytes of records, and takes them off. `None`: there is more to do.
    pub fn go_on(
        &mut self,
        judging: &mut Judging,
        left: &mut usize,
        table: &KeyTable,
    ) -> Option<Verdict> {
        if judging.building.is_none() {
            match judging.look(left, table) {
                Looked::More => return None,
                Looked::Unreadable => return Some(Verdict::Keep),
                Looked::All => {}
            }
            let verdict = self.decide(judging);
            if verdict.is_some() {
                return verdict;
            }
        }
        judging.build(left).map(Verdict::Rewrite)
    }

    /// All records of a batch were looked at. `None`: what is left of it is to be built.
    fn decide(&mut self, judging: &mut Judging) -> Option<Verdict> {
        let header = *judging.walk.header();
        if judging.kept_count == 0 {
            return Some(self.without_records(&header, judging.keeps_header));
        }
        let may_go_later = judging.ends_nothing || judging.has_tombstone;
        let gets_horizon = self.may_forget && may_go_later && !header.has_delete_horizon();
        let gone = header.record_count - judging.kept_count;
        if gone == 0 && !gets_horizon {
            return Some(Verdict::Keep);
        }
        self.dropped += u64::try_from(gone).unwrap_or(0);
        let fresh = self.now_ms.saturating_add(self.delete_retention_ms);
        let horizon = header.delete_horizon().or(gets_horizon.then_some(fresh));
        let (first, bytes) = (judging.first_timestamp, judging.kept_bytes);
        let rebuild = Rebuild::new(&header, first, horizon, bytes);
        judging.walk.rewind();
        judging.building = Some((rebuild, 0));
        None
    }

    fn without_records(&mut self, header: &BatchHeader, keeps_header: bool) -> Verdict {
        self.dropped += u64::try_from(header.record_count).unwrap_or(0);
        match (keeps_header, header.record_count) {
            (false, _) => Verdict::Drop,
            (true, 0) => Verdict::Keep,
            (true, _) => Verdict::Rewrite(emptied(header).freeze()),
        }
    }

    /// Whether the batch is the last trace of what a producer that may still come back has written.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = Some(&header.producer_id).filter(|_| header.has_producer());
        last.and_then(|id| self.producers.get(id)).is_some_and(|last| match last.data {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
    }
}

/// A batch that is being judged, record by record: all of them first, then those that stay once more.
#[derive(Debug)]
pub struct Judging {
    walk: Walk,
    /// Its tombstones may go.
    is_over: bool,
    keeps_header: bool,
    ends_nothing: bool,
    /// By record, whether it stays.
    kept: Vec<bool>,
    kept_count: i32,
    kept_bytes: usize,
    /// Of the first one that stays.
    first_timestamp: i64,
    /// Of those that stay one is a tombstone.
    has_tombstone: bool,
    /// What is left of it, and how many records were looked at for that.
    building: Option<(Rebuild, usize)>,
}

/// How far the first walk over a batch is.
enum Looked {
    More,
    All,
    Unreadable,
}

impl Judging {
    /// Bytes of memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.walk.payload_bytes() + self.kept.len() + self.kept_bytes
    }

    fn look(&mut self, left: &mut usize, table: &KeyTable) -> Looked {
        let is_control = self.walk.header().is_control();
        while *left > 0 {
            let Some(next) = self.walk.next_record() else { return Looked::All };
            let Ok((record, bytes)) = next else { return Looked::Unreadable };
            *left = left.saturating_sub(bytes.max(CLEANING_RECORD_BYTES));
            let stays = is_control || stays(&record, self.is_over, table);
            if stays {
                if self.kept_count == 0 {
                    self.first_timestamp = record.timestamp;
                }
                self.kept_count += 1;
                self.kept_bytes += bytes;
                self.has_tombstone |= record.value.is_none();
            }
            self.kept.push(stays);
        }
        Looked::More
    }

    fn build(&mut self, left: &mut usize) -> Option<Bytes> {
        let (rebuild, looked) = self.building.as_mut()?;
        while *left > 0 {
            let Some(next) = self.walk.next_record() else {
                let (rebuild, _) = self.building.take()?;
                return Some(rebuild.finish().freeze());
            };
            let (record, bytes) = next.expect("it was read before");
            if self.kept[*looked] {
                *left = left.saturating_sub(bytes.max(CLEANING_RECORD_BYTES));
                rebuild.push(&record);
            } else {
                *left = left.saturating_sub(CLEANING_RECORD_BYTES / 4);
            }
            *looked += 1;
        }
        None
    }
}

fn stays(record: &Record<'_>, is_over: bool, table: &KeyTable) -> bool {
    if table.latest().is_none_or(|latest| record.offset > latest) {
        return true;
    }
    let Some(key) = record.key else { return false };
    let is_latest = table.get(key).is_none_or(|latest| record.offset >= latest);
    is_latest && (record.value.is_some() || !is_over)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::records::records;
    use flumen_protocol::batch::stamp::stamp;
    use flumen_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, Sequence};

    use super::*;
    use crate::answers::AbortedRange;

    impl Sweep {
        /// Judges a batch with a rest after every record.
        fn judge(&mut self, batch: &Bytes, ends_segment: bool, table: &KeyTable) -> Verdict {
            let mut judging = match self.begin(batch, ends_segment) {
                Ok(judging) => judging,
                Err(verdict) => return verdict,
            };
            loop {
                if let Some(verdict) = self.go_on(&mut judging, &mut 1, table) {
                    return verdict;
                }
            }
        }
    }

    const NOW: i64 = 1_000_000;
    const RETENTION: i64 = 5_000;
    const WRITER: ProducerId = ProducerId(7);

    /// Key and value of a record.
    type KeyValue = (Option<&'static str>, Option<&'static str>);

    fn stamped(builder: BatchBuilder, base: i64, records: &[KeyValue]) -> Bytes {
        let mut builder = builder;
        for (key, value) in records {
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            builder.push(&NewRecord { timestamp: 5, key, value, headers: &[] });
        }
        let mut bytes: BytesMut = builder.finish();
        stamp(&mut bytes, Offset(base), LeaderEpoch(1));
        bytes.freeze()
    }

    fn batch(base: i64, records: &[KeyValue]) -> Bytes {
        stamped(BatchBuilder::new(), base, records)
    }

    fn written(base: i64, records: &[KeyValue]) -> Bytes {
        let builder = BatchBuilder::new().transactional();
        stamped(builder.with_producer(WRITER, ProducerEpoch(2), Sequence(0)), base, records)
    }

    fn marker(base: i64, kind: &'static str) -> Bytes {
        let builder = BatchBuilder::new().transactional().control();
        let builder = builder.with_producer(WRITER, ProducerEpoch(2), Sequence(-1));
        stamped(builder, base, &[(Some(kind), Some("\0\0\0\0\0\0"))])
    }
    const ABORT: &str = "\0\0\0\0";
    const COMMIT: &str = "\0\0\0\u{1}";

    fn table(last: &[(&str, i64)], until: i64) -> KeyTable {
        let mut table = KeyTable::new(4096, 100, 1);
        for (key, offset) in last {
            assert!(table.put(key.as_bytes(), Offset(*offset)));
        }
        table.know_until(Offset(until));
        table
    }

    fn facts() -> CleaningFacts {
        let (aborted, producers) = (Vec::new(), BTreeMap::new());
        CleaningFacts { stable: Offset(i64::MAX), aborted, producers, seed: 1 }
    }

    fn sweep(facts: &CleaningFacts, now: i64) -> Sweep {
        Sweep::new(facts, now, RETENTION)
    }

    /// What a verdict leaves: offsets and the horizon; `None` for nothing.
    fn left(verdict: Verdict, batch: &Bytes) -> Option<(Vec<i64>, Option<i64>)> {
        let bytes = match verdict {
            Verdict::Keep => batch.clone(),
            Verdict::Rewrite(bytes) => bytes,
            Verdict::Drop => return None,
        };
        let opened = records(&bytes, 1 << 20).expect("sound");
        let offsets = opened.iter().map(|record| record.expect("sound").offset.0).collect();
        Some((offsets, opened.header().delete_horizon()))
    }

    #[test]
    fn superseded_and_keyless_records_go_and_what_the_table_does_not_know_stays() {
        let known = table(&[("a", 12), ("b", 11)], 12);
        let records = [(Some("a"), Some("1")), (Some("b"), Some("2")), (None, Some("3"))];
        let older = batch(8, &records);
        let verdict = sweep(&facts(), NOW).judge(&older, false, &known);
        assert_eq!(verdict, Verdict::Drop);
        let verdict = sweep(&facts(), NOW).judge(&older, true, &known);
        assert_eq!(left(verdict, &older), Some((vec![], None)), "it ends a segment");
        let newest =
            batch(11, &[(Some("b"), Some("2")), (Some("a"), Some("1")), (None, Some("3"))]);
        let verdict = sweep(&facts(), NOW).judge(&newest, false, &known);
        assert_eq!(verdict, Verdict::Keep, "13 lies behind what the table knows");
        let strange = batch(5, &[(Some("c"), Some("1")), (Some("a"), Some("1"))]);
        let verdict = sweep(&facts(), NOW).judge(&strange, false, &known);
        assert_eq!(left(verdict, &strange), Some((vec![5], None)));
    }

    #[test]
    fn a_batch_that_cannot_be_opened_stays_as_it_is() {
        let mut broken = batch(5, &[(Some("a"), Some("1"))]).to_vec();
        let last = broken.len() - 1;
        broken.truncate(last);
        broken[8..12].copy_from_slice(&(last as i32 - 12).to_be_bytes());
        let verdict = sweep(&facts(), NOW).judge(&broken.into(), false, &table(&[("a", 9)], 9));
        assert_eq!(verdict, Verdict::Keep);
    }

    #[test]
    fn a_tombstone_gets_a_horizon_first_and_goes_after_it() {
        let known = table(&[("a", 5), ("b", 6)], 9);
        let first = batch(5, &[(Some("a"), None), (Some("b"), Some("2"))]);
        let Verdict::Rewrite(second) = sweep(&facts(), NOW).judge(&first, false, &known) else {
            panic!("a horizon is set");
        };
        let horizon = NOW + RETENTION;
        assert_eq!(left(Verdict::Keep, &second), Some((vec![5, 6], Some(horizon))));
        let early = sweep(&facts(), horizon - 1).judge(&second, false, &known);
        assert_eq!(early, Verdict::Keep);
        let late = sweep(&facts(), horizon).judge(&second, false, &known);
        assert_eq!(left(late, &second), Some((vec![6], Some(horizon))));
        let mut careful = sweep(&facts(), horizon);
        careful.pass_over();
        assert_eq!(careful.judge(&second, false, &known), Verdict::Keep, "not behind damage");
        assert_eq!(careful.judge(&first, false, &known), Verdict::Keep, "no horizon either");
    }

    #[test]
    fn the_last_batch_of_a_producer_that_may_come_back_keeps_its_header() {
        let known = table(&[("a", 50)], 60);
        let builder = BatchBuilder::new().with_producer(WRITER, ProducerEpoch(2), Sequence(3));
        let last = stamped(builder, 20, &[(Some("a"), Some("1")), (Some("a"), Some("2"))]);
        assert_eq!(sweep(&facts(), NOW).judge(&last, false, &known), Verdict::Drop);
        let mut facts = facts();
        let of_producer = |data| LastOfProducer { epoch: ProducerEpoch(2), data };
        facts.producers.insert(WRITER, of_producer(Some(Offset(21))));
        let verdict = sweep(&facts, NOW).judge(&last, false, &known);
        let Verdict::Rewrite(header) = verdict else { panic!("only its header stays") };
        let found = BatchHeader::parse(&header).expect("a header");
        assert_eq!((found.record_count, found.last_sequence()), (0, Sequence(4)));
        assert_eq!(sweep(&facts, NOW).judge(&header, false, &known), Verdict::Keep);
        facts.producers.insert(WRITER, of_producer(Some(Offset(70))));
        assert_eq!(sweep(&facts, NOW).judge(&header, false, &known), Verdict::Drop);
        // Only a marker is left of it: that says what its epoch is.
        facts.producers.insert(WRITER, of_producer(None));
        let mut walk = sweep(&facts, NOW + RETENTION);
        let Verdict::Rewrite(marked) = walk.judge(&marker(30, COMMIT), false, &known) else {
            panic!("it ends nothing, so it gets a horizon");
        };
        let mut walk = sweep(&facts, NOW + 9 * RETENTION);
        let verdict = walk.judge(&marked, false, &known);
        assert_eq!(left(verdict, &marked), Some((vec![], None)));
    }

    #[test]
    fn a_marker_goes_a_while_after_the_last_record_of_its_transaction() {
        let known = table(&[("a", 50)], 60);
        let data = written(20, &[(Some("a"), Some("1"))]);
        let commit = marker(21, COMMIT);
        let mut walk = sweep(&facts(), NOW);
        assert_eq!(walk.judge(&data, false, &known), Verdict::Drop);
        assert_eq!(walk.judge(&commit, false, &known), Verdict::Keep, "its data was met");
        let mut walk = sweep(&facts(), NOW);
        let Verdict::Rewrite(alone) = walk.judge(&commit, false, &known) else {
            panic!("it is alone");
        };
        let mut walk = sweep(&facts(), NOW + RETENTION);
        assert_eq!(walk.judge(&data, false, &known), Verdict::Drop);
        assert_eq!(walk.judge(&alone, false, &known), Verdict::Keep, "its data is back");
        assert_eq!(walk.judge(&alone, false, &known), Verdict::Drop, "and gone for good");
    }

    #[test]
    fn aborted_records_go_and_their_marker_waits_for_the_list() {
        let known = table(&[("a", 50)], 60);
        // The key is known nowhere else: what was aborted goes all the same.
        let data = written(20, &[(Some("z"), Some("1"))]);
        let abort = marker(25, ABORT);
        let range = AbortedRange { producer: WRITER, first: Offset(20), last: Offset(25) };
        let listed = CleaningFacts { aborted: vec![range], ..facts() };
        let mut walk = sweep(&listed, NOW);
        assert_eq!(walk.judge(&data, false, &known), Verdict::Drop);
        assert_eq!(walk.judge(&abort, false, &known), Verdict::Keep);
        assert_eq!(walk.transactions().emptied(), []);
        // The next transaction of the same producer counts.
        let next = written(26, &[(Some("y"), Some("1"))]);
        assert_eq!(walk.judge(&next, false, &known), Verdict::Keep);
        let mut walk = sweep(&listed, NOW);
        assert_eq!(walk.judge(&abort, false, &known), Verdict::Keep, "a reader waits for it");
        assert_eq!(walk.transactions().emptied(), [range]);
        let forgotten = sweep(&facts(), NOW).judge(&abort, false, &known);
        let Verdict::Rewrite(abort) = forgotten else { panic!("nobody lists it any more") };
        let late = sweep(&facts(), NOW + RETENTION).judge(&abort, false, &known);
        assert_eq!(late, Verdict::Drop);
        let other = marker(30, "\0\0\0\u{5}");
        assert_eq!(sweep(&facts(), NOW).judge(&other, false, &known), Verdict::Keep);
    }
}

//! Reads records out of partitions.
//!
//! Does: fetch from a leader, open batches, leave out what is not for readers.
//! Does not: decide where to begin or when to stop.
//! Invariants: progress is made by batches, so that a place without readable records is passed; what
//! a foreign broker sends as records is as little believed as the rest of its answer.
//! Apart because consuming and measuring lag both read.

use std::collections::BTreeSet;

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::records::{Record, records};
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use flumen_protocol::messages::{BrokerId, FetchRequest};

use super::cluster::{Cluster, in_words, topic_name};
use super::fault::{Fault, accept};

/// What a fetch asks for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Of which topic.
    pub topic: &'a str,
    /// Partitions and the first offset wanted of each.
    pub from: Vec<(i32, i64)>,
    /// How long the broker may wait for records, in milliseconds.
    pub wait_ms: i32,
    /// Bytes of one partition; a batch comes whole even if it is larger.
    pub partition_bytes: i32,
    /// Whether what transactions did not commit is left out.
    pub committed: bool,
}

/// Fetches from one broker.
///
/// # Errors
/// As every question; a refusal for any of the partitions.
pub fn fetch(
    cluster: &mut Cluster,
    broker: i32,
    wanted: &Wanted<'_>,
) -> Result<Vec<PartitionData>, Fault> {
    let partitions = wanted.from.iter().map(|&(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(wanted.partition_bytes)
    });
    let topic = FetchTopic::default()
        .with_topic(topic_name(wanted.topic))
        .with_partitions(partitions.collect());
    let body = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wanted.wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(crate::limits::CLI_FETCH_BYTES)
        .with_isolation_level(i8::from(wanted.committed))
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let answer = cluster.ask(broker, &body)?;
    accept(|| format!("topic {}", wanted.topic), answer.error_code, "")?;
    let found: Vec<PartitionData> =
        answer.responses.into_iter().flat_map(|topic| topic.partitions).collect();
    for partition in &found {
        let place = (wanted.topic.to_owned(), partition.partition_index);
        accept(|| in_words(&place), partition.error_code, "")?;
    }
    Ok(found)
}

/// Where a reader of one partition is.
#[derive(Clone, Debug)]
pub struct Reader {
    next: i64,
    /// Producers whose open transaction will turn out to be aborted.
    aborted: BTreeSet<i64>,
}

impl Reader {
    /// A reader that has read nothing.
    #[must_use]
    pub fn at(offset: i64) -> Self {
        Self { next: offset, aborted: BTreeSet::new() }
    }

    /// The next offset it wants.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Hands out the records of what was fetched, in order and below `stop`, and moves on. `take` says
    /// whether it wants more; after its last record the reader stands right behind it.
    ///
    /// # Errors
    /// A batch that cannot be read, or what `take` says.
    pub fn read(
        &mut self,
        found: &PartitionData,
        stop: i64,
        take: &mut dyn FnMut(&Record<'_>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let nothing = Bytes::new();
        let bytes = found.records.as_ref().unwrap_or(&nothing);
        let mut aborted: Vec<&AbortedTransaction> =
            found.aborted_transactions.iter().flatten().collect();
        aborted.sort_by_key(|it| std::cmp::Reverse(it.first_offset));
        // What follows the last whole batch is its beginning at most, cut off by the limit.
        for batch in batches(bytes).map_while(Result::ok) {
            let header = batch.header;
            while aborted.last().is_some_and(|it| it.first_offset <= header.last_offset().0) {
                self.aborted.extend(aborted.pop().map(|it| it.producer_id.0));
            }
            if header.last_offset().0 < self.next {
                continue;
            }
            if header.base_offset.0 >= stop {
                self.next = self.next.max(stop);
                return Ok(());
            }
            let is_hidden = self.judge(&header, batch.bytes)?;
            if !is_hidden && !self.hand_out(batch.bytes, stop, take)? {
                return Ok(());
            }
            self.next = header.last_offset().0.saturating_add(1);
        }
        Ok(())
    }

    /// Whether a batch is not for readers; a marker ends the transaction it is about.
    fn judge(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<bool, Fault> {
        if !header.is_control() {
            return Ok(header.is_transactional() && self.aborted.contains(&header.producer_id.0));
        }
        for record in &open(batch)? {
            let record = record.map_err(|_| unreadable(header))?;
            // A marker's key: two bytes of version, then its kind; 0 is an abort.
            if record.key.and_then(|key| key.get(2..4)) == Some(&[0, 0]) {
                self.aborted.remove(&header.producer_id.0);
            }
        }
        Ok(true)
    }

    fn hand_out(
        &mut self,
        batch: &[u8],
        stop: i64,
        take: &mut dyn FnMut(&Record<'_>) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let records = open(batch)?;
        for record in &records {
            let record = record.map_err(|_| unreadable(records.header()))?;
            if record.offset.0 < self.next {
                continue;
            }
            if record.offset.0 >= stop {
                self.next = stop;
                return Ok(false);
            }
            let goes_on = take(&record)?;
            self.next = record.offset.0.saturating_add(1);
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The timestamp of the record at this offset, or of the first one behind it, be it for readers or not;
/// nothing where none was found, it cannot be read, or it has none.
#[must_use]
pub fn timestamp_at(found: &PartitionData, offset: i64) -> Option<i64> {
    let bytes = found.records.as_ref()?;
    let batch = batches(bytes)
        .map_while(Result::ok)
        .find(|batch| batch.header.last_offset().0 >= offset && batch.header.record_count > 0)?;
    let records = open(batch.bytes).ok()?;
    let record = records.iter().map_while(Result::ok).find(|it| it.offset.0 >= offset)?;
    (record.timestamp >= 0).then_some(record.timestamp)
}

fn open(batch: &[u8]) -> Result<flumen_protocol::batch::records::Records<'_>, Fault> {
    let header = BatchHeader::parse(batch).expect("whole batches have a header");
    records(batch, inflated_bytes_max(batch.len())).map_err(|_| unreadable(&header))
}

fn unreadable(header: &BatchHeader) -> Fault {
    Fault::Usage(format!(
        "the batch at offset {} cannot be read; --from {} passes over it",
        header.base_offset,
        header.last_offset().0.saturating_add(1)
    ))
}

#[cfg(test)]
mod tests {
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::stamp::stamp;
    use flumen_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
    use flumen_protocol::messages::WireProducerId;

    use super::*;

    fn batch(base: i64, values: &[&str], builder: BatchBuilder) -> Vec<u8> {
        let mut builder = builder;
        for value in values {
            let value = Some(value.as_bytes());
            builder.push(&NewRecord { timestamp: base, key: None, value, headers: &[] });
        }
        let mut bytes = builder.finish();
        stamp(&mut bytes, Offset(base), LeaderEpoch(0));
        bytes.to_vec()
    }

    fn of_producer(id: i64) -> BatchBuilder {
        BatchBuilder::new().with_producer(ProducerId(id), ProducerEpoch(0), Sequence(0))
    }

    fn marker(base: i64, id: i64, kind: u8) -> Vec<u8> {
        let mut builder = of_producer(id).transactional().control();
        let key = [0, 0, 0, kind];
        let record =
            NewRecord { timestamp: base, key: Some(&key), value: Some(&[0]), headers: &[] };
        builder.push(&record);
        let mut bytes = builder.finish();
        stamp(&mut bytes, Offset(base), LeaderEpoch(0));
        bytes.to_vec()
    }

    fn read(reader: &mut Reader, found: &PartitionData, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut take = |record: &Record<'_>| {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            seen.push(format!("{}:{value}", record.offset));
            Ok(seen.len() < count)
        };
        reader.read(found, i64::MAX, &mut take).expect("readable");
        seen
    }

    fn found(batches: &[Vec<u8>]) -> PartitionData {
        PartitionData::default().with_records(Some(batches.concat().into()))
    }

    #[test]
    fn a_reader_begins_inside_a_batch_and_stops_behind_its_last_record() {
        let found = found(&[
            batch(0, &["a", "b", "c"], BatchBuilder::new()),
            batch(3, &["d"], BatchBuilder::new()),
        ]);
        let mut reader = Reader::at(1);
        assert_eq!(read(&mut reader, &found, 2), ["1:b", "2:c"]);
        assert_eq!(reader.next(), 3);
        assert_eq!(read(&mut reader, &found, 9), ["3:d"]);
        assert_eq!(reader.next(), 4);
    }

    #[test]
    fn nothing_at_or_behind_the_stop_is_handed_out_or_passed() {
        let found = found(&[batch(0, &["a", "b"], BatchBuilder::new())]);
        let mut reader = Reader::at(0);
        let mut seen = 0;
        let mut take = |_: &Record<'_>| {
            seen += 1;
            Ok(true)
        };
        reader.read(&found, 1, &mut take).expect("readable");
        assert_eq!((seen, reader.next()), (1, 1));
    }

    #[test]
    fn aborted_records_and_markers_are_passed_over() {
        let batches = [
            batch(0, &["kept"], of_producer(7).transactional()),
            batch(1, &["aborted"], of_producer(8).transactional()),
            marker(2, 8, 0),
            marker(3, 7, 1),
            batch(4, &["next"], of_producer(8).transactional()),
        ];
        let aborted =
            AbortedTransaction::default().with_producer_id(WireProducerId(8)).with_first_offset(1);
        let found = found(&batches).with_aborted_transactions(Some(vec![aborted]));
        let mut reader = Reader::at(0);
        assert_eq!(read(&mut reader, &found, 9), ["0:kept", "4:next"]);
        assert_eq!(reader.next(), 5);
    }

    #[test]
    fn a_batch_that_was_cut_off_waits_for_the_next_fetch() {
        let whole = batch(0, &["a"], BatchBuilder::new());
        let mut cut = batch(1, &["b"], BatchBuilder::new());
        cut.truncate(40);
        let mut reader = Reader::at(0);
        assert_eq!(read(&mut reader, &found(&[whole, cut]), 9), ["0:a"]);
        assert_eq!(reader.next(), 1);
    }
}

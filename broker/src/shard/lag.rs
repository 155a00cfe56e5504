//! How far behind groups are: on the cores that know, in steps.
//!
//! Does: hand out committed offsets page by page; find, for committed offsets of this core's
//! partitions, where the partition ends and when the record at the offset was written.
//! Does not: put a page together; the core that is scraped does (`admin`).
//! Invariants: one step takes a bounded number of rows, of reads from the disk and of bytes that are
//! opened, so that ten thousand groups are many short steps and never a long one; a list of offsets
//! is answered from its front, and what a step had no room for is asked for again.
//! Apart because offsets live where their group does, and ends where the partition does.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::batch::header::{BatchHeader, TimestampType};
use flumen_protocol::batch::records::records_within;
use flumen_protocol::ids::{LogId, Offset, PartitionIndex};
use flumen_replication::outbox::Ticket;
use flumen_storage::answers::{ReadAnswer, ReadError, ReadRequest};

use super::mailbox::{Answer, CommitCursor, CommitsPage, Committed, LagFound};
use super::shard::Shard;
use crate::limits::{
    LAG_INFLATED_BYTES_MAX, LAG_OPENED_BYTES_PER_STEP, LAG_READS_PER_STEP, LAG_ROWS_PER_STEP,
    LAG_TIMES_MAX,
};

/// What this core knows and is about to know of records that groups will read next.
#[derive(Debug, Default)]
pub struct Lags {
    /// When the first record at or after an offset was written. Records do not change, so this holds
    /// until it is thrown away; a look at ten thousand groups that stand still reads nothing.
    times: BTreeMap<(LogId, Offset), Option<i64>>,
    /// Steps that wait for the disk.
    open: BTreeMap<u64, OpenStep>,
    next: u64,
}

#[derive(Debug)]
struct OpenStep {
    ticket: Ticket,
    found: Vec<LagFound>,
    missing: usize,
}

/// A read of the disk that a step waits for.
#[derive(Clone, Copy, Debug)]
pub struct LagRead {
    step: u64,
    place: usize,
    log: LogId,
    from: Offset,
}

impl Shard {
    /// Hands out the committed offsets of this core's groups, from where the last page ended.
    pub(super) fn give_commits(&mut self, ticket: Ticket, cursor: Option<CommitCursor>) {
        let mut rows = Vec::with_capacity(LAG_ROWS_PER_STEP);
        let mut next = None;
        let first = cursor.as_ref().map(|cursor| cursor.room);
        for (room, coordinator) in self.coordinators.rooms_from(first) {
            let cursor = cursor.as_ref().filter(|cursor| cursor.room == room);
            let after = cursor.map_or(("", "", -1), |cursor| {
                (cursor.group.as_str(), cursor.topic.as_str(), cursor.partition.0)
            });
            let left = LAG_ROWS_PER_STEP - rows.len();
            rows.extend(coordinator.committed_after(after).take(left).map(|row| Committed {
                group: row.group.to_owned(),
                topic: row.topic.to_owned(),
                partition: PartitionIndex(row.partition),
                offset: row.offset,
            }));
            if rows.len() == LAG_ROWS_PER_STEP {
                next = rows.last().map(|last| CommitCursor {
                    room,
                    group: last.group.clone(),
                    topic: last.topic.clone(),
                    partition: last.partition,
                });
                break;
            }
        }
        self.answer(ticket, Answer::Commits(Box::new(CommitsPage { rows, next })));
    }

    /// Says where partitions end, and when the records at these offsets were written; of as many as a
    /// step has room for, at least one.
    pub(super) fn give_lags(&mut self, ticket: Ticket, wanted: &[(LogId, Offset)]) {
        let step = self.lags.next;
        self.lags.next += 1;
        let mut room_bytes = LAG_OPENED_BYTES_PER_STEP;
        let mut found = Vec::with_capacity(wanted.len());
        let mut missing = 0;
        for &(log, offset) in wanted {
            if missing == LAG_READS_PER_STEP || room_bytes == 0 {
                break;
            }
            let Some((mut row, from)) = self.lag_of(log, offset) else {
                found.push(LagFound { end: None, written: None });
                continue;
            };
            if let Some(from) = from {
                let read = LagRead { step, place: found.len(), log, from };
                match self.written_at(read, row.end, &mut room_bytes) {
                    Some(written) => row.written = written,
                    None => missing += 1,
                }
            }
            found.push(row);
        }
        if missing > 0 {
            self.lags.open.insert(step, OpenStep { ticket, found, missing });
        } else {
            self.answer(ticket, Answer::Lags(self.identity.core, found));
        }
    }

    /// Where a partition ends, and from where on a group that stands at `offset` would read; nothing to
    /// read when it is caught up.
    fn lag_of(&self, log: LogId, offset: Offset) -> Option<(LagFound, Option<Offset>)> {
        let offsets = self.partitions.get(&log)?.offsets();
        let end = offsets.high_watermark();
        let from = offset.max(offsets.start());
        let row = LagFound { end: Some(end), written: None };
        Some((row, (from < end).then_some(from)))
    }

    /// When the first record at or after an offset was written; `None` when the disk has to be asked.
    fn written_at(
        &mut self,
        read: LagRead,
        end: Option<Offset>,
        room_bytes: &mut usize,
    ) -> Option<Option<i64>> {
        let LagRead { log, from, .. } = read;
        if let Some(written) = self.lags.times.get(&(log, from)) {
            return Some(*written);
        }
        let token = self.reads.lag_token(read);
        let request = ReadRequest {
            from,
            limit: end.unwrap_or(from),
            max_bytes: 1,
            at_least_one: true,
            token,
        };
        match self.store.read(log, request) {
            ReadAnswer::Ready(batches) => {
                self.reads.forget(token);
                let written = timestamp_from(&batches, from, room_bytes);
                self.lags.remember(log, from, written);
                Some(written)
            }
            // What cannot be read has no age; whoever reads it hears why.
            ReadAnswer::Failed(_) => {
                self.reads.forget(token);
                Some(None)
            }
            ReadAnswer::Pending => None,
        }
    }

    /// The disk answered a read that a step waits for.
    pub(super) fn take_lag_read(&mut self, read: LagRead, result: Result<Vec<Bytes>, ReadError>) {
        let mut room_bytes = LAG_OPENED_BYTES_PER_STEP;
        let written = match result {
            Ok(batches) => {
                let written = timestamp_from(&batches, read.from, &mut room_bytes);
                self.lags.remember(read.log, read.from, written);
                written
            }
            Err(_) => None,
        };
        let Some(step) = self.lags.open.get_mut(&read.step) else {
            unreachable!("a step is open until its last read is answered")
        };
        step.found[read.place].written = written;
        step.missing -= 1;
        if step.missing == 0
            && let Some(step) = self.lags.open.remove(&read.step)
        {
            self.answer(step.ticket, Answer::Lags(self.identity.core, step.found));
        }
    }
}

impl Lags {
    fn remember(&mut self, log: LogId, from: Offset, written: Option<i64>) {
        // Most of a full memory is about offsets that groups have left behind.
        if self.times.len() >= LAG_TIMES_MAX {
            self.times.clear();
        }
        self.times.insert((log, from), written);
    }
}

/// The timestamp of the first record at or after an offset, which lies in the first of these batches;
/// takes off what was opened to find it.
///
/// A batch that inflates to more than [`LAG_INFLATED_BYTES_MAX`] is taken by its first record's
/// timestamp: the age is never told smaller than it is.
fn timestamp_from(batches: &[Bytes], from: Offset, room_bytes: &mut usize) -> Option<i64> {
    let batch = batches.first()?;
    let header = BatchHeader::parse(batch)?;
    let timestamp = match header.timestamp_type() {
        TimestampType::Append => header.max_timestamp,
        TimestampType::Create if from <= header.base_offset => header.base_timestamp,
        TimestampType::Create => {
            let mut allowance_bytes = LAG_INFLATED_BYTES_MAX;
            let found = match records_within(batch, &mut allowance_bytes) {
                Ok(records) => records
                    .iter()
                    .map_while(Result::ok)
                    .find(|record| record.offset >= from)
                    .map(|record| record.timestamp),
                Err(_) => None,
            };
            let inflated_bytes = LAG_INFLATED_BYTES_MAX - allowance_bytes;
            *room_bytes = room_bytes.saturating_sub(inflated_bytes.max(batch.len()));
            found.unwrap_or(header.base_timestamp)
        }
    };
    (timestamp >= 0).then_some(timestamp)
}

#[cfg(test)]
mod tests {
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::codec::Codec;
    use flumen_protocol::batch::stamp::{stamp, stamp_append_time};
    use flumen_protocol::ids::LeaderEpoch;

    use super::*;

    fn batch(codec: Codec, value_bytes: usize) -> Vec<u8> {
        let value = vec![b'v'; value_bytes];
        let mut builder = BatchBuilder::new();
        for timestamp in [1000, 2000, 3000] {
            builder.push(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
        }
        let mut bytes = match codec {
            Codec::None => builder.finish(),
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                builder.finish_compressed(codec)
            }
        };
        stamp(&mut bytes, Offset(10), LeaderEpoch(0));
        bytes.to_vec()
    }

    fn found(bytes: Vec<u8>, from: i64) -> (Option<i64>, usize) {
        let mut room_bytes = LAG_OPENED_BYTES_PER_STEP;
        let written = timestamp_from(&[bytes.into()], Offset(from), &mut room_bytes);
        (written, LAG_OPENED_BYTES_PER_STEP - room_bytes)
    }

    #[test]
    fn the_record_at_the_offset_says_when_it_was_written() {
        assert_eq!(found(batch(Codec::None, 5), 10), (Some(1000), 0), "without opening the batch");
        assert_eq!(found(batch(Codec::None, 5), 11).0, Some(2000));
        assert_eq!(found(batch(Codec::Zstd, 5), 12).0, Some(3000));
        assert_eq!(found(batch(Codec::Gzip, 5), 9).0, Some(1000), "it begins behind the offset");
    }

    #[test]
    fn a_broker_that_stamps_records_is_believed() {
        let mut bytes = batch(Codec::None, 5);
        stamp_append_time(&mut bytes, 9000);
        assert_eq!(found(bytes, 11), (Some(9000), 0));
    }

    #[test]
    fn what_inflates_too_far_counts_as_old_as_its_first_record() {
        let (written, opened) = found(batch(Codec::Zstd, LAG_INFLATED_BYTES_MAX), 12);
        assert_eq!(written, Some(1000));
        assert!(opened <= LAG_INFLATED_BYTES_MAX, "{opened}");
    }
}

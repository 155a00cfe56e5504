//! Records on their way out: reads, watchers, look-ups by time.
//!
//! Does: bound a read by the partition, plan it with the store, answer now or when the disk has;
//! push to watchers what became visible.
//! Does not: assemble answers; the asking core does.
//! Invariants: every token given to the store is here until the store answers it; a watcher is
//! here exactly as long as its partition knows it.
//! Apart because it is the whole way of a Fetch on the owning core.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{LeaderEpoch, LogId, Offset, ProducerId};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::{Isolation, OffsetSpec, ReadBounds, ReadQuery, Watched};
use flumen_storage::answers::{
    ReadAnswer, ReadError, ReadRequest, TimeAnswer, TimeQuery, TimedRecord,
};

use super::lag::LagRead;
use super::mailbox::{
    Answer, Follower, FoundOffset, LogFault, OffsetQuestion, ReadQuestion, RecordsAnswer,
};
use super::shard::Shard;

/// ListOffsets' special values (G77).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// What the store was asked for.
#[derive(Debug)]
enum Purpose {
    /// A client's read.
    Records { ticket: Ticket, log: LogId, question: ReadQuestion, bounds: ReadBounds },
    /// What a follower is told.
    News { follower: Follower, log: LogId, question: ReadQuestion, bounds: ReadBounds },
    /// A client's look-up by time.
    Time { ticket: Ticket, log: LogId, limit: Offset, question: OffsetQuestion },
    /// A look at how far behind a group is.
    Lag(LagRead),
    /// A step of loading a log into a state machine of this core.
    Load { log: LogId },
}

/// What the store was asked for, and who watches what.
#[derive(Default)]
pub struct Reads {
    next_token: u64,
    open: BTreeMap<u64, Purpose>,
    watchers: BTreeMap<Ticket, ReadQuestion>,
    /// Who waits until the start of a log is durable.
    ///
    /// Invariant: only of logs whose start is on its way to the disk.
    late: Vec<(LogId, Ticket, Late)>,
}

/// A question that is asked again when a start is durable.
#[derive(Debug)]
enum Late {
    /// A read of records that are deleted as soon as it is.
    Records(ReadQuestion),
    /// A look-up by time.
    Time(OffsetQuestion),
}

impl Reads {
    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// A token for a step of loading.
    pub fn load_token(&mut self, log: LogId) -> u64 {
        let token = self.token();
        self.open.insert(token, Purpose::Load { log });
        token
    }

    /// A token for what a follower is told.
    pub fn news_token(
        &mut self,
        follower: Follower,
        log: LogId,
        question: ReadQuestion,
        bounds: ReadBounds,
    ) -> u64 {
        let token = self.token();
        self.open.insert(token, Purpose::News { follower, log, question, bounds });
        token
    }

    /// A token for a look at how far behind a group is.
    pub(super) fn lag_token(&mut self, read: LagRead) -> u64 {
        let token = self.token();
        self.open.insert(token, Purpose::Lag(read));
        token
    }

    /// Forgets a token whose answer came at once.
    pub fn forget(&mut self, token: u64) {
        self.open.remove(&token);
    }
}

impl Shard {
    /// Reads from a partition; says how many bytes of the answer are spoken for.
    pub(super) fn read(&mut self, ticket: Ticket, log: LogId, question: ReadQuestion) -> u32 {
        let Some(partition) = self.partitions.get(&log) else {
            self.answer(ticket, Answer::NotHere);
            return 0;
        };
        match partition.read_bounds(query(&question)) {
            Err(refusal) => {
                let fault = LogFault::Refused(refusal);
                self.give(ticket, log, RecordsAnswer::fault(fault, question.from))
            }
            Ok(bounds) if bounds.limit <= bounds.from || question.wants_nothing() => {
                self.give_found(ticket, log, &question, &bounds, Vec::new())
            }
            Ok(bounds) => self.read_within(ticket, log, question, bounds),
        }
    }

    pub(super) fn read_within(
        &mut self,
        ticket: Ticket,
        log: LogId,
        question: ReadQuestion,
        bounds: ReadBounds,
    ) -> u32 {
        let token = self.reads.token();
        let request = ReadRequest {
            from: bounds.from,
            limit: bounds.limit,
            max_bytes: question.max_bytes,
            at_least_one: question.at_least_one,
            token,
        };
        match self.store.read(log, request) {
            ReadAnswer::Ready(batches) => self.give_found(ticket, log, &question, &bounds, batches),
            ReadAnswer::Failed(error) => self.give_failed(ticket, log, question, error),
            ReadAnswer::Pending => {
                let purpose = Purpose::Records { ticket, log, question, bounds };
                self.reads.open.insert(token, purpose);
                // How much it will be is not known yet; a log that has to be read from the disk
                // usually has a backlog.
                question.max_bytes
            }
        }
    }

    /// The disk answered a read.
    pub(super) fn take_read(&mut self, token: u64, result: Result<Vec<Bytes>, ReadError>) {
        match self.reads.open.remove(&token) {
            Some(Purpose::Records { ticket, log, question, bounds }) => match result {
                Ok(batches) => {
                    self.give_found(ticket, log, &question, &bounds, batches);
                }
                Err(error) => {
                    self.give_failed(ticket, log, question, error);
                }
            },
            Some(Purpose::News { follower, log, question, bounds }) => {
                self.tell_read(follower, log, question, bounds, result);
            }
            Some(Purpose::Load { log }) => self.take_load(log, result),
            Some(Purpose::Lag(read)) => self.take_lag_read(read, result),
            Some(Purpose::Time { .. }) | None => unreachable!("the store answers what was asked"),
        }
    }

    /// Gives what was read.
    fn give_found(
        &mut self,
        ticket: Ticket,
        log: LogId,
        question: &ReadQuestion,
        bounds: &ReadBounds,
        batches: Vec<Bytes>,
    ) -> u32 {
        let answer = self.found(log, question, bounds, batches);
        self.give(ticket, log, answer)
    }

    /// Says why there is nothing. But not that records are deleted which clients were told are there:
    /// they are as soon as the start is durable, and until then a crash may bring them back.
    fn give_failed(
        &mut self,
        ticket: Ticket,
        log: LogId,
        question: ReadQuestion,
        error: ReadError,
    ) -> u32 {
        if matches!(error, ReadError::OutOfRange { .. }) && self.store.is_start_on_its_way(log) {
            self.reads.late.push((log, ticket, Late::Records(question)));
            return 0;
        }
        self.note_unreadable(error);
        self.give(ticket, log, RecordsAnswer::fault(LogFault::Unreadable(error), question.from))
    }

    /// What was read, and for readers of committed records what they must leave out of it.
    pub(super) fn found(
        &self,
        log: LogId,
        question: &ReadQuestion,
        bounds: &ReadBounds,
        batches: Vec<Bytes>,
    ) -> RecordsAnswer {
        let answer = RecordsAnswer::new(bounds, batches);
        if !question.committed_only || answer.batches.is_empty() {
            return answer;
        }
        match self.aborted(log, bounds.from, answer.next) {
            Ok(aborted) => RecordsAnswer { aborted, ..answer },
            Err(why) => RecordsAnswer::fault(LogFault::Refused(why), question.from),
        }
    }

    /// The aborted transactions of a range that was read.
    fn aborted(
        &self,
        log: LogId,
        from: Offset,
        until: Offset,
    ) -> Result<Vec<(ProducerId, Offset)>, Refusal> {
        let partition = self.partitions.get(&log).ok_or(Refusal::Gone)?;
        let (start, end) = (partition.offsets().start(), partition.offsets().end());
        if from < start {
            // Deleted while it was read, and with the records what was known of their transactions.
            return Err(Refusal::OffsetOutOfRange { start, end });
        }
        let rows = partition.aborted(from, until);
        Ok(rows.map(|row| (row.producer_id, row.first_offset)).collect())
    }

    pub(super) fn give(&mut self, ticket: Ticket, log: LogId, answer: RecordsAnswer) -> u32 {
        let bytes: usize = answer.batches.iter().map(Bytes::len).sum();
        self.count_sent(log, bytes);
        self.answer(ticket, Answer::Records(Box::new(answer)));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Answers as soon as there are records at the offset.
    pub(super) fn watch(&mut self, ticket: Ticket, log: LogId, question: ReadQuestion) {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let isolation = isolation(question.committed_only);
        match partition.watch(ticket, question.from, isolation) {
            Watched::Armed => {
                self.reads.watchers.insert(ticket, question);
            }
            Watched::Ready { .. } => {
                self.read(ticket, log, question);
            }
            // The client's own wait ends it: nothing is lost but the early answer.
            Watched::Full => {}
        }
    }

    /// A watcher's time has come.
    pub(super) fn push(&mut self, ticket: Ticket, log: LogId) {
        if let Some(question) = self.reads.watchers.remove(&ticket) {
            self.read(ticket, log, question);
        }
    }

    /// A watcher's request is answered or gone.
    pub(super) fn unwatch(&mut self, ticket: Ticket, log: LogId) {
        if self.reads.watchers.remove(&ticket).is_some()
            && let Some(partition) = self.partitions.get_mut(&log)
        {
            partition.unwatch(ticket);
        }
    }

    /// Which offset a timestamp or special value means.
    pub(super) fn list_offset(&mut self, ticket: Ticket, log: LogId, wanted: OffsetQuestion) {
        let Some(partition) = self.partitions.get(&log) else {
            return self.answer(ticket, Answer::NotHere);
        };
        let isolation = isolation(wanted.committed_only);
        let latest = OffsetSpec::Latest(isolation);
        let spec = match wanted.timestamp {
            EARLIEST | EARLIEST_LOCAL => OffsetSpec::Earliest,
            _ => latest,
        };
        // By time or by value: the epoch is checked and the bound is known first.
        let listed = match partition.list_offset(wanted.epoch, spec) {
            Ok(listed) => listed,
            Err(refusal) => {
                return self.answer(ticket, Answer::Offset(Err(LogFault::Refused(refusal))));
            }
        };
        let found =
            |offset: Offset, epoch: LeaderEpoch| FoundOffset { offset, timestamp: -1, epoch };
        match wanted.timestamp {
            EARLIEST | EARLIEST_LOCAL | LATEST => {
                let answer = found(listed.offset, listed.leader_epoch);
                self.answer(ticket, Answer::Offset(Ok(answer)));
            }
            LATEST_TIERED => {
                let nothing = found(Offset::UNKNOWN, LeaderEpoch::UNKNOWN);
                self.answer(ticket, Answer::Offset(Ok(nothing)));
            }
            LARGEST_TIMESTAMP => {
                self.find_time((ticket, log), wanted, TimeQuery::Largest, listed.offset);
            }
            time => {
                let query = TimeQuery::AtOrAfter(time);
                self.find_time((ticket, log), wanted, query, listed.offset);
            }
        }
    }

    fn find_time(
        &mut self,
        (ticket, log): (Ticket, LogId),
        question: OffsetQuestion,
        query: TimeQuery,
        limit: Offset,
    ) {
        let (token, bytes_max) = (self.reads.token(), question.inflated_bytes_max);
        match self.store.find_time(log, query, limit, bytes_max, token) {
            TimeAnswer::Ready(found) => self.give_time((ticket, log), limit, question, Ok(found)),
            TimeAnswer::Failed(error) => self.give_time((ticket, log), limit, question, Err(error)),
            TimeAnswer::Pending => {
                let purpose = Purpose::Time { ticket, log, limit, question };
                self.reads.open.insert(token, purpose);
            }
        }
    }

    /// The start of a log is durable, or the log is gone: whoever waited for that asks again.
    pub(super) fn ask_late(&mut self, log: LogId) {
        let late = self.reads.late.extract_if(.., |(other, ..)| *other == log);
        let late: Vec<_> = late.collect();
        for (log, ticket, late) in late {
            match late {
                Late::Records(question) => {
                    self.read(ticket, log, question);
                }
                Late::Time(question) => self.list_offset(ticket, log, question),
            }
        }
    }

    /// The disk answered a look-up by time.
    pub(super) fn take_time(&mut self, token: u64, result: Result<Option<TimedRecord>, ReadError>) {
        match self.reads.open.remove(&token) {
            Some(Purpose::Time { ticket, log, limit, question }) => {
                self.give_time((ticket, log), limit, question, result);
            }
            Some(
                Purpose::Records { .. }
                | Purpose::News { .. }
                | Purpose::Load { .. }
                | Purpose::Lag(_),
            )
            | None => {
                unreachable!("the store answers what was asked")
            }
        }
    }

    /// Answers a look-up by time, but not while what it passed over as deleted may come back: a crash
    /// may find the log with the start it had before.
    fn give_time(
        &mut self,
        (ticket, log): (Ticket, LogId),
        limit: Offset,
        question: OffsetQuestion,
        result: Result<Option<TimedRecord>, ReadError>,
    ) {
        if result.is_ok() && self.store.is_start_on_its_way(log) {
            return self.reads.late.push((log, ticket, Late::Time(question)));
        }
        let start = self.partitions.get(&log).map(|partition| partition.offsets().start());
        let answer = match result {
            Err(error) => {
                self.note_unreadable(error);
                Err(LogFault::Unreadable(error))
            }
            Ok(Some(found)) if found.offset < limit && Some(found.offset) >= start => {
                let TimedRecord { offset, timestamp, epoch } = found;
                Ok(FoundOffset { offset, timestamp, epoch })
            }
            Ok(Some(_) | None) => Ok(FoundOffset {
                offset: Offset::UNKNOWN,
                timestamp: -1,
                epoch: LeaderEpoch::UNKNOWN,
            }),
        };
        self.answer(ticket, Answer::Offset(answer));
    }
}

impl ReadQuestion {
    /// The same question within what is left of an allowance.
    pub(super) fn within(self, allowance: u32) -> Self {
        let max_bytes = self.max_bytes.min(allowance);
        Self { max_bytes, at_least_one: self.at_least_one && allowance > 0, ..self }
    }

    /// Whether only the ends of the log are of interest.
    pub(super) fn wants_nothing(self) -> bool {
        self.max_bytes == 0 && !self.at_least_one
    }
}

impl RecordsAnswer {
    pub(super) fn new(bounds: &ReadBounds, batches: Vec<Bytes>) -> Self {
        let end = batches.last().and_then(|batch| BatchHeader::parse(batch));
        Self {
            fault: None,
            high_watermark: bounds.high_watermark,
            last_stable: bounds.last_stable,
            start: bounds.start_offset,
            next: end.map_or(bounds.from, |header| header.last_offset().after(1)),
            batches,
            followed: None,
            aborted: Vec::new(),
        }
    }

    pub(super) fn fault(fault: LogFault, from: Offset) -> Self {
        Self {
            fault: Some(fault),
            high_watermark: Offset::UNKNOWN,
            last_stable: Offset::UNKNOWN,
            start: Offset::UNKNOWN,
            next: from,
            batches: Vec::new(),
            followed: None,
            aborted: Vec::new(),
        }
    }
}

pub(super) fn query(question: &ReadQuestion) -> ReadQuery {
    ReadQuery {
        offset: question.from,
        leader_epoch: question.epoch,
        isolation: isolation(question.committed_only),
    }
}

fn isolation(committed_only: bool) -> Isolation {
    if committed_only { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_keeps_within_what_is_left() {
        let question = ReadQuestion {
            from: Offset(3),
            epoch: LeaderEpoch::UNKNOWN,
            committed_only: false,
            max_bytes: 1000,
            at_least_one: true,
            answer_bytes_max: 5000,
        };
        let asked = |allowance| {
            let within = question.within(allowance);
            (within.max_bytes, within.at_least_one, within.wants_nothing())
        };
        assert_eq!(asked(2000), (1000, true, false));
        // The first batch may still go over it, or a large one could never be read.
        assert_eq!(asked(10), (10, true, false));
        assert_eq!(asked(0), (0, false, true));
    }
}

//! All transactional ids of one partition of the log of transactions.
//!
//! Does: route a request to its id, write the record of what changed, announce markers that are owed,
//! end what takes too long and forget what nobody uses.
//! Does not: know the rules of epochs and ends; `init`, `end` and `state` do.
//! Invariants: what is announced rests on committed records; every transaction that is under way has
//! a deadline; `bytes` is the sum of all weights.
//! Apart because it is the only place that knows all ids.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};

use super::TransactionConfig;
use super::end::{self, Asked};
use super::init::{Initialised, init};
use super::parked::{Parked, ParkedAdds};
use super::partitions::Partitions;
use super::requests::{
    Ending, Owed, TransactionEffect, TransactionFilter, TransactionRequest, TransactionResponse,
    TransactionRow,
};
use super::state::{ClientVersion, Outcome, Producer, State, Transaction};
use super::stored::{self, Stored};
use crate::coordinator::Ticket;
use crate::coordinator::machine::{Machine, ReplayError, StateRecord};
use crate::dice::Dice;
use crate::limits::{
    COORDINATOR_RECORD_BYTES_MAX, COORDINATOR_TRANSACTIONS_BYTES_MAX, TRANSACTION_IDS_PER_STEP,
    TRANSACTION_PARTITIONS_MAX, TRANSACTIONS_ENDED_PER_TURN_MAX,
};

/// What an id takes in memory beside its text, which is kept up to three times, and its partitions.
const ID_BYTES: usize = 500;

/// The coordinator of one partition of the log of transactions.
#[derive(Clone, Debug)]
pub struct TransactionCoordinator {
    config: TransactionConfig,
    transactions: BTreeMap<String, Transaction>,
    /// What all of them weigh.
    bytes: usize,
    /// When the transactions under way are to be aborted; each has one place.
    deadlines: BTreeSet<(Monotonic, String)>,
    deadline_of: BTreeMap<String, Monotonic>,
    parked: ParkedAdds,
    /// When to look for ids nobody uses, and the last id that was looked at.
    next_sweep: Option<Monotonic>,
    swept: Option<String>,
    /// How many bytes all of it may weigh.
    weight_max: usize,
}

impl Machine for TransactionCoordinator {
    type Notice = Owed;
    /// Transactions are not written down within transactions.
    const HAS_TRANSACTIONS: bool = false;

    fn new(config: TransactionConfig) -> Self {
        Self {
            config,
            transactions: BTreeMap::new(),
            bytes: 0,
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            parked: ParkedAdds::default(),
            next_sweep: None,
            swept: None,
            weight_max: usize::MAX,
        }
    }

    fn replay(
        &mut self,
        within: Option<ProducerId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        assert_eq!(within, None, "the runtime refuses them");
        match stored::read(key, value)? {
            Stored::Transaction(id, transaction) => {
                self.bytes += weight(&id, &transaction);
                if let Some(before) = self.transactions.insert(id.clone(), *transaction) {
                    self.bytes -= weight(&id, &before);
                }
            }
            Stored::Gone(id) => self.forget(&id),
            Stored::Skipped => {}
        }
        Ok(())
    }

    fn ended(&mut self, _producer: ProducerId, _outcome: Outcome) {}

    /// Markers of ends that were decided are owed again, and what is under way has as much of its time
    /// left as the wall clock says, if it is to be believed.
    fn loaded(&mut self, now: Now, out: &mut Vec<TransactionEffect>) {
        let under_way = |it: &Transaction| it.is_prepared() || it.state == State::Ongoing;
        let ids = self.transactions.iter().filter(|(_, it)| under_way(it));
        let ids: Vec<String> = ids.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let it = &self.transactions[&id];
            if it.is_prepared() {
                self.end_written(now, &id, out);
            } else {
                let timeout = i64::from(it.timeout_ms);
                let gone = it.started.map_or(0, |started| now.wall.0.saturating_sub(started.0));
                let left = (timeout - gone.max(0)).clamp(0, timeout.max(0));
                let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                self.set_deadline(&id, Some(now.monotonic.after(left)));
            }
        }
        self.arm_sweep(now);
    }

    fn handle(
        &mut self,
        now: Now,
        _dice: &mut Dice,
        ticket: Ticket,
        request: TransactionRequest,
        out: &mut Vec<TransactionEffect>,
    ) {
        let response = match request {
            TransactionRequest::Init { id, timeout_ms, asked, fresh } => {
                return self.init(now, ticket, &id, (timeout_ms, asked, fresh), out);
            }
            TransactionRequest::Add { id, producer, partitions, version } => {
                let add = Parked { ticket, producer, partitions, version };
                return self.add(now, &id, add, out);
            }
            TransactionRequest::End { id, producer, outcome, version, fresh } => {
                return self.end(now, ticket, &id, (producer, outcome, version, fresh), out);
            }
            TransactionRequest::MarkersWritten { id, producer } => {
                return self.markers_written(now, ticket, &id, producer, out);
            }
            TransactionRequest::Verify { id, producer, partitions } => {
                TransactionResponse::Verify(self.verify(&id, producer, &partitions))
            }
            TransactionRequest::Describe { id } => {
                let row = self.transactions.get(&id).map(|it| {
                    Box::new(TransactionRow { partitions: it.partitions.clone(), ..row(&id, it) })
                });
                TransactionResponse::Describe(row.ok_or(ErrorCode::TransactionalIdNotFound))
            }
            TransactionRequest::List { wanted } => {
                let all = self.transactions.iter();
                let rows = all.filter(|(_, it)| is_wanted(it, &wanted, now.wall));
                TransactionResponse::List(Ok(rows.map(|(id, it)| row(id, it)).collect()))
            }
        };
        out.push(TransactionEffect::Reply { ticket, response });
    }

    /// A bounded number of things at a time.
    fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<TransactionEffect>) {
        for ticket in self.parked.expire(now.monotonic) {
            let response = TransactionResponse::Add(ErrorCode::ConcurrentTransactions);
            out.push(TransactionEffect::Reply { ticket, response });
        }
        for _ in 0..TRANSACTIONS_ENDED_PER_TURN_MAX {
            let Some((due, _)) = self.deadlines.first() else { break };
            if *due > now.monotonic {
                break;
            }
            let (_, id) = self.deadlines.pop_first().expect("just looked at");
            self.deadline_of.remove(&id);
            self.abort_late(now, &id, out);
        }
        if self.next_sweep.is_some_and(|at| at <= now.monotonic) {
            match wall {
                WallTrust::Trusted => self.sweep(now, out),
                WallTrust::Doubted => self.arm_sweep(now),
            }
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let late = self.deadlines.first().map(|(due, _)| *due);
        late.into_iter().chain(self.parked.next_deadline()).chain(self.next_sweep).min()
    }

    /// Those that wait for markers.
    fn weight_bytes(&self) -> usize {
        self.bytes
    }

    fn set_weight_max(&mut self, bytes: usize) {
        self.weight_max = bytes;
    }

    fn parked(&self, error: ErrorCode) -> Vec<(Ticket, TransactionResponse)> {
        self.parked.tickets().map(|ticket| (ticket, TransactionResponse::Add(error))).collect()
    }
}

/// What metrics see.
impl TransactionCoordinator {
    /// How many ids there are.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.transactions.len()
    }

    /// The states of transactions that are not over, with when they began: one that hangs keeps readers of
    /// committed records from going on.
    pub fn under_way(&self) -> impl Iterator<Item = (State, Option<Wall>)> {
        let all = self.transactions.values();
        let open = all.filter(|it| it.state == State::Ongoing || it.is_prepared());
        open.map(|it| (it.state, it.started))
    }
}

/// Requests that change something.
impl TransactionCoordinator {
    fn init(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: &str,
        (timeout_ms, asked, fresh): (i32, Option<Producer>, Option<ProducerId>),
        out: &mut Vec<TransactionEffect>,
    ) {
        let response = match self.try_init(now, id, (timeout_ms, asked, fresh)) {
            Ok(Initialised::Ready) => TransactionResponse::Init(Ok(self.transactions[id].producer)),
            // Its end is written first; the client asks again.
            Ok(Initialised::Aborting) => {
                TransactionResponse::Init(Err(ErrorCode::ConcurrentTransactions))
            }
            Ok(Initialised::WantsId) => {
                let response = TransactionResponse::WantsProducerId;
                return out.push(TransactionEffect::Reply { ticket, response });
            }
            Err(error) => {
                let response = TransactionResponse::Init(Err(error));
                return out.push(TransactionEffect::Reply { ticket, response });
            }
        };
        self.set_deadline(id, None);
        self.write(now, id, vec![(ticket, response)], out);
    }

    fn try_init(
        &mut self,
        now: Now,
        id: &str,
        (timeout_ms, asked, fresh): (i32, Option<Producer>, Option<ProducerId>),
    ) -> Result<Initialised, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if !(1..=self.config.max_timeout_ms).contains(&timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        if !self.transactions.contains_key(id) {
            let Some(producer) = fresh else { return Ok(Initialised::WantsId) };
            let it = Transaction::new(producer, timeout_ms, now.wall);
            self.has_room(weight(id, &it))?;
            self.bytes += weight(id, &it);
            self.transactions.insert(id.to_owned(), it);
        }
        self.change(id, |it| init(it, asked, timeout_ms, fresh, now.wall))
    }

    fn add(&mut self, now: Now, id: &str, add: Parked, out: &mut Vec<TransactionEffect>) {
        let Parked { ticket, producer, ref partitions, version } = add;
        let error = match self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping) {
            Err(error) => error,
            // Asked before anything else: a client whose producer is used up comes as the next one,
            // which is not in force yet. The markers take a moment; clients would ask again and again.
            Ok(it) if it.is_prepared() => match self.parked.park(now.monotonic, id, add) {
                Ok(()) => return,
                Err(_) => ErrorCode::ConcurrentTransactions,
            },
            Ok(it) => match self.may_add(id, it, producer, partitions) {
                Err(error) => error,
                Ok(false) => ErrorCode::None,
                Ok(true) => return self.add_new(now, id, (ticket, add.partitions, version), out),
            },
        };
        let response = TransactionResponse::Add(error);
        out.push(TransactionEffect::Reply { ticket, response });
    }

    /// Whether anything is to be added, and whether it may be.
    fn may_add(
        &self,
        id: &str,
        it: &Transaction,
        producer: Producer,
        partitions: &Partitions,
    ) -> Result<bool, ErrorCode> {
        fence(it, producer)?;
        let missing = it.partitions.missing(partitions);
        if it.state == State::Ongoing && missing.is_empty() {
            return Ok(false);
        }
        let record_bytes =
            it.partitions.record_bytes_max() + missing.record_bytes_max() + id.len() + RECORD_BYTES;
        let count = it.partitions.count() + missing.count();
        if count > TRANSACTION_PARTITIONS_MAX || record_bytes > COORDINATOR_RECORD_BYTES_MAX {
            return Err(ErrorCode::InvalidTxnState);
        }
        self.has_room(missing.weight_bytes())?;
        Ok(true)
    }

    fn add_new(
        &mut self,
        now: Now,
        id: &str,
        (ticket, partitions, version): (Ticket, Partitions, ClientVersion),
        out: &mut Vec<TransactionEffect>,
    ) {
        let (is_new, timeout_ms) = self.change(id, |it| {
            let is_new = it.state != State::Ongoing;
            it.add(partitions, version, now.wall);
            (is_new, it.timeout_ms)
        });
        if is_new {
            let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
            self.set_deadline(id, Some(now.monotonic.after(timeout)));
        }
        let replies = vec![(ticket, TransactionResponse::Add(ErrorCode::None))];
        self.write(now, id, replies, out);
    }

    fn end(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: &str,
        (producer, outcome, version, fresh): (Producer, Outcome, ClientVersion, Option<ProducerId>),
        out: &mut Vec<TransactionEffect>,
    ) {
        let judged = match self.transactions.get(id) {
            Some(it) => end::judge(it, producer, outcome, version).map(|asked| (asked, it)),
            None => Err(ErrorCode::InvalidProducerIdMapping),
        };
        let response = match judged {
            Err(error) => TransactionResponse::End(Err(error)),
            Ok((Asked::Again, it)) => TransactionResponse::End(Ok(it.producer)),
            Ok((Asked::New, it)) => {
                let needs_id = version.bumps() && it.producer.is_used_up();
                match (needs_id, fresh) {
                    (true, None) => TransactionResponse::WantsProducerId,
                    (true, Some(_)) | (false, _) => {
                        let fresh = fresh.filter(|_| needs_id);
                        let told = self.change(id, |it| {
                            it.decide(outcome, version, fresh, now.wall);
                            it.told()
                        });
                        self.set_deadline(id, None);
                        let replies = vec![(ticket, TransactionResponse::End(Ok(told)))];
                        return self.write(now, id, replies, out);
                    }
                }
            }
        };
        out.push(TransactionEffect::Reply { ticket, response });
    }

    fn markers_written(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: &str,
        producer: Producer,
        out: &mut Vec<TransactionEffect>,
    ) {
        let response = TransactionResponse::MarkersWritten(ErrorCode::None);
        let is_owed = |it: &Transaction| it.is_prepared() && it.producer == producer;
        if !self.transactions.get(id).is_some_and(is_owed) {
            // Reported twice, after a load.
            return out.push(TransactionEffect::Reply { ticket, response });
        }
        self.complete(now, id, vec![(ticket, response)], out);
    }

    fn verify(
        &self,
        id: &str,
        producer: Producer,
        partitions: &Partitions,
    ) -> Result<Partitions, ErrorCode> {
        let it = self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        fence(it, producer)?;
        if it.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(it.partitions.missing(partitions))
    }
}

/// What nobody asks for.
impl TransactionCoordinator {
    fn abort_late(&mut self, now: Now, id: &str, out: &mut Vec<TransactionEffect>) {
        self.change(id, |it| it.fence(now.wall));
        self.write(now, id, Vec::new(), out);
    }

    fn sweep(&mut self, now: Now, out: &mut Vec<TransactionEffect>) {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.transactions.range((from, Bound::Unbounded));
        let step: Vec<String> =
            ids.map(|(id, _)| id.clone()).take(TRANSACTION_IDS_PER_STEP).collect();
        let is_unused = |it: &Transaction| {
            matches!(it.state, State::Empty | State::Complete(_))
                && now.wall.0.saturating_sub(it.updated.0) >= self.config.id_expiration_ms
        };
        let unused: Vec<&String> =
            step.iter().filter(|id| is_unused(&self.transactions[*id])).collect();
        let records: Vec<StateRecord> = unused.iter().map(|id| stored::tombstone(id)).collect();
        unused.iter().for_each(|id| self.forget(id));
        if !records.is_empty() {
            out.push(TransactionEffect::Append { records, replies: Vec::new() });
        }
        if step.len() == TRANSACTION_IDS_PER_STEP {
            self.swept = step.last().cloned();
            self.next_sweep = Some(now.monotonic);
        } else {
            self.arm_sweep(now);
        }
    }

    fn arm_sweep(&mut self, now: Now) {
        let interval = Duration::from_millis(self.config.id_expiration_check_interval_ms);
        self.next_sweep = Some(now.monotonic.after(interval));
    }

    fn set_deadline(&mut self, id: &str, due: Option<Monotonic>) {
        if let Some(before) = self.deadline_of.remove(id) {
            let was_there = self.deadlines.remove(&(before, id.to_owned()));
            assert!(was_there, "a deadline has its place");
        }
        if let Some(due) = due {
            self.deadline_of.insert(id.to_owned(), due);
            self.deadlines.insert((due, id.to_owned()));
        }
    }
}

/// Writing down.
impl TransactionCoordinator {
    /// Writes the id's record; if its end is decided, markers are owed as soon as that is committed.
    fn write(
        &mut self,
        now: Now,
        id: &str,
        replies: Vec<(Ticket, TransactionResponse)>,
        out: &mut Vec<TransactionEffect>,
    ) {
        self.append(id, replies, out);
        if self.transactions[id].is_prepared() {
            self.end_written(now, id, out);
        }
    }

    /// The decision to end is written: announces the markers that are owed. An end without partitions
    /// owes none and is complete at once.
    fn end_written(&mut self, now: Now, id: &str, out: &mut Vec<TransactionEffect>) {
        let it = &self.transactions[id];
        if it.partitions.is_empty() {
            self.complete(now, id, Vec::new(), out);
        } else {
            out.push(TransactionEffect::Announce(owed(id, it)));
        }
    }

    /// Every partition has its marker: says so, and lets those in who waited for that.
    fn complete(
        &mut self,
        now: Now,
        id: &str,
        replies: Vec<(Ticket, TransactionResponse)>,
        out: &mut Vec<TransactionEffect>,
    ) {
        self.change(id, |it| it.complete(now.wall));
        self.append(id, replies, out);
        for add in self.parked.take(id) {
            self.add(now, id, add, out);
        }
    }

    fn append(
        &self,
        id: &str,
        replies: Vec<(Ticket, TransactionResponse)>,
        out: &mut Vec<TransactionEffect>,
    ) {
        let records = vec![stored::record(id, &self.transactions[id])];
        out.push(TransactionEffect::Append { records, replies });
    }

    /// Changes a transaction that is there, and counts what it weighs then.
    fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Transaction) -> T) -> T {
        let it = self.transactions.get_mut(id).expect("what changes is there");
        let before = weight(id, it);
        let result = change(it);
        self.bytes = self.bytes - before + weight(id, it);
        result
    }

    fn forget(&mut self, id: &str) {
        if let Some(gone) = self.transactions.remove(id) {
            self.bytes -= weight(id, &gone);
        }
    }

    fn has_room(&self, bytes: usize) -> Result<(), ErrorCode> {
        if self.bytes + bytes > COORDINATOR_TRANSACTIONS_BYTES_MAX.min(self.weight_max) {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }
}

/// What a record takes beside the id and the partitions, at most.
const RECORD_BYTES: usize = 128;

fn weight(id: &str, it: &Transaction) -> usize {
    ID_BYTES + 3 * id.len() + it.partitions.weight_bytes()
}

/// Whether this is the producer the id has now.
fn fence(it: &Transaction, producer: Producer) -> Result<(), ErrorCode> {
    if it.producer.id != producer.id {
        Err(ErrorCode::InvalidProducerIdMapping)
    } else if it.producer.epoch != producer.epoch {
        Err(ErrorCode::ProducerFenced)
    } else {
        Ok(())
    }
}

fn owed(id: &str, it: &Transaction) -> Owed {
    let State::Prepared(outcome) = it.state else { unreachable!("its end is decided") };
    let ending = Ending { producer: it.producer, outcome, version: it.client_version };
    Owed { id: id.to_owned(), ending, partitions: it.partitions.clone() }
}

fn row(id: &str, it: &Transaction) -> TransactionRow {
    TransactionRow {
        id: id.to_owned(),
        producer: it.producer,
        state: it.state,
        timeout_ms: it.timeout_ms,
        started: it.started,
        partitions: Partitions::default(),
    }
}

fn is_wanted(it: &Transaction, wanted: &TransactionFilter, now: Wall) -> bool {
    let lasts_ms = it.started.map_or(i64::MAX, |started| now.0.saturating_sub(started.0));
    wanted.states.as_ref().is_none_or(|states| states.contains(&it.state))
        && (wanted.producers.is_empty() || wanted.producers.contains(&it.producer.id))
        && wanted.longer_than_ms.is_none_or(|longest_ms| lasts_ms > longest_ms)
}

//! Runs a machine on top of a log: what it decides becomes batches, what waits for them is answered
//! when they are committed.
//!
//! Does: load from the log, gather the records of a turn into one batch (and those of a transaction
//! into one of their own), hold answers and notices back until everything written before them is
//! committed, throw the machine away when that fails.
//! Does not: append, replicate or read; its owner carries the effects out.
//! Invariants: answers leave in the order of the decisions behind them, and none before the records
//! it rests on are committed (what [`Exchange::waits`] excepts apart); batches are numbered as they
//! are handed out and committed in that order; of the answers whose time has come only so many leave
//! at once, since a group of a thousand members is told everything in one turn.
//! Apart because groups and transactions are run the same way.
//!
//! ```text
//! Idle --begin_load--> Loading --finish_load--> Active
//!   ^                     |                       |
//!   +------- resign, a failed append, a damaged log
//! ```

use std::collections::VecDeque;

use bytes::BytesMut;
use flumen_protocol::batch::builder::BatchBuilder;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerId, Sequence};
use flumen_protocol::time::{Monotonic, Now, WallTrust};

use super::Ticket;
use super::machine::{Decision, DecisionOf, Exchange, Machine, ReplayError, StateRecord};
use super::packing::{is_full_for, push};
use super::producer::{Outcome, Producer};
use super::replay::replay_all;
use crate::dice::Dice;
use crate::limits::{COORDINATOR_ANSWERS_PER_STEP, COORDINATOR_BATCHES_IN_FLIGHT_MAX};

/// What a coordinator wants its owner to do.
#[derive(Debug)]
pub enum CoordinatorEffect<R, N> {
    /// Answer now.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// With what.
        response: R,
    },
    /// Append this batch to the coordinator's partition and report with
    /// [`Coordinator::appended`] when it is committed or known to have failed.
    Append {
        /// One whole batch of format 2, offsets and epoch not stamped.
        batch: BytesMut,
        /// Its number: one more than the last one's.
        id: u64,
    },
    /// Take notice; what it rests on is committed.
    Announce(N),
}

/// What the coordinator of a machine wants.
pub type EffectOf<M> = CoordinatorEffect<<M as Exchange>::Response, <M as Machine>::Notice>;

/// Why a batch was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// This broker does not lead the partition any more, or cannot store it.
    NotLeader,
    /// The partition cannot commit now, say for lack of replicas.
    Unavailable,
}

/// Where a coordinator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It coordinates nothing: this broker does not lead the partition.
    Idle,
    /// It reads its log and refuses requests with COORDINATOR_LOAD_IN_PROGRESS.
    Loading,
    /// It serves.
    Active,
}

/// The coordinator of one partition of an internal topic.
pub struct Coordinator<M: Machine> {
    config: M::Config,
    phase: Phase,
    /// Invariant: empty unless loading or active.
    machine: M,
    /// The batch of this turn.
    open: Gathering<M>,
    /// Handed out and not committed, oldest first.
    in_flight: VecDeque<InFlight<M>>,
    /// Answers whose time has come, oldest first: some leave with each call. Invariant: empty unless
    /// active.
    ready: VecDeque<(Ticket, M::Response)>,
    next_id: u64,
    /// Ends of transactions that were committed while the log is replayed. Invariant: empty unless
    /// loading.
    late_ends: Vec<(ProducerId, Outcome)>,
}

/// Who is told something when a batch is committed.
struct Audience<M: Machine> {
    replies: Vec<(Ticket, M::Response)>,
    notices: Vec<M::Notice>,
}

impl<M: Machine> Default for Audience<M> {
    fn default() -> Self {
        Self { replies: Vec::new(), notices: Vec::new() }
    }
}

/// A batch being gathered, with those that wait for it.
struct Gathering<M: Machine> {
    batch: BatchBuilder,
    audience: Audience<M>,
}

impl<M: Machine> Default for Gathering<M> {
    fn default() -> Self {
        Self { batch: BatchBuilder::default(), audience: Audience::default() }
    }
}

/// A batch that is on its way, with those that wait for it.
struct InFlight<M: Machine> {
    id: u64,
    /// When those who wait for an answer are told that it takes too long.
    deadline: Monotonic,
    audience: Audience<M>,
}

impl<M: Machine> Coordinator<M> {
    /// A coordinator that is idle.
    #[must_use]
    pub fn new(config: M::Config) -> Self {
        Self {
            machine: M::new(config.clone()),
            config,
            phase: Phase::Idle,
            open: Gathering::default(),
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            next_id: 0,
            late_ends: Vec::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The machine, for metrics; none unless active.
    #[must_use]
    pub fn machine(&self) -> Option<&M> {
        (self.phase == Phase::Active).then_some(&self.machine)
    }

    /// The machine, to be told what does not stand in its log. What it knows of that is gone with the
    /// machine, and must be told again when a load begins.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// What the machine weighs in memory, bytes, roughly, and whatever the phase.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.machine.weight_bytes()
    }

    /// The machine may weigh so many bytes from now on ([`Machine::set_weight_max`]); as much as it likes
    /// after each load, until it is told.
    pub fn set_weight_max(&mut self, bytes: usize) {
        self.machine.set_weight_max(bytes);
    }

    /// Whether a request would be looked at now, and not refused unseen.
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        self.phase == Phase::Active && self.in_flight.len() < COORDINATOR_BATCHES_IN_FLIGHT_MAX
    }

    /// This broker leads the partition now: the log is going to be replayed.
    ///
    /// # Panics
    /// Unless idle; [`Coordinator::resign`] comes first.
    pub fn begin_load(&mut self) {
        assert_eq!(self.phase, Phase::Idle, "a coordinator is loaded from idle");
        assert!(self.in_flight.is_empty() && self.open.audience.replies.is_empty(), "nobody waits");
        assert!(self.ready.is_empty(), "everybody was told");
        self.phase = Phase::Loading;
    }

    /// Replays whole batches of the log that lie back to back, oldest first.
    ///
    /// # Errors
    /// When they are damaged or not what a coordinator writes; the coordinator is idle then.
    ///
    /// # Panics
    /// Unless loading.
    pub fn replay_batch(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        assert_eq!(self.phase, Phase::Loading, "a log is replayed while loading");
        let replayed = replay_all(&mut self.machine, bytes);
        if replayed.is_err() {
            self.drop_machine();
        }
        replayed
    }

    /// The log was replayed to its end: requests are served from now on.
    ///
    /// To be called when everything an earlier machine may have appended is committed or cut off:
    /// when this leader has committed an entry of its own term, and whatever it appended itself for
    /// a machine that was dropped; otherwise what was loaded could differ from what becomes committed.
    ///
    /// # Panics
    /// Unless loading.
    pub fn finish_load(&mut self, now: Now, out: &mut Vec<EffectOf<M>>) {
        assert_eq!(self.phase, Phase::Loading, "what was not begun cannot be finished");
        self.phase = Phase::Active;
        for (producer, outcome) in std::mem::take(&mut self.late_ends) {
            self.machine.ended(producer, outcome);
        }
        let mut decided = Vec::new();
        self.machine.loaded(now, &mut decided);
        self.gather(now, decided, out);
        self.tell(out);
    }

    /// This broker does not lead the partition any more: everything in memory is dropped and
    /// everybody who waits is sent to find the new coordinator.
    pub fn resign(&mut self, out: &mut Vec<EffectOf<M>>) {
        self.fail(ErrorCode::NotCoordinator, out);
    }

    /// A transaction with records in this log has ended: its marker is committed here.
    pub fn transaction_ended(&mut self, producer: ProducerId, outcome: Outcome) {
        match self.phase {
            // The marker lies in the log that will be replayed.
            Phase::Idle => {}
            // It may lie behind the end to which the log is replayed.
            Phase::Loading => self.late_ends.push((producer, outcome)),
            Phase::Active => self.machine.ended(producer, outcome),
        }
    }

    /// Handles a request. Its records, if any, leave with [`Coordinator::settle`].
    pub fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: M::Request,
        out: &mut Vec<EffectOf<M>>,
    ) {
        if let Some(response) = self.refusal(&request) {
            out.push(CoordinatorEffect::Reply { ticket, response });
            return;
        }
        let mut decided = Vec::new();
        self.machine.handle(now, dice, ticket, request, &mut decided);
        self.gather(now, decided, out);
        self.tell(out);
    }

    /// Does what has fallen due. Nothing expires by a wall clock that is in doubt.
    pub fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<EffectOf<M>>) {
        for batch in self.in_flight.iter_mut().take_while(|batch| batch.deadline <= now.monotonic) {
            let late = batch.audience.replies.drain(..);
            self.ready.extend(late.map(|(ticket, response)| (ticket, M::timed_out(response))));
        }
        if self.phase == Phase::Active {
            let mut decided = Vec::new();
            self.machine.on_time(now, wall, &mut decided);
            self.gather(now, decided, out);
        }
        self.tell(out);
    }

    /// Hands out what this turn's requests and alarms have gathered, as one batch. To be called
    /// once at the end of a turn.
    pub fn settle(&mut self, now: Now, out: &mut Vec<EffectOf<M>>) {
        if self.open.batch.record_count() > 0 {
            self.close_batch(now, out);
        }
    }

    /// Batch `id` and all before it are committed, or it failed and this broker has to load the
    /// partition again before it serves.
    ///
    /// # Panics
    /// When the batch was never handed out.
    pub fn appended(
        &mut self,
        id: u64,
        outcome: Result<(), AppendFailure>,
        out: &mut Vec<EffectOf<M>>,
    ) {
        assert!(id < self.next_id, "batch {id} was never handed out");
        match outcome {
            Ok(()) => {
                while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.id <= id) {
                    self.ready.extend(batch.audience.replies);
                    out.extend(batch.audience.notices.into_iter().map(CoordinatorEffect::Announce));
                }
                self.tell(out);
            }
            // A batch of a machine that was dropped before does not concern this one.
            Err(_) if self.in_flight.front().is_none_or(|oldest| id < oldest.id) => {}
            Err(AppendFailure::NotLeader) => self.fail(ErrorCode::NotCoordinator, out),
            Err(AppendFailure::Unavailable) => self.fail(ErrorCode::CoordinatorNotAvailable, out),
        }
    }

    /// When [`Coordinator::on_time`] must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if !self.ready.is_empty() {
            return Some(Monotonic(0));
        }
        let waiting = self.in_flight.iter().find(|batch| !batch.audience.replies.is_empty());
        let timer = (self.phase == Phase::Active).then(|| self.machine.next_deadline()).flatten();
        waiting.map(|batch| batch.deadline).into_iter().chain(timer).min()
    }

    /// What to answer without asking the machine, if it cannot be asked.
    fn refusal(&self, request: &M::Request) -> Option<M::Response> {
        let error = match self.phase {
            Phase::Idle => ErrorCode::NotCoordinator,
            Phase::Loading => M::while_loading(request),
            Phase::Active if self.in_flight.len() < COORDINATOR_BATCHES_IN_FLIGHT_MAX => {
                return None;
            }
            Phase::Active => ErrorCode::CoordinatorNotAvailable,
        };
        Some(M::refuse(request, error))
    }

    /// Puts records into the open batch, and answers behind the records they rest on.
    fn gather(&mut self, now: Now, decided: Vec<DecisionOf<M>>, out: &mut Vec<EffectOf<M>>) {
        for decision in decided {
            match decision {
                Decision::Reply { ticket, response } if !M::waits(&response) => {
                    out.push(CoordinatorEffect::Reply { ticket, response });
                }
                Decision::Reply { ticket, response } => match self.awaited() {
                    Some(audience) => audience.replies.push((ticket, response)),
                    None => self.ready.push_back((ticket, response)),
                },
                Decision::Announce(notice) => match self.awaited() {
                    Some(audience) => audience.notices.push(notice),
                    None => out.push(CoordinatorEffect::Announce(notice)),
                },
                Decision::Append { records, replies } => {
                    for record in &records {
                        self.gather_record(now, record, out);
                    }
                    self.open.audience.replies.extend(replies);
                }
                Decision::AppendPacked { batches, replies } => {
                    for batch in batches {
                        self.settle(now, out);
                        self.open.batch = batch;
                    }
                    self.open.audience.replies.extend(replies);
                }
                Decision::AppendWithin { producer, records, replies } => {
                    self.settle(now, out);
                    self.begin_within(producer);
                    for record in &records {
                        push(&mut self.open.batch, now, record);
                    }
                    self.open.audience.replies.extend(replies);
                    self.close_batch(now, out);
                }
            }
        }
    }

    /// Lets answers leave whose time has come, as many as one turn can carry.
    fn tell(&mut self, out: &mut Vec<EffectOf<M>>) {
        let count = self.ready.len().min(COORDINATOR_ANSWERS_PER_STEP);
        out.extend(self.ready.drain(..count).map(reply));
    }

    /// Those who are told when the last record that is not committed is; none if all are.
    fn awaited(&mut self) -> Option<&mut Audience<M>> {
        if self.open.batch.record_count() > 0 {
            Some(&mut self.open.audience)
        } else {
            self.in_flight.back_mut().map(|last| &mut last.audience)
        }
    }

    /// The next batch is part of this producer's transaction. A coordinator's records are not numbered.
    fn begin_within(&mut self, producer: Producer) {
        assert_eq!(self.open.batch.record_count(), 0, "a batch has one producer");
        let batch = std::mem::take(&mut self.open.batch);
        self.open.batch =
            batch.with_producer(producer.id, producer.epoch, Sequence::NONE).transactional();
    }

    fn gather_record(&mut self, now: Now, record: &StateRecord, out: &mut Vec<EffectOf<M>>) {
        if is_full_for(&self.open.batch, now, record) {
            self.close_batch(now, out);
        }
        push(&mut self.open.batch, now, record);
    }

    fn close_batch(&mut self, now: Now, out: &mut Vec<EffectOf<M>>) {
        let Gathering { batch, audience } = std::mem::take(&mut self.open);
        let id = self.next_id;
        self.next_id += 1;
        let deadline = now.monotonic.after(M::commit_timeout(&self.config));
        self.in_flight.push_back(InFlight { id, deadline, audience });
        out.push(CoordinatorEffect::Append { batch: batch.finish(), id });
    }

    fn fail(&mut self, error: ErrorCode, out: &mut Vec<EffectOf<M>>) {
        // What these rest on is committed.
        out.extend(self.ready.drain(..).map(reply));
        let waiting = self.in_flight.drain(..).flat_map(|batch| batch.audience.replies);
        let waiting = waiting.chain(self.open.audience.replies.drain(..));
        out.extend(
            waiting.map(|(ticket, response)| reply((ticket, M::take_back(response, error)))),
        );
        out.extend(self.machine.parked(error).into_iter().map(reply));
        self.drop_machine();
    }

    fn drop_machine(&mut self) {
        self.machine = M::new(self.config.clone());
        self.open = Gathering::default();
        self.in_flight.clear();
        self.late_ends.clear();
        self.phase = Phase::Idle;
    }
}

fn reply<R, N>((ticket, response): (Ticket, R)) -> CoordinatorEffect<R, N> {
    CoordinatorEffect::Reply { ticket, response }
}

//! Runs a group coordinator on top of a log: what it decides becomes batches, what waits for them
//! is answered when they are committed.
//!
//! Does: load from the log, gather the records of a turn into one batch, hold answers back until
//! everything written before them is committed, throw the machine away when that fails.
//! Does not: append, replicate or read; its owner carries the effects out.
//! Invariants: answers leave in the order of the decisions behind them, and none before the records
//! it rests on are committed (lists apart, which never wait); batches are numbered as they are handed out and committed in that
//! order.
//! Apart because transactions are run the same way.
//!
//! ```text
//! Idle --begin_load--> Loading --finish_load--> Active
//!   ^                     |                       |
//!   +------- resign, a failed append, a damaged log
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::Offset;
use flumen_protocol::time::{Monotonic, Now};

use super::Ticket;
use super::group::{
    CommittedRow, GroupConfig, GroupCoordinator, GroupEffect, GroupRecord, GroupRequest,
    GroupResponse, GroupRow, ReplayError,
};
use crate::dice::Dice;
use crate::limits::{COORDINATOR_BATCH_BYTES_MAX, COORDINATOR_BATCHES_IN_FLIGHT_MAX};

/// What a coordinator wants its owner to do.
#[derive(Debug)]
pub enum CoordinatorEffect {
    /// Answer now.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// With what.
        response: GroupResponse,
    },
    /// Append this batch to the coordinator's partition and report with
    /// [`Coordinator::appended`] when it is committed or known to have failed.
    Append {
        /// One whole batch of format 2, offsets and epoch not stamped.
        batch: BytesMut,
        /// Its number: one more than the last one's.
        id: u64,
    },
}

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

/// The coordinator of one partition of the offsets topic.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    phase: Phase,
    /// Invariant: empty unless loading or active.
    machine: GroupCoordinator,
    /// The batch of this turn.
    open: Gathering,
    /// Handed out and not committed, oldest first.
    in_flight: VecDeque<InFlight>,
    next_id: u64,
    /// Reused between requests.
    decided: Vec<GroupEffect>,
}

type Replies = Vec<(Ticket, GroupResponse)>;

/// A batch being gathered, with the answers that wait for it.
#[derive(Debug, Default)]
struct Gathering {
    batch: BatchBuilder,
    replies: Replies,
}

/// A batch that is on its way, with the answers that wait for it.
#[derive(Debug)]
struct InFlight {
    id: u64,
    /// When those who wait are told that it takes too long.
    deadline: Monotonic,
    replies: Replies,
}

impl Coordinator {
    /// A coordinator that is idle.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            machine: GroupCoordinator::new(config.clone()),
            config,
            phase: Phase::Idle,
            open: Gathering::default(),
            in_flight: VecDeque::new(),
            next_id: 0,
            decided: Vec::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
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
        assert!(self.in_flight.is_empty() && self.open.replies.is_empty(), "nobody waits");
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
    /// To be called when everything an earlier machine may have appended is committed or cut off,
    /// that is when this leader has committed an entry of its own term; otherwise what was loaded
    /// could differ from what becomes committed.
    ///
    /// # Panics
    /// Unless loading.
    pub fn finish_load(&mut self, now: Now) {
        assert_eq!(self.phase, Phase::Loading, "what was not begun cannot be finished");
        self.machine.loaded(now);
        self.phase = Phase::Active;
    }

    /// This broker does not lead the partition any more: everything in memory is dropped and
    /// everybody who waits is sent to find the new coordinator.
    pub fn resign(&mut self, out: &mut Vec<CoordinatorEffect>) {
        self.fail(ErrorCode::NotCoordinator, out);
    }

    /// Handles a request. Its records, if any, leave with [`Coordinator::settle`].
    pub fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: GroupRequest,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        if let Some(response) = self.refusal(&request) {
            out.push(CoordinatorEffect::Reply { ticket, response });
            return;
        }
        let mut decided = std::mem::take(&mut self.decided);
        self.machine.handle(now, dice, ticket, request, &mut decided);
        self.gather(now, &mut decided, out);
        self.decided = decided;
    }

    /// Does what has fallen due.
    pub fn on_time(&mut self, now: Now, out: &mut Vec<CoordinatorEffect>) {
        for batch in self.in_flight.iter_mut().take_while(|batch| batch.deadline <= now.monotonic) {
            for (ticket, response) in batch.replies.drain(..) {
                let response = timed_out(response);
                out.push(CoordinatorEffect::Reply { ticket, response });
            }
        }
        if self.phase == Phase::Active {
            let mut decided = std::mem::take(&mut self.decided);
            self.machine.on_time(now, &mut decided);
            self.gather(now, &mut decided, out);
            self.decided = decided;
        }
    }

    /// Hands out what this turn's requests and alarms have gathered, as one batch. To be called
    /// once at the end of a turn.
    pub fn settle(&mut self, now: Now, out: &mut Vec<CoordinatorEffect>) {
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
        out: &mut Vec<CoordinatorEffect>,
    ) {
        assert!(id < self.next_id, "batch {id} was never handed out");
        match outcome {
            Ok(()) => {
                while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.id <= id) {
                    out.extend(batch.replies.into_iter().map(reply));
                }
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
        let waiting = self.in_flight.iter().find(|batch| !batch.replies.is_empty());
        let timer = (self.phase == Phase::Active).then(|| self.machine.next_deadline()).flatten();
        waiting.map(|batch| batch.deadline).into_iter().chain(timer).min()
    }

    /// The groups, for metrics; none unless active.
    pub fn groups(&self) -> impl Iterator<Item = GroupRow<'_>> {
        let is_active = self.phase == Phase::Active;
        self.machine.groups().filter(move |_| is_active)
    }

    /// The committed offsets, for metrics; none unless active.
    pub fn committed(&self) -> impl Iterator<Item = CommittedRow<'_>> {
        let is_active = self.phase == Phase::Active;
        self.machine.committed().filter(move |_| is_active)
    }
}

impl Coordinator {
    /// What to answer without asking the machine, if it cannot be asked.
    fn refusal(&self, request: &GroupRequest) -> Option<GroupResponse> {
        let error = match self.phase {
            Phase::Idle => ErrorCode::NotCoordinator,
            Phase::Loading => match request {
                // The member may live on: its session begins when loading ends.
                GroupRequest::Heartbeat { .. } => ErrorCode::None,
                GroupRequest::Join { .. }
                | GroupRequest::Sync { .. }
                | GroupRequest::Leave { .. }
                | GroupRequest::CommitOffsets { .. }
                | GroupRequest::FetchOffsets { .. }
                | GroupRequest::Describe { .. }
                | GroupRequest::List { .. }
                | GroupRequest::Delete { .. }
                | GroupRequest::DeleteOffsets { .. }
                | GroupRequest::TopicsDeleted { .. } => ErrorCode::CoordinatorLoadInProgress,
            },
            Phase::Active if self.in_flight.len() < COORDINATOR_BATCHES_IN_FLIGHT_MAX => {
                return None;
            }
            Phase::Active => ErrorCode::CoordinatorNotAvailable,
        };
        Some(request.refused(error))
    }

    /// Puts records into the open batch, and answers behind the records they rest on.
    fn gather(
        &mut self,
        now: Now,
        decided: &mut Vec<GroupEffect>,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        for effect in decided.drain(..) {
            match effect {
                GroupEffect::Reply { ticket, response } => self.hold((ticket, response), out),
                GroupEffect::Append { records, replies } => {
                    for record in &records {
                        self.gather_record(now, record, out);
                    }
                    self.open.replies.extend(replies);
                }
            }
        }
    }

    fn gather_record(&mut self, now: Now, record: &GroupRecord, out: &mut Vec<CoordinatorEffect>) {
        let record = NewRecord {
            timestamp: now.wall.0,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        };
        let is_full = self.open.batch.size_bytes_with(&record) > COORDINATOR_BATCH_BYTES_MAX;
        if is_full && self.open.batch.record_count() > 0 {
            self.close_batch(now, out);
        }
        self.open.batch.push(&record);
        assert!(self.open.batch.size_bytes() <= COORDINATOR_BATCH_BYTES_MAX, "a record fits");
    }

    fn close_batch(&mut self, now: Now, out: &mut Vec<CoordinatorEffect>) {
        let Gathering { batch, replies } = std::mem::take(&mut self.open);
        let id = self.next_id;
        self.next_id += 1;
        let timeout = Duration::from_millis(self.config.commit_timeout_ms);
        let deadline = now.monotonic.after(timeout);
        self.in_flight.push_back(InFlight { id, deadline, replies });
        out.push(CoordinatorEffect::Append { batch: batch.finish(), id });
    }

    /// Answers now, or behind the last record that is not committed.
    ///
    /// A list says which groups there are and how they fare just now; members, assignments and
    /// offsets, which must not be taken back, are not in it. So it never waits, and its asker can
    /// put the lists of many coordinators together in one step.
    fn hold(&mut self, answer: (Ticket, GroupResponse), out: &mut Vec<CoordinatorEffect>) {
        if matches!(answer.1, GroupResponse::List(_)) {
            out.push(reply(answer));
        } else if self.open.batch.record_count() > 0 {
            self.open.replies.push(answer);
        } else if let Some(last) = self.in_flight.back_mut() {
            last.replies.push(answer);
        } else {
            out.push(reply(answer));
        }
    }

    fn fail(&mut self, error: ErrorCode, out: &mut Vec<CoordinatorEffect>) {
        let waiting = self.in_flight.drain(..).flat_map(|batch| batch.replies);
        let waiting = waiting.chain(self.open.replies.drain(..));
        out.extend(waiting.map(|(ticket, response)| reply((ticket, response.refused(error)))));
        out.extend(self.machine.parked(error).into_iter().map(reply));
        self.drop_machine();
    }

    fn drop_machine(&mut self) {
        self.machine = GroupCoordinator::new(self.config.clone());
        self.open = Gathering::default();
        self.in_flight.clear();
        self.phase = Phase::Idle;
    }
}

fn reply((ticket, response): (Ticket, GroupResponse)) -> CoordinatorEffect {
    CoordinatorEffect::Reply { ticket, response }
}

/// What an answer becomes when its records are not committed in time. Old consumers do not know
/// COORDINATOR_NOT_AVAILABLE as an answer to OffsetFetch and would not try again.
fn timed_out(response: GroupResponse) -> GroupResponse {
    let error = match response {
        GroupResponse::FetchOffsets(_) => ErrorCode::NotCoordinator,
        GroupResponse::Join(_)
        | GroupResponse::Sync(_)
        | GroupResponse::Heartbeat(_)
        | GroupResponse::Leave(_)
        | GroupResponse::CommitOffsets(_)
        | GroupResponse::Describe(_)
        | GroupResponse::List(_)
        | GroupResponse::Delete(_)
        | GroupResponse::DeleteOffsets(_)
        | GroupResponse::TopicsDeleted(_) => ErrorCode::CoordinatorNotAvailable,
    };
    response.refused(error)
}

fn replay_all(machine: &mut GroupCoordinator, bytes: &[u8]) -> Result<(), ReplayError> {
    let mut expected = Offset::ZERO;
    for batch in batches(bytes) {
        let batch = batch.map_err(|_| ReplayError::Batch { offset: expected })?;
        let offset = batch.header.base_offset;
        let damaged = ReplayError::Batch { offset };
        if !verify_crc(batch.bytes) {
            return Err(damaged);
        }
        if batch.header.is_transactional() {
            return Err(ReplayError::Transactional { offset });
        }
        let records =
            records(batch.bytes, COORDINATOR_BATCH_BYTES_MAX).map_err(|_| damaged.clone())?;
        for record in &records {
            let record = record.map_err(|_| damaged.clone())?;
            let key = record.key.ok_or_else(|| damaged.clone())?;
            machine.replay(key, record.value)?;
        }
        expected = batch.header.last_offset().after(1);
    }
    Ok(())
}

//! Requests of clients: opened, asked around, answered.
//!
//! Does: read a request's header, open it, hand its questions to their owners, take answers in,
//! close it, count it.
//! Does not: know any API; `api/table.rs` does.
//! Invariants: every slot that was reserved is answered, or its connection closed; bytes charged
//! for a request are released exactly once; what its answer may take is counted until the
//! connection has it.
//! Apart from the other rooms of the shard because it is the same for all APIs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use flumen_protocol::frame::FrameError;
use flumen_protocol::ids::{CoreId, LogId};
use flumen_replication::outbox::Ticket;
use tracing::{debug, warn};

use super::effect::Effect;
use super::input::{CloseReason, ConnectionId};
use super::mailbox::{Answer, Change, CoreMessage, News, Question, Target};
use super::pending::Request;
use super::routing;
use super::shard::Shard;
use crate::api::k01_fetch;
use crate::api::step::{Addressee, Context, Envelope, Part, Progress, Step, Wait};
use crate::api::table::{self, Unanswerable};
use crate::limits::FETCH_ANSWER_BYTES_MIN;
use crate::net::connections::Refused;
use crate::telemetry::metrics::RefusedReason;

/// Where a request came from and what it weighs: what must be remembered to answer it.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) connection: ConnectionId,
    slot: u64,
    bytes: usize,
    /// Set aside for the answer.
    answer_bytes: usize,
    arrived: flumen_protocol::time::Monotonic,
}

impl Shard {
    /// Opens a request that arrived whole.
    pub(super) fn open_request(
        &mut self,
        (connection, slot): (ConnectionId, u64),
        listener: usize,
        peer: SocketAddr,
        frame: BytesMut,
        answer_bytes: usize,
    ) {
        let arrived = self.now.monotonic;
        let origin = Origin { connection, slot, bytes: frame.len(), answer_bytes, arrived };
        let (envelope, body) = match table::read_header(&frame) {
            Ok((header, body, key)) => {
                let envelope = Envelope {
                    key,
                    version: header.version,
                    correlation_id: header.correlation_id,
                    client_id: header.client_id.unwrap_or_default().to_owned(),
                    peer,
                    listener,
                };
                (envelope, body)
            }
            Err(reason) => return self.refuse_request(origin, peer, reason),
        };
        self.begin_counting_time(&envelope.client_id);
        debug!(key = ?envelope.key, version = envelope.version, client = envelope.client_id, "request");
        self.metrics.received_bytes_total += frame.len() as u64;
        let step = table::open(&mut self.context(), &envelope, frame, body);
        self.take_step(origin, envelope, step);
        self.end_follows();
    }

    /// What an API room may see of this core.
    pub(super) fn context(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            options: &self.options,
            image: &self.image,
            settings: &self.settings,
            leaders: &self.leaders,
            me: self.identity.node,
            cluster_id: &self.identity.cluster_id,
            cores: self.identity.cores,
            dice: &mut self.dice,
            producer_ids: &mut self.producer_ids,
            early: &mut self.early,
            sessions: &mut self.sessions,
            quotas: &mut self.quotas,
            metrics: &mut self.metrics,
            answer_bytes_max: self.memory.answer_bytes_max(),
        }
    }

    pub(super) fn take_step(&mut self, origin: Origin, envelope: Envelope, step: Step) {
        match step {
            Step::Answer(answer) => self.respond(origin, &envelope, answer),
            Step::Close(why) => self.give_up(origin, &envelope, RefusedReason::Malformed, why),
            Step::CloseUnacknowledged => {
                let why = "a produce request with acks=0 failed";
                self.give_up(origin, &envelope, RefusedReason::Unacknowledged, why);
            }
            Step::Wait(wait) => self.wait(origin, envelope, wait),
            Step::Inspect(opening) => self.begin_inspection(origin, envelope, opening),
        }
    }

    fn wait(&mut self, origin: Origin, envelope: Envelope, wait: Wait) {
        let Wait { waiting, parts, patience } = wait;
        // A list that others help to make keeps what any large answer has, not what is set aside as
        // long as nobody knows whether it is made at once.
        let kept = origin.answer_bytes.min(FETCH_ANSWER_BYTES_MIN);
        let answer_bytes = waiting.answer_bytes().unwrap_or(kept);
        self.memory.recount_answer(origin.answer_bytes, answer_bytes);
        let deadline = patience.map(|patience| self.now.monotonic.after(patience));
        let session = waiting.fetch().and_then(k01_fetch::Waiting::session);
        let number = self.pending.insert(Request {
            connection: origin.connection,
            slot: origin.slot,
            bytes: origin.bytes,
            answer_bytes,
            is_gone: false,
            arrived: origin.arrived,
            envelope,
            waiting,
            deadline,
        });
        if let Some(session) = session {
            self.sessions.wait(session, number);
        }
        self.ask(number, parts);
    }

    /// Hands the questions of a request to their owners: one message per core, in order.
    fn ask(&mut self, request: u64, parts: Vec<Part>) {
        let mut own = Vec::with_capacity(parts.len());
        let mut messages: BTreeMap<CoreId, Vec<(Ticket, Target, Question)>> = BTreeMap::new();
        for part in parts {
            let ticket = Ticket { core: self.identity.core, request, part: part.number };
            let (core, target) = match part.to {
                Addressee::Owner(log) => {
                    (routing::core_of(log, self.identity.cores), Target::Log(log))
                }
                Addressee::Controller => (routing::CONTROLLER_CORE, Target::Core),
                Addressee::Core(core) => (core, Target::Core),
            };
            let asked = (ticket, target, part.question);
            if core == self.identity.core {
                own.push(asked);
            } else {
                messages.entry(core).or_default().push(asked);
            }
        }
        // Other cores first: they work while this one does its own part.
        for (core, questions) in messages {
            self.send(core, CoreMessage::Ask(questions));
        }
        self.take_questions(own);
    }

    /// Answers the questions that one request has for this core. Its reads share what its answer
    /// can carry: a thousand partitions with a backlog must not bring a thousand times their limit
    /// into memory only to be cut when the answer is put together.
    pub(super) fn take_questions(&mut self, questions: Vec<(Ticket, Target, Question)>) {
        let mut taken: u32 = 0;
        for (ticket, target, question) in questions {
            match (target, question) {
                (Target::Log(log), Question::Read(read)) => {
                    let allowance = read.answer_bytes_max.saturating_sub(taken);
                    let more = self.read(ticket, log, read.within(allowance));
                    taken = taken.saturating_add(more);
                }
                (Target::Log(log), Question::Look(read, follower)) => {
                    let allowance = read.answer_bytes_max.saturating_sub(taken);
                    let more = self.look(ticket, log, read.within(allowance), follower);
                    taken = taken.saturating_add(more);
                }
                (target, question) => self.take_question(ticket, target, question),
            }
        }
    }

    /// Answers a question of a request, of this core or of another.
    pub(super) fn take_question(&mut self, ticket: Ticket, target: Target, question: Question) {
        match (target, question) {
            (Target::Log(log), Question::Append(append)) => self.append(ticket, log, *append),
            (Target::Log(log), Question::Read(read)) => {
                self.read(ticket, log, read);
            }
            (Target::Log(log), Question::Watch(read)) => self.watch(ticket, log, read),
            (Target::Log(log), Question::Look(read, follower)) => {
                self.look(ticket, log, read, follower);
            }
            (Target::Log(log), Question::ListOffset(wanted)) => {
                self.list_offset(ticket, log, wanted);
            }
            (Target::Log(log), Question::EpochEnd { current, wanted }) => {
                self.epoch_end(ticket, log, current, wanted);
            }
            (Target::Log(log), Question::DeleteRecords { before, deadline }) => {
                self.delete_records(ticket, log, before, deadline);
            }
            (Target::Log(log), Question::EndTransaction(end)) => {
                self.end_transaction(ticket, log, &end);
            }
            (Target::Log(log), Question::Producers) => self.give_producers(ticket, log),
            (Target::Log(log), Question::Group(request)) => {
                self.ask_coordinator(ticket, log, *request);
            }
            (Target::Log(log), Question::GroupWithin(asked)) => {
                self.ask_within(ticket, log, *asked);
            }
            (Target::Log(log), Question::Transaction(request)) => {
                self.ask_transaction(ticket, log, *request);
            }
            (Target::Core, Question::Groups(request)) => self.ask_coordinators(ticket, &request),
            (Target::Core, Question::Transactions(request)) => {
                self.list_transactions(ticket, &request);
            }
            (Target::Core, Question::Control { command, deadline }) => {
                self.control(ticket, *command, deadline);
            }
            (Target::Core, Question::Quorum) => self.give_quorum(ticket),
            (Target::Core, Question::Sizes) => self.give_sizes(ticket),
            (Target::Core, Question::Metrics) => self.give_counters(ticket),
            (Target::Core, Question::Commits(cursor)) => {
                self.give_commits(ticket, cursor.map(|cursor| *cursor));
            }
            (Target::Core, Question::Lags(wanted)) => self.give_lags(ticket, &wanted),
            (target, question) => unreachable!("{question:?} was sent to {target:?}"),
        }
    }

    /// Takes an answer to one of this core's requests in.
    pub(super) fn take_answer(&mut self, ticket: Ticket, answer: Answer) {
        if ticket.request & INTERNAL != 0 {
            return self.take_internal(ticket, answer);
        }
        match answer {
            Answer::News(news) => return self.take_news(*news),
            Answer::Records(ref records) => {
                records.followed.into_iter().for_each(|follower| self.sessions.calm(follower));
            }
            Answer::Appended(_)
            | Answer::Offset(_)
            | Answer::EpochEnd(_)
            | Answer::Group(_)
            | Answer::Groups(_)
            | Answer::Control(_)
            | Answer::Producers(_)
            | Answer::Transaction(_)
            | Answer::Transactions(_)
            | Answer::Quorum(_)
            | Answer::Sizes(_)
            | Answer::Metrics(_)
            | Answer::Commits(_)
            | Answer::Lags(..)
            | Answer::NotHere => {}
        }
        // A request that timed out, or whose client is gone, needs no answer any more.
        let Some(request) = self.pending.get_mut(ticket.request) else { return };
        let progress = request.waiting.answer(ticket.part, answer);
        self.went_on(ticket.request, progress);
    }

    /// There is news of a partition of a session.
    fn take_news(&mut self, news: News) {
        let News { follower, from, what } = news;
        let Some(number) = self.sessions.rouse(follower) else { return };
        // Ends alone end no wait: the next step tells them.
        if matches!(what, Change::Ends) {
            return;
        }
        let Some(request) = self.pending.get_mut(number) else { return };
        let Some(fetch) = request.waiting.fetch_mut() else { return };
        let due = self.sessions.look(follower.session, follower.slot, &self.image);
        if let Some(due) = due {
            let progress = fetch.hear(due, from, what);
            self.went_on(number, progress);
        }
    }

    /// More is known of an open request.
    fn went_on(&mut self, number: u64, progress: Progress) {
        let Some(request) = self.pending.get_mut(number) else { return };
        if let Some(bytes) = request.waiting.answer_bytes() {
            let before = std::mem::replace(&mut request.answer_bytes, bytes);
            self.memory.recount_answer(before, bytes);
        }
        let is_gone = request.is_gone;
        match progress {
            Progress::Open => {}
            Progress::Done | Progress::Ask(_) | Progress::AskWithin(..) if is_gone => {
                self.forget_request(number);
            }
            Progress::Done => self.close_request(number),
            Progress::Ask(parts) => self.follow_ups.push_back((number, parts)),
            Progress::AskWithin(parts, patience) => {
                self.pending.limit(number, patience);
                self.follow_ups.push_back((number, parts));
            }
        }
    }

    /// Asks what answers of this turn have led to.
    pub(super) fn ask_further(&mut self) {
        while let Some((request, parts)) = self.follow_ups.pop_front() {
            // A request that was answered meanwhile must not leave watchers behind.
            if request & INTERNAL != 0 || self.pending.get_mut(request).is_some() {
                self.ask(request, parts);
                self.carry_out();
            }
        }
    }

    /// Answers an open request with what is known.
    fn close_request(&mut self, number: u64) {
        let Some(request) = self.pending.remove(number) else { return };
        self.unwatch_all(number, &request);
        let Request { connection, slot, envelope, waiting, arrived, bytes, answer_bytes, .. } =
            request;
        let step = waiting.close(&mut self.context(), &envelope);
        let origin = Origin { connection, slot, bytes, answer_bytes, arrived };
        self.take_step(origin, envelope, step);
        self.end_follows();
    }

    fn unwatch_all(&mut self, number: u64, request: &Request) {
        let mut elsewhere: BTreeMap<CoreId, Vec<(Ticket, LogId)>> = BTreeMap::new();
        for (part, log) in request.waiting.watched() {
            let ticket = Ticket { core: self.identity.core, request: number, part };
            let owner = routing::core_of(log, self.identity.cores);
            if owner == self.identity.core {
                self.unwatch(ticket, log);
            } else {
                elsewhere.entry(owner).or_default().push((ticket, log));
            }
        }
        for (owner, watched) in elsewhere {
            self.send(owner, CoreMessage::Unwatch(watched));
        }
    }

    /// Answers every request whose time is up.
    pub(super) fn expire_requests(&mut self) {
        while let Some(number) = self.pending.expired(self.now.monotonic) {
            self.close_request(number);
        }
    }

    /// Answers every request that waits for news only, because the broker stops.
    pub(super) fn close_idle_requests(&mut self) {
        for number in self.pending.watching() {
            self.close_request(number);
        }
    }

    fn respond(&mut self, origin: Origin, envelope: &Envelope, answer: Vec<Bytes>) {
        let (answer, muted) = self.settle_quotas(origin.connection, envelope, answer);
        let bytes: usize = answer.iter().map(Bytes::len).sum();
        let took = self.now.monotonic.since(origin.arrived);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.metrics.sent_bytes_total += bytes as u64;
        self.metrics.answered(envelope.key.code(), took_us, false);
        self.memory.release(origin.bytes);
        self.memory.recount_answer(origin.answer_bytes, bytes);
        let Origin { connection, slot, .. } = origin;
        self.effects.push(Effect::Respond { connection, slot, answer });
        self.effects.extend(muted);
    }

    fn close_at(&mut self, origin: Origin) {
        self.memory.release(origin.bytes);
        self.memory.recount_answer(origin.answer_bytes, 0);
        let Origin { connection, slot, .. } = origin;
        self.effects.push(Effect::CloseAt { connection, slot });
    }

    /// A request has no answer: its connection ends instead.
    fn give_up(
        &mut self,
        origin: Origin,
        envelope: &Envelope,
        reason: RefusedReason,
        why: &'static str,
    ) {
        if self.refuse(reason) {
            let Envelope { peer, client_id, key, .. } = envelope;
            let client = &client_id[..client_id.floor_char_boundary(CLIENT_SHOWN_BYTES)];
            warn!(%peer, client, ?key, why, "closing a connection");
        }
        self.close_at(origin);
    }

    /// Counts a client that is refused. Says whether the log may have a line about it.
    fn refuse(&mut self, reason: RefusedReason) -> bool {
        self.metrics.refused(reason);
        self.lines.admit(reason, self.now.monotonic)
    }

    fn refuse_request(&mut self, origin: Origin, peer: SocketAddr, reason: Unanswerable) {
        let (counted, why) = match reason {
            Unanswerable::Header => (RefusedReason::Malformed, "malformed request header"),
            Unanswerable::Key(_) => (RefusedReason::UnsupportedVersion, "unknown API key"),
            Unanswerable::Version(..) => {
                (RefusedReason::UnsupportedVersion, "unsupported API version")
            }
        };
        if self.refuse(counted) {
            warn!(%peer, ?reason, why, "closing a connection");
        }
        self.close_at(origin);
    }

    /// A connection ended: nobody reads the answers to its open requests.
    pub(super) fn drop_connection(
        &mut self,
        connection: ConnectionId,
        peer: SocketAddr,
        reason: &CloseReason,
    ) {
        self.metrics.connections = self.metrics.connections.saturating_sub(1);
        match reason {
            CloseReason::Frame(error) => {
                let counted = match error {
                    FrameError::LooksLikeTls | FrameError::LooksLikeHttp => RefusedReason::NotKafka,
                    FrameError::Negative { .. } => RefusedReason::Malformed,
                    FrameError::TooLarge { .. } => RefusedReason::FrameTooLarge,
                };
                if self.refuse(counted) {
                    warn!(%peer, %error, "closing a connection");
                }
            }
            CloseReason::Unread if self.refuse(RefusedReason::SlowReader) => {
                warn!(%peer, "closing a connection: its client does not read");
            }
            CloseReason::Stalled if self.refuse(RefusedReason::Idle) => {
                warn!(%peer, "closing a connection: a request does not arrive");
            }
            CloseReason::Unread | CloseReason::Stalled => {}
            // Every client that is done with its work comes to this: no line.
            CloseReason::Idle => self.metrics.refused(RefusedReason::Idle),
            CloseReason::ByPeer | CloseReason::ByBroker | CloseReason::Socket => {}
        }
        for number in self.pending.of_connection(connection) {
            match self.pending.get_mut(number).filter(|request| request.is_gathering()) {
                // Clients that come, ask and go could otherwise have any amount gathered.
                Some(request) => request.is_gone = true,
                None => self.forget_request(number),
            }
        }
    }

    fn forget_request(&mut self, number: u64) {
        let Some(request) = self.pending.remove(number) else { return };
        self.unwatch_all(number, &request);
        self.memory.release(request.bytes);
        self.memory.recount_answer(request.answer_bytes, 0);
    }

    /// A connection was refused at the door.
    pub(super) fn note_refused(&mut self, peer: SocketAddr, refused: Refused) {
        let (counted, why) = match refused {
            Refused::TooMany => (RefusedReason::ConnectionLimit, "max.connections reached"),
            Refused::TooManyOfAddress => {
                (RefusedReason::ConnectionLimitPerIp, "max.connections.per.ip reached")
            }
            Refused::TooOften => {
                (RefusedReason::ConnectionRatePerIp, "connection_creation_rate exceeded")
            }
        };
        if self.refuse(counted) {
            warn!(%peer, why, "refusing a connection");
        }
    }

    /// The operating system gave no connection.
    pub(super) fn note_accept_failed(&mut self, reason: &str) {
        if self.refuse(RefusedReason::ConnectionLimit) {
            warn!(reason, "cannot accept connections for now; is the open-file limit reached?");
        }
    }
}

/// How much of a client's id a line of the log shows; it may have 32,767 bytes.
const CLIENT_SHOWN_BYTES: usize = 100;

/// The bit of a ticket's request number that says: this core asked itself (see `internal`).
pub(super) const INTERNAL: u64 = 1 << 63;

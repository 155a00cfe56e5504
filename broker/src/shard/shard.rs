//! The shard: everything one core knows, and the two doors through which it changes.
//!
//! Does: take inputs in ([`Shard::apply`]), end a turn ([`Shard::settle`]), give effects out.
//! Does not: run by itself; `pump.rs` or a simulated world turns it.
//! Invariants: `apply` runs to its end and never waits; effects are carried out in the order in
//! which they were pushed; no field is changed from outside.
//! Apart because it is the core of the house: what a newcomer reads first.
//!
//! The rooms around it hold its methods by subject: `requests` (clients), `partitions` (logs and
//! the effects of replication), `reads` and `follows` (records out), `coordinators` (groups and
//! transactional ids), `transactions`, `ends` and `within` (what partitions and coordinators say to each
//! other), `metadata` (topics), `chores` (settling, retention, space), `stop` (the end).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use flumen_protocol::ids::{CoreId, LogId, NodeId};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::dice::Dice;
use flumen_replication::metadata::image::Image;
use flumen_replication::outbox::Outbox;
use flumen_replication::partition::Partition;
use flumen_storage::answers::{Hold, Recovered, StoreEvent};
use flumen_storage::op::DiskDone;
use flumen_storage::store::Store;

use super::admin::Scrapes;
use super::coordinators::Coordinators;
use super::early::EarlyBatches;
use super::effect::Effect;
use super::ends::Ends;
use super::follows::Follows;
use super::input::{Input, JournalWrite};
use super::inspections::Inspections;
use super::lag::Lags;
use super::loads::Loads;
use super::mailbox::{Answer, CoreMessage, Space};
use super::memory::RequestMemory;
use super::metadata::{ControllerRoom, Standing};
use super::pending::Pending;
use super::producer_ids::ProducerIds;
use super::reads::Reads;
use super::routing::{self, Leaders};
use super::settings::Settings;
use super::timers::{Due, Timers};
use super::transactions::Verifications;
use super::unreadable::Unreadable;
use super::within::Claims;
use crate::api::fetch_session::FetchSessions;
use crate::api::step::Part;
use crate::config::options::Options;
use crate::quota::ledger::Ledger;
use crate::telemetry::lines::Lines;
use crate::telemetry::metrics::Metrics;

/// What a shard is from its birth on.
#[derive(Clone)]
pub struct Identity {
    /// This core.
    pub core: CoreId,
    /// How many cores the node has.
    pub cores: u16,
    /// This node.
    pub node: NodeId,
    /// The cluster's identity as clients see it.
    pub cluster_id: String,
    /// The settings the node was started with.
    pub options: Arc<Options>,
}

/// One core of the broker.
pub struct Shard {
    pub(super) identity: Identity,
    /// The time of this turn.
    pub(super) now: Now,
    /// Invariant: complete as of some committed point of the metadata log.
    pub(super) image: Arc<Image>,
    /// The node's settings in force. Invariant: those it was started with, under what the image says.
    pub(super) options: Arc<Options>,
    pub(super) settings: Settings,
    pub(super) leaders: Leaders,
    /// Invariant: after the first image, exactly the image's partitions that this core owns, and
    /// on the controller's core the metadata log.
    pub(super) partitions: BTreeMap<LogId, Partition>,
    pub(super) store: Store,
    pub(super) coordinators: Coordinators,
    pub(super) ends: Ends,
    pub(super) claims: Claims,
    /// Only on the controller's core.
    pub(super) controller: Option<ControllerRoom>,
    pub(super) standing: Standing,
    pub(super) pending: Pending,
    pub(super) inspections: Inspections,
    pub(super) reads: Reads,
    /// Who follows the partitions of this core.
    pub(super) follows: Follows,
    /// Batches that came before their partitions.
    pub(super) early: EarlyBatches,
    /// The fetch sessions of this core's clients.
    pub(super) sessions: FetchSessions,
    /// What clients with quotas have spent.
    pub(super) quotas: Ledger,
    /// The client whose request the last input was, while its time is counted.
    pub(super) served: Option<String>,
    pub(super) loads: Loads,
    pub(super) verifications: Verifications,
    pub(super) unreadable: Unreadable,
    pub(super) timers: Timers,
    pub(super) memory: Rc<RequestMemory>,
    pub(super) dice: Dice,
    /// Producer ids set aside for this core's clients.
    pub(super) producer_ids: ProducerIds,
    /// Whether the disk has room for records beyond the reserve.
    pub(super) writable: bool,
    /// Whether the disk refused room, so that more than a free block must be seen before records
    /// are taken again. Invariant: only while not `writable`.
    pub(super) disk_was_full: bool,
    /// Partitions that take no records because some are lost, until their topics have names.
    pub(super) held: Vec<(LogId, Hold)>,
    /// Whether an operator gives up what is damaged.
    pub(super) accepts_damage: bool,
    /// When old segments were last looked for.
    pub(super) retention_checked: Wall,
    /// The data folder's file system, as last looked at.
    pub(super) space: Option<Space>,
    pub(super) metrics: Metrics,
    /// What may still be said of clients that are refused.
    pub(super) lines: Lines,
    pub(super) scrapes: Scrapes,
    pub(super) lags: Lags,
    /// Further questions of open requests; asked before `apply` returns. A queue, because an
    /// answer that asked at once could lead to an answer that asks, as deep as a client likes.
    pub(super) follow_ups: VecDeque<(u64, Vec<Part>)>,
    /// What this turn wants done; taken by the pump.
    pub(super) effects: Vec<Effect>,
    /// What partitions want done; emptied before `apply` returns.
    pub(super) outbox: Outbox,
    /// What the store said; emptied before `apply` returns.
    pub(super) events: Vec<StoreEvent>,
}

impl Shard {
    /// A shard over a recovered store. It opens its partitions and waits for its first image.
    ///
    /// # Errors
    /// A partition that cannot be opened, with the reason, for the operator.
    pub fn open(
        identity: Identity,
        store: Store,
        recovered: Recovered,
        memory: Rc<RequestMemory>,
        seed: u64,
        now: Now,
    ) -> Result<Self, String> {
        let settings = Settings::new(&identity.options);
        let controller = (identity.core == routing::CONTROLLER_CORE).then(ControllerRoom::new);
        let mut shard = Self {
            options: identity.options.clone(),
            settings,
            now,
            image: Arc::default(),
            leaders: Leaders::default(),
            partitions: BTreeMap::new(),
            store,
            coordinators: Coordinators::new(&identity.options, memory.budget()),
            ends: Ends::default(),
            claims: Claims::default(),
            controller,
            standing: Standing::awaiting(identity.cores),
            pending: Pending::default(),
            inspections: Inspections::default(),
            reads: Reads::default(),
            follows: Follows::default(),
            early: EarlyBatches::default(),
            quotas: Ledger::new(identity.cores),
            served: None,
            sessions: FetchSessions::new(identity.core, identity.cores, memory.budget()),
            loads: Loads::default(),
            verifications: Verifications::default(),
            unreadable: Unreadable::default(),
            timers: Timers::default(),
            memory,
            dice: Dice::new(seed ^ (u64::from(identity.core.0) << 48)),
            producer_ids: ProducerIds::default(),
            writable: true,
            disk_was_full: false,
            held: Vec::new(),
            accepts_damage: false,
            retention_checked: now.wall,
            space: None,
            metrics: Metrics::new(),
            lines: Lines::default(),
            scrapes: Scrapes::default(),
            lags: Lags::default(),
            follow_ups: VecDeque::new(),
            effects: Vec::new(),
            outbox: Outbox::new(),
            events: Vec::new(),
            identity,
        };
        shard.open_recovered(recovered)?;
        shard.timers.arm(Due::Chores, Some(now.monotonic));
        Ok(shard)
    }

    /// Takes one input in.
    pub fn apply(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Request { connection, .. } if self.inspections.is_of(connection) => {
                self.inspections.hold(connection, input);
            }
            Input::Request { connection, slot, listener, peer, frame, answer_bytes } => {
                self.open_request((connection, slot), listener, peer, frame, answer_bytes);
            }
            Input::Admin { connection, slot, head } => self.open_admin(connection, slot, &head),
            Input::Opened { .. } => {
                self.metrics.connections_accepted_total += 1;
                self.metrics.connections += 1;
            }
            Input::Closed { connection, peer, reason } => {
                self.drop_connection(connection, peer, &reason);
            }
            Input::Refused { peer, refused } => self.note_refused(peer, refused),
            Input::AcceptFailed { reason } => self.note_accept_failed(&reason),
            Input::FromCore { from, message } => self.take_message(from, message),
            Input::Disk { done, journal } => self.take_done(done, journal),
            Input::FreeSpace { free, total } => self.take_free_space(free, total),
            Input::Stop => self.begin_stop(),
        }
        self.carry_out();
        self.ask_further();
    }

    /// Ends a turn: what is due is done, and everything queued for the disk goes out as one
    /// commit. Group commit is nothing but this: all that one turn appended is written at once.
    pub fn settle(&mut self, now: Now) {
        self.now = now;
        self.expire_requests();
        // Each once: what has more to do at once, as a group that is converted in steps, goes on when
        // others have had their turn.
        for due in self.timers.due(now.monotonic) {
            if self.timers.take(due, now.monotonic) {
                self.take_due(due);
            }
        }
        self.settle_coordinators();
        self.go_on_draining();
        self.carry_out();
        self.ask_further();
        self.settle_logs();
        let mut ops = Vec::new();
        self.store.next_ops(now, &mut ops);
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        self.store.take_cleaned(&mut self.events);
        self.take_events();
        self.stop_if_settled();
    }

    /// Takes what must be done out.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.effects);
    }

    /// When the next turn is due even if nothing happens.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let at_once = (!self.inspections.is_empty()).then_some(self.now.monotonic);
        let later = [self.pending.next_deadline(), self.timers.next(), self.store.next_wakeup()];
        later.into_iter().flatten().chain(at_once).min()
    }

    /// Whether somebody waits for this core: a client, or the disk.
    pub fn has_outstanding(&self) -> bool {
        self.has_open_requests() || self.store.outstanding()
    }

    /// Whether a client waits for an answer.
    pub(super) fn has_open_requests(&self) -> bool {
        self.pending.count() > 0 || !self.inspections.is_empty()
    }

    /// Counters for the pump to add to.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    fn take_done(&mut self, done: DiskDone, journal: Option<JournalWrite>) {
        self.metrics.disk_errors_total += u64::from(done.result.is_err());
        if let Some(JournalWrite { bytes, took }) = journal {
            self.metrics.journal_bytes_total += u64::from(bytes);
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.metrics.journal_write.record(took_us);
        }
        match self.store.on_done(done, self.now, &mut self.events) {
            Ok(()) => self.take_events(),
            Err(error) => self.effects.push(Effect::Halt(error)),
        }
    }

    fn take_due(&mut self, due: Due) {
        match due {
            Due::Partition(log) => {
                if let Some(partition) = self.partitions.get_mut(&log) {
                    partition.on_time(self.now, &mut self.outbox);
                    let next = partition.next_deadline();
                    self.timers.arm(due, next);
                }
            }
            Due::Coordinator(log) => self.coordinator_due(log),
            Due::Load(log) => self.retry_load(log),
            Due::QuotaExchange => self.exchange_quotas(),
            Due::Ends => self.go_on_ending(),
            Due::Chores => self.do_chores(),
            Due::Scrape(number) => self.go_on_scraping(number),
            Due::Drained => self.stop_waiting(),
        }
    }

    fn take_message(&mut self, from: CoreId, message: CoreMessage) {
        match message {
            CoreMessage::Ask(questions) => self.take_questions(questions),
            CoreMessage::Answer(answers) => {
                answers.into_iter().for_each(|(ticket, answer)| self.take_answer(ticket, answer));
            }
            CoreMessage::Unwatch(watched) => {
                watched.into_iter().for_each(|(ticket, log)| self.unwatch(ticket, log));
            }
            CoreMessage::Unfollow(left) => {
                left.into_iter().for_each(|(follower, log)| self.unfollow(follower, log));
            }
            CoreMessage::Spent(spent) => self.hear_spent(spent),
            CoreMessage::Image(image) => self.adopt_image(image),
            CoreMessage::Leaders { as_of, leaders } => self.learn_leaders(from, as_of, leaders),
            CoreMessage::Stop => self.begin_stop(),
            CoreMessage::Drained => self.note_drained(from),
        }
    }

    /// Gives an answer to whoever asked, here or on another core.
    pub(super) fn answer(&mut self, ticket: flumen_replication::outbox::Ticket, answer: Answer) {
        if ticket.core == self.identity.core {
            return self.take_answer(ticket, answer);
        }
        // What is answered in one go travels together: a fetch of a thousand idle partitions must
        // not cost a thousand messages.
        match self.effects.last_mut() {
            Some(Effect::ToCore { to, message: CoreMessage::Answer(answers) })
                if *to == ticket.core =>
            {
                answers.push((ticket, answer));
            }
            Some(_) | None => self.send(ticket.core, CoreMessage::Answer(vec![(ticket, answer)])),
        }
    }

    /// Sends a message to another core.
    pub(super) fn send(&mut self, to: CoreId, message: CoreMessage) {
        assert_ne!(to, self.identity.core, "a core does not send to itself");
        self.effects.push(Effect::ToCore { to, message });
    }

    /// Sends a message to every other core.
    pub(super) fn broadcast(&mut self, mut message: impl FnMut() -> CoreMessage) {
        for core in (0..self.identity.cores).map(CoreId) {
            if core != self.identity.core {
                self.send(core, message());
            }
        }
    }
}

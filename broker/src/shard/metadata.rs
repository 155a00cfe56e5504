//! Topics and brokers: the controller's room on its core, and how every core follows its image.
//!
//! Does: on the controller's core, take commands one at a time, append their records to the
//! metadata log, replay what is committed, publish the image; on every core, adopt an image by
//! opening and removing partitions, and say who leads what.
//! Does not: decide commands; `replication::metadata` does.
//! Invariants: an image is published only after everything in it is durable; a core serves
//! clients only after its first image and word from every other core.
//! Apart because it is the only way in which the set of partitions changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::records;
use flumen_protocol::entry::{Entry, Payload};
use flumen_protocol::ids::{CoreId, LogId, Offset};
use flumen_protocol::time::Monotonic;
use flumen_replication::metadata::command::{Command, Outcome};
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::{Broker, Endpoint, Image, Topic};
use flumen_replication::metadata::record::MetadataRecord;
use flumen_replication::outbox::{Appended, Ticket};
use flumen_replication::partition::{Acks, Append, Origin};
use tracing::{error, info, warn};

use super::effect::Effect;
use super::mailbox::{Answer, CoreMessage, Leader};
use super::partitions::{CONTROLLER, NOBODY};
use super::routing;
use super::settings::Settings;
use super::shard::Shard;
use crate::config::dynamic;
use crate::limits::{COMMANDS_WAITING, COMMANDS_WAITING_BYTES, REPLAY_CHUNK_BYTES};

/// The metadata log is appended to as long as it takes; a client's patience ends before.
const APPEND_PATIENCE: Duration = Duration::from_secs(3600);

/// How far a core has come on its way to serving clients.
#[derive(Debug)]
pub enum Standing {
    /// It waits for its first image, and for word of these cores on who leads what.
    Opening {
        /// Whether the image has come.
        image: bool,
        /// The cores that have not said who leads their partitions.
        silent: BTreeSet<CoreId>,
    },
    /// It serves clients.
    Serving,
    /// It finishes what is open and takes nothing more from clients. These cores have not said yet
    /// that nothing of theirs is open; they may still ask this one.
    Draining {
        /// Which; this core is one until it says so.
        busy: BTreeSet<CoreId>,
    },
    /// It moves what is left of its journal into segments.
    Settling,
    /// It is done.
    Stopped,
}

impl Standing {
    /// At birth, on a node of so many cores.
    pub fn awaiting(cores: u16) -> Self {
        Self::Opening { image: false, silent: (0..cores).map(CoreId).collect() }
    }

    /// At the beginning of a stop, on a node of so many cores.
    pub fn draining(cores: u16) -> Self {
        Self::Draining { busy: (0..cores).map(CoreId).collect() }
    }
}

/// A command whose records are on their way.
#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    outcome: Outcome,
}

/// A command that waits for those before it.
struct WaitingCommand {
    ticket: Ticket,
    command: Command,
    /// From then on nobody waits for it.
    deadline: Monotonic,
}

/// The commands that wait, oldest first.
#[derive(Default)]
struct Waiting {
    commands: VecDeque<WaitingCommand>,
    /// Invariant: what all of `commands` weigh.
    bytes: usize,
}

impl Waiting {
    /// Takes a command in; gives it back if there are too many.
    fn push(&mut self, command: WaitingCommand) -> Result<(), WaitingCommand> {
        let bytes = self.bytes + command.command.weight_bytes();
        let is_full = self.commands.len() >= COMMANDS_WAITING || bytes > COMMANDS_WAITING_BYTES;
        // One is always taken, whatever it weighs.
        if is_full && !self.commands.is_empty() {
            return Err(command);
        }
        self.bytes = bytes;
        self.commands.push_back(command);
        Ok(())
    }

    fn pop(&mut self) -> Option<WaitingCommand> {
        let next = self.commands.pop_front()?;
        self.bytes -= next.command.weight_bytes();
        Some(next)
    }
}

/// The answer to a command that was not carried out, or may not have been.
fn unavailable() -> Answer {
    Answer::Control(Box::new(Outcome::Unavailable))
}

/// The controller and the commands that wait for it.
pub struct ControllerRoom {
    controller: Controller,
    /// Whether the metadata log is loaded.
    active: bool,
    /// Everything below is replayed. Invariant: no record is replayed twice, though the end of
    /// the log is both loaded and, once its new leader has committed it, handed out.
    replayed: Offset,
    waiting: Waiting,
    in_flight: Option<InFlight>,
    /// Whether commands are being taken just now. An answer may lead to another command, which must
    /// not be taken inside of it: that would go as deep as there are commands.
    is_taking: bool,
    /// Created topics whose partitions have no leader yet: the answer waits, so that a client's
    /// next request finds them (G42).
    leaderless: Vec<(Ticket, Outcome, BTreeSet<LogId>)>,
}

impl ControllerRoom {
    /// A controller that knows nothing yet.
    pub(super) fn new() -> Self {
        Self {
            controller: Controller::new(),
            active: false,
            replayed: Offset::ZERO,
            waiting: Waiting::default(),
            in_flight: None,
            is_taking: false,
            leaderless: Vec::new(),
        }
    }
}

impl ControllerRoom {
    /// `accepts_damage`: what makes no sense without a record that is lost is left out.
    fn replay(&mut self, batch: &Bytes, accepts_damage: bool) -> Result<(), String> {
        let header = BatchHeader::parse(batch).ok_or("not a batch")?;
        if header.base_offset < self.replayed {
            return Ok(());
        }
        let limit = REPLAY_CHUNK_BYTES as usize;
        let decoded = records::records(batch, limit).map_err(|fault| format!("{fault:?}"))?;
        for record in &decoded {
            let record = record.map_err(|fault| format!("{fault:?}"))?;
            let value = record.value.ok_or("a record without value")?;
            let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
            match self.controller.replay(&record) {
                Ok(()) => {}
                Err(why) if accepts_damage => warn!(%why, "accepted as lost: a metadata record"),
                Err(why) => return Err(why.to_string()),
            }
        }
        self.replayed = header.last_offset().after(1);
        Ok(())
    }
}

impl Shard {
    /// Takes a command for the controller.
    pub(super) fn control(&mut self, ticket: Ticket, command: Command, deadline: Monotonic) {
        let Some(room) = &mut self.controller else {
            return self.answer(ticket, Answer::NotHere);
        };
        match room.waiting.push(WaitingCommand { ticket, command, deadline }) {
            Ok(()) => self.control_next(),
            Err(refused) => self.answer(refused.ticket, unavailable()),
        }
    }

    /// Takes the next command, if none is on its way: each is decided on what the last one left. One
    /// that nobody waits for any more is not carried out, as in Kafka: its client was told that it
    /// took too long, and may have asked for something else since.
    fn control_next(&mut self) {
        if self.controller.as_ref().is_none_or(|room| room.is_taking) {
            return;
        }
        while let Some(room) = &mut self.controller
            && room.active
            && room.in_flight.is_none()
            && let Some(WaitingCommand { ticket, command, deadline }) = room.waiting.pop()
        {
            room.is_taking = true;
            if deadline <= self.now.monotonic {
                self.answer(ticket, unavailable());
                continue;
            }
            let decision = room.controller.handle(&command);
            if decision.records.is_empty() {
                self.answer(ticket, Answer::Control(Box::new(decision.outcome)));
                continue;
            }
            room.in_flight = Some(InFlight { ticket, outcome: decision.outcome });
            self.append_metadata(&decision.records);
        }
        if let Some(room) = &mut self.controller {
            room.is_taking = false;
        }
    }

    fn append_metadata(&mut self, records: &[MetadataRecord]) {
        let values: Vec<Bytes> = records.iter().map(MetadataRecord::encode).collect();
        let mut builder = BatchBuilder::new();
        for value in &values {
            let timestamp = self.now.wall.0;
            builder.push(&NewRecord { timestamp, key: None, value: Some(value), headers: &[] });
        }
        let batch = builder.finish();
        let summary = check::check_produced(&batch)
            .unwrap_or_else(|fault| unreachable!("our own batch is sound: {fault:?}"));
        let ticket = self.internal(CONTROLLER, 0);
        let deadline = self.now.monotonic.after(APPEND_PATIENCE);
        let append = Append {
            batch,
            summary,
            ticket,
            acks: Acks::All,
            deadline,
            may_relax: false,
            may_begin: true,
            leader_epoch: None,
            origin: Origin::Coordinator,
        };
        let log = self.partitions.get_mut(&LogId::METADATA).expect("the controller's log is here");
        // A refusal comes back as a release, like every other outcome.
        let _released = log.append(self.now, append, &mut self.outbox);
        self.carry_out();
    }

    /// An entry of the metadata log is committed. Before the load is done this is what the load
    /// reads itself.
    pub(super) fn replay_metadata(&mut self, log: LogId, entry: &Entry) {
        assert_eq!(log, LogId::METADATA, "only the metadata log is replayed");
        let active = self.controller.as_ref().is_some_and(|room| room.active);
        if let Payload::Records(records) = &entry.payload
            && active
        {
            self.replay_controller(&records.bytes);
            self.publish_image();
        }
    }

    /// Replays one batch of the metadata log.
    pub(super) fn replay_controller(&mut self, batch: &Bytes) {
        let Some(room) = &mut self.controller else { return };
        if let Err(why) = room.replay(batch, self.accepts_damage) {
            // Going on would serve a cluster that is not the one that was acknowledged.
            panic!("the metadata log cannot be replayed: {why}");
        }
    }

    /// The metadata log is loaded: announce this node, then publish.
    pub(super) fn controller_loaded(&mut self) {
        let Some(room) = &mut self.controller else { return };
        room.active = true;
        let topics = room.controller.image().topic_count();
        info!(topics, "the cluster's metadata is loaded");
        let command = Command::RegisterBroker(self.broker());
        let nobody = self.internal(NOBODY, 0);
        self.control(nobody, command, self.now.monotonic.after(APPEND_PATIENCE));
        self.publish_image();
    }

    fn broker(&self) -> Broker {
        let options = &self.identity.options;
        let endpoint = |listener: &crate::config::listener::Listener| {
            let (host, port) = listener.advertised_for(listener.port);
            Endpoint { listener: listener.name.clone(), host: host.to_owned(), port }
        };
        Broker {
            id: self.identity.node,
            rack: options.rack.clone(),
            endpoints: options.listeners.iter().map(endpoint).collect(),
        }
    }

    /// The records of the command on its way are committed (and replayed), or failed.
    pub(super) fn controller_appended(&mut self, outcome: Appended) {
        let Some(room) = &mut self.controller else { return };
        let Some(InFlight { ticket, outcome: decided }) = room.in_flight.take() else { return };
        match outcome {
            Ok(_) => self.answer_when_led(ticket, decided),
            Err(why) => {
                error!(%why, "the metadata log cannot be written");
                self.answer(ticket, unavailable());
            }
        }
        self.control_next();
    }

    /// Answers a command once every partition it made has a leader.
    fn answer_when_led(&mut self, ticket: Ticket, outcome: Outcome) {
        let made: Vec<_> = match &outcome {
            Outcome::Created(made) => made.iter().flatten().map(|made| made.id).collect(),
            Outcome::Changed(_)
            | Outcome::ProducerIds(_)
            | Outcome::Registered
            | Outcome::Unavailable => Vec::new(),
        };
        let topics = made.iter().filter_map(|id| self.image.topic(*id));
        let leaderless: BTreeSet<LogId> = topics
            .flat_map(|topic| topic.logs())
            .filter(|log| self.leaders.get(*log).is_none())
            .collect();
        if leaderless.is_empty() {
            self.answer(ticket, Answer::Control(Box::new(outcome)));
        } else if let Some(room) = &mut self.controller {
            room.leaderless.push((ticket, outcome, leaderless));
        }
    }

    /// Leaders have become known: answers that waited for them may go.
    pub(super) fn note_leaders(&mut self) {
        let Some(room) = &mut self.controller else { return };
        let leaders = &self.leaders;
        for (_, _, missing) in &mut room.leaderless {
            missing.retain(|log| leaders.get(*log).is_none());
        }
        let (ready, waiting) = std::mem::take(&mut room.leaderless)
            .into_iter()
            .partition(|(_, _, missing)| missing.is_empty());
        room.leaderless = waiting;
        let ready: Vec<(Ticket, Outcome, BTreeSet<LogId>)> = ready;
        for (ticket, outcome, _) in ready {
            self.answer(ticket, Answer::Control(Box::new(outcome)));
        }
    }

    /// Who decides on the cluster's metadata, and how far each of them has come.
    pub(super) fn give_quorum(&mut self, ticket: Ticket) {
        let answer = match self.partitions.get(&LogId::METADATA) {
            Some(log) => Answer::Quorum(Box::new(log.quorum(self.now.wall))),
            None => Answer::NotHere,
        };
        self.answer(ticket, answer);
    }

    /// Tells every core what there is now, once this node is part of it.
    ///
    /// Not before this node is registered as it is now: clients would be sent to where it listened in
    /// its last life, and to whoever listens there today.
    fn publish_image(&mut self) {
        let Some(room) = &self.controller else { return };
        let image = room.controller.image();
        if image.brokers.get(&self.identity.node) == Some(&self.broker()) {
            self.broadcast(|| CoreMessage::Image(image.clone()));
            self.adopt_image(image);
        }
    }

    /// Follows an image: opens what is new, removes what is gone, configures what changed.
    pub(super) fn adopt_image(&mut self, image: Arc<Image>) {
        let old = std::mem::replace(&mut self.image, image.clone());
        if old.broker_configs != image.broker_configs {
            self.adopt_options(&image);
        }
        self.adopt_quotas(&image);
        let changed = self.settings.adopt(&self.options, &old, &image);
        let first = matches!(self.standing, Standing::Opening { image: false, .. });
        let deleted: Vec<&Arc<Topic>> =
            old.topics().filter(|topic| image.topic(topic.id).is_none()).collect();
        let gone = if first { self.unnamed(&image) } else { self.owned_of(&deleted) };
        if !gone.is_empty() {
            info!(partitions = gone.len(), first = %gone[0], "removing partitions of deleted topics");
        }
        for log in gone {
            self.delete_partition(log);
        }
        // A topic in neither image is one that another core knows already: this core heard of its
        // leaders first, and hears of them only once.
        self.leaders.retain(|topic| old.topic(topic).is_none() || image.topic(topic).is_some());
        for log in self.owned_news(&old, &image) {
            self.create_partition(log);
        }
        let reconfigured: Vec<LogId> = changed.iter().flat_map(|topic| topic.logs()).collect();
        self.configure_partitions(&image, &reconfigured);
        self.coordinators_learn(&image);
        self.forget_deleted_topics(&deleted);
        if first {
            self.first_image();
        }
        self.carry_out();
    }

    /// Takes over what the image says of this node's settings. Every topic may inherit from them, so
    /// all of them are configured anew.
    fn adopt_options(&mut self, image: &Image) {
        let nothing = Arc::default();
        let given = |node| image.broker_configs.get(&node).unwrap_or(&nothing);
        let (shared, own) = (given(None), given(Some(self.identity.node)));
        let (options, left_out) = dynamic::overlay(&self.identity.options, shared, own);
        if !left_out.is_empty() {
            warn!(?left_out, "settings of the cluster's log that make no sense here are left out");
        }
        if self.controller.is_some() {
            let names: Vec<&String> = shared.keys().chain(own.keys()).collect();
            info!(?names, "settings given while running");
        }
        self.options = Arc::new(options);
        self.settings = Settings::new(&self.options);
        self.limit_connections();
    }

    /// Partitions of the image that this core owns and does not have.
    fn owned_news(&self, old: &Image, new: &Image) -> Vec<LogId> {
        // What a change left alone both images share: nobody compares its thousands of partitions.
        let changed = new.topics().filter(|topic| {
            old.topic(topic.id).is_none_or(|known| {
                !Arc::ptr_eq(known, topic) && known.partitions != topic.partitions
            })
        });
        changed
            .flat_map(|topic| topic.logs())
            .filter(|log| routing::core_of(*log, self.identity.cores) == self.identity.core)
            .filter(|log| !self.partitions.contains_key(log))
            // A metadata log that lost a deletion: what is left of the partition goes first.
            .filter(|log| !self.store.is_deleting(*log))
            .collect()
    }

    /// Partitions of this core that an image does not name: what the disk holds of topics that were deleted
    /// or forgotten in an earlier life.
    fn unnamed(&self, image: &Image) -> Vec<LogId> {
        let is_named = |log: LogId| {
            image.topic(log.topic).is_some_and(|topic| topic.log(log.partition).is_some())
        };
        let all = self.partitions.keys().copied();
        all.filter(|log| *log != LogId::METADATA && !is_named(*log)).collect()
    }

    /// Partitions of this core that go with their topics. All of a topic do, so the others need not be looked
    /// through at each change.
    fn owned_of(&self, deleted: &[&Arc<Topic>]) -> Vec<LogId> {
        let logs = deleted.iter().flat_map(|topic| topic.logs());
        logs.filter(|log| self.partitions.contains_key(log)).collect()
    }

    fn forget_deleted_topics(&mut self, deleted: &[&Arc<Topic>]) {
        let names: Vec<String> = deleted.iter().map(|topic| topic.name.clone()).collect();
        if !names.is_empty() {
            for name in &names {
                self.metrics.forget_topic(name);
            }
            self.forget_offsets_of(&names);
        }
    }

    /// The first image: from now on this core knows which of its partitions hold groups.
    fn first_image(&mut self) {
        self.report_held();
        let logs: Vec<LogId> = self.partitions.keys().copied().collect();
        for log in logs {
            let leads = self.partitions.get(&log).is_some_and(|partition| partition.is_leader());
            if !self.loads.contains(log) {
                self.leadership_changed(log, leads);
            }
        }
        if let Standing::Opening { image, .. } = &mut self.standing {
            *image = true;
        }
        let (as_of, all) = (self.image.version, self.own_leaders());
        self.broadcast(|| CoreMessage::Leaders { as_of, leaders: all.clone() });
        self.learn_leaders(self.identity.core, as_of, Vec::new());
    }

    fn own_leaders(&self) -> Vec<Leader> {
        let own = self.partitions.keys().filter_map(|log| self.leaders.get(*log));
        own.copied().collect()
    }

    /// Another core says who leads its partitions, as it has them in this version of the image. A
    /// topic that is in no image here is news if the other core is ahead, and gone if it is not.
    pub(super) fn learn_leaders(&mut self, from: CoreId, as_of: u64, leaders: Vec<Leader>) {
        let is_ahead = as_of > self.image.version;
        for leader in leaders {
            let topic = leader.log.topic;
            if is_ahead || topic == LogId::METADATA.topic || self.image.topic(topic).is_some() {
                self.leaders.learn(leader);
            }
        }
        self.note_leaders();
        if let Standing::Opening { image, silent } = &mut self.standing {
            silent.remove(&from);
            if *image && silent.is_empty() {
                self.standing = Standing::Serving;
                self.effects.push(Effect::Serve);
            }
        }
    }
}

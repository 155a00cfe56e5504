//! One life: a node, its clients, its faults, from birth to the last reading.
//!
//! Does: let one event happen after the other, carry out what clients want, let faults strike, and ask the oracles.
//! Does not: know what a client does or what is right.
//! Invariants: the seed decides everything; the same seed lives the same life, event by event.
//! Apart because it is what a failing seed replays.
//!
//! ```text
//!  founding (no faults) -> trouble (faults strike) -> healed: clients finish -> every log is read whole -> oracles
//! ```

use std::path::{Path, PathBuf};
use std::{fs, process};

use bytes::Bytes;
use flumen_broker::shard::input::ConnectionId;
use flumen_replication::partition::Isolation;
use flumen_storage::sim_disk::Dice;

use super::atlas::Atlas;
use super::client::{Context, Deed, PARTITIONS, TABLE};
use super::damage::Reach;
use super::heap::{Heap, MILLIS, Nanos, SECONDS};
use super::history::{Happening, History, KEYED_WRITER};
use super::lines::News;
use super::machine::Finding;
use super::member::Member;
use super::node::{Inside, Node};
use super::operator::Operator;
use super::oracles;
use super::plan::Plan;
use super::reader::Reader;
use super::transacted::{TRANSACTIONAL_WRITER, Transacted};
use super::transactor::Transactor;
use super::trouble::SURVEY;
use super::writer::Writer;

/// How long after the last fault everything must have ended: the longest of all hangs and time-outs, several times.
const HEALING: Nanos = 300 * SECONDS;
/// How long what a transactor has sent may be on its way that vanished in the end: several times the longest way
/// there, to the coordinator and to the disk. Who reads the log whole meanwhile misses what others see (seed 2204658).
const LAST_WORDS: Nanos = 3 * SECONDS;
/// More than any life has: one that goes on is stuck without time passing.
const EVENTS_MAX: u64 = 50_000_000;

/// What can happen in the world.
#[derive(Debug)]
pub enum Event {
    /// Inside the process of this number.
    Inside { life: u64, core: usize, what: Inside },
    /// The process that follows this one starts.
    Boot { life: u64 },
    /// A client is told something on a connection.
    News { client: usize, connection: ConnectionId, news: News },
    /// A client wanted to be woken.
    Wake { client: usize },
    /// A fault strikes.
    Fault,
    /// A disk that was full has room again.
    Room { core: usize },
    /// A disk spoils something.
    Spoil,
    /// The process ends for it, or for anything else; with the machine, if the power goes.
    Fall { power: bool },
    /// Somebody looks at what the disks have spoilt by now.
    Survey,
    /// A process of this number whose disk does not answer is ended.
    Watchdog { life: u64 },
    /// The client of a connection reads again.
    ReadsOn { connection: ConnectionId },
    /// No more faults.
    Heal,
}

/// One of the clients.
pub(super) enum Client {
    Writer(Box<Writer>),
    Reader(Box<Reader>),
    Member(Box<Member>),
    Operator(Box<Operator>),
    Transactor(Box<Transactor>),
}

pub(super) struct Seat {
    client: Client,
    pub(super) connection: Option<ConnectionId>,
    pub(super) stalled_until: Nanos,
    /// When it will be woken at the latest.
    wake_at: Option<Nanos>,
}

/// What a life came to.
pub struct Outcome {
    /// The same for the same life, and for no other.
    pub trace: u64,
    /// How many events there were.
    pub events: u64,
    /// How many values were acknowledged.
    pub acknowledged: usize,
    /// How many transactions were committed, as their producers know.
    pub committed: usize,
    /// How many processes the node had.
    pub processes: u64,
}

pub(super) struct Life {
    pub(super) plan: Plan,
    pub(super) events: Heap<Event>,
    pub(super) dice: Dice,
    pub(super) node: Node,
    pub(super) seats: Vec<Seat>,
    pub(super) history: History,
    atlas: Atlas,
    /// How often a disk spoilt something.
    pub(super) spoilt: u64,
    partitions: i32,
    pub(super) is_healed: bool,
    pub(super) healed_at: Nanos,
    /// Since when nobody writes.
    written_at: Option<Nanos>,
    trace: u64,
    count: u64,
}

/// Lives the life of a seed.
///
/// # Panics
/// When a promise is broken, with what is wrong.
pub fn live(seed: u64) -> Outcome {
    let plan = Plan::draw(seed);
    let mut life = Life::new(plan, seed);
    life.found();
    life.people();
    while !life.is_over() {
        life.step();
    }
    life.end()
}

impl Life {
    fn new(plan: Plan, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut events = Heap::new();
        let mut node = Node::new(&plan, seed);
        node.boot(&mut events, &mut dice);
        let relaxed = if plan.relaxed_every.is_some() { vec![1] } else { Vec::new() };
        let retained = if plan.retention_bytes.is_some() { vec![1] } else { Vec::new() };
        let mut history = History::new(relaxed, retained, vec![TABLE]);
        history.tombstones_last = plan.tombstones_last();
        let atlas = Atlas::new(plan.groups.len() as u8 + 1);
        let mut life = Self {
            plan,
            events,
            dice,
            node,
            seats: Vec::new(),
            history,
            atlas,
            spoilt: 0,
            partitions: PARTITIONS,
            is_healed: false,
            healed_at: Nanos::MAX,
            written_at: None,
            trace: 0xcbf2_9ce4_8422_2325,
            count: 0,
        };
        let operator = Client::Operator(Box::new(Operator::new(&life.plan)));
        life.seat(operator);
        life
    }

    fn seat(&mut self, client: Client) {
        let seat = Seat { client, connection: None, stalled_until: 0, wake_at: None };
        self.seats.push(seat);
        let at = self.events.now() + self.dice.below(10 * MILLIS);
        self.wake_at(self.seats.len() - 1, at);
    }

    /// Topics are made while nothing goes wrong.
    fn found(&mut self) {
        while !self.operator().has_founded() {
            self.step();
        }
    }

    fn operator(&self) -> &Operator {
        match &self.seats[0].client {
            Client::Operator(operator) => operator,
            Client::Writer(_) | Client::Reader(_) | Client::Member(_) | Client::Transactor(_) => {
                unreachable!("the operator sits first")
            }
        }
    }

    /// Everybody else comes, and trouble begins.
    fn people(&mut self) {
        let plan = self.plan.clone();
        let writers = plan.idempotent_writers + plan.plain_writers;
        for name in 0..writers {
            let is_idempotent = name < plan.idempotent_writers;
            let writer = Writer::new(name, is_idempotent, plan.write_every);
            self.seat(Client::Writer(Box::new(writer)));
        }
        for name in 0..plan.keyed_writers {
            let writer = Writer::new(KEYED_WRITER + name, true, plan.write_every);
            self.seat(Client::Writer(Box::new(writer)));
        }
        for _ in 0..plan.readers {
            let reader = Reader::new(Isolation::ReadUncommitted);
            self.seat(Client::Reader(Box::new(reader)));
        }
        for (group, members) in plan.groups.iter().enumerate() {
            for _ in 0..*members {
                self.seat(Client::Member(Box::new(Member::new(group as u8))));
            }
        }
        for number in 0..plan.modern_members {
            let member = Member::modern(plan.groups.len() as u8, number);
            self.seat(Client::Member(Box::new(member)));
        }
        self.transactional_people(&plan);
        let now = self.events.now();
        if !plan.faults.is_empty() {
            let first = plan.fault_every.draw(&mut self.dice);
            self.push(now + first, Event::Fault);
        }
        if let Some(rot) = &plan.rot {
            let first = rot.every.draw(&mut self.dice);
            self.push(now + first, Event::Spoil);
            self.push(now + SURVEY, Event::Survey);
        }
        self.push(now + plan.trouble, Event::Heal);
    }

    /// Those who write in transactions, and one who reads what they have committed.
    fn transactional_people(&mut self, plan: &Plan) {
        let mut name = TRANSACTIONAL_WRITER;
        for (id, transactional) in plan.transactional.iter().enumerate() {
            for _ in 0..transactional.producers {
                let transactor = Transactor::new(id as u8, name, *transactional);
                self.seat(Client::Transactor(Box::new(transactor)));
                name += 1;
            }
        }
        if name > TRANSACTIONAL_WRITER {
            let reader = Reader::new(Isolation::ReadCommitted);
            self.seat(Client::Reader(Box::new(reader)));
        }
    }

    pub(super) fn push(&mut self, at: Nanos, event: Event) {
        let draw = self.dice.below(u64::MAX);
        self.events.push(at, draw, event);
    }

    fn step(&mut self) {
        let event = self.events.pop().expect("a node always has a next turn");
        self.history.set_time(self.events.now());
        self.count += 1;
        assert!(self.count < EVENTS_MAX, "this life never ends: {}", self.describe());
        assert!(
            self.events.now() < self.healed_at.saturating_add(HEALING),
            "somebody is stuck: {}\nhistory {}",
            self.describe(),
            self.keep_history().display()
        );
        self.note_trace(&event);
        let (events, dice) = (&mut self.events, &mut self.dice);
        match event {
            Event::Inside { life, core, what } => self.node.happen(life, core, what, events, dice),
            Event::Boot { life } if life == self.node.life => {
                self.node.consider_accepting(dice);
                self.node.boot(events, dice);
                if !self.is_healed && self.dice.below(self.plan.fault_in_recovery + 1) == 1 {
                    let at = self.events.now() + self.dice.below(2 * MILLIS);
                    self.push(at, Event::Fault);
                }
            }
            Event::Boot { .. } => {}
            Event::News { client, connection, news } => self.tell(client, connection, news),
            Event::Wake { client } => self.wake(client),
            Event::ReadsOn { connection } => self.node.read_on(connection, events, dice),
            Event::Fault => self.strike(),
            Event::Spoil => self.spoil(),
            Event::Fall { power } => self.fall(power),
            Event::Watchdog { life } if life == self.node.life => self.fall(false),
            Event::Watchdog { .. } => {}
            Event::Survey => self.survey(),
            Event::Room { core } => self.node.limit_disk(core, None),
            Event::Heal => self.heal(),
        }
        self.note_findings();
    }

    /// What the machine knows comes into the history.
    fn note_findings(&mut self) {
        for finding in self.node.take_findings() {
            match finding {
                Finding::Crash => drop(self.history.note(Happening::Crash)),
                Finding::Silent => drop(self.history.note(Happening::DiskSilent)),
                Finding::SilenceOver => drop(self.history.note(Happening::SilenceOver)),
                Finding::Damaged { core, reaches } => self.note_damage(core, reaches),
                Finding::Met { core, reaches } => {
                    self.note_damage(core, reaches);
                    self.node.trust(core);
                }
                Finding::Accepted { core } => {
                    self.atlas.note_accepted(core, self.node.cores(), &mut self.history);
                }
            }
        }
    }

    fn note_damage(&mut self, core: usize, reaches: Vec<Reach>) {
        // To find out whose a log is means to look a whole disk through.
        if !reaches.is_empty() {
            self.atlas.learn(self.node.disk(core), &self.history);
            self.atlas.note(reaches, &mut self.history);
        }
    }

    /// FNV-1a over what happens when.
    fn note_trace(&mut self, event: &Event) {
        let kind = match event {
            Event::Inside { core, what, .. } => {
                let what = match what {
                    Inside::Turn => 0,
                    Inside::Disk => 1,
                    Inside::Input(_) => 2,
                };
                *core as u64 * 16 + what
            }
            Event::Boot { .. } => 3,
            Event::News { client, news, .. } => {
                let length = match news {
                    News::Answer(frame) => frame.len() as u64,
                    News::Closed => 0,
                };
                (*client as u64) << 32 | length << 8 | 4
            }
            Event::Wake { client } => (*client as u64) << 32 | 5,
            Event::Fault => 6,
            Event::Room { .. } => 7,
            Event::Heal => 8,
            Event::Spoil => 9,
            Event::Fall { power } => 10 + u64::from(*power),
            Event::Survey => 12,
            Event::Watchdog { .. } => 13,
            Event::ReadsOn { .. } => 14,
        };
        for word in [self.events.now(), kind] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn tell(&mut self, client: usize, connection: ConnectionId, news: News) {
        if self.seats[client].connection != Some(connection) {
            return;
        }
        match news {
            News::Answer(frame) => {
                self.act(client, |client, context| client.answered(context, frame))
            }
            News::Closed => {
                self.seats[client].connection = None;
                self.act(client, Client::closed);
            }
        }
    }

    fn wake(&mut self, client: usize) {
        let now = self.events.now();
        let seat = &mut self.seats[client];
        if seat.wake_at != Some(now) {
            return;
        }
        seat.wake_at = None;
        if now < seat.stalled_until {
            let at = seat.stalled_until;
            return self.wake_at(client, at);
        }
        self.act(client, Client::wake);
    }

    fn wake_at(&mut self, client: usize, at: Nanos) {
        let seat = &mut self.seats[client];
        if seat.wake_at.is_none_or(|before| at < before) {
            seat.wake_at = Some(at);
            self.push(at, Event::Wake { client });
        }
    }

    /// Lets a client act, and does what it wants.
    pub(super) fn act(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
        let mut context = Context {
            now: self.events.now(),
            dice: &mut self.dice,
            history: &mut self.history,
            deeds: Vec::new(),
            is_over: self.is_healed,
            partitions: &mut self.partitions,
        };
        act(&mut self.seats[number].client, &mut context);
        for deed in std::mem::take(&mut context.deeds) {
            self.carry_out(number, deed);
        }
    }

    fn carry_out(&mut self, number: usize, deed: Deed) {
        let (events, dice) = (&mut self.events, &mut self.dice);
        match deed {
            Deed::Connect => {
                let made = self.node.connect(number, events, dice);
                // One that is refused is told like one that breaks at once.
                let connection = made.unwrap_or(ConnectionId(0));
                self.seats[number].connection = Some(connection);
                if made.is_none() {
                    let at = self.events.now() + MILLIS;
                    self.push(at, Event::News { client: number, connection, news: News::Closed });
                }
            }
            Deed::Send(frame) => {
                if let Some(connection) = self.seats[number].connection {
                    self.node.receive(connection, &frame, events, dice);
                }
            }
            Deed::HangUp => {
                if let Some(connection) = self.seats[number].connection {
                    if self.node.knows(connection) {
                        self.node.close(connection, events, dice);
                    } else {
                        let at = events.now() + MILLIS;
                        let news = News::Closed;
                        self.push(at, Event::News { client: number, connection, news });
                    }
                }
            }
            Deed::WakeAt(at) => self.wake_at(number, at),
        }
    }

    /// Whether nobody has written any more for long enough that nothing of it is on its way.
    fn is_written(&mut self) -> bool {
        let writes = |seat: &Seat| match &seat.client {
            Client::Writer(writer) => !writer.is_done(),
            Client::Transactor(transactor) => !transactor.is_done(),
            Client::Reader(_) | Client::Member(_) | Client::Operator(_) => false,
        };
        if !self.is_healed || !self.node.is_serving() || self.seats.iter().any(writes) {
            self.written_at = None;
            return false;
        }
        let now = self.events.now();
        now >= *self.written_at.get_or_insert(now) + LAST_WORDS
    }

    /// Whether everybody is done. Readers read everything once nobody writes any more.
    fn is_over(&mut self) -> bool {
        if !self.is_written() {
            return false;
        }
        let mut readers_are_done = true;
        for seat in &mut self.seats {
            if let Client::Reader(reader) = &mut seat.client {
                reader.read_all_once(self.partitions);
                readers_are_done &= reader.is_done();
            }
        }
        readers_are_done
    }

    fn describe(&self) -> String {
        let each = self.seats.iter().filter_map(|seat| match &seat.client {
            Client::Writer(writer) if !writer.is_done() => Some(writer.describe()),
            Client::Reader(reader) if !reader.is_done() => Some(reader.describe()),
            Client::Operator(operator) => Some(operator.describe()),
            Client::Transactor(it) if !it.is_done() => Some(it.describe()),
            Client::Writer(_) | Client::Reader(_) | Client::Member(_) | Client::Transactor(_) => {
                None
            }
        });
        let each: Vec<String> = each.collect();
        format!(
            "after {} s: {}; {}; plan {:?}",
            self.events.now() / SECONDS,
            self.node.describe(),
            each.join("; "),
            self.plan
        )
    }

    /// Writes what clients did and were told to a file, a line for each, for who looks for the cause.
    fn keep_history(&self) -> PathBuf {
        // Many lives are lived side by side.
        let name = format!("broken-life-{}.history", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let lines = self.history.happenings.iter().enumerate();
        let lines: String = lines.map(|(since, what)| format!("{since} {what:?}\n")).collect();
        fs::write(&path, lines).unwrap_or_else(|why| eprintln!("{}: {why}", path.display()));
        path
    }

    fn end(mut self) -> Outcome {
        (0..self.node.cores()).for_each(|core| self.node.survey(core));
        self.note_findings();
        let wrong = oracles::ask_all(&self.history);
        assert!(
            wrong.is_empty(),
            "promises are broken:\n{}\nplan {:?}\nhistory {}",
            wrong.join("\n"),
            self.plan,
            self.keep_history().display()
        );
        let is_acked = |happening: &&Happening| matches!(happening, Happening::Acked { .. });
        let is_committed = |(_, what): &(usize, &Transacted)| {
            matches!(what, Transacted::Ended { is_committed: true, .. })
        };
        Outcome {
            trace: self.trace,
            events: self.count,
            acknowledged: self.history.happenings.iter().filter(is_acked).count(),
            committed: self.history.transacted().filter(is_committed).count(),
            processes: self.node.life,
        }
    }
}

impl Client {
    fn wake(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Writer(it) => it.wake(context),
            Self::Reader(it) => it.wake(context),
            Self::Member(it) => it.wake(context),
            Self::Operator(it) => it.wake(context),
            Self::Transactor(it) => it.wake(context),
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        match self {
            Self::Writer(it) => it.answered(context, frame),
            Self::Reader(it) => it.answered(context, frame),
            Self::Member(it) => it.answered(context, frame),
            Self::Operator(it) => it.answered(context, frame),
            Self::Transactor(it) => it.answered(context, frame),
        }
    }

    pub(super) fn closed(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Writer(it) => it.closed(context),
            Self::Reader(it) => it.closed(context),
            Self::Member(it) => it.closed(context),
            Self::Operator(it) => it.closed(context),
            Self::Transactor(it) => it.closed(context),
        }
    }
}

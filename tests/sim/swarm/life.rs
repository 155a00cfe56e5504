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

use bytes::Bytes;
use flumen_broker::shard::input::ConnectionId;
use flumen_storage::sim_disk::Dice;

use super::client::{Context, Deed, PARTITIONS};
use super::heap::{Heap, MILLIS, Nanos, SECONDS};
use super::history::{Happening, History};
use super::member::Member;
use super::node::{Inside, News, Node};
use super::operator::Operator;
use super::oracles;
use super::plan::{Fault, Plan};
use super::reader::Reader;
use super::writer::Writer;

/// How long after the last fault everything must have ended: the longest of all hangs and time-outs, several times.
const HEALING: Nanos = 300 * SECONDS;
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
    /// No more faults.
    Heal,
}

/// One of the clients.
enum Client {
    Writer(Box<Writer>),
    Reader(Box<Reader>),
    Member(Box<Member>),
    Operator(Box<Operator>),
}

struct Seat {
    client: Client,
    connection: Option<ConnectionId>,
    stalled_until: Nanos,
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
    /// How many processes the node had.
    pub processes: u64,
}

struct Life {
    plan: Plan,
    events: Heap<Event>,
    dice: Dice,
    node: Node,
    seats: Vec<Seat>,
    history: History,
    partitions: i32,
    is_healed: bool,
    healed_at: Nanos,
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
        let history = History { happenings: Vec::new(), relaxed };
        let mut life = Self {
            plan,
            events,
            dice,
            node,
            seats: Vec::new(),
            history,
            partitions: PARTITIONS,
            is_healed: false,
            healed_at: Nanos::MAX,
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
            Client::Writer(_) | Client::Reader(_) | Client::Member(_) => {
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
        for _ in 0..plan.readers {
            self.seat(Client::Reader(Box::new(Reader::new())));
        }
        for (group, members) in plan.groups.iter().enumerate() {
            for _ in 0..*members {
                self.seat(Client::Member(Box::new(Member::new(group as u8))));
            }
        }
        let now = self.events.now();
        if !plan.faults.is_empty() {
            let first = plan.fault_every.draw(&mut self.dice);
            self.push(now + first, Event::Fault);
        }
        self.push(now + plan.trouble, Event::Heal);
    }

    fn push(&mut self, at: Nanos, event: Event) {
        let draw = self.dice.below(u64::MAX);
        self.events.push(at, draw, event);
    }

    fn step(&mut self) {
        let event = self.events.pop().expect("a node always has a next turn");
        self.count += 1;
        assert!(self.count < EVENTS_MAX, "this life never ends: {}", self.describe());
        assert!(
            self.events.now() < self.healed_at.saturating_add(HEALING),
            "somebody is stuck: {}",
            self.describe()
        );
        self.note_trace(&event);
        let (events, dice) = (&mut self.events, &mut self.dice);
        match event {
            Event::Inside { life, core, what } => self.node.happen(life, core, what, events, dice),
            Event::Boot { life } if life == self.node.life => {
                self.node.boot(events, dice);
                if !self.is_healed && self.dice.below(self.plan.fault_in_recovery + 1) == 1 {
                    let at = self.events.now() + self.dice.below(2 * MILLIS);
                    self.push(at, Event::Fault);
                }
            }
            Event::Boot { .. } => {}
            Event::News { client, connection, news } => self.tell(client, connection, news),
            Event::Wake { client } => self.wake(client),
            Event::Fault => self.strike(),
            Event::Room { core } => self.node.limit_disk(core, None),
            Event::Heal => self.heal(),
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
    fn act(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
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
                    self.node.close(connection, events, dice);
                }
            }
            Deed::WakeAt(at) => self.wake_at(number, at),
        }
    }

    fn strike(&mut self) {
        if self.is_healed {
            return;
        }
        let fault = self.plan.faults[self.dice.below(self.plan.faults.len() as u64) as usize];
        let now = self.events.now();
        let core = self.dice.below(self.node.cores() as u64) as usize;
        let span = (10 + self.dice.below(4_000)) * MILLIS;
        let (events, dice) = (&mut self.events, &mut self.dice);
        match fault {
            Fault::PowerCut => {
                self.history.note(Happening::Crash);
                self.node.die(true, span, events, dice);
            }
            Fault::Kill => {
                self.history.note(Happening::Crash);
                self.node.die(false, span, events, dice);
            }
            Fault::Restart => self.node.ask_to_stop(events, dice),
            Fault::DiskHangs => self.node.hang_disk(core, now + span),
            Fault::DiskFills => {
                let more = dice.below(256 << 10);
                self.node.limit_disk(core, Some(more));
                self.push(now + span, Event::Room { core });
            }
            Fault::Disconnect => {
                if let Some(connection) = self.node.any_connection(dice) {
                    self.node.close(connection, events, dice);
                }
            }
            Fault::ClientStalls => {
                let client = dice.below(self.seats.len() as u64) as usize;
                self.seats[client].stalled_until = now + span;
            }
            Fault::ClockJumps => {
                let hours = dice.below(49) as i64 - 24;
                self.node.jump_clock(hours * 3_600_000);
            }
            Fault::CoreStalls => self.node.stall(core, now + span.min(500 * MILLIS)),
        }
        let next = self.plan.fault_every.draw(&mut self.dice);
        self.push(now + next, Event::Fault);
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.healed_at = self.events.now();
        for core in 0..self.node.cores() {
            self.node.limit_disk(core, None);
        }
    }

    /// Whether everybody is done. Readers read everything once nobody writes any more.
    fn is_over(&mut self) -> bool {
        if !self.is_healed || !self.node.is_serving() {
            return false;
        }
        let mut readers_are_done = true;
        let mut idle = Vec::new();
        for (number, seat) in self.seats.iter_mut().enumerate() {
            match &mut seat.client {
                Client::Writer(writer) if !writer.is_done() => return false,
                Client::Reader(reader) => {
                    readers_are_done &= reader.is_done();
                    idle.push(number);
                }
                Client::Writer(_) | Client::Member(_) | Client::Operator(_) => {}
            }
        }
        for number in idle {
            if let Client::Reader(reader) = &mut self.seats[number].client {
                reader.read_all_once(self.partitions);
            }
        }
        readers_are_done
    }

    fn describe(&self) -> String {
        let each = self.seats.iter().filter_map(|seat| match &seat.client {
            Client::Writer(writer) if !writer.is_done() => Some(writer.describe()),
            Client::Reader(reader) if !reader.is_done() => Some(reader.describe()),
            Client::Operator(operator) => Some(operator.describe()),
            Client::Writer(_) | Client::Reader(_) | Client::Member(_) => None,
        });
        let each: Vec<String> = each.collect();
        format!(
            "after {} s: {}; plan {:?}",
            self.events.now() / SECONDS,
            each.join("; "),
            self.plan
        )
    }

    fn end(self) -> Outcome {
        let wrong = oracles::ask_all(&self.history);
        assert!(
            wrong.is_empty(),
            "promises are broken:\n{}\nplan {:?}",
            wrong.join("\n"),
            self.plan
        );
        let is_acked = |happening: &&Happening| matches!(happening, Happening::Acked { .. });
        Outcome {
            trace: self.trace,
            events: self.count,
            acknowledged: self.history.happenings.iter().filter(is_acked).count(),
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
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        match self {
            Self::Writer(it) => it.answered(context, frame),
            Self::Reader(it) => it.answered(context, frame),
            Self::Member(it) => it.answered(context, frame),
            Self::Operator(it) => it.answered(context, frame),
        }
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Writer(it) => it.closed(context),
            Self::Reader(it) => it.closed(context),
            Self::Member(it) => it.closed(context),
            Self::Operator(it) => it.closed(context),
        }
    }
}

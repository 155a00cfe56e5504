//! One run from the first connection to the last.
//!
//! Does: set up topic, identities and connections, go through prefill, warm-up, measured part and
//! drain, take everything down.
//! Does not: touch sockets while load is on: the engine does.
//! Invariants: the topic is deleted whatever happens in between, unless the scenario takes the broker
//! down afterwards; what was measured before a run broke is handed out.
//! Apart because order of setting up is one thing and speed is another.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::TopicId;

use super::broken::Broken;
use super::engine::{Drive, Engine, Until};
use super::lane::Lane;
use super::measure::Measure;
use super::member::{Manner, Member, Reach, Role};
use super::options::plain_producers;
use super::payload::Dice;
use super::progress::Progress;
use super::reader::{Kind, Reader};
use super::routes::Routes;
use super::schedule::Schedule;
use super::search;
use super::template::{Address, TOPIC_IDS_SINCE, Templates, transactional_id};
use super::transactor::{Flow, Identity, NAME_VERSION_MAX, Terms, Transactor};
use super::verdict::{Findings, Verdict};
use super::wire::Wire;
use crate::client::{Client, ClientFault, NewTopic, Topic, dial};
use crate::clock::{SECOND_NS, now_ns, process_cpu_ns, wall_ms};
use crate::limits::{
    DRAIN_MS, MESSAGE_BYTES_DEFAULT, OPEN_LOOP_IN_FLIGHT, PREFILL_IN_FLIGHT,
    PREFILL_RECORDS_PER_BATCH, TAIL_GRACE_MS,
};
use crate::outcome::Durability;
use crate::outcome::environment::Environment;
use crate::outcome::load::Step;
use crate::scenario::{Pace, Producers, Scenario};

/// What is to be run, and against whom.
#[derive(Clone, Debug)]
pub struct Order {
    /// `HOST:PORT` of one broker.
    pub bootstrap: String,
    /// The workload; it passed its check.
    pub scenario: Scenario,
    /// Name of the system.
    pub system: String,
    /// What its acknowledgements mean.
    pub durability: Durability,
    /// The machine, as it was before this process bound itself to a CPU.
    pub environment: Environment,
    /// No progress line.
    pub quiet: bool,
}

/// Why a run never got as far as measuring.
#[derive(Debug)]
pub enum RunFault {
    /// A broker did not do what a run needs.
    Client(ClientFault),
    /// This machine did not.
    System(io::Error),
}

impl fmt::Display for RunFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(fault) => fault.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunFault {}

impl From<ClientFault> for RunFault {
    fn from(fault: ClientFault) -> Self {
        Self::Client(fault)
    }
}

impl From<io::Error> for RunFault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Bytes of the keys and values of one request.
#[must_use]
pub fn request_bytes(producers: &Producers) -> u64 {
    records_per_request(producers) * record_bytes(producers)
}

/// Records of one request.
#[must_use]
pub fn records_per_request(producers: &Producers) -> u64 {
    u64::from(producers.records_per_batch) * u64::from(producers.partitions_per_request)
}

fn record_bytes(producers: &Producers) -> u64 {
    u64::from(producers.record_bytes) + u64::from(producers.key_bytes)
}

impl Order {
    /// Runs it, until its end or until `stop`.
    ///
    /// # Errors
    /// Nothing could be measured. A run that breaks later is no error but a partial verdict.
    pub fn run(&self, stop: &Arc<AtomicBool>) -> Result<Verdict, RunFault> {
        raise_file_limit();
        let mut client = Client::connect(&self.bootstrap)?;
        let name = topic_name(self.scenario.seed);
        self.create_topic(&mut client, &name)?;
        let found = self.run_with(&mut client, &name, stop);
        if self.scenario.restart.is_some() {
            // Whoever takes the broker down next wants it to have something to come back with.
            return Ok(found?.verdict(self));
        }
        // On a connection of its own: the other may have died with its broker.
        let deleted = Client::connect(&self.bootstrap).and_then(|mut c| c.delete_topic(&name));
        let findings = found?;
        if let (Err(fault), None) = (deleted, &findings.broken_off) {
            eprintln!("flumen-bench load: topic {name} was left behind: {fault}");
        }
        Ok(findings.verdict(self))
    }

    fn create_topic(&self, client: &mut Client, name: &str) -> Result<(), ClientFault> {
        let producers = self.filling_producers();
        let batch_bytes = u64::from(producers.records_per_batch) * (record_bytes(&producers) + 32);
        let mut config = Vec::new();
        if batch_bytes + 100 > MESSAGE_BYTES_DEFAULT {
            config.push(("max.message.bytes", (batch_bytes + 100).to_string()));
        }
        client.create_topic(&NewTopic {
            name,
            partitions: self.scenario.partitions,
            config: &config,
        })
    }

    /// Those of the scenario, or some that fill the topic for its readers.
    fn filling_producers(&self) -> Producers {
        let fill =
            || Producers { records_per_batch: PREFILL_RECORDS_PER_BATCH, ..plain_producers() };
        self.scenario.producers.clone().unwrap_or_else(fill)
    }

    fn run_with(
        &self,
        client: &mut Client,
        name: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Findings, RunFault> {
        let topic = client.topic(name, self.scenario.partitions)?;
        for place in 0..topic.brokers.len() {
            ends_at(&topic, place)?;
        }
        let mut engine = Engine::new(Arc::clone(stop), Progress::new(self.quiet))?;
        self.add_producers(&mut engine, client, &topic)?;
        let (steps, cpu_ns, from_ms, old) = (Vec::new(), 0, 0, 0);
        let mut run = Running { order: self, engine, steps, cpu_ns, from_ms, old };
        let mut broken = run.prefill();
        if broken.is_ok() {
            run.old = run.engine.acknowledged;
            self.add_consumers(&mut run.engine, client, &topic)?;
            self.add_crowd(&mut run.engine)?;
            broken = run.measure();
        }
        run.engine.progress().end();
        Ok(run.findings(broken.err()))
    }

    fn add_producers(
        &self,
        engine: &mut Engine,
        client: &mut Client,
        topic: &Topic,
    ) -> Result<(), RunFault> {
        if self.scenario.producers.is_none() && self.scenario.consumers.prefill_mib == 0 {
            return Ok(());
        }
        let producers = self.filling_producers();
        let terms = if producers.transactional { Some(terms(client, topic)?) } else { None };
        let produce_max = terms.as_ref().map_or(i16::MAX, |terms| terms.write_version);
        let address = address(client, topic, ApiKey::Produce, produce_max)?;
        let mut dice = Dice::new(self.scenario.seed);
        let count = producers.connections as usize;
        let width = producers.partitions_per_request as usize;
        let routes_dice = Dice::new(dice.draw());
        let written = match producers.written_partitions as usize {
            0 => &topic.leaders[..],
            written => &topic.leaders[..written],
        };
        let routes = Routes::new(written, width, count, producers.hot_share, routes_dice);
        if routes.groups.is_empty() {
            let said = "no broker leads as many partitions as one request shall carry";
            return Err(io::Error::other(said).into());
        }
        let (reach, members) = match terms {
            None => (
                Reach::Everywhere(topic.brokers.len()),
                lanes(&producers, client, topic, routes.groups.len())?,
            ),
            Some(terms) => {
                let members = transactors(&producers, client, topic, &terms, &routes)?;
                (Reach::Home(members.iter().map(|member| member.broker).collect()), members)
            }
        };
        let manner = Manner {
            templates: Templates::new(&producers, &address, &mut dice),
            version: address.version,
            silent: producers.acks == 0,
            routes,
            producers: count,
            reach,
        };
        Ok(engine.add_producers(manner, members)?)
    }

    /// The idle come before the measured part; the passing begin with the warm-up.
    fn add_crowd(&self, engine: &mut Engine) -> Result<(), RunFault> {
        let crowd = &self.scenario.crowd;
        for _ in 0..crowd.idle {
            engine.add_idle(Wire::new(Client::connect(&self.bootstrap)?.into_stream())?)?;
        }
        if crowd.churn_per_second > 0 {
            let target = Client::connect(&self.bootstrap)?.into_stream().peer_addr()?;
            engine.crowd.churn(target, crowd.churn_per_second, now_ns());
        }
        Ok(())
    }

    fn add_consumers(
        &self,
        engine: &mut Engine,
        client: &Client,
        topic: &Topic,
    ) -> Result<(), RunFault> {
        let consumers = &self.scenario.consumers;
        if consumers.tail + consumers.cold == 0 {
            return Ok(());
        }
        let address = address(client, topic, ApiKey::Fetch, i16::MAX)?;
        let record_bytes = record_bytes(&self.filling_producers());
        for place in 0..topic.brokers.len() {
            let ends = ends_at(topic, place)?;
            let starts: Vec<(i32, i64)> = ends.iter().map(|&(index, _)| (index, 0)).collect();
            for (kind, count, offsets) in
                [(Kind::Tail, consumers.tail, &ends), (Kind::Cold, consumers.cold, &starts)]
            {
                for consumer in 0..count as usize {
                    let reader = Reader::new(
                        (kind, consumer),
                        address.clone(),
                        offsets,
                        consumers,
                        record_bytes,
                    );
                    engine.add_consumer(member(topic, place, Role::Consumer(reader))?)?;
                }
            }
        }
        Ok(())
    }
}

/// A run that has its connections.
struct Running<'a> {
    order: &'a Order,
    engine: Engine,
    steps: Vec<Step>,
    cpu_ns: u64,
    from_ms: u64,
    /// Requests acknowledged before there were consumers.
    old: u64,
}

impl Running<'_> {
    fn prefill(&mut self) -> Result<(), Broken> {
        let scenario = &self.order.scenario;
        if scenario.consumers.prefill_mib == 0 {
            return Ok(());
        }
        let bytes = u64::from(scenario.consumers.prefill_mib) << 20;
        let requests = bytes.div_ceil(request_bytes(&self.order.filling_producers()));
        let now_ns = now_ns();
        self.engine.progress().begin("prefill", now_ns, now_ns);
        self.engine.drive(Drive::Closed, PREFILL_IN_FLIGHT);
        self.engine.run(Until::Acknowledged(requests))?;
        self.engine.drive(Drive::Nobody, PREFILL_IN_FLIGHT);
        self.engine.run(Until::Quiet(u64::MAX))
    }

    fn measure(&mut self) -> Result<(), Broken> {
        let scenario = &self.order.scenario;
        let begin_ns = now_ns() + u64::from(scenario.warm_up_seconds) * SECOND_NS;
        let end_ns = begin_ns + u64::from(scenario.seconds) * SECOND_NS;
        let pace = scenario.producers.as_ref().map(|producers| producers.pace);
        let open = |rate| Drive::Open(Schedule::new(now_ns(), rate));
        let (drive, in_flight_max) = match pace {
            None => (Drive::Nobody, OPEN_LOOP_IN_FLIGHT),
            Some(Pace::OneInFlight) => (Drive::Closed, 1),
            Some(Pace::AsFastAsPossible { in_flight }) => (Drive::Closed, in_flight as usize),
            Some(Pace::PerSecond(rate)) => (open(rate), OPEN_LOOP_IN_FLIGHT),
            Some(Pace::Search { from, .. }) => (open(from), OPEN_LOOP_IN_FLIGHT),
        };
        self.engine.measure = Measure::new(begin_ns, end_ns);
        self.engine.progress().begin("warm-up", now_ns(), begin_ns);
        self.engine.drive(drive, in_flight_max);
        self.engine.run(Until::Instant(begin_ns))?;
        if let Some(Pace::Search { .. }) = pace {
            return self.search();
        }
        let pause_ns = u64::from(scenario.consumers.pause_seconds) * SECOND_NS;
        if pause_ns > 0 {
            self.engine.pause_tail(begin_ns + pause_ns);
        }
        self.measured_part("measured", end_ns)?;
        self.drain()
    }

    /// Goes on until then and notes what the generator itself used.
    fn measured_part(&mut self, phase: &'static str, end_ns: u64) -> Result<(), Broken> {
        let begin_ns = now_ns();
        self.engine.progress().begin(phase, begin_ns, end_ns);
        self.from_ms = wall_ms();
        let cpu_before_ns = process_cpu_ns();
        let went = self.engine.run(Until::Instant(end_ns));
        self.cpu_ns = process_cpu_ns() - cpu_before_ns;
        went
    }

    /// Waits for the answers to what was due.
    fn drain(&mut self) -> Result<(), Broken> {
        self.engine.drive(Drive::Nobody, OPEN_LOOP_IN_FLIGHT);
        self.engine.crowd.end_churn();
        let now_ns = now_ns();
        let deadline_ns = now_ns + DRAIN_MS * 1_000_000;
        self.engine.progress().begin("drain", now_ns, deadline_ns);
        self.engine.run(Until::Quiet(deadline_ns))?;
        if self.order.scenario.consumers.tail > 0 {
            self.engine.run(Until::Instant(self::now_ns() + TAIL_GRACE_MS * 1_000_000))?;
        }
        self.engine.give_up();
        Ok(())
    }

    fn findings(self, broken: Option<Broken>) -> Findings {
        let undelivered = if broken.is_some() { Vec::new() } else { self.undelivered() };
        let Self { order, mut engine, steps, cpu_ns, from_ms, .. } = self;
        if broken.is_some() {
            // Who waits for an answer now waits for ever, and counts while the seconds still do.
            engine.give_up();
            engine.measure.cut(now_ns());
        }
        let (caught_up_ns, measure) = (engine.caught_up_ns(), engine.measure);
        let pause_ns = u64::from(order.scenario.consumers.pause_seconds) * SECOND_NS;
        let resumed_ns = measure.begin_ns() + pause_ns;
        let drained_ns = caught_up_ns.map(|at| at.saturating_sub(resumed_ns));
        Findings {
            measure,
            drain_seconds: drained_ns.map(|nanos| nanos as f64 / SECOND_NS as f64),
            undelivered,
            crowd: engine.crowd.outcome(now_ns()),
            errors: engine.errors,
            steps,
            cpu_ns,
            measured_from_unix_ms: from_ms,
            broken_off: broken.map(|broken| broken.to_string()),
        }
    }
}

impl Running<'_> {
    /// Acknowledged records that did not come, by tail consumer.
    fn undelivered(&self) -> Vec<u64> {
        let each = records_per_request(&self.order.filling_producers());
        let sent = (self.engine.acknowledged - self.old) * each;
        let tail = self.order.scenario.consumers.tail as usize;
        self.engine.delivered(tail).into_iter().map(|came| sent.saturating_sub(came)).collect()
    }

    /// Raises the rate until the broker does not keep up; what is kept is the best sustained step.
    fn search(&mut self) -> Result<(), Broken> {
        let producers = self.order.filling_producers();
        let Pace::Search { from, factor, step_seconds, p99_limit_ms } = producers.pace else {
            return Ok(());
        };
        let mut climb = search::Climb::new(from, factor);
        let mut best: Option<(Measure, u64, u64)> = None;
        while let Some(rate) = climb.next_rate() {
            let begin_ns = now_ns();
            let end_ns = begin_ns + u64::from(step_seconds) * SECOND_NS;
            self.engine.measure = Measure::new(begin_ns, end_ns);
            self.engine.drive(Drive::Open(Schedule::new(begin_ns, rate)), OPEN_LOOP_IN_FLIGHT);
            self.measured_part("search", end_ns)?;
            self.drain()?;
            let measure = &self.engine.measure;
            let step = search::step(rate, measure, self.cpu_ns, &producers, p99_limit_ms);
            climb.on_step(step.sustained);
            // What this step left on its way must not weigh on the next one.
            self.engine.run(Until::Quiet(now_ns() + DRAIN_MS * 1_000_000))?;
            let sustained = step.sustained;
            self.steps.push(step);
            if sustained || best.is_none() {
                let kept = std::mem::replace(&mut self.engine.measure, Measure::new(0, 1));
                best = Some((kept, self.cpu_ns, self.from_ms));
            }
        }
        if let Some((measure, cpu_ns, from_ms)) = best {
            (self.engine.measure, self.cpu_ns, self.from_ms) = (measure, cpu_ns, from_ms);
        }
        Ok(())
    }
}

/// A connection to the broker at `place`.
fn member(topic: &Topic, place: usize, role: Role) -> Result<Member, RunFault> {
    let address = topic.brokers[place].address.clone();
    let wire = Wire::new(dial(&address)?)?;
    Ok(Member::new(wire, address, place, role))
}

/// A lane of each producer to each broker, those of one producer together.
fn lanes(
    producers: &Producers,
    client: &mut Client,
    topic: &Topic,
    groups: usize,
) -> Result<Vec<Member>, RunFault> {
    let mut members = Vec::with_capacity(producers.connections as usize * topic.brokers.len());
    for producer in 0..producers.connections as usize {
        for place in 0..topic.brokers.len() {
            let identity = if producers.idempotent { Some(client.producer_id()?) } else { None };
            let batch = producers.records_per_batch;
            let lane = Lane::new(producer, identity, OPEN_LOOP_IN_FLIGHT, batch, groups);
            members.push(member(topic, place, Role::Producer(lane))?);
        }
    }
    Ok(members)
}

/// How transactions are spoken of with these brokers.
fn terms(client: &mut Client, topic: &Topic) -> Result<Terms, RunFault> {
    let flow = Flow::at_level(client.transaction_version()?);
    Ok(Terms {
        flow,
        topic: topic.name.clone(),
        name_version: client.version(ApiKey::AddPartitionsToTxn, NAME_VERSION_MAX)?,
        write_version: address(client, topic, ApiKey::Produce, flow.produce_max())?.version,
        end_version: client.version(ApiKey::EndTxn, flow.end_max())?,
    })
}

/// A connection of each producer to its coordinator, where that leads what it can write to: a
/// transaction is then spoken of on one connection, as by a client of a single broker.
fn transactors(
    producers: &Producers,
    client: &mut Client,
    topic: &Topic,
    terms: &Terms,
    routes: &Routes,
) -> Result<Vec<Member>, RunFault> {
    let mut members = Vec::with_capacity(producers.connections as usize);
    for producer in 0..producers.connections as usize {
        let name = transactional_id(&topic.name, producer);
        let known = client.transactional_producer(&name)?;
        let place = topic.brokers.iter().position(|broker| broker.id == known.coordinator);
        let leads = |place: &usize| routes.groups.iter().any(|group| group.broker == *place);
        let Some(place) = place.filter(leads) else {
            let said = format!("the coordinator of {name} leads no partition that is written to");
            return Err(io::Error::other(said).into());
        };
        let identity = Identity { transactional_id: name, id: known.id, epoch: known.epoch };
        let (batch, groups) = (producers.records_per_batch, routes.groups.len());
        let transactor = Transactor::new(producer, identity, terms.clone(), batch, groups);
        members.push(member(topic, place, Role::Transactor(transactor))?);
    }
    Ok(members)
}

/// Where the partitions end that the broker at `place` leads; it is ready for them when it says so.
fn ends_at(topic: &Topic, place: usize) -> Result<Vec<(i32, i64)>, ClientFault> {
    let own = topic.leaders.iter().enumerate().filter(|(_, leader)| **leader == place);
    let own: Vec<i32> = own.map(|(index, _)| index as i32).collect();
    Client::connect(&topic.brokers[place].address)?.ends(&topic.name, &own)
}

/// The topic's address at the highest version of `key` that both sides speak, at most `cap`.
fn address(client: &Client, topic: &Topic, key: ApiKey, cap: i16) -> Result<Address, ClientFault> {
    let nameless = if topic.id == TopicId::ZERO { TOPIC_IDS_SINCE - 1 } else { i16::MAX };
    let version = client.version(key, cap.min(nameless))?;
    Ok(Address { name: topic.name.clone(), id: topic.id, version })
}

/// A name that no other run has: of two runs with one seed the time differs.
fn topic_name(seed: u64) -> String {
    let draw = Dice::new(seed ^ (wall_ms() << 16)).draw();
    format!("flumen-bench-{:012x}", draw >> 16)
}

/// Sockets are files, and systems allow few by default.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused where it may not be raised; then opening the sockets says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

//! The loop that sends and receives.
//!
//! Does: bring due requests onto connections, take answers, wake in time for the next.
//! Does not: set a run up, choose rates, or sum results up.
//! Invariants: one thread; it never waits for one connection; what is due is put into its lane at
//! once, whatever the connection does, so that its clock runs.
//! Apart because this is the only part of a run that is in a hurry.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::answers;
use super::broken::{Broken, system};
use super::crowd::{Crowd, GUEST_BASE};
use super::lane::Settled;
use super::measure::{Errors, Measure};
use super::member::{Manner, Member, Role};
use super::poller::{Poller, Ready};
use super::progress::Progress;
use super::reader::{Kind, Next, Reader};
use super::schedule::Schedule;
use super::template::Patch;
use super::transactor::Course;
use super::wire::{Received, Wire};
use crate::client::in_words;
use crate::clock::{now_ns, wall_ms};
use crate::limits::{COPY_BYTES_MAX, RETRY_BACKOFF_MS};

/// Who makes requests due.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    /// Nobody.
    Nobody,
    /// The schedule.
    Open(Schedule),
    /// Each answer.
    Closed,
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// An instant, monotonic nanoseconds.
    Instant(u64),
    /// So many acknowledgements altogether.
    Acknowledged(u64),
    /// No request has its answer outstanding, or the instant has come.
    Quiet(u64),
}

/// Everything that moves during a run.
#[derive(Debug)]
pub struct Engine {
    poller: Poller,
    members: Vec<Member>,
    manner: Option<Manner>,
    drive: Drive,
    /// Connections with something to write.
    dirty: Vec<usize>,
    /// Connections that pause.
    held: Vec<usize>,
    issued: u64,
    /// Acknowledgements since the start.
    pub acknowledged: u64,
    /// What is counted.
    pub measure: Measure,
    /// Codes the brokers answered.
    pub errors: Errors,
    stop: Arc<AtomicBool>,
    progress: Progress,
    /// Connections without traffic.
    pub crowd: Crowd,
}

impl Engine {
    /// An engine without connections. It ends when `stop` becomes true.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(stop: Arc<AtomicBool>, progress: Progress) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            members: Vec::new(),
            manner: None,
            drive: Drive::Nobody,
            dirty: Vec::new(),
            held: Vec::new(),
            issued: 0,
            acknowledged: 0,
            measure: Measure::new(0, 1),
            errors: Errors::default(),
            stop,
            progress,
            crowd: Crowd::default(),
        })
    }

    /// Adds producers, one after the other, each with the connections that the manner says it has.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_producers(&mut self, manner: Manner, producers: Vec<Member>) -> io::Result<()> {
        assert!(self.members.is_empty(), "producers come first: their tokens are their places");
        assert_eq!(producers.len(), manner.connections(), "a member per connection");
        for member in producers {
            self.add(member)?;
        }
        self.manner = Some(manner);
        Ok(())
    }

    /// Adds a consumer; it begins to read in the next turn.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_consumer(&mut self, consumer: Member) -> io::Result<()> {
        let token = self.add(consumer)?;
        self.dirty.push(token);
        Ok(())
    }

    fn add(&mut self, member: Member) -> io::Result<usize> {
        let token = self.members.len();
        self.poller.add(&member.wire.stream, token)?;
        self.members.push(member);
        Ok(token)
    }

    /// Who makes requests due from now on, and how many may be in flight per connection.
    pub fn drive(&mut self, drive: Drive, in_flight_max: usize) {
        self.drive = drive;
        self.members.iter_mut().for_each(|member| member.limit(in_flight_max));
        match drive {
            Drive::Nobody | Drive::Open(_) => {}
            Drive::Closed => {
                let now_ns = now_ns();
                (0..self.members.len()).for_each(|token| self.refill(token, now_ns));
            }
        }
    }

    /// Consumers at the tail stop until the instant.
    pub fn pause_tail(&mut self, until_ns: u64) {
        for (token, member) in self.members.iter_mut().enumerate() {
            if let Role::Consumer(reader) = &mut member.role
                && reader.pause(until_ns)
            {
                self.held.push(token);
            }
        }
    }

    /// When the last of the consumers that paused stood at the end again; nothing when nobody
    /// paused, or somebody is still behind.
    #[must_use]
    pub fn caught_up_ns(&self) -> Option<u64> {
        let mut last = None;
        for reader in self.readers() {
            match reader.caught_up_ns() {
                Some(Some(instant_ns)) => last = last.max(Some(instant_ns)),
                Some(None) => return None,
                None => {}
            }
        }
        last
    }

    /// Records that came to each of so many tail consumers since the start.
    #[must_use]
    pub fn delivered(&self, tail: usize) -> Vec<u64> {
        let mut came = vec![0; tail];
        for reader in self.readers().filter(|reader| reader.kind == Kind::Tail) {
            came[reader.consumer] += reader.delivered;
        }
        came
    }

    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.members.iter().filter_map(|member| match &member.role {
            Role::Consumer(reader) => Some(reader),
            Role::Producer(_) | Role::Transactor(_) => None,
        })
    }

    /// Requests without an answer count with their age; those that never left are dropped.
    pub fn give_up(&mut self) {
        let now_ns = now_ns();
        let Self { members, measure, .. } = self;
        members.iter_mut().for_each(|member| member.give_up(now_ns, measure));
    }

    /// The line that the user sees while waiting.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Goes on until then.
    ///
    /// # Errors
    /// Why the run is over.
    pub fn run(&mut self, until: Until) -> Result<(), Broken> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Broken::Interrupted);
            }
            let now_ns = now_ns();
            if self.is_over(until, now_ns) {
                if let Until::Instant(end_ns) = until {
                    // Whoever was kept from looking still owes what was due before the end.
                    self.issue(now_ns.min(end_ns.saturating_sub(1)));
                }
                return Ok(());
            }
            self.issue(now_ns);
            self.crowd.pass(&self.poller, now_ns);
            self.release(now_ns);
            self.send_dirty()?;
            self.progress.tick(now_ns, &self.measure);
            let wake_ns = self.wake_ns(until, now_ns);
            let ready = self.poller.wait(wake_ns).map_err(|error| system(&error))?;
            for place in 0..ready {
                self.serve(self.poller.ready(place))?;
            }
        }
    }

    fn is_over(&self, until: Until, now_ns: u64) -> bool {
        match until {
            Until::Instant(instant_ns) => now_ns >= instant_ns,
            Until::Acknowledged(count) => self.acknowledged >= count,
            Until::Quiet(instant_ns) => {
                now_ns >= instant_ns || !self.members.iter().any(Member::is_busy)
            }
        }
    }

    fn wake_ns(&self, until: Until, now_ns: u64) -> u64 {
        if !self.dirty.is_empty() {
            return now_ns;
        }
        let mut wake_ns = self.progress.next_ns(now_ns);
        match until {
            Until::Instant(instant_ns) | Until::Quiet(instant_ns) => {
                wake_ns = wake_ns.min(instant_ns);
            }
            Until::Acknowledged(_) => {}
        }
        match &self.drive {
            Drive::Open(schedule) => wake_ns = wake_ns.min(schedule.next_due_ns()),
            Drive::Nobody | Drive::Closed => {}
        }
        wake_ns = wake_ns.min(self.crowd.next_ns());
        for &token in &self.held {
            wake_ns = wake_ns.min(self.members[token].held_until_ns());
        }
        wake_ns
    }

    /// Puts all that is due to its producers.
    fn issue(&mut self, now_ns: u64) {
        let (Drive::Open(schedule), Some(manner)) = (&mut self.drive, &mut self.manner) else {
            return;
        };
        while let Some(due_ns) = schedule.take_due(now_ns) {
            let producer = (self.issued % manner.producers as u64) as usize;
            self.issued += 1;
            let Some((token, group)) = manner.next(producer) else { return };
            self.members[token].enqueue(due_ns, group);
            self.measure.on_due(due_ns);
            self.dirty.push(token);
        }
    }

    /// Fills a closed loop.
    fn refill(&mut self, token: usize, now_ns: u64) {
        let (Drive::Closed, Some(manner)) = (&self.drive, &mut self.manner) else { return };
        let member = &mut self.members[token];
        let Some((producer, vacancies)) = member.vacancies() else { return };
        for _ in 0..vacancies {
            let Some(group) = manner.routes.next_at(producer, member.broker) else { return };
            member.enqueue(now_ns, group);
            self.measure.on_due(now_ns);
        }
        if vacancies > 0 {
            self.dirty.push(token);
        }
    }

    /// Wakes those whose pause is over.
    fn release(&mut self, now_ns: u64) {
        let Self { held, members, dirty, .. } = self;
        held.retain(|&token| {
            let waits = members[token].held_until_ns() > now_ns;
            if !waits {
                dirty.push(token);
            }
            waits
        });
    }

    fn send_dirty(&mut self) -> Result<(), Broken> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &token in &dirty {
            self.send(token)?;
        }
        dirty.clear();
        // What became due while sending stands behind.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        Ok(())
    }

    fn send(&mut self, token: usize) -> Result<(), Broken> {
        let now_ns = now_ns();
        let sent = match &self.members[token].role {
            Role::Producer(_) => self.send_produce(token, now_ns),
            Role::Transactor(_) => self.send_transacted(token, now_ns),
            Role::Consumer(_) => self.send_fetch(token, now_ns),
        };
        sent.map_err(|error| self.lost(token, &error))
    }

    fn send_produce(&mut self, token: usize, now_ns: u64) -> io::Result<()> {
        let Self { members, manner, measure, .. } = self;
        let (Member { wire, role: Role::Producer(lane), .. }, Some(manner)) =
            (&mut members[token], manner)
        else {
            return Ok(());
        };
        let now_ms = wall_ms();
        while let Some(sent) = lane.next(now_ns) {
            let request = sent.request;
            let patch = Patch {
                correlation_id: sent.correlation_id,
                partitions: &manner.routes.groups[request.group].partitions,
                due_ns: request.due_ns,
                now_ms,
                producer: request
                    .sequence
                    .and_then(|first| lane.identity.map(|(id, epoch)| (id, epoch, first))),
                transactional_id: None,
            };
            if !request.held {
                measure.on_written(request.due_ns, now_ns);
            }
            put(wire, manner.templates.patched(&patch))?;
        }
        self.flush(token, now_ns)
    }

    fn send_transacted(&mut self, token: usize, now_ns: u64) -> io::Result<()> {
        let Self { members, manner, measure, .. } = self;
        let (Member { wire, role: Role::Transactor(transactor), .. }, Some(manner)) =
            (&mut members[token], manner)
        else {
            return Ok(());
        };
        if let Some(step) = transactor.next(now_ns) {
            if step.is_prompt {
                measure.on_written(step.due_ns, now_ns);
            }
            let partitions = &manner.routes.groups[step.group].partitions;
            put(wire, transactor.frame(&step, partitions, &mut manner.templates, wall_ms()))?;
        }
        self.flush(token, now_ns)
    }

    fn send_fetch(&mut self, token: usize, now_ns: u64) -> io::Result<()> {
        let Member { wire, role: Role::Consumer(reader), .. } = &mut self.members[token] else {
            return Ok(());
        };
        if let Some(frame) = reader.request(now_ns) {
            wire.gather(frame);
        }
        self.flush(token, now_ns)
    }

    /// Writes what is kept and watches for room when it does not fit.
    fn flush(&mut self, token: usize, now_ns: u64) -> io::Result<()> {
        let member = &mut self.members[token];
        let flushed = member.wire.flush()?;
        if flushed == member.watches_write {
            member.watches_write = !flushed;
            self.poller.watch_write(&member.wire.stream, token, !flushed)?;
        }
        if flushed && self.manner.as_ref().is_some_and(|manner| manner.silent) {
            self.count_written(token, now_ns);
        }
        Ok(())
    }

    /// Without acknowledgements a request is done when it is written.
    fn count_written(&mut self, token: usize, now_ns: u64) {
        let Role::Producer(lane) = &mut self.members[token].role else { return };
        let mut any = false;
        while let Some(sent) = lane.written() {
            any = true;
            self.acknowledged += 1;
            self.measure.on_acknowledged(sent.request.due_ns, sent.written_ns, now_ns);
        }
        if any {
            self.dirty.push(token);
            self.refill(token, now_ns);
        }
    }

    fn serve(&mut self, ready: Ready) -> Result<(), Broken> {
        let token = ready.token;
        if token >= GUEST_BASE {
            return self.serve_guest(ready);
        }
        if ready.writable {
            self.flush(token, now_ns()).map_err(|error| self.lost(token, &error))?;
        }
        if !ready.readable {
            return Ok(());
        }
        let received = self.members[token].wire.receive();
        let received = received.map_err(|error| self.lost(token, &error))?;
        let now_ns = now_ns();
        loop {
            let place = self.members[token].wire.next_answer();
            let Some(place) = place.map_err(|error| self.malformed(token, &error))? else { break };
            match &self.members[token].role {
                Role::Producer(_) => self.take_produced(token, place, now_ns)?,
                Role::Transactor(_) => self.take_transacted(token, place, now_ns)?,
                Role::Consumer(_) => self.take_fetched(token, place, now_ns)?,
            }
        }
        match received {
            Received::Drained => Ok(()),
            Received::Closed => {
                Err(self.lost(token, &io::Error::from(io::ErrorKind::UnexpectedEof)))
            }
        }
    }

    fn serve_guest(&mut self, ready: Ready) -> Result<(), Broken> {
        let now_ns = now_ns();
        self.crowd.serve(&self.poller, ready, now_ns, self.measure.covers(now_ns));
        // With nobody else connected, the crowd is how we learn that a broker is gone.
        if self.members.is_empty() && self.crowd.is_deserted() {
            let (address, reason) = (self.crowd.address(), "all connections were closed");
            return Err(Broken::Lost { address, reason: reason.to_owned() });
        }
        Ok(())
    }

    /// Adds connections that only stay.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_idle(&mut self, wire: Wire) -> io::Result<()> {
        self.crowd.add_idle(&self.poller, wire)
    }

    fn take_produced(
        &mut self,
        token: usize,
        place: Range<usize>,
        now_ns: u64,
    ) -> Result<(), Broken> {
        let Self { members, manner, measure, errors, held, dirty, .. } = self;
        let Member { wire, address, role: Role::Producer(lane), .. } = &mut members[token] else {
            return Ok(());
        };
        let version = manner.as_ref().map_or(0, |manner| manner.version);
        let answer = answers::produced(wire.answer(place), version).map_err(|error| {
            Broken::Malformed { address: address.clone(), reason: error.to_string() }
        })?;
        if answer.error != 0 {
            errors.count(answer.error);
        }
        match lane.answered(answer.correlation_id, answer.error) {
            Settled::Acknowledged(sent) => {
                self.acknowledged += 1;
                measure.on_acknowledged(sent.request.due_ns, sent.written_ns, now_ns);
                // Somebody may wait for the place that became free.
                if lane.has_waiting() {
                    dirty.push(token);
                }
                self.refill(token, now_ns);
            }
            Settled::Retry => {
                lane.held_until_ns = now_ns + RETRY_BACKOFF_MS * 1_000_000;
                held.push(token);
            }
            Settled::Refused(code) => {
                return Err(Broken::Refused { address: address.clone(), asked: "Produce", code });
            }
            Settled::Stray => return Err(stray(address)),
        }
        Ok(())
    }

    fn take_transacted(
        &mut self,
        token: usize,
        place: Range<usize>,
        now_ns: u64,
    ) -> Result<(), Broken> {
        let Self { members, measure, errors, held, dirty, .. } = self;
        let Member { wire, address, role: Role::Transactor(transactor), .. } = &mut members[token]
        else {
            return Ok(());
        };
        let course = transactor.answered(wire.answer(place), now_ns, errors).map_err(|error| {
            Broken::Malformed { address: address.clone(), reason: error.to_string() }
        })?;
        match course {
            Course::GoesOn => dirty.push(token),
            Course::Waits => held.push(token),
            Course::Committed { due_ns, began_ns } => {
                self.acknowledged += 1;
                measure.on_acknowledged(due_ns, began_ns, now_ns);
                if transactor.has_waiting() {
                    dirty.push(token);
                }
                self.refill(token, now_ns);
            }
            Course::Refused { asked, code } => {
                return Err(Broken::Refused { address: address.clone(), asked, code });
            }
            Course::Stray => return Err(stray(address)),
        }
        Ok(())
    }

    fn take_fetched(
        &mut self,
        token: usize,
        place: Range<usize>,
        now_ns: u64,
    ) -> Result<(), Broken> {
        let Self { members, measure, errors, held, dirty, .. } = self;
        let Member { wire, address, role: Role::Consumer(reader), .. } = &mut members[token] else {
            return Ok(());
        };
        let next =
            reader.answered(wire.answer(place), now_ns, measure, errors).map_err(|error| {
                Broken::Malformed { address: address.clone(), reason: error.to_string() }
            })?;
        match next {
            Next::Ask => dirty.push(token),
            Next::Wait => held.push(token),
            Next::Refused(code) => {
                return Err(Broken::Refused { address: address.clone(), asked: "Fetch", code });
            }
        }
        Ok(())
    }

    fn lost(&self, token: usize, error: &io::Error) -> Broken {
        Broken::Lost { address: self.members[token].address.clone(), reason: in_words(error) }
    }

    fn malformed(&self, token: usize, error: &io::Error) -> Broken {
        let address = self.members[token].address.clone();
        Broken::Malformed { address, reason: error.to_string() }
    }
}

/// Gathers small requests, and lets large ones go at once.
fn put(wire: &mut Wire, frame: &[u8]) -> io::Result<()> {
    if frame.len() > COPY_BYTES_MAX {
        return wire.send(frame);
    }
    wire.gather(frame);
    Ok(())
}

fn stray(address: &str) -> Broken {
    let reason = "the answer to another question".to_owned();
    Broken::Malformed { address: address.to_owned(), reason }
}

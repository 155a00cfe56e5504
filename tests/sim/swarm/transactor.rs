//! A transactional producer; or a copier, which writes in each transaction what a group reads, and how far.
//!
//! Does: begin, write, commit, abort; vanish in the middle and come back under the same id; be a zombie, and not
//! know it, when another one takes that id.
//! Does not: read but what it copies.
//! Invariants: a commit is asked for only when everything in the transaction was acknowledged; of a place one batch is
//! under way at a time, so that none overtakes another; nothing is begun when the time of trouble is over.
//! Apart because a transaction is many requests, and what matters is where it is cut off.
//!
//! ```text
//!  finding -> beginning -> looking (a copier) -> resting -> reading (a copier)
//!                ^                                 ^            |
//!                |                                 |            v
//!             fenced, vanished                   ended <- ending <- carrying (a copier) <- writing
//! ```

mod answers;

use std::collections::{BTreeMap, BTreeSet};

use flumen_replication::partition::Isolation;

use super::client::{Context, Deed, Line, PARTITIONS};
use super::fetching::{self, EARLIEST, FETCH, LIST_OFFSETS};
use super::heap::{MILLIS, Nanos};
use super::history::{Happening, Place, Since, Value};
use super::plan::Transactional;
use super::transacted::{COPYING_GROUP, Reign, Transacted, Transaction};
use super::transacting::{self, ADD, ADD_OFFSETS, BEGIN, COMMITTED, FIND, Identity, Tongue};

const ISOLATION: Isolation = Isolation::ReadCommitted;
/// What copiers read. They write elsewhere.
const SOURCE: Place = Place { topic: 0, partition: 0 };
/// Requests with batches that are under way at once.
const IN_FLIGHT_MAX: usize = 3;
/// How long to wait before something is tried again.
const RETRY: Nanos = 100 * MILLIS;
/// How long it rests between two transactions, and after somebody took its id, at most.
const REST_MAX_MS: u64 = 150;
const EXILE_MAX_MS: u64 = 2_000;
/// Of so many steps one is the last before it vanishes.
const VANISHES_ONE_IN: u64 = 80;
/// Records that are copied in one transaction, at most.
const COPIES_MAX: u64 = 8;

/// What it asks.
pub enum Question {
    FindId,
    FindGroup,
    Begin,
    Committed(Since),
    Start(Since),
    /// From this offset.
    Read(Since, i64),
    Add,
    /// Batches of a transaction, by place and first value.
    Write(Transaction, Vec<(Place, Value)>, Since),
    AddOffsets,
    Carry,
    End(Since),
}

/// What it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    FindingId,
    FindingGroup,
    Beginning,
    /// How far its group has read.
    Looking,
    /// Where that begins which its group has not read.
    Starting,
    Resting,
    Reading,
    Adding,
    Writing,
    AddingOffsets,
    Carrying,
    Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    UnderWay,
    Acked,
}

struct Batch {
    place: Place,
    values: Vec<Value>,
    /// Given to it when it is sent first.
    sequence: Option<i32>,
    progress: Progress,
}

/// The transaction under way.
struct Current {
    of: Transaction,
    /// In the order of their places.
    batches: Vec<Batch>,
    /// Where the values come from that are copies.
    copies: BTreeMap<Value, i64>,
    /// How far the group has read with it.
    carries: Option<i64>,
    commits: bool,
    /// How often its end was asked for.
    asked: u32,
    /// Something was refused: with its end the reign ends.
    is_doomed: bool,
}

/// A transactional producer.
pub struct Transactor {
    /// Number of the transactional id.
    id: u8,
    name: u16,
    copies: bool,
    tongue: Tongue,
    line: Line<Question>,
    step: Step,
    identity: Option<Identity>,
    reign: Reign,
    next_number: u32,
    next_transaction: u32,
    sequences: BTreeMap<Place, i32>,
    current: Option<Current>,
    /// From where a copier reads.
    position: Option<i64>,
    rests_until: Nanos,
    /// It hangs up: what is answered until then it does not hear.
    is_deaf: bool,
    /// The time of trouble is over, and it has noticed.
    is_leaving: bool,
    /// A copier has looked what became of its offsets, at the end.
    has_looked: bool,
}

impl Transactor {
    /// One that has not begun; `name` is that of its values.
    pub fn new(id: u8, name: u16, plan: Transactional) -> Self {
        let (group, is_new) = (format!("copies-{id}"), plan.is_new);
        Self {
            id,
            name,
            copies: plan.copies,
            tongue: Tongue { id: format!("transactions-{id}"), group, is_new },
            line: Line::new(),
            step: Step::FindingId,
            identity: None,
            reign: Reign { writer: name, count: 0 },
            next_number: 0,
            next_transaction: 0,
            sequences: BTreeMap::new(),
            current: None,
            position: None,
            rests_until: 0,
            is_deaf: false,
            is_leaving: false,
            has_looked: !plan.copies,
        }
    }

    /// Whether there is nothing it waits for.
    pub fn is_done(&self) -> bool {
        self.is_leaving && self.current.is_none() && self.has_looked
    }

    /// What it waits for, for a report.
    pub fn describe(&self) -> String {
        let Self { name, id, step, .. } = self;
        format!("transactor {name} of id {id} is {step:?}, {} under way", self.line.open())
    }

    /// Time has come to do something.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.line.mind_patience(context);
        self.leave_if_it_is_over(context);
        self.go_on(context);
        context.wake_in(500 * MILLIS);
    }

    fn leave_if_it_is_over(&mut self, context: &mut Context<'_>) {
        if !context.is_over || self.is_leaving {
            return;
        }
        self.is_leaving = true;
        // One that never asked for its group has nothing to look at.
        self.has_looked |= matches!(self.step, Step::FindingId | Step::FindingGroup);
        if self.current.is_some() && context.dice.below(2) == 0 {
            self.vanish(context);
        }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.is_deaf || context.now < self.rests_until {
            return;
        }
        if self.is_leaving && self.current.is_none() {
            return self.look_once_more(context);
        }
        if !self.is_leaving && context.dice.below(VANISHES_ONE_IN) == 0 {
            return self.vanish(context);
        }
        if self.step == Step::Writing {
            return self.write(context);
        }
        if self.line.open() > 0 {
            return;
        }
        match self.step {
            Step::FindingId => {
                let request = self.tongue.find_id();
                self.line.send(context, FIND, &request, Question::FindId);
            }
            Step::FindingGroup => {
                let request = self.tongue.find_group();
                self.line.send(context, FIND, &request, Question::FindGroup);
            }
            Step::Beginning => {
                let request = self.tongue.begin();
                self.line.send(context, BEGIN, &request, Question::Begin);
            }
            Step::Looking => self.look(context),
            Step::Starting => {
                let since = context.ask();
                let request = fetching::offset_request(ISOLATION, SOURCE, EARLIEST);
                self.line.send(context, LIST_OFFSETS, &request, Question::Start(since));
            }
            Step::Resting if self.copies => {
                self.step = Step::Reading;
                self.read(context);
            }
            Step::Resting => self.begin_of_its_own(context),
            Step::Reading => self.read(context),
            Step::Adding | Step::AddingOffsets | Step::Carrying | Step::Ending => self.ask(context),
            Step::Writing => unreachable!("it was just looked at"),
        }
    }

    fn look(&mut self, context: &mut Context<'_>) {
        let since = context.ask();
        let request = self.tongue.ask_committed(SOURCE);
        self.line.send(context, COMMITTED, &request, Question::Committed(since));
    }

    /// At the end: what became of its offsets?
    fn look_once_more(&mut self, context: &mut Context<'_>) {
        if !self.has_looked && self.line.open() == 0 {
            self.step = Step::Looking;
            self.look(context);
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        let from = self.position.expect("a copier knows where it is");
        let max_bytes = 1 << (6 + context.dice.below(12));
        let since = context.ask();
        let request = fetching::request(ISOLATION, &[(SOURCE, from)], 300, max_bytes);
        self.line.send(context, FETCH, &request, Question::Read(since, from));
    }

    /// The next request about the transaction that is under way, beside its records.
    fn ask(&mut self, context: &mut Context<'_>) {
        let (Some(who), Some(current)) = (self.identity, &mut self.current) else {
            unreachable!("a transaction is under way")
        };
        let (of, commits) = (current.of, current.commits);
        let carries = current.carries.unwrap_or(-1);
        match self.step {
            Step::Adding => {
                let places = current.batches.iter().map(|batch| batch.place).collect();
                let request = self.tongue.add(who, &places);
                self.line.send(context, ADD, &request, Question::Add);
            }
            Step::AddingOffsets => {
                let request = self.tongue.add_offsets(who);
                self.line.send(context, ADD_OFFSETS, &request, Question::AddOffsets);
            }
            Step::Carrying => {
                let (group, offset) = (COPYING_GROUP + self.id, carries);
                let carried = Transacted::Carried { of, group, place: SOURCE, offset };
                context.history.note_transacted(carried);
                let request = self.tongue.carry(who, SOURCE, offset);
                let version = self.tongue.carry_version();
                self.line.send(context, version, &request, Question::Carry);
            }
            Step::Ending => {
                if commits && current.asked == 0 {
                    context.history.note_transacted(Transacted::CommitAsked(of));
                }
                current.asked += 1;
                let since = context.ask();
                let request = self.tongue.end(who, commits);
                let version = self.tongue.end_version();
                self.line.send(context, version, &request, Question::End(since));
            }
            Step::FindingId
            | Step::FindingGroup
            | Step::Beginning
            | Step::Looking
            | Step::Starting
            | Step::Resting
            | Step::Reading
            | Step::Writing => unreachable!("this is asked elsewhere"),
        }
    }
}

/// Transactions.
impl Transactor {
    /// Values of its own, anywhere.
    fn begin_of_its_own(&mut self, context: &mut Context<'_>) {
        let mut batches = Vec::new();
        for _ in 0..1 + context.dice.below(3) {
            let topic = context.dice.below(2) as u8;
            let partitions = if topic == 0 { *context.partitions } else { PARTITIONS };
            let partition = context.dice.below(partitions as u64) as i32;
            let count = 1 + context.dice.below(4) as usize;
            batches.push(self.batch(Place { topic, partition }, count));
        }
        self.begin(context, batches, BTreeMap::new(), None);
    }

    /// What it read, to one or two places that are not where it reads.
    fn begin_to_copy(&mut self, context: &mut Context<'_>, given: &fetching::Given) {
        let count = (1 + context.dice.below(COPIES_MAX)).min(given.records.len() as u64) as usize;
        let is_all = count == given.records.len();
        let end = if is_all { given.next } else { given.records[count - 1].0 + 1 };
        let first = context.dice.below(count as u64) as usize;
        let mut batches = Vec::new();
        for count in [first, count - first].into_iter().filter(|count| *count > 0) {
            let topic = context.dice.below(2) as u8;
            let others = if topic == 0 { 1..PARTITIONS } else { 0..PARTITIONS };
            let nth = context.dice.below(others.len() as u64) as i32;
            batches.push(self.batch(Place { topic, partition: others.start + nth }, count));
        }
        let values = batches.iter().flat_map(|batch| batch.values.iter().copied());
        let copies = values.zip(given.records.iter().map(|(offset, _)| *offset)).collect();
        self.begin(context, batches, copies, Some(end));
    }

    fn batch(&mut self, place: Place, count: usize) -> Batch {
        let (writer, first) = (self.name, self.next_number);
        self.next_number += count as u32;
        let values = (first..self.next_number).map(|number| Value { writer, number }).collect();
        Batch { place, values, sequence: None, progress: Progress::Waiting }
    }

    fn begin(
        &mut self,
        context: &mut Context<'_>,
        mut batches: Vec<Batch>,
        copies: BTreeMap<Value, i64>,
        carries: Option<i64>,
    ) {
        // Of one place they stay in the order of their numbers.
        batches.sort_by_key(|batch| batch.place);
        let of = Transaction { reign: self.reign, number: self.next_transaction };
        self.next_transaction += 1;
        let commits = context.dice.below(3) > 0;
        let (asked, is_doomed) = (0, false);
        self.current = Some(Current { of, batches, copies, carries, commits, asked, is_doomed });
        self.step = if self.tongue.is_new { Step::Writing } else { Step::Adding };
        self.go_on(context);
    }

    fn write(&mut self, context: &mut Context<'_>) {
        let current = self.current.as_ref().expect("a transaction is under way");
        if current.batches.iter().all(|batch| batch.progress == Progress::Acked) {
            self.step = match (current.carries, self.tongue.is_new) {
                (None, _) => Step::Ending,
                (Some(_), true) => Step::Carrying,
                (Some(_), false) => Step::AddingOffsets,
            };
            return self.go_on(context);
        }
        while self.line.open() < IN_FLIGHT_MAX {
            let current = self.current.as_ref().expect("a transaction is under way");
            let mut ready = current.ready();
            if ready.is_empty() {
                return;
            }
            if context.dice.below(2) == 0 {
                ready.truncate(1);
            }
            self.send_batches(context, &ready);
        }
    }

    fn send_batches(&mut self, context: &mut Context<'_>, ready: &[usize]) {
        let (Some(who), Some(current)) = (self.identity, &mut self.current) else {
            unreachable!("a transaction is under way")
        };
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for at in ready {
            let Batch { place, values, sequence, progress } = &mut current.batches[*at];
            if sequence.is_none() {
                let next = self.sequences.entry(*place).or_default();
                *sequence = Some(*next);
                *next += values.len() as i32;
                for value in values.iter() {
                    let (of, copied) = (current.of, current.copies.get(value).copied());
                    context.history.note_transacted(Transacted::Part(of, *value));
                    if let Some(offset) = copied {
                        let (value, place) = (*value, SOURCE);
                        let copied = Transacted::Copied { value, place, offset };
                        context.history.note_transacted(copied);
                    }
                    context.history.note(Happening::Sent(*place, *value));
                }
            }
            *progress = Progress::UnderWay;
            let sequence = sequence.expect("it was just given");
            batches.push((*place, transacting::records(who, sequence, values)));
            asked.push((*place, values[0]));
        }
        let since = context.ask();
        let timeout_ms = if context.dice.below(4) == 0 { 500 } else { 30_000 };
        let request = self.tongue.produce(batches, timeout_ms);
        let question = Question::Write(current.of, asked, since);
        self.line.send(context, self.tongue.produce_version(), &request, question);
    }

    /// Whatever was begun is not its own any more.
    fn fall(&mut self, context: &mut Context<'_>, rest: Nanos) {
        (self.current, self.identity) = (None, None);
        self.sequences.clear();
        if !matches!(self.step, Step::FindingId | Step::FindingGroup) {
            self.step = Step::Beginning;
        }
        self.rest(context, rest);
    }

    /// It is gone with all it knew, and comes back after a while.
    fn vanish(&mut self, context: &mut Context<'_>) {
        let rest = context.dice.below(EXILE_MAX_MS) * MILLIS;
        self.fall(context, rest);
        if self.line.open() > 0 {
            self.is_deaf = true;
            context.deeds.push(Deed::HangUp);
        }
    }

    fn rest(&mut self, context: &mut Context<'_>, rest: Nanos) {
        self.rests_until = context.now + rest;
        context.wake_in(rest);
    }
}

impl Current {
    /// Batches that may be sent now: of each place the first that is not acknowledged.
    fn ready(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let left = self.batches.iter().enumerate();
        let left = left.filter(|(_, batch)| batch.progress != Progress::Acked);
        let first = left.filter(|(_, batch)| seen.insert(batch.place));
        let ready = first.filter(|(_, batch)| batch.progress == Progress::Waiting);
        ready.map(|(at, _)| at).collect()
    }

    fn batch(&mut self, first: Value) -> &mut Batch {
        let mut batches = self.batches.iter_mut();
        batches.find(|batch| batch.values[0] == first).expect("it was sent")
    }
}

//! Who follows the partitions of this core: fetch sessions that found nothing to read.
//!
//! Does: remember where each session stands in each partition, tell it once when there is something
//! to read, with the records if they are at hand, and once when only the ends have moved.
//! Does not: know sessions; the core of the client does.
//! Invariants: a partition says that it moved exactly while somebody follows it; nobody is told of
//! records twice without having looked again.
//! Apart from the watchers of single requests because these stay while no request is open: a
//! session of 10,000 partitions costs nothing for those that do not change.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::ids::{CoreId, LogId};
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::ReadBounds;
use flumen_storage::answers::{ReadAnswer, ReadError, ReadRequest};

use super::mailbox::{
    Answer, Change, CoreMessage, Follower, LogFault, News, ReadQuestion, RecordsAnswer,
};
use super::reads;
use super::routing;
use super::shard::Shard;

/// Who follows what.
#[derive(Default)]
pub struct Follows {
    of_log: BTreeMap<(LogId, Place), Follow>,
}

/// A partition of a session, whatever its epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    core: CoreId,
    session: i32,
    slot: u32,
}

#[derive(Clone, Copy)]
struct Follow {
    epoch: i32,
    /// What it would ask.
    question: ReadQuestion,
    /// Whether it knows that the ends have moved.
    knows_ends: bool,
}

impl Follows {
    fn insert(&mut self, log: LogId, follower: Follower, question: ReadQuestion) {
        let follow = Follow { epoch: follower.epoch, question, knows_ends: false };
        self.of_log.insert((log, place(follower)), follow);
    }

    /// Says whether it was there.
    fn remove(&mut self, log: LogId, follower: Follower) -> bool {
        self.of_log.remove(&(log, place(follower))).is_some()
    }

    fn of(&self, log: LogId) -> impl Iterator<Item = (Follower, Follow)> {
        self.of_log.range((log, Place::FIRST)..=(log, Place::LAST)).map(|((_, place), follow)| {
            let Place { core, session, slot } = *place;
            (Follower { core, session, slot, epoch: follow.epoch }, *follow)
        })
    }

    /// How many follow.
    pub fn count(&self) -> usize {
        self.of_log.len()
    }
}

impl Place {
    const FIRST: Self = Self { core: CoreId(0), session: i32::MIN, slot: 0 };
    const LAST: Self = Self { core: CoreId(u16::MAX), session: i32::MAX, slot: u32::MAX };
}

impl Shard {
    /// Reads for a session, or follows the partition for it; says how many bytes of the answer are
    /// spoken for.
    pub(super) fn look(
        &mut self,
        ticket: Ticket,
        log: LogId,
        question: ReadQuestion,
        follower: Follower,
    ) -> u32 {
        let followed_before = self.follows.remove(log, follower);
        let Some(partition) = self.partitions.get_mut(&log) else {
            self.answer(ticket, Answer::NotHere);
            return 0;
        };
        let bounds = match partition.read_bounds(reads::query(&question)) {
            Ok(bounds) => bounds,
            Err(refusal) => {
                self.follow_while_wanted(log, followed_before);
                let fault = RecordsAnswer::fault(LogFault::Refused(refusal), question.from);
                return self.give(ticket, log, fault);
            }
        };
        if bounds.limit <= bounds.from {
            partition.follow(true);
            self.follows.insert(log, follower, question);
            let nothing = RecordsAnswer::new(&bounds, Vec::new());
            return self.give(ticket, log, RecordsAnswer { followed: Some(follower), ..nothing });
        }
        self.follow_while_wanted(log, followed_before);
        if question.wants_nothing() {
            return self.give(ticket, log, RecordsAnswer::new(&bounds, Vec::new()));
        }
        self.read_within(ticket, log, question, bounds)
    }

    /// A follower wants to hear no more.
    pub(super) fn unfollow(&mut self, follower: Follower, log: LogId) {
        let was_there = self.follows.remove(log, follower);
        self.follow_while_wanted(log, was_there);
    }

    /// The last one to leave a partition switches its news off.
    fn follow_while_wanted(&mut self, log: LogId, somebody_left: bool) {
        if somebody_left
            && self.follows.of(log).next().is_none()
            && let Some(partition) = self.partitions.get_mut(&log)
        {
            partition.follow(false);
        }
    }

    /// Reading a partition would answer differently now: tells those who follow it.
    pub(super) fn tell_followers(&mut self, log: LogId) {
        let followers: Vec<_> = self.follows.of(log).collect();
        for (follower, follow) in followers {
            let Follow { question, knows_ends, .. } = follow;
            let bounds = self
                .partitions
                .get(&log)
                .and_then(|partition| partition.read_bounds(reads::query(&question)).ok());
            match bounds {
                Some(bounds) if bounds.limit > bounds.from => {
                    self.follows.remove(log, follower);
                    self.read_for(follower, log, question, bounds);
                }
                Some(_) if knows_ends => {}
                Some(_) => {
                    let known = Follow { knows_ends: true, ..follow };
                    self.follows.of_log.insert((log, place(follower)), known);
                    self.tell(follower, question, Change::Ends);
                }
                None => {
                    self.follows.remove(log, follower);
                    self.tell(follower, question, Change::Any);
                }
            }
        }
        self.follow_while_wanted(log, true);
    }

    /// What is new is in the tail cache, mostly: a request that waits needs no second question.
    fn read_for(
        &mut self,
        follower: Follower,
        log: LogId,
        question: ReadQuestion,
        bounds: ReadBounds,
    ) {
        let token = self.reads.news_token(follower, log, question, bounds);
        let request = ReadRequest {
            from: bounds.from,
            limit: bounds.limit,
            max_bytes: question.max_bytes,
            at_least_one: question.at_least_one,
            token,
        };
        let result = match self.store.read(log, request) {
            ReadAnswer::Pending => return,
            ReadAnswer::Ready(batches) => Ok(batches),
            ReadAnswer::Failed(error) => Err(error),
        };
        self.reads.forget(token);
        self.tell_read(follower, log, question, bounds, result);
    }

    /// What is new for a follower was read.
    pub(super) fn tell_read(
        &mut self,
        follower: Follower,
        log: LogId,
        question: ReadQuestion,
        bounds: ReadBounds,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let change = match result {
            Ok(batches) => match self.found(log, &question, &bounds, batches) {
                RecordsAnswer { fault: Some(_), .. } => Change::Any,
                records => {
                    self.count_sent(log, records.batches.iter().map(Bytes::len).sum());
                    Change::Records(records)
                }
            },
            Err(error) => {
                self.note_unreadable(error);
                Change::Any
            }
        };
        self.tell(follower, question, change);
    }

    fn tell(&mut self, follower: Follower, question: ReadQuestion, what: Change) {
        // Nobody asked just now: the follower says whom it concerns.
        let ticket = Ticket { core: follower.core, request: 0, part: follower.slot };
        let news = News { follower, from: question.from, what };
        self.answer(ticket, Answer::News(Box::new(news)));
    }

    /// Lets owners know whom they need not tell any more.
    pub(super) fn end_follows(&mut self) {
        let left = self.sessions.take_left();
        if left.is_empty() {
            return;
        }
        let mut elsewhere: BTreeMap<CoreId, Vec<(Follower, LogId)>> = BTreeMap::new();
        for (follower, log) in left {
            let owner = routing::core_of(log, self.identity.cores);
            if owner == self.identity.core {
                self.unfollow(follower, log);
            } else {
                elsewhere.entry(owner).or_default().push((follower, log));
            }
        }
        for (owner, left) in elsewhere {
            self.send(owner, CoreMessage::Unfollow(left));
        }
    }
}

fn place(follower: Follower) -> Place {
    let Follower { core, session, slot, epoch: _ } = follower;
    Place { core, session, slot }
}

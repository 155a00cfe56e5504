//! One transactional id: its producer and its transaction.
//!
//! Does: name the states, and move from one to the next.
//! Does not: check who asks; `init` and `end` do, and call this when it is allowed.
//! Invariants: epochs grow, up to the last one of a producer, after which comes another producer; while
//! markers are owed nothing changes.
//! Apart because what is remembered and what may be asked are two things.

use flumen_protocol::ids::{ProducerEpoch, ProducerId};
use flumen_protocol::time::Wall;

use super::partitions::Partitions;
pub use crate::coordinator::producer::{Outcome, Producer};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The id has a producer and no transaction.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// Its end is decided; markers are owed.
    Prepared(Outcome),
    /// Every partition has its marker.
    Complete(Outcome),
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::Prepared(Outcome::Commit),
        Self::Prepared(Outcome::Abort),
        Self::Complete(Outcome::Commit),
        Self::Complete(Outcome::Abort),
    ];

    /// As Kafka calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Prepared(Outcome::Commit) => "PrepareCommit",
            Self::Prepared(Outcome::Abort) => "PrepareAbort",
            Self::Complete(Outcome::Commit) => "CompleteCommit",
            Self::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }
}

/// Which way a client ends its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientVersion {
    /// `transaction.version` 0: a producer keeps its epoch from one transaction to the next.
    Zero,
    /// `transaction.version` 1: the same for clients. Only records of another broker say so.
    One,
    /// `transaction.version` 2 (KIP-890): every end gives a new epoch.
    Two,
}

impl ClientVersion {
    /// Whether every end gives a new epoch.
    #[must_use]
    pub fn bumps(self) -> bool {
        self == Self::Two
    }
}

/// A transactional id and its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer: Producer,
    /// The epoch before this one, if a client may ask again with it; none after another client came.
    pub last_epoch: ProducerEpoch,
    /// The producer before this one, as long as a client may ask again as that: until it writes as this
    /// one.
    pub previous_id: ProducerId,
    /// The producer after this transaction, once its end is decided and this one is used up.
    pub next_id: ProducerId,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: Partitions,
    /// When the transaction began that is under way, or was the last; none after InitProducerId.
    pub started: Option<Wall>,
    /// When it last changed.
    pub updated: Wall,
    pub client_version: ClientVersion,
}

impl Transaction {
    /// An id nobody has used, before its first epoch.
    pub fn new(id: ProducerId, timeout_ms: i32, now: Wall) -> Self {
        Self {
            producer: Producer { id, epoch: ProducerEpoch::NONE },
            last_epoch: ProducerEpoch::NONE,
            previous_id: ProducerId::NONE,
            next_id: ProducerId::NONE,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::default(),
            started: None,
            updated: now,
            client_version: ClientVersion::Zero,
        }
    }

    /// Whether its end is decided and not yet written everywhere.
    pub fn is_prepared(&self) -> bool {
        matches!(self.state, State::Prepared(_))
    }

    /// What the client is told: a decided end that uses the producer up gives the next one already.
    pub fn told(&self) -> Producer {
        match self.next_id {
            ProducerId::NONE => self.producer,
            id => Producer { id, epoch: ProducerEpoch(0) },
        }
    }

    /// Another epoch for the same client (`asked` is the one it has) or for another one, without a
    /// transaction.
    pub fn renew(&mut self, asked: Option<ProducerEpoch>, timeout_ms: i32, now: Wall) {
        assert!(!self.producer.is_used_up(), "an epoch is left");
        let before = self.producer.epoch;
        self.producer.epoch = ProducerEpoch(before.0 + 1);
        self.last_epoch = if asked.is_some() { before } else { ProducerEpoch::NONE };
        self.rest(timeout_ms, now);
    }

    /// Another producer, as this one has no epoch left.
    pub fn rotate(&mut self, fresh: ProducerId, asked: bool, timeout_ms: i32, now: Wall) {
        assert!(self.producer.is_used_up(), "epochs are not wasted");
        self.previous_id = self.producer.id;
        self.last_epoch = if asked { self.producer.epoch } else { ProducerEpoch::NONE };
        self.producer = Producer { id: fresh, epoch: ProducerEpoch(0) };
        self.rest(timeout_ms, now);
    }

    /// The client asks for the epoch it was given before.
    pub fn repeat(&mut self, timeout_ms: i32, now: Wall) {
        self.rest(timeout_ms, now);
    }

    fn rest(&mut self, timeout_ms: i32, now: Wall) {
        assert!(!self.is_prepared(), "markers are owed");
        self.state = State::Empty;
        self.timeout_ms = timeout_ms;
        self.partitions = Partitions::default();
        (self.started, self.updated) = (None, now);
    }

    /// Partitions are written to from now on.
    pub fn add(&mut self, added: Partitions, version: ClientVersion, now: Wall) {
        assert!(!self.is_prepared(), "markers are owed");
        if self.state != State::Ongoing {
            self.started = Some(now);
        }
        self.state = State::Ongoing;
        self.previous_id = ProducerId::NONE;
        self.partitions.extend(added);
        (self.updated, self.client_version) = (now, version);
    }

    /// Its transaction is over, as another client came or it took too long: aborted, as if it had
    /// asked for that under `transaction.version` 2. Nobody writes with the epoch it has any more. Its
    /// client may still ask for this end, or for another epoch, and goes on with the one that it gets,
    /// until another client has one; unless that is the last, which nobody could fence.
    pub fn fence(&mut self, now: Wall) {
        assert_eq!(self.state, State::Ongoing, "there is something to abort");
        let ended = self.producer;
        self.producer.epoch = ProducerEpoch(ended.epoch.0.saturating_add(1));
        self.last_epoch = if ended.is_used_up() { ProducerEpoch::NONE } else { ended.epoch };
        (self.state, self.updated) = (State::Prepared(Outcome::Abort), now);
        self.client_version = ClientVersion::Two;
    }

    /// Its end is decided. `fresh` is the next producer if this one is used up by it.
    pub fn decide(
        &mut self,
        outcome: Outcome,
        version: ClientVersion,
        fresh: Option<ProducerId>,
        now: Wall,
    ) {
        assert!(!self.is_prepared(), "it is decided once");
        if version.bumps() {
            assert_eq!(self.producer.is_used_up(), fresh.is_some(), "a producer lasts to its end");
            self.last_epoch = self.producer.epoch;
            self.producer.epoch = ProducerEpoch(self.producer.epoch.0.saturating_add(1));
            self.next_id = fresh.unwrap_or(ProducerId::NONE);
        }
        if self.state != State::Ongoing {
            self.started = Some(now);
        }
        (self.state, self.updated, self.client_version) = (State::Prepared(outcome), now, version);
    }

    /// Every partition has its marker.
    pub fn complete(&mut self, now: Wall) {
        let State::Prepared(outcome) = self.state else { unreachable!("markers were owed") };
        if self.next_id != ProducerId::NONE {
            self.previous_id = self.producer.id;
            self.producer = Producer { id: self.next_id, epoch: ProducerEpoch(0) };
            self.next_id = ProducerId::NONE;
        }
        self.partitions = Partitions::default();
        (self.state, self.updated) = (State::Complete(outcome), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000);

    fn begun(version: ClientVersion, epoch: i16) -> Transaction {
        let mut it = Transaction::new(ProducerId(7), 60_000, NOW);
        it.producer.epoch = ProducerEpoch(epoch);
        it.add(Partitions::of([("t", 0)]), version, NOW);
        it
    }

    #[test]
    fn an_end_of_kafka_4_gives_the_next_epoch_and_one_before_does_not() {
        for (version, epoch) in [(ClientVersion::Zero, 3), (ClientVersion::Two, 4)] {
            let mut it = begun(version, 3);
            it.decide(Outcome::Commit, version, None, NOW);
            it.complete(NOW);
            assert_eq!(it.producer.epoch, ProducerEpoch(epoch), "{version:?}");
            assert_eq!(it.state, State::Complete(Outcome::Commit));
        }
    }

    #[test]
    fn the_last_end_of_a_producer_gives_the_next_producer() {
        let mut it = begun(ClientVersion::Two, i16::MAX - 1);
        it.decide(Outcome::Commit, ClientVersion::Two, Some(ProducerId(8)), NOW);
        assert_eq!(it.producer.epoch, ProducerEpoch(i16::MAX), "markers are newer than the data");
        let told = it.told();
        it.complete(NOW);
        assert_eq!((it.producer, it.previous_id), (told, ProducerId(7)));
        assert_eq!(told, Producer { id: ProducerId(8), epoch: ProducerEpoch(0) });
    }

    #[test]
    fn a_client_whose_transaction_was_aborted_may_ask_for_another_epoch_while_there_is_one() {
        let last = Producer::LAST_EPOCH;
        for version in [ClientVersion::Zero, ClientVersion::Two] {
            for (epoch, last_epoch) in [(3, ProducerEpoch(3)), (last.0, ProducerEpoch::NONE)] {
                let mut it = begun(version, epoch);
                it.fence(NOW);
                assert_eq!(it.producer.epoch, ProducerEpoch(epoch + 1), "{version:?}");
                assert_eq!(it.last_epoch, last_epoch);
                assert!(it.client_version.bumps(), "the marker is newer than the records");
            }
        }
    }
}

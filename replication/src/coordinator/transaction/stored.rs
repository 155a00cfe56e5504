//! What transactional ids leave in the log, and how it is read back.
//!
//! Does: turn a transaction into a record and a record into a transaction.
//! Does not: know the bytes; `internal_topics::transactions` does.
//! Invariants: a record read back gives the transaction, save the epoch before the last, which Kafka
//! does not write: a client that asks again across a change of leaders may be told it is fenced.
//! Apart because memory and log are different things that must not drift into each other.

use flumen_protocol::ids::ProducerEpoch;
use flumen_protocol::internal_topics::transactions::{
    Key, Status, TopicPartitions, TransactionValue, read_key, read_value, write_key, write_value,
};
use flumen_protocol::time::Wall;

use super::partitions::Partitions;
use super::state::{ClientVersion, Outcome, Producer, State, Transaction};
use crate::coordinator::machine::{ReplayError, StateRecord};

/// What a record says.
pub(super) enum Stored {
    /// An id and its transaction.
    Transaction(String, Box<Transaction>),
    /// An id was forgotten.
    Gone(String),
    /// Nothing that is read here.
    Skipped,
}

/// The record of a transaction.
pub(super) fn record(id: &str, it: &Transaction) -> StateRecord {
    let topics = it.partitions.topics().map(|(topic, indexes)| TopicPartitions {
        topic,
        partitions: indexes.iter().copied().collect(),
    });
    let value = TransactionValue {
        producer_id: it.producer.id,
        previous_producer_id: it.previous_id,
        next_producer_id: it.next_id,
        epoch: it.producer.epoch,
        timeout_ms: it.timeout_ms,
        status: status(it.state),
        partitions: (it.state != State::Empty).then(|| topics.collect()),
        updated: it.updated.0,
        started: it.started.map_or(-1, |at| at.0),
        client_version: it.client_version as i16,
    };
    StateRecord { key: write_key(id), value: Some(write_value(&value)) }
}

/// The record of an id that is forgotten.
pub(super) fn tombstone(id: &str) -> StateRecord {
    StateRecord { key: write_key(id), value: None }
}

/// Reads a record.
///
/// # Errors
/// When it is none that Kafka writes.
pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Stored, ReplayError> {
    let Key::Transaction { id } = read_key(key).map_err(ReplayError::Key)? else {
        return Ok(Stored::Skipped);
    };
    let Some(value) = value else { return Ok(Stored::Gone(id.to_owned())) };
    let value = read_value(value).map_err(ReplayError::Value)?;
    let Some(state) = state(value.status) else { return Ok(Stored::Gone(id.to_owned())) };
    let mut partitions = Partitions::default();
    for topic in value.partitions.iter().flatten() {
        topic.partitions.iter().for_each(|index| partitions.insert(topic.topic, *index));
    }
    let transaction = Transaction {
        producer: Producer { id: value.producer_id, epoch: value.epoch },
        last_epoch: ProducerEpoch::NONE,
        previous_id: value.previous_producer_id,
        next_id: value.next_producer_id,
        timeout_ms: value.timeout_ms,
        state,
        partitions,
        started: (value.started >= 0).then_some(Wall(value.started)),
        updated: Wall(value.updated),
        client_version: client_version(value.client_version),
    };
    Ok(Stored::Transaction(id.to_owned(), Box::new(transaction)))
}

fn status(state: State) -> Status {
    match state {
        State::Empty => Status::Empty,
        State::Ongoing => Status::Ongoing,
        State::Prepared(Outcome::Commit) => Status::PrepareCommit,
        State::Prepared(Outcome::Abort) => Status::PrepareAbort,
        State::Complete(Outcome::Commit) => Status::CompleteCommit,
        State::Complete(Outcome::Abort) => Status::CompleteAbort,
    }
}

/// `None` for an id that was being forgotten.
fn state(status: Status) -> Option<State> {
    match status {
        Status::Empty => Some(State::Empty),
        Status::Ongoing | Status::PrepareEpochFence => Some(State::Ongoing),
        Status::PrepareCommit => Some(State::Prepared(Outcome::Commit)),
        Status::PrepareAbort => Some(State::Prepared(Outcome::Abort)),
        Status::CompleteCommit => Some(State::Complete(Outcome::Commit)),
        Status::CompleteAbort => Some(State::Complete(Outcome::Abort)),
        Status::Dead => None,
    }
}

fn client_version(number: i16) -> ClientVersion {
    match number {
        ..=0 => ClientVersion::Zero,
        1 => ClientVersion::One,
        2.. => ClientVersion::Two,
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::ProducerId;

    use super::*;

    #[test]
    fn a_transaction_comes_back_as_it_was_written_but_for_its_epoch_before_the_last() {
        let mut it = Transaction::new(ProducerId(7), 60_000, Wall(5));
        it.producer.epoch = ProducerEpoch(3);
        it.previous_id = ProducerId(6);
        let partitions = Partitions::of([("t", 0), ("t", 2), ("other", 1)]);
        it.add(partitions, ClientVersion::Two, Wall(6));
        let mut states = vec![it.clone()];
        it.decide(Outcome::Abort, ClientVersion::Two, None, Wall(7));
        states.push(it.clone());
        it.complete(Wall(8));
        states.push(it);
        for mut it in states {
            let record = record("id", &it);
            let Ok(Stored::Transaction(id, read)) = read(&record.key, record.value.as_deref())
            else {
                panic!("it is a transaction")
            };
            it.last_epoch = ProducerEpoch::NONE;
            assert_eq!((id.as_str(), *read), ("id", it));
        }
    }

    #[test]
    fn a_used_up_producer_and_its_successor_come_back() {
        let mut it = Transaction::new(ProducerId(7), 60_000, Wall(5));
        it.producer.epoch = Producer::LAST_EPOCH;
        let (commit, two) = (Outcome::Commit, ClientVersion::Two);
        it.add(Partitions::of([("t", 0)]), two, Wall(6));
        it.decide(commit, two, Some(ProducerId(8)), Wall(7));
        let record = record("id", &it);
        let Ok(Stored::Transaction(_, mut read)) = read(&record.key, record.value.as_deref())
        else {
            panic!("it is a transaction")
        };
        read.complete(Wall(8));
        assert_eq!(read.producer, Producer { id: ProducerId(8), epoch: ProducerEpoch(0) });
    }

    #[test]
    fn a_tombstone_and_an_id_that_was_being_forgotten_are_gone() {
        let gone = tombstone("id");
        assert!(matches!(read(&gone.key, None), Ok(Stored::Gone(id)) if id == "id"));
        let mut value = record("id", &Transaction::new(ProducerId(7), 1, Wall(5))).value.unwrap();
        let mut bytes = value.to_vec();
        // The state's place: behind version, producer id, epoch and timeout.
        bytes[2 + 8 + 2 + 4] = Status::Dead as u8;
        value = bytes.into();
        assert!(matches!(read(&gone.key, Some(&value)), Ok(Stored::Gone(_))));
    }
}

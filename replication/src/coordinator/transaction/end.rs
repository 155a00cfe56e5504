//! EndTxn: whether a transaction may end as asked.
//!
//! Does: judge the question.
//! Does not: change anything.
//! Invariants: a client that asks again is told the same, also if the coordinator was faster; one that
//! was fenced is told so, once nothing is under way.
//! Apart because the two protocols tell a repetition from the next question in different ways.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerEpoch;

use super::state::{ClientVersion, Outcome, Producer, State, Transaction};

/// What the question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something new: decide.
    New,
    /// It was decided so and is over: say so again.
    Again,
}

/// Judges a question for an end.
///
/// # Errors
/// What to answer.
pub(super) fn judge(
    it: &Transaction,
    producer: Producer,
    outcome: Outcome,
    version: ClientVersion,
) -> Result<Asked, ErrorCode> {
    if version.bumps() {
        judge_bumping(it, producer, outcome)
    } else {
        judge_classic(it, producer, outcome)
    }
}

/// The epoch stays: the same question is the same transaction's.
fn judge_classic(
    it: &Transaction,
    producer: Producer,
    outcome: Outcome,
) -> Result<Asked, ErrorCode> {
    if producer.id != it.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if producer.epoch != it.producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    match it.state {
        State::Ongoing => Ok(Asked::New),
        State::Prepared(was) if was == outcome => Err(ErrorCode::ConcurrentTransactions),
        State::Complete(was) if was == outcome => Ok(Asked::Again),
        State::Empty | State::Prepared(_) | State::Complete(_) => Err(ErrorCode::InvalidTxnState),
    }
}

/// The epoch grows with each end: who asks with the one before asks again, who has the current one
/// asks about its next transaction. While an end is being written nobody is looked at closely: a
/// client whose producer is used up has been given the next one, which is not in force yet.
fn judge_bumping(
    it: &Transaction,
    producer: Producer,
    outcome: Outcome,
) -> Result<Asked, ErrorCode> {
    if it.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let of_previous = it.previous_id == producer.id
        && producer.epoch == Producer::LAST_EPOCH
        && it.producer.epoch == ProducerEpoch(0);
    if producer.id != it.producer.id && !of_previous {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let current = it.producer.epoch;
    // Beyond the last epoch is who was fenced, and nobody was given what follows.
    let is_one_behind =
        current <= Producer::LAST_EPOCH && i32::from(current.0) == i32::from(producer.epoch.0) + 1;
    // An older client keeps its epoch: the one before was of another client.
    let is_again = of_previous || (is_one_behind && it.client_version.bumps());
    let is_current = producer == it.producer;
    match it.state {
        State::Ongoing if is_current => Ok(Asked::New),
        State::Complete(was) if is_again && was == outcome => Ok(Asked::Again),
        // Nobody asks for both ends: the coordinator has aborted what was to be committed. Applications
        // begin anew at this code, and give up at the other.
        State::Complete(Outcome::Abort) if is_again => Err(ErrorCode::ProducerFenced),
        State::Complete(Outcome::Commit) if is_again => Err(ErrorCode::InvalidTxnState),
        // What a client may have begun without a partition having heard of it is a transaction too.
        State::Empty | State::Complete(_) if is_current && outcome == Outcome::Abort => {
            Ok(Asked::New)
        }
        State::Empty | State::Complete(_) if is_current => Err(ErrorCode::InvalidTxnState),
        State::Empty | State::Ongoing | State::Prepared(_) | State::Complete(_) => {
            Err(ErrorCode::ProducerFenced)
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::ProducerId;
    use flumen_protocol::time::Wall;

    use super::*;
    use Outcome::{Abort, Commit};

    const NOW: Wall = Wall(1_000);

    fn producer(id: i64, epoch: i16) -> Producer {
        Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
    }

    fn begun(version: ClientVersion) -> Transaction {
        let mut it = Transaction::new(ProducerId(7), 60_000, NOW);
        it.producer.epoch = ProducerEpoch(3);
        it.add(Default::default(), version, NOW);
        it
    }

    #[test]
    fn the_table_of_the_older_protocol() {
        let version = ClientVersion::Zero;
        let mut it = begun(version);
        assert_eq!(judge(&it, producer(7, 3), Commit, version), Ok(Asked::New));
        assert_eq!(judge(&it, producer(7, 2), Commit, version), Err(ErrorCode::ProducerFenced));
        let foreign = judge(&it, producer(8, 3), Commit, version);
        assert_eq!(foreign, Err(ErrorCode::InvalidProducerIdMapping));
        it.decide(Commit, version, None, NOW);
        let early = judge(&it, producer(7, 3), Commit, version);
        assert_eq!(early, Err(ErrorCode::ConcurrentTransactions));
        let other = judge(&it, producer(7, 3), Abort, version);
        assert_eq!(other, Err(ErrorCode::InvalidTxnState));
        let fenced = judge(&it, producer(7, 2), Commit, version);
        assert_eq!(fenced, Err(ErrorCode::ProducerFenced));
        it.complete(NOW);
        assert_eq!(judge(&it, producer(7, 3), Commit, version), Ok(Asked::Again));
        let other = judge(&it, producer(7, 3), Abort, version);
        assert_eq!(other, Err(ErrorCode::InvalidTxnState));
    }

    #[test]
    fn the_table_of_kafka_4() {
        let version = ClientVersion::Two;
        let mut it = begun(version);
        let fenced = judge(&it, producer(7, 2), Commit, version);
        assert_eq!(fenced, Err(ErrorCode::ProducerFenced));
        it.decide(Commit, version, None, NOW);
        for epoch in [2, 3, 4] {
            let early = judge(&it, producer(7, epoch), Commit, version);
            assert_eq!(early, Err(ErrorCode::ConcurrentTransactions), "{epoch}");
        }
        it.complete(NOW);
        assert_eq!(judge(&it, producer(7, 3), Commit, version), Ok(Asked::Again));
        let other = judge(&it, producer(7, 3), Abort, version);
        assert_eq!(other, Err(ErrorCode::InvalidTxnState));
        assert_eq!(judge(&it, producer(7, 4), Abort, version), Ok(Asked::New), "of nothing");
        let nothing = judge(&it, producer(7, 4), Commit, version);
        assert_eq!(nothing, Err(ErrorCode::InvalidTxnState));
        let fenced = judge(&it, producer(7, 2), Commit, version);
        assert_eq!(fenced, Err(ErrorCode::ProducerFenced));
    }

    #[test]
    fn a_used_up_producer_may_ask_again_about_its_last_end() {
        let version = ClientVersion::Two;
        let mut it = begun(version);
        it.producer.epoch = Producer::LAST_EPOCH;
        it.decide(Commit, version, Some(ProducerId(8)), NOW);
        let early = judge(&it, it.told(), Abort, version);
        assert_eq!(early, Err(ErrorCode::ConcurrentTransactions), "as who it will be");
        it.complete(NOW);
        let again = judge(&it, producer(7, i16::MAX - 1), Commit, version);
        assert_eq!(again, Ok(Asked::Again));
    }

    #[test]
    fn a_client_may_abort_what_took_too_long_and_go_on_but_not_commit_it() {
        let version = ClientVersion::Two;
        let mut it = begun(version);
        it.fence(NOW);
        let early = judge(&it, producer(7, 3), Abort, version);
        assert_eq!(early, Err(ErrorCode::ConcurrentTransactions));
        it.complete(NOW);
        assert_eq!(judge(&it, producer(7, 3), Abort, version), Ok(Asked::Again));
        let commit = judge(&it, producer(7, 3), Commit, version);
        assert_eq!(commit, Err(ErrorCode::ProducerFenced));
        it.renew(None, 60_000, NOW);
        let zombie = judge(&it, producer(7, 3), Abort, version);
        assert_eq!(zombie, Err(ErrorCode::ProducerFenced), "another client came");
    }

    #[test]
    fn who_was_fenced_at_the_last_epoch_cannot_pass_for_one_that_asks_again() {
        let version = ClientVersion::Two;
        let mut it = begun(version);
        it.producer.epoch = Producer::LAST_EPOCH;
        it.fence(NOW);
        it.complete(NOW);
        let zombie = judge(&it, producer(7, i16::MAX - 1), Abort, version);
        assert_eq!(zombie, Err(ErrorCode::ProducerFenced));
    }
}

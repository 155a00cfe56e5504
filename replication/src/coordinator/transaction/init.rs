//! InitProducerId: who may have which epoch.
//!
//! Does: judge the question and move the transaction.
//! Does not: write records.
//! Invariants: two clients are never given the same epoch, save the same client that asks again.
//! Apart because half of the fencing of a transactional id is here.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId};
use flumen_protocol::time::Wall;

use super::state::{Producer, State, Transaction};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initialised {
    /// The client has its producer.
    Ready,
    /// A transaction was under way and is aborted now; the client has to ask again.
    Aborting,
    /// Nothing has happened: another producer id is wanted for it.
    WantsId,
}

/// Gives a client its producer. `fresh` becomes its id if the one there is used up.
///
/// # Errors
/// What to answer; nothing has changed then.
pub(super) fn init(
    it: &mut Transaction,
    asked: Option<Producer>,
    timeout_ms: i32,
    fresh: Option<ProducerId>,
    now: Wall,
) -> Result<Initialised, ErrorCode> {
    // A client whose producer is used up was given the next one, which is not in force yet.
    if it.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if !asked.is_none_or(|asked| may_ask(it, asked)) {
        return Err(ErrorCode::ProducerFenced);
    }
    match it.state {
        State::Ongoing => {
            it.fence(now);
            Ok(Initialised::Aborting)
        }
        State::Empty | State::Prepared(_) | State::Complete(_) => {
            renew(it, asked.map(|asked| asked.epoch), timeout_ms, fresh, now)
        }
    }
}

/// Whether the producer a client says it was may be one that was given to it: the one there, or the
/// one before if that was used up. The epoch is looked at later.
fn may_ask(it: &Transaction, asked: Producer) -> bool {
    it.producer.epoch == ProducerEpoch::NONE
        || asked.id == it.producer.id
        || (asked.id == it.previous_id && asked.is_used_up())
}

fn renew(
    it: &mut Transaction,
    asked: Option<ProducerEpoch>,
    timeout_ms: i32,
    fresh: Option<ProducerId>,
    now: Wall,
) -> Result<Initialised, ErrorCode> {
    let current = it.producer.epoch;
    let is_current = asked.is_none_or(|asked| asked == current);
    if it.producer.is_used_up() && is_current {
        let Some(id) = fresh else { return Ok(Initialised::WantsId) };
        it.rotate(id, asked.is_some(), timeout_ms, now);
    } else if is_current || current == ProducerEpoch::NONE {
        it.renew(asked, timeout_ms, now);
    } else if asked == Some(it.last_epoch) {
        it.repeat(timeout_ms, now);
    } else {
        return Err(ErrorCode::ProducerFenced);
    }
    Ok(Initialised::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::transaction::state::{ClientVersion, Outcome};

    const NOW: Wall = Wall(1_000);

    fn asked(id: i64, epoch: i16) -> Option<Producer> {
        Some(Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) })
    }

    fn at(epoch: i16) -> Transaction {
        let mut it = Transaction::new(ProducerId(7), 60_000, NOW);
        it.producer.epoch = ProducerEpoch(epoch);
        it
    }

    fn epoch_after(it: &mut Transaction, who: Option<Producer>) -> Result<i16, ErrorCode> {
        init(it, who, 60_000, None, NOW).map(|_| it.producer.epoch.0)
    }

    #[test]
    fn another_client_fences_the_one_before() {
        let mut it = at(-1);
        assert_eq!(epoch_after(&mut it, None), Ok(0));
        assert_eq!(epoch_after(&mut it, None), Ok(1));
        assert_eq!(epoch_after(&mut it, asked(7, 0)), Err(ErrorCode::ProducerFenced));
        assert_eq!(epoch_after(&mut it, asked(6, 1)), Err(ErrorCode::ProducerFenced));
    }

    #[test]
    fn who_asks_for_another_epoch_gets_it_once_however_often_it_asks() {
        let mut it = at(4);
        assert_eq!(epoch_after(&mut it, asked(7, 4)), Ok(5));
        assert_eq!(epoch_after(&mut it, asked(7, 4)), Ok(5), "it asks again");
        assert_eq!(epoch_after(&mut it, None), Ok(6));
        assert_eq!(epoch_after(&mut it, asked(7, 5)), Err(ErrorCode::ProducerFenced));
    }

    #[test]
    fn a_producer_without_epochs_is_replaced_when_another_is_there() {
        let mut it = at(i16::MAX - 1);
        let who = asked(7, i16::MAX - 1);
        assert_eq!(init(&mut it, who, 60_000, None, NOW), Ok(Initialised::WantsId));
        let fresh = Some(ProducerId(8));
        assert_eq!(init(&mut it, who, 60_000, fresh, NOW), Ok(Initialised::Ready));
        assert_eq!((it.producer.id, it.producer.epoch), (ProducerId(8), ProducerEpoch(0)));
        assert_eq!(epoch_after(&mut it, who), Ok(0), "it asks again");
    }

    #[test]
    fn what_is_under_way_is_aborted_first() {
        let mut it = at(3);
        it.add(Default::default(), ClientVersion::Zero, NOW);
        assert_eq!(init(&mut it, None, 60_000, None, NOW), Ok(Initialised::Aborting));
        assert_eq!(it.state, State::Prepared(Outcome::Abort));
        assert_eq!(epoch_after(&mut it, None), Err(ErrorCode::ConcurrentTransactions));
        it.complete(NOW);
        assert_eq!(epoch_after(&mut it, None), Ok(5), "one is given to nobody");
        assert_eq!(epoch_after(&mut it, asked(7, 3)), Err(ErrorCode::ProducerFenced));
    }

    #[test]
    fn a_client_that_asks_for_another_epoch_in_the_middle_of_its_transaction_gets_the_next() {
        let mut it = at(3);
        it.add(Default::default(), ClientVersion::Zero, NOW);
        let who = asked(7, 3);
        assert_eq!(init(&mut it, who, 60_000, None, NOW), Ok(Initialised::Aborting));
        it.complete(NOW);
        assert_eq!(epoch_after(&mut it, who), Ok(4));
        assert_eq!(epoch_after(&mut it, who), Ok(4), "it asks again");
    }

    #[test]
    fn nobody_gets_the_epoch_that_is_left_to_fence_with() {
        let mut it = at(i16::MAX - 1);
        it.add(Default::default(), ClientVersion::Two, NOW);
        let who = asked(7, i16::MAX - 1);
        assert_eq!(init(&mut it, who, 60_000, None, NOW), Ok(Initialised::Aborting));
        it.complete(NOW);
        assert_eq!(epoch_after(&mut it, who), Err(ErrorCode::ProducerFenced));
        assert_eq!(init(&mut it, None, 60_000, None, NOW), Ok(Initialised::WantsId));
    }
}

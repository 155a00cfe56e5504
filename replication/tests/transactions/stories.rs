//! One story per rule.

use std::collections::BTreeSet;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::time::WallTrust;
use flumen_replication::coordinator::transaction::TransactionConfig;
use flumen_replication::coordinator::transaction::requests::{
    ClientVersion, Outcome, Partitions, Producer, State, TransactionFilter, TransactionRequest,
    TransactionResponse,
};
use flumen_replication::limits::{TRANSACTION_PARK_PATIENCE, TRANSACTION_PARTITIONS_MAX};

use crate::world::{FIRST_ID, World, add, producer};
use ClientVersion::{Two, Zero};
use Outcome::{Abort, Commit};

#[test]
fn the_second_client_of_an_id_fences_the_first() {
    let mut world = World::new();
    let first = world.init("id").unwrap();
    assert_eq!(first, producer(FIRST_ID, 0));
    let second = world.init("id").unwrap();
    assert_eq!(second, producer(FIRST_ID, 1));
    assert_eq!(world.add("id", first, Zero), ErrorCode::ProducerFenced);
    assert_eq!(world.end("id", first, Commit, Zero), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.add("id", second, Zero), ErrorCode::None);
    let stranger = producer(7, 1);
    assert_eq!(world.add("id", stranger, Zero), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(world.add("other", second, Zero), ErrorCode::InvalidProducerIdMapping);
}

#[test]
fn an_older_client_keeps_its_epoch_and_is_told_before_markers_are_written() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Zero);
    assert_eq!(world.state("id"), "Ongoing");
    assert_eq!(world.end("id", me, Commit, Zero), Ok(me));
    assert_eq!(world.state("id"), "PrepareCommit");
    assert_eq!(world.end("id", me, Commit, Zero), Err(ErrorCode::ConcurrentTransactions));
    let owed = world.write_markers();
    assert_eq!(owed.len(), 1);
    assert_eq!((owed[0].ending.producer, owed[0].ending.outcome), (me, Commit));
    assert_eq!(owed[0].partitions, Partitions::of([("t", 0), ("t", 1)]));
    assert_eq!(world.state("id"), "CompleteCommit");
    assert_eq!(world.end("id", me, Commit, Zero), Ok(me), "it asks again");
    assert_eq!(world.end("id", me, Abort, Zero), Err(ErrorCode::InvalidTxnState));
    assert_eq!(world.add("id", me, Zero), ErrorCode::None, "the next one");
}

#[test]
fn a_client_of_kafka_4_gets_an_epoch_with_every_end() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Two);
    let next = world.end("id", me, Abort, Two).unwrap();
    assert_eq!(next, producer(FIRST_ID, 1));
    let owed = world.write_markers();
    assert_eq!(owed[0].ending.producer, next, "markers are newer than the records");
    assert!(owed[0].ending.version.bumps());
    assert_eq!(world.end("id", me, Abort, Two), Ok(next), "it asks again");
    assert_eq!(world.end("id", me, Commit, Two), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.end("id", next, Commit, Two), Err(ErrorCode::InvalidTxnState), "of nothing");
    let after = world.end("id", next, Abort, Two).unwrap();
    assert_eq!(after, producer(FIRST_ID, 2), "aborting nothing gives an epoch too");
    assert!(world.owed.is_empty(), "and owes nothing");
    assert_eq!(world.state("id"), "CompleteAbort");
    assert_eq!(world.add("id", me, Two), ErrorCode::ProducerFenced);
}

#[test]
fn the_next_transaction_waits_for_the_markers_of_the_last_but_not_for_long() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Two);
    let next = world.end("id", me, Commit, Two).unwrap();
    let begun = world.ask(add("id", next, &[("u", 0)], Two));
    assert!(!world.is_answered(begun));
    world.write_markers();
    assert_eq!(world.answer(begun), TransactionResponse::Add(ErrorCode::None));
    assert_eq!(world.describe("id").unwrap().partitions, Partitions::of([("u", 0)]));

    let last = world.end("id", next, Commit, Two).unwrap();
    let begun = world.ask(add("id", last, &[("u", 0)], Two));
    world.wait(TRANSACTION_PARK_PATIENCE);
    let refused = TransactionResponse::Add(ErrorCode::ConcurrentTransactions);
    assert_eq!(world.answer(begun), refused);
    let waiting = world.ask(add("id", last, &[("u", 0)], Two));
    world.reload();
    let refused = TransactionResponse::Add(ErrorCode::NotCoordinator);
    assert_eq!(world.answer(waiting), refused, "nobody is forgotten");
}

#[test]
fn who_was_fenced_does_not_begin_with_the_markers_of_who_fenced_it() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Two);
    assert_eq!(world.init("id"), Err(ErrorCode::ConcurrentTransactions));
    let late = world.ask(add("id", me, &[("u", 0)], Two));
    world.write_markers();
    assert_eq!(world.answer(late), TransactionResponse::Add(ErrorCode::ProducerFenced));
}

#[test]
fn a_decision_that_was_acknowledged_is_carried_out_by_the_next_coordinator() {
    for version in [Zero, Two] {
        let mut world = World::new();
        let me = world.init("id").unwrap();
        world.add("id", me, version);
        let next = world.end("id", me, Commit, version).unwrap();
        world.reload();
        assert_eq!(world.state("id"), "PrepareCommit");
        let owed = world.write_markers();
        assert_eq!((owed.len(), owed[0].ending.outcome), (1, Commit));
        assert_eq!(world.state("id"), "CompleteCommit");
        assert_eq!(world.end("id", me, Commit, version), Ok(next), "it asks again");
        world.reload();
        assert!(world.owed.is_empty(), "once is enough");
    }
}

#[test]
fn nothing_is_owed_before_the_decision_is_committed_and_nothing_if_it_fails() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Two);
    world.is_holding = true;
    let end = TransactionRequest::End {
        id: "id".to_owned(),
        producer: me,
        outcome: Commit,
        version: Two,
        fresh: None,
    };
    let ended = world.ask(end);
    assert!(world.owed.is_empty() && !world.is_answered(ended));
    world.fail();
    assert_eq!(world.answer(ended), TransactionResponse::End(Err(ErrorCode::NotCoordinator)));
    world.load();
    assert!(world.owed.is_empty());
    assert_eq!(world.state("id"), "Ongoing");
    assert_eq!(world.end("id", me, Abort, Two), Ok(producer(FIRST_ID, 1)), "it may still abort");
}

#[test]
fn a_slow_disk_loses_no_markers_though_the_client_was_told_of_it() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Zero);
    world.is_holding = true;
    let end = TransactionRequest::End {
        id: "id".to_owned(),
        producer: me,
        outcome: Commit,
        version: Zero,
        fresh: None,
    };
    let ended = world.ask(end);
    world.wait(Duration::from_secs(31));
    let told = TransactionResponse::End(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(world.answer(ended), told);
    world.release();
    assert_eq!(world.write_markers().len(), 1);
    assert_eq!(world.state("id"), "CompleteCommit");
}

#[test]
fn markers_are_reported_once_however_long_their_record_takes() {
    for is_lost in [false, true] {
        let mut world = World::new();
        let me = world.init("id").unwrap();
        world.add("id", me, Zero);
        world.end("id", me, Commit, Zero).unwrap();
        let owed = std::mem::take(&mut world.owed);
        world.is_holding = true;
        let (id, producer) = (owed[0].id.clone(), owed[0].ending.producer);
        let reported = world.ask(TransactionRequest::MarkersWritten { id, producer });
        world.wait(Duration::from_secs(29));
        assert!(!world.is_answered(reported));
        // Told again, it could be taken for the end of the next transaction, of the same epoch.
        world.wait(Duration::from_secs(2));
        let noted = TransactionResponse::MarkersWritten(ErrorCode::None);
        assert_eq!(world.answer(reported), noted);
        if is_lost {
            world.fail();
            world.reload();
            assert_eq!(world.owed, owed, "who is loaded owes them again");
        } else {
            world.release();
            assert_eq!(world.state("id"), "CompleteCommit");
        }
    }
}

#[test]
fn a_marker_in_the_log_of_transactions_ends_nothing_and_breaks_nothing() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Two);
    world.append_marker(me);
    world.reload();
    assert_eq!(world.state("id"), "Ongoing");
    assert!(world.end("id", me, Commit, Two).is_ok());
}

#[test]
fn what_takes_too_long_is_aborted_and_cannot_be_committed() {
    let next = producer(FIRST_ID, 1);
    for (version, aborted) in [(Zero, Err(ErrorCode::ProducerFenced)), (Two, Ok(next))] {
        let mut world = World::new();
        let me = world.init("id").unwrap();
        world.add("id", me, version);
        world.wait(Duration::from_secs(40));
        assert_eq!(world.add("id", me, version), ErrorCode::None, "adding gives no more time");
        world.wait(Duration::from_secs(19));
        assert_eq!(world.state("id"), "Ongoing");
        world.wait(Duration::from_secs(1));
        assert_eq!(world.state("id"), "PrepareAbort");
        let owed = world.write_markers();
        assert_eq!((owed[0].ending.producer, owed[0].ending.outcome), (next, Abort));
        assert!(owed[0].ending.version.bumps(), "whatever its client speaks");
        assert_eq!(world.end("id", me, Commit, version), Err(ErrorCode::ProducerFenced));
        assert_eq!(world.add("id", me, version), ErrorCode::ProducerFenced);
        assert_eq!(world.end("id", me, Abort, version), aborted, "a client of Kafka 4 goes on");
        assert_eq!(world.init_as("id", Some(me)), Ok(next), "and so does who asks for an epoch");
        world.wait(Duration::from_secs(600));
        assert!(world.owed.is_empty(), "once");
    }
}

#[test]
fn the_time_of_a_transaction_goes_on_under_the_next_coordinator() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    world.add("id", me, Zero);
    world.wait(Duration::from_secs(50));
    world.reload();
    world.wait(Duration::from_secs(9));
    assert_eq!(world.state("id"), "Ongoing");
    world.wait(Duration::from_secs(1));
    assert_eq!(world.state("id"), "PrepareAbort");
}

#[test]
fn a_new_client_aborts_what_the_old_one_left_and_asks_again() {
    let mut world = World::new();
    let old = world.init("id").unwrap();
    world.add("id", old, Zero);
    assert_eq!(world.init("id"), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(world.init("id"), Err(ErrorCode::ConcurrentTransactions), "markers are owed");
    assert_eq!(world.write_markers()[0].ending.outcome, Abort);
    let new = world.init("id").unwrap();
    assert_eq!(new, producer(FIRST_ID, 2));
    for (outcome, version) in [(Commit, Zero), (Abort, Zero), (Commit, Two), (Abort, Two)] {
        assert_eq!(world.end("id", old, outcome, version), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn a_zombie_of_kafka_4_is_not_given_the_epoch_of_the_older_client_after_it() {
    for outcome in [Commit, Abort] {
        let mut world = World::new();
        let zombie = world.init("id").unwrap();
        let me = world.init("id").unwrap();
        world.add("id", me, Zero);
        assert_eq!(world.end("id", me, outcome, Zero), Ok(me));
        world.write_markers();
        assert_eq!(world.end("id", zombie, outcome, Two), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn a_client_that_asks_for_the_next_epoch_gets_the_same_one_again() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    let next = world.init_as("id", Some(me)).unwrap();
    assert_eq!(next, producer(FIRST_ID, 1));
    assert_eq!(world.init_as("id", Some(me)), Ok(next), "its answer was lost");
    let other = world.init("id").unwrap();
    assert_eq!(world.init_as("id", Some(next)), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.init_as("id", Some(producer(7, 2))), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.init_as("id", Some(other)), Ok(producer(FIRST_ID, 3)));
}

#[test]
fn a_producer_without_epochs_is_followed_by_another() {
    let mut world = World::new();
    let mut me = world.init("id").unwrap();
    while me.epoch < Producer::LAST_EPOCH {
        me = world.end("id", me, Abort, Two).unwrap();
    }
    assert_eq!(me, producer(FIRST_ID, i16::MAX - 1));
    world.add("id", me, Two);
    let next = world.end("id", me, Commit, Two).unwrap();
    assert_eq!(next, producer(FIRST_ID + 1, 0));
    let begun = world.ask(add("id", next, &[("u", 0)], Two));
    let mut loaded = world.loaded();
    for (world, begun) in [(&mut world, Some(begun)), (&mut loaded, None)] {
        let owed = world.write_markers();
        assert_eq!(owed[0].ending.producer, producer(FIRST_ID, i16::MAX), "newer than the records");
        let asked_again = world.end("id", me, Commit, Two);
        match begun {
            Some(begun) => {
                assert_eq!(world.answer(begun), TransactionResponse::Add(ErrorCode::None));
                let unknown = Err(ErrorCode::InvalidProducerIdMapping);
                assert_eq!(asked_again, unknown, "the next one has begun");
                let zombie = world.init_as("id", Some(me));
                assert_eq!(zombie, Err(ErrorCode::ProducerFenced));
                assert_eq!(world.state("id"), "Ongoing", "and it is left in peace");
            }
            None => {
                assert_eq!(asked_again, Ok(next));
                assert_eq!(world.add("id", next, Two), ErrorCode::None);
            }
        }
    }
}

#[test]
fn partitions_are_verified_against_the_transaction_that_is_under_way() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    let verify = |producer| TransactionRequest::Verify {
        id: "id".to_owned(),
        producer,
        partitions: Partitions::of([("t", 0), ("u", 0)]),
    };
    let strangers = |all: &[(&'static str, i32)]| {
        TransactionResponse::Verify(Ok(Partitions::of(all.iter().copied())))
    };
    assert_eq!(world.tell(verify(me)), strangers(&[("t", 0), ("u", 0)]));
    world.add("id", me, Zero);
    assert_eq!(world.tell(verify(me)), strangers(&[("u", 0)]));
    let fenced = TransactionResponse::Verify(Err(ErrorCode::ProducerFenced));
    assert_eq!(world.tell(verify(producer(FIRST_ID, 9))), fenced);
    world.end("id", me, Commit, Zero).unwrap();
    let early = TransactionResponse::Verify(Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(world.tell(verify(me)), early);
    world.write_markers();
    assert_eq!(world.tell(verify(me)), strangers(&[("t", 0), ("u", 0)]), "it is over");
}

#[test]
fn ids_nobody_uses_are_forgotten_but_not_by_a_clock_that_is_in_doubt() {
    let week = Duration::from_secs(7 * 24 * 3600);
    let mut world = World::new();
    world.init("idle").unwrap();
    world.wall = WallTrust::Doubted;
    world.wait(2 * week);
    assert_eq!(world.state("idle"), "Empty");
    world.wall = WallTrust::Trusted;
    let me = world.init("busy").unwrap();
    world.add("busy", me, Zero);
    world.wait(Duration::from_secs(3600));
    assert_eq!(world.describe("idle").err(), Some(ErrorCode::TransactionalIdNotFound));
    assert_eq!(world.state("busy"), "PrepareAbort", "it is not idle: markers are owed");
    world.wait(2 * week);
    assert_eq!(world.state("busy"), "PrepareAbort");
    assert_eq!(world.loaded().list(TransactionFilter::default()), ["busy"]);
    let again = world.init("idle").unwrap();
    assert_eq!(again.epoch.0, 0, "as if it had never been");
}

#[test]
fn a_timeout_is_as_long_as_the_broker_allows() {
    let mut world = World::with(TransactionConfig { max_timeout_ms: 1000, ..Default::default() });
    for timeout_ms in [0, -1, 1001] {
        let id = "id".to_owned();
        let request = TransactionRequest::Init { id, timeout_ms, asked: None, fresh: None };
        let refused = TransactionResponse::Init(Err(ErrorCode::InvalidTransactionTimeout));
        assert_eq!(world.tell(request), refused, "{timeout_ms}");
    }
    assert!(world.list(TransactionFilter::default()).is_empty());
}

#[test]
fn a_transaction_has_only_so_many_partitions_and_they_fit_a_record() {
    let mut world = World::new();
    let me = world.init("id").unwrap();
    let count = TRANSACTION_PARTITIONS_MAX as i32;
    let many: Vec<(&str, i32)> = (0..count).map(|index| ("t", index)).collect();
    let all = world.tell(add("id", me, &many, Zero));
    assert_eq!(all, TransactionResponse::Add(ErrorCode::None));
    let one_more = world.tell(add("id", me, &[("t", count)], Zero));
    assert_eq!(one_more, TransactionResponse::Add(ErrorCode::InvalidTxnState));
    let known = world.tell(add("id", me, &[("t", 0)], Zero));
    assert_eq!(known, TransactionResponse::Add(ErrorCode::None));

    let other = world.init("other").unwrap();
    let names: Vec<String> = (0..5000).map(|number| format!("{number:0>240}")).collect();
    let long: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let refused = world.tell(add("other", other, &long, Zero));
    assert_eq!(refused, TransactionResponse::Add(ErrorCode::InvalidTxnState));
    assert_eq!(world.state("other"), "Empty");
}

#[test]
fn ids_are_bounded_by_what_they_weigh() {
    let mut world = World::new();
    let long = "x".repeat(32_000);
    let refused = (0..).find_map(|number| world.init(&format!("{number}{long}")).err());
    assert_eq!(refused, Some(ErrorCode::CoordinatorNotAvailable));
    let known = world.init(&format!("0{long}"));
    assert_eq!(known.map(|it| it.epoch.0), Ok(1), "those that are there go on");
}

#[test]
fn a_list_has_what_is_asked_for() {
    let mut world = World::new();
    let a = world.init("a").unwrap();
    world.init("b").unwrap();
    world.add("a", a, Zero);
    world.wait(Duration::from_secs(10));
    let list = |world: &mut World, states: Option<BTreeSet<State>>, producers, longer_than_ms| {
        world.list(TransactionFilter { states, producers, longer_than_ms })
    };
    let (all, ongoing) = (BTreeSet::new(), BTreeSet::from([State::Ongoing]));
    assert_eq!(list(&mut world, None, all.clone(), None), ["a", "b"]);
    assert_eq!(list(&mut world, Some(ongoing.clone()), all.clone(), None), ["a"]);
    assert!(list(&mut world, Some(BTreeSet::new()), all.clone(), None).is_empty());
    let second = BTreeSet::from([ProducerId(FIRST_ID + 1)]);
    assert_eq!(list(&mut world, None, second, None), ["b"]);
    assert_eq!(list(&mut world, Some(ongoing.clone()), all.clone(), Some(9_999)), ["a"]);
    assert!(list(&mut world, Some(ongoing), all.clone(), Some(10_000)).is_empty());
    assert_eq!(list(&mut world, None, all, Some(10_000)), ["b"], "as Kafka: it never began");
}

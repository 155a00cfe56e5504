//! What happens where a group, a batch or a log ends.

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, ProducerId};
use flumen_protocol::messages::{GroupId, StrBytes};
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};
use flumen_replication::coordinator::Ticket;
use flumen_replication::coordinator::group::{
    GroupConfig, GroupCoordinator, GroupRequest, GroupResponse,
};
use flumen_replication::coordinator::machine::ReplayError;
use flumen_replication::coordinator::producer::Outcome;
use flumen_replication::coordinator::runtime::{Coordinator, CoordinatorEffect, EffectOf, Phase};
use flumen_replication::dice::Dice;
use flumen_replication::limits::{
    COORDINATOR_BATCH_BYTES_MAX, COORDINATOR_GROUPS_BYTES_MAX, COORDINATOR_OFFSETS_BYTES_MAX,
    GROUP_MEMBER_METADATA_BYTES_MAX, GROUP_MEMBERS_BYTES_MAX, GROUP_NAME_BYTES_MAX,
    GROUP_OFFSETS_MAX,
};

use crate::asks::{Known, ask};

const NOW: Now = Now { monotonic: Monotonic(0), wall: Wall(1_000_000) };

/// Answers, by the number of their ticket.
type Answers = Vec<(u64, GroupResponse)>;

/// A coordinator that serves, and what it wanted done.
struct Bench {
    coordinator: Coordinator<GroupCoordinator>,
    out: Vec<EffectOf<GroupCoordinator>>,
    asked: u64,
}

impl Bench {
    fn new() -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        let mut coordinator = Coordinator::new(config);
        coordinator.begin_load();
        coordinator.finish_load(NOW, &mut Vec::new());
        Self { coordinator, out: Vec::new(), asked: 0 }
    }

    /// Asks without ending the turn; hands the ticket's number out.
    fn ask(&mut self, request: GroupRequest) -> u64 {
        let ticket = Ticket { core: CoreId(0), request: self.asked, part: 0 };
        self.asked += 1;
        self.coordinator.handle(NOW, &mut Dice::new(self.asked), ticket, request, &mut self.out);
        ticket.request
    }

    /// Ends the turn: the batches it gave, and the answers that did not wait.
    fn settle(&mut self) -> (Vec<(u64, BytesMut)>, Answers) {
        self.coordinator.on_time(NOW, WallTrust::Trusted, &mut self.out);
        self.coordinator.settle(NOW, &mut self.out);
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        for effect in self.out.drain(..) {
            match effect {
                CoordinatorEffect::Append { batch, id } => batches.push((id, batch)),
                CoordinatorEffect::Reply { ticket, response } => {
                    answers.push((ticket.request, response));
                }
            }
        }
        (batches, answers)
    }

    fn commit(&mut self, id: u64) -> Answers {
        self.coordinator.appended(id, Ok(()), &mut self.out);
        self.settle().1
    }
}

fn request(command: &str) -> GroupRequest {
    let words: Vec<&str> = command.split_whitespace().collect();
    ask(&words, &Default::default()).1
}

/// Commits `count` offsets of a simple group in one request, from partition `first` on.
fn commit_many(first: usize, count: usize) -> GroupRequest {
    let mut request = request("commit - g t/0@1");
    if let GroupRequest::CommitOffsets { request, .. } = &mut request {
        let partition = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = (first..first + count)
            .map(|index| partition.clone().with_partition_index(index as i32))
            .collect();
    }
    request
}

fn commit_codes(response: &GroupResponse) -> Vec<i16> {
    let GroupResponse::CommitOffsets(response) = response else { panic!("{response:?}") };
    response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
}

#[test]
fn requests_of_one_turn_share_one_batch_and_are_answered_in_order() {
    let mut bench = Bench::new();
    for partition in 0..5 {
        bench.ask(request(&format!("commit - g t/{partition}@1")));
        bench.ask(request("fetch g t/0"));
    }
    let (batches, answers) = bench.settle();
    assert_eq!(batches.len(), 1);
    assert!(answers.is_empty(), "nothing is said before it is committed");
    assert_eq!(BatchHeader::parse(&batches[0].1).map(|header| header.record_count), Some(5));
    let answers = bench.commit(batches[0].0);
    let tickets: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, (0..10).collect::<Vec<u64>>());
}

#[test]
fn commits_too_large_for_one_batch_are_spread_over_batches_and_answered_with_theirs() {
    let mut bench = Bench::new();
    let tickets: Vec<u64> =
        (0..3).map(|part| bench.ask(commit_many(part * 10_000, 10_000))).collect();
    let (batches, answers) = bench.settle();
    assert!(batches.len() > 1 && answers.is_empty());
    assert!(batches.iter().all(|(_, batch)| batch.len() <= COORDINATOR_BATCH_BYTES_MAX));
    let answers: Vec<u64> =
        batches.iter().flat_map(|(id, _)| bench.commit(*id)).map(|(ticket, _)| ticket).collect();
    assert_eq!(answers, tickets);
}

#[test]
fn a_commit_whose_records_exceed_a_batch_is_refused_and_leaves_nothing() {
    let too_large = ErrorCode::InvalidCommitOffsetSize.code();
    let group = "g".repeat(GROUP_NAME_BYTES_MAX);
    let mut long_id = commit_many(0, 1000);
    if let GroupRequest::CommitOffsets { request, .. } = &mut long_id {
        request.group_id = GroupId(StrBytes::from_string(group));
    }
    for request in [commit_many(0, 40_000), long_id] {
        let mut bench = Bench::new();
        bench.ask(request);
        let (batches, answers) = bench.settle();
        assert!(batches.is_empty());
        let codes = commit_codes(&answers[0].1);
        assert!(codes.len() >= 1000 && codes.iter().all(|code| *code == too_large));
        assert_eq!(bench.coordinator.groups().count(), 0);
    }
}

#[test]
fn a_partition_committed_repeatedly_is_stored_once_with_its_last_offset() {
    let mut bench = Bench::new();
    let mut many = commit_many(0, 50_000);
    if let GroupRequest::CommitOffsets { request, .. } = &mut many {
        for (offset, partition) in (0..).zip(&mut request.topics[0].partitions) {
            partition.partition_index = 7;
            partition.committed_offset = offset;
        }
    }
    bench.ask(many);
    let (batches, _) = bench.settle();
    assert_eq!(batches.len(), 1);
    assert_eq!(BatchHeader::parse(&batches[0].1).map(|header| header.record_count), Some(1));
    let committed: Vec<i64> = bench.coordinator.committed().map(|row| row.offset.0).collect();
    assert_eq!(committed, [49_999]);
    assert_eq!(commit_codes(&bench.commit(batches[0].0)[0].1), [0; 50_000]);
}

#[test]
fn a_partition_fetched_or_deleted_repeatedly_is_answered_once_and_deleted_once() {
    let mut bench = Bench::new();
    bench.ask(request("commit - g t/7@1"));
    let id = bench.settle().0[0].0;
    bench.commit(id);
    let mut fetch = request("fetch g t/7 t/7 t/8");
    if let GroupRequest::FetchOffsets { request, .. } = &mut fetch {
        request.topics.as_mut().unwrap()[0].partition_indexes = vec![7; 1000];
    }
    bench.ask(fetch);
    let (_, answers) = bench.settle();
    let GroupResponse::FetchOffsets(fetched) = &answers[0].1 else { panic!("{answers:?}") };
    let indexes: Vec<Vec<i32>> = fetched
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|one| one.partition_index).collect())
        .collect();
    assert_eq!(indexes, [vec![7], vec![], vec![8]]);
    bench.ask(request("forget g t/7 t/7 t/7"));
    let (batches, _) = bench.settle();
    assert_eq!(BatchHeader::parse(&batches[0].1).map(|header| header.record_count), Some(1));
}

#[test]
fn offsets_beyond_the_limit_are_refused_partition_by_partition() {
    let mut bench = Bench::new();
    for first in (0..GROUP_OFFSETS_MAX).step_by(10_000) {
        bench.ask(commit_many(first, 10_000.min(GROUP_OFFSETS_MAX - 1 - first)));
    }
    let (batches, _) = bench.settle();
    bench.commit(batches.last().unwrap().0);
    // One known partition, the last free place, one too many.
    bench.ask(commit_many(GROUP_OFFSETS_MAX - 2, 3));
    let (batches, _) = bench.settle();
    let answers = bench.commit(batches.last().unwrap().0);
    let too_many = ErrorCode::InvalidCommitOffsetSize.code();
    assert_eq!(commit_codes(&answers[0].1), [0, 0, too_many]);
}

/// Commits offsets with notes of this length in one request, as `commit_many`.
fn commit_notes(group: &str, (first, count): (usize, usize), length: usize) -> GroupRequest {
    let mut many = commit_many(first, count);
    if let GroupRequest::CommitOffsets { request, .. } = &mut many {
        request.group_id = GroupId(StrBytes::from_string(group.to_owned()));
        for partition in &mut request.topics[0].partitions {
            partition.committed_metadata = Some(StrBytes::from_string("x".repeat(length)));
        }
    }
    many
}

#[test]
fn notes_that_fill_the_memory_are_refused_and_who_commits_as_before_goes_on() {
    const NOTE: usize = 4096;
    let too_large = ErrorCode::InvalidCommitOffsetSize.code();
    let mut bench = Bench::new();
    let mut log = Vec::new();
    let mut ask = |bench: &mut Bench, request| {
        bench.ask(request);
        let (batches, mut answers) = bench.settle();
        for (id, batch) in batches {
            log.extend_from_slice(&batch);
            answers.extend(bench.commit(id));
        }
        commit_codes(&answers[0].1)
    };
    assert_eq!(ask(&mut bench, commit_notes("early", (0, 2), 10)), [0, 0]);
    let mut taken = 0;
    // A group after the other, since one alone is held by another limit.
    let last = loop {
        let group = format!("g{}", taken / 10_000);
        let codes = ask(&mut bench, commit_notes(&group, (taken % 10_000, 200), NOTE));
        if codes.contains(&too_large) {
            break codes;
        }
        taken += codes.len();
    };
    assert!(last.is_sorted(), "what fits is taken: {last:?}");
    assert!(taken * NOTE < COORDINATOR_OFFSETS_BYTES_MAX);
    assert!(taken * NOTE > COORDINATOR_OFFSETS_BYTES_MAX / 10 * 9, "{taken}");

    assert_eq!(ask(&mut bench, commit_notes("new", (0, 1), NOTE)), [too_large]);
    assert_eq!(ask(&mut bench, commit_notes("early", (0, 1), NOTE)), [too_large], "a longer note");
    assert_eq!(ask(&mut bench, commit_notes("early", (0, 2), 10)), [0, 0], "as before");
    assert_eq!(ask(&mut bench, commit_notes("g0", (0, 100), 0)), [0; 100], "less than before");
    assert_eq!(ask(&mut bench, commit_notes("new", (0, 1), NOTE)), [0], "that made room");

    // Whatever the limit, nothing that is in the log is lost.
    let mut loaded = Coordinator::new(GroupConfig::default());
    loaded.begin_load();
    loaded.replay_batch(&log).unwrap();
    loaded.finish_load(NOW, &mut Vec::new());
    let offsets = |coordinator: &Coordinator<GroupCoordinator>| coordinator.committed().count();
    assert_eq!(offsets(&loaded), offsets(&bench.coordinator));
    assert!(offsets(&loaded) > taken);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_given_to_nobody() {
    let mut bench = Bench::new();
    bench.ask(request("join a g v=3"));
    let (_, answers) = bench.settle();
    let GroupResponse::Join(joined) = &answers[0].1 else { panic!("{answers:?}") };
    let me = Known { member_id: joined.member_id.to_string(), generation: 1 };
    let known = [("a".to_owned(), me)].into();
    let (_, mut sync) = ask(&["sync", "a", "g", "assign=a:x"], &known);
    if let GroupRequest::Sync { request } = &mut sync {
        request.assignments[0].assignment = Bytes::from(vec![0; COORDINATOR_BATCH_BYTES_MAX]);
    }
    bench.ask(sync);
    let (batches, answers) = bench.settle();
    assert!(batches.is_empty());
    let GroupResponse::Sync(synced) = &answers[0].1 else { panic!("{answers:?}") };
    assert_eq!(synced.error_code, ErrorCode::UnknownServerError.code());
    // The member is asked to join again.
    let (_, beat) = ask(&["beat", "a", "g"], &known);
    bench.ask(beat);
    let (_, answers) = bench.settle();
    let GroupResponse::Heartbeat(beat) = &answers[0].1 else { panic!("{answers:?}") };
    assert_eq!(beat.error_code, ErrorCode::RebalanceInProgress.code());
}

#[test]
fn a_joiner_that_is_too_large_is_refused() {
    let large = "x".repeat(GROUP_MEMBER_METADATA_BYTES_MAX);
    let name = "n".repeat(GROUP_NAME_BYTES_MAX + 1);
    let cases = [
        (format!("join a g protocols={}", ["p:x"; 65].join(",")), ErrorCode::InvalidRequest),
        (format!("join a g protocols=p:raw:{large}"), ErrorCode::InvalidRequest),
        (format!("join a g instance={name}"), ErrorCode::InvalidRequest),
        (format!("join {name} g"), ErrorCode::InvalidRequest),
        (format!("join a {name}"), ErrorCode::InvalidGroupId),
    ];
    for (command, error) in cases {
        let mut bench = Bench::new();
        bench.ask(request(&command));
        let (_, answers) = bench.settle();
        let GroupResponse::Join(joined) = &answers[0].1 else { panic!("{answers:?}") };
        assert_eq!(joined.error_code, error.code());
        assert_eq!(bench.coordinator.groups().count(), 0);
    }
}

fn join_codes(answers: &Answers) -> Vec<i16> {
    let code = |(_, response): &(u64, GroupResponse)| match response {
        GroupResponse::Join(joined) => joined.error_code,
        other => panic!("{other:?}"),
    };
    answers.iter().map(code).collect()
}

#[test]
fn a_group_whose_members_say_too_much_takes_no_further_ones() {
    let large = "x".repeat(GROUP_MEMBER_METADATA_BYTES_MAX - 1000);
    let fit = GROUP_MEMBERS_BYTES_MAX / GROUP_MEMBER_METADATA_BYTES_MAX;
    let mut bench = Bench::new();
    let many = |client: usize| request(&format!("join c{client} g v=3 protocols=p:raw:{large}"));
    for client in 0..fit {
        bench.ask(many(client));
    }
    bench.ask(many(fit));
    bench.ask(request("join small g v=3 protocols=p:raw:x"));
    // The one that is too large is told at once; the others wait for each other.
    let (_, answers) = bench.settle();
    assert_eq!(join_codes(&answers), [ErrorCode::GroupMaxSizeReached.code()]);
    assert_eq!(bench.coordinator.groups().next().unwrap().members, fit + 1);
}

#[test]
fn a_coordinator_whose_groups_weigh_too_much_lets_none_grow() {
    let large = "x".repeat(GROUP_MEMBER_METADATA_BYTES_MAX - 1000);
    let mut bench = Bench::new();
    let mut groups = 0;
    let refused = loop {
        bench.ask(request(&format!("join a g{groups} v=3 protocols=p:raw:{large}")));
        let (_, answers) = bench.settle();
        groups += 1;
        match join_codes(&answers)[..] {
            [0] | [] => {}
            ref codes => break codes.to_vec(),
        }
    };
    assert_eq!(refused, [ErrorCode::CoordinatorNotAvailable.code()]);
    assert!(groups * GROUP_MEMBER_METADATA_BYTES_MAX <= COORDINATOR_GROUPS_BYTES_MAX);
    assert!(groups * GROUP_MEMBER_METADATA_BYTES_MAX > COORDINATOR_GROUPS_BYTES_MAX / 10 * 9);
    assert_eq!(bench.coordinator.groups().count(), groups - 1);
}

#[test]
fn a_damaged_log_is_not_loaded() {
    let mut bench = Bench::new();
    bench.ask(request("commit - g t/0@1"));
    let (batches, _) = bench.settle();
    let mut log = batches[0].1.to_vec();
    let mut coordinator = Coordinator::new(GroupConfig::default());
    coordinator.begin_load();
    assert_eq!(coordinator.replay_batch(&log), Ok(()));
    assert_eq!(coordinator.groups().count(), 0, "nothing is shown while loading");
    *log.last_mut().unwrap() ^= 1;
    assert!(matches!(coordinator.replay_batch(&log), Err(ReplayError::Batch { .. })));
    assert_eq!(coordinator.phase(), Phase::Idle);
}

#[test]
fn every_request_has_a_refusal_the_codec_takes() {
    let commands = [
        "join a g v=0",
        "join a g v=5",
        "join a g v=9",
        "sync a g",
        "beat a g",
        "leave a g v=0",
        "leave a g v=5",
        "commit a g t/0@1 v=2",
        "commit a g t/0@1 v=9",
        "fetch g t/0",
        "forget g t/0",
        "topics_deleted t",
        "describe g v=0",
        "describe g v=6",
        "list",
        "delete g",
    ];
    for command in commands {
        let request = request(command);
        let refusal = request.refused(ErrorCode::NotCoordinator);
        crate::answers::check_encodable(&request, &refusal);
        let again = refusal.clone().refused(ErrorCode::CoordinatorNotAvailable);
        crate::answers::check_encodable(&request, &again);
        assert_ne!(refusal, again, "{command}");
    }
}

#[test]
fn a_marker_that_is_committed_while_the_log_is_loaded_is_not_lost() {
    let mut bench = Bench::new();
    let offsets = |bench: &Bench| -> Vec<i64> {
        bench.coordinator.committed().map(|row| row.offset.0).collect()
    };
    bench.ask(request("commit - g t/0@7 within=100"));
    let (batches, _) = bench.settle();
    assert_eq!(batches.len(), 1, "{batches:?}");
    let (id, log) = &batches[0];
    bench.commit(*id);
    bench.coordinator.resign(&mut bench.out);
    bench.coordinator.transaction_ended(ProducerId(100), Outcome::Commit);
    bench.coordinator.begin_load();
    bench.coordinator.replay_batch(log).unwrap();
    bench.coordinator.transaction_ended(ProducerId(100), Outcome::Commit);
    bench.coordinator.finish_load(NOW, &mut bench.out);
    assert_eq!(offsets(&bench), [7]);
}

#[test]
fn each_commit_within_a_transaction_is_a_batch_of_its_producer() {
    let mut bench = Bench::new();
    bench.ask(request("commit - g t/0@1"));
    bench.ask(request("commit - g t/1@1 within=100"));
    bench.ask(request("commit - g t/2@1 within=101"));
    bench.ask(request("commit - g t/3@1"));
    bench.ask(request("commit - g t/4@1"));
    // What belongs to no transaction leaves before what does, and after it, in the order it came.
    let (batches, answers) = bench.settle();
    let producers: Vec<Option<i64>> = batches
        .iter()
        .map(|(_, batch)| {
            let header = BatchHeader::parse(batch).unwrap();
            header.is_transactional().then_some(header.producer_id.0)
        })
        .collect();
    assert_eq!(producers, [None, Some(100), Some(101), None]);
    assert!(answers.is_empty());
    let answers = bench.commit(batches[3].0);
    let tickets: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [0, 1, 2, 3, 4]);
}

#[test]
fn a_coordinator_whose_core_has_no_memory_left_goes_on_with_what_it_has() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, request| {
        bench.ask(request);
        let (batches, mut answers) = bench.settle();
        batches.into_iter().for_each(|(id, _)| answers.extend(bench.commit(id)));
        answers
    };
    let codes = |answers: Answers| commit_codes(&answers[0].1);
    let refused = [ErrorCode::CoordinatorNotAvailable.code()];
    let too_large = ErrorCode::InvalidCommitOffsetSize.code();
    let join = |group: &str| request(&format!("join a {group} v=3 protocols=p:raw:x"));
    assert_eq!(codes(ask(&mut bench, commit_notes("early", (0, 2), 10))), [0, 0]);
    let weight = bench.coordinator.weight_bytes();
    bench.coordinator.set_weight_max(weight);
    assert_eq!(join_codes(&ask(&mut bench, join("late"))), refused);
    assert_eq!(codes(ask(&mut bench, commit_notes("late", (0, 1), 10))), [too_large]);
    assert_eq!(codes(ask(&mut bench, commit_notes("early", (1, 2), 10))), [0, too_large]);
    assert_eq!(bench.coordinator.weight_bytes(), weight);

    bench.coordinator.set_weight_max(weight + 10_000);
    assert_eq!(codes(ask(&mut bench, commit_notes("late", (0, 1), 10))), [0]);
    assert!(join_codes(&ask(&mut bench, join("later"))) != refused);
}

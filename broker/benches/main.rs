//! The replay program: what each unit of work costs in instructions, counted by callgrind.
//!
//! Does: prepare a unit (not counted), do it many times (counted), look at the outcome (not
//! counted). `scripts/budgets.sh` runs it and compares with `baseline.tsv`.
//! Does not: measure time, use an executor, a clock or a disk.
//! Invariants: a function below does only what its row in `baseline.tsv` says, as often as it says
//! there; everything it is given is prepared, everything it leaves is dropped outside.
//! Apart because only the real crates together have this cost; an example and not a bench, because
//! cargo builds benches to unwind and the broker is built to abort (decision 0015).
#![forbid(unsafe_code)]
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::disallowed_methods,
    reason = "gungraun's macros write such code"
)]

mod cores;
mod replay;
mod requests;

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::check::check_produced;
use flumen_protocol::hot::produce::{ProduceRequest, ProduceResponse};
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::{
    self, ApiVersionsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    MetadataRequest, SyncGroupRequest,
};
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

use cores::{Logs, Raft};
use replay::Replay;
use requests::{EMPTY, FETCH, HOT, PRODUCE, batch, copies, fetch, node, produce, text};

const METADATA: i16 = 12;
const HEARTBEAT: i16 = 3;

/// A node and the requests it is about to get.
type Session = (Replay, Vec<BytesMut>);

/// What most units are: requests answered one after another, each before the next.
fn answer(session: Session) -> Session {
    let (mut replay, frames) = session;
    let mut frames = frames.into_iter();
    for frame in frames.by_ref() {
        replay.request(frame);
    }
    (replay, Vec::new())
}

// --- protocol -------------------------------------------------------------------------------------

fn produce_frames(partitions: i32) -> Vec<(BytesMut, usize)> {
    let frames = copies(ApiKey::Produce, PRODUCE, &produce(partitions, 1 << 10), 1000);
    let body = flumen_broker::api::table::read_header(&frames[0]).expect("a sound header").1;
    frames.into_iter().map(|frame| (frame, body)).collect()
}

#[library_benchmark]
#[bench::one(args = (1), setup = produce_frames)]
#[bench::seventeen(args = (17), setup = produce_frames)]
fn parse_produce(frames: Vec<(BytesMut, usize)>) {
    for (frame, body) in frames {
        black_box(ProduceRequest::parse(frame, body, PRODUCE)).expect("a sound request");
    }
}

#[library_benchmark]
#[bench::kib_1(args = (1 << 10), setup = batch)]
#[bench::kib_64(args = (64 << 10), setup = batch)]
fn check_batch(batch: Bytes) -> Bytes {
    for _ in 0..1000 {
        black_box(check_produced(black_box(&batch))).expect("a sound batch");
    }
    batch
}

fn produce_answer(partitions: i32) -> ProduceResponse {
    cores::produce_answer(HOT, partitions)
}

#[library_benchmark]
#[bench::one(args = (1), setup = produce_answer)]
#[bench::seventeen(args = (17), setup = produce_answer)]
fn produce_response(answer: ProduceResponse) -> ProduceResponse {
    for correlation_id in 0..1000 {
        black_box(black_box(&answer).encode(PRODUCE, correlation_id));
    }
    answer
}

// --- storage and replication ----------------------------------------------------------------------

#[library_benchmark]
#[bench::kib_1(args = (1, 1000), setup = Logs::new)]
fn journal_append(mut logs: Logs) -> Logs {
    for _ in 0..1000 {
        logs.append();
    }
    logs
}

#[library_benchmark]
#[bench::batches_1(args = (1, 200), setup = Logs::new)]
#[bench::batches_64(args = (64, 200 * 64), setup = Logs::new)]
fn group_commit(mut logs: Logs) -> Logs {
    for _ in 0..200 {
        for _ in 0..logs.count() {
            logs.append();
        }
        logs.commit();
    }
    logs
}

#[library_benchmark]
#[bench::one(args = (1000), setup = Raft::new)]
fn raft_entry(mut raft: Raft) -> Raft {
    for _ in 0..1000 {
        raft.propose_and_persist();
    }
    raft
}

// --- whole requests -------------------------------------------------------------------------------

fn producing(partitions: i32, value_bytes: usize, count: usize) -> Session {
    let mut replay = node(&[(HOT, partitions)]);
    let request = produce(partitions, value_bytes);
    let first = replay.ask(ApiKey::Produce, PRODUCE, &request);
    assert_eq!(first.responses[0].partition_responses[0].error_code, 0);
    (replay, copies(ApiKey::Produce, PRODUCE, &request, count))
}

/// Every request was answered, the last of them well.
fn produced((replay, _): Session) {
    let answer = replay.last::<messages::ProduceRequest>(ApiKey::Produce, PRODUCE);
    for partition in &answer.responses[0].partition_responses {
        assert_eq!(partition.error_code, 0);
        // One was appended to warm up, one by the creation of the topic was answered.
        assert_eq!(partition.base_offset + 2, replay.answered() as i64);
    }
}

#[library_benchmark]
#[bench::kib_1(args = (1, 1 << 10, 1000), setup = producing, teardown = produced)]
#[bench::bytes_100(args = (1, 100, 1000), setup = producing, teardown = produced)]
#[bench::kib_64_by_16(args = (16, 64 << 10, 10), setup = producing, teardown = produced)]
fn durable_produce(session: Session) -> Session {
    answer(session)
}

fn fetching(topics: &[(&str, i32)]) -> Session {
    let mut replay = node(&[(HOT, 1), (EMPTY, 100)]);
    let produced = replay.ask(ApiKey::Produce, PRODUCE, &produce(1, 1 << 10));
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let request = fetch(topics, 0);
    replay.ask(ApiKey::Fetch, FETCH, &request);
    (replay, copies(ApiKey::Fetch, FETCH, &request, 500))
}

/// The last answer holds the hot partition's batch.
fn fetched((replay, _): Session) {
    let answer = replay.last::<messages::FetchRequest>(ApiKey::Fetch, FETCH);
    let records = answer.responses[0].partitions[0].records.as_ref().map_or(0, Bytes::len);
    assert_eq!(records, batch(1 << 10).len());
}

#[library_benchmark]
#[bench::hot(args = (&[(HOT, 1)]), setup = fetching, teardown = fetched)]
#[bench::hot_and_100_empty(args = (&[(HOT, 1), (EMPTY, 100)]), setup = fetching, teardown = fetched)]
fn fetch_records(session: Session) -> Session {
    answer(session)
}

fn waiting(partitions: i32) -> Session {
    let mut replay = node(&[(EMPTY, partitions)]);
    let request = fetch(&[(EMPTY, partitions)], 500);
    replay.request(requests::frame(ApiKey::Fetch, FETCH, &request));
    replay.wait(Duration::from_millis(500));
    (replay, copies(ApiKey::Fetch, FETCH, &request, 100))
}

#[library_benchmark]
#[bench::partitions_1(args = (1), setup = waiting)]
#[bench::partitions_101(args = (101), setup = waiting)]
fn fetch_nothing((mut replay, frames): Session) -> Session {
    for frame in frames {
        let answered = replay.answered();
        replay.request(frame);
        assert_eq!(replay.answered(), answered, "nothing is worth waiting for");
        replay.wait(Duration::from_millis(500));
        assert_eq!(replay.answered(), answered + 1, "the time is up");
    }
    (replay, Vec::new())
}

fn describing(partitions: i32) -> Session {
    let mut replay = node(&[(HOT, partitions)]);
    let request = MetadataRequest::default().with_topics(None);
    let answer = replay.ask(ApiKey::Metadata, METADATA, &request);
    assert_eq!(answer.topics[0].partitions.len(), partitions as usize);
    (replay, copies(ApiKey::Metadata, METADATA, &request, 3))
}

#[library_benchmark]
#[bench::partitions_10000(args = (10_000), setup = describing)]
fn metadata(session: Session) -> Session {
    answer(session)
}

fn greeting() -> Session {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("replay"))
        .with_client_software_version(text("1"));
    (Replay::new(), copies(ApiKey::ApiVersions, 3, &request, 500))
}

#[library_benchmark]
#[bench::one(setup = greeting)]
fn api_versions(session: Session) -> Session {
    answer(session)
}

/// A group of one member, in peace.
fn beating() -> Session {
    let mut replay = Replay::new();
    let find = FindCoordinatorRequest::default().with_key(text("g"));
    assert_eq!(replay.ask(ApiKey::FindCoordinator, 3, &find).error_code, 0);
    let group = GroupId(text("g"));
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))]);
    let joined = replay.ask(ApiKey::JoinGroup, 3, &join);
    assert_eq!(joined.error_code, 0);
    let sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    assert_eq!(replay.ask(ApiKey::SyncGroup, 2, &sync).error_code, 0);
    let beat = HeartbeatRequest::default()
        .with_group_id(group)
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id);
    assert_eq!(replay.ask(ApiKey::Heartbeat, HEARTBEAT, &beat).error_code, 0);
    (replay, copies(ApiKey::Heartbeat, HEARTBEAT, &beat, 500))
}

#[library_benchmark]
#[bench::one(setup = beating)]
fn heartbeat(session: Session) -> Session {
    answer(session)
}

library_benchmark_group!(
    name = units;
    benchmarks = parse_produce, check_batch, produce_response, journal_append, group_commit,
        raft_entry, durable_produce, fetch_records, fetch_nothing, metadata, api_versions, heartbeat
);
main!(
    config = LibraryBenchmarkConfig::default()
        // Without "enhanced rep movsb" memcpy copies 32 bytes an instruction on every machine;
        // with it callgrind counts each byte, above a threshold that depends on the caches.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM")
        .tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = units
);

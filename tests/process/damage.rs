//! Acknowledged records rot in the journal of a broker without peers: what is lost is never given
//! to other records before an operator accepts it, and nothing else suffers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::LogId;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, StrBytes, TopicName,
};
use flumen_storage::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, HeaderVerdict};
use flumen_tests::broker::{Broker, Folder, START_WITHIN, free_port, inspect};
use flumen_tests::client::{self, value};
use flumen_tests::wire::Wire;

const OPTIONS: [&str; 3] = ["flumen.cores=1", "num.partitions=2", "offsets.topic.num.partitions=1"];
const ACCEPT: &str = "--accept-damage";
const GROUP: StrBytes = StrBytes::from_static_str("a group");
/// Kafka's COORDINATOR_LOAD_IN_PROGRESS.
const LOADING: i16 = 14;
/// Kafka's KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

fn start(folder: &Folder, more: &[&str]) -> Broker {
    Broker::start_with(folder, free_port(), &[&OPTIONS[..], more].concat())
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

/// A client of the one topic and the one group.
struct Client(client::Client);

impl Client {
    fn of(broker: &Broker) -> Self {
        Self(client::Client::of(broker))
    }

    /// Makes the topic; says how many partitions it has.
    fn make_topic(&mut self) -> usize {
        self.0.make_topic(&topic())
    }

    /// Appends a record; its value says where it is meant to be. Answers with error and offset.
    fn produce(&mut self, partition: i32, offset: i64) -> (i16, i64) {
        self.0.produce(&topic(), partition, offset)
    }

    /// One fetch: its error, where the partition ends, and the values found.
    fn fetch(&mut self, partition: i32, from: i64) -> (i16, i64, Vec<String>) {
        self.0.fetch(&topic(), partition, from)
    }

    /// Commits an offset of the first partition; asks again while the coordinator is not there.
    fn commit(&mut self, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let of_topic =
            OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(GROUP))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![of_topic]);
        self.asked_again(|client| {
            let answer = client.0.ask(ApiKey::OffsetCommit, 8, &request);
            answer.topics[0].partitions[0].error_code
        })
    }

    /// The group's offset in the first partition, or why it cannot be told.
    fn committed(&mut self) -> Result<i64, i16> {
        let of_topic =
            OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(GROUP))
            .with_topics(Some(vec![of_topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
        let mut offset = -1;
        let error = self.asked_again(|client| {
            let answer = client.0.ask(ApiKey::OffsetFetch, 8, &request);
            let group = &answer.groups[0];
            offset = group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
            group.error_code
        });
        if error == 0 { Ok(offset) } else { Err(error) }
    }

    /// Repeats for two seconds what a coordinator that loads refuses.
    fn asked_again(&mut self, mut ask: impl FnMut(&mut Self) -> i16) -> i16 {
        let find = FindCoordinatorRequest::default().with_key(GROUP);
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let found = self.0.ask(ApiKey::FindCoordinator, 3, &find).error_code;
            let error = if found == 0 { ask(self) } else { found };
            if ![LOADING, 15, 16].contains(&error) || Instant::now() > deadline {
                return error;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything a partition holds.
    fn read(&mut self, partition: i32) -> Vec<String> {
        self.0.read(&topic(), partition)
    }
}

fn wanted(partition: i32, count: i64) -> Vec<String> {
    (0..count).map(|offset| value(partition, offset)).collect()
}

/// A folder with ten records in each of two partitions, killed.
fn ten_records_each(folder: &Folder) {
    let broker = start(folder, &[]);
    let mut client = Client::of(&broker);
    assert_eq!(client.make_topic(), 2);
    for offset in 0..10 {
        for partition in 0..2 {
            assert_eq!(client.produce(partition, offset), (0, offset));
        }
    }
    broker.kill();
}

/// Flips bytes in the payload of the first frame of records that fits.
fn rot(folder: &Folder, fits: impl Fn(&FrameHeader, &[u8]) -> bool) {
    for path in files(folder, "journal-") {
        let mut bytes = fs::read(&path).expect("a journal file");
        for at in (0..bytes.len()).step_by(8) {
            if let HeaderVerdict::Readable(header, _) = FrameHeader::decode(&bytes[at..])
                && header.kind == FrameKind::Records
                && let payload = at + FRAME_HEADER_BYTES
                && fits(&header, &bytes[payload..payload + header.payload_len as usize])
            {
                bytes[payload + 65..payload + 70].iter_mut().for_each(|byte| *byte ^= 0xff);
                return fs::write(&path, bytes).expect("the file is ours");
            }
        }
    }
    panic!("no such frame");
}

fn files(folder: &Folder, prefix: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder.path().join("data").join("core-0")).expect("a core's folder");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
    paths.filter(named).collect()
}

/// One page of the admin listener.
fn page(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the admin listener");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    page
}

fn ends_refused(folder: &Folder) -> String {
    let mut broker = Broker::launch(folder, free_port(), &OPTIONS);
    let status = broker.wait(START_WITHIN);
    assert!(!status.success(), "it must not serve: {}", broker.said());
    broker.said()
}

#[test]
fn a_partition_that_lost_records_is_held_until_the_loss_is_accepted() {
    let folder = Folder::fresh();
    ten_records_each(&folder);
    rot(&folder, |header, _| header.log.partition.0 == 0 && header.base_offset == 4);
    for round in 0..3 {
        let port = free_port();
        let broker = start(&folder, &[&format!("flumen.admin.listener=127.0.0.1:{port}")]);
        let mut client = Client::of(&broker);
        assert_eq!(client.read(0), wanted(0, 4));
        assert_eq!(client.produce(0, 4).0, STORAGE_ERROR, "{}", broker.said());
        assert_eq!(client.fetch(0, 7).0, STORAGE_ERROR, "a consumer must not be sent elsewhere");
        assert_eq!(client.produce(1, 10 + round), (0, 10 + round));
        assert_eq!(client.read(1), wanted(1, 11 + round));
        let said = broker.said();
        let line = said.lines().find(|line| line.contains("it is held")).expect("an error line");
        for part in ["ERROR", "orders", "offsets 4 to 9 are not served", "quarantine-", ACCEPT] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(page(port, "/metrics").contains("flumen_partitions_held 1"));
        // However it ends.
        match round {
            1 => assert_eq!(broker.stop().code(), Some(0)),
            _ => broker.kill(),
        }
    }
    let seen = inspect(&folder);
    assert!(seen.contains("orders-0") && seen.contains("held, takes no records"), "{seen}");
    let aside = files(&folder, "quarantine-");
    assert!(aside.len() >= 2, "{aside:?}");
    let kept: Vec<u8> = aside.iter().flat_map(|path| fs::read(path).expect("readable")).collect();
    for offset in 5..10 {
        let value = value(0, offset).into_bytes();
        assert!(kept.windows(value.len()).any(|at| at == value), "{offset} is set aside");
    }

    let broker = start(&folder, &[ACCEPT]);
    let mut client = Client::of(&broker);
    assert!(broker.said().contains("accepted as lost"), "{}", broker.said());
    assert_eq!(client.produce(0, 4), (0, 4));
    broker.kill();
    let broker = start(&folder, &[]);
    let mut client = Client::of(&broker);
    assert_eq!(client.produce(0, 5), (0, 5));
    assert_eq!(client.read(0), wanted(0, 6));
    assert_eq!(client.read(1), wanted(1, 13));
    assert_eq!(files(&folder, "quarantine-"), aside, "what was set aside stays");
    assert!(!broker.said().contains("it is held"));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_held_partition_does_not_move_to_another_core_before_it_is_accepted() {
    let folder = Folder::fresh();
    ten_records_each(&folder);
    rot(&folder, |header, _| header.log.partition.0 == 1 && header.base_offset == 4);
    let more = ["flumen.cores=2", "num.partitions=2"];
    for _ in 0..2 {
        let mut broker = Broker::launch(&folder, free_port(), &more);
        assert!(!broker.wait(START_WITHIN).success(), "{}", broker.said());
        assert!(broker.said().contains("is held") && broker.said().contains(ACCEPT));
    }
    let broker = Broker::start_with(&folder, free_port(), &[&more[..], &[ACCEPT]].concat());
    let mut client = Client::of(&broker);
    assert_eq!(client.read(0), wanted(0, 10));
    assert_eq!(client.produce(1, 4), (0, 4));
    broker.kill();
    let broker = Broker::start_with(&folder, free_port(), &more);
    assert_eq!(Client::of(&broker).read(1), wanted(1, 5));
}

/// Without what is lost the node would serve another cluster than the one that was acknowledged.
#[test]
fn a_damaged_metadata_log_stops_the_start_with_an_instruction() {
    let folder = Folder::fresh();
    let broker = start(&folder, &[]);
    assert_eq!(Wire::connect(broker.address()).unwrap().create_topic("early"), Some(0));
    broker.kill();
    ten_records_each(&folder);
    let mut highest = -1;
    for path in files(&folder, "journal-") {
        let bytes = fs::read(&path).expect("a journal file");
        for at in (0..bytes.len()).step_by(8) {
            if let HeaderVerdict::Readable(header, _) = FrameHeader::decode(&bytes[at..])
                && header.log == LogId::METADATA
            {
                highest = highest.max(header.base_offset);
            }
        }
    }
    assert!(highest > 0, "several batches of metadata");
    rot(&folder, |header, _| header.log == LogId::METADATA && header.base_offset == highest);
    for _ in 0..2 {
        let said = ends_refused(&folder);
        assert!(said.contains("metadata log is damaged") && said.contains(ACCEPT), "{said}");
    }
    let broker = start(&folder, &[ACCEPT]);
    let mut client = Client::of(&broker);
    assert_eq!(client.make_topic(), 2, "the topic is unknown, and made anew");
    let deadline = Instant::now() + START_WITHIN;
    while client.produce(0, 0) != (0, 0) {
        assert!(Instant::now() < deadline, "{}", broker.said());
        thread::sleep(Duration::from_millis(20));
    }
    broker.kill();
    assert_eq!(Client::of(&start(&folder, &[])).read(0), wanted(0, 1));
}

/// Commits that were acknowledged are lost: a group must not begin again at an older one unasked.
#[test]
fn groups_whose_commits_are_lost_wait() {
    let folder = Folder::fresh();
    let broker = start(&folder, &[]);
    let mut client = Client::of(&broker);
    client.make_topic();
    for offset in 1..=4 {
        assert_eq!(client.commit(offset), 0);
    }
    assert_eq!(client.committed(), Ok(4));
    broker.kill();
    let is_third = |header: &FrameHeader, payload: &[u8]| {
        header.base_offset == 2 && payload.windows(7).any(|at| at == b"a group")
    };
    rot(&folder, is_third);
    for round in 0..2 {
        let broker = start(&folder, &[]);
        let mut client = Client::of(&broker);
        assert_eq!(client.committed(), Err(LOADING), "{}", broker.said());
        assert_eq!(client.commit(9), LOADING);
        assert_eq!(client.produce(0, round), (0, round), "everything else goes on");
        assert!(broker.said().contains("__consumer_offsets"), "{}", broker.said());
        assert_eq!(broker.stop().code(), Some(0));
    }
    let broker = start(&folder, &[ACCEPT]);
    let mut client = Client::of(&broker);
    assert_eq!(client.committed(), Ok(2), "accepted: the last commit that is left");
    assert_eq!(client.commit(5), 0);
    broker.kill();
    assert_eq!(Client::of(&start(&folder, &[])).committed(), Ok(5));
}

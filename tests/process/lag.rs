//! How far groups are behind, on the page that a Prometheus server reads: exact, whole, and beside other work.
//!
//! Does: commit offsets for groups without members, scrape, compare with what was committed and appended.
//! Does not: measure how long a scrape takes; a test's machine is too busy to say.
//! Apart because it needs brokers with an admin listener, on one core and on several.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, StrBytes, TopicName,
};
use flumen_tests::broker::{Broker, Folder, free_port};
use flumen_tests::client::Client;
use flumen_tests::wire::Wire;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Many pages of what groups committed, and quick to commit.
const MANY_GROUPS: usize = 2_000;
const RECORDS: i64 = 5;
/// None, and those of a coordinator that is still loading.
const WAIT_CODES: [i16; 4] = [0, 14, 15, 16];

/// A broker and its admin listener.
struct Desk {
    broker: Broker,
    admin: u16,
    client: Client,
    topic: TopicName,
    _folder: Folder,
}

impl Desk {
    fn open(more: &[&str]) -> Self {
        let (folder, admin) = (Folder::fresh(), free_port());
        let listener = format!("flumen.admin.listener=127.0.0.1:{admin}");
        let more: Vec<&str> =
            [listener.as_str(), "num.partitions=2"].iter().chain(more).copied().collect();
        let broker = Broker::start_with(&folder, free_port(), &more);
        let mut client = Client::of(&broker);
        let topic = TopicName(StrBytes::from_static_str("orders"));
        client.make_topic(&topic);
        for partition in 0..2 {
            for offset in 0..RECORDS {
                client.produce(&topic, partition, offset);
            }
        }
        // Groups have a home from the first question on.
        let wanted =
            FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("billing"));
        while client.ask(ApiKey::FindCoordinator, 3, &wanted).error_code != 0 {
            thread::sleep(Duration::from_millis(20));
        }
        Self { broker, admin, client, topic, _folder: folder }
    }

    fn commit(&mut self, group: &str, offsets: [i64; 2]) {
        let partitions = offsets.into_iter().zip(0..).map(|(offset, index)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(self.topic.clone())
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let mut refused = true;
        while refused {
            let answer = self.client.ask(ApiKey::OffsetCommit, 8, &request);
            let codes: Vec<i16> =
                answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
            assert!(codes.iter().all(|code| WAIT_CODES.contains(code)), "{group}: {codes:?}");
            refused = codes != [0, 0];
        }
    }
}

fn scrape(admin: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).expect("the admin listener");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time above zero");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    let (head, body) = page.split_once("\r\n\r\n").expect("a head");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length.and_then(|length| length.parse().ok()), Some(body.len()), "{head}");
    assert!(body.ends_with("# EOF\n"), "the page is whole");
    body.to_owned()
}

/// The value of the one series with this name and these labels.
fn value(page: &str, name: &str, labels: &str) -> f64 {
    let series = format!("kafka_consumergroup_{name}{{{labels}}} ");
    let mut found = page.lines().filter_map(|line| line.strip_prefix(&series));
    let value = found.next().unwrap_or_else(|| panic!("no {series} in\n{page}"));
    assert!(found.next().is_none(), "{series} twice");
    value.parse().expect("a number")
}

#[test]
fn offsets_and_seconds_are_those_of_the_committed_record() {
    for cores in ["flumen.cores=1", "flumen.cores=2"] {
        let mut desk = Desk::open(&[cores]);
        desk.commit("billing", [2, RECORDS]);
        desk.commit("audit", [0, 0]);
        let page = scrape(desk.admin);
        let at = |partition| {
            format!("consumergroup=\"billing\",topic=\"orders\",partition=\"{partition}\"")
        };
        assert_eq!(value(&page, "current_offset", &at(0)), 2.0);
        assert_eq!(value(&page, "lag", &at(0)), 3.0);
        assert_eq!(value(&page, "lag", &at(1)), 0.0);
        assert_eq!(value(&page, "lag_seconds", &at(1)), 0.0, "it is caught up");
        // The harness writes the record at offset 2 with this time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - 1_700_000_000.002;
        let told = value(&page, "lag_seconds", &at(0));
        assert!((told - age).abs() < 60.0, "{told} instead of {age}");
        let sum = "consumergroup=\"billing\",topic=\"orders\"";
        assert_eq!(value(&page, "lag_sum", sum), 3.0);
        assert_eq!(value(&page, "lag_seconds_max", sum), told);
        assert_eq!(value(&page, "lag_sum", "consumergroup=\"audit\",topic=\"orders\""), 10.0);

        desk.commit("billing", [RECORDS, RECORDS]);
        let page = scrape(desk.admin);
        assert_eq!(value(&page, "lag", &at(0)), 0.0, "what was committed is there at once");
        assert_eq!(value(&page, "lag_seconds", &at(0)), 0.0);
        desk.client.produce(&desk.topic.clone(), 0, RECORDS);
        assert_eq!(value(&scrape(desk.admin), "lag", &at(0)), 1.0, "and so is what was appended");
    }
}

#[test]
fn lines_for_each_partition_can_be_switched_off() {
    let mut desk = Desk::open(&["flumen.lag.partitions=false"]);
    desk.commit("billing", [2, 3]);
    let page = scrape(desk.admin);
    assert!(!page.contains("partition=\""), "{page}");
    assert_eq!(value(&page, "lag_sum", "consumergroup=\"billing\",topic=\"orders\""), 5.0);
}

#[test]
fn thousands_of_groups_are_told_whole_while_others_are_served() {
    let mut desk = Desk::open(&["flumen.cores=1"]);
    for group in 0..MANY_GROUPS {
        desk.commit(&format!("group-{group}"), [(group % 5) as i64, RECORDS]);
    }
    let desk = &desk;
    let is_over = AtomicBool::new(false);
    let (page, served) = thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let page = scrape(desk.admin);
            is_over.store(true, Ordering::SeqCst);
            page
        });
        let mut wire = Wire::connect(desk.broker.address()).expect("the broker accepts");
        let mut served = 0;
        while !is_over.load(Ordering::SeqCst) {
            assert!(wire.api_versions().is_some(), "an answer during a scrape");
            served += 1;
        }
        (scraper.join().expect("a page"), served)
    });
    for group in 0..MANY_GROUPS {
        let at = format!("consumergroup=\"group-{group}\",topic=\"orders\"");
        assert_eq!(value_of_sum(&page, &at), Some(RECORDS - (group % 5) as i64), "{at}");
    }
    let lines = page.lines().filter(|line| line.starts_with("kafka_consumergroup_lag{")).count();
    assert_eq!(lines, 2 * MANY_GROUPS);
    assert!(served > 5, "others were served only {served} times during a scrape of many steps");
}

fn value_of_sum(page: &str, labels: &str) -> Option<i64> {
    let series = format!("kafka_consumergroup_lag_sum{{{labels}}} ");
    page.lines().find_map(|line| line.strip_prefix(&series))?.parse().ok()
}

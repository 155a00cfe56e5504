//! A data folder gets another number of cores, and keeps every record and every committed offset, whenever it is killed.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, StrBytes, TopicName,
};
use flumen_tests::broker::{Broker, Folder, free_port, inspect};
use flumen_tests::client::{self, value};
use std::thread;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;
const GROUPS: i64 = 5;
const PARTITIONED: &str = "num.partitions=8";
const COORDINATED: &str = "offsets.topic.num.partitions=4";
const COORDINATED_WITHIN: Duration = Duration::from_secs(20);

fn start(folder: &Folder, cores: u16) -> Broker {
    let cores = format!("flumen.cores={cores}");
    Broker::start_with(folder, free_port(), &[PARTITIONED, COORDINATED, &cores])
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

fn group(number: i64) -> GroupId {
    GroupId(StrBytes::from_string(format!("group {number}")))
}

/// A client of the one topic and of groups.
struct Client(client::Client);

impl Client {
    fn of(broker: &Broker) -> Self {
        Self(client::Client::of(broker))
    }

    fn make_topic(&mut self) {
        assert_eq!(self.0.make_topic(&topic()), PARTITIONS as usize);
    }

    /// Appends the next record of a partition; its value says where it must be found.
    fn produce(&mut self, partition: i32, offset: i64) {
        let told = self.0.produce(&topic(), partition, offset);
        assert_eq!(told, (0, offset), "partition {partition}");
    }

    /// Everything a partition holds, in order, as a reader without patience sees it: also right
    /// after a start nobody may see a shorter log than before.
    fn read(&mut self, partition: i32) -> Vec<String> {
        self.0.read(&topic(), partition)
    }

    /// The group's coordinator may be loading, or its topic in the making.
    fn find_coordinator(&mut self, number: i64) {
        let request = FindCoordinatorRequest::default().with_key(group(number).0);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        while self.0.ask(ApiKey::FindCoordinator, 3, &request).error_code != 0 {
            assert!(Instant::now() < deadline, "group {number} has no coordinator");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn commit(&mut self, number: i64, round: i64) {
        self.find_coordinator(number);
        let partitions = (0..PARTITIONS)
            .map(|partition| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(committed(number, round, partition))
            })
            .collect();
        let of_topic =
            OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(number))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![of_topic]);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        loop {
            let answer = self.0.ask(ApiKey::OffsetCommit, 8, &request);
            let found = &answer.topics[0].partitions;
            if found.iter().all(|partition| partition.error_code == 0) {
                return;
            }
            // The coordinator was found and is still loading.
            let retriable = [14, 15, 16].contains(&found[0].error_code);
            assert!(retriable && Instant::now() < deadline, "group {number}: {found:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn committed(&mut self, number: i64) -> Vec<i64> {
        self.find_coordinator(number);
        let of_topic = OffsetFetchRequestTopics::default()
            .with_name(topic())
            .with_partition_indexes((0..PARTITIONS).collect());
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(group(number))
            .with_topics(Some(vec![of_topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
        let deadline = Instant::now() + COORDINATED_WITHIN;
        loop {
            let answer = self.0.ask(ApiKey::OffsetFetch, 8, &request);
            if answer.groups[0].error_code == 0 {
                let found = &answer.groups[0].topics[0].partitions;
                return found.iter().map(|partition| partition.committed_offset).collect();
            }
            assert!(Instant::now() < deadline, "group {number} is not loaded");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn committed(number: i64, round: i64, partition: i32) -> i64 {
    number * 1000 + round * 100 + i64::from(partition)
}

/// What was acknowledged so far.
struct Told {
    records: i64,
    round: i64,
}

impl Told {
    /// A few more records for every partition, and a commit of every group.
    fn say_more(&mut self, broker: &Broker) {
        let mut client = Client::of(broker);
        for offset in self.records..self.records + 5 {
            (0..PARTITIONS).for_each(|partition| client.produce(partition, offset));
        }
        self.records += 5;
        self.round += 1;
        (0..GROUPS).for_each(|number| client.commit(number, self.round));
    }

    fn verify(&self, broker: &Broker) {
        let mut client = Client::of(broker);
        for partition in 0..PARTITIONS {
            let wanted: Vec<String> = (0..self.records).map(|at| value(partition, at)).collect();
            assert_eq!(client.read(partition), wanted, "partition {partition}");
        }
        for number in 0..GROUPS {
            let wanted: Vec<i64> =
                (0..PARTITIONS).map(|p| committed(number, self.round, p)).collect();
            assert_eq!(client.committed(number), wanted, "group {number}");
        }
    }
}

/// A folder of so many cores with records and commits, killed.
fn spoken_to(folder: &Folder, cores: u16) -> Told {
    let broker = start(folder, cores);
    Client::of(&broker).make_topic();
    let mut told = Told { records: 0, round: 0 };
    told.say_more(&broker);
    broker.kill();
    told
}

#[test]
fn records_and_offsets_move_to_fewer_and_to_more_cores_than_processors() {
    let folder = Folder::fresh();
    let mut told = spoken_to(&folder, 2);
    for cores in [1, 3, 5, 2] {
        let broker = start(&folder, cores);
        told.verify(&broker);
        told.say_more(&broker);
        assert!(broker.said().contains("a partition moves"), "the log names the moves");
        broker.kill();
        let seen = inspect(&folder);
        assert!(seen.contains(&format!("node 1, {cores} cores")), "{seen}");
        assert_eq!(seen.matches("orders-").count(), seen.matches("[").count() - internal(&seen));
    }
    let broker = start(&folder, 2);
    told.verify(&broker);
    assert!(!broker.said().contains("a partition moves"), "nothing moves without a reason");
    assert_eq!(broker.stop().code(), Some(0));
}

fn internal(seen: &str) -> usize {
    seen.matches("(cluster metadata) [").count() + seen.matches("__consumer_offsets-").count()
}

#[test]
fn a_machine_with_another_number_of_processors_moves_nothing() {
    let folder = Folder::fresh();
    let told = spoken_to(&folder, 7);
    let broker = start(&folder, 0);
    told.verify(&broker);
    assert!(broker.said().contains("keeps it"), "it says so: {}", broker.said());
    assert_eq!(broker.stop().code(), Some(0));
    assert!(inspect(&folder).contains("7 cores"));
}

#[test]
fn killed_at_any_moment_of_a_change_it_has_the_old_cores_or_the_new() {
    let folder = Folder::fresh();
    let mut told = spoken_to(&folder, 2);
    let mut was_cut_short = 0;
    for round in 0..24_u16 {
        let cores = [3, 1, 2][usize::from(round) % 3];
        let named = format!("flumen.cores={cores}");
        let broker = Broker::launch(&folder, free_port(), &[PARTITIONED, COORDINATED, &named]);
        // Spread over the time a change takes; the exact moment is left to chance.
        thread::sleep(Duration::from_millis(u64::from(round * 47 % 400)));
        let said = broker.said();
        broker.kill();
        was_cut_short += usize::from(
            said.contains("moving partitions") && !said.contains("the data folder has its new"),
        );
        if round % 8 == 7 {
            let broker = start(&folder, cores);
            told.verify(&broker);
            told.say_more(&broker);
            broker.kill();
        }
    }
    let broker = start(&folder, 2);
    told.verify(&broker);
    assert!(was_cut_short > 0, "at least one change was cut short");
}

//! What a node says over the wire: all of its records, where its logs begin and end, what groups
//! committed.
//!
//! Does: read every partition from its start to its end, going on behind what is refused; ask for
//! committed offsets; commit.
//! Does not: know what ought to be there.
//! Invariants: batches are kept byte for byte; a range is passed over only if the node itself names it.
//! Apart because the undamaged node and the damaged one are read alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LogId;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::PartitionData;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::{
    BrokerId, FetchRequest, GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceResponse, StrBytes,
};

use super::filled::{GROUPS, Place, TOPICS};
use crate::stories::name;
use crate::world::World;

const FETCH: i16 = 11;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Fetches in which everything is read, however many ranges are refused.
const FETCHES_MAX: usize = 400;

/// A batch as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub base: i64,
    pub last: i64,
    pub bytes: Bytes,
}

/// What a reader of one partition was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub start: i64,
    pub end: i64,
    pub pieces: Vec<Piece>,
    /// Ranges that were refused and that the node names: from, and one after the last.
    pub refused: Vec<(i64, i64)>,
    /// What no reader should meet.
    pub wrong: Vec<String>,
}

/// What each group committed for each partition, −1 is nothing; or why that cannot be said.
pub type Commits = BTreeMap<(&'static str, Place), Result<i64, i16>>;

/// Reads everything.
pub fn read_all(world: &mut World, logs: &BTreeMap<Place, LogId>) -> BTreeMap<Place, Reading> {
    let (starts, ends) = (offsets(world, EARLIEST), offsets(world, LATEST));
    let mut readings: BTreeMap<Place, Reading> = BTreeMap::new();
    let mut positions: BTreeMap<Place, i64> = BTreeMap::new();
    for place in Place::all() {
        let reading = readings.entry(place).or_default();
        match (starts.get(&place), ends.get(&place)) {
            (Some((0, start)), Some((0, end))) => {
                (reading.start, reading.end) = (*start, *end);
                positions.insert(place, *start);
            }
            told => reading.wrong.push(format!("start and end are {told:?}")),
        }
    }
    for _ in 0..FETCHES_MAX {
        if positions.is_empty() {
            return readings;
        }
        let answer = world.ask(0, ApiKey::Fetch, FETCH, &fetch_request(&positions));
        let named = world.unreadable();
        for topic in answer.responses {
            for told in topic.partitions {
                let place = place_of(topic.topic.as_str(), told.partition_index);
                let from = positions.remove(&place).expect("it was asked for");
                let reading = readings.get_mut(&place).expect("all are there");
                let log = logs[&place];
                let named = named.iter().filter(|it| it.0 == log).map(|it| (it.1, it.2));
                if let Some(next) = reading.take(from, told, named) {
                    positions.insert(place, next);
                }
            }
        }
    }
    for (place, at) in positions {
        let wrong = &mut readings.get_mut(&place).expect("all are there").wrong;
        wrong.push(format!("reading does not come to an end, it is at {at}"));
    }
    readings
}

impl Reading {
    /// Takes what a fetch from here gave; where to go on, if there is more.
    fn take(
        &mut self,
        from: i64,
        told: PartitionData,
        mut named: impl Iterator<Item = (i64, i64)>,
    ) -> Option<i64> {
        let next;
        if told.error_code == ErrorCode::KafkaStorageError.code() {
            let Some((_, until)) = named.find(|(first, until)| *first <= from && from < *until)
            else {
                self.wrong.push(format!("{from} is refused, and no range is named"));
                return None;
            };
            self.refused.push((from, until));
            next = until;
        } else if told.error_code == 0 {
            self.take_ends(&told);
            next = self.take_records(from, &told.records.unwrap_or_default())?;
        } else {
            self.wrong.push(format!("{from} is refused with {}", told.error_code));
            return None;
        }
        (next < self.end).then_some(next)
    }

    fn take_ends(&mut self, told: &PartitionData) {
        let ends = (told.log_start_offset, told.high_watermark, told.last_stable_offset);
        if ends != (self.start, self.end, self.end) {
            self.wrong.push(format!("a fetch says {ends:?}, not {:?}", (self.start, self.end)));
        }
    }

    /// The offset after the last record.
    fn take_records(&mut self, from: i64, records: &Bytes) -> Option<i64> {
        let mut next = from;
        for batch in batches(records) {
            let Ok(batch) = batch else {
                self.wrong.push(format!("behind {next} comes half a batch"));
                return None;
            };
            let (base, last) = (batch.header.base_offset.0, batch.header.last_offset().0);
            if base > next || last < next {
                self.wrong.push(format!("at {next} comes the batch of {base} to {last}"));
            }
            self.pieces.push(Piece { base, last, bytes: records.slice_ref(batch.bytes) });
            next = last + 1;
        }
        if next == from && from < self.end {
            self.wrong.push(format!("nothing comes at {from}, and the end is {}", self.end));
            return None;
        }
        Some(next)
    }
}

fn place_of(topic: &str, partition: i32) -> Place {
    let topic = TOPICS.iter().position(|(known, _)| *known == topic);
    Place { topic: topic.expect("a topic of ours"), partition }
}

fn fetch_request(positions: &BTreeMap<Place, i64>) -> FetchRequest {
    let topics = TOPICS.iter().enumerate().map(|(topic, (topic_name, _))| {
        let of_topic = positions.iter().filter(|(place, _)| place.topic == topic);
        let partitions = of_topic.map(|(place, from)| {
            FetchPartition::default()
                .with_partition(place.partition)
                .with_fetch_offset(*from)
                .with_partition_max_bytes(1 << 20)
        });
        FetchTopic::default().with_topic(name(topic_name)).with_partitions(partitions.collect())
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(16 << 20)
        .with_session_epoch(-1)
        .with_topics(topics.filter(|topic| !topic.partitions.is_empty()).collect())
}

/// Error code and offset of each partition at this end.
fn offsets(world: &mut World, which: i64) -> BTreeMap<Place, (i16, i64)> {
    let topics = TOPICS.map(|(topic, partitions)| {
        let partitions = (0..partitions).map(|partition| {
            ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(which)
        });
        ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions.collect())
    });
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.to_vec());
    let answer = world.ask(1, ApiKey::ListOffsets, 5, &request);
    let told = answer.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|told| {
            let place = place_of(topic.name.as_str(), told.partition_index);
            (place, (told.error_code, told.offset))
        })
    });
    told.collect()
}

/// Error code and offset of each batch of a produce request.
pub fn appended(answer: &ProduceResponse) -> BTreeMap<Place, (i16, i64)> {
    let told = answer.responses.iter().flat_map(|topic| {
        topic.partition_responses.iter().map(|told| {
            let place = place_of(topic.name.as_str(), told.index);
            (place, (told.error_code, told.base_offset))
        })
    });
    told.collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Commits these offsets for a group.
pub fn commit(world: &mut World, group: &str, offsets: &[(Place, i64)]) {
    let topics = TOPICS.iter().enumerate().map(|(topic, (topic_name, _))| {
        let of_topic = offsets.iter().filter(|(place, _)| place.topic == topic);
        let partitions = of_topic.map(|(place, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(place.partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text("note")))
        });
        OffsetCommitRequestTopic::default()
            .with_name(name(topic_name))
            .with_partitions(partitions.collect())
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.filter(|topic| !topic.partitions.is_empty()).collect());
    let answer = world.ask(1, ApiKey::OffsetCommit, 8, &request);
    let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(told.all(|told| told.error_code == 0), "{group} commits");
}

/// What all groups committed.
pub fn commits(world: &mut World) -> Commits {
    let groups = GROUPS.map(|group| {
        let topics = TOPICS.map(|(topic, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(name(topic))
                .with_partition_indexes((0..partitions).collect())
        });
        OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(topics.to_vec()))
    });
    let request = OffsetFetchRequest::default().with_groups(groups.to_vec());
    let answer = world.ask(0, ApiKey::OffsetFetch, 8, &request);
    let mut commits = Commits::new();
    for (group, told) in GROUPS.into_iter().zip(&answer.groups) {
        assert_eq!(told.group_id.0.as_str(), group);
        for place in Place::all() {
            commits.insert((group, place), Err(told.error_code));
        }
        for topic in told.topics.iter().filter(|_| told.error_code == 0) {
            for partition in &topic.partitions {
                let place = place_of(topic.name.as_str(), partition.partition_index);
                let committed = match partition.error_code {
                    0 => Ok(partition.committed_offset),
                    refused => Err(refused),
                };
                commits.insert((group, place), committed);
            }
        }
    }
    commits
}

//! `flumen groups`, but for `reset-offsets`.
//!
//! Does: list, describe and delete groups of both kinds; measure how far behind a group is.
//! Does not: join a group.
//! Invariants: a lag is taken from ends that were read after the commits, so that it is never
//! negative but where records were deleted under a group.
//! Apart because each kind of thing has its commands in one place.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::ConsumerGroupDescribeRequest;
use flumen_protocol::messages::consumer_group_describe_response as described;
use flumen_protocol::messages::describe_groups_response::DescribedGroup;
use flumen_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetFetchRequest,
    StrBytes,
};
use flumen_protocol::wire::Encoding;
use flumen_protocol::wire::read::{DecodeError, Reader};

use super::cluster::{Cluster, Coordinated, Place, in_words, leader_of};
use super::daily::{GroupsArguments, GroupsCommand};
use super::fault::{Fault, accept};
use super::fetching::{self, Wanted, fetch};
use super::listing::{Cell, Document, Listing, Outcome};
use super::moment::LATEST;
use super::{reset, world};

/// Does what was typed.
///
/// # Errors
/// The first thing that failed.
pub fn run(arguments: &GroupsArguments) -> Result<Outcome, Fault> {
    let cluster = &mut Cluster::reach(&arguments.common)?;
    match &arguments.command {
        GroupsCommand::List => list(cluster),
        GroupsCommand::Describe { groups } => {
            let documents = groups
                .iter()
                .map(|group| cluster.patiently(|cluster| describe(cluster, group)))
                .collect::<Result<_, _>>()?;
            Ok(Outcome::Documents(documents))
        }
        GroupsCommand::ResetOffsets(arguments) => reset::run(cluster, arguments),
        GroupsCommand::Delete { groups } => delete(cluster, groups),
    }
}

fn list(cluster: &mut Cluster) -> Result<Outcome, Fault> {
    let mut rows = BTreeMap::new();
    for (broker, answer) in
        cluster.ask_all("groups", &ListGroupsRequest::default(), |it| it.error_code)?
    {
        for group in answer.groups {
            let row = vec![
                group.group_id.to_string().into(),
                group.group_type.to_string().into(),
                group.protocol_type.to_string().into(),
                group.group_state.to_string().into(),
                broker.into(),
            ];
            rows.insert(group.group_id.to_string(), row);
        }
    }
    let mut listing = Listing::new(&["group", "type", "protocol", "state", "coordinator"]);
    rows.into_values().for_each(|row| listing.push(row));
    Ok(Outcome::Listing(listing))
}

fn delete(cluster: &mut Cluster, groups: &[String]) -> Result<Outcome, Fault> {
    let mut listing = Listing::new(&["group", "deleted"]);
    for group in groups {
        cluster.patiently(|cluster| {
            let coordinator = cluster.coordinator(Coordinated::Group, group)?;
            let body = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
            for result in cluster.ask(coordinator, &body)?.results {
                accept(|| format!("group {group}"), result.error_code, "")?;
            }
            Ok(())
        })?;
        listing.push(vec![group.as_str().into(), true.into()]);
    }
    Ok(Outcome::Done(format!("deleted {}", groups.join(", ")), listing))
}

/// What is known of a group, whatever kind it is of.
#[derive(Clone, Debug, Default)]
struct Group {
    kind: &'static str,
    state: String,
    assignor: String,
    epoch: Option<i32>,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance: Option<String>,
    client: String,
    host: String,
    partitions: BTreeMap<String, Vec<i32>>,
}

fn describe(cluster: &mut Cluster, group: &str) -> Result<Document, Fault> {
    let coordinator = cluster.coordinator(Coordinated::Group, group)?;
    let found = look_at(cluster, coordinator, group)?;
    let offsets = offsets(cluster, group, &found)?;
    let columns = &["member", "instance", "client", "host", "partitions"];
    let mut members = Listing::new(columns);
    for member in &found.members {
        members.push(vec![
            member.id.as_str().into(),
            member.instance.clone().into(),
            member.client.as_str().into(),
            member.host.as_str().into(),
            partitions_in_words(&member.partitions).into(),
        ]);
    }
    Ok(Document::default()
        .with("group", group)
        .with("type", found.kind)
        .with("state", found.state)
        .with("assignor", found.assignor)
        .with("epoch", found.epoch)
        .with("coordinator", coordinator)
        .table("members", members)
        .table("offsets", offsets))
}

fn partitions_in_words(partitions: &BTreeMap<String, Vec<i32>>) -> String {
    let one = |(topic, partitions): (&String, &Vec<i32>)| {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}:{}", numbers.join(","))
    };
    partitions.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// How many members a group has, whatever kind it is of.
///
/// # Errors
/// As every question; a refusal; no such group.
pub(super) fn member_count(cluster: &mut Cluster, group: &str) -> Result<usize, Fault> {
    let coordinator = cluster.coordinator(Coordinated::Group, group)?;
    match look_at(cluster, coordinator, group) {
        Ok(found) => Ok(found.members.len()),
        // One that does not exist yet has none.
        Err(Fault::Absent { .. }) => Ok(0),
        Err(fault) => Err(fault),
    }
}

fn look_at(cluster: &mut Cluster, coordinator: i32, group: &str) -> Result<Group, Fault> {
    let body = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let classic = cluster.ask(coordinator, &body)?.groups.into_iter().next();
    let absent = || Fault::Absent {
        subject: format!("group {group}"),
        advice: "`flumen groups list` shows what there is",
    };
    let classic = classic.ok_or_else(absent)?;
    let unknown = classic.error_code == ErrorCode::GroupIdNotFound.code();
    // Before version 6 a group that does not exist is called dead.
    if !unknown && &*classic.group_state != "Dead" {
        accept(|| format!("group {group}"), classic.error_code, "")?;
        return Ok(classic_group(classic));
    }
    let body = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let modern = match cluster.ask(coordinator, &body) {
        Ok(answer) => answer.groups.into_iter().next(),
        // An older broker, which has no other kind of group.
        Err(Fault::Dialogue { .. }) => None,
        Err(fault) => return Err(fault),
    };
    let modern = modern.filter(|it| it.error_code != ErrorCode::GroupIdNotFound.code());
    let modern = modern.ok_or_else(absent)?;
    let message = modern.error_message.as_deref().unwrap_or_default();
    accept(|| format!("group {group}"), modern.error_code, message)?;
    Ok(modern_group(modern))
}

fn classic_group(group: DescribedGroup) -> Group {
    let members = group.members.into_iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: assigned(&member.member_assignment).unwrap_or_default(),
    });
    Group {
        kind: "classic",
        state: group.group_state.to_string(),
        assignor: group.protocol_data.to_string(),
        epoch: None,
        members: members.collect(),
    }
}

fn modern_group(group: described::DescribedGroup) -> Group {
    let partitions = |assignment: described::Assignment| {
        let topics = assignment.topic_partitions.into_iter();
        topics.map(|topic| (topic.topic_name.to_string(), topic.partitions)).collect()
    };
    let members = group.members.into_iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: partitions(member.assignment),
    });
    Group {
        kind: "consumer",
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        epoch: Some(group.group_epoch),
        members: members.collect(),
    }
}

/// The partitions at the front of a ConsumerProtocolAssignment of any version; other protocols put
/// other bytes there, which give an error or nothing.
fn assigned(bytes: &Bytes) -> Result<BTreeMap<String, Vec<i32>>, DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    let mut topics = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(topics);
    }
    reader.i16("version")?;
    for _ in 0..reader.count("topics", 6)? {
        let topic = reader.string("topic")?.to_owned();
        let count = reader.count("partitions", 4)?;
        let partitions = (0..count).map(|_| reader.i32("partition")).collect::<Result<_, _>>()?;
        topics.insert(topic, partitions);
    }
    Ok(topics)
}

/// The offsets a group committed.
///
/// # Errors
/// As every question; a refusal.
pub(super) fn committed(cluster: &mut Cluster, group: &str) -> Result<BTreeMap<Place, i64>, Fault> {
    let coordinator = cluster.coordinator(Coordinated::Group, group)?;
    let body = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
    let answer = cluster.ask(coordinator, &body)?;
    accept(|| format!("group {group}"), answer.error_code, "")?;
    let mut offsets = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let place = (topic.name.to_string(), partition.partition_index);
            accept(|| in_words(&place), partition.error_code, "")?;
            if partition.committed_offset >= 0 {
                offsets.insert(place, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

fn offsets(cluster: &mut Cluster, group: &str, found: &Group) -> Result<Listing, Fault> {
    let committed = committed(cluster, group)?;
    let mut readers: BTreeMap<Place, &str> = BTreeMap::new();
    for member in &found.members {
        for (topic, partitions) in &member.partitions {
            let places = partitions.iter().map(|partition| (topic.clone(), *partition));
            readers.extend(places.map(|place| (place, member.id.as_str())));
        }
    }
    let mut places: BTreeMap<Place, i64> = BTreeMap::new();
    let all = committed.keys().chain(readers.keys());
    places.extend(all.map(|place| (place.clone(), LATEST)));
    let ends = existing(cluster, places)?;
    let columns =
        &["topic", "partition", "committed", "end_offset", "lag", "lag_seconds", "member"];
    let mut listing = Listing::new(columns);
    let now_ms = world::now_ms();
    for (place, end) in ends {
        let at = committed.get(&place).copied();
        let behind = at.zip(end).map(|(at, end)| end.saturating_sub(at).max(0));
        let seconds = match (at, behind) {
            (Some(_), Some(0)) => Cell::Decimal(0.0),
            (Some(at), Some(_)) => written_at(cluster, &place, at)?
                .map_or(Cell::Absent, |ms| Cell::Decimal(seconds_since(ms, now_ms))),
            (None, _) | (_, None) => Cell::Absent,
        };
        let reader = readers.get(&place).copied();
        listing.push(vec![
            place.0.into(),
            place.1.into(),
            at.into(),
            end.into(),
            behind.into(),
            seconds,
            reader.into(),
        ]);
    }
    Ok(listing)
}

/// The ends of partitions; none for those of topics that are gone.
fn existing(
    cluster: &mut Cluster,
    places: BTreeMap<Place, i64>,
) -> Result<BTreeMap<Place, Option<i64>>, Fault> {
    let mut by_topic: BTreeMap<String, BTreeMap<Place, i64>> = BTreeMap::new();
    for (place, wanted) in places {
        by_topic.entry(place.0.clone()).or_default().insert(place, wanted);
    }
    let mut ends = BTreeMap::new();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    for wanted in by_topic.into_values() {
        let found = match cluster.look_up(&wanted, false) {
            Ok(found) => found,
            Err(Fault::Refused { code, .. }) if code == unknown => BTreeMap::new(),
            Err(Fault::Absent { .. }) => BTreeMap::new(),
            Err(fault) => return Err(fault),
        };
        let of = |place: Place| {
            let end = found.get(&place).map(|(offset, _)| *offset);
            (place, end)
        };
        ends.extend(wanted.into_keys().map(of));
    }
    Ok(ends)
}

/// When the record at this offset, or the first one behind it, was written; nothing where there is
/// none, or where it has no timestamp.
fn written_at(cluster: &mut Cluster, place: &Place, offset: i64) -> Result<Option<i64>, Fault> {
    let (topic, partition) = place;
    let leader = leader_of(&cluster.leaders(topic)?, topic, *partition)?;
    let wanted = Wanted {
        topic,
        from: vec![(*partition, offset)],
        wait_ms: 0,
        partition_bytes: 1,
        committed: false,
    };
    let found = match fetch(cluster, leader, &wanted) {
        Ok(found) => found,
        // What it would read next was deleted.
        Err(Fault::Refused { code, .. }) if code == ErrorCode::OffsetOutOfRange.code() => {
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    Ok(found.iter().find_map(|data| fetching::timestamp_at(data, offset)))
}

/// Seconds from then to now, never negative: clocks differ.
fn seconds_since(then_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(then_ms).max(0) as f64 / 1000.0
}

/// A group's name as the messages hold it.
pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_and_other_bytes_are_not_believed() {
        let bytes = Bytes::from_static(
            b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\0\0\0\0\x03\xff\xff\xff\xff",
        );
        let read = assigned(&bytes).expect("an assignment");
        assert_eq!(partitions_in_words(&read), "orders:0,3");
        assert_eq!(assigned(&Bytes::new()).map(|read| read.len()), Ok(0));
        assert!(assigned(&Bytes::from_static(b"\0\x01\x7f\xff\xff\xff")).is_err());
    }

    #[test]
    fn clocks_that_differ_give_no_negative_lag() {
        assert_eq!(seconds_since(1000, 3500), 2.5);
        assert_eq!(seconds_since(5000, 3500), 0.0);
    }
}

//! `flumen groups reset-offsets`.
//!
//! Does: work out where a group would go on, show it, and commit it when told to.
//! Does not: move a group that has members: they would overwrite it, or miss it.
//! Invariants: nothing is committed without --execute; no offset lies outside its partition.
//! Apart because it is the one command that makes a group read again, or skip.

use std::collections::BTreeMap;

use flumen_protocol::messages::OffsetCommitRequest;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use super::cluster::{Cluster, Coordinated, Place, in_words, topic_name};
use super::daily::ResetArguments;
use super::fault::{Fault, accept};
use super::groups::{committed, group_id, member_count};
use super::listing::{Listing, Outcome};
use super::moment::{EARLIEST, LATEST, Position};
use super::world;

/// Does what was typed.
///
/// # Errors
/// The first thing that failed; the group has members.
pub fn run(cluster: &mut Cluster, arguments: &ResetArguments) -> Result<Outcome, Fault> {
    let group = &arguments.group;
    let members = cluster.patiently(|cluster| member_count(cluster, group))?;
    if members > 0 {
        return Err(Fault::Usage(format!(
            "group {group} has {members} members, which would overwrite it; stop them first"
        )));
    }
    let before = cluster.patiently(|cluster| committed(cluster, group))?;
    let places = chosen(cluster, arguments, &before)?;
    let after = cluster.patiently(|cluster| targets(cluster, arguments, &places, &before))?;
    if arguments.execute {
        cluster.patiently(|cluster| commit(cluster, group, &after))?;
    }
    let columns = &["topic", "partition", "committed", "new_offset", "change"];
    let mut listing = Listing::new(columns);
    for (place, new) in &after {
        let old = before.get(place).copied();
        listing.push(vec![
            place.0.as_str().into(),
            place.1.into(),
            old.into(),
            (*new).into(),
            old.map(|old| new - old).into(),
        ]);
    }
    let last = match arguments.execute {
        true => "done",
        false => "nothing was changed: --execute does it",
    };
    Ok(Outcome::Done(format!("{}{last}", listing.text()), listing))
}

/// The partitions that were asked for.
fn chosen(
    cluster: &mut Cluster,
    arguments: &ResetArguments,
    before: &BTreeMap<Place, i64>,
) -> Result<Vec<Place>, Fault> {
    if arguments.topics.is_empty() {
        if before.is_empty() {
            return Err(Fault::Usage(format!(
                "group {} has no offsets; --topic says which it shall have",
                arguments.group
            )));
        }
        return Ok(before.keys().cloned().collect());
    }
    let mut places = Vec::new();
    for text in &arguments.topics {
        let (topic, partitions) = topic_and_partitions(text)?;
        let leaders = cluster.patiently(|cluster| cluster.leaders(&topic))?;
        let partitions = partitions.unwrap_or_else(|| leaders.into_keys().collect());
        places.extend(partitions.into_iter().map(|partition| (topic.clone(), partition)));
    }
    Ok(places)
}

/// Reads `TOPIC` or `TOPIC:0,1`. A topic's name has no colon.
fn topic_and_partitions(text: &str) -> Result<(String, Option<Vec<i32>>), Fault> {
    let Some((topic, numbers)) = text.split_once(':') else { return Ok((text.to_owned(), None)) };
    let numbers: Result<Vec<i32>, _> = numbers.split(',').map(str::parse).collect();
    match numbers {
        Ok(numbers) if numbers.iter().all(|number| *number >= 0) => {
            Ok((topic.to_owned(), Some(numbers)))
        }
        Ok(_) | Err(_) => Err(Fault::Usage(format!("{text}: expected TOPIC or TOPIC:0,1"))),
    }
}

fn targets(
    cluster: &mut Cluster,
    arguments: &ResetArguments,
    places: &[Place],
    before: &BTreeMap<Place, i64>,
) -> Result<BTreeMap<Place, i64>, Fault> {
    let at = |timestamp| places.iter().map(|place| (place.clone(), timestamp)).collect();
    let starts = cluster.look_up(&at(EARLIEST), false)?;
    let ends = cluster.look_up(&at(LATEST), false)?;
    let lookup = arguments.to.and_then(|to| to.lookup(world::now_ms()));
    let found = match lookup {
        Some(timestamp) => cluster.look_up(&at(timestamp), false)?,
        None => BTreeMap::new(),
    };
    let mut targets = BTreeMap::new();
    for place in places {
        let absent = || Fault::Absent { subject: in_words(place), advice: "leave it out" };
        let start = starts.get(place).ok_or_else(absent)?.0;
        let end = ends.get(place).ok_or_else(absent)?.0;
        let wanted = match (arguments.to, arguments.shift) {
            (Some(Position::Offset(offset)), _) => offset,
            // Nothing so young: the end.
            (Some(_), _) => found.get(place).map(|it| it.0).filter(|it| *it >= 0).unwrap_or(end),
            (None, shift) => {
                let old = before.get(place).copied().unwrap_or(start);
                old.saturating_add(shift.unwrap_or(0))
            }
        };
        targets.insert(place.clone(), wanted.clamp(start, end.max(start)));
    }
    Ok(targets)
}

/// Commits offsets for a group without members.
///
/// # Errors
/// As every question; a refusal for any of them.
pub(super) fn commit(
    cluster: &mut Cluster,
    group: &str,
    offsets: &BTreeMap<Place, i64>,
) -> Result<(), Fault> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let wanted = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset);
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    });
    let body = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let coordinator = cluster.coordinator(Coordinated::Group, group)?;
    for topic in cluster.ask(coordinator, &body)?.topics {
        for partition in topic.partitions {
            let place = || format!("group {group}, partition {}", partition.partition_index);
            accept(place, partition.error_code, "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_with_or_without_partitions() {
        assert_eq!(topic_and_partitions("a"), Ok(("a".to_owned(), None)));
        assert_eq!(topic_and_partitions("a:0,12"), Ok(("a".to_owned(), Some(vec![0, 12]))));
        for wrong in ["a:", "a:-1", "a:1,", "a:x"] {
            assert!(topic_and_partitions(wrong).is_err(), "{wrong}");
        }
    }
}

//! `flumen consume`.
//!
//! Does: read partitions from where it was told to, show each record, stop at what was the end or
//! never; move a group forward as it goes.
//! Does not: share partitions with other members of a group.
//! Invariants: what a group is moved past was written to the output before; the order inside a
//! partition is kept.
//! Apart because it is the one command that reads records for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use flumen_protocol::batch::records::Record;

use super::cluster::{Cluster, Place, leader_of};
use super::daily::{ConsumeArguments, Format};
use super::fault::Fault;
use super::fetching::{Reader, Wanted, fetch};
use super::groups::{committed, member_count};
use super::listing::Outcome;
use super::moment::{LATEST, Position};
use super::{reset, world};
use crate::limits::{CLI_FETCH_WAIT_MS, CLI_PARTITION_BYTES};

/// Does what was typed.
///
/// # Errors
/// The first thing that failed.
pub fn run(arguments: &ConsumeArguments, output: &mut dyn Write) -> Result<Outcome, Fault> {
    let cluster = &mut Cluster::reach(&arguments.common)?;
    if let Some(group) = &arguments.group {
        let members = cluster.patiently(|cluster| member_count(cluster, group))?;
        if members > 0 {
            return Err(Fault::Usage(format!(
                "group {group} has {members} members that read for it; stop them first, or leave --group out"
            )));
        }
    }
    let mut readers = cluster.patiently(|cluster| begin(cluster, arguments))?;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 && !readers.values().all(Course::is_done) {
        let before: Vec<i64> = readers.values().map(|it| it.reader.next()).collect();
        cluster.patiently(|cluster| round(cluster, arguments, &mut readers, &mut left, output))?;
        output.flush()?;
        let moved = readers.values().map(|it| it.reader.next()).ne(before);
        if let Some(group) = arguments.group.as_ref().filter(|_| moved) {
            let offsets = readers
                .iter()
                .map(|(partition, it)| ((arguments.topic.clone(), *partition), it.reader.next()));
            let offsets = offsets.collect();
            cluster.patiently(|cluster| reset::commit(cluster, group, &offsets))?;
        }
    }
    Ok(Outcome::Silent)
}

/// A partition that is read.
#[derive(Clone, Debug)]
struct Course {
    reader: Reader,
    /// Where to stop; nowhere when what is written later is wanted too.
    stop: Option<i64>,
}

impl Course {
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.reader.next() >= stop)
    }
}

fn begin(
    cluster: &mut Cluster,
    arguments: &ConsumeArguments,
) -> Result<BTreeMap<i32, Course>, Fault> {
    let topic = &arguments.topic;
    let leaders = cluster.leaders(topic)?;
    let partitions: Vec<i32> = match arguments.partitions.as_slice() {
        [] => leaders.keys().copied().collect(),
        named => named.to_vec(),
    };
    for partition in &partitions {
        leader_of(&leaders, topic, *partition)?;
    }
    let at = |timestamp| -> BTreeMap<Place, i64> {
        partitions.iter().map(|partition| ((topic.clone(), *partition), timestamp)).collect()
    };
    let ends = cluster.look_up(&at(LATEST), arguments.committed)?;
    let starts = match arguments.from.lookup(world::now_ms()) {
        Some(timestamp) => cluster.look_up(&at(timestamp), arguments.committed)?,
        None => BTreeMap::new(),
    };
    let stored = match &arguments.group {
        Some(group) => committed(cluster, group)?,
        None => BTreeMap::new(),
    };
    let mut readers = BTreeMap::new();
    for partition in partitions {
        let place = (topic.clone(), partition);
        let end = ends.get(&place).map_or(0, |found| found.0);
        let found = starts.get(&place).map(|found| found.0).filter(|offset| *offset >= 0);
        let from = match (stored.get(&place), arguments.from) {
            (Some(offset), _) => *offset,
            (None, Position::Offset(offset)) => offset,
            (None, Position::Beginning | Position::End | Position::Time(_) | Position::Ago(_)) => {
                found.unwrap_or(end)
            }
        };
        let stop = (!arguments.follow).then_some(end);
        readers.insert(partition, Course { reader: Reader::at(from), stop });
    }
    Ok(readers)
}

/// One fetch from each leader.
fn round(
    cluster: &mut Cluster,
    arguments: &ConsumeArguments,
    readers: &mut BTreeMap<i32, Course>,
    left: &mut u64,
    output: &mut dyn Write,
) -> Result<(), Fault> {
    let leaders = cluster.leaders(&arguments.topic)?;
    let mut by_leader: BTreeMap<i32, Vec<(i32, i64)>> = BTreeMap::new();
    for (partition, it) in readers.iter().filter(|(_, it)| !it.is_done()) {
        let leader = leader_of(&leaders, &arguments.topic, *partition)?;
        by_leader.entry(leader).or_default().push((*partition, it.reader.next()));
    }
    for (leader, from) in by_leader {
        let wanted = Wanted {
            topic: &arguments.topic,
            from,
            wait_ms: CLI_FETCH_WAIT_MS,
            partition_bytes: CLI_PARTITION_BYTES,
            committed: arguments.committed,
        };
        for found in fetch(cluster, leader, &wanted)? {
            let partition = found.partition_index;
            let Some(it) = readers.get_mut(&partition) else { continue };
            if *left == 0 {
                return Ok(());
            }
            let mut take = |record: &Record<'_>| {
                show(arguments, partition, record, output)?;
                *left -= 1;
                Ok(*left > 0)
            };
            it.reader.read(&found, it.stop.unwrap_or(i64::MAX), &mut take)?;
        }
    }
    Ok(())
}

fn show(
    arguments: &ConsumeArguments,
    partition: i32,
    record: &Record<'_>,
    output: &mut dyn Write,
) -> Result<(), Fault> {
    let format = if arguments.common.json { Format::Json } else { arguments.format };
    match format {
        Format::Value => output.write_all(record.value.unwrap_or(b"null"))?,
        Format::KeyValue => {
            output.write_all(record.key.unwrap_or(b"null"))?;
            output.write_all(b"\t")?;
            output.write_all(record.value.unwrap_or(b"null"))?;
        }
        Format::Json => {
            let object = json(&arguments.topic, partition, record);
            output.write_all(object.to_string().as_bytes())?;
        }
    }
    Ok(output.write_all(b"\n")?)
}

fn json(topic: &str, partition: i32, record: &Record<'_>) -> serde_json::Value {
    let headers: Vec<serde_json::Value> = record
        .headers
        .map(|it| serde_json::json!({ "key": text(Some(it.key)), "value": text(it.value) }))
        .collect();
    serde_json::json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers,
    })
}

fn text(bytes: Option<&[u8]>) -> serde_json::Value {
    let Some(bytes) = bytes else { return serde_json::Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => {
            let mut hex = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                // Writing into a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
            }
            serde_json::json!({ "hex": hex })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(text(None), serde_json::Value::Null);
        assert_eq!(text(Some("ä".as_bytes())), "ä");
        assert_eq!(text(Some(&[0xff, 0x0a])), serde_json::json!({ "hex": "ff0a" }));
    }

    #[test]
    fn a_partition_is_done_at_what_was_its_end_and_never_when_followed() {
        let reader = Reader::at(5);
        assert!(Course { reader: reader.clone(), stop: Some(5) }.is_done());
        assert!(!Course { reader: reader.clone(), stop: Some(6) }.is_done());
        assert!(!Course { reader, stop: None }.is_done());
    }
}

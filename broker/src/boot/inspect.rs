//! `flumen inspect`: what a stopped (or copied) data folder holds.
//!
//! Does: drive the storage crate's inspection of every core, put topic names to the logs, print.
//! Does not: write anything, not even a lock: a copy of a folder may be read-only.
//! Invariants: what cannot be read is reported and the rest still shown.
//! Apart because an operator needs it when nothing else starts.
#![expect(clippy::disallowed_methods, reason = "a program of its own, without any core")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::records;
use flumen_protocol::ids::{CoreId, LogId, PartitionIndex};
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::{Image, Topic};
use flumen_replication::metadata::record::MetadataRecord;
use flumen_storage::format::node::NodeRecord;
use flumen_storage::inspect::{Depth, Inspection};
use flumen_storage::io::directory;
use flumen_storage::io::driver::Driver;
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::FileName;
use glommio::{LocalExecutorBuilder, Placement};

use crate::cli::InspectArguments;
use crate::shard::routing;

/// Prints what the folder holds.
///
/// # Errors
/// The folder is none of ours, or the topic asked for does not exist.
pub fn run(arguments: &InspectArguments) -> Result<(), String> {
    let root = &arguments.data;
    let record = read_record(root)?;
    let arguments = arguments.clone();
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .map_err(|error| format!("cannot use io_uring: {error}; see `flumen doctor`"))?;
    executor.run(async move {
        let names = names(&arguments.data, &record).await;
        match &arguments.topic {
            None if arguments.records => Err("--records needs --topic NAME".to_owned()),
            None => show_all(&arguments.data, &record, &names).await,
            Some(name) => show_topic(&arguments, &record, &names, name).await,
        }
    })
}

fn read_record(root: &Path) -> Result<NodeRecord, String> {
    let path = directory::path_of(root, CoreId(0), FileName::Node);
    let say = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = fs::read(&path).map_err(|error| say(&error))?;
    let record = NodeRecord::decode(&bytes).map_err(|error| say(&error))?;
    record.map(|(record, _)| record).ok_or_else(|| say(&"the node record is empty"))
}

/// The cluster's topics, as far as the metadata log can be read.
async fn names(root: &Path, record: &NodeRecord) -> Image {
    let mut controller = Controller::new();
    let core = routing::core_of(LogId::METADATA, record.core_count);
    let depth = Depth::Records(LogId::METADATA);
    inspect(root, record, core, depth, |_, batches| {
        for batch in batches {
            // What is damaged is reported with the log itself; here it only costs names.
            let _damaged = replay(&mut controller, &batch);
        }
    })
    .await;
    Image::clone(&controller.image())
}

fn replay(controller: &mut Controller, batch: &Bytes) -> Option<()> {
    let opened = records::records(batch, inflated_bytes_max(batch.len())).ok()?;
    for record in &opened {
        let record = MetadataRecord::decode(record.ok()?.value?).ok()?;
        controller.replay(&record).ok()?;
    }
    Some(())
}

async fn show_all(root: &Path, record: &NodeRecord, names: &Image) -> Result<(), String> {
    let cluster = flumen_protocol::ids::TopicId(record.cluster);
    say(&format!("cluster {cluster}, node {}, {} cores", record.node, record.core_count));
    if record.taking_over {
        say("  a change to this number of cores was cut short and the next start finishes it;");
        say("  until then some cores show what they had before, and some show nothing");
    }
    let labels = labels(names);
    for core in (0..record.core_count).map(CoreId) {
        say(&format!("core {core}"));
        inspect(root, record, core, Depth::Check, |lines, _| {
            for line in lines {
                say(&format!("  {}", labelled(&line, &labels)));
            }
        })
        .await;
    }
    Ok(())
}

async fn show_topic(
    arguments: &InspectArguments,
    record: &NodeRecord,
    names: &Image,
    name: &str,
) -> Result<(), String> {
    let topic = names.topic_named(name).ok_or_else(|| {
        let known: Vec<&str> = names.topics().map(|topic| topic.name.as_str()).collect();
        format!("no topic {name} here; there are: {}", known.join(", "))
    })?;
    for log in wanted(topic, arguments.partition)? {
        say(&format!("{name}-{}", log.partition));
        let core = routing::core_of(log, record.core_count);
        let id = log.to_string();
        let depth = if arguments.records { Depth::Records(log) } else { Depth::Check };
        inspect(&arguments.data, record, core, depth, |lines, _| {
            let own = |line: &&String| {
                line.contains(&id)
                    || (arguments.records && line.starts_with(|c: char| c.is_ascii_digit()))
            };
            for line in lines.iter().filter(own) {
                say(&format!("  {}", line.replace(&format!("{id}: "), "")));
            }
        })
        .await;
    }
    Ok(())
}

fn wanted(topic: &Topic, partition: Option<i32>) -> Result<Vec<LogId>, String> {
    match partition {
        None => Ok(topic.logs().collect()),
        Some(number) => {
            let log = topic.log(PartitionIndex(number));
            let count = topic.partitions.len();
            log.map(|log| vec![log])
                .ok_or_else(|| format!("topic {} has {count} partitions", topic.name))
        }
    }
}

/// What a reader would call each log, by its identity.
fn labels(names: &Image) -> BTreeMap<String, String> {
    let metadata = (LogId::METADATA.to_string(), "(cluster metadata)".to_owned());
    let logs = names.topics().flat_map(|topic| {
        topic.logs().map(|log| (log.to_string(), format!("{}-{}", topic.name, log.partition)))
    });
    logs.chain([metadata]).collect()
}

/// The line with its log's name in front, where it speaks of one.
fn labelled(line: &str, labels: &BTreeMap<String, String>) -> String {
    let log = line.split(": ").next().and_then(|id| labels.get_key_value(id));
    match log {
        Some((id, label)) => line.replacen(id.as_str(), &format!("{label} [{id}]"), 1),
        None => line.to_owned(),
    }
}

/// Runs the inspection of one core and hands on what it finds as it finds it.
async fn inspect(
    root: &Path,
    record: &NodeRecord,
    core: CoreId,
    depth: Depth,
    mut found: impl FnMut(Vec<String>, Vec<Bytes>),
) {
    let driver = Rc::new(Driver::new(root.to_owned(), core));
    let mut inspection = Inspection::new(record.identity(core), journal(root, core), depth);
    let mut ops = Vec::new();
    while !inspection.is_over() {
        inspection.next_ops(&mut ops);
        for op in ops.drain(..) {
            inspection.on_done(driver.carry_out(op).await);
        }
        found(inspection.take_lines(), inspection.take_batches());
    }
    driver.close().await;
}

/// The journal as it was written: every file of it has the same size.
fn journal(root: &Path, core: CoreId) -> JournalConfig {
    let first = directory::path_of(root, core, FileName::Journal(0));
    let usual = JournalConfig::default();
    let file_bytes = fs::metadata(first).map_or(usual.file_bytes, |found| found.len());
    JournalConfig { file_bytes, ..usual }
}

/// A line to standard output; a reader that closed it (`head`) ends the program quietly.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

//! `flumen produce`.
//!
//! Does: read records from arguments or lines, gather them in batches, append them.
//! Does not: append again what may have been appended: without a word from the broker it fails.
//! Invariants: what is gathered is bounded; a line is sent at the latest when no other is waiting;
//! keys go where Java's clients send them.
//! Apart because it is the one command that writes records.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::records::Header;
use flumen_protocol::messages::ProduceRequest;
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

use super::cluster::{Cluster, in_words, leader_of, topic_name};
use super::daily::{Acks, ProduceArguments};
use super::fault::{Fault, accept};
use super::listing::Outcome;
use super::world;
use crate::limits::{CLI_BATCH_BYTES, CLI_RECORD_BYTES_MAX};

/// Does what was typed; records come from `input` if none were.
///
/// # Errors
/// The first thing that failed.
pub fn run(
    arguments: &ProduceArguments,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let mut cluster = Cluster::reach(&arguments.common)?;
    let leaders = cluster.patiently(|cluster| cluster.leaders(&arguments.topic))?;
    if let Some(partition) = arguments.partition {
        leader_of(&leaders, &arguments.topic, partition)?;
    }
    let count = i32::try_from(leaders.len()).unwrap_or(i32::MAX);
    let mut desk = Desk {
        cluster,
        arguments,
        output,
        spread: Spread { partitions: count, fixed: arguments.partition, turn: 0 },
        batches: BTreeMap::new(),
        gathered_bytes: 0,
    };
    if arguments.values.is_empty() {
        desk.take_lines(input)?;
    } else {
        for value in &arguments.values {
            desk.take(value.as_bytes())?;
        }
    }
    desk.send()?;
    Ok(Outcome::Silent)
}

/// Which partition a record goes to.
#[derive(Clone, Debug)]
struct Spread {
    partitions: i32,
    fixed: Option<i32>,
    turn: i32,
}

impl Spread {
    fn of(&self, key: Option<&[u8]>) -> i32 {
        match (self.fixed, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => (murmur2(key) & i32::MAX) % self.partitions.max(1),
            (None, None) => self.turn % self.partitions.max(1),
        }
    }

    /// Records without keys go to one partition per batch, so that batches are full.
    fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.partitions.max(1);
    }
}

/// Where records are gathered and sent from.
struct Desk<'a> {
    cluster: Cluster,
    arguments: &'a ProduceArguments,
    output: &'a mut dyn Write,
    spread: Spread,
    batches: BTreeMap<i32, BatchBuilder>,
    gathered_bytes: usize,
}

impl Desk<'_> {
    fn take_lines(&mut self, input: &mut dyn Read) -> Result<(), Fault> {
        let mut lines = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = CLI_RECORD_BYTES_MAX as u64 + 1;
            if (&mut lines).take(limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() > CLI_RECORD_BYTES_MAX {
                return Err(Fault::Usage(format!(
                    "a line is longer than {CLI_RECORD_BYTES_MAX} bytes, the most one record may have here"
                )));
            }
            self.take(&line)?;
            // Nothing else has been written yet: whoever types wants to see it arrive.
            if lines.buffer().is_empty() {
                self.send()?;
            }
        }
    }

    fn take(&mut self, text: &[u8]) -> Result<(), Fault> {
        let arguments = self.arguments;
        let (key, value) = match &arguments.key_separator {
            Some(separator) => {
                let (key, value) = split(text, separator.as_bytes()).ok_or_else(|| {
                    Fault::Usage(format!(
                        "a line has no {separator:?} between key and value: {}",
                        String::from_utf8_lossy(&text[..text.len().min(60)])
                    ))
                })?;
                (Some(key), value)
            }
            None => (arguments.key.as_ref().map(String::as_bytes), text),
        };
        let headers: Vec<Header<'_>> = arguments
            .headers
            .iter()
            .map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let value = Some(value).filter(|value| !(value.is_empty() && arguments.tombstones));
        let record = NewRecord { timestamp: world::now_ms(), key, value, headers: &headers };
        let batch = self.batches.entry(self.spread.of(key)).or_default();
        let bytes = batch.size_bytes_with(&record) - batch.size_bytes();
        // What is larger than a batch goes alone; the broker knows whether it takes it.
        if self.gathered_bytes > 0 && self.gathered_bytes + bytes > CLI_BATCH_BYTES {
            self.send()?;
        }
        self.batches.entry(self.spread.of(key)).or_default().push(&record);
        self.gathered_bytes += bytes;
        Ok(())
    }

    /// Sends what is gathered.
    fn send(&mut self) -> Result<(), Fault> {
        let batches = std::mem::take(&mut self.batches);
        self.gathered_bytes = 0;
        self.spread.next_turn();
        for (partition, batch) in batches {
            if batch.record_count() > 0 {
                self.append(partition, batch)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, partition: i32, batch: BatchBuilder) -> Result<(), Fault> {
        let arguments = self.arguments;
        let records = batch.record_count();
        let codec = arguments.codec.codec();
        let bytes = match codec {
            Codec::None => batch.finish(),
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                batch.finish_compressed(codec)
            }
        };
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(bytes.freeze()));
        let topic = TopicProduceData::default()
            .with_name(topic_name(&arguments.topic))
            .with_partition_data(vec![data]);
        let acks = match arguments.acks {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        };
        let body = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(i32::try_from(arguments.common.timeout * 1000).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic]);
        if arguments.acks == Acks::None {
            let leader =
                leader_of(&self.cluster.leaders(&arguments.topic)?, &arguments.topic, partition)?;
            return self.cluster.tell(leader, &body);
        }
        let offset = self.cluster.patiently(|cluster| {
            let leaders = cluster.leaders(&arguments.topic)?;
            let answer = cluster.ask(leader_of(&leaders, &arguments.topic, partition)?, &body)?;
            let place = (arguments.topic.clone(), partition);
            let mut offset = -1;
            for found in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                let message = found.error_message.as_deref().unwrap_or_default();
                accept(|| in_words(&place), found.error_code, message)?;
                offset = found.base_offset;
            }
            Ok(offset)
        })?;
        self.say(partition, offset, records)
    }

    fn say(&mut self, partition: i32, offset: i64, records: i32) -> Result<(), Fault> {
        if self.arguments.common.json {
            let said = serde_json::json!({
                "topic": self.arguments.topic,
                "partition": partition,
                "offset": offset,
                "records": records,
            });
            writeln!(self.output, "{said}")?;
        } else {
            let last = offset.saturating_add(i64::from(records) - 1);
            let topic = &self.arguments.topic;
            match records {
                1 => writeln!(self.output, "{topic}:{partition} offset {offset}")?,
                _ => writeln!(self.output, "{topic}:{partition} offsets {offset} to {last}")?,
            }
        }
        Ok(self.output.flush()?)
    }
}

fn split<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    if separator.is_empty() {
        return None;
    }
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// The hash that Java's clients choose partitions by: Austin Appleby's MurmurHash2 with their seed.
fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_javas_clients_send_them() {
        // The values Kafka's own test of its hash holds.
        assert_eq!(murmur2(b"21"), -973_932_308);
        assert_eq!(murmur2(b"foobar"), -790_332_482);
        assert_eq!(murmur2(b"a-little-bit-long-string"), -985_981_536);
        assert_eq!(murmur2(b"a-little-bit-longer-string"), -1_486_304_829);
        let spread = Spread { partitions: 5, fixed: None, turn: 3 };
        assert_eq!((spread.of(None), spread.of(Some(b"21"))), (3, 1_173_551_340 % 5));
        let fixed = Spread { fixed: Some(4), ..spread };
        assert_eq!(fixed.of(Some(b"21")), 4);
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        assert_eq!(split(b"a::b::c", b"::"), Some((&b"a"[..], &b"b::c"[..])));
        assert_eq!(split(b"::", b"::"), Some((&b""[..], &b""[..])));
        assert_eq!(split(b"abc", b"::"), None);
        assert_eq!(split(b"abc", b""), None);
    }
}

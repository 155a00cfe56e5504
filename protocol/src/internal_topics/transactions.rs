//! `__transaction_state`: what the coordinator of a transactional id knows of it.
//!
//! ```text
//! key    version 0     transactional id              value  its transaction (0, 1)
//!        version 1 …   not read here
//! ```
//!
//! Does: both directions, in the versions Kafka 4.1 reads and writes.
//! Does not: know which state may follow which; the coordinator does.
//! Invariants: what is written is what Kafka 4.1.2 writes, byte for byte; reading borrows and
//! believes no count.
//! Apart because the schema is Kafka's, not the coordinator's.

use bytes::{Bytes, BytesMut};

use crate::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use crate::wire::Encoding;
use crate::wire::read::{DecodeError, DecodeErrorKind, Reader};
use crate::wire::tagged::Section;
use crate::wire::write::Writer;

/// What a record of the topic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// The transaction of this id; the value is a [`TransactionValue`].
    Transaction {
        /// The transactional id.
        id: &'a str,
    },
    /// A kind of record that is not read here. To be skipped, as Kafka does (KIP-915).
    Unknown {
        /// The kind's number.
        version: i16,
    },
}

/// Where a transaction stands, as Kafka numbers it on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Status {
    /// The id has a producer and no transaction.
    Empty = 0,
    /// Partitions have been added.
    Ongoing = 1,
    /// It is committed; markers are owed.
    PrepareCommit = 2,
    /// It is aborted; markers are owed.
    PrepareAbort = 3,
    /// Every partition has its commit marker.
    CompleteCommit = 4,
    /// Every partition has its abort marker.
    CompleteAbort = 5,
    /// The id is being forgotten.
    Dead = 6,
    /// A producer is being fenced. Kafka never writes it.
    PrepareEpochFence = 7,
}

impl Status {
    const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// Which of its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// A transactional id between two changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionValue<'a> {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its producer before this one, while that may still ask; −1 is none. Version 1.
    pub previous_producer_id: ProducerId,
    /// Its producer after this transaction, when the epochs of this one are used up; −1 is none.
    /// Version 1.
    pub next_producer_id: ProducerId,
    /// The epoch of the producer.
    pub epoch: ProducerEpoch,
    /// How long a transaction may take, milliseconds.
    pub timeout_ms: i32,
    /// Where it stands.
    pub status: Status,
    /// Its partitions; `None` is written for a transaction that has none by its state.
    pub partitions: Option<Vec<TopicPartitions<'a>>>,
    /// When the record was written, milliseconds since 1970.
    pub updated: i64,
    /// When the first partition was added, milliseconds since 1970; −1 is never.
    pub started: i64,
    /// The `transaction.version` its client spoke when it last changed. Version 1.
    pub client_version: i16,
}

const KEY_VERSION: i16 = 0;
const VALUE_VERSION_CLASSIC: i16 = 0;
const VALUE_VERSION: i16 = 1;
const PREVIOUS_TAG: u32 = 0;
const NEXT_TAG: u32 = 1;
const CLIENT_VERSION_TAG: u32 = 2;
/// A topic with a name of no bytes and no partitions.
const TOPIC_BYTES_MIN: usize = 2;
const PARTITION_BYTES: usize = 4;

/// Reads a record's key.
///
/// # Errors
/// Truncated, not UTF-8, or bytes after the end; never for a kind that is unknown.
pub fn read_key(bytes: &[u8]) -> Result<Key<'_>, DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    let version = reader.i16("version")?;
    if version != KEY_VERSION {
        return Ok(Key::Unknown { version });
    }
    let id = reader.string("transactional_id")?;
    reader.finish("key")?;
    Ok(Key::Transaction { id })
}

/// Writes the key of a transactional id.
///
/// # Panics
/// When the id is beyond 32,767 bytes: none that came over the wire is.
#[must_use]
pub fn write_key(id: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + id.len());
    let mut writer = Writer::new(&mut bytes, Encoding::Classic);
    writer.i16(KEY_VERSION);
    writer.string(id);
    bytes.freeze()
}

/// Reads a transaction, versions 0 and 1.
///
/// # Errors
/// A newer version, an unknown state, truncated, not UTF-8, a count that the bytes cannot hold, or
/// bytes after the end.
pub fn read_value(bytes: &[u8]) -> Result<TransactionValue<'_>, DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    let version = reader.i16("version")?;
    if !(VALUE_VERSION_CLASSIC..=VALUE_VERSION).contains(&version) {
        return Err(reader.error("version", DecodeErrorKind::UnsupportedVersion));
    }
    let encoding = Encoding::of(version == VALUE_VERSION);
    let mut reader = Reader::resume(&bytes[reader.at()..], reader.at(), encoding);
    let mut value = TransactionValue {
        producer_id: ProducerId(reader.i64("producer_id")?),
        previous_producer_id: ProducerId::NONE,
        next_producer_id: ProducerId::NONE,
        epoch: ProducerEpoch(reader.i16("producer_epoch")?),
        timeout_ms: reader.i32("transaction_timeout")?,
        status: read_status(&mut reader)?,
        partitions: read_partitions(&mut reader)?,
        updated: reader.i64("last_update_timestamp")?,
        started: reader.i64("start_timestamp")?,
        client_version: 0,
    };
    if encoding == Encoding::Compact {
        read_tags(&mut reader, &mut value)?;
    }
    reader.finish("transaction value")?;
    Ok(value)
}

/// Writes a transaction in version 1, as Kafka does from `transaction.version` 1 on.
///
/// # Panics
/// When a topic's name is beyond 32,767 bytes: none that exists is.
#[must_use]
pub fn write_value(value: &TransactionValue<'_>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(64);
    let mut writer = Writer::new(&mut bytes, Encoding::Compact);
    writer.i16(VALUE_VERSION);
    writer.i64(value.producer_id.0);
    writer.i16(value.epoch.0);
    writer.i32(value.timeout_ms);
    writer.i8(value.status as i8);
    match &value.partitions {
        None => writer.null_array(),
        Some(topics) => {
            writer.count(topics.len());
            for topic in topics {
                writer.string(topic.topic);
                writer.count(topic.partitions.len());
                topic.partitions.iter().for_each(|partition| writer.i32(partition.0));
                writer.end_of_struct();
            }
        }
    }
    writer.i64(value.updated);
    writer.i64(value.started);
    write_tags(&mut writer, value);
    bytes.freeze()
}

fn read_status(reader: &mut Reader<'_>) -> Result<Status, DecodeError> {
    let number = reader.i8("transaction_status")?;
    let status = usize::try_from(number).ok().and_then(|number| Status::ALL.get(number).copied());
    status.ok_or_else(|| reader.error("transaction_status", DecodeErrorKind::UnsupportedVersion))
}

fn read_partitions<'a>(
    reader: &mut Reader<'a>,
) -> Result<Option<Vec<TopicPartitions<'a>>>, DecodeError> {
    let Some(count) = reader.nullable_count("transaction_partitions", TOPIC_BYTES_MIN)? else {
        return Ok(None);
    };
    let mut topics = Vec::new();
    for _ in 0..count {
        let topic = reader.string("topic")?;
        let count = reader.count("partition_ids", PARTITION_BYTES)?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(PartitionIndex(reader.i32("partition_id")?));
        }
        reader.end_of_struct("topic")?;
        topics.push(TopicPartitions { topic, partitions });
    }
    Ok(Some(topics))
}

fn read_tags(reader: &mut Reader<'_>, value: &mut TransactionValue<'_>) -> Result<(), DecodeError> {
    let mut section = Section::open(reader, "tagged fields")?;
    while let Some(field) = section.next(reader, "tagged fields")? {
        let size = match field.tag {
            PREVIOUS_TAG | NEXT_TAG => 8,
            CLIENT_VERSION_TAG => 2,
            _ => {
                reader.take("unknown tagged field", field.size)?;
                continue;
            }
        };
        if field.size != size {
            return Err(reader.error("tagged field", DecodeErrorKind::TaggedFieldSize));
        }
        match field.tag {
            PREVIOUS_TAG => value.previous_producer_id = ProducerId(reader.i64("previous")?),
            NEXT_TAG => value.next_producer_id = ProducerId(reader.i64("next")?),
            _ => value.client_version = reader.i16("client_transaction_version")?,
        }
    }
    Ok(())
}

/// Tagged fields that have their default are left out.
fn write_tags(writer: &mut Writer<'_, BytesMut>, value: &TransactionValue<'_>) {
    let producers =
        [(PREVIOUS_TAG, value.previous_producer_id), (NEXT_TAG, value.next_producer_id)];
    let known = producers.into_iter().filter(|(_, id)| *id != ProducerId::NONE);
    let spoken = Some(value.client_version).filter(|version| *version != 0);
    writer.tagged_fields(known.clone().count() as u32 + u32::from(spoken.is_some()));
    for (tag, id) in known {
        writer.tagged_field(tag, 8);
        writer.i64(id.0);
    }
    if let Some(version) = spoken {
        writer.tagged_field(CLIENT_VERSION_TAG, 2);
        writer.i16(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> TransactionValue<'static> {
        TransactionValue {
            producer_id: ProducerId(0x0102_0304_0506_0708),
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            epoch: ProducerEpoch(3),
            timeout_ms: 60_000,
            status: Status::Ongoing,
            partitions: Some(vec![TopicPartitions {
                topic: "t",
                partitions: vec![PartitionIndex(1)],
            }]),
            updated: 9,
            started: 8,
            client_version: 2,
        }
    }

    /// What Kafka 4.1.2's own formatter reads as this.
    const BEGUN: &[u8] = &[
        0, 1, // version
        1, 2, 3, 4, 5, 6, 7, 8, // producer
        0, 3, // epoch
        0, 0, 0xea, 0x60, // timeout
        1,    // Ongoing
        2, 2, b't', 2, 0, 0, 0, 1, 0, // one topic with one partition
        0, 0, 0, 0, 0, 0, 0, 9, // updated
        0, 0, 0, 0, 0, 0, 0, 8, // started
        1, 2, 2, 0, 2, // one tag: the client's version
    ];

    #[test]
    fn a_transaction_has_kafkas_bytes() {
        assert_eq!(&write_value(&begun())[..], BEGUN);
        assert_eq!(read_value(BEGUN), Ok(begun()));
    }

    #[test]
    fn an_id_is_its_own_key_and_other_kinds_are_skipped() {
        let key = write_key("id");
        assert_eq!(&key[..], [0, 0, 0, 2, b'i', b'd']);
        assert_eq!(read_key(&key), Ok(Key::Transaction { id: "id" }));
        assert_eq!(read_key(&[0, 7, 1, 2, 3]), Ok(Key::Unknown { version: 7 }));
        assert!(read_key(&[0, 0, 0, 9, b'i']).is_err(), "cut off");
    }

    #[test]
    fn what_is_empty_says_nothing_of_partitions_and_neighbours_are_kept() {
        let value = TransactionValue {
            previous_producer_id: ProducerId(5),
            next_producer_id: ProducerId(6),
            status: Status::PrepareCommit,
            partitions: None,
            client_version: 0,
            ..begun()
        };
        assert_eq!(read_value(&write_value(&value)), Ok(value));
    }

    #[test]
    fn older_records_are_read_too() {
        let old: Vec<u8> = [
            &[0, 0][..],               // version
            &7_i64.to_be_bytes(),      // producer
            &[0, 1],                   // epoch
            &1000_i32.to_be_bytes(),   // timeout
            &[4],                      // CompleteCommit
            &[0, 0, 0, 1, 0, 1, b't'], // one topic
            &[0, 0, 0, 1, 0, 0, 0, 2], // one partition
            &5_i64.to_be_bytes(),      // updated
            &(-1_i64).to_be_bytes(),   // started
        ]
        .concat();
        let read = read_value(&old).expect("version 0");
        assert_eq!((read.status, read.client_version), (Status::CompleteCommit, 0));
        let topics = read.partitions.expect("they are told");
        assert_eq!((topics[0].topic, &topics[0].partitions[..]), ("t", &[PartitionIndex(2)][..]));
    }

    #[test]
    fn no_count_is_believed_and_nothing_may_follow() {
        for end in 0..BEGUN.len() {
            assert!(read_value(&BEGUN[..end]).is_err(), "cut to {end}");
        }
        assert!(read_value(&[BEGUN, &[0]].concat()).is_err());
        let mut huge = BEGUN.to_vec();
        huge.splice(17..18, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(read_value(&huge).is_err());
        let mut unknown = BEGUN.to_vec();
        unknown[16] = 8;
        assert!(read_value(&unknown).is_err(), "a state nobody knows");
        unknown[1] = 2;
        assert!(read_value(&unknown).is_err(), "a version nobody knows");
    }
}

//! `__consumer_offsets`: groups of the new kind (KIP-848).
//!
//! ```text
//! key    version 3   group            value  group epoch, hash of the topics
//!        version 4   group                   topics, as brokers before 4.1 knew them: only its tombstone
//!        version 5   group, member           what the member says of itself
//!        version 6   group                   epoch of the target assignment
//!        version 7   group, member           what the member shall have
//!        version 8   group, member           what the member has, and in which epoch
//!        version 16  group, pattern          the topics a regular expression stands for
//! ```
//!
//! Does: both directions, version 0 of every value, as Kafka 4.1 reads and writes them.
//! Does not: know what the records are for; keep them in any order.
//! Invariants: what is written is what Kafka 4.1.2 writes, byte for byte; reading believes no count.
//! Apart because these seven kinds belong together and to nothing else of the topic.

use bytes::{Bytes, BytesMut};

use crate::ids::TopicId;
use crate::wire::Encoding;
use crate::wire::read::{DecodeError, DecodeErrorKind, Reader};
use crate::wire::tagged::{self, Section};
use crate::wire::write::Writer;

/// What a record of a consumer group is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerKey<'a> {
    /// The group itself; the value is a [`GroupEpochValue`].
    Group,
    /// Its topics, as brokers before 4.1 stored them; the value is not read.
    OldTopics,
    /// A member; the value is a [`MemberValue`].
    Member(&'a str),
    /// The epoch of the target assignment; the value is that epoch.
    TargetEpoch,
    /// What a member shall have; the value is a list of partitions.
    Target(&'a str),
    /// What a member has; the value is a [`CurrentValue`].
    Current(&'a str),
    /// What a regular expression stands for; the value is a [`PatternValue`].
    Pattern(&'a str),
}

/// Partitions of one topic.
pub type TopicPartitions = (TopicId, Vec<i32>);

/// A group's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpochValue {
    /// How often its members or topics have changed.
    pub epoch: i32,
    /// Kafka's hash of the topics its members subscribe to; 0 without topics.
    pub topics_hash: i64,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberValue<'a> {
    /// The id its operator gave it, if it is static.
    pub instance_id: Option<&'a str>,
    /// Its failure domain.
    pub rack_id: Option<&'a str>,
    /// The client's name for itself.
    pub client_id: &'a str,
    /// Where it connected from.
    pub client_host: &'a str,
    /// The topics it names.
    pub topic_names: Vec<&'a str>,
    /// The pattern of the topics it wants.
    pub topic_pattern: Option<&'a str>,
    /// How long it may take to give up partitions, milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor it asks for.
    pub assignor: Option<&'a str>,
    /// Set if it speaks the classic protocol.
    pub classic: Option<ClassicValue<'a>>,
}

/// What a member that speaks the classic protocol says beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicValue<'a> {
    /// How long it may be silent, milliseconds.
    pub session_timeout_ms: i32,
    /// The protocols it can take part in, with what it says about each.
    pub protocols: Vec<(&'a str, &'a [u8])>,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentValue {
    /// The epoch expected in its next heartbeat.
    pub epoch: i32,
    /// The epoch before, in case the answer with the new one was lost.
    pub previous_epoch: i32,
    /// Kafka's number of the member's state.
    pub state: i8,
    /// The partitions it may use.
    pub assigned: Vec<TopicPartitions>,
    /// The partitions it must give up.
    pub revoking: Vec<TopicPartitions>,
}

/// What a regular expression stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternValue<'a> {
    /// The names of the topics that match.
    pub topics: Vec<&'a str>,
    /// The version of the cluster's metadata that was looked at.
    pub version: i64,
    /// When, milliseconds since 1970.
    pub timestamp: i64,
}

const GROUP_KEY_VERSION: i16 = 3;
const OLD_TOPICS_KEY_VERSION: i16 = 4;
const MEMBER_KEY_VERSION: i16 = 5;
const TARGET_EPOCH_KEY_VERSION: i16 = 6;
const TARGET_KEY_VERSION: i16 = 7;
const CURRENT_KEY_VERSION: i16 = 8;
const PATTERN_KEY_VERSION: i16 = 16;
/// The only version of all values.
const VALUE_VERSION: i16 = 0;
/// The tagged field of a group's value that holds the hash.
const HASH_TAG: u32 = 0;
/// The tagged field of a member's value that holds what it says in the classic protocol.
const CLASSIC_TAG: u32 = 0;
/// What partitions of a topic take at least: an id, a count, the end.
const TOPIC_BYTES_MIN: usize = 18;
/// What a partition takes.
const PARTITION_BYTES: usize = 4;

/// Reads what follows the version of a key, if the version is one of these kinds'.
///
/// # Errors
/// Truncated or not UTF-8.
pub(super) fn read_consumer_key<'a>(
    version: i16,
    reader: &mut Reader<'a>,
) -> Result<Option<(&'a str, ConsumerKey<'a>)>, DecodeError> {
    if !matches!(version, GROUP_KEY_VERSION..=CURRENT_KEY_VERSION | PATTERN_KEY_VERSION) {
        return Ok(None);
    }
    let group = reader.string("group")?;
    let key = match version {
        GROUP_KEY_VERSION => ConsumerKey::Group,
        OLD_TOPICS_KEY_VERSION => ConsumerKey::OldTopics,
        MEMBER_KEY_VERSION => ConsumerKey::Member(reader.string("member")?),
        TARGET_EPOCH_KEY_VERSION => ConsumerKey::TargetEpoch,
        TARGET_KEY_VERSION => ConsumerKey::Target(reader.string("member")?),
        CURRENT_KEY_VERSION => ConsumerKey::Current(reader.string("member")?),
        _ => ConsumerKey::Pattern(reader.string("pattern")?),
    };
    Ok(Some((group, key)))
}

/// Writes a key.
///
/// # Panics
/// When a name is beyond 32,767 bytes: none that came over the wire is.
#[must_use]
pub fn write_consumer_key(group: &str, key: &ConsumerKey<'_>) -> Bytes {
    let (version, name) = match key {
        ConsumerKey::Group => (GROUP_KEY_VERSION, None),
        ConsumerKey::OldTopics => (OLD_TOPICS_KEY_VERSION, None),
        ConsumerKey::Member(member) => (MEMBER_KEY_VERSION, Some(member)),
        ConsumerKey::TargetEpoch => (TARGET_EPOCH_KEY_VERSION, None),
        ConsumerKey::Target(member) => (TARGET_KEY_VERSION, Some(member)),
        ConsumerKey::Current(member) => (CURRENT_KEY_VERSION, Some(member)),
        ConsumerKey::Pattern(pattern) => (PATTERN_KEY_VERSION, Some(pattern)),
    };
    let mut bytes = BytesMut::with_capacity(6 + group.len() + name.map_or(0, |name| name.len()));
    let mut writer = Writer::new(&mut bytes, Encoding::Classic);
    writer.i16(version);
    writer.string(group);
    if let Some(name) = name {
        writer.string(name);
    }
    bytes.freeze()
}

/// Reads a group's epoch.
///
/// # Errors
/// A newer version, truncated, or bytes after the end.
pub fn read_group_epoch(bytes: &[u8]) -> Result<GroupEpochValue, DecodeError> {
    let mut reader = open(bytes)?;
    let epoch = reader.i32("epoch")?;
    let mut topics_hash = 0;
    let mut section = Section::open(&mut reader, "tagged fields")?;
    while let Some(field) = section.next(&mut reader, "tagged fields")? {
        if field.tag != HASH_TAG {
            reader.take("unknown tagged field", field.size)?;
        } else if field.size == size_of::<i64>() {
            topics_hash = reader.i64("metadata_hash")?;
        } else {
            return Err(reader.error("metadata_hash", DecodeErrorKind::TaggedFieldSize));
        }
    }
    reader.finish("group epoch")?;
    Ok(GroupEpochValue { epoch, topics_hash })
}

/// Writes a group's epoch.
#[must_use]
pub fn write_group_epoch(value: &GroupEpochValue) -> Bytes {
    write(24, |writer| {
        writer.i32(value.epoch);
        if value.topics_hash == 0 {
            writer.end_of_struct();
        } else {
            writer.tagged_fields(1);
            writer.tagged_field(HASH_TAG, size_of::<i64>());
            writer.i64(value.topics_hash);
        }
    })
}

/// Reads what a member says of itself.
///
/// # Errors
/// As [`read_group_epoch`]; also a count that the bytes cannot hold, or not UTF-8.
pub fn read_member(bytes: &[u8]) -> Result<MemberValue<'_>, DecodeError> {
    let mut reader = open(bytes)?;
    let mut value = MemberValue {
        instance_id: reader.nullable_string("instance_id")?,
        rack_id: reader.nullable_string("rack_id")?,
        client_id: reader.string("client_id")?,
        client_host: reader.string("client_host")?,
        topic_names: read_names(&mut reader)?,
        topic_pattern: reader.nullable_string("subscribed_topic_regex")?,
        rebalance_timeout_ms: reader.i32("rebalance_timeout_ms")?,
        assignor: reader.nullable_string("server_assignor")?,
        classic: None,
    };
    let mut section = Section::open(&mut reader, "tagged fields")?;
    while let Some(field) = section.next(&mut reader, "tagged fields")? {
        if field.tag != CLASSIC_TAG {
            reader.take("unknown tagged field", field.size)?;
            continue;
        }
        let end = reader.at() + field.size;
        value.classic = read_classic(&mut reader)?;
        if reader.at() != end {
            return Err(reader.error("classic_member_metadata", DecodeErrorKind::TaggedFieldSize));
        }
    }
    reader.finish("member")?;
    Ok(value)
}

/// A nullable struct begins with one varint: 0 is null.
fn read_classic<'a>(reader: &mut Reader<'a>) -> Result<Option<ClassicValue<'a>>, DecodeError> {
    if reader.unsigned_varint("classic_member_metadata")? == 0 {
        return Ok(None);
    }
    let session_timeout_ms = reader.i32("session_timeout_ms")?;
    let count = reader.count("supported_protocols", 3)?;
    let mut protocols = Vec::new();
    for _ in 0..count {
        let name = reader.string("name")?;
        let metadata = reader.nullable_blob("metadata")?;
        let metadata =
            metadata.ok_or_else(|| reader.error("metadata", DecodeErrorKind::UnexpectedNull))?;
        reader.end_of_struct("protocol")?;
        protocols.push((name, metadata));
    }
    reader.end_of_struct("classic_member_metadata")?;
    Ok(Some(ClassicValue { session_timeout_ms, protocols }))
}

/// Writes what a member says of itself.
#[must_use]
pub fn write_member(value: &MemberValue<'_>) -> Bytes {
    let names: usize = value.topic_names.iter().map(|name| name.len() + 3).sum();
    write(64 + names, |writer| {
        writer.nullable_string(value.instance_id);
        writer.nullable_string(value.rack_id);
        writer.string(value.client_id);
        writer.string(value.client_host);
        write_names(writer, &value.topic_names);
        writer.nullable_string(value.topic_pattern);
        writer.i32(value.rebalance_timeout_ms);
        writer.nullable_string(value.assignor);
        match &value.classic {
            None => writer.end_of_struct(),
            Some(classic) => {
                let content = classic_content(classic);
                writer.tagged_fields(1);
                writer.tagged_field(CLASSIC_TAG, content.len());
                writer.raw(&content);
            }
        }
    })
}

fn classic_content(classic: &ClassicValue<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut writer = Writer::new(&mut bytes, Encoding::Compact);
    writer.unsigned_varint(1);
    writer.i32(classic.session_timeout_ms);
    writer.count(classic.protocols.len());
    for (name, metadata) in &classic.protocols {
        writer.string(name);
        writer.count(metadata.len());
        writer.raw(metadata);
        writer.end_of_struct();
    }
    writer.end_of_struct();
    bytes
}

/// Reads the epoch of a target assignment.
///
/// # Errors
/// As [`read_group_epoch`].
pub fn read_target_epoch(bytes: &[u8]) -> Result<i32, DecodeError> {
    let mut reader = open(bytes)?;
    let epoch = reader.i32("assignment_epoch")?;
    tagged::skip(&mut reader, "tagged fields")?;
    reader.finish("target epoch")?;
    Ok(epoch)
}

/// Writes the epoch of a target assignment.
#[must_use]
pub fn write_target_epoch(epoch: i32) -> Bytes {
    write(8, |writer| {
        writer.i32(epoch);
        writer.end_of_struct();
    })
}

/// Reads what a member shall have.
///
/// # Errors
/// As [`read_group_epoch`]; also a count that the bytes cannot hold.
pub fn read_target(bytes: &[u8]) -> Result<Vec<TopicPartitions>, DecodeError> {
    let mut reader = open(bytes)?;
    let partitions = read_partitions(&mut reader)?;
    tagged::skip(&mut reader, "tagged fields")?;
    reader.finish("target")?;
    Ok(partitions)
}

/// Writes what a member shall have.
#[must_use]
pub fn write_target<'p>(partitions: impl Iterator<Item = (TopicId, &'p [i32])> + Clone) -> Bytes {
    write(8 + partitions_bytes(partitions.clone()), |writer| {
        write_partitions(writer, partitions);
        writer.end_of_struct();
    })
}

/// Reads what a member has.
///
/// # Errors
/// As [`read_target`].
pub fn read_current(bytes: &[u8]) -> Result<CurrentValue, DecodeError> {
    let mut reader = open(bytes)?;
    let value = CurrentValue {
        epoch: reader.i32("member_epoch")?,
        previous_epoch: reader.i32("previous_member_epoch")?,
        state: reader.i8("state")?,
        assigned: read_partitions(&mut reader)?,
        revoking: read_partitions(&mut reader)?,
    };
    tagged::skip(&mut reader, "tagged fields")?;
    reader.finish("current assignment")?;
    Ok(value)
}

/// Writes what a member has: its epoch, the one before and its state; what is its own, and what it
/// must give up.
#[must_use]
pub fn write_current<'p>(
    (epoch, previous_epoch, state): (i32, i32, i8),
    assigned: impl Iterator<Item = (TopicId, &'p [i32])> + Clone,
    revoking: impl Iterator<Item = (TopicId, &'p [i32])> + Clone,
) -> Bytes {
    let bytes = partitions_bytes(assigned.clone()) + partitions_bytes(revoking.clone());
    write(20 + bytes, |writer| {
        writer.i32(epoch);
        writer.i32(previous_epoch);
        writer.i8(state);
        write_partitions(writer, assigned);
        write_partitions(writer, revoking);
        writer.end_of_struct();
    })
}

/// Reads what a regular expression stands for.
///
/// # Errors
/// As [`read_member`].
pub fn read_pattern(bytes: &[u8]) -> Result<PatternValue<'_>, DecodeError> {
    let mut reader = open(bytes)?;
    let value = PatternValue {
        topics: read_names(&mut reader)?,
        version: reader.i64("version")?,
        timestamp: reader.i64("timestamp")?,
    };
    tagged::skip(&mut reader, "tagged fields")?;
    reader.finish("regular expression")?;
    Ok(value)
}

/// Writes what a regular expression stands for.
#[must_use]
pub fn write_pattern(value: &PatternValue<'_>) -> Bytes {
    let names: usize = value.topics.iter().map(|name| name.len() + 3).sum();
    write(24 + names, |writer| {
        write_names(writer, &value.topics);
        writer.i64(value.version);
        writer.i64(value.timestamp);
        writer.end_of_struct();
    })
}

/// Stands before the first field of a value.
fn open(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    if reader.i16("version")? != VALUE_VERSION {
        return Err(reader.error("version", DecodeErrorKind::UnsupportedVersion));
    }
    Ok(Reader::resume(&bytes[reader.at()..], reader.at(), Encoding::Compact))
}

fn write(capacity: usize, fill: impl FnOnce(&mut Writer<'_, BytesMut>)) -> Bytes {
    let mut bytes = BytesMut::with_capacity(capacity);
    Writer::new(&mut bytes, Encoding::Classic).i16(VALUE_VERSION);
    fill(&mut Writer::new(&mut bytes, Encoding::Compact));
    bytes.freeze()
}

fn read_names<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, DecodeError> {
    let count = reader.count("topic names", 1)?;
    (0..count).map(|_| reader.string("topic name")).collect()
}

fn write_names(writer: &mut Writer<'_, BytesMut>, names: &[&str]) {
    writer.count(names.len());
    names.iter().for_each(|name| writer.string(name));
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Vec<TopicPartitions>, DecodeError> {
    let topics = reader.count("topic_partitions", TOPIC_BYTES_MIN)?;
    let mut all = Vec::with_capacity(topics);
    for _ in 0..topics {
        let topic = TopicId(reader.uuid("topic_id")?);
        let count = reader.count("partitions", PARTITION_BYTES)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(reader.i32("partition")?);
        }
        reader.end_of_struct("topic_partitions")?;
        all.push((topic, partitions));
    }
    Ok(all)
}

fn write_partitions<'p>(
    writer: &mut Writer<'_, BytesMut>,
    topics: impl Iterator<Item = (TopicId, &'p [i32])> + Clone,
) {
    writer.count(topics.clone().count());
    for (topic, partitions) in topics {
        writer.raw(&topic.0);
        writer.count(partitions.len());
        partitions.iter().for_each(|partition| writer.i32(*partition));
        writer.end_of_struct();
    }
}

fn partitions_bytes<'p>(topics: impl Iterator<Item = (TopicId, &'p [i32])>) -> usize {
    topics.map(|(_, partitions)| 24 + PARTITION_BYTES * partitions.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::offsets::{Key, read_key};
    use super::*;
    use crate::batch::goldens::bytes;

    // Written by Kafka 4.1.2's own generated classes.
    const KEYS: [(&str, ConsumerKey<'static>); 7] = [
        ("0003000167", ConsumerKey::Group),
        ("0004000167", ConsumerKey::OldTopics),
        ("000500016700016d", ConsumerKey::Member("m")),
        ("0006000167", ConsumerKey::TargetEpoch),
        ("000700016700016d", ConsumerKey::Target("m")),
        ("000800016700016d", ConsumerKey::Current("m")),
        ("0010000167000178", ConsumerKey::Pattern("x")),
    ];
    const EPOCH: &str = "00000000000900";
    const EPOCH_WITH_HASH: &str = "000000000009010008fffffffffffffffe";
    const MEMBER: &str = "000000027207636c69656e740b2f3132372e302e302e3103026106746f706963010004\
                          93e00672616e676500";
    const MEMBER_CLASSIC: &str =
        "000002690101010104782e2a0000000500010012010000afc8020672616e6765040001020000";
    const TARGET_EPOCH: &str = "00000000000700";
    const TARGET: &str = "0000020102030405060708090a0b0c0d0e0f100300000000000000020000";
    const CURRENT: &str =
        "0000000000030000000202020102030405060708090a0b0c0d0e0f100200000001000100";
    const PATTERN: &str = "0000030261026200000000000000050000018bcfe5680000";
    const TOPIC: TopicId = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

    #[test]
    fn keys_are_kafkas() {
        for (golden, key) in KEYS {
            assert_eq!(write_consumer_key("g", &key), bytes(golden));
            assert_eq!(read_key(&bytes(golden)), Ok(Key::Consumer { group: "g", key }));
        }
    }

    #[test]
    fn values_are_kafkas() {
        for (golden, topics_hash) in [(EPOCH, 0), (EPOCH_WITH_HASH, -2)] {
            let value = GroupEpochValue { epoch: 9, topics_hash };
            assert_eq!(write_group_epoch(&value), bytes(golden));
            assert_eq!(read_group_epoch(&bytes(golden)), Ok(value));
        }
        let member = MemberValue {
            rack_id: Some("r"),
            client_id: "client",
            client_host: "/127.0.0.1",
            topic_names: vec!["a", "topic"],
            topic_pattern: Some(""),
            rebalance_timeout_ms: 300_000,
            assignor: Some("range"),
            ..MemberValue::default()
        };
        let protocols: Vec<(&str, &[u8])> = vec![("range", &[0, 1, 2])];
        let classic = MemberValue {
            instance_id: Some("i"),
            rack_id: Some(""),
            topic_pattern: Some("x.*"),
            rebalance_timeout_ms: 5,
            classic: Some(ClassicValue { session_timeout_ms: 45_000, protocols }),
            ..MemberValue::default()
        };
        for (golden, value) in [(MEMBER, member), (MEMBER_CLASSIC, classic)] {
            assert_eq!(write_member(&value), bytes(golden));
            assert_eq!(read_member(&bytes(golden)), Ok(value));
        }
        assert_eq!(write_target_epoch(7), bytes(TARGET_EPOCH));
        assert_eq!(read_target_epoch(&bytes(TARGET_EPOCH)), Ok(7));
        let partitions: [(TopicId, &[i32]); 1] = [(TOPIC, &[0, 2])];
        assert_eq!(write_target(partitions.into_iter()), bytes(TARGET));
        assert_eq!(read_target(&bytes(TARGET)), Ok(vec![(TOPIC, vec![0, 2])]));
        let assigned: [(TopicId, &[i32]); 1] = [(TOPIC, &[1])];
        let none: [(TopicId, &[i32]); 0] = [];
        let written = write_current((3, 2, 2), assigned.into_iter(), none.into_iter());
        assert_eq!(written, bytes(CURRENT));
        let current = CurrentValue {
            epoch: 3,
            previous_epoch: 2,
            state: 2,
            assigned: vec![(TOPIC, vec![1])],
            revoking: vec![],
        };
        assert_eq!(read_current(&bytes(CURRENT)), Ok(current));
        let pattern =
            PatternValue { topics: vec!["a", "b"], version: 5, timestamp: 1_700_000_000_000 };
        assert_eq!(write_pattern(&pattern), bytes(PATTERN));
        assert_eq!(read_pattern(&bytes(PATTERN)), Ok(pattern));
    }

    #[test]
    fn cut_anywhere_it_is_an_error_and_no_flipped_bit_panics() {
        let read_all = |bytes: &[u8]| {
            [
                read_key(bytes).is_ok(),
                read_group_epoch(bytes).is_ok(),
                read_member(bytes).is_ok(),
                read_target_epoch(bytes).is_ok(),
                read_target(bytes).is_ok(),
                read_current(bytes).is_ok(),
                read_pattern(bytes).is_ok(),
            ]
        };
        let values = [
            (EPOCH_WITH_HASH, 1),
            (MEMBER, 2),
            (MEMBER_CLASSIC, 2),
            (TARGET_EPOCH, 3),
            (TARGET, 4),
            (CURRENT, 5),
            (PATTERN, 6),
        ];
        for (golden, reader) in KEYS.map(|(golden, _)| (golden, 0)).into_iter().chain(values) {
            let golden = bytes(golden);
            for length in 0..golden.len() {
                assert!(!read_all(&golden[..length])[reader], "{length} bytes of {golden:02x?}");
            }
            for place in 0..golden.len() * 8 {
                let mut damaged = golden.clone();
                damaged[place / 8] ^= 1 << (place % 8);
                // Any answer will do, as long as it is one.
                let _ = read_all(&damaged);
            }
        }
    }
}

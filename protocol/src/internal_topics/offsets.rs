//! `__consumer_offsets`: committed offsets and the state of classic groups.
//!
//! ```text
//! key    version 0, 1  group, topic, partition      value  what was committed   (0 to 4)
//!        version 2     group                               the group's members  (0 to 4)
//!        version 3 …   groups of the new kind, see [`consumer_groups`](super::consumer_groups)
//! ```
//!
//! Does: both directions for these two kinds, in the versions Kafka 4.1 reads and writes.
//! Does not: read records; a null value is a tombstone and the caller's business.
//! Invariants: what is written is what Kafka 4.1.2 writes, byte for byte; reading borrows and
//! believes no count.
//! Apart because the schema is Kafka's, not the coordinator's.

use bytes::{Bytes, BytesMut};

use super::consumer_groups::{ConsumerKey, read_consumer_key};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::wire::Encoding;
use crate::wire::read::{DecodeError, DecodeErrorKind, Reader};
use crate::wire::tagged::Section;
use crate::wire::write::Writer;

/// What a record of the topic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// An offset a group committed; the value is an [`OffsetValue`].
    Offset(OffsetKey<'a>),
    /// A classic group; the value is a [`GroupValue`].
    Group {
        /// The group's id.
        group: &'a str,
    },
    /// A group of the new kind.
    Consumer {
        /// The group's id.
        group: &'a str,
        /// What of it.
        key: ConsumerKey<'a>,
    },
    /// A kind of record that is not read here. To be skipped, as Kafka does (KIP-915).
    Unknown {
        /// The kind's number.
        version: i16,
    },
}

/// Whose committed offset of which partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey<'a> {
    /// The group's id.
    pub group: &'a str,
    /// The topic's name.
    pub topic: &'a str,
    /// The partition of the topic.
    pub partition: PartitionIndex,
}

/// What was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetValue<'a> {
    /// The next record the group wants.
    pub offset: Offset,
    /// The leader epoch of the last record it had (KIP-320); unknown below version 3.
    pub leader_epoch: LeaderEpoch,
    /// The client's note, given back verbatim.
    pub metadata: &'a str,
    /// When it was committed, milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it expires whatever the group does, milliseconds since 1970: only for clients that
    /// asked for a retention time (OffsetCommit 2 to 4).
    pub expire_timestamp: Option<i64>,
    /// The topic's id, if it was known when the offset was committed.
    pub topic_id: Option<TopicId>,
}

/// A classic group between two rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue<'a> {
    /// `consumer`, `connect`, …; empty for a group that never had members.
    pub protocol_type: &'a str,
    /// How many rebalances there were.
    pub generation: i32,
    /// The chosen protocol; `None` without members.
    pub protocol: Option<&'a str>,
    /// The leading member's id; `None` without members.
    pub leader: Option<&'a str>,
    /// Since when the group is in its state, milliseconds since 1970; −1: unknown.
    pub state_timestamp: i64,
    /// Its members, in Kafka's order: that of the group's table.
    pub members: Vec<GroupMember<'a>>,
}

/// A member of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember<'a> {
    /// The id the coordinator gave it.
    pub member_id: &'a str,
    /// The id its operator gave it (KIP-345), if it is static.
    pub instance_id: Option<&'a str>,
    /// The client's name for itself.
    pub client_id: &'a str,
    /// Where it connected from.
    pub client_host: &'a str,
    /// How long it may take to rejoin, milliseconds; version 0 has only the session's.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, milliseconds.
    pub session_timeout_ms: i32,
    /// What it offered for the chosen protocol; opaque.
    pub subscription: &'a [u8],
    /// What the leader assigned to it; opaque.
    pub assignment: &'a [u8],
}

/// The version of keys of committed offsets; 0 is read too and says the same.
const OFFSET_KEY_VERSION: i16 = 1;
/// The version of keys of groups.
const GROUP_KEY_VERSION: i16 = 2;
/// The version of committed offsets with an expiry of their own.
const OFFSET_VALUE_VERSION_EXPIRING: i16 = 1;
/// The version of all other committed offsets.
const OFFSET_VALUE_VERSION: i16 = 4;
/// The newest version of group values that is read.
const GROUP_VALUE_VERSION_MAX: i16 = 4;
/// The version of group values that is written, as Kafka 4.1 still does.
const GROUP_VALUE_VERSION: i16 = 3;
/// What is made room for in a group's value beside its members: names of ordinary length.
const GROUP_VALUE_BYTES: usize = 256;
/// The first version of both values in the compact encoding.
const FLEXIBLE_VERSION: i16 = 4;
/// The number of the tagged field that holds a committed offset's topic id.
const TOPIC_ID_TAG: u32 = 0;
/// What a member takes at least: five lengths of one byte, two timeouts, two more lengths.
const MEMBER_BYTES_MIN: usize = 14;

/// Reads a record's key.
///
/// # Errors
/// Truncated, not UTF-8, or bytes after the end; never for a kind that is unknown.
pub fn read_key(bytes: &[u8]) -> Result<Key<'_>, DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    let version = reader.i16("version")?;
    let key = match version {
        0 | OFFSET_KEY_VERSION => Key::Offset(OffsetKey {
            group: reader.string("group")?,
            topic: reader.string("topic")?,
            partition: PartitionIndex(reader.i32("partition")?),
        }),
        GROUP_KEY_VERSION => Key::Group { group: reader.string("group")? },
        version => match read_consumer_key(version, &mut reader)? {
            Some((group, key)) => Key::Consumer { group, key },
            None => return Ok(Key::Unknown { version }),
        },
    };
    reader.finish("key")?;
    Ok(key)
}

/// Writes the key of a committed offset.
///
/// # Panics
/// When a name is beyond 32,767 bytes: none that came over the wire is.
#[must_use]
pub fn write_offset_key(key: &OffsetKey<'_>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(10 + key.group.len() + key.topic.len());
    let mut writer = Writer::new(&mut bytes, Encoding::Classic);
    writer.i16(OFFSET_KEY_VERSION);
    writer.string(key.group);
    writer.string(key.topic);
    writer.i32(key.partition.0);
    bytes.freeze()
}

/// Writes the key of a classic group.
///
/// # Panics
/// As [`write_offset_key`].
#[must_use]
pub fn write_group_key(group: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + group.len());
    let mut writer = Writer::new(&mut bytes, Encoding::Classic);
    writer.i16(GROUP_KEY_VERSION);
    writer.string(group);
    bytes.freeze()
}

/// Reads what was committed, versions 0 to 4.
///
/// # Errors
/// A newer version, truncated, not UTF-8, or bytes after the end.
pub fn read_offset_value(bytes: &[u8]) -> Result<OffsetValue<'_>, DecodeError> {
    let (version, mut reader) = open_value(bytes, OFFSET_VALUE_VERSION)?;
    let mut value = OffsetValue {
        offset: Offset(reader.i64("offset")?),
        leader_epoch: match version {
            ..3 => LeaderEpoch::UNKNOWN,
            3.. => LeaderEpoch(reader.i32("leader_epoch")?),
        },
        metadata: reader.string("metadata")?,
        commit_timestamp: reader.i64("commit_timestamp")?,
        expire_timestamp: None,
        topic_id: None,
    };
    if version == OFFSET_VALUE_VERSION_EXPIRING {
        value.expire_timestamp = Some(reader.i64("expire_timestamp")?).filter(|&time| time != -1);
    }
    if reader.encoding() == Encoding::Compact {
        value.topic_id = read_topic_id(&mut reader)?;
    }
    reader.finish("offset value")?;
    Ok(value)
}

/// Writes what was committed: version 1 if it has an expiry of its own, which then drops leader
/// epoch and topic id, else version 4. The same choice as Kafka's.
///
/// # Panics
/// When the note is beyond 32,767 bytes in version 1; commits limit it to 4,096.
#[must_use]
pub fn write_offset_value(value: &OffsetValue<'_>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(48 + value.metadata.len());
    if let Some(expire_timestamp) = value.expire_timestamp {
        let mut writer = Writer::new(&mut bytes, Encoding::Classic);
        writer.i16(OFFSET_VALUE_VERSION_EXPIRING);
        writer.i64(value.offset.0);
        writer.string(value.metadata);
        writer.i64(value.commit_timestamp);
        writer.i64(expire_timestamp);
        return bytes.freeze();
    }
    let mut writer = Writer::new(&mut bytes, Encoding::Compact);
    writer.i16(OFFSET_VALUE_VERSION);
    writer.i64(value.offset.0);
    writer.i32(value.leader_epoch.0);
    writer.string(value.metadata);
    writer.i64(value.commit_timestamp);
    match value.topic_id.filter(|&id| id != TopicId::ZERO) {
        None => writer.end_of_struct(),
        Some(TopicId(id)) => {
            writer.tagged_fields(1);
            writer.tagged_field(TOPIC_ID_TAG, id.len());
            writer.raw(&id);
        }
    }
    bytes.freeze()
}

/// Reads a classic group, versions 0 to 4.
///
/// # Errors
/// As [`read_offset_value`]; also a count of members that the bytes cannot hold.
pub fn read_group_value(bytes: &[u8]) -> Result<GroupValue<'_>, DecodeError> {
    let (version, mut reader) = open_value(bytes, GROUP_VALUE_VERSION_MAX)?;
    let mut value = GroupValue {
        protocol_type: reader.string("protocol_type")?,
        generation: reader.i32("generation")?,
        protocol: reader.nullable_string("protocol")?,
        leader: reader.nullable_string("leader")?,
        state_timestamp: match version {
            ..2 => -1,
            2.. => reader.i64("current_state_timestamp")?,
        },
        members: Vec::new(),
    };
    let member_count = reader.count("members", MEMBER_BYTES_MIN)?;
    for _ in 0..member_count {
        value.members.push(read_member(version, &mut reader)?);
    }
    reader.end_of_struct("group value")?;
    reader.finish("group value")?;
    Ok(value)
}

/// Writes a classic group, version 3 as Kafka does.
///
/// # Panics
/// When a name is beyond 32,767 bytes: none that came over the wire is.
#[must_use]
pub fn write_group_value(value: &GroupValue<'_>) -> Bytes {
    let members = value.members.iter().map(member_bytes);
    let mut bytes = BytesMut::with_capacity(GROUP_VALUE_BYTES + members.sum::<usize>());
    let mut writer = Writer::new(&mut bytes, Encoding::Classic);
    writer.i16(GROUP_VALUE_VERSION);
    writer.string(value.protocol_type);
    writer.i32(value.generation);
    writer.nullable_string(value.protocol);
    writer.nullable_string(value.leader);
    writer.i64(value.state_timestamp);
    writer.count(value.members.len());
    for member in &value.members {
        writer.string(member.member_id);
        writer.nullable_string(member.instance_id);
        writer.string(member.client_id);
        writer.string(member.client_host);
        writer.i32(member.rebalance_timeout_ms);
        writer.i32(member.session_timeout_ms);
        for blob in [member.subscription, member.assignment] {
            writer.count(blob.len());
            writer.raw(blob);
        }
    }
    bytes.freeze()
}

/// What a member takes in a group's value: what it says, and the lengths and numbers beside it.
fn member_bytes(member: &GroupMember<'_>) -> usize {
    const FIXED_BYTES: usize = 24;
    let names = [member.member_id, member.client_id, member.client_host];
    let names: usize = names.into_iter().chain(member.instance_id).map(str::len).sum();
    FIXED_BYTES + names + member.subscription.len() + member.assignment.len()
}

/// Reads a value's version and stands before its first field.
fn open_value(bytes: &[u8], version_max: i16) -> Result<(i16, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(bytes, Encoding::Classic);
    let version = reader.i16("version")?;
    if !(0..=version_max).contains(&version) {
        return Err(reader.error("version", DecodeErrorKind::UnsupportedVersion));
    }
    let encoding = Encoding::of(version >= FLEXIBLE_VERSION);
    Ok((version, Reader::resume(&bytes[reader.at()..], reader.at(), encoding)))
}

fn read_topic_id(reader: &mut Reader<'_>) -> Result<Option<TopicId>, DecodeError> {
    let mut topic_id = None;
    let mut section = Section::open(reader, "tagged fields")?;
    while let Some(field) = section.next(reader, "tagged fields")? {
        if field.tag != TOPIC_ID_TAG {
            reader.take("unknown tagged field", field.size)?;
        } else if field.size != TopicId::ZERO.0.len() {
            return Err(reader.error("topic_id", DecodeErrorKind::TaggedFieldSize));
        } else {
            topic_id = Some(TopicId(reader.uuid("topic_id")?)).filter(|&id| id != TopicId::ZERO);
        }
    }
    Ok(topic_id)
}

fn read_member<'a>(version: i16, reader: &mut Reader<'a>) -> Result<GroupMember<'a>, DecodeError> {
    let member_id = reader.string("member_id")?;
    let instance_id = match version {
        ..3 => None,
        3.. => reader.nullable_string("group_instance_id")?,
    };
    let client_id = reader.string("client_id")?;
    let client_host = reader.string("client_host")?;
    let rebalance_timeout_ms = match version {
        ..1 => None,
        1.. => Some(reader.i32("rebalance_timeout")?),
    };
    let session_timeout_ms = reader.i32("session_timeout")?;
    let member = GroupMember {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: read_blob(reader, "subscription")?,
        assignment: read_blob(reader, "assignment")?,
    };
    reader.end_of_struct("member")?;
    Ok(member)
}

fn read_blob<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], DecodeError> {
    let blob = reader.nullable_blob(what)?;
    blob.ok_or_else(|| reader.error(what, DecodeErrorKind::UnexpectedNull))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::goldens::bytes;

    // Written by Kafka 4.1.2's own generated classes.
    const KEY_OFFSET_V0: &str = "0000000567726f75700005746f70696300000007";
    const KEY_OFFSET: &str = "000100096772757070652dc3a40005746f70696300000007";
    const KEY_GROUP: &str = "0002000567726f7570";
    const KEY_CONSUMER_GROUP: &str = "0003000567726f7570";
    const KEY_SHARE_GROUP: &str = "000b000567726f7570";
    const OFFSET_VALUES: [&str; 5] = [
        "00000000001cbe991a1400046e6f74650000018bcfe56800",
        "00010000001cbe991a1400046e6f74650000018bcfe568000000018bcfee8fc0",
        "00020000001cbe991a1400046e6f74650000018bcfe56800",
        "00030000001cbe991a140000000500046e6f74650000018bcfe56800",
        "00040000001cbe991a1400000005056e6f74650000018bcfe5680000",
    ];
    const OFFSET_VALUE_TOPIC: &str =
        "00040000001cbe991a1400000005010000018bcfe568000100100102030405060708090a0b0c0d0e0f10";
    const OFFSET_VALUE_IGNORING: &str = "00010000000000000001000000000000000000020000000000000003";
    const GROUP_VALUES: [&str; 5] = [
        "00000008636f6e73756d657200000009000572616e676500086d656d6265722d310000000200086d656d\
         6265722d310006636c69656e74000a2f3132372e302e302e310000afc800000003000102000000020304\
         00086d656d6265722d3200000000000027100000000000000000",
        "00010008636f6e73756d657200000009000572616e676500086d656d6265722d310000000200086d656d\
         6265722d310006636c69656e74000a2f3132372e302e302e31000493e00000afc8000000030001020000\
         0002030400086d656d6265722d32000000000000ea60000027100000000000000000",
        "00020008636f6e73756d657200000009000572616e676500086d656d6265722d310000018bcfe5680000\
         00000200086d656d6265722d310006636c69656e74000a2f3132372e302e302e31000493e00000afc800\
         00000300010200000002030400086d656d6265722d32000000000000ea60000027100000000000000000",
        "00030008636f6e73756d657200000009000572616e676500086d656d6265722d310000018bcfe5680000\
         00000200086d656d6265722d3100087374617469632d310006636c69656e74000a2f3132372e302e302e\
         31000493e00000afc80000000300010200000002030400086d656d6265722d32ffff000000000000ea60\
         000027100000000000000000",
        "000409636f6e73756d6572000000090672616e6765096d656d6265722d310000018bcfe5680003096d65\
         6d6265722d31097374617469632d3107636c69656e740b2f3132372e302e302e31000493e00000afc804\
         00010203030400096d656d6265722d320001010000ea600000271001010000",
    ];
    const GROUP_VALUE_EMPTY: &str = "0003000000000000ffffffff0000018bcfe5680000000000";

    fn offset_value(version: usize) -> OffsetValue<'static> {
        OffsetValue {
            offset: Offset(123_456_789_012),
            leader_epoch: LeaderEpoch(if version >= 3 { 5 } else { -1 }),
            metadata: "note",
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp: (version == 1).then_some(1_700_000_600_000),
            topic_id: None,
        }
    }

    fn group_value(version: usize) -> GroupValue<'static> {
        let rebalance_timeout_ms = |newer, older| if version >= 1 { newer } else { older };
        GroupValue {
            protocol_type: "consumer",
            generation: 9,
            protocol: Some("range"),
            leader: Some("member-1"),
            state_timestamp: if version >= 2 { 1_700_000_000_000 } else { -1 },
            members: vec![
                GroupMember {
                    member_id: "member-1",
                    instance_id: (version >= 3).then_some("static-1"),
                    client_id: "client",
                    client_host: "/127.0.0.1",
                    rebalance_timeout_ms: rebalance_timeout_ms(300_000, 45_000),
                    session_timeout_ms: 45_000,
                    subscription: &[0, 1, 2],
                    assignment: &[3, 4],
                },
                GroupMember {
                    member_id: "member-2",
                    instance_id: None,
                    client_id: "",
                    client_host: "",
                    rebalance_timeout_ms: rebalance_timeout_ms(60_000, 10_000),
                    session_timeout_ms: 10_000,
                    subscription: &[],
                    assignment: &[],
                },
            ],
        }
    }

    #[test]
    fn keys_are_kafkas() {
        let key = OffsetKey { group: "gruppe-ä", topic: "topic", partition: PartitionIndex(7) };
        assert_eq!(write_offset_key(&key), bytes(KEY_OFFSET));
        assert_eq!(read_key(&bytes(KEY_OFFSET)), Ok(Key::Offset(key)));
        let key = OffsetKey { group: "group", ..key };
        assert_eq!(read_key(&bytes(KEY_OFFSET_V0)), Ok(Key::Offset(key)));
        assert_eq!(write_group_key("group"), bytes(KEY_GROUP));
        assert_eq!(read_key(&bytes(KEY_GROUP)), Ok(Key::Group { group: "group" }));
        let key = Key::Consumer { group: "group", key: ConsumerKey::Group };
        assert_eq!(read_key(&bytes(KEY_CONSUMER_GROUP)), Ok(key));
        assert_eq!(read_key(&bytes(KEY_SHARE_GROUP)), Ok(Key::Unknown { version: 11 }));
    }

    #[test]
    fn committed_offsets_of_all_versions_are_read() {
        for (version, golden) in OFFSET_VALUES.iter().enumerate() {
            assert_eq!(read_offset_value(&bytes(golden)), Ok(offset_value(version)), "{version}");
        }
    }

    #[test]
    fn committed_offsets_are_written_as_kafka_writes_them() {
        assert_eq!(write_offset_value(&offset_value(4)), bytes(OFFSET_VALUES[4]));
        assert_eq!(write_offset_value(&offset_value(1)), bytes(OFFSET_VALUES[1]));
        let topic_id = Some(TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
        let with_topic = OffsetValue { metadata: "", topic_id, ..offset_value(4) };
        assert_eq!(write_offset_value(&with_topic), bytes(OFFSET_VALUE_TOPIC));
        assert_eq!(read_offset_value(&bytes(OFFSET_VALUE_TOPIC)), Ok(with_topic));
        let zero_topic = OffsetValue { topic_id: Some(TopicId::ZERO), ..offset_value(4) };
        assert_eq!(write_offset_value(&zero_topic), bytes(OFFSET_VALUES[4]));
        let expiring = OffsetValue {
            offset: Offset(1),
            commit_timestamp: 2,
            expire_timestamp: Some(3),
            ..with_topic
        };
        assert_eq!(write_offset_value(&expiring), bytes(OFFSET_VALUE_IGNORING));
    }

    #[test]
    fn groups_of_all_versions_are_read_and_version_3_is_written() {
        for (version, golden) in GROUP_VALUES.iter().enumerate() {
            assert_eq!(read_group_value(&bytes(golden)), Ok(group_value(version)), "{version}");
        }
        assert_eq!(write_group_value(&group_value(3)), bytes(GROUP_VALUES[3]));
        let empty = GroupValue {
            protocol_type: "",
            generation: 0,
            protocol: None,
            leader: None,
            state_timestamp: 1_700_000_000_000,
            members: vec![],
        };
        assert_eq!(write_group_value(&empty), bytes(GROUP_VALUE_EMPTY));
        assert_eq!(read_group_value(&bytes(GROUP_VALUE_EMPTY)), Ok(empty));
    }

    #[test]
    fn versions_of_tomorrow_are_told_apart_from_damage() {
        let kind = |error: DecodeError| error.kind;
        let newer = read_offset_value(&[0, 5, 0]).map_err(kind);
        assert_eq!(newer, Err(DecodeErrorKind::UnsupportedVersion));
        let newer = read_group_value(&[0, 5, 0]).map_err(kind);
        assert_eq!(newer, Err(DecodeErrorKind::UnsupportedVersion));
        // Four members announced, none there.
        let mut damaged = bytes(GROUP_VALUE_EMPTY);
        *damaged.last_mut().expect("not empty") = 4;
        let damaged = read_group_value(&damaged).map_err(kind);
        assert_eq!(damaged, Err(DecodeErrorKind::CountTooLarge));
    }

    #[test]
    fn an_unknown_tagged_field_is_passed_over_and_a_short_topic_id_is_not() {
        let mut value = bytes(OFFSET_VALUES[4]);
        value.pop();
        let with = |tags: &[u8]| [value.as_slice(), tags].concat();
        assert_eq!(read_offset_value(&with(&[1, 9, 2, 7, 7])), Ok(offset_value(4)));
        let short = with(&[1, 0, 2, 7, 7]);
        let short = read_offset_value(&short).map_err(|error| error.kind);
        assert_eq!(short, Err(DecodeErrorKind::TaggedFieldSize));
    }

    #[test]
    fn cut_anywhere_it_is_an_error_and_no_flipped_bit_panics() {
        let keys = [KEY_OFFSET_V0, KEY_OFFSET, KEY_GROUP].map(bytes);
        for key in &keys {
            assert!((0..key.len()).all(|length| read_key(&key[..length]).is_err()));
        }
        let offsets = OFFSET_VALUES.map(bytes);
        for value in &offsets {
            assert!((0..value.len()).all(|length| read_offset_value(&value[..length]).is_err()));
        }
        let groups = GROUP_VALUES.map(bytes);
        for value in &groups {
            assert!((0..value.len()).all(|length| read_group_value(&value[..length]).is_err()));
        }
        for golden in keys.iter().chain(&offsets).chain(&groups) {
            for place in 0..golden.len() * 8 {
                let mut damaged = golden.clone();
                damaged[place / 8] ^= 1 << (place % 8);
                // Any answer will do, as long as it is one.
                let _ = read_key(&damaged);
                let _ = read_offset_value(&damaged);
                let _ = read_group_value(&damaged);
            }
        }
    }
}

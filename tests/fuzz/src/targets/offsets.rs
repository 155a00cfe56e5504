//! Keys and values of `__consumer_offsets`.
//!
//! Oracle: what is read and written again is read back equal; reading takes memory in proportion.

use flumen_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use flumen_protocol::internal_topics::consumer_groups::{
    TopicPartitions, read_current, read_group_epoch, read_member, read_pattern, read_target,
    read_target_epoch, write_consumer_key, write_current, write_group_epoch, write_member,
    write_pattern, write_target, write_target_epoch,
};
use flumen_protocol::internal_topics::offsets::{
    GroupMember, GroupValue, Key, OffsetKey, OffsetValue, read_group_value, read_key,
    read_offset_value, write_group_key, write_group_value, write_offset_key, write_offset_value,
};

use crate::draw::Draw;
use crate::meter;

/// Which of the four, then its bytes.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let which = draw.below(4);
    let bytes = draw.rest();
    match which {
        0 => key(bytes),
        1 => offset(bytes),
        2 => group(bytes),
        _ => of_the_new_kind(bytes),
    }
}

fn key(bytes: &[u8]) {
    match read_key(bytes) {
        Ok(Key::Offset(key)) => {
            assert_eq!(read_key(&write_offset_key(&key)), Ok(Key::Offset(key)));
        }
        Ok(Key::Group { group }) => {
            assert_eq!(read_key(&write_group_key(group)), Ok(Key::Group { group }));
        }
        Ok(Key::Consumer { group, key }) => {
            let again = write_consumer_key(group, &key);
            assert_eq!(read_key(&again), Ok(Key::Consumer { group, key }));
        }
        Ok(Key::Unknown { version }) => assert!(!(0..=2).contains(&version)),
        Err(error) => assert!(error.at <= bytes.len(), "{error}"),
    }
}

fn offset(bytes: &[u8]) {
    match read_offset_value(bytes) {
        Ok(value) => assert_eq!(read_offset_value(&write_offset_value(&value)), Ok(value)),
        Err(error) => assert!(error.at <= bytes.len(), "{error}"),
    }
}

fn group(bytes: &[u8]) {
    let (read, spent) = meter::spent(|| read_group_value(bytes));
    // A member takes 14 bytes at least, and its place among the others is made by doubling.
    let place = size_of::<GroupMember<'_>>();
    assert!(spent <= 4 * place * (bytes.len() / 14 + 1), "{spent} bytes for {}", bytes.len());
    match read {
        Ok(value) => {
            let again = write_group_value(&value);
            assert_eq!(read_group_value(&again).as_ref(), Ok(&value));
        }
        Err(error) => assert!(error.at <= bytes.len(), "{error}"),
    }
}

/// Every value of a group of the new kind.
fn of_the_new_kind(bytes: &[u8]) {
    if let Ok(value) = read_group_epoch(bytes) {
        assert_eq!(read_group_epoch(&write_group_epoch(&value)), Ok(value));
    }
    if let Ok(epoch) = read_target_epoch(bytes) {
        assert_eq!(read_target_epoch(&write_target_epoch(epoch)), Ok(epoch));
    }
    // Text and partitions weigh at least a byte each where they are read from, and at most so much
    // where they are kept.
    const PER_BYTE: usize = 4 * size_of::<(&str, &[u8])>();
    let (member, spent) = meter::spent(|| read_member(bytes));
    assert!(spent <= PER_BYTE * (bytes.len() + 1), "{spent} bytes for {}", bytes.len());
    if let Ok(value) = member {
        assert_eq!(read_member(&write_member(&value)).as_ref(), Ok(&value));
    }
    let (target, spent) = meter::spent(|| read_target(bytes));
    assert!(spent <= PER_BYTE * (bytes.len() + 1), "{spent} bytes for {}", bytes.len());
    if let Ok(value) = target {
        assert_eq!(read_target(&write_target(slices(&value))).as_ref(), Ok(&value));
    }
    if let Ok(value) = read_pattern(bytes) {
        assert_eq!(read_pattern(&write_pattern(&value)).as_ref(), Ok(&value));
    }
    if let Ok(value) = read_current(bytes) {
        let head = (value.epoch, value.previous_epoch, value.state);
        let again = write_current(head, slices(&value.assigned), slices(&value.revoking));
        assert_eq!(read_current(&again).as_ref(), Ok(&value));
    }
}

fn slices(topics: &[TopicPartitions]) -> impl Iterator<Item = (TopicId, &[i32])> + Clone {
    topics.iter().map(|(topic, partitions)| (*topic, &partitions[..]))
}

/// A group's value as a broker writes it.
pub fn group_value(subscription: &[u8]) -> Vec<u8> {
    let member = |member_id, instance_id| GroupMember {
        member_id,
        instance_id,
        client_id: "client",
        client_host: "/10.0.0.1",
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription,
        assignment: b"\0\x01",
    };
    let value = GroupValue {
        protocol_type: "consumer",
        generation: 3,
        protocol: Some("range"),
        leader: Some("a-1"),
        state_timestamp: 1_700_000_000_000,
        members: vec![member("a-1", None), member("b-2", Some("static"))],
    };
    write_group_value(&value).to_vec()
}

/// An offset's value as a broker writes it: of the newest version, or with an expiry.
pub fn offset_value(expire_timestamp: Option<i64>) -> Vec<u8> {
    let value = OffsetValue {
        offset: Offset(77),
        leader_epoch: if expire_timestamp.is_some() {
            LeaderEpoch::UNKNOWN
        } else {
            LeaderEpoch(2)
        },
        metadata: "note",
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp,
        topic_id: expire_timestamp.is_none().then_some(TopicId([9; 16])),
    };
    write_offset_value(&value).to_vec()
}

/// The key of an offset.
pub fn offset_key() -> Vec<u8> {
    let key = OffsetKey { group: "g", topic: "orders", partition: PartitionIndex(1) };
    write_offset_key(&key).to_vec()
}

/// Everything a broker writes, and an older and a newer version of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let of = |which: u8, bytes: Vec<u8>| [vec![which], bytes].concat();
    let versioned = |which: u8, bytes: Vec<u8>| {
        let version = |version: u8| {
            let mut bytes = bytes.clone();
            bytes[1] = version;
            of(which, bytes)
        };
        (0..=4).map(version).collect::<Vec<_>>()
    };
    let subscription = b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff";
    let mut seeds = vec![of(0, offset_key()), of(0, write_group_key("g").to_vec())];
    seeds.extend(versioned(1, offset_value(None)));
    seeds.push(of(1, offset_value(Some(1_700_000_100_000))));
    seeds.extend(versioned(2, group_value(subscription)));
    seeds
}

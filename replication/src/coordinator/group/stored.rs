//! What groups leave in the offsets topic, and how it is read back.
//!
//! Does: turn groups and offsets into records and records into groups and offsets.
//! Does not: know the bytes; `internal_topics::offsets` does.
//! Invariants: a record read back gives the group as it is between two rebalances: its members
//! with the one protocol that was chosen, and their assignment.
//! Apart because memory and log are different things that must not drift into each other.

use bytes::Bytes;
use flumen_protocol::ids::PartitionIndex;
use flumen_protocol::internal_topics::offsets::{
    GroupMember, GroupValue, Key, OffsetKey, OffsetValue, read_group_value, read_key,
    read_offset_value, write_group_key, write_group_value, write_offset_key, write_offset_value,
};
use flumen_protocol::time::Wall;

use super::classic::Group;
use super::consumer::{ConsumerRecord, Fact};
use super::member::{Member, Protocol};
use super::offsets::{Committed, Place};
use crate::coordinator::machine::{ReplayError, StateRecord};
use crate::limits::COORDINATOR_RECORD_BYTES_MAX;

/// What a record of the offsets topic says.
#[derive(Debug)]
pub(super) enum Stored {
    /// A group as it was at the end of a rebalance; boxed, since offsets are far more frequent.
    Group(Box<Group>),
    /// A group is no more.
    GroupGone { id: String },
    /// An offset was committed.
    Offset { place: Place, committed: Committed },
    /// An offset was deleted or has expired.
    OffsetGone { place: Place },
    /// Something of a group of the new kind.
    Consumer(Box<ConsumerRecord>),
    /// A record of a newer Kafka: skipped, as Kafka does (KIP-915).
    Unknown,
}

/// Reads a record.
///
/// # Errors
/// When key or value are not what Kafka writes.
pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Stored, ReplayError> {
    let stored = match (read_key(key).map_err(ReplayError::Key)?, value) {
        (Key::Unknown { .. }, _) => Stored::Unknown,
        (Key::Consumer { group, key }, value) => {
            let fact = Fact::read(&key, value).map_err(ReplayError::Value)?;
            Stored::Consumer(Box::new(ConsumerRecord { group: group.to_owned(), fact }))
        }
        (Key::Group { group }, None) => Stored::GroupGone { id: group.to_owned() },
        (Key::Group { group }, Some(value)) => {
            let value = read_group_value(value).map_err(ReplayError::Value)?;
            Stored::Group(Box::new(restore(group, &value)))
        }
        (Key::Offset(key), None) => Stored::OffsetGone { place: place(&key) },
        (Key::Offset(key), Some(value)) => {
            let value = read_offset_value(value).map_err(ReplayError::Value)?;
            Stored::Offset { place: place(&key), committed: committed(&value) }
        }
    };
    Ok(stored)
}

fn place(key: &OffsetKey<'_>) -> Place {
    Place { group: key.group.to_owned(), topic: key.topic.to_owned(), partition: key.partition.0 }
}

fn committed(value: &OffsetValue<'_>) -> Committed {
    Committed {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.into(),
        at: Wall(value.commit_timestamp),
        expires: value.expire_timestamp.map(Wall),
    }
}

fn restore(id: &str, value: &GroupValue<'_>) -> Group {
    let since = (value.state_timestamp != -1).then_some(Wall(value.state_timestamp));
    let mut group = Group::new(id, since);
    group.generation = value.generation;
    group.protocol_type = Some(value.protocol_type.to_owned()).filter(|name| !name.is_empty());
    group.protocol = value.protocol.map(str::to_owned);
    for member in &value.members {
        let member = restore_member(member, value.protocol.unwrap_or_default());
        // A damaged or foreign record may name a member or an instance twice: the first counts.
        let is_taken = group.member(&member.id).is_some()
            || member.instance.as_deref().is_some_and(|one| group.instance_member(one).is_some());
        if !is_taken {
            group.restore(member);
        }
    }
    group.restored(value.leader);
    group
}

fn restore_member(member: &GroupMember<'_>, protocol: &str) -> Member {
    let rebalance_timeout_ms = match member.rebalance_timeout_ms {
        -1 => member.session_timeout_ms,
        given => given,
    };
    Member {
        id: member.member_id.to_owned(),
        instance: member.instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        client_host: member.client_host.to_owned(),
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms,
        protocols: vec![Protocol {
            name: protocol.to_owned(),
            metadata: Bytes::copy_from_slice(member.subscription),
        }],
        assignment: Bytes::copy_from_slice(member.assignment),
        order: 0,
        is_new: false,
        joining: None,
        syncing: None,
    }
}

/// The record that says how a group stands now.
pub(super) fn group_record(group: &Group) -> StateRecord {
    let protocol = group.protocol.as_deref();
    let members = group.members_by_age();
    // Kept alive here, since the record borrows from them.
    let subscriptions: Vec<Bytes> =
        members.iter().map(|member| member.metadata(protocol.unwrap_or_default())).collect();
    let stored = members.iter().zip(&subscriptions).map(|(member, subscription)| GroupMember {
        member_id: &member.id,
        instance_id: member.instance.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription,
        assignment: &member.assignment,
    });
    let value = GroupValue {
        protocol_type: group.protocol_type.as_deref().unwrap_or_default(),
        generation: group.generation,
        protocol,
        leader: group.leader(),
        state_timestamp: group.since.map_or(-1, |since| since.0),
        members: stored.collect(),
    };
    StateRecord { key: write_group_key(&group.id), value: Some(write_group_value(&value)) }
}

/// The record that says that a group is no more.
pub(super) fn group_gone_record(id: &str) -> StateRecord {
    StateRecord { key: write_group_key(id), value: None }
}

/// The record of a committed offset.
pub(super) fn offset_record(place: &Place, committed: &Committed) -> StateRecord {
    let value = OffsetValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: &committed.metadata,
        commit_timestamp: committed.at.0,
        expire_timestamp: committed.expires.map(|at| at.0),
        topic_id: None,
    };
    StateRecord { key: offset_key(place), value: Some(write_offset_value(&value)) }
}

/// The record that says that an offset is no more.
pub(super) fn offset_gone_record(place: &Place) -> StateRecord {
    StateRecord { key: offset_key(place), value: None }
}

/// What a record takes of a batch: what it says, and its lengths and numbers as the batch has them.
pub(super) fn stored_bytes(record: &StateRecord) -> usize {
    const FRAMING_BYTES: usize = 12;
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + FRAMING_BYTES
}

/// Whether a batch can hold this record at all.
pub(super) fn fits_a_batch(record: &StateRecord) -> bool {
    record.value.as_ref().map_or(0, Bytes::len) <= COORDINATOR_RECORD_BYTES_MAX
}

fn offset_key(place: &Place) -> Bytes {
    let partition = PartitionIndex(place.partition);
    write_offset_key(&OffsetKey { group: &place.group, topic: &place.topic, partition })
}

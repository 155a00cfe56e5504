//! Committing, fetching and deleting offsets (G110–G112, G127).
//!
//! Does: check, and turn what was asked into records and answers.
//! Does not: change offsets; `dispatch` applies the records' meaning, as it does when loading.
//! Invariants: every partition asked for is in the answer, in the order asked for; a note is in it
//! once, however often its partition is named.
//! Apart because offsets follow other rules than membership.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LeaderEpoch, Offset};
use flumen_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use flumen_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use flumen_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use flumen_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use flumen_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use flumen_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, TopicName,
};
use flumen_protocol::time::{Now, Wall};

use super::GroupConfig;
use super::any::AnyGroup;
use super::classic::{Group, StateName};
use super::consumer::{check_commit as check_consumer_commit, check_fetch};
use super::dispatch::GroupCoordinator;
use super::offsets::{Committed, OffsetTable, Place, group_weight, offset_weight, topic_weight};
use super::pending::PendingOffsets;
use super::requests::{GroupEffect, commit_refused, text};
use super::stored::{offset_record, stored_bytes};
use super::turn::Turn;
use crate::coordinator::machine::StateRecord;
use crate::limits::{
    COORDINATOR_BATCH_BYTES_MAX, GROUP_NAME_BYTES_MAX, GROUP_OFFSETS_MAX, OFFSET_METADATA_BYTES_MAX,
};

/// The first version of OffsetCommit that is told GROUP_ID_NOT_FOUND.
const GROUP_ID_NOT_FOUND_VERSION: i16 = 9;

/// Whether this request may commit to this group; `None`: there is no such group. A commit within a
/// transaction has no `version`: producers before KIP-447 name no generation, the others are told
/// ILLEGAL_GENERATION of a group that is gone.
///
/// # Errors
/// What to answer for every partition.
fn check_commit(
    group: Option<&Group>,
    request: &OffsetCommitRequest,
    version: Option<i16>,
) -> Result<(), ErrorCode> {
    let generation = request.generation_id_or_member_epoch;
    match group {
        Some(group) => {
            let instance = request.group_instance_id.as_deref();
            group.check_commit(&request.member_id, instance, generation, version.is_none())
        }
        None if request.group_id.len() > GROUP_NAME_BYTES_MAX => Err(ErrorCode::InvalidGroupId),
        // Somebody who assigns partitions to itself: the group comes into being by this commit.
        None if generation < 0 => Ok(()),
        None if version.is_some_and(|version| version >= GROUP_ID_NOT_FOUND_VERSION) => {
            Err(ErrorCode::GroupIdNotFound)
        }
        None => Err(ErrorCode::IllegalGeneration),
    }
}

/// Whether a commit shows that its member is alive.
fn renews_session(group: &Group, member_id: &str) -> Option<i32> {
    match group.state_name() {
        StateName::Stable | StateName::PreparingRebalance => {
            group.member(member_id).map(|member| member.session_timeout_ms)
        }
        StateName::Empty | StateName::CompletingRebalance => None,
    }
}

/// An offset to be stored, as memory and as the log hold it.
pub(super) struct Accepted {
    pub(super) place: Place,
    pub(super) committed: Committed,
    pub(super) record: StateRecord,
}

impl GroupCoordinator {
    /// Judges a commit, plain or (`version` is `None`) within a transaction: what to store, and what to
    /// answer once that is stored. Nothing is to be stored where all of it is refused. A member that
    /// commits shows that it is alive.
    pub(super) fn decide_commit(
        &mut self,
        now: Now,
        (request, version): (&OffsetCommitRequest, Option<i16>),
        out: &mut Vec<GroupEffect>,
    ) -> (Vec<Accepted>, OffsetCommitResponse) {
        let consumer = self.consumers.get(&request.group_id);
        let group = self.groups.get(&request.group_id);
        let mut checked = match consumer {
            Some(group) => check_consumer_commit(group, request, version),
            None => check_commit(group, request, version),
        };
        if group.is_none() && consumer.is_none() && self.groups_room().groups == 0 {
            checked = checked.and(Err(ErrorCode::CoordinatorNotAvailable));
        }
        if let Err(error) = checked {
            return (Vec::new(), commit_refused(request, error));
        }
        if let Some(group) = group
            && let Some(session_ms) = renews_session(group, &request.member_id)
        {
            let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
            turn.renew_session(&group.id, &request.member_id, session_ms);
        }
        commit((&self.offsets, self.offsets_room()), &self.config, request, now.wall)
    }
}

/// What a commit comes to, partition by partition: what to store and what to answer. Of a partition
/// named more than once the last counts. Beyond what there is, `room_bytes` may be taken.
///
/// A commit whose records are larger than one batch is refused as a whole, as in Kafka: each
/// repeats the group's id, so that a small request could lead to gigabytes of them.
fn commit(
    (offsets, room_bytes): (&OffsetTable, usize),
    config: &GroupConfig,
    request: &OffsetCommitRequest,
    now: Wall,
) -> (Vec<Accepted>, OffsetCommitResponse) {
    let mut wishes: Vec<(Wish<'_>, &OffsetCommitRequestPartition)> = Vec::new();
    let mut known: BTreeMap<Wish<'_>, usize> = BTreeMap::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut room = Room::of(offsets, room_bytes, &request.group_id);
    for topic in &request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let wish: Wish<'_> = (&topic.name, index);
            let error = if topic.name.len() > GROUP_NAME_BYTES_MAX {
                ErrorCode::InvalidTopicException
            } else if !metadata_fits(partition, config) {
                ErrorCode::OffsetMetadataTooLarge
            } else if !room.take(wish, known.get(&wish).map(|at| wishes[*at].1), partition) {
                ErrorCode::InvalidCommitOffsetSize
            } else {
                match known.get(&wish) {
                    Some(at) => wishes[*at] = (wish, partition),
                    None => {
                        known.insert(wish, wishes.len());
                        wishes.push((wish, partition));
                    }
                }
                ErrorCode::None
            };
            answers.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(error.code()),
            );
        }
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(answers),
        );
    }
    match accept(request, &wishes, now) {
        Some(accepted) => (accepted, OffsetCommitResponse::default().with_topics(topics)),
        None => (Vec::new(), commit_refused(request, ErrorCode::InvalidCommitOffsetSize)),
    }
}

/// A topic and a partition that a commit names.
type Wish<'r> = (&'r str, i32);

/// How much more may be stored while a commit is looked at.
struct Room<'o> {
    offsets: &'o OffsetTable,
    group: &'o str,
    /// Offsets of this group.
    count: usize,
    /// Bytes of all groups.
    bytes: usize,
    /// Whether the group is one of those that weigh something.
    has_group: bool,
    /// The topics of this commit that the group has no offsets of yet.
    new_topics: BTreeSet<&'o str>,
}

impl<'o> Room<'o> {
    /// Of `bytes` beyond what is held.
    fn of(offsets: &'o OffsetTable, bytes: usize, group: &'o str) -> Self {
        Self {
            offsets,
            group,
            count: GROUP_OFFSETS_MAX.saturating_sub(offsets.count(group)),
            bytes,
            has_group: offsets.count(group) > 0,
            new_topics: BTreeSet::new(),
        }
    }

    /// Takes what this offset needs beyond what is stored, or `before` it in the same commit; whether
    /// there is so much. What needs nothing more is taken even where there is too much already.
    fn take(
        &mut self,
        (topic, index): Wish<'o>,
        before: Option<&OffsetCommitRequestPartition>,
        partition: &OffsetCommitRequestPartition,
    ) -> bool {
        let stored = self.offsets.get(self.group, topic, index);
        let known = before.map(note).or(stored.map(|known| &*known.metadata));
        let new_topic = known.is_none()
            && !self.new_topics.contains(topic)
            && !self.offsets.topics(self.group).is_some_and(|topics| topics.contains_key(topic));
        let more = offset_weight(note(partition)).saturating_sub(known.map_or(0, offset_weight))
            + if new_topic { topic_weight(self.group, topic) } else { 0 }
            + if self.has_group { 0 } else { group_weight(self.group) };
        let places = usize::from(known.is_none());
        if places > self.count || more > self.bytes {
            return false;
        }
        self.count -= places;
        self.bytes -= more;
        self.has_group = true;
        if new_topic {
            self.new_topics.insert(topic);
        }
        true
    }
}

/// What the client notes beside an offset; null becomes empty, as every version of the answer expects.
fn note(partition: &OffsetCommitRequestPartition) -> &str {
    partition.committed_metadata.as_deref().unwrap_or_default()
}

/// The offsets with their records, unless these are larger than a batch.
fn accept(
    request: &OffsetCommitRequest,
    wishes: &[(Wish<'_>, &OffsetCommitRequestPartition)],
    now: Wall,
) -> Option<Vec<Accepted>> {
    let retention_ms = Some(request.retention_time_ms).filter(|given| *given != -1);
    let expires = retention_ms.map(|given| Wall(now.0.saturating_add(given)));
    let mut room_bytes = COORDINATOR_BATCH_BYTES_MAX;
    let accepted = wishes.iter().map(|((topic, index), partition)| {
        let place = place(&request.group_id, topic, *index);
        let committed = committed(partition, now, expires);
        let record = offset_record(&place, &committed);
        room_bytes = room_bytes.checked_sub(stored_bytes(&record))?;
        Some(Accepted { place, committed, record })
    });
    accepted.collect()
}

/// Kafka counts UTF-16 units; the record counts bytes, in 16 bits.
fn metadata_fits(partition: &OffsetCommitRequestPartition, config: &GroupConfig) -> bool {
    let Some(metadata) = &partition.committed_metadata else { return true };
    let max = config.offset_metadata_max_bytes;
    metadata.len() <= OFFSET_METADATA_BYTES_MAX
        && (metadata.len() <= max || metadata.encode_utf16().count() <= max)
}

fn committed(
    partition: &OffsetCommitRequestPartition,
    now: Wall,
    expires: Option<Wall>,
) -> Committed {
    Committed {
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: note(partition).into(),
        at: now,
        expires,
    }
}

/// The group's offsets: those asked for, each once, or all of them if no topics are named. Those
/// where something is `pending` are told only to who does not mind that they may change with the end
/// of a transaction that began long ago (KIP-447).
pub(super) fn fetch(
    group: Option<AnyGroup<'_>>,
    offsets: &OffsetTable,
    pending: Option<&PendingOffsets>,
    request: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let unstable: BTreeSet<(&str, i32)> = pending
        .into_iter()
        .flat_map(|pending| pending.places(&request.group_id))
        .map(|place| (&*place.topic, place.partition))
        .collect();
    let fetched = |topic: &str, index: i32, committed: Option<&Committed>| {
        if unstable.contains(&(topic, index)) {
            return fetched(index, None).with_error_code(ErrorCode::UnstableOffsetCommit.code());
        }
        fetched(index, committed)
    };
    let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
    if let Some(AnyGroup::Consumer(group)) = group
        && let Err(error) = check_fetch(group, request.member_id.as_ref(), request.member_epoch)
    {
        return response.with_error_code(error.code());
    }
    let Some(asked) = &request.topics else {
        let topics = group.and_then(|group| offsets.topics(group.id())).into_iter().flatten();
        let topics = topics.map(|(topic, partitions)| {
            let partitions =
                partitions.iter().map(|(index, one)| fetched(topic, *index, Some(one)));
            OffsetFetchResponseTopics::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(partitions.collect())
        });
        return response.with_topics(topics.collect());
    };
    let mut seen = BTreeSet::new();
    let topics = asked.iter().map(|topic| {
        let first = topic.partition_indexes.iter().filter(|index| {
            // Copying the note once for each time a partition is named would multiply the request.
            seen.insert((&*topic.name.0, **index))
        });
        let partitions = first.map(|index| {
            let found = group.and_then(|group| offsets.get(group.id(), &topic.name, *index));
            fetched(&topic.name, *index, found)
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

/// What was committed for a partition; −1 and an empty note if nothing was (G111).
fn fetched(index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    let nothing = OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(Offset::UNKNOWN.0)
        .with_committed_leader_epoch(LeaderEpoch::UNKNOWN.0)
        .with_metadata(Some(text("")));
    match committed {
        None => nothing,
        Some(committed) => nothing
            .with_committed_offset(committed.offset.0)
            .with_committed_leader_epoch(committed.leader_epoch.0)
            .with_metadata(Some(text(&committed.metadata))),
    }
}

/// Which offsets an OffsetDelete deletes, and its answer.
pub(super) fn delete_offsets(
    group: Option<AnyGroup<'_>>,
    (offsets, pending): (&OffsetTable, &PendingOffsets),
    request: &OffsetDeleteRequest,
) -> (Vec<Place>, OffsetDeleteResponse) {
    let group = match check_delete_offsets(group, &request.group_id) {
        Ok(group) => group,
        Err(error) => {
            let refusal = OffsetDeleteResponse::default().with_error_code(error.code());
            return (Vec::new(), refusal);
        }
    };
    let mut gone = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let is_subscribed = group.subscribes_to(&topic.name);
        let error = if is_subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
        let answers = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(answers.collect()),
        );
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let known = indexes.filter(|index| {
            !is_subscribed
                && (offsets.get(group.id(), &topic.name, *index).is_some()
                    || pending.contains(&place(group.id(), &topic.name, *index)))
        });
        gone.extend(known.map(|index| (&*topic.name.0, index)));
    }
    let gone = gone.into_iter().map(|(topic, index)| place(group.id(), topic, index)).collect();
    (gone, OffsetDeleteResponse::default().with_topics(topics))
}

fn check_delete_offsets<'a>(
    group: Option<AnyGroup<'a>>,
    group_id: &str,
) -> Result<AnyGroup<'a>, ErrorCode> {
    if group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let group = group.ok_or(ErrorCode::GroupIdNotFound)?;
    // Only what consumers subscribe to is known; what others use, nobody can say while they run.
    if group.is_empty() || group.is_consumer() { Ok(group) } else { Err(ErrorCode::NonEmptyGroup) }
}

fn place(group: &str, topic: &str, partition: i32) -> Place {
    Place { group: group.to_owned(), topic: topic.to_owned(), partition }
}

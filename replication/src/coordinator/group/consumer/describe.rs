//! Groups of the new kind as an administrator sees them.
//!
//! Does: ConsumerGroupDescribe.
//! Does not: change anything.
//! Invariants: topics that are gone are left out, since they have no name; members stand in the order in
//! which Kafka lists them.
//! Apart because members never need it.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use flumen_protocol::messages::{GroupId, TopicName};

use super::super::GroupConfig;
use super::super::order::listing_place;
use super::super::requests::text;
use super::member::ConsumerMember;
use super::partitions::Partitions;
use super::state::ConsumerGroup;
use crate::metadata::image::Image;

/// The first version that tells how a member speaks.
const MEMBER_TYPE_SINCE: i16 = 1;

/// A group that is there.
pub(in crate::coordinator::group) fn describe(
    group: &ConsumerGroup,
    image: &Image,
    config: &GroupConfig,
    version: i16,
) -> DescribedGroup {
    let assignor = config.consumer.assignor_or_default(group.preferred_assignor());
    let mut members: Vec<_> = group.members().iter().collect();
    members.sort_by_cached_key(|(id, _)| listing_place(id));
    let members = members.into_iter().map(|(id, member)| {
        let target = group.target(id);
        described(id, member, version)
            .with_assignment(assignment(&member.holding.assigned, image))
            .with_target_assignment(assignment(&target, image))
    });
    DescribedGroup::default()
        .with_group_id(GroupId(text(&group.id)))
        .with_group_state(text(group.state().as_str()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.target_epoch())
        .with_assignor_name(text(assignor.as_str()))
        .with_members(members.collect())
}

/// A group that is not there, or not of this kind.
pub(in crate::coordinator::group) fn refused(
    group: &str,
    error: ErrorCode,
    message: &str,
) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
}

fn described(id: &str, member: &ConsumerMember, version: i16) -> Member {
    let profile = &member.profile;
    let topics = profile.topics.iter().map(|topic| TopicName(text(topic)));
    let described = Member::default()
        .with_member_id(text(id))
        .with_instance_id(profile.instance.as_deref().map(text))
        .with_rack_id(profile.rack.as_deref().map(text))
        .with_member_epoch(member.holding.epoch)
        .with_client_id(text(&profile.client_id))
        .with_client_host(text(&profile.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_subscribed_topic_regex(Some(text(&profile.pattern)));
    if version < MEMBER_TYPE_SINCE {
        return described;
    }
    described.with_member_type(i8::from(!member.is_classic()))
}

fn assignment(partitions: &Partitions, image: &Image) -> Assignment {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = image.topic(id)?;
        let described = TopicPartitions::default()
            .with_topic_id(id.into())
            .with_topic_name(TopicName(text(&topic.name)))
            .with_partitions(partitions.to_vec());
        Some(described)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

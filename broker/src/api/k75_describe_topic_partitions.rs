//! DescribeTopicPartitions (key 75, version 0): topics with their partitions, page by page.
//!
//! - Topics come sorted by name; no topics asked for means all of them.
//! - A page ends at the smaller of the client's and the broker's limit of partitions, at least
//!   one; the cursor names the first partition that did not fit.
//! - A cursor whose topic is not among those asked for, or with a negative partition, makes
//!   every topic INVALID_REQUEST.
//! - A topic that does not exist answers for itself and takes no room on the page.
//!
//! Deviations: eligible leader replicas are empty: an in-sync majority is always eligible here.
//! KIPs: 966.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use flumen_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use flumen_replication::metadata::image::Topic;

use super::k03_metadata::TOPIC_OPERATIONS;
use super::step::{self, Context, Envelope, Step, text};
use super::topics;

/// Answers one page from the image.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeTopicPartitionsRequest>(envelope, frame, body)
    else {
        return Step::Close("malformed DescribeTopicPartitions request");
    };
    if !is_sound(&request) {
        let refused = request.topics.into_iter().map(|topic| {
            DescribeTopicPartitionsResponseTopic::default()
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_name(Some(topic.name))
        });
        let response = DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
        return step::answer(envelope, &response);
    }
    let (first, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index as usize),
        None => ("", 0),
    };
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        context.image.topics().map(|topic| topic.name.as_str()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let limit =
        request.response_partition_limit.min(context.options.max_request_partition_size_limit);
    let mut page = Page { room: usize::try_from(limit).unwrap_or(0).max(1), ..Page::default() };
    for name in names.range(first..) {
        let from = if *name == first { first_partition } else { 0 };
        if !page.add(context, name, from) {
            break;
        }
    }
    let response = DescribeTopicPartitionsResponse::default().with_topics(page.topics);
    step::answer(envelope, &response.with_next_cursor(page.next))
}

fn is_sound(request: &DescribeTopicPartitionsRequest) -> bool {
    request.cursor.as_ref().is_none_or(|cursor| {
        let is_asked = request.topics.iter().any(|topic| topic.name == cursor.topic_name);
        cursor.partition_index >= 0 && (request.topics.is_empty() || is_asked)
    })
}

/// What fits into one answer.
#[derive(Default)]
struct Page {
    /// How many partitions still fit.
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Page {
    /// Adds a topic from one of its partitions on; says whether another one may be added.
    fn add(&mut self, context: &Context<'_>, name: &str, from: usize) -> bool {
        if self.room == 0 {
            self.turn(name, from);
            return false;
        }
        let Some(topic) = context.image.topic_named(name) else {
            self.topics.push(unknown(name));
            return true;
        };
        let until = topic.partitions.len().min(from.saturating_add(self.room));
        let partitions = partitions(context, topic, from, until);
        self.room -= partitions.len();
        self.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(text(name))))
                .with_topic_id(topic.id.into())
                .with_is_internal(topics::is_internal(name))
                .with_partitions(partitions)
                .with_topic_authorized_operations(TOPIC_OPERATIONS),
        );
        if until < topic.partitions.len() {
            self.turn(name, until);
        }
        self.next.is_none()
    }

    /// Says where the next page begins.
    fn turn(&mut self, name: &str, partition: usize) {
        let cursor = Cursor::default()
            .with_topic_name(TopicName(text(name)))
            .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX));
        self.next = Some(cursor);
    }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match topics::check_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(TopicName(text(name))))
        .with_is_internal(topics::is_internal(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn partitions(
    context: &Context<'_>,
    topic: &Topic,
    from: usize,
    until: usize,
) -> Vec<DescribeTopicPartitionsResponsePartition> {
    let all = topic.logs().zip(&topic.partitions).take(until).skip(from);
    let described = all.map(|(log, placement)| {
        let leader = context.leader(log).and_then(|leader| Some((leader.node?, leader.epoch)));
        let replicas: Vec<_> = placement.replicas.iter().map(|node| BrokerId(node.0)).collect();
        let code = match leader {
            Some(_) => ErrorCode::None,
            None => ErrorCode::LeaderNotAvailable,
        };
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(code.code())
            .with_partition_index(log.partition.0)
            .with_leader_id(BrokerId(leader.map_or(-1, |(node, _)| node.0)))
            .with_leader_epoch(leader.map_or(-1, |(_, epoch)| epoch.0))
            .with_isr_nodes(replicas.clone())
            .with_replica_nodes(replicas)
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    described.collect()
}

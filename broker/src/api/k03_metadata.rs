//! Metadata (key 3, versions 0–13): brokers, topics, leaders; makes topics on the way.
//!
//! - Null topics mean all of them, an empty list none (version 0: all) (G16).
//! - A topic asked for twice is answered once. Once one id is given (version 12), only ids count, also
//!   beside names: that is how Kafka's own admin client asks.
//! - A named topic that does not exist is made if the broker and the request allow it; the answer
//!   does not wait for it and says UNKNOWN_TOPIC_OR_PARTITION, as Kafka's does: clients ask again (G36).
//! - Addresses are those of the listener the request came in on (G39); the controller is this
//!   node, which executes every admin request (G38).
//! - Leader epochs are the ones Fetch checks (G40).
//!
//! Deviations: none known. KIPs: 4, 430 (authorised operations), 516 (ids), 526, 1102.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{NodeId, TopicId};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use flumen_protocol::messages::{
    BrokerId, MetadataRequest, MetadataResponse, StrBytes, TopicName, Uuid,
};
use flumen_replication::metadata::image::{Placement, Topic};

use super::step::{self, Context, Envelope, Progress, Step};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::shard::mailbox::Answer;

/// What a client without restrictions may do with a topic, as Kafka's bit field (KIP-430): read,
/// write, create, delete, alter, describe, describe and alter configs.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What a client without restrictions may do with the cluster: create, alter, describe, cluster
/// action, describe and alter configs, idempotent write.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// "Not asked": Kafka's default where operations were not requested.
pub const OPERATIONS_UNASKED: i32 = i32::MIN;

/// The versions that may ask for the cluster's operations.
const CLUSTER_OPERATIONS_VERSIONS: std::ops::RangeInclusive<i16> = 8..=10;

/// The first version that may name topics by their ids.
const IDS_SINCE: i16 = 12;

/// The first version whose request says whether topics may be made.
const AUTO_CREATE_FLAG_SINCE: i16 = 4;

/// A request whose topics are being made, with the answer from before.
#[derive(Debug)]
pub struct Waiting {
    response: MetadataResponse,
}

/// Answers; the controller is asked for the topics that are missing, and not waited for.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<MetadataRequest>(envelope, frame, body) else {
        return Step::Close("malformed Metadata request");
    };
    let missing = missing_topics(context, envelope, &request);
    let response = describe(context, envelope, &request);
    if missing.is_empty() {
        return step::answer(envelope, &response);
    }
    let command = topics::creation(context, missing);
    step::command(context, command, AnyWaiting::Metadata(Waiting { response }))
}

impl Waiting {
    /// Whatever became of the topics, who asks again is told.
    pub fn answer(&mut self, _answer: Answer) -> Progress {
        Progress::Done
    }

    /// Answers what was true when it was asked.
    pub fn close(self, _context: &mut Context<'_>, envelope: &Envelope) -> Step {
        step::answer(envelope, &self.response)
    }
}

/// Names that should be made.
fn missing_topics(
    context: &Context<'_>,
    envelope: &Envelope,
    request: &MetadataRequest,
) -> Vec<String> {
    let flag = envelope.version < AUTO_CREATE_FLAG_SINCE || request.allow_auto_topic_creation;
    if !(flag && context.options.auto_create_topics_enable) {
        return Vec::new();
    }
    if names_ids(request) {
        return Vec::new();
    }
    let asked = request.topics.iter().flatten().filter_map(|topic| topic.name.as_ref());
    let mut missing: Vec<String> = asked
        .filter(|name| context.image.topic_named(name).is_none())
        .filter(|name| topics::check_name(name).is_ok())
        .map(|name| name.to_string())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Whether topics are named by ids, and names mean nothing.
fn names_ids(request: &MetadataRequest) -> bool {
    request.topics.iter().flatten().any(|topic| topic.topic_id != Uuid::nil())
}

fn describe(
    context: &Context<'_>,
    envelope: &Envelope,
    request: &MetadataRequest,
) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && envelope.version == 0,
    };
    let operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        OPERATIONS_UNASKED
    };
    let described = if all {
        context.image.topics().map(|topic| topic_answer(context, topic, operations)).collect()
    } else {
        // Each topic once, as in Kafka: a small request must not ask for one large topic a
        // hundred thousand times.
        let mut seen = BTreeSet::new();
        let by_id = envelope.version >= IDS_SINCE && names_ids(request);
        let asked = request.topics.iter().flatten();
        let asked = asked.filter(|asked| !by_id || asked.topic_id != Uuid::nil());
        let asked = asked.filter(|asked| seen.insert((asked.name.as_ref(), asked.topic_id)));
        asked.map(|asked| asked_answer(context, envelope, asked, operations)).collect()
    };
    let mut response = MetadataResponse::default()
        .with_brokers(brokers(context, envelope))
        .with_controller_id(BrokerId(context.me.0))
        .with_topics(described);
    if envelope.version >= 2 {
        response.cluster_id = Some(StrBytes::from_string(context.cluster_id.to_owned()));
    }
    if CLUSTER_OPERATIONS_VERSIONS.contains(&envelope.version)
        && request.include_cluster_authorized_operations
    {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn brokers(context: &Context<'_>, envelope: &Envelope) -> Vec<MetadataResponseBroker> {
    let brokers = context.image.brokers.values().filter_map(|broker| {
        let endpoint = context.endpoint(broker, envelope)?;
        Some(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(broker.id.0))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string)),
        )
    });
    brokers.collect()
}

fn asked_answer(
    context: &Context<'_>,
    envelope: &Envelope,
    asked: &MetadataRequestTopic,
    operations: i32,
) -> MetadataResponseTopic {
    let by_id = asked.topic_id != Uuid::nil();
    let name = asked.name.as_ref().filter(|_| !by_id);
    let found = match name {
        Some(name) => context.image.topic_named(name),
        None if envelope.version >= IDS_SINCE => context.image.topic(TopicId::from(asked.topic_id)),
        None => None,
    };
    if let Some(topic) = found {
        return topic_answer(context, topic, operations);
    }
    let code = match name {
        Some(name) if topics::check_name(name).is_err() => ErrorCode::InvalidTopicException,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
        None if by_id && envelope.version >= IDS_SINCE => ErrorCode::UnknownTopicId,
        None => ErrorCode::InvalidRequest,
    };
    let is_internal = name.is_some_and(|name| topics::is_internal(name));
    // Nothing is told of what a client may do with a topic that it has no name for.
    let operations = if name.is_some() { operations } else { OPERATIONS_UNASKED };
    // Before version 12 the name cannot be null.
    let name = name.cloned().or_else(|| (envelope.version < IDS_SINCE).then(TopicName::default));
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        .with_name(name)
        .with_topic_id(asked.topic_id)
        .with_is_internal(is_internal)
        .with_topic_authorized_operations(operations)
}

fn topic_answer(context: &Context<'_>, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let partitions = topic.logs().zip(&topic.partitions).map(|(log, placement)| {
        let leader = context.leader(log).filter(|leader| leader.node.is_some());
        partition_answer(log.partition.0, placement)
            .with_error_code(match leader {
                Some(_) => ErrorCode::None.code(),
                None => ErrorCode::LeaderNotAvailable.code(),
            })
            .with_leader_id(BrokerId(
                leader.and_then(|leader| leader.node).unwrap_or(NodeId::NONE).0,
            ))
            .with_leader_epoch(leader.map_or(-1, |leader| leader.epoch.0))
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id.into())
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

fn partition_answer(index: i32, placement: &Placement) -> MetadataResponsePartition {
    let replicas: Vec<BrokerId> = placement.replicas.iter().map(|node| BrokerId(node.0)).collect();
    MetadataResponsePartition::default()
        .with_partition_index(index)
        .with_isr_nodes(replicas.clone())
        .with_replica_nodes(replicas)
}

//! AlterPartitionReassignments (key 45, versions 0–1): move partitions to other brokers.
//!
//! - A partition told to stay where it is stays (NONE): that is what `kafka-reassign-partitions` asks of
//!   a cluster of one broker. Every other wish is refused for a reason: brokers that are not registered,
//!   named twice, or none at all (INVALID_REPLICA_ASSIGNMENT).
//! - Null replicas cancel a move; none is under way (NO_REASSIGNMENT_IN_PROGRESS).
//! - From version 1 on a client may forbid another number of replicas (INVALID_REPLICATION_FACTOR).
//!
//! Deviations: of the partitions of a topic only the first has a message beside its code; none else known
//! while there is one broker. KIPs: 455, 860.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{NodeId, PartitionIndex};
use flumen_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use flumen_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use flumen_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
};
use flumen_replication::metadata::image::{Image, Topic};

use super::refusals::Refused;
use super::step::{self, Context, Envelope, Step, text};

/// Answers from where partitions are.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let request = step::decode::<AlterPartitionReassignmentsRequest>(envelope, frame, body);
    let Some(request) = request else {
        return Step::Close("malformed AlterPartitionReassignments request");
    };
    let keeps_factor = !request.allow_replication_factor_change;
    let topics = request.topics.into_iter().map(|asked| answer(context.image, asked, keeps_factor));
    let response = AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(topics.collect());
    step::answer(envelope, &response)
}

fn answer(
    image: &Image,
    asked: ReassignableTopic,
    keeps_factor: bool,
) -> ReassignableTopicResponse {
    let topic = image.topic_named(&asked.name);
    let outcome = |partition: &ReassignablePartition| match topic {
        None => {
            let why = format!("Unable to find a topic named {}.", asked.name.as_str());
            Err(Refused::with(ErrorCode::UnknownTopicOrPartition, why))
        }
        Some(topic) => reassign(image, topic, partition, keeps_factor),
    };
    let partitions = asked.partitions.iter().enumerate().map(|(at, partition)| {
        let (code, message) = match outcome(partition) {
            Ok(()) => (ErrorCode::None, None),
            Err(refused) => (refused.code, refused.message),
        };
        // A reason weighs far more than what naming a partition does: the first one's will do.
        ReassignablePartitionResponse::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code.code())
            .with_error_message(message.filter(|_| at == 0).map(text))
    });
    let partitions = partitions.collect();
    ReassignableTopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

fn reassign(
    image: &Image,
    topic: &Topic,
    asked: &ReassignablePartition,
    keeps_factor: bool,
) -> Result<(), Refused> {
    let index = asked.partition_index;
    let placement = topic.log(PartitionIndex(index)).map(|_| &topic.partitions[index as usize]);
    let Some(placement) = placement else {
        let why = format!("Unable to find partition {}:{index}.", topic.name);
        return Err(Refused::with(ErrorCode::UnknownTopicOrPartition, why));
    };
    let Some(wanted) = &asked.replicas else {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    };
    if keeps_factor && wanted.len() != placement.replicas.len() {
        let (now, then) = (placement.replicas.len(), wanted.len());
        let why = format!("The replication factor is changed from {now} to {then}");
        return Err(Refused::with(ErrorCode::InvalidReplicationFactor, why));
    }
    check_brokers(image, wanted)?;
    if wanted.iter().map(|broker| NodeId(broker.0)).eq(placement.replicas.iter().copied()) {
        return Ok(());
    }
    let why = "Partitions stay on the broker that they were placed on.";
    Err(Refused::with(ErrorCode::InvalidReplicaAssignment, why))
}

/// Whether a partition could be on these brokers, as far as they themselves are concerned.
fn check_brokers(image: &Image, wanted: &[BrokerId]) -> Result<(), Refused> {
    let invalid = |what: String| {
        let why = format!("The manual partition assignment includes {what}");
        Err(Refused::with(ErrorCode::InvalidReplicaAssignment, why))
    };
    if wanted.is_empty() {
        return invalid("an empty replica list.".to_owned());
    }
    if let Some(stranger) = wanted.iter().find(|id| !image.brokers.contains_key(&NodeId(id.0))) {
        let number = stranger.0;
        return invalid(format!("broker {number}, but no such broker is registered."));
    }
    let repeated = (1..wanted.len()).find(|at| wanted[..*at].contains(&wanted[*at]));
    match repeated {
        Some(at) => invalid(format!("the broker {} more than once.", wanted[at].0)),
        None => Ok(()),
    }
}

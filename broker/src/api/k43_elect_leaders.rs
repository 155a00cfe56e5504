//! ElectLeaders (key 43, versions 0–2): make the preferred replica lead, or any replica at all.
//!
//! - Null partitions mean all of them; of these only what an election would be needed for is
//!   answered, of named ones every one.
//! - A partition that has a leader needs no election (ELECTION_NOT_NEEDED), for its only replica
//!   is the preferred one; without a leader there is nobody to elect.
//! - An unknown type of election is INVALID_REQUEST for every partition.
//!
//! Deviations: of the named partitions of a topic only the first has a message beside its code; none
//! else known while partitions have one replica.
//! KIPs: 183, 460.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::PartitionIndex;
use flumen_protocol::messages::elect_leaders_request::TopicPartitions;
use flumen_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use flumen_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use flumen_replication::metadata::image::Topic;

use super::refusals::Refused;
use super::step::{self, Context, Envelope, Step, text};

/// The first version whose request has a type and whose answer has an error for the whole of it.
const TYPE_SINCE: i16 = 1;

/// Whom to elect.
#[derive(Clone, Copy, Debug)]
enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Anyone, even out of sync.
    Unclean,
}

/// Answers from what is known of leaders.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ElectLeadersRequest>(envelope, frame, body) else {
        return Step::Close("malformed ElectLeaders request");
    };
    let election = match request.election_type {
        0 => Ok(Election::Preferred),
        1 => Ok(Election::Unclean),
        other => {
            let why = format!("Unknown election type {other}");
            Err(Refused::with(ErrorCode::InvalidRequest, why))
        }
    };
    let mut response = ElectLeadersResponse::default();
    if let (Err(refused), true) = (&election, envelope.version >= TYPE_SINCE) {
        response.error_code = refused.code.code();
    }
    response.replica_election_results = match (request.topic_partitions, election) {
        (Some(asked), election) => named(context, asked, &election),
        (None, Ok(election)) => all(context, election),
        (None, Err(_)) => Vec::new(),
    };
    step::answer(envelope, &response)
}

fn named(
    context: &Context<'_>,
    asked: Vec<TopicPartitions>,
    election: &Result<Election, Refused>,
) -> Vec<ReplicaElectionResult> {
    let results = asked.into_iter().map(|asked| {
        let topic = context.image.topic_named(&asked.topic);
        let outcome = |partition| match (election, topic) {
            (Err(refused), _) => refused.clone(),
            (Ok(_), None) => {
                let why = format!("No such topic as {}", asked.topic.as_str());
                Refused::with(ErrorCode::UnknownTopicOrPartition, why)
            }
            (Ok(election), Some(topic)) => elect(context, topic, partition, *election),
        };
        let results = asked.partitions.iter().map(|number| result(*number, outcome(*number)));
        // A reason weighs a hundred times what naming a partition does: the first one's will do.
        let results = results.enumerate().map(|(at, result)| match at {
            0 => result,
            1.. => result.with_error_message(None),
        });
        ReplicaElectionResult::default()
            .with_topic(asked.topic.clone())
            .with_partition_result(results.collect())
    });
    results.collect()
}

/// Every partition that has no leader.
fn all(context: &Context<'_>, election: Election) -> Vec<ReplicaElectionResult> {
    let results = context.image.topics().map(|topic| {
        let leaderless = topic.logs().map(|log| log.partition.0).filter_map(|number| {
            let outcome = elect(context, topic, number, election);
            (outcome.code != ErrorCode::ElectionNotNeeded).then(|| result(number, outcome))
        });
        ReplicaElectionResult::default()
            .with_topic(TopicName(text(topic.name.as_str())))
            .with_partition_result(leaderless.collect())
    });
    results.filter(|topic| !topic.partition_result.is_empty()).collect()
}

fn elect(context: &Context<'_>, topic: &Topic, partition: i32, election: Election) -> Refused {
    let Some(log) = topic.log(PartitionIndex(partition)) else {
        let why = format!("No such partition as {}-{partition}", topic.name);
        return Refused::with(ErrorCode::UnknownTopicOrPartition, why);
    };
    let has_leader = context.leader(log).is_some_and(|leader| leader.node.is_some());
    match (has_leader, election) {
        (true, _) => ErrorCode::ElectionNotNeeded.into(),
        (false, Election::Preferred) => ErrorCode::PreferredLeaderNotAvailable.into(),
        (false, Election::Unclean) => ErrorCode::EligibleLeadersNotAvailable.into(),
    }
}

fn result(partition: i32, outcome: Refused) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(partition)
        .with_error_code(outcome.code.code())
        .with_error_message(outcome.message.map(text))
}

//! DescribeQuorum (key 55, versions 0–2): who votes on the cluster's metadata.
//!
//! - There is one quorum, `__cluster_metadata` partition 0; a request that names anything else, or
//!   anything besides, has UNKNOWN_TOPIC_OR_PARTITION for each partition it names.
//! - The leader answers from its Raft group: epoch, high watermark, and for every voter how far its
//!   log reaches; when it last fetched and had caught up from version 1 (KIP-836), its directory
//!   and endpoints from version 2 (KIP-853). The leader itself has always just caught up.
//! - There are no observers: every node votes.
//!
//! Deviations: a voter's endpoints are those of its broker listeners, since every node is broker
//! and controller on the same ports. Data folders have no id of their own: the directory id is
//! zero, as in a Kafka quorum with static voters.
//! KIPs: 595, 836, 853.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use flumen_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use flumen_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, StrBytes, TopicName,
};
use flumen_protocol::time::Wall;
use flumen_replication::partition::{Quorum, Voter};

use super::refusals::{self, Refused};
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// What Kafka calls the cluster's log.
const TOPIC: &str = "__cluster_metadata";

/// The only partition of it.
const PARTITION: i32 = 0;

/// The first version with messages and nodes.
const MESSAGES_SINCE: i16 = 2;

/// The first version that says when a voter fetched.
const TIMES_SINCE: i16 = 1;

/// A description on its way from the controller; until it comes, why there is none.
#[derive(Debug)]
pub struct Waiting(Result<Quorum, Refused>);

/// Checks what is asked for and asks the controller's core.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeQuorumRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeQuorum request");
    };
    if !names_the_quorum(&request.topics) {
        let topics = request.topics.into_iter().map(|topic| unknown(envelope, topic)).collect();
        let message = messages_from(envelope).then(StrBytes::default);
        let response = DescribeQuorumResponse::default().with_topics(topics);
        return step::answer(envelope, &response.with_error_message(message));
    }
    Step::Wait(Wait {
        waiting: AnyWaiting::DescribeQuorum(Waiting(Err(ErrorCode::RequestTimedOut.into()))),
        parts: vec![Part { number: 0, to: Addressee::Controller, question: Question::Quorum }],
        patience: Some(context.patience()),
    })
}

impl Waiting {
    /// Takes the controller's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        self.0 = match answer {
            Answer::Quorum(quorum) => quorum.map_err(refusals::of_partition),
            other => Err(refusals::of_no_controller(&other)),
        };
        Progress::Done
    }

    /// Describes the quorum, or says for the whole request why not.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let has_messages = messages_from(envelope);
        let response = match self.0 {
            Ok(quorum) => DescribeQuorumResponse::default()
                .with_error_message(has_messages.then(StrBytes::default))
                .with_nodes(if has_messages { nodes(context, &quorum) } else { Vec::new() })
                .with_topics(vec![described(envelope, &quorum)]),
            Err(refused) => DescribeQuorumResponse::default()
                .with_error_code(refused.code.code())
                .with_error_message(refused.message.filter(|_| has_messages).map(text)),
        };
        step::answer(envelope, &response)
    }
}

fn messages_from(envelope: &Envelope) -> bool {
    envelope.version >= MESSAGES_SINCE
}

fn names_the_quorum(topics: &[AskedTopic]) -> bool {
    let [topic] = topics else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == TOPIC && partition.partition_index == PARTITION
}

fn unknown(envelope: &Envelope, topic: AskedTopic) -> TopicData {
    let code = ErrorCode::UnknownTopicOrPartition;
    let partitions = topic.partitions.into_iter().map(|partition| {
        PartitionData::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code.code())
            .with_error_message(messages_from(envelope).then(|| text(code.message())))
    });
    TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions.collect())
}

fn described(envelope: &Envelope, quorum: &Quorum) -> TopicData {
    let voters = quorum.voters.iter().map(|voter| replica(envelope, voter));
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_error_message(messages_from(envelope).then(StrBytes::default))
        .with_leader_id(BrokerId(quorum.leader.0))
        .with_leader_epoch(quorum.epoch.0)
        .with_high_watermark(quorum.high_watermark.0)
        .with_current_voters(voters.collect());
    TopicData::default().with_topic_name(TopicName(text(TOPIC))).with_partitions(vec![partition])
}

fn replica(envelope: &Envelope, voter: &Voter) -> ReplicaState {
    let replica = ReplicaState::default()
        .with_replica_id(BrokerId(voter.node.0))
        .with_log_end_offset(voter.end.0);
    if envelope.version < TIMES_SINCE {
        return replica;
    }
    let milliseconds = |time: Option<Wall>| time.map_or(-1, |time| time.0);
    replica
        .with_last_fetch_timestamp(milliseconds(voter.last_fetch))
        .with_last_caught_up_timestamp(milliseconds(voter.last_caught_up))
}

/// Where the voters that registered can be reached.
fn nodes(context: &Context<'_>, quorum: &Quorum) -> Vec<Node> {
    let brokers = quorum.voters.iter().filter_map(|voter| context.image.brokers.get(&voter.node));
    let node = brokers.map(|broker| {
        let listeners = broker.endpoints.iter().map(|endpoint| {
            Listener::default()
                .with_name(text(endpoint.listener.as_str()))
                .with_host(text(endpoint.host.as_str()))
                .with_port(endpoint.port)
        });
        Node::default().with_node_id(BrokerId(broker.id.0)).with_listeners(listeners.collect())
    });
    node.collect()
}

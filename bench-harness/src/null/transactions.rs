//! What the null responder says about transactions.
//!
//! Does: coordinate every transactional id, take every partition into its transaction, and end it.
//! Does not: remember any of it: whoever asks is who it says, and its transaction is open.
//! Invariants: an answer has the shape that its version asks for; with KIP-890 no two transactions of
//! a producer have the same epoch.
//! Apart because four questions belong together and to nothing else here.

use std::net::SocketAddr;

use flumen_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use flumen_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use flumen_protocol::messages::find_coordinator_response::Coordinator;
use flumen_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiVersionsResponse, BrokerId,
    EndTxnRequest, EndTxnResponse, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes,
    WireProducerId,
};

/// The only feature.
const FEATURE: &str = "transaction.version";

/// The highest level of it.
pub const LEVEL_MAX: i16 = 2;

/// Since this version coordinators are asked for in numbers.
const MANY_COORDINATORS_SINCE: i16 = 4;

/// Since this version brokers ask, for many producers at once.
const MANY_PRODUCERS_SINCE: i16 = 4;

/// Since this version an end bumps the epoch and says so.
const NEXT_EPOCH_SINCE: i16 = 5;

/// Says at which level of `transaction.version` the cluster is; nothing at level 0, as Kafka does.
pub fn with_level(answer: ApiVersionsResponse, level: i16) -> ApiVersionsResponse {
    let supported = SupportedFeatureKey::default()
        .with_name(StrBytes::from_static_str(FEATURE))
        .with_min_version(0)
        .with_max_version(LEVEL_MAX);
    let finalised = (level > 0).then(|| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(FEATURE))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    answer
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(finalised.into_iter().collect())
}

/// We coordinate everything.
pub fn coordinator(
    question: &FindCoordinatorRequest,
    version: i16,
    address: SocketAddr,
) -> FindCoordinatorResponse {
    let (node, port) = (BrokerId(1), i32::from(address.port()));
    let host = StrBytes::from_string(address.ip().to_string());
    let answer = FindCoordinatorResponse::default();
    if version < MANY_COORDINATORS_SINCE {
        return answer.with_node_id(node).with_host(host).with_port(port);
    }
    let found = question.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(node)
            .with_host(host.clone())
            .with_port(port)
    });
    answer.with_coordinators(found.collect())
}

/// Every partition becomes part of its transaction.
pub fn added(question: &AddPartitionsToTxnRequest, version: i16) -> AddPartitionsToTxnResponse {
    let answer = AddPartitionsToTxnResponse::default();
    if version < MANY_PRODUCERS_SINCE {
        let results = topics(&question.v3_and_below_topics);
        return answer.with_results_by_topic_v3_and_below(results);
    }
    let results = question.transactions.iter().map(|transaction| {
        AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id.clone())
            .with_topic_results(topics(&transaction.topics))
    });
    answer.with_results_by_transaction(results.collect())
}

fn topics(asked: &[AddPartitionsToTxnTopic]) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|&index| AddPartitionsToTxnPartitionResult::default().with_partition_index(index));
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    };
    asked.iter().map(topic).collect()
}

/// It is over. Where epochs end, the producer gets the id that `next_id` draws.
pub fn ended(
    question: &EndTxnRequest,
    version: i16,
    next_id: impl FnOnce() -> i64,
) -> EndTxnResponse {
    let answer = EndTxnResponse::default();
    if version < NEXT_EPOCH_SINCE {
        return answer;
    }
    // The last epoch is the coordinator's own, for fencing.
    let (id, epoch) = match question.producer_epoch.checked_add(1) {
        Some(epoch) if epoch < i16::MAX => (question.producer_id, epoch),
        Some(_) | None => (WireProducerId(next_id()), 0),
    };
    answer.with_producer_id(id).with_producer_epoch(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_begins_the_next_epoch_and_a_new_id_after_the_last() {
        let ended_at = |epoch: i16, version| {
            let question = EndTxnRequest::default()
                .with_producer_id(WireProducerId(7))
                .with_producer_epoch(epoch);
            let answer = ended(&question, version, || 8);
            (answer.producer_id.0, answer.producer_epoch)
        };
        assert_eq!(ended_at(3, 5), (7, 4));
        assert_eq!(ended_at(i16::MAX - 1, 5), (8, 0));
        assert_eq!(ended_at(i16::MAX, 5), (8, 0));
        assert_eq!(ended_at(3, 4), (-1, -1), "older versions say nothing");
    }
}

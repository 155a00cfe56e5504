//! Whether a request read by hand says what the generic codec reads out of the same bytes.
//!
//! Does: compare field by field, for tests here and for the house's fuzz targets (feature `sample`).
//! Does not: read anything; belong to a broker.
//! Invariants: every field that the hot types have is compared.
//! Apart because the tests of both requests and their fuzz targets mean the same by "the same".

use super::fetch::{FetchPartition, FetchRequest, IsolationLevel};
use super::produce::ProduceRequest;
use crate::messages::{self, Uuid, fetch_request};

/// Asserts that a Produce says the same to both.
///
/// # Panics
/// Where it does not.
pub fn produce_agrees(ours: &ProduceRequest, theirs: &messages::ProduceRequest, version: i16) {
    let id = theirs.transactional_id.as_ref().map(|id| id.0.clone());
    assert_eq!(ours.transactional_id, id);
    assert_eq!((ours.acks, ours.timeout_ms), (theirs.acks, theirs.timeout_ms));
    assert_eq!(ours.topics.len(), theirs.topic_data.len());
    for (our, their) in ours.topics.iter().zip(&theirs.topic_data) {
        assert_eq!(our.name, (version < 13).then(|| their.name.0.clone()));
        assert_eq!(Uuid::from(our.id), their.topic_id);
        assert_eq!(our.partitions.len(), their.partition_data.len());
        for (our, their) in our.partitions.iter().zip(&their.partition_data) {
            assert_eq!(our.index.0, their.index);
            assert_eq!(our.records.as_deref(), their.records.as_deref());
        }
    }
}

/// Asserts that a Fetch says the same to both.
///
/// # Panics
/// Where it does not.
pub fn fetch_agrees(ours: &FetchRequest, theirs: &messages::FetchRequest, version: i16) {
    let replica = if version >= 15 { theirs.replica_state.replica_id } else { theirs.replica_id };
    assert_eq!(ours.replica_id.0, replica.0);
    assert_eq!(ours.max_wait_ms, theirs.max_wait_ms);
    assert_eq!((ours.min_bytes, ours.max_bytes), (theirs.min_bytes, theirs.max_bytes));
    let committed = ours.isolation == IsolationLevel::ReadCommitted;
    assert_eq!(i8::from(committed), theirs.isolation_level);
    assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
    assert_eq!(ours.rack, theirs.rack_id.as_str());
    assert_eq!(ours.topics.len(), theirs.topics.len());
    for (our, their) in ours.topics.iter().zip(&theirs.topics) {
        assert_eq!(our.name.as_deref(), (version < 13).then_some(their.topic.as_str()));
        assert_eq!(Uuid::from(our.id), their.topic_id);
        assert_eq!(our.partitions.len(), their.partitions.len());
        for (our, their) in our.partitions.iter().zip(&their.partitions) {
            partition_agrees(our, their);
        }
    }
    assert_eq!(ours.forgotten.len(), theirs.forgotten_topics_data.len());
    for (our, their) in ours.forgotten.iter().zip(&theirs.forgotten_topics_data) {
        assert_eq!(our.name.as_deref(), (version < 13).then_some(their.topic.as_str()));
        assert_eq!(Uuid::from(our.id), their.topic_id);
        let indexes: Vec<i32> = our.partitions.iter().map(|index| index.0).collect();
        assert_eq!(indexes, their.partitions);
    }
}

fn partition_agrees(our: &FetchPartition, their: &fetch_request::FetchPartition) {
    assert_eq!((our.index.0, our.max_bytes), (their.partition, their.partition_max_bytes));
    assert_eq!(our.current_leader_epoch.0, their.current_leader_epoch);
    assert_eq!(our.fetch_offset.0, their.fetch_offset);
    assert_eq!(our.last_fetched_epoch.0, their.last_fetched_epoch);
    assert_eq!(our.log_start_offset.0, their.log_start_offset);
}

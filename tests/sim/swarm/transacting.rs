//! How a transactional producer speaks: as clients of Kafka 4 do (KIP-890), or as older ones.
//!
//! Does: write its requests, read from their answers what it goes by.
//! Does not: decide what is asked.
//! Invariants: an older client names every partition before it writes there (KIP-98), a newer one names none and is
//! given another epoch at each end.
//! Apart because two protocols differ in words and hardly in anything else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::BatchBuilder;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use flumen_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest,
    GroupId, InitProducerIdRequest, OffsetFetchRequest, ProduceRequest, TransactionalId,
    TxnOffsetCommitRequest, WireProducerId,
};

use super::client::{Answer, code, text, topic_name};
use super::history::{Place, Value};
use super::transacted::TIMEOUT_MS;
use super::writer::is_retriable;

pub const FIND: (ApiKey, i16) = (ApiKey::FindCoordinator, 3);
pub const BEGIN: (ApiKey, i16) = (ApiKey::InitProducerId, 4);
pub const ADD: (ApiKey, i16) = (ApiKey::AddPartitionsToTxn, 3);
pub const ADD_OFFSETS: (ApiKey, i16) = (ApiKey::AddOffsetsToTxn, 3);
pub const COMMITTED: (ApiKey, i16) = (ApiKey::OffsetFetch, 8);

/// A producer as the broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub producer: i64,
    pub epoch: i16,
}

/// Who speaks, and how.
#[derive(Clone, Debug)]
pub struct Tongue {
    /// The transactional id.
    pub id: String,
    /// The group whose offsets it commits.
    pub group: String,
    /// As clients of Kafka 4 do.
    pub is_new: bool,
}

/// What a producer makes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It asks again, a little later.
    Later,
    /// Somebody else has its transactional id, or it took too long.
    Fenced,
    /// This transaction can only be aborted.
    Over,
}

/// What the code means to whoever asked.
///
/// # Errors
/// What it has to do.
pub fn outcome(told: i16) -> Result<(), Refusal> {
    match code(told) {
        ErrorCode::None => Ok(()),
        ErrorCode::ConcurrentTransactions | ErrorCode::UnstableOffsetCommit => Err(Refusal::Later),
        ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Err(Refusal::Fenced),
        ErrorCode::InvalidTxnState
        | ErrorCode::TransactionAbortable
        | ErrorCode::InvalidProducerIdMapping
        | ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId => Err(Refusal::Over),
        code => {
            assert!(is_retriable(code), "a transactional producer is refused for good: {code:?}");
            Err(Refusal::Later)
        }
    }
}

impl Tongue {
    pub fn produce_version(&self) -> (ApiKey, i16) {
        (ApiKey::Produce, if self.is_new { 12 } else { 9 })
    }

    pub fn carry_version(&self) -> (ApiKey, i16) {
        (ApiKey::TxnOffsetCommit, if self.is_new { 5 } else { 3 })
    }

    pub fn end_version(&self) -> (ApiKey, i16) {
        (ApiKey::EndTxn, if self.is_new { 5 } else { 3 })
    }

    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(&self.id))
    }

    /// Who coordinates its id; which makes the topic that ids live in.
    pub fn find_id(&self) -> FindCoordinatorRequest {
        FindCoordinatorRequest::default().with_key(text(&self.id)).with_key_type(1)
    }

    /// Who coordinates its group.
    pub fn find_group(&self) -> FindCoordinatorRequest {
        FindCoordinatorRequest::default().with_key(text(&self.group))
    }

    /// It wants the id for itself.
    pub fn begin(&self) -> InitProducerIdRequest {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_transaction_timeout_ms(TIMEOUT_MS as i32)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1)
    }

    /// These partitions will be written to.
    pub fn add(&self, who: Identity, places: &BTreeSet<Place>) -> AddPartitionsToTxnRequest {
        let topics = places.iter().map(|place| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(*place))
                .with_partitions(vec![place.partition])
        });
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(WireProducerId(who.producer))
            .with_v3_and_below_producer_epoch(who.epoch)
            .with_v3_and_below_topics(topics.collect())
    }

    /// Batches, in the order of their places.
    pub fn produce(&self, batches: Vec<(Place, Bytes)>, timeout_ms: i32) -> ProduceRequest {
        let mut topics: BTreeMap<u8, Vec<PartitionProduceData>> = BTreeMap::new();
        for (place, records) in batches {
            let data = PartitionProduceData::default()
                .with_index(place.partition)
                .with_records(Some(records));
            topics.entry(place.topic).or_default().push(data);
        }
        let topics = topics.into_iter().map(|(topic, data)| {
            let name = topic_name(Place { topic, partition: 0 });
            TopicProduceData::default().with_name(name).with_partition_data(data)
        });
        ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(topics.collect())
    }

    /// Offsets of the group will be part of the transaction.
    pub fn add_offsets(&self, who: Identity) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(WireProducerId(who.producer))
            .with_producer_epoch(who.epoch)
            .with_group_id(GroupId(text(&self.group)))
    }

    /// The group has read so far, if the transaction is committed.
    pub fn carry(&self, who: Identity, place: Place, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(place.partition)
            .with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(place))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(GroupId(text(&self.group)))
            .with_producer_id(WireProducerId(who.producer))
            .with_producer_epoch(who.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    /// How far the group has read in transactions that are decided.
    pub fn ask_committed(&self, place: Place) -> OffsetFetchRequest {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name(place))
            .with_partition_indexes(vec![place.partition]);
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_topics(Some(vec![topic]));
        OffsetFetchRequest::default().with_groups(vec![wanted]).with_require_stable(true)
    }

    /// The transaction is over.
    pub fn end(&self, who: Identity, commits: bool) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(WireProducerId(who.producer))
            .with_producer_epoch(who.epoch)
            .with_committed(commits)
    }
}

/// A batch of a transaction.
pub fn records(who: Identity, sequence: i32, values: &[Value]) -> Bytes {
    let (id, epoch) = (ProducerId(who.producer), ProducerEpoch(who.epoch));
    let mut batch =
        BatchBuilder::new().with_producer(id, epoch, Sequence(sequence)).transactional();
    values.iter().for_each(|value| value.write(&mut batch));
    batch.finish().freeze()
}

/// Whether all partitions were added.
///
/// # Errors
/// What stands in the way of the first that was not.
pub fn added(answer: Answer) -> Result<(), Refusal> {
    let response = answer.read::<AddPartitionsToTxnRequest>(ADD);
    let topics = response.results_by_topic_v3_and_below.iter();
    let told = topics.flat_map(|topic| &topic.results_by_partition);
    let mut codes = told.map(|told| told.partition_error_code);
    let is_why =
        |told: &i16| ![ErrorCode::None, ErrorCode::OperationNotAttempted].contains(&code(*told));
    codes.find(is_why).map_or(Ok(()), outcome)
}

/// How far the group has read; −1: it has not.
///
/// # Errors
/// Why that is not told.
pub fn committed(answer: Answer) -> Result<i64, Refusal> {
    let response = answer.read::<OffsetFetchRequest>(COMMITTED);
    let told = &response.groups[0];
    outcome(told.error_code)?;
    let told = &told.topics[0].partitions[0];
    outcome(told.error_code).map(|()| told.committed_offset)
}

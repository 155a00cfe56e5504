//! From a key to the room that serves it: the only dispatch of API keys.
//!
//! Does: read the header, check key and version, open the request; hand answers to the waiting
//! request; close it.
//! Does not: know what any API means.
//! Invariants: no wildcard arm: a key in `protocol::api_table` has a room here or nothing
//! compiles.
//! Apart because it is the one list of what this broker serves.

use bytes::BytesMut;
use flumen_protocol::api_table::{self, ApiKey};
use flumen_protocol::header::RequestHeader;
use flumen_protocol::ids::LogId;

use super::step::{Context, Envelope, Progress, Step};
use super::{
    each_group, grouped, k00_produce, k01_fetch, k02_list_offsets, k03_metadata, k08_offset_commit,
    k09_offset_fetch, k10_find_coordinator, k11_join_group, k12_heartbeat, k13_leave_group,
    k14_sync_group, k15_describe_groups, k16_list_groups, k18_api_versions, k19_create_topics,
    k20_delete_topics, k21_delete_records, k22_init_producer_id, k23_offset_for_leader_epoch,
    k24_add_partitions_to_txn, k25_add_offsets_to_txn, k26_end_txn, k27_write_txn_markers,
    k28_txn_offset_commit, k32_describe_configs, k33_alter_configs, k35_describe_log_dirs,
    k37_create_partitions, k42_delete_groups, k43_elect_leaders, k44_incremental_alter_configs,
    k45_alter_partition_reassignments, k46_list_partition_reassignments, k47_offset_delete,
    k48_describe_client_quotas, k49_alter_client_quotas, k50_describe_user_scram_credentials,
    k55_describe_quorum, k57_update_features, k60_describe_cluster, k61_describe_producers,
    k65_describe_transactions, k66_list_transactions, k68_consumer_group_heartbeat,
    k69_consumer_group_describe, k74_list_config_resources, k75_describe_topic_partitions,
    transacted,
};
use crate::shard::mailbox::Answer;

/// A request that waits for answers, by API.
#[derive(Debug)]
pub enum Waiting {
    /// Batches on their way to the disk.
    Produce(k00_produce::Waiting),
    /// Reads, possibly for records that do not exist yet.
    Fetch(k01_fetch::Waiting),
    /// Look-ups of offsets.
    ListOffsets(k02_list_offsets::Waiting),
    /// An answer that does not wait for the topics it has made.
    Metadata(k03_metadata::Waiting),
    /// One question to one group coordinator.
    Grouped(grouped::Waiting),
    /// One question to one coordinator of transactions.
    Transacted(Box<transacted::Waiting>),
    /// A commit of offsets.
    OffsetCommit(k08_offset_commit::Waiting),
    /// Offsets of several groups.
    OffsetFetch(k09_offset_fetch::Waiting),
    /// The groups' own topic being made on the way.
    FindCoordinator(k10_find_coordinator::Waiting),
    /// Several groups described or deleted.
    EachGroup(each_group::Waiting),
    /// Every core's groups.
    ListGroups(k16_list_groups::Waiting),
    /// Topics being made.
    CreateTopics(k19_create_topics::Waiting),
    /// Topics being removed.
    DeleteTopics(k20_delete_topics::Waiting),
    /// Log starts being moved.
    DeleteRecords(k21_delete_records::Waiting),
    /// Producer ids being set aside.
    InitProducerId(k22_init_producer_id::Waiting),
    /// Partitions being added to transactions.
    AddPartitionsToTxn(k24_add_partitions_to_txn::Waiting),
    /// A commit of offsets within a transaction.
    TxnOffsetCommit(k28_txn_offset_commit::Waiting),
    /// Several transactions described.
    DescribeTransactions(k65_describe_transactions::Waiting),
    /// Every core's transactions.
    ListTransactions(k66_list_transactions::Waiting),
    /// Ends of epochs.
    OffsetForLeaderEpoch(k23_offset_for_leader_epoch::Waiting),
    /// Producers being described.
    DescribeProducers(k61_describe_producers::Waiting),
    /// Markers being written.
    WriteTxnMarkers(k27_write_txn_markers::Waiting),
    /// Settings being replaced.
    AlterConfigs(k33_alter_configs::Waiting),
    /// Sizes being gathered.
    DescribeLogDirs(k35_describe_log_dirs::Waiting),
    /// Topics being grown.
    CreatePartitions(k37_create_partitions::Waiting),
    /// Settings being changed one by one.
    IncrementalAlterConfigs(k44_incremental_alter_configs::Waiting),
    /// Offsets being forgotten.
    OffsetDelete(k47_offset_delete::Waiting),
    /// Quotas being changed.
    AlterClientQuotas(k49_alter_client_quotas::Waiting),
    /// The controller's quorum being described.
    DescribeQuorum(k55_describe_quorum::Waiting),
    /// Levels of features being changed.
    UpdateFeatures(k57_update_features::Waiting),
}

/// Why a frame gets no answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// The header cannot be read.
    Header,
    /// A key this broker does not serve.
    Key(i16),
    /// A version of a known key that it does not serve.
    Version(i16, i16),
}

/// Reads a request's header.
///
/// # Errors
/// Why the connection must be closed: Kafka gives no answer to these either (G7).
pub fn read_header(frame: &[u8]) -> Result<(RequestHeader<'_>, usize, ApiKey), Unanswerable> {
    let (header, body) = RequestHeader::parse(frame).map_err(|_| Unanswerable::Header)?;
    let Some(row) = api_table::row(header.api_key) else {
        return Err(Unanswerable::Key(header.api_key));
    };
    // An unknown version of ApiVersions alone has an answer (G5).
    if !row.supports(header.version) && row.key != ApiKey::ApiVersions {
        return Err(Unanswerable::Version(header.api_key, header.version));
    }
    Ok((header, body, row.key))
}

/// Opens a request.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    room(envelope.key)(context, envelope, frame, body)
}

/// Opens the requests of one API: their frame, and where their body begins in it.
type Open = fn(&mut Context<'_>, &Envelope, BytesMut, usize) -> Step;

fn room(key: ApiKey) -> Open {
    match key {
        ApiKey::Produce => k00_produce::open,
        ApiKey::Fetch => {
            |context, envelope, frame, body| k01_fetch::open(context, envelope, &frame[body..])
        }
        ApiKey::ListOffsets => k02_list_offsets::open,
        ApiKey::Metadata => k03_metadata::open,
        ApiKey::OffsetCommit => k08_offset_commit::open,
        ApiKey::OffsetFetch => k09_offset_fetch::open,
        ApiKey::FindCoordinator => k10_find_coordinator::open,
        ApiKey::JoinGroup => k11_join_group::open,
        ApiKey::Heartbeat => k12_heartbeat::open,
        ApiKey::LeaveGroup => k13_leave_group::open,
        ApiKey::SyncGroup => k14_sync_group::open,
        ApiKey::DescribeGroups => k15_describe_groups::open,
        ApiKey::ListGroups => k16_list_groups::open,
        ApiKey::ApiVersions => k18_api_versions::open,
        ApiKey::CreateTopics => k19_create_topics::open,
        ApiKey::DeleteTopics => k20_delete_topics::open,
        ApiKey::DeleteRecords => k21_delete_records::open,
        ApiKey::InitProducerId => k22_init_producer_id::open,
        ApiKey::OffsetForLeaderEpoch => k23_offset_for_leader_epoch::open,
        ApiKey::AddPartitionsToTxn => k24_add_partitions_to_txn::open,
        ApiKey::AddOffsetsToTxn => k25_add_offsets_to_txn::open,
        ApiKey::EndTxn => k26_end_txn::open,
        ApiKey::TxnOffsetCommit => k28_txn_offset_commit::open,
        ApiKey::DescribeProducers => k61_describe_producers::open,
        ApiKey::WriteTxnMarkers => k27_write_txn_markers::open,
        ApiKey::DescribeConfigs => k32_describe_configs::open,
        ApiKey::AlterConfigs => k33_alter_configs::open,
        ApiKey::DescribeLogDirs => k35_describe_log_dirs::open,
        ApiKey::CreatePartitions => k37_create_partitions::open,
        ApiKey::DeleteGroups => k42_delete_groups::open,
        ApiKey::IncrementalAlterConfigs => k44_incremental_alter_configs::open,
        ApiKey::ElectLeaders => k43_elect_leaders::open,
        ApiKey::AlterPartitionReassignments => k45_alter_partition_reassignments::open,
        ApiKey::ListPartitionReassignments => k46_list_partition_reassignments::open,
        ApiKey::OffsetDelete => k47_offset_delete::open,
        ApiKey::DescribeClientQuotas => k48_describe_client_quotas::open,
        ApiKey::AlterClientQuotas => k49_alter_client_quotas::open,
        ApiKey::DescribeUserScramCredentials => k50_describe_user_scram_credentials::open,
        ApiKey::DescribeQuorum => k55_describe_quorum::open,
        ApiKey::UpdateFeatures => k57_update_features::open,
        ApiKey::DescribeCluster => k60_describe_cluster::open,
        ApiKey::DescribeTransactions => k65_describe_transactions::open,
        ApiKey::ListTransactions => k66_list_transactions::open,
        ApiKey::ConsumerGroupHeartbeat => k68_consumer_group_heartbeat::open,
        ApiKey::ConsumerGroupDescribe => k69_consumer_group_describe::open,
        ApiKey::ListConfigResources => k74_list_config_resources::open,
        ApiKey::DescribeTopicPartitions => k75_describe_topic_partitions::open,
    }
}

impl Waiting {
    /// Takes the answer to one part in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        match self {
            Self::Produce(waiting) => waiting.answer(part, answer),
            Self::Fetch(waiting) => waiting.answer(part, answer),
            Self::ListOffsets(waiting) => waiting.answer(part, answer),
            Self::Metadata(waiting) => waiting.answer(answer),
            Self::Grouped(waiting) => waiting.answer(answer),
            Self::Transacted(waiting) => waiting.answer(answer),
            Self::AddPartitionsToTxn(waiting) => waiting.answer(part, answer),
            Self::TxnOffsetCommit(waiting) => waiting.answer(answer),
            Self::DescribeTransactions(waiting) => waiting.answer(part, answer),
            Self::ListTransactions(waiting) => waiting.answer(answer),
            Self::OffsetCommit(waiting) => waiting.answer(answer),
            Self::OffsetDelete(waiting) => waiting.answer(answer),
            Self::OffsetFetch(waiting) => waiting.answer(part, answer),
            Self::FindCoordinator(waiting) => waiting.answer(answer),
            Self::EachGroup(waiting) => waiting.answer(part, answer),
            Self::ListGroups(waiting) => waiting.answer(answer),
            Self::CreateTopics(waiting) => waiting.answer(answer),
            Self::DeleteTopics(waiting) => waiting.answer(answer),
            Self::DeleteRecords(waiting) => waiting.answer(part, answer),
            Self::InitProducerId(waiting) => waiting.answer(answer),
            Self::OffsetForLeaderEpoch(waiting) => waiting.answer(part, answer),
            Self::DescribeProducers(waiting) => waiting.answer(part, answer),
            Self::WriteTxnMarkers(waiting) => waiting.answer(part, answer),
            Self::AlterConfigs(waiting) => waiting.answer(answer),
            Self::DescribeLogDirs(waiting) => waiting.answer(answer),
            Self::CreatePartitions(waiting) => waiting.answer(answer),
            Self::IncrementalAlterConfigs(waiting) => waiting.answer(answer),
            Self::AlterClientQuotas(waiting) => waiting.answer(answer),
            Self::DescribeQuorum(waiting) => waiting.answer(answer),
            Self::UpdateFeatures(waiting) => waiting.answer(answer),
        }
    }

    /// Makes the answer from what is known; missing parts become time-outs.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        match self {
            Self::Produce(waiting) => waiting.close(context, envelope),
            Self::Fetch(waiting) => waiting.close(context, envelope),
            Self::ListOffsets(waiting) => waiting.close(envelope),
            Self::Metadata(waiting) => waiting.close(context, envelope),
            Self::Grouped(waiting) => waiting.close(envelope),
            Self::Transacted(waiting) => waiting.close(context, envelope),
            Self::AddPartitionsToTxn(waiting) => waiting.close(envelope),
            Self::TxnOffsetCommit(waiting) => waiting.close(envelope),
            Self::DescribeTransactions(waiting) => waiting.close(envelope),
            Self::ListTransactions(waiting) => waiting.close(envelope),
            Self::OffsetCommit(waiting) => waiting.close(envelope),
            Self::OffsetDelete(waiting) => waiting.close(envelope),
            Self::OffsetFetch(waiting) => waiting.close(envelope),
            Self::FindCoordinator(waiting) => waiting.close(context, envelope),
            Self::EachGroup(waiting) => waiting.close(envelope),
            Self::ListGroups(waiting) => waiting.close(envelope),
            Self::CreateTopics(waiting) => waiting.close(context, envelope),
            Self::DeleteTopics(waiting) => waiting.close(envelope),
            Self::DeleteRecords(waiting) => waiting.close(envelope),
            Self::InitProducerId(waiting) => waiting.close(context, envelope),
            Self::OffsetForLeaderEpoch(waiting) => waiting.close(envelope),
            Self::DescribeProducers(waiting) => waiting.close(envelope),
            Self::WriteTxnMarkers(waiting) => waiting.close(envelope),
            Self::AlterConfigs(waiting) => waiting.close(envelope),
            Self::DescribeLogDirs(waiting) => waiting.close(context, envelope),
            Self::CreatePartitions(waiting) => waiting.close(envelope),
            Self::IncrementalAlterConfigs(waiting) => waiting.close(context, envelope),
            Self::AlterClientQuotas(waiting) => waiting.close(envelope),
            Self::DescribeQuorum(waiting) => waiting.close(context, envelope),
            Self::UpdateFeatures(waiting) => waiting.close(envelope),
        }
    }

    /// Bytes of memory that its answer takes, or may take before more is known, where it is gathered
    /// from logs. Other answers are made in one go.
    pub fn answer_bytes(&self) -> Option<usize> {
        match self {
            Self::Fetch(waiting) => Some(waiting.answer_bytes()),
            Self::Produce(_)
            | Self::ListOffsets(_)
            | Self::Metadata(_)
            | Self::Grouped(_)
            | Self::Transacted(_)
            | Self::AddPartitionsToTxn(_)
            | Self::TxnOffsetCommit(_)
            | Self::DescribeTransactions(_)
            | Self::ListTransactions(_)
            | Self::OffsetCommit(_)
            | Self::OffsetDelete(_)
            | Self::OffsetFetch(_)
            | Self::FindCoordinator(_)
            | Self::EachGroup(_)
            | Self::ListGroups(_)
            | Self::CreateTopics(_)
            | Self::DeleteTopics(_)
            | Self::DeleteRecords(_)
            | Self::InitProducerId(_)
            | Self::OffsetForLeaderEpoch(_)
            | Self::DescribeProducers(_)
            | Self::WriteTxnMarkers(_)
            | Self::AlterConfigs(_)
            | Self::DescribeLogDirs(_)
            | Self::CreatePartitions(_)
            | Self::IncrementalAlterConfigs(_)
            | Self::AlterClientQuotas(_)
            | Self::DescribeQuorum(_)
            | Self::UpdateFeatures(_) => None,
        }
    }

    /// The fetch that it is, if it is one.
    pub fn fetch(&self) -> Option<&k01_fetch::Waiting> {
        let Self::Fetch(waiting) = self else { return None };
        Some(waiting)
    }

    /// The fetch that it is, if it is one.
    pub fn fetch_mut(&mut self) -> Option<&mut k01_fetch::Waiting> {
        let Self::Fetch(waiting) = self else { return None };
        Some(waiting)
    }

    /// The parts and logs that may still push news to this request.
    pub fn watched(&self) -> Vec<(u32, LogId)> {
        self.fetch().map(k01_fetch::Waiting::watched).unwrap_or_default()
    }

    /// Whether it waits for news only.
    pub fn waits_for_news(&self) -> bool {
        self.fetch().is_some_and(k01_fetch::Waiting::waits_for_news)
    }
}

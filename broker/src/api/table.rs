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
    grouped, k00_produce, k01_fetch, k02_list_offsets, k03_metadata, k08_offset_commit,
    k09_offset_fetch, k10_find_coordinator, k11_join_group, k12_heartbeat, k13_leave_group,
    k14_sync_group, k15_describe_groups, k16_list_groups, k18_api_versions, k19_create_topics,
    k20_delete_topics, k21_delete_records, k22_init_producer_id, k23_offset_for_leader_epoch,
    k32_describe_configs, k33_alter_configs, k35_describe_log_dirs, k37_create_partitions,
    k42_delete_groups, k43_elect_leaders, k44_incremental_alter_configs,
    k46_list_partition_reassignments, k47_offset_delete, k55_describe_quorum, k57_update_features,
    k60_describe_cluster, k75_describe_topic_partitions,
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
    /// Topics being made on the way.
    Metadata(k03_metadata::Waiting),
    /// One question to one group coordinator.
    Grouped(grouped::Waiting),
    /// A commit of offsets.
    OffsetCommit(k08_offset_commit::Waiting),
    /// Offsets of several groups.
    OffsetFetch(k09_offset_fetch::Waiting),
    /// The groups' own topic being made on the way.
    FindCoordinator(k10_find_coordinator::Waiting),
    /// Several groups described.
    DescribeGroups(k15_describe_groups::Waiting),
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
    /// Ends of epochs.
    OffsetForLeaderEpoch(k23_offset_for_leader_epoch::Waiting),
    /// Settings being replaced.
    AlterConfigs(k33_alter_configs::Waiting),
    /// Sizes being gathered.
    DescribeLogDirs(k35_describe_log_dirs::Waiting),
    /// Topics being grown.
    CreatePartitions(k37_create_partitions::Waiting),
    /// Groups being deleted.
    DeleteGroups(k42_delete_groups::Waiting),
    /// Settings being changed one by one.
    IncrementalAlterConfigs(k44_incremental_alter_configs::Waiting),
    /// Offsets being forgotten.
    OffsetDelete(k47_offset_delete::Waiting),
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
    match envelope.key {
        ApiKey::Produce => k00_produce::open(context, envelope, frame, body),
        ApiKey::Fetch => k01_fetch::open(context, envelope, &frame[body..]),
        ApiKey::ListOffsets => k02_list_offsets::open(context, envelope, frame, body),
        ApiKey::Metadata => k03_metadata::open(context, envelope, frame, body),
        ApiKey::OffsetCommit => k08_offset_commit::open(context, envelope, frame, body),
        ApiKey::OffsetFetch => k09_offset_fetch::open(context, envelope, frame, body),
        ApiKey::FindCoordinator => k10_find_coordinator::open(context, envelope, frame, body),
        ApiKey::JoinGroup => k11_join_group::open(context, envelope, frame, body),
        ApiKey::Heartbeat => k12_heartbeat::open(context, envelope, frame, body),
        ApiKey::LeaveGroup => k13_leave_group::open(context, envelope, frame, body),
        ApiKey::SyncGroup => k14_sync_group::open(context, envelope, frame, body),
        ApiKey::DescribeGroups => k15_describe_groups::open(context, envelope, frame, body),
        ApiKey::ListGroups => k16_list_groups::open(context, envelope, frame, body),
        ApiKey::ApiVersions => k18_api_versions::open(context, envelope, frame, body),
        ApiKey::CreateTopics => k19_create_topics::open(context, envelope, frame, body),
        ApiKey::DeleteTopics => k20_delete_topics::open(context, envelope, frame, body),
        ApiKey::DeleteRecords => k21_delete_records::open(context, envelope, frame, body),
        ApiKey::InitProducerId => k22_init_producer_id::open(context, envelope, frame, body),
        ApiKey::OffsetForLeaderEpoch => {
            k23_offset_for_leader_epoch::open(context, envelope, frame, body)
        }
        ApiKey::DescribeConfigs => k32_describe_configs::open(context, envelope, frame, body),
        ApiKey::AlterConfigs => k33_alter_configs::open(context, envelope, frame, body),
        ApiKey::DescribeLogDirs => k35_describe_log_dirs::open(context, envelope, frame, body),
        ApiKey::CreatePartitions => k37_create_partitions::open(context, envelope, frame, body),
        ApiKey::DeleteGroups => k42_delete_groups::open(context, envelope, frame, body),
        ApiKey::IncrementalAlterConfigs => {
            k44_incremental_alter_configs::open(context, envelope, frame, body)
        }
        ApiKey::ElectLeaders => k43_elect_leaders::open(context, envelope, frame, body),
        ApiKey::ListPartitionReassignments => {
            k46_list_partition_reassignments::open(context, envelope, frame, body)
        }
        ApiKey::OffsetDelete => k47_offset_delete::open(context, envelope, frame, body),
        ApiKey::DescribeQuorum => k55_describe_quorum::open(context, envelope, frame, body),
        ApiKey::UpdateFeatures => k57_update_features::open(context, envelope, frame, body),
        ApiKey::DescribeCluster => k60_describe_cluster::open(context, envelope, frame, body),
        ApiKey::DescribeTopicPartitions => {
            k75_describe_topic_partitions::open(context, envelope, frame, body)
        }
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
            Self::OffsetCommit(waiting) => waiting.answer(answer),
            Self::OffsetDelete(waiting) => waiting.answer(answer),
            Self::OffsetFetch(waiting) => waiting.answer(part, answer),
            Self::FindCoordinator(waiting) => waiting.answer(answer),
            Self::DescribeGroups(waiting) => waiting.answer(part, answer),
            Self::ListGroups(waiting) => waiting.answer(answer),
            Self::CreateTopics(waiting) => waiting.answer(answer),
            Self::DeleteTopics(waiting) => waiting.answer(answer),
            Self::DeleteRecords(waiting) => waiting.answer(part, answer),
            Self::InitProducerId(waiting) => waiting.answer(answer),
            Self::OffsetForLeaderEpoch(waiting) => waiting.answer(part, answer),
            Self::AlterConfigs(waiting) => waiting.answer(answer),
            Self::DescribeLogDirs(waiting) => waiting.answer(answer),
            Self::CreatePartitions(waiting) => waiting.answer(answer),
            Self::DeleteGroups(waiting) => waiting.answer(part, answer),
            Self::IncrementalAlterConfigs(waiting) => waiting.answer(answer),
            Self::DescribeQuorum(waiting) => waiting.answer(answer),
            Self::UpdateFeatures(waiting) => waiting.answer(answer),
        }
    }

    /// Makes the answer from what is known; missing parts become time-outs.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        match self {
            Self::Produce(waiting) => waiting.close(envelope),
            Self::Fetch(waiting) => waiting.close(envelope),
            Self::ListOffsets(waiting) => waiting.close(envelope),
            Self::Metadata(waiting) => waiting.close(context, envelope),
            Self::Grouped(waiting) => waiting.close(envelope),
            Self::OffsetCommit(waiting) => waiting.close(envelope),
            Self::OffsetDelete(waiting) => waiting.close(envelope),
            Self::OffsetFetch(waiting) => waiting.close(envelope),
            Self::FindCoordinator(waiting) => waiting.close(context, envelope),
            Self::DescribeGroups(waiting) => waiting.close(envelope),
            Self::ListGroups(waiting) => waiting.close(envelope),
            Self::CreateTopics(waiting) => waiting.close(context, envelope),
            Self::DeleteTopics(waiting) => waiting.close(envelope),
            Self::DeleteRecords(waiting) => waiting.close(envelope),
            Self::InitProducerId(waiting) => waiting.close(context, envelope),
            Self::OffsetForLeaderEpoch(waiting) => waiting.close(envelope),
            Self::AlterConfigs(waiting) => waiting.close(envelope),
            Self::DescribeLogDirs(waiting) => waiting.close(context, envelope),
            Self::CreatePartitions(waiting) => waiting.close(envelope),
            Self::DeleteGroups(waiting) => waiting.close(envelope),
            Self::IncrementalAlterConfigs(waiting) => waiting.close(context, envelope),
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
            | Self::OffsetCommit(_)
            | Self::OffsetDelete(_)
            | Self::OffsetFetch(_)
            | Self::FindCoordinator(_)
            | Self::DescribeGroups(_)
            | Self::ListGroups(_)
            | Self::CreateTopics(_)
            | Self::DeleteTopics(_)
            | Self::DeleteRecords(_)
            | Self::InitProducerId(_)
            | Self::OffsetForLeaderEpoch(_)
            | Self::AlterConfigs(_)
            | Self::DescribeLogDirs(_)
            | Self::CreatePartitions(_)
            | Self::DeleteGroups(_)
            | Self::IncrementalAlterConfigs(_)
            | Self::DescribeQuorum(_)
            | Self::UpdateFeatures(_) => None,
        }
    }

    /// The parts and logs that may still push news to this request.
    pub fn watched(&self) -> Vec<(u32, LogId)> {
        match self {
            Self::Fetch(waiting) => waiting.watched(),
            Self::Produce(_)
            | Self::ListOffsets(_)
            | Self::Metadata(_)
            | Self::Grouped(_)
            | Self::OffsetCommit(_)
            | Self::OffsetDelete(_)
            | Self::OffsetFetch(_)
            | Self::FindCoordinator(_)
            | Self::DescribeGroups(_)
            | Self::ListGroups(_)
            | Self::CreateTopics(_)
            | Self::DeleteTopics(_)
            | Self::DeleteRecords(_)
            | Self::InitProducerId(_)
            | Self::OffsetForLeaderEpoch(_)
            | Self::AlterConfigs(_)
            | Self::DescribeLogDirs(_)
            | Self::CreatePartitions(_)
            | Self::DeleteGroups(_)
            | Self::IncrementalAlterConfigs(_)
            | Self::DescribeQuorum(_)
            | Self::UpdateFeatures(_) => Vec::new(),
        }
    }
}

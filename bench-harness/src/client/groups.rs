//! What is asked about groups while nothing is measured, or where one question is the measurement.
//!
//! Does: find a group's coordinator, commit offsets from outside any membership, list groups.
//! Does not: take part in a group; `groups::member` does.
//! Invariants: none of its own.
//! Apart because only the measurements of groups ask this.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::{
    FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, StrBytes,
};

use super::topic::topic_name;
use super::{Client, ClientFault};

/// What FindCoordinator calls a group.
const GROUP: i8 = 0;

impl Client {
    /// `HOST:PORT` of a group's coordinator.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn group_coordinator(&mut self, group: &str) -> Result<String, ClientFault> {
        let key = StrBytes::from_string(group.to_owned());
        let question = FindCoordinatorRequest::default().with_key(key).with_key_type(GROUP);
        self.patiently(|client| {
            let found = client.ask(3, &question)?;
            let message = found.error_message.as_deref().unwrap_or_default();
            client.refuse(ApiKey::FindCoordinator, found.error_code, message)?;
            Ok(format!("{}:{}", &*found.host, found.port))
        })
    }

    /// Commits `offset` for the first `partitions` partitions of a topic, as an administrator does. To be
    /// asked of the group's coordinator.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partitions: i32,
        offset: i64,
    ) -> Result<(), ClientFault> {
        let committed = (0..partitions).map(|index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(committed.collect());
        let question = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        self.patiently(|client| {
            let answer = client.ask(8, &question)?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                client.refuse(ApiKey::OffsetCommit, partition.error_code, group)?;
            }
            Ok(())
        })
    }

    /// How many groups this broker coordinates.
    ///
    /// # Errors
    /// As every question, and the broker's refusal.
    pub fn count_groups(&mut self) -> Result<usize, ClientFault> {
        let answer = self.ask(4, &ListGroupsRequest::default())?;
        self.refuse(ApiKey::ListGroups, answer.error_code, "")?;
        Ok(answer.groups.len())
    }
}

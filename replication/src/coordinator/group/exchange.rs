//! What becomes of requests to a coordinator of groups, and of its answers, where it has no say itself.
//!
//! Does: refuse, take back and time out; show metrics what an active coordinator knows.
//! Does not: decide anything about groups.
//! Invariants: none of its own.
//! Apart because these answers are about answers, not about groups.

use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;

use super::GroupConfig;
use super::dispatch::{CommittedRow, GroupCoordinator, GroupRow};
use super::requests::{GroupRequest, GroupResponse};
use crate::coordinator::machine::Exchange;
use crate::coordinator::runtime::Coordinator;

impl Exchange for GroupCoordinator {
    type Config = GroupConfig;
    type Request = GroupRequest;
    type Response = GroupResponse;

    fn commit_timeout(config: &GroupConfig) -> Duration {
        Duration::from_millis(config.commit_timeout_ms)
    }

    fn refuse(request: &GroupRequest, error: ErrorCode) -> GroupResponse {
        request.refused(error)
    }

    fn take_back(response: GroupResponse, error: ErrorCode) -> GroupResponse {
        response.refused(error)
    }

    fn while_loading(request: &GroupRequest) -> ErrorCode {
        match request {
            // The member may live on: its session begins when loading ends.
            GroupRequest::Heartbeat { .. } => ErrorCode::None,
            GroupRequest::Join { .. }
            | GroupRequest::ConsumerHeartbeat { .. }
            | GroupRequest::DescribeConsumer { .. }
            | GroupRequest::Sync { .. }
            | GroupRequest::Leave { .. }
            | GroupRequest::CommitOffsets { .. }
            | GroupRequest::CommitWithin { .. }
            | GroupRequest::FetchOffsets { .. }
            | GroupRequest::Describe { .. }
            | GroupRequest::List { .. }
            | GroupRequest::Delete { .. }
            | GroupRequest::DeleteOffsets { .. }
            | GroupRequest::TopicsDeleted { .. } => ErrorCode::CoordinatorLoadInProgress,
        }
    }

    /// Old consumers do not know COORDINATOR_NOT_AVAILABLE as an answer to OffsetFetch and would not
    /// try again.
    fn timed_out(response: GroupResponse) -> GroupResponse {
        let error = match response {
            GroupResponse::FetchOffsets(_) => ErrorCode::NotCoordinator,
            GroupResponse::Join(_)
            | GroupResponse::Sync(_)
            | GroupResponse::Heartbeat(_)
            | GroupResponse::Leave(_)
            | GroupResponse::CommitOffsets(_)
            | GroupResponse::CommitWithin(_)
            | GroupResponse::ConsumerHeartbeat(_)
            | GroupResponse::DescribeConsumer(_)
            | GroupResponse::Describe(_)
            | GroupResponse::List(_)
            | GroupResponse::Delete(_)
            | GroupResponse::DeleteOffsets(_)
            | GroupResponse::TopicsDeleted(_) => ErrorCode::CoordinatorNotAvailable,
        };
        response.refused(error)
    }

    /// A list says which groups there are and how they fare just now; members, assignments and
    /// offsets, which must not be taken back, are not in it. So it never waits, and its asker can
    /// put the lists of many coordinators together in one step.
    fn waits(response: &GroupResponse) -> bool {
        !matches!(response, GroupResponse::List(_))
    }
}

/// What metrics see.
impl Coordinator<GroupCoordinator> {
    /// The groups; none unless active.
    pub fn groups(&self) -> impl Iterator<Item = GroupRow<'_>> {
        self.machine().into_iter().flat_map(GroupCoordinator::groups)
    }

    /// The committed offsets; none unless active.
    pub fn committed(&self) -> impl Iterator<Item = CommittedRow<'_>> {
        self.machine().into_iter().flat_map(GroupCoordinator::committed)
    }

    /// The committed offsets behind a group, topic and partition, in this order; none unless active.
    pub fn committed_after<'c>(
        &'c self,
        place: (&'c str, &'c str, i32),
    ) -> impl Iterator<Item = CommittedRow<'c>> {
        self.machine().into_iter().flat_map(move |machine| machine.committed_after(place))
    }
}

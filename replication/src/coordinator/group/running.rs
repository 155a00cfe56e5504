//! How the runtime runs a coordinator of groups.
//!
//! Does: answer the runtime's questions with what the coordinator knows.
//! Does not: decide anything about groups.
//! Invariants: none of its own.
//! Apart because these answers are about answers, not about groups.

use std::convert::Infallible;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::time::{Monotonic, Now, WallTrust};

use super::GroupConfig;
use super::dispatch::{CommittedRow, GroupCoordinator, GroupRow};
use super::requests::{GroupEffect, GroupRequest, GroupResponse};
use crate::coordinator::Ticket;
use crate::coordinator::machine::{Machine, ReplayError};
use crate::coordinator::producer::Outcome;
use crate::coordinator::runtime::Coordinator;
use crate::dice::Dice;

impl Machine for GroupCoordinator {
    type Config = GroupConfig;
    type Request = GroupRequest;
    type Response = GroupResponse;
    type Notice = Infallible;
    /// Offsets may be committed within transactions.
    const HAS_TRANSACTIONS: bool = true;

    fn new(config: GroupConfig) -> Self {
        Self::new(config)
    }

    fn replay(
        &mut self,
        within: Option<ProducerId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        self.replay(within, key, value)
    }

    fn ended(&mut self, producer: ProducerId, outcome: Outcome) {
        self.ended(producer, outcome);
    }

    fn loaded(&mut self, now: Now, _out: &mut Vec<GroupEffect>) {
        self.loaded(now);
    }

    fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: GroupRequest,
        out: &mut Vec<GroupEffect>,
    ) {
        self.handle(now, dice, ticket, request, out);
    }

    fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<GroupEffect>) {
        self.on_time(now, wall, out);
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        self.next_deadline()
    }

    fn parked(&self, error: ErrorCode) -> Vec<(Ticket, GroupResponse)> {
        self.parked(error)
    }

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

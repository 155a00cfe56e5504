//! DescribeGroups (key 15, versions 0–6): state and members of groups.
//!
//! - Each group is asked of its own coordinator; one that cannot be asked answers
//!   NOT_COORDINATOR (G100).
//! - An unknown group is "Dead" without an error up to version 5, GROUP_ID_NOT_FOUND from
//!   version 6 (G113, KIP-1043).
//! - What the client may do with a group is told on request from version 3 (KIP-430).
//!
//! Deviations: a group named twice is described once, since its members weigh far more than its
//! name; there is no authorisation yet, so everybody may do everything.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_groups_response::DescribedGroup;
use flumen_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// What a client without restrictions may do with a group: read, delete, describe, describe and
/// alter configs.
pub const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// Groups that are being asked for.
#[derive(Debug)]
pub struct Waiting {
    with_operations: bool,
    groups: Vec<DescribedGroup>,
    missing: usize,
}

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeGroupsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeGroups request");
    };
    let mut parts = Vec::with_capacity(request.groups.len());
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut seen = BTreeSet::new();
    let asked = request.groups.into_iter().filter(|group| seen.insert(group.clone()));
    for (number, group) in (0..).zip(asked) {
        let log = context.group_log(&group);
        let group_id = group.to_string();
        let question = GroupRequest::Describe { group_id, version: envelope.version };
        groups.push(described(question.refused(ErrorCode::NotCoordinator)));
        if let Some(log) = log {
            let question = Question::Group(Box::new(question));
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
    }
    let with_operations = request.include_authorized_operations;
    let waiting = Waiting { with_operations, groups, missing: parts.len() };
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::DescribeGroups(waiting), parts, patience: None })
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            self.groups[part as usize] = described(*response);
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers for all groups.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        if self.with_operations {
            let sound = self.groups.iter_mut().filter(|group| group.error_code == 0);
            sound.for_each(|group| group.authorized_operations = GROUP_OPERATIONS);
        }
        step::answer(envelope, &DescribeGroupsResponse::default().with_groups(self.groups))
    }
}

fn described(response: GroupResponse) -> DescribedGroup {
    match response {
        GroupResponse::Describe(group) => group,
        other => unreachable!("the coordinator answered another question: {other:?}"),
    }
}

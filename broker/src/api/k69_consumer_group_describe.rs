//! ConsumerGroupDescribe (key 69, versions 0–1): groups of the new kind with their members, what these
//! have and what they shall have (KIP-848).
//!
//! - Each group is asked of its own coordinator; one that cannot be asked answers NOT_COORDINATOR.
//! - A group that is not there, or is classic, is GROUP_ID_NOT_FOUND.
//! - Version 1 tells of each member whether it speaks the classic protocol.
//!
//! Deviations: a group named twice is described once, since its members weigh far more than its
//! name; there is no authorisation yet, so everybody may do everything.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::consumer_group_describe_response::DescribedGroup;
use flumen_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::grouped;
use super::k15_describe_groups::GROUP_OPERATIONS;
use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// Groups that are being asked for.
#[derive(Debug)]
pub struct Waiting {
    with_operations: bool,
    groups: Vec<DescribedGroup>,
    missing: usize,
}

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ConsumerGroupDescribeRequest>(envelope, frame, body) else {
        return Step::Close("malformed ConsumerGroupDescribe request");
    };
    let is_served = grouped::has_consumer_groups(context);
    let refusal = if is_served { ErrorCode::NotCoordinator } else { ErrorCode::UnsupportedVersion };
    let mut parts = Vec::with_capacity(request.group_ids.len());
    let mut groups = Vec::with_capacity(request.group_ids.len());
    let mut seen = BTreeSet::new();
    let asked = request.group_ids.into_iter().filter(|group| seen.insert(group.clone()));
    for (number, group) in (0..).zip(asked) {
        let log = context.group_log(&group).filter(|_| is_served);
        let group_id = group.to_string();
        let question = GroupRequest::DescribeConsumer { group_id, version: envelope.version };
        groups.push(described(question.refused(refusal)));
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
    Step::Wait(Wait { waiting: AnyWaiting::ConsumerGroupDescribe(waiting), parts, patience: None })
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
        step::answer(envelope, &ConsumerGroupDescribeResponse::default().with_groups(self.groups))
    }
}

fn described(response: GroupResponse) -> DescribedGroup {
    match response {
        GroupResponse::DescribeConsumer(group) => group,
        other => unreachable!("the coordinator answered another question: {other:?}"),
    }
}

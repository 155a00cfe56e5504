//! Requests that ask the same of each of several groups: describe groups, of either kind, and delete
//! them.
//!
//! Does: ask each group's own coordinator, once; put what they say together, in the order asked.
//! Does not: read the request or know what a group is.
//! Invariants: every group has an answer from the start: the refusal it gets as long as its
//! coordinator has not been heard.
//! Apart because three APIs differ in nothing else.

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{
    ConsumerGroupDescribeResponse, DeleteGroupsResponse, DescribeGroupsResponse, GroupId,
};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// What a client without restrictions may do with a group: read, delete, describe, describe and
/// alter configs.
const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// What is asked of each group.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// What it is.
    Describe {
        /// Whether also what the client may do with it.
        with_operations: bool,
    },
    /// What it is, as a group of the new kind.
    DescribeConsumer {
        /// Whether also what the client may do with it.
        with_operations: bool,
    },
    /// That it goes.
    Delete,
}

/// Groups that are being asked.
#[derive(Debug)]
pub struct Waiting {
    asked: Asked,
    answers: Vec<GroupResponse>,
    missing: usize,
}

/// Asks the coordinator of each group; one that cannot be asked answers NOT_COORDINATOR. A group named
/// twice is asked and answered once.
pub fn ask(context: &Context<'_>, envelope: &Envelope, groups: Vec<GroupId>, asked: Asked) -> Step {
    let mut waiting = Waiting { asked, answers: Vec::with_capacity(groups.len()), missing: 0 };
    let mut parts = Vec::with_capacity(groups.len());
    for (number, group) in (0..).zip(once_each(groups)) {
        let request = asked.request(&group, envelope.version);
        if asked.needs_an_id() && group.is_empty() {
            waiting.answers.push(request.refused(ErrorCode::InvalidGroupId));
            continue;
        }
        waiting.answers.push(request.refused(ErrorCode::NotCoordinator));
        if let Some(log) = context.group_log(&group) {
            let question = Question::Group(Box::new(request));
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
    }
    waiting.missing = parts.len();
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::EachGroup(waiting), parts, patience: None })
}

/// Answers with the same error for each group.
pub fn refuse(envelope: &Envelope, groups: Vec<GroupId>, asked: Asked, error: ErrorCode) -> Step {
    let refused = |group: GroupId| asked.request(&group, envelope.version).refused(error);
    let answers = once_each(groups).map(refused).collect();
    Waiting { asked, answers, missing: 0 }.close(envelope)
}

fn once_each(groups: Vec<GroupId>) -> impl Iterator<Item = GroupId> {
    let mut seen = BTreeSet::new();
    groups.into_iter().filter(move |group| seen.insert(group.clone()))
}

impl Asked {
    /// Whether a group without an id is none. Classic groups may have an empty one, of very old clients.
    fn needs_an_id(self) -> bool {
        match self {
            Self::DescribeConsumer { .. } => true,
            Self::Describe { .. } | Self::Delete => false,
        }
    }

    fn request(self, group: &GroupId, version: i16) -> GroupRequest {
        let group_id = group.to_string();
        match self {
            Self::Describe { .. } => GroupRequest::Describe { group_id, version },
            Self::DescribeConsumer { .. } => GroupRequest::DescribeConsumer { group_id, version },
            Self::Delete => GroupRequest::Delete { group_id },
        }
    }
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            self.answers[part as usize] = *response;
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers for all groups.
    pub fn close(self, envelope: &Envelope) -> Step {
        let answers = self.answers.into_iter();
        match self.asked {
            Asked::Describe { with_operations } => {
                let groups = answers.map(|answer| match answer {
                    GroupResponse::Describe(group) if with_operations && group.error_code == 0 => {
                        group.with_authorized_operations(GROUP_OPERATIONS)
                    }
                    GroupResponse::Describe(group) => group,
                    other => unasked(&other),
                });
                let groups = groups.collect();
                step::answer(envelope, &DescribeGroupsResponse::default().with_groups(groups))
            }
            Asked::DescribeConsumer { with_operations } => {
                let groups = answers.map(|answer| match answer {
                    GroupResponse::DescribeConsumer(group)
                        if with_operations && group.error_code == 0 =>
                    {
                        group.with_authorized_operations(GROUP_OPERATIONS)
                    }
                    GroupResponse::DescribeConsumer(group) => group,
                    other => unasked(&other),
                });
                let groups = groups.collect();
                step::answer(
                    envelope,
                    &ConsumerGroupDescribeResponse::default().with_groups(groups),
                )
            }
            Asked::Delete => {
                let results = answers.map(|answer| match answer {
                    GroupResponse::Delete(result) => result,
                    other => unasked(&other),
                });
                let results = results.collect();
                step::answer(envelope, &DeleteGroupsResponse::default().with_results(results))
            }
        }
    }
}

fn unasked(answer: &GroupResponse) -> ! {
    unreachable!("the coordinator answered another question: {answer:?}")
}

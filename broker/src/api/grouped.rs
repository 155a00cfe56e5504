//! Requests that are one question to one group coordinator: join, sync, heartbeat, leave, and the heartbeat of
//! groups of the new kind.
//!
//! Does: find the partition that holds the group, ask its coordinator, encode what it answers.
//! Does not: know what the question means.
//! Invariants: a group whose coordinator cannot be asked answers NOT_COORDINATOR, which makes
//! every client look for it again (G100).
//! Apart because five APIs differ in nothing else.

use flumen_protocol::error_code::ErrorCode;
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};
use flumen_replication::metadata::features;

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// A question on its way.
#[derive(Debug)]
pub struct Waiting {
    /// The answer, or what it is as long as there is none.
    response: Box<GroupResponse>,
}

/// Asks the coordinator of a group.
pub fn ask(context: &Context<'_>, envelope: &Envelope, group: &str, request: GroupRequest) -> Step {
    let response = request.refused(ErrorCode::NotCoordinator);
    let Some(log) = context.group_log(group) else {
        return encode(envelope, &response);
    };
    let question = Question::Group(Box::new(request));
    Step::Wait(Wait {
        waiting: AnyWaiting::Grouped(Waiting { response: Box::new(response) }),
        parts: vec![Part { number: 0, to: Addressee::Owner(log), question }],
        // A join waits for other members as long as they may take; the coordinator has the timer.
        patience: None,
    })
}

/// Whether groups of the new kind (KIP-848) are served here.
pub fn has_consumer_groups(context: &Context<'_>) -> bool {
    context.options.consumer_groups.are_served && features::has_consumer_groups(context.image)
}

/// Answers with nothing but an error.
pub fn refuse(envelope: &Envelope, request: &GroupRequest, error: ErrorCode) -> Step {
    encode(envelope, &request.refused(error))
}

impl Waiting {
    /// Takes the coordinator's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            self.response = response;
        }
        Progress::Done
    }

    /// Encodes it.
    pub fn close(self, envelope: &Envelope) -> Step {
        encode(envelope, &self.response)
    }
}

fn encode(envelope: &Envelope, response: &GroupResponse) -> Step {
    match response {
        GroupResponse::Join(response) => step::answer(envelope, response),
        GroupResponse::Sync(response) => step::answer(envelope, response),
        GroupResponse::Heartbeat(response) => step::answer(envelope, response),
        GroupResponse::Leave(response) => step::answer(envelope, response),
        GroupResponse::ConsumerHeartbeat(response) => step::answer(envelope, response),
        GroupResponse::CommitOffsets(_)
        | GroupResponse::CommitWithin(_)
        | GroupResponse::DeleteOffsets(_)
        | GroupResponse::List(_)
        | GroupResponse::FetchOffsets(_)
        | GroupResponse::Describe(_)
        | GroupResponse::DescribeConsumer(_)
        | GroupResponse::Delete(_)
        | GroupResponse::TopicsDeleted(_) => {
            unreachable!("these are put together by their own rooms")
        }
    }
}

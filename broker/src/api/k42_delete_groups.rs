//! DeleteGroups (key 42, versions 0–2): remove groups with their offsets.
//!
//! - Each group is asked of its own coordinator; only an empty group can go (NON_EMPTY_GROUP,
//!   GROUP_ID_NOT_FOUND) (G113).
//! - A group named twice is deleted and answered once, as in Kafka.
//!
//! Deviations: none known. KIPs: 229.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::delete_groups_response::DeletableGroupResult;
use flumen_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// Groups that are being deleted.
#[derive(Debug)]
pub struct Waiting {
    results: Vec<DeletableGroupResult>,
    missing: usize,
}

/// Asks the coordinator of each group.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(mut request) = step::decode::<DeleteGroupsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DeleteGroups request");
    };
    request.groups_names.sort();
    request.groups_names.dedup();
    let mut parts = Vec::with_capacity(request.groups_names.len());
    let mut results = Vec::with_capacity(request.groups_names.len());
    for (number, group) in (0..).zip(request.groups_names) {
        let log = context.group_log(&group);
        let question = GroupRequest::Delete { group_id: group.to_string() };
        results.push(deleted(question.refused(ErrorCode::NotCoordinator)));
        if let Some(log) = log {
            let question = Question::Group(Box::new(question));
            parts.push(Part { number, to: Addressee::Owner(log), question });
        }
    }
    let waiting = Waiting { results, missing: parts.len() };
    if parts.is_empty() {
        return waiting.close(envelope);
    }
    Step::Wait(Wait { waiting: AnyWaiting::DeleteGroups(waiting), parts, patience: None })
}

impl Waiting {
    /// Takes one coordinator's answer in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if let Answer::Group(response) = answer {
            self.results[part as usize] = deleted(*response);
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers for all groups.
    pub fn close(self, envelope: &Envelope) -> Step {
        step::answer(envelope, &DeleteGroupsResponse::default().with_results(self.results))
    }
}

fn deleted(response: GroupResponse) -> DeletableGroupResult {
    match response {
        GroupResponse::Delete(result) => result,
        other => unreachable!("the coordinator answered another question: {other:?}"),
    }
}

//! ListGroups (key 16, versions 0–5): the groups this broker coordinates.
//!
//! - Every core is asked for the groups of its coordinators; the answers are put together in the order
//!   in which Kafka lists the groups of one partition, which is none for a human eye.
//! - Filters for states (version 4) and types (version 5); a word nobody knows matches nothing.
//! - A coordinator that still loads makes the whole answer COORDINATOR_LOAD_IN_PROGRESS, so that
//!   a list is never silently short; one that has just moved away is left out.
//!
//! Deviations: none known. KIPs: 518 (states), 848 (types).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::CoreId;
use flumen_protocol::messages::list_groups_response::ListedGroup;
use flumen_protocol::messages::{ListGroupsRequest, ListGroupsResponse, StrBytes};
use flumen_replication::coordinator::group::requests::{GroupRequest, GroupResponse};
use flumen_replication::coordinator::group::{ListFilter, listing_place};

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question};

/// A list that is being gathered.
#[derive(Debug)]
pub struct Waiting {
    response: ListGroupsResponse,
    missing: usize,
}

/// Asks every core.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ListGroupsRequest>(envelope, frame, body) else {
        return Step::Close("malformed ListGroups request");
    };
    let states = request.states_filter.iter().map(StrBytes::as_str);
    let types = request.types_filter.iter().map(StrBytes::as_str);
    let wanted = ListFilter::new(states, types);
    let parts = (0..context.cores).map(|core| Part {
        number: u32::from(core),
        to: Addressee::Core(CoreId(core)),
        question: Question::Groups(Box::new(GroupRequest::List { wanted: wanted.clone() })),
    });
    let missing = usize::from(context.cores);
    let waiting = Waiting { response: ListGroupsResponse::default(), missing };
    Step::Wait(Wait {
        waiting: AnyWaiting::ListGroups(waiting),
        parts: parts.collect(),
        patience: Some(context.patience()),
    })
}

impl Waiting {
    /// Takes one core's groups in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Groups(lists) = answer {
            for list in lists {
                let GroupResponse::List(list) = list else {
                    unreachable!("the coordinator answered another question")
                };
                if list.error_code != ErrorCode::NotCoordinator.code() {
                    self.response.error_code = self.response.error_code.max(list.error_code);
                }
                self.response.groups.extend(list.groups);
            }
        }
        self.missing -= 1;
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with all of them, or with the error alone.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        if self.missing > 0 {
            self.response.error_code = ErrorCode::CoordinatorNotAvailable.code();
        }
        if self.response.error_code != ErrorCode::None.code() {
            self.response.groups.clear();
        }
        let key = |group: &ListedGroup| (listing_place(&group.group_id), group.group_id.clone());
        self.response.groups.sort_by_cached_key(key);
        for group in &mut self.response.groups {
            if envelope.version < STATES_SINCE {
                group.group_state = StrBytes::new();
            }
            if envelope.version < TYPES_SINCE {
                group.group_type = StrBytes::new();
            }
        }
        step::answer(envelope, &self.response)
    }
}

/// The first version that tells each group's state.
const STATES_SINCE: i16 = 4;

/// The first version that tells each group's type.
const TYPES_SINCE: i16 = 5;

//! FindCoordinator (key 10, versions 0–6): which broker coordinates a group.
//!
//! - The first question makes `__consumer_offsets`; the answer waits for it (G100).
//! - Several keys per request from version 4 (KIP-699).
//!
//! Deviations: coordinators of transactions (type 1) and share groups (type 2) are refused with
//! INVALID_REQUEST, since this broker serves neither yet; those of transactions up to version 2
//! with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the only answer that librdkafka, which speaks these
//! versions, does not ask about again until its caller's patience ends.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::find_coordinator_response::Coordinator;
use flumen_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes,
};

use super::step::{self, Context, Envelope, Progress, Step};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::shard::mailbox::Answer;
use crate::shard::routing::OFFSETS_TOPIC;

/// The key type of groups.
const GROUP: i8 = 0;

/// The key type of transactional ids.
const TRANSACTION: i8 = 1;

/// The last version in which a transactional id is refused as not allowed rather than as a
/// senseless request: only then does librdkafka give up at once, and show our reason.
const NOT_ALLOWED_UNTIL: i16 = 2;

/// The first version with several keys.
const KEYS_SINCE: i16 = 4;

/// A request that waits for the groups' topic.
#[derive(Debug)]
pub struct Waiting {
    request: FindCoordinatorRequest,
}

/// Answers, or first makes the topic that groups live in.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<FindCoordinatorRequest>(envelope, frame, body) else {
        return Step::Close("malformed FindCoordinator request");
    };
    if request.key_type != GROUP || context.image.topic_named(OFFSETS_TOPIC).is_some() {
        return describe(context, envelope, request);
    }
    let command = topics::creation(context, vec![OFFSETS_TOPIC.to_owned()]);
    step::control(
        context,
        command,
        AnyWaiting::FindCoordinator(Waiting { request }),
        context.patience(),
    )
}

impl Waiting {
    /// Whatever became of the topic, the image tells it.
    pub fn answer(&mut self, _answer: Answer) -> Progress {
        Progress::Done
    }

    /// Answers from the image as it is now.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        describe(context, envelope, self.request)
    }
}

fn describe(context: &Context<'_>, envelope: &Envelope, request: FindCoordinatorRequest) -> Step {
    let keys =
        if envelope.version < KEYS_SINCE { vec![request.key] } else { request.coordinator_keys };
    let found = keys.into_iter().map(|key| coordinator(context, envelope, request.key_type, key));
    let mut response = FindCoordinatorResponse::default();
    if envelope.version < KEYS_SINCE {
        for one in found {
            response.error_code = one.error_code;
            response.node_id = one.node_id;
            response.host = one.host;
            response.port = one.port;
            if envelope.version >= 1 {
                response.error_message = one.error_message;
            }
        }
    } else {
        response.coordinators = found.collect();
    }
    step::answer(envelope, &response)
}

fn coordinator(
    context: &Context<'_>,
    envelope: &Envelope,
    key_type: i8,
    key: StrBytes,
) -> Coordinator {
    let none =
        Coordinator::default().with_key(key.clone()).with_node_id(BrokerId(-1)).with_port(-1);
    let refuse = |code: ErrorCode, message: &'static str| {
        none.clone()
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
    };
    if key_type != GROUP {
        let is_not_allowed = key_type == TRANSACTION && envelope.version <= NOT_ALLOWED_UNTIL;
        let code = if is_not_allowed {
            ErrorCode::TransactionalIdAuthorizationFailed
        } else {
            ErrorCode::InvalidRequest
        };
        let why = "this broker coordinates consumer groups only; transactions are not served yet";
        return refuse(code, why);
    }
    let leader = context.group_log(&key).and_then(|log| context.leader(log)?.node);
    let endpoint = leader
        .and_then(|node| context.image.brokers.get(&node))
        .and_then(|broker| context.endpoint(broker, envelope));
    match (leader, endpoint) {
        (Some(node), Some(endpoint)) => Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(node.0))
            .with_host(StrBytes::from_string(endpoint.host.clone()))
            .with_port(i32::from(endpoint.port)),
        (Some(_) | None, _) => {
            refuse(ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorNotAvailable.message())
        }
    }
}

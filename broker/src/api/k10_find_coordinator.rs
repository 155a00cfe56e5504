//! FindCoordinator (key 10, versions 0–6): which broker coordinates a group or a transactional id.
//!
//! - The first question makes `__consumer_offsets` or `__transaction_state`; the answer waits for it
//!   (G100).
//! - Several keys per request from version 4 (KIP-699).
//!
//! Deviations: coordinators of share groups (type 2) are refused with INVALID_REQUEST, since this broker
//! serves none.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::find_coordinator_response::Coordinator;
use flumen_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes,
};

use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::shard::mailbox::Answer;
use crate::shard::routing::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

/// The key type of groups.
const GROUP: i8 = 0;

/// The key type of transactional ids.
const TRANSACTION: i8 = 1;

/// The first version with several keys.
const KEYS_SINCE: i16 = 4;

/// The topic that holds what is coordinated, by type of key.
fn topic_of(key_type: i8) -> Option<&'static str> {
    match key_type {
        GROUP => Some(OFFSETS_TOPIC),
        TRANSACTION => Some(TRANSACTIONS_TOPIC),
        _ => None,
    }
}

/// A request that waits for the topic of what is coordinated.
#[derive(Debug)]
pub struct Waiting {
    request: FindCoordinatorRequest,
}

/// Answers, or first makes the topic that groups or transactional ids live in.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<FindCoordinatorRequest>(envelope, frame, body) else {
        return Step::Close("malformed FindCoordinator request");
    };
    let missing =
        topic_of(request.key_type).filter(|topic| context.image.topic_named(topic).is_none());
    let Some(topic) = missing else {
        return describe(context, envelope, request);
    };
    let command = topics::creation(context, vec![topic.to_owned()]);
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
                // Kafka's word where nothing is wrong; from version 4 on there is none.
                let is_found = one.error_code == ErrorCode::None.code();
                response.error_message =
                    if is_found { Some(text("NONE")) } else { one.error_message };
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
    let log = match key_type {
        GROUP => context.group_log(&key),
        TRANSACTION => context.transaction_log(&key),
        _ => {
            let why = "this broker coordinates groups and transactions only";
            return refuse(ErrorCode::InvalidRequest, why);
        }
    };
    let leader = log.and_then(|log| context.leader(log)?.node);
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

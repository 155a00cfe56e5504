//! DescribeUserScramCredentials (key 50, version 0): which users have credentials for SCRAM.
//!
//! - Nobody has: there is no SASL. Asked for everybody, the answer is empty; asked for a user, it is
//!   RESOURCE_NOT_FOUND; for one that is named twice, DUPLICATE_RESOURCE, once.
//! - Kafka's `kafka-configs --describe --entity-type users` asks this beside the quotas of users, and
//!   fails where it is not served.
//!
//! Deviations: of the users only the first has a message beside its code; users come in the order of
//! their names. KIPs: 554.

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use flumen_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

use super::step::{self, Context, Envelope, Step, text};

/// What is said of a user, all of whom are unknown.
const UNKNOWN: (ErrorCode, &str) =
    (ErrorCode::ResourceNotFound, "Attempt to describe a user credential that does not exist");
/// What is said of one that is named more than once.
const TWICE: (ErrorCode, &str) = (
    ErrorCode::DuplicateResource,
    "Cannot describe SCRAM credentials for the same user twice in a single request",
);

/// Answers at once.
pub fn open(_context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let request = step::decode::<DescribeUserScramCredentialsRequest>(envelope, frame, body);
    let Some(request) = request else {
        return Step::Close("malformed DescribeUserScramCredentials request");
    };
    let mut refused = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        refused.entry(user.name).and_modify(|why| *why = TWICE).or_insert(UNKNOWN);
    }
    let results = refused.into_iter().enumerate().map(|(at, (user, (error, what)))| {
        // A sentence weighs far more than what naming a user does: the first one's will do.
        let message = (at == 0).then(|| text(format!("{what}: {}", user.as_str())));
        DescribeUserScramCredentialsResult::default()
            .with_error_code(error.code())
            .with_error_message(message)
            .with_user(user)
    });
    let response = DescribeUserScramCredentialsResponse::default();
    step::answer(envelope, &response.with_results(results.collect()))
}

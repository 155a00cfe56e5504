//! DescribeUserScramCredentials (key 50, version 0): which users have credentials for SCRAM.
//!
//! - Nobody has: there is no SASL. Asked for everybody, the answer is empty; asked for a user, it is
//!   RESOURCE_NOT_FOUND; for one that is named twice, DUPLICATE_RESOURCE, once.
//! - Kafka's `kafka-configs --describe --entity-type users` asks this beside the quotas of users, and
//!   fails where it is not served.
//!
//! Deviations: the codes come without Kafka's sentences, which only repeat the name; users come in the
//! order of their names. KIPs: 554.

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use flumen_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

use super::step::{self, Context, Envelope, Step};

/// Answers at once.
pub fn open(_context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let request = step::decode::<DescribeUserScramCredentialsRequest>(envelope, frame, body);
    let Some(request) = request else {
        return Step::Close("malformed DescribeUserScramCredentials request");
    };
    let mut errors = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        errors
            .entry(user.name)
            .and_modify(|error| *error = ErrorCode::DuplicateResource)
            .or_insert(ErrorCode::ResourceNotFound);
    }
    let results = errors.into_iter().map(|(user, error)| {
        DescribeUserScramCredentialsResult::default().with_user(user).with_error_code(error.code())
    });
    let response = DescribeUserScramCredentialsResponse::default();
    step::answer(envelope, &response.with_results(results.collect()))
}

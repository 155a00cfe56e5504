//! ApiVersions (key 18, versions 0–4): what this broker serves.
//!
//! - An unknown version is answered in the layout of version 0 with UNSUPPORTED_VERSION and the
//!   versions of this API alone; clients try again with those (KIP-511, G5).
//! - From version 3 the client's name and version must be well formed (G6).
//! - No features are announced: none is there, and clients act on their presence (G11–G13).
//!
//! Deviations: none.

use bytes::BytesMut;
use flumen_protocol::api_table::{ApiKey, ApiRow, TABLE};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::api_versions_response::ApiVersion;
use flumen_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::step::{self, Context, Envelope, Step};

/// The first version that names the client's software.
const SOFTWARE_SINCE: i16 = 3;

/// Answers at once.
pub fn open(_context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let row = ApiKey::ApiVersions.row();
    if !row.supports(envelope.version) {
        let lowest = Envelope { version: 0, ..envelope.clone() };
        return step::answer(&lowest, &refusal(ErrorCode::UnsupportedVersion));
    }
    let Some(request) = step::decode::<ApiVersionsRequest>(envelope, frame, body) else {
        return Step::Close("malformed ApiVersions request");
    };
    if envelope.version >= SOFTWARE_SINCE
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return step::answer(envelope, &refusal(ErrorCode::InvalidRequest));
    }
    let response = ApiVersionsResponse::default()
        .with_api_keys(TABLE.iter().map(entry).collect())
        .with_finalized_features_epoch(-1);
    step::answer(envelope, &response)
}

fn refusal(code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(code.code())
        .with_api_keys(vec![entry(ApiKey::ApiVersions.row())])
        .with_finalized_features_epoch(-1)
}

fn entry(row: &ApiRow) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(row.key.code())
        .with_min_version(row.advertised.min)
        .with_max_version(row.advertised.max)
}

/// Letters and digits, with dots and dashes inside (KIP-511).
fn is_software_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.bytes().all(inner) && outer(name.bytes().next()) && outer(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["librdkafka", "apache-kafka-java", "1.2.3", "a"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", ".1"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}

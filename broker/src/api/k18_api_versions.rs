//! ApiVersions (key 18, versions 0–4): what this broker serves.
//!
//! - An unknown version is answered in the layout of version 0 with UNSUPPORTED_VERSION and the
//!   versions of this API alone; clients try again with those (KIP-511, G5).
//! - From version 3 the client's name and version must be well formed (G6).
//! - From version 3 the features of the cluster are told: the levels this broker knows, the level
//!   in force, and as their epoch how many records of the cluster's log that was decided on
//!   (KIP-584). A lowest level of zero is left out below version 4, a level of zero always (G11).
//!
//! Deviations: `metadata.version`, `group.version` and `transaction.version` are the only features.
//! Clients act on the presence of the others, and what those promise (share groups, streams groups) is
//! not served.

use bytes::BytesMut;
use flumen_protocol::api_table::{ApiKey, ApiRow, TABLE};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use flumen_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use flumen_replication::metadata::features::{self, FEATURES};

use super::step::{self, Context, Envelope, Step, text};

/// The first version that names the client's software.
const SOFTWARE_SINCE: i16 = 3;

/// The first version with features.
const FEATURES_SINCE: i16 = 3;

/// The first version whose readers bear a lowest level of zero.
const ZERO_LEVELS_SINCE: i16 = 4;

/// Answers at once.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let row = ApiKey::ApiVersions.row();
    if !row.supports(envelope.version) {
        let lowest = Envelope { version: 0, ..envelope.clone() };
        let response = refusal(ErrorCode::UnsupportedVersion).with_api_keys(vec![entry(row)]);
        return step::answer(&lowest, &response);
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
    let response = if envelope.version < FEATURES_SINCE {
        response
    } else {
        with_features(response, context, envelope.version)
    };
    step::answer(envelope, &response)
}

fn with_features(
    response: ApiVersionsResponse,
    context: &Context<'_>,
    version: i16,
) -> ApiVersionsResponse {
    let bearable = FEATURES.iter().filter(|it| it.min > 0 || version >= ZERO_LEVELS_SINCE);
    let supported = bearable.map(|feature| {
        SupportedFeatureKey::default()
            .with_name(text(feature.name))
            .with_min_version(feature.min)
            .with_max_version(feature.max)
    });
    let levels = FEATURES.iter().map(|feature| (feature, features::level(context.image, feature)));
    let finalized = levels.filter(|(_, level)| *level > 0).map(|(feature, level)| {
        FinalizedFeatureKey::default()
            .with_name(text(feature.name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(i64::try_from(context.image.version).unwrap_or(i64::MAX))
}

fn refusal(code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(code.code()).with_finalized_features_epoch(-1)
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

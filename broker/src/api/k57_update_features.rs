//! UpdateFeatures (key 57, versions 0–2): change the levels that features of the cluster have.
//!
//! - All updates of a request happen or none: the first that is refused is the answer's own error,
//!   INVALID_UPDATE_VERSION with the reason, for unknown features and levels as well (KIP-778).
//! - From version 1 an update says whether the level may go down, and a request may only ask
//!   whether it could be carried out. Version 0 never goes down, whatever it says, as in Kafka 4.1.
//! - Accepted levels stand in the cluster's log before the answer leaves; ApiVersions tells them.
//!   Single results exist up to version 1.
//!
//! Deviations: only `metadata.version`, `group.version` and `transaction.version` are known, because
//! no other feature of Kafka's is served.
//! KIPs: 584, 778, 1022.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::update_features_request::FeatureUpdateKey;
use flumen_protocol::messages::update_features_response::UpdatableFeatureResult;
use flumen_protocol::messages::{StrBytes, UpdateFeaturesRequest, UpdateFeaturesResponse};
use flumen_replication::metadata::command::{Command, Direction, FeatureUpdate};

use super::refusals::{self, Refused};
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::Answer;

/// The first version whose updates name a direction.
const DIRECTIONS_SINCE: i16 = 1;

/// The last version with a result for each feature.
const RESULTS_UNTIL: i16 = 1;

/// Levels being changed: each feature, and until the controller has answered, a time-out.
#[derive(Debug)]
pub struct Waiting(Vec<(StrBytes, Result<(), Refused>)>);

/// Asks the controller.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<UpdateFeaturesRequest>(envelope, frame, body) else {
        return Step::Close("malformed UpdateFeatures request");
    };
    let waits = |update: &FeatureUpdateKey| {
        (update.feature.clone(), Err(ErrorCode::RequestTimedOut.into()))
    };
    let waiting = Waiting(request.feature_updates.iter().map(waits).collect());
    if waiting.0.is_empty() {
        return waiting.close(envelope);
    }
    let updates = request.feature_updates.iter().map(|update| FeatureUpdate {
        name: update.feature.to_string(),
        level: update.max_version_level,
        direction: direction(envelope, update),
    });
    let command = Command::UpdateFeatures {
        updates: updates.collect(),
        validate_only: request.validate_only,
    };
    let patience = step::patience(request.timeout_ms);
    step::control(context, command, AnyWaiting::UpdateFeatures(waiting), patience)
}

fn direction(envelope: &Envelope, update: &FeatureUpdateKey) -> Option<Direction> {
    if envelope.version < DIRECTIONS_SINCE {
        return Some(Direction::Upgrade);
    }
    match update.upgrade_type {
        1 => Some(Direction::Upgrade),
        2 => Some(Direction::SafeDowngrade),
        3 => Some(Direction::UnsafeDowngrade),
        _ => None,
    }
}

impl Waiting {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        let results = refusals::of_changes(answer, self.0.len());
        for (place, result) in self.0.iter_mut().zip(results) {
            place.1 = result;
        }
        Progress::Done
    }

    /// Answers for all features, or with the first refusal.
    pub fn close(self, envelope: &Envelope) -> Step {
        let refused = self.0.iter().find_map(|(_, result)| result.as_ref().err());
        let response = match refused {
            Some(refused) => UpdateFeaturesResponse::default()
                .with_error_code(refused.code.code())
                .with_error_message(Some(text(explained(refused)))),
            None => UpdateFeaturesResponse::default()
                .with_error_message(None)
                .with_results(self.results(envelope)),
        };
        step::answer(envelope, &response)
    }

    fn results(self, envelope: &Envelope) -> Vec<UpdatableFeatureResult> {
        if envelope.version > RESULTS_UNTIL {
            return Vec::new();
        }
        let done =
            |name| UpdatableFeatureResult::default().with_feature(name).with_error_message(None);
        self.0.into_iter().map(|(name, _)| done(name)).collect()
    }
}

fn explained(refused: &Refused) -> String {
    let why = refused.message.as_deref().unwrap_or_else(|| refused.code.message());
    if refused.code != ErrorCode::InvalidUpdateVersion {
        return why.to_owned();
    }
    format!("The update failed for all features since the following feature had an error: {why}")
}

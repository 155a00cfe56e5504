//! ListConfigResources (key 74, versions 0–1): the names of what has settings.
//!
//! - Topics, brokers, and groups that have settings of their own, of the types asked for; of all types if
//!   none is named. Version 0 knows only subscriptions of client metrics, and there are none.
//! - A type that nobody knows refuses the whole request (UNSUPPORTED_VERSION).
//!
//! Deviations: there are no settings of loggers, so no logger is listed. KIPs: 1000, 1142.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::list_config_resources_response::ConfigResource;
use flumen_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use flumen_replication::metadata::image::Image;

use super::step::{self, Context, Envelope, Step, text};

/// The first version that names types.
const TYPES_SINCE: i16 = 1;

/// A type of resource, by Kafka's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

const KINDS: [Kind; 5] =
    [Kind::Topic, Kind::Broker, Kind::BrokerLogger, Kind::ClientMetrics, Kind::Group];

/// Answers from the image.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ListConfigResourcesRequest>(envelope, frame, body) else {
        return Step::Close("malformed ListConfigResources request");
    };
    let asked = &request.resource_types;
    let known = |code: &i8| KINDS.iter().any(|kind| *kind as i8 == *code);
    let response = ListConfigResourcesResponse::default();
    if !asked.iter().all(known) {
        let code = ErrorCode::UnsupportedVersion.code();
        return step::answer(envelope, &response.with_error_code(code));
    }
    let is_asked = |kind: Kind| match envelope.version {
        TYPES_SINCE.. => asked.is_empty() || asked.contains(&(kind as i8)),
        _ => kind == Kind::ClientMetrics,
    };
    let mut resources = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| is_asked(*kind)) {
        let named = |name| {
            ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind as i8)
        };
        resources.extend(names(context.image, kind).into_iter().map(named));
    }
    step::answer(envelope, &response.with_config_resources(resources))
}

fn names(image: &Image, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Topic => image.topics().map(|topic| topic.name.clone()).collect(),
        Kind::Broker => image.brokers.keys().map(|id| id.0.to_string()).collect(),
        Kind::Group => image.group_configs.keys().cloned().collect(),
        Kind::BrokerLogger | Kind::ClientMetrics => Vec::new(),
    }
}

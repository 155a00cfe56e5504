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

use super::configured::ResourceType;
use super::step::{self, Context, Envelope, Step, text};

/// The first version that names types.
const TYPES_SINCE: i16 = 1;

/// Answers from the image.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<ListConfigResourcesRequest>(envelope, frame, body) else {
        return Step::Close("malformed ListConfigResources request");
    };
    let asked = &request.resource_types;
    let response = ListConfigResourcesResponse::default();
    if asked.iter().any(|number| ResourceType::of(*number).is_none()) {
        let code = ErrorCode::UnsupportedVersion.code();
        return step::answer(envelope, &response.with_error_code(code));
    }
    let is_asked = |kind: ResourceType| match envelope.version {
        TYPES_SINCE.. => asked.is_empty() || asked.contains(&kind.number()),
        _ => kind == ResourceType::ClientMetrics,
    };
    let mut resources = Vec::new();
    for kind in ResourceType::ALL.into_iter().filter(|kind| is_asked(*kind)) {
        let named = |name| {
            let resource = ConfigResource::default().with_resource_type(kind.number());
            resource.with_resource_name(text(name))
        };
        resources.extend(names(context.image, kind).into_iter().map(named));
    }
    step::answer(envelope, &response.with_config_resources(resources))
}

fn names(image: &Image, kind: ResourceType) -> Vec<String> {
    match kind {
        ResourceType::Topic => image.topics().map(|topic| topic.name.clone()).collect(),
        ResourceType::Broker => image.brokers.keys().map(|id| id.0.to_string()).collect(),
        ResourceType::Group => image.group_configs.keys().cloned().collect(),
        ResourceType::BrokerLogger | ResourceType::ClientMetrics => Vec::new(),
    }
}

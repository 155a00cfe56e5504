//! DescribeConfigs (key 32, versions 1–4): the settings of topics and of this broker.
//!
//! - Null or no keys mean all of them; keys nobody knows are left out silently (G16).
//! - Synonyms on request, types from version 3, documentation on request from version 3
//!   (KIP-226, KIP-569).
//! - A broker is named by its id; an empty name asks for what all brokers were given while running.
//! - Of several places that set a value the strongest is told as its source: this broker while
//!   running, all brokers while running, its file, the default.
//!
//! Deviations: a resource named twice is described once and refused with INVALID_REQUEST then, since
//! its settings weigh a thousand times what naming it does; for the same reason a broker's id must be
//! written as the broker writes it (Kafka takes `01` for 1); loggers have no settings here yet and are
//! refused with INVALID_REQUEST; groups have `consumer.*` only; a client-metrics subscription is
//! described as empty, since none can exist.
//! KIPs: 133, 226, 412, 569, 714, 848.

use std::collections::BTreeSet;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use flumen_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::configured::{ResourceType, broker_scope, check_group};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Step, text};
use super::topics;
use crate::config::describe::{Described, describe_broker, describe_shared, describe_topic};
use crate::config::dynamic::Scope;
use crate::config::group_settings;
use crate::config::topic::Overrides;

/// The first version with types and documentation.
const TYPES_SINCE: i16 = 3;

/// What of each setting is wanted.
struct Detail {
    types: bool,
    synonyms: bool,
    documentation: bool,
}

/// Answers from the image and the options.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeConfigsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeConfigs request");
    };
    let detail = Detail {
        types: envelope.version >= TYPES_SINCE,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let mut seen = BTreeSet::new();
    let results = request.resources.into_iter().map(|resource| {
        let is_first = seen.insert((resource.resource_type, resource.resource_name.clone()));
        let described = if is_first {
            lines(context, &resource)
        } else {
            Err(Refused::with(ErrorCode::InvalidRequest, "Each resource must appear at most once."))
        };
        let (code, message, lines) = match described {
            Ok(lines) => (ErrorCode::None, None, lines),
            Err(refused) => (refused.code, refused.message, Vec::new()),
        };
        let wanted = resource.configuration_keys.unwrap_or_default();
        let is_wanted =
            |line: &Described| wanted.is_empty() || wanted.iter().any(|key| key == line.name);
        let configs = lines.into_iter().filter(is_wanted).map(|line| shown(line, &detail));
        DescribeConfigsResult::default()
            .with_error_code(code.code())
            .with_error_message(message.map(text))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs.collect())
    });
    let results = results.collect();
    step::answer(envelope, &DescribeConfigsResponse::default().with_results(results))
}

fn lines(
    context: &Context<'_>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refused> {
    let invalid = |why: String| Refused::with(ErrorCode::InvalidRequest, why);
    let name = resource.resource_name.as_str();
    match ResourceType::of(resource.resource_type) {
        Some(ResourceType::Topic) => {
            topics::check_name(name)
                .map_err(|reason| Refused::with(ErrorCode::InvalidTopicException, reason))?;
            let topic =
                context.image.topic_named(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(describe_topic(context.options, &topic.configs))
        }
        Some(ResourceType::Broker) => Ok(match broker_scope(context, name)? {
            Scope::Own => describe_broker(context.options),
            Scope::Shared => describe_shared(context.options),
        }),
        Some(ResourceType::ClientMetrics) if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty".to_owned()))
        }
        Some(ResourceType::ClientMetrics) => Ok(Vec::new()),
        Some(ResourceType::BrokerLogger) => {
            Err(invalid("this broker has no loggers that can be described by name".to_owned()))
        }
        Some(ResourceType::Group) => {
            let none = Overrides::new();
            let own = context.image.group_configs.get(check_group(name)?);
            Ok(group_settings::describe(context.options, own.map_or(&none, |own| own)))
        }
        None => Err(invalid(format!("Unsupported resource type: {}", resource.resource_type))),
    }
}

fn shown(line: Described, detail: &Detail) -> DescribeConfigsResourceResult {
    let mut shown = DescribeConfigsResourceResult::default()
        .with_name(text(line.name))
        .with_value(line.value.map(text))
        .with_read_only(line.is_read_only)
        .with_config_source(line.source.code())
        .with_is_sensitive(line.is_sensitive);
    if detail.synonyms {
        let synonyms = line.synonyms.into_iter().map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(text(synonym.name))
                .with_value(synonym.value.map(text))
                .with_source(synonym.source.code())
        });
        shown.synonyms = synonyms.collect();
    }
    if detail.types {
        shown.config_type = line.value_type.code();
        shown.documentation = detail.documentation.then(|| text(line.documentation));
    } else {
        shown.documentation = None;
    }
    shown
}

//! AlterConfigs (key 33, versions 0–2): replace all settings of topics.
//!
//! - What the request does not name falls back to the broker (that is why Kafka deprecated it).
//! - Each resource and each setting may appear once; a null value is INVALID_REQUEST; an unknown
//!   name or a bad value is INVALID_CONFIG with the reason (G130).
//!
//! Deviations: settings of brokers cannot be changed while they run and are refused with
//! INVALID_REQUEST, as are loggers, groups and client metrics.
//! KIPs: 133.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::alter_configs_request::AlterableConfig;
use flumen_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use flumen_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use flumen_replication::metadata::image::Topic;

use super::configured::{Changes, Plan, Resource};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::config::topic::{Overrides, validate_all};
use crate::shard::mailbox::Answer;

/// Changes on their way to the controller.
#[derive(Debug)]
pub struct Waiting(Changes);

/// Checks every resource and asks the controller.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<AlterConfigsRequest>(envelope, frame, body) else {
        return Step::Close("malformed AlterConfigs request");
    };
    let resources = request.resources.iter();
    let resources =
        resources.map(|resource| (resource.resource_type, resource.resource_name.clone()));
    let mut plan = Plan::new(resources, request.validate_only);
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let names = resource.configs.iter();
        let names = names.map(|config| (config.name.as_str(), config.value.is_none()));
        plan.add(context, kind, name, names, |topic| change(context, topic, &resource.configs));
    }
    let waiting = |changes| AnyWaiting::AlterConfigs(Waiting(changes));
    plan.finish(context.patience(), waiting).unwrap_or_else(|results| encode(envelope, results))
}

/// A topic's settings are exactly those of the request.
fn change(
    context: &Context<'_>,
    _topic: &Topic,
    configs: &[AlterableConfig],
) -> Result<Overrides, Refused> {
    let given = configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
    let given: Overrides = given.collect();
    validate_all(context.options, &given)
        .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason))?;
    Ok(given)
}

impl Waiting {
    /// Takes the controller's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        self.0.answer(answer)
    }

    /// Answers for every resource.
    pub fn close(self, envelope: &Envelope) -> Step {
        encode(envelope, self.0.into_resources())
    }
}

fn encode(envelope: &Envelope, resources: Vec<Resource>) -> Step {
    let responses = resources.into_iter().map(|resource| {
        let mut response = AlterConfigsResourceResponse::default()
            .with_error_message(None)
            .with_resource_type(resource.kind)
            .with_resource_name(resource.name);
        if let Err(refused) = resource.result {
            response.error_code = refused.code.code();
            response.error_message = refused.message.map(text);
        }
        response
    });
    step::answer(envelope, &AlterConfigsResponse::default().with_responses(responses.collect()))
}

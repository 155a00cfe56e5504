//! IncrementalAlterConfigs (key 44, versions 0–1): change single settings of topics.
//!
//! - SET, DELETE, and for lists APPEND and SUBTRACT (KIP-339); what is not named stays.
//! - Each resource and each setting may appear once; a null value that is needed or an unknown
//!   operation is INVALID_REQUEST; an unknown name or a bad value is INVALID_CONFIG (G130).
//!
//! Deviations: settings of brokers cannot be changed while they run and are refused with
//! INVALID_REQUEST, as are loggers, groups and client metrics.
//! KIPs: 339.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use flumen_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use flumen_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use flumen_replication::metadata::image::Topic;

use super::configured::{Changes, Plan, Resource};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::config::topic::Overrides;
use crate::config::topic_change::{TopicChange, apply};
use crate::shard::mailbox::Answer;

/// Changes on their way to the controller.
#[derive(Debug)]
pub struct Waiting(Changes);

/// Checks every resource and asks the controller.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<IncrementalAlterConfigsRequest>(envelope, frame, body)
    else {
        return Step::Close("malformed IncrementalAlterConfigs request");
    };
    let resources = request.resources.iter();
    let resources =
        resources.map(|resource| (resource.resource_type, resource.resource_name.clone()));
    let mut plan = Plan::new(resources, request.validate_only);
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let names = resource.configs.iter();
        let names = names.map(|config| {
            let lacks_value = config.value.is_none() && config.config_operation != DELETE;
            (config.name.as_str(), lacks_value)
        });
        plan.add(context, kind, name, names, |topic| change(context, topic, &resource.configs));
    }
    let waiting = |changes| AnyWaiting::IncrementalAlterConfigs(Waiting(changes));
    plan.finish(context.patience(), waiting).unwrap_or_else(|results| encode(envelope, results))
}

/// The numbers of the operations.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A topic's settings after all changes of the request.
fn change(
    context: &Context<'_>,
    topic: &Topic,
    configs: &[AlterableConfig],
) -> Result<Overrides, Refused> {
    let mut changes = Vec::with_capacity(configs.len());
    for config in configs {
        let value = config.value.as_deref().unwrap_or_default();
        let change = match config.config_operation {
            SET => TopicChange::Set(value),
            DELETE => TopicChange::Delete,
            APPEND => TopicChange::Append(value),
            SUBTRACT => TopicChange::Subtract(value),
            other => {
                let why = format!("Unknown operations type {other}");
                return Err(Refused::with(ErrorCode::InvalidRequest, why));
            }
        };
        changes.push((config.name.as_str(), change));
    }
    apply(context.options, &topic.configs, &changes)
        .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason))
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
    step::answer(
        envelope,
        &IncrementalAlterConfigsResponse::default().with_responses(responses.collect()),
    )
}

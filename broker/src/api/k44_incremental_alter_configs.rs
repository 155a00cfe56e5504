//! IncrementalAlterConfigs (key 44, versions 0–1): change single settings of topics and
//! brokers.
//!
//! - SET, DELETE, and for lists APPEND and SUBTRACT (KIP-339); what is not named stays.
//! - Each resource and each setting may appear once; a null value that is needed or an unknown
//!   operation is INVALID_REQUEST; an unknown name or a bad value is INVALID_CONFIG (G130).
//! - A broker is named by its id; an empty name means all brokers (KIP-226). What cannot change while
//!   it runs and bad values are INVALID_REQUEST, as in Kafka.
//!
//! Deviations: settings of brokers that nobody knows are refused with INVALID_CONFIG, where Kafka
//! keeps them for plug-ins; listeners and what secures them do not change while a broker runs.
//! Loggers, groups and client metrics are refused with INVALID_REQUEST.
//! KIPs: 226, 339.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use flumen_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use flumen_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::configured::{Changes, Plan, Resource, Subject, of_fault};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::config::dynamic;
use crate::config::setting_change::{self, SettingChange};
use crate::config::topic::Overrides;
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
        plan.add(context, kind, name, names, |subject| change(context, subject, &resource.configs));
    }
    let waiting = |changes| AnyWaiting::IncrementalAlterConfigs(Waiting(changes));
    plan.finish(context.patience(), waiting).unwrap_or_else(|results| encode(envelope, results))
}

/// The numbers of the operations.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// The settings after all changes of the request.
fn change(
    context: &Context<'_>,
    subject: Subject<'_>,
    configs: &[AlterableConfig],
) -> Result<Overrides, Refused> {
    let mut changes = Vec::with_capacity(configs.len());
    for config in configs {
        let value = config.value.as_deref().unwrap_or_default();
        let change = match config.config_operation {
            SET => SettingChange::Set(value),
            DELETE => SettingChange::Delete,
            APPEND => SettingChange::Append(value),
            SUBTRACT => SettingChange::Subtract(value),
            other => {
                let why = format!("Unknown operations type {other}");
                return Err(Refused::with(ErrorCode::InvalidRequest, why));
            }
        };
        changes.push((config.name.as_str(), change));
    }
    match subject {
        Subject::Topic(topic) => setting_change::apply(context.options, &topic.configs, &changes)
            .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason)),
        Subject::Broker(scope) => {
            dynamic::apply(context.options, scope, &changes).map_err(of_fault)
        }
    }
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

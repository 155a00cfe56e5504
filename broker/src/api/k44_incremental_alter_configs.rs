//! IncrementalAlterConfigs (key 44, versions 0–1): change single settings of topics,
//! groups and brokers.
//!
//! - SET, DELETE, and for lists APPEND and SUBTRACT (KIP-339); what is not named stays.
//! - Each resource and each setting may appear once; a null value that is needed or an unknown
//!   operation is INVALID_REQUEST; an unknown name or a bad value is INVALID_CONFIG (G130).
//! - A broker is named by its id; an empty name means all brokers (KIP-226). What cannot change while
//!   it runs and bad values are INVALID_REQUEST, as in Kafka.
//!
//! Deviations: settings of brokers that nobody knows are refused with INVALID_CONFIG, where Kafka
//! keeps them for plug-ins; listeners and what secures them do not change while a broker runs.
//! Loggers and client metrics are refused with INVALID_REQUEST; groups have `consumer.*` only.
//! KIPs: 226, 339, 848 (groups).

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use flumen_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use flumen_protocol::time::Monotonic;

use super::configured::{Changes, Plan, Resource, Subject, Unnamed, of_fault};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::config::dynamic;
use crate::config::group_settings;
use crate::config::setting_change::{self, SettingChange};
use crate::config::topic::Overrides;
use crate::shard::mailbox::Answer;

/// Changes on their way to the controller.
#[derive(Debug)]
pub struct Waiting {
    changes: Changes,
    /// What is asked for, at the places of `changes`: if somebody else is faster it is done again.
    resources: Vec<AlterConfigsResource>,
    /// When there is no more time for that.
    deadline: Monotonic,
}

/// Checks every resource and asks the controller.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<IncrementalAlterConfigsRequest>(envelope, frame, body)
    else {
        return Step::Close("malformed IncrementalAlterConfigs request");
    };
    let resources = request.resources.iter();
    let keys = resources.map(|resource| (resource.resource_type, resource.resource_name.clone()));
    let mut plan = Plan::new(keys, Unnamed::Kept, request.validate_only);
    for resource in &request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        let change = |subject: Subject<'_>| change(context, subject, &resource.configs);
        plan.add(context, kind, name, names(resource), change);
    }
    let patience = context.patience();
    let deadline = context.now.monotonic.after(patience);
    let resources = request.resources;
    let waiting =
        |changes| AnyWaiting::IncrementalAlterConfigs(Waiting { changes, resources, deadline });
    plan.finish(context, patience, waiting).unwrap_or_else(|results| encode(envelope, results))
}

/// The settings that a resource of the request changes, each with whether it lacks a value.
fn names(resource: &AlterConfigsResource) -> impl Iterator<Item = (&str, bool)> {
    resource.configs.iter().map(|config| {
        let lacks_value = config.value.is_none() && config.config_operation != DELETE;
        (config.name.as_str(), lacks_value)
    })
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
        Subject::Group(group) => {
            let none = Overrides::new();
            let own = context.image.group_configs.get(group).map_or(&none, |own| own);
            group_settings::apply(context.options, own, &changes)
                .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason))
        }
        Subject::Broker(scope) => {
            dynamic::apply(context.options, scope, &changes).map_err(of_fault)
        }
    }
}

impl Waiting {
    /// Takes the controller's answer in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        self.changes.answer(answer)
    }

    /// Answers for every resource, once nobody else was faster. Of those who change one resource at
    /// the same time one gets through in every round, so that all of them do in the end.
    pub fn close(mut self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let left = self.deadline.since(context.now.monotonic);
        let outdated = self.changes.take_outdated();
        if outdated.is_empty() || left.is_zero() {
            return encode(envelope, self.changes.into_resources());
        }
        let Self { changes, resources, deadline } = self;
        let mut plan = Plan::again(changes);
        for place in outdated {
            let resource = &resources[place];
            let change = |subject: Subject<'_>| change(context, subject, &resource.configs);
            plan.change(context, place, names(resource), change);
        }
        let waiting =
            |changes| AnyWaiting::IncrementalAlterConfigs(Self { changes, resources, deadline });
        plan.finish(context, left, waiting).unwrap_or_else(|results| encode(envelope, results))
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

//! AlterConfigs (key 33, versions 0–2): replace all settings of topics, groups and brokers.
//!
//! - What the request does not name falls back to the broker (that is why Kafka deprecated it).
//! - Each resource and each setting may appear once; a null value is INVALID_REQUEST; an unknown
//!   name or a bad value is INVALID_CONFIG with the reason (G130).
//! - A broker is named by its id; an empty name means all brokers (KIP-226). What cannot change while
//!   it runs and bad values are INVALID_REQUEST, as in Kafka.
//!
//! Deviations: settings of brokers that nobody knows are refused with INVALID_CONFIG, where Kafka
//! keeps them for plug-ins; listeners and what secures them do not change while a broker runs.
//! Loggers and client metrics are refused with INVALID_REQUEST; groups have `consumer.*` only.
//! KIPs: 133, 226.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::alter_configs_request::AlterableConfig;
use flumen_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use flumen_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::configured::{Changes, Plan, Resource, Subject, Unnamed, of_fault};
use super::refusals::Refused;
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::config::dynamic::validate;
use crate::config::group_settings;
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
    let mut plan = Plan::new(resources, Unnamed::Dropped, request.validate_only);
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let names = resource.configs.iter();
        let names = names.map(|config| (config.name.as_str(), config.value.is_none()));
        plan.add(context, kind, name, names, |subject| change(context, subject, &resource.configs));
    }
    let waiting = |changes| AnyWaiting::AlterConfigs(Waiting(changes));
    plan.finish(context, context.patience(), waiting)
        .unwrap_or_else(|results| encode(envelope, results))
}

/// The settings are exactly those of the request.
fn change(
    context: &Context<'_>,
    subject: Subject<'_>,
    configs: &[AlterableConfig],
) -> Result<Overrides, Refused> {
    let given = configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
    let given: Overrides = given.collect();
    match subject {
        Subject::Topic(_) => validate_all(context.options, &given)
            .map(|()| given)
            .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason)),
        Subject::Group(_) => group_settings::validate(context.options, &given)
            .map(|()| given)
            .map_err(|reason| Refused::with(ErrorCode::InvalidConfig, reason)),
        Subject::Broker(scope) => validate(context.options, scope, given).map_err(of_fault),
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
    step::answer(envelope, &AlterConfigsResponse::default().with_responses(responses.collect()))
}

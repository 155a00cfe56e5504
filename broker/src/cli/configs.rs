//! Settings of topics and brokers.
//!
//! Does: read and change them.
//! Does not: know any setting's name.
//! Invariants: a change names single settings; all others stay as they are.
//! Apart because topics and brokers have settings alike.

use flumen_protocol::messages::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, StrBytes};

use super::cluster::Cluster;
use super::daily::{Change, ConfigsCommand, Whose};
use super::fault::{Fault, accept};
use super::listing::{Cell, Listing, Outcome};

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic by name.
    Topic(String),
    /// A broker by id; without one, what holds for all brokers.
    Broker(Option<i32>),
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) => 4,
        }
    }

    fn name(&self) -> StrBytes {
        match self {
            Self::Topic(name) => StrBytes::from_string(name.clone()),
            Self::Broker(id) => {
                StrBytes::from_string(id.map_or(String::new(), |id| id.to_string()))
            }
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Topic(name) => format!("topic {name}"),
            Self::Broker(Some(id)) => format!("broker {id}"),
            Self::Broker(None) => "all brokers".to_owned(),
        }
    }
}

/// `flumen cluster configs`.
///
/// # Errors
/// The first thing that failed.
pub fn run(cluster: &mut Cluster, command: &ConfigsCommand) -> Result<Outcome, Fault> {
    match command {
        ConfigsCommand::Describe { whose, all } => {
            of(cluster, &resource(whose), *all).map(Outcome::Listing)
        }
        ConfigsCommand::Alter { whose, change } => alter(cluster, &resource(whose), change),
    }
}

fn resource(whose: &Whose) -> Resource {
    Resource::Broker(whose.broker)
}

/// The settings of something; with `all` also those that have their default.
///
/// # Errors
/// As every question; a refusal.
pub fn of(cluster: &mut Cluster, resource: &Resource, all: bool) -> Result<Listing, Fault> {
    let wanted = DescribeConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(resource.name())
        .with_configuration_keys(None);
    let body = DescribeConfigsRequest::default().with_resources(vec![wanted]);
    let answer = ask(cluster, resource, &body)?;
    let columns = &["setting", "value", "source", "read_only"];
    let mut listing = Listing::new(columns);
    for result in answer.results {
        let message = result.error_message.as_deref().unwrap_or_default();
        accept(|| resource.in_words(), result.error_code, message)?;
        for config in result.configs {
            let is_own = match resource {
                Resource::Topic(_) => config.config_source == TOPIC_SOURCE,
                Resource::Broker(_) => config.config_source != DEFAULT_SOURCE,
            };
            if !all && !is_own {
                continue;
            }
            let value = if config.is_sensitive {
                Cell::from("(hidden)")
            } else {
                config.value.map(|value| value.to_string()).into()
            };
            listing.push(vec![
                config.name.to_string().into(),
                value,
                source(config.config_source),
                config.read_only.into(),
            ]);
        }
    }
    Ok(listing)
}

const TOPIC_SOURCE: i8 = 1;
const DEFAULT_SOURCE: i8 = 5;

fn source(code: i8) -> Cell {
    match code {
        TOPIC_SOURCE => "topic".into(),
        2 => "broker".into(),
        3 => "all brokers".into(),
        4 => "file".into(),
        DEFAULT_SOURCE => "default".into(),
        other => i32::from(other).into(),
    }
}

/// Sets and takes back settings of something.
///
/// # Errors
/// As every question; a refusal.
pub fn alter(
    cluster: &mut Cluster,
    resource: &Resource,
    change: &Change,
) -> Result<Outcome, Fault> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let named = |name: &String, operation| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_config_operation(operation)
    };
    let set = change.set.iter().map(|(name, value)| {
        named(name, SET).with_value(Some(StrBytes::from_string(value.clone())))
    });
    let deleted = change.delete.iter().map(|name| named(name, DELETE).with_value(None));
    let wanted = AlterConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(resource.name())
        .with_configs(set.chain(deleted).collect());
    let body = IncrementalAlterConfigsRequest::default().with_resources(vec![wanted]);
    for result in ask(cluster, resource, &body)?.responses {
        let message = result.error_message.as_deref().unwrap_or_default();
        accept(|| resource.in_words(), result.error_code, message)?;
    }
    let mut listing = Listing::new(&["setting", "value"]);
    for (name, value) in &change.set {
        listing.push(vec![name.as_str().into(), value.as_str().into()]);
    }
    for name in &change.delete {
        listing.push(vec![name.as_str().into(), Cell::Absent]);
    }
    Ok(Outcome::Done(format!("changed settings of {}", resource.in_words()), listing))
}

/// A broker's own settings are its own business; everything else any broker knows.
fn ask<T: flumen_protocol::messages::Request>(
    cluster: &mut Cluster,
    resource: &Resource,
    body: &T,
) -> Result<T::Response, Fault> {
    match resource {
        Resource::Broker(Some(id)) => {
            cluster.metadata(Some(&[]))?;
            cluster.ask(*id, body)
        }
        Resource::Topic(_) | Resource::Broker(None) => cluster.ask_any(body),
    }
}

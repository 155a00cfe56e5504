//! Changing settings: what AlterConfigs and IncrementalAlterConfigs share.
//!
//! Does: check resources, ask the controller for the topics and brokers among them, keep one result
//! each.
//! Does not: know how a request says what the settings shall be; the two rooms do.
//! Invariants: one result per resource of the request, in its order.
//! Apart because the two APIs differ only in how they say the new settings.
//!
//! The controller is given complete new settings. Those that replace all others need nothing more. A
//! change of single ones is made from the image of this moment, and says so: when somebody else was
//! faster the controller refuses it, and it is made again from what holds by then. So of two changes
//! at the same time both happen, as in Kafka, where the controller itself makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::StrBytes;
use flumen_replication::limits::GROUP_NAME_BYTES_MAX;
use flumen_replication::metadata::command::{
    Command, ConfigOwner, Configuration, MetadataRule, Outcome,
};
use flumen_replication::metadata::image::Topic;

use super::refusals::{self, Refused};
use super::step::{self, Context, Progress, Step};
use super::table::Waiting as AnyWaiting;
use super::topics;
use crate::config::dynamic::{Fault, Scope};
use crate::config::topic::Overrides;
use crate::shard::mailbox::Answer;

/// What settings can belong to, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ResourceType {
    /// A topic.
    Topic = 2,
    /// A broker, or all of them.
    Broker = 4,
    /// The loggers of a broker.
    BrokerLogger = 8,
    /// A subscription to metrics of clients.
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

impl ResourceType {
    /// All of them, by number.
    pub const ALL: [Self; 5] =
        [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group];

    /// The type of a number, if it has one.
    pub fn of(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its number.
    pub fn number(self) -> i8 {
        self as i8
    }
}

/// Whose settings the name of a broker resource means: an empty one, all brokers'. The words are those
/// of Kafka's DescribeConfigs.
///
/// # Errors
/// INVALID_REQUEST: no number, another broker's, or ours not written as we write it (`01`, `+1`).
pub fn broker_scope(context: &Context<'_>, name: &str) -> Result<Scope, Refused> {
    let invalid = |why| Err(Refused::with(ErrorCode::InvalidRequest, why));
    if name.is_empty() {
        return Ok(Scope::Shared);
    }
    let me = context.me.0.to_string();
    match name.parse::<i32>() {
        _ if name == me => Ok(Scope::Own),
        Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        // Also our own number in other digits: one broker has one name, or it could be described
        // and changed more than once in one request.
        Ok(_) => invalid(format!(
            "Unexpected broker id, expected {me} or empty string, but received {name}"
        )),
    }
}

/// The answer to settings of a broker that cannot be.
pub fn of_fault(fault: Fault) -> Refused {
    match fault {
        Fault::Unsettable(why) => Refused::with(ErrorCode::InvalidRequest, why),
        Fault::Senseless(why) => Refused::with(ErrorCode::InvalidConfig, why),
    }
}

/// What a change of settings is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'c> {
    /// This topic.
    Topic(&'c Topic),
    /// This broker or all of them.
    Broker(Scope),
    /// The group of this id, whether there is one or not.
    Group(&'c str),
}

/// One resource of a request and what became of it.
#[derive(Debug)]
pub struct Resource {
    /// Its type, as the request has it.
    pub kind: i8,
    /// Its name.
    pub name: StrBytes,
    /// Until the controller has answered, a time-out.
    pub result: Result<(), Refused>,
}

/// Changes on their way to the controller.
#[derive(Debug, Default)]
pub struct Changes {
    resources: Vec<Resource>,
    /// Which resources the controller was asked for, in its order.
    places: Vec<usize>,
    /// Those of them whose settings somebody else changed first.
    outdated: Vec<usize>,
}

/// Whether settings that a request does not name stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// They stay: the new settings are made from the old ones.
    Kept,
    /// They fall back to what is inherited.
    Dropped,
}

/// The changes of a request while it is being checked.
pub struct Plan {
    changes: Changes,
    wishes: Vec<Configuration>,
    counts: BTreeMap<(i8, StrBytes), usize>,
    unnamed: Unnamed,
    validate_only: bool,
}

impl Plan {
    /// Begins a plan for these resources, of which each may appear once.
    pub fn new(
        resources: impl Iterator<Item = (i8, StrBytes)>,
        unnamed: Unnamed,
        validate_only: bool,
    ) -> Self {
        let mut counts = BTreeMap::new();
        resources.for_each(|resource| *counts.entry(resource).or_insert(0) += 1);
        Self { changes: Changes::default(), wishes: Vec::new(), counts, unnamed, validate_only }
    }

    /// Begins a plan for what was outdated in these changes, to be named by [`Plan::change`].
    pub fn again(changes: Changes) -> Self {
        let changes = Changes { places: Vec::new(), ..changes };
        let (counts, wishes) = (BTreeMap::new(), Vec::new());
        Self { changes, wishes, counts, unnamed: Unnamed::Kept, validate_only: false }
    }

    /// Adds one resource. `names` are the settings it changes, each with whether it lacks a value
    /// it needs; `change` makes the new settings.
    pub fn add<'n>(
        &mut self,
        context: &Context<'_>,
        kind: i8,
        name: StrBytes,
        names: impl Iterator<Item = (&'n str, bool)>,
        change: impl FnOnce(Subject<'_>) -> Result<Overrides, Refused>,
    ) {
        let (place, result) =
            (self.changes.resources.len(), Err(ErrorCode::RequestTimedOut.into()));
        self.changes.resources.push(Resource { kind, name, result });
        self.change(context, place, names, change);
    }

    /// Plans the change of the resource at a place, as [`Plan::add`] does.
    pub fn change<'n>(
        &mut self,
        context: &Context<'_>,
        place: usize,
        names: impl Iterator<Item = (&'n str, bool)>,
        change: impl FnOnce(Subject<'_>) -> Result<Overrides, Refused>,
    ) {
        let Resource { kind, name, .. } = &self.changes.resources[place];
        let planned = self.check(context, *kind, name, names).and_then(|subject| {
            let based_on = match self.unnamed {
                Unnamed::Kept => Some(standing(context, subject)),
                Unnamed::Dropped => None,
            };
            let (owner, configs) = (owner(context, subject), change(subject)?);
            Ok(Configuration { owner, configs, based_on, validate_only: self.validate_only })
        });
        match planned {
            Ok(wish) => {
                self.changes.places.push(place);
                self.wishes.push(wish);
            }
            Err(refused) => self.changes.resources[place].result = Err(refused),
        }
    }

    fn check<'c, 'n>(
        &self,
        context: &'c Context<'_>,
        kind: i8,
        name: &'c StrBytes,
        names: impl Iterator<Item = (&'n str, bool)>,
    ) -> Result<Subject<'c>, Refused> {
        let invalid = |why: String| Refused::with(ErrorCode::InvalidRequest, why);
        if self.counts.get(&(kind, name.clone())).is_some_and(|count| *count > 1) {
            return Err(invalid("Each resource must appear at most once.".to_owned()));
        }
        let mut seen = BTreeSet::new();
        let mut nulls = Vec::new();
        for (setting, lacks_value) in names {
            if !seen.insert(setting) {
                return Err(invalid("Error due to duplicate config keys".to_owned()));
            }
            nulls.extend(lacks_value.then_some(setting));
        }
        if !nulls.is_empty() {
            return Err(invalid(format!("Null value not supported for : {}", nulls.join(", "))));
        }
        match ResourceType::of(kind) {
            Some(ResourceType::Topic) => find_topic(context, name).map(Subject::Topic),
            Some(ResourceType::Broker) => broker_scope(context, name).map(Subject::Broker),
            Some(ResourceType::Group) => check_group(name).map(Subject::Group),
            Some(ResourceType::BrokerLogger | ResourceType::ClientMetrics) => Err(invalid(
                "this broker has only settings of topics, groups and brokers to change".to_owned(),
            )),
            None => Err(invalid(format!("Unknown resource type {kind}"))),
        }
    }

    /// Asks the controller, if there is anything left to ask.
    ///
    /// # Errors
    /// The results, if nothing is left.
    pub fn finish(
        self,
        context: &Context<'_>,
        patience: Duration,
        waiting: impl FnOnce(Changes) -> AnyWaiting,
    ) -> Result<Step, Vec<Resource>> {
        if self.wishes.is_empty() {
            return Err(self.changes.resources);
        }
        let command = Command::Configure(self.wishes);
        Ok(step::control(context, command, waiting(self.changes), patience))
    }
}

fn owner(context: &Context<'_>, subject: Subject<'_>) -> ConfigOwner {
    match subject {
        Subject::Topic(topic) => ConfigOwner::Topic(topic.name.clone()),
        Subject::Group(group) => ConfigOwner::Group(group.to_owned()),
        Subject::Broker(Scope::Own) => ConfigOwner::Broker(context.me),
        Subject::Broker(Scope::Shared) => ConfigOwner::AllBrokers,
    }
}

/// The own settings of a topic, group or broker in the image.
fn standing(context: &Context<'_>, subject: Subject<'_>) -> Overrides {
    let of_node = |node| context.image.broker_configs.get(&node);
    let shared = match subject {
        Subject::Topic(topic) => return topic.configs.clone(),
        Subject::Group(group) => context.image.group_configs.get(group),
        Subject::Broker(Scope::Own) => of_node(Some(context.me)),
        Subject::Broker(Scope::Shared) => of_node(None),
    };
    shared.map(|configs| Overrides::clone(configs)).unwrap_or_default()
}

/// Whether a group of this id can have settings.
///
/// # Errors
/// INVALID_REQUEST for no id, and for one that no group can have.
pub fn check_group(name: &str) -> Result<&str, Refused> {
    if name.is_empty() {
        return Err(Refused::with(
            ErrorCode::InvalidRequest,
            "Default group resources are not allowed.",
        ));
    }
    if name.len() > GROUP_NAME_BYTES_MAX {
        return Err(Refused::with(ErrorCode::InvalidRequest, "The group id is too long."));
    }
    Ok(name)
}

fn find_topic<'c>(context: &'c Context<'_>, name: &str) -> Result<&'c Topic, Refused> {
    if name.is_empty() {
        return Err(Refused::with(
            ErrorCode::InvalidRequest,
            "Default topic resources are not allowed.",
        ));
    }
    topics::check_name(name)
        .map_err(|reason| Refused::with(ErrorCode::InvalidTopicException, reason))?;
    let topic = context.image.topic_named(name).ok_or_else(|| {
        let why = format!("The topic '{name}' does not exist.");
        Refused::with(ErrorCode::UnknownTopicOrPartition, why)
    })?;
    Ok(topic)
}

impl Changes {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Control(outcome) = &answer
            && let Outcome::Changed(results) = &**outcome
        {
            let outdated = self.places.iter().zip(results).filter(|(_, result)| {
                matches!(result, Err(refusal) if refusal.kind == MetadataRule::Outdated)
            });
            self.outdated = outdated.map(|(place, _)| *place).collect();
        }
        let results = refusals::of_changes(answer, self.places.len());
        for (place, result) in self.places.iter().zip(results) {
            self.resources[*place].result = result;
        }
        Progress::Done
    }

    /// Takes out at which places somebody else was faster, so that nothing was changed.
    pub fn take_outdated(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.outdated)
    }

    /// The results, in the request's order.
    pub fn into_resources(self) -> Vec<Resource> {
        self.resources
    }
}

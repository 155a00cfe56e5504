//! DeleteTopics (key 20, versions 1–6): remove topics with their records.
//!
//! - By name up to version 5, by name or id in version 6 (KIP-516); never by both.
//! - A topic given twice, by name or id and whether it exists or not, is answered once, with
//!   INVALID_REQUEST, and not deleted.
//! - With `delete.topic.enable=false` every topic answers TOPIC_DELETION_DISABLED, before
//!   version 3 INVALID_REQUEST.
//!
//! Deviations: answers come in the order of the request; Kafka shuffles them to hide topics a
//! client may not see, and here everybody may see everything.
//! KIPs: 322 (disabled deletion), 516, 599 (messages from version 5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::TopicId;
use flumen_protocol::messages::delete_topics_request::DeleteTopicState;
use flumen_protocol::messages::delete_topics_response::DeletableTopicResult;
use flumen_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName, Uuid};
use flumen_replication::metadata::command::Command;
use flumen_replication::metadata::image::Topic;

use super::refusals::{self, Refused};
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::Answer;

/// The first version with messages.
const MESSAGE_SINCE: i16 = 5;

/// The first version with ids.
const IDS_SINCE: i16 = 6;

/// The first version whose clients know that they may have to wait (KIP-599).
const STRICT_SINCE: i16 = 5;

/// The first version that knows TOPIC_DELETION_DISABLED.
const DISABLED_SINCE: i16 = 3;

/// A topic of the request.
#[derive(Debug)]
struct Item {
    name: Option<TopicName>,
    id: Uuid,
    by_name: bool,
    /// What became of it; until the controller has answered, a time-out.
    result: Result<(), Refused>,
}

/// Topics being deleted.
#[derive(Debug)]
pub struct Waiting {
    items: Vec<Item>,
    /// Which items the controller was asked for, in its order.
    places: Vec<usize>,
}

/// Finds the topics and asks the controller to remove them.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DeleteTopicsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DeleteTopics request");
    };
    let named = request.topic_names.into_iter();
    let named = named.map(|name| DeleteTopicState::default().with_name(Some(name)));
    let asked: Vec<_> = named.chain(request.topics).collect();
    let counts = counted(context, &asked);
    let mut answered = BTreeSet::new();
    let mut waiting = Waiting { items: Vec::new(), places: Vec::new() };
    let mut ids = Vec::new();
    for asked in asked {
        let meant = meant(context, &asked);
        if meant.as_ref().is_some_and(|meant| !answered.insert(meant.clone())) {
            continue;
        }
        let is_repeated = meant.is_some_and(|meant| counts[&meant] > 1);
        let found = find(context, envelope, &asked, is_repeated).and_then(|(id, name)| {
            let partitions = context.image.topic(id).map_or(0, |topic| topic.partitions.len());
            context.count_mutations(envelope, partitions, STRICT_SINCE).map(|()| (id, name))
        });
        let by_name = asked.name.is_some();
        let item = match found {
            Ok((id, name)) => {
                waiting.places.push(waiting.items.len());
                ids.push(id);
                let name = Some(TopicName(text(name)));
                let result = Err(ErrorCode::RequestTimedOut.into());
                Item { name, id: id.into(), by_name, result }
            }
            Err(refused) => {
                Item { name: asked.name, id: asked.topic_id, by_name, result: Err(refused) }
            }
        };
        waiting.items.push(item);
    }
    if ids.is_empty() {
        return waiting.close(envelope);
    }
    step::control(
        context,
        Command::DeleteTopics(ids),
        AnyWaiting::DeleteTopics(waiting),
        step::patience(request.timeout_ms),
    )
}

/// What one item of a request speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meant {
    /// A topic that exists, by whatever it was called.
    Topic(TopicId),
    /// A name that leads nowhere.
    Name(TopicName),
    /// An id that leads nowhere.
    Id(Uuid),
}

/// The topic meant; `None` for an item that names none, or one in both ways.
fn meant(context: &Context<'_>, asked: &DeleteTopicState) -> Option<Meant> {
    let known = |topic: &Arc<Topic>| Meant::Topic(topic.id);
    match (&asked.name, asked.topic_id.is_nil()) {
        (None, true) | (Some(_), false) => None,
        (Some(name), true) => {
            let topic = context.image.topic_named(name).map(known);
            Some(topic.unwrap_or_else(|| Meant::Name(name.clone())))
        }
        (None, false) => {
            let topic = context.image.topic(TopicId::from(asked.topic_id)).map(known);
            Some(topic.unwrap_or(Meant::Id(asked.topic_id)))
        }
    }
}

/// How often each topic is asked for, whether by name or by id.
fn counted(context: &Context<'_>, asked: &[DeleteTopicState]) -> BTreeMap<Meant, usize> {
    let mut counts = BTreeMap::new();
    for meant in asked.iter().filter_map(|asked| meant(context, asked)) {
        *counts.entry(meant).or_insert(0) += 1;
    }
    counts
}

fn find(
    context: &Context<'_>,
    envelope: &Envelope,
    asked: &DeleteTopicState,
    is_repeated: bool,
) -> Result<(TopicId, String), Refused> {
    if !context.options.delete_topic_enable {
        let code = if envelope.version < DISABLED_SINCE {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        };
        return Err(Refused::with(code, "Topic deletion is disabled."));
    }
    let invalid = |why: &str| Err(Refused::with(ErrorCode::InvalidRequest, why));
    if is_repeated {
        let what = if asked.name.is_some() { "name" } else { "id" };
        return invalid(&format!("Duplicate topic {what}."));
    }
    match meant(context, asked) {
        None if asked.name.is_none() => invalid("Neither topic name nor id were specified."),
        None => invalid("You may not specify both topic name and topic id."),
        Some(Meant::Name(_)) => Err(ErrorCode::UnknownTopicOrPartition.into()),
        Some(Meant::Id(_)) => Err(ErrorCode::UnknownTopicId.into()),
        Some(Meant::Topic(id)) => {
            let topic = context.image.topic(id).expect("it was just found");
            Ok((id, topic.name.clone()))
        }
    }
}

impl Waiting {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        let results = refusals::of_changes(answer, self.places.len());
        for (place, result) in self.places.iter().zip(results) {
            let item = &mut self.items[*place];
            item.result = result.map_err(|refused| match refused.code {
                // Somebody else was quicker; whoever asked by name hears of names.
                ErrorCode::UnknownTopicId if item.by_name => {
                    Refused { code: ErrorCode::UnknownTopicOrPartition, ..refused }
                }
                _ => refused,
            });
        }
        Progress::Done
    }

    /// Answers for every topic.
    pub fn close(self, envelope: &Envelope) -> Step {
        let responses = self.items.into_iter().map(|item| {
            let mut result = DeletableTopicResult::default().with_name(item.name);
            if envelope.version >= IDS_SINCE {
                result.topic_id = item.id;
            }
            if let Err(refused) = item.result {
                result.error_code = refused.code.code();
                if envelope.version >= MESSAGE_SINCE {
                    result.error_message = refused.message.map(text);
                }
            }
            result
        });
        let responses = responses.collect();
        step::answer(envelope, &DeleteTopicsResponse::default().with_responses(responses))
    }
}

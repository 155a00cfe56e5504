//! What an API may ask for: the words between the API rooms and the shard.
//!
//! Does: name the caller, the context an API may look at, and the steps it may take.
//! Does not: carry any step out.
//! Invariants: a request is at any time either answered or waiting with a list of open parts.
//! Apart because `api` must not see the shard, nor the shard the APIs' insides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{CoreId, LogId, NodeId, TopicId};
use flumen_protocol::messages::{self, Encodable, Request, StrBytes};
use flumen_protocol::time::Now;
use flumen_replication::dice::Dice;
use flumen_replication::metadata::command::Command;
use flumen_replication::metadata::image::{Broker, Endpoint, Image};

use tracing::debug;

use super::fetch_session::FetchSessions;
use super::k00_produce::Opening;
use super::table::Waiting;
use crate::config::options::Options;
use crate::config::topic::TopicSettings;
use crate::quota::ledger::Ledger;
use crate::shard::early::EarlyBatches;
use crate::shard::mailbox::{Leader, Question};
use crate::shard::producer_ids::ProducerIds;
use crate::shard::routing::{self, Leaders};
use crate::shard::settings::Settings;
use crate::telemetry::metrics::Metrics;

/// A request's envelope: what its header and connection say.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Which API.
    pub key: ApiKey,
    /// In which version.
    pub version: i16,
    /// What the answer must repeat.
    pub correlation_id: i32,
    /// What the client calls itself; empty if nothing.
    pub client_id: String,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Position of the listener it came in on.
    pub listener: usize,
}

/// What an API may look at while it opens or closes a request.
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Now,
    /// The node's settings.
    pub options: &'a Options,
    /// The topics and brokers there are.
    pub image: &'a Arc<Image>,
    /// The effective settings of every topic.
    pub settings: &'a Settings,
    /// Who leads.
    pub leaders: &'a Leaders,
    /// This node.
    pub me: NodeId,
    /// The cluster's identity as clients see it.
    pub cluster_id: &'a str,
    /// How many cores this node has.
    pub cores: u16,
    /// Chance.
    pub dice: &'a mut Dice,
    /// How large the answer to a fetch may be now.
    pub answer_bytes_max: usize,
    /// Producer ids this core may hand out.
    pub producer_ids: &'a mut ProducerIds,
    /// Batches that came before their partitions.
    pub early: &'a mut EarlyBatches,
    /// The fetch sessions of this core.
    pub sessions: &'a mut FetchSessions,
    /// What clients with quotas have spent.
    pub quotas: &'a mut Ledger,
    /// The counters of this core.
    pub metrics: &'a mut Metrics,
}

impl Context<'_> {
    /// Who leads a partition, if it is known.
    pub fn leader(&self, log: LogId) -> Option<&Leader> {
        self.leaders.get(log)
    }

    /// What holds for a topic of the image.
    pub fn settings(&self, topic: TopicId) -> &TopicSettings {
        self.settings.of(topic)
    }

    /// The partition of the offsets topic that holds a group, if that topic exists.
    pub fn group_log(&self, group: &str) -> Option<LogId> {
        let topic = self.image.topic_named(routing::OFFSETS_TOPIC)?;
        topic.log(routing::coordinator_partition(group, topic.partitions.len()))
    }

    /// The partition of the topic of transactions that holds a transactional id, if that topic exists.
    pub fn transaction_log(&self, id: &str) -> Option<LogId> {
        let topic = self.image.topic_named(routing::TRANSACTIONS_TOPIC)?;
        topic.log(routing::coordinator_partition(id, topic.partitions.len()))
    }

    /// How long a request waits whose version has no time-out of its own.
    pub fn patience(&self) -> Duration {
        patience(self.options.request_timeout_ms)
    }

    /// Where the client of this request reaches a broker: the endpoint of the listener it used
    /// (G39). A node's listeners may share a name on several addresses; the position tells.
    pub fn endpoint<'b>(&self, broker: &'b Broker, envelope: &Envelope) -> Option<&'b Endpoint> {
        let listener = self.options.listeners.get(envelope.listener)?;
        let has_name = |endpoint: &&Endpoint| endpoint.listener == listener.name;
        let same_place = broker.endpoints.get(envelope.listener).filter(has_name);
        same_place.or_else(|| broker.endpoints.iter().find(has_name))
    }
}

/// What to do next for a request.
#[derive(Debug)]
pub enum Step {
    /// Answer, now.
    Answer(Vec<Bytes>),
    /// Close the connection: the request has no answer in the protocol. Says why, for the log.
    Close(&'static str),
    /// Close the connection of a producer without acks: a batch of it was not appended.
    CloseUnacknowledged,
    /// Wait for answers.
    Wait(Wait),
    /// Give way: a produce request has large batches that must be looked into. It goes on in the next
    /// turn.
    Inspect(Box<Opening>),
}

/// A request that waits.
#[derive(Debug)]
pub struct Wait {
    /// What is known so far.
    pub waiting: Waiting,
    /// What to ask; the position is the part's number.
    pub parts: Vec<Part>,
    /// When to answer with what is there; `None`: every part answers in its own time.
    pub patience: Option<Duration>,
}

/// One question of a request.
#[derive(Debug)]
pub struct Part {
    /// Its number, as the answer will carry it.
    pub number: u32,
    /// Whom.
    pub to: Addressee,
    /// What.
    pub question: Question,
}

/// Who answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The core that owns this partition.
    Owner(LogId),
    /// The core of the controller.
    Controller,
    /// This core, as such.
    Core(CoreId),
}

/// What an answered part changed.
#[derive(Debug)]
pub enum Progress {
    /// More parts are open.
    Open,
    /// Everything is known.
    Done,
    /// These questions must be asked too.
    Ask(Vec<Part>),
    /// These questions must be asked too, and from now on the request waits only so long, counted
    /// from its arrival.
    AskWithin(Vec<Part>, Duration),
}

/// Asks the controller and waits for what it says; so long the command may wait, too.
pub fn control(
    context: &Context<'_>,
    command: Command,
    waiting: Waiting,
    patience: Duration,
) -> Step {
    let parts = vec![asked_of_controller(context, command, patience)];
    Step::Wait(Wait { waiting, parts, patience: Some(patience) })
}

/// Asks the controller and does not wait: the request is answered with what is there. The command may
/// take as long as one that is waited for.
pub fn command(context: &Context<'_>, command: Command, waiting: Waiting) -> Step {
    let parts = vec![asked_of_controller(context, command, context.patience())];
    Step::Wait(Wait { waiting, parts, patience: Some(Duration::ZERO) })
}

fn asked_of_controller(context: &Context<'_>, command: Command, patience: Duration) -> Part {
    let deadline = context.now.monotonic.after(patience);
    let question = Question::Control { command: Box::new(command), deadline };
    Part { number: 0, to: Addressee::Controller, question }
}

/// Decodes a request's body behind the layout check; `None` when it is malformed.
pub fn decode<T: Request>(envelope: &Envelope, mut frame: BytesMut, body: usize) -> Option<T> {
    frame.advance(body);
    let decoded = messages::decode_request(envelope.key, envelope.version, &mut frame.freeze());
    decoded
        .inspect_err(|error| {
            // The connection is closed with a line of its own; a client may bring about any number.
            debug!(key = ?envelope.key, version = envelope.version, ?error, "malformed request");
        })
        .ok()
}

/// Encodes an answer. One that cannot be encoded closes the connection: it sets a field its version
/// does not have (our own bug, found by the tests that encode every answer at every version), or is
/// larger than a frame can be, which a client can bring about.
pub fn answer(envelope: &Envelope, response: &impl Encodable) -> Step {
    let (version, correlation_id) = (envelope.version, envelope.correlation_id);
    match messages::encode_response(envelope.key, version, correlation_id, response) {
        Ok(bytes) => Step::Answer(vec![bytes]),
        Err(error) => {
            debug!(key = ?envelope.key, version, %error, "an answer cannot be encoded");
            Step::Close("its answer cannot be encoded")
        }
    }
}

/// How long a request waits that says so itself; a negative time is none.
pub fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// Text for a message.
pub fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

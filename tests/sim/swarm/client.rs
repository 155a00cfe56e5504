//! What all clients have in common: a line to the node, questions on it, and what they want done.
//!
//! Does: write requests, read answers, keep both in order.
//! Does not: know what a client is for.
//! Invariants: answers come in the order of their questions, each with its correlation id; a client has one
//! connection at a time.
//! Apart so that each client reads as what it does.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{self, Request, StrBytes, TopicName};
use flumen_storage::sim_disk::Dice;

use super::heap::{MILLIS, Nanos};
use super::history::{Happening, History, Place, Since};

/// Partitions a topic of a life begins with.
pub const PARTITIONS: i32 = 3;
/// And how many it may have in the end.
pub const PARTITIONS_MAX: i32 = 5;
/// The topics of a life: the first is strict, the second as the plan says, the third is compacted.
pub const TOPICS: [&str; 3] = ["orders", "clicks", "table"];
/// The third.
pub const TABLE: u8 = 2;

/// A client's request to the world.
pub enum Deed {
    /// Connect, to any core.
    Connect,
    /// Send this.
    Send(Bytes),
    /// Close the connection.
    HangUp,
    /// Wake me then.
    WakeAt(Nanos),
}

/// What a client may use while it acts.
pub struct Context<'a> {
    pub now: Nanos,
    pub dice: &'a mut Dice,
    pub history: &'a mut History,
    pub deeds: Vec<Deed>,
    /// The time of trouble is over: finish.
    pub is_over: bool,
    /// How many partitions the first topic is known to have.
    pub partitions: &'a mut i32,
}

impl Context<'_> {
    /// Wakes the client after so long.
    pub fn wake_in(&mut self, time: Nanos) {
        self.deeds.push(Deed::WakeAt(self.now + time));
    }

    /// Notes that something is asked; what is told refers to it.
    pub fn ask(&mut self) -> Since {
        self.history.note(Happening::Asked)
    }
}

/// A client's line to the node. `Q` is what it can ask.
pub struct Line<Q> {
    /// A connection is there, or asked for and not refused yet.
    is_up: bool,
    next: i32,
    open: VecDeque<(i32, Q)>,
    /// Since when it waits for the first of the open answers.
    since: Nanos,
}

/// How long a client waits for an answer before it gives the connection up. Longer than any hang.
pub const PATIENCE: Nanos = 40_000 * MILLIS;

impl<Q> Line<Q> {
    /// A line that was never up.
    pub fn new() -> Self {
        Self { is_up: false, next: 0, open: VecDeque::new(), since: 0 }
    }

    /// How many answers are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Sends a request.
    pub fn send<T: Request>(
        &mut self,
        context: &mut Context<'_>,
        (key, version): (ApiKey, i16),
        request: &T,
        question: Q,
    ) {
        if !self.is_up {
            self.is_up = true;
            context.deeds.push(Deed::Connect);
        }
        if self.open.is_empty() {
            self.since = context.now;
        }
        let frame = messages::encode_request(key, version, self.next, Some("swarm"), request);
        context.deeds.push(Deed::Send(frame.expect("the client's request can be written")));
        self.open.push_back((self.next, question));
        self.next += 1;
    }

    /// The question that this frame answers, and the frame.
    pub fn answered(&mut self, now: Nanos, frame: Bytes) -> (Q, Answer) {
        let (correlation, question) = self.open.pop_front().expect("nobody answers unasked");
        self.since = now;
        (question, Answer { correlation, payload: frame.slice(4..) })
    }

    /// The connection is gone: the questions nobody will answer.
    pub fn closed(&mut self) -> Vec<Q> {
        self.is_up = false;
        self.open.drain(..).map(|(_, question)| question).collect()
    }

    /// Gives the connection up if its answers are overdue.
    pub fn mind_patience(&self, context: &mut Context<'_>) {
        if !self.open.is_empty() && context.now > self.since + PATIENCE {
            context.deeds.push(Deed::HangUp);
        }
    }
}

/// An answer that is not read yet.
pub struct Answer {
    correlation: i32,
    payload: Bytes,
}

impl Answer {
    /// Reads it.
    pub fn read<T: Request>(self, (key, version): (ApiKey, i16)) -> T::Response {
        let (correlation, response) = messages::decode_response::<T>(key, version, self.payload)
            .expect("the broker's answer can be read");
        assert_eq!(correlation, self.correlation, "answers come in order");
        response
    }
}

/// A string as messages have it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as messages have it.
pub fn topic_name(place: Place) -> TopicName {
    TopicName(text(TOPICS[usize::from(place.topic)]))
}

/// The code as a name, or a number nobody knows.
pub fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| panic!("{code} is no error code"))
}

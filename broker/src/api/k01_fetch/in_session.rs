//! A Fetch as a step of a session: what it looks at and what it tells (KIP-227).
//!
//! Does: begin, resume and leave sessions as a request says; look at what is due; take news in while
//! the request waits; leave out of the answer what the client knows.
//! Does not: keep sessions; `fetch_session` does.
//! Invariants: an answer in a session names a partition only if there is news of it, but for the
//! first, which names all.
//! Apart from a Fetch without a session because those are most, and pay for nothing of this.

use std::collections::BTreeMap;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::fetch::{FetchRequest, FetchTopicResponse};
use flumen_protocol::ids::{Offset, TopicId};

use super::{Waiting, Wanted, nothing_of, question};
use crate::api::fetch_session::{
    Due, EPOCH_FINAL, EPOCH_INITIAL, FetchSessions, TopicKey, next_epoch,
};
use crate::api::step::{Context, Progress};
use crate::shard::mailbox::{Change, Follower};

/// The session of a request that is open.
#[derive(Debug)]
pub(super) struct InSession {
    id: i32,
    /// What the session's epoch is as long as no further step was taken.
    epoch: i32,
    /// Whether the answer names every partition.
    is_first: bool,
    /// As owners know it, but for the slot.
    follower: Follower,
    committed_only: bool,
    /// The slots of the answer's partitions, in their order.
    slots: Vec<u32>,
    /// The part that asks for a slot.
    parts: BTreeMap<u32, usize>,
}

/// Finds the session of a request; `None` without one.
///
/// # Errors
/// There is no such session or step. The client begins anew.
pub(super) fn enter(
    context: &mut Context<'_>,
    request: &FetchRequest,
    names_by_id: bool,
    committed_only: bool,
) -> Result<Option<InSession>, ErrorCode> {
    let now = context.now.monotonic;
    let sessions = &mut *context.sessions;
    let (id, is_first) = match request.session_epoch {
        EPOCH_FINAL => {
            sessions.end(request.session_id);
            return Ok(None);
        }
        EPOCH_INITIAL => {
            sessions.end(request.session_id);
            let slots = usize::try_from(context.options.fetch_session_slots_max).unwrap_or(0);
            let begun = sessions.begin(&request.topics, names_by_id, slots, now, context.dice);
            let Some(id) = begun else { return Ok(None) };
            (id, true)
        }
        epoch => {
            sessions.resume(request.session_id, epoch, names_by_id, now)?;
            if !sessions.update(request.session_id, &request.topics, &request.forgotten)? {
                return Ok(None);
            }
            (request.session_id, false)
        }
    };
    Ok(Some(InSession {
        id,
        epoch: next_epoch(request.session_epoch),
        is_first,
        follower: sessions.follower(id, 0),
        committed_only,
        slots: Vec::new(),
        parts: BTreeMap::new(),
    }))
}

impl InSession {
    /// Which session.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Whether owners may have promised to tell of news before this request came.
    pub fn may_hear(&self) -> bool {
        !self.is_first
    }

    /// What the owner of a slot knows it by.
    pub fn follower(&self, slot: u32) -> Follower {
        Follower { slot, ..self.follower }
    }

    /// The client is told nothing, and must not miss anything by it. Says with which session the
    /// answer goes: one that has just begun did not.
    pub fn withhold(&self, sessions: &mut FetchSessions) -> i32 {
        if self.is_first {
            sessions.end(self.id);
            return 0;
        }
        for slot in &self.slots {
            sessions.rouse(self.follower(*slot));
        }
        self.id
    }

    /// Leaves out what the client knows. Says with which error and session the answer goes.
    pub fn tell(
        &self,
        topics: &mut Vec<FetchTopicResponse>,
        sessions: &mut FetchSessions,
    ) -> (ErrorCode, i32) {
        if sessions.epoch(self.id).is_some_and(|epoch| epoch != self.epoch) {
            // A further step was taken meanwhile: what this one would tell is not what comes next.
            topics.clear();
            return (ErrorCode::InvalidFetchSessionEpoch, self.id);
        }
        let mut slots = self.slots.iter();
        for topic in topics.iter_mut() {
            topic.partitions.retain(|said| {
                let slot = slots.next().expect("each partition of the answer has a slot");
                sessions.tell(self.id, *slot, said) || self.is_first
            });
        }
        topics.retain(|topic| !topic.partitions.is_empty());
        (ErrorCode::None, self.id)
    }
}

impl Waiting {
    /// Takes part in a session from now on; `due` is looked at.
    pub(super) fn join(&mut self, session: InSession, due: Vec<Due>) {
        self.session = Some(Box::new(session));
        for due in due {
            self.add(due);
        }
    }

    /// Adds a partition of the session. Says which part asks for it, if there is anybody to ask.
    fn add(&mut self, due: Due) -> Option<usize> {
        let Due { slot, topic, log, wanted } = due;
        let session = self.session.as_mut().expect("only a fetch in a session has slots");
        let (name, id) = match topic {
            TopicKey::Name(name) => (Some(name), TopicId::ZERO),
            TopicKey::Id(id) => (None, id),
        };
        // Partitions are named in their turn; neighbours of one topic share its name.
        if self.topics.last().is_none_or(|last| (&last.name, last.id) != (&name, id)) {
            self.topics.push(FetchTopicResponse { name, id, partitions: Vec::new() });
        }
        let place_of_topic = self.topics.len() - 1;
        let topic = &mut self.topics[place_of_topic];
        let place = (place_of_topic, topic.partitions.len());
        let mut said = nothing_of(wanted.index, session.committed_only);
        session.slots.push(slot);
        let log = match log {
            Ok(log) => log,
            Err(error) => {
                said.error = error;
                topic.partitions.push(said);
                self.urgent = true;
                return None;
            }
        };
        topic.partitions.push(said);
        let part = self.wanted.len();
        session.parts.insert(slot, part);
        let question = question(&wanted, session.committed_only, self.bytes_max);
        let bytes_max = question.max_bytes as usize;
        self.wanted.push(Wanted { log, place, bytes_max, question, slot, is_followed: false });
        Some(part)
    }

    /// There is news of a partition of the session.
    pub fn hear(&mut self, due: Due, from: Offset, what: Change) -> Progress {
        let known = self.session.as_ref().and_then(|session| session.parts.get(&due.slot));
        let known = known.copied().or_else(|| self.add(due));
        let Some(part) = known else { return self.verdict().unwrap_or(Progress::Open) };
        match what {
            Change::Records(records)
                if self.watching && self.wanted[part].question.from == from =>
            {
                self.take(part, records);
                self.go_on(part)
            }
            Change::Records(_) | Change::Any | Change::Ends => {
                self.missing += usize::from(!self.watching);
                Progress::Ask(vec![self.part(part)])
            }
        }
    }
}

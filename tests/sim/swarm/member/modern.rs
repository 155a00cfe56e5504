//! What is different for a member of a group of the new kind (KIP-848): the broker shares out.
//!
//! Does: say with each heartbeat what it has, take over what it is told, leave; at times it takes a while to give
//! up what it shall not have any more, as one does that ends its work on it first.
//! Does not: read or commit; that is the same for all members.
//! Invariants: what it is told not to have it gives up before it says that it does not have it, and long before the
//! broker may do without its word; from then on every heartbeat gives that word, until one was answered.
//! Apart because it is another protocol.

use std::collections::BTreeSet;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use flumen_protocol::messages::{ConsumerGroupHeartbeatRequest, Uuid};

use super::super::client::{Answer, Context, PATIENCE, text, topic_name};
use super::super::heap::{MILLIS, Nanos};
use super::super::history::{Happening, Place};
use super::{Member, Question, REBALANCE_MS, Step, succeed};

const BEAT: (ApiKey, i16) = (ApiKey::ConsumerGroupHeartbeat, 1);
/// How long the broker waits for a heartbeat, as the node of a life is set up.
pub const SESSION: Nanos = 3_000 * MILLIS;
/// How long it takes to give something up, at most. With a session more it is what the broker waits for.
const LINGERING: Nanos = REBALANCE_MS as Nanos * MILLIS - SESSION;
/// The epoch of who leaves.
const LEAVE_EPOCH: i32 = -1;

/// What a member of the new kind knows beside.
pub(super) struct Modern {
    number: u16,
    /// The id of the topic it reads, once it was told any of it.
    topic: Uuid,
    /// Something was not answered: the next heartbeat says everything.
    tells_all: bool,
    /// Until when the broker cannot have given it up.
    until: Nanos,
    /// Until then a heartbeat may still arrive at the broker, from a connection that is gone: a partition
    /// that is not in it is taken for given up.
    doubted_until: Nanos,
    /// What it has is not what it had, and no heartbeat that says so was answered yet. That word is what the broker
    /// waits for: a heartbeat that leaves out what its member has renews the session alone, and who still owes the
    /// word when the wait is over loses everything (G118). Kafka's own consumers give it with the next heartbeat.
    owes_word: bool,
    /// It still has more than this, which is what it shall have; until when.
    lingering: Option<(BTreeSet<Place>, Nanos)>,
}

impl Member {
    /// The how manieth member of a group of the new kind; it never joined.
    pub fn modern(group: u8, number: u16) -> Self {
        let modern = Modern {
            number,
            topic: Uuid::nil(),
            tells_all: true,
            until: 0,
            doubted_until: 0,
            owes_word: false,
            lingering: None,
        };
        let name = text(&format!("member-{number}"));
        Self { name, generation: 0, modern: Some(modern), ..Self::new(group) }
    }

    /// Says that it is there, and what it has.
    pub(super) fn beat_modern(&mut self, context: &mut Context<'_>) {
        self.stop_lingering(context);
        let joins = self.generation == 0;
        let modern = self.modern.as_ref().expect("it speaks the new protocol");
        let tells_all = joins || modern.tells_all;
        let partitions: Vec<i32> = self.positions.keys().map(|place| place.partition).collect();
        let owned = if partitions.is_empty() {
            Vec::new()
        } else {
            let topic = TopicPartitions::default().with_topic_id(modern.topic);
            vec![topic.with_partitions(partitions)]
        };
        let says_what_it_has = tells_all || context.dice.below(4) != 0 || modern.owes_word;
        // Some want the topic by its name, some by a pattern.
        let by_name = modern.number.is_multiple_of(2);
        let name = topic_name(Place { topic: 0, partition: 0 });
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_member_id(self.name.clone())
            .with_member_epoch(self.generation)
            .with_rebalance_timeout_ms(if tells_all { REBALANCE_MS } else { -1 })
            .with_subscribed_topic_regex((tells_all && !by_name).then(|| text("ord.*")))
            .with_subscribed_topic_names((tells_all && by_name).then(|| vec![name]))
            .with_topic_partitions(says_what_it_has.then_some(owned));
        self.beaten = context.now;
        self.line.send(context, BEAT, &request, Question::Beat { sent: context.now });
    }

    /// Gives everything up and says so.
    pub(super) fn leave_modern(&mut self, context: &mut Context<'_>) {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_member_id(self.name.clone())
            .with_member_epoch(LEAVE_EPOCH);
        self.give_all_up(context);
        self.line.send(context, BEAT, &request, Question::Depart);
    }

    pub(super) fn take_departure(answer: Answer) -> Result<(), ErrorCode> {
        succeed(answer.read::<ConsumerGroupHeartbeatRequest>(BEAT).error_code)
    }

    pub(super) fn take_beat(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        sent: Nanos,
    ) -> Result<(), ErrorCode> {
        let response = answer.read::<ConsumerGroupHeartbeatRequest>(BEAT);
        succeed(response.error_code)?;
        // What it owed when it sent this one was in it. What it gives up now it owes anew.
        self.modern.as_mut().expect("it speaks the new protocol").owes_word = false;
        self.stop_lingering(context);
        self.is_told_its_generation(context);
        let modern = self.modern.as_mut().expect("it speaks the new protocol");
        self.generation = response.member_epoch;
        let missed_nothing = !std::mem::take(&mut modern.tells_all);
        modern.until = sent + SESSION;
        if let Some(assignment) = response.assignment {
            let mut places = BTreeSet::new();
            for topic in assignment.topic_partitions {
                modern.topic = topic.topic_id;
                let given = topic.partitions.into_iter();
                places.extend(given.map(|partition| Place { topic: 0, partition }));
            }
            self.take_over(context, places, sent, missed_nothing);
        }
        if self.positions.is_empty() || matches!(self.step, Step::Joining) {
            self.step = Step::Consuming;
        }
        self.note_hands(context);
        Ok(())
    }

    /// It shall have these and no others. Who missed an answer may have been waited for a while already.
    fn take_over(
        &mut self,
        context: &mut Context<'_>,
        places: BTreeSet<Place>,
        sent: Nanos,
        missed_nothing: bool,
    ) {
        let modern = self.modern.as_mut().expect("it speaks the new protocol");
        if modern.lingering.as_ref().is_some_and(|(known, _)| *known == places) {
            return;
        }
        if self.positions.keys().eq(&places) {
            modern.lingering = None;
            return;
        }
        let loses_some = places.iter().all(|place| self.positions.contains_key(place));
        if missed_nothing
            && loses_some
            && modern.lingering.is_none()
            && matches!(self.step, Step::Consuming)
            && context.dice.below(2) == 0
        {
            let until = sent + context.dice.below(LINGERING);
            modern.lingering = Some((places, until));
            return;
        }
        modern.lingering = None;
        modern.owes_word = true;
        self.positions = places.into_iter().map(|place| (place, None)).collect();
        self.uncommitted.clear();
        self.step = Step::Given;
    }

    /// Time is up: what it shall not have any more it has not, and it says so soon.
    pub(super) fn stop_lingering(&mut self, context: &mut Context<'_>) {
        let Some(modern) = &mut self.modern else { return };
        let is_over = |(_, until): &mut (BTreeSet<Place>, Nanos)| *until <= context.now;
        let Some((places, _)) = modern.lingering.take_if(is_over) else { return };
        modern.owes_word = true;
        self.positions.retain(|place, _| places.contains(place));
        self.uncommitted.retain(|place, _| places.contains(place));
        self.beaten = 0;
        self.note_hands(context);
    }

    /// It is no member any more, or not the one the broker knows.
    pub(super) fn give_all_up(&mut self, context: &mut Context<'_>) {
        self.generation = 0;
        self.positions.clear();
        self.uncommitted.clear();
        self.step = Step::Joining;
        let modern = self.modern.as_mut().expect("it speaks the new protocol");
        modern.lingering = None;
        self.note_hands(context);
    }

    /// Its connection ended, or it was told to ask again.
    pub(super) fn doubt(&mut self, now: Nanos, may_have_beaten: bool) {
        let Some(modern) = &mut self.modern else { return };
        modern.tells_all = true;
        if may_have_beaten {
            modern.doubted_until = now + PATIENCE;
        }
    }

    fn note_hands(&self, context: &mut Context<'_>) {
        let modern = self.modern.as_ref().expect("it speaks the new protocol");
        let counts = modern.until > modern.doubted_until + SESSION;
        let places = self.positions.keys().copied().filter(|_| counts).collect();
        let (group, member, at, until) = (self.group, modern.number, context.now, modern.until);
        context.history.note(Happening::InHands { group, member, places, at, until });
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::messages::{self, ConsumerGroupHeartbeatResponse};
    use flumen_storage::sim_disk::Dice;

    use super::super::super::client::Deed;
    use super::super::super::history::History;
    use super::*;

    const NOW: Nanos = 10_000 * MILLIS;
    /// Bytes of a request before its body: size, key, version, correlation id, the client's id "swarm", no tags.
    const HEADER_BYTES: usize = 4 + 2 + 2 + 4 + (2 + 5) + 1;

    fn place(partition: i32) -> Place {
        Place { topic: 0, partition }
    }

    /// What the next heartbeat says that the member has.
    fn said(member: &mut Member, context: &mut Context<'_>) -> Option<Vec<i32>> {
        context.deeds.clear();
        member.beat_modern(context);
        let Some(Deed::Send(frame)) = context.deeds.pop() else { panic!("no heartbeat is sent") };
        let (key, version) = BEAT;
        let mut body = frame.slice(HEADER_BYTES..);
        let request: ConsumerGroupHeartbeatRequest =
            messages::decode_request(key, version, &mut body).expect("a heartbeat");
        let topics = request.topic_partitions?;
        Some(topics.into_iter().flat_map(|topic| topic.partitions).collect())
    }

    /// The how manieth heartbeat is answered like this, without a new assignment.
    fn tell(
        member: &mut Member,
        context: &mut Context<'_>,
        (nth, code): (i32, ErrorCode),
    ) -> Result<(), ErrorCode> {
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_error_code(code.code())
            .with_member_epoch(member.generation);
        let frame = messages::encode_response(BEAT.0, BEAT.1, nth, &response).expect("an answer");
        let (_, answer) = member.line.answered(context.now, frame);
        member.take_beat(context, answer, context.now)
    }

    /// A member that says nothing three times in a row has its partition given to another, though it gave up long
    /// ago what it was asked to (seed 2202834).
    #[test]
    fn who_gave_something_up_says_so_until_it_is_heard() {
        let mut leave_it_out = 0;
        for seed in 0..64 {
            let (mut dice, mut history) = (Dice::new(seed), History::default());
            let mut context = Context {
                now: NOW,
                dice: &mut dice,
                history: &mut history,
                deeds: Vec::new(),
                is_over: false,
                partitions: &mut 3,
            };
            let context = &mut context;
            let mut member = Member::modern(0, 0);
            (member.generation, member.step) = (5, Step::Consuming);
            member.positions = [0, 2].map(|partition| (place(partition), None)).into();
            let modern = member.modern.as_mut().expect("it speaks the new protocol");
            modern.tells_all = false;
            modern.lingering = Some((BTreeSet::from([place(0)]), NOW));

            assert_eq!(said(&mut member, context), Some(vec![0]), "seed {seed}");
            let refused = ErrorCode::CoordinatorNotAvailable;
            assert_eq!(tell(&mut member, context, (0, refused)), Err(refused));
            assert_eq!(said(&mut member, context), Some(vec![0]), "seed {seed}: nobody heard it");
            assert_eq!(tell(&mut member, context, (1, ErrorCode::None)), Ok(()));
            leave_it_out += usize::from(said(&mut member, context).is_none());
        }
        assert!((1..64).contains(&leave_it_out), "{leave_it_out} of 64, once it was heard");
    }
}

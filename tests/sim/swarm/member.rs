//! A member of a consumer group, classic or of the new kind.
//!
//! Does: join, share partitions out if it leads, read from what is committed, commit, leave at times.
//! Does not: write records.
//! Invariants: one request at a time; it never commits less than it found; an answer of an earlier membership
//! changes nothing.
//! Apart because groups are half of what a broker is used for.

pub mod modern;

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, StrBytes, SyncGroupRequest,
};
use flumen_replication::partition::Isolation;

use modern::{Modern, SESSION};

use super::client::{Answer, Context, Line, code, text, topic_name};
use super::fetching::{self, EARLIEST, FETCH, LIST_OFFSETS};
use super::heap::{MILLIS, Nanos};
use super::history::{Happening, History, Place, Since};
use super::writer::is_retriable;

const FIND: (ApiKey, i16) = (ApiKey::FindCoordinator, 3);
const JOIN: (ApiKey, i16) = (ApiKey::JoinGroup, 5);
const SYNC: (ApiKey, i16) = (ApiKey::SyncGroup, 3);
const HEARTBEAT: (ApiKey, i16) = (ApiKey::Heartbeat, 3);
const LEAVE: (ApiKey, i16) = (ApiKey::LeaveGroup, 3);
const COMMIT: (ApiKey, i16) = (ApiKey::OffsetCommit, 7);
/// The first that members of the new kind may use.
const COMMIT_MODERN: (ApiKey, i16) = (ApiKey::OffsetCommit, 9);
const COMMITTED: (ApiKey, i16) = (ApiKey::OffsetFetch, 8);

const ISOLATION: Isolation = Isolation::ReadUncommitted;
const RETRY: Nanos = 100 * MILLIS;
const HEARTBEAT_EVERY: Nanos = 700 * MILLIS;
const SESSION_MS: i32 = 3_000;
const REBALANCE_MS: i32 = 5_000;

/// What a member asks.
pub enum Question {
    Find,
    Join,
    Sync,
    Committed(Since),
    /// The same, only to see whether it still holds.
    Look(Since),
    Start(Place, Since),
    Fetch(Since, Vec<(Place, i64)>),
    Heartbeat,
    Commit(Vec<(Place, i64)>),
    /// A commit as of the generation before.
    LateCommit,
    Leave,
    /// A heartbeat of the new kind.
    Beat {
        sent: Nanos,
    },
    /// The last of them.
    Depart,
}

/// How far a membership is.
enum Step {
    /// Nobody asked yet who coordinates the group, which is what makes the topic that groups live in.
    Finding,
    Joining,
    /// With what the leader shares out; nothing if another one leads.
    Syncing(Vec<SyncGroupRequestAssignment>),
    /// Given these; what is committed for them is not known yet.
    Given,
    Consuming,
}

/// A member of a group.
pub struct Member {
    group: u8,
    line: Line<Question>,
    name: StrBytes,
    /// `None`: it speaks the classic protocol.
    modern: Option<Modern>,
    /// The generation, or the epoch of a member of the new kind, which is 0 before it has joined.
    generation: i32,
    /// How often its group was damaged when it was last told that it is in this generation. Once that is more, the
    /// group may be back in the one before: what the member takes for late is in time there (seed 7003898).
    damages: usize,
    step: Step,
    /// From where it reads what it was given; `None`: from where the log begins.
    positions: BTreeMap<Place, Option<i64>>,
    /// What of that is not committed.
    uncommitted: BTreeMap<Place, i64>,
    beaten: Nanos,
    /// Its connection ended: the node may have started anew, and must not have forgotten anything.
    must_look: bool,
}

impl Member {
    /// A classic member that never joined.
    pub fn new(group: u8) -> Self {
        Self {
            group,
            line: Line::new(),
            name: StrBytes::default(),
            modern: None,
            generation: -1,
            damages: 0,
            step: Step::Finding,
            positions: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
            beaten: 0,
            must_look: false,
        }
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&format!("group-{}", self.group)))
    }

    /// Time has come to do something.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.line.mind_patience(context);
        if self.line.open() == 0 {
            self.go_on(context);
        }
        context.wake_in(1000 * MILLIS);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        match &mut self.step {
            Step::Finding => self.find(context),
            Step::Joining if self.modern.is_some() => self.beat_modern(context),
            Step::Joining => self.join(context),
            Step::Syncing(shares) => {
                let shares = std::mem::take(shares);
                self.sync(context, shares);
            }
            Step::Given => self.ask_committed(context, Question::Committed),
            Step::Consuming => self.consume(context),
        }
    }

    fn find(&mut self, context: &mut Context<'_>) {
        let request = FindCoordinatorRequest::default().with_key(self.group_id().0);
        self.line.send(context, FIND, &request, Question::Find);
    }

    fn join(&mut self, context: &mut Context<'_>) {
        self.positions.clear();
        self.uncommitted.clear();
        let protocol = JoinGroupRequestProtocol::default().with_name(text("swarm"));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_member_id(self.name.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        self.line.send(context, JOIN, &request, Question::Join);
    }

    fn sync(&mut self, context: &mut Context<'_>, shares: Vec<SyncGroupRequestAssignment>) {
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.name.clone())
            .with_assignments(shares);
        self.line.send(context, SYNC, &request, Question::Sync);
    }

    fn ask_committed(&mut self, context: &mut Context<'_>, why: fn(Since) -> Question) {
        let topics = self.positions.keys().map(|place| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(*place))
                .with_partition_indexes(vec![place.partition])
        });
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id())
            .with_topics(Some(topics.collect()));
        let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
        let since = context.ask();
        self.line.send(context, COMMITTED, &request, why(since));
    }

    fn consume(&mut self, context: &mut Context<'_>) {
        self.stop_lingering(context);
        if self.modern.is_some() && self.positions.is_empty() && context.now < self.beaten + RETRY {
            return context.wake_in(RETRY);
        }
        let was_silent = context.now > self.beaten + SESSION;
        if was_silent && !self.uncommitted.is_empty() && context.dice.below(2) == 0 {
            // Whose place others may have taken meanwhile; it does not know.
            return self.commit(context);
        }
        if context.now > self.beaten + HEARTBEAT_EVERY || self.positions.is_empty() {
            return self.beat(context);
        }
        if std::mem::take(&mut self.must_look) {
            return self.ask_committed(context, Question::Look);
        }
        if context.dice.below(300) == 0 {
            return self.leave(context);
        }
        let may_be_late = self.generation > 0 && context.dice.below(100) == 0;
        if may_be_late && self.damages == context.history.group_damages(self.group) {
            return self.commit_late(context);
        }
        if !self.uncommitted.is_empty() && context.dice.below(4) == 0 {
            return self.commit(context);
        }
        let lost = self.positions.iter().find(|(_, position)| position.is_none());
        if let Some((place, _)) = lost {
            let (place, since) = (*place, context.ask());
            let request = fetching::offset_request(ISOLATION, place, EARLIEST);
            return self.line.send(context, LIST_OFFSETS, &request, Question::Start(place, since));
        }
        let wanted = self.positions.iter().filter_map(|(place, at)| Some((*place, (*at)?)));
        let wanted: Vec<(Place, i64)> = wanted.collect();
        let since = context.ask();
        let max_bytes = 1 << context.dice.below(20);
        let request = fetching::request(ISOLATION, &wanted, 300, max_bytes);
        self.line.send(context, FETCH, &request, Question::Fetch(since, wanted));
    }

    fn beat(&mut self, context: &mut Context<'_>) {
        if self.modern.is_some() {
            return self.beat_modern(context);
        }
        self.beaten = context.now;
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.name.clone());
        self.line.send(context, HEARTBEAT, &request, Question::Heartbeat);
    }

    fn leave(&mut self, context: &mut Context<'_>) {
        if self.modern.is_some() {
            return self.leave_modern(context);
        }
        let member = MemberIdentity::default().with_member_id(self.name.clone());
        let request =
            LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![member]);
        self.line.send(context, LEAVE, &request, Question::Leave);
    }

    fn commit(&mut self, context: &mut Context<'_>) {
        let offsets: Vec<(Place, i64)> =
            std::mem::take(&mut self.uncommitted).into_iter().collect();
        let topics = offsets.iter().map(|(place, offset)| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(place.partition)
                .with_committed_offset(*offset);
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(*place))
                .with_partitions(vec![partition])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.name.clone())
            .with_topics(topics.collect());
        self.line.send(context, self.commit_api(), &request, Question::Commit(offsets));
    }

    /// What was on its way when the group moved on must not count any more.
    fn commit_late(&mut self, context: &mut Context<'_>) {
        let place = *self.positions.keys().next().expect("it was given something");
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(place.partition)
            .with_committed_offset(0);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(place))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(self.generation - 1)
            .with_member_id(self.name.clone())
            .with_topics(vec![topic]);
        self.line.send(context, self.commit_api(), &request, Question::LateCommit);
    }

    fn commit_api(&self) -> (ApiKey, i16) {
        if self.modern.is_some() { COMMIT_MODERN } else { COMMIT }
    }

    /// A frame came.
    pub fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (question, answer) = self.line.answered(context.now, frame);
        let outcome = match question {
            Question::Find => {
                let code = answer.read::<FindCoordinatorRequest>(FIND).error_code;
                succeed(code).map(|()| self.step = Step::Joining)
            }
            Question::Join => self.take_join(context, answer),
            Question::Sync => self.take_sync(context, answer),
            Question::Committed(since) => self.take_committed(context, answer, since),
            Question::Look(since) => self.note_committed(context, answer, since).map(drop),
            Question::Start(place, since) => {
                let asked = (place, EARLIEST);
                let start = fetching::take_offset(context, answer, ISOLATION, asked, since);
                start.map(|start| self.begin_at(place, start))
            }
            Question::Fetch(since, wanted) => {
                let given = fetching::take(context, answer, ISOLATION, &wanted, since);
                let history = &*context.history;
                let taken = given.iter().map(|given| self.take_records(history, given));
                // One place that refuses must not keep the others from going on.
                taken.fold(Ok(()), Result::and)
            }
            Question::Heartbeat => {
                let code = answer.read::<HeartbeatRequest>(HEARTBEAT).error_code;
                succeed(code).map(|()| self.is_told_its_generation(context))
            }
            Question::Commit(offsets) => self.take_commit(context, answer, &offsets),
            Question::LateCommit => self.take_late_commit(answer),
            Question::Leave => {
                let response = answer.read::<LeaveGroupRequest>(LEAVE);
                self.forget(context);
                succeed(response.error_code)
            }
            Question::Beat { sent } => self.take_beat(context, answer, sent),
            Question::Depart => Self::take_departure(answer),
        };
        match outcome {
            Ok(()) => self.go_on(context),
            Err(code) => self.fail(context, code),
        }
    }

    fn fail(&mut self, context: &mut Context<'_>, code: ErrorCode) {
        match code {
            ErrorCode::MemberIdRequired => return self.go_on(context),
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                self.step = Step::Joining;
            }
            ErrorCode::UnknownMemberId => self.forget(context),
            // The next heartbeat tells the epoch that counts.
            ErrorCode::StaleMemberEpoch => self.beaten = 0,
            ErrorCode::FencedMemberEpoch | ErrorCode::GroupIdNotFound if self.modern.is_some() => {
                self.forget(context);
            }
            code => {
                assert!(is_retriable(code), "group {} is refused: {code:?}", self.group);
                self.doubt(context.now, false);
                if let Step::Syncing(_) = self.step {
                    // What it was to share out went with the request.
                    self.step = Step::Joining;
                }
            }
        }
        context.wake_in(RETRY);
    }

    fn forget(&mut self, context: &mut Context<'_>) {
        if self.modern.is_some() {
            return self.give_all_up(context);
        }
        (self.name, self.generation, self.step) = (StrBytes::default(), -1, Step::Joining);
    }

    fn take_join(&mut self, context: &mut Context<'_>, answer: Answer) -> Result<(), ErrorCode> {
        let response = answer.read::<JoinGroupRequest>(JOIN);
        if code(response.error_code) == ErrorCode::MemberIdRequired {
            self.name = response.member_id.clone();
        }
        succeed(response.error_code)?;
        (self.name, self.generation) = (response.member_id.clone(), response.generation_id);
        let count = response.members.len();
        let mut shares: Vec<BytesMut> = (0..count).map(|_| BytesMut::new()).collect();
        if count > 0 {
            for partition in 0..*context.partitions {
                shares[partition as usize % count].put_i32(partition);
            }
        }
        let shares = response.members.iter().zip(shares).map(|(member, share)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(share.freeze())
        });
        self.step = Step::Syncing(shares.collect());
        Ok(())
    }

    fn take_sync(&mut self, context: &mut Context<'_>, answer: Answer) -> Result<(), ErrorCode> {
        let response = answer.read::<SyncGroupRequest>(SYNC);
        succeed(response.error_code)?;
        self.is_told_its_generation(context);
        let mut share = response.assignment;
        while share.remaining() >= size_of::<i32>() {
            let place = Place { topic: 0, partition: share.get_i32() };
            self.positions.insert(place, None);
        }
        let places = self.positions.keys().copied().collect();
        let (group, generation, member) = (self.group, self.generation, self.name.to_string());
        context.history.note(Happening::Assigned { group, generation, member, places });
        self.step = if self.positions.is_empty() { Step::Consuming } else { Step::Given };
        Ok(())
    }

    /// Its group is in this generation, whatever was lost before.
    fn is_told_its_generation(&mut self, context: &Context<'_>) {
        self.damages = context.history.group_damages(self.group);
    }

    /// What the group committed for the places it was asked for.
    fn note_committed(
        &self,
        context: &mut Context<'_>,
        answer: Answer,
        since: Since,
    ) -> Result<Vec<(Place, i64)>, ErrorCode> {
        let mut response = answer.read::<OffsetFetchRequest>(COMMITTED);
        let told = response.groups.remove(0);
        succeed(told.error_code)?;
        let mut offsets = Vec::new();
        for told in told.topics.into_iter().flat_map(|topic| topic.partitions) {
            succeed(told.error_code)?;
            let place = Place { topic: 0, partition: told.partition_index };
            let (group, offset) = (self.group, told.committed_offset);
            context.history.note(Happening::CommitRead { group, place, offset, since });
            offsets.push((place, offset));
        }
        Ok(offsets)
    }

    fn take_committed(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        since: Since,
    ) -> Result<(), ErrorCode> {
        for (place, offset) in self.note_committed(context, answer, since)? {
            self.positions.insert(place, (offset >= 0).then_some(offset));
        }
        self.step = Step::Consuming;
        Ok(())
    }

    fn begin_at(&mut self, place: Place, start: i64) {
        self.positions.insert(place, Some(start));
    }

    fn take_records(
        &mut self,
        history: &History,
        given: &fetching::Given,
    ) -> Result<(), ErrorCode> {
        match given.code {
            ErrorCode::None if self.positions.get(&given.place) == Some(&Some(given.next)) => {
                Ok(())
            }
            ErrorCode::None => {
                self.positions.insert(given.place, Some(given.next));
                self.uncommitted.insert(given.place, given.next);
                Ok(())
            }
            ErrorCode::OffsetOutOfRange => {
                self.positions.insert(given.place, None);
                Ok(())
            }
            refused => {
                let damage = history.past_damage(given.place, given.next);
                if refused == ErrorCode::KafkaStorageError && damage.is_some() {
                    self.positions.insert(given.place, damage);
                }
                Err(refused)
            }
        }
    }

    fn take_commit(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        offsets: &[(Place, i64)],
    ) -> Result<(), ErrorCode> {
        let response = answer.read::<OffsetCommitRequest>(self.commit_api());
        let told = response.topics.iter().flat_map(|topic| &topic.partitions);
        let mut outcome = Ok(());
        for ((place, offset), told) in offsets.iter().zip(told) {
            assert_eq!(told.partition_index, place.partition);
            match succeed(told.error_code) {
                Ok(()) => {
                    let (group, place, offset) = (self.group, *place, *offset);
                    context.history.note(Happening::Committed { group, place, offset });
                }
                Err(code) => outcome = Err(code),
            }
        }
        outcome
    }

    /// A commit of an earlier generation must be refused.
    fn take_late_commit(&self, answer: Answer) -> Result<(), ErrorCode> {
        let response = answer.read::<OffsetCommitRequest>(self.commit_api());
        match code(response.topics[0].partitions[0].error_code) {
            ErrorCode::None => panic!("a commit of an earlier generation is taken"),
            ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch => Ok(()),
            refused => Err(refused),
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        self.must_look = true;
        let unanswered = self.line.closed();
        let was_sharing = unanswered.iter().any(|asked| matches!(asked, Question::Sync));
        if was_sharing {
            self.step = Step::Joining;
        }
        let may_have_beaten = unanswered.iter().any(|it| matches!(it, Question::Beat { .. }));
        self.doubt(context.now, may_have_beaten);
        context.wake_in(RETRY);
    }
}

fn succeed(told: i16) -> Result<(), ErrorCode> {
    match code(told) {
        ErrorCode::None => Ok(()),
        refused => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };
    use flumen_protocol::messages::{self, HeartbeatResponse, OffsetCommitResponse};
    use flumen_storage::sim_disk::Dice;

    use super::*;

    const NOW: Nanos = 10_000 * MILLIS;

    /// With a classic member that reads in the third generation.
    fn alone(test: impl FnOnce(&mut Member, &mut Context<'_>)) {
        let (mut dice, mut history) = (Dice::new(7), History::default());
        let mut context = Context {
            now: NOW,
            dice: &mut dice,
            history: &mut history,
            deeds: Vec::new(),
            is_over: false,
            partitions: &mut 3,
        };
        let mut member = Member::new(0);
        (member.generation, member.step, member.beaten) = (3, Step::Consuming, NOW);
        member.positions.insert(Place { topic: 0, partition: 0 }, Some(5));
        test(&mut member, &mut context);
    }

    /// Whether it ever commits late while it reads on.
    fn commits_late(member: &mut Member, context: &mut Context<'_>) -> bool {
        (0..2_000).any(|_| {
            member.consume(context);
            let asked = member.line.closed();
            member.step = Step::Consuming;
            asked.iter().any(|asked| matches!(asked, Question::LateCommit))
        })
    }

    /// A group whose log lost its end is back in the generation before, of which its member says that it is over.
    #[test]
    fn a_group_that_was_damaged_is_not_tried_before_it_has_told_its_generation() {
        alone(|member, context| {
            assert!(commits_late(member, context));
            context.history.note(Happening::GroupDamaged(1));
            assert!(commits_late(member, context), "another group is none of its business");
            context.history.note(Happening::GroupDamaged(0));
            assert!(
                !commits_late(member, context),
                "nobody knows in which generation the group is"
            );
            member.line = Line::new();
            member.beat(context);
            let (key, version) = HEARTBEAT;
            let told = messages::encode_response(key, version, 0, &HeartbeatResponse::default());
            member.answered(context, told.expect("an answer"));
            member.line.closed();
            assert!(commits_late(member, context), "it is in the member's own");
        });
    }

    #[test]
    #[should_panic(expected = "a commit of an earlier generation is taken")]
    fn a_commit_of_an_earlier_generation_is_noticed() {
        alone(|member, context| {
            member.commit_late(context);
            let partitions = vec![OffsetCommitResponsePartition::default()];
            let topic = OffsetCommitResponseTopic::default().with_partitions(partitions);
            let taken = OffsetCommitResponse::default().with_topics(vec![topic]);
            let (key, version) = COMMIT;
            let taken = messages::encode_response(key, version, 0, &taken);
            member.answered(context, taken.expect("an answer"));
        });
    }
}

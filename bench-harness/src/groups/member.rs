//! One member of a group, of either kind, without its socket.
//!
//! Does: say what a member sends next and when, and take in what it is answered: JoinGroup, SyncGroup,
//! Heartbeat and LeaveGroup of the classic protocol with an eager range assignor, as Java's consumer does
//! by default; ConsumerGroupHeartbeat of the new one (KIP-848).
//! Does not: read records or commit offsets: what is measured is the group, not its work.
//! Invariants: one request is under way at most; partitions are given up before their coordinator is
//! told so, and used only when it has handed them out.
//! Apart because the two protocols are all there is to know about a rebalance.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::TopicId;
use flumen_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, StrBytes,
    SyncGroupRequest, SyncGroupResponse, TopicName, decode_response, encode_request,
};

use super::Kind;
use crate::limits::{CLIENT_ID, GROUP_SESSION_TIMEOUT_MS, RETRY_BACKOFF_MS};

/// Versions at which members speak: the newest that every broker in question knows.
const JOIN_VERSION: i16 = 7;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 4;
const CONSUMER_HEARTBEAT_VERSION: i16 = 0;
const CONSUMER: &str = "consumer";
const RANGE: &str = "range";
const MS_NS: u64 = 1_000_000;

/// What all members of a group have in common.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Which protocol they speak.
    pub kind: Kind,
    /// Their group.
    pub group: String,
    /// The one topic they read.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: i32,
    /// Milliseconds between heartbeats; 0: as the coordinator says (new kind only).
    pub heartbeat_ms: u64,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Not in the group, and does not want to be.
    Away,
    /// Is to join.
    Joins,
    /// Is to ask for its assignment, or to bring everybody's.
    Syncs,
    /// Is in the group.
    Stays,
    /// Is to leave.
    Leaves,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    kind: Kind,
    step: Step,
    id: String,
    /// Generation or member epoch.
    epoch: i32,
    has: Vec<i32>,
    /// What it has is to be told, since it has changed (new kind).
    tells: bool,
    /// Set on the leader until it has brought the assignment: all member ids.
    led: Vec<String>,
    due_ns: u64,
    in_flight: Option<Step>,
    correlation_id: i32,
}

impl Member {
    /// A member that is not in its group. `number` tells it from the others.
    #[must_use]
    pub fn new(kind: Kind, number: usize) -> Self {
        let id = match kind {
            Kind::Classic => String::new(),
            // Made by the client, as KIP-1082 has it.
            Kind::Consumer => format!("flumen-bench-{number:06}"),
        };
        Self {
            kind,
            step: Step::Away,
            id,
            epoch: 0,
            has: Vec::new(),
            tells: false,
            led: Vec::new(),
            due_ns: u64::MAX,
            in_flight: None,
            correlation_id: 0,
        }
    }

    /// Lets it join as soon as it has the answer it waits for.
    pub fn join(&mut self, now_ns: u64) {
        assert_eq!(self.step, Step::Away, "who is in the group cannot join it");
        self.begin(Step::Joins, now_ns);
    }

    /// Lets it leave; what it had is given up.
    pub fn leave(&mut self, now_ns: u64) -> Vec<i32> {
        assert_eq!(self.step, Step::Stays, "only who is settled leaves");
        self.begin(Step::Leaves, now_ns);
        std::mem::take(&mut self.has)
    }

    /// What it believes to have.
    #[must_use]
    pub fn has(&self) -> &[i32] {
        &self.has
    }

    /// Its generation or epoch, once it has what it shall have in it; nothing while it moves.
    #[must_use]
    pub fn settled_in(&self) -> Option<i32> {
        (self.step == Step::Stays && !self.tells).then_some(self.epoch)
    }

    /// Whether it is out of the group.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.step == Step::Away && self.in_flight.is_none()
    }

    /// When it is to send; never while an answer is under way.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        if self.in_flight.is_some() { u64::MAX } else { self.due_ns }
    }

    /// The request that is due.
    #[must_use]
    pub fn ask(&mut self, terms: &Terms) -> Bytes {
        assert!(self.in_flight.is_none(), "one request at a time");
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.in_flight = Some(self.step);
        match terms.kind {
            Kind::Classic => self.ask_classic(terms),
            Kind::Consumer => {
                self.frame(CONSUMER_HEARTBEAT_VERSION, &self.consumer_heartbeat(terms))
            }
        }
    }

    fn ask_classic(&mut self, terms: &Terms) -> Bytes {
        let (group, id) = (GroupId(text(&terms.group)), text(&self.id));
        match self.step {
            Step::Joins => {
                let protocol = JoinGroupRequestProtocol::default()
                    .with_name(text(RANGE))
                    .with_metadata(subscription(&terms.topic));
                let request = JoinGroupRequest::default()
                    .with_group_id(group)
                    .with_member_id(id)
                    .with_protocol_type(text(CONSUMER))
                    .with_session_timeout_ms(GROUP_SESSION_TIMEOUT_MS)
                    .with_rebalance_timeout_ms(GROUP_SESSION_TIMEOUT_MS)
                    .with_protocols(vec![protocol]);
                self.frame(JOIN_VERSION, &request)
            }
            Step::Syncs => {
                let led = std::mem::take(&mut self.led);
                let request = SyncGroupRequest::default()
                    .with_group_id(group)
                    .with_member_id(id)
                    .with_generation_id(self.epoch)
                    .with_protocol_type(Some(text(CONSUMER)))
                    .with_protocol_name(Some(text(RANGE)))
                    .with_assignments(ranges(&led, terms));
                self.frame(SYNC_VERSION, &request)
            }
            Step::Stays => {
                let request = HeartbeatRequest::default()
                    .with_group_id(group)
                    .with_member_id(id)
                    .with_generation_id(self.epoch);
                self.frame(HEARTBEAT_VERSION, &request)
            }
            Step::Leaves => {
                let member = MemberIdentity::default().with_member_id(id);
                let request =
                    LeaveGroupRequest::default().with_group_id(group).with_members(vec![member]);
                self.frame(LEAVE_VERSION, &request)
            }
            Step::Away => unreachable!("who is away has nothing due"),
        }
    }

    fn consumer_heartbeat(&self, terms: &Terms) -> ConsumerGroupHeartbeatRequest {
        let joins = self.step == Step::Joins;
        let epoch = match self.step {
            Step::Joins => 0,
            Step::Leaves => -1,
            Step::Away | Step::Syncs | Step::Stays => self.epoch,
        };
        let owned = TopicPartitions::default()
            .with_topic_id(terms.topic_id.into())
            .with_partitions(self.has.clone());
        let owned = if self.has.is_empty() { Vec::new() } else { vec![owned] };
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&terms.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(if joins { GROUP_SESSION_TIMEOUT_MS } else { -1 })
            .with_subscribed_topic_names(joins.then(|| vec![TopicName(text(&terms.topic))]))
            .with_topic_partitions((joins || self.tells).then_some(owned))
    }

    fn frame<T: flumen_protocol::messages::Request>(&self, version: i16, request: &T) -> Bytes {
        let key = ApiKey::from_code(T::KEY).expect("an API of the table");
        encode_request(key, version, self.correlation_id, Some(CLIENT_ID), request)
            .expect("the version has these fields")
    }

    /// Takes an answer in.
    ///
    /// # Errors
    /// One that it cannot go on from, in one line.
    pub fn answered(&mut self, terms: &Terms, payload: Bytes, now_ns: u64) -> Result<(), String> {
        let asked = self.in_flight.take().ok_or("an answer to nothing")?;
        match terms.kind {
            Kind::Classic => self.answered_classic(asked, terms, payload, now_ns),
            Kind::Consumer => {
                let answer = read::<ConsumerGroupHeartbeatRequest>(
                    ApiKey::ConsumerGroupHeartbeat,
                    CONSUMER_HEARTBEAT_VERSION,
                    payload,
                )?;
                self.on_consumer_heartbeat(asked, terms, &answer, now_ns)
            }
        }
    }

    fn answered_classic(
        &mut self,
        asked: Step,
        terms: &Terms,
        payload: Bytes,
        now_ns: u64,
    ) -> Result<(), String> {
        match asked {
            Step::Joins => {
                let answer = read::<JoinGroupRequest>(ApiKey::JoinGroup, JOIN_VERSION, payload)?;
                self.on_join(&answer, now_ns)
            }
            Step::Syncs => {
                let answer = read::<SyncGroupRequest>(ApiKey::SyncGroup, SYNC_VERSION, payload)?;
                self.on_sync(&answer, terms, now_ns)
            }
            Step::Stays => {
                let answer =
                    read::<HeartbeatRequest>(ApiKey::Heartbeat, HEARTBEAT_VERSION, payload)?;
                self.on_heartbeat(&answer, terms, now_ns)
            }
            Step::Leaves | Step::Away => {
                self.begin(Step::Away, u64::MAX);
                self.id.clear();
                Ok(())
            }
        }
    }

    fn on_join(&mut self, answer: &JoinGroupResponse, now_ns: u64) -> Result<(), String> {
        match known(answer.error_code)? {
            ErrorCode::None => {
                self.epoch = answer.generation_id;
                if answer.leader == answer.member_id {
                    self.led = answer.members.iter().map(|one| one.member_id.to_string()).collect();
                }
                self.begin(Step::Syncs, now_ns);
            }
            ErrorCode::MemberIdRequired => {
                self.id = answer.member_id.to_string();
                self.begin(Step::Joins, now_ns);
            }
            code => self.join_again(code, now_ns)?,
        }
        Ok(())
    }

    fn on_sync(
        &mut self,
        answer: &SyncGroupResponse,
        terms: &Terms,
        now_ns: u64,
    ) -> Result<(), String> {
        match known(answer.error_code)? {
            ErrorCode::None => {
                self.has = assigned(answer.assignment.clone())?;
                self.begin(Step::Stays, now_ns + terms.heartbeat_ms * MS_NS);
                Ok(())
            }
            code => self.join_again(code, now_ns),
        }
    }

    fn on_heartbeat(
        &mut self,
        answer: &HeartbeatResponse,
        terms: &Terms,
        now_ns: u64,
    ) -> Result<(), String> {
        match known(answer.error_code)? {
            // What was decided meanwhile (to leave) stays.
            ErrorCode::None if self.step == Step::Stays => {
                self.due_ns = now_ns + terms.heartbeat_ms * MS_NS;
            }
            _ if self.step != Step::Stays => {}
            code => self.join_again(code, now_ns)?,
        }
        Ok(())
    }

    /// Gives everything up and joins again, at once or after a pause.
    fn join_again(&mut self, code: ErrorCode, now_ns: u64) -> Result<(), String> {
        self.has.clear();
        self.tells = false;
        let at_ns = match code {
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => now_ns,
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                if self.kind == Kind::Classic {
                    self.id.clear();
                }
                now_ns
            }
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator => now_ns + RETRY_BACKOFF_MS * MS_NS,
            code => return Err(format!("a member was answered {}", code.name())),
        };
        self.begin(Step::Joins, at_ns);
        Ok(())
    }

    fn on_consumer_heartbeat(
        &mut self,
        asked: Step,
        terms: &Terms,
        answer: &ConsumerGroupHeartbeatResponse,
        now_ns: u64,
    ) -> Result<(), String> {
        if asked == Step::Leaves {
            self.begin(Step::Away, u64::MAX);
            return Ok(());
        }
        let code = known(answer.error_code)?;
        if self.step == Step::Leaves {
            return Ok(());
        }
        match code {
            ErrorCode::None => {}
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator => {
                self.due_ns = now_ns + RETRY_BACKOFF_MS * MS_NS;
                return Ok(());
            }
            code => return self.join_again(code, now_ns),
        }
        self.epoch = answer.member_epoch;
        self.tells = false;
        if let Some(given) = &answer.assignment {
            let mut has: Vec<i32> =
                given.topic_partitions.iter().flat_map(|one| one.partitions.clone()).collect();
            has.sort_unstable();
            self.tells = has != self.has;
            self.has = has;
        }
        let interval_ms = match terms.heartbeat_ms {
            0 => u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0),
            // While it works the assignment out, a coordinator may want to be asked sooner.
            given => given.min(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(given)),
        };
        // What has changed is told at once, as clients do.
        self.begin(Step::Stays, if self.tells { now_ns } else { now_ns + interval_ms * MS_NS });
        Ok(())
    }

    fn begin(&mut self, step: Step, due_ns: u64) {
        self.step = step;
        self.due_ns = due_ns;
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn known(code: i16) -> Result<ErrorCode, String> {
    ErrorCode::from_code(code).ok_or_else(|| format!("an unknown error code {code}"))
}

fn read<T: flumen_protocol::messages::Request>(
    key: ApiKey,
    version: i16,
    payload: Bytes,
) -> Result<T::Response, String> {
    let read = decode_response::<T>(key, version, payload);
    read.map(|(_, answer)| answer).map_err(|error| error.to_string())
}

/// A ConsumerProtocolSubscription of version 0 for one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    put_text(&mut bytes, topic);
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Each member's share, neighbours together: what Kafka's range assignor gives for one topic.
fn ranges(members: &[String], terms: &Terms) -> Vec<SyncGroupRequestAssignment> {
    let mut members: Vec<&String> = members.iter().collect();
    members.sort_unstable();
    let count = i32::try_from(members.len()).unwrap_or(i32::MAX).max(1);
    let (each, more) = (terms.partitions / count, terms.partitions % count);
    let mut next = 0;
    let given = members.into_iter().zip(0..).map(|(member, place)| {
        let end = next + each + i32::from(place < more);
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(1);
        put_text(&mut bytes, &terms.topic);
        bytes.put_i32(end - next);
        (next..end).for_each(|partition| bytes.put_i32(partition));
        bytes.put_i32(-1);
        next = end;
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(bytes.freeze())
    });
    given.collect()
}

/// The partitions of an assignment that [`ranges`] made.
fn assigned(mut bytes: Bytes) -> Result<Vec<i32>, String> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let short = |_| "an assignment that breaks off".to_owned();
    bytes.try_get_i16().map_err(short)?;
    let mut has = Vec::new();
    for _ in 0..bytes.try_get_i32().map_err(short)? {
        let name = bytes.try_get_i16().map_err(short)?;
        let name = usize::try_from(name).unwrap_or(0).min(bytes.len());
        bytes.advance(name);
        for _ in 0..bytes.try_get_i32().map_err(short)? {
            has.push(bytes.try_get_i32().map_err(short)?);
        }
    }
    Ok(has)
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::messages::consumer_group_heartbeat_response::{
        Assignment, TopicPartitions as Given,
    };
    use flumen_protocol::messages::encode_response;
    use flumen_protocol::messages::join_group_response::JoinGroupResponseMember;

    fn terms(kind: Kind) -> Terms {
        Terms {
            kind,
            group: "g".to_owned(),
            topic: "t".to_owned(),
            topic_id: TopicId([1; 16]),
            partitions: 10,
            heartbeat_ms: 100,
        }
    }

    macro_rules! answer {
        ($member:expr, $terms:expr, $key:ident, $version:expr, $answer:expr, $now:expr) => {{
            let frame = encode_response(ApiKey::$key, $version, 1, &$answer).expect("an answer");
            $member.answered(&$terms, frame.slice(4..), $now).expect("it goes on");
        }};
    }

    #[test]
    fn ranges_give_neighbours_and_the_first_the_rest() {
        let members = ["c", "a", "b"].map(str::to_owned);
        let given = ranges(&members, &terms(Kind::Classic));
        let read: Vec<(String, Vec<i32>)> = given
            .into_iter()
            .map(|one| (one.member_id.to_string(), assigned(one.assignment).expect("whole")))
            .collect();
        let wanted = [("a", vec![0, 1, 2, 3]), ("b", vec![4, 5, 6]), ("c", vec![7, 8, 9])];
        assert_eq!(read, wanted.map(|(name, has)| (name.to_owned(), has)));
        assert!(assigned(Bytes::from_static(&[0, 0, 0])).is_err());
    }

    #[test]
    fn a_classic_member_joins_twice_and_gives_everything_up_to_join_again() {
        let terms = terms(Kind::Classic);
        let mut member = Member::new(Kind::Classic, 0);
        assert!(member.is_away());
        member.join(5);
        assert_eq!(member.due_ns(), 5);
        let _ = member.ask(&terms);
        assert_eq!(member.due_ns(), u64::MAX, "it waits");
        let wanted = JoinGroupResponse::default()
            .with_error_code(ErrorCode::MemberIdRequired.code())
            .with_member_id(text("m"));
        answer!(member, terms, JoinGroup, JOIN_VERSION, wanted, 6);
        let _ = member.ask(&terms);
        let one = JoinGroupResponseMember::default().with_member_id(text("m"));
        let joined = JoinGroupResponse::default()
            .with_generation_id(3)
            .with_member_id(text("m"))
            .with_leader(text("m"))
            .with_members(vec![one]);
        answer!(member, terms, JoinGroup, JOIN_VERSION, joined, 7);
        assert_eq!(member.settled_in(), None);
        let _ = member.ask(&terms);
        let given = ranges(&["m".to_owned()], &terms).remove(0).assignment;
        let synced = SyncGroupResponse::default().with_assignment(given);
        answer!(member, terms, SyncGroup, SYNC_VERSION, synced, 8);
        assert_eq!((member.settled_in(), member.has().len()), (Some(3), 10));
        assert_eq!(member.due_ns(), 8 + 100 * MS_NS);
        let _ = member.ask(&terms);
        let moved =
            HeartbeatResponse::default().with_error_code(ErrorCode::RebalanceInProgress.code());
        answer!(member, terms, Heartbeat, HEARTBEAT_VERSION, moved, 9);
        assert_eq!((member.settled_in(), member.has().len(), member.due_ns()), (None, 0, 9));
    }

    #[test]
    fn a_member_of_the_new_kind_tells_at_once_what_it_has_given_up() {
        let terms = terms(Kind::Consumer);
        let mut member = Member::new(Kind::Consumer, 1);
        member.join(5);
        let told = |epoch, has: Option<Vec<i32>>| {
            let given = has.map(|has| {
                let given = Given::default().with_partitions(has);
                Assignment::default().with_topic_partitions(vec![given])
            });
            ConsumerGroupHeartbeatResponse::default()
                .with_member_epoch(epoch)
                .with_heartbeat_interval_ms(5_000)
                .with_assignment(given)
        };
        let beat = |member: &mut Member, epoch, has, now| {
            let _ = member.ask(&terms);
            let answer = told(epoch, has);
            answer!(member, terms, ConsumerGroupHeartbeat, CONSUMER_HEARTBEAT_VERSION, answer, now);
        };
        beat(&mut member, 1, Some(vec![2, 1]), 6);
        assert_eq!((member.settled_in(), member.due_ns()), (None, 6), "it has to say so");
        beat(&mut member, 1, None, 7);
        assert_eq!((member.settled_in(), member.due_ns()), (Some(1), 7 + 100 * MS_NS));
        beat(&mut member, 1, Some(vec![1]), 8);
        assert_eq!((member.has(), member.due_ns()), (&[1][..], 8));
        beat(&mut member, 2, None, 9);
        assert_eq!(member.settled_in(), Some(2));
        assert_eq!(member.leave(10), [1]);
        let _ = member.ask(&terms);
        let answer = told(-1, None);
        answer!(member, terms, ConsumerGroupHeartbeat, CONSUMER_HEARTBEAT_VERSION, answer, 11);
        assert!(member.is_away());
    }
}

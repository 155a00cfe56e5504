//! Large groups of the classic protocol: what all members wait for is told them over several turns, and
//! no turn does more than its share.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LeaderEpoch, Offset};
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::messages::{
    GroupId, JoinGroupRequest, LeaveGroupRequest, StrBytes, SyncGroupRequest,
};
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};
use flumen_replication::coordinator::Ticket;
use flumen_replication::coordinator::group::{
    GroupConfig, GroupCoordinator, GroupRequest, GroupResponse,
};
use flumen_replication::coordinator::runtime::{Coordinator, CoordinatorEffect, EffectOf};
use flumen_replication::dice::Dice;
use flumen_replication::limits::{
    ALARMS_PER_TURN_MAX, COORDINATOR_ANSWERS_PER_STEP, GROUP_ANSWERS_PER_STEP,
};

/// Members enough for several turns.
const MEMBERS: usize = 2 * GROUP_ANSWERS_PER_STEP + 90;
const SESSION_MS: u64 = 10_000;

/// A coordinator with its log and its clients; what comes of a call counts as a turn's.
struct Crowd {
    coordinator: Coordinator<GroupCoordinator>,
    dice: Dice,
    ms: u64,
    asked: u64,
    /// Answers that have come, by what was asked.
    answers: BTreeMap<u64, GroupResponse>,
    /// How many of them came with the last call.
    told: usize,
    rebalance_timeout_ms: i32,
    in_flight: Vec<(u64, BytesMut)>,
    log: Vec<u8>,
    next_offset: i64,
    /// The members' ids in the order in which they came, and what each asked last.
    ids: Vec<String>,
    asked_by: BTreeMap<String, u64>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Crowd {
    /// A group whose members all wait for its first join phase to end, which is due.
    fn new() -> Self {
        Self::of(60_000)
    }

    /// The same, of members that may take so long for a rebalance.
    fn of(rebalance_timeout_ms: i32) -> Self {
        let mut crowd = Self {
            coordinator: Coordinator::new(config()),
            dice: Dice::new(7),
            ms: 0,
            asked: 0,
            answers: BTreeMap::new(),
            told: 0,
            rebalance_timeout_ms,
            in_flight: Vec::new(),
            log: Vec::new(),
            next_offset: 0,
            ids: Vec::new(),
            asked_by: BTreeMap::new(),
        };
        crowd.load();
        for _ in 0..MEMBERS {
            let asked = crowd.ask(crowd.joining(""));
            let Some(GroupResponse::Join(response)) = crowd.answers.remove(&asked) else {
                panic!("a newcomer gets an id at once")
            };
            crowd.ids.push(response.member_id.to_string());
        }
        for id in crowd.ids.clone() {
            crowd.ask_as(&id, crowd.joining(&id));
        }
        assert!(crowd.answers.is_empty(), "they wait for each other");
        crowd
    }

    /// The same group when everybody has its assignment.
    fn stable() -> Self {
        let mut crowd = Self::new();
        crowd.go_on();
        crowd.followers_sync(1);
        crowd.leader_syncs(1);
        crowd.commit();
        crowd.go_on();
        crowd.answers.clear();
        crowd
    }

    fn load(&mut self) {
        self.coordinator.begin_load();
        self.coordinator.replay_batch(&self.log).expect("our own log");
        let now = self.now();
        self.coordinator.finish_load(now, &mut Vec::new());
    }

    fn now(&self) -> Now {
        Now { monotonic: Monotonic(self.ms * 1_000_000), wall: Wall(self.ms as i64) }
    }

    fn ask(&mut self, request: GroupRequest) -> u64 {
        self.asked += 1;
        let ticket = Ticket { core: CoreId(0), request: self.asked, part: 0 };
        let (now, mut out) = (self.now(), Vec::new());
        self.coordinator.handle(now, &mut self.dice, ticket, request, &mut out);
        self.coordinator.settle(now, &mut out);
        self.carry_out(out);
        self.asked
    }

    fn ask_as(&mut self, id: &str, request: GroupRequest) {
        let asked = self.ask(request);
        self.asked_by.insert(id.to_owned(), asked);
    }

    fn joining(&self, id: &str) -> GroupRequest {
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text("p")).with_metadata(Bytes::new());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_member_id(text(id))
            .with_session_timeout_ms(SESSION_MS as i32)
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_protocol_type(text("t"))
            .with_protocols(vec![protocol]);
        let (client_id, client_host) = ("c".to_owned(), "/::1".to_owned());
        GroupRequest::Join { request, version: 9, client_id, client_host }
    }

    /// One turn, if something is due.
    fn turn(&mut self) -> bool {
        let (now, mut out) = (self.now(), Vec::new());
        let is_due = self.coordinator.next_deadline().is_some_and(|at| at <= now.monotonic);
        if is_due {
            self.coordinator.on_time(now, WallTrust::Trusted, &mut out);
            self.coordinator.settle(now, &mut out);
            self.carry_out(out);
        }
        is_due
    }

    /// Turn after turn until nothing is due; how many.
    fn go_on(&mut self) -> usize {
        (0..10_000).take_while(|_| self.turn()).count()
    }

    fn commit(&mut self) {
        for (id, mut batch) in std::mem::take(&mut self.in_flight) {
            stamp(&mut batch, Offset(self.next_offset), LeaderEpoch(1));
            self.next_offset += 1;
            self.log.extend_from_slice(&batch);
            let mut out = Vec::new();
            self.coordinator.appended(id, Ok(()), &mut out);
            self.carry_out(out);
        }
    }

    fn carry_out(&mut self, effects: Vec<EffectOf<GroupCoordinator>>) {
        self.told = 0;
        for effect in effects {
            match effect {
                CoordinatorEffect::Reply { ticket, response } => {
                    self.told += 1;
                    let before = self.answers.insert(ticket.request, response);
                    assert!(before.is_none(), "{} is answered twice", ticket.request);
                }
                CoordinatorEffect::Append { batch, id } => self.in_flight.push((id, batch)),
                CoordinatorEffect::Announce(never) => match never {},
            }
        }
        assert!(self.told <= COORDINATOR_ANSWERS_PER_STEP, "more than a turn's share");
    }

    /// What a member was told last, if it was.
    fn answer_to(&self, id: &str) -> Option<&GroupResponse> {
        self.answers.get(&self.asked_by[id])
    }

    /// Members that were told this generation, and the leader by what it alone is told.
    fn joined(&self, generation: i32) -> (Vec<String>, Option<String>) {
        let (mut joined, mut leader) = (Vec::new(), None);
        for id in &self.ids {
            let Some(GroupResponse::Join(response)) = self.answer_to(id) else { continue };
            if response.error_code == 0 && response.generation_id == generation {
                joined.push(id.clone());
                if !response.members.is_empty() {
                    let names = response.members.iter().map(|member| &*member.member_id);
                    assert!(names.eq(self.ids.iter()), "the leader hears of all, eldest first");
                    assert!(leader.replace(id.clone()).is_none(), "one leads");
                }
            }
        }
        (joined, leader)
    }

    fn followers_sync(&mut self, generation: i32) {
        let ids = self.ids.clone();
        for id in &ids[1..] {
            self.ask_as(id, syncing(id, generation, &[]));
        }
    }

    fn leader_syncs(&mut self, generation: i32) {
        let (id, all) = (self.ids[0].clone(), self.ids.clone());
        self.ask_as(&id, syncing(&id, generation, &all));
    }

    /// Members that were told their own assignment.
    fn assigned(&self) -> usize {
        let is_told = |id: &&String| {
            matches!(self.answer_to(id), Some(GroupResponse::Sync(response))
                if response.error_code == 0 && response.assignment == id.as_bytes())
        };
        self.ids.iter().filter(is_told).count()
    }

    fn state(&self) -> (String, usize) {
        let row = self.coordinator.groups().next().expect("the group");
        (row.state.as_str().to_owned(), row.members)
    }
}

fn config() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() }
}

/// Each gets its own id assigned.
fn syncing(id: &str, generation: i32, given: &[String]) -> GroupRequest {
    let given = given.iter().map(|id| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(id))
            .with_assignment(Bytes::copy_from_slice(id.as_bytes()))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(id))
        .with_generation_id(generation)
        .with_assignments(given.collect());
    GroupRequest::Sync { request }
}

fn leaving(id: &str) -> GroupRequest {
    let member = MemberIdentity::default().with_member_id(text(id));
    let request =
        LeaveGroupRequest::default().with_group_id(GroupId(text("g"))).with_members(vec![member]);
    GroupRequest::Leave { request, version: 5 }
}

#[test]
fn a_rebalance_of_a_large_group_is_told_over_several_turns() {
    let mut crowd = Crowd::new();
    assert!(crowd.go_on() > MEMBERS / GROUP_ANSWERS_PER_STEP, "it was not told in one turn");
    assert_eq!(crowd.joined(1), (crowd.ids.clone(), Some(crowd.ids[0].clone())));

    crowd.followers_sync(1);
    crowd.leader_syncs(1);
    crowd.go_on();
    assert_eq!(crowd.state().0, "Stable");
    assert_eq!(crowd.assigned(), 0, "nobody has an assignment that may be lost");
    crowd.commit();
    assert!(crowd.assigned() < MEMBERS);
    assert!(crowd.go_on() > 1, "it was not told in one turn");
    assert_eq!(crowd.assigned(), MEMBERS);
}

/// Who may take no time at all to ask for its assignment is late only once it knows that there is one to
/// ask for.
#[test]
fn nobody_is_late_who_has_not_been_told() {
    let mut crowd = Crowd::of(0);
    assert!(crowd.go_on() < 100, "it comes to an end");
    assert_eq!(crowd.joined(1).0.len(), MEMBERS, "all were told before they were dropped");
    assert_eq!(crowd.state(), ("Empty".to_owned(), 0));
}

#[test]
fn a_leader_need_not_wait_until_all_others_know_the_generation() {
    let mut crowd = Crowd::new();
    while crowd.joined(1).1.is_none() {
        assert!(crowd.turn());
    }
    assert!(crowd.joined(1).0.len() < MEMBERS, "some do not know yet");
    crowd.leader_syncs(1);
    crowd.commit();
    crowd.go_on();
    let followers = crowd.ids[1..].to_vec();
    let joins: Vec<&String> = followers
        .iter()
        .filter(|id| matches!(crowd.answer_to(id), Some(GroupResponse::Join(_))))
        .collect();
    assert_eq!(joins.len(), MEMBERS - 1, "they are told the generation first");
    crowd.followers_sync(1);
    crowd.go_on();
    assert_eq!(crowd.assigned(), MEMBERS);
}

#[test]
fn who_has_not_been_told_when_the_next_rebalance_begins_has_joined_that() {
    let mut crowd = Crowd::new();
    while crowd.joined(1).0.is_empty() {
        assert!(crowd.turn());
    }
    let gone = crowd.ids[1].clone();
    crowd.ask(leaving(&gone));
    crowd.go_on();
    let (told, _) = crowd.joined(1);
    assert!(told.len() < MEMBERS - 1, "some do not know that generation");
    crowd.ids.remove(1);
    assert_eq!(crowd.state(), ("PreparingRebalance".to_owned(), MEMBERS - 1));
    for id in told.iter().filter(|id| **id != gone) {
        crowd.ask_as(id, crowd.joining(id));
    }
    crowd.go_on();
    assert_eq!(crowd.joined(2), (crowd.ids.clone(), Some(crowd.ids[0].clone())));
}

#[test]
fn who_waits_for_an_assignment_that_is_written_hears_it_though_a_member_leaves() {
    let mut crowd = Crowd::new();
    crowd.go_on();
    crowd.followers_sync(1);
    crowd.leader_syncs(1);
    let gone = crowd.ids.pop().expect("a member");
    crowd.ask(leaving(&gone));
    assert_eq!(crowd.state(), ("PreparingRebalance".to_owned(), MEMBERS - 1));
    crowd.commit();
    crowd.go_on();
    assert_eq!(crowd.assigned(), MEMBERS - 1);
}

#[test]
fn a_coordinator_that_goes_in_the_midst_forgets_nobody() {
    let refused = |crowd: &Crowd| -> usize {
        let codes = crowd.answers.values().map(|response| match response {
            GroupResponse::Join(response) => response.error_code,
            GroupResponse::Sync(response) => response.error_code,
            other => panic!("nobody asked for {other:?}"),
        });
        codes.filter(|code| *code == ErrorCode::NotCoordinator.code()).count()
    };
    let resign = |crowd: &mut Crowd| {
        let mut out = Vec::new();
        crowd.coordinator.resign(&mut out);
        for effect in out {
            match effect {
                CoordinatorEffect::Reply { ticket, response } => {
                    assert!(crowd.answers.insert(ticket.request, response).is_none(), "told twice");
                }
                other => panic!("whoever goes writes nothing: {other:?}"),
            }
        }
    };
    let mut crowd = Crowd::new();
    while crowd.joined(1).0.is_empty() {
        assert!(crowd.turn());
    }
    resign(&mut crowd);
    assert_eq!(crowd.answers.len(), MEMBERS);
    assert_eq!(refused(&crowd) + crowd.joined(1).0.len(), MEMBERS);

    // What is committed is told, even if not all of it had left; what is not is refused.
    let mut crowd = Crowd::new();
    crowd.go_on();
    crowd.answers.clear();
    crowd.followers_sync(1);
    crowd.leader_syncs(1);
    assert!(crowd.turn());
    crowd.commit();
    assert!(crowd.assigned() < MEMBERS);
    resign(&mut crowd);
    assert_eq!(crowd.answers.len(), MEMBERS);
    assert!(crowd.assigned() > 0 && refused(&crowd) > 0, "in the midst");
    assert_eq!(refused(&crowd) + crowd.assigned(), MEMBERS);
    crowd.load();
    assert_eq!(crowd.state(), ("Stable".to_owned(), MEMBERS));
}

#[test]
fn members_that_fall_silent_at_once_are_taken_out_over_several_turns() {
    let mut crowd = Crowd::stable();
    assert_eq!(crowd.state(), ("Stable".to_owned(), MEMBERS));
    crowd.ms += SESSION_MS;
    let mut before = MEMBERS;
    while crowd.turn() {
        let left = crowd.coordinator.groups().map(|row| row.members).sum();
        assert!(before - left <= ALARMS_PER_TURN_MAX, "more than a turn's share");
        before = left;
        crowd.commit();
    }
    assert_eq!(crowd.state(), ("Empty".to_owned(), 0));
}

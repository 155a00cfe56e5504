//! Stories about groups of the new kind: what members say and are told. Behind every step the log so
//! far is replayed by another coordinator, which must come to the same groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::batch::records::records;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, NodeId, TopicId};
use flumen_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use flumen_protocol::messages::*;
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};

use super::super::dispatch::GroupCoordinator;
use super::super::requests::{GroupEffect, GroupRequest, GroupResponse, text};
use super::super::subscription::{assignment, write_assignment};
use super::super::{GroupConfig, ListFilter};
use super::{Assignor, MigrationPolicy};
use crate::coordinator::Ticket;
use crate::coordinator::machine::Machine;
use crate::dice::Dice;
use crate::metadata::controller::Controller;
use crate::metadata::image::{Image, Placement};
use crate::metadata::record::MetadataRecord;

const G: &str = "g";

/// A coordinator, its log, and the clock.
struct Desk {
    machine: GroupCoordinator,
    config: GroupConfig,
    cluster: Controller,
    log: Vec<(Bytes, Option<Bytes>)>,
    replies: BTreeMap<u64, GroupResponse>,
    dice: Dice,
    ms: u64,
    asked: u64,
}

impl Desk {
    fn new(topics: &[(&str, usize)]) -> Self {
        Self::with(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() }, topics)
    }

    fn with(config: GroupConfig, topics: &[(&str, usize)]) -> Self {
        let mut desk = Self {
            machine: GroupCoordinator::new(config.clone()),
            config,
            cluster: Controller::new(),
            log: Vec::new(),
            replies: BTreeMap::new(),
            dice: Dice::new(7),
            ms: 1_000_000,
            asked: 0,
        };
        topics.iter().for_each(|(name, partitions)| desk.make(name, *partitions));
        desk
    }

    fn now(&self) -> Now {
        Now { monotonic: Monotonic(self.ms * 1_000_000), wall: Wall(self.ms as i64) }
    }

    fn image(&self) -> Arc<Image> {
        self.cluster.image()
    }

    fn make(&mut self, name: &str, partitions: usize) {
        let number = self.image().topic_count() as u8 + 1;
        self.change(&MetadataRecord::Topic {
            id: TopicId([number; 16]),
            name: name.to_owned(),
            partitions: placements(partitions),
            configs: BTreeMap::new(),
        });
    }

    fn change(&mut self, record: &MetadataRecord) {
        self.cluster.replay(record).expect("a record that fits");
        self.machine.learn(self.cluster.image());
    }

    fn id(&self, name: &str) -> TopicId {
        self.image().topic_named(name).expect("a topic").id
    }

    /// Asks, and gives the answer; `None` while it is parked.
    fn ask(&mut self, request: GroupRequest) -> Option<GroupResponse> {
        self.asked += 1;
        let ticket = Ticket { core: CoreId(0), request: self.asked, part: 0 };
        let mut out = Vec::new();
        let now = self.now();
        self.machine.handle(now, &mut self.dice, ticket, request, &mut out);
        self.carry_out(out);
        self.replies.remove(&self.asked)
    }

    fn carry_out(&mut self, effects: Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                GroupEffect::Reply { ticket, response } => {
                    self.replies.insert(ticket.request, response);
                }
                GroupEffect::Append { records, replies } => {
                    self.log.extend(records.into_iter().map(|record| (record.key, record.value)));
                    for (ticket, response) in replies {
                        self.replies.insert(ticket.request, response);
                    }
                }
                GroupEffect::AppendPacked { batches, replies } => {
                    for batch in batches {
                        let batch = batch.finish();
                        for record in &records(&batch, usize::MAX).expect("a batch") {
                            let record = record.expect("a record");
                            let copy = Bytes::copy_from_slice;
                            self.log.push((
                                record.key.map(copy).unwrap_or_default(),
                                record.value.map(copy),
                            ));
                        }
                    }
                    for (ticket, response) in replies {
                        self.replies.insert(ticket.request, response);
                    }
                }
                other => panic!("a group has no use for {other:?}"),
            }
        }
        let replayed = self.replayed();
        let groups = |machine: &GroupCoordinator| -> Vec<String> {
            machine.consumers.iter().map(|group| group.id.clone()).collect()
        };
        assert_eq!(groups(&replayed), groups(&self.machine), "the log says the same");
        for id in groups(&self.machine) {
            let live = self.machine.describe_consumer_group(&id, 1);
            assert_eq!(replayed.describe_consumer_group(&id, 1), live, "the log says the same");
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(self.config.clone());
        machine.learn(self.image());
        for (key, value) in &self.log {
            machine.replay(None, key, value.as_deref()).expect("our own records");
        }
        machine
    }

    /// What compaction leaves of the log.
    fn compacted(&self) -> BTreeMap<Bytes, Bytes> {
        let mut last = BTreeMap::new();
        for (key, value) in &self.log {
            last.insert(key.clone(), value.clone());
        }
        last.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// Lets time pass, alarm by alarm.
    fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        loop {
            let next = self.machine.next_deadline().map(|at| at.0.div_ceil(1_000_000));
            self.ms = next.map_or(end, |next| next.clamp(self.ms, end));
            let mut out = Vec::new();
            let now = self.now();
            self.machine.on_time(now, WallTrust::Trusted, &mut out);
            self.carry_out(out);
            if self.ms == end && next.is_none_or(|next| next > end) {
                return;
            }
        }
    }

    fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.beat_in(1, request)
    }

    fn beat_in(
        &mut self,
        version: i16,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let (client_id, client_host) = ("c".to_owned(), "/::1".to_owned());
        let asked = GroupRequest::ConsumerHeartbeat { request, version, client_id, client_host };
        match self.ask(asked) {
            Some(GroupResponse::ConsumerHeartbeat(response)) => response,
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    /// A heartbeat that only says that the member lives, and what it has.
    fn keep(&mut self, member: &str, epoch: i32, owned: &[(&str, &[i32])]) -> Told {
        let owned = self.owned(owned);
        let response = self.beat(bare(member, epoch).with_topic_partitions(Some(owned)));
        self.told(response)
    }

    fn join(&mut self, member: &str, topics: &[&str]) -> Told {
        let response = self.beat(joining(member, topics));
        self.told(response)
    }

    fn owned(&self, owned: &[(&str, &[i32])]) -> Vec<TopicPartitions> {
        let topics = owned.iter().map(|(topic, partitions)| {
            TopicPartitions::default()
                .with_topic_id(self.id(topic).into())
                .with_partitions(partitions.to_vec())
        });
        topics.collect()
    }

    fn told(&self, response: ConsumerGroupHeartbeatResponse) -> Told {
        let image = self.image();
        let assignment = response.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter().map(|topic| {
                let id = TopicId(*topic.topic_id.as_bytes());
                (image.topic(id).expect("a topic").name.clone(), topic.partitions)
            });
            topics.collect()
        });
        Told {
            code: code(response.error_code),
            why: response.error_message.map(|why| why.to_string()).unwrap_or_default(),
            epoch: response.member_epoch,
            assignment,
        }
    }

    fn classic_join(&mut self, request: JoinGroupRequest) -> Option<JoinGroupResponse> {
        let (client_id, client_host) = ("c".to_owned(), "/::1".to_owned());
        let asked = GroupRequest::Join { request, version: 9, client_id, client_host };
        self.ask(asked).map(|response| match response {
            GroupResponse::Join(response) => response,
            other => panic!("no answer to a join: {other:?}"),
        })
    }

    fn classic_beat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(G)))
            .with_member_id(text(member))
            .with_generation_id(generation);
        match self.ask(GroupRequest::Heartbeat { request }) {
            Some(GroupResponse::Heartbeat(response)) => code(response.error_code),
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    fn classic_sync(&mut self, member: &str, generation: i32) -> Result<Told, ErrorCode> {
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(G)))
            .with_member_id(text(member))
            .with_generation_id(generation);
        let Some(GroupResponse::Sync(response)) = self.ask(GroupRequest::Sync { request }) else {
            panic!("no answer to a sync")
        };
        let code = code(response.error_code);
        if code != ErrorCode::None {
            return Err(code);
        }
        let read = assignment(&response.assignment).expect("an assignment");
        let topics = read.partitions.into_iter().map(|(topic, all)| (topic.to_owned(), all));
        let assignment = Some(topics.collect());
        Ok(Told { code, why: String::new(), epoch: generation, assignment })
    }

    fn commit(&mut self, member: &str, epoch: i32, version: i16) -> ErrorCode {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("t")))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(G)))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        match self.ask(GroupRequest::CommitOffsets { request, version }) {
            Some(GroupResponse::CommitOffsets(response)) => {
                code(response.topics[0].partitions[0].error_code)
            }
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    fn fetch(&mut self, member: Option<&str>, epoch: i32) -> ErrorCode {
        let request = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(G)))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(None);
        match self.ask(GroupRequest::FetchOffsets { request, require_stable: true }) {
            Some(GroupResponse::FetchOffsets(response)) => code(response.error_code),
            other => panic!("no answer to a fetch: {other:?}"),
        }
    }

    fn list(&mut self, states: &[&str], types: &[&str]) -> Vec<String> {
        let wanted = ListFilter::new(states.iter().copied(), types.iter().copied());
        let Some(GroupResponse::List(list)) = self.ask(GroupRequest::List { wanted }) else {
            panic!("no list")
        };
        let line = |group: &list_groups_response::ListedGroup| {
            let (id, kind, state) = (&group.group_id.0, &group.group_type, &group.group_state);
            format!("{id} {kind} {state}")
        };
        list.groups.iter().map(line).collect()
    }

    fn delete(&mut self) -> ErrorCode {
        match self.ask(GroupRequest::Delete { group_id: G.to_owned() }) {
            Some(GroupResponse::Delete(result)) => code(result.error_code),
            other => panic!("no answer to a deletion: {other:?}"),
        }
    }

    fn state(&self) -> &'static str {
        self.machine.consumers.get(G).map_or("none", |group| group.state().as_str())
    }
}

/// What a member was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    code: ErrorCode,
    why: String,
    epoch: i32,
    /// By topic; `None`: as before.
    assignment: Option<BTreeMap<String, Vec<i32>>>,
}

impl Told {
    fn of(&self, topic: &str) -> Vec<i32> {
        let assignment = self.assignment.as_ref().expect("an assignment was told");
        assignment.get(topic).cloned().unwrap_or_default()
    }
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka's")
}

fn placements(count: usize) -> Vec<Placement> {
    vec![Placement { replicas: vec![NodeId(1)] }; count]
}

fn bare(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_instance_id(None)
        .with_rack_id(None)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(None)
        .with_server_assignor(None)
        .with_topic_partitions(None)
}

fn joining(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    let names = topics.iter().map(|name| TopicName(text(name))).collect();
    bare(member, 0)
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(names))
        .with_topic_partitions(Some(Vec::new()))
}

/// A ConsumerProtocolSubscription of version 1.
fn wishes(topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let mut bytes = vec![0, 1];
    let put_text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as i16).to_be_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend((topics.len() as i32).to_be_bytes());
    topics.iter().for_each(|topic| put_text(&mut bytes, topic));
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend((owned.len() as i32).to_be_bytes());
    for (topic, partitions) in owned {
        put_text(&mut bytes, topic);
        bytes.extend((partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
    }
    bytes.into()
}

fn classic_joining(member: &str, owned: &[(&str, &[i32])]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(wishes(&["t"], owned));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_member_id(text(member))
        .with_group_instance_id(None)
        .with_protocol_type(text("consumer"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocols(vec![protocol])
}

/// A classic group of one member with all partitions of `t`; its id.
fn classic_group(desk: &mut Desk, partitions: &[i32]) -> String {
    let first = desk.classic_join(classic_joining("", &[])).expect("an id is given out");
    let id = first.member_id.to_string();
    assert_eq!(desk.classic_join(classic_joining(&id, &[])), None, "waits for others");
    desk.pass(1);
    let given = write_assignment(&wishes(&["t"], &[]), [("t", partitions)].into_iter());
    let one = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(text(&id))
        .with_assignment(given);
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_member_id(text(&id))
        .with_generation_id(1)
        .with_assignments(vec![one]);
    assert!(matches!(desk.ask(GroupRequest::Sync { request }), Some(GroupResponse::Sync(_))));
    id
}

#[test]
fn partitions_go_from_member_to_member_without_ever_having_two() {
    let mut desk = Desk::new(&[("t", 4)]);
    let a = desk.join("a", &["t"]);
    assert_eq!((a.epoch, a.of("t")), (1, vec![0, 1, 2, 3]));
    assert_eq!(desk.state(), "Stable");
    let b = desk.join("b", &["t"]);
    assert_eq!((b.epoch, b.of("t")), (2, vec![]), "everything is with the first");
    assert_eq!(desk.state(), "Reconciling");
    // The first is told what it may keep, and stays in its epoch until it has given up the rest.
    let all: &[(&str, &[i32])] = &[("t", &[0, 1, 2, 3])];
    let a = desk.keep("a", 1, all);
    assert_eq!((a.epoch, a.of("t")), (1, vec![0, 1]));
    assert_eq!(desk.keep("b", 2, &[]).assignment, None, "not yet");
    assert_eq!(desk.keep("a", 1, all).assignment, None, "it was told");
    assert_eq!(desk.keep("a", 1, &[("t", &[0, 1])]).epoch, 2);
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [2, 3]);
    assert_eq!(desk.state(), "Stable");
    assert_eq!(desk.keep("b", 2, &[("t", &[2, 3])]).assignment, None);
}

#[test]
fn a_member_that_leaves_or_falls_silent_makes_room() {
    let mut desk = Desk::new(&[("t", 2)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    desk.keep("a", 1, &[]);
    let gone = desk.beat(bare("b", -1));
    assert_eq!((gone.member_epoch, gone.error_code), (-1, 0));
    assert_eq!(desk.keep("a", 2, &[("t", &[0])]).epoch, 3);
    assert_eq!(desk.join("c", &["t"]).epoch, 4);
    desk.pass(44_999);
    assert_eq!(desk.keep("c", 4, &[]).code, ErrorCode::None);
    desk.pass(1);
    assert_eq!(desk.keep("a", 3, &[]).code, ErrorCode::UnknownMemberId, "its session is over");
    assert_eq!(desk.keep("c", 4, &[]).of("t"), [0, 1]);
}

#[test]
fn who_does_not_give_up_partitions_in_time_is_taken_out() {
    let mut desk = Desk::new(&[("t", 2)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    let has: &[(&str, &[i32])] = &[("t", &[0, 1])];
    assert_eq!(desk.keep("a", 1, has).of("t"), [0]);
    desk.pass(9_999);
    assert_eq!(desk.keep("a", 1, has).code, ErrorCode::None, "heartbeats alone do not help");
    let unsaid = desk.beat(bare("a", 1));
    assert_eq!(unsaid.error_code, 0, "nor does one that leaves out what it has, whatever that is");
    desk.pass(1);
    assert_eq!(desk.keep("a", 1, has).code, ErrorCode::UnknownMemberId);
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [0, 1]);
}

#[test]
fn epochs_fence_who_missed_something() {
    let mut desk = Desk::new(&[("t", 2)]);
    assert_eq!(desk.keep("a", 3, &[]).code, ErrorCode::GroupIdNotFound);
    desk.join("a", &["t"]);
    assert_eq!(desk.keep("x", 1, &[]).code, ErrorCode::UnknownMemberId);
    let ahead = desk.keep("a", 2, &[]);
    assert_eq!(ahead.code, ErrorCode::FencedMemberEpoch);
    assert!(ahead.why.contains("greater member epoch (2)"), "{}", ahead.why);
    desk.make("u", 1);
    let wider = joining("a", &["t", "u"]).with_member_epoch(1).with_topic_partitions(None);
    assert_eq!(desk.beat(wider).member_epoch, 2);
    // The answer with the new epoch was lost: with no more than it may have the member goes on.
    assert_eq!(desk.keep("a", 1, &[("t", &[0, 1])]).epoch, 2);
    assert_eq!(desk.keep("a", 0, &[]).code, ErrorCode::InvalidRequest, "no full request");
    desk.make("v", 9);
    let behind = desk.keep("a", 1, &[("v", &[0])]);
    assert_eq!(behind.code, ErrorCode::FencedMemberEpoch, "it says it has what it never got");
}

#[test]
fn who_was_fenced_begins_again_under_its_id_at_once() {
    let mut desk = Desk::new(&[("t", 3)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    let has: &[(&str, &[i32])] = &[("t", &[0, 1, 2])];
    let (gives, keeps) = (desk.keep("a", 1, has), &[("t", &[0, 1][..])]);
    assert_eq!((gives.epoch, gives.of("t")), (1, vec![0, 1]));
    assert_eq!(desk.keep("a", 1, keeps).epoch, 2, "an answer that is lost");
    desk.join("c", &["t"]);
    assert_eq!(desk.keep("a", 2, keeps).of("t"), [0], "another one");
    // Now it says that it has what is being taken from it, under an epoch that is past.
    assert_eq!(desk.keep("a", 1, keeps).code, ErrorCode::FencedMemberEpoch);
    let again = desk.join("a", &["t"]);
    assert_eq!((again.code, again.epoch, again.of("t")), (ErrorCode::None, 3, vec![0]));
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [2]);
    assert_eq!(desk.keep("c", 3, &[]).of("t"), [1]);
}

#[test]
fn requests_that_make_no_sense_are_refused_in_kafkas_words() {
    let mut desk = Desk::new(&[]);
    let full = || joining("a", &["t"]);
    let table: [(ConsumerGroupHeartbeatRequest, &str); 9] = [
        (full().with_member_id(text("")), "MemberId can't be empty."),
        (full().with_group_id(GroupId(text(""))), "GroupId can't be empty."),
        (full().with_instance_id(Some(text(""))), "InstanceId can't be empty."),
        (full().with_rack_id(Some(text(""))), "RackId can't be empty."),
        (
            full().with_rebalance_timeout_ms(-1),
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (full().with_topic_partitions(None), "TopicPartitions must be empty when (re-)joining."),
        (
            full().with_subscribed_topic_names(None),
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        ),
        (bare("a", -2), "InstanceId can't be null."),
        (bare("a", -3), "MemberEpoch is invalid."),
    ];
    for (request, why) in table {
        let told = desk.beat(request);
        assert_eq!(told.error_code, ErrorCode::InvalidRequest.code(), "{why}");
        assert_eq!(told.error_message.as_deref(), Some(why));
    }
    let told = desk.beat(full().with_server_assignor(Some(text("best"))));
    assert_eq!(told.error_code, ErrorCode::UnsupportedAssignor.code());
    let why = "ServerAssignor best is not supported. Supported assignors: uniform, range.";
    assert_eq!(told.error_message.as_deref(), Some(why));
    assert!(desk.log.is_empty(), "nothing was stored");
    let made = desk.beat_in(0, full().with_member_id(text("")));
    assert_eq!(made.error_code, 0, "version 0 makes ids on the server");
    assert!(made.member_id.is_some_and(|id| !id.is_empty()));
}

#[test]
fn the_assignor_most_members_ask_for_is_used() {
    let mut desk = Desk::new(&[("t", 4), ("u", 4)]);
    let range = |member| joining(member, &["t", "u"]).with_server_assignor(Some(text("range")));
    desk.beat(range("a"));
    desk.beat(range("b"));
    let b = desk.keep("b", 2, &[]);
    assert_eq!(b.assignment, None);
    let a = desk.keep("a", 1, &[]);
    assert_eq!((a.of("t"), a.of("u")), (vec![0, 1], vec![0, 1]), "the same place everywhere");
    let config = GroupConfig::default();
    assert_eq!(config.consumer.assignor_or_default(None), Assignor::Uniform);
}

#[test]
fn who_missed_that_more_is_taken_from_it_goes_on() {
    let mut desk = Desk::new(&[("t", 4)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    let all: &[(&str, &[i32])] = &[("t", &[0, 1, 2, 3])];
    let half: &[(&str, &[i32])] = &[("t", &[0, 1])];
    assert_eq!(desk.keep("a", 1, all).of("t"), [0, 1]);
    desk.join("c", &["t"]);
    desk.join("d", &["t"]);
    let lost = desk.keep("a", 1, half);
    assert_eq!((lost.epoch, lost.of("t")), (2, vec![0]));
    let whole = joining("a", &["t"]).with_member_epoch(1);
    let told = desk.beat(whole.with_topic_partitions(Some(desk.owned(half))));
    let told = desk.told(told);
    assert_eq!((told.code, told.epoch, told.of("t")), (ErrorCode::None, 2, vec![0]));
    assert_eq!(desk.keep("a", 1, all).code, ErrorCode::FencedMemberEpoch, "it had given these up");
    assert_eq!(desk.keep("a", 2, &[("t", &[0])]).epoch, 4);
}

#[test]
fn a_static_member_that_was_fenced_begins_again_at_once() {
    let mut desk = Desk::new(&[("t", 2)]);
    let member = |id| joining(id, &["t"]).with_instance_id(Some(text("i")));
    desk.beat(member("a"));
    let again = desk.beat(member("a"));
    let again = desk.told(again);
    assert_eq!((again.code, again.epoch, again.of("t")), (ErrorCode::None, 1, vec![0, 1]));
    let other = desk.beat(member("b"));
    assert_eq!(other.error_code, ErrorCode::UnreleasedInstanceId.code());
}

#[test]
fn a_static_member_comes_back_to_its_place() {
    let mut desk = Desk::new(&[("t", 2)]);
    let member = |id, instance| joining(id, &["t"]).with_instance_id(Some(text(instance)));
    let first = desk.beat(member("a", "i"));
    assert_eq!(desk.told(first).of("t"), [0, 1]);
    let second = desk.beat(member("b", "i"));
    assert_eq!(second.error_code, ErrorCode::UnreleasedInstanceId.code());
    let away = desk.beat(bare("a", -2).with_instance_id(Some(text("i"))));
    assert_eq!((away.error_code, away.member_epoch), (0, -2));
    assert_eq!(desk.state(), "Reconciling");
    let back = desk.beat(member("b", "i"));
    let back = desk.told(back);
    assert_eq!((back.epoch, back.of("t")), (1, vec![0, 1]), "without a new epoch of the group");
    let old = desk.beat(bare("a", 1).with_instance_id(Some(text("i"))));
    assert_eq!(old.error_code, ErrorCode::FencedInstanceId.code());
    // Away for longer than its session it is gone.
    desk.beat(bare("b", -2).with_instance_id(Some(text("i"))));
    desk.pass(45_000);
    assert_eq!(desk.state(), "Empty");
    let unknown = desk.beat(bare("b", 1).with_instance_id(Some(text("i"))));
    assert_eq!(unknown.error_code, ErrorCode::UnknownMemberId.code());
}

#[test]
fn topics_that_come_grow_and_go_reach_the_members() {
    let mut desk = Desk::new(&[("t", 1)]);
    assert_eq!(desk.join("a", &["t", "u"]).of("t"), [0]);
    desk.make("other", 3);
    assert_eq!(desk.keep("a", 1, &[]).epoch, 1, "nobody wants it");
    desk.make("u", 2);
    let a = desk.keep("a", 1, &[("t", &[0])]);
    assert_eq!((a.epoch, a.of("u")), (2, vec![0, 1]));
    let id = desk.id("t");
    desk.change(&MetadataRecord::Partitions { id, partitions: placements(3) });
    let a = desk.keep("a", 2, &[]);
    assert_eq!((a.epoch, a.of("t")), (3, vec![0, 1, 2]));
    let id = desk.id("u");
    desk.change(&MetadataRecord::TopicDeleted { id });
    let a = desk.keep("a", 3, &[("t", &[0, 1, 2])]);
    assert_eq!((a.epoch, a.of("u")), (4, vec![]));
}

#[test]
fn a_pattern_stands_for_the_topics_there_are() {
    let mut desk = Desk::new(&[("orders-a", 1), ("orders-b", 1), ("bills", 1)]);
    let by_pattern = |member: &str, pattern: &str| {
        joining(member, &[])
            .with_subscribed_topic_names(None)
            .with_subscribed_topic_regex(Some(text(pattern)))
    };
    let refused = desk.beat(by_pattern("a", "(orders"));
    assert_eq!(refused.error_code, ErrorCode::InvalidRegularExpression.code());
    assert!(desk.log.is_empty());
    let a = desk.beat(by_pattern("a", "orders-.*"));
    assert_eq!(desk.told(a).of("orders-a"), [0; 0], "it is looked for behind the answer");
    desk.pass(1);
    let a = desk.keep("a", 1, &[]);
    assert_eq!((a.of("orders-a"), a.of("orders-b"), a.of("bills")), (vec![0], vec![0], vec![]));
    desk.make("orders-c", 2);
    assert_eq!(desk.keep("a", 2, &[]).assignment, None, "looked for just now");
    desk.pass(10_000);
    desk.keep("a", 2, &[]);
    desk.pass(1);
    assert_eq!(desk.keep("a", 2, &[]).of("orders-c"), [0, 1]);
    // A second member with the same pattern has its topics at once.
    assert_eq!(desk.beat(by_pattern("b", "orders-.*")).member_epoch, 4);
    // The last one that wants a pattern takes it away.
    desk.beat(bare("b", -1));
    desk.beat(bare("a", -1));
    assert_eq!(desk.state(), "Empty");
    assert_eq!(desk.delete(), ErrorCode::None);
    assert_eq!(desk.compacted(), BTreeMap::new(), "nothing is left in the log");
}

#[test]
fn offsets_are_committed_with_the_epoch_of_the_member() {
    let mut desk = Desk::new(&[("t", 1)]);
    assert_eq!(desk.commit("a", 1, 9), ErrorCode::GroupIdNotFound);
    desk.join("a", &["t"]);
    assert_eq!(desk.commit("a", 1, 9), ErrorCode::None);
    assert_eq!(desk.commit("a", 1, 8), ErrorCode::UnsupportedVersion);
    assert_eq!(desk.commit("a", 2, 9), ErrorCode::StaleMemberEpoch);
    assert_eq!(desk.commit("x", 1, 9), ErrorCode::UnknownMemberId);
    assert_eq!(desk.commit("", -1, 9), ErrorCode::UnknownMemberId, "the group is not empty");
    assert_eq!(desk.fetch(Some("a"), 1), ErrorCode::None);
    assert_eq!(desk.fetch(None, -1), ErrorCode::None);
    assert_eq!(desk.fetch(Some("a"), 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(desk.fetch(Some("x"), 1), ErrorCode::UnknownMemberId);
    desk.beat(bare("a", -1));
    assert_eq!(desk.commit("", -1, 9), ErrorCode::None, "an administrator, of an empty group");
}

#[test]
fn administrators_see_both_kinds_and_delete_empty_groups() {
    let mut desk = Desk::new(&[("t", 1)]);
    desk.join("a", &["t"]);
    assert_eq!(desk.list(&[], &[]), ["g consumer Stable"]);
    assert_eq!(desk.list(&["stable"], &["Consumer"]), ["g consumer Stable"]);
    assert_eq!(desk.list(&[], &["classic"]), [""; 0]);
    assert_eq!(desk.list(&["Empty"], &[]), [""; 0]);
    let described = desk.ask(GroupRequest::Describe { group_id: G.to_owned(), version: 6 });
    let Some(GroupResponse::Describe(described)) = described else { panic!("no description") };
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(described.error_message.as_deref(), Some("Group g is not a classic group."));
    assert_eq!(desk.delete(), ErrorCode::NonEmptyGroup);
    desk.commit("a", 1, 9);
    desk.beat(bare("a", -1));
    assert_eq!(desk.delete(), ErrorCode::None);
    assert_eq!(desk.state(), "none");
    assert_eq!(desk.compacted(), BTreeMap::new(), "nothing is left in the log");
}

#[test]
fn an_empty_group_without_offsets_expires_and_old_offsets_do() {
    let mut desk = Desk::new(&[("t", 1)]);
    desk.machine.loaded(desk.now(), &mut Vec::new());
    desk.join("a", &["t"]);
    desk.commit("a", 1, 9);
    desk.beat(bare("a", -1));
    desk.pass(7 * 24 * 3600 * 1000 - 1);
    assert_eq!(desk.state(), "Empty");
    desk.pass(20 * 60 * 1000);
    assert_eq!(desk.state(), "none");
    assert_eq!(desk.compacted(), BTreeMap::new(), "nothing is left in the log");
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut config = GroupConfig::default();
    config.consumer.max_size = 2;
    let mut desk = Desk::with(config, &[("t", 1)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    let told = desk.join("c", &["t"]);
    assert_eq!(told.code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(told.why, "The consumer group has reached its maximum capacity of 2 members.");
    assert_eq!(desk.keep("a", 1, &[]).code, ErrorCode::None);
    let name = "t".repeat(240);
    let names: Vec<String> = (0..3000).map(|number| format!("{name}{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(desk.join("d", &names).code, ErrorCode::InvalidRequest, "it says too much");
}

#[test]
fn loaded_members_have_their_sessions_and_waits() {
    let mut desk = Desk::new(&[("t", 2)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    desk.keep("a", 1, &[("t", &[0, 1])]);
    desk.machine = desk.replayed();
    desk.machine.loaded(desk.now(), &mut Vec::new());
    desk.pass(10_000);
    assert_eq!(desk.keep("a", 1, &[]).code, ErrorCode::UnknownMemberId, "it gave nothing up");
    desk.pass(45_000);
    assert_eq!(desk.state(), "Empty");
}

#[test]
fn a_classic_group_takes_in_new_members_and_becomes_classic_again() {
    let mut desk = Desk::new(&[("t", 4)]);
    let a = classic_group(&mut desk, &[0, 1, 2, 3]);
    let b = desk.join("b", &["t"]);
    assert_eq!((b.code, b.epoch), (ErrorCode::None, 2));
    assert_eq!(desk.list(&[], &[]), ["g consumer Reconciling"]);
    // The classic member is told to join again, gives up two, and joins once more.
    assert_eq!(desk.classic_beat(&a, 1), ErrorCode::RebalanceInProgress);
    let all: &[(&str, &[i32])] = &[("t", &[0, 1, 2, 3])];
    let joined = desk.classic_join(classic_joining(&a, all)).expect("at once");
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(desk.classic_sync(&a, 1).expect("synced").of("t"), [0, 1]);
    assert_eq!(desk.classic_beat(&a, 1), ErrorCode::RebalanceInProgress, "it must confirm");
    let two: &[(&str, &[i32])] = &[("t", &[0, 1])];
    let joined = desk.classic_join(classic_joining(&a, two)).expect("at once");
    assert_eq!(joined.generation_id, 2);
    assert_eq!(desk.classic_sync(&a, 2).expect("synced").of("t"), [0, 1]);
    assert_eq!(desk.classic_beat(&a, 2), ErrorCode::None);
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [2, 3]);
    assert_eq!(desk.commit(&a, 1, 8), ErrorCode::IllegalGeneration);
    assert_eq!(desk.commit(&a, 2, 8), ErrorCode::None);
    // The last new member goes: what is left is classic, and joins again.
    desk.beat(bare("b", -1));
    assert_eq!(desk.list(&[], &["classic"]), ["g classic PreparingRebalance"]);
    assert_eq!(desk.classic_beat(&a, 2), ErrorCode::RebalanceInProgress);
    let joined = desk.classic_join(classic_joining(&a, two)).expect("it is alone");
    assert_eq!(joined.generation_id, 3, "generations go on from the group's epoch");
}

#[test]
fn a_classic_member_that_does_not_join_again_is_taken_out() {
    let mut desk = Desk::new(&[("t", 2)]);
    let a = classic_group(&mut desk, &[0, 1]);
    desk.join("b", &["t"]);
    for _ in 0..4 {
        assert_eq!(desk.classic_beat(&a, 1), ErrorCode::RebalanceInProgress);
        assert_eq!(desk.keep("b", 2, &[]).epoch, 2);
        desk.pass(5_000);
    }
    assert_eq!(desk.classic_beat(&a, 1), ErrorCode::UnknownMemberId);
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [0, 1]);
}

#[test]
fn the_policy_decides_about_conversions() {
    let with = |policy| {
        let mut config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        config.consumer.migration_policy = policy;
        let mut desk = Desk::with(config, &[("t", 2)]);
        let a = classic_group(&mut desk, &[0, 1]);
        let told = desk.join("b", &["t"]);
        (desk, a, told)
    };
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let (mut desk, a, told) = with(policy);
        assert_eq!(told.code, ErrorCode::GroupIdNotFound);
        let why = "Cannot upgrade classic group g to consumer group because online upgrade is \
                   disabled.";
        assert_eq!(told.why, why);
        assert_eq!(desk.classic_beat(&a, 1), ErrorCode::None, "nothing has changed");
    }
    let (mut desk, a, told) = with(MigrationPolicy::Upgrade);
    assert_eq!(told.code, ErrorCode::None);
    desk.beat(bare("b", -1));
    assert_eq!(desk.list(&[], &[]), ["g consumer Assigning"], "it stays what it is");
    assert_eq!(desk.classic_beat(&a, 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn groups_of_other_protocols_are_not_converted_and_empty_ones_make_way() {
    let mut desk = Desk::new(&[("t", 1)]);
    let mut connect = classic_joining("", &[]);
    connect.protocol_type = text("connect");
    let id = desk.classic_join(connect.clone()).expect("an id").member_id;
    connect.member_id = id.clone();
    desk.classic_join(connect);
    desk.pass(1);
    assert_eq!(desk.join("a", &["t"]).code, ErrorCode::GroupIdNotFound);
    let leave = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_members(vec![MemberIdentity::default().with_member_id(id)]);
    desk.ask(GroupRequest::Leave { request: leave, version: 5 });
    assert_eq!(desk.join("a", &["t"]).code, ErrorCode::None, "an empty one makes way");
    assert_eq!(desk.list(&[], &[]), ["g consumer Stable"]);
    desk.beat(bare("a", -1));
    assert!(desk.classic_join(classic_joining("", &[])).is_some(), "and the other way round");
    assert_eq!(desk.list(&[], &["consumer"]), [""; 0]);
}

#[test]
fn administrators_take_members_out_of_both_protocols() {
    let mut desk = Desk::new(&[("t", 2)]);
    desk.beat(joining("a", &["t"]).with_instance_id(Some(text("i"))));
    desk.join("b", &["t"]);
    let by_instance = MemberIdentity::default().with_group_instance_id(Some(text("i")));
    let unknown = MemberIdentity::default().with_member_id(text("x"));
    let request = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_members(vec![by_instance, unknown]);
    let left = desk.ask(GroupRequest::Leave { request, version: 5 });
    let Some(GroupResponse::Leave(left)) = left else { panic!("no answer") };
    let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::UnknownMemberId.code()]);
    assert_eq!(desk.keep("b", 2, &[]).of("t"), [0, 1]);
}

/// Whatever members do and however late they are, no partition is ever with two of them.
#[test]
fn random_members_never_share_a_partition() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut desk = Desk::new(&[("t", 5), ("u", 3)]);
        let names = ["a", "b", "c", "d"];
        let mut clients: BTreeMap<&str, (i32, BTreeMap<String, Vec<i32>>)> = BTreeMap::new();
        for _ in 0..200 {
            let name = names[(dice.draw() % 4) as usize];
            let told = match clients.get(name) {
                None => {
                    let topics: &[&str] = [&["t"][..], &["t", "u"]][(dice.draw() % 2) as usize];
                    desk.join(name, topics)
                }
                Some(_) if dice.draw().is_multiple_of(12) => {
                    desk.beat(bare(name, -1));
                    clients.remove(name);
                    continue;
                }
                Some((epoch, has)) => {
                    let has: Vec<(&str, &[i32])> =
                        has.iter().map(|(topic, all)| (topic.as_str(), all.as_slice())).collect();
                    desk.keep(name, *epoch, &has)
                }
            };
            if told.code != ErrorCode::None {
                clients.remove(name);
                continue;
            }
            let client = clients.entry(name).or_default();
            client.0 = told.epoch;
            if let Some(assignment) = told.assignment {
                client.1 = assignment;
            }
            // Who was taken out for its silence stops by its own clock, which is not in this story.
            let group = desk.machine.consumers.get(G).expect("the group is there");
            clients.retain(|name, _| group.members().contains_key(*name));
            let mut seen = BTreeSet::new();
            for (topic, all) in clients.values().flat_map(|(_, has)| has) {
                for partition in all {
                    assert!(seen.insert((topic, partition)), "seed {seed}: {topic} {partition}");
                }
            }
            desk.pass(dice.draw() % 3_000);
        }
    }
}

/// What each member has in its hands, by its name, and its epoch.
type Hands = BTreeMap<&'static str, (i32, Vec<i32>)>;

/// Heartbeats of all until everybody has what it shall have; so many partitions, each once.
fn settle(desk: &mut Desk, hands: &mut Hands, partitions: usize) {
    for _ in 0..20 {
        for (name, (epoch, has)) in &mut *hands {
            let told = desk.keep(name, *epoch, &[("t", has.as_slice())]);
            assert_eq!(told.code, ErrorCode::None, "{}", told.why);
            *epoch = told.epoch;
            if told.assignment.is_some() {
                *has = told.of("t");
            }
        }
        let all: Vec<i32> = hands.values().flat_map(|(_, has)| has.iter().copied()).collect();
        let each: BTreeSet<i32> = all.iter().copied().collect();
        assert_eq!(each.len(), all.len(), "no partition is with two");
        if desk.state() == "Stable" {
            assert_eq!(each.len(), partitions);
            return;
        }
    }
    panic!("the group does not settle: {}", desk.state());
}

/// What a large group shall have is worked out over several turns. Nobody waits for that, and whoever
/// comes, goes or is replaced meanwhile is in the next assignment.
#[test]
fn a_large_assignment_takes_its_turns() {
    const PARTITIONS: usize = 20_000;
    let mut desk = Desk::new(&[("t", PARTITIONS)]);
    let mut hands = Hands::new();
    let first = desk.join("a", &["t"]);
    assert_eq!(first.of("t").len(), PARTITIONS, "who is first does not wait");
    hands.insert("a", (first.epoch, first.of("t")));

    let told = desk.beat(joining("s", &["t"]).with_instance_id(Some(text("i"))));
    assert_eq!((told.member_epoch, told.heartbeat_interval_ms), (1, 500), "asks again soon");
    assert_eq!(desk.told(told).of("t"), [0; 0]);
    assert_eq!(desk.state(), "Assigning");
    desk.pass(0);
    assert_eq!(desk.state(), "Reconciling");
    hands.insert("s", (1, Vec::new()));
    settle(&mut desk, &mut hands, PARTITIONS);
    assert_eq!(hands["s"].1.len(), PARTITIONS / 2);

    // The static member goes for a while and comes back under another id, while a third comes.
    desk.beat(bare("s", -2).with_instance_id(Some(text("i"))));
    assert_eq!(desk.join("b", &["t"]).of("t"), [0; 0]);
    assert_eq!(desk.state(), "Assigning");
    let heir = desk.beat(joining("heir", &["t"]).with_instance_id(Some(text("i"))));
    let heir = desk.told(heir);
    assert_eq!(heir.of("t").len(), PARTITIONS / 2, "its place is kept");
    let (_, (_, has)) = hands.remove_entry("s").expect("it was there");
    assert_eq!(heir.of("t"), has);
    hands.insert("heir", (heir.epoch, has));
    hands.insert("b", (heir.epoch, Vec::new()));
    // A fourth comes and is gone again before anything is decided.
    desk.join("c", &["t"]);
    desk.beat(bare("c", -1));
    assert_eq!(desk.state(), "Assigning");
    desk.pass(0);
    settle(&mut desk, &mut hands, PARTITIONS);
    let counts: BTreeSet<usize> = hands.values().map(|(_, has)| has.len()).collect();
    assert_eq!(counts, BTreeSet::from([6_666, 6_667]));
    let interval_ms = desk.beat(bare("a", hands["a"].0)).heartbeat_interval_ms;
    assert_eq!(interval_ms, 5_000, "there is no hurry any more");
}

/// Many who fall silent at once are not all taken out in the same turn.
#[test]
fn a_crowd_that_falls_silent_goes_a_few_at_a_time() {
    let mut desk = Desk::new(&[("t", 4)]);
    for number in 0..40 {
        desk.join(&format!("m{number:02}"), &["t"]);
    }
    desk.ms += 45_000;
    for left in [24, 8, 0] {
        let (now, mut out) = (desk.now(), Vec::new());
        desk.machine.on_time(now, WallTrust::Trusted, &mut out);
        desk.carry_out(out);
        let group = desk.machine.consumers.get(G).expect("the group is there");
        assert_eq!(group.members().len(), left);
    }
}

/// A member that comes takes a little from many: what is written for it is far less than the group.
#[test]
fn a_member_that_comes_moves_few_partitions() {
    let mut desk = Desk::new(&[("t", 800), ("u", 800)]);
    let mut machine = desk.replayed();
    for number in 0..200 {
        let request = joining(&format!("member-{number:04}"), &["t", "u"]);
        let (client_id, client_host) = ("c".to_owned(), "/::1".to_owned());
        let asked = GroupRequest::ConsumerHeartbeat { request, version: 1, client_id, client_host };
        let ticket = Ticket { core: CoreId(0), request: number, part: 0 };
        let (now, mut out) = (desk.now(), Vec::new());
        machine.handle(now, &mut desk.dice, ticket, asked, &mut out);
        let GroupEffect::Append { records, .. } = &out[0] else { panic!("everybody joins") };
        // Itself, the epochs, what it has and shall have, and everybody who gives it one partition.
        assert!(records.len() <= 5 + 40, "{} for number {number}", records.len());
    }
}

mod converting;
mod whole_answers;

//! Groups of the new kind (KIP-848) over the real wire, under kills of the broker: members go on where
//! they were, and no partition is ever with two of them.

use std::collections::BTreeSet;

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use flumen_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, GroupId,
    IncrementalAlterConfigsRequest, TopicName, Uuid,
};
use flumen_tests::broker::{Broker, Folder};
use flumen_tests::client::{Client, text};
use flumen_tests::patience::until;

const TOPIC: &str = "ledger";
const GROUP: &str = "readers";

/// The resource type of groups.
const GROUP_RESOURCE: i8 = 32;

/// Whether a client asks again that is told this.
fn is_over_soon(code: i16) -> bool {
    let soon = [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
    ];
    soon.iter().any(|error| error.code() == code)
}

/// A member: what it was told, and what it has given up since.
struct Member {
    client: Client,
    id: &'static str,
    epoch: i32,
    interval_ms: i32,
    has: BTreeSet<(Uuid, i32)>,
}

impl Member {
    fn new(broker: &Broker, id: &'static str) -> Self {
        let mut client = Client::of(broker);
        let find = FindCoordinatorRequest::default().with_key(text(GROUP)).with_key_type(0);
        until("a coordinator", || {
            let found = client.ask(ApiKey::FindCoordinator, 3, &find);
            (found.error_code == 0).then_some(())
        });
        Self { client, id, epoch: 0, interval_ms: 0, has: BTreeSet::new() }
    }

    /// One heartbeat; what it is told to have it has at once.
    fn beat(&mut self) {
        let joins = self.epoch == 0;
        let names = joins.then(|| vec![TopicName(text(TOPIC))]);
        let mut owned: Vec<TopicPartitions> = Vec::new();
        for (topic, partition) in &self.has {
            match owned.last_mut().filter(|last| last.topic_id == *topic) {
                Some(last) => last.partitions.push(*partition),
                None => owned.push(
                    TopicPartitions::default()
                        .with_topic_id(*topic)
                        .with_partitions(vec![*partition]),
                ),
            }
        }
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(None)
            .with_rack_id(None)
            .with_rebalance_timeout_ms(if joins { 60_000 } else { -1 })
            .with_subscribed_topic_names(names)
            .with_subscribed_topic_regex(None)
            .with_server_assignor(None)
            .with_topic_partitions(Some(owned));
        let told = until("a heartbeat", || {
            let told = self.client.ask(ApiKey::ConsumerGroupHeartbeat, 1, &request);
            (!is_over_soon(told.error_code)).then_some(told)
        });
        assert_eq!(told.error_code, 0, "{}: {:?}", self.id, told.error_message);
        self.epoch = told.member_epoch;
        self.interval_ms = told.heartbeat_interval_ms;
        if let Some(assignment) = told.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.has = topics
                .flat_map(|topic| topic.partitions.into_iter().map(move |it| (topic.topic_id, it)))
                .collect();
        }
    }
}

fn assert_disjoint(members: &[Member]) {
    let mut seen = BTreeSet::new();
    for member in members {
        for place in &member.has {
            assert!(seen.insert(*place), "{place:?} is with {} and with another", member.id);
        }
    }
}

/// Heartbeats of all until all partitions are shared out.
fn share(members: &mut [Member], partitions: usize) {
    until("all partitions with somebody", || {
        for at in 0..members.len() {
            members[at].beat();
            assert_disjoint(members);
        }
        let shared: usize = members.iter().map(|member| member.has.len()).sum();
        let fewest = members.iter().map(|member| member.has.len()).min().unwrap_or(0);
        (shared == partitions && fewest >= partitions / members.len()).then_some(())
    });
}

#[test]
fn members_go_on_after_kills_and_share_what_there_is() {
    let folder = Folder::fresh();
    let mut broker = Broker::start(&folder);
    let partitions = Client::of(&broker).make_topic(&TopicName(text(TOPIC)));
    let mut members = vec![Member::new(&broker, "a")];
    share(&mut members, partitions);
    for id in ["b", "c"] {
        members.push(Member::new(&broker, id));
        members.last_mut().expect("just come").beat();
        // Somewhere in the middle of the rebalance.
        members[0].beat();
        assert_disjoint(&members);
        broker.kill();
        broker = Broker::start(&folder);
        for member in &mut members {
            member.client = Client::of(&broker);
        }
        share(&mut members, partitions);
    }
    let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
    assert_eq!(epochs.len(), 1, "all have come to the same epoch");
    let request =
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(GROUP))]);
    let described = members[0].client.ask(ApiKey::ConsumerGroupDescribe, 1, &request);
    let group = &described.groups[0];
    assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
    assert_eq!(group.members.len(), 3);
    assert!(broker.stop().success());
}

#[test]
fn settings_of_a_group_reach_its_members_and_outlive_a_restart() {
    let folder = Folder::fresh();
    let mut broker = Broker::start(&folder);
    Client::of(&broker).make_topic(&TopicName(text(TOPIC)));
    let alter = |client: &mut Client, value: &str| {
        let config = AlterableConfig::default()
            .with_name(text("consumer.heartbeat.interval.ms"))
            .with_config_operation(0)
            .with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP_RESOURCE)
            .with_resource_name(text(GROUP))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        client.ask(ApiKey::IncrementalAlterConfigs, 1, &request).responses[0].error_code
    };
    let mut member = Member::new(&broker, "a");
    member.beat();
    assert_eq!(member.interval_ms, 5_000);
    assert_eq!(alter(&mut member.client, "7000"), 0);
    assert_eq!(alter(&mut member.client, "1"), ErrorCode::InvalidConfig.code());
    until("the new interval", || {
        member.beat();
        (member.interval_ms == 7_000).then_some(())
    });
    broker.kill();
    broker = Broker::start(&folder);
    member.client = Client::of(&broker);
    member.beat();
    assert_eq!(member.interval_ms, 7_000);
    assert!(broker.stop().success());
}

//! Answers about groups that Kafka's own request tests compare whole, and what the rooms put together
//! themselves.

use flumen_protocol::messages::consumer_group_describe_response::DescribedGroup;
use flumen_protocol::messages::list_groups_response::ListedGroup;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use flumen_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use flumen_replication::coordinator::group::requests::GroupResponse;

use super::*;

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

/// The codes of one topic, by partition.
type Codes = Vec<(i32, ErrorCode)>;

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka's")
}

#[test]
fn where_there_are_no_groups_of_the_new_kind_the_code_says_all() {
    let mut bare = Bare::new();
    bare.options.consumer_groups.are_served = false;
    let unsupported = ErrorCode::UnsupportedVersion.code();
    for version in 0..=1 {
        let request = ConsumerGroupHeartbeatRequest::default();
        let told = bare.ask(ApiKey::ConsumerGroupHeartbeat, version, &request);
        let refusal = ConsumerGroupHeartbeatResponse::default().with_error_code(unsupported);
        assert_eq!(told, refusal);
        let ids = || ["grp-1", "grp-2"].map(group);
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids().to_vec());
        let told = bare.ask(ApiKey::ConsumerGroupDescribe, version, &request);
        let refused = |id| DescribedGroup::default().with_group_id(id).with_error_code(unsupported);
        assert_eq!(told.groups, ids().map(refused));
    }
}

#[test]
fn a_coordinator_that_cannot_be_asked_has_no_words() {
    let mut bare = Bare::new();
    let gone = ErrorCode::NotCoordinator.code();
    let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    let told = bare.ask(ApiKey::DescribeGroups, 6, &request);
    assert_eq!((told.groups[0].error_code, &told.groups[0].error_message), (gone, &None));
    let request = ConsumerGroupHeartbeatRequest::default().with_group_id(group("g"));
    let told = bare.ask(ApiKey::ConsumerGroupHeartbeat, 1, &request);
    assert_eq!((told.error_code, told.error_message), (gone, None));
}

#[test]
fn a_group_of_the_new_kind_has_an_id() {
    let mut bare = Bare::new();
    let ids = ["", "g"].map(group).to_vec();
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids.clone());
    let told = bare.ask(ApiKey::ConsumerGroupDescribe, 1, &request);
    let codes: Vec<ErrorCode> = told.groups.iter().map(|group| code(group.error_code)).collect();
    assert_eq!(codes, [ErrorCode::InvalidGroupId, ErrorCode::NotCoordinator]);
    let request = DescribeGroupsRequest::default().with_groups(ids);
    let told = bare.ask(ApiKey::DescribeGroups, 6, &request);
    assert_eq!(code(told.groups[0].error_code), ErrorCode::NotCoordinator, "a very old client's");
}

#[test]
fn groups_are_listed_in_the_order_of_kafkas_tables() {
    let mut bare = Bare::new();
    let listed = |id: &str| ListedGroup::default().with_group_id(group(id));
    let answer = |core: u32| {
        let ids: &[&str] = if core == 0 { &["grp-1", "grp-2"] } else { &["grp-4"] };
        let groups = ids.iter().map(|id| listed(id)).collect();
        Answer::Groups(vec![GroupResponse::List(ListGroupsResponse::default().with_groups(groups))])
    };
    let told = bare.ask_and(ApiKey::ListGroups, 5, &ListGroupsRequest::default(), answer);
    let ids: Vec<&str> = told.groups.iter().map(|group| group.group_id.as_str()).collect();
    assert_eq!(ids, ["grp-2", "grp-4", "grp-1"]);
}

/// `t` has one partition, and there is no `u`.
#[test]
fn what_does_not_exist_comes_first_and_a_topic_once() {
    let mut bare = Bare::with_topic("t", 1);
    let asked: [(&str, &[i32]); 2] = [("t", &[0, 5]), ("u", &[0])];
    let topics = asked.map(|(name, partitions)| {
        let one =
            |index: &i32| OffsetCommitRequestPartition::default().with_partition_index(*index);
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.iter().map(one).collect())
    });
    let request =
        OffsetCommitRequest::default().with_group_id(group("g")).with_topics(topics.to_vec());
    let told = bare.ask(ApiKey::OffsetCommit, 9, &request);
    let codes = |topic: &offset_commit_response::OffsetCommitResponseTopic| -> (String, Codes) {
        let all = topic.partitions.iter().map(|one| (one.partition_index, code(one.error_code)));
        (topic.name.to_string(), all.collect())
    };
    let (unknown, gone) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::NotCoordinator);
    let expected =
        [("t".to_owned(), vec![(5, unknown), (0, gone)]), ("u".to_owned(), vec![(0, unknown)])];
    assert_eq!(told.topics.iter().map(codes).collect::<Vec<_>>(), expected);

    let topics = asked.map(|(name, partitions)| {
        let one =
            |index: &i32| TxnOffsetCommitRequestPartition::default().with_partition_index(*index);
        TxnOffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.iter().map(one).collect())
    });
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_group_id(group("g"))
        .with_topics(topics.to_vec());
    let told = bare.ask(ApiKey::TxnOffsetCommit, 5, &request);
    let codes =
        |topic: &txn_offset_commit_response::TxnOffsetCommitResponseTopic| -> (String, Codes) {
            let all = topic.partitions.iter();
            let all = all.map(|one| (one.partition_index, code(one.error_code)));
            (topic.name.to_string(), all.collect())
        };
    assert_eq!(told.topics.iter().map(codes).collect::<Vec<_>>(), expected);
}

#[test]
fn offsets_that_are_not_deleted_come_first() {
    let mut bare = Bare::with_topic("__consumer_offsets", 1);
    let one = |index: i32| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text("__consumer_offsets")))
        .with_partitions(vec![one(0), one(5)]);
    let request =
        OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic.clone()]);
    let deleted = |_| {
        let partition = offset_delete_response::OffsetDeleteResponsePartition::default();
        let topic = offset_delete_response::OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(vec![partition]);
        let response = OffsetDeleteResponse::default().with_topics(vec![topic]);
        Answer::Group(Box::new(GroupResponse::DeleteOffsets(response)))
    };
    let told = bare.ask_and(ApiKey::OffsetDelete, 0, &request, deleted);
    let all = told.topics[0].partitions.iter();
    let codes: Codes = all.map(|one| (one.partition_index, code(one.error_code))).collect();
    assert_eq!(codes, [(5, ErrorCode::UnknownTopicOrPartition), (0, ErrorCode::None)]);
    assert_eq!(told.topics.len(), 1);
}

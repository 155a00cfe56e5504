//! Answers about groups that Kafka's own request tests compare whole, and what the rooms put together
//! themselves.

use flumen_protocol::messages::consumer_group_describe_response::DescribedGroup;
use flumen_protocol::messages::list_groups_response::ListedGroup;
use flumen_replication::coordinator::group::requests::GroupResponse;

use super::*;

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

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

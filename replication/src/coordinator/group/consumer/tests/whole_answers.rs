//! Answers that Kafka's own request tests compare whole, field by field and in their order.

use super::*;
use flumen_protocol::messages::consumer_group_describe_response::DescribedGroup;

fn described(desk: &mut Desk) -> DescribedGroup {
    let asked = GroupRequest::DescribeConsumer { group_id: G.to_owned(), version: 1 };
    match desk.ask(asked) {
        Some(GroupResponse::DescribeConsumer(described)) => described,
        other => panic!("no description but {other:?}"),
    }
}

#[test]
fn a_classic_member_that_is_refused_is_told_no_id() {
    let mut desk = Desk::new(&[("t", 4)]);
    let a = classic_group(&mut desk, &[0, 1, 2, 3]);
    desk.join("b", &["t"]);
    let refusal = |code: ErrorCode| {
        JoinGroupResponse::default().with_protocol_name(None).with_error_code(code.code())
    };
    let connect = classic_joining(&a, &[]).with_protocol_type(text("connect"));
    let told = desk.classic_join(connect).expect("at once");
    assert_eq!(told, refusal(ErrorCode::InconsistentGroupProtocol));
    let mut other = classic_joining("new", &[]);
    other.protocols[0].name = text("roundrobin");
    let told = desk.classic_join(other).expect("at once");
    assert_eq!(told, refusal(ErrorCode::InconsistentGroupProtocol));
    let fenced = classic_joining(&a, &[]).with_group_instance_id(Some(text("i")));
    let told = desk.classic_join(fenced).expect("at once");
    assert_eq!(told, refusal(ErrorCode::UnknownMemberId));
    let told = desk.classic_join(classic_joining("", &[])).expect("at once");
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
    assert!(!told.member_id.is_empty(), "it is given out");
}

#[test]
fn members_stand_in_the_order_of_kafkas_tables() {
    let mut desk = Desk::new(&[("t", 3)]);
    desk.join("member-1", &["t"]);
    desk.join("member-2", &["t"]);
    let described = described(&mut desk);
    let ids: Vec<&str> = described.members.iter().map(|member| &*member.member_id).collect();
    assert_eq!(ids, ["member-2", "member-1"]);
}

/// A member that gives something up and is to have it again meanwhile need not wait for itself.
#[test]
fn what_was_just_given_up_comes_back_with_the_answer() {
    let mut desk = Desk::new(&[("t", 2)]);
    desk.join("a", &["t"]);
    desk.join("b", &["t"]);
    let both: &[(&str, &[i32])] = &[("t", &[0, 1])];
    let left = desk.keep("a", 1, both).of("t");
    assert_eq!(left.len(), 1, "one goes to the other member");
    desk.beat(bare("b", -1));
    let told = desk.keep("a", 1, &[("t", &left)]);
    assert_eq!((told.epoch, told.of("t")), (3, vec![0, 1]));
    assert_eq!(desk.state(), "Stable");
}

#[test]
fn only_the_assignors_of_the_configuration_can_be_asked_for() {
    let mut config = GroupConfig::default();
    config.consumer.assignors = vec![Assignor::Range];
    let mut desk = Desk::with(config, &[("t", 3)]);
    let told = desk.beat(joining("a", &["t"]).with_server_assignor(Some(text("uniform"))));
    assert_eq!(told.error_code, ErrorCode::UnsupportedAssignor.code());
    let why = "ServerAssignor uniform is not supported. Supported assignors: range.";
    assert_eq!(told.error_message.as_deref(), Some(why));
    desk.join("a", &["t"]);
    let described = described(&mut desk);
    assert_eq!(&*described.assignor_name, "range", "what comes first is the default");
}

//! Describing, listing and deleting groups (G113).
//!
//! Does: show groups as Kafka's tools expect them, say whether one may be deleted.
//! Does not: authorise or ask other coordinators; the broker does.
//! Invariants: nothing here changes a group.
//! Apart because clients never need it and operators need nothing else.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_groups_response::DescribedGroup;
use flumen_protocol::messages::list_groups_response::ListedGroup;
use flumen_protocol::messages::{GroupId, ListGroupsResponse};

use super::classic::{Group, StateName};
use super::requests::text;

/// Kafka's name for the state of a group that does not exist.
const DEAD: &str = "Dead";
/// Kafka's name for the type of these groups.
const CLASSIC: &str = "classic";
/// The first version of DescribeGroups that says that there is no such group (KIP-1043).
const GROUP_ID_NOT_FOUND_VERSION: i16 = 6;

/// The group as its administrator sees it. Metadata is shown while it means something: once a
/// protocol is chosen and everybody has an assignment.
pub(super) fn describe(group: Option<&Group>, group_id: &str, version: i16) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(GroupId(text(group_id)));
    let Some(group) = group else {
        let described = described.with_group_state(text(DEAD));
        if version < GROUP_ID_NOT_FOUND_VERSION {
            return described;
        }
        return described
            .with_error_code(ErrorCode::GroupIdNotFound.code())
            .with_error_message(Some(text(&format!("Group {group_id} not found."))));
    };
    let protocol = match group.state_name() {
        StateName::Stable => group.protocol.as_deref(),
        StateName::Empty | StateName::PreparingRebalance | StateName::CompletingRebalance => None,
    };
    let members = group.members_by_age();
    described
        .with_group_state(text(group.state_name().as_str()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(members.iter().map(|member| member.described(protocol, version)).collect())
}

/// The groups in one of these states and of one of these types; empty lists mean all.
pub(super) fn list<'a>(
    groups: impl Iterator<Item = &'a Group>,
    states: &[String],
    types: &[String],
) -> ListGroupsResponse {
    let is_type_wanted =
        types.is_empty() || types.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(CLASSIC));
    let is_wanted = |group: &&Group| {
        let state = group.state_name().as_str();
        is_type_wanted
            && (states.is_empty()
                || states.iter().any(|one| one.trim().eq_ignore_ascii_case(state)))
    };
    let listed = groups.filter(is_wanted).map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(text(&group.id)))
            .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
            .with_group_state(text(group.state_name().as_str()))
            .with_group_type(text(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

/// Whether the group may be deleted.
pub(super) fn check_delete(group: Option<&Group>) -> ErrorCode {
    match group.map(Group::state_name) {
        None => ErrorCode::GroupIdNotFound,
        Some(StateName::Empty) => ErrorCode::None,
        Some(
            StateName::PreparingRebalance | StateName::CompletingRebalance | StateName::Stable,
        ) => ErrorCode::NonEmptyGroup,
    }
}

//! Describing, listing and deleting groups (G113).
//!
//! Does: show groups as Kafka's tools expect them, say whether one may be deleted.
//! Does not: authorise or ask other coordinators; the broker does.
//! Invariants: nothing here changes a group.
//! Apart because clients never need it and operators need nothing else.

use std::collections::BTreeSet;

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

/// Which groups are to be listed: what words of a request come down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    states: BTreeSet<StateName>,
}

impl ListFilter {
    /// Groups in one of these states and of one of these types, in any case; no words mean all, and
    /// a word nobody knows matches nothing. The words are looked at once, here: a request has room
    /// for a million, and a coordinator for as many groups.
    #[must_use]
    pub fn new<'w>(
        states: impl ExactSizeIterator<Item = &'w str>,
        types: impl ExactSizeIterator<Item = &'w str>,
    ) -> Self {
        let are_all_types = types.len() == 0;
        let mut types = types;
        if !are_all_types && !types.any(|word| word.trim().eq_ignore_ascii_case(CLASSIC)) {
            return Self { states: BTreeSet::new() };
        }
        if states.len() == 0 {
            return Self { states: BTreeSet::from(StateName::ALL) };
        }
        let named = |word: &str| {
            let is_meant = |state: &StateName| word.trim().eq_ignore_ascii_case(state.as_str());
            StateName::ALL.into_iter().find(is_meant)
        };
        Self { states: states.filter_map(named).collect() }
    }
}

/// The groups that are wanted.
pub(super) fn list<'a>(
    groups: impl Iterator<Item = &'a Group>,
    wanted: &ListFilter,
) -> ListGroupsResponse {
    let is_wanted = |group: &&Group| wanted.states.contains(&group.state_name());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_words_comes_down_to_the_states_there_are() {
        let filter = |states: &[&str], types: &[&str]| {
            let filter = ListFilter::new(states.iter().copied(), types.iter().copied());
            filter.states.into_iter().map(StateName::as_str).collect::<Vec<_>>()
        };
        let all = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"];
        assert_eq!(filter(&[], &[]), all);
        assert_eq!(filter(&[], &["Classic ", "share"]), all);
        assert_eq!(filter(&["stable"], &["share"]), [""; 0]);
        assert_eq!(filter(&["Stablx"; 100], &[]), [""; 0]);
        assert_eq!(filter(&[" STABLE", "Dead", "empty", "Stable"], &[]), ["Empty", "Stable"]);
    }
}

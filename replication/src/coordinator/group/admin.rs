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

use super::any::{AnyGroup, GroupState};
use super::classic::{CONSUMER, Group, StateName};
use super::consumer::ConsumerGroup;
use super::requests::text;

/// Kafka's name for the state of a group that does not exist.
const DEAD: &str = "Dead";
/// The first version of DescribeGroups that says that there is no such group (KIP-1043).
const GROUP_ID_NOT_FOUND_VERSION: i16 = 6;

/// The group as its administrator sees it. Metadata is shown while it means something: once a
/// protocol is chosen and everybody has an assignment. A group of the new kind is none here.
pub(super) fn describe(
    group: Option<&Group>,
    group_id: &str,
    (version, is_other_kind): (i16, bool),
) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(GroupId(text(group_id)));
    let Some(group) = group else {
        let described = described.with_group_state(text(DEAD));
        if version < GROUP_ID_NOT_FOUND_VERSION {
            return described;
        }
        return described.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(
            Some(text(&if is_other_kind {
                format!("Group {group_id} is not a classic group.")
            } else {
                format!("Group {group_id} not found.")
            })),
        );
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
    states: BTreeSet<GroupState>,
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
        let (are_all_types, are_all_states) = (types.len() == 0, states.len() == 0);
        let kinds = known_words(types, |state| state.kind());
        let names = known_words(states, |state| state.as_str());
        let is_meant = |state: &GroupState| {
            (are_all_types || kinds.contains(state.kind()))
                && (are_all_states || names.contains(state.as_str()))
        };
        Self { states: GroupState::all().filter(is_meant).collect() }
    }
}

/// Those of the words, in any case, that `known` says of some state.
fn known_words<'w>(
    words: impl Iterator<Item = &'w str>,
    known: impl Fn(GroupState) -> &'static str,
) -> BTreeSet<&'static str> {
    let meant = |word: &str| {
        GroupState::all().map(&known).find(|name| word.trim().eq_ignore_ascii_case(name))
    };
    words.filter_map(meant).collect()
}

/// The groups that are wanted.
pub(super) fn list<'a>(
    classic: impl Iterator<Item = &'a Group>,
    consumers: impl Iterator<Item = &'a ConsumerGroup>,
    wanted: &ListFilter,
) -> ListGroupsResponse {
    let classic = classic.map(|group| {
        let protocol_type = group.protocol_type.as_deref().unwrap_or_default();
        (group.id.as_str(), protocol_type, GroupState::Classic(group.state_name()))
    });
    let consumers =
        consumers.map(|group| (group.id.as_str(), CONSUMER, GroupState::Consumer(group.state())));
    let listed = classic.chain(consumers).filter(|(_, _, state)| wanted.states.contains(state));
    let listed = listed.map(|(id, protocol_type, state)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_protocol_type(text(protocol_type))
            .with_group_state(text(state.as_str()))
            .with_group_type(text(state.kind()))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

/// Whether the group may be deleted.
pub(super) fn check_delete(group: Option<AnyGroup<'_>>) -> ErrorCode {
    match group.map(AnyGroup::is_empty) {
        None => ErrorCode::GroupIdNotFound,
        Some(true) => ErrorCode::None,
        Some(false) => ErrorCode::NonEmptyGroup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_words_comes_down_to_the_states_there_are() {
        let filter = |states: &[&str], types: &[&str]| {
            let filter = ListFilter::new(states.iter().copied(), types.iter().copied());
            let named = |state: GroupState| format!("{} {}", state.kind(), state.as_str());
            filter.states.into_iter().map(named).collect::<Vec<_>>()
        };
        let classic = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"];
        let classic = classic.map(|state| format!("classic {state}"));
        let consumer = ["Empty", "Assigning", "Reconciling", "Stable"];
        let consumer = consumer.map(|state| format!("consumer {state}"));
        assert_eq!(filter(&[], &[]), [classic.clone(), consumer.clone()].concat());
        assert_eq!(filter(&[], &["Classic ", "share"]), classic);
        assert_eq!(filter(&[], &["consumer"]), consumer);
        assert_eq!(filter(&["stable"], &["share"]), [""; 0]);
        assert_eq!(filter(&["Stablx"; 100], &[]), [""; 0]);
        let some = ["classic Empty", "classic Stable", "consumer Empty", "consumer Stable"];
        assert_eq!(filter(&[" STABLE", "Dead", "empty", "Stable"], &[]), some);
    }
}

//! The offsets groups have committed.
//!
//! Does: keep them by group, topic and partition, and the sum of what they weigh; say which have
//! expired, and which groups have some of a topic.
//! Does not: decide who may commit, how much, or what a missing offset means.
//! Invariants: no empty group or topic is kept; `count` is the number of offsets of a group; `bytes`
//! is the sum of all weights; `holders` names a group beside a topic exactly if it has offsets of it.
//! Apart because offsets outlive the groups' members, and simple consumers have nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use flumen_protocol::ids::{LeaderEpoch, Offset};
use flumen_protocol::time::Wall;

use super::any::AnyGroup;
use super::classic::{Group, StateName};

/// Whose offset of which partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}

/// What was committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    /// The client's note, given back verbatim.
    pub(super) metadata: Box<str>,
    /// When it was committed.
    pub(super) at: Wall,
    /// When it expires whatever the group does; only clients of OffsetCommit 2–4 ask for it.
    pub(super) expires: Option<Wall>,
}

impl Committed {
    /// Whether it is too old, counted from when the group became empty or else from its commit.
    fn has_expired(&self, now: Wall, emptied: Option<Wall>, retention_ms: i64) -> bool {
        match self.expires {
            Some(at) => now >= at,
            None => now.0.saturating_sub(emptied.unwrap_or(self.at).0) >= retention_ms,
        }
    }
}

/// Topic → partition → offset.
pub(super) type Topics = BTreeMap<String, BTreeMap<i32, Committed>>;

// What entries weigh beside their texts. A map's node has room for eleven entries, whether they are
// there or not, so the first partition of a topic and the first topic of a group cost a node. A group
// is named once more beside each of its topics.
const GROUP_BYTES: usize = 700;
const TOPIC_BYTES: usize = 850;
const OFFSET_BYTES: usize = 100;

/// What a topic of a group weighs beside its offsets.
pub(super) fn topic_weight(group: &str, topic: &str) -> usize {
    TOPIC_BYTES + topic.len() + group.len()
}

/// What a group weighs beside its topics.
pub(super) fn group_weight(group: &str) -> usize {
    GROUP_BYTES + group.len()
}

/// What an offset weighs with this note beside it.
pub(super) fn offset_weight(metadata: &str) -> usize {
    OFFSET_BYTES + metadata.len()
}

/// All offsets of one coordinator.
#[derive(Clone, Debug, Default)]
pub(super) struct OffsetTable {
    groups: BTreeMap<String, GroupOffsets>,
    /// The groups that have offsets of a topic: when it is deleted, nobody looks through all groups,
    /// who may be a hundred thousand.
    holders: BTreeMap<String, BTreeSet<String>>,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct GroupOffsets {
    topics: Topics,
    count: usize,
}

impl OffsetTable {
    pub(super) fn put(&mut self, place: Place, committed: Committed) {
        if !self.groups.contains_key(&place.group) {
            self.bytes += group_weight(&place.group);
            self.groups.insert(place.group.clone(), GroupOffsets::default());
        }
        let group = self.groups.get_mut(&place.group).expect("it is there by now");
        if !group.topics.contains_key(&place.topic) {
            self.bytes += topic_weight(&place.group, &place.topic);
            self.holders.entry(place.topic.clone()).or_default().insert(place.group);
        }
        let topic = group.topics.entry(place.topic).or_default();
        self.bytes += offset_weight(&committed.metadata);
        match topic.insert(place.partition, committed) {
            Some(before) => self.bytes -= offset_weight(&before.metadata),
            None => group.count += 1,
        }
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let Some(group) = self.groups.get_mut(&place.group) else { return };
        let Some(topic) = group.topics.get_mut(&place.topic) else { return };
        if let Some(gone) = topic.remove(&place.partition) {
            self.bytes -= offset_weight(&gone.metadata);
            group.count -= 1;
        }
        if topic.is_empty() {
            self.bytes -= topic_weight(&place.group, &place.topic);
            group.topics.remove(&place.topic);
            let holders = self.holders.get_mut(&place.topic).expect("who has offsets is named");
            holders.remove(&place.group);
            if holders.is_empty() {
                self.holders.remove(&place.topic);
            }
        }
        if group.topics.is_empty() {
            assert_eq!(group.count, 0, "a group without topics has no offsets");
            self.bytes -= group_weight(&place.group);
            self.groups.remove(&place.group);
        }
    }

    /// What all offsets weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.topics.get(topic)?.get(&partition)
    }

    /// How many offsets the group has.
    pub(super) fn count(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.count)
    }

    /// The group's offsets by topic.
    pub(super) fn topics(&self, group: &str) -> Option<&Topics> {
        self.groups.get(group).map(|group| &group.topics)
    }

    /// Where the group has offsets that `wanted` wants.
    pub(super) fn places(
        &self,
        group: &str,
        wanted: impl Fn(&str, &Committed) -> bool,
    ) -> Vec<Place> {
        let topics = self.topics(group).into_iter().flatten();
        let all = topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        });
        all.filter(|(topic, _, committed)| wanted(topic, committed))
            .map(|(topic, partition, _)| Place {
                group: group.to_owned(),
                topic: topic.clone(),
                partition,
            })
            .collect()
    }

    /// The groups that have offsets of one of these topics, each once and in order.
    pub(super) fn holders<'t>(&'t self, topics: &BTreeSet<&str>) -> BTreeSet<&'t str> {
        let held = topics.iter().filter_map(|topic| self.holders.get(*topic));
        held.flatten().map(String::as_str).collect()
    }

    /// The groups that have offsets.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&str, &Topics)> {
        self.groups.iter().map(|(group, offsets)| (group.as_str(), &offsets.topics))
    }

    /// All offsets behind a place, in the order of groups, topics and partitions.
    pub(super) fn after<'t>(
        &'t self,
        (group, topic, partition): (&'t str, &'t str, i32),
    ) -> impl Iterator<Item = (&'t str, &'t str, i32, &'t Committed)> {
        let from = |name: &'t str| (Bound::Included(name), Bound::Unbounded);
        self.groups.range::<str, _>(from(group)).flat_map(move |(of, offsets)| {
            let is_group = of == group;
            let topics = offsets.topics.range::<str, _>(from(if is_group { topic } else { "" }));
            topics.flat_map(move |(on, partitions)| {
                let is_topic = is_group && on == topic;
                let after = if is_topic { Bound::Excluded(partition) } else { Bound::Unbounded };
                let rest = partitions.range((after, Bound::Unbounded));
                rest.map(move |(index, one)| (of.as_str(), on.as_str(), *index, one))
            })
        })
    }

    /// Which offsets of `group` are too old (G112).
    ///
    /// A group that is empty loses all of them together, counted from when it became empty. Of
    /// running consumers only topics they no longer subscribe to expire; of everything else that
    /// runs, nothing. What a simple consumer committed expires by its commit time.
    pub(super) fn expired(&self, group: AnyGroup<'_>, now: Wall, retention_ms: i64) -> Vec<Place> {
        match group {
            AnyGroup::Classic(group) => self.expired_of_classic(group, now, retention_ms),
            // By commit time, whether the group is empty or not.
            AnyGroup::Consumer(group) => self.places(&group.id, |topic, committed| {
                !group.subscribes_to(topic) && committed.has_expired(now, None, retention_ms)
            }),
        }
    }

    fn expired_of_classic(&self, group: &Group, now: Wall, retention_ms: i64) -> Vec<Place> {
        let is_simple = group.protocol_type.is_none();
        let state = group.state_name();
        let emptied = match state {
            StateName::Empty if !is_simple => group.since,
            StateName::Empty
            | StateName::PreparingRebalance
            | StateName::CompletingRebalance
            | StateName::Stable => None,
        };
        let may_expire = is_simple
            || state == StateName::Empty
            || (state == StateName::Stable && group.is_consumer() && group.knows_topics());
        self.places(&group.id, |topic, committed| {
            may_expire
                && !group.subscribes_to(topic)
                && committed.has_expired(now, emptied, retention_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, partition: i32) -> Place {
        Place { group: "g".to_owned(), topic: topic.to_owned(), partition }
    }

    fn committed(offset: i64) -> Committed {
        Committed {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: "".into(),
            at: Wall(1_000),
            expires: None,
        }
    }

    #[test]
    fn counting_survives_overwriting_and_removing() {
        let mut table = OffsetTable::default();
        table.put(place("a", 0), committed(1));
        table.put(place("a", 0), committed(2));
        table.put(place("b", 7), committed(3));
        assert_eq!(table.count("g"), 2);
        assert_eq!(table.get("g", "a", 0).map(|one| one.offset), Some(Offset(2)));
        table.remove(&place("a", 0));
        table.remove(&place("a", 0));
        assert_eq!(table.count("g"), 1);
        table.remove(&place("b", 7));
        assert_eq!(table.groups().count(), 0);
    }

    #[test]
    fn a_group_is_found_by_a_topic_as_long_as_it_has_offsets_of_it() {
        let mut table = OffsetTable::default();
        let of = |group: &str, topic, partition| Place {
            group: group.to_owned(),
            ..place(topic, partition)
        };
        for place in [of("g", "a", 0), of("g", "a", 1), of("g", "b", 0), of("h", "a", 0)] {
            table.put(place, committed(1));
        }
        let holders = |table: &OffsetTable, topics: &[&str]| -> Vec<String> {
            let topics = topics.iter().copied().collect();
            table.holders(&topics).into_iter().map(str::to_owned).collect()
        };
        assert_eq!(holders(&table, &["a", "b"]), ["g", "h"]);
        assert_eq!(holders(&table, &["b"]), ["g"]);
        assert!(holders(&table, &["c"]).is_empty());
        table.remove(&of("g", "a", 0));
        assert_eq!(holders(&table, &["a"]), ["g", "h"]);
        table.remove(&of("g", "a", 1));
        assert_eq!(holders(&table, &["a"]), ["h"]);
        table.remove(&of("g", "b", 0));
        table.remove(&of("h", "a", 0));
        assert!(table.holders.is_empty());
    }

    #[test]
    fn what_all_weigh_is_what_is_there() {
        let weigh = |table: &OffsetTable| {
            let mut bytes = 0;
            for (group, topics) in table.groups() {
                bytes += group_weight(group);
                for (topic, partitions) in topics {
                    bytes += topic_weight(group, topic);
                    bytes +=
                        partitions.values().map(|it| offset_weight(&it.metadata)).sum::<usize>();
                }
            }
            bytes
        };
        let mut table = OffsetTable::default();
        for (topic, partition, note) in [
            ("a", 0, "four"),
            ("a", 0, "a longer one"),
            ("a", 0, ""),
            ("a", 1, "x"),
            ("bb", 0, "y"),
        ] {
            let group = if partition == 1 { "other" } else { "g" };
            let place = Place { group: group.to_owned(), ..place(topic, partition) };
            table.put(place, Committed { metadata: note.into(), ..committed(1) });
            assert_eq!(table.bytes(), weigh(&table));
        }
        for (group, topic, partition) in
            [("other", "a", 1), ("g", "a", 9), ("g", "bb", 0), ("g", "a", 0)]
        {
            table.remove(&Place { group: group.to_owned(), ..place(topic, partition) });
            assert_eq!(table.bytes(), weigh(&table));
        }
        assert_eq!(table.bytes(), 0);
    }

    #[test]
    fn a_simple_group_expires_by_commit_time() {
        let mut table = OffsetTable::default();
        table.put(place("a", 0), committed(1));
        table.put(place("a", 1), Committed { expires: Some(Wall(1_010)), ..committed(1) });
        let group = Group::new("g", None);
        assert_eq!(table.expired(AnyGroup::Classic(&group), Wall(1_009), 100), []);
        assert_eq!(table.expired(AnyGroup::Classic(&group), Wall(1_010), 100), [place("a", 1)]);
        assert_eq!(table.expired(AnyGroup::Classic(&group), Wall(1_100), 100).len(), 2);
    }

    #[test]
    fn an_empty_group_expires_by_the_time_it_became_empty() {
        let mut table = OffsetTable::default();
        table.put(place("a", 0), committed(1));
        let mut group = Group::new("g", Some(Wall(5_000)));
        group.protocol_type = Some("connect".to_owned());
        assert_eq!(table.expired(AnyGroup::Classic(&group), Wall(5_099), 100), []);
        assert_eq!(table.expired(AnyGroup::Classic(&group), Wall(5_100), 100), [place("a", 0)]);
    }

    #[test]
    fn pages_of_any_length_show_every_offset_once() {
        let mut table = OffsetTable::default();
        for group in ["a", "b", "c"] {
            for topic in ["t", "u"] {
                for partition in 0..4 {
                    let (group, topic) = (group.to_owned(), topic.to_owned());
                    table.put(Place { group, topic, partition }, committed(1));
                }
            }
        }
        let all: Vec<_> = table.after(("", "", -1)).map(|(g, t, p, _)| (g, t, p)).collect();
        assert_eq!(all.len(), 24);
        for length in 1..=25 {
            let (mut seen, mut last) = (Vec::new(), ("", "", -1));
            loop {
                let page: Vec<_> =
                    table.after(last).take(length).map(|(g, t, p, _)| (g, t, p)).collect();
                let Some(end) = page.last() else { break };
                last = *end;
                seen.extend(page);
            }
            assert_eq!(seen, all, "pages of {length}");
        }
        // What the last page ended with may be gone when the next is asked for.
        assert_eq!(table.after(("a", "tt", 9)).next().map(|row| row.1), Some("u"));
    }
}

//! Which nodes hold a partition.
//!
//! Does: spread partitions over the registered nodes, and judge placements that a client chose.
//! Does not: know the cores of a node (the node does), or move what is placed already.
//! Invariants: a placement names registered nodes, none of them twice; the same topic on the same
//! nodes is always placed the same way. Racks are not looked at yet.
//! Apart because one day it will weigh load and racks, and nothing else should notice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use flumen_protocol::ids::{NodeId, TopicId};

use super::image::{Broker, Placement};

/// Places partitions round robin. Where a topic starts follows from its identity, so that topics
/// of one partition do not all meet on the first node; and every time the leaders have gone round,
/// the followers move on by one, so that not always the same node takes over from another.
///
/// `nodes` must be ascending and hold at least `replica_count`, and that at least one.
pub(super) fn place(
    topic: TopicId,
    nodes: &[NodeId],
    partitions: Range<usize>,
    replica_count: usize,
) -> Vec<Placement> {
    assert!(replica_count >= 1 && replica_count <= nodes.len(), "{replica_count} replicas placed");
    let start = (u128::from_be_bytes(topic.0) % nodes.len() as u128) as usize;
    let place_one = |partition: usize| {
        let leader = start + partition;
        let round = start + partition / nodes.len();
        let follower = |number: usize| leader + 1 + (round + number) % (nodes.len() - 1);
        let places = std::iter::once(leader).chain((0..replica_count - 1).map(follower));
        Placement { replicas: places.map(|place| nodes[place % nodes.len()]).collect() }
    };
    partitions.map(place_one).collect()
}

/// Judges the replicas a client chose for one partition. `expected` is how many the partitions
/// before it have, if there are any.
///
/// # Errors
/// What is wrong with them, for the user.
pub(super) fn check_replicas(
    replicas: &[NodeId],
    brokers: &BTreeMap<NodeId, Broker>,
    expected: Option<usize>,
) -> Result<(), String> {
    let assignment = "The manual partition assignment includes";
    if replicas.is_empty() {
        return Err(format!("{assignment} an empty replica list."));
    }
    let mut seen = BTreeSet::new();
    for node in replicas {
        if !brokers.contains_key(node) {
            return Err(format!("{assignment} broker {node}, but no such broker is registered."));
        }
        if !seen.insert(node) {
            return Err(format!("{assignment} the broker {node} more than once."));
        }
    }
    match expected {
        Some(expected) if expected != replicas.len() => Err(format!(
            "{assignment} a partition with {} replica(s), but this is not consistent with previous \
             partitions, which have {expected} replica(s).",
            replicas.len()
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: i32) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    fn topic(number: u8) -> TopicId {
        let mut id = [0; 16];
        id[15] = number;
        TopicId(id)
    }

    #[test]
    fn leaders_and_followers_spread_evenly_and_no_node_comes_twice() {
        let nodes = nodes(4);
        let placements = place(topic(3), &nodes, 0..12, 3);
        let mut leaders = BTreeMap::new();
        let mut replicas = BTreeMap::new();
        let mut pairs = BTreeSet::new();
        for Placement { replicas: placed } in &placements {
            assert_eq!(placed.iter().collect::<BTreeSet<_>>().len(), 3);
            *leaders.entry(placed[0]).or_insert(0) += 1;
            pairs.insert((placed[0], placed[1]));
            for node in placed {
                *replicas.entry(*node).or_insert(0) += 1;
            }
        }
        assert!(leaders.values().all(|count| *count == 3), "{leaders:?}");
        assert!(replicas.values().all(|count| *count == 9), "{replicas:?}");
        assert_eq!(pairs.len(), 12, "every node follows every other one once");
    }

    #[test]
    fn growing_later_places_as_if_it_had_been_made_so_at_once() {
        let nodes = nodes(3);
        let at_once = place(topic(9), &nodes, 0..10, 2);
        let mut grown = place(topic(9), &nodes, 0..4, 2);
        grown.extend(place(topic(9), &nodes, 4..10, 2));
        assert_eq!(at_once, grown);
    }

    #[test]
    fn topics_start_at_different_nodes_and_one_node_suffices() {
        let starts: BTreeSet<NodeId> =
            (0..6).map(|number| place(topic(number), &nodes(3), 0..1, 1)[0].replicas[0]).collect();
        assert_eq!(starts.len(), 3);
        let alone = place(TopicId([0xff; 16]), &nodes(1), 0..3, 1);
        assert!(alone.iter().all(|placement| placement.replicas == nodes(1)));
    }
}

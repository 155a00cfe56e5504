//! Which core owns what.
//!
//! Does: map partitions to cores, groups and transactional ids to partitions; remember who leads.
//! Does not: move anything; a change of the number of cores is a step of its own at start.
//! Invariants: the same partition and the same number of cores give the same core on every node
//! and in every run; partitions of one topic spread evenly.
//! Apart because these are the rules every core must agree on without asking.

use std::collections::BTreeMap;

use flumen_protocol::ids::{CoreId, LogId, PartitionIndex, TopicId};

use super::mailbox::Leader;

/// The core of the controller and its metadata log.
pub const CONTROLLER_CORE: CoreId = CoreId(0);

/// The name of the topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The name of the topic that holds transactional ids.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The core that owns a partition when the node has `cores` of them.
///
/// Neighbouring partitions go to neighbouring cores, starting somewhere that depends on the
/// topic, so that many topics of one partition spread as well as one topic of many.
pub fn core_of(log: LogId, cores: u16) -> CoreId {
    if log == LogId::METADATA {
        return CONTROLLER_CORE;
    }
    // FNV-1a (Fowler, Noll, Vo): topic ids are random, so any mixing of all bytes will do.
    let start = log.topic.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let place =
        (start % u64::from(cores) + u64::from(log.partition.0.unsigned_abs())) % u64::from(cores);
    CoreId(place as u16)
}

/// The partition of the offsets topic that holds a group, or of the topic of transactions that holds
/// a transactional id: Java's `String.hashCode`, made positive as Kafka's `Utils.abs` does, modulo the
/// number of partitions.
pub fn coordinator_partition(group: &str, partitions: usize) -> PartitionIndex {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    PartitionIndex((positive as usize % partitions.max(1)) as i32)
}

/// Who leads which partition, as far as this core was told.
///
/// By topic, then by place: Metadata asks for every partition of a topic, and a search among all
/// partitions of the node for each was a quarter of its cost.
#[derive(Debug, Default)]
pub struct Leaders {
    known: BTreeMap<TopicId, Vec<Option<Leader>>>,
}

impl Leaders {
    /// Who leads this partition.
    pub fn get(&self, log: LogId) -> Option<&Leader> {
        let place = usize::try_from(log.partition.0).ok()?;
        self.known.get(&log.topic)?.get(place)?.as_ref()
    }

    /// Takes news in; an epoch never goes back.
    ///
    /// # Panics
    /// When the partition's index is negative: no core leads such a one.
    pub fn learn(&mut self, leader: Leader) {
        let place = usize::try_from(leader.log.partition.0).expect("partitions count from zero");
        let places = self.known.entry(leader.log.topic).or_default();
        if places.len() <= place {
            places.resize(place + 1, None);
        }
        let known = places[place].get_or_insert(leader);
        if leader.epoch >= known.epoch {
            *known = leader;
        }
    }

    /// Forgets the partitions of topics that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(TopicId) -> bool) {
        self.known.retain(|topic, _| keep(*topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::ids::LeaderEpoch;

    #[test]
    fn partitions_of_a_topic_spread_evenly() {
        let mut counts = [0; 3];
        for partition in 0..9 {
            let log = LogId { topic: TopicId([7; 16]), partition: PartitionIndex(partition) };
            counts[usize::from(core_of(log, 3).0)] += 1;
        }
        assert_eq!(counts, [3, 3, 3]);
    }

    #[test]
    fn leaders_are_known_by_their_newest_epoch_until_their_topic_is_gone() {
        let log = |topic, partition| LogId {
            topic: TopicId([topic; 16]),
            partition: PartitionIndex(partition),
        };
        let leader = |log, epoch| Leader { log, node: None, epoch: LeaderEpoch(epoch) };
        let mut leaders = Leaders::default();
        for (topic, partition, epoch) in [(1, 2, 5), (1, 2, 4), (1, 0, 1), (2, 0, 7)] {
            leaders.learn(leader(log(topic, partition), epoch));
        }
        let epoch = |leaders: &Leaders, log| leaders.get(log).map(|leader| leader.epoch.0);
        assert_eq!(epoch(&leaders, log(1, 2)), Some(5));
        assert_eq!(epoch(&leaders, log(1, 0)), Some(1));
        for unknown in [log(1, 1), log(1, 3), log(1, -1), log(3, 0)] {
            assert_eq!(leaders.get(unknown), None);
        }
        leaders.retain(|topic| topic == TopicId([2; 16]));
        assert_eq!((epoch(&leaders, log(1, 2)), epoch(&leaders, log(2, 0))), (None, Some(7)));
    }

    #[test]
    fn groups_hash_as_in_java() {
        // "test".hashCode() == 3556498; "".hashCode() == 0.
        assert_eq!(coordinator_partition("test", 50), PartitionIndex(3_556_498 % 50));
        assert_eq!(coordinator_partition("", 50), PartitionIndex(0));
        // "polygenelubricants".hashCode() == Integer.MIN_VALUE, whose absolute value Kafka
        // takes as zero.
        assert_eq!(coordinator_partition("polygenelubricants", 50), PartitionIndex(0));
    }
}

//! Which request goes where.
//!
//! Does: group partitions as requests want them, and hand out groups in turn.
//! Does not: know connections.
//! Invariants: all partitions of a group have one leader; one seed, one order.
//! Apart because skew and spread are properties of a workload that must not depend on timing.

use super::payload::Dice;

/// Partitions that are written by one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their numbers.
    pub partitions: Vec<i32>,
    /// The place of their leader among the brokers.
    pub broker: usize,
}

/// All groups of a topic and the order each producer goes through them.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Every partition is in one group, except those that do not fill one.
    pub groups: Vec<Group>,
    hot_share: f64,
    rotors: Vec<usize>,
    dice: Dice,
}

impl Routes {
    /// Groups of `width` partitions led by the same broker. Producers begin at different places.
    ///
    /// Partitions that do not fill a last group are left out, unless there would be none at all.
    #[must_use]
    pub fn new(
        leaders: &[usize],
        width: usize,
        producers: usize,
        hot_share: f64,
        dice: Dice,
    ) -> Self {
        let brokers = leaders.iter().max().map_or(0, |last| last + 1);
        let mut groups = Vec::new();
        for broker in 0..brokers {
            let own = leaders.iter().enumerate().filter(|(_, leader)| **leader == broker);
            let own: Vec<i32> = own.map(|(index, _)| index as i32).collect();
            let whole = own.chunks_exact(width);
            groups.extend(whole.map(|chunk| Group { partitions: chunk.to_vec(), broker }));
        }
        groups.sort_by_key(|group| group.partitions[0]);
        let rotors = (0..producers).map(|place| place * groups.len() / producers.max(1)).collect();
        Self { groups, hot_share, rotors, dice }
    }

    /// The next group of a producer.
    pub fn next(&mut self, producer: usize) -> usize {
        let count = self.groups.len();
        if self.hot_share > 0.0 && count > 1 {
            if self.dice.share() < self.hot_share {
                return 0;
            }
            return 1 + self.turn(producer) % (count - 1);
        }
        self.turn(producer) % count
    }

    /// The next group of a producer that is led by `broker`; nothing when it leads none.
    pub fn next_at(&mut self, producer: usize, broker: usize) -> Option<usize> {
        // As many tries as it takes to see each group once; skew only makes some come sooner.
        for _ in 0..self.groups.len() {
            let group = self.next(producer);
            if self.groups[group].broker == broker {
                return Some(group);
            }
        }
        self.groups.iter().position(|group| group.broker == broker)
    }

    fn turn(&mut self, producer: usize) -> usize {
        let rotor = &mut self.rotors[producer];
        let now = *rotor;
        *rotor = now.wrapping_add(1);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_go_through_all_groups_from_different_places() {
        let mut routes = Routes::new(&[0; 4], 1, 2, 0.0, Dice::new(1));
        let first: Vec<usize> = (0..5).map(|_| routes.next(0)).collect();
        let second: Vec<usize> = (0..5).map(|_| routes.next(1)).collect();
        assert_eq!((first, second), (vec![0, 1, 2, 3, 0], vec![2, 3, 0, 1, 2]));
    }

    #[test]
    fn a_group_has_one_leader() {
        let mut routes = Routes::new(&[0, 1, 0, 1, 1], 2, 1, 0.0, Dice::new(1));
        let groups: Vec<_> = routes.groups.iter().map(|group| &group.partitions[..]).collect();
        assert_eq!(groups, [&[0, 2][..], &[1, 3]]);
        assert_eq!(routes.next_at(0, 1), Some(1));
        assert_eq!(routes.next_at(0, 1), Some(1));
        assert_eq!(routes.next_at(0, 7), None);
    }

    #[test]
    fn the_hot_partition_gets_its_share() {
        let mut routes = Routes::new(&[0; 16], 1, 1, 0.9, Dice::new(5));
        let drawn: Vec<usize> = (0..10_000).map(|_| routes.next(0)).collect();
        let hot = drawn.iter().filter(|&&group| group == 0).count();
        assert!((8_800..9_200).contains(&hot), "{hot}");
        assert!((1..16).all(|group| drawn.contains(&group)));
    }
}

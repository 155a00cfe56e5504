//! Offsets that count when the transaction is committed which they are part of (KIP-98, KIP-447).
//!
//! Does: keep them by producer until its transaction ends; say where some are pending.
//! Does not: decide who may commit, or know when a transaction ends.
//! Invariants: of a place the record written last counts, among those that are committed: what was
//! overtaken by a later one does not come back with a late marker; `bytes` is the sum of all weights.
//! Apart from the committed ones because nobody may read them.

use std::collections::BTreeMap;

use flumen_protocol::ids::ProducerId;

use super::offsets::{Committed, Place, offset_weight};

/// What an entry weighs beside its note: its place is kept twice.
const PENDING_BYTES: usize = 300;

/// An offset that waits for the end of its transaction.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) committed: Committed,
    /// Its place among all that were ever written here.
    pub(super) order: u64,
    /// Whether a record that was written later is committed already: then it does not count, even if it
    /// is committed.
    pub(super) is_overtaken: bool,
}

/// All pending offsets of one coordinator.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingOffsets {
    by_producer: BTreeMap<ProducerId, BTreeMap<Place, Pending>>,
    /// How many producers have one there.
    places: BTreeMap<Place, usize>,
    next_order: u64,
    bytes: usize,
}

impl PendingOffsets {
    /// A producer has written this within its transaction.
    pub(super) fn put(&mut self, producer: ProducerId, place: Place, committed: Committed) {
        let order = self.next_order;
        self.next_order += 1;
        self.bytes += weight(&place, &committed);
        let entry = Pending { committed, order, is_overtaken: false };
        let entries = self.by_producer.entry(producer).or_default();
        match entries.insert(place.clone(), entry) {
            Some(before) => self.bytes -= weight(&place, &before.committed),
            None => *self.places.entry(place).or_default() += 1,
        }
    }

    /// A producer's transaction has ended: hands out what it has written, by place.
    pub(super) fn take(&mut self, producer: ProducerId) -> BTreeMap<Place, Pending> {
        let taken = self.by_producer.remove(&producer).unwrap_or_default();
        taken.iter().for_each(|(place, entry)| self.forget(place, entry));
        taken
    }

    /// An offset of this place counts from now on that was written before `before`, or just now. What
    /// is pending there and older than it never will.
    pub(super) fn overtake(&mut self, place: &Place, before: Option<u64>) {
        if !self.places.contains_key(place) {
            return;
        }
        for entry in self.by_producer.values_mut().filter_map(|entries| entries.get_mut(place)) {
            entry.is_overtaken |= before.is_none_or(|before| entry.order < before);
        }
    }

    /// What is committed of this place was deleted, and what is pending with it.
    pub(super) fn remove(&mut self, place: &Place) {
        if !self.places.contains_key(place) {
            return;
        }
        let producers: Vec<ProducerId> = self.by_producer.keys().copied().collect();
        for producer in producers {
            let Some(entries) = self.by_producer.get_mut(&producer) else { continue };
            let gone = entries.remove(place);
            if entries.is_empty() {
                self.by_producer.remove(&producer);
            }
            if let Some(gone) = gone {
                self.forget(place, &gone);
            }
        }
    }

    /// Whether something is pending there.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.places.contains_key(place)
    }

    /// Where the group has something pending.
    pub(super) fn places<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Place> {
        let first = Place { group: group.to_owned(), topic: String::new(), partition: i32::MIN };
        self.places.range(first..).map(|(place, _)| place).take_while(move |it| it.group == group)
    }

    /// Where anything is pending.
    pub(super) fn all_places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }

    /// What all of them weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many transactions have something pending here.
    pub(super) fn producers(&self) -> usize {
        self.by_producer.len()
    }

    fn forget(&mut self, place: &Place, entry: &Pending) {
        self.bytes -= weight(place, &entry.committed);
        let count = self.places.get_mut(place).expect("what is pending has a place");
        *count -= 1;
        if *count == 0 {
            self.places.remove(place);
        }
    }
}

fn weight(place: &Place, committed: &Committed) -> usize {
    let names = place.group.len() + place.topic.len();
    PENDING_BYTES + 2 * names + offset_weight(&committed.metadata)
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LeaderEpoch, Offset};
    use flumen_protocol::time::Wall;

    use super::*;

    fn place(group: &str, partition: i32) -> Place {
        Place { group: group.to_owned(), topic: "t".to_owned(), partition }
    }

    fn committed(offset: i64) -> Committed {
        Committed {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: "note".into(),
            at: Wall(1_000),
            expires: None,
        }
    }

    #[test]
    fn what_is_pending_is_found_by_its_group_until_its_transaction_ends() {
        let mut pending = PendingOffsets::default();
        for (producer, group, partition) in [(1, "g", 0), (1, "g", 3), (2, "g", 0), (1, "h", 1)] {
            pending.put(ProducerId(producer), place(group, partition), committed(7));
        }
        let of_g: Vec<i32> = pending.places("g").map(|place| place.partition).collect();
        assert_eq!(of_g, [0, 3]);
        assert_eq!(pending.take(ProducerId(1)).len(), 3);
        assert!(pending.contains(&place("g", 0)) && !pending.contains(&place("g", 3)));
        assert_eq!(pending.take(ProducerId(2)).len(), 1);
        assert_eq!((pending.bytes(), pending.all_places().count(), pending.producers()), (0, 0, 0));
    }

    #[test]
    fn what_was_written_before_a_committed_one_never_counts() {
        let mut pending = PendingOffsets::default();
        for producer in [1, 2, 3] {
            pending.put(ProducerId(producer), place("g", 0), committed(producer));
        }
        let second = pending.take(ProducerId(2)).remove(&place("g", 0)).expect("it is there");
        pending.overtake(&place("g", 0), Some(second.order));
        let is_overtaken = |pending: &mut PendingOffsets, producer| {
            pending.take(ProducerId(producer))[&place("g", 0)].is_overtaken
        };
        assert!(is_overtaken(&mut pending, 1));
        assert!(!is_overtaken(&mut pending, 3));
        pending.put(ProducerId(4), place("g", 0), committed(4));
        pending.overtake(&place("g", 0), None);
        assert!(is_overtaken(&mut pending, 4), "a plain commit came later");
    }

    #[test]
    fn a_deletion_takes_what_is_pending_with_it() {
        let mut pending = PendingOffsets::default();
        pending.put(ProducerId(1), place("g", 0), committed(1));
        pending.put(ProducerId(2), place("g", 0), committed(2));
        pending.remove(&place("g", 0));
        assert_eq!((pending.bytes(), pending.producers()), (0, 0));
        assert!(pending.take(ProducerId(1)).is_empty());
    }
}

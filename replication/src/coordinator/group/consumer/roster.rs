//! The groups of the new kind of one coordinator, and what they weigh together.
//!
//! Does: hold them by id; keep the sum of their weights while they come, change and go.
//! Does not: judge the sum; who lets groups grow asks for it.
//! Invariants: `bytes` is the sum of the groups' weights: a group changes in `change` only.
//! Apart because a sum is right only if nobody can go around it.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::state::ConsumerGroup;

/// Groups by id.
#[derive(Clone, Debug, Default)]
pub(in crate::coordinator::group) struct Consumers {
    /// Boxed: a map's nodes are half empty.
    groups: BTreeMap<String, Box<ConsumerGroup>>,
    bytes: usize,
}

impl Consumers {
    pub(in crate::coordinator::group) fn get(&self, id: &str) -> Option<&ConsumerGroup> {
        self.groups.get(id).map(Box::as_ref)
    }

    pub(in crate::coordinator::group) fn contains(&self, id: &str) -> bool {
        self.groups.contains_key(id)
    }

    pub(in crate::coordinator::group) fn count(&self) -> usize {
        self.groups.len()
    }

    /// What all groups weigh, without their offsets.
    pub(in crate::coordinator::group) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::coordinator::group) fn iter(&self) -> impl Iterator<Item = &ConsumerGroup> {
        self.groups.values().map(Box::as_ref)
    }

    /// The ids of up to `count` groups behind `last`, or of the first ones.
    pub(in crate::coordinator::group) fn ids_behind(
        &self,
        last: Option<&String>,
        count: usize,
    ) -> Vec<String> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.groups.range::<String, _>((from, Bound::Unbounded));
        behind.take(count).map(|(id, _)| id.clone()).collect()
    }

    /// Takes a group in, in place of the one that had its id.
    pub(in crate::coordinator::group) fn put(&mut self, group: ConsumerGroup) {
        self.bytes += group.weight_bytes();
        if let Some(before) = self.groups.insert(group.id.clone(), Box::new(group)) {
            self.bytes -= before.weight_bytes();
        }
    }

    pub(in crate::coordinator::group) fn take(&mut self, id: &str) -> Option<ConsumerGroup> {
        let group = self.groups.remove(id)?;
        self.bytes -= group.weight_bytes();
        Some(*group)
    }

    /// Lets `act` change a group; `None` if there is none of this id.
    pub(in crate::coordinator::group) fn change<T>(
        &mut self,
        id: &str,
        act: impl FnOnce(&mut ConsumerGroup) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let before_bytes = group.weight_bytes();
        let done = act(group);
        self.bytes = self.bytes - before_bytes + group.weight_bytes();
        Some(done)
    }
}

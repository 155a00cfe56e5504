//! The ordered segments of one log.
//!
//! Does: find a segment by offset or by time, add and drop at the ends.
//! Does not: touch files.
//! Invariants: segments are contiguous in offsets and in order; only the last may be active.
//! Apart because every lookup goes through the same order.

use flumen_protocol::ids::Offset;

use super::segment::{Active, Segment};

/// The segments of one log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    list: Vec<Segment>,
    /// Invariant: describes the last of `list`; `None` when that is sealed or there is none.
    active: Option<Active>,
}

impl Segments {
    /// All segments, oldest first, the active one included.
    #[must_use]
    pub fn all(&self) -> &[Segment] {
        &self.list
    }

    /// All segments that no longer grow.
    #[must_use]
    pub fn sealed(&self) -> &[Segment] {
        &self.list[..self.list.len() - usize::from(self.active.is_some())]
    }

    /// The segment that grows, if there is one.
    #[must_use]
    pub fn active(&self) -> Option<(Segment, Active)> {
        Some((*self.list.last()?, self.active?))
    }

    /// One after the last offset; `None` without segments.
    #[must_use]
    pub fn end(&self) -> Option<Offset> {
        self.list.last().map(|segment| segment.end)
    }

    /// Bytes of all segments together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.length).sum()
    }

    /// The segment that holds `offset`.
    #[must_use]
    pub fn find(&self, offset: Offset) -> Option<Segment> {
        let place = self.list.partition_point(|segment| segment.end <= offset);
        self.list.get(place).copied().filter(|segment| segment.base <= offset)
    }

    /// The first segment, from the one that holds `from` on, with a timestamp of `time` or later.
    #[must_use]
    pub fn find_time(&self, from: Offset, time: i64) -> Option<Segment> {
        self.list.iter().copied().find(|s| s.end > from && s.max_timestamp >= time)
    }

    /// What is known of the growing segment if it is the one that begins at `base`.
    #[must_use]
    pub fn active_at(&self, base: Offset) -> Option<(Segment, Active)> {
        self.active().filter(|(segment, _)| segment.base == base)
    }

    /// Takes in the last segment as it is now: it replaces the one with its base or follows the
    /// last, which is sealed by that. `active`: it goes on growing.
    ///
    /// # Panics
    /// When the segment does not follow the last one: our own bug.
    pub fn put_last(&mut self, segment: Segment, active: Option<Active>) {
        if self.list.last().is_some_and(|last| last.base == segment.base) {
            self.list.pop();
        }
        if let Some(last) = self.list.last() {
            assert_eq!(last.end, segment.base, "segments follow each other");
        }
        assert!(segment.base < segment.end && segment.length > 0, "segments are not empty");
        self.list.push(segment);
        self.active = active;
    }

    /// Drops the oldest segment if it begins at `base`; says whether it did.
    pub fn drop_first(&mut self, base: Offset) -> bool {
        if self.list.first().is_none_or(|first| first.base != base) {
            return false;
        }
        self.list.remove(0);
        if self.list.is_empty() {
            self.active = None;
        }
        true
    }

    /// Bytes of memory beyond the struct itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Segment>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: i64, end: i64, time: i64) -> Segment {
        Segment { base: Offset(base), end: Offset(end), length: 1, max_timestamp: time, written: 0 }
    }

    #[test]
    fn found_by_offset_and_by_time() {
        let mut set = Segments::default();
        for (base, end, time) in [(5, 10, 100), (10, 20, 50), (20, 21, 300)] {
            set.put_last(segment(base, end, time), None);
        }
        assert_eq!(set.find(Offset(4)), None);
        assert_eq!(set.find(Offset(5)).map(|s| s.base), Some(Offset(5)));
        assert_eq!(set.find(Offset(19)).map(|s| s.base), Some(Offset(10)));
        assert_eq!(set.find(Offset(21)), None);
        assert_eq!(set.find_time(Offset(0), 60).map(|s| s.base), Some(Offset(5)));
        assert_eq!(set.find_time(Offset(10), 60).map(|s| s.base), Some(Offset(20)));
        assert_eq!(set.find_time(Offset(0), 301), None);
        assert!(!set.drop_first(Offset(10)));
        assert!(set.drop_first(Offset(5)));
        assert_eq!(set.find(Offset(7)), None);
    }
}

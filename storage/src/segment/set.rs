//! The ordered segments of one log.
//!
//! Does: find a segment by offset or by time, add and drop at the ends.
//! Does not: touch files.
//! Invariants: segments are contiguous in offsets and in order; only the last may be active; adding
//! and dropping costs the same however many there are.
//! Apart because every lookup goes through the same order.

use flumen_protocol::ids::Offset;

use super::segment::{Active, Segment};

/// The segments of one log, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    list: Vec<Segment>,
    /// How many at the front of `list` were dropped: all of them are moved away at once when they
    /// are half of it.
    dropped: usize,
    /// The length of all that were not.
    bytes: u64,
    /// Invariant: describes the last of `list`; `None` when that is sealed or there is none.
    active: Option<Active>,
}

impl Segments {
    /// All segments, oldest first, the active one included.
    #[must_use]
    pub fn all(&self) -> &[Segment] {
        &self.list[self.dropped..]
    }

    /// All segments that no longer grow.
    #[must_use]
    pub fn sealed(&self) -> &[Segment] {
        let all = self.all();
        &all[..all.len() - usize::from(self.active.is_some())]
    }

    /// The segment that grows, if there is one.
    #[must_use]
    pub fn active(&self) -> Option<(Segment, Active)> {
        Some((*self.all().last()?, self.active?))
    }

    /// One after the last offset; `None` without segments.
    #[must_use]
    pub fn end(&self) -> Option<Offset> {
        self.all().last().map(|segment| segment.end)
    }

    /// Bytes of all segments together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segment that holds `offset`.
    #[must_use]
    pub fn find(&self, offset: Offset) -> Option<Segment> {
        let all = self.all();
        let place = all.partition_point(|segment| segment.end <= offset);
        all.get(place).copied().filter(|segment| segment.base <= offset)
    }

    /// The first segment, from the one that holds `from` on, with a timestamp of `time` or later.
    #[must_use]
    pub fn find_time(&self, from: Offset, time: i64) -> Option<Segment> {
        self.all().iter().copied().find(|s| s.end > from && s.max_timestamp >= time)
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
        if let Some(before) = self.all().last().filter(|last| last.base == segment.base) {
            self.bytes -= before.length;
            self.list.pop();
        }
        if let Some(last) = self.all().last() {
            assert_eq!(last.end, segment.base, "segments follow each other");
        }
        assert!(segment.base < segment.end && segment.length > 0, "segments are not empty");
        self.bytes += segment.length;
        self.list.push(segment);
        self.active = active;
    }

    /// Puts `made` in the place of the sealed segments that answer for exactly its offsets, and
    /// gives those back; `None`, and nothing is changed, if there are no such.
    pub fn replace(&mut self, made: Segment) -> Option<Vec<Segment>> {
        let old = self.replaceable(&made)?.to_vec();
        let from = self.all().partition_point(|segment| segment.base < made.base) + self.dropped;
        self.bytes += made.length;
        self.bytes -= old.iter().map(|segment| segment.length).sum::<u64>();
        self.list.splice(from..from + old.len(), [made]);
        Some(old)
    }

    /// The sealed segments that answer for exactly the offsets of `made`, if there are such.
    #[must_use]
    pub fn replaceable(&self, made: &Segment) -> Option<&[Segment]> {
        let sealed = self.sealed();
        let from = sealed.partition_point(|segment| segment.base < made.base);
        let until = sealed.partition_point(|segment| segment.end <= made.end);
        let (first, last) = (sealed.get(from)?, sealed.get(until.checked_sub(1)?)?);
        (first.base == made.base && last.end == made.end).then(|| &sealed[from..until])
    }

    /// Drops the oldest segment if it begins at `base`, and gives it back.
    pub fn drop_first(&mut self, base: Offset) -> Option<Segment> {
        let first = *self.all().first().filter(|first| first.base == base)?;
        self.bytes -= first.length;
        self.dropped += 1;
        if self.all().is_empty() {
            self.active = None;
        }
        if self.dropped * 2 >= self.list.len() {
            self.list.drain(..self.dropped);
            self.dropped = 0;
        }
        Some(first)
    }

    /// Bytes of memory beyond the struct itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Segment>()
    }
}

impl PartialEq for Segments {
    fn eq(&self, other: &Self) -> bool {
        (self.all(), self.active) == (other.all(), other.active)
    }
}

impl Eq for Segments {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::segment_of as segment;

    /// Moving all the others for each of them would take minutes.
    #[test]
    fn many_are_dropped_one_by_one() {
        let (mut set, mut few) = (Segments::default(), Segments::default());
        (0..200_000).for_each(|base| set.put_last(segment(base, base + 1, 1), None));
        for base in 0..199_998 {
            assert!(set.drop_first(Offset(base)).is_some());
            assert_eq!(set.bytes(), 199_999 - base as u64);
            assert_eq!(set.find(Offset(base)), None);
        }
        (199_998..200_000).for_each(|base| few.put_last(segment(base, base + 1, 1), None));
        assert_eq!(set, few);
        let longer = Segment { length: 7, ..segment(199_999, 200_005, 1) };
        set.put_last(longer, None);
        assert_eq!((set.bytes(), set.end()), (8, Some(Offset(200_005))));
        for base in [199_998, 199_999] {
            assert!(set.drop_first(Offset(base)).is_some());
        }
        assert_eq!((set.bytes(), set.all()), (0, &[][..]));
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
        assert_eq!(set.drop_first(Offset(10)), None);
        assert_eq!(set.drop_first(Offset(5)), Some(segment(5, 10, 100)));
        assert_eq!(set.find(Offset(7)), None);
    }
}

//! When a log is due, and which of its segments become one.
//!
//! Does: measure how much of a log is dirty by Kafka's rules; group neighbours.
//! Does not: read records.
//! Invariants: the growing segment is never cleaned, nor one that ends beyond the last stable offset, nor one
//! with a record younger than `min.compaction.lag.ms`, nor what follows such a one.
//! Apart because it must be cheap: it looks at every compacted log of the core.

use std::collections::BTreeSet;

use flumen_protocol::ids::Offset;
use flumen_protocol::time::Wall;

use crate::answers::Compaction;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_OFFSETS_MAX};
use crate::manifest::image::LogImage;
use crate::segment::segment::Segment;

/// How dirty a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirt {
    /// The first offset that was not cleaned against all before it.
    pub from: Offset,
    /// One after the last offset that may be cleaned.
    pub until: Offset,
    /// Bytes of segments before that.
    pub clean_bytes: u64,
    /// Bytes of segments in between.
    pub dirty_bytes: u64,
    /// A record is older than `max.compaction.lag.ms`.
    pub is_late: bool,
}

impl Dirt {
    /// Looks at a log. `stable`: its last stable offset.
    #[must_use]
    pub fn of(image: &LogImage, settings: &Compaction, stable: Offset, now: Wall) -> Self {
        let from = image.clean_until.max(image.start);
        let sealed = image.segments.sealed().iter().filter(|segment| segment.end > image.start);
        let youngest = now.0.saturating_sub(settings.min_lag_ms);
        let may = |segment: &&Segment| {
            let is_old = settings.min_lag_ms <= 0 || segment.age_from() <= youngest;
            segment.end <= from || (segment.end <= stable && is_old)
        };
        let oldest = now.0.saturating_sub(settings.max_lag_ms.max(0));
        let mut dirt = Self { from, until: from, clean_bytes: 0, dirty_bytes: 0, is_late: false };
        for segment in sealed.take_while(may) {
            if segment.base < from {
                dirt.clean_bytes += segment.length;
            }
            if segment.end > from {
                dirt.dirty_bytes += segment.length;
                dirt.until = segment.end;
                dirt.is_late |= segment.first_timestamp > 0 && segment.first_timestamp < oldest;
            }
        }
        dirt
    }

    /// Whether it is dirty enough, or too long.
    #[must_use]
    pub fn is_due(&self, settings: &Compaction) -> bool {
        self.dirty_bytes > 0 && (self.is_late || self.ratio_ppm() > settings.min_dirty_ppm)
    }

    /// The dirty part of all that was looked at, in millionths.
    #[must_use]
    pub fn ratio_ppm(&self) -> u32 {
        let all = u128::from(self.clean_bytes + self.dirty_bytes).max(1);
        u32::try_from(u128::from(self.dirty_bytes) * 1_000_000 / all).unwrap_or(u32::MAX)
    }
}

/// What a cleaning does with some neighbouring segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// They become one.
    Group(Vec<Segment>),
    /// Something in it cannot be read: it stays as it is.
    LeftOut(Segment),
}

/// Groups neighbours into segments of at most `bytes_max`, as far as each is not larger by itself.
#[must_use]
pub fn pieces(segments: &[Segment], left_out: &BTreeSet<Offset>, bytes_max: u64) -> Vec<Piece> {
    let bytes_max = bytes_max.min(SEGMENT_BYTES_MAX);
    let mut pieces: Vec<Piece> = Vec::new();
    for segment in segments {
        if left_out.contains(&segment.base) {
            pieces.push(Piece::LeftOut(*segment));
            continue;
        }
        match pieces.last_mut() {
            Some(Piece::Group(group)) if fits(group, segment, bytes_max) => group.push(*segment),
            Some(Piece::Group(_) | Piece::LeftOut(_)) | None => {
                pieces.push(Piece::Group(vec![*segment]));
            }
        }
    }
    pieces
}

fn fits(group: &[Segment], next: &Segment, bytes_max: u64) -> bool {
    let bytes: u64 = group.iter().map(|segment| segment.length).sum();
    let offsets = next.end.0 - group[0].base.0;
    bytes + next.length <= bytes_max && offsets <= SEGMENT_OFFSETS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::segment::{Active, OpenChunk};
    use crate::testing::segment_of;

    const KAFKA: Compaction = Compaction {
        min_dirty_ppm: 500_000,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: 86_400_000,
    };

    /// Four sealed segments of 100 bytes and ten offsets, and one that grows; the n-th is of the time n.
    fn image(clean_until: i64) -> LogImage {
        let mut image = LogImage::empty();
        for n in 0..4 {
            let segment = Segment { length: 100, ..segment_of(10 * n, 10 * n + 10, 1000 * n) };
            image.segments.put_last(Segment { first_timestamp: 1000 * n, ..segment }, None);
        }
        let open = OpenChunk::at(Offset(40), 0);
        let active = Active { index_blocks: 0, open, partial_crc: 0 };
        let segment = Segment { length: 9000, ..segment_of(40, 50, 4000) };
        image.segments.put_last(segment, Some(active));
        image.clean_until = Offset(clean_until);
        image
    }

    fn dirt(clean_until: i64, settings: &Compaction, stable: i64, now: i64) -> Dirt {
        Dirt::of(&image(clean_until), settings, Offset(stable), Wall(now))
    }

    #[test]
    fn more_than_the_ratio_is_due_and_the_growing_segment_does_not_count() {
        let found = dirt(20, &KAFKA, 50, 9000);
        assert_eq!((found.clean_bytes, found.dirty_bytes, found.until), (200, 200, Offset(40)));
        assert!(!found.is_due(&KAFKA), "half is not more than half");
        assert!(dirt(10, &KAFKA, 50, 9000).is_due(&KAFKA));
        assert!(!dirt(40, &Compaction { min_dirty_ppm: 0, ..KAFKA }, 50, 9000).is_due(&KAFKA));
        // A cleaning that had no room for all keys ends inside a segment, which counts as both.
        let found = dirt(25, &KAFKA, 50, 9000);
        assert_eq!((found.from, found.clean_bytes, found.dirty_bytes), (Offset(25), 300, 200));
    }

    #[test]
    fn what_is_not_stable_or_too_young_stays_dirty_with_all_behind_it() {
        assert_eq!(dirt(0, &KAFKA, 29, 9000).until, Offset(20));
        assert_eq!(dirt(0, &KAFKA, 30, 9000).until, Offset(30));
        let lagging = Compaction { min_lag_ms: 500, ..KAFKA };
        assert_eq!(dirt(0, &lagging, 50, 1500).until, Offset(20));
        assert_eq!(dirt(0, &lagging, 50, 1499).until, Offset(10));
        assert_eq!(dirt(30, &lagging, 50, 0).dirty_bytes, 0);
    }

    #[test]
    fn what_was_dirty_for_too_long_is_due_however_little_it_is() {
        let late = Compaction { max_lag_ms: 5000, ..KAFKA };
        assert!(!dirt(30, &late, 50, 8000).is_due(&late));
        assert!(dirt(30, &late, 50, 8001).is_due(&late));
        assert!(!dirt(30, &late, 39, 8001).is_due(&late), "not what must not be cleaned");
    }

    #[test]
    fn neighbours_become_one_as_far_as_they_fit_and_none_is_left_out() {
        let image = image(0);
        let sealed = image.segments.sealed();
        let bases = |left_out: &[i64], bytes_max| -> Vec<Vec<i64>> {
            let left_out = left_out.iter().copied().map(Offset).collect();
            let bases = |segments: &[Segment]| segments.iter().map(|it| it.base.0).collect();
            let of = |piece: &Piece| match piece {
                Piece::Group(group) => bases(group),
                Piece::LeftOut(_) => Vec::new(),
            };
            pieces(sealed, &left_out, bytes_max).iter().map(of).collect()
        };
        assert_eq!(bases(&[], 300), [vec![0, 10, 20], vec![30]]);
        assert_eq!(bases(&[], 50), [vec![0], vec![10], vec![20], vec![30]]);
        assert_eq!(bases(&[10], 1000), [vec![0], vec![], vec![20, 30]]);
    }
}

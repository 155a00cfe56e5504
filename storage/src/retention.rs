//! Which segments a log may give up.
//!
//! Does: apply age, size and start offset to whole segments; distrust a wall clock that jumps.
//! Does not: delete; the store makes the new start durable first.
//! Invariants: only segments from the front go, and only whole ones; nothing at or beyond the high
//! watermark goes; nothing goes by age while the clock is in doubt (fault row K1).
//! Apart because deleting too much cannot be repaired.

use flumen_protocol::ids::Offset;
use flumen_protocol::time::{Now, Wall};

use crate::answers::LogSettings;
use crate::limits::CLOCK_JUMP_MS;
use crate::segment::segment::Segment;

/// What a log is measured against.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The log's start offset: what ends before it is of no use.
    pub start: Offset,
    /// What does not end by here must stay.
    pub high_watermark: Offset,
    /// The wall clock, if it is trusted.
    pub now: Option<Wall>,
}

/// How many of the oldest segments go. The growing segment counts like any other: if all of it is
/// expired it goes too, and the next batch begins a new one.
#[must_use]
pub fn expired(segments: &[Segment], settings: &LogSettings, bounds: &Bounds) -> usize {
    let mut left: u64 = segments.iter().map(|segment| segment.length).sum();
    let goes = |segment: &&Segment| -> bool {
        let settled = segment.end <= bounds.high_watermark;
        let cut_off = segment.end <= bounds.start;
        let by_age = !settings.compacted && is_old(segment, settings, bounds.now);
        let by_size = !settings.compacted
            && settings.retention_bytes.is_some_and(|keep| left - segment.length >= keep);
        left -= segment.length;
        settled && (cut_off || by_age || by_size)
    };
    segments.iter().take_while(goes).count()
}

fn is_old(segment: &Segment, settings: &LogSettings, now: Option<Wall>) -> bool {
    let (Some(now), Some(keep)) = (now, settings.retention_ms) else { return false };
    now.0.saturating_sub(segment.age_from()) > keep
}

/// Notices when the wall clock jumps by more than a day against the monotonic one.
#[derive(Debug)]
pub struct ClockGuard {
    last: Option<Now>,
    /// The wall clock when the store was last written, before this process.
    written: Option<Wall>,
    doubted: bool,
}

impl ClockGuard {
    /// A guard that knows when the store was last written.
    #[must_use]
    pub fn new(written: Option<Wall>) -> Self {
        Self { last: None, written, doubted: false }
    }

    /// The wall clock if it is trusted.
    ///
    /// Across a restart only a jump back can be told from time that passed.
    pub fn trusted(&mut self, now: Now) -> Option<Wall> {
        let jumped = match self.last {
            Some(last) => {
                let passed = now.monotonic.since(last.monotonic).as_millis();
                let passed = i64::try_from(passed).unwrap_or(i64::MAX);
                let shown = now.wall.0.saturating_sub(last.wall.0);
                shown.saturating_sub(passed).saturating_abs() > CLOCK_JUMP_MS
            }
            None => self.written.is_some_and(|w| now.wall.0 < w.0.saturating_sub(CLOCK_JUMP_MS)),
        };
        self.doubted |= jumped;
        self.last = Some(now);
        (!self.doubted).then_some(now.wall)
    }

    /// The wall clock when the manifest was last written before this start.
    #[must_use]
    pub fn written(&self) -> Option<Wall> {
        self.written
    }

    /// Whether deletion by age is suspended.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// Somebody looked at the clock and says it is right.
    pub fn confirm(&mut self) {
        self.doubted = false;
        self.last = None;
        self.written = None;
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::time::Monotonic;

    use super::*;

    fn segments() -> Vec<Segment> {
        let at = |base: i64, time: i64| Segment {
            base: Offset(base),
            end: Offset(base + 10),
            length: 100,
            max_timestamp: time,
            written: 1_000,
        };
        vec![at(0, 500), at(10, -1), at(20, 2_000)]
    }

    fn bounds(now: i64, high_watermark: i64) -> Bounds {
        let high_watermark = Offset(high_watermark);
        Bounds { start: Offset(0), high_watermark, now: Some(Wall(now)) }
    }

    #[test]
    fn age_takes_whole_segments_from_the_front() {
        let settings = LogSettings { retention_ms: Some(100), ..LogSettings::KEEP_ALL };
        assert_eq!(expired(&segments(), &settings, &bounds(600, 30)), 0);
        assert_eq!(expired(&segments(), &settings, &bounds(601, 30)), 1);
        assert_eq!(
            expired(&segments(), &settings, &bounds(1_101, 30)),
            2,
            "without timestamps the write counts"
        );
        assert_eq!(expired(&segments(), &settings, &bounds(9_000, 30)), 3);
        assert_eq!(expired(&segments(), &settings, &bounds(9_000, 29)), 2);
        let untrusted = Bounds { now: None, ..bounds(9_000, 30) };
        assert_eq!(expired(&segments(), &settings, &untrusted), 0);
        let compacted = LogSettings { compacted: true, ..settings };
        assert_eq!(expired(&segments(), &compacted, &bounds(9_000, 30)), 0);
    }

    #[test]
    fn size_and_start_offset() {
        let keep = |bytes| LogSettings { retention_bytes: Some(bytes), ..LogSettings::KEEP_ALL };
        assert_eq!(expired(&segments(), &keep(201), &bounds(0, 30)), 0);
        assert_eq!(expired(&segments(), &keep(200), &bounds(0, 30)), 1);
        assert_eq!(expired(&segments(), &keep(0), &bounds(0, 30)), 3);
        let cut = Bounds { start: Offset(20), ..bounds(0, 30) };
        assert_eq!(expired(&segments(), &LogSettings::KEEP_ALL, &cut), 2);
    }

    #[test]
    fn a_jump_of_the_clock_stops_deletion_until_it_is_confirmed() {
        let hour = 3_600_000;
        let now = |hours: u64, wall: i64| Now {
            monotonic: Monotonic(hours * 3_600_000_000_000),
            wall: Wall(wall),
        };
        let mut guard = ClockGuard::new(None);
        assert!(guard.trusted(now(0, 0)).is_some());
        assert!(guard.trusted(now(100, 100 * hour)).is_some(), "time passes on both");
        assert!(guard.trusted(now(101, 130 * hour)).is_none());
        assert!(guard.trusted(now(102, 131 * hour)).is_none());
        guard.confirm();
        assert!(guard.trusted(now(103, 132 * hour)).is_some());
        assert!(guard.trusted(now(104, 100 * hour)).is_none());
        assert!(ClockGuard::new(Some(Wall(30 * hour))).trusted(now(0, 0)).is_none());
    }
}

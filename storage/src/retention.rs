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
///
/// ```text
///  trusted --a jump--> doubted --as it should show again, or confirmed--> trusted
/// ```
///
/// The doubt outlives the process: the store records it. After a restart nobody knows how long the
/// process was gone, so there a doubted clock is back only if it shows what it showed when it was
/// last trusted, give or take a day; and of a clock that was trusted only a jump back is seen.
#[derive(Debug)]
pub struct ClockGuard {
    /// Both clocks when they were last observed and trusted; while in doubt, what a right wall clock
    /// showed then.
    last: Option<Now>,
    /// The wall clock when the store was last written, before this process.
    written: Option<Wall>,
    /// In doubt: what the wall clock was last trusted to show.
    doubted: Option<Wall>,
}

impl ClockGuard {
    /// A guard that knows when the store was last written, and whether the clock was in doubt then.
    #[must_use]
    pub fn new(written: Option<Wall>, doubted: Option<Wall>) -> Self {
        Self { last: None, written, doubted }
    }

    /// Looks at the clocks: to be called often, or a jump may be taken for time that passed.
    pub fn observe(&mut self, now: Now) {
        let at_start = match (self.doubted, self.written) {
            (Some(doubted), _) => doubted,
            // Later than that is right for all we know.
            (None, Some(written)) => written.max(now.wall),
            (None, None) => now.wall,
        };
        let last = *self.last.get_or_insert(Now { wall: at_start, ..now });
        let passed = now.monotonic.since(last.monotonic).as_millis();
        let due = last.wall.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
        if now.wall.0.saturating_sub(due).saturating_abs() <= CLOCK_JUMP_MS {
            (self.last, self.doubted) = (Some(now), None);
        } else {
            self.doubted.get_or_insert(Wall(due));
        }
    }

    /// The wall clock when the manifest was last written before this start.
    #[must_use]
    pub fn written(&self) -> Option<Wall> {
        self.written
    }

    /// What the wall clock was last trusted to show, if it is not trusted now: then nothing is
    /// deleted by age.
    #[must_use]
    pub fn doubted(&self) -> Option<Wall> {
        self.doubted
    }

    /// Somebody looked at the clock and says it is right.
    pub fn confirm(&mut self) {
        self.doubted = None;
        self.last = None;
        self.written = None;
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::time::Monotonic;

    use super::*;
    use crate::testing::segment_of;

    fn segments() -> Vec<Segment> {
        let at = |base: i64, time: i64| Segment {
            length: 100,
            written: 1_000,
            ..segment_of(base, base + 10, time)
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

    const HOUR: i64 = 3_600_000;

    fn now(hours: u64, wall_hours: i64) -> Now {
        Now { monotonic: Monotonic(hours * 3_600_000_000_000), wall: Wall(wall_hours * HOUR) }
    }

    /// Whether the clock is trusted at these hours of the monotonic and the wall clock.
    fn trusts(guard: &mut ClockGuard, hours: u64, wall_hours: i64) -> bool {
        guard.observe(now(hours, wall_hours));
        guard.doubted().is_none()
    }

    #[test]
    fn a_jump_of_the_clock_stops_deletion_until_it_is_confirmed() {
        let mut guard = ClockGuard::new(None, None);
        assert!(trusts(&mut guard, 0, 0));
        assert!(trusts(&mut guard, 100, 100), "time passes on both");
        assert!(!trusts(&mut guard, 101, 130));
        assert!(!trusts(&mut guard, 102, 131));
        guard.confirm();
        assert!(trusts(&mut guard, 103, 132));
        assert!(!trusts(&mut guard, 104, 100));
    }

    #[test]
    fn a_clock_that_is_back_is_trusted_again() {
        let mut guard = ClockGuard::new(None, None);
        assert!(trusts(&mut guard, 0, 1_000));
        assert!(!trusts(&mut guard, 1, 90_000));
        assert!(!trusts(&mut guard, 200, 90_199), "that it runs on says nothing");
        assert!(trusts(&mut guard, 201, 1_201), "as it should show after 201 hours");
        assert!(!trusts(&mut guard, 202, 90_201), "and once more");
        assert_eq!(guard.doubted(), Some(Wall(1_202 * HOUR)));
    }

    #[test]
    fn a_doubt_outlives_a_restart() {
        let written = Some(Wall(1_000 * HOUR));
        assert!(trusts(&mut ClockGuard::new(written, None), 0, 9_000), "for all we know");
        assert!(trusts(&mut ClockGuard::new(written, None), 0, 980));
        let mut back = ClockGuard::new(written, None);
        assert!(!trusts(&mut back, 0, 970));
        assert_eq!(back.doubted(), written);
        // Written in doubt, by a clock that was wrong: that is nothing to go by.
        let (written, doubted) = (Some(Wall(90_000 * HOUR)), written);
        assert!(!trusts(&mut ClockGuard::new(written, doubted), 0, 90_001));
        assert!(!trusts(&mut ClockGuard::new(written, doubted), 0, 1_030), "a day or longer ago");
        assert!(trusts(&mut ClockGuard::new(written, doubted), 0, 1_020));
        let mut confirmed = ClockGuard::new(written, doubted);
        confirmed.confirm();
        assert!(trusts(&mut confirmed, 0, 1_030));
    }
}

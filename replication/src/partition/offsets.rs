//! The four offsets of a partition as one value that cannot be built wrong.
//!
//! ```text
//!   start        stable     high watermark        end
//!     |------------|--------------|----------------|
//!     | readable   | open         | ordered, not   |
//!     | by all     | transactions | yet committed  |
//! ```
//!
//! Does: hold start ≤ stable ≤ high watermark ≤ end through every move.
//! Does not: decide when to move.
//! Invariants: the line above, checked after every move; start and high watermark never fall.
//! Apart because every reader relies on the order, and one wrong move would show uncommitted data.

use flumen_protocol::ids::Offset;

use super::read::Isolation;

/// Where a partition's log starts, is stable, is committed and ends. All but `end` count records
/// that exist; `end` and the bounds are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Invariant: 0 ≤ start ≤ stable.
    start: Offset,
    /// Invariant: stable ≤ high watermark; equal while no transaction is open.
    stable: Offset,
    /// Invariant: high watermark ≤ end.
    high_watermark: Offset,
    end: Offset,
}

impl Offsets {
    /// A log whose records from `start` to `end` are all committed, and decided but for a transaction
    /// that is `open` since some offset. `None` if the two do not fit.
    #[must_use]
    pub fn settled(start: Offset, end: Offset, open: Option<Offset>) -> Option<Self> {
        let fits = Offset::ZERO <= start && start <= end;
        let stable = stable(start, end, open);
        fits.then_some(Self { start, stable, high_watermark: end, end })
    }

    /// The first record that still exists.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Below it no transaction is open (Kafka's last stable offset).
    #[must_use]
    pub fn stable(&self) -> Offset {
        self.stable
    }

    /// Below it everything is committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Behind the last record a consumer of this isolation may see.
    #[must_use]
    pub fn limit(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.stable,
        }
    }

    /// The offset the next record gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Records up to `end` were ordered.
    ///
    /// # Panics
    /// When that would shorten the log.
    pub fn extend(&mut self, end: Offset) {
        assert!(end > self.end, "a batch has at least one record");
        self.end = end;
        self.check();
    }

    /// Records up to `high_watermark` are committed, and the oldest transaction under way among them
    /// is `open` since some offset.
    ///
    /// # Panics
    /// When the high watermark would fall or pass the end, or a transaction begin among what is decided.
    pub fn commit(&mut self, high_watermark: Offset, open: Option<Offset>) {
        assert!(high_watermark >= self.high_watermark, "the high watermark never falls");
        self.high_watermark = high_watermark;
        let stable = stable(self.start, high_watermark, open);
        assert!(stable >= self.stable, "what is decided stays decided");
        self.stable = stable;
        self.check();
    }

    /// Records below `start` are gone; says whether that moved anything. Never beyond the high
    /// watermark: what is not committed cannot have been deleted. Also into a transaction that is under
    /// way, as in Kafka: what there was of it below is gone whatever comes of it.
    pub fn advance_start(&mut self, start: Offset) -> bool {
        let start = start.min(self.high_watermark);
        let moved = start > self.start;
        if moved {
            self.start = start;
            self.stable = self.stable.max(start);
        }
        self.check();
        moved
    }

    fn check(&self) {
        assert!(Offset::ZERO <= self.start, "start is an offset");
        assert!(self.start <= self.stable, "nothing stable was deleted unseen");
        assert!(self.stable <= self.high_watermark, "what is stable is committed");
        assert!(self.high_watermark <= self.end, "what is committed exists");
    }
}

/// Below what everything is decided.
fn stable(start: Offset, high_watermark: Offset, open: Option<Offset>) -> Offset {
    open.map_or(high_watermark, |open| open.min(high_watermark)).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(start: i64, end: i64) -> Offsets {
        Offsets::settled(Offset(start), Offset(end), None).expect("they fit")
    }

    #[test]
    fn a_transaction_under_way_holds_what_is_stable_but_not_the_start() {
        let mut log = offsets(0, 4);
        log.extend(Offset(9));
        log.commit(Offset(6), Some(Offset(5)));
        assert_eq!((log.stable(), log.high_watermark()), (Offset(5), Offset(6)));
        log.commit(Offset(9), Some(Offset(5)));
        assert_eq!(log.stable(), Offset(5));
        assert!(log.advance_start(Offset(7)));
        assert_eq!((log.start(), log.stable()), (Offset(7), Offset(7)));
        log.commit(Offset(9), Some(Offset(5)));
        assert_eq!(log.stable(), Offset(7), "not before the start");
        log.commit(Offset(9), None);
        assert_eq!(log.stable(), Offset(9));
    }

    #[test]
    fn a_log_cannot_start_behind_its_end_or_before_zero() {
        assert_eq!(Offsets::settled(Offset(5), Offset(4), None), None);
        assert_eq!(Offsets::settled(Offset(-1), Offset(4), None), None);
    }

    #[test]
    fn records_are_ordered_then_committed_then_deleted() {
        let mut log = offsets(0, 0);
        log.extend(Offset(10));
        assert_eq!((log.high_watermark(), log.end()), (Offset(0), Offset(10)));
        log.commit(Offset(7), None);
        assert_eq!((log.stable(), log.high_watermark()), (Offset(7), Offset(7)));
        assert!(log.advance_start(Offset(3)));
        assert!(!log.advance_start(Offset(3)));
        assert_eq!(log.start(), Offset(3));
    }

    #[test]
    fn deletion_stops_at_the_high_watermark() {
        let mut log = offsets(0, 4);
        log.extend(Offset(9));
        assert!(log.advance_start(Offset(9)));
        assert_eq!(log.start(), Offset(4));
    }

    #[test]
    #[should_panic(expected = "what is committed exists")]
    fn nothing_commits_beyond_the_end() {
        offsets(0, 4).commit(Offset(5), None);
    }

    #[test]
    #[should_panic(expected = "the high watermark never falls")]
    fn the_high_watermark_never_falls() {
        offsets(0, 4).commit(Offset(3), None);
    }
}

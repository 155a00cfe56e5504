//! Records of this core that were asked for and that the disk does not have any more.
//!
//! Does: remember which ranges reads found damaged, and tell the operator of each, once, by topic,
//! partition and offsets.
//! Does not: find damage, the store does; keep it over a start: the next reader finds it again.
//! Invariants: at most [`UNREADABLE_RANGES_MAX`] ranges are remembered, and told of.
//! Apart because a client is only told to come back, and somebody has to know better.

use std::collections::BTreeSet;

use flumen_protocol::ids::{LogId, Offset};
use flumen_storage::answers::ReadError;
use tracing::error;

use super::shard::Shard;
use crate::limits::UNREADABLE_RANGES_MAX;

/// The ranges that are known.
#[derive(Debug, Default)]
pub struct Unreadable {
    ranges: BTreeSet<(LogId, Offset, Offset)>,
}

impl Unreadable {
    /// Notes a range; whether it is news.
    fn note(&mut self, log: LogId, from: Offset, until: Offset) -> bool {
        self.ranges.len() < UNREADABLE_RANGES_MAX && self.ranges.insert((log, from, until))
    }

    /// The log is gone, and its name may be used anew.
    pub(super) fn forget(&mut self, log: LogId) {
        self.ranges.retain(|(known, _, _)| *known != log);
    }
}

impl Shard {
    /// Ranges of records that were asked for and cannot be given: the log, the first offset, and one
    /// after the last.
    pub fn unreadable(&self) -> impl Iterator<Item = (LogId, Offset, Offset)> + '_ {
        self.unreadable.ranges.iter().copied()
    }

    /// A read failed: if that is because of what lies on the disk, the operator is told.
    pub(super) fn note_unreadable(&mut self, why: ReadError) {
        let ReadError::Damaged { log, from, until } = why else { return };
        if !self.unreadable.note(log, from, until) {
            return;
        }
        let topic = self.image.topic(log.topic).map(|topic| topic.name.as_str());
        error!(
            topic, partition = log.partition.0, core = %self.identity.core, %log,
            "records of this partition are damaged: offsets {from} to {} cannot be read. \
             {UNREADABLE_REMEDY}", until.0 - 1
        );
    }
}

/// What an operator does about damaged records.
const UNREADABLE_REMEDY: &str = "Everything before and after is served. Restore the data folder \
    from a copy, or let consumers go on behind them";

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_range_is_news_once_and_there_is_an_end_to_it() {
        let log =
            |partition| LogId { topic: TopicId([1; 16]), partition: PartitionIndex(partition) };
        let mut known = Unreadable::default();
        assert!(known.note(log(0), Offset(3), Offset(5)));
        assert!(!known.note(log(0), Offset(3), Offset(5)));
        for first in 0..2 * UNREADABLE_RANGES_MAX as i64 {
            known.note(log(1), Offset(first), Offset(first + 1));
        }
        assert_eq!(known.ranges.len(), UNREADABLE_RANGES_MAX);
        known.forget(log(1));
        assert!(known.note(log(1), Offset(0), Offset(1)), "it may have its name from another log");
        assert_eq!(known.ranges.len(), 2);
    }
}

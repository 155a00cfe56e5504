//! What of a compacted log may be gone: records a later one of the log has the key of.
//!
//! Does: remember where the last value of each key was acknowledged or seen.
//! Does not: judge a reading.
//! Invariants: a value supersedes only what lies before it in its own log.
//! Apart because every oracle that misses something asks it first.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Value};

/// The last known offset of each key of each compacted log.
pub struct Superseded<'a> {
    history: &'a History,
    last: BTreeMap<(Place, u32), i64>,
}

impl<'a> Superseded<'a> {
    /// Adds up what is known.
    pub fn by(history: &'a History) -> Self {
        let mut known = Self { history, last: BTreeMap::new() };
        for happening in &history.happenings {
            if let Happening::Acked { place, value, offset: Some(offset), .. } = happening {
                known.take(*place, *offset, *value);
            } else if let Happening::Seen { place, offset, value, .. } = happening {
                known.take(*place, *offset, *value);
            } else if let Happening::ReadWhole { place, records, .. } = happening {
                records.iter().for_each(|(offset, value)| known.take(*place, *offset, *value));
            }
        }
        known
    }

    fn take(&mut self, place: Place, offset: i64, value: Value) {
        let Some(key) = value.few_key().filter(|_| self.history.is_compacted(place)) else {
            return;
        };
        let last = self.last.entry((place, key)).or_insert(offset);
        *last = offset.max(*last);
    }

    /// Whether this value may be gone from there because a later one has its key.
    pub fn may_be_gone(&self, place: Place, offset: i64, value: Value) -> bool {
        let key = value.few_key().filter(|_| self.history.is_compacted(place));
        key.and_then(|key| self.last.get(&(place, key))).is_some_and(|last| *last > offset)
    }
}

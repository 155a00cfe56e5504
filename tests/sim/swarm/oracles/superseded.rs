//! What of a compacted log may be gone: records a later one of the log has the key of, and deletions that stood
//! there for as long as they must.
//!
//! Does: remember where the last value of each key was acknowledged or seen, and when deletions were sent.
//! Does not: judge a reading.
//! Invariants: a value supersedes only what lies before it in its own log; a deletion is not forgotten sooner than
//! `delete.retention.ms` after it was sent first. One that nobody was answered for may have been there and be gone.
//! Apart because every oracle that misses something asks it first.

use std::collections::{BTreeMap, BTreeSet};

use super::super::heap::Nanos;
use super::super::history::{Happening, History, Place, Since, Value};

/// The last known record of a key.
#[derive(Clone, Copy)]
pub struct Last {
    pub offset: i64,
    pub value: Value,
    /// Since when it is known.
    pub since: Since,
}

/// The last known record of each key of each compacted log.
pub struct Superseded<'a> {
    history: &'a History,
    last: BTreeMap<(Place, u32), Last>,
    /// When deletions were sent.
    sent: BTreeMap<Value, Nanos>,
    /// When the first of a key was sent of which nobody knows where it is.
    unheard: BTreeMap<(Place, u32), Nanos>,
}

impl<'a> Superseded<'a> {
    /// Adds up what is known.
    pub fn by(history: &'a History) -> Self {
        let (last, sent, unheard) = Default::default();
        let mut known = Self { history, last, sent, unheard };
        let mut heard = BTreeSet::new();
        for (at, happening) in history.happenings.iter().enumerate() {
            if let Happening::Acked { place, value, offset: Some(offset), since } = happening {
                if value.is_tombstone() {
                    heard.insert(*value);
                }
                known.take(*place, *offset, *value, *since);
            } else if let Happening::Seen { place, offset, value, since } = happening {
                known.take(*place, *offset, *value, *since);
            } else if let Happening::ReadWhole { place, records, .. } = happening {
                records.iter().for_each(|(it, value)| known.take(*place, *it, *value, at));
            } else if let Happening::Sent(_, value) = happening
                && value.is_tombstone()
            {
                known.sent.entry(*value).or_insert(history.time(at));
            }
        }
        for (at, happening) in history.happenings.iter().enumerate() {
            if let Happening::Sent(place, value) = happening
                && value.is_tombstone()
                && !heard.contains(value)
                && let Some(key) = known.key(*place, *value)
            {
                known.unheard.entry((*place, key)).or_insert(history.time(at));
            }
        }
        known
    }

    /// Its key, where keys count.
    fn key(&self, place: Place, value: Value) -> Option<u32> {
        value.few_key().filter(|_| self.history.is_compacted(place))
    }

    fn take(&mut self, place: Place, offset: i64, value: Value, since: Since) {
        let Some(key) = self.key(place, value) else { return };
        let found = Last { offset, value, since };
        let last = self.last.entry((place, key)).or_insert(found);
        if offset > last.offset {
            *last = found;
        }
    }

    /// The last record of this value's key that is known, there or gone.
    pub fn last(&self, place: Place, value: Value) -> Option<Last> {
        self.last.get(&(place, self.key(place, value)?)).copied()
    }

    /// Whether this value may be gone from there at that time: a later one has its key, or it deletes its key and
    /// everybody had time to hear of it.
    pub fn may_be_gone(&self, (place, offset): (Place, i64), value: Value, at: Nanos) -> bool {
        let Some(key) = self.key(place, value) else { return false };
        let is_over = |sent: &Nanos| at.saturating_sub(*sent) >= self.history.tombstones_last;
        self.last.get(&(place, key)).is_some_and(|last| last.offset > offset)
            || self.sent.get(&value).is_some_and(is_over)
            || self.unheard.get(&(place, key)).is_some_and(|sent| *sent <= at)
    }
}

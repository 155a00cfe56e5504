//! What a cleaning must know of transactions.
//!
//! Does: say whether a batch was aborted, and whether a marker ends nothing that is still there.
//! Does not: find out which transactions were aborted: the partition's owner says it.
//! Invariants: batches and markers are asked about in the order of the log; a marker that ends an aborted
//! range its owner still lists is never let go, or readers who were told of the range would take what its
//! producer wrote later for aborted too.
//! Apart because it is the one thing a cleaning knows besides keys.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{Offset, ProducerId};

use crate::answers::AbortedRange;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Its records count.
    Commit,
    /// Its records do not.
    Abort,
    /// A control record of another kind, which a cleaning keeps as it is.
    Other,
}

impl Marker {
    /// What the control batch says.
    #[must_use]
    pub fn of(batch: &[u8]) -> Self {
        match EndMarker::read(batch) {
            Some(EndMarker { commit: true, .. }) => Self::Commit,
            Some(EndMarker { commit: false, .. }) => Self::Abort,
            None => Self::Other,
        }
    }
}

/// Transactions along a walk over the log.
#[derive(Clone, Debug)]
pub struct Transactions {
    /// The offset of the marker, by producer and first offset.
    aborted: BTreeMap<(ProducerId, Offset), Offset>,
    /// Aborted ranges of which the walk met a batch.
    met: BTreeSet<(ProducerId, Offset)>,
    /// Producers of whose transaction, not ended yet, the walk met a batch.
    open: BTreeSet<ProducerId>,
    /// Ranges whose marker was met, and before it nothing of them.
    emptied: Vec<AbortedRange>,
}

impl Transactions {
    /// A walk that has met nothing.
    #[must_use]
    pub fn new(aborted: &[AbortedRange]) -> Self {
        let aborted = aborted.iter().map(|range| ((range.producer, range.first), range.last));
        let (met, open, emptied) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { aborted: aborted.collect(), met, open, emptied }
    }

    /// Meets a batch of data; says whether it was aborted.
    pub fn meet_data(&mut self, header: &BatchHeader) -> bool {
        if !header.is_transactional() {
            return false;
        }
        let producer = header.producer_id;
        let before = (producer, Offset(i64::MIN))..=(producer, header.base_offset);
        let range = self.aborted.range(before).next_back();
        match range.filter(|(_, last)| header.base_offset < **last) {
            Some((name, _)) => {
                self.met.insert(*name);
                true
            }
            None => {
                self.open.insert(producer);
                false
            }
        }
    }

    /// Meets a marker; says whether nothing of what it ends was met.
    pub fn meet_marker(&mut self, header: &BatchHeader, marker: Marker) -> bool {
        let producer = header.producer_id;
        match marker {
            Marker::Commit => !self.open.remove(&producer),
            Marker::Abort => {
                let before = (producer, Offset(i64::MIN))..=(producer, header.base_offset);
                let range = self.aborted.range(before).next_back();
                let Some((name, last)) = range.filter(|(_, last)| **last == header.base_offset)
                else {
                    return true;
                };
                if !self.met.contains(name) {
                    self.emptied.push(AbortedRange { producer, first: name.1, last: *last });
                }
                false
            }
            Marker::Other => false,
        }
    }

    /// Aborted ranges nothing of which is left: their owner may forget them, and then, in a later
    /// cleaning, their markers go.
    #[must_use]
    pub fn emptied(&self) -> &[AbortedRange] {
        &self.emptied
    }
}

//! Who writes a transaction, and how one ends.
//!
//! Does: name a producer at one of its epochs, and the two ends of a transaction.
//! Does not: give ids or epochs out; the coordinator of transactions does.
//! Invariants: clients never see the last epoch of a producer: it is left to fence it with.
//! Apart because groups, transactions and their runtime all speak of it.

use flumen_protocol::ids::{ProducerEpoch, ProducerId};

/// A producer at one of its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// Its identity.
    pub id: ProducerId,
    /// How often it was taken over.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// None at all.
    pub const NONE: Self = Self { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };
    /// The last epoch a client ever sees. One more is left to fence it with.
    pub const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

    /// Whether its next epoch is not for clients.
    #[must_use]
    pub fn is_used_up(self) -> bool {
        self.epoch >= Self::LAST_EPOCH
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Its records are to be read.
    Commit,
    /// They never happened.
    Abort,
}

//! What happens to clients in transactions, as a history has it.
//!
//! Does: name it.
//! Does not: judge; the oracles do.
//! Invariants: a transaction is of one reign, and a reign of one transactional id; no two transactions share a name.
//! Apart because most lives have none, and most oracles need not know them.

use std::fmt;

use super::history::{Place, Since, Value};

/// How long every transaction may take, in milliseconds.
pub const TIMEOUT_MS: u64 = 6_000;
/// What it wrote is decided at most so much later (contract C6).
pub const DECISION_MS: u64 = 10_000;
/// Whoever has this name or a higher one, up to those who write few keys, writes in transactions.
pub const TRANSACTIONAL_WRITER: u16 = 500;
/// Groups from this number on belong to those who copy.
pub const COPYING_GROUP: u8 = 100;

/// The time for which a producer has a transactional id, as it sees it: from one InitProducerId to whatever
/// ends its hopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reign {
    /// Who.
    pub writer: u16,
    /// The how manieth of his.
    pub count: u32,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    /// In which it was begun.
    pub reign: Reign,
    /// The how manieth of that.
    pub number: u32,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {}/{}/{}", self.reign.writer, self.reign.count, self.number)
    }
}

/// One thing that a transactional producer, or a reader of committed records, did or was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transacted {
    /// A transactional id was given to this reign with this epoch: those of lower epochs are over.
    Renewed { id: u8, producer: i64, epoch: i16, reign: Reign },
    /// A value that is sent is part of this transaction.
    Part(Transaction, Value),
    /// A value is the copy of the record that is there.
    Copied { value: Value, place: Place, offset: i64 },
    /// The transaction holds that a group has read so far.
    Carried { of: Transaction, group: u8, place: Place, offset: i64 },
    /// Its commit was asked for, for the first time.
    CommitAsked(Transaction),
    /// It is known how it ended: it is committed, or it is not and will not be.
    Ended { of: Transaction, is_committed: bool, since: Since },
    /// A reader of committed records was given this one, and not told that it was aborted.
    Believed { place: Place, offset: i64, value: Value },
    /// A reader met the end of a transaction there, and no record.
    Marked(Place, i64),
    /// Somebody was told below what everything is decided (the last stable offset).
    Stable { place: Place, stable: i64, since: Since },
    /// At the end of the life, when nobody begins anything any more, something there is not decided. For
    /// so long somebody has waited, since that place of the history.
    Undecided { place: Place, waited_ms: u64, since: Since },
    /// At the end of the life: these are the committed records from `start` up to `end`.
    ReadCommitted { place: Place, start: i64, end: i64, records: Vec<(i64, Value)> },
}

//! The coordinator of transactional ids (KIP-98), which also knows the protocol of Kafka 4
//! (KIP-890: every end of a transaction gives its producer a new epoch).
//!
//! Does: give out producer ids and epochs, remember which partitions a transaction has, decide its
//! end, say which markers are owed, end what takes too long, forget ids nobody uses.
//! Does not: write markers or know partitions' leaders; its owner writes them and reports.
//! Invariants: a decision is a record; markers are owed from the moment the record is committed until a
//! second record says that all are written, so that a crash between the two owes them again.
//! Apart because its rules are Kafka's, written down in one place.
//!
//! ```text
//!   Empty ──────► Ongoing ──────► PrepareCommit ──markers written──► CompleteCommit ─┐
//!     │   ▲        │   ▲  └─────► PrepareAbort ───markers written──► CompleteAbort ──┤
//!     │   │        │   └──────────────── a partition is added ───────────────────────┤
//!     │   └────────┼──────────────────── InitProducerId ─────────────────────────────┤
//!     └────────────┴── nothing to abort, yet asked for (Kafka 4) ─► PrepareAbort ◄───┘
//! ```
//! An id that was forgotten is gone; Kafka's `Dead` and `PrepareEpochFence` exist only between a decision
//! and its record, which here are one step.

mod dispatch;
mod end;
mod exchange;
mod init;
mod parked;
mod partitions;
pub mod requests;
mod state;
mod stored;

pub use dispatch::TransactionCoordinator;
pub use partitions::Partitions;
pub use requests::{
    Ending, Owed, TransactionEffect, TransactionFilter, TransactionRequest, TransactionResponse,
    TransactionRow,
};
pub use state::{ClientVersion, State};

/// How transactions behave. The names are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: the longest timeout a producer may ask for.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: how long an unused id is remembered.
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub id_expiration_check_interval_ms: u64,
    /// How long an answer waits for its records to be committed; Kafka's `request.timeout.ms`.
    pub commit_timeout_ms: u64,
}

impl Default for TransactionConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            max_timeout_ms: 15 * 60 * 1000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
            id_expiration_check_interval_ms: 60 * 60 * 1000,
            commit_timeout_ms: 30_000,
        }
    }
}

//! One partition of one topic as its leader or follower sees it.
//!
//! Does: list the rooms; `partition/partition.rs` is the door and the only dispatcher.
//! Does not: hold logic here.
//! Invariants: state is changed in `Partition` only; the tables beside it know nothing of
//! each other.
//! Apart because a partition is the unit of order, of leadership and of failure.

mod aborted;
pub mod append;
pub mod epochs;
pub mod history;
pub mod offsets;
pub mod open;
// The floor plan names this file; it is what a newcomer looks for.
#[allow(clippy::module_inception)]
pub mod partition;
pub mod producers;
pub mod quorum;
pub mod read;
pub mod snapshot;
pub mod transactions;
pub mod waiting;

pub use aborted::UnsavedAborted;
pub use append::{Acks, Append, Origin};
pub use open::{PartitionBoot, PartitionSettings, SettledBatch};
pub use partition::{Deletion, Partition};
pub use quorum::{Quorum, Voter};
pub use read::{Isolation, ListedOffset, OffsetSpec, ReadBounds, ReadQuery};
pub use snapshot::{StateSnapshot, covered_end};
pub use transactions::{ActiveProducer, Claim, EndTransaction, TransactionEnd, Verification};
pub use waiting::Watched;

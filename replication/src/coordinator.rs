//! Coordinators: state machines that live on the leader of a partition of an internal topic and
//! keep their truth in its records.
//!
//! Does: hold what they share (timers, the runtime that turns decisions into batches and releases
//! answers on commit) and the coordinators of groups and of transactions.
//! Does not: append, read or replicate; the partition does. Does not know sockets or files.
//! Invariants: an answer leaves only after every record written before it is committed, so no
//! client ever sees what a change of leaders could take back; on a failed append or lost
//! leadership the whole machine is thrown away and loaded again (decision D4).
//! Apart because groups and transactions need the same runtime and nothing else needs any of it.

pub mod group;
pub mod machine;
mod packing;
pub mod pattern;
pub mod producer;
mod replay;
pub mod runtime;
pub mod timers;
pub mod transaction;

pub use crate::outbox::Ticket;

//! Coordinators: state machines that live on the leader of a partition of an internal topic and
//! keep their truth in its records.
//!
//! Does: hold what they share (timers, the runtime that turns decisions into batches and releases
//! answers on commit) and the group coordinator.
//! Does not: append, read or replicate; the partition does. Does not know sockets or files.
//! Invariants: an answer leaves only after every record written before it is committed, so no
//! client ever sees what a change of leaders could take back; on a failed append or lost
//! leadership the whole machine is thrown away and loaded again (decision D4).
//! Apart because groups and transactions need the same runtime and nothing else needs any of it.

pub mod group;
pub mod runtime;
pub mod timers;

pub use crate::outbox::Ticket;

//! What the records of the broker's own topics say, in Kafka's schema.
//!
//! Does: read and write keys and values, byte for byte as Kafka 4.1 does, so that tools and
//! mirrored clusters can read them.
//! Does not: keep state or decide what to write; the coordinators do.
//! Invariants: a key or value of a newer kind is told apart from a damaged one.
//! Apart because the schema is Kafka's and outlives our coordinators.

pub mod consumer_groups;
pub mod offsets;
pub mod transactions;

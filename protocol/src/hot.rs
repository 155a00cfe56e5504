//! Produce and Fetch by hand: the two requests that carry records.
//!
//! Does: parse and write both without copying a record.
//! Does not: look into records.
//! Invariants: malformed bytes are an error value; memory is paid for before it is taken.
//! Apart because the generic codec copies and trusts, and these two carry nearly all the bytes.

#[cfg(any(test, feature = "sample"))]
pub mod agreement;
pub mod fetch;
pub mod leader_hint;
pub mod produce;

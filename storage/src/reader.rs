//! Reading: from memory if it is there, else from segments, verified before it is served.

pub mod assemble;
pub mod cache;
mod epochs;
mod fetch;
pub mod jobs;
pub(crate) mod pieces;
pub mod plan;
pub mod sieve;
pub mod sums;
pub mod window;

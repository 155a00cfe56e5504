//! What the broker tells about itself: numbers, the HTTP port that shows them, and the log.
//!
//! Does: counts per core, adds cores up, writes them as text; reads and answers tiny HTTP requests;
//! sets the log up. Does not: open sockets or read clocks.
//! Invariants: no global state except the log's subscriber, which is a process-wide thing by nature.
//! Apart because no other room should know what a scrape looks like.

pub mod admin;
pub mod exposition;
pub mod lag;
pub mod latency;
pub mod lines;
pub mod log;
pub mod metrics;

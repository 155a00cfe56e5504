//! Compaction: of every key only the last record stays, at the offset it always had.
//!
//! ```text
//!  due? --plan--> map the dirty part --table--> sweep group after group --output--> a new segment beside
//!                                                  ^        |                          the old ones
//!                                                  |        v
//!                                                  +-- one record in the manifest swaps them
//! ```

pub mod cleaning;
pub mod mapping;
pub mod output;
pub mod plan;
pub mod sweep;
pub mod table;
pub mod transactions;

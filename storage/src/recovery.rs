//! The way back after a stop of any kind: classify first, write nothing until all is classified.

mod around;
mod basics;
pub mod damage;
mod doubt;
mod losses;
pub mod open;
pub mod scan;
mod survey;
pub mod truncate;
pub mod verdict;

//! How much of a long test is wanted.
//!
//! Does: read `NAME=FROM..TO` from the environment.
//! Does not: know what is counted.
//! Invariants: what cannot be read ends the test, so that nobody believes to have tested it.
//! Apart because lives and flips are asked for in the same way.

use std::env;
use std::ops::Range;

/// The numbers asked for by this variable, or these.
pub fn range_of(variable: &str, otherwise: Range<u64>) -> Range<u64> {
    let Ok(wanted) = env::var(variable) else { return otherwise };
    let ends =
        wanted.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    ends.unwrap_or_else(|| panic!("{variable}=FROM..TO, two numbers; it is {wanted:?}"))
}

//! What a piece of work takes from the allocator.
//!
//! Does: ask the counting allocator of the fuzz program before and after.
//! Does not: count where none is installed: an ordinary test sees nothing taken, and passes.
//! Invariant: what is given back is not taken off, so that the sum is never below the peak.
//! Apart because only the fuzz program runs one target at a time, and so knows whose bytes they are.

use std::sync::OnceLock;

/// Bytes ever taken, by the allocator's own count.
static COUNT: OnceLock<fn() -> usize> = OnceLock::new();

/// From now on this says how many bytes were ever taken.
pub fn install(count: fn() -> usize) {
    COUNT.get_or_init(|| count);
}

/// Does the work; says how many bytes it took.
pub fn spent<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let Some(count) = COUNT.get() else { return (work(), 0) };
    let before = count();
    let outcome = work();
    (outcome, count().wrapping_sub(before))
}

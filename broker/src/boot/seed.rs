//! The only entropy of the process: one seed, drawn once and logged.
//!
//! Does: draw 64 bits from the operating system, or take the operator's.
//! Does not: make anything random later on; every core derives its dice from this.
//! Invariants: called once per process.
//! Apart so that a run can be repeated from one number in its log.
#![expect(clippy::disallowed_methods, reason = "the only entropy of the process")]

use std::fs::File;
use std::io::{self, Read};

/// The seed of this process.
///
/// # Errors
/// The operating system gives no randomness, which it always does once booted.
pub fn seed(configured: Option<i64>) -> io::Result<u64> {
    if let Some(seed) = configured {
        return Ok(seed.cast_unsigned());
    }
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

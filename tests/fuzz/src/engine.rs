#![no_main]
//! The fuzz program: libFuzzer around one target.
//!
//! Does: hand every input to the target, with an allocator that counts.
//! Does not: choose the target when it runs: what is not linked has no counters that libFuzzer would look
//! through after every input. `FLUMEN_FUZZ_TARGET` names it when this is compiled.
//! Apart because its `main` is libFuzzer's (feature `engine`).

use std::alloc::System;

use flumen_fuzz::{meter, targets};
use libfuzzer_sys::fuzz_target;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a build without a name gets is of no use but to see that it builds.
const NAME: &str = match option_env!("FLUMEN_FUZZ_TARGET") {
    Some(name) => name,
    None => "frame",
};
const RUN: fn(&[u8]) = targets::find(NAME).run;

fuzz_target!(init: meter::install(|| ALLOCATOR.stats().bytes_allocated), |input: &[u8]| {
    RUN(input);
});

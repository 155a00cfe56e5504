//! Fuzzing: every reader of foreign bytes, each as a function that takes any bytes and must not panic.
//!
//! | where | what |
//! |---|---|
//! | [`targets`] | the targets: what each holds, how it begins |
//! | [`draw`] | decisions out of an input's bytes |
//! | [`filled`], [`node`] | a data folder and a core of a broker, to be copied for every input |
//! | [`meter`] | what a piece of work takes from the allocator |
//! | [`typed`](mod@typed) | from an API's key to its message types |
//!
//! Does: turn bytes into calls, hold what comes back against an oracle, make the first inputs.
//! Does not: search for inputs: libFuzzer does, in the program of `engine.rs` (scripts/fuzz.sh);
//! `tests/corpus.rs` replays what is kept, and damages it a little, in every `cargo test`.
//! Invariants: a target does the same for the same bytes; what it finds is a panic.
//! Apart from the tests of each crate because an attacker chooses the bytes here, not the author.
#![forbid(unsafe_code)]

pub mod draw;
pub mod filled;
pub mod meter;
pub mod node;
pub mod targets;
pub mod typed;

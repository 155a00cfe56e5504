//! Nothing but test targets live in this crate.

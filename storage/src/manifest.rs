//! The manifest: one small log per core that says what its segments consist of.

mod ballast;
pub mod handover;
pub mod hold;
pub mod image;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
pub mod manifest;
pub mod record;

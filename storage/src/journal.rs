//! The journal of one core: the only place where an append becomes durable.

pub mod config;
pub(crate) mod errand;
#[expect(
    clippy::module_inception,
    reason = "the room and its chief file share the name on purpose"
)]
pub mod journal;
pub(crate) mod packer;
pub(crate) mod queue;
pub(crate) mod recycle;
#[cfg(test)]
pub(crate) mod rig;

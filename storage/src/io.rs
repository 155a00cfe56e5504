//! The only place of the crate that touches the world: files, by glommio or, for commits of the
//! journal, by a ring of the core's own, which also watches the descriptors of sockets.
//!
//! Does: what the rest decided. Does not: decide. Apart because it is what the simulator replaces.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where files are touched; see clippy.toml"
)]

pub mod directory;
pub mod driver;
pub mod moving;
pub mod ring;

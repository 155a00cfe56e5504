//! What the tests over the whole house share: source texts, a broker process, raw frames, a client, patience.
//!
//! Does: start, kill and restart the real program; read sources for the tidy rules; build and read bytes by hand.
//! Does not: know anything of the broker's insides. A test here sees what a stranger sees.

#![forbid(unsafe_code)]

pub mod broker;
pub mod client;
pub mod forged;
pub mod patience;
pub mod source;
pub mod wire;

use std::path::PathBuf;

/// The root of the project: the folder that holds the workspace's manifest.
///
/// # Panics
/// Where neither cargo nor the build say where this crate lies.
#[must_use]
pub fn workspace_root() -> PathBuf {
    // Asked when it runs: a build folder may be shared by two copies of the project.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().expect("this crate lies inside the workspace").to_path_buf()
}

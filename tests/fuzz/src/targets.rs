//! The targets: what is attacked, one row each.
//!
//! Does: name them, for the fuzz program, the script and the tests.
//! Does not: hold one itself.
//! Invariants: names are unique; a target takes any bytes and panics only over what is wrong.
//! Apart because a list is what everybody asks for first.

pub mod admin;
pub mod batch;
pub mod codec;
pub mod config;
pub mod differential;
pub mod fetch;
pub mod frame;
pub mod group;
pub mod headers;
pub mod index;
pub mod manifest;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod recovery;
pub mod request;
pub mod session;
pub mod sieve;
pub mod snapshot;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name for `scripts/fuzz.sh`, and that of its folder under `corpus`.
    pub name: &'static str,
    /// The attack: an input against the code and its oracle.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many damaged inputs an ordinary test tries.
    pub tries: u32,
}

const CHEAP: u32 = 3000;
const DEAR: u32 = 300;

/// All targets, from the socket inwards.
pub const TARGETS: &[Target] = &[
    target("frame", frame::run, frame::seeds, CHEAP),
    target("request", request::run, request::seeds, CHEAP),
    target("differential", differential::run, differential::seeds, CHEAP),
    target("produce", produce::run, produce::seeds, CHEAP),
    target("fetch", fetch::run, fetch::seeds, CHEAP),
    target("admin", admin::run, admin::seeds, CHEAP),
    target("batch", batch::run, batch::seeds, CHEAP),
    target("gzip", codec::gzip, codec::gzip_seeds, DEAR),
    target("snappy", codec::snappy, codec::snappy_seeds, DEAR),
    target("lz4", codec::lz4, codec::lz4_seeds, DEAR),
    target("zstd", codec::zstd, codec::zstd_seeds, DEAR),
    target("offsets", offsets::run, offsets::seeds, CHEAP),
    target("group", group::run, group::seeds, CHEAP),
    target("metadata", metadata::run, metadata::seeds, CHEAP),
    target("snapshot", snapshot::run, snapshot::seeds, DEAR),
    target("headers", headers::run, headers::seeds, CHEAP),
    target("manifest", manifest::run, manifest::seeds, CHEAP),
    target("index", index::run, index::seeds, CHEAP),
    target("sieve", sieve::run, sieve::seeds, CHEAP),
    target("journal", recovery::journal, recovery::seeds, DEAR),
    target("folder", recovery::any_file, recovery::seeds, DEAR),
    target("config", config::file, config::file_seeds, DEAR),
    target("settings", config::settings, config::settings_seeds, CHEAP),
    target("session", session::run, session::seeds, DEAR),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    tries: u32,
) -> Target {
    Target { name, run, seeds, tries }
}

/// The target of this name, when a program is compiled.
///
/// # Panics
/// When there is none.
#[must_use]
pub const fn find(name: &str) -> Target {
    let mut place = 0;
    while place < TARGETS.len() {
        if is_same(TARGETS[place].name.as_bytes(), name.as_bytes()) {
            return TARGETS[place];
        }
        place += 1;
    }
    panic!("no target of this name")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut place = 0;
    while place < one.len() && place < other.len() && one[place] == other[place] {
        place += 1;
    }
    place == one.len() && place == other.len()
}

//! Writes what was made.
//!
//! Does: write all files beside their final names first and give them these names only when each
//! is whole; pack raw outcomes.
//! Does not: decide what a file says.
//! Invariants: a failure leaves no half-written file and no temporary one behind.
//! Apart because it is the only place that changes a disk.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::file::{draft_of, is_replaceable, write_draft};
use crate::limits::KEPT_BYTES_MAX;
use crate::report::input::Source;

/// A file to be.
#[derive(Debug)]
pub struct Output {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub bytes: Vec<u8>,
}

/// Why nothing was written; one line.
#[derive(Debug)]
pub struct Unwritable {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot be written: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Unwritable {}

/// Raw outcomes, packed, and the names of those that would have been too much.
#[derive(Debug)]
pub struct Kept {
    /// To be written.
    pub outputs: Vec<Output>,
    /// Did not fit, with their packed size in bytes.
    pub left_out: Vec<(String, usize)>,
}

/// Packs outcomes into a folder, in their order, as long as the sum stays within
/// [`KEPT_BYTES_MAX`]. The same outcome gives the same bytes: no time, no name is packed with it.
#[must_use]
pub fn pack(sources: &[Source], folder: &Path) -> Kept {
    let mut kept = Kept { outputs: Vec::new(), left_out: Vec::new() };
    let mut sum = 0;
    for source in sources {
        let bytes = packed(source.json.as_bytes());
        if sum + bytes.len() as u64 > KEPT_BYTES_MAX {
            kept.left_out.push((source.name.clone(), bytes.len()));
            continue;
        }
        sum += bytes.len() as u64;
        let taken: Vec<&Path> = kept.outputs.iter().map(|output| output.path.as_path()).collect();
        let path = free_path(folder, stem(&source.name), &taken);
        kept.outputs.push(Output { path, bytes });
    }
    kept
}

fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".json").unwrap_or(name)
}

fn free_path(folder: &Path, stem: &str, taken: &[&Path]) -> PathBuf {
    let first = folder.join(format!("{stem}.json.gz"));
    let mut others = (2_u32..).map(|n| folder.join(format!("{stem}-{n}.json.gz")));
    if taken.contains(&first.as_path()) {
        others.find(|path| !taken.contains(&path.as_path())).unwrap_or(first)
    } else {
        first
    }
}

fn packed(json: &[u8]) -> Vec<u8> {
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    // A vector takes every write.
    packer.write_all(json).and_then(|()| packer.finish()).unwrap_or_default()
}

/// Writes all of them or, as far as a file system allows, none. Missing folders are made.
///
/// # Errors
/// When a folder cannot be made or a file cannot be written or named.
pub fn write_all(outputs: &[Output]) -> Result<(), Unwritable> {
    let drafts: Vec<PathBuf> = outputs.iter().map(|output| draft_of(&output.path)).collect();
    let written = outputs.iter().zip(&drafts).try_for_each(|(output, draft)| {
        let ready = match is_replaceable(&output.path) {
            true => write_draft(draft, &output.bytes),
            false => Ok(()),
        };
        ready.map_err(|error| Unwritable { path: output.path.clone(), error })
    });
    let named = written.and_then(|()| {
        outputs.iter().zip(&drafts).try_for_each(|(output, draft)| {
            let named = match is_replaceable(&output.path) {
                true => fs::rename(draft, &output.path),
                false => fs::write(&output.path, &output.bytes),
            };
            named.map_err(|error| Unwritable { path: output.path.clone(), error })
        })
    });
    if named.is_err() {
        for draft in &drafts {
            // Those that were already named are gone; the failure to report is the first one.
            let _ = fs::remove_file(draft);
        }
    }
    named
}

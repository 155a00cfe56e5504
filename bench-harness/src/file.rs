//! Files that appear whole or not at all.
//!
//! Does: write beside the final name first and give the name only to what is whole.
//! Does not: know what is written.
//! Invariants: what cannot be replaced (a device, a pipe, a link) is written to, never renamed over;
//! a failure leaves no draft behind.
//! Apart because every result is read by somebody who must not meet half of one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes a file, whole or not at all. Missing folders are made.
///
/// # Errors
/// It cannot be written or named; what was there before still is.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if !is_replaceable(path) {
        return fs::write(path, bytes);
    }
    let draft = draft_of(path);
    write_draft(&draft, bytes).and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        // Where there is none there is nothing to remove; the first failure is the one to tell.
        let _ = fs::remove_file(&draft);
    })
}

/// Whether there is a plain file of this name, or none: `/dev/stdout` must stay what it is.
#[must_use]
pub fn is_replaceable(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or(true, |found| found.is_file())
}

/// Where it is written before it has its name.
#[must_use]
pub fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.draft-{}", std::process::id()))
}

/// Writes the draft through to the disk.
///
/// # Errors
/// The folder cannot be made or the file cannot be written.
pub fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = draft.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_what_is_no_file_stays() {
        let folder = std::env::temp_dir().join(format!("flumen-bench-file-{}", std::process::id()));
        let path = folder.join("new").join("a.json");
        write_whole(&path, b"one").expect("it is written");
        write_whole(&path, b"two").expect("it is written over");
        assert_eq!(fs::read(&path).expect("it is there"), b"two");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        write_whole(&link, b"three").expect("it is written through");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read(&path).expect("it is there"), b"three");
        assert!(write_whole(&path.join("below"), b"four").is_err(), "a file is no folder");
        let names = fs::read_dir(folder.join("new")).expect("a folder").count();
        assert_eq!(names, 1, "no draft is left");
        fs::remove_dir_all(&folder).expect("it goes");
    }
}

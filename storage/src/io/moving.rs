//! The files of a change of the number of cores.
//!
//! Does: lay the new cores' manifests beside the old ones, put them in their place, clean up.
//! Does not: decide; the caller writes the node record, whose mark `taking_over` is the switch.
//! Invariants: [`stage`] and [`discard`] touch nothing of the cores; [`take_over`], repeated after
//! a crash at any of its steps, ends with the same files; it never needs what it deleted.
//! Apart because a crash between any two file operations must leave one layout whole.
//!
//! ```text
//!  old cores --stage--> old cores + moving/ --record(n, mark)--> moving/ counts --take_over-->
//!                             | crash: discard                     | crash: take_over again
//!  new cores --record(n, no mark)--> new cores
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flumen_protocol::ids::CoreId;

use super::directory::{failed, path_of, sync_folder};
use crate::error::StorageError;
use crate::op::FileName;

/// Writes the manifests of the new cores, by core, and makes them durable.
///
/// # Errors
/// [`StorageError::NoSpace`], [`StorageError::DeviceFailed`]; the old layout still counts.
pub fn stage(root: &Path, manifests: &[Bytes]) -> Result<(), StorageError> {
    discard(root)?;
    let staged = || -> io::Result<()> {
        let folder = folder_of(root);
        for (core, manifest) in (0..).map(CoreId).zip(manifests) {
            fs::create_dir_all(path_of(&folder, core, FileName::CoreFolder))?;
            let mut file = File::create_new(path_of(&folder, core, FileName::Manifest))?;
            file.write_all(manifest)?;
            file.sync_all()?;
            sync_folder(&path_of(&folder, core, FileName::CoreFolder))?;
        }
        sync_folder(&folder)?;
        sync_folder(root)
    };
    staged().map_err(|error| failed(&error, FileName::Manifest, "stage"))
}

/// Removes what a change left behind that never came to count. Does nothing without one.
///
/// # Errors
/// [`StorageError::DeviceFailed`].
pub fn discard(root: &Path) -> Result<(), StorageError> {
    let steps = [Step::RemoveTree(folder_of(root)), Step::Sync(root.to_owned())];
    let discarded = steps.iter().try_for_each(Step::carry_out);
    discarded.map_err(|error| failed(&error, FileName::CoreFolder, "discard"))
}

/// Puts the staged manifests in the place of what the old cores had. The node record that says so
/// must be durable; until the caller writes the next one, this may be repeated.
///
/// # Errors
/// [`StorageError::NoSpace`], [`StorageError::DeviceFailed`]: the change is to be finished by the
/// next start.
pub fn take_over(root: &Path, core_count: u16) -> Result<(), StorageError> {
    let taken = steps(root, core_count).and_then(|all| all.iter().try_for_each(Step::carry_out));
    taken.map_err(|error| failed(&error, FileName::CoreFolder, "take over"))
}

/// Whether a change is staged, or was and is not cleaned up.
#[must_use]
pub fn is_staged(root: &Path) -> bool {
    folder_of(root).exists()
}

fn folder_of(root: &Path) -> PathBuf {
    root.join("moving")
}

/// One file operation. Each may be repeated.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    MakeFolder(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    /// The folder goes unless something is in it that is not ours or is evidence.
    RemoveFolder(PathBuf),
    RemoveTree(PathBuf),
    Sync(PathBuf),
}

impl Step {
    fn carry_out(&self) -> io::Result<()> {
        let done = match self {
            Self::MakeFolder(path) => return fs::create_dir_all(path),
            Self::Remove(path) => fs::remove_file(path),
            Self::Rename(from, to) => return fs::rename(from, to),
            Self::RemoveFolder(path) => fs::remove_dir(path),
            Self::RemoveTree(path) => fs::remove_dir_all(path),
            Self::Sync(path) => return sync_folder(path),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done,
        }
    }
}

/// What is still to be done, in order, as the folder is now.
fn steps(root: &Path, core_count: u16) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for core in (0..core_count).map(CoreId) {
        let from = path_of(&folder_of(root), core, FileName::Manifest);
        if !from.try_exists()? {
            // Taken over before a crash: its journal and manifest are the new ones.
            continue;
        }
        let folder = path_of(root, core, FileName::CoreFolder);
        steps.extend([Step::MakeFolder(folder.clone()), Step::Sync(root.to_owned())]);
        // The journal goes first: beside the new manifest its frames would be taken for the
        // newest entries of logs that another core has by then.
        steps.extend(own_files(&folder, false)?.into_iter().map(Step::Remove));
        let to = path_of(root, core, FileName::Manifest);
        steps.extend([Step::Sync(folder.clone()), Step::Rename(from, to), Step::Sync(folder)]);
    }
    for folder in folders_from(root, core_count)? {
        steps.extend(own_files(&folder, true)?.into_iter().map(Step::Remove));
        steps.extend([Step::Sync(folder.clone()), Step::RemoveFolder(folder)]);
    }
    // The record must never say that all is done while what was staged may come back.
    steps.extend([Step::RemoveTree(folder_of(root)), Step::Sync(root.to_owned())]);
    Ok(steps)
}

/// The files a core's journal consists of, its ballast, and its manifest if that is wanted. Quarantined bytes
/// and strange names are not among them.
fn own_files(folder: &Path, with_manifest: bool) -> io::Result<Vec<PathBuf>> {
    let is_own = |name: &str| match name {
        "watermark" | "watermark.new" | "manifest.new" | "ballast" => true,
        "manifest" => with_manifest,
        _ => name.starts_with("journal-"),
    };
    let mut found = names(folder)?;
    found.retain(|name| is_own(name));
    Ok(found.into_iter().map(|name| folder.join(name)).collect())
}

/// The folders of cores that are no more.
fn folders_from(root: &Path, core_count: u16) -> io::Result<Vec<PathBuf>> {
    let number = |name: &str| name.strip_prefix("core-")?.parse::<u16>().ok();
    let mut found = names(root)?;
    found.retain(|name| number(name).is_some_and(|core| core >= core_count));
    Ok(found.into_iter().map(|name| root.join(name)).collect())
}

/// The names in a folder, in order, so that a crash after so many steps means the same each time.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A folder of its own below the system's, gone at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("flumen-moving-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).expect("a scratch folder");
            Self(root)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder is made");
            fs::write(path, text).expect("a file is written");
        }

        fn old_layout(&self, cores: u16) {
            for core in 0..cores {
                for name in ["journal-00000.log", "journal-00001.log", "watermark", "manifest"] {
                    self.put(&format!("core-{core}/{name}"), "old");
                }
            }
            self.put("core-0/manifest.new", "unfinished");
            self.put("core-1/quarantine-00000000000000000007-0000beef", "evidence");
            self.put("core-1/notes.txt", "an operator's");
            self.put("partitions/p-0/00000000000000000000.log", "records");
        }

        fn files(&self) -> BTreeMap<String, String> {
            let mut found = BTreeMap::new();
            let mut folders = vec![self.0.clone()];
            while let Some(folder) = folders.pop() {
                for name in names(&folder).expect("a folder is listed") {
                    let path = folder.join(name);
                    if path.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    let name = path.strip_prefix(&self.0).expect("below").display().to_string();
                    found.insert(name, fs::read_to_string(path).expect("a file is read"));
                }
            }
            found
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn manifests(count: u16) -> Vec<Bytes> {
        (0..count).map(|core| Bytes::from(format!("new {core}"))).collect()
    }

    fn expected(count: u16) -> BTreeMap<String, String> {
        let new = (0..count).map(|core| (format!("core-{core}/manifest"), format!("new {core}")));
        let kept = [
            ("core-1/quarantine-00000000000000000007-0000beef", "evidence"),
            ("core-1/notes.txt", "an operator's"),
            ("partitions/p-0/00000000000000000000.log", "records"),
        ];
        let kept = kept.map(|(name, text)| (name.to_owned(), text.to_owned()));
        new.chain(kept).collect()
    }

    #[test]
    fn a_crash_after_any_step_is_finished_by_the_next_start() {
        for (old, new) in [(2, 1), (2, 3), (3, 2)] {
            let scratch = Scratch::new(&format!("steps-{old}-{new}"));
            for crash_after in 0.. {
                fs::remove_dir_all(&scratch.0).expect("an empty scratch folder");
                scratch.old_layout(old);
                stage(&scratch.0, &manifests(new)).expect("staged");
                let steps = steps(&scratch.0, new).expect("a plan");
                for step in steps.iter().take(crash_after) {
                    step.carry_out().expect("a step");
                }
                take_over(&scratch.0, new).expect("taken over");
                assert_eq!(scratch.files(), expected(new), "{old} to {new}, {crash_after} steps");
                assert!(!is_staged(&scratch.0));
                if crash_after == steps.len() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_never_came_to_count_is_discarded_and_the_old_layout_untouched() {
        let scratch = Scratch::new("discard");
        scratch.old_layout(2);
        let before = scratch.files();
        stage(&scratch.0, &manifests(3)).expect("staged");
        assert!(is_staged(&scratch.0));
        assert_eq!(scratch.files().len(), before.len() + 3);
        stage(&scratch.0, &manifests(1)).expect("another change, staged over it");
        assert_eq!(scratch.files().len(), before.len() + 1);
        discard(&scratch.0).expect("discarded");
        discard(&scratch.0).expect("nothing to discard");
        assert_eq!(scratch.files(), before);
    }

    #[test]
    fn an_emptied_core_loses_its_folder() {
        let scratch = Scratch::new("emptied");
        scratch.put("core-0/manifest", "old");
        scratch.put("core-1/manifest", "old");
        stage(&scratch.0, &manifests(1)).expect("staged");
        take_over(&scratch.0, 1).expect("taken over");
        assert!(!scratch.0.join("core-1").exists());
    }
}

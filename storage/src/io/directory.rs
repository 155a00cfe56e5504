//! Paths, folders and the lock: where the files of a node lie.
//!
//! Does: map every [`FileName`] to its path and back, create folders durably, refuse a second
//! process.
//! Does not: read or write files; blocking calls here are short and happen at start, or on the
//! driver's blocking thread.
//! Invariants: a folder entry is durable when a function here returns; names that are not ours are
//! never touched.
//! Apart because the layout of the data folder is promised to operators (FORMAT.md).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use flumen_protocol::ids::{CoreId, LogId, Offset};

use crate::error::{DiskError, DiskErrorKind, StorageError};
use crate::limits::BLOCK_BYTES;
use crate::op::{FileName, Generation, Listed, Quarantined};

/// Where a file of this core lies.
#[must_use]
pub fn path_of(root: &Path, core: CoreId, name: FileName) -> PathBuf {
    let of_core = root.join(format!("core-{core}"));
    match name {
        FileName::Node => root.join("node.flumen"),
        FileName::Watermark => of_core.join("watermark"),
        FileName::Journal(slot) => of_core.join(format!("journal-{slot:05}.log")),
        FileName::Manifest => of_core.join("manifest"),
        FileName::Ballast => of_core.join("ballast"),
        FileName::Quarantine(name) => of_core.join(name.to_string()),
        FileName::CoreFolder => of_core,
        FileName::PartitionsFolder => root.join("partitions"),
        FileName::LogFolder(log) => of_log(root, log),
        FileName::Segment { log, base, generation } => {
            of_log(root, log).join(format!("{:020}{generation}.log", base.0))
        }
        FileName::Index { log, base, generation } => {
            of_log(root, log).join(format!("{:020}{generation}.index", base.0))
        }
    }
}

fn of_log(root: &Path, log: LogId) -> PathBuf {
    root.join("partitions").join(log.to_string())
}

/// Creates the folders of a node with this many cores, durably. Repeating it changes nothing.
///
/// # Errors
/// [`StorageError::DeviceFailed`], [`StorageError::NoSpace`].
pub fn prepare_root(root: &Path, core_count: u16) -> Result<(), StorageError> {
    let made = || -> io::Result<()> {
        fs::create_dir_all(root)?;
        fs::create_dir_all(root.join("partitions"))?;
        for core in 0..core_count {
            fs::create_dir_all(path_of(root, CoreId(core), FileName::CoreFolder))?;
        }
        write_probe(&probe_path(root))?;
        sync_folder(root)?;
        root.parent().map_or(Ok(()), |parent| {
            // A relative root may have the empty path as its parent: the working folder.
            sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        })
    };
    made().map_err(|error| failed(&error, FileName::CoreFolder, "create"))
}

/// What a failure of the operating system means to the caller.
pub(crate) fn failed(error: &io::Error, file: FileName, action: &'static str) -> StorageError {
    let kind = kind_of(error);
    let error = DiskError { kind, file, action };
    match kind {
        DiskErrorKind::NoSpace => StorageError::NoSpace(error),
        DiskErrorKind::NotFound
        | DiskErrorKind::NoDescriptors
        | DiskErrorKind::TooLarge
        | DiskErrorKind::Denied
        | DiskErrorKind::Io(_) => StorageError::DeviceFailed(error),
    }
}

/// A file with contents that every driver opens first, see [`crate::io::driver`].
pub(crate) fn probe_path(root: &Path) -> PathBuf {
    root.join("probe")
}

fn write_probe(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == BLOCK_BYTES as u64) {
        return Ok(());
    }
    fs::write(path, [b'.'; BLOCK_BYTES])?;
    File::open(path)?.sync_all()
}

/// Holds a data folder for this process until dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Takes the data folder for this process.
///
/// # Errors
/// [`StorageError::InUse`] if another process has it; [`StorageError::DeviceFailed`] if the lock
/// file cannot be made.
pub fn lock(root: &Path) -> Result<FolderLock, StorageError> {
    let path = root.join("lock");
    let failed = |error: &io::Error| {
        let kind = kind_of(error);
        StorageError::DeviceFailed(DiskError { kind, file: FileName::Node, action: "lock" })
    };
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            Err(StorageError::InUse { path: root.display().to_string() })
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Lists what lies in a folder, in ascending order; names that are not ours are left out, a missing
/// folder holds nothing.
pub(crate) fn list(root: &Path, core: CoreId, folder: FileName) -> io::Result<Vec<Listed>> {
    let path = path_of(root, core, folder);
    let mut found = Vec::new();
    match folder {
        FileName::CoreFolder => read_folder(&path, core_file, &mut found)?,
        FileName::LogFolder(log) => {
            read_folder(&path, |name| log_file(log, name), &mut found)?;
        }
        FileName::PartitionsFolder => {
            for name in names(&path)? {
                let Some(log) = LogId::parse(&name) else { continue };
                read_folder(&path.join(name), |name| log_file(log, name), &mut found)?;
            }
        }
        FileName::Node
        | FileName::Watermark
        | FileName::Journal(_)
        | FileName::Manifest
        | FileName::Ballast
        | FileName::Segment { .. }
        | FileName::Index { .. }
        | FileName::Quarantine(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
    }
    found.sort_unstable();
    Ok(found)
}

fn read_folder(
    path: &Path,
    parse: impl Fn(&str) -> Option<FileName>,
    found: &mut Vec<Listed>,
) -> io::Result<()> {
    for name in names(path)? {
        if let Some(file) = parse(&name) {
            found.push(Listed { file, bytes: fs::metadata(path.join(name))?.len() });
        }
    }
    Ok(())
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn core_file(name: &str) -> Option<FileName> {
    let slot = name.strip_prefix("journal-").and_then(|rest| rest.strip_suffix(".log"));
    if let Some(slot) = slot {
        return slot.parse().ok().map(FileName::Journal);
    }
    let (sequence, checksum) = name.strip_prefix("quarantine-")?.split_once('-')?;
    let sequence = sequence.parse().ok()?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    Some(FileName::Quarantine(Quarantined { sequence, checksum }))
}

fn log_file(log: LogId, name: &str) -> Option<FileName> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (base, generation) = match stem.split_once('.') {
        Some((base, generation)) => (base, Generation(numbered(generation)?)),
        None => (stem, Generation::APPENDED),
    };
    let base = Offset(base.parse().ok().filter(|_| base.len() == 20)?);
    match extension {
        "log" => Some(FileName::Segment { log, base, generation }),
        "index" => Some(FileName::Index { log, base, generation }),
        _ => None,
    }
}

/// A number above zero as it is printed, so that every file has one name only.
fn numbered(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == text)
}

/// What kind of failure an operating system error is.
pub(crate) fn kind_of(error: &io::Error) -> DiskErrorKind {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskErrorKind::NoSpace,
        Some(libc::ENOENT) => DiskErrorKind::NotFound,
        Some(libc::EMFILE | libc::ENFILE) => DiskErrorKind::NoDescriptors,
        Some(libc::EFBIG) => DiskErrorKind::TooLarge,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => DiskErrorKind::Denied,
        Some(errno) => DiskErrorKind::Io(errno),
        None => DiskErrorKind::Io(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    fn log() -> LogId {
        let topic = TopicId([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xfd]);
        LogId { topic, partition: PartitionIndex(12) }
    }

    #[test]
    fn names_come_back_from_their_paths() {
        assert_eq!(LogId::parse(&log().to_string()), Some(log()));
        for name in ["x", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB-1", "ä", "lost+found"]
        {
            assert_eq!(LogId::parse(name), None, "{name}");
        }
        let root = Path::new("/r");
        let quarantined = Quarantined { sequence: 9, checksum: 0xa1 };
        for file in [FileName::Journal(7), FileName::Quarantine(quarantined)] {
            let path = path_of(root, CoreId(1), file);
            assert_eq!(core_file(path.file_name().unwrap().to_str().unwrap()), Some(file));
        }
        for generation in [Generation::APPENDED, Generation(1), Generation(u32::MAX)] {
            let file = FileName::Index { log: log(), base: Offset(77), generation };
            let path = path_of(root, CoreId(1), file);
            assert_eq!(log_file(log(), path.file_name().unwrap().to_str().unwrap()), Some(file));
        }
        for name in ["0.log", "00000000000000000077.0.log", "00000000000000000077.01.log"] {
            assert_eq!(log_file(log(), name), None, "{name}");
        }
    }
}

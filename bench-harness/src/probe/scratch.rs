//! The files that probes write, and their end.
//!
//! Does: make a folder of its own inside the user's, pre-write the file that is overwritten, open
//! files the way a probe needs, remove everything at the end.
//! Does not: touch anything it has not made; there is no removal of trees here.
//! Invariants: only two file names exist, both in a folder that was new; dropping the value removes
//! them, whether the run ended, failed or was interrupted. Only SIGKILL leaves the folder behind.
//! Apart because it is the only place of the room that creates or removes.
//!
//! The files have names although nameless ones would vanish by themselves: some file systems (btrfs
//! among them) skip the work of a sync for a file without a name, which is just what is measured.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;

use super::answer::Refused;
use super::watch::Watch;
use crate::limits;

const PREFIX: &str = "flumen-bench-limits";
const WORK: &str = "pre-written";
const GROWING: &str = "growing";

/// Folders of killed runs that are tolerated before the next run refuses to add another.
const LEFTOVERS_MAX: u32 = 100;

/// How a probe's file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache, and on stable media before a write returns.
    Durable,
    /// Past the page cache.
    Direct,
    /// Through the page cache.
    Cached,
}

impl Access {
    fn flags(self) -> OFlags {
        match self {
            Self::Durable => OFlags::DIRECT | OFlags::DSYNC,
            Self::Direct => OFlags::DIRECT,
            Self::Cached => OFlags::empty(),
        }
    }
}

/// A folder of our own with the files of the probes.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    /// Length of the pre-written file, a multiple of [`limits::PROBE_STREAM_BYTES`].
    written_bytes: u64,
}

impl Scratch {
    /// Makes the folder inside `parent`, empty as yet.
    pub fn make(parent: &Path) -> io::Result<Self> {
        let stem = format!("{PREFIX}.{}", std::process::id());
        for attempt in 0..LEFTOVERS_MAX {
            let folder = match attempt {
                0 => parent.join(&stem),
                again => parent.join(format!("{stem}.{again}")),
            };
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { folder, written_bytes: 0 }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("folders {stem}.* of killed runs are in the way")))
    }

    /// Fills the file that will be overwritten and read, as far as the watch allows and at least
    /// [`limits::PROBE_FILE_BYTES_MIN`], with bytes that no file system can compress or skip.
    pub fn pre_write(&mut self, bytes: u64, watch: &Watch) -> io::Result<()> {
        let noise = Blocks::noise(limits::PROBE_STREAM_BYTES);
        let file = File::create_new(self.folder.join(WORK))?;
        let step = limits::PROBE_FILE_BYTES_MIN;
        while self.written_bytes < bytes && (self.written_bytes < step || watch.goes_on()) {
            for _ in 0..step / noise.bytes().len() as u64 {
                file.write_all_at(noise.bytes(), self.written_bytes)?;
                self.written_bytes += noise.bytes().len() as u64;
            }
            file.sync_data()?;
        }
        file.sync_all()?;
        forget_cached(&file)
    }

    /// Length of the pre-written file, bytes.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Opens the pre-written file.
    pub fn written(&self, access: Access) -> Result<File, Refused> {
        open(&self.folder.join(WORK), access, OFlags::empty())
    }

    /// Opens the file that grows, empty.
    pub fn growing(&self, access: Access) -> Result<File, Refused> {
        open(&self.folder.join(GROWING), access, OFlags::CREATE | OFlags::TRUNC)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let files = [WORK, GROWING].map(|name| fs::remove_file(self.folder.join(name)));
        let failed = files.into_iter().filter_map(Result::err);
        let failed = failed.filter(|error| error.kind() != io::ErrorKind::NotFound).last();
        if let Some(error) = fs::remove_dir(&self.folder).err().or(failed) {
            let folder = self.folder.display();
            // Nobody may be listening, and a panic here would hide what went wrong first.
            let _ = writeln!(io::stderr(), "flumen-bench: {folder} could not be removed: {error}");
        }
    }
}

/// Writes what the page cache holds of a file and drops it, so that the next probe finds the disk.
pub fn forget_cached(file: &File) -> io::Result<()> {
    file.sync_data()?;
    Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

fn open(path: &Path, access: Access, more: OFlags) -> Result<File, Refused> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | access.flags() | more;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::INVAL | Errno::OPNOTSUPP) if access != Access::Cached => return Err(no_direct()),
        Err(error) => return Err(error.into()),
    };
    // Some file systems accept the flag and refuse the first transfer.
    let mut block = Blocks::noise(limits::PROBE_BLOCK_BYTES);
    match file.read_at(block.bytes_mut(), 0) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Err(no_direct()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(file),
    }
}

fn no_direct() -> Refused {
    Refused::Impossible("the file system refuses direct writes (O_DIRECT) of 4 KiB".to_owned())
}

/// Bytes whose address direct transfers accept: a longer vector and the aligned part of it, so
/// that no unsafe allocation is needed.
#[derive(Debug)]
pub struct Blocks {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Blocks {
    /// Filled with noise from a fixed seed.
    pub fn noise(length: usize) -> Self {
        let bytes = vec![0; length + limits::PROBE_BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(limits::PROBE_BLOCK_BYTES);
        let mut blocks = Self { bytes, start, length };
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in blocks.bytes_mut().chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        blocks
    }

    /// The aligned bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// The aligned bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::watch::Interrupt;
    use std::time::Duration;

    /// A folder of the test's own, with a file of somebody else in it.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("flumen-{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder is new");
        fs::write(folder.join("foreign"), "precious").expect("a file can be written");
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder can be listed");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn nothing_of_ours_is_left_and_nothing_foreign_is_touched() {
        let parent = folder("cleaning");
        let mut scratch = Scratch::make(&parent).expect("a folder can be made");
        let hasty = Watch::start(Duration::ZERO, &Interrupt::default());
        scratch.pre_write(limits::PROBE_FILE_BYTES, &hasty).expect("a file can be written");
        assert_eq!(scratch.written_bytes(), limits::PROBE_FILE_BYTES_MIN, "slow disks get less");
        scratch.growing(Access::Cached).expect("a file can be opened");
        assert_eq!(names(&parent).len(), 2);
        drop(scratch);
        assert_eq!(names(&parent), ["foreign"]);
        assert_eq!(fs::read(parent.join("foreign")).expect("still there"), b"precious");
        fs::remove_dir_all(&parent).expect("the test's own folder goes");
    }

    #[test]
    fn a_folder_of_a_killed_run_stays_as_it_is() {
        let parent = folder("leftover");
        let killed = parent.join(format!("{PREFIX}.{}", std::process::id()));
        fs::create_dir(&killed).expect("a folder can be made");
        fs::write(killed.join(WORK), "old").expect("a file can be written");
        drop(Scratch::make(&parent).expect("another name is found"));
        assert_eq!(fs::read(killed.join(WORK)).expect("still there"), b"old");
        assert_eq!(names(&parent).len(), 2);
        fs::remove_dir_all(&parent).expect("the test's own folder goes");
    }

    #[test]
    fn a_failed_pre_write_is_cleaned_up_too() {
        let parent = folder("failing");
        let mut scratch = Scratch::make(&parent).expect("a folder can be made");
        let watch = Watch::start(Duration::ZERO, &Interrupt::default());
        scratch.pre_write(1, &watch).expect("a file can be written");
        assert!(scratch.pre_write(1, &watch).is_err(), "the file is there already");
        drop(scratch);
        assert_eq!(names(&parent), ["foreign"]);
        fs::remove_dir_all(&parent).expect("the test's own folder goes");
    }

    #[test]
    fn blocks_are_aligned_and_do_not_compress() {
        for length in [limits::PROBE_BLOCK_BYTES, limits::PROBE_STREAM_BYTES] {
            let blocks = Blocks::noise(length);
            assert_eq!(blocks.bytes().len(), length);
            assert_eq!(blocks.bytes().as_ptr().align_offset(limits::PROBE_BLOCK_BYTES), 0);
            let zeros = blocks.bytes().iter().filter(|byte| **byte == 0).count();
            assert!(zeros < length / 64, "{zeros} of {length} bytes are 0");
        }
    }
}

//! Carries out disk operations with glommio: all of a running broker but most commits of the
//! journal, which go through the core's own ring (`ring.rs`) once their file is open here.
//!
//! Does: open and keep handles, gather the parts of a write into one aligned buffer (the one copy
//! on the way to the disk), turn every failure into a [`DiskError`].
//! Does not: decide, order or retry; operations under way together finish in any order.
//! Invariants: a write is answered only when all of it was written; a failed write or flush is
//! answered as failed and never repeated here; at most [`OPEN_FILES_MAX`] handles besides those of
//! journal files.
//! Apart because it is the rim: short, and covered by tests on a real file system.
//!
//! glommio has no calls for renaming, listing, locking or for flushing folders; those go to std on
//! glommio's blocking thread. They are rare (start, roll, retention), never on the append path.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use flumen_protocol::ids::CoreId;
use glommio::io::{CloseResult, DmaBuffer, DmaFile, OpenOptions};
use glommio::timer::sleep;
use glommio::{GlommioError, allocate_dma_buffer, executor};

use crate::error::{DiskError, DiskErrorKind};
use crate::io::directory::{kind_of, list, path_of, probe_path, sync_folder};
use crate::io::ring::Append;
use crate::limits::{
    OPEN_FILES_MAX, OPEN_OR_REMOVE_RECHECK, PREPARE_WRITE_BYTES, READ_BYTES_MAX,
    SMALL_FILE_BYTES_MAX,
};
use crate::op::{Action, DiskDone, DiskOp, FileName, Output};

/// How a handle was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Every write is durable when it returns (`O_DSYNC`).
    Durable,
    /// Writes are durable after a flush.
    Plain,
}

/// An open file and when it was last used.
struct Handle {
    file: Rc<DmaFile>,
    used: u64,
}

/// Carries out the operations of one core. Lives on that core's executor.
pub struct Driver {
    root: PathBuf,
    core: CoreId,
    handles: RefCell<BTreeMap<(FileName, Mode), Handle>>,
    /// Files created here whose folder entry is not flushed yet.
    unlinked: RefCell<BTreeSet<FileName>>,
    /// Files being opened, each as often as it is.
    opening: RefCell<Vec<FileName>>,
    /// Files being removed. Invariant: none of them is opened meanwhile.
    removing: RefCell<BTreeSet<FileName>>,
    clock: Cell<u64>,
    has_probed: Cell<bool>,
    has_warned: Cell<bool>,
}

type Outcome<T> = Result<T, DiskErrorKind>;

impl Driver {
    /// A driver for the files of this core below `root`. The folders must exist, see
    /// [`crate::io::directory::prepare_root`].
    #[must_use]
    pub fn new(root: PathBuf, core: CoreId) -> Self {
        Self {
            root,
            core,
            handles: RefCell::default(),
            unlinked: RefCell::default(),
            opening: RefCell::default(),
            removing: RefCell::default(),
            clock: Cell::new(0),
            has_probed: Cell::new(false),
            has_warned: Cell::new(false),
        }
    }

    /// The buffer of a commit of the journal, for [`super::ring::Ring::write`]: the hot path, with
    /// no task and no turn of the executor. Nothing when this is another operation, or when its
    /// file is not open yet: then [`Driver::carry_out`] does it.
    #[must_use]
    pub fn append(&self, op: &DiskOp) -> Option<Append> {
        let (FileName::Journal(_), Action::WriteDurable { at, parts, padded_len }) =
            (op.file, &op.action)
        else {
            return None;
        };
        let file = self.opened(op.file, Mode::Durable)?;
        Some(Append { file, at: *at, buffer: gather(parts, *padded_len as usize) })
    }

    /// Carries out one operation.
    pub async fn carry_out(&self, op: DiskOp) -> DiskDone {
        let DiskOp { id, file, action } = op;
        let name = action.name();
        let result = self.act(file, action).await;
        DiskDone { id, result: result.map_err(|kind| DiskError { kind, file, action: name }) }
    }

    async fn act(&self, name: FileName, action: Action) -> Outcome<Output> {
        match action {
            Action::Prepare { bytes } => self.prepare(name, bytes).await?,
            Action::WriteDurable { at, parts, padded_len } => {
                let file = self.open(name, Mode::Durable, false).await?;
                write(&file, at, gather(&parts, padded_len as usize)).await?;
            }
            Action::Write { at, parts, padded_len } => {
                let file = self.open(name, Mode::Plain, true).await?;
                write(&file, at, gather(&parts, padded_len as usize)).await?;
            }
            Action::Flush => self.flush(name).await?,
            Action::Read { at, len } => {
                let file = self.open(name, Mode::Plain, false).await?;
                return read(&file, at, len as usize).await.map(Output::Bytes);
            }
            Action::ReadAll => {
                let path = self.path(name);
                let bytes = blocking(move || read_small(&path)).await?;
                return Ok(Output::Bytes(bytes.into()));
            }
            Action::Replace { parts } => {
                let path = self.path(name);
                self.close_handles_of(name).await;
                blocking(move || replace(&path, &parts)).await?;
            }
            Action::Truncate { len } => self.truncate(name, len).await?,
            Action::Delete => self.delete(name).await?,
            Action::List => {
                let (root, core) = (self.root.clone(), self.core);
                return blocking(move || list(&root, core, name)).await.map(Output::Listing);
            }
            Action::Size => {
                let path = self.path(name);
                return blocking(move || size(&path)).await.map(Output::Size);
            }
        }
        Ok(Output::Done)
    }

    fn path(&self, name: FileName) -> PathBuf {
        path_of(&self.root, self.core, name)
    }

    /// Allocates first, so that want of room shows before anything is promised (F16); then writes
    /// every block, so that later writes change no metadata (F2, F3). Each piece is durable before
    /// the next: one flush of a whole file at the end (F4) held up the commits of the journal in
    /// use for 80 to 110 ms, measured at 1,000 requests per second on a device with a write cache.
    async fn prepare(&self, name: FileName, bytes: u64) -> Outcome<()> {
        let file = self.open(name, Mode::Durable, true).await?;
        // Emptied first: cut short, it must not look like a file that was wholly written because
        // frames of a file of another size are left in a part of it.
        file.truncate(0).await.map_err(|error| kind(&error))?;
        file.truncate(bytes).await.map_err(|error| kind(&error))?;
        match file.pre_allocate(bytes, false).await.map_err(|error| kind(&error)) {
            Ok(()) | Err(DiskErrorKind::Io(libc::EOPNOTSUPP | libc::ENOSYS)) => {}
            Err(failed) => {
                // On a full disk a part of it was allocated, which others may need more.
                file.truncate(0).await.map_err(|error| kind(&error))?;
                return Err(failed);
            }
        }
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(PREPARE_WRITE_BYTES as u64);
            write(&file, at, gather(&[], len as usize)).await?;
            at += len;
        }
        drop(file);
        self.flush(name).await
    }

    async fn flush(&self, name: FileName) -> Outcome<()> {
        let file = self.open(name, Mode::Plain, false).await?;
        file.fdatasync().await.map_err(|error| kind(&error))?;
        if self.unlinked.borrow().contains(&name) {
            let path = self.path(name);
            blocking(move || sync_parents(&path)).await?;
            self.unlinked.borrow_mut().remove(&name);
        }
        Ok(())
    }

    async fn truncate(&self, name: FileName, len: u64) -> Outcome<()> {
        let file = self.open(name, Mode::Plain, false).await?;
        file.truncate(len).await.map_err(|error| kind(&error))?;
        file.fdatasync().await.map_err(|error| kind(&error))
    }

    /// Removes a file while nobody opens it. glommio asks for the file system of a path it has just
    /// opened and panics if there is nothing any more (0.9, `DmaFile::open_at`); and a handle opened
    /// late would keep the room of the file, and be read in place of a new one of that name.
    async fn delete(&self, name: FileName) -> Outcome<()> {
        self.removing.borrow_mut().insert(name);
        while self.opening.borrow().contains(&name) {
            sleep(OPEN_OR_REMOVE_RECHECK).await;
        }
        let removed = self.remove(name).await;
        self.removing.borrow_mut().remove(&name);
        removed
    }

    async fn remove(&self, name: FileName) -> Outcome<()> {
        self.close_handles_of(name).await;
        self.unlinked.borrow_mut().remove(&name);
        let path = self.path(name);
        let is_folder = match name {
            FileName::LogFolder(_) | FileName::CoreFolder | FileName::PartitionsFolder => true,
            FileName::Node
            | FileName::Watermark
            | FileName::Journal(_)
            | FileName::Manifest
            | FileName::Ballast
            | FileName::Segment { .. }
            | FileName::Index { .. }
            | FileName::Quarantine(_) => false,
        };
        blocking(move || {
            let removed = if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) };
            match removed {
                // An earlier try may have removed it and then failed to make that durable.
                Err(error) if error.kind() == io::ErrorKind::NotFound => match sync_parent(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    synced => synced,
                },
                removed => removed.and_then(|()| sync_parent(&path)),
            }
        })
        .await
    }

    /// The handle of a file, opened if need be.
    async fn open(&self, name: FileName, mode: Mode, may_create: bool) -> Outcome<Rc<DmaFile>> {
        if let Some(file) = self.opened(name, mode) {
            return Ok(file);
        }
        self.probe().await?;
        while self.removing.borrow().contains(&name) {
            sleep(OPEN_OR_REMOVE_RECHECK).await;
        }
        self.opening.borrow_mut().push(name);
        let opened = self.open_anew(name, mode, may_create).await;
        {
            let mut opening = self.opening.borrow_mut();
            let place = opening.iter().position(|other| *other == name).expect("noted before");
            opening.swap_remove(place);
        }
        let opened = opened?;
        // Somebody else may have opened it meanwhile: theirs stays.
        if let Some(file) = self.opened(name, mode) {
            close(Rc::new(opened)).await;
            return Ok(file);
        }
        self.warn_unless_direct(&opened);
        let file = Rc::new(opened);
        let handle = Handle { file: Rc::clone(&file), used: self.tick() };
        self.handles.borrow_mut().insert((name, mode), handle);
        self.close_idle().await;
        Ok(file)
    }

    async fn open_anew(&self, name: FileName, mode: Mode, may_create: bool) -> Outcome<DmaFile> {
        let path = self.path(name);
        match open_file(&path, mode, false).await {
            Err(DiskErrorKind::NotFound) if may_create => {
                self.unlinked.borrow_mut().insert(name);
                let folder = path.clone();
                blocking(move || make_parent(&folder)).await?;
                open_file(&path, mode, true).await
            }
            opened => opened,
        }
    }

    /// Opens a file with contents before any other. glommio finds out once per device and process
    /// whether it can be polled, by reading the first file it opens there; if that one is empty
    /// the read succeeds without touching the device, and afterwards every real read fails with
    /// `EOPNOTSUPP` on a device that cannot be polled (glommio 0.9, `probe_iopoll_support`).
    async fn probe(&self) -> Outcome<()> {
        if !self.has_probed.get() {
            let file = open_file(&probe_path(&self.root), Mode::Plain, false).await?;
            close(Rc::new(file)).await;
            self.has_probed.set(true);
        }
        Ok(())
    }

    fn opened(&self, name: FileName, mode: Mode) -> Option<Rc<DmaFile>> {
        let mut handles = self.handles.borrow_mut();
        let handle = handles.get_mut(&(name, mode))?;
        handle.used = self.tick();
        Some(Rc::clone(&handle.file))
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// Closes the handle unused for longest, as long as there are too many; those in use stay.
    async fn close_idle(&self) {
        loop {
            let idle = {
                let mut handles = self.handles.borrow_mut();
                let counted = handles.keys().filter(|key| !is_kept(key)).count();
                if counted <= OPEN_FILES_MAX {
                    return;
                }
                let free = handles
                    .iter()
                    .filter(|(key, handle)| !is_kept(key) && Rc::strong_count(&handle.file) == 1);
                let oldest = free.min_by_key(|(_, handle)| handle.used).map(|(key, _)| *key);
                oldest.and_then(|key| handles.remove(&key))
            };
            let Some(idle) = idle else { return };
            close(idle.file).await;
        }
    }

    async fn close_handles_of(&self, name: FileName) {
        for mode in [Mode::Durable, Mode::Plain] {
            let handle = self.handles.borrow_mut().remove(&(name, mode));
            if let Some(handle) = handle {
                close(handle.file).await;
            }
        }
    }

    /// Closes every handle; to be called before the executor ends.
    pub async fn close(&self) {
        let handles = std::mem::take(&mut *self.handles.borrow_mut());
        for handle in handles.into_values() {
            close(handle.file).await;
        }
    }

    /// Memory file systems refuse direct I/O; glommio then goes through the page cache. That works
    /// and is worth a warning: nothing there survives a power cut.
    fn warn_unless_direct(&self, file: &DmaFile) {
        if self.has_warned.replace(true) || is_direct(file).unwrap_or(true) {
            return;
        }
        tracing::warn!(
            root = %self.root.display(),
            "this file system refuses direct I/O: data goes through the page cache"
        );
    }
}

/// Handles for appending to the journal stay open.
fn is_kept(key: &(FileName, Mode)) -> bool {
    matches!(key, (FileName::Journal(_), Mode::Durable))
}

/// Whether the kernel took the file for direct I/O, read from its own word on the descriptor.
fn is_direct(file: &DmaFile) -> Option<bool> {
    use std::os::fd::AsRawFd;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_DIRECT != 0)
}

async fn open_file(path: &Path, mode: Mode, create: bool) -> Outcome<DmaFile> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).mode(0o640);
    match mode {
        Mode::Durable => options.custom_flags(libc::O_DSYNC),
        Mode::Plain => &mut options,
    };
    options.dma_open(path).await.map_err(|error| kind(&error))
}

async fn close(file: Rc<DmaFile>) {
    match file.close_rc().await {
        Ok(CloseResult::Closed | CloseResult::Unreferenced) => {}
        // All that mattered was written or flushed, and answered, before.
        Err(error) => tracing::warn!(%error, "closing a file failed"),
    }
}

/// One aligned buffer with all parts and zeros behind them.
fn gather(parts: &[Bytes], padded_len: usize) -> DmaBuffer {
    let mut buffer = allocate_dma_buffer(padded_len);
    let mut rest = buffer.as_bytes_mut();
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    rest.fill(0);
    buffer
}

/// Writes all of the buffer. A short write is not a failure yet: the rest is written behind it.
async fn write(file: &DmaFile, at: u64, buffer: DmaBuffer) -> Outcome<()> {
    let buffer = Rc::new(buffer);
    let len = buffer.len();
    let mut done = file.write_rc_at(Rc::clone(&buffer), at).await.map_err(|error| kind(&error))?;
    while done < len {
        if done == 0 || !(done as u64).is_multiple_of(file.alignment()) {
            return Err(DiskErrorKind::Io(libc::EIO));
        }
        let mut rest = allocate_dma_buffer(len - done);
        rest.as_bytes_mut().copy_from_slice(&buffer.as_bytes()[done..]);
        let more = file.write_at(rest, at + done as u64).await.map_err(|error| kind(&error))?;
        if more == 0 {
            return Err(DiskErrorKind::Io(libc::EIO));
        }
        done += more;
    }
    Ok(())
}

/// Reads up to `len` bytes in bounded requests; shorter only at the end of the file.
async fn read(file: &DmaFile, at: u64, len: usize) -> Outcome<Bytes> {
    let mut out = BytesMut::with_capacity(len);
    while out.len() < len {
        let wanted = (len - out.len()).min(READ_BYTES_MAX);
        let place = at + out.len() as u64;
        let got = file.read_at_aligned(place, wanted).await.map_err(|error| kind(&error))?;
        out.extend_from_slice(&got);
        if got.len() < wanted {
            break;
        }
    }
    Ok(out.freeze())
}

/// Runs a call that may block on glommio's thread for such calls.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Outcome<T> {
    executor().spawn_blocking(call).await.map_err(|error| kind_of(&error))
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    fs::read(path)
}

fn replace(path: &Path, parts: &[Bytes]) -> io::Result<()> {
    make_parent(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = write_whole(Path::new(&beside), parts);
    if written.is_err() {
        // What there is of it must not keep room from others on a full disk. If it stays all the
        // same, the next try writes over it.
        let _ = fs::remove_file(&beside);
    }
    written?;
    fs::rename(&beside, path)?;
    sync_parents(path)
}

fn write_whole(path: &Path, parts: &[Bytes]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn size(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(|found| Some(found.len())),
    }
}

/// Creates the folder a file is to lie in. It is durable with the file, see [`sync_parents`]: a
/// flush of its own would be a commit of the file system for nothing.
fn make_parent(path: &Path) -> io::Result<()> {
    fs::create_dir_all(parent(path)?)
}

/// Makes the entry of a new file durable, and that of its folder, which may be new as well.
fn sync_parents(path: &Path) -> io::Result<()> {
    sync_parent(path)?;
    sync_parent(parent(path)?)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(parent(path)?)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn kind<T>(error: &GlommioError<T>) -> DiskErrorKind {
    kind_of(&io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LogId, Offset, PartitionIndex, TopicId};
    use glommio::LocalExecutor;

    use super::*;
    use crate::io::directory::{lock, prepare_root};
    use crate::op::Generation;
    use crate::op::{Listed, OpId};

    const LOG: LogId = LogId { topic: TopicId([4; 16]), partition: PartitionIndex(0) };
    const SEGMENT: FileName =
        FileName::Segment { log: LOG, base: Offset(0), generation: Generation::APPENDED };

    /// An empty data folder, removed afterwards, and a driver on it.
    fn on_disk<F: Future<Output = ()>>(name: &str, story: impl FnOnce(Rc<Driver>, PathBuf) -> F) {
        let root = std::env::temp_dir().join(format!("flumen-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        prepare_root(&root, 1).unwrap();
        let driver = Rc::new(Driver::new(root.clone(), CoreId(0)));
        LocalExecutor::default().run(async {
            story(Rc::clone(&driver), root.clone()).await;
            driver.close().await;
        });
        fs::remove_dir_all(&root).unwrap();
    }

    async fn done(driver: &Driver, file: FileName, action: Action) -> Output {
        driver.carry_out(DiskOp { id: OpId(1), file, action }).await.result.unwrap()
    }

    async fn kind_of_failure(driver: &Driver, file: FileName, action: Action) -> DiskErrorKind {
        driver.carry_out(DiskOp { id: OpId(1), file, action }).await.result.unwrap_err().kind
    }

    #[test]
    fn what_is_written_durably_is_read_back_padded() {
        on_disk("durable", |driver, _| async move {
            let file = FileName::Journal(3);
            done(&driver, file, Action::Prepare { bytes: 3 << 20 }).await;
            assert_eq!(done(&driver, file, Action::Size).await, Output::Size(Some(3 << 20)));
            let parts = vec![Bytes::from_static(b"head"), vec![7; 5000].into()];
            let write = Action::WriteDurable { at: 4096, parts, padded_len: 8192 };
            done(&driver, file, write).await;
            let read = Action::Read { at: 0, len: 4 << 20 };
            let Output::Bytes(bytes) = done(&driver, file, read).await else { panic!("bytes") };
            assert_eq!(bytes.len(), 3 << 20);
            assert_eq!((&bytes[4096..4100], bytes[9099], bytes[9100]), (&b"head"[..], 7, 0));
            assert!(bytes[..4096].iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn a_segment_is_written_flushed_cut_listed_and_deleted() {
        on_disk("segment", |driver, root| async move {
            let parts = vec![Bytes::from(vec![1; 4096])];
            done(&driver, SEGMENT, Action::Write { at: 0, parts, padded_len: 4096 }).await;
            done(&driver, SEGMENT, Action::Flush).await;
            done(&driver, SEGMENT, Action::Truncate { len: 1000 }).await;
            let listed = Output::Listing(vec![Listed { file: SEGMENT, bytes: 1000 }]);
            assert_eq!(done(&driver, FileName::PartitionsFolder, Action::List).await, listed);
            assert_eq!(done(&driver, FileName::LogFolder(LOG), Action::List).await, listed);
            let read = Action::Read { at: 0, len: 4096 };
            let bytes = Output::Bytes(vec![1; 1000].into());
            assert_eq!(done(&driver, SEGMENT, read).await, bytes);
            done(&driver, SEGMENT, Action::Delete).await;
            done(&driver, SEGMENT, Action::Delete).await;
            done(&driver, FileName::LogFolder(LOG), Action::Delete).await;
            assert!(!root.join("partitions").join(LOG.to_string()).exists());
        });
    }

    #[test]
    fn a_small_file_is_replaced_whole_with_its_exact_length() {
        on_disk("replace", |driver, _| async move {
            for text in ["a longer manifest", "short"] {
                let parts = vec![Bytes::from_static(text.as_bytes())];
                done(&driver, FileName::Manifest, Action::Replace { parts }).await;
                let bytes = Output::Bytes(text.into());
                assert_eq!(done(&driver, FileName::Manifest, Action::ReadAll).await, bytes);
            }
        });
    }

    #[test]
    fn failures_have_their_kind() {
        on_disk("failures", |driver, _| async move {
            let read = Action::Read { at: 0, len: 4096 };
            assert_eq!(kind_of_failure(&driver, SEGMENT, read).await, DiskErrorKind::NotFound);
            let missing = kind_of_failure(&driver, FileName::Node, Action::ReadAll).await;
            assert_eq!(missing, DiskErrorKind::NotFound);
            assert_eq!(done(&driver, FileName::Node, Action::Size).await, Output::Size(None));
            let too_much = Action::Prepare { bytes: 1 << 50 };
            let refused = kind_of_failure(&driver, FileName::Journal(0), too_much).await;
            assert!(
                matches!(refused, DiskErrorKind::NoSpace | DiskErrorKind::TooLarge),
                "{refused:?}"
            );
        });
    }

    #[test]
    fn idle_handles_are_closed_and_files_work_on() {
        on_disk("handles", |driver, _| async move {
            for base in 0..OPEN_FILES_MAX as i64 + 10 {
                let file = FileName::Segment {
                    log: LOG,
                    base: Offset(base),
                    generation: Generation::APPENDED,
                };
                let parts = vec![Bytes::from(vec![base as u8; 10])];
                done(&driver, file, Action::Write { at: 0, parts, padded_len: 4096 }).await;
            }
            assert_eq!(driver.handles.borrow().len(), OPEN_FILES_MAX);
            done(&driver, SEGMENT, Action::Flush).await;
            assert!(!driver.unlinked.borrow().contains(&SEGMENT));
        });
    }

    #[test]
    fn a_file_is_not_opened_while_it_is_removed() {
        on_disk("removed", |driver, _| async move {
            for turns in 0..200 {
                let parts = vec![Bytes::from(vec![1; 10])];
                done(&driver, SEGMENT, Action::Write { at: 0, parts, padded_len: 4096 }).await;
                let reader = Rc::clone(&driver);
                let read = Action::Read { at: 0, len: 4096 };
                let read = DiskOp { id: OpId(2), file: SEGMENT, action: read };
                let read = glommio::spawn_local(async move {
                    for _ in 0..turns % 20 {
                        executor().yield_task_queue_now().await;
                    }
                    reader.carry_out(read).await
                });
                done(&driver, SEGMENT, Action::Delete).await;
                let _either_way = read.await;
                assert!(driver.handles.borrow().is_empty(), "what is gone keeps its room");
            }
        });
    }

    #[test]
    fn a_second_process_is_refused() {
        let root = std::env::temp_dir().join(format!("flumen-{}-lock", std::process::id()));
        prepare_root(&root, 1).unwrap();
        let held = lock(&root).unwrap();
        assert!(lock(&root).unwrap_err().to_string().contains("in use by another process"));
        drop(held);
        assert!(lock(&root).is_ok());
        fs::remove_dir_all(&root).unwrap();
    }
}

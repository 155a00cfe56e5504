//! A disk in memory that forgets what a real one may forget.
//!
//! Does: carry out operations one by one in any order, lie as disks lie (lost, misdirected, torn
//! writes, flipped bits, errors, no room), and turn into what a power cut leaves.
//! Does not: know time; latency is the caller's choice of when to call [`SimDisk::step`].
//! Invariants: what was answered as durable survives [`SimDisk::crash`] unless a fault was asked
//! for; the same seed and calls give the same disk.
//! Apart because a durability claim that was never attacked is a hope (feature `sim`).

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;

use crate::error::{DiskError, DiskErrorKind};
use crate::limits::{BLOCK_BYTES, SMALL_FILE_BYTES_MAX};
use crate::op::{Action, DiskDone, DiskOp, FileName, Listed, Output};

/// What a power cut writes or does not write as a whole; larger writes tear between sectors.
pub const SECTOR_BYTES: usize = 512;

/// A fault to be met by the next operation that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next operation on this file (of any kind) fails.
    Fail(FileName, DiskErrorKind),
    /// The next write to this file is answered, and dropped.
    LoseWrite(FileName),
    /// The next write to this file lands at another place of it.
    MisdirectWrite(FileName, u64),
    /// From now on every read of this file that touches the block at this place fails.
    Unreadable(FileName, u64),
    /// The next read of this file is answered with a wrong bit; what is stored stays right.
    GarbleRead(FileName),
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    /// What survives a power cut.
    stable: Vec<u8>,
    /// Writes that were answered but not flushed.
    loose: Vec<(u64, Vec<u8>)>,
    /// Whether the directory entry survives a power cut.
    is_linked: bool,
}

impl SimFile {
    fn contents(&self) -> Vec<u8> {
        let mut contents = self.stable.clone();
        for (at, bytes) in &self.loose {
            put(&mut contents, *at, bytes);
        }
        contents
    }

    fn len(&self) -> u64 {
        let ends = self.loose.iter().map(|(at, bytes)| at + bytes.len() as u64);
        ends.max().unwrap_or(0).max(self.stable.len() as u64)
    }

    fn flush(&mut self) {
        for (at, bytes) in mem::take(&mut self.loose) {
            put(&mut self.stable, at, &bytes);
        }
        self.is_linked = true;
    }

    fn read(&self, from: u64, len: u64) -> Vec<u8> {
        let (from, to) = (from.min(self.len()), (from + len).min(self.len()));
        let mut bytes = vec![0; (to - from) as usize];
        overlay(&mut bytes, from, 0, &self.stable);
        self.loose.iter().for_each(|(at, loose)| overlay(&mut bytes, from, *at, loose));
        bytes
    }
}

/// The disk of one core.
#[derive(Clone, Debug)]
pub struct SimDisk {
    files: BTreeMap<FileName, SimFile>,
    waiting: Vec<DiskOp>,
    faults: Vec<Fault>,
    dice: Dice,
    capacity: Option<u64>,
}

impl SimDisk {
    /// An empty disk; the seed decides orders and what a power cut keeps.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            waiting: Vec::new(),
            faults: Vec::new(),
            dice: Dice::new(seed),
            capacity: None,
        }
    }

    /// Takes an operation; nothing happens before [`Self::step`].
    pub fn submit(&mut self, op: DiskOp) {
        check(&op);
        self.waiting.push(op);
    }

    /// Operations taken and not yet carried out.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Carries out one of the waiting operations, any of them.
    pub fn step(&mut self) -> Option<DiskDone> {
        if self.waiting.is_empty() {
            return None;
        }
        let place = self.dice.below(self.waiting.len() as u64) as usize;
        let op = self.waiting.remove(place);
        Some(self.carry_out(op))
    }

    /// Carries out one operation at once.
    pub fn carry_out(&mut self, op: DiskOp) -> DiskDone {
        check(&op);
        let DiskOp { id, file, action } = op;
        let name = action.name();
        let result = match self.fault(|fault| matches!(fault, Fault::Fail(at, _) if *at == file)) {
            Some(Fault::Fail(_, kind)) => Err(kind),
            Some(
                Fault::LoseWrite(_)
                | Fault::MisdirectWrite(..)
                | Fault::Unreadable(..)
                | Fault::GarbleRead(_),
            )
            | None => self.act(file, action),
        };
        DiskDone { id, result: result.map_err(|kind| DiskError { kind, file, action: name }) }
    }

    fn act(&mut self, name: FileName, action: Action) -> Result<Output, DiskErrorKind> {
        match action {
            Action::Prepare { bytes } => return self.prepare(name, bytes),
            Action::WriteDurable { at, parts, padded_len } => {
                let Some(at) = self.place(name, at) else { return Ok(Output::Done) };
                let file = self.files.get_mut(&name).ok_or(DiskErrorKind::NotFound)?;
                put(&mut file.stable, at, &gather(&parts, padded_len as usize));
            }
            Action::Write { at, parts, padded_len } => {
                self.room_for(name, at + u64::from(padded_len))?;
                let Some(at) = self.place(name, at) else { return Ok(Output::Done) };
                let bytes = gather(&parts, padded_len as usize);
                self.files.entry(name).or_default().loose.push((at, bytes));
            }
            Action::Flush => self.files.get_mut(&name).ok_or(DiskErrorKind::NotFound)?.flush(),
            Action::Read { at, len } => {
                let touched = at..at + u64::from(len);
                let is_in = |fault: &Fault| match fault {
                    Fault::Unreadable(file, block) => *file == name && touched.contains(block),
                    Fault::Fail(..)
                    | Fault::LoseWrite(_)
                    | Fault::MisdirectWrite(..)
                    | Fault::GarbleRead(_) => false,
                };
                if self.faults.iter().any(is_in) {
                    return Err(DiskErrorKind::Io(5));
                }
                let mut read = self.file(name)?.read(at, u64::from(len));
                let is_garbled = self.fault(|fault| *fault == Fault::GarbleRead(name)).is_some();
                if let Some(first) = read.first_mut().filter(|_| is_garbled) {
                    *first ^= 1;
                }
                return Ok(Output::Bytes(read.into()));
            }
            Action::ReadAll => {
                let contents = self.file(name)?.contents();
                if contents.len() as u64 > SMALL_FILE_BYTES_MAX {
                    return Err(DiskErrorKind::TooLarge);
                }
                return Ok(Output::Bytes(contents.into()));
            }
            Action::Replace { parts } => {
                let stable = parts.concat();
                self.room_beside(stable.len() as u64)?;
                self.files.insert(name, SimFile { stable, loose: Vec::new(), is_linked: true });
            }
            Action::Truncate { len } => {
                let file = self.files.get_mut(&name).ok_or(DiskErrorKind::NotFound)?;
                file.flush();
                file.stable.resize(len as usize, 0);
            }
            Action::Delete => {
                self.files.remove(&name);
            }
            Action::List => return Ok(Output::Listing(self.list(name))),
            Action::Size => {
                return Ok(Output::Size(self.files.get(&name).map(SimFile::len)));
            }
        }
        Ok(Output::Done)
    }

    fn file(&self, name: FileName) -> Result<&SimFile, DiskErrorKind> {
        self.files.get(&name).ok_or(DiskErrorKind::NotFound)
    }

    fn prepare(&mut self, name: FileName, bytes: u64) -> Result<Output, DiskErrorKind> {
        self.room_for(name, bytes)?;
        let stable = vec![0; bytes as usize];
        self.files.insert(name, SimFile { stable, loose: Vec::new(), is_linked: true });
        Ok(Output::Done)
    }

    fn room_for(&self, name: FileName, bytes: u64) -> Result<(), DiskErrorKind> {
        self.room_beside(bytes.saturating_sub(self.files.get(&name).map_or(0, SimFile::len)))
    }

    /// Whether there is room for so much more.
    fn room_beside(&self, bytes: u64) -> Result<(), DiskErrorKind> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let used: u64 = self.files.values().map(SimFile::len).sum();
        let fits = bytes == 0 || used + bytes <= capacity;
        fits.then_some(()).ok_or(DiskErrorKind::NoSpace)
    }

    /// Where a write really lands; `None` if nowhere.
    fn place(&mut self, name: FileName, at: u64) -> Option<u64> {
        let about_writes = |fault: &Fault| match fault {
            Fault::LoseWrite(file) | Fault::MisdirectWrite(file, _) => *file == name,
            Fault::Fail(..) | Fault::Unreadable(..) | Fault::GarbleRead(_) => false,
        };
        match self.fault(about_writes) {
            Some(Fault::LoseWrite(_)) => None,
            Some(Fault::MisdirectWrite(_, elsewhere)) => Some(elsewhere),
            Some(Fault::Fail(..) | Fault::Unreadable(..) | Fault::GarbleRead(_)) | None => Some(at),
        }
    }

    fn fault(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let place = self.faults.iter().position(fits)?;
        Some(self.faults.remove(place))
    }

    fn list(&self, folder: FileName) -> Vec<Listed> {
        let is_in = |name: &FileName| match name {
            FileName::Journal(_) | FileName::Quarantine(_) => folder == FileName::CoreFolder,
            FileName::Segment { log, .. } | FileName::Index { log, .. } => {
                folder == FileName::PartitionsFolder || folder == FileName::LogFolder(*log)
            }
            FileName::Node
            | FileName::Watermark
            | FileName::Manifest
            | FileName::Ballast
            | FileName::CoreFolder
            | FileName::PartitionsFolder
            | FileName::LogFolder(_) => false,
        };
        let files = self.files.iter().filter(|(name, _)| is_in(name));
        files.map(|(name, file)| Listed { file: *name, bytes: file.len() }).collect()
    }

    /// Asks for a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Limits the sum of all file lengths.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = Some(bytes);
    }

    /// Limits it to so many bytes more than there are now; no limit without.
    pub fn limit(&mut self, more: Option<u64>) {
        let used: u64 = self.files.values().map(SimFile::len).sum();
        self.capacity = more.map(|more| used + more);
    }

    /// Flips one bit of what is stored.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&mut self, name: FileName, at: u64, bit: u8) {
        let file = self.files.get_mut(&name).expect("the file exists");
        file.stable[at as usize] ^= 1 << bit;
    }

    /// Overwrites what is stored, as nobody should.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn overwrite(&mut self, name: FileName, at: u64, bytes: &[u8]) {
        put(&mut self.files.get_mut(&name).expect("the file exists").stable, at, bytes);
    }

    /// Cuts what is stored, or removes the file with `None`.
    pub fn shorten(&mut self, name: FileName, len: Option<u64>) {
        match (len, self.files.get_mut(&name)) {
            (Some(len), Some(file)) => file.stable.truncate(len as usize),
            (None, _) => drop(self.files.remove(&name)),
            (Some(_), None) => {}
        }
    }

    /// What is stored in a file, as a reader sees it.
    #[must_use]
    pub fn contents(&self, name: FileName) -> Option<Bytes> {
        self.files.get(&name).map(|file| file.contents().into())
    }

    /// All files, with their contents as a reader sees them.
    pub fn all(&self) -> impl Iterator<Item = (FileName, Bytes)> {
        self.files.iter().map(|(name, file)| (*name, file.contents().into()))
    }

    /// The power goes: of every write that was not durable any subset of sectors is kept, files
    /// not yet linked may be gone, what waits is forgotten.
    pub fn crash(&mut self) {
        for op in mem::take(&mut self.waiting) {
            self.half_done(op);
        }
        for file in self.files.values_mut() {
            for (at, bytes) in mem::take(&mut file.loose) {
                put_some(&mut self.dice, &mut file.stable, at, &bytes);
            }
        }
        let dice = &mut self.dice;
        self.files.retain(|_, file| file.is_linked || dice.below(2) == 0);
        for file in self.files.values_mut() {
            file.is_linked = true;
        }
        self.faults.clear();
    }

    /// The process ends: what was answered stays, of what waits each operation is done or not.
    pub fn kill(&mut self) {
        for DiskOp { file, action, .. } in mem::take(&mut self.waiting) {
            if self.dice.below(2) == 0 {
                drop(self.act(file, action));
            }
        }
        self.faults.clear();
    }

    fn half_done(&mut self, op: DiskOp) {
        let DiskOp { file: name, action, .. } = op;
        match action {
            Action::WriteDurable { at, parts, padded_len } => {
                let bytes = gather(&parts, padded_len as usize);
                if let Some(file) = self.files.get_mut(&name) {
                    put_some(&mut self.dice, &mut file.stable, at, &bytes);
                }
            }
            Action::Write { at, parts, padded_len } => {
                let bytes = gather(&parts, padded_len as usize);
                self.files.entry(name).or_default().loose.push((at, bytes));
            }
            Action::Prepare { bytes } => {
                let stable = vec![0; self.dice.below(bytes + 1) as usize];
                let is_linked = self.dice.below(2) == 0;
                self.files.insert(name, SimFile { stable, loose: Vec::new(), is_linked });
            }
            Action::Replace { .. } | Action::Truncate { .. } | Action::Delete => {
                if self.dice.below(2) == 0 {
                    drop(self.act(name, action));
                }
            }
            Action::Flush | Action::Read { .. } | Action::ReadAll | Action::List | Action::Size => {
            }
        }
    }
}

/// Every operation obeys the rules of [`crate::op`], or our own code is wrong.
fn check(op: &DiskOp) {
    match &op.action {
        Action::WriteDurable { at, parts, padded_len }
        | Action::Write { at, parts, padded_len } => {
            let len: usize = parts.iter().map(Bytes::len).sum();
            assert!(at.is_multiple_of(BLOCK_BYTES as u64), "writes begin on a block");
            assert!((*padded_len as usize).is_multiple_of(BLOCK_BYTES), "writes are whole blocks");
            assert!(len <= *padded_len as usize, "parts fit their place");
        }
        Action::Read { at, len } => {
            assert!(at.is_multiple_of(BLOCK_BYTES as u64), "reads begin on a block");
            assert!((*len as usize).is_multiple_of(BLOCK_BYTES), "reads are whole blocks");
        }
        Action::Prepare { bytes } => assert!(bytes.is_multiple_of(BLOCK_BYTES as u64)),
        Action::Flush
        | Action::ReadAll
        | Action::Replace { .. }
        | Action::Truncate { .. }
        | Action::Delete
        | Action::List
        | Action::Size => {}
    }
}

fn gather(parts: &[Bytes], padded_len: usize) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.resize(padded_len, 0);
    bytes
}

fn put(contents: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (from, to) = (at as usize, at as usize + bytes.len());
    if contents.len() < to {
        contents.resize(to, 0);
    }
    contents[from..to].copy_from_slice(bytes);
}

/// Copies what of `source`, which lies at `at`, falls into `target`, which lies at `from`.
fn overlay(target: &mut [u8], from: u64, at: u64, source: &[u8]) {
    let begin = from.max(at);
    let end = (from + target.len() as u64).min(at + source.len() as u64);
    if begin < end {
        let source = &source[(begin - at) as usize..(end - at) as usize];
        target[(begin - from) as usize..(end - from) as usize].copy_from_slice(source);
    }
}

/// Any subset of sectors: all, none, or each by a throw of its own.
fn put_some(dice: &mut Dice, contents: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let mode = dice.below(4);
    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        let keep = match mode {
            0 => false,
            1 => true,
            _ => dice.below(2) == 0,
        };
        if keep {
            put(contents, at + (number * SECTOR_BYTES) as u64, sector);
        }
    }
}

/// A small seeded generator (xorshift64*), enough to choose orders and sectors.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

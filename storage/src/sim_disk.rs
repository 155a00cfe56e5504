//! A disk in memory that forgets what a real one may forget.
//!
//! Does: carry out operations one by one in any order, lie as disks lie (lost, misdirected, torn
//! writes, flipped bits, errors, no room, no answer), turn into what a power cut leaves, and know what
//! it would hold had it never lied.
//! Does not: know time; latency is the caller's choice of when to call [`SimDisk::step`].
//! Invariants: what was answered as durable survives [`SimDisk::crash`] unless a fault was asked
//! for; the same seed and calls give the same disk.
//! Apart because a durability claim that was never attacked is a hope (feature `sim`).

mod dice;
mod file;
mod wrong;

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;

use bytes::Bytes;

use crate::error::{DiskError, DiskErrorKind};
use crate::limits::{BLOCK_BYTES, SMALL_FILE_BYTES_MAX};
use crate::op::{Action, DiskDone, DiskOp, FileName, Listed, Output};
pub use dice::Dice;
use file::SimFile;
use wrong::Wrong;

/// What a power cut writes or does not write as a whole; larger writes tear between sectors.
pub const SECTOR_BYTES: usize = 512;

/// A fault to be met by the next operation that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next operation on this file (of any kind) fails, and nothing is done.
    Fail(FileName, DiskErrorKind),
    /// The next operation that changes this file fails, and any part of it is done; of what a flush was
    /// to make durable any part is gone, although readers saw it.
    FailHalfway(FileName, DiskErrorKind),
    /// The next write to this file is answered, and dropped.
    LoseWrite(FileName),
    /// The next write to this file lands at another place of it.
    MisdirectWrite(FileName, u64),
    /// From now on every read of this file that touches the block at this place fails.
    Unreadable(FileName, u64),
    /// The next read of this file is answered with a wrong bit; what is stored stays right.
    GarbleRead(FileName),
}

/// The disk of one core.
#[derive(Clone, Debug)]
pub struct SimDisk {
    files: BTreeMap<FileName, SimFile>,
    waiting: Vec<DiskOp>,
    /// Taken, and never answered.
    hung: Vec<DiskOp>,
    hangs_next: bool,
    faults: Vec<Fault>,
    /// Faults that were met since somebody asked.
    met: Vec<Fault>,
    /// Where a garbled read of a file began, and its length, until the same was asked again.
    garbled: BTreeMap<FileName, (u64, u32)>,
    written: Option<FileName>,
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
            hung: Vec::new(),
            hangs_next: false,
            faults: Vec::new(),
            met: Vec::new(),
            garbled: BTreeMap::new(),
            written: None,
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
        if mem::take(&mut self.hangs_next) {
            self.hung.push(op);
            return None;
        }
        Some(self.carry_out(op))
    }

    /// Carries out one operation at once.
    pub fn carry_out(&mut self, op: DiskOp) -> DiskDone {
        check(&op);
        let changes = changes(&op.action);
        let is_flush = op.action == Action::Flush;
        let fails = |fault: &Fault| match fault {
            Fault::Fail(file, _) => *file == op.file,
            Fault::FailHalfway(file, _) => *file == op.file && changes,
            Fault::LoseWrite(_)
            | Fault::MisdirectWrite(..)
            | Fault::Unreadable(..)
            | Fault::GarbleRead(_) => false,
        };
        let failed = self.fault(fails);
        let (id, file, name) = (op.id, op.file, op.action.name());
        let result = if let Some(Fault::Fail(_, kind)) = failed {
            Err(kind)
        } else if let Some(Fault::FailHalfway(_, kind)) = failed {
            self.half_done(op);
            if let Some(file) = self.files.get_mut(&file).filter(|_| is_flush) {
                file.tear(&mut self.dice);
            }
            Err(kind)
        } else {
            self.act(file, op.action)
        };
        DiskDone { id, result: result.map_err(|kind| DiskError { kind, file, action: name }) }
    }

    fn act(&mut self, name: FileName, action: Action) -> Result<Output, DiskErrorKind> {
        match action {
            Action::Prepare { bytes } => return self.prepare(name, bytes),
            Action::WriteDurable { at, parts, padded_len } => {
                self.files.get(&name).ok_or(DiskErrorKind::NotFound)?;
                let bytes = gather(&parts, padded_len as usize);
                if self.write_amiss(name, at, &bytes) {
                    return Ok(Output::Done);
                }
                self.files.entry(name).or_default().write_durable(at, &bytes);
            }
            Action::Write { at, parts, padded_len } => {
                self.room_for(name, at + u64::from(padded_len))?;
                let bytes = gather(&parts, padded_len as usize);
                if self.write_amiss(name, at, &bytes) {
                    return Ok(Output::Done);
                }
                self.files.entry(name).or_default().write(at, bytes);
            }
            Action::Flush => self.files.get_mut(&name).ok_or(DiskErrorKind::NotFound)?.flush(),
            Action::Read { at, len } => {
                self.can_be_read(name, at..at + u64::from(len))?;
                let mut read = self.file(name)?.read(at, u64::from(len));
                let is_garbled = self.fault(|fault| *fault == Fault::GarbleRead(name)).is_some();
                if is_garbled {
                    read.iter_mut().take(1).for_each(|first| *first ^= 1);
                    self.garbled.insert(name, (at, len));
                } else if self.garbled.get(&name) == Some(&(at, len)) {
                    self.garbled.remove(&name);
                }
                return Ok(Output::Bytes(read.into()));
            }
            Action::ReadAll => {
                self.can_be_read(name, 0..u64::MAX)?;
                let contents = self.file(name)?.contents();
                if contents.len() as u64 > SMALL_FILE_BYTES_MAX {
                    return Err(DiskErrorKind::TooLarge);
                }
                return Ok(Output::Bytes(contents.into()));
            }
            Action::Replace { parts } => {
                let stable = parts.concat();
                self.room_beside(stable.len() as u64)?;
                self.renew(name, SimFile::new(stable));
            }
            Action::Truncate { len } => {
                self.files.get_mut(&name).ok_or(DiskErrorKind::NotFound)?.resize(len);
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
        self.renew(name, SimFile::prepared(bytes, true));
        Ok(Output::Done)
    }

    /// The file lies elsewhere from now on.
    fn renew(&mut self, name: FileName, file: SimFile) {
        let is_its = |fault: &Fault| matches!(fault, Fault::Unreadable(its, _) if *its == name);
        self.faults.retain(|fault| !is_its(fault));
        self.files.insert(name, file);
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

    fn can_be_read(&self, name: FileName, range: Range<u64>) -> Result<(), DiskErrorKind> {
        let is_in = |fault: &Fault| matches!(fault, Fault::Unreadable(file, block) if *file == name && range.contains(block));
        if self.faults.iter().any(is_in) { Err(DiskErrorKind::Io(5)) } else { Ok(()) }
    }

    /// Whether a write goes amiss: what it was to write is nowhere, or elsewhere.
    fn write_amiss(&mut self, name: FileName, at: u64, bytes: &[u8]) -> bool {
        self.written = Some(name);
        let about_writes = |fault: &Fault| match fault {
            Fault::LoseWrite(file) | Fault::MisdirectWrite(file, _) => *file == name,
            Fault::Fail(..)
            | Fault::FailHalfway(..)
            | Fault::Unreadable(..)
            | Fault::GarbleRead(_) => false,
        };
        let Some(fault) = self.fault(about_writes) else { return false };
        let file = self.files.entry(name).or_default();
        if let Fault::MisdirectWrite(_, elsewhere) = fault {
            file.spoil(elsewhere, bytes);
        }
        file.miss(at, bytes);
        true
    }

    fn fault(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let place = self.faults.iter().position(fits)?;
        let fault = self.faults.remove(place);
        self.met.push(fault);
        Some(fault)
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

    /// Whether this fault was asked for and not met yet.
    #[must_use]
    pub fn awaits(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether a read of this file was answered wrongly, and the same was not asked again since.
    #[must_use]
    pub fn is_to_be_read_again(&self, name: FileName) -> bool {
        self.garbled.contains_key(&name)
    }

    /// The faults that were met since this was last asked.
    pub fn take_met(&mut self) -> Vec<Fault> {
        mem::take(&mut self.met)
    }

    /// The next operation is never answered. The others are.
    pub fn hang_one(&mut self) {
        self.hangs_next = true;
    }

    /// The file that was written to last, other than whole.
    #[must_use]
    pub fn last_written(&self) -> Option<FileName> {
        self.written
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
        self.files.get_mut(&name).expect("the file exists").flip(at, bit);
    }

    /// Overwrites what is stored, as nobody should.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn overwrite(&mut self, name: FileName, at: u64, bytes: &[u8]) {
        self.files.get_mut(&name).expect("the file exists").spoil(at, bytes);
    }

    /// Cuts what is stored, or removes the file with `None`.
    pub fn shorten(&mut self, name: FileName, len: Option<u64>) {
        match (len, self.files.get_mut(&name)) {
            (Some(len), Some(file)) => file.shorten(len),
            (None, _) => drop(self.files.remove(&name)),
            (Some(_), None) => {}
        }
    }

    /// What is stored in a file, as a reader sees it.
    #[must_use]
    pub fn contents(&self, name: FileName) -> Option<Bytes> {
        self.files.get(&name).map(|file| file.contents().into())
    }

    /// All files and their lengths.
    pub fn names(&self) -> impl Iterator<Item = (FileName, u64)> {
        self.files.iter().map(|(name, file)| (*name, file.len()))
    }

    /// All files, with their contents as a reader sees them.
    pub fn all(&self) -> impl Iterator<Item = (FileName, Bytes)> {
        self.files.iter().map(|(name, file)| (*name, file.contents().into()))
    }

    /// Time passes: what was answered is written back, whether anybody asked for that or not.
    pub fn write_back(&mut self) {
        self.files.values_mut().for_each(SimFile::flush);
    }

    /// What a file would hold if no write had gone amiss and nothing had been spoilt.
    #[must_use]
    pub fn truth(&self, name: FileName) -> Option<Bytes> {
        self.files.get(&name).map(|file| file.truth().into())
    }

    /// Files with anything else in them than they should have, or with blocks that cannot be read.
    #[must_use]
    pub fn wrong_files(&self) -> Vec<FileName> {
        let names = self.files.iter();
        let is_wrong = |name: &FileName, file: &SimFile| {
            !file.wrong.is_empty() || self.unreadable(*name).next().is_some()
        };
        names.filter(|(name, file)| is_wrong(name, file)).map(|(name, _)| *name).collect()
    }

    /// Places of a file where there is something else than there should be, or nothing can be read.
    #[must_use]
    pub fn wrong_places(&self, name: FileName) -> Vec<Range<u64>> {
        let wrong = self.files.get(&name).into_iter().flat_map(|file| file.wrong.places());
        wrong.chain(self.unreadable(name)).collect()
    }

    fn unreadable(&self, name: FileName) -> impl Iterator<Item = Range<u64>> {
        self.faults.iter().filter_map(move |fault| match fault {
            Fault::Unreadable(file, block) if *file == name => {
                Some(*block..block + BLOCK_BYTES as u64)
            }
            Fault::Unreadable(..)
            | Fault::Fail(..)
            | Fault::FailHalfway(..)
            | Fault::LoseWrite(_)
            | Fault::MisdirectWrite(..)
            | Fault::GarbleRead(_) => None,
        })
    }

    /// From now on what a file holds is what it should hold.
    pub fn trust(&mut self, name: FileName) {
        if let Some(file) = self.files.get_mut(&name) {
            file.wrong = Wrong::default();
        }
    }

    /// Everything is as it should be, as if it were copied back from a disk that never lied.
    pub fn mend(&mut self) {
        self.files.values_mut().for_each(SimFile::mend);
        self.faults.clear();
    }

    /// The power goes: of every write that was not durable any subset of sectors is kept, files
    /// not yet linked may be gone, what waits is forgotten.
    pub fn crash(&mut self) {
        for op in self.forget_waiting() {
            self.half_done(op);
        }
        for file in self.files.values_mut() {
            file.tear(&mut self.dice);
        }
        let dice = &mut self.dice;
        self.files.retain(|_, file| file.is_linked || dice.below(2) == 0);
        for file in self.files.values_mut() {
            file.is_linked = true;
        }
    }

    /// The process ends: what was answered stays, of what waits each operation is done or not. A
    /// durable write that nobody waited for is written, but perhaps not flushed (F14).
    pub fn kill(&mut self) {
        for DiskOp { file, action, .. } in self.forget_waiting() {
            let action = match (action, self.dice.below(3)) {
                (_, 0) => continue,
                (Action::WriteDurable { at, parts, padded_len }, 1) => {
                    Action::Write { at, parts, padded_len }
                }
                (action, _) => action,
            };
            drop(self.act(file, action));
        }
    }

    /// What was under way; faults that wait for an operation go with it, blocks that cannot be read stay.
    fn forget_waiting(&mut self) -> Vec<DiskOp> {
        self.faults.retain(|fault| matches!(fault, Fault::Unreadable(..)));
        self.hangs_next = false;
        self.garbled.clear();
        let mut waiting = mem::take(&mut self.waiting);
        waiting.append(&mut self.hung);
        waiting
    }

    fn half_done(&mut self, op: DiskOp) {
        let DiskOp { file: name, action, .. } = op;
        match action {
            Action::WriteDurable { at, parts, padded_len } => {
                let bytes = gather(&parts, padded_len as usize);
                if let Some(file) = self.files.get_mut(&name) {
                    file.store_some(&mut self.dice, at, &bytes);
                }
            }
            Action::Write { at, parts, padded_len } => {
                let bytes = gather(&parts, padded_len as usize);
                self.files.entry(name).or_default().write(at, bytes);
            }
            Action::Prepare { bytes } => {
                let bytes = self.dice.below(bytes + 1);
                let is_linked = self.dice.below(2) == 0;
                self.files.insert(name, SimFile::prepared(bytes, is_linked));
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
    let mut bytes = Vec::with_capacity(padded_len);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(padded_len, 0);
    bytes
}

/// Whether it changes what is stored, or makes a change durable.
fn changes(action: &Action) -> bool {
    match action {
        Action::Prepare { .. }
        | Action::WriteDurable { .. }
        | Action::Write { .. }
        | Action::Flush
        | Action::Replace { .. }
        | Action::Truncate { .. }
        | Action::Delete => true,
        Action::Read { .. } | Action::ReadAll | Action::List | Action::Size => false,
    }
}

//! The file system below the data folder and what a durable write costs there.
//!
//! Does: judges file system, direct I/O and free space; measures 4 KiB writes that are on stable media
//! when they return, as the journal does them. Does not: touch any file of the broker.
//! Invariants: the scratch file is removed when its owner is dropped, also on an error.
//! Apart because it is the part that writes.
#![expect(clippy::disallowed_methods, reason = "measures a disk before any core runs")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::latencies::{Latencies, readable};
use super::{Finding, machine};
use crate::config::options::Options;

/// The journal's block, and the alignment direct I/O asks for on every common disk.
const BLOCK_BYTES: usize = 4096;

/// Scratch file of the measurement: written before, because a first write into a hole also updates
/// the file system's own tables and would measure those.
const SCRATCH_BYTES: usize = 16 << 20;

/// Each of both measurements ends after this time or this many writes.
const MEASURED_TIME: Duration = Duration::from_secs(3);
const MEASURED_WRITES: usize = 5_000;

/// Distance of the paced writes: long enough for a disk to go idle and a write cache to drain.
const PACE: Duration = Duration::from_millis(10);

/// A disk with a protected cache answers in well below 1 ms, a plain one within 10 ms.
const P50_GOOD_US: f64 = 5_000.0;
const P99_GOOD_US: f64 = 25_000.0;

/// What can be told at once: file system, direct I/O, free space.
pub fn findings(dir: &Path, options: &Options) -> Vec<Finding> {
    let place = machine::existing_ancestor(dir);
    vec![file_system(&place), direct_io(&place), free_space(&place, options)]
}

/// Durable writes, back to back and paced.
pub fn measurements(dir: &Path) -> Vec<Finding> {
    let place = machine::existing_ancestor(dir);
    match measure(&place) {
        Ok((back_to_back, paced)) => vec![
            judge("durable_write", "one after the other", &back_to_back),
            judge("durable_write_10ms", "one every 10 ms", &paced),
        ],
        Err(error) => vec![Finding::fail(
            "durable_write",
            format!("not measured in {}: {error}", place.display()),
            "make the folder writable, with 16 MiB free, on a file system with direct I/O",
        )],
    }
}

fn file_system(place: &Path) -> Finding {
    let Ok(statistics) = rustix::fs::statfs(place) else {
        let found = format!("{} cannot be examined", place.display());
        return Finding::fail("file_system", found, "check the path and its permissions");
    };
    // The type's width differs between processors; the magic numbers are 32 bits everywhere.
    judge_file_system(statistics.f_type as u32)
}

fn judge_file_system(magic: u32) -> Finding {
    let warn = |name: &str, advice: &str| Finding::warn("file_system", name, advice);
    match magic {
        0xef53 => Finding::ok("file_system", "ext4"),
        0x5846_5342 => Finding::ok("file_system", "xfs"),
        0xf2f5_2010 => Finding::ok("file_system", "f2fs"),
        0x9123_683e => warn(
            "btrfs",
            "copy on write costs latency: use ext4 or xfs, or chattr +C on the empty folder",
        ),
        0x2fc1_2fc1 => warn(
            "zfs",
            "direct I/O may be emulated: use ext4 or xfs, or a dataset with recordsize=16k",
        ),
        0x0102_1994 => warn("tmpfs", "its content is lost with a reboot: fit for tests only"),
        0x794c_7630 => {
            warn("overlayfs", "a container's own layer: mount a volume for the data folder")
        }
        0x6969 => {
            warn("nfs", "a durable write depends on a network and a server: use a local disk")
        }
        0xff53_4d42 | 0xfe53_4d42 => {
            warn("smb", "a durable write depends on a network and a server: use a local disk")
        }
        0x6573_5546 => warn("fuse", "a durable write depends on a user process: use a local disk"),
        0x0102_1997 => {
            warn("9p", "a folder shared by a hypervisor: use a disk of the virtual machine")
        }
        other => warn(&format!("type {other:#x}"), "not tried with Flumen: ext4 and xfs are"),
    }
}

/// Writes one block as the journal does.
fn direct_io(place: &Path) -> Finding {
    let attempt = Scratch::create(place)
        .and_then(|scratch| scratch.file.write_all_at(Blocks::new(BLOCK_BYTES, 1).aligned(), 0));
    judge_direct_io(attempt, place)
}

fn judge_direct_io(attempt: io::Result<()>, place: &Path) -> Finding {
    match attempt {
        Ok(()) => Finding::ok("direct_io", "O_DIRECT and O_DSYNC work"),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Finding::fail(
            "direct_io",
            "the file system refuses O_DIRECT with 4 KiB blocks",
            "put the data folder on ext4 or xfs on a disk with blocks of 4 KiB or less",
        ),
        // A node with a full disk must start: it serves readers, and deleting makes room.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Finding::warn(
            "direct_io",
            "not tried: not a block is free",
            "make room: records are refused until there is some",
        ),
        Err(error) => Finding::fail(
            "direct_io",
            format!("no file can be written in {}: {error}", place.display()),
            "make the folder writable for the user that runs the broker, and make room on it",
        ),
    }
}

fn free_space(place: &Path, options: &Options) -> Finding {
    let Ok(statistics) = rustix::fs::statvfs(place) else {
        let found = format!("{} cannot be examined", place.display());
        return Finding::fail("free_space", found, "check the path and its permissions");
    };
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let total = statistics.f_blocks.saturating_mul(statistics.f_frsize);
    judge_space(free, options.disk_reserve_of(total))
}

fn judge_space(free: u64, reserve: u64) -> Finding {
    let found = format!("{} MiB free, {} MiB are kept in reserve", free >> 20, reserve >> 20);
    let finding = if free <= reserve {
        let advice = "produce would be refused at once: make room, or lower flumen.disk.reserve.bytes and .percent";
        Finding::warn("free_space", found, advice)
    } else if free < reserve.saturating_mul(2) {
        Finding::warn("free_space", found, "less than the reserve remains for data: make room soon")
    } else {
        Finding::ok("free_space", found)
    };
    finding.with("free_bytes", free as f64).with("reserve_bytes", reserve as f64)
}

fn judge(name: &'static str, how: &str, latencies: &Latencies) -> Finding {
    let (p50, p99) = (latencies.quantile_us(0.5), latencies.quantile_us(0.99));
    let found = format!("4 KiB {how}: {}", latencies.summary());
    let finding = if p50 > P50_GOOD_US || p99 > P99_GOOD_US {
        let advice = format!(
            "every acknowledgement waits for this; a disk with a protected write cache stays below {} \
             (p50) and {} (p99)",
            readable(P50_GOOD_US),
            readable(P99_GOOD_US)
        );
        Finding::warn(name, found, advice)
    } else {
        Finding::ok(name, found)
    };
    finding.with("p50_us", p50).with("p99_us", p99).with("p99_9_us", latencies.quantile_us(0.999))
}

fn measure(place: &Path) -> io::Result<(Latencies, Latencies)> {
    let scratch = Scratch::create(place)?;
    let mut filler = Blocks::new(1 << 20, 0);
    for offset in (0..SCRATCH_BYTES).step_by(1 << 20) {
        scratch.file.write_all_at(filler.aligned(), offset as u64)?;
    }
    Ok((timed_writes(&scratch.file, Duration::ZERO)?, timed_writes(&scratch.file, PACE)?))
}

fn timed_writes(file: &File, pace: Duration) -> io::Result<Latencies> {
    let mut latencies = Latencies::new().ok_or_else(|| io::Error::other("no histogram"))?;
    let mut block = Blocks::new(BLOCK_BYTES, 0x5a);
    let begin = Instant::now();
    for index in 0..MEASURED_WRITES {
        if begin.elapsed() > MEASURED_TIME {
            break;
        }
        let offset = index * BLOCK_BYTES % SCRATCH_BYTES;
        let start = Instant::now();
        file.write_all_at(block.aligned(), offset as u64)?;
        latencies.record(start.elapsed());
        if !pace.is_zero() {
            std::thread::sleep(pace.saturating_sub(start.elapsed()));
        }
    }
    Ok(latencies)
}

/// A file that is opened as the journal opens its files, and removed again.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn create(place: &Path) -> io::Result<Self> {
        // Two examinations at once must not share a file, nor must two tests of one process.
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let path = place.join(format!(".flumen-doctor-{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
            .open(&path);
        if file.is_err() {
            // Linux may create the file first and refuse the flags afterwards. Left-overs are harmless.
            let _ = std::fs::remove_file(&path);
        }
        Ok(Self { file: file?, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An empty left-over is harmless and the name says whose it is.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes whose address direct I/O accepts: a longer vector and the aligned part of it, so that no
/// unsafe allocation is needed.
struct Blocks {
    bytes: Vec<u8>,
    length: usize,
}

impl Blocks {
    fn new(length: usize, fill: u8) -> Self {
        Self { bytes: vec![fill; length + BLOCK_BYTES], length }
    }

    fn aligned(&mut self) -> &[u8] {
        let start = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        &self.bytes[start..start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_aligned_part_has_the_wanted_length() {
        for length in [BLOCK_BYTES, 1 << 20] {
            let mut blocks = Blocks::new(length, 3);
            let aligned = blocks.aligned();
            assert_eq!(aligned.len(), length);
            assert_eq!(aligned.as_ptr().align_offset(BLOCK_BYTES), 0);
        }
    }

    #[test]
    fn memory_file_systems_and_networks_are_noted() {
        assert_eq!(judge_file_system(0xef53).verdict, Verdict::Ok);
        for magic in [0x0102_1994, 0x6969, 0x794c_7630, 0x1234] {
            assert_eq!(judge_file_system(magic).verdict, Verdict::Warn);
        }
    }

    #[test]
    fn space_is_compared_with_the_reserve() {
        assert_eq!(judge_space(10 << 30, 1 << 30).verdict, Verdict::Ok);
        assert_eq!(judge_space(3 << 29, 1 << 30).verdict, Verdict::Warn);
        assert!(judge_space(1 << 29, 1 << 30).advice.contains("refused"));
    }

    #[test]
    fn a_full_disk_does_not_keep_a_broker_from_starting() {
        let failed = |errno| Err(io::Error::from_raw_os_error(errno));
        let verdict = |errno| judge_direct_io(failed(errno), Path::new("/data")).verdict;
        assert_eq!(verdict(libc::ENOSPC), Verdict::Warn);
        assert_eq!(verdict(libc::EINVAL), Verdict::Fail);
        assert_eq!(verdict(libc::EACCES), Verdict::Fail);
    }

    #[test]
    fn a_scratch_file_leaves_nothing_behind() {
        let place = std::env::temp_dir();
        let path = Scratch::create(&place).map(|scratch| scratch.path.clone());
        if let Ok(path) = path {
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_folder_nobody_may_write_is_a_failure_with_advice() {
        let finding = direct_io(Path::new("/proc"));
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.advice.contains("writable"), "{finding:?}");
    }
}

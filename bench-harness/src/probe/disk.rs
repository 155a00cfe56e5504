//! Probes of the disk.
//!
//! Does: small writes one after the other, in each way a log can write; small writes and large
//! transfers from several threads at once.
//! Does not: create, remove or choose files.
//! Invariants: a write is only counted when it returned, durable where the probe says so; what a
//! probe does to prepare or to leave the cache clean is never timed.
//! Apart because disk, network and processor have nothing in common but the table they stand in.
//!
//! Depth comes from threads that block, not from a ring: the device sees the same queue, and a
//! thread's switch costs less than the device takes.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::thread::set_current_timer_slack;

use super::answer::{Answer, Refused, Tally, bandwidth, frequency};
use super::scratch::{Access, Blocks, forget_cached};
use super::site::Site;
use super::watch::Watch;
use crate::limits;

const BLOCK: u64 = limits::PROBE_BLOCK_BYTES as u64;
const STREAM: u64 = limits::PROBE_STREAM_BYTES as u64;
const LOADED: u64 = limits::PROBE_LOADED_BYTES as u64;

// Every pre-written file is walked in whole blocks and in whole streams.
const _: () = assert!(STREAM.is_multiple_of(BLOCK));
const _: () = assert!(limits::PROBE_FILE_BYTES_MIN.is_multiple_of(STREAM));
const _: () = assert!(limits::PROBE_GROWING_BYTES.is_multiple_of(BLOCK));
const _: () = assert!(STREAM.is_multiple_of(LOADED));

/// Overwrites durably, the next write as soon as the last returned.
pub fn durable_write(site: &Site) -> Answer {
    overwrite(site, Access::Durable, Pace::BackToBack, nothing)
}

/// Overwrites durably, with the pauses that a waiting client makes.
pub fn durable_write_paced(site: &Site) -> Answer {
    // Sleeps of the usual kind are rounded by a third of the pace.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let seen = overwrite(site, Access::Durable, Pace::Spaced, nothing);
    set_current_timer_slack(None)?;
    seen
}

/// Overwrites durably at the rate of a broker at work. Counted from when a write was due: those that
/// became due while one was under way go together in the next, as a broker's do, and all of them
/// waited.
pub fn durable_write_loaded(site: &Site) -> Answer {
    let pace = Duration::from_micros(limits::PROBE_LOADED_PACE_MICROS);
    let file = site.scratch().written(Access::Durable)?;
    let places = site.scratch().written_bytes() / LOADED;
    let block = Blocks::noise(limits::PROBE_STREAM_BYTES);
    set_current_timer_slack(NonZeroU64::new(1))?;
    let mut tally = Tally::default();
    let (begun, watch) = (Instant::now(), site.watch());
    let due = |write: u64| begun + pace * u32::try_from(write).unwrap_or(u32::MAX);
    let mut written = 0_u64;
    while watch.goes_on() {
        if let Some(early) = due(written).checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        let late = begun.elapsed().as_micros() as u64 / limits::PROBE_LOADED_PACE_MICROS;
        let place = written % places;
        // As many as are due, as fit into one write, and as lie before the end of the file.
        let count =
            (late + 1).saturating_sub(written).clamp(1, STREAM / LOADED).min(places - place);
        file.write_all_at(&block.bytes()[..(count * LOADED) as usize], place * LOADED)?;
        (written..written + count).for_each(|write| tally.add(due(write).elapsed()));
        written += count;
    }
    set_current_timer_slack(None)?;
    tally.latency()
}

/// Writes durably behind the end of a file, which changes its length each time.
pub fn durable_write_extending(site: &Site) -> Answer {
    grow(site, Access::Durable, Ground::Bare, nothing)
}

/// Writes durably into space that was reserved and never written.
pub fn durable_write_unwritten(site: &Site) -> Answer {
    grow(site, Access::Durable, Ground::Reserved, nothing)
}

/// Overwrites through the page cache and flushes.
pub fn write_fdatasync(site: &Site) -> Answer {
    overwrite(site, Access::Cached, Pace::BackToBack, File::sync_data)
}

/// Appends through the page cache and flushes: what a log without preallocation does.
pub fn write_fdatasync_extending(site: &Site) -> Answer {
    grow(site, Access::Cached, Ground::Bare, File::sync_data)
}

/// Overwrites in the page cache.
pub fn plain_write(site: &Site) -> Answer {
    overwrite(site, Access::Cached, Pace::BackToBack, nothing)
}

/// Durable overwrites per second with `depth` of them under way.
pub fn durable_writes_at(site: &Site, depth: usize) -> Answer {
    let file = site.scratch().written(Access::Durable)?;
    let blocks = site.scratch().written_bytes() / BLOCK;
    let crew = Crew { depth, bytes: limits::PROBE_BLOCK_BYTES, turns_max: u64::MAX };
    let (turns, seconds) =
        crew.work(site, |turn, block| file.write_all_at(block, turn % blocks * BLOCK))?;
    frequency(turns, seconds)
}

/// Bytes per second written in large blocks one after the other.
pub fn write_bandwidth(site: &Site, access: Access) -> Answer {
    stream(site, access, |file, block, at| file.write_all_at(block, at))
}

/// Bytes per second read from the disk in large blocks one after the other.
pub fn read_bandwidth(site: &Site) -> Answer {
    stream(site, Access::Direct, |file, block, at| file.read_exact_at(block, at))
}

/// Whether the writer rests between writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    BackToBack,
    /// One write is due each [`limits::PROBE_PACE_MICROS`].
    Spaced,
}

/// What a growing file has where it will be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Nothing: its length ends there.
    Bare,
    /// Space reserved from the file system.
    Reserved,
}

fn nothing(_: &File) -> io::Result<()> {
    Ok(())
}

fn overwrite(
    site: &Site,
    access: Access,
    pace: Pace,
    finish: fn(&File) -> io::Result<()>,
) -> Answer {
    let file = site.scratch().written(access)?;
    let blocks = site.scratch().written_bytes() / BLOCK;
    let block = Blocks::noise(limits::PROBE_BLOCK_BYTES);
    let mut tally = Tally::default();
    let watch = site.watch();
    for turn in 0_u64.. {
        let begun = Instant::now();
        file.write_all_at(block.bytes(), turn % blocks * BLOCK)?;
        finish(&file)?;
        tally.add(begun.elapsed());
        if !watch.goes_on() {
            break;
        }
        if pace == Pace::Spaced {
            rest_since(begun);
        }
    }
    forget_cached(&file)?;
    tally.latency()
}

fn rest_since(begun: Instant) {
    let pace = Duration::from_micros(limits::PROBE_PACE_MICROS);
    if let Some(left) = pace.checked_sub(begun.elapsed()) {
        thread::sleep(left);
    }
}

fn grow(
    site: &Site,
    access: Access,
    ground: Ground,
    finish: fn(&File) -> io::Result<()>,
) -> Answer {
    let file = site.scratch().growing(access)?;
    let block = Blocks::noise(limits::PROBE_BLOCK_BYTES);
    let mut tally = Tally::default();
    let watch = site.watch();
    for turn in 0_u64.. {
        let at = turn * BLOCK % limits::PROBE_GROWING_BYTES;
        if at == 0 {
            empty(&file, ground)?;
        }
        let begun = Instant::now();
        file.write_all_at(block.bytes(), at)?;
        finish(&file)?;
        tally.add(begun.elapsed());
        if !watch.goes_on() {
            break;
        }
    }
    file.set_len(0)?;
    tally.latency()
}

/// Empties the file and waits until that is on disk, so that the first write does not pay for it.
fn empty(file: &File, ground: Ground) -> Result<(), Refused> {
    file.set_len(0)?;
    if ground == Ground::Reserved {
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), 0, limits::PROBE_GROWING_BYTES) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                let why = "the file system cannot reserve space (fallocate)";
                return Err(Refused::Impossible(why.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(file.sync_all()?)
}

fn stream(
    site: &Site,
    access: Access,
    transfer: fn(&File, &mut [u8], u64) -> io::Result<()>,
) -> Answer {
    let file = site.scratch().written(access)?;
    let blocks = site.scratch().written_bytes() / STREAM;
    let crew = Crew {
        depth: limits::PROBE_STREAM_DEPTH,
        bytes: limits::PROBE_STREAM_BYTES,
        turns_max: limits::PROBE_WRITTEN_BYTES_MAX / STREAM,
    };
    let (turns, seconds) =
        crew.work(site, |turn, block| transfer(&file, block, turn % blocks * STREAM))?;
    bandwidth(turns * STREAM, seconds)
}

/// Threads that do the same at once, each time with the next turn.
struct Crew {
    depth: usize,
    /// Size of the buffer each of them has.
    bytes: usize,
    turns_max: u64,
}

impl Crew {
    /// Works until the time is over; gives back how many turns were done in how many seconds.
    fn work(
        &self,
        site: &Site,
        act: impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
    ) -> io::Result<(u64, f64)> {
        // Filled before the time starts.
        let mut buffers: Vec<Blocks> = (0..self.depth).map(|_| Blocks::noise(self.bytes)).collect();
        let next = AtomicU64::new(0);
        let watch = site.watch();
        let done = thread::scope(|scope| {
            let hands: Vec<_> = buffers
                .iter_mut()
                .map(|buffer| scope.spawn(|| self.hand(&watch, &next, buffer, &act)))
                .collect();
            // A panic aborts the process, so that joining cannot fail.
            hands.into_iter().map(|hand| hand.join().expect("a hand ended")).sum()
        });
        let done: io::Result<u64> = done;
        Ok((done?, watch.seconds()))
    }

    fn hand(
        &self,
        watch: &Watch,
        next: &AtomicU64,
        buffer: &mut Blocks,
        act: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut done = 0;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= self.turns_max {
                return Ok(done);
            }
            act(turn, buffer.bytes_mut())?;
            done += 1;
            if !watch.goes_on() {
                return Ok(done);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::watch::Interrupt;

    fn site(interrupt: &Interrupt) -> Site<'_> {
        Site { scratch: None, cpus: None, length: Duration::from_secs(60), interrupt }
    }

    #[test]
    fn a_crew_does_each_turn_once_and_stops_at_the_bound() {
        let crew = Crew { depth: 4, bytes: 8, turns_max: 1000 };
        let seen: Vec<AtomicU64> = (0..1000).map(|_| AtomicU64::new(0)).collect();
        let interrupt = Interrupt::default();
        let (turns, seconds) = crew
            .work(&site(&interrupt), |turn, _| {
                seen[usize::try_from(turn).expect("small")].fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .expect("nothing fails");
        assert_eq!(turns, 1000);
        assert!(seconds > 0.0);
        assert!(seen.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn an_interrupt_ends_a_crew_and_an_error_is_told() {
        let crew = Crew { depth: 2, bytes: 8, turns_max: u64::MAX };
        let interrupt = Interrupt::default();
        let act = |turn, _: &mut [u8]| {
            if turn == 10 {
                interrupt.raise();
            }
            Ok(())
        };
        let (turns, _) = crew.work(&site(&interrupt), act).expect("nothing fails");
        assert!(turns > 10);
        let full = |_, _: &mut [u8]| Err(io::Error::from(io::ErrorKind::StorageFull));
        let error = crew.work(&site(&interrupt), full).expect_err("it fails");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

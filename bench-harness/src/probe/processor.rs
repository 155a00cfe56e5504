//! Probes of the processor and of the way into the kernel.
//!
//! Does: checksum, copy, call the kernel for nothing, wake a thread on another CPU.
//! Does not: touch disk or network.
//! Invariant: what is computed is used, so that no compiler removes the work.
//! Apart because these are the only numbers that do not depend on a device.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::answer::{Answer, Refused, Tally, bandwidth};
use super::cpus::between;
use super::scratch::Blocks;
use super::site::Site;
use crate::limits;

/// What an event counter says when it only wakes.
const WAKE: u64 = 1;
/// What it says when the far side may go.
const GO_HOME: u64 = 2;

/// CRC-32C by the function that the broker uses, over bytes that lie in the cache.
pub fn checksum(site: &Site) -> Answer {
    let bytes = Blocks::noise(limits::PROBE_CHECKSUM_BYTES);
    repeated(site, limits::PROBE_CHECKSUM_BYTES, || {
        black_box(crc32c::crc32c(black_box(bytes.bytes())));
    })
}

/// Copying from memory to memory.
pub fn copy(site: &Site) -> Answer {
    let from = Blocks::noise(limits::PROBE_COPY_BYTES);
    let mut to = Blocks::noise(limits::PROBE_COPY_BYTES);
    repeated(site, limits::PROBE_COPY_BYTES, || {
        to.bytes_mut().copy_from_slice(black_box(from.bytes()));
        black_box(to.bytes());
    })
}

/// A system call that does nothing.
pub fn system_call(site: &Site) -> Answer {
    let mut tally = Tally::default();
    let watch = site.watch();
    loop {
        let begun = Instant::now();
        for _ in 0..limits::PROBE_CALLS_PER_SAMPLE {
            black_box(rustix::process::getppid());
        }
        tally.add(begun.elapsed() / limits::PROBE_CALLS_PER_SAMPLE);
        if !watch.goes_on() {
            return tally.latency();
        }
    }
}

/// One thread wakes another on a different CPU; half of the way there and back.
pub fn wake_up(site: &Site) -> Answer {
    let mut there = Wire::new()?;
    let mut back = Wire::new()?;
    let (mut there_far, mut back_far) = (there.other_end()?, back.other_end()?);
    let tally = between(
        site.cpus,
        || {
            let mut tally = Tally::default();
            let watch = site.watch();
            loop {
                let begun = Instant::now();
                there.ring(WAKE)?;
                back.wait()?;
                tally.add(begun.elapsed() / 2);
                if !watch.goes_on() {
                    there.ring(GO_HOME)?;
                    return Ok(tally);
                }
            }
        },
        || {
            while there_far.wait()? != GO_HOME {
                back_far.ring(WAKE)?;
            }
            Ok(())
        },
    )?;
    tally.latency()
}

fn repeated(site: &Site, bytes: usize, mut work: impl FnMut()) -> Answer {
    let mut done = 0;
    let watch = site.watch();
    loop {
        work();
        done += bytes as u64;
        if !watch.goes_on() {
            return bandwidth(done, watch.seconds());
        }
    }
}

/// An event counter of the kernel.
struct Wire {
    counter: File,
}

impl Wire {
    fn new() -> Result<Self, Refused> {
        Ok(Self { counter: File::from(eventfd(0, EventfdFlags::CLOEXEC)?) })
    }

    fn other_end(&self) -> io::Result<Self> {
        Ok(Self { counter: self.counter.try_clone()? })
    }

    fn ring(&mut self, value: u64) -> io::Result<()> {
        self.counter.write_all(&value.to_ne_bytes())
    }

    fn wait(&mut self) -> io::Result<u64> {
        let mut value = [0; 8];
        self.counter.read_exact(&mut value)?;
        Ok(u64::from_ne_bytes(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::answer::Measured;
    use crate::probe::watch::Interrupt;
    use std::time::Duration;

    #[test]
    fn every_probe_ends_when_its_time_is_over() {
        let interrupt = Interrupt::default();
        let length = Duration::from_millis(1);
        let site = Site { scratch: None, cpus: None, length, interrupt: &interrupt };
        assert!(matches!(checksum(&site), Ok(Measured::Rate { .. })));
        assert!(matches!(copy(&site), Ok(Measured::Rate { .. })));
        assert!(matches!(system_call(&site), Ok(Measured::Latency(_))));
        assert!(matches!(wake_up(&site), Ok(Measured::Latency(_))));
    }

    #[test]
    fn an_interrupted_wake_up_sends_the_far_side_home() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let length = Duration::from_secs(60);
        let site = Site { scratch: None, cpus: None, length, interrupt: &interrupt };
        assert!(matches!(wake_up(&site), Ok(Measured::Latency(spread)) if spread.samples == 1));
    }
}

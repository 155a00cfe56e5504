//! Waiting for sockets and instants.
//!
//! Does: watch sockets through epoll and sleep until one is ready or an instant has come.
//! Does not: know what the sockets are for.
//! Invariants: never sleeps past the instant by more than the kernel's own latency: the timer slack
//! of the thread is one nanosecond.
//! Apart because this is the only place where the generator gives its processor away.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::clock::{SECOND_NS, now_ns};
use crate::limits::EVENTS_MAX;

/// Something happened at a socket.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Which one, as it was called when it was added.
    pub token: usize,
    /// There is something to read, or the other side hung up.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

/// A set of watched sockets.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        // Without this the kernel may wake a sleeper 50 µs late, to save power.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches a socket for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let data = EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Watches a socket for reading and, or no longer, for room to write.
    ///
    /// # Errors
    /// What the system says.
    pub fn watch_write(&self, socket: impl AsFd, token: usize, write: bool) -> io::Result<()> {
        let data = EventData::new_u64(token as u64);
        let flags = if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// Sleeps until a socket is ready or the instant has come; how many are ready.
    ///
    /// # Errors
    /// What the system says; a signal is no error.
    pub fn wait(&mut self, until_ns: u64) -> io::Result<usize> {
        let rest_ns = until_ns.saturating_sub(now_ns());
        let timeout = Timespec {
            tv_sec: (rest_ns / SECOND_NS) as i64,
            tv_nsec: (rest_ns % SECOND_NS) as i64,
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => Ok(self.events.len()),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of those that are ready.
    #[must_use]
    pub fn ready(&self, place: usize) -> Ready {
        let event = self.events[place];
        // Copied out: the kernel's struct is packed.
        let flags = event.flags;
        let data = event.data;
        Ready {
            token: data.u64() as usize,
            readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
            writable: flags.contains(EventFlags::OUT),
        }
    }
}

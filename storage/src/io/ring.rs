//! A core's own io_uring: commits of the journal, readiness of descriptors, and the core's sleep.
//!
//! Does: write whole buffers, watch descriptors, sleep until one of both has news; submit and
//! wait in one system call.
//! Does not: know what a descriptor means, open or close files, decide.
//! Invariants: a buffer under way belongs to the ring until the kernel is done with it; a write is
//! reported once, when all of it was written or it failed.
//! Apart because it is the hot half of the disk and the only unsafe code of the house: the two
//! calls of the `io-uring` crate that hand an operation to the kernel are unsafe, since the memory
//! it names must outlive it. Here it does, by the first invariant.
//!
//! Why a ring beside glommio's three: one turn of its executor costs about ten system calls, and
//! a durable request took three turns (decision 0012 of the broker).
#![allow(unsafe_code, reason = "the operations handed to the kernel name memory; see the header")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::io::{DmaBuffer, DmaFile};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::error::DiskErrorKind;
use crate::io::directory::kind_of;
use crate::limits::{
    RING_COMPLETIONS, RING_NEWS_PER_TURN, RING_NEWS_WORTH_ENTERING, RING_SUBMISSIONS,
};

/// A number that the caller gives a descriptor; below 2^62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(pub u64);

/// What can be done with a watched descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reading would give bytes, a connection, or the end.
    pub readable: bool,
    /// Writing would take bytes.
    pub writable: bool,
    /// The other side will send nothing more; what it sent may still be unread.
    pub peer_done: bool,
    /// Both directions are gone.
    pub hung_up: bool,
}

/// News of the ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Something changed on a watched descriptor.
    Ready {
        /// Which.
        watch: WatchId,
        /// How it is now.
        readiness: Readiness,
        /// Whether the watch goes on by itself.
        goes_on: bool,
    },
    /// A write ended.
    Written {
        /// The caller's number of the write.
        token: u64,
        /// Whether all of it was written.
        result: Result<(), DiskErrorKind>,
    },
}

/// A buffer on its way to a file, see [`crate::io::driver::Driver::append`].
pub struct Append {
    pub(super) file: Rc<DmaFile>,
    pub(super) at: u64,
    pub(super) buffer: DmaBuffer,
}

struct Write {
    append: Append,
    done: usize,
    token: u64,
}

/// The ring of one core. Belongs to the thread that made it.
pub struct Ring {
    ring: IoUring,
    /// Writes under way, by place; the kernel reads their buffers.
    writes: Vec<Option<Write>>,
    free: Vec<usize>,
}

// The two upper bits of the kernel's 64 bits of user data say what completed.
const KIND_SHIFT: u32 = 62;
const WATCH: u64 = 0;
const WRITE: u64 = 1;
const CANCEL: u64 = 2;
const NUMBER: u64 = (1 << KIND_SHIFT) - 1;

const READABLE: u32 = libc::POLLIN as u32;
const WRITABLE: u32 = libc::POLLOUT as u32;
const PEER_DONE: u32 = libc::POLLRDHUP as u32;
const GONE: u32 = (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) as u32;

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// The kernel's reason, see `flumen doctor`.
    pub fn new() -> io::Result<Self> {
        let tuned = IoUring::builder()
            .setup_cqsize(RING_COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(RING_SUBMISSIONS);
        let ring = match tuned {
            // Before Linux 6.1 these modes are unknown; the ring works without, a little slower.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                IoUring::builder().setup_cqsize(RING_COMPLETIONS).build(RING_SUBMISSIONS)?
            }
            tuned => tuned?,
        };
        Ok(Self { ring, writes: Vec::new(), free: Vec::new() })
    }

    /// Reports every change of a descriptor until [`Ring::unwatch`], or until an event says that
    /// the watch does not go on. What is ready already is reported at once.
    pub fn watch(&mut self, descriptor: BorrowedFd<'_>, id: WatchId) {
        self.poll(descriptor.as_raw_fd(), id, READABLE | WRITABLE | PEER_DONE, true);
    }

    /// Reports once that a descriptor is readable. It goes by number, for descriptors that their
    /// owner does not lend. From the next [`Ring::turn`] on the watch holds what the number stood
    /// for then, also when the descriptor is closed: nobody is told of that, and what it stood for
    /// stays open until it becomes readable. A number that stands for nothing then is reported as
    /// readable.
    pub fn watch_once(&mut self, descriptor: RawFd, id: WatchId) {
        self.poll(descriptor, id, READABLE, false);
    }

    fn poll(&mut self, descriptor: RawFd, id: WatchId, mask: u32, multi: bool) {
        let entry = opcode::PollAdd::new(Fd(descriptor), mask).multi(multi).build();
        self.push(entry.user_data(tag(WATCH, id.0)));
    }

    /// Ends a watch; it may be told of once more. Until the next [`Ring::turn`] the kernel still
    /// holds the descriptor: a socket that is closed meanwhile closes then.
    ///
    /// Not by the operation that removes a poll: the kernel refuses that one (`EALREADY`) while news
    /// of the poll wait to be told, which is so whenever something came since the last turn. The poll
    /// then went on for ever, and with it the socket, open for its client and read by nobody.
    pub fn unwatch(&mut self, id: WatchId) {
        let entry = opcode::AsyncCancel::new(tag(WATCH, id.0)).build();
        self.push(entry.user_data(tag(CANCEL, id.0)));
    }

    /// Starts to write a buffer; [`Event::Written`] with this token tells the end.
    pub fn write(&mut self, append: Append, token: u64) {
        let place = self.free.pop().unwrap_or(self.writes.len());
        if place == self.writes.len() {
            self.writes.push(None);
        }
        self.writes[place] = Some(Write { append, done: 0, token });
        self.continue_write(place);
    }

    /// How many writes are under way.
    #[must_use]
    pub fn writing(&self) -> usize {
        self.writes.len() - self.free.len()
    }

    fn continue_write(&mut self, place: usize) {
        let write = self.writes[place].as_ref().expect("a write under way has its place");
        let rest = &write.append.buffer.as_bytes()[write.done..];
        let len = u32::try_from(rest.len()).expect("a commit is bounded far below 4 GiB");
        let entry = opcode::Write::new(Fd(write.append.file.as_raw_fd()), rest.as_ptr(), len)
            .offset(write.append.at + write.done as u64)
            .build();
        self.push(entry.user_data(tag(WRITE, place as u64)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: a poll names no memory. A write names the buffer of an entry of `writes`, which
        // lives on the heap, is neither changed nor dropped before its completion was taken, and
        // is leaked by `drop` if that never comes.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            // Full: hand over what is there. A kernel that cannot take it now can soon.
            let _retried = self.ring.submit();
        }
    }

    /// Hands over what was asked for and gathers what is done. With a patience it sleeps that long
    /// at most, until there is news; without it does not sleep. A signal ends the sleep.
    ///
    /// The kernel tells of twenty finished operations at each entry and keeps the others in the order
    /// in which they finished, a commit behind the news of every socket. So this enters again while it
    /// is told of many, up to [`RING_NEWS_PER_TURN`].
    ///
    /// # Errors
    /// The kernel's reason when the ring is broken; nothing works after that.
    pub fn turn(&mut self, patience: Option<Duration>, news: &mut Vec<Event>) -> io::Result<()> {
        let is_waiting = !self.ring.completion().is_empty();
        let entered = match patience {
            Some(patience) if !is_waiting => {
                let timeout = Timespec::from(patience);
                let arguments = SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
            Some(_) | None => self.gather(),
        };
        bearable(entered)?;
        let mut told = self.take(news);
        let mut all_told = told;
        while told >= RING_NEWS_WORTH_ENTERING && all_told < RING_NEWS_PER_TURN {
            bearable(self.gather())?;
            told = self.take(news);
            all_told += told;
        }
        Ok(())
    }

    /// Hands over what was asked for, if anything was, so that the disk begins with it before the next
    /// [`turn`](Self::turn).
    ///
    /// # Errors
    /// The kernel's reason when the ring is broken; nothing works after that.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        bearable(self.ring.submit())
    }

    fn gather(&mut self) -> io::Result<usize> {
        const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
        let waiting = self.ring.submission().len();
        let count = u32::try_from(waiting).expect("the queue holds fewer");
        // SAFETY: no argument is passed; what is submitted was judged in `push`.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(count, 0, GET_EVENTS, None) }
    }

    /// Takes what the kernel tells of; of how many operations.
    fn take(&mut self, news: &mut Vec<Event>) -> usize {
        let mut unfinished = Vec::new();
        let mut count = 0;
        for done in self.ring.completion() {
            count += 1;
            let number = done.user_data() & NUMBER;
            match done.user_data() >> KIND_SHIFT {
                WATCH => news.extend(watched(number, &done)),
                WRITE => {
                    let place = usize::try_from(number).expect("a place is small");
                    match progress(&mut self.writes[place], done.result()) {
                        Some(event) => {
                            self.free.push(place);
                            news.push(event);
                        }
                        None => unfinished.push(place),
                    }
                }
                _ => {} // an ended watch
            }
        }
        for place in unfinished {
            self.continue_write(place);
        }
        count
    }
}

/// Whether the ring still works after an entry: a time that is over, a signal, or a kernel that has no
/// memory or room for news at the moment is no failure.
fn bearable(entered: io::Result<usize>) -> io::Result<()> {
    match entered.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}

fn tag(kind: u64, number: u64) -> u64 {
    debug_assert!(number <= NUMBER, "numbers stay below 2^62");
    kind << KIND_SHIFT | number & NUMBER
}

/// What a completed poll says; nothing if it was ended on purpose.
fn watched(number: u64, done: &cqueue::Entry) -> Option<Event> {
    let goes_on = cqueue::more(done.flags());
    if done.result() == -libc::ECANCELED || done.result() == -libc::ENOENT {
        return None;
    }
    let readiness = match u32::try_from(done.result()) {
        Ok(mask) => Readiness {
            readable: mask & READABLE != 0,
            writable: mask & WRITABLE != 0,
            peer_done: mask & PEER_DONE != 0,
            hung_up: mask & GONE != 0,
        },
        // A descriptor that cannot be polled: its owner finds out why when it uses it.
        Err(_) => Readiness { readable: true, writable: true, peer_done: true, hung_up: false },
    };
    Some(Event::Ready { watch: WatchId(number), readiness, goes_on })
}

/// Takes the end of a write into account; nothing if the rest must follow (a short write is no
/// failure yet).
fn progress(place: &mut Option<Write>, result: i32) -> Option<Event> {
    let write = place.as_mut().expect("a completion belongs to a write");
    let result = match usize::try_from(result) {
        Err(_) => Err(kind_of(&io::Error::from_raw_os_error(-result))),
        Ok(0) => Err(DiskErrorKind::Io(libc::EIO)),
        Ok(count) => {
            write.done += count;
            let is_aligned = (write.done as u64).is_multiple_of(write.append.file.alignment());
            if write.done >= write.append.buffer.len() {
                Ok(())
            } else if is_aligned {
                return None;
            } else {
                Err(DiskErrorKind::Io(libc::EIO))
            }
        }
    };
    let token = write.token;
    *place = None;
    Some(Event::Written { token, result })
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still read what is under way: better lost than reused.
        mem::forget(mem::take(&mut self.writes));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use glommio::LocalExecutor;
    use glommio::io::OpenOptions;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(1));
    const LONG: Option<Duration> = Some(Duration::from_secs(20));

    fn news(ring: &mut Ring, patience: Option<Duration>) -> Vec<Event> {
        let mut news = Vec::new();
        ring.turn(patience, &mut news).unwrap();
        news
    }

    fn readiness(news: &[Event], id: u64) -> Readiness {
        let of = |event: &Event| match event {
            Event::Ready { watch, readiness, .. } if watch.0 == id => Some(*readiness),
            Event::Ready { .. } | Event::Written { .. } => None,
        };
        news.iter().rev().find_map(of).expect("news of this watch")
    }

    #[test]
    fn a_watched_socket_tells_of_bytes_and_of_the_end_until_it_is_let_go() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut ring = Ring::new().unwrap();
        ring.watch(near.as_fd(), WatchId(7));
        assert!(!readiness(&news(&mut ring, LONG), 7).readable, "writable from the start");
        assert_eq!(news(&mut ring, SOON), [], "no news of an old state");
        far.write_all(b"x").unwrap();
        assert!(readiness(&news(&mut ring, LONG), 7).readable);
        (&near).read_exact(&mut [0]).unwrap();
        far.write_all(b"y").unwrap();
        assert!(readiness(&news(&mut ring, LONG), 7).readable, "every arrival is told");
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(readiness(&news(&mut ring, LONG), 7).peer_done);
        ring.unwatch(WatchId(7));
        news(&mut ring, None);
        far.write_all(b"z").unwrap_or_default();
        drop(far);
        assert_eq!(news(&mut ring, SOON), []);
    }

    /// What came in between is where a watch is easily missed: the kernel has taken it up to tell
    /// of it, and will at the next turn.
    #[test]
    fn a_socket_that_is_let_go_just_after_something_came_is_closed_for_the_other_side() {
        let mut ring = Ring::new().unwrap();
        for round in 0..100 {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.set_read_timeout(LONG).unwrap();
            ring.watch(near.as_fd(), WatchId(round));
            news(&mut ring, None);
            far.write_all(b"x").unwrap();
            ring.unwatch(WatchId(round));
            drop(near);
            let told = news(&mut ring, None);
            assert!(told.len() <= 1, "at most what came before: {told:?}");
            match far.read(&mut [0]) {
                Ok(count) => assert_eq!(count, 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
            assert_eq!(news(&mut ring, None), []);
        }
    }

    #[test]
    fn a_single_watch_tells_once() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut ring = Ring::new().unwrap();
        ring.watch_once(near.as_raw_fd(), WatchId(1));
        assert_eq!(news(&mut ring, SOON), []);
        far.write_all(b"x").unwrap();
        let told = news(&mut ring, LONG);
        assert!(matches!(told[..], [Event::Ready { goes_on: false, .. }]), "{told:?}");
        far.write_all(b"x").unwrap();
        assert_eq!(news(&mut ring, SOON), []);
    }

    #[test]
    fn more_watches_than_the_queue_holds_are_all_told() {
        let mut ring = Ring::new().unwrap();
        let count = u64::from(RING_SUBMISSIONS) + 100;
        let pairs: Vec<_> = (0..count).map(|_| UnixStream::pair().unwrap()).collect();
        for ((near, _), id) in pairs.iter().zip(0..) {
            ring.watch(near.as_fd(), WatchId(id));
        }
        let mut told = 0;
        while told < count {
            told += news(&mut ring, LONG).len() as u64;
        }
        assert_eq!(told, count);
    }

    /// One entry brings twenty, in the order in which they finished: a commit behind the news of a crowd
    /// would wait for as many turns as it has twenties.
    #[test]
    fn one_turn_brings_the_news_of_a_whole_crowd() {
        let mut ring = Ring::new().unwrap();
        let pairs: Vec<_> = (0..200).map(|_| UnixStream::pair().unwrap()).collect();
        for ((near, _), id) in pairs.iter().zip(0..) {
            ring.watch(near.as_fd(), WatchId(id));
        }
        let mut writable = 0;
        while writable < pairs.len() {
            writable += news(&mut ring, LONG).len();
        }
        for (_, far) in &pairs {
            (&*far).write_all(b"x").unwrap();
        }
        assert_eq!(news(&mut ring, None).len(), pairs.len());
    }

    /// A file of 64 KiB opened with glommio, and its path, which is removed afterwards.
    fn with_file(name: &str, story: impl AsyncFnOnce(Rc<DmaFile>, &std::path::Path)) {
        let path = std::env::temp_dir().join(format!("flumen-ring-{}-{name}", std::process::id()));
        std::fs::write(&path, vec![1; 64 << 10]).unwrap();
        LocalExecutor::default().run(async {
            let read_only = name == "read-only";
            let options = OpenOptions::new().read(true).write(!read_only).dma_open(&path).await;
            story(Rc::new(options.unwrap()), &path).await;
        });
        std::fs::remove_file(&path).unwrap();
    }

    fn append(file: &Rc<DmaFile>, at: u64, bytes: &[u8]) -> Append {
        let mut buffer = glommio::allocate_dma_buffer(bytes.len());
        buffer.as_bytes_mut().copy_from_slice(bytes);
        Append { file: Rc::clone(file), at, buffer }
    }

    #[test]
    fn writes_land_where_they_belong_and_are_told_by_their_tokens() {
        with_file("writes", async |file, path| {
            let mut ring = Ring::new().unwrap();
            ring.write(append(&file, 4096, &[2; 8192]), 11);
            ring.write(append(&file, 32768, &[3; 4096]), 12);
            assert_eq!(ring.writing(), 2);
            let mut told = Vec::new();
            while ring.writing() > 0 {
                told.extend(news(&mut ring, LONG));
            }
            told.sort_by_key(|event| format!("{event:?}"));
            let done = |token| Event::Written { token, result: Ok(()) };
            assert_eq!(told, [done(11), done(12)]);
            let bytes = std::fs::read(path).unwrap();
            assert_eq!((bytes[4095], bytes[4096], bytes[12287], bytes[12288]), (1, 2, 2, 1));
            assert_eq!((bytes[32767], bytes[32768], bytes[36864]), (1, 3, 1));
        });
    }

    #[test]
    fn a_refused_write_is_told_with_the_reason() {
        with_file("read-only", async |file, _| {
            let mut ring = Ring::new().unwrap();
            ring.write(append(&file, 0, &[2; 4096]), 5);
            let told = news(&mut ring, LONG);
            let result = Err(DiskErrorKind::Io(libc::EBADF));
            assert_eq!(told, [Event::Written { token: 5, result }]);
            assert_eq!(ring.writing(), 0);
        });
    }
}

//! All members of a group on one thread: their sockets, and when everybody has what it shall have.
//!
//! Does: connect members, send what is due, take answers in, keep count of who has which partition,
//! time how long a change of the group takes.
//! Does not: know the protocols; `member` does.
//! Invariants: a partition that two members believe to have ends the measurement.
//! Apart because what moves a group and what is measured of it are two things.

use std::fmt;
use std::io;

use bytes::Bytes;

use super::member::{Member, Terms};
use super::owners::{Owners, Shared};
use crate::client::{ClientFault, dial};
use crate::clock::now_ns;
use crate::load::poller::Poller;
use crate::load::wire::{Received, Wire};

/// Why a measurement of a group ended before its time.
#[derive(Debug)]
pub enum CrowdFault {
    /// A broker is not there.
    Client(ClientFault),
    /// This machine did not do what it should.
    System(io::Error),
    /// A member was told something it cannot go on from.
    Member(String),
    /// A partition was with two members at once.
    Shared(Shared),
    /// The group did not settle in time.
    Late {
        /// How long was waited, milliseconds.
        waited_ms: u64,
        /// Members that have not what they shall have.
        unsettled: usize,
        /// Partitions that nobody has.
        free: usize,
    },
}

impl fmt::Display for CrowdFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(fault) => fault.fmt(f),
            Self::System(error) => error.fmt(f),
            Self::Member(reason) => f.write_str(reason),
            Self::Shared(Shared { partition, had, given }) => {
                write!(f, "partition {partition} of member {had} was given to member {given} too")
            }
            Self::Late { waited_ms, unsettled, free } => write!(
                f,
                "not settled after {waited_ms} ms: {unsettled} members wait, {free} partitions are \
                 with nobody"
            ),
        }
    }
}

impl std::error::Error for CrowdFault {}

impl From<io::Error> for CrowdFault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

struct Seat {
    member: Member,
    wire: Wire,
    watches_write: bool,
}

/// The members.
pub struct Crowd {
    terms: Terms,
    seats: Vec<Seat>,
    owners: Owners,
    poller: Poller,
    /// Members that are in the group, or on their way in.
    inside: usize,
    /// The newest generation or epoch that everybody was in.
    epoch: i32,
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl Crowd {
    /// Connects so many members to the group's coordinator.
    ///
    /// # Errors
    /// It is not there, or this machine has no more sockets.
    pub fn connect(terms: Terms, coordinator: &str, members: usize) -> Result<Self, CrowdFault> {
        let poller = Poller::new()?;
        let mut seats = Vec::with_capacity(members);
        for number in 0..members {
            let stream = dial(coordinator).map_err(CrowdFault::Client)?;
            let wire = Wire::new(stream)?;
            poller.add(&wire.stream, number)?;
            let member = Member::new(terms.kind, number);
            seats.push(Seat { member, wire, watches_write: false });
        }
        let owners = Owners::new(usize::try_from(terms.partitions).unwrap_or(0));
        Ok(Self { terms, seats, owners, poller, inside: 0, epoch: -1 })
    }

    /// Lets all but the last `outside` members join at once; how long it takes until all have
    /// their share, nanoseconds.
    ///
    /// # Errors
    /// As [`Crowd::settle`].
    pub fn form(&mut self, outside: usize, within_ns: u64) -> Result<u64, CrowdFault> {
        let began_ns = now_ns();
        self.inside = self.seats.len() - outside;
        self.seats.iter_mut().take(self.inside).for_each(|seat| seat.member.join(began_ns));
        self.settle(began_ns, within_ns)
    }

    /// A member that is outside joins; how long it takes until all have their share, nanoseconds.
    ///
    /// # Errors
    /// As [`Crowd::settle`].
    pub fn join_one(&mut self, within_ns: u64) -> Result<u64, CrowdFault> {
        let began_ns = now_ns();
        let outside = self.seats.iter_mut().find(|seat| seat.member.is_away());
        outside.expect("somebody is outside").member.join(began_ns);
        self.inside += 1;
        self.settle(began_ns, within_ns)
    }

    /// Member `place` leaves; how long it takes until all others have their share, nanoseconds.
    ///
    /// # Errors
    /// As [`Crowd::settle`].
    pub fn leave_one(&mut self, place: usize, within_ns: u64) -> Result<u64, CrowdFault> {
        let began_ns = now_ns();
        let had = self.seats[place].member.leave(began_ns);
        self.owners.moved(place, &had, &[]).map_err(CrowdFault::Shared)?;
        self.inside -= 1;
        self.settle(began_ns, within_ns)
    }

    /// Lets the group go on until everybody in it has its share of a newer generation and each
    /// partition has an owner.
    ///
    /// # Errors
    /// See [`CrowdFault`].
    fn settle(&mut self, began_ns: u64, within_ns: u64) -> Result<u64, CrowdFault> {
        let deadline_ns = began_ns + within_ns;
        loop {
            if let Some(epoch) = self.settled_in() {
                self.epoch = epoch;
                return Ok(now_ns() - began_ns);
            }
            if now_ns() >= deadline_ns {
                return Err(self.late(within_ns));
            }
            self.turn(deadline_ns)?;
        }
    }

    /// Lets the group live on in peace.
    ///
    /// # Errors
    /// See [`CrowdFault`].
    pub fn rest(&mut self, for_ns: u64) -> Result<(), CrowdFault> {
        let until_ns = now_ns() + for_ns;
        while now_ns() < until_ns {
            self.turn(until_ns)?;
        }
        Ok(())
    }

    /// Sends what is due, waits, takes in what has come.
    fn turn(&mut self, until_ns: u64) -> Result<(), CrowdFault> {
        let now = now_ns();
        let mut next_ns = until_ns;
        for (token, seat) in self.seats.iter_mut().enumerate() {
            if seat.member.due_ns() <= now {
                let frame = seat.member.ask(&self.terms);
                seat.wire.send(&frame)?;
                seat.watch(&self.poller, token)?;
            }
            next_ns = next_ns.min(seat.member.due_ns());
        }
        let ready = self.poller.wait(next_ns)?;
        for place in 0..ready {
            let ready = self.poller.ready(place);
            if ready.writable {
                let seat = &mut self.seats[ready.token];
                seat.wire.flush()?;
                seat.watch(&self.poller, ready.token)?;
            }
            if ready.readable {
                self.receive(ready.token)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, token: usize) -> Result<(), CrowdFault> {
        let seat = &mut self.seats[token];
        let received = seat.wire.receive()?;
        while let Some(place) = seat.wire.next_answer()? {
            let payload = Bytes::copy_from_slice(seat.wire.answer(place));
            let had = seat.member.has().to_vec();
            seat.member
                .answered(&self.terms, payload, now_ns())
                .map_err(|reason| CrowdFault::Member(format!("member {token}: {reason}")))?;
            if seat.member.has() != had {
                self.owners.moved(token, &had, seat.member.has()).map_err(CrowdFault::Shared)?;
            }
        }
        match received {
            Received::Drained => Ok(()),
            Received::Closed => {
                Err(CrowdFault::Member(format!("member {token}: the broker closed its connection")))
            }
        }
    }

    /// The generation or epoch that everybody has arrived in, if it is a new one.
    fn settled_in(&self) -> Option<i32> {
        if !self.owners.is_complete() {
            return None;
        }
        let mut settled = self.seats.iter().filter_map(|seat| seat.member.settled_in());
        let epoch = settled.next()?;
        let count = settled.try_fold(1, |count, other| (other == epoch).then_some(count + 1))?;
        (count == self.inside && epoch > self.epoch).then_some(epoch)
    }

    fn late(&self, within_ns: u64) -> CrowdFault {
        let settled = self.seats.iter().filter(|seat| seat.member.settled_in().is_some()).count();
        CrowdFault::Late {
            waited_ms: within_ns / 1_000_000,
            unsettled: self.inside.saturating_sub(settled),
            free: self.owners.free(),
        }
    }
}

impl Seat {
    fn watch(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        let write = !self.wire.is_flushed();
        if write != self.watches_write {
            self.watches_write = write;
            poller.watch_write(&self.wire.stream, token, write)?;
        }
        Ok(())
    }
}

//! Connections without traffic, and those that come and go.
//!
//! Does: keep idle connections, open passing ones on schedule, ask each for ApiVersions, close it.
//! Does not: produce or consume.
//! Invariants: a passing connection never blocks the loop: it comes about on the side; each ends as
//! answered or failed, exactly once.
//! Apart because their tokens come and go while those of producers and consumers stay.

use std::io;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::{ApiVersionsRequest, encode_request};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::poller::{Poller, Ready};
use super::schedule::Schedule;
use super::wire::{Received, Wire};
use crate::histogram::{self, Nanos};
use crate::limits::{CHURN_TIMEOUT_MS, CLIENT_ID};
use crate::outcome::load::CrowdOutcome;

/// Tokens from here on are guests of the crowd.
pub const GUEST_BASE: usize = 1 << 32;

/// Connections without traffic.
#[derive(Debug)]
pub struct Crowd {
    target: Option<SocketAddr>,
    schedule: Option<Schedule>,
    guests: Vec<Option<Guest>>,
    free: Vec<usize>,
    question: Bytes,
    idle: u64,
    idle_lost: u64,
    churned: u64,
    churn_failed: u64,
    churn: Nanos,
}

#[derive(Debug)]
struct Guest {
    wire: Wire,
    /// When it was due, where it only passes.
    passing_since_ns: Option<u64>,
}

impl Default for Crowd {
    fn default() -> Self {
        let question = encode_request(
            ApiKey::ApiVersions,
            0,
            1,
            Some(CLIENT_ID),
            &ApiVersionsRequest::default(),
        )
        .expect("version 0 has no fields");
        Self {
            target: None,
            schedule: None,
            guests: Vec::new(),
            free: Vec::new(),
            question,
            idle: 0,
            idle_lost: 0,
            churned: 0,
            churn_failed: 0,
            churn: histogram::empty(),
        }
    }
}

impl Crowd {
    /// Lets so many connections per second come and go from now on.
    pub fn churn(&mut self, target: SocketAddr, per_second: u32, now_ns: u64) {
        self.target = Some(target);
        self.schedule = (per_second > 0).then(|| Schedule::new(now_ns, f64::from(per_second)));
    }

    /// No more come.
    pub fn end_churn(&mut self) {
        self.schedule = None;
    }

    /// Takes in one that stays; it has had its answer.
    pub(super) fn add_idle(&mut self, poller: &Poller, wire: Wire) -> io::Result<()> {
        self.idle += 1;
        if self.target.is_none() {
            self.target = wire.stream.peer_addr().ok();
        }
        let place = self.place();
        poller.add(&wire.stream, GUEST_BASE + place)?;
        self.guests[place] = Some(Guest { wire, passing_since_ns: None });
        Ok(())
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.schedule.map_or(u64::MAX, |schedule| schedule.next_due_ns())
    }

    /// Whether all that were to stay are gone.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.idle > 0 && self.idle == self.idle_lost
    }

    /// Whom it visits.
    #[must_use]
    pub fn address(&self) -> String {
        self.target.map(|target| target.to_string()).unwrap_or_default()
    }

    /// Lets those come that are due.
    pub(super) fn pass(&mut self, poller: &Poller, now_ns: u64) {
        while let (Some(schedule), Some(target)) = (&mut self.schedule, self.target) {
            let Some(due_ns) = schedule.take_due(now_ns) else { return };
            let place = self.place();
            match self.visit(poller, place, target, due_ns) {
                Ok(guest) => self.guests[place] = Some(guest),
                Err(_) => {
                    self.churn_failed += 1;
                    self.free.push(place);
                }
            }
        }
    }

    fn visit(
        &self,
        poller: &Poller,
        place: usize,
        target: SocketAddr,
        due_ns: u64,
    ) -> io::Result<Guest> {
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut wire = Wire::new(TcpStream::from(socket))?;
        wire.gather(&self.question);
        let token = GUEST_BASE + place;
        poller.add(&wire.stream, token)?;
        poller.watch_write(&wire.stream, token, true)?;
        Ok(Guest { wire, passing_since_ns: Some(due_ns) })
    }

    /// Something happened to a guest. `counts`: the measured part is on.
    pub(super) fn serve(&mut self, poller: &Poller, ready: Ready, now_ns: u64, counts: bool) {
        let place = ready.token - GUEST_BASE;
        let Some(Some(guest)) = self.guests.get_mut(place) else { return };
        let (wire, passing) = (&mut guest.wire, guest.passing_since_ns);
        let outcome = converse(wire, poller, ready);
        match (passing, outcome) {
            (_, Ok(Talk::Goes)) => return,
            (None, Ok(Talk::Answered)) => return,
            (None, Ok(Talk::Closed) | Err(_)) => self.idle_lost += 1,
            (Some(since_ns), Ok(Talk::Answered)) => {
                if counts {
                    self.churned += 1;
                    histogram::record(&mut self.churn, now_ns.saturating_sub(since_ns));
                }
            }
            (Some(_), Ok(Talk::Closed) | Err(_)) => self.churn_failed += u64::from(counts),
        }
        self.guests[place] = None;
        self.free.push(place);
    }

    /// What came of it; those that wait too long for their answer have failed.
    #[must_use]
    pub fn outcome(&self, now_ns: u64) -> Option<CrowdOutcome> {
        if self.idle == 0 && self.churned + self.churn_failed == 0 && self.target.is_none() {
            return None;
        }
        let late_ns = now_ns.saturating_sub(CHURN_TIMEOUT_MS * 1_000_000);
        let late = self
            .guests
            .iter()
            .flatten()
            .filter(|guest| guest.passing_since_ns.is_some_and(|since_ns| since_ns < late_ns));
        Some(CrowdOutcome {
            idle: self.idle,
            idle_lost: self.idle_lost,
            churned: self.churned,
            churn_failed: self.churn_failed + late.count() as u64,
            churn: histogram::latency(&self.churn),
        })
    }

    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.guests.push(None);
            self.guests.len() - 1
        })
    }
}

/// Where a guest's visit stands.
enum Talk {
    Goes,
    Answered,
    Closed,
}

fn converse(wire: &mut Wire, poller: &Poller, ready: Ready) -> io::Result<Talk> {
    if ready.writable && wire.flush()? {
        poller.watch_write(&wire.stream, ready.token, false)?;
    }
    if !ready.readable {
        return Ok(Talk::Goes);
    }
    let received = wire.receive()?;
    if wire.next_answer()?.is_some() {
        return Ok(Talk::Answered);
    }
    Ok(match received {
        Received::Drained => Talk::Goes,
        Received::Closed => Talk::Closed,
    })
}

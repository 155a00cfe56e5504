//! `flumen-bench null`: a responder that answers like a broker and keeps nothing.
//!
//! Does: accept connections, answer what load generators ask, stall on request.
//! Does not: store a record, forget a client's mistakes, or serve consumers anything but silence.
//! Invariants: answers are well-formed at every version it claims; one thread, so that a
//! generator's cost can be told from its partner's.
//! Apart because a generator can only be measured against something that costs nearly nothing.

pub mod responder;
mod transactions;

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use crate::clock::now_ns;
use crate::limits::NULL_PATIENCE_MS;
use crate::load::poller::{Poller, Ready};
use crate::load::wire::{Received, Wire};
use responder::{Reply, Responder};

/// Answers like a broker and keeps nothing.
#[derive(Clone, Debug, Args)]
pub struct NullArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub listen: String,
    /// Run on this CPU only.
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// Answer nobody for this long, once: a load generator that hides it omits coordinatedly.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub stall_ms: u64,
    /// When to stall, counted from the first record.
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    pub stall_after_ms: u64,
    /// What is said to be finalised as `transaction.version`: below 2 producers name the partitions
    /// of a transaction beforehand.
    #[arg(long, value_name = "N", default_value_t = transactions::LEVEL_MAX,
        value_parser = clap::value_parser!(i16).range(0..=2))]
    pub transaction_version: i16,
    /// End when standard input ends, so that nothing stays behind when the caller dies.
    #[arg(long)]
    pub until_input_ends: bool,
}

/// When to answer nobody.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// Since the first record.
    pub after: Duration,
    /// For how long.
    pub length: Duration,
}

/// Runs the subcommand.
#[must_use]
pub fn main(args: &NullArgs) -> ExitCode {
    match attempt(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("flumen-bench null: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(args: &NullArgs) -> Result<(), String> {
    if let Some(cpu) = args.cpu {
        crate::load::pin(cpu).map_err(|error| format!("cannot run on CPU {cpu}: {error}"))?;
    }
    let stop = crate::load::stop_on_signal()?;
    let refused = |error: io::Error| format!("cannot listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(&args.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    println!("listening on {address}");
    // Whoever waits for the line on a pipe would wait for a full buffer.
    let _ = io::stdout().flush();
    let stall = (args.stall_ms > 0).then(|| Stall {
        after: Duration::from_millis(args.stall_after_ms),
        length: Duration::from_millis(args.stall_ms),
    });
    let served = Null::new(listener, stall, args.transaction_version).and_then(|mut null| {
        if args.until_input_ends {
            null.poller.add(io::stdin(), INPUT)?;
        }
        null.serve(&stop)
    });
    served.map_err(|error| error.to_string())
}

const LISTENER: usize = 0;
const INPUT: usize = 1;
const FIRST_GUEST: usize = 2;

/// A listening responder.
#[derive(Debug)]
pub struct Null {
    listener: TcpListener,
    poller: Poller,
    guests: Vec<Option<Guest>>,
    responder: Responder,
    stall: Option<Stall>,
    first_record_ns: Option<u64>,
    /// Fetches that wait: until when, for whom, and what they will get.
    waiting: Vec<(u64, usize, Vec<u8>)>,
}

/// A connection.
#[derive(Debug)]
struct Guest {
    wire: Wire,
    watches_write: bool,
}

impl Null {
    /// Takes a listener over. `transaction_version` is the level that is said to be finalised.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(
        listener: TcpListener,
        stall: Option<Stall>,
        transaction_version: i16,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER)?;
        let responder = Responder::new(listener.local_addr()?, transaction_version);
        Ok(Self {
            listener,
            poller,
            guests: Vec::new(),
            responder,
            stall,
            first_record_ns: None,
            waiting: Vec::new(),
        })
    }

    /// Answers until `stop` becomes true or standard input ends.
    ///
    /// # Errors
    /// What the system says about the listener; guests that fail are only dropped.
    pub fn serve(&mut self, stop: &Arc<AtomicBool>) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let now = now_ns();
            let patience_ns = now + NULL_PATIENCE_MS * 1_000_000;
            let next = self.waiting.iter().map(|(until_ns, _, _)| *until_ns).min();
            let ready = self.poller.wait(next.unwrap_or(patience_ns).min(patience_ns))?;
            self.stall_when_due();
            for place in 0..ready {
                let ready = self.poller.ready(place);
                match ready.token {
                    LISTENER => self.accept()?,
                    INPUT => {
                        if io::Read::read(&mut io::stdin(), &mut [0; 64])? == 0 {
                            return Ok(());
                        }
                    }
                    _ => self.serve_guest(ready),
                }
            }
            self.release();
        }
        Ok(())
    }

    fn stall_when_due(&mut self) {
        let (Some(stall), Some(first_ns)) = (self.stall, self.first_record_ns) else { return };
        if now_ns() >= first_ns + stall.after.as_nanos() as u64 {
            std::thread::sleep(stall.length);
            self.stall = None;
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The guest left before it was let in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let wire = Wire::new(stream)?;
        let free = self.guests.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.guests.push(None);
            self.guests.len() - 1
        });
        self.poller.add(&wire.stream, FIRST_GUEST + place)?;
        self.guests[place] = Some(Guest { wire, watches_write: false });
        Ok(())
    }

    fn serve_guest(&mut self, ready: Ready) {
        let place = ready.token - FIRST_GUEST;
        let kept = self.converse(place, ready);
        if !kept.unwrap_or(false) {
            // Dropping the socket also ends its watching.
            self.guests[place] = None;
            self.waiting.retain(|(_, guest, _)| *guest != place);
        }
    }

    /// Reads, answers, writes; whether the guest stays.
    fn converse(&mut self, place: usize, ready: Ready) -> io::Result<bool> {
        let Some(guest) = &mut self.guests[place] else { return Ok(false) };
        let received = if ready.readable { guest.wire.receive()? } else { Received::Drained };
        let mut answers = Vec::new();
        while let Some(question) = guest.wire.next_answer()? {
            let before = answers.len();
            let reply = self.responder.answer(guest.wire.answer(question), &mut answers);
            match reply {
                Reply::Now => {}
                Reply::Recorded => {
                    self.first_record_ns.get_or_insert_with(now_ns);
                }
                Reply::After(wait) => {
                    let until_ns = now_ns() + wait.as_nanos() as u64;
                    self.waiting.push((until_ns, place, answers.split_off(before)));
                }
                Reply::HangUp => return Ok(false),
            }
        }
        self.write(place, &answers)?;
        Ok(received == Received::Drained)
    }

    fn write(&mut self, place: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(guest) = &mut self.guests[place] else { return Ok(()) };
        guest.wire.send(bytes)?;
        let flushed = guest.wire.is_flushed();
        if flushed == guest.watches_write {
            guest.watches_write = !flushed;
            self.poller.watch_write(&guest.wire.stream, FIRST_GUEST + place, !flushed)?;
        }
        Ok(())
    }

    /// Answers fetches that waited long enough.
    fn release(&mut self) {
        let now = now_ns();
        while let Some(at) = self.waiting.iter().position(|(until_ns, _, _)| *until_ns <= now) {
            let (_, place, answer) = self.waiting.swap_remove(at);
            if self.write(place, &answer).is_err() {
                self.guests[place] = None;
            }
        }
    }
}

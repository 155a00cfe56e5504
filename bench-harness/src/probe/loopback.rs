//! Probes of the network inside the machine.
//!
//! Does: send messages to and fro, and one stream in one direction, over 127.0.0.1.
//! Does not: leave the machine, nor use any port but the one the kernel hands out.
//! Invariants: nobody waits for ever: a silent connection is given up; the far side ends when the
//! near side closes.
//! Apart because a broker on loopback can never answer faster than this.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::answer::{Answer, Refused, Tally, bandwidth};
use super::cpus::{CpuPair, between};
use super::site::Site;
use crate::limits;

/// Round trip of a small message, threads wherever the scheduler puts them.
pub fn round_trip(site: &Site) -> Answer {
    ping(site, None)
}

/// Round trip of a small message between two CPUs.
pub fn round_trip_pinned(site: &Site) -> Answer {
    ping(site, site.cpus)
}

/// Bytes per second of one stream between two CPUs.
pub fn stream(site: &Site) -> Answer {
    let (mut near, mut far) = connected()?;
    let bytes = vec![1; limits::PROBE_SOCKET_BYTES];
    let (sent, seconds) = between(
        site.cpus,
        // Each end moves into the side that uses it, so that its end is the other's end.
        move || {
            let mut sent = 0;
            let watch = site.watch();
            while watch.goes_on() {
                near.write_all(&bytes)?;
                sent += bytes.len() as u64;
            }
            near.shutdown(Shutdown::Write)?;
            // The stream is through when the far side has read its end and closed.
            let more = near.read(&mut [0])?;
            assert_eq!(more, 0, "the far side sends nothing");
            Ok((sent, watch.seconds()))
        },
        move || {
            let mut bytes = vec![0; limits::PROBE_SOCKET_BYTES];
            while far.read(&mut bytes)? > 0 {}
            Ok(())
        },
    )?;
    bandwidth(sent, seconds)
}

fn ping(site: &Site, cpus: Option<CpuPair>) -> Answer {
    let (mut near, mut far) = connected()?;
    let tally = between(
        cpus,
        move || {
            let mut message = vec![7; limits::PROBE_MESSAGE_BYTES];
            let mut tally = Tally::default();
            let watch = site.watch();
            loop {
                let begun = Instant::now();
                near.write_all(&message)?;
                near.read_exact(&mut message)?;
                tally.add(begun.elapsed());
                if !watch.goes_on() {
                    return Ok(tally);
                }
            }
        },
        move || echo(&mut far),
    )?;
    tally.latency()
}

/// Sends back whatever comes, message by message, until the other side closes.
fn echo(far: &mut TcpStream) -> Result<(), Refused> {
    let mut message = vec![0; limits::PROBE_MESSAGE_BYTES];
    loop {
        match far.read_exact(&mut message) {
            Ok(()) => far.write_all(&message)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Two ends of a new connection.
fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = loop {
        // A stranger may have found the port meanwhile; ours is already in the queue.
        let (far, peer) = listener.accept()?;
        if peer == near.local_addr()? {
            break far;
        }
    };
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        let silence = Some(Duration::from_secs(limits::PROBE_SILENCE_SECONDS));
        end.set_read_timeout(silence)?;
        end.set_write_timeout(silence)?;
    }
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::answer::Measured;
    use crate::probe::watch::Interrupt;

    #[test]
    fn both_probes_end_when_their_time_is_over() {
        let interrupt = Interrupt::default();
        let site =
            Site { scratch: None, cpus: None, length: Duration::ZERO, interrupt: &interrupt };
        assert!(matches!(round_trip(&site), Ok(Measured::Latency(spread)) if spread.samples == 1));
        assert!(matches!(stream(&site), Err(Refused::Failed(_))), "no time, no bytes, no rate");
    }
}

//! The last moments of a connection that the broker ends.
//!
//! Does: say that no more answers come, then throw away what the client still sends until it has
//! heard that.
//! Does not: keep time or count connections; `connections.rs` does.
//! Invariants: nothing thrown away is held; it is at most [`PARTING_BYTES_MAX`] of a connection.
//! Apart because the reason is not to be seen in the code: a socket that is closed while received
//! bytes lie in it, or that receives any afterwards, is reset by the kernel, and a reset takes along
//! the answers that are still on their way to the client.

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};

use super::connection::Worked;
use crate::limits::{PARTING_BYTES_MAX, READS_PER_TURN};

/// A connection whose last answer was given to the kernel.
pub struct Parting {
    /// How much more may be thrown away.
    left: usize,
}

impl Parting {
    /// Tells the client that nothing more comes; nothing if its socket is beyond that.
    pub fn begin(stream: &TcpStream) -> Option<Self> {
        stream.shutdown(Shutdown::Write).ok()?;
        Some(Self { left: PARTING_BYTES_MAX })
    }

    /// Throws away what has come, as much as a turn allows. It is over when the client has nothing
    /// more to say, or does not stop.
    pub fn discard(&mut self, stream: &mut TcpStream, scratch: &mut [u8]) -> Worked {
        for _ in 0..READS_PER_TURN {
            match stream.read(scratch) {
                Ok(0) => return Worked::Ended,
                Ok(count) => self.left = self.left.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Worked::Waits,
                Err(_) => return Worked::Ended,
            }
            if self.left == 0 {
                return Worked::Ended;
            }
        }
        Worked::HasMore
    }
}

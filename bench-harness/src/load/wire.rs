//! One non-blocking connection: bytes in, frames out, and the other way round.
//!
//! Does: read what is there, find whole answers, write what fits and keep the rest.
//! Does not: wait, know what the bytes mean, or know whose connection it is.
//! Invariants: answers are handed out in place, in order, whole; bytes are written in the order they
//! were given.
//! Apart because the loop above it should be about requests, not about bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use crate::limits::ANSWER_BYTES_MAX;

/// Room for answers at first: those to Produce fit.
const INBOX_BYTES: usize = 4 << 10;
const SIZE_BYTES: usize = 4;

/// A connection and what is on its way.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    /// Received; `taken..filled` is not handed out yet.
    inbox: Vec<u8>,
    taken: usize,
    filled: usize,
    /// To be written from `written` on.
    outbox: Vec<u8>,
    written: usize,
}

/// What a reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Everything the kernel had.
    Drained,
    /// The other side will send no more.
    Closed,
}

impl Wire {
    /// Takes a connection over.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Vec::new(), taken: 0, filled: 0, outbox: Vec::new(), written: 0 })
    }

    /// Reads until the kernel has no more, or one largest answer is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&mut self) -> io::Result<Received> {
        loop {
            self.make_room();
            let room = self.inbox.len() - self.filled;
            match self.stream.read(&mut self.inbox[self.filled..]) {
                Ok(0) => return Ok(Received::Closed),
                Ok(count) => {
                    self.filled += count;
                    // A reading that did not fill the room found the kernel's last byte.
                    if count < room || self.filled - self.taken > ANSWER_BYTES_MAX {
                        return Ok(Received::Drained);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Drained);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the next whole answer lies, without its size; nothing until it is complete.
    ///
    /// # Errors
    /// A size that no answer has.
    pub fn next_answer(&mut self) -> io::Result<Option<Range<usize>>> {
        let have = &self.inbox[self.taken..self.filled];
        let Some(size) = announced(have)? else { return Ok(None) };
        if have.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        let begin = self.taken + SIZE_BYTES;
        self.taken = begin + size;
        Ok(Some(begin..begin + size))
    }

    /// The bytes of an answer that was just handed out.
    #[must_use]
    pub fn answer(&self, place: Range<usize>) -> &[u8] {
        &self.inbox[place]
    }

    /// Keeps bytes for the next [`Self::flush`].
    pub fn gather(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Writes bytes behind what is kept, and keeps what does not fit.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = if self.flush()? { write_some(&mut self.stream, bytes)? } else { 0 };
        self.outbox.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what is kept; whether nothing is left.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.outbox.is_empty() {
            return Ok(true);
        }
        self.written += write_some(&mut self.stream, &self.outbox[self.written..])?;
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
        Ok(self.outbox.is_empty())
    }

    /// Whether everything given was written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Room for at least one byte, and for the whole answer that is under way.
    fn make_room(&mut self) {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        let have = self.filled - self.taken;
        // A size that makes no sense is refused when the answer is looked for.
        let size = announced(&self.inbox[self.taken..self.filled]).ok().flatten().unwrap_or(0);
        let wanted = (SIZE_BYTES + size).max(INBOX_BYTES).max(have + 1);
        if self.inbox.len() - self.taken >= wanted && self.filled < self.inbox.len() {
            return;
        }
        self.inbox.copy_within(self.taken..self.filled, 0);
        (self.taken, self.filled) = (0, have);
        if self.inbox.len() < wanted {
            self.inbox.resize(wanted.next_power_of_two(), 0);
        }
    }
}

fn announced(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(size) = bytes.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
    match usize::try_from(i32::from_be_bytes(*size)) {
        Ok(size) if size <= ANSWER_BYTES_MAX => Ok(Some(size)),
        Ok(_) | Err(_) => Err(io::Error::other("an answer of absurd size")),
    }
}

/// Writes until the kernel takes no more; how many bytes it took.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (far, _) = listener.accept().expect("accepted");
        (Wire::new(near).expect("taken over"), far)
    }

    fn receive(wire: &mut Wire, bytes: usize) {
        // Loopback hands over at once, but not within the same call.
        while wire.filled - wire.taken < bytes {
            assert_eq!(wire.receive().expect("open"), Received::Drained);
        }
    }

    #[test]
    fn answers_are_found_wherever_they_are_cut() {
        let (mut wire, mut far) = pair();
        let mut stream = Vec::new();
        for size in [3usize, 0, 9_000, 1] {
            stream.extend_from_slice(&(size as i32).to_be_bytes());
            stream.extend(std::iter::repeat_n(size as u8, size));
        }
        let mut sizes = Vec::new();
        for piece in stream.chunks(1_000) {
            far.write_all(piece).expect("sent");
            let have = wire.filled - wire.taken;
            receive(&mut wire, have + piece.len());
            while let Some(place) = wire.next_answer().expect("sound") {
                let answer = wire.answer(place);
                assert!(answer.iter().all(|&byte| byte == answer.len() as u8));
                sizes.push(answer.len());
            }
        }
        assert_eq!(sizes, [3, 0, 9_000, 1]);
        drop(far);
        assert_eq!(wire.receive().expect("no error"), Received::Closed);
    }

    #[test]
    fn what_does_not_fit_is_kept_in_order() {
        let (mut wire, mut far) = pair();
        let bytes: Vec<u8> = (0..20_000_000u32).map(|place| (place / 7) as u8).collect();
        wire.gather(&bytes[..10]);
        wire.send(&bytes[10..]).expect("open");
        assert!(!wire.is_flushed());
        let expected = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            far.read_exact(&mut got).expect("all of it");
            assert!(got == expected);
        });
        while !wire.flush().expect("open") {}
        reader.join().expect("equal");
    }

    #[test]
    fn an_absurd_size_is_refused() {
        let (mut wire, mut far) = pair();
        far.write_all(b"HTTP/1.1").expect("sent");
        receive(&mut wire, 8);
        assert!(wire.next_answer().is_err());
    }
}

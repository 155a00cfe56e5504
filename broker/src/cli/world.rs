//! The world around a command: a connection on which one waits, the clock, a pause.
//!
//! Does: dial, send a question, wait for its answer; say what time it is.
//! Does not: know which broker leads what, or what an answer means.
//! Invariants: nothing waits longer than it was told to; no answer larger than the limit is read.
//! Apart because a command is a program of its own, without any core, and only here it blocks.
#![expect(clippy::disallowed_methods, reason = "a program of its own, without any core")]

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flumen_protocol::client::{Dialogue, DialogueFault, Question};
use flumen_protocol::limits::ANSWER_BYTES_MAX;
use flumen_protocol::messages::Request;

use super::fault::{Fault, accept};

/// How a command calls itself.
const CLIENT_ID: &str = "flumen-cli";

/// A connection to one broker.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    address: String,
    dialogue: Dialogue,
}

impl Link {
    /// Connects to `HOST:PORT` and asks what is spoken there.
    ///
    /// # Errors
    /// Unreachable, or not a broker.
    pub fn open(address: &str, patience: Duration) -> Result<Self, Fault> {
        let stream = dial(address, patience)?;
        let dialogue = Dialogue::new(CLIENT_ID);
        let mut link = Self { stream, address: address.to_owned(), dialogue };
        let greeting = link.dialogue.greeting().map_err(|fault| link.misunderstood(fault))?;
        let answer = link.exchange(&greeting)?;
        accept(|| address.to_owned(), answer.error_code, "")?;
        link.dialogue.greeted(&answer);
        Ok(link)
    }

    /// Whom it leads to.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks at the highest version both speak, and waits.
    ///
    /// # Errors
    /// Every fault but refusals, which lie inside the answer.
    pub fn ask<T: Request>(&mut self, body: &T) -> Result<T::Response, Fault> {
        let question = self.question(body)?;
        self.exchange(&question)
    }

    /// Sends a question that is never answered, as Produce without acks is.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn tell<T: Request>(&mut self, body: &T) -> Result<(), Fault> {
        let question = self.question(body)?;
        let sent = self.stream.write_all(question.frame());
        sent.map_err(|error| self.lost(question.name(), &error))
    }

    fn question<T: Request>(&mut self, body: &T) -> Result<Question<T>, Fault> {
        self.dialogue.ask(i16::MAX, body).map_err(|fault| self.misunderstood(fault))
    }

    fn exchange<T: Request>(&mut self, question: &Question<T>) -> Result<T::Response, Fault> {
        let payload = self.send_and_read(question.frame());
        let payload = payload.map_err(|error| self.lost(question.name(), &error))?;
        question.answer(payload).map_err(|fault| self.misunderstood(fault))
    }

    fn send_and_read(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u64::try_from(i32::from_be_bytes(size)).unwrap_or(u64::MAX);
        if size > ANSWER_BYTES_MAX as u64 {
            return Err(io::Error::other("no Kafka broker: the answer has an absurd size"));
        }
        // Grows with what comes, not with what was announced.
        let mut payload = Vec::new();
        (&mut self.stream).take(size).read_to_end(&mut payload)?;
        if (payload.len() as u64) < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(payload.into())
    }

    fn misunderstood(&self, fault: DialogueFault) -> Fault {
        Fault::Dialogue { address: self.address.clone(), fault }
    }

    fn lost(&self, asked: &'static str, error: &io::Error) -> Fault {
        Fault::Lost { address: self.address.clone(), asked, reason: in_words(error) }
    }
}

fn dial(address: &str, patience: Duration) -> Result<TcpStream, Fault> {
    let unreachable = |reason: String| Fault::Unreachable { address: address.to_owned(), reason };
    if !address.contains(':') {
        return Err(Fault::Usage(format!("{address}: an address is HOST:PORT")));
    }
    let candidates = address.to_socket_addrs().map_err(|error| unreachable(in_words(&error)))?;
    let mut last = "the name has no address".to_owned();
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, patience) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(patience)))
                    .and_then(|()| stream.set_write_timeout(Some(patience)));
                return set.map(|()| stream).map_err(|error| unreachable(in_words(&error)));
            }
            Err(error) => last = in_words(&error),
        }
    }
    Err(unreachable(last))
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the broker closed the connection".to_owned()
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "nothing came in time".to_owned(),
        _ => error.to_string(),
    }
}

/// What time it is, milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Waits before something is asked again.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn an_address_where_nobody_listens_is_named_with_what_to_do() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let fault = Link::open(&address, PATIENCE).expect_err("nobody");
        let said = fault.to_string();
        assert!(said.starts_with(&format!("cannot reach {address}: connection refused")), "{said}");
        assert!(said.contains("-b HOST:PORT"), "{said}");
        assert_eq!(fault.exit_code(), 3);
        assert_eq!(Link::open("no-port", PATIENCE).expect_err("no address").exit_code(), 2);
    }

    #[test]
    fn a_listener_that_is_no_broker_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a guest");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
        });
        let said = Link::open(&address, PATIENCE).expect_err("no broker").to_string();
        other.join().expect("done");
        assert!(said.contains("no Kafka broker"), "{said}");
    }
}

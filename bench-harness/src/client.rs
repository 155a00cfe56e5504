//! A plain client for everything that is not measured.
//!
//! Does: connect, agree on versions, ask one question at a time and wait for the answer.
//! Does not: send load; reconnect.
//! Invariants: versions lie inside what both sides speak; every failure names the address.
//! Apart because setting a run up may block and the run itself may not.

mod groups;
mod topic;
mod transactions;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::client::{Dialogue, DialogueFault, Question, Spoken};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::Request;

pub use topic::{Broker, NewTopic, Topic};
pub use transactions::TransactionalProducer;

use crate::limits::{
    ANSWER_BYTES_MAX, CLIENT_ID, CONNECT_TIMEOUT_MS, RETRY_BACKOFF_MS, TOPIC_TIMEOUT_MS,
};

/// Why a question was not answered.
#[derive(Debug)]
pub enum ClientFault {
    /// There is no connection.
    Unreachable {
        /// As the user or the broker called it.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The connection ended, or nothing came in time.
    Lost {
        /// Whose.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// What the system said.
        reason: String,
    },
    /// What came back is no answer of a Kafka broker.
    Malformed {
        /// Whose.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No version that both speak.
    NoVersion {
        /// Whose.
        address: String,
        /// What was to be asked.
        asked: &'static str,
    },
    /// The broker refused.
    Refused {
        /// Whose.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// With which code.
        code: i16,
        /// The broker's own words, if any.
        message: String,
    },
}

impl ClientFault {
    /// Whether asking again may help.
    #[must_use]
    pub fn retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                ErrorCode::from_code(*code).is_some_and(ErrorCode::retriable)
            }
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Malformed { .. }
            | Self::NoVersion { .. } => false,
        }
    }
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, reason } => {
                write!(f, "cannot reach {address}: {reason}")
            }
            Self::Lost { address, asked, reason } => {
                write!(f, "{address} did not answer {asked}: {reason}")
            }
            Self::Malformed { address, asked, reason } => {
                write!(f, "{address} answered {asked} with something else: {reason}")
            }
            Self::NoVersion { address, asked } => {
                write!(f, "{address} speaks no version of {asked} that this tool speaks")
            }
            Self::Refused { address, asked, code, message } => {
                write!(f, "{address} refused {asked}: {}", describe(*code))?;
                if message.is_empty() { Ok(()) } else { write!(f, ", {message}") }
            }
        }
    }
}

impl std::error::Error for ClientFault {}

/// A code by name and number.
#[must_use]
pub fn describe(code: i16) -> String {
    let name = ErrorCode::from_code(code).map_or("UNKNOWN", ErrorCode::name);
    format!("{name} ({code})")
}

/// A connection on which one waits.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    address: String,
    dialogue: Dialogue,
}

impl Client {
    /// Connects to `HOST:PORT` and asks what is spoken there.
    ///
    /// # Errors
    /// Unreachable, or not a broker.
    pub fn connect(address: &str) -> Result<Self, ClientFault> {
        let stream = dial(address)?;
        let dialogue = Dialogue::new(CLIENT_ID);
        let mut client = Self { stream, address: address.to_owned(), dialogue };
        let greeting = client.dialogue.greeting();
        let greeting = greeting.map_err(|fault| client.fault(fault))?;
        let answer = client.exchange(&greeting)?;
        client.refuse(ApiKey::ApiVersions, answer.error_code, "")?;
        client.dialogue.greeted(&answer);
        Ok(client)
    }

    /// The connection, for somebody else.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// What the broker speaks.
    #[must_use]
    pub fn spoken(&self) -> &Spoken {
        self.dialogue.spoken()
    }

    /// The highest version both speak, at most `cap`.
    ///
    /// # Errors
    /// There is none.
    pub fn version(&self, key: ApiKey, cap: i16) -> Result<i16, ClientFault> {
        let row = key.row();
        let none = || ClientFault::NoVersion { address: self.address.clone(), asked: row.name };
        let &(min, max) = self.spoken().get(&key.code()).ok_or_else(none)?;
        let best = max.min(row.served.max).min(cap);
        if best >= min.max(row.served.min) { Ok(best) } else { Err(none()) }
    }

    /// Asks at the highest version both speak, at most `cap`, and waits.
    ///
    /// # Errors
    /// All but refusals, which lie inside the answer.
    pub fn ask<T: Request>(&mut self, cap: i16, question: &T) -> Result<T::Response, ClientFault> {
        let asked = self.dialogue.ask(cap, question).map_err(|fault| self.fault(fault))?;
        self.exchange(&asked)
    }

    /// Makes a code that is not zero a fault.
    fn refuse(&self, key: ApiKey, code: i16, message: &str) -> Result<(), ClientFault> {
        if code == 0 {
            return Ok(());
        }
        let (address, asked) = (self.address.clone(), key.row().name);
        Err(ClientFault::Refused { address, asked, code, message: message.to_owned() })
    }

    fn exchange<T: Request>(&mut self, asked: &Question<T>) -> Result<T::Response, ClientFault> {
        let payload = self.send_and_read(asked.frame()).map_err(|error| ClientFault::Lost {
            address: self.address.clone(),
            asked: asked.name(),
            reason: in_words(&error),
        })?;
        asked.answer(payload).map_err(|fault| self.fault(fault))
    }

    fn fault(&self, fault: DialogueFault) -> ClientFault {
        let address = self.address.clone();
        match fault {
            DialogueFault::NotSpoken(asked) => ClientFault::NoVersion { address, asked },
            DialogueFault::Unsayable(asked, reason) | DialogueFault::Malformed(asked, reason) => {
                ClientFault::Malformed { address, asked, reason }
            }
        }
    }

    fn send_and_read(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > ANSWER_BYTES_MAX {
            return Err(io::Error::other("no Kafka broker: the answer has an absurd size"));
        }
        let mut payload = vec![0; size];
        self.stream.read_exact(&mut payload)?;
        Ok(payload.into())
    }

    /// Asks again as long as a refusal is about patience, and there is some left.
    fn patiently<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<T, ClientFault>,
    ) -> Result<T, ClientFault> {
        let deadline = Instant::now() + Duration::from_millis(TOPIC_TIMEOUT_MS);
        loop {
            match ask(self) {
                Err(fault) if fault.retriable() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(RETRY_BACKOFF_MS));
                }
                answered => return answered,
            }
        }
    }

    /// How long one answer may take.
    fn patience(&self, timeout: Duration) {
        // Only a zero duration is refused, and none of ours is.
        let _ = self.stream.set_read_timeout(Some(timeout));
    }
}

/// Opens a connection without delay of small writes.
///
/// # Errors
/// Unreachable, with the reason.
pub fn dial(address: &str) -> Result<TcpStream, ClientFault> {
    let unreachable =
        |reason: String| ClientFault::Unreachable { address: address.to_owned(), reason };
    let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
    let mut last = "the name has no address".to_owned();
    for candidate in resolve(address).map_err(|error| unreachable(in_words(&error)))? {
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(timeout)))
                    .and_then(|()| stream.set_write_timeout(Some(timeout)));
                return set.map(|()| stream).map_err(|error| unreachable(in_words(&error)));
            }
            Err(error) => last = in_words(&error),
        }
    }
    Err(unreachable(last))
}

/// The addresses behind `HOST:PORT`.
///
/// # Errors
/// No port, or no such name.
pub fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if !address.contains(':') {
        return Err(io::Error::other("an address is HOST:PORT"));
    }
    Ok(address.to_socket_addrs()?.collect())
}

/// An error without the system's number.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_where_nobody_listens_is_named_with_the_reason() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let said = Client::connect(&address).expect_err("nobody").to_string();
        assert_eq!(said, format!("cannot reach {address}: connection refused"));
        let said = Client::connect("no-port").expect_err("no address").to_string();
        assert!(said.contains("HOST:PORT"), "{said}");
    }

    #[test]
    fn a_listener_that_is_no_broker_is_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a guest");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
        });
        let said = Client::connect(&address).expect_err("no broker").to_string();
        other.join().expect("done");
        assert!(said.contains("no Kafka broker"), "{said}");
    }
}

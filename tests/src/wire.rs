//! Kafka's wire, by hand: just enough to say something wrong on purpose and to see that the broker still answers.
//!
//! Does: send frames and raw bytes, read frames, and see whether the other side hung up.
//! Does not: use the broker's own codecs, so that a mistake in them cannot hide itself.
//! Apart, because both the process harness and its tests need it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before a test calls it silence.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// API key of Produce.
pub const PRODUCE: i16 = 0;
/// API key of Fetch.
pub const FETCH: i16 = 1;
/// API key of Metadata.
pub const METADATA: i16 = 3;
/// API key of ApiVersions.
pub const API_VERSIONS: i16 = 18;

/// What a broker says to ApiVersions version 0.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiVersions {
    /// Kafka's error code; 0 is none, 35 is UNSUPPORTED_VERSION.
    pub error: i16,
    /// Key, lowest and highest version of each API served.
    pub ranges: Vec<(i16, i16, i16)>,
}

/// One connection.
pub struct Wire(TcpStream);

impl Wire {
    /// Connects; `None` where nobody listens.
    ///
    /// # Panics
    /// Where the connection's options cannot be set.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a read timeout");
        stream.set_write_timeout(Some(ANSWER_WITHIN)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Some(Self(stream))
    }

    /// Sends bytes as they are. False where the other side has hung up already.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Sends one request and reads the frame that answers it, without its length; `None` where the other side hung up.
    pub fn ask(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        if self.send(frame) { self.receive() } else { None }
    }

    /// Reads one frame, without its length; `None` where the other side hung up or stayed silent.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).ok()?];
        self.0.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Whether the other side hangs up in time, whatever it says before.
    pub fn is_hung_up(&mut self) -> bool {
        let mut scrap = [0; 4096];
        loop {
            match self.0.read(&mut scrap) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Asks for ApiVersions in version 0; `None` without a whole answer.
    pub fn api_versions(&mut self) -> Option<ApiVersions> {
        let answer = self.ask(&request(API_VERSIONS, 0, 7, &[]))?;
        parse_api_versions(&answer, 7)
    }

    /// The cluster's id, by Metadata version 2; `None` without a whole answer.
    pub fn cluster_id(&mut self) -> Option<String> {
        let answer = self.ask(&request(METADATA, 2, 8, &0_i32.to_be_bytes()))?;
        let mut rest = answer.get(4..)?;
        for _ in 0..take_i32(&mut rest)? {
            take_i32(&mut rest)?;
            take_string(&mut rest)?;
            take_i32(&mut rest)?;
            take_string(&mut rest)?;
        }
        take_string(&mut rest)
    }
}

/// A whole request frame with header version 1 and an empty client id.
///
/// # Panics
/// Where the body is longer than a frame can say.
#[must_use]
pub fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(10 + body.len());
    inner.extend(key.to_be_bytes());
    inner.extend(version.to_be_bytes());
    inner.extend(correlation.to_be_bytes());
    inner.extend(0_i16.to_be_bytes());
    inner.extend(body);
    framed(&inner)
}

/// Bytes with their length before them.
///
/// # Panics
/// Where they are longer than a frame can say.
#[must_use]
pub fn framed(inner: &[u8]) -> Vec<u8> {
    let size = i32::try_from(inner.len()).expect("a frame's length fits 31 bits");
    [&size.to_be_bytes(), inner].concat()
}

/// Reads an ApiVersions answer in its version 0 layout, to its last byte.
#[must_use]
pub fn parse_api_versions(answer: &[u8], correlation: i32) -> Option<ApiVersions> {
    let mut rest = answer;
    if take_i32(&mut rest)? != correlation {
        return None;
    }
    let error = take_i16(&mut rest)?;
    let count = take_i32(&mut rest)?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        ranges.push((take_i16(&mut rest)?, take_i16(&mut rest)?, take_i16(&mut rest)?));
    }
    rest.is_empty().then_some(ApiVersions { error, ranges })
}

fn take_i16(rest: &mut &[u8]) -> Option<i16> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i16::from_be_bytes(*head))
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}

/// A string with a 16-bit length; an absent one reads as empty.
fn take_string(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take_i16(rest)?.max(0)).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::{ApiVersions, parse_api_versions, request};

    #[test]
    fn a_request_says_its_own_length() {
        let frame = request(18, 0, 7, &[1, 2]);
        assert_eq!(frame, [0, 0, 0, 12, 0, 18, 0, 0, 0, 0, 0, 7, 0, 0, 1, 2]);
    }

    #[test]
    fn an_answer_is_read_to_its_last_byte_or_not_at_all() {
        let answer = [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
        let want = ApiVersions { error: 35, ranges: vec![(18, 0, 4)] };
        assert_eq!(parse_api_versions(&answer, 7), Some(want));
        assert_eq!(parse_api_versions(&answer, 8), None);
        assert_eq!(parse_api_versions(&answer[..15], 7), None);
        assert_eq!(parse_api_versions(&[&answer[..], &[0]].concat(), 7), None);
    }
}

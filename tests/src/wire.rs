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
/// API key of ListOffsets.
pub const LIST_OFFSETS: i16 = 2;
/// API key of Metadata.
pub const METADATA: i16 = 3;
/// API key of ApiVersions.
pub const API_VERSIONS: i16 = 18;
/// API key of CreateTopics.
pub const CREATE_TOPICS: i16 = 19;

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

    /// Waits so long for answers, instead of [`ANSWER_WITHIN`].
    ///
    /// # Panics
    /// Where the connection's options cannot be set.
    #[must_use]
    pub fn waiting(self, time: Duration) -> Self {
        self.0.set_read_timeout(Some(time)).expect("a read timeout");
        self
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

    /// Makes a topic with one partition, by CreateTopics version 2. The error code; `None` without a whole answer.
    pub fn create_topic(&mut self, name: &str) -> Option<i16> {
        self.create_topic_of(name, 1)
    }

    /// Makes a topic with so many partitions, by CreateTopics version 2. The error code; `None` without a whole answer.
    pub fn create_topic_of(&mut self, name: &str, partitions: i32) -> Option<i16> {
        let mut body = Vec::new();
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, name);
        body.extend(partitions.to_be_bytes());
        body.extend(1_i16.to_be_bytes()); // replicas
        body.extend([0; 8]); // neither assignments nor settings
        body.extend(30_000_i32.to_be_bytes());
        body.push(0);
        let answer = self.ask(&request(CREATE_TOPICS, 2, 9, &body))?;
        let mut rest = answer.get(12..)?;
        take_string(&mut rest)?;
        take_i16(&mut rest)
    }

    /// Produces one record of so many bytes to partition 0 with acks=all, by Produce version 7. The error code;
    /// `None` without a whole answer.
    pub fn produce(&mut self, topic: &str, bytes: usize) -> Option<i16> {
        if self.pipeline_produce(topic, bytes, 1) { self.produced() } else { None }
    }

    /// Sends as many produce requests of one record each as said, without waiting for an answer. False where the other
    /// side has hung up already.
    pub fn pipeline_produce(&mut self, topic: &str, bytes: usize, count: usize) -> bool {
        let one = produce_request(topic, bytes);
        self.send(&one.repeat(count))
    }

    /// The error code of the next answer to a produce request; `None` without a whole answer.
    pub fn produced(&mut self) -> Option<i16> {
        let answer = self.receive()?;
        let mut rest = answer.get(8..)?;
        take_string(&mut rest)?;
        let mut rest = rest.get(8..)?;
        take_i16(&mut rest)
    }

    /// The end offset of partition 0, by ListOffsets version 1; `None` without a whole answer or if it says an error.
    pub fn end_offset(&mut self, topic: &str) -> Option<i64> {
        let mut body = Vec::new();
        body.extend((-1_i32).to_be_bytes()); // a consumer
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(0_i32.to_be_bytes()); // partition
        body.extend((-1_i64).to_be_bytes()); // the end
        let answer = self.ask(&request(LIST_OFFSETS, 1, 11, &body))?;
        let mut rest = answer.get(8..)?;
        take_string(&mut rest)?;
        let mut rest = rest.get(8..)?;
        let error = take_i16(&mut rest)?;
        let offset = rest.get(8..16)?.try_into().ok()?;
        (error == 0).then(|| i64::from_be_bytes(offset))
    }

    /// Asks for up to 50 MiB of records of partition 0, at each of these offsets up to one MiB, by Fetch version 4, and
    /// does not wait for the answer. False where the other side has hung up already.
    pub fn begin_fetch(&mut self, topic: &str, offsets: &[i64]) -> bool {
        let mut body = Vec::new();
        body.extend((-1_i32).to_be_bytes()); // no replica
        body.extend(500_i32.to_be_bytes()); // milliseconds to wait
        body.extend(1_i32.to_be_bytes()); // bytes to wait for
        body.extend((50_i32 << 20).to_be_bytes());
        body.push(0); // isolation
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, topic);
        body.extend((offsets.len() as i32).to_be_bytes());
        for offset in offsets {
            body.extend(0_i32.to_be_bytes()); // partition
            body.extend(offset.to_be_bytes());
            body.extend((1_i32 << 20).to_be_bytes());
        }
        self.send(&request(FETCH, 4, 11, &body))
    }

    /// Asks so many times for all topics, by Metadata version 1, and does not wait for an answer. False where the other
    /// side has hung up already.
    pub fn begin_listing(&mut self, count: usize) -> bool {
        self.send(&request(METADATA, 1, 12, &(-1_i32).to_be_bytes()).repeat(count))
    }

    /// Everything the other side says until it hangs up.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // What came before an error is all there is to judge.
        let _ = self.0.read_to_end(&mut said);
        said
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

fn produce_request(topic: &str, bytes: usize) -> Vec<u8> {
    let batch = batch_of_one(bytes);
    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transaction
    body.extend((-1_i16).to_be_bytes()); // acks=all
    body.extend(30_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes()); // partition
    body.extend(i32::try_from(batch.len()).expect("a batch's length fits 31 bits").to_be_bytes());
    body.extend(batch);
    request(PRODUCE, 7, 10, &body)
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

/// A record batch of version 2 with one record of so many zeros, without key, timestamps or producer.
#[must_use]
pub fn batch_of_one(bytes: usize) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1]; // attributes, both deltas, no key
    put_varint(&mut record, bytes);
    record.resize(record.len() + bytes, 0);
    record.push(0); // no headers
    let mut checked = vec![0; 2 + 4]; // attributes, last offset delta
    checked.extend([0; 16]); // timestamps
    checked.extend([0xff; 14]); // producer id, epoch, sequence: none
    checked.extend(1_i32.to_be_bytes());
    put_varint(&mut checked, record.len());
    checked.extend(record);
    let mut batch = vec![0; 8]; // base offset
    let rest = i32::try_from(9 + checked.len()).expect("a batch's length fits 31 bits");
    batch.extend(rest.to_be_bytes());
    batch.extend([0, 0, 0, 0, 2]); // leader epoch, version
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    const CASTAGNOLI: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ CASTAGNOLI };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("a name's length fits 15 bits");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// A length in zigzag base 128, as record batches write it.
fn put_varint(out: &mut Vec<u8>, length: usize) {
    let mut left = length << 1;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
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
    use super::{ApiVersions, batch_of_one, crc32c, parse_api_versions, request};

    #[test]
    fn a_batch_says_its_length_and_its_checksum() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        let batch = batch_of_one(1024);
        assert_eq!(batch[8..12], (batch.len() as i32 - 12).to_be_bytes());
        assert_eq!(batch[17..21], crc32c(&batch[21..]).to_be_bytes());
    }

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

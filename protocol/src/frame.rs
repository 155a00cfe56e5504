//! Finds complete frames in a growing buffer: four bytes of size, then that many of payload.
//!
//! Does: take one whole frame off the front, or say how much is missing, or why to hang up.
//! Does not: read from a socket, reserve memory, or look into the payload.
//! Invariants: nothing is consumed unless a frame is complete; a size is judged before anything is
//! awaited, so that a stranger cannot make us wait for, or hold, more than the limit.
//! Apart because this is the first thing foreign bytes meet.

use std::fmt;

use bytes::{Buf, BytesMut};

/// What the front of the buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// A whole frame's payload, without its size. May be empty.
    Complete(BytesMut),
    /// Part of a frame. A stranger chose the size: let memory grow with what arrives, do not
    /// reserve all of it at once.
    Incomplete {
        /// How many bytes more make the next step possible: the rest of the size, or of the frame.
        needed: usize,
    },
}

/// Why this is not a Kafka connection. The connection is closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A size below zero.
    Negative {
        /// The size.
        size: i32,
    },
    /// A size above the limit.
    TooLarge {
        /// The size.
        size: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// The first bytes begin a TLS handshake: a TLS client on a plaintext port.
    LooksLikeTls,
    /// The first bytes begin an HTTP request.
    LooksLikeHttp,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative { size } => write!(f, "negative frame size {size}"),
            Self::TooLarge { size, limit } => {
                write!(f, "frame of {size} bytes exceeds the limit of {limit}")
            }
            Self::LooksLikeTls => f.write_str("TLS handshake on a plaintext port"),
            Self::LooksLikeHttp => f.write_str("HTTP request on a Kafka port"),
        }
    }
}

impl std::error::Error for FrameError {}

const SIZE_BYTES: usize = 4;

/// Takes the next frame of at most `limit` payload bytes off the front of `buffer`.
///
/// The payload shares the buffer's memory; nothing is copied.
///
/// # Errors
/// A size that is negative or above the limit; the connection cannot be brought back into step.
pub fn next(buffer: &mut BytesMut, limit: usize) -> Result<Progress, FrameError> {
    let Some(&prefix) = buffer.first_chunk::<SIZE_BYTES>() else {
        return Ok(Progress::Incomplete { needed: SIZE_BYTES - buffer.len() });
    };
    let size = judge_size(prefix, limit)?;
    let have = buffer.len() - SIZE_BYTES;
    if have < size {
        return Ok(Progress::Incomplete { needed: size - have });
    }
    buffer.advance(SIZE_BYTES);
    Ok(Progress::Complete(buffer.split_to(size)))
}

fn judge_size(prefix: [u8; SIZE_BYTES], limit: usize) -> Result<usize, FrameError> {
    let claimed = i32::from_be_bytes(prefix);
    let Ok(size) = usize::try_from(claimed) else {
        return Err(FrameError::Negative { size: claimed });
    };
    if size <= limit {
        return Ok(size);
    }
    // Only what is refused anyway is guessed at: the guess is for the operator's log.
    if prefix.starts_with(&TLS_HANDSHAKE) {
        return Err(FrameError::LooksLikeTls);
    }
    if HTTP_VERBS.contains(&&prefix) {
        return Err(FrameError::LooksLikeHttp);
    }
    Err(FrameError::TooLarge { size, limit })
}

/// Record type "handshake" and the major version every TLS speaks; read as a size about 370 MB.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// How HTTP requests begin; read as a size above 1.1 GB.
const HTTP_VERBS: &[&[u8; SIZE_BYTES]] =
    &[b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI "];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[test]
    fn a_frame_arrives_byte_by_byte() {
        let mut buffer = BytesMut::new();
        let wire = [0, 0, 0, 3, b'a', b'b', b'c'];
        let needed = [4, 3, 2, 1, 3, 2, 1];
        for (byte, needed) in wire.into_iter().zip(needed) {
            assert_eq!(next(&mut buffer, 10), Ok(Progress::Incomplete { needed }));
            buffer.extend_from_slice(&[byte]);
        }
        assert_eq!(next(&mut buffer, 10), Ok(Progress::Complete(of(b"abc"))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn frames_that_arrive_together_leave_one_by_one() {
        let mut buffer = of(&[0, 0, 0, 1, b'x', 0, 0, 0, 0, 0, 0, 0, 2, b'y']);
        assert_eq!(next(&mut buffer, 10), Ok(Progress::Complete(of(b"x"))));
        assert_eq!(next(&mut buffer, 10), Ok(Progress::Complete(of(b""))));
        assert_eq!(next(&mut buffer, 10), Ok(Progress::Incomplete { needed: 1 }));
        assert_eq!(buffer.len(), 5);
    }

    #[test]
    fn the_payload_is_not_copied() {
        let mut buffer = of(&[0, 0, 0, 2, b'h', b'i', 9]);
        let place = buffer[4..].as_ptr();
        let Ok(Progress::Complete(payload)) = next(&mut buffer, 10) else { panic!("complete") };
        assert_eq!(payload.as_ptr(), place);
    }

    #[test]
    fn sizes_out_of_bounds_are_refused_before_the_payload_comes() {
        assert_eq!(
            next(&mut of(&[0xff, 0xff, 0xff, 0xff]), 10),
            Err(FrameError::Negative { size: -1 })
        );
        assert_eq!(
            next(&mut of(&[0, 0, 0, 11]), 10),
            Err(FrameError::TooLarge { size: 11, limit: 10 })
        );
        assert_eq!(next(&mut of(&[0, 0, 0, 10]), 10), Ok(Progress::Incomplete { needed: 10 }));
    }

    #[test]
    fn strangers_are_recognised() {
        let limit = crate::limits::FRAME_BYTES_MAX;
        assert_eq!(next(&mut of(b"GET / HTTP/1.1\r\n"), limit), Err(FrameError::LooksLikeHttp));
        assert_eq!(next(&mut of(b"PRI * HTTP/2.0\r\n"), limit), Err(FrameError::LooksLikeHttp));
        assert_eq!(next(&mut of(&[0x16, 3, 1, 2, 0, 1]), limit), Err(FrameError::LooksLikeTls));
    }
}

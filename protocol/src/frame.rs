//! Finds complete frames in a growing buffer: four bytes of size, then that many of payload.
//!
//! Does: say how long the frame at the front is, or why to hang up.
//! Does not: read from a socket, reserve memory, or look into the payload.
//! Invariants: a size is judged before anything is awaited, so that a stranger cannot make us wait for, or hold, more than the limit.
//! Apart because this is the first thing foreign bytes meet.

use std::fmt;

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

/// Bytes of a frame's size on the wire.
pub const SIZE_BYTES: usize = 4;

/// How many bytes the frame at the front takes, its size included; nothing as long as its size is
/// not there. The frame itself may still be arriving: a stranger chose the size, so let memory
/// grow with what arrives instead of reserving all of it at once.
///
/// # Errors
/// A size that is negative or above `limit` payload bytes; the connection cannot be brought back
/// into step.
pub fn measure(front: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    front.first_chunk().map(|prefix| judge_size(*prefix, limit).map(|n| SIZE_BYTES + n)).transpose()
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

    #[test]
    fn a_frame_is_measured_as_soon_as_its_size_is_there() {
        let wire = [0, 0, 0, 3, b'a', b'b', b'c', 0];
        for arrived in 0..SIZE_BYTES {
            assert_eq!(measure(&wire[..arrived], 10), Ok(None));
        }
        for arrived in SIZE_BYTES..=wire.len() {
            assert_eq!(measure(&wire[..arrived], 10), Ok(Some(7)));
        }
        assert_eq!(measure(&[0, 0, 0, 0], 10), Ok(Some(4)), "an empty frame");
    }

    #[test]
    fn sizes_out_of_bounds_are_refused_before_the_payload_comes() {
        assert_eq!(measure(&[0xff; 4], 10), Err(FrameError::Negative { size: -1 }));
        assert_eq!(measure(&[0, 0, 0, 11], 10), Err(FrameError::TooLarge { size: 11, limit: 10 }));
        assert_eq!(measure(&[0, 0, 0, 10], 10), Ok(Some(14)));
    }

    #[test]
    fn strangers_are_recognised() {
        let limit = 100 << 20;
        assert_eq!(measure(b"GET / HTTP/1.1\r\n", limit), Err(FrameError::LooksLikeHttp));
        assert_eq!(measure(b"PRI * HTTP/2.0\r\n", limit), Err(FrameError::LooksLikeHttp));
        assert_eq!(measure(&[0x16, 3, 1, 2, 0, 1], limit), Err(FrameError::LooksLikeTls));
    }
}

//! Zstandard frames, one after another, each as long as it says it is.
//!
//! Does: decode as a reader, and hold each frame to the size in its header where it names one.
//! Does not: bound what comes out; who reads does.
//! Invariants: whether bytes are a frame does not depend on how much is read at a time; a window beyond
//! the limit is refused before it is allocated.
//! Apart because the library compares that size only where the reader has room for all of it at once, or
//! where the frame's last block has bytes: we would store what a consumer with a larger buffer refuses.

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{
    DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name, get_frame_content_size,
};

use super::super::limits::ZSTD_WINDOW_LOG_MAX;

/// A decoder of frames that follow each other in `R`, which gives all of its bytes at once.
pub struct Frames<R> {
    input: R,
    context: DCtx<'static>,
    frame: Option<Frame>,
}

/// The frame that is being decoded.
struct Frame {
    /// The size in its header, if it names one.
    claimed_bytes: Option<u64>,
    decoded_bytes: u64,
}

impl<R: BufRead> Frames<R> {
    /// Begins before the first frame; `None` without memory for it.
    pub fn begin(input: R) -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
        Some(Self { input, context, frame: None })
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read == 0 && !buffer.is_empty() {
            let bytes = self.input.fill_buf()?;
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None if bytes.is_empty() => return Ok(0),
                None => {
                    self.context.reset(ResetDirective::SessionOnly).map_err(refused)?;
                    Frame::begin(bytes)?
                }
            };
            let (mut source, mut target) = (InBuffer::around(bytes), OutBuffer::around(buffer));
            let hint = self.context.decompress_stream(&mut target, &mut source).map_err(refused)?;
            let consumed = source.pos();
            read = target.pos();
            self.input.consume(consumed);
            frame.decoded_bytes += read as u64;
            if hint == 0 {
                frame.end()?;
            } else if consumed == 0 && read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            } else {
                self.frame = Some(frame);
            }
        }
        Ok(read)
    }
}

impl Frame {
    fn begin(bytes: &[u8]) -> io::Result<Self> {
        let claimed_bytes = get_frame_content_size(bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { claimed_bytes, decoded_bytes: 0 })
    }

    fn end(self) -> io::Result<()> {
        match self.claimed_bytes {
            Some(claimed) if claimed != self.decoded_bytes => {
                Err(io::ErrorKind::InvalidData.into())
            }
            _ => Ok(()),
        }
    }
}

/// What the library says is wrong.
fn refused(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims two bytes; its only block is the last one and has none.
    const SHORT_OF_ITS_CLAIM: &[u8] = b"\x28\xb5\x2f\xfd\x20\x02\x01\x00\x00";

    fn read(input: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut frames = Frames::begin(input).expect("there is memory");
        let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match frames.read(&mut buffer)? {
                0 => return Ok(all),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(content, 3).expect("it fits")
    }

    #[test]
    fn a_frame_shorter_than_it_says_is_refused_by_readers_of_any_size() {
        for piece in [1, 2, 100] {
            assert!(read(SHORT_OF_ITS_CLAIM, piece).is_err(), "alone, {piece} at a time");
            let behind = [frame(b"whole"), SHORT_OF_ITS_CLAIM.to_vec()].concat();
            assert!(read(&behind, piece).is_err(), "behind another, {piece} at a time");
        }
    }

    #[test]
    fn frames_in_a_row_are_read_as_one() {
        let empty = frame(b"");
        let row = [empty.clone(), frame(b"one, "), empty, frame(&[b'2'; 300])].concat();
        for piece in [1, 7, 300, 4_096] {
            let expected = [b"one, ".to_vec(), vec![b'2'; 300]].concat();
            assert_eq!(read(&row, piece).ok(), Some(expected), "{piece}");
        }
        assert_eq!(read(b"", 7).ok(), Some(Vec::new()));
    }

    #[test]
    fn a_frame_that_is_cut_short_is_refused() {
        let whole = frame(&[7; 3_000]);
        for length in 1..whole.len() {
            for piece in [1, 4_096] {
                assert!(
                    read(&whole[..length], piece).is_err(),
                    "{length} of it, {piece} at a time"
                );
            }
        }
    }
}

//! Compresses what is there whole, a piece at a time, the way Kafka's own producer does: at each
//! format's default level.
//!
//! Does: keep an encoder between pieces, so that whoever compresses a lot can do something else meanwhile.
//! Does not: know batches.
//! Invariants: what comes out inflates to what went in, however it was cut into pieces. A piece is exact
//! to the byte but for snappy, whose blocks of 32 KiB are compressed whole.
//! Apart because `codec` names the formats, and four encoders with their state are a room of their own.

use std::fmt;
use std::io::Write;

use bytes::Buf;
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::codec::Codec;
use super::inflation::XERIAL_MAGIC;

/// How much snappy-java puts into one block by default, before compression.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Something that is being compressed.
pub struct Deflation<B: Buf> {
    input: B,
    sink: Sink,
}

enum Sink {
    None(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Snappy(Vec<u8>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl<B: Buf> Deflation<B> {
    /// Begins to compress all of `input`.
    #[must_use]
    pub fn begin(codec: Codec, input: B) -> Self {
        let output = Vec::new();
        let sink = match codec {
            Codec::None => Sink::None(output),
            Codec::Gzip => Sink::Gzip(Box::new(GzEncoder::new(output, Default::default()))),
            Codec::Snappy => Sink::Snappy(xerial_header()),
            Codec::Lz4 => Sink::Lz4(Box::new(FrameEncoder::new(output))),
            Codec::Zstd => Sink::Zstd(Box::new(
                ZstdEncoder::new(output, 0).expect("the default level is one that there is"),
            )),
        };
        Self { input, sink }
    }

    /// Compresses `bytes` more, or to the end. Says how many it took.
    pub fn go_on(&mut self, bytes: usize) -> usize {
        let before = self.input.remaining();
        let mut wanted = bytes.min(before);
        while wanted > 0 {
            let chunk = self.input.chunk();
            let most = match &self.sink {
                Sink::Snappy(_) => XERIAL_BLOCK_BYTES,
                Sink::None(_) | Sink::Gzip(_) | Sink::Lz4(_) | Sink::Zstd(_) => wanted,
            };
            let piece = &chunk[..most.min(chunk.len())];
            match &mut self.sink {
                Sink::None(output) => output.extend_from_slice(piece),
                Sink::Gzip(encoder) => encoder.write_all(piece).expect(TAKEN),
                Sink::Snappy(output) => deflate_xerial(piece, output),
                Sink::Lz4(encoder) => encoder.write_all(piece).expect(TAKEN),
                Sink::Zstd(encoder) => encoder.write_all(piece).expect(TAKEN),
            }
            let taken = piece.len();
            self.input.advance(taken);
            wanted = wanted.saturating_sub(taken);
        }
        before - self.input.remaining()
    }

    /// Whether all of the input was taken.
    #[must_use]
    pub fn is_all(&self) -> bool {
        !self.input.has_remaining()
    }

    /// How many bytes have come out so far; the encoder may hold back some more.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        match &self.sink {
            Sink::None(output) | Sink::Snappy(output) => output.len(),
            Sink::Gzip(encoder) => encoder.get_ref().len(),
            Sink::Lz4(encoder) => encoder.get_ref().len(),
            Sink::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// All that comes out of what was taken in. There is nothing to go on with afterwards.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.sink, Sink::None(Vec::new())) {
            Sink::None(output) | Sink::Snappy(output) => output,
            Sink::Gzip(encoder) => encoder.finish().expect(TAKEN),
            Sink::Lz4(encoder) => encoder.finish().expect(TAKEN),
            Sink::Zstd(encoder) => encoder.finish().expect(TAKEN),
        }
    }

    /// Gives the input back.
    #[must_use]
    pub fn into_input(self) -> B {
        self.input
    }
}

const TAKEN: &str = "a vector takes every byte";

impl<B: Buf> fmt::Debug for Deflation<B> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = (self.input.remaining(), self.output_bytes());
        out.debug_struct("Deflation").field("bytes", &bytes).finish_non_exhaustive()
    }
}

fn xerial_header() -> Vec<u8> {
    let mut output = Vec::from(XERIAL_MAGIC);
    // The version of the stream, and the lowest that can read it.
    output.extend(1i32.to_be_bytes());
    output.extend(1i32.to_be_bytes());
    output
}

fn deflate_xerial(block: &[u8], output: &mut Vec<u8>) {
    let block = snap::raw::Encoder::new().compress_vec(block);
    let block = block.expect("32 KiB are within snappy's 4 GiB");
    output.extend((block.len() as i32).to_be_bytes());
    output.extend(block);
}

#[cfg(test)]
mod tests {
    use super::super::codec::{compress, decompress};
    use super::*;

    #[test]
    fn pieces_come_back_as_one() {
        let noise = (0..200_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8);
        let input: Vec<u8> = noise.collect();
        for codec in Codec::ALL {
            for piece in [1, 1000, 40_000, usize::MAX] {
                let mut deflation = Deflation::begin(codec, &input[..]);
                let mut pieces = 1;
                while deflation.go_on(piece) > 0 && !deflation.is_all() {
                    pieces += 1;
                }
                let output = deflation.finish();
                assert_eq!(decompress(codec, &output, input.len()), Ok(input.clone()), "{codec:?}");
                assert_eq!(pieces == 1, piece == usize::MAX, "{codec:?} {piece}");
                if piece == usize::MAX {
                    assert_eq!(output, compress(codec, &input), "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn what_came_out_is_known_while_more_goes_in() {
        let input = vec![7; 1 << 20];
        let mut deflation = Deflation::begin(Codec::None, &input[..]);
        assert_eq!((deflation.go_on(1000), deflation.is_all()), (1000, false));
        assert_eq!(deflation.output_bytes(), 1000);
        assert_eq!((deflation.go_on(usize::MAX), deflation.is_all()), (input.len() - 1000, true));
        assert_eq!(deflation.output_bytes(), input.len());
    }
}

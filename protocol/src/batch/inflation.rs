//! Inflates what was compressed, a piece at a time.
//!
//! Does: keep a decoder between pieces, so that whoever inflates a lot can do something else meanwhile.
//! Does not: look into what comes out.
//! Invariants: output grows as it is produced and never by more than a byte beyond the limit; what the
//! input claims about its own size is not believed; after a fault or the end nothing is asked again.
//! A piece is exact to the byte, but a snappy block that claims at most 64 KiB is inflated whole, lz4's
//! are decoded whole where the frame says they have no more, and of tiny blocks there are fewer bytes.
//! Apart because `codec` names the formats, and their decoders with their state are a room of their own.

mod elements;
mod lz4;
mod snappy;
mod zstandard;

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::codec::{Codec, CodecFault};
use super::limits::{INFLATED_BYTES_MAX, WHOLE_BLOCK_BYTES};

/// Something that is being inflated. `R` gives all of its bytes at once, as a slice does.
pub struct Inflation<R: BufRead> {
    source: Source<R>,
    output: Vec<u8>,
    limit_bytes: usize,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflated {
    /// There may be.
    Some,
    /// The input was read to its end.
    All,
}

enum Source<R: BufRead> {
    None(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Snappy(snappy::Blocks<R>),
    Lz4(Box<FrameDecoder<Remaining<R>>>),
    LargeLz4(Box<lz4::Frame<R>>),
    Zstd(Box<zstandard::Frames<R>>),
}

/// The magic of an LZ4 frame. The decoder also knows an older frame, which Kafka refuses.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// What snappy-java's stream begins with; two big-endian version numbers follow.
pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version, lowest version that can read it.
pub(super) const XERIAL_HEADER_BYTES: usize = 16;

impl<R: BufRead> Inflation<R> {
    /// Begins to inflate `input` into `output`, which is empty, to at most `limit_bytes`.
    ///
    /// # Errors
    /// [`CodecFault::Malformed`] where the first bytes are not this format.
    pub fn begin(
        codec: Codec,
        input: R,
        output: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<Self, CodecFault> {
        let source = Source::begin(codec, input, WHOLE_BLOCK_BYTES).ok_or(CodecFault::Malformed)?;
        Ok(Self { source, output, limit_bytes })
    }

    /// As [`begin`](Self::begin), but blocks are inflated whole only where as much is asked for, however
    /// small they are: so that small inputs come to the decoders for large blocks.
    ///
    /// # Errors
    /// [`CodecFault::Malformed`] where the first bytes are not this format.
    #[cfg(feature = "sample")]
    pub fn begin_exact(codec: Codec, input: R, limit_bytes: usize) -> Result<Self, CodecFault> {
        let source = Source::begin(codec, input, 0).ok_or(CodecFault::Malformed)?;
        Ok(Self { source, output: Vec::new(), limit_bytes })
    }

    /// Inflates `bytes` more, or to the end. Less comes of blocks that are tiny, and are more work than
    /// their bytes; but all of it where no end is set, by `usize::MAX`.
    ///
    /// # Errors
    /// [`CodecFault`]; what was inflated until then is there, up to a byte more than the limit.
    pub fn go_on(&mut self, bytes: usize) -> Result<Inflated, CodecFault> {
        let (output, limit_bytes) = (&mut self.output, self.limit_bytes);
        match &mut self.source {
            Source::None(input) => {
                let whole = input.fill_buf().map_err(|_| CodecFault::Malformed)?;
                if whole.len() > limit_bytes {
                    return Err(CodecFault::OverLimit);
                }
                output.extend_from_slice(whole);
                Ok(Inflated::All)
            }
            Source::Gzip(decoder) => drain(decoder, output, limit_bytes, bytes),
            Source::Zstd(decoder) => drain(decoder, output, limit_bytes, bytes),
            Source::Snappy(blocks) => blocks.go_on(output, limit_bytes, bytes),
            Source::LargeLz4(frame) => frame.go_on(output, limit_bytes, bytes),
            Source::Lz4(decoder) => {
                let inflated = drain(&mut *decoder, output, limit_bytes, bytes)?;
                if inflated == Inflated::All && !decoder.get_mut().is_whole() {
                    return Err(CodecFault::Malformed);
                }
                Ok(inflated)
            }
        }
    }

    /// What was inflated so far.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// What was inflated.
    pub fn into_output(self) -> Vec<u8> {
        self.output
    }
}

impl<R: BufRead> fmt::Debug for Inflation<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inflation").field("bytes", &self.output.len()).finish_non_exhaustive()
    }
}

impl<R: BufRead> Source<R> {
    /// `None` where the first bytes are not this format. Blocks of up to `whole_bytes_max` may be
    /// inflated whole.
    fn begin(codec: Codec, mut input: R, whole_bytes_max: usize) -> Option<Self> {
        Some(match codec {
            Codec::None => Self::None(input),
            Codec::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Snappy => Self::Snappy(snappy::Blocks::begin(input, whole_bytes_max)?),
            Codec::Lz4 => {
                let head = input.fill_buf().ok().filter(|head| head.starts_with(&LZ4_MAGIC))?;
                if lz4::block_bytes_max(head).is_some_and(|bytes| bytes > whole_bytes_max) {
                    Self::LargeLz4(Box::new(lz4::Frame::begin(input)?))
                } else {
                    let input = Remaining { input, ran_dry: false };
                    Self::Lz4(Box::new(FrameDecoder::new(input)))
                }
            }
            Codec::Zstd => Self::Zstd(Box::new(zstandard::Frames::begin(input)?)),
        })
    }
}

/// Reads `bytes` more of `source`, or to its end, refusing the byte after `limit_bytes`.
fn drain(
    source: impl Read,
    output: &mut Vec<u8>,
    limit_bytes: usize,
    bytes: usize,
) -> Result<Inflated, CodecFault> {
    let wanted = make_room(output, limit_bytes, bytes);
    let before = output.len();
    let read = source.take(wanted as u64).read_to_end(output);
    if output.len() > limit_bytes {
        return Err(CodecFault::OverLimit);
    }
    read.map_err(|_| CodecFault::Malformed)?;
    Ok(if output.len() - before < wanted { Inflated::All } else { Inflated::Some })
}

/// Makes room for `bytes` more, or for as many as lead to a byte more than the limit; says how many.
///
/// A first piece has room for itself. If it is not all, room for all that may come is set aside at once:
/// memory is only taken as it is written to, where growing by doubling would hold a bomb three times
/// while it is copied.
fn make_room(output: &mut Vec<u8>, limit_bytes: usize, bytes: usize) -> usize {
    let most = limit_bytes.min(INFLATED_BYTES_MAX) + 1;
    let wanted = bytes.min(most.saturating_sub(output.len()));
    if output.capacity() - output.len() < wanted {
        let all = if output.is_empty() { wanted } else { most - output.len() };
        output.reserve_exact(all);
    }
    wanted
}

/// A reader of LZ4 frames: one frame and nothing after it, as Kafka's own stream reads it, and
/// remembering whether it was asked for more than there is.
///
/// The decoder takes the end of its input between two blocks for the end of the frame. A frame that was
/// whole ended with its end mark, before anyone asked for more. Header checksums must be right: only
/// format 0 and 1 clients wrote wrong ones.
struct Remaining<R> {
    input: R,
    ran_dry: bool,
}

impl<R: BufRead> Remaining<R> {
    fn is_whole(&mut self) -> bool {
        !self.ran_dry && self.input.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

impl<R: BufRead> Read for Remaining<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ran_dry |= self.input.fill_buf()?.is_empty() && !buffer.is_empty();
        self.input.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::{Buf, Bytes};
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::super::codec::{compress, decompress};
    use super::*;

    /// Every block is our own decoders', if less is asked for than it has.
    const OURS: usize = 0;
    /// Every block is the libraries'.
    const THEIRS: usize = usize::MAX;

    /// Letters at random, as well as they can be had.
    fn noise(length: usize) -> Vec<u8> {
        let noise = (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8);
        noise.map(|byte| b'a' + byte).collect()
    }

    /// Numbered lines: short and long copies from near and far, short literals.
    fn prose(length: usize) -> Vec<u8> {
        let line = |n: u64| {
            format!("{n}: {} and {};\n", n * 7919 % 10_007, "again ".repeat(n as usize % 9))
        };
        (0..).flat_map(|n| line(n).into_bytes()).take(length).collect()
    }

    fn contents(length: usize) -> Vec<Vec<u8>> {
        let run = |period: usize| (0..length).map(|at| (at % period) as u8).collect();
        vec![noise(length), prose(length), run(1), run(2), run(3), run(17)]
    }

    /// As clients other than Java's write it: one block.
    fn raw(content: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(content).expect("it is short")
    }

    /// Two streams of two blocks each, in a row.
    fn stream(content: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (number, part) in content.chunks(content.len().div_ceil(4).max(1)).enumerate() {
            if number % 2 == 0 {
                stream.extend([&XERIAL_MAGIC[..], &[0; 8]].concat());
            }
            let block = raw(part);
            stream.extend((block.len() as i32).to_be_bytes());
            stream.extend(block);
        }
        stream
    }

    /// Frames with everything they may have, and without.
    fn frames(content: &[u8], block_size: BlockSize) -> Vec<Vec<u8>> {
        let sparse = FrameInfo::new().block_size(block_size);
        let full = sparse.clone().block_checksums(true).content_checksum(true);
        let infos = [
            sparse.clone().block_mode(BlockMode::Linked),
            full.clone().block_mode(BlockMode::Linked),
            full.content_size(Some(content.len() as u64)),
            sparse,
        ];
        let frame = |info| {
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(content).expect("a vector takes every byte");
            encoder.finish().expect("a vector takes every byte")
        };
        infos.into_iter().map(frame).collect()
    }

    /// In each way that there are two decoders for.
    fn packed(content: &[u8]) -> Vec<(Codec, Vec<u8>)> {
        let snappy = [raw(content), stream(content)].map(|wire| (Codec::Snappy, wire));
        let lz4 = [BlockSize::Max64KB, BlockSize::Max4MB].map(|size| frames(content, size));
        let lz4 = lz4.into_iter().flatten().map(|wire| (Codec::Lz4, wire));
        snappy.into_iter().filter(|(_, wire)| !wire.is_empty()).chain(lz4).collect()
    }

    /// Piece by piece; how many there were. No piece is larger than asked for, but for small blocks of
    /// snappy.
    fn inflate_by(
        whole_bytes_max: usize,
        (codec, wire): (Codec, &[u8]),
        limit_bytes: usize,
        piece: usize,
    ) -> (Result<Vec<u8>, CodecFault>, usize) {
        let mut pieces = 0;
        let input = Bytes::copy_from_slice(wire).reader();
        let Some(source) = Source::begin(codec, input, whole_bytes_max) else {
            return (Err(CodecFault::Malformed), 0);
        };
        let mut inflation = Inflation { source, output: Vec::new(), limit_bytes };
        let is_exact = codec != Codec::Snappy || whole_bytes_max == OURS;
        let has_tiny_blocks = wire.starts_with(&XERIAL_MAGIC) && wire.len() < 1_000;
        loop {
            pieces += 1;
            let before = inflation.output().len();
            let outcome = inflation.go_on(piece);
            let grown = inflation.output().len() - before;
            assert!(grown <= piece || !is_exact, "{grown} for {piece}");
            match outcome {
                Ok(Inflated::Some) => assert!(grown >= piece || has_tiny_blocks),
                Ok(Inflated::All) => return (Ok(inflation.into_output()), pieces),
                Err(fault) => return (Err(fault), pieces),
            }
        }
    }

    /// What becomes of it, in pieces of any size and by whomever; but our decoder refuses a frame that
    /// ends with an empty block, which the library takes for the end mark.
    pub fn agreed(codec: Codec, wire: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecFault> {
        let (theirs, _) = inflate_by(THEIRS, (codec, wire), limit_bytes, usize::MAX);
        for piece in [1, 7, 100, 4_096] {
            let (ours, _) = inflate_by(OURS, (codec, wire), limit_bytes, piece);
            if codec == Codec::Lz4 && wire.ends_with(&[0, 0, 0, 0x80]) {
                assert_eq!(ours, Err(CodecFault::Malformed), "no end mark: {wire:?}");
                continue;
            }
            assert_eq!(ours, theirs, "{} by {piece}: {wire:?}", codec.name());
        }
        theirs
    }

    #[test]
    fn pieces_add_up_to_the_whole_in_every_codec() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for length in [0, 1, 4_096, 300_000] {
                let input = noise(length);
                let wire = compress(codec, &input);
                let (output, pieces) = inflate_by(WHOLE_BLOCK_BYTES, (codec, &wire), length, 4_096);
                assert!(output == Ok(input), "{} {length}", codec.name());
                let most = if codec == Codec::Snappy { 32 << 10 } else { 4_096 };
                assert!(pieces > length / most, "{} {length}: {pieces}", codec.name());
            }
        }
    }

    #[test]
    fn what_is_refused_at_once_is_refused_in_pieces() {
        let input = noise(3_000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let whole = compress(codec, &input);
            let cuts = (20..whole.len()).map(|length| whole[..length].to_vec());
            let longer = [&whole[..], &[0]].concat();
            for (number, wire) in cuts.chain([longer, whole.clone()]).enumerate() {
                for limit in [2_999, 3_000] {
                    let once = decompress(codec, &wire, limit);
                    for whole_bytes_max in [WHOLE_BLOCK_BYTES, OURS] {
                        let pieces = inflate_by(whole_bytes_max, (codec, &wire), limit, 700).0;
                        assert_eq!(pieces, once, "{} {number} {limit}", codec.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_block_comes_in_pieces() {
        let input = prose(1_000_000);
        let mut wires = vec![(Codec::Snappy, raw(&input)), (Codec::Snappy, stream(&input))];
        for size in [BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            wires.extend(frames(&input, size).into_iter().map(|wire| (Codec::Lz4, wire)));
        }
        for (codec, wire) in &wires {
            for piece in [4_096, 65_535] {
                let mut inflation = Inflation::begin(*codec, &wire[..], Vec::new(), 1_000_000)
                    .expect("it is of this format");
                for expected in (piece..1_000_000).step_by(piece) {
                    assert_eq!(inflation.go_on(piece), Ok(Inflated::Some));
                    assert_eq!(inflation.output().len(), expected, "{} {piece}", codec.name());
                }
                assert_eq!(inflation.go_on(piece), Ok(Inflated::All));
                assert!(inflation.into_output() == input);
            }
        }
    }

    #[test]
    fn our_decoders_give_what_the_libraries_give() {
        for length in [0, 1, 5, 63, 64, 65, 1_000, 40_000, 140_000] {
            let pieces: &[usize] =
                if length > 1_000 { &[1_009, 4_096, 65_536] } else { &[1, 7, 300, 4_096] };
            for content in contents(length) {
                for (codec, wire) in packed(&content) {
                    for piece in pieces {
                        for limit in [length, 1 << 20] {
                            let ours = inflate_by(OURS, (codec, &wire), limit, *piece).0;
                            assert!(ours.as_ref() == Ok(&content), "{} {length}", codec.name());
                        }
                    }
                    let theirs = inflate_by(THEIRS, (codec, &wire), length, 65_536).0;
                    assert!(theirs.as_ref() == Ok(&content), "{} {length}", codec.name());
                }
            }
        }
    }

    #[test]
    fn our_decoders_refuse_what_the_libraries_refuse() {
        let mut refused = 0;
        for content in [prose(300), vec![7; 150], noise(30)] {
            for (codec, wire) in packed(&content) {
                assert_eq!(agreed(codec, &wire, 1 << 16).as_ref(), Ok(&content));
                for length in 0..wire.len() {
                    refused += usize::from(agreed(codec, &wire[..length], 1 << 16).is_err());
                }
                for at in 0..wire.len() {
                    for bits in [1, 2, 3, 4, 8, 16, 32, 64, 128, 255, wire[at]] {
                        let mut altered = wire.clone();
                        altered[at] ^= bits;
                        refused += usize::from(agreed(codec, &altered, 1 << 16).is_err());
                    }
                }
                refused +=
                    usize::from(agreed(codec, &[&wire[..], &[0]].concat(), 1 << 16).is_err());
            }
        }
        assert!(refused > 1_000);
    }
}

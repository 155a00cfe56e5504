//! Inflates what was compressed, a piece at a time.
//!
//! Does: keep a decoder between pieces, so that whoever inflates a lot can do something else meanwhile.
//! Does not: look into what comes out.
//! Invariants: output grows as it is produced and never by more than a byte beyond the limit; what the
//! input claims about its own size is not believed; after a fault or the end nothing is asked again.
//! A piece is exact to the byte but for snappy, whose blocks are inflated whole, and for the blocks of
//! lz4, which are decoded whole: 4 MiB at most.
//! Apart because `codec` names the formats, and four decoders with their state are a room of their own.

mod zstandard;

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::codec::{Codec, CodecFault};
use super::limits::{INFLATED_BYTES_MAX, SNAPPY_RATIO_MAX};

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
    /// Whether it is a stream of blocks.
    Snappy(R, bool),
    Lz4(Box<FrameDecoder<Remaining<R>>>),
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
        mut input: R,
        output: Vec<u8>,
        limit_bytes: usize,
    ) -> Result<Self, CodecFault> {
        let starts_with =
            |input: &mut R, magic: &[u8]| input.fill_buf().is_ok_and(|it| it.starts_with(magic));
        let source = match codec {
            Codec::None => Source::None(input),
            Codec::Gzip => Source::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Snappy => {
                let is_stream = starts_with(&mut input, &XERIAL_MAGIC);
                Source::Snappy(input, is_stream)
            }
            Codec::Lz4 if !starts_with(&mut input, &LZ4_MAGIC) => {
                return Err(CodecFault::Malformed);
            }
            Codec::Lz4 => {
                Source::Lz4(Box::new(FrameDecoder::new(Remaining { input, ran_dry: false })))
            }
            Codec::Zstd => Source::Zstd(Box::new(
                zstandard::Frames::begin(input).ok_or(CodecFault::Malformed)?,
            )),
        };
        Ok(Self { source, output, limit_bytes })
    }

    /// Inflates `bytes` more, or to the end.
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
            Source::Snappy(input, false) => {
                let block = input.fill_buf().map_err(|_| CodecFault::Malformed)?;
                inflate_snappy_block(block, output, limit_bytes).map(|()| Inflated::All)
            }
            Source::Snappy(input, true) => inflate_xerial(input, output, limit_bytes, bytes),
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

/// Reads `bytes` more of `source`, or to its end, refusing the byte after `limit_bytes`.
///
/// A first piece has room for itself. If it is not all, room for all that may come is set aside at once:
/// memory is only taken as it is written to, where growing by doubling would hold a bomb three times
/// while it is copied.
fn drain(
    source: impl Read,
    output: &mut Vec<u8>,
    limit_bytes: usize,
    bytes: usize,
) -> Result<Inflated, CodecFault> {
    let most = limit_bytes.min(INFLATED_BYTES_MAX) + 1;
    let wanted = bytes.min(most.saturating_sub(output.len()));
    if output.capacity() - output.len() < wanted {
        let all = if output.is_empty() { wanted } else { most - output.len() };
        output.reserve_exact(all);
    }
    let before = output.len();
    let read = source.take(wanted as u64).read_to_end(output);
    if output.len() > limit_bytes {
        return Err(CodecFault::OverLimit);
    }
    read.map_err(|_| CodecFault::Malformed)?;
    Ok(if output.len() - before < wanted { Inflated::All } else { Inflated::Some })
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

/// Inflates blocks of snappy-java's stream until there are `bytes` more, or to its end.
fn inflate_xerial(
    input: &mut impl BufRead,
    output: &mut Vec<u8>,
    limit_bytes: usize,
    bytes: usize,
) -> Result<Inflated, CodecFault> {
    let enough = output.len().saturating_add(bytes);
    let whole = input.fill_buf().map_err(|_| CodecFault::Malformed)?;
    let mut rest = whole;
    while !rest.is_empty() && output.len() < enough {
        // Streams may be joined: a header can come again before any block.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or(CodecFault::Malformed)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(CodecFault::Malformed)?;
        let length = usize::try_from(i32::from_be_bytes(*length));
        let length = length.map_err(|_| CodecFault::Malformed)?;
        let (block, after) = after.split_at_checked(length).ok_or(CodecFault::Malformed)?;
        inflate_snappy_block(block, output, limit_bytes)?;
        rest = after;
    }
    let (consumed, inflated) =
        (whole.len() - rest.len(), if rest.is_empty() { Inflated::All } else { Inflated::Some });
    input.consume(consumed);
    Ok(inflated)
}

/// Appends one raw snappy block. The block says how long its output is: that is compared with the
/// limit and with what its bytes could hold at best before anything is allocated.
fn inflate_snappy_block(
    block: &[u8],
    output: &mut Vec<u8>,
    limit_bytes: usize,
) -> Result<(), CodecFault> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| CodecFault::Malformed)?;
    if claimed > limit_bytes - output.len() {
        return Err(CodecFault::OverLimit);
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(CodecFault::Malformed);
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut output[start..]);
    if written == Ok(claimed) { Ok(()) } else { Err(CodecFault::Malformed) }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use super::super::codec::{compress, decompress};
    use super::*;

    /// Text with repetitions and some noise.
    fn prose(length: usize) -> Vec<u8> {
        let noise = (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8);
        noise.map(|byte| b'a' + byte).collect()
    }

    /// Piece by piece; how many there were.
    fn inflate(
        codec: Codec,
        input: Vec<u8>,
        limit_bytes: usize,
        piece: usize,
    ) -> (Result<Vec<u8>, CodecFault>, usize) {
        let mut pieces = 0;
        let mut inflation =
            match Inflation::begin(codec, Bytes::from(input).reader(), Vec::new(), limit_bytes) {
                Ok(inflation) => inflation,
                Err(fault) => return (Err(fault), 0),
            };
        loop {
            pieces += 1;
            let before = inflation.output().len();
            match inflation.go_on(piece) {
                Ok(Inflated::Some) if codec != Codec::Snappy => {
                    assert_eq!(inflation.output().len(), before + piece);
                }
                Ok(Inflated::Some) => assert!(inflation.output().len() >= before + piece),
                Ok(Inflated::All) => return (Ok(inflation.into_output()), pieces),
                Err(fault) => return (Err(fault), pieces),
            }
        }
    }

    #[test]
    fn pieces_add_up_to_the_whole_in_every_codec() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for length in [0, 1, 4_096, 300_000] {
                let input = prose(length);
                let (output, pieces) = inflate(codec, compress(codec, &input), length, 4_096);
                assert!(output == Ok(input), "{} {length}", codec.name());
                let most = if codec == Codec::Snappy { 32 << 10 } else { 4_096 };
                assert!(pieces > length / most, "{} {length}: {pieces}", codec.name());
            }
        }
    }

    #[test]
    fn what_is_refused_at_once_is_refused_in_pieces() {
        let input = prose(3_000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let whole = compress(codec, &input);
            let cuts = (20..whole.len()).map(|length| whole[..length].to_vec());
            let longer = [&whole[..], &[0]].concat();
            for (number, wire) in cuts.chain([longer, whole.clone()]).enumerate() {
                for limit in [2_999, 3_000] {
                    let once = decompress(codec, &wire, limit);
                    let (pieces, _) = inflate(codec, wire.clone(), limit, 700);
                    assert_eq!(pieces, once, "{} {number} {limit}", codec.name());
                }
            }
        }
    }
}

//! Compression of a batch's records, for the few cases in which the broker must look inside.
//!
//! Does: inflate what producers deflate, within a bound given by the caller; deflate, at once.
//! Does not: touch plain appends and fetches; those never come here.
//! Invariants: output grows as it is produced and never beyond the limit; what the input claims
//! about its own size is not believed; every malformed input is a fault and none a panic.
//! Apart because four foreign formats meet here and nobody else should know their names.

use std::mem::take;

use super::deflation::Deflation;
use super::inflation::Inflation;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952; members may follow each other.
    Gzip,
    /// Raw snappy, or the framing of snappy-java ("xerial") that Java clients write.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Codec {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in a batch's attributes; `None` for numbers without meaning.
    #[must_use]
    #[inline]
    pub fn from_code(code: i16) -> Option<Self> {
        usize::try_from(code).ok().and_then(|index| Self::ALL.get(index).copied())
    }

    /// Its number in a batch's attributes.
    #[must_use]
    #[inline]
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name Kafka's `compression.type` has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why compressed bytes could not be inflated. Kafka's answer to a producer is INVALID_RECORD (87).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecFault {
    /// Not this format, damaged, cut short, or followed by something else.
    Malformed,
    /// It goes on beyond the limit: a bomb, or a batch larger than we look into.
    OverLimit,
}

/// Inflates `input` to at most `limit_bytes`.
///
/// # Errors
/// [`CodecFault`]; what was inflated until then is dropped.
pub fn decompress(codec: Codec, input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecFault> {
    let mut output = Vec::new();
    decompress_into(codec, input, &mut output, limit_bytes)?;
    Ok(output)
}

/// Inflates `input` into `output`, which is empty, to at most `limit_bytes`.
///
/// # Errors
/// [`CodecFault`]; what was inflated until then, up to a byte more than the limit, is in `output`
/// and tells what the attempt has cost.
pub fn decompress_into(
    codec: Codec,
    input: &[u8],
    output: &mut Vec<u8>,
    limit_bytes: usize,
) -> Result<(), CodecFault> {
    let mut inflation = Inflation::begin(codec, input, take(output), limit_bytes)?;
    let outcome = inflation.go_on(usize::MAX);
    *output = inflation.into_output();
    outcome.map(|_all| ())
}

/// Deflates `input` the way Kafka's own producer does, at each format's default level.
///
/// For cleaned batches, and for tests and load generators. Who compresses for a topic that asks for it
/// does so in pieces.
#[must_use]
pub fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut deflation = Deflation::begin(codec, input);
    deflation.go_on(usize::MAX);
    deflation.finish()
}

#[cfg(test)]
mod tests {
    use super::super::inflation::XERIAL_HEADER_BYTES;
    use super::super::limits::{INFLATED_BYTES_MAX, inflated_bytes_max};
    use super::*;

    const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn a_bomb_takes_no_more_memory_than_it_may_inflate_to() {
        const LIMIT: usize = 3 << 20;
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let bomb = compress(codec, &vec![0; 2 * LIMIT]);
            let mut output = Vec::new();
            let outcome = decompress_into(codec, &bomb, &mut output, LIMIT);
            assert_eq!(outcome, Err(CodecFault::OverLimit), "{codec:?}");
            assert_eq!(output.capacity(), LIMIT + 1, "{codec:?}: it never grew");
        }
    }

    #[test]
    fn a_stream_of_many_blocks_grows_once() {
        const LIMIT: usize = 3 << 20;
        let stream = compress(Codec::Snappy, &vec![0; LIMIT]);
        let mut output = Vec::new();
        assert_eq!(decompress_into(Codec::Snappy, &stream, &mut output, LIMIT), Ok(()));
        assert_eq!(output.capacity(), LIMIT + 1, "room for all was set aside at once");
    }

    /// Text with repetitions and some noise, `length` bytes of it.
    fn prose(length: usize) -> Vec<u8> {
        let noise = (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8);
        noise.map(|byte| b'a' + byte).collect()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for codec in Codec::ALL {
            for length in [0, 1, 1000, 32 << 10, 200_000] {
                let input = prose(length);
                let output = decompress(codec, &compress(codec, &input), length);
                assert_eq!(output, Ok(input), "{} {length}", codec.name());
            }
        }
    }

    #[test]
    fn the_limit_is_exact() {
        for codec in Codec::ALL {
            let compressed = compress(codec, &prose(5000));
            assert!(decompress(codec, &compressed, 5000).is_ok(), "{}", codec.name());
            assert_eq!(decompress(codec, &compressed, 4999), Err(CodecFault::OverLimit));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_in_every_codec() {
        let zeros = vec![0; INFLATED_BYTES_MAX + 1];
        for codec in COMPRESSED {
            let bomb = compress(codec, &zeros);
            let limit = inflated_bytes_max(bomb.len());
            assert_eq!(decompress(codec, &bomb, limit), Err(CodecFault::OverLimit));
        }
    }

    #[test]
    fn a_snappy_block_is_not_believed() {
        // Claims 2^31 − 1 bytes and holds none; then claims 1 MiB, which fits the limit but not
        // what three bytes can hold.
        let forged = [0xff, 0xff, 0xff, 0xff, 0x07];
        assert_eq!(decompress(Codec::Snappy, &forged, 1 << 20), Err(CodecFault::OverLimit));
        let forged = [0x80, 0x80, 0x40];
        assert_eq!(decompress(Codec::Snappy, &forged, 1 << 20), Err(CodecFault::Malformed));
    }

    #[test]
    fn a_zstd_window_of_two_gigabytes_is_refused() {
        // Magic, no single segment, window descriptor 2^31, one empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decompress(Codec::Zstd, &frame, 1 << 20), Err(CodecFault::Malformed));
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decompress(Codec::Zstd, &frame, 1 << 20), Ok(vec![]));
    }

    #[test]
    fn the_densest_snappy_block_is_within_the_ratio() {
        let zeros = vec![0; 1 << 16];
        let block = snap::raw::Encoder::new().compress_vec(&zeros).expect("small");
        assert_eq!(decompress(Codec::Snappy, &block, 1 << 16), Ok(zeros));
    }

    #[test]
    fn joined_streams_are_read_where_kafka_reads_them() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
            let twice = compress(codec, b"one").repeat(2);
            assert_eq!(decompress(codec, &twice, 100), Ok(b"oneone".to_vec()), "{}", codec.name());
        }
        let twice = compress(Codec::Lz4, b"one").repeat(2);
        assert_eq!(decompress(Codec::Lz4, &twice, 100), Err(CodecFault::Malformed));
    }

    #[test]
    fn a_cut_stream_is_malformed_wherever_it_is_cut() {
        let input = prose(300);
        for codec in COMPRESSED {
            let whole = compress(codec, &input);
            // Nothing but a header is an empty snappy stream, as in snappy-java.
            let first = if codec == Codec::Snappy { XERIAL_HEADER_BYTES + 1 } else { 1 };
            for length in first..whole.len() {
                let cut = decompress(codec, &whole[..length], 1000);
                assert_eq!(cut, Err(CodecFault::Malformed), "{} {length}", codec.name());
            }
        }
    }

    #[test]
    fn no_flipped_bit_panics_or_breaks_the_limit() {
        let input = prose(300);
        for codec in COMPRESSED {
            let whole = compress(codec, &input);
            for place in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[place / 8] ^= 1 << (place % 8);
                let output = decompress(codec, &bytes, 1000);
                assert!(output.is_err() || output.is_ok_and(|output| output.len() <= 1000));
            }
        }
    }

    #[test]
    fn codes_are_kafkas() {
        for (code, codec) in (0..).zip(Codec::ALL) {
            assert_eq!((codec.code(), Codec::from_code(code)), (code, Some(codec)));
        }
        assert!([-1, 5, 6, 7].iter().all(|&code| Codec::from_code(code).is_none()));
    }
}

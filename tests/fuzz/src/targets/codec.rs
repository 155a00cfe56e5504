//! Compressed bytes: gzip, snappy, LZ4, Zstandard.
//!
//! Oracle: nothing comes out beyond the limit, nor is more memory taken than it and what the format
//! needs; a larger limit changes nothing about what fits the smaller one; what we deflate inflates to
//! the same.

use flumen_protocol::batch::codec::{Codec, CodecFault, compress, decompress, decompress_into};

use crate::draw::Draw;
use crate::meter;

/// What a decoder may take besides its output: LZ4's two blocks of 4 MiB and the window before them are
/// the most.
const DECODER_BYTES_MAX: usize = 16 << 20;

/// A limit, then bytes that may be gzip.
pub fn gzip(input: &[u8]) {
    inflates_within_bounds(Codec::Gzip, input);
}

/// A limit, then bytes that may be snappy, raw or in snappy-java's framing.
pub fn snappy(input: &[u8]) {
    inflates_within_bounds(Codec::Snappy, input);
}

/// A limit, then bytes that may be an LZ4 frame.
pub fn lz4(input: &[u8]) {
    inflates_within_bounds(Codec::Lz4, input);
}

/// A limit, then bytes that may be Zstandard.
pub fn zstd(input: &[u8]) {
    inflates_within_bounds(Codec::Zstd, input);
}

fn inflates_within_bounds(codec: Codec, input: &[u8]) {
    let mut draw = Draw::new(input);
    let choice = draw.byte();
    let limit = [0, 1, 100, 4 << 10, 64 << 10, 1 << 20][usize::from(choice & 0x3f) % 6];
    let packed = draw.rest();
    let mut output = Vec::new();
    let (outcome, spent) = meter::spent(|| decompress_into(codec, packed, &mut output, limit));
    assert!(spent <= 4 * limit + DECODER_BYTES_MAX, "{spent} bytes within {limit}");
    match outcome {
        Ok(()) => {
            assert!(output.len() <= limit);
            assert_eq!(decompress(codec, packed, limit + 1).as_ref(), Ok(&output));
        }
        Err(CodecFault::OverLimit) => assert!(output.len() <= limit + 1),
        Err(CodecFault::Malformed) => assert!(output.len() <= limit),
    }
    if choice & 0xc0 == 0xc0 {
        let again = decompress(codec, &compress(codec, packed), packed.len());
        assert_eq!(again.as_deref(), Ok(packed));
    }
}

/// Something of each length, and two streams in one.
fn packed_samples(codec: Codec) -> Vec<Vec<u8>> {
    let texts: [Vec<u8>; 4] =
        [Vec::new(), b"a short text, a short text".to_vec(), (0..=255).collect(), vec![0; 5000]];
    let packed = texts.iter().map(|text| compress(codec, text));
    let mut seeds: Vec<Vec<u8>> = packed.map(|packed| [vec![4], packed].concat()).collect();
    seeds.push([seeds[1].clone(), compress(codec, b"more")].concat());
    seeds.push([vec![0xc4], texts[1].clone()].concat());
    seeds
}

/// Of gzip.
pub fn gzip_seeds() -> Vec<Vec<u8>> {
    packed_samples(Codec::Gzip)
}

/// Of snappy: framed, and a raw block.
pub fn snappy_seeds() -> Vec<Vec<u8>> {
    let mut seeds = packed_samples(Codec::Snappy);
    // Ten bytes: one literal of two, one copy of eight from two back.
    seeds.push(b"\x04\x0a\x04ab\x11\x02".to_vec());
    seeds
}

/// Of LZ4.
pub fn lz4_seeds() -> Vec<Vec<u8>> {
    packed_samples(Codec::Lz4)
}

/// Of Zstandard.
pub fn zstd_seeds() -> Vec<Vec<u8>> {
    packed_samples(Codec::Zstd)
}

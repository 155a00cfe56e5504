//! Compressed bytes: gzip, snappy, LZ4, Zstandard.
//!
//! Oracle: nothing comes out beyond the limit, nor is more memory taken than it and what the format
//! needs; a larger limit changes nothing about what fits the smaller one; what we deflate inflates to
//! the same; in pieces, for which snappy and LZ4 have decoders of their own, the same comes out as at
//! once, or nothing.

use flumen_protocol::batch::codec::{Codec, CodecFault, compress, decompress, decompress_into};
use flumen_protocol::batch::inflation::{Inflated, Inflation};

use crate::draw::Draw;
use crate::meter;

/// What a decoder may take besides its output: LZ4's blocks of 64 KiB and the window before them are the
/// most that is counted; Zstandard's window is not.
const DECODER_BYTES_MAX: usize = 1 << 20;

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
    is_the_same_in_pieces(codec, packed, limit, outcome.is_ok().then_some(&output));
    match outcome {
        Ok(()) => {
            assert!(output.len() <= limit);
            assert_eq!(decompress(codec, packed, limit + 1).as_ref(), Ok(&output));
        }
        Err(CodecFault::OverLimit) => assert!(output.len() <= limit + 1),
        Err(CodecFault::Malformed) => assert!(output.len() <= limit),
    }
    if choice & 0xc0 == 0xc0 {
        let deflated = compress(codec, packed);
        let again = decompress(codec, &deflated, packed.len());
        assert_eq!(again.as_deref(), Ok(packed));
        assert_eq!(in_pieces(codec, &deflated, packed.len(), 4_000).as_deref(), Ok(packed));
    }
}

/// The library takes two LZ4 frames that we refuse: one whose end mark is an empty block, and one of
/// blocks that are linked and longer than it says.
fn is_the_same_in_pieces(codec: Codec, packed: &[u8], limit: usize, once: Option<&Vec<u8>>) {
    for piece in [60, 4_000] {
        let pieces = in_pieces(codec, packed, limit, piece);
        if pieces.is_ok() || codec != Codec::Lz4 {
            assert_eq!(pieces.as_ref().ok(), once, "{piece}");
        }
    }
}

fn in_pieces(
    codec: Codec,
    packed: &[u8],
    limit: usize,
    piece: usize,
) -> Result<Vec<u8>, CodecFault> {
    let mut inflation = Inflation::begin_exact(codec, packed, limit)?;
    loop {
        let before = inflation.output().len();
        let inflated = inflation.go_on(piece)?;
        assert!(inflation.output().len() - before <= piece);
        if inflated == Inflated::All {
            return Ok(inflation.into_output());
        }
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

/// Of LZ4: plain, and with all that a frame may have, of linked blocks and of independent ones.
pub fn lz4_seeds() -> Vec<Vec<u8>> {
    let mut seeds = packed_samples(Codec::Lz4);
    let block = b"\x19\0\0\0\xefa short text, \x0e\0\x01`t text\xdb\x81!\xe0";
    let end = b"\0\0\0\0\x02\xf3\xd1^";
    for head in [&b"\x04\x22M\x18TP\xc0"[..], b"\x04\x22M\x18|P(\0\0\0\0\0\0\0$"] {
        seeds.push([&[4], head, block, end].concat());
    }
    seeds
}

/// Of Zstandard.
pub fn zstd_seeds() -> Vec<Vec<u8>> {
    packed_samples(Codec::Zstd)
}

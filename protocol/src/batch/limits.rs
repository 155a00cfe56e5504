//! Every bound this room puts on what bytes may make it do.
//!
//! Does: hold the numbers and their reasons. Does not: count anything itself.
//! Invariants: related bounds are compared at compile time.
//! Apart so that one page answers "what can a hostile batch cost us".

use super::codec::Codec;

/// The most bytes one batch may inflate to, whatever its size.
///
/// A batch is at most `max.message.bytes`, 1 MiB by default; 64 MiB is sixty times that and still
/// small enough for a core's memory. At the limit decompression ends with
/// [`CodecFault::OverLimit`](super::codec::CodecFault::OverLimit).
pub const INFLATED_BYTES_MAX: usize = 64 << 20;

/// How many times its own size a batch may inflate to.
///
/// The densest honest input, a run of one byte, reaches about 1,000 in gzip; bombs go on from there.
pub const INFLATED_RATIO_MAX: usize = 1000;

/// What any batch may inflate to even if the ratio forbids it.
///
/// A hundred equal records of 10 KiB shrink to 100 bytes in zstd and are no attack. One mebibyte
/// is what a fetch of the same records uncompressed would cost anyway.
pub const INFLATED_BYTES_FLOOR: usize = 1 << 20;

/// The largest history window a zstd frame may ask for, as a power of two: 8 MiB.
///
/// The decoder allocates the window from the frame's header, before any data: it must be bounded
/// by itself. Levels 1 to 19 never ask for more; the `--ultra` levels above are refused.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The most bytes a snappy block can inflate to per byte of input, so that a block's own claim of
/// its length is checked before it is believed.
///
/// The densest element, a copy with a two-byte offset, makes 64 bytes out of three.
pub const SNAPPY_RATIO_MAX: usize = 22;

/// What a block inflates to at most to be inflated whole where less was asked for: it is the
/// library's, which knows only whole blocks.
///
/// Java clients and librdkafka write lz4 blocks of 64 KiB, snappy-java blocks of 32: nothing they send
/// but librdkafka's one snappy block a batch needs more.
pub const WHOLE_BLOCK_BYTES: usize = 64 << 10;

/// How many bytes of work a block of snappy or large lz4 is at least: some are one byte and take as
/// long as these, and 200,000 of them fit into a batch of a mebibyte.
pub const BLOCK_WORK_BYTES: usize = 64;

/// How much room is cleared at a time before our own decoders of large blocks write to it.
///
/// It stays in the processor's cache between the two, and a short output costs no more than this.
pub const INFLATED_STRIDE_BYTES: usize = 32 << 10;

/// The fewest bytes a record takes: its length, attributes, both deltas, two lengths for a null key
/// and a null value, and the number of its headers, a byte each.
///
/// A count beyond what a batch's bytes have room for is refused unread. Else 61 bytes could claim
/// 2^31 records: a segment for each such batch, and 2^32 of them use up all offsets there are.
pub const RECORD_BYTES_MIN: usize = 7;

/// How many records at fault are named to a producer: those without a key on a compacted topic, or
/// those of a time the topic does not take.
///
/// Clients blame the others of the batch on these, so all should be named; a client's largest batch
/// by default (10,000 records in librdkafka) has no more. The answer to one such batch stays below
/// 100 KiB, whatever a batch claims.
pub const NAMED_RECORDS_MAX: usize = 10_000;

const _: () = assert!(INFLATED_BYTES_FLOOR <= INFLATED_BYTES_MAX);
const _: () = assert!(INFLATED_STRIDE_BYTES <= WHOLE_BLOCK_BYTES);
const _: () = assert!(1 << ZSTD_WINDOW_LOG_MAX <= INFLATED_BYTES_MAX);

/// How many records a batch can have whose header is followed by `payload_bytes`: as many as fit, or
/// as would fit into what that may inflate to.
#[must_use]
#[inline]
pub fn record_count_max(codec: Codec, payload_bytes: usize) -> usize {
    let bytes = match codec {
        Codec::None => payload_bytes,
        Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => inflated_bytes_max(payload_bytes),
    };
    bytes / RECORD_BYTES_MIN
}

/// How many bytes a batch's records of `compressed_bytes` may inflate to.
#[must_use]
pub fn inflated_bytes_max(compressed_bytes: usize) -> usize {
    compressed_bytes
        .saturating_mul(INFLATED_RATIO_MAX)
        .clamp(INFLATED_BYTES_FLOOR, INFLATED_BYTES_MAX)
}

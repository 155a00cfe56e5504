//! Gives the records of a batch another codec, a piece at a time: what `compression.type` of a topic asks
//! for.
//!
//! Does: compress what was inflated, put the batch's own header before it and make that true.
//! Does not: look into records, or inflate them; `inspection` has done both.
//! Invariants: but for codec, length and checksum the header stays as the producer wrote it, so offsets,
//! times, producer and sequences do; no more than the limit is held of what comes out.
//! Apart because only a topic that asks for it changes how a producer packed its records.

use std::io::Cursor;

use bytes::BytesMut;

use super::codec::Codec;
use super::deflation::Deflation;
use super::header::{HEADER_BYTES, LENGTH_OVERHEAD_BYTES, at, bit};
use super::payload::Payload;
use super::stamp::stamp_crc;

/// A batch that gets another codec.
#[derive(Debug)]
pub struct Repacking {
    header: [u8; HEADER_BYTES],
    codec: Codec,
    limit_bytes: usize,
    deflation: Deflation<Cursor<Payload>>,
}

/// The batch would be larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Repacking {
    /// Begins to pack `records`, which `batch` inflates to, into a batch of at most `limit_bytes`.
    ///
    /// # Panics
    /// When `batch` is shorter than a header: nothing was checked, which is our own bug.
    #[must_use]
    pub fn begin(batch: &[u8], records: Payload, codec: Codec, limit_bytes: usize) -> Self {
        let header = batch.first_chunk().expect("a batch has a header");
        let deflation = Deflation::begin(codec, Cursor::new(records));
        Self { header: *header, codec, limit_bytes, deflation }
    }

    /// Goes on for so many bytes of work, and takes off what it did. `None`: there is more.
    pub fn go_on(&mut self, work_bytes: &mut usize) -> Option<Result<BytesMut, TooLarge>> {
        if *work_bytes == 0 {
            return None;
        }
        let cost = work_per_byte(self.codec);
        // At least one, or a turn that has little left would get nowhere.
        let taken = self.deflation.go_on((*work_bytes / cost).max(1));
        *work_bytes = work_bytes.saturating_sub((taken * cost).max(1));
        if HEADER_BYTES + self.deflation.output_bytes() > self.limit_bytes {
            return Some(Err(TooLarge));
        }
        self.deflation.is_all().then(|| self.finish())
    }

    /// Gives the records back.
    #[must_use]
    pub fn into_records(self) -> Payload {
        self.deflation.into_input().into_inner()
    }

    fn finish(&mut self) -> Result<BytesMut, TooLarge> {
        let payload = self.deflation.finish();
        let bytes = HEADER_BYTES + payload.len();
        if bytes > self.limit_bytes {
            return Err(TooLarge);
        }
        let length = i32::try_from(bytes - LENGTH_OVERHEAD_BYTES).map_err(|_| TooLarge)?;
        let mut batch = BytesMut::with_capacity(bytes);
        batch.extend_from_slice(&self.header);
        batch.extend_from_slice(&payload);
        batch[at::LENGTH..at::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        // The low byte of the attributes: the codec's bits live there.
        let attributes = &mut batch[at::ATTRIBUTES + 1];
        *attributes = *attributes & !(bit::CODEC as u8) | self.codec.code() as u8;
        stamp_crc(&mut batch);
        Ok(batch)
    }
}

/// How much work it is to compress a byte, where inflating one is 1.
fn work_per_byte(codec: Codec) -> usize {
    match codec {
        Codec::None => 1,
        Codec::Snappy | Codec::Lz4 => 4,
        Codec::Zstd => 8,
        Codec::Gzip => 32,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::builder::{BatchBuilder, NewRecord};
    use super::super::check::check_produced;
    use super::super::goldens;
    use super::super::header::BatchHeader;
    use super::super::inspection::Inspection;
    use super::super::records::records;
    use super::*;

    /// In pieces of so much work; how many there were.
    fn repack(
        batch: &[u8],
        codec: Codec,
        limit_bytes: usize,
        piece: usize,
    ) -> (Result<BytesMut, TooLarge>, usize) {
        let whole = Bytes::copy_from_slice(batch);
        let mut inspection = Inspection::begin(whole, i64::MIN..=i64::MAX, 64 << 20);
        inspection.go_on(&mut { usize::MAX }).expect("all at once").summary.expect("sound");
        let (batch, inflated) = inspection.into_parts();
        let mut repacking = Repacking::begin(&batch, inflated, codec, limit_bytes);
        let mut pieces = 1;
        loop {
            if let Some(repacked) = repacking.go_on(&mut { piece }) {
                return (repacked, pieces);
            }
            pieces += 1;
        }
    }

    fn contents(batch: &[u8]) -> Vec<String> {
        let opened = records(batch, 1 << 20).expect("sound");
        opened.iter().map(|record| format!("{:?}", record.expect("sound"))).collect()
    }

    #[test]
    fn every_codec_becomes_every_other_and_nothing_else_changes() {
        let all = [goldens::PLAIN, goldens::GZIP, goldens::SNAPPY, goldens::LZ4, goldens::ZSTD];
        for golden in all {
            let batch = goldens::bytes(golden);
            for codec in Codec::ALL {
                for piece in [1, 100, usize::MAX] {
                    let (repacked, _) = repack(&batch, codec, 1 << 20, piece);
                    let repacked = repacked.expect("it has room");
                    let (was, is) = (check_produced(&batch), check_produced(&repacked));
                    let mut expected = was.expect("a golden one");
                    (expected.codec, expected.bytes) = (codec, repacked.len());
                    assert_eq!(is, Ok(expected));
                    assert_eq!(contents(&repacked), contents(&batch));
                    let header = |batch: &[u8]| BatchHeader::parse(batch).expect("whole");
                    let (was, is) = (header(&batch), header(&repacked));
                    assert_eq!(is.attributes & !bit::CODEC, was.attributes & !bit::CODEC);
                }
            }
        }
    }

    #[test]
    fn what_becomes_too_large_is_given_up_early() {
        let mut builder = BatchBuilder::new();
        let value = vec![0; (1 << 20) - 100];
        let value = Some(&value[..]);
        builder.push(&NewRecord { timestamp: 5, key: None, value, headers: &[] });
        let packed = builder.finish_compressed(Codec::Zstd);
        assert_eq!(repack(&packed, Codec::None, 100_000, 10_000), (Err(TooLarge), 10));
        let (whole, pieces) = repack(&packed, Codec::None, 2 << 20, 10_000);
        let bytes = whole.expect("it has room").len();
        assert_eq!(pieces, 105);
        assert!(repack(&packed, Codec::None, bytes, usize::MAX).0.is_ok());
        assert_eq!(repack(&packed, Codec::None, bytes - 1, usize::MAX).0, Err(TooLarge));
    }

    #[test]
    fn a_slow_codec_has_smaller_pieces() {
        let mut builder = BatchBuilder::new();
        let value = vec![0; 100_000];
        let value = Some(&value[..]);
        builder.push(&NewRecord { timestamp: 5, key: None, value, headers: &[] });
        let batch = builder.finish();
        let pieces = |codec| repack(&batch, codec, 1 << 20, 50_000).1;
        assert_eq!((pieces(Codec::None), pieces(Codec::Zstd), pieces(Codec::Gzip)), (3, 17, 65));
    }
}

//! Snappy: a raw block, or snappy-java's stream of blocks.
//!
//! Does: inflate blocks, and stop within one that is large.
//! Does not: decode what is inflated whole: the library does, which is quicker.
//! Invariants: a block is refused or inflated alike in both ways; no more room is taken than it claims,
//! and that is compared with the limit and with what its bytes could hold at best.
//! Apart because librdkafka writes a whole batch as one block, and the library knows only whole ones: a
//! mebibyte may become 22, while nobody else on the core is served.

use std::io::BufRead;

use super::super::codec::CodecFault;
use super::super::limits::{BLOCK_WORK_BYTES, INFLATED_STRIDE_BYTES, SNAPPY_RATIO_MAX};
use super::elements::{Element, Room, SHORT_ROOM_BYTES, WORD_BYTES, copy_short};
use super::{Inflated, XERIAL_HEADER_BYTES, XERIAL_MAGIC, make_room};

/// Blocks in `R`, which gives all of its bytes at once.
pub struct Blocks<R> {
    input: R,
    is_stream: bool,
    /// A block that claims no more is inflated whole, however little is asked for.
    whole_bytes_max: usize,
    open: Option<Block>,
}

impl<R: BufRead> Blocks<R> {
    /// Begins before the first block; `None` without any byte, which no block is.
    pub fn begin(mut input: R, whole_bytes_max: usize) -> Option<Self> {
        let bytes = input.fill_buf().ok().filter(|bytes| !bytes.is_empty())?;
        let is_stream = bytes.starts_with(&XERIAL_MAGIC);
        Some(Self { input, is_stream, whole_bytes_max, open: None })
    }

    /// Inflates `bytes` more, and to the end of the block if that is small, but less where many blocks
    /// are tiny; or to the end.
    pub fn go_on(
        &mut self,
        output: &mut Vec<u8>,
        limit_bytes: usize,
        bytes: usize,
    ) -> Result<Inflated, CodecFault> {
        let enough = output.len().saturating_add(bytes);
        let mut blocks_left = bytes / BLOCK_WORK_BYTES + 1;
        loop {
            let rest = self.input.fill_buf().map_err(|_| CodecFault::Malformed)?;
            if let Some(block) = &mut self.open {
                let read = block.go_on(rest, output, enough)?;
                self.input.consume(read);
                if output.len() < block.end {
                    return Ok(Inflated::Some);
                }
                self.open = None;
            } else if rest.is_empty() {
                return Ok(Inflated::All);
            } else if output.len() >= enough || blocks_left == 0 {
                return Ok(Inflated::Some);
            } else if self.is_stream && rest.starts_with(&XERIAL_MAGIC) {
                // Streams may be joined: a header can come again before any block.
                rest.get(..XERIAL_HEADER_BYTES).ok_or(CodecFault::Malformed)?;
                self.input.consume(XERIAL_HEADER_BYTES);
            } else {
                let block = if self.is_stream { framed(rest)? } else { rest };
                let framing_bytes = if self.is_stream { FRAMING_BYTES } else { 0 };
                let whole_bytes_max = self.whole_bytes_max.max(enough - output.len());
                self.open = begin_block(block, output, limit_bytes, whole_bytes_max)?;
                let left = self.open.as_ref().map_or(0, |block| block.left);
                let read = framing_bytes + block.len() - left;
                self.input.consume(read);
                blocks_left -= 1;
            }
        }
    }
}

/// A block's length before it in a stream, big-endian.
const FRAMING_BYTES: usize = 4;

/// The block that a stream goes on with.
fn framed(rest: &[u8]) -> Result<&[u8], CodecFault> {
    let (length, after) = rest.split_first_chunk::<FRAMING_BYTES>().ok_or(CodecFault::Malformed)?;
    let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| CodecFault::Malformed)?;
    after.get(..length).ok_or(CodecFault::Malformed)
}

/// Appends a block that claims at most `whole_bytes_max`, or begins one that claims more. It says how
/// long its output is: that is compared before anything is allocated.
fn begin_block(
    block: &[u8],
    output: &mut Vec<u8>,
    limit_bytes: usize,
    whole_bytes_max: usize,
) -> Result<Option<Block>, CodecFault> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| CodecFault::Malformed)?;
    if claimed > limit_bytes - output.len() {
        return Err(CodecFault::OverLimit);
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(CodecFault::Malformed);
    }
    let start = output.len();
    make_room(output, limit_bytes, claimed);
    if claimed > whole_bytes_max {
        let length_bytes = block.iter().take_while(|byte| **byte > 0x7f).count() + 1;
        let (end, left) = (start + claimed, block.len() - length_bytes);
        return Ok(Some(Block { start, end, left, due: Element::NONE }));
    }
    output.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut output[start..]);
    if written == Ok(claimed) { Ok(None) } else { Err(CodecFault::Malformed) }
}

/// A block that is being inflated.
struct Block {
    /// Where it begins in the output: it looks back no further.
    start: usize,
    /// Where it ends there, as it claims.
    end: usize,
    /// Bytes of it that were not read.
    left: usize,
    due: Element,
}

impl Block {
    /// Inflates until the output is `enough`, or to the block's end. `rest` begins with what was not
    /// read; says how much of that was.
    fn go_on(
        &mut self,
        rest: &[u8],
        output: &mut Vec<u8>,
        enough: usize,
    ) -> Result<usize, CodecFault> {
        let stop = enough.min(self.end);
        let mut input = &rest[..self.left];
        while output.len() < stop {
            let at = output.len();
            output.resize(stop.min(at + INFLATED_STRIDE_BYTES), 0);
            let (room_at, room_end) = (at - self.start, self.end - self.start);
            let mut room = Room { input, output: &mut output[self.start..], at: room_at };
            let outcome = fill(&mut room, &mut self.due, room_end);
            let written_end = self.start + room.at;
            input = room.input;
            output.truncate(written_end);
            outcome.ok_or(CodecFault::Malformed)?;
        }
        let read = self.left - input.len();
        self.left = input.len();
        let is_end = output.len() == self.end;
        if is_end && self.left > 0 { Err(CodecFault::Malformed) } else { Ok(read) }
    }
}

/// Fills the room; `None` if the input cannot. The block ends at `end` of the output, which may be
/// beyond the room.
fn fill(room: &mut Room<'_, '_>, due: &mut Element, end: usize) -> Option<()> {
    loop {
        *due = room.write(*due);
        if room.at == room.output.len() {
            return Some(());
        }
        write_short(room)?;
        *due = next_element(room, end)?;
    }
}

/// Reads the element that begins with the next byte: its two lowest bits say what it is.
fn next_element(room: &mut Room<'_, '_>, end: usize) -> Option<Element> {
    let tag = room.byte()?;
    let (high, long) = (usize::from(tag >> 2), usize::from(tag >> 5));
    let (offset, bytes) = match tag & 3 {
        0 => (0, literal_bytes(room, high)?),
        1 => (long << 8 | usize::from(room.byte()?), (high & 7) + 4),
        2 => (u16::from_le_bytes(room.bytes()?).into(), high + 1),
        _ => (u32::from_le_bytes(room.bytes()?) as usize, high + 1),
    };
    let is_literal = tag & 3 == 0;
    let is_there =
        if is_literal { bytes <= room.input.len() } else { (1..=room.at).contains(&offset) };
    if !is_there || bytes > end - room.at {
        return None;
    }
    Some(if is_literal { Element::Literal { bytes } } else { Element::Copy { offset, bytes } })
}

/// How long a literal is: 61 to 64 say that so many bytes less 60 say it.
fn literal_bytes(room: &mut Room<'_, '_>, high: usize) -> Option<usize> {
    let mut length = [0; 4];
    match high {
        60 => length[..1].copy_from_slice(&room.bytes::<1>()?),
        61 => length[..2].copy_from_slice(&room.bytes::<2>()?),
        62 => length[..3].copy_from_slice(&room.bytes::<3>()?),
        63 => length = room.bytes()?,
        _ => return Some(high + 1),
    }
    Some(u32::from_le_bytes(length) as usize + 1)
}

/// Writes elements as long as they are short and there is room for any such: nearly all of a text.
fn write_short(room: &mut Room<'_, '_>) -> Option<()> {
    let (mut input, mut at) = (room.input, room.at);
    let output = &mut *room.output;
    while let Some(ahead) = input.first_chunk::<{ WORD_BYTES + 1 }>()
        && output.len() - at >= SHORT_ROOM_BYTES
    {
        let tag = usize::from(ahead[0]);
        if tag & 3 == 0 {
            let bytes = (tag >> 2) + 1;
            if bytes > WORD_BYTES {
                break;
            }
            output[at..at + WORD_BYTES].copy_from_slice(&ahead[1..]);
            (input, at) = (&input[1 + bytes..], at + bytes);
            continue;
        }
        let four = u32::from_le_bytes([ahead[1], ahead[2], ahead[3], ahead[4]]) as usize;
        let (offset, bytes, tag_bytes) = match tag & 3 {
            1 => ((tag >> 5) << 8 | four & 0xff, (tag >> 2 & 7) + 4, 2),
            2 => (four & 0xffff, (tag >> 2) + 1, 3),
            _ => (four, (tag >> 2) + 1, 5),
        };
        if offset == 0 || offset > at {
            return None;
        }
        copy_short(output, at, offset, bytes);
        (input, at) = (&input[tag_bytes..], at + bytes);
    }
    (room.input, room.at) = (input, at);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::super::codec::Codec;
    use super::super::tests::agreed;
    use super::*;

    /// A block of these elements that claims `claimed` bytes.
    fn block(claimed: usize, elements: &[&[u8]]) -> Vec<u8> {
        let (mut block, mut rest) = (Vec::new(), claimed);
        while rest > 0x7f {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
        [block, elements.concat()].concat()
    }

    /// A literal whose length takes so many bytes of its own.
    fn literal(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len() - 1;
        let tag = if length_bytes == 0 { length } else { 59 + length_bytes };
        let length = (length as u32).to_le_bytes();
        [&[(tag << 2) as u8], &length[..length_bytes], content].concat()
    }

    fn inflated(block: &[u8]) -> Option<Vec<u8>> {
        agreed(Codec::Snappy, block, 1 << 20).ok()
    }

    #[test]
    fn lengths_of_literals_are_written_in_five_ways() {
        let content: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for (length_bytes, lengths) in [
            (0, &[1, 16, 17, 60][..]),
            (1, &[1, 60, 61, 256]),
            (2, &[1, 257, 65_536]),
            (3, &[1, 65_537, 70_000]),
            (4, &[1, 300, 70_000]),
        ] {
            for length in lengths {
                let content = &content[..*length];
                let whole = block(*length, &[&literal(length_bytes, content)]);
                assert_eq!(inflated(&whole).as_deref(), Some(content), "{length_bytes} {length}");
                assert_eq!(inflated(&whole[..whole.len() - 1]), None, "{length_bytes} {length}");
            }
        }
        for tag in 60..64 {
            for length in 0..=usize::from(tag - 59) {
                let cut = [&[tag << 2], &[0; 4][..length]].concat();
                assert_eq!(inflated(&block(1, &[&cut])), None, "no byte follows the length");
            }
        }
        assert_eq!(inflated(&block(1, &[&[63 << 2, 255, 255, 255, 255, 0]])), None);
    }

    #[test]
    fn copies_come_from_near_and_far() {
        let first = literal(2, &(0..200).cycle().take(3_000).collect::<Vec<u8>>());
        for offset in
            [1_usize, 2, 3, 7, 8, 15, 16, 17, 255, 256, 2_047, 2_999, 3_000, 3_001, 70_000]
        {
            for bytes in [1_usize, 4, 11, 12, 16, 17, 33, 64] {
                let [low, high, third, ..] = offset.to_le_bytes();
                let tag = ((bytes - 1) << 2) as u8;
                let mut copies = vec![vec![tag | 3, low, high, third, 0]];
                if offset < 1 << 16 {
                    copies.push(vec![tag | 2, low, high]);
                }
                if offset < 1 << 11 && (4..12).contains(&bytes) {
                    copies.push(vec![high << 5 | ((bytes - 4) << 2) as u8 | 1, low]);
                }
                for copy in copies {
                    // With room behind it for the fast way, and without.
                    for tail in [&literal(1, &[9; 150])[..], &[]] {
                        let tail_bytes = if tail.is_empty() { 0 } else { 150 };
                        let whole = block(3_000 + bytes + tail_bytes, &[&first, &copy, tail]);
                        let output = inflated(&whole);
                        assert_eq!(output.is_some(), offset <= 3_000, "{offset} {bytes}");
                        let Some(output) = output else { continue };
                        let repeats = |at: usize| output[at] == output[at - offset];
                        assert!((3_000..3_000 + bytes).all(repeats), "{offset} {bytes}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_is_what_it_claims_or_nothing() {
        let whole = [&literal(0, b"ab")[..], &[5 << 2 | 2, 2, 0]];
        assert_eq!(inflated(&block(8, &whole)).as_deref(), Some(&b"abababab"[..]));
        for claimed in [0, 1, 2, 3, 7, 9, 100] {
            assert_eq!(inflated(&block(claimed, &whole)), None, "{claimed}");
        }
        assert_eq!(inflated(&block(0, &[])).as_deref(), Some(&b""[..]));
        assert_eq!(inflated(&block(6, &[&[5 << 2 | 2, 1, 0]])), None, "nothing to look back at");
        assert_eq!(inflated(&block(8, &[whole[0], &[5 << 2 | 2, 0, 0]])), None, "no distance");
        assert_eq!(inflated(&[0x88, 0x80, 0x80, 0x80, 0x80, 0, 4, b'a', b'b', 0]), None);
        assert_eq!(inflated(b""), None);
    }

    #[test]
    fn a_block_of_a_stream_does_not_look_into_the_one_before() {
        let (one, two) = (block(2, &[&literal(0, b"ab")]), block(4, &[&[3 << 2 | 2, 2, 0]]));
        let framed = |block: &[u8]| [&(block.len() as i32).to_be_bytes(), block].concat();
        let header = [&XERIAL_MAGIC[..], &[0; 8]].concat();
        let alone = [&header[..], &framed(&one), &framed(&one)].concat();
        assert_eq!(inflated(&alone).as_deref(), Some(&b"abab"[..]));
        assert_eq!(inflated(&[&header[..], &framed(&one), &framed(&two)].concat()), None);
    }

    #[test]
    fn tiny_blocks_are_worked_on_as_if_they_were_larger() {
        let framed = [&[0, 0, 0, 3][..], &block(1, &[b"\0x"])].concat();
        let whole = [&XERIAL_MAGIC[..], &[0; 8], &framed.repeat(1_000)].concat();
        let mut blocks = Blocks::begin(&whole[..], 64 << 10).expect("there are bytes");
        let mut output = Vec::new();
        for pieces in 1..10 {
            assert_eq!(blocks.go_on(&mut output, 1_000, 6_400), Ok(Inflated::Some));
            assert_eq!(output.len(), pieces * 101);
        }
        assert_eq!(blocks.go_on(&mut output, 1_000, 6_400), Ok(Inflated::All));
        assert_eq!(output, [b'x'; 1_000]);
    }

    #[test]
    fn room_is_taken_for_what_is_claimed_and_no_more() {
        let wire = block(200_000, &[&literal(3, &[3; 199_936]), &[63 << 2 | 2, 1, 0]]);
        let mut blocks = Blocks::begin(&wire[..], 64 << 10).expect("there are bytes");
        let mut output = Vec::new();
        assert_eq!(blocks.go_on(&mut output, 199_999, 1), Err(CodecFault::OverLimit));
        assert_eq!(output.capacity(), 0);
        let mut blocks = Blocks::begin(&wire[..], 64 << 10).expect("there are bytes");
        while blocks.go_on(&mut output, 200_000, 1_000) == Ok(Inflated::Some) {
            assert_eq!(output.capacity(), 200_000);
        }
        assert!(output == [3; 200_000]);
    }
}

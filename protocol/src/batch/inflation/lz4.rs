//! An LZ4 frame with large blocks.
//!
//! Does: read the frame, compare its checksums and its size, and stop within a block.
//! Does not: read frames with blocks of 64 KiB: the library does, which is quicker.
//! Invariants: one frame and nothing after it; a block's checksum is compared before it is decoded, and
//! none is empty or longer than the frame says; no memory but the output's is taken.
//! Apart because Go clients write blocks of 4 MiB, and the library decodes a block at one go, while
//! nobody else on the core is served.
//!
//! ```text
//!  descriptor --> block --> block ... --> end mark (--> checksum)
//!
//!  a block:     length with the highest bit for "stored", bytes, (checksum)
//!  its bytes:   token --> (length) --> literal --> offset --> (length) --> copy --> token ...
//!                                         \--> the block's end
//! ```

use std::hash::Hasher;
use std::io::BufRead;

use twox_hash::XxHash32;

use super::super::codec::CodecFault;
use super::super::limits::{BLOCK_WORK_BYTES, INFLATED_STRIDE_BYTES};
use super::elements::{Element, Room, SHORT_ROOM_BYTES, WORD_BYTES, copy_short};
use super::{Inflated, LZ4_MAGIC, make_room};

/// A frame in `R`, which gives all of its bytes at once.
pub struct Frame<R> {
    input: R,
    descriptor: Descriptor,
    /// Over what came out, where the frame ends with such a checksum.
    hasher: Option<XxHash32>,
    open: Option<Block>,
}

/// What a frame says of itself.
struct Descriptor {
    block_bytes_max: usize,
    /// Whether blocks look back into those before.
    are_linked: bool,
    are_summed: bool,
    content_bytes: Option<u64>,
}

/// How a step over the frame ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The room is full.
    Full,
    /// There were as many blocks as there may be in a piece.
    EnoughBlocks,
    /// The next is the end of the frame.
    EndMark,
}

/// The most bytes that a frame's blocks inflate to, by its fixed fields; `None` where it has none.
pub fn block_bytes_max(input: &[u8]) -> Option<usize> {
    match input.get(LZ4_MAGIC.len() + 1)? >> 4 {
        code @ 4..=7 => Some(1 << (8 + 2 * code)),
        _ => None,
    }
}

impl<R: BufRead> Frame<R> {
    /// Begins before the first block; `None` if the frame's head is not one.
    pub fn begin(mut input: R) -> Option<Self> {
        let (descriptor, is_summed, bytes) = Descriptor::read(input.fill_buf().ok()?)?;
        input.consume(bytes);
        let hasher = is_summed.then(|| XxHash32::with_seed(0));
        Some(Self { input, descriptor, hasher, open: None })
    }

    /// Inflates `bytes` more, less where blocks are tiny, or to the end, refusing the byte after
    /// `limit_bytes`.
    pub fn go_on(
        &mut self,
        output: &mut Vec<u8>,
        limit_bytes: usize,
        bytes: usize,
    ) -> Result<Inflated, CodecFault> {
        let stop = output.len() + make_room(output, limit_bytes, bytes);
        let mut blocks_left = bytes / BLOCK_WORK_BYTES + 1;
        loop {
            let at = output.len();
            output.resize(stop.min(at + INFLATED_STRIDE_BYTES), 0);
            let mut end = at;
            let step = self.fill(output, &mut end, &mut blocks_left);
            output.truncate(end);
            if output.len() > limit_bytes {
                return Err(CodecFault::OverLimit);
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.write(&output[at..]);
            }
            match step.ok_or(CodecFault::Malformed)? {
                Step::Full if output.len() == stop => return Ok(Inflated::Some),
                Step::Full => {}
                Step::EnoughBlocks => return Ok(Inflated::Some),
                Step::EndMark if self.is_whole(output.len()) => return Ok(Inflated::All),
                Step::EndMark => return Err(CodecFault::Malformed),
            }
        }
    }

    /// Fills `output` from `at`, and begins no more blocks than are left.
    fn fill(&mut self, output: &mut [u8], at: &mut usize, blocks_left: &mut usize) -> Option<Step> {
        loop {
            let rest = self.input.fill_buf().ok()?;
            let Some(block) = &mut self.open else {
                let (length, rest) = rest.split_first_chunk()?;
                self.open = match u32::from_le_bytes(*length) {
                    0 => return Some(Step::EndMark),
                    _ if *blocks_left == 0 => return Some(Step::EnoughBlocks),
                    length => Some(Block::begin(length, rest, &self.descriptor, *at)?),
                };
                self.input.consume(LENGTH_BYTES);
                *blocks_left -= 1;
                continue;
            };
            let (read, is_end) = block.go_on(rest, output, at)?;
            if !is_end {
                self.input.consume(read);
                return Some(Step::Full);
            }
            // What ends without a byte looks like the end to readers, the library's too.
            if *at == block.start {
                return None;
            }
            self.input.consume(read + if self.descriptor.are_summed { SUM_BYTES } else { 0 });
            self.open = None;
        }
    }

    /// Whether the end mark is next, then the checksum of what came out if there is one, and no more.
    fn is_whole(&mut self, output_bytes: usize) -> bool {
        let mut expected = vec![0; LENGTH_BYTES];
        if let Some(hasher) = &self.hasher {
            expected.extend(hasher.finish_32().to_le_bytes());
        }
        let output_bytes = output_bytes as u64;
        self.descriptor.content_bytes.unwrap_or(output_bytes) == output_bytes
            && self.input.fill_buf().is_ok_and(|rest| rest == expected)
    }
}

/// Of a block, before it; of nothing, which is the end mark.
const LENGTH_BYTES: usize = 4;
/// Of a checksum, of a block or of all that came out.
const SUM_BYTES: usize = 4;
/// In a block's length: it is not compressed.
const STORED: u32 = 1 << 31;

/// In a frame's flags.
const HAS_DICTIONARY: u8 = 1;
const HAS_NO_MEANING: u8 = 1 << 1;
const IS_SUMMED: u8 = 1 << 2;
const HAS_SIZE: u8 = 1 << 3;
const BLOCKS_ARE_SUMMED: u8 = 1 << 4;
const BLOCKS_ARE_APART: u8 = 1 << 5;
const VERSION_SHIFT: u32 = 6;

impl Descriptor {
    /// Reads the head of a frame; also says whether what comes out has a checksum, and how many bytes
    /// the head takes. `None` for another version, bits without meaning, a dictionary, which nobody
    /// has, and a wrong checksum.
    fn read(input: &[u8]) -> Option<(Self, bool, usize)> {
        let fields = input.strip_prefix(&LZ4_MAGIC)?;
        let (flags, sizes) = (*fields.first()?, *fields.get(1)?);
        let is = |flag: u8| flags & flag != 0;
        if flags >> VERSION_SHIFT != 1 || is(HAS_NO_MEANING | HAS_DICTIONARY) || sizes & 0x8f != 0 {
            return None;
        }
        let (mut length, mut content_bytes) = (2, None);
        if is(HAS_SIZE) {
            content_bytes = Some(u64::from_le_bytes(*fields[length..].first_chunk()?));
            length += 8;
        }
        let (summed, after) = fields.split_at_checked(length)?;
        if *after.first()? != (XxHash32::oneshot(0, summed) >> 8) as u8 {
            return None;
        }
        let descriptor = Self {
            block_bytes_max: block_bytes_max(input)?,
            are_linked: !is(BLOCKS_ARE_APART),
            are_summed: is(BLOCKS_ARE_SUMMED),
            content_bytes,
        };
        Some((descriptor, is(IS_SUMMED), LZ4_MAGIC.len() + length + 1))
    }
}

/// A block that is being inflated.
struct Block {
    /// Where it begins in the output.
    start: usize,
    /// How far back it may look there.
    window_start: usize,
    /// Where it ends there at the latest.
    end_max: usize,
    /// Bytes of it that were not read.
    left: usize,
    due: Element,
    next: Next,
}

/// What comes after what is due.
#[derive(Clone, Copy)]
enum Next {
    Token,
    /// The block's end, or a copy whose length begins with this.
    Copy(usize),
}

/// What a copy's length is counted from.
const COPY_BYTES_MIN: usize = 4;
/// A length in a token that goes on in bytes of its own.
const LENGTH_GOES_ON: usize = 15;

impl Block {
    /// Begins a block of this `length`, which `rest` begins with, and whose output goes to `start`.
    fn begin(length: u32, rest: &[u8], descriptor: &Descriptor, start: usize) -> Option<Self> {
        let left = (length & !STORED) as usize;
        if left > descriptor.block_bytes_max {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(left)?;
        if descriptor.are_summed
            && u32::from_le_bytes(*after.first_chunk()?) != XxHash32::oneshot(0, bytes)
        {
            return None;
        }
        let window_start = if descriptor.are_linked { 0 } else { start };
        let (due, next) = if length & STORED == 0 {
            (Element::NONE, Next::Token)
        } else {
            (Element::Literal { bytes: left }, Next::Copy(0))
        };
        let end_max = start + descriptor.block_bytes_max;
        Some(Self { start, window_start, end_max, left, due, next })
    }

    /// Inflates until `output` is full from `at`, or to the block's end. `rest` begins with what was
    /// not read; says how much of that was, and whether that is the end.
    fn go_on(&mut self, rest: &[u8], output: &mut [u8], at: &mut usize) -> Option<(usize, bool)> {
        let stop = output.len().min(self.end_max);
        let (room_at, room_end) = (*at - self.window_start, self.end_max - self.window_start);
        let output = &mut output[self.window_start..stop];
        let mut room = Room { input: &rest[..self.left], output, at: room_at };
        let is_end = self.fill(&mut room, room_end);
        *at = self.window_start + room.at;
        let read = self.left - room.input.len();
        self.left -= read;
        Some((read, is_end?))
    }

    /// Fills the room, or comes to the block's end; whether it did. The block's output ends at `end`
    /// at the latest, which may be beyond the room.
    fn fill(&mut self, room: &mut Room<'_, '_>, end: usize) -> Option<bool> {
        loop {
            self.due = room.write(self.due);
            if !self.due.is_done() {
                return Some(false);
            }
            self.due = match self.next {
                Next::Token => {
                    write_short(room)?;
                    let token = usize::from(room.byte()?);
                    self.next = Next::Copy(token & 0xf);
                    literal(room, token >> 4, end)?
                }
                Next::Copy(_) if room.input.is_empty() => return Some(true),
                Next::Copy(length) => {
                    self.next = Next::Token;
                    copy(room, length, end)?
                }
            };
        }
    }
}

/// Reads on before a literal whose length begins with `length`.
fn literal(room: &mut Room<'_, '_>, length: usize, end: usize) -> Option<Element> {
    let bytes = read_length(room, length, end)?;
    (bytes <= room.input.len()).then_some(Element::Literal { bytes })
}

/// Reads a copy whose length begins with `length`.
fn copy(room: &mut Room<'_, '_>, length: usize, end: usize) -> Option<Element> {
    let offset = usize::from(u16::from_le_bytes(room.bytes()?));
    let bytes = read_length(room, length, end)? + COPY_BYTES_MIN;
    let is_there = (1..=room.at).contains(&offset) && bytes <= end - room.at;
    is_there.then_some(Element::Copy { offset, bytes })
}

/// Reads the rest of a length: each byte is added, and 255 is not the last. `None` if there is no
/// room for as much before `end`.
fn read_length(room: &mut Room<'_, '_>, mut length: usize, end: usize) -> Option<usize> {
    let mut goes_on = length == LENGTH_GOES_ON;
    while goes_on && length <= end - room.at {
        let more = room.byte()?;
        length += usize::from(more);
        goes_on = more == u8::MAX;
    }
    (length <= end - room.at).then_some(length)
}

/// What the fast way reads at once: a token, a literal and an offset.
const AHEAD_BYTES: usize = 1 + WORD_BYTES + 2;

/// Writes literals and copies as long as their lengths fit into the token and there is room for any
/// such: nearly all of a text.
fn write_short(room: &mut Room<'_, '_>) -> Option<()> {
    let (mut input, mut at) = (room.input, room.at);
    let output = &mut *room.output;
    while let Some(ahead) = input.first_chunk::<AHEAD_BYTES>()
        && output.len() - at >= WORD_BYTES + SHORT_ROOM_BYTES
    {
        let (literal, copy) = (usize::from(ahead[0] >> 4), usize::from(ahead[0] & 0xf));
        if literal == LENGTH_GOES_ON || copy == LENGTH_GOES_ON {
            break;
        }
        output[at..at + WORD_BYTES].copy_from_slice(&ahead[1..=WORD_BYTES]);
        at += literal;
        let offset = usize::from(u16::from_le_bytes([ahead[1 + literal], ahead[2 + literal]]));
        if offset == 0 || offset > at {
            return None;
        }
        copy_short(output, at, offset, copy + COPY_BYTES_MIN);
        at += copy + COPY_BYTES_MIN;
        input = &input[1 + literal + 2..];
    }
    (room.input, room.at) = (input, at);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::super::codec::Codec;
    use super::super::tests::agreed;
    use super::*;

    /// Version 1, independent blocks.
    const PLAIN: u8 = 0x60;
    const LINKED: u8 = 0x40;
    /// Blocks of 256 KiB.
    const LARGE: u8 = 0x50;

    fn sum(bytes: &[u8]) -> u32 {
        XxHash32::oneshot(0, bytes)
    }

    fn head(flags: u8, sizes: u8, content_bytes: u64) -> Vec<u8> {
        let mut fields = vec![flags, sizes];
        if flags & 8 != 0 {
            fields.extend(content_bytes.to_le_bytes());
        }
        if flags & 1 != 0 {
            fields.extend([0; 4]);
        }
        let sum = (sum(&fields) >> 8) as u8;
        [&LZ4_MAGIC[..], &fields, &[sum]].concat()
    }

    fn stored(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32 | STORED).to_le_bytes(), bytes].concat()
    }

    fn block(sequences: &[&[u8]]) -> Vec<u8> {
        let bytes = sequences.concat();
        [&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat()
    }

    /// A plain frame of these blocks.
    fn frame(flags: u8, blocks: &[Vec<u8>]) -> Vec<u8> {
        [head(flags, LARGE, 0), blocks.concat(), vec![0; 4]].concat()
    }

    /// A literal, and if there is an offset a copy after it.
    fn sequence(literal: &[u8], copy: Option<(u16, usize)>) -> Vec<u8> {
        let copied = copy.map_or(0, |(_, bytes)| bytes - COPY_BYTES_MIN);
        let (high, low) = (literal.len().min(15), copied.min(15));
        let mut sequence = vec![(high << 4 | low) as u8];
        goes_on(&mut sequence, literal.len());
        sequence.extend(literal);
        if let Some((offset, _)) = copy {
            sequence.extend(offset.to_le_bytes());
            goes_on(&mut sequence, copied);
        }
        sequence
    }

    fn goes_on(sequence: &mut Vec<u8>, length: usize) {
        if let Some(more) = length.checked_sub(LENGTH_GOES_ON) {
            sequence.extend(vec![255; more / 255]);
            sequence.push((more % 255) as u8);
        }
    }

    fn inflated(frame: &[u8]) -> Option<Vec<u8>> {
        agreed(Codec::Lz4, frame, 1 << 20).ok()
    }

    #[test]
    fn lengths_go_on_and_copies_overlap() {
        let text: Vec<u8> = (0..251).cycle().take(3_000).collect();
        for literal in [1, 14, 15, 16, 269, 270, 271, 3_000] {
            for (offset, bytes) in
                [(1, 4), (2, 18), (3, 19), (1, 273), (7, 274), (14, 275), (3, 100_000)]
            {
                let copy = sequence(&text[..literal], Some((offset, bytes)));
                for last in [&b""[..], &text[..200]] {
                    let whole = frame(PLAIN, &[block(&[&copy, &sequence(last, None)])]);
                    let output = inflated(&whole);
                    assert_eq!(
                        output.is_some(),
                        usize::from(offset) <= literal,
                        "{literal} {offset}"
                    );
                    let Some(output) = output else { continue };
                    let repeats = |at: usize| output[at] == output[at - usize::from(offset)];
                    assert!((literal..literal + bytes).all(repeats), "{literal} {offset} {bytes}");
                    assert_eq!(&output[literal + bytes..], last);
                }
                assert_eq!(inflated(&frame(PLAIN, &[block(&[&copy])])), None, "no literal ends it");
            }
        }
    }

    #[test]
    fn blocks_look_back_only_where_they_are_linked() {
        let (first, far) = (stored(&[5; 65_535]), sequence(b"x", Some((65_535, 40))));
        let second = block(&[&far, &sequence(b"", None)]);
        for (flags, is_sound) in [(LINKED, true), (PLAIN, false)] {
            let output = inflated(&frame(flags, &[first.clone(), second.clone()]));
            assert_eq!(output.map(|it| it.len()), is_sound.then_some(65_576), "{flags}");
        }
        assert_eq!(inflated(&frame(LINKED, &[stored(&[5; 65_533]), second])), None);
    }

    #[test]
    fn a_block_is_no_longer_than_the_frame_says() {
        for (bytes, is_sound) in [(1 << 18, true), ((1 << 18) + 1, false)] {
            let run = [sequence(b"r", Some((1, bytes - 1))), sequence(b"", None)].concat();
            let long = [sequence(&vec![b'l'; bytes], None)].concat();
            for block in [block(&[&run]), stored(&vec![b's'; bytes])] {
                let output = inflated(&frame(PLAIN, &[block]));
                assert_eq!(output.map(|it| it.len()), is_sound.then_some(bytes));
            }
            assert_eq!(inflated(&frame(PLAIN, &[block(&[&long])])), None, "longer than stored");
        }
        let endless = block(&[&[0x1f, b'r', 1, 0], &[255; 5_000], &[0, 0]]);
        assert_eq!(inflated(&frame(PLAIN, &[endless])), None);
    }

    #[test]
    fn heads_sums_and_ends_are_judged_as_the_library_judges_them() {
        let content = b"content, content, content";
        let mut sound = 0;
        for flags in 0..=u8::MAX {
            for sizes in [0x00, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xd0, 0x51, 0x58] {
                for (content_bytes, wrong) in [(25, None), (24, None), (25, Some(0)), (25, Some(1))]
                {
                    let mut block = stored(content);
                    if flags & 0x10 != 0 {
                        block.extend((sum(content) ^ u32::from(wrong == Some(0))).to_le_bytes());
                    }
                    let mut whole = [head(flags, sizes, content_bytes), block, vec![0; 4]].concat();
                    if flags & 4 != 0 {
                        whole.extend((sum(content) ^ u32::from(wrong == Some(1))).to_le_bytes());
                    }
                    sound += usize::from(inflated(&whole).is_some());
                    whole[6] ^= 1;
                    assert!(inflated(&whole).is_none() || flags & 9 != 0, "a wrong head sum");
                }
            }
        }
        assert!(sound > 100);
        let whole = frame(PLAIN, &[stored(content)]);
        assert_eq!(inflated(&[&whole[..], &whole].concat()), None, "a second frame");
    }

    #[test]
    fn a_block_without_output_is_refused_also_at_the_end() {
        for empty in [stored(b""), block(&[&sequence(b"", None)])] {
            let (text, end) = (stored(b"text"), vec![0; 4]);
            let head = head(PLAIN, LARGE, 0);
            for rest in [&[text.clone(), end.clone()][..], &[end], &[text], &[]] {
                let whole = [&head[..], &empty, &rest.concat()].concat();
                let mut frame = Frame::begin(&whole[..]).expect("the head is right");
                let outcome = frame.go_on(&mut Vec::new(), 100, 100);
                assert_eq!(outcome, Err(CodecFault::Malformed), "{whole:?}");
            }
        }
    }

    #[test]
    fn tiny_blocks_are_worked_on_as_if_they_were_larger() {
        let whole = frame(PLAIN, &vec![stored(b"x"); 1_000]);
        let mut frame = Frame::begin(&whole[..]).expect("the head is right");
        let mut output = Vec::new();
        for pieces in 1..10 {
            assert_eq!(frame.go_on(&mut output, 1_000, 6_400), Ok(Inflated::Some));
            assert_eq!(output.len(), pieces * 101);
        }
        assert_eq!(frame.go_on(&mut output, 1_000, 6_400), Ok(Inflated::All));
        assert_eq!(output, [b'x'; 1_000]);
    }

    #[test]
    fn linked_blocks_are_bounded_wherever_they_stand() {
        let run =
            |bytes: usize| [sequence(b"r", Some((1, bytes - 1))), sequence(b"", None)].concat();
        let full = block(&[&run(1 << 18)]);
        for (bytes, is_sound) in [(1 << 18, true), ((1 << 18) + 1, false)] {
            let whole =
                frame(LINKED, &[full.clone(), full.clone(), full.clone(), block(&[&run(bytes)])]);
            let mut frame = Frame::begin(&whole[..]).expect("the head is right");
            let outcome = frame.go_on(&mut Vec::new(), 2 << 20, usize::MAX);
            assert_eq!(outcome.is_ok(), is_sound, "{bytes}");
        }
    }
}

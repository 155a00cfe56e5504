//! What snappy and LZ4 are both made of: bytes as they stand, and copies of what came out before.
//!
//! Does: write elements into the room there is, and say what of them is still due.
//! Does not: know formats, or judge lengths and distances: who reads them does.
//! Invariants: nothing is written behind the room; what is due plus what was written is the element.
//! Apart because both decoders stop in the midst of an element and go on with it, and a copy that
//! overlaps itself is easily wrong and easily slow: it is here once.

/// How much room [`Room::copy_short`] needs: its bytes, and 16 that are written in vain.
pub const SHORT_ROOM_BYTES: usize = SHORT_BYTES_MAX + WORD_BYTES;
/// The longest copy that is short: snappy's longest.
pub const SHORT_BYTES_MAX: usize = 64;
/// What is copied at a time where there is room.
pub const WORD_BYTES: usize = 16;

/// Something that is written, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Bytes that stand in the input.
    Literal {
        /// How many.
        bytes: usize,
    },
    /// Bytes that came out before.
    Copy {
        /// How far back they begin: at least 1, at most what came out.
        offset: usize,
        /// How many; more than `offset` repeats.
        bytes: usize,
    },
}

/// Where elements come from and where they go to.
pub struct Room<'input, 'output> {
    /// What was not read yet.
    pub input: &'input [u8],
    /// What may be looked back at, then the room.
    pub output: &'output mut [u8],
    /// Where the room begins. Invariant: within `output`.
    pub at: usize,
}

impl Element {
    /// Nothing to write.
    pub const NONE: Self = Self::Literal { bytes: 0 };

    /// Whether nothing of it is due.
    pub fn is_done(self) -> bool {
        let (Self::Literal { bytes } | Self::Copy { bytes, .. }) = self;
        bytes == 0
    }
}

impl Room<'_, '_> {
    /// The next byte of the input, if there is one.
    pub fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// The next bytes of the input, if there are as many.
    pub fn bytes<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (bytes, rest) = self.input.split_first_chunk()?;
        self.input = rest;
        Some(*bytes)
    }

    /// Writes what there is room for; says what is still due. A literal stands whole in the input.
    pub fn write(&mut self, element: Element) -> Element {
        let room_bytes = self.output.len() - self.at;
        match element {
            Element::Literal { bytes } => {
                let (now, rest) = self.input.split_at(bytes.min(room_bytes));
                self.output[self.at..][..now.len()].copy_from_slice(now);
                self.input = rest;
                self.at += now.len();
                Element::Literal { bytes: bytes - now.len() }
            }
            Element::Copy { offset, bytes } => {
                let now = bytes.min(room_bytes);
                self.copy(offset, now);
                Element::Copy { offset, bytes: bytes - now }
            }
        }
    }

    /// Each round copies all that repeats so far: twice as much as the one before.
    fn copy(&mut self, offset: usize, bytes: usize) {
        let (from, end) = (self.at - offset, self.at + bytes);
        if offset == 1 {
            let byte = self.output[from];
            self.output[self.at..end].fill(byte);
            self.at = end;
        }
        while self.at < end {
            let now = (self.at - from).min(end - self.at);
            self.output.copy_within(from..from + now, self.at);
            self.at += now;
        }
    }
}

/// Copies at most [`SHORT_BYTES_MAX`] bytes to `at`, where there is [`SHORT_ROOM_BYTES`] of room: a word at
/// a time, and what is too much is overwritten by what comes next.
#[inline]
pub fn copy_short(output: &mut [u8], at: usize, offset: usize, bytes: usize) {
    let (from, mut to, end) = (at - offset, at, at + bytes);
    // A word that overlaps itself is right as far as it does not: each doubles the distance.
    while to - from < WORD_BYTES && to < end {
        copy_word(output, from, to);
        to += to - from;
    }
    let mut from = from;
    while to < end {
        copy_word(output, from, to);
        (from, to) = (from + WORD_BYTES, to + WORD_BYTES);
    }
}

#[inline]
fn copy_word(output: &mut [u8], from: usize, to: usize) {
    let word: [u8; WORD_BYTES] = output[from..from + WORD_BYTES].try_into().expect("a word");
    output[to..to + WORD_BYTES].copy_from_slice(&word);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte after byte.
    fn copied(offset: usize, bytes: usize) -> Vec<u8> {
        let mut all: Vec<u8> = (0..200).collect();
        for _ in 0..bytes {
            all.push(all[all.len() - offset]);
        }
        all
    }

    #[test]
    fn copies_repeat_what_they_write() {
        for offset in (1..40).chain([63, 64, 65, 199, 200]) {
            for bytes in (0..=70).chain([500, 5_000]) {
                let expected = copied(offset, bytes);
                let mut output = expected[..200].to_vec();
                output.resize(200 + bytes, 0);
                let mut room = Room { input: &[], output: &mut output, at: 200 };
                let due = room.write(Element::Copy { offset, bytes });
                assert!(due.is_done() && room.at == 200 + bytes);
                assert_eq!(output, expected, "{offset} {bytes}");
                if bytes <= SHORT_BYTES_MAX {
                    output.truncate(200);
                    output.resize(200 + SHORT_ROOM_BYTES, 0);
                    copy_short(&mut output, 200, offset, bytes);
                    assert_eq!(output[..200 + bytes], expected, "short, {offset} {bytes}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_room_is_due() {
        let expected = copied(3, 50);
        let mut output = expected[..200].to_vec();
        let mut due = Element::Copy { offset: 3, bytes: 50 };
        while !due.is_done() {
            let at = output.len();
            output.resize((at + 7).min(250), 0);
            due = Room { input: &[], output: &mut output, at }.write(due);
        }
        assert_eq!(output, expected);
        let mut output = [0; 5];
        let mut room = Room { input: b"literal", output: &mut output, at: 1 };
        assert_eq!(room.write(Element::Literal { bytes: 6 }), Element::Literal { bytes: 2 });
        assert_eq!((room.input, &output), (&b"ral"[..], b"\0lite"));
    }
}

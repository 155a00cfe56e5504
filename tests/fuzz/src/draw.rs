//! Decisions out of an input's bytes, so that what guides the bytes guides the decisions.
//!
//! Does: take numbers, slices and requests' fields off the front.
//! Does not: fail: where there is nothing left it decides for the least there is.
//! Invariants: the same bytes give the same decisions; every loop over them ends.
//! Apart because nearly every target begins with it.

use flumen_protocol::api_table::{ApiKey, TABLE};
use flumen_protocol::layout::sample::Choices;

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    rest: &'a [u8],
}

impl<'a> Draw<'a> {
    /// All of an input.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, untouched.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.iter_mut().for_each(|byte| *byte = self.byte());
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, which must be neither zero nor above 65,536.
    pub fn below(&mut self, bound: usize) -> usize {
        let drawn = if bound <= 256 { usize::from(self.byte()) } else { usize::from(self.word()) };
        drawn % bound
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// At most so many bytes, as they are.
    pub fn slice(&mut self, bytes_max: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(bytes_max.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A number that is likely to be at an edge.
    pub fn edge(&mut self) -> i64 {
        match self.byte() {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => i64::from(i32::MAX),
            5 => i64::from(i32::MIN),
            6 => -2,
            7 => i64::from(i16::MAX),
            8..40 => self.long() as i64,
            40..80 => i64::from(self.word() as i16),
            other => i64::from(other) - 80,
        }
    }

    /// An API and one of its versions.
    pub fn api(&mut self) -> (ApiKey, i16) {
        let row = &TABLE[self.below(TABLE.len())];
        let count = usize::from((row.served.max - row.served.min).unsigned_abs()) + 1;
        (row.key, row.served.min + self.below(count) as i16)
    }
}

/// Fields as an attacker would fill them who knows their types and not their meaning.
impl Choices for Draw<'_> {
    fn is_null(&mut self, _field: &str) -> bool {
        self.byte().is_multiple_of(4)
    }

    fn count(&mut self, _field: &str) -> usize {
        match self.byte() {
            byte @ 0..200 => usize::from(byte) % 3,
            byte @ 200..250 => usize::from(byte) % 8,
            byte @ 250.. => usize::from(byte) % 40,
        }
    }

    fn number(&mut self, _field: &str) -> i64 {
        self.edge()
    }

    fn text(&mut self, _field: &str) -> String {
        let count = usize::from(self.byte()) % 20;
        String::from_utf8_lossy(self.slice(count)).into_owned()
    }

    fn blob(&mut self, _field: &str) -> Vec<u8> {
        let count = usize::from(self.byte());
        self.slice(count).to_vec()
    }

    fn uuid(&mut self, _field: &str) -> [u8; 16] {
        [self.byte(); 16]
    }

    fn is_tagged(&mut self, _field: &str) -> bool {
        self.byte().is_multiple_of(2)
    }

    fn has_unknown_tag(&mut self) -> bool {
        self.byte() > 240
    }
}

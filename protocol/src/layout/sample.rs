//! Requests made from the tables: for tests, here and in the house's fuzz targets.
//!
//! Does: write bodies with every field, nested arrays, nulls and unknown tagged fields; damage them.
//! Does not: decide what they say: that is the caller's [`Choices`]. Not part of a broker (feature `sample`).
//! Invariants: the same choices give the same bytes; what it writes is in the form the generic codec
//! writes, so that a round trip gives the same bytes back.
//! Apart because the walk, Produce and Fetch are all tested with the same requests.

use bytes::BytesMut;

use super::answers::Asked;
use super::{Field, Kind, Layout, NEVER, tables};
use crate::api_table::ApiKey;
use crate::wire::Encoding;
use crate::wire::write::Writer;

/// Decides what a request says, wherever its table leaves a choice. Fields go by Kafka's names, in
/// snake case.
pub trait Choices {
    /// Whether a field that may be null is.
    fn is_null(&mut self, field: &str) -> bool;
    /// Whether a field that may never be null is all the same.
    fn is_null_against_the_rules(&mut self, _field: &str) -> bool {
        false
    }
    /// How many elements an array has.
    fn count(&mut self, field: &str) -> usize;
    /// A number; of a narrower field the lowest bits count.
    fn number(&mut self, field: &str) -> i64;
    /// A string of at most 32,767 bytes.
    fn text(&mut self, field: &str) -> String;
    /// Any bytes.
    fn blob(&mut self, field: &str) -> Vec<u8>;
    /// An id.
    fn uuid(&mut self, field: &str) -> [u8; 16];
    /// Whether a tagged field that Kafka defines is there.
    fn is_tagged(&mut self, field: &str) -> bool;
    /// Whether a struct has a tagged field nobody knows.
    fn has_unknown_tag(&mut self) -> bool;
}

/// A deterministic source of numbers (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How generous a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Two elements in every array, nothing null.
    Full,
    /// Everything that may be null is null, arrays are empty.
    Bare,
    /// By chance, with unknown tagged fields.
    Random,
    /// As full, but this one of the fields that no version allows to be null is null.
    /// (Below the version that allows it the codec is laxer than Kafka and the tables.)
    ForbiddenNull(u32),
}

/// Small values, by a filling and a seed.
#[derive(Clone, Debug)]
pub struct ByChance {
    filling: Filling,
    dice: Dice,
}

impl ByChance {
    /// The choices of this filling and seed.
    #[must_use]
    pub fn new(filling: Filling, seed: u64) -> Self {
        Self { filling, dice: Dice::new(seed) }
    }

    /// Never a value the codec would leave out of a tagged field as its default.
    fn small(&mut self) -> u64 {
        1 + self.dice.below(100)
    }
}

impl Choices for ByChance {
    fn is_null(&mut self, _field: &str) -> bool {
        match self.filling {
            Filling::Full | Filling::ForbiddenNull(_) => false,
            Filling::Bare => true,
            Filling::Random => self.dice.below(3) == 0,
        }
    }

    /// Counts the fields that are never null down to the one that shall be.
    fn is_null_against_the_rules(&mut self, _field: &str) -> bool {
        let Filling::ForbiddenNull(left) = &mut self.filling else { return false };
        if *left == u32::MAX {
            return false;
        }
        *left = left.wrapping_sub(1);
        *left == u32::MAX
    }

    fn count(&mut self, _field: &str) -> usize {
        match self.filling {
            Filling::Full | Filling::ForbiddenNull(_) => 2,
            Filling::Bare => 0,
            Filling::Random => self.dice.below(4) as usize,
        }
    }

    fn number(&mut self, field: &str) -> i64 {
        let number = self.small() as i64;
        if field == "isolation_level" { number % 2 } else { number }
    }

    fn text(&mut self, _field: &str) -> String {
        "näme-".repeat(self.small() as usize % 4 + 1)
    }

    fn blob(&mut self, _field: &str) -> Vec<u8> {
        let number = self.small();
        vec![number as u8; number as usize]
    }

    fn uuid(&mut self, _field: &str) -> [u8; 16] {
        [self.small() as u8; 16]
    }

    fn is_tagged(&mut self, _field: &str) -> bool {
        self.filling != Filling::Bare
    }

    fn has_unknown_tag(&mut self) -> bool {
        self.filling == Filling::Random && self.dice.below(6) == 0
    }
}

/// A body of this API and version, well-formed unless a forbidden null was asked for and found.
#[must_use]
pub fn body(key: ApiKey, version: i16, filling: Filling, seed: u64) -> Vec<u8> {
    body_of(key, version, &mut ByChance::new(filling, seed))
}

/// A body of this API and version that says what was chosen; well-formed unless a null was chosen against
/// the rules.
#[must_use]
pub fn body_of(key: ApiKey, version: i16, choices: &mut dyn Choices) -> Vec<u8> {
    let encoding = Encoding::of(key.row().request_is_flexible(version));
    let mut sampler = Sampler { version, encoding, choices, out: BytesMut::new() };
    sampler.fields(tables::request(key));
    sampler.out.to_vec()
}

/// A body of an answer to this question, as [`body`].
#[must_use]
pub fn answer(
    asked: &Asked,
    version: i16,
    encoding: Encoding,
    choices: &mut dyn Choices,
) -> Vec<u8> {
    let mut sampler = Sampler { version, encoding, choices, out: BytesMut::new() };
    sampler.fields(asked.layout);
    sampler.out.to_vec()
}

/// Overwrites a few bytes, cuts, or appends.
pub fn damage(body: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let place = dice.below(body.len().max(1) as u64) as usize;
        match dice.below(8) {
            0 => body.truncate(place),
            1 => body.push(dice.below(256) as u8),
            2..=4 => overwrite(body, place, [0xff, 0x7f, 0x00][dice.below(3) as usize]),
            _ => overwrite(body, place, dice.below(256) as u8),
        }
    }
}

fn overwrite(body: &mut [u8], place: usize, byte: u8) {
    if let Some(target) = body.get_mut(place) {
        *target = byte;
    }
}

struct Sampler<'c> {
    version: i16,
    encoding: Encoding,
    choices: &'c mut dyn Choices,
    out: BytesMut,
}

impl Sampler<'_> {
    fn fields(&mut self, layout: &Layout) {
        let version = self.version;
        for field in layout.fields.iter().filter(|field| field.exists_at(version)) {
            self.field(field);
        }
        if self.encoding == Encoding::Compact {
            self.tagged_fields(layout);
        }
    }

    fn field(&mut self, field: &Field) {
        let nullable = field.is_nullable_at(self.version);
        let null = nullable && self.choices.is_null(field.name);
        match (field.kind, null || self.null_is_due(field)) {
            (Kind::Struct(_), true) => self.writer().i8(-1),
            (Kind::Text, true) => self.writer().nullable_string(None),
            (Kind::Blob | Kind::Array(_), true) => self.writer().null_array(),
            (Kind::Struct(layout), false) if nullable => {
                self.writer().i8(1);
                self.fields(layout);
            }
            (kind, _) => self.value(kind, field.name),
        }
    }

    fn null_is_due(&mut self, field: &Field) -> bool {
        let could = matches!(field.kind, Kind::Text | Kind::Blob | Kind::Array(_));
        could && field.nullable_since == NEVER && self.choices.is_null_against_the_rules(field.name)
    }

    fn value(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Bool => {
                let number = self.choices.number(name);
                self.writer().i8((number % 2).abs() as i8);
            }
            Kind::I8 => {
                let number = self.choices.number(name);
                self.writer().i8(number as i8);
            }
            Kind::I16 => {
                let number = self.choices.number(name);
                self.writer().i16(number as i16);
            }
            Kind::I32 => {
                let number = self.choices.number(name);
                self.writer().i32(number as i32);
            }
            Kind::I64 => {
                let number = self.choices.number(name);
                self.writer().i64(number);
            }
            Kind::Uuid => {
                let id = self.choices.uuid(name);
                self.writer().raw(&id);
            }
            Kind::Text => {
                let text = self.choices.text(name);
                self.writer().string(&text);
            }
            Kind::Blob => {
                let blob = self.choices.blob(name);
                self.writer().count(blob.len());
                self.writer().raw(&blob);
            }
            Kind::Array(element) => self.array(*element, name),
            Kind::Struct(layout) => self.fields(layout),
        }
    }

    fn array(&mut self, element: Kind, name: &str) {
        let count = self.choices.count(name);
        self.writer().count(count);
        for _ in 0..count {
            self.value(element, name);
        }
    }

    fn tagged_fields(&mut self, layout: &Layout) {
        let version = self.version;
        let existing = layout.tags.iter().filter(|tag| tag.field.exists_at(version));
        let known: Vec<_> = existing.filter(|tag| self.choices.is_tagged(tag.field.name)).collect();
        let unknown = u32::from(self.choices.has_unknown_tag());
        self.writer().tagged_fields(known.len() as u32 + unknown);
        for tag in known {
            let rest = std::mem::take(&mut self.out);
            self.value(tag.field.kind, tag.field.name);
            let content = std::mem::replace(&mut self.out, rest);
            self.writer().tagged_field(tag.number, content.len());
            self.writer().raw(&content);
        }
        if unknown == 1 {
            self.writer().tagged_field(200, 3);
            self.writer().raw(b"new");
        }
    }

    fn writer(&mut self) -> Writer<'_, BytesMut> {
        Writer::new(&mut self.out, self.encoding)
    }
}

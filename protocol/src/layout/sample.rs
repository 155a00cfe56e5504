//! Random requests made from the tables, for tests only.
//!
//! Does: write bodies with every field, nested arrays, nulls and unknown tagged fields; damage them.
//! Does not: leave the test build.
//! Invariants: the same seed gives the same bytes; what it writes is in the form the generic codec
//! writes, so that a round trip gives the same bytes back.
//! Apart because the walk, Produce and Fetch are all tested with the same requests.

use bytes::BytesMut;

use super::{Field, Kind, Layout, NEVER, tables};
use crate::api_table::ApiKey;
use crate::wire::Encoding;
use crate::wire::write::Writer;

/// A deterministic source of numbers (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How generous a sample is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
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

/// A body of this API and version, well-formed unless a forbidden null was asked for and found.
pub(crate) fn body(key: ApiKey, version: i16, filling: Filling, seed: u64) -> Vec<u8> {
    let encoding = Encoding::of(key.row().request_is_flexible(version));
    let mut sampler =
        Sampler { version, encoding, filling, dice: Dice::new(seed), out: BytesMut::new() };
    sampler.fields(tables::request(key));
    sampler.out.to_vec()
}

/// Overwrites a few bytes, cuts, or appends.
pub(crate) fn damage(body: &mut Vec<u8>, dice: &mut Dice) {
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

struct Sampler {
    version: i16,
    encoding: Encoding,
    filling: Filling,
    dice: Dice,
    out: BytesMut,
}

impl Sampler {
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
        let null = nullable
            && match self.filling {
                Filling::Full | Filling::ForbiddenNull(_) => false,
                Filling::Bare => true,
                Filling::Random => self.dice.below(3) == 0,
            };
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

    /// Counts the fields that are never null down to the one that shall be.
    fn null_is_due(&mut self, field: &Field) -> bool {
        let could = matches!(field.kind, Kind::Text | Kind::Blob | Kind::Array(_));
        let Filling::ForbiddenNull(left) = &mut self.filling else { return false };
        if !could || field.nullable_since != NEVER || *left == u32::MAX {
            return false;
        }
        *left = left.wrapping_sub(1);
        *left == u32::MAX
    }

    fn value(&mut self, kind: Kind, name: &str) {
        // Never a value the codec would leave out of a tagged field as its default.
        let number = 1 + self.dice.below(100);
        match kind {
            Kind::Bool => self.writer().i8((number % 2) as i8),
            Kind::I8 if name == "isolation_level" => self.writer().i8((number % 2) as i8),
            Kind::I8 => self.writer().i8(number as i8),
            Kind::I16 => self.writer().i16(number as i16),
            Kind::I32 => self.writer().i32(number as i32),
            Kind::I64 => self.writer().i64(number as i64),
            Kind::Uuid => self.writer().raw(&[number as u8; 16]),
            Kind::Text => self.writer().string(&"näme-".repeat(number as usize % 4 + 1)),
            Kind::Blob => {
                let blob = vec![number as u8; number as usize];
                self.writer().count(blob.len());
                self.writer().raw(&blob);
            }
            Kind::Array(element) => self.array(*element, name),
            Kind::Struct(layout) => self.fields(layout),
        }
    }

    fn array(&mut self, element: Kind, name: &str) {
        let count = match self.filling {
            Filling::Full | Filling::ForbiddenNull(_) => 2,
            Filling::Bare => 0,
            Filling::Random => self.dice.below(4) as usize,
        };
        self.writer().count(count);
        for _ in 0..count {
            self.value(element, name);
        }
    }

    fn tagged_fields(&mut self, layout: &Layout) {
        let known: Vec<_> = layout
            .tags
            .iter()
            .filter(|tag| tag.field.exists_at(self.version) && self.filling != Filling::Bare)
            .collect();
        let unknown = u32::from(self.filling == Filling::Random && self.dice.below(6) == 0);
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

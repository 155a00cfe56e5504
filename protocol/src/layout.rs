//! What every request looks like, and every answer that a client of ours reads, as data.
//!
//! Does: describe the fields of each, per version, in one table per API.
//! Does not: read anything itself; [`check`](check::check) walks bytes along these tables.
//! Invariants: the tables say what Kafka 4.1.2's own schemas say; tests hold that the generic
//! decoder reads exactly the bytes the walk covers, at every version of every API we serve.
//! Apart because a table can be compared line by line with Kafka's schema and a decoder cannot.

pub mod answers;
mod answers_admin;
mod answers_data;
mod answers_groups;
mod check;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
mod tables;
mod tables_admin;
mod tables_data;
mod tables_groups;
mod tables_transactions;

pub use check::{check, check_answer};

/// Never nullable: later than any version.
const NEVER: i16 = i16::MAX;

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One byte, zero or not.
    Bool,
    /// One byte.
    I8,
    /// Two bytes.
    I16,
    /// Four bytes.
    I32,
    /// Eight bytes.
    I64,
    /// Sixteen bytes.
    Uuid,
    /// UTF-8.
    Text,
    /// Any bytes.
    Blob,
    /// A count and that many of these.
    Array(&'static Self),
    /// Fields one after another; when nullable, one byte before them says whether they follow.
    Struct(&'static Layout),
}

/// A field and the versions it exists at.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    nullable_since: i16,
}

/// A tagged field Kafka defines; all others are passed over by their size.
#[derive(Clone, Copy, Debug)]
struct Tag {
    number: u32,
    field: Field,
}

/// A struct: its fields in the order of the wire.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes one of these takes in memory once the generic decoder has read it.
    memory: usize,
    fields: &'static [Field],
    tags: &'static [Tag],
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, nullable_since: NEVER }
}

const fn layout(memory: usize, fields: &'static [Field]) -> Layout {
    Layout { memory, fields, tags: &[] }
}

const fn tag(number: u32, field: Field) -> Tag {
    Tag { number, field }
}

impl Field {
    /// The first version that has it.
    const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// The last version that has it.
    const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// The first version at which it may be null.
    const fn nullable(mut self, version: i16) -> Self {
        self.nullable_since = version;
        self
    }

    const fn exists_at(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    const fn is_nullable_at(&self, version: i16) -> bool {
        self.nullable_since <= version
    }
}

impl Layout {
    const fn tagged(mut self, tags: &'static [Tag]) -> Self {
        self.tags = tags;
        self
    }
}

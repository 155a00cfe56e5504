//! The alphabet: reading with checked bounds, writing with known sizes.
//!
//! Does: integers, strings, arrays, varints and tagged fields in both of Kafka's encodings.
//! Does not: know any message.
//! Invariants: a reader never leaves its bytes; a writer never grows its buffer.
//! Apart because header, layout check and the hot messages all spell with the same letters.

pub mod read;
pub mod tagged;
pub mod varint;
pub mod write;

/// How lengths are spelled, and whether structs end in tagged fields (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Fixed-width lengths, −1 for null, no tagged fields.
    Classic,
    /// Unsigned varint of length + 1, 0 for null; every struct ends in tagged fields.
    Compact,
}

impl Encoding {
    /// The encoding of a message body: compact from its first flexible version on.
    #[must_use]
    pub const fn of(flexible: bool) -> Self {
        if flexible { Self::Compact } else { Self::Classic }
    }
}

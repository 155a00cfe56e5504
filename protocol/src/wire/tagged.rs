//! Tagged fields (KIP-482): the open end of every struct in the compact encoding.
//!
//! Does: walk a section field by field, or skip it; unknown fields are passed over by their size.
//! Does not: know what a tag means.
//! Invariants: at most [`limits::TAGGED_FIELDS_MAX`] fields, each inside the bytes.
//! Apart because a struct's known fields end where these begin, and everybody must skip the same way.

use crate::limits;
use crate::wire::read::{DecodeError, DecodeErrorKind, Reader};

/// One tagged field whose content comes next in the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedField {
    /// Its number.
    pub tag: u32,
    /// Bytes of its content, known to fit.
    pub size: usize,
}

/// A section under way: how many fields are still to come.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    left: u32,
}

impl Section {
    /// Reads the count of a section.
    ///
    /// # Errors
    /// Truncated, or more than [`limits::TAGGED_FIELDS_MAX`].
    pub fn open(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        let left = reader.unsigned_varint(what)?;
        if left > limits::TAGGED_FIELDS_MAX {
            return Err(reader.error(what, DecodeErrorKind::TooManyTaggedFields));
        }
        Ok(Self { left })
    }

    /// The next field, or `None` after the last. The caller must read exactly `size` bytes before
    /// it asks again.
    ///
    /// # Errors
    /// Truncated, or a content that would not fit.
    pub fn next(
        &mut self,
        reader: &mut Reader<'_>,
        what: &'static str,
    ) -> Result<Option<TaggedField>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let tag = reader.unsigned_varint(what)?;
        let size = reader.unsigned_varint(what)? as usize;
        if size > reader.remaining() {
            return Err(reader.error(what, DecodeErrorKind::Truncated));
        }
        Ok(Some(TaggedField { tag, size }))
    }
}

/// Skips a whole section.
///
/// # Errors
/// As [`Section::open`] and [`Section::next`].
pub fn skip(reader: &mut Reader<'_>, what: &'static str) -> Result<(), DecodeError> {
    let mut section = Section::open(reader, what)?;
    while let Some(field) = section.next(reader, what)? {
        reader.take(what, field.size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Encoding;

    #[test]
    fn unknown_fields_are_passed_over() {
        let bytes = [2, 0, 3, 9, 9, 9, 5, 0, 7];
        let mut reader = Reader::new(&bytes, Encoding::Compact);
        assert_eq!(skip(&mut reader, "tags"), Ok(()));
        assert_eq!(reader.i8("next"), Ok(7));
    }

    #[test]
    fn a_section_cannot_claim_more_than_there_is() {
        let mut reader = Reader::new(&[1, 0, 3, 9, 9], Encoding::Compact);
        assert_eq!(skip(&mut reader, "tags").unwrap_err().kind, DecodeErrorKind::Truncated);
        let mut reader = Reader::new(&[0xff, 0x7f], Encoding::Compact);
        assert_eq!(
            skip(&mut reader, "tags").unwrap_err().kind,
            DecodeErrorKind::TooManyTaggedFields
        );
    }
}

//! A cursor that cannot leave its bytes, and the error that says where it stood.
//!
//! Does: read every primitive of the protocol in either encoding, borrowing strings and blobs.
//! Does not: allocate, or know any message.
//! Invariants: `at <= bytes.len()`; a failed read names the field and leaves the cursor where the
//! field began or inside it, and the caller gives up.
//! Apart because everything that reads foreign bytes goes through here and nowhere else.

use std::fmt;

use crate::limits;
use crate::wire::{Encoding, tagged, varint};

/// Why bytes are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The bytes end inside the field.
    Truncated,
    /// A length or count below −1.
    NegativeLength,
    /// An array claims more elements than the rest of the bytes could hold.
    CountTooLarge,
    /// Null where the field may not be null at this version.
    UnexpectedNull,
    /// A string of more than 32,767 bytes. Kafka refuses it in the compact encoding too, and an
    /// older version could not carry it back.
    StringTooLong,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A varint that does not end or does not fit its width.
    InvalidVarint,
    /// A number that means nothing here.
    InvalidValue,
    /// More tagged fields than [`limits::TAGGED_FIELDS_MAX`].
    TooManyTaggedFields,
    /// A tagged field whose content is shorter or longer than it claims.
    TaggedFieldSize,
    /// Bytes after the last field.
    TrailingBytes,
    /// The request has more than [`limits::ELEMENTS_MAX`] elements and unknown tagged fields.
    TooManyElements,
    /// The elements would take more memory than [`limits`] allows for a body of this size.
    TooMuchMemory,
    /// A version this API is not served at.
    UnsupportedVersion,
    /// The generic decoder refused what the layout check had passed.
    RefusedByDecoder,
}

/// Malformed bytes: which field, where, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The field, in Kafka's spelling.
    pub what: &'static str,
    /// Bytes from the start of what was being read.
    pub at: usize,
    /// What is wrong.
    pub kind: DecodeErrorKind,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in field {} at byte {}", self.kind, self.what, self.at)
    }
}

impl std::error::Error for DecodeError {}

/// Reads from the front of borrowed bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What is added to `at` in errors, when these bytes are the rest of something longer.
    base: usize,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    /// A reader at the first of `bytes`.
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self::resume(bytes, 0, encoding)
    }

    /// A reader over the rest of something of which `base` bytes have been read already.
    #[must_use]
    #[inline]
    pub fn resume(bytes: &'a [u8], base: usize, encoding: Encoding) -> Self {
        Self { bytes, at: 0, base, encoding }
    }

    /// How many bytes have been read.
    #[must_use]
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// How lengths are spelled.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// An error at the current place.
    #[must_use]
    pub fn error(&self, what: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { what, at: self.base + self.at, kind }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeErrorKind::Truncated`] when fewer are left. The same holds for every read below.
    #[inline]
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.remaining() {
            return Err(self.error(what, DecodeErrorKind::Truncated));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(&chunk) => {
                self.at += N;
                Ok(chunk)
            }
            None => Err(self.error(what, DecodeErrorKind::Truncated)),
        }
    }

    /// A signed byte.
    ///
    /// # Errors
    /// Truncated.
    #[inline]
    pub fn i8(&mut self, what: &'static str) -> Result<i8, DecodeError> {
        self.array(what).map(i8::from_be_bytes)
    }

    /// A big-endian 16-bit integer.
    ///
    /// # Errors
    /// Truncated.
    #[inline]
    pub fn i16(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        self.array(what).map(i16::from_be_bytes)
    }

    /// A big-endian 32-bit integer.
    ///
    /// # Errors
    /// Truncated.
    #[inline]
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    ///
    /// # Errors
    /// Truncated.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A boolean: any byte but zero is true, as Kafka reads it.
    ///
    /// # Errors
    /// Truncated.
    pub fn boolean(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        self.i8(what).map(|byte| byte != 0)
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(what)
    }

    /// An unsigned varint of 32 bits.
    ///
    /// # Errors
    /// Truncated, or a varint that does not fit.
    #[inline]
    pub fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        // Nearly all of them are counts and lengths below 128.
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u32::from(byte));
        }
        match varint::read_unsigned_32(&self.bytes[self.at..]) {
            Some((value, len)) => {
                self.at += len;
                Ok(value)
            }
            None if self.remaining() < varint::BYTES_MAX_32 => {
                Err(self.error(what, DecodeErrorKind::Truncated))
            }
            None => Err(self.error(what, DecodeErrorKind::InvalidVarint)),
        }
    }

    /// The length of a string, already known to fit; the string itself is not read.
    ///
    /// # Errors
    /// Truncated, also when the string would not fit; a negative length.
    #[inline]
    pub fn string_length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = match self.encoding {
            Encoding::Compact => self.compact_length(what)?,
            Encoding::Classic => {
                let length = i32::from(self.i16(what)?);
                self.classic_length(what, length)?
            }
        };
        if length.is_some_and(|length| length > limits::STRING_BYTES_MAX) {
            return Err(self.error(what, DecodeErrorKind::StringTooLong));
        }
        self.fitting(what, length)
    }

    /// The length of a blob or of records, already known to fit; the bytes are not read.
    ///
    /// # Errors
    /// Truncated, also when the blob would not fit; a negative length.
    #[inline]
    pub fn blob_length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = self.long_length(what)?;
        self.fitting(what, length)
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// Truncated, a negative length, or not UTF-8.
    pub fn nullable_string(&mut self, what: &'static str) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.string_length(what)? else { return Ok(None) };
        let bytes = self.take(what, length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.error(what, DecodeErrorKind::InvalidUtf8)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// As [`Self::nullable_string`], or null.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let text = self.nullable_string(what)?;
        text.ok_or_else(|| self.error(what, DecodeErrorKind::UnexpectedNull))
    }

    /// A blob that may be null.
    ///
    /// # Errors
    /// Truncated or a negative length.
    pub fn nullable_blob(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let Some(length) = self.blob_length(what)? else { return Ok(None) };
        self.take(what, length).map(Some)
    }

    /// The count of an array that may be null, each of whose elements takes at least
    /// `element_bytes_min` bytes.
    ///
    /// # Errors
    /// Truncated, negative, or more than what is left could hold.
    pub fn nullable_count(
        &mut self,
        what: &'static str,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.long_length(what)? else { return Ok(None) };
        if count > self.remaining() / element_bytes_min.max(1) {
            return Err(self.error(what, DecodeErrorKind::CountTooLarge));
        }
        Ok(Some(count))
    }

    /// The count of an array.
    ///
    /// # Errors
    /// As [`Self::nullable_count`], or null.
    pub fn count(
        &mut self,
        what: &'static str,
        element_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.nullable_count(what, element_bytes_min)?;
        count.ok_or_else(|| self.error(what, DecodeErrorKind::UnexpectedNull))
    }

    /// Skips the tagged fields a struct ends with, if the encoding has any.
    ///
    /// # Errors
    /// Truncated, too many, or a malformed varint.
    pub fn end_of_struct(&mut self, what: &'static str) -> Result<(), DecodeError> {
        match self.encoding {
            Encoding::Classic => Ok(()),
            // Nobody's structs have tagged fields, as a rule.
            Encoding::Compact if self.bytes.get(self.at) == Some(&0) => {
                self.at += 1;
                Ok(())
            }
            Encoding::Compact => tagged::skip(self, what),
        }
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    /// [`DecodeErrorKind::TrailingBytes`].
    pub fn finish(&self, what: &'static str) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(self.error(what, DecodeErrorKind::TrailingBytes)),
        }
    }

    /// A length of arrays and blobs: four bytes, or a varint of one more.
    #[inline]
    fn long_length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        match self.encoding {
            Encoding::Compact => self.compact_length(what),
            Encoding::Classic => {
                let length = self.i32(what)?;
                self.classic_length(what, length)
            }
        }
    }

    #[inline]
    fn compact_length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok(self.unsigned_varint(what)?.checked_sub(1).map(|length| length as usize))
    }

    #[inline]
    fn classic_length(
        &self,
        what: &'static str,
        length: i32,
    ) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(what, DecodeErrorKind::NegativeLength)),
        }
    }

    #[inline]
    fn fitting(
        &self,
        what: &'static str,
        length: Option<usize>,
    ) -> Result<Option<usize>, DecodeError> {
        match length {
            Some(length) if length > self.remaining() => {
                Err(self.error(what, DecodeErrorKind::Truncated))
            }
            Some(_) | None => Ok(length),
        }
    }
}

/// How many elements one request may still have, and how much memory they may take.
///
/// A count that fits the bytes can still be hostile: an empty element takes three bytes on the wire
/// and eighty in memory, and costs its share of the answer. So whoever turns elements into memory
/// pays for them here first.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    elements: usize,
    bytes: usize,
}

impl Budget {
    /// The budget of a body of `body_bytes`.
    #[must_use]
    pub fn new(body_bytes: usize, per_byte: usize, slack: usize) -> Self {
        let bytes = body_bytes.saturating_mul(per_byte).saturating_add(slack);
        Self { elements: limits::ELEMENTS_MAX, bytes: bytes.min(limits::DECODED_BYTES_MAX) }
    }

    /// The budget of a hand-written message, see [`limits::HOT_BYTES_SLACK`].
    #[must_use]
    pub fn hot(body_bytes: usize, per_byte: usize) -> Self {
        Self::new(body_bytes, per_byte, limits::HOT_BYTES_SLACK)
    }

    /// The budget of an answer that a client reads, see [`limits::ANSWER_ELEMENTS_MAX`].
    #[must_use]
    pub fn answer(body_bytes: usize) -> Self {
        let bytes = body_bytes.saturating_mul(limits::ANSWER_BYTES_PER_BODY_BYTE);
        let bytes = bytes.saturating_add(limits::DECODED_BYTES_SLACK);
        Self {
            elements: limits::ANSWER_ELEMENTS_MAX,
            bytes: bytes.min(limits::ANSWER_DECODED_BYTES_MAX),
        }
    }

    /// Pays for `count` elements that take `each` bytes of memory.
    ///
    /// # Errors
    /// [`DecodeErrorKind::TooManyElements`], and as [`Self::spend`].
    pub fn elements(
        &mut self,
        reader: &Reader<'_>,
        what: &'static str,
        count: usize,
        each: usize,
    ) -> Result<(), DecodeError> {
        match self.elements.checked_sub(count) {
            Some(left) => self.elements = left,
            None => return Err(reader.error(what, DecodeErrorKind::TooManyElements)),
        }
        self.spend(reader, what, count.saturating_mul(each))
    }

    /// Pays for `bytes` of memory.
    ///
    /// # Errors
    /// [`DecodeErrorKind::TooMuchMemory`] when the budget does not cover it.
    pub fn spend(
        &mut self,
        reader: &Reader<'_>,
        what: &'static str,
        bytes: usize,
    ) -> Result<(), DecodeError> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(reader.error(what, DecodeErrorKind::TooMuchMemory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(result: Result<T, DecodeError>) -> Option<DecodeErrorKind> {
        result.err().map(|error| error.kind)
    }

    #[test]
    fn an_error_names_the_field_and_the_place() {
        let mut reader = Reader::new(&[0, 1, 2], Encoding::Classic);
        assert_eq!(reader.i16("acks"), Ok(1));
        let error = reader.i32("timeout_ms").unwrap_err();
        assert_eq!(
            error,
            DecodeError { what: "timeout_ms", at: 2, kind: DecodeErrorKind::Truncated }
        );
        assert_eq!(error.to_string(), "Truncated in field timeout_ms at byte 2");
    }

    #[test]
    fn strings_read_the_same_in_both_encodings() {
        let classic = [0, 2, b'h', b'i', 0xff, 0xff, 0, 0];
        let mut reader = Reader::new(&classic, Encoding::Classic);
        assert_eq!(reader.string("a"), Ok("hi"));
        assert_eq!(reader.nullable_string("b"), Ok(None));
        assert_eq!(reader.string("c"), Ok(""));
        let compact = [3, b'h', b'i', 0, 1];
        let mut reader = Reader::new(&compact, Encoding::Compact);
        assert_eq!(reader.string("a"), Ok("hi"));
        assert_eq!(reader.nullable_string("b"), Ok(None));
        assert_eq!(reader.string("c"), Ok(""));
        assert_eq!(reader.finish("end"), Ok(()));
    }

    #[test]
    fn counts_are_held_against_what_is_left() {
        let hostile = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let mut reader = Reader::new(&hostile, Encoding::Classic);
        assert_eq!(kind(reader.count("topics", 4)), Some(DecodeErrorKind::CountTooLarge));
        let honest = [0, 0, 0, 1, 0, 0, 0, 7];
        let mut reader = Reader::new(&honest, Encoding::Classic);
        assert_eq!(reader.count("topics", 4), Ok(1));
        let null = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&null, Encoding::Classic).nullable_count("topics", 4), Ok(None));
        assert_eq!(
            kind(Reader::new(&null, Encoding::Classic).count("topics", 4)),
            Some(DecodeErrorKind::UnexpectedNull)
        );
    }

    #[test]
    fn bad_lengths_are_told_apart() {
        let mut reader = Reader::new(&[0xff, 0xfe], Encoding::Classic);
        assert_eq!(kind(reader.string("name")), Some(DecodeErrorKind::NegativeLength));
        let mut reader = Reader::new(&[0, 9, b'x'], Encoding::Classic);
        assert_eq!(kind(reader.string("name")), Some(DecodeErrorKind::Truncated));
        let mut reader = Reader::new(&[2, 0xff], Encoding::Compact);
        assert_eq!(kind(reader.string("name")), Some(DecodeErrorKind::InvalidUtf8));
        let mut reader = Reader::new(&[0xff; 9], Encoding::Compact);
        assert_eq!(kind(reader.string("name")), Some(DecodeErrorKind::InvalidVarint));
        assert_eq!(
            kind(Reader::new(&[0], Encoding::Classic).finish("body")),
            Some(DecodeErrorKind::TrailingBytes)
        );
    }

    #[test]
    fn a_budget_refuses_what_it_does_not_cover() {
        let reader = Reader::new(&[], Encoding::Classic);
        let mut budget = Budget::new(10, 2, 4);
        assert_eq!(budget.elements(&reader, "topics", 3, 7), Ok(()));
        assert_eq!(budget.spend(&reader, "topics", 3), Ok(()));
        assert_eq!(kind(budget.spend(&reader, "topics", 1)), Some(DecodeErrorKind::TooMuchMemory));
    }

    #[test]
    fn a_budget_ends_however_large_the_body() {
        let reader = Reader::new(&[], Encoding::Classic);
        let whole = || Budget::new(100 << 20, 16, 4);
        assert_eq!(whole().spend(&reader, "topics", limits::DECODED_BYTES_MAX), Ok(()));
        let refused = kind(whole().spend(&reader, "topics", limits::DECODED_BYTES_MAX + 1));
        assert_eq!(refused, Some(DecodeErrorKind::TooMuchMemory));
        let mut budget = whole();
        assert_eq!(budget.elements(&reader, "topics", limits::ELEMENTS_MAX - 1, 1), Ok(()));
        let refused = kind(budget.elements(&reader, "partitions", 2, 0));
        assert_eq!(refused, Some(DecodeErrorKind::TooManyElements));
    }
}

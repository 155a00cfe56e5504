//! Writing with known sizes: the same code runs twice, first to count, then to write.
//!
//! Does: write every primitive of the protocol in either encoding into a sink.
//! Does not: know any message, or grow a buffer.
//! Invariants: [`Tally`] and the buffer see the same calls, so the size is exact by construction.
//! Apart because a size computed by other code than the writing is a size that will be wrong.
//!
//! Decision: one type parameter (the sink), since two hand-kept copies of each layout would drift.

use bytes::{BufMut, BytesMut};

use crate::wire::{Encoding, varint};

/// Where written bytes go.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
    /// How many bytes it has taken.
    fn position(&self) -> usize;
}

/// A sink that only counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally(usize);

impl Sink for Tally {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn position(&self) -> usize {
        self.0
    }
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    #[inline]
    fn position(&self) -> usize {
        self.len()
    }
}

/// The buffer of an answer whose size is known. A field of constant size costs half of what it
/// costs in a [`BytesMut`], which is not told how many bytes come.
impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn position(&self) -> usize {
        self.len()
    }
}

/// Writes primitives into a sink.
#[derive(Debug)]
pub struct Writer<'s, S: Sink> {
    sink: &'s mut S,
    encoding: Encoding,
}

impl<'s, S: Sink> Writer<'s, S> {
    /// A writer that continues at the sink's position.
    #[inline]
    pub fn new(sink: &'s mut S, encoding: Encoding) -> Self {
        Self { sink, encoding }
    }

    /// How many bytes the sink has taken.
    #[inline]
    pub fn position(&self) -> usize {
        self.sink.position()
    }

    /// Raw bytes.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 16-bit integer.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 32-bit integer.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 64-bit integer.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A boolean, one byte.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// An unsigned varint.
    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        self.raw(varint::unsigned(u64::from(value)).as_slice());
    }

    /// A string.
    ///
    /// # Panics
    /// Beyond 32,767 bytes in the classic encoding: no string of ours is that long.
    pub fn string(&mut self, text: &str) {
        match self.encoding {
            Encoding::Compact => self.unsigned_varint(length_32(text.len()) + 1),
            Encoding::Classic => {
                self.i16(i16::try_from(text.len()).expect("string fits a 16-bit length"));
            }
        }
        self.raw(text.as_bytes());
    }

    /// A string or null.
    ///
    /// # Panics
    /// As [`Self::string`].
    pub fn nullable_string(&mut self, text: Option<&str>) {
        match (text, self.encoding) {
            (Some(text), Encoding::Classic | Encoding::Compact) => self.string(text),
            (None, Encoding::Compact) => self.unsigned_varint(0),
            (None, Encoding::Classic) => self.i16(-1),
        }
    }

    /// The count of an array, or the length of a blob whose bytes follow.
    ///
    /// # Panics
    /// Beyond 2^31 − 1: nothing that large is ever answered.
    pub fn count(&mut self, count: usize) {
        match self.encoding {
            Encoding::Compact => self.unsigned_varint(length_32(count) + 1),
            Encoding::Classic => self.i32(length_32(count) as i32),
        }
    }

    /// A null array or blob.
    pub fn null_array(&mut self) {
        match self.encoding {
            Encoding::Compact => self.unsigned_varint(0),
            Encoding::Classic => self.i32(-1),
        }
    }

    /// Ends a struct that has no tagged fields.
    pub fn end_of_struct(&mut self) {
        match self.encoding {
            Encoding::Compact => self.unsigned_varint(0),
            Encoding::Classic => {}
        }
    }

    /// Begins the tagged fields of a struct: `count` calls of [`Self::tagged_field`] follow.
    ///
    /// Invariant: only in the compact encoding.
    pub fn tagged_fields(&mut self, count: u32) {
        assert_eq!(self.encoding, Encoding::Compact, "classic structs have no tagged fields");
        self.unsigned_varint(count);
    }

    /// Begins one tagged field: its content of `size` bytes follows.
    pub fn tagged_field(&mut self, tag: u32, size: usize) {
        self.unsigned_varint(tag);
        self.unsigned_varint(length_32(size));
    }
}

/// A length that fits both a positive `i32` and a varint of one more.
fn length_32(length: usize) -> u32 {
    u32::try_from(i32::try_from(length).expect("length fits 31 bits")).expect("not negative")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read::Reader;

    fn write_some<S: Sink>(writer: &mut Writer<'_, S>) {
        writer.i8(-1);
        writer.i16(-2);
        writer.i32(3);
        writer.i64(-4);
        writer.boolean(true);
        writer.string("name");
        writer.nullable_string(None);
        writer.count(0);
        writer.null_array();
        writer.end_of_struct();
    }

    #[test]
    fn what_is_written_is_as_long_as_tallied_and_reads_back() {
        for encoding in [Encoding::Classic, Encoding::Compact] {
            let mut tally = Tally::default();
            write_some(&mut Writer::new(&mut tally, encoding));
            let mut buffer = BytesMut::new();
            write_some(&mut Writer::new(&mut buffer, encoding));
            assert_eq!(buffer.len(), tally.position());

            let mut reader = Reader::new(&buffer, encoding);
            assert_eq!(reader.i8("a"), Ok(-1));
            assert_eq!(reader.i16("b"), Ok(-2));
            assert_eq!(reader.i32("c"), Ok(3));
            assert_eq!(reader.i64("d"), Ok(-4));
            assert_eq!(reader.boolean("e"), Ok(true));
            assert_eq!(reader.string("f"), Ok("name"));
            assert_eq!(reader.nullable_string("g"), Ok(None));
            assert_eq!(reader.count("h", 1), Ok(0));
            assert_eq!(reader.nullable_count("i", 1), Ok(None));
            assert_eq!(reader.end_of_struct("j"), Ok(()));
            assert_eq!(reader.finish("k"), Ok(()));
        }
    }
}

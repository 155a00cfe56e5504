//! What else a record is besides its value: a time, a key, headers. All of it follows from the value's name, and
//! so does whether it has a value at all.
//!
//! Does: write a record, and tell whether one that was read is the same to its last field (A24).
//! Does not: know batches.
//! Invariants: some records have no key, some no headers, some the same header twice or without a value; one that
//! deletes its key has its name in a header.
//! Apart because a broker may garble what it does not look at itself.

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::records::{Header, Record};

use super::history::Value;

/// The header that has the name of what has no value.
const NAME: &str = "name";

impl Value {
    fn key(self) -> Option<[u8; 4]> {
        if let Some(key) = self.few_key() {
            return Some(key.to_be_bytes());
        }
        (!self.number.is_multiple_of(3)).then(|| self.number.to_be_bytes())
    }

    /// Names and values of its headers.
    fn headers(self) -> &'static [(&'static str, Option<&'static str>)] {
        match self.number % 4 {
            0 => &[("trace", Some("first")), ("trace", Some("second"))],
            1 => &[("empty", Some("")), ("none", None)],
            _ => &[],
        }
    }

    /// Adds the record of this value to a batch.
    pub fn write(self, batch: &mut BatchBuilder) {
        let (bytes, key) = (self.bytes(), self.key());
        let headers = self
            .headers()
            .iter()
            .map(|(name, value)| Header { key: name.as_bytes(), value: value.map(str::as_bytes) });
        let mut headers: Vec<Header<'_>> = headers.collect();
        if self.is_tombstone() {
            headers.push(Header { key: NAME.as_bytes(), value: Some(&bytes) });
        }
        batch.push(&NewRecord {
            timestamp: self.timestamp(),
            key: key.as_ref().map(<[u8; 4]>::as_slice),
            value: (!self.is_tombstone()).then_some(&bytes),
            headers: &headers,
        });
    }

    /// Whose record this is; `None` if nobody wrote it like that.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let mut names = record.headers.filter(|header| header.key == NAME.as_bytes());
        let named = names.next().and_then(|header| header.value);
        let value = record.value.or(named).and_then(Self::read)?;
        let read = record.headers.map(|header| (header.key, header.value));
        let written = value.headers().iter();
        let written = written.map(|(name, value)| (name.as_bytes(), value.map(str::as_bytes)));
        let written = written.chain(named.map(|bytes| (NAME.as_bytes(), Some(bytes))));
        let is_same = record.value.is_none() == value.is_tombstone()
            && named.is_some() == value.is_tombstone()
            && record.timestamp == value.timestamp()
            && record.key == value.key().as_ref().map(<[u8; 4]>::as_slice)
            && read.eq(written);
        is_same.then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::batch::records::records;

    use super::*;

    #[test]
    fn a_record_is_known_again_and_an_altered_one_is_not() {
        let mut tombstones = 0;
        for number in 0..24 {
            let writer = if number < 6 { 2 } else { super::super::history::KEYED_WRITER };
            let value = Value { writer, number };
            let mut batch = BatchBuilder::new();
            value.write(&mut batch);
            let bytes = batch.finish();
            let records = records(&bytes, 1 << 20).expect("a sound batch");
            let record = records.iter().next().expect("one record").expect("a sound record");
            assert_eq!(Value::of(&record), Some(value));
            let other = Record { timestamp: record.timestamp + 1, ..record };
            assert_eq!(Value::of(&other), None, "another time");
            assert_eq!(Value::of(&Record { key: Some(b"k"), ..record }), None, "another key");
            assert_eq!(record.value.is_none(), value.is_tombstone());
            let other = if value.is_tombstone() { Some(&b"v"[..]) } else { None };
            assert_eq!(Value::of(&Record { value: other, ..record }), None, "another value");
            tombstones += u32::from(value.is_tombstone());
            let mut without = record.headers;
            if without.next().is_some() {
                assert_eq!(
                    Value::of(&Record { headers: without, ..record }),
                    None,
                    "a header less"
                );
            }
        }
        assert!((2..12).contains(&tombstones), "some are: {tombstones}");
    }
}

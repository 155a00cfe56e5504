//! What else a record is besides its value: a time, a key, headers. All of it follows from the value's name.
//!
//! Does: write a record, and tell whether one that was read is the same to its last field (A24).
//! Does not: know batches.
//! Invariants: some records have no key, some no headers, some the same header twice or without a value.
//! Apart because a broker may garble what it does not look at itself.

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::records::{Header, Record};

use super::history::Value;

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
        let (value, key) = (self.bytes(), self.key());
        let headers = self
            .headers()
            .iter()
            .map(|(name, value)| Header { key: name.as_bytes(), value: value.map(str::as_bytes) });
        let headers: Vec<Header<'_>> = headers.collect();
        batch.push(&NewRecord {
            timestamp: self.timestamp(),
            key: key.as_ref().map(<[u8; 4]>::as_slice),
            value: Some(&value),
            headers: &headers,
        });
    }

    /// Whose record this is; `None` if nobody wrote it like that.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let value = record.value.and_then(Self::read)?;
        let read = record.headers.map(|header| (header.key, header.value));
        let written = value.headers().iter();
        let written = written.map(|(name, value)| (name.as_bytes(), value.map(str::as_bytes)));
        let is_same = record.timestamp == value.timestamp()
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
        for number in 0..12 {
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
            let mut without = record.headers;
            if without.next().is_some() {
                assert_eq!(
                    Value::of(&Record { headers: without, ..record }),
                    None,
                    "a header less"
                );
            }
        }
    }
}

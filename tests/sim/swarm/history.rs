//! What clients did and what they were told, in the order of time.
//!
//! Does: name what can happen to a client, and the values it writes.
//! Does not: judge; the oracles do.
//! Invariants: a value is written by one writer, once, to one place; a happening never changes after
//! it was noted.
//! Apart because a history can also be made up by hand, which is how the oracles are tested.

use std::fmt;

/// A partition that a life uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of the life's topics.
    pub topic: u8,
    /// Which partition of it.
    pub partition: i32,
}

/// What a record says: nobody else writes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// Who wrote it.
    pub writer: u16,
    /// The how manieth of his.
    pub number: u32,
}

impl Value {
    /// The most a value adds to its name, in bytes.
    const FILLER_MAX: u32 = 3_000;

    /// The value as it is written: its name, and a filler whose length and letter follow from it, so that a
    /// record that was altered is noticed.
    pub fn bytes(self) -> Vec<u8> {
        let mixed = (self.number ^ u32::from(self.writer) << 20).wrapping_mul(0x9e37_79b9);
        let long = mixed >> 28 == 0;
        let length = if long { mixed % Self::FILLER_MAX } else { mixed % 40 };
        let mut bytes = format!("{}.{}.", self.writer, self.number).into_bytes();
        bytes.resize(bytes.len() + length as usize, b'a' + (mixed % 26) as u8);
        bytes
    }

    /// Whose value these bytes are; `None` if they are nobody's, or altered.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(3, |byte| *byte == b'.');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u32>().ok();
        let (writer, number) = (u16::try_from(number()?).ok()?, number()?);
        let value = Self { writer, number };
        (value.bytes() == bytes).then_some(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.writer, self.number)
    }
}

/// Where in the history something was asked; an answer refers to its question by it.
pub type Since = usize;

/// One thing that a client did or was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A value was sent for the first time.
    Sent(Place, Value),
    /// It was acknowledged at this offset. It may be that the offset is not told (a duplicate).
    Acked { place: Place, value: Value, offset: Option<i64>, since: Since },
    /// It was refused in words that mean: it is not there and will not be.
    Refused(Place, Value),
    /// A fetch was sent, a question for an end, or one for a committed offset.
    Asked,
    /// A fetch gave this record.
    Seen { place: Place, offset: i64, value: Value, since: Since },
    /// A fetch gave a record that no client wrote like that.
    Garbled(Place, i64),
    /// A fetch from this offset began with a later one.
    Skipped { place: Place, from: i64, to: i64 },
    /// Somebody was told where the committed records end (the high watermark).
    End { place: Place, end: i64, since: Since },
    /// Somebody was told where the log begins.
    Start { place: Place, start: i64, since: Since },
    /// Everything below was deleted on request, and that is done.
    Deleted(Place, i64),
    /// An offset of a group was committed, and that is done.
    Committed { group: u8, place: Place, offset: i64 },
    /// A member was told what its group committed; −1 is nothing.
    CommitRead { group: u8, place: Place, offset: i64, since: Since },
    /// A member of a group was given these places in this generation.
    Assigned { group: u8, generation: i32, member: String, places: Vec<Place> },
    /// The process ended without being asked: what is not on the disk is lost.
    Crash,
    /// At the end of the life, with nobody else there: the log was read from `start` up to `end`,
    /// and this is all of it.
    ReadWhole { place: Place, start: i64, end: i64, records: Vec<(i64, Value)> },
}

/// What happened, in order, and what must be known to judge it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of time.
    pub happenings: Vec<Happening>,
    /// Topics whose records may be acknowledged before they are durable (`flush.messages`).
    pub relaxed: Vec<u8>,
}

impl History {
    /// Notes what happened; gives its place in the history.
    pub fn note(&mut self, happening: Happening) -> Since {
        self.happenings.push(happening);
        self.happenings.len() - 1
    }

    /// Whether a crash may take what was acknowledged there.
    pub fn is_relaxed(&self, place: Place) -> bool {
        self.relaxed.contains(&place.topic)
    }

    /// Whether there was a crash.
    pub fn has_crash(&self) -> bool {
        self.happenings.contains(&Happening::Crash)
    }

    /// What a crash does not take: whether acknowledgements at this place hold.
    pub fn binds(&self, place: Place) -> bool {
        !(self.is_relaxed(place) && self.has_crash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_and_an_altered_one_is_not() {
        for number in 0..500 {
            let value = Value { writer: 3, number };
            let mut bytes = value.bytes();
            assert_eq!(Value::read(&bytes), Some(value));
            bytes.push(b'!');
            assert_eq!(Value::read(&bytes), None);
        }
        assert_eq!(Value::read(b"hello"), None);
    }
}

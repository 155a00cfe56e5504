//! What clients did and what they were told, in the order of time.
//!
//! Does: name what can happen to a client, and the values it writes.
//! Does not: judge; the oracles do.
//! Invariants: a value is written by one writer, once, to one place; a happening never changes after
//! it was noted.
//! Apart because a history can also be made up by hand, which is how the oracles are tested.

use std::fmt;

use super::heap::Nanos;
use super::transacted::Transacted;

/// The time of every writer's first value, milliseconds since 1970.
pub const BIRTH: i64 = 1_700_000_000_000;

/// A partition that a life uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of the life's topics.
    pub topic: u8,
    /// Which partition of it.
    pub partition: i32,
}

/// What a record says: nobody else writes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// Who wrote it.
    pub writer: u16,
    /// The how manieth of his.
    pub number: u32,
}

/// Whoever has this name or a higher one writes values with few keys.
pub const KEYED_WRITER: u16 = 1000;
/// How many keys there are at a time. The last value of each stays.
pub const KEYS: u32 = 7;
/// One value in so many has another key, which all do that are written in its time: then it is left to itself, as it
/// ended, and its deletion has the time to go.
const SEASON_ONE_IN: u32 = 6;
/// So many values of a writer are of one time.
const SEASON: u32 = 128;

impl Value {
    /// Whether it says that its key is deleted: its record has no value, and its name stands in a header.
    pub fn is_tombstone(self) -> bool {
        let mixed = (self.number ^ u32::from(self.writer) << 4).wrapping_mul(0x9e37_79b9) >> 12;
        self.writer >= KEYED_WRITER && mixed.is_multiple_of(4)
    }

    /// Which of the few keys it has; `None` if its key, if it has one, is of no meaning.
    pub fn few_key(self) -> Option<u32> {
        let mixed = (self.number ^ u32::from(self.writer) << 8).wrapping_mul(0x9e37_79b9) >> 16;
        let season = KEYS + self.number / SEASON;
        let key = if (mixed / KEYS).is_multiple_of(SEASON_ONE_IN) { season } else { mixed % KEYS };
        (self.writer >= KEYED_WRITER).then_some(key)
    }

    /// The most a value adds to its name, in bytes.
    const FILLER_MAX: u32 = 3_000;
    /// The longest name: both numbers, each with a point.
    const NAME_MAX: usize = 5 + 1 + 10 + 1;

    /// The time its writer gives it, milliseconds since 1970.
    pub fn timestamp(self) -> i64 {
        BIRTH + i64::from(self.number)
    }

    /// The value as it is written: its name, and a filler whose length and letter follow from it, so that a
    /// record that was altered is noticed.
    pub fn bytes(self) -> Vec<u8> {
        let (length, letter) = self.filler();
        let mut bytes = Vec::with_capacity(Self::NAME_MAX + length);
        push_decimal(&mut bytes, u32::from(self.writer));
        bytes.push(b'.');
        push_decimal(&mut bytes, self.number);
        bytes.push(b'.');
        bytes.resize(bytes.len() + length, letter);
        bytes
    }

    /// How long it is, and of which letter.
    fn filler(self) -> (usize, u8) {
        let mixed = (self.number ^ u32::from(self.writer) << 20).wrapping_mul(0x9e37_79b9);
        let long = mixed >> 28 == 0;
        let length = if long { mixed % Self::FILLER_MAX } else { mixed % 40 };
        (length as usize, b'a' + (mixed % 26) as u8)
    }

    /// Whose value these bytes are; `None` if they are nobody's, or altered.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (writer, rest) = split_decimal(bytes)?;
        let (number, filler) = split_decimal(rest)?;
        let value = Self { writer: u16::try_from(writer).ok()?, number };
        let (length, letter) = value.filler();
        let is_whole = filler.len() == length && filler.iter().all(|byte| *byte == letter);
        is_whole.then_some(value)
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
    /// Somebody wants everything below to be deleted; −1 is everything there is.
    DeleteAsked(Place, i64),
    /// Everything below was deleted on request, and that is done.
    Deleted(Place, i64),
    /// A look-up said that this is the first record of this time or later, if there is one.
    Found { place: Place, time: i64, offset: Option<i64>, since: Since },
    /// An offset of a group was committed, and that is done.
    Committed { group: u8, place: Place, offset: i64 },
    /// A member was told what its group committed; −1 is nothing.
    CommitRead { group: u8, place: Place, offset: i64, since: Since },
    /// A member of a group was given these places in this generation.
    Assigned { group: u8, generation: i32, member: String, places: Vec<Place> },
    /// A member of a group of the new kind has these places and no others from this time on, at least until
    /// then if it is not heard of any more.
    InHands { group: u8, member: u16, places: Vec<Place>, at: Nanos, until: Nanos },
    /// The process ended without being asked: what is not on the disk is lost.
    Crash,
    /// From here on an operation of a disk is not answered, as long as the process lives.
    DiskSilent,
    /// The process that waited for such an answer has ended, asked or not.
    SilenceOver,
    /// A disk has spoilt bytes that were durable: these offsets may be refused, or lost with all that
    /// stands behind them. Noted once it is known how a start takes it.
    Damaged { place: Place, from: i64, until: Option<i64>, is_silent: bool },
    /// With them went deletions: the log begins here again, or later.
    StartForgotten(Place, i64),
    /// The same befell what this group committed.
    GroupDamaged(u8),
    /// The same befell the topic that comes and goes.
    PassingDamaged,
    /// An operator gave up what this log lost.
    Accepted(Place),
    /// Fetches from this offset are refused for good; the reader goes on there.
    Denied { place: Place, from: i64, to: i64 },
    /// At the end of the life, the log says that something behind its end is lost.
    Held(Place),
    /// At the end of the life, with nobody else there: the log was read from `start` up to `end`,
    /// and this is all of it.
    ReadWhole { place: Place, start: i64, end: i64, records: Vec<(i64, Value)> },
    /// Something about transactions.
    Transacted(Transacted),
}

/// What happened, in order, and what must be known to judge it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of time.
    pub happenings: Vec<Happening>,
    /// Topics whose records may be acknowledged before they are durable (`flush.messages`).
    pub relaxed: Vec<u8>,
    /// Topics whose oldest records go by themselves (`retention.bytes`).
    pub retained: Vec<u8>,
    /// Topics of which a record goes when a later one has its key.
    pub compacted: Vec<u8>,
    /// How long a deletion in a compacted topic stays for everybody to hear of it (`delete.retention.ms`), where
    /// the node's clock tells the time; 0 where it jumps.
    pub tombstones_last: Nanos,
    /// What clients ask of a history that goes on.
    known: Known,
    /// What time it is.
    now: Nanos,
    /// When each happening was noted.
    times: Vec<Nanos>,
}

/// What is known without looking a history through.
#[derive(Clone, Debug, Default)]
struct Known {
    has_crash: bool,
    is_passing_damaged: bool,
    /// What was damaged, in order: the first offset, and one after the last if that is known.
    damages: Vec<(Place, i64, Option<i64>)>,
    /// Groups that were damaged, each as often as it was.
    damaged_groups: Vec<u8>,
}

impl History {
    /// Nothing has happened yet.
    pub fn new(relaxed: Vec<u8>, retained: Vec<u8>, compacted: Vec<u8>) -> Self {
        Self { relaxed, retained, compacted, tombstones_last: Nanos::MAX, ..Self::default() }
    }

    /// From now on it is so late.
    pub fn set_time(&mut self, now: Nanos) {
        self.now = now;
    }

    /// How late it was when this happened.
    pub fn time(&self, at: Since) -> Nanos {
        self.times[at]
    }

    /// Notes what happened; gives its place in the history.
    pub fn note(&mut self, happening: Happening) -> Since {
        match &happening {
            Happening::Crash => self.known.has_crash = true,
            Happening::PassingDamaged => self.known.is_passing_damaged = true,
            Happening::GroupDamaged(group) => self.known.damaged_groups.push(*group),
            Happening::Damaged { place, from, until, .. } => {
                self.known.damages.push((*place, *from, *until));
            }
            Happening::Sent(..)
            | Happening::Acked { .. }
            | Happening::Refused(..)
            | Happening::Asked
            | Happening::Seen { .. }
            | Happening::Garbled(..)
            | Happening::Skipped { .. }
            | Happening::End { .. }
            | Happening::Start { .. }
            | Happening::DeleteAsked(..)
            | Happening::Deleted(..)
            | Happening::Found { .. }
            | Happening::Committed { .. }
            | Happening::CommitRead { .. }
            | Happening::Assigned { .. }
            | Happening::InHands { .. }
            | Happening::DiskSilent
            | Happening::SilenceOver
            | Happening::StartForgotten(..)
            | Happening::Accepted(_)
            | Happening::Denied { .. }
            | Happening::Held(_)
            | Happening::ReadWhole { .. }
            | Happening::Transacted(_) => {}
        }
        self.happenings.push(happening);
        self.times.push(self.now);
        self.happenings.len() - 1
    }

    /// Puts a happening between others, at the time of the one it comes before.
    #[cfg(test)]
    pub fn insert(&mut self, at: Since, happening: Happening) {
        self.happenings.insert(at, happening);
        self.times.insert(at, self.times.get(at).copied().unwrap_or(self.now));
    }

    /// Notes what happened about transactions.
    pub fn note_transacted(&mut self, what: Transacted) {
        self.note(Happening::Transacted(what));
    }

    /// What happened about transactions, each with its place in the history.
    pub fn transacted(&self) -> impl Iterator<Item = (Since, &Transacted)> {
        self.happenings.iter().enumerate().filter_map(|(at, happening)| {
            let Happening::Transacted(what) = happening else { return None };
            Some((at, what))
        })
    }

    /// Whether a crash may take what was acknowledged there.
    pub fn is_relaxed(&self, place: Place) -> bool {
        self.relaxed.contains(&place.topic)
    }

    /// Whether a record may go because a later one has its key.
    pub fn is_compacted(&self, place: Place) -> bool {
        self.compacted.contains(&place.topic)
    }

    /// Whether there was a crash.
    pub fn has_crash(&self) -> bool {
        self.known.has_crash
    }

    /// What was damaged of this log, in order: the first offset, and one after the last if it is known.
    fn damages(&self, place: Place) -> impl Iterator<Item = (i64, Option<i64>)> {
        let damages = self.known.damages.iter().filter(move |(damaged, ..)| *damaged == place);
        damages.map(|(_, from, until)| (*from, *until))
    }

    /// Whether the end of the log may be lost, or may have been.
    pub fn may_miss_its_end(&self, place: Place) -> bool {
        self.damages(place).any(|(_, until)| until.is_none())
    }

    /// Where the damaged records around this offset end; `None` if it is not among any.
    pub fn past_damage(&self, place: Place, offset: i64) -> Option<i64> {
        let around = self.damages(place).filter_map(|(from, until)| Some(from..until?));
        around.filter(|range| range.contains(&offset)).map(|range| range.end).max()
    }

    /// Whether the topic that comes and goes lost something.
    pub fn is_passing_damaged(&self) -> bool {
        self.known.is_passing_damaged
    }

    /// How often a disk lost something of what this group committed and of who belongs to it.
    pub fn group_damages(&self, group: u8) -> usize {
        self.known.damaged_groups.iter().filter(|damaged| **damaged == group).count()
    }

    /// What a crash does not take: whether acknowledgements at this place hold.
    pub fn binds(&self, place: Place) -> bool {
        !(self.is_relaxed(place) && self.has_crash())
    }
}

/// Writes a number as people do. Every value is written and read so often that formatting it was felt.
fn push_decimal(bytes: &mut Vec<u8>, number: u32) {
    let from = bytes.len();
    let mut left = number;
    loop {
        bytes.push(b'0' + (left % 10) as u8);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    bytes[from..].reverse();
}

/// A number as it is written, and what follows the point behind it.
fn split_decimal(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let end = bytes.iter().take(11).position(|byte| *byte == b'.')?;
    let (digits, rest) = (&bytes[..end], &bytes[end + 1..]);
    let is_canonical = digits == b"0" || digits.first().is_some_and(|first| *first != b'0');
    let number = digits.iter().try_fold(0u32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    });
    Some((number.filter(|_| is_canonical)?, rest))
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
        for nobody in
            ["hello", "", ".", "3.", "3.1", "03.1.", "3.+1.", "3.99999999999.", "70000.1."]
        {
            let longer = |count: usize| format!("{nobody}{}", "a".repeat(count)).into_bytes();
            assert!((0..40).all(|count| Value::read(&longer(count)).is_none()), "{nobody}");
        }
        let last = Value { writer: u16::MAX, number: u32::MAX };
        assert_eq!(Value::read(&last.bytes()), Some(last));
    }
}

//! Names of things, one type each, so that a partition number can never be taken for an offset.
//!
//! Does: give every identifier and counter of the protocol and of the log its own type with the
//! few operations that make sense for it.
//! Does not: parse, allocate or look anything up.
//! Invariants: no arithmetic between different types; a type that can overflow says how.
//! Apart because every other room needs these words and none may own them.

use std::fmt;

/// Declares a newtype over a signed integer as it crosses the wire.
macro_rules! wire_integer {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

wire_integer! {
    /// A broker's identity inside its cluster (`node.id`). Never negative for a real node.
    NodeId(i32)
}
wire_integer! {
    /// A core of this node, counted from zero. Never leaves the process except in the node record.
    CoreId(u16)
}
wire_integer! {
    /// A partition's number inside its topic, counted from zero.
    PartitionIndex(i32)
}
wire_integer! {
    /// A record's place in its partition, counted from zero, as clients see it.
    Offset(i64)
}
wire_integer! {
    /// An entry's place in a Raft log, counted from one. Zero means "before the first entry".
    ///
    /// Not an [`Offset`]: control entries take an index and no offset.
    LogIndex(u64)
}
wire_integer! {
    /// A Raft term, counted from one. Kafka's leader epoch is the same number, see [`Term::epoch`].
    Term(u64)
}
wire_integer! {
    /// A partition leader's epoch as it crosses the wire. −1 means "unknown, do not check".
    LeaderEpoch(i32)
}
wire_integer! {
    /// An idempotent or transactional producer's identity. −1 means "none".
    ProducerId(i64)
}
wire_integer! {
    /// How often a producer id was taken over. −1 means "none".
    ProducerEpoch(i16)
}
wire_integer! {
    /// A record's number within (producer, partition). Wraps from `i32::MAX` to zero. −1: none.
    Sequence(i32)
}

impl NodeId {
    /// What the protocol writes where no node is meant (no leader, a consumer's replica id).
    pub const NONE: Self = Self(-1);
}

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// What the protocol writes where no offset is known.
    pub const UNKNOWN: Self = Self(-1);

    /// The offset `count` records later.
    ///
    /// # Panics
    /// When the sum leaves `i64`: 2^63 records cannot exist, so that is our own bug.
    #[must_use]
    pub fn after(self, count: i64) -> Self {
        Self(self.0.checked_add(count).expect("offset overflow"))
    }
}

impl LogIndex {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);

    /// The same number as Kafka's leader epoch.
    ///
    /// # Panics
    /// Beyond 2^31 elections of one partition, which an election timeout of a second reaches
    /// after 68 years of nothing but elections.
    #[must_use]
    pub fn epoch(self) -> LeaderEpoch {
        LeaderEpoch(i32::try_from(self.0).expect("term fits a leader epoch"))
    }
}

impl LeaderEpoch {
    /// "Unknown": a request that carries it is not fenced.
    pub const UNKNOWN: Self = Self(-1);
}

impl ProducerId {
    /// A batch without idempotence.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// A batch without idempotence.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// A batch without idempotence.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records later, wrapping from `i32::MAX` to zero as Kafka's does.
    ///
    /// `count` must not be negative.
    #[must_use]
    pub fn after(self, count: i32) -> Self {
        debug_assert!(self.0 >= 0 && count >= 0, "sequence arithmetic on none");
        Self(((i64::from(self.0) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32)
    }

    /// How many records come from this one until `other`, which does not count: the way forward, also
    /// where it leads over the end of the numbers. Neither is none.
    #[must_use]
    pub fn count_until(self, other: Self) -> u32 {
        debug_assert!(self.0 >= 0 && other.0 >= 0, "sequence arithmetic on none");
        other.0.wrapping_sub(self.0).cast_unsigned() & i32::MAX.cast_unsigned()
    }
}

/// A topic's identity: a UUID that outlives no deletion (KIP-516). All zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// What the protocol writes where a topic has no id or was named instead.
    pub const ZERO: Self = Self([0; 16]);
    /// The cluster's own metadata log; the same reserved id as Kafka's `METADATA_TOPIC_ID`.
    pub const METADATA: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

/// A topic id as text: 128 bits in characters of six.
const ID_CHARACTERS: usize = 22;

impl TopicId {
    /// Reads what [`Display`](fmt::Display) prints; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != ID_CHARACTERS {
            return None;
        }
        let mut bits = 0u128;
        for (place, byte) in text.bytes().enumerate() {
            let sextet = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            // The last sextet holds the last two bits and four zeros.
            bits = match place {
                21 if sextet & 0b1111 == 0 => bits << 2 | u128::from(sextet >> 4),
                21 => return None,
                _ => bits << 6 | u128::from(sextet),
            };
        }
        Some(Self(bits.to_be_bytes()))
    }
}

/// Kafka's own way to print a UUID: unpadded URL-safe base64, 22 characters.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for place in 0..22u32 {
            // 128 bits in 22 sextets: the last one holds two bits, followed by four zero bits.
            let sextet = if place < 21 { bits >> (122 - 6 * place) } else { bits << 4 };
            write!(f, "{}", char::from(ALPHABET[(sextet & 63) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// One partition of one topic: the name of a log, of its Raft group and of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Which topic.
    pub topic: TopicId,
    /// Which of its partitions.
    pub partition: PartitionIndex,
}

impl LogId {
    /// The cluster's metadata log.
    pub const METADATA: Self = Self { topic: TopicId::METADATA, partition: PartitionIndex(0) };

    /// Reads what [`Display`](fmt::Display) prints, as folder names carry it; `None` for anything
    /// else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (topic, partition) = text.split_at_checked(ID_CHARACTERS)?;
        let partition = PartitionIndex(partition.strip_prefix('-')?.parse().ok()?);
        let log = Self { topic: TopicId::parse(topic)?, partition };
        // Numbers have more than one spelling; names have one.
        (log.to_string() == text).then_some(log)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_as_kafka_prints_them() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId::METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
        for id in [TopicId::METADATA, TopicId([0xff; 16]), TopicId(*b"0123456789abcdef")] {
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAA+", "A"] {
            assert_eq!(TopicId::parse(bad), None, "{bad}");
        }
        let log = LogId { topic: TopicId([7; 16]), partition: PartitionIndex(12) };
        assert_eq!(LogId::parse(&log.to_string()), Some(log));
        for bad in ["", "-1", &format!("{}-012", log.topic), &format!("{}12", log.topic)] {
            assert_eq!(LogId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence(0).after(5), Sequence(5));
        assert_eq!(Sequence(i32::MAX).after(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).after(3), Sequence(1));
    }
}

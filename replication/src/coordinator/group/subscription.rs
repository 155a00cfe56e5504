//! Reads what consumers and their leader say to each other in the classic protocol.
//!
//! Does: read a ConsumerProtocolSubscription of any version; read and write a
//! ConsumerProtocolAssignment.
//! Does not: keep user data; fields of versions after 3 are passed over.
//! Invariants: believes no count; anything odd is `None`, since clients may put there what they
//! like.
//! Apart because it is the only look into bytes that are opaque otherwise.

use bytes::{BufMut, Bytes, BytesMut};

/// The newest version of both that is known.
const VERSION_MAX: i16 = 3;

/// What a consumer says to its group's leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription<'a> {
    /// The topics it wants.
    pub(super) topics: Vec<&'a str>,
    /// What it has, from version 1 on.
    pub(super) owned: Vec<(&'a str, Vec<i32>)>,
    /// Its failure domain, from version 3 on.
    pub(super) rack: Option<&'a str>,
}

/// What the leader says to a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    pub(super) partitions: Vec<(&'a str, Vec<i32>)>,
    /// Whether an assignor of the client's own has put something beside.
    pub(super) has_user_data: bool,
}

/// The subscription, or `None` if these bytes are none.
pub(super) fn subscription(metadata: &[u8]) -> Option<Subscription<'_>> {
    let (version, topics, rest) = take_topics(metadata)?;
    let mut subscription = Subscription { topics, ..Default::default() };
    let (_, mut rest) = take_blob(rest)?;
    if version >= 1 {
        (subscription.owned, rest) = take_partitions(rest)?;
    }
    if version >= 2 {
        (_, rest) = take_i32(rest)?;
    }
    if version >= 3 && !rest.starts_with(&[0xff, 0xff]) {
        (subscription.rack, _) = take_string(rest).map(|(rack, rest)| (Some(rack), rest))?;
    }
    Some(subscription)
}

/// The assignment, or `None` if these bytes are none. No bytes at all are an empty one.
pub(super) fn assignment(bytes: &[u8]) -> Option<Assignment<'_>> {
    if bytes.is_empty() {
        return Some(Assignment::default());
    }
    let (version, rest) = take_i16(bytes)?;
    let (partitions, rest) = take_partitions(rest)?;
    let (user_data, _) = take_blob(rest)?;
    (version >= 0).then_some(Assignment { partitions, has_user_data: !user_data.is_empty() })
}

/// Writes an assignment in the version that the consumer's own `metadata` has.
pub(super) fn write_assignment<'t>(
    metadata: &[u8],
    topics: impl ExactSizeIterator<Item = (&'t str, &'t [i32])>,
) -> Bytes {
    let version = take_i16(metadata).map_or(0, |(version, _)| version.clamp(0, VERSION_MAX));
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.put_i32(i32::try_from(topics.len()).expect("topics are counted in 31 bits"));
    for (topic, partitions) in topics {
        bytes.put_i16(i16::try_from(topic.len()).expect("a topic's name is short"));
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(i32::try_from(partitions.len()).expect("so are partitions"));
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    // Null user data.
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The topics, or `None` if these bytes are no subscription.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_, topics, rest) = take_topics(metadata)?;
    // The user data that follows must be there, be it null, as in any version.
    take_i32(rest)?;
    Some(topics)
}

/// The version of a subscription and its topics.
fn take_topics(metadata: &[u8]) -> Option<(i16, Vec<&str>, &[u8])> {
    let (version, rest) = take_i16(metadata)?;
    let (count, mut rest) = take_i32(rest)?;
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        let (topic, after) = take_string(rest)?;
        topics.push(topic);
        rest = after;
    }
    Some((version, topics, rest))
}

fn take_i16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*head), rest))
}

fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*head), rest))
}

/// A blob; null is an empty one.
fn take_blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_i32(bytes)?;
    if length == -1 {
        return Some((&[], rest));
    }
    rest.split_at_checked(usize::try_from(length).ok()?)
}

type Partitions<'a> = Vec<(&'a str, Vec<i32>)>;

fn take_partitions(bytes: &[u8]) -> Option<(Partitions<'_>, &[u8])> {
    let (count, mut rest) = take_i32(bytes)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let (topic, after) = take_string(rest)?;
        let (count, mut after) = take_i32(after)?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let (partition, behind) = take_i32(after)?;
            partitions.push(partition);
            after = behind;
        }
        all.push((topic, partitions));
        rest = after;
    }
    Some((all, rest))
}

fn take_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = take_i16(bytes)?;
    let (string, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((std::str::from_utf8(string).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 3 with two topics, null user data, and fields a reader of version 0 skips.
    const SUBSCRIPTION: &[u8] =
        b"\0\x03\0\0\0\x02\0\x01a\0\x04beta\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\xff\xff";

    #[test]
    fn topics_are_read_from_any_version() {
        assert_eq!(subscribed_topics(SUBSCRIPTION), Some(vec!["a", "beta"]));
        assert_eq!(subscribed_topics(b"\0\0\0\0\0\0\0\0\0\0"), Some(vec![]));
    }

    #[test]
    fn what_a_consumer_has_and_where_it_is_are_read() {
        let metadata = b"\0\x03\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x09\0\x01r";
        let read = subscription(metadata).expect("a subscription");
        assert_eq!((read.topics, read.rack), (vec!["a"], Some("r")));
        assert_eq!(read.owned, [("a", vec![1, 2])]);
        let bare = subscription(SUBSCRIPTION).expect("a subscription");
        assert_eq!((bare.owned, bare.rack), (vec![], None));
    }

    #[test]
    fn an_assignment_is_written_as_it_is_read() {
        let topics: [(&str, &[i32]); 2] = [("a", &[0, 2]), ("b", &[1])];
        let bytes = write_assignment(SUBSCRIPTION, topics.into_iter());
        assert_eq!(bytes[..2], [0, 3], "in the consumer's version");
        let read = assignment(&bytes).expect("an assignment");
        assert_eq!(read.partitions, [("a", vec![0, 2]), ("b", vec![1])]);
        assert!(!read.has_user_data);
        assert_eq!(assignment(b"").map(|none| none.partitions.len()), Some(0));
        assert_eq!(assignment(b"{}"), None);
    }

    #[test]
    fn other_bytes_are_no_subscription() {
        assert_eq!(subscribed_topics(b""), None);
        assert_eq!(subscribed_topics(b"{\"json\": \"connect\"}"), None);
        assert_eq!(subscribed_topics(b"\0\0\x7f\xff\xff\xff"), None);
        // Cut before the end of the user data's length.
        for length in 0..17 {
            assert_eq!(subscribed_topics(&SUBSCRIPTION[..length]), None, "{length} bytes");
        }
    }
}

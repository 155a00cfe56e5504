//! Reads which topics a consumer subscribed to out of what it says to its group's leader.
//!
//! Does: read the topic names at the front of a ConsumerProtocolSubscription of any version.
//! Does not: read the rest; version 0 is a prefix of all later ones.
//! Invariants: believes no count; anything odd is `None`, since clients may put there what they
//! like.
//! Apart because it is the only look into bytes that are opaque otherwise.

/// The topics, or `None` if these bytes are no subscription.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<&str>> {
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
    // The user data that follows must be there, be it null, as in any version.
    take_i32(rest)?;
    Some(topics)
}

fn take_i16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*head), rest))
}

fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*head), rest))
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

//! Which requests the next one of the same connection waits for, and which may lead to a large
//! answer.
//!
//! Does: tell them by the first bytes of a frame.
//! Does not: hold anything back; the connection does.
//! Apart because it is a promise to clients, not a matter of sockets.

use flumen_protocol::api_table::ApiKey;

/// What follows a change of topics or settings must see it, as in Kafka, where all requests of a
/// connection wait for each other: a topic is made and then grown, deleted and then made anew.
const CHANGES: [ApiKey; 7] = [
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::UpdateFeatures,
    ApiKey::AlterClientQuotas,
];

/// Few bytes of a request may bring about any number of bytes of an answer. CreateTopics tells the
/// settings of every topic, also where it only validates.
const LISTINGS: [ApiKey; 14] = [
    ApiKey::Metadata,
    ApiKey::OffsetFetch,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::CreateTopics,
    ApiKey::DescribeConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::DescribeClientQuotas,
    ApiKey::DescribeUserScramCredentials,
];

/// A look-up by time may read and inflate batches for milliseconds, for fifty bytes of a request.
const LOOK_UPS: [ApiKey; 1] = [ApiKey::ListOffsets];

/// What a large answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// Records: they are gathered up to what there is room for.
    Fetch,
    /// A list, which is as long as it is.
    Listing,
}

/// Whether what follows this request, which has this appetite, waits for its answer: it is a change,
/// or a look-up, or its answer may be large. Clients wait for one fetch before they send the next;
/// serving many such requests at once would gather as many large answers for a client that may never
/// read them, and keep everybody else waiting while they are made.
pub fn goes_alone(frame: &[u8], appetite: Option<Appetite>) -> bool {
    appetite.is_some() || is_one_of(&CHANGES, frame) || is_one_of(&LOOK_UPS, frame)
}

/// What this request's answer is made of, if it may be large.
pub fn appetite(frame: &[u8]) -> Option<Appetite> {
    if frame.starts_with(&ApiKey::Fetch.code().to_be_bytes()) {
        Some(Appetite::Fetch)
    } else if is_one_of(&LISTINGS, frame) {
        Some(Appetite::Listing)
    } else {
        None
    }
}

fn is_one_of(keys: &[ApiKey], frame: &[u8]) -> bool {
    // The layout of a request is checked later: what is too short for a key is none of them.
    let Some(code) = frame.first_chunk().map(|code| i16::from_be_bytes(*code)) else {
        return false;
    };
    keys.iter().any(|key| key.code() == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_their_first_two_bytes() {
        let frame = |key: ApiKey| [&key.code().to_be_bytes()[..], &[0, 9]].concat();
        let goes_alone = |frame: &[u8]| goes_alone(frame, appetite(frame));
        assert_eq!(appetite(&frame(ApiKey::Fetch)), Some(Appetite::Fetch));
        for key in LISTINGS {
            assert_eq!(appetite(&frame(key)), Some(Appetite::Listing), "{key:?}");
            assert!(goes_alone(&frame(key)), "{key:?}");
        }
        for key in [ApiKey::DeleteTopics, ApiKey::Fetch, ApiKey::ListOffsets] {
            assert!(goes_alone(&frame(key)), "{key:?}");
        }
        for key in [ApiKey::Produce, ApiKey::Heartbeat, ApiKey::JoinGroup] {
            assert!(!goes_alone(&frame(key)), "{key:?}");
        }
        assert!(!goes_alone(&[]) && !goes_alone(&[0]));
    }
}

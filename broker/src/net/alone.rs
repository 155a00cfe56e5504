//! Which requests the next one of the same connection waits for.
//!
//! Does: tell them by the first bytes of a frame.
//! Does not: hold anything back; the connection does.
//! Apart because it is a promise to clients, not a matter of sockets.

use flumen_protocol::api_table::ApiKey;

/// Clients wait for one fetch before they send the next; serving many at once would gather as many
/// large answers for a client that may never read them. What follows a change of topics or settings
/// must see it, as in Kafka, where all requests of a connection wait for each other: a topic is
/// made and then grown, deleted and then made anew.
pub const ALONE: [ApiKey; 7] = [
    ApiKey::Fetch,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::UpdateFeatures,
];

/// Whether what follows this request waits for its answer.
pub fn goes_alone(frame: &[u8]) -> bool {
    ALONE.iter().any(|key| frame.starts_with(&key.code().to_be_bytes()))
}

/// Whether this is a fetch, whose answer may be large.
pub fn is_fetch(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::Fetch.code().to_be_bytes())
}

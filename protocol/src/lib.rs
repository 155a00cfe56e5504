//! What bytes mean: Kafka's wire protocol and record format.
//!
//! Does: find frames, read and write headers, judge and decode requests, encode responses, and
//! name everything that crosses the wire or lies in the log.
//! Does not: read files or sockets, ask the clock, roll dice, or know another crate of Flumen.
//! Invariants: malformed bytes give an error value, never a panic, and never more memory than
//! [`limits`] allows; no unsafe code.
//! Apart because every other crate speaks these words and none may own them.
//!
//! | where | what |
//! |---|---|
//! | [`ids`] | newtypes for everything that is counted or identified |
//! | [`entry`], [`time`] | log entries and the two clocks, by name |
//! | [`error_code`] | Kafka's error codes |
//! | [`api_table`] | which APIs at which versions; feeds ApiVersions, dispatch and SUPPORTED.md |
//! | [`limits`] | every bound of this crate, with its reason |
//! | [`frame`], [`header`] | complete frames; request and response headers |
//! | [`wire`] | bounds-checked reading and exactly sized writing |
//! | [`layout`] | walks the raw bytes of requests and answers before any decoder sees them |
//! | [`client`] | the asking side: versions agreed on, questions written, answers read |
//! | [`messages`] | the types of all messages, decoding and encoding |
//! | [`hot`] | Produce and Fetch by hand: no copies |
//! | [`batch`] | record batches: judging, stamping, walking, building, compression |
//! | [`internal_topics`] | keys and values of `__consumer_offsets` |
#![forbid(unsafe_code)]

pub mod api_table;
pub mod batch;
pub mod client;
pub mod entry;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod hot;
pub mod ids;
pub mod internal_topics;
pub mod layout;
pub mod limits;
pub mod messages;
pub mod throttle;
pub mod time;
pub mod wire;

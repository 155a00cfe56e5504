//! What brokers answer to Produce and Fetch.
//!
//! Does: read both answers in place, at every version we ask for.
//! Does not: allocate, or judge what an error means.
//! Invariants: malformed bytes are an error value; the records handed out lie inside the answer.
//! Apart because a generator that decodes answers generously would measure its own decoder.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::wire::Encoding;
use flumen_protocol::wire::read::{DecodeError, Reader};
use flumen_protocol::wire::tagged;

use super::template::TOPIC_IDS_SINCE;

/// What became of a produce request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Of the request.
    pub correlation_id: i32,
    /// The first partition's code that is not zero; zero when all went well.
    pub error: i16,
    /// Partitions answered for.
    pub partitions: u32,
}

/// Reads an answer to Produce, without its size.
///
/// # Errors
/// The first malformed field.
pub fn produced(payload: &[u8], version: i16) -> Result<Produced, DecodeError> {
    let row = ApiKey::Produce.row();
    let mut reader = Reader::new(payload, Encoding::of(row.request_is_flexible(version)));
    let mut answer =
        Produced { correlation_id: reader.i32("correlation_id")?, ..Produced::default() };
    end_of_struct(&mut reader)?;
    for _ in 0..reader.count("responses", 1)? {
        topic_key(&mut reader, version)?;
        for _ in 0..reader.count("partitions", 1)? {
            reader.i32("index")?;
            let error = reader.i16("error_code")?;
            if answer.error == 0 {
                answer.error = error;
            }
            answer.partitions += 1;
            reader.take("base_offset, log_append_time_ms", 16)?;
            if version >= 5 {
                reader.i64("log_start_offset")?;
            }
            if version >= 8 {
                for _ in 0..reader.count("record_errors", 1)? {
                    reader.i32("batch_index")?;
                    reader.nullable_string("batch_index_error_message")?;
                    end_of_struct(&mut reader)?;
                }
                reader.nullable_string("error_message")?;
            }
            end_of_struct(&mut reader)?;
        }
        end_of_struct(&mut reader)?;
    }
    reader.i32("throttle_time_ms")?;
    Ok(answer)
}

/// The head of an answer to Fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Of the request.
    pub correlation_id: i32,
    /// An error of the whole request, of its session mostly.
    pub error: i16,
    /// The session, 0 for none.
    pub session_id: i32,
}

/// One partition's share of an answer to Fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedPart<'a> {
    /// Which partition.
    pub index: i32,
    /// Its code, 0 when all went well.
    pub error: i16,
    /// Up to where records are committed.
    pub high_watermark: i64,
    /// Batches, the last one perhaps cut off.
    pub records: &'a [u8],
}

/// Reads an answer to Fetch, without its size, and hands its partitions to `on_part` in order.
///
/// # Errors
/// The first malformed field; the partitions before it were handed out.
pub fn fetched<'a>(
    payload: &'a [u8],
    version: i16,
    mut on_part: impl FnMut(FetchedPart<'a>),
) -> Result<Fetched, DecodeError> {
    let row = ApiKey::Fetch.row();
    let mut reader = Reader::new(payload, Encoding::of(row.request_is_flexible(version)));
    let mut head = Fetched { correlation_id: reader.i32("correlation_id")?, ..Fetched::default() };
    end_of_struct(&mut reader)?;
    reader.i32("throttle_time_ms")?;
    if version >= 7 {
        head.error = reader.i16("error_code")?;
        head.session_id = reader.i32("session_id")?;
    }
    for _ in 0..reader.count("responses", 1)? {
        topic_key(&mut reader, version)?;
        for _ in 0..reader.count("partitions", 1)? {
            on_part(fetched_part(&mut reader, version)?);
        }
        end_of_struct(&mut reader)?;
    }
    Ok(head)
}

fn fetched_part<'a>(reader: &mut Reader<'a>, version: i16) -> Result<FetchedPart<'a>, DecodeError> {
    let index = reader.i32("partition_index")?;
    let error = reader.i16("error_code")?;
    let high_watermark = reader.i64("high_watermark")?;
    reader.i64("last_stable_offset")?;
    if version >= 5 {
        reader.i64("log_start_offset")?;
    }
    for _ in 0..reader.nullable_count("aborted_transactions", 16)?.unwrap_or(0) {
        reader.take("aborted_transaction", 16)?;
        end_of_struct(reader)?;
    }
    if version >= 11 {
        reader.i32("preferred_read_replica")?;
    }
    let records = reader.nullable_blob("records")?.unwrap_or(&[]);
    end_of_struct(reader)?;
    Ok(FetchedPart { index, error, high_watermark, records })
}

fn topic_key(reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if version >= TOPIC_IDS_SINCE {
        reader.uuid("topic_id").map(drop)
    } else {
        reader.string("name").map(drop)
    }
}

/// Tagged fields, where the encoding has them; none of them matters here.
fn end_of_struct(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.encoding() {
        Encoding::Compact => tagged::skip(reader, "tagged fields"),
        Encoding::Classic => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use flumen_protocol::error_code::ErrorCode;
    use flumen_protocol::hot::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};
    use flumen_protocol::hot::leader_hint::NodeEndpoint;
    use flumen_protocol::hot::produce::{
        ProducePartitionResponse, ProduceResponse, ProduceTopicResponse,
    };
    use flumen_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId};
    use flumen_protocol::messages::StrBytes;

    fn nodes() -> Vec<NodeEndpoint> {
        vec![NodeEndpoint { id: NodeId(1), host: "h".to_owned(), port: 1, rack: None }]
    }

    fn part(index: i32, error: ErrorCode) -> ProducePartitionResponse {
        ProducePartitionResponse {
            index: PartitionIndex(index),
            error,
            base_offset: Offset(10),
            log_append_time_ms: -1,
            log_start_offset: Offset(0),
            record_errors: vec![(0, Some("bad".to_owned())), (1, None)],
            error_message: Some("no".to_owned()),
            current_leader: Some((NodeId(2), LeaderEpoch(3))),
        }
    }

    #[test]
    fn every_version_of_produce_is_read() {
        let answer = ProduceResponse {
            topics: vec![ProduceTopicResponse {
                name: Some(StrBytes::from_static_str("t")),
                id: TopicId([7; 16]),
                partitions: vec![
                    part(0, ErrorCode::None),
                    part(1, ErrorCode::NotLeaderOrFollower),
                    part(2, ErrorCode::CorruptMessage),
                ],
            }],
            throttle_ms: 0,
            node_endpoints: nodes(),
        };
        for version in 3..=13 {
            let frame = answer.encode(version, 99);
            let expected = Produced { correlation_id: 99, error: 6, partitions: 3 };
            assert_eq!(produced(&frame[4..], version), Ok(expected), "v{version}");
            assert!(produced(&frame[4..frame.len() / 2], version).is_err());
        }
    }

    #[test]
    fn every_version_of_fetch_is_read() {
        let records = Bytes::from_static(b"records");
        let part = FetchPartitionResponse {
            index: PartitionIndex(4),
            error: ErrorCode::None,
            high_watermark: Offset(20),
            last_stable_offset: Offset(20),
            log_start_offset: Offset(0),
            aborted: Some(vec![(ProducerId(1), Offset(2))]),
            preferred_read_replica: NodeId(-1),
            current_leader: Some((NodeId(2), LeaderEpoch(3))),
            records: vec![records.clone()],
        };
        let empty = FetchPartitionResponse { aborted: None, records: Vec::new(), ..part.clone() };
        let answer = FetchResponse {
            error: ErrorCode::None,
            session_id: 5,
            throttle_ms: 0,
            topics: vec![FetchTopicResponse {
                name: Some(StrBytes::from_static_str("t")),
                id: TopicId([7; 16]),
                partitions: vec![part, empty],
            }],
            node_endpoints: nodes(),
        };
        for version in 4..=18 {
            let frame = answer.encode(version, 99).concat();
            let mut seen = Vec::new();
            let head = fetched(&frame[4..], version, |part| seen.push(part)).expect("sound");
            let session_id = if version >= 7 { 5 } else { 0 };
            assert_eq!(head, Fetched { correlation_id: 99, error: 0, session_id }, "v{version}");
            assert_eq!((seen[0].records, seen[0].high_watermark), (&records[..], 20));
            assert_eq!((seen[1].records, seen.len()), (&[][..], 2));
        }
    }
}

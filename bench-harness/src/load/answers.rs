//! What brokers answer to Produce, Fetch, AddPartitionsToTxn and EndTxn.
//!
//! Does: read the answers in place, at every version we ask for.
//! Does not: allocate, or judge what an error means.
//! Invariants: malformed bytes are an error value; the records handed out lie inside the answer.
//! Apart because a generator that decodes answers generously would measure its own decoder.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId};
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

/// What became of a request that a transaction consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Of the request.
    pub correlation_id: i32,
    /// Its code, zero when all went well.
    pub error: i16,
    /// Who produces from now on, where the broker says.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
}

/// Reads an answer to AddPartitionsToTxn up to version 3, without its size. Its code is that of the
/// first partition that was refused for a reason of its own.
///
/// # Errors
/// The first malformed field.
pub fn named(payload: &[u8], version: i16) -> Result<Ended, DecodeError> {
    let row = ApiKey::AddPartitionsToTxn.row();
    let mut reader = Reader::new(payload, Encoding::of(row.request_is_flexible(version)));
    let mut answer = Ended { correlation_id: reader.i32("correlation_id")?, ..Ended::default() };
    end_of_struct(&mut reader)?;
    reader.i32("throttle_time_ms")?;
    // What is only refused because another was says nothing of the reason.
    let says_why = |code: i16| code != 0 && code != ErrorCode::OperationNotAttempted.code();
    for _ in 0..reader.count("results_by_topic", 1)? {
        reader.string("name")?;
        for _ in 0..reader.count("results_by_partition", 1)? {
            reader.i32("partition_index")?;
            let error = reader.i16("partition_error_code")?;
            if !says_why(answer.error) && error != 0 {
                answer.error = error;
            }
            end_of_struct(&mut reader)?;
        }
        end_of_struct(&mut reader)?;
    }
    Ok(answer)
}

/// Since this version the answer to EndTxn says who produces next (KIP-890).
const NEXT_EPOCH_SINCE: i16 = 5;

/// Reads an answer to EndTxn, without its size.
///
/// # Errors
/// The first malformed field.
pub fn ended(payload: &[u8], version: i16) -> Result<Ended, DecodeError> {
    let row = ApiKey::EndTxn.row();
    let mut reader = Reader::new(payload, Encoding::of(row.request_is_flexible(version)));
    let mut answer = Ended { correlation_id: reader.i32("correlation_id")?, ..Ended::default() };
    end_of_struct(&mut reader)?;
    reader.i32("throttle_time_ms")?;
    answer.error = reader.i16("error_code")?;
    if version >= NEXT_EPOCH_SINCE {
        let id = ProducerId(reader.i64("producer_id")?);
        let epoch = ProducerEpoch(reader.i16("producer_epoch")?);
        answer.producer = (id.0 >= 0).then_some((id, epoch));
    }
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
    /// Up to where transactions are over.
    pub last_stable_offset: i64,
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
    let last_stable_offset = reader.i64("last_stable_offset")?;
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
    Ok(FetchedPart { index, error, high_watermark, last_stable_offset, records })
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
    use flumen_protocol::hot::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};
    use flumen_protocol::hot::leader_hint::NodeEndpoint;
    use flumen_protocol::hot::produce::{
        ProducePartitionResponse, ProduceResponse, ProduceTopicResponse,
    };
    use flumen_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
    use flumen_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    use flumen_protocol::messages::{
        AddPartitionsToTxnResponse, EndTxnResponse, StrBytes, TopicName, WireProducerId,
        encode_response,
    };

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
    fn the_reason_among_refused_partitions_is_found_at_every_version() {
        let parts = [(0, 0), (1, 55), (2, 51), (3, 55)].map(|(index, code)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code)
        });
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_results_by_partition(parts.to_vec());
        let said =
            AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic]);
        for version in 0..=3 {
            let frame =
                encode_response(ApiKey::AddPartitionsToTxn, version, 9, &said).expect("said");
            let expected = Ended { correlation_id: 9, error: 51, producer: None };
            assert_eq!(named(&frame[4..], version), Ok(expected), "v{version}");
            assert!(named(&frame[4..frame.len() - 3], version).is_err());
        }
    }

    #[test]
    fn every_version_of_an_end_is_read_and_the_new_ones_say_who_goes_on() {
        for version in 0..=5 {
            let mut said = EndTxnResponse::default();
            let mut producer = None;
            if version >= NEXT_EPOCH_SINCE {
                said = said.with_producer_id(WireProducerId(70)).with_producer_epoch(8);
                producer = Some((ProducerId(70), ProducerEpoch(8)));
            }
            let frame = encode_response(ApiKey::EndTxn, version, 9, &said).expect("said");
            let expected = Ended { correlation_id: 9, error: 0, producer };
            assert_eq!(ended(&frame[4..], version), Ok(expected), "v{version}");
        }
        let refused = EndTxnResponse::default()
            .with_error_code(51)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        let frame = encode_response(ApiKey::EndTxn, 5, 9, &refused).expect("said");
        assert_eq!(ended(&frame[4..], 5).map(|said| (said.error, said.producer)), Ok((51, None)));
    }

    #[test]
    fn every_version_of_fetch_is_read() {
        let records = Bytes::from_static(b"records");
        let part = FetchPartitionResponse {
            index: PartitionIndex(4),
            error: ErrorCode::None,
            high_watermark: Offset(20),
            last_stable_offset: Offset(19),
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
            let ends = (seen[0].high_watermark, seen[0].last_stable_offset);
            assert_eq!((seen[0].records, ends), (&records[..], (20, 19)));
            assert_eq!((seen[1].records, seen.len()), (&[][..], 2));
        }
    }
}

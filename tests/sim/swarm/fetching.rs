//! How records are asked for and what is noted about them, the same for every reader.
//!
//! Does: write fetches and questions for offsets, note what their answers say.
//! Does not: choose what is read.
//! Invariants: every record of an answer is noted, with the fetch it answers.
//! Apart because single readers and members of groups read alike.

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::PartitionData;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};

use super::client::{Answer, Context, code, topic_name};
use super::history::{Happening, History, Place, Since, Value};

pub const FETCH: (ApiKey, i16) = (ApiKey::Fetch, 11);
pub const LIST_OFFSETS: (ApiKey, i16) = (ApiKey::ListOffsets, 5);
/// Asks ListOffsets where a log begins.
pub const EARLIEST: i64 = -2;
/// And where it ends.
pub const LATEST: i64 = -1;

/// A fetch of these places from these offsets.
pub fn request(wanted: &[(Place, i64)], wait_ms: i32, max_bytes: i32) -> FetchRequest {
    let topics = wanted.iter().map(|(place, from)| {
        let partition = FetchPartition::default()
            .with_partition(place.partition)
            .with_fetch_offset(*from)
            .with_partition_max_bytes(max_bytes);
        FetchTopic::default().with_topic(topic_name(*place)).with_partitions(vec![partition])
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

/// What a fetch gave of one place.
pub struct Given {
    pub place: Place,
    pub code: ErrorCode,
    /// One after the last record given.
    pub next: i64,
    pub records: Vec<(i64, Value)>,
    pub end: i64,
}

/// Reads the answer to a fetch and notes what it says.
pub fn take(
    context: &mut Context<'_>,
    answer: Answer,
    wanted: &[(Place, i64)],
    since: Since,
) -> Vec<Given> {
    let response = answer.read::<FetchRequest>(FETCH);
    assert_eq!(response.error_code, 0, "a fetch as a whole is not refused");
    let told = response.responses.iter().flat_map(|topic| &topic.partitions);
    let told: Vec<&PartitionData> = told.collect();
    assert_eq!(told.len(), wanted.len(), "a fetch is answered for every partition");
    let each = wanted.iter().zip(told);
    each.map(|((place, from), told)| take_place(context.history, *place, *from, told, since))
        .collect()
}

fn take_place(
    history: &mut History,
    place: Place,
    from: i64,
    told: &PartitionData,
    since: Since,
) -> Given {
    assert_eq!(told.partition_index, place.partition);
    let code = code(told.error_code);
    let end = told.high_watermark;
    let mut given = Given { place, code, next: from, records: Vec::new(), end };
    if code != ErrorCode::None {
        return given;
    }
    history.note(Happening::End { place, end, since });
    history.note(Happening::Start { place, start: told.log_start_offset, since });
    let Some(bytes) = &told.records else { return given };
    for (offset, value) in values(bytes) {
        if offset < from {
            // A batch is given whole, although only its end was asked for.
            continue;
        }
        if offset != given.next {
            history.note(Happening::Skipped { place, from: given.next, to: offset });
        }
        given.next = offset + 1;
        match value {
            Some(value) => {
                history.note(Happening::Seen { place, offset, value, since });
                given.records.push((offset, value));
            }
            None => drop(history.note(Happening::Garbled(place, offset))),
        }
    }
    given
}

/// The records of whole batches; the last one may be cut off, as KIP-74 allows.
fn values(bytes: &Bytes) -> Vec<(i64, Option<Value>)> {
    let mut values = Vec::new();
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        assert!(verify_crc(batch.bytes), "a batch is given as it was checked");
        for record in &records(batch.bytes, 1 << 20).expect("a sound batch") {
            let record = record.expect("a sound record");
            values.push((record.offset.0, record.value.and_then(Value::read)));
        }
    }
    values
}

/// A question for an end of a log.
pub fn offset_request(place: Place, which: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(place.partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(which);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(place)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// The offset, if it is told; notes it.
pub fn take_offset(
    context: &mut Context<'_>,
    answer: Answer,
    place: Place,
    which: i64,
    since: Since,
) -> Result<i64, ErrorCode> {
    let response = answer.read::<ListOffsetsRequest>(LIST_OFFSETS);
    let told = &response.topics[0].partitions[0];
    match code(told.error_code) {
        ErrorCode::None if which == EARLIEST => {
            context.history.note(Happening::Start { place, start: told.offset, since });
            Ok(told.offset)
        }
        ErrorCode::None => {
            context.history.note(Happening::End { place, end: told.offset, since });
            Ok(told.offset)
        }
        refused => Err(refused),
    }
}

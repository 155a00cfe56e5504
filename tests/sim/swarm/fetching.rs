//! How records are asked for and what is noted about them, the same for every reader.
//!
//! Does: write fetches and questions for offsets, note what their answers say.
//! Does not: choose what is read.
//! Invariants: every record of an answer is noted, with the fetch it answers; one that a reader of committed records
//! is told to leave out is not.
//! Apart because single readers, members of groups and copiers read alike.

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::LeaderEpoch;
use flumen_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use flumen_protocol::messages::fetch_response::PartitionData;
use flumen_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};
use flumen_replication::partition::Isolation;

use super::client::{Answer, Context, code, topic_name};
use super::history::{Happening, History, Place, Since, Value};
use super::left_out::LeftOut;
use super::transacted::Transacted;

pub const FETCH: (ApiKey, i16) = (ApiKey::Fetch, 11);
pub const LIST_OFFSETS: (ApiKey, i16) = (ApiKey::ListOffsets, 5);
/// Asks ListOffsets where a log begins.
pub const EARLIEST: i64 = -2;
/// And where it ends.
pub const LATEST: i64 = -1;

/// A fetch of these places from these offsets.
pub fn request(
    isolation: Isolation,
    wanted: &[(Place, i64)],
    wait_ms: i32,
    max_bytes: i32,
) -> FetchRequest {
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
        .with_isolation_level(level(isolation))
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

fn level(isolation: Isolation) -> i8 {
    match isolation {
        Isolation::ReadUncommitted => 0,
        Isolation::ReadCommitted => 1,
    }
}

/// What a fetch gave of one place.
pub struct Given {
    pub place: Place,
    pub code: ErrorCode,
    /// One after the last record given.
    pub next: i64,
    pub records: Vec<(i64, Value)>,
    /// Where a reader of this kind has to wait.
    pub end: i64,
    /// Whether it waits there for the end of a transaction.
    pub is_undecided: bool,
}

/// Reads the answer to a fetch and notes what it says.
pub fn take(
    context: &mut Context<'_>,
    answer: Answer,
    isolation: Isolation,
    wanted: &[(Place, i64)],
    since: Since,
) -> Vec<Given> {
    let response = answer.read::<FetchRequest>(FETCH);
    assert_eq!(response.error_code, 0, "a fetch as a whole is not refused");
    let told = response.responses.iter().flat_map(|topic| &topic.partitions);
    let told: Vec<&PartitionData> = told.collect();
    assert_eq!(told.len(), wanted.len(), "a fetch is answered for every partition");
    let each = wanted.iter().zip(told);
    each.map(|(wanted, told)| take_place(context.history, isolation, *wanted, told, since))
        .collect()
}

fn take_place(
    history: &mut History,
    isolation: Isolation,
    (place, from): (Place, i64),
    told: &PartitionData,
    since: Since,
) -> Given {
    assert_eq!(told.partition_index, place.partition);
    let code = code(told.error_code);
    let (end, stable) = (told.high_watermark, told.last_stable_offset);
    let is_committed = isolation == Isolation::ReadCommitted;
    let mut given = Given {
        place,
        code,
        next: from,
        records: Vec::new(),
        end: if is_committed { stable } else { end },
        is_undecided: is_committed && stable < end,
    };
    if code != ErrorCode::None {
        return given;
    }
    history.note(Happening::End { place, end, since });
    history.note(Happening::Start { place, start: told.log_start_offset, since });
    if is_committed {
        history.note_transacted(Transacted::Stable { place, stable, since });
    }
    let Some(bytes) = &told.records else { return given };
    let (met, until) = met(bytes, LeftOut::told(told));
    for (offset, met) in met {
        if offset < from {
            // A batch is given whole, although only its end was asked for.
            continue;
        }
        if offset != given.next {
            history.note(Happening::Skipped { place, from: given.next, to: offset });
        }
        let end = given.end;
        assert!(offset < end, "{place:?}@{offset} is shown beyond {end}, where its reader waits");
        given.next = offset + 1;
        match met {
            Met::Record(value) => {
                history.note(Happening::Seen { place, offset, value, since });
                if is_committed {
                    history.note_transacted(Transacted::Believed { place, offset, value });
                }
                given.records.push((offset, value));
            }
            Met::Garbled => drop(history.note(Happening::Garbled(place, offset))),
            Met::Marker => history.note_transacted(Transacted::Marked(place, offset)),
            Met::LeftOut => {}
        }
    }
    // Of a batch the last records may be gone, or all of them.
    if until > given.next {
        history.note(Happening::Skipped { place, from: given.next, to: until });
        given.next = until;
    }
    given
}

/// What a reader makes of what is at an offset.
enum Met {
    Record(Value),
    /// Nobody wrote it like that.
    Garbled,
    /// The end of a transaction.
    Marker,
    /// It was aborted.
    LeftOut,
}

/// What is in whole batches; the last one may be cut off, as KIP-74 allows. And where the last whole one
/// ends.
fn met(bytes: &Bytes, mut left_out: LeftOut) -> (Vec<(i64, Met)>, i64) {
    let (mut all, mut epoch, mut until) = (Vec::new(), LeaderEpoch::UNKNOWN, 0);
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        // No checksum of Kafka's covers it; leaders follow each other, so it never falls.
        let is_sound = batch.header.leader_epoch >= epoch;
        epoch = batch.header.leader_epoch;
        until = batch.header.last_offset().0 + 1;
        assert!(verify_crc(batch.bytes), "a batch is given as it was checked");
        let is_left_out = left_out.has(&batch.header, batch.bytes);
        for record in &records(batch.bytes, 1 << 20).expect("a sound batch") {
            let record = record.expect("a sound record");
            let value = Value::of(&record).filter(|_| is_sound);
            let what = match value {
                _ if batch.header.is_control() => Met::Marker,
                _ if is_left_out => Met::LeftOut,
                Some(value) => Met::Record(value),
                None => Met::Garbled,
            };
            all.push((record.offset.0, what));
        }
    }
    (all, until)
}

/// A question for an end of a log.
pub fn offset_request(isolation: Isolation, place: Place, which: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(place.partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(which);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(place)).with_partitions(vec![partition]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(level(isolation))
        .with_topics(vec![topic])
}

/// The offset, if it is told; notes it.
pub fn take_offset(
    context: &mut Context<'_>,
    answer: Answer,
    isolation: Isolation,
    (place, which): (Place, i64),
    since: Since,
) -> Result<i64, ErrorCode> {
    let response = answer.read::<ListOffsetsRequest>(LIST_OFFSETS);
    let told = &response.topics[0].partitions[0];
    let offset = told.offset;
    match code(told.error_code) {
        ErrorCode::None if which == EARLIEST => {
            context.history.note(Happening::Start { place, start: offset, since });
        }
        ErrorCode::None if isolation == Isolation::ReadCommitted => {
            let stable = Transacted::Stable { place, stable: offset, since };
            context.history.note_transacted(stable);
        }
        ErrorCode::None => drop(context.history.note(Happening::End { place, end: offset, since })),
        refused => return Err(refused),
    }
    Ok(offset)
}

/// What a look-up by time found; notes it.
pub fn take_time(
    context: &mut Context<'_>,
    answer: Answer,
    place: Place,
    time: i64,
    since: Since,
) -> Result<(), ErrorCode> {
    let response = answer.read::<ListOffsetsRequest>(LIST_OFFSETS);
    let told = &response.topics[0].partitions[0];
    match code(told.error_code) {
        ErrorCode::None => {
            let offset = (told.offset >= 0).then_some(told.offset);
            assert!(offset.is_none() || told.timestamp >= time, "a record older than asked for");
            context.history.note(Happening::Found { place, time, offset, since });
            Ok(())
        }
        refused => Err(refused),
    }
}

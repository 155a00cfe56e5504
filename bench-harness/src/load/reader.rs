//! One consuming connection.
//!
//! Does: say what to fetch next, keep offsets and the fetch session, count what was delivered.
//! Does not: touch sockets or clocks; inflate records.
//! Invariants: one request is under way at a time, as real consumers do per broker; offsets never
//! go back, except where a cold reader begins anew.
//! Apart because sessions and offsets are state that is easily tested without a broker.

use bytes::BytesMut;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::wire::read::DecodeError;
use flumen_protocol::wire::write::Writer;

use super::answers::{FetchedPart, fetched};
use super::measure::{Errors, Measure};
use super::request;
use super::template::{Address, TOPIC_IDS_SINCE, stamp_of};
use crate::limits::{FETCH_BYTES, FETCH_PARTITION_BYTES, FETCH_WAIT_MS, RETRY_BACKOFF_MS};
use crate::scenario::Consumers;

/// Since this version brokers may remember what was asked (KIP-227).
const SESSIONS_SINCE: i16 = 7;

/// The epoch that asks for no session.
const SESSIONLESS: i32 = -1;

/// What a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is new.
    Tail,
    /// Everything, from the start, and then again.
    Cold,
}

/// What a consumer does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for more.
    Ask,
    /// Wait until its pause is over.
    Wait,
    /// Give up.
    Refused(i16),
}

/// Where a consumer stands in one partition.
#[derive(Clone, Copy, Debug)]
struct Position {
    index: i32,
    offset: i64,
    /// Differs from what the broker's session knows.
    changed: bool,
}

/// A consumer of some partitions of one broker.
#[derive(Debug)]
pub struct Reader {
    /// What it reads.
    pub kind: Kind,
    /// Which consumer of its kind it belongs to; one has a reader per broker.
    pub consumer: usize,
    /// Records that came since it began.
    pub delivered: u64,
    address: Address,
    positions: Vec<Position>,
    /// Place in `positions` by partition.
    places: Vec<Option<usize>>,
    session_id: i32,
    session_epoch: i32,
    fetch_bytes: i32,
    /// Everything is named in each request, and the broker remembers nothing.
    sessionless: bool,
    /// Only what was committed is read.
    read_committed: bool,
    correlation_id: i32,
    asked: bool,
    held_until_ns: u64,
    /// After a pause, until it stands at the end of all its partitions again.
    behind: bool,
    /// When it did.
    caught_up_ns: Option<u64>,
    frame: BytesMut,
    /// Bytes of one record's key and value; what is delivered is counted by records where they
    /// are not compressed, so that both ends of a run count alike.
    record_bytes: u64,
}

impl Reader {
    /// A consumer from these offsets on.
    #[must_use]
    pub fn new(
        (kind, consumer): (Kind, usize),
        address: Address,
        offsets: &[(i32, i64)],
        consumers: &Consumers,
        record_bytes: u64,
    ) -> Self {
        let last = offsets.iter().map(|(index, _)| *index).max().unwrap_or(0);
        let mut places = vec![None; last as usize + 1];
        let mut positions = Vec::with_capacity(offsets.len());
        for &(index, offset) in offsets {
            places[index as usize] = Some(positions.len());
            positions.push(Position { index, offset, changed: true });
        }
        let &Consumers { fetch_bytes, read_committed, sessionless, .. } = consumers;
        Self {
            kind,
            consumer,
            delivered: 0,
            address,
            positions,
            places,
            session_id: 0,
            session_epoch: first_epoch(sessionless),
            sessionless,
            read_committed,
            fetch_bytes: if fetch_bytes == 0 { FETCH_BYTES } else { fetch_bytes as i32 },
            correlation_id: 0,
            asked: false,
            held_until_ns: 0,
            behind: false,
            caught_up_ns: None,
            frame: BytesMut::new(),
            record_bytes,
        }
    }

    /// Pauses a tail consumer after what it has asked for; whether it was one.
    pub fn pause(&mut self, until_ns: u64) -> bool {
        if self.kind == Kind::Tail {
            self.held_until_ns = until_ns;
            (self.behind, self.caught_up_ns) = (true, None);
        }
        self.kind == Kind::Tail
    }

    /// When it stood at the end of all its partitions again after its pause; `None` for one that
    /// never paused, or is still behind (`Some(None)`).
    #[must_use]
    pub fn caught_up_ns(&self) -> Option<Option<u64>> {
        (self.behind || self.caught_up_ns.is_some()).then_some(self.caught_up_ns)
    }

    /// When its pause ends.
    #[must_use]
    pub fn held_until_ns(&self) -> u64 {
        self.held_until_ns
    }

    /// What to ask next; nothing while an answer is outstanding or a pause lasts.
    pub fn request(&mut self, now_ns: u64) -> Option<&[u8]> {
        if self.asked || now_ns < self.held_until_ns || self.positions.is_empty() {
            return None;
        }
        self.asked = true;
        self.correlation_id = self.correlation_id.wrapping_add(1).max(1);
        self.write();
        Some(&self.frame)
    }

    fn write(&mut self) {
        let (key, version) = (ApiKey::Fetch, self.address.version);
        let mut writer = request::begin(&mut self.frame, key, version, self.correlation_id);
        if version < 15 {
            writer.i32(-1);
        }
        writer.i32(FETCH_WAIT_MS);
        writer.i32(1);
        writer.i32(self.fetch_bytes);
        writer.i8(i8::from(self.read_committed));
        if version >= SESSIONS_SINCE {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        let whole = self.session_id == 0;
        let count = self.positions.iter().filter(|position| whole || position.changed).count();
        writer.count(usize::from(count > 0));
        if count > 0 {
            if version >= TOPIC_IDS_SINCE {
                writer.raw(&self.address.id.0);
            } else {
                writer.string(&self.address.name);
            }
            writer.count(count);
            for position in &mut self.positions {
                if whole || position.changed {
                    position.changed = false;
                    position.write(&mut writer, version, self.fetch_bytes);
                }
            }
            writer.end_of_struct();
        }
        if version >= SESSIONS_SINCE {
            writer.count(0);
        }
        if version >= 11 {
            writer.string("");
        }
        writer.end_of_struct();
        request::finish(&mut self.frame);
    }

    /// Takes an answer and counts what it brought.
    ///
    /// # Errors
    /// It is malformed.
    pub fn answered(
        &mut self,
        payload: &[u8],
        now_ns: u64,
        measure: &mut Measure,
        errors: &mut Errors,
    ) -> Result<Next, DecodeError> {
        self.asked = false;
        measure.on_fetched(now_ns);
        let (mut refused, mut records_bytes, mut at_ends) = (0, 0, true);
        let head = fetched(payload, self.address.version, |part| {
            if part.error != 0 {
                errors.count(part.error);
                refused = part.error;
            } else {
                records_bytes += part.records.len();
                at_ends &= self.take(part, now_ns, measure);
            }
        })?;
        if head.error != 0 {
            errors.count(head.error);
            self.forget_session();
            return Ok(self.after_error(head.error, now_ns));
        }
        if self.session_id == 0 {
            // Zero again where the broker keeps no sessions: then each request names everything.
            self.session_id = head.session_id;
        }
        self.session_epoch = match self.session_id {
            0 => first_epoch(self.sessionless),
            _ => self.session_epoch.wrapping_add(1).max(1),
        };
        if refused != 0 {
            self.forget_session();
            return Ok(self.after_error(refused, now_ns));
        }
        let paused = now_ns < self.held_until_ns;
        // An answer near its size limit may have left partitions out.
        let whole = records_bytes < self.fetch_bytes as usize / 2;
        if self.behind && !paused && at_ends && whole {
            (self.behind, self.caught_up_ns) = (false, Some(now_ns));
        }
        Ok(if paused { Next::Wait } else { Next::Ask })
    }

    /// Counts a partition's records; whether they reached its end.
    fn take(&mut self, part: FetchedPart<'_>, now_ns: u64, measure: &mut Measure) -> bool {
        let place = usize::try_from(part.index).ok().and_then(|index| self.places.get(index));
        let Some(place) = place.copied().flatten() else { return true };
        for batch in batches(part.records).map_while(Result::ok) {
            let header = &batch.header;
            let position = &mut self.positions[place];
            if header.last_offset().0 < position.offset {
                continue;
            }
            position.offset = header.last_offset().0 + 1;
            position.changed = true;
            if header.is_control() {
                // How a transaction ended is nothing that anybody wrote.
                continue;
            }
            self.delivered += header.record_count.max(0) as u64;
            let plain = header.codec() == Some(flumen_protocol::batch::codec::Codec::None);
            let batch_bytes = if plain && self.record_bytes > 0 {
                header.record_count.max(0) as u64 * self.record_bytes
            } else {
                (batch.bytes.len() - flumen_protocol::batch::header::HEADER_BYTES) as u64
            };
            match self.kind {
                Kind::Tail => {
                    let stamp_ns = if plain { stamp_of(batch.bytes) } else { None };
                    measure.on_delivered(stamp_ns, batch_bytes, now_ns);
                }
                Kind::Cold => measure.on_cold(batch_bytes, now_ns),
            }
        }
        let position = &mut self.positions[place];
        let end = if self.read_committed { part.last_stable_offset } else { part.high_watermark };
        let at_end = position.offset >= end;
        if self.kind == Kind::Cold && at_end && position.offset > 0 {
            position.offset = 0;
            position.changed = true;
        }
        at_end
    }

    fn forget_session(&mut self) {
        (self.session_id, self.session_epoch) = (0, first_epoch(self.sessionless));
    }

    fn after_error(&mut self, code: i16, now_ns: u64) -> Next {
        if !ErrorCode::from_code(code).is_some_and(ErrorCode::retriable) {
            return Next::Refused(code);
        }
        self.held_until_ns = now_ns + RETRY_BACKOFF_MS * 1_000_000;
        Next::Wait
    }
}

/// The epoch of a request that names everything.
fn first_epoch(sessionless: bool) -> i32 {
    if sessionless { SESSIONLESS } else { 0 }
}

impl Position {
    fn write(&self, writer: &mut Writer<'_, BytesMut>, version: i16, fetch_bytes: i32) {
        writer.i32(self.index);
        if version >= 9 {
            writer.i32(-1);
        }
        writer.i64(self.offset);
        if version >= 12 {
            writer.i32(-1);
        }
        if version >= 5 {
            writer.i64(-1);
        }
        writer.i32(FETCH_PARTITION_BYTES.min(fetch_bytes));
        writer.end_of_struct();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::stamp::stamp;
    use flumen_protocol::header::RequestHeader;
    use flumen_protocol::hot::fetch::{
        FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse, IsolationLevel,
    };
    use flumen_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
    use flumen_protocol::messages::StrBytes;

    const DUE_NS: u64 = 5_000_000;

    fn reader(kind: Kind, version: i16) -> Reader {
        let address = Address { name: "t".to_owned(), id: TopicId([4; 16]), version };
        Reader::new((kind, 0), address, &[(0, 10), (3, 0)], &Consumers::default(), 0)
    }

    fn asked(reader: &mut Reader, now_ns: u64) -> Option<FetchRequest> {
        let frame = reader.request(now_ns)?.to_vec();
        let (header, offset) = RequestHeader::parse(&frame[4..]).expect("a header");
        Some(FetchRequest::parse(&frame[4 + offset..], header.version).expect("well-formed"))
    }

    fn offsets(request: &FetchRequest) -> Vec<(i32, i64)> {
        let parts = request.topics.iter().flat_map(|topic| &topic.partitions);
        parts.map(|part| (part.index.0, part.fetch_offset.0)).collect()
    }

    /// One record at `offset`, or nothing.
    fn part(index: i32, offset: Option<i64>, high_watermark: i64) -> FetchPartitionResponse {
        let batch = offset.map(|offset| {
            let mut builder = BatchBuilder::new();
            let value = DUE_NS.to_be_bytes();
            builder.push(&NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
            let mut batch = builder.finish();
            stamp(&mut batch, Offset(offset), LeaderEpoch(0));
            batch.freeze()
        });
        FetchPartitionResponse {
            index: PartitionIndex(index),
            error: ErrorCode::None,
            high_watermark: Offset(high_watermark),
            last_stable_offset: Offset(high_watermark),
            log_start_offset: Offset(0),
            aborted: None,
            preferred_read_replica: NodeId::NONE,
            current_leader: None,
            records: batch.into_iter().collect(),
        }
    }

    fn answer(version: i16, session_id: i32, parts: Vec<FetchPartitionResponse>) -> Bytes {
        let topic = FetchTopicResponse {
            name: Some(StrBytes::from_static_str("t")),
            id: TopicId([4; 16]),
            partitions: parts,
        };
        let response = FetchResponse {
            error: ErrorCode::None,
            session_id,
            throttle_ms: 0,
            topics: vec![topic],
            node_endpoints: Vec::new(),
        };
        Bytes::from(response.encode(version, 1).concat()).slice(4..)
    }

    fn take(reader: &mut Reader, payload: &[u8], now_ns: u64) -> (Next, Measure) {
        let mut measure = Measure::new(0, 1_000_000_000);
        let next = reader.answered(payload, now_ns, &mut measure, &mut Errors::default());
        (next.expect("sound"), measure)
    }

    #[test]
    fn every_version_asks_well_and_goes_on_where_it_stopped() {
        for version in 4..=18 {
            let mut reader = reader(Kind::Tail, version);
            let first = asked(&mut reader, 0).expect("asks");
            assert_eq!(offsets(&first), [(0, 10), (3, 0)], "v{version}");
            assert!(asked(&mut reader, 0).is_none(), "one question at a time");
            let payload = answer(version, 0, vec![part(0, Some(10), 11)]);
            let (next, measure) = take(&mut reader, &payload, 2 * DUE_NS);
            assert_eq!((next, measure.end_to_end.len()), (Next::Ask, 1));
            assert_eq!(reader.delivered, 1);
            assert_eq!(offsets(&asked(&mut reader, 0).expect("asks")), [(0, 11), (3, 0)]);
        }
    }

    #[test]
    fn a_session_names_only_what_moved() {
        let mut reader = reader(Kind::Tail, 13);
        let first = asked(&mut reader, 0).expect("asks");
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        take(&mut reader, &answer(13, 77, vec![part(0, Some(10), 11)]), 1);
        let second = asked(&mut reader, 0).expect("asks");
        assert_eq!((second.session_id, second.session_epoch), (77, 1));
        assert_eq!(offsets(&second), [(0, 11)]);
        take(&mut reader, &answer(13, 77, Vec::new()), 1);
        let third = asked(&mut reader, 0).expect("asks");
        assert_eq!((third.session_epoch, offsets(&third).len()), (2, 0));
    }

    #[test]
    fn without_a_session_each_request_names_everything() {
        let address = Address { name: "t".to_owned(), id: TopicId([4; 16]), version: 13 };
        let consumers = Consumers { sessionless: true, ..Consumers::default() };
        let offsets_before = [(0, 10), (3, 0)];
        let mut reader = Reader::new((Kind::Tail, 0), address, &offsets_before, &consumers, 0);
        for _ in 0..2 {
            let request = asked(&mut reader, 0).expect("asks");
            assert_eq!((request.session_id, request.session_epoch), (0, -1));
            assert_eq!(offsets(&request).len(), 2);
            take(&mut reader, &answer(13, 0, Vec::new()), 1);
        }
    }

    #[test]
    fn one_that_reads_what_is_committed_says_so_and_counts_no_markers() {
        let address = Address { name: "t".to_owned(), id: TopicId([4; 16]), version: 13 };
        let consumers = Consumers { read_committed: true, ..Consumers::default() };
        let mut reader = Reader::new((Kind::Tail, 0), address, &[(0, 10)], &consumers, 0);
        let request = asked(&mut reader, 0).expect("asks");
        assert_eq!(request.isolation, IsolationLevel::ReadCommitted);
        let mut marker = BatchBuilder::new().transactional().control();
        marker.push(&NewRecord { timestamp: 1, key: Some(&[0; 4]), value: None, headers: &[] });
        let mut marker = marker.finish();
        stamp(&mut marker, Offset(11), LeaderEpoch(0));
        let mut both = part(0, Some(10), 30);
        both.records.push(marker.freeze());
        both.last_stable_offset = Offset(12);
        reader.pause(1);
        let (_, measure) = take(&mut reader, &answer(13, 0, vec![both]), 1);
        assert_eq!((reader.delivered, measure.end_to_end.len(), measure.fetches), (1, 1, 1));
        assert_eq!(reader.caught_up_ns(), Some(Some(1)), "what is open is nobody's yet");
        assert_eq!(offsets(&asked(&mut reader, 1).expect("asks")), [(0, 12)]);
    }

    #[test]
    fn a_cold_reader_begins_anew_at_the_end() {
        let mut reader = reader(Kind::Cold, 13);
        asked(&mut reader, 0);
        let (_, measure) = take(&mut reader, &answer(13, 0, vec![part(0, Some(10), 11)]), 1);
        assert!(measure.cold_bytes > 0 && measure.tail_bytes == 0);
        assert_eq!(offsets(&asked(&mut reader, 0).expect("asks")), [(0, 0), (3, 0)]);
    }

    #[test]
    fn a_paused_reader_says_when_it_caught_up() {
        let mut reader = reader(Kind::Tail, 13);
        assert_eq!(reader.caught_up_ns(), None);
        assert!(reader.pause(100));
        assert!(asked(&mut reader, 99).is_none());
        asked(&mut reader, 100).expect("asks");
        take(&mut reader, &answer(13, 0, vec![part(0, Some(10), 500)]), 150);
        assert_eq!(reader.caught_up_ns(), Some(None));
        asked(&mut reader, 150).expect("asks");
        take(&mut reader, &answer(13, 0, vec![part(0, Some(499), 500)]), 180);
        assert_eq!(reader.caught_up_ns(), Some(Some(180)));
    }

    #[test]
    fn errors_pause_or_end() {
        let mut reader = reader(Kind::Tail, 13);
        asked(&mut reader, 0);
        let mut refused = part(0, None, 0);
        refused.error = ErrorCode::NotLeaderOrFollower;
        let (next, _) = take(&mut reader, &answer(13, 5, vec![refused.clone()]), 1);
        assert_eq!(next, Next::Wait);
        assert!(asked(&mut reader, 1).is_none());
        let until_ns = reader.held_until_ns();
        let again = asked(&mut reader, until_ns).expect("asks");
        assert_eq!((again.session_id, offsets(&again).len()), (0, 2));
        refused.error = ErrorCode::OffsetOutOfRange;
        let (next, _) = take(&mut reader, &answer(13, 0, vec![refused]), 1);
        assert_eq!(next, Next::Refused(1));
    }
}

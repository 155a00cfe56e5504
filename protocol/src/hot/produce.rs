//! Produce, versions 3 to 13, without copying a record.
//!
//! Does: split a frame into partitions whose records own disjoint ranges of it, so that base offset
//! and leader epoch can be stamped in place; write the response in one exact allocation.
//! Does not: look into records, or check that there is exactly one batch: `batch` does.
//! Invariants: the records of two partitions never overlap; topics are named up to version 12 and
//! identified from 13 on (KIP-516).
//! Apart because the generic codec would copy nothing but own everything immutably, and cannot
//! refuse a hostile count.

use bytes::{Buf, Bytes, BytesMut};

use crate::api_table::ApiKey;
use crate::error_code::ErrorCode;
use crate::header;
use crate::hot::leader_hint::{NodeEndpoint, end_with_endpoints, end_with_leader};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use crate::limits;
use crate::messages::StrBytes;
use crate::wire::Encoding;
use crate::wire::read::{Budget, DecodeError, DecodeErrorKind, Reader};
use crate::wire::write::{Sink, Tally, Writer};

/// The first version that identifies topics by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first response version with the log start offset.
const LOG_START_SINCE: i16 = 5;
/// The first response version that says which records were refused (KIP-467).
const RECORD_ERRORS_SINCE: i16 = 8;
/// The first response version that may tell where the leader went (KIP-951).
const LEADER_HINT_SINCE: i16 = 10;

/// Batches to append.
#[derive(Debug)]
pub struct ProduceRequest {
    /// Set when the batches belong to a transaction.
    pub transactional_id: Option<StrBytes>,
    /// −1: once a quorum has it, 1: once the leader has it, 0: do not answer. Not judged here.
    pub acks: i16,
    /// How long the client is willing to wait, in milliseconds.
    pub timeout_ms: i32,
    /// In the order of the request.
    pub topics: Vec<ProduceTopic>,
}

/// One topic's share of a Produce request.
#[derive(Debug)]
pub struct ProduceTopic {
    /// The name, up to version 12.
    pub name: Option<StrBytes>,
    /// The id, from version 13 on; zero below.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<ProducePartition>,
}

/// One partition's share of a Produce request.
#[derive(Debug)]
pub struct ProducePartition {
    /// Which partition.
    pub index: PartitionIndex,
    /// The bytes of its batch, still part of the frame's memory; null is no valid request, but
    /// that is for the caller to answer per partition.
    pub records: Option<BytesMut>,
}

impl ProduceRequest {
    /// Takes a frame's payload apart. The body begins at `body_offset`.
    ///
    /// # Errors
    /// The first malformed field (positions count from the start of the frame), a version that is
    /// not served, more memory than [`limits::PRODUCE_BYTES_PER_BODY_BYTE`] allows, or more topics
    /// and partitions than [`limits::ELEMENTS_MAX`].
    pub fn parse(
        mut frame: BytesMut,
        body_offset: usize,
        version: i16,
    ) -> Result<Self, DecodeError> {
        let row = ApiKey::Produce.row();
        let encoding = Encoding::of(row.request_is_flexible(version));
        let refused = |kind| DecodeError { what: row.name, at: body_offset, kind };
        if !row.supports(version) {
            return Err(refused(DecodeErrorKind::UnsupportedVersion));
        }
        if body_offset > frame.len() {
            return Err(refused(DecodeErrorKind::Truncated));
        }
        frame.advance(body_offset);
        let budget = Budget::hot(frame.len(), limits::PRODUCE_BYTES_PER_BODY_BYTE);
        Splitter { rest: frame, at: body_offset, encoding, version, budget }.request()
    }
}

/// Reads fields off the front of a frame and splits off what is to be kept.
struct Splitter {
    rest: BytesMut,
    at: usize,
    encoding: Encoding,
    version: i16,
    budget: Budget,
}

impl Splitter {
    fn request(mut self) -> Result<ProduceRequest, DecodeError> {
        let transactional_id = self.nullable_string("transactional_id")?;
        let mut reader = self.reader();
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout_ms")?;
        let read = reader.at();
        self.advance(read);
        let bytes_min = self.topic_bytes_min();
        let count = self.count("topic_data", bytes_min, size_of::<ProduceTopic>())?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(self.topic()?);
        }
        self.end_of_struct("request")?;
        Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
    }

    fn topic(&mut self) -> Result<ProduceTopic, DecodeError> {
        let mut name = None;
        let mut id = TopicId::ZERO;
        if self.version >= TOPIC_IDS_SINCE {
            let mut reader = self.reader();
            id = TopicId(reader.uuid("topic_id")?);
            let read = reader.at();
            self.advance(read);
        } else {
            name = self.nullable_string("name")?;
            if name.is_none() {
                return Err(self.reader().error("name", DecodeErrorKind::UnexpectedNull));
            }
        }
        let bytes_min = self.partition_bytes_min();
        let count = self.count("partition_data", bytes_min, size_of::<ProducePartition>())?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(self.partition()?);
        }
        self.end_of_struct("topic")?;
        Ok(ProduceTopic { name, id, partitions })
    }

    fn partition(&mut self) -> Result<ProducePartition, DecodeError> {
        let mut reader = self.reader();
        let index = PartitionIndex(reader.i32("index")?);
        let length = reader.blob_length("records")?;
        let read = reader.at();
        self.advance(read);
        let records = length.map(|length| self.split(length));
        self.end_of_struct("partition")?;
        Ok(ProducePartition { index, records })
    }

    fn nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>, DecodeError> {
        let mut reader = self.reader();
        let length = reader.string_length(what)?;
        let read = reader.at();
        self.advance(read);
        let Some(length) = length else { return Ok(None) };
        let bytes = self.split(length).freeze();
        match StrBytes::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.reader().error(what, DecodeErrorKind::InvalidUtf8)),
        }
    }

    fn count(
        &mut self,
        what: &'static str,
        element_bytes_min: usize,
        element_memory: usize,
    ) -> Result<usize, DecodeError> {
        let mut reader = Reader::resume(&self.rest, self.at, self.encoding);
        let count = reader.count(what, element_bytes_min)?;
        self.budget.elements(&reader, what, count, element_memory)?;
        let read = reader.at();
        self.advance(read);
        Ok(count)
    }

    fn end_of_struct(&mut self, what: &'static str) -> Result<(), DecodeError> {
        let mut reader = self.reader();
        reader.end_of_struct(what)?;
        let read = reader.at();
        self.advance(read);
        Ok(())
    }

    /// A reader over what is left. What it reads counts only after [`Self::advance`].
    fn reader(&self) -> Reader<'_> {
        Reader::resume(&self.rest, self.at, self.encoding)
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
        self.at += count;
    }

    /// The next `length` bytes, known to be there.
    fn split(&mut self, length: usize) -> BytesMut {
        self.at += length;
        self.rest.split_to(length)
    }

    /// Name or id, and a count, at their shortest.
    fn topic_bytes_min(&self) -> usize {
        match self.encoding {
            Encoding::Classic => 2 + 4,
            Encoding::Compact if self.version >= TOPIC_IDS_SINCE => 16 + 1 + 1,
            Encoding::Compact => 1 + 1 + 1,
        }
    }

    /// Index and length, at their shortest.
    fn partition_bytes_min(&self) -> usize {
        match self.encoding {
            Encoding::Classic => 4 + 4,
            Encoding::Compact => 4 + 1 + 1,
        }
    }
}

/// What became of the batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// In the order of the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client should pause, in milliseconds (KIP-219).
    pub throttle_ms: i32,
    /// Where the leaders named by `current_leader` can be reached. Version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic's share of a Produce response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// The name; must be there up to version 12.
    pub name: Option<StrBytes>,
    /// The id; written from version 13 on.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// One partition's share of a Produce response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// Which partition.
    pub index: PartitionIndex,
    /// What became of the batch.
    pub error: ErrorCode,
    /// The offset of its first record, unknown on errors.
    pub base_offset: Offset,
    /// When the log took it, in milliseconds since 1970, −1 for topics with create time.
    pub log_append_time_ms: i64,
    /// Where the log starts; clients tell lost data from deleted data by it. Version 5 on.
    pub log_start_offset: Offset,
    /// Which records of the batch were refused, and why (KIP-467). Version 8 on.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// A sentence for the user. Version 8 on.
    pub error_message: Option<String>,
    /// Where the leader went (KIP-951). Version 10 on.
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
}

impl ProduceResponse {
    /// The whole frame: size, header, body, in one allocation.
    ///
    /// Fields the version does not have are left out.
    ///
    /// # Panics
    /// When a string or the whole exceeds what the protocol can say: our own bug.
    #[must_use]
    pub fn encode(&self, version: i16, correlation_id: i32) -> Bytes {
        let row = ApiKey::Produce.row();
        assert!(row.supports(version), "answering a version that is not served");
        let encoding = Encoding::of(row.request_is_flexible(version));
        let mut tally = Tally::default();
        self.write(&mut Writer::new(&mut tally, encoding), version, correlation_id);
        let payload_bytes = tally.position();
        let mut frame = Vec::with_capacity(size_of::<i32>() + payload_bytes);
        let mut writer = Writer::new(&mut frame, encoding);
        writer.i32(i32::try_from(payload_bytes).expect("an answer fits a frame"));
        self.write(&mut writer, version, correlation_id);
        assert_eq!(frame.len(), size_of::<i32>() + payload_bytes, "tally and writing differ");
        frame.into()
    }

    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>, version: i16, correlation_id: i32) {
        header::write_response_header(writer, ApiKey::Produce, version, correlation_id);
        writer.count(self.topics.len());
        for topic in &self.topics {
            topic.write(writer, version);
        }
        writer.i32(self.throttle_ms);
        if version >= LEADER_HINT_SINCE {
            end_with_endpoints(writer, &self.node_endpoints);
        } else {
            writer.end_of_struct();
        }
    }
}

impl ProduceTopicResponse {
    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>, version: i16) {
        if version >= TOPIC_IDS_SINCE {
            writer.raw(&self.id.0);
        } else {
            writer.string(self.name.as_deref().expect("topics are named below version 13"));
        }
        writer.count(self.partitions.len());
        for partition in &self.partitions {
            partition.write(writer, version);
        }
        writer.end_of_struct();
    }
}

impl ProducePartitionResponse {
    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>, version: i16) {
        writer.i32(self.index.0);
        writer.i16(self.error.code());
        writer.i64(self.base_offset.0);
        writer.i64(self.log_append_time_ms);
        if version >= LOG_START_SINCE {
            writer.i64(self.log_start_offset.0);
        }
        if version >= RECORD_ERRORS_SINCE {
            writer.count(self.record_errors.len());
            for (index, message) in &self.record_errors {
                writer.i32(*index);
                writer.nullable_string(message.as_deref());
                writer.end_of_struct();
            }
            writer.nullable_string(self.error_message.as_deref());
        }
        if version >= LEADER_HINT_SINCE {
            end_with_leader(writer, 0, self.current_leader);
        } else {
            writer.end_of_struct();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::produce_agrees;
    use super::*;
    use crate::frame;
    use crate::header::RequestHeader;
    use crate::layout;
    use crate::layout::sample::{self, Dice, Filling};
    use crate::messages::{self, Uuid};

    const OFFSET: usize = 10;

    fn parse(body: &[u8], version: i16) -> Result<ProduceRequest, DecodeError> {
        let mut frame = BytesMut::from(&[0xee; OFFSET][..]);
        frame.extend_from_slice(body);
        ProduceRequest::parse(frame, OFFSET, version)
    }

    fn decode(body: &[u8], version: i16) -> messages::ProduceRequest {
        let mut body = Bytes::copy_from_slice(body);
        messages::decode_request(ApiKey::Produce, version, &mut body).expect("well-formed")
    }

    #[test]
    fn requests_mean_what_the_codec_says() {
        for version in 3..=13 {
            for seed in 0..60 {
                let filling = if seed == 0 { Filling::Full } else { Filling::Random };
                let body = sample::body(ApiKey::Produce, version, filling, seed);
                let ours = parse(&body, version).expect("well-formed");
                produce_agrees(&ours, &decode(&body, version), version);
            }
        }
    }

    #[test]
    fn damaged_requests_are_errors_or_mean_the_same() {
        let mut dice = Dice::new(5);
        for version in 3..=13 {
            for seed in 0..400 {
                let mut body = sample::body(ApiKey::Produce, version, Filling::Random, seed % 9);
                sample::damage(&mut body, &mut dice);
                let ours = parse(&body, version);
                let walk = layout::check(ApiKey::Produce, version, &body);
                assert_eq!(ours.is_ok(), walk.is_ok(), "v{version} {body:?} {ours:?} {walk:?}");
                if let Ok(ours) = ours {
                    produce_agrees(&ours, &decode(&body, version), version);
                }
            }
        }
    }

    #[test]
    fn records_lie_in_the_frame_and_can_be_stamped_in_place() {
        let body = sample::body(ApiKey::Produce, 9, Filling::Full, 1);
        let mut frame = BytesMut::from(&body[..]);
        // Splitting once makes the frame's memory shared, as it is behind the frame finder.
        let _ = frame.split_to(0);
        let range = frame.as_ptr_range();
        let request = ProduceRequest::parse(frame, 0, 9).unwrap();
        let mut stamped = 0u8;
        let mut batches: Vec<BytesMut> = request
            .topics
            .into_iter()
            .flat_map(|t| t.partitions)
            .filter_map(|p| p.records)
            .collect();
        for batch in &mut batches {
            assert!(range.contains(&batch.as_ptr()), "records were copied");
            stamped += 1;
            batch.fill(stamped);
        }
        assert_eq!(batches.len(), 4);
        for (batch, mark) in batches.iter().zip(1u8..) {
            assert!(batch.iter().all(|&byte| byte == mark), "records overlap");
        }
    }

    #[test]
    fn a_request_travels_from_client_to_broker() {
        let partition = messages::produce_request::PartitionProduceData::default()
            .with_index(3)
            .with_records(Some(Bytes::from_static(b"a batch")));
        let topic = messages::produce_request::TopicProduceData::default()
            .with_name(messages::TopicName(StrBytes::from_static_str("orders")))
            .with_partition_data(vec![partition]);
        let sent = messages::ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(vec![topic]);
        let wire = messages::encode_request(ApiKey::Produce, 9, 7, Some("me"), &sent).unwrap();
        assert_eq!(frame::measure(&wire, 1000), Ok(Some(wire.len())), "a whole frame");
        let payload = BytesMut::from(&wire[frame::SIZE_BYTES..]);
        let (header, body_offset) = RequestHeader::parse(&payload).unwrap();
        let version = header.version;
        let request = ProduceRequest::parse(payload, body_offset, version).unwrap();
        produce_agrees(&request, &sent, version);
    }

    #[test]
    fn errors_count_from_the_start_of_the_frame() {
        let error = parse(&[0, 0], 3).unwrap_err();
        assert_eq!((error.what, error.at), ("acks", OFFSET + 2));
        let error = ProduceRequest::parse(BytesMut::new(), 5, 9).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::Truncated);
        assert_eq!(parse(&[], 2).unwrap_err().kind, DecodeErrorKind::UnsupportedVersion);
    }

    #[test]
    fn many_empty_topics_are_refused() {
        // Version 9, no transaction, 10,000 topics of three bytes each.
        let mut body = vec![0, 0, 1, 0, 0, 0, 0, 0x91, 0x4e];
        body.extend(std::iter::repeat_n([1, 1, 0], 10_000).flatten());
        body.push(0);
        let error = parse(&body, 9).unwrap_err();
        assert_eq!((error.what, error.kind), ("topic_data", DecodeErrorKind::TooMuchMemory));
    }

    #[test]
    fn a_million_partitions_are_refused_and_a_hundred_thousand_are_not() {
        // Version 3: partitions of one topic without records, behind one whose records pay for the
        // memory of all.
        let sent = |count: i32| {
            let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'a'];
            body.extend((count + 1).to_be_bytes());
            body.extend([0; 4]);
            body.extend((count * 16).to_be_bytes());
            body.resize(body.len() + count as usize * 16, 0);
            body.extend(
                std::iter::repeat_n([0, 0, 0, 0, 255, 255, 255, 255], count as usize).flatten(),
            );
            parse(&body, 3)
        };
        assert_eq!(sent(100_000).unwrap().topics[0].partitions.len(), 100_001);
        let error = sent(1_000_000).unwrap_err();
        assert_eq!((error.what, error.kind), ("partition_data", DecodeErrorKind::TooManyElements));
    }

    fn response() -> ProduceResponse {
        let partition = ProducePartitionResponse {
            index: PartitionIndex(3),
            error: ErrorCode::None,
            base_offset: Offset(42),
            log_append_time_ms: -1,
            log_start_offset: Offset(7),
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        };
        let moved = ProducePartitionResponse {
            index: PartitionIndex(4),
            error: ErrorCode::NotLeaderOrFollower,
            base_offset: Offset::UNKNOWN,
            record_errors: vec![(0, None), (9, Some("no key".to_owned()))],
            error_message: Some("moved".to_owned()),
            current_leader: Some((NodeId(2), LeaderEpoch(11))),
            ..partition.clone()
        };
        ProduceResponse {
            topics: vec![ProduceTopicResponse {
                name: Some(StrBytes::from_static_str("orders")),
                id: TopicId([9; 16]),
                partitions: vec![partition, moved],
            }],
            throttle_ms: 12,
            node_endpoints: vec![NodeEndpoint {
                id: NodeId(2),
                host: "b.example".to_owned(),
                port: 9092,
                rack: None,
            }],
        }
    }

    #[test]
    fn responses_are_byte_for_byte_the_codecs() {
        for version in 3..=13 {
            for ours in [response(), ProduceResponse::default()] {
                let frame = ours.encode(version, 77);
                assert_eq!(frame[..4], ((frame.len() - 4) as i32).to_be_bytes());
                let payload = frame.slice(4..);
                let (correlation_id, theirs) =
                    messages::decode_response::<messages::ProduceRequest>(
                        ApiKey::Produce,
                        version,
                        payload,
                    )
                    .expect("the codec reads it");
                assert_eq!(correlation_id, 77);
                let again = messages::encode_response(ApiKey::Produce, version, 77, &theirs);
                assert_eq!(again, Ok(frame), "v{version}");
                assert_eq!(theirs.throttle_time_ms, ours.throttle_ms);
            }
        }
    }

    #[test]
    fn the_codec_finds_every_field_of_a_response() {
        let frame = response().encode(13, 1);
        let (_, theirs) = messages::decode_response::<messages::ProduceRequest>(
            ApiKey::Produce,
            13,
            frame.slice(4..),
        )
        .unwrap();
        assert_eq!(theirs.responses[0].topic_id, Uuid::from(TopicId([9; 16])));
        let [fine, moved] = &theirs.responses[0].partition_responses[..] else { panic!("two") };
        assert_eq!((fine.index, fine.error_code, fine.base_offset), (3, 0, 42));
        assert_eq!((fine.log_append_time_ms, fine.log_start_offset), (-1, 7));
        assert_eq!((moved.index, moved.error_code), (4, 6));
        assert_eq!(moved.record_errors[1].batch_index, 9);
        assert_eq!(moved.error_message.as_deref(), Some("moved"));
        assert_eq!((moved.current_leader.leader_id.0, moved.current_leader.leader_epoch), (2, 11));
        assert_eq!((theirs.node_endpoints[0].node_id.0, theirs.node_endpoints[0].port), (2, 9092));
    }
}

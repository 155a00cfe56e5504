//! Fetch, versions 4 to 18: the request owned, the response as a list of buffers.
//!
//! Does: parse every field a consumer may send; write a response whose record slices are the very
//! slices it was given, between pieces of one metadata buffer.
//! Does not: keep sessions, choose records, or serve Kafka's followers: their fields are read over.
//! Invariants: the pieces in order are exactly the frame; topics are named up to version 12 and
//! identified from 13 on (KIP-516).
//! Apart because the generic codec would copy all records into one buffer.

use bytes::Bytes;

use crate::api_table::ApiKey;
use crate::error_code::ErrorCode;
use crate::header;
use crate::hot::leader_hint::{NodeEndpoint, end_with_endpoints, end_with_leader};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId};
use crate::limits;
use crate::messages::StrBytes;
use crate::wire::Encoding;
use crate::wire::read::{Budget, DecodeError, DecodeErrorKind, Reader};
use crate::wire::tagged::Section;
use crate::wire::write::{Sink, Tally, Writer};

/// The first version with the log start offset of followers, and of the answer.
const LOG_START_SINCE: i16 = 5;
/// The first version with fetch sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
/// The first version with the current leader epoch (KIP-320).
const LEADER_EPOCH_SINCE: i16 = 9;
/// The first version with racks (KIP-392).
const RACK_SINCE: i16 = 11;
/// The first version with the last fetched epoch, and the first that may tell where the leader is.
const LAST_FETCHED_EPOCH_SINCE: i16 = 12;
/// The first version that identifies topics by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version whose replica id is a tagged field (KIP-903).
const REPLICA_STATE_SINCE: i16 = 15;
/// The first version whose answer may say where leaders can be reached (KIP-951).
const ENDPOINTS_SINCE: i16 = 16;

/// Which records a consumer wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Everything up to the high watermark.
    ReadUncommitted,
    /// Nothing of open or aborted transactions.
    ReadCommitted,
}

/// A wish for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// [`NodeId::NONE`] for consumers; anything else claims to be a replica.
    pub replica_id: NodeId,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes are worth answering for.
    pub min_bytes: i32,
    /// How many bytes the answer should not exceed (KIP-74: one batch always may).
    pub max_bytes: i32,
    /// Which records to show.
    pub isolation: IsolationLevel,
    /// The session, 0 for none or a new one.
    pub session_id: i32,
    /// The session's epoch, −1 for no session, 0 for a new one.
    pub session_epoch: i32,
    /// What to read, in the order of the request.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// Where the consumer is; empty when it does not say.
    pub rack: String,
}

/// One topic's share of a Fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The name, up to version 12.
    pub name: Option<String>,
    /// The id, from version 13 on; zero below.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<FetchPartition>,
}

/// One partition's share of a Fetch request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which partition.
    pub index: PartitionIndex,
    /// The epoch the client believes in, [`LeaderEpoch::UNKNOWN`] for no check.
    pub current_leader_epoch: LeaderEpoch,
    /// The first offset wanted.
    pub fetch_offset: Offset,
    /// The epoch of the last record the client has, [`LeaderEpoch::UNKNOWN`] for none.
    pub last_fetched_epoch: LeaderEpoch,
    /// Where a follower's log starts, [`Offset::UNKNOWN`] for consumers.
    pub log_start_offset: Offset,
    /// How many bytes of this partition to answer with.
    pub max_bytes: i32,
}

/// Partitions that leave the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The name, up to version 12.
    pub name: Option<String>,
    /// The id, from version 13 on; zero below.
    pub id: TopicId,
    /// Which partitions.
    pub partitions: Vec<PartitionIndex>,
}

impl FetchRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// The first malformed field, an unknown isolation level, a version that is not served, more
    /// memory than [`limits::FETCH_BYTES_PER_BODY_BYTE`] allows, or more topics and partitions than
    /// [`limits::ELEMENTS_MAX`].
    pub fn parse(body: &[u8], version: i16) -> Result<Self, DecodeError> {
        let row = ApiKey::Fetch.row();
        let reader = Reader::new(body, Encoding::of(row.request_is_flexible(version)));
        if !row.supports(version) {
            return Err(reader.error(row.name, DecodeErrorKind::UnsupportedVersion));
        }
        let budget = Budget::hot(body.len(), limits::FETCH_BYTES_PER_BODY_BYTE);
        Parser { reader, version, budget }.request()
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    version: i16,
    budget: Budget,
}

impl Parser<'_> {
    fn request(mut self) -> Result<FetchRequest, DecodeError> {
        let tagged_replica = self.version >= REPLICA_STATE_SINCE;
        let replica_id =
            if tagged_replica { NodeId::NONE } else { NodeId(self.reader.i32("replica_id")?) };
        let mut request = FetchRequest {
            replica_id,
            max_wait_ms: self.reader.i32("max_wait_ms")?,
            min_bytes: self.reader.i32("min_bytes")?,
            max_bytes: self.reader.i32("max_bytes")?,
            isolation: self.isolation()?,
            session_id: self.i32_since(SESSIONS_SINCE, "session_id", 0)?,
            session_epoch: self.i32_since(SESSIONS_SINCE, "session_epoch", -1)?,
            topics: self.topics()?,
            forgotten: self.forgotten()?,
            rack: self.rack()?,
        };
        match self.reader.encoding() {
            Encoding::Classic => {}
            Encoding::Compact => self.request_tags(&mut request)?,
        }
        Ok(request)
    }

    fn isolation(&mut self) -> Result<IsolationLevel, DecodeError> {
        match self.reader.i8("isolation_level")? {
            0 => Ok(IsolationLevel::ReadUncommitted),
            1 => Ok(IsolationLevel::ReadCommitted),
            _ => Err(self.reader.error("isolation_level", DecodeErrorKind::InvalidValue)),
        }
    }

    fn topics(&mut self) -> Result<Vec<FetchTopic>, DecodeError> {
        let count = self.count("topics", self.topic_bytes_min(), size_of::<FetchTopic>())?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, id) = self.topic_key()?;
            topics.push(FetchTopic { name, id, partitions: self.partitions()? });
            self.reader.end_of_struct("topic")?;
        }
        Ok(topics)
    }

    fn partitions(&mut self) -> Result<Vec<FetchPartition>, DecodeError> {
        // Index, offset and maximum are there at every version.
        let count = self.count("partitions", 4 + 8 + 4, size_of::<FetchPartition>())?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(FetchPartition {
                index: PartitionIndex(self.reader.i32("partition")?),
                current_leader_epoch: self.epoch_since(LEADER_EPOCH_SINCE, "leader_epoch")?,
                fetch_offset: Offset(self.reader.i64("fetch_offset")?),
                last_fetched_epoch: self
                    .epoch_since(LAST_FETCHED_EPOCH_SINCE, "last_fetched_epoch")?,
                log_start_offset: if self.version >= LOG_START_SINCE {
                    Offset(self.reader.i64("log_start_offset")?)
                } else {
                    Offset::UNKNOWN
                },
                max_bytes: self.reader.i32("partition_max_bytes")?,
            });
            self.reader.end_of_struct("partition")?;
        }
        Ok(partitions)
    }

    fn forgotten(&mut self) -> Result<Vec<ForgottenTopic>, DecodeError> {
        if self.version < SESSIONS_SINCE {
            return Ok(Vec::new());
        }
        let what = "forgotten_topics_data";
        let count = self.count(what, self.topic_bytes_min(), size_of::<ForgottenTopic>())?;
        let mut forgotten = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, id) = self.topic_key()?;
            let count = self.count("partitions", 4, size_of::<PartitionIndex>())?;
            let mut partitions = Vec::with_capacity(count);
            for _ in 0..count {
                partitions.push(PartitionIndex(self.reader.i32("partitions")?));
            }
            self.reader.end_of_struct(what)?;
            forgotten.push(ForgottenTopic { name, id, partitions });
        }
        Ok(forgotten)
    }

    fn topic_key(&mut self) -> Result<(Option<String>, TopicId), DecodeError> {
        if self.version >= TOPIC_IDS_SINCE {
            return Ok((None, TopicId(self.reader.uuid("topic_id")?)));
        }
        let name = self.reader.string("topic")?;
        self.budget.spend(&self.reader, "topic", name.len())?;
        Ok((Some(name.to_owned()), TopicId::ZERO))
    }

    fn rack(&mut self) -> Result<String, DecodeError> {
        if self.version < RACK_SINCE {
            return Ok(String::new());
        }
        let rack = self.reader.string("rack_id")?;
        self.budget.spend(&self.reader, "rack_id", rack.len())?;
        Ok(rack.to_owned())
    }

    /// The replica's identity moved here in version 15; everything else is for followers of Kafka.
    fn request_tags(&mut self, request: &mut FetchRequest) -> Result<(), DecodeError> {
        const REPLICA_STATE: u32 = 1;
        let mut section = Section::open(&mut self.reader, "request")?;
        while let Some(field) = section.next(&mut self.reader, "request")? {
            if field.tag != REPLICA_STATE || self.version < REPLICA_STATE_SINCE {
                self.reader.take("request", field.size)?;
                continue;
            }
            let end = self.reader.at() + field.size;
            request.replica_id = NodeId(self.reader.i32("replica_id")?);
            self.reader.i64("replica_epoch")?;
            self.reader.end_of_struct("replica_state")?;
            if self.reader.at() != end {
                return Err(self.reader.error("replica_state", DecodeErrorKind::TaggedFieldSize));
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        what: &'static str,
        element_bytes_min: usize,
        element_memory: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.reader.count(what, element_bytes_min)?;
        self.budget.elements(&self.reader, what, count, element_memory)?;
        Ok(count)
    }

    fn i32_since(
        &mut self,
        since: i16,
        what: &'static str,
        before: i32,
    ) -> Result<i32, DecodeError> {
        if self.version >= since { self.reader.i32(what) } else { Ok(before) }
    }

    fn epoch_since(&mut self, since: i16, what: &'static str) -> Result<LeaderEpoch, DecodeError> {
        self.i32_since(since, what, LeaderEpoch::UNKNOWN.0).map(LeaderEpoch)
    }

    /// Name or id, and a count, at their shortest.
    fn topic_bytes_min(&self) -> usize {
        match self.reader.encoding() {
            Encoding::Classic => 2 + 4,
            Encoding::Compact if self.version >= TOPIC_IDS_SINCE => 16 + 1 + 1,
            Encoding::Compact => 1 + 1 + 1,
        }
    }
}

/// Records, and where the partitions stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// An error of the whole request (of the session, mostly). Version 7 on.
    pub error: ErrorCode,
    /// The session, 0 for none. Version 7 on.
    pub session_id: i32,
    /// How long the client should pause, in milliseconds (KIP-219).
    pub throttle_ms: i32,
    /// In the order of the request or the session.
    pub topics: Vec<FetchTopicResponse>,
    /// Where the leaders named by `current_leader` can be reached. Version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic's share of a Fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicResponse {
    /// The name; must be there up to version 12.
    pub name: Option<StrBytes>,
    /// The id; written from version 13 on.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// One partition's share of a Fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// Which partition.
    pub index: PartitionIndex,
    /// What went wrong, if anything.
    pub error: ErrorCode,
    /// Up to where records are committed.
    pub high_watermark: Offset,
    /// Up to where no transaction is open.
    pub last_stable_offset: Offset,
    /// Where the log starts. Version 5 on.
    pub log_start_offset: Offset,
    /// Aborted transactions in the range, for consumers that read committed; none for the others.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// A closer replica to read from, [`NodeId::NONE`] for none. Version 11 on.
    pub preferred_read_replica: NodeId,
    /// Where the leader went (KIP-951). Version 12 on.
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
    /// Whole batches, one after another. No slices make an empty, not a null, field.
    pub records: Vec<Bytes>,
}

impl FetchResponse {
    /// The whole frame as a list of buffers: the record slices themselves, and between them pieces
    /// of one metadata buffer. The first piece begins with the size of the whole.
    ///
    /// Fields the version does not have are left out; empty pieces are not listed.
    ///
    /// # Panics
    /// When a string or the whole exceeds what the protocol can say: our own bug.
    #[must_use]
    pub fn encode(&self, version: i16, correlation_id: i32) -> Vec<Bytes> {
        let row = ApiKey::Fetch.row();
        assert!(row.supports(version), "answering a version that is not served");
        let encoding = Encoding::of(row.request_is_flexible(version));
        let mut cuts = Vec::with_capacity(self.topics.iter().map(|t| t.partitions.len()).sum());
        let mut tally = Tally::default();
        self.write(&mut Writer::new(&mut tally, encoding), version, correlation_id, &mut cuts);
        let metadata_bytes = tally.position();
        let records_bytes: usize = self.slices().map(Bytes::len).sum();

        let mut metadata = Vec::with_capacity(size_of::<i32>() + metadata_bytes);
        cuts.clear();
        let mut writer = Writer::new(&mut metadata, encoding);
        let payload_bytes = metadata_bytes + records_bytes;
        writer.i32(i32::try_from(payload_bytes).expect("an answer fits a frame"));
        self.write(&mut writer, version, correlation_id, &mut cuts);
        assert_eq!(metadata.len(), size_of::<i32>() + metadata_bytes, "tally and writing differ");
        self.interleave(metadata.into(), &cuts)
    }

    /// Puts each partition's record slices where its metadata was cut.
    fn interleave(&self, metadata: Bytes, cuts: &[usize]) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(self.slices().count() + cuts.len() + 1);
        let mut from = 0;
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        for (partition, &cut) in partitions.zip(cuts) {
            if partition.records.iter().all(Bytes::is_empty) {
                continue;
            }
            pieces.push(metadata.slice(from..cut));
            from = cut;
            pieces.extend(partition.records.iter().filter(|slice| !slice.is_empty()).cloned());
        }
        if from < metadata.len() {
            pieces.push(metadata.slice(from..));
        }
        pieces
    }

    fn slices(&self) -> impl Iterator<Item = &Bytes> {
        self.topics.iter().flat_map(|topic| &topic.partitions).flat_map(|part| &part.records)
    }

    /// Writes all but the records; `cuts` learns the position of each partition's.
    fn write<S: Sink>(
        &self,
        writer: &mut Writer<'_, S>,
        version: i16,
        correlation_id: i32,
        cuts: &mut Vec<usize>,
    ) {
        header::write_response_header(writer, ApiKey::Fetch, version, correlation_id);
        writer.i32(self.throttle_ms);
        if version >= SESSIONS_SINCE {
            writer.i16(self.error.code());
            writer.i32(self.session_id);
        }
        writer.count(self.topics.len());
        for topic in &self.topics {
            topic.write(writer, version, cuts);
        }
        if version >= ENDPOINTS_SINCE {
            end_with_endpoints(writer, &self.node_endpoints);
        } else {
            writer.end_of_struct();
        }
    }
}

impl FetchTopicResponse {
    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>, version: i16, cuts: &mut Vec<usize>) {
        if version >= TOPIC_IDS_SINCE {
            writer.raw(&self.id.0);
        } else {
            writer.string(self.name.as_deref().expect("topics are named below version 13"));
        }
        writer.count(self.partitions.len());
        for partition in &self.partitions {
            partition.write(writer, version, cuts);
        }
        writer.end_of_struct();
    }
}

impl FetchPartitionResponse {
    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>, version: i16, cuts: &mut Vec<usize>) {
        const CURRENT_LEADER: u32 = 1;
        writer.i32(self.index.0);
        writer.i16(self.error.code());
        writer.i64(self.high_watermark.0);
        writer.i64(self.last_stable_offset.0);
        if version >= LOG_START_SINCE {
            writer.i64(self.log_start_offset.0);
        }
        self.write_aborted(writer);
        if version >= RACK_SINCE {
            writer.i32(self.preferred_read_replica.0);
        }
        writer.count(self.records.iter().map(Bytes::len).sum());
        cuts.push(writer.position());
        if version >= LAST_FETCHED_EPOCH_SINCE {
            end_with_leader(writer, CURRENT_LEADER, self.current_leader);
        } else {
            writer.end_of_struct();
        }
    }

    fn write_aborted<S: Sink>(&self, writer: &mut Writer<'_, S>) {
        let Some(aborted) = &self.aborted else { return writer.null_array() };
        writer.count(aborted.len());
        for (producer, first_offset) in aborted {
            writer.i64(producer.0);
            writer.i64(first_offset.0);
            writer.end_of_struct();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::fetch_agrees;
    use super::*;
    use crate::layout;
    use crate::layout::sample::{self, Dice, Filling};
    use crate::messages::{self, Uuid};

    fn decode(body: &[u8], version: i16) -> messages::FetchRequest {
        let mut body = Bytes::copy_from_slice(body);
        messages::decode_request(ApiKey::Fetch, version, &mut body).expect("well-formed")
    }

    #[test]
    fn requests_mean_what_the_codec_says() {
        for version in 4..=18 {
            for seed in 0..60 {
                let filling = match seed {
                    0 => Filling::Full,
                    1 => Filling::Bare,
                    _ => Filling::Random,
                };
                let body = sample::body(ApiKey::Fetch, version, filling, seed);
                let ours = FetchRequest::parse(&body, version).expect("well-formed");
                fetch_agrees(&ours, &decode(&body, version), version);
            }
        }
    }

    #[test]
    fn damaged_requests_are_errors_or_mean_the_same() {
        let mut dice = Dice::new(6);
        let mut compared = 0;
        for version in 4..=18 {
            for seed in 0..400 {
                let mut body = sample::body(ApiKey::Fetch, version, Filling::Random, seed % 9);
                sample::damage(&mut body, &mut dice);
                let ours = FetchRequest::parse(&body, version);
                // The walk is stricter where followers' tagged fields are malformed.
                if layout::check(ApiKey::Fetch, version, &body).is_ok()
                    && let Ok(ours) = ours
                {
                    compared += 1;
                    fetch_agrees(&ours, &decode(&body, version), version);
                }
            }
        }
        assert!(compared > 500, "the damage is too heavy to tell anything: {compared}");
    }

    #[test]
    fn a_wide_request_of_lean_old_clients_fits_the_budget() {
        // Version 4: one partition in each of 10,000 topics with names of three letters.
        let mut body = vec![0; 4 * 4 + 1];
        body.extend(10_000i32.to_be_bytes());
        for _ in 0..10_000 {
            body.extend([0, 3, b'a', b'b', b'c', 0, 0, 0, 1]);
            body.extend([0; 16]);
        }
        assert_eq!(FetchRequest::parse(&body, 4).unwrap().topics.len(), 10_000);
    }

    #[test]
    fn many_empty_topics_are_refused() {
        // Version 12: 10,000 topics of three bytes each.
        let mut body = vec![0; 4 * 4 + 1 + 4 + 4];
        body.extend([0x91, 0x4e]);
        body.extend(std::iter::repeat_n([1, 1, 0], 10_000).flatten());
        body.extend([1, 1, 0]);
        let error = FetchRequest::parse(&body, 12).unwrap_err();
        assert_eq!((error.what, error.kind), ("topics", DecodeErrorKind::TooMuchMemory));
    }

    #[test]
    fn a_million_partitions_are_refused_and_a_hundred_thousand_are_not() {
        // Version 4: partitions of one topic, which pay for their memory.
        let asked = |count: i32| {
            let mut body = vec![0; 4 * 4 + 1];
            body.extend([0, 0, 0, 1, 0, 3, b'a', b'b', b'c']);
            body.extend(count.to_be_bytes());
            body.extend(std::iter::repeat_n([0; 16], count as usize).flatten());
            FetchRequest::parse(&body, 4)
        };
        assert_eq!(asked(100_000).unwrap().topics[0].partitions.len(), 100_000);
        let error = asked(1_000_000).unwrap_err();
        assert_eq!((error.what, error.kind), ("partitions", DecodeErrorKind::TooManyElements));
    }

    #[test]
    fn an_unknown_isolation_level_is_an_error() {
        let mut body = vec![0; 4 * 4 + 1 + 4];
        body[16] = 2;
        let error = FetchRequest::parse(&body, 4).unwrap_err();
        assert_eq!((error.what, error.kind), ("isolation_level", DecodeErrorKind::InvalidValue));
    }

    fn partition(index: i32, records: Vec<Bytes>) -> FetchPartitionResponse {
        FetchPartitionResponse {
            index: PartitionIndex(index),
            error: ErrorCode::None,
            high_watermark: Offset(100),
            last_stable_offset: Offset(90),
            log_start_offset: Offset(5),
            aborted: Some(vec![(ProducerId(8), Offset(60)), (ProducerId(9), Offset(61))]),
            preferred_read_replica: NodeId::NONE,
            current_leader: None,
            records,
        }
    }

    fn response() -> FetchResponse {
        let moved = FetchPartitionResponse {
            error: ErrorCode::NotLeaderOrFollower,
            aborted: None,
            preferred_read_replica: NodeId(3),
            current_leader: Some((NodeId(2), LeaderEpoch(11))),
            ..partition(1, Vec::new())
        };
        let two = vec![Bytes::from_static(b"batch one"), Bytes::from_static(b"batch two")];
        let one = vec![Bytes::new(), Bytes::from_static(b"batch three")];
        let topic = |name, id, partitions| FetchTopicResponse {
            name: Some(StrBytes::from_static_str(name)),
            id: TopicId([id; 16]),
            partitions,
        };
        FetchResponse {
            error: ErrorCode::None,
            session_id: 55,
            throttle_ms: 12,
            topics: vec![
                topic("orders", 1, vec![partition(0, two), moved]),
                topic("bills", 2, vec![partition(7, one)]),
            ],
            node_endpoints: vec![NodeEndpoint {
                id: NodeId(2),
                host: "b.example".to_owned(),
                port: 9092,
                rack: Some("north".to_owned()),
            }],
        }
    }

    #[test]
    fn responses_are_byte_for_byte_the_codecs() {
        let empty = FetchResponse {
            error: ErrorCode::FetchSessionIdNotFound,
            session_id: 0,
            throttle_ms: 0,
            topics: Vec::new(),
            node_endpoints: Vec::new(),
        };
        for version in 4..=18 {
            for ours in [&response(), &empty] {
                let frame = Bytes::from(ours.encode(version, 77).concat());
                assert_eq!(frame[..4], ((frame.len() - 4) as i32).to_be_bytes());
                let (correlation_id, theirs) = messages::decode_response::<messages::FetchRequest>(
                    ApiKey::Fetch,
                    version,
                    frame.slice(4..),
                )
                .expect("the codec reads it");
                assert_eq!((correlation_id, theirs.throttle_time_ms), (77, ours.throttle_ms));
                let again = messages::encode_response(ApiKey::Fetch, version, 77, &theirs);
                assert_eq!(again, Ok(frame), "v{version}");
            }
        }
    }

    #[test]
    fn the_codec_finds_every_field_of_a_response() {
        let frame = Bytes::from(response().encode(18, 1).concat());
        let (_, theirs) = messages::decode_response::<messages::FetchRequest>(
            ApiKey::Fetch,
            18,
            frame.slice(4..),
        )
        .unwrap();
        assert_eq!((theirs.error_code, theirs.session_id), (0, 55));
        let [orders, bills] = &theirs.responses[..] else { panic!("two topics") };
        assert_eq!(orders.topic_id, Uuid::from(TopicId([1; 16])));
        let [first, moved] = &orders.partitions[..] else { panic!("two partitions") };
        assert_eq!((first.partition_index, first.high_watermark), (0, 100));
        assert_eq!((first.last_stable_offset, first.log_start_offset), (90, 5));
        let aborted = first.aborted_transactions.as_ref().unwrap();
        assert_eq!((aborted[1].producer_id.0, aborted[1].first_offset), (9, 61));
        assert_eq!(first.records.as_deref(), Some(&b"batch onebatch two"[..]));
        assert_eq!((moved.error_code, moved.preferred_read_replica.0), (6, 3));
        assert_eq!((moved.current_leader.leader_id.0, moved.current_leader.leader_epoch), (2, 11));
        assert_eq!(moved.aborted_transactions, None);
        assert_eq!(moved.records.as_deref(), Some(&b""[..]));
        assert_eq!(bills.partitions[0].records.as_deref(), Some(&b"batch three"[..]));
        assert_eq!(theirs.node_endpoints[0].rack.as_deref(), Some("north"));
    }

    #[test]
    fn record_slices_are_passed_on_untouched() {
        let response = response();
        let pieces = response.encode(12, 1);
        let given: Vec<_> =
            response.slices().filter(|s| !s.is_empty()).map(|s| s.as_ptr()).collect();
        let passed: Vec<_> = pieces
            .iter()
            .map(|piece| piece.as_ptr())
            .filter(|place| given.contains(place))
            .collect();
        assert_eq!(passed, given);
        // Metadata, two slices, metadata up to the next records, one slice, the end.
        assert_eq!(pieces.len(), 6);
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
    }
}

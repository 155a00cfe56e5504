//! What the null responder says to each question.
//!
//! Does: answer ApiVersions, Metadata, CreateTopics, DeleteTopics, InitProducerId, ListOffsets,
//! Produce and Fetch at every version it claims, and what transactions need besides.
//! Does not: touch sockets or clocks; keep records. Each partition is like one whose records are
//! deleted the moment they arrive: its offsets stay at 0.
//! Invariants: a question it cannot read ends the connection, as a broker would.
//! Apart because what is said can be tested without anybody listening.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::{ApiKey, TABLE};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::header::RequestHeader;
use flumen_protocol::hot::fetch::{
    FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse,
};
use flumen_protocol::hot::produce::{
    ProducePartitionResponse, ProduceResponse, ProduceTopicResponse,
};
use flumen_protocol::ids::{NodeId, Offset, PartitionIndex, TopicId};
use flumen_protocol::messages::api_versions_response::ApiVersion;
use flumen_protocol::messages::create_topics_response::CreatableTopicResult;
use flumen_protocol::messages::delete_topics_response::DeletableTopicResult;
use flumen_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use flumen_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use flumen_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsResponse, BrokerId, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, Encodable, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse, StrBytes, TopicName, Uuid, WireProducerId, decode_request,
    encode_response,
};
use flumen_protocol::wire::Encoding;
use flumen_protocol::wire::read::{DecodeError, Reader};
use flumen_protocol::wire::tagged;

use super::transactions;
use crate::load::template::TOPIC_IDS_SINCE;

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer was appended; it may be empty (`acks=0`).
    Now,
    /// As `Now`, and records came in.
    Recorded,
    /// The answer was appended, but not to be sent before this has passed.
    After(Duration),
    /// Nothing can be said to this guest.
    HangUp,
}

/// The questions that are answered.
const KEYS: [ApiKey; 11] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::EndTxn,
];

/// Topics by name, and nothing else.
#[derive(Debug)]
pub struct Responder {
    address: SocketAddr,
    topics: BTreeMap<String, NullTopic>,
    created: u64,
    producers: i64,
    transaction_version: i16,
}

#[derive(Clone, Copy, Debug)]
struct NullTopic {
    id: TopicId,
    partitions: i32,
}

impl Responder {
    /// One that says it is reached at `address` and does transactions at this level of
    /// `transaction.version`.
    #[must_use]
    pub fn new(address: SocketAddr, transaction_version: i16) -> Self {
        Self { address, topics: BTreeMap::new(), created: 0, producers: 0, transaction_version }
    }

    /// Appends the answer to a request, given without its size.
    pub fn answer(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Reply {
        let Ok((header, offset)) = RequestHeader::parse(payload) else { return Reply::HangUp };
        let Some(key) = ApiKey::from_code(header.api_key) else { return Reply::HangUp };
        let known = KEYS.contains(&key) && key.row().supports(header.version);
        if !known {
            return Reply::HangUp;
        }
        let asked = Asked { key, version: header.version, correlation_id: header.correlation_id };
        let answered = match key {
            ApiKey::Produce => produce(&asked, &payload[offset..], out),
            ApiKey::Fetch => fetch(&asked, &payload[offset..], out),
            _ => self.answer_rarely(&asked, Bytes::copy_from_slice(&payload[offset..]), out),
        };
        answered.unwrap_or(Reply::HangUp)
    }

    /// Everything but Produce and Fetch.
    fn answer_rarely(
        &mut self,
        asked: &Asked,
        mut body: Bytes,
        out: &mut Vec<u8>,
    ) -> Result<Reply, DecodeError> {
        let (key, version) = (asked.key, asked.version);
        match key {
            ApiKey::ApiVersions => {
                let answer = transactions::with_level(api_versions(), self.transaction_version);
                asked.say(&answer, out);
            }
            ApiKey::Metadata => {
                let question: MetadataRequest = decode_request(key, version, &mut body)?;
                asked.say(&self.metadata(&question, version), out);
            }
            ApiKey::CreateTopics => {
                let question: CreateTopicsRequest = decode_request(key, version, &mut body)?;
                asked.say(&self.create(&question, version), out);
            }
            ApiKey::DeleteTopics => {
                let question: DeleteTopicsRequest = decode_request(key, version, &mut body)?;
                asked.say(&self.delete(&question), out);
            }
            ApiKey::InitProducerId => {
                let answer = InitProducerIdResponse::default()
                    .with_producer_id(WireProducerId(next(&mut self.producers)))
                    .with_producer_epoch(0);
                asked.say(&answer, out);
            }
            ApiKey::FindCoordinator => {
                let question: FindCoordinatorRequest = decode_request(key, version, &mut body)?;
                asked.say(&transactions::coordinator(&question, version, self.address), out);
            }
            ApiKey::AddPartitionsToTxn => {
                let question: AddPartitionsToTxnRequest = decode_request(key, version, &mut body)?;
                asked.say(&transactions::added(&question, version), out);
            }
            ApiKey::EndTxn => {
                let question: EndTxnRequest = decode_request(key, version, &mut body)?;
                let next_id = || next(&mut self.producers);
                asked.say(&transactions::ended(&question, version, next_id), out);
            }
            ApiKey::ListOffsets => {
                let question: ListOffsetsRequest = decode_request(key, version, &mut body)?;
                asked.say(&list_offsets(&question), out);
            }
            _ => return Ok(Reply::HangUp),
        }
        Ok(Reply::Now)
    }

    fn metadata(&self, question: &MetadataRequest, version: i16) -> MetadataResponse {
        let node = BrokerId(1);
        let broker = MetadataResponseBroker::default()
            .with_node_id(node)
            .with_host(StrBytes::from_string(self.address.ip().to_string()))
            .with_port(i32::from(self.address.port()));
        let names: Vec<String> = match &question.topics {
            None => self.topics.keys().cloned().collect(),
            Some(topics) => {
                topics.iter().filter_map(|t| t.name.as_ref().map(|n| n.to_string())).collect()
            }
        };
        let topics = names.iter().map(|name| {
            let topic = MetadataResponseTopic::default().with_name(Some(topic_name(name)));
            let Some(known) = self.topics.get(name) else {
                return topic.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
            };
            let partitions = (0..known.partitions).map(|index| {
                MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_leader_id(node)
                    .with_replica_nodes(vec![node])
                    .with_isr_nodes(vec![node])
            });
            let topic = topic.with_partitions(partitions.collect());
            if version >= 10 { topic.with_topic_id(Uuid::from(known.id)) } else { topic }
        });
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(node)
            .with_topics(topics.collect())
    }

    fn create(&mut self, question: &CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
        let mut results = Vec::with_capacity(question.topics.len());
        for topic in &question.topics {
            let result = CreatableTopicResult::default().with_name(topic.name.clone());
            let name = topic.name.to_string();
            if self.topics.contains_key(&name) {
                results.push(result.with_error_code(ErrorCode::TopicAlreadyExists.code()));
                continue;
            }
            self.created += 1;
            let mut id = TopicId::ZERO;
            id.0[8..].copy_from_slice(&self.created.to_be_bytes());
            self.topics.insert(name, NullTopic { id, partitions: topic.num_partitions });
            results.push(if version >= 7 { result.with_topic_id(Uuid::from(id)) } else { result });
        }
        CreateTopicsResponse::default().with_topics(results)
    }

    fn delete(&mut self, question: &DeleteTopicsRequest) -> DeleteTopicsResponse {
        let results = question.topic_names.iter().map(|name| {
            let known = self.topics.remove(&name.to_string()).is_some();
            let error = if known { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            DeletableTopicResult::default()
                .with_name(Some(name.clone()))
                .with_error_code(error.code())
        });
        DeleteTopicsResponse::default().with_responses(results.collect())
    }
}

/// The next producer id.
fn next(producers: &mut i64) -> i64 {
    *producers += 1;
    *producers
}

/// Who wants to know what.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl Asked {
    fn say(&self, answer: &impl Encodable, out: &mut Vec<u8>) {
        let frame = encode_response(self.key, self.version, self.correlation_id, answer)
            .expect("answers of this file exist at every version it claims");
        out.extend_from_slice(&frame);
    }
}

fn api_versions() -> ApiVersionsResponse {
    let rows = TABLE.iter().filter(|row| KEYS.contains(&row.key));
    let apis = rows.map(|row| {
        ApiVersion::default()
            .with_api_key(row.key.code())
            .with_min_version(row.served.min)
            .with_max_version(row.served.max)
    });
    ApiVersionsResponse::default().with_api_keys(apis.collect())
}

fn list_offsets(question: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = question.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_offset(0)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Read in place: a copy of each request would make this responder a load of its own.
fn produce(asked: &Asked, body: &[u8], out: &mut Vec<u8>) -> Result<Reply, DecodeError> {
    let version = asked.version;
    let encoding = Encoding::of(asked.key.row().request_is_flexible(version));
    let mut reader = Reader::new(body, encoding);
    reader.nullable_string("transactional_id")?;
    let acks = reader.i16("acks")?;
    reader.i32("timeout_ms")?;
    let mut answer = ProduceResponse::default();
    for _ in 0..reader.count("topics", 1)? {
        let mut topic =
            ProduceTopicResponse { name: None, id: TopicId::ZERO, partitions: Vec::new() };
        if version >= TOPIC_IDS_SINCE {
            topic.id = TopicId(reader.uuid("topic_id")?);
        } else {
            topic.name = Some(StrBytes::from_string(reader.string("name")?.to_owned()));
        }
        for _ in 0..reader.count("partitions", 1)? {
            let index = PartitionIndex(reader.i32("index")?);
            reader.nullable_blob("records")?;
            end_of_struct(&mut reader)?;
            topic.partitions.push(ProducePartitionResponse {
                index,
                error: ErrorCode::None,
                base_offset: Offset(0),
                log_append_time_ms: -1,
                log_start_offset: Offset(0),
                record_errors: Vec::new(),
                error_message: None,
                current_leader: None,
            });
        }
        end_of_struct(&mut reader)?;
        answer.topics.push(topic);
    }
    if acks != 0 {
        out.extend_from_slice(&answer.encode(version, asked.correlation_id));
    }
    Ok(Reply::Recorded)
}

fn fetch(asked: &Asked, body: &[u8], out: &mut Vec<u8>) -> Result<Reply, DecodeError> {
    let question = FetchRequest::parse(body, asked.version)?;
    let topics = question.topics.iter().map(|topic| FetchTopicResponse {
        name: topic.name.as_ref().map(|name| StrBytes::from_string(name.clone())),
        id: topic.id,
        partitions: topic.partitions.iter().map(|part| nothing_new(part.index)).collect(),
    });
    let answer = FetchResponse {
        error: ErrorCode::None,
        session_id: 0,
        throttle_ms: 0,
        topics: topics.collect(),
        node_endpoints: Vec::new(),
    };
    for piece in answer.encode(asked.version, asked.correlation_id) {
        out.extend_from_slice(&piece);
    }
    Ok(Reply::After(Duration::from_millis(question.max_wait_ms.max(0).unsigned_abs().into())))
}

fn nothing_new(index: PartitionIndex) -> FetchPartitionResponse {
    FetchPartitionResponse {
        index,
        error: ErrorCode::None,
        high_watermark: Offset(0),
        last_stable_offset: Offset(0),
        log_start_offset: Offset(0),
        aborted: None,
        preferred_read_replica: NodeId::NONE,
        current_leader: None,
        records: Vec::new(),
    }
}

fn end_of_struct(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.encoding() {
        Encoding::Compact => tagged::skip(reader, "tagged fields"),
        Encoding::Classic => Ok(()),
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::answers;
    use crate::load::options::plain_producers;
    use crate::load::payload::Dice;
    use crate::load::template::{Address, Patch, Template};
    use flumen_protocol::messages::add_partitions_to_txn_request::{
        AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
    };
    use flumen_protocol::messages::{ApiVersionsRequest, Request, decode_response, encode_request};

    fn responder() -> Responder {
        Responder::new("127.0.0.1:9".parse().expect("an address"), transactions::LEVEL_MAX)
    }

    /// Asks at every version that is claimed; what is said is read again.
    fn asks<T: Request>(
        key: ApiKey,
        question: impl Fn(i16) -> T,
        judge: impl Fn(i16, T::Response),
    ) {
        let versions = key.row().served;
        for version in versions.min..=versions.max {
            let frame = encode_request(key, version, 5, Some("me"), &question(version))
                .expect("it can be asked");
            let mut out = Vec::new();
            assert_eq!(responder().answer(&frame[4..], &mut out), Reply::Now, "v{version}");
            let payload = Bytes::copy_from_slice(&out[4..]);
            let (id, answer) = decode_response::<T>(key, version, payload).expect("well-formed");
            assert_eq!(id, 5);
            judge(version, answer);
        }
    }

    #[test]
    fn the_level_of_transactions_is_told_where_features_are() {
        let question = |version| {
            let named = if version >= 3 { "me" } else { "" };
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(named))
                .with_client_software_version(StrBytes::from_static_str(named))
        };
        asks(ApiKey::ApiVersions, question, |version, answer| {
            let levels = answer.finalized_features.iter().map(|feature| feature.max_version_level);
            let told = if version >= 3 { vec![transactions::LEVEL_MAX] } else { Vec::new() };
            assert_eq!(levels.collect::<Vec<_>>(), told, "v{version}");
        });
    }

    #[test]
    fn every_version_that_transactions_need_is_answered_well() {
        let key = || StrBytes::from_static_str("a");
        let find = |version| {
            let question = FindCoordinatorRequest::default();
            match version {
                0 => question.with_key(key()),
                1..=3 => question.with_key(key()).with_key_type(1),
                _ => question.with_key_type(1).with_coordinator_keys(vec![key()]),
            }
        };
        asks(ApiKey::FindCoordinator, find, |version, answer| {
            let ports = answer.coordinators.iter().map(|coordinator| coordinator.port);
            let port = if version < 4 { Some(answer.port) } else { ports.last() };
            assert_eq!(port, Some(9), "v{version}");
        });
        let add = |version| {
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![1, 2]);
            let (question, transaction) =
                (AddPartitionsToTxnRequest::default(), AddPartitionsToTxnTransaction::default());
            match version {
                0..=3 => question.with_v3_and_below_topics(vec![topic]),
                _ => question.with_transactions(vec![transaction.with_topics(vec![topic])]),
            }
        };
        asks(ApiKey::AddPartitionsToTxn, add, |version, answer| {
            let many = answer.results_by_transaction.iter().flat_map(|of| &of.topic_results);
            let results: Vec<_> = many.chain(&answer.results_by_topic_v3_and_below).collect();
            assert_eq!(
                (results.len(), results[0].results_by_partition.len()),
                (1, 2),
                "v{version}"
            );
        });
        let end = |_| EndTxnRequest::default().with_producer_id(WireProducerId(4));
        asks(ApiKey::EndTxn, end, |version, answer| {
            let goes_on = if version >= 5 { (4, 1) } else { (-1, -1) };
            assert_eq!((answer.producer_id.0, answer.producer_epoch), goes_on, "v{version}");
        });
    }

    #[test]
    fn every_version_of_produce_is_answered_well() {
        for version in 3..=13 {
            for acks in [-1, 0] {
                let producers = crate::scenario::Producers { acks, ..plain_producers() };
                let address = Address { name: "t".to_owned(), id: TopicId([1; 16]), version };
                let mut template = Template::new(&producers, &address, &mut Dice::new(1));
                let patch = Patch {
                    correlation_id: 5,
                    partitions: &[3],
                    due_ns: 1,
                    now_ms: 1,
                    producer: None,
                    transactional_id: None,
                };
                let mut out = Vec::new();
                let reply = responder().answer(&template.patch(&patch)[4..], &mut out);
                assert_eq!(reply, Reply::Recorded);
                if acks == 0 {
                    assert!(out.is_empty());
                } else {
                    let answer = answers::produced(&out[4..], version).expect("well-formed");
                    assert_eq!((answer.correlation_id, answer.error, answer.partitions), (5, 0, 1));
                }
            }
        }
    }

    #[test]
    fn what_is_no_question_ends_the_connection() {
        for nonsense in [&b""[..], b"GET / HTTP/1.1", &[0, 0, 0, 99, 0, 0, 0, 1, 255, 255]] {
            assert_eq!(responder().answer(nonsense, &mut Vec::new()), Reply::HangUp);
        }
    }
}

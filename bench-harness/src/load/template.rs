//! Produce requests that are laid out once and patched for each sending.
//!
//! Does: write a whole request frame, remember where its changing fields lie, and change them.
//! Does not: decide what is sent where, or send.
//! Invariants: a patched frame is a well-formed Produce request at the version asked for, with
//! sound checksums; nothing is allocated when one is patched.
//! Apart because this is what makes the generator cheap: a request costs its checksum and a copy.

use std::ops::Range;

use bytes::BytesMut;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec;
use flumen_protocol::batch::records::records;
use flumen_protocol::batch::stamp::stamp_as_producer;
use flumen_protocol::ids::{ProducerEpoch, ProducerId, Sequence, TopicId};

use super::payload::{self, Dice};
use super::request;
use crate::limits::{PRODUCE_TIMEOUT_MS, TEMPLATE_BYTES, TEMPLATES_MAX};
use crate::scenario::{Codec, Producers};

/// Since this version topics are named by their id.
pub const TOPIC_IDS_SINCE: i16 = 13;

/// Bytes of the instant a value begins with: when its request was due, monotonic nanoseconds.
pub const STAMP_BYTES: usize = 8;

/// Which topic, spoken of in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The topic's name.
    pub name: String,
    /// Its id, zero where the broker has none.
    pub id: TopicId,
    /// Version of the request.
    pub version: i16,
}

/// A request frame with room for what changes.
#[derive(Clone, Debug)]
pub struct Template {
    frame: BytesMut,
    /// The transactional id, where there is one.
    transactional_id: Option<Range<usize>>,
    slots: Vec<Slot>,
}

/// Where one partition's share lies in the frame.
#[derive(Clone, Debug)]
struct Slot {
    index_at: usize,
    batch: Range<usize>,
    /// The first value's beginning; nothing where it is too short or compressed.
    stamp_at: Option<usize>,
}

/// What changes from request to request.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// What the answer will carry.
    pub correlation_id: i32,
    /// As many partitions as the template has batches.
    pub partitions: &'a [i32],
    /// When the request was due, monotonic nanoseconds; readers take it from the records.
    pub due_ns: u64,
    /// Time of the records, milliseconds since 1970.
    pub now_ms: u64,
    /// Who produces, and the first record's sequence in each partition.
    pub producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    /// Whose transaction it is; as long as every [`transactional_id`] of the topic.
    pub transactional_id: Option<&'a str>,
}

/// Where the correlation id lies: behind size, key and version.
const CORRELATION_AT: usize = 4 + 2 + 2;

impl Template {
    /// Lays a request out as the scenario wants it; payload is drawn from `dice`.
    #[must_use]
    pub fn new(producers: &Producers, address: &Address, dice: &mut Dice) -> Self {
        let count = producers.partitions_per_request as usize;
        let batches: Vec<BytesMut> = (0..count).map(|_| batch(producers, dice)).collect();
        let mut frame = BytesMut::with_capacity(batches.iter().map(|b| b.len() + 16).sum());
        let mut writer = request::begin(&mut frame, ApiKey::Produce, address.version, 0);
        let whose = producers.transactional.then(|| transactional_id(&address.name, 0));
        writer.nullable_string(whose.as_deref());
        let whose_end = writer.position();
        let transactional_id = whose.map(|whose| whose_end - whose.len()..whose_end);
        writer.i16(producers.acks);
        writer.i32(PRODUCE_TIMEOUT_MS);
        writer.count(1);
        if address.version >= TOPIC_IDS_SINCE {
            writer.raw(&address.id.0);
        } else {
            writer.string(&address.name);
        }
        writer.count(count);
        let mut slots = Vec::with_capacity(count);
        for batch in &batches {
            let index_at = writer.position();
            writer.i32(0);
            writer.count(batch.len());
            let begin = writer.position();
            writer.raw(batch);
            writer.end_of_struct();
            let stamp_at = stamp_place(batch).map(|at| begin + at);
            slots.push(Slot { index_at, batch: begin..begin + batch.len(), stamp_at });
        }
        writer.end_of_struct();
        writer.end_of_struct();
        request::finish(&mut frame);
        Self { frame, transactional_id, slots }
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Makes it the request that is sent now.
    pub fn patch(&mut self, patch: &Patch<'_>) -> &[u8] {
        assert_eq!(patch.partitions.len(), self.slots.len(), "one batch per partition");
        let id = patch.correlation_id.to_be_bytes();
        self.frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&id);
        if let (Some(place), Some(whose)) = (&self.transactional_id, patch.transactional_id) {
            self.frame[place.clone()].copy_from_slice(whose.as_bytes());
        }
        for (slot, partition) in self.slots.iter().zip(patch.partitions) {
            self.frame[slot.index_at..slot.index_at + 4].copy_from_slice(&partition.to_be_bytes());
            if let Some(at) = slot.stamp_at {
                self.frame[at..at + STAMP_BYTES].copy_from_slice(&patch.due_ns.to_be_bytes());
            }
            let batch = &mut self.frame[slot.batch.clone()];
            stamp_as_producer(batch, patch.now_ms as i64, patch.producer);
        }
        &self.frame
    }
}

/// What a transactional producer of a run is called. All of a topic are of one length, so that one
/// can be written over another.
#[must_use]
pub fn transactional_id(topic: &str, producer: usize) -> String {
    format!("{topic}-{producer:05}")
}

/// Several templates, taken in turn.
#[derive(Clone, Debug)]
pub struct Templates {
    all: Vec<Template>,
    next: usize,
}

impl Templates {
    /// As many as fit the limits, so that what is sent comes from memory as it does in real
    /// clients, not always from the same cache lines.
    #[must_use]
    pub fn new(producers: &Producers, address: &Address, dice: &mut Dice) -> Self {
        let first = Template::new(producers, address, dice);
        let count = (TEMPLATE_BYTES / first.frame_bytes()).clamp(1, TEMPLATES_MAX);
        let mut all = vec![first];
        all.resize_with(count, || Template::new(producers, address, dice));
        Self { all, next: 0 }
    }

    /// The next one, made the request that is sent now.
    pub fn patched(&mut self, patch: &Patch<'_>) -> &[u8] {
        let place = self.next;
        self.next = (place + 1) % self.all.len();
        self.all[place].patch(patch)
    }
}

fn batch(producers: &Producers, dice: &mut Dice) -> BytesMut {
    let builder = BatchBuilder::new();
    let mut builder = if producers.transactional { builder.transactional() } else { builder };
    for _ in 0..producers.records_per_batch {
        let key =
            (producers.key_bytes > 0).then(|| payload::key(dice, producers.key_bytes as usize));
        let value = payload::value(dice, producers.record_bytes as usize);
        builder.push(&NewRecord {
            timestamp: 0,
            key: key.as_deref(),
            value: Some(&value),
            headers: &[],
        });
    }
    match wire_codec(producers.codec) {
        codec::Codec::None => builder.finish(),
        codec => builder.finish_compressed(codec),
    }
}

/// The codec's name on the wire.
fn wire_codec(codec: Codec) -> codec::Codec {
    match codec {
        Codec::None => codec::Codec::None,
        Codec::Gzip => codec::Codec::Gzip,
        Codec::Snappy => codec::Codec::Snappy,
        Codec::Lz4 => codec::Codec::Lz4,
        Codec::Zstd => codec::Codec::Zstd,
    }
}

/// Where the first record's value begins in a batch that is not compressed.
fn stamp_place(batch: &[u8]) -> Option<usize> {
    let opened = records(batch, 0).ok()?;
    let value = opened.iter().next()?.ok()?.value?;
    (value.len() >= STAMP_BYTES).then(|| value.as_ptr().addr() - batch.as_ptr().addr())
}

/// When the request that brought this batch was due; nothing where the batch does not say.
#[must_use]
pub fn stamp_of(batch: &[u8]) -> Option<u64> {
    let opened = records(batch, 0).ok()?;
    let value = opened.iter().next()?.ok()?.value?;
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::plain_producers;
    use flumen_protocol::batch::check::{check_produced, check_records, verify_crc};
    use flumen_protocol::batch::header::BatchHeader;
    use flumen_protocol::frame;
    use flumen_protocol::header::RequestHeader;
    use flumen_protocol::hot::produce::ProduceRequest;

    fn producers() -> Producers {
        Producers { record_bytes: 100, records_per_batch: 3, ..plain_producers() }
    }

    fn address(version: i16) -> Address {
        Address { name: "t".to_owned(), id: TopicId([9; 16]), version }
    }

    fn parse(frame: &[u8]) -> (i32, ProduceRequest) {
        assert_eq!(frame::measure(frame, usize::MAX), Ok(Some(frame.len())), "a whole frame");
        let payload = BytesMut::from(&frame[frame::SIZE_BYTES..]);
        let (header, offset) = RequestHeader::parse(&payload).expect("a header");
        let (id, version) = (header.correlation_id, header.version);
        (id, ProduceRequest::parse(payload.clone(), offset, version).expect("well-formed"))
    }

    #[test]
    fn every_version_codec_and_width_is_a_sound_request() {
        let whose = (ProducerId(5), ProducerEpoch(0), Sequence(12));
        for version in 3..=13 {
            for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
                let wide =
                    Producers { codec, partitions_per_request: 2, key_bytes: 8, ..producers() };
                let mut template = Template::new(&wide, &address(version), &mut Dice::new(1));
                for correlation_id in [1, 77] {
                    let patch = Patch {
                        correlation_id,
                        partitions: &[4, 2],
                        due_ns: 123,
                        now_ms: 1_700_000_000_000,
                        producer: Some(whose),
                        transactional_id: None,
                    };
                    let (id, mut request) = parse(template.patch(&patch));
                    assert_eq!((id, request.acks), (correlation_id, -1));
                    let topic = request.topics.remove(0);
                    let named = if version < 13 { Some("t") } else { None };
                    assert_eq!(topic.name.as_deref(), named);
                    let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.index.0).collect();
                    assert_eq!(indexes, [4, 2]);
                    for partition in topic.partitions {
                        let batch = partition.records.expect("records");
                        let summary = check_produced(&batch).expect("sound");
                        assert!(
                            verify_crc(&batch) && check_records(&batch, &mut (1 << 26)).is_ok()
                        );
                        assert_eq!((summary.record_count, summary.codec.code()), (3, codec as i16));
                        assert_eq!(summary.producer.expect("a producer").base_sequence.0, 12);
                        assert_eq!(summary.max_timestamp, 1_700_000_000_000);
                        if codec == Codec::None {
                            assert_eq!(stamp_of(&batch), Some(123));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_transactional_request_says_whose_it_is_at_every_version() {
        let ours = Producers { transactional: true, partitions_per_request: 2, ..producers() };
        for version in 3..=13 {
            let mut template = Template::new(&ours, &address(version), &mut Dice::new(1));
            for producer in [0, 27_999] {
                let whose = transactional_id("t", producer);
                let patch = Patch {
                    correlation_id: 1,
                    partitions: &[0, 1],
                    due_ns: 1,
                    now_ms: 1,
                    producer: Some((ProducerId(5), ProducerEpoch(2), Sequence(0))),
                    transactional_id: Some(&whose),
                };
                let (_, request) = parse(template.patch(&patch));
                assert_eq!(request.transactional_id.as_deref(), Some(whose.as_str()));
                for partition in &request.topics[0].partitions {
                    let batch = partition.records.as_ref().expect("records");
                    assert!(BatchHeader::parse(batch).expect("a batch").is_transactional());
                    assert!(verify_crc(batch) && check_produced(batch).is_ok());
                }
            }
        }
    }

    #[test]
    fn the_same_seed_lays_out_the_same_requests() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            Template::new(&producers(), &address(9), &mut dice).frame.freeze()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn a_value_too_short_for_a_stamp_is_left_alone() {
        let tiny = Producers { record_bytes: 1, records_per_batch: 1, ..plain_producers() };
        let mut template = Template::new(&tiny, &address(13), &mut Dice::new(1));
        let patch = Patch {
            correlation_id: 1,
            partitions: &[0],
            due_ns: u64::MAX,
            now_ms: 1,
            producer: None,
            transactional_id: None,
        };
        let (_, request) = parse(template.patch(&patch));
        let batch = request.topics[0].partitions[0].records.as_ref().expect("records");
        assert!(verify_crc(batch) && stamp_of(batch).is_none());
    }
}

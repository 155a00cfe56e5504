//! A node that was used for a while, what it left on its disks, and what it would serve from them.
//!
//! Does: make topics of every kind, fill them over the wire in rounds, settle some rounds into
//! segments and leave others in the journal, commit offsets, delete, restart; then stop in one of
//! the ways in which a node stops.
//! Does not: damage anything.
//! Invariants: the same seed gives the same files; what is called the truth was read from them over the
//! wire before anything was damaged, and holds everything that was acknowledged.
//! Apart because flips need a node that has everything, in little room.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::codec::Codec;
use flumen_protocol::batch::records::Header;
use flumen_protocol::ids::{LogId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId};
use flumen_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::messages::metadata_request::MetadataRequestTopic;
use flumen_protocol::messages::metadata_response::MetadataResponseTopic;
use flumen_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use flumen_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, FindCoordinatorRequest, InitProducerIdRequest,
    MetadataRequest, ProduceRequest, StrBytes, WireProducerId,
};
use flumen_storage::answers::{RecoveredLog, StoreConfig};
use flumen_storage::journal::journal::JournalConfig;
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::{Dice, SimDisk};

use super::layout::Layout;
use super::reading::{self, Commits, Reading};
use crate::stories::{delete, name};
use crate::world::{Sizes, World};

pub const PRODUCE: i16 = 9;
/// The topics, and how many partitions each has: plain batches, compressed ones, and those of
/// idempotent producers.
pub const TOPICS: [(&str, i32); 3] = [("plain", 3), ("packed", 2), ("sure", 2)];
const PACKED: usize = 1;
const SURE: usize = 2;
pub const GROUPS: [&str; 2] = ["readers", "writers"];
const CORES: u16 = 2;
const ROUNDS: i64 = 5;
/// Longer than what is not settled may get old on an idle core.
const SETTLING: u64 = 13;

/// A partition: which topic, and which partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: usize,
    pub partition: i32,
}

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TOPICS.iter().enumerate().flat_map(|(topic, (_, partitions))| {
            (0..*partitions).map(move |partition| Self { topic, partition })
        })
    }

    /// The topic's name.
    pub fn topic_name(self) -> &'static str {
        TOPICS[self.topic].0
    }
}

/// The last batch of an idempotent producer, and the offset it was given.
pub struct LastSent {
    pub batch: Bytes,
    pub offset: i64,
}

/// How the node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// By a power cut, seconds after its last acknowledgement.
    Later,
    /// By a power cut, right after it: of the last commit the disk has no proof yet (decision 0001).
    AtOnce,
    /// As asked: everything is in segments.
    Asked,
}

/// A filled node that has stopped.
pub struct Filled {
    /// The node: whoever starts it anew asks this one.
    pub world: World,
    /// Whenever the power went, nothing was on its way to the disks, not even indexes, which nobody
    /// waits for.
    pub has_rested: bool,
    pub disks: Vec<SimDisk>,
    /// Every file that a flip may hit, by core.
    pub files: Vec<(usize, FileName, Bytes)>,
    pub layouts: Vec<Layout>,
    pub logs: BTreeMap<Place, LogId>,
    /// What an undamaged start finds, serves, and says was committed.
    pub found: BTreeMap<LogId, RecoveredLog>,
    pub truth: BTreeMap<Place, Reading>,
    pub commits: Commits,
    pub last_sent: BTreeMap<Place, LastSent>,
}

/// A node while it is filled.
struct Filling {
    world: World,
    dice: Dice,
    producer: (i64, i16),
    sequences: BTreeMap<Place, i32>,
    /// What was acknowledged: the end of each partition.
    ends: BTreeMap<Place, i64>,
    last_sent: BTreeMap<Place, LastSent>,
    /// The power went while it was filled.
    was_cut: bool,
}

impl Filled {
    /// The node of this seed.
    pub fn new(seed: u64) -> Self {
        let mut filling = Filling::new(seed);
        filling.live();
        let stop = match filling.dice.below(8) {
            0 => Stop::Asked,
            1 => Stop::AtOnce,
            _ => Stop::Later,
        };
        filling.stop(stop);
        let rest = filling.dice.below(4);
        let Filling { world, ends, last_sent, was_cut, .. } = filling;
        let mut disks = world.disks().to_vec();
        let has_rested = stop == Stop::Asked || rest > 0;
        for disk in &mut disks {
            if has_rested {
                disk.write_back();
            }
            disk.crash();
            // Two MiB of zeros that nobody reads; the next start makes others.
            disk.shorten(FileName::Ballast, None);
        }
        let mut whole = world.reborn(disks.clone(), false).expect("nothing is damaged");
        let logs = logs_of(&mut whole);
        let truth = reading::read_all(&mut whole, &logs);
        for (place, end) in &ends {
            let read = &truth[place];
            assert_eq!((read.end, &read.wrong), (*end, &Vec::new()), "{place:?} of {seed}");
        }
        let commits = reading::commits(&mut whole);
        let found = whole.found.clone();
        let layouts = disks.iter().enumerate();
        let layouts =
            layouts.map(|(core, disk)| Layout::of(disk, &world.owner(core), &found)).collect();
        let files = disks.iter().enumerate().flat_map(|(core, disk)| {
            disk.all().map(move |(file, bytes)| (core, file, bytes)).collect::<Vec<_>>()
        });
        let files = files.filter(|(_, _, bytes)| !bytes.is_empty()).collect();
        Self {
            world,
            has_rested: has_rested && !was_cut,
            disks,
            files,
            layouts,
            logs,
            found,
            truth,
            commits,
            last_sent,
        }
    }
}

impl Filling {
    fn new(seed: u64) -> Self {
        let journal = JournalConfig {
            file_bytes: 64 << 10,
            window_bytes: 8 * (64 << 10),
            ..JournalConfig::default()
        };
        let store =
            StoreConfig { cache_bytes: 4 << 10, unsettled_bytes: 96 << 10, ..StoreConfig::DEFAULT };
        let mut world = World::sized(CORES, Sizes { journal, store });
        for (topic, partitions) in TOPICS {
            make(&mut world, topic, partitions);
        }
        for group in GROUPS {
            let group = StrBytes::from_static_str(group);
            let find = FindCoordinatorRequest::default().with_key(group);
            assert_eq!(world.ask(0, ApiKey::FindCoordinator, 3, &find).node_id.0, 1);
        }
        let ask = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(1000)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        let told = world.ask(0, ApiKey::InitProducerId, 4, &ask);
        assert_eq!(told.error_code, 0);
        Self {
            world,
            dice: Dice::new(seed ^ 0x666c_6970),
            producer: (told.producer_id.0, told.producer_epoch),
            sequences: BTreeMap::new(),
            ends: BTreeMap::new(),
            last_sent: BTreeMap::new(),
            was_cut: false,
        }
    }

    fn live(&mut self) {
        let has_deletion = self.dice.below(2) == 0;
        let restart_after = self.dice.below(2 * ROUNDS as u64) as i64;
        for round in 0..ROUNDS {
            self.produce(round);
            self.commit();
            // The rounds before the last two are settled, most of the time.
            if round + 2 < ROUNDS && self.dice.below(6) > 0 {
                self.wait(SETTLING);
            }
            if has_deletion && round == 1 {
                self.delete_records();
                make(&mut self.world, "passing", 1);
                delete(&mut self.world, "passing");
                self.wait(2);
            }
            if round == restart_after {
                self.wait(2);
                self.world.cut_power();
                self.was_cut = true;
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        match stop {
            Stop::Later => self.wait(3),
            Stop::AtOnce => {
                self.produce_to(&[Place { topic: 0, partition: 0 }], ROUNDS);
            }
            Stop::Asked => {
                self.world.ask_to_stop();
                self.world.run();
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.world.wait(Duration::from_secs(1)));
    }

    fn produce(&mut self, round: i64) {
        for _ in 0..3 {
            let chosen = Place::all().filter(|_| self.dice.below(4) > 0);
            let places: Vec<Place> = chosen.collect();
            // One request, and so one commit of each core for all of them.
            self.produce_to(&places, round);
        }
    }

    fn produce_to(&mut self, places: &[Place], round: i64) {
        let batches: Vec<(Place, Bytes, i64)> = places
            .iter()
            .map(|place| {
                let (batch, count) = self.batch(*place, round);
                (*place, batch, count)
            })
            .collect();
        let request = produce_request(batches.iter().map(|(place, batch, _)| (*place, batch)));
        let core = self.dice.below(u64::from(CORES)) as usize;
        let answer = self.world.ask(core, ApiKey::Produce, PRODUCE, &request);
        let told = reading::appended(&answer);
        for (place, batch, count) in batches {
            let end = self.ends.entry(place).or_default();
            assert_eq!(told[&place], (0, *end), "{place:?}");
            *end += count;
            if place.topic == SURE {
                self.last_sent.insert(place, LastSent { batch, offset: *end - count });
            }
        }
    }

    /// A batch of a few records, and how many. A round is ten seconds long for the topics, whose
    /// segments take one.
    fn batch(&mut self, place: Place, round: i64) -> (Bytes, i64) {
        let dice = &mut self.dice;
        let count = 1 + dice.below(6) as i32;
        let mut builder = BatchBuilder::new();
        if place.topic == SURE {
            let sequence = self.sequences.entry(place).or_default();
            let (id, epoch) = (ProducerId(self.producer.0), ProducerEpoch(self.producer.1));
            builder = builder.with_producer(id, epoch, Sequence(*sequence));
            *sequence += count;
        }
        let end = self.ends.get(&place).copied().unwrap_or(0);
        for number in 0..i64::from(count) {
            let value = format!("{place:?} {}", end + number);
            let filler = [b'a' + dice.below(26) as u8].repeat(dice.below(500) as usize);
            let value = [value.as_bytes(), &filler].concat();
            let header = Header { key: b"h", value: Some(&value[..1 + value.len() / 8]) };
            let headers = [header, Header { key: b"h", value: None }];
            builder.push(&NewRecord {
                timestamp: 1_700_000_000_000 + round * 10_000 + number,
                key: (dice.below(2) == 0).then_some(b"key"),
                value: (dice.below(8) > 0).then_some(&value),
                headers: &headers[..dice.below(3) as usize],
            });
        }
        let batch = if place.topic == PACKED {
            let codec = Codec::ALL[dice.below(Codec::ALL.len() as u64) as usize];
            builder.finish_compressed(codec)
        } else {
            builder.finish()
        };
        (batch.freeze(), i64::from(count))
    }

    /// Each group commits where some partitions end.
    fn commit(&mut self) {
        for group in GROUPS {
            let ends = self.ends.iter().filter(|_| self.dice.below(3) > 0);
            let offsets: Vec<(Place, i64)> = ends.map(|(place, end)| (*place, *end)).collect();
            reading::commit(&mut self.world, group, &offsets);
        }
    }

    /// A partition begins later from now on, most likely inside of a batch.
    fn delete_records(&mut self) {
        let place = Place { topic: 0, partition: 1 };
        let end = self.ends.get(&place).copied().unwrap_or(0);
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(place.partition)
            .with_offset(end / 2);
        let topic = DeleteRecordsTopic::default()
            .with_name(name(place.topic_name()))
            .with_partitions(vec![partition]);
        let request =
            DeleteRecordsRequest::default().with_timeout_ms(5_000).with_topics(vec![topic]);
        let answer = self.world.ask(1, ApiKey::DeleteRecords, 2, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
}

/// A request with one batch for each of these partitions.
pub fn produce_request<'a>(
    batches: impl Iterator<Item = (Place, &'a Bytes)> + Clone,
) -> ProduceRequest {
    let topics = TOPICS.iter().enumerate().map(|(topic, (topic_name, _))| {
        let of_topic = batches.clone().filter(move |(place, _)| place.topic == topic);
        let data = of_topic.map(|(place, batch)| {
            PartitionProduceData::default()
                .with_index(place.partition)
                .with_records(Some(batch.clone()))
        });
        TopicProduceData::default().with_name(name(topic_name)).with_partition_data(data.collect())
    });
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(topics.filter(|topic| !topic.partition_data.is_empty()).collect())
}

fn make(world: &mut World, topic: &str, partitions: i32) {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("segment.ms"))
        .with_value(Some(StrBytes::from_static_str("5000")));
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_timeout_ms(5_000).with_topics(vec![topic]);
    assert_eq!(world.ask(0, ApiKey::CreateTopics, 5, &request).topics[0].error_code, 0);
}

/// Which log belongs to which partition.
fn logs_of(world: &mut World) -> BTreeMap<Place, LogId> {
    let asked =
        TOPICS.map(|(topic, _)| MetadataRequestTopic::default().with_name(Some(name(topic))));
    let request = MetadataRequest::default().with_topics(Some(asked.to_vec()));
    let answer = world.ask(0, ApiKey::Metadata, 12, &request);
    let id = |place: Place| {
        let named = |topic: &&MetadataResponseTopic| is_named(topic, place.topic_name());
        let topic = answer.topics.iter().find(named).expect("the topic is there");
        LogId { topic: TopicId::from(topic.topic_id), partition: PartitionIndex(place.partition) }
    };
    Place::all().map(|place| (place, id(place))).collect()
}

fn is_named(topic: &MetadataResponseTopic, wanted: &str) -> bool {
    topic.name.as_ref().is_some_and(|name| name.as_str() == wanted)
}

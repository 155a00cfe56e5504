//! Records of the cluster's log.
//!
//! Oracle: a record that is read and written again is read back equal, and reading it takes memory in
//! proportion; a log of such records leads to an image whose names and topics agree, or is refused and
//! changes nothing.

use std::collections::BTreeMap;

use flumen_protocol::ids::{NodeId, TopicId};
use flumen_replication::metadata::controller::Controller;
use flumen_replication::metadata::image::{Broker, Endpoint, Placement};
use flumen_replication::metadata::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart};
use flumen_replication::metadata::record::MetadataRecord;

use crate::draw::Draw;
use crate::meter;

/// Records, each behind its length in two bytes.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut controller = Controller::new();
    while !draw.is_over() {
        let length = usize::from(draw.word());
        let bytes = draw.slice(length);
        let (read, spent) = meter::spent(|| MetadataRecord::decode(bytes));
        assert!(spent <= 64 * bytes.len() + 1024, "{spent} bytes for {}", bytes.len());
        let Ok(record) = read else { continue };
        assert_eq!(MetadataRecord::decode(&record.encode()).as_ref(), Ok(&record));
        let before = controller.image();
        if controller.replay(&record).is_err() {
            assert_eq!(controller.image(), before, "what is refused changes nothing");
        }
    }
    let image = controller.image();
    assert_eq!(image.topics().count(), image.topic_count(), "every topic has a name");
    for topic in image.topics() {
        assert_eq!(image.topic_named(&topic.name), Some(topic));
        assert_eq!(image.topic(topic.id), Some(topic));
        assert!(!topic.partitions.is_empty());
        assert!(topic.partitions.iter().all(|placement| !placement.replicas.is_empty()));
    }
    assert!(image.broker_configs.values().all(|configs| !configs.is_empty()));
}

/// Each kind of record alone, and all of them as one log.
pub fn seeds() -> Vec<Vec<u8>> {
    let framed = |record: &MetadataRecord| {
        let bytes = record.encode();
        [(bytes.len() as u16).to_le_bytes().to_vec(), bytes.to_vec()].concat()
    };
    let records = samples();
    let mut seeds: Vec<Vec<u8>> = records.iter().map(framed).collect();
    seeds.push(seeds.concat());
    seeds
}

fn samples() -> Vec<MetadataRecord> {
    let id = TopicId([7; 16]);
    let placement =
        |nodes: &[i32]| Placement { replicas: nodes.iter().map(|n| NodeId(*n)).collect() };
    let text = |text: &str| text.to_owned();
    let configs = BTreeMap::from([(text("retention.ms"), text("1000"))]);
    let endpoint = Endpoint { listener: text("PLAINTEXT"), host: text("a.example"), port: 9092 };
    vec![
        MetadataRecord::Broker(Broker {
            id: NodeId(1),
            rack: Some(text("north")),
            endpoints: vec![endpoint],
        }),
        MetadataRecord::Topic {
            id,
            name: text("orders"),
            partitions: vec![placement(&[1]), placement(&[1, 2])],
            configs: configs.clone(),
        },
        MetadataRecord::Partitions { id, partitions: vec![placement(&[1]); 3] },
        MetadataRecord::TopicConfigs { id, configs: configs.clone() },
        MetadataRecord::BrokerConfigs { node: None, configs: configs.clone() },
        MetadataRecord::GroupConfigs { group: text("g"), configs: configs.clone() },
        MetadataRecord::BrokerConfigs { node: Some(NodeId(1)), configs: BTreeMap::new() },
        MetadataRecord::FeatureLevel { name: text("metadata.version"), level: 25 },
        MetadataRecord::ClientQuotas {
            entity: QuotaEntity::new(BTreeMap::from([(QuotaPart::User, None)])).expect("sound"),
            quotas: QuotaBound::new(0.5)
                .map(|it| (QuotaKey::RequestPercentage, it))
                .into_iter()
                .collect(),
        },
        MetadataRecord::ProducerIds { next: 1000 },
        MetadataRecord::TopicDeleted { id },
    ]
}

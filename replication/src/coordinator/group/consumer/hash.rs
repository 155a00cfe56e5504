//! Kafka's hash of the topics a group wants: it changes when the group must be assigned anew.
//!
//! Does: hash names, ids, partition counts and the racks of replicas, as Kafka 4.1 does (KIP-1101).
//! Does not: remember anything.
//! Invariants: the same number as Kafka's for the same topics: it stands in the offsets topic.
//! Apart because its bytes are laid out by a library of Kafka's and mean nothing else.

use flumen_protocol::ids::TopicId;
use twox_hash::XxHash3_64;

use crate::metadata::image::{Image, Topic};

/// The first byte of what is hashed: the version of the layout.
const LAYOUT: u8 = 0;

/// The hash of these topics, which ascend; those that do not exist do not count. 0: none exists.
pub(super) fn topics_hash<'n>(image: &Image, names: impl Iterator<Item = &'n String>) -> i64 {
    let mut all = Vec::new();
    for topic in names.filter_map(|name| image.topic_named(name)) {
        all.extend_from_slice(&topic_hash(image, topic).to_le_bytes());
    }
    if all.is_empty() { 0 } else { XxHash3_64::oneshot(&all).cast_signed() }
}

fn topic_hash(image: &Image, topic: &Topic) -> i64 {
    let mut bytes = Vec::with_capacity(32 + 2 * topic.name.len() + 4 * topic.partitions.len());
    bytes.push(LAYOUT);
    let TopicId(id) = topic.id;
    let (high, low) = id.split_at(8);
    for half in [high, low] {
        bytes.extend(half.iter().rev());
    }
    put_string(&mut bytes, &topic.name);
    put_length(&mut bytes, topic.partitions.len());
    // Nearly always: then the partitions need not be looked through for the racks of their brokers.
    let has_racks = image.brokers.values().any(|broker| broker.rack.is_some());
    let mut racks: Vec<&str> = Vec::new();
    for (partition, placement) in topic.partitions.iter().enumerate() {
        put_length(&mut bytes, partition);
        if !has_racks {
            continue;
        }
        racks.clear();
        let brokers = placement.replicas.iter().filter_map(|replica| image.brokers.get(replica));
        racks.extend(brokers.filter_map(|broker| broker.rack.as_deref()));
        racks.sort_unstable();
        for rack in &racks {
            put_length(&mut bytes, rack.encode_utf16().count());
            put_string(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes).cast_signed()
}

/// UTF-16 and, behind it, its length in units.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let before = bytes.len();
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    put_length(bytes, (bytes.len() - before) / 2);
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    let length = i32::try_from(length).expect("names and partition counts are small");
    bytes.extend_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flumen_protocol::ids::NodeId;

    use super::*;
    use crate::metadata::controller::Controller;
    use crate::metadata::image::{Broker, Placement};
    use crate::metadata::record::MetadataRecord;

    /// The numbers are those of Kafka 4.1.2's own functions for the same topics and brokers.
    #[test]
    fn hashes_are_kafkas() {
        let mut controller = Controller::new();
        let broker = |id, rack: Option<&str>| {
            let rack = rack.map(str::to_owned);
            MetadataRecord::Broker(Broker { id: NodeId(id), rack, endpoints: Vec::new() })
        };
        let topic = |id, name: &str, partitions| MetadataRecord::Topic {
            id: TopicId(id),
            name: name.to_owned(),
            partitions,
            configs: BTreeMap::new(),
        };
        let placed =
            |nodes: &[i32]| Placement { replicas: nodes.iter().copied().map(NodeId).collect() };
        let mut other = [0xff; 16];
        other[15] = 0xfe;
        for record in [
            broker(1, Some("rack-a")),
            broker(2, Some("rack-b")),
            broker(3, None),
            topic(
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
                "topic",
                vec![placed(&[1, 2]); 3],
            ),
            topic(other, "b", vec![placed(&[3])]),
        ] {
            controller.replay(&record).expect("a record that fits");
        }
        let image = controller.image();
        let hash = |name: &str| topic_hash(&image, image.topic_named(name).expect("a topic"));
        assert_eq!(hash("topic"), 6_788_916_070_404_579_679);
        assert_eq!(hash("b"), 6_522_537_628_625_719_198);
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            topics_hash(&image, names.iter())
        };
        assert_eq!(of(&["b", "gone", "topic"]), -5_283_859_615_755_808_184);
        assert_eq!(of(&["topic"]), 7_265_772_881_424_234_859);
        assert_eq!(of(&["gone"]), 0);
    }
}

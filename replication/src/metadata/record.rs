//! One change of the cluster, as it stands in the cluster's log.
//!
//! Does: name the changes, write each as the value of one record (the key is null) and read it
//! back.
//! Does not: say which changes are allowed or what follows from one; the controller does.
//! Invariants: what is read back equals what was written; a change of a newer version is told
//! apart from damage; nothing is read from bytes that were not verified.
//! Apart because these bytes outlive every version of the code.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use flumen_protocol::ids::{NodeId, TopicId};

use super::image::{Broker, Endpoint, Placement};
use super::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart, Quotas};
use crate::wire::metadata as wire;

/// One change of the cluster. Every record is complete in what it replaces, so that replaying it
/// needs nothing but the image before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// A topic was made.
    Topic {
        /// Its identity.
        id: TopicId,
        /// Its name.
        name: String,
        /// Where its partitions live, by number. Never empty.
        partitions: Vec<Placement>,
        /// Its own settings.
        configs: BTreeMap<String, String>,
    },
    /// A topic and its records are no more.
    TopicDeleted {
        /// Which.
        id: TopicId,
    },
    /// A topic's partitions are now these, and never fewer than before.
    Partitions {
        /// Which topic.
        id: TopicId,
        /// All its partitions, by number.
        partitions: Vec<Placement>,
    },
    /// A topic's own settings are now exactly these.
    TopicConfigs {
        /// Which topic.
        id: TopicId,
        /// The complete set.
        configs: BTreeMap<String, String>,
    },
    /// Producer ids were given out.
    ProducerIds {
        /// The first that was not.
        next: i64,
    },
    /// The settings that a node was given while running are now exactly these.
    BrokerConfigs {
        /// Which node; `None`: every node without a value of its own.
        node: Option<NodeId>,
        /// The complete set.
        configs: BTreeMap<String, String>,
    },
    /// The quotas of clients that an entity stands for are now exactly these.
    ClientQuotas {
        /// For whom.
        entity: QuotaEntity,
        /// The complete set.
        quotas: Quotas,
    },
    /// The settings that a group was given of its own are now exactly these.
    GroupConfigs {
        /// The group's id; never empty.
        group: String,
        /// The complete set.
        configs: BTreeMap<String, String>,
    },
    /// A feature of the cluster is at this level from now on.
    FeatureLevel {
        /// Which.
        name: String,
        /// The level; never negative.
        level: i16,
    },
    /// A node registered, with these addresses from now on.
    Broker(Broker),
}

/// Why a record of the cluster's log cannot be taken. Nothing was changed by it. Whoever loads
/// the log stops and keeps it as it is: a record left out would change all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes are no record: damage that the checksums below did not see, or our own bug.
    Rotten,
    /// A newer version wrote a kind of record this one does not know. Start that version again.
    Newer {
        /// The kind's number in `schema/metadata.fbs`.
        kind: u8,
    },
    /// A topic is made whose identity or name another one has.
    TopicTaken {
        /// The new one.
        id: TopicId,
    },
    /// The record is about a topic that is not there.
    TopicMissing {
        /// Which.
        id: TopicId,
    },
    /// A topic would lose partitions.
    PartitionsLost {
        /// Which topic.
        id: TopicId,
    },
    /// A newer version took a feature to a level this one does not know. Start that version again.
    FeatureBeyond {
        /// The level.
        level: i16,
    },
    /// Producer ids that were given out would be given out again.
    ProducerIdsReturn {
        /// What the record says comes next.
        next: i64,
        /// What comes next already.
        known: i64,
    },
}

impl MetadataRecord {
    /// The value of the Kafka record that says this.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::write(self)
    }

    /// Reads the value of a record of the cluster's log.
    ///
    /// # Errors
    /// [`RecordError::Rotten`] or [`RecordError::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let view = wire::record(bytes).ok_or(RecordError::Rotten)?;
        let kind = view.change_type();
        if kind.0 > wire::Change::ENUM_MAX {
            return Err(RecordError::Newer { kind: kind.0 });
        }
        read_topic_change(&view).or_else(|| read_other_change(&view)).ok_or(RecordError::Rotten)
    }
}

/// `None` where the record is about no topic, or rotten.
fn read_topic_change(view: &wire::RecordView<'_>) -> Option<MetadataRecord> {
    if let Some(made) = view.change_as_topic_created() {
        let name = (!made.name().is_empty()).then(|| made.name().to_owned())?;
        Some(MetadataRecord::Topic {
            id: read_topic_id(made.id().bytes())?,
            name,
            partitions: read_placements(made.partitions())?,
            configs: read_settings(made.settings())?,
        })
    } else if let Some(deleted) = view.change_as_topic_deleted() {
        Some(MetadataRecord::TopicDeleted { id: read_topic_id(deleted.id().bytes())? })
    } else if let Some(placed) = view.change_as_partitions_placed() {
        let id = read_topic_id(placed.id().bytes())?;
        Some(MetadataRecord::Partitions { id, partitions: read_placements(placed.partitions())? })
    } else if let Some(replaced) = view.change_as_settings_replaced() {
        let id = read_topic_id(replaced.id().bytes())?;
        Some(MetadataRecord::TopicConfigs { id, configs: read_settings(replaced.settings())? })
    } else {
        None
    }
}

/// `None` where the record is about neither producers nor nodes, groups, features nor quotas, or rotten.
fn read_other_change(view: &wire::RecordView<'_>) -> Option<MetadataRecord> {
    if let Some(taken) = view.change_as_producer_ids_taken() {
        (taken.next() > 0).then_some(MetadataRecord::ProducerIds { next: taken.next() })
    } else if let Some(registered) = view.change_as_broker_registered() {
        Some(MetadataRecord::Broker(read_broker(&registered)?))
    } else if let Some(set) = view.change_as_feature_level_set() {
        let sound = !set.name().is_empty() && set.level() >= 0;
        let (name, level) = (set.name().to_owned(), set.level());
        sound.then_some(MetadataRecord::FeatureLevel { name, level })
    } else if let Some(replaced) = view.change_as_broker_settings_replaced() {
        let node = match replaced.id() {
            EVERY_NODE => None,
            id => Some(read_node(id)?),
        };
        let configs = read_settings(replaced.settings())?;
        Some(MetadataRecord::BrokerConfigs { node, configs })
    } else if let Some(replaced) = view.change_as_client_quotas_replaced() {
        let entity = read_quota_entity(replaced.entity())?;
        Some(MetadataRecord::ClientQuotas { entity, quotas: read_quotas(replaced.quotas())? })
    } else if let Some(replaced) = view.change_as_group_settings_replaced() {
        let (group, configs) = (replaced.group().to_owned(), read_settings(replaced.settings())?);
        (!group.is_empty()).then_some(MetadataRecord::GroupConfigs { group, configs })
    } else {
        None
    }
}

/// What stands for every node where a node's number is expected.
pub(crate) const EVERY_NODE: i32 = -1;

fn read_topic_id(bytes: impl IntoIterator<Item = u8>) -> Option<TopicId> {
    let bytes: Vec<u8> = bytes.into_iter().collect();
    let id = TopicId(bytes.try_into().ok()?);
    (id != TopicId::ZERO && id != TopicId::METADATA).then_some(id)
}

fn read_node(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

fn read_placements(view: wire::PlacementsView<'_>) -> Option<Vec<Placement>> {
    let read = |replicas: Vec<NodeId>| (!replicas.is_empty()).then_some(Placement { replicas });
    let placements: Option<Vec<Placement>> = view
        .iter()
        .map(|placement| read(placement.replicas()?.iter().map(read_node).collect::<Option<_>>()?))
        .collect();
    placements.filter(|placements| !placements.is_empty())
}

fn read_settings(view: Option<wire::SettingsView<'_>>) -> Option<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for setting in view.iter().flatten() {
        let earlier = settings.insert(setting.name().to_owned(), setting.value().to_owned());
        if earlier.is_some() {
            return None;
        }
    }
    Some(settings)
}

fn read_quota_entity(view: wire::QuotaPartsView<'_>) -> Option<QuotaEntity> {
    let mut parts = BTreeMap::new();
    for part in view.iter() {
        let earlier = parts.insert(QuotaPart::named(part.kind())?, part.name().map(str::to_owned));
        if earlier.is_some() {
            return None;
        }
    }
    QuotaEntity::new(parts)
}

fn read_quotas(view: Option<wire::QuotaBoundsView<'_>>) -> Option<Quotas> {
    let mut quotas = Quotas::new();
    for quota in view.iter().flatten() {
        let bound = QuotaBound::new(quota.bound())?;
        if quotas.insert(QuotaKey::named(quota.key())?, bound).is_some() {
            return None;
        }
    }
    Some(quotas)
}

fn read_broker(view: &wire::BrokerRegistered<'_>) -> Option<Broker> {
    let endpoints = view.endpoints().iter().map(|endpoint| Endpoint {
        listener: endpoint.listener().to_owned(),
        host: endpoint.host().to_owned(),
        port: endpoint.port(),
    });
    Some(Broker {
        id: read_node(view.id())?,
        rack: view.rack().map(str::to_owned),
        endpoints: endpoints.collect(),
    })
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotten => write!(f, "a record of the cluster's log is damaged"),
            Self::Newer { kind } => write!(
                f,
                "a record of the cluster's log was written by a newer version (kind {kind}, this \
                 version knows kinds up to {}); start the newer version again",
                wire::Change::ENUM_MAX
            ),
            Self::TopicTaken { id } => {
                write!(f, "the cluster's log makes topic {id}, whose id or name is taken")
            }
            Self::TopicMissing { id } => {
                write!(f, "the cluster's log changes topic {id}, which does not exist")
            }
            Self::PartitionsLost { id } => {
                write!(f, "the cluster's log takes partitions away from topic {id}")
            }
            Self::FeatureBeyond { level } => write!(
                f,
                "the cluster's log takes a feature to level {level}, which this version does not \
                 know; start the newer version again"
            ),
            Self::ProducerIdsReturn { next, known } => write!(
                f,
                "the cluster's log would give out producer ids again: {next} after {known}"
            ),
        }
    }
}

impl std::error::Error for RecordError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn placement(nodes: &[i32]) -> Placement {
        Placement { replicas: nodes.iter().copied().map(NodeId).collect() }
    }

    fn endpoint(listener: &str, port: u16) -> Endpoint {
        Endpoint { listener: listener.to_owned(), host: "broker.example".to_owned(), port }
    }

    fn quotas(parts: &[(QuotaPart, Option<&str>)], count: usize) -> MetadataRecord {
        let parts = parts.iter().map(|(part, name)| (*part, name.map(str::to_owned)));
        let entity = QuotaEntity::new(parts.collect()).unwrap();
        let bound = QuotaBound::new(0.1).unwrap();
        let quotas = QuotaKey::ALL.into_iter().take(count).map(|key| (key, bound)).collect();
        MetadataRecord::ClientQuotas { entity, quotas }
    }

    fn samples() -> Vec<MetadataRecord> {
        let id = TopicId([7; 16]);
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let configs = BTreeMap::from([
            setting("cleanup.policy", "compact"),
            setting("message.timestamp.type", ""),
        ]);
        let partitions = vec![placement(&[1, 2, 3]), placement(&[2, 3, 1]), placement(&[3])];
        let endpoints = vec![endpoint("PLAINTEXT", 9092), endpoint("TLS", 65535)];
        vec![
            MetadataRecord::Topic {
                id,
                name: "orders".to_owned(),
                partitions: partitions.clone(),
                configs: configs.clone(),
            },
            MetadataRecord::Topic {
                id,
                name: "größer".to_owned(),
                partitions: vec![placement(&[0])],
                configs: BTreeMap::new(),
            },
            MetadataRecord::TopicDeleted { id },
            quotas(&[(QuotaPart::User, Some("größer")), (QuotaPart::ClientId, None)], 2),
            quotas(&[(QuotaPart::Ip, Some(""))], 0),
            MetadataRecord::Partitions { id, partitions },
            MetadataRecord::Partitions { id, partitions: vec![placement(&[1]); 10_000] },
            MetadataRecord::TopicConfigs { id, configs: configs.clone() },
            MetadataRecord::TopicConfigs { id, configs: BTreeMap::new() },
            MetadataRecord::ProducerIds { next: 1 },
            MetadataRecord::ProducerIds { next: i64::MAX },
            MetadataRecord::BrokerConfigs { node: None, configs: configs.clone() },
            MetadataRecord::BrokerConfigs { node: Some(NodeId(0)), configs: BTreeMap::new() },
            MetadataRecord::GroupConfigs { group: "g".to_owned(), configs: configs.clone() },
            MetadataRecord::GroupConfigs { group: "g".to_owned(), configs: BTreeMap::new() },
            MetadataRecord::FeatureLevel { name: "metadata.version".to_owned(), level: 27 },
            MetadataRecord::FeatureLevel { name: "x".to_owned(), level: 0 },
            MetadataRecord::Broker(Broker { id: NodeId(0), rack: None, endpoints: Vec::new() }),
            MetadataRecord::Broker(Broker {
                id: NodeId(i32::MAX),
                rack: Some(String::new()),
                endpoints,
            }),
        ]
    }

    #[test]
    fn what_is_read_back_equals_what_was_written_wherever_it_lies_in_memory() {
        for record in samples() {
            let bytes = record.encode();
            for shift in 0..8 {
                let mut shifted = vec![0; shift];
                shifted.extend_from_slice(&bytes);
                assert_eq!(MetadataRecord::decode(&shifted[shift..]), Ok(record.clone()));
            }
        }
    }

    #[test]
    fn rotten_bytes_never_panic_and_cut_ones_are_never_taken_for_something_else() {
        for record in samples() {
            let bytes = record.encode();
            if bytes.len() > 4096 {
                continue;
            }
            for end in 0..bytes.len() {
                let cut = MetadataRecord::decode(&bytes[..end]);
                assert!(cut.is_err() || cut.as_ref() == Ok(&record), "cut to {end}: {cut:?}");
            }
            for place in 0..bytes.len() {
                for flip in [0x01, 0x10, 0x80, 0xff] {
                    let mut rotten = bytes.to_vec();
                    rotten[place] ^= flip;
                    drop(MetadataRecord::decode(&rotten));
                }
            }
        }
    }

    #[test]
    fn noise_behind_the_right_mark_never_panics() {
        let mut dice = Dice::new(11);
        for length in 0..2000 {
            let mut noise: Vec<u8> = (0..length % 300).map(|_| dice.draw() as u8).collect();
            if noise.len() >= 8 {
                noise[1..4].fill(0);
                noise[4..8].copy_from_slice(b"FLMR");
            }
            assert!(MetadataRecord::decode(&noise).is_err());
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_told_apart_from_damage() {
        let record = MetadataRecord::ProducerIds { next: 5 };
        let bytes = record.encode();
        let known = wire::Change::ProducerIdsTaken.0;
        let place = (8..bytes.len())
            .filter(|place| bytes[*place] == known)
            .find(|place| {
                let mut newer = bytes.to_vec();
                newer[*place] = 200;
                MetadataRecord::decode(&newer) == Err(RecordError::Newer { kind: 200 })
            })
            .expect("the kind lies somewhere");
        let mut none = bytes.to_vec();
        none[place] = 0;
        assert_eq!(MetadataRecord::decode(&none), Err(RecordError::Rotten));
        let message = RecordError::Newer { kind: 200 }.to_string();
        assert!(message.contains("written by a newer version"), "{message}");
    }

    #[test]
    fn fields_that_verify_but_make_no_sense_are_refused() {
        let id = TopicId([7; 16]);
        let senseless = [
            MetadataRecord::TopicDeleted { id: TopicId::ZERO },
            MetadataRecord::TopicDeleted { id: TopicId::METADATA },
            MetadataRecord::Partitions { id, partitions: Vec::new() },
            MetadataRecord::Partitions { id, partitions: vec![placement(&[])] },
            MetadataRecord::Partitions { id, partitions: vec![placement(&[-1])] },
            MetadataRecord::ProducerIds { next: 0 },
            MetadataRecord::BrokerConfigs { node: Some(NodeId(-2)), configs: BTreeMap::new() },
            MetadataRecord::FeatureLevel { name: String::new(), level: 1 },
            MetadataRecord::FeatureLevel { name: "x".to_owned(), level: -1 },
            MetadataRecord::Topic {
                id,
                name: String::new(),
                partitions: vec![placement(&[1])],
                configs: BTreeMap::new(),
            },
        ];
        for record in senseless {
            let read = MetadataRecord::decode(&record.encode());
            assert_eq!(read, Err(RecordError::Rotten), "{record:?}");
        }
    }
}

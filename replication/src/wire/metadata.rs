//! The records of the cluster's log as FlatBuffers.
//!
//! Does: verify a record's bytes before handing out a view, and build bytes from a record.
//! Does not: judge what the fields say; [`crate::metadata::record`] does.
//! Invariants: a view is only had of bytes that verify and whose unfolded size is in proportion
//! to their length, so that reading one cannot need more memory than a small multiple of it.
//! Apart because it follows `schema/metadata.fbs` and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, VerifierOptions, WIPOffset,
};
use flumen_protocol::ids::TopicId;

use super::generated::metadata_generated as schema;
use crate::metadata::image::{Broker, Placement};
use crate::metadata::quota::{QuotaEntity, Quotas};
use crate::metadata::record::{EVERY_NODE, MetadataRecord};

pub(crate) use schema::{BrokerRegistered, Change, MetadataRecord as RecordView};

/// A list of tables as it is written.
pub(crate) type Tables<'a, T> = Vector<'a, ForwardsUOffset<T>>;
/// Placements as they are written.
pub(crate) type PlacementsView<'a> = Tables<'a, schema::Placement<'a>>;
/// The parts of an entity as they are written.
pub(crate) type QuotaPartsView<'a> = Tables<'a, schema::QuotaPart<'a>>;
/// Quotas as they are written.
pub(crate) type QuotaBoundsView<'a> = Tables<'a, schema::QuotaBound<'a>>;
/// Settings as they are written.
pub(crate) type SettingsView<'a> = Tables<'a, schema::Setting<'a>>;

type Builder = FlatBufferBuilder<'static>;
type Written<T> = WIPOffset<T>;
type WrittenTables<T> = WIPOffset<Vector<'static, ForwardsUOffset<T>>>;

/// A view of a record, if the bytes are one.
pub(crate) fn record(bytes: &[u8]) -> Option<RecordView<'_>> {
    // A table takes at least eight bytes with the offset that leads to it. What we write unfolds
    // to at most three times its length, since tables share their descriptions.
    let options = VerifierOptions {
        max_tables: bytes.len() / 8 + 1,
        max_apparent_size: 4 * bytes.len(),
        ..Default::default()
    };
    if bytes.len() < 8 || !schema::metadata_record_buffer_has_identifier(bytes) {
        return None;
    }
    schema::root_as_metadata_record_with_opts(&options, bytes).ok()
}

/// A record as bytes.
pub(crate) fn write(record: &MetadataRecord) -> Bytes {
    let mut builder = Builder::new();
    let (change_type, change) = write_change(&mut builder, record);
    let args = schema::MetadataRecordArgs { change_type, change: Some(change) };
    let root = schema::MetadataRecord::create(&mut builder, &args);
    schema::finish_metadata_record_buffer(&mut builder, root);
    Bytes::copy_from_slice(builder.finished_data())
}

fn write_change(
    builder: &mut Builder,
    record: &MetadataRecord,
) -> (Change, Written<UnionWIPOffset>) {
    match record {
        MetadataRecord::Topic { id, name, partitions, configs } => {
            let id = &topic_id(*id);
            let name = builder.create_string(name);
            let partitions = write_placements(builder, partitions);
            let settings = write_settings(builder, configs);
            let args = schema::TopicCreatedArgs {
                id: Some(id),
                name: Some(name),
                partitions: Some(partitions),
                settings: Some(settings),
            };
            let change = schema::TopicCreated::create(builder, &args);
            (Change::TopicCreated, change.as_union_value())
        }
        MetadataRecord::TopicDeleted { id } => {
            let args = schema::TopicDeletedArgs { id: Some(&topic_id(*id)) };
            let change = schema::TopicDeleted::create(builder, &args);
            (Change::TopicDeleted, change.as_union_value())
        }
        MetadataRecord::Partitions { id, partitions } => {
            let partitions = Some(write_placements(builder, partitions));
            let args = schema::PartitionsPlacedArgs { id: Some(&topic_id(*id)), partitions };
            let change = schema::PartitionsPlaced::create(builder, &args);
            (Change::PartitionsPlaced, change.as_union_value())
        }
        MetadataRecord::TopicConfigs { id, configs } => {
            let settings = Some(write_settings(builder, configs));
            let args = schema::SettingsReplacedArgs { id: Some(&topic_id(*id)), settings };
            let change = schema::SettingsReplaced::create(builder, &args);
            (Change::SettingsReplaced, change.as_union_value())
        }
        MetadataRecord::ProducerIds { next } => {
            let args = schema::ProducerIdsTakenArgs { next: *next };
            let change = schema::ProducerIdsTaken::create(builder, &args);
            (Change::ProducerIdsTaken, change.as_union_value())
        }
        MetadataRecord::BrokerConfigs { node, configs } => {
            let id = node.map_or(EVERY_NODE, |node| node.0);
            let settings = Some(write_settings(builder, configs));
            let args = schema::BrokerSettingsReplacedArgs { id, settings };
            let change = schema::BrokerSettingsReplaced::create(builder, &args);
            (Change::BrokerSettingsReplaced, change.as_union_value())
        }
        MetadataRecord::ClientQuotas { entity, quotas } => {
            (Change::ClientQuotasReplaced, write_quotas(builder, entity, quotas).as_union_value())
        }
        MetadataRecord::GroupConfigs { group, configs } => {
            let group = Some(builder.create_string(group));
            let settings = Some(write_settings(builder, configs));
            let args = schema::GroupSettingsReplacedArgs { group, settings };
            let change = schema::GroupSettingsReplaced::create(builder, &args);
            (Change::GroupSettingsReplaced, change.as_union_value())
        }
        MetadataRecord::FeatureLevel { name, level } => {
            let name = Some(builder.create_string(name));
            let args = schema::FeatureLevelSetArgs { name, level: *level };
            let change = schema::FeatureLevelSet::create(builder, &args);
            (Change::FeatureLevelSet, change.as_union_value())
        }
        MetadataRecord::Broker(broker) => {
            (Change::BrokerRegistered, write_broker(builder, broker).as_union_value())
        }
    }
}

fn topic_id(id: TopicId) -> schema::TopicId {
    schema::TopicId::new(&id.0)
}

fn write_placements(
    builder: &mut Builder,
    placements: &[Placement],
) -> WrittenTables<schema::Placement<'static>> {
    let written: Vec<_> = placements
        .iter()
        .map(|placement| {
            let nodes = placement.replicas.iter().map(|node| node.0);
            let replicas = Some(builder.create_vector_from_iter(nodes));
            schema::Placement::create(builder, &schema::PlacementArgs { replicas })
        })
        .collect();
    builder.create_vector(&written)
}

fn write_settings(
    builder: &mut Builder,
    configs: &BTreeMap<String, String>,
) -> WrittenTables<schema::Setting<'static>> {
    let written: Vec<_> = configs
        .iter()
        .map(|(name, value)| {
            let name = Some(builder.create_string(name));
            let value = Some(builder.create_string(value));
            schema::Setting::create(builder, &schema::SettingArgs { name, value })
        })
        .collect();
    builder.create_vector(&written)
}

fn write_quotas(
    builder: &mut Builder,
    entity: &QuotaEntity,
    quotas: &Quotas,
) -> Written<schema::ClientQuotasReplaced<'static>> {
    let parts: Vec<_> = entity
        .parts()
        .map(|(part, name)| {
            let kind = Some(builder.create_string(part.name()));
            let name = name.map(|name| builder.create_string(name));
            schema::QuotaPart::create(builder, &schema::QuotaPartArgs { kind, name })
        })
        .collect();
    let bounds: Vec<_> = quotas
        .iter()
        .map(|(key, bound)| {
            let key = Some(builder.create_string(key.name()));
            let args = schema::QuotaBoundArgs { key, bound: bound.get() };
            schema::QuotaBound::create(builder, &args)
        })
        .collect();
    let entity = Some(builder.create_vector(&parts));
    let quotas = Some(builder.create_vector(&bounds));
    let args = schema::ClientQuotasReplacedArgs { entity, quotas };
    schema::ClientQuotasReplaced::create(builder, &args)
}

fn write_broker(builder: &mut Builder, broker: &Broker) -> Written<BrokerRegistered<'static>> {
    let written: Vec<_> = broker
        .endpoints
        .iter()
        .map(|endpoint| {
            let listener = Some(builder.create_string(&endpoint.listener));
            let host = Some(builder.create_string(&endpoint.host));
            let args = schema::EndpointArgs { listener, host, port: endpoint.port };
            schema::Endpoint::create(builder, &args)
        })
        .collect();
    let endpoints = Some(builder.create_vector(&written));
    let rack = broker.rack.as_ref().map(|rack| builder.create_string(rack));
    let args = schema::BrokerRegisteredArgs { id: broker.id.0, rack, endpoints };
    BrokerRegistered::create(builder, &args)
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::NodeId;

    use super::*;
    use crate::metadata::image::Endpoint;

    #[test]
    fn a_small_buffer_that_unfolds_into_a_huge_record_is_refused() {
        let mut builder = Builder::new();
        let replicas = Some(builder.create_vector(&[1; 1000]));
        let one = schema::Placement::create(&mut builder, &schema::PlacementArgs { replicas });
        let partitions = Some(builder.create_vector(&vec![one; 1000]));
        let args =
            schema::PartitionsPlacedArgs { id: Some(&topic_id(TopicId([7; 16]))), partitions };
        let change = schema::PartitionsPlaced::create(&mut builder, &args).as_union_value();
        let change_type = Change::PartitionsPlaced;
        let args = schema::MetadataRecordArgs { change_type, change: Some(change) };
        let root = schema::MetadataRecord::create(&mut builder, &args);
        schema::finish_metadata_record_buffer(&mut builder, root);
        let bytes = builder.finished_data();
        assert!(schema::root_as_metadata_record(bytes).is_ok(), "each of its parts is in order");
        assert!(record(bytes).is_none());
    }

    #[test]
    fn records_of_ten_thousand_tiny_parts_are_in_proportion() {
        let id = TopicId([7; 16]);
        let partitions = vec![Placement { replicas: vec![NodeId(1)] }; 10_000];
        let configs = (0..10_000).map(|number: i32| (number.to_string(), String::new())).collect();
        let empty = Endpoint { listener: String::new(), host: String::new(), port: 0 };
        let endpoints = vec![empty; 10_000];
        let records = [
            MetadataRecord::Partitions { id, partitions },
            MetadataRecord::TopicConfigs { id, configs },
            MetadataRecord::Broker(Broker { id: NodeId(1), rack: None, endpoints }),
        ];
        for written in records {
            assert_eq!(MetadataRecord::decode(&written.encode()), Ok(written));
        }
    }
}

//! The generated FlatBuffers code and the few conversions that touch it.
//!
//! Does: verify bytes before handing out a view of them, and build bytes from plain parts.
//! Does not: judge what the fields say; the files that own the meaning do.
//! Invariants: nothing outside reads a buffer that was not verified; `generated/` is written by
//! flatc from `schema/`, never by hand.
//! Apart because generated code contains `unsafe` and must have as few callers as possible.

#[allow(unsafe_code, missing_docs, clippy::all, unused_qualifications, dead_code)]
#[rustfmt::skip]
mod generated {
    pub mod metadata_generated;
    pub mod partition_generated;
}

pub(crate) mod metadata;

use bytes::Bytes;
use flatbuffers::{FlatBufferBuilder, VerifierOptions};
use generated::partition_generated as partition;
pub(crate) use partition::{EndedTransaction, EpochStart, PartitionState, Producer, ProducerBatch};

use crate::limits::STATE_BYTES_MAX;

/// A producer before it is written.
pub(crate) struct ProducerParts {
    pub id: i64,
    pub epoch: i16,
    pub batches: Vec<ProducerBatch>,
    pub coordinator_epoch: i32,
    pub open_since: i64,
    pub marker_offset: i64,
    pub last_timestamp: i64,
    pub forgotten_records: u32,
}

/// A view of a partition's state, if the bytes are one.
pub(crate) fn partition_state(bytes: &[u8]) -> Option<PartitionState<'_>> {
    // One table per producer: as many as fit.
    let options = VerifierOptions { max_tables: STATE_BYTES_MAX / 16, ..Default::default() };
    if bytes.len() < 8 || !partition::partition_state_buffer_has_identifier(bytes) {
        return None;
    }
    partition::root_as_partition_state_with_opts(&options, bytes).ok()
}

/// A partition's state as bytes.
pub(crate) fn write_partition_state(
    end_offset: i64,
    epochs: Vec<EpochStart>,
    producers: impl Iterator<Item = ProducerParts>,
    ended: Vec<EndedTransaction>,
) -> Bytes {
    let mut builder = FlatBufferBuilder::new();
    let producers: Vec<_> = producers
        .map(|parts| {
            let batches = Some(builder.create_vector(&parts.batches));
            let args = partition::ProducerArgs {
                id: parts.id,
                epoch: parts.epoch,
                batches,
                coordinator_epoch: parts.coordinator_epoch,
                open_since: parts.open_since,
                marker_offset: parts.marker_offset,
                last_timestamp: parts.last_timestamp,
                forgotten_records: parts.forgotten_records,
            };
            Producer::create(&mut builder, &args)
        })
        .collect();
    let producers = Some(builder.create_vector(&producers));
    let epochs = Some(builder.create_vector(&epochs));
    // Left out where there is none: most logs have no transactions.
    let ended = (!ended.is_empty()).then(|| builder.create_vector(&ended));
    let args = partition::PartitionStateArgs { end_offset, epochs, producers, ended };
    let root = PartitionState::create(&mut builder, &args);
    partition::finish_partition_state_buffer(&mut builder, root);
    Bytes::copy_from_slice(builder.finished_data())
}

/// A control entry that deletes the records below `before`.
pub(crate) fn write_delete_records(before: i64) -> Bytes {
    let mut builder = FlatBufferBuilder::new();
    let args = partition::DeleteRecordsArgs { before };
    let command = Some(partition::DeleteRecords::create(&mut builder, &args).as_union_value());
    let command_type = partition::Command::DeleteRecords;
    let args = partition::ControlArgs { command_type, command };
    let root = partition::Control::create(&mut builder, &args);
    builder.finish(root, None);
    Bytes::copy_from_slice(builder.finished_data())
}

/// The offset a control entry deletes up to, if the bytes are such an entry.
pub(crate) fn delete_records(bytes: &[u8]) -> Option<i64> {
    let control = flatbuffers::root::<partition::Control<'_>>(bytes).ok()?;
    Some(control.command_as_delete_records()?.before())
}

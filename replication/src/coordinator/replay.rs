//! Reads a coordinator's log back into its machine.
//!
//! Does: check each batch, hand each record over, with the transaction it is part of, and each end of
//! a transaction.
//! Does not: know what records mean.
//! Invariants: nothing is handed over from a batch that is damaged.
//! Apart from the runtime because it is all that is known of the log's bytes.

use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::ids::Offset;

use super::machine::{Machine, ReplayError};
use super::producer::Outcome;
use crate::limits::COORDINATOR_BATCH_BYTES_MAX;

/// Replays whole batches that lie back to back.
///
/// # Errors
/// When they are damaged or not what a coordinator writes.
pub(super) fn replay_all<M: Machine>(machine: &mut M, bytes: &[u8]) -> Result<(), ReplayError> {
    let mut expected = Offset::ZERO;
    for batch in batches(bytes) {
        let batch = batch.map_err(|_| ReplayError::Batch { offset: expected })?;
        let offset = batch.header.base_offset;
        if !verify_crc(batch.bytes) {
            return Err(ReplayError::Batch { offset });
        }
        let is_within = batch.header.is_transactional() && !batch.header.is_control();
        if is_within && !M::HAS_TRANSACTIONS {
            return Err(ReplayError::Transactional { offset });
        }
        replay_batch(machine, &batch.header, batch.bytes)?;
        expected = batch.header.last_offset().after(1);
    }
    Ok(())
}

fn replay_batch<M: Machine>(
    machine: &mut M,
    header: &BatchHeader,
    bytes: &[u8],
) -> Result<(), ReplayError> {
    if header.is_control() {
        // Kinds of control records that are not known end no transaction.
        if let Some(marker) = EndMarker::read(bytes) {
            let outcome = if marker.commit { Outcome::Commit } else { Outcome::Abort };
            machine.ended(header.producer_id, outcome);
        }
        return Ok(());
    }
    let damaged = ReplayError::Batch { offset: header.base_offset };
    let within = header.is_transactional().then_some(header.producer_id);
    let records = records(bytes, COORDINATOR_BATCH_BYTES_MAX).map_err(|_| damaged.clone())?;
    for record in &records {
        let record = record.map_err(|_| damaged.clone())?;
        let key = record.key.ok_or_else(|| damaged.clone())?;
        machine.replay(within, key, record.value)?;
    }
    Ok(())
}

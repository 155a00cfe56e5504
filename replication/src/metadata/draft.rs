//! The records a command leads to, while it is being decided.
//!
//! Does: collect them, and keep the whole of them within limits.
//! Does not: know what they say.
//! Invariants: records only of items that were admitted, in the command's order; never more than
//! one batch takes.
//! Apart because every command with several items needs it and none may go around it.

use super::command::{MetadataRefusal, MetadataRule};
use super::record::MetadataRecord;
use crate::limits::{CLUSTER_PARTITIONS_MAX, COMMAND_BYTES_MAX, COMMAND_PARTITIONS_MAX};

/// Records in the making.
pub(super) struct Draft {
    validate_only: bool,
    records: Vec<MetadataRecord>,
    bytes: usize,
    /// An item was refused for its bytes. Later ones are refused at once, smaller or not: the
    /// work for a hostile request stays in proportion to what is let through.
    full: bool,
    /// Partitions asked for by this command.
    asked: usize,
    /// Partitions in the cluster before this command.
    standing: usize,
}

impl Draft {
    /// Begins, in a cluster of so many partitions. With `validate_only` all is judged the same,
    /// and nothing comes of it.
    pub fn new(standing: usize, validate_only: bool) -> Self {
        Self { validate_only, records: Vec::new(), bytes: 0, full: false, asked: 0, standing }
    }

    /// Asks for room for more partitions, before they are thought about any further.
    ///
    /// # Errors
    /// [`MetadataRule::TooMuch`].
    pub fn ask_partitions(&mut self, count: usize) -> Result<(), MetadataRefusal> {
        self.check_full()?;
        let asked = self.asked.saturating_add(count);
        if asked > COMMAND_PARTITIONS_MAX {
            return Err(too_much(format!(
                "This request asks for more than {COMMAND_PARTITIONS_MAX} new partitions; ask in \
                 several requests."
            )));
        }
        if asked > CLUSTER_PARTITIONS_MAX.saturating_sub(self.standing) {
            return Err(too_much(format!(
                "The cluster has {} partitions and takes at most {CLUSTER_PARTITIONS_MAX}.",
                self.standing
            )));
        }
        self.asked = asked;
        Ok(())
    }

    /// Takes the record of one item.
    ///
    /// # Errors
    /// [`MetadataRule::TooMuch`].
    pub fn admit(&mut self, record: MetadataRecord) -> Result<(), MetadataRefusal> {
        self.check_full()?;
        let bytes = self.bytes + record.encode().len();
        self.full = bytes > COMMAND_BYTES_MAX;
        self.check_full()?;
        self.bytes = bytes;
        if !self.validate_only {
            self.records.push(record);
        }
        Ok(())
    }

    /// What there is to append.
    pub fn into_records(self) -> Vec<MetadataRecord> {
        assert!(!self.validate_only || self.records.is_empty(), "validation leaves no records");
        assert!(self.bytes <= COMMAND_BYTES_MAX, "one batch takes all records");
        self.records
    }

    fn check_full(&self) -> Result<(), MetadataRefusal> {
        if self.full {
            return Err(too_much(format!(
                "This request changes more than {COMMAND_BYTES_MAX} bytes of metadata; ask in \
                 several requests."
            )));
        }
        Ok(())
    }
}

fn too_much(message: String) -> MetadataRefusal {
    MetadataRefusal { kind: MetadataRule::TooMuch, message }
}

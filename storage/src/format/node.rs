//! Who owns a data folder: the node record, and the identity every file can be held against.
//!
//! Does: encode, decode and compare identities; refuse what is foreign or too new (D19).
//! Does not: read or write the file; two alternating slots are laid out by [`crate::format::slots`].
//! Invariants: cluster and node never change in the life of a folder; the incarnation only grows.
//! Apart because a node that serves somebody else's data, or forgets that it lost its own, breaks
//! promises no other check can catch (D20).

use flumen_protocol::ids::{CoreId, NodeId};

use crate::error::StorageError;
use crate::format::frame::{u32_at, u64_at};
use crate::format::slots::{self, Found, SlotWrite};
use crate::op::FileName;

/// Bytes of an encoded identity.
pub const IDENTITY_BYTES: usize = 32;
/// How a node record begins.
pub const NODE_MAGIC: [u8; 4] = *b"FLMN";
/// The version written and the newest one read. It is the version of the whole folder: a change
/// of any file's format that older programs cannot read raises it.
pub const NODE_VERSION: u16 = 1;
/// Where each field of the record's body lies: offset, bytes, name.
pub const NODE_LAYOUT: [(usize, usize, &str); 5] = [
    (0, 16, "cluster id"),
    (16, 4, "node id"),
    (20, 2, "core count"),
    (22, 2, "1 while the manifests under `moving` replace those of the cores, else 0"),
    (24, 8, "incarnation"),
];

/// Where the record's body says that a change of the number of cores is being carried out.
const TAKING_OVER_AT: usize = 22;

/// Who a core's files belong to (D19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The node.
    pub node: NodeId,
    /// The core whose journal it is.
    pub core: CoreId,
    /// Which life of the node: grows whenever its data folder is made anew (D20).
    pub incarnation: u64,
}

impl Identity {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut out = [0; IDENTITY_BYTES];
        out[..16].copy_from_slice(&self.cluster);
        out[16..20].copy_from_slice(&self.node.0.to_le_bytes());
        out[20..22].copy_from_slice(&self.core.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.incarnation.to_le_bytes());
        out
    }

    /// Reads it back; `None` if there are too few bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..IDENTITY_BYTES)?;
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&bytes[..16]);
        Some(Self {
            cluster,
            node: NodeId(u32_at(bytes, 16) as i32),
            core: CoreId(u16::from_le_bytes([bytes[20], bytes[21]])),
            incarnation: u64_at(bytes, 24),
        })
    }

    /// A number that differs between any two owners, for the use ids of journal files (FNV-1a).
    /// Not secret: it tells mistakes apart, not attackers.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.encode().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Checks that `found`, read from `file`, is this owner.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] with the first part that differs and both values.
    pub fn check(&self, found: &Self, file: FileName) -> Result<(), StorageError> {
        let foreign = |what: String| Err(StorageError::Foreign { file, what });
        if self.cluster != found.cluster {
            let (ours, theirs) = (hex(&self.cluster), hex(&found.cluster));
            return foreign(format!("cluster id {theirs}, expected {ours}"));
        }
        if self.node != found.node {
            return foreign(format!("node id {}, expected {}", found.node, self.node));
        }
        if self.incarnation != found.incarnation {
            let (theirs, ours) = (found.incarnation, self.incarnation);
            return foreign(format!("incarnation {theirs}, expected {ours}"));
        }
        if self.core != found.core {
            return foreign(format!("core {}, expected {}", found.core, self.core));
        }
        Ok(())
    }
}

/// The node record: one per data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The node.
    pub node: NodeId,
    /// How many cores the partitions are spread over (D5).
    pub core_count: u16,
    /// Which life of the node.
    pub incarnation: u64,
    /// The manifests under `moving` are those of this record's cores, and what lies in the cores'
    /// own folders is of another number of cores: see [`crate::io::moving`].
    pub taking_over: bool,
}

impl NodeRecord {
    /// The record's bytes, to be written at the given place; `generation` one above the last.
    #[must_use]
    pub fn encode(&self, generation: u64) -> SlotWrite {
        let mut body = [0; IDENTITY_BYTES];
        body[..16].copy_from_slice(&self.cluster);
        body[16..20].copy_from_slice(&self.node.0.to_le_bytes());
        body[20..22].copy_from_slice(&self.core_count.to_le_bytes());
        body[TAKING_OVER_AT] = u8::from(self.taking_over);
        body[24..32].copy_from_slice(&self.incarnation.to_le_bytes());
        slots::encode(NODE_MAGIC, NODE_VERSION, generation, &body)
    }

    /// The newer readable copy and its generation; `None` if the file is empty.
    ///
    /// # Errors
    /// [`StorageError::NewerFormat`], or [`StorageError::Corrupt`] if neither copy is readable:
    /// the node must not vote or serve, it has to be made anew (D21).
    pub fn decode(file: &[u8]) -> Result<Option<(Self, u64)>, StorageError> {
        match slots::decode(NODE_MAGIC, NODE_VERSION, file) {
            Found::Nothing => Ok(None),
            Found::Newer(found) => {
                Err(StorageError::NewerFormat { file: FileName::Node, found, known: NODE_VERSION })
            }
            Found::Unreadable => Err(StorageError::Corrupt {
                file: FileName::Node,
                what: "neither of its two copies is readable".to_owned(),
            }),
            Found::Record { generation, body } => {
                let identity = Identity::decode(body).ok_or_else(|| StorageError::Corrupt {
                    file: FileName::Node,
                    what: "the record is too short".to_owned(),
                })?;
                let record = Self {
                    cluster: identity.cluster,
                    node: identity.node,
                    core_count: identity.core.0,
                    incarnation: identity.incarnation,
                    taking_over: body[TAKING_OVER_AT] != 0,
                };
                Ok(Some((record, generation)))
            }
        }
    }

    /// Refuses a folder of another cluster or node.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] with both values.
    pub fn check(&self, cluster: [u8; 16], node: NodeId) -> Result<(), StorageError> {
        let expected = Identity { cluster, node, ..self.identity(CoreId(0)) };
        expected.check(&self.identity(CoreId(0)), FileName::Node)
    }

    /// What the files of one core of this node are held against.
    #[must_use]
    pub fn identity(&self, core: CoreId) -> Identity {
        let Self { cluster, node, incarnation, core_count: _, taking_over: _ } = *self;
        Identity { cluster, node, core, incarnation }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: NodeRecord = NodeRecord {
        cluster: [3; 16],
        node: NodeId(4),
        core_count: 2,
        incarnation: 9,
        taking_over: false,
    };

    fn file_of(writes: &[SlotWrite]) -> Vec<u8> {
        let mut file = vec![0; slots::SLOT_FILE_BYTES as usize];
        for write in writes {
            file[write.at as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        file
    }

    #[test]
    fn the_newer_copy_counts_and_a_torn_one_leaves_the_older() {
        let newer = NodeRecord { core_count: 8, taking_over: true, ..RECORD };
        let mut file = file_of(&[RECORD.encode(1), newer.encode(2)]);
        assert_eq!(NodeRecord::decode(&file), Ok(Some((newer, 2))));
        let at = newer.encode(2).at as usize;
        file[at + 40] ^= 1;
        assert_eq!(NodeRecord::decode(&file), Ok(Some((RECORD, 1))));
    }

    #[test]
    fn two_unreadable_copies_are_not_an_empty_folder() {
        let mut file = file_of(&[RECORD.encode(1)]);
        let at = RECORD.encode(1).at as usize;
        file[at + 8] ^= 1;
        let refused = NodeRecord::decode(&file).expect_err("must be refused");
        assert!(matches!(refused, StorageError::Corrupt { file: FileName::Node, .. }));
        assert_eq!(NodeRecord::decode(&[]), Ok(None));
    }

    #[test]
    fn a_foreign_folder_is_refused_by_name() {
        assert_eq!(RECORD.check([3; 16], NodeId(4)), Ok(()));
        let refused = RECORD.check([3; 16], NodeId(5)).expect_err("another node");
        assert_eq!(
            refused.to_string(),
            "node record belongs to somebody else: node id 4, expected 5"
        );
        assert!(RECORD.check([4; 16], NodeId(4)).is_err());
    }
}

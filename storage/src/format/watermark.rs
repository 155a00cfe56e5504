//! The watermark: how far the journal was durable, kept beside it.
//!
//! Does: encode and decode the record that proves later that data existed (D4, D6, D18), and from
//! where on the journal is still needed.
//! Does not: decide when it is written; the journal does.
//! Invariants: `durable` and `floor` only grow; what it claims was true before it was written.
//! Apart because it must not share the fate of the files it speaks about.

use crate::error::StorageError;
use crate::format::frame::u64_at;
use crate::format::node::{IDENTITY_BYTES, Identity};
use crate::format::slots::{self, Found, SlotWrite};
use crate::op::FileName;

/// How a watermark begins.
pub const WATERMARK_MAGIC: [u8; 4] = *b"FLMW";
/// The version written and the newest one read.
pub const WATERMARK_VERSION: u16 = 1;
/// Size of the file.
pub const WATERMARK_FILE_BYTES: u64 = slots::SLOT_FILE_BYTES;
/// Where each field of the record's body lies: offset, bytes, name.
pub const WATERMARK_LAYOUT: [(usize, usize, &str); 5] = [
    (0, 32, "identity (cluster id, node id, core, incarnation)"),
    (32, 8, "highest durable sequence"),
    (40, 8, "first sequence still needed"),
    (48, 8, "highest use counter given out"),
    (56, 8, "highest manifest chunk known durable; records without it end before"),
];

/// How far a journal is durable and from where on it is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Which writing of the record this is; zero if it was never written.
    pub generation: u64,
    /// Every frame up to this sequence is durable.
    pub durable: u64,
    /// No frame before this sequence is needed.
    pub floor: u64,
    /// The highest use counter given out.
    pub counter: u64,
    /// The last chunk of the manifest known durable; zero if unknown.
    pub manifest: u64,
}

impl Watermark {
    /// Its bytes and their place in the file.
    #[must_use]
    pub fn encode(&self, identity: &Identity) -> SlotWrite {
        let mut body = [0; IDENTITY_BYTES + 32];
        body[..32].copy_from_slice(&identity.encode());
        body[32..40].copy_from_slice(&self.durable.to_le_bytes());
        body[40..48].copy_from_slice(&self.floor.to_le_bytes());
        body[48..56].copy_from_slice(&self.counter.to_le_bytes());
        body[56..64].copy_from_slice(&self.manifest.to_le_bytes());
        slots::encode(WATERMARK_MAGIC, WATERMARK_VERSION, self.generation, &body)
    }

    /// The newest readable watermark; `None` if there is none. Two unreadable copies are none as
    /// well: the journal's own frames carry watermarks, this one only sharpens them.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] or [`StorageError::NewerFormat`].
    pub fn decode(identity: &Identity, file: &[u8]) -> Result<Option<Self>, StorageError> {
        match slots::decode(WATERMARK_MAGIC, WATERMARK_VERSION, file) {
            Found::Nothing | Found::Unreadable => Ok(None),
            Found::Newer(found) => Err(StorageError::NewerFormat {
                file: FileName::Watermark,
                found,
                known: WATERMARK_VERSION,
            }),
            Found::Record { generation, body } => {
                let Some(owner) = Identity::decode(body).filter(|_| body.len() >= 56) else {
                    return Ok(None);
                };
                identity.check(&owner, FileName::Watermark)?;
                let (durable, floor) = (u64_at(body, 32), u64_at(body, 40));
                let manifest = if body.len() >= 64 { u64_at(body, 56) } else { 0 };
                let counter = u64_at(body, 48);
                Ok(Some(Self { generation, durable, floor, counter, manifest }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{CoreId, NodeId};

    use super::*;

    const OWNER: Identity =
        Identity { cluster: [1; 16], node: NodeId(1), core: CoreId(0), incarnation: 1 };

    #[test]
    fn a_watermark_comes_back_and_a_foreign_one_is_refused() {
        let watermark = Watermark { generation: 2, durable: 40, floor: 7, counter: 3, manifest: 5 };
        let write = watermark.encode(&OWNER);
        assert_eq!(write.at, 0);
        assert_eq!(Watermark::decode(&OWNER, &write.bytes), Ok(Some(watermark)));
        let other = Identity { incarnation: 2, ..OWNER };
        assert!(matches!(
            Watermark::decode(&other, &write.bytes),
            Err(StorageError::Foreign { file: FileName::Watermark, .. })
        ));
        assert_eq!(Watermark::decode(&OWNER, &[]), Ok(None));
    }
}

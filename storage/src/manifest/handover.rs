//! The logs of some cores on their way to another number of cores.
//!
//! Does: hold what a core's manifest says apart from the store, and write it as the manifests of
//! the cores that take over.
//! Does not: know which core owns which log, or touch files: `io/moving` switches from the old
//! manifests to the new ones.
//! Invariants: every log of the old cores is in exactly one new manifest, with all that was known
//! of it; segments lie in a common folder and are not touched.
//! Apart because it is the only place where what one core knew becomes another's.

use bytes::Bytes;
use flumen_protocol::ids::{CoreId, LogId};
use flumen_protocol::time::Wall;

use super::image::Image;
use super::manifest::whole_file;
use crate::error::StorageError;
use crate::format::node::NodeRecord;
use crate::limits::SMALL_FILE_BYTES_MAX;
use crate::op::FileName;

/// Everything one core had, when its journal held nothing that is not in segments.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Invariant: names no deleted logs and no void frames: there is no journal any more that could
    /// hold them, and the next one counts from one again.
    image: Image,
    /// The latest time the core's manifest was written at, or is to count as written at.
    written: Option<Wall>,
}

impl Handover {
    pub(crate) fn new(image: &Image, written: Option<Wall>) -> Self {
        let mut image = image.clone();
        image.deleted.clear();
        image.accepted.clear();
        image.logs.values_mut().for_each(|log| log.void = None);
        Self { image, written }
    }

    /// The logs, in order.
    pub fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.image.logs.keys().copied()
    }
}

/// The manifest files of the cores of `record`, by core, which together say what the old cores
/// handed over. `core_of` says which core owns a log when there are so many.
///
/// # Errors
/// [`StorageError::Corrupt`] if two old cores have the same log, or a manifest would be too large
/// to be read at start. Nothing may be changed then.
///
/// # Panics
/// When `core_of` names a core there is not.
pub fn spread(
    old: &[Handover],
    record: &NodeRecord,
    core_of: fn(LogId, u16) -> CoreId,
) -> Result<Vec<Bytes>, StorageError> {
    let mut images = vec![Image::default(); usize::from(record.core_count)];
    let place = |log: LogId| usize::from(core_of(log, record.core_count).0);
    for core in old {
        for (log, image) in &core.image.logs {
            if images[place(*log)].logs.insert(*log, image.clone()).is_some() {
                return Err(corrupt(format!("two cores have {log}")));
            }
        }
        for name in &core.image.condemned {
            images[place(name.log)].condemned.insert(*name);
        }
    }
    let doubted = old.iter().filter_map(|core| core.image.doubted).min();
    images.iter_mut().for_each(|image| image.doubted = doubted);
    let written = old.iter().filter_map(|core| core.written).max().unwrap_or(Wall(0));
    let cores = (0..record.core_count).map(CoreId);
    let files = cores.zip(&images).map(|(core, image)| {
        let file = whole_file(image, &record.identity(core), written);
        if file.len() as u64 > SMALL_FILE_BYTES_MAX {
            let bytes = file.len();
            return Err(corrupt(format!("core {core} would have {bytes} bytes of it, too many")));
        }
        Ok(file)
    });
    files.collect()
}

fn corrupt(what: String) -> StorageError {
    StorageError::Corrupt { file: FileName::Manifest, what }
}

#[cfg(test)]
mod tests;

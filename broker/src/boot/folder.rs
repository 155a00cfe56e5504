//! The data folder: taken, checked, recorded.
//!
//! Does: take the lock, read the node record, or make it for a new folder.
//! Does not: look at journals or segments.
//! Invariants: a folder of another cluster, node or newer format is refused before anything in
//! it is written; a new folder has an incarnation of its own, durable before the first core runs,
//! so that a node whose disk was wiped is never taken for the one it was.
//! Apart because it runs before any executor exists and uses plain files.
#![expect(clippy::disallowed_methods, reason = "runs before any core and uses plain files")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flumen_protocol::ids::{CoreId, NodeId, TopicId};
use flumen_replication::dice::Dice;
use flumen_storage::format::node::NodeRecord;
use flumen_storage::io::directory::{self, FolderLock};
use flumen_storage::op::FileName;
use tracing::{info, warn};

use crate::config::options::Options;

/// A data folder that belongs to this process.
pub struct Folder {
    /// Where it is.
    pub root: PathBuf,
    /// Whose it is, in this life of the node.
    pub record: NodeRecord,
    /// Held as long as the process lives.
    _lock: FolderLock,
}

impl Folder {
    /// The cluster's identity as clients see it.
    pub fn cluster_id(&self) -> String {
        // A cluster id is a UUID printed like a topic's.
        TopicId(self.record.cluster).to_string()
    }

    /// Size of the file system it lies on; `None` where that cannot be seen.
    pub fn file_system_bytes(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.root).ok()?;
        Some(space.f_blocks * space.f_frsize)
    }
}

/// Takes the data folder, making it if it is not there.
///
/// # Errors
/// What is wrong with it and what to do, for the operator.
pub fn take(options: &Options, cores: u16, dice: &mut Dice) -> Result<Folder, String> {
    let root = options.log_dir.clone();
    let say = |error: &dyn std::fmt::Display| format!("data folder {}: {error}", root.display());
    fs::create_dir_all(&root).map_err(|error| say(&error))?;
    let lock = directory::lock(&root).map_err(|error| say(&error))?;
    let path = directory::path_of(&root, CoreId(0), FileName::Node);
    let found = read_record(&path).map_err(|error| say(&error))?;
    let wanted_cluster = match &options.cluster_id {
        Some(text) => {
            let id = TopicId::parse(text).ok_or_else(|| {
                format!("flumen.cluster.id={text} is not a UUID in 22 characters of base64")
            })?;
            Some(id.0)
        }
        None => None,
    };
    let node = NodeId(options.node_id);
    let record = match found {
        Some((record, _)) => {
            let cluster = wanted_cluster.unwrap_or(record.cluster);
            record.check(cluster, node).map_err(|error| say(&error))?;
            record
        }
        None => {
            let cluster = wanted_cluster.unwrap_or_else(|| dice.uuid_bytes());
            NodeRecord { cluster, node, core_count: cores, incarnation: dice.draw() }
        }
    };
    if record.core_count != cores {
        warn!(
            recorded = record.core_count,
            cores, "this data folder is spread over another number of cores and keeps it"
        );
    }
    directory::prepare_root(&root, record.core_count).map_err(|error| say(&error))?;
    if found.is_none() {
        write_record(&path, &record).map_err(|error| say(&error))?;
    }
    info!(folder = %root.display(), cluster = %TopicId(record.cluster), "data folder taken");
    Ok(Folder { root, record, _lock: lock })
}

/// The generation of a new folder's record; a later change would count on from it.
const FIRST_GENERATION: u64 = 1;

fn read_record(path: &Path) -> Result<Option<(NodeRecord, u64)>, String> {
    match fs::read(path) {
        Ok(bytes) => NodeRecord::decode(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read the node record: {error}")),
    }
}

fn write_record(path: &Path, record: &NodeRecord) -> io::Result<()> {
    let slot = record.encode(FIRST_GENERATION);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(&slot.bytes, slot.at)?;
    file.sync_all()?;
    // The file's own entry must outlive a crash as well.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

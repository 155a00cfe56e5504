//! The data folder: taken, checked, recorded.
//!
//! Does: take the lock, read the node record, or make it for a new folder; finish a change of the
//! number of cores that a crash cut short, and switch to another number.
//! Does not: look at journals or segments.
//! Invariants: a folder of another cluster, node or newer format is refused before anything in
//! it is written; a new folder has an incarnation of its own, durable before the first core runs,
//! so that a node whose disk was wiped is never taken for the one it was.
//! Apart because it runs before any executor exists and uses plain files.
#![expect(clippy::disallowed_methods, reason = "runs before any core and uses plain files")]

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flumen_protocol::ids::{CoreId, NodeId, TopicId};
use flumen_replication::dice::Dice;
use flumen_storage::format::node::NodeRecord;
use flumen_storage::io::directory::{self, FolderLock};
use flumen_storage::io::moving;
use flumen_storage::op::FileName;
use tracing::info;

use crate::config::options::Options;

/// A data folder that belongs to this process.
pub struct Folder {
    /// Where it is.
    pub root: PathBuf,
    /// Whose it is, in this life of the node.
    pub record: NodeRecord,
    /// Of the record as it is on disk; every change of it counts on.
    generation: u64,
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

    /// Gives the folder another number of cores: one for each of these manifests, which together
    /// say all that its old cores had. A crash leaves either the old cores or the new ones; what
    /// is missing of them is made up for by the next [`take`].
    ///
    /// # Errors
    /// What the disk refused, for the operator.
    pub fn switch_cores(&mut self, manifests: &[Bytes]) -> Result<(), String> {
        let root = self.root.clone();
        let say = |error: &dyn Display| format!("data folder {}: {error}", root.display());
        moving::stage(&root, manifests).map_err(|error| say(&error))?;
        let core_count = u16::try_from(manifests.len()).expect("a count of cores");
        let switched = NodeRecord { core_count, taking_over: true, ..self.record };
        self.write(switched).map_err(|error| say(&error))?;
        self.finish_switch()
    }

    /// Does what is left to do of a change of the number of cores; nothing if there was none.
    fn finish_switch(&mut self) -> Result<(), String> {
        let root = self.root.clone();
        let say = |error: &dyn Display| format!("data folder {}: {error}", root.display());
        if !self.record.taking_over {
            return moving::discard(&root).map_err(|error| say(&error));
        }
        info!(cores = self.record.core_count, "the cores' folders are being exchanged");
        // What was read may not be durable yet, and what follows cannot be taken back.
        let synced = File::open(record_path(&root)).and_then(|file| file.sync_all());
        synced.map_err(|error| say(&error))?;
        moving::take_over(&root, self.record.core_count).map_err(|error| say(&error))?;
        let finished = NodeRecord { taking_over: false, ..self.record };
        self.write(finished).map_err(|error| say(&error))
    }

    fn write(&mut self, record: NodeRecord) -> io::Result<()> {
        let generation = self.generation + 1;
        write_record(&record_path(&self.root), &record, generation)?;
        (self.record, self.generation) = (record, generation);
        Ok(())
    }
}

/// Takes the data folder, making it if it is not there.
///
/// # Errors
/// What is wrong with it and what to do, for the operator.
pub fn take(options: &Options, cores: u16, dice: &mut Dice) -> Result<Folder, String> {
    let root = options.log_dir.clone();
    let say = |error: &dyn Display| format!("data folder {}: {error}", root.display());
    fs::create_dir_all(&root).map_err(|error| say(&error))?;
    let lock = directory::lock(&root).map_err(|error| say(&error))?;
    let path = record_path(&root);
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
    let (record, generation) = match found {
        Some((record, generation)) => {
            let cluster = wanted_cluster.unwrap_or(record.cluster);
            record.check(cluster, node).map_err(|error| say(&error))?;
            (record, generation)
        }
        None => {
            let cluster = wanted_cluster.unwrap_or_else(|| dice.uuid_bytes());
            let incarnation = dice.draw();
            let taking_over = false;
            (NodeRecord { cluster, node, core_count: cores, incarnation, taking_over }, 0)
        }
    };
    let mut folder = Folder { root: root.clone(), record, generation, _lock: lock };
    folder.finish_switch()?;
    directory::prepare_root(&root, record.core_count).map_err(|error| say(&error))?;
    if found.is_none() {
        folder.write(record).map_err(|error| say(&error))?;
    }
    info!(folder = %root.display(), cluster = %folder.cluster_id(), "data folder taken");
    Ok(folder)
}

fn record_path(root: &Path) -> PathBuf {
    directory::path_of(root, CoreId(0), FileName::Node)
}

fn read_record(path: &Path) -> Result<Option<(NodeRecord, u64)>, String> {
    match fs::read(path) {
        Ok(bytes) => NodeRecord::decode(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read the node record: {error}")),
    }
}

fn write_record(path: &Path, record: &NodeRecord, generation: u64) -> io::Result<()> {
    let slot = record.encode(generation);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(&slot.bytes, slot.at)?;
    file.sync_all()?;
    // The file's own entry must outlive a crash as well.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

//! Loading a log of this core into the state machine that lives on it.
//!
//! Does: read a log from its start to where it ended when it was to be loaded, chunk by chunk and once
//! all of that is committed, into the controller or a coordinator.
//! Does not: know what the records mean.
//! Invariants: at most one load per log; what is appended during a load lies behind its end and
//! reaches the machine on its own way.
//! Apart because both machines are loaded alike, and a long log must not hold a turn.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{LeaderEpoch, LogId, Offset};
use flumen_replication::partition::{Isolation, OffsetSpec};
use flumen_storage::answers::{ReadAnswer, ReadError, ReadRequest};
use flumen_storage::error::StorageError;
use tracing::{debug, error, warn};

use super::effect::Effect;
use super::partitions::METADATA_REMEDY;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::{LOAD_RETRY, REPLAY_CHUNK_BYTES};

/// How far a load has come.
#[derive(Clone, Copy, Debug)]
struct Load {
    next: Offset,
    until: Offset,
    /// The store could not read just now; the next try comes with time.
    is_waiting: bool,
}

/// The loads of one core.
#[derive(Debug, Default)]
pub struct Loads {
    open: BTreeMap<LogId, Load>,
    /// Logs whose end, as it was when they were to be loaded, is not known to be committed yet.
    awaiting: BTreeMap<LogId, Offset>,
}

impl Loads {
    /// Whether a log is being loaded.
    pub fn contains(&self, log: LogId) -> bool {
        self.open.contains_key(&log) || self.awaiting.contains_key(&log)
    }

    /// Gives a load up, because its log is gone.
    pub fn forget(&mut self, log: LogId) {
        self.open.remove(&log);
        self.awaiting.remove(&log);
    }
}

impl Shard {
    /// Starts to load a log this core leads: everything it holds, as soon as the new leader's
    /// first entry is committed and so nothing of its predecessors is undecided. Nor may anything be
    /// that was written before: what was given up as too slow becomes true later, and a machine that
    /// went on without it would be surprised by itself at the next load (seed 5027303).
    pub(super) fn begin_load(&mut self, log: LogId) {
        let Some(partition) = self.partitions.get(&log) else { return };
        self.loads.awaiting.insert(log, partition.offsets().end());
        self.look_at_load(log);
    }

    /// More of this log is committed: a load that waited for that may begin.
    pub(super) fn look_at_load(&mut self, log: LogId) {
        let Some(needed) = self.loads.awaiting.get(&log).copied() else { return };
        let Some(partition) = self.partitions.get(&log) else { return };
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let known = partition.list_offset(LeaderEpoch::UNKNOWN, latest).ok();
        let Some(end) = known.filter(|end| end.offset >= needed) else { return };
        self.loads.awaiting.remove(&log);
        let (next, until) = (partition.offsets().start(), end.offset);
        debug!(%log, %next, %until, "loading");
        self.loads.open.insert(log, Load { next, until, is_waiting: false });
        self.go_on_loading(log);
    }

    /// Reads on until the disk must be waited for or the end is reached.
    fn go_on_loading(&mut self, log: LogId) {
        while let Some(Load { next, until, is_waiting: false }) = self.loads.open.get(&log).copied()
        {
            if next >= until {
                self.loads.open.remove(&log);
                return self.loaded(log);
            }
            let token = self.reads.load_token(log);
            let request = ReadRequest {
                from: next,
                limit: until,
                max_bytes: REPLAY_CHUNK_BYTES,
                at_least_one: true,
                token,
            };
            match self.store.read(log, request) {
                ReadAnswer::Pending => return,
                ReadAnswer::Ready(batches) => {
                    self.reads.forget(token);
                    self.take_chunk(log, Ok(batches));
                }
                ReadAnswer::Failed(error) => {
                    self.reads.forget(token);
                    self.take_chunk(log, Err(error));
                }
            }
        }
    }

    /// The disk answered a step of a load.
    pub(super) fn take_load(&mut self, log: LogId, result: Result<Vec<Bytes>, ReadError>) {
        self.take_chunk(log, result);
        self.go_on_loading(log);
    }

    /// The time to try again has come.
    pub(super) fn retry_load(&mut self, log: LogId) {
        if let Some(load) = self.loads.open.get_mut(&log)
            && load.is_waiting
        {
            load.is_waiting = false;
            self.go_on_loading(log);
        }
    }

    fn take_chunk(&mut self, log: LogId, result: Result<Vec<Bytes>, ReadError>) {
        if let Err(why) = result {
            self.note_unreadable(why);
        }
        let Some(load) = self.loads.open.get_mut(&log) else { return };
        match result {
            Ok(batches) => {
                let last = batches.last().and_then(|batch| BatchHeader::parse(batch));
                load.next = last.map_or(load.until, |header| header.last_offset().after(1));
                self.replay(log, &batches);
            }
            // Nothing is known to be lost: skipping it would be, and giving up would leave what
            // this log holds unserved until the next start.
            Err(why @ ReadError::Unavailable { .. }) => {
                warn!(%log, from = %load.next, %why, "loading has to wait");
                load.is_waiting = true;
                let at = self.now.monotonic.after(LOAD_RETRY);
                self.timers.arm(Due::Load(log), Some(at));
            }
            Err(why) if log == LogId::METADATA && !self.accepts_damage => {
                let what = format!("the cluster's metadata log is damaged: {why}");
                let how = METADATA_REMEDY.to_owned();
                self.loads.open.remove(&log);
                self.effects.push(Effect::Halt(StorageError::NeedsOperator { what, how }));
            }
            // Without what is lost, groups would go back to where they were long ago: unless somebody
            // accepts that, they wait, as those of a held log do.
            Err(ReadError::Damaged { until, .. }) if self.accepts_damage && until > load.next => {
                error!(%log, from = %load.next, %until, "skipping damaged records while loading");
                load.next = until.min(load.until);
            }
            Err(why) => {
                error!(%log, %why, "cannot load: what this log holds is not served. {LOAD_REMEDY}");
                self.loads.open.remove(&log);
            }
        }
    }

    fn replay(&mut self, log: LogId, batches: &[Bytes]) {
        for batch in batches {
            if log == LogId::METADATA {
                self.replay_controller(batch);
            } else {
                self.replay_coordinator(log, batch);
            }
        }
    }

    fn loaded(&mut self, log: LogId) {
        if log == LogId::METADATA {
            self.controller_loaded();
        } else {
            self.coordinator_loaded(log);
        }
    }
}

/// What an operator does about a damaged log of committed offsets.
const LOAD_REMEDY: &str = "Restore the data folder from a copy, or start with `flumen serve \
    --accept-damage`: groups whose commits are lost then go on from earlier ones";

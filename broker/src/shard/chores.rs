//! The core's regular small work: settling, retention, free space, counters.
//!
//! Does: move durable records from the journal into segments when the store wants it; let old
//! segments go; have compacted logs cleaned; watch the reserve of free space; copy the counters for a
//! scrape.
//! Does not: hold a turn: each chore does a bounded piece and comes again.
//! Invariants: only committed entries are settled; producing is refused below the reserve and
//! resumes by itself above it.
//! Apart because none of it belongs to a request.

use flumen_protocol::ids::LogId;
use flumen_replication::outbox::Ticket;
use flumen_replication::partition::{Partition, UnsavedAborted};
use flumen_storage::answers::{AbortedRange, CleaningFacts, CleaningReport, LastOfProducer};
use tracing::{info, warn};

use super::effect::Effect;
use super::mailbox::{Answer, Sizes, Space};
use super::settings;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::{CHORE_INTERVAL, SPACE_HYSTERESIS_PERCENT};
use crate::telemetry::metrics::Snapshot;

impl Shard {
    /// Starts to settle what the store wants settled, as far as it is committed.
    pub(super) fn settle_logs(&mut self) {
        while let Some(log) = self.store.next_settle(self.now) {
            // Before the state that covers them (replication's decision 0008).
            self.note_aborted(log);
            let Some(partition) = self.partitions.get_mut(&log) else { return };
            let settled_end = self.store.settling_end(log, partition.applied_index());
            let snapshot = partition.snapshot(settled_end);
            let state = (snapshot.index, snapshot.bytes);
            if !self.store.begin_settle(log, partition.applied_index(), state) {
                return;
            }
        }
    }

    /// Once a second.
    pub(super) fn do_chores(&mut self) {
        self.timers.arm(Due::Chores, Some(self.now.monotonic.after(CHORE_INTERVAL)));
        self.effects.push(Effect::LookUpSpace);
        self.tell_of_the_clock();
        self.let_old_segments_go();
        self.early.expire(self.now.monotonic, settings::producer_expiry(&self.options));
        self.clean_logs();
        for (reason, count) in self.lines.take_left_out(self.now.monotonic) {
            let reason = reason.label();
            warn!(reason, count, "more clients were refused, without a line for each");
        }
    }

    fn tell_of_the_clock(&mut self) {
        let is_doubted = self.store.is_clock_doubted();
        match (is_doubted, self.metrics.clock_doubted > 0) {
            (true, false) => warn!(
                core = %self.identity.core,
                "the wall clock jumped by more than a day: nothing is deleted by age until it shows \
                 again what it should; if it is right as it is, start once with `flumen serve \
                 --confirm-clock`"
            ),
            (false, true) => {
                info!(core = %self.identity.core, "the wall clock is right again: what is old goes");
            }
            (true, true) | (false, false) => {}
        }
        self.metrics.clock_doubted = u64::from(is_doubted);
    }

    fn let_old_segments_go(&mut self) {
        let interval = self.options.log_retention_check_interval_ms;
        let now = self.now.wall.0;
        let early =
            now.abs_diff(self.retention_checked.0) < u64::try_from(interval).unwrap_or(u64::MAX);
        // On a full disk whatever may go, goes now: producers wait for it.
        if early && self.writable {
            return;
        }
        self.retention_checked = self.now.wall;
        let logs: Vec<LogId> = self.partitions.keys().copied().collect();
        for log in logs {
            let Some(partition) = self.partitions.get(&log) else { continue };
            let end = partition.offsets().high_watermark();
            // The partition hears of it when it is durable: a start that clients were told holds.
            if let Some(start) = self.store.retention(log, self.now, end) {
                info!(%log, %start, "old segments go");
            }
        }
    }

    /// Has the dirtiest compacted log cleaned, if any is dirty enough. Not while the disk is nearly full:
    /// a cleaning takes room before it gives any back.
    fn clean_logs(&mut self) {
        self.metrics.cleaner_dirty_bytes = self.store.dirty_bytes();
        if !self.writable || !self.options.log_cleaner_enable {
            return;
        }
        let config = settings::of_cleaner(&self.options, self.identity.cores);
        self.store.configure_cleaner(config);
        let Some(log) = self.store.next_clean(self.now) else { return };
        let Some(facts) = self.cleaning_facts(log) else { return };
        if self.store.begin_clean(log, &facts) {
            info!(%log, "cleaning");
        }
    }

    /// What a cleaning must know of a log and only its partition does. A transaction under way begins at or
    /// behind what is stable, and no cleaning comes there; whoever is in one is among the producers.
    fn cleaning_facts(&mut self, log: LogId) -> Option<CleaningFacts> {
        let partition = self.partitions.get(&log)?;
        let last = |(id, epoch, offset)| (id, LastOfProducer { epoch, data: offset });
        let producers = partition.last_of_producers().map(last).collect();
        let (start, stable) = (partition.offsets().start(), partition.offsets().stable());
        let aborted = partition.aborted(start, stable).map(|row| AbortedRange {
            producer: row.producer_id,
            first: row.first_offset,
            last: row.last_offset,
        });
        let aborted = aborted.collect();
        Some(CleaningFacts { stable, aborted, producers, seed: self.dice.draw() })
    }

    /// A cleaning ended.
    pub(super) fn take_cleaned(&mut self, log: LogId, report: &CleaningReport) {
        let CleaningReport { bytes_before, bytes_after, records_dropped, keys, .. } = *report;
        let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
        self.forget_emptied(log, report);
        info!(%log, bytes_before, bytes_after, records_dropped, keys, took_ms, "cleaned");
        for (from, until) in &report.left_out {
            warn!(
                %log, %from, %until,
                "not cleaned: something in this segment cannot be read, and nothing of it is thrown away"
            );
        }
        self.metrics.cleanings_total += 1;
        self.metrics.cleaner_read_bytes_total += report.bytes_read;
        self.metrics.cleaner_written_bytes_total += report.bytes_written;
        self.metrics.cleaner_freed_bytes_total += bytes_before.saturating_sub(bytes_after);
        self.metrics.cleaner_damaged_segments_total += report.left_out.len() as u64;
        self.metrics.cleaner_last_ms = took_ms;
    }

    /// Aborted transactions of which a cleaning has met nothing but their markers are forgotten, so that the
    /// markers may go, too. That is noted now: a start that knew of one whose marker is gone would have
    /// readers leave out what its producer wrote later.
    fn forget_emptied(&mut self, log: LogId, report: &CleaningReport) {
        let Some(partition) = self.partitions.get_mut(&log) else { return };
        if !report.emptied.is_empty() {
            partition.forget_aborted(report.emptied.iter().map(|range| range.last));
            self.note_aborted(log);
        }
    }

    /// Has the store note what it does not know yet of aborted transactions.
    fn note_aborted(&mut self, log: LogId) {
        let partition = self.partitions.get_mut(&log);
        let unsaved = partition.and_then(Partition::take_unsaved_aborted);
        if let Some(UnsavedAborted { since, rows }) = unsaved {
            self.store.note_aborted(log, since, rows);
        }
    }

    /// The store found the disk full before the reserve was seen to be touched.
    pub(super) fn refuse_for_space(&mut self) {
        if self.writable {
            warn!(
                "no room on the disk, or no file descriptor left: records are refused until there is"
            );
            self.writable = false;
        }
        self.disk_was_full = true;
    }

    /// The free space was looked up.
    pub(super) fn take_free_space(&mut self, free: u64, total: u64) {
        self.space = Some(Space { free, total });
        let reserve = self.options.disk_reserve_of(total);
        let mut enough = reserve + reserve / 100 * SPACE_HYSTERESIS_PERCENT;
        if self.disk_was_full {
            // Without a reserve any freed block would count as room. What ran out of it is a
            // journal file, or a settle, which is smaller.
            let file = self.options.journal_file_bytes;
            enough = enough.max(u64::try_from(file).unwrap_or(0));
        }
        if self.writable && free < reserve {
            warn!(
                free,
                reserve, "the disk is nearly full: records are refused until space is freed"
            );
            self.writable = false;
        } else if !self.writable && free > enough {
            info!(free, reserve, "there is space again: records are taken");
            self.writable = true;
            self.disk_was_full = false;
        }
    }

    /// How large the partitions of this core are.
    pub(super) fn give_sizes(&mut self, ticket: Ticket) {
        let sized = |log: &LogId| Some((*log, self.store.log_bytes(*log)?));
        let logs = self.partitions.keys().filter_map(sized).collect();
        let sizes = Sizes { logs, space: self.space };
        self.answer(ticket, Answer::Sizes(Box::new(sizes)));
    }

    /// The counters of this core as they are now.
    pub(super) fn snapshot_metrics(&mut self) -> Snapshot {
        self.metrics.requests_pending = self.pending.count() as u64;
        self.metrics.partitions = self.partitions.len() as u64;
        let held = self.partitions.values().filter(|partition| partition.is_held());
        self.metrics.partitions_held = held.count() as u64;
        self.count_transactions();
        self.metrics.memory_used_bytes = self.memory_used() as u64;
        let (sessions, partitions, evictions) = self.sessions.counts();
        self.metrics.fetch_sessions = sessions as u64;
        self.metrics.fetch_session_partitions = partitions as u64;
        self.metrics.fetch_session_evictions_total = evictions;
        (self.metrics.quota_accounts, self.metrics.throttled_total) = self.quotas.counts();
        self.metrics.fetch_follows = self.follows.count() as u64;
        self.metrics.journal_window_bytes = self.store.journal().used_bytes();
        self.metrics.memory_budget_bytes = self.memory.budget() as u64;
        Snapshot { core: usize::from(self.identity.core.0), metrics: self.metrics.clone() }
    }

    fn memory_used(&self) -> usize {
        let requests = self.memory.used() + self.memory.answers();
        requests + self.sessions.bytes() + self.store.memory_bytes()
    }

    /// Counts appended records for their topic.
    pub(super) fn count_appended(&mut self, log: LogId, bytes: usize, records: u64) {
        if let Some(topic) = self.image.topic(log.topic) {
            let traffic = self.metrics.topic(&topic.name);
            traffic.in_bytes += bytes as u64;
            traffic.in_records += records;
            traffic.in_batches += 1;
        }
    }

    /// Counts records sent for their topic.
    pub(super) fn count_sent(&mut self, log: LogId, bytes: usize) {
        if bytes > 0
            && let Some(topic) = self.image.topic(log.topic)
        {
            self.metrics.topic(&topic.name).out_bytes += bytes as u64;
        }
    }
}

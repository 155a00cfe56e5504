//! The admin page: counters of all cores on one page, and whether the node is well.
//!
//! Does: answer `/metrics` and `/health`; ask every core for its counters and put them together.
//! Does not: speak HTTP; `telemetry/admin.rs` does.
//! Invariants: a scrape waits for every core; lag is computed from ends and commits that were
//! copied within one round of questions.
//! Apart because a scrape is the only question that concerns all cores and no client.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::api_table;
use flumen_protocol::ids::{LogId, Offset, PartitionIndex};
use flumen_replication::outbox::Ticket;

use super::effect::Effect;
use super::input::ConnectionId;
use super::mailbox::{Answer, Committed, CoreMessage, Counters, Question, Target};
use super::metadata::Standing;
use super::partitions::ADMIN;
use super::shard::Shard;
use crate::telemetry::admin::{self, Health, Page, Reading};
use crate::telemetry::exposition;
use crate::telemetry::metrics::LagRow;

/// A scrape that waits for other cores.
#[derive(Debug)]
struct Scrape {
    connection: ConnectionId,
    slot: u64,
    missing: u16,
    counters: Vec<Counters>,
}

/// The open scrapes of one core.
#[derive(Debug, Default)]
pub struct Scrapes {
    next: u64,
    open: BTreeMap<u64, Scrape>,
}

impl Shard {
    /// Answers a request on the admin listener.
    pub(super) fn open_admin(&mut self, connection: ConnectionId, slot: u64, head: &[u8]) {
        match admin::read_request(head) {
            Reading::Incomplete => unreachable!("connections wait for the whole head"),
            Reading::Wrong(mistake) => {
                self.close_admin(connection, slot, admin::mistake_response(mistake));
            }
            Reading::Wanted(Page::Health) => {
                let response = admin::health_response(&self.health());
                self.close_admin(connection, slot, response);
            }
            Reading::Wanted(Page::Metrics) => self.scrape(connection, slot),
        }
    }

    fn close_admin(&mut self, connection: ConnectionId, slot: u64, response: Bytes) {
        self.memory.recount_answer(0, response.len());
        self.effects.push(Effect::Respond { connection, slot, answer: vec![response] });
        self.effects.push(Effect::Close { connection });
    }

    fn health(&self) -> Health {
        match (&self.standing, self.writable) {
            (Standing::Serving, true) => Health::Ready,
            (Standing::Serving, false) => {
                Health::Degraded("the disk is nearly full: records are refused".to_owned())
            }
            (Standing::Opening { .. }, _) => Health::Starting,
            (Standing::Draining { .. } | Standing::Settling | Standing::Stopped, _) => {
                Health::Stopping
            }
        }
    }

    fn scrape(&mut self, connection: ConnectionId, slot: u64) {
        let number = self.scrapes.next;
        self.scrapes.next += 1;
        let missing = self.identity.cores;
        let scrape = Scrape { connection, slot, missing, counters: Vec::new() };
        self.scrapes.open.insert(number, scrape);
        let ticket = self.internal(ADMIN, number);
        self.broadcast(|| CoreMessage::Ask(vec![(ticket, Target::Core, Question::Metrics)]));
        self.take_question(ticket, Target::Core, Question::Metrics);
    }

    /// Copies this core's counters for whoever scrapes.
    pub(super) fn give_counters(&mut self, ticket: Ticket) {
        let committed = self.coordinators.rooms().flat_map(|room| room.committed());
        let committed = committed
            .map(|row| Committed {
                group: row.group.to_owned(),
                topic: row.topic.to_owned(),
                partition: PartitionIndex(row.partition),
                offset: row.offset,
            })
            .collect();
        let ends = self.partitions.iter();
        let ends = ends.map(|(log, it)| (*log, it.offsets().high_watermark())).collect();
        let counters = Counters { snapshot: self.snapshot_metrics(), committed, ends };
        self.answer(ticket, Answer::Metrics(Box::new(counters)));
    }

    /// One core's counters have come.
    pub(super) fn take_counters(&mut self, number: u64, counters: Counters) {
        let Some(scrape) = self.scrapes.open.get_mut(&number) else { return };
        scrape.counters.push(counters);
        scrape.missing -= 1;
        if scrape.missing > 0 {
            return;
        }
        let Some(scrape) = self.scrapes.open.remove(&number) else { return };
        let page = self.page(scrape.counters);
        self.close_admin(scrape.connection, scrape.slot, admin::metrics_response(&page));
    }

    fn page(&self, counters: Vec<Counters>) -> String {
        let mut ends: BTreeMap<LogId, Offset> = BTreeMap::new();
        let mut committed = Vec::new();
        let mut snapshots = Vec::new();
        for mut core in counters {
            ends.append(&mut core.ends);
            committed.append(&mut core.committed);
            snapshots.push(core.snapshot);
        }
        let lags = committed.into_iter().filter_map(|row| {
            let log = self.image.topic_named(&row.topic)?.log(row.partition)?;
            let behind = ends.get(&log)?.0.saturating_sub(row.offset.0);
            Some(LagRow {
                group: row.group,
                topic: row.topic,
                partition: row.partition.0,
                records: u64::try_from(behind).unwrap_or(0),
            })
        });
        if let Some(first) = snapshots.first_mut() {
            first.lags = lags.collect();
        }
        exposition::encode(&snapshots, |key| api_table::row(key).map(|row| row.name))
    }
}

//! The admin page: counters of all cores on one page, and whether the node is well.
//!
//! Does: answer `/metrics` and `/health`; ask every core for its counters and put them together.
//! Does not: speak HTTP; `telemetry/admin.rs` does.
//! Invariants: a scrape waits for every core; of each page of commits the ends are read after the
//! commits, so that no lag is negative but where records were deleted under a group; between two steps
//! of a scrape a core does other work.
//! Apart because a scrape is the only question that concerns all cores and no client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use flumen_protocol::api_table;
use flumen_protocol::ids::{CoreId, LogId};
use flumen_protocol::time::Wall;
use flumen_replication::outbox::Ticket;

use super::effect::Effect;
use super::input::ConnectionId;
use super::mailbox::{
    Answer, CommitCursor, CommitsPage, Committed, CoreMessage, LagFound, Question, Target,
};
use super::metadata::Standing;
use super::partitions::ADMIN;
use super::routing;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::LAG_STEP_PAUSE;
use crate::telemetry::admin::{self, Health, Page, Reading};
use crate::telemetry::exposition;
use crate::telemetry::lag::LagPage;
use crate::telemetry::metrics::{LagRow, Snapshot};

/// A scrape on its way: first the counters of all cores, then core by core what its groups committed,
/// page by page, and for each page where the partitions end.
///
/// ```text
///  Counters ──last core──► Commits(core 0) ──page──► Lags ──all found──► Commits(next page or core) … ──► answered
/// ```
#[derive(Debug)]
struct Scrape {
    connection: ConnectionId,
    slot: u64,
    missing: u16,
    snapshots: Vec<Snapshot>,
    /// Whose groups are looked at.
    core: CoreId,
    cursor: Option<CommitCursor>,
    rows: Vec<(Committed, Option<LagFound>)>,
    /// What is still to be asked for the rows: their places, by the core that knows.
    wanted: BTreeMap<CoreId, VecDeque<(usize, LogId)>>,
    /// Cores that were asked and have not answered.
    asked: BTreeSet<CoreId>,
    page: LagPage,
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
                self.close_admin(connection, slot, vec![admin::mistake_response(mistake)]);
            }
            Reading::Wanted(Page::Health) => {
                let response = admin::health_response(&self.health());
                self.close_admin(connection, slot, vec![response]);
            }
            Reading::Wanted(Page::Metrics) => self.scrape(connection, slot),
        }
    }

    fn close_admin(&mut self, connection: ConnectionId, slot: u64, answer: Vec<Bytes>) {
        let bytes = answer.iter().map(Bytes::len).sum();
        self.memory.recount_answer(0, bytes);
        self.effects.push(Effect::Respond { connection, slot, answer });
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
        let scrape = Scrape {
            connection,
            slot,
            missing: self.identity.cores,
            snapshots: Vec::new(),
            core: CoreId(0),
            cursor: None,
            rows: Vec::new(),
            wanted: BTreeMap::new(),
            asked: BTreeSet::new(),
            page: LagPage::new(self.options.lag_partitions),
        };
        self.scrapes.open.insert(number, scrape);
        let ticket = self.internal(ADMIN, number);
        self.broadcast(|| CoreMessage::Ask(vec![(ticket, Target::Core, Question::Metrics)]));
        self.take_question(ticket, Target::Core, Question::Metrics);
    }

    /// Copies this core's counters for whoever scrapes.
    pub(super) fn give_counters(&mut self, ticket: Ticket) {
        let snapshot = self.snapshot_metrics();
        self.answer(ticket, Answer::Metrics(Box::new(snapshot)));
    }

    /// One core's counters have come.
    pub(super) fn take_counters(&mut self, number: u64, snapshot: Snapshot) {
        let Some(scrape) = self.scrapes.open.get_mut(&number) else { return };
        scrape.snapshots.push(snapshot);
        scrape.missing -= 1;
        if scrape.missing == 0 {
            self.rest_from_scraping(number);
        }
    }

    /// The next step belongs to another turn.
    fn rest_from_scraping(&mut self, number: u64) {
        self.timers.arm(Due::Scrape(number), Some(self.now.monotonic.after(LAG_STEP_PAUSE)));
    }

    /// Does the next step of a scrape: asks on for the page at hand, or for the next one, or answers.
    pub(super) fn go_on_scraping(&mut self, number: u64) {
        let may_ask = match self.standing {
            Standing::Opening { .. } | Standing::Serving => true,
            // Other cores may have ended.
            Standing::Draining { .. } | Standing::Settling | Standing::Stopped => false,
        };
        if !may_ask {
            return self.finish_scrape(number);
        }
        let Some(scrape) = self.scrapes.open.get_mut(&number) else { return };
        let questions: Vec<(CoreId, Question)> = if !scrape.wanted.is_empty() {
            scrape.ask_for_lags()
        } else if scrape.core.0 < self.identity.cores {
            let cursor = scrape.cursor.take().map(Box::new);
            vec![(scrape.core, Question::Commits(cursor))]
        } else {
            return self.finish_scrape(number);
        };
        let ticket = self.internal(ADMIN, number);
        for (core, question) in questions {
            if core == self.identity.core {
                self.take_question(ticket, Target::Core, question);
            } else {
                self.send(core, CoreMessage::Ask(vec![(ticket, Target::Core, question)]));
            }
        }
    }

    /// A page of what groups committed has come.
    pub(super) fn take_commits(&mut self, number: u64, page: CommitsPage) {
        let Some(scrape) = self.scrapes.open.get_mut(&number) else { return };
        assert!(scrape.rows.is_empty(), "one page after the other");
        if page.next.is_none() {
            scrape.core = CoreId(scrape.core.0 + 1);
        }
        scrape.cursor = page.next;
        for row in page.rows {
            // Of a topic that is being deleted there is nothing to say.
            let topic = self.image.topic_named(&row.topic);
            let Some(log) = topic.and_then(|topic| topic.log(row.partition)) else { continue };
            let core = routing::core_of(log, self.identity.cores);
            scrape.wanted.entry(core).or_default().push_back((scrape.rows.len(), log));
            scrape.rows.push((row, None));
        }
        self.rest_from_scraping(number);
    }

    /// A core said how its partitions stand.
    pub(super) fn take_lags(&mut self, number: u64, core: CoreId, found: Vec<LagFound>) {
        let Some(scrape) = self.scrapes.open.get_mut(&number) else { return };
        scrape.take_lags(core, found);
        if scrape.asked.is_empty() {
            if scrape.wanted.is_empty() {
                scrape.write_page(self.now.wall);
            }
            self.rest_from_scraping(number);
        }
    }

    fn finish_scrape(&mut self, number: u64) {
        let Some(scrape) = self.scrapes.open.remove(&number) else { return };
        let named = |key| api_table::row(key).map(|row| row.name);
        let mut pieces = vec![exposition::encode_open(&scrape.snapshots, named)];
        pieces.extend(scrape.page.finish());
        pieces.push(exposition::END.to_owned());
        let response = admin::metrics_response(pieces);
        self.close_admin(scrape.connection, scrape.slot, response);
    }
}

impl Scrape {
    /// One question to each core that still knows something.
    fn ask_for_lags(&mut self) -> Vec<(CoreId, Question)> {
        assert!(self.asked.is_empty(), "a core is asked when it has answered");
        self.asked = self.wanted.keys().copied().collect();
        let rows = &self.rows;
        let of_core = |(core, wanted): (&CoreId, &VecDeque<(usize, LogId)>)| {
            let places = wanted.iter().map(|(place, log)| (*log, rows[*place].0.offset));
            (*core, Question::Lags(places.collect()))
        };
        self.wanted.iter().map(of_core).collect()
    }

    fn take_lags(&mut self, core: CoreId, found: Vec<LagFound>) {
        let was_asked = self.asked.remove(&core);
        assert!(was_asked && !found.is_empty(), "an answer brings a scrape forward");
        let Some(wanted) = self.wanted.get_mut(&core) else { return };
        for one in found {
            if let Some((place, _)) = wanted.pop_front() {
                self.rows[place].1 = Some(one);
            }
        }
        if wanted.is_empty() {
            self.wanted.remove(&core);
        }
    }

    fn write_page(&mut self, now: Wall) {
        for (row, found) in self.rows.drain(..) {
            let Some((end, found)) = found.and_then(|found| Some((found.end?, found))) else {
                continue;
            };
            let behind = end.0.saturating_sub(row.offset.0);
            let seconds = match found.written {
                _ if behind <= 0 => Some(0.0),
                written => written.map(|then| now.0.saturating_sub(then).max(0) as f64 / 1000.0),
            };
            self.page.add(&LagRow {
                group: row.group,
                topic: row.topic,
                partition: row.partition.0,
                offset: row.offset.0,
                records: u64::try_from(behind).unwrap_or(0),
                seconds,
            });
        }
    }
}

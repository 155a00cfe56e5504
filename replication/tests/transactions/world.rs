//! A coordinator of transactions with its log, its clock and its clients.

use std::time::Duration;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};
use flumen_replication::coordinator::Ticket;
use flumen_replication::coordinator::runtime::{
    AppendFailure, Coordinator, CoordinatorEffect, EffectOf,
};
use flumen_replication::coordinator::transaction::requests::{
    ClientVersion, Outcome, Owed, Partitions, Producer, TransactionFilter, TransactionRequest,
    TransactionResponse, TransactionRow,
};
use flumen_replication::coordinator::transaction::{TransactionConfig, TransactionCoordinator};
use flumen_replication::dice::Dice;

pub type Effect = EffectOf<TransactionCoordinator>;

/// The first producer id that is given out.
pub const FIRST_ID: i64 = 1000;

pub struct World {
    pub coordinator: Coordinator<TransactionCoordinator>,
    config: TransactionConfig,
    pub now_ms: u64,
    pub wall: WallTrust,
    /// What was committed, batch after batch.
    log: Vec<u8>,
    next_offset: i64,
    in_flight: Vec<(u64, Vec<u8>)>,
    /// Whether batches stay in flight until [`World::release`].
    pub is_holding: bool,
    /// Answers, by ticket.
    pub answers: Vec<(u64, TransactionResponse)>,
    /// Markers that were announced and not written.
    pub owed: Vec<Owed>,
    asked: u64,
    next_id: i64,
}

impl World {
    pub fn new() -> Self {
        Self::with(TransactionConfig::default())
    }

    pub fn with(config: TransactionConfig) -> Self {
        let mut world = Self {
            coordinator: Coordinator::new(config.clone()),
            config,
            now_ms: 0,
            wall: WallTrust::Trusted,
            log: Vec::new(),
            next_offset: 0,
            in_flight: Vec::new(),
            is_holding: false,
            answers: Vec::new(),
            owed: Vec::new(),
            asked: 0,
            next_id: FIRST_ID,
        };
        world.load();
        world
    }

    pub fn now(&self) -> Now {
        let wall = Wall(1_000_000 + self.now_ms as i64);
        Now { monotonic: Monotonic(self.now_ms * 1_000_000), wall }
    }

    /// Loads what is committed, and ends the turn.
    pub fn load(&mut self) {
        self.coordinator.begin_load();
        self.coordinator.replay_batch(&self.log).expect("its own log can be read");
        let (now, mut out) = (self.now(), Vec::new());
        self.coordinator.finish_load(now, &mut out);
        self.coordinator.settle(now, &mut out);
        self.carry_out(out);
    }

    /// Another coordinator takes over.
    pub fn reload(&mut self) {
        let mut out = Vec::new();
        self.in_flight.clear();
        self.owed.clear();
        self.coordinator.resign(&mut out);
        self.carry_out(out);
        self.load();
    }

    /// Asks, and ends the turn; gives the ticket's number out.
    pub fn ask(&mut self, request: TransactionRequest) -> u64 {
        let ticket = Ticket { core: CoreId(0), request: self.asked, part: 0 };
        self.asked += 1;
        let (now, mut out) = (self.now(), Vec::new());
        self.coordinator.handle(now, &mut Dice::new(1), ticket, request, &mut out);
        self.coordinator.settle(now, &mut out);
        self.carry_out(out);
        ticket.request
    }

    /// The answer to a ticket, which must be there.
    pub fn answer(&mut self, ticket: u64) -> TransactionResponse {
        let place = self.answers.iter().position(|(known, _)| *known == ticket);
        self.answers.remove(place.expect("it was answered")).1
    }

    pub fn is_answered(&self, ticket: u64) -> bool {
        self.answers.iter().any(|(known, _)| *known == ticket)
    }

    /// Asks and takes the answer, with a fresh producer id if one is wanted.
    pub fn tell(&mut self, request: TransactionRequest) -> TransactionResponse {
        let ticket = self.ask(request.clone());
        match self.answer(ticket) {
            TransactionResponse::WantsProducerId => {
                let request = request.with_fresh(ProducerId(self.next_id));
                self.next_id += 1;
                let ticket = self.ask(request);
                self.answer(ticket)
            }
            response => response,
        }
    }

    pub fn init(&mut self, id: &str) -> Result<Producer, ErrorCode> {
        self.init_as(id, None)
    }

    pub fn init_as(&mut self, id: &str, asked: Option<Producer>) -> Result<Producer, ErrorCode> {
        let id = id.to_owned();
        let request = TransactionRequest::Init { id, timeout_ms: 60_000, asked, fresh: None };
        match self.tell(request) {
            TransactionResponse::Init(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn add(&mut self, id: &str, producer: Producer, version: ClientVersion) -> ErrorCode {
        match self.tell(add(id, producer, &[("t", 0), ("t", 1)], version)) {
            TransactionResponse::Add(error) => error,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(
        &mut self,
        id: &str,
        producer: Producer,
        outcome: Outcome,
        version: ClientVersion,
    ) -> Result<Producer, ErrorCode> {
        let id = id.to_owned();
        let request = TransactionRequest::End { id, producer, outcome, version, fresh: None };
        match self.tell(request) {
            TransactionResponse::End(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// All markers that are owed are written, and reported.
    pub fn write_markers(&mut self) -> Vec<Owed> {
        let owed = std::mem::take(&mut self.owed);
        for Owed { id, ending, .. } in &owed {
            let report =
                TransactionRequest::MarkersWritten { id: id.clone(), producer: ending.producer };
            let answer = self.tell(report);
            assert_eq!(answer, TransactionResponse::MarkersWritten(ErrorCode::None));
        }
        owed
    }

    pub fn describe(&mut self, id: &str) -> Result<TransactionRow, ErrorCode> {
        match self.tell(TransactionRequest::Describe { id: id.to_owned() }) {
            TransactionResponse::Describe(row) => row.map(|row| *row),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self, id: &str) -> &'static str {
        self.describe(id).map_or("-", |row| row.state.name())
    }

    pub fn list(&mut self, wanted: TransactionFilter) -> Vec<String> {
        match self.tell(TransactionRequest::List { wanted }) {
            TransactionResponse::List(Ok(rows)) => rows.into_iter().map(|row| row.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, alarm by alarm.
    pub fn wait(&mut self, time: Duration) {
        let end_ms = self.now_ms + u64::try_from(time.as_millis()).expect("it ends");
        for _ in 0..10_000 {
            let Some(next) = self.coordinator.next_deadline() else { break };
            let next_ms = next.0.div_ceil(1_000_000);
            if next_ms > end_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            let (now, mut out) = (self.now(), Vec::new());
            self.coordinator.on_time(now, self.wall, &mut out);
            self.coordinator.settle(now, &mut out);
            self.carry_out(out);
        }
        self.now_ms = end_ms;
    }

    /// What is in flight is committed.
    pub fn release(&mut self) {
        self.is_holding = false;
        self.commit();
    }

    /// What is in flight is lost.
    pub fn fail(&mut self) {
        self.is_holding = false;
        let mut out = Vec::new();
        for (id, _) in std::mem::take(&mut self.in_flight) {
            self.coordinator.appended(id, Err(AppendFailure::NotLeader), &mut out);
        }
        self.carry_out(out);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                CoordinatorEffect::Reply { ticket, response } => {
                    self.answers.push((ticket.request, response));
                }
                CoordinatorEffect::Append { batch, id } => {
                    self.in_flight.push((id, batch.to_vec()));
                }
                CoordinatorEffect::Announce(owed) => self.owed.push(owed),
            }
        }
        if !self.is_holding {
            self.commit();
        }
    }

    fn commit(&mut self) {
        for (id, mut batch) in std::mem::take(&mut self.in_flight) {
            let header = BatchHeader::parse(&batch).expect("a batch");
            stamp(&mut batch, Offset(self.next_offset), LeaderEpoch(1));
            self.next_offset += i64::from(header.record_count);
            self.log.extend_from_slice(&batch);
            let mut out = Vec::new();
            self.coordinator.appended(id, Ok(()), &mut out);
            self.carry_out(out);
        }
    }

    /// A marker is committed in the coordinator's own log, as no broker writes it there.
    pub fn append_marker(&mut self, producer: Producer) {
        let marker = EndMarker { commit: true, coordinator_epoch: 0 };
        let mut batch = marker.batch(producer.id, producer.epoch, self.now().wall);
        stamp(&mut batch, Offset(self.next_offset), LeaderEpoch(1));
        self.next_offset += 1;
        self.log.extend_from_slice(&batch);
    }

    /// A second coordinator, loaded from what is committed.
    pub fn loaded(&self) -> Self {
        let mut other = Self::with(self.config.clone());
        other.now_ms = self.now_ms;
        other.log = self.log.clone();
        other.next_offset = self.next_offset;
        other.reload();
        other
    }
}

pub fn add(
    id: &str,
    producer: Producer,
    partitions: &[(&str, i32)],
    version: ClientVersion,
) -> TransactionRequest {
    let partitions = Partitions::of(partitions.iter().copied());
    TransactionRequest::Add { id: id.to_owned(), producer, partitions, version }
}

pub fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}
